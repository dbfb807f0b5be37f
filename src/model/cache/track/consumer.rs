//! Reading a track.

use std::any::Any;
use std::sync::Arc;
use std::task::{Poll, Waker, ready};

use super::demand::{DemandReader, LastingWant};
use super::group_fetcher::GroupFetcher;
use super::state::{TrackShared, TrackState, closed, follow};
use crate::machine::Subgroup;
use crate::model::base::{
    DeferredWakes, Horizon, Result, WaitSlot, impl_debug, lock, wait, wait_on,
};
use crate::model::cache::cached_groups::CachedGroups;
use crate::model::cache::cached_subgroups::CachedSubgroup;
use crate::model::cache::frame::Frame;
use crate::model::cache::group::{CachedGroup, Group, GroupConsumer, GroupCursor};
use crate::model::cache::stats::TrackStats;
use crate::{Subscription, Timestamp, TrackInfo};

/// A value that lives as long as any handle that holds it.
pub(crate) type KeepAlive = Arc<dyn Any + Send + Sync>;

/// Reads a track, group by group. A clone continues from the position of the original.
///
/// A new consumer begins at the latest group, unless [`Subscription::start`] is set.
/// [`recv_group`](Self::recv_group) and [`next_group`](Self::next_group) have a position each. Use
/// the one that fits.
///
/// Each wait has three forms: `recv_group().await`, `poll_recv_group(cx)`, and `try_recv_group()`,
/// which needs no waker.
///
/// ```
/// use std::task::Poll;
///
/// use smoq::{Origin, Subscription};
///
/// let origin = Origin::default().produce();
/// let mut room = origin.create_broadcast("room")?;
/// let mut video = room.create_track("video")?;
///
/// let mut reader = room.consume().subscribe_track("video", Subscription::default())?;
/// assert!(reader.try_recv_group().is_pending());
///
/// video.write_frame(0, "picture")?;
/// video.finish()?;
/// let Poll::Ready(Some(mut group)) = reader.try_recv_group()? else { panic!("a group is there") };
/// let Poll::Ready(Some(frame)) = group.try_read_frame()? else { panic!("a frame is there") };
/// assert_eq!(&frame.payload()[..], b"picture");
/// assert!(matches!(reader.try_recv_group()?, Poll::Ready(None)), "the track ended");
/// # Ok::<(), smoq::Error>(())
/// ```
#[derive(Clone)]
pub struct TrackConsumer {
    /// Boxed, so that a task that waits for a group is small wherever it holds its reader.
    reader: Box<TrackReader>,
}

/// The state of a reader. There may be thousands of them that wait, so they hold only what each of
/// them needs.
struct TrackReader {
    shared: Arc<TrackShared>,
    cursor: GroupPosition,
    slot: WaitSlot,
    /// `None` until it is needed.
    extras: Option<Box<ReaderExtras>>,
}

/// The state that few readers need.
#[derive(Default)]
struct ReaderExtras {
    /// Whether it only queries the properties of the track.
    is_query: bool,
    /// Limits the routes by which a peer may be given the track.
    horizon: Option<Horizon>,
    /// Keeps the path by which its broadcast was requested.
    keep_alive: Option<KeepAlive>,
    /// The group whose first frame `read_frame` waits for.
    reading: Option<GroupConsumer>,
    /// The group that it requested by number.
    fetcher: GroupFetcher,
    number_slot: WaitSlot,
    status_slot: WaitSlot,
    /// How many groups `next_group` skipped.
    skipped: u64,
    /// The next subgroup in order of arrival, and the mark of a reader; `None` if it reads only subgroups 0.
    subgroups: Option<(u64, Arc<()>)>,
}

/// The position of a reader.
#[derive(Clone)]
struct GroupPosition {
    want: LastingWant,
    /// Groups below this sequence are not wanted.
    start: u64,
    /// The next group of `recv_group`, in order of arrival.
    arrival: u64,
    /// The next group of `next_group`.
    next: u64,
}

