//! The state that all handles of a track share.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::demand::{Demand, DemandReader};
use super::occupancy::{Occupancy, TrackStatus};
use super::partial_groups::{OpenPart, PartialGroups};
use super::pending_fetches::PendingFetches;
use super::track_upstreams::TrackUpstreams;
use crate::census::census;
use crate::machine::Subgroup;
use crate::model::base::sync::Mutex;
use crate::model::base::{DeferredWakes, Result, Route, WaitSlot, Wakers, count, lock, wait_on};
use crate::model::cache::budget::{Account, Cache, CacheMember};
use crate::model::cache::cached_groups::{CachedGroups, Evictions, RetentionRules};
use crate::model::cache::group::{CachedGroup, Group, GroupForm, GroupProducer};
use crate::{Error, Instant, Timescale, TrackInfo};

/// The state that all handles of a track share.
pub(crate) struct TrackShared {
    pub(super) name: Arc<str>,
    /// Unknown until the publisher accepts the track. Set under the lock.
    pub(super) info: OnceLock<TrackInfo>,
    pub(super) account: Arc<Account>,
    /// Counts for the broadcast whether the track is live and read.
    occupancy: Arc<Occupancy>,
    pub(super) state: Mutex<TrackState>,
}

#[derive(Default)]
pub(super) struct TrackState {
    pub(super) cached: CachedGroups,
    /// A group that was given up, as memory for the next one. It holds no frames.
    pub(super) spare: Option<Arc<CachedGroup>>,
    /// The track has no group from this sequence on.
    pub(super) end: Option<u64>,
    pub(super) abort: Option<Error>,
    pub(super) producers: usize,
    /// No group below this sequence will come. `None` while that is unknown, for a track of a peer.
    pub(super) start: Option<u64>,
    /// The publisher had frames before this was subscribed upstream.
    pub(super) has_past: bool,
    pub(super) demand: Demand,
    /// The part of this track in the counts of `occupancy`.
    status: TrackStatus,
    /// Requests for groups that are not in the cache.
    pub(super) fetches: PendingFetches,
    /// Open groups whose session went away.
    pub(super) partials: PartialGroups,
    /// The sessions that deliver the track.
    pub(super) upstreams: TrackUpstreams,
    deadline: Option<Instant>,
    /// When a requested track that was not accepted is given up.
    pub(super) answer_due: Option<Instant>,
    /// The deadline for answers that is scheduled in the cache.
    answer_deadline: Option<Instant>,
    /// Readers that wait for the next group.
    pub(super) group_waiters: Wakers,
    /// Readers that wait for a group by number.
    pub(super) number_waiters: Wakers,
    /// Handles that wait for the track to be accepted or to end.
    pub(super) status_waiters: Wakers,
}

