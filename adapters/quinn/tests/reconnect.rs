//! Clients that dial again, over loopback.

use std::future::{Future, poll_fn, ready};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::task::Poll;
use std::time::Duration;

use smoq::{
    Client, Error, Goaway, Hop, LimitKind, Limits, Origin, OriginProducer, Server, Session,
    Subscription, TrackConsumer, TrackProducer,
};
use smoq_quinn::smoq_quic::{Identity, MAX_LEAVING, Redial, Redirect, Trust, Url};
use smoq_quinn::{ConnectionDriver, Reconnecting, SessionEvent, config, dial, listen};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Event = SessionEvent<Url, BoxError>;

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);

fn on_tokio(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("it hangs");
    });
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn url(address: SocketAddr) -> Url {
    format!("moqt://{address}/").parse().unwrap()
}

/// A server, and its sessions in the order in which they began.
struct Serving {
    address: SocketAddr,
    endpoint: quinn::Endpoint,
    sessions: UnboundedReceiver<Session>,
    task: JoinHandle<()>,
}

impl Serving {
    async fn start(identity: &Identity, address: SocketAddr, origin: &OriginProducer) -> Self {
        let server = Server::new().with_publish(origin.consume());
        let config = config::server(identity, server.versions()).unwrap();
        let (endpoint, _) = loop {
            // The socket of an earlier server at this address is closed soon.
            match listen(address, config.clone()) {
                Ok(listening) => break listening,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let (address, accepting) = (endpoint.local_addr().unwrap(), endpoint.clone());
        let (sender, sessions) = unbounded_channel();
        let task = tokio::spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                tokio::spawn(accept(incoming, server.clone(), sender.clone()));
            }
        });
        Self { address, endpoint, sessions, task }
    }

    /// The process ends.
    async fn end(self) {
        self.endpoint.close(0u32.into(), b"");
        self.task.await.unwrap();
        self.endpoint.wait_idle().await;
    }
}

async fn accept(incoming: quinn::Incoming, server: Server, sessions: UnboundedSender<Session>) {
    let Ok(connection) = incoming.await else { return };
    let (session, driving) = smoq_quinn::accept(connection, &server).await.unwrap();
    // It fails if the test is over.
    let _ = sessions.send(session);
    let _ = driving.await;
}

async fn attempt(
    url: Url,
    client: Client,
    trust: Trust,
) -> Result<(Session, ConnectionDriver), BoxError> {
    let addresses = [format!("{}:{}", url.host(), url.port()).parse()?];
    let tls = config::client_for(&url, &trust, client.versions())?;
    let (_endpoint, connection) = dial("localhost", addresses, tls).await?;
    let client = client.with_path(url.path()).with_authority(url.authority());
    Ok(smoq_quinn::connect(connection, &client).await?)
}

fn begin(redial: Redial, client: &Client, identity: &Identity) -> Reconnecting<Url, BoxError> {
    let trust = Trust::from(identity.fingerprint());
    smoq_quinn::reconnect(redial, client, move |url, client| attempt(url, client, trust.clone()))
        .unwrap()
}

/// A client in a task of its own, and its events.
struct Dialing {
    events: UnboundedReceiver<Event>,
    task: JoinHandle<()>,
}

impl Dialing {
    fn start(redial: Redial, client: &Client, identity: &Identity) -> Self {
        let mut reconnecting = begin(redial, client, identity);
        let (sender, events) = unbounded_channel();
        let task = tokio::spawn(async move {
            while let Some(event) = reconnecting.next().await {
                let _ = sender.send(event);
            }
        });
        Self { events, task }
    }

    async fn next(&mut self) -> Event {
        self.events.recv().await.expect("it goes on")
    }

    async fn connected(&mut self) -> (Url, Session) {
        match self.next().await {
            SessionEvent::Connected { url, session } => (url, session),
            other => panic!("{other:?}"),
        }
    }
}

/// An identity, the origins of server and client, and a track.
struct World {
    identity: Identity,
    origin: OriginProducer,
    seen: OriginProducer,
    client: Client,
    track: TrackProducer,
    _broadcast: smoq::BroadcastProducer,
}

