//! The application decides on single requests of a client, by the same function on all versions.

use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use smoq::bytes::BytesMut;
use smoq::coding::ietf::{Draft, Message, Parameters, Setup, Subscribe, TokenReference};
use smoq::machine::Input;
use smoq::sim::{Link, Pair};
use smoq::stream::{Dir, Side, StreamId};
use smoq::{
    AuthToken, Client, Driver, Error, Instant, Origin, OriginProducer, Path, PeerRequest,
    PeerRequestKind, Server, Session, Subscription, TrackConsumer, Version,
};

type Shared<T> = Arc<Mutex<Vec<T>>>;

struct World {
    pair: Pair<Driver, Driver>,
    theirs: OriginProducer,
    /// What the client asked for.
    asked: Shared<(PeerRequestKind, String, String)>,
    /// The requests that wait.
    late: Shared<PeerRequest>,
    _sessions: [Session; 2],
}

impl World {
    fn new(version: Version, mine: &OriginProducer) -> Self {
        let theirs = Origin::default().produce();
        let client = Client::new().with_consume(theirs.clone());
        let (session, client) = client.connect(version, Instant::ZERO);
        let server = Server::new().with_publish(mine.consume());
        let (mut incoming, server) = server.incoming(version, Instant::ZERO);
        let mut pair = Pair::new(client, server, Link::wide(3));
        pair.advance(Duration::from_millis(800));
        assert_eq!(incoming.try_ready(), Poll::Ready(Ok(())));
        let (asked, late) = <(Shared<_>, Shared<_>)>::default();
        let (log, waiting) = (asked.clone(), late.clone());
        let accepted = incoming.with_decisions(move |request| {
            let (path, track) = (request.path().to_string(), request.track().to_owned());
            log.lock().unwrap().push((request.kind(), path, track));
            match request.track() {
                "secret" => request.reject(Error::NotFound),
                "dropped" => drop(request),
                "late" => waiting.lock().unwrap().push(request),
                _ => request.accept(),
            }
        });
        let sessions = [session, accepted.accept()];
        let mut world = Self { pair, theirs, asked, late, _sessions: sessions };
        world.settle();
        world
    }

    fn settle(&mut self) {
        self.pair.advance(Duration::from_millis(800));
    }

    fn read(&self, track: &str) -> TrackConsumer {
        let live = self.theirs.consume().broadcast("live").expect("it was announced");
        live.subscribe_track(track, Subscription::default()).unwrap()
    }
}

fn has_group(reader: &mut TrackConsumer) -> bool {
    matches!(reader.try_recv_group(), Poll::Ready(Ok(Some(_))))
}

#[test]
fn each_request_is_decided_on_its_own() {
    for version in Version::ALL.into_iter().chain(Version::WIP) {
        println!("{version}");
        let mine = Origin::default().produce();
        let mut live = mine.create_broadcast("live").unwrap();
        let mut tracks = ["public", "late", "secret", "dropped"].map(|name| {
            let mut track = live.create_track(name).unwrap();
            track.write_frame(1, name).unwrap();
            track
        });
        let mut world = World::new(version, &mine);
        let [mut public, mut late, mut secret, mut dropped] =
            ["public", "late", "secret", "dropped"].map(|name| world.read(name));
        world.settle();
        assert!(has_group(&mut public), "accepted at once");
        assert_eq!(secret.try_recv_group().map_ok(drop), Poll::Ready(Err(Error::NotFound)));
        // moq-lite has no code of its own for a stream that is not allowed.
        let is_moqt = Draft::of(version).is_some();
        let error = if is_moqt { Error::Unauthorized } else { Error::SessionClosed };
        assert_eq!(dropped.try_recv_group().map_ok(drop), Poll::Ready(Err(error)));
        assert!(late.try_recv_group().is_pending(), "nobody decided");
        let asked = world.asked.lock().unwrap().clone();
        let wanted = (PeerRequestKind::Subscribe, "live".to_owned(), "late".to_owned());
        assert!(asked.contains(&wanted), "{asked:?}");
        assert!(asked.iter().any(|(kind, ..)| *kind == PeerRequestKind::Announcements));

        let waiting = std::mem::take(&mut *world.late.lock().unwrap());
        waiting.into_iter().for_each(PeerRequest::accept);
        world.settle();
        assert!(has_group(&mut late), "accepted later");

        // The peer gives a request up before it is decided on.
        drop(late);
        world.settle();
        let gone = world.read("late");
        world.settle();
        drop(gone);
        world.settle();
        let waiting = std::mem::take(&mut *world.late.lock().unwrap());
        waiting.into_iter().for_each(PeerRequest::accept);
        world.settle();
        assert_eq!(tracks[1].try_used(), Poll::Pending, "nobody reads it");
    }
}

