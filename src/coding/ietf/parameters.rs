//! Message parameters (*Message Parameters*), among them location filters.

use core::time::Duration;

use super::draft::{Draft, MessageType};
use super::fields::{Codec, GroupOrder, Location, Read, Written, encodable, flip};
use crate::coding::cursor::Cursor;
use crate::coding::writer::Writer;
use crate::coding_error::{DecodeError, EncodeError};
use crate::path::Path;

const DELIVERY_TIMEOUT: u64 = 0x02;
const AUTHORIZATION_TOKEN: u64 = 0x03;
const RENDEZVOUS_TIMEOUT: u64 = 0x04;
const SUBGROUP_DELIVERY_TIMEOUT: u64 = 0x06;
const EXPIRES: u64 = 0x08;
const LARGEST_OBJECT: u64 = 0x09;
const FILL_TIMEOUT: u64 = 0x0a;
const FORWARD: u64 = 0x10;
const SUBSCRIBER_PRIORITY: u64 = 0x20;
const SUBSCRIPTION_FILTER: u64 = 0x21;
const GROUP_ORDER: u64 = 0x22;
const NEW_GROUP_REQUEST: u64 = 0x32;
const TRACK_NAMESPACE_PREFIX: u64 = 0x34;

/// The largest number of parameters in one message. The drafts have no limit, but deployed peers accept no
/// more.
const MAX_PARAMETERS: u64 = 64;

/// The parameters of a message. `None` is an absent parameter.
///
/// A parameter that the draft does not allow in a message can't be encoded. On decoding, a type that the
/// draft does not have is [`DecodeError::UnknownParameter`]. In the wrong message a known parameter is
/// ignored up to 16, and an error from 17 on. Authorization tokens are skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// DELIVERY_TIMEOUT: objects older than this need not be sent. 0 is invalid up to 16, and no timeout
    /// from 17 on.
    pub delivery_timeout: Option<Duration>,
    /// RENDEZVOUS_TIMEOUT (17+): how long to wait for a publisher.
    pub rendezvous_timeout: Option<Duration>,
    /// SUBGROUP_DELIVERY_TIMEOUT (18+): the same for a whole subgroup, from its end on.
    pub subgroup_delivery_timeout: Option<Duration>,
    /// EXPIRES: when the subscription ends by itself. Absent or zero: never.
    pub expires: Option<Duration>,
    /// LARGEST_OBJECT: the location of the largest object published so far. Absent: nothing was published.
    pub largest: Option<Location>,
    /// FILL_TIMEOUT (18+): how long to wait for objects that are not in the cache.
    pub fill_timeout: Option<Duration>,
    /// FORWARD: whether to send objects. Absent: yes.
    pub forward: Option<bool>,
    /// SUBSCRIBER_PRIORITY; higher is more important. Absent: 127 (128 on the wire).
    pub priority: Option<u8>,
    /// SUBSCRIPTION_FILTER: the part of the track. Absent: everything that is published from now on.
    pub filter: Option<Filter>,
    /// GROUP_ORDER: which group comes first. Absent: the publisher's choice, or ascending for a FETCH.
    pub order: Option<GroupOrder>,
    /// NEW_GROUP_REQUEST: asks the publisher to begin a group after this one.
    pub new_group: Option<u64>,
    /// TRACK_NAMESPACE_PREFIX (18+): a new prefix for a SUBSCRIBE_NAMESPACE or SUBSCRIBE_TRACKS.
    pub prefix: Option<Path>,
}

