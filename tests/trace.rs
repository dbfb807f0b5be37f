//! Traces: a bare machine replays a recording exactly, and any changed byte is detected.

use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use smoq::machine::trace::{Replay, Sink, Step, TraceError, TraceStopped};
use smoq::machine::{Event, Input};
use smoq::sim::{Link, Pair};
use smoq::{
    Client, Driver, Instant, Origin, OriginProducer, Server, Session, Subscription, TrackConsumer,
    TrackProducer, Version, Versions,
};

/// A bounded store for the records of a trace.
#[derive(Clone)]
struct Kept {
    records: Arc<Mutex<Vec<Vec<u8>>>>,
    most: usize,
}

impl Kept {
    fn new(most: usize) -> Self {
        Self { records: Arc::default(), most }
    }

    fn sink(&self) -> Option<Box<dyn Sink>> {
        let Self { records, most } = self.clone();
        Some(Box::new(move |record: &[u8]| {
            let mut records = records.lock().unwrap();
            if records.len() == most {
                return Err(TraceStopped);
            }
            records.push(record.to_vec());
            Ok(())
        }))
    }

    fn bytes(&self) -> Vec<u8> {
        self.records.lock().unwrap().concat()
    }
}

struct World {
    pair: Pair<Driver, Driver>,
    sessions: [Session; 2],
    traces: [Kept; 2],
    origins: [OriginProducer; 2],
}

impl World {
    fn new(version: Version, link: Link, most: usize) -> Self {
        let origins = [Origin::default().produce(), Origin::default().produce()];
        let traces = [Kept::new(most), Kept::new(usize::MAX)];
        let [near, far] = traces.clone();
        let client = Client::new()
            .with_path("from/here")
            .with_publish(origins[0].consume())
            .with_trace(move || near.sink());
        let server = Server::new().with_consume(origins[1].clone()).with_trace(move || far.sink());
        let (near, client) = client.connect(version, Instant::ZERO);
        let (far, server) = server.accept(version, Instant::ZERO);
        let pair = Pair::new(client, server, link);
        Self { pair, sessions: [near, far], traces, origins }
    }

    fn settle(&mut self) {
        self.pair.advance(Duration::from_millis(800));
    }

    /// A track with groups of all kinds of frames, and a reader.
    fn live(&mut self) -> (TrackProducer, TrackConsumer) {
        let mut broadcast = self.origins[0].create_broadcast("live").unwrap();
        let mut track = broadcast.create_track("video").unwrap();
        self.settle();
        let seen = self.origins[1].consume().broadcast("live").unwrap();
        let everything = Subscription::default().max_age(Duration::MAX).start(0);
        let reader = seen.subscribe_track("video", everything).unwrap();
        self.settle();
        for n in 0..4_u64 {
            let mut group = track.append_group().unwrap();
            for size in [0, 3, 400, 1_000] {
                group.write_frame(n, vec![n as u8; size]).unwrap();
            }
            let mut frame = group.create_frame(n, 3_000).unwrap();
            for piece in [1, 700, 2_299] {
                frame.write(&vec![7; piece]).unwrap();
                self.pair.steps(20);
            }
            frame.finish().unwrap();
            if n == 2 {
                group.abort(smoq::Error::App(3));
            } else {
                group.finish().unwrap();
            }
            self.settle();
        }
        track.finish().unwrap();
        self.settle();
        drop(broadcast);
        (track, reader)
    }
}

/// Replays a trace to its end, and returns the number of steps.
fn replay(trace: &[u8]) -> Result<usize, TraceError> {
    let steps: Result<Vec<_>, _> = Replay::new(trace)?.collect();
    steps.map(|steps| steps.len())
}

