//! Answering requests for tracks that were not created.

use std::task::{Poll, Waker};

use super::state::{DeferredDrops, ProducerGuard, Waiter};
use crate::model::Result;
use crate::model::base::wait;
use crate::model::cache::{TrackDynamic, TrackProducer};
use crate::{Error, Subscription, TrackInfo};

/// Answers for tracks that are asked for and that nobody made.
///
/// When the last clone is dropped, requests that still wait are refused with [`Error::NotFound`].
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
        /// The next track that somebody wants, first come first served. All who want a track share one
        /// request; one that nobody wants any more is not given. It is to be answered within
        /// [`Limits::answer_time`].
        ///
        /// Errors: after the end, its error, [`Error::Closed`] for a clean end.
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

/// A track that somebody wants. Dropped without an answer it is refused with [`Error::Dropped`].
pub struct TrackRequest {
    pub(super) track: TrackProducer,
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
        self.track.poll_unread(waker)
    }

    /// As [`TrackProducer::dynamic`], for who wants to answer for groups from the beginning on.
    pub fn dynamic(&self) -> TrackDynamic {
        self.track.dynamic()
    }

    /// Begins the track. All who asked read it.
    pub fn accept(mut self, info: TrackInfo) -> Result<TrackProducer> {
        self.track.accept(info)?;
        self.track.set_start(0);
        Ok(self.track)
    }

    /// Refuses the track: all who asked get `error`.
    pub fn reject(mut self, error: Error) {
        self.track.abort(error);
    }
}
