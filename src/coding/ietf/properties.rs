//! Properties of tracks and objects (*Properties*; up to 16 *Extension Headers*).

use core::time::Duration;

use super::draft::{Draft, PropertyForm};
use super::fields::{Codec, GroupOrder, Pairs, Read, Written, encodable, flip};
use super::message::MessageType;
use crate::coding::cursor::Cursor;
use crate::coding::cursor::from_millis;
use crate::coding::varint::{Form, Head};
use crate::coding::writer::{Writer, to_millis};
use crate::coding_error::{DecodeError, EncodeError};
use crate::time::{Timescale, Timestamp};

const MAX_CACHE_DURATION: u64 = 0x04;
const TIMESCALE: u64 = 0x08;
const DEFAULT_PUBLISHER_PRIORITY: u64 = 0x0e;
const DEFAULT_PUBLISHER_GROUP_ORDER: u64 = 0x22;
const DYNAMIC_GROUPS: u64 = 0x30;

/// Types of track properties that a receiver must understand, in drafts that have them.
const MANDATORY: core::ops::RangeInclusive<u64> = 0x4000..=0x7fff;

/// LOC, *Timestamp*: the only object property that this crate uses.
const TIMESTAMP: u64 = 0x10;

/// Bytes of the longest value (*Key-Value-Pair Structure*).
const MAX_VALUE: u64 = 65_535;

/// Reads key-value pairs to the end of `cursor` and passes each to `each`. From 16 on types are written as
/// differences. The value of an even type is an integer, that of an odd one is bytes (*Key-Value-Pair
/// Structure*).
pub(super) fn read_pairs(
    cursor: &mut Cursor<'_>,
    draft: &Draft,
    mut each: impl FnMut(u64, Value<'_>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut id = 0_u64;
    while cursor.remaining() > 0 {
        // The sum of the differences must fit in 64 bits (*Key-Value-Pair Structure*).
        let base = if draft.has_type_deltas() { id } else { 0 };
        id = base.checked_add(cursor.varint()?).ok_or(DecodeError::BoundsExceeded)?;
        each(id, Value::read(id, cursor)?)?;
    }
    Ok(())
}

/// The value of a key-value pair.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Integer(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(super) fn read(id: u64, cursor: &mut Cursor<'a>) -> Result<Self, DecodeError> {
        if id % 2 == 0 {
            // Both encodings are self-delimiting, so unknown types can be skipped.
            return Ok(Self::Integer(cursor.varint()?));
        }
        let len = cursor.varint()?;
        if len > MAX_VALUE {
            return Err(DecodeError::TooLong);
        }
        Ok(Self::Bytes(cursor.bytes(len)?))
    }
}

/// Track properties: declarations of the publisher about a track. Unknown ones are skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackProperties {
    /// MAX_CACHE_DURATION: how long objects may be cached. Absent: without bound.
    pub max_cache: Option<Duration>,
    /// TIMESCALE of the timestamps (LOC). Absent: the objects have none.
    pub timescale: Option<Timescale>,
    /// DEFAULT_PUBLISHER_PRIORITY; higher is more important. Absent: 127 (128 on the wire).
    pub priority: Option<u8>,
    /// DEFAULT_PUBLISHER_GROUP_ORDER. Absent: ascending.
    pub order: Option<GroupOrder>,
    /// The type of a mandatory property that this crate does not know. The track must not be used then
    /// ([`UNSUPPORTED_EXTENSION`](super::UNSUPPORTED_EXTENSION)). It can't be encoded.
    pub mandatory: Option<u64>,
}