/// The first group of a reader, and from which arrival on it reads.
fn first_position(cached: &CachedGroups, start: Option<u64>) -> (u64, u64) {
    match (start, cached.latest()) {
        (Some(start), _) => (start, 0),
        (None, Some(latest)) => (latest.sequence(), latest.arrival()),
        (None, None) => (cached.floor(), cached.arrivals()),
    }
}

impl GroupPosition {
    /// The reader at this position as the demand of the track counts it.
    fn counted(&self, extras: Option<&ReaderExtras>) -> DemandReader<'_> {
        let is_query = extras.is_some_and(|extras| extras.is_query);
        let horizon = extras.and_then(|extras| extras.horizon);
        DemandReader { want: (!is_query).then_some(&self.want), horizon }
    }
}

impl TrackConsumer {
    /// Creates a reader, which only queries the properties if `want` is `None`. A reader for a peer
    /// is given only what comes by routes within its `horizon`. The caller wakes `wakes`.
    pub(crate) fn new(
        shared: Arc<TrackShared>,
        want: Option<Subscription>,
        horizon: Option<Horizon>,
        wakes: &mut DeferredWakes,
    ) -> Self {
        let is_query = want.is_none();
        let want = want.map(Subscription::clamp);
        let new_group = want.as_ref().and_then(|want| want.new_group);
        let want = want.map(LastingWant::from);
        let (start, arrival) = shared.change_without_waking(wakes, |state, wakes| {
            let added = DemandReader { want: want.as_ref(), horizon };
            state.demand.change(None, Some(added), state.cached.next_sequence(), wakes);
            if let Some(sequence) = new_group {
                shared.request_group(state, sequence, wakes);
            }
            first_position(&state.cached, want.as_ref().and_then(|want| want.start))
        });
        let want = want.unwrap_or_else(|| Subscription::default().into());
        let cursor = GroupPosition { want, start, arrival, next: start };
        let extras = ReaderExtras { is_query, horizon, ..ReaderExtras::default() };
        let extras = (is_query || horizon.is_some()).then(|| Box::new(extras));
        Self { reader: Box::new(TrackReader { shared, cursor, slot: WaitSlot::default(), extras }) }
    }

    /// Lets the reader keep the path by which its broadcast was requested.
    pub(crate) fn with_keep_alive(mut self, keep_alive: Option<&KeepAlive>) -> Self {
        if let Some(keep_alive) = keep_alive {
            let extras = self.reader.extras.get_or_insert_default();
            extras.keep_alive = Some(keep_alive.clone());
        }
        self
    }

    pub(super) fn shared(&self) -> &Arc<TrackShared> {
        &self.reader.shared
    }

    /// A reader of the same track for the same peer, which wants no groups.
    pub(crate) fn query(&self) -> Self {
        let mut wakes = DeferredWakes::default();
        let horizon = self.reader.extras.as_ref().and_then(|extras| extras.horizon);
        let query = Self::new(self.shared().clone(), None, horizon, &mut wakes);
        wakes.wake();
        query
    }

    /// A number that no other track has at the same time.
    pub(crate) fn id(&self) -> usize {
        Arc::as_ptr(&self.reader.shared).addr()
    }

    /// The name of the track in its broadcast.
    pub fn name(&self) -> &str {
        &self.reader.shared.name
    }

    /// The wishes of this reader.
    pub fn subscription(&self) -> Subscription {
        self.reader.cursor.want.clone().into()
    }

    /// Changes what this reader wants. If [`start`](Subscription::start) changes, the reader moves
    /// there. Group numbers above [`Group::MAX`](crate::Group::MAX) are clamped to it.
    pub fn update(&mut self, want: Subscription) {
        let want = want.clamp();
        let new_group = want.new_group;
        let want = LastingWant::from(want);
        if let Some(start) = want.start.filter(|_| want.start != self.reader.cursor.want.start) {
            self.start_at(start);
        }
        let reader = &mut *self.reader;
        let before = reader.cursor.counted(reader.extras.as_deref());
        let added = DemandReader { want: Some(&want), ..before };
        reader.shared.change(&mut DeferredWakes::default(), |state, wakes| {
            state.demand.change(Some(before), Some(added), state.cached.next_sequence(), wakes);
            if let Some(sequence) = new_group {
                reader.shared.request_group(state, sequence, wakes);
            }
        });
        reader.cursor.want = want;
        if let Some(extras) = &mut reader.extras {
            extras.is_query = false;
        }
    }

