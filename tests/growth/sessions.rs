//! The sessions of an origin; subscriptions, fetches, requests and datagrams of a session.

use std::task::Poll;
use std::time::Duration;

use allocation_counter::measure;
use smoq::bytes::Bytes;
use smoq::machine::{Action, Datagram, Input, Open, Write};
use smoq::sim::{Endpoint, Link, Pair, Wakes};
use smoq::stream::{Dir, Side, StreamId};
use smoq::{
    BroadcastConsumer, Client, Driver, Hop, Instant, Limits, Origin, OriginProducer, Server,
    Session, Subscription, Track, TrackProducer, Version,
};

use super::{allocations, assert_amortized, assert_flat, everything};

/// A driver that counts its steps of work and its writes.
struct Counted {
    driver: Driver,
    calls: usize,
}

impl Endpoint for Counted {
    fn handle(&mut self, now: Instant, input: Input) {
        self.driver.handle(now, input);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.driver.end_turn(now, false);
    }

    fn work(&mut self, now: Instant) -> bool {
        let worked = self.driver.work(now);
        self.calls += usize::from(worked);
        worked
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.driver.poll_action()
    }

    fn poll_open(&mut self) -> Option<Open<'_>> {
        self.driver.poll_open()
    }

    fn poll_datagram(&mut self) -> Option<Datagram<'_>> {
        self.driver.poll_datagram()
    }

    fn poll_write(&mut self) -> Option<Write<'_>> {
        let write = self.driver.poll_write();
        self.calls += usize::from(write.is_some());
        write
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.driver.poll_timeout()
    }

    fn has_work(&self) -> bool {
        self.driver.has_work()
    }

    fn read_limit(&self, id: StreamId) -> usize {
        self.driver.read_limit(id)
    }

    fn is_closed(&self) -> bool {
        self.driver.close_reason().is_some()
    }
}

/// A publisher of the broadcast `live` and a consumer of it at the other end of a session.
struct World {
    pair: Pair<Counted, Counted>,
    track: TrackProducer,
    seen: BroadcastConsumer,
    _kept: (Vec<Session>, smoq::BroadcastProducer, smoq::BroadcastDynamic),
}

impl World {
    fn new(version: Version) -> Self {
        let [up, down] = [1, 2].map(|hop| Origin::new(Hop::new(hop)).produce());
        let client = Client::new().with_publish(up.consume());
        let (a, client) = client.connect(version, Instant::ZERO);
        let server = Server::new().with_consume(down.clone());
        let (b, server) = server.accept(version, Instant::ZERO);
        let mut link = Link::perfect();
        (link.uni_streams, link.bi_streams) = (100_000, 100_000);
        let [client, server] = [client, server].map(|driver| Counted { driver, calls: 0 });
        let mut pair = Pair::new(client, server, link);
        let mut broadcast = up.create_broadcast("live").unwrap();
        let track = Track::new("video").max_age(Duration::from_secs(1_000));
        let track = broadcast.create_track(track).unwrap();
        let dynamic = broadcast.dynamic();
        pair.run_until_idle();
        let seen = down.consume().broadcast("live").expect("the broadcast was announced");
        Self { pair, track, seen, _kept: (vec![a, b], broadcast, dynamic) }
    }

    /// The number of calls at both ends caused by `act`.
    fn calls(&mut self, act: impl FnOnce(&mut Self)) -> usize {
        let before = self.pair.client.calls + self.pair.server.calls;
        act(self);
        self.pair.run_until_idle();
        self.pair.client.calls + self.pair.server.calls - before
    }
}

fn joined(
    version: Version,
    from: &OriginProducer,
    to: &OriginProducer,
    link: Link,
) -> (Pair<Driver, Driver>, [Session; 2]) {
    let (one, client) = Client::new().with_publish(from.consume()).connect(version, Instant::ZERO);
    let (two, server) = Server::new().with_consume(to.clone()).accept(version, Instant::ZERO);
    (Pair::new(client, server, link), [one, two])
}

