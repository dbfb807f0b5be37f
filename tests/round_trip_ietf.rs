//! Encoded messages of moq-transport decode to the same value, and truncated or extended ones are errors.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use smoq::coding::ietf::{
    DatagramHead, FetchObject, FetchRecord, FetchRecords, Framed, GoawayForm, GroupOrder, Location,
    Message, MessageType, NamespaceRequest, ObjectHead, ObjectStatus, PropertyForm, RecordForm,
    UniStream, frame_message, request_id,
};
use smoq::coding::varint::{self, Form};
use smoq::{DecodeError, Version};

#[path = "wire/ietf.rs"]
mod wire;

use wire::{DRAFTS, any_message, datagram, draft, integer, subgroup, timestamp};

fn encode(message: &Message, version: Version) -> BytesMut {
    let mut out = BytesMut::new();
    message.encode(&mut out, draft(version)).unwrap();
    out
}

fn version() -> impl Strategy<Value = Version> {
    prop::sample::select(DRAFTS.to_vec())
}

fn object() -> impl Strategy<Value = (bool, ObjectHead<'static>)> {
    (any::<bool>(), integer(), timestamp(), prop_oneof![Just(0), integer()], 0..3).prop_map(
        |(properties, delta, timestamp, size, status)| {
            let status = match status {
                1 if size == 0 => ObjectStatus::EndOfGroup,
                2 if size == 0 => ObjectStatus::EndOfTrack,
                _ => ObjectStatus::Normal,
            };
            let has_timestamp = properties && status == ObjectStatus::Normal;
            let timestamp = timestamp.filter(|_| has_timestamp);
            (properties, ObjectHead { delta, timestamp, properties: None, size, status })
        },
    )
}

/// Records in an order that every draft can write: ascending groups and objects.
fn records(
    order: GroupOrder,
    version: Version,
) -> impl Strategy<Value = Vec<FetchRecord<'static>>> {
    let steps = (0..4_u64, 0..300_u64, 0..6_u8, prop::option::of(0..3_u64), 0..3_u8, timestamp());
    (vec((steps, integer()), 1..12), integer(), integer()).prop_map(move |(steps, group, first)| {
        let mut at = Location::new(group.clamp(100, varint::MAX - 100), first >> 1);
        let mut out = Vec::new();
        for ((group, skip, kind, subgroup, priority, timestamp), size) in steps {
            if !out.is_empty() {
                at = match (group, order) {
                    (0 | 1, _) => Location::new(at.group, at.object + 1 + skip),
                    (_, GroupOrder::Ascending) => Location::new(at.group + group, skip),
                    (_, GroupOrder::Descending) => Location::new(at.group - group, skip),
                };
            }
            let form = draft(version).records;
            let has_statuses = form <= RecordForm::Byte;
            out.push(match kind {
                0 => FetchRecord::Absent(at),
                1 if has_statuses => FetchRecord::EndOfGroup(at),
                2 if has_statuses => FetchRecord::EndOfTrack(at),
                1 => FetchRecord::Unknown(at),
                2 if form >= RecordForm::TimedOut => FetchRecord::TimedOut(at),
                _ => FetchRecord::Object(FetchObject {
                    location: at,
                    subgroup: if has_statuses { subgroup.or(Some(7)) } else { subgroup },
                    priority,
                    timestamp,
                    properties: None,
                    size,
                }),
            });
        }
        out
    })
}

