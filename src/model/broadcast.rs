//! Broadcasts: tracks under one path, made by the application or on demand.

mod supply;

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use super::Result;
use super::budget::{Account, Cache};
use super::origin::{Place, Stay};
use super::route::{Horizon, Route};
use super::stats::TrackStats;
use super::track::{
    self, Occupancy, OccupancySlots, Track, TrackConsumer, TrackDynamic, TrackProducer, WeakTrack,
};
use super::wakers::{WaitSlot, Wakers, Woken, lock, wait};
use crate::census::census;
use crate::{Error, Limits, Path, Subscription, TrackInfo};

use supply::Desks;

pub(crate) use supply::{Source, Supplier};

/// A collection of tracks that belongs to no origin. For one that does see
/// [`OriginProducer::create_broadcast`](super::OriginProducer::create_broadcast).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Broadcast {}

impl Broadcast {
    /// A broadcast without a path.
    pub fn new() -> Self {
        Self {}
    }

    /// Makes its first producer, with a cache of its own under the default [`Limits`].
    pub fn produce(self) -> BroadcastProducer {
        BroadcastProducer::new(Path::root(), Cache::new(Limits::default()), Route::default())
    }
}

/// What all handles of a broadcast share.
struct Shared {
    path: Path,
    cache: Arc<Cache>,
    /// How many consumers there are, but for those that only know of it.
    readers: AtomicUsize,
    /// Its tracks tell there whether they live and are read.
    occupancy: Arc<Occupancy>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Held weakly: a broadcast keeps no track alive.
    tracks: BTreeMap<Arc<str>, WeakTrack>,
    /// What is counted of tracks that may still count, in `tracks` or not.
    accounts: Vec<Arc<Account>>,
    /// What was counted of all others.
    counted: TrackStats,
    /// How many of `tracks` make it worth to look for dead ones.
    sweep_at: usize,
    /// Tracks that were asked for and not handed out yet, oldest first; each is in `tracks` too.
    requests: Requests,
    /// How many requests were taken back.
    withdrawn: u64,
    producers: usize,
    dynamics: usize,
    /// The sessions that bring it.
    desks: Desks,
    end: Option<Result<()>>,
    /// Where it is announced.
    places: Vec<Place>,
    route: Route,
    /// Who waits for the end.
    closing: Wakers,
    /// Who waits for requests.
    handlers: Wakers,
    /// Who waits for the last reader to go.
    vacancy: Wakers,
}

/// Tracks that were asked for, the oldest first, each found by its name.
#[derive(Default)]
struct Requests {
    by_turn: BTreeMap<u64, TrackProducer>,
    turns: BTreeMap<Arc<str>, u64>,
    last: u64,
}

impl Requests {
    fn push(&mut self, track: TrackProducer) {
        self.last += 1;
        self.turns.insert(track.shared_name().clone(), self.last);
        self.by_turn.insert(self.last, track);
    }

    fn pop(&mut self) -> Option<TrackProducer> {
        let (_, track) = self.by_turn.pop_first()?;
        self.turns.remove(track.name());
        Some(track)
    }

    fn take(&mut self, name: &str) -> Option<TrackProducer> {
        self.by_turn.remove(&self.turns.remove(name)?)
    }
}

/// What was let go of under the lock, to be dropped after it.
#[derive(Default)]
struct Debris {
    requests: Vec<TrackProducer>,
    tracks: Vec<Arc<track::Shared>>,
    /// Handles that were not the last of their track.
    spare: Vec<TrackProducer>,
}

impl State {
    /// Why no track can be made any more.
    fn open(&self) -> Result<()> {
        match &self.end {
            None => Ok(()),
            Some(Ok(())) => Err(Error::Closed),
            Some(Err(error)) => Err(error.clone()),
        }
    }

    fn stats(&self) -> TrackStats {
        let mut stats = self.counted;
        self.accounts.iter().for_each(|account| stats.add(&account.stats()));
        stats
    }

