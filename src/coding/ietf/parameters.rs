//! Message parameters (*Message Parameters*): the table of their types, and of the messages that carry them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::codes::INVALID_FILTER;
use super::draft::{Draft, ParameterForm};
use super::fields::{Codec, GroupOrder, Location, Pairs, Read, Written, flag, flip};
use super::filter::Filter;
use super::inline;
use super::message::MessageType;
use super::quirks;
use super::token::TokenReference;
use crate::auth_token::AuthToken;
use crate::coding::cursor::Cursor;
use crate::coding::writer::Writer;
use crate::coding_error::{DecodeError, EncodeError};
use crate::path::Path;

/// The largest number of parameters in one message. The drafts have no limit, but deployed peers accept no
/// more.
const MAX_PARAMETERS: u64 = 64;

/// Where a parameter may be: a set of message types, and the inside of FILL_PARAMETERS.
type Places = u64;

const NOWHERE: Places = 0;
const S: Places = 1 << MessageType::Subscribe as u32;
const SO: Places = 1 << MessageType::SubscribeOk as u32;
const U: Places = 1 << MessageType::RequestUpdate as u32;
const P: Places = 1 << MessageType::Publish as u32;
const PO: Places = 1 << MessageType::PublishOk as u32;
const F: Places = 1 << MessageType::Fetch as u32;
const FO: Places = 1 << MessageType::FetchOk as u32;
const T: Places = 1 << MessageType::TrackStatus as u32;
const TO: Places = 1 << MessageType::TrackStatusOk as u32;
const RO: Places = 1 << MessageType::RequestOk as u32;
const N: Places = 1 << MessageType::PublishNamespace as u32;
const SN: Places =
    1 << MessageType::SubscribeNamespace as u32 | 1 << MessageType::FormerSubscribeNamespace as u32;
const ST: Places = 1 << MessageType::SubscribeTracks as u32;
const PN: Places = 1 << MessageType::PublishStateNotify as u32;
const FILL: Places = 1 << 63;

