//! Tracks: where writers of groups and readers of groups meet.

mod consumer;
mod demand;
mod fetch;
mod occupancy;
mod rest;
mod sources;

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::Result;
use super::budget::{Account, Cache, Timed};
use super::group::{Group, GroupProducer, Kept};
use super::route::{Horizon, Route};
use super::shelf::{Dead, Rules, Shelf};
use super::stats::{TrackStats, count};
use super::wakers::{WaitSlot, Wakers, Woken, lock, wait};
use crate::census::census;
use crate::error::Error;
use crate::limits::Limits;
use crate::subscription::{Subscription, TrackInfo};
use crate::time::{Instant, Timescale, Timestamp};

use demand::{Changes, Demand};
use fetch::Fetches;
use occupancy::Standing;
use rest::Rests;
use sources::Sources;

pub use consumer::TrackConsumer;
pub(crate) use fetch::Wanted;
pub use fetch::{GroupRequest, TrackDynamic};
pub(crate) use occupancy::{Occupancy, OccupancySlots};
pub(crate) use rest::{Rest, cut_off};

/// A track that is to be made: its name and what its publisher says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// Its name in the broadcast.
    pub name: Arc<str>,
    /// Fixed for the track's life.
    pub info: TrackInfo,
}

impl Track {
    /// A track of this name, with the defaults of [`TrackInfo`].
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), info: TrackInfo::default() }
    }

    /// Sets the units of timestamps per second. What no version can carry is cut to what it can.
    #[must_use]
    pub fn timescale(mut self, units_per_second: u64) -> Self {
        let units = units_per_second.clamp(1, (1 << 62) - 1);
        self.info.timescale = Timescale::new(units).unwrap_or_default();
        self
    }

    /// Sets [`TrackInfo::priority`].
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.info.priority = priority;
        self
    }

    /// Sets [`TrackInfo::max_age`].
    #[must_use]
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.info.max_age = max_age;
        self
    }

    /// A track that stands alone, in no broadcast, with a cache of its own.
    pub fn produce(self) -> TrackProducer {
        self.produce_within(Limits::default())
    }

    /// As [`produce`](Self::produce), with other limits than the default ones.
    pub fn produce_within(self, limits: Limits) -> TrackProducer {
        TrackProducer::new(self, Cache::new(limits), Arc::default())
    }
}

impl From<&str> for Track {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

/// What all handles of a track share.
pub(crate) struct Shared {
    name: Arc<str>,
    /// Unknown until the publisher accepted. Set under the lock.
    info: OnceLock<TrackInfo>,
    account: Arc<Account>,
    /// Where it tells whether it lives and is read.
    occupancy: Arc<Occupancy>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    shelf: Shelf,
    /// No group from this sequence on.
    end: Option<u64>,
    abort: Option<Error>,
    producers: usize,
    /// No group below will come, once that is known of a track from elsewhere.
    start: Option<u64>,
    demand: Demand,
    /// What was told of it.
    standing: Standing,
    /// Groups that somebody asked for and that are not here.
    fetches: Fetches,
    /// Open groups that nobody brings.
    rests: Rests,
    /// The sessions that bring it.
    sources: Sources,
    deadline: Option<Instant>,
    /// When a track that was asked for, and that nobody accepted, is given up.
    answer_due: Option<Instant>,
    /// The deadline for answers that the cache knows of.
    answer_deadline: Option<Instant>,
    /// Those who wait for groups.
    readers: Wakers,
    /// Those who wait for the track to be accepted or to end.
    followers: Wakers,
}

impl Shared {
    fn new(name: Arc<str>, cache: Arc<Cache>, occupancy: Arc<Occupancy>) -> Arc<Self> {
        let (info, account) = (OnceLock::new(), Account::new(cache));
        Arc::new(Self { name, info, account, occupancy, state: Mutex::default() })
    }

