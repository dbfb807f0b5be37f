//! The link between two endpoints.

use core::time::Duration;

#[cfg(doc)]
use crate::machine::{Datagram, Machine, Open, Write};

/// The properties of a connection. Each applies to both directions separately.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// The seed of all random choices.
    pub seed: u64,
    /// The time from one end to the other.
    pub latency: Duration,
    /// A random delay of up to this much is added for each write, so that streams overtake each other.
    pub jitter: Duration,
    /// Bytes of one stream that may be sent and not read yet.
    pub stream_window: u64,
    /// Bytes of all streams that may be sent and not read yet.
    pub connection_window: u64,
    /// Unidirectional streams of one end that are open at the same time. The credit for a stream returns
    /// when the other end is done with it.
    pub uni_streams: u64,
    /// Bidirectional streams of one end that are open at the same time.
    pub bi_streams: u64,
    /// Bytes per millisecond; `None` is unlimited. A write departs after the one before it.
    pub bandwidth: Option<u64>,
    /// The most bytes that one [`Write`] accepts. With [`shuffle`](Self::shuffle) a random number up to it.
    pub max_write: usize,
    /// The most bytes in one [`Input::Data`](crate::machine::Input::Data). With `shuffle` a random number
    /// up to it.
    pub max_read: usize,
    /// Events of one instant happen in a random order: streams, calls, and RESET before bytes
    /// that were sent earlier. Otherwise inputs come first, streams in the order of their ids, and RESET
    /// after the bytes.
    pub shuffle: bool,
    /// One in this many [`Open`], [`Write`] and [`Datagram`] guards is dropped unanswered; 0 for none.
    pub drop_guards: u64,
    /// Bytes of the largest datagram. With 0, the default of all links, there are none.
    pub max_datagram: usize,
    /// One in this many datagrams is lost; 0 for none.
    pub lose_datagrams: u64,
}

impl Link {
    /// A fast and wide link that keeps the order.
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

    /// A wide-area link: 25 ms in each direction and up to 5 ms of jitter, so that streams overtake each
    /// other.
    pub const fn wide(seed: u64) -> Self {
        Self {
            seed,
            latency: Duration::from_millis(25),
            jitter: Duration::from_millis(5),
            shuffle: true,
            ..Self::perfect()
        }
    }

    /// Everything that QUIC allows to go badly: tiny windows, two unidirectional streams, few bytes at a
    /// time, any order, dropped guards.
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

    /// The same link with datagrams of up to `max` bytes. One in `lost` of them is lost; 0 for none.
    #[must_use]
    pub const fn datagrams(mut self, max: usize, lost: u64) -> Self {
        self.max_datagram = max;
        self.lose_datagrams = lost;
        self
    }

    /// Like [`hostile`](Self::hostile), and byte by byte.
    pub const fn byte_by_byte(seed: u64) -> Self {
        Self { max_write: 1, max_read: 1, ..Self::hostile(seed) }
    }
}
