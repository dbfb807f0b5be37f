//! A session's view of a group, which keeps no frames in the cache.

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::cached_group::{CachedGroup, GroupForm};
use crate::machine::{FrameView, Supply};
use crate::model::base::{WaitSlot, change, lock};

/// Reads a group for a session. It does not keep the frames in the cache.
pub(crate) struct GroupCursor {
    group: Arc<CachedGroup>,
    slot: Cell<WaitSlot>,
}

impl GroupCursor {
    pub(crate) fn new(group: Arc<CachedGroup>) -> Self {
        Self { group, slot: Cell::default() }
    }

    /// The number of the group in its track.
    pub(crate) fn sequence(&self) -> u64 {
        self.group.sequence
    }

    /// How the group is to be sent.
    pub(crate) fn form(&self) -> GroupForm {
        self.group.form()
    }

    /// The number of complete frames.
    pub(crate) fn frame_count(&self) -> u64 {
        lock(&self.group.state).frames()
    }

    /// Shows `push` the frames from `from` on until it returns `false`, the open frame last, all
    /// under one lock. Up to `skipped` payload bytes of the first frame are left out. If it returns
    /// [`Supply::Pending`], `waker` is registered in place of an earlier one.
    pub(crate) fn frames(
        &self,
        from: u64,
        skipped: u64,
        waker: Option<&Waker>,
        push: &mut dyn FnMut(FrameView<'_>) -> bool,
    ) -> Supply {
        let waker = waker.cloned();
        // Declared before the guard, so that it is dropped after the lock is released.
        let _displaced;
        let mut state = lock(&self.group.state);
        let mut index = from;
        let mut previous = state.previous(from);
        let skipped = |index| if index == from { skipped } else { 0 };
        loop {
            match state.page(index) {
                Poll::Ready(Ok(Some(page))) => {
                    while let Some(slot) = page.slot(index) {
                        if !push(slot.view(previous, skipped(index))) {
                            return Supply::More;
                        }
                        previous = slot.timestamp();
                        index += 1;
                    }
                }
                Poll::Ready(Ok(None)) => return Supply::End,
                Poll::Ready(Err(error)) => return Supply::Gone(error),
                Poll::Pending => break,
            }
        }
        let is_open = index == state.frames();
        if let Some(open) = state.open().filter(|_| is_open) {
            let (timestamp, properties, size) = (open.timestamp, open.properties(), open.size);
            let (payload, offset) = open.pieces.from(skipped(index));
            // An incomplete frame can't be taken whole, and it is the last one in any case.
            let wire = None;
            push(FrameView { timestamp, previous, size, properties, wire, payload, offset });
        }
        let mut slot = self.slot.take();
        _displaced = waker.and_then(|waker| {
            self.group.extras(&mut state).chunk_waiters.register(&mut slot, waker)
        });
        self.slot.set(slot);
        Supply::Pending
    }
}

impl Drop for GroupCursor {
    fn drop(&mut self) {
        let slot = self.slot.get_mut();
        if slot.is_used() {
            let _freed = change(&self.group.state, |state, _| {
                state.extras().and_then(|extras| extras.chunk_waiters.free(slot))
            });
        }
    }
}