#[test]
fn a_frame_wakes_only_the_session_that_serves_it() {
    assert_amortized("wake-ups", |n| {
        let wakes = Wakes::new();
        let [from, to] = [(); 2].map(|()| Origin::default().produce());
        let mut broadcast = from.create_broadcast("live").unwrap();
        let mut track = broadcast.create_track("video").unwrap();
        let (mut serving, _handles) = joined(Version::Lite06, &from, &to, Link::perfect());
        serving.run_until_idle();
        let seen = to.consume().broadcast("live").unwrap();
        let _reader = seen.subscribe_track("video", everything()).unwrap();
        serving.run_until_idle();
        let mut idle: Vec<_> = (0..n)
            .map(|_| {
                let other = Origin::default().produce();
                let (mut pair, handles) = joined(Version::Lite06, &from, &other, Link::perfect());
                pair.run_until_idle();
                (pair, handles)
            })
            .collect();
        for (pair, _) in &mut idle {
            assert!(pair.client.poll_wake(&mut wakes.context()).is_pending());
        }
        assert!(serving.client.poll_wake(&mut wakes.context()).is_pending());
        track.write_frame(0, "a").unwrap();
        assert_eq!(wakes.count(), 1, "only the session that serves the track is woken");
        wakes.count()
    });
}

#[test]
fn subscriptions_of_a_session() {
    for version in [Version::Lite06, Version::Moqt18] {
        assert_amortized("allocations", |n| {
            let [from, to] = [(); 2].map(|()| Origin::default().produce());
            let mut link = Link::perfect();
            (link.bi_streams, link.uni_streams) = (5_000, 5_000);
            let (mut pair, _sessions) = joined(version, &from, &to, link);
            let mut broadcast = from.create_broadcast("live").unwrap();
            let mut tracks: Vec<_> =
                (0..n).map(|n| broadcast.create_track(&*n.to_string()).unwrap()).collect();
            pair.run_until_idle();
            let seen = to.consume().broadcast("live").unwrap();
            let read = |n: usize| seen.subscribe_track(&n.to_string(), everything()).unwrap();
            let mut readers: Vec<_> = (0..n).map(read).collect();
            pair.run_until_idle();
            // Only the driver is measured, because the simulator has lists of its own.
            for track in &mut tracks {
                track.write_frame(0, "a").unwrap();
            }
            let now = pair.now();
            let cost = allocations(|| {
                while pair.client.work(now) {}
                for track in &mut tracks {
                    track.write_frame(1, "b").unwrap();
                    while pair.client.work(now) {}
                }
            });
            pair.run_until_idle();
            readers
                .retain_mut(|reader| !matches!(reader.try_recv_group(), Poll::Ready(Ok(Some(_)))));
            assert!(readers.is_empty(), "{version}: {} readers received no group", readers.len());
            cost
        });
    }
}

#[test]
fn datagrams_of_a_session() {
    assert_amortized("allocations", |n| {
        let [from, to] = [(); 2].map(|()| Origin::default().produce());
        let link = Link::perfect().datagrams(1_200, 0);
        let (mut pair, _sessions) = joined(Version::Lite06, &from, &to, link);
        let mut broadcast = from.create_broadcast("live").unwrap();
        let mut track = broadcast.create_track("video").unwrap();
        pair.run_until_idle();
        let seen = to.consume().broadcast("live").unwrap();
        let _reader = seen.subscribe_track("video", everything()).unwrap();
        pair.run_until_idle();
        allocations(|| {
            for n in 0..n as u64 {
                track.write_datagram(n, "a").unwrap();
                pair.run_until_idle();
            }
        })
    });
}

#[test]
fn each_unanswered_fetch_costs_the_same() {
    for version in [Version::Lite05, Version::Lite06, Version::Lite07Wip] {
        assert_flat("fetches of a track", 50, |n| {
            let mut world = World::new(version);
            let _silent = world.track.dynamic();
            world.track.append_group().unwrap().finish().unwrap();
            let read = || world.seen.subscribe_track("video", Subscription::default()).unwrap();
            let mut readers: Vec<_> = (0..n).map(|_| read()).collect();
            world.pair.run_until_idle();
            let wakes = Wakes::new();
            let calls = world.calls(|world| {
                for (reader, sequence) in readers.iter_mut().zip(1_000..) {
                    let poll = reader.poll_fetch_group(&mut wakes.context(), sequence);
                    assert!(poll.is_pending());
                    world.pair.run_until_idle();
                }
            });
            assert_eq!(wakes.count(), 0, "a request wakes no other reader");
            let leaving = world.calls(|world| {
                for reader in readers.drain(..) {
                    drop(reader);
                    world.pair.run_until_idle();
                }
            });
            calls + leaving
        });
    }
}

