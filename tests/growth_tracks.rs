//! What one more reader, request, group, track, chunk or datagram costs when there are many, counted in
//! calls, wakes and bytes of memory: the same at n and at 10 n.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use allocation_counter::measure;
use smoq::bytes::Bytes;
use smoq::machine::{Action, Datagram, Input, Open, Write};
use smoq::sim::{Endpoint, Link, Pair};
use smoq::stream::{Dir, Side, StreamId};
use smoq::{
    Broadcast, BroadcastConsumer, Client, Driver, Hop, Instant, Limits, Origin, Server, Session,
    Subscription, Track, TrackProducer, Version,
};

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn new() -> (Arc<Self>, Waker) {
        let count = Arc::new(Self::default());
        (count.clone(), count.into())
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A few and ten times as many cost the same each, within a tenth.
fn assert_flat(what: &str, few: usize, cost: impl Fn(usize) -> usize) {
    let costs = [few, 10 * few].map(|n| cost(n) as f64 / n as f64);
    assert!(costs[0] > 0.0, "{what}: nothing was counted");
    assert!(costs[1] <= 1.1 * costs[0], "{what}: {costs:?} each at {few} and at {}", 10 * few);
}

/// A driver of which the pieces of work and the writes are counted.
struct Counted {
    driver: Driver,
    calls: usize,
}

impl Endpoint for Counted {
    fn handle(&mut self, now: Instant, input: Input) {
        self.driver.handle(now, input);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.driver.handle_timeout(now);
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
        self.driver.is_closed()
    }
}

/// A publisher with the broadcast `live`, and a reader on another node.
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
        let seen = down.consume().get_broadcast("live").expect("it was announced");
        Self { pair, track, seen, _kept: (vec![a, b], broadcast, dynamic) }
    }

    /// Calls of both ends meanwhile.
    fn calls(&mut self, act: impl FnOnce(&mut Self)) -> usize {
        let before = self.pair.client.calls + self.pair.server.calls;
        act(self);
        self.pair.run_until_idle();
        self.pair.client.calls + self.pair.server.calls - before
    }
}

#[test]
fn readers_that_want_the_same_wake_nobody() {
    for n in [1_000, 10_000] {
        let mut broadcast = Broadcast::new().produce();
        let mut track = broadcast.create_track("video").unwrap();
        let consumer = broadcast.consume();
        let (changes, waker) = Count::new();
        let first = consumer.subscribe_track("video", Subscription::default()).unwrap();
        let mut cx = Context::from_waker(&waker);
        assert!(track.poll_subscription_changed(&mut cx).is_ready());
        assert!(track.poll_subscription_changed(&mut cx).is_pending());
        let (unused, waker) = Count::new();
        assert!(broadcast.poll_unused(&mut Context::from_waker(&waker)).is_pending());
        let join = || consumer.subscribe_track("video", Subscription::default()).unwrap();
        let readers: Vec<_> = (0..n).map(|_| join()).collect();
        drop(readers);
        assert_eq!((changes.get(), unused.get()), (0, 0), "{n} readers");
        drop(first);
        assert_eq!((changes.get(), unused.get()), (1, 1), "the last one of {n}");
    }
}

#[test]
fn readers_take_the_same_memory_each() {
    assert_flat("readers of a track", 1_000, |n| {
        let track = Track::new("t").produce();
        let cost = measure(|| drop((0..n).map(|_| track.consume()).collect::<Vec<_>>()));
        cost.count_total as usize + cost.bytes_max as usize
    });
}

#[test]
fn whether_a_broadcast_is_used_is_known_without_looking_at_its_tracks() {
    for n in [100, 1_000] {
        let mut broadcast = Broadcast::new().produce();
        let make = |n: usize| broadcast.create_track(format!("{n}").as_str()).unwrap();
        let tracks: Vec<_> = (0..n).map(make).collect();
        let ((used, used_waker), (unused, unused_waker)) = (Count::new(), Count::new());
        let cost = measure(|| {
            let poll = broadcast.poll_used(&mut Context::from_waker(&used_waker));
            assert!(poll.is_pending());
        });
        assert!(cost.count_total <= 1, "{n} tracks: {cost:?}");
        let readers: Vec<_> = tracks.iter().map(TrackProducer::consume).collect();
        assert_eq!(used.get(), 1, "the first reader of {n} tracks");
        assert_eq!(broadcast.try_used(), Poll::Ready(Ok(())));
        assert!(broadcast.poll_unused(&mut Context::from_waker(&unused_waker)).is_pending());
        drop(readers);
        assert_eq!((used.get(), unused.get()), (1, 1), "the last reader of {n} tracks");
        assert!(broadcast.try_used().is_pending() && broadcast.try_unused().is_ready());
    }
}