impl Codec for Parameters {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        let count = cursor.varint()?;
        if count > MAX_PARAMETERS {
            return Err(DecodeError::TooMany);
        }
        let mut parameters = Self::default();
        let mut ignored = Self::default();
        let mut id = 0_u64;
        for index in 0..count {
            let delta = cursor.varint()?;
            id = id.checked_add(delta).ok_or(DecodeError::BoundsExceeded)?;
            let row = draft.parameters.iter().find(|(known, _)| *known == id);
            let (_, messages) = row.ok_or(DecodeError::UnknownParameter(id))?;
            // Only authorization tokens may be repeated (*Message Parameters*).
            if delta == 0 && index > 0 && id != AUTHORIZATION_TOKEN {
                return Err(DecodeError::Duplicate);
            }
            if messages.contains(kind) {
                parameters.read_one(id, cursor, kind, draft)?;
            } else if draft.typed_parameters {
                // From 17 on a parameter in the wrong message ends the session. Up to 16 it is ignored,
                // but its value is still checked (*Message Parameters*).
                return Err(DecodeError::InvalidValue("parameter in this message"));
            } else {
                ignored.read_one(id, cursor, kind, draft)?;
            }
        }
        Ok(parameters)
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        writer.prefixed(|writer| {
            let mut count = 0;
            let mut previous = 0;
            // Must be called in ascending order of types, because each is written as a difference to the
            // one before.
            let mut begin = |writer: &mut Writer<'_>, id: u64| {
                let row = draft.parameters.iter().find(|(known, _)| *known == id);
                encodable(row.is_some_and(|(_, messages)| messages.contains(kind)))?;
                writer.varint(id - previous)?;
                previous = id;
                count += 1;
                Ok::<_, EncodeError>(())
            };
            if let Some(timeout) = self.delivery_timeout {
                // Up to 16 the value 0 is invalid, and from 17 on it stands for no timeout.
                if timeout.as_millis() == 0 && !draft.typed_parameters {
                    return Err(EncodeError::InvalidValue("delivery timeout"));
                }
                begin(writer, DELIVERY_TIMEOUT)?;
                writer.millis(timeout)?;
            }
            if let Some(timeout) = self.rendezvous_timeout {
                begin(writer, RENDEZVOUS_TIMEOUT)?;
                writer.millis(timeout)?;
            }
            if let Some(timeout) = self.subgroup_delivery_timeout {
                begin(writer, SUBGROUP_DELIVERY_TIMEOUT)?;
                writer.millis(timeout)?;
            }
            if let Some(expires) = self.expires {
                begin(writer, EXPIRES)?;
                writer.millis(expires)?;
            }
            if let Some(largest) = self.largest {
                begin(writer, LARGEST_OBJECT)?;
                // Up to 16 the parity of a type determines the encoding, and an odd type has bytes.
                if draft.typed_parameters {
                    largest.write(writer)?;
                } else {
                    writer.block(|value| largest.write(value))?;
                }
            }
            if let Some(timeout) = self.fill_timeout {
                begin(writer, FILL_TIMEOUT)?;
                writer.millis(timeout)?;
            }
            if let Some(forward) = self.forward {
                begin(writer, FORWARD)?;
                write_byte(writer, forward.into(), draft)?;
            }
            if let Some(priority) = self.priority {
                begin(writer, SUBSCRIBER_PRIORITY)?;
                write_byte(writer, flip(priority), draft)?;
            }
            if let Some(filter) = self.filter {
                begin(writer, SUBSCRIPTION_FILTER)?;
                writer.block(|value| filter.write(value, draft))?;
            }
            if let Some(order) = self.order {
                begin(writer, GROUP_ORDER)?;
                write_byte(writer, order as u8, draft)?;
            }
            if let Some(group) = self.new_group {
                begin(writer, NEW_GROUP_REQUEST)?;
                writer.varint(group)?;
            }
            if let Some(prefix) = &self.prefix {
                begin(writer, TRACK_NAMESPACE_PREFIX)?;
                prefix.write(writer, kind, draft)?;
            }
            Ok(count)
        })
    }
}

