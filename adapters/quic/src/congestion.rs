//! The congestion controller of [`config::transport`](crate::config::transport).

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};

/// Packets that may be in flight at least. A receiver acknowledges every second packet at once, and a single one after
/// up to 25 ms. If two may be in flight, as in RFC 9002, and the second is lost, nothing is sent for so long. That is
/// frequent on a path with little delay and random loss: an application that sends less than the path carries does not
/// let the window grow again. BBR keeps four packets in flight for the same reason (draft-ietf-ccwg-bbr, MinPipeCwnd).
const LEAST_PACKETS: u64 = 4;

/// Makes controllers of quinn's Cubic with a window of at least four packets.
#[derive(Debug, Default)]
pub(crate) struct CubicFactory(Arc<CubicConfig>);

impl ControllerFactory for CubicFactory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let cubic = Arc::clone(&self.0).build(now, current_mtu);
        Box::new(FourPackets { cubic, mtu: current_mtu })
    }
}

/// Cubic with a window of at least four packets.
struct FourPackets {
    cubic: Box<dyn Controller>,
    mtu: u16,
}

impl Controller for FourPackets {
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
        self.cubic.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu;
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window().max(LEAST_PACKETS * u64::from(self.mtu))
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.cubic.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { cubic: self.cubic.clone_box(), mtu: self.mtu })
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

    use std::time::Duration;

    use super::*;

    /// The windows of a controller before and after a hundred losses.
    fn windows(mut controller: Box<dyn Controller>) -> (u64, u64) {
        let (start, before) = (Instant::now(), controller.window());
        for millis in 1..=100 {
            let now = start + Duration::from_millis(millis);
            controller.on_congestion_event(now, now, false, 1_452);
        }
        (before, controller.window())
    }

    #[test]
    fn random_loss_leaves_two_pairs_of_packets() {
        let now = Instant::now();
        let cubic = windows(Arc::new(CubicConfig::default()).build(now, 1_452));
        let ours = windows(Arc::new(CubicFactory::default()).build(now, 1_452));
        assert_eq!(ours.0, cubic.0, "nothing else is different");
        assert_eq!((cubic.1, ours.1), (2 * 1_452, 4 * 1_452));
    }

    #[test]
    fn a_larger_packet_makes_the_least_window_larger() {
        let mut controller = Arc::new(CubicFactory::default()).build(Instant::now(), 1_200);
        controller.on_mtu_update(1_452);
        assert_eq!(windows(controller.clone_box()).1, 4 * 1_452);
        assert_eq!(windows(controller).1, 4 * 1_452);
    }
}