impl TrackShared {
    pub(super) fn new(name: Arc<str>, cache: Arc<Cache>, occupancy: Arc<Occupancy>) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| {
            let account = Account::new(cache, this.clone());
            Self { name, info: OnceLock::new(), account, occupancy, state: Mutex::default() }
        })
    }

    /// Changes the state, gives up old groups, and wakes the waiters that `change` collected.
    pub(super) fn change<T>(
        self: &Arc<Self>,
        wakes: &mut DeferredWakes,
        change: impl FnOnce(&mut TrackState, &mut DeferredWakes) -> T,
    ) -> T {
        let result = self.change_without_waking(wakes, change);
        wakes.wake();
        result
    }

    /// As [`change`](Self::change), but leaves the waking to the caller.
    pub(super) fn change_without_waking<T>(
        self: &Arc<Self>,
        wakes: &mut DeferredWakes,
        change: impl FnOnce(&mut TrackState, &mut DeferredWakes) -> T,
    ) -> T {
        let mut evictions = Evictions::new();
        let (result, lost) = {
            let mut state = lock(&self.state);
            let result = change(&mut state, wakes);
            self.sweep_groups(&mut state, &mut evictions, wakes);
            self.schedule_answers(&mut state, wakes);
            self.update_status(&mut state, wakes);
            (result, state.partials.take_abandoned())
        };
        lost.into_iter().for_each(OpenPart::abort);
        for (group, why) in evictions {
            let counters = self.account.counters();
            count(if why == Error::Old {
                &counters.expired_groups
            } else {
                &counters.evicted_groups
            });
            if let Some(spare) = group.evict(why) {
                let _replaced = lock(&self.state).spare.replace(spare);
            }
        }
        result
    }

    pub(super) fn update_status(&self, state: &mut TrackState, wakes: &mut DeferredWakes) {
        let is_live = state.is_alive();
        let now = TrackStatus { is_live, is_read: is_live && state.demand.combined().is_some() };
        let before = std::mem::replace(&mut state.status, now);
        self.occupancy.update(before, now, wakes);
    }

    /// Schedules the deadline of the request that has waited longest for an answer.
    pub(super) fn schedule_answers(
        self: &Arc<Self>,
        state: &mut TrackState,
        wakes: &mut DeferredWakes,
    ) {
        if self.info.get().is_some() || state.abort.is_some() || state.end.is_some() {
            state.answer_due = None;
        }
        let next = state.answer_due.into_iter().chain(state.fetches.next_due()).min();
        let old = std::mem::replace(&mut state.answer_deadline, next);
        if old == next {
            return;
        }
        if self.account.schedule_answers(old, next.map(|at| (at, self.account.owner().clone()))) {
            // That session may not have updated the time for long, and does not know of this
            // deadline.
            wakes.push(self.account.cache().timekeeper());
        }
    }

    /// The deadline for the answer to a request that is made now.
    pub(super) fn answer_due(self: &Arc<Self>) -> Instant {
        self.account.stamp() + self.account.limits().answer_timeout
    }

    fn sweep_groups(
        self: &Arc<Self>,
        state: &mut TrackState,
        evictions: &mut Evictions,
        wakes: &mut DeferredWakes,
    ) {
        let floor = state.cached.floor();
        let max_age = self.info.get().map(|info| info.max_age);
        let max_age = max_age.unwrap_or(self.account.limits().max_age);
        // Nothing of a malformed track is served (moq-transport-22, 12.1).
        let void = state.abort.clone().filter(|error| matches!(error, Error::Malformed(_)));
        let rules = RetentionRules {
            max_age: if void.is_some() { Duration::ZERO } else { max_age },
            void,
            timescale: self.timescale(),
            is_live: !state.is_over(),
        };
        let next = state.cached.sweep(&rules, &self.account, evictions);
        if state.cached.floor() != floor {
            // Missing groups below the floor can no longer come.
            state.number_waiters.take(wakes);
        }
        // A scheduled deadline that is too early does no harm, and needs no update of the index.
        if next.is_some_and(|next| state.deadline.is_none_or(|deadline| next < deadline)) {
            let entry = next.map(|at| (at, self.account.owner().clone()));
            self.account.schedule(state.deadline, entry);
            state.deadline = next;
        }
    }

    /// A reader asks for a new group. It does nothing if the publisher begins none on request.
    pub(super) fn request_group(
        &self,
        state: &mut TrackState,
        sequence: u64,
        wakes: &mut DeferredWakes,
    ) {
        if self.info.get().is_none_or(|info| info.dynamic_groups) {
            state.demand.request_group(sequence, state.cached.next_sequence(), wakes);
        }
    }

    pub(super) fn timescale(&self) -> Timescale {
        self.info.get().map_or(Timescale::default(), |info| info.timescale)
    }
}

impl CacheMember for TrackShared {
    fn sweep(self: Arc<Self>) {
        self.change(&mut DeferredWakes::default(), |_, _| ());
    }

    fn restamp(&self, before: Instant, now: Instant) {
        let mut state = lock(&self.state);
        for group in state.cached.all() {
            group.restamp(before, now);
        }
        // A scheduled deadline that is too early does no harm.
        let time = self.account.limits().answer_timeout;
        if state.answer_due == Some(before + time) {
            state.answer_due = Some(now + time);
        }
        state.fetches.postpone(before + time, now + time);
    }

