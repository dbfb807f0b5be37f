//! A second opinion on the bytes of moq-transport: those of moqtap-codec 0.9.0.
//!
//! Left out is where that codec is known to differ from all others: it ends a range without objects in
//! the answer to FETCH with a length.

use bytes::{Buf, BytesMut};
use moqtap_codec::kvp::{KeyValuePair, KvpValue};
use moqtap_codec::types::TrackNamespace;
use moqtap_codec::varint::{Moqt18, VarInt};
use moqtap_codec::{draft16, draft18};
use proptest::collection::vec;
use proptest::prelude::*;
use smoq::coding::ietf::{
    DatagramHead, Fetch, FetchEnd, FetchObject, FetchRecord, FetchRecords, FetchTarget, Filter,
    Framed, GroupOrder, Location, Message, ObjectHead, ObjectStatus, Parameters, Setup,
    SubgroupHeader, TrackProperties, UniStream, frame_message,
};
use smoq::{Path, Timestamp, Version};

#[path = "../../wire/ietf.rs"]
mod wire;

use wire::{any_message, datagram, draft, integer, subgroup, timestamp};

fn int(value: u64) -> VarInt {
    VarInt::from_u64(value).unwrap()
}

/// Integers one behind the other, none in seven bytes.
fn ints(values: &[u64], version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    for &value in values {
        match version {
            Version::Moqt16 => int(value).encode(&mut out),
            _ if value >> 42 != 0 && value >> 49 == 0 => {
                out.extend((value | 0xfe << 56).to_be_bytes());
            }
            _ => int(value).encode_moqt::<Moqt18>(&mut out),
        }
    }
    out
}

/// The fields of a path, without what escapes in them.
fn namespace(path: &Path) -> TrackNamespace {
    let mut fields = Vec::new();
    let mut field = Vec::new();
    let mut bytes = path.as_str().bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'/' => fields.push(std::mem::take(&mut field)),
            b'\\' => field.push(bytes.next().unwrap()),
            byte => field.push(byte),
        }
    }
    if !path.is_root() {
        fields.push(field);
    }
    TrackNamespace(fields)
}

/// Key-value pairs from what is there.
struct Pairs(Vec<KeyValuePair>);

impl Pairs {
    fn int(&mut self, key: u64, value: Option<u64>) {
        self.0.extend(
            value.map(|value| KeyValuePair { key: int(key), value: KvpValue::Varint(int(value)) }),
        );
    }

    fn bytes(&mut self, key: u64, value: Option<Vec<u8>>) {
        self.0.extend(
            value.map(|value| KeyValuePair { key: int(key), value: KvpValue::Bytes(value) }),
        );
    }
}

fn parameters(of: &Parameters, version: Version) -> Vec<KeyValuePair> {
    let millis = |duration: Option<std::time::Duration>| {
        duration.map(|duration| u64::try_from(duration.as_millis()).unwrap())
    };
    let mut pairs = Pairs(Vec::new());
    pairs.int(0x02, millis(of.delivery_timeout));
    pairs.int(0x04, millis(of.rendezvous_timeout));
    pairs.int(0x06, millis(of.subgroup_delivery_timeout));
    pairs.int(0x08, millis(of.expires));
    let largest = of.largest.map(|at| match version {
        Version::Moqt16 => ints(&[at.group, at.object], version),
        // Kept in moqtap's own shortest form.
        _ => {
            let mut out = Vec::new();
            int(at.group).encode_moqt::<Moqt18>(&mut out);
            int(at.object).encode_moqt::<Moqt18>(&mut out);
            out
        }
    });
    pairs.bytes(0x09, largest);
    pairs.int(0x0a, millis(of.fill_timeout));
    pairs.int(0x10, of.forward.map(u64::from));
    pairs.int(0x20, of.priority.map(|priority| 255 - u64::from(priority)));
    let filter = of.filter.map(|filter| match filter {
        Filter::NextGroup => vec![1],
        Filter::NextObject => vec![2],
        Filter::From(start) => ints(&[3, start.group, start.object], version),
        Filter::Range { start, end_group } => {
            let base = if version == Version::Moqt16 { 0 } else { start.group };
            ints(&[4, start.group, start.object, end_group - base], version)
        }
    });
    pairs.bytes(0x21, filter);
    pairs.int(0x22, of.order.map(|order| order as u64));
    pairs.int(0x32, of.new_group);
    pairs.bytes(
        0x34,
        of.prefix.as_ref().map(|prefix| {
            let mut out = Vec::new();
            namespace(prefix).encode_moqt::<Moqt18>(&mut out);
            out
        }),
    );
    pairs.0
}