    /// As [`update`](Self::update), for a reader that has read nothing: if it wants no start any more, it moves to the
    /// latest group.
    pub(crate) fn update_unread(&mut self, want: Subscription) {
        let restarts = want.start.is_none() && self.reader.cursor.want.start.is_some();
        self.update(want);
        if restarts {
            let TrackReader { cursor, shared, .. } = &mut *self.reader;
            (cursor.start, cursor.arrival) = first_position(&lock(&shared.state).cached, None);
            cursor.next = cursor.start;
        }
    }

    /// Asks the publisher to begin a new group soon, for example to get a key frame after a loss. It does nothing if
    /// [`TrackInfo::dynamic_groups`] is not set, as for all tracks that come by moq-lite. While one reader waits for a
    /// new group, the requests of others cost the publisher nothing. A publisher may delay new groups, so their number
    /// does not follow that of requests.
    ///
    /// [`Subscription::new_group`] does the same at the beginning of a subscription.
    pub fn request_new_group(&self) {
        let shared = &self.reader.shared;
        shared.change(&mut DeferredWakes::default(), |state, wakes| {
            shared.request_group(state, 0, wakes);
        });
    }

    /// Moves the reader to the group `sequence`, or to the first one after it. It can also move
    /// back.
    pub fn start_at(&mut self, sequence: u64) {
        let TrackReader { cursor, extras, .. } = &mut *self.reader;
        (cursor.start, cursor.next, cursor.arrival) = (sequence, sequence, 0);
        if let Some(extras) = extras {
            extras.reading = None;
        }
    }

    /// Counts the groups that [`next_group`](Self::next_group) skipped because they were too old,
    /// or because the only peer that had them is gone.
    pub fn skipped(&self) -> u64 {
        self.reader.extras.as_ref().map_or(0, |extras| extras.skipped)
    }

    /// Counters of what was written to the track, here or by a peer.
    pub fn stats(&self) -> TrackStats {
        self.reader.shared.account.stats()
    }

    /// The highest sequence that the track ever had.
    pub fn latest(&self) -> Option<u64> {
        self.next_sequence().checked_sub(1)
    }

    /// The group with the highest sequence at the moment. The position of the reader does not
    /// change.
    pub fn latest_group(&self) -> Option<GroupConsumer> {
        lock(&self.reader.shared.state).cached.latest().cloned().map(GroupConsumer::new)
    }

    /// The newest complete frame at the moment: the last frame of the latest group that has one.
    /// The position of the reader does not change.
    pub fn latest_frame(&self) -> Option<Frame> {
        let state = lock(&self.reader.shared.state);
        state.cached.by_sequence().iter().rev().find_map(|group| group.latest_frame())
    }

    /// One past the highest sequence that the track ever had.
    pub(crate) fn next_sequence(&self) -> u64 {
        lock(&self.reader.shared.state).cached.next_sequence()
    }

    /// The sequence below which this reader will read no group. `None` until there is a group to
    /// read. A subscriber is told this number as START. Lower groups that are too old now stay too
    /// old.
    pub(crate) fn start(&self) -> Option<u64> {
        let timescale = self.reader.shared.timescale();
        let state = lock(&self.reader.shared.state);
        let (cached, want) = (&state.cached, &self.reader.cursor.want);
        if cached.next_sequence() <= self.reader.cursor.start {
            return None;
        }
        let from = match (state.start, state.is_over()) {
            (None, false) => return None,
            (start, _) => start.unwrap_or(0).max(self.reader.cursor.start).max(cached.floor()),
        };
        let first = cached.position(from);
        let groups = cached.by_sequence();
        let old =
            (first..groups.len()).take_while(|at| cached.is_old(*at, want.max_age, timescale));
        // The newest group is never too old.
        Some(old.last().map_or(from, |at| groups[at + 1].sequence()))
    }

