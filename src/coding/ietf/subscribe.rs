//! SUBSCRIBE and its answers: messages about one subscription.

use alloc::boxed::Box;

use super::draft::Draft;
use super::fields::{Codec, Read, Written, encodable, layout};
use super::message::MessageType;
use super::names::FullName;
use super::parameters::Parameters;
use super::properties::TrackProperties;
use crate::coding::cursor::Cursor;
use crate::coding::writer::Writer;
use crate::path::Path;

/// SUBSCRIBE, and TRACK_STATUS, which has the same fields (*SUBSCRIBE*, *TRACK_STATUS*).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Request id.
    pub id: u64,
    /// The broadcast.
    pub namespace: Path,
    /// Name of the track.
    pub track: Box<str>,
    /// Which objects, and how they are delivered.
    pub parameters: Parameters,
}

layout!(Subscribe { @id, [namespace, track] FullName, parameters });

/// SUBSCRIBE_OK (*SUBSCRIBE_OK*).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOk {
    /// The request that is answered, up to 16. Later the stream identifies it.
    pub id: Option<u64>,
    /// The number that stands for the track in the headers of data streams. The publisher chooses it, and
    /// a data stream with it may arrive before this message.
    pub alias: u64,
    /// LARGEST_OBJECT and EXPIRES.
    pub parameters: Parameters,
    /// Properties of the track. From 16 on they are the rest of the message.
    pub properties: TrackProperties,
}

layout!(SubscribeOk { id, alias, parameters, properties });

/// UNSUBSCRIBE, up to 16. Later drafts cancel by resetting the stream, but some deployed peers still send
/// this message, so it is only received there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsubscribe {
    /// The subscription. After 16 a peer may leave it out, and an id that it sends has no meaning.
    pub id: Option<u64>,
}

impl Codec for Unsubscribe {
    fn read(cursor: &mut Cursor<'_>, _: MessageType, draft: &Draft) -> Read<Self> {
        // One deployed peer sends an empty body on 18, another one an id.
        let absent = draft.has_request_streams() && cursor.remaining() == 0;
        Ok(Self { id: if absent { None } else { Some(cursor.varint()?) } })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        // From 17 on a subscription is cancelled by resetting its stream.
        encodable(!draft.has_request_streams())?;
        self.id.write(writer, kind, draft)
    }
}
