//! The FETCHes of the peer: one group, or a range of groups, from the cache, from the application or from upstream.

use std::collections::{BTreeSet, VecDeque};
use std::task::{Context, Poll, Waker, ready};

use crate::census::census;
use crate::machine::{Command, FetchRange, FramePosition, ObjectRun, RequestKey};
use crate::model::cache::{FetchedRun, GroupConsumer, GroupCursor, TrackConsumer};
use crate::slab::SideTable;
use crate::{Error, Instant, TrackInfo};

/// How many groups of a range are requested in vain. Their numbers may be sparse, and each request takes a round trip.
const MAX_MISSES: u8 = 8;

/// All that the peer fetches.
#[derive(Default)]
pub(crate) struct ServedFetches {
    by_request: SideTable<ServedFetch>,
    /// When the peer does not wait any more for what the cache lacks.
    deadlines: BTreeSet<(Instant, RequestKey)>,
}

/// A FETCH of the peer.
struct ServedFetch {
    track: TrackConsumer,
    priority: u8,
    wanted: FetchedGroups,
    /// The group, once it is here. It is pinned until all of it was sent.
    group: Option<GroupConsumer>,
    /// More of this group.
    runs: VecDeque<FetchedRun>,
    /// The last group of a range, if the cache lacked it.
    last: Option<GroupConsumer>,
    /// How many groups could not be had.
    misses: u8,
    /// When the peer does not wait any more for what the cache lacks.
    due: Option<Instant>,
    /// Wakes the driver when the group is here, or the next one can be sent.
    waker: Waker,
}

/// The groups that the peer fetches.
#[derive(Clone, Copy)]
pub(crate) enum FetchedGroups {
    /// Frames of this one, from wherever it can be had.
    One(FetchRange),
    /// Several.
    Range(FetchRange),
    /// The rest of a range that was accepted, from the first of these groups on. Those before the second can't be had.
    Rest(FetchRange, [u64; 2]),
    /// All were sent, and the end not yet.
    End,
    /// The end was sent.
    Over,
}

impl FetchedGroups {
    /// The first and the last group that are wanted.
    pub(crate) fn bounds(&self) -> Option<(u64, u64)> {
        match self {
            Self::One(range) => Some((range.start.group, range.start.group)),
            Self::Range(range) => Some((range.start.group, range.end.group)),
            Self::Rest(..) | Self::End | Self::Over => None,
        }
    }
}

/// The next step of an answer.
pub(super) enum FetchStep {
    /// A command that sends no frames.
    Command(Command),
    /// The answer is this group.
    Group {
        request: RequestKey,
        cursor: GroupCursor,
        info: TrackInfo,
        frames: Option<u64>,
        ends_track: bool,
    },
    /// These frames are the next part of the answer.
    Run { request: RequestKey, cursor: GroupCursor, run: ObjectRun, gap: bool },
}

impl ServedFetches {
    /// Adds a FETCH of the peer.
    pub(crate) fn add(
        &mut self,
        request: RequestKey,
        track: TrackConsumer,
        priority: u8,
        wanted: FetchedGroups,
        waker: Waker,
        now: Instant,
    ) {
        let due = match wanted {
            FetchedGroups::Range(range) => range.fill_timeout.map(|time| now + time),
            _ => None,
        };
        self.deadlines.extend(due.map(|due| (due, request)));
        let (group, runs, last, misses) = (None, VecDeque::new(), None, 0);
        let fetch = ServedFetch { track, priority, wanted, group, runs, last, misses, due, waker };
        self.by_request.insert(request.into(), fetch);
        self.expire(now);
    }

    /// Ends a FETCH. Returns its track.
    pub(super) fn remove(&mut self, request: RequestKey) -> Option<TrackConsumer> {
        let mut fetch = self.by_request.remove(request.into())?;
        if let Some(due) = fetch.due {
            self.deadlines.remove(&(due, request));
        }
        fetch.track.cancel_fetch();
        Some(fetch.track)
    }

    pub(super) fn has(&self, request: RequestKey) -> bool {
        self.by_request.get(request.into()).is_some()
    }

