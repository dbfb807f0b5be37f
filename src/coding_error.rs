//! Errors of decoding and encoding.

/// A value does not fit in 62 bits, the size of QUIC's variable-length integers (RFC 9000 section 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value does not fit in 62 bits")]
pub struct BoundsExceeded;

/// Why received bytes can't be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end within the value, and more may come. Only `coding::Cursor` returns it.
    #[error("more bytes are needed")]
    Short,
    /// The message ends before its last field.
    #[error("the message ends before its last field")]
    Truncated,
    /// The message continues after its last field.
    #[error("the message continues after its last field")]
    TrailingBytes,
    /// The text is not UTF-8.
    #[error("the text is not UTF-8")]
    InvalidString,
    /// The version does not allow the value of the named field.
    #[error("invalid {0}")]
    InvalidValue(&'static str),
    /// A namespace or track name of moq-transport has no counterpart in this crate: it is not UTF-8, or a
    /// field of the namespace is empty or ends with a slash. This concerns one message, not the session.
    #[error("the name can't be represented as text")]
    InvalidName,
    /// The type of the message is unknown, or not allowed on its stream.
    #[error("unknown message type {0:#x}")]
    UnknownMessage(u64),
    /// The version does not have the parameter, and does not allow unknown ones.
    #[error("unknown parameter {0:#x}")]
    UnknownParameter(u64),
    /// A message or text is longer than its limit.
    #[error("the message or text is too long")]
    TooLong,
    /// There are more hops, path segments or parameters than allowed.
    #[error("there are too many elements")]
    TooMany,
    /// A parameter occurs twice.
    #[error("a parameter occurs twice")]
    Duplicate,
    /// A number is out of its range.
    #[error("a number is out of range")]
    BoundsExceeded,
    /// The version does not have the message.
    #[error("the version does not have the message")]
    NotInVersion,
}

impl From<BoundsExceeded> for DecodeError {
    fn from(_: BoundsExceeded) -> Self {
        Self::BoundsExceeded
    }
}

/// Why a message can't be encoded. Nothing is written in that case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A number does not fit in 62 bits.
    #[error("{}", BoundsExceeded)]
    BoundsExceeded,
    /// The text is longer than peers accept.
    #[error("the message or text is too long")]
    TooLong,
    /// The path has more segments than peers accept.
    #[error("the path has too many segments")]
    TooMany,
    /// The version does not have the message, or a field for one of its values.
    #[error("the version can't express the message")]
    NotInVersion,
    /// No version allows the value of the named field.
    #[error("invalid {0}")]
    InvalidValue(&'static str),
}

impl From<BoundsExceeded> for EncodeError {
    fn from(_: BoundsExceeded) -> Self {
        Self::BoundsExceeded
    }
}
