//! Origins: the table of broadcasts by path, and who is told of its changes.

use std::cmp::Reverse;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Poll, Waker};

mod dynamic;
mod peer;
mod reader;
mod request;

use super::Result;
use super::broadcast::{BroadcastConsumer, BroadcastProducer, Supplier};
use super::budget::Cache;
use super::clock::Clock;
use super::route::{DOUBT_TIME, Horizon, Reach, Route, SessionId};
use super::scope::Scope;
use super::table::{Change, Reader, Room, Speech, Table, Way};
use super::wakers::{WaitSlot, Woken, lock, wait};
use crate::census::census;
use crate::{Cost, Error, Hop, Instant, Limits, Path};

use request::Requests;

pub use dynamic::{BroadcastRequest, OriginDynamic};
pub(crate) use peer::{PeerDoor, PeerName};
pub(crate) use reader::AnnounceReader;
pub(crate) use request::{Asking, Found, Stay};

/// A collection of broadcasts, each under a path: what sessions publish from and consume into.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Origin {
    /// Who this is in the hops of announcements. It should be random, below 2^53, the same for
    /// all sessions of the origin, and another one when the process starts again: what has the same
    /// first hop is taken for the same content. Default: [`Hop::UNKNOWN`], by which no loop can be seen.
    pub hop: Hop,
    /// Bounds for all that is cached here.
    pub limits: Limits,
}

impl Origin {
    /// An origin that is called `hop`, with the default limits.
    pub fn new(hop: Hop) -> Self {
        Self { hop, limits: Limits::default() }
    }

    /// Sets [`limits`](Self::limits).
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Makes its first producer, with a cache and a clock of its own.
    pub fn produce(self) -> OriginProducer {
        let state = State { producers: 1, ..State::default() };
        let cache = Cache::new(self.limits);
        let shared = Shared {
            hop: self.hop,
            timed: cache.timed_id(),
            turn: AtomicU64::new(0),
            cache,
            clock: Clock::default(),
            state: Mutex::new(state),
        };
        OriginProducer { shared: Arc::new(shared), scope: Scope::default() }
    }
}

/// What all handles of an origin share.
struct Shared {
    hop: Hop,
    cache: Arc<Cache>,
    /// What the cache knows its deadlines by.
    timed: u64,
    /// In which turn of the cache something was asked for last.
    turn: AtomicU64,
    clock: Clock,
    state: Mutex<State>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.cache.schedule(self.timed, state.requests.scheduled, None);
    }
}

#[derive(Default)]
struct State {
    table: Table<BroadcastConsumer>,
    /// What is asked for that is not in the table.
    requests: Requests,
    producers: usize,
}

impl Shared {
    /// Changes the state, then wakes those who wait for what changed.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> T) -> T {
        let mut woken = Woken::default();
        let result = self.quietly(|state| {
            let result = change(state);
            woken = state.table.take_due();
            result
        });
        woken.wake();
        result
    }

    /// Changes what concerns requests, then wakes those whom it concerns.
    fn quietly<T>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        let result = change(&mut state);
        self.schedule(&mut state);
        let (mut woken, debris) = state.requests.take_rest();
        drop(state);
        drop(debris);
        woken.wake();
        result
    }

    /// What `next` gives, or else leaves the waker wherever `reader` listens. Others get the lock in between if
    /// there is much to read.
    fn read<T>(
        &self,
        reader: &mut Reader,
        waker: Option<&Waker>,
        mut next: impl FnMut(&mut Reader, &mut State) -> Option<T>,
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

    /// Takes what a reader left out of the state.
    fn forget(&self, reader: &mut Reader) {
        let mut state = lock(&self.state);
        let spare = reader.forget(&mut state.table);
        drop(state);
        drop(spare);
    }
}

/// A handle's wish for what is at one path.
#[derive(Default)]
struct Seek(Option<(Path, WaitSlot)>);

impl Seek {
    /// What `ready` gives, or else leaves the waker at `path`, and nowhere else.
    fn wait<T>(
        &mut self,
        shared: &Shared,
        path: Path,
        waker: Option<&Waker>,
        ready: impl FnOnce(&mut State) -> Option<T>,
    ) -> Poll<T> {
        let waker = waker.cloned();
        // Declared before the guard: dropped after the unlock.
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
            state.table.seek(&path);
            self.0 = Some((path, WaitSlot::default()));
        }
        _spare = self.0.as_mut().and_then(|(path, slot)| state.table.wait_at(path, slot, waker));
        Poll::Pending
    }

    fn end(&mut self, state: &mut State) -> Option<Waker> {
        let (path, mut slot) = self.0.take()?;
        state.table.give_up(&path, &mut slot)
    }
}

