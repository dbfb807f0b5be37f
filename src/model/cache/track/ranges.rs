//! Reading a range of groups from the cache, for a session.

use std::sync::Arc;

use super::consumer::TrackConsumer;
use crate::machine::FramePosition;
use crate::model::base::lock;
use crate::model::cache::group::{CachedGroup, GroupConsumer};

impl TrackConsumer {
    /// The newest frame up to `end` that is here, complete or not.
    pub(crate) fn last_position(&self, end: FramePosition) -> Option<FramePosition> {
        let state = lock(&self.shared().state);
        let groups = state.cached.by_sequence();
        let up_to = groups.partition_point(|group| group.sequence() <= end.group);
        groups.range(..up_to).rev().find_map(|group| {
            let (sequence, frames) = (group.sequence(), group.begun_frames());
            let last = FramePosition::new(sequence, frames.checked_sub(1)?);
            Some(last.min(end))
        })
    }

    /// Whether this is the last frame of the track.
    pub(crate) fn ends_with(&self, position: FramePosition) -> bool {
        let is_last = self.end() == position.group.checked_add(1);
        is_last && self.last_position(FramePosition::MAX) == Some(position)
    }

    /// Whether groups from this one on may exist that are not here.
    pub(crate) fn may_lack(&self, from: u64) -> bool {
        lock(&self.shared().state).may_lack(from)
    }

    /// The next group from `from` on, towards `to`, and whether groups that may exist are missing before it, or
    /// before `to` if there is none.
    pub(crate) fn next_cached(&self, from: u64, to: u64) -> (Option<GroupConsumer>, bool) {
        let state = lock(&self.shared().state);
        let groups = state.cached.by_sequence();
        let (low, high) = (from.min(to), from.max(to));
        let first = groups.partition_point(|group| group.sequence() < low);
        let last = groups.partition_point(|group| group.sequence() <= high);
        let mut in_range = groups.range(first..last);
        let is_whole = |group: &&Arc<CachedGroup>| !group.is_broken();
        let found = if from <= to { in_range.find(is_whole) } else { in_range.rfind(is_whole) };
        let is_missing = found.is_none_or(|group| group.sequence() != from);
        (found.cloned().map(GroupConsumer::new), is_missing && state.may_lack(low))
    }
}
