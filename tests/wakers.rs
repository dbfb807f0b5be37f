//! Each waiter is woken once by the event that it waits for, and no other waiter is woken. There is a row
//! for each wait of the model and each event that ends it. Waiters never poll on their own, so a lost
//! wake-up is detected.

use std::any::Any;
use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use smoq::machine::NetworkPath;
use smoq::sim::{Link, Pair};
use smoq::{
    Broadcast, BroadcastProducer, Client, Driver, Error, Goaway, GroupProducer, Hop,
    IncomingSession, Instant, Limits, Origin, OriginProducer, ReadyList, Server, Session,
    Subscription, Track, TrackInfo, TrackProducer, Version,
};

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Polls once, and returns whether the result was ready.
type Polled = Box<dyn FnMut(&mut Context<'_>) -> bool>;

struct Waiting {
    what: &'static str,
    poll: Polled,
    wakes: Arc<Wakes>,
}

impl Waiting {
    fn poll(&mut self) -> bool {
        (self.poll)(&mut Context::from_waker(&self.wakes.clone().into()))
    }
}

/// Waiters that must be woken, and others that must not.
#[derive(Default)]
struct Case {
    waiting: Vec<Waiting>,
    others: Vec<Waiting>,
}

impl Case {
    fn begin(what: &'static str, poll: impl FnMut(&mut Context<'_>) -> bool + 'static) -> Waiting {
        let mut waiting = Waiting { what, poll: Box::new(poll), wakes: Arc::default() };
        assert!(!waiting.poll(), "{what} does not wait");
        waiting
    }

    /// Adds a waiter that must be woken.
    fn waits(&mut self, poll: impl FnMut(&mut Context<'_>) -> bool + 'static) {
        self.waiting.push(Self::begin("the waiter", poll));
    }

    /// Adds a waiter that must not be woken.
    fn other(&mut self, what: &'static str, poll: impl FnMut(&mut Context<'_>) -> bool + 'static) {
        self.others.push(Self::begin(what, poll));
    }

    /// Runs `cause`, which returns what must live until the end, and checks all waiters.
    fn check(mut self, cause: impl FnOnce() -> Box<dyn Any>) {
        let _kept = cause();
        for waiting in &mut self.waiting {
            assert_eq!(waiting.wakes.0.load(Ordering::Relaxed), 1, "number of wake-ups");
            assert!(waiting.poll(), "a wake-up without a result");
        }
        for other in &mut self.others {
            let wakes = other.wakes.0.load(Ordering::Relaxed);
            assert_eq!(wakes, 0, "{} was woken", other.what);
            assert!(!other.poll(), "{} became ready", other.what);
        }
    }
}

/// The waits that have a row, and the rows that failed.
#[derive(Default)]
struct Table {
    waits: BTreeSet<&'static str>,
    wrong: Vec<String>,
}

