//! Properties of tracks and objects (*Properties*; up to 16 *Extension Headers*).

use core::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use super::draft::{Draft, ParameterForm, PropertyForm};
use super::fields::{Codec, GroupOrder, HeadWriter, Read, Written, encodable, flip};
use super::message::MessageType;
use super::token::MALFORMED_VALUE;
use crate::coding::cursor::{Cursor, from_millis};
use crate::coding::varint::{Form, Head};
use crate::coding::writer::{Writer, to_millis};
use crate::coding_error::{BoundsExceeded, DecodeError, EncodeError};
use crate::properties::{PairForm, Properties};
use crate::time::{Timescale, Timestamp};
use crate::version::Version;

const MAX_CACHE_DURATION: u64 = 0x04;
const TIMESCALE: u64 = 0x08;
const IMMUTABLE: u64 = 0x0b;
const DEFAULT_PUBLISHER_PRIORITY: u64 = 0x0e;
const DEFAULT_PUBLISHER_GROUP_ORDER: u64 = 0x22;
const DYNAMIC_GROUPS: u64 = 0x30;
const PRIOR_GROUP_ID_GAP: u64 = 0x3c;
const PRIOR_OBJECT_ID_GAP: u64 = 0x3e;

/// Types of track properties that a receiver must understand, in drafts that have them.
const MANDATORY: core::ops::RangeInclusive<u64> = 0x4000..=0x7fff;

/// LOC, *Timestamp*: the only object property that this crate uses.
const TIMESTAMP: u64 = 0x10;

/// Bytes of the longest value (*Key-Value-Pair Structure*).
const MAX_VALUE: u64 = 65_535;

impl Draft {
    /// How pairs are encoded.
    pub(crate) fn pair_form(&self) -> PairForm {
        match self.varint {
            Form::LeadingOnes17 => PairForm::Delta17,
            Form::LeadingOnes | Form::LeadingOnes62 => PairForm::Delta18,
            Form::Quic if self.parameters >= ParameterForm::Delta => PairForm::Delta,
            Form::Quic => PairForm::Absolute,
        }
    }
}

impl PairForm {
    fn varint(self) -> Form {
        match self {
            Self::Absolute | Self::Delta => Form::Quic,
            Self::Delta17 => Form::LeadingOnes17,
            Self::Delta18 => Form::LeadingOnes,
        }
    }

    /// The base of the next type, which is written as a difference.
    fn base(self, previous: u64) -> u64 {
        if self == Self::Absolute { 0 } else { previous }
    }
}

/// Reads so many key-value pairs, or all to the end of `cursor`, and passes each to `each`. From 16 on types are written
/// as differences. The value of an even type is an integer, that of an odd one is bytes (*Key-Value-Pair Structure*).
pub(super) fn read_pairs<'a>(
    cursor: &mut Cursor<'a>,
    form: PairForm,
    mut count: Option<u64>,
    mut each: impl FnMut(u64, Value<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut id = 0_u64;
    while count.map_or(cursor.remaining() > 0, |left| left > 0) {
        count = count.map(|left| left - 1);
        // The sum of the differences must fit in 64 bits (*Key-Value-Pair Structure*).
        id = form.base(id).checked_add(cursor.varint()?).ok_or(DecodeError::BoundsExceeded)?;
        each(id, Value::read(id, cursor)?)?;
    }
    Ok(())
}

/// The same for properties. Those in the list of immutable ones count like the others, and it can't contain
/// another list (*Immutable Properties*).
fn read_properties<'a>(
    cursor: &mut Cursor<'a>,
    form: PairForm,
    mut each: impl FnMut(u64, Value<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut seen = false;
    read_pairs(cursor, form, None, |id, value| match (id, value) {
        (IMMUTABLE, Value::Bytes(_)) if core::mem::replace(&mut seen, true) => Err(MALFORMED),
        (IMMUTABLE, Value::Bytes(list)) => {
            let inside = Cursor::of(list, form.varint()).whole(|cursor| {
                read_pairs(cursor, form, None, |id, value| match id {
                    IMMUTABLE => Err(MALFORMED),
                    _ => each(id, value),
                })
            });
            inside.map_err(|_| MALFORMED)
        }
        _ => each(id, value),
    })
}

