//! The state that all handles of a broadcast share.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::track_list::TrackList;
use super::upstreams::Upstreams;
use crate::census::census;
use crate::model::base::sync::atomic::AtomicUsize;
use crate::model::base::sync::{Mutex, MutexGuard};
use crate::model::base::{
    DeferredWakes, Horizon, Result, Route, WaitSlot, Wakers, change, lock, wait_on,
};
use crate::model::cache::{
    Account, Cache, Occupancy, TrackConsumer, TrackProducer, TrackShared, TrackStats, WeakTrack,
};
use crate::model::routing::registration::Registration;
use crate::{Error, Path, Subscription};

/// The state that all handles of a broadcast share.
pub(super) struct BroadcastShared {
    pub(super) path: Path,
    pub(super) cache: Arc<Cache>,
    /// Counts the consumers, except for uncounted ones.
    pub(super) readers: AtomicUsize,
    /// Counts the tracks that are live, and those that are read.
    pub(super) occupancy: Arc<Occupancy>,
    pub(super) state: Mutex<BroadcastState>,
}

#[derive(Default)]
pub(super) struct BroadcastState {
    /// Weak handles: a broadcast keeps no live track alive.
    pub(super) tracks: BTreeMap<Arc<str>, WeakTrack>,
    /// Tracks of sessions that ended, for FETCH, at most [`MAX_FINISHED`].
    pub(super) finished: BTreeMap<Arc<str>, Arc<TrackShared>>,
    /// The accounts of tracks that may still count something, whether or not they are in `tracks`.
    pub(super) accounts: Vec<Arc<Account>>,
    /// The sum of all other accounts.
    pub(super) counted: TrackStats,
    /// At this number of `tracks` dead ones are removed.
    pub(super) sweep_at: usize,
    /// Requested tracks that were not handed out yet, oldest first. Each is in `tracks` too.
    pub(super) requests: TrackRequests,
    /// Counts the requests that were withdrawn.
    pub(super) withdrawn: u64,
    pub(super) producers: usize,
    pub(super) dynamics: usize,
    /// The sessions that have the broadcast.
    pub(super) upstreams: Upstreams,
    pub(super) end: Option<Result<()>>,
    /// The tracks that it is known to have.
    pub(super) listed: TrackList,
    /// Where it is registered.
    pub(super) registrations: Vec<Registration>,
    pub(super) route: Route,
    /// Handles that wait for the end.
    pub(super) close_waiters: Wakers,
    /// Handles that wait for requests.
    pub(super) handler_waiters: Wakers,
    /// Sessions that wait for the last consumer to go.
    pub(super) vacancy_waiters: Wakers,
}

/// How many tracks of a broadcast are kept after their end.
const MAX_FINISHED: usize = 64;

/// Requested tracks, oldest first, and by name.
#[derive(Default)]
pub(super) struct TrackRequests {
    pub(super) by_turn: BTreeMap<u64, TrackProducer>,
    pub(super) turns: BTreeMap<Arc<str>, u64>,
    last: u64,
}

impl TrackRequests {
    pub(super) fn push(&mut self, track: TrackProducer) {
        self.last += 1;
        self.turns.insert(track.shared_name().clone(), self.last);
        self.by_turn.insert(self.last, track);
    }

    pub(super) fn pop(&mut self) -> Option<TrackProducer> {
        let (_, track) = self.by_turn.pop_first()?;
        self.turns.remove(track.name());
        Some(track)
    }

    pub(super) fn take(&mut self, name: &str) -> Option<TrackProducer> {
        self.by_turn.remove(&self.turns.remove(name)?)
    }
}

/// Values that were removed under the lock, to be dropped after it is released.
#[derive(Default)]
pub(super) struct DeferredDrops {
    pub(super) requests: Vec<TrackProducer>,
    pub(super) tracks: Vec<Arc<TrackShared>>,
    /// Handles that are not the last one of their track.
    pub(super) spare: Vec<TrackProducer>,
}

impl BroadcastState {
    /// The reason why no track can be created any more.
    pub(super) fn open(&self) -> Result<()> {
        match &self.end {
            None => Ok(()),
            Some(Ok(())) => Err(Error::Closed),
            Some(Err(error)) => Err(error.clone()),
        }
    }

    pub(super) fn stats(&self) -> TrackStats {
        let mut stats = self.counted;
        self.accounts.iter().for_each(|account| stats.add(&account.stats()));
        stats
    }

