//! Reading one field after the other.

use core::time::Duration;

use super::varint::{self, Form};
use crate::coding_error::DecodeError;
use crate::path::Path;

/// Fails for messages that the version does not have.
pub(super) const fn decodable(in_version: bool) -> Result<(), DecodeError> {
    if in_version { Ok(()) } else { Err(DecodeError::NotInVersion) }
}

/// Reads fields from the front of contiguous bytes.
///
/// If the bytes end within a field, the result is [`DecodeError::Short`]. A message is complete before it
/// is read, so inside of one this becomes [`DecodeError::Truncated`].
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
    form: Form,
}

impl<'a> Cursor<'a> {
    /// Starts at the front of `bytes`, with integers in QUIC's form.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self::of(bytes, Form::Quic)
    }

    /// Starts at the front of `bytes`, with integers in this form.
    pub const fn of(bytes: &'a [u8], form: Form) -> Self {
        Self { rest: bytes, form }
    }

    /// Reads everything; bytes that remain are an error.
    pub(super) fn whole<T>(
        mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let message = read(&mut self).map_err(|error| match error {
            DecodeError::Short => DecodeError::Truncated,
            other => other,
        })?;
        self.finish()?;
        Ok(message)
    }

    /// Reads a value that may be incomplete: `None` if more bytes are needed, otherwise the value and the
    /// number of bytes consumed.
    pub(super) fn begin<T>(
        mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<(T, usize)>, DecodeError> {
        let before = self.remaining();
        match read(&mut self) {
            Ok(value) => Ok(Some((value, before - self.remaining()))),
            Err(DecodeError::Short) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The number of bytes that remain.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// [`DecodeError::TrailingBytes`] if bytes remain.
    pub const fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }

    /// One raw byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        let (&byte, rest) = self.rest.split_first().ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(byte)
    }

    /// A variable-length integer.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        // The form of 7 bytes closes a session of draft 17 (*Variable-Length Integers*).
        if self.form == Form::LeadingOnes17 && matches!(self.rest.first(), Some(0xfc | 0xfd)) {
            return Err(DecodeError::InvalidValue("integer"));
        }
        let (value, len) = self.form.read(self.rest).ok_or(DecodeError::Short)?;
        self.rest = &self.rest[len..];
        if value > self.form.max() { Err(DecodeError::BoundsExceeded) } else { Ok(value) }
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: u64) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(len).map_err(|_| DecodeError::Short)?;
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A length and that many bytes, to be read on their own.
    pub(super) fn block(&mut self) -> Result<Self, DecodeError> {
        let len = self.varint()?;
        self.sub(len)
    }

    /// The next `len` bytes, to be read on their own.
    pub(super) fn sub(&mut self, len: u64) -> Result<Self, DecodeError> {
        Ok(Self { rest: self.bytes(len)?, form: self.form })
    }

    /// UTF-8 text, preceded by its length in bytes.
    pub fn string(&mut self) -> Result<&'a str, DecodeError> {
        let len = self.varint()?;
        core::str::from_utf8(self.bytes(len)?).map_err(|_| DecodeError::InvalidString)
    }

    /// A path, normalized.
    ///
    /// # Errors
    ///
    /// [`DecodeError::TooMany`] if it has more than `max_segments` segments.
    pub fn path(&mut self, max_segments: usize) -> Result<Path, DecodeError> {
        let text = self.string()?;
        let mut segments = text.split('/').filter(|segment| !segment.is_empty());
        if segments.nth(max_segments).is_some() {
            return Err(DecodeError::TooMany);
        }
        Ok(Path::new(text))
    }

    /// An optional integer: 0 for `None`, otherwise one more than the value.
    pub fn option(&mut self) -> Result<Option<u64>, DecodeError> {
        Ok(self.varint()?.checked_sub(1))
    }

    /// Whole milliseconds. [`varint::MAX`] and larger values stand for no bound: [`Duration::MAX`].
    pub fn millis(&mut self) -> Result<Duration, DecodeError> {
        self.varint().map(from_millis)
    }

    /// Optional whole milliseconds. [`varint::MAX`] - 1 and larger values stand for no bound.
    pub(super) fn option_millis(&mut self) -> Result<Option<Duration>, DecodeError> {
        Ok(self.option()?.map(|millis| match millis {
            LONGEST_OPTION.. => Duration::MAX,
            millis => Duration::from_millis(millis),
        }))
    }

    /// A signed number, see [`varint::zigzag`].
    pub fn zigzag(&mut self) -> Result<i64, DecodeError> {
        self.varint().map(varint::unzigzag)
    }
}

/// The largest optional integer. On the wire it is one higher.
const LONGEST_OPTION: u64 = varint::MAX - 1;

pub(super) const fn from_millis(millis: u64) -> Duration {
    if millis < varint::MAX { Duration::from_millis(millis) } else { Duration::MAX }
}
