//! Broadcasts that were requested by path: the handler of each request, its waiting readers, and its answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, OnceLock, Weak};
use std::task::Waker;

use crate::census::census;
use crate::model::base::{
    DeferredWakes, Horizon, Reach, Result, Route, SessionId, WaitSlot, Wakers,
};
use crate::model::cache::KeepAlive;
use crate::model::routing::broadcast::{BroadcastConsumer, Upstream};
use crate::model::routing::registration::RegistrationGuard;
use crate::model::routing::table::RoutingTable;
use crate::{Error, Instant, LimitKind, Limits, Path};

/// The error past the limit of requests.
pub(crate) const TOO_MANY: Error = Error::Limit(LimitKind::BroadcastRequests);

/// The session that requests on behalf of its peer; `None` for the application.
pub(crate) type Requester = Option<SessionId>;

/// Requests for broadcasts that are not announced, their handlers, and the answers.
#[derive(Default)]
pub(crate) struct BroadcastRequests {
    /// By the id of their route in the table.
    handlers: BTreeMap<u64, RequestHandler>,
    /// The handlers of each prefix. The newest one is asked.
    prefixes: BTreeMap<Path, BTreeSet<u64>>,
    pub(super) pending: BTreeMap<Path, PendingRequest>,
    /// The paths for whose first route somebody waits, without a request.
    awaited: BTreeMap<Path, AwaitedRoute>,
    /// All pending requests, by deadline.
    due: BTreeSet<(Instant, Path)>,
    /// The deadline that is scheduled in the cache.
    pub(crate) scheduled: Option<Instant>,
    /// Broadcasts that can be found without being announced, by the session that delivers them.
    pub(super) served: BTreeMap<(Path, Requester), ServedBroadcast>,
    shares: BTreeMap<Requester, RequesterShare>,
    /// The sessions that can be asked.
    pub(crate) peers: BTreeMap<SessionId, PeerQueue>,
    last: u64,
    /// Waiters to wake after the lock is released.
    pub(crate) wakes: DeferredWakes,
    /// Values to drop after the lock is released.
    pub(crate) deferred: Vec<BroadcastConsumer>,
}

/// Counts the unanswered requests of one requester, and its answers that still exist.
#[derive(Clone, Copy, Default)]
struct RequesterShare {
    requested: usize,
    answered: usize,
}

/// The handler for a prefix.
pub(crate) struct RequestHandler {
    pub(crate) handles: usize,
    /// Requests that were not handed out yet, oldest first.
    queue: BTreeMap<u64, Path>,
    /// All requests that it has not answered.
    requested: BTreeSet<Path>,
    pub(crate) waiters: Wakers,
}

/// A requested broadcast that is not there yet.
pub(crate) struct PendingRequest {
    /// Identifies the request that can answer.
    number: u64,
    /// The first requester.
    requester: Requester,
    /// `None` if it is gone.
    pub(super) handler: Option<u64>,
    requesters: usize,
    /// Whether a `BroadcastRequest` was handed out. The request then stays until that is answered.
    pub(super) is_out: bool,
    due: Instant,
    answer: RequestAnswer,
    pub(super) waiters: Wakers,
    /// Handlers that wait for the last requester to go.
    pub(crate) unused: Wakers,
}

/// A path that nothing leads to yet.
#[derive(Default)]
struct AwaitedRoute {
    waiters: usize,
    wakers: Wakers,
}

pub(super) type RequestAnswer = Arc<OnceLock<Result<BroadcastConsumer>>>;

pub(crate) struct ServedBroadcast {
    id: u64,
    /// The announcement under which it was requested, or 0. Under another announcement it is
    /// another broadcast.
    pub(super) under: u64,
    requester: Requester,
    /// A consumer that does not keep the broadcast.
    pub(super) broadcast: BroadcastConsumer,
    /// Keeps the broadcast here. `None`: it stays until it ends.
    keep_alive: Option<Weak<RegistrationGuard>>,
}

impl ServedBroadcast {
    /// Whether it still exists.
    fn is_live(&self) -> bool {
        let stays = self.keep_alive.as_ref().is_none_or(|keep_alive| keep_alive.strong_count() > 0);
        stays && !self.broadcast.is_closed()
    }

