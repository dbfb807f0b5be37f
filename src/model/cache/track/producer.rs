//! Writing a track.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::Track;
use super::consumer::TrackConsumer;
use super::demand::DemandVersion;
use super::dynamic::TrackDynamic;
use super::occupancy::Occupancy;
use super::state::{TrackShared, TrackState, closed, follow};
use super::weak::WeakTrack;
use crate::model::Result;
use crate::model::base::{DeferredWakes, Horizon, Route, WaitSlot, count, lock, wait};
use crate::model::cache::budget::{Account, Cache};
use crate::model::cache::cached_groups::CachedGroups;
use crate::model::cache::group::CachedGroup;
use crate::model::cache::group::Group;
use crate::model::cache::group::GroupProducer;
use crate::model::cache::stats::TrackStats;
use crate::{Error, Subscription, Timestamp, TrackInfo};

/// Writes a track. Cloning adds a writer; if the last one is dropped before
/// [`finish`](Self::finish), the track is aborted with [`Error::Dropped`].
pub struct TrackProducer {
    shared: Arc<TrackShared>,
    wakes: DeferredWakes,
    slot: WaitSlot,
    demand_slot: WaitSlot,
    /// The last changes of demand that were told.
    demand_seen: DemandVersion,
    /// Which of the sources it is; 0 for an application.
    upstream: u64,
}

impl TrackProducer {
    /// A track in a cache.
    pub(crate) fn new(track: Track, cache: Arc<Cache>, occupancy: Arc<Occupancy>) -> Self {
        let shared = TrackShared::new(track.name, cache, occupancy);
        let _ = shared.info.set(track.info);
        lock(&shared.state).start = Some(0);
        // Nobody reads it yet, so that nobody is woken.
        Self::of(shared, DemandVersion::default(), &mut DeferredWakes::default())
    }

    /// A track of which nothing is known yet: consumers wait until it is accepted or aborted.
    pub(crate) fn requested(name: Arc<str>, cache: Arc<Cache>, occupancy: Arc<Occupancy>) -> Self {
        let shared = TrackShared::new(name, cache, occupancy);
        Self::of(shared, DemandVersion::default(), &mut DeferredWakes::default())
    }

    /// From now on there is a time by which it must be accepted.
    pub(crate) fn expect_answer(&self, wakes: &mut DeferredWakes) {
        let due = self.shared.answer_due();
        let mut state = lock(&self.shared.state);
        state.answer_due = Some(due);
        self.shared.schedule_answers(&mut state, wakes);
    }

    fn of(shared: Arc<TrackShared>, demand_seen: DemandVersion, tell: &mut DeferredWakes) -> Self {
        {
            let mut state = lock(&shared.state);
            state.producers += 1;
            shared.update_status(&mut state, tell);
        }
        let (wakes, slot, demand_slot) = Default::default();
        Self { shared, wakes, slot, demand_slot, demand_seen, upstream: 0 }
    }

