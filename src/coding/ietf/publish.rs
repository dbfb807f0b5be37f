//! PUBLISH and PUBLISH_DONE: tracks that the publisher offers, and the end of their subscriptions.

use alloc::boxed::Box;

use super::draft::Draft;
use super::fields::{Codec, Read, Written, layout};
use super::message::MessageType;
use super::names::{FullName, Target};
use super::parameters::Parameters;
use super::properties::TrackProperties;
use crate::coding::cursor::Cursor;
use crate::coding::varint;
use crate::coding::writer::Writer;
use crate::path::Path;

/// PUBLISH: offers a track without a SUBSCRIBE for it (*PUBLISH*).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Request id.
    pub id: u64,
    /// The broadcast.
    pub namespace: Path,
    /// Name of the track.
    pub track: Box<str>,
    /// The number that stands for the track in the headers of data streams.
    pub alias: u64,
    /// The state of the track.
    pub parameters: Parameters,
    /// Properties of the track.
    pub properties: TrackProperties,
}

layout!(Publish { @id, [namespace, track] FullName, alias, parameters, properties });

/// PUBLISH_DONE: a subscription has ended (*PUBLISH_DONE*).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishDone {
    /// The subscription, up to 16. Later the stream identifies it.
    pub id: Option<u64>,
    /// Why: [`Draft::done_error`].
    pub status: u64,
    /// The number of data streams that were opened for it, `None` if unknown. The subscriber waits for
    /// that many before it forgets the track.
    pub streams: Option<u64>,
    /// Text for humans, at most 1,024 bytes.
    pub reason: Box<str>,
}

impl Codec for PublishDone {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        Ok(Self {
            id: Codec::read(cursor, kind, draft)?,
            status: cursor.varint()?,
            // 2^62-1 stands for an unknown number up to 19, 2^64-1 later.
            streams: Some(cursor.varint()?).filter(|&streams| streams < varint::MAX),
            reason: Codec::read(cursor, kind, draft)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        self.id.write(writer, kind, draft)?;
        writer.varint(self.status)?;
        match self.streams {
            Some(streams) => writer.varint(streams)?,
            None => writer.any_varint(draft.unknown_streams)?,
        }
        self.reason.write(writer, kind, draft)
    }
}

/// PUBLISH_BLOCKED (17+): a track that matches a SUBSCRIBE_TRACKS and can't be offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishBlocked {
    /// Relative to the prefix.
    pub suffix: Path,
    /// Name of the track.
    pub track: Box<str>,
}

layout!(PublishBlocked { [suffix, track] Target });
