//! Reading a broadcast.

use std::sync::Arc;
use std::task::{Poll, Waker};

use super::state::{BroadcastShared, DeferredDrops, Waiter};
use super::upstreams::{FailedUpstreams, UpstreamRequest};
use crate::model::base::sync::atomic::Ordering;
use crate::model::base::{DeferredWakes, Horizon, Result, Route, change, impl_debug, wait};
use crate::model::cache::{KeepAlive, TrackConsumer, TrackProducer, TrackShared, TrackStats};
use crate::model::routing::registration::Registration;
use crate::{Error, Path, Subscription};

/// Reads the tracks of a broadcast.
pub struct BroadcastConsumer {
    pub(super) waiter: Waiter,
    /// Whether it counts as a reader of the broadcast.
    is_counted: bool,
    /// Keeps the path by which the broadcast was requested.
    keep_alive: Option<KeepAlive>,
}

impl BroadcastConsumer {
    pub(super) fn of(shared: &Arc<BroadcastShared>) -> Self {
        shared.readers.fetch_add(1, Ordering::Relaxed);
        Self { waiter: Waiter::for_end(shared), is_counted: true, keep_alive: None }
    }

    /// A consumer that does not count as a reader, so that it does not keep a requested broadcast.
    pub(crate) fn uncounted(&self) -> Self {
        Self { waiter: Waiter::for_end(&self.waiter.shared), is_counted: false, keep_alive: None }
    }

    /// Lets the consumer keep the path by which the broadcast was requested.
    pub(crate) fn with_keep_alive(mut self, keep_alive: Option<KeepAlive>) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    pub(crate) fn keep_alive(&self) -> Option<&KeepAlive> {
        self.keep_alive.as_ref()
    }

    /// The route by which the broadcast comes.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] after a clean end, and the reason after any other end.
    pub(crate) fn open_route(&self) -> Result<Route> {
        let state = self.waiter.shared.lock();
        state.open().map(|()| state.route.clone())
    }

    /// The route by which the broadcast comes.
    pub(crate) fn route(&self) -> Route {
        self.waiter.shared.lock().route.clone()
    }

    /// The whole path in the origin, roots included; empty for a broadcast without an origin.
    pub fn path(&self) -> &Path {
        &self.waiter.shared.path
    }

    /// As [`BroadcastProducer::stats`](crate::BroadcastProducer::stats).
    pub fn stats(&self) -> TrackStats {
        self.waiter.shared.lock().stats()
    }

    /// As [`BroadcastProducer::cached_bytes`](crate::BroadcastProducer::cached_bytes).
    pub fn cached_bytes(&self) -> u64 {
        self.waiter.shared.lock().cached_bytes()
    }

    /// Subscribes to a track. If no track with the name is live, it is requested from a session
    /// that has the broadcast or from a [`BroadcastDynamic`](crate::BroadcastDynamic), and the
    /// reader waits for the answer.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is neither, or after a clean end of the broadcast; the reason
    /// after any other end; [`Error::Limit`] past
    /// [`Limits::path_bytes`](crate::Limits::path_bytes); [`Error::Unrepresentable`] for group
    /// numbers above [`Group::MAX`](crate::Group::MAX). Nothing is subscribed then.
    pub fn subscribe_track(&self, name: &str, want: Subscription) -> Result<TrackConsumer> {
        want.check()?;
        self.find_track(name, Some(want), None)
            .map(|track| track.with_keep_alive(self.keep_alive()))
    }

    fn find_track(
        &self,
        name: &str,
        want: Option<Subscription>,
        horizon: Option<Horizon>,
    ) -> Result<TrackConsumer> {
        let shared = &self.waiter.shared;
        shared.cache.limits().check_track(name)?;
        loop {
            let (mut deferred, mut wakes) = (DeferredDrops::default(), DeferredWakes::default());
            let mut state = shared.lock();
            if let Some(end) = &state.end {
                return Err(end.clone().err().unwrap_or(Error::NotFound));
            }
            let Some(track) = state.live(name, &mut deferred) else {
                let entry = match state.upstreams.is_empty() {
                    true if state.dynamics == 0 => return Err(Error::NotFound),
                    true => None,
                    false => Some(state.upstreams.first_for(horizon).ok_or(Error::Unroutable)?),
                };
                let name: Arc<str> = name.into();
                let (cache, occupancy) = (shared.cache.clone(), shared.occupancy.clone());
                let track = TrackProducer::requested(name.clone(), cache, occupancy);
                let consumer = track.read(want, horizon, &mut wakes);
                let (weak, account) = (track.downgrade(), track.account().clone());
                match entry {
                    Some(entry) => state.request_first(entry, track, &mut wakes),
                    None => {
                        track.expect_answer(&mut wakes);
                        state.requests.push(track);
                        state.handler_waiters.take(&mut wakes);
                    }
                }
                state.enter(name, weak, account, &mut deferred);
                drop(state);
                wakes.wake();
                return Ok(consumer);
            };
            let withdrawn = state.withdrawn;
            drop(state);
            if let Some(consumer) = shared.join(&track, withdrawn, want.clone(), horizon) {
                if let (Some(horizon), Some(track)) = (horizon, track.upgrade()) {
                    self.avoid_peer(&track, horizon)?;
                }
                return Ok(consumer);
            }
        }
    }

