//! Decoding is total, and encoding a decoded value gives the same value again.

use bytes::BytesMut;
use smoq::coding::ietf::{
    DatagramHead, Draft, FetchRecords, GroupOrder, Message, ObjectHead, UniStream, frame_message,
};
use smoq::coding::lite::Features;
use smoq::coding::varint::Form;
use smoq::{DecodeError, EncodeError, Version};

#[path = "../../tests/wire/mod.rs"]
mod wire;

use wire::{Decoded, Kind};

pub(crate) fn run(data: &[u8]) {
    for version in Version::ALL.into_iter().chain(Version::WIP) {
        for kind in Kind::ALL {
            check(kind, data, version);
        }
    }
    for draft in Version::ALL.into_iter().filter_map(Draft::of) {
        check_message(data, draft);
        check_stream(data, draft);
        check_fetch(data, draft);
        check_datagram(data, draft);
    }
}

fn check(kind: Kind, data: &[u8], version: Version) {
    let Ok(Decoded::Message(message, len)) = kind.decode(data, version) else { return };
    assert_eq!(message.kind(), kind);

    let cut = kind.decode(&data[..len - 1], version);
    assert!(matches!(cut, Ok(Decoded::Short) | Err(DecodeError::Truncated)), "{cut:?}");

    let mut again = BytesMut::new();
    message.encode(&mut again, version).expect("a decoded message can be encoded");
    // Except for the form of seven bytes, which is only read.
    if Features::of(version).form == Form::Quic {
        assert!(again.len() <= len, "the encoding is the shortest one");
    }
    assert_eq!(kind.decode(&again, version), Ok(Decoded::Message(message, again.len())));
}

/// A control message of moq-transport.
fn check_message(data: &[u8], draft: &Draft) {
    let Ok(Some(framed)) = frame_message(data, draft, 65_535) else { return };
    let Some(body) = data.get(framed.head..framed.head + framed.body) else { return };
    let Ok(message) = Message::decode(framed.kind, body, draft) else { return };
    if let Some(cut) = body.len().checked_sub(1) {
        let cut = Message::decode(framed.kind, &body[..cut], draft);
        assert!(matches!(cut, Ok(_) | Err(DecodeError::Truncated)), "{cut:?}");
    }

    let mut written = BytesMut::new();
    match message.encode(&mut written, draft) {
        Ok(()) => {}
        // Integers too large to be written, the message that is only read, and values that are only refused.
        Err(
            EncodeError::BoundsExceeded
            | EncodeError::NotInVersion
            | EncodeError::InvalidValue("property" | "range filters" | "version"),
        ) => return,
        Err(error) => panic!("a decoded message can't be encoded: {error}"),
    }
    let framed = frame_message(&written, draft, 65_535).unwrap().expect("a whole message");
    let read = Message::decode(framed.kind, &written[framed.head..], draft).unwrap();
    let mut again = BytesMut::new();
    read.encode(&mut again, draft).unwrap();
    assert_eq!(written, again);
}

/// A unidirectional stream of moq-transport.
fn check_stream(data: &[u8], draft: &Draft) {
    let Ok(Some((stream, mut at))) = UniStream::read(data, draft) else { return };
    assert!(at <= UniStream::MAX);
    let UniStream::Subgroup(header) = stream else { return };
    while let Ok(Some((head, len))) = ObjectHead::read(&data[at..], header.properties, draft) {
        assert!(len <= ObjectHead::MAX);
        at += len;
        if let Ok(written) = head.encode(header.properties, draft) {
            let read = ObjectHead::read(&written, header.properties, draft);
            assert_eq!(read, Ok(Some((head, written.len()))));
        }
    }
}

/// The answer to a FETCH of moq-transport.
fn check_fetch(data: &[u8], draft: &'static Draft) {
    for order in [GroupOrder::Ascending, GroupOrder::Descending] {
        let mut records = FetchRecords::new(order, draft);
        let (mut writes, mut again) = (records.clone(), records.clone());
        let mut at = 0;
        while let Ok(Some((record, len))) = records.read(&data[at..]) {
            assert!(len <= FetchRecords::MAX);
            at += len;
            let Ok(written) = writes.encode(&record) else { break };
            assert_eq!(again.read(&written), Ok(Some((record, written.len()))));
        }
    }
}

/// A datagram of moq-transport.
fn check_datagram(data: &[u8], draft: &Draft) {
    let Ok(Some((head, at))) = DatagramHead::decode(data, draft) else { return };
    // An empty payload is read, but can't be written with every type.
    let Ok(written) = head.encode(data.len() - at, draft) else { return };
    let again = [&written, &data[at..]].concat();
    assert_eq!(DatagramHead::decode(&again, draft), Ok(Some((head, written.len()))));
}