fn properties(of: &TrackProperties) -> Vec<KeyValuePair> {
    let mut pairs = Pairs(Vec::new());
    pairs.int(0x04, of.max_cache.map(|age| u64::try_from(age.as_millis()).unwrap()));
    pairs.int(0x08, of.timescale.map(|timescale| timescale.units()));
    pairs.int(0x0e, of.priority.map(|priority| 255 - u64::from(priority)));
    pairs.int(0x22, of.order.map(|order| order as u64));
    pairs.0
}

fn options(of: &Setup) -> Vec<KeyValuePair> {
    let text = |text: &Option<Box<str>>| text.as_ref().map(|text| text.as_bytes().to_vec());
    let mut pairs = Pairs(Vec::new());
    pairs.bytes(0x01, text(&of.path));
    pairs.int(0x02, Some(of.max_request_id).filter(|&max| max > 0));
    pairs.bytes(0x05, text(&of.authority));
    pairs.bytes(0x07, text(&of.implementation));
    pairs.int(0x40b5a, Some(1).filter(|_| of.solicit));
    pairs.0
}

/// Group and object as they end a range on the wire.
fn end(end: FetchEnd) -> (VarInt, VarInt) {
    (int(end.group), int(end.object.map_or(0, |object| object + 1)))
}

fn streams(streams: Option<u64>) -> VarInt {
    int(streams.unwrap_or((1 << 62) - 1))
}

/// What is the same in both of moqtap's modules: a FETCH.
macro_rules! fetch {
    ($module:ident, $fetch:expr, $version:expr) => {{
        use $module::message::{Fetch, FetchPayload, FetchType};
        let (fetch_type, fetch_payload) = match &$fetch.target {
            FetchTarget::Standalone { namespace: path, track, start, end: last } => {
                let (end_group, end_object) = end(*last);
                let payload = FetchPayload::Standalone {
                    track_namespace: namespace(path),
                    track_name: track.as_bytes().to_vec(),
                    start_group: int(start.group),
                    start_object: int(start.object),
                    end_group,
                    end_object,
                };
                (FetchType::Standalone, payload)
            }
            FetchTarget::Relative { joins, groups_back } => {
                let (joining_request_id, joining_start) = (int(*joins), int(*groups_back));
                let payload = FetchPayload::Joining { joining_request_id, joining_start };
                (FetchType::RelativeJoining, payload)
            }
            FetchTarget::Absolute { joins, group } => {
                let (joining_request_id, joining_start) = (int(*joins), int(*group));
                let payload = FetchPayload::Joining { joining_request_id, joining_start };
                (FetchType::AbsoluteJoining, payload)
            }
        };
        Fetch {
            request_id: int($fetch.id),
            fetch_type,
            fetch_payload,
            parameters: parameters(&$fetch.parameters, $version),
        }
    }};
}

