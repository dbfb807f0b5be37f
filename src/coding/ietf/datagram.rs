//! Objects in datagrams (*Object Datagram*).

use super::data::{ObjectStatus, PROPERTIES_OF_STATUS};
use super::draft::{Draft, RecordForm};
use super::fields::{HeadBytes, HeadWriter, encodable, flip};
use super::properties::{self, ObjectProperties};
use crate::coding::cursor::Cursor;
use crate::coding_error::{DecodeError, EncodeError};
use crate::time::Timestamp;

/// The bits in the type of a datagram.
const PROPERTIES: u64 = 0x01;
const END_OF_GROUP: u64 = 0x02;
const ZERO_OBJECT_ID: u64 = 0x04;
const DEFAULT_PRIORITY: u64 = 0x08;
const STATUS: u64 = 0x20;

const PADDING: u64 = 0x132b_3e29;

/// OBJECT_DATAGRAM: the fields before the payload of a datagram. A datagram is one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramHead<'a> {
    /// The number of the track from SUBSCRIBE_OK or PUBLISH.
    pub alias: u64,
    /// Number of the group in the track.
    pub group: u64,
    /// Number of the object in the group.
    pub object: u64,
    /// Higher is more important. `None`: the track's DEFAULT_PUBLISHER_PRIORITY.
    pub priority: Option<u8>,
    /// Whether the object is the last of its group. Not possible for an object without payload, because the
    /// type's bits for it and for a status exclude each other.
    pub end_of_group: bool,
    /// The timestamp property (LOC).
    pub timestamp: Option<Timestamp>,
    /// All properties as key-value pairs, if there are others than the timestamp. They are encoded in its place.
    pub properties: Option<&'a [u8]>,
    /// A status other than [`ObjectStatus::Normal`] excludes payload and properties.
    pub status: ObjectStatus,
}

impl<'a> DatagramHead<'a> {
    /// Reads the head of a whole datagram and the position of its payload; `None` for padding (18+).
    pub fn decode(datagram: &'a [u8], draft: &Draft) -> Result<Option<(Self, usize)>, DecodeError> {
        // A datagram is complete, so missing bytes are an error and not a reason to wait.
        let mut cursor = Cursor::of(datagram, draft.varint);
        let head = Self::read(&mut cursor, draft).map_err(|error| match error {
            DecodeError::Short => DecodeError::Truncated,
            other => other,
        })?;
        Ok(head.map(|head| (head, datagram.len() - cursor.remaining())))
    }

    fn read(cursor: &mut Cursor<'a>, draft: &Draft) -> Result<Option<Self>, DecodeError> {
        let kind = cursor.varint()?;
        // Padding carries nothing, whatever follows.
        if kind == PADDING && draft.padding {
            return Ok(None);
        }
        let has = |bit| kind & bit != 0;
        if kind >= 64 || draft.datagram_types >> kind & 1 == 0 {
            return Err(DecodeError::UnknownMessage(kind));
        }
        let alias = cursor.varint()?;
        let group = cursor.varint()?;
        let object =
            if has(ZERO_OBJECT_ID) && !has_object_id(kind, draft) { 0 } else { cursor.varint()? };
        let priority = if has(DEFAULT_PRIORITY) { None } else { Some(flip(cursor.u8()?)) };
        let ObjectProperties { timestamp, all: properties, any } =
            properties::read_object(cursor, has(PROPERTIES), draft)?;
        if has(PROPERTIES) && !any {
            return Err(DecodeError::InvalidValue("properties of a datagram"));
        }
        let mut status = ObjectStatus::Normal;
        if has(STATUS) {
            status = ObjectStatus::of(cursor.varint()?, draft)?;
            if has(PROPERTIES) && status != ObjectStatus::Normal {
                return Err(PROPERTIES_OF_STATUS);
            }
            // No payload may follow a status.
            cursor.clone().finish()?;
        }
        let end_of_group = has(END_OF_GROUP);
        Ok(Some(Self {
            alias,
            group,
            object,
            priority,
            end_of_group,
            timestamp,
            properties,
            status,
        }))
    }

    /// The encoded head for a payload of `size` bytes.
    pub fn encode(&self, size: usize, draft: &Draft) -> Result<HeadBytes, EncodeError> {
        let is_normal = self.status == ObjectStatus::Normal;
        let has_any = self.timestamp.is_some() || self.properties.is_some();
        // An empty object is written with a status, which excludes the bit for the end of the group.
        if !is_normal && (size > 0 || has_any) || self.end_of_group && size == 0 {
            return Err(EncodeError::InvalidValue("datagram"));
        }
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        let mut head = HeadWriter::new(draft);
        // An empty object is written with a status, because some peers refuse an empty payload.
        // Up to 15 the combinations of a status and number 0 are missing or contradictory.
        let omits_object = self.object == 0 && (size > 0 || draft.records > RecordForm::Byte);
        let kind = bit(has_any, PROPERTIES)
            | bit(self.end_of_group, END_OF_GROUP)
            | bit(omits_object, ZERO_OBJECT_ID)
            | bit(self.priority.is_none(), DEFAULT_PRIORITY)
            | bit(size == 0, STATUS);
        encodable(draft.datagram_types >> kind & 1 != 0 && self.status.is_in(draft))?;
        head.push(kind)?;
        head.push(self.alias)?;
        head.push(self.group)?;
        if !omits_object {
            head.push(self.object)?;
        }
        if let Some(priority) = self.priority {
            head.push_u8(flip(priority));
        }
        if has_any {
            properties::push_object(&mut head, draft, self.timestamp, self.properties)?;
        }
        if size == 0 {
            head.push(self.status as u64)?;
        }
        Ok(head.bytes)
    }
}

/// The table of 15 gives these two an object number although their bits say otherwise.
fn has_object_id(kind: u64, draft: &Draft) -> bool {
    draft.records == RecordForm::Byte && matches!(kind, 0x2c | 0x2d)
}