#[test]
fn each_subscription_of_a_session_costs_the_same() {
    for version in [Version::Lite03, Version::Lite06, Version::Moqt16, Version::Moqt18] {
        assert_flat("subscriptions of a session", 30, |n| {
            let mut world = World::new(version);
            let mut readers = vec![];
            world.calls(|world| {
                for n in 0..n {
                    let read = world.seen.subscribe_track(&n.to_string(), Subscription::default());
                    readers.push(read.unwrap());
                    world.pair.run_until_idle();
                }
                for reader in readers.drain(..) {
                    drop(reader);
                    world.pair.run_until_idle();
                }
            })
        });
    }
}

#[test]
fn more_readers_of_a_track_cost_its_session_nothing() {
    for n in [30, 300] {
        let mut world = World::new(Version::Lite06);
        let read = |world: &World| world.seen.subscribe_track("video", Subscription::default());
        let _first = read(&world).unwrap();
        world.pair.run_until_idle();
        let calls = world.calls(|world| {
            let readers: Vec<_> = (0..n).map(|_| read(world).unwrap()).collect();
            world.pair.run_until_idle();
            drop(readers);
        });
        assert_eq!(calls, 0, "{n} readers");
    }
}

/// The memory held by requests of which half a message has arrived, byte by byte.
fn held_by_requests(version: Version, streams: u64, early: bool) -> usize {
    let origin = Origin::default().produce();
    let (_session, mut driver) = Server::new().with_origin(&origin).accept(version, Instant::ZERO);
    while driver.work(Instant::ZERO) {}
    let mut taken = 0;
    let held = measure(|| {
        for n in 0..streams {
            let id = StreamId::new(Side::Client, Dir::Bi, n);
            driver.handle(Instant::ZERO, Input::Opened { id });
            // SUBSCRIBE of 61,440 bytes.
            let mut bytes = [2, 0x80, 0, 0xf0, 0].into_iter().chain([1; 20_000]);
            while driver.read_limit(id) > 0 {
                let Some(byte) = bytes.next() else { break };
                // Each byte arrives in a packet of its own.
                let packet = Bytes::from(vec![byte; 1_200]);
                let bytes = packet.slice(..1);
                driver.handle(Instant::ZERO, Input::Data { id, bytes, fin: false });
                taken += 1;
                if !early {
                    while driver.work(Instant::ZERO) {}
                }
            }
        }
    });
    assert!(taken > 10_000 * streams as usize, "only {taken} bytes were accepted");
    let held = held.bytes_current as usize;
    assert!(held < 4 * taken, "{version}: {held} bytes are held for {taken} received ones");
    held
}

#[test]
fn small_chunks_hold_little_more_than_their_bytes() {
    for version in [Version::Lite01, Version::Lite04, Version::Lite06, Version::Moqt18] {
        for early in [false, true] {
            let held = |n| held_by_requests(version, n as u64, early);
            assert_flat("requests of small chunks", 1, held);
        }
    }
}

#[test]
fn waiting_datagrams_hold_no_packets() {
    for n in [100, 1_000] {
        let (_session, mut driver) = Server::new().accept(Version::Lite06, Instant::ZERO);
        let held = measure(|| {
            for _ in 0..n {
                let bytes = Bytes::from(vec![0; 60_000]).slice(..20);
                driver.handle(Instant::ZERO, Input::Datagram { bytes });
            }
        });
        let held = held.bytes_current as usize;
        assert!(held < 60_000 + 100 * n, "{held} bytes for {n} datagrams of 20");
    }
    // The limit on datagrams bounds their total size as well.
    let mut limits = Limits::default();
    limits.datagrams = 10;
    let server = Server::new().with_limits(limits);
    let (_session, mut driver) = server.accept(Version::Lite06, Instant::ZERO);
    let held = measure(|| {
        for _ in 0..100 {
            let bytes = Bytes::from(vec![0; 6_000]);
            driver.handle(Instant::ZERO, Input::Datagram { bytes });
        }
    });
    assert!(held.bytes_current < 15_000, "{held:?}");
}
