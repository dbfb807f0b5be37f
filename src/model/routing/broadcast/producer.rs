//! Publishing a broadcast.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use super::consumer::BroadcastConsumer;
use super::dynamic::{BroadcastDynamic, TrackRequest};
use super::state::{BroadcastShared, BroadcastState, DeferredDrops, ProducerGuard, Waiter};
use crate::model::Result;
use crate::model::base::{Route, wait};
use crate::model::cache::{Cache, OccupancySlots, Track, TrackProducer, TrackStats};
use crate::{Error, Path};

/// Publishes tracks. [`BroadcastDynamic`] handles are producers too; when the last of all clones is
/// dropped without [`finish`](Self::finish), the broadcast ends with [`Error::Dropped`].
///
/// Tracks live as long as their own producers: neither the end of the broadcast nor its drop ends
/// them.
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
        let mut deferred = DeferredDrops::default();
        let mut state = self.shared().lock();
        state.open()?;
        if state.live(&track.name, &mut deferred).is_some() {
            let request = state.requests.take(&track.name).ok_or(Error::Duplicate);
            drop(state);
            return TrackRequest { track: request? }.accept(track.info);
        }
        let name = track.name.clone();
        let BroadcastShared { cache, occupancy, .. } = &**self.shared();
        let producer = TrackProducer::new(track, cache.clone(), occupancy.clone());
        let (weak, account) = (producer.downgrade(), producer.account().clone());
        state.enter(name, weak, account, &mut deferred);
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
        BroadcastDynamic::new(self.guard.clone())
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
        self.end_waiter.closed(waker)
    }

    wait! {
        /// Until somebody reads a track of it, or asks for one.
        ///
        /// Errors: after the end, its error, [`Error::Closed`] for a clean end.
        wait_used => poll_used, used, try_used() -> Result<()>
    }

    fn wait_used(&mut self, waker: Option<&Waker>) -> Poll<Result<()>> {
        let shared = &self.guard.0;
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
        self.guard.0.occupancy.wait(&mut self.occupancy, waker, false)
    }

    /// Whether both publish the same broadcast.
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

impl fmt::Debug for BroadcastProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BroadcastProducer").field("path", self.path()).finish_non_exhaustive()
    }
}
