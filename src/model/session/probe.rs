//! Estimates of the path from the peer.

use std::sync::Arc;
use std::task::{Poll, Waker};

use super::shared::SessionShared;
use crate::PathEstimate;
use crate::model::base::{Result, WaitSlot, impl_debug, lock, wait, wait_on};

/// Reads what the peer knows about the path from it to this side (PROBE, moq-lite 03 and later). A
/// player can use it to choose a rendition. Measurements of this side are in
/// [`Session::gauges`](super::Session::gauges).
///
/// The peer is asked as long as there is a handle. It sends an estimate after a large change, at
/// least every 10 s and at most every 0.1 s. A handle does not keep its session open.
pub struct Probe {
    session: Arc<SessionShared>,
    /// The change that this handle returned last.
    seen: u64,
    slot: WaitSlot,
}

impl Probe {
    pub(crate) fn new(session: Arc<SessionShared>) -> Self {
        session.estimates.join();
        Self { session, seen: 0, slot: WaitSlot::default() }
    }

    /// The latest estimate of the peer; `None` if there is none yet or no more.
    pub fn latest(&self) -> Option<PathEstimate> {
        lock(&self.session.estimates.state).latest
    }

    fn wait_changed(&mut self, waker: Option<&Waker>) -> Poll<Result<PathEstimate>> {
        let Self { session, seen, slot } = self;
        let estimates = &session.estimates.state;
        wait_on(
            estimates,
            waker,
            slot,
            |state| &mut state.waiters,
            |state| match (&state.ended, state.latest.filter(|_| state.changes != *seen)) {
                (Some(error), _) => Poll::Ready(Err(error.clone())),
                (None, Some(estimate)) => {
                    *seen = state.changes;
                    Poll::Ready(Ok(estimate))
                }
                (None, None) => Poll::Pending,
            },
        )
    }

    wait! {
        /// The latest estimate, each time it changed since this handle returned one. Estimates in
        /// between are skipped. An unknown value replaces a known one like any other change.
        ///
        /// A peer whose adapter does not report the path may never send an estimate.
        ///
        /// # Errors
        ///
        /// [`Error::Unsupported`](crate::Error::Unsupported) if the peer can't send estimates: on
        /// moq-lite 01 and 02 and on moq-transport, if its SETUP says so (05 and later), or if it
        /// ends the stream. If it resets the stream, the error of the reset. The reason if the
        /// session is over. The peer is not asked again in this session, which goes on.
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

impl_debug! { Probe, it => latest: &it.latest() }