fn any_records(version: Version) -> impl Strategy<Value = (GroupOrder, Vec<FetchRecord<'static>>)> {
    let with = |order| records(order, version).prop_map(move |records| (order, records));
    prop_oneof![with(GroupOrder::Ascending), with(GroupOrder::Descending)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn encoded_messages_decode_to_the_same_value((version, message) in any_message(&DRAFTS), tail in vec(any::<u8>(), 0..4)) {
        // The message is appended after other bytes.
        let mut bytes = BytesMut::from(&b"before"[..]);
        message.encode(&mut bytes, draft(version)).unwrap();
        let end = bytes.len();
        bytes.extend_from_slice(&tail);
        prop_assert_eq!(&bytes[..6], b"before");
        let framed = frame_message(&bytes[6..], draft(version), 65_535).unwrap().unwrap();
        let Framed { kind, head, body } = framed;
        prop_assert_eq!(head + body, end - 6);
        prop_assert_eq!(kind, message.kind());
        let read = Message::decode(kind, &bytes[6 + head..end], draft(version));
        prop_assert_eq!(read, Ok(message));
    }

    #[test]
    fn a_message_ends_with_its_last_field((version, message) in any_message(&DRAFTS)) {
        let draft = draft(version);
        let bytes = encode(&message, version);
        let Framed { kind, head, body } = frame_message(&bytes, draft, 65_535).unwrap().unwrap();
        for len in 0..head {
            prop_assert_eq!(frame_message(&bytes[..len], draft, 65_535), Ok(None));
        }
        if body > 0 {
            prop_assert_eq!(frame_message(&bytes, draft, body - 1), Err(DecodeError::TooLong));
        }
        for len in head..bytes.len() {
            match Message::decode(kind, &bytes[head..len], draft) {
                Err(error) => prop_assert_eq!(error, DecodeError::Truncated, "{} bytes", len),
                // A message whose last part has no length may end earlier.
                Ok(cut) => {
                    prop_assert!(may_end_sooner(kind, version), "{} bytes of {:?}", len, message);
                    // A GOAWAY without a timeout has the timeout 0.
                    prop_assert!(cut != message || kind == MessageType::Goaway);
                }
            }
        }
        let longer = [&bytes[head..], &[0][..]].concat();
        let longer = Message::decode(kind, &longer, draft);
        let expected = if ends_with_pairs(kind, version) { DecodeError::Truncated } else { DecodeError::TrailingBytes };
        prop_assert_eq!(longer, Err(expected));
    }

    #[test]
    fn a_request_id_is_read_without_the_message((version, message) in any_message(&DRAFTS)) {
        let draft = draft(version);
        let bytes = encode(&message, version);
        let Framed { kind, head, .. } = frame_message(&bytes, draft, 65_535).unwrap().unwrap();
        prop_assert_eq!(request_id(kind, &bytes[head..], draft), Ok(id(&message)));
    }

    #[test]
    fn streams((version, header) in version().prop_flat_map(|v| (Just(v), subgroup(v))), request in integer()) {
        for stream in [UniStream::Subgroup(header), UniStream::Fetch { request }] {
            let mut bytes = BytesMut::new();
            stream.encode(&mut bytes, draft(version)).unwrap();
            prop_assert!(bytes.len() <= UniStream::MAX);
            for len in 0..bytes.len() {
                prop_assert_eq!(UniStream::read(&bytes[..len], draft(version)), Ok(None));
            }
            let len = bytes.len();
            bytes.extend_from_slice(b"tail");
            prop_assert_eq!(UniStream::read(&bytes, draft(version)), Ok(Some((stream, len))));
        }
    }

    #[test]
    fn objects(version in version(), (properties, object) in object()) {
        let draft = draft(version);
        let bytes = object.encode(properties, draft).unwrap();
        for len in 0..bytes.len() {
            prop_assert_eq!(ObjectHead::read(&bytes[..len], properties, draft), Ok(None));
        }
        let longer = [&bytes, &b"tail"[..]].concat();
        prop_assert_eq!(ObjectHead::read(&longer, properties, draft), Ok(Some((object, bytes.len()))));
    }

    #[test]
    fn fetched((version, (order, records)) in version().prop_flat_map(|v| (Just(v), any_records(v)))) {
        let mut writes = FetchRecords::new(order, draft(version));
        let mut reads = writes.clone();
        for record in records {
            let bytes = writes.encode(&record).unwrap();
            for len in 0..bytes.len() {
                prop_assert_eq!(reads.read(&bytes[..len]), Ok(None));
            }
            let longer = [&bytes, &b"tail"[..]].concat();
            prop_assert_eq!(reads.read(&longer), Ok(Some((record, bytes.len()))));
        }
    }

    #[test]
    fn datagrams((version, (head, size)) in version().prop_flat_map(|v| (Just(v), datagram(v)))) {
        let draft = draft(version);
        let bytes = head.encode(size, draft).unwrap();
        for len in 0..bytes.len() {
            prop_assert_eq!(DatagramHead::decode(&bytes[..len], draft), Err(DecodeError::Truncated));
        }
        let longer = [&bytes, &vec![7; size][..]].concat();
        prop_assert_eq!(DatagramHead::decode(&longer, draft), Ok(Some((head, bytes.len()))));
    }

    #[test]
    fn varints(value in prop_oneof![integer(), any::<u64>()], tail in vec(any::<u8>(), 0..4)) {
        for form in [Form::Quic, Form::LeadingOnes17, Form::LeadingOnes] {
            let mut bytes = BytesMut::new();
            let written = form.write(&mut bytes, value);
            prop_assert_eq!(written.is_ok(), value <= form.max());
            if written.is_err() {
                prop_assert!(bytes.is_empty());
                continue;
            }
            let len = bytes.len();
            prop_assert_eq!(form.len(value), len);
            for short in 0..len {
                prop_assert_eq!(form.read(&bytes[..short]), None);
            }
            bytes.extend_from_slice(&tail);
            prop_assert_eq!(form.read(&bytes), Some((value, len)));
        }
    }

    /// Any bytes: decoding ends with a result, and a value can be encoded again.
    #[test]
    fn decoding_any_bytes_ends_with_a_result(version in version(), bytes in vec(prop_oneof![0..0x30_u8, any::<u8>()], 0..60)) {
        let draft = draft(version);
        for number in 0..0x60 {
            let Some(kind) = MessageType::from_u64(number, draft) else { continue };
            let Ok(message) = Message::decode(kind, &bytes, draft) else { continue };
            let mut again = BytesMut::new();
            if message.encode(&mut again, draft).is_ok() {
                let Framed { kind, head, .. } = frame_message(&again, draft, 65_535).unwrap().unwrap();
                prop_assert_eq!(Message::decode(kind, &again[head..], draft), Ok(message));
            }
        }
    }
}

/// An unknown mandatory property can't be written again, because its value is not kept (Mandatory Track
/// Properties, 18).
#[test]
fn an_unknown_mandatory_property_is_read_and_not_written() {
    let bytes =
        [0, 163, 216, 224, 0, 0, 0, 14, 0, 156, 8, 0, 32, 0, 19, 7, 0, 0, 0, 0, 0, 0, 0, 19, 0];
    let draft = draft(Version::Moqt18);
    let message = Message::decode(MessageType::RequestOk, &bytes, draft).unwrap();
    let Message::RequestOk(ok) = &message else { panic!("{message:?}") };
    assert!(ok.properties.unusable.is_some());
    assert!(message.encode(&mut BytesMut::new(), draft).is_err());
}

/// Pairs at the end have no count, and some peers omit the fields after the URI in GOAWAY.
fn may_end_sooner(kind: MessageType, version: Version) -> bool {
    let goaway = kind == MessageType::Goaway && draft(version).goaway > GoawayForm::Uri;
    goaway || ends_with_pairs(kind, version) || kind == MessageType::Setup
}

fn ends_with_pairs(kind: MessageType, version: Version) -> bool {
    match kind {
        MessageType::SubscribeOk | MessageType::Publish | MessageType::FetchOk => {
            draft(version).properties > PropertyForm::None
        }
        MessageType::RequestOk => draft(version).properties >= PropertyForm::Answers,
        MessageType::Setup => true,
        _ => false,
    }
}

fn id(message: &Message) -> Option<u64> {
    match message {
        Message::ClientSetup(_)
        | Message::ServerSetup(_)
        | Message::Setup(_)
        | Message::Goaway(_)
        | Message::MaxRequestId(_)
        | Message::RequestsBlocked(_)
        | Message::Namespace(_)
        | Message::NamespaceDone(_)
        | Message::PublishBlocked(_)
        | Message::PublishStateNotify(_) => None,
        Message::RequestUpdate(message) => Some(message.id),
        Message::Subscribe(message) | Message::TrackStatus(message) => Some(message.id),
        Message::PublishNamespace(message) => Some(message.id),
        Message::PublishNamespaceDone(request) => given_up(request),
        Message::PublishNamespaceCancel(message) => given_up(&message.request),
        Message::UnsubscribeNamespace(request) => given_up(request),
        Message::SubscribeNamespace(message) | Message::FormerSubscribeNamespace(message) => {
            Some(message.id)
        }
        Message::SubscribeTracks(message) => Some(message.id),
        Message::Fetch(message) => Some(message.id),
        Message::FetchCancel(id) => Some(*id),
        Message::Publish(message) => Some(message.id),
        Message::SubscribeOk(message) => message.id,
        Message::RequestError(message)
        | Message::SubscribeError(message)
        | Message::PublishNamespaceError(message)
        | Message::TrackStatusError(message)
        | Message::SubscribeNamespaceError(message)
        | Message::FetchError(message)
        | Message::PublishError(message) => message.id,
        Message::RequestOk(message)
        | Message::PublishOk(message)
        | Message::PublishNamespaceOk(message)
        | Message::TrackStatusOk(message)
        | Message::SubscribeNamespaceOk(message) => message.id,
        Message::Unsubscribe(message) => message.id,
        Message::PublishDone(message) => message.id,
        Message::FetchOk(message) => message.id,
    }
}

fn given_up(request: &NamespaceRequest) -> Option<u64> {
    match request {
        NamespaceRequest::Id(id) => Some(*id),
        NamespaceRequest::Namespace(_) => None,
    }
}