fn as_16(message: &Message) -> draft16::message::ControlMessage {
    use draft16::message as theirs;
    use draft16::message::ControlMessage;
    const VERSION: Version = Version::Moqt16;
    let id = |id: Option<u64>| int(id.unwrap());
    match message {
        Message::ClientSetup(setup) => {
            ControlMessage::ClientSetup(theirs::ClientSetup { parameters: options(setup) })
        }
        Message::ServerSetup(setup) => {
            ControlMessage::ServerSetup(theirs::ServerSetup { parameters: options(setup) })
        }
        Message::Goaway(goaway) => ControlMessage::GoAway(theirs::GoAway {
            new_session_uri: goaway.uri.as_bytes().to_vec(),
        }),
        Message::MaxRequestId(message) => {
            ControlMessage::MaxRequestId(theirs::MaxRequestId { request_id: int(message.max) })
        }
        Message::RequestsBlocked(message) => {
            ControlMessage::RequestsBlocked(theirs::RequestsBlocked {
                maximum_request_id: int(message.max),
            })
        }
        Message::RequestOk(ok) => ControlMessage::RequestOk(theirs::RequestOk {
            request_id: id(ok.id),
            parameters: parameters(&ok.parameters, VERSION),
        }),
        Message::PublishOk(ok) => ControlMessage::PublishOk(theirs::PublishOk {
            request_id: id(ok.id),
            parameters: parameters(&ok.parameters, VERSION),
        }),
        Message::RequestError(error) => ControlMessage::RequestError(theirs::RequestError {
            request_id: id(error.id),
            error_code: int(error.code),
            retry_interval: int(error.retry.map_or(0, |retry| retry.as_millis() as u64 + 1)),
            reason_phrase: error.reason.as_bytes().to_vec(),
        }),
        Message::Subscribe(subscribe) => ControlMessage::Subscribe(theirs::Subscribe {
            request_id: int(subscribe.id),
            track_namespace: namespace(&subscribe.namespace),
            track_name: subscribe.track.as_bytes().to_vec(),
            parameters: parameters(&subscribe.parameters, VERSION),
        }),
        Message::TrackStatus(subscribe) => ControlMessage::TrackStatus(theirs::TrackStatus {
            request_id: int(subscribe.id),
            track_namespace: namespace(&subscribe.namespace),
            track_name: subscribe.track.as_bytes().to_vec(),
            parameters: parameters(&subscribe.parameters, VERSION),
        }),
        Message::SubscribeOk(ok) => ControlMessage::SubscribeOk(theirs::SubscribeOk {
            request_id: id(ok.id),
            track_alias: int(ok.alias),
            parameters: parameters(&ok.parameters, VERSION),
            track_extensions: properties(&ok.properties),
        }),
        Message::RequestUpdate(update) => ControlMessage::RequestUpdate(theirs::RequestUpdate {
            request_id: int(update.id),
            existing_request_id: id(update.existing),
            parameters: parameters(&update.parameters, VERSION),
        }),
        Message::Unsubscribe(message) => {
            ControlMessage::Unsubscribe(theirs::Unsubscribe { request_id: id(message.id) })
        }
        Message::Publish(publish) => ControlMessage::Publish(theirs::Publish {
            request_id: int(publish.id),
            track_namespace: namespace(&publish.namespace),
            track_name: publish.track.as_bytes().to_vec(),
            track_alias: int(publish.alias),
            parameters: parameters(&publish.parameters, VERSION),
            track_extensions: properties(&publish.properties),
        }),
        Message::PublishDone(done) => ControlMessage::PublishDone(theirs::PublishDone {
            request_id: id(done.id),
            status_code: int(done.status),
            stream_count: streams(done.streams),
            reason_phrase: done.reason.as_bytes().to_vec(),
        }),
        Message::PublishNamespace(publish) => {
            ControlMessage::PublishNamespace(theirs::PublishNamespace {
                request_id: int(publish.id),
                track_namespace: namespace(&publish.namespace),
                parameters: parameters(&publish.parameters, VERSION),
            })
        }
        Message::PublishNamespaceDone(done) => {
            ControlMessage::PublishNamespaceDone(theirs::PublishNamespaceDone {
                request_id: int(done.id),
            })
        }
        Message::PublishNamespaceCancel(cancel) => {
            ControlMessage::PublishNamespaceCancel(theirs::PublishNamespaceCancel {
                request_id: int(cancel.id),
                error_code: int(cancel.code),
                reason_phrase: cancel.reason.as_bytes().to_vec(),
            })
        }
        Message::Namespace(message) => ControlMessage::Namespace(theirs::Namespace {
            namespace_suffix: namespace(&message.suffix),
        }),
        Message::NamespaceDone(message) => ControlMessage::NamespaceDone(theirs::NamespaceDone {
            namespace_suffix: namespace(&message.suffix),
        }),
        Message::SubscribeNamespace(subscribe) => {
            ControlMessage::SubscribeNamespace(theirs::SubscribeNamespace {
                request_id: int(subscribe.id),
                namespace_prefix: namespace(&subscribe.prefix),
                subscribe_options: int(subscribe.wanted as u64),
                parameters: parameters(&subscribe.parameters, VERSION),
            })
        }
        Message::Fetch(message) => ControlMessage::Fetch(fetch!(draft16, message, VERSION)),
        Message::FetchOk(ok) => {
            let (end_group, end_object) = end(ok.end);
            ControlMessage::FetchOk(theirs::FetchOk {
                request_id: id(ok.id),
                end_of_track: ok.end_of_track.into(),
                end_group,
                end_object,
                parameters: parameters(&ok.parameters, VERSION),
                track_extensions: properties(&ok.properties),
            })
        }
        Message::FetchCancel(cancel) => {
            ControlMessage::FetchCancel(theirs::FetchCancel { request_id: int(cancel.id) })
        }
        Message::Setup(_)
        | Message::FormerSubscribeNamespace(_)
        | Message::SubscribeTracks(_)
        | Message::PublishBlocked(_) => {
            panic!("not in 16")
        }
    }
}

