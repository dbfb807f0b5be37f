//! The control messages as one type, and how they are framed (*Control Messages*).

use bytes::BytesMut;

use super::draft::{Draft, MessageType};
use super::fetch::{Fetch, FetchCancel, FetchOk};
use super::fields::{Codec, Read, Written};
use super::namespace::{
    Namespace, NamespaceDone, PublishNamespace, PublishNamespaceCancel, PublishNamespaceDone,
    SubscribeNamespace, SubscribeTracks,
};
use super::publish::{Publish, PublishBlocked, PublishDone};
use super::request::{RequestError, RequestOk, RequestUpdate};
use super::session::{Goaway, MaxRequestId, RequestsBlocked};
use super::setup::Setup;
use super::subscribe::{Subscribe, SubscribeOk, Unsubscribe};
use crate::coding::cursor::Cursor;
use crate::coding::writer::Writer;
use crate::coding_error::{DecodeError, EncodeError};
use crate::stream::Side;

/// The frame of a control message at the front of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed {
    /// Its type.
    pub kind: MessageType,
    /// Bytes before the body.
    pub head: usize,
    /// Bytes of the body, at most 65535.
    pub body: usize,
}

/// Finds the control message at `front`. The first 11 bytes are enough; `None` if more are needed.
///
/// # Errors
///
/// [`DecodeError::UnknownMessage`] for a type that the draft does not have, and
/// [`DecodeError::TooLong`] for a body of more than `limit` bytes. Both end the session
/// (*Control Messages*).
pub fn frame_message(
    front: &[u8],
    draft: &Draft,
    limit: usize,
) -> Result<Option<Framed>, DecodeError> {
    let framed = Cursor::of(front, draft.varint).begin(|cursor| {
        let number = cursor.varint()?;
        let kind = MessageType::from_u64(number, draft);
        let kind = kind.ok_or(DecodeError::UnknownMessage(number))?;
        // The length is two bytes in all drafts, whatever the form of integers.
        Ok((kind, usize::from(cursor.u8()?) << 8 | usize::from(cursor.u8()?)))
    })?;
    let Some(((kind, body), head)) = framed else { return Ok(None) };
    if body > limit { Err(DecodeError::TooLong) } else { Ok(Some(Framed { kind, head, body })) }
}

macro_rules! messages {
    ($($kind:ident($body:ident)),* $(,)?) => {
        /// A control message.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the types say what they are")]
        pub enum Message {
            $($kind($body),)*
        }

        impl Message {
            /// The type of the message.
            pub const fn kind(&self) -> MessageType {
                match self {
                    $(Self::$kind(_) => MessageType::$kind,)*
                }
            }

            fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
                Ok(match kind {
                    $(MessageType::$kind => Self::$kind($body::read(cursor, kind, draft)?),)*
                })
            }

            fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
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
    /// The SETUP message that `from` sends. Up to 16 each side has its own.
    pub const fn setup(setup: Setup, from: Side, draft: &Draft) -> Self {
        match from {
            _ if draft.request_streams => Self::Setup(setup),
            Side::Client => Self::ClientSetup(setup),
            Side::Server => Self::ServerSetup(setup),
        }
    }

    /// Reads the body of a message of this type.
    ///
    /// # Errors
    ///
    /// [`DecodeError::InvalidName`] concerns this message alone. Every other error breaks a rule of the
    /// draft and ends the session.
    pub fn decode(kind: MessageType, body: &[u8], draft: &Draft) -> Result<Self, DecodeError> {
        Cursor::of(body, draft.varint).whole(|cursor| Self::read(cursor, kind, draft))
    }

    /// Appends the whole message. From 18 on a PUBLISH_OK is written as a REQUEST_OK, which replaced it.
    ///
    /// # Errors
    ///
    /// An [`EncodeError`] if the draft can't carry the message. `out` is unchanged then.
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

/// The request id at the front of a message's body, or `None` if the message has none in this draft.
///
/// It is readable even if the rest of the body is not, so that a bad request can be refused by its id.
/// For [`RequestUpdate`] it is the id of the update, not of the request that it changes.
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
