//! Origins: the table of broadcasts by path, and who is told of its changes.

use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Poll, Waker, ready};
use std::vec;

use super::Result;
use super::broadcast::{BroadcastConsumer, BroadcastProducer, Supplier};
use super::budget::Cache;
use super::clock::Clock;
use super::route::{DOUBT_TIME, Horizon, Route, SessionId};
use super::scope::Scope;
use super::table::{Change, Reader, Table};
use super::wakers::{WaitSlot, Wakers, Woken, lock, wait};
use crate::machine::Announcement;
use crate::{Error, Hop, Instant, Limits, Path};

/// A collection of broadcasts, each under a path: what sessions publish from and consume into.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Origin {
    /// Who this is in the hops of announcements. It should be random, below 2^53, and the same for
    /// all sessions of the origin. Default: [`Hop::UNKNOWN`], by which no loop can be seen.
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
        let state = State { table: Table::default(), producers: 1, waiters: Wakers::default() };
        let shared = Shared {
            hop: self.hop,
            cache: Cache::new(self.limits),
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
    clock: Clock,
    state: Mutex<State>,
}

struct State {
    table: Table<BroadcastConsumer>,
    producers: usize,
    /// Who waits for any change of the table, or for the last producer to go.
    waiters: Wakers,
}

impl Shared {
    /// Changes the state, then wakes all who wait.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut woken = Woken::default();
        let mut state = lock(&self.state);
        let result = change(&mut state);
        state.waiters.take(&mut woken);
        drop(state);
        woken.wake();
        result
    }

    /// What `ready` gives, or else leaves the waker.
    fn wait<T>(
        &self,
        slot: &mut WaitSlot,
        waker: Option<&Waker>,
        ready: impl FnOnce(&mut State) -> Option<T>,
    ) -> Poll<T> {
        let waker = waker.cloned();
        let mut state = lock(&self.state);
        if let Some(value) = ready(&mut state) {
            return Poll::Ready(value);
        }
        let unused = waker.and_then(|waker| state.waiters.register(slot, waker));
        drop(state);
        drop(unused);
        Poll::Pending
    }

    /// Takes what a reader left out of the state.
    fn forget(&self, reader: &mut Reader, slot: &mut WaitSlot) {
        let mut state = lock(&self.state);
        reader.forget(&mut state.table);
        let waker = state.waiters.free(slot);
        drop(state);
        drop(waker);
    }
}

/// Where a broadcast stands in the table of an origin.
#[derive(Clone)]
pub(super) struct Place {
    origin: Weak<Shared>,
    path: Path,
    id: u64,
}

impl Place {
    /// Whether the origin is still there.
    pub(super) fn exists(&self) -> bool {
        self.origin.strong_count() > 0
    }

