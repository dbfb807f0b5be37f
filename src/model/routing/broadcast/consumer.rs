//! Reading a broadcast.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};

use super::state::{BroadcastShared, DeferredDrops, Waiter};
use super::upstreams::{FailedUpstreams, UpstreamRequest};
use crate::model::Result;
use crate::model::base::{DeferredWakes, Horizon, Route, wait};
use crate::model::cache::{KeepAlive, TrackConsumer, TrackProducer, TrackShared, TrackStats};
use crate::model::routing::registration::Registration;
use crate::{Error, Path, Subscription};

/// Reads tracks.
pub struct BroadcastConsumer {
    pub(super) seat: Waiter,
    /// Whether it is one of the readers that are counted.
    reads: bool,
    /// What keeps the path that it was asked for by.
    stay: Option<KeepAlive>,
}

impl BroadcastConsumer {
    pub(super) fn of(shared: &Arc<BroadcastShared>) -> Self {
        shared.readers.fetch_add(1, Ordering::Relaxed);
        Self { seat: Waiter::closing(shared), reads: true, stay: None }
    }

    /// One that knows of the broadcast, and is no reason to keep it.
    pub(crate) fn knows(&self) -> Self {
        Self { seat: Waiter::closing(&self.seat.shared), reads: false, stay: None }
    }

    /// One that came by a path that it was asked for by, and keeps that.
    pub(crate) fn with_stay(mut self, stay: Option<KeepAlive>) -> Self {
        self.stay = stay;
        self
    }

    pub(crate) fn stay(&self) -> Option<&KeepAlive> {
        self.stay.as_ref()
    }

    /// By which route it comes.
    ///
    /// Errors: after the end, its error, [`Error::Closed`] for a clean end.
    pub(crate) fn open_route(&self) -> Result<Route> {
        let state = self.seat.shared.lock();
        state.open().map(|()| state.route.clone())
    }

    /// By which route it comes.
    pub(crate) fn route(&self) -> Route {
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
            let (mut debris, mut woken) = (DeferredDrops::default(), DeferredWakes::default());
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
    pub(crate) fn settle(
        &self,
        announce: impl FnOnce(&Route) -> Result<Registration>,
    ) -> Result<()> {
        let mut state = self.seat.shared.lock();
        state.open()?;
        let place = announce(&state.route)?;
        if state.places.len() == state.places.capacity() {
            state.places.retain(Registration::exists);
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
            let mut woken = DeferredWakes::default();
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

#[cfg(any(test, feature = "sim"))]
impl crate::census::Counted for BroadcastConsumer {
    fn count(&self, name: &'static str, census: &mut crate::census::Census) {
        self.seat.shared.count(name, census);
    }
}

impl BroadcastConsumer {
    /// A track for a peer, which may only come by routes within its `horizon`. Without a subscription it
    /// only asks what the track is.
    ///
    /// Errors: as [`subscribe_track`](Self::subscribe_track); [`Error::Unroutable`] if every route leads
    /// back to a peer who reads it.
    pub(crate) fn serve_track(
        &self,
        name: &str,
        want: Option<Subscription>,
        horizon: Horizon,
    ) -> Result<TrackConsumer> {
        self.find_track(name, want, Some(horizon)).map(|track| track.with_stay(self.stay()))
    }

    /// Sees to it that a track does not come from a peer that begins to read it.
    pub(crate) fn turn_away(&self, track: &Arc<TrackShared>, horizon: Horizon) -> Result<()> {
        self.seat.shared.change(&Error::Unroutable, |state, _, woken| {
            let desks = &mut state.desks;
            let current = desks.current(track);
            if desks.is_empty() || current.is_some_and(|desk| horizon.shows(&desk.route)) {
                return Ok(());
            }
            let mut shown = desks.best_first().filter(|desk| horizon.shows(&desk.route));
            let for_all = shown.clone().find(|desk| track.suits_all(&desk.route));
            let desk = for_all.or_else(|| shown.next()).ok_or(Error::Unroutable)?;
            let (desk, track) = (desk.id, track.supply(desk.id, &desk.route, woken));
            drop(shown);
            desks.ask(desk, UpstreamRequest { track, tried: FailedUpstreams::new() }, woken);
            Ok(())
        })
    }
}
