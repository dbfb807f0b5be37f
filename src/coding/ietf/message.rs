//! The control messages as one type, the table of their numbers, and how they are framed (*Control
//! Messages*).

use bytes::BytesMut;

use super::draft::{Draft, ErrorForm, NamespaceForm};
use super::fetch::{Fetch, FetchOk};
use super::fields::{Codec, Read, Written};
use super::namespace::{
    NamespaceRequest, PublishNamespace, PublishNamespaceCancel, SubscribeNamespace,
};
use super::parameters::Parameters;
use super::publish::{Publish, PublishBlocked, PublishDone};
use super::quirks;
use super::request::{RequestError, RequestOk, RequestUpdate};
use super::session::Goaway;
use super::setup::Setup;
use super::subscribe::{Subscribe, SubscribeOk, Unsubscribe};
use crate::coding::cursor::Cursor;
use crate::coding::writer::Writer;
use crate::coding_error::{DecodeError, EncodeError};
use crate::path::Path;
use crate::stream::Side;

/// The relation of a message to its request. It determines whether the body begins with a request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It concerns the session, or the stream that it is on. It has no id.
    Stream,
    /// It begins a request, and has the id of it.
    Request,
    /// It changes a request, and is one itself.
    Update,
    /// The responder answers. Up to 16 it has the id of the request.
    Answer,
    /// The requester gives the request up, up to 16.
    Cancel,
    /// The responder gives up what it accepted, up to 16.
    Revoke,
}

use Flow::{Answer, Cancel, Request, Revoke, Stream, Update};

/// The last draft of a number that is still in use.
const LATER: u8 = u8::MAX;