    /// Whether a group is older than [`Subscription::max_age`] allows.
    pub(crate) fn is_old(&self, sequence: u64) -> bool {
        let timescale = self.reader.shared.timescale();
        let cached = &lock(&self.reader.shared.state).cached;
        cached.is_old(cached.position(sequence), self.reader.cursor.want.max_age, timescale)
    }

    /// The timestamp up to which frames of this group are older than the subscription wants; `None` for the
    /// latest group.
    pub(crate) fn oldest_useful(&self, sequence: u64) -> Option<Timestamp> {
        let timescale = self.reader.shared.timescale();
        let newest = lock(&self.reader.shared.state).cached.newest_after(sequence)?;
        let max_age =
            u64::try_from(self.reader.cursor.want.max_age.as_micros()).unwrap_or(u64::MAX);
        newest.units().checked_sub(timescale.from_micros(max_age)).map(Timestamp::new)
    }

    /// Whether the track has ended, in any way. Groups may be left to read.
    pub fn is_closed(&self) -> bool {
        closed(&lock(&self.reader.shared.state)).is_ready()
    }

    /// Whether both handles read the same track.
    pub fn is_clone(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.shared(), other.shared())
    }

    /// The sequence before which the track ended, if it ended cleanly.
    pub fn end(&self) -> Option<u64> {
        lock(&self.reader.shared.state).end
    }

    /// Calls `find` under the lock, with the position and the first sequence that is not wanted.
    fn find_group<T>(
        &mut self,
        waker: Option<&Waker>,
        find: impl FnOnce(&mut GroupPosition, &TrackState, u64) -> Poll<Result<Option<T>>>,
    ) -> Poll<Result<Option<T>>> {
        let TrackReader { shared, cursor, slot, .. } = &mut *self.reader;
        wait_on(
            &shared.state,
            waker,
            slot,
            |state| &mut state.group_waiters,
            |state| {
                let end = cursor.want.end.map_or(u64::MAX, |end| end.saturating_add(1));
                let limit = end.min(state.end.unwrap_or(u64::MAX));
                find(cursor, state, limit)
            },
        )
    }

    /// `make` runs under the lock, so that the group is pinned before it can be given up.
    fn next_arrived<T>(
        &mut self,
        waker: Option<&Waker>,
        make: fn(Arc<CachedGroup>) -> T,
    ) -> Poll<Result<Option<T>>> {
        self.find_group(waker, |cursor, state, limit| {
            let wanted = cursor.start..limit;
            let mut groups = state.cached.arrived(cursor.arrival);
            let group = groups.find(|group| wanted.contains(&group.sequence()));
            cursor.arrival = group.map_or(state.cached.arrivals(), |group| group.arrival() + 1);
            match group {
                Some(group) => Poll::Ready(Ok(Some(make(group.clone())))),
                None => state.no_more(limit).map_ok(|()| None),
            }
        })
    }

    fn recv(&mut self, waker: Option<&Waker>) -> Poll<Result<Option<GroupConsumer>>> {
        self.next_arrived(waker, GroupConsumer::new)
    }

    wait! {
        /// The next group in the order of arrival, including late ones, each once; `None` after the
        /// last group of a track that ended cleanly.
        ///
        /// # Errors
        ///
        /// The reason if the track was aborted, after all groups that are here. Groups that were
        /// read before stay readable.
        recv => poll_recv_group, recv_group, try_recv_group() -> Result<Option<GroupConsumer>>
    }

    /// [`poll_recv_group`](Self::poll_recv_group) for a session.
    pub(crate) fn poll_recv_cursor(
        &mut self,
        waker: Option<&Waker>,
    ) -> Poll<Result<Option<GroupCursor>>> {
        self.next_arrived(waker, GroupCursor::new)
    }

    /// Lets a session read other subgroups than 0 as well.
    pub(crate) fn with_subgroups(mut self) -> Self {
        let mut state = lock(&self.reader.shared.state);
        let mark = state.cached.subgroups().get_or_insert_default().reader();
        drop(state);
        self.reader.extras.get_or_insert_default().subgroups = Some((0, mark));
        self
    }

    pub(crate) fn reads_subgroups(&self) -> bool {
        self.reader.extras.as_ref().is_some_and(|extras| extras.subgroups.is_some())
    }

    /// The part that follows the last frame of this group and has no place in it, for a session that reads other subgroups.
    pub(crate) fn rest(&self, sequence: u64) -> Option<GroupCursor> {
        self.reader.extras.as_ref()?.subgroups.as_ref()?;
        let mut state = lock(&self.reader.shared.state);
        let rest = state.cached.subgroups().as_ref()?.find(sequence, 0)?;
        Some(GroupCursor::new(rest.clone()))
    }

    /// The next subgroup other than 0 that arrived, each once. Those that come later wake the task that waits for the
    /// next group.
    pub(crate) fn next_subgroup(&mut self) -> Option<(GroupCursor, Subgroup)> {
        let TrackReader { shared, cursor, extras, .. } = &mut *self.reader;
        let (next, _) = extras.as_mut()?.subgroups.as_mut()?;
        let wanted = cursor.start..=cursor.want.end.unwrap_or(u64::MAX);
        let mut state = lock(&shared.state);
        let mut arrived = state.cached.subgroups().as_ref()?.arrived(*next);
        let CachedSubgroup { subgroup, group } =
            arrived.find(|it| it.subgroup.is_apart() && wanted.contains(&it.group.sequence()))?;
        *next = group.arrival() + 1;
        Some((GroupCursor::new(group.clone()), *subgroup))
    }

    fn next_in_order<T>(
        &mut self,
        waker: Option<&Waker>,
        make: fn(Arc<CachedGroup>) -> T,
    ) -> Poll<Result<Option<T>>> {
        let timescale = self.reader.shared.timescale();
        let mut skipped = 0;
        let found = self.find_group(waker, |cursor, state, limit| {
            let at = state.cached.position(cursor.next);
            let groups = state.cached.by_sequence().iter().enumerate().skip(at);
            for (at, group) in groups.take_while(|(_, group)| group.sequence() < limit) {
                skipped += state.upstreams.lost_in(cursor.next..group.sequence());
                cursor.next = group.sequence() + 1;
                if state.cached.is_old(at, cursor.want.max_age, timescale) {
                    skipped += 1;
                } else {
                    return Poll::Ready(Ok(Some(make(group.clone()))));
                }
            }
            if cursor.next >= limit {
                return Poll::Ready(Ok(None));
            }
            state.no_more(limit).map_ok(|()| None)
        });
        if skipped > 0 {
            self.reader.extras.get_or_insert_default().skipped += skipped;
        }
        found
    }

    fn next(&mut self, waker: Option<&Waker>) -> Poll<Result<Option<GroupConsumer>>> {
        self.next_in_order(waker, GroupConsumer::new)
    }

    wait! {
        /// The next group in increasing sequence. It skips gaps and groups that come late: the
        /// newest of several groups is sent first, and once it was returned, the ones before are not.
        /// Use [`recv_group`](Self::recv_group) to get each group. It also
        /// skips groups that are older than [`Subscription::max_age`], and [counts](Self::skipped)
        /// them. `None` after the last group of a track that ended cleanly.
        ///
        /// # Errors
        ///
        /// As [`poll_recv_group`](Self::poll_recv_group).
        next => poll_next_group, next_group, try_next_group() -> Result<Option<GroupConsumer>>
    }

    fn read(&mut self, waker: Option<&Waker>) -> Poll<Result<Option<Frame>>> {
        loop {
            let extras = self.reader.extras.as_mut();
            let mut group = match extras.and_then(|extras| extras.reading.take()) {
                Some(group) => group,
                None => match ready!(self.next_in_order(waker, GroupConsumer::unpinned))? {
                    Some(group) => group,
                    None => return Poll::Ready(Ok(None)),
                },
            };
            match group.next(waker) {
                Poll::Ready(Ok(Some(frame))) => return Poll::Ready(Ok(Some(frame))),
                // A group that ended without a frame does not end the track.
                Poll::Ready(_) => {}
                Poll::Pending => {
                    self.reader.extras.get_or_insert_default().reading = Some(group);
                    return Poll::Pending;
                }
            }
        }
    }

    wait! {
        /// The first frame of the [next group](Self::next_group) that has one, for tracks with one
        /// frame in each group, of which the newest counts. `None` after the last group of a track that ended cleanly.
        ///
        /// # Errors
        ///
        /// As [`poll_recv_group`](Self::poll_recv_group). A group that was aborted before its first
        /// frame is skipped.
        read => poll_read_frame, read_frame, try_read_frame() -> Result<Option<Frame>>
    }

    fn find(
        &mut self,
        waker: Option<&Waker>,
        sequence: u64,
    ) -> Poll<Result<Option<GroupConsumer>>> {
        let TrackReader { shared, extras, .. } = &mut *self.reader;
        wait_on(
            &shared.state,
            waker,
            &mut extras.get_or_insert_default().number_slot,
            |state| &mut state.number_waiters,
            |state| {
                let never = state.end.is_some_and(|end| sequence >= end)
                    || state.is_finished()
                    || Group::check(sequence).is_err();
                match state.cached.find(sequence) {
                    Some(group) => Poll::Ready(Ok(Some(GroupConsumer::new(group.clone())))),
                    None if sequence < state.cached.floor() || never => Poll::Ready(Ok(None)),
                    None => match &state.abort {
                        Some(error) => Poll::Ready(Err(error.clone())),
                        None => Poll::Pending,
                    },
                }
            },
        )
    }

    wait! {
        /// The group `sequence`, as soon as it begins; `None` if it was given up or can't come any
        /// more. The position of the reader does not change.
        ///
        /// # Errors
        ///
        /// The reason if the track was aborted without this group.
        find => poll_group, group, try_group(sequence: u64)
            -> Result<Option<GroupConsumer>>
    }

    fn fetch(&mut self, waker: Option<&Waker>, sequence: u64) -> Poll<Result<GroupConsumer>> {
        Group::check(sequence)?;
        self.poll_fetch(waker, sequence, self.reader.cursor.want.priority)
    }

    wait! {
        /// The group `sequence`, whatever its age. If it is not in the cache, it is requested from
        /// the peer that has the track (FETCH) or from a [`TrackDynamic`](super::TrackDynamic). All
        /// readers that request the same group share one request. The group then stays in the cache
        /// for later readers. The position of the reader does not change.
        ///
        /// A consumer requests one group at a time: requesting another one cancels the request
        /// before. Dropping the consumer cancels it too, dropping the future does not. Clones
        /// request independently.
        ///
        /// # Errors
        ///
        /// [`Error::NotFound`](crate::Error::NotFound) if there is no such group or nobody to ask;
        /// [`Error::Old`](crate::Error::Old) if it was given up and there is nobody to ask;
        /// [`Error::Unsupported`](crate::Error::Unsupported) if the session's version has no FETCH
        /// that is supported (moq-lite 05 and later and moq-transport have it);
        /// [`Error::Unrepresentable`](crate::Error::Unrepresentable) above
        /// [`Group::MAX`](crate::Group::MAX); otherwise the error of the peer or handler that was
        /// asked, or the reason if the track was aborted. Other groups and the track are not
        /// affected.
        fetch => poll_fetch_group, fetch_group, try_fetch_group(sequence: u64)
            -> Result<GroupConsumer>
    }

    /// [`poll_fetch_group`](Self::poll_fetch_group) for a session, with a priority of its own.
    ///
    /// It fails with [`Error::Unroutable`](crate::Error::Unroutable) if the group is open and may
    /// come from the peer itself, which would then wait for its own group.
    pub(crate) fn poll_fetch(
        &mut self,
        waker: Option<&Waker>,
        sequence: u64,
        priority: u8,
    ) -> Poll<Result<GroupConsumer>> {
        if Group::check(sequence).is_err() {
            return Poll::Ready(Err(crate::Error::NotFound));
        }
        let TrackReader { shared, extras, .. } = &mut *self.reader;
        let found = extras.get_or_insert_default().fetcher.poll(shared, waker, sequence, priority);
        match found {
            Poll::Ready(Ok(group)) if !group.is_closed() && self.comes_from_peer() => {
                Poll::Ready(Err(crate::Error::Unroutable))
            }
            found => found,
        }
    }

    /// Whether part of the track comes by a route that the peer must not be given.
    fn comes_from_peer(&self) -> bool {
        let horizon = self.reader.extras.as_ref().and_then(|extras| extras.horizon);
        let state = lock(&self.reader.shared.state);
        horizon.is_some_and(|horizon| state.upstreams.any_beyond(&horizon))
    }

    /// Cancels the request for a group.
    pub(crate) fn cancel_fetch(&mut self) {
        let TrackReader { shared, extras, .. } = &mut *self.reader;
        if let Some(extras) = extras {
            extras.fetcher.leave(shared);
        }
    }

    /// Waits for the track to be accepted or to end.
    fn follow<T>(
        &mut self,
        waker: Option<&Waker>,
        ready: impl FnOnce(&TrackShared, &mut TrackState) -> Poll<T>,
    ) -> Poll<T> {
        let TrackReader { shared, extras, .. } = &mut *self.reader;
        let slot = &mut extras.get_or_insert_default().status_slot;
        follow(shared, slot, waker, |state| ready(shared, state))
    }

    fn accepted(&mut self, waker: Option<&Waker>) -> Poll<Result<TrackInfo>> {
        self.follow(waker, |shared, state| match (shared.info.get(), &state.abort) {
            (Some(info), _) => Poll::Ready(Ok(info.clone())),
            (None, Some(error)) => Poll::Ready(Err(error.clone())),
            (None, None) => Poll::Pending,
        })
    }

    wait! {
        /// The properties of the track, as soon as it is accepted.
        ///
        /// # Errors
        ///
        /// The reason if the track was refused or aborted before.
        accepted => poll_info, info, try_info() -> Result<TrackInfo>
    }

    fn finish(&mut self, waker: Option<&Waker>) -> Poll<Result<u64>> {
        self.follow(waker, |_, state| match (state.end, &state.abort) {
            (Some(end), _) => Poll::Ready(Ok(end)),
            (None, Some(error)) => Poll::Ready(Err(error.clone())),
            (None, None) => Poll::Pending,
        })
    }

    wait! {
        /// The sequence before which the track ends, as soon as it is known.
        ///
        /// # Errors
        ///
        /// The reason if the track was aborted.
        finish => poll_finished, finished, try_finished() -> Result<u64>
    }

    fn close(&mut self, waker: Option<&Waker>) -> Poll<Result<()>> {
        self.follow(waker, |_, state| closed(state))
    }

    wait! {
        /// Waits until the track has ended.
        ///
        /// # Errors
        ///
        /// The reason if the track was aborted. Its groups stay readable.
        close => poll_closed, closed, try_closed() -> Result<()>
    }
}

