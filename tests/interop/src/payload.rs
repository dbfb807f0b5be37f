//! Frames whose content follows from a seed and a length, cheap to create and to compare.

use bytes::Bytes;

/// The sizes that a group of [`group`] holds, in order.
pub const SIZES: [usize; 5] = [0, 1, 1200, 65_536, 1_048_576];

/// `len` bytes that depend on `seed` and on their position.
///
/// Eight bytes a step (a multiplicative sequence), so that a frame that is shifted, truncated,
/// repeated or taken from another group never compares equal, at memory speed.
pub fn frame(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state = state.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(0x2545_f491_4f6c_dd1d);
        out.extend_from_slice(&(state >> 3).to_le_bytes());
    }
    out.truncate(len);
    Bytes::from(out)
}

/// The frames of group `sequence`: one of each of [`SIZES`].
pub fn group(sequence: u64) -> Vec<Bytes> {
    sized_group(sequence, &SIZES)
}

/// The frames of group `sequence`, one of each of `sizes`.
pub fn sized_group(sequence: u64, sizes: &[usize]) -> Vec<Bytes> {
    sizes
        .iter()
        .enumerate()
        .map(|(index, len)| frame(sequence * 1000 + index as u64, *len))
        .collect()
}

/// Panics, without printing the payloads, unless `got` is exactly [`sized_group`].
pub fn check(sequence: u64, got: &[Bytes], sizes: &[usize]) {
    let want = sized_group(sequence, sizes);
    let lengths: Vec<usize> = got.iter().map(Bytes::len).collect();
    assert_eq!(lengths, sizes, "frame sizes of group {sequence}");
    for (index, (got, want)) in got.iter().zip(&want).enumerate() {
        if got != want {
            let at = got.iter().zip(want).position(|(a, b)| a != b);
            panic!("group {sequence}, frame {index}: first wrong byte at {at:?}");
        }
    }
}
