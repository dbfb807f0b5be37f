//! FETCH, its answer, and the objects on the stream of the answer (*FETCH*, *Fetch Header*).

use alloc::boxed::Box;

use super::data::ObjectStatus;
use super::draft::{Draft, FetchForm, RecordForm};
use super::fields::{
    Codec, GroupOrder, HeadBytes, HeadWriter, Location, Read, Written, encodable, flag, flip,
    read_id, write_id,
};
use super::message::MessageType;
use super::names::FullName;
use super::parameters::Parameters;
use super::properties::{self, ObjectProperties, TrackProperties};
use crate::coding::cursor::Cursor;
use crate::coding::writer::Writer;
use crate::coding_error::{DecodeError, EncodeError};
use crate::path::Path;
use crate::time::Timestamp;

/// FETCH: requests objects that were published before (*FETCH*).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Request id.
    pub id: u64,
    /// Which objects.
    pub target: FetchTarget,
    /// How they are delivered.
    pub parameters: Parameters,
}

impl Codec for Fetch {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        let id = read_id(cursor, draft)?;
        let early = Parameters::read_early(cursor, kind, draft)?;
        let target = Codec::read(cursor, kind, draft)?;
        Ok(Self { id, target, parameters: early.read_after(cursor, kind, draft)? })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        write_id(writer, self.id, draft)?;
        self.parameters.write_early(writer, kind, draft)?;
        self.target.write(writer, kind, draft)?;
        self.parameters.write(writer, kind, draft)
    }
}

/// The objects that a FETCH requests (*Fetch Types*).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchTarget {
    /// A track. The filter among the parameters is the range, by default everything up to the largest object
    /// (20+).
    Track {
        /// The broadcast.
        namespace: Path,
        /// Name of the track.
        track: Box<str>,
    },
    /// A range of a track (up to 19).
    Standalone {
        /// The broadcast.
        namespace: Path,
        /// Name of the track.
        track: Box<str>,
        /// The first object.
        start: Location,
        /// The last object. It may be before `start`: the receiver answers that with INVALID_RANGE, which
        /// fails one request and not the session.
        end: FetchEnd,
    },
    /// Relative Joining Fetch (up to 19): the objects before a subscription's first one, from the start of a group.
    Relative {
        /// Request id of the subscription.
        joins: u64,
        /// How far that group is before the group of the largest object.
        groups_back: u64,
    },
    /// Absolute Joining Fetch (up to 19): the objects before a subscription's first one, from the start of a group
    /// given by number.
    Absolute {
        /// Request id of the subscription.
        joins: u64,
        /// The first group.
        group: u64,
    },
}

impl FetchTarget {
    const STANDALONE: u64 = 1;
    const RELATIVE: u64 = 2;
    const ABSOLUTE: u64 = 3;
}

impl Codec for FetchTarget {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        if draft.fetch == FetchForm::Filter {
            let (namespace, track) = FullName::read(cursor, kind, draft)?;
            return Ok(Self::Track { namespace, track });
        }
        Ok(match cursor.varint()? {
            Self::STANDALONE => {
                let (namespace, track) = FullName::read(cursor, kind, draft)?;
                let start = Location::read(cursor)?;
                Self::Standalone {
                    namespace,
                    track,
                    start,
                    end: FetchEnd::read(cursor, kind, draft)?,
                }
            }
            Self::RELATIVE => {
                Self::Relative { joins: cursor.varint()?, groups_back: cursor.varint()? }
            }
            Self::ABSOLUTE => Self::Absolute { joins: cursor.varint()?, group: cursor.varint()? },
            _ => return Err(DecodeError::InvalidValue("fetch type")),
        })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        encodable(matches!(self, Self::Track { .. }) == (draft.fetch == FetchForm::Filter))?;
        match self {
            Self::Track { namespace, track } => {
                FullName::write(writer, (namespace, track), kind, draft)
            }
            Self::Standalone { namespace, track, start, end } => {
                writer.varint(Self::STANDALONE)?;
                FullName::write(writer, (namespace, track), kind, draft)?;
                start.write(writer)?;
                end.write(writer, kind, draft)
            }
            Self::Relative { joins, groups_back: group } | Self::Absolute { joins, group } => {
                let relative = matches!(self, Self::Relative { .. });
                writer.varint(if relative { Self::RELATIVE } else { Self::ABSOLUTE })?;
                writer.varint(*joins)?;
                Ok(writer.varint(*group)?)
            }
        }
    }
}

