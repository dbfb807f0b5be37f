//! Announcements of namespaces, and requests for them.

use alloc::boxed::Box;

use super::codes::RequestCode;
use super::draft::{Draft, NamespaceForm};
use super::fields::{Codec, Read, Written, encodable, layout};
use super::message::MessageType;
use super::names::Broadcast;
use super::parameters::Parameters;
use crate::coding::cursor::Cursor;
use crate::coding::writer::Writer;
use crate::coding_error::DecodeError;
use crate::path::Path;

/// PUBLISH_NAMESPACE: announces a broadcast, and everything below its path (*PUBLISH_NAMESPACE*).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishNamespace {
    /// Request id.
    pub id: u64,
    /// The broadcast.
    pub namespace: Path,
    /// No parameter of this crate is allowed here.
    pub parameters: Parameters,
}

layout!(PublishNamespace { @id, [namespace] Broadcast, parameters });

/// The request that ends, by its id, or by its namespace where the draft names that instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceRequest {
    /// The request id.
    Id(u64),
    /// The namespace of an announcement (14, 15), or the prefix of a request for announcements (14).
    Namespace(Path),
}

impl Codec for NamespaceRequest {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        Ok(match kind.has_request_id(draft) {
            true => Self::Id(cursor.varint()?),
            false => Self::Namespace(Codec::read(cursor, kind, draft)?),
        })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        match self {
            Self::Id(id) if kind.has_request_id(draft) => Ok(writer.varint(*id)?),
            Self::Namespace(path) if !kind.has_request_id(draft) => path.write(writer, kind, draft),
            _ => encodable(false),
        }
    }
}

/// PUBLISH_NAMESPACE_CANCEL, up to 16: the subscriber does not want the announcement any more. Later it
/// resets the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishNamespaceCancel {
    /// The announcement.
    pub request: NamespaceRequest,
    /// Why: [`Draft::request_error`].
    pub code: u64,
    /// Text for humans, at most 1,024 bytes.
    pub reason: Box<str>,
}

layout!(PublishNamespaceCancel { request, [code] RequestCode, reason });

/// SUBSCRIBE_NAMESPACE: requests announcements under a prefix (*SUBSCRIBE_NAMESPACE*). SUBSCRIBE_TRACKS has the same
/// fields: it requests a PUBLISH for each track under a prefix (18+, *SUBSCRIBE_TRACKS*).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeNamespace {
    /// Request id.
    pub id: u64,
    /// The prefix of the broadcasts.
    pub prefix: Path,
    /// The contents of the answer. From 18 on only [`Wanted::Namespaces`]: SUBSCRIBE_TRACKS requests the
    /// tracks.
    pub wanted: Wanted,
    /// FORWARD, up to 16.
    pub parameters: Parameters,
}

layout!(SubscribeNamespace { @id, prefix, wanted, parameters });

/// The contents of the answer to a SUBSCRIBE_NAMESPACE (*Subscribe Options*).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// A PUBLISH for each track.
    Tracks = 0,
    /// A NAMESPACE for each broadcast.
    #[default]
    Namespaces = 1,
    /// Both.
    Both = 2,
}

/// The field Subscribe Options: up to 17, and in the former message that peers still send on 18.
impl Codec for Wanted {
    // Any other value ends the session (*Subscribe Options*).
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        match Self::has_field(kind, draft).then(|| cursor.varint()).transpose()? {
            Some(0) => Ok(Self::Tracks),
            Some(1) | None => Ok(Self::Namespaces),
            Some(2) => Ok(Self::Both),
            Some(_) => Err(DecodeError::InvalidValue("subscribe options")),
        }
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        match Self::has_field(kind, draft) {
            true => Ok(writer.varint(*self as u64)?),
            false => encodable(*self == Self::Namespaces),
        }
    }
}

impl Wanted {
    fn has_field(kind: MessageType, draft: &Draft) -> bool {
        draft.namespaces == NamespaceForm::Options || kind == MessageType::FormerSubscribeNamespace
    }
}
