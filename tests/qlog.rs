//! The qlog output of `examples/replay`: every version, and the requirements of the schemas.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use smoq::machine::trace::{Replay, Sink};
use smoq::sim::{Link, Pair};
use smoq::{Client, Instant, Origin, Server, Subscription, Version, Versions};

#[path = "../examples/replay/qlog.rs"]
mod qlog;

/// The traces of a publisher and of a subscriber, with two groups of two frames each, and a datagram if the
/// link carries them.
fn traces(version: Version, link: Link) -> [Vec<u8>; 2] {
    let [near, far] = [(); 2].map(|()| Arc::new(Mutex::new(Vec::new())));
    let sink = |bytes: &Arc<Mutex<Vec<u8>>>| {
        let bytes = bytes.clone();
        move || {
            let bytes = bytes.clone();
            let sink: Box<dyn Sink> = Box::new(move |record: &[u8]| {
                bytes.lock().unwrap().extend_from_slice(record);
                Ok(())
            });
            Some(sink)
        }
    };
    let (publisher, subscriber) = (Origin::default().produce(), Origin::default().produce());
    let client = Client::new().with_publish(publisher.consume()).with_trace(sink(&near));
    let server = Server::new().with_consume(subscriber.clone()).with_trace(sink(&far));
    let (_near, client) = client.connect(version, Instant::ZERO);
    let (_far, server) = server.accept(version, Instant::ZERO);
    let has_datagrams = link.max_datagram > 0;
    let mut pair = Pair::new(client, server, link);
    let mut broadcast = publisher.create_broadcast("live").unwrap();
    let mut track = broadcast.create_track("video").unwrap();
    pair.advance(Duration::from_millis(500));
    let seen = subscriber.consume().broadcast("live").unwrap();
    let all = Subscription::default().max_age(Duration::MAX).start(0);
    let _reader = seen.subscribe_track("video", all).unwrap();
    pair.advance(Duration::from_millis(500));
    for n in 0..2_u64 {
        let mut group = track.append_group().unwrap();
        group.write_frame(n, "frame").unwrap();
        group.write_frame(n, vec![1; 2_000]).unwrap();
        group.finish().unwrap();
    }
    if has_datagrams {
        track.write_datagram(2_u64, "lone").unwrap();
    }
    pair.advance(Duration::from_secs(2));
    drop(pair);
    [near, far].map(|bytes| bytes.lock().unwrap().clone())
}

fn log(trace: &[u8]) -> Value {
    let mut replay = Replay::new(trace).unwrap();
    let mut log = qlog::Log::new(replay.config(), replay.start());
    while let Some(step) = replay.next() {
        let step = step.unwrap();
        log.step(replay.now(), &step);
    }
    serde_json::from_str(&log.finish().to_string()).expect("the output is valid JSON")
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|it| it["name"] == *name).map(|it| &it["data"]).collect()
}

fn number(data: &Value, field: &str) -> u64 {
    data[field].as_u64().unwrap_or_else(|| panic!("no {field} in {data}"))
}

#[test]
fn every_version_has_its_messages_and_objects() {
    for version in Versions::default().iter().chain(Version::WIP) {
        for link in [Link::perfect(), Link::hostile(1)] {
            let sides = ["client", "server"];
            let logs = traces(version, link).map(|trace| log(&trace));
            for (log, side) in logs.iter().zip(sides) {
                assert_eq!(log["qlog_version"], "0.3");
                assert_eq!(log["serialization_format"], "application/qlog+json");
                let trace = &log["traces"][0];
                assert_eq!(trace["vantage_point"]["type"], side);
                assert!(trace["event_schemas"][0].as_str().unwrap().contains("moqt"));
                let events = trace["events"].as_array().unwrap();
                let times: Vec<_> = events.iter().map(|it| it["time"].as_f64().unwrap()).collect();
                assert!(times.is_sorted(), "{version}");
            }
            let events = logs.each_ref().map(|log| log["traces"][0]["events"].as_array().unwrap());
            for (events, way) in events.iter().zip(["created", "parsed"]) {
                let objects = named(events, &format!("moqt:subgroup_object_{way}"));
                let mut seen: Vec<_> = objects
                    .iter()
                    .map(|it| {
                        ["group_id", "object_id", "object_payload_length"].map(|f| number(it, f))
                    })
                    .collect();
                seen.sort();
                let payload: Vec<_> = seen.iter().filter(|it| it[2] > 0).collect();
                assert_eq!(
                    payload,
                    [&[0, 0, 5], &[0, 1, 2_000], &[1, 0, 5], &[1, 1, 2_000]],
                    "{version}"
                );
                let headers = named(events, &format!("moqt:subgroup_header_{way}"));
                assert_eq!(headers.len(), 2, "{version}");
                for header in headers {
                    for field in ["stream_id", "track_alias", "group_id", "publisher_priority"] {
                        number(header, field);
                    }
                }
                let types = named(events, "moqt:stream_type_set");
                assert!(
                    types.iter().filter(|it| it["stream_type"] == "subgroup_header").count() == 2
                );
            }
            // Messages that one side creates are parsed by the other.
            for (from, to) in [(0, 1), (1, 0)] {
                let types = |events: &[Value], way| {
                    let messages = named(events, &format!("moqt:control_message_{way}"));
                    let mut types: Vec<_> = messages
                        .iter()
                        .map(|it| (number(it, "stream_id"), it["message"]["type"].to_string()))
                        .collect();
                    types.sort();
                    types
                };
                let created = types(events[from], "created");
                assert_eq!(created, types(events[to], "parsed"), "{version}");
                assert!(!created.is_empty(), "{version}");
            }
            let asked = named(events[1], "moqt:control_message_created");
            assert!(asked.iter().any(|it| it["message"]["type"] == "subscribe"), "{version}");
        }
    }
}

#[test]
fn datagrams_have_objects() {
    for version in [Version::Lite05, Version::Lite06, Version::Lite07Wip] {
        let link = Link::perfect().datagrams(1_200, 0);
        let logs = traces(version, link).map(|trace| log(&trace));
        for (log, way) in logs.iter().zip(["created", "parsed"]) {
            let events = log["traces"][0]["events"].as_array().unwrap();
            let objects = named(events, &format!("moqt:object_datagram_{way}"));
            let [object] = objects[..] else { panic!("{version}: {objects:?}") };
            let of = ["group_id", "object_id", "object_payload_length"].map(|f| number(object, f));
            assert_eq!(of, [2, 0, 4], "{version}");
        }
    }
}
