//! Reading and writing the control messages.

use alloc::boxed::Box;

use bytes::BytesMut;

use super::draft::{Draft, MessageType};
use super::message::{
    Fetch, FetchCancel, FetchEnd, FetchOk, FetchTarget, Goaway, MaxRequestId, Namespace,
    NamespaceDone, Publish, PublishBlocked, PublishDone, PublishNamespace, PublishNamespaceCancel,
    PublishNamespaceDone, Redirect, RequestError, RequestOk, RequestUpdate, RequestsBlocked,
    Subscribe, SubscribeNamespace, SubscribeOk, SubscribeTracks, Unsubscribe, Wanted,
};
use super::parameters::Parameters;
use super::properties::TrackProperties;
use super::setup::Setup;
use super::{Location, codes, encodable, names};
use crate::coding::writer::Writer;
use crate::coding::{Cursor, DecodeError, EncodeError, varint};
use crate::stream::Side;

/// Bytes of the longest reason.
const MAX_REASON: usize = 1_024;

macro_rules! messages {
    ($($kind:ident($body:ident)),* $(,)?) => {
        /// A control message.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the types say what they are")]
        pub enum Message {
            $($kind($body),)*
        }

        impl Message {
            /// What it is.
            pub const fn kind(&self) -> MessageType {
                match self {
                    $(Self::$kind(_) => MessageType::$kind,)*
                }
            }

            fn read(
                kind: MessageType,
                cursor: &mut Cursor<'_>,
                draft: &Draft,
            ) -> Result<Self, DecodeError> {
                Ok(match kind {
                    $(MessageType::$kind => Self::$kind($body::read(cursor, kind, draft)?),)*
                })
            }

            fn write(
                &self,
                writer: &mut Writer<'_>,
                kind: MessageType,
                draft: &Draft,
            ) -> Result<(), EncodeError> {
                match self {
                    $(Self::$kind(body) => body.write(writer, kind, draft),)*
                }
            }
        }
    };
}

messages! {
    ClientSetup(Setup),
    ServerSetup(Setup),
    Setup(Setup),
    RequestUpdate(RequestUpdate),
    Subscribe(Subscribe),
    SubscribeOk(SubscribeOk),
    RequestError(RequestError),
    PublishNamespace(PublishNamespace),
    RequestOk(RequestOk),
    Namespace(Namespace),
    PublishNamespaceDone(PublishNamespaceDone),
    Unsubscribe(Unsubscribe),
    PublishDone(PublishDone),
    PublishNamespaceCancel(PublishNamespaceCancel),
    TrackStatus(Subscribe),
    NamespaceDone(NamespaceDone),
    PublishBlocked(PublishBlocked),
    Goaway(Goaway),
    SubscribeNamespace(SubscribeNamespace),
    FormerSubscribeNamespace(SubscribeNamespace),
    SubscribeTracks(SubscribeTracks),
    MaxRequestId(MaxRequestId),
    Fetch(Fetch),
    FetchCancel(FetchCancel),
    FetchOk(FetchOk),
    RequestsBlocked(RequestsBlocked),
    Publish(Publish),
    PublishOk(RequestOk),
}

impl Message {
    /// The set-up message of this side.
    pub const fn setup(setup: Setup, from: Side, draft: &Draft) -> Self {
        match from {
            _ if draft.request_streams => Self::Setup(setup),
            Side::Client => Self::ClientSetup(setup),
            Side::Server => Self::ServerSetup(setup),
        }
    }

    /// Reads the body of a message of this type.
    pub fn decode(kind: MessageType, body: &[u8], draft: &Draft) -> Result<Self, DecodeError> {
        Cursor::of(body, draft.varint).whole(|cursor| Self::read(kind, cursor, draft))
    }

