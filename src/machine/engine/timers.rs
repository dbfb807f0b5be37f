//! Deadlines, the earliest first.

use alloc::collections::BTreeSet;

use crate::slab::Key;
use crate::time::Instant;

/// What a deadline is for. None of them is periodic but [`Timer::Probe`], while the peer wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The peer's set-up did not come, or the decision on it.
    Handshake,
    /// A graceful close took too long.
    Close,
    /// The peer is to hear of the path.
    Probe,
    /// The peer was to leave by now.
    GoAway,
    /// The group stream that waits longest for its track waits too long.
    Unbound,
    /// A subscription is over but for groups that may still come.
    Stragglers(Key),
}

#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Instant, Timer)>);

impl Timers {
    pub(crate) fn set(&mut self, at: Instant, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(crate) fn unset(&mut self, at: Instant, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    /// As [`set`](Self::set), but for one that is set already: then the earlier time counts.
    pub(crate) fn hasten(&mut self, at: Instant, timer: Timer) {
        if let Some(set) = self.0.iter().find(|(_, it)| *it == timer).copied() {
            if set.0 <= at {
                return;
            }
            self.0.remove(&set);
        }
        self.set(at, timer);
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// The next one that is due. A timer that lost its meaning is the owner's to ignore.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Timer> {
        let first = *self.0.first()?;
        if first.0 > now {
            return None;
        }
        self.0.remove(&first);
        Some(first.1)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(any(test, feature = "sim"))]
impl crate::census::Entries for Timers {
    fn entries(&self) -> usize {
        let Self(set) = self;
        set.len()
    }
}
