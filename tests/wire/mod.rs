//! All messages of all versions as one type, for tests that apply to all of them.

use bytes::{BufMut, BytesMut};
use smoq::coding::lite::{
    Announce, AnnounceInit, AnnounceOk, AnnounceRequest, DatagramHead, Features, Fetch, FrameHead,
    Framed, Goaway, GroupHeader, Probe, SessionUpdate, Setup, Subscribe, SubscribeResponse,
    SubscribeUpdate, TrackRequest, decode_track_info, encode_track_info, frame_message,
};
use smoq::{DecodeError, EncodeError, TrackInfo, Version};

/// The kind of a message. The decoder must know it, as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Announce,
    AnnounceInit,
    AnnounceOk,
    AnnounceRequest,
    Datagram,
    Fetch,
    Frame,
    Goaway,
    Group,
    Probe,
    SessionUpdate,
    Setup,
    Subscribe,
    SubscribeResponse,
    SubscribeUpdate,
    TrackInfo,
    TrackRequest,
}

/// A message, or the head of a frame or datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Announce(Announce),
    AnnounceInit(AnnounceInit),
    AnnounceOk(AnnounceOk),
    AnnounceRequest(AnnounceRequest),
    Datagram(DatagramHead),
    Fetch(Fetch),
    Frame(FrameHead),
    Goaway(Goaway),
    Group(GroupHeader),
    Probe(Probe),
    SessionUpdate(SessionUpdate),
    Setup(Setup),
    Subscribe(Subscribe),
    SubscribeResponse(SubscribeResponse),
    SubscribeUpdate(SubscribeUpdate),
    TrackInfo(TrackInfo),
    TrackRequest(TrackRequest),
}

/// The result of decoding a prefix of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// A message and the number of its bytes.
    Message(Message, usize),
    /// A message of an unknown type, and the number of bytes to skip.
    Skip(usize),
    /// More bytes are needed.
    Short,
}

const MESSAGE_BYTES: usize = 64 << 10;
const PATH_SEGMENTS: usize = 32;

impl Kind {
    pub(crate) const ALL: [Self; 17] = [
        Self::Announce,
        Self::AnnounceInit,
        Self::AnnounceOk,
        Self::AnnounceRequest,
        Self::Datagram,
        Self::Fetch,
        Self::Frame,
        Self::Goaway,
        Self::Group,
        Self::Probe,
        Self::SessionUpdate,
        Self::Setup,
        Self::Subscribe,
        Self::SubscribeResponse,
        Self::SubscribeUpdate,
        Self::TrackInfo,
        Self::TrackRequest,
    ];

    /// Finds the message of this kind at `front`.
    pub(crate) fn frame(
        self,
        front: &[u8],
        version: Version,
    ) -> Result<Option<Framed>, DecodeError> {
        let typed = match self {
            Self::Announce => Features::of(version).announce_ids,
            Self::SubscribeResponse => Features::of(version).typed_responses(),
            _ => false,
        };
        frame_message(front, version, typed, MESSAGE_BYTES)
    }

    pub(crate) fn decode_body(
        self,
        kind: Option<u64>,
        body: &[u8],
        version: Version,
    ) -> Result<Option<Message>, DecodeError> {
        Ok(Some(match self {
            Self::Announce => {
                let message = Announce::decode_body(kind, body, version, PATH_SEGMENTS)?;
                return Ok(message.map(Message::Announce));
            }
            Self::AnnounceInit => {
                Message::AnnounceInit(AnnounceInit::decode_body(body, version, PATH_SEGMENTS)?)
            }
            Self::AnnounceOk => Message::AnnounceOk(AnnounceOk::decode_body(body, version)?),
            Self::AnnounceRequest => Message::AnnounceRequest(AnnounceRequest::decode_body(
                body,
                version,
                PATH_SEGMENTS,
            )?),
            Self::Fetch => Message::Fetch(Fetch::decode_body(body, version, PATH_SEGMENTS)?),
            Self::Goaway => Message::Goaway(Goaway::decode_body(body, version)?),
            Self::Group => Message::Group(GroupHeader::decode_body(body, version)?),
            Self::Probe => Message::Probe(Probe::decode_body(body, version)?),
            Self::SessionUpdate => {
                Message::SessionUpdate(SessionUpdate::decode_body(body, version)?)
            }
            Self::Setup => Message::Setup(Setup::decode_body(body, version)?),
            Self::Subscribe => {
                Message::Subscribe(Subscribe::decode_body(body, version, PATH_SEGMENTS)?)
            }
            Self::SubscribeResponse => {
                Message::SubscribeResponse(SubscribeResponse::decode_body(kind, body, version)?)
            }
            Self::SubscribeUpdate => {
                Message::SubscribeUpdate(SubscribeUpdate::decode_body(body, version)?)
            }
            Self::TrackInfo => Message::TrackInfo(decode_track_info(body, version)?),
            Self::TrackRequest => {
                Message::TrackRequest(TrackRequest::decode_body(body, version, PATH_SEGMENTS)?)
            }
            Self::Datagram | Self::Frame => unreachable!("no message has a body without a length"),
        }))
    }

