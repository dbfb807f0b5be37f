//! What a machine counts, and what it was told of the path: plain numbers.

use core::time::Duration;

/// What went through a machine. All of them only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Bytes of streams and datagrams that the connection took.
    pub bytes_sent: u64,
    /// Bytes of streams and datagrams that the connection gave.
    pub bytes_received: u64,
    /// Frames that the connection took whole.
    pub frames_sent: u64,
    /// Frames of the peer that began.
    pub frames_received: u64,
}

/// What the peer says of the path from it to us (moq-lite, *PROBE*): an estimate, as its QUIC has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathEstimate {
    /// Bits a second that it can send, at least 1. `None` if it does not know.
    pub bitrate: Option<u64>,
    /// Round-trip time in whole milliseconds, at least 1. `None` if it does not know, and on moq-lite 03.
    pub rtt: Option<Duration>,
}

/// What QUIC knows of the way to the peer. The default is that nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathInfo {
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Bytes a second that congestion control lets out; 0 if it does not say.
    pub rate: u64,
    /// Bytes of the largest datagram that goes; 0 if none does.
    pub max_datagram: u64,
}

impl PathInfo {
    /// Of a path that is allowed to have `window` bytes under way: that much each round trip.
    pub fn of_window(rtt: Duration, window: u64, max_datagram: u64) -> Self {
        let rate = u128::from(window) * 1_000_000 / rtt.as_micros().max(1);
        Self { rtt, rate: u64::try_from(rate).unwrap_or(u64::MAX), max_datagram }
    }

    /// Whether it is worth to be told when `told` was told last: something changed by an eighth.
    pub fn is_news_to(&self, told: &Self) -> bool {
        let moved = |now: u128, before: u128| now.abs_diff(before) > before / 8;
        moved(self.rtt.as_micros(), told.rtt.as_micros())
            || moved(self.rate.into(), told.rate.into())
            || self.max_datagram != told.max_datagram
    }
}
