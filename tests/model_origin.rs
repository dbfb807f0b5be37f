//! Origins and broadcasts as an application sees them, without a runtime, on plain threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use smoq::sim::Wakes;
use smoq::{
    BroadcastProducer, Error, Hop, Origin, OriginConsumer, OriginProducer, Path, Subscription,
    Track, TrackInfo,
};

fn origin() -> OriginProducer {
    Origin::new(Hop::new(1)).produce()
}

/// The announcements that `consumer` receives now: `+path` and `-path`, and `end` at the end.
fn changes(consumer: &mut OriginConsumer) -> Vec<String> {
    let mut out = Vec::new();
    loop {
        match consumer.try_announced() {
            Poll::Ready(Some(change)) => {
                let sign = if change.broadcast.is_some() { '+' } else { '-' };
                out.push(format!("{sign}{}", change.path));
            }
            Poll::Ready(None) => {
                out.push("end".into());
                return out;
            }
            Poll::Pending => return out,
        }
    }
}

fn paths(texts: &[&str]) -> Vec<Path> {
    texts.iter().copied().map(Path::from).collect()
}

fn any() -> Subscription {
    Subscription::default()
}

#[test]
fn a_broadcast_is_announced_until_it_ends_in_any_way() {
    let origin = origin();
    let mut consumer = origin.consume();
    let ends: [fn(BroadcastProducer); 3] = [
        |mut broadcast| broadcast.finish().unwrap(),
        |mut broadcast| broadcast.abort(Error::App(5)),
        drop,
    ];
    for end in ends {
        let broadcast = origin.create_broadcast("room/alice").unwrap();
        assert_eq!(broadcast.path().as_str(), "room/alice");
        assert_eq!(changes(&mut consumer), ["+room/alice"]);
        assert!(consumer.broadcast("room/alice").is_some());
        end(broadcast);
        assert_eq!(changes(&mut consumer), ["-room/alice"]);
        assert!(consumer.broadcast("room/alice").is_none());
    }
}

#[test]
fn only_the_last_producer_ends_the_announcement() {
    let origin = origin();
    let mut consumer = origin.consume();
    let first = origin.create_broadcast("a").unwrap();
    let second = first.clone();
    let dynamic = first.dynamic();
    assert_eq!(changes(&mut consumer), ["+a"]);
    drop(first);
    drop(second);
    assert_eq!(changes(&mut consumer), [""; 0], "a dynamic handle counts as a producer");
    drop(dynamic);
    assert_eq!(changes(&mut consumer), ["-a"]);
}

#[test]
fn announcements_end_with_the_last_producer_of_the_origin() {
    let origin = origin();
    let mut consumer = origin.consume();
    let second = origin.clone();
    let broadcast = second.create_broadcast("a").unwrap();
    let wakes = Wakes::new();
    let mut cx = wakes.context();
    assert!(consumer.poll_announced(&mut cx).is_ready());
    assert!(consumer.poll_announced(&mut cx).is_pending());
    drop(origin);
    assert_eq!(changes(&mut consumer), [""; 0]);
    drop(second);
    assert_eq!(wakes.count(), 1);
    assert_eq!(changes(&mut consumer), ["end"]);
    let mut late = consumer.consume();
    assert_eq!(changes(&mut late), ["+a", "end"], "all announcements precede the end");
    drop(broadcast);
    assert_eq!(changes(&mut late), ["-a", "end"]);
    assert!(matches!(late.try_announced_broadcast("a"), Poll::Ready(None)));
}

#[test]
fn a_clone_continues_and_a_new_consumer_starts_over() {
    let origin = origin();
    let mut first = origin.consume();
    let _a = origin.create_broadcast("a").unwrap();
    assert_eq!(changes(&mut first), ["+a"]);
    let _b = origin.create_broadcast("b").unwrap();
    let mut clone = first.clone();
    assert_eq!(changes(&mut clone), ["+b"]);
    assert_eq!(changes(&mut first), ["+b"]);
    assert_eq!(changes(&mut first.consume()), ["+a", "+b"]);
}

