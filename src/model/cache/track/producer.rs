//! Writing a track.

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
use crate::machine::Subgroup;
use crate::model::base::{
    DeferredWakes, Horizon, Result, Route, WaitSlot, count, impl_debug, lock, wait, wait_on,
};
use crate::model::cache::budget::{Account, Cache};
use crate::model::cache::cached_groups::CachedGroups;
use crate::model::cache::group::{CachedGroup, Group, GroupForm, GroupProducer};
use crate::model::cache::stats::TrackStats;
use crate::{Error, Properties, Subscription, Timestamp, TrackInfo};

/// Writes a track. A clone is another writer of the same track. If the last one is dropped before
/// [`finish`](Self::finish), the track is aborted with [`Error::Dropped`].
///
/// ```
/// use smoq::Origin;
///
/// let origin = Origin::default().produce();
/// let mut room = origin.create_broadcast("room")?;
///
/// // A group of one frame.
/// let mut chat = room.create_track("chat")?;
/// chat.write_frame(1_000, "hello")?; // at 1,000 microseconds
///
/// // A group of pictures: the reader can begin at its start.
/// let mut video = room.create_track("video")?;
/// let mut group = video.append_group()?;
/// group.write_frame(0, "key frame")?;
/// group.write_frame(33_333, "delta frame")?;
/// group.finish()?;
/// video.finish()?;
/// # Ok::<(), smoq::Error>(())
/// ```
pub struct TrackProducer {
    shared: Arc<TrackShared>,
    wakes: DeferredWakes,
    slot: WaitSlot,
    demand_slot: WaitSlot,
    /// The version of the demand that this handle returned last.
    demand_seen: DemandVersion,
    /// The id of the upstream that it writes for; 0 for the application.
    upstream: u64,
}

impl TrackProducer {
    /// Creates a track in a cache.
    pub(crate) fn new(track: Track, cache: Arc<Cache>, occupancy: Arc<Occupancy>) -> Self {
        let shared = TrackShared::new(track.name, cache, occupancy);
        let _ = shared.info.set(track.info);
        lock(&shared.state).start = Some(0);
        // The track has no readers yet, so nobody is woken.
        Self::of(shared, DemandVersion::default(), &mut DeferredWakes::default())
    }

    /// Creates a track that was requested. Consumers wait until it is accepted or aborted.
    pub(crate) fn requested(name: Arc<str>, cache: Arc<Cache>, occupancy: Arc<Occupancy>) -> Self {
        let shared = TrackShared::new(name, cache, occupancy);
        Self::of(shared, DemandVersion::default(), &mut DeferredWakes::default())
    }

    /// Sets the deadline for accepting the track.
    pub(crate) fn expect_answer(&self, wakes: &mut DeferredWakes) {
        let due = self.shared.answer_due();
        let mut state = lock(&self.shared.state);
        state.answer_due = Some(due);
        self.shared.schedule_answers(&mut state, wakes);
    }

    fn of(shared: Arc<TrackShared>, demand_seen: DemandVersion, wakes: &mut DeferredWakes) -> Self {
        {
            let mut state = lock(&shared.state);
            state.producers += 1;
            shared.update_status(&mut state, wakes);
        }
        let (wakes, slot, demand_slot) = Default::default();
        Self { shared, wakes, slot, demand_slot, demand_seen, upstream: 0 }
    }

