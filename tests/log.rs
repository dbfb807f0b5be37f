//! The events that sessions emit with the feature `tracing`.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smoq::sim::{Link, Pair};
use smoq::{Client, Error, Instant, Limits, Origin, Server, Subscription, Version, Versions};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Records each event as a line: level, target, fields.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let meta = event.metadata();
        let mut line = Line(format!("{} {}", meta.level(), meta.target()));
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn sessions_refusals_and_limits_emit_events_and_frames_do_not() {
    for version in Versions::default().iter().chain(Version::WIP) {
        let lines = Lines::default();
        tracing::subscriber::with_default(lines.clone(), || {
            let (publisher, subscriber) =
                (Origin::default().produce(), Origin::default().produce());
            let mut limits = Limits::default();
            limits.frame_bytes = 100;
            let client = Client::new().with_publish(publisher.consume());
            let server = Server::new().with_consume(subscriber.clone()).with_limits(limits);
            let (near, client) = client.connect(version, Instant::ZERO);
            let (_far, server) = server.accept(version, Instant::ZERO);
            let mut pair = Pair::new(client, server, Link::perfect());
            let mut broadcast = publisher.create_broadcast("live").unwrap();
            let mut track = broadcast.create_track("video").unwrap();
            let mut step = || pair.advance(Duration::from_millis(100));
            step();
            let seen = subscriber.consume().broadcast("live").unwrap();
            let _unknown = seen.subscribe_track("unknown", Subscription::default()).unwrap();
            let _reader = seen.subscribe_track("video", Subscription::default()).unwrap();
            step();
            for n in 0..100_u64 {
                track.write_frame(n, "small").unwrap();
                step();
            }
            let before = lines.0.lock().unwrap().len();
            assert!(before < 6, "{version}: {:?}", lines.0.lock().unwrap());
            track.write_frame(100_u64, vec![0; 101]).unwrap();
            step();
            near.close(Error::App(5));
            step();
        });
        let lines = lines.0.lock().unwrap();
        let has = |parts: &[&str]| {
            let found = lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
            assert!(found, "{version}: no {parts:?} in {lines:#?}");
        };
        has(&["INFO smoq", "session started", "side=Client", version.name()]);
        has(&["INFO smoq", "session started", "side=Server"]);
        has(&["DEBUG smoq", "request refused", "no such track or group"]);
        has(&["WARN smoq", "limit passed", "what=\"group\"", "the frame is larger than"]);
        has(&["INFO smoq", "session closed", "application error code 5"]);
        assert_eq!(lines.iter().filter(|line| line.contains("session closed")).count(), 2);
    }
}
