//! The state of the network path: what our QUIC measured, and what the peer reports.

use core::time::Duration;

/// The peer's estimate of the path from it to us (moq-lite, *PROBE*), as its QUIC measured it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathEstimate {
    /// Bits per second that the peer can send, at least 1. `None` if the peer does not know.
    pub bitrate: Option<u64>,
    /// Round-trip time in whole milliseconds, at least 1. `None` if the peer does not know, and on
    /// moq-lite 03.
    pub rtt: Option<Duration>,
}

/// QUIC's measurements of the network path to the peer. The default means that nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkPath {
    /// Smoothed round-trip time. `None` if unknown.
    pub rtt: Option<Duration>,
    /// Bits per second that congestion control allows. `None` if unknown.
    pub bitrate: Option<u64>,
    /// Size of the largest datagram that path and peer accept, in bytes; 0 if they accept none.
    /// Without a report no datagram is sent.
    pub max_datagram: usize,
}

impl NetworkPath {
    /// A path whose congestion window is `window` bytes: that much can be sent each round trip.
    pub fn from_window(rtt: Duration, window: u64, max_datagram: usize) -> Self {
        let bitrate = u128::from(window) * 8_000_000 / rtt.as_micros().max(1);
        let bitrate = u64::try_from(bitrate).unwrap_or(u64::MAX);
        Self { rtt: Some(rtt), bitrate: Some(bitrate), max_datagram }
    }

    /// Whether this path is worth reporting after `reported` was reported last: the round-trip time or
    /// the rate changed by more than an eighth, or the datagram size changed.
    #[cfg(feature = "std")]
    pub(crate) fn is_news_to(&self, reported: &Self) -> bool {
        let moved = |now: Option<u128>, before: Option<u128>| match (now, before) {
            (Some(now), Some(before)) => now.abs_diff(before) > before / 8,
            (now, before) => now != before,
        };
        let micros = |path: &Self| path.rtt.map(|rtt| rtt.as_micros());
        let bits = |path: &Self| path.bitrate.map(u128::from);
        moved(micros(self), micros(reported))
            || moved(bits(self), bits(reported))
            || self.max_datagram != reported.max_datagram
    }
}
