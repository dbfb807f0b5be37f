//! Groups of one frame in datagrams, from a publisher through a relay to a subscriber.

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;

use smoq::sim::{Link, Pair};
use smoq::{
    BroadcastProducer, Client, Driver, Error, Instant, Limits, Origin, Server, Session,
    Subscription, Timestamp, Track, TrackConsumer, TrackProducer, Version, Versions,
};

/// A publisher, a relay, and a subscriber at the relay.
struct World {
    up: Pair<Driver, Driver>,
    down: Pair<Driver, Driver>,
    track: TrackProducer,
    reader: TrackConsumer,
    _broadcast: BroadcastProducer,
    sessions: Vec<Session>,
}

impl World {
    fn new(versions: [Version; 2], links: [Link; 2]) -> Self {
        let [up, down] = versions;
        let [publisher, relay, subscriber] = [(); 3].map(|()| Origin::default().produce());
        let mut broadcast = publisher.create_broadcast("live").unwrap();
        let track = broadcast.create_track(Track::new("video")).unwrap();
        let client = Client::new().with_publish(publisher.consume());
        let (a, publisher) = client.connect(up, Instant::ZERO);
        let (b, relay_up) = Server::new().with_origin(&relay).accept(up, Instant::ZERO);
        let (c, relay_down) = Client::new().with_origin(&relay).connect(down, Instant::ZERO);
        let server = Server::new().with_consume(subscriber.clone());
        let (d, driver) = server.accept(down, Instant::ZERO);
        let [up_link, down_link] = links;
        let mut up = Pair::new(publisher, relay_up, up_link);
        let mut down = Pair::new(relay_down, driver, down_link);
        advance(&mut up, &mut down, 300);
        let seen = subscriber.consume().broadcast("live").expect("the broadcast was announced");
        let want = Subscription::default().max_age(Duration::from_secs(60));
        let reader = seen.subscribe_track("video", want).unwrap();
        advance(&mut up, &mut down, 300);
        let sessions = vec![a, b, c, d];
        Self { up, down, track, reader, _broadcast: broadcast, sessions }
    }

    fn advance(&mut self, millis: u64) {
        advance(&mut self.up, &mut self.down, millis);
    }

    /// The timestamp and payload of each received frame, by sequence.
    fn received(&mut self) -> BTreeMap<u64, Vec<(Timestamp, Vec<u8>)>> {
        let mut groups = BTreeMap::new();
        while let Poll::Ready(Ok(Some(mut group))) = self.reader.try_recv_group() {
            let mut frames = vec![];
            while let Poll::Ready(Ok(Some(frame))) = group.try_read_frame() {
                frames.push((frame.timestamp(), frame.payload().to_vec()));
            }
            assert!(group.try_finished().is_ready());
            assert!(groups.insert(group.sequence(), frames).is_none());
        }
        groups
    }

    /// The number of datagrams sent over each of the links.
    fn sent(&self) -> [usize; 2] {
        let count =
            |lines: &[String]| lines.iter().filter(|it| it.contains("-> datagram ")).count();
        [count(self.up.trace().lines()), count(self.down.trace().lines())]
    }
}

fn advance(up: &mut Pair<Driver, Driver>, down: &mut Pair<Driver, Driver>, millis: u64) {
    for _ in 0..millis {
        up.advance(Duration::from_millis(1));
        down.advance(Duration::from_millis(1));
    }
}

fn has_datagrams(version: Version) -> bool {
    version >= Version::Lite05
}

/// Up to draft 16 of moq-transport objects have no timestamps that peers understand.
fn has_timestamps(version: Version) -> bool {
    has_datagrams(version) && !(Version::Moqt14..=Version::Moqt16).contains(&version)
}

fn payload(n: u64) -> Vec<u8> {
    vec![n as u8; 10 + n as usize * 20]
}

#[test]
fn a_relay_forwards_datagrams_as_datagrams() {
    for up in Versions::default().iter() {
        for down in Versions::default().iter() {
            let link = if up < down { Link::perfect() } else { Link::wide(3) };
            let link = link.datagrams(1_200, 0);
            let mut world = World::new([up, down], [link.clone(), link.clone()]);
            for n in 0..10 {
                world.track.write_datagram(n * 5, payload(n)).unwrap();
            }
            world.advance(300);
            let received = world.received();
            assert!(received.keys().copied().eq(0..10), "{up} {down}: {received:?}");
            for (n, frames) in &received {
                assert_eq!(frames.len(), 1);
                assert_eq!(frames[0].1, payload(*n));
                if has_timestamps(up) && has_timestamps(down) {
                    assert_eq!(frames[0].0, Timestamp::new(n * 5));
                }
            }
            let expected = [
                if has_datagrams(up) { 10 } else { 0 },
                // A group that arrives on a stream is forwarded on a stream.
                if has_datagrams(up) && has_datagrams(down) { 10 } else { 0 },
            ];
            assert_eq!(world.sent(), expected, "{up} {down}");
        }
    }
}

