//! Readers and writers of tracks, and requests for groups.

use std::any::Any;
use std::task::Poll;
use std::time::Duration;

use smoq::{Error, Instant, Origin, Subscription, Track, TrackProducer};

use super::{LATE, Table, everything, impatient_origin, track};

pub(crate) fn rows(table: &mut Table) {
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
    table.row(
        "TrackConsumer::poll_recv_group",
        "the last writer is dropped after the end",
        |case| {
            let mut track = track();
            track.finish_at(7).unwrap();
            let mut reader = track.consume();
            case.waits(move |cx| reader.poll_recv_group(cx).is_ready());
            move || drop(track)
        },
    );
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
            if cause.starts_with("finish") {
                let mut writer = track.clone();
                case.other("a writer", move |cx| writer.poll_unused(cx).is_ready());
                let mut dynamic = track.dynamic();
                case.other("a handler of groups", move |cx| {
                    dynamic.poll_requested_group(cx).is_ready()
                });
            }
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
    table.row("TrackConsumer::poll_read_frame", "the group is evicted for its age", |case| {
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
    table.row("TrackConsumer::poll_group", "later groups are given up", |case| {
        let origin = Origin::default().produce();
        let mut broadcast = origin.create_broadcast("live").unwrap();
        let info = Track::new("video").max_age(Duration::from_secs(1));
        let mut track = broadcast.create_track(info).unwrap();
        for sequence in [6, 7] {
            track.create_group(sequence).unwrap().finish().unwrap();
        }
        let mut reader = track.consume();
        case.waits(move |cx| reader.poll_group(cx, 5).is_ready());
        let mut reader = track.subscribe(everything().start(8));
        case.other("a reader of groups", move |cx| reader.poll_recv_group(cx).is_ready());
        move || (origin.advance(LATE), origin, broadcast, track)
    });
    for cause in ["is finished", "is aborted"] {
        table.row("TrackConsumer::poll_read_frame", &format!("an empty group {cause}"), |case| {
            let mut track = track();
            let mut group = track.append_group().unwrap();
            let mut reader = track.subscribe(everything());
            case.waits(move |cx| reader.poll_read_frame(cx).is_ready());
            track.write_frame(0, "a").unwrap();
            move || {
                match cause {
                    "is finished" => group.finish().unwrap(),
                    _ => group.abort(Error::Cancelled),
                }
                (group, track)
            }
        });
    }
    demand(table);
    fetches(table);
}

/// The combined subscription of the readers of a track.
fn demand(table: &mut Table) {
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
    for cause in ["a request", "a subscription that asks", "abort"] {
        table.row("TrackProducer::poll_new_group_requested", cause, |case| {
            let mut track = Track::new("video").dynamic_groups(true).produce();
            let mut reader = track.subscribe(limited());
            let mut writer = track.clone();
            case.waits(move |cx| writer.poll_new_group_requested(cx).is_ready());
            let mut waits = track.consume();
            if cause != "abort" {
                case.other("a reader of groups", move |cx| waits.poll_recv_group(cx).is_ready());
            }
            move || {
                match cause {
                    "a request" => reader.request_new_group(),
                    "abort" => track.abort(Error::Cancelled),
                    _ => reader.update(limited().new_group(0)),
                }
                (track, reader)
            }
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
}

/// Groups that are requested by number.
fn fetches(table: &mut Table) {
    for (wait, is_reader) in
        [("TrackConsumer::poll_fetch_group", true), ("GroupRequest::poll_unused", false)]
    {
        table.row(wait, "no answer in time", |case| {
            let origin = impatient_origin();
            let mut broadcast = origin.create_broadcast("live").unwrap();
            let track = broadcast.create_track("video").unwrap();
            let mut dynamic = track.dynamic();
            let mut reader = track.consume();
            assert!(reader.try_fetch_group(5).is_pending());
            let Poll::Ready(Ok(mut request)) = dynamic.try_requested_group() else { panic!() };
            let mut kept: Vec<Box<dyn Any>> = Vec::new();
            if is_reader {
                case.waits(move |cx| reader.poll_fetch_group(cx, 5).is_ready());
                kept.push(Box::new(request));
            } else {
                case.waits(move |cx| request.poll_unused(cx).is_ready());
                kept.push(Box::new(reader));
            }
            move || (origin.advance(LATE), origin, broadcast, track, dynamic, kept)
        });
    }
    table.row("TrackConsumer::poll_fetch_group", "the track ends before it", |case| {
        let mut track = track();
        let dynamic = track.dynamic();
        let mut reader = track.consume();
        case.waits(move |cx| reader.poll_fetch_group(cx, 5).is_ready());
        let mut reader = track.consume();
        case.other("a reader of an earlier group", move |cx| {
            reader.poll_fetch_group(cx, 2).is_ready()
        });
        move || (track.finish_at(5), track, dynamic)
    });
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
