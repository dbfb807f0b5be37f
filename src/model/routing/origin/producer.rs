//! Publishing broadcasts in an origin.

use std::cmp::Reverse;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use super::consumer::OriginConsumer;
use super::shared::{OriginShared, OriginState};
use crate::model::Result;
use crate::model::base::{Clock, Reach, Route, lock};
use crate::model::cache::Cache;
use crate::model::routing::broadcast::BroadcastConsumer;
use crate::model::routing::broadcast::BroadcastProducer;
use crate::model::routing::broadcast::Upstream;
use crate::model::routing::registration::{Registration, RegistrationKind};
use crate::model::routing::scope::Scope;
use crate::model::routing::table::RouteEntry;
use crate::{Cost, Error, Hop, Instant, Limits, Path};

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
        let state = OriginState { producers: 1, ..OriginState::default() };
        let cache = Cache::new(self.limits);
        let shared = OriginShared {
            hop: self.hop,
            member: cache.member_id(),
            epoch: AtomicU64::new(0),
            cache,
            clock: Clock::default(),
            state: Mutex::new(state),
        };
        OriginProducer { shared: Arc::new(shared), scope: Scope::default() }
    }
}

/// The ways to what `route` brings too, the newest broadcast first: same first hop, and everybody on the way
/// says who it is. None of the broadcast that the way `over` led to and of older ones: who tells of the new
/// route says that it is another. Nor of one that its publisher brings itself by another session, if the
/// publisher dialed again: it would not do that for one thing, so it was started again. Only if one of
/// both says that the old session is about to end (GOAWAY) it is known to live.
fn same_content<'a, B>(
    routes: &'a [RouteEntry<B>],
    route: &Route,
    over: Option<u64>,
) -> impl Iterator<Item = &'a RouteEntry<B>> + use<'a, B> {
    let over = routes.iter().find(|entry| Some(entry.id) == over).map(|entry| entry.first);
    let dials_again = route.accepted && route.is_direct();
    let lives = |entry: &RouteEntry<B>| entry.route.cost == Cost::DRAINED;
    let restarted =
        |entry: &&RouteEntry<B>| dials_again && entry.route.is_direct() && !lives(entry);
    let content = route.content();
    let same = |entry: &&RouteEntry<B>| content.is_some() && entry.route.content() == content;
    let restarted = routes.iter().filter(same).filter(restarted).map(|entry| entry.first).max();
    let bound = over.max(restarted).unwrap_or(0);
    let mut same: Vec<_> = routes.iter().filter(same).filter(|entry| entry.first > bound).collect();
    same.sort_by_key(|entry| Reverse(entry.first));
    same.into_iter()
}

/// Publishes broadcasts. Clones publish into the same origin.
pub struct OriginProducer {
    pub(super) shared: Arc<OriginShared>,
    pub(super) scope: Scope,
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
        self.register(broadcast.path().clone(), &broadcast.consume())?;
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
        self.register(path, broadcast)
    }

    /// Announces a broadcast that a peer has. If it is there already, with the same content, this is
    /// another way to it; otherwise it is one of its own. Who hears of it may subscribe at once, from
    /// another thread, so there is somebody who is asked before it is announced.
    pub(crate) fn announce_remote(&self, path: Path, route: Route) -> Result<Upstream> {
        self.announce(path, route, None)
    }

    /// As [`announce_remote`](Self::announce_remote), of a peer that says in the same breath that what it
    /// had is over: this is not that.
    pub(crate) fn announce_anew(
        &self,
        path: Path,
        route: Route,
        over: &Upstream,
    ) -> Result<Upstream> {
        self.announce(path, route, over.registration().map(|registration| registration.id))
    }

    fn announce(&self, path: Path, route: Route, over: Option<u64>) -> Result<Upstream> {
        let fresh = self.unannounced(path, route.clone())?;
        let path = fresh.path();
        let (mut upstream, registration) = self.shared.change(|state| {
            if route.hops.contains(self.shared.hop) {
                return Err(Error::Unroutable);
            }
            let reach = route.reach;
            let joined = same_content(state.table.routes(path), &route, over).find_map(|entry| {
                Some((
                    entry.broadcast.join_upstream(path, &self.shared.cache, &route)?,
                    entry.clone(),
                ))
            });
            let (upstream, id) = match joined {
                Some((upstream, entry)) => (upstream, state.table.join(path, entry, route.clone())),
                None => {
                    let upstream = fresh.add_upstream(route.clone());
                    (upstream, state.table.insert(path, route.clone(), fresh.consume()))
                }
            };
            state.requests.recheck(path, reach);
            let origin = Arc::downgrade(&self.shared);
            let kind = RegistrationKind::Announced;
            Ok((upstream, Registration { origin, path: path.clone(), id, kind }))
        })?;
        upstream.register(registration);
        Ok(upstream)
    }

    /// The whole path of what is called `path` here.
    pub(super) fn absolute(&self, path: &Path) -> Result<Path> {
        self.shared.cache.limits().check_path(path)?;
        self.scope.absolute(path).ok_or(Error::Unauthorized)
    }

    fn unannounced(&self, path: Path, route: Route) -> Result<BroadcastProducer> {
        let path = self.absolute(&path)?;
        Ok(BroadcastProducer::new(path, self.shared.cache.clone(), route))
    }

    fn register(&self, path: Path, broadcast: &BroadcastConsumer) -> Result<()> {
        self.shared.change(|state| {
            if state.table.routes(&path).iter().any(|entry| entry.broadcast.is_clone(broadcast)) {
                return Ok(());
            }
            broadcast.register(|route| {
                if route.hops.contains(self.shared.hop) {
                    return Err(Error::Unroutable);
                }
                // Elsewhere it is one broadcast, whatever is below it there.
                let route = Route { reach: Reach::Exact, ..route.clone() };
                let id = state.table.insert(&path, route, broadcast.clone());
                state.requests.recheck(&path, Reach::Exact);
                let (origin, kind) = (Arc::downgrade(&self.shared), RegistrationKind::Announced);
                Ok(Registration { origin, path, id, kind })
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
        self.shared.cache.confirm_now();
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

#[cfg(any(test, feature = "sim"))]
impl OriginProducer {
    /// What the origin remembers with all that is announced there, for tests.
    pub fn census(&self) -> crate::sim::Census {
        crate::sim::Census::of(&*self.shared)
    }
}