impl World {
    fn new() -> Self {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let [origin, seen] = [7, 8].map(|hop| Origin::new(Hop::new(hop)).produce());
        let client = Client::new().with_consume(seen.clone());
        let mut broadcast = origin.create_broadcast("live").unwrap();
        let track = broadcast.create_track("video").unwrap();
        Self { identity, origin, seen, client, track, _broadcast: broadcast }
    }

    async fn reader(&self) -> TrackConsumer {
        let live = self.seen.consume().announced_broadcast("live").await.unwrap();
        live.subscribe_track("video", Subscription::default()).unwrap()
    }
}

async fn read(reader: &mut TrackConsumer) -> u64 {
    reader.read_frame().await.unwrap().expect("a frame").timestamp().units()
}

#[test]
fn a_reader_goes_on_when_the_server_comes_back() {
    on_tokio(async {
        let mut world = World::new();
        let serving = Serving::start(&world.identity, loopback(), &world.origin).await;
        let address = serving.address;
        let redial = Redial::new(url(address)).pauses(MS, 20 * MS).lasting(Duration::ZERO);
        let mut dialing = Dialing::start(redial, &world.client, &world.identity);
        let mut serving = Some(serving);
        let mut reader = None;
        for n in 0..3 {
            // The first attempts may find nobody.
            while !matches!(dialing.next().await, SessionEvent::Connected { .. }) {}
            if reader.is_none() {
                reader = Some(world.reader().await);
            }
            let reader = reader.as_mut().unwrap();
            world.track.write_frame(2 * n, "x").unwrap();
            assert_eq!(read(reader).await, 2 * n);
            serving.take().unwrap().end().await;
            match dialing.next().await {
                SessionEvent::Lost { pause: Some(pause), .. } => assert!(pause <= MS, "{pause:?}"),
                other => panic!("{other:?}"),
            }
            // In the gap.
            world.track.write_frame(2 * n + 1, "x").unwrap();
            serving = Some(Serving::start(&world.identity, address, &world.origin).await);
            assert_eq!(read(reader).await, 2 * n + 1);
        }
    });
}