/// The ways to what `route` brings too, the newest broadcast first: same first hop, and everybody on the way
/// says who it is. None of the broadcast that the way `over` led to and of older ones: who tells of the new
/// route says that it is another. Nor of one that its publisher brings itself by another session, if the
/// publisher dialed again: it would not do that for one thing, so it was started again. Only if one of
/// both says that the old session is about to end (GOAWAY) it is known to live.
fn same_content<'a, B>(
    ways: &'a [Way<B>],
    route: &Route,
    over: Option<u64>,
) -> impl Iterator<Item = &'a Way<B>> + use<'a, B> {
    let over = ways.iter().find(|way| Some(way.id) == over).map(|way| way.first);
    let dials_again = route.accepted && route.is_direct();
    let lives = |way: &Way<B>| way.route.cost == Cost::DRAINED;
    let restarted = |way: &&Way<B>| dials_again && way.route.is_direct() && !lives(way);
    let content = route.content();
    let same = |way: &&Way<B>| content.is_some() && way.route.content() == content;
    let restarted = ways.iter().filter(same).filter(restarted).map(|way| way.first).max();
    let bound = over.max(restarted).unwrap_or(0);
    let mut same: Vec<_> = ways.iter().filter(same).filter(|way| way.first > bound).collect();
    same.sort_by_key(|way| Reverse(way.first));
    same.into_iter()
}

/// Where an origin has a broadcast.
#[derive(Clone)]
pub(super) struct Place {
    origin: Weak<Shared>,
    path: Path,
    id: u64,
    entry: Entry,
}

/// How a broadcast came to its [`Place`].
#[derive(Clone, Copy)]
enum Entry {
    /// It stands in the table.
    Announced,
    /// It was asked for, of a session or of somebody here.
    Requested(Option<SessionId>),
}

impl Place {
    /// Whether the origin is still there.
    pub(super) fn exists(&self) -> bool {
        self.origin.strong_count() > 0
    }

    /// Takes the broadcast out of the origin.
    pub(super) fn leave(&self) {
        let Some(origin) = self.origin.upgrade() else { return };
        // Dropped here and not under the lock: it may be the last handle of its broadcast.
        match self.entry {
            Entry::Announced => {
                drop(origin.change(|state| state.table.remove(&self.path, self.id)))
            }
            Entry::Requested(session) => {
                drop(origin.quietly(|state| state.requests.forget(&self.path, session, self.id)));
            }
        }
    }

    /// Takes the way out of the table whose peer says that it has none any more.
    pub(super) fn withdraw(&self) {
        let Some(origin) = self.origin.upgrade() else { return };
        let until = origin.cache.now() + DOUBT_TIME;
        drop(origin.change(|state| {
            let lost = state.table.remove(&self.path, self.id)?;
            state.table.doubt(&self.path, &lost, until);
            Some(lost)
        }));
    }

    /// The broadcast comes by another route.
    pub(super) fn reroute(&self, route: Route) {
        if let Some(origin) = self.origin.upgrade() {
            origin.change(|state| {
                let reach = route.reach;
                state.table.reroute(&self.path, self.id, route);
                state.requests.look_again(&self.path, reach);
            });
        }
    }
}

/// Publishes broadcasts. Clones publish into the same origin.
pub struct OriginProducer {
    shared: Arc<Shared>,
    scope: Scope,
}

impl OriginProducer {
    /// Who this is in the hops of announcements.
    pub fn hop(&self) -> Hop {
        self.shared.hop
    }

    /// Makes a broadcast and announces it at once. It is unannounced when it is finished or aborted,
    /// or when its last producer is dropped.
    ///
    /// `path` is relative to [`root`](Self::root). Outside of [`allowed`](Self::allowed):
    /// [`Error::Unauthorized`]; [`Error::Limit`] past [`Limits::path_bytes`]. If the path is taken, this one is
    /// shown from now on, here and to peers, who hear of an end and a beginning; the other stands by until this
    /// one ends. Of broadcasts of peers the newest is shown too, unless somebody on the way to it does not say
    /// who it is.
    pub fn create_broadcast(&self, path: impl Into<Path>) -> Result<BroadcastProducer> {
        let broadcast = self.unannounced(path.into(), Route::default())?;
        self.place(broadcast.path().clone(), &broadcast.consume())?;
        Ok(broadcast)
    }

