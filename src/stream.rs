//! The parts of a QUIC connection: sides, streams and error codes.

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
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Whether bytes flow in one direction or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dir {
    /// Both ends send.
    Bi,
    /// Only the end that opened the stream sends.
    Uni,
}

/// A QUIC stream id (RFC 9000 section 2.1). Only its initiator and its direction have a meaning here.
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

    /// The side that opened it.
    pub const fn initiator(self) -> Side {
        if self.0 & 1 == 0 { Side::Client } else { Side::Server }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An application error code of QUIC: at most 62 bits. Larger numbers are clamped.
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

    /// The form that RESET_STREAM and STOP_SENDING carry (WebTransport over HTTP/3, section 4.4). It is
    /// used on raw QUIC as well, because deployed peers understand no other. A code of more than 32 bits
    /// has no such form and stays as it is.
    #[must_use]
    pub const fn to_http3(self) -> Self {
        if self.0 > u32::MAX as u64 { self } else { Self(HTTP3_FIRST + self.0 + self.0 / 30) }
    }

    /// The code in a RESET_STREAM or STOP_SENDING, whichever form it has.
    #[must_use]
    pub const fn from_http3(self) -> Self {
        let last = HTTP3_FIRST + u32::MAX as u64 + u32::MAX as u64 / 30;
        if self.0 < HTTP3_FIRST || self.0 > last {
            return self;
        }
        let offset = self.0 - HTTP3_FIRST;
        // HTTP/3 reserves every 31st value, which stands for no code.
        if offset % 31 == 30 { self } else { Self(offset - offset / 31) }
    }
}

/// The HTTP/3 code that stands for the WebTransport code 0.
const HTTP3_FIRST: u64 = 0x52e4_a40f_a8db;

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

#[cfg(test)]
mod tests {
    use super::*;

    /// The ends of the range in draft-ietf-webtrans-http3, section 4.4.
    #[test]
    fn http3_codes() {
        for (code, wire) in [
            (0, 0x52e4_a40f_a8db),
            (29, 0x52e4_a40f_a8f8),
            (30, 0x52e4_a40f_a8fa),
            (u64::from(u32::MAX), 0x52e5_ac98_3162),
        ] {
            assert_eq!(Code::new(code).to_http3(), Code::new(wire));
            assert_eq!(Code::new(wire).from_http3(), Code::new(code));
        }
    }

    #[test]
    fn codes_without_an_http3_form_stay() {
        for code in [0, 63, 1 << 32, 0x52e4_a40f_a8da, 0x52e4_a40f_a8f9, 0x52e5_ac98_3163, u64::MAX]
        {
            assert_eq!(Code::new(code).from_http3(), Code::new(code));
        }
        assert_eq!(Code::MAX.to_http3(), Code::MAX);
    }
}
