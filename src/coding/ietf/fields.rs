//! Fields that several messages share.

use alloc::boxed::Box;

use smallvec::SmallVec;

use super::draft::Draft;
use super::message::MessageType;
use super::token::TokenReference;
use crate::coding::cursor::Cursor;
use crate::coding::varint::Head;
use crate::coding::writer::Writer;
pub(super) use crate::coding::writer::encodable;
use crate::coding_error::{BoundsExceeded, DecodeError, EncodeError};

pub(super) type Read<T> = Result<T, DecodeError>;
pub(super) type Written = Result<(), EncodeError>;

/// The position of an object in its track, ordered by group and then by object (*Location Structure*).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// Number of the group.
    pub group: u64,
    /// Number of the object in the group.
    pub object: u64,
}

impl Location {
    /// The position of an object in a group.
    pub const fn new(group: u64, object: u64) -> Self {
        Self { group, object }
    }

    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        Ok(Self { group: cursor.varint()?, object: cursor.varint()? })
    }

    pub(super) fn write(self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.varint(self.group)?;
        Ok(writer.varint(self.object)?)
    }
}

/// Which of several groups is delivered first (*Group Order*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupOrder {
    /// The oldest.
    Ascending = 1,
    /// The newest.
    Descending = 2,
}

impl GroupOrder {
    pub(super) const fn from_u64(order: u64) -> Result<Self, DecodeError> {
        match order {
            1 => Ok(Self::Ascending),
            2 => Ok(Self::Descending),
            _ => Err(DecodeError::InvalidValue("group order")),
        }
    }
}

/// Converts a priority between the wire, where 0 is the most urgent, and this crate, where 255 is.
pub(super) const fn flip(priority: u8) -> u8 {
    u8::MAX - priority
}

/// A message, or a field whose type determines its encoding.
pub(super) trait Codec: Sized {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self>;

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written;
}

/// Implements [`Codec`] for a message whose fields follow each other on the wire in this order. A field after
/// `@` is the id of a request that begins. Fields in brackets are written together, in a form of their own.
macro_rules! layout {
    ($message:ident {
        $(@$id:ident,)? $($([$($part:ident),+] $form:ident)? $($field:ident)?),*
    }) => {
        impl Codec for $message {
            fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
                $(let $id = super::fields::read_id(cursor, draft)?;)?
                $($(let ($($part,)+) = $form::read(cursor, kind, draft)?;)?
                $(let $field = Codec::read(cursor, kind, draft)?;)?)*
                Ok(Self { $($id,)? $($($($part,)+)? $($field,)?)* })
            }

            fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
                $(super::fields::write_id(writer, self.$id, draft)?;)?
                $($($form::write(writer, ($(&self.$part,)+), kind, draft)?;)?
                $(self.$field.write(writer, kind, draft)?;)?)*
                Ok(())
            }
        }
    };
}
pub(super) use layout;

/// The id of a request that begins. On 17 it is followed by the difference to the id of a request that must
/// be processed before. Here requests are processed as they arrive, and depend on no other.
pub(super) fn read_id(cursor: &mut Cursor<'_>, draft: &Draft) -> Read<u64> {
    let id = cursor.varint()?;
    if draft.required_delta && cursor.varint()? > id {
        return Err(DecodeError::InvalidValue("required request id"));
    }
    Ok(id)
}

pub(super) fn write_id(writer: &mut Writer<'_>, id: u64, draft: &Draft) -> Written {
    writer.varint(id)?;
    if draft.required_delta {
        writer.varint(0)?;
    }
    Ok(())
}

/// The bytes before the payload of an object.
pub type HeadBytes = SmallVec<[u8; 32]>;

/// Writes the fields before the payload of an object.
pub(super) struct HeadWriter<'a> {
    pub(super) bytes: HeadBytes,
    draft: &'a Draft,
}

impl<'a> HeadWriter<'a> {
    pub(super) fn new(draft: &'a Draft) -> Self {
        Self { bytes: HeadBytes::new(), draft }
    }

    pub(super) fn push(&mut self, value: u64) -> Result<(), BoundsExceeded> {
        let mut head = Head::<1>::of(self.draft.varint);
        head.push(value)?;
        self.bytes.extend_from_slice(&head);
        Ok(())
    }

