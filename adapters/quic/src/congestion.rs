//! The congestion controller of [`config::transport`](crate::config::transport): quinn's Cubic, made for live media.
//!
//! Cubic reduces its window after every loss. On wireless links packets are lost at random as well, and then Cubic uses a
//! small part of the path: with a loss of 1 % and 40 ms about 3 Mbit/s. Here a loss is congestion only if packets wait in a
//! queue, or if many are lost. TCP Veno (Fu and Liew, 2003) tells the two apart by the queue, too, and BBR tolerates a loss
//! rate like this one (draft-ietf-ccwg-bbr, LossThresh).
//!
//! A queue is seen by the round-trip time. That of some packets is long on many paths, because the delay varies. So
//! packets wait in a queue if even the fastest one of a short period was slow, as in CoDel (RFC 8289, section 3.2): slower
//! than the fastest one of a long period, by more than twice of what the times of the short period differ.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};

/// Packets that may be in flight at least. A receiver acknowledges every second packet at once, and a single one after
/// up to 25 ms. If two may be in flight, as in RFC 9002, and the second is lost, nothing is sent for so long. That is
/// frequent on a path with little delay: an application that sends less than the path carries does not let the window grow
/// again. BBR keeps four packets in flight for the same reason (MinPipeCwnd).
const LEAST_PACKETS: u64 = 4;
/// The least round-trip time of this much time, or twice as much, is that of the path without a queue. Less would take
/// the queue of Cubic itself for a longer path: its window grows back within 10 s, up to 2 MB. After more, a path that
/// became longer would be known later. BBR has the same period (MinRTTFilterLen).
const PATH: Duration = Duration::from_secs(10);
/// The least round-trip time of this much time, or twice as much, is that of the path as it is now. It is the interval of
/// CoDel: a queue that is shorter-lived is that of a burst.
const NOW: Duration = Duration::from_millis(100);
/// Round-trip times that differ by this, or by a sixteenth, say nothing about a queue. Timers are not more exact. With less,
/// random loss would cost more of the rate, because the window shrinks by 30 %. With more, a queue that never holds so much
/// would belong to us alone, because Cubic beside us yields.
const INEXACT: Duration = Duration::from_millis(1);
/// While the window doubles in each round trip, a queue outgrows the path before [`NOW`] is over. Then a smoothed time that is
/// longer by this, and by a quarter, is that of a queue.
const START: Duration = Duration::from_millis(5);
/// The loss rate in percent up to which loss may be random.
const RANDOM_LOSS: u64 = 5;
/// The loss rate is that of about so many packets.
const SAMPLE: u64 = 400;
/// Fewer lost packets say nothing about the rate.
const LEAST_LOST: u64 = 10;

/// Makes controllers of quinn's Cubic that tolerate random loss.
#[derive(Debug, Default)]
pub(crate) struct TolerantCubicFactory(Arc<CubicConfig>);

impl ControllerFactory for TolerantCubicFactory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let cubic = Arc::clone(&self.0).build(now, current_mtu);
        let mtu = current_mtu.into();
        Box::new(TolerantCubic { cubic, mtu, queue: Queue::new(now), losses: Losses::default() })
    }
}

struct TolerantCubic {
    cubic: Box<dyn Controller>,
    mtu: u64,
    queue: Queue,
    losses: Losses,
}

/// Round-trip times of the current period and of the one before.
#[derive(Clone, Copy, Debug)]
struct Times {
    period: Duration,
    /// When the current period began.
    since: Instant,
    least: [Duration; 2],
    greatest: [Duration; 2],
}

impl Times {
    fn new(now: Instant, period: Duration) -> Self {
        Self { period, since: now, least: [Duration::MAX; 2], greatest: [Duration::ZERO; 2] }
    }

    fn add(&mut self, now: Instant, least: Duration, greatest: Duration) {
        if now - self.since >= self.period {
            self.since = now;
            self.least = [Duration::MAX, self.least[0]];
            self.greatest = [Duration::ZERO, self.greatest[0]];
        }
        self.least[0] = self.least[0].min(least);
        self.greatest[0] = self.greatest[0].max(greatest);
    }

    fn least(&self) -> Duration {
        self.least[0].min(self.least[1])
    }

    fn greatest(&self) -> Duration {
        self.greatest[0].max(self.greatest[1])
    }
}