    /// Changes the state, gives up old groups, and wakes whom `change` put on the list.
    fn change<T>(
        self: &Arc<Self>,
        woken: &mut Woken,
        change: impl FnOnce(&mut State, &mut Woken) -> T,
    ) -> T {
        let result = self.change_quietly(woken, change);
        woken.wake();
        result
    }

    /// As [`change`](Self::change), but wakes nobody yet.
    fn change_quietly<T>(
        self: &Arc<Self>,
        woken: &mut Woken,
        change: impl FnOnce(&mut State, &mut Woken) -> T,
    ) -> T {
        let mut dead = Dead::new();
        let (result, lost) = {
            let mut state = lock(&self.state);
            let result = change(&mut state, woken);
            self.tidy(&mut state, &mut dead);
            self.schedule_answers(&mut state, woken);
            self.tell_standing(&mut state, woken);
            (result, state.rests.take_lost())
        };
        lost.into_iter().for_each(Rest::give_up);
        for (group, why) in dead {
            let tally = self.account.tally();
            count(if why == Error::Old { &tally.expired_groups } else { &tally.evicted_groups });
            group.evict(why);
        }
        result
    }

    fn tell_standing(&self, state: &mut State, woken: &mut Woken) {
        let is_live = state.is_alive();
        let now = Standing { is_live, is_read: is_live && state.demand.all().is_some() };
        let before = std::mem::replace(&mut state.standing, now);
        self.occupancy.tell(before, now, woken);
    }

    /// Gives up what is too old or too much.
    pub(super) fn sweep(self: &Arc<Self>) {
        self.change(&mut Woken::default(), |_, _| ());
    }

    /// Lets the cache know when the first of those who wait for an answer has waited long enough.
    fn schedule_answers(self: &Arc<Self>, state: &mut State, woken: &mut Woken) {
        if self.info.get().is_some() || state.abort.is_some() || state.end.is_some() {
            state.answer_due = None;
        }
        let next = state.answer_due.into_iter().chain(state.fetches.next_due()).min();
        let old = std::mem::replace(&mut state.answer_deadline, next);
        if old == next {
            return;
        }
        if self.account.schedule_answers(old, next.map(|at| (at, Arc::downgrade(self)))) {
            // It may not have been told the time for long, nor of this deadline.
            woken.push(self.account.cache().minder());
        }
    }

    /// When somebody has waited long enough who asks now.
    fn answer_due(self: &Arc<Self>) -> Instant {
        self.account.stamp(&Arc::downgrade(self)) + self.account.limits().answer_time
    }

    fn tidy(self: &Arc<Self>, state: &mut State, dead: &mut Dead) {
        let max_age = self.info.get().map(|info| info.max_age);
        let rules = Rules {
            max_age: max_age.unwrap_or(self.account.limits().max_age),
            timescale: self.timescale(),
            is_live: !state.is_over(),
        };
        let next = state.shelf.sweep(&rules, &self.account, dead);
        // One that is too early is as good and spares the index.
        if next.is_some_and(|next| state.deadline.is_none_or(|deadline| next < deadline)) {
            let entry = next.map(|at| (at, Arc::downgrade(self)));
            self.account.schedule(state.deadline, entry);
            state.deadline = next;
        }
    }

    fn timescale(&self) -> Timescale {
        self.info.get().map_or(Timescale::default(), |info| info.timescale)
    }
}

impl Timed for Shared {
    fn restamp(&self, before: Instant, now: Instant) {
        let mut state = lock(&self.state);
        for group in state.shelf.all() {
            group.restamp(before, now);
        }
        // An entry that is too early in the cache is as good.
        let time = self.account.limits().answer_time;
        if state.answer_due == Some(before + time) {
            state.answer_due = Some(now + time);
        }
        state.fetches.put_off(before + time, now + time);
    }