    /// Takes the broadcast out of the table.
    pub(super) fn leave(&self) {
        if let Some(origin) = self.origin.upgrade() {
            // Dropped here and not under the lock: it may be the last handle of its broadcast.
            drop(origin.change(|state| state.table.remove(&self.path, self.id)));
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
            origin.change(|state| state.table.reroute(&self.path, self.id, route));
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
    /// [`Error::Unauthorized`]. If the path is taken, the better route is shown and the other
    /// stands by; among broadcasts of this process that is the newest.
    pub fn create_broadcast(&self, path: impl Into<Path>) -> Result<BroadcastProducer> {
        let broadcast = self.unannounced(path.into(), Route::default())?;
        self.place(broadcast.path().clone(), &broadcast.consume())?;
        Ok(broadcast)
    }

    /// Announces a broadcast from elsewhere under `path` too, until it ends. Again under the same path
    /// does nothing.
    ///
    /// Errors: [`Error::Unauthorized`] as for [`create_broadcast`](Self::create_broadcast);
    /// [`Error::Unroutable`] if it came through this very origin by way of a peer; why it ended if it
    /// did, [`Error::Closed`] for a clean end.
    pub fn publish_broadcast(
        &self,
        path: impl Into<Path>,
        broadcast: &BroadcastConsumer,
    ) -> Result<()> {
        let path = self.scope.absolute(&path.into()).ok_or(Error::Unauthorized)?;
        self.place(path, broadcast)
    }

    /// Announces a broadcast that a peer has. If it is there already, with the same content, this is
    /// another way to it; otherwise it is one of its own. Who hears of it may subscribe at once, from
    /// another thread, so there is somebody who is asked before it is announced.
    pub(crate) fn announce_remote(&self, path: Path, route: Route) -> Result<Supplier> {
        let fresh = self.unannounced(path, route.clone())?;
        let path = fresh.path();
        let (mut supplier, place) = self.shared.change(|state| {
            if route.hops.contains(self.shared.hop) {
                return Err(Error::Unroutable);
            }
            let content = route.content();
            let ways = state.table.ways(path).iter();
            let joined = ways
                .filter(|way| content.is_some() && way.route.content() == content)
                .find_map(|way| {
                    Some((way.broadcast.join(path, &self.shared.cache, &route)?, way.clone()))
                });
            let (supplier, id) = match joined {
                Some((supplier, way)) => (supplier, state.table.join(path, way, route.clone())),
                None => {
                    let supplier = fresh.supply(route.clone());
                    (supplier, state.table.insert(path, route.clone(), fresh.consume()))
                }
            };
            let origin = Arc::downgrade(&self.shared);
            Ok((supplier, Place { origin, path: path.clone(), id }))
        })?;
        supplier.settle(place);
        Ok(supplier)
    }

    fn unannounced(&self, path: Path, route: Route) -> Result<BroadcastProducer> {
        let path = self.scope.absolute(&path).ok_or(Error::Unauthorized)?;
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
                let id = state.table.insert(&path, route.clone(), broadcast.clone());
                Ok(Place { origin: Arc::downgrade(&self.shared), path, id })
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

    /// Moves the origin's time forward, never back, and drops what expired. For origins without a
    /// session: each session does the same.
    pub fn advance(&self, now: Instant) {
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
            self.shared.change(|_| ());
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
    slot: WaitSlot,
}

impl OriginConsumer {
    /// Who the origin is in announcements.
    pub fn hop(&self) -> Hop {
        self.shared.hop
    }

    fn new(shared: Arc<Shared>, scope: Scope) -> Self {
        Self { shared, reader: Reader::new(scope, Horizon::default()), slot: WaitSlot::default() }
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
        let Self { shared, reader, slot } = self;
        let now = shared.cache.now();
        shared.wait(slot, waker, |state| {
            while let Some((path, change)) = reader.next(&mut state.table, now) {
                let broadcast = match change {
                    Change::Announced(way) => Some(way.broadcast),
                    Change::Gone => None,
                    Change::Rerouted(_) => continue,
                };
                return Some(Some(Announce { path, broadcast }));
            }
            (state.producers == 0).then_some(None)
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
        let Self { shared, reader, slot } = self;
        let Some(path) = reader.scope().absolute(&path.into()) else { return Poll::Ready(None) };
        shared.wait(slot, waker, |state| {
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

    /// What a peer that is `exclude`, behind `session`, is to be told of what is below `prefix`.
    /// Nothing if nothing there is allowed. `hidden`: also of paths with a segment behind the prefix that
    /// begins with a dot.
    pub(crate) fn reader(
        &self,
        prefix: &Path,
        exclude: Hop,
        session: SessionId,
        hidden: bool,
    ) -> AnnounceReader {
        let scope = self.reader.scope().rooted(prefix).unwrap_or_else(Scope::nothing);
        let horizon = Horizon { exclude, session: Some(session) };
        AnnounceReader::new(self.shared.clone(), Reader::new(scope, horizon), hidden)
    }

    /// What the same peer's SUBSCRIBE is served from.
    pub(super) fn route(&self, path: &Path, horizon: Horizon) -> Option<BroadcastConsumer> {
        self.best(path, horizon)
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
        Self { shared: self.shared.clone(), reader, slot: WaitSlot::default() }
    }
}

impl Drop for OriginConsumer {
    fn drop(&mut self) {
        self.shared.forget(&mut self.reader, &mut self.slot);
    }
}

impl fmt::Debug for OriginConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginConsumer").field("scope", self.reader.scope()).finish_non_exhaustive()
    }
}

/// What one ANNOUNCE request of a peer is answered with.
pub(crate) struct AnnounceReader {
    shared: Arc<Shared>,
    reader: Reader,
    hidden: bool,
    slot: WaitSlot,
    /// What there was when the reader was made.
    initial: vec::IntoIter<Announcement>,
    active: u64,
}

impl AnnounceReader {
    fn new(shared: Arc<Shared>, mut reader: Reader, hidden: bool) -> Self {
        let (mut initial, now) = (Vec::new(), shared.cache.now());
        let mut state = lock(&shared.state);
        while let Some((suffix, change)) = next_shown(&mut reader, &mut state.table, hidden, now) {
            initial.push(announcement(suffix, change));
        }
        drop(state);
        let active = initial.len() as u64;
        let (slot, initial) = (WaitSlot::default(), initial.into_iter());
        Self { shared, reader, hidden, slot, initial, active }
    }

    /// How many broadcasts there were when the reader was made.
    pub(crate) fn active(&self) -> u64 {
        self.active
    }

    /// First exactly as many active ones as [`active`](Self::active) says, even if they went
    /// meanwhile; then what changed, coalesced. Active for one that is active: its hops or cost
    /// changed.
    pub(crate) fn poll_next(&mut self, waker: Option<&Waker>) -> Poll<Announcement> {
        if let Some(announcement) = self.initial.next() {
            return Poll::Ready(announcement);
        }
        let Self { shared, reader, hidden, slot, .. } = self;
        let now = shared.cache.now();
        let next = |state: &mut State| next_shown(reader, &mut state.table, *hidden, now);
        let (suffix, change) = ready!(shared.wait(slot, waker, next));
        Poll::Ready(announcement(suffix, change))
    }

    /// When to ask again, although nobody wakes: a change is held until then.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.reader.deadline()
    }
}

/// The next change that is not hidden, or is wanted all the same.
fn next_shown<B: Clone>(
    reader: &mut Reader,
    table: &mut Table<B>,
    hidden: bool,
    now: Instant,
) -> Option<(Path, Change<B>)> {
    let is_shown = |path: &Path| hidden || !path.segments().any(|it| it.starts_with('.'));
    loop {
        let next = reader.next(table, now)?;
        if is_shown(&next.0) {
            return Some(next);
        }
    }
}

impl fmt::Debug for AnnounceReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnnounceReader").field("active", &self.active).finish_non_exhaustive()
    }
}

impl Drop for AnnounceReader {
    fn drop(&mut self) {
        self.shared.forget(&mut self.reader, &mut self.slot);
    }
}

fn announcement(suffix: Path, change: Change<BroadcastConsumer>) -> Announcement {
    match change {
        Change::Announced(way) | Change::Rerouted(way) => {
            Announcement::Active { suffix, hops: way.route.hops, cost: way.route.cost }
        }
        Change::Gone => Announcement::Ended { suffix },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::route::HOLD_TIME;
    use super::*;
    use crate::hop::Cost;

    const HERE: Hop = Hop::new(1);
    const ME: SessionId = SessionId(100);

    fn origin() -> OriginProducer {
        Origin::new(HERE).produce()
    }

    fn through(hops: &[u64], cost: u64, session: u64) -> Route {
        Route {
            hops: hops.iter().copied().map(Hop::new).collect(),
            cost: Cost { warm: cost, cold: cost },
            session: Some(SessionId(session)),
        }
    }

    fn within(exclude: u64) -> Horizon {
        Horizon { exclude: Hop::new(exclude), session: Some(ME) }
    }

    /// What is read until nothing is left, as text with the cost.
    fn read(reader: &mut AnnounceReader) -> Vec<String> {
        let mut out = Vec::new();
        while let Poll::Ready(announcement) = reader.poll_next(None) {
            out.push(match announcement {
                Announcement::Active { suffix, cost, .. } => format!("+{suffix} {}", cost.warm),
                Announcement::Ended { suffix } => format!("-{suffix}"),
            });
        }
        out
    }

    fn announce(origin: &OriginProducer, path: &str, route: Route) -> Supplier {
        origin.announce_remote(path.into(), route).unwrap()
    }

    fn all(origin: &OriginProducer) -> AnnounceReader {
        origin.consume().reader(&Path::root(), Hop::UNKNOWN, ME, true)
    }

    #[test]
    fn the_initial_set_is_frozen_and_exact() {
        let origin = origin();
        let first = origin.create_broadcast("room/a").unwrap();
        let _second = origin.create_broadcast("room/b").unwrap();
        let _outside = origin.create_broadcast("hall").unwrap();
        let mut reader = origin.consume().reader(&Path::new("room"), Hop::UNKNOWN, ME, true);
        drop(first);
        let _third = origin.create_broadcast("room/c").unwrap();
        assert_eq!(reader.active(), 2);
        assert_eq!(read(&mut reader), ["+a 0", "+b 0", "-a", "+c 0"]);
        assert_eq!(reader.active(), 2);
    }

    #[test]
    fn hidden_paths_are_told_to_who_asks_for_them() {
        let origin = origin();
        let reader = |prefix: &str, hidden| {
            origin.consume().reader(&Path::new(prefix), Hop::UNKNOWN, ME, hidden)
        };
        let first = origin.create_broadcast("room/.stats/a").unwrap();
        let _open = origin.create_broadcast("room/b.c").unwrap();
        let (mut shown, mut all) = (reader("room", false), reader("room", true));
        // What is named in the prefix is not hidden below it.
        let mut named = reader("room/.stats", false);
        assert_eq!([&shown, &all, &named].map(AnnounceReader::active), [1, 2, 1]);
        let _second = origin.create_broadcast(".d").unwrap();
        let _third = origin.create_broadcast("room/e").unwrap();
        drop(first);
        assert_eq!(read(&mut shown), ["+b.c 0", "+e 0"]);
        assert_eq!(read(&mut all), ["+.stats/a 0", "+b.c 0", "+e 0", "-.stats/a"]);
        assert_eq!(read(&mut named), ["+a 0", "-a"]);
    }

    #[test]
    fn a_peer_is_not_told_what_it_told_nor_what_came_through_it() {
        let origin = origin();
        let _mine = announce(&origin, "mine", through(&[7], 0, ME.0));
        let _looped = announce(&origin, "looped", through(&[8, 9], 0, 2));
        let best = announce(&origin, "both", through(&[8], 0, ME.0));
        let worse = announce(&origin, "both", through(&[9], 5, 2));
        let consumer = origin.consume();
        let mut reader = consumer.reader(&Path::root(), Hop::new(8), ME, true);
        assert_eq!(reader.active(), 1);
        assert_eq!(read(&mut reader), ["+both 5"], "the next best is offered instead");

        let served = |path: &str| consumer.route(&Path::new(path), within(8));
        assert!(served("mine").is_none() && served("looped").is_none());
        assert!(served("both").unwrap().is_clone(&worse.consume()));
        assert!(consumer.get_broadcast("both").unwrap().is_clone(&best.consume()));

        drop(worse);
        assert_eq!(read(&mut reader), ["-both"]);
        assert_eq!(consumer.reader(&Path::root(), Hop::UNKNOWN, SessionId(3), true).active(), 3);
    }

    #[test]
    fn a_new_route_is_told_once_and_only_if_it_differs() {
        let origin = origin();
        let mut reader = all(&origin);
        let mut consumer = origin.consume();
        let mut broadcast = announce(&origin, "a", through(&[7], 1, 2));
        assert_eq!(read(&mut reader), ["+a 1"]);
        assert!(consumer.try_announced().is_ready());
        assert!(broadcast.reroute(&through(&[7], 1, 2)));
        assert_eq!(read(&mut reader), [""; 0]);
        assert!(broadcast.reroute(&through(&[7], 3, 2)));
        assert!(broadcast.reroute(&through(&[7], 4, 2)));
        assert_eq!(read(&mut reader), [""; 0], "it is worse, which may pass");
        origin.advance(reader.deadline().unwrap());
        assert_eq!(read(&mut reader), ["+a 4"]);
        assert!(broadcast.reroute(&through(&[7], 2, 2)));
        assert_eq!(read(&mut reader), ["+a 2"], "what is better is told at once");
        assert_eq!(reader.deadline(), None);
        assert!(consumer.try_announced().is_pending(), "it is the same broadcast");
    }

    #[test]
    fn a_better_route_takes_over_and_the_loser_comes_back() {
        let origin = origin();
        let mut reader = all(&origin);
        let far = announce(&origin, "a", through(&[7], 9, 2));
        assert_eq!(read(&mut reader), ["+a 9"]);
        let mut near = announce(&origin, "a", through(&[8], 1, 3));
        assert_eq!(read(&mut reader), ["-a", "+a 1"]);
        assert!(near.reroute(&through(&[8], 20, 3)));
        assert_eq!(read(&mut reader), ["-a", "+a 9"]);
        assert!(near.reroute(&through(&[8], 2, 3)));
        assert_eq!(read(&mut reader), ["-a", "+a 2"]);
        near.leave(Err(Error::SessionClosed));
        assert_eq!(read(&mut reader), ["-a", "+a 9"]);
        drop(far);
        assert_eq!(read(&mut reader), ["-a"]);
    }

    #[test]
    fn ways_with_the_same_content_are_one_broadcast() {
        let origin = origin();
        let mut reader = all(&origin);
        let mut consumer = origin.consume();
        let far = announce(&origin, "a", through(&[7, 8], 5, 2));
        assert_eq!(read(&mut reader), ["+a 5"]);
        let near = announce(&origin, "a", through(&[7, 9], 1, 3));
        assert!(near.consume().is_clone(&far.consume()));
        assert_eq!(read(&mut reader), ["+a 1"]);
        let anonymous = announce(&origin, "a", through(&[7, 0], 0, 4));
        let other = announce(&origin, "a", through(&[6, 9], 9, 5));
        assert!(!anonymous.consume().is_clone(&far.consume()));
        assert!(!other.consume().is_clone(&far.consume()));
        let seen = consumer.try_announced().map(|it| it.unwrap().broadcast.unwrap());
        assert!(matches!(seen, Poll::Ready(it) if it.is_clone(&far.consume())));

        near.leave(Ok(()));
        assert_eq!(read(&mut reader), [""; 0], "the one that is left is worse");
        origin.advance(reader.deadline().unwrap());
        assert_eq!(read(&mut reader), ["+a 5"]);
        assert!(consumer.try_announced().is_pending(), "nothing happened for who reads");
        let mut last = far.consume();
        assert!(last.try_closed().is_pending());
        far.leave(Err(Error::SessionClosed));
        assert_eq!(last.try_closed(), Poll::Ready(Err(Error::SessionClosed)));
        assert_eq!(read(&mut reader), ["-a", "+a 9"], "another content is another broadcast");
    }

    #[test]
    fn a_route_that_comes_back_in_time_was_never_gone() {
        let origin = origin();
        let mut reader = all(&origin);
        let _far = announce(&origin, "a", through(&[7, 8], 5, 2));
        let mut near = announce(&origin, "a", through(&[7, 9], 1, 3));
        assert_eq!(read(&mut reader), ["+a 1"]);
        let mut now = Instant::ZERO;
        for _ in 0..100 {
            near.leave(Ok(()));
            assert_eq!(read(&mut reader), [""; 0]);
            now = now + Duration::from_millis(20);
            origin.advance(now);
            near = announce(&origin, "a", through(&[7, 9], 1, 3));
            assert_eq!(read(&mut reader), [""; 0]);
            assert_eq!(reader.deadline(), None);
        }
        near.leave(Ok(()));
        assert_eq!(read(&mut reader), [""; 0]);
        let due = now + HOLD_TIME;
        assert_eq!(reader.deadline(), Some(due));
        origin.advance(due);
        assert_eq!(read(&mut reader), ["+a 5"]);
        origin.advance(due + HOLD_TIME);
        assert_eq!(read(&mut reader), [""; 0]);
    }

    #[test]
    fn a_peer_does_not_rely_on_who_relies_on_it() {
        let origin = origin();
        let mut reader = all(&origin);
        let best = announce(&origin, "a", through(&[7, 8], 1, 2));
        assert_eq!(read(&mut reader), ["+a 1"]);
        let _back = announce(&origin, "a", through(&[7, 9], 2, ME.0));
        let _far = announce(&origin, "a", through(&[7, 6], 5, 3));
        assert_eq!(read(&mut reader), [""; 0]);
        best.leave(Err(Error::SessionClosed));
        assert_eq!(read(&mut reader), ["-a"], "the best leads back to the peer");
        origin.advance(reader.deadline().unwrap());
        assert_eq!(read(&mut reader), ["+a 5"], "the next best stood");
    }

    #[test]
    fn what_goes_through_who_withdrew_is_not_told() {
        let origin = origin();
        let mut reader = all(&origin);
        let best = announce(&origin, "a", through(&[7, 8], 1, 2));
        let _around = announce(&origin, "a", through(&[7, 8, 9], 2, 3));
        assert_eq!(read(&mut reader), ["+a 1"]);
        best.leave(Ok(()));
        assert_eq!(read(&mut reader), ["-a"]);
        let seen = origin.consume().get_broadcast("a");
        assert!(seen.is_some(), "who reads here need not know");
        let again = announce(&origin, "a", through(&[7, 8], 1, 2));
        origin.advance(Instant::ZERO + 2 * HOLD_TIME);
        assert_eq!(read(&mut reader), ["+a 1"]);
        again.leave(Err(Error::SessionClosed));
        assert_eq!(read(&mut reader), [""; 0], "it said nothing, so it may have it still");
        origin.advance(reader.deadline().unwrap());
        assert_eq!(read(&mut reader), ["+a 2"]);
    }

    #[test]
    fn own_broadcasts_do_not_come_back() {
        let (here, there) = (origin(), Origin::new(Hop::new(2)).produce());
        let looped = here.announce_remote("a".into(), through(&[1, 7], 0, 2)).map(drop);
        assert_eq!(looped.unwrap_err(), Error::Unroutable);
        let from_here = announce(&there, "a", through(&[1], 0, 2));
        let published = here.publish_broadcast("b", &from_here.consume());
        assert_eq!(published.unwrap_err(), Error::Unroutable);
        assert_eq!(all(&here).active(), 0);
    }

    #[test]
    fn what_is_published_again_keeps_its_route() {
        let (here, there) = (origin(), Origin::new(Hop::new(2)).produce());
        let mut broadcast = announce(&there, "a", through(&[7], 3, ME.0));
        here.publish_broadcast("a", &broadcast.consume()).unwrap();
        assert_eq!(all(&here).active(), 0, "the session that has it is not told");
        let mut reader = here.consume().reader(&Path::root(), Hop::UNKNOWN, SessionId(2), true);
        assert_eq!(read(&mut reader), ["+a 3"]);
        assert!(broadcast.reroute(&through(&[7], 2, ME.0)));
        assert_eq!(read(&mut reader), ["+a 2"]);
    }

    #[test]
    fn a_prefix_that_is_not_allowed_shows_nothing() {
        let origin = origin();
        let _broadcast = origin.create_broadcast("room/a").unwrap();
        let consumer = origin.consume().scope(&[Path::new("hall")]).unwrap();
        let mut reader = consumer.reader(&Path::new("room"), Hop::UNKNOWN, ME, true);
        assert_eq!((reader.active(), reader.poll_next(None)), (0, Poll::Pending));
        let above = consumer.reader(&Path::root(), Hop::UNKNOWN, ME, true);
        assert_eq!(above.active(), 0);
    }

    #[test]
    fn questions_leave_nothing_behind() {
        let origin = origin();
        let mut consumer = origin.consume();
        let kept = origin.create_broadcast("kept").unwrap();
        for n in 0..1_000 {
            let path = Path::new(&format!("room/{n}"));
            assert!(consumer.get_broadcast(&path).is_none());
            assert!(consumer.try_announced_broadcast(path.as_str()).is_pending());
            assert!(consumer.route(&path, within(0)).is_none());
            assert_eq!(consumer.reader(&path, Hop::UNKNOWN, ME, true).active(), 0);
            let deeper = consumer.scope(std::slice::from_ref(&path)).unwrap();
            assert!(deeper.with_root(&path).unwrap().clone().try_announced().is_pending());
            assert!(origin.with_root(&path).unwrap().scope(&[path]).is_some());
        }
        let told = all(&origin);
        assert_eq!(lock(&origin.shared.state).table.sizes(), (1, 1));
        drop(kept);
        assert_eq!(lock(&origin.shared.state).table.sizes(), (1, 1), "one reader believes in it");
        drop(told);
        assert_eq!(lock(&origin.shared.state).table.sizes(), (0, 0));
        assert_eq!(lock(&origin.shared.state).producers, 1);
    }

    #[test]
    fn a_panic_inside_a_lock_is_survived() {
        let origin = origin();
        let shared = origin.shared.clone();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            shared.change(|_| panic!("on purpose"));
        }));
        assert!(panicked.is_err() && origin.shared.state.is_poisoned());
        let _broadcast = origin.create_broadcast("a").unwrap();
        assert!(origin.consume().get_broadcast("a").is_some());
    }
}
