//! Deadlines, the earliest first.

use alloc::collections::BTreeSet;

use crate::slab::Key;
use crate::time::Instant;

/// The purpose of a deadline. None is periodic except [`Timer::Probe`], while the peer wants reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The peer's set-up did not arrive, or the application did not accept the peer.
    Handshake,
    /// A graceful close took too long.
    Close,
    /// The peer has had its time to read before a graceful close.
    Unread,
    /// A report of the network path is due.
    Probe,
    /// The peer ended its control stream, and the session should have ended since.
    Leaving,
    /// The requests that ran when we sent GOAWAY should be over.
    GoAway,
    /// An announcement of the peer may be no echo of ours any more.
    Echo,
    /// The group stream that waits longest for its subscription waited too long.
    Unbound,
    /// The frames before the first one on this group stream should have begun to arrive.
    Head(Key),
    /// Groups of a subscription that had its last answer should have arrived.
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

    /// As [`set`](Self::set). If the timer is set already, the earlier time counts.
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

    /// The next timer that is due. The caller ignores one that lost its meaning.
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