    /// The broadcast, if it still exists. Otherwise a value to drop after the lock is released.
    fn live(&self) -> Result<BroadcastConsumer, Option<BroadcastConsumer>> {
        let keep_alive = match &self.keep_alive {
            Some(keep_alive) => Some(keep_alive.upgrade().ok_or(None)? as KeepAlive),
            None => None,
        };
        // It counts as a reader from here on, so that the broadcast does not end for lack of
        // readers.
        let found = self.broadcast.clone().with_keep_alive(keep_alive);
        if found.is_closed() { Err(Some(found)) } else { Ok(found) }
    }
}

/// The range of the paths below `path`, without `path` itself.
fn below(path: &Path) -> (String, String) {
    match path.is_root() {
        true => (String::new(), char::MAX.to_string()),
        // The character after the slash.
        false => (format!("{path}/"), format!("{path}0")),
    }
}

impl BroadcastRequests {
    /// Takes the waiters to wake and the values to drop after the lock is released.
    pub(crate) fn take_deferred(&mut self) -> (DeferredWakes, Vec<BroadcastConsumer>) {
        (std::mem::take(&mut self.wakes), std::mem::take(&mut self.deferred))
    }

    // ---- handlers ----------------------------------------------------------------------------

    pub(crate) fn open_handler(&mut self, prefix: &Path, id: u64) {
        let (queue, requested, waiters) = Default::default();
        self.handlers.insert(id, RequestHandler { handles: 1, queue, requested, waiters });
        self.prefixes.entry(prefix.clone()).or_default().insert(id);
    }

    pub(crate) fn handler(&mut self, id: u64) -> Option<&mut RequestHandler> {
        self.handlers.get_mut(&id)
    }

    /// Removes a handler. Requests that it was not handed go to the next one.
    pub(crate) fn close_handler(&mut self, prefix: &Path, id: u64) -> impl Sized + use<> {
        if let Some(ids) = self.prefixes.get_mut(prefix) {
            ids.remove(&id);
            if ids.is_empty() {
                self.prefixes.remove(prefix);
            }
        }
        let mut handler = self.handlers.remove(&id)?;
        for path in std::mem::take(&mut handler.requested) {
            let Some(pending) = self.pending.get_mut(&path) else { continue };
            pending.handler = None;
            if pending.is_out {
                // It can still be answered, but its requesters may find another handler.
                pending.waiters.take(&mut self.wakes);
            } else {
                self.reassign(&path, true);
            }
        }
        Some(handler.waiters)
    }

    /// Hands out the next request of a handler: its path and number.
    pub(crate) fn hand_out(&mut self, handler: u64) -> Option<(Path, u64)> {
        let (number, path) = self.handlers.get_mut(&handler)?.queue.pop_first()?;
        self.pending.get_mut(&path)?.is_out = true;
        Some((path, number))
    }

    /// The handler of this process with the longest prefix of `path`.
    fn nearest(&self, path: &Path) -> Option<u64> {
        path.covering().find_map(|prefix| self.prefixes.get(prefix)?.last().copied())
    }

    /// Something changed at `path`. Requests there, or below if `reach` covers that, may have a
    /// better handler now. After a new handler their requesters still wait.
    pub(crate) fn recheck(&mut self, path: &Path, reach: Reach) {
        let may_answer = reach != Reach::OnDemand;
        if let Some(awaited) = self.awaited.get_mut(path) {
            awaited.wakers.take(&mut self.wakes);
        }
        if let Some(pending) = self.pending.get_mut(path).filter(|_| may_answer) {
            pending.waiters.take(&mut self.wakes);
        }
        if reach == Reach::Exact {
            return;
        }
        // Requests at a handler with a longer prefix stay there.
        let (from, to) = below(path);
        let range = (Bound::Included(&*from), Bound::Excluded(&*to));
        for (_, awaited) in self.awaited.range_mut::<str, _>(range) {
            awaited.wakers.take(&mut self.wakes);
        }
        let mut concerned = BTreeSet::new();
        for id in path.covering().filter_map(|prefix| self.prefixes.get(prefix)).flatten() {
            let Some(handler) = self.handlers.get(id) else { continue };
            concerned.extend(handler.requested.get(path).cloned());
            concerned.extend(handler.requested.range::<str, _>(range).cloned());
        }
        concerned.iter().for_each(|path| self.reassign(path, may_answer));
    }