    /// Announces a broadcast from elsewhere under `path` too, until it ends. Again under the same path
    /// does nothing.
    ///
    /// Errors: [`Error::Unauthorized`] and [`Error::Limit`] as for
    /// [`create_broadcast`](Self::create_broadcast); [`Error::Unroutable`] if it came through this very origin by way of a peer; why it ended if it
    /// did, [`Error::Closed`] for a clean end.
    pub fn publish_broadcast(
        &self,
        path: impl Into<Path>,
        broadcast: &BroadcastConsumer,
    ) -> Result<()> {
        let path = self.absolute(&path.into())?;
        self.place(path, broadcast)
    }

    /// Announces a broadcast that a peer has. If it is there already, with the same content, this is
    /// another way to it; otherwise it is one of its own. Who hears of it may subscribe at once, from
    /// another thread, so there is somebody who is asked before it is announced.
    pub(crate) fn announce_remote(&self, path: Path, route: Route) -> Result<Supplier> {
        self.announce(path, route, None)
    }

    /// As [`announce_remote`](Self::announce_remote), of a peer that says in the same breath that what it
    /// had is over: this is not that.
    pub(crate) fn announce_anew(
        &self,
        path: Path,
        route: Route,
        over: &Supplier,
    ) -> Result<Supplier> {
        self.announce(path, route, over.place().map(|place| place.id))
    }

    fn announce(&self, path: Path, route: Route, over: Option<u64>) -> Result<Supplier> {
        let fresh = self.unannounced(path, route.clone())?;
        let path = fresh.path();
        let (mut supplier, place) = self.shared.change(|state| {
            if route.hops.contains(self.shared.hop) {
                return Err(Error::Unroutable);
            }
            let reach = route.reach;
            let joined = same_content(state.table.ways(path), &route, over).find_map(|way| {
                Some((way.broadcast.join(path, &self.shared.cache, &route)?, way.clone()))
            });
            let (supplier, id) = match joined {
                Some((supplier, way)) => (supplier, state.table.join(path, way, route.clone())),
                None => {
                    let supplier = fresh.supply(route.clone());
                    (supplier, state.table.insert(path, route.clone(), fresh.consume()))
                }
            };
            state.requests.look_again(path, reach);
            let origin = Arc::downgrade(&self.shared);
            let entry = Entry::Announced;
            Ok((supplier, Place { origin, path: path.clone(), id, entry }))
        })?;
        supplier.settle(place);
        Ok(supplier)
    }

    /// The whole path of what is called `path` here.
    fn absolute(&self, path: &Path) -> Result<Path> {
        self.shared.cache.limits().check_path(path)?;
        self.scope.absolute(path).ok_or(Error::Unauthorized)
    }

    fn unannounced(&self, path: Path, route: Route) -> Result<BroadcastProducer> {
        let path = self.absolute(&path)?;
        Ok(BroadcastProducer::new(path, self.shared.cache.clone(), route))
    }

    fn place(&self, path: Path, broadcast: &BroadcastConsumer) -> Result<()> {
        self.shared.change(|state| {
            if state.table.ways(&path).iter().any(|way| way.broadcast.is_clone(broadcast)) {
                return Ok(());
            }
            broadcast.settle(|route| {
                if route.hops.contains(self.shared.hop) {
                    return Err(Error::Unroutable);
                }
                // Elsewhere it is one broadcast, whatever is below it there.
                let route = Route { reach: Reach::Exact, ..route.clone() };
                let id = state.table.insert(&path, route, broadcast.clone());
                state.requests.look_again(&path, Reach::Exact);
                let (origin, entry) = (Arc::downgrade(&self.shared), Entry::Announced);
                Ok(Place { origin, path, id, entry })
            })
        })
    }

    /// A reader of what is announced, from the start.
    pub fn consume(&self) -> OriginConsumer {
        OriginConsumer::new(self.shared.clone(), self.scope.clone())
    }

    /// A producer for what is below one of `prefixes` only, relative to [`root`](Self::root).
    /// `None` if nothing is left.
    pub fn scope(&self, prefixes: &[Path]) -> Option<Self> {
        self.scope.narrowed(prefixes).map(|scope| self.with_scope(scope))
    }