#[test]
fn changes_between_two_reads_are_coalesced() {
    let origin = origin();
    let mut consumer = origin.consume();
    for _ in 0..10_000 {
        drop(origin.create_broadcast("flicker").unwrap());
    }
    assert_eq!(changes(&mut consumer), [""; 0]);
    let old = origin.create_broadcast("a").unwrap();
    assert_eq!(changes(&mut consumer), ["+a"]);
    drop(old);
    let _new = origin.create_broadcast("a").unwrap();
    assert_eq!(changes(&mut consumer), ["-a", "+a"], "a new broadcast is not the old one");
}

#[test]
fn a_change_wakes_each_waiter_once_and_try_registers_nothing() {
    let origin = origin();
    let mut consumer = origin.consume();
    let wakes = Wakes::new();
    let mut cx = wakes.context();
    for _ in 0..3 {
        assert!(consumer.poll_announced(&mut cx).is_pending());
    }
    let mut other = origin.consume();
    assert!(other.try_announced().is_pending());
    let broadcast = origin.create_broadcast("a").unwrap();
    assert_eq!(wakes.count(), 1);
    drop(broadcast);
    assert_eq!(wakes.count(), 1, "the waiter was unregistered");
    assert!(consumer.poll_announced(&mut cx).is_pending());
    drop(consumer);
    let _broadcast = origin.create_broadcast("a").unwrap();
    assert_eq!(wakes.count(), 1, "a dropped waiter is not woken");
}

#[test]
fn scopes_only_restrict() {
    let origin = origin();
    let narrow = origin.scope(["room/1", "demo"]).unwrap();
    assert_eq!(narrow.create_broadcast("room/2").unwrap_err(), Error::Unauthorized);
    assert_eq!(narrow.create_broadcast("demo2").unwrap_err(), Error::Unauthorized);
    let _demo = narrow.create_broadcast("demo").unwrap();
    let one = narrow.create_broadcast("room/1/x").unwrap();
    let outside = origin.create_broadcast("room/2").unwrap();
    assert_eq!(narrow.publish_broadcast("else", &one.consume()).unwrap_err(), Error::Unauthorized);
    assert!(narrow.scope(["room/2"]).is_none());
    assert!(narrow.scope(["room"]).unwrap().allowed().eq(&paths(&["room/1"])));

    assert_eq!(changes(&mut narrow.consume()), ["+demo", "+room/1/x"]);
    let mut consumer = origin.consume().scope(["room/1"]).unwrap();
    assert_eq!(changes(&mut consumer), ["+room/1/x"], "the prefix is still part of the path");
    assert!(consumer.broadcast("room/1/x").is_some());
    assert!(consumer.broadcast("room/2").is_none());
    assert!(matches!(consumer.try_announced_broadcast("room/2"), Poll::Ready(None)));
    assert!(consumer.scope(["room/2"]).is_none());
    drop(outside);
    drop(one);
    assert_eq!(changes(&mut consumer), ["-room/1/x"]);
}

#[test]
fn roots_are_prepended_and_removed() {
    let origin = origin();
    let room = origin.with_root("/room/").unwrap();
    assert_eq!(room.root().as_str(), "room");
    let alice = room.create_broadcast("alice").unwrap();
    assert_eq!(alice.path().as_str(), "room/alice");
    assert_eq!(changes(&mut origin.consume()), ["+room/alice"]);
    assert_eq!(changes(&mut room.consume()), ["+alice"]);
    let mut consumer = origin.consume().with_root("room/alice").unwrap();
    assert_eq!(consumer.root().as_str(), "room/alice");
    assert_eq!(changes(&mut consumer), ["+"], "the broadcast at the root itself");
    assert!(consumer.broadcast("").is_some());
    assert!(consumer.broadcast("x").is_none());

    let narrow = origin.scope(["room/bob", "hall"]).unwrap();
    assert!(narrow.with_root("kitchen").is_none());
    let inside = narrow.with_root("room").unwrap();
    assert!(inside.allowed().eq(&paths(&["bob"])));
    assert_eq!(inside.create_broadcast("alice").unwrap_err(), Error::Unauthorized);
    assert_eq!(inside.create_broadcast("bob/x").unwrap().path().as_str(), "room/bob/x");
}

