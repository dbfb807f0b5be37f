//! Broadcasts that are requested by name, without a runtime and without a session.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use smoq::sim::Wakes;
use smoq::{
    BroadcastConsumer, BroadcastRequest, Error, Hop, Instant, LimitKind, Limits, Origin,
    OriginConsumer, OriginDynamic, OriginProducer, Path, Subscription, TrackInfo,
};

struct Unpark(Thread, AtomicBool);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.1.store(true, Ordering::Relaxed);
        self.0.unpark();
    }
}

/// A minimal executor.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let unpark = Arc::new(Unpark(thread::current(), AtomicBool::new(false)));
    let waker = Waker::from(unpark.clone());
    let (mut future, mut cx) = (pin!(future), Context::from_waker(&waker));
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(value) => return value,
            Poll::Pending => {
                let woken = (0..20).any(|_| {
                    thread::park_timeout(Duration::from_millis(100));
                    unpark.1.swap(false, Ordering::Relaxed)
                });
                assert!(woken, "no wake-up for a waiter of {}", std::any::type_name::<T>());
            }
        }
    }
}

fn origin() -> OriginProducer {
    Origin::new(Hop::new(1)).produce()
}

fn request(store: &mut OriginDynamic) -> Option<BroadcastRequest> {
    match store.try_requested_broadcast() {
        Poll::Ready(request) => Some(request),
        Poll::Pending => None,
    }
}

fn found(reader: &mut OriginConsumer, path: &str) -> BroadcastConsumer {
    match reader.try_request_broadcast(path) {
        Poll::Ready(Ok(broadcast)) => broadcast,
        other => panic!("{path}: {other:?}"),
    }
}

fn refused(reader: &mut OriginConsumer, path: &str) -> Error {
    match reader.try_request_broadcast(path) {
        Poll::Ready(Err(error)) => error,
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "threads are what is tested")]
fn many_threads_request_and_one_answers() {
    let origin = origin();
    let mut store = origin.dynamic("archive").unwrap();
    let readers: Vec<_> = (0..8)
        .map(|n| {
            let mut reader = origin.consume();
            thread::spawn(move || {
                let path = format!("archive/{}", n % 2);
                let found = block_on(reader.request_broadcast(&path)).unwrap();
                assert_eq!(found.path().as_str(), path);
                found
            })
        })
        .collect();
    let mut kept = Vec::new();
    for _ in 0..2 {
        kept.push(block_on(store.requested_broadcast()).accept());
    }
    for reader in readers {
        let found = reader.join().unwrap();
        assert!(kept.iter().any(|broadcast| broadcast.consume().is_clone(&found)));
    }
    assert!(request(&mut store).is_none(), "a live broadcast is not requested again");
}

#[test]
fn readers_of_a_path_share_one_request() {
    let origin = origin();
    let mut store = origin.dynamic("archive").unwrap();
    let (mut one, mut two) = (origin.consume(), origin.consume());
    for reader in [&mut one, &mut two] {
        assert!(reader.try_request_broadcast("archive/a").is_pending());
        assert!(reader.try_request_broadcast("archive/a").is_pending(), "it waits");
    }
    let asked = request(&mut store).expect("no request");
    assert_eq!(asked.path(), &Path::new("archive/a"));
    assert!(request(&mut store).is_none());
    // Another reader joins the request even after it was handed out.
    let mut three = origin.consume();
    assert!(three.try_request_broadcast("archive/a").is_pending());
    let mut broadcast = asked.accept();
    for reader in [&mut one, &mut two, &mut three] {
        assert!(found(reader, "archive/a").is_clone(&broadcast.consume()));
    }
    // Later readers find the broadcast, although it is not announced.
    assert!(found(&mut origin.consume(), "archive/a").is_clone(&broadcast.consume()));
    assert!(origin.consume().try_announced().is_pending());
    assert!(origin.consume().broadcast("archive/a").is_none());
    assert!(origin.consume().broadcast("archive").is_none(), "the prefix is not a broadcast");
    broadcast.finish().unwrap();
    assert!(one.try_request_broadcast("archive/a").is_pending());
    assert!(request(&mut store).is_some(), "an ended broadcast is requested again");
}