/// Properties that make their track malformed (*Malformed Tracks*).
pub(crate) const MALFORMED: DecodeError = DecodeError::InvalidValue("properties");

impl Properties {
    /// The properties that this version encodes as these key-value pairs.
    ///
    /// # Errors
    ///
    /// [`DecodeError::NotInVersion`] on moq-lite, and otherwise the reason why they can't be read.
    pub fn new(pairs: &[u8], version: Version) -> Result<Self, DecodeError> {
        let draft = Draft::of(version).ok_or(DecodeError::NotInVersion)?;
        let form = draft.pair_form();
        Cursor::of(pairs, form.varint())
            .whole(|cursor| read_properties(cursor, form, |_, _| Ok(())))?;
        Ok(Self::of_pairs(pairs, form))
    }

    /// The key-value pairs as this version encodes them; empty on moq-lite. Those that the version can't express are left
    /// out.
    pub fn pairs(&self, version: Version) -> Bytes {
        let draft = Draft::of(version);
        draft.map_or(Bytes::new(), |draft| self.in_form(draft.pair_form(), usize::MAX))
    }

    /// The pairs in another encoding.
    ///
    /// No draft says how a relay between two drafts translates. Types and values stay as they are. A pair that the
    /// other encoding can't express is left out, and so is what no longer fits into `max` bytes. A list of immutable
    /// properties must not change, so that it is left out unless its bytes mean the same in both encodings.
    pub(crate) fn in_form(&self, form: PairForm, max: usize) -> Bytes {
        if self.form == form {
            return self.pairs.clone();
        }
        let mut pairs = SmallVec::<[(u64, Value<'_>); 8]>::new();
        // The pairs were checked when they arrived.
        let mut cursor = Cursor::of(&self.pairs, self.form.varint());
        let _ = read_pairs(&mut cursor, self.form, None, |id, value| {
            pairs.push((id, value));
            Ok(())
        });
        // Differences need types in order. The order of equal types stays.
        pairs.sort_by_key(|(id, _)| *id);
        let (mut out, mut previous) = (BytesMut::new(), 0);
        for (id, value) in pairs {
            let end = out.len();
            let written = value.write(&mut out, form, id, previous, self.form);
            match written.is_ok() && out.len() <= max {
                true => previous = id,
                false => out.truncate(end),
            }
        }
        out.freeze()
    }

    /// A timestamp alone.
    pub(crate) fn of_timestamp(timestamp: Timestamp, draft: &Draft) -> Self {
        Self::of_pairs(
            &timestamp_pair(timestamp, draft).expect("a timestamp has 61 bits"),
            draft.pair_form(),
        )
    }
}

/// The value of a key-value pair.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Integer(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn read(id: u64, cursor: &mut Cursor<'a>) -> Result<Self, DecodeError> {
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

    /// Appends a pair that was read in the encoding `from`.
    fn write(
        self,
        out: &mut BytesMut,
        form: PairForm,
        id: u64,
        previous: u64,
        from: PairForm,
    ) -> Result<(), BoundsExceeded> {
        let varint = form.varint();
        varint.write(out, id - form.base(previous))?;
        match self {
            Self::Integer(value) => varint.write(out, value),
            Self::Bytes(list) if id == IMMUTABLE && !is_same_in(list, from, form) => {
                Err(BoundsExceeded)
            }
            Self::Bytes(bytes) => {
                varint.write(out, bytes.len() as u64)?;
                out.put_slice(bytes);
                Ok(())
            }
        }
    }
}

/// Whether these pairs mean the same in both encodings.
fn is_same_in(pairs: &[u8], from: PairForm, form: PairForm) -> bool {
    Properties::of_pairs(pairs, from).in_form(form, pairs.len()) == pairs
}

/// Bytes of the longest properties of a track that is accepted.
const MAX_TRACK: usize = 16 << 10;

/// Track properties: declarations of the publisher about a track.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackProperties {
    /// MAX_CACHE_DURATION: how long objects may be cached. Absent: without bound.
    pub max_cache: Option<Duration>,
    /// TIMESCALE of the timestamps (LOC). Absent: the objects have none.
    pub timescale: Option<Timescale>,
    /// DEFAULT_PUBLISHER_PRIORITY; higher is more important. Absent: 127 (128 on the wire).
    pub priority: Option<u8>,
    /// DEFAULT_PUBLISHER_GROUP_ORDER. Absent: ascending.
    pub order: Option<GroupOrder>,
    /// DYNAMIC_GROUPS: NEW_GROUP_REQUEST has an effect. Absent: no.
    pub dynamic_groups: Option<bool>,
    /// The type of a property for which the track must not be used: a mandatory one that this crate does not know
    /// ([`UNSUPPORTED_EXTENSION`](super::UNSUPPORTED_EXTENSION)), or a malformed list. It can't be encoded.
    pub unusable: Option<u64>,
    /// All properties, if there are others than these. They are encoded in place of the fields.
    pub all: Option<Properties>,
}

