//! Our messages in the types of moqtap.

use moqtap_codec::kvp::{KeyValuePair, KvpValue};
use moqtap_codec::types::TrackNamespace;
use moqtap_codec::varint::{Moqt18, VarInt};
use moqtap_codec::{draft16, draft18};
use smoq::coding::ietf::{
    FetchEnd, FetchTarget, Filter, Message, NamespaceRequest, Parameters, Setup, TrackProperties,
};
use smoq::{Path, Version};

pub(crate) fn int(value: u64) -> VarInt {
    VarInt::from_u64(value).unwrap()
}

/// Integers one after the other, none of them in seven bytes.
pub(crate) fn ints(values: &[u64], version: Version) -> Vec<u8> {
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

/// The fields of a path, without escapes.
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

/// Key-value pairs of the fields that are present.
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
        // Stored in moqtap's shortest form.
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
        later => panic!("not a filter of 16 or 18: {later:?}"),
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

/// The group and object of the end of a range, as on the wire.
fn end(end: FetchEnd) -> (VarInt, VarInt) {
    (int(end.group), int(end.object.map_or(0, |object| object + 1)))
}

fn streams(streams: Option<u64>) -> VarInt {
    int(streams.unwrap_or((1 << 62) - 1))
}

/// FETCH, which is the same in both of moqtap's modules.
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
            FetchTarget::Track { .. } => panic!("not a target of 16 or 18"),
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

pub(crate) fn as_16(message: &Message) -> draft16::message::ControlMessage {
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
                request_id: given_up(&done.request),
            })
        }
        Message::PublishNamespaceCancel(cancel) => {
            ControlMessage::PublishNamespaceCancel(theirs::PublishNamespaceCancel {
                request_id: given_up(&cancel.request),
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
        other => panic!("not in 16: {other:?}"),
    }
}

pub(crate) fn as_18(message: &Message) -> draft18::message::ControlMessage {
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
        other => panic!("not in 18: {other:?}"),
    }
}

fn given_up(request: &NamespaceRequest) -> VarInt {
    match request {
        NamespaceRequest::Id(id) => int(*id),
        NamespaceRequest::Namespace(path) => panic!("16 ends {path} by its id"),
    }
}