impl Codec for TrackProperties {
    /// They extend to the end of the message.
    fn read(cursor: &mut Cursor<'_>, _: MessageType, draft: &Draft) -> Read<Self> {
        let mut properties = Self::default();
        if draft.properties == PropertyForm::None {
            return Ok(properties);
        }
        read_pairs(cursor, draft, |id, value| {
            match (id, value) {
                (MAX_CACHE_DURATION, Value::Integer(millis)) => {
                    properties.max_cache = Some(from_millis(millis));
                }
                (TIMESCALE, Value::Integer(units)) => {
                    let timescale = Timescale::new(units);
                    properties.timescale =
                        Some(timescale.ok_or(DecodeError::InvalidValue("timescale"))?);
                }
                (DEFAULT_PUBLISHER_PRIORITY, Value::Integer(priority)) => {
                    let priority =
                        u8::try_from(priority).map_err(|_| DecodeError::BoundsExceeded)?;
                    properties.priority = Some(flip(priority));
                }
                (DEFAULT_PUBLISHER_GROUP_ORDER, Value::Integer(order)) => {
                    properties.order = Some(GroupOrder::from_u64(order)?);
                }
                (DYNAMIC_GROUPS, Value::Integer(2..)) => {
                    return Err(DecodeError::InvalidValue("dynamic groups"));
                }
                // The property is only reported. Whether it makes the track unusable depends on the
                // message.
                _ if draft.properties >= PropertyForm::Answers && MANDATORY.contains(&id) => {
                    properties.mandatory.get_or_insert(id);
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(properties)
    }

    fn write(&self, writer: &mut Writer<'_>, _: MessageType, draft: &Draft) -> Written {
        if self.mandatory.is_some() {
            return Err(EncodeError::InvalidValue("property"));
        }
        if draft.properties == PropertyForm::None {
            return encodable(*self == Self::default());
        }
        let mut pairs = Pairs::new(writer, draft);
        let mut pair = |id, value| {
            pairs.begin(id)?;
            Ok::<_, EncodeError>(pairs.writer.varint(value)?)
        };
        if let Some(max_cache) = self.max_cache {
            pair(MAX_CACHE_DURATION, to_millis(max_cache))?;
        }
        if let Some(timescale) = self.timescale {
            pair(TIMESCALE, timescale.units())?;
        }
        if let Some(priority) = self.priority {
            pair(DEFAULT_PUBLISHER_PRIORITY, flip(priority).into())?;
        }
        if let Some(order) = self.order {
            pair(DEFAULT_PUBLISHER_GROUP_ORDER, order as u64)?;
        }
        Ok(())
    }
}

/// Bytes of the longest block of object properties that is accepted. A block is read as a whole, so its
/// size must have a bound.
pub(super) const MAX_BLOCK: u64 = 4_096;

/// Reads the block of an object's properties: its length and the pairs. Returns the timestamp, and whether
/// there was any pair.
pub(super) fn read_object(
    cursor: &mut Cursor<'_>,
    draft: &Draft,
) -> Result<(Option<Timestamp>, bool), DecodeError> {
    let len = cursor.varint()?;
    if len > MAX_BLOCK {
        return Err(DecodeError::TooLong);
    }
    let block = cursor.sub(len)?;
    let mut timestamp = None;
    block.whole(|cursor| {
        read_pairs(cursor, draft, |id, value| {
            if let (TIMESTAMP, Value::Integer(units)) = (id, value) {
                if units > Timestamp::MAX.units() {
                    return Err(DecodeError::BoundsExceeded);
                }
                timestamp = Some(Timestamp::new(units));
            }
            Ok(())
        })
    })?;
    Ok((timestamp, len > 0))
}

/// Appends a block of at most three integers: its length, and the timestamp if there is one.
pub(super) fn push_object<const N: usize>(
    head: &mut Head<N>,
    form: Form,
    timestamp: Option<Timestamp>,
) -> Result<(), EncodeError> {
    let Some(timestamp) = timestamp else { return Ok(head.push(0)?) };
    let units = timestamp.units();
    head.push((form.len(TIMESTAMP) + form.len(units)) as u64)?;
    head.push(TIMESTAMP)?;
    Ok(head.push(units)?)
}