/// The end of a fetched range, inclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchEnd {
    /// The last group.
    pub group: u64,
    /// The last object of it, `None` for all of them (up to 19).
    pub object: Option<u64>,
}

impl Codec for FetchEnd {
    /// Up to 19 the object is one higher on the wire, and 0 stands for the whole group.
    fn read(cursor: &mut Cursor<'_>, _: MessageType, draft: &Draft) -> Read<Self> {
        let group = cursor.varint()?;
        let object = match draft.fetch {
            FetchForm::Target => cursor.option()?,
            FetchForm::Filter => Some(cursor.varint()?),
        };
        Ok(Self { group, object })
    }

    fn write(&self, writer: &mut Writer<'_>, _: MessageType, draft: &Draft) -> Written {
        writer.varint(self.group)?;
        match (draft.fetch, self.object) {
            (FetchForm::Target, object) => Ok(writer.option(object)?),
            (FetchForm::Filter, Some(object)) => Ok(writer.varint(object)?),
            (FetchForm::Filter, None) => encodable(false),
        }
    }
}

/// FETCH_OK: the range of the answer (*FETCH_OK*). The objects come on a stream of their own, before or
/// after this message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchOk {
    /// The request that is answered, up to 16. Later the stream identifies it.
    pub id: Option<u64>,
    /// Whether `end` is the end of the track.
    pub end_of_track: bool,
    /// The end of the range that the answer covers.
    pub end: FetchEnd,
    /// GROUP_ORDER (14) and MAX_CACHE_DURATION (14, 15).
    pub parameters: Parameters,
    /// Properties of the track.
    pub properties: TrackProperties,
}

impl Codec for FetchOk {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        let id = Codec::read(cursor, kind, draft)?;
        let early = Parameters::read_early(cursor, kind, draft)?;
        Ok(Self {
            id,
            end_of_track: flag(cursor.u8()?)?,
            end: Codec::read(cursor, kind, draft)?,
            parameters: early.read_after(cursor, kind, draft)?,
            properties: Codec::read(cursor, kind, draft)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        self.id.write(writer, kind, draft)?;
        self.parameters.write_early(writer, kind, draft)?;
        writer.u8(self.end_of_track.into());
        self.end.write(writer, kind, draft)?;
        self.parameters.write(writer, kind, draft)?;
        self.properties.write(writer, kind, draft)
    }
}

/// The bits in the flags of a record.
const SUBGROUP_MODE: u64 = 0x03;
const OBJECT: u64 = 0x04;
const GROUP: u64 = 0x08;
const PRIORITY: u64 = 0x10;
const PROPERTIES: u64 = 0x20;
const DATAGRAM: u64 = 0x40;

/// The values of [`SUBGROUP_MODE`].
const ZERO: u64 = 0x00;
const SAME: u64 = 0x01;
const NEXT: u64 = 0x02;
const EXPLICIT: u64 = 0x03;

/// Three values of the flags mark the end of a range without objects instead.
const ABSENT: u64 = 0x8c;
const UNKNOWN: u64 = 0x10c;
const TIMED_OUT: u64 = 0x20c;

/// The fields before the payload of a fetched object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchObject<'a> {
    /// Which object.
    pub location: Location,
    /// Its subgroup, `None` if it was published as a datagram.
    pub subgroup: Option<u64>,
    /// The publisher's priority; higher is more important.
    pub priority: u8,
    /// The timestamp property (LOC).
    pub timestamp: Option<Timestamp>,
    /// All properties as key-value pairs, if there are others than the timestamp. They are encoded in its place.
    pub properties: Option<&'a [u8]>,
    /// Bytes of payload.
    pub size: u64,
}

/// A record in the answer to a FETCH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchRecord<'a> {
    /// An object; its payload follows.
    Object(FetchObject<'a>),
    /// End of Non-Existent Range: no object exists between the previous record and this location,
    /// inclusive. Up to 15 only this object does not exist.
    Absent(Location),
    /// End of Unknown Range: it is unknown whether objects exist in that range (16+).
    Unknown(Location),
    /// End of Timed-Out Range: the objects of that range did not arrive in time (20+).
    TimedOut(Location),
    /// No object of the group has this number or a higher one (up to 15).
    EndOfGroup(Location),
    /// No object of the track has this location or a higher one (up to 15).
    EndOfTrack(Location),
}

