//! Whether QUIC takes bytes.

use core::time::Duration;

use crate::time::Instant;

/// Whether QUIC takes bytes. QUIC refuses a stream if the peer gives that stream no credit, or if the whole
/// connection sends as fast as it can. A second stream that is refused means the connection, for a while.
#[derive(Debug, Default)]
pub(crate) struct Congestion {
    /// Streams that were refused since QUIC took something.
    pub(crate) refused: u32,
    /// QUIC takes nothing until this time, unless it says earlier that it does.
    pub(crate) until: Option<Instant>,
}

/// How long nothing else is tried, at first and at most. It matters only if the refused streams are those without
/// credit.
const RETRY: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(1_280)];

impl Congestion {
    /// QUIC refused a stream. Returns whether it takes nothing.
    pub(crate) fn refuse(&mut self, now: Instant) -> bool {
        self.refused += 1;
        let is_full = self.refused % 2 == 0;
        if is_full {
            let [first, most] = RETRY;
            self.until = Some(now + most.min(first * (1 << (self.refused / 2 - 1).min(10))));
        }
        is_full
    }
}
