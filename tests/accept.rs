//! Sessions that the server accepts or rejects, knowing how the client described itself.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use smoq::machine::trace::{Replay, Sink, Step};
use smoq::machine::{Command, Event};
use smoq::sim::{Link, Pair, Wakes};
use smoq::{
    AuthToken, Client, CloseReason, Driver, Error, Hop, IncomingSession, Instant, Origin,
    OriginConsumer, OriginProducer, Path, Role, Server, Session, Version,
};

/// The fields that a client of a version can send in its SETUP.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Declared {
    Nothing,
    Url,
    All,
}

fn declared(version: Version) -> Declared {
    match version {
        Version::Lite01 | Version::Lite02 | Version::Lite03 | Version::Lite04 => Declared::Nothing,
        version if version >= Version::Moqt14 => Declared::Url,
        _ => Declared::All,
    }
}

struct World {
    pair: Pair<Driver, Driver>,
    client: Session,
    /// `None` once it was decided.
    request: Option<IncomingSession>,
}

impl World {
    fn new(version: Version, link: Link, client: &Client, server: &Server) -> Self {
        let (session, client) = client.connect(version, Instant::ZERO);
        let (request, server) = server.incoming(version, Instant::ZERO);
        Self { pair: Pair::new(client, server, link), client: session, request: Some(request) }
    }

    /// The request, as soon as it can be decided.
    fn ready(&mut self) -> IncomingSession {
        let mut request = self.request.take().expect("the request was decided already");
        self.settle();
        assert_eq!(request.try_ready(), Poll::Ready(Ok(())));
        request
    }

    fn settle(&mut self) {
        self.pair.advance(Duration::from_millis(800));
    }
}

fn on_every_version(test: impl Fn(Version, Link)) {
    for version in Version::ALL.into_iter().chain(Version::WIP) {
        for link in [Link::perfect(), Link::wide(1), Link::hostile(2)] {
            println!("{version} {link:?}");
            test(version, link);
        }
    }
}

fn names(origin: &OriginProducer) -> Vec<String> {
    let mut announced = origin.consume();
    let next = |announced: &mut OriginConsumer| match announced.try_announced() {
        Poll::Ready(Some(announce)) => Some(announce.path.to_string()),
        _ => None,
    };
    std::iter::from_fn(|| next(&mut announced)).collect()
}

/// The server knows what the client declared, and hands it a part of its origin.
#[test]
fn a_client_sees_only_the_part_of_the_origin_it_was_granted() {
    on_every_version(|version, link| {
        let [mine, theirs] = [1, 2].map(|hop| Origin::new(Hop::new(hop)).produce());
        let kept: Vec<_> = ["room/a/alice", "room/b/bob", "lobby", "room/a"]
            .into_iter()
            .map(|path| mine.create_broadcast(path).unwrap())
            .collect();
        let client = Client::new()
            .with_path("room/a?token=7")
            .with_authority("relay.example:443")
            .with_cost(3)
            .with_token(AuthToken::new(1, "a token"))
            .with_origin(&theirs);
        let carol = theirs.create_broadcast("up/carol").unwrap();
        let dave = theirs.create_broadcast("dave").unwrap();
        let mut world = World::new(version, link, &client, &Server::new());
        let request = world.ready();
        assert_eq!(names(&theirs).len(), 2, "nothing is announced before the decision");

        let declares = declared(version);
        let url = if declares == Declared::Nothing { ("", "") } else { ("room/a", "token=7") };
        assert_eq!((request.path(), request.query()), (Path::new(url.0), url.1));
        let authority = if declares == Declared::Url { "relay.example:443" } else { "" };
        assert_eq!(request.authority(), authority);
        // Every version that sends the authority has tokens.
        let tokens = vec![AuthToken::new(1, "a token"); usize::from(declares == Declared::Url)];
        assert_eq!(request.tokens(), tokens);
        assert_eq!(request.version(), version);
        assert_eq!(request.role(), Role::Both);
        let (hop, cost) = if declares == Declared::All { (2, Some(3)) } else { (0, None) };
        assert_eq!((request.hop(), request.cost()), (Hop::new(hop), cost));

        let part = mine.with_root("room/a").unwrap();
        let session =
            request.with_publish(part.consume()).with_consume(part.scope(["up"]).unwrap()).accept();
        assert_eq!(session.version(), version);
        world.settle();
        // The client sees its own broadcast and everything below its root.
        let mut seen = names(&theirs);
        seen.retain(|name| !["up/carol", "dave"].contains(&&**name));
        seen.sort();
        // On 16 a broadcast at the root can't be requested, so it is not announced.
        let root = (!(Version::Moqt14..=Version::Moqt16).contains(&version)).then_some("");
        assert!(seen.iter().eq(root.iter().chain(&["alice"])), "{version}: {seen:?}");
        let mut seen = names(&mine);
        seen.sort();
        assert_eq!(seen, ["lobby", "room/a", "room/a/alice", "room/a/up/carol", "room/b/bob"]);
        assert_eq!(session.gauges().announced, 1);

        // It is an ordinary session.
        drop((carol, dave, kept));
        world.settle();
        assert!(names(&mine).is_empty() && names(&theirs).is_empty());
        session.drain();
        world.settle();
        assert_eq!(world.client.try_closed(), Poll::Ready(CloseReason::Clean));
    });
}

/// A request that is accepted without origins gets the origins of the server.
#[test]
fn a_request_accepted_without_origins_gets_those_of_the_server() {
    let [mine, theirs] = [1, 2].map(|hop| Origin::new(Hop::new(hop)).produce());
    let _kept = mine.create_broadcast("live").unwrap();
    let client = Client::new().with_consume(theirs.clone());
    let server = Server::new().with_origin(&mine);
    let mut world = World::new(Version::Lite06, Link::perfect(), &client, &server);
    let request = world.ready();
    assert_eq!((request.role(), request.hop()), (Role::Subscriber, Hop::new(2)));
    assert!(request.role().subscribes() && !request.role().publishes());
    let _session = request.accept();
    world.settle();
    assert_eq!(names(&theirs), ["live"]);
}

