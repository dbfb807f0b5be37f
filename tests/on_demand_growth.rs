//! What broadcasts on demand cost, counted at n and at 10 n: paths, requests, handlers and sessions are many,
//! and each costs as much as when there are few.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use allocation_counter::measure;
use smoq::{
    BroadcastProducer, BroadcastRequest, Client, Driver, Hop, Instant, Limits, Origin,
    OriginConsumer, OriginDynamic, OriginProducer, Version,
};

const FEW: usize = 100;
const MANY: usize = 10 * FEW;

/// Allocations for each of so many, and bytes that are left for each.
#[derive(Debug)]
struct Cost {
    allocations: f64,
    left: f64,
}

fn cost(count: usize, work: impl FnOnce()) -> Cost {
    let info = measure(work);
    let each = |total: f64| total / count as f64;
    Cost { allocations: each(info.count_total as f64), left: each(info.bytes_current as f64) }
}

/// Whether one of many costs no more than one of few.
fn assert_flat(what: &str, costs: [Cost; 2]) {
    let [few, many] = &costs;
    let grows = |few: f64, many: f64, some: f64| many > few + few.abs() * 0.2 + some;
    assert!(!grows(few.allocations, many.allocations, 1.0), "{what}: {costs:?}");
    assert!(!grows(few.left, many.left, 32.0), "{what}: {costs:?}");
}

fn origin() -> OriginProducer {
    let mut limits = Limits::default();
    limits.broadcast_requests = 2 * MANY;
    Origin::new(Hop::new(1)).limits(limits).produce()
}