    /// The track of this name, if it lives.
    fn live(&self, name: &str, debris: &mut Debris) -> Option<WeakTrack> {
        let track = self.tracks.get(name)?;
        is_alive(track, debris).then(|| track.clone())
    }

    /// Enters a track. Sweeps dead ones and vain requests, so that there are never more than twice as
    /// many as live.
    fn enter(
        &mut self,
        name: Arc<str>,
        track: WeakTrack,
        account: Arc<Account>,
        debris: &mut Debris,
    ) {
        if self.tracks.len() >= self.sweep_at {
            self.withdraw(is_wanted, debris);
            for track in self.desks.withdraw() {
                self.forget_vain(track, debris);
            }
            self.tracks.retain(|_, track| is_alive(track, debris));
            self.sweep_at = 2 * self.tracks.len().max(8);
            self.settle_accounts();
        }
        self.accounts.push(account);
        self.tracks.insert(name, track);
    }

    /// Adds up what can't change any more.
    fn settle_accounts(&mut self) {
        let counted = &mut self.counted;
        self.accounts.retain_mut(|account| match Arc::get_mut(account) {
            Some(account) => {
                counted.add(&account.stats());
                false
            }
            None => true,
        });
    }

    /// Takes back the requests that are not to be kept.
    fn withdraw(&mut self, keep: impl Fn(&TrackProducer) -> bool, debris: &mut Debris) {
        for request in mem::take(&mut self.requests).by_turn.into_values() {
            if keep(&request) {
                self.requests.push(request);
            } else {
                self.forget(request, debris);
            }
        }
    }

    /// Lets go of a source that nobody wants any more, and of its track if there is no other.
    fn forget_vain(&mut self, track: TrackProducer, debris: &mut Debris) {
        if track.is_only_source() {
            self.forget(track, debris);
        } else {
            debris.spare.push(track);
        }
    }

    fn forget(&mut self, request: TrackProducer, debris: &mut Debris) {
        // One that was given up may have a successor by this name.
        if self.tracks.get(request.name()).is_some_and(|track| track.is_of(&request)) {
            self.tracks.remove(request.name());
        }
        self.withdrawn += 1;
        debris.requests.push(request);
    }
}

fn is_wanted(request: &TrackProducer) -> bool {
    request.is_asked()
}

fn is_alive(track: &WeakTrack, debris: &mut Debris) -> bool {
    track.upgrade().is_some_and(|track| {
        let alive = track.is_alive();
        debris.tracks.push(track);
        alive
    })
}