impl Parameters {
    fn read_one(
        &mut self,
        id: u64,
        cursor: &mut Cursor<'_>,
        kind: MessageType,
        draft: &Draft,
    ) -> Read<()> {
        match id {
            DELIVERY_TIMEOUT => {
                let timeout = cursor.millis()?;
                if timeout.is_zero() && !draft.typed_parameters {
                    return Err(DecodeError::InvalidValue("delivery timeout"));
                }
                self.delivery_timeout = Some(timeout);
            }
            AUTHORIZATION_TOKEN => {
                cursor.block()?;
            }
            RENDEZVOUS_TIMEOUT => self.rendezvous_timeout = Some(cursor.millis()?),
            SUBGROUP_DELIVERY_TIMEOUT => self.subgroup_delivery_timeout = Some(cursor.millis()?),
            EXPIRES => self.expires = Some(cursor.millis()?),
            LARGEST_OBJECT if draft.typed_parameters => {
                self.largest = Some(Location::read(cursor)?)
            }
            LARGEST_OBJECT => self.largest = Some(cursor.block()?.whole(Location::read)?),
            FILL_TIMEOUT => self.fill_timeout = Some(cursor.millis()?),
            FORWARD => {
                self.forward = Some(match read_byte(cursor, draft)? {
                    0 => false,
                    1 => true,
                    _ => return Err(DecodeError::InvalidValue("forward")),
                });
            }
            SUBSCRIBER_PRIORITY => self.priority = Some(flip(read_byte(cursor, draft)?)),
            SUBSCRIPTION_FILTER => {
                self.filter = Some(cursor.block()?.whole(|value| Filter::read(value, draft))?);
            }
            GROUP_ORDER => {
                self.order = Some(GroupOrder::from_u64(read_byte(cursor, draft)?.into())?);
            }
            NEW_GROUP_REQUEST => self.new_group = Some(cursor.varint()?),
            TRACK_NAMESPACE_PREFIX => self.prefix = Some(Path::read(cursor, kind, draft)?),
            // The tables of the drafts have no other types.
            _ => return Err(DecodeError::UnknownParameter(id)),
        }
        Ok(())
    }
}

/// Reads a number of one byte. Up to 16 it is written as an integer (*Message Parameters*).
fn read_byte(cursor: &mut Cursor<'_>, draft: &Draft) -> Result<u8, DecodeError> {
    if draft.typed_parameters {
        return cursor.u8();
    }
    u8::try_from(cursor.varint()?).map_err(|_| DecodeError::BoundsExceeded)
}

fn write_byte(writer: &mut Writer<'_>, byte: u8, draft: &Draft) -> Result<(), EncodeError> {
    if draft.typed_parameters {
        writer.u8(byte);
        Ok(())
    } else {
        Ok(writer.varint(byte.into())?)
    }
}

/// The part of a track that a subscription covers (*Subscription Filters*). Relative filters count from the
/// largest object at the publisher, or from the first one to come if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Largest Object: everything after the largest object.
    NextObject,
    /// Next Group Start: the groups after that of the largest object.
    NextGroup,
    /// AbsoluteStart: everything from this location on.
    From(Location),
    /// AbsoluteRange: from `start` to the end of a group.
    Range {
        /// The first object.
        start: Location,
        /// The last group. Up to 16 it can be before `start`. Such a range is empty, and is answered with
        /// INVALID_RANGE.
        end_group: u64,
    },
}

impl Filter {
    const NEXT_GROUP: u64 = 1;
    const NEXT_OBJECT: u64 = 2;
    const FROM: u64 = 3;
    const RANGE: u64 = 4;

    fn read(cursor: &mut Cursor<'_>, draft: &Draft) -> Result<Self, DecodeError> {
        Ok(match cursor.varint()? {
            Self::NEXT_GROUP => Self::NextGroup,
            Self::NEXT_OBJECT => Self::NextObject,
            Self::FROM => Self::From(Location::read(cursor)?),
            Self::RANGE => {
                let start = Location::read(cursor)?;
                let base = if draft.filter_deltas { start.group } else { 0 };
                // Up to 16 the end of a range is absolute, and from 17 on it is relative to the start.
                let end_group = base.checked_add(cursor.varint()?);
                Self::Range { start, end_group: end_group.ok_or(DecodeError::BoundsExceeded)? }
            }
            _ => return Err(DecodeError::InvalidValue("filter")),
        })
    }

    fn write(self, writer: &mut Writer<'_>, draft: &Draft) -> Result<(), EncodeError> {
        match self {
            Self::NextGroup => writer.varint(Self::NEXT_GROUP)?,
            Self::NextObject => writer.varint(Self::NEXT_OBJECT)?,
            Self::From(start) => {
                writer.varint(Self::FROM)?;
                start.write(writer)?;
            }
            Self::Range { start, end_group } => {
                let base = if draft.filter_deltas { start.group } else { 0 };
                let end = end_group.checked_sub(base);
                writer.varint(Self::RANGE)?;
                start.write(writer)?;
                writer.varint(end.ok_or(EncodeError::InvalidValue("filter"))?)?;
            }
        }
        Ok(())
    }
}
