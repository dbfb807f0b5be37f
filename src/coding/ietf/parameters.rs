//! Message parameters (*Message Parameters*) and the location filters among them.

use core::time::Duration;

use super::draft::{Draft, MessageType};
use super::fields::{Codec, GroupOrder, Location, encodable, flip};
use crate::coding::writer::Writer;
use crate::coding::{Cursor, DecodeError, EncodeError};
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

/// Parameters in one message at most.
const MAX_PARAMETERS: u64 = 64;

/// What a message says beyond its fixed fields. `None` is not said.
///
/// A parameter that the draft does not have in a message is refused on encoding. On decoding, one that
/// the draft does not have at all is [`DecodeError::UnknownParameter`]; in the wrong message it is left
/// out up to 16 and refused from 17 on. Authorization tokens are skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// DELIVERY_TIMEOUT: objects older than this are not worth sending. Not 0 up to 16.
    pub delivery_timeout: Option<Duration>,
    /// RENDEZVOUS_TIMEOUT (17+): how long to wait for a publisher.
    pub rendezvous_timeout: Option<Duration>,
    /// SUBGROUP_DELIVERY_TIMEOUT (18+).
    pub subgroup_delivery_timeout: Option<Duration>,
    /// EXPIRES: when the subscription ends by itself; zero, as absent, is never.
    pub expires: Option<Duration>,
    /// LARGEST_OBJECT: of what was published so far; absent if nothing was.
    pub largest: Option<Location>,
    /// FILL_TIMEOUT (18+): how long to wait for what is not in the cache.
    pub fill_timeout: Option<Duration>,
    /// FORWARD: whether objects are to be sent. Absent is yes.
    pub forward: Option<bool>,
    /// SUBSCRIBER_PRIORITY; higher is more important, as everywhere here. Absent is 127.
    pub priority: Option<u8>,
    /// SUBSCRIPTION_FILTER: what of the track. Absent is all that is published from now on.
    pub filter: Option<Filter>,
    /// GROUP_ORDER: which group comes first. Absent is the publisher's choice, and ascending in FETCH.
    pub order: Option<GroupOrder>,
    /// NEW_GROUP_REQUEST: begin a group behind this one.
    pub new_group: Option<u64>,
    /// TRACK_NAMESPACE_PREFIX (18+): another prefix for SUBSCRIBE_NAMESPACE or SUBSCRIBE_TRACKS.
    pub prefix: Option<Path>,
}

impl Codec for Parameters {
    fn read(
        cursor: &mut Cursor<'_>,
        kind: MessageType,
        draft: &Draft,
    ) -> Result<Self, DecodeError> {
        let count = cursor.varint()?;
        if count > MAX_PARAMETERS {
            return Err(DecodeError::TooMany);
        }
        let mut parameters = Self::default();
        let mut left_out = Self::default();
        let mut id = 0_u64;
        for index in 0..count {
            let delta = cursor.varint()?;
            id = id.checked_add(delta).ok_or(DecodeError::BoundsExceeded)?;
            let row = draft.parameters.iter().find(|(known, _)| *known == id);
            let (_, messages) = row.ok_or(DecodeError::UnknownParameter(id))?;
            if delta == 0 && index > 0 && id != AUTHORIZATION_TOKEN {
                return Err(DecodeError::Duplicate);
            }
            if messages.contains(kind) {
                parameters.read_one(id, cursor, kind, draft)?;
            } else if draft.typed_parameters {
                return Err(DecodeError::InvalidValue("parameter in this message"));
            } else {
                left_out.read_one(id, cursor, kind, draft)?;
            }
        }
        Ok(parameters)
    }

    fn write(
        &self,
        writer: &mut Writer<'_>,
        kind: MessageType,
        draft: &Draft,
    ) -> Result<(), EncodeError> {
        writer.behind(|writer| {
            let mut count = 0;
            let mut previous = 0;
            // In ascending order.
            let mut begin = |writer: &mut Writer<'_>, id: u64| {
                let row = draft.parameters.iter().find(|(known, _)| *known == id);
                encodable(row.is_some_and(|(_, messages)| messages.contains(kind)))?;
                writer.varint(id - previous)?;
                previous = id;
                count += 1;
                Ok::<_, EncodeError>(())
            };
            if let Some(timeout) = self.delivery_timeout {
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
    ) -> Result<(), DecodeError> {
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
            // The table of the draft has only these.
            _ => return Err(DecodeError::UnknownParameter(id)),
        }
        Ok(())
    }
}

/// A number of one byte: that byte, or an integer where parameters are not typed.
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

/// What of a track a subscription is for (*Subscription Filters*). Counted from the largest object at
/// the publisher; if there is none, from the first to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Largest Object: what comes behind the largest object.
    NextObject,
    /// Next Group Start: the groups behind that of the largest object.
    NextGroup,
    /// AbsoluteStart: from here on.
    From(Location),
    /// AbsoluteRange: from `start` to the end of a group.
    Range {
        /// The first object.
        start: Location,
        /// The last group. Where it is before `start`, which up to 16 can be written, the range is
        /// empty: the answer is INVALID_RANGE.
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