    /// The track's name in its broadcast.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    pub(crate) fn shared_name(&self) -> &Arc<str> {
        &self.shared.name
    }

    /// What was said of the track; `None` until a requested track is accepted.
    pub fn info(&self) -> Option<&TrackInfo> {
        self.shared.info.get()
    }

    /// Says what a requested track is. Fails if that was said before ([`Error::Duplicate`]) or the
    /// track was aborted. A group written before accepts the track with the defaults.
    pub fn accept(&mut self, info: TrackInfo) -> Result<()> {
        let shared = &self.shared;
        shared.change(&mut self.wakes, |state, wakes| {
            if let Some(error) = &state.abort {
                return Err(error.clone());
            }
            shared.info.set(info).map_err(|_| Error::Duplicate)?;
            state.status_waiters.take(wakes);
            state.fetches.recheck_queued(wakes);
            Ok(())
        })
    }

    /// A handle that answers for groups that are asked for by number and that are not here. While there
    /// is one, [`TrackConsumer::fetch_group`] asks it; without one such groups are refused.
    pub fn dynamic(&self) -> TrackDynamic {
        TrackDynamic::new(self.shared.clone())
    }

    /// Says that no group below `start` will come. The first time counts.
    pub(crate) fn set_start(&mut self, start: u64) {
        self.shared.change(&mut self.wakes, |state, wakes| {
            if state.start.is_none() {
                state.start = Some(start);
                state.group_waiters.take(wakes);
            }
        });
    }

    /// Begins a group by its number, in any order.
    ///
    /// Fails if there is one already ([`Error::Duplicate`]), if it was given up before
    /// ([`Error::Old`]), if the track ended before it, or has finished ([`Error::Closed`]), and above
    /// [`Group::MAX`] ([`Error::Unrepresentable`]).
    pub fn create_group(&mut self, group: impl Into<Group>) -> Result<GroupProducer> {
        let Group { sequence } = group.into();
        self.create(|_| sequence, false)
    }

    /// Begins the group after the highest one that there ever was, or group 0. Fails if the track
    /// ended, and after [`Group::MAX`] ([`Error::Unrepresentable`]).
    pub fn append_group(&mut self) -> Result<GroupProducer> {
        self.create(CachedGroups::next_sequence, false)
    }

    fn create(
        &mut self,
        sequence: impl FnOnce(&CachedGroups) -> u64,
        is_datagram: bool,
    ) -> Result<GroupProducer> {
        let (shared, upstream) = (&self.shared, self.upstream);
        // Outlives the lock.
        let mut _replaced = None;
        shared.change(&mut self.wakes, |state, wakes| {
            let sequence = sequence(&state.cached);
            if let Some(error) = &state.abort {
                return Err(error.clone());
            }
            Group::check(sequence)?;
            // Readers of a finished track were told that it has nothing more. What a session brings may be
            // late, when another one knew the end.
            let is_closed = upstream == 0 && state.is_finished();
            if is_closed || state.end.is_some_and(|end| sequence >= end) {
                return Err(Error::Closed);
            }
            if state.cached.find_live(sequence).is_some() {
                // An older source was sooner. This one has shown that it brings groups, and need not win.
                let next = state.cached.next_sequence();
                if upstream != 0 && state.upstreams.record_group(upstream, next) {
                    state.demand.producer_waiters.take(wakes);
                }
                return Err(Error::Duplicate);
            }
            if sequence < state.cached.floor() {
                return Err(Error::Old);
            }
            if !state.upstreams.accepts_group(upstream, sequence) {
                return Err(Error::Cancelled);
            }
            match state.cached.find(sequence).map(|copy| copy.is_broken()) {
                Some(false) => {
                    // Somebody fetched it: what is present stays.
                    state.cached.promote(sequence);
                    state.group_waiters.take(wakes);
                    return Err(Error::Duplicate);
                }
                Some(true) => _replaced = state.cached.remove_fetched(sequence),
                None => {}
            }
            if shared.info.get().is_none() {
                shared.info.get_or_init(TrackInfo::default);
                state.status_waiters.take(wakes);
                state.fetches.recheck_queued(wakes);
            }
            let group = state.cached.insert(sequence, |arrival| {
                let account = shared.account.clone();
                CachedGroup::new(sequence, arrival, shared.member(), account, is_datagram)
            });
            let group = GroupProducer::new(group.clone());
            count(&shared.account.counters().groups);
            if upstream != 0 && state.upstreams.record_group(upstream, sequence) {
                state.demand.producer_waiters.take(wakes);
            }
            state.group_waiters.take(wakes);
            state.fetches.group_arrived(sequence, wakes);
            Ok(group)
        })
    }

    /// Appends a group of one frame. Fails as [`append_group`](Self::append_group) and
    /// [`GroupProducer::write_frame`].
    pub fn write_frame(
        &mut self,
        timestamp: impl Into<Timestamp>,
        payload: impl Into<Bytes>,
    ) -> Result<()> {
        let mut group = self.append_group()?;
        group.write_frame(timestamp, payload)?;
        group.finish()
    }

    /// Appends a group of one frame that sessions send as a QUIC datagram (moq-lite 05 and later): once,
    /// without a stream, and lost if the network loses it. It is read as any other group.
    ///
    /// A datagram has at most 1,200 bytes with its header, and as many as the path takes. What is larger
    /// goes as a group on a stream, as it does where there are no datagrams; the deployed peers drop it
    /// instead. Fails as [`write_frame`](Self::write_frame).
    pub fn write_datagram(
        &mut self,
        timestamp: impl Into<Timestamp>,
        payload: impl Into<Bytes>,
    ) -> Result<()> {
        let mut group = self.create(CachedGroups::next_sequence, true)?;
        group.write_frame(timestamp, payload)?;
        group.finish()
    }

    /// Adds what came as a datagram. `false` if there is no place for it.
    pub(crate) fn ingest(&mut self, sequence: u64, timestamp: Timestamp, payload: &[u8]) -> bool {
        let Ok(mut group) = self.create(|_| sequence, true) else { return false };
        let size = payload.len() as u64;
        group.ingest(timestamp, size, payload).is_ok() && group.finish().is_ok()
    }

    /// Ends the track cleanly after its last group. Groups that are open go on; no other one can be
    /// written, not even in a gap. Fails if the track ended before.
    pub fn finish(&mut self) -> Result<()> {
        self.end_at(CachedGroups::next_sequence)
    }

    /// Ends the track cleanly before the group `end`. Those below that are missing may still be written
    /// until the last of them, `end - 1`, has begun: then readers are told the end. Fails if the track ended
    /// before, or has a later group ([`Error::ProtocolViolation`]), and if `end` is more than one past
    /// [`Group::MAX`] ([`Error::Unrepresentable`]).
    pub fn finish_at(&mut self, end: u64) -> Result<()> {
        self.end_at(|_| end)
    }

    fn end_at(&mut self, end: impl FnOnce(&CachedGroups) -> u64) -> Result<()> {
        self.shared.change(&mut self.wakes, |state, wakes| {
            let end = end(&state.cached);
            end.checked_sub(1).map_or(Ok(0), Group::check)?;
            if let Some(error) = &state.abort {
                return Err(error.clone());
            }
            if state.end.is_some() {
                return Err(Error::Closed);
            }
            if end < state.cached.next_sequence() {
                return Err(Error::ProtocolViolation("a group behind the end of its track"));
            }
            state.end = Some(end);
            state.fetches.end_at(end, wakes);
            state.group_waiters.take(wakes);
            state.status_waiters.take(wakes);
            state.demand.producer_waiters.take(wakes);
            Ok(())
        })
    }

    /// Ends the track; readers get the reason after the groups that are there, which stay readable.
    /// Nothing if it ended before.
    pub fn abort(&mut self, error: Error) {
        self.shared.change(&mut self.wakes, |state, wakes| state.stop(error, wakes));
    }

    /// Ends the track unless somebody asked for it meanwhile.
    pub(crate) fn abort_if_unread(&mut self, error: Error) -> bool {
        self.shared.change(&mut self.wakes, |state, wakes| {
            let is_unwanted = !state.demand.has_readers();
            if is_unwanted {
                state.stop(error, wakes);
            }
            is_unwanted
        })
    }

    /// Reads the track from its latest group on, as [`Subscription::default`] says.
    pub fn consume(&self) -> TrackConsumer {
        self.subscribe(Subscription::default())
    }

    /// Reads the track. What `want` says of groups above [`Group::MAX`] is cut to that.
    pub fn subscribe(&self, want: Subscription) -> TrackConsumer {
        let mut wakes = DeferredWakes::default();
        let consumer = self.read(Some(want), None, &mut wakes);
        wakes.wake();
        consumer
    }

    /// Reads the track, or only asks what it is, and leaves it to the caller to wake.
    pub(crate) fn read(
        &self,
        want: Option<Subscription>,
        horizon: Option<Horizon>,
        wakes: &mut DeferredWakes,
    ) -> TrackConsumer {
        TrackConsumer::new(self.shared.clone(), want, horizon, wakes)
    }

    /// The highest sequence that there ever was.
    pub fn latest(&self) -> Option<u64> {
        lock(&self.shared.state).cached.next_sequence().checked_sub(1)
    }

    /// Bytes that the track keeps in memory, payload and what it takes to keep it.
    pub fn cached_bytes(&self) -> u64 {
        self.shared.account.used()
    }

    /// What was written to the track so far, and what it holds.
    pub fn stats(&self) -> TrackStats {
        self.shared.account.stats()
    }

    /// What all readers want together: the highest priority, the greatest age, the widest bounds.
    /// `None` if nobody reads.
    pub fn subscription(&self) -> Option<Subscription> {
        lock(&self.shared.state).demand.combined().cloned()
    }

    /// Whether somebody reads the track or asks what it is, and it was not given up.
    pub(crate) fn has_readers(&self) -> bool {
        let state = lock(&self.shared.state);
        state.abort.is_none() && state.demand.has_readers()
    }

    /// The counts, which outlive the track.
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.shared.account
    }

    /// Makes it a source of the track, on behalf of `upstream`.
    pub(crate) fn attach(&mut self, upstream: u64, route: &Route) {
        self.upstream = lock(&self.shared.state).upstreams.attach(upstream, route);
    }

    /// As [`UpstreamTrack::confirm`](super::broadcast::Source::meet).
    pub(crate) fn confirm(&self) {
        self.shared.change(&mut DeferredWakes::default(), |state, _| {
            state.upstreams.confirm(self.upstream);
            state.settle_partials();
        });
    }

    /// Whether no other source is attached.
    pub(crate) fn is_only_upstream(&self) -> bool {
        lock(&self.shared.state).upstreams.is_only(self.upstream)
    }

    /// Whether a newer source has taken over.
    pub(crate) fn is_superseded(&self) -> bool {
        lock(&self.shared.state).upstreams.is_superseded(self.upstream)
    }

    /// Whether anybody who reads the track may be given what this source brings.
    pub(crate) fn is_useful(&self) -> bool {
        let state = lock(&self.shared.state);
        state.upstreams.route(self.upstream).is_none_or(|route| state.demand.allows_any(route))
    }

    /// Groups that came before and are not here will not come any more.
    pub(crate) fn mark_lost(&mut self, groups: Range<u64>) {
        lock(&self.shared.state).upstreams.add_lost(groups);
    }

    /// What all handles share, to look at.
    pub(crate) fn shared(&self) -> &Arc<TrackShared> {
        &self.shared
    }

    /// A handle that keeps nothing alive.
    pub(crate) fn downgrade(&self) -> WeakTrack {
        WeakTrack::new(&self.shared)
    }

    fn demand<T>(
        &mut self,
        waker: Option<&Waker>,
        ask: impl FnOnce(&TrackState, &mut DemandVersion) -> Poll<T>,
    ) -> Poll<T> {
        let waker = waker.cloned();
        // Declared before the guard: dropped after the unlock.
        let _displaced;
        let mut state = lock(&self.shared.state);
        let answer = ask(&state, &mut self.demand_seen);
        if answer.is_pending() {
            _displaced = waker.and_then(|waker| {
                state.demand.producer_waiters.register(&mut self.demand_slot, waker)
            });
        }
        answer
    }

    fn demand_change(&mut self, waker: Option<&Waker>) -> Poll<Option<Subscription>> {
        self.demand(waker, |state, seen| {
            let changes = state.demand.changes();
            if seen.want == changes.want {
                return Poll::Pending;
            }
            seen.want = changes.want;
            Poll::Ready(state.demand.combined().cloned())
        })
    }

    /// As [`poll_subscription_changed`](Self::poll_subscription_changed), and whether anybody is there:
    /// whoever only asks what the track is wants nothing.
    pub(crate) fn poll_interest(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<(Option<Subscription>, bool)> {
        self.demand(Some(cx.waker()), |state, seen| {
            let changes = state.demand.changes();
            if seen.interest == changes.interest {
                return Poll::Pending;
            }
            *seen = changes;
            Poll::Ready((state.demand.combined().cloned(), state.demand.has_readers()))
        })
    }

    /// Until nobody reads the track nor asks what it is, or it is aborted.
    pub(crate) fn poll_unread(&mut self, waker: Option<&Waker>) -> Poll<()> {
        self.demand(waker, |state, _| match state.abort.is_some() || !state.demand.has_readers() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
    }

    wait! {
        /// What all readers want together, whenever it changed since this handle was told last.
        demand_change => poll_subscription_changed, subscription_changed,
            try_subscription_changed() -> Option<Subscription>
    }

    fn is_used(&mut self, waker: Option<&Waker>) -> Poll<Result<()>> {
        self.reads(waker, true)
    }

    fn is_unused(&mut self, waker: Option<&Waker>) -> Poll<Result<()>> {
        self.reads(waker, false)
    }

    fn reads(&mut self, waker: Option<&Waker>, wanted: bool) -> Poll<Result<()>> {
        self.demand(waker, |state, _| match &state.abort {
            Some(error) => Poll::Ready(Err(error.clone())),
            None if state.demand.combined().is_some() == wanted => Poll::Ready(Ok(())),
            None => Poll::Pending,
        })
    }

    wait! {
        /// Until somebody reads the track; a peer that asks what it is (moq-lite, TRACK) does not
        /// count. Fails if the track is aborted.
        is_used => poll_used, used, try_used() -> Result<()>
    }

    wait! {
        /// Until nobody reads the track. Fails if the track is aborted.
        is_unused => poll_unused, unused, try_unused() -> Result<()>
    }

    fn end(&mut self, waker: Option<&Waker>) -> Poll<Result<()>> {
        follow(&self.shared, &mut self.slot, waker, closed)
    }

    wait! {
        /// Until the track has ended: cleanly, or why not.
        end => poll_closed, closed, try_closed() -> Result<()>
    }
}

impl Clone for TrackProducer {
    fn clone(&self) -> Self {
        let mut wakes = DeferredWakes::default();
        let clone = Self::of(self.shared.clone(), self.demand_seen, &mut wakes);
        wakes.wake();
        clone
    }
}

impl Drop for TrackProducer {
    fn drop(&mut self) {
        let _freed = self.shared.change(&mut self.wakes, |state, wakes| {
            state.upstreams.detach(self.upstream);
            state.settle_partials();
            state.producers -= 1;
            if state.producers == 0 {
                match state.end {
                    None => state.stop(Error::Dropped, wakes),
                    // What is missing below the end can't come any more.
                    Some(_) => {
                        state.group_waiters.take(wakes);
                        state.status_waiters.take(wakes);
                        state.demand.producer_waiters.take(wakes);
                    }
                }
            }
            (
                state.status_waiters.free(&mut self.slot),
                state.demand.producer_waiters.free(&mut self.demand_slot),
            )
        });
    }
}

impl fmt::Debug for TrackProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackProducer").field("name", &self.name()).finish_non_exhaustive()
    }
}

#[cfg(any(test, feature = "sim"))]
impl TrackProducer {
    /// What the track remembers, for tests.
    pub fn census(&self) -> crate::sim::Census {
        crate::sim::Census::of(&*self.shared)
    }
}

impl TrackShared {
    /// Another source of the track.
    pub(crate) fn add_upstream(
        self: &Arc<Self>,
        upstream: u64,
        route: &Route,
        wakes: &mut DeferredWakes,
    ) -> TrackProducer {
        let mut producer = TrackProducer::of(self.clone(), DemandVersion::default(), wakes);
        producer.attach(upstream, route);
        producer
    }
}
