//! The state that a driver and its probes share.

use std::task::Waker;

use crate::census::census;
use crate::model::base::sync::Mutex;
use crate::model::base::{WaitSlot, Wakers, change, lock};
use crate::{Error, PathEstimate};

/// The state that the driver of a session and its [`Probe`](super::Probe)s share.
#[derive(Debug)]
pub(crate) struct PathEstimates {
    pub(super) state: Mutex<EstimateState>,
    /// Wakes the driver when the first handle is created or the last one is dropped.
    driver: Waker,
}

#[derive(Debug, Default)]
pub(super) struct EstimateState {
    handles: usize,
    pub(super) latest: Option<PathEstimate>,
    /// Counts the changes of `latest`.
    pub(super) changes: u64,
    pub(super) ended: Option<Error>,
    pub(super) waiters: Wakers,
}

impl PathEstimates {
    pub(crate) fn new(driver: Waker) -> Self {
        Self { state: Mutex::default(), driver }
    }

    pub(super) fn join(&self) {
        let is_first = change(&self.state, |state, _| {
            state.handles += 1;
            state.handles == 1
        });
        if is_first {
            self.driver.wake_by_ref();
        }
    }

    pub(super) fn leave(&self, slot: &mut WaitSlot) {
        let (_freed, was_last) = change(&self.state, |state, _| {
            state.handles -= 1;
            (state.waiters.free(slot), state.handles == 0)
        });
        if was_last {
            self.driver.wake_by_ref();
        }
    }

    /// Whether the peer should be asked for estimates. If not, the latest one is forgotten, because
    /// it would grow old.
    pub(crate) fn are_wanted(&self) -> bool {
        let mut state = lock(&self.state);
        if state.handles == 0 {
            state.latest = None;
        }
        state.handles > 0
    }

    pub(crate) fn update(&self, estimate: PathEstimate) {
        change(&self.state, |state, wakes| {
            if state.handles == 0 || state.latest == Some(estimate) {
                return;
            }
            state.latest = Some(estimate);
            state.changes += 1;
            state.waiters.take(wakes);
        });
    }

    pub(crate) fn end(&self, error: Error) {
        change(&self.state, |state, wakes| {
            state.ended.get_or_insert(error);
            state.latest = None;
            state.waiters.take(wakes);
        });
    }
}

census! { EstimateState { counts: waiters; plain: handles, latest, changes, ended; } }

census! { PathEstimates { within: state; plain: driver; } }
