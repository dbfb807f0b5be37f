//! What unidirectional streams begin with, and the objects of a subgroup (*Data Streams*).

use bytes::BytesMut;

use super::draft::Draft;
use super::fields::{encodable, flip};
use super::properties;
use crate::coding::varint::Head;
use crate::coding::writer::Writer;
use crate::coding::{Cursor, DecodeError, EncodeError};
use crate::time::Timestamp;

const FETCH: u64 = 0x05;
const SETUP: u64 = 0x2f00;
const PADDING: u64 = 0x132b_3e28;

/// The bits of a subgroup stream's type.
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

/// What a unidirectional stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UniStream {
    /// SUBGROUP_HEADER: objects follow, see [`ObjectHead`].
    Subgroup(SubgroupHeader),
    /// FETCH_HEADER: the answer to a FETCH follows, see [`FetchRecords`](super::FetchRecords).
    Fetch {
        /// Request id of the FETCH.
        request: u64,
    },
    /// The control stream of a side (17+). It begins with the SETUP message, whose type this was:
    /// nothing is to be skipped.
    Setup,
    /// Bytes without a meaning (18+).
    Padding,
}

impl UniStream {
    /// Bytes of the longest header.
    pub const MAX: usize = 37;

    /// What stands at `front`, of which [`UniStream::MAX`] bytes are enough, and how many bytes it
    /// takes; `None` if more are needed. A type that the draft does not have is
    /// [`DecodeError::UnknownMessage`].
    pub fn read(front: &[u8], draft: &Draft) -> Result<Option<(Self, usize)>, DecodeError> {
        let stream = Cursor::of(front, draft.varint).begin(|cursor| match cursor.varint()? {
            FETCH => Ok(Self::Fetch { request: cursor.varint()? }),
            SETUP if draft.request_streams => Ok(Self::Setup),
            PADDING if draft.padding => Ok(Self::Padding),
            kind if kind & SUBGROUP != 0 && kind & !draft.subgroup_bits == 0 => {
                SubgroupHeader::read(kind, cursor).map(Self::Subgroup)
            }
            kind => Err(DecodeError::UnknownMessage(kind)),
        })?;
        Ok(stream.map(|(stream, len)| (stream, if stream == Self::Setup { 0 } else { len })))
    }

    /// Appends it. Nothing for [`UniStream::Setup`], where the message does that.
    pub fn encode(&self, out: &mut BytesMut, draft: &Draft) -> Result<(), EncodeError> {
        Writer::bare(out, draft.varint, |writer| match self {
            Self::Subgroup(header) => header.write(writer, draft),
            Self::Fetch { request } => {
                writer.varint(FETCH)?;
                Ok(writer.varint(*request)?)
            }
            Self::Setup => encodable(draft.request_streams),
            Self::Padding => {
                encodable(draft.padding)?;
                Ok(writer.varint(PADDING)?)
            }
        })
    }
}

/// SUBGROUP_HEADER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubgroupHeader {
    /// The track, as SUBSCRIBE_OK or PUBLISH named it.
    pub alias: u64,
    /// Number of the group in the track.
    pub group: u64,
    /// Number of the subgroup in the group; `None`: that of its first object.
    pub subgroup: Option<u64>,
    /// Of the objects; higher is more important. `None`: the default of the track.
    pub priority: Option<u8>,
    /// The objects have properties: [`ObjectHead::read`].
    pub properties: bool,
    /// If the stream ends with FIN, its last object is the last of the group.
    pub end_of_group: bool,
    /// The first object on the stream is the first of the subgroup that there ever was (18+; before,
    /// neither written nor read).
    pub first_object: bool,
}

impl SubgroupHeader {
    fn read(kind: u64, cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let mode = kind & SUBGROUP_ID_MODE;
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
            | bit(self.first_object, FIRST_OBJECT) & draft.subgroup_bits;
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

/// What an object says of what follows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ObjectStatus {
    /// An object as others.
    #[default]
    Normal = 0,
    /// The group has no object here or behind.
    EndOfGroup = 3,
    /// The track has no object here or behind.
    EndOfTrack = 4,
}

/// What stands before a payload on a subgroup stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectHead {
    /// Objects that are left out between the one before it on the stream and this one; before the
    /// first, its number: [`ObjectHead::number`].
    pub delta: u64,
    /// The property that is read here (LOC); others are skipped.
    pub timestamp: Option<Timestamp>,
    /// Bytes of payload.
    pub size: u64,
    /// Without payload and properties if not [`ObjectStatus::Normal`].
    pub status: ObjectStatus,
}

impl ObjectHead {
    /// Bytes of the longest head that is taken. Without properties 27 are enough.
    pub const MAX: usize = properties::MAX_BLOCK as usize + 36;

    /// The object's number in the group if that of the one before it on the stream is `previous`.
    pub fn number(&self, previous: Option<u64>) -> Result<u64, DecodeError> {
        let next = previous.map_or(Some(0), |previous| previous.checked_add(1));
        next.and_then(|next| next.checked_add(self.delta)).ok_or(DecodeError::BoundsExceeded)
    }

    /// The head at `front`, and how many bytes it takes; `None` if more are needed. `properties` is
    /// what the stream's header says.
    ///
    /// A long block of properties must be there as a whole, so if a short piece of what has come is
    /// not enough, try with [`ObjectHead::MAX`] bytes of it.
    pub fn read(
        front: &[u8],
        properties: bool,
        draft: &Draft,
    ) -> Result<Option<(Self, usize)>, DecodeError> {
        Cursor::of(front, draft.varint).begin(|cursor| {
            let delta = cursor.varint()?;
            let (timestamp, any) =
                if properties { properties::read_object(cursor)? } else { (None, false) };
            let size = cursor.varint()?;
            let status = if size == 0 { ObjectStatus::read(cursor)? } else { ObjectStatus::Normal };
            if any && status != ObjectStatus::Normal {
                return Err(DecodeError::InvalidValue("properties of a status"));
            }
            Ok(Self { delta, timestamp, size, status })
        })
    }

    /// The bytes. `properties` is what the stream's header says; without them there is no timestamp.
    pub fn encode(&self, properties: bool, draft: &Draft) -> Result<Head<6>, EncodeError> {
        let is_normal = self.status == ObjectStatus::Normal;
        if self.timestamp.is_some() && !(properties && is_normal) || self.size > 0 && !is_normal {
            return Err(EncodeError::InvalidValue("object"));
        }
        let mut head = Head::of(draft.varint);
        head.push(self.delta)?;
        if properties {
            properties::push_object(&mut head, draft.varint, self.timestamp)?;
        }
        head.push(self.size)?;
        if self.size == 0 {
            head.push(self.status as u64)?;
        }
        Ok(head)
    }
}

impl ObjectStatus {
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        match cursor.varint()? {
            0 => Ok(Self::Normal),
            3 => Ok(Self::EndOfGroup),
            4 => Ok(Self::EndOfTrack),
            _ => Err(DecodeError::InvalidValue("object status")),
        }
    }
}
