//! Variable-length integers in two forms, and the folding of signed numbers.
//!
//! The functions handle QUIC's form (RFC 9000 section 16), and [`Form`] handles both.

use core::fmt;
use core::ops::Deref;

use bytes::BufMut;

use crate::coding_error::BoundsExceeded;

/// The largest value of QUIC's form, 2^62-1. Messages are written with no larger value in any form, because
/// deployed peers accept none.
pub const MAX: u64 = (1 << 62) - 1;

/// The number of bytes of the shortest form of `value`: 1, 2, 4 or 8. It is 8 for values that are too
/// large.
pub const fn len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// Appends the shortest form of `value`.
///
/// # Errors
///
/// [`BoundsExceeded`] above [`MAX`]. Nothing is written then.
///
/// # Panics
///
/// If `out` is full and can't grow, like every method of [`BufMut`].
pub fn write(out: &mut impl BufMut, value: u64) -> Result<(), BoundsExceeded> {
    if value > MAX {
        return Err(BoundsExceeded);
    }
    match len(value) {
        1 => out.put_u8(value as u8),
        2 => out.put_u16(value as u16 | 1 << 14),
        4 => out.put_u32(value as u32 | 2 << 30),
        _ => out.put_u64(value | 3 << 62),
    }
    Ok(())
}

/// The value at the start of `bytes` and the number of its bytes, or `None` if more bytes are needed. It
/// need not be in its shortest form.
pub fn read(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let len = 1 << (first >> 6);
    let tail = bytes.get(1..len)?;
    let value =
        tail.iter().fold(u64::from(first & 0x3f), |value, &byte| value << 8 | u64::from(byte));
    Some((value, len))
}

/// How the first byte encodes the length of an integer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// In the two highest bits: 1, 2, 4 or 8 bytes for at most 62 bits (RFC 9000 section 16).
    #[default]
    Quic,
    /// In the number of leading ones: 1 to 9 bytes for 64 bits (moq-transport 17+, *Variable-Length
    /// Integers*). The form of 7 bytes is read but not written, because draft 17 does not have it.
    LeadingOnes,
    /// The same without the form of 7 bytes (moq-transport 17).
    LeadingOnes17,
    /// The same as [`LeadingOnes`](Self::LeadingOnes) with at most 62 bits, which deployed peers accept
    /// (moq-lite 07).
    LeadingOnes62,
}

impl Form {
    /// The largest value of the form.
    pub const fn max(self) -> u64 {
        match self {
            Self::Quic | Self::LeadingOnes62 => MAX,
            Self::LeadingOnes | Self::LeadingOnes17 => u64::MAX,
        }
    }

    /// The number of bytes that [`Form::write`] writes for `value`.
    pub const fn len(self, value: u64) -> usize {
        match self {
            Self::Quic => len(value),
            Self::LeadingOnes | Self::LeadingOnes17 | Self::LeadingOnes62 => {
                match 64 - value.leading_zeros() {
                    0..=7 => 1,
                    bits @ 8..=42 => bits.div_ceil(7) as usize,
                    43..=56 => 8,
                    _ => 9,
                }
            }
        }
    }

    /// Appends the shortest form of `value` that all drafts have.
    ///
    /// # Errors
    ///
    /// [`BoundsExceeded`] above [`Form::max`]. Nothing is written then.
    ///
    /// # Panics
    ///
    /// If `out` is full and can't grow, like every method of [`BufMut`].
    pub fn write(self, out: &mut impl BufMut, value: u64) -> Result<(), BoundsExceeded> {
        match self {
            Self::Quic => return write(out, value),
            Self::LeadingOnes62 if value > MAX => return Err(BoundsExceeded),
            Self::LeadingOnes | Self::LeadingOnes17 | Self::LeadingOnes62 => {
                match self.len(value) {
                    9 => {
                        out.put_u8(0xff);
                        out.put_u64(value);
                    }
                    len => {
                        let tail = len - 1;
                        let ones = 0xff00_u64 >> tail & 0xff;
                        out.put_uint(ones << (8 * tail) | value, len);
                    }
                }
            }
        }
        Ok(())
    }

    /// The value at the start of `bytes` and the number of its bytes, or `None` if more bytes are needed.
    /// The value need not be in its shortest form, and may be above [`Form::max`], which
    /// [`Cursor`](super::Cursor) rejects.
    pub fn read(self, bytes: &[u8]) -> Option<(u64, usize)> {
        if self == Self::Quic {
            return read(bytes);
        }
        let first = *bytes.first()?;
        let ones = first.leading_ones();
        let len = 1 + ones as usize;
        let tail = bytes.get(1..len)?;
        let high = u64::from(first) & 0x7f >> ones;
        Some((tail.iter().fold(high, |value, &byte| value << 8 | u64::from(byte)), len))
    }
}

/// Folds a signed number, -2^61 to 2^61-1, into an unsigned one that is small if the absolute value is
/// small (moq-lite 05+, FRAME).
pub const fn zigzag(value: i64) -> Result<u64, BoundsExceeded> {
    let folded = (value << 1 ^ value >> 63) as u64;
    if value < -(1 << 61) || value >= 1 << 61 { Err(BoundsExceeded) } else { Ok(folded) }
}

/// The inverse of [`zigzag`]. Every variable-length integer gives a value in its range.
pub const fn unzigzag(folded: u64) -> i64 {
    (folded >> 1) as i64 ^ -((folded & 1) as i64)
}

/// At most `N` integers in their shortest form, on the stack: the fields before a payload.
#[derive(Clone, Copy)]
pub struct Head<const N: usize> {
    bytes: [[u8; 9]; N],
    len: usize,
    form: Form,
}

impl<const N: usize> Head<N> {
    pub(super) const fn of(form: Form) -> Self {
        Self { bytes: [[0; 9]; N], len: 0, form }
    }

    /// Appends an integer. There is room for `N` of them.
    pub(super) fn push(&mut self, value: u64) -> Result<(), BoundsExceeded> {
        if value > MAX {
            return Err(BoundsExceeded);
        }
        self.form.write(&mut &mut self.bytes.as_flattened_mut()[self.len..], value)?;
        self.len += self.form.len(value);
        Ok(())
    }
}

impl<const N: usize> Deref for Head<N> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes.as_flattened()[..self.len]
    }
}

impl<const N: usize> fmt::Debug for Head<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
