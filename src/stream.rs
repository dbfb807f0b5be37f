//! Names for what a QUIC connection has: sides, streams and codes.

use core::fmt;

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The end that dialed.
    Client,
    /// The end that was dialed.
    Server,
}

impl Side {
    /// The other end.
    pub const fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Whether bytes flow one way or both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dir {
    /// Both ends send.
    Bi,
    /// Only the end that opened the stream sends.
    Uni,
}

/// A QUIC stream id (RFC 9000 section 2.1): opaque, but for who opened it and its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

impl StreamId {
    /// From the number on the wire.
    pub const fn from_u64(id: u64) -> Self {
        Self(id)
    }

    /// The `index`-th stream of its kind.
    pub const fn new(initiator: Side, dir: Dir, index: u64) -> Self {
        let low = match initiator {
            Side::Client => 0,
            Side::Server => 1,
        } | match dir {
            Dir::Bi => 0,
            Dir::Uni => 2,
        };
        Self(index << 2 | low)
    }

    /// The number on the wire.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Which direction bytes flow in.
    pub const fn dir(self) -> Dir {
        if self.0 & 2 == 0 { Dir::Bi } else { Dir::Uni }
    }

    /// Who opened it.
    pub const fn initiator(self) -> Side {
        if self.0 & 1 == 0 { Side::Client } else { Side::Server }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An application error code as QUIC carries it: 62 bits, larger ones are cut to the largest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(u64);

impl Code {
    /// The largest code that QUIC can carry.
    pub const MAX: Self = Self((1 << 62) - 1);

    /// A code of at most 62 bits.
    pub const fn new(code: u64) -> Self {
        if code > Self::MAX.0 { Self::MAX } else { Self(code) }
    }

    /// The number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl From<u32> for Code {
    fn from(code: u32) -> Self {
        Self(code.into())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
