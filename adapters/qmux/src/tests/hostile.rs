use proptest::prelude::*;

use super::*;
use crate::{RECORD_BYTES, STREAMS};

/// Each broken rule ends the session with an error that names it, and the peer is told by CONNECTION_CLOSE.
#[test]
fn broken_rules_close_the_session() {
    const UNKNOWN: u64 = 0x2f;
    let own_uni = 3;
    for (name, record) in [
        ("a frame that can't be decoded", encode(&[frame::MAX_DATA])),
        ("a frame that can't be decoded", vec![0xff]),
        ("a frame that can't be decoded", encode(&[STREAM | 2, 0, 5])),
        ("a frame that can't be decoded", encode(&[STREAM | 2, 0, 1 << 61])),
        ("a frame that can't be decoded", encode(&[frame::APPLICATION_CLOSE, 0, 1 << 61])),
        ("a frame that can't be decoded", encode(&[frame::PARAMETERS, 1 << 61])),
        ("a frame that can't be decoded", encode(&[frame::MAX_STREAMS, (1 << 60) + 1])),
        ("a frame of an unknown type", encode(&[UNKNOWN, 0, 0])),
        // DATAGRAM and RESET_STREAM_AT.
        ("a frame of an unknown type", encode(&[0x31, 0])),
        ("a frame of an unknown type", encode(&[0x24, 0, 0, 0, 0])),
        ("a frame for a stream that can't have it", stream(STREAM, own_uni, b"x")),
        ("a frame for a stream that can't have it", stream(STREAM, 5, b"x")),
        ("a frame for a stream that can't have it", encode(&[frame::STOP_SENDING, 2, 0])),
        ("a frame for a stream that can't have it", encode(&[frame::STOP_SENDING, own_uni, 0])),
        ("a frame for a stream that can't have it", encode(&[frame::MAX_STREAM_DATA, 2, 9])),
        ("a frame for a stream that can't have it", encode(&[frame::RESET_STREAM, 9, 0, 0])),
        ("more streams than the peer had credit for", stream(STREAM, (1 << 62) - 4, b"")),
        (
            "more streams than the peer had credit for",
            encode(&[frame::STOP_SENDING, STREAMS << 2, 0]),
        ),
        ("transport parameters late, or twice", parameters(AMPLE)),
        ("an answer to a ping that was not sent", encode(&[frame::PING + 1, 0])),
        ("a record above the largest size", vec![0; RECORD_BYTES + 1]),
    ] {
        let mut host = Host::with(AMPLE);
        host.receive(&record);
        assert!(host.is_closed_with(Error::ProtocolViolation(name)), "{name}: {record:?}");
        assert!(matches!(host.sent.last(), Some(Frame::Failed)), "{name}");
        // Nothing has an effect after that.
        let sent = host.sent.len();
        host.receive(&encode(&[frame::PING, 0]));
        assert_eq!(host.sent.len(), sent);
    }
}

#[test]
fn parameters_come_first_and_once() {
    let mut host = Host::new();
    host.receive(&encode(&[frame::MAX_DATA, 1]));
    assert!(host.is_closed_with(Error::ProtocolViolation("transport parameters late, or twice")));
    let value = || encode(&[9]);
    for list in [
        vec![(4, value()), (4, value())],
        vec![(0, value())],
        vec![(0x0f, value())],
        // max_record_size below the smallest allowed.
        vec![(0x0571_c594_29cd_0845, encode(&[16_381]))],
        vec![(4, [value(), value()].concat())],
        vec![(4, vec![])],
    ] {
        let mut host = Host::new();
        host.receive(&parameters_of(&list));
        assert!(matches!(
            host.qmux.closed(),
            Some(CloseReason::Error(Error::ProtocolViolation(_)))
        ));
    }
    // Extensions, and what this side does not need.
    let list = [
        (0x11, vec![1; 50]),
        (0x1d, vec![]),
        (0x0571_c594_29cd_0845, encode(&[1 << 40])),
        (1, value()),
    ];
    let mut host = Host::new();
    host.receive(&[&[0, 0][..], &parameters_of(&list)].concat());
    assert!(host.qmux.is_open());
}

