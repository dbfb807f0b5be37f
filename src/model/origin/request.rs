//! Broadcasts that are asked for by name: announced ones, else those that somebody answers for.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Poll, Waker};

use super::super::Result;
use super::super::broadcast::{BroadcastConsumer, BroadcastProducer, Supplier};
use super::super::route::{Horizon, Reach, Route, SessionId};
use super::super::scope::Scope;
use super::super::table::{Table, Way};
use super::super::wakers::{WaitSlot, Wakers, Woken, lock, wait};
use super::{OriginConsumer, OriginProducer, Place, Shared, State};
use crate::census::census;
use crate::{Error, Path};

/// Why one more broadcast can't be asked for.
const TOO_MANY: Error = Error::Limit("requests for broadcasts");

/// What is asked for that is not announced, who answers, and what was answered.
#[derive(Default)]
pub(super) struct Requests {
    /// By id of their way in the table.
    handlers: BTreeMap<u64, Handler>,
    pending: BTreeMap<Path, Pending>,
    /// Broadcasts that are found without being announced, by the session that brings them.
    served: BTreeMap<(Path, Option<SessionId>), Served>,
    /// The sessions that can be asked.
    peers: BTreeMap<SessionId, Peer>,
    /// Who is to be woken after the unlock.
    due: Woken,
}

/// Who answers for a prefix.
pub(super) struct Handler {
    pub(super) handles: usize,
    /// What was not handed out yet.
    queue: VecDeque<Path>,
    pub(super) waiters: Wakers,
}

/// A broadcast that was asked for and is not there.
pub(super) struct Pending {
    handler: u64,
    askers: usize,
    /// Whether there is a `BroadcastRequest`, which stays until it is answered.
    is_out: bool,
    answer: Answer,
    waiters: Wakers,
    /// Who waits for the last asker to go.
    pub(super) unused: Wakers,
}

type Answer = Arc<OnceLock<Result<BroadcastConsumer>>>;

pub(super) struct Served {
    id: u64,
    /// The announcement under which it was asked for, if there was one: under another one it is another.
    under: u64,
    /// Who only knows of it.
    broadcast: BroadcastConsumer,
}

/// What a session was asked for and did not take yet.
#[derive(Default)]
struct Peer {
    asked: VecDeque<(Path, Supplier)>,
    waiters: Wakers,
}

impl Requests {
    pub(super) fn take_due(&mut self) -> Woken {
        std::mem::take(&mut self.due)
    }

    pub(super) fn open_handler(&mut self, id: u64) {
        let handler = Handler { handles: 1, queue: VecDeque::new(), waiters: Wakers::default() };
        self.handlers.insert(id, handler);
    }

    pub(super) fn handler(&mut self, id: u64) -> Option<&mut Handler> {
        self.handlers.get_mut(&id)
    }

    /// Nobody answers there any more.
    pub(super) fn close_handler(&mut self, id: u64, error: &Error) -> impl Sized + use<> {
        let handler = self.handlers.remove(&id);
        let queue = handler.as_ref().map(|handler| handler.queue.clone()).unwrap_or_default();
        queue.iter().for_each(|path| drop(self.answer(path, Err(error.clone()))));
        handler.map(|handler| handler.waiters)
    }

    /// The next path that a handler is asked for.
    pub(super) fn hand_out(&mut self, handler: u64) -> Option<Path> {
        let path = self.handlers.get_mut(&handler)?.queue.pop_front()?;
        self.pending.get_mut(&path)?.is_out = true;
        Some(path)
    }

    /// The request for a path, if anybody still wants it.
    pub(super) fn wanted(&mut self, path: &Path) -> Option<&mut Pending> {
        self.pending.get_mut(path).filter(|pending| pending.askers > 0)
    }

    /// There may be an answer for who asked for `path`.
    pub(super) fn announced(&mut self, path: &Path) {
        if let Some(pending) = self.pending.get_mut(path) {
            pending.waiters.take(&mut self.due);
        }
    }