    /// Moves a request to the handler with the longest prefix. If something else may answer it,
    /// its requesters are woken to check again.
    fn reassign(&mut self, path: &Path, may_answer: bool) {
        let nearest = self.nearest(path);
        let Some(pending) = self.pending.get_mut(path) else { return };
        if may_answer {
            pending.waiters.take(&mut self.wakes);
        }
        if pending.handler == nearest {
            return;
        }
        if let Some(old) = pending.handler.and_then(|handler| self.handlers.get_mut(&handler)) {
            old.queue.remove(&pending.number);
            old.requested.remove(path);
        }
        if std::mem::take(&mut pending.is_out) {
            pending.unused.take(&mut self.wakes);
        }
        pending.handler = nearest;
        self.last += 1;
        pending.number = self.last;
        if let Some(handler) = nearest.and_then(|handler| self.handlers.get_mut(&handler)) {
            handler.queue.insert(self.last, path.clone());
            handler.requested.insert(path.clone());
            handler.waiters.take(&mut self.wakes);
        }
    }

    // ---- pending requests --------------------------------------------------------------------

    /// The request with this number for a path, if it still has a requester.
    pub(crate) fn wanted(&mut self, path: &Path, number: u64) -> Option<&mut PendingRequest> {
        let pending = self.pending.get_mut(path);
        pending.filter(|pending| pending.number == number && pending.requesters > 0)
    }

    /// Whether the request with this number can still answer for a path, or no other request can.
    pub(crate) fn may_answer(&self, path: &Path, number: u64) -> bool {
        match self.pending.get(path) {
            Some(pending) => pending.number == number,
            None => !self.served.get(&(path.clone(), None)).is_some_and(ServedBroadcast::is_live),
        }
    }

    /// Requests a broadcast from a handler, or joins the pending request.
    pub(super) fn request(
        &mut self,
        path: &Path,
        handler: u64,
        requester: Requester,
        due: Instant,
    ) -> Result<RequestAnswer> {
        if let Some(pending) = self.pending.get_mut(path) {
            if pending.requesters == 0 {
                self.due.remove(&(pending.due, path.clone()));
                self.due.insert((due, path.clone()));
                pending.due = due;
            }
            pending.requesters += 1;
            return Ok(pending.answer.clone());
        }
        let found = self.handlers.get_mut(&handler).ok_or(Error::Unroutable)?;
        self.last += 1;
        let number = self.last;
        found.queue.insert(number, path.clone());
        found.requested.insert(path.clone());
        found.waiters.take(&mut self.wakes);
        let (answer, waiters, unused) = Default::default();
        let (handler, requesters, is_out) = (Some(handler), 1, false);
        let pending = PendingRequest {
            number,
            requester,
            handler,
            requesters,
            is_out,
            due,
            answer,
            waiters,
            unused,
        };
        let answer = pending.answer.clone();
        self.pending.insert(path.clone(), pending);
        self.due.insert((due, path.clone()));
        self.shares.entry(requester).or_default().requested += 1;
        Ok(answer)
    }

    /// Checks that the requester may request one more broadcast.
    pub(super) fn admit(&self, requester: Requester, limits: &Limits) -> Result<()> {
        let share = self.shares.get(&requester).copied().unwrap_or_default();
        if share.requested >= limits.broadcast_requests {
            return Err(TOO_MANY);
        }
        self.admit_answer(requester, limits)
    }

    pub(crate) fn admit_answer(&self, requester: Requester, limits: &Limits) -> Result<()> {
        let answered = self.shares.get(&requester).map_or(0, |share| share.answered);
        match requester.is_some() && answered >= limits.broadcast_answers {
            true => Err(Error::Limit(LimitKind::BroadcastAnswers)),
            false => Ok(()),
        }
    }