#[test]
fn an_announced_broadcast_comes_before_a_handler() {
    let origin = origin();
    assert_eq!(refused(&mut origin.consume(), "a/b/c"), Error::Unroutable);
    let mut all = origin.dynamic("").unwrap();
    let mut near = origin.dynamic("a/b").unwrap();
    let mut reader = origin.consume();
    for (path, is_near) in [("a/b/c", true), ("a/b", true), ("a/bc", false), ("a", false)] {
        assert!(reader.try_request_broadcast(path).is_pending());
        let (mut asked, other) = (request(&mut near), request(&mut all));
        assert_eq!((asked.is_some(), other.is_some()), (is_near, !is_near), "{path}");
        asked = asked.or(other);
        assert_eq!(asked.map(|asked| asked.path().clone()), Some(Path::new(path)));
        assert_eq!(refused(&mut reader, path), Error::Dropped, "{path}: unanswered");
    }
    let announced = origin.create_broadcast("a/b/c").unwrap();
    assert!(found(&mut reader, "a/b/c").is_clone(&announced.consume()));
    // Of two handlers with the same prefix the newer one is asked, and then the other.
    let mut newer = origin.dynamic("a/b").unwrap();
    assert!(reader.try_request_broadcast("a/b/d").is_pending());
    assert!(request(&mut near).is_none() && request(&mut newer).is_some());
    drop(newer);
    assert!(reader.try_request_broadcast("a/b/e").is_pending());
    assert!(request(&mut near).is_some());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "threads are what is tested")]
fn a_waiting_reader_gets_a_broadcast_announced_meanwhile() {
    let origin = origin();
    let store = origin.dynamic("a").unwrap();
    let mut reader = origin.consume();
    assert!(reader.try_request_broadcast("a/b").is_pending());
    let waiting = thread::spawn(move || block_on(reader.request_broadcast("a/b")));
    let broadcast = origin.create_broadcast("a/b").unwrap();
    assert!(waiting.join().unwrap().unwrap().is_clone(&broadcast.consume()));
    drop(store);
}

#[test]
fn an_unwanted_request_is_withdrawn() {
    let origin = Origin::new(Hop::new(1))
        .limits({
            let mut limits = Limits::default();
            limits.broadcast_requests = 2;
            limits
        })
        .produce();
    let mut store = origin.dynamic("").unwrap();
    for n in 0..1_000 {
        let mut reader = origin.consume();
        assert!(reader.try_request_broadcast(&format!("never/{n}")).is_pending());
        // The request for the previous path is withdrawn.
        assert!(reader.try_request_broadcast(&format!("again/{n}")).is_pending());
    }
    assert!(request(&mut store).is_none());

    let [mut one, mut two, mut three] = [(); 3].map(|()| origin.consume());
    assert!(one.try_request_broadcast("one").is_pending());
    assert!(two.try_request_broadcast("two").is_pending());
    let over = Error::Limit(LimitKind::BroadcastRequests);
    assert_eq!(refused(&mut three, "three"), over);
    assert!(three.try_request_broadcast("two").is_pending(), "it shares a request");
    let mut asked = request(&mut store).unwrap();
    assert!(asked.try_unused().is_pending());
    drop(one);
    assert!(asked.try_unused().is_ready());
    assert_eq!(
        refused(&mut three, "three"),
        over,
        "a request that was handed out counts until it is answered"
    );
    asked.reject(Error::App(3));
    assert!(three.try_request_broadcast("three").is_pending());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "threads are what is tested")]
fn each_ending_of_a_request_reaches_its_reader() {
    let origin = origin();
    let mut reader = origin.consume();
    let mut store = origin.dynamic("a").unwrap();
    let ask =
        |reader: &mut OriginConsumer| assert!(reader.try_request_broadcast("a/b").is_pending());

    ask(&mut reader);
    request(&mut store).unwrap().reject(Error::App(7));
    assert_eq!(refused(&mut reader, "a/b"), Error::App(7));

    ask(&mut reader);
    let mut ended = origin.create_broadcast("elsewhere").unwrap();
    ended.abort(Error::App(8));
    let answer = request(&mut store).unwrap().accept_broadcast(&ended.consume());
    assert_eq!(answer, Err(Error::App(8)));
    assert_eq!(refused(&mut reader, "a/b"), Error::App(8));

    ask(&mut reader);
    let other = store.clone();
    drop(store);
    assert!(reader.try_request_broadcast("a/b").is_pending(), "a clone of the handler is left");
    let waiting = thread::spawn(move || block_on(reader.request_broadcast("a/b")));
    drop(other);
    assert_eq!(waiting.join().unwrap().err(), Some(Error::Unroutable));

    // A request that was handed out can still be answered, and an accepted broadcast stays.
    let mut reader = origin.consume();
    let mut store = origin.dynamic("a").unwrap();
    ask(&mut reader);
    let asked = request(&mut store).unwrap();
    drop(store);
    let broadcast = asked.accept();
    assert!(found(&mut reader, "a/b").is_clone(&broadcast.consume()));
    assert!(found(&mut origin.consume(), "a/b").is_clone(&broadcast.consume()));
    drop(broadcast);
    assert_eq!(refused(&mut reader, "a/b"), Error::Unroutable);
}

