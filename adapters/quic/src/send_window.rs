//! How much a session hands to QUIC before QUIC can send it.

use std::time::Duration;

use smoq::Instant;

/// A session that is held back has this much time of the path's rate in QUIC, beyond what is in flight.
const AHEAD: Duration = Duration::from_millis(15);
/// The rate is measured over at least this time, and over at least half a round trip.
const SAMPLE: Duration = Duration::from_millis(20);
/// The window of a session that is not held back: a burst of this size waits for nothing.
const MIN: u64 = 128 << 10;
/// The least that a session that is held back has in QUIC beyond the bytes in flight: a few packets.
const MIN_AHEAD: u64 = 8 << 10;

/// The state of a connection after the session wrote what it could.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Bytes of UDP payload that QUIC sent so far.
    pub bytes: u64,
    /// The congestion window in bytes.
    pub congestion_window: u64,
    /// The smoothed round-trip time.
    pub rtt: Duration,
    /// Whether the session has more than QUIC takes: [`Driver::is_blocked`](smoq::Driver::is_blocked).
    pub is_blocked: bool,
}

/// The bytes that QUIC should hold unacknowledged. More would be out of reach for priorities and expiry, less
/// would leave the path idle.
///
/// While QUIC takes everything, the window is twice the congestion window and at least 128 KiB, so that a burst
/// waits for nothing. A session that is held back measures the rate at which its bytes leave. Then the window is
/// what that rate keeps in flight, but not more than the congestion window, and 15 ms more. The congestion
/// window alone says too much: it grows without bound while the local socket is the bottleneck.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendWindow {
    bytes: u64,
    /// When the current sample began, and what was sent by then.
    since: Option<(Instant, u64)>,
    /// The last samples in bytes per second.
    rates: [u64; 4],
}

impl SendWindow {
    /// The new window, if QUIC should be given one. Call it after the writes of a turn. Small changes are left out, because each one wakes QUIC.
    pub fn update(&mut self, now: Instant, sent: &Sent) -> Option<u64> {
        self.measure(now, sent);
        let free = sent.congestion_window.saturating_mul(2).max(MIN);
        let bytes = match self.rate() {
            None => free,
            Some(rate) => {
                let flight = at_rate(rate, sent.rtt).saturating_mul(5) / 4;
                let ahead = at_rate(rate, AHEAD).max(MIN_AHEAD);
                free.min(sent.congestion_window.min(flight).saturating_add(ahead))
            }
        };
        if bytes.abs_diff(self.bytes) <= self.bytes / 8 {
            return None;
        }
        self.bytes = bytes;
        Some(bytes)
    }

    /// The bytes that leave in a round trip.
    pub fn flight(&self, sent: &Sent) -> u64 {
        let measured = self.rate().map_or(u64::MAX, |rate| at_rate(rate, sent.rtt));
        sent.congestion_window.min(measured)
    }

    /// The rate at which bytes leave in bytes per second, while the session is held back.
    fn rate(&self) -> Option<u64> {
        self.rates.into_iter().max().filter(|rate| *rate > 0)
    }

    fn measure(&mut self, now: Instant, sent: &Sent) {
        if !sent.is_blocked {
            (self.since, self.rates) = Default::default();
            return;
        }
        let (since, before) = *self.since.get_or_insert((now, sent.bytes));
        let time = now.since(since);
        if time < SAMPLE.max(sent.rtt / 2) {
            return;
        }
        let rate = u128::from(sent.bytes - before) * 1_000_000 / time.as_micros();
        self.rates.rotate_right(1);
        self.rates[0] = u64::try_from(rate).unwrap_or(u64::MAX);
        self.since = Some((now, sent.bytes));
    }
}

/// The bytes that leave in `time` at `rate` bytes per second.
fn at_rate(rate: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(rate) * time.as_micros() / 1_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(40);

    /// A session that is held back for a second, at 700 kB/s.
    fn held_back(congestion_window: u64) -> (SendWindow, Option<u64>) {
        let (mut window, mut last) = (SendWindow::default(), None);
        for millis in 0..1_000 {
            let now = Instant::from_millis(millis);
            let sent = Sent { bytes: millis * 700, congestion_window, rtt: RTT, is_blocked: true };
            last = window.update(now, &sent).or(last);
        }
        (window, last)
    }

    #[test]
    fn a_session_that_is_not_held_back_has_twice_the_congestion_window() {
        let mut window = SendWindow::default();
        let at =
            |congestion_window| Sent { bytes: 0, congestion_window, rtt: RTT, is_blocked: false };
        assert_eq!(window.update(Instant::from_millis(0), &at(12_000)), Some(MIN));
        assert_eq!(
            window.update(Instant::from_millis(1), &at(60_000)),
            None,
            "still below 128 KiB"
        );
        assert_eq!(window.update(Instant::from_millis(2), &at(200_000)), Some(400_000));
        assert_eq!(window.update(Instant::from_millis(3), &at(201_000)), None, "hardly different");
    }

    #[test]
    fn a_session_held_back_by_congestion_control_has_15_ms_more_than_the_congestion_window() {
        let (_, bytes) = held_back(28_000);
        assert_eq!(bytes, Some(28_000 + 10_500));
    }

    #[test]
    fn the_rate_bounds_the_window_when_the_socket_is_the_bottleneck() {
        let (_, bytes) = held_back(4 << 20);
        assert_eq!(bytes, Some(28_000 * 5 / 4 + 10_500));
    }

    #[test]
    fn a_burst_waits_for_nothing_after_the_session_caught_up() {
        let (mut window, _) = held_back(28_000);
        let sent = Sent { bytes: 700_000, congestion_window: 28_000, rtt: RTT, is_blocked: false };
        assert_eq!(window.update(Instant::from_millis(1_000), &sent), Some(MIN));
        assert_eq!(window.flight(&sent), 28_000);
    }
}
