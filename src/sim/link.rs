//! What lies between the two ends.

use core::time::Duration;

#[cfg(doc)]
use crate::machine::{Datagram, Machine, Open, Write};

/// How a connection behaves. Everything holds for each direction by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// What all chances below are drawn from.
    pub seed: u64,
    /// From one end to the other.
    pub latency: Duration,
    /// On top of it, up to this much, by chance, for each write: streams overtake each other.
    pub jitter: Duration,
    /// Bytes of one stream that the other end has not read.
    pub stream_window: u64,
    /// Bytes of all streams that the other end has not read.
    pub connection_window: u64,
    /// Unidirectional streams of one end that exist at once. The credit comes back when the other end
    /// is done with one.
    pub uni_streams: u64,
    /// Bidirectional streams of one end that exist at once.
    pub bi_streams: u64,
    /// Bytes a millisecond; `None` is without bound. A write is on its way when the one before it is.
    pub bandwidth: Option<u64>,
    /// Bytes that one [`Write`] takes at most; by chance fewer where [`shuffle`](Self::shuffle) is set.
    pub max_write: usize,
    /// Bytes that the machine is given at once, at most; by chance fewer with `shuffle`.
    pub max_read: usize,
    /// What can happen at an instant happens in any order: streams, calls, RESET before the bytes that
    /// were sent before it. Without it inputs come first, streams in the order of their ids, and RESET
    /// behind the bytes.
    pub shuffle: bool,
    /// One in this many [`Open`], [`Write`] and [`Datagram`] guards is dropped without an answer. 0: none.
    pub drop_guards: u64,
    /// Bytes of the largest datagram; 0, the default of all links: there are none.
    pub max_datagram: usize,
    /// One in this many datagrams is lost. 0: none.
    pub lose_datagrams: u64,
}

impl Link {
    /// Fast, wide, and in order.
    pub const fn perfect() -> Self {
        Self {
            seed: 0,
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            stream_window: 1 << 20,
            connection_window: 10 << 20,
            uni_streams: 100,
            bi_streams: 100,
            bandwidth: None,
            max_write: usize::MAX,
            max_read: usize::MAX,
            shuffle: false,
            drop_guards: 0,
            max_datagram: 0,
            lose_datagrams: 0,
        }
    }

    /// A wide-area link: 25 ms one way, and up to 5 more, so that streams overtake each other.
    pub const fn wide(seed: u64) -> Self {
        Self {
            seed,
            latency: Duration::from_millis(25),
            jitter: Duration::from_millis(5),
            shuffle: true,
            ..Self::perfect()
        }
    }

    /// Everything that may go badly without breaking a promise of QUIC: tiny windows, two
    /// unidirectional streams at once, few bytes at a time, any order, guards that are dropped.
    pub const fn hostile(seed: u64) -> Self {
        Self {
            seed,
            latency: Duration::from_millis(3),
            jitter: Duration::from_millis(4),
            stream_window: 50,
            connection_window: 2_000,
            uni_streams: 2,
            bi_streams: 20,
            bandwidth: None,
            max_write: 40,
            max_read: 7,
            shuffle: true,
            drop_guards: 8,
            max_datagram: 0,
            lose_datagrams: 0,
        }
    }

    /// With datagrams of up to so many bytes, of which one in `lost` is lost; 0 is none.
    #[must_use]
    pub const fn datagrams(mut self, max: usize, lost: u64) -> Self {
        self.max_datagram = max;
        self.lose_datagrams = lost;
        self
    }

    /// As [`hostile`](Self::hostile), and byte by byte.
    pub const fn byte_by_byte(seed: u64) -> Self {
        Self { max_write: 1, max_read: 1, ..Self::hostile(seed) }
    }
}