#[test]
fn requests_use_the_paths_of_their_handles() {
    let origin = origin();
    let rooted = origin.with_root("org").unwrap();
    assert!(origin.scope(["a"]).unwrap().dynamic("b").is_err());
    let mut store = rooted.dynamic("archive").unwrap();
    let mut reader = origin.consume();
    assert!(reader.try_request_broadcast("org/archive/x").is_pending());
    let asked = request(&mut store).unwrap();
    assert_eq!(asked.path(), &Path::new("archive/x"));
    let _broadcast = asked.accept();
    assert_eq!(found(&mut reader, "org/archive/x").path(), &Path::new("org/archive/x"));
    let mut scoped = origin.consume().scope(["org/archive/x"]).unwrap();
    found(&mut scoped, "org/archive/x");
    assert_eq!(refused(&mut scoped, "org/archive/y"), Error::Unauthorized);
}

/// `Limits::answer_timeout`.
const ANSWER_MILLIS: u64 = 10_000;

fn ask(reader: &mut OriginConsumer, path: &str) {
    assert!(reader.try_request_broadcast(path).is_pending(), "{path} exists already");
}

/// One broadcast may answer for any number of paths, which readers choose. Each path is remembered only as
/// long as somebody holds what it led to.
#[test]
fn an_unread_path_is_forgotten() {
    let (origin, other) = (origin(), Origin::new(Hop::new(9)).produce());
    let mut store = origin.dynamic("archive").unwrap();
    let mut one = other.create_broadcast("one").unwrap();
    let mut video = one.create_track("video").unwrap();
    video.write_frame(0, "moon").unwrap();
    let mut reader = origin.consume();
    let answer = |reader: &mut OriginConsumer, store: &mut OriginDynamic, path: &str| {
        ask(reader, path);
        request(store).expect("asked").accept_broadcast(&one.consume()).unwrap();
    };
    answer(&mut reader, &mut store, "archive/a");
    let first = found(&mut reader, "archive/a");
    let track = found(&mut origin.consume(), "archive/a")
        .subscribe_track("video", Subscription::default())
        .unwrap();
    drop(first);
    let last = track.clone();
    drop(track);
    assert!(request(&mut store).is_none());
    drop(found(&mut origin.consume(), "archive/a"));
    assert!(last.latest_frame().is_some());
    drop(last);
    ask(&mut reader, "archive/a");
    let asked = request(&mut store).expect("the forgotten path is requested again");
    // The reader leaves without taking the answer.
    drop(reader);
    asked.accept_broadcast(&one.consume()).unwrap();
    let mut reader = origin.consume();
    ask(&mut reader, "archive/a");
    assert!(request(&mut store).is_some(), "the path is forgotten as well");
    // An ended broadcast is requested again, even by a reader that still holds it.
    answer(&mut reader, &mut store, "archive/b");
    let kept = found(&mut reader, "archive/b");
    one.finish().unwrap();
    ask(&mut reader, "archive/b");
    let mut broadcast = request(&mut store).unwrap().accept();
    drop(kept);
    assert!(
        found(&mut reader, "archive/b").is_clone(&broadcast.consume()),
        "the new answer, not the old one"
    );
    broadcast.finish().unwrap();
}

#[test]
fn a_request_without_an_answer_times_out() {
    let origin = origin();
    let mut store = origin.dynamic("archive").unwrap();
    origin.advance(Instant::from_millis(5_000));
    let [mut queued, mut out, mut late] = [(); 3].map(|()| origin.consume());
    ask(&mut out, "archive/out");
    let mut asked = request(&mut store).unwrap();
    ask(&mut queued, "archive/queued");
    let wakes = Wakes::new();
    let polled = out.poll_request_broadcast(&mut wakes.context(), "archive/out");
    assert!(polled.is_pending());
    origin.advance(Instant::from_millis(9_000));
    ask(&mut late, "archive/late");
    origin.advance(Instant::from_millis(5_000 + ANSWER_MILLIS - 1));
    assert!(asked.try_unused().is_pending());
    assert_eq!(wakes.count(), 0);
    origin.advance(Instant::from_millis(5_000 + ANSWER_MILLIS));
    assert_eq!(wakes.count(), 1);
    assert_eq!(refused(&mut out, "archive/out"), Error::Timeout);
    assert_eq!(refused(&mut queued, "archive/queued"), Error::Timeout);
    assert!(asked.try_unused().is_ready(), "no reader waits for it");
    ask(&mut late, "archive/late");
    let next = request(&mut store).expect("the deadline of the other request has not passed");
    assert_eq!(next.path().as_str(), "archive/late");
    assert!(request(&mut store).is_none());
    // A late answer serves the readers that ask now.
    let broadcast = asked.accept();
    assert!(found(&mut out, "archive/out").is_clone(&broadcast.consume()));
    drop((next, broadcast));
    ask(&mut out, "archive/out");
    assert!(request(&mut store).is_some());
}

