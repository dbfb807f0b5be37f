//! Readers of announcements, and requests for broadcasts.

use std::any::Any;
use std::task::Poll;

use smoq::{BroadcastRequest, Error, OriginConsumer, OriginDynamic, OriginProducer, Version};

use super::{LATE, Table, impatient_origin, joined, origin};

pub(crate) fn rows(table: &mut Table) {
    for cause in ["announced", "ended", "the last producer is dropped"] {
        table.row("OriginConsumer::poll_announced", cause, |case| {
            let origin = origin();
            let mut live = (cause == "ended").then(|| origin.create_broadcast("live").unwrap());
            for _ in 0..2 {
                let mut consumer = origin.consume();
                while consumer.try_announced().is_ready() {}
                case.waits(move |cx| consumer.poll_announced(cx).is_ready());
            }
            let elsewhere = super::origin();
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
                    ("accept", Some(request)) => kept.push(Box::new(request.accept())),
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
            let (dynamic, consumer, mut request) = held_request(&origin);
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
    for (wait, is_reader) in
        [("OriginConsumer::poll_request_broadcast", true), ("BroadcastRequest::poll_unused", false)]
    {
        table.row(wait, "no answer in time", |case| {
            let origin = impatient_origin();
            let (dynamic, mut consumer, mut request) = held_request(&origin);
            let mut kept: Vec<Box<dyn Any>> = Vec::new();
            if is_reader {
                case.waits(move |cx| consumer.poll_request_broadcast(cx, "store/a").is_ready());
                kept.push(Box::new(request));
            } else {
                case.waits(move |cx| request.poll_unused(cx).is_ready());
                kept.push(Box::new(consumer));
            }
            move || (origin.advance(LATE), origin, dynamic, kept)
        });
    }
    table.row("OriginConsumer::poll_request_broadcast", "an existing broadcast", |case| {
        let (origin, other) = (origin(), origin());
        let one = other.create_broadcast("one").unwrap();
        let mut dynamic = origin.dynamic("store").unwrap();
        let mut consumer = origin.consume();
        case.waits(move |cx| consumer.poll_request_broadcast(cx, "store/a").is_ready());
        let Poll::Ready(request) = dynamic.try_requested_broadcast() else { panic!() };
        move || (request.accept_broadcast(&one.consume()), one, other, dynamic, origin)
    });
    for version in Version::known().filter(|version| *version >= Version::Lite06) {
        let cause = format!("{version}, a peer announces a longer prefix");
        table.row("OriginConsumer::poll_request_broadcast", &cause, |case| {
            let mut joined = joined(version);
            let origin = &joined.origins[0];
            let mut dynamic = origin.dynamic("store").unwrap();
            let mut consumer = origin.consume();
            case.waits(move |cx| match consumer.poll_request_broadcast(cx, "store/a/b") {
                Poll::Ready(found) => found.is_ok(),
                Poll::Pending => false,
            });
            let mut consumer = origin.consume();
            case.other("a reader of another path", move |cx| {
                consumer.poll_request_broadcast(cx, "store/b").is_ready()
            });
            let mut requests = vec![];
            while let Poll::Ready(request) = dynamic.try_requested_broadcast() {
                requests.push(request);
            }
            case.other("a handler", move |cx| dynamic.poll_requested_broadcast(cx).is_ready());
            move || {
                let longer = joined.origins[1].dynamic("store/a").unwrap();
                joined.pair.run_until_idle();
                (longer, requests, joined)
            }
        });
    }
    table.row("BroadcastRequest::poll_unused", "a handler for a longer prefix", |case| {
        let origin = origin();
        let (dynamic, mut consumer, mut request) = held_request(&origin);
        case.waits(move |cx| request.poll_unused(cx).is_ready());
        case.other("the reader, which waits for the other handler now", move |cx| {
            consumer.poll_request_broadcast(cx, "store/a").is_ready()
        });
        move || (origin.dynamic("store/a").unwrap(), origin, dynamic)
    });
    table.row("OriginDynamic::poll_requested_broadcast", "another handler is dropped", |case| {
        let origin = origin();
        let mut dynamic = origin.dynamic("store").unwrap();
        let near = origin.dynamic("store/a").unwrap();
        let mut consumer = origin.consume();
        assert!(consumer.try_request_broadcast("store/a").is_pending());
        case.waits(move |cx| dynamic.poll_requested_broadcast(cx).is_ready());
        move || {
            drop(near);
            (origin, consumer)
        }
    });
}

/// A handler that holds a request, and the reader that made it.
fn held_request(origin: &OriginProducer) -> (OriginDynamic, OriginConsumer, BroadcastRequest) {
    let (mut dynamic, mut consumer) = (origin.dynamic("store").unwrap(), origin.consume());
    assert!(consumer.try_request_broadcast("store/a").is_pending());
    let Poll::Ready(request) = dynamic.try_requested_broadcast() else { panic!() };
    (dynamic, consumer, request)
}
