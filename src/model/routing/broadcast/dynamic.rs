//! Answering requests for tracks that were not created.

use std::task::{Poll, Waker};

use super::state::{DeferredDrops, ProducerGuard, Waiter};
use crate::model::base::{Result, impl_debug, wait};
use crate::model::cache::{TrackDynamic, TrackProducer};
use crate::{Error, Subscription, TrackInfo};

/// Answers requests for tracks that do not exist.
///
/// When the last clone is dropped, waiting requests fail with [`Error::NotFound`].
pub struct BroadcastDynamic {
    guard: ProducerGuard,
    requests: Waiter,
}

impl BroadcastDynamic {
    pub(super) fn new(guard: ProducerGuard) -> Self {
        guard.0.lock().dynamics += 1;
        let requests = Waiter::new(&guard.0, |state| &mut state.handler_waiters);
        Self { guard, requests }
    }

    wait! {
        /// The next requested track, in order of request. All readers of a track share one request.
        /// A request that nobody wants any more is not returned. It must be answered within
        /// [`Limits::answer_timeout`](crate::Limits::answer_timeout).
        ///
        /// # Errors
        ///
        /// After the end of the broadcast: [`Error::Closed`] if it was clean, otherwise the reason.
        next_request => poll_requested_track, requested_track, try_requested_track()
            -> Result<TrackRequest>
    }

    fn next_request(&mut self, waker: Option<&Waker>) -> Poll<Result<TrackRequest>> {
        let mut deferred = DeferredDrops::default();
        self.requests.wait(waker, |state| {
            if let Err(error) = state.open() {
                return Some(Err(error));
            }
            loop {
                let track = state.requests.pop()?;
                if track.has_readers() {
                    return Some(Ok(TrackRequest { track }));
                }
                state.forget(track, &mut deferred);
            }
        })
    }
}

impl Clone for BroadcastDynamic {
    fn clone(&self) -> Self {
        Self::new(self.guard.clone())
    }
}

impl Drop for BroadcastDynamic {
    fn drop(&mut self) {
        let mut deferred = DeferredDrops::default();
        let mut state = self.guard.0.lock();
        state.dynamics -= 1;
        if state.dynamics == 0 {
            state.withdraw(|_| false, &mut deferred);
        }
        drop(state);
        deferred.refuse(&Error::NotFound);
    }
}

/// A track that a reader requested. If it is dropped without an answer, the request fails with
/// [`Error::Dropped`].
pub struct TrackRequest {
    pub(super) track: TrackProducer,
}

impl TrackRequest {
    /// The name of the track.
    pub fn name(&self) -> &str {
        self.track.name()
    }

    /// The wishes of all readers together. `None` if all of them left, or if a peer only queries the
    /// properties of the track (moq-lite, TRACK). Accepting the request answers the query.
    pub fn subscription(&self) -> Option<Subscription> {
        self.track.subscription()
    }

    wait! {
        /// Waits until nobody reads the track or queries its properties any more.
        wait_unused => poll_unused, unused, try_unused() -> ()
    }

    fn wait_unused(&mut self, waker: Option<&Waker>) -> Poll<()> {
        self.track.poll_unread(waker)
    }

    /// As [`TrackProducer::dynamic`], to answer requests for groups from the beginning.
    pub fn dynamic(&self) -> TrackDynamic {
        self.track.dynamic()
    }

    /// Creates the track for all readers that requested it.
    ///
    /// # Errors
    ///
    /// The reason if the track was aborted meanwhile, for example [`Error::Timeout`] past
    /// [`Limits::answer_timeout`](crate::Limits::answer_timeout). The broadcast goes on.
    pub fn accept(mut self, info: TrackInfo) -> Result<TrackProducer> {
        self.track.accept(info)?;
        self.track.set_start(0);
        Ok(self.track)
    }

    /// Refuses the track: all readers that requested it get `error`.
    pub fn reject(mut self, error: Error) {
        self.track.abort(error);
    }
}

impl_debug! { BroadcastDynamic, it => path: &it.requests.shared.path }
impl_debug! { TrackRequest, it => name: &it.name() }