    fn expire(self: Arc<Self>) {
        let now = self.account.cache().now();
        self.change(&mut DeferredWakes::default(), |state, wakes| {
            state.deadline = state.deadline.filter(|at| *at > now);
            state.answer_deadline = state.answer_deadline.filter(|at| *at > now);
            state.fetches.expire(now, wakes);
            if state.answer_due.is_some_and(|due| due <= now) {
                state.stop(Error::Timeout, wakes);
            }
        });
    }
}

impl Drop for TrackShared {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.deadline.is_some() {
            self.account.schedule(state.deadline, None);
        }
        if state.answer_deadline.is_some() {
            self.account.schedule_answers(state.answer_deadline, None);
        }
    }
}

impl fmt::Debug for TrackShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Track").field("name", &self.name).finish_non_exhaustive()
    }
}

impl TrackState {
    /// Abandons open groups that no session can complete.
    pub(super) fn recheck_partials(&mut self) {
        if self.upstreams.is_empty() || self.abort.is_some() {
            self.partials.abandon();
        } else if !self.upstreams.any_unconfirmed() {
            self.partials.abandon_failed();
        }
    }

    /// Whether it ended cleanly, and all groups before the end have begun or can no longer come.
    pub(super) fn is_finished(&self) -> bool {
        self.end.is_some_and(|end| self.cached.next_sequence() >= end || self.producers == 0)
    }

    /// Whether a group, or a subgroup of it, may be added.
    pub(super) fn admits(&self, upstream: u64, sequence: u64, part: Option<u64>) -> Result<()> {
        if let Some(error) = &self.abort {
            return Err(error.clone());
        }
        Group::check(sequence)?;
        // Readers of a finished track were told that nothing follows. A session may deliver
        // groups later than that, if another session announced the end.
        let is_closed = upstream == 0 && self.is_finished();
        if is_closed || self.end.is_some_and(|end| sequence >= end) {
            return Err(Error::Closed);
        }
        if self.cached.has_live(sequence, part) {
            return Err(Error::Duplicate);
        }
        if sequence < self.cached.floor() {
            return Err(Error::Old);
        }
        match self.upstreams.accepts_group(upstream, sequence) {
            true => Ok(()),
            false => Err(Error::Cancelled),
        }
    }

    /// Whether groups from this one on may exist that are not here. Those that a local publisher left out do not exist.
    pub(super) fn may_lack(&self, from: u64) -> bool {
        !self.upstreams.is_empty() || from < self.cached.floor()
    }

    pub(super) fn is_over(&self) -> bool {
        self.abort.is_some() || self.is_finished()
    }

    /// Whether a producer is left, and the track was not aborted.
    fn is_alive(&self) -> bool {
        self.producers > 0 && self.abort.is_none()
    }

    /// The result for a reader that has read all groups below `limit` that are here.
    pub(super) fn no_more(&self, limit: u64) -> Poll<Result<()>> {
        if self.cached.next_sequence() >= limit || self.is_finished() {
            return Poll::Ready(Ok(()));
        }
        match &self.abort {
            Some(error) => Poll::Ready(Err(error.clone())),
            None => Poll::Pending,
        }
    }

    /// Removes a reader. The remaining readers may want the same as before, but must perhaps not be
    /// given what an upstream delivers. Then the upstream has to check again.
    pub(super) fn leave(&mut self, reader: DemandReader<'_>, wakes: &mut DeferredWakes) {
        self.demand.change(Some(reader), None, self.cached.next_sequence(), wakes);
        let Self { demand, upstreams, fetches, .. } = self;
        if !demand.has_readers() {
            fetches.handler_waiters.take(wakes);
        } else if !upstreams.routes().all(|route| demand.allows_any(route)) {
            demand.notify_producers(wakes);
        }
    }

