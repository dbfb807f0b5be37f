//! Groups whose source went away while they were open: another source may have the rest.

use std::sync::Arc;

use smallvec::SmallVec;

use super::super::frame::FrameProducer;
use super::super::group::GroupProducer;
use super::super::wakers::Woken;
use super::Shared;
use crate::census::census;
use crate::error::Error;

/// Those that nobody took yet, and those that are to be aborted as soon as no lock is held.
#[derive(Default)]
pub(super) struct Rests {
    pub(super) open: SmallVec<[Rest; 1]>,
    lost: SmallVec<[Rest; 1]>,
}

/// What is missing of a group. Its producers keep the group open.
pub(crate) struct Rest {
    group: GroupProducer,
    frame: Option<FrameProducer>,
    /// Why it is missing.
    error: Error,
}

impl Rests {
    /// Nobody will bring them.
    pub(super) fn lose(&mut self) {
        self.lost.append(&mut self.open);
    }

    /// Those that are lost, to be given up after the unlock.
    pub(super) fn take_lost(&mut self) -> SmallVec<[Rest; 1]> {
        std::mem::take(&mut self.lost)
    }
}

impl Rest {
    pub(crate) fn sequence(&self) -> u64 {
        self.group.sequence()
    }

    /// Index of the first frame that is not here whole.
    pub(crate) fn first_frame(&self) -> u64 {
        self.group.frame_count()
    }

    /// The group, and the frame of which a part is here: to be written on.
    pub(crate) fn into_parts(self) -> (GroupProducer, Option<FrameProducer>) {
        (self.group, self.frame)
    }

    /// Whoever was to bring it is gone as well.
    pub(crate) fn leave(self) {
        cut_off(self.group, self.frame, self.error);
    }

    /// Ends the group with what is there.
    pub(crate) fn give_up(mut self) {
        self.group.abort(self.error);
    }
}

/// The source of a group is gone while it was open. Another source of its track is asked for the rest;
/// without one the group is aborted with `error`.
pub(crate) fn cut_off(group: GroupProducer, frame: Option<FrameProducer>, error: Error) {
    let track = group.track();
    let rest = Rest { group, frame, error };
    match track {
        Some(track) => track.leave(rest),
        None => rest.give_up(),
    }
}

impl Shared {
    fn leave(self: &Arc<Self>, rest: Rest) {
        self.change(&mut Woken::default(), |state, woken| {
            state.rests.open.push(rest);
            if state.sources.is_empty() || state.abort.is_some() {
                state.rests.lose();
            }
            state.demand.suppliers.take(woken);
        });
    }
}

census! { Rests { counts: open, lost; } }