    /// A producer whose paths are below `prefix`. `None` if nothing there is allowed.
    pub fn with_root(&self, prefix: impl Into<Path>) -> Option<Self> {
        self.scope.rooted(&prefix.into()).map(|scope| self.with_scope(scope))
    }

    /// What is put in front of every path.
    pub fn root(&self) -> &Path {
        self.scope.root()
    }

    /// The prefixes, relative to [`root`](Self::root), below which it may publish.
    pub fn allowed(&self) -> impl Iterator<Item = &Path> {
        self.scope.allowed()
    }

    /// Whether it may publish under `path`, relative to [`root`](Self::root).
    pub fn allows(&self, path: &Path) -> bool {
        self.scope.absolute(path).is_some()
    }

    /// Moves the origin's time forward, never back, drops what expired and gives up what was not answered
    /// in time. For origins without a session: each session does the same.
    pub fn advance(&self, now: Instant) {
        // Who tells the time by hand told it before writing.
        self.shared.cache.pause();
        self.shared.cache.advance(now);
    }

    /// Bytes that all tracks of the origin keep now, with what it takes to keep them.
    pub fn cached_bytes(&self) -> u64 {
        self.shared.cache.used()
    }

    /// Converts to the time of this origin.
    pub fn clock(&self) -> Clock {
        self.shared.clock.clone()
    }

    /// Where the tracks of this origin are kept.
    pub(crate) fn cache(&self) -> &Arc<Cache> {
        &self.shared.cache
    }

    fn with_scope(&self, scope: Scope) -> Self {
        lock(&self.shared.state).producers += 1;
        Self { shared: self.shared.clone(), scope }
    }
}

impl Clone for OriginProducer {
    fn clone(&self) -> Self {
        self.with_scope(self.scope.clone())
    }
}

impl Drop for OriginProducer {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.producers -= 1;
        if state.producers == 0 {
            drop(state);
            self.shared.change(|state| state.table.wake_all());
        }
    }
}

impl fmt::Debug for OriginProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginProducer").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// A change of what is announced.
#[derive(Clone, Debug)]
pub struct Announce {
    /// Relative to the root of the consumer that gave it.
    pub path: Path,
    /// The broadcast; `None` if the one that was announced before is gone.
    pub broadcast: Option<BroadcastConsumer>,
}

/// Finds broadcasts, and hears of new ones. A clone goes on where the original is.
pub struct OriginConsumer {
    shared: Arc<Shared>,
    reader: Reader,
    seek: Seek,
    /// The broadcast that it asked for and that is not there yet.
    asking: Option<Asking>,
}

impl OriginConsumer {
    /// Who the origin is in announcements.
    pub fn hop(&self) -> Hop {
        self.shared.hop
    }

    fn new(shared: Arc<Shared>, scope: Scope) -> Self {
        let reader = Reader::new(scope, Horizon::default(), Speech::default());
        Self { shared, reader, seek: Seek::default(), asking: None }
    }

    wait! {
        /// The next change: first all that is there, then what comes and goes.
        ///
        /// `None`: every [`OriginProducer`] is gone and everything was told. What happens between two
        /// calls is coalesced: a broadcast that came and went is not mentioned, one that was replaced
        /// is gone and then announced. That the same content comes by another route is no change.
        next_announced => poll_announced, announced, try_announced() -> Option<Announce>
    }

    fn next_announced(&mut self, waker: Option<&Waker>) -> Poll<Option<Announce>> {
        let Self { shared, reader, .. } = self;
        let now = shared.cache.now();
        shared.read(reader, waker, |reader, state| {
            while let Some((path, change)) = reader.next(&mut state.table, now, Room::ENDLESS) {
                let broadcast = match change {
                    Change::Announced(way) => Some(way.broadcast),
                    Change::Gone => None,
                    Change::Rerouted(_) => continue,
                };
                return Some(Some(Announce { path, broadcast }));
            }
            (state.producers == 0 && !reader.is_paused()).then_some(None)
        })
    }

    /// The broadcast that is announced under `path` now.
    pub fn get_broadcast(&self, path: impl Into<Path>) -> Option<BroadcastConsumer> {
        self.best(&path.into(), Horizon::default())
    }