impl Codec for TrackProperties {
    /// They extend to the end of the message.
    fn read(cursor: &mut Cursor<'_>, _: MessageType, draft: &Draft) -> Read<Self> {
        if draft.properties == PropertyForm::None {
            return Ok(Self::default());
        }
        let (mut properties, form) = (Self::default(), draft.pair_form());
        let bytes = cursor.bytes(cursor.remaining() as u64)?;
        let read = Cursor::of(bytes, draft.varint).whole(|cursor| {
            read_properties(cursor, form, |id, value| properties.add(id, value, draft))
        });
        match read {
            Ok(()) => {}
            // It makes one track malformed, and does not concern the session.
            Err(MALFORMED) => properties.unusable = Some(IMMUTABLE),
            Err(error) => return Err(error),
        }
        if bytes.len() > MAX_TRACK {
            properties.unusable.get_or_insert(0);
        }
        if properties.unusable.is_none() && properties.fields(form).as_deref() != Ok(bytes) {
            properties.all = Some(Properties::of_pairs(bytes, form));
        }
        Ok(properties)
    }

    fn write(&self, writer: &mut Writer<'_>, _: MessageType, draft: &Draft) -> Written {
        if self.unusable.is_some() {
            return Err(EncodeError::InvalidValue("property"));
        }
        if draft.properties == PropertyForm::None {
            return encodable(*self == Self::default());
        }
        let form = draft.pair_form();
        match &self.all {
            Some(all) => writer.bytes(&all.in_form(form, MAX_TRACK)),
            None => writer.bytes(&self.fields(form)?),
        }
        Ok(())
    }
}

impl TrackProperties {
    fn add(&mut self, id: u64, value: Value<'_>, draft: &Draft) -> Result<(), DecodeError> {
        match (id, value) {
            (MAX_CACHE_DURATION, Value::Integer(millis)) => {
                self.max_cache = Some(from_millis(millis));
            }
            (TIMESCALE, Value::Integer(units)) => {
                let timescale = Timescale::new(units);
                self.timescale = Some(timescale.ok_or(MALFORMED_VALUE)?);
            }
            (DEFAULT_PUBLISHER_PRIORITY, Value::Integer(priority)) => {
                let priority = u8::try_from(priority).map_err(|_| MALFORMED_VALUE)?;
                self.priority = Some(flip(priority));
            }
            (DEFAULT_PUBLISHER_GROUP_ORDER, Value::Integer(order)) => {
                self.order = Some(GroupOrder::from_u64(order)?);
            }
            (DYNAMIC_GROUPS, Value::Integer(2..)) => {
                return Err(DecodeError::InvalidValue("dynamic groups"));
            }
            (DYNAMIC_GROUPS, Value::Integer(flag)) => self.dynamic_groups = Some(flag == 1),
            // The property is only reported. Whether it makes the track unusable depends on the message.
            _ if draft.properties >= PropertyForm::Answers && MANDATORY.contains(&id) => {
                self.unusable.get_or_insert(id);
            }
            _ => {}
        }
        Ok(())
    }

