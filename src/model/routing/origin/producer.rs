//! Publishing broadcasts in an origin.

use std::cmp::Reverse;
use std::sync::Arc;

use super::consumer::OriginConsumer;
use super::shared::{OriginShared, OriginState};
use crate::model::base::sync::Mutex;
use crate::model::base::sync::atomic::AtomicU64;
use crate::model::base::{Clock, Reach, Result, Route, impl_debug, lock};
use crate::model::cache::Cache;
use crate::model::routing::broadcast::{BroadcastConsumer, BroadcastProducer, Upstream};
use crate::model::routing::registration::{Registration, RegistrationKind};
use crate::model::routing::scope::Scope;
use crate::model::routing::table::RouteEntry;
use crate::{Cost, Error, Hop, Instant, Limits, Path};

/// A collection of broadcasts, each under a path. Sessions publish from it and consume into it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Origin {
    /// Identifies this origin in the hops of announcements. It should be random, below 2^53, the
    /// same for all sessions of the origin, and different after a restart of the process, because
    /// the same first hop means the same content. Default: [`Hop::UNKNOWN`], with which loops can't
    /// be detected.
    pub hop: Hop,
    /// The limits of the cache and of the requests of this origin.
    pub limits: Limits,
}

impl Origin {
    /// Describes an origin that identifies itself as `hop`, with the default limits.
    pub fn new(hop: Hop) -> Self {
        Self { hop, limits: Limits::default() }
    }

    /// Sets [`limits`](Self::limits).
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Creates the origin, with a cache and a clock of its own.
    pub fn produce(self) -> OriginProducer {
        let state = OriginState { producers: 1, ..OriginState::default() };
        let cache = Cache::new(self.limits);
        let shared = OriginShared {
            hop: self.hop,
            member: cache.member_id(),
            requested_in: AtomicU64::new(0),
            cache,
            clock: Clock::default(),
            state: Mutex::new(state),
        };
        OriginProducer { shared: Arc::new(shared), scope: Scope::default() }
    }
}

