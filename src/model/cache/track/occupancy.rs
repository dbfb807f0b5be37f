//! Counts how many tracks of a broadcast are live, and how many of them are read. The tracks report
//! changes, so that no call has to visit all of them.

use std::task::{Poll, Waker};

use crate::census::census;
use crate::model::base::sync::Mutex;
use crate::model::base::{DeferredWakes, WaitSlot, Wakers, lock, wait_on};

/// The counts of one broadcast, or of a track without a broadcast. Its lock is the last in the lock
/// order.
#[derive(Debug, Default)]
pub(crate) struct Occupancy(Mutex<OccupancyState>);

#[derive(Debug, Default)]
struct OccupancyState {
    live: usize,
    read: usize,
    /// Handles that wait for the first reader.
    used: Wakers,
    /// Handles that wait for the last reader to leave.
    unused: Wakers,
}

/// The report of one track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrackStatus {
    pub(crate) is_live: bool,
    /// Whether it is live and has a reader.
    pub(crate) is_read: bool,
}

/// The wait slots of one handle.
#[derive(Debug, Default)]
pub(crate) struct OccupancySlots {
    used: WaitSlot,
    unused: WaitSlot,
}

impl Occupancy {
    pub(crate) fn update(&self, before: TrackStatus, now: TrackStatus, wakes: &mut DeferredWakes) {
        if before == now {
            return;
        }
        let mut counts = lock(&self.0);
        let was_read = counts.read > 0;
        counts.live = counts.live + usize::from(now.is_live) - usize::from(before.is_live);
        counts.read = counts.read + usize::from(now.is_read) - usize::from(before.is_read);
        match (was_read, counts.read > 0) {
            (false, true) => counts.used.take(wakes),
            (true, false) => counts.unused.take(wakes),
            _ => {}
        }
    }

    /// Whether any track is live.
    pub(crate) fn has_live(&self) -> bool {
        lock(&self.0).live > 0
    }

    /// Ready when a track is read, or when none is, depending on `read`.
    pub(crate) fn wait(
        &self,
        slots: &mut OccupancySlots,
        waker: Option<&Waker>,
        read: bool,
    ) -> Poll<()> {
        let slot = if read { &mut slots.used } else { &mut slots.unused };
        wait_on(
            &self.0,
            waker,
            slot,
            |counts| if read { &mut counts.used } else { &mut counts.unused },
            |counts| match (counts.read > 0) == read {
                true => Poll::Ready(()),
                false => Poll::Pending,
            },
        )
    }

    /// Wakes handles that wait for a reader: none will come.
    pub(crate) fn end(&self, wakes: &mut DeferredWakes) {
        lock(&self.0).used.take(wakes);
    }

    /// Removes the waiters of a handle.
    pub(crate) fn free(&self, slots: &mut OccupancySlots) {
        if slots.used.is_used() || slots.unused.is_used() {
            let mut counts = lock(&self.0);
            let freed = (counts.used.free(&mut slots.used), counts.unused.free(&mut slots.unused));
            drop(counts);
            drop(freed);
        }
    }
}

census! { OccupancyState { counts: live, read, used, unused; } }

#[cfg(any(test, feature = "sim"))]
impl crate::census::Counted for Occupancy {
    fn count(&self, name: &'static str, census: &mut crate::census::Census) {
        self.0.count(name, census);
    }
}