fn as_18(message: &Message) -> draft18::message::ControlMessage {
    use draft18::message as theirs;
    use draft18::message::ControlMessage;
    const VERSION: Version = Version::Moqt18;
    match message {
        Message::Setup(setup) => ControlMessage::Setup(theirs::Setup { options: options(setup) }),
        Message::Goaway(goaway) => ControlMessage::GoAway(theirs::GoAway {
            new_session_uri: goaway.uri.as_bytes().to_vec(),
            timeout: int(goaway.timeout.as_millis() as u64),
            request_id: goaway.request.map(int),
        }),
        Message::RequestOk(ok) => ControlMessage::RequestOk(theirs::RequestOk {
            parameters: parameters(&ok.parameters, VERSION),
            track_properties: properties(&ok.properties),
        }),
        Message::RequestError(error) => ControlMessage::RequestError(theirs::RequestError {
            error_code: int(error.code),
            retry_interval: int(error.retry.map_or(0, |retry| retry.as_millis() as u64 + 1)),
            reason_phrase: error.reason.as_bytes().to_vec(),
            redirect: error.redirect.as_ref().map(|redirect| theirs::Redirect {
                connect_uri: redirect.uri.as_bytes().to_vec(),
                track_namespace: namespace(&redirect.namespace),
                track_name: redirect.track.as_bytes().to_vec(),
            }),
        }),
        Message::Subscribe(subscribe) => ControlMessage::Subscribe(theirs::Subscribe {
            request_id: int(subscribe.id),
            track_namespace: namespace(&subscribe.namespace),
            track_name: subscribe.track.as_bytes().to_vec(),
            parameters: parameters(&subscribe.parameters, VERSION),
        }),
        Message::TrackStatus(subscribe) => ControlMessage::TrackStatus(theirs::TrackStatus {
            request_id: int(subscribe.id),
            track_namespace: namespace(&subscribe.namespace),
            track_name: subscribe.track.as_bytes().to_vec(),
            parameters: parameters(&subscribe.parameters, VERSION),
        }),
        Message::SubscribeOk(ok) => ControlMessage::SubscribeOk(theirs::SubscribeOk {
            track_alias: int(ok.alias),
            parameters: parameters(&ok.parameters, VERSION),
            track_properties: properties(&ok.properties),
        }),
        Message::RequestUpdate(update) => ControlMessage::RequestUpdate(theirs::RequestUpdate {
            request_id: int(update.id),
            parameters: parameters(&update.parameters, VERSION),
        }),
        Message::Publish(publish) => ControlMessage::Publish(theirs::Publish {
            request_id: int(publish.id),
            track_namespace: namespace(&publish.namespace),
            track_name: publish.track.as_bytes().to_vec(),
            track_alias: int(publish.alias),
            parameters: parameters(&publish.parameters, VERSION),
            track_properties: properties(&publish.properties),
        }),
        Message::PublishDone(done) => ControlMessage::PublishDone(theirs::PublishDone {
            status_code: int(done.status),
            stream_count: streams(done.streams),
            reason_phrase: done.reason.as_bytes().to_vec(),
        }),
        Message::PublishNamespace(publish) => {
            ControlMessage::PublishNamespace(theirs::PublishNamespace {
                request_id: int(publish.id),
                track_namespace: namespace(&publish.namespace),
                parameters: parameters(&publish.parameters, VERSION),
            })
        }
        Message::PublishBlocked(blocked) => {
            ControlMessage::PublishBlocked(theirs::PublishBlocked {
                namespace_suffix: namespace(&blocked.suffix),
                track_name: blocked.track.as_bytes().to_vec(),
            })
        }
        Message::Namespace(message) => ControlMessage::Namespace(theirs::Namespace {
            namespace_suffix: namespace(&message.suffix),
        }),
        Message::NamespaceDone(message) => ControlMessage::NamespaceDone(theirs::NamespaceDone {
            namespace_suffix: namespace(&message.suffix),
        }),
        Message::SubscribeNamespace(subscribe) => {
            ControlMessage::SubscribeNamespace(theirs::SubscribeNamespace {
                request_id: int(subscribe.id),
                namespace_prefix: namespace(&subscribe.prefix),
                parameters: parameters(&subscribe.parameters, VERSION),
            })
        }
        Message::SubscribeTracks(subscribe) => {
            ControlMessage::SubscribeTracks(theirs::SubscribeTracks {
                request_id: int(subscribe.id),
                namespace_prefix: namespace(&subscribe.prefix),
                parameters: parameters(&subscribe.parameters, VERSION),
            })
        }
        Message::Fetch(message) => ControlMessage::Fetch(fetch!(draft18, message, VERSION)),
        Message::FetchOk(ok) => {
            let (end_group, end_object) = end(ok.end);
            ControlMessage::FetchOk(theirs::FetchOk {
                end_of_track: ok.end_of_track.into(),
                end_group,
                end_object,
                parameters: parameters(&ok.parameters, VERSION),
                track_properties: properties(&ok.properties),
            })
        }
        Message::ClientSetup(_)
        | Message::ServerSetup(_)
        | Message::PublishOk(_)
        | Message::PublishNamespaceDone(_)
        | Message::PublishNamespaceCancel(_)
        | Message::MaxRequestId(_)
        | Message::RequestsBlocked(_)
        | Message::Unsubscribe(_)
        | Message::FormerSubscribeNamespace(_)
        | Message::FetchCancel(_) => panic!("not in 18"),
    }
}

