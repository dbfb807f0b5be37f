//! moq-transport, the drafts of the IETF: its messages and streams, and what each draft has of them.
//!
//! All that differs between drafts is a row of a table, [`Draft`], that every function here is given.
//! [`Draft::of`] finds it.
//!
//! - **Control messages**, on whatever stream: [`frame_message`] finds one at the front of a stream and
//!   says its [`MessageType`]; when its body is there, [`Message::decode`] reads it, and
//!   [`request_id`] tells beforehand whom it concerns. [`Message::encode`] appends a whole message.
//!   The messages are plain values that are the same for all drafts. A request id in a reply is an
//!   `Option`: up to 16 it must be there, later it is not written, and `None` when read.
//! - **Data streams**: [`UniStream::read`] takes all that a unidirectional stream begins with. On a
//!   subgroup stream each payload stands behind an [`ObjectHead`], in the answer to a FETCH behind a
//!   record of [`FetchRecords`]. They read from a short piece of the front and say how many bytes they
//!   took. A datagram is an object behind a [`DatagramHead`].
//! - **Numbers**: [`Draft::request_code`], [`Draft::done_code`], [`Draft::stream_code`],
//!   [`Draft::session_code`] and their inverses.
//!
//! Namespaces are [`Path`](crate::Path)s: `a/b` has the fields `a` and `b`, and a slash or backslash
//! inside of a field stands behind a backslash. Priorities are as everywhere in this crate: higher is
//! more important; the drafts' are the other way round.
//!
//! [`DecodeError::InvalidName`] concerns one message; every other error of a control message breaks the
//! draft's rules.

mod body;
mod codes;
mod data;
mod datagram;
mod draft;
mod fetch;
mod message;
mod names;
mod parameters;
mod properties;
mod setup;

use super::writer::Writer;
use super::{Cursor, DecodeError, EncodeError};

pub use body::{Message, request_id};
pub use codes::{
    INVALID_JOINING_REQUEST_ID, INVALID_RANGE, NOT_SUPPORTED, PREFIX_OVERLAP, REDIRECT,
    SUBSCRIPTION_ENDED, TRACK_ENDED, UNINTERESTED, UNSUPPORTED_EXTENSION,
};
pub use data::{ObjectHead, ObjectStatus, SubgroupHeader, UniStream};
pub use datagram::DatagramHead;
pub use draft::{Draft, MessageType};
pub use fetch::{FetchObject, FetchRecord, FetchRecords};
pub use message::{
    Fetch, FetchCancel, FetchEnd, FetchOk, FetchTarget, Goaway, MaxRequestId, Namespace,
    NamespaceDone, Publish, PublishBlocked, PublishDone, PublishNamespace, PublishNamespaceCancel,
    PublishNamespaceDone, Redirect, RequestError, RequestOk, RequestUpdate, RequestsBlocked,
    Subscribe, SubscribeNamespace, SubscribeOk, SubscribeTracks, Unsubscribe, Wanted,
};
pub use parameters::{Filter, Parameters};
pub use properties::TrackProperties;
pub use setup::Setup;

/// Where an object is in its track. The order is that of the draft: by group, then by object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// Number of the group.
    pub group: u64,
    /// Number of the object in the group.
    pub object: u64,
}

impl Location {
    /// An object of a group.
    pub const fn new(group: u64, object: u64) -> Self {
        Self { group, object }
    }

    fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        Ok(Self { group: cursor.varint()?, object: cursor.varint()? })
    }

    fn write(self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.varint(self.group)?;
        Ok(writer.varint(self.object)?)
    }
}

/// Which group comes first when there is a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupOrder {
    /// The oldest.
    Ascending = 1,
    /// The newest.
    Descending = 2,
}

impl GroupOrder {
    const fn from_u64(order: u64) -> Result<Self, DecodeError> {
        match order {
            1 => Ok(Self::Ascending),
            2 => Ok(Self::Descending),
            _ => Err(DecodeError::InvalidValue("group order")),
        }
    }
}

/// Where a control message lies at the front of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed {
    /// What it is.
    pub kind: MessageType,
    /// Bytes before the body.
    pub head: usize,
    /// Bytes of the body, at most 65535.
    pub body: usize,
}

/// Finds the control message at `front`, of which the first 11 bytes are enough; `None` if more are
/// needed. A type that the draft does not have is [`DecodeError::UnknownMessage`], a body of more than
/// `limit` bytes [`DecodeError::TooLong`].
pub fn frame_message(
    front: &[u8],
    draft: &Draft,
    limit: usize,
) -> Result<Option<Framed>, DecodeError> {
    let framed = Cursor::of(front, draft.varint).begin(|cursor| {
        let number = cursor.varint()?;
        let kind = MessageType::from_u64(number, draft);
        let kind = kind.ok_or(DecodeError::UnknownMessage(number))?;
        Ok((kind, usize::from(cursor.u8()?) << 8 | usize::from(cursor.u8()?)))
    })?;
    let Some(((kind, body), head)) = framed else { return Ok(None) };
    if body > limit { Err(DecodeError::TooLong) } else { Ok(Some(Framed { kind, head, body })) }
}

/// A priority on the wire, where 0 is the most urgent, from ours, where 255 is; and back.
const fn flip(priority: u8) -> u8 {
    u8::MAX - priority
}

/// For messages and fields that only some drafts have.
const fn encodable(in_draft: bool) -> Result<(), EncodeError> {
    if in_draft { Ok(()) } else { Err(EncodeError::NotInVersion) }
}
