//! Finding a broadcast, and requesting one that is not announced.

use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};

use super::broadcast_requests::{
    RequestAnswer, RequestTarget, Requester, ServedBroadcast, TOO_MANY,
};
use super::shared::{OriginShared, OriginState};
use crate::model::base::{Horizon, Result, Route, SessionId, WaitSlot};
use crate::model::cache::CacheMember;
use crate::model::routing::broadcast::{BroadcastConsumer, BroadcastProducer};
use crate::model::routing::registration::{Registration, RegistrationKind};
use crate::{Error, Instant, Path};

/// Where the broadcast is, and a value to drop after the lock is released.
type Lookup = (Result<Located>, Option<ServedBroadcast>);

/// Where a broadcast is.
enum Located {
    Ready(BroadcastConsumer),
    Handler(u64),
}

impl OriginShared {
    /// Finds the broadcast at the whole path `path`, or requests it. An announced broadcast comes
    /// first, then one that was accepted before, then the handler or peer with the longest prefix. If there is none,
    /// a request that `waits` is pending until something leads to the path.
    pub(crate) fn request(
        self: &Arc<Self>,
        path: Path,
        horizon: Horizon,
        waits: bool,
    ) -> Result<RoutedBroadcast> {
        // The second value is dropped after the lock is released.
        let (found, _displaced) = self.change_requests(|state| {
            let (there, displaced) = self.locate(state, &path, horizon);
            let answer = match there {
                Ok(Located::Ready(broadcast)) => {
                    return (Ok(RoutedBroadcast::Ready(broadcast)), displaced);
                }
                Ok(Located::Handler(handler)) => {
                    self.ask(state, &path, handler, horizon.session).map(Some)
                }
                Err(Error::Unroutable) if waits => {
                    state.requests.begin_await(&path);
                    Ok(None)
                }
                Err(error) => Err(error),
            };
            let (shared, slot) = (self.clone(), WaitSlot::default());
            let pending = |answer| PendingBroadcast { shared, path, horizon, answer, slot };
            (answer.map(|answer| RoutedBroadcast::Pending(pending(answer))), displaced)
        });
        found
    }

    /// Requests a broadcast from a handler of this process.
    fn ask(
        self: &Arc<Self>,
        state: &mut OriginState,
        path: &Path,
        handler: u64,
        requester: Requester,
    ) -> Result<RequestAnswer> {
        if !state.requests.pending.contains_key(path) {
            state.requests.admit(requester, self.cache.limits())?;
        }
        let due = self.stamp() + self.cache.limits().answer_timeout;
        state.requests.request(path, handler, requester, due)
    }

    fn locate(self: &Arc<Self>, state: &mut OriginState, path: &Path, horizon: Horizon) -> Lookup {
        let OriginState { table, requests, .. } = state;
        if let Some(entry) = table.best(path, horizon) {
            return (Ok(Located::Ready(entry.broadcast.clone())), None);
        }
        if let Some(broadcast) = requests.find(path, None) {
            return (Ok(Located::Ready(broadcast)), None);
        }
        match requests.target_for(table, path, horizon) {
            None => (Err(Error::Unroutable), None),
            Some(RequestTarget::Handler(handler)) => (Ok(Located::Handler(handler)), None),
            Some(RequestTarget::Peer(peer, under, route)) => {
                // By another route it may lead back to the requester.
                let known = requests.served.get(&(path.clone(), Some(peer)));
                let known = known.filter(|served| served.under == under);
                if known.is_some_and(|served| served.broadcast.route() == route) {
                    if let Some(broadcast) = requests.find(path, Some(peer)) {
                        return (Ok(Located::Ready(broadcast)), None);
                    }
                }
                let requester = horizon.session;
                let (result, displaced) =
                    self.request_from_peer(state, path.clone(), (peer, under), route, requester);
                (result.map(Located::Ready), displaced)
            }
        }
    }

    /// The current time, for a deadline.
    fn stamp(self: &Arc<Self>) -> Instant {
        self.cache.stamp(&self.requested_in, || Arc::downgrade(self) as Weak<dyn CacheMember>)
    }

    /// Schedules the next deadline in the cache.
    pub(crate) fn schedule(self: &Arc<Self>, state: &mut OriginState) {
        let requests = &mut state.requests;
        let next = requests.next_due();
        let old = std::mem::replace(&mut requests.scheduled, next);
        if old == next {
            return;
        }
        let new = next.map(|at| (at, Arc::downgrade(self) as Weak<dyn CacheMember>));
        if self.cache.schedule(self.member, old, new) {
            // That session may not have updated the time for long, and does not know of this
            // deadline.
            requests.wakes.push(self.cache.timekeeper());
        }
    }
}

