//! What the peer of a session knows of the path from it to us, for those who want to know.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use super::Result;
use super::session::Shared;
use super::wakers::{WaitSlot, Wakers, Woken, lock, wait};
use crate::census::census;
use crate::error::Error;
use crate::machine::PathEstimate;

/// Hears what the peer of a session knows of the path from it to us (PROBE, moq-lite 03 and later): what a
/// player needs that picks a rendition. Our own view of the path is in
/// [`Session::stats`](super::Session::stats).
///
/// The peer is asked as long as there is a handle, and tells when something changes by much, at least
/// every 10 s, at most every 0.1 s. A handle does not keep its session open.
pub struct Probe {
    session: Arc<Shared>,
    /// The number of the news that this handle gave last.
    seen: u64,
    slot: WaitSlot,
}

impl Probe {
    pub(super) fn new(session: Arc<Shared>) -> Self {
        session.estimates.join();
        Self { session, seen: 0, slot: WaitSlot::default() }
    }

    /// What the peer said last; `None` if it said nothing yet, or can't any more.
    pub fn latest(&self) -> Option<PathEstimate> {
        lock(&self.session.estimates.state).latest
    }

    fn wait_changed(&mut self, waker: Option<&Waker>) -> Poll<Result<PathEstimate>> {
        let waker = waker.cloned();
        // Declared before the guard: dropped after the unlock.
        let _displaced;
        let mut state = lock(&self.session.estimates.state);
        if let Some(error) = &state.over {
            return Poll::Ready(Err(error.clone()));
        }
        if let Some(estimate) = state.latest.filter(|_| state.news != self.seen) {
            self.seen = state.news;
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

/// What the driver of a session and its [`Probe`]s share.
#[derive(Debug)]
pub(super) struct Estimates {
    state: Mutex<State>,
    /// Tells the driver that there is a handle now, or none any more.
    driver: Waker,
}

#[derive(Debug, Default)]
struct State {
    handles: usize,
    latest: Option<PathEstimate>,
    /// How often the latest was another one.
    news: u64,
    over: Option<Error>,
    waiters: Wakers,
}

impl Estimates {
    pub(super) fn new(driver: Waker) -> Self {
        Self { state: Mutex::default(), driver }
    }

    fn join(&self) {
        let mut state = lock(&self.state);
        state.handles += 1;
        let is_first = state.handles == 1;
        drop(state);
        if is_first {
            self.driver.wake_by_ref();
        }
    }

    fn leave(&self, slot: &mut WaitSlot) {
        let mut state = lock(&self.state);
        let unused = state.waiters.free(slot);
        state.handles -= 1;
        let was_last = state.handles == 0;
        drop(state);
        drop(unused);
        if was_last {
            self.driver.wake_by_ref();
        }
    }

    /// Whether the peer should be asked. If not, what it said grows old, and is forgotten.
    pub(super) fn are_wanted(&self) -> bool {
        let mut state = lock(&self.state);
        if state.handles == 0 {
            state.latest = None;
        }
        state.handles > 0
    }

    pub(super) fn tell(&self, estimate: PathEstimate) {
        let mut woken = Woken::default();
        let mut state = lock(&self.state);
        if state.handles == 0 || state.latest == Some(estimate) {
            return;
        }
        state.latest = Some(estimate);
        state.news += 1;
        state.waiters.take(&mut woken);
        drop(state);
        woken.wake();
    }

    pub(super) fn end(&self, error: Error) {
        let mut woken = Woken::default();
        let mut state = lock(&self.state);
        state.over.get_or_insert(error);
        state.latest = None;
        state.waiters.take(&mut woken);
        drop(state);
        woken.wake();
    }
}

census! { State { counts: waiters; plain: handles, latest, news, over; } }
census! { Estimates { within: state; plain: driver; } }
