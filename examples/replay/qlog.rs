//! A replayed session as qlog (draft-ietf-quic-qlog-main-schema), with the events of
//! draft-pardue-moq-qlog-moq-events.
//!
//! The draft has names for moq-transport. Its events are used for moq-lite as well: a GROUP stream is a
//! subgroup, its subscription is the track alias, and a frame is an object.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use smoq::coding::{DecodeError, ietf, lite};
use smoq::machine::trace::Step;
use smoq::machine::{Action, Config, Input};
use smoq::stream::{Dir, Side, StreamId};
use smoq::{Instant, Version};

const MAX_MESSAGE: usize = 1 << 20;
const MAX_SEGMENTS: usize = 1 << 10;

/// Collects events.
pub(crate) struct Log {
    side: Side,
    version: Version,
    draft: Option<&'static ietf::Draft>,
    start: Instant,
    now: Instant,
    /// By stream and direction.
    lanes: BTreeMap<(StreamId, bool), Lane>,
    /// The purpose of each bidirectional stream of moq-lite.
    kinds: BTreeMap<StreamId, lite::BiStream>,
    events: Vec<Value>,
}

/// One direction of a stream.
#[derive(Default)]
struct Lane {
    /// Received bytes that are not parsed yet.
    bytes: Vec<u8>,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Start,
    /// The messages that negotiate the version are next (moq-lite up to 02).
    Settle,
    /// Control messages, and the number of them so far.
    Messages(u64),
    /// The header of a group of moq-lite is next.
    GroupHeader,
    Objects(Objects),
    /// Data without events.
    Ignored,
}

#[derive(Clone, Copy)]
struct Objects {
    group: u64,
    subgroup: u64,
    /// Whether the objects have properties (moq-transport).
    properties: bool,
    /// The number of the last object.
    last: Option<u64>,
    /// Bytes of its payload that are missing.
    missing: u64,
}

impl Log {
    pub(crate) fn new(config: &Config, start: Instant) -> Self {
        let draft = ietf::Draft::of(config.agreed.version());
        let (lanes, kinds, events) = Default::default();
        let (side, version) = (config.side, config.agreed.version());
        Self { side, version, draft, start, now: start, lanes, kinds, events }
    }

    pub(crate) fn step(&mut self, now: Instant, step: &Step) {
        self.now = now;
        match step {
            Step::Input(Input::Data { id, bytes, .. }) => self.bytes(*id, false, bytes),
            Step::Wrote { id, bytes, .. } if !bytes.is_empty() => self.bytes(*id, true, bytes),
            Step::Input(Input::Datagram { bytes }) => self.datagram(false, bytes),
            Step::Datagram { bytes, sent: true } => self.datagram(true, bytes),
            Step::Input(Input::Reset { id, .. }) => drop(self.lanes.remove(&(*id, false))),
            Step::Action(Action::Reset { id, .. }) => drop(self.lanes.remove(&(*id, true))),
            _ => {}
        }
    }

    /// The file, as one JSON value.
    pub(crate) fn finish(self) -> Value {
        let side = match self.side {
            Side::Client => "client",
            Side::Server => "server",
        };
        let title = format!("smoq, {}", self.version);
        json!({
            "qlog_version": "0.3",
            "qlog_format": "JSON",
            "file_schema": "urn:ietf:params:qlog:file:contained",
            "serialization_format": "application/qlog+json",
            "title": title,
            "traces": [{
                "title": title,
                "vantage_point": { "name": "smoq", "type": side },
                "event_schemas": ["urn:ietf:params:qlog:events:moqt-05"],
                "common_fields": {
                    "time_format": "relative_to_epoch",
                    "reference_time": { "clock_type": "monotonic", "epoch": "unknown" },
                    "protocol_types": [self.version.alpn()],
                },
                "events": self.events,
            }],
        })
    }

    fn event(&mut self, name: &str, created: bool, data: Value) {
        let name = match name {
            "stream_type_set" => "moqt:stream_type_set".into(),
            name => format!("moqt:{name}_{}", if created { "created" } else { "parsed" }),
        };
        let time = (self.now - self.start).as_micros() as f64 / 1_000.0;
        self.events.push(json!({ "time": time, "name": name, "data": data }));
    }

