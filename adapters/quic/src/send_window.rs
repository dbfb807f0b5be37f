//! The bytes that QUIC takes from a session before it can send them.

use std::time::Duration;

use smoq::Instant;

/// A session that is held back has this much time of the path's rate in QUIC, beyond what is in flight.
const AHEAD: Duration = Duration::from_micros(1_500);
/// The rate is measured over at least this time, and over at least half a round trip.
const SAMPLE: Duration = Duration::from_millis(20);
/// A session that was not held back for this long starts anew.
const QUIET: Duration = Duration::from_secs(1);
/// The window of a session that is not held back: a burst of this size waits for nothing.
const MIN: u64 = 128 << 10;
/// The least that a session that is held back has in QUIC beyond the bytes in flight: a packet.
const MIN_AHEAD: u64 = 1_500;
/// The least round-trip time of this much time, or twice as much, is that of the path without a queue.
const BASE: Duration = Duration::from_secs(10);
/// At the start of each such time, for so long, half of the window empties a queue that the session itself keeps.
const DRAIN: Duration = Duration::from_millis(200);
/// A queue of this length may be that of the session itself, and of others like it.
const OURS: Duration = Duration::from_millis(12);
/// A longer queue that stays for so long is not ours.
const FOREIGN: Duration = Duration::from_secs(1);

/// The state of a connection after the session wrote what it could.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Bytes of UDP payload that QUIC sent so far.
    pub bytes: u64,
    /// The congestion window in bytes.
    pub congestion_window: u64,
    /// The smoothed round-trip time.
    pub rtt: Duration,
    /// Packets that were lost so far.
    pub lost: u64,
    /// Whether the session has more than QUIC takes: [`Driver::is_blocked`](smoq::Driver::is_blocked).
    pub is_blocked: bool,
}

/// The bytes that QUIC should hold unacknowledged. More would be out of reach for priorities and expiry, and would
/// wait in queues of the network; less would leave the path idle.
///
/// While QUIC takes everything, the window is twice the congestion window and at least 128 KiB, so that a burst
/// waits for nothing. A session that is held back measures the rate at which its bytes leave. Then the window is
/// what that rate keeps in flight on the path without its queue, but not more than the congestion window, and 1.5 ms
/// more. QUIC holds a lost packet for another round trip, and with it all that arrives of its stream after it, so that
/// the window is larger by a round trip for so long. The congestion window alone says too much: Cubic's grows until a
/// queue overflows, and without bound while the local socket is the bottleneck.
///
/// If a queue stays for a second all the same, others fill it. A session that kept out of it would get nothing. So
/// the bytes in the queue count as in flight then, except for one second in ten, which finds out whether the others
/// left. A queue that was there from the start looks like a long path, so every ten seconds the window is halved for
/// 200 ms.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendWindow {
    bytes: u64,
    /// When the current sample began, and what was sent by then.
    since: Option<(Instant, u64)>,
    /// The last samples in bytes per second.
    rates: [u64; 4],
    /// When the session was last held back.
    held_back: Option<Instant>,
    path: PathRtt,
    /// Packets that were lost so far.
    lost: u64,
    /// When the last of them has arrived after all.
    repaired: Option<Instant>,
}