#[test]
fn the_newer_of_two_local_broadcasts_is_announced() {
    let origin = origin();
    let mut consumer = origin.consume();
    let old = origin.create_broadcast("a").unwrap();
    assert_eq!(changes(&mut consumer), ["+a"]);
    let new = origin.create_broadcast("a").unwrap();
    assert_eq!(changes(&mut consumer), ["-a", "+a"]);
    assert!(consumer.broadcast("a").unwrap().is_clone(&new.consume()));
    drop(new);
    assert_eq!(changes(&mut consumer), ["-a", "+a"]);
    assert!(consumer.broadcast("a").unwrap().is_clone(&old.consume()));
    drop(old);
    assert_eq!(changes(&mut consumer), ["-a"]);
}

#[test]
fn one_broadcast_can_have_many_paths() {
    let (here, there) = (origin(), Origin::new(Hop::new(2)).produce());
    let mut broadcast = here.create_broadcast("a").unwrap();
    let consumer = broadcast.consume();
    here.publish_broadcast("b", &consumer).unwrap();
    there.publish_broadcast("c", &consumer).unwrap();
    there.publish_broadcast("c", &consumer).unwrap();
    let (mut here_consumer, mut elsewhere) = (here.consume(), there.consume());
    assert_eq!(changes(&mut here_consumer), ["+a", "+b"]);
    assert_eq!(changes(&mut elsewhere), ["+c"]);
    broadcast.finish().unwrap();
    assert_eq!(changes(&mut here_consumer), ["-a", "-b"]);
    assert_eq!(changes(&mut elsewhere), ["-c"]);
    assert_eq!(there.publish_broadcast("d", &consumer).unwrap_err(), Error::Closed);
    let mut aborted = here.create_broadcast("a").unwrap();
    aborted.abort(Error::App(1));
    assert_eq!(there.publish_broadcast("d", &aborted.consume()).unwrap_err(), Error::App(1));
    assert_eq!(changes(&mut elsewhere), [""; 0]);
}

#[test]
fn a_reader_can_wait_for_one_path() {
    let origin = origin();
    let mut consumer = origin.consume();
    let wakes = Wakes::new();
    let mut cx = wakes.context();
    let path = "a/b";
    assert!(consumer.poll_announced_broadcast(&mut cx, path).is_pending());
    let _above = origin.create_broadcast("a").unwrap();
    assert!(consumer.poll_announced_broadcast(&mut cx, path).is_pending());
    let there = origin.create_broadcast("a/b").unwrap();
    assert_eq!(wakes.count(), 1, "a broadcast above the path does not count");
    let Poll::Ready(Some(found)) = consumer.poll_announced_broadcast(&mut cx, path) else {
        panic!("no broadcast");
    };
    assert!(found.is_clone(&there.consume()));
    assert_eq!(changes(&mut consumer), ["+a", "+a/b"], "the wait consumes no announcements");
}

#[test]
fn waits_are_futures_without_a_runtime() {
    fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
        std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }
    let origin = origin();
    let mut consumer = origin.consume();
    assert!(poll_once(consumer.announced()).is_pending());
    assert!(poll_once(consumer.announced_broadcast("a")).is_pending());
    let mut broadcast = origin.create_broadcast("a").unwrap();
    assert!(matches!(poll_once(consumer.announced()), Poll::Ready(Some(_))));
    assert!(matches!(poll_once(consumer.announced_broadcast("a")), Poll::Ready(Some(_))));
    let mut reader = broadcast.consume();
    let mut dynamic = broadcast.dynamic();
    assert!(poll_once(reader.closed()).is_pending());
    assert!(poll_once(broadcast.closed()).is_pending());
    assert!(poll_once(dynamic.requested_track()).is_pending());
    let _track = reader.subscribe_track("video", any()).unwrap();
    assert!(matches!(poll_once(dynamic.requested_track()), Poll::Ready(Ok(_))));
    broadcast.finish().unwrap();
    assert_eq!(poll_once(reader.closed()), Poll::Ready(Ok(())));
    assert_eq!(poll_once(broadcast.closed()), Poll::Ready(Ok(())));
    assert!(matches!(poll_once(dynamic.requested_track()), Poll::Ready(Err(Error::Closed))));
}

#[test]
fn names_of_live_tracks_are_unique() {
    let mut broadcast = origin().create_broadcast("a").unwrap();
    let video = broadcast.create_track("video").unwrap();
    assert_eq!(broadcast.create_track("video").err(), Some(Error::Duplicate));
    let first = broadcast.unique_track(".mp4").unwrap();
    let second = broadcast.unique_track(".mp4").unwrap();
    assert_eq!((first.name(), second.name()), ("0.mp4", "1.mp4"));
    drop(first);
    assert_eq!(broadcast.unique_track(".mp4").unwrap().name(), "0.mp4");
    drop(video);
    assert!(broadcast.create_track("video").is_ok(), "the name of an ended track is free");
}