impl Debris {
    /// Tells those who still wait for a request why it is not answered.
    fn refuse(self, error: &Error) {
        for mut request in self.requests {
            request.abort(error.clone());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Reads a track that lived when so many requests were `withdrawn`. `None` if it died meanwhile,
    /// or may be a request that was withdrawn just before it had a reader again.
    ///
    /// Not for under the lock, as it wakes who supplies the track.
    fn join(
        &self,
        track: &WeakTrack,
        withdrawn: u64,
        want: Option<Subscription>,
        horizon: Option<Horizon>,
    ) -> Option<TrackConsumer> {
        let consumer = track.subscribe(want, horizon)?;
        (self.lock().withdrawn == withdrawn).then_some(consumer)
    }

    /// Ends it: first unannounced, then requests refused, then who waits is told.
    fn end(&self, end: Result<()>) -> Result<()> {
        self.end_if(end, |_| true)
    }

    /// As [`end`](Self::end), if it `may` end; else it fails with [`Error::Cancelled`].
    fn end_if(&self, end: Result<()>, may: impl FnOnce(&mut State) -> bool) -> Result<()> {
        let (mut debris, mut woken) = (Debris::default(), Woken::default());
        let mut state = self.lock();
        state.open()?;
        if !may(&mut state) {
            return Err(Error::Cancelled);
        }
        state.end = Some(end.clone());
        let places = mem::take(&mut state.places);
        state.withdraw(|_| false, &mut debris);
        let State { closing, handlers, vacancy, .. } = &mut *state;
        for waiting in [closing, handlers, vacancy] {
            waiting.take(&mut woken);
        }
        self.occupancy.end(&mut woken);
        drop(state);
        places.iter().for_each(Place::leave);
        debris.refuse(&end.err().unwrap_or(Error::NotFound));
        woken.wake();
        Ok(())
    }
}

/// A handle's place to wait at, on one of the lists of the state.
struct Seat {
    shared: Arc<Shared>,
    slot: WaitSlot,
    list: fn(&mut State) -> &mut Wakers,
}

impl Seat {
    fn new(shared: &Arc<Shared>, list: fn(&mut State) -> &mut Wakers) -> Self {
        Self { shared: shared.clone(), slot: WaitSlot::default(), list }
    }

    /// To be woken at the end only.
    fn closing(shared: &Arc<Shared>) -> Self {
        Self::new(shared, |state| &mut state.closing)
    }

    /// What `ready` gives, or else leaves the waker.
    fn wait<T>(
        &mut self,
        waker: Option<&Waker>,
        ready: impl FnOnce(&mut State) -> Option<T>,
    ) -> Poll<T> {
        let waker = waker.cloned();
        let mut state = self.shared.lock();
        if let Some(value) = ready(&mut state) {
            return Poll::Ready(value);
        }
        let unused =
            waker.and_then(|waker| (self.list)(&mut state).register(&mut self.slot, waker));
        drop(state);
        drop(unused);
        Poll::Pending
    }

    fn closed(&mut self, waker: Option<&Waker>) -> Poll<Result<()>> {
        self.wait(waker, |state| state.end.clone())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.slot.is_used() {
            let mut state = self.shared.lock();
            let waker = (self.list)(&mut state).free(&mut self.slot);
            drop(state);
            drop(waker);
        }
    }
}

/// Counts a handle that keeps the broadcast going.
struct Writer(Arc<Shared>);

impl Clone for Writer {
    fn clone(&self) -> Self {
        self.0.lock().producers += 1;
        Self(self.0.clone())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.producers -= 1;
        let last = state.producers == 0;
        drop(state);
        if last {
            // It may have ended before, which stands.
            let _ = self.0.end(Err(Error::Dropped));
        }
    }
}

/// Publishes tracks. [`BroadcastDynamic`] handles are producers too; when the last of all clones is
/// dropped without [`finish`](Self::finish), the broadcast ends with [`Error::Dropped`].
///
/// Tracks live as long as their own producers: neither the end of the broadcast nor its drop ends
/// them.
pub struct BroadcastProducer {
    writer: Writer,
    closing: Seat,
    occupancy: OccupancySlots,
}

impl BroadcastProducer {
    pub(super) fn new(path: Path, cache: Arc<Cache>, route: Route) -> Self {
        let state = Mutex::new(State { producers: 1, route, ..State::default() });
        let (readers, occupancy) = Default::default();
        Self::of(Writer(Arc::new(Shared { path, cache, readers, occupancy, state })))
    }

    fn of(writer: Writer) -> Self {
        let closing = Seat::closing(&writer.0);
        Self { writer, closing, occupancy: OccupancySlots::default() }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.writer.0
    }

    /// The whole path in the origin that it was made in, roots included; empty if there is none.
    pub fn path(&self) -> &Path {
        &self.shared().path
    }

    /// Makes a track. Readers who asked for it before are served by it.
    ///
    /// Errors: [`Error::Duplicate`] if there is a live one with the name, or a
    /// [`TrackRequest`]; [`Error::Limit`] past [`Limits::path_bytes`]; after the end, its error,
    /// [`Error::Closed`] for a clean end.
    pub fn create_track(&mut self, track: impl Into<Track>) -> Result<TrackProducer> {
        let track = track.into();
        self.shared().cache.limits().check_track(&track.name)?;
        let mut debris = Debris::default();
        let mut state = self.shared().lock();
        state.open()?;
        if state.live(&track.name, &mut debris).is_some() {
            let request = state.requests.take(&track.name).ok_or(Error::Duplicate);
            drop(state);
            return TrackRequest { track: request? }.accept(track.info);
        }
        let name = track.name.clone();
        let Shared { cache, occupancy, .. } = &**self.shared();
        let producer = TrackProducer::new(track, cache.clone(), occupancy.clone());
        let (weak, account) = (producer.downgrade(), producer.account().clone());
        state.enter(name, weak, account, &mut debris);
        Ok(producer)
    }

    /// What was written to all its tracks together, those that are gone as well, and what they hold.
    pub fn stats(&self) -> TrackStats {
        self.shared().lock().stats()
    }

    /// Makes a track with the first free name of `0suffix`, `1suffix` and so on.
    ///
    /// Errors: as [`create_track`](Self::create_track) after the end.
    pub fn unique_track(&mut self, suffix: &str) -> Result<TrackProducer> {
        let mut n = 0_u64;
        loop {
            match self.create_track(&*format!("{n}{suffix}")) {
                Err(Error::Duplicate) => n += 1,
                other => return other,
            }
        }
    }

    /// A handle that answers for tracks that nobody made. While there is one, unknown tracks can be
    /// subscribed.
    pub fn dynamic(&self) -> BroadcastDynamic {
        BroadcastDynamic::new(self.writer.clone())
    }

    /// A reader of the broadcast.
    pub fn consume(&self) -> BroadcastConsumer {
        BroadcastConsumer::of(self.shared())
    }

    /// Unannounces it, with a clean end. Its tracks end by themselves.
    ///
    /// Errors: as [`abort`](Self::abort).
    pub fn finish(&mut self) -> Result<()> {
        self.shared().end(Ok(()))
    }

    /// Unannounces it; new subscriptions are refused with `error`. Its tracks go on.
    ///
    /// Errors: if it ended before, the error it ended with, or [`Error::Closed`] for a clean end.
    pub fn abort(&mut self, error: Error) -> Result<()> {
        self.shared().end(Err(error))
    }

    wait! {
        /// Ready when any producer ended it: `Ok` for a clean end, else why.
        wait_closed => poll_closed, closed, try_closed() -> Result<()>
    }

    fn wait_closed(&mut self, waker: Option<&Waker>) -> Poll<Result<()>> {
        self.closing.closed(waker)
    }

    wait! {
        /// Until somebody reads a track of it, or asks for one.
        ///
        /// Errors: after the end, its error, [`Error::Closed`] for a clean end.
        wait_used => poll_used, used, try_used() -> Result<()>
    }

    fn wait_used(&mut self, waker: Option<&Waker>) -> Poll<Result<()>> {
        let shared = &self.writer.0;
        let used = shared.occupancy.wait(&mut self.occupancy, waker, true);
        // Looked at last: a later end takes the waker.
        shared.lock().open()?;
        used.map(Ok)
    }

    wait! {
        /// Until nobody reads a track of it, nor asks for one. Tracks that nobody writes any more do
        /// not count.
        wait_unused => poll_unused, unused, try_unused() -> ()
    }

    fn wait_unused(&mut self, waker: Option<&Waker>) -> Poll<()> {
        self.writer.0.occupancy.wait(&mut self.occupancy, waker, false)
    }

    /// Whether both publish the same broadcast.
    pub fn is_clone(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.shared(), other.shared())
    }
}

impl Drop for BroadcastProducer {
    fn drop(&mut self) {
        self.writer.0.occupancy.free(&mut self.occupancy);
    }
}

impl Clone for BroadcastProducer {
    fn clone(&self) -> Self {
        Self::of(self.writer.clone())
    }
}

impl fmt::Debug for BroadcastProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BroadcastProducer").field("path", self.path()).finish_non_exhaustive()
    }
}

