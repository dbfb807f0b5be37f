//! Readers and writers of broadcasts, and requests for tracks.

use std::any::Any;
use std::task::Poll;

use smoq::{Broadcast, BroadcastProducer, Error, Subscription, TrackInfo, Version};

use super::{LATE, Table, impatient_origin, joined};

pub(crate) fn rows(table: &mut Table) {
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
    for cause in ["finish", "abort", "drop", "a track"] {
        table.row("TrackNames::poll_next_name", cause, |case| {
            let mut broadcast = Broadcast::new().produce();
            for _ in 0..2 {
                let mut names = broadcast.consume().track_names();
                case.waits(move |cx| names.poll_next_name(cx).is_ready());
            }
            let other = Broadcast::new().produce();
            let mut names = other.consume().track_names();
            case.other("a waiter elsewhere", move |cx| names.poll_next_name(cx).is_ready());
            if cause == "a track" {
                let mut closed = broadcast.consume();
                case.other("a waiter for the end", move |cx| closed.poll_closed(cx).is_ready());
            }
            move || match cause {
                "a track" => {
                    (Some(broadcast.create_track("video").unwrap()), Some(broadcast), other)
                }
                _ => (None, end(cause, broadcast), other),
            }
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
    for version in Version::known() {
        let cause = format!("{version}, a track of a peer that ends at once");
        table.row("TrackConsumer::poll_info", &cause, |case| {
            let mut joined = joined(version);
            let live = joined.origins[1].create_broadcast("live").unwrap();
            let mut dynamic = live.dynamic();
            joined.pair.run_until_idle();
            let seen = joined.origins[0].consume().broadcast("live").unwrap();
            let mut reader = seen.subscribe_track("video", Subscription::default()).unwrap();
            joined.pair.run_until_idle();
            let Poll::Ready(Ok(request)) = dynamic.try_requested_track() else { panic!() };
            case.waits(move |cx| reader.poll_info(cx).is_ready());
            let mut reader = seen.subscribe_track("audio", Subscription::default()).unwrap();
            case.other("a reader of another track", move |cx| reader.poll_info(cx).is_ready());
            move || {
                let mut track = request.accept(TrackInfo::default()).unwrap();
                track.finish().unwrap();
                drop(track);
                joined.pair.run_until_idle();
                (joined, seen, dynamic, live)
            }
        });
    }
    for (wait, is_reader) in
        [("TrackConsumer::poll_info", true), ("TrackRequest::poll_unused", false)]
    {
        table.row(wait, "no answer in time", |case| {
            let origin = impatient_origin();
            let broadcast = origin.create_broadcast("live").unwrap();
            let mut dynamic = broadcast.dynamic();
            let subscribe =
                || broadcast.consume().subscribe_track("video", Subscription::default());
            let mut reader = subscribe().unwrap();
            let Poll::Ready(Ok(mut request)) = dynamic.try_requested_track() else { panic!() };
            let mut kept: Vec<Box<dyn Any>> = Vec::new();
            if is_reader {
                case.waits(move |cx| reader.poll_info(cx).is_ready());
                kept.push(Box::new(request));
            } else {
                case.waits(move |cx| request.poll_unused(cx).is_ready());
                kept.push(Box::new(reader));
            }
            move || (origin.advance(LATE), origin, broadcast, dynamic, kept)
        });
    }
    table.row("BroadcastProducer::poll_unused", "a finished track's writer is dropped", |case| {
        let mut broadcast = Broadcast::new().produce();
        let mut track = broadcast.create_track("video").unwrap();
        let reader = broadcast.consume().subscribe_track("video", Subscription::default());
        track.finish().unwrap();
        let mut waits = broadcast.clone();
        case.waits(move |cx| waits.poll_unused(cx).is_ready());
        move || {
            drop(track);
            (reader, broadcast)
        }
    });
}