#[test]
fn a_broadcast_does_not_keep_tracks_alive() {
    let mut broadcast = origin().create_broadcast("a").unwrap();
    let consumer = broadcast.consume();
    let video = broadcast.create_track("video").unwrap();
    assert!(consumer.subscribe_track("video", any()).is_ok());
    drop(video);
    assert_eq!(consumer.subscribe_track("video", any()).err(), Some(Error::NotFound));
}

/// The rows of the endings table for broadcasts.
#[test]
fn each_ending_of_a_broadcast_reaches_its_readers() {
    type End = fn(BroadcastProducer);
    let cases: [(End, Result<(), Error>, Error, Error); 3] = [
        (|mut b| b.finish().unwrap(), Ok(()), Error::NotFound, Error::NotFound),
        (|mut b| b.abort(Error::App(7)), Err(Error::App(7)), Error::App(7), Error::App(7)),
        (drop, Err(Error::Dropped), Error::Dropped, Error::Dropped),
    ];
    for (end, closed, refused, queued) in cases {
        let mut broadcast = origin().create_broadcast("a").unwrap();
        let mut consumer = broadcast.consume();
        let mut video = broadcast.create_track("video").unwrap();
        let mut running = consumer.subscribe_track("video", any()).unwrap();
        assert!(consumer.try_closed().is_pending() && !consumer.is_closed());
        let mut waiting = None;
        if refused != Error::Dropped {
            // A dynamic handle keeps the broadcast alive.
            let dynamic = broadcast.dynamic();
            waiting = Some((consumer.subscribe_track("audio", any()).unwrap(), dynamic));
        }
        let wakes = Wakes::new();
        assert!(consumer.poll_closed(&mut wakes.context()).is_pending());

        end(broadcast);

        assert_eq!(wakes.count(), 1);
        assert!(consumer.is_closed());
        assert_eq!(consumer.try_closed(), Poll::Ready(closed));
        assert_eq!(consumer.subscribe_track("video", any()).err(), Some(refused.clone()));
        assert_eq!(consumer.subscribe_track("other", any()).err(), Some(refused));
        if let Some((mut track, mut dynamic)) = waiting {
            assert_eq!(track.try_info(), Poll::Ready(Err(queued)));
            assert!(matches!(dynamic.try_requested_track(), Poll::Ready(Err(_))));
        }
        // An end does not affect the tracks: existing readers continue.
        video.write_frame(0, "still here").unwrap();
        let Poll::Ready(Ok(Some(frame))) = running.try_read_frame() else { panic!("a frame") };
        assert_eq!(frame.payload(), b"still here");
    }
}

#[test]
fn an_end_is_final() {
    let mut broadcast = origin().create_broadcast("a").unwrap();
    let mut clone = broadcast.clone();
    assert!(clone.try_closed().is_pending());
    broadcast.finish().unwrap();
    assert_eq!(clone.try_closed(), Poll::Ready(Ok(())));
    assert_eq!(clone.finish(), Err(Error::Closed));
    clone.abort(Error::App(1));
    assert_eq!(clone.create_track("video").err(), Some(Error::Closed));
    assert_eq!(clone.unique_track("").err(), Some(Error::Closed));

    let mut broadcast = origin().create_broadcast("a").unwrap();
    broadcast.abort(Error::App(1));
    assert_eq!(broadcast.finish(), Err(Error::App(1)));
    assert_eq!(broadcast.create_track("video").err(), Some(Error::App(1)));
}

#[test]
fn without_a_dynamic_handle_unknown_tracks_are_not_found() {
    let broadcast = origin().create_broadcast("a").unwrap();
    let consumer = broadcast.consume();
    assert_eq!(consumer.subscribe_track("video", any()).err(), Some(Error::NotFound));
    let dynamic = broadcast.dynamic();
    let second = dynamic.clone();
    drop(dynamic);
    let mut waiting = consumer.subscribe_track("video", any()).unwrap();
    assert!(waiting.try_info().is_pending());
    drop(second);
    assert_eq!(waiting.try_info(), Poll::Ready(Err(Error::NotFound)));
    assert_eq!(consumer.subscribe_track("video", any()).err(), Some(Error::NotFound));
}