    fn expire(self: Arc<Self>) {
        let now = self.account.cache().now();
        self.change(&mut Woken::default(), |state, woken| {
            state.deadline = state.deadline.filter(|at| *at > now);
            state.answer_deadline = state.answer_deadline.filter(|at| *at > now);
            state.fetches.give_up(now, woken);
            if state.answer_due.is_some_and(|due| due <= now) {
                state.stop(Error::Timeout, woken);
            }
        });
    }
}

impl Drop for Shared {
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

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Track").field("name", &self.name).finish_non_exhaustive()
    }
}

impl State {
    /// Whether it ended cleanly and all groups up to the end came or can come no more.
    fn is_finished(&self) -> bool {
        self.end.is_some_and(|end| self.shelf.edge() >= end || self.producers == 0)
    }

    fn is_over(&self) -> bool {
        self.abort.is_some() || self.is_finished()
    }

    /// Whether somebody writes it or was asked to, or ended it cleanly and holds on to it.
    fn is_alive(&self) -> bool {
        self.producers > 0 && self.abort.is_none()
    }

    /// What is told to readers who have all there is, of groups below `limit`.
    fn no_more(&self, limit: u64) -> Poll<Result<()>> {
        if self.shelf.edge() >= limit || self.is_finished() {
            return Poll::Ready(Ok(()));
        }
        match &self.abort {
            Some(error) => Poll::Ready(Err(error.clone())),
            None => Poll::Pending,
        }
    }

    /// A reader goes away. A source may be of use to nobody then, although what all want is the same.
    fn leave(&mut self, key: u64, woken: &mut Woken) {
        self.demand.remove(key, self.shelf.edge(), woken);
        let Self { demand, sources, fetches, .. } = self;
        if !demand.is_asked() {
            fetches.handlers.take(woken);
        } else if !sources.routes().all(|route| demand.suits_some(route)) {
            demand.look_again(woken);
        }
    }

    fn stop(&mut self, error: Error, woken: &mut Woken) {
        if !self.is_over() {
            self.abort = Some(error);
            self.readers.take(woken);
            self.followers.take(woken);
            self.demand.suppliers.take(woken);
            self.fetches.handlers.take(woken);
            let error = self.abort.as_ref().unwrap_or(&Error::Internal);
            self.fetches.refuse_all(error, woken);
            self.rests.lose();
        }
    }
}

/// Writes a track. Cloning adds a writer; if the last one is dropped before
/// [`finish`](Self::finish), the track is aborted with [`Error::Dropped`].
pub struct TrackProducer {
    shared: Arc<Shared>,
    woken: Woken,
    slot: WaitSlot,
    demand_slot: WaitSlot,
    /// The last changes of demand that were told.
    demand_seen: Changes,
    /// Which of the sources it is; 0 for an application.
    source: u64,
}

impl TrackProducer {
    /// A track in a cache.
    pub(crate) fn new(track: Track, cache: Arc<Cache>, occupancy: Arc<Occupancy>) -> Self {
        let shared = Shared::new(track.name, cache, occupancy);
        let _ = shared.info.set(track.info);
        lock(&shared.state).start = Some(0);
        // Nobody reads it yet, so that nobody is woken.
        Self::of(shared, Changes::default(), &mut Woken::default())
    }

    /// A track of which nothing is known yet: consumers wait until it is accepted or aborted.
    pub(crate) fn requested(name: Arc<str>, cache: Arc<Cache>, occupancy: Arc<Occupancy>) -> Self {
        let shared = Shared::new(name, cache, occupancy);
        Self::of(shared, Changes::default(), &mut Woken::default())
    }

    /// From now on there is a time by which it must be accepted.
    pub(super) fn expect_answer(&self, woken: &mut Woken) {
        let due = self.shared.answer_due();
        let mut state = lock(&self.shared.state);
        state.answer_due = Some(due);
        self.shared.schedule_answers(&mut state, woken);
    }