#[test]
fn bytes_after_the_end_of_a_stream() {
    let mut host = Host::with(AMPLE);
    // Unread, because there was no turn.
    let mut fill = |bytes: &[u8]| host.qmux.receive(host.now, bytes.to_vec().into());
    for _ in 0..30 {
        fill(&stream(STREAM, 0, &[2; 16_000]));
    }
    fill(&stream(STREAM | FIN, 0, b"end"));
    fill(&stream(STREAM, 0, b"more"));
    host.turns();
    assert!(host.is_closed_with(Error::ProtocolViolation("bytes after the end of a stream")));
}

/// A declared length costs nothing.
#[test]
fn absurd_sizes_take_no_memory() {
    let largest = (1 << 62) - 1;
    for record in [
        encode(&[STREAM | 6, 0, largest, largest]),
        encode(&[frame::APPLICATION_CLOSE, largest, largest]),
        encode(&[frame::PARAMETERS, largest]),
        encode(&[frame::RESET_STREAM, 0, largest, largest]),
        encode(&[frame::MAX_DATA, largest, frame::MAX_STREAM_DATA, 0, largest, largest]),
        parameters(Params { data: largest, bidi_local: largest, ..AMPLE }),
        parameters_of(&[(largest, vec![]), (4, encode(&[largest]))]),
    ] {
        let mut host = Host::with(AMPLE);
        let memory = allocation_counter::measure(|| {
            host.qmux.receive(host.now, record.into());
            host.turns();
        });
        assert!(memory.bytes_max < 20_000, "{}", memory.bytes_max);
    }
}

/// A small part of a record does not keep all of it.
#[test]
fn padding_is_not_kept() {
    let mut host = Host::with(AMPLE);
    let mut record = vec![0; RECORD_BYTES];
    record[RECORD_BYTES - 4..].copy_from_slice(&[STREAM as u8 | 2, 0, 1, 2]);
    let record = || Bytes::from(record.clone());
    let memory = allocation_counter::measure(|| {
        for _ in 0..1_000 {
            host.qmux.receive(host.now, record());
        }
    });
    assert!(memory.bytes_current < 200_000, "{}", memory.bytes_current);
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let kinds = [0, 4, 5, 8, 9, 0xa, 0xb, 0xe, 0xf, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x1c, 0x1d];
    let kind = prop::sample::select(kinds.to_vec());
    let field = prop_oneof![0..20_u64, Just(STREAMS << 2), 0..=(1_u64 << 62) - 1];
    let frame =
        (kind, prop::collection::vec(field, 0..4), prop::collection::vec(any::<u8>(), 0..20));
    let frame =
        frame.prop_map(|(kind, fields, tail)| [encode(&[kind]), encode(&fields), tail].concat());
    prop::collection::vec(frame, 0..5).prop_map(|frames| frames.concat())
}

proptest! {
    #[test]
    fn nothing_panics(records in prop::collection::vec(prop_oneof![
        frames(),
        prop::collection::vec(any::<u8>(), 0..100),
        Just(stream(STREAM, 0, &subscribe(0, "video"))),
    ], 1..20)) {
        let mut host = Host::with(Params { uni: 50, streams: [1, 3], ..AMPLE });
        for (n, record) in records.into_iter().enumerate() {
            let _ = host.video.write_frame(n as u64, vec![0; 100]);
            // A peer may be too fast for the turns.
            if n % 3 == 0 {
                host.qmux.receive(host.now, record.into());
            } else {
                host.receive(&record);
            }
            host.advance(Duration::from_millis(100));
        }
        if let Some(CloseReason::Error(error)) = host.qmux.closed() {
            prop_assert!(!matches!(error, Error::Internal), "{error:?}");
        }
    }
}