impl Table {
    /// `make` creates the waiters and returns the cause, which returns what must live until the end.
    fn row<C, K>(&mut self, wait: &'static str, cause: &str, make: impl FnOnce(&mut Case) -> C)
    where
        C: FnOnce() -> K,
        K: 'static,
    {
        self.waits.insert(wait);
        let row = AssertUnwindSafe(|| {
            let mut case = Case::default();
            let cause = make(&mut case);
            case.check(|| Box::new(cause()));
        });
        if let Err(panic) = catch_unwind(row) {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default();
            self.wrong.push(format!("{wait}, {cause}: {text}"));
        }
    }
}

fn track() -> TrackProducer {
    Track::new("video").produce()
}

fn everything() -> Subscription {
    Subscription::default().max_age(Duration::MAX).start(0)
}

// ---- groups and frames -------------------------------------------------------------------------

/// A group with a reader, and waiters for other events at its track and elsewhere.
fn group(case: &mut Case) -> (TrackProducer, GroupProducer) {
    let mut track = track();
    let group = track.append_group().unwrap();
    let other = track.append_group().unwrap();
    let mut reader = other.consume();
    case.other("a reader of another group", move |cx| {
        let _open = &other;
        reader.poll_read_frame(cx).is_ready()
    });
    let mut reader = track.subscribe(everything().start(2));
    case.other("a reader of groups", move |cx| reader.poll_recv_group(cx).is_ready());
    let mut reader = track.consume();
    case.other("a reader that waits for the end of the track", move |cx| {
        reader.poll_closed(cx).is_ready()
    });
    let mut producer = track.clone();
    case.other("a writer", move |cx| producer.poll_unused(cx).is_ready());
    (track, group)
}

/// Rows for a reader of the group: frames, parts of frames, and the ends.
fn groups(table: &mut Table) {
    macro_rules! whole_frames {
        ($($wait:literal, $poll:ident($($arg:expr)?);)*) => {$(
            table.row($wait, "a frame is written", |case| {
                let (track, mut group) = group(case);
                let mut reader = group.consume();
                case.waits(move |cx| reader.$poll(cx $(, $arg)?).is_ready());
                let mut reader = group.consume();
                case.other("a reader that waits for the end", move |cx| reader.poll_finished(cx).is_ready());
                move || (group.write_frame(0, "a"), group, track)
            });
            table.row($wait, "an open frame gets its last byte", |case| {
                let (track, mut group) = group(case);
                let mut frame = group.create_frame(0, 2).unwrap();
                frame.write(b"a").unwrap();
                let mut reader = group.consume();
                case.waits(move |cx| reader.$poll(cx $(, $arg)?).is_ready());
                move || (frame.write(b"b"), frame, group, track)
            });
            table.row($wait, "the group is finished", |case| {
                let (track, mut group) = group(case);
                let mut reader = group.consume();
                case.waits(move |cx| reader.$poll(cx $(, $arg)?).is_ready());
                move || (group.finish(), group, track)
            });
            table.row($wait, "the group is aborted", |case| {
                let (track, mut group) = group(case);
                let mut reader = group.consume();
                case.waits(move |cx| reader.$poll(cx $(, $arg)?).is_ready());
                move || (group.abort(Error::Cancelled), group, track)
            });
            table.row($wait, "the last writer of the group is dropped", |case| {
                let (track, group) = group(case);
                let other = group.clone();
                let mut reader = group.consume();
                case.waits(move |cx| reader.$poll(cx $(, $arg)?).is_ready());
                drop(other);
                move || {
                    drop(group);
                    track
                }
            });
            table.row($wait, "a frame is too large", |case| {
                let (track, mut group) = group(case);
                let mut reader = group.consume();
                case.waits(move |cx| reader.$poll(cx $(, $arg)?).is_ready());
                move || {
                    assert!(group.create_frame(0, u64::MAX >> 2).is_err());
                    (group, track)
                }
            });
            table.row($wait, "an open frame is dropped", |case| {
                let (track, mut group) = group(case);
                let frame = group.create_frame(0, 9).unwrap();
                let mut reader = group.consume();
                case.waits(move |cx| reader.$poll(cx $(, $arg)?).is_ready());
                move || {
                    drop(frame);
                    (group, track)
                }
            });
            table.row($wait, "the group is evicted for its bytes", |case| {
                let mut limits = Limits::default();
                limits.track_bytes = 2_000;
                let mut track = Track::new("video").produce_within(limits);
                let group = track.append_group().unwrap();
                let mut reader = group.consume();
                case.waits(move |cx| reader.$poll(cx $(, $arg)?).is_ready());
                move || {
                    // Groups without a reader would be evicted first.
                    let mut others = Vec::new();
                    for _ in 0..9 {
                        let mut other = track.append_group().unwrap();
                        others.push(other.consume());
                        other.write_frame(0, vec![1; 500]).unwrap();
                    }
                    (group, others, track)
                }
            });
        )*};
    }
    whole_frames! {
        "GroupConsumer::poll_read_frame", poll_read_frame();
        "GroupConsumer::poll_read_frame", poll_read_frame();
        "GroupConsumer::poll_frame", poll_frame(0);
    }
    table.row("GroupConsumer::poll_read_frame", "the group is evicted for its age", |case| {
        let origin = Origin::default().produce();
        let mut broadcast = origin.create_broadcast("live").unwrap();
        let info = Track::new("video").max_age(Duration::from_secs(1));
        let mut track = broadcast.create_track(info).unwrap();
        let group = track.append_group().unwrap();
        track.write_frame(0, "newer").unwrap();
        let mut reader = track.subscribe(everything());
        case.other("a reader of groups", {
            let mut reader = track.subscribe(everything().start(2));
            move |cx| reader.poll_recv_group(cx).is_ready()
        });
        // A session's reader does not keep its group in the cache. Neither does a reader that was dropped.
        assert!(reader.try_recv_group().is_ready());
        drop(reader);
        let mut reader = track.subscribe(everything());
        case.waits(move |cx| reader.poll_read_frame(cx).is_ready());
        move || (origin.advance(Instant::from_millis(9_000)), origin, broadcast, track, group)
    });

    for (cause, starts) in [("a frame is written", false), ("a frame begins", true)] {
        table.row("GroupConsumer::poll_start_frame", cause, |case| {
            let (track, mut group) = group(case);
            let mut reader = group.consume();
            case.waits(move |cx| reader.poll_start_frame(cx).is_ready());
            if starts {
                let mut reader = group.consume();
                case.other("a reader of whole frames", move |cx| {
                    reader.poll_read_frame(cx).is_ready()
                });
            }
            move || {
                let frame = starts.then(|| group.create_frame(0, 9).unwrap());
                if !starts {
                    group.write_frame(0, "a").unwrap();
                }
                (frame, group, track)
            }
        });
    }
    table.row("GroupConsumer::poll_start_frame", "the group is finished", |case| {
        let (track, mut group) = group(case);
        let mut reader = group.consume();
        case.waits(move |cx| reader.poll_start_frame(cx).is_ready());
        move || (group.finish(), group, track)
    });
    table.row("GroupConsumer::poll_start_frame", "the group is aborted", |case| {
        let (track, mut group) = group(case);
        let mut reader = group.consume();
        case.waits(move |cx| reader.poll_start_frame(cx).is_ready());
        move || (group.abort(Error::Cancelled), group, track)
    });

    for cause in ["bytes are written", "the group is aborted", "its writer is dropped"] {
        table.row("FrameConsumer::poll_read_chunk", cause, |case| {
            let (track, mut group) = group(case);
            let mut frame = group.create_frame(0, 900).unwrap();
            let mut reader = group.consume();
            let Poll::Ready(Ok(Some(mut reader))) = reader.try_start_frame() else { panic!() };
            case.waits(move |cx| reader.poll_read_chunk(cx).is_ready());
            if cause == "bytes are written" {
                let mut reader = group.consume();
                case.other("a reader of whole frames", move |cx| {
                    reader.poll_read_frame(cx).is_ready()
                });
                let mut reader = group.consume();
                case.other("a reader that waits for the end", move |cx| {
                    reader.poll_finished(cx).is_ready()
                });
            }
            move || {
                match cause {
                    "bytes are written" => frame.write(&[1; 9]).unwrap(),
                    "the group is aborted" => group.abort(Error::Cancelled),
                    _ => return (None, group, track),
                }
                (Some(frame), group, track)
            }
        });
    }

    for cause in ["finish", "abort", "drop"] {
        table.row("GroupConsumer::poll_finished", cause, |case| {
            let (track, mut group) = group(case);
            let mut reader = group.consume();
            case.waits(move |cx| reader.poll_finished(cx).is_ready());
            move || {
                match cause {
                    "finish" => group.finish().unwrap(),
                    "abort" => group.abort(Error::Cancelled),
                    _ => return (None, track),
                }
                (Some(group), track)
            }
        });
    }
}

// ---- tracks ------------------------------------------------------------------------------------

fn tracks(table: &mut Table) {
    macro_rules! readers {
        ($($wait:literal, $poll:ident($($arg:expr)?);)*) => {$(
            for cause in ["a group begins", "finish", "abort", "drop", "drop after the end"] {
                table.row($wait, cause, |case| {
                    let mut track = track();
                    let elsewhere = Track::new("audio").produce();
                    for _ in 0..2 {
                        let mut reader = track.subscribe(everything());
                        case.waits(move |cx| reader.$poll(cx $(, $arg)?).is_ready());
                    }
                    let mut reader = elsewhere.subscribe(everything());
                    case.other("a reader of another track", move |cx| reader.$poll(cx $(, $arg)?).is_ready());
                    if cause == "a group begins" {
                        let mut reader = track.consume();
                        case.other("a reader that waits for the end", move |cx| reader.poll_closed(cx).is_ready());
                        let mut writer = track.clone();
                        case.other("a writer", move |cx| writer.poll_unused(cx).is_ready());
                    }
                    let mut waits = track.subscribe(everything());
                    if cause == "drop after the end" {
                        // Group 0 may still arrive until then.
                        assert!(waits.try_recv_group().is_pending());
                    }
                    move || {
                        let mut group = None;
                        match cause {
                            "a group begins" => {
                                let mut begun = track.append_group().unwrap();
                                begun.write_frame(0, "a").unwrap();
                                group = Some(begun);
                            }
                            "finish" => track.finish().unwrap(),
                            "abort" => track.abort(Error::Cancelled),
                            _ => return (None, None, elsewhere, waits),
                        }
                        (group, Some(track), elsewhere, waits)
                    }
                });
            }
        )*};
    }
    readers! {
        "TrackConsumer::poll_recv_group", poll_recv_group();
        "TrackConsumer::poll_next_group", poll_next_group();
        "TrackConsumer::poll_group", poll_group(0);
    }
    for cause in ["a frame of a group that began", "finish", "abort", "drop"] {
        table.row("TrackConsumer::poll_read_frame", cause, |case| {
            let mut track = track();
            let mut group = None;
            if cause.starts_with('a') && cause != "abort" {
                group = Some(track.append_group().unwrap());
            }
            let mut reader = track.subscribe(everything());
            case.waits(move |cx| reader.poll_read_frame(cx).is_ready());
            let mut reader = track.subscribe(everything().start(1));
            if let Some(group) = &mut group {
                case.other("a reader of later groups", move |cx| {
                    reader.poll_read_frame(cx).is_ready()
                });
                let mut reader = group.consume();
                case.other("a reader that waits for the end", move |cx| {
                    reader.poll_finished(cx).is_ready()
                });
            }
            move || {
                match (cause, &mut group) {
                    (_, Some(group)) => group.write_frame(0, "a").unwrap(),
                    ("finish", _) => track.finish().unwrap(),
                    ("abort", _) => track.abort(Error::Cancelled),
                    _ => return (None, None),
                }
                (group, Some(track))
            }
        });
    }
    table.row("TrackConsumer::poll_group", "the track ends before it", |case| {
        let mut track = track();
        let mut reader = track.consume();
        case.waits(move |cx| reader.poll_group(cx, 7).is_ready());
        move || (track.finish_at(7), track)
    });
    table.row("TrackConsumer::poll_group", "the last writer is dropped after the end", |case| {
        let mut track = track();
        track.finish_at(7).unwrap();
        let mut reader = track.consume();
        case.waits(move |cx| reader.poll_group(cx, 6).is_ready());
        move || drop(track)
    });
    for cause in ["finish", "finish_at", "abort", "drop"] {
        let end = move |mut track: TrackProducer| {
            match cause {
                "finish" => track.finish().unwrap(),
                "finish_at" => track.finish_at(7).unwrap(),
                "abort" => track.abort(Error::Cancelled),
                _ => return None,
            }
            Some(track)
        };
        table.row("TrackConsumer::poll_closed", cause, |case| {
            let track = track();
            let mut reader = track.consume();
            case.waits(move |cx| reader.poll_closed(cx).is_ready());
            move || end(track)
        });
        table.row("TrackConsumer::poll_finished", cause, |case| {
            let track = track();
            let mut reader = track.consume();
            case.waits(move |cx| reader.poll_finished(cx).is_ready());
            move || end(track)
        });
        table.row("TrackProducer::poll_closed", cause, |case| {
            let track = track();
            if cause == "drop" {
                // The track does not end while this one lives.
                let mut reader = track.consume();
                case.waits(move |cx| reader.poll_closed(cx).is_ready());
                return Box::new(move || end(track)) as Box<dyn FnOnce() -> Option<TrackProducer>>;
            }
            let mut writer = track.clone();
            case.waits(move |cx| writer.poll_closed(cx).is_ready());
            Box::new(move || end(track))
        });
    }

    // The combined subscription.
    let limited = || Subscription::default().priority(3);
    table.row("TrackProducer::poll_used", "the first reader", |case| {
        let track = track();
        let mut writer = track.clone();
        case.waits(move |cx| writer.poll_used(cx).is_ready());
        let mut writer = Track::new("audio").produce();
        case.other("a writer of another track", move |cx| writer.poll_used(cx).is_ready());
        move || (track.consume(), track)
    });
    table.row("TrackProducer::poll_unused", "the last reader leaves", |case| {
        let track = track();
        let (one, other) = (track.consume(), track.consume());
        drop(other);
        let mut writer = track.clone();
        case.waits(move |cx| writer.poll_unused(cx).is_ready());
        move || {
            drop(one);
            track
        }
    });
    for (wait, is_used) in
        [("TrackProducer::poll_used", false), ("TrackProducer::poll_unused", true)]
    {
        table.row(wait, "abort", |case| {
            let mut track = track();
            let reader = is_used.then(|| track.consume());
            let mut writer = track.clone();
            case.waits(move |cx| match is_used {
                true => writer.poll_unused(cx).is_ready(),
                false => writer.poll_used(cx).is_ready(),
            });
            move || (track.abort(Error::Cancelled), track, reader)
        });
    }
    for cause in ["another subscription", "a reader", "no reader"] {
        table.row("TrackProducer::poll_subscription_changed", cause, |case| {
            let track = track();
            let mut reader = (cause != "a reader").then(|| track.subscribe(limited()));
            let mut writer = track.clone();
            while writer.try_subscription_changed().is_ready() {}
            case.waits(move |cx| writer.poll_subscription_changed(cx).is_ready());
            let mut waits = track.consume();
            case.other("a reader of groups", move |cx| waits.poll_recv_group(cx).is_ready());
            move || {
                match cause {
                    "another subscription" => {
                        reader.as_mut().unwrap().update(limited().priority(200))
                    }
                    "a reader" => reader = Some(track.subscribe(limited())),
                    _ => drop(reader.take()),
                }
                (reader, track)
            }
        });
    }

    // Fetched groups.
    for cause in ["accept", "reject", "drop", "abort of the track", "the group is written"] {
        table.row("TrackConsumer::poll_fetch_group", cause, |case| {
            let mut track = track();
            track.finish_at(100).unwrap_or_default();
            let mut dynamic = track.dynamic();
            let mut reader = track.consume();
            case.waits(move |cx| reader.poll_fetch_group(cx, 5).is_ready());
            let Poll::Ready(Ok(request)) = dynamic.try_requested_group() else { panic!() };
            let mut reader = track.consume();
            if cause == "accept" {
                case.other("a reader of groups", move |cx| reader.poll_recv_group(cx).is_ready());
            }
            move || {
                let mut kept: Vec<Box<dyn Any>> = Vec::new();
                match cause {
                    "accept" => kept.push(Box::new(request.accept().unwrap())),
                    "reject" => request.reject(Error::NotFound),
                    "drop" => drop(request),
                    "abort of the track" => {
                        track.abort(Error::Cancelled);
                        kept.push(Box::new(request));
                    }
                    _ => {
                        kept.push(Box::new(track.create_group(5).unwrap()));
                        kept.push(Box::new(request));
                    }
                }
                (kept, dynamic, track)
            }
        });
    }
    for cause in ["the last handler is dropped", "all handlers have ended"] {
        table.row("TrackConsumer::poll_fetch_group", cause, |case| {
            let track = track();
            let dynamic = track.dynamic();
            let mut reader = track.consume();
            case.waits(move |cx| reader.poll_fetch_group(cx, 5).is_ready());
            move || {
                drop(dynamic);
                track
            }
        });
    }
    table.row("TrackDynamic::poll_requested_group", "a request", |case| {
        let track = track();
        let mut dynamic = track.dynamic();
        case.waits(move |cx| dynamic.poll_requested_group(cx).is_ready());
        let mut reader = track.consume();
        // Once the group exists, the writer's wait for readers does not matter.
        let mut waits = track.consume();
        case.other("a reader of groups", move |cx| waits.poll_recv_group(cx).is_ready());
        move || (reader.try_fetch_group(5).is_pending(), reader, track)
    });
    table.row("TrackDynamic::poll_requested_group", "abort of the track", |case| {
        let mut track = track();
        let mut dynamic = track.dynamic();
        case.waits(move |cx| dynamic.poll_requested_group(cx).is_ready());
        move || (track.abort(Error::Cancelled), track)
    });
    for cause in [
        "the last reader leaves",
        "the reader requests another group",
        "the group is written",
        "abort",
    ] {
        table.row("GroupRequest::poll_unused", cause, |case| {
            let mut track = track();
            let mut dynamic = track.dynamic();
            let mut reader = track.consume();
            assert!(reader.try_fetch_group(5).is_pending());
            let Poll::Ready(Ok(mut request)) = dynamic.try_requested_group() else { panic!() };
            case.waits(move |cx| request.poll_unused(cx).is_ready());
            move || {
                let mut group = None;
                let mut reader = Some(reader);
                match cause {
                    "the last reader leaves" => drop(reader.take()),
                    "the reader requests another group" => {
                        assert!(reader.as_mut().unwrap().try_fetch_group(6).is_pending());
                    }
                    "abort" => track.abort(Error::Cancelled),
                    _ => {
                        group = track.create_group(5).ok();
                        assert!(reader.as_mut().unwrap().try_fetch_group(5).is_ready());
                    }
                }
                (group, reader, dynamic, track)
            }
        });
    }
}

// ---- broadcasts --------------------------------------------------------------------------------

fn broadcasts(table: &mut Table) {
    let ends = ["finish", "abort", "drop"];
    let end = |cause, mut broadcast: BroadcastProducer| {
        match cause {
            "finish" => broadcast.finish().unwrap(),
            "abort" => broadcast.abort(Error::Cancelled),
            _ => return None,
        }
        Some(broadcast)
    };
    for cause in ends {
        table.row("BroadcastConsumer::poll_closed", cause, |case| {
            let broadcast = Broadcast::new().produce();
            for _ in 0..2 {
                let mut consumer = broadcast.consume();
                case.waits(move |cx| consumer.poll_closed(cx).is_ready());
            }
            let other = Broadcast::new().produce();
            let mut consumer = other.consume();
            case.other("a waiter elsewhere", move |cx| consumer.poll_closed(cx).is_ready());
            move || (end(cause, broadcast), other)
        });
    }
    for cause in ["finish", "abort"] {
        table.row("BroadcastProducer::poll_closed", cause, |case| {
            let broadcast = Broadcast::new().produce();
            let mut waits = broadcast.clone();
            case.waits(move |cx| waits.poll_closed(cx).is_ready());
            move || end(cause, broadcast)
        });
        table.row("BroadcastProducer::poll_used", cause, |case| {
            let broadcast = Broadcast::new().produce();
            let mut waits = broadcast.clone();
            case.waits(move |cx| waits.poll_used(cx).is_ready());
            move || end(cause, broadcast)
        });
        table.row("BroadcastDynamic::poll_requested_track", cause, |case| {
            let broadcast = Broadcast::new().produce();
            let mut dynamic = broadcast.dynamic();
            case.waits(move |cx| dynamic.poll_requested_track(cx).is_ready());
            move || end(cause, broadcast)
        });
    }
    for is_asked in [false, true] {
        let cause = if is_asked { "a track is requested" } else { "a track is read" };
        table.row("BroadcastProducer::poll_used", cause, |case| {
            let mut broadcast = Broadcast::new().produce();
            let track = (!is_asked).then(|| broadcast.create_track("video").unwrap());
            let dynamic = broadcast.dynamic();
            let consumer = broadcast.consume();
            let mut waits = broadcast.clone();
            case.waits(move |cx| waits.poll_used(cx).is_ready());
            let mut waits = broadcast.consume();
            case.other("a waiter for the end", move |cx| waits.poll_closed(cx).is_ready());
            if !is_asked {
                let mut dynamic = broadcast.dynamic();
                case.other("a handler", move |cx| dynamic.poll_requested_track(cx).is_ready());
            }
            move || {
                let reader = consumer.subscribe_track("video", Subscription::default()).unwrap();
                (reader, track, dynamic, consumer, broadcast)
            }
        });
    }
    for cause in ["the last reader leaves", "the track is aborted", "the track's writer is dropped"]
    {
        table.row("BroadcastProducer::poll_unused", cause, |case| {
            let mut broadcast = Broadcast::new().produce();
            let mut track = broadcast.create_track("video").unwrap();
            let reader = broadcast.consume().subscribe_track("video", Subscription::default());
            let mut waits = broadcast.clone();
            case.waits(move |cx| waits.poll_unused(cx).is_ready());
            move || {
                let (mut reader, mut kept) = (Some(reader), None);
                match cause {
                    "the last reader leaves" => drop(reader.take()),
                    "the track is aborted" => track.abort(Error::Cancelled),
                    _ => return (reader, kept, broadcast),
                }
                kept = Some(track);
                (reader, kept, broadcast)
            }
        });
    }
    table.row("BroadcastDynamic::poll_requested_track", "a track is requested", |case| {
        let broadcast = Broadcast::new().produce();
        let mut dynamic = broadcast.dynamic();
        case.waits(move |cx| dynamic.poll_requested_track(cx).is_ready());
        let consumer = broadcast.consume();
        let mut waits = broadcast.consume();
        case.other("a waiter for the end", move |cx| waits.poll_closed(cx).is_ready());
        move || (consumer.subscribe_track("video", Subscription::default()), broadcast)
    });
    table.row("TrackRequest::poll_unused", "the last reader leaves", |case| {
        let broadcast = Broadcast::new().produce();
        let mut dynamic = broadcast.dynamic();
        let reader = broadcast.consume().subscribe_track("video", Subscription::default()).unwrap();
        let Poll::Ready(Ok(mut request)) = dynamic.try_requested_track() else { panic!() };
        case.waits(move |cx| request.poll_unused(cx).is_ready());
        case.other("a handler", move |cx| dynamic.poll_requested_track(cx).is_ready());
        move || {
            drop(reader);
            broadcast
        }
    });
    for cause in [
        "accept",
        "reject",
        "drop",
        "a group is written",
        "the track is created",
        "no handler is left",
    ] {
        table.row("TrackConsumer::poll_info", cause, |case| {
            let mut broadcast = Broadcast::new().produce();
            let mut dynamic = broadcast.dynamic();
            let subscribe = |broadcast: &BroadcastProducer, name: &str| {
                broadcast.consume().subscribe_track(name, Subscription::default()).unwrap()
            };
            for _ in 0..2 {
                let mut reader = subscribe(&broadcast, "video");
                case.waits(move |cx| reader.poll_info(cx).is_ready());
            }
            let request = matches!(cause, "accept" | "reject" | "drop" | "a group is written")
                .then(|| {
                    let Poll::Ready(Ok(request)) = dynamic.try_requested_track() else { panic!() };
                    request
                });
            if cause != "no handler is left" {
                let mut reader = subscribe(&broadcast, "audio");
                case.other("a reader of another track", move |cx| reader.poll_info(cx).is_ready());
            }
            move || {
                let mut kept: Vec<Box<dyn Any>> = Vec::new();
                match (cause, request) {
                    ("accept", Some(request)) => {
                        kept.push(Box::new(request.accept(TrackInfo::default()).unwrap()));
                    }
                    ("a group is written", Some(request)) => {
                        let mut track = request.accept(TrackInfo::default()).unwrap();
                        kept.push(Box::new(track.append_group().unwrap()));
                        kept.push(Box::new(track));
                    }
                    ("reject", Some(request)) => request.reject(Error::NotFound),
                    ("the track is created", _) => {
                        kept.push(Box::new(broadcast.create_track("video").unwrap()));
                    }
                    ("no handler is left", _) => {
                        drop(dynamic);
                        return (kept, None, broadcast);
                    }
                    _ => {}
                }
                (kept, Some(dynamic), broadcast)
            }
        });
    }
}

// ---- origins -----------------------------------------------------------------------------------

fn origin() -> OriginProducer {
    Origin::default().produce()
}

fn origins(table: &mut Table) {
    for cause in ["announced", "ended", "the last producer is dropped"] {
        table.row("OriginConsumer::poll_announced", cause, |case| {
            let origin = origin();
            let mut live = (cause == "ended").then(|| origin.create_broadcast("live").unwrap());
            for _ in 0..2 {
                let mut consumer = origin.consume();
                while consumer.try_announced().is_ready() {}
                case.waits(move |cx| consumer.poll_announced(cx).is_ready());
            }
            let elsewhere = self::origin();
            let mut consumer = elsewhere.consume();
            case.other("a listener elsewhere", move |cx| consumer.poll_announced(cx).is_ready());
            move || {
                match cause {
                    "announced" => live = Some(origin.create_broadcast("live").unwrap()),
                    "ended" => live.as_mut().unwrap().finish().unwrap(),
                    _ => return (live, None, elsewhere),
                }
                (live, Some(origin), elsewhere)
            }
        });
    }
    for cause in ["announced", "the last producer is dropped"] {
        table.row("OriginConsumer::poll_announced_broadcast", cause, |case| {
            let origin = origin();
            let mut consumer = origin.consume();
            case.waits(move |cx| consumer.poll_announced_broadcast(cx, "live").is_ready());
            move || {
                let is_kept = cause == "announced";
                let live = is_kept.then(|| origin.create_broadcast("live").unwrap());
                (live, Some(origin).filter(|_| is_kept))
            }
        });
    }
    for cause in ["accept", "reject", "drop", "announced", "no handler is left"] {
        table.row("OriginConsumer::poll_request_broadcast", cause, |case| {
            let origin = origin();
            let mut dynamic = origin.dynamic("store").unwrap();
            let mut consumer = origin.consume();
            case.waits(move |cx| consumer.poll_request_broadcast(cx, "store/a").is_ready());
            let request = (cause != "no handler is left").then(|| {
                let Poll::Ready(request) = dynamic.try_requested_broadcast() else { panic!() };
                request
            });
            if cause != "no handler is left" {
                let mut consumer = origin.consume();
                case.other("a reader of another path", move |cx| {
                    consumer.poll_request_broadcast(cx, "store/b").is_ready()
                });
            }
            if matches!(cause, "accept" | "reject" | "drop") {
                let mut consumer = origin.consume();
                while consumer.try_announced().is_ready() {}
                case.other("a listener", move |cx| consumer.poll_announced(cx).is_ready());
            }
            move || {
                let mut kept: Vec<Box<dyn Any>> = Vec::new();
                match (cause, request) {
                    ("accept", Some(request)) => kept.push(Box::new(request.accept().unwrap())),
                    ("reject", Some(request)) => request.reject(Error::NotFound),
                    ("announced", Some(request)) => {
                        kept.push(Box::new(origin.create_broadcast("store/a").unwrap()));
                        kept.push(Box::new(request));
                    }
                    ("no handler is left", _) => {
                        drop(dynamic);
                        return (kept, None, origin);
                    }
                    _ => {}
                }
                (kept, Some(dynamic), origin)
            }
        });
    }
    table.row("OriginDynamic::poll_requested_broadcast", "a request", |case| {
        let origin = origin();
        let mut dynamic = origin.dynamic("store").unwrap();
        case.waits(move |cx| dynamic.poll_requested_broadcast(cx).is_ready());
        let mut other = origin.dynamic("other").unwrap();
        let mut consumer = origin.consume();
        while consumer.try_announced().is_ready() {}
        case.other("a listener", move |cx| consumer.poll_announced(cx).is_ready());
        case.other("another handler", move |cx| other.poll_requested_broadcast(cx).is_ready());
        let mut consumer = origin.consume();
        move || (consumer.try_request_broadcast("store/a").is_pending(), consumer, origin)
    });
    for cause in ["the last reader leaves", "the reader requests another path"] {
        table.row("BroadcastRequest::poll_unused", cause, |case| {
            let origin = origin();
            let mut dynamic = origin.dynamic("store").unwrap();
            let mut consumer = origin.consume();
            assert!(consumer.try_request_broadcast("store/a").is_pending());
            let Poll::Ready(mut request) = dynamic.try_requested_broadcast() else { panic!() };
            case.waits(move |cx| request.poll_unused(cx).is_ready());
            move || {
                let mut consumer = Some(consumer);
                match cause {
                    "the last reader leaves" => drop(consumer.take()),
                    _ => {
                        let other = consumer.as_mut().unwrap().try_request_broadcast("store/b");
                        assert!(other.is_pending());
                    }
                }
                (consumer, dynamic, origin)
            }
        });
    }
}

// ---- sessions ----------------------------------------------------------------------------------

struct Joined {
    pair: Pair<Driver, Driver>,
    sessions: [Session; 2],
    origins: [OriginProducer; 2],
}

fn joined(version: Version) -> Joined {
    let origins = [7, 8].map(|hop| Origin::new(Hop::new(hop)).produce());
    let (one, client) = Client::new().with_origin(&origins[0]).connect(version, Instant::ZERO);
    let (two, server) = Server::new().with_origin(&origins[1]).accept(version, Instant::ZERO);
    let mut pair = Pair::new(client, server, Link::perfect());
    pair.run_until_idle();
    Joined { pair, sessions: [one, two], origins }
}

fn asked(version: Version) -> (Pair<Driver, Driver>, Session, IncomingSession) {
    let (client, driver) = Client::new().connect(version, Instant::ZERO);
    let (request, server) = Server::new().incoming(version, Instant::ZERO);
    (Pair::new(driver, server, Link::perfect()), client, request)
}

fn sessions(table: &mut Table) {
    for cause in ["closed locally", "closed by the peer", "drained", "lost"] {
        for (wait, is_closed) in
            [("Session::poll_closed", true), ("Session::poll_going_away", false)]
        {
            table.row(wait, cause, |case| {
                let mut joined = joined(Version::Lite06);
                let mut session = joined.sessions[0].clone();
                case.waits(move |cx| match is_closed {
                    true => session.poll_closed(cx).is_ready(),
                    false => session.poll_going_away(cx).is_ready(),
                });
                let mut elsewhere = self::joined(Version::Lite06);
                let mut session = elsewhere.sessions[0].clone();
                case.other("a waiter elsewhere", move |cx| session.poll_closed(cx).is_ready());
                elsewhere.pair.run_until_idle();
                move || {
                    match cause {
                        "closed locally" => joined.sessions[0].close(Error::Cancelled),
                        "closed by the peer" => joined.sessions[1].close(Error::Cancelled),
                        "drained" => joined.sessions[1].drain(),
                        _ => joined.pair.disconnect(),
                    }
                    joined.pair.run_until_idle();
                    (joined, elsewhere)
                }
            });
        }
    }
    table.row("Session::poll_going_away", "the peer sends GOAWAY", |case| {
        let mut joined = joined(Version::Lite06);
        // A running subscription keeps the session from ending at once.
        let mut broadcast = joined.origins[1].create_broadcast("live").unwrap();
        let track = broadcast.create_track("video").unwrap();
        joined.pair.run_until_idle();
        let seen = joined.origins[0].consume().broadcast("live").unwrap();
        let reader = seen.subscribe_track("video", Subscription::default()).unwrap();
        joined.pair.run_until_idle();
        let mut session = joined.sessions[0].clone();
        case.waits(move |cx| session.poll_going_away(cx).is_ready());
        let mut session = joined.sessions[0].clone();
        case.other("a waiter for the end", move |cx| session.poll_closed(cx).is_ready());
        move || {
            joined.sessions[1].go_away(Goaway::default()).unwrap();
            joined.pair.run_until_idle();
            (reader, seen, track, broadcast, joined)
        }
    });
    for cause in ["the SETUP arrives", "lost"] {
        table.row("IncomingSession::poll_ready", cause, |case| {
            let (mut pair, client, mut request) = asked(Version::Lite06);
            case.waits(move |cx| request.poll_ready(cx).is_ready());
            move || {
                match cause {
                    "lost" => pair.disconnect(),
                    _ => pair.run_until_idle(),
                }
                pair.steps(usize::MAX);
                (pair, client)
            }
        });
    }
    for cause in ["the peer sends PROBE", "the session ends"] {
        table.row("Probe::poll_changed", cause, |case| {
            let mut joined = joined(Version::Lite06);
            let mut probe = joined.sessions[0].probe();
            joined.pair.run_until_idle();
            while probe.try_changed().is_ready() {}
            case.waits(move |cx| probe.poll_changed(cx).is_ready());
            let mut session = joined.sessions[0].clone();
            if cause == "the peer sends PROBE" {
                case.other("a waiter for the end", move |cx| session.poll_closed(cx).is_ready());
            }
            move || {
                match cause {
                    "the peer sends PROBE" => {
                        let path = NetworkPath { bitrate: Some(99_000), ..NetworkPath::default() };
                        let now = joined.pair.now();
                        joined.pair.server.handle(now, smoq::machine::Input::NetworkPath(path));
                    }
                    _ => joined.sessions[0].close(Error::Cancelled),
                }
                joined.pair.advance(Duration::from_secs(1));
                joined
            }
        });
    }
    table.row("ReadyList::poll_ready", "a key is woken", |case| {
        let mut list = ReadyList::new();
        let (one, other) = (list.waker(1), list.waker(2));
        case.waits(move |cx| list.poll_ready(cx).is_ready());
        move || {
            one.wake_by_ref();
            other.wake_by_ref();
            one.wake();
        }
    });
    drivers(table);
}

/// Rows for operations of an application after which its session has work.
fn drivers(table: &mut Table) {
    type Act = fn(&mut Joined) -> Box<dyn Any>;
    let acts: [(&str, Act); 9] = [
        ("close", |it| {
            it.sessions[0].close(Error::Cancelled);
            Box::new(())
        }),
        ("drain", |it| {
            it.sessions[0].drain();
            Box::new(())
        }),
        ("GOAWAY", |it| Box::new(it.sessions[0].go_away(Goaway::default()))),
        ("a probe", |it| Box::new(it.sessions[0].probe())),
        ("a broadcast", |it| Box::new(it.origins[0].create_broadcast("new").unwrap())),
        ("a broadcast is requested from the peer", |it| {
            Box::new(it.sessions[0].request_broadcast("there/unknown").unwrap())
        }),
        ("a track of the peer is read", |it| {
            let seen = it.origins[0].consume().broadcast("there").unwrap();
            Box::new(seen.subscribe_track("other", Subscription::default()).unwrap())
        }),
        ("a prefix", |it| Box::new(it.origins[0].dynamic("store").unwrap())),
        ("the last handle is dropped", |it| {
            let (fresh, _) = Client::new().connect(Version::Lite06, Instant::ZERO);
            drop(std::mem::replace(&mut it.sessions[0], fresh));
            Box::new(())
        }),
    ];
    for (cause, act) in acts {
        table.row("Driver::poll_wake", cause, |case| {
            let mut joined = joined(Version::Lite06);
            let mut there = joined.origins[1].create_broadcast("there").unwrap();
            let tracks = ["video", "other"].map(|name| there.create_track(name).unwrap());
            joined.pair.run_until_idle();
            let driver = Arc::new(std::sync::Mutex::new(None::<Joined>));
            let held = driver.clone();
            *held.lock().unwrap() = Some(joined);
            let poll = move |cx: &mut Context<'_>| {
                driver.lock().unwrap().as_mut().unwrap().pair.client.poll_wake(cx).is_ready()
            };
            case.waits(poll);
            move || {
                let mut joined = held.lock().unwrap();
                let kept = act(joined.as_mut().unwrap());
                drop(joined);
                (kept, there, tracks)
            }
        });
    }
    for cause in ["a group", "a frame", "the end of a group", "the end of the track", "abort"] {
        table.row("Driver::poll_wake", cause, |case| {
            let mut joined = joined(Version::Lite06);
            let mut broadcast = joined.origins[0].create_broadcast("live").unwrap();
            let mut track = broadcast.create_track("video").unwrap();
            joined.pair.run_until_idle();
            let seen = joined.origins[1].consume().broadcast("live").unwrap();
            let reader = seen.subscribe_track("video", everything()).unwrap();
            joined.pair.run_until_idle();
            let mut group = (!matches!(cause, "a group")).then(|| track.append_group().unwrap());
            joined.pair.run_until_idle();
            let driver = Arc::new(std::sync::Mutex::new(joined));
            let held = driver.clone();
            case.waits(move |cx| driver.lock().unwrap().pair.client.poll_wake(cx).is_ready());
            move || {
                match cause {
                    "a group" => group = Some(track.append_group().unwrap()),
                    "a frame" => group.as_mut().unwrap().write_frame(1, "a").unwrap(),
                    "the end of a group" => group.as_mut().unwrap().finish().unwrap(),
                    "the end of the track" => track.finish().unwrap(),
                    _ => track.abort(Error::Cancelled),
                }
                (group, track, reader, seen, broadcast, held)
            }
        });
    }
}

