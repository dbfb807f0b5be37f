//! A client that dials again after its session was lost: readers wait, and go on in the next session.

mod net;

use std::task::Poll;
use std::time::Duration;

use net::received;
use smoq::sim::{Link, Pair};
use smoq::{
    BroadcastProducer, Client, Driver, Error, Goaway, Hop, Instant, Origin, OriginConsumer,
    OriginProducer, Retained, Server, Session, Subscription, Track, TrackConsumer, TrackProducer,
    Version,
};

fn every_version() -> impl Iterator<Item = Version> {
    Version::ALL.into_iter().chain(Version::WIP)
}

/// Whether announcements carry hops, so that the content can be recognized.
fn announces_hops(version: Version) -> bool {
    (Version::Lite04..Version::Moqt14).contains(&version)
}

/// A server, a client that reads from it, and their sessions one after the other.
struct World {
    version: Version,
    now: u64,
    server: OriginProducer,
    client: Client,
    retained: Retained,
    seen: OriginProducer,
    pair: Option<(Pair<Driver, Driver>, [Session; 2])>,
}

impl World {
    fn new(version: Version) -> Self {
        let [server, seen] = [7, 8].map(|hop| Origin::new(Hop::new(hop)).produce());
        let retained = Retained::new();
        let client = Client::new().with_consume(seen.clone()).with_retained(&retained);
        let mut world = Self { version, now: 0, server, client, retained, seen, pair: None };
        world.dial();
        world
    }

    fn dial(&mut self) {
        let now = Instant::from_millis(self.now);
        let (near, client) = self.client.connect(self.version, now);
        let server = Server::new().with_publish(self.server.consume());
        let (far, server) = server.accept(self.version, now);
        let mut link = Link::perfect();
        link.latency = Duration::from_millis(5);
        let mut pair = Pair::new(client, server, link);
        pair.advance(Duration::from_millis(self.now));
        self.pair = Some((pair, [near, far]));
        self.advance(200);
    }

    fn advance(&mut self, millis: u64) {
        self.now += millis;
        if let Some((pair, _)) = &mut self.pair {
            pair.advance(Duration::from_millis(millis));
        }
    }

    /// Both ends lose the connection.
    fn cut(&mut self) {
        let (mut pair, _sessions) = self.pair.take().unwrap();
        pair.disconnect();
        pair.run_until_idle();
    }

    fn live(&self) -> (BroadcastProducer, TrackProducer) {
        let mut broadcast = self.server.create_broadcast("live").unwrap();
        let track = Track::new("video").max_age(Duration::from_secs(60));
        let track = broadcast.create_track(track).unwrap();
        (broadcast, track)
    }

    fn reader(&self) -> (OriginConsumer, TrackConsumer) {
        let mut announced = self.seen.consume();
        let Poll::Ready(Some(announce)) = announced.try_announced() else {
            panic!("not announced")
        };
        let want = Subscription::default().max_age(Duration::MAX).start(0);
        let reader = announce.broadcast.unwrap().subscribe_track("video", want).unwrap();
        (announced, reader)
    }
}

fn sequences(reader: &mut TrackConsumer) -> Vec<u64> {
    received(reader).iter().map(|group| group.sequence()).collect()
}

/// The reader of a track goes on, with what was written during the gap. No end is announced.
#[test]
fn a_reader_goes_on_in_the_next_session() {
    for version in every_version().filter(|version| announces_hops(*version)) {
        let mut world = World::new(version);
        let (_broadcast, mut track) = world.live();
        track.write_frame(0, "a").unwrap();
        world.advance(200);
        let (mut announced, mut reader) = world.reader();
        world.advance(200);
        assert_eq!(sequences(&mut reader), [0], "{version}");
        for gap in 1..4 {
            world.cut();
            assert_eq!(world.retained.len(), 1, "{version}");
            // Nobody has the track now. A reader that comes meanwhile waits as well.
            let other = world.seen.consume().broadcast("live").unwrap();
            let mut other = other.subscribe_track("video", Subscription::default()).unwrap();
            track.write_frame(gap, "b").unwrap();
            assert!(reader.try_recv_group().is_pending(), "{version}");
            assert!(announced.try_announced().is_pending(), "{version}");
            world.dial();
            assert!(world.retained.is_empty(), "{version}");
            assert_eq!(sequences(&mut reader), [gap], "{version}");
            assert_eq!(sequences(&mut other).last(), Some(&gap), "{version}");
            assert!(announced.try_announced().is_pending(), "{version}: no end");
        }
    }
}

/// The client is a relay, and the reader dialed it.
#[test]
fn a_reader_after_a_relay_goes_on() {
    for version in every_version().filter(|version| announces_hops(*version)) {
        let mut world = World::new(version);
        let (_broadcast, mut track) = world.live();
        let far = Origin::new(Hop::new(9)).produce();
        let now = Instant::from_millis(world.now);
        let client = Client::new().with_consume(far.clone());
        let server = Server::new().with_publish(world.seen.consume());
        let ((_near, client), (_far, server)) =
            (client.connect(version, now), server.accept(version, now));
        let mut viewer = Pair::new(client, server, Link::perfect());
        let mut advance = |world: &mut World, millis| {
            for _ in 0..millis / 10 {
                world.advance(10);
                viewer.advance(Instant::from_millis(world.now).since(viewer.now()));
            }
        };
        advance(&mut world, 500);
        let mut announced = far.consume();
        let Poll::Ready(Some(live)) = announced.try_announced() else { panic!("{version}") };
        let want = Subscription::default().max_age(Duration::MAX).start(0);
        let mut reader = live.broadcast.unwrap().subscribe_track("video", want).unwrap();
        advance(&mut world, 200);
        for gap in 0..3 {
            world.cut();
            advance(&mut world, 1_000);
            track.write_frame(gap, "x").unwrap();
            world.dial();
            advance(&mut world, 500);
            assert_eq!(sequences(&mut reader), [gap], "{version}");
            assert!(announced.try_announced().is_pending(), "{version}: no end");
        }
    }
}