/// Answers for tracks that are asked for and that nobody made.
///
/// When the last clone is dropped, requests that still wait are refused with [`Error::NotFound`].
pub struct BroadcastDynamic {
    writer: Writer,
    requests: Seat,
}

impl BroadcastDynamic {
    fn new(writer: Writer) -> Self {
        writer.0.lock().dynamics += 1;
        let requests = Seat::new(&writer.0, |state| &mut state.handlers);
        Self { writer, requests }
    }

    wait! {
        /// The next track that somebody wants, first come first served. All who want a track share one
        /// request; one that nobody wants any more is not given. It is to be answered within
        /// [`Limits::answer_time`].
        ///
        /// Errors: after the end, its error, [`Error::Closed`] for a clean end.
        next_request => poll_requested_track, requested_track, try_requested_track()
            -> Result<TrackRequest>
    }

    fn next_request(&mut self, waker: Option<&Waker>) -> Poll<Result<TrackRequest>> {
        let mut debris = Debris::default();
        self.requests.wait(waker, |state| {
            if let Err(error) = state.open() {
                return Some(Err(error));
            }
            loop {
                let track = state.requests.pop()?;
                if is_wanted(&track) {
                    return Some(Ok(TrackRequest { track }));
                }
                state.forget(track, &mut debris);
            }
        })
    }
}

