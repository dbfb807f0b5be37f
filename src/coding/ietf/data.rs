//! Headers of unidirectional streams, and the objects of a subgroup (*Data Streams*).

use bytes::BytesMut;

use super::draft::{Draft, RecordForm};
use super::fields::{HeadBytes, HeadWriter, encodable, flip};
use super::properties::{self, ObjectProperties};
use crate::coding::cursor::Cursor;
use crate::coding::writer::Writer;
use crate::coding_error::{DecodeError, EncodeError};
use crate::time::Timestamp;

const FETCH: u64 = 0x05;
const SETUP: u64 = 0x2f00;
const PADDING: u64 = 0x132b_3e28;

/// The bits in the type of a subgroup stream (*Subgroup Header*).
const PROPERTIES: u64 = 0x01;
const SUBGROUP_ID_MODE: u64 = 0x06;
const END_OF_GROUP: u64 = 0x08;
const SUBGROUP: u64 = 0x10;
const DEFAULT_PRIORITY: u64 = 0x20;
const FIRST_OBJECT: u64 = 0x40;

/// The values of [`SUBGROUP_ID_MODE`].
const ZERO: u64 = 0x00;
const FIRST: u64 = 0x02;
const EXPLICIT: u64 = 0x04;

/// The purpose of a unidirectional stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UniStream {
    /// SUBGROUP_HEADER: objects follow, each with an [`ObjectHead`].
    Subgroup(SubgroupHeader),
    /// FETCH_HEADER: the answer to a FETCH follows, see [`FetchRecords`](super::FetchRecords).
    Fetch {
        /// Request id of the FETCH.
        request: u64,
    },
    /// The control stream of one side (17+). This type is also the type of the SETUP message that it begins
    /// with, so no bytes are consumed.
    Setup,
    /// Padding, which is to be discarded (18+).
    Padding,
}

impl UniStream {
    /// Bytes of the longest header.
    pub const MAX: usize = 37;

    /// Reads the header at `front` and the number of its bytes. The first [`UniStream::MAX`] bytes are
    /// enough; `None` if more are needed.
    ///
    /// # Errors
    ///
    /// [`DecodeError::UnknownMessage`] for a type that the draft does not have, which ends the session
    /// (*Data Streams*).
    pub fn read(front: &[u8], draft: &Draft) -> Result<Option<(Self, usize)>, DecodeError> {
        let stream = Cursor::of(front, draft.varint).begin(|cursor| match cursor.varint()? {
            FETCH => Ok(Self::Fetch { request: cursor.varint()? }),
            // The control stream begins with the SETUP message, whose type is that of the stream. It is
            // read again as a message, so that one function reads all of them.
            SETUP if draft.has_request_streams() => Ok(Self::Setup),
            PADDING if draft.padding => Ok(Self::Padding),
            kind if kind & SUBGROUP != 0 && kind & !draft.subgroup_bits == 0 => {
                SubgroupHeader::read(kind, cursor).map(Self::Subgroup)
            }
            kind => Err(DecodeError::UnknownMessage(kind)),
        })?;
        Ok(stream.map(|(stream, len)| (stream, if stream == Self::Setup { 0 } else { len })))
    }

    /// Appends the header. [`UniStream::Setup`] has none of its own: its message follows.
    pub fn encode(&self, out: &mut BytesMut, draft: &Draft) -> Result<(), EncodeError> {
        Writer::bare(out, draft.varint, |writer| match self {
            Self::Subgroup(header) => header.write(writer, draft),
            Self::Fetch { request } => {
                writer.varint(FETCH)?;
                Ok(writer.varint(*request)?)
            }
            Self::Setup => encodable(draft.has_request_streams()),
            Self::Padding => {
                encodable(draft.padding)?;
                Ok(writer.varint(PADDING)?)
            }
        })
    }
}

/// SUBGROUP_HEADER (*Subgroup Header*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubgroupHeader {
    /// The number of the track from SUBSCRIBE_OK or PUBLISH.
    pub alias: u64,
    /// Number of the group in the track.
    pub group: u64,
    /// Number of the subgroup in the group. `None`: the number of its first object.
    pub subgroup: Option<u64>,
    /// Priority of the objects; higher is more important. `None`: the track's DEFAULT_PUBLISHER_PRIORITY.
    pub priority: Option<u8>,
    /// Whether each object has a block of properties, see [`ObjectHead::read`].
    pub properties: bool,
    /// Whether the last object before a FIN of the stream is the last of its group.
    pub end_of_group: bool,
    /// Whether the first object on the stream is the first that was ever published in the subgroup (18+).
    /// Up to 17 it is neither written nor read.
    pub first_object: bool,
}

impl SubgroupHeader {
    fn read(kind: u64, cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let mode = kind & SUBGROUP_ID_MODE;
        // All other combinations of bits are valid types. This one is reserved (*Subgroup Header*).
        if mode == SUBGROUP_ID_MODE {
            return Err(DecodeError::UnknownMessage(kind));
        }
        let alias = cursor.varint()?;
        let group = cursor.varint()?;
        let subgroup = match mode {
            ZERO => Some(0),
            EXPLICIT => Some(cursor.varint()?),
            _ => None,
        };
        let priority = if kind & DEFAULT_PRIORITY == 0 { Some(flip(cursor.u8()?)) } else { None };
        Ok(Self {
            alias,
            group,
            subgroup,
            priority,
            properties: kind & PROPERTIES != 0,
            end_of_group: kind & END_OF_GROUP != 0,
            first_object: kind & FIRST_OBJECT != 0,
        })
    }