    /// Appends the whole message. Where a draft has no PUBLISH_OK (18+), it is a REQUEST_OK.
    pub fn encode(&self, out: &mut BytesMut, draft: &Draft) -> Result<(), EncodeError> {
        let (kind, number) = match (self.kind(), self.kind().number(draft)) {
            (kind, Some(number)) => (kind, Some(number)),
            (MessageType::PublishOk, None) => {
                (MessageType::RequestOk, MessageType::RequestOk.number(draft))
            }
            (kind, None) => (kind, None),
        };
        let number = number.ok_or(EncodeError::NotInVersion)?;
        Writer::control(out, draft.varint, number, |writer| self.write(writer, kind, draft))
    }
}

/// The request id that the body of a message begins with, without reading the rest; `None` if this
/// message has none in this draft.
///
/// In [`RequestUpdate`] that is its own id, not that of the request that it changes.
pub fn request_id(
    kind: MessageType,
    body: &[u8],
    draft: &Draft,
) -> Result<Option<u64>, DecodeError> {
    if !kind.has_request_id(draft) {
        return Ok(None);
    }
    let (id, _) = draft.varint.read(body).ok_or(DecodeError::Truncated)?;
    Ok(Some(id))
}

/// The id of the request that a reply is for.
fn read_reply_id(cursor: &mut Cursor<'_>, draft: &Draft) -> Result<Option<u64>, DecodeError> {
    if draft.request_streams { Ok(None) } else { cursor.varint().map(Some) }
}

fn write_reply_id(
    writer: &mut Writer<'_>,
    id: Option<u64>,
    draft: &Draft,
) -> Result<(), EncodeError> {
    if draft.request_streams {
        return Ok(());
    }
    Ok(writer.varint(id.ok_or(EncodeError::InvalidValue("request id"))?)?)
}

fn read_text(cursor: &mut Cursor<'_>, max: usize) -> Result<Box<str>, DecodeError> {
    let text = cursor.string()?;
    if text.len() > max { Err(DecodeError::TooLong) } else { Ok(text.into()) }
}

fn write_text(writer: &mut Writer<'_>, text: &str, max: usize) -> Result<(), EncodeError> {
    if text.len() > max { Err(EncodeError::TooLong) } else { Ok(writer.string(text)?) }
}

type Read<T> = Result<T, DecodeError>;
type Written = Result<(), EncodeError>;

impl Subscribe {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        let id = cursor.varint()?;
        let (namespace, track) = names::read_full_name(cursor, draft)?;
        Ok(Self { id, namespace, track, parameters: Parameters::read(cursor, kind, draft)? })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        writer.varint(self.id)?;
        names::write_full_name(writer, &self.namespace, &self.track, draft)?;
        self.parameters.write(writer, kind, draft)
    }
}

impl SubscribeOk {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        Ok(Self {
            id: read_reply_id(cursor, draft)?,
            alias: cursor.varint()?,
            parameters: Parameters::read(cursor, kind, draft)?,
            properties: TrackProperties::read(cursor, draft)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        write_reply_id(writer, self.id, draft)?;
        writer.varint(self.alias)?;
        self.parameters.write(writer, kind, draft)?;
        self.properties.write(writer)
    }
}

impl RequestUpdate {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        Ok(Self {
            id: cursor.varint()?,
            existing: read_reply_id(cursor, draft)?,
            parameters: Parameters::read(cursor, kind, draft)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        writer.varint(self.id)?;
        write_reply_id(writer, self.existing, draft)?;
        self.parameters.write(writer, kind, draft)
    }
}

impl Unsubscribe {
    fn read(cursor: &mut Cursor<'_>, _: MessageType, draft: &Draft) -> Read<Self> {
        let absent = draft.request_streams && cursor.remaining() == 0;
        Ok(Self { id: if absent { None } else { Some(cursor.varint()?) } })
    }