#[test]
fn a_session_replays_byte_for_byte() {
    for version in Versions::default().iter().chain(Version::WIP) {
        for link in [Link::perfect(), Link::wide(1), Link::hostile(2)] {
            let mut world = World::new(version, link, usize::MAX);
            let _live = world.live();
            world.pair.advance(Duration::from_secs(3));
            assert!(world.sessions[0].gauges().recording);
            world.sessions[0].drain();
            world.pair.advance(Duration::from_secs(3));
            // The drivers write their last records when they are dropped.
            drop(world.pair);
            for (trace, session) in world.traces.iter().zip(&world.sessions) {
                let bytes = trace.bytes();
                let stats = session.stats();
                assert_eq!(stats.trace_bytes, bytes.len() as u64);
                assert!(!session.gauges().recording);
                let mut again = Replay::new(&bytes).unwrap();
                assert_eq!(again.config().agreed.version(), version);
                let (mut frames, mut sent, mut received) = (0, 0, 0);
                for step in &mut again {
                    match step.unwrap_or_else(|error| panic!("{version}: {error}")) {
                        Step::Event(Event::Frame { .. }) => frames += 1,
                        Step::Wrote { bytes, .. } => sent += bytes.len() as u64,
                        Step::Input(Input::Data { bytes, .. }) => received += bytes.len() as u64,
                        _ => {}
                    }
                }
                assert!(again.is_closed());
                assert_eq!(again.version(), version);
                // The replay has the same counters.
                let counted = (stats.frames_received, stats.bytes_sent, stats.bytes_received);
                assert_eq!((frames, sent, received), counted, "{version}");
            }
        }
    }
}

/// Groups in datagrams, and a group that is fetched.
#[test]
fn datagrams_and_fetches_replay() {
    for version in [Version::Lite05, Version::Lite06, Version::Lite07Wip] {
        for (link, lost) in [(Link::perfect(), 0), (Link::wide(1), 2), (Link::hostile(2), 2)] {
            let mut link = link.datagrams(1_200, lost);
            // So that datagrams wait for room.
            link.bandwidth = link.bandwidth.or(Some(20_000));
            let mut world = World::new(version, link, usize::MAX);
            let mut broadcast = world.origins[0].create_broadcast("live").unwrap();
            let mut track = broadcast.create_track("video").unwrap();
            for n in 0..2_u64 {
                track.write_frame(n, "before anybody reads").unwrap();
            }
            world.settle();
            let seen = world.origins[1].consume().broadcast("live").unwrap();
            let want = Subscription::default().max_age(Duration::from_secs(60)).start(1);
            let mut reader = seen.subscribe_track("video", want).unwrap();
            world.settle();
            for n in 2..12_u64 {
                track.write_datagram(n, vec![n as u8; 100]).unwrap();
            }
            // Larger than any datagram.
            track.write_datagram(12, vec![12; 2_000]).unwrap();
            assert!(reader.try_fetch_group(0).is_pending());
            world.pair.advance(Duration::from_secs(3));
            assert!(matches!(reader.try_fetch_group(0), Poll::Ready(Ok(_))), "{version}");
            let stats = world.sessions.each_ref().map(|session| session.stats());
            assert_eq!((stats[0].frames_sent, stats[0].groups_sent), (13, 13), "{version}");
            assert_eq!(stats[1].frames_received, stats[1].groups_received);
            drop(world.pair);

            let mut found = [[0; 4]; 2];
            for (trace, found) in world.traces.iter().zip(&mut found) {
                for step in Replay::new(&trace.bytes()).unwrap() {
                    match step.unwrap_or_else(|error| panic!("{version}: {error}")) {
                        Step::Datagram { sent: true, .. } => found[0] += 1,
                        Step::Datagram { sent: false, .. } => found[1] += 1,
                        Step::Event(Event::Datagram { .. }) => found[2] += 1,
                        Step::Event(Event::FetchRequested { .. } | Event::FetchStarted { .. }) => {
                            found[3] += 1;
                        }
                        _ => {}
                    }
                }
            }
            let [near, far] = found;
            assert_eq!((near[0], near[2], near[3]), (10, 0, 1), "{version}");
            assert!(near[1] > 0, "{version}: no datagram was sent");
            assert_eq!((far[0], far[3]), (0, 1), "{version}");
            assert!(far[2] > 0 && (far[2] == 10) == (lost == 0), "{version}: {far:?}");
            assert_eq!(stats[1].frames_received, far[2] + 3, "{version}");

            let records = world.traces[0].records.lock().unwrap();
            let shown = |it: &Vec<u8>| it[0] == 13 && it[1] > 1;
            let at = records.iter().position(shown).unwrap();
            let mut tampered = records.clone();
            *tampered[at].last_mut().unwrap() ^= 1;
            let result = replay(&tampered.concat());
            let is_found =
                matches!(result, Err(TraceError::Differs { record, .. }) if record == at as u64);
            assert!(is_found, "{result:?}");
        }
    }
}

