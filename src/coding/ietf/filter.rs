//! Location filters (*Subscription Filters*, from 19 on *Location Filters*).

use smallvec::{SmallVec, smallvec};

use super::draft::{Draft, FilterForm};
use super::fields::{Location, Read, Written};
use crate::coding::cursor::Cursor;
use crate::coding::varint;
use crate::coding::writer::Writer;
use crate::coding_error::{DecodeError, EncodeError};

/// The part of a track that a subscription or FETCH covers. Relative filters count from the largest object at
/// the publisher, or from the first one to come if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Everything. It removes a filter in an update (20+).
    Unfiltered,
    /// Next Object, up to 19 Largest Object: everything after the largest object.
    NextObject,
    /// Next Group Start: the groups after that of the largest object.
    NextGroup,
    /// From this many groups before the next one on; 1 is the group of the largest object (20+).
    GroupsBack(u64),
    /// Absolute start: everything from this location on.
    From(Location),
    /// Absolute range: from `start` to the end of a group.
    Range {
        /// The first object.
        start: Location,
        /// The last group. Up to 16 it can be before `start`. Such a range is empty, and is answered with
        /// INVALID_RANGE.
        end_group: u64,
    },
    /// Absolute range with a last object, inclusive (20+).
    RangeTo {
        /// The first object.
        start: Location,
        /// The last object.
        end: Location,
    },
}

/// Tags up to 19.
const NEXT_GROUP: u64 = 1;
const NEXT_OBJECT: u64 = 2;
const FROM: u64 = 3;
const RANGE: u64 = 4;

/// Tags of 22. Up to 4 they are the number of fields of 20 and 21 as well.
const TYPED_NEXT_OBJECT: u64 = 5;

impl Filter {
    pub(super) fn read(cursor: &mut Cursor<'_>, draft: &Draft) -> Read<Self> {
        match draft.filter {
            FilterForm::Absolute | FilterForm::Delta => Self::read_tagged(cursor, draft),
            FilterForm::Fields => {
                let mut fields = SmallVec::<[u64; 4]>::new();
                // A fifth field is one too many.
                while cursor.remaining() > 0 && fields.len() <= 4 {
                    fields.push(cursor.varint()?);
                }
                match fields[..] {
                    // Two zeros are Next Object, so that nothing else can be said with them.
                    [0, 0] => Ok(Self::NextObject),
                    [0, 0, varint::MAX] => Ok(Self::From(Location::default())),
                    _ => Self::of_fields(&fields),
                }
            }
            FilterForm::Typed => match cursor.varint()? {
                TYPED_NEXT_OBJECT => Ok(Self::NextObject),
                count @ 0..TYPED_NEXT_OBJECT => {
                    let fields = (0..count).map(|_| cursor.varint());
                    Self::of_fields(&fields.collect::<Result<SmallVec<[u64; 4]>, _>>()?)
                }
                _ => Err(DecodeError::InvalidValue("filter")),
            },
        }
    }

    fn read_tagged(cursor: &mut Cursor<'_>, draft: &Draft) -> Read<Self> {
        Ok(match cursor.varint()? {
            NEXT_GROUP => Self::NextGroup,
            NEXT_OBJECT => Self::NextObject,
            FROM => Self::From(Location::read(cursor)?),
            RANGE => {
                let start = Location::read(cursor)?;
                let end_group = Self::base(start, draft).checked_add(cursor.varint()?);
                Self::Range { start, end_group: end_group.ok_or(DecodeError::BoundsExceeded)? }
            }
            _ => return Err(DecodeError::InvalidValue("filter")),
        })
    }

    /// The filter with these fields, which the forms from 20 on have in common.
    fn of_fields(fields: &[u64]) -> Read<Self> {
        let end = |group: u64, delta| group.checked_add(delta).ok_or(DecodeError::BoundsExceeded);
        Ok(match *fields {
            [] => Self::Unfiltered,
            [0] => Self::NextGroup,
            [back] => Self::GroupsBack(back),
            [group, object] => Self::From(Location { group, object }),
            [group, object, delta] => {
                let start = Location { group, object };
                Self::Range { start, end_group: end(group, delta)? }
            }
            [group, object, delta, last] => {
                let start = Location { group, object };
                Self::RangeTo { start, end: Location::new(end(group, delta)?, last) }
            }
            _ => return Err(DecodeError::InvalidValue("filter")),
        })
    }

    /// The inverse of [`of_fields`](Self::of_fields). Up to 19 the fields after the tag.
    fn fields(self, draft: &Draft) -> Result<SmallVec<[u64; 4]>, EncodeError> {
        let delta = |start: Location, end: u64| {
            let delta = end.checked_sub(Self::base(start, draft));
            delta.ok_or(EncodeError::InvalidValue("filter"))
        };
        Ok(match self {
            Self::Unfiltered => smallvec![],
            Self::NextObject => smallvec![0, 0],
            Self::NextGroup => smallvec![0],
            Self::GroupsBack(back) => smallvec![back],
            Self::From(start) => smallvec![start.group, start.object],
            Self::Range { start, end_group } => {
                smallvec![start.group, start.object, delta(start, end_group)?]
            }
            Self::RangeTo { start, end } => {
                smallvec![start.group, start.object, delta(start, end.group)?, end.object]
            }
        })
    }

    /// The base of the end of a range. Up to 16 the end is absolute.
    fn base(start: Location, draft: &Draft) -> u64 {
        if draft.filter == FilterForm::Absolute { 0 } else { start.group }
    }

    pub(super) fn write(self, writer: &mut Writer<'_>, draft: &Draft) -> Written {
        let mut fields = self.fields(draft)?;
        match (draft.filter, self) {
            (FilterForm::Absolute | FilterForm::Delta, _) => {
                let (tag, first) = match self {
                    Self::NextGroup => (NEXT_GROUP, 1),
                    Self::NextObject => (NEXT_OBJECT, 2),
                    Self::From(_) => (FROM, 0),
                    Self::Range { .. } => (RANGE, 0),
                    _ => return Err(EncodeError::NotInVersion),
                };
                writer.varint(tag)?;
                fields.drain(..first);
            }
            // Two zeros mean something else, so that the range from the first object on has a last group.
            (FilterForm::Fields, Self::From(Location { group: 0, object: 0 })) => {
                fields.push(varint::MAX);
            }
            (FilterForm::Fields, _) => {}
            (FilterForm::Typed, Self::NextObject) => {
                writer.varint(TYPED_NEXT_OBJECT)?;
                fields.clear();
            }
            (FilterForm::Typed, _) => writer.varint(fields.len() as u64)?,
        }
        fields.into_iter().try_for_each(|field| Ok(writer.varint(field)?))
    }
}
