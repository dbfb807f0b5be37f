//! Integers of variable length (RFC 9000, section 16).

/// The number of bytes of an integer that begins with `first`.
pub(crate) const fn size(first: u8) -> usize {
    1 << (first >> 6)
}

/// The integer at the front of `bytes` and its size; `None` if bytes are missing.
pub(crate) fn decode(bytes: &[u8]) -> Option<(u64, usize)> {
    let size = size(*bytes.first()?);
    let bytes = bytes.get(..size)?;
    let value = bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    // The first two bits are the size.
    Some((value & ((1 << (8 * size - 2)) - 1), size))
}

/// Appends `value`, which must be below 2^62, in its shortest form.
pub(crate) fn encode(value: u64, to: &mut Vec<u8>) {
    match value {
        0..0x40 => to.push(value as u8),
        0x40..0x4000 => to.extend((value as u16 | 0x4000).to_be_bytes()),
        0x4000..0x4000_0000 => to.extend((value as u32 | 0x8000_0000).to_be_bytes()),
        _ => to.extend((value | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9000, appendix A.1.
    #[test]
    fn integers_are_read_and_written_as_in_the_examples_of_the_rfc() {
        for (bytes, value) in [
            (&b"\xc2\x19\x7c\x5e\xff\x14\xe8\x8c"[..], 151_288_809_941_952_652),
            (b"\x9d\x7f\x3e\x7d", 494_878_333),
            (b"\x7b\xbd", 15_293),
            (b"\x25", 37),
        ] {
            assert_eq!(decode(bytes), Some((value, bytes.len())));
            assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
            let mut written = Vec::new();
            encode(value, &mut written);
            assert_eq!(written, bytes);
        }
        assert_eq!(decode(b"\x40\x25"), Some((37, 2)));
    }
}