    fn bytes(&mut self, id: StreamId, created: bool, bytes: &[u8]) {
        let mut lane = self.lanes.remove(&(id, created)).unwrap_or_default();
        lane.bytes.extend_from_slice(bytes);
        loop {
            let before = lane.bytes.len();
            match self.understand(id, created, &mut lane) {
                Ok(taken) => drop(lane.bytes.drain(..taken)),
                // Unreadable data has no event.
                Err(_) => lane.state = State::Ignored,
            }
            if matches!(lane.state, State::Ignored) {
                lane.bytes = Vec::new();
            }
            if lane.bytes.len() == before || lane.bytes.is_empty() {
                break;
            }
        }
        self.lanes.insert((id, created), lane);
    }

    /// A group of moq-lite with one frame.
    fn datagram(&mut self, created: bool, bytes: &[u8]) {
        let Ok((head, len)) = lite::DatagramHead::decode(bytes, self.version) else { return };
        let data = json!({
            "track_alias": head.subscribe,
            "group_id": head.sequence,
            "object_id": 0,
            "publisher_priority": 0,
            "object_payload_length": bytes.len() - len,
            "end_of_group": true,
        });
        self.event("object_datagram", created, data);
    }

    /// Parses the front of a lane. Returns the number of bytes consumed, 0 if more are needed.
    fn understand(
        &mut self,
        id: StreamId,
        created: bool,
        lane: &mut Lane,
    ) -> Result<usize, DecodeError> {
        match &mut lane.state {
            State::Start => {
                let (state, taken) = self.begin(id, created, &lane.bytes)?;
                lane.state = state;
                if taken == 0 && matches!(lane.state, State::Messages(_) | State::Settle) {
                    // These messages are not preceded by a stream type.
                    return self.understand(id, created, lane);
                }
                Ok(taken)
            }
            State::Settle => {
                let taken = self.settle(id, created, &lane.bytes)?;
                if taken > 0 {
                    lane.state = State::Ignored;
                }
                Ok(taken)
            }
            State::Messages(count) => {
                let taken = self.message(id, created, *count, &lane.bytes)?;
                *count += u64::from(taken > 0);
                Ok(taken)
            }
            State::GroupHeader => {
                let Some(framed) =
                    lite::frame_message(&lane.bytes, self.version, false, MAX_MESSAGE)?
                else {
                    return Ok(0);
                };
                let end = framed.head + framed.body;
                let Some(body) = lane.bytes.get(framed.head..end) else { return Ok(0) };
                let header = lite::GroupHeader::decode_body(body, self.version)?;
                lane.state = State::Objects(Objects {
                    group: header.sequence,
                    subgroup: 0,
                    properties: false,
                    last: header.first_frame.checked_sub(1),
                    missing: 0,
                });
                let data = json!({
                    "stream_id": id.as_u64(),
                    "track_alias": header.subscribe,
                    "group_id": header.sequence,
                    "subgroup_id": 0,
                    "publisher_priority": 0,
                });
                self.event("subgroup_header", created, data);
                Ok(end)
            }
            State::Objects(objects) => {
                let mut now = *objects;
                let taken = self.object(id, created, &mut now, &lane.bytes)?;
                *objects = now;
                Ok(taken)
            }
            State::Ignored => Ok(0),
        }
    }

    fn stream_type(&mut self, id: StreamId, created: bool, kind: &str) {
        let owner = if created { "local" } else { "remote" };
        let data = json!({ "owner": owner, "stream_id": id.as_u64(), "stream_type": kind });
        self.event("stream_type_set", created, data);
    }

    /// Parses the type of a stream.
    fn begin(
        &mut self,
        id: StreamId,
        created: bool,
        front: &[u8],
    ) -> Result<(State, usize), DecodeError> {
        let is_ours = (id.initiator() == self.side) == created;
        match (self.draft, id.dir()) {
            (Some(_), Dir::Bi) => Ok((State::Messages(0), 0)),
            (Some(draft), Dir::Uni) => self.begin_uni(id, created, front, draft),
            // The client's first stream negotiates the version. QUIC's stream ids are in order.
            (None, Dir::Bi)
                if lite::Features::of(self.version).version_setup && id.as_u64() == 0 =>
            {
                Ok((State::Settle, 0))
            }
            // The answer on a stream of the other side has no type.
            (None, Dir::Bi) if !is_ours => Ok((State::Messages(0), 0)),
            (None, dir) => {
                let Some((number, len)) = smoq::coding::varint::read(front) else {
                    return Ok((State::Start, 0));
                };
                let unknown = DecodeError::UnknownMessage(number);
                if dir == Dir::Bi {
                    let kind = lite::BiStream::from_u64(number, self.version);
                    self.kinds.insert(id, kind.ok_or(unknown)?);
                    return Ok((State::Messages(0), len));
                }
                match lite::UniStream::from_u64(number, self.version).ok_or(unknown)? {
                    lite::UniStream::Group => {
                        self.stream_type(id, created, "subgroup_header");
                        Ok((State::GroupHeader, len))
                    }
                    lite::UniStream::Setup => {
                        self.stream_type(id, created, "control");
                        Ok((State::Messages(0), len))
                    }
                }
            }
        }
    }

