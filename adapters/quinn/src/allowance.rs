//! How many streams the peer may open.

use std::time::Duration;

use smoq::Instant;
use smoq_quic::StreamAllowance;

/// How many streams of one direction the peer uses, and may use.
///
/// quinn does not tell how many are open, so they are counted here. A stream that has ended counts for two to
/// four round trips more: QUIC allows another one when the peer has acknowledged the end, and the peer learns
/// of that later still.
pub(crate) struct Allowance {
    allowed: StreamAllowance,
    open: u32,
    /// Streams that ended in this period and in the one before. A period is two round trips.
    ended: [u32; 2],
    /// When this period and the next one end.
    until: [Instant; 2],
}

impl Allowance {
    pub(crate) fn new(first: u32) -> Self {
        Self {
            allowed: StreamAllowance::new(first),
            open: 0,
            ended: [0; 2],
            until: [Instant::ZERO; 2],
        }
    }

    /// The peer opened a stream. Returns the new limit if it has to be raised.
    pub(crate) fn opened(&mut self, now: Instant, rtt: impl FnOnce() -> Duration) -> Option<u32> {
        if now >= self.until[0] {
            let period = 2 * rtt();
            self.ended = [0, if now < self.until[1] { self.ended[0] } else { 0 }];
            self.until = [now + period, now + 2 * period];
        }
        self.open += 1;
        let used = self.open + self.ended[0] + self.ended[1];
        self.allowed.raise(used.into())
    }

    /// A stream that the peer opened is over.
    pub(crate) fn ended(&mut self) {
        self.open -= 1;
        self.ended[0] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::STREAMS;

    fn rtt() -> Duration {
        Duration::from_millis(100)
    }

    #[test]
    fn it_grows_when_more_than_half_is_used_and_no_further_than_the_limit() {
        let mut allowance = Allowance::new(512);
        let raised: Vec<(u32, u32)> = (1..=STREAMS)
            .filter_map(|n| allowance.opened(Instant::ZERO, rtt).map(|limit| (n, limit)))
            .collect();
        assert_eq!(raised, [(257, 2_048), (1_025, STREAMS)]);
    }

    /// Four hundred groups a second, twenty of them open at a time.
    #[test]
    fn a_peer_with_few_streams_gets_no_more() {
        let mut allowance = Allowance::new(512);
        for n in 0..10_000 {
            let now = Instant::ZERO + n * Duration::from_micros(2_500);
            assert_eq!(allowance.opened(now, rtt), None);
            if n >= 20 {
                allowance.ended();
            }
        }
    }

    /// Ten thousand requests a second that are answered at once wait for acknowledgements all the same.
    #[test]
    fn streams_that_ended_lately_count() {
        let mut allowance = Allowance::new(256);
        let mut limit = 256;
        for n in 0..10_000 {
            let now = Instant::ZERO + n * Duration::from_micros(100);
            limit = allowance.opened(now, rtt).unwrap_or(limit);
            allowance.ended();
        }
        assert_eq!(limit, STREAMS);
    }
}
