//! Broadcasts: tracks under one path, made by the application or on demand.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use super::Result;
use super::budget::Cache;
use super::origin::Place;
use super::route::Route;
use super::track::{Track, TrackConsumer, TrackProducer, WeakTrack};
use super::wakers::{WaitSlot, Wakers, Woken, lock, wait};
use crate::{Error, Limits, Path, Subscription, TrackInfo};

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
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Held weakly: a broadcast keeps no track alive.
    tracks: BTreeMap<Arc<str>, WeakTrack>,
    /// How many of `tracks` make it worth to look for dead ones.
    sweep_at: usize,
    /// Tracks that were asked for and not handed out yet, oldest first; each is in `tracks` too.
    requests: VecDeque<TrackProducer>,
    producers: usize,
    dynamics: usize,
    end: Option<Result<()>>,
    /// Where it is announced.
    places: Vec<Place>,
    route: Route,
    /// Who waits for the end.
    closing: Wakers,
    /// Who waits for somebody to want a track.
    demand: Wakers,
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

    /// Enters a track, after dead ones were cleared away if there may be many: so the table is never
    /// larger than twice what lives. Gives requests that nobody waits for, to be dropped unlocked.
    fn enter(&mut self, name: Arc<str>, track: WeakTrack) -> VecDeque<TrackProducer> {
        let mut withdrawn = VecDeque::new();
        if self.tracks.len() >= self.sweep_at {
            let requests = mem::take(&mut self.requests);
            (self.requests, withdrawn) = requests.into_iter().partition(is_wanted);
            for track in &withdrawn {
                self.tracks.remove(track.name());
            }
            self.tracks.retain(|_, track| track.is_alive());
            self.sweep_at = 2 * self.tracks.len().max(8);
        }
        self.tracks.insert(name, track);
        withdrawn
    }
}

fn is_wanted(track: &TrackProducer) -> bool {
    track.subscription().is_some()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Ends it: first unannounced, then queued requests refused, then who waits is told.
    fn end(&self, end: Result<()>) -> Result<()> {
        let mut state = self.lock();
        state.open()?;
        state.end = Some(end.clone());
        let places = mem::take(&mut state.places);
        let requests = mem::take(&mut state.requests);
        let mut woken = Woken::default();
        state.closing.take(&mut woken);
        state.demand.take(&mut woken);
        drop(state);
        places.iter().for_each(Place::leave);
        refuse(requests, &end.err().unwrap_or(Error::NotFound));
        woken.wake();
        Ok(())
    }
}

fn refuse(requests: VecDeque<TrackProducer>, error: &Error) {
    for mut track in requests {
        track.abort(error.clone());
    }
}

/// A handle's place to wait at, on one of the lists of the state.
struct Seat {
    shared: Arc<Shared>,
    slot: WaitSlot,
    list: fn(&mut State) -> &mut Wakers,
}

impl Seat {
    /// To be woken at the end.
    fn at_closing(shared: Arc<Shared>) -> Self {
        Self { shared, slot: WaitSlot::default(), list: |state| &mut state.closing }
    }