/// The rest of a group that was open is fetched.
#[test]
fn an_open_group_is_completed() {
    for version in every_version().filter(|version| announces_hops(*version)) {
        let mut world = World::new(version);
        let (_broadcast, mut track) = world.live();
        let mut group = track.append_group().unwrap();
        group.write_frame(0, "early").unwrap();
        world.advance(200);
        let (_announced, mut reader) = world.reader();
        world.advance(200);
        let [mut open] = <[_; 1]>::try_from(received(&mut reader)).unwrap();
        assert!(matches!(open.try_read_frame(), Poll::Ready(Ok(Some(_)))), "{version}");
        world.cut();
        group.write_frame(1, "late").unwrap();
        group.finish().unwrap();
        world.dial();
        world.advance(500);
        let late = open.try_read_frame();
        if version >= Version::Lite05 {
            let Poll::Ready(Ok(Some(late))) = late else { panic!("{version}: {late:?}") };
            assert_eq!(late.payload(), b"late");
            assert!(matches!(open.try_read_frame(), Poll::Ready(Ok(None))), "{version}");
        } else {
            assert!(matches!(late, Poll::Ready(Err(_))), "{version}: {late:?}");
        }
    }
}

/// As without a successor: the broadcast ends, and its reader gets the reason.
#[test]
fn what_is_released_ends() {
    for version in every_version() {
        let mut world = World::new(version);
        let (_broadcast, _track) = world.live();
        world.advance(200);
        let (mut announced, mut reader) = world.reader();
        world.advance(200);
        world.cut();
        assert_eq!(!world.retained.is_empty(), announces_hops(version), "{version}");
        world.retained.release();
        assert!(world.retained.is_empty());
        let end = announced.try_announced();
        let Poll::Ready(Some(end)) = end else { panic!("{version}: {end:?}") };
        assert!(end.broadcast.is_none(), "{version}");
        let end = reader.try_recv_group().map(Result::err);
        assert_eq!(end, Poll::Ready(Some(Error::SessionClosed)), "{version}");
        // It is another broadcast after that.
        world.dial();
        let again = announced.try_announced();
        assert!(
            matches!(again, Poll::Ready(Some(again)) if again.broadcast.is_some()),
            "{version}"
        );
    }
}

/// A server that was restarted has another hop, so what it announces under the path is something else.
#[test]
fn other_content_takes_the_place() {
    for version in every_version() {
        let mut world = World::new(version);
        let (broadcast, track) = world.live();
        world.advance(200);
        let (mut announced, mut reader) = world.reader();
        world.advance(200);
        world.cut();
        drop((broadcast, track));
        world.server = Origin::new(Hop::new(9)).produce();
        let (_broadcast, mut track) = world.live();
        track.write_frame(0, "new").unwrap();
        world.dial();
        assert!(world.retained.is_empty(), "{version}");
        assert!(matches!(reader.try_recv_group(), Poll::Ready(Err(_))), "{version}");
        let mut changes = Vec::new();
        while let Poll::Ready(Some(change)) = announced.try_announced() {
            changes.push(change.broadcast);
        }
        let [Some(None), Some(Some(new))] = [changes.first(), changes.last()] else {
            panic!("{version}: an end and a beginning, not {changes:?}")
        };
        let mut reader = new.subscribe_track("video", Subscription::default()).unwrap();
        world.advance(200);
        assert_eq!(sequences(&mut reader), [0], "{version}");
    }
}

/// Nothing is kept that the peer ended, that another session has, or that nobody could find again.
#[test]
fn only_what_the_session_alone_had_is_kept() {
    for version in every_version() {
        let mut world = World::new(version);
        let (broadcast, track) = world.live();
        world.advance(200);
        drop((broadcast, track));
        world.advance(200);
        world.cut();
        assert!(world.retained.is_empty(), "{version}: it had ended");
        let (_broadcast, _track) = world.live();
        world.dial();
        let first = world.pair.take();
        world.dial();
        // Both sessions have it now.
        let (mut pair, [_near, far]) = first.unwrap();
        far.go_away(Goaway::default()).unwrap();
        pair.disconnect();
        pair.run_until_idle();
        drop(pair);
        assert!(world.retained.is_empty(), "{version}: another session has it");
    }
}

/// However often the session is lost.
#[test]
fn ten_thousand_sessions_leave_nothing() {
    let mut world = World::new(Version::Lite06);
    let (_broadcast, mut track) = world.live();
    world.advance(200);
    let (_announced, mut reader) = world.reader();
    let again = |world: &mut World| {
        let (mut old, _sessions) = world.pair.take().unwrap();
        let now = Instant::from_millis(world.now);
        let (near, client) = world.client.connect(world.version, now);
        let server = Server::new().with_publish(world.server.consume());
        let (far, server) = server.accept(world.version, now);
        old.disconnect();
        old.run_until_idle();
        let mut pair = Pair::new(client, server, Link::perfect());
        pair.run_until_idle();
        world.pair = Some((pair, [near, far]));
        assert!(world.retained.is_empty());
        world.seen.census()
    };
    let first = (0..100).map(|_| again(&mut world)).last().unwrap();
    let last = (0..10_000).map(|_| again(&mut world)).last().unwrap();
    assert_eq!(last.beyond(&first), []);
    track.write_frame(0, "x").unwrap();
    world.pair.as_mut().unwrap().0.run_until_idle();
    assert_eq!(sequences(&mut reader), [0]);
}