impl FetchRecord<'_> {
    /// The location of the object, or the end of the range.
    pub const fn location(&self) -> Location {
        match self {
            Self::Object(object) => object.location,
            Self::Absent(end)
            | Self::Unknown(end)
            | Self::TimedOut(end)
            | Self::EndOfGroup(end)
            | Self::EndOfTrack(end) => *end,
        }
    }
}

/// Reads or writes the records of one answer. Each record refers to the one before it, so this holds the
/// state between them.
#[derive(Clone, Debug)]
pub struct FetchRecords {
    draft: &'static Draft,
    order: GroupOrder,
    location: Option<Location>,
    /// The subgroup of the last object. Ranges have none and leave it unchanged.
    subgroup: Option<u64>,
    priority: Option<u8>,
    /// Whether the previous record is an object with a subgroup. Implementations disagree about which
    /// fields may be omitted after other records, so all of them are written there.
    after_object: bool,
}

impl FetchRecords {
    /// Bytes of the longest record that is accepted, without payload. Without properties 56 are enough.
    pub const MAX: usize = properties::MAX_BLOCK + 9 * 6 + 2;

    /// The state before the first record. `order` is the GROUP_ORDER of the FETCH, by default ascending.
    pub const fn new(order: GroupOrder, draft: &'static Draft) -> Self {
        Self { draft, order, location: None, subgroup: None, priority: None, after_object: false }
    }

    /// The state after an object, for a writer that does not keep the state between records.
    #[must_use]
    pub const fn after(self, location: Location, subgroup: Option<u64>, priority: u8) -> Self {
        let after_object = subgroup.is_some();
        let (location, priority) = (Some(location), Some(priority));
        Self { location, subgroup, priority, after_object, ..self }
    }

    /// The state after the end of a range without objects.
    #[must_use]
    pub const fn after_range(self, location: Location) -> Self {
        Self { location: Some(location), after_object: false, ..self }
    }

