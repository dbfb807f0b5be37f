//! The paths, listeners, handlers and requests of an origin.

use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use smoq::sim::Wakes;
use smoq::{
    BroadcastProducer, BroadcastRequest, Client, Driver, Hop, Instant, Limits, Origin,
    OriginConsumer, OriginDynamic, OriginProducer, Version,
};

use super::{allocations, assert_amortized, assert_each_flat};

const FEW: usize = 100;
const MANY: usize = 10 * FEW;

/// Allocations per item, and bytes per item that remain allocated.
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

/// Asserts that each of many items costs no more than each of a few, for all steps of a test.
fn assert_flat(names: &[&str], [few, many]: [Vec<Cost>; 2]) {
    for (name, (few, many)) in names.iter().zip(few.iter().zip(&many)) {
        assert_each_flat(name, [few.allocations, many.allocations], 0.2, 1.0);
        assert_each_flat(name, [few.left, many.left], 0.2, 32.0);
    }
}

fn origin() -> OriginProducer {
    let mut limits = Limits::default();
    limits.broadcast_requests = 2 * MANY;
    Origin::new(Hop::new(1)).limits(limits).produce()
}

fn next(store: &mut OriginDynamic) -> BroadcastRequest {
    match store.try_requested_broadcast() {
        Poll::Ready(request) => request,
        Poll::Pending => panic!("no request"),
    }
}

fn paths(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("archive/{n}")).collect()
}

fn waiting_readers(
    origin: &OriginProducer,
    paths: &[String],
    waker: &Waker,
) -> Vec<OriginConsumer> {
    let ask = |path: &String| {
        let mut reader = origin.consume();
        let mut cx = Context::from_waker(waker);
        assert!(reader.poll_request_broadcast(&mut cx, path).is_pending());
        reader
    };
    paths.iter().map(ask).collect()
}

