//! Conversion between the time of the standard library and the time of an origin.

use std::sync::{Arc, OnceLock};

use crate::Instant;

/// Converts instants of the standard library to those of one origin. It never reads a clock.
///
/// The first instant that any clone converts becomes the origin's epoch, so all adapters of an
/// origin agree. Clones share the epoch.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<OnceLock<std::time::Instant>>);

impl Clock {
    /// The time since the epoch in whole microseconds; [`Instant::ZERO`] for an instant before the
    /// epoch.
    pub fn instant(&self, now: std::time::Instant) -> Instant {
        Instant::ZERO + now.saturating_duration_since(*self.0.get_or_init(|| now))
    }

    /// Converts back, for timers. `None` before the first call of [`instant`](Self::instant), and
    /// if the standard library can't represent the result.
    pub fn deadline(&self, at: Instant) -> Option<std::time::Instant> {
        self.0.get()?.checked_add(at.since(Instant::ZERO))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Some instant, without asking the clock of instants.
    fn sample() -> std::time::Instant {
        // `Instant` has no constructor but `now`; a test may look at the clock once.
        #[expect(clippy::disallowed_methods, reason = "the value is only a starting point")]
        std::time::Instant::now()
    }

    #[test]
    fn first_instant_is_the_epoch_for_all_clones() {
        let clock = Clock::default();
        let start = sample() + Duration::from_secs(60);
        assert_eq!(clock.clone().instant(start), Instant::ZERO);
        assert_eq!(clock.instant(start + Duration::from_millis(3)), Instant::from_millis(3));
        assert_eq!(clock.instant(start - Duration::from_secs(1)), Instant::ZERO);
    }
}