    /// Tells those who asked. What comes back is to be dropped after the unlock.
    pub(super) fn answer(
        &mut self,
        path: &Path,
        answer: Result<BroadcastConsumer>,
    ) -> impl Sized + use<> {
        let mut pending = self.pending.remove(path)?;
        pending.waiters.take(&mut self.due);
        pending.unused.take(&mut self.due);
        let unused = pending.answer.set(answer).err();
        Some((pending, unused))
    }

    /// From now on the broadcast is found. What was found before is to be dropped after the unlock.
    pub(super) fn serve(
        &mut self,
        path: &Path,
        session: Option<SessionId>,
        [id, under]: [u64; 2],
        broadcast: &BroadcastConsumer,
    ) -> Option<Served> {
        let served = Served { id, under, broadcast: broadcast.knows() };
        self.served.insert((path.clone(), session), served)
    }

    /// The broadcast that was entered with this id has ended.
    pub(super) fn forget(&mut self, path: &Path, id: u64) -> Option<Served> {
        let at = (path.clone(), None)..=(path.clone(), Some(SessionId(u64::MAX)));
        let key = self.served.range(at).find(|(_, served)| served.id == id)?.0.clone();
        self.served.remove(&key)
    }

    fn find(&self, path: &Path, session: Option<SessionId>) -> Option<BroadcastConsumer> {
        self.served.get(&(path.clone(), session))?.broadcast.live()
    }

    /// Who is to be asked for a broadcast that is not there.
    fn choose(
        &self,
        table: &Table<BroadcastConsumer>,
        path: &Path,
        horizon: Horizon,
    ) -> Option<Asked> {
        let shown = Horizon { on_demand: true, ..horizon };
        let mut ways = table.covering(path).filter(|way| shown.shows(&way.route));
        ways.find_map(|way| match way.route.session {
            None => Some(Asked::Handler(way.id)),
            Some(peer) if self.peers.contains_key(&peer) => {
                let route = Route { reach: Reach::Exact, ..way.route.clone() };
                Some(Asked::Peer(peer, way.first, route))
            }
            Some(_) => None,
        })
    }

    /// Asks a handler, or joins those who did. Fails past `limit`.
    fn ask(&mut self, path: &Path, handler: u64, limit: usize) -> Result<Answer> {
        if let Some(pending) = self.pending.get_mut(path) {
            pending.askers += 1;
            return Ok(pending.answer.clone());
        }
        if self.pending.len() >= limit {
            return Err(TOO_MANY);
        }
        let found = self.handlers.get_mut(&handler).ok_or(Error::Unroutable)?;
        found.queue.push_back(path.clone());
        found.waiters.take(&mut self.due);
        let (answer, waiters, unused) = Default::default();
        let pending = Pending { handler, askers: 1, is_out: false, answer, waiters, unused };
        let answer = pending.answer.clone();
        self.pending.insert(path.clone(), pending);
        Ok(answer)
    }

    /// One who asked waits no longer.
    fn leave(&mut self, asking: &mut Asking) -> impl Sized + use<> {
        let pending = self.pending.get_mut(&asking.path)?;
        if !Arc::ptr_eq(&pending.answer, &asking.answer) {
            return None;
        }
        let waker = pending.waiters.free(&mut asking.slot);
        pending.askers -= 1;
        if pending.askers > 0 {
            return Some((waker, None));
        }
        if pending.is_out {
            pending.unused.take(&mut self.due);
            return Some((waker, None));
        }
        if let Some(handler) = self.handlers.get_mut(&pending.handler) {
            handler.queue.retain(|path| *path != asking.path);
        }
        Some((waker, self.pending.remove(&asking.path)))
    }
}

/// Who can be asked for a broadcast that is not there.
enum Asked {
    Handler(u64),
    /// And the announcement that says so.
    Peer(SessionId, u64, Route),
}