    fn begin_uni(
        &mut self,
        id: StreamId,
        created: bool,
        front: &[u8],
        draft: &ietf::Draft,
    ) -> Result<(State, usize), DecodeError> {
        let Some((stream, len)) = ietf::UniStream::read(front, draft)? else {
            return Ok((State::Start, 0));
        };
        let state = match stream {
            ietf::UniStream::Subgroup(header) => {
                self.stream_type(id, created, "subgroup_header");
                let data = json!({
                    "stream_id": id.as_u64(),
                    "track_alias": header.alias,
                    "group_id": header.group,
                    "subgroup_id": header.subgroup,
                    // On the wire 0 is the most urgent.
                    "publisher_priority": u8::MAX - header.priority.unwrap_or(127),
                });
                self.event("subgroup_header", created, data);
                State::Objects(Objects {
                    group: header.group,
                    subgroup: header.subgroup.unwrap_or(0),
                    properties: header.properties,
                    last: None,
                    missing: 0,
                })
            }
            ietf::UniStream::Setup => {
                self.stream_type(id, created, "control");
                State::Messages(0)
            }
            ietf::UniStream::Fetch { .. } => {
                self.stream_type(id, created, "fetch_header");
                State::Ignored
            }
            ietf::UniStream::Padding => State::Ignored,
        };
        Ok((state, len))
    }

    fn message(
        &mut self,
        id: StreamId,
        created: bool,
        count: u64,
        front: &[u8],
    ) -> Result<usize, DecodeError> {
        let (end, kind, text) = match self.draft {
            Some(draft) => {
                let Some(framed) = ietf::frame_message(front, draft, MAX_MESSAGE)? else {
                    return Ok(0);
                };
                let end = framed.head + framed.body;
                let Some(body) = front.get(framed.head..end) else { return Ok(0) };
                let message = ietf::Message::decode(framed.kind, body, draft)?;
                (end, snake(&format!("{:?}", framed.kind)), format!("{message:?}"))
            }
            None => {
                let is_request = (id.initiator() == self.side) == created;
                let stream = self.kinds.get(&id).copied();
                let typed = is_typed(stream, is_request, count, self.version);
                let Some(framed) = lite::frame_message(front, self.version, typed, MAX_MESSAGE)?
                else {
                    return Ok(0);
                };
                let end = framed.head + framed.body;
                let Some(body) = front.get(framed.head..end) else { return Ok(0) };
                let version = self.version;
                let (kind, text) =
                    lite_message(stream, is_request, count, framed.kind, body, version)?;
                (end, kind.into(), text)
            }
        };
        self.control_message(id, created, end, &kind, &text);
        Ok(end)
    }

    fn control_message(&mut self, id: StreamId, created: bool, len: usize, kind: &str, text: &str) {
        let message = json!({ "type": kind, "fields": text });
        let data = json!({ "stream_id": id.as_u64(), "length": len, "message": message });
        self.event("control_message", created, data);
    }

    /// CLIENT_SETUP or SERVER_SETUP, which determines the version from here on.
    fn settle(&mut self, id: StreamId, created: bool, front: &[u8]) -> Result<usize, DecodeError> {
        let Some(framed) = lite::frame_version_setup(front, MAX_MESSAGE)? else { return Ok(0) };
        let end = framed.head + framed.body;
        let Some(body) = front.get(framed.head..end) else { return Ok(0) };
        let is_client = (self.side == Side::Client) == created;
        let (kind, text) = if is_client {
            let setup = lite::ClientSetup::decode_body(framed.kind, body)?;
            ("client_setup", format!("{setup:?}"))
        } else {
            let setup = lite::ServerSetup::decode_body(framed.kind, body)?;
            self.version = setup.version.unwrap_or(self.version);
            ("server_setup", format!("{setup:?}"))
        };
        self.control_message(id, created, end, kind, &text);
        Ok(end)
    }