    pub(super) fn cached_bytes(&self) -> u64 {
        self.accounts.iter().map(|account| account.used()).sum()
    }

    /// The track with this name, if it is live.
    pub(super) fn live(&self, name: &str, deferred: &mut DeferredDrops) -> Option<WeakTrack> {
        let track = self.tracks.get(name)?;
        is_alive(track, deferred).then(|| track.clone())
    }

    /// Adds a track. From time to time it removes dead tracks and unwanted requests, so that there
    /// are never more than twice as many tracks and accounts as live ones.
    pub(super) fn enter(
        &mut self,
        name: Arc<str>,
        track: WeakTrack,
        account: Arc<Account>,
        deferred: &mut DeferredDrops,
    ) {
        // A track that is created anew under the same name has another account.
        if self.tracks.len().max(self.accounts.len()) >= self.sweep_at {
            self.withdraw(TrackProducer::has_readers, deferred);
            for track in self.upstreams.withdraw() {
                self.forget_unwanted(track, deferred);
            }
            self.tracks.retain(|_, track| is_alive(track, deferred));
            self.sum_accounts();
            self.sweep_at = 2 * self.tracks.len().max(self.accounts.len()).max(8);
        }
        self.accounts.push(account);
        self.tracks.insert(name, track);
    }

    /// Adds up the accounts that can't change any more.
    fn sum_accounts(&mut self) {
        let counted = &mut self.counted;
        self.accounts.retain_mut(|account| match Arc::get_mut(account) {
            Some(account) => {
                counted.add(&account.stats());
                false
            }
            None => true,
        });
    }

    /// Withdraws the requests that `keep` does not select.
    pub(super) fn withdraw(
        &mut self,
        keep: impl Fn(&TrackProducer) -> bool,
        deferred: &mut DeferredDrops,
    ) {
        for request in mem::take(&mut self.requests).by_turn.into_values() {
            if keep(&request) {
                self.requests.push(request);
            } else {
                self.forget(request, deferred);
            }
        }
    }

    /// Drops an upstream of a track that nobody wants any more, and the track if that was the last
    /// one.
    pub(super) fn forget_unwanted(&mut self, track: TrackProducer, deferred: &mut DeferredDrops) {
        if track.is_only_upstream() {
            self.forget(track, deferred);
        } else {
            deferred.spare.push(track);
        }
    }

    pub(super) fn forget(&mut self, request: TrackProducer, deferred: &mut DeferredDrops) {
        // A track that was given up may have a successor with the same name.
        if self.tracks.get(request.name()).is_some_and(|track| track.is_of(request.shared())) {
            self.tracks.remove(request.name());
        }
        self.withdrawn += 1;
        deferred.requests.push(request);
    }
}

fn is_alive(track: &WeakTrack, deferred: &mut DeferredDrops) -> bool {
    live_track(track, deferred).is_some()
}

/// The state of a track that is live.
pub(super) fn live_track<'a>(
    track: &WeakTrack,
    deferred: &'a mut DeferredDrops,
) -> Option<&'a TrackShared> {
    deferred.tracks.push(track.upgrade()?);
    deferred.tracks.last().map(|track| &**track).filter(|track| track.is_alive())
}

impl DeferredDrops {
    /// Tells the waiting readers why their request is not answered.
    pub(super) fn refuse(self, error: &Error) {
        for mut request in self.requests {
            request.abort(error.clone());
        }
    }
}