/// A broadcast that was looked up.
pub(crate) enum RoutedBroadcast {
    /// It exists.
    Ready(BroadcastConsumer),
    /// It was requested, and the answer is pending.
    Pending(PendingBroadcast),
}

/// Waits for the answer to a request, or for somebody to ask. If it is dropped, its part in the request is cancelled.
pub(crate) struct PendingBroadcast {
    shared: Arc<OriginShared>,
    pub(super) path: Path,
    horizon: Horizon,
    /// `None`: nothing leads to the path yet.
    answer: Option<RequestAnswer>,
    slot: WaitSlot,
}

impl PendingBroadcast {
    /// The answer, or a better broadcast that appeared meanwhile.
    pub(crate) fn poll(&mut self, waker: Option<&Waker>) -> Poll<Result<BroadcastConsumer>> {
        let Self { shared, path, horizon, answer, slot } = self;
        let waker = waker.cloned();
        // Those are dropped after the lock is released.
        let mut unused = [None, None];
        let (result, _displaced) = shared.change_requests(|state| {
            if let Some(answer) = answer.as_ref().and_then(|answer| answer.get()) {
                return (Poll::Ready(answer.clone()), None);
            }
            let (there, displaced) = shared.locate(state, path, *horizon);
            let handler = match there {
                Ok(Located::Ready(broadcast)) => return (Poll::Ready(Ok(broadcast)), displaced),
                Ok(Located::Handler(handler)) => Ok(handler),
                Err(error) => Err(error),
            };
            if answer.is_none() {
                let asked = handler
                    .clone()
                    .and_then(|handler| shared.ask(state, path, handler, horizon.session));
                match asked {
                    Ok(asked) => {
                        unused[0] = state.requests.end_await(path, slot);
                        *answer = Some(asked);
                    }
                    Err(Error::Unroutable) => {
                        unused[1] =
                            waker.and_then(|waker| state.requests.await_route(path, slot, waker));
                        return (Poll::Pending, displaced);
                    }
                    Err(error) => return (Poll::Ready(Err(error)), displaced),
                }
            }
            let Some(pending) = state.requests.pending.get_mut(path) else {
                return (Poll::Ready(Err(Error::Unroutable)), displaced);
            };
            if let (None, false, Err(error)) = (pending.handler, pending.is_out, handler) {
                return (Poll::Ready(Err(error)), displaced);
            }
            unused[1] = waker.and_then(|waker| pending.waiters.register(slot, waker));
            (Poll::Pending, displaced)
        });
        result
    }
}

impl Drop for PendingBroadcast {
    fn drop(&mut self) {
        let Self { shared, path, answer, slot, .. } = self;
        match answer {
            Some(answer) => {
                drop(shared.change_requests(|state| state.requests.leave(path, answer, slot)));
            }
            None => drop(shared.change_requests(|state| state.requests.end_await(path, slot))),
        }
    }
}

impl OriginShared {
    /// Creates a broadcast that a session may have. Whether its peer has it shows when a track is
    /// subscribed. `under` is the id of the announcement that covers the path, or 0. The second
    /// value must be dropped after the lock is released.
    pub(crate) fn request_from_peer(
        self: &Arc<Self>,
        state: &mut OriginState,
        path: Path,
        (peer, under): (SessionId, u64),
        route: Route,
        requester: Requester,
    ) -> (Result<BroadcastConsumer>, Option<ServedBroadcast>) {
        let (OriginState { table, requests, .. }, limits) = (state, self.cache.limits());
        if let Err(error) = requests.admit_answer(requester, limits) {
            return (Err(error), None);
        }
        let Some(queue) = requests.peers.get_mut(&peer) else {
            return (Err(Error::SessionClosed), None);
        };
        let share = queue.shares.get(&requester).copied().unwrap_or_default();
        if share >= limits.broadcast_requests {
            return (Err(TOO_MANY), None);
        }
        queue.shares.insert(requester, share + 1);
        let fresh = BroadcastProducer::new(path.clone(), self.cache.clone(), route.clone());
        let broadcast = fresh.consume();
        let mut upstream = fresh.add_upstream(route);
        let (id, kind) = (table.next_id(), RegistrationKind::Requested(Some(peer)));
        let origin = Arc::downgrade(self);
        upstream.register(Registration { origin, path: path.clone(), id, kind });
        queue.requested.push_back((path.clone(), upstream, requester));
        queue.waiters.take(&mut requests.wakes);
        let displaced = requests.serve(&path, Some(peer), [id, under], requester, &broadcast, None);
        (Ok(broadcast), displaced)
    }
}
