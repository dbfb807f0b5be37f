//! What one more costs: the same when there are ten times as many. A row for each list that a peer or many
//! readers can lengthen, counted in allocations and wake-ups, never in seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use allocation_counter::measure;
use smoq::sim::{Link, Pair};
use smoq::{
    Broadcast, Client, Driver, Instant, Limits, Origin, OriginProducer, Server, Session,
    Subscription, Track, Version,
};

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts what is woken.
struct Counter(Arc<Wakes>, Waker);

impl Counter {
    fn new() -> Self {
        let wakes = Arc::new(Wakes::default());
        Self(wakes.clone(), wakes.into())
    }

    fn context(&self) -> Context<'_> {
        Context::from_waker(&self.1)
    }

    fn count(&self) -> u64 {
        self.0.0.load(Ordering::Relaxed) as u64
    }
}

/// How many there are at first.
const FEW: usize = 40;

/// `cost` gives what so many of them cost together. One of ten times as many may cost a fifth more, because
/// lists double.
fn assert_flat(what: &str, cost: impl Fn(usize) -> u64) {
    // What is made once is made.
    cost(1);
    let (few, many) = (cost(FEW), cost(10 * FEW));
    let bound = 12 * few + 200;
    assert!(many <= bound, "{what}: {few} for {FEW}, {many} for {}", 10 * FEW);
}

/// Allocations of `work`.
fn allocations(work: impl FnOnce()) -> u64 {
    measure(work).count_total
}

fn everything() -> Subscription {
    Subscription::default().max_age(Duration::MAX).start(0)
}

#[test]
fn readers_of_a_track() {
    let visit = |n: usize, counter: &Counter| {
        let mut track = Track::new("video").produce();
        let mut writer = track.clone();
        let _first = track.consume();
        let want = || Subscription::default().priority(3);
        let mut readers: Vec<_> = (0..n).map(|_| track.subscribe(want())).collect();
        while writer.try_subscription_changed().is_ready() {}
        assert!(writer.poll_subscription_changed(&mut counter.context()).is_pending());
        readers.truncate(1);
        readers.extend((1..n).map(|_| track.subscribe(want())));
        for reader in &mut readers {
            assert!(reader.poll_recv_group(&mut counter.context()).is_pending());
        }
        track.append_group().unwrap();
        // Those who leave are not looked for.
        counter.count()
    };
    assert_flat("allocations", |n| {
        allocations(|| {
            visit(n, &Counter::new());
        })
    });
    assert_flat("wake-ups", |n| {
        let wakes = visit(n, &Counter::new());
        assert_eq!(wakes, n as u64, "the readers, and nobody else");
        wakes
    });
}

#[test]
fn open_groups_of_a_track() {
    let write = |n: usize, counter: &Counter| {
        let mut track = Track::new("video").produce();
        let mut groups: Vec<_> = (0..n).map(|_| track.append_group().unwrap()).collect();
        let mut readers: Vec<_> = groups.iter().map(|group| group.consume()).collect();
        for reader in &mut readers {
            assert!(reader.poll_next_frame(&mut counter.context()).is_pending());
        }
        for group in &mut groups {
            group.write_frame(0, "a").unwrap();
        }
    };
    assert_flat("allocations", |n| allocations(|| write(n, &Counter::new())));
    assert_flat("wake-ups", |n| {
        let counter = Counter::new();
        write(n, &counter);
        assert_eq!(counter.count(), n as u64, "who reads the group, and nobody else");
        counter.count()
    });
}

#[test]
fn tracks_of_a_broadcast() {
    assert_flat("allocations", |n| {
        allocations(|| {
            let mut broadcast = Broadcast::new().produce();
            let consumer = broadcast.consume();
            let tracks = (0..n).map(|n| broadcast.create_track(&*n.to_string()).unwrap());
            let tracks: Vec<_> = tracks.collect();
            let read = |n: usize| consumer.subscribe_track(&n.to_string(), everything()).unwrap();
            let readers: Vec<_> = (0..n).map(read).collect();
            drop((tracks, readers));
        })
    });
}

#[test]
fn requests_for_tracks() {
    let ask = |n: usize, counter: &Counter| {
        let broadcast = Broadcast::new().produce();
        let mut dynamic = broadcast.dynamic();
        let consumer = broadcast.consume();
        let mut readers = Vec::new();
        for n in 0..n {
            while let Poll::Ready(Ok(request)) =
                dynamic.poll_requested_track(&mut counter.context())
            {
                request.reject(smoq::Error::NotFound);
            }
            readers.push(consumer.subscribe_track(&n.to_string(), everything()).unwrap());
        }
    };
    assert_flat("allocations", |n| allocations(|| ask(n, &Counter::new())));
    assert_flat("wake-ups", |n| {
        let counter = Counter::new();
        ask(n, &counter);
        counter.count()
    });
}