#[test]
fn equal_sessions_have_equal_traces() {
    let run = |version, seed| {
        let mut world = World::new(version, Link::hostile(seed), usize::MAX);
        let _live = world.live();
        world.traces.map(|trace| trace.bytes())
    };
    for version in [Version::Lite06, Version::Moqt18] {
        assert!(run(version, 3) == run(version, 3));
        assert!(run(version, 3) != run(version, 4));
    }
}

#[test]
fn a_change_of_any_record_is_detected() {
    for version in [Version::Lite05, Version::Moqt16] {
        let mut world = World::new(version, Link::perfect(), usize::MAX);
        let _live = world.live();
        let records = world.traces[1].records.lock().unwrap().clone();
        let mut found = [0; 2];
        // An output with another last byte, or an input that is left out.
        for (at, record) in records.iter().enumerate().skip(1).step_by(3) {
            let is_output = matches!(record[0], 6..=9);
            let mut tampered = records.clone();
            let last = tampered[at].last_mut().unwrap();
            *last ^= 1;
            match replay(&tampered.concat()) {
                Err(TraceError::Differs { record, recorded, replayed }) => {
                    assert!(!is_output || record == at as u64, "record {at}, not {record}");
                    assert_ne!(recorded, replayed);
                    found[0] += 1;
                }
                Err(TraceError::Malformed { .. } | TraceError::Truncated { .. }) => found[1] += 1,
                Err(other) => panic!("{other}"),
                // A changed input may have no consequence, but a changed output is an error.
                Ok(_) => assert!(!is_output, "record {at} is {:?}", records[at]),
            }
            if record[0] == 1 && record.len() > 40 {
                tampered.remove(at);
                let result = replay(&tampered.concat());
                assert!(matches!(result, Err(TraceError::Differs { .. })), "{result:?}");
            }
        }
        assert!(found[0] > 10 && found[1] > 5, "{found:?}");
    }
}

#[test]
fn bytes_that_are_not_a_trace_are_an_error() {
    let mut world = World::new(Version::Lite06, Link::perfect(), usize::MAX);
    let _live = world.live();
    let trace = world.traces[0].bytes();
    for text in [&b""[..], b"smoqtrc", b"smoqtrc\x02", b"a trace"] {
        assert_eq!(Replay::new(text).err(), Some(TraceError::NotATrace));
    }
    // Cut anywhere, it is a shorter trace or one that ends within a record.
    let whole = replay(&trace).unwrap();
    for cut in (0..trace.len()).step_by(397) {
        match replay(&trace[..cut]) {
            Ok(steps) => assert!(steps <= whole),
            Err(error) => assert!(matches!(
                error,
                TraceError::NotATrace | TraceError::Truncated { .. } | TraceError::Malformed { .. }
            )),
        }
    }
}

/// The contract of [`Sink`].
#[test]
fn a_full_sink_ends_the_trace_and_not_the_session() {
    for version in Versions::default().iter().chain(Version::WIP) {
        let mut world = World::new(version, Link::wide(5), 40);
        let (_track, mut reader) = world.live();
        assert!(!world.sessions[0].gauges().recording, "{version}");
        let near = world.sessions[0].stats();
        assert_eq!(near.trace_bytes, world.traces[0].bytes().len() as u64);
        assert!(world.sessions[1].gauges().recording);
        let groups = std::iter::from_fn(|| match reader.try_recv_group() {
            std::task::Poll::Ready(Ok(Some(group))) => Some(group.sequence()),
            _ => None,
        });
        // The aborted group need not arrive.
        assert!(groups.count() >= 3, "{version}: the session must continue");
        assert!(
            replay(&world.traces[0].bytes()).unwrap() > 0,
            "the part written before can be replayed"
        );
    }
}
