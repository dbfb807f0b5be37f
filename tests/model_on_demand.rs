//! Broadcasts that are asked for by name, without a runtime and without a session.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use smoq::{
    BroadcastConsumer, BroadcastRequest, Error, Hop, Limits, Origin, OriginConsumer, OriginDynamic,
    OriginProducer, Path,
};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// All the executor that it takes.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let (mut future, mut cx) = (pin!(future), Context::from_waker(&waker));
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
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
fn threads_ask_and_one_answers() {
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
        kept.push(block_on(store.requested_broadcast()).accept().unwrap());
    }
    for reader in readers {
        let found = reader.join().unwrap();
        assert!(kept.iter().any(|broadcast| broadcast.consume().is_clone(&found)));
    }
    assert!(request(&mut store).is_none(), "what lives is not asked for again");
}

#[test]
fn all_who_want_a_path_share_one_request() {
    let origin = origin();
    let mut store = origin.dynamic("archive").unwrap();
    let (mut one, mut two) = (origin.consume(), origin.consume());
    for reader in [&mut one, &mut two] {
        assert!(reader.try_request_broadcast("archive/a").is_pending());
        assert!(reader.try_request_broadcast("archive/a").is_pending(), "asked once");
    }
    let asked = request(&mut store).expect("asked for");
    assert_eq!(asked.path(), &Path::new("archive/a"));
    assert!(request(&mut store).is_none());
    // It is joined also when it is out.
    let mut three = origin.consume();
    assert!(three.try_request_broadcast("archive/a").is_pending());
    let mut broadcast = asked.accept().unwrap();
    for reader in [&mut one, &mut two, &mut three] {
        assert!(found(reader, "archive/a").is_clone(&broadcast.consume()));
    }
    // It is there for who comes later, and not announced.
    assert!(found(&mut origin.consume(), "archive/a").is_clone(&broadcast.consume()));
    assert!(origin.consume().try_announced().is_pending());
    assert!(origin.consume().get_broadcast("archive/a").is_none());
    assert!(origin.consume().get_broadcast("archive").is_none(), "the prefix is no broadcast");
    broadcast.finish().unwrap();
    assert!(one.try_request_broadcast("archive/a").is_pending());
    assert!(request(&mut store).is_some(), "what ended is asked for anew");
}

#[test]
fn the_announced_broadcast_comes_first_and_the_longest_prefix_next() {
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
    // Of two for the same prefix the newest is asked, and then the other one.
    let mut newer = origin.dynamic("a/b").unwrap();
    assert!(reader.try_request_broadcast("a/b/d").is_pending());
    assert!(request(&mut near).is_none() && request(&mut newer).is_some());
    drop(newer);
    assert!(reader.try_request_broadcast("a/b/e").is_pending());
    assert!(request(&mut near).is_some());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "threads are what is tested")]
fn who_asked_gets_what_is_announced_meanwhile() {
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
fn a_request_that_nobody_wants_is_taken_back() {
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
        // The one before is taken back.
        assert!(reader.try_request_broadcast(&format!("again/{n}")).is_pending());
    }
    assert!(request(&mut store).is_none());

    let [mut one, mut two, mut three] = [(); 3].map(|()| origin.consume());
    assert!(one.try_request_broadcast("one").is_pending());
    assert!(two.try_request_broadcast("two").is_pending());
    let over = Error::Limit("requests for broadcasts");
    assert_eq!(refused(&mut three, "three"), over);
    assert!(three.try_request_broadcast("two").is_pending(), "it is one more who wants the same");
    let mut asked = request(&mut store).unwrap();
    assert!(asked.try_unused().is_pending());
    drop(one);
    assert!(asked.try_unused().is_ready());
    assert_eq!(refused(&mut three, "three"), over, "it is out and has to be answered");
    asked.reject(Error::App(3));
    assert!(three.try_request_broadcast("three").is_pending());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "threads are what is tested")]
fn endings_of_a_request() {
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
    ended.abort(Error::App(8)).unwrap();
    let answer = request(&mut store).unwrap().accept_broadcast(&ended.consume());
    assert_eq!(answer, Err(Error::App(8)));
    assert_eq!(refused(&mut reader, "a/b"), Error::App(8));

    ask(&mut reader);
    let other = store.clone();
    drop(store);
    assert!(reader.try_request_broadcast("a/b").is_pending(), "there is a clone");
    let waiting = thread::spawn(move || block_on(reader.request_broadcast("a/b")));
    drop(other);
    assert_eq!(waiting.join().unwrap().err(), Some(Error::Unroutable));

    // What was handed out can be answered still, and what was accepted stays.
    let mut reader = origin.consume();
    let mut store = origin.dynamic("a").unwrap();
    ask(&mut reader);
    let asked = request(&mut store).unwrap();
    drop(store);
    let broadcast = asked.accept().unwrap();
    assert!(found(&mut reader, "a/b").is_clone(&broadcast.consume()));
    assert!(found(&mut origin.consume(), "a/b").is_clone(&broadcast.consume()));
    drop(broadcast);
    assert_eq!(refused(&mut reader, "a/b"), Error::Unroutable);
}

#[test]
fn paths_are_those_of_the_handles() {
    let origin = origin();
    let rooted = origin.with_root("org").unwrap();
    assert!(origin.scope(&["a".into()]).unwrap().dynamic("b").is_err());
    let mut store = rooted.dynamic("archive").unwrap();
    let mut reader = origin.consume();
    assert!(reader.try_request_broadcast("org/archive/x").is_pending());
    let asked = request(&mut store).unwrap();
    assert_eq!(asked.path(), &Path::new("archive/x"));
    let _broadcast = asked.accept().unwrap();
    assert_eq!(found(&mut reader, "org/archive/x").path(), &Path::new("org/archive/x"));
    let mut scoped = origin.consume().scope(&["org/archive/x".into()]).unwrap();
    found(&mut scoped, "org/archive/x");
    assert_eq!(refused(&mut scoped, "org/archive/y"), Error::Unauthorized);
}
