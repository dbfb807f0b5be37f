//! QUIC's variable-length integers (RFC 9000 section 16), and signed numbers folded into them.

use core::fmt;
use core::ops::Deref;

use bytes::BufMut;

use super::BoundsExceeded;

/// The largest value, 2^62-1.
pub const MAX: u64 = (1 << 62) - 1;

/// Bytes of the shortest form of `value`: 1, 2, 4 or 8, and 8 for what can't be written.
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
/// Panics, as every method of [`BufMut`], if `out` can't grow and is full.
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

/// The value at the start of `bytes` and how many bytes it takes, or `None` if it ends behind them.
/// Longer forms than the shortest are taken as well.
pub fn read(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let len = 1 << (first >> 6);
    let tail = bytes.get(1..len)?;
    let value =
        tail.iter().fold(u64::from(first & 0x3f), |value, &byte| value << 8 | u64::from(byte));
    Some((value, len))
}

/// Folds a signed number of at most 62 bits, -2^61 to 2^61-1, so that small ones stay short
/// whatever their sign (moq-lite 05+, FRAME).
pub const fn zigzag(value: i64) -> Result<u64, BoundsExceeded> {
    let folded = (value << 1 ^ value >> 63) as u64;
    if value < -(1 << 61) || value >= 1 << 61 { Err(BoundsExceeded) } else { Ok(folded) }
}

/// Undoes [`zigzag`]. What was read as a variable-length integer always gives a value in its range.
pub const fn unzigzag(folded: u64) -> i64 {
    (folded >> 1) as i64 ^ -((folded & 1) as i64)
}

/// At most `N` integers in their shortest form, on the stack: what stands before a payload.
#[derive(Clone, Copy)]
pub struct Head<const N: usize> {
    bytes: [[u8; 8]; N],
    len: usize,
}

impl<const N: usize> Head<N> {
    pub(super) const fn new() -> Self {
        Self { bytes: [[0; 8]; N], len: 0 }
    }

    /// At most `N` times.
    pub(super) fn push(&mut self, value: u64) -> Result<(), BoundsExceeded> {
        write(&mut &mut self.bytes.as_flattened_mut()[self.len..], value)?;
        self.len += len(value);
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