macro_rules! messages {
    ($($(#[$doc:meta])* $kind:ident($body:ident): $flow:ident, $numbers:expr;)*) => {
        /// The type of a control message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "the drafts' names in our spelling")]
        pub enum MessageType {
            $($kind,)*
        }

        /// A control message.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "most types say what they are")]
        pub enum Message {
            $($(#[$doc])* $kind($body),)*
        }

        /// Per type: its flow, and its numbers as first draft, last draft and number.
        static ROWS: &[(MessageType, Flow, &[(u8, u8, u64)])] =
            &[$((MessageType::$kind, $flow, &$numbers),)*];

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
    ClientSetup(Setup): Stream, [(14, 16, 0x20)];
    ServerSetup(Setup): Stream, [(14, 16, 0x21)];
    Setup(Setup): Stream, [(17, LATER, 0x2f00)];
    RequestUpdate(RequestUpdate): Update, [(14, LATER, 0x02)];
    Subscribe(Subscribe): Request, [(14, LATER, 0x03)];
    SubscribeOk(SubscribeOk): Answer, [(14, LATER, 0x04)];
    SubscribeError(RequestError): Answer, [(14, 14, 0x05)];
    RequestError(RequestError): Answer, [(15, LATER, 0x05)];
    PublishNamespace(PublishNamespace): Request, [(14, LATER, 0x06)];
    PublishNamespaceOk(RequestOk): Answer, [(14, 14, 0x07)];
    RequestOk(RequestOk): Answer, [(15, LATER, 0x07)];
    PublishNamespaceError(RequestError): Answer, [(14, 14, 0x08)];
    /// A broadcast exists under the requested prefix. It is the path without that prefix, and may be empty.
    Namespace(Path): Stream, [(16, LATER, 0x08)];
    /// The publisher withdraws the announcement. Later it ends the stream.
    PublishNamespaceDone(NamespaceRequest): Cancel, [(14, 16, 0x09)];
    Unsubscribe(Unsubscribe): Cancel, [(14, 16, 0x0a)];
    PublishDone(PublishDone): Answer, [(14, LATER, 0x0b)];
    PublishNamespaceCancel(PublishNamespaceCancel): Revoke, [(14, 16, 0x0c)];
    TrackStatus(Subscribe): Request, [(14, LATER, 0x0d)];
    TrackStatusOk(RequestOk): Answer, [(14, 14, 0x0e)];
    /// A broadcast that a NAMESPACE announced has ended.
    NamespaceDone(Path): Stream, [(16, LATER, 0x0e)];
    TrackStatusError(RequestError): Answer, [(14, 14, 0x0f)];
    PublishBlocked(PublishBlocked): Stream, [(17, LATER, 0x0f)];
    Goaway(Goaway): Stream, [(14, LATER, 0x10)];
    SubscribeNamespace(SubscribeNamespace): Request, [(14, 17, 0x11), (18, LATER, 0x50)];
    // SUBSCRIBE_NAMESPACE in the form of 16 and 17, on a later draft, see `quirks`.
    FormerSubscribeNamespace(SubscribeNamespace): Request, [];
    SubscribeNamespaceOk(RequestOk): Answer, [(14, 14, 0x12)];
    SubscribeNamespaceError(RequestError): Answer, [(14, 14, 0x13)];
    /// The end of a SUBSCRIBE_NAMESPACE. Later its stream ends.
    UnsubscribeNamespace(NamespaceRequest): Cancel, [(14, 15, 0x14)];
    /// The receiver's request ids must be below this, which is larger than each bound before. Later QUIC's stream credit
    /// bounds requests.
    MaxRequestId(u64): Stream, [(14, 16, 0x15)];
    Fetch(Fetch): Request, [(14, LATER, 0x16)];
    /// The request id of a FETCH, which ends. Later its stream is reset.
    FetchCancel(u64): Cancel, [(14, 16, 0x17)];
    FetchOk(FetchOk): Answer, [(14, LATER, 0x18)];
    FetchError(RequestError): Answer, [(14, 14, 0x19)];
    /// The sender has more requests than this bound allows. The receiver may ignore it.
    RequestsBlocked(u64): Stream, [(14, 16, 0x1a)];
    Publish(Publish): Request, [(14, LATER, 0x1d)];
    // From 18 on REQUEST_OK answers PUBLISH.
    PublishOk(RequestOk): Answer, [(14, 17, 0x1e)];
    PublishError(RequestError): Answer, [(14, 14, 0x1f)];
    /// The publisher says what changed about a subscription: LARGEST_OBJECT, FORWARD and LOCATION_FILTER. It needs no
    /// answer.
    PublishStateNotify(Parameters): Stream, [(20, LATER, 0x22)];
    SubscribeTracks(SubscribeNamespace): Request, [(18, LATER, 0x51)];
}

impl MessageType {
    /// Every type, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        ROWS.iter().map(|row| row.0)
    }

    /// The type with this number, `None` if `draft` does not have it.
    pub fn from_u64(number: u64, draft: &Draft) -> Option<Self> {
        let named = Self::all().find(|kind| kind.number(draft) == Some(number));
        named.or_else(|| quirks::message(number, draft))
    }

    /// The number on the wire, `None` if `draft` does not have the type.
    pub fn number(self, draft: &Draft) -> Option<u64> {
        let mut numbers = ROWS[self as usize].2.iter();
        let row = numbers.find(|(first, last, _)| (*first..=*last).contains(&draft.number));
        row.map(|(.., number)| *number)
    }

    /// The type as which a message of this type is written: from 18 on REQUEST_OK took the place of PUBLISH_OK.
    #[must_use]
    pub fn written(self, draft: &Draft) -> Self {
        match self {
            Self::PublishOk if self.number(draft).is_none() => Self::RequestOk,
            kind => kind,
        }
    }

    /// The relation of the message to its request.
    pub fn flow(self) -> Flow {
        ROWS[self as usize].1
    }

    /// The type that answers `request` as this one does: 14 has answers of its own for each kind of request.
    #[must_use]
    pub fn answering(self, request: Self, draft: &Draft) -> Self {
        if draft.errors > ErrorForm::PerRequest {
            return self;
        }
        match (self, request) {
            (Self::RequestError, Self::Subscribe) => Self::SubscribeError,
            (Self::RequestError, Self::PublishNamespace) => Self::PublishNamespaceError,
            (Self::RequestError, Self::TrackStatus) => Self::TrackStatusError,
            (Self::RequestError, Self::SubscribeNamespace) => Self::SubscribeNamespaceError,
            (Self::RequestError, Self::Fetch) => Self::FetchError,
            (Self::RequestError, Self::Publish) => Self::PublishError,
            (Self::RequestOk, Self::PublishNamespace) => Self::PublishNamespaceOk,
            (Self::RequestOk, Self::TrackStatus) => Self::TrackStatusOk,
            (Self::RequestOk, Self::SubscribeNamespace) => Self::SubscribeNamespaceOk,
            (other, _) => other,
        }
    }

    /// Whether the body begins with a request id. From 17 on answers have none, because the stream
    /// identifies the request. Up to 15 some messages name the namespace instead.
    pub(super) fn has_request_id(self, draft: &Draft) -> bool {
        let named = match self {
            Self::PublishNamespaceDone | Self::PublishNamespaceCancel => NamespaceForm::Id,
            Self::UnsubscribeNamespace => NamespaceForm::Prefix,
            _ => {
                return match self.flow() {
                    Stream => false,
                    Request | Update => true,
                    Answer | Cancel | Revoke => !draft.has_request_streams(),
                };
            }
        };
        draft.namespaces > named
    }
}

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

impl Message {
    /// The SETUP message that `from` sends. Up to 16 each side has its own.
    pub fn setup(setup: Setup, from: Side, draft: &Draft) -> Self {
        match from {
            _ if draft.has_request_streams() => Self::Setup(setup),
            Side::Client => Self::ClientSetup(setup),
            Side::Server => Self::ServerSetup(setup),
        }
    }

    /// The message as on drafts that have one answer for all requests, the inverse of
    /// [`MessageType::answering`].
    #[must_use]
    pub fn unified(self) -> Self {
        match self {
            Self::SubscribeError(error)
            | Self::PublishNamespaceError(error)
            | Self::TrackStatusError(error)
            | Self::SubscribeNamespaceError(error)
            | Self::FetchError(error)
            | Self::PublishError(error) => Self::RequestError(error),
            Self::PublishNamespaceOk(ok)
            | Self::TrackStatusOk(ok)
            | Self::SubscribeNamespaceOk(ok) => Self::RequestOk(ok),
            other => other,
        }
    }

    /// The id and the parameters of a request or an update.
    pub(crate) fn request_mut(&mut self) -> Option<(&mut u64, &mut Parameters)> {
        Some(match self {
            Self::Subscribe(it) | Self::TrackStatus(it) => (&mut it.id, &mut it.parameters),
            Self::Fetch(it) => (&mut it.id, &mut it.parameters),
            Self::Publish(it) => (&mut it.id, &mut it.parameters),
            Self::PublishNamespace(it) => (&mut it.id, &mut it.parameters),
            Self::RequestUpdate(it) => (&mut it.id, &mut it.parameters),
            Self::SubscribeNamespace(it)
            | Self::FormerSubscribeNamespace(it)
            | Self::SubscribeTracks(it) => (&mut it.id, &mut it.parameters),
            _ => return None,
        })
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
        self.encode_as(self.kind(), out, draft)
    }

    /// Appends the whole message as one of type `kind`, which must have the same fields, such as
    /// [`MessageType::answering`] returns.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_as(
        &self,
        kind: MessageType,
        out: &mut BytesMut,
        draft: &Draft,
    ) -> Result<(), EncodeError> {
        let kind = kind.written(draft);
        let number = kind.number(draft).ok_or(EncodeError::NotInVersion)?;
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
