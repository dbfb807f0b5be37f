//! Flow control (RFC 9000, section 4).

use super::*;
use crate::{CONNECTION_WINDOW, RECORD_BYTES, STREAM_WINDOW, STREAMS};

/// Eight groups of a peer that gives no more credit wait, and nothing else does. They wait in the cache, and not in
/// records.
#[test]
fn eight_streams_without_credit_stall_nothing_else() {
    let mut host = Host::with(Params { uni: 100, ..AMPLE });
    host.receive(&stream(STREAM, 0, &subscribe(0, "video")));
    host.receive(&stream(STREAM, 4, &subscribe(1, "texts")));
    for n in 0..8 {
        host.video.write_frame(n, vec![n as u8; 10_000]).unwrap();
        host.turns();
    }
    let stalled: Vec<_> = host.streams().iter().filter(|(id, ..)| id & 2 != 0).cloned().collect();
    assert_eq!(stalled.len(), 8);
    assert!(stalled.iter().all(|(_, bytes, fin)| bytes.len() == 100 && !fin));

    for n in 0..100_u8 {
        host.texts.write_frame(u64::from(n), vec![n; 20]).unwrap();
        host.advance(Duration::from_millis(20));
        let (_, bytes, fin) = host.streams().pop().unwrap();
        assert!(bytes.ends_with(&[n; 20]) && fin, "{n}");
        assert_eq!(host.qmux.streams.records.len(), 0);
    }
    // One of them goes on, and another one is stopped.
    let [(first, ..), (second, ..)] = [&stalled[0], &stalled[1]];
    host.receive(&encode(&[frame::MAX_STREAM_DATA, *first, 20_000]));
    host.receive(&encode(&[frame::STOP_SENDING, *second, 1]));
    let after = host.streams();
    let (_, bytes, fin) = after.iter().find(|(id, ..)| id == first).unwrap();
    assert!(bytes.len() > 10_000 && *fin);
    let is_reset = |frame: &Frame| matches!(frame, Frame::Reset { id, size: 100, .. } if id.as_u64() == *second);
    assert!(host.sent.iter().any(is_reset));
}

#[test]
fn credit_of_the_connection_holds_all_streams() {
    let mut host = Host::with(Params { data: 5_000, ..AMPLE });
    host.receive(&stream(STREAM, 0, &subscribe(0, "video")));
    for n in 0..4 {
        host.video.write_frame(n, vec![n as u8; 10_000]).unwrap();
    }
    host.turns();
    let total = |host: &Host| host.streams().iter().map(|(_, it, _)| it.len()).sum::<usize>();
    assert_eq!(total(&host), 5_000);
    // Limits never shrink.
    host.receive(&encode(&[frame::MAX_DATA, 10]));
    assert_eq!(total(&host), 5_000);
    for limit in (5_000..60_000).step_by(1_000) {
        host.receive(&encode(&[frame::MAX_DATA, limit]));
        host.advance(Duration::from_millis(20));
        assert!(total(&host) <= limit as usize);
    }
    assert!(total(&host) > 40_000);
    assert_eq!(host.streams().iter().filter(|(.., fin)| *fin).count(), 4);
}

#[test]
fn streams_wait_for_the_limit_of_the_peer() {
    let mut host = Host::with(Params { streams: [0; 2], ..AMPLE });
    host.receive(&stream(STREAM, 0, &subscribe(0, "video")));
    for n in 0..3 {
        host.video.write_frame(n, "frame").unwrap();
        host.turns();
    }
    let groups = |host: &Host| host.streams().iter().filter(|(id, ..)| id & 2 != 0).count();
    assert_eq!(groups(&host), 0);
    host.receive(&encode(&[frame::MAX_STREAMS + 1, 2]));
    assert_eq!(groups(&host), 2);
    host.receive(&encode(&[frame::MAX_STREAMS + 1, 1 << 60]));
    assert_eq!(groups(&host), 3);
}