    /// The frames that were given last are out, or were given up. More of a range may follow.
    pub(super) fn sent(&mut self, request: RequestKey) {
        let is_range = |it: &&mut ServedFetch| !matches!(it.wanted, FetchedGroups::One(_));
        if let Some(fetch) = self.by_request.get_mut(request.into()).filter(is_range) {
            fetch.group = None;
            fetch.waker.wake_by_ref();
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// Stops to request groups for peers that wait no longer.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.next_deadline().is_some_and(|due| due <= now) {
            let over = self.deadlines.pop_first();
            if let Some(fetch) =
                over.and_then(|(_, request)| self.by_request.get_mut(request.into()))
            {
                (fetch.misses, fetch.last) = (MAX_MISSES, None);
                fetch.track.cancel_fetch();
                fetch.waker.wake_by_ref();
            }
        }
    }

    /// The next step for a FETCH. `no_group`: the error if the track exists, and the group does not.
    pub(super) fn next(&mut self, slot: usize, no_group: Error) -> Option<FetchStep> {
        let (key, fetch) = self.by_request.at(slot)?;
        let request = RequestKey::of(key);
        if fetch.group.is_some() {
            return None;
        }
        let FetchedGroups::One(range) = fetch.wanted else {
            return self.next_of_range(slot, no_group);
        };
        let sequence = range.start.group;
        if fetch.track.has_parts(sequence) {
            fetch.wanted = FetchedGroups::Range(range);
            return self.next_of_range(slot, no_group);
        }
        match fetch.track.poll_fetch(Some(&fetch.waker), sequence, fetch.priority) {
            Poll::Pending => None,
            Poll::Ready(Ok(mut group)) => {
                let cursor = group.cursor();
                let frames = match group.try_finished() {
                    Poll::Ready(Ok(frames)) => Some(frames),
                    _ => None,
                };
                let ends_track = fetch.track.end() == Some(sequence + 1);
                fetch.group = Some(group);
                // The properties may be unknown. Then the defaults are sent.
                let info = match fetch.track.try_info() {
                    Poll::Ready(Ok(info)) => info,
                    _ => TrackInfo::default(),
                };
                Some(FetchStep::Group { request, cursor, info, frames, ends_track })
            }
            Poll::Ready(Err(error)) => {
                let has_track = matches!(fetch.track.try_info(), Poll::Ready(Ok(_)));
                let is_missing = error == Error::NotFound && has_track;
                self.remove(request);
                let error = if is_missing { no_group } else { error };
                Some(FetchStep::Command(Command::Refuse { request, error }))
            }
        }
    }