/// Tells whether packets wait in a queue.
#[derive(Clone, Copy, Debug)]
struct Queue {
    path: Times,
    now: Times,
    smoothed: Duration,
}

impl Queue {
    fn new(now: Instant) -> Self {
        let smoothed = Duration::ZERO;
        Self { path: Times::new(now, PATH), now: Times::new(now, NOW), smoothed }
    }

    /// A packet arrived, and was acknowledged after `rtt`. quinn's estimate leaves out the time that the receiver waited with
    /// that. Where the delay varies, single packets are faster than the estimate.
    fn on_ack(&mut self, now: Instant, rtt: Duration, smoothed: Duration) {
        self.path.add(now, rtt, rtt);
        self.now.add(now, rtt.min(smoothed), smoothed);
        self.smoothed = smoothed;
    }

    /// Where the delay varies, the least time of a short period is not that of the path, either. So the times may differ
    /// twice as much: with half of it, random loss on such a path costs half of the rate, and with more, a Cubic beside us
    /// gets too little.
    fn is_there(&self, is_slow_start: bool) -> bool {
        let (path, now) = (self.path.least(), self.now.least());
        let differ = self.now.greatest().saturating_sub(now);
        now.saturating_sub(path) > path / 16 + INEXACT + differ * 2
            || is_slow_start && self.smoothed.saturating_sub(path) > path / 4 + START
    }
}

/// Tells random loss from congestion.
#[derive(Clone, Copy, Debug, Default)]
struct Losses {
    /// Bytes that arrived and that were lost, of about the last [`SAMPLE`] packets.
    arrived: u64,
    lost: u64,
}

impl Losses {
    fn on_ack(&mut self, bytes: u64, mtu: u64) {
        self.arrived += bytes;
        if self.arrived + self.lost > SAMPLE * mtu {
            (self.arrived, self.lost) = (self.arrived / 2, self.lost / 2);
        }
    }

    /// Whether so many are lost that the loss of these bytes is congestion.
    fn are_many(&mut self, bytes: u64, mtu: u64) -> bool {
        self.lost += bytes;
        let all = self.arrived + self.lost;
        let are_many = self.lost > LEAST_LOST * mtu && self.lost * 100 > all * RANDOM_LOSS;
        if are_many {
            // Losses before the window is reduced are no reason to reduce it again.
            (self.arrived, self.lost) = (0, 0);
        }
        are_many
    }
}