#[test]
fn a_refused_client_gets_the_reason() {
    on_every_version(|version, link| {
        let origin = Origin::default().produce();
        let client = Client::new().with_publish(origin.consume());
        let is_moqt = smoq::coding::ietf::Draft::of(version).is_some();
        for (error, received) in [
            (Some(Error::Unauthorized), Error::Unauthorized),
            (Some(Error::App(404)), Error::App(404)),
            (Some(Error::Cancelled), Error::SessionClosed),
            // D22-9-1-2-MUST-313: INVALID_PATH. moq-lite has no code for it.
            (Some(Error::Unroutable), if is_moqt { Error::Unroutable } else { Error::Internal }),
            // D22-9-1-1-MUST-306: INVALID_AUTHORITY, likewise.
            (
                Some(Error::UnknownAuthority),
                if is_moqt { Error::UnknownAuthority } else { Error::Internal },
            ),
            // A request that is dropped without a decision is refused.
            (None, Error::Unauthorized),
        ] {
            let mut world = World::new(version, link.clone(), &client, &Server::new());
            let request = world.ready();
            let is_publisher = request.role() == Role::Publisher;
            assert_eq!(is_publisher, declared(version) == Declared::All, "{version}");
            match error {
                Some(error) => request.reject(error),
                None => drop(request),
            }
            world.settle();
            assert_eq!(world.client.try_closed(), Poll::Ready(received.into()), "{version}");
            assert!(world.pair.server.close_reason().is_some());
        }
    });
}

/// D22-9-1-1-MUST-305, D22-9-1-2-MUST-312: the client's request has both. moq-lite has no such rule.
#[test]
fn a_client_on_webtransport_sends_no_path() {
    on_every_version(|version, link| {
        let server = Server::new().with_web_transport(true);
        for (client, error) in [
            (Client::new().with_path("room"), Error::Unroutable),
            (Client::new().with_authority("relay.example"), Error::UnknownAuthority),
        ] {
            let mut world = World::new(version, link.clone(), &client, &server);
            world.settle();
            let is_fault = version >= Version::Moqt14;
            let told = if is_fault { Poll::Ready(error.into()) } else { Poll::Pending };
            assert_eq!(world.client.try_closed(), told, "{version}");
        }
    });
}

#[test]
fn a_missing_decision_times_out() {
    on_every_version(|version, link| {
        let mut world = World::new(version, link, &Client::new(), &Server::new());
        let mut request = world.ready();
        world.pair.advance(Duration::from_secs(10));
        assert_eq!(request.try_ready(), Poll::Ready(Err(Error::Timeout)), "{version}");
        assert_eq!(
            world.client.try_closed(),
            Poll::Ready(CloseReason::Error(Error::Timeout)),
            "{version}"
        );
        // A late decision gets the error of the session.
        let origin = Origin::default().produce();
        let mut session = request.with_origin(&origin).accept();
        world.settle();
        assert_eq!(session.try_closed(), Poll::Ready(CloseReason::Error(Error::Timeout)));
    });
}

/// A waiting server is woken by the SETUP and by the end of the connection.
#[test]
fn the_wait_for_a_request_ends_when_the_client_leaves() {
    on_every_version(|version, link| {
        for leaves in [false, true] {
            let (_session, client) = Client::new().connect(version, Instant::ZERO);
            let (mut request, server) = Server::new().incoming(version, Instant::ZERO);
            let wakes = Wakes::new();
            let mut cx = wakes.context();
            let at_once = matches!(version, Version::Lite03 | Version::Lite04);
            assert_eq!(request.poll_ready(&mut cx).is_ready(), at_once, "{version}");
            let mut pair = Pair::new(client, server, link.clone());
            if leaves {
                pair.disconnect();
            }
            pair.advance(Duration::from_millis(800));
            assert_eq!(wakes.count(), usize::from(!at_once), "{version}");
            let end = if leaves { Err(Error::Disconnected) } else { Ok(()) };
            assert_eq!(request.poll_ready(&mut cx), Poll::Ready(end), "{version}");
        }
    });
}

/// Decisions are in the trace and replay.
#[test]
fn decisions_are_recorded_and_replayed() {
    on_every_version(|version, link| {
        let records = Arc::new(std::sync::Mutex::new(Vec::new()));
        let kept = records.clone();
        let origin = Origin::new(Hop::new(5)).produce();
        let server = Server::new().with_origin(&origin).with_trace(move || {
            let kept = kept.clone();
            let sink: Box<dyn Sink> = Box::new(move |record: &[u8]| {
                kept.lock().unwrap().extend_from_slice(record);
                Ok(())
            });
            Some(sink)
        });
        let mut world = World::new(version, link, &Client::new().with_path("room"), &server);
        let _session = world.ready().accept();
        world.settle();
        drop(world.pair);
        let trace = records.lock().unwrap().clone();
        let steps = Replay::new(&trace).unwrap();
        assert!(steps.config().requires_accept);
        let steps: Vec<_> = steps.collect::<Result<_, _>>().unwrap();
        let announced = steps.iter().position(|it| matches!(it, Step::Event(Event::SetUp { .. })));
        let taken = steps.iter().position(
            |it| matches!(it, Step::Command(Command::Accept { hop, .. }) if *hop == Hop::new(5)),
        );
        assert!(announced.is_some() && announced < taken, "{version}");
    });
}