    fn discharge(&mut self, requester: Requester, requested: usize, answered: usize) {
        if let Some(share) = self.shares.get_mut(&requester) {
            share.requested -= requested;
            share.answered -= answered;
            if share.requested + share.answered == 0 {
                self.shares.remove(&requester);
            }
        }
    }

    /// Removes a request.
    fn close(&mut self, path: &Path) -> Option<PendingRequest> {
        let mut pending = self.pending.remove(path)?;
        pending.waiters.take(&mut self.wakes);
        pending.unused.take(&mut self.wakes);
        self.due.remove(&(pending.due, path.clone()));
        if let Some(handler) = pending.handler.and_then(|handler| self.handlers.get_mut(&handler)) {
            handler.queue.remove(&pending.number);
            handler.requested.remove(path);
        }
        self.discharge(pending.requester, 1, 0);
        Some(pending)
    }

    /// Answers the request with this number, if it is still the current one. Drop the returned
    /// value after releasing the lock.
    pub(crate) fn answer(
        &mut self,
        path: &Path,
        number: u64,
        answer: Result<BroadcastConsumer>,
    ) -> impl Sized + use<> {
        if self.pending.get(path).is_none_or(|pending| pending.number != number) {
            return (None, Some(answer));
        }
        let pending = self.close(path);
        let unused = pending.as_ref().and_then(|pending| pending.answer.set(answer).err());
        (pending, unused)
    }

    /// The first requester of a path.
    pub(crate) fn requester(&self, path: &Path) -> Requester {
        self.pending.get(path)?.requester
    }

    /// Cancels one requester's part in a request.
    pub(super) fn leave(
        &mut self,
        path: &Path,
        answer: &RequestAnswer,
        slot: &mut WaitSlot,
    ) -> impl Sized + use<> {
        let pending = self.pending.get_mut(path)?;
        if !Arc::ptr_eq(&pending.answer, answer) {
            return None;
        }
        let waker = pending.waiters.free(slot);
        pending.requesters -= 1;
        if pending.requesters > 0 {
            return Some((waker, None));
        }
        if pending.is_out {
            pending.unused.take(&mut self.wakes);
            return Some((waker, None));
        }
        Some((waker, self.close(path)))
    }

    // ---- awaited routes ----------------------------------------------------------------------

    /// Somebody waits for a route to a path, until [`end_await`](Self::end_await).
    pub(super) fn begin_await(&mut self, path: &Path) {
        self.awaited.entry(path.clone()).or_default().waiters += 1;
    }

    /// Wakes the waiter when there may be a route. Drop the returned value after releasing the lock.
    pub(super) fn await_route(
        &mut self,
        path: &Path,
        slot: &mut WaitSlot,
        waker: Waker,
    ) -> Option<Waker> {
        self.awaited.get_mut(path)?.wakers.register(slot, waker)
    }

    /// Drop the returned value after releasing the lock.
    pub(super) fn end_await(&mut self, path: &Path, slot: &mut WaitSlot) -> Option<Waker> {
        let awaited = self.awaited.get_mut(path)?;
        let waker = awaited.wakers.free(slot);
        awaited.waiters -= 1;
        if awaited.waiters == 0 {
            self.awaited.remove(path);
        }
        waker
    }