    /// The name of the track in its broadcast.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    pub(crate) fn shared_name(&self) -> &Arc<str> {
        &self.shared.name
    }

    /// The properties of the track; `None` until a requested track is accepted.
    pub fn info(&self) -> Option<&TrackInfo> {
        self.shared.info.get()
    }

    /// Accepts a requested track. A group that is written before accepts it with the defaults.
    ///
    /// # Errors
    ///
    /// [`Error::Duplicate`] if it was accepted before; the reason if the track was aborted. The
    /// track stays as it is.
    pub fn accept(&mut self, info: TrackInfo) -> Result<()> {
        let shared = &self.shared;
        shared.change(&mut self.wakes, |state, wakes| {
            if let Some(error) = &state.abort {
                return Err(error.clone());
            }
            let begins_groups = info.dynamic_groups;
            shared.info.set(info).map_err(|_| Error::Duplicate)?;
            state.status_waiters.take(wakes);
            if !begins_groups {
                state.demand.refuse_group();
            }
            state.fetches.recheck_queued(wakes);
            Ok(())
        })
    }

    /// A handle that answers requests for groups that are not in the cache. While there is one,
    /// [`TrackConsumer::fetch_group`] waits for its answer. Without one, such requests fail at
    /// once.
    pub fn dynamic(&self) -> TrackDynamic {
        TrackDynamic::new(self.shared.clone())
    }

    /// Declares that no group below `start` will come. Only the first call counts.
    pub(crate) fn set_start(&mut self, start: u64) {
        self.shared.change(&mut self.wakes, |state, wakes| {
            if state.start.is_none() {
                state.start = Some(start);
                state.group_waiters.take(wakes);
            }
        });
    }

    /// Declares that the publisher had frames before this was subscribed upstream.
    pub(crate) fn set_has_past(&self) {
        lock(&self.shared.state).has_past = true;
    }

    /// Creates a group with this sequence. Groups may be created in any order.
    ///
    /// # Errors
    ///
    /// [`Error::Duplicate`] if the group exists; [`Error::Old`] if it was given up before;
    /// [`Error::Closed`] if the track ended before this group, or is finished;
    /// [`Error::Unrepresentable`] above [`Group::MAX`]; the reason if the track was aborted. The
    /// track and its groups stay as they are.
    pub fn create_group(&mut self, group: impl Into<Group>) -> Result<GroupProducer> {
        let Group { sequence } = group.into();
        self.create(|_| sequence, GroupForm::Stream)
    }

    /// Creates the group after the highest one that the track ever had, or group 0.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if the track is finished; [`Error::Unrepresentable`] after [`Group::MAX`];
    /// the reason if the track was aborted. The track stays as it is.
    pub fn append_group(&mut self) -> Result<GroupProducer> {
        self.create(CachedGroups::next_sequence, GroupForm::Stream)
    }

    fn create(
        &mut self,
        sequence: impl FnOnce(&CachedGroups) -> u64,
        form: GroupForm,
    ) -> Result<GroupProducer> {
        let (shared, upstream) = (&self.shared, self.upstream);
        // Dropped after the lock is released.
        let mut _replaced = None;
        shared.change(&mut self.wakes, |state, wakes| {
            let sequence = sequence(&state.cached);
            let admitted = state.admits(upstream, sequence, None);
            if admitted == Err(Error::Duplicate) && upstream != 0 {
                // Another upstream delivered the group first. This one has shown that it delivers
                // groups, so it can take over without having been first.
                let next = state.cached.next_sequence();
                if state.upstreams.record_group(upstream, next) {
                    state.demand.producer_waiters.take(wakes);
                }
            }
            admitted?;
            match state.cached.find(sequence).map(|copy| copy.is_broken()) {
                Some(false) => {
                    // The group was fetched before. Its content stays.
                    state.cached.promote(sequence);
                    state.group_waiters.take(wakes);
                    state.number_waiters.take(wakes);
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
            let spare = state.spare.take();
            let group = state.cached.insert(sequence, |arrival| {
                let account = shared.account.clone();
                CachedGroup::new(sequence, arrival, account, form, spare)
            });
            let group = GroupProducer::new(group.clone());
            count(&shared.account.counters().groups);
            if upstream != 0 && state.upstreams.record_group(upstream, sequence) {
                state.demand.producer_waiters.take(wakes);
            }
            state.group_waiters.take(wakes);
            state.number_waiters.take(wakes);
            state.fetches.group_arrived(sequence, wakes);
            Ok(group)
        })
    }

    /// Adds a group that a session delivers, or a part of one, which only sessions of moq-transport read.
    ///
    /// Fails as [`create_group`](Self::create_group), and with [`Error::Cancelled`] for a part that nobody reads.
    pub(crate) fn create_part(
        &mut self,
        sequence: u64,
        subgroup: Option<Subgroup>,
    ) -> Result<GroupProducer> {
        match subgroup {
            Some(subgroup) if subgroup.is_apart() => self.add_part(sequence, subgroup),
            part => self.create(|_| sequence, self.form_of(part, GroupForm::Stream)),
        }
    }

    /// The form of a group that a session delivers, which is `plain` if the version has no subgroups.
    fn form_of(&self, part: Option<Subgroup>, plain: GroupForm) -> GroupForm {
        let info = self.shared.info.get();
        let track = info.map_or(TrackInfo::default().priority, |info| info.priority);
        part.map_or(plain, |part| GroupForm::of(part, track))
    }

    fn add_part(&mut self, sequence: u64, part: Subgroup) -> Result<GroupProducer> {
        let (upstream, number) = (self.upstream, Some(part.number));
        let check = |state: &mut TrackState| state.admits(upstream, sequence, number);
        self.shared.add_subgroup(sequence, part, check)
    }

    /// Appends a group of one frame.
    ///
    /// # Errors
    ///
    /// As [`append_group`](Self::append_group). If [`GroupProducer::write_frame`] fails, the new
    /// group is aborted and the track goes on.
    pub fn write_frame(
        &mut self,
        timestamp: impl Into<Timestamp>,
        payload: impl Into<Bytes>,
    ) -> Result<()> {
        let mut group = self.append_group()?;
        group.write_frame(timestamp, payload)?;
        group.finish()
    }

    /// Appends a group of one frame that sessions send as a QUIC datagram (moq-lite 05 and later,
    /// moq-transport): once, without a stream, and lost if the network loses it. Readers see it as any other group.
    ///
    /// A datagram has at most 1,200 bytes with its header, and no more than the path allows. A
    /// larger group is sent on a stream, and so is every group on versions without datagrams.
    /// Deployed peers drop such datagrams instead.
    ///
    /// # Errors
    ///
    /// As [`write_frame`](Self::write_frame).
    pub fn write_datagram(
        &mut self,
        timestamp: impl Into<Timestamp>,
        payload: impl Into<Bytes>,
    ) -> Result<()> {
        let mut group = self.create(CachedGroups::next_sequence, GroupForm::Datagram)?;
        group.write_frame(timestamp, payload)?;
        group.finish()
    }

    /// Adds a group that arrived as a datagram, or an object of one, which only sessions of moq-transport read unless it is
    /// the first. Returns whether it was added.
    pub(crate) fn ingest(
        &mut self,
        sequence: u64,
        object: Option<Subgroup>,
        timestamp: Timestamp,
        properties: Option<Properties>,
        payload: &[u8],
    ) -> bool {
        let is_status = properties.as_ref().is_some_and(|it| it.status() != 0);
        let group = match object {
            Some(object) if object.first_frame > 0 || is_status => self.add_part(sequence, object),
            first => self.create(|_| sequence, self.form_of(first, GroupForm::Datagram)),
        };
        let Ok(mut group) = group else { return false };
        let size = payload.len() as u64;
        group.ingest(timestamp, properties, size, &[payload]).is_ok() && group.finish().is_ok()
    }

    /// Ends the track cleanly after its last group. Open groups can still be written, but no group
    /// can be created, not even in a gap.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if the track is finished; the reason if it was aborted. Nothing changes
    /// then.
    pub fn finish(&mut self) -> Result<()> {
        self.end_at(CachedGroups::next_sequence)
    }

    /// Ends the track cleanly before the group `end`. Missing groups below `end` can still be
    /// created. Readers see the end when the last one, `end - 1`, has begun.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if the track is finished; the reason if it was aborted;
    /// [`Error::ProtocolViolation`] if it has a group at or after `end`; [`Error::Unrepresentable`]
    /// if `end` is more than one past [`Group::MAX`]. Nothing changes then.
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
                return Err(Error::ProtocolViolation("a group after the end of its track"));
            }
            state.end = Some(end);
            state.fetches.end_at(end, wakes);
            state.group_waiters.take(wakes);
            state.number_waiters.take(wakes);
            state.status_waiters.take(wakes);
            if !state.demand.has_readers() {
                // A session then needs no handler any more.
                state.fetches.handler_waiters.take(wakes);
            }
            Ok(())
        })
    }

    /// Aborts the track. Readers get `error` after the groups that are here, which stay readable.
    /// It does nothing if the track has ended.
    pub fn abort(&mut self, error: Error) {
        self.shared.change(&mut self.wakes, |state, wakes| state.stop(error, wakes));
    }

    /// Aborts the track unless a reader came meanwhile. Returns whether it was aborted.
    pub(crate) fn abort_if_unread(&mut self, error: Error) -> bool {
        self.shared.change(&mut self.wakes, |state, wakes| {
            let is_unwanted = !state.demand.has_readers();
            if is_unwanted {
                state.stop(error, wakes);
            }
            is_unwanted
        })
    }

    /// Reads the track from its latest group on, with [`Subscription::default`].
    pub fn consume(&self) -> TrackConsumer {
        self.subscribe(Subscription::default())
    }

    /// Reads the track. Group numbers above [`Group::MAX`] in `want` are clamped to it.
    pub fn subscribe(&self, want: Subscription) -> TrackConsumer {
        let mut wakes = DeferredWakes::default();
        let consumer = self.read(Some(want), None, &mut wakes);
        wakes.wake();
        consumer
    }

    /// Reads the track, or only queries its properties if `want` is `None`. The caller wakes
    /// `wakes`.
    pub(crate) fn read(
        &self,
        want: Option<Subscription>,
        horizon: Option<Horizon>,
        wakes: &mut DeferredWakes,
    ) -> TrackConsumer {
        TrackConsumer::new(self.shared.clone(), want, horizon, wakes)
    }

    /// The highest sequence that the track ever had.
    pub fn latest(&self) -> Option<u64> {
        lock(&self.shared.state).cached.next_sequence().checked_sub(1)
    }

    /// Whether the track has ended, in any way. Open groups can still be written after a clean end.
    pub fn is_closed(&self) -> bool {
        closed(&lock(&self.shared.state)).is_ready()
    }

    /// Whether both handles write the same track.
    pub fn is_clone(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Bytes that the track holds in memory: payload and the memory needed to manage it.
    pub fn cached_bytes(&self) -> u64 {
        self.shared.account.used()
    }

    /// Counters of what was written to the track.
    pub fn stats(&self) -> TrackStats {
        self.shared.account.stats()
    }

    /// The wishes of all readers together: the highest priority, the greatest age, the widest bounds.
    /// `None` if there is no reader.
    pub fn subscription(&self) -> Option<Subscription> {
        lock(&self.shared.state).demand.combined().cloned()
    }

    /// Whether the track was not aborted, and somebody reads it or queries its properties.
    pub(crate) fn has_readers(&self) -> bool {
        let state = lock(&self.shared.state);
        state.abort.is_none() && state.demand.has_readers()
    }

    /// The counters, which outlive the track.
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.shared.account
    }

    /// Makes it a producer for `upstream`, which delivers the track by `route`.
    pub(crate) fn attach(&mut self, upstream: u64, route: &Route) {
        self.upstream = lock(&self.shared.state).upstreams.attach(upstream, route);
    }

    /// The session of this upstream knows of the track. From now on it counts when an open group
    /// needs another session.
    pub(crate) fn confirm(&self) {
        self.shared.change(&mut DeferredWakes::default(), |state, _| {
            state.upstreams.confirm(self.upstream);
            state.recheck_partials();
        });
    }

    /// Whether no other upstream is attached.
    pub(crate) fn is_only_upstream(&self) -> bool {
        lock(&self.shared.state).upstreams.is_only(self.upstream)
    }

    /// Whether a newer upstream has taken over.
    pub(crate) fn is_superseded(&self) -> bool {
        lock(&self.shared.state).upstreams.is_superseded(self.upstream)
    }

    /// Whether any reader may be given what this upstream delivers.
    pub(crate) fn is_useful(&self) -> bool {
        let state = lock(&self.shared.state);
        state.upstreams.route(self.upstream).is_none_or(|route| state.demand.allows_any(route))
    }

    /// Declares that these groups, which an earlier upstream announced, will not come.
    pub(crate) fn mark_lost(&mut self, groups: Range<u64>) {
        lock(&self.shared.state).upstreams.add_lost(groups);
    }

    /// The state that all handles share.
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
        let (shared, seen) = (&self.shared, &mut self.demand_seen);
        wait_on(
            &shared.state,
            waker,
            &mut self.demand_slot,
            |state| &mut state.demand.producer_waiters,
            |state| ask(state, seen),
        )
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

    /// As [`poll_subscription_changed`](Self::poll_subscription_changed), and whether there are
    /// readers. A reader that only queries the properties wants nothing, but counts as a reader.
    ///
    /// If the peer `takes_requests`, the result contains each request for a new group once.
    pub(crate) fn poll_interest(
        &mut self,
        cx: &mut Context<'_>,
        takes_requests: bool,
    ) -> Poll<(Option<Subscription>, bool)> {
        self.demand(Some(cx.waker()), |state, seen| {
            let DemandVersion { want, interest, new_group } = state.demand.changes();
            let asks = takes_requests && seen.new_group != new_group;
            if seen.interest == interest && !asks {
                return Poll::Pending;
            }
            let requested = state.demand.requested_group(state.cached.next_sequence());
            let all = state
                .demand
                .combined()
                .cloned()
                .map(|all| Subscription { new_group: requested.filter(|_| asks), ..all });
            let new_group = if takes_requests { new_group } else { seen.new_group };
            *seen = DemandVersion { want, interest, new_group };
            Poll::Ready((all, state.demand.has_readers()))
        })
    }

    /// Ready when there are no readers, not even one that only queries the properties, or when the
    /// track is aborted.
    pub(crate) fn poll_unread(&mut self, waker: Option<&Waker>) -> Poll<()> {
        self.demand(waker, |state, _| match state.abort.is_some() || !state.demand.has_readers() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
    }

    wait! {
        /// The wishes of all readers together, each time it changed since this handle returned it last;
        /// `None` if there is no reader.
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
        /// Waits until the track has a reader. A peer that only queries the properties (moq-lite,
        /// TRACK) does not count.
        ///
        /// # Errors
        ///
        /// The reason if the track was aborted.
        is_used => poll_used, used, try_used() -> Result<()>
    }

    wait! {
        /// Waits until the track has no reader.
        ///
        /// # Errors
        ///
        /// The reason if the track was aborted.
        is_unused => poll_unused, unused, try_unused() -> Result<()>
    }

    fn asked_for_group(&mut self, waker: Option<&Waker>) -> Poll<Result<()>> {
        self.demand(waker, |state, seen| {
            let new_group = state.demand.changes().new_group;
            let requested = state.demand.requested_group(state.cached.next_sequence());
            match &state.abort {
                Some(error) => Poll::Ready(Err(error.clone())),
                None if requested.is_some() && seen.new_group != new_group => {
                    seen.new_group = new_group;
                    Poll::Ready(Ok(()))
                }
                None => Poll::Pending,
            }
        })
    }

    wait! {
        /// Waits until a reader asks for a new group, on a track that [allows it](TrackInfo::dynamic_groups). The
        /// publisher should then end the current group and begin another one as soon as is practical. It may delay
        /// that, for groups of a minimum duration.
        ///
        /// Readers that ask before the next group begins, here or at peers, are reported together, once to each clone of
        /// this handle. A request is over when the next group begins.
        ///
        /// # Errors
        ///
        /// The reason if the track was aborted.
        asked_for_group => poll_new_group_requested, new_group_requested,
            try_new_group_requested() -> Result<()>
    }

    fn end(&mut self, waker: Option<&Waker>) -> Poll<Result<()>> {
        follow(&self.shared, &mut self.slot, waker, |state| closed(state))
    }

    wait! {
        /// Waits until the track has ended.
        ///
        /// # Errors
        ///
        /// The reason if the track was aborted. Its groups stay readable.
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
            state.recheck_partials();
            state.producers -= 1;
            if state.producers == 0 {
                match state.end {
                    None => state.stop(Error::Dropped, wakes),
                    // Missing groups before the end can no longer come.
                    Some(_) => {
                        state.group_waiters.take(wakes);
                        state.number_waiters.take(wakes);
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

impl_debug! { TrackProducer, it => name: &it.name() }

#[cfg(any(test, feature = "sim"))]
impl TrackProducer {
    /// The census of the track, for tests.
    pub fn census(&self) -> crate::census::Census {
        crate::census::Census::of(&*self.shared)
    }
}

impl TrackShared {
    /// Adds a producer for another upstream.
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