fn next(store: &mut OriginDynamic) -> BroadcastRequest {
    match store.try_requested_broadcast() {
        Poll::Ready(request) => request,
        Poll::Pending => panic!("nothing is asked for"),
    }
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Count {
    fn wakes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn paths(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("archive/{n}")).collect()
}

fn askers(origin: &OriginProducer, paths: &[String], waker: &Waker) -> Vec<OriginConsumer> {
    let ask = |path: &String| {
        let mut reader = origin.consume();
        let mut cx = Context::from_waker(waker);
        assert!(reader.poll_request_broadcast(&mut cx, path).is_pending());
        reader
    };
    paths.iter().map(ask).collect()
}

/// One broadcast that answers for many paths: to enter, to find, and to end.
#[test]
fn paths_of_one_broadcast() {
    let costs = [FEW, MANY].map(|count| {
        let (origin, other, paths) = (origin(), origin(), paths(count));
        let mut store = origin.dynamic("archive").unwrap();
        let one = other.create_broadcast("one").unwrap();
        let mut readers = askers(&origin, &paths, Waker::noop());
        let mut found = Vec::with_capacity(count);
        let enter = cost(count, || {
            for (reader, path) in readers.iter_mut().zip(&paths) {
                next(&mut store).accept_broadcast(&one.consume()).unwrap();
                let Poll::Ready(Ok(broadcast)) = reader.try_request_broadcast(path) else {
                    panic!("it was answered")
                };
                found.push(broadcast);
            }
        });
        let find = cost(count, || {
            for (reader, path) in readers.iter_mut().zip(&paths) {
                let again = reader.try_request_broadcast(path);
                assert!(matches!(again, Poll::Ready(Ok(_))));
            }
        });
        let leave = cost(count, || drop((readers, found)));
        // Again, and the broadcast ends first.
        let mut readers = askers(&origin, &paths, Waker::noop());
        paths.iter().for_each(|_| next(&mut store).accept_broadcast(&one.consume()).unwrap());
        let take =
            |(reader, path): (&mut OriginConsumer, &String)| reader.try_request_broadcast(path);
        let found: Vec<_> = readers.iter_mut().zip(&paths).map(take).collect();
        let end = cost(count, || drop(one));
        drop((readers, found));
        [enter, find, leave, end]
    });
    let [few, many] = costs;
    let names = ["enter", "find", "leave", "end"];
    for (name, costs) in names.into_iter().zip(few.into_iter().zip(many)) {
        assert_flat(name, costs.into());
    }
}

#[test]
fn nothing_is_left_of_paths_that_nobody_reads() {
    let (origin, other) = (origin(), origin());
    let mut store = origin.dynamic("archive").unwrap();
    let one = other.create_broadcast("one").unwrap();
    let turn = |store: &mut OriginDynamic, count: usize| {
        for path in paths(count) {
            let mut reader = origin.consume();
            assert!(reader.try_request_broadcast(&path).is_pending());
            next(store).accept_broadcast(&one.consume()).unwrap();
            assert!(matches!(reader.try_request_broadcast(&path), Poll::Ready(Ok(_))));
        }
    };
    turn(&mut store, FEW);
    let left = measure(|| turn(&mut store, MANY));
    assert!(left.bytes_current < 1_000, "{left:?}");
}

/// Requests that are held: to ask, to answer one, and to be told of something else.
#[test]
fn held_requests() {
    let costs = [FEW, MANY].map(|count| {
        let (origin, paths) = (origin(), paths(count));
        let mut store = origin.dynamic("archive").unwrap();
        let wakes = Arc::new(Count::default());
        let waker = Waker::from(wakes.clone());
        let mut readers = Vec::new();
        let ask = cost(count, || readers = askers(&origin, &paths, &waker));
        // What comes elsewhere, or nearer than nobody asked for, wakes nobody.
        let others = cost(count, || {
            for _ in 0..count {
                drop(origin.create_broadcast("archive").unwrap());
                drop(origin.dynamic("archive/elsewhere").unwrap());
                drop(origin.dynamic("").unwrap());
            }
        });
        assert_eq!(wakes.wakes(), 0);
        // One that concerns one.
        let near = origin.dynamic("archive/7").unwrap();
        assert_eq!(wakes.wakes(), 1);
        drop(near);
        let before = wakes.wakes();
        let mut out: Vec<_> = paths.iter().map(|_| next(&mut store)).collect();
        let answer = cost(count, || out.drain(..).for_each(|request| drop(request.accept())));
        assert!(wakes.wakes() - before <= count, "each is woken for its own answer");
        let leave = cost(count, || drop(readers));
        [ask, others, answer, leave]
    });
    let [few, many] = costs;
    let names = ["ask", "others", "answer", "leave"];
    for (name, costs) in names.into_iter().zip(few.into_iter().zip(many)) {
        assert_flat(name, costs.into());
    }
}

#[test]
fn handlers_of_an_origin() {
    for same in [true, false] {
        let costs = [FEW, MANY].map(|count| {
            let origin = origin();
            let prefix =
                |n: usize| if same { "archive".to_owned() } else { format!("archive/{n}") };
            let mut handlers = Vec::with_capacity(count);
            let open = cost(count, || {
                (0..count).for_each(|n| handlers.push(origin.dynamic(prefix(n)).unwrap()));
            });
            let mut reader = origin.consume();
            let ask = cost(count, || {
                for n in 0..count {
                    assert!(reader.try_request_broadcast(&format!("archive/{n}/x")).is_pending());
                }
            });
            let close = cost(count, || drop(handlers));
            [open, ask, close]
        });
        let [few, many] = costs;
        for (name, costs) in ["open", "ask", "close"].into_iter().zip(few.into_iter().zip(many)) {
            assert_flat(name, costs.into());
        }
    }
}

/// Of many sessions that could mind the time of an origin one is woken.
#[test]
fn sessions_of_an_origin() {
    let costs = [FEW, MANY].map(|count| {
        let origin = origin();
        let mut drivers: Vec<Driver> = Vec::with_capacity(count);
        let client = Client::new().with_origin(&origin);
        let open = cost(count, || {
            for _ in 0..count {
                drivers.push(client.connect(Version::Lite06, Instant::ZERO).1);
            }
        });
        let wakes = Arc::new(Count::default());
        let waker = Waker::from(wakes.clone());
        for driver in &mut drivers {
            while driver.work(Instant::ZERO) {}
            assert!(driver.poll_wake(&mut Context::from_waker(&waker)).is_pending());
        }
        let _store = origin.dynamic("archive").unwrap();
        let before = wakes.wakes();
        let _asking = askers(&origin, &paths(10), Waker::noop());
        assert!(wakes.wakes() - before <= 1, "{} of {count} woken", wakes.wakes() - before);
        let close = cost(count, || drop(drivers));
        [open, close]
    });
    let [few, many] = costs;
    for (name, costs) in ["open", "close"].into_iter().zip(few.into_iter().zip(many)) {
        assert_flat(name, costs.into());
    }
}

/// One broadcast that is announced under many paths: to enter and to end.
#[test]
fn places_of_one_broadcast() {
    let costs = [FEW, MANY].map(|count| {
        let (origin, other, paths) = (origin(), origin(), paths(count));
        let one: BroadcastProducer = other.create_broadcast("one").unwrap();
        let consumer = one.consume();
        let enter = cost(count, || {
            paths.iter().for_each(|path| origin.publish_broadcast(&**path, &consumer).unwrap());
        });
        let end = cost(count, || drop(one));
        [enter, end]
    });
    let [few, many] = costs;
    for (name, costs) in ["enter", "end"].into_iter().zip(few.into_iter().zip(many)) {
        assert_flat(name, costs.into());
    }
}
