//! Reading a range of groups from the cache, for a session.

use std::collections::VecDeque;
use std::sync::Arc;

use super::consumer::TrackConsumer;
use super::state::TrackState;
use crate::machine::{FetchRange, FramePosition, ObjectRun, Subgroup};
use crate::model::base::lock;
use crate::model::cache::cached_subgroups::CachedSubgroup;
use crate::model::cache::group::{CachedGroup, GroupConsumer, GroupForm};

/// Frames in the cache that answer a FETCH.
pub(crate) struct FetchedRun {
    pub(crate) group: GroupConsumer,
    pub(crate) run: ObjectRun,
    /// Whether objects that may exist are missing before them.
    pub(crate) gap: bool,
}

impl FetchedRun {
    /// A whole group that was fetched, as far as it is in `range`.
    pub(crate) fn of_group(group: GroupConsumer, range: &FetchRange, gap: bool) -> Self {
        let sequence = group.sequence();
        let (first, last_frame) = frames_within(range, sequence);
        let run = ObjectRun {
            object: first,
            first_frame: first,
            last_frame,
            ..ObjectRun::of_group(sequence)
        };
        Self { group, run, gap }
    }
}

/// The first and the last frame of a group that are in `range`.
fn frames_within(range: &FetchRange, sequence: u64) -> (u64, Option<u64>) {
    let FetchRange { start, end, .. } = range;
    let first = if sequence == start.group { start.frame } else { 0 };
    (first, (sequence == end.group).then_some(end.frame))
}

/// A part of a group: the group of applications, or what lies beside it.
struct Part {
    subgroup: Subgroup,
    /// How many objects come before its first frame and the gap of that.
    base: u64,
    group: Arc<CachedGroup>,
}

impl Part {
    /// The run of one frame.
    fn run(&self, object: u64, frame: u64) -> FetchedRun {
        let Subgroup { number, priority, .. } = self.subgroup;
        let is_datagram = self.subgroup.is_datagram() || self.group.form() == GroupForm::Datagram;
        let subgroup = (!is_datagram).then_some(number);
        let (sequence, first_frame, last_frame) = (self.group.sequence(), frame, Some(frame));
        let run = ObjectRun { sequence, subgroup, priority, object, first_frame, last_frame };
        FetchedRun { group: GroupConsumer::new(self.group.clone()), run, gap: false }
    }
}

impl TrackState {
    /// The parts of a group. There is one besides the group of applications if a session reads other subgroups.
    fn parts_of(&mut self, sequence: u64) -> Vec<Part> {
        let group = self.cached.find_live(sequence).cloned();
        let frames = group.as_ref().map_or(0, |group| group.begun_frames());
        let group = group.map(|group| {
            let subgroup = group.form().part().unwrap_or(Subgroup::WITHOUT_END);
            Part { subgroup, base: 0, group }
        });
        let apart = self.cached.subgroups().iter().flat_map(|it| it.of_group(sequence));
        let apart = apart.map(|CachedSubgroup { subgroup, group }| {
            let base = match subgroup {
                it if it.is_datagram() => it.first_frame,
                it if it.is_apart() => 0,
                // The rest of a subgroup 0 goes on after the frames of the group of applications.
                _ => frames,
            };
            Part { subgroup: *subgroup, base, group: group.clone() }
        });
        group.into_iter().chain(apart).collect()
    }

    /// The last object up to `end` in a part besides the groups of applications, if it is not before the group `from`.
    fn last_apart(&mut self, from: u64, end: FramePosition) -> Option<FramePosition> {
        let mut high = Some(end.group);
        while let Some(to) = high.filter(|high| *high >= from) {
            let sequence = self.cached.subgroups().as_ref()?.group_between(from, to, true)?;
            let most = if sequence == end.group { end.frame } else { u64::MAX };
            let mut last = None;
            for part in self.parts_of(sequence) {
                part.group.objects(part.base, &mut |_, object| {
                    last = last.max(Some(object).filter(|object| *object <= most));
                });
            }
            if let Some(object) = last {
                return Some(FramePosition::new(sequence, object));
            }
            high = sequence.checked_sub(1);
        }
        None
    }

    /// The first group between two numbers that has frames to fetch, or the last one.
    pub(super) fn group_between(&mut self, low: u64, high: u64, last: bool) -> Option<u64> {
        let groups = self.cached.by_sequence();
        let first = groups.partition_point(|group| group.sequence() < low);
        let end = groups.partition_point(|group| group.sequence() <= high);
        let mut in_range = groups.range(first..end);
        let is_whole = |group: &&Arc<CachedGroup>| !group.is_broken();
        let whole = if last { in_range.rfind(is_whole) } else { in_range.find(is_whole) };
        let whole = whole.map(|group| group.sequence());
        let apart = self.cached.subgroups().as_ref();
        let found = whole.into_iter().chain(apart.and_then(|it| it.group_between(low, high, last)));
        if last { found.max() } else { found.min() }
    }