/// A row: the type, and from each draft on the messages that may carry it.
struct Row(u64, &'static [(u8, Places)]);

impl Row {
    /// Where the parameter may be in `draft`; [`NOWHERE`] if the draft does not have it.
    fn places(&self, draft: &Draft) -> Places {
        let mut since = self.1.iter().rev();
        since.find(|(first, _)| *first <= draft.number).map_or(NOWHERE, |(_, places)| *places)
    }
}

macro_rules! parameters {
    ($($id:literal = [$($places:expr),*] $(, $(#[$doc:meta])* $field:ident: $type:ty)?;)*) => {
        /// The parameters of a message. `None` is an absent parameter.
        ///
        /// A parameter that the draft does not allow in a message can't be encoded. On decoding, a type that
        /// the draft does not have is ignored up to 15, and [`DecodeError::UnknownParameter`] later. In the
        /// wrong message a known parameter is ignored up to 16, and an error from 17 on.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Parameters {
            $($($(#[$doc])* pub $field: Option<$type>,)?)*
            /// AUTHORIZATION_TOKEN: shows what the sender may do. It may be repeated.
            pub tokens: Vec<TokenReference>,
            /// The tokens that `tokens` stand for, once their aliases are resolved. They are not encoded.
            pub shown: Vec<AuthToken>,
            /// The code with which a message that has these parameters is refused: [`INVALID_FILTER`] for range
            /// filters (19+), which are not understood here. It can't be encoded.
            pub unusable: Option<u64>,
        }

        /// In ascending order of types.
        static ROWS: &[Row] = &[$(Row($id, &[$($places),*]),)*];

        impl Parameters {
            /// The parameters that a message of this type can carry.
            pub(crate) fn for_message(&self, kind: MessageType, draft: &Draft) -> Self {
                let (mut kept, mut rows, place) = (self.clone(), ROWS.iter(), 1 << kind as u32);
                $(let _row = rows.next();
                $(if !_row.is_some_and(|row| row.is_allowed(place, draft).is_ok()) {
                    kept.$field = None;
                })?)*
                kept
            }

            /// Reads the value of the parameter in this row.
            fn read_value(&mut self, row: &'static Row, cursor: &mut Cursor<'_>, draft: &Draft) -> Read<()> {
                let mut rows = ROWS.iter();
                $(if rows.next().is_some_and(|known| core::ptr::eq(known, row)) {
                    $(self.$field = Some(Value::decode(cursor, draft)?);
                    return Ok(());)?
                })*
                let value = cursor.block()?;
                if row.0 == AUTHORIZATION_TOKEN {
                    self.tokens.push(TokenReference::read(value)?);
                }
                if RANGE_FILTERS.contains(&row.0) {
                    self.unusable = Some(INVALID_FILTER);
                }
                Ok(())
            }

            /// Writes each parameter that is present.
            fn write_values(&self, pairs: &mut Pairs<'_, '_>, place: Places, draft: &Draft) -> Written {
                let mut rows = ROWS.iter();
                $(let _row = rows.next();
                self.write_tokens(_row, pairs, place, draft)?;
                $(if let (Some(value), Some(row)) = (&self.$field, _row) {
                    if row.is_allowed(place, draft)? {
                        pairs.begin(row.0)?;
                        value.encode(pairs.writer, draft)?;
                    }
                })?)*
                Ok(())
            }
        }
    };
}

const AUTHORIZATION_TOKEN: u64 = 0x03;
const RANGE_FILTERS: core::ops::RangeInclusive<u64> = 0x25..=0x29;
pub(super) const EXPIRES: u64 = 0x08;
pub(super) const LARGEST_OBJECT: u64 = 0x09;
pub(super) const FORWARD: u64 = 0x10;
pub(super) const SUBSCRIBER_PRIORITY: u64 = 0x20;
pub(super) const LOCATION_FILTER: u64 = 0x21;
pub(super) const GROUP_ORDER: u64 = 0x22;

parameters! {
    0x02 = [(14, T|TO|P|PO|S|SO|U), (15, T|RO|P|PO|S|SO|U), (16, PO|S|U), (18, RO|S|U), (19, RO|S|U|ST), (20, P|S|U|ST)],
        /// DELIVERY_TIMEOUT: objects older than this need not be sent. 0 is invalid on 16, and no timeout from
        /// 17 on.
        delivery_timeout: Duration;
    0x03 = [(14, P|S|U|SN|N|T|F), (18, P|S|U|SN|ST|N|T|F)];
    0x04 = [(14, P|SO|FO|TO), (15, P|SO|FO|RO), (16, NOWHERE)],
        /// MAX_CACHE_DURATION: how long objects may be cached (14, 15; later a property).
        max_cache: Duration;
    0x04 = [(17, S), (19, S|ST)],
        /// RENDEZVOUS_TIMEOUT (17+): how long to wait for a publisher.
        rendezvous_timeout: Duration;
    0x06 = [(18, RO|S|U), (19, RO|S|U|ST), (20, P|S|U|ST)],
        /// SUBGROUP_DELIVERY_TIMEOUT (18+): the same as [`delivery_timeout`](Self::delivery_timeout) for a whole
        /// subgroup, from its end on.
        subgroup_delivery_timeout: Duration;
    0x08 = [(15, SO|P|PO|RO)],
        /// EXPIRES: when the subscription ends by itself. Absent or zero: never.
        expires: Duration;
    0x09 = [(15, SO|P|RO), (20, SO|P|RO|PN)],
        /// LARGEST_OBJECT: the location of the largest object published so far. Absent: nothing was published.
        largest: Location;
    0x0a = [(18, F), (20, F|FILL)],
        /// FILL_TIMEOUT (18+): how long to wait for objects that are not in the cache.
        fill_timeout: Duration;
    0x0e = [(15, P|SO), (16, NOWHERE)],
        /// PUBLISHER_PRIORITY; higher is more important (15; later a property).
        publisher_priority: u8;
    0x10 = [(15, S|U|P|PO|T|RO|SN), (16, S|U|P|PO|SN), (18, S|U|P|RO|ST), (20, S|U|P|ST|PN)],
        /// FORWARD: whether to send objects. Absent: yes.
        forward: bool;
    0x20 = [(15, S|U|T|PO|F), (16, S|F|U|PO), (18, S|F|U|RO), (19, S|F|U|RO|ST), (20, S|P|F|U|ST|FILL)],
        /// SUBSCRIBER_PRIORITY; higher is more important. Absent: 127 (128 on the wire).
        priority: u8;
    0x21 = [(15, S|T|PO|U), (16, S|PO|U), (18, S|RO|U), (19, S|RO|U|ST), (20, F|S|P|U|PN|ST|FILL)],
        /// LOCATION_FILTER, up to 18 SUBSCRIPTION_FILTER: the part of the track. Absent: everything that is
        /// published from now on, or everything for a FETCH.
        filter: Filter;
    0x22 = [(15, S|SO|T|RO|P|PO|F), (16, S|PO|F), (18, S|RO|F), (19, S|ST|F|P), (20, S|P|ST|F|FILL)],
        /// GROUP_ORDER: which group comes first. Absent: the publisher's choice, or ascending for a FETCH.
        order: GroupOrder;
    0x23 = [(20, S|U|ST)],
        /// FILL_PARAMETERS (20+): asks for past objects on a stream of their own. A field that is absent inside
        /// is that of the subscription.
        fill: Box<Parameters>;
    0x25 = [(19, F|S|ST|RO|U), (20, F|S|ST|U|FILL)];
    0x26 = [(19, F|S|ST|RO|U), (20, F|S|ST|U|FILL)];
    0x27 = [(19, F|S|ST|RO|U), (20, F|S|ST|U|FILL)];
    0x28 = [(19, F|S|ST|RO|U), (20, F|S|ST|U|FILL)];
    0x29 = [(19, ST|U)];
    0x30 = [(15, P|SO), (16, NOWHERE)],
        /// DYNAMIC_GROUPS: NEW_GROUP_REQUEST has an effect (15; later a property).
        dynamic_groups: bool;
    0x32 = [(15, PO|S|U), (18, RO|S|U), (19, RO|S|U|ST), (20, S|U|ST)],
        /// NEW_GROUP_REQUEST: asks the publisher to begin a group after this one.
        new_group: u64;
    0x34 = [(18, U)],
        /// TRACK_NAMESPACE_PREFIX (18+): a new prefix for a SUBSCRIBE_NAMESPACE or SUBSCRIBE_TRACKS.
        prefix: Path;
    0x35 = [(20, S|T|F|ST)],
        /// INCLUDE_PROPERTIES (20+): whether the answer has the track's properties. Absent: yes.
        include_properties: bool;
}

impl Row {
    /// Whether the parameter is written in the block. A field of the message that has its meaning takes its
    /// place (14).
    fn is_allowed(&self, place: Places, draft: &Draft) -> Result<bool, EncodeError> {
        match self.places(draft) & place {
            NOWHERE if inline::has_field(self.0, place, draft) => Ok(false),
            NOWHERE => Err(EncodeError::NotInVersion),
            _ => Ok(true),
        }
    }
}

impl Codec for Parameters {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        Self::default().read_after(cursor, kind, draft)
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        for field in inline::fields(1 << kind as u32, draft) {
            self.write_field(*field, writer, draft)?;
        }
        self.write_block(writer, 1 << kind as u32, draft)
    }
}

impl Parameters {
    /// Reads the parameters of a message that come first: fields of FETCH and FETCH_OK (14).
    pub(super) fn read_early(
        cursor: &mut Cursor<'_>,
        kind: MessageType,
        draft: &Draft,
    ) -> Read<Self> {
        let mut early = Self::default();
        for field in inline::early_fields(kind, draft) {
            early.read_field(*field, cursor, draft)?;
        }
        Ok(early)
    }

    pub(super) fn write_early(
        &self,
        writer: &mut Writer<'_>,
        kind: MessageType,
        draft: &Draft,
    ) -> Written {
        for field in inline::early_fields(kind, draft) {
            self.write_field(*field, writer, draft)?;
        }
        Ok(())
    }

    /// Reads the remaining parameters of a message.
    pub(super) fn read_after(
        mut self,
        cursor: &mut Cursor<'_>,
        kind: MessageType,
        draft: &Draft,
    ) -> Read<Self> {
        for field in inline::fields(1 << kind as u32, draft) {
            self.read_field(*field, cursor, draft)?;
        }
        self.read_block(cursor, 1 << kind as u32, draft, |id| quirks::may_carry(id, kind, draft))?;
        Ok(self)
    }

    fn read_block(
        &mut self,
        cursor: &mut Cursor<'_>,
        place: Places,
        draft: &Draft,
        is_quirk: impl Fn(u64) -> bool,
    ) -> Read<()> {
        let count = cursor.varint()?;
        if count > MAX_PARAMETERS {
            return Err(DecodeError::TooMany);
        }
        let mut ignored = Self::default();
        let (mut id, mut seen) = (0_u64, 0_u64);
        for _ in 0..count {
            let base = if draft.has_type_deltas() { id } else { 0 };
            id = base.checked_add(cursor.varint()?).ok_or(DecodeError::BoundsExceeded)?;
            let known = ROWS.iter().find(|row| row.0 == id && row.places(draft) != NOWHERE);
            let Some(row) = known else {
                if draft.parameters >= ParameterForm::Delta {
                    return Err(DecodeError::UnknownParameter(id));
                }
                // Up to 15 unknown parameters are ignored.
                if id % 2 == 0 {
                    cursor.varint().map(drop)?
                } else {
                    cursor.block().map(drop)?
                }
                continue;
            };
            // All types are below 64. Only tokens and range filters may be repeated (*Message Parameters*).
            let may_repeat = id == AUTHORIZATION_TOKEN || RANGE_FILTERS.contains(&id);
            if seen & 1 << id != 0 && !may_repeat {
                return Err(DecodeError::Duplicate);
            }
            seen |= 1 << id;
            if quirks::is_absent(id, cursor, draft) {
                cursor.varint()?;
            } else if row.places(draft) & place != NOWHERE || is_quirk(id) {
                self.read_value(row, cursor, draft)?;
            } else if draft.has_typed_parameters() {
                // From 17 on a parameter in the wrong message ends the session. Up to 16 it is ignored,
                // but its value is still checked (*Message Parameters*).
                return Err(DecodeError::InvalidValue("parameter in this message"));
            } else {
                ignored.read_value(row, cursor, draft)?;
            }
        }
        let is_zero = |timeout: Option<Duration>| timeout.is_some_and(|it| it.is_zero());
        // On 16 the value 0 is invalid, and from 17 on it stands for no timeout.
        if draft.parameters == ParameterForm::Delta
            && (is_zero(self.delivery_timeout) || is_zero(ignored.delivery_timeout))
        {
            return Err(DecodeError::InvalidValue("delivery timeout"));
        }
        Ok(())
    }

    /// Writes the tokens, if this is their row.
    fn write_tokens(
        &self,
        row: Option<&Row>,
        pairs: &mut Pairs<'_, '_>,
        place: Places,
        draft: &Draft,
    ) -> Written {
        let Some(row) = row.filter(|row| row.0 == AUTHORIZATION_TOKEN) else { return Ok(()) };
        if self.tokens.is_empty() || !row.is_allowed(place, draft)? {
            return Ok(());
        }
        pairs.tokens(row.0, &self.tokens)
    }

    fn write_block(&self, writer: &mut Writer<'_>, place: Places, draft: &Draft) -> Written {
        let is_zero = self.delivery_timeout.is_some_and(|timeout| timeout.as_millis() == 0);
        if is_zero && draft.parameters == ParameterForm::Delta {
            return Err(EncodeError::InvalidValue("delivery timeout"));
        }
        if self.unusable.is_some() {
            return Err(EncodeError::InvalidValue("range filters"));
        }
        writer.prefixed(|writer| {
            let mut pairs = Pairs::new(writer, draft);
            self.write_values(&mut pairs, place, draft)?;
            Ok(pairs.count)
        })
    }
}

/// The value of a parameter. Up to 16 it is an integer if the type is even, and bytes if it is odd; from 17
/// on each type has its encoding (*Message Parameters*).
trait Value: Sized {
    fn decode(cursor: &mut Cursor<'_>, draft: &Draft) -> Read<Self>;

    fn encode(&self, writer: &mut Writer<'_>, draft: &Draft) -> Written;
}

macro_rules! values {
    ($($type:ty: |$cursor:ident, $read_draft:ident| $read:expr, |$value:ident, $writer:ident, $draft:ident| $write:expr;)*) => {
        $(impl Value for $type {
            fn decode($cursor: &mut Cursor<'_>, $read_draft: &Draft) -> Read<Self> {
                $read
            }

            fn encode(&self, $writer: &mut Writer<'_>, $draft: &Draft) -> Written {
                let $value = self;
                $write
            }
        })*
    };
}

values! {
    u64: |cursor, _draft| cursor.varint(), |value, writer, _draft| Ok(writer.varint(*value)?);
    Duration: |cursor, _draft| cursor.millis(), |value, writer, _draft| Ok(writer.millis(*value)?);
    bool: |cursor, draft| flag(read_byte(cursor, draft)?),
        |value, writer, draft| write_byte(writer, (*value).into(), draft);
    // A priority.
    u8: |cursor, draft| read_byte(cursor, draft).map(flip),
        |value, writer, draft| write_byte(writer, flip(*value), draft);
    GroupOrder: |cursor, draft| Self::from_u64(read_byte(cursor, draft)?.into()),
        |value, writer, draft| write_byte(writer, *value as u8, draft);
    Location: |cursor, draft| match draft.has_location_length {
        true => cursor.block()?.whole(Self::read),
        false => Self::read(cursor),
    }, |value, writer, draft| match draft.has_location_length {
        true => writer.block(|writer| (*value).write(writer)),
        false => (*value).write(writer),
    };
    Filter: |cursor, draft| match draft.filter {
        super::draft::FilterForm::Typed => Self::read(cursor, draft),
        _ => cursor.block()?.whole(|cursor| Self::read(cursor, draft)),
    }, |value, writer, draft| match draft.filter {
        super::draft::FilterForm::Typed => (*value).write(writer, draft),
        _ => writer.block(|writer| (*value).write(writer, draft)),
    };
    Path: |cursor, draft| Codec::read(cursor, MessageType::RequestUpdate, draft),
        |value, writer, draft| Codec::write(value, writer, MessageType::RequestUpdate, draft);
    Box<Parameters>: |cursor, draft| cursor.block()?.whole(|cursor| {
        let mut inside = Parameters::default();
        inside.read_block(cursor, FILL, draft, |_| false)?;
        Ok(Self::new(inside))
    }), |value, writer, draft| writer.block(|writer| value.write_block(writer, FILL, draft));
}

/// Reads a number of one byte. Up to 16 it is written as an integer.
fn read_byte(cursor: &mut Cursor<'_>, draft: &Draft) -> Read<u8> {
    if draft.has_typed_parameters() {
        return cursor.u8();
    }
    u8::try_from(cursor.varint()?).map_err(|_| DecodeError::BoundsExceeded)
}

fn write_byte(writer: &mut Writer<'_>, byte: u8, draft: &Draft) -> Written {
    if draft.has_typed_parameters() {
        writer.u8(byte);
        return Ok(());
    }
    Ok(writer.varint(byte.into())?)
}