impl Controller for TolerantCubic {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.queue.on_ack(now, now - sent, rtt.get());
        self.losses.on_ack(bytes, self.mtu);
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.cubic.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        // Without lost bytes it is a mark of a router (ECN).
        let are_many = self.losses.are_many(lost_bytes, self.mtu);
        // The first slow start, and the only one that does not end by itself.
        let is_slow_start = self.cubic.metrics().ssthresh == Some(u64::MAX);
        let has_queue = self.queue.is_there(is_slow_start);
        if has_queue || are_many || is_persistent_congestion || lost_bytes == 0 {
            self.cubic.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu.into();
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window().max(LEAST_PACKETS * self.mtu)
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.cubic.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { cubic: self.cubic.clone_box(), ..*self })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    /// The [`Cubic`](quinn_proto::congestion::Cubic).
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self.cubic.into_any()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "any time will do to begin with")]

    use super::*;

    const MTU: u16 = 1_452;
    const SOME: Duration = Duration::from_millis(1);

    fn built() -> Box<dyn Controller> {
        Arc::new(TolerantCubicFactory::default()).build(Instant::now(), MTU)
    }

    /// The window after losses, each in a round trip of its own.
    fn after(mut controller: Box<dyn Controller>, losses: u32, is_persistent: bool) -> u64 {
        let start = Instant::now();
        for now in (1..=losses).map(|n| start + SOME * n) {
            controller.on_congestion_event(now, now, is_persistent, MTU.into());
        }
        controller.window()
    }

    #[test]
    fn a_few_losses_leave_the_window() {
        assert_eq!(after(built(), 10, false), built().window());
        assert!(after(built(), 11, false) < built().window(), "these are many");
        assert!(after(built(), 1, true) < built().window(), "nothing arrives");
    }

    #[test]
    fn a_mark_of_a_router_reduces_the_window() {
        let (mut controller, now) = (built(), Instant::now());
        controller.on_congestion_event(now, now, false, 0);
        assert!(controller.window() < built().window());
    }

    #[test]
    fn congestion_leaves_two_pairs_of_packets() {
        let cubic = Arc::new(CubicConfig::default()).build(Instant::now(), MTU);
        assert_eq!(built().window(), cubic.window(), "before, nothing is different");
        let (least, theirs) = (after(built(), 100, true), after(cubic, 100, true));
        assert_eq!((theirs, least), (2 * u64::from(MTU), 4 * u64::from(MTU)));
        let mut controller = built();
        controller.on_mtu_update(1_200);
        assert_eq!(after(controller.clone_box(), 100, true), 4 * 1_200);
    }

    /// A packet of each millisecond arrives, after so many milliseconds.
    struct Acks(Queue, Instant);

    impl Acks {
        fn new() -> Self {
            let start = Instant::now();
            Self(Queue::new(start), start)
        }

        /// Whether there is a queue after packets with these times, one after the other, during so many milliseconds.
        fn have_queue(&mut self, millis: u32, rtts: &[u64]) -> bool {
            let rtts = rtts.iter().cycle().copied().map(Duration::from_millis);
            for rtt in rtts.take(millis as usize) {
                self.1 += SOME;
                self.0.on_ack(self.1, rtt, rtt);
            }
            self.0.is_there(false)
        }
    }

    #[test]
    fn packets_wait_in_a_queue_if_even_the_fastest_is_slow() {
        let mut acks = Acks::new();
        assert!(!acks.0.is_there(true), "nothing is known");
        assert!(!acks.have_queue(500, &[40]));
        assert!(!acks.have_queue(500, &[43]), "that is inexact");
        assert!(!acks.have_queue(99, &[44]), "a burst");
        assert!(acks.have_queue(200, &[44]));
        assert!(!acks.have_queue(1, &[40]), "it is gone");
        assert!(!acks.have_queue(500, &[40, 80]), "one of them waited for nothing");
        assert!(!acks.have_queue(500, &[50, 60]), "they differ");
        assert!(acks.have_queue(500, &[70, 80]));
    }

    #[test]
    fn a_queue_that_slow_start_makes_is_seen_at_once() {
        let mut acks = Acks::new();
        assert!(!acks.have_queue(500, &[40]));
        assert!(!acks.have_queue(10, &[55]) && !acks.0.is_there(true));
        assert!(!acks.have_queue(10, &[56]) && acks.0.is_there(true));
    }

    #[test]
    fn a_longer_path_is_a_queue_for_twenty_seconds_at_most() {
        let mut acks = Acks::new();
        assert!(!acks.have_queue(500, &[40]));
        assert!(acks.have_queue(9_000, &[160]));
        assert!(!acks.have_queue(11_000, &[160]));
        assert!(acks.have_queue(500, &[180]));
        assert!(!acks.have_queue(500, &[40]), "a shorter one is known at once");
    }

    /// The estimate of quinn is 333 ms before the first one, and a packet may wait 25 ms for its acknowledgement.
    #[test]
    fn a_time_is_the_least_of_the_estimate_and_of_the_packets() {
        let (start, millis) = (Instant::now(), Duration::from_millis);
        let mut queue = Queue::new(start);
        queue.on_ack(start, millis(600), millis(333));
        for n in 1..500 {
            queue.on_ack(start + SOME * n, millis(600), millis(600));
            assert!(!queue.is_there(true));
        }
        for n in 500..1_000 {
            queue.on_ack(start + SOME * n, millis(650), millis(601));
            assert!(!queue.is_there(true), "the acknowledgement waited");
        }
    }

    #[test]
    fn a_loss_rate_is_that_of_the_last_packets() {
        let mut losses = Losses::default();
        let mut are_many = |lost: u64, arrived: u64| {
            losses.on_ack(arrived * 1_200, 1_200);
            losses.are_many(lost * 1_200, 1_200)
        };
        assert!(!are_many(0, 1_000_000));
        // One in a hundred for a long time.
        assert!((0..1_000).all(|_| !are_many(1, 99)));
        // One in ten.
        assert!((0..40).any(|_| are_many(1, 9)));
        assert!(!are_many(1, 9), "the next reduction has new reasons");
    }
}