    wait! {
        /// Waits for the end of the broadcast.
        ///
        /// # Errors
        ///
        /// The reason if the end was not clean.
        wait_closed => poll_closed, closed, try_closed() -> Result<()>
    }

    fn wait_closed(&mut self, waker: Option<&Waker>) -> Poll<Result<()>> {
        self.waiter.closed(waker)
    }

    /// Whether the broadcast has ended, in any way.
    pub fn is_closed(&self) -> bool {
        self.waiter.shared.lock().end.is_some()
    }

    /// Whether both handles read the same broadcast.
    pub fn is_clone(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.waiter.shared, &other.waiter.shared)
    }

    /// Adds the registration that `announce` creates. It is removed at the end of the broadcast.
    ///
    /// # Errors
    ///
    /// Those of `announce`; [`Error::Closed`] after a clean end, and the reason after any other
    /// end.
    pub(crate) fn register(
        &self,
        announce: impl FnOnce(&Route) -> Result<Registration>,
    ) -> Result<()> {
        let mut state = self.waiter.shared.lock();
        state.open()?;
        let registration = announce(&state.route)?;
        if state.registrations.len() == state.registrations.capacity() {
            state.registrations.retain(Registration::exists);
        }
        state.registrations.push(registration);
        Ok(())
    }
}

impl Clone for BroadcastConsumer {
    fn clone(&self) -> Self {
        Self::of(&self.waiter.shared).with_keep_alive(self.keep_alive.clone())
    }
}

impl Drop for BroadcastConsumer {
    fn drop(&mut self) {
        let shared = &self.waiter.shared;
        if self.is_counted && shared.readers.fetch_sub(1, Ordering::Relaxed) == 1 {
            change(&shared.state, |state, wakes| state.vacancy_waiters.take(wakes));
        }
    }
}

impl_debug! { BroadcastConsumer, it => path: it.path() }

#[cfg(any(test, feature = "sim"))]
impl crate::census::Counted for BroadcastConsumer {
    fn count(&self, name: &'static str, census: &mut crate::census::Census) {
        self.waiter.shared.count(name, census);
    }
}

impl BroadcastConsumer {
    /// Subscribes to a track for a peer, which may be given only what comes by routes within its
    /// `horizon`. Without a subscription it only queries the properties of the track.
    ///
    /// # Errors
    ///
    /// As [`subscribe_track`](Self::subscribe_track); [`Error::Unroutable`] if every route leads
    /// back to a peer that reads the track.
    pub(crate) fn serve_track(
        &self,
        name: &str,
        want: Option<Subscription>,
        horizon: Horizon,
    ) -> Result<TrackConsumer> {
        self.find_track(name, want, Some(horizon))
            .map(|track| track.with_keep_alive(self.keep_alive()))
    }

    /// A track that ended, whose publisher may have forgotten it. If it has all groups between the first and the last of
    /// `groups`, a FETCH of a peer is answered from it, unless a track of its name is live again.
    pub(crate) fn finished_track(
        &self,
        name: &str,
        groups: Option<(u64, u64)>,
        horizon: Horizon,
    ) -> Option<TrackConsumer> {
        let (mut deferred, mut wakes) = (DeferredDrops::default(), DeferredWakes::default());
        let state = self.waiter.shared.lock();
        let is_live = state.live(name, &mut deferred).is_some();
        let track = state.finished.get(name).filter(|_| !is_live).cloned();
        drop(state);
        let track = TrackConsumer::new(track?, None, Some(horizon), &mut wakes);
        wakes.wake();
        let has_all = groups.is_none_or(|(first, last)| track.has_groups(first, last));
        has_all.then(|| track.with_keep_alive(self.keep_alive()))
    }

    /// Requests the track from another upstream, if the current one is the peer that begins to read
    /// it.
    pub(crate) fn avoid_peer(&self, track: &Arc<TrackShared>, horizon: Horizon) -> Result<()> {
        self.waiter.shared.change(&Error::Unroutable, |state, _, wakes| {
            let upstreams = &mut state.upstreams;
            let current = upstreams.current(track);
            if upstreams.is_empty() || current.is_some_and(|entry| horizon.shows(&entry.route)) {
                return Ok(());
            }
            let mut shown = upstreams.best_first().filter(|entry| horizon.shows(&entry.route));
            let for_all = shown.clone().find(|entry| track.allows_all(&entry.route));
            let entry = for_all.or_else(|| shown.next()).ok_or(Error::Unroutable)?;
            let (entry, track) = (entry.id, track.add_upstream(entry.id, &entry.route, wakes));
            drop(shown);
            upstreams.request(
                entry,
                UpstreamRequest { track, failed: FailedUpstreams::new() },
                wakes,
            );
            Ok(())
        })
    }
}
