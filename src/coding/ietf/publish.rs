//! PUBLISH and PUBLISH_DONE: tracks that the publisher offers, and the end of their subscriptions.

use alloc::boxed::Box;

use super::draft::{Draft, MessageType};
use super::fields::{Codec, Read, Written};
use super::names;
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

impl Codec for Publish {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        let id = cursor.varint()?;
        let (namespace, track) = names::read_full_name(cursor, draft)?;
        Ok(Self {
            id,
            namespace,
            track,
            alias: cursor.varint()?,
            parameters: Parameters::read(cursor, kind, draft)?,
            properties: Codec::read(cursor, kind, draft)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        writer.varint(self.id)?;
        names::write_full_name(writer, &self.namespace, &self.track, draft)?;
        writer.varint(self.alias)?;
        self.parameters.write(writer, kind, draft)?;
        self.properties.write(writer, kind, draft)
    }
}

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

/// The number that stands for an unknown number of streams. Up to 19 the drafts say 2^62-1 even where an
/// integer can be larger.
const UNKNOWN_STREAMS: u64 = varint::MAX;

impl Codec for PublishDone {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        Ok(Self {
            id: Codec::read(cursor, kind, draft)?,
            status: cursor.varint()?,
            streams: Some(cursor.varint()?).filter(|&streams| streams < UNKNOWN_STREAMS),
            reason: Codec::read(cursor, kind, draft)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        self.id.write(writer, kind, draft)?;
        writer.varint(self.status)?;
        writer.varint(self.streams.unwrap_or(UNKNOWN_STREAMS))?;
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

impl Codec for PublishBlocked {
    fn read(cursor: &mut Cursor<'_>, _: MessageType, _: &Draft) -> Read<Self> {
        let (suffix, track) = names::read_target(cursor)?;
        Ok(Self { suffix, track })
    }

    fn write(&self, writer: &mut Writer<'_>, _: MessageType, _: &Draft) -> Written {
        names::write_target(writer, &self.suffix, &self.track)
    }
}
