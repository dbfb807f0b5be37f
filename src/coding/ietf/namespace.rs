//! Announcements of namespaces, and requests for them.

use alloc::boxed::Box;

use super::draft::{Draft, NamespaceForm};
use super::fields::{Codec, Read, Written, encodable, layout, read_id, write_id};
use super::message::MessageType;
use super::parameters::Parameters;
use super::{codes, names};
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

impl Codec for PublishNamespace {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        Ok(Self {
            id: read_id(cursor, draft)?,
            namespace: names::read_namespace(cursor, draft)?,
            parameters: Parameters::read(cursor, kind, draft)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        write_id(writer, self.id, draft)?;
        names::write_namespace(writer, &self.namespace, draft)?;
        self.parameters.write(writer, kind, draft)
    }
}

/// PUBLISH_NAMESPACE_DONE, up to 16: the publisher withdraws the announcement. Later it ends the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishNamespaceDone {
    /// The announcement.
    pub request: NamespaceRequest,
}

layout!(PublishNamespaceDone { request });

/// The request that ends, by its id, or by its namespace where the draft names that instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceRequest {
    /// The request id.
    Id(u64),
    /// The namespace of an announcement (14, 15), or the prefix of a request for announcements (14).
    Namespace(Path),
}

impl Default for NamespaceRequest {
    fn default() -> Self {
        Self::Id(0)
    }
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

/// UNSUBSCRIBE_NAMESPACE (14, 15): the end of a SUBSCRIBE_NAMESPACE. Later its stream ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnsubscribeNamespace {
    /// The request for announcements.
    pub request: NamespaceRequest,
}

layout!(UnsubscribeNamespace { request });

/// PUBLISH_NAMESPACE_CANCEL, up to 16: the subscriber does not want the announcement any more. Later it
/// resets the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishNamespaceCancel {
    /// The announcement.
    pub request: NamespaceRequest,
    /// Why: [`Draft::request_error`].
    pub code: u64,
    /// Text for humans, at most 1,024 bytes.
    pub reason: Box<str>,
}

impl Codec for PublishNamespaceCancel {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        Ok(Self {
            request: Codec::read(cursor, kind, draft)?,
            code: codes::from_wire(cursor.varint()?, kind, draft),
            reason: Codec::read(cursor, kind, draft)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        self.request.write(writer, kind, draft)?;
        writer.varint(codes::to_wire(self.code, kind, draft))?;
        self.reason.write(writer, kind, draft)
    }
}

/// SUBSCRIBE_NAMESPACE: requests announcements under a prefix (*SUBSCRIBE_NAMESPACE*).
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

impl Codec for SubscribeNamespace {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        Ok(Self {
            id: read_id(cursor, draft)?,
            prefix: Codec::read(cursor, kind, draft)?,
            wanted: if has_wanted(kind, draft) {
                Wanted::read(cursor)?
            } else {
                Wanted::Namespaces
            },
            parameters: Parameters::read(cursor, kind, draft)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        write_id(writer, self.id, draft)?;
        self.prefix.write(writer, kind, draft)?;
        if has_wanted(kind, draft) {
            writer.varint(self.wanted as u64)?;
        } else {
            encodable(self.wanted == Wanted::Namespaces)?;
        }
        self.parameters.write(writer, kind, draft)
    }
}

/// Whether the message has the field Subscribe Options: up to 17, and in the former message that peers
/// still send on 18.
fn has_wanted(kind: MessageType, draft: &Draft) -> bool {
    draft.namespaces == NamespaceForm::Options || kind == MessageType::FormerSubscribeNamespace
}

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

impl Wanted {
    // Any other value ends the session (*Subscribe Options*).
    fn read(cursor: &mut Cursor<'_>) -> Read<Self> {
        match cursor.varint()? {
            0 => Ok(Self::Tracks),
            1 => Ok(Self::Namespaces),
            2 => Ok(Self::Both),
            _ => Err(DecodeError::InvalidValue("subscribe options")),
        }
    }
}

/// SUBSCRIBE_TRACKS (18+): requests a PUBLISH for each track under a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeTracks {
    /// Request id.
    pub id: u64,
    /// The prefix of the tracks' broadcasts.
    pub prefix: Path,
    /// FORWARD.
    pub parameters: Parameters,
}

layout!(SubscribeTracks { @id, prefix, parameters });

/// NAMESPACE: a broadcast exists under the requested prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// The path without the requested prefix. It may be empty.
    pub suffix: Path,
}

layout!(Namespace { suffix });

/// NAMESPACE_DONE: a broadcast that a NAMESPACE announced has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceDone {
    /// The path without the requested prefix. It may be empty.
    pub suffix: Path,
}

layout!(NamespaceDone { suffix });