    fn object(
        &mut self,
        id: StreamId,
        created: bool,
        objects: &mut Objects,
        front: &[u8],
    ) -> Result<usize, DecodeError> {
        if objects.missing > 0 {
            let there = objects.missing.min(front.len() as u64);
            objects.missing -= there;
            return Ok(there as usize);
        }
        let head = match self.draft {
            Some(draft) => ietf::ObjectHead::read(front, objects.properties, draft)?
                .map(|(head, len)| {
                    let status = (head.status as u64, head.size == 0);
                    Ok::<_, DecodeError>((head.number(objects.last)?, head.size, len, status))
                })
                .transpose()?,
            None => lite::FrameHead::read(front, self.version)?.map(|(head, len)| {
                (objects.last.map_or(0, |last| last + 1), head.size, len, (0, false))
            }),
        };
        let Some((number, size, len, (status, has_status))) = head else { return Ok(0) };
        objects.last = Some(number);
        objects.missing = size;
        let mut data = json!({
            "stream_id": id.as_u64(),
            "group_id": objects.group,
            "subgroup_id": objects.subgroup,
            "object_id": number,
            "object_payload_length": size,
        });
        if has_status {
            data["object_status"] = status.into();
        }
        self.event("subgroup_object", created, data);
        Ok(len)
    }
}

/// Whether a message of moq-lite begins with a type.
fn is_typed(
    stream: Option<lite::BiStream>,
    is_request: bool,
    count: u64,
    version: Version,
) -> bool {
    let features = lite::Features::of(version);
    match stream {
        Some(lite::BiStream::Subscribe) => !is_request && features.typed_responses(),
        Some(lite::BiStream::Announce) => {
            !is_request && features.announce_ids && (count > 0 || !features.announce_ok)
        }
        _ => false,
    }
}

/// The name and the fields of a message of moq-lite.
fn lite_message(
    stream: Option<lite::BiStream>,
    is_request: bool,
    count: u64,
    kind: Option<u64>,
    body: &[u8],
    version: Version,
) -> Result<(&'static str, String), DecodeError> {
    use lite::BiStream;
    let lite::Features { announce_ok: has_ok, announce_init: has_init, .. } =
        *lite::Features::of(version);
    fn show(message: impl std::fmt::Debug) -> String {
        format!("{message:?}")
    }
    Ok(match (stream, is_request) {
        (None, _) => ("setup", show(lite::Setup::decode_body(body, version)?)),
        (Some(BiStream::Announce), true) => {
            let message = lite::AnnounceRequest::decode_body(body, version, MAX_SEGMENTS)?;
            ("announce_request", show(message))
        }
        (Some(BiStream::Announce), false) if has_ok && count == 0 => {
            ("announce_ok", show(lite::AnnounceOk::decode_body(body, version)?))
        }
        (Some(BiStream::Announce), false) if has_init && count == 0 => {
            let message = lite::AnnounceInit::decode_body(body, version, MAX_SEGMENTS)?;
            ("announce_init", show(message))
        }
        (Some(BiStream::Announce), false) => {
            let message = lite::Announce::decode_body(kind, body, version, MAX_SEGMENTS)?;
            ("announce", show(message))
        }
        (Some(BiStream::Subscribe), true) if count == 0 => {
            let message = lite::Subscribe::decode_body(body, version, MAX_SEGMENTS)?;
            ("subscribe", show(message))
        }
        (Some(BiStream::Subscribe), true) => {
            ("subscribe_update", show(lite::SubscribeUpdate::decode_body(body, version)?))
        }
        (Some(BiStream::Subscribe), false) => {
            let message = lite::SubscribeResponse::decode_body(kind, body, version)?;
            let name = match message {
                lite::SubscribeResponse::Ok { .. } => "subscribe_ok",
                lite::SubscribeResponse::Start { .. } => "subscribe_start",
                lite::SubscribeResponse::End { .. } => "subscribe_end",
                lite::SubscribeResponse::Drop { .. } => "subscribe_drop",
            };
            (name, show(message))
        }
        (Some(BiStream::Track), true) => {
            let message = lite::TrackRequest::decode_body(body, version, MAX_SEGMENTS)?;
            ("track", show(message))
        }
        (Some(BiStream::Track), false) => {
            ("track_info", show(lite::decode_track_info(body, version)?))
        }
        (Some(BiStream::Fetch), true) => {
            ("fetch", show(lite::Fetch::decode_body(body, version, MAX_SEGMENTS)?))
        }
        (Some(BiStream::Goaway), _) => ("goaway", show(lite::Goaway::decode_body(body, version)?)),
        (Some(BiStream::Probe), _) => ("probe", show(lite::Probe::decode_body(body, version)?)),
        // Frames without the header of a group.
        (Some(BiStream::Fetch), false) => return Err(DecodeError::NotInVersion),
    })
}

/// `SubscribeOk` as `subscribe_ok`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