/// Each link decides for itself: a group that is too large for a datagram goes on a stream.
#[test]
fn a_group_too_large_for_a_datagram_goes_on_a_stream() {
    for version in Versions::default().iter().filter(|version| has_datagrams(*version)) {
        for (max, sent) in [([1_200, 100], [10, 5]), ([0, 1_200], [0, 0]), ([100, 0], [5, 0])] {
            let links = max.map(|max| Link::wide(3).datagrams(max, 0));
            let mut world = World::new([version; 2], links);
            for n in 0..10 {
                world.track.write_datagram(n, payload(n)).unwrap();
            }
            world.advance(300);
            let received = world.received();
            assert!(received.keys().copied().eq(0..10), "{received:?}");
            assert!(received.iter().all(|(n, frames)| frames[0].1 == payload(*n)));
            assert_eq!(world.sent(), sent);
        }
        // Larger than any datagram, and larger than a small group.
        let mut world =
            World::new([version; 2], [(); 2].map(|()| Link::wide(1).datagrams(9_000, 0)));
        world.track.write_datagram(0, vec![1; 200_000]).unwrap();
        world.advance(300);
        assert_eq!(world.received()[&0][0].1.len(), 200_000);
        assert_eq!(world.sent(), [0, 0]);
    }
}

/// A lost datagram is not requested again, and delays the end no longer than a straggler does.
#[test]
fn lost_datagrams_leave_gaps() {
    for version in Versions::default().iter().filter(|version| has_datagrams(*version)) {
        let mut world = World::new([version; 2], [0, 1].map(|n| Link::wide(n).datagrams(1_200, 4)));
        for n in 0..40 {
            world.track.write_datagram(n, vec![n as u8]).unwrap();
            if n % 10 == 9 {
                world.advance(5);
            }
        }
        world.track.finish().unwrap();
        world.advance(3_000);
        let received = world.received();
        assert!((10..40).contains(&received.len()), "{} came", received.len());
        assert!(received.iter().all(|(n, frames)| frames[0].1 == [*n as u8]));
        // moq-transport does not say which group was the last, so that one may be missing unnoticed.
        let latest = received.keys().last().map_or(0, |latest| latest + 1);
        let end = if version >= Version::Moqt14 { latest } else { 40 };
        assert_eq!(world.reader.try_finished(), Poll::Ready(Ok(end)), "{version}");
        assert!(matches!(world.reader.try_recv_group(), Poll::Ready(Ok(None))));
        assert!(world.sessions.iter().all(|session| session.stats().lost_datagrams == 0));
    }
}

/// Groups and datagrams share the sequence numbers of the track.
#[test]
fn datagrams_are_numbered_with_the_groups() {
    let link = Link::perfect().datagrams(1_200, 0);
    let mut world = World::new([Version::Lite06; 2], [link.clone(), link]);
    world.track.write_datagram(0, "a").unwrap();
    world.track.write_frame(1, "b").unwrap();
    world.track.write_datagram(2, "c").unwrap();
    world.advance(100);
    assert_eq!(world.track.latest(), Some(2));
    assert!(world.received().keys().copied().eq(0..3));
    assert_eq!(world.sent(), [2, 2]);
    // Late joiners find them in the cache, and receive them as well.
    assert_eq!(world.reader.latest_frame().unwrap().payload(), b"c");
    world.track.finish().unwrap();
    assert_eq!(world.track.write_datagram(3, "d"), Err(Error::Closed));
}

#[test]
fn a_datagram_is_subject_to_the_limits_of_a_frame() {
    let mut limits = Limits::default();
    limits.frame_bytes = 5;
    let mut track = Track::new("video").produce_within(limits);
    assert_eq!(track.write_datagram(0, "12345"), Ok(()));
    assert_eq!(track.write_datagram(0, "123456"), Err(Error::FrameTooLarge));
    let mut reader = track.consume();
    reader.start_at(0);
    let Poll::Ready(Ok(Some(frame))) = reader.try_read_frame() else { panic!() };
    assert_eq!(frame.payload(), b"12345");
}

/// Datagrams that become too old on a slow link are skipped.
#[test]
fn datagrams_that_wait_too_long_are_skipped() {
    let mut slow = Link::perfect().datagrams(1_200, 0);
    slow.bandwidth = Some(20);
    let fast = Link::perfect().datagrams(1_200, 0);
    let mut world = World::new([Version::Lite06; 2], [slow, fast]);
    world.reader.update(Subscription::default().max_age(Duration::from_millis(100)));
    world.advance(200);
    for n in 0..60 {
        world.track.write_datagram(n * 10, vec![n as u8; 1_000]).unwrap();
        world.advance(10);
    }
    world.advance(2_000);
    let received = world.received();
    assert!(received.contains_key(&59), "the newest arrives: {:?}", received.keys());
    assert!(received.len() < 30, "{} came", received.len());
    let skipped = world.sessions[0].stats().skipped_groups;
    assert_eq!(received.len() as u64 + skipped, 60, "{:?}", received.keys());
}
