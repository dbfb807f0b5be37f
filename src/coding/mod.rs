//! The bytes of the protocol: integers, messages and frames of every version, without any state.
//!
//! Decoding is total: whatever the bytes are, the answer is a value or a [`DecodeError`], and no more
//! memory is taken than the bytes themselves fill. A stream's front is read by what can answer "need
//! more" ([`lite::frame_message`], [`lite::FrameHead::read`] and their like in [`ietf`]); a message's
//! body only when all of it is there.

pub mod cursor;
pub mod ietf;
pub mod lite;
pub mod varint;
mod writer;

pub use cursor::Cursor;
#[cfg(feature = "std")]
pub(crate) use writer::MAX_SEGMENTS;

/// A value does not fit in 62 bits, which is all that a variable-length integer of QUIC can carry
/// (RFC 9000 section 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a value does not fit in 62 bits")]
pub struct BoundsExceeded;

/// What is wrong with received bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end before the value does, and more may come: only [`Cursor`] says so.
    #[error("need more bytes")]
    Short,
    /// A message ends before its last field does.
    #[error("message shorter than its fields")]
    Truncated,
    /// A message goes on behind its last field.
    #[error("message longer than its fields")]
    TrailingBytes,
    /// Text that is not UTF-8.
    #[error("text is not UTF-8")]
    InvalidString,
    /// The named field has a value that the version does not allow.
    #[error("invalid {0}")]
    InvalidValue(&'static str),
    /// A namespace or track name of moq-transport that has no counterpart here: it is not UTF-8, or a
    /// field of the namespace is empty or ends with a slash. That concerns one message, not the session.
    #[error("name is not text")]
    InvalidName,
    /// No message of this type belongs here.
    #[error("unknown message type {0:#x}")]
    UnknownMessage(u64),
    /// A parameter of a message that the version does not have, where unknown ones are not skipped.
    #[error("unknown parameter {0:#x}")]
    UnknownParameter(u64),
    /// A message or text is longer than its limit.
    #[error("too long")]
    TooLong,
    /// More hops, path segments or parameters than allowed.
    #[error("too many elements")]
    TooMany,
    /// A parameter is there twice.
    #[error("duplicate parameter")]
    Duplicate,
    /// A number is out of its range.
    #[error("number out of range")]
    BoundsExceeded,
    /// The version has no such message.
    #[error("not in this version")]
    NotInVersion,
}

impl From<BoundsExceeded> for DecodeError {
    fn from(_: BoundsExceeded) -> Self {
        Self::BoundsExceeded
    }
}

/// Why something can't be written. Nothing was written then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A number does not fit in 62 bits.
    #[error("{}", BoundsExceeded)]
    BoundsExceeded,
    /// Text is longer than what peers take.
    #[error("too long")]
    TooLong,
    /// More path segments than what peers take.
    #[error("too many elements")]
    TooMany,
    /// The version has no such message, or no field that could say this.
    #[error("not in this version")]
    NotInVersion,
    /// The named field has a value that no version allows.
    #[error("invalid {0}")]
    InvalidValue(&'static str),
}

impl From<BoundsExceeded> for EncodeError {
    fn from(_: BoundsExceeded) -> Self {
        Self::BoundsExceeded
    }
}
