//! The parameters that are fields of the messages in draft 14.

use core::time::Duration;

use super::draft::{Draft, ParameterForm};
use super::fields::{GroupOrder, Location, Read, Written, flag, flip};
use super::filter::Filter;
use super::message::MessageType;
use super::parameters::{
    EXPIRES, FORWARD, GROUP_ORDER, LARGEST_OBJECT, LOCATION_FILTER, Parameters, SUBSCRIBER_PRIORITY,
};
use crate::coding::cursor::Cursor;
use crate::coding::writer::Writer;
use crate::coding_error::EncodeError;

/// A field of a message, as the parameter that it became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Field {
    Expires = EXPIRES,
    /// A flag whether there is a location, and the location.
    Largest = LARGEST_OBJECT,
    Forward = FORWARD,
    Priority = SUBSCRIBER_PRIORITY,
    Filter = LOCATION_FILTER,
    Order = GROUP_ORDER,
    /// A start, and the group after the last one, or 0 (SUBSCRIBE_UPDATE). Also a filter.
    Range,
}

use Field::{Expires, Forward, Largest, Order, Priority, Range};

/// The fields before the parameters of a message, in their order.
const FIELDS: [(MessageType, &[Field]); 9] = [
    (MessageType::Subscribe, &[Priority, Order, Forward, Field::Filter]),
    (MessageType::TrackStatus, &[Priority, Order, Forward, Field::Filter]),
    (MessageType::SubscribeOk, &[Expires, Order, Largest]),
    (MessageType::TrackStatusOk, &[Expires, Order, Largest]),
    (MessageType::Publish, &[Order, Largest, Forward]),
    (MessageType::PublishOk, &[Forward, Priority, Order, Field::Filter]),
    (MessageType::RequestUpdate, &[Range, Priority, Forward]),
    // They are before the target and the range of these two.
    (MessageType::Fetch, &[Priority, Order]),
    (MessageType::FetchOk, &[Order]),
];

/// The fields of the messages in `places`; none after 14.
fn all(places: u64, draft: &Draft) -> &'static [Field] {
    let is_there = |kind: MessageType| places >> kind as u32 & 1 != 0;
    let row = FIELDS.iter().find(|(kind, _)| is_there(*kind));
    row.filter(|_| draft.parameters == ParameterForm::Inline).map_or(&[], |(_, fields)| fields)
}

/// The fields that directly precede the parameters.
pub(super) fn fields(places: u64, draft: &Draft) -> &'static [Field] {
    let early = 1 << MessageType::Fetch as u32 | 1 << MessageType::FetchOk as u32;
    if places & early == 0 { all(places, draft) } else { &[] }
}

/// The fields of FETCH and FETCH_OK, which come first.
pub(super) fn early_fields(kind: MessageType, draft: &Draft) -> &'static [Field] {
    all(1 << kind as u32, draft)
}

/// Whether a field has the meaning of this parameter.
pub(super) fn has_field(id: u64, places: u64, draft: &Draft) -> bool {
    let has = |field: &Field| match field {
        Range => id == LOCATION_FILTER,
        field => *field as u64 == id,
    };
    all(places, draft).iter().any(has)
}

impl Parameters {
    pub(super) fn read_field(
        &mut self,
        field: Field,
        cursor: &mut Cursor<'_>,
        draft: &Draft,
    ) -> Read<()> {
        match field {
            // 0 stands for never, and for the publisher's order.
            Expires => self.expires = Some(cursor.millis()?).filter(|it| !it.is_zero()),
            Order => {
                self.order = match cursor.u8()? {
                    0 => None,
                    order => Some(GroupOrder::from_u64(order.into())?),
                }
            }
            Largest => {
                let exists = flag(cursor.u8()?)?;
                self.largest = exists.then(|| Location::read(cursor)).transpose()?;
            }
            Forward => self.forward = Some(flag(cursor.u8()?)?),
            Priority => self.priority = Some(flip(cursor.u8()?)),
            Field::Filter => self.filter = Some(Filter::read(cursor, draft)?),
            Range => {
                let start = Location::read(cursor)?;
                self.filter = match cursor.option()? {
                    // From the first object on is no limit, and is written where nothing changes.
                    None if start == Location::default() => None,
                    None => Some(Filter::From(start)),
                    Some(end_group) => Some(Filter::Range { start, end_group }),
                };
            }
        }
        Ok(())
    }

    /// An absent parameter is written as its default.
    pub(super) fn write_field(
        &self,
        field: Field,
        writer: &mut Writer<'_>,
        draft: &Draft,
    ) -> Written {
        match field {
            Expires => writer.millis(self.expires.unwrap_or(Duration::ZERO))?,
            Order => writer.u8(self.order.map_or(0, |order| order as u8)),
            Largest => {
                writer.u8(self.largest.is_some().into());
                return self.largest.map_or(Ok(()), |largest| largest.write(writer));
            }
            Forward => writer.u8(self.forward.unwrap_or(true).into()),
            Priority => writer.u8(flip(self.priority.unwrap_or(127))),
            Field::Filter => {
                return self.filter.unwrap_or(Filter::NextObject).write(writer, draft);
            }
            Range => {
                let (start, end) = match self.filter {
                    None => (Location::default(), None),
                    Some(Filter::From(start)) => (start, None),
                    Some(Filter::Range { start, end_group }) => (start, Some(end_group)),
                    Some(_) => return Err(EncodeError::NotInVersion),
                };
                start.write(writer)?;
                writer.option(end)?;
            }
        }
        Ok(())
    }
}