/// A broadcast that was refused is not seen, however the peer announces it, and the others are. The tokens of a
/// PUBLISH_NAMESPACE are for its decision.
#[test]
fn each_broadcast_of_the_peer_is_decided_on() {
    for version in Version::ALL.into_iter().chain(Version::WIP) {
        println!("{version}");
        let [mine, theirs] = [(); 2].map(|()| Origin::default().produce());
        let [_live, _secret, late] =
            ["live", "secret", "late"].map(|name| theirs.create_broadcast(name).unwrap());
        let token = AuthToken::new(0, "live");
        let client = Client::new().with_publish(theirs.consume());
        let client = client.with_request_token("live", token.clone());
        let (session, client) = client.connect(version, Instant::ZERO);
        let server = Server::new().with_consume(mine.clone());
        let (mut incoming, server) = server.incoming(version, Instant::ZERO);
        let mut pair = Pair::new(client, server, Link::wide(3));
        let mut settle = || pair.advance(Duration::from_millis(800));
        settle();
        assert_eq!(incoming.try_ready(), Poll::Ready(Ok(())));
        let (waiting, tokens) = <(Shared<PeerRequest>, Shared<AuthToken>)>::default();
        let (later, shown) = (waiting.clone(), tokens.clone());
        let accepted = incoming.with_decisions(move |request| {
            if request.kind() == PeerRequestKind::Announce {
                shown.lock().unwrap().extend_from_slice(request.tokens());
            }
            match request.path().as_str() {
                "secret" => request.reject(Error::Expired),
                "late" => later.lock().unwrap().push(request),
                _ => request.accept(),
            }
        });
        let _sessions = [session, accepted.accept()];
        settle();
        let names =
            || ["live", "secret", "late"].map(|name| mine.consume().broadcast(name).is_some());
        assert_eq!(names(), [true, false, false]);
        let has_tokens = Draft::of(version).is_some();
        assert_eq!(*tokens.lock().unwrap(), Vec::from_iter(has_tokens.then_some(token)));

        let take = || std::mem::take(&mut *waiting.lock().unwrap());
        assert!(!waiting.lock().unwrap().is_empty());
        take().into_iter().for_each(PeerRequest::accept);
        settle();
        assert_eq!(names(), [true, false, true]);
        drop(late);
        settle();
        assert_eq!(names(), [true, false, false]);

        // One that ends before the decision is never seen, and another one under its path is decided on anew.
        let gone = theirs.create_broadcast("late").unwrap();
        settle();
        let first = take();
        drop(gone);
        settle();
        let _again = theirs.create_broadcast("late").unwrap();
        settle();
        assert!(!first.is_empty() && !waiting.lock().unwrap().is_empty());
        first.into_iter().for_each(PeerRequest::accept);
        settle();
        assert_eq!(names(), [true, false, false], "an answer to an older request");
        take().into_iter().for_each(PeerRequest::accept);
        settle();
        assert_eq!(names(), [true, false, true]);
    }
}

#[test]
fn the_tokens_of_a_request_are_for_its_decision() {
    const DRAFT: Version = Version::Moqt18;
    let encoded = |message: Message| {
        let mut out = BytesMut::new();
        message.encode(&mut out, Draft::of(DRAFT).unwrap()).unwrap();
        out.freeze()
    };
    let mine = Origin::default().produce();
    let server = Server::new().with_publish(mine.consume());
    let (mut incoming, mut driver) = server.incoming(DRAFT, Instant::ZERO);
    let open = |driver: &mut Driver, dir, number, message| {
        let id = StreamId::new(Side::Client, dir, number);
        driver.handle(Instant::ZERO, Input::Opened { id });
        driver.handle(Instant::ZERO, Input::Data { id, bytes: encoded(message), fin: false });
        while driver.work(Instant::ZERO) {}
    };
    let tokens = vec![TokenReference::Register(1, AuthToken::new(0, "session"))];
    let setup = Setup { tokens, solicit: true, ..Setup::default() };
    open(&mut driver, Dir::Uni, 0, Message::Setup(setup));
    assert_eq!(incoming.try_ready(), Poll::Ready(Ok(())));
    assert_eq!(incoming.tokens(), [AuthToken::new(0, "session")]);
    let asked = Shared::<Vec<AuthToken>>::default();
    let log = asked.clone();
    let _session = incoming
        .with_decisions(move |request| log.lock().unwrap().push(request.tokens().to_vec()))
        .accept();
    while driver.work(Instant::ZERO) {}

    for (number, token) in [TokenReference::Alias(1), TokenReference::Value(AuthToken::new(7, "t"))]
        .into_iter()
        .enumerate()
    {
        let subscribe = Message::Subscribe(Subscribe {
            id: 2 * number as u64,
            namespace: Path::new("live"),
            track: "video".into(),
            parameters: Parameters { tokens: vec![token], ..Parameters::default() },
        });
        open(&mut driver, Dir::Bi, number as u64, subscribe);
    }
    let expected = [AuthToken::new(0, "session"), AuthToken::new(7, "t")].map(|token| vec![token]);
    assert!(asked.lock().unwrap().ends_with(&expected));
}