impl SendWindow {
    /// The new window, if QUIC should be given one. Call it after the writes of a turn. Small changes are left out,
    /// because each one wakes QUIC.
    pub fn update(&mut self, now: Instant, sent: &Sent) -> Option<u64> {
        self.measure(now, sent);
        let rtt = self.path.update(now, sent.rtt);
        let is_repairing = self.is_repairing(now, sent);
        let free = sent.congestion_window.saturating_mul(2).max(MIN);
        let bytes = match self.rate() {
            None => free,
            Some(rate) => {
                let flight = at_rate(rate, rtt).saturating_mul(5) / 4;
                let ahead = at_rate(rate, AHEAD).max(MIN_AHEAD);
                let after_lost = if is_repairing { at_rate(rate, rtt) } else { 0 };
                let held = sent.congestion_window.min(flight).saturating_add(after_lost);
                free.min(held.saturating_add(ahead))
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

    /// Whether a lost packet is on its way again.
    fn is_repairing(&mut self, now: Instant, sent: &Sent) -> bool {
        if sent.lost > self.lost {
            (self.lost, self.repaired) = (sent.lost, Some(now + sent.rtt * 5 / 4));
        }
        self.repaired.is_some_and(|at| now < at)
    }

    fn measure(&mut self, now: Instant, sent: &Sent) {
        if !sent.is_blocked {
            self.since = None;
            if self.held_back.is_some_and(|at| now.since(at) > QUIET) {
                (self.held_back, self.rates) = Default::default();
            }
            return;
        }
        self.held_back = Some(now);
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

/// The round-trip time of a path, without the queue that its own sender makes.
#[derive(Clone, Copy, Debug, Default)]
struct PathRtt {
    /// The least of the current and of the last period.
    least: [Option<Duration>; 2],
    /// When the current period began.
    since: Instant,
    /// Since when there is a queue.
    queue: Option<Instant>,
}

impl PathRtt {
    fn update(&mut self, now: Instant, rtt: Duration) -> Duration {
        if now.since(self.since) >= BASE {
            (self.since, self.least) = (now, [None, self.least[0]]);
        }
        let current = self.least[0].map_or(rtt, |least| least.min(rtt));
        self.least[0] = Some(current);
        let base = self.least[1].map_or(current, |last| last.min(current));
        if self.least[1].is_some() && now.since(self.since) < DRAIN {
            return base / 2;
        }
        if rtt <= base * 2 + OURS {
            self.queue = None;
            return base;
        }
        let queue = *self.queue.get_or_insert(now);
        let turn = now.since(queue).as_micros() % BASE.as_micros();
        if turn < FOREIGN.as_micros() { base } else { rtt }
    }
}

/// The bytes that leave in `time` at `rate` bytes per second.
fn at_rate(rate: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(rate) * time.as_micros() / 1_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const RTT: Duration = Duration::from_millis(40);
    const HELD_BACK: Sent =
        Sent { bytes: 0, congestion_window: 0, rtt: RTT, lost: 0, is_blocked: true };

    /// A session that is held back for a second, at 700 kB/s.
    fn held_back(congestion_window: u64) -> (SendWindow, Option<u64>) {
        let (mut window, mut last) = (SendWindow::default(), None);
        for millis in 0..1_000 {
            let now = Instant::from_millis(millis);
            let sent = Sent { bytes: millis * 700, congestion_window, ..HELD_BACK };
            last = window.update(now, &sent).or(last);
        }
        (window, last)
    }

    #[test]
    fn a_session_that_is_not_held_back_has_twice_the_congestion_window() {
        let mut window = SendWindow::default();
        let at = |congestion_window| Sent { congestion_window, is_blocked: false, ..HELD_BACK };
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
    fn a_session_held_back_by_congestion_control_has_a_little_more_than_the_congestion_window() {
        let (_, bytes) = held_back(28_000);
        assert_eq!(bytes, Some(28_000 + MIN_AHEAD));
    }

    #[test]
    fn the_rate_bounds_the_window_when_the_socket_is_the_bottleneck() {
        let (_, bytes) = held_back(4 << 20);
        assert_eq!(bytes, Some(28_000 * 5 / 4 + MIN_AHEAD));
    }

    /// The stream of the lost packet keeps what arrives after it.
    #[test]
    fn a_lost_packet_holds_a_round_trip_more() {
        let (mut window, before) = held_back(4 << 20);
        let mut at = |millis, lost| {
            let now = Instant::from_millis(millis);
            let sent = Sent { bytes: millis * 700, congestion_window: 4 << 20, lost, ..HELD_BACK };
            window.update(now, &sent)
        };
        let larger = at(1_000, 1);
        assert_eq!(larger, before.map(|before| before + 28_000));
        assert_eq!(at(1_049, 1), None, "it is on its way");
        assert_eq!(at(1_050, 1), before);
    }

    #[test]
    fn a_burst_waits_for_nothing_a_second_after_the_session_caught_up() {
        let (mut window, _) = held_back(28_000);
        let sent =
            Sent { bytes: 700_000, congestion_window: 28_000, is_blocked: false, ..HELD_BACK };
        assert_eq!(
            window.update(Instant::from_millis(1_500), &sent),
            None,
            "it may be held back again"
        );
        assert_eq!(window.update(Instant::from_millis(2_001), &sent), Some(MIN));
        assert_eq!(window.flight(&sent), 28_000);
    }

    /// A path with a queue, in steps of a millisecond: bytes of this session and of others, first in, first out.
    struct Path {
        window: SendWindow,
        now: u64,
        /// The rate of the path, in bytes a millisecond.
        capacity: u64,
        /// Others keep the queue this long, in milliseconds.
        foreign: u64,
        queue: VecDeque<(bool, u64)>,
        /// Bytes that are on their way, and when they are acknowledged.
        flying: VecDeque<(u64, u64)>,
        held: u64,
        limit: u64,
        sent: u64,
        rtt: Duration,
    }

    /// Of the path without a queue, in milliseconds.
    const BASE_RTT: u64 = 20;
    /// A congestion window that a loss-based controller would grow: 200 ms of the path.
    const WINDOW: u64 = 200_000;

    impl Path {
        fn new() -> Self {
            let (window, rtt) = (SendWindow::default(), Duration::from_millis(BASE_RTT));
            let (queue, flying) = Default::default();
            let (held, limit, sent) = (0, MIN, 0);
            Self {
                window,
                now: 0,
                capacity: 1_000,
                foreign: 0,
                queue,
                flying,
                held,
                limit,
                sent,
                rtt,
            }
        }

        /// How long a byte waits, in milliseconds.
        fn delay(&self) -> u64 {
            self.queue.iter().map(|(_, bytes)| bytes).sum::<u64>() / self.capacity
        }

        /// Runs for so many milliseconds. Returns the part of the path that the session used, in percent, and the mean
        /// wait in the queue.
        fn run(&mut self, millis: u64) -> (u64, u64) {
            let (mut carried, mut delays) = (0, 0);
            for _ in 0..millis {
                self.now += 1;
                if let Some(missing) = self.foreign.checked_sub(self.delay()) {
                    self.queue.push_back((false, missing * self.capacity));
                }
                let free = self.limit.min(WINDOW).saturating_sub(self.held);
                (self.held, self.sent) = (self.held + free, self.sent + free);
                self.queue.push_back((true, free));
                delays += self.delay();
                let mut left = self.capacity;
                while let Some((ours, bytes)) = self.queue.front_mut().filter(|_| left > 0) {
                    let part = left.min(*bytes);
                    (left, *bytes) = (left - part, *bytes - part);
                    if *ours {
                        carried += part;
                        self.flying.push_back((self.now + BASE_RTT, part));
                    }
                    if *bytes == 0 {
                        self.queue.pop_front();
                    }
                }
                while self.flying.front().is_some_and(|(at, _)| *at <= self.now) {
                    self.held -= self.flying.pop_front().map_or(0, |(_, bytes)| bytes);
                    let rtt = Duration::from_millis(BASE_RTT + self.delay());
                    self.rtt = (self.rtt * 7 + rtt) / 8;
                }
                let now = Instant::from_millis(self.now);
                let sent = Sent {
                    bytes: self.sent,
                    congestion_window: WINDOW,
                    rtt: self.rtt,
                    ..HELD_BACK
                };
                self.limit = self.window.update(now, &sent).unwrap_or(self.limit);
            }
            (carried * 100 / (self.capacity * millis), delays / millis)
        }
    }

    #[test]
    fn the_path_is_used_and_its_queue_stays_short() {
        let mut path = Path::new();
        path.run(1_000);
        let (used, delay) = path.run(30_000);
        assert!(used >= 98 && delay <= 12, "{used} %, {delay} ms");
    }

    #[test]
    fn a_path_that_changes_is_used_soon() {
        let mut path = Path::new();
        path.run(2_000);
        path.capacity = 4_000;
        path.run(500);
        let (used, delay) = path.run(2_000);
        assert!(used >= 98 && delay <= 12, "faster: {used} %, {delay} ms");
        path.capacity = 500;
        path.run(1_000);
        let (used, delay) = path.run(2_000);
        assert!(used >= 97 && delay <= 16, "slower: {used} %, {delay} ms");
    }

    #[test]
    fn others_that_fill_the_queue_do_not_starve_a_session() {
        let mut path = Path::new();
        path.run(2_000);
        path.foreign = 60;
        path.run(2_000);
        for _ in 0..6 {
            let (used, _) = path.run(5_000);
            assert!(used >= 40, "{used} %");
        }
        path.foreign = 0;
        path.run(11_000);
        let (used, delay) = path.run(10_000);
        assert!(used >= 98 && delay <= 12, "after they left: {used} %, {delay} ms");
    }
}