#[test]
fn who_waits_for_a_reader_hears_of_the_end() {
    let mut broadcast = Broadcast::new().produce();
    let mut other = broadcast.clone();
    let (used, waker) = Count::new();
    assert!(other.poll_used(&mut Context::from_waker(&waker)).is_pending());
    broadcast.finish().unwrap();
    assert_eq!(used.get(), 1);
    assert_eq!(other.try_used(), Poll::Ready(Err(smoq::Error::Closed)));
}

#[test]
fn an_unanswered_fetch_costs_the_same_each() {
    for version in [Version::Lite05, Version::Lite06, Version::Lite07Wip] {
        assert_flat("fetches of a track", 50, |n| {
            let mut world = World::new(version);
            let _silent = world.track.dynamic();
            world.track.append_group().unwrap().finish().unwrap();
            let read = || world.seen.subscribe_track("video", Subscription::default()).unwrap();
            let mut readers: Vec<_> = (0..n).map(|_| read()).collect();
            world.pair.run_until_idle();
            let (wakes, waker) = Count::new();
            let calls = world.calls(|world| {
                for (reader, sequence) in readers.iter_mut().zip(1_000..) {
                    let poll = reader.poll_fetch_group(&mut Context::from_waker(&waker), sequence);
                    assert!(poll.is_pending());
                    world.pair.run_until_idle();
                }
            });
            assert_eq!(wakes.get(), 0, "who asks wakes nobody else who asks");
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
fn an_answer_wakes_only_those_who_asked_for_it() {
    let mut track = Track::new("t").produce();
    let mut dynamic = track.dynamic();
    track.append_group().unwrap().finish().unwrap();
    let mut askers: Vec<_> = (0..100).map(|_| (track.consume(), Count::new())).collect();
    for (n, (reader, (_, waker))) in askers.iter_mut().enumerate() {
        // Two ask for each.
        let poll = reader.poll_fetch_group(&mut Context::from_waker(waker), 1_000 + n as u64 / 2);
        assert!(poll.is_pending());
    }
    let woken = |askers: &[(_, (Arc<Count>, Waker))]| {
        let woken = askers.iter().enumerate().filter(|(_, (_, (count, _)))| count.get() > 0);
        woken.map(|(n, _)| n).collect::<Vec<_>>()
    };
    let Poll::Ready(Ok(request)) = dynamic.try_requested_group() else { panic!("asked") };
    let mut group = request.accept().unwrap();
    assert_eq!(woken(&askers), [0, 1]);
    group.finish().unwrap();
    let Poll::Ready(Ok(request)) = dynamic.try_requested_group() else { panic!("asked") };
    request.reject(smoq::Error::NotFound);
    assert_eq!(woken(&askers), [0, 1, 2, 3]);
    // One comes by itself.
    drop(track.create_group(1_002).unwrap());
    assert_eq!(woken(&askers), [0, 1, 2, 3, 4, 5]);
    track.finish_at(1_048).unwrap();
    assert_eq!(woken(&askers), [0, 1, 2, 3, 4, 5, 96, 97, 98, 99]);
    assert!(askers.iter().all(|(_, (count, _))| count.get() <= 1), "once");
    drop(dynamic);
    assert_eq!(woken(&askers).len(), 100, "nobody is left who answers");
}

#[test]
fn who_answers_hears_that_nobody_asks_any_more() {
    let track = Track::new("t").produce();
    let mut dynamic = track.dynamic();
    let mut readers: Vec<_> = (0..10).map(|_| track.consume()).collect();
    let mut requests = vec![];
    for (reader, sequence) in readers.iter_mut().zip(5..) {
        assert!(
            reader.poll_fetch_group(&mut Context::from_waker(Waker::noop()), sequence).is_pending()
        );
        let Poll::Ready(Ok(request)) = dynamic.try_requested_group() else { panic!("asked") };
        requests.push((request, Count::new()));
    }
    for (request, (_, waker)) in &mut requests {
        assert!(request.poll_unused(&mut Context::from_waker(waker)).is_pending());
    }
    drop(readers.remove(3));
    let woken: Vec<_> = requests.iter().map(|(_, (count, _))| count.get()).collect();
    assert_eq!(woken, [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(requests[3].0.try_unused(), Poll::Ready(()));
}

#[test]
fn one_more_subscription_of_a_session_costs_the_same() {
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
fn one_more_reader_behind_a_session_costs_it_nothing() {
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

/// So many requests of half a message, byte by byte, and what they hold a byte.
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
                // Each in a packet of its own.
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
    assert!(taken > 10_000 * streams as usize, "{taken} bytes were taken");
    let held = held.bytes_current as usize;
    assert!(held < 4 * taken, "{version}: {held} bytes are held for {taken}");
    held
}

#[test]
fn small_chunks_take_little_more_than_their_bytes() {
    for version in [Version::Lite01, Version::Lite04, Version::Lite06, Version::Moqt18] {
        for early in [false, true] {
            let held = |n| held_by_requests(version, n as u64, early);
            assert_flat("requests of small chunks", 1, held);
        }
    }
}

#[test]
fn datagrams_that_wait_keep_no_packets() {
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
    // Nor more than datagrams may have, however many may wait.
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
