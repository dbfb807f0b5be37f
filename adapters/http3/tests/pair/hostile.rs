//! Any bytes in any order: nothing panics, and the rules of the interface hold.

use proptest::prelude::*;
use smoq::Versions;
use smoq::bytes::Bytes;
use smoq::stream::StreamId;
use smoq_http3::Event;

use crate::ends::End;

#[derive(Clone, Debug)]
enum Op {
    Bytes(u64, Vec<u8>),
    End(u64),
    Cancel(u64),
    Datagram(Vec<u8>),
}

/// Bytes that are likely to mean something.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let known = [
        &b"\x00\x04\x00"[..],
        b"\x00\x04\x05\xab\x60\x37\x42\x01",
        b"\x40\x54\x00",
        b"\x40\x41\x00",
        b"\x01\x03\x00\x00\xd9",
        b"\x00\x0b\x68\x43\x08\x00\x00\x01\xa4test",
        b"\x02",
        b"\x07\x01\x00",
    ];
    let known = proptest::sample::select(known.to_vec()).prop_map(<[u8]>::to_vec);
    prop_oneof![known, proptest::collection::vec(any::<u8>(), 0..24)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..16_u64, bytes()).prop_map(|(id, bytes)| Op::Bytes(id, bytes)),
        1 => (0..16_u64).prop_map(Op::End),
        1 => (0..16_u64).prop_map(Op::Cancel),
        1 => bytes().prop_map(Op::Datagram),
    ]
}

/// The corpus of the fuzz target.
#[test]
fn the_corpus_of_webtransport_passes() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/webtransport");
    let mut files = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let file = entry.unwrap().path();
        println!("{}", file.display());
        crate::fuzzed::run(&std::fs::read(file).unwrap());
        files += 1;
    }
    assert!(files > 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics(
        is_client: bool,
        piece in 1..8_usize,
        ops in proptest::collection::vec(op(), 0..24),
    ) {
        let versions = Versions::default();
        let mut end = if is_client { End::client("", &versions) } else { End::server(&versions) };
        end.run(piece);
        for op in ops {
            match op {
                Op::Bytes(id, bytes) => end.arrive(StreamId::from_u64(id), &bytes),
                Op::End(id) => {
                    let id = StreamId::from_u64(id);
                    end.arrive(id, b"");
                    end.arrive_end(id);
                }
                Op::Cancel(id) => end.http.cancelled(StreamId::from_u64(id)),
                Op::Datagram(bytes) => drop(end.http.datagram(Bytes::from(bytes))),
            }
            end.run(piece);
        }
        // Nothing follows an end.
        let is_end = |event: &Event| matches!(event, Event::Failed(_) | Event::Closed { .. });
        if let Some(at) = end.events.iter().position(is_end) {
            prop_assert_eq!(at + 1, end.events.len());
        }
        // A stream that was refused is not the session's.
        for (id, _) in &end.refused {
            let event = Event::Stream { id: *id };
            prop_assert!(!end.events.contains(&event));
        }
    }
}