    /// To be woken at the end, and when somebody wants a track.
    fn at_demand(shared: Arc<Shared>) -> Self {
        Self { shared, slot: WaitSlot::default(), list: |state| &mut state.demand }
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
struct Writer(Seat);

impl Clone for Writer {
    fn clone(&self) -> Self {
        self.0.shared.lock().producers += 1;
        Self(Seat::at_demand(self.0.shared.clone()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.0.shared.lock();
        state.producers -= 1;
        let last = state.producers == 0;
        drop(state);
        if last {
            // It may have ended before, which stands.
            let _ = self.0.shared.end(Err(Error::Dropped));
        }
    }
}

/// Publishes tracks. [`BroadcastDynamic`] handles are producers too; when the last of all clones is
/// dropped without [`finish`](Self::finish), the broadcast ends with [`Error::Dropped`].
///
/// Tracks live as long as their own producers: neither the end of the broadcast nor its drop ends
/// them.
#[derive(Clone)]
pub struct BroadcastProducer {
    writer: Writer,
}

impl BroadcastProducer {
    pub(super) fn new(path: Path, cache: Arc<Cache>, route: Route) -> Self {
        let state = Mutex::new(State { producers: 1, route, ..State::default() });
        let shared = Arc::new(Shared { path, cache, state });
        Self { writer: Writer(Seat::at_demand(shared)) }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.writer.0.shared
    }

    /// The whole path in the origin that it was made in, roots included; empty if there is none.
    pub fn path(&self) -> &Path {
        &self.shared().path
    }

    /// Makes a track. Readers who asked for it before are served by it.
    ///
    /// Errors: [`Error::Duplicate`] if there is a live one with the name, or a
    /// [`TrackRequest`]; after the end, its error, [`Error::Closed`] for a clean end.
    pub fn create_track(&mut self, track: impl Into<Track>) -> Result<TrackProducer> {
        let track = track.into();
        let mut state = self.shared().lock();
        state.open()?;
        if let Some(at) = state.requests.iter().position(|request| *request.name() == *track.name) {
            let request = state.requests.remove(at);
            drop(state);
            let mut producer = request.ok_or(Error::Internal)?;
            producer.accept(track.info)?;
            return Ok(producer);
        }
        if state.tracks.get(&*track.name).is_some_and(WeakTrack::is_alive) {
            return Err(Error::Duplicate);
        }
        let name = track.name.clone();
        let producer = TrackProducer::new(track, self.shared().cache.clone());
        let withdrawn = state.enter(name, producer.downgrade());
        drop(state);
        drop(withdrawn);
        Ok(producer)
    }

    /// Makes a track with the first free name of `0suffix`, `1suffix` and so on.
    ///
    /// Errors: as [`create_track`](Self::create_track) after the end.
    pub fn unique_track(&mut self, suffix: &str) -> Result<TrackProducer> {
        for n in 0_u64.. {
            match self.create_track(&*format!("{n}{suffix}")) {
                Err(Error::Duplicate) => {}
                other => return other,
            }
        }
        Err(Error::Duplicate)
    }

    /// A handle that answers for tracks that nobody made. While there is one, unknown tracks can be
    /// subscribed.
    pub fn dynamic(&self) -> BroadcastDynamic {
        BroadcastDynamic::new(self.writer.clone())
    }

    /// A reader of the broadcast.
    pub fn consume(&self) -> BroadcastConsumer {
        BroadcastConsumer { seat: Seat::at_closing(self.shared().clone()) }
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
        self.writer.0.closed(waker)
    }

    /// Whether both publish the same broadcast.
    pub fn is_clone(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.shared(), other.shared())
    }

    /// Changes the route, and gives the places where it must change too.
    pub(super) fn set_route(&self, route: Route) -> Vec<Place> {
        let mut state = self.shared().lock();
        if state.route == route {
            return Vec::new();
        }
        state.route = route;
        state.places.clone()
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
}

impl BroadcastDynamic {
    fn new(writer: Writer) -> Self {
        writer.0.shared.lock().dynamics += 1;
        Self { writer }
    }

    wait! {
        /// The next track that somebody wants, first come first served. All who want a track share one
        /// request; one that nobody wants any more is not given.
        ///
        /// Errors: after the end, its error, [`Error::Closed`] for a clean end.
        next_request => poll_requested_track, requested_track, try_requested_track()
            -> Result<TrackRequest>
    }

    fn next_request(&mut self, waker: Option<&Waker>) -> Poll<Result<TrackRequest>> {
        let mut withdrawn = Vec::new();
        self.writer.0.wait(waker, |state| {
            if let Err(error) = state.open() {
                return Some(Err(error));
            }
            while let Some(track) = state.requests.pop_front() {
                if is_wanted(&track) {
                    return Some(Ok(TrackRequest { track }));
                }
                state.tracks.remove(track.name());
                withdrawn.push(track);
            }
            None
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
        let mut state = self.writer.0.shared.lock();
        state.dynamics -= 1;
        if state.dynamics == 0 {
            let requests = mem::take(&mut state.requests);
            drop(state);
            refuse(requests, &Error::NotFound);
        }
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

    /// What all who want it want together; `None` if they went away.
    pub fn subscription(&self) -> Option<Subscription> {
        self.track.subscription()
    }

    /// Begins the track. All who asked read it.
    pub fn accept(mut self, info: TrackInfo) -> Result<TrackProducer> {
        self.track.accept(info)?;
        Ok(self.track)
    }

    /// The track as it stands: nothing is known of it yet, and its end is its refusal.
    pub(super) fn into_producer(self) -> TrackProducer {
        self.track
    }

    /// Refuses the track: all who asked get `error`.
    pub fn reject(mut self, error: Error) {
        self.track.abort(error);
    }
}

/// Reads tracks.
pub struct BroadcastConsumer {
    seat: Seat,
}

impl BroadcastConsumer {
    /// The whole path in the origin that it was made in, roots included; empty if there is none.
    pub fn path(&self) -> &Path {
        &self.seat.shared.path
    }

    /// Subscribes to a track: one that lives, or else one that a [`BroadcastDynamic`] is asked for,
    /// whose reader waits for the answer.
    ///
    /// Errors: [`Error::NotFound`] if there is neither, or after a clean end; the error of the end
    /// after any other.
    pub fn subscribe_track(&self, name: &str, want: Subscription) -> Result<TrackConsumer> {
        let mut state = self.seat.shared.lock();
        if let Some(end) = &state.end {
            return Err(end.clone().err().unwrap_or(Error::NotFound));
        }
        let live = state.tracks.get(name).and_then(|track| track.subscribe(want.clone()));
        if let Some(consumer) = live {
            return Ok(consumer);
        }
        if state.dynamics == 0 {
            return Err(Error::NotFound);
        }
        let track = TrackProducer::requested(name.into(), self.seat.shared.cache.clone());
        let consumer = track.subscribe(want);
        let withdrawn = state.enter(name.into(), track.downgrade());
        state.requests.push_back(track);
        let mut woken = Woken::default();
        state.demand.take(&mut woken);
        drop(state);
        drop(withdrawn);
        woken.wake();
        Ok(consumer)
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
        state.places.retain(Place::exists);
        state.places.push(place);
        Ok(())
    }
}

impl Clone for BroadcastConsumer {
    fn clone(&self) -> Self {
        Self { seat: Seat::at_closing(self.seat.shared.clone()) }
    }
}

impl fmt::Debug for BroadcastConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BroadcastConsumer").field("path", self.path()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(broadcast: &BroadcastProducer) -> (usize, usize) {
        let state = broadcast.shared().lock();
        (state.tracks.len(), state.requests.len())
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
        assert!(broadcast.shared().lock().requests.iter().any(|track| track.name() == "kept"));
        drop(kept);
    }
}