/// What moqtap refuses although it can be written is left out.
fn agreed(mut message: Message) -> Message {
    match &mut message {
        // An end before the start is an error of the request; here it is one of the bytes.
        Message::Fetch(Fetch { target: FetchTarget::Standalone { start, end, .. }, .. })
            if end.group <= start.group =>
        {
            *end = FetchEnd { group: start.group, object: None };
        }
        // Not of the draft, but sent by peers.
        Message::SubscribeOk(ok) => ok.parameters.order = None,
        _ => {}
    }
    message
}

/// Both write the same, but for 18 moqtap has integers of seven bytes where ours have eight.
fn same_bytes(ours: &[u8], theirs: &[u8], version: Version) {
    if version == Version::Moqt16 || ours.len() <= theirs.len() {
        assert_eq!(ours, theirs);
    }
}

/// Bytes that both write for the message, after each has read those of the other.
fn check(message: &Message, version: Version) {
    let draft = draft(version);
    let mut ours = BytesMut::new();
    message.encode(&mut ours, draft).unwrap();
    let mut theirs = Vec::new();
    if version == Version::Moqt16 {
        let expected = as_16(message);
        expected.encode(&mut theirs).unwrap();
        let read = draft16::message::ControlMessage::decode(&mut &ours[..]).unwrap();
        assert_eq!(read, expected);
    } else {
        let expected = as_18(message);
        expected.encode(&mut theirs).unwrap();
        let read = draft18::message::ControlMessage::decode(&mut &ours[..]).unwrap();
        assert_eq!(read, expected);
    }
    let Framed { kind, head, body } = frame_message(&theirs, draft, 65_535).unwrap().unwrap();
    assert_eq!(head + body, theirs.len());
    assert_eq!(Message::decode(kind, &theirs[head..], draft).as_ref(), Ok(message));
    same_bytes(&ours, &theirs, version);
}

/// The type that the header has on the wire.
fn subgroup_type(header: &SubgroupHeader) -> u8 {
    let mode = match header.subgroup {
        Some(0) => 0,
        None => 0x02,
        Some(_) => 0x04,
    };
    0x10 | mode
        | u8::from(header.properties)
        | u8::from(header.end_of_group) << 3
        | u8::from(header.priority.is_none()) << 5
        | u8::from(header.first_object) << 6
}