/// A peer that does not read its socket gets one record of bytes, however much is written.
#[test]
fn a_peer_that_reads_nothing_costs_one_record() {
    let mut host = Host::with(AMPLE);
    host.receive(&stream(STREAM, 0, &subscribe(0, "video")));
    for n in 0..1_000 {
        host.video.write_frame(n, vec![0; 1_000]).unwrap();
        host.now = host.now + Duration::from_millis(1);
        while host.qmux.turn(host.now, false).again {}
    }
    assert_eq!(host.qmux.streams.records.len(), 1);
    assert!(!host.qmux.is_full());
    // The answers that it provokes have a limit: then nothing is read any more.
    let pings = (0..900).map(|n| encode(&[frame::PING, n])).collect::<Vec<_>>().concat();
    let mut read = 0;
    while !host.qmux.is_full() {
        host.qmux.receive(host.now, pings.clone().into());
        read += 1;
    }
    assert!(read <= 8, "{read}");
    host.turns();
    assert!(!host.qmux.is_full());
    assert_eq!(host.sent.iter().filter(|it| matches!(it, Frame::Pong { .. })).count(), 900 * read);
}

/// Sends bytes of a group that nobody reads yet, until the credit is used up.
fn flood(host: &mut Host, ids: impl Iterator<Item = u64>, mut credit: u64) {
    for id in ids {
        let mut of_stream = credit.min(STREAM_WINDOW);
        credit -= of_stream;
        while of_stream > 0 {
            let size = of_stream.min(RECORD_BYTES as u64 - 9);
            host.qmux.receive(host.now, stream(STREAM, id, &vec![2; size as usize]).into());
            of_stream -= size;
        }
    }
}

/// RFC 9000, section 4.1. Data that a session does not read is held up to the credit, and no byte more.
#[test]
fn a_peer_that_sends_more_than_its_credit_is_closed() {
    for (streams, credit) in [(1, STREAM_WINDOW), (8, CONNECTION_WINDOW)] {
        let mut host = Host::with(AMPLE);
        let memory = allocation_counter::measure(|| {
            flood(&mut host, (0..streams).map(|n| n << 2), credit);
        });
        // Twice, because a buffer that grows is copied.
        assert!(memory.bytes_current < 2 * credit as i64 + 100_000, "{}", memory.bytes_current);
        assert!(host.qmux.is_open());
        host.qmux.receive(host.now, stream(STREAM, (streams - 1) << 2, &[2]).into());
        host.turns();
        assert!(
            host.is_closed_with(Error::ProtocolViolation(
                "more bytes than the peer had credit for"
            ))
        );
        assert!(matches!(host.sent.last(), Some(Frame::Failed)));
    }
}

/// Bytes that were never sent count by RESET_STREAM (RFC 9000, section 4.5), and need no memory.
#[test]
fn reset_streams_give_their_credit_back() {
    let mut host = Host::with(AMPLE);
    for n in 0..50 {
        let id = n << 2 | 2;
        host.receive(&stream(STREAM, id, &[1]));
        host.receive(&encode(&[frame::RESET_STREAM, id, 0, STREAM_WINDOW]));
    }
    assert!(host.qmux.is_open());
    // Twice the same is no mistake: the stream is over.
    host.receive(&encode(&[frame::RESET_STREAM, 2, 0, STREAM_WINDOW]));
    assert!(host.qmux.is_open());
    host.receive(&encode(&[frame::RESET_STREAM, 50 << 2 | 2, 0, STREAM_WINDOW + 1]));
    assert!(
        host.is_closed_with(Error::ProtocolViolation("more bytes than the peer had credit for"))
    );
}

#[test]
fn a_peer_that_opens_too_many_streams_is_closed() {
    for dir in [0, 2] {
        let mut host = Host::with(AMPLE);
        host.receive(&stream(STREAM, (STREAMS - 1) << 2 | dir, &[]));
        assert!(host.qmux.is_open());
        host.receive(&stream(STREAM, STREAMS << 2 | dir, &[]));
        assert!(
            host.is_closed_with(Error::ProtocolViolation(
                "more streams than the peer had credit for"
            ))
        );
    }
}