// ---- the table ---------------------------------------------------------------------------------

/// All waits that exist: each `poll_x` of a `wait!`, and each public function that takes a context.
fn known() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let mut of = String::new();
            for line in text.lines() {
                if let Some(name) = line.strip_prefix("impl ") {
                    let name = name.trim_end_matches(" {");
                    of = name.rsplit(" for ").next().unwrap().to_owned();
                }
                let waits = line.trim().split_once(" => poll_").map(|(_, rest)| rest);
                let public = line.trim().strip_prefix("pub fn poll_");
                let public = public.filter(|rest| rest.contains("cx: &mut Context"));
                // The definition of `wait!` itself has no name.
                if let Some(rest) = waits.or(public).filter(|_| !line.contains('$')) {
                    let name = rest.split([',', '(']).next().unwrap();
                    known.insert(format!("{of}::poll_{name}"));
                }
            }
        }
    }
    known
}

#[test]
fn each_waiter_is_woken_once_and_no_other() {
    let mut table = Table::default();
    groups(&mut table);
    tracks(&mut table);
    broadcasts(&mut table);
    origins(&mut table);
    sessions(&mut table);
    assert!(table.wrong.is_empty(), "{:#?}", table.wrong);
    let known = known();
    assert!(known.len() > 30, "{known:?}");
    let rows: BTreeSet<_> = table.waits.iter().map(|wait| (*wait).to_owned()).collect();
    assert_eq!(known.difference(&rows).collect::<Vec<_>>(), [""; 0], "waits without a row");
    assert_eq!(rows.difference(&known).collect::<Vec<_>>(), [""; 0], "rows without a wait");
}