impl Clone for BroadcastDynamic {
    fn clone(&self) -> Self {
        Self::new(self.writer.clone())
    }
}

impl Drop for BroadcastDynamic {
    fn drop(&mut self) {
        let mut debris = Debris::default();
        let mut state = self.writer.0.lock();
        state.dynamics -= 1;
        if state.dynamics == 0 {
            state.withdraw(|_| false, &mut debris);
        }
        drop(state);
        debris.refuse(&Error::NotFound);
    }
}

/// A track that somebody wants. Dropped without an answer it is refused with [`Error::Dropped`].
pub struct TrackRequest {
    track: TrackProducer,
}

impl TrackRequest {
    /// Name of the track.
    pub fn name(&self) -> &str {
        self.track.name()
    }

    /// What all who read it want together; `None` if they went away, or if a peer only asks what the
    /// track is (moq-lite, TRACK), which an accepted request answers.
    pub fn subscription(&self) -> Option<Subscription> {
        self.track.subscription()
    }

    wait! {
        /// Until all who want it or ask about it went away.
        wait_unused => poll_unused, unused, try_unused() -> ()
    }

    fn wait_unused(&mut self, waker: Option<&Waker>) -> Poll<()> {
        self.track.unasked(waker)
    }

    /// As [`TrackProducer::dynamic`], for who wants to answer for groups from the beginning on.
    pub fn dynamic(&self) -> TrackDynamic {
        self.track.dynamic()
    }

    /// Begins the track. All who asked read it.
    pub fn accept(mut self, info: TrackInfo) -> Result<TrackProducer> {
        self.track.accept(info)?;
        self.track.begin_at(0);
        Ok(self.track)
    }

    /// Refuses the track: all who asked get `error`.
    pub fn reject(mut self, error: Error) {
        self.track.abort(error);
    }
}

/// Reads tracks.
pub struct BroadcastConsumer {
    seat: Seat,
    /// Whether it is one of the readers that are counted.
    reads: bool,
    /// What keeps the path that it was asked for by.
    stay: Option<Arc<Stay>>,
}

impl BroadcastConsumer {
    fn of(shared: &Arc<Shared>) -> Self {
        shared.readers.fetch_add(1, Ordering::Relaxed);
        Self { seat: Seat::closing(shared), reads: true, stay: None }
    }

    /// One that knows of the broadcast, and is no reason to keep it.
    pub(super) fn knows(&self) -> Self {
        Self { seat: Seat::closing(&self.seat.shared), reads: false, stay: None }
    }

    /// One that came by a path that it was asked for by, and keeps that.
    pub(super) fn with_stay(mut self, stay: Option<Arc<Stay>>) -> Self {
        self.stay = stay;
        self
    }

