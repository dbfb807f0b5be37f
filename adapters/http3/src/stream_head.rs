//! The head of a stream, which names the kind of the stream.

use smoq::stream::{Dir, StreamId};

use crate::varint;

/// The type of unidirectional streams of a session (WebTransport over HTTP/3, section 4.2).
const UNI: u64 = 0x54;
/// The signal value of bidirectional streams of a session (section 4.3).
const BI: u64 = 0x41;

/// The bytes of a head that have arrived. A head of a session's stream has at most two integers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StreamHead {
    bytes: [u8; 16],
    len: usize,
}

/// The meaning of the bytes that have arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// Bytes are missing: at least this many.
    Incomplete(usize),
    /// It is a stream of the session with this id.
    Session(u64),
    /// It is something else. The bytes after the type are `bytes()[at..]`.
    Other { kind: u64, at: usize },
}

impl StreamHead {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Adds bytes, no more than [`missing`](Self::missing).
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// How many bytes belong to the head in any case. More must not be read, because they may be the session's.
    pub(crate) fn missing(&self, dir: Dir) -> usize {
        match self.parse(dir) {
            Parsed::Incomplete(missing) => missing,
            Parsed::Session(_) | Parsed::Other { .. } => 0,
        }
    }

    pub(crate) fn parse(&self, dir: Dir) -> Parsed {
        let bytes = self.bytes();
        let Some((kind, at)) = varint::decode(bytes) else {
            // The two types of sessions take two bytes or more, and the id of a session at least one.
            return Parsed::Incomplete(
                bytes.first().map_or(3, |first| varint::size(*first) - bytes.len() + 1),
            );
        };
        let session = match dir {
            Dir::Uni => UNI,
            Dir::Bi => BI,
        };
        if kind != session {
            return Parsed::Other { kind, at };
        }
        match varint::decode(&bytes[at..]) {
            Some((id, _)) => Parsed::Session(id),
            None => Parsed::Incomplete(
                bytes.get(at).map_or(1, |first| varint::size(*first) - (bytes.len() - at)),
            ),
        }
    }
}

/// The head of a stream of the session `id`.
pub(crate) fn encode(dir: Dir, id: StreamId) -> Vec<u8> {
    let mut head = Vec::new();
    varint::encode(if dir == Dir::Uni { UNI } else { BI }, &mut head);
    varint::encode(id.as_u64(), &mut head);
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads exactly the head, however few bytes arrive at a time.
    fn read(dir: Dir, bytes: &[u8], at_most: usize) -> (Parsed, usize) {
        let (mut head, mut at) = (StreamHead::default(), 0);
        loop {
            let missing = head.missing(dir);
            if missing == 0 {
                return (head.parse(dir), at);
            }
            let take = missing.min(at_most);
            head.push(&bytes[at..at + take]);
            at += take;
        }
    }

    #[test]
    fn no_byte_after_the_head_of_a_session_is_read() {
        for at_most in 1..=16 {
            for (dir, id) in [(Dir::Uni, 0), (Dir::Bi, 0), (Dir::Uni, 64), (Dir::Bi, 1 << 40)] {
                let mut bytes = encode(dir, StreamId::from_u64(id));
                let len = bytes.len();
                bytes.extend([0xff; 16]);
                assert_eq!(read(dir, &bytes, at_most), (Parsed::Session(id), len));
            }
            // The types in more bytes than they need.
            let long = b"\xc0\0\0\0\0\0\0\x54\xc0\0\0\0\0\0\0\x08payload";
            assert_eq!(read(Dir::Uni, long, at_most), (Parsed::Session(8), 16));
        }
    }

    #[test]
    fn other_types_are_recognized_at_once() {
        let (parsed, _) = read(Dir::Uni, b"\0\x04\x10", 1);
        assert_eq!(parsed, Parsed::Other { kind: 0, at: 1 });
        let (parsed, _) = read(Dir::Bi, b"\x01\x40\x80", 3);
        assert_eq!(parsed, Parsed::Other { kind: 1, at: 1 });
        // A unidirectional type on a bidirectional stream.
        let (parsed, _) = read(Dir::Bi, b"\x40\x54\0", 3);
        assert_eq!(parsed, Parsed::Other { kind: 0x54, at: 2 });
    }
}
