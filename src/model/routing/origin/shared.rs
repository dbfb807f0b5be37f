//! The state that all handles of an origin share.

use std::sync::{Arc, PoisonError};
use std::task::{Poll, Waker};

use super::broadcast_requests::BroadcastRequests;
use crate::census::census;
use crate::model::base::sync::Mutex;
use crate::model::base::sync::atomic::AtomicU64;
use crate::model::base::{Clock, DeferredWakes, Route, SUSPECT_TIME, WaitSlot, change, lock};
use crate::model::cache::{Cache, CacheMember};
use crate::model::routing::broadcast::BroadcastConsumer;
use crate::model::routing::registration::{Registration, RegistrationKind, Registry};
use crate::model::routing::table::{RoutingTable, TableReader};
use crate::{Hop, Instant, Path};

/// The state that all handles of an origin share.
pub(super) struct OriginShared {
    pub(super) hop: Hop,
    pub(super) cache: Arc<Cache>,
    /// The id of its deadlines in the cache.
    pub(super) member: u64,
    /// The round of the cache in which a broadcast was last requested.
    pub(super) requested_in: AtomicU64,
    pub(super) clock: Clock,
    pub(super) state: Mutex<OriginState>,
}

impl Drop for OriginShared {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.cache.schedule(self.member, state.requests.scheduled, None);
    }
}

#[derive(Default)]
pub(super) struct OriginState {
    pub(super) table: RoutingTable<BroadcastConsumer>,
    /// Requests for broadcasts that are not in the table.
    pub(super) requests: BroadcastRequests,
    pub(super) producers: usize,
}

impl OriginShared {
    /// Changes the state, and then wakes the waiters that the change concerns.
    pub(super) fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut OriginState) -> T) -> T {
        let mut wakes = DeferredWakes::default();
        let result = self.change_requests(|state| {
            let result = change(state);
            wakes = state.table.take_due();
            result
        });
        wakes.wake();
        result
    }

    /// Changes requests, and then wakes the waiters that the change concerns.
    pub(super) fn change_requests<T>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut OriginState) -> T,
    ) -> T {
        let mut state = lock(&self.state);
        let result = change(&mut state);
        self.schedule(&mut state);
        let (mut wakes, deferred) = state.requests.take_deferred();
        drop(state);
        drop(deferred);
        wakes.wake();
        result
    }

    /// Returns what `next` returns, or registers the waker for the prefixes of `reader`. If there
    /// is much to read, other threads can take the lock in between.
    pub(super) fn read<T>(
        &self,
        reader: &mut TableReader,
        waker: Option<&Waker>,
        mut next: impl FnMut(&mut TableReader, &mut OriginState) -> Option<T>,
    ) -> Poll<T> {
        let waker = waker.cloned();
        loop {
            let mut state = lock(&self.state);
            if let Some(value) = next(reader, &mut state) {
                return Poll::Ready(value);
            }
            if reader.is_paused() {
                continue;
            }
            let spare = waker.and_then(|waker| reader.wait(&mut state.table, waker));
            drop(state);
            drop(spare);
            return Poll::Pending;
        }
    }

    /// Removes a reader from the state.
    pub(super) fn forget(&self, reader: &mut TableReader) {
        let _spare = change(&self.state, |state, _| reader.detach(&mut state.table));
    }
}

/// The watch of one handle for a path.
#[derive(Default)]
pub(super) struct PathWatch(Option<(Path, WaitSlot)>);

impl PathWatch {
    /// Returns what `ready` returns, or registers the waker at `path`, and at no other path.
    pub(super) fn wait<T>(
        &mut self,
        shared: &OriginShared,
        path: Path,
        waker: Option<&Waker>,
        ready: impl FnOnce(&mut OriginState) -> Option<T>,
    ) -> Poll<T> {
        let waker = waker.cloned();
        // Declared before the guard, so that it is dropped after the lock is released.
        let (_spare, _former);
        let mut state = lock(&shared.state);
        if let Some(value) = ready(&mut state) {
            _former = self.end(&mut state);
            return Poll::Ready(value);
        }
        let Some(waker) = waker else { return Poll::Pending };
        let is_known = self.0.as_ref().is_some_and(|(known, _)| *known == path);
        if !is_known {
            _former = self.end(&mut state);
            state.table.watch(&path);
            self.0 = Some((path, WaitSlot::default()));
        }
        _spare = self.0.as_mut().and_then(|(path, slot)| state.table.wait_at(path, slot, waker));
        Poll::Pending
    }

    pub(super) fn end(&mut self, state: &mut OriginState) -> Option<Waker> {
        let (path, mut slot) = self.0.take()?;
        state.table.unwatch(&path, &mut slot)
    }
}

census! { OriginState { within: table, requests; plain: producers; } }

census! { OriginShared { within: cache, state; plain: hop, member, requested_in, clock; } }

impl CacheMember for OriginShared {
    fn restamp(&self, before: Instant, now: Instant) {
        let time = self.cache.limits().answer_timeout;
        // A scheduled deadline that is too early does no harm.
        lock(&self.state).requests.postpone(before + time, now + time);
    }

    fn expire(self: Arc<Self>) {
        let now = self.cache.now();
        drop(self.change_requests(|state| {
            state.requests.scheduled = None;
            state.requests.expire(now)
        }));
    }
}

impl Registry for OriginShared {
    fn leave(self: Arc<Self>, at: &Registration) {
        // Dropped here and not under the lock, because it may be the last handle of its broadcast.
        match at.kind {
            RegistrationKind::Announced => {
                drop(self.change(|state| state.table.remove(&at.path, at.id)));
            }
            RegistrationKind::Requested(session) => {
                drop(self.change_requests(|state| state.requests.forget(&at.path, session, at.id)));
            }
        }
    }

    fn withdraw(self: Arc<Self>, at: &Registration) {
        let until = self.cache.now() + SUSPECT_TIME;
        drop(self.change(|state| {
            let lost = state.table.remove(&at.path, at.id)?;
            state.table.suspect(&at.path, &lost, until);
            Some(lost)
        }));
    }

    fn reroute(self: Arc<Self>, at: &Registration, route: Route) {
        self.change(|state| {
            let reach = route.reach;
            state.table.reroute(&at.path, at.id, route);
            state.requests.recheck(&at.path, reach);
        });
    }
}