    pub(super) fn stay(&self) -> Option<&Arc<Stay>> {
        self.stay.as_ref()
    }

    /// By which route it comes.
    ///
    /// Errors: after the end, its error, [`Error::Closed`] for a clean end.
    pub(super) fn open_route(&self) -> Result<Route> {
        let state = self.seat.shared.lock();
        state.open().map(|()| state.route.clone())
    }

    /// By which route it comes.
    pub(super) fn route(&self) -> Route {
        self.seat.shared.lock().route.clone()
    }

    /// The whole path in the origin that it was made in, roots included; empty if there is none.
    pub fn path(&self) -> &Path {
        &self.seat.shared.path
    }

    /// As [`BroadcastProducer::stats`].
    pub fn stats(&self) -> TrackStats {
        self.seat.shared.lock().stats()
    }

    /// Subscribes to a track: one that lives, or else one that a [`BroadcastDynamic`] is asked for,
    /// whose reader waits for the answer.
    ///
    /// Errors: [`Error::NotFound`] if there is neither, or after a clean end; the error of the end
    /// after any other; [`Error::Limit`] past [`Limits::path_bytes`]; [`Error::Unrepresentable`] for group
    /// numbers above [`Group::MAX`](crate::Group::MAX).
    pub fn subscribe_track(&self, name: &str, want: Subscription) -> Result<TrackConsumer> {
        want.check()?;
        self.find_track(name, Some(want), None).map(|track| track.with_stay(self.stay()))
    }

    fn find_track(
        &self,
        name: &str,
        want: Option<Subscription>,
        horizon: Option<Horizon>,
    ) -> Result<TrackConsumer> {
        let shared = &self.seat.shared;
        shared.cache.limits().check_track(name)?;
        loop {
            let (mut debris, mut woken) = (Debris::default(), Woken::default());
            let mut state = shared.lock();
            if let Some(end) = &state.end {
                return Err(end.clone().err().unwrap_or(Error::NotFound));
            }
            let Some(track) = state.live(name, &mut debris) else {
                let desk = match state.desks.is_empty() {
                    true if state.dynamics == 0 => return Err(Error::NotFound),
                    true => None,
                    false => Some(state.desks.first_for(horizon).ok_or(Error::Unroutable)?),
                };
                let name: Arc<str> = name.into();
                let (cache, occupancy) = (shared.cache.clone(), shared.occupancy.clone());
                let track = TrackProducer::requested(name.clone(), cache, occupancy);
                let consumer = track.read(want, horizon, &mut woken);
                let (weak, account) = (track.downgrade(), track.account().clone());
                match desk {
                    Some(desk) => state.ask_first(desk, track, &mut woken),
                    None => {
                        track.expect_answer(&mut woken);
                        state.requests.push(track);
                        state.handlers.take(&mut woken);
                    }
                }
                state.enter(name, weak, account, &mut debris);
                drop(state);
                woken.wake();
                return Ok(consumer);
            };
            let withdrawn = state.withdrawn;
            drop(state);
            if let Some(consumer) = shared.join(&track, withdrawn, want.clone(), horizon) {
                if let (Some(horizon), Some(track)) = (horizon, track.upgrade()) {
                    self.turn_away(&track, horizon)?;
                }
                return Ok(consumer);
            }
        }
    }

    wait! {
        /// Ready at the end: `Ok` for a clean one, else why.
        wait_closed => poll_closed, closed, try_closed() -> Result<()>
    }

    fn wait_closed(&mut self, waker: Option<&Waker>) -> Poll<Result<()>> {
        self.seat.closed(waker)
    }

    /// Whether it ended, in whatever way.
    pub fn is_closed(&self) -> bool {
        self.seat.shared.lock().end.is_some()
    }

