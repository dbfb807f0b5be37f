//! Groups whose source went away while they were open: another source may have the rest.

use std::sync::Arc;

use smallvec::SmallVec;

use super::super::frame::FrameProducer;
use super::super::group::GroupProducer;
use super::super::wakers::Woken;
use super::{Shared, State};
use crate::census::census;
use crate::error::Error;

/// Those that nobody took yet, and those that are to be aborted as soon as no lock is held.
#[derive(Default)]
pub(super) struct Rests {
    open: SmallVec<[Rest; 1]>,
    lost: SmallVec<[Rest; 1]>,
    /// Who can be asked for them.
    takers: SmallVec<[u64; 2]>,
    last: u64,
}

/// What is missing of a group. Its producers keep the group open.
pub(crate) struct Rest {
    group: GroupProducer,
    frame: Option<FrameProducer>,
    /// Why it is missing.
    error: Error,
    /// Who was asked for it.
    tried: SmallVec<[u64; 1]>,
}

impl Rests {
    /// Somebody more can be asked: by what number.
    pub(super) fn open_taker(&mut self) -> u64 {
        self.last += 1;
        self.takers.push(self.last);
        self.last
    }

    pub(super) fn close_taker(&mut self, taker: u64) {
        self.takers.retain(|other| *other != taker);
    }

    pub(super) fn has_takers(&self) -> bool {
        !self.takers.is_empty()
    }

    /// One that this taker was not asked for.
    pub(super) fn take(&mut self, taker: u64) -> Option<Rest> {
        let at = self.open.iter().rposition(|rest| !rest.tried.contains(&taker))?;
        let mut rest = self.open.remove(at);
        rest.tried.push(taker);
        Some(rest)
    }

    /// Those for which everybody was asked are lost.
    fn lose_tried(&mut self) {
        let Self { open, lost, takers, .. } = self;
        for rest in std::mem::take(open) {
            let is_lost = takers.iter().all(|taker| rest.tried.contains(taker));
            if is_lost { lost.push(rest) } else { open.push(rest) }
        }
    }

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

    /// Whoever was to bring it does not: somebody else is asked who can be.
    pub(crate) fn leave(self) {
        match self.group.track() {
            Some(track) => track.leave(self),
            None => self.give_up(),
        }
    }

    /// Ends the group with what is there.
    pub(super) fn give_up(mut self) {
        self.group.abort(self.error);
    }
}

/// The source of a group is gone while it was open. Another source of its track is asked for the rest;
/// without one the group is aborted with `error`.
pub(crate) fn cut_off(group: GroupProducer, frame: Option<FrameProducer>, error: Error) {
    Rest { group, frame, error, tried: SmallVec::new() }.leave();
}

impl State {
    /// Rests that nobody can be asked for are lost.
    pub(super) fn settle_rests(&mut self) {
        if self.sources.is_empty() || self.abort.is_some() {
            self.rests.lose();
        } else if !self.sources.any_unmet() {
            self.rests.lose_tried();
        }
    }
}

impl Shared {
    fn leave(self: &Arc<Self>, rest: Rest) {
        self.change(&mut Woken::default(), |state, woken| {
            state.rests.open.push(rest);
            state.settle_rests();
            state.fetches.handlers.take(woken);
        });
    }
}

census! { Rests { counts: open, lost, takers; plain: last; } }
