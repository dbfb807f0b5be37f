//! Reading a sequence of elements that each have a type, a length and a payload: frames (RFC 9114, section
//! 7.1) and capsules (RFC 9297, section 3.2).

use crate::varint;

/// A part of a sequence of elements.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// An element begins.
    Head { kind: u64, len: u64 },
    /// Bytes of its payload. Each element has at least one such part, which may be empty.
    Body { kind: u64, bytes: &'a [u8], is_last: bool },
}

/// A reader of elements. It holds no payload, so an element may have any length.
#[derive(Debug, Default)]
pub(crate) struct Elements {
    head: [u8; 16],
    /// The bytes of `head` that have arrived.
    arrived: usize,
    /// The type of the element whose payload is being read, and the rest of its length.
    body: Option<(u64, u64)>,
}

impl Elements {
    /// The next part, which is taken from the front of `bytes`.
    pub(crate) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Part<'a>> {
        if let Some((kind, left)) = self.body {
            if left > 0 && bytes.is_empty() {
                return None;
            }
            let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            let (piece, rest) = bytes.split_at(taken);
            *bytes = rest;
            let left = left - taken as u64;
            self.body = (left > 0).then_some((kind, left));
            return Some(Part::Body { kind, bytes: piece, is_last: left == 0 });
        }
        loop {
            let (first, rest) = bytes.split_first()?;
            *bytes = rest;
            // Two integers of at most 8 bytes fit.
            self.head[self.arrived] = *first;
            self.arrived += 1;
            let head = &self.head[..self.arrived];
            let Some((kind, size)) = varint::decode(head) else { continue };
            let Some((len, _)) = varint::decode(&head[size..]) else { continue };
            self.arrived = 0;
            self.body = Some((kind, len));
            return Some(Part::Head { kind, len });
        }
    }

    /// Whether the sequence may end here.
    pub(crate) fn is_between(&self) -> bool {
        self.arrived == 0 && self.body.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_at_every_cut() {
        let sequence = b"\x04\x03abc\x40\x41\x00\x00\x40\x02de";
        for cut in 0..=sequence.len() {
            let mut elements = Elements::default();
            let (mut heads, mut bodies) = (Vec::new(), vec![Vec::<u8>::new()]);
            for mut bytes in [&sequence[..cut], &sequence[cut..]] {
                while let Some(part) = elements.next(&mut bytes) {
                    match part {
                        Part::Head { kind, len } => heads.push((kind, len)),
                        Part::Body { bytes, is_last, .. } => {
                            bodies.last_mut().unwrap().extend(bytes);
                            if is_last {
                                bodies.push(Vec::new());
                            }
                        }
                    }
                }
                assert!(bytes.is_empty());
            }
            assert_eq!(heads, [(4, 3), (0x41, 0), (0, 2)], "cut at {cut}");
            assert_eq!(bodies, [&b"abc"[..], b"", b"de", b""], "cut at {cut}");
            assert!(elements.is_between());
        }
    }

    #[test]
    fn a_sequence_may_end_between_elements_only() {
        let sequence = b"\x04\x01a";
        for end in 0..=sequence.len() {
            let mut elements = Elements::default();
            let mut bytes = &sequence[..end];
            while elements.next(&mut bytes).is_some() {}
            assert_eq!(elements.is_between(), end == 0 || end == sequence.len());
        }
    }
}
