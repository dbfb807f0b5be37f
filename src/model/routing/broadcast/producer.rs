//! Publishing a broadcast.

use std::sync::Arc;
use std::task::{Poll, Waker};

use super::consumer::BroadcastConsumer;
use super::dynamic::{BroadcastDynamic, TrackRequest};
use super::state::{BroadcastShared, BroadcastState, DeferredDrops, ProducerGuard, Waiter};
use super::track_list::ListedTrack;
use crate::model::base::sync::Mutex;
use crate::model::base::{DeferredWakes, Result, Route, impl_debug, wait};
use crate::model::cache::{Cache, OccupancySlots, Track, TrackProducer, TrackStats};
use crate::{Error, Path};

/// Publishes tracks. [`BroadcastDynamic`] handles are producers too. If the last producer is
/// dropped without [`finish`](Self::finish), the broadcast ends with [`Error::Dropped`].
///
/// A track lives as long as its own producers. The end of the broadcast does not end it.
pub struct BroadcastProducer {
    guard: ProducerGuard,
    end_waiter: Waiter,
    occupancy: OccupancySlots,
}

impl BroadcastProducer {
    pub(crate) fn new(path: Path, cache: Arc<Cache>, route: Route) -> Self {
        let state = Mutex::new(BroadcastState { producers: 1, route, ..BroadcastState::default() });
        let (readers, occupancy) = Default::default();
        Self::of(ProducerGuard(Arc::new(BroadcastShared {
            path,
            cache,
            readers,
            occupancy,
            state,
        })))
    }

    fn of(guard: ProducerGuard) -> Self {
        let end_waiter = Waiter::for_end(&guard.0);
        Self { guard, end_waiter, occupancy: OccupancySlots::default() }
    }

    pub(super) fn shared(&self) -> &Arc<BroadcastShared> {
        &self.guard.0
    }

    /// The whole path in the origin, roots included; empty for a broadcast without an origin.
    pub fn path(&self) -> &Path {
        &self.shared().path
    }

    /// Creates a track. Readers that requested it before are served by it.
    ///
    /// # Errors
    ///
    /// [`Error::Duplicate`] if a live track has the name, or a [`TrackRequest`] for it was handed
    /// out; [`Error::Limit`] past [`Limits::path_bytes`](crate::Limits::path_bytes);
    /// [`Error::Closed`] after a clean end of the broadcast, and the reason after any other end.
    /// Existing tracks are not affected.
    pub fn create_track(&mut self, track: impl Into<Track>) -> Result<TrackProducer> {
        let track = track.into();
        self.shared().cache.limits().check_track(&track.name)?;
        let (mut deferred, mut wakes) = (DeferredDrops::default(), DeferredWakes::default());
        let mut state = self.shared().lock();
        state.open()?;
        let producer = if state.live(&track.name, &mut deferred).is_some() {
            let request = state.requests.take(&track.name).ok_or(Error::Duplicate);
            drop(state);
            let producer = TrackRequest { track: request? }.accept(track.info)?;
            state = self.shared().lock();
            producer
        } else {
            let name = track.name.clone();
            let BroadcastShared { cache, occupancy, .. } = &**self.shared();
            let producer = TrackProducer::new(track, cache.clone(), occupancy.clone());
            let (weak, account) = (producer.downgrade(), producer.account().clone());
            state.enter(name, weak, account, &mut deferred);
            producer
        };
        let listed = ListedTrack::Created(producer.downgrade());
        state.listed.push(listed, &mut deferred, &mut wakes);
        drop(state);
        wakes.wake();
        Ok(producer)
    }

    /// Counters of all tracks together, including those that are gone.
    pub fn stats(&self) -> TrackStats {
        self.shared().lock().stats()
    }

    /// The bytes that all tracks hold in the cache: payload and the memory needed to manage it.
    pub fn cached_bytes(&self) -> u64 {
        self.shared().lock().cached_bytes()
    }