    pub(super) fn stop(&mut self, error: Error, wakes: &mut DeferredWakes) {
        if !self.is_over() {
            self.abort = Some(error);
            self.group_waiters.take(wakes);
            self.number_waiters.take(wakes);
            self.status_waiters.take(wakes);
            self.demand.producer_waiters.take(wakes);
            self.fetches.handler_waiters.take(wakes);
            let error = self.abort.as_ref().unwrap_or(&Error::Internal);
            self.fetches.refuse_all(error, wakes);
            self.partials.abandon();
        }
    }
}

/// Waits for the track to be accepted or to end.
pub(super) fn follow<T>(
    shared: &TrackShared,
    slot: &mut WaitSlot,
    waker: Option<&Waker>,
    ready: impl FnOnce(&mut TrackState) -> Poll<T>,
) -> Poll<T> {
    wait_on(&shared.state, waker, slot, |state| &mut state.status_waiters, ready)
}

pub(super) fn closed(state: &TrackState) -> Poll<Result<()>> {
    match &state.abort {
        Some(error) => Poll::Ready(Err(error.clone())),
        None if state.end.is_some() => Poll::Ready(Ok(())),
        None => Poll::Pending,
    }
}

impl TrackShared {
    /// Selects an upstream that was asked before and has delivered nothing yet. Returns whether
    /// there is one.
    pub(crate) fn select_again(&self, upstream: u64, route: &Route) -> bool {
        lock(&self.state).upstreams.select_again(upstream, route)
    }

    /// The upstream that was asked last.
    pub(crate) fn upstream_id(&self) -> Option<u64> {
        lock(&self.state).upstreams.upstream_id()
    }

    /// Whether the track may be requested from another upstream.
    pub(crate) fn is_running(&self) -> bool {
        let state = lock(&self.state);
        state.is_alive() && state.end.is_none() && state.demand.has_readers()
    }

    /// Whether all readers may be given what comes by this route.
    pub(crate) fn allows_all(&self, route: &Route) -> bool {
        lock(&self.state).demand.allows_all(route)
    }

    /// Whether any reader may be given what comes by this route.
    pub(crate) fn allows_any(&self, route: &Route) -> bool {
        lock(&self.state).demand.allows_any(route)
    }

    /// Adds a part of a group if a session reads such parts, and if `check` allows it.
    pub(super) fn add_subgroup(
        self: &Arc<Self>,
        sequence: u64,
        subgroup: Subgroup,
        check: impl FnOnce(&mut TrackState) -> Result<()>,
    ) -> Result<GroupProducer> {
        self.change(&mut DeferredWakes::default(), |state, wakes| {
            check(state)?;
            let subgroups = state.cached.subgroups().as_mut().filter(|it| it.have_readers());
            let group = subgroups.ok_or(Error::Cancelled)?.insert(subgroup, |arrival| {
                let account = self.account.clone();
                CachedGroup::new(sequence, arrival, account, GroupForm::Stream, None)
            });
            state.group_waiters.take(wakes);
            Ok(GroupProducer::new(group))
        })
    }

    /// Adds what follows the last frame of this group and has no place in it. Sessions read it after the group.
    pub(crate) fn add_rest(self: &Arc<Self>, sequence: u64) -> Result<GroupProducer> {
        self.add_subgroup(sequence, Subgroup::WITHOUT_END, |_| Ok(()))
    }

    /// The name of the track in its broadcast.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether the cache has any group of it.
    pub(crate) fn has_groups(&self) -> bool {
        lock(&self.state).group_between(0, u64::MAX, false).is_some()
    }

    /// Whether [`WeakTrack::subscribe`](super::WeakTrack::subscribe) would succeed.
    pub(crate) fn is_alive(&self) -> bool {
        lock(&self.state).is_alive()
    }
}

census! { TrackState {
    counts: producers, deadline, answer_due, answer_deadline, group_waiters, number_waiters, status_waiters;
    within: cached, demand, fetches, partials, upstreams;
    plain: spare, end, abort, start, has_past, status;
} }

census! { each TrackShared { within: state; plain: name, info, account, occupancy; } }