#[test]
fn requests_are_shared_and_ordered() {
    let broadcast = origin().create_broadcast("a").unwrap();
    let consumer = broadcast.consume();
    let mut dynamic = broadcast.dynamic();
    let wakes = Wakes::new();
    assert!(dynamic.poll_requested_track(&mut wakes.context()).is_pending());
    let mut first = consumer.subscribe_track("one", any().priority(3)).unwrap();
    assert_eq!(wakes.count(), 1);
    let _two = consumer.subscribe_track("two", any()).unwrap();
    let mut again = consumer.subscribe_track("one", any().priority(9)).unwrap();

    let Poll::Ready(Ok(one)) = dynamic.try_requested_track() else { panic!("no request for one") };
    assert_eq!(one.name(), "one");
    assert_eq!(one.subscription().unwrap().priority, 9, "the combined subscription");
    let Poll::Ready(Ok(two)) = dynamic.try_requested_track() else { panic!("no request for two") };
    assert_eq!(two.name(), "two");
    let mut late = consumer.subscribe_track("one", any()).unwrap();
    assert!(dynamic.try_requested_track().is_pending(), "readers before the answer share it");

    let mut track = one.accept(TrackInfo::default()).unwrap();
    track.write_frame(0, "hello").unwrap();
    for reader in [&mut first, &mut again, &mut late] {
        assert_eq!(reader.try_info(), Poll::Ready(Ok(TrackInfo::default())));
        let Poll::Ready(Ok(Some(frame))) = reader.try_read_frame() else { panic!("a frame") };
        assert_eq!(frame.payload(), b"hello");
    }
    assert!(consumer.subscribe_track("one", any()).is_ok());
    assert!(dynamic.try_requested_track().is_pending());
}

#[test]
fn a_refused_request_can_be_made_again() {
    let broadcast = origin().create_broadcast("a").unwrap();
    let consumer = broadcast.consume();
    let mut dynamic = broadcast.dynamic();
    for refuse in [true, false] {
        let mut reader = consumer.subscribe_track("video", any()).unwrap();
        let Poll::Ready(Ok(request)) = dynamic.try_requested_track() else { panic!("no request") };
        if refuse {
            request.reject(Error::App(4));
            assert_eq!(reader.try_info(), Poll::Ready(Err(Error::App(4))));
        } else {
            drop(request);
            assert_eq!(reader.try_info(), Poll::Ready(Err(Error::Dropped)));
        }
    }
}

#[test]
fn an_unwanted_track_request_is_withdrawn() {
    let broadcast = origin().create_broadcast("a").unwrap();
    let consumer = broadcast.consume();
    let mut dynamic = broadcast.dynamic();
    drop(consumer.subscribe_track("gone", any()).unwrap());
    let kept = consumer.subscribe_track("kept", any()).unwrap();
    let Poll::Ready(Ok(mut request)) = dynamic.try_requested_track() else { panic!("kept") };
    assert_eq!(request.name(), "kept");
    let _gone = consumer.subscribe_track("gone", any()).unwrap();
    assert!(
        matches!(dynamic.try_requested_track(), Poll::Ready(Ok(_))),
        "it can be requested again"
    );

    let wakes = Wakes::new();
    let mut cx = wakes.context();
    assert!(request.poll_unused(&mut cx).is_pending());
    drop(kept);
    assert_eq!(wakes.count(), 1);
    assert!(request.poll_unused(&mut cx).is_ready());
    assert_eq!(request.subscription(), None);
}

#[test]
fn a_created_track_answers_earlier_requests() {
    let mut broadcast = origin().create_broadcast("a").unwrap();
    let consumer = broadcast.consume();
    let mut dynamic = broadcast.dynamic();
    let mut early = consumer.subscribe_track("video", any()).unwrap();
    let track = Track::new("video").priority(9);
    let mut video = broadcast.create_track(track).unwrap();
    assert!(dynamic.try_requested_track().is_pending());
    assert_eq!(video.info().unwrap().priority, 9);
    video.write_frame(0, "x").unwrap();
    assert!(matches!(early.try_read_frame(), Poll::Ready(Ok(Some(_)))));
    assert_eq!(broadcast.create_track("video").err(), Some(Error::Duplicate));

    let _asker = consumer.subscribe_track("audio", any()).unwrap();
    let Poll::Ready(Ok(_handed_out)) = dynamic.try_requested_track() else { panic!("no request") };
    assert_eq!(broadcast.create_track("audio").err(), Some(Error::Duplicate));
}

