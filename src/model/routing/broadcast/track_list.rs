//! The tracks that a broadcast is known to have, for applications, and for peers that ask for all of them.
//!
//! A track is on the list when the application created it, or while a session offers it. One that was only requested is
//! not. The list keeps nothing alive.

use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};

use super::consumer::BroadcastConsumer;
use super::state::{DeferredDrops, Waiter, live_track};
use super::upstream::Upstream;
use crate::census::census;
use crate::model::base::{DeferredWakes, Result, Wakers, change, impl_debug, wait};
use crate::model::cache::WeakTrack;

/// The largest number of tracks that are visited under one lock.
const STEP: usize = 256;

/// The tracks of a broadcast in the order in which they became known.
#[derive(Default)]
pub(super) struct TrackList {
    /// Each under a number. A track that ended stays until the next sweep.
    tracks: Vec<(u64, ListedTrack)>,
    last: u64,
    /// At this number of `tracks` those that ended are removed.
    sweep_at: usize,
    waiters: Wakers,
}

pub(super) enum ListedTrack {
    /// The application created it.
    Created(WeakTrack),
    /// A session offers it, as long as the name exists.
    Offered(Weak<str>),
}

impl ListedTrack {
    /// Its name, if it has not ended.
    fn name(&self, deferred: &mut DeferredDrops) -> Option<Arc<str>> {
        match self {
            Self::Created(track) => live_track(track, deferred).map(|track| track.name().clone()),
            Self::Offered(name) => name.upgrade(),
        }
    }
}

impl TrackList {
    /// Adds a track. From time to time it removes those that ended, so that there are never more than twice as many as
    /// live ones.
    pub(super) fn push(
        &mut self,
        track: ListedTrack,
        deferred: &mut DeferredDrops,
        wakes: &mut DeferredWakes,
    ) {
        if self.tracks.len() >= self.sweep_at {
            self.tracks.retain(|(_, track)| track.name(deferred).is_some());
            self.sweep_at = 2 * self.tracks.len().max(8);
        }
        self.last += 1;
        self.tracks.push((self.last, track));
        self.waiters.take(wakes);
    }

    pub(super) fn waiters(&mut self) -> &mut Wakers {
        &mut self.waiters
    }

    /// The next live track after number `seen`, which moves past the tracks that were visited. `Some(None)`: there may be
    /// more, once other threads had the lock.
    fn next(&self, seen: &mut u64, deferred: &mut DeferredDrops) -> Option<Option<Arc<str>>> {
        let at = self.tracks.partition_point(|(number, _)| number <= seen);
        for (number, track) in self.tracks[at..].iter().take(STEP) {
            *seen = *number;
            if let Some(name) = track.name(deferred) {
                return Some(Some(name));
            }
        }
        (*seen < self.last && at < self.tracks.len()).then_some(None)
    }
}

/// Reads the names of the tracks that a broadcast is known to have: first those that there are, then those that come. See
/// [`BroadcastConsumer::track_names`](crate::BroadcastConsumer::track_names).
pub struct TrackNames {
    waiter: Waiter,
    seen: u64,
}

impl TrackNames {
    /// The next name. While there is none, the waker is woken by the next one or by the end of the broadcast.
    pub(crate) fn poll_name(&mut self, waker: Option<&Waker>) -> Poll<Arc<str>> {
        let Self { waiter, seen } = self;
        loop {
            let mut deferred = DeferredDrops::default();
            match waiter.wait(waker, |state| state.listed.next(seen, &mut deferred)) {
                Poll::Ready(Some(name)) => return Poll::Ready(name),
                Poll::Ready(None) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// The end of the broadcast.
    pub(crate) fn poll_closed(&mut self, waker: Option<&Waker>) -> Poll<Result<()>> {
        self.waiter.closed(waker)
    }

    fn wait_next_name(&mut self, waker: Option<&Waker>) -> Poll<Result<Option<Arc<str>>>> {
        match self.poll_name(waker) {
            Poll::Ready(name) => Poll::Ready(Ok(Some(name))),
            Poll::Pending => self.poll_closed(waker).map_ok(|()| None),
        }
    }

    wait! {
        /// The next name; `None` after a clean end of the broadcast. A track that ended before it was read is left out, and
        /// a name comes again if another track has it.
        ///
        /// # Errors
        ///
        /// The reason if the end was not clean.
        wait_next_name => poll_next_name, next_name, try_next_name() -> Result<Option<Arc<str>>>
    }
}

impl_debug! { TrackNames, it => broadcast: &it.waiter.shared.path }

impl BroadcastConsumer {
    /// Reads which tracks the broadcast is known to have: those that the application created, and those that a peer offers
    /// (moq-transport, PUBLISH; [`Session::subscribe_tracks`](crate::Session::subscribe_tracks) asks for them). Any other
    /// name can be subscribed as well: on moq-lite, and without offers, the tracks of a peer are not known. The reader does
    /// not keep the broadcast alive.
    pub fn track_names(&self) -> TrackNames {
        let waiter = Waiter::new(&self.waiter.shared, |state| state.listed.waiters());
        TrackNames { waiter, seen: 0 }
    }
}

impl Upstream {
    /// The session offers a track, as long as `name` exists.
    pub(crate) fn offer(&self, name: &Arc<str>) {
        let mut deferred = DeferredDrops::default();
        let track = ListedTrack::Offered(Arc::downgrade(name));
        change(&self.shared().state, |state, wakes| state.listed.push(track, &mut deferred, wakes));
    }
}

census! { TrackList { counts: tracks, waiters; plain: last, sweep_at; } }