    /// Creates a track with a free name of `0suffix`, `1suffix` and so on. It is the first free one
    /// unless names before it were given back.
    ///
    /// # Errors
    ///
    /// As [`create_track`](Self::create_track), except that it never fails with
    /// [`Error::Duplicate`].
    pub fn unique_track(&mut self, suffix: &str) -> Result<TrackProducer> {
        loop {
            match self.create_track(&*self.free_name(suffix)) {
                // Another producer took it meanwhile.
                Err(Error::Duplicate) => {}
                other => return other,
            }
        }
    }

    /// A name that no live track has. It doubles the number and then bisects, so that many tracks
    /// cost few attempts.
    fn free_name(&self, suffix: &str) -> String {
        let mut deferred = DeferredDrops::default();
        let state = self.shared().lock();
        let mut is_taken = |name: &str| {
            let is_requested = state.requests.turns.contains_key(name);
            !is_requested && state.live(name, &mut deferred).is_some()
        };
        let name = |n: u64| format!("{n}{suffix}");
        let mut next = 1;
        while is_taken(&name(next - 1)) {
            next *= 2;
        }
        // The number before `low` is taken, `high` is free.
        let (mut low, mut high) = (next / 2, next - 1);
        while low < high {
            let middle = low + (high - low) / 2;
            match is_taken(&name(middle)) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        name(high)
    }

    /// A handle that answers requests for tracks that do not exist. While there is one, any track
    /// name can be subscribed.
    pub fn dynamic(&self) -> BroadcastDynamic {
        BroadcastDynamic::new(self.guard.clone())
    }

    /// Creates a consumer of the broadcast.
    pub fn consume(&self) -> BroadcastConsumer {
        BroadcastConsumer::of(self.shared())
    }

    /// Ends the broadcast cleanly and removes its announcements. Its tracks go on.
    ///
    /// # Errors
    ///
    /// If the broadcast has ended: [`Error::Closed`] after a clean end, otherwise the reason. The first
    /// end stands.
    pub fn finish(&mut self) -> Result<()> {
        self.shared().end(Ok(()))
    }

    /// Ends the broadcast and removes its announcements. New subscriptions fail with `error`. Its
    /// tracks go on. If the broadcast has ended before, nothing happens.
    pub fn abort(&mut self, error: Error) {
        // It fails if there was an end before, which stands.
        let _ = self.shared().end(Err(error));
    }

    wait! {
        /// Waits until a producer ends the broadcast.
        ///
        /// # Errors
        ///
        /// The reason if the end was not clean.
        wait_closed => poll_closed, closed, try_closed() -> Result<()>
    }

    fn wait_closed(&mut self, waker: Option<&Waker>) -> Poll<Result<()>> {
        self.end_waiter.closed(waker)
    }

    wait! {
        /// Waits until a track of the broadcast is read or requested.
        ///
        /// # Errors
        ///
        /// After the end of the broadcast: [`Error::Closed`] if it was clean, otherwise the reason.
        wait_used => poll_used, used, try_used() -> Result<()>
    }

    fn wait_used(&mut self, waker: Option<&Waker>) -> Poll<Result<()>> {
        let shared = &self.guard.0;
        let used = shared.occupancy.wait(&mut self.occupancy, waker, true);
        // Checked last: an end after this check takes the registered waker.
        shared.lock().open()?;
        used.map(Ok)
    }

    wait! {
        /// Waits until no live track of the broadcast is read or requested.
        wait_unused => poll_unused, unused, try_unused() -> ()
    }

    fn wait_unused(&mut self, waker: Option<&Waker>) -> Poll<()> {
        self.guard.0.occupancy.wait(&mut self.occupancy, waker, false)
    }

    /// Whether the broadcast has ended, in any way.
    pub fn is_closed(&self) -> bool {
        self.shared().lock().end.is_some()
    }

    /// Whether both handles publish the same broadcast.
    pub fn is_clone(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.shared(), other.shared())
    }
}

impl Drop for BroadcastProducer {
    fn drop(&mut self) {
        self.guard.0.occupancy.free(&mut self.occupancy);
    }
}

impl Clone for BroadcastProducer {
    fn clone(&self) -> Self {
        Self::of(self.guard.clone())
    }
}

impl_debug! { BroadcastProducer, it => path: it.path() }