#[test]
fn the_clock_of_an_origin_has_one_epoch() {
    let origin = origin();
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    let start = std::time::Instant::now();
    assert_eq!(origin.clock().instant(start).as_micros(), 0);
    let later = start + std::time::Duration::from_micros(70);
    assert_eq!(origin.consume().clock().instant(later).as_micros(), 70);
}

#[test]
fn a_broadcast_knows_whether_it_is_read() {
    let mut broadcast = origin().create_broadcast("a").unwrap();
    let consumer = broadcast.consume();
    let (used, unused) = (Wakes::new(), Wakes::new());
    let (mut used_cx, mut unused_cx) = (used.context(), unused.context());
    let _video = broadcast.create_track("video").unwrap();
    let audio = broadcast.create_track("audio").unwrap();
    assert!(broadcast.poll_unused(&mut unused_cx).is_ready());
    assert!(broadcast.poll_used(&mut used_cx).is_pending());

    let first = consumer.subscribe_track("video", any()).unwrap();
    assert_eq!(used.count(), 1);
    assert_eq!(broadcast.poll_used(&mut used_cx), Poll::Ready(Ok(())));
    let second = consumer.subscribe_track("audio", any()).unwrap();
    assert!(broadcast.poll_unused(&mut unused_cx).is_pending());
    assert!(broadcast.try_unused().is_pending(), "trying neither registers nor unregisters");
    drop((first, second));
    assert!(unused.count() >= 1);
    assert!(broadcast.poll_unused(&mut unused_cx).is_ready());

    let dynamic = broadcast.dynamic();
    let asked = consumer.subscribe_track("other", any()).unwrap();
    assert_eq!(broadcast.try_used(), Poll::Ready(Ok(())), "a request counts as a reader");
    drop(asked);
    assert!(broadcast.try_unused().is_ready());
    drop(dynamic);

    let _reader = consumer.subscribe_track("audio", any()).unwrap();
    let before = unused.count();
    assert!(broadcast.poll_unused(&mut unused_cx).is_pending());
    drop(audio);
    assert_eq!(unused.count(), before + 1);
    assert!(
        broadcast.poll_unused(&mut unused_cx).is_ready(),
        "a track without a writer does not count"
    );

    assert!(broadcast.poll_used(&mut used_cx).is_pending());
    let before = used.count();
    broadcast.finish().unwrap();
    assert_eq!(used.count(), before + 1);
    assert_eq!(broadcast.poll_used(&mut used_cx), Poll::Ready(Err(Error::Closed)));
}

#[test]
fn waiters_are_woken_only_for_their_event() {
    let mut broadcast = origin().create_broadcast("a").unwrap();
    let mut consumer = broadcast.consume();
    let mut clone = broadcast.clone();
    let mut dynamic = broadcast.dynamic();
    let wakes = Wakes::new();
    let mut cx = wakes.context();
    assert!(consumer.poll_closed(&mut cx).is_pending());
    assert!(clone.poll_closed(&mut cx).is_pending());
    assert!(dynamic.poll_requested_track(&mut cx).is_pending());
    let _video = broadcast.create_track("video").unwrap();
    let _reader = consumer.subscribe_track("video", any()).unwrap();
    assert_eq!(wakes.count(), 0);
    let _request = consumer.subscribe_track("audio", any()).unwrap();
    assert_eq!(wakes.count(), 1, "only the handler of requests is woken");
    broadcast.finish().unwrap();
    assert_eq!(wakes.count(), 3);
}

