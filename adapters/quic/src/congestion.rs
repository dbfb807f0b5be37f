//! The congestion controller of [`config::transport`](crate::config::transport): quinn's Cubic, made for live media.
//!
//! Cubic reduces its window after every loss. On wireless links packets are lost at random as well, and then Cubic uses a
//! small part of the path: with a loss of 1 % and 40 ms about 3 Mbit/s. Here a loss is congestion only if packets wait in a
//! queue, or if many are lost. TCP Veno (Fu and Liew, 2003) tells the two apart by the queue, too, and BBR tolerates a loss
//! rate like this one (draft-ietf-ccwg-bbr, LossThresh).

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
/// A round-trip time that is longer than the least one by this, and by a quarter, is that of a queue.
const QUEUE: Duration = Duration::from_millis(5);
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
        Box::new(TolerantCubic { cubic, mtu: current_mtu.into(), losses: Losses::default() })
    }
}

struct TolerantCubic {
    cubic: Box<dyn Controller>,
    mtu: u64,
    losses: Losses,
}

/// Tells random loss from congestion.
#[derive(Clone, Copy, Debug, Default)]
struct Losses {
    /// Bytes that arrived and that were lost, of about the last [`SAMPLE`] packets.
    arrived: u64,
    lost: u64,
    has_queue: bool,
}

impl Losses {
    fn on_ack(&mut self, bytes: u64, rtt: Duration, least_rtt: Duration, mtu: u64) {
        self.has_queue = rtt > least_rtt + least_rtt / 4 + QUEUE;
        self.arrived += bytes;
        if self.arrived + self.lost > SAMPLE * mtu {
            (self.arrived, self.lost) = (self.arrived / 2, self.lost / 2);
        }
    }

    /// Whether the loss of these bytes is to be taken as congestion.
    fn is_congestion(&mut self, bytes: u64, mtu: u64) -> bool {
        self.lost += bytes;
        let all = self.arrived + self.lost;
        let are_many = self.lost > LEAST_LOST * mtu && self.lost * 100 > all * RANDOM_LOSS;
        if are_many {
            // Losses before the window is reduced are no reason to reduce it again.
            (self.arrived, self.lost) = (0, 0);
        }
        self.has_queue || are_many
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
        self.losses.on_ack(bytes, rtt.get(), rtt.min(), self.mtu);
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
        let is_congestion = self.losses.is_congestion(lost_bytes, self.mtu);
        if is_congestion || is_persistent_congestion || lost_bytes == 0 {
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

    #[test]
    fn a_loss_beside_a_queue_is_congestion() {
        let mut losses = Losses::default();
        let mut is_congestion = |rtt| {
            losses.on_ack(100_000, Duration::from_millis(rtt), Duration::from_millis(40), 1_200);
            losses.is_congestion(1_200, 1_200)
        };
        assert!(!is_congestion(40));
        assert!(!is_congestion(55));
        assert!(is_congestion(56));
        assert!(!is_congestion(40), "it is gone");
    }

    #[test]
    fn a_loss_rate_is_that_of_the_last_packets() {
        let mut losses = Losses::default();
        let mut is_congestion = |lost: u64, arrived: u64| {
            losses.on_ack(arrived * 1_200, SOME, SOME, 1_200);
            losses.is_congestion(lost * 1_200, 1_200)
        };
        assert!(!is_congestion(0, 1_000_000));
        // One in a hundred for a long time.
        assert!((0..1_000).all(|_| !is_congestion(1, 99)));
        // One in ten.
        assert!((0..40).any(|_| is_congestion(1, 9)));
        assert!(!is_congestion(1, 9), "the next reduction has new reasons");
    }
}
