//! Reading fields one behind the other.

use core::time::Duration;

use super::DecodeError;
use super::varint::{self, Form};
use crate::path::Path;

/// Reads fields from the front of contiguous bytes.
///
/// Where the bytes end before the field does, the answer is [`DecodeError::Short`]; inside of a
/// message, which is whole before it is read, that becomes [`DecodeError::Truncated`].
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
    form: Form,
}

impl<'a> Cursor<'a> {
    /// Starts at the front of `bytes`; integers are in QUIC's form.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self::of(bytes, Form::Quic)
    }

    /// Starts at the front of `bytes`, with integers in this form.
    pub const fn of(bytes: &'a [u8], form: Form) -> Self {
        Self { rest: bytes, form }
    }

    /// Reads all of it, and nothing behind it.
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

    /// Reads what may not be all there yet: `None` if more bytes are needed, else the value and how
    /// many bytes it took.
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

    /// Bytes that were not read yet.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// [`DecodeError::TrailingBytes`] unless everything was read.
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

    /// Bytes behind their length, to be read on their own.
    pub(super) fn block(&mut self) -> Result<Self, DecodeError> {
        let len = self.varint()?;
        self.sub(len)
    }

    /// The next `len` bytes, to be read on their own.
    pub(super) fn sub(&mut self, len: u64) -> Result<Self, DecodeError> {
        Ok(Self { rest: self.bytes(len)?, form: self.form })
    }

    /// UTF-8 text behind its length in bytes.
    pub fn string(&mut self) -> Result<&'a str, DecodeError> {
        let len = self.varint()?;
        core::str::from_utf8(self.bytes(len)?).map_err(|_| DecodeError::InvalidString)
    }

    /// A path, normalised; [`DecodeError::TooMany`] if it has more segments than `max_segments`.
    pub fn path(&mut self, max_segments: usize) -> Result<Path, DecodeError> {
        let text = self.string()?;
        let mut segments = text.split('/').filter(|segment| !segment.is_empty());
        if segments.nth(max_segments).is_some() {
            return Err(DecodeError::TooMany);
        }
        Ok(Path::new(text))
    }

    /// An integer that may be absent: 0, or one more than the value.
    pub fn option(&mut self) -> Result<Option<u64>, DecodeError> {
        Ok(self.varint()?.checked_sub(1))
    }

    /// Whole milliseconds. [`varint::MAX`] and above stand for no bound: [`Duration::MAX`].
    pub fn millis(&mut self) -> Result<Duration, DecodeError> {
        self.varint().map(from_millis)
    }

    /// Whole milliseconds that may be absent. [`varint::MAX`] - 1 and above stand for no bound.
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

/// One more is the largest number.
const LONGEST_OPTION: u64 = varint::MAX - 1;

pub(super) const fn from_millis(millis: u64) -> Duration {
    if millis < varint::MAX { Duration::from_millis(millis) } else { Duration::MAX }
}
