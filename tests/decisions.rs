//! The application decides on single requests of a client, by the same function on all versions.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use smoq::bytes::BytesMut;
use smoq::coding::ietf::{
    Draft, Fetch, FetchTarget, Filter, Location, Message, Parameters, RequestUpdate, Setup,
    Subscribe, SubscribeNamespace, TokenReference,
};
use smoq::machine::Input;
use smoq::sim::{Link, Pair};
use smoq::stream::{Dir, Side, StreamId};
use smoq::{
    AuthToken, Client, Driver, Error, Instant, LimitKind, Limits, Origin, OriginProducer, Path,
    PeerRequest, PeerRequestKind, Server, Session, Subscription, TrackConsumer, TrackInfo, Version,
};

type Shared<T> = Arc<Mutex<Vec<T>>>;

struct World {
    pair: Pair<Driver, Driver>,
    theirs: OriginProducer,
    /// The requests of the client.
    asked: Shared<(PeerRequestKind, String, String)>,
    /// The requests that wait.
    late: Shared<PeerRequest>,
    _sessions: [Session; 2],
}

impl World {
    fn new(version: Version, mine: &OriginProducer) -> Self {
        Self::with(version, mine, Link::wide(3), [Limits::default(), Limits::default()])
    }

    /// With the limits of the client and of the server.
    fn with(version: Version, mine: &OriginProducer, link: Link, limits: [Limits; 2]) -> Self {
        let theirs = Origin::default().produce();
        let [near, far] = limits;
        let client = Client::new().with_consume(theirs.clone()).with_limits(near);
        let (session, client) = client.connect(version, Instant::ZERO);
        let server = Server::new().with_publish(mine.consume()).with_limits(far);
        let (mut incoming, server) = server.incoming(version, Instant::ZERO);
        let mut pair = Pair::new(client, server, link);
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
                track if track.starts_with("late") => waiting.lock().unwrap().push(request),
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

/// One of each kind of announcements and of answers.
const SOME: [Version; 4] = [Version::Lite02, Version::Lite06, Version::Moqt14, Version::Moqt22];

/// How many requests a reader makes: moq-lite 05 to 07 ask for the track, and for its groups.
fn asks(version: Version) -> usize {
    if version == Version::Lite06 { 2 } else { 1 }
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

/// They hold up neither the other requests of their session nor other sessions. Any decision works then, also after
/// the session.
#[test]
fn ten_thousand_requests_wait_for_their_decisions() {
    const REQUESTS: usize = 10_000;
    let (mut link, mut limits) = (Link::perfect(), Limits::default());
    (limits.subscriptions, limits.requests) = (2 * REQUESTS, 3 * REQUESTS);
    link.bi_streams = 3 * REQUESTS as u64;
    for version in SOME {
        println!("{version}");
        let mine = Origin::default().produce();
        let mut live = mine.create_broadcast("live").unwrap();
        let mut create = |name: &str| {
            let mut track = live.create_track(name).unwrap();
            track.write_frame(1, "frame").unwrap();
            track
        };
        let names: Vec<_> = (0..REQUESTS).map(|n| format!("late {n}")).collect();
        let _tracks: Vec<_> = names.iter().map(|name| create(name)).collect();
        let _public = create("public");
        for is_over in [false, true] {
            let mut world =
                World::with(version, &mine, link.clone(), [limits.clone(), limits.clone()]);
            let mut other = World::new(version, &mine);
            let mut readers: Vec<_> = names.iter().map(|name| world.read(name)).collect();
            world.settle();
            assert_eq!(world.late.lock().unwrap().len(), asks(version) * REQUESTS);
            for world in [&mut world, &mut other] {
                let mut public = world.read("public");
                world.settle();
                assert!(has_group(&mut public));
            }
            assert!(readers.iter_mut().all(|it| it.try_recv_group().is_pending()));
            if is_over {
                world.pair.disconnect();
            }
            let waiting = std::mem::take(&mut *world.late.lock().unwrap());
            for request in waiting {
                match request.track()["late ".len()..].parse::<usize>().unwrap() % 3 {
                    0 => request.accept(),
                    1 => request.reject(Error::NotFound),
                    _ => drop(request),
                }
            }
            world.settle();
            let is_moqt = Draft::of(version).is_some();
            let dropped = if is_moqt { Error::Unauthorized } else { Error::SessionClosed };
            let mut seen = [0; 3];
            for reader in &mut readers {
                match reader.try_recv_group() {
                    Poll::Ready(Ok(Some(_))) => seen[0] += 1,
                    Poll::Ready(Err(Error::NotFound)) => seen[1] += 1,
                    Poll::Ready(Err(error)) if error == dropped => seen[2] += 1,
                    other => assert!(is_over, "{other:?}"),
                }
            }
            if !is_over {
                assert_eq!(seen, [3_334, 3_333, 3_333]);
            }
        }
    }
}

/// Without a limit a peer could fill the memory of the application with requests that it gives up at once.
#[test]
fn a_request_that_was_given_up_counts_until_its_decision() {
    const REQUESTS: usize = 20;
    let mut few = Limits::default();
    few.requests = REQUESTS;
    for version in SOME {
        println!("{version}");
        let mine = Origin::default().produce();
        let mut live = mine.create_broadcast("live").unwrap();
        let _track = live.create_track("late").unwrap();
        let limits = [Limits::default(), few.clone()];
        let mut world = World::with(version, &mine, Link::perfect(), limits);
        for _ in 0..2 {
            for n in 0..10 * REQUESTS {
                let mut reader = world.read("late");
                world.settle();
                let end = reader.try_recv_group().map_ok(drop);
                if n < REQUESTS / asks(version) {
                    assert!(end.is_pending(), "{n}: {end:?}");
                } else {
                    // moq-transport 14 has no code for it.
                    let full = match version {
                        Version::Moqt14 => Error::Internal,
                        _ => Error::Limit(LimitKind::PeerRequests),
                    };
                    assert_eq!(end, Poll::Ready(Err(full)), "{n}");
                }
                drop(reader);
                world.settle();
            }
            let waiting = std::mem::take(&mut *world.late.lock().unwrap());
            assert_eq!(waiting.len(), REQUESTS);
            // All of them are dropped.
        }
    }
}

/// A server driver that shows each request to the application, which accepts it.
struct Judged {
    version: Version,
    driver: Driver,
    asked: Shared<(PeerRequestKind, String, Vec<AuthToken>)>,
    _session: Session,
}

impl Judged {
    /// After the set-up of the client, which shows a token with the alias 1.
    fn new(version: Version, mine: &OriginProducer) -> Self {
        let server = Server::new().with_publish(mine.consume());
        let (mut incoming, mut driver) = server.incoming(version, Instant::ZERO);
        let tokens = vec![TokenReference::Register(1, AuthToken::new(0, "session"))];
        let setup = Setup { tokens, solicit: true, ..Setup::default() };
        open(&mut driver, version, Dir::Uni, 0, Message::Setup(setup));
        assert_eq!(incoming.try_ready(), Poll::Ready(Ok(())));
        assert_eq!(incoming.tokens(), [AuthToken::new(0, "session")]);
        let asked = Shared::default();
        let log: Shared<_> = asked.clone();
        let incoming = incoming.with_decisions(move |request| {
            let (path, tokens) = (request.path().to_string(), request.tokens().to_vec());
            log.lock().unwrap().push((request.kind(), path, tokens));
            request.accept();
        });
        let _session = incoming.accept();
        while driver.work(Instant::ZERO) {}
        Self { version, driver, asked, _session }
    }

    /// The client makes this request on its stream of this number.
    fn ask(&mut self, number: u64, message: Message) {
        open(&mut self.driver, self.version, Dir::Bi, number, message);
    }

    /// The requests of this kind since the last call.
    fn take(&self, kind: PeerRequestKind) -> Vec<(String, Vec<AuthToken>)> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        let asked = asked.into_iter().filter(|(it, ..)| *it == kind);
        asked.map(|(_, path, tokens)| (path, tokens)).collect()
    }
}

/// The client opens a stream, unless it has, and writes.
fn open(driver: &mut Driver, version: Version, dir: Dir, number: u64, message: Message) {
    let mut out = BytesMut::new();
    message.encode(&mut out, Draft::of(version).unwrap()).unwrap();
    let id = StreamId::new(Side::Client, dir, number);
    driver.handle(Instant::ZERO, Input::Opened { id });
    driver.handle(Instant::ZERO, Input::Data { id, bytes: out.freeze(), fin: false });
    while driver.work(Instant::ZERO) {}
}

fn with_tokens(tokens: Vec<TokenReference>) -> Parameters {
    Parameters { tokens, ..Parameters::default() }
}

fn subscribe(id: u64, track: &str, parameters: Parameters) -> Message {
    let namespace = Path::new("live");
    Message::Subscribe(Subscribe { id, namespace, track: track.into(), parameters })
}

#[test]
fn the_tokens_of_a_request_are_for_its_decision() {
    let mut judged = Judged::new(Version::Moqt18, &Origin::default().produce());
    let request = AuthToken::new(7, "request");
    for (number, token) in
        [TokenReference::Alias(1), TokenReference::Value(request.clone())].into_iter().enumerate()
    {
        let number = number as u64;
        judged.ask(number, subscribe(2 * number, "video", with_tokens(vec![token])));
    }
    let expected = [AuthToken::new(0, "session"), request];
    let expected = expected.map(|token| ("live".to_owned(), vec![token]));
    assert_eq!(judged.take(PeerRequestKind::Subscribe), expected);
}

/// *Joining Fetches* (up to 19): there is no decision on one, because its subscription was decided on. Nor are its tokens
/// shown with another request.
#[test]
fn the_tokens_of_a_join_are_shown_with_no_other_request() {
    for version in [Version::Moqt17, Version::Moqt18, Version::Moqt19] {
        let mine = Origin::default().produce();
        let mut live = mine.create_broadcast("live").unwrap();
        let mut track = live.create_track("video").unwrap();
        track.write_frame(1, "frame").unwrap();
        let mut judged = Judged::new(version, &mine);
        let next = Parameters { filter: Some(Filter::NextObject), ..Parameters::default() };
        judged.ask(0, subscribe(0, "video", next));
        let parameters = with_tokens(vec![TokenReference::Value(AuthToken::new(7, "join"))]);
        let target = FetchTarget::Relative { joins: 0, groups_back: 0 };
        judged.ask(1, Message::Fetch(Fetch { id: 2, target, parameters }));
        judged.ask(2, subscribe(4, "audio", Parameters::default()));
        let none = || ("live".to_owned(), vec![]);
        assert_eq!(judged.take(PeerRequestKind::Subscribe), [none(), none()], "{version}");
    }
}

/// *Updating Namespace Subscriptions* (18 and later): the application decides on another prefix with the tokens of the
/// update. Without any the former ones stay, as each parameter that is left out does.
#[test]
fn a_request_for_tracks_moves_with_its_tokens() {
    use Version::{Moqt18, Moqt19, Moqt20, Moqt21, Moqt22};
    for version in [Moqt18, Moqt19, Moqt20, Moqt21, Moqt22] {
        let mut judged = Judged::new(version, &Origin::default().produce());
        let [first, second] = ["first", "second"].map(|text| AuthToken::new(7, text.to_owned()));
        let parameters = with_tokens(vec![TokenReference::Value(first.clone())]);
        let prefix = Path::new("room");
        let tracks = SubscribeNamespace { prefix, parameters, ..SubscribeNamespace::default() };
        judged.ask(0, Message::SubscribeTracks(tracks));
        let mut move_to = |id, prefix: &str, tokens| {
            let prefix = Some(Path::new(prefix));
            let parameters = Parameters { prefix, ..with_tokens(tokens) };
            let update = RequestUpdate { id, parameters, ..RequestUpdate::default() };
            judged.ask(0, Message::RequestUpdate(update));
        };
        move_to(2, "hall", vec![]);
        move_to(4, "yard", vec![TokenReference::Alias(1), TokenReference::Value(second.clone())]);
        move_to(6, "roof", vec![]);
        let later = vec![AuthToken::new(0, "session"), second];
        let expected = [
            ("room", vec![first.clone()]),
            ("hall", vec![first]),
            ("yard", later.clone()),
            ("roof", later),
        ];
        let expected = expected.map(|(prefix, tokens)| (prefix.to_owned(), tokens));
        assert_eq!(judged.take(PeerRequestKind::Tracks), expected, "{version}");
    }
}

/// Where a subscription waits: for the decision of the application, for its broadcast, or for its track.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wait {
    Decision,
    Broadcast,
    Track,
}

/// The priority and the start of a subscription that are in force at the publisher, after updates while it waited, and
/// whether it asks for a new group. `update` is called with each priority when the subscription waits, and `settle` whenever
/// something should happen.
fn updated(
    wait: Wait,
    mine: &OriginProducer,
    late: &Shared<PeerRequest>,
    settle: &mut impl FnMut(),
    update: &mut impl FnMut(u8),
) -> (u8, Option<u64>, bool) {
    let mut below = mine.dynamic("live").unwrap();
    settle();
    let mut update = |settle: &mut dyn FnMut()| {
        for priority in [5, 9] {
            update(priority);
            settle();
        }
    };
    if wait == Wait::Decision {
        assert!(!late.lock().unwrap().is_empty(), "nobody was asked");
        update(settle);
    }
    std::mem::take(&mut *late.lock().unwrap()).into_iter().for_each(PeerRequest::accept);
    settle();
    let Poll::Ready(request) = below.try_requested_broadcast() else { panic!("no request") };
    if wait == Wait::Broadcast {
        update(settle);
    }
    let broadcast = request.accept();
    let mut tracks = broadcast.dynamic();
    settle();
    let Poll::Ready(Ok(request)) = tracks.try_requested_track() else { panic!("no request") };
    if wait == Wait::Track {
        update(settle);
    }
    let mut info = TrackInfo::default();
    info.dynamic_groups = true;
    let mut track = request.accept(info).unwrap();
    settle();
    let want = track.subscription().expect("it is subscribed");
    (want.priority, want.start, track.try_new_group_requested().is_ready())
}

/// moq-lite-06, 5.1.2, and moq-transport-22, 9.5: an update counts, wherever its subscription waits.
#[test]
fn the_last_update_of_a_waiting_subscription_counts() {
    let waits = [Wait::Decision, Wait::Broadcast, Wait::Track];
    for version in Version::ALL.into_iter().chain(Version::WIP) {
        for (wait, start) in waits.into_iter().flat_map(|wait| [(wait, Some(3)), (wait, None)]) {
            println!("{version} {wait:?} {start:?}");
            let mine = Origin::default().produce();
            let late = Shared::default();
            let waiting: Shared<PeerRequest> = late.clone();
            let decide = move |request: PeerRequest| match request.kind() {
                PeerRequestKind::Announcements => request.accept(),
                _ => waiting.lock().unwrap().push(request),
            };
            let server = Server::new().with_publish(mine.consume());
            let (mut incoming, server) = server.incoming(version, Instant::ZERO);
            if let Some(draft) = Draft::of(version) {
                // This end updates no subscription on these versions, so that the test writes the messages.
                let mut driver = server;
                let has_streams = version >= Version::Moqt17;
                let setup = Setup { max_request_id: 100, solicit: true, ..Setup::default() };
                let setup = Message::setup(setup, Side::Client, draft);
                let dir = if has_streams { Dir::Uni } else { Dir::Bi };
                open(&mut driver, version, dir, 0, setup);
                assert_eq!(incoming.try_ready(), Poll::Ready(Ok(())));
                let _session = incoming.with_decisions(decide).accept();
                while driver.work(Instant::ZERO) {}
                let from = |group| Some(Filter::From(Location::new(group, 0)));
                let new_group = Some(3).filter(|_| version > Version::Moqt14);
                let first = Parameters {
                    filter: from(8),
                    priority: Some(1),
                    new_group,
                    ..Parameters::default()
                };
                open(&mut driver, version, Dir::Bi, 0, subscribe(0, "video", first));
                let driver = RefCell::new(driver);
                // Any other filter than one with numbers has no start. 14 has no such update.
                let filter = match (start, version) {
                    (None, Version::Moqt14) => continue,
                    (start, _) => start.map_or(Some(Filter::NextObject), from),
                };
                let (existing, mut id) = ((!has_streams).then_some(0), 0);
                let mut settle = || while driver.borrow_mut().work(Instant::ZERO) {};
                let mut update = |priority| {
                    let priority = Some(priority);
                    let parameters = Parameters { filter, priority, ..Parameters::default() };
                    id += 2;
                    let update = Message::RequestUpdate(RequestUpdate { id, existing, parameters });
                    open(&mut driver.borrow_mut(), version, Dir::Bi, 0, update);
                };
                let found = updated(wait, &mine, &late, &mut settle, &mut update);
                assert_eq!(found, (9, start, new_group.is_some()), "{version} {wait:?}");
                continue;
            }
            // Earlier versions are sent no update, and a reader of this model always has a start after it had one.
            if version < Version::Lite05 || start.is_none() {
                continue;
            }
            let theirs = Origin::default().produce();
            let client = Client::new().with_consume(theirs.clone());
            let (session, client) = client.connect(version, Instant::ZERO);
            let mut pair = Pair::new(client, server, Link::wide(3));
            pair.advance(Duration::from_millis(800));
            assert_eq!(incoming.try_ready(), Poll::Ready(Ok(())));
            let _session = incoming.with_decisions(decide).accept();
            pair.advance(Duration::from_millis(800));
            let live = session.request_broadcast("live").unwrap();
            let first = Subscription::default().priority(1).start(8);
            let mut reader = live.subscribe_track("video", first.clone()).unwrap();
            let mut settle = || pair.advance(Duration::from_millis(800));
            let mut update = |priority| reader.update(first.clone().priority(priority).start(3));
            let found = updated(wait, &mine, &late, &mut settle, &mut update);
            assert_eq!(found, (9, start, false), "{version} {wait:?}");
        }
    }
}