    /// The fields as pairs.
    fn fields(&self, form: PairForm) -> Result<SmallVec<[u8; 48]>, BoundsExceeded> {
        let mut out = SmallVec::new();
        let mut previous = 0;
        for (id, value) in [
            (MAX_CACHE_DURATION, self.max_cache.map(to_millis)),
            (TIMESCALE, self.timescale.map(Timescale::units)),
            (DEFAULT_PUBLISHER_PRIORITY, self.priority.map(|priority| flip(priority).into())),
            (DEFAULT_PUBLISHER_GROUP_ORDER, self.order.map(|order| order as u64)),
            (DYNAMIC_GROUPS, self.dynamic_groups.map(u64::from)),
        ] {
            if let Some(value) = value {
                let mut pair = Head::<2>::of(form.varint());
                pair.push(id - form.base(previous))?;
                pair.push(value)?;
                out.extend_from_slice(&pair);
                previous = id;
            }
        }
        Ok(out)
    }

    /// The properties as a relay passes them on. Where the draft has none, parameters have their place.
    pub(crate) fn to_pass_on(&self, draft: &Draft) -> Properties {
        let form = draft.pair_form();
        let fields = || Properties::of_pairs(&self.fields(form).unwrap_or_default(), form);
        self.all.clone().unwrap_or_else(fields)
    }
}

/// Bytes of the longest block of object properties that is accepted. A block is read as a whole, so its
/// size must have a bound.
pub(crate) const MAX_BLOCK: usize = 4_096;

/// The properties of an object.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ObjectProperties<'a> {
    pub(super) timestamp: Option<Timestamp>,
    /// All pairs, if there are others than the timestamp.
    pub(super) all: Option<&'a [u8]>,
    pub(super) any: bool,
}

/// Reads the block of an object's properties, if it has one: its length and the pairs.
pub(super) fn read_object<'a>(
    cursor: &mut Cursor<'a>,
    has_block: bool,
    draft: &Draft,
) -> Result<ObjectProperties<'a>, DecodeError> {
    if !has_block {
        return Ok(ObjectProperties::default());
    }
    let len = cursor.varint()?;
    if len > MAX_BLOCK as u64 {
        return Err(DecodeError::TooLong);
    }
    let block = cursor.bytes(len)?;
    let (mut timestamp, mut gaps) = (None, [false; 2]);
    Cursor::of(block, draft.varint).whole(|cursor| {
        read_properties(cursor, draft.pair_form(), |id, value| match (id, value) {
            // One that a timestamp here can't hold is only passed on.
            (TIMESTAMP, Value::Integer(units)) if units <= Timestamp::MAX.units() => {
                timestamp = Some(Timestamp::new(units));
                Ok(())
            }
            // An object has each of them at most once.
            (PRIOR_GROUP_ID_GAP | PRIOR_OBJECT_ID_GAP, _) => {
                let gap = &mut gaps[usize::from(id == PRIOR_OBJECT_ID_GAP)];
                if core::mem::replace(gap, true) { Err(MALFORMED) } else { Ok(()) }
            }
            _ => Ok(()),
        })
    })?;
    let alone = timestamp.and_then(|timestamp| timestamp_pair(timestamp, draft).ok());
    let all = Some(block).filter(|block| !block.is_empty() && alone.as_deref() != Some(*block));
    Ok(ObjectProperties { timestamp, all, any: len > 0 })
}

fn timestamp_pair(timestamp: Timestamp, draft: &Draft) -> Result<Head<2>, BoundsExceeded> {
    let mut pair = Head::of(draft.varint);
    pair.push(TIMESTAMP)?;
    pair.push(timestamp.units())?;
    Ok(pair)
}

/// Appends a block: its length, and all pairs, or the timestamp if there is one.
pub(super) fn push_object(
    head: &mut HeadWriter<'_>,
    draft: &Draft,
    timestamp: Option<Timestamp>,
    all: Option<&[u8]>,
) -> Result<(), EncodeError> {
    match (all, timestamp) {
        (Some(all), _) => head.push_block(all)?,
        (None, Some(timestamp)) => head.push_block(&timestamp_pair(timestamp, draft)?)?,
        (None, None) => head.push(0)?,
    }
    Ok(())
}
