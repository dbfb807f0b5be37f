//! Actions of the application after a pause count from that time, not from the last time that was reported. All
//! tests use the order of the contract in the README: inputs, work, deadlines, outputs.

use std::task::Poll;
use std::time::Duration;

use smoq::machine::Input;
use smoq::sim::{Link, Pair};
use smoq::stream::{Side, StreamId};
use smoq::{
    BroadcastProducer, Client, Driver, Goaway, Hop, Instant, Origin, OriginProducer, Server,
    Session, Subscription, Track, TrackConsumer, TrackProducer, Version,
};

const PAUSE: Duration = Duration::from_secs(20);

struct World {
    pair: Pair<Driver, Driver>,
    session: Session,
    track: TrackProducer,
    reader: TrackConsumer,
    _held: (Session, BroadcastProducer, [OriginProducer; 2]),
}

/// A client whose track the server reads. Nothing happens for a while from here on.
fn paused(version: Version) -> World {
    let origins = [7, 8].map(|hop| Origin::new(Hop::new(hop)).produce());
    let mut broadcast = origins[0].create_broadcast("live").unwrap();
    let track = broadcast.create_track(Track::new("video")).unwrap();
    let (session, client) =
        Client::new().with_publish(origins[0].consume()).connect(version, Instant::ZERO);
    let (other, server) =
        Server::new().with_consume(origins[1].clone()).accept(version, Instant::ZERO);
    let mut pair = Pair::new(client, server, Link::wide(3));
    pair.advance(Duration::from_millis(500));
    let seen = origins[1].consume().broadcast("live").unwrap();
    let want = Subscription::default().max_age(Duration::from_secs(60));
    let reader = seen.subscribe_track("video", want).unwrap();
    pair.advance(Duration::from_millis(500));
    World { pair, session, track, reader, _held: (other, broadcast, origins) }
}

impl World {
    /// The first turn of the client after the pause. The simulator is not used, because it takes turns all
    /// the time.
    fn turn(&mut self) {
        let now = self.pair.now() + PAUSE;
        let driver = &mut self.pair.client;
        while driver.work(now) {}
        driver.end_turn(now, false);
        self.pair.advance(Duration::from_secs(1));
    }

    fn read(&mut self) -> Option<u64> {
        match self.reader.try_recv_group() {
            Poll::Ready(Ok(group)) => group.map(|group| group.sequence()),
            _ => None,
        }
    }
}

fn versions() -> impl Iterator<Item = Version> {
    Version::ALL.into_iter().chain(Version::WIP)
}

#[test]
fn a_group_written_after_a_pause_is_not_old() {
    for version in versions() {
        let mut world = paused(version);
        for n in 0..2 {
            world.track.write_frame(n, "first for a long time").unwrap();
        }
        // The same for a group that is not the newest of a live track.
        world.track.finish().unwrap();
        world.turn();
        let mut groups = [world.read(), world.read()];
        groups.sort();
        assert_eq!(groups, [Some(0), Some(1)], "{version}");
        assert_eq!(world.session.stats().skipped_groups, 0);
    }
}

/// The answer of the peer was handed in, but not worked on yet.
#[test]
fn input_that_was_handed_in_comes_before_a_deadline() {
    for version in versions() {
        for is_in_time in [false, true] {
            let (_session, mut server) = Server::new().accept(version, Instant::ZERO);
            let (_other, mut client) = Client::new().connect(version, Instant::ZERO);
            while server.work(Instant::ZERO) || client.work(Instant::ZERO) {}
            let Some(deadline) = server.poll_timeout() else { continue };
            let mut nth = [0; 2];
            while let Some(open) = client.poll_open() {
                let dir = open.dir();
                let id = StreamId::new(Side::Client, dir, nth[dir as usize]);
                nth[dir as usize] += 1;
                open.opened(id);
                if is_in_time {
                    server.handle(deadline, Input::Opened { id });
                }
            }
            while let Some(mut write) = client.poll_write() {
                let (id, fin, len) = (write.id(), write.fin(), write.len());
                let bytes = write.chunks().concat().into();
                write.accepted(len);
                if is_in_time {
                    server.handle(deadline, Input::Data { id, bytes, fin });
                }
            }
            server.end_turn(deadline, false);
            while server.work(deadline) {}
            assert_eq!(server.close_reason().is_none(), is_in_time, "{version}");
        }
    }
}

#[test]
fn a_drain_after_a_pause_has_its_full_time() {
    for version in versions() {
        let mut world = paused(version);
        world.track.write_frame(1, "the last").unwrap();
        world.track.finish().unwrap();
        world.session.drain();
        world.turn();
        assert_eq!(world.read(), Some(0), "{version}");
    }
}

#[test]
fn a_goaway_after_a_pause_has_its_full_time() {
    for version in versions() {
        let mut world = paused(version);
        let timeout = Duration::from_secs(5);
        world.session.go_away(Goaway::default().timeout(timeout)).unwrap();
        let now = world.pair.now() + PAUSE;
        let driver = &mut world.pair.client;
        while driver.work(now) {}
        driver.end_turn(now + (timeout - Duration::from_millis(1)), false);
        while driver.work(now) {}
        assert!(world.session.try_closed().is_pending(), "{version}");
    }
}