    /// Decodes the message at `front`, or a whole datagram.
    pub(crate) fn decode(self, front: &[u8], version: Version) -> Result<Decoded, DecodeError> {
        match self {
            Self::Datagram => {
                let (head, len) = DatagramHead::decode(front, version)?;
                return Ok(Decoded::Message(Message::Datagram(head), len));
            }
            Self::Frame => {
                return Ok(match FrameHead::read(front, version)? {
                    Some((head, len)) => Decoded::Message(Message::Frame(head), len),
                    None => Decoded::Short,
                });
            }
            _ => {}
        }
        let Some(Framed { kind, head, body }) = self.frame(front, version)? else {
            return Ok(Decoded::Short);
        };
        let end = head + body;
        let Some(body) = front.get(head..end) else { return Ok(Decoded::Short) };
        Ok(match self.decode_body(kind, body, version)? {
            Some(message) => Decoded::Message(message, end),
            None => Decoded::Skip(end),
        })
    }
}

impl Message {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Announce(_) => Kind::Announce,
            Self::AnnounceInit(_) => Kind::AnnounceInit,
            Self::AnnounceOk(_) => Kind::AnnounceOk,
            Self::AnnounceRequest(_) => Kind::AnnounceRequest,
            Self::Datagram(_) => Kind::Datagram,
            Self::Fetch(_) => Kind::Fetch,
            Self::Frame(_) => Kind::Frame,
            Self::Goaway(_) => Kind::Goaway,
            Self::Group(_) => Kind::Group,
            Self::Probe(_) => Kind::Probe,
            Self::SessionUpdate(_) => Kind::SessionUpdate,
            Self::Setup(_) => Kind::Setup,
            Self::Subscribe(_) => Kind::Subscribe,
            Self::SubscribeResponse(_) => Kind::SubscribeResponse,
            Self::SubscribeUpdate(_) => Kind::SubscribeUpdate,
            Self::TrackInfo(_) => Kind::TrackInfo,
            Self::TrackRequest(_) => Kind::TrackRequest,
        }
    }

    pub(crate) fn encode(&self, out: &mut BytesMut, version: Version) -> Result<(), EncodeError> {
        match self {
            Self::Announce(message) => message.encode(out, version),
            Self::AnnounceInit(message) => message.encode(out, version),
            Self::AnnounceOk(message) => message.encode(out, version),
            Self::AnnounceRequest(message) => message.encode(out, version),
            Self::Datagram(head) => head.encode(version).map(|head| out.put_slice(&head)),
            Self::Fetch(message) => message.encode(out, version),
            Self::Frame(head) => head.encode(version).map(|head| out.put_slice(&head)),
            Self::Goaway(message) => message.encode(out, version),
            Self::Group(message) => message.encode(out, version),
            Self::Probe(message) => message.encode(out, version),
            Self::SessionUpdate(message) => message.encode(out, version),
            Self::Setup(message) => message.encode(out, version),
            Self::Subscribe(message) => message.encode(out, version),
            Self::SubscribeResponse(message) => message.encode(out, version),
            Self::SubscribeUpdate(message) => message.encode(out, version),
            Self::TrackInfo(info) => encode_track_info(info, out, version),
            Self::TrackRequest(message) => message.encode(out, version),
        }
    }
}