    fn write(&self, writer: &mut Writer<'_>, draft: &Draft) -> Result<(), EncodeError> {
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        let mode = match self.subgroup {
            None => FIRST,
            Some(0) => ZERO,
            Some(_) => EXPLICIT,
        };
        let kind = SUBGROUP
            | mode
            | bit(self.properties, PROPERTIES)
            | bit(self.end_of_group, END_OF_GROUP)
            | bit(self.priority.is_none(), DEFAULT_PRIORITY)
            // A bit that the draft does not have is left out. It carries only a hint.
            | bit(self.first_object, FIRST_OBJECT) & draft.subgroup_bits;
        // 14 has no default priority.
        encodable(kind & !draft.subgroup_bits == 0)?;
        writer.varint(kind)?;
        writer.varint(self.alias)?;
        writer.varint(self.group)?;
        if let Some(subgroup) = self.subgroup.filter(|&subgroup| subgroup > 0) {
            writer.varint(subgroup)?;
        }
        if let Some(priority) = self.priority {
            writer.u8(flip(priority));
        }
        Ok(())
    }
}

/// The status of an object (*Object Status*).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ObjectStatus {
    /// A regular object.
    #[default]
    Normal = 0,
    /// The object does not exist (14, 15).
    DoesNotExist = 1,
    /// The end of the group: no object has this number or a higher one.
    EndOfGroup = 3,
    /// The end of the track: no object has this location or a higher one.
    EndOfTrack = 4,
}

/// The fields before a payload on a subgroup stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectHead<'a> {
    /// The number of objects left out since the one before it on the stream. For the first object on a
    /// stream it is the object's number, see [`ObjectHead::number`].
    pub delta: u64,
    /// The timestamp property (LOC).
    pub timestamp: Option<Timestamp>,
    /// All properties as key-value pairs, if there are others than the timestamp. They are encoded in its place.
    pub properties: Option<&'a [u8]>,
    /// Bytes of the payload.
    pub size: u64,
    /// A status other than [`ObjectStatus::Normal`] excludes payload and properties.
    pub status: ObjectStatus,
}

impl<'a> ObjectHead<'a> {
    /// Bytes of the longest head that is accepted. Without properties 27 are enough.
    pub const MAX: usize = properties::MAX_BLOCK + 36;

    /// The object's number in its group. `previous` is the number of the object before it on the stream.
    ///
    /// # Errors
    ///
    /// [`DecodeError::BoundsExceeded`] if the number overflows.
    pub fn number(&self, previous: Option<u64>) -> Result<u64, DecodeError> {
        // Object numbers on a stream are strictly increasing, so the difference is one less than the
        // distance.
        let next = previous.map_or(Some(0), |previous| previous.checked_add(1));
        next.and_then(|next| next.checked_add(self.delta)).ok_or(DecodeError::BoundsExceeded)
    }

    /// Reads the head at `front` and the number of its bytes; `None` if more are needed. `properties` is
    /// from the stream's header.
    ///
    /// A block of properties is read as a whole. A caller that passes only a short prefix of its data tries
    /// again with [`ObjectHead::MAX`] bytes.
    pub fn read(
        front: &'a [u8],
        properties: bool,
        draft: &Draft,
    ) -> Result<Option<(Self, usize)>, DecodeError> {
        Cursor::of(front, draft.varint).begin(|cursor| {
            let delta = cursor.varint()?;
            let ObjectProperties { timestamp, all, any } =
                properties::read_object(cursor, properties, draft)?;
            let size = cursor.varint()?;
            let status = if size == 0 { cursor.varint()? } else { 0 };
            let status = ObjectStatus::of(status, draft)?;
            if any && status != ObjectStatus::Normal {
                return Err(PROPERTIES_OF_STATUS);
            }
            Ok(Self { delta, timestamp, properties: all, size, status })
        })
    }

    /// The encoded head. `properties` is from the stream's header; without them a timestamp is refused.
    pub fn encode(&self, properties: bool, draft: &Draft) -> Result<HeadBytes, EncodeError> {
        let is_normal = self.status == ObjectStatus::Normal;
        let has_any = self.timestamp.is_some() || self.properties.is_some();
        // A status describes an absence: it has neither payload nor properties (*Object Status*).
        if has_any && !(properties && is_normal) || self.size > 0 && !is_normal {
            return Err(EncodeError::InvalidValue("object"));
        }
        encodable(self.status.is_in(draft))?;
        let mut head = HeadWriter::new(draft);
        head.push(self.delta)?;
        if properties {
            properties::push_object(&mut head, draft, self.timestamp, self.properties)?;
        }
        head.push(self.size)?;
        // The status is on the wire only if there is no payload.
        if self.size == 0 {
            head.push(self.status as u64)?;
        }
        Ok(head.bytes)
    }
}

/// It closes the session (*Object Properties*).
pub(crate) const PROPERTIES_OF_STATUS: DecodeError =
    DecodeError::InvalidValue("properties of a status");

impl ObjectStatus {
    pub(crate) fn of(number: u64, draft: &Draft) -> Result<Self, DecodeError> {
        match number {
            0 => Ok(Self::Normal),
            1 if Self::DoesNotExist.is_in(draft) => Ok(Self::DoesNotExist),
            3 => Ok(Self::EndOfGroup),
            4 => Ok(Self::EndOfTrack),
            _ => Err(DecodeError::InvalidValue("object status")),
        }
    }

    pub(super) fn is_in(self, draft: &Draft) -> bool {
        self != Self::DoesNotExist || draft.records <= RecordForm::Byte
    }
}