/// The properties of an object without their length.
fn object_properties(timestamp: Option<Timestamp>, version: Version) -> Vec<u8> {
    timestamp.map_or(Vec::new(), |timestamp| ints(&[0x10, timestamp.units()], version))
}

/// A stream of the header and the objects, read and written by moqtap.
macro_rules! subgroup_stream {
    ($module:ident, $header:expr, $objects:expr, $version:expr, $ours:expr) => {{
        use $module::data_stream::{SubgroupHeader, SubgroupObject, SubgroupObjectReader};
        use $module::types::ObjectStatus as TheirStatus;
        let header = SubgroupHeader {
            header_type: subgroup_type(&$header),
            track_alias: int($header.alias),
            group_id: int($header.group),
            subgroup_id: int($header.subgroup.unwrap_or(0)),
            publisher_priority: $header.priority.map(|priority| 255 - priority),
        };
        let mut theirs = Vec::new();
        header.encode_checked(&mut theirs).unwrap();

        let mut front = &$ours[..];
        let read = SubgroupHeader::decode(&mut front).unwrap();
        assert_eq!(format!("{read:?}"), format!("{header:?}"));

        let mut writes = SubgroupObjectReader::new(&header);
        let mut reads = writes.clone();
        let mut number = None;
        for object in &$objects {
            number = Some(object.number(number).unwrap());
            let status = match object.status {
                ObjectStatus::Normal => TheirStatus::Normal,
                ObjectStatus::EndOfGroup => TheirStatus::EndOfGroup,
                ObjectStatus::EndOfTrack => TheirStatus::EndOfTrack,
            };
            let expected = SubgroupObject {
                object_id: int(number.unwrap()),
                extension_headers: object_properties(object.timestamp, $version),
                payload_length: int(object.size),
                object_status: Some(status).filter(|_| object.size == 0),
                payload: vec![0xa5; object.size as usize],
            };
            writes.write_object(&expected, &mut theirs).unwrap();
            let read = reads.read_object(&mut front).unwrap();
            assert_eq!(format!("{read:?}"), format!("{expected:?}"));
        }
        assert!(!front.has_remaining());
        theirs
    }};
}

/// A datagram, read and written by moqtap.
macro_rules! datagram_head {
    ($module:ident, $properties:ident, $head:expr, $size:expr, $version:expr, $ours:expr) => {{
        use $module::data_stream::DatagramHeader;
        use $module::types::ObjectStatus as TheirStatus;
        let status = match $head.status {
            ObjectStatus::Normal => TheirStatus::Normal,
            ObjectStatus::EndOfGroup => TheirStatus::EndOfGroup,
            ObjectStatus::EndOfTrack => TheirStatus::EndOfTrack,
        };
        let header = DatagramHeader {
            datagram_type: u8::from($head.timestamp.is_some())
                | u8::from($head.end_of_group) << 1
                | u8::from($head.object == 0) << 2
                | u8::from($head.priority.is_none()) << 3
                | u8::from($size == 0) << 5,
            track_alias: int($head.alias),
            group_id: int($head.group),
            object_id: int($head.object),
            publisher_priority: $head.priority.map(|priority| 255 - priority),
            $properties: object_properties($head.timestamp, $version),
            object_status: Some(status).filter(|_| $size == 0),
        };
        let mut theirs = Vec::new();
        header.encode_checked(&mut theirs).unwrap();
        let read = DatagramHeader::decode(&mut &$ours[..]).unwrap();
        assert_eq!(format!("{read:?}"), format!("{header:?}"));
        theirs
    }};
}

fn object(properties: bool) -> impl Strategy<Value = ObjectHead> {
    (0..70_000_u64, timestamp(), prop_oneof![Just(0), 0..300_u64], 0..3).prop_map(
        move |(delta, timestamp, size, status)| {
            let status = match status {
                1 if size == 0 => ObjectStatus::EndOfGroup,
                2 if size == 0 => ObjectStatus::EndOfTrack,
                _ => ObjectStatus::Normal,
            };
            let has_timestamp = properties && status == ObjectStatus::Normal;
            ObjectHead { delta, timestamp: timestamp.filter(|_| has_timestamp), size, status }
        },
    )
}