impl BroadcastShared {
    pub(super) fn lock(&self) -> MutexGuard<'_, BroadcastState> {
        lock(&self.state)
    }

    /// Reads a track that was live when `withdrawn` requests had been withdrawn. `None` if it died
    /// meanwhile, or if its request may have been withdrawn just before it had a reader again.
    ///
    /// Call it without the lock, because it wakes the producers of the track.
    pub(super) fn join(
        &self,
        track: &WeakTrack,
        withdrawn: u64,
        want: Option<Subscription>,
        horizon: Option<Horizon>,
    ) -> Option<TrackConsumer> {
        let consumer = track.subscribe(want, horizon)?;
        (self.lock().withdrawn == withdrawn).then_some(consumer)
    }

    /// A track that came by a session ended. Its publisher may forget it, so that its groups stay here for FETCH until they
    /// are too old. Up to [`MAX_FINISHED`] tracks are kept.
    pub(super) fn keep_finished(&self, name: Arc<str>, track: Arc<TrackShared>) {
        // Dropped after the lock is released.
        let mut deferred = DeferredDrops::default();
        let mut state = self.lock();
        if state.finished.len() >= MAX_FINISHED {
            let (kept, empty): (BTreeMap<_, _>, BTreeMap<_, _>) =
                mem::take(&mut state.finished).into_iter().partition(|(_, it)| it.has_groups());
            state.finished = kept;
            deferred.tracks.extend(empty.into_values());
        }
        let has_room = state.finished.len() < MAX_FINISHED && state.end.is_none();
        if has_room && track.has_groups() {
            deferred.tracks.extend(state.finished.insert(name, track));
        }
    }

    /// Ends the broadcast: removes its announcements, refuses requests, and then wakes the waiters.
    pub(super) fn end(&self, end: Result<()>) -> Result<()> {
        self.end_if(end, |_| true)
    }

    /// As [`end`](Self::end), if `may` allows it; otherwise it fails with [`Error::Cancelled`].
    pub(super) fn end_if(
        &self,
        end: Result<()>,
        may: impl FnOnce(&mut BroadcastState) -> bool,
    ) -> Result<()> {
        let (mut deferred, mut wakes) = (DeferredDrops::default(), DeferredWakes::default());
        let mut state = self.lock();
        state.open()?;
        if !may(&mut state) {
            return Err(Error::Cancelled);
        }
        state.end = Some(end.clone());
        let registrations = mem::take(&mut state.registrations);
        state.withdraw(|_| false, &mut deferred);
        deferred.tracks.extend(mem::take(&mut state.finished).into_values());
        let BroadcastState { close_waiters, handler_waiters, vacancy_waiters, listed, .. } =
            &mut *state;
        for waiting in [close_waiters, handler_waiters, vacancy_waiters, listed.waiters()] {
            waiting.take(&mut wakes);
        }
        self.occupancy.end(&mut wakes);
        drop(state);
        registrations.iter().for_each(Registration::leave);
        deferred.refuse(&end.err().unwrap_or(Error::NotFound));
        wakes.wake();
        Ok(())
    }
}

/// A wait slot of one handle, on one list of the state.
pub(super) struct Waiter {
    pub(super) shared: Arc<BroadcastShared>,
    slot: WaitSlot,
    list: fn(&mut BroadcastState) -> &mut Wakers,
}

impl Waiter {
    pub(super) fn new(
        shared: &Arc<BroadcastShared>,
        list: fn(&mut BroadcastState) -> &mut Wakers,
    ) -> Self {
        Self { shared: shared.clone(), slot: WaitSlot::default(), list }
    }

    /// A waiter that is woken only at the end.
    pub(super) fn for_end(shared: &Arc<BroadcastShared>) -> Self {
        Self::new(shared, |state| &mut state.close_waiters)
    }

    /// Returns what `ready` returns, or registers the waker.
    pub(super) fn wait<T>(
        &mut self,
        waker: Option<&Waker>,
        ready: impl FnOnce(&mut BroadcastState) -> Option<T>,
    ) -> Poll<T> {
        let Self { shared, slot, list } = self;
        wait_on(&shared.state, waker, slot, *list, |state| match ready(state) {
            Some(value) => Poll::Ready(value),
            None => Poll::Pending,
        })
    }

    pub(super) fn closed(&mut self, waker: Option<&Waker>) -> Poll<Result<()>> {
        self.wait(waker, |state| state.end.clone())
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.slot.is_used() {
            let _freed =
                change(&self.shared.state, |state, _| (self.list)(state).free(&mut self.slot));
        }
    }
}

/// Counts a handle that keeps the broadcast alive.
pub(super) struct ProducerGuard(pub(super) Arc<BroadcastShared>);

impl Clone for ProducerGuard {
    fn clone(&self) -> Self {
        self.0.lock().producers += 1;
        Self(self.0.clone())
    }
}

impl Drop for ProducerGuard {
    fn drop(&mut self) {
        let was_last = change(&self.0.state, |state, _| {
            state.producers -= 1;
            state.producers == 0
        });
        if was_last {
            // If the broadcast ended before, that end stands.
            let _ = self.0.end(Err(Error::Dropped));
        }
    }
}

census! { BroadcastState {
    counts: accounts, finished, producers, dynamics, registrations, close_waiters, handler_waiters, vacancy_waiters;
    within: tracks, requests, upstreams, listed;
    plain: counted, sweep_at, withdrawn, end, route;
} }

census! { TrackRequests { counts: by_turn, turns; plain: last; } }

census! { each BroadcastShared { within: occupancy, state; plain: path, cache, readers; } }