#[test]
fn requests_for_tracks_and_groups_time_out() {
    let origin = origin();
    let mut broadcast = origin.create_broadcast("live").unwrap();
    let mut dynamic = broadcast.dynamic();
    let consumer = broadcast.consume();
    let mut readers = ["queued", "out"].map(|name| {
        let reader = consumer.subscribe_track(name, Subscription::default()).unwrap();
        (name, reader)
    });
    let Poll::Ready(Ok(_queued)) = dynamic.try_requested_track() else { panic!("asked") };
    let mut past = broadcast.create_track("past").unwrap();
    let mut groups = past.dynamic();
    past.create_group(9).unwrap().finish().unwrap();
    let mut fetching = past.consume();
    assert!(fetching.try_fetch_group(3).is_pending());
    let Poll::Ready(Ok(mut group)) = groups.try_requested_group() else { panic!("asked") };
    origin.advance(Instant::from_millis(ANSWER_MILLIS - 1));
    assert!(readers.iter_mut().all(|(_, reader)| reader.try_recv_group().is_pending()));
    assert!(fetching.try_fetch_group(3).is_pending());
    assert!(group.try_unused().is_pending());
    origin.advance(Instant::from_millis(ANSWER_MILLIS));
    for (name, reader) in &mut readers {
        assert!(matches!(reader.try_recv_group(), Poll::Ready(Err(Error::Timeout))), "{name}");
    }
    assert!(matches!(fetching.try_fetch_group(3), Poll::Ready(Err(Error::Timeout))));
    assert!(group.try_unused().is_ready());
    assert!(matches!(group.accept(), Ok(_) | Err(_)));
    assert!(dynamic.try_requested_track().is_pending(), "an expired request is not handed out");
    // The track is requested again. Once accepted it has no deadline.
    let mut again = consumer.subscribe_track("queued", Subscription::default()).unwrap();
    let Poll::Ready(Ok(asked)) = dynamic.try_requested_track() else { panic!("no second request") };
    let track = asked.accept(TrackInfo::default()).unwrap();
    origin.advance(Instant::from_millis(10 * ANSWER_MILLIS));
    assert!(again.try_recv_group().is_pending());
    drop((track, readers));
}

/// A reader is served by the best handler at the time, not by the one that was best when it asked.
#[test]
fn a_request_moves_to_a_handle_with_a_longer_prefix() {
    let origin = origin();
    let mut wide = origin.dynamic("").unwrap();
    let mut reader = origin.consume();
    for is_out in [false, true] {
        ask(&mut reader, "a/b/c");
        let mut out = is_out.then(|| request(&mut wide).unwrap());
        let mut near = origin.dynamic("a/b").unwrap();
        assert!(request(&mut wide).is_none(), "the request moved away");
        if let Some(out) = &mut out {
            assert!(out.try_unused().is_ready(), "no reader waits for it any more");
        }
        // Its prefix shares text with the path but not all segments, and does not cover it.
        let aside = origin.dynamic("a/bc").unwrap();
        let asked = request(&mut near).expect("no request at the longest prefix");
        ask(&mut reader, "a/b/c");
        let late = out.map(|out| out.accept());
        ask(&mut reader, "a/b/c");
        let broadcast = asked.accept();
        assert!(found(&mut reader, "a/b/c").is_clone(&broadcast.consume()));
        drop((late, aside));
    }
    // The request moves back when that handler leaves, to the newest one with the same prefix.
    let mut near = origin.dynamic("a/b").unwrap();
    ask(&mut reader, "a/b/d");
    let mut newer = origin.dynamic("a/b").unwrap();
    assert!(request(&mut near).is_none());
    drop(newer.clone());
    let kept = newer.clone();
    drop((newer, near));
    newer = kept;
    assert!(request(&mut wide).is_none());
    drop(newer);
    let asked = request(&mut wide).expect("no request at the last handler");
    drop(wide);
    let broadcast = asked.accept();
    assert!(found(&mut reader, "a/b/d").is_clone(&broadcast.consume()));
}