    fn of(shared: Arc<Shared>, demand_seen: Changes, tell: &mut Woken) -> Self {
        {
            let mut state = lock(&shared.state);
            state.producers += 1;
            shared.tell_standing(&mut state, tell);
        }
        let (woken, slot, demand_slot) = Default::default();
        Self { shared, woken, slot, demand_slot, demand_seen, source: 0 }
    }

    /// The track's name in its broadcast.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    pub(super) fn shared_name(&self) -> &Arc<str> {
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
        shared.change(&mut self.woken, |state, woken| {
            if let Some(error) = &state.abort {
                return Err(error.clone());
            }
            shared.info.set(info).map_err(|_| Error::Duplicate)?;
            state.followers.take(woken);
            state.fetches.settle(woken);
            Ok(())
        })
    }

    /// A handle that answers for groups that are asked for by number and that are not here. While there
    /// is one, [`TrackConsumer::fetch_group`] asks it; without one such groups are refused.
    pub fn dynamic(&self) -> TrackDynamic {
        TrackDynamic::new(self.shared.clone())
    }

    /// Says that no group below `start` will come. The first time counts.
    pub(super) fn begin_at(&mut self, start: u64) {
        self.shared.change(&mut self.woken, |state, woken| {
            if state.start.is_none() {
                state.start = Some(start);
                state.readers.take(woken);
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
        self.create(Shelf::edge, false)
    }

    fn create(
        &mut self,
        sequence: impl FnOnce(&Shelf) -> u64,
        is_datagram: bool,
    ) -> Result<GroupProducer> {
        let (shared, source) = (&self.shared, self.source);
        // Outlives the lock.
        let mut _replaced = None;
        shared.change(&mut self.woken, |state, woken| {
            let sequence = sequence(&state.shelf);
            if let Some(error) = &state.abort {
                return Err(error.clone());
            }
            Group::check(sequence)?;
            // Readers of a finished track were told that it has nothing more. What a session brings may be
            // late, when another one knew the end.
            let is_closed = source == 0 && state.is_finished();
            if is_closed || state.end.is_some_and(|end| sequence >= end) {
                return Err(Error::Closed);
            }
            if state.shelf.find_live(sequence).is_some() {
                // An older source was sooner. This one has shown that it brings groups, and need not win.
                let next = state.shelf.edge();
                if source != 0 && state.sources.brought(source, next) {
                    state.demand.suppliers.take(woken);
                }
                return Err(Error::Duplicate);
            }
            if sequence < state.shelf.floor() {
                return Err(Error::Old);
            }
            if !state.sources.admits(source, sequence) {
                return Err(Error::Cancelled);
            }
            match state.shelf.find(sequence).map(|copy| copy.is_broken()) {
                Some(false) => {
                    // Somebody fetched it: what is present stays.
                    state.shelf.promote(sequence);
                    state.readers.take(woken);
                    return Err(Error::Duplicate);
                }
                Some(true) => _replaced = state.shelf.remove_fetched(sequence),
                None => {}
            }
            if shared.info.get().is_none() {
                shared.info.get_or_init(TrackInfo::default);
                state.followers.take(woken);
                state.fetches.settle(woken);
            }
            let group = state.shelf.insert(sequence, |arrival| {
                let (track, account) = (Arc::downgrade(shared), shared.account.clone());
                Kept::new(sequence, arrival, track, account, is_datagram)
            });
            let group = GroupProducer::new(group.clone());
            count(&shared.account.tally().groups);
            if source != 0 && state.sources.brought(source, sequence) {
                state.demand.suppliers.take(woken);
            }
            state.readers.take(woken);
            state.fetches.came(sequence, woken);
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
        let mut group = self.create(Shelf::edge, true)?;
        group.write_frame(timestamp, payload)?;
        group.finish()
    }

    /// Adds what came as a datagram. `false` if there is no place for it.
    pub(super) fn ingest(&mut self, sequence: u64, timestamp: Timestamp, payload: &[u8]) -> bool {
        let Ok(mut group) = self.create(|_| sequence, true) else { return false };
        let size = payload.len() as u64;
        group.ingest(timestamp, size, payload).is_ok() && group.finish().is_ok()
    }

    /// Ends the track cleanly after its last group. Groups that are open go on; no other one can be
    /// written, not even in a gap. Fails if the track ended before.
    pub fn finish(&mut self) -> Result<()> {
        self.end_at(Shelf::edge)
    }

    /// Ends the track cleanly before the group `end`. Those below that are missing may still be written
    /// until the last of them, `end - 1`, has begun: then readers are told the end. Fails if the track ended
    /// before, or has a later group ([`Error::ProtocolViolation`]), and if `end` is more than one past
    /// [`Group::MAX`] ([`Error::Unrepresentable`]).
    pub fn finish_at(&mut self, end: u64) -> Result<()> {
        self.end_at(|_| end)
    }

    fn end_at(&mut self, end: impl FnOnce(&Shelf) -> u64) -> Result<()> {
        self.shared.change(&mut self.woken, |state, woken| {
            let end = end(&state.shelf);
            end.checked_sub(1).map_or(Ok(0), Group::check)?;
            if let Some(error) = &state.abort {
                return Err(error.clone());
            }
            if state.end.is_some() {
                return Err(Error::Closed);
            }
            if end < state.shelf.edge() {
                return Err(Error::ProtocolViolation("a group behind the end of its track"));
            }
            state.end = Some(end);
            state.fetches.end_at(end, woken);
            state.readers.take(woken);
            state.followers.take(woken);
            state.demand.suppliers.take(woken);
            Ok(())
        })
    }

    /// Ends the track; readers get the reason after the groups that are there, which stay readable.
    /// Nothing if it ended before.
    pub fn abort(&mut self, error: Error) {
        self.shared.change(&mut self.woken, |state, woken| state.stop(error, woken));
    }

    /// Ends the track unless somebody asked for it meanwhile.
    pub(super) fn abort_unasked(&mut self, error: Error) -> bool {
        self.shared.change(&mut self.woken, |state, woken| {
            let is_vain = !state.demand.is_asked();
            if is_vain {
                state.stop(error, woken);
            }
            is_vain
        })
    }

    /// Reads the track from its latest group on, as [`Subscription::default`] says.
    pub fn consume(&self) -> TrackConsumer {
        self.subscribe(Subscription::default())
    }

    /// Reads the track. What `want` says of groups above [`Group::MAX`] is cut to that.
    pub fn subscribe(&self, want: Subscription) -> TrackConsumer {
        let mut woken = Woken::default();
        let consumer = self.read(Some(want), None, &mut woken);
        woken.wake();
        consumer
    }

    /// Reads the track, or only asks what it is, and leaves it to the caller to wake.
    pub(super) fn read(
        &self,
        want: Option<Subscription>,
        horizon: Option<Horizon>,
        woken: &mut Woken,
    ) -> TrackConsumer {
        TrackConsumer::new(self.shared.clone(), want, horizon, woken)
    }

    /// The highest sequence that there ever was.
    pub fn latest(&self) -> Option<u64> {
        lock(&self.shared.state).shelf.edge().checked_sub(1)
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
        lock(&self.shared.state).demand.all().cloned()
    }

    /// Whether somebody reads the track or asks what it is, and it was not given up.
    pub(super) fn is_asked(&self) -> bool {
        let state = lock(&self.shared.state);
        state.abort.is_none() && state.demand.is_asked()
    }

    /// The counts, which outlive the track.
    pub(super) fn account(&self) -> &Arc<Account> {
        &self.shared.account
    }

    /// Makes it a source of the track, on behalf of `supplier`.
    pub(super) fn attach(&mut self, supplier: u64, route: &Route) {
        self.source = lock(&self.shared.state).sources.attach(supplier, route);
    }

    /// As [`Source::meet`](super::broadcast::Source::meet).
    pub(super) fn meet(&self) {
        self.shared.change(&mut Woken::default(), |state, _| {
            state.sources.meet(self.source);
            state.settle_rests();
        });
    }

    /// Whether no other source is attached.
    pub(super) fn is_only_source(&self) -> bool {
        lock(&self.shared.state).sources.is_only(self.source)
    }

    /// Whether a newer source has taken over.
    pub(super) fn is_superseded(&self) -> bool {
        lock(&self.shared.state).sources.is_superseded(self.source)
    }

    /// Whether anybody who reads the track may be given what this source brings.
    pub(super) fn is_useful(&self) -> bool {
        let state = lock(&self.shared.state);
        state.sources.route(self.source).is_none_or(|route| state.demand.suits_some(route))
    }

    /// Groups that came before and are not here will not come any more.
    pub(super) fn lose(&mut self, groups: Range<u64>) {
        lock(&self.shared.state).sources.lose(groups);
    }

    /// What all handles share, to look at.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// A handle that keeps nothing alive.
    pub(crate) fn downgrade(&self) -> WeakTrack {
        WeakTrack(Arc::downgrade(&self.shared))
    }

    fn demand<T>(
        &mut self,
        waker: Option<&Waker>,
        ask: impl FnOnce(&State, &mut Changes) -> Poll<T>,
    ) -> Poll<T> {
        let waker = waker.cloned();
        // Declared before the guard: dropped after the unlock.
        let _displaced;
        let mut state = lock(&self.shared.state);
        let answer = ask(&state, &mut self.demand_seen);
        if answer.is_pending() {
            _displaced = waker
                .and_then(|waker| state.demand.suppliers.register(&mut self.demand_slot, waker));
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
            Poll::Ready(state.demand.all().cloned())
        })
    }

    /// As [`poll_subscription_changed`](Self::poll_subscription_changed), and whether anybody is there:
    /// whoever only asks what the track is wants nothing.
    pub(super) fn poll_interest(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<(Option<Subscription>, bool)> {
        self.demand(Some(cx.waker()), |state, seen| {
            let changes = state.demand.changes();
            if seen.interest == changes.interest {
                return Poll::Pending;
            }
            *seen = changes;
            Poll::Ready((state.demand.all().cloned(), state.demand.is_asked()))
        })
    }

    /// Until nobody reads the track nor asks what it is, or it is aborted.
    pub(super) fn unasked(&mut self, waker: Option<&Waker>) -> Poll<()> {
        self.demand(waker, |state, _| match state.abort.is_some() || !state.demand.is_asked() {
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
            None if state.demand.all().is_some() == wanted => Poll::Ready(Ok(())),
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
        let mut woken = Woken::default();
        let clone = Self::of(self.shared.clone(), self.demand_seen, &mut woken);
        woken.wake();
        clone
    }
}

impl Drop for TrackProducer {
    fn drop(&mut self) {
        let _freed = self.shared.change(&mut self.woken, |state, woken| {
            state.sources.detach(self.source);
            state.settle_rests();
            state.producers -= 1;
            if state.producers == 0 {
                match state.end {
                    None => state.stop(Error::Dropped, woken),
                    // What is missing below the end can't come any more.
                    Some(_) => {
                        state.readers.take(woken);
                        state.followers.take(woken);
                        state.demand.suppliers.take(woken);
                    }
                }
            }
            (
                state.followers.free(&mut self.slot),
                state.demand.suppliers.free(&mut self.demand_slot),
            )
        });
    }
}

impl fmt::Debug for TrackProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackProducer").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// Waits for the track to be accepted or to end.
fn follow<T>(
    shared: &Shared,
    slot: &mut WaitSlot,
    waker: Option<&Waker>,
    ask: impl FnOnce(&State) -> Poll<T>,
) -> Poll<T> {
    let waker = waker.cloned();
    // Declared before the guard: dropped after the unlock.
    let _displaced;
    let mut state = lock(&shared.state);
    let answer = ask(&state);
    if answer.is_pending() {
        _displaced = waker.and_then(|waker| state.followers.register(slot, waker));
    }
    answer
}

fn closed(state: &State) -> Poll<Result<()>> {
    match &state.abort {
        Some(error) => Poll::Ready(Err(error.clone())),
        None if state.end.is_some() => Poll::Ready(Ok(())),
        None => Poll::Pending,
    }
}

/// A track that may be gone: what a broadcast keeps.
#[derive(Clone, Debug)]
pub(crate) struct WeakTrack(Weak<Shared>);

impl WeakTrack {
    /// Reads the track, or only asks what it is, if somebody still writes or was asked to write it, or
    /// ended it cleanly and holds on to it.
    pub(super) fn subscribe(
        &self,
        want: Option<Subscription>,
        horizon: Option<Horizon>,
    ) -> Option<TrackConsumer> {
        let shared = self.0.upgrade()?;
        let mut woken = Woken::default();
        let consumer = TrackConsumer::new(shared.clone(), want, horizon, &mut woken);
        woken.wake();
        // Asked last: from now on the producers see a reader.
        shared.is_alive().then_some(consumer)
    }

    /// Whether it is that track.
    pub(super) fn is_of(&self, track: &TrackProducer) -> bool {
        self.0.as_ptr() == Arc::as_ptr(&track.shared)
    }

    /// The track, to look at. It may be the last handle: not to be dropped under a lock.
    pub(super) fn upgrade(&self) -> Option<Arc<Shared>> {
        self.0.upgrade()
    }
}

impl Shared {
    /// Another source of the track.
    pub(super) fn supply(
        self: &Arc<Self>,
        supplier: u64,
        route: &Route,
        woken: &mut Woken,
    ) -> TrackProducer {
        let mut producer = TrackProducer::of(self.clone(), Changes::default(), woken);
        producer.attach(supplier, route);
        producer
    }

    /// Lets it come from a source that was asked before and brought nothing yet. `false` if there is none.
    pub(super) fn prefer(&self, supplier: u64, route: &Route) -> bool {
        lock(&self.state).sources.prefer(supplier, route)
    }

    /// The supplier of the newest source.
    pub(super) fn supplier(&self) -> Option<u64> {
        lock(&self.state).sources.supplier()
    }

    /// Whether there is something to ask another source for.
    pub(super) fn is_running(&self) -> bool {
        let state = lock(&self.state);
        state.is_alive() && state.end.is_none() && state.demand.is_asked()
    }

    /// Whether all who read it may be given what comes by this route.
    pub(super) fn suits_all(&self, route: &Route) -> bool {
        lock(&self.state).demand.suits_all(route)
    }

    /// Whether anybody who reads it may.
    pub(super) fn suits_some(&self, route: &Route) -> bool {
        lock(&self.state).demand.suits_some(route)
    }

    /// Whether [`WeakTrack::subscribe`] would succeed.
    pub(super) fn is_alive(&self) -> bool {
        lock(&self.state).is_alive()
    }
}

census! { State {
    counts: producers, deadline, answer_due, answer_deadline, readers, followers;
    within: shelf, demand, fetches, rests, sources;
    plain: end, abort, start, standing;
} }
census! { each Shared { within: state; plain: name, info, account, occupancy; } }

#[cfg(any(test, feature = "sim"))]
impl crate::census::Counted for WeakTrack {
    fn count(&self, name: &'static str, census: &mut crate::census::Census) {
        if let Some(track) = self.upgrade() {
            track.count(name, census);
        }
    }
}

#[cfg(any(test, feature = "sim"))]
impl TrackProducer {
    /// What the track remembers, for tests.
    pub fn census(&self) -> crate::sim::Census {
        crate::sim::Census::of(&*self.shared)
    }
}