    /// The first deadline.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Refuses requests whose deadline has passed. Drop the returned values after releasing the
    /// lock.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<PendingRequest> {
        let mut late = Vec::new();
        while let Some((_, path)) = self.due.first().filter(|(due, _)| *due <= now).cloned() {
            let Some(pending) = self.close(&path) else { break };
            let _ = pending.answer.set(Err(Error::Timeout));
            late.push(pending);
        }
        late
    }

    /// Moves the requests with the deadline `before` to `now`.
    pub(super) fn postpone(&mut self, before: Instant, now: Instant) {
        let Self { due, pending, .. } = self;
        let from = (before, Path::root());
        let late = due.range(from..).take_while(|(at, _)| *at == before).cloned();
        for (at, path) in late.collect::<Vec<_>>() {
            due.remove(&(at, path.clone()));
            if let Some(pending) = pending.get_mut(&path) {
                pending.due = now;
            }
            due.insert((now, path));
        }
    }

    // ---- answers -----------------------------------------------------------------------------

    /// Makes the broadcast available. Drop the returned one, which it replaces, after releasing the
    /// lock.
    pub(crate) fn serve(
        &mut self,
        path: &Path,
        session: Option<SessionId>,
        [id, under]: [u64; 2],
        requester: Requester,
        broadcast: &BroadcastConsumer,
        keep_alive: Option<Weak<RegistrationGuard>>,
    ) -> Option<ServedBroadcast> {
        let served =
            ServedBroadcast { id, under, requester, broadcast: broadcast.uncounted(), keep_alive };
        self.shares.entry(requester).or_default().answered += 1;
        let displaced = self.served.insert((path.clone(), session), served)?;
        self.discharge(displaced.requester, 0, 1);
        Some(displaced)
    }

    /// Removes the broadcast that was added with this id.
    pub(crate) fn forget(
        &mut self,
        path: &Path,
        session: Option<SessionId>,
        id: u64,
    ) -> Option<ServedBroadcast> {
        let key = (path.clone(), session);
        if self.served.get(&key)?.id != id {
            return None;
        }
        let served = self.served.remove(&key)?;
        self.discharge(served.requester, 0, 1);
        Some(served)
    }

    /// As [`find`](Self::find), if it was requested under this announcement or under none.
    pub(crate) fn find_under(
        &mut self,
        path: &Path,
        session: Option<SessionId>,
        under: u64,
    ) -> Option<BroadcastConsumer> {
        let served = self.served.get(&(path.clone(), session))?;
        [0, under].contains(&served.under).then(|| self.find(path, session)).flatten()
    }

    pub(crate) fn find(
        &mut self,
        path: &Path,
        session: Option<SessionId>,
    ) -> Option<BroadcastConsumer> {
        let found = self.served.get(&(path.clone(), session))?.live();
        found.map_err(|dead| self.deferred.extend(dead)).ok()
    }

    /// The handler or peer to ask for a broadcast.
    pub(super) fn target_for(
        &self,
        table: &RoutingTable<BroadcastConsumer>,
        path: &Path,
        horizon: Horizon,
    ) -> Option<RequestTarget> {
        let shown = Horizon { on_demand: true, ..horizon };
        let mut routes = table.covering(path).filter(|entry| shown.shows(&entry.route));
        routes.find_map(|entry| match entry.route.session {
            None => Some(RequestTarget::Handler(entry.id)),
            Some(peer) if self.peers.contains_key(&peer) => {
                let route = Route { reach: Reach::Exact, ..entry.route.clone() };
                Some(RequestTarget::Peer(peer, entry.first, route))
            }
            Some(_) => None,
        })
    }
}

/// A handler or peer that can be asked for a broadcast.
pub(super) enum RequestTarget {
    Handler(u64),
    /// With the id of the announcement that covers the path.
    Peer(SessionId, u64, Route),
}

census! { each RequestHandler { counts: handles, queue, requested, waiters; } }

census! { each PendingRequest {
    counts: requesters, waiters, unused;
    plain: number, requester, handler, is_out, due, answer;
} }

census! { each AwaitedRoute { counts: waiters, wakers; } }

census! { each ServedBroadcast { within: broadcast; plain: id, under, requester, keep_alive; } }

census! { BroadcastRequests {
    counts: prefixes, due, scheduled, shares, deferred;
    within: handlers, pending, awaited, served, peers;
    plain: last, wakes;
} }

/// Requests that a session has not taken yet.
#[derive(Default)]
pub(crate) struct PeerQueue {
    pub(super) requested: VecDeque<(Path, Upstream, Requester)>,
    /// How many of them each requester made.
    pub(super) shares: BTreeMap<Requester, usize>,
    pub(super) waiters: Wakers,
}

impl PeerQueue {
    pub(super) fn take(&mut self) -> Option<(Path, Upstream)> {
        let (path, upstream, requester) = self.requested.pop_front()?;
        if let Some(share) = self.shares.get_mut(&requester) {
            *share -= 1;
            if *share == 0 {
                self.shares.remove(&requester);
            }
        }
        Some((path, upstream))
    }
}

census! { each PeerQueue { counts: requested, shares, waiters; } }
