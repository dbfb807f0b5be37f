//! What the peer of a session knows of the path from it to us, for those who want to know.

use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::shared::SessionShared;
use crate::PathEstimate;
use crate::model::Result;
use crate::model::base::{WaitSlot, lock, wait};

/// Hears what the peer of a session knows of the path from it to us (PROBE, moq-lite 03 and later): what a
/// player needs that picks a rendition. Our own view of the path is in
/// [`Session::stats`](super::Session::stats).
///
/// The peer is asked as long as there is a handle, and tells when something changes by much, at least
/// every 10 s, at most every 0.1 s. A handle does not keep its session open.
pub struct Probe {
    session: Arc<SessionShared>,
    /// The number of the news that this handle gave last.
    seen: u64,
    slot: WaitSlot,
}

impl Probe {
    pub(crate) fn new(session: Arc<SessionShared>) -> Self {
        session.estimates.join();
        Self { session, seen: 0, slot: WaitSlot::default() }
    }

    /// What the peer said last; `None` if it said nothing yet, or can't any more.
    pub fn latest(&self) -> Option<PathEstimate> {
        lock(&self.session.estimates.state).latest
    }

    fn wait_changed(&mut self, waker: Option<&Waker>) -> Poll<Result<PathEstimate>> {
        let waker = waker.cloned();
        // Declared before the guard, so that it is dropped after the lock is released.
        let _displaced;
        let mut state = lock(&self.session.estimates.state);
        if let Some(error) = &state.ended {
            return Poll::Ready(Err(error.clone()));
        }
        if let Some(estimate) = state.latest.filter(|_| state.changes != self.seen) {
            self.seen = state.changes;
            return Poll::Ready(Ok(estimate));
        }
        _displaced = waker.and_then(|waker| state.waiters.register(&mut self.slot, waker));
        Poll::Pending
    }

    wait! {
        /// The newest estimate that this handle has not given yet; those between are left out. What was
        /// known and is not any more is one as well, of `None`.
        ///
        /// [`Error::Unsupported`] if the peer can't tell: on moq-lite 01 and 02 and moq-transport, if it
        /// says so in SETUP (05+), or ends the stream. If it resets the stream, its error. It is not asked
        /// again in this session. Without an adapter that tells *it* of the path, a peer may also be
        /// silent for ever.
        wait_changed => poll_changed, changed, try_changed() -> Result<PathEstimate>
    }
}

impl Clone for Probe {
    fn clone(&self) -> Self {
        self.session.estimates.join();
        Self { session: self.session.clone(), seen: self.seen, slot: WaitSlot::default() }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.session.estimates.leave(&mut self.slot);
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("latest", &self.latest()).finish_non_exhaustive()
    }
}