    /// Whether both read the same broadcast.
    pub fn is_clone(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.seat.shared, &other.seat.shared)
    }

    /// Remembers a place where it is announced, which `announce` makes, until the end.
    ///
    /// Errors: those of `announce`; after the end, its error, [`Error::Closed`] for a clean one.
    pub(super) fn settle(&self, announce: impl FnOnce(&Route) -> Result<Place>) -> Result<()> {
        let mut state = self.seat.shared.lock();
        state.open()?;
        let place = announce(&state.route)?;
        if state.places.len() == state.places.capacity() {
            state.places.retain(Place::exists);
        }
        state.places.push(place);
        Ok(())
    }
}

impl Clone for BroadcastConsumer {
    fn clone(&self) -> Self {
        Self::of(&self.seat.shared).with_stay(self.stay.clone())
    }
}

impl Drop for BroadcastConsumer {
    fn drop(&mut self) {
        let shared = &self.seat.shared;
        if self.reads && shared.readers.fetch_sub(1, Ordering::Relaxed) == 1 {
            let mut woken = Woken::default();
            shared.lock().vacancy.take(&mut woken);
            woken.wake();
        }
    }
}

impl fmt::Debug for BroadcastConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BroadcastConsumer").field("path", self.path()).finish_non_exhaustive()
    }
}

census! { State {
    counts: accounts, producers, dynamics, places, closing, handlers, vacancy;
    within: tracks, requests, desks;
    plain: counted, sweep_at, withdrawn, end, route;
} }
census! { Requests { counts: by_turn, turns; plain: last; } }
census! { each Shared { within: occupancy, state; plain: path, cache, readers; } }

#[cfg(any(test, feature = "sim"))]
impl crate::census::Counted for BroadcastConsumer {
    fn count(&self, name: &'static str, census: &mut crate::census::Census) {
        self.seat.shared.count(name, census);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(broadcast: &BroadcastProducer) -> (usize, usize) {
        let state = broadcast.shared().lock();
        (state.tracks.len(), state.requests.by_turn.len())
    }

    #[test]
    fn names_that_nobody_wants_any_more_do_not_pile_up() {
        let mut broadcast = Broadcast::new().produce();
        let consumer = broadcast.consume();
        let _never_asked = broadcast.dynamic();
        let kept = consumer.subscribe_track("kept", Subscription::default()).unwrap();
        for n in 0..10_000 {
            let name = format!("track {n}");
            drop(consumer.subscribe_track(&name, Subscription::default()).unwrap());
            drop(broadcast.create_track(&*format!("made {n}")).unwrap());
            let (tracks, requests) = sizes(&broadcast);
            assert!(tracks <= 16 && requests <= 16, "{tracks} tracks, {requests} requests");
        }
        assert!(lock(&broadcast.shared().state).requests.turns.contains_key("kept"));
        drop(kept);
    }

    /// A subscriber finds a request on which nobody waits; before it waits there itself, the handler
    /// withdraws it.
    #[test]
    fn nobody_joins_a_request_that_was_withdrawn() {
        let broadcast = Broadcast::new().produce();
        let consumer = broadcast.consume();
        let mut dynamic = broadcast.dynamic();
        let asker = consumer.subscribe_track("video", Subscription::default()).unwrap();
        let find = || {
            let state = broadcast.shared().lock();
            (state.tracks["video"].clone(), state.withdrawn)
        };
        let (track, withdrawn) = find();
        let join =
            || broadcast.shared().join(&track, withdrawn, Some(Subscription::default()), None);
        assert!(join().is_some(), "others share it");
        drop(asker);
        assert!(join().is_some(), "it waits for the handler still");
        // Held, as it is between the look and the drop of what was withdrawn.
        let _held = lock(&broadcast.shared().state).requests.by_turn.values().next().cloned();
        assert!(dynamic.try_requested_track().is_pending());
        assert!(join().is_none());
        let _again = consumer.subscribe_track("video", Subscription::default()).unwrap();
        assert!(matches!(dynamic.try_requested_track(), Poll::Ready(Ok(_))));
    }
}
