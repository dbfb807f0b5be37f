//! Decoding any bytes ends with a value or an error. The memory that it takes is proportional to the bytes
//! received, not to the lengths that they claim.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use smoq::coding::lite::Features;
use smoq::coding::varint::{self, Form};
use smoq::{Hops, Version};

mod wire;

use wire::{Decoded, Kind};

/// Bytes that look like lengths and counts, on their own or as the body of a message.
fn hostile() -> impl Strategy<Value = BytesMut> {
    let byte =
        prop_oneof![Just(0xff_u8), Just(0xbf), Just(0x7f), Just(b'/'), 0..=40_u8, any::<u8>()];
    let framed = (any::<bool>(), option::of(0..3_u64), vec(byte, 0..300));
    framed.prop_map(|(is_framed, kind, body)| {
        let mut bytes = BytesMut::new();
        if is_framed {
            if let Some(kind) = kind {
                varint::write(&mut bytes, kind).unwrap();
            }
            varint::write(&mut bytes, body.len() as u64).unwrap();
        }
        bytes.extend_from_slice(&body);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decoding_hostile_bytes_is_total_and_bounded(bytes in hostile()) {
        for version in Version::ALL.into_iter().chain(Version::WIP) {
            for kind in Kind::ALL {
                let mut decoded = Ok(Decoded::Short);
                let counted =
                    allocation_counter::measure(|| decoded = kind.decode(&bytes, version));
                let taken = counted.bytes_total as usize;
                // Normalized text is copied twice, an id may take one byte on the wire and eight in memory,
                // and 03 sends only the number of hops.
                let allowed = 8 * (bytes.len() + Hops::MAX) + 64;
                prop_assert!(taken <= allowed, "{:?}: {} bytes for {}", kind, taken, bytes.len());

                let Ok(Decoded::Message(message, len)) = decoded else { continue };
                prop_assert_eq!(message.kind(), kind);
                let mut again = BytesMut::new();
                message.encode(&mut again, version).unwrap();
                // One form of integers has a length that is read but not written.
                let is_short = again.len() <= len || Features::of(version).form != Form::Quic;
                prop_assert!(is_short && len <= bytes.len());
                prop_assert_eq!(kind.decode(&again, version), Ok(Decoded::Message(message, again.len())));
            }
        }
    }
}