#[test]
fn paths_of_an_origin() {
    let announce = |n: usize, counter: &Counter| {
        let origin = Origin::default().produce();
        let mut listener = origin.consume();
        let mut live = Vec::new();
        for n in 0..n {
            while listener.poll_announced(&mut counter.context()).is_ready() {}
            live.push(origin.create_broadcast(&*format!("room/{n}")).unwrap());
        }
        for _ in 0..n {
            while listener.poll_announced(&mut counter.context()).is_ready() {}
            live.pop();
        }
    };
    assert_flat("allocations", |n| allocations(|| announce(n, &Counter::new())));
    assert_flat("wake-ups", |n| {
        let counter = Counter::new();
        announce(n, &counter);
        counter.count()
    });
}

#[test]
fn held_requests_for_broadcasts() {
    let ask = |n: usize, counter: &Counter| {
        let mut limits = Limits::default();
        limits.broadcast_requests = n;
        let origin = Origin::default().limits(limits).produce();
        let mut store = origin.dynamic("store").unwrap();
        let mut asking: Vec<_> = (0..n).map(|_| origin.consume()).collect();
        let mut requests = Vec::new();
        for (at, asking) in asking.iter_mut().enumerate() {
            let path = format!("store/{at}");
            assert!(asking.poll_request_broadcast(&mut counter.context(), &path).is_pending());
            while let Poll::Ready(request) = store.poll_requested_broadcast(&mut counter.context())
            {
                requests.push(request);
            }
        }
        for request in requests {
            request.reject(smoq::Error::NotFound);
        }
    };
    assert_flat("allocations", |n| allocations(|| ask(n, &Counter::new())));
    assert_flat("wake-ups", |n| {
        let counter = Counter::new();
        ask(n, &counter);
        counter.count()
    });
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
fn sessions_of_an_origin() {
    assert_flat("turns", |n| {
        let counter = Counter::new();
        let [from, to] = [(); 2].map(|()| Origin::default().produce());
        let mut broadcast = from.create_broadcast("live").unwrap();
        let mut track = broadcast.create_track("video").unwrap();
        let (mut serving, _handles) = joined(Version::Lite06, &from, &to, Link::perfect());
        serving.run_until_idle();
        let seen = to.consume().get_broadcast("live").unwrap();
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
            assert!(pair.client.poll_wake(&mut counter.context()).is_pending());
        }
        assert!(serving.client.poll_wake(&mut counter.context()).is_pending());
        track.write_frame(0, "a").unwrap();
        assert_eq!(counter.count(), 1, "the session that serves the track, and no other");
        counter.count()
    });
}

#[test]
fn subscriptions_of_a_session() {
    for version in [Version::Lite06, Version::Moqt18] {
        assert_flat("allocations", |n| {
            let [from, to] = [(); 2].map(|()| Origin::default().produce());
            let mut link = Link::perfect();
            (link.bi_streams, link.uni_streams) = (5_000, 5_000);
            let (mut pair, _sessions) = joined(version, &from, &to, link);
            let mut broadcast = from.create_broadcast("live").unwrap();
            let mut tracks: Vec<_> =
                (0..n).map(|n| broadcast.create_track(&*n.to_string()).unwrap()).collect();
            pair.run_until_idle();
            let seen = to.consume().get_broadcast("live").unwrap();
            let read = |n: usize| seen.subscribe_track(&n.to_string(), everything()).unwrap();
            let mut readers: Vec<_> = (0..n).map(read).collect();
            pair.run_until_idle();
            // The simulator's own lists are not what is looked for: a turn of each end alone.
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
            assert!(readers.is_empty(), "{version}: {} got nothing", readers.len());
            cost
        });
    }
}

#[test]
fn datagrams_of_a_session() {
    assert_flat("allocations", |n| {
        let [from, to] = [(); 2].map(|()| Origin::default().produce());
        let link = Link::perfect().datagrams(1_200, 0);
        let (mut pair, _sessions) = joined(Version::Lite06, &from, &to, link);
        let mut broadcast = from.create_broadcast("live").unwrap();
        let mut track = broadcast.create_track("video").unwrap();
        pair.run_until_idle();
        let seen = to.consume().get_broadcast("live").unwrap();
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
