//! The fields that moqtap shows for our messages.

#![allow(clippy::option_map_unit_fn, reason = "one line a field reads as the table of fields")]

use std::fmt::Debug;
use std::time::Duration;

use moqtap_codec::kvp::{KeyValuePair, KvpValue};
use moqtap_codec::types::{
    ContentExists, FilterType, Forward, GroupOrder as TheirOrder, Location as TheirLocation,
    TrackNamespace,
};
use moqtap_codec::varint::{Moqt17, Moqt18, VarInt};
use smoq::coding::ietf::{
    Fetch, FetchEnd, FetchTarget, Filter, Location, Message, NamespaceRequest, ObjectStatus,
    Parameters, Redirect, Setup, TokenReference, TrackProperties,
};
use smoq::{Path, Version};

pub(crate) fn int(value: u64) -> VarInt {
    VarInt::from_u64(value).unwrap()
}

/// Integers one after the other, none of them in seven bytes.
pub(crate) fn ints(values: &[u64], version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    for &value in values {
        if version < Version::Moqt17 {
            int(value).encode(&mut out);
        } else {
            int(value).encode_moqt::<Moqt17>(&mut out);
        }
    }
    out
}

/// Integers as moqtap keeps them, in the shortest form.
fn short(values: &[u64], version: Version) -> Vec<u8> {
    if version < Version::Moqt18 {
        return ints(values, version);
    }
    let mut out = Vec::new();
    values.iter().for_each(|&value| int(value).encode_moqt::<Moqt18>(&mut out));
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

/// The fields in the debug output of a message of moqtap.
pub(crate) struct Shown {
    version: Version,
    texts: Vec<String>,
}

impl Shown {
    pub(crate) fn new(version: Version) -> Self {
        Self { version, texts: Vec::new() }
    }

    /// Checks that moqtap shows each of the fields.
    pub(crate) fn check(&self, debug: &str) {
        for text in &self.texts {
            let is_shown =
                [",", " }", "]"].iter().any(|end| debug.contains(&format!("{text}{end}")));
            assert!(is_shown, "{:?}: no{text} in {debug}", self.version);
        }
    }

    pub(crate) fn field(&mut self, name: &str, value: impl Debug) {
        self.texts.push(format!(" {name}: {value:?}"));
    }

    pub(crate) fn int(&mut self, name: &str, value: u64) {
        self.field(name, int(value));
    }

    /// A publisher's priority. 14 has no default for it.
    pub(crate) fn priority(&mut self, priority: Option<u8>) {
        let priority = priority.map(|priority| 255 - priority);
        match self.version {
            Version::Moqt14 => self.field("publisher_priority", priority.unwrap()),
            _ => self.field("publisher_priority", priority),
        }
    }

    /// The status of an object, which is shown if it has no payload.
    pub(crate) fn status(&mut self, status: ObjectStatus, size: u64) {
        if size == 0 {
            let name = if self.version == Version::Moqt14 { "status" } else { "object_status" };
            self.field(name, Some(status));
        }
    }

    fn id(&mut self, id: Option<u64>) {
        id.map(|id| self.int("request_id", id));
    }

    fn track(&mut self, path: &Path, track: &str) {
        self.field("track_namespace", namespace(path));
        self.field("track_name", track.as_bytes());
    }

    fn pair(&mut self, key: u64, value: KvpValue) {
        self.texts.push(format!("{:?}", KeyValuePair { key: int(key), value }));
    }

    fn int_pair(&mut self, key: u64, value: Option<u64>) {
        value.map(|value| self.pair(key, KvpValue::Varint(int(value))));
    }

    fn bytes_pair(&mut self, key: u64, value: Option<Vec<u8>>) {
        value.map(|value| self.pair(key, KvpValue::Bytes(value)));
    }

    /// Setup options.
    fn setup(&mut self, of: &Setup) {
        let text = |text: &Option<Box<str>>| text.as_ref().map(|text| text.as_bytes().to_vec());
        self.bytes_pair(0x01, text(&of.path));
        self.int_pair(0x02, Some(of.max_request_id).filter(|&max| max > 0));
        self.tokens(&of.tokens);
        self.int_pair(0x04, Some(of.max_token_cache).filter(|&max| max > 0));
        self.bytes_pair(0x05, text(&of.authority));
        self.bytes_pair(0x07, text(&of.implementation));
        self.int_pair(0x08, Some(of.max_request_updates).filter(|&max| max > 0));
        self.int_pair(0x40b5a, Some(1).filter(|_| of.solicit));
    }

    fn tokens(&mut self, of: &[TokenReference]) {
        for token in of {
            let (fields, value) = match token {
                TokenReference::Delete(alias) => (vec![0, *alias], None),
                TokenReference::Register(alias, token) => {
                    (vec![1, *alias, token.kind], Some(token))
                }
                TokenReference::Alias(alias) => (vec![2, *alias], None),
                TokenReference::Value(token) => (vec![3, token.kind], Some(token)),
            };
            let value = value.map_or(&[][..], |token| &token.value);
            self.bytes_pair(0x03, Some([&ints(&fields, self.version)[..], value].concat()));
        }
    }

    fn properties(&mut self, of: &TrackProperties) {
        self.int_pair(0x04, millis(of.max_cache));
        self.int_pair(0x08, of.timescale.map(|timescale| timescale.units()));
        self.int_pair(0x0e, of.priority.map(|priority| 255 - u64::from(priority)));
        self.int_pair(0x22, of.order.map(|order| order as u64));
        self.int_pair(0x30, of.dynamic_groups.map(u64::from));
    }

    /// Message parameters, without FILL_PARAMETERS, which moqtap keeps as bytes.
    fn parameters(&mut self, of: &Parameters) {
        self.int_pair(0x02, millis(of.delivery_timeout));
        self.tokens(&of.tokens);
        self.int_pair(0x04, millis(of.rendezvous_timeout.or(of.max_cache)));
        self.int_pair(0x06, millis(of.subgroup_delivery_timeout));
        self.int_pair(0x0a, millis(of.fill_timeout));
        if self.version == Version::Moqt14 {
            return self.inline(of);
        }
        let version = self.version;
        self.int_pair(0x08, millis(of.expires));
        let largest = of.largest.map(|at| short(&[at.group, at.object], version));
        self.bytes_pair(0x09, largest);
        self.int_pair(0x0e, of.publisher_priority.map(|priority| 255 - u64::from(priority)));
        self.int_pair(0x10, of.forward.map(u64::from));
        self.int_pair(0x20, of.priority.map(|priority| 255 - u64::from(priority)));
        self.bytes_pair(0x21, of.filter.map(|filter| filter_bytes(filter, version)));
        self.int_pair(0x22, of.order.map(|order| order as u64));
        self.int_pair(0x30, of.dynamic_groups.map(u64::from));
        self.int_pair(0x32, of.new_group);
        let prefix = of.prefix.as_ref().map(|prefix| {
            let mut out = Vec::new();
            namespace(prefix).encode_moqt::<Moqt18>(&mut out);
            out
        });
        self.bytes_pair(0x34, prefix);
        self.int_pair(0x35, of.include_properties.map(u64::from));
    }

    /// Parameters that are fields in 14.
    fn inline(&mut self, of: &Parameters) {
        if let Some(order) = of.order {
            let orders = [TheirOrder::Publisher, TheirOrder::Ascending, TheirOrder::Descending];
            self.field("group_order", orders[order as usize]);
        }
        if let Some(forward) = of.forward {
            let forwards = [Forward::DontForward, Forward::Forward];
            self.field("forward", forwards[usize::from(forward)]);
        }
        of.priority.map(|priority| self.field("subscriber_priority", 255 - priority));
        millis(of.expires).map(|expires| self.int("expires", expires));
        if let Some(largest) = of.largest {
            self.field("content_exists", ContentExists::HasLargestLocation);
            self.field("largest_location", Some(location(largest)));
        }
        let (kind, start, end) = match of.filter {
            None => return,
            Some(Filter::NextGroup) => (FilterType::NextGroupStart, None, None),
            Some(Filter::NextObject) => (FilterType::LargestObject, None, None),
            Some(Filter::From(start)) => (FilterType::AbsoluteStart, Some(start), None),
            Some(Filter::Range { start, end_group }) => {
                (FilterType::AbsoluteRange, Some(start), Some(end_group))
            }
            Some(later) => panic!("not a filter of 14: {later:?}"),
        };
        self.field("filter_type", kind);
        self.field("start_location", start.map(location));
        self.field("end_group", end.map(int));
    }

    /// SUBSCRIBE_UPDATE of 14, whose filter has a form of its own.
    fn update_14(&mut self, of: &Parameters) {
        let (start, end) = match of.filter {
            None => (Location::default(), 0),
            Some(Filter::From(start)) => (start, 0),
            Some(Filter::Range { start, end_group }) => (start, end_group + 1),
            Some(other) => panic!("not in an update of 14: {other:?}"),
        };
        self.field("start_location", location(start));
        self.int("end_group", end);
        self.parameters(&Parameters { filter: None, ..of.clone() });
    }

    fn fetch(&mut self, fetch: &Fetch) {
        self.int("request_id", fetch.id);
        self.parameters(&fetch.parameters);
        match &fetch.target {
            FetchTarget::Standalone { namespace, track, start, end } => {
                self.track(namespace, track);
                self.int("start_group", start.group);
                self.int("start_object", start.object);
                self.end(*end);
            }
            FetchTarget::Track { namespace, track } => self.track(namespace, track),
            FetchTarget::Relative { joins, groups_back: start }
            | FetchTarget::Absolute { joins, group: start } => {
                self.int("joining_request_id", *joins);
                self.int("joining_start", *start);
            }
        }
    }

    /// The last group and object. Up to 19 the object is one more, and 0 stands for the whole group.
    fn end(&mut self, end: FetchEnd) {
        let last = if self.version < Version::Moqt20 { 1 } else { 0 };
        self.int("end_group", end.group);
        self.int("end_object", end.object.map_or(0, |object| object + last));
    }

    fn given_up(&mut self, request: &NamespaceRequest) {
        match request {
            NamespaceRequest::Id(id) => self.int("request_id", *id),
            NamespaceRequest::Namespace(path) => self.field("track_namespace", namespace(path)),
        }
    }

    fn redirect(&mut self, redirect: &Redirect) {
        self.field("connect_uri", redirect.uri.as_bytes());
        self.track(&redirect.namespace, &redirect.track);
    }

    /// Requests, and what changes or ends them.
    fn request(&mut self, message: &Message) {
        let version = self.version;
        match message {
            Message::Subscribe(subscribe) | Message::TrackStatus(subscribe) => {
                self.int("request_id", subscribe.id);
                self.track(&subscribe.namespace, &subscribe.track);
                self.parameters(&subscribe.parameters);
            }
            Message::RequestUpdate(update) => {
                self.int("request_id", update.id);
                let name = match version {
                    Version::Moqt16 => "existing_request_id",
                    _ => "subscription_request_id",
                };
                update.existing.map(|id| self.int(name, id));
                match version {
                    Version::Moqt14 => self.update_14(&update.parameters),
                    _ => self.parameters(&update.parameters),
                }
            }
            Message::Unsubscribe(message) => self.id(message.id),
            Message::Publish(publish) => {
                self.int("request_id", publish.id);
                self.track(&publish.namespace, &publish.track);
                self.int("track_alias", publish.alias);
                self.parameters(&publish.parameters);
                self.properties(&publish.properties);
            }
            Message::PublishNamespace(publish) => {
                self.int("request_id", publish.id);
                self.field("track_namespace", namespace(&publish.namespace));
                self.parameters(&publish.parameters);
            }
            Message::PublishNamespaceDone(request) => self.given_up(request),
            Message::PublishNamespaceCancel(cancel) => {
                self.given_up(&cancel.request);
                self.int("error_code", cancel.code);
                self.field("reason_phrase", cancel.reason.as_bytes());
            }
            Message::SubscribeNamespace(subscribe) => {
                self.int("request_id", subscribe.id);
                let name =
                    if version == Version::Moqt14 { "track_namespace" } else { "namespace_prefix" };
                self.field(name, namespace(&subscribe.prefix));
                if matches!(version, Version::Moqt16 | Version::Moqt17) {
                    self.int("subscribe_options", subscribe.wanted as u64);
                }
                self.parameters(&subscribe.parameters);
            }
            Message::UnsubscribeNamespace(request) => match request {
                NamespaceRequest::Id(id) => self.int("request_id", *id),
                NamespaceRequest::Namespace(path) => {
                    self.field("track_namespace_prefix", namespace(path));
                }
            },
            Message::SubscribeTracks(subscribe) => {
                self.int("request_id", subscribe.id);
                self.field("namespace_prefix", namespace(&subscribe.prefix));
                self.parameters(&subscribe.parameters);
            }
            Message::Fetch(fetch) => self.fetch(fetch),
            Message::FetchCancel(id) => self.int("request_id", *id),
            other => self.answer(other),
        }
    }

    fn answer(&mut self, message: &Message) {
        match message {
            Message::SubscribeOk(ok) => {
                self.id(ok.id);
                self.int("track_alias", ok.alias);
                self.parameters(&ok.parameters);
                self.properties(&ok.properties);
            }
            Message::RequestOk(ok) | Message::PublishOk(ok) | Message::TrackStatusOk(ok) => {
                self.id(ok.id);
                self.parameters(&ok.parameters);
                self.properties(&ok.properties);
            }
            Message::RequestError(error) => {
                self.id(error.id);
                self.int("error_code", error.code);
                if self.version > Version::Moqt15 {
                    let retry = error.retry.map_or(0, |retry| retry.as_millis() as u64 + 1);
                    self.int("retry_interval", retry);
                }
                self.field("reason_phrase", error.reason.as_bytes());
                error.redirect.as_ref().map(|redirect| self.redirect(redirect));
            }
            Message::FetchOk(ok) => {
                self.id(ok.id);
                self.field("end_of_track", u8::from(ok.end_of_track));
                match self.version {
                    Version::Moqt14 => {
                        let object = ok.end.object.map_or(0, |object| object + 1);
                        self.field("end_location", location(Location::new(ok.end.group, object)));
                    }
                    _ => self.end(ok.end),
                }
                self.parameters(&ok.parameters);
                self.properties(&ok.properties);
            }
            Message::PublishDone(done) => {
                self.id(done.id);
                self.int("status_code", done.status);
                if let Some(streams) = done.streams {
                    self.int("stream_count", streams);
                }
                self.field("reason_phrase", done.reason.as_bytes());
            }
            Message::PublishStateNotify(parameters) => self.parameters(parameters),
            other => panic!("a message of its own: {other:?}"),
        }
    }

    pub(crate) fn message(&mut self, message: &Message) {
        match message {
            Message::ClientSetup(setup) | Message::ServerSetup(setup) | Message::Setup(setup) => {
                self.setup(setup);
            }
            Message::Goaway(goaway) => {
                self.field("new_session_uri", goaway.uri.as_bytes());
                if self.version > Version::Moqt16 {
                    self.int("timeout", goaway.timeout.as_millis() as u64);
                }
                goaway.request.map(|id| self.field("request_id", Some(int(id))));
            }
            Message::MaxRequestId(max) => self.int("request_id", *max),
            Message::RequestsBlocked(max) => self.int("maximum_request_id", *max),
            Message::Namespace(suffix) | Message::NamespaceDone(suffix) => {
                self.field("namespace_suffix", namespace(suffix));
            }
            Message::PublishBlocked(blocked) => {
                self.field("namespace_suffix", namespace(&blocked.suffix));
                self.field("track_name", blocked.track.as_bytes());
            }
            other => self.request(&other.clone().unified()),
        }
    }
}

fn millis(duration: Option<Duration>) -> Option<u64> {
    duration.map(|duration| duration.as_millis() as u64)
}

fn location(at: Location) -> TheirLocation {
    TheirLocation { group: int(at.group), object: int(at.object) }
}

/// The value of a location filter, without its length.
fn filter_bytes(filter: Filter, version: Version) -> Vec<u8> {
    let (has_tags, is_typed) = (version < Version::Moqt20, version > Version::Moqt21);
    let base = |start: Location| if version < Version::Moqt17 { 0 } else { start.group };
    let (tag, mut fields) = match filter {
        Filter::NextGroup if has_tags => (1, vec![]),
        Filter::NextObject if has_tags => (2, vec![]),
        Filter::NextObject if is_typed => (5, vec![]),
        Filter::Unfiltered => (0, vec![]),
        Filter::NextGroup => (1, vec![0]),
        Filter::GroupsBack(back) => (1, vec![back]),
        Filter::NextObject => (2, vec![0, 0]),
        Filter::From(start) => (2 + u64::from(has_tags), vec![start.group, start.object]),
        Filter::Range { start, end_group } => {
            let tag = 3 + u64::from(has_tags);
            (tag, vec![start.group, start.object, end_group - base(start)])
        }
        Filter::RangeTo { start, end } => {
            (4, vec![start.group, start.object, end.group - start.group, end.object])
        }
    };
    if has_tags || is_typed {
        fields.insert(0, tag);
    }
    if is_typed { short(&fields, version) } else { ints(&fields, version) }
}