    fn write(&self, writer: &mut Writer<'_>, _: MessageType, draft: &Draft) -> Written {
        encodable(!draft.request_streams)?;
        write_reply_id(writer, self.id, draft)
    }
}

impl Publish {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        let id = cursor.varint()?;
        let (namespace, track) = names::read_full_name(cursor, draft)?;
        Ok(Self {
            id,
            namespace,
            track,
            alias: cursor.varint()?,
            parameters: Parameters::read(cursor, kind, draft)?,
            properties: TrackProperties::read(cursor, draft)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        writer.varint(self.id)?;
        names::write_full_name(writer, &self.namespace, &self.track, draft)?;
        writer.varint(self.alias)?;
        self.parameters.write(writer, kind, draft)?;
        self.properties.write(writer)
    }
}

/// The number of streams that stands for not knowing it.
const UNKNOWN_STREAMS: u64 = varint::MAX;

impl PublishDone {
    fn read(cursor: &mut Cursor<'_>, _: MessageType, draft: &Draft) -> Read<Self> {
        Ok(Self {
            id: read_reply_id(cursor, draft)?,
            status: cursor.varint()?,
            streams: Some(cursor.varint()?).filter(|&streams| streams < UNKNOWN_STREAMS),
            reason: read_text(cursor, MAX_REASON)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>, _: MessageType, draft: &Draft) -> Written {
        write_reply_id(writer, self.id, draft)?;
        writer.varint(self.status)?;
        writer.varint(self.streams.unwrap_or(UNKNOWN_STREAMS))?;
        write_text(writer, &self.reason, MAX_REASON)
    }
}

impl PublishNamespace {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        Ok(Self {
            id: cursor.varint()?,
            namespace: names::read_namespace(cursor, draft)?,
            parameters: Parameters::read(cursor, kind, draft)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        writer.varint(self.id)?;
        names::write_namespace(writer, &self.namespace, draft)?;
        self.parameters.write(writer, kind, draft)
    }
}

impl PublishNamespaceDone {
    fn read(cursor: &mut Cursor<'_>, _: MessageType, _: &Draft) -> Read<Self> {
        Ok(Self { id: cursor.varint()? })
    }

    fn write(self, writer: &mut Writer<'_>, _: MessageType, _: &Draft) -> Written {
        Ok(writer.varint(self.id)?)
    }
}

impl PublishNamespaceCancel {
    fn read(cursor: &mut Cursor<'_>, _: MessageType, _: &Draft) -> Read<Self> {
        Ok(Self {
            id: cursor.varint()?,
            code: cursor.varint()?,
            reason: read_text(cursor, MAX_REASON)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>, _: MessageType, _: &Draft) -> Written {
        writer.varint(self.id)?;
        writer.varint(self.code)?;
        write_text(writer, &self.reason, MAX_REASON)
    }
}

impl SubscribeNamespace {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        Ok(Self {
            id: cursor.varint()?,
            prefix: names::read_part(cursor)?,
            wanted: if has_wanted(kind, draft) {
                Wanted::read(cursor)?
            } else {
                Wanted::Namespaces
            },
            parameters: Parameters::read(cursor, kind, draft)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        writer.varint(self.id)?;
        names::write_part(writer, &self.prefix)?;
        if has_wanted(kind, draft) {
            writer.varint(self.wanted as u64)?;
        } else {
            encodable(self.wanted == Wanted::Namespaces)?;
        }
        self.parameters.write(writer, kind, draft)
    }
}

/// Whether this SUBSCRIBE_NAMESPACE says what is wanted.
fn has_wanted(kind: MessageType, draft: &Draft) -> bool {
    draft.wanted || kind == MessageType::FormerSubscribeNamespace
}

impl Wanted {
    fn read(cursor: &mut Cursor<'_>) -> Read<Self> {
        match cursor.varint()? {
            0 => Ok(Self::Tracks),
            1 => Ok(Self::Namespaces),
            2 => Ok(Self::Both),
            _ => Err(DecodeError::InvalidValue("subscribe options")),
        }
    }
}

impl SubscribeTracks {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        Ok(Self {
            id: cursor.varint()?,
            prefix: names::read_part(cursor)?,
            parameters: Parameters::read(cursor, kind, draft)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        writer.varint(self.id)?;
        names::write_part(writer, &self.prefix)?;
        self.parameters.write(writer, kind, draft)
    }
}

impl Namespace {
    fn read(cursor: &mut Cursor<'_>, _: MessageType, _: &Draft) -> Read<Self> {
        Ok(Self { suffix: names::read_part(cursor)? })
    }

    fn write(&self, writer: &mut Writer<'_>, _: MessageType, _: &Draft) -> Written {
        names::write_part(writer, &self.suffix)
    }
}

impl NamespaceDone {
    fn read(cursor: &mut Cursor<'_>, _: MessageType, _: &Draft) -> Read<Self> {
        Ok(Self { suffix: names::read_part(cursor)? })
    }

    fn write(&self, writer: &mut Writer<'_>, _: MessageType, _: &Draft) -> Written {
        names::write_part(writer, &self.suffix)
    }
}

impl PublishBlocked {
    fn read(cursor: &mut Cursor<'_>, _: MessageType, _: &Draft) -> Read<Self> {
        let (suffix, track) = names::read_target(cursor)?;
        Ok(Self { suffix, track })
    }

    fn write(&self, writer: &mut Writer<'_>, _: MessageType, _: &Draft) -> Written {
        names::write_target(writer, &self.suffix, &self.track)
    }
}

impl RequestOk {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        let id = read_reply_id(cursor, draft)?;
        let parameters = Parameters::read(cursor, kind, draft)?;
        let properties = if draft.ok_properties {
            TrackProperties::read(cursor, draft)?
        } else {
            TrackProperties::default()
        };
        Ok(Self { id, parameters, properties })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        write_reply_id(writer, self.id, draft)?;
        self.parameters.write(writer, kind, draft)?;
        encodable(draft.ok_properties || self.properties == TrackProperties::default())?;
        self.properties.write(writer)
    }
}

impl RequestError {
    fn read(cursor: &mut Cursor<'_>, _: MessageType, draft: &Draft) -> Read<Self> {
        let id = read_reply_id(cursor, draft)?;
        let code = cursor.varint()?;
        let retry = cursor.option_millis()?;
        let reason = read_text(cursor, MAX_REASON)?;
        let redirect = if draft.redirect && code == codes::REDIRECT {
            let uri = read_text(cursor, Goaway::MAX_URI)?;
            let (namespace, track) = names::read_target(cursor)?;
            Some(Redirect { uri, namespace, track })
        } else {
            None
        };
        Ok(Self { id, code, retry, reason, redirect })
    }

    fn write(&self, writer: &mut Writer<'_>, _: MessageType, draft: &Draft) -> Written {
        write_reply_id(writer, self.id, draft)?;
        writer.varint(self.code)?;
        writer.option_millis(self.retry)?;
        write_text(writer, &self.reason, MAX_REASON)?;
        if !draft.redirect {
            return encodable(self.redirect.is_none());
        }
        if self.redirect.is_some() != (self.code == codes::REDIRECT) {
            return Err(EncodeError::InvalidValue("redirect"));
        }
        let Some(redirect) = &self.redirect else { return Ok(()) };
        write_text(writer, &redirect.uri, Goaway::MAX_URI)?;
        names::write_target(writer, &redirect.namespace, &redirect.track)
    }
}

impl Fetch {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        Ok(Self {
            id: cursor.varint()?,
            target: FetchTarget::read(cursor, draft)?,
            parameters: Parameters::read(cursor, kind, draft)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        writer.varint(self.id)?;
        self.target.write(writer, draft)?;
        self.parameters.write(writer, kind, draft)
    }
}

impl FetchTarget {
    const STANDALONE: u64 = 1;
    const RELATIVE: u64 = 2;
    const ABSOLUTE: u64 = 3;

    fn read(cursor: &mut Cursor<'_>, draft: &Draft) -> Read<Self> {
        Ok(match cursor.varint()? {
            Self::STANDALONE => {
                let (namespace, track) = names::read_full_name(cursor, draft)?;
                let start = Location::read(cursor)?;
                Self::Standalone { namespace, track, start, end: FetchEnd::read(cursor)? }
            }
            Self::RELATIVE => {
                Self::Relative { joins: cursor.varint()?, groups_back: cursor.varint()? }
            }
            Self::ABSOLUTE => Self::Absolute { joins: cursor.varint()?, group: cursor.varint()? },
            _ => return Err(DecodeError::InvalidValue("fetch type")),
        })
    }

    fn write(&self, writer: &mut Writer<'_>, draft: &Draft) -> Written {
        match self {
            Self::Standalone { namespace, track, start, end } => {
                writer.varint(Self::STANDALONE)?;
                names::write_full_name(writer, namespace, track, draft)?;
                start.write(writer)?;
                end.write(writer)
            }
            Self::Relative { joins, groups_back: group } | Self::Absolute { joins, group } => {
                let relative = matches!(self, Self::Relative { .. });
                writer.varint(if relative { Self::RELATIVE } else { Self::ABSOLUTE })?;
                writer.varint(*joins)?;
                Ok(writer.varint(*group)?)
            }
        }
    }
}

impl FetchEnd {
    /// On the wire the object is one more, and 0 is all of the group.
    fn read(cursor: &mut Cursor<'_>) -> Read<Self> {
        Ok(Self { group: cursor.varint()?, object: cursor.option()? })
    }

    fn write(self, writer: &mut Writer<'_>) -> Written {
        writer.varint(self.group)?;
        Ok(writer.option(self.object)?)
    }
}

impl FetchOk {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        let id = read_reply_id(cursor, draft)?;
        let end_of_track = match cursor.u8()? {
            0 => false,
            1 => true,
            _ => return Err(DecodeError::InvalidValue("end of track")),
        };
        Ok(Self {
            id,
            end_of_track,
            end: FetchEnd::read(cursor)?,
            parameters: Parameters::read(cursor, kind, draft)?,
            properties: TrackProperties::read(cursor, draft)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        write_reply_id(writer, self.id, draft)?;
        writer.u8(self.end_of_track.into());
        self.end.write(writer)?;
        self.parameters.write(writer, kind, draft)?;
        self.properties.write(writer)
    }
}

impl FetchCancel {
    fn read(cursor: &mut Cursor<'_>, _: MessageType, _: &Draft) -> Read<Self> {
        Ok(Self { id: cursor.varint()? })
    }

    fn write(self, writer: &mut Writer<'_>, _: MessageType, _: &Draft) -> Written {
        Ok(writer.varint(self.id)?)
    }
}

impl Goaway {
    /// Deployed peers leave out what they do not know of it.
    fn read(cursor: &mut Cursor<'_>, _: MessageType, draft: &Draft) -> Read<Self> {
        let mut goaway = Self { uri: read_text(cursor, Self::MAX_URI)?, ..Self::default() };
        if draft.goaway_timeout && cursor.remaining() > 0 {
            goaway.timeout = cursor.millis()?;
        }
        if draft.goaway_request && cursor.remaining() > 0 {
            goaway.request = Some(cursor.varint()?);
        }
        Ok(goaway)
    }

    /// The timeout is left out where there is none: it changes nothing for who obeys at once.
    fn write(&self, writer: &mut Writer<'_>, _: MessageType, draft: &Draft) -> Written {
        write_text(writer, &self.uri, Self::MAX_URI)?;
        if draft.goaway_timeout {
            writer.millis(self.timeout)?;
        }
        encodable(draft.goaway_request || self.request.is_none())?;
        if let Some(request) = self.request {
            writer.varint(request)?;
        }
        Ok(())
    }
}

impl MaxRequestId {
    fn read(cursor: &mut Cursor<'_>, _: MessageType, _: &Draft) -> Read<Self> {
        Ok(Self { max: cursor.varint()? })
    }

    fn write(self, writer: &mut Writer<'_>, _: MessageType, _: &Draft) -> Written {
        Ok(writer.varint(self.max)?)
    }
}

impl RequestsBlocked {
    fn read(cursor: &mut Cursor<'_>, _: MessageType, _: &Draft) -> Read<Self> {
        Ok(Self { max: cursor.varint()? })
    }

    fn write(self, writer: &mut Writer<'_>, _: MessageType, _: &Draft) -> Written {
        Ok(writer.varint(self.max)?)
    }
}