impl Shared {
    /// The broadcast at the whole path `path`, or who was asked for it: an announced one first, then one
    /// that was accepted, then whoever answers for the longest prefix.
    pub(super) fn request(self: &Arc<Self>, path: Path, horizon: Horizon) -> Result<Found> {
        // The second one is dropped after the unlock.
        let (found, _displaced) = self.quietly(|state| {
            let State { table, requests, .. } = state;
            if let Some(way) = table.best(&path, horizon) {
                return (Ok(Found::Here(way.broadcast.clone())), None);
            }
            if let Some(broadcast) = requests.find(&path, None) {
                return (Ok(Found::Here(broadcast)), None);
            }
            match requests.choose(table, &path, horizon) {
                None => (Err(Error::Unroutable), None),
                Some(Asked::Handler(handler)) => {
                    let limit = self.cache.limits().broadcast_requests;
                    let asking = requests.ask(&path, handler, limit).map(|answer| {
                        let (shared, slot) = (self.clone(), WaitSlot::default());
                        Found::Asked(Asking { shared, path, horizon, answer, slot })
                    });
                    (asking, None)
                }
                Some(Asked::Peer(peer, under, route)) => {
                    // By another route it may lead back to who asks.
                    let known = requests.served.get(&(path.clone(), Some(peer)));
                    let known = known.filter(|served| served.under == under);
                    let known = known.filter(|served| served.broadcast.route() == route);
                    if let Some(broadcast) = known.and_then(|served| served.broadcast.live()) {
                        return (Ok(Found::Here(broadcast)), None);
                    }
                    let (result, displaced) = self.ask_peer(state, path, peer, under, route);
                    (result.map(Found::Here), displaced)
                }
            }
        });
        found
    }

    /// A broadcast that a session brings, if its peer has it, which is known when a track is asked for.
    fn ask_peer(
        self: &Arc<Self>,
        state: &mut State,
        path: Path,
        peer: SessionId,
        under: u64,
        route: Route,
    ) -> (Result<BroadcastConsumer>, Option<Served>) {
        let State { table, requests, .. } = state;
        let Some(queue) = requests.peers.get_mut(&peer) else {
            return (Err(Error::SessionClosed), None);
        };
        if queue.asked.len() >= self.cache.limits().broadcast_requests {
            return (Err(TOO_MANY), None);
        }
        let fresh = BroadcastProducer::new(path.clone(), self.cache.clone(), route.clone());
        let broadcast = fresh.consume();
        let mut supplier = fresh.supply(route);
        let id = table.spare_id();
        supplier.settle(Place { origin: Arc::downgrade(self), path: path.clone(), id });
        queue.asked.push_back((path.clone(), supplier));
        queue.waiters.take(&mut requests.due);
        let displaced = requests.serve(&path, Some(peer), [id, under], &broadcast);
        (Ok(broadcast), displaced)
    }
}

/// What there is of a broadcast that is asked for.
pub(crate) enum Found {
    /// All of it.
    Here(BroadcastConsumer),
    /// A request that somebody is to answer.
    Asked(Asking),
}

/// Waits for the answer to a request. Dropped it takes its part in the request back.
pub(crate) struct Asking {
    shared: Arc<Shared>,
    path: Path,
    horizon: Horizon,
    answer: Answer,
    slot: WaitSlot,
}

impl Asking {
    /// The broadcast, also if somebody announced it meanwhile.
    pub(crate) fn poll(&mut self, waker: Option<&Waker>) -> Poll<Result<BroadcastConsumer>> {
        let waker = waker.cloned();
        // Declared before the guard: dropped after the unlock.
        let _unused;
        let mut state = lock(&self.shared.state);
        if let Some(answer) = self.answer.get() {
            return Poll::Ready(answer.clone());
        }
        let horizon = Horizon { on_demand: false, ..self.horizon };
        if let Some(way) = state.table.best(&self.path, horizon) {
            return Poll::Ready(Ok(way.broadcast.clone()));
        }
        let pending = state.requests.pending.get_mut(&self.path);
        _unused = waker
            .zip(pending)
            .and_then(|(waker, pending)| pending.waiters.register(&mut self.slot, waker));
        Poll::Pending
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let shared = self.shared.clone();
        drop(shared.quietly(|state| state.requests.leave(self)));
    }
}

