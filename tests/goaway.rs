//! GOAWAY between sessions on a virtual clock: sessions that leave, sessions that stay, and their readers.

mod net;

use std::task::Poll;
use std::time::Duration;

use net::{Net, received};
use smoq::coding::lite::Announce;
use smoq::sim::{Link, Pair, Wakes};
use smoq::{
    BroadcastProducer, Client, CloseReason, Driver, Error, Goaway, GroupConsumer, Hop, Instant,
    LimitKind, Origin, OriginProducer, Server, Session, Subscription, Track, TrackConsumer,
    TrackProducer, Version,
};

fn every_version() -> impl Iterator<Item = Version> {
    Version::ALL.into_iter().chain(Version::WIP)
}

/// Whether the version has GOAWAY.
fn has_goaway(version: Version) -> bool {
    !matches!(version, Version::Lite01 | Version::Lite02 | Version::Lite03)
}

/// Whether announcements carry hops, so that two routes are known to lead to the same content.
fn announces_hops(version: Version) -> bool {
    has_goaway(version) && version < Version::Moqt14
}

fn everything() -> Subscription {
    Subscription::default().max_age(Duration::MAX).start(0)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A publisher, a reader, and one or two sessions between them.
struct World {
    /// The reader is the client.
    pairs: Vec<Pair<Driver, Driver>>,
    readers: Vec<Session>,
    publishers: Vec<Session>,
    origin: OriginProducer,
    seen: OriginProducer,
    _broadcast: BroadcastProducer,
    track: TrackProducer,
}

impl World {
    fn new(version: Version, sessions: usize) -> Self {
        Self::over(version, sessions, 0)
    }

    /// With links on which later data may arrive up to this many milliseconds earlier.
    fn over(version: Version, sessions: usize, jitter: u64) -> Self {
        let [origin, seen] = [7, 8].map(|hop| Origin::new(Hop::new(hop)).produce());
        let mut broadcast = origin.create_broadcast("live").unwrap();
        let track = broadcast.create_track(Track::new("video").max_age(seconds(60))).unwrap();
        let (pairs, readers, publishers) = Default::default();
        let mut world =
            Self { pairs, readers, publishers, origin, seen, _broadcast: broadcast, track };
        for _ in 0..sessions {
            let client = Client::new().with_consume(world.seen.clone());
            let server = Server::new().with_publish(world.origin.consume());
            let (reader, client) = client.connect(version, Instant::ZERO);
            let (publisher, server) = server.accept(version, Instant::ZERO);
            world.readers.push(reader);
            world.publishers.push(publisher);
            let mut link = if jitter > 0 { Link::wide(jitter) } else { Link::perfect() };
            link.latency = Duration::from_millis(5);
            link.jitter = Duration::from_millis(jitter);
            world.pairs.push(Pair::new(client, server, link));
        }
        world.advance(500);
        world
    }

    fn advance(&mut self, millis: u64) {
        for _ in 0..millis.div_ceil(5) {
            self.pairs.iter_mut().for_each(|pair| pair.advance(Duration::from_millis(5)));
        }
    }

    fn subscribe(&self) -> TrackConsumer {
        let broadcast = self.seen.consume().broadcast("live").expect("it was announced");
        broadcast.subscribe_track("video", everything()).unwrap()
    }

    /// The index of the session that serves the reader.
    fn serving(&self) -> usize {
        let reads = |session: &Session| session.gauges().reading > 0;
        let busy: Vec<_> = (0..self.readers.len()).filter(|it| reads(&self.readers[*it])).collect();
        assert_eq!(busy.len(), 1, "one session serves at a time");
        busy[0]
    }
}

/// The groups that a reader received, in order.
#[derive(Default)]
struct Read(Vec<GroupConsumer>);

impl Read {
    fn more(&mut self, reader: &mut TrackConsumer) {
        self.0.extend(received(reader));
    }

    /// Checks that each group arrived once and whole.
    fn check(&mut self, groups: u64, what: &str) {
        self.0.sort_by_key(GroupConsumer::sequence);
        let sequences = self.0.iter().map(GroupConsumer::sequence);
        assert!(sequences.clone().eq(0..groups), "{what}: {:?}", sequences.collect::<Vec<_>>());
        for group in &mut self.0 {
            let frame = group.try_read_frame();
            assert!(matches!(frame, Poll::Ready(Ok(Some(_)))), "{what}: {frame:?}");
            let end = std::iter::repeat_with(|| group.try_read_frame())
                .find(|next| !matches!(next, Poll::Ready(Ok(Some(_)))));
            assert!(matches!(end, Some(Poll::Ready(Ok(None)))), "{what}: {end:?}");
        }
    }
}

/// With two routes to the same content the reader moves to the other one and loses nothing, not even part
/// of an open group. Then the session ends, cleanly and long before the deadline.
#[test]
fn a_reader_moves_to_the_other_session() {
    for version in every_version().filter(|it| announces_hops(*it)) {
        // It makes no difference which side leaves.
        for (reader_goes, jitter) in [(false, 0), (true, 0), (false, 30), (true, 25)] {
            let what = format!("{version}, {reader_goes}, {jitter}");
            let mut world = World::over(version, 2, jitter);
            let mut announced = world.seen.consume();
            assert!(announced.try_announced().is_ready());
            let mut reader = world.subscribe();
            let mut read = Read::default();
            let mut open = None;
            let mut old = 0;
            for n in 0..60 {
                match n {
                    15 => {
                        let mut group = world.track.append_group().unwrap();
                        group.write_frame(n, "early").unwrap();
                        open = Some(group);
                    }
                    20 => {
                        old = world.serving();
                        let sessions = if reader_goes { &world.readers } else { &world.publishers };
                        sessions[old].go_away(Goaway::default().timeout(seconds(30))).unwrap();
                    }
                    40 => {
                        let mut open = open.take().unwrap();
                        open.write_frame(n, "late").unwrap();
                        open.finish().unwrap();
                    }
                    _ => world.track.write_frame(n, "x").unwrap(),
                }
                world.advance(10);
                read.more(&mut reader);
            }
            world.advance(200);
            read.more(&mut reader);
            read.check(58, &what);
            assert!(announced.try_announced().is_pending(), "{what}: the broadcast stays the same");
            assert_eq!(world.serving(), 1 - old, "{what}");
            for session in [&mut world.readers[old], &mut world.publishers[old]] {
                let closed = session.try_closed();
                assert_eq!(closed, Poll::Ready(CloseReason::Clean), "{what}");
            }
            let other = [&mut world.readers[1 - old], &mut world.publishers[1 - old]];
            assert!(other.into_iter().all(|session| session.try_closed().is_pending()));
        }
    }
}

/// A relay with two sources moves its readers, and they do not notice.
#[test]
fn a_relay_moves_its_readers_to_the_other_route() {
    for version in every_version().filter(|it| announces_hops(*it)) {
        let what = version.to_string();
        // A publisher, two relays connected to it, a relay that dials both, and a reader of that one.
        let mut net = Net::new(5);
        for (a, b) in [(0, 1), (0, 2), (3, 1), (3, 2), (3, 4)] {
            net.link(a, b, version);
        }
        let mut broadcast = net.origins[0].create_broadcast("live").unwrap();
        let mut track = broadcast.create_track(Track::new("video")).unwrap();
        net.advance(500);
        let mut announced = net.origins[4].consume();
        let Poll::Ready(Some(announce)) = announced.try_announced() else { panic!("{what}") };
        let live = announce.broadcast.unwrap();
        let mut reader = live.subscribe_track("video", everything()).unwrap();
        net.advance(500);
        let old = [2, 3].into_iter().find(|link| net.subscribed(*link)).unwrap();
        let mut read = Read::default();
        for n in 0..100 {
            if n == 20 {
                net.session(old, old - 1).go_away(Goaway::default().uri("moqt://b")).unwrap();
            }
            if n < 60 {
                track.write_frame(n, "x").unwrap();
            }
            net.advance(10);
            read.more(&mut reader);
        }
        read.check(60, &what);
        assert!(announced.try_announced().is_pending(), "{what}: no end is announced");
        let received = net.session(old, 3).try_going_away();
        assert_eq!(received, Poll::Ready(Ok(Goaway::default().uri("moqt://b"))), "{what}");
        for node in [old - 1, 3] {
            let closed = net.session(old, node).try_closed();
            assert_eq!(closed, Poll::Ready(CloseReason::Clean), "{what}");
        }
        assert!(net.subscribed(5 - old) && !net.subscribed(old - 2), "{what}");
    }
}

/// A publisher that received GOAWAY dials again before it leaves. It was not restarted, so no end is
/// announced, at the relay or after it.
#[test]
fn a_publisher_that_dials_again_after_goaway_has_the_same_broadcast() {
    for version in every_version().filter(|it| announces_hops(*it)) {
        for publisher_leaves in [false, true] {
            let mut net = Net::new(3);
            let old = net.link(0, 1, version);
            net.link(2, 1, version);
            let mut broadcast = net.origins[0].create_broadcast("live").unwrap();
            let mut track = broadcast.create_track(Track::new("video")).unwrap();
            net.advance(500);
            let mut viewers = [1, 2].map(|node| {
                let mut announced = net.origins[node].consume();
                let Poll::Ready(Some(announce)) = announced.try_announced() else {
                    panic!("{version}")
                };
                let live = announce.broadcast.unwrap();
                let reader = live.subscribe_track("video", everything()).unwrap();
                (announced, reader, Read::default())
            });
            net.advance(500);
            for n in 0..60 {
                match n {
                    20 => {
                        let node = usize::from(!publisher_leaves);
                        let goaway = Goaway::default().timeout(seconds(30));
                        net.session(old, node).go_away(goaway).unwrap();
                    }
                    25 => _ = net.link(0, 1, version),
                    _ => {}
                }
                track.write_frame(n, "x").unwrap();
                net.advance(10);
                viewers.iter_mut().for_each(|(_, reader, read)| read.more(reader));
            }
            net.advance(200);
            for (announced, reader, read) in &mut viewers {
                read.more(reader);
                let what = format!("{version}, {publisher_leaves}");
                read.check(60, &what);
                assert!(announced.try_announced().is_pending(), "{what}: no end is announced");
            }
            let closed = net.session(old, 1).try_closed();
            assert_eq!(closed, Poll::Ready(CloseReason::Clean), "{version}");
        }
    }
}

/// A later announcement of the peer does not improve the routes of a session that leaves.
#[test]
fn a_route_of_a_leaving_session_stays_the_last_choice() {
    for version in every_version().filter(|it| announces_hops(*it)) {
        // 0 publishes. It is two links away from relay 1 and three from relay 2. Node 3 is connected to
        // both.
        let mut net = Net::new(8);
        for (a, b) in [(0, 5), (5, 1), (0, 6), (6, 7), (7, 2), (3, 1), (3, 2), (3, 4)] {
            net.link(a, b, version);
        }
        let _live = net.origins[0].create_broadcast("live").unwrap();
        // Its hop is unknown, so no other route to its content is known and it keeps the session.
        let nameless = net.add(Hop::UNKNOWN);
        net.link(nameless, 1, version);
        let mut other = net.origins[nameless].create_broadcast("other").unwrap();
        let _other = other.create_track("video").unwrap();
        net.advance(2_000);
        let reader = net.origins[3].consume().broadcast("other").unwrap();
        let _reader = reader.subscribe_track("video", everything()).unwrap();
        net.advance(100);
        net.session(5, 1).go_away(Goaway::default().timeout(seconds(30))).unwrap();
        net.advance(1_000);
        let is_new = |net: &mut Net| {
            let mut announced_to_4 =
                net.announced().into_iter().filter(|(from, to, _)| (*from, *to) == (3, 4));
            announced_to_4.any(|(.., messages)| {
                messages.iter().any(|message| match message {
                    Announce::Active { hops, .. } | Announce::Update { hops, .. } => {
                        hops.as_slice().first() == Some(&Hop::new(1))
                    }
                    Announce::Ended { .. } | Announce::EndedId { .. } => false,
                })
            })
        };
        assert!(is_new(&mut net), "{version}: 4 learns of the other route");
        net.link(0, 1, version);
        net.advance(2_000);
        assert!(!is_new(&mut net), "{version}");
        assert!(net.session(5, 3).try_closed().is_pending());
    }
}

/// Without another route, running subscriptions continue, new requests are refused, and at the deadline the
/// session ends.
#[test]
fn a_peer_that_stays_is_closed_at_the_deadline() {
    for version in every_version() {
        let mut world = World::new(version, 1);
        let mut reader = world.subscribe();
        world.advance(100);
        let goaway = Goaway::default().timeout(seconds(3));
        world.publishers[0].go_away(goaway.clone()).unwrap();
        world.advance(100);
        let received = world.readers[0].try_going_away();
        match (has_goaway(version), version) {
            (false, _) => assert!(received.is_pending(), "{version}"),
            (true, _) if version >= Version::Moqt17 => {
                assert_eq!(received, Poll::Ready(Ok(goaway)), "{version}")
            }
            (true, _) => assert_eq!(received, Poll::Ready(Ok(Goaway::default())), "{version}"),
        }
        let broadcast = world.seen.consume().broadcast("live").expect("the broadcast still exists");
        let mut refused = broadcast.subscribe_track("audio", everything()).unwrap();
        let mut read = Read::default();
        for n in 0..20 {
            world.track.write_frame(n, "x").unwrap();
            world.advance(100);
            read.more(&mut reader);
        }
        read.check(20, &version.to_string());
        let refused = refused.try_recv_group();
        assert!(matches!(refused, Poll::Ready(Err(Error::GoingAway))), "{version}: {refused:?}");
        assert!(world.readers[0].try_closed().is_pending());
        world.advance(1_000);
        let late = Poll::Ready(CloseReason::Error(Error::GoawayTimeout));
        assert_eq!(world.publishers[0].try_closed(), late, "{version}");
        assert_eq!(world.readers[0].try_closed(), late, "{version}");
        assert!(matches!(reader.try_recv_group(), Poll::Ready(Err(Error::SessionClosed))));
    }
}

/// If two routes are not known to lead to the same content, running subscriptions stay on the old one and
/// new ones use the other.
#[test]
fn new_readers_take_the_other_session() {
    for version in [Version::Moqt16, Version::Moqt18] {
        let mut world = World::new(version, 2);
        let mut first = world.subscribe();
        world.advance(100);
        let old = world.serving();
        world.publishers[old].go_away(Goaway::default().timeout(seconds(3))).unwrap();
        world.advance(100);
        let mut second = world.subscribe();
        world.advance(100);
        let reading: Vec<_> = world.readers.iter().map(|it| it.gauges().reading).collect();
        assert_eq!(reading, [1, 1], "{version}");
        let mut read = [Read::default(), Read::default()];
        for n in 0..20 {
            world.track.write_frame(n, "x").unwrap();
            world.advance(100);
            read[0].more(&mut first);
            read[1].more(&mut second);
        }
        read.iter_mut().for_each(|read| read.check(20, &version.to_string()));
        world.advance(1_000);
        assert_eq!(
            world.readers[old].try_closed(),
            Poll::Ready(CloseReason::Error(Error::GoawayTimeout))
        );
        world.track.write_frame(20, "x").unwrap();
        world.advance(100);
        assert_eq!(received(&mut second).len(), 1, "{version}");
    }
}

/// The session ends with its last subscription, whichever side leaves. `drain` and the drop of the last
/// clone hasten the end. Pending announcements are still sent.
#[test]
fn a_leaving_session_ends_with_its_last_subscription() {
    for version in every_version() {
        for how in 0..3 {
            let mut world = World::new(version, 1);
            let mut reader = world.subscribe();
            world.advance(100);
            world.publishers[0].go_away(Goaway::default()).unwrap();
            let mut publisher = world.publishers.pop().unwrap();
            match how {
                0 => {
                    world.advance(5_000);
                    assert!(publisher.try_closed().is_pending(), "{version}");
                    world.track.write_frame(0, "x").unwrap();
                    world.advance(100);
                    assert_eq!(received(&mut reader).len(), 1, "{version}");
                    drop(reader);
                }
                1 => publisher.drain(),
                _ => drop(publisher),
            }
            world.advance(2_500);
            let mut session = world.readers.pop().unwrap();
            assert_eq!(session.try_closed(), Poll::Ready(CloseReason::Clean), "{version} {how}");
            let received = session.try_going_away();
            match has_goaway(version) {
                true => {
                    assert!(matches!(received, Poll::Ready(Ok(_))), "{version} {how}: {received:?}")
                }
                false => assert_eq!(received, Poll::Ready(Err(Error::SessionClosed)), "{version}"),
            }
        }
    }
}

/// Every clone that waits for GOAWAY is woken, and GOAWAY stays known.
#[test]
fn waiters_for_goaway_are_woken_once_each() {
    let mut world = World::new(Version::Lite06, 1);
    let mut sessions = [world.readers[0].clone(), world.readers[0].clone()];
    let wakes = [(); 2].map(|()| Wakes::new());
    for (session, wakes) in sessions.iter_mut().zip(&wakes) {
        assert!(session.poll_going_away(&mut wakes.context()).is_pending());
    }
    world.publishers[0].go_away(Goaway::default().uri("moqt://b")).unwrap();
    world.advance(10);
    assert!(wakes.iter().all(|wakes| wakes.count() == 1));
    let received = Poll::Ready(Ok(Goaway::default().uri("moqt://b")));
    for session in &mut sessions {
        assert_eq!(session.try_going_away(), received);
    }
    world.advance(2_000);
    assert!(sessions[0].try_closed().is_ready());
    assert_eq!(sessions[0].try_going_away(), received);
    assert!(matches!(world.publishers[0].try_going_away(), Poll::Ready(Err(_))));
}

/// An invalid GOAWAY is refused and has no effect.
#[test]
fn invalid_goaway_messages_are_refused() {
    let mut world = World::new(Version::Lite06, 1);
    let uri = |len: usize| Goaway::default().uri("x".repeat(len));
    let long = Error::Limit(LimitKind::UriBytes);
    assert_eq!(world.publishers[0].go_away(uri(Goaway::MAX_URI + 1)), Err(long.clone()));
    assert_eq!(world.readers[0].go_away(uri(Goaway::MAX_URI + 1)), Err(long));
    assert_eq!(world.readers[0].go_away(uri(1)), Err(Error::Unsupported));
    let _reader = world.subscribe();
    world.advance(500);
    assert!(world.readers[0].try_going_away().is_pending());
    assert_eq!(world.serving(), 0);
    assert_eq!(world.readers[0].go_away(uri(0)), Ok(()));
    assert_eq!(world.publishers[0].go_away(uri(Goaway::MAX_URI)), Ok(()));
    // A second GOAWAY is not sent.
    assert_eq!(world.publishers[0].go_away(Goaway::default().timeout(seconds(2))), Ok(()));
    world.advance(500);
    assert_eq!(world.publishers[0].try_going_away(), Poll::Ready(Ok(Goaway::default())));
    assert_eq!(world.readers[0].try_going_away(), Poll::Ready(Ok(uri(Goaway::MAX_URI))));
    world.advance(1_510);
    assert_eq!(
        world.readers[0].try_closed(),
        Poll::Ready(CloseReason::Error(Error::GoawayTimeout))
    );
}