fn stream() -> impl Strategy<Value = (Version, SubgroupHeader, Vec<ObjectHead>)> {
    let headers = prop_oneof![
        subgroup(Version::Moqt16).prop_map(|header| (Version::Moqt16, header)),
        subgroup(Version::Moqt18).prop_map(|header| (Version::Moqt18, header)),
    ];
    headers.prop_flat_map(|(version, header)| {
        (Just(version), Just(header), vec(object(header.properties), 0..5))
    })
}

/// Flags and fields of a record, of which the flags say which are there.
type Fields = (u8, [u64; 3], u8, Option<Timestamp>, u64);

fn fields() -> impl Strategy<Value = Fields> {
    let flags = prop_oneof![Just(0x1c_u8), Just(0x00), Just(0x0c), 0..0x80_u8];
    let id = || prop_oneof![0..4_u64, 0..1_000_u64, integer()];
    (flags, (id(), id(), id()), any::<u8>(), timestamp(), integer()).prop_map(
        |(flags, ids, priority, timestamp, size)| {
            // A block of properties is there if the flag is.
            let timestamp = if flags & 0x20 == 0 { None } else { timestamp };
            (flags, ids.into(), priority, timestamp, size)
        },
    )
}

/// As bytes, and as ours reads them.
fn record_bytes(fields: &Fields, version: Version) -> Vec<u8> {
    let (flags, [group, subgroup, number], priority, timestamp, size) = *fields;
    let flags = u64::from(flags);
    let mut out = ints(&[flags], version);
    if flags & 0x08 != 0 {
        out.extend(ints(&[group], version));
    }
    if flags & 0x43 == 0x03 {
        out.extend(ints(&[subgroup], version));
    }
    if flags & 0x04 != 0 {
        out.extend(ints(&[number], version));
    }
    if flags & 0x10 != 0 {
        out.push(priority);
    }
    if flags & 0x20 != 0 {
        let block = object_properties(timestamp, version);
        out.extend(ints(&[block.len() as u64], version));
        out.extend(block);
    }
    out.extend(ints(&[size], version));
    out
}