    wait! {
        /// The broadcast under exactly `path`, as soon as it is announced. `None` if that can't
        /// happen: the path is not allowed, or every [`OriginProducer`] is gone.
        next_broadcast => poll_announced_broadcast, announced_broadcast, try_announced_broadcast(
            path: &str
        ) -> Option<BroadcastConsumer>
    }

    fn next_broadcast(
        &mut self,
        waker: Option<&Waker>,
        path: &str,
    ) -> Poll<Option<BroadcastConsumer>> {
        let Self { shared, reader, seek, .. } = self;
        let Some(path) = reader.scope().absolute(&path.into()) else { return Poll::Ready(None) };
        seek.wait(shared, path.clone(), waker, |state| {
            let way = state.table.best(&path, Horizon::default());
            let found = way.map(|way| way.broadcast.clone());
            (found.is_some() || state.producers == 0).then_some(found)
        })
    }

    /// Another consumer of the same, to which everything is new.
    pub fn consume(&self) -> Self {
        Self::new(self.shared.clone(), self.reader.scope().clone())
    }

    /// A consumer of what is below one of `prefixes` only, relative to [`root`](Self::root), to which
    /// everything is new. `None` if nothing is left.
    pub fn scope(&self, prefixes: &[Path]) -> Option<Self> {
        let scope = self.reader.scope().narrowed(prefixes)?;
        Some(Self::new(self.shared.clone(), scope))
    }

    /// A consumer of what is below `prefix`, by paths relative to it, to which everything is new.
    /// `None` if nothing there is allowed.
    pub fn with_root(&self, prefix: impl Into<Path>) -> Option<Self> {
        let scope = self.reader.scope().rooted(&prefix.into())?;
        Some(Self::new(self.shared.clone(), scope))
    }

    /// What is taken from every path.
    pub fn root(&self) -> &Path {
        self.reader.scope().root()
    }

    /// The prefixes, relative to [`root`](Self::root), below which it sees.
    pub fn allowed(&self) -> impl Iterator<Item = &Path> {
        self.reader.scope().allowed()
    }

    /// Converts to the time of the origin.
    pub fn clock(&self) -> Clock {
        self.shared.clock.clone()
    }

    /// Where the tracks of the origin are kept.
    pub(crate) fn cache(&self) -> &Arc<Cache> {
        &self.shared.cache
    }

    /// What a peer with this horizon is to be told of what is below `prefix`, as far as it can be told.
    /// Nothing if nothing there is allowed.
    pub(super) fn reader(&self, prefix: &Path, horizon: Horizon, speech: Speech) -> AnnounceReader {
        let scope = self.reader.scope().rooted(prefix).unwrap_or_else(Scope::nothing);
        AnnounceReader::new(self.shared.clone(), Reader::new(scope, horizon, speech))
    }

    /// What the same peer's SUBSCRIBE is served from.
    ///
    /// Errors: as [`request_broadcast`](Self::request_broadcast), at once.
    pub(super) fn route(&self, path: &Path, horizon: Horizon) -> Result<Found> {
        let path = self.reader.scope().absolute(path).ok_or(Error::Unroutable)?;
        self.shared.request(path, horizon)
    }

    fn best(&self, path: &Path, horizon: Horizon) -> Option<BroadcastConsumer> {
        let path = self.reader.scope().absolute(path)?;
        let state = lock(&self.shared.state);
        state.table.best(&path, horizon).map(|way| way.broadcast.clone())
    }
}

impl Clone for OriginConsumer {
    fn clone(&self) -> Self {
        let reader = self.reader.fork(&mut lock(&self.shared.state).table);
        Self { shared: self.shared.clone(), reader, seek: Seek::default(), asking: None }
    }
}

impl Drop for OriginConsumer {
    fn drop(&mut self) {
        self.shared.forget(&mut self.reader);
        let former = self.seek.end(&mut lock(&self.shared.state));
        drop(former);
    }
}

impl fmt::Debug for OriginConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginConsumer").field("scope", self.reader.scope()).finish_non_exhaustive()
    }
}

census! { State { within: table, requests; plain: producers; } }
census! { Shared { within: cache, state; plain: hop, timed, turn, clock; } }

#[cfg(any(test, feature = "sim"))]
impl OriginProducer {
    /// What the origin remembers with all that is announced there, for tests.
    pub fn census(&self) -> crate::sim::Census {
        crate::sim::Census::of(&*self.shared)
    }
}