impl Clone for TrackReader {
    fn clone(&self) -> Self {
        let (shared, cursor) = (self.shared.clone(), self.cursor.clone());
        shared.change(&mut DeferredWakes::default(), |state, wakes| {
            let next_sequence = state.cached.next_sequence();
            state.demand.change(
                None,
                Some(self.cursor.counted(self.extras.as_deref())),
                next_sequence,
                wakes,
            );
        });
        let extras = self.extras.as_ref().map(|extras| {
            let ReaderExtras { is_query, horizon, skipped, .. } = **extras;
            let (keep_alive, reading) = (extras.keep_alive.clone(), extras.reading.clone());
            let own = ReaderExtras::default();
            Box::new(ReaderExtras { is_query, horizon, keep_alive, reading, skipped, ..own })
        });
        Self { shared, cursor, slot: WaitSlot::default(), extras }
    }
}

impl Drop for TrackReader {
    fn drop(&mut self) {
        let Self { shared, cursor, slot, extras } = self;
        if let Some(extras) = extras {
            extras.fetcher.leave(shared);
        }
        let _freed = shared.change(&mut DeferredWakes::default(), |state, wakes| {
            state.leave(cursor.counted(extras.as_deref()), wakes);
            let extras = extras.as_mut().map(|extras| {
                (
                    state.number_waiters.free(&mut extras.number_slot),
                    state.status_waiters.free(&mut extras.status_slot),
                )
            });
            (state.group_waiters.free(slot), extras)
        });
    }
}

impl_debug! { TrackConsumer, it => name: &it.name() }