/// One broadcast is the answer for many paths.
#[test]
fn requested_paths_of_one_broadcast() {
    let costs = [FEW, MANY].map(|count| {
        let (origin, other, paths) = (origin(), origin(), paths(count));
        let mut store = origin.dynamic("archive").unwrap();
        let one = other.create_broadcast("one").unwrap();
        let mut readers = waiting_readers(&origin, &paths, Waker::noop());
        let mut found = Vec::with_capacity(count);
        let enter = cost(count, || {
            for (reader, path) in readers.iter_mut().zip(&paths) {
                next(&mut store).accept_broadcast(&one.consume()).unwrap();
                let Poll::Ready(Ok(broadcast)) = reader.try_request_broadcast(path) else {
                    panic!("no answer")
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
        // Once more, but the broadcast ends before its readers leave.
        let mut readers = waiting_readers(&origin, &paths, Waker::noop());
        paths.iter().for_each(|_| next(&mut store).accept_broadcast(&one.consume()).unwrap());
        let take =
            |(reader, path): (&mut OriginConsumer, &String)| reader.try_request_broadcast(path);
        let found: Vec<_> = readers.iter_mut().zip(&paths).map(take).collect();
        let end = cost(count, || drop(one));
        drop((readers, found));
        vec![enter, find, leave, end]
    });
    assert_flat(&["enter", "find", "leave", "end"], costs);
}

#[test]
fn unread_paths_leave_no_memory_behind() {
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

/// Requests without an answer: to make them, to answer them, and to change something else.
#[test]
fn unanswered_requests_for_broadcasts() {
    let costs = [FEW, MANY].map(|count| {
        let (origin, paths) = (origin(), paths(count));
        let mut store = origin.dynamic("archive").unwrap();
        let wakes = Wakes::new();
        let mut readers = Vec::new();
        let ask = cost(count, || readers = waiting_readers(&origin, &paths, wakes.waker()));
        // Broadcasts that do not match a request wake no reader. A reader goes on waiting when a
        // handler with a longer prefix has its request.
        let others = cost(count, || {
            for _ in 0..count {
                drop(origin.create_broadcast("archive").unwrap());
                drop(origin.dynamic("archive/elsewhere").unwrap());
                drop(origin.dynamic("").unwrap());
            }
        });
        let near = origin.dynamic("archive/7").unwrap();
        assert_eq!(wakes.count(), 0);
        drop(near);
        assert_eq!(wakes.count(), 1, "another handler or peer may have the broadcast");
        let before = wakes.count();
        let mut out: Vec<_> = paths.iter().map(|_| next(&mut store)).collect();
        let answer = cost(count, || out.drain(..).for_each(|request| drop(request.accept())));
        assert!(wakes.count() - before <= count, "each reader is woken only for its own answer");
        let leave = cost(count, || drop(readers));
        vec![ask, others, answer, leave]
    });
    assert_flat(&["ask", "others", "answer", "leave"], costs);
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
            vec![open, ask, close]
        });
        assert_flat(&["open", "ask", "close"], costs);
    }
}

/// One of many sessions keeps the deadlines of an origin, and only that one is woken.
#[test]
fn a_deadline_of_an_origin_wakes_one_of_its_sessions() {
    let costs = [FEW, MANY].map(|count| {
        let origin = origin();
        let mut drivers: Vec<Driver> = Vec::with_capacity(count);
        let client = Client::new().with_origin(&origin);
        let open = cost(count, || {
            for _ in 0..count {
                drivers.push(client.connect(Version::Lite06, Instant::ZERO).1);
            }
        });
        let wakes = Wakes::new();
        for driver in &mut drivers {
            while driver.work(Instant::ZERO) {}
            assert!(driver.poll_wake(&mut wakes.context()).is_pending());
        }
        let _store = origin.dynamic("archive").unwrap();
        let before = wakes.count();
        let _waiting = waiting_readers(&origin, &paths(10), Waker::noop());
        assert!(wakes.count() - before <= 1, "{} of {count} woken", wakes.count() - before);
        let close = cost(count, || drop(drivers));
        vec![open, close]
    });
    assert_flat(&["open", "close"], costs);
}

/// One broadcast is announced under many paths.
#[test]
fn announced_paths_of_one_broadcast() {
    let costs = [FEW, MANY].map(|count| {
        let (origin, other, paths) = (origin(), origin(), paths(count));
        let one: BroadcastProducer = other.create_broadcast("one").unwrap();
        let consumer = one.consume();
        let enter = cost(count, || {
            paths.iter().for_each(|path| origin.publish_broadcast(&**path, &consumer).unwrap());
        });
        let end = cost(count, || drop(one));
        vec![enter, end]
    });
    assert_flat(&["enter", "end"], costs);
}

#[test]
fn paths_of_an_origin() {
    let announce = |n: usize, wakes: &Wakes| {
        let origin = Origin::default().produce();
        let mut listener = origin.consume();
        let mut live = Vec::new();
        for n in 0..n {
            while listener.poll_announced(&mut wakes.context()).is_ready() {}
            live.push(origin.create_broadcast(&*format!("room/{n}")).unwrap());
        }
        for _ in 0..n {
            while listener.poll_announced(&mut wakes.context()).is_ready() {}
            live.pop();
        }
    };
    assert_amortized("allocations", |n| allocations(|| announce(n, &Wakes::new())));
    assert_amortized("wake-ups", |n| {
        let wakes = Wakes::new();
        announce(n, &wakes);
        wakes.count()
    });
}

#[test]
fn requests_of_many_readers_for_broadcasts() {
    let ask = |n: usize, wakes: &Wakes| {
        let mut limits = Limits::default();
        limits.broadcast_requests = n;
        let origin = Origin::default().limits(limits).produce();
        let mut store = origin.dynamic("store").unwrap();
        let mut readers: Vec<_> = (0..n).map(|_| origin.consume()).collect();
        let mut requests = Vec::new();
        for (at, readers) in readers.iter_mut().enumerate() {
            let path = format!("store/{at}");
            assert!(readers.poll_request_broadcast(&mut wakes.context(), &path).is_pending());
            while let Poll::Ready(request) = store.poll_requested_broadcast(&mut wakes.context()) {
                requests.push(request);
            }
        }
        for request in requests {
            request.reject(smoq::Error::NotFound);
        }
    };
    assert_amortized("allocations", |n| allocations(|| ask(n, &Wakes::new())));
    assert_amortized("wake-ups", |n| {
        let wakes = Wakes::new();
        ask(n, &wakes);
        wakes.count()
    });
}

/// A change wakes each listener of a prefix above it and each reader that waits for exactly its path, once.
#[test]
fn a_change_wakes_only_the_readers_that_it_concerns() {
    for n in [10_usize, 100] {
        let origin = Origin::default().produce();
        let rooms: Vec<_> = (0..n).map(|at| format!("room/{at}")).collect();
        let wakes: Vec<_> = (0..n + 5).map(|_| Wakes::new()).collect();
        let listen = |prefixes: &[&str], at: usize| {
            let mut listener = origin.consume().scope(prefixes.iter().copied()).unwrap();
            assert!(listener.poll_announced(&mut wakes[at].context()).is_pending());
            listener
        };
        let mut listeners: Vec<_> =
            rooms.iter().enumerate().map(|(at, room)| listen(&[room], at)).collect();
        listeners.push(listen(&[""], n));
        listeners.push(listen(&["hall", "room/7", "x"], n + 1));
        let exact = |path: &str, at: usize| {
            let mut listener = origin.consume();
            let poll = listener.poll_announced_broadcast(&mut wakes[at].context(), path);
            assert!(poll.is_pending());
            listener
        };
        listeners.push(exact("room/7", n + 2));
        listeners.push(exact("room/7/a", n + 3));
        listeners.push(exact("room/7/a/b", n + 4));
        let woken = || -> Vec<usize> {
            let all = wakes.iter().enumerate();
            all.flat_map(|(at, wakes)| vec![at; wakes.take()]).collect()
        };
        let broadcast = origin.create_broadcast("room/7/a").unwrap();
        assert_eq!(woken(), [7, n, n + 1, n + 3]);
        let again = origin.create_broadcast("room/7/a").unwrap();
        assert_eq!(woken(), [0; 0], "no reader waits");
        let mut cx = wakes[7].context();
        let seven = &mut listeners[7];
        assert!(
            seven.poll_announced(&mut cx).is_ready() && seven.poll_announced(&mut cx).is_pending()
        );
        drop(broadcast);
        assert_eq!(woken(), [0; 0], "the other one is shown");
        drop(again);
        assert_eq!(woken(), [7]);
        let room = origin.create_broadcast("room/7").unwrap();
        assert_eq!(woken(), [n + 2]);
        drop(room);
        // All others still wait, and are woken by the end of the origin.
        drop(origin);
        let rest: Vec<_> = (0..n).filter(|at| *at != 7).chain([n + 4]).collect();
        assert_eq!(woken(), rest);
    }
}