    pub(super) fn push_u8(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Appends the length of `block`, and its bytes.
    pub(super) fn push_block(&mut self, block: &[u8]) -> Result<(), BoundsExceeded> {
        self.push(block.len() as u64)?;
        self.bytes.extend_from_slice(block);
        Ok(())
    }
}

/// Writes the types of key-value pairs, and counts them.
pub(super) struct Pairs<'a, 'b> {
    pub(super) writer: &'a mut Writer<'b>,
    pub(super) count: u64,
    previous: Option<u64>,
}

impl<'a, 'b> Pairs<'a, 'b> {
    pub(super) fn new(writer: &'a mut Writer<'b>, draft: &Draft) -> Self {
        Self { writer, count: 0, previous: Some(0).filter(|_| draft.has_type_deltas()) }
    }

    /// Writes the type of the next pair. Differences require ascending types.
    pub(super) fn begin(&mut self, id: u64) -> Written {
        let written = id.checked_sub(self.previous.unwrap_or(0));
        self.writer.varint(written.ok_or(EncodeError::InvalidValue("order of types"))?)?;
        self.previous = self.previous.map(|_| id);
        self.count += 1;
        Ok(())
    }

    /// Writes a number, unless it is the default.
    pub(super) fn number(&mut self, id: u64, value: u64) -> Written {
        if value > 0 {
            self.begin(id)?;
            self.writer.varint(value)?;
        }
        Ok(())
    }

    pub(super) fn text(&mut self, id: u64, text: &Option<Box<str>>) -> Written {
        if let Some(text) = text {
            self.begin(id)?;
            self.writer.string(text)?;
        }
        Ok(())
    }

    /// Writes a pair for each token.
    pub(super) fn tokens(&mut self, id: u64, tokens: &[TokenReference]) -> Written {
        for token in tokens {
            self.begin(id)?;
            token.write(self.writer)?;
        }
        Ok(())
    }
}

/// A variable-length integer.
impl Codec for u64 {
    fn read(cursor: &mut Cursor<'_>, _: MessageType, _: &Draft) -> Read<Self> {
        cursor.varint()
    }

    fn write(&self, writer: &mut Writer<'_>, _: MessageType, _: &Draft) -> Written {
        Ok(writer.varint(*self)?)
    }
}

/// The id of the request that a message refers to. From 17 on it is not on the wire, because the message
/// is on the stream of its request.
impl Codec for Option<u64> {
    fn read(cursor: &mut Cursor<'_>, _: MessageType, draft: &Draft) -> Read<Self> {
        if draft.has_request_streams() { Ok(None) } else { cursor.varint().map(Some) }
    }

    fn write(&self, writer: &mut Writer<'_>, _: MessageType, draft: &Draft) -> Written {
        if draft.has_request_streams() {
            return Ok(());
        }
        Ok(writer.varint(self.ok_or(EncodeError::InvalidValue("request id"))?)?)
    }
}

/// A flag of one byte.
pub(super) fn flag(byte: u8) -> Read<bool> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::InvalidValue("flag")),
    }
}

/// A reason phrase: text for humans (*Reason Phrase Structure*).
impl Codec for Box<str> {
    fn read(cursor: &mut Cursor<'_>, _: MessageType, _: &Draft) -> Read<Self> {
        read_text(cursor, MAX_REASON)
    }

    fn write(&self, writer: &mut Writer<'_>, _: MessageType, _: &Draft) -> Written {
        write_text(writer, self, MAX_REASON)
    }
}

/// Bytes of the longest reason phrase.
const MAX_REASON: usize = 1_024;

/// Bytes of the longest URI (*GOAWAY*).
pub(super) const MAX_URI: usize = 8_192;

pub(super) fn read_text(cursor: &mut Cursor<'_>, max: usize) -> Read<Box<str>> {
    let text = cursor.string()?;
    if text.len() > max { Err(DecodeError::TooLong) } else { Ok(text.into()) }
}

pub(super) fn write_text(writer: &mut Writer<'_>, text: &str, max: usize) -> Written {
    if text.len() > max { Err(EncodeError::TooLong) } else { Ok(writer.string(text)?) }
}
