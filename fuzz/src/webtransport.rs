//! One end of WebTransport whose peer sends anything.

use std::collections::BTreeMap;

use smoq::Versions;
use smoq::bytes::Bytes;
use smoq::stream::{Dir, Side, StreamId};
use smoq_http3::{Action, Event, WebTransport};

/// Each operation is a byte for its kind and stream, and for bytes their number and the bytes themselves. The first
/// byte of all is the side and how much is read at a time.
pub(crate) fn run(data: &[u8]) {
    let mut data = data.iter().copied();
    let Some(first) = data.next() else { return };
    let side = if first & 1 == 0 { Side::Client } else { Side::Server };
    let piece = 1 + usize::from(first >> 1 & 7);
    let versions = Versions::default();
    let mut http = match side {
        Side::Client => WebTransport::client("relay.example", "live", &versions).unwrap(),
        Side::Server => WebTransport::server(&versions),
    };
    let (mut opened, mut is_over) = ([0; 2], false);
    let mut streams: BTreeMap<StreamId, Vec<u8>> = BTreeMap::new();
    loop {
        while let Some(action) = http.poll_action() {
            if let Action::Open { dir, bytes } = action {
                assert!(!bytes.is_empty());
                opened[dir as usize] += 1;
                http.opened(StreamId::new(side, dir, opened[dir as usize] - 1));
            }
        }
        while let Some(event) = http.poll_event() {
            assert!(!is_over, "{event:?} after the end");
            match event {
                Event::Failed(_) | Event::Closed { .. } => is_over = true,
                Event::Stream { id } => assert_eq!(http.read_limit(id), None),
                Event::Established { .. } => {
                    assert!(
                        !http.stream_head(Dir::Uni).is_empty() && http.connect_stream().is_some()
                    );
                }
                _ => {}
            }
        }
        let Some(op) = data.next() else { return };
        let id = StreamId::from_u64(u64::from(op & 15));
        match op >> 4 {
            0 => http.finished(id),
            1 => http.cancelled(id),
            2 => {
                let len = data.next().unwrap_or(0);
                let bytes: Vec<u8> = data.by_ref().take(len.into()).collect();
                http.datagram(Bytes::from(bytes));
            }
            3 => drop(http.close(smoq::stream::Code::new(7), "enough")),
            _ => {
                let len = data.next().unwrap_or(0);
                if id.initiator() != side && !streams.contains_key(&id) {
                    http.opened(id);
                }
                let arrived = streams.entry(id).or_default();
                arrived.extend(data.by_ref().take(len.into()));
                while let Some(limit) = http.read_limit(id) {
                    let len = arrived.len().min(limit).min(piece);
                    if len == 0 {
                        break;
                    }
                    let bytes: Vec<u8> = arrived.drain(..len).collect();
                    http.data(id, &bytes);
                }
            }
        }
    }
}