impl OriginConsumer {
    wait! {
        /// The broadcast at `path`: one that is announced, or else one that somebody answers for without
        /// announcing it, an [`OriginDynamic`](super::OriginDynamic) here or a peer that announced a prefix
        /// of it (moq-lite 06 and later, moq-transport). The longest prefix is asked. Whether a peer has it
        /// is known when a track is asked for.
        ///
        /// The request stands until it is answered, another path is asked for, or this handle is dropped.
        ///
        /// Errors: [`Error::Unroutable`], at once, if nobody answers for it; that of who was asked;
        /// [`Error::Limit`] past [`Limits::broadcast_requests`](crate::Limits::broadcast_requests);
        /// [`Error::Unauthorized`] outside of what this handle sees.
        next_requested => poll_request_broadcast, request_broadcast, try_request_broadcast(
            path: &str
        ) -> Result<BroadcastConsumer>
    }

    fn next_requested(
        &mut self,
        waker: Option<&Waker>,
        path: &str,
    ) -> Poll<Result<BroadcastConsumer>> {
        let absolute = self.reader.scope().absolute(&path.into());
        let Some(path) = absolute else { return Poll::Ready(Err(Error::Unauthorized)) };
        let asking = match &mut self.asking {
            Some(asking) if asking.path == path => asking,
            other => match self.shared.request(path, Horizon::default())? {
                Found::Here(broadcast) => {
                    *other = None;
                    return Poll::Ready(Ok(broadcast));
                }
                Found::Asked(asking) => other.insert(asking),
            },
        };
        let answer = asking.poll(waker);
        if answer.is_ready() {
            self.asking = None;
        }
        answer
    }
}

/// The peer of one session, to be asked for broadcasts that it need not have announced.
#[derive(Clone)]
pub(crate) struct PeerName {
    origin: Weak<Shared>,
    scope: Scope,
    session: SessionId,
}

impl PeerName {
    /// Errors: [`Error::Unauthorized`], [`Error::SessionClosed`], [`Error::Limit`].
    pub(crate) fn request(&self, path: &Path) -> Result<BroadcastConsumer> {
        let path = self.scope.absolute(path).ok_or(Error::Unauthorized)?;
        let origin = self.origin.upgrade().ok_or(Error::SessionClosed)?;
        let (broadcast, _displaced) = origin.quietly(|state| {
            let mut ways = state.table.ways(&path).iter();
            let announced = ways.find(|way| way.route.session == Some(self.session));
            let known = announced.map(|way| way.broadcast.clone());
            if let Some(known) = known {
                return (Ok(known), None);
            }
            let session = Some(self.session);
            let is_own = |way: &&Way<_>| way.route.session == session;
            let under = state.table.covering(&path).find(is_own).map_or(0, |way| way.first);
            let served = state.requests.served.get(&(path.clone(), session));
            let served = served.filter(|served| [0, under].contains(&served.under));
            if let Some(known) = served.and_then(|served| served.broadcast.live()) {
                return (Ok(known), None);
            }
            let route = Route { session, ..Route::default() };
            origin.ask_peer(state, path, self.session, under, route)
        });
        broadcast
    }
}

impl fmt::Debug for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PeerName").field(&self.session).finish()
    }
}

/// Where a session is asked for broadcasts that its peer did not announce. Dropped, it can't be asked any
/// more.
pub(crate) struct PeerDoor {
    name: PeerName,
    slot: WaitSlot,
}

impl fmt::Debug for PeerDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PeerDoor").field(&self.name.session).finish()
    }
}

impl OriginProducer {
    pub(crate) fn open_door(&self, session: SessionId) -> PeerDoor {
        lock(&self.shared.state).requests.peers.insert(session, Peer::default());
        let origin = Arc::downgrade(&self.shared);
        let name = PeerName { origin, scope: self.scope.clone(), session };
        PeerDoor { name, slot: WaitSlot::default() }
    }
}

impl PeerDoor {
    pub(crate) fn name(&self) -> &PeerName {
        &self.name
    }

