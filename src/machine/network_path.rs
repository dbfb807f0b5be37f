//! The state of the network path: what our QUIC measured, and what the peer reports.

use core::time::Duration;

/// The peer's estimate of the path from it to us (moq-lite, *PROBE*), as its QUIC measured it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathEstimate {
    /// Bits a second that the peer can send, at least 1. `None` if the peer does not know.
    pub bitrate: Option<u64>,
    /// Round-trip time in whole milliseconds, at least 1. `None` if the peer does not know, and on
    /// moq-lite 03.
    pub rtt: Option<Duration>,
}

/// QUIC's measurements of the network path to the peer. The default means that nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkPath {
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Bytes a second that congestion control allows; 0 if unknown.
    pub rate: u64,
    /// Size of the largest datagram that can be sent, in bytes; 0 if none can.
    pub max_datagram: u64,
}

impl NetworkPath {
    /// A path whose congestion window is `window` bytes: that much can be sent each round trip.
    pub fn from_window(rtt: Duration, window: u64, max_datagram: u64) -> Self {
        let rate = u128::from(window) * 1_000_000 / rtt.as_micros().max(1);
        Self { rtt, rate: u64::try_from(rate).unwrap_or(u64::MAX), max_datagram }
    }

    /// Whether this path is worth reporting after `reported` was reported last: the round-trip time or
    /// the rate changed by more than an eighth, or the datagram size changed.
    pub fn is_news_to(&self, reported: &Self) -> bool {
        let moved = |now: u128, before: u128| now.abs_diff(before) > before / 8;
        moved(self.rtt.as_micros(), reported.rtt.as_micros())
            || moved(self.rate.into(), reported.rate.into())
            || self.max_datagram != reported.max_datagram
    }
}
