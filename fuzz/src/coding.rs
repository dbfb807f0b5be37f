//! Decoding is total, and what it says is what encoding says.

use bytes::BytesMut;
use smoq::{DecodeError, Version};

#[path = "../../tests/wire/mod.rs"]
mod wire;

use wire::{Decoded, Kind};

pub(crate) fn run(data: &[u8]) {
    for version in Version::ALL {
        for kind in Kind::ALL {
            check(kind, data, version);
        }
    }
}

fn check(kind: Kind, data: &[u8], version: Version) {
    let Ok(Decoded::Message(message, len)) = kind.decode(data, version) else { return };
    assert_eq!(message.kind(), kind);

    let cut = kind.decode(&data[..len - 1], version);
    assert!(matches!(cut, Ok(Decoded::Short) | Err(DecodeError::Truncated)), "{cut:?}");

    let mut again = BytesMut::new();
    message.encode(&mut again, version).expect("what was read can be written");
    assert!(again.len() <= len, "what is written is as short as can be");
    assert_eq!(kind.decode(&again, version), Ok(Decoded::Message(message, again.len())));
}