/// The routes with the same content as `route`, those of the newest broadcast first. The content is
/// the same if the first hop is, and all hops identify themselves. There are two exceptions. If a
/// peer ended the broadcast of the route `over` before it announced `route`, that broadcast and
/// older ones are something else. If a publisher dialed again, it was restarted, and what it
/// announced itself through another session is something else, unless either side sent GOAWAY on
/// that session, which shows that the publisher is alive.
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
    /// The hop that identifies the origin in announcements.
    pub fn hop(&self) -> Hop {
        self.shared.hop
    }

    /// Creates a broadcast and announces it at once. The announcement ends when the broadcast ends.
    ///
    /// `path` is relative to [`root`](Self::root). If the path is taken, the new broadcast replaces
    /// the old one, here and for peers, which see an end and a beginning. The old one comes back if
    /// it outlives the new one. The same holds for broadcasts of peers, unless a hop of their route
    /// does not identify itself.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthorized`] outside of [`allowed`](Self::allowed); [`Error::Limit`] past
    /// [`Limits::path_bytes`]. Nothing is announced then.
    pub fn create_broadcast(&self, path: impl Into<Path>) -> Result<BroadcastProducer> {
        let broadcast = self.unannounced(path.into(), Route::default())?;
        self.register(broadcast.path().clone(), &broadcast.consume())?;
        Ok(broadcast)
    }

    /// Announces an existing broadcast under `path` too, until it ends. It does nothing if the
    /// broadcast is announced under that path already.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthorized`] and [`Error::Limit`] as for
    /// [`create_broadcast`](Self::create_broadcast); [`Error::Unroutable`] if the broadcast passed
    /// through this origin before; [`Error::Closed`] if it ended cleanly, or the reason for another
    /// end. Nothing is announced then.
    pub fn publish_broadcast(
        &self,
        path: impl Into<Path>,
        broadcast: &BroadcastConsumer,
    ) -> Result<()> {
        let path = self.absolute(&path.into())?;
        self.register(path, broadcast)
    }

    /// Announces a broadcast of a peer. If a broadcast with the same content exists, this adds a
    /// route to it. Otherwise it is a new broadcast. Another thread may subscribe at once, so the
    /// upstream is there before the announcement.
    pub(crate) fn announce_remote(&self, path: Path, route: Route) -> Result<Upstream> {
        self.announce(path, route, None)
    }

    /// As [`announce_remote`](Self::announce_remote), for a peer that ended the broadcast of `over`
    /// immediately before, so that this is another one.
    pub(crate) fn announce_anew(
        &self,
        path: Path,
        route: Route,
        over: &Upstream,
    ) -> Result<Upstream> {
        self.announce(path, route, over.registration().map(|registration| registration.id))
    }

    /// Keeps the broadcast of a session that is about to end. Any other session is better. `None` if another one has it,
    /// or if it could not be recognized later.
    pub(crate) fn retain(&self, path: &Path, ending: &Upstream) -> Option<Upstream> {
        let route = Route { cost: Cost::DRAINED, ..ending.sole_route()?.clone() };
        self.announce(path.clone(), route, None).ok()
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

    /// The whole path of `path`, which is relative to the root.
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
                // Elsewhere it is a single broadcast, even if it is a prefix there.
                let route = Route { reach: Reach::Exact, ..route.clone() };
                let id = state.table.insert(&path, route, broadcast.clone());
                state.requests.recheck(&path, Reach::Exact);
                let (origin, kind) = (Arc::downgrade(&self.shared), RegistrationKind::Announced);
                Ok(Registration { origin, path, id, kind })
            })
        })
    }

    /// Creates a consumer that reads all announcements from the start.
    pub fn consume(&self) -> OriginConsumer {
        OriginConsumer::new(self.shared.clone(), self.scope.clone())
    }

    /// A producer for paths below one of `prefixes` only, relative to [`root`](Self::root). `None`
    /// if nothing is left.
    pub fn scope(&self, prefixes: impl IntoIterator<Item: Into<Path>>) -> Option<Self> {
        self.scope.narrowed(prefixes).map(|scope| self.with_scope(scope))
    }

    /// A producer whose paths are relative to `prefix`. `None` if nothing there is allowed.
    pub fn with_root(&self, prefix: impl Into<Path>) -> Option<Self> {
        self.scope.rooted(&prefix.into()).map(|scope| self.with_scope(scope))
    }

    /// The path that is put in front of every path.
    pub fn root(&self) -> &Path {
        self.scope.root()
    }

    /// The prefixes below which it may publish, relative to [`root`](Self::root).
    pub fn allowed(&self) -> impl Iterator<Item = &Path> {
        self.scope.allowed()
    }

    /// Whether it may publish under `path`, relative to [`root`](Self::root).
    pub fn allows(&self, path: impl Into<Path>) -> bool {
        self.scope.absolute(&path.into()).is_some()
    }

    /// Whether both handles belong to the same origin, whatever they are allowed.
    pub fn is_clone(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Moves the time of the origin forward, never back, and gives up groups that expired and
    /// requests that were not answered in time. It is for origins without a session: each session
    /// does the same.
    pub fn advance(&self, now: Instant) {
        // A caller that sets the time itself sets it before it writes.
        self.shared.cache.confirm_now();
        self.shared.cache.advance(now);
    }

    /// Bytes that all tracks of the origin hold in memory: payload and the memory needed to manage
    /// it.
    pub fn cached_bytes(&self) -> u64 {
        self.shared.cache.used()
    }

    /// Converts instants to the time of this origin.
    pub fn clock(&self) -> Clock {
        self.shared.clock.clone()
    }

    /// The cache of the tracks of this origin.
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

impl_debug! { OriginProducer, it => scope: &it.scope }

#[cfg(any(test, feature = "sim"))]
impl OriginProducer {
    /// The census of the origin, including everything announced there, for tests.
    pub fn census(&self) -> crate::census::Census {
        crate::census::Census::of(&*self.shared)
    }
}