    /// The next step for a range.
    fn next_of_range(&mut self, slot: usize, no_group: Error) -> Option<FetchStep> {
        let (key, fetch) = self.by_request.at(slot)?;
        let request = RequestKey::of(key);
        match fetch.wanted {
            FetchedGroups::One(_) | FetchedGroups::Over => None,
            FetchedGroups::Range(range) => {
                let mut cx = Context::from_waker(&fetch.waker);
                let info = match fetch.track.poll_info(&mut cx) {
                    Poll::Pending => return None,
                    Poll::Ready(info) => info,
                };
                let narrowed = match info.is_ok().then(|| fetch.poll_narrowed(range)) {
                    Some(Poll::Pending) => return None,
                    Some(Poll::Ready(narrowed)) => narrowed.ok_or(no_group),
                    None => Err(no_group),
                };
                let (info, range) = match info.and_then(|info| Ok((info, narrowed?))) {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        self.remove(request);
                        return Some(FetchStep::Command(Command::Refuse { request, error }));
                    }
                };
                let FetchRange { start, end, descending, .. } = range;
                let first = if descending { end.group } else { start.group };
                fetch.wanted = FetchedGroups::Rest(range, [first; 2]);
                fetch.waker.wake_by_ref();
                let ends_track = fetch.track.ends_with(end);
                Some(FetchStep::Command(Command::AcceptRange { request, info, end, ends_track }))
            }
            FetchedGroups::Rest(..) | FetchedGroups::End if !fetch.runs.is_empty() => {
                let run = fetch.runs.pop_front()?;
                Some(fetch.send(request, run))
            }
            FetchedGroups::Rest(range, [next, at]) => {
                let FetchRange { start, end, descending, .. } = range;
                let to = if descending { start.group } else { end.group };
                let after = |at: u64| if descending { at.wrapping_sub(1) } else { at + 1 };
                let Poll::Ready(fetched) = fetch.poll_missing(at) else { return None };
                let (mut runs, gap) = match fetched {
                    Some(group) => {
                        ([FetchedRun::of_group(group, &range, at != next)].into(), false)
                    }
                    None if at != to && fetch.may_get(at) => {
                        fetch.wanted = FetchedGroups::Rest(range, [next, after(at)]);
                        fetch.waker.wake_by_ref();
                        return None;
                    }
                    None => fetch.track.next_runs(next, &range),
                };
                let Some(first) = runs.pop_front() else {
                    fetch.wanted = FetchedGroups::Over;
                    return Some(FetchStep::Command(Command::EndRange { request, gap }));
                };
                let sequence = first.run.sequence;
                fetch.wanted = match sequence == to {
                    true => FetchedGroups::End,
                    false => FetchedGroups::Rest(range, [after(sequence); 2]),
                };
                fetch.runs = runs;
                Some(fetch.send(request, first))
            }
            FetchedGroups::End => {
                fetch.wanted = FetchedGroups::Over;
                Some(FetchStep::Command(Command::EndRange { request, gap: false }))
            }
        }
    }
}

impl ServedFetch {
    /// The group of the run is pinned until it was sent.
    fn send(&mut self, request: RequestKey, run: FetchedRun) -> FetchStep {
        let FetchedRun { group, run, gap } = run;
        let cursor = group.cursor();
        self.group = Some(group);
        FetchStep::Run { request, cursor, run, gap }
    }

    /// The part of a range that there is; `None` if it has no frame. The last group must be here: its end is that of the
    /// answer (moq-transport-22, 3.2).
    fn poll_narrowed(&mut self, range: FetchRange) -> Poll<Option<FetchRange>> {
        let Some(newest) = self.track.last_position(FramePosition::MAX) else {
            return Poll::Ready(None);
        };
        let start = range.start_before(newest);
        if self.last.is_none() && start <= range.end {
            self.last = ready!(self.poll_missing(range.end.group));
        }
        let fetched = match &mut self.last {
            Some(group) => ready!(group.poll_finished(&mut Context::from_waker(&self.waker))),
            None => Ok(0),
        };
        let fetched = fetched.ok().and_then(|frames| frames.checked_sub(1));
        let fetched = fetched.map(|last| FramePosition::new(range.end.group, last).min(range.end));
        let end = fetched.max(self.track.last_position(range.end)).filter(|end| start <= *end);
        // Frames that can't be had are a gap.
        let is_gap = start <= newest && self.track.may_lack(start.group);
        let end = end.or(is_gap.then_some(start));
        Poll::Ready(end.map(|end| FetchRange { start, end, ..range }))
    }

    /// Whether this group of a range should be requested.
    fn may_get(&self, sequence: u64) -> bool {
        self.misses < MAX_MISSES && self.track.lacks(sequence)
    }

    /// Requests this group of a range, if the cache lacks it. `None`: the cache has it, or it can't be had.
    fn poll_missing(&mut self, sequence: u64) -> Poll<Option<GroupConsumer>> {
        if !self.may_get(sequence) {
            return Poll::Ready(None);
        }
        match ready!(self.track.poll_fetch(Some(&self.waker), sequence, self.priority)) {
            Ok(group) => return Poll::Ready(Some(group)),
            Err(Error::NotFound | Error::Old) => self.misses += 1,
            // The others would fail as well: a silent upstream is waited for once.
            Err(_) => self.misses = MAX_MISSES,
        }
        Poll::Ready(None)
    }
}

census! { ServedFetches { counts: deadlines; within: by_request; } }

census! { each ServedFetch { counts: group, runs, last; plain: misses, due, track, priority, wanted, waker; } }