#[test]
fn the_next_url_is_dialed_when_one_is_dead() {
    on_tokio(async {
        let world = World::new();
        let silent = UdpSocket::bind(loopback()).unwrap();
        let dead = url(silent.local_addr().unwrap());
        let serving = Serving::start(&world.identity, loopback(), &world.origin).await;
        let redial = Redial::new(dead.clone()).or(url(serving.address)).attempt_timeout(300 * MS);
        let mut dialing = Dialing::start(redial, &world.client, &world.identity);
        match dialing.next().await {
            SessionEvent::Failed { url, error: None, pause: Duration::ZERO } => {
                assert_eq!(url, dead);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(dialing.connected().await.0, url(serving.address));
        assert!(world.reader().await.try_recv_group().is_pending());
    });
}

/// The server wants to send its client elsewhere.
async fn redirected(world: &mut World, follows: bool, to: &str, expected: Redirect) -> (Url, Url) {
    let mut near = Serving::start(&world.identity, loopback(), &world.origin).await;
    let mut redial = Redial::new(url(near.address)).pauses(MS, 20 * MS).lasting(Duration::ZERO);
    if follows {
        redial = redial.follow(|url| url.host() == "127.0.0.1");
    }
    let mut dialing = Dialing::start(redial, &world.client, &world.identity);
    let (first, _) = dialing.connected().await;
    let mut reader = world.reader().await;
    world.track.write_frame(1, "x").unwrap();
    assert_eq!(read(&mut reader).await, 1);
    let leaving = near.sessions.recv().await.unwrap();
    leaving.go_away(Goaway::default().uri(to)).unwrap();
    match dialing.next().await {
        SessionEvent::GoingAway { url, goaway, redirect, .. } => {
            assert_eq!((url, redirect), (first.clone(), expected));
            assert_eq!(goaway.uri.as_deref(), Some(to));
        }
        other => panic!("{other:?}"),
    }
    let (next, _) = dialing.connected().await;
    // The old session ends because its reader has moved.
    match dialing.next().await {
        SessionEvent::Lost { url, end: Ok(()), pause: None } => assert_eq!(url, first),
        other => panic!("{other:?}"),
    }
    world.track.write_frame(2, "x").unwrap();
    assert_eq!(read(&mut reader).await, 2);
    (first, next)
}

#[test]
fn a_redirect_is_followed_if_the_application_allows_it() {
    on_tokio(async {
        let mut world = World::new();
        let far = Serving::start(&world.identity, loopback(), &world.origin).await;
        let to = url(far.address).to_string();
        let (_, next) = redirected(&mut world, true, &to, Redirect::Followed).await;
        assert_eq!(next, url(far.address));
    });
}

#[test]
fn other_redirects_lead_to_the_same_server() {
    on_tokio(async {
        let mut world = World::new();
        let far = Serving::start(&world.identity, loopback(), &world.origin).await;
        let to = url(far.address).to_string();
        for (follows, to, expected) in [
            (false, &*to, Redirect::Refused),
            (true, "moqt://elsewhere.example/", Redirect::Refused),
            (true, "moqt://[::1/\u{0}\u{1f980}", Redirect::Invalid),
        ] {
            let (first, next) = redirected(&mut world, follows, to, expected).await;
            assert_eq!(next, first);
        }
    });
}

/// A server that reads what its clients publish. It drives a session only as long as the test wants it.
struct Reading {
    endpoint: quinn::Endpoint,
    url: Url,
}

impl Reading {
    fn new(identity: &Identity) -> Self {
        let tls = config::server(identity, Server::new().versions()).unwrap();
        let (endpoint, _) = listen(loopback(), tls).unwrap();
        let url = url(endpoint.local_addr().unwrap());
        Self { endpoint, url }
    }

    /// Accepts a client, and reads its track up to the beginning of a group.
    async fn reader(&self) -> (Session, ConnectionDriver, TrackConsumer) {
        let taken = Origin::default().produce();
        let server = Server::new().with_consume(taken.clone());
        let connection = self.endpoint.accept().await.unwrap().await.unwrap();
        let (session, mut driving) = smoq_quinn::accept(connection, &server).await.unwrap();
        let reader = async {
            let up = taken.consume().announced_broadcast("up").await.unwrap();
            let mut reader = up.subscribe_track("video", Subscription::default()).unwrap();
            reader.recv_group().await.unwrap().expect("a group");
            reader
        };
        let reader = tokio::select! {
            reader = reader => reader,
            end = &mut driving => panic!("{end:?}"),
        };
        (session, driving, reader)
    }
}

/// The reader of the first session can't move. When the second one is asked to leave, the first is drained: all that it
/// owes is still sent.
#[test]
fn an_older_session_that_leaves_is_drained() {
    on_tokio(async {
        let world = World::new();
        let (first, second, third) = (
            Reading::new(&world.identity),
            Serving::start(&world.identity, loopback(), &world.origin).await,
            Serving::start(&world.identity, loopback(), &world.origin).await,
        );
        let mut second = second;
        let own = Origin::default().produce();
        let mut up = own.create_broadcast("up").unwrap();
        let mut track = up.create_track("video").unwrap();
        track.write_frame(0, "first").unwrap();
        let client = world.client.clone().with_publish(own.consume());
        let redial = Redial::new(first.url.clone()).pauses(MS, 20 * MS).lasting(Duration::ZERO);
        let redial = redial.follow(|_| true);
        let mut dialing = Dialing::start(redial, &client, &world.identity);
        let (leaving, driving, mut reader) = first.reader().await;
        assert_eq!(dialing.connected().await.0, first.url);
        let driving = tokio::spawn(driving);
        leaving
            .go_away(Goaway::default().timeout(HOUR).uri(url(second.address).to_string()))
            .unwrap();
        assert!(matches!(dialing.next().await, SessionEvent::GoingAway { .. }));
        assert_eq!(dialing.connected().await.0, url(second.address));
        assert!(!leaving.is_closed());

        let big = vec![7; 1 << 20];
        track.write_frame(1, big.clone()).unwrap();
        let session = second.sessions.recv().await.unwrap();
        session.go_away(Goaway::default().uri(url(third.address).to_string())).unwrap();
        let (mut lost, mut connected) = (Vec::new(), false);
        while lost.len() < 2 || !connected {
            match dialing.next().await {
                SessionEvent::Lost { url, end: Ok(()), pause: None } => lost.push(url),
                SessionEvent::Connected { url: there, .. } => {
                    assert_eq!(there, url(third.address));
                    connected = true;
                }
                SessionEvent::GoingAway { url: there, .. } => {
                    assert_eq!(there, url(second.address));
                }
                other => panic!("{other:?}"),
            }
        }
        lost.sort_by_key(|lost| *lost != first.url);
        assert_eq!(lost, [first.url.clone(), url(second.address)]);
        assert_eq!(reader.read_frame().await.unwrap().unwrap().payload(), big);
        driving.await.unwrap().unwrap();
    });
}

/// The peers read nothing, so that no session ends in time. Past the bound the oldest is closed.
#[test]
fn sessions_that_leave_are_bounded_and_each_end_is_told() {
    on_tokio(async {
        let world = World::new();
        let near = Reading::new(&world.identity);
        let own = Origin::default().produce();
        let mut up = own.create_broadcast("up").unwrap();
        let mut track = up.create_track("video").unwrap();
        // More than QUIC takes for a peer that does not read.
        track.write_frame(0, vec![7; 8 << 20]).unwrap();
        let mut limits = Limits::default();
        limits.close_timeout = HOUR;
        let client = Client::new().with_publish(own.consume()).with_limits(limits);
        let redial = Redial::new(near.url.clone()).pauses(MS, 20 * MS).lasting(Duration::ZERO);
        let mut dialing = Dialing::start(redial, &client, &world.identity);
        let (mut silent, mut handles, mut lost) = (Vec::new(), Vec::new(), 0);
        for n in 0..MAX_LEAVING + 3 {
            let (session, mut driving, reader) = near.reader().await;
            handles.push(dialing.connected().await.1);
            session.go_away(Goaway::default().timeout(HOUR)).unwrap();
            let going = tokio::select! {
                event = dialing.next() => event,
                end = &mut driving => panic!("{end:?}"),
            };
            assert!(matches!(going, SessionEvent::GoingAway { .. }), "{going:?}");
            silent.push((session, driving, reader));
            if n >= MAX_LEAVING {
                match dialing.next().await {
                    SessionEvent::Lost { end: Err(error), pause: None, .. } => {
                        assert_eq!(error, Error::Limit(LimitKind::LeavingSessions));
                    }
                    other => panic!("{other:?}"),
                }
                assert!(handles[lost].is_closed());
                lost += 1;
            }
            assert!(handles[lost..].iter().all(|handle| !handle.is_closed()), "{n}");
        }
    });
}

/// Each session is closed with UNAUTHORIZED.
#[test]
fn a_server_that_refuses_is_asked_ever_less_often() {
    on_tokio(async {
        let world = World::new();
        let server = Server::new();
        let tls = config::server(&world.identity, server.versions()).unwrap();
        let (endpoint, _) = listen(loopback(), tls).unwrap();
        let address = endpoint.local_addr().unwrap();
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let connection = incoming.await.unwrap();
                let (mut request, driving) =
                    smoq_quinn::incoming(connection, &server).await.unwrap();
                tokio::spawn(driving);
                tokio::spawn(async move {
                    request.ready().await.unwrap();
                    request.reject(Error::Unauthorized);
                });
            }
        });
        let redial = Redial::new(url(address)).pauses(8 * MS, HOUR);
        let mut dialing = Dialing::start(redial, &world.client, &world.identity);
        for n in 0..6 {
            dialing.connected().await;
            match dialing.next().await {
                SessionEvent::Lost {
                    end: Err(Error::Unauthorized), pause: Some(pause), ..
                } => {
                    assert!(pause >= 4 * MS * (1 << n), "{n}: {pause:?}");
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn waiting_and_dialing_can_be_cancelled() {
    on_tokio(async {
        let world = World::new();
        let silent = UdpSocket::bind(loopback()).unwrap();
        let silent_url = url(silent.local_addr().unwrap());
        let redial = Redial::new(silent_url).pauses(HOUR, HOUR).attempt_timeout(50 * MS);

        // During the pause, by a drop.
        let mut dialing = Dialing::start(redial.clone(), &world.client, &world.identity);
        assert!(matches!(dialing.next().await, SessionEvent::Failed { .. }));
        dialing.task.abort();
        assert!(dialing.events.recv().await.is_none());

        // During the pause, by stop.
        let mut reconnecting = begin(redial.clone(), &world.client, &world.identity);
        assert!(matches!(reconnecting.next().await, Some(SessionEvent::Failed { .. })));
        reconnecting.stop();
        assert!(reconnecting.next().await.is_none());

        // During an attempt.
        let redial = redial.attempt_timeout(HOUR);
        let mut reconnecting = begin(redial, &world.client, &world.identity);
        let waits = poll_fn(|cx| Poll::Ready(reconnecting.poll_next(cx).is_pending())).await;
        assert!(waits);
        reconnecting.stop();
        assert!(reconnecting.next().await.is_none());

        // During a session, which goes on until its handles are gone.
        let serving = Serving::start(&world.identity, loopback(), &world.origin).await;
        let redial = Redial::new(url(serving.address));
        let mut reconnecting = begin(redial, &world.client, &world.identity);
        let Some(SessionEvent::Connected { session, .. }) = reconnecting.next().await else {
            panic!("no session")
        };
        reconnecting.stop();
        let mut reader = tokio::select! {
            reader = world.reader() => reader,
            event = reconnecting.next() => panic!("{event:?}"),
        };
        drop(session);
        let end = reconnecting.next().await;
        assert!(
            matches!(end, Some(SessionEvent::Lost { end: Ok(()), pause: None, .. })),
            "{end:?}"
        );
        // Nobody waits for a session that will not come.
        assert_eq!(reader.recv_group().await.err(), Some(Error::SessionClosed));
        assert!(reconnecting.next().await.is_none());
    });
}

/// The client is stopped while its reader waits for the next session.
#[test]
fn readers_that_wait_learn_of_a_stop() {
    on_tokio(async {
        let world = World::new();
        let serving = Serving::start(&world.identity, loopback(), &world.origin).await;
        let redial = Redial::new(url(serving.address)).pauses(HOUR, HOUR).hold(HOUR);
        let mut reconnecting = begin(redial, &world.client, &world.identity);
        assert!(matches!(reconnecting.next().await, Some(SessionEvent::Connected { .. })));
        let mut reader = tokio::select! {
            reader = world.reader() => reader,
            event = reconnecting.next() => panic!("{event:?}"),
        };
        let (_, lost) = tokio::join!(serving.end(), reconnecting.next());
        assert!(matches!(lost, Some(SessionEvent::Lost { pause: Some(_), .. })), "{lost:?}");
        assert!(reader.try_recv_group().is_pending());
        reconnecting.stop();
        assert_eq!(reader.recv_group().await.err(), Some(Error::SessionClosed));
        assert!(reconnecting.next().await.is_none());
    });
}

#[test]
fn ten_thousand_attempts_keep_no_memory() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let urls = (2..=1_000).map(|port| url((Ipv4Addr::LOCALHOST, port).into()));
    let redial = urls.fold(Redial::new(url((Ipv4Addr::LOCALHOST, 1).into())), Redial::or);
    let refused = |_, _| ready(Err::<(Session, ConnectionDriver), _>("refused"));
    let mut dialing = {
        let _entered = runtime.enter();
        smoq_quinn::reconnect(redial.pauses(MS, MS), &Client::new(), refused).unwrap()
    };
    let mut fail = |times| {
        runtime.block_on(async {
            for _ in 0..times {
                let event = dialing.next().await;
                assert!(matches!(event, Some(SessionEvent::Failed { error: Some("refused"), .. })));
            }
        });
    };
    fail(1_000);
    let growth = allocation_counter::measure(|| fail(10_000)).bytes_current;
    assert!(growth < 4 << 10, "{growth} bytes");
}

#[cfg(feature = "runtime-smol")]
#[test]
fn pauses_are_timers_of_smol_as_well() {
    smol::block_on(async {
        let redial = Redial::new(url((Ipv4Addr::LOCALHOST, 1).into())).pauses(MS, 2 * MS);
        let refused = |_, _| ready(Err::<(Session, ConnectionDriver), _>("refused"));
        let mut dialing = smoq_quinn::reconnect(redial, &Client::new(), refused).unwrap();
        for _ in 0..10 {
            let event = dialing.next().await;
            assert!(matches!(event, Some(SessionEvent::Failed { error: Some("refused"), .. })));
        }
    });
}
