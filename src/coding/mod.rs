//! The encoding of the protocol: integers, messages and frames of every version, without any state.
//!
//! Decoding is total: any bytes give a value or a [`DecodeError`], and the memory used is proportional to
//! the bytes. The front of a stream is read by functions that can return "more bytes are needed"
//! ([`lite::frame_message`], [`lite::FrameHead::read`] and their counterparts in [`ietf`]). The body of a
//! message is read only when it is complete.

pub mod cursor;
pub mod ietf;
pub mod lite;
pub mod varint;
mod writer;

pub use crate::coding_error::{BoundsExceeded, DecodeError, EncodeError};
pub use cursor::Cursor;
#[cfg(feature = "std")]
pub(crate) use writer::MAX_SEGMENTS;