    /// The frames of a group between two objects, in the order of their ids.
    fn runs(&mut self, sequence: u64, first: u64, last: Option<u64>) -> VecDeque<FetchedRun> {
        let parts = self.parts_of(sequence);
        if let [part] = &parts[..] {
            if !part.subgroup.is_apart() && !part.group.is_broken() {
                // The frames that will come belong to the answer, too.
                let mut run = part.run(first, first);
                run.run.last_frame = last;
                return [run].into();
            }
        }
        let mut objects = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            part.group.objects(part.base, &mut |frame, object| objects.push((object, at, frame)));
        }
        objects.retain(|(object, ..)| (first..=last.unwrap_or(u64::MAX)).contains(object));
        objects.sort_unstable();
        objects.dedup_by_key(|(object, ..)| *object);
        let mut runs = VecDeque::<FetchedRun>::new();
        let (mut next, mut before) = (first, None);
        for (object, at, frame) in objects {
            let gap = object != next;
            match runs.back_mut().filter(|_| !gap && before == Some((at, frame.wrapping_sub(1)))) {
                Some(run) => run.run.last_frame = Some(frame),
                None => runs.push_back(FetchedRun { gap, ..parts[at].run(object, frame) }),
            }
            (next, before) = (object.saturating_add(1), Some((at, frame)));
        }
        runs
    }
}

impl TrackConsumer {
    /// The newest frame up to `end` that is here, complete or not. A session that reads other subgroups than 0 counts
    /// their complete frames as well.
    pub(crate) fn last_position(&self, end: FramePosition) -> Option<FramePosition> {
        let mut state = lock(&self.shared().state);
        let groups = state.cached.by_sequence();
        let up_to = groups.partition_point(|group| group.sequence() <= end.group);
        let frame = groups.range(..up_to).rev().find_map(|group| {
            let (sequence, frames) = (group.sequence(), group.begun_frames());
            let last = FramePosition::new(sequence, frames.checked_sub(1)?);
            Some(last.min(end))
        });
        let from = frame.map_or(0, |frame| frame.group);
        frame.max(self.reads_subgroups().then(|| state.last_apart(from, end)).flatten())
    }

    /// Whether nobody has accepted the track yet.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.shared().info.get().is_none()
    }

    /// Whether the publisher had frames before this was subscribed upstream.
    pub(crate) fn has_past(&self) -> bool {
        lock(&self.shared().state).has_past
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

    /// Whether the cache lacks a group that may have been published.
    pub(crate) fn lacks(&self, sequence: u64) -> bool {
        let mut state = lock(&self.shared().state);
        let is_past = sequence < state.cached.next_sequence();
        is_past && state.group_between(sequence, sequence, false).is_none()
    }

    /// Whether the cache has all groups from `first` to `last`, or to the last one that there is, and at least one.
    pub(crate) fn has_groups(&self, first: u64, last: u64) -> bool {
        let mut state = lock(&self.shared().state);
        let last = last.min(state.cached.next_sequence().saturating_sub(1));
        // Each step finds a group, so that there are no more steps than groups.
        first <= last && (first..=last).all(|it| state.group_between(it, it, false).is_some())
    }

    /// Whether a session that reads other subgroups finds more of this group than the frames of an application, or fields
    /// that only the parts of an answer have.
    pub(crate) fn has_parts(&self, sequence: u64) -> bool {
        let is_plain = |part: &Part| part.group.form() == GroupForm::Stream;
        let parts = self.reads_subgroups().then(|| lock(&self.shared().state).parts_of(sequence));
        parts.is_some_and(|parts| parts.len() > 1 || !parts.iter().all(is_plain))
    }

    /// The frames of the next group of `range` that has some, from the group `from` on, in the order of the answer. If
    /// there are none, also whether objects that may exist are missing before the end of the range.
    pub(crate) fn next_runs(&self, from: u64, range: &FetchRange) -> (VecDeque<FetchedRun>, bool) {
        let FetchRange { start, end, descending, .. } = *range;
        let to = if descending { start.group } else { end.group };
        let mut state = lock(&self.shared().state);
        let may_lack = state.may_lack(from.min(to));
        let mut next = Some(from);
        while let Some(next_from) = next.filter(|at| if descending { *at >= to } else { *at <= to })
        {
            let (low, high) = (next_from.min(to), next_from.max(to));
            let Some(sequence) = state.group_between(low, high, descending) else { break };
            let (first, last) = frames_within(range, sequence);
            let mut runs = state.runs(sequence, first, last);
            if let Some(run) = runs.front_mut() {
                run.gap |= sequence != from;
                runs.iter_mut().for_each(|run| run.gap &= may_lack);
                return (runs, false);
            }
            next = if descending { sequence.checked_sub(1) } else { sequence.checked_add(1) };
        }
        (VecDeque::new(), may_lack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cache::Track;
    use crate::{Limits, Properties, Subscription, Timestamp};

    /// As many subgroups as the cache keeps, which came in the wrong order: the object of each is a run of its own.
    #[test]
    fn many_subgroups_are_put_in_order() {
        let most = Limits::default().track_groups as u64 - 1;
        let mut track = Track::new("video").produce();
        let reader = track.subscribe(Subscription::default()).with_subgroups();
        for number in (1..most).rev() {
            let part = Subgroup { number, first_frame: number, ..Subgroup::WITHOUT_END };
            let mut part = track.create_part(7, Some(part)).unwrap();
            let properties = Properties::NONE.with_gap_and_status(number as u32, 0);
            part.ingest(Timestamp::ZERO, Some(properties), 1, &[[1]]).unwrap();
            part.finish().unwrap();
        }
        assert_eq!(reader.last_position(FramePosition::MAX), Some(FramePosition::new(7, most - 1)));
        assert!(reader.has_parts(7));
        let end = FramePosition::new(7, most);
        let range = FetchRange { start: FramePosition::new(7, 0), end, ..FetchRange::default() };
        let (runs, _) = reader.next_runs(7, &range);
        let numbers = runs.iter().map(|it| (it.run.object, it.run.subgroup));
        assert!(numbers.eq((1..most).map(|number| (number, Some(number)))));
    }
}
