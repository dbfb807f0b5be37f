//! Groups whose source went away while they were open: another source may have the rest.

use smallvec::SmallVec;

use crate::Error;
use crate::census::census;
use crate::model::cache::group::{FrameProducer, GroupProducer};

/// Those that nobody took yet, and those that are to be aborted as soon as no lock is held.
#[derive(Default)]
pub(crate) struct PartialGroups {
    pub(super) open: SmallVec<[OpenPart; 1]>,
    lost: SmallVec<[OpenPart; 1]>,
    /// Who can be asked for them.
    takers: SmallVec<[u64; 2]>,
    last: u64,
}

/// An open group whose session went away. Its producers keep the group open.
pub(super) struct OpenPart {
    pub(super) group: GroupProducer,
    pub(super) frame: Option<FrameProducer>,
    /// Why the session went away.
    pub(super) error: Error,
    /// The sessions that were asked for it.
    pub(super) tried: SmallVec<[u64; 1]>,
}

impl PartialGroups {
    /// Somebody more can be asked: by what number.
    pub(crate) fn open_taker(&mut self) -> u64 {
        self.last += 1;
        self.takers.push(self.last);
        self.last
    }

    pub(crate) fn close_taker(&mut self, taker: u64) {
        self.takers.retain(|other| *other != taker);
    }

    pub(crate) fn has_takers(&self) -> bool {
        !self.takers.is_empty()
    }

    /// One that this taker was not asked for.
    pub(crate) fn take(&mut self, taker: u64) -> Option<OpenPart> {
        let at = self.open.iter().rposition(|rest| !rest.tried.contains(&taker))?;
        let mut rest = self.open.remove(at);
        rest.tried.push(taker);
        Some(rest)
    }

    /// Those for which everybody was asked are lost.
    pub(super) fn lose_tried(&mut self) {
        let Self { open, lost, takers, .. } = self;
        for rest in std::mem::take(open) {
            let is_lost = takers.iter().all(|taker| rest.tried.contains(taker));
            if is_lost { lost.push(rest) } else { open.push(rest) }
        }
    }

    /// Nobody will bring them.
    pub(crate) fn lose(&mut self) {
        self.lost.append(&mut self.open);
    }

    /// Those that are lost, to be given up after the unlock.
    pub(crate) fn take_lost(&mut self) -> SmallVec<[OpenPart; 1]> {
        std::mem::take(&mut self.lost)
    }
}

impl OpenPart {
    /// Ends the group with what is there.
    pub(super) fn give_up(mut self) {
        self.group.abort(self.error);
    }
}

census! { PartialGroups { counts: open, lost, takers; plain: last; } }