fn is_same(
    ours: &FetchObject,
    group: u64,
    subgroup: Option<u64>,
    number: u64,
    priority: Option<u8>,
    size: u64,
) {
    assert_eq!(ours.location, Location::new(group, number));
    assert_eq!(ours.subgroup, subgroup);
    assert_eq!(Some(255 - ours.priority), priority);
    assert_eq!(ours.size, size);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn control_messages((version, message) in any_message()) {
        check(&agreed(message), version);
    }

    #[test]
    fn subgroups((version, header, objects) in stream()) {
        let draft = draft(version);
        let mut ours = BytesMut::new();
        UniStream::Subgroup(header).encode(&mut ours, draft).unwrap();
        for object in &objects {
            ours.extend_from_slice(&object.encode(header.properties, draft).unwrap());
            ours.extend_from_slice(&vec![0xa5; object.size as usize]);
        }
        let theirs = match version {
            Version::Moqt16 => subgroup_stream!(draft16, header, objects, version, ours),
            _ => subgroup_stream!(draft18, header, objects, version, ours),
        };
        same_bytes(&ours, &theirs, version);
    }

    #[test]
    fn datagrams((head, size) in datagram()) {
        for version in wire::DRAFTS {
            let mut ours = BytesMut::from(&head.encode(size, draft(version)).unwrap()[..]);
            ours.extend_from_slice(&vec![7; size]);
            let mut theirs = match version {
                Version::Moqt16 => datagram_head!(draft16, extension_headers, head, size, version, ours),
                _ => datagram_head!(draft18, properties, head, size, version, ours),
            };
            theirs.extend_from_slice(&vec![7; size]);
            let read = DatagramHead::decode(&theirs, draft(version)).unwrap().unwrap();
            prop_assert_eq!((read.0, theirs.len() - read.1), (head, size));
            same_bytes(&ours, &theirs, version);
        }
    }

    #[test]
    fn fetch_headers(request in integer()) {
        for version in wire::DRAFTS {
            let mut ours = BytesMut::new();
            UniStream::Fetch { request }.encode(&mut ours, draft(version)).unwrap();
            let mut theirs = Vec::new();
            let request_id = int(request);
            let read = if version == Version::Moqt16 {
                draft16::data_stream::FetchHeader { request_id }.encode(&mut theirs);
                draft16::data_stream::FetchHeader::decode(&mut &ours[..]).unwrap().request_id
            } else {
                draft18::data_stream::FetchHeader { request_id }.encode(&mut theirs);
                draft18::data_stream::FetchHeader::decode(&mut &ours[..]).unwrap().request_id
            };
            prop_assert_eq!(read, request_id);
            same_bytes(&ours, &theirs, version);
        }
    }

    /// Records with any flags: both read the same, or both refuse. What ours then writes of it, they
    /// read as the same again.
    #[test]
    fn fetch_records_of_16(records in vec(fields(), 1..6)) {
        use draft16::data_stream::{FetchObjectHeader, FetchObjectReader};
        let draft = draft(Version::Moqt16);
        let mut ours = FetchRecords::new(GroupOrder::Ascending, draft);
        let mut writes = ours.clone();
        let mut theirs = FetchObjectReader::new();
        let mut again = FetchObjectReader::new();
        for fields in &records {
            let bytes = record_bytes(fields, Version::Moqt16);
            let header = FetchObjectHeader::decode(&mut &bytes[..]).unwrap();
            let read = ours.read(&bytes);
            let resolved = theirs.resolve(&header);
            // A priority that was never said is refused by ours alone, and a subgroup behind a datagram
            // by theirs alone.
            let (Ok(Some((FetchRecord::Object(object), len))), Ok(theirs)) = (read, resolved) else {
                break;
            };
            prop_assert_eq!(len, bytes.len());
            is_same(&object, theirs.group_id, theirs.subgroup_id, theirs.object_id, theirs.publisher_priority, header.payload_length.into_inner());

            let Ok(bytes) = writes.encode(&FetchRecord::Object(object)) else { break };
            let header = FetchObjectHeader::decode(&mut &bytes[..]).unwrap();
            let theirs = again.resolve(&header).unwrap();
            is_same(&object, theirs.group_id, theirs.subgroup_id, theirs.object_id, theirs.publisher_priority, header.payload_length.into_inner());
            let mut same = Vec::new();
            header.encode(&mut same).unwrap();
            prop_assert_eq!(&same[..], &bytes[..]);
        }
    }

    #[test]
    fn fetch_records_of_18(records in vec(fields(), 1..6), descending in any::<bool>()) {
        use draft18::data_stream::{FetchObjectReader, GroupOrder as TheirOrder};
        let draft = draft(Version::Moqt18);
        let (order, their_order) = if descending {
            (GroupOrder::Descending, TheirOrder::Descending)
        } else {
            (GroupOrder::Ascending, TheirOrder::Ascending)
        };
        let mut ours = FetchRecords::new(order, draft);
        let mut writes = ours.clone();
        let mut theirs = FetchObjectReader::new(their_order);
        let mut again = theirs.clone();
        for fields in &records {
            let bytes = record_bytes(fields, Version::Moqt18);
            let read = ours.read(&bytes);
            let resolved = theirs.read_object_header(&mut &bytes[..]);
            prop_assert_eq!(read.is_ok(), resolved.is_ok(), "{:?} {:?}", read, resolved);
            let (Ok(Some((FetchRecord::Object(object), len))), Ok(theirs)) = (read, resolved) else {
                break;
            };
            prop_assert_eq!(len, bytes.len());
            is_same(&object, theirs.group_id, theirs.subgroup_id, theirs.object_id, theirs.publisher_priority, theirs.header.payload_length.into_inner());

            let Ok(bytes) = writes.encode(&FetchRecord::Object(object)) else { break };
            let theirs = again.read_object_header(&mut &bytes[..]).unwrap();
            is_same(&object, theirs.group_id, theirs.subgroup_id, theirs.object_id, theirs.publisher_priority, theirs.header.payload_length.into_inner());
            let mut same = Vec::new();
            theirs.header.encode(&mut same).unwrap();
            same_bytes(&bytes, &same, Version::Moqt18);
        }
    }
}