/// A waker may run any code, so none is called with a lock held.
#[test]
fn wakers_may_use_the_handles_that_wake_them() {
    struct Nosy(OriginConsumer, BroadcastProducer, AtomicUsize);
    impl Wake for Nosy {
        fn wake(self: Arc<Self>) {
            let mut broadcast = self.1.clone();
            let _ = broadcast.create_track("from a waker");
            let _ = broadcast.consume().subscribe_track("video", any());
            let _ = self.0.clone().try_announced();
            self.2.fetch_add(1, Ordering::SeqCst);
        }
    }
    let origin = origin();
    let mut broadcast = origin.create_broadcast("a").unwrap();
    let mut reader = broadcast.consume();
    let mut dynamic = broadcast.dynamic();
    let mut waiting = origin.consume();
    let nosy = Arc::new(Nosy(origin.consume(), broadcast.clone(), AtomicUsize::new(0)));
    let waker = Waker::from(nosy.clone());
    let mut cx = Context::from_waker(&waker);
    let woken = |times| assert_eq!(nosy.2.load(Ordering::SeqCst), times);

    assert_eq!(changes(&mut waiting), ["+a"]);
    assert!(waiting.poll_announced(&mut cx).is_pending());
    let _b = origin.create_broadcast("b").unwrap();
    woken(1);
    assert!(dynamic.poll_requested_track(&mut cx).is_pending());
    let first = reader.subscribe_track("video", any()).unwrap();
    woken(2);
    let mut busy = broadcast.clone();
    assert!(busy.poll_unused(&mut cx).is_pending());
    drop(first);
    woken(3);
    assert!(reader.poll_closed(&mut cx).is_pending());
    broadcast.finish().unwrap();
    woken(4);
}

/// Readers that come and go race with the handler that withdraws unwanted requests. Every reader that stays
/// is served, and nobody sees a withdrawn request.
#[test]
fn requests_survive_readers_on_many_threads() {
    let broadcast = origin().create_broadcast("a").unwrap();
    let mut dynamic = broadcast.dynamic();
    let consumer = broadcast.consume();
    #[expect(clippy::disallowed_methods, reason = "threads are what is tested")]
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let consumer = consumer.clone();
            std::thread::spawn(move || {
                for _ in 0..300 {
                    let mut track = consumer.subscribe_track("hot", any()).unwrap();
                    for _ in 0..2 {
                        let info = track.try_info();
                        assert!(!matches!(info, Poll::Ready(Err(_))), "{info:?}");
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    while readers.iter().any(|reader| !reader.is_finished()) {
        if let Poll::Ready(Ok(request)) = dynamic.try_requested_track() {
            // Accepted and dropped at once: the next reader requests it again.
            drop(request.accept(TrackInfo::default()).unwrap());
        }
    }
    for reader in readers {
        reader.join().unwrap();
    }
}

/// Everything from many threads at once: no deadlock, and no state remains.
#[test]
fn origins_are_shared_between_threads() {
    let origin = origin();
    let names = ["a", "b", "c"];
    #[expect(clippy::disallowed_methods, reason = "threads are what is tested")]
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let origin = origin.clone();
            std::thread::spawn(move || {
                let mut consumer = origin.consume();
                let other = Origin::new(Hop::new(9)).produce();
                for n in 0..1_000 {
                    let mut broadcast = origin.create_broadcast(names[(worker + n) % 3]).unwrap();
                    let _ = other.publish_broadcast("x", &broadcast.consume());
                    let _track = broadcast.create_track("video").unwrap();
                    let _ = consumer.try_announced();
                    if let Some(found) = consumer.broadcast(names[n % 3]) {
                        let _ = found.subscribe_track("video", any());
                        let _ = other.publish_broadcast("y", &found);
                    }
                    drop(broadcast);
                }
                other
            })
        })
        .collect();
    let others: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
    for other in others {
        assert_eq!(changes(&mut other.consume()), [""; 0]);
    }
    assert_eq!(changes(&mut origin.consume()), [""; 0]);
    assert_eq!(origin.cached_bytes(), 0);
}

#[test]
fn advancing_an_origin_evicts_old_groups() {
    let origin = origin();
    let mut broadcast = origin.create_broadcast("a").unwrap();
    let mut track = broadcast.create_track("video").unwrap();
    assert_eq!(origin.cached_bytes(), 0);
    track.write_frame(0, vec![0; 10_000]).unwrap();
    track.write_frame(1, "newest").unwrap();
    assert!(origin.cached_bytes() > 10_000);
    origin.advance(smoq::Instant::from_millis(60_000));
    let left = origin.cached_bytes();
    assert!(left > 0 && left < 10_000, "the newest group of a live track stays");
    drop(track);
    assert_eq!(origin.cached_bytes(), 0);
}