    /// The next broadcast that the peer is to be asked for, by its path there.
    pub(crate) fn poll_asked(&mut self, waker: &Waker) -> Poll<(Path, Supplier)> {
        let PeerName { origin, scope, session } = &self.name;
        let Some(origin) = origin.upgrade() else { return Poll::Pending };
        let waker = waker.clone();
        // Declared before the guard: dropped after the unlock.
        let _displaced;
        let mut state = lock(&origin.state);
        let Some(peer) = state.requests.peers.get_mut(session) else { return Poll::Pending };
        if let Some((path, supplier)) = peer.asked.pop_front() {
            return Poll::Ready((scope.relative(&path).unwrap_or_default(), supplier));
        }
        _displaced = peer.waiters.register(&mut self.slot, waker);
        Poll::Pending
    }
}

impl Drop for PeerDoor {
    fn drop(&mut self) {
        let Some(origin) = self.name.origin.upgrade() else { return };
        let peer = lock(&origin.state).requests.peers.remove(&self.name.session);
        for (_, supplier) in peer.map(|peer| peer.asked).into_iter().flatten() {
            supplier.leave(Err(Error::SessionClosed));
        }
    }
}

census! { each Handler { counts: handles, queue, waiters; } }
census! { each Pending { counts: askers, waiters, unused; plain: handler, is_out, answer; } }
census! { each Served { within: broadcast; plain: id, under; } }
census! { each Peer { counts: asked, waiters; } }
census! { Requests { within: handlers, pending, served, peers; plain: due; } }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hop, Origin, Subscription, TrackInfo};

    const PEER: SessionId = SessionId(7);

    fn asked(door: &mut PeerDoor) -> Option<(Path, Supplier)> {
        match door.poll_asked(Waker::noop()) {
            Poll::Ready(asked) => Some(asked),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_broadcast_of_a_peer_lasts_as_long_as_somebody_reads() {
        let origin = Origin::new(Hop::new(1)).produce().with_root("org").unwrap();
        let mut door = origin.open_door(PEER);
        let peer = door.name().clone();
        let one = peer.request(&Path::new("a")).unwrap();
        assert!(peer.request(&Path::new("a")).unwrap().is_clone(&one), "there is one for all");
        let (path, mut supplier) = asked(&mut door).unwrap();
        assert_eq!((path.as_str(), one.path().as_str()), ("a", "org/a"));
        assert!(asked(&mut door).is_none());
        let mut is_vacant = || supplier.is_vacant(Waker::noop());
        assert!(!is_vacant());
        let reader = one.subscribe_track("video", Subscription::default()).unwrap();
        drop(one);
        assert!(!is_vacant(), "a track is read");
        let again = peer.request(&Path::new("a")).unwrap();
        drop(reader);
        assert!(!is_vacant());
        // Nobody wants the track any more, so it is not asked for.
        assert!(supplier.poll_request(Waker::noop()).is_pending());
        drop(again);
        assert!(supplier.is_vacant(Waker::noop()));
        let other = peer.request(&Path::new("a")).unwrap();
        assert!(!other.is_closed(), "it is another one");
        drop(door);
        assert_eq!(other.clone().try_closed(), Poll::Ready(Err(Error::SessionClosed)));
        assert_eq!(peer.request(&Path::new("a")).err(), Some(Error::SessionClosed));
    }

    #[test]
    fn a_track_is_not_cut_off_from_who_comes_in_the_last_instant() {
        let origin = Origin::new(Hop::new(1)).produce();
        let mut door = origin.open_door(PEER);
        let broadcast = door.name().request(&Path::new("a")).unwrap();
        let (_, mut supplier) = asked(&mut door).unwrap();
        let read = || broadcast.subscribe_track("video", Subscription::default()).unwrap();
        let first = read();
        let Poll::Ready(mut source) = supplier.poll_request(Waker::noop()) else { panic!() };
        source.accept(TrackInfo::default()).unwrap();
        drop(first);
        // The session has seen that nobody reads, and is about to cancel.
        let mut late = read();
        assert!(!source.abort_unasked(Error::Cancelled));
        assert!(late.try_recv_group().is_pending());
        drop(late);
        assert!(source.abort_unasked(Error::Cancelled));
        drop(read());
        assert!(supplier.poll_request(Waker::noop()).is_pending(), "another one that nobody wants");
    }
}