    /// Reads the record at `front` and the number of its bytes; `None` if more are needed, which leaves the
    /// state unchanged.
    ///
    /// A block of properties is read as a whole. A caller that passes only a short prefix of its data tries
    /// again with [`FetchRecords::MAX`] bytes.
    pub fn read<'a>(
        &mut self,
        front: &'a [u8],
    ) -> Result<Option<(FetchRecord<'a>, usize)>, DecodeError> {
        let read = Cursor::of(front, self.draft.varint).begin(|cursor| self.read_record(cursor))?;
        if let Some((record, _)) = &read {
            self.follow(record);
        }
        Ok(read)
    }

    fn read_record<'a>(&self, cursor: &mut Cursor<'a>) -> Result<FetchRecord<'a>, DecodeError> {
        let form = self.draft.records;
        let flags = match form {
            // No field is left out. Here the subgroup comes before the object.
            RecordForm::Fixed => {
                let (group, subgroup) = (cursor.varint()?, Some(cursor.varint()?));
                let location = Location { group, object: cursor.varint()? };
                let priority = flip(cursor.u8()?);
                return self.read_rest(cursor, location, subgroup, priority, true);
            }
            RecordForm::Byte => cursor.u8()?.into(),
            _ => cursor.varint()?,
        };
        let range: Option<fn(Location) -> FetchRecord<'a>> = match flags {
            0..DATAGRAM => None,
            DATAGRAM..0x80 if form > RecordForm::Byte => None,
            ABSENT if form > RecordForm::Byte => Some(FetchRecord::Absent),
            UNKNOWN if form > RecordForm::Byte => Some(FetchRecord::Unknown),
            TIMED_OUT if form >= RecordForm::TimedOut => Some(FetchRecord::TimedOut),
            _ => return Err(DecodeError::InvalidValue("fetch flags")),
        };
        if let Some(range) = range {
            return Location::read(cursor).map(range);
        }
        const NOTHING_BEFORE: DecodeError = DecodeError::InvalidValue("first fetch record");
        let group = if flags & GROUP != 0 {
            self.group(cursor.varint()?).ok_or(DecodeError::BoundsExceeded)?
        } else {
            self.location.ok_or(NOTHING_BEFORE)?.group
        };
        // An object that was a datagram has no subgroup, whatever the other bits are.
        let subgroup = match flags & SUBGROUP_MODE {
            _ if flags & DATAGRAM != 0 => None,
            ZERO => Some(0),
            SAME => Some(self.subgroup.ok_or(NOTHING_BEFORE)?),
            NEXT => {
                let next = self.subgroup.ok_or(NOTHING_BEFORE)?.checked_add(1);
                Some(next.ok_or(DecodeError::BoundsExceeded)?)
            }
            _ => Some(cursor.varint()?),
        };
        let object = if flags & OBJECT == 0 {
            // The number after the previous object's, even if the group has changed (*Fetch Header*).
            self.location.ok_or(NOTHING_BEFORE)?.object.checked_add(1)
        } else if flags & GROUP == 0 && self.draft.records >= RecordForm::Deltas {
            // Within a group the number is a difference from 18 on. In another group it is absolute.
            let previous = self.location.ok_or(NOTHING_BEFORE)?.object;
            previous.checked_add(cursor.varint()?)
        } else {
            Some(cursor.varint()?)
        };
        let location = Location { group, object: object.ok_or(DecodeError::BoundsExceeded)? };
        let priority = if flags & PRIORITY != 0 {
            flip(cursor.u8()?)
        } else {
            self.priority.ok_or(NOTHING_BEFORE)?
        };
        self.read_rest(cursor, location, subgroup, priority, flags & PROPERTIES != 0)
    }

    /// Reads the properties, the size, and up to 15 the status of an object without payload.
    fn read_rest<'a>(
        &self,
        cursor: &mut Cursor<'a>,
        location: Location,
        subgroup: Option<u64>,
        priority: u8,
        has_properties: bool,
    ) -> Result<FetchRecord<'a>, DecodeError> {
        let ObjectProperties { timestamp, all: properties, .. } =
            properties::read_object(cursor, has_properties, self.draft)?;
        let size = cursor.varint()?;
        let has_status = size == 0 && self.draft.records <= RecordForm::Byte;
        let status = if has_status { cursor.varint()? } else { 0 };
        Ok(match ObjectStatus::of(status, self.draft)? {
            ObjectStatus::Normal => FetchRecord::Object(FetchObject {
                location,
                subgroup,
                priority,
                timestamp,
                properties,
                size,
            }),
            ObjectStatus::DoesNotExist => FetchRecord::Absent(location),
            ObjectStatus::EndOfGroup => FetchRecord::EndOfGroup(location),
            ObjectStatus::EndOfTrack => FetchRecord::EndOfTrack(location),
        })
    }

    /// The group number that a field stands for: from 18 on the distance to the previous group, less one,
    /// in the order of the answer.
    fn group(&self, field: u64) -> Option<u64> {
        match self.base_group() {
            None => Some(field),
            Some(base) if self.order == GroupOrder::Ascending => {
                base.checked_add(field)?.checked_add(1)
            }
            Some(base) => base.checked_sub(field)?.checked_sub(1),
        }
    }

    /// The inverse of [`group`](Self::group), for a group other than that of the previous record.
    fn group_field(&self, group: u64) -> Option<u64> {
        let (first, second) = match self.base_group() {
            None => return Some(group),
            Some(base) if self.order == GroupOrder::Ascending => (base, group),
            Some(base) => (group, base),
        };
        second.checked_sub(first)?.checked_sub(1)
    }

    /// The group from which distances count, if groups are distances.
    fn base_group(&self) -> Option<u64> {
        let previous = self.location.filter(|_| self.draft.records >= RecordForm::Deltas);
        previous.map(|previous| previous.group)
    }

    fn follow(&mut self, record: &FetchRecord<'_>) {
        self.location = Some(record.location());
        self.after_object = false;
        if let FetchRecord::Object(object) = record {
            self.subgroup = object.subgroup.or(self.subgroup);
            self.priority = Some(object.priority);
            // Ranges and datagrams have no subgroup. A reader may take the last one as known or not, so
            // the writer does not rely on it.
            self.after_object = object.subgroup.is_some();
        }
    }

    /// The encoded record.
    ///
    /// # Errors
    ///
    /// [`EncodeError::InvalidValue`] if the record is out of order and the draft can't express that.
    pub fn encode(&mut self, record: &FetchRecord<'_>) -> Result<HeadBytes, EncodeError> {
        let mut head = HeadWriter::new(self.draft);
        let form = self.draft.records;
        match record {
            FetchRecord::Object(object) => {
                self.push_object(&mut head, object, ObjectStatus::Normal)?;
            }
            end if form <= RecordForm::Byte => {
                let status = match end {
                    FetchRecord::Absent(_) => ObjectStatus::DoesNotExist,
                    FetchRecord::EndOfGroup(_) => ObjectStatus::EndOfGroup,
                    FetchRecord::EndOfTrack(_) => ObjectStatus::EndOfTrack,
                    _ => return Err(EncodeError::NotInVersion),
                };
                let (location, subgroup, priority, size) = (end.location(), Some(0), 127, 0);
                let (timestamp, properties) = (None, None);
                let object =
                    FetchObject { location, subgroup, priority, timestamp, properties, size };
                self.after_object = false;
                self.push_object(&mut head, &object, status)?;
            }
            end => {
                let mark = match end {
                    FetchRecord::Absent(_) => ABSENT,
                    FetchRecord::Unknown(_) => UNKNOWN,
                    FetchRecord::TimedOut(_) if form >= RecordForm::TimedOut => TIMED_OUT,
                    _ => return Err(EncodeError::NotInVersion),
                };
                let Location { group, object } = end.location();
                for field in [mark, group, object] {
                    head.push(field)?;
                }
            }
        }
        self.follow(record);
        Ok(head.bytes)
    }

    fn push_object(
        &self,
        head: &mut HeadWriter<'_>,
        object: &FetchObject<'_>,
        status: ObjectStatus,
    ) -> Result<(), EncodeError> {
        let form = self.draft.records;
        // Up to 15 no record says that an object was a datagram.
        encodable(object.subgroup.is_some() || form > RecordForm::Byte)?;
        if form == RecordForm::Fixed {
            head.push(object.location.group)?;
            head.push(object.subgroup.unwrap_or(0))?;
            head.push(object.location.object)?;
            head.push_u8(flip(object.priority));
            properties::push_object(head, self.draft, object.timestamp, object.properties)?;
            return push_end(head, object.size, status, form);
        }
        const OUT_OF_ORDER: EncodeError = EncodeError::InvalidValue("order of a fetch");
        let Location { group, object: number } = object.location;
        let same_group = self.location.filter(|previous| previous.group == group);
        let group_field = match same_group {
            Some(_) => None,
            None => Some(self.group_field(group).ok_or(OUT_OF_ORDER)?),
        };
        let object_field = match same_group {
            Some(previous) if previous.object.checked_add(1) == Some(number) => None,
            Some(previous) if self.draft.records >= RecordForm::Deltas => {
                Some(number.checked_sub(previous.object).ok_or(OUT_OF_ORDER)?)
            }
            // In another group the number is always written. Without it an object would get the number
            // after the previous object's, and readers do not agree on that.
            _ => Some(number),
        };
        let known = self.subgroup.filter(|_| self.after_object);
        let (mode, subgroup_field) = match object.subgroup {
            None => (DATAGRAM, None),
            Some(0) => (ZERO, None),
            same if same == known => (SAME, None),
            next if next == known.and_then(|subgroup| subgroup.checked_add(1)) => (NEXT, None),
            explicit => (EXPLICIT, explicit),
        };
        let known = self.priority.filter(|_| self.after_object);
        let priority = Some(object.priority).filter(|&priority| known != Some(priority));

        let has_any = object.timestamp.is_some() || object.properties.is_some();
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        let flags = mode
            | bit(group_field.is_some(), GROUP)
            | bit(object_field.is_some(), OBJECT)
            | bit(priority.is_some(), PRIORITY)
            | bit(has_any, PROPERTIES);
        head.push(flags)?;
        for field in [group_field, subgroup_field, object_field].into_iter().flatten() {
            head.push(field)?;
        }
        if let Some(priority) = priority {
            head.push_u8(flip(priority));
        }
        if has_any {
            properties::push_object(head, self.draft, object.timestamp, object.properties)?;
        }
        push_end(head, object.size, status, form)
    }
}

/// Appends the size, and up to 15 the status of an object without payload.
fn push_end(
    head: &mut HeadWriter<'_>,
    size: u64,
    status: ObjectStatus,
    form: RecordForm,
) -> Result<(), EncodeError> {
    head.push(size)?;
    if size == 0 && form <= RecordForm::Byte {
        head.push(status as u64)?;
    }
    Ok(())
}
