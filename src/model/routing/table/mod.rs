//! The routing table: the paths of an origin with the routes to each, and cursors that read the
//! changes.
//!
//! Nothing is queued or copied for a [`TableReader`]. First it walks over the paths below its
//! prefixes, in order, and remembers its position. Then it reads changes. Below each prefix that a
//! reader listens to, a changed path is kept once, under the version of its last change
//! ([`ChangeLog`]), and the reader remembers the last version that it has seen. So a path that was
//! added and removed between two reads costs nothing, and a reader finds its changes without visiting
//! the rest.

mod change_log;
mod reader;
#[cfg(test)]
mod tests;

pub(crate) use reader::{AnnounceFilter, AnnounceQuota, RouteChange, TableReader};

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::task::Waker;

use self::change_log::{ChangeLog, Interest};
use crate::census::census;
use crate::model::base::{DeferredWakes, Horizon, Reach, Route, WaitSlot};
use crate::{Instant, Path};

/// The largest number of paths that are visited under one lock.
const STEP: usize = 256;

/// A route to a broadcast `B`.
#[derive(Clone, Debug)]
pub(crate) struct RouteEntry<B> {
    /// The version at which it was added. It identifies the route, and newer routes have higher
    /// ids.
    pub(crate) id: u64,
    /// The id of the first route to the same broadcast. It identifies the broadcast, and newer
    /// broadcasts have higher ids.
    pub(crate) first: u64,
    pub(crate) route: Route,
    pub(crate) broadcast: B,
    /// Until then peers are not told of the route, because a hop on it withdrew the broadcast.
    suspect_until: Option<Instant>,
}

impl<B> RouteEntry<B> {
    /// Smaller is better. Among routes to one broadcast the better route comes first. Among several
    /// broadcasts the newest comes first, because an older one may have lost its publisher without
    /// notice. If `by_age` is false, the better route comes first in any case.
    fn order(&self, by_age: bool) -> impl Ord + use<B> {
        let class = self.route.class();
        let counts = by_age && class.counts_age();
        let age = if counts { Reverse(self.first) } else { Reverse(0) };
        // All relays agree about that as well. A publisher that was restarted is a direct neighbor
        // of the relay.
        let far = !by_age && !self.route.is_direct();
        let publisher = self.route.hops.as_slice().first().filter(|_| far).copied();
        (class, age, self.route.rank(), publisher, Reverse(self.id))
    }
}

#[derive(Debug)]
struct PathEntry<B> {
    /// The version of the last change.
    version: u64,
    /// Best first.
    routes: Vec<RouteEntry<B>>,
    /// Counts the readers that announced a broadcast here and have not announced its end.
    announced_to: usize,
    /// Counts changes of routes while there were several broadcasts, up to [`MAX_CHANGES`].
    changes: u8,
}

/// After this many changes at a path with several broadcasts, the better route decides and not the
/// age. Relays that hear of two live broadcasts from each other might never agree which is newer,
/// but they agree about routes.
const MAX_CHANGES: u8 = 32;

/// All paths with a route, and paths without one whose end some reader has not announced yet.
///
/// The table grows with what is announced to it and by its readers. It never grows by lookups, or
/// by readers that do not read.
#[derive(Debug)]
pub(crate) struct RoutingTable<B> {
    entries: BTreeMap<Path, PathEntry<B>>,
    changes: ChangeLog,
    /// The version of the last change. The first is 1.
    version: u64,
    /// Counts the paths and changes that were visited.
    #[cfg(any(test, feature = "sim"))]
    steps: usize,
}

impl<B> Default for RoutingTable<B> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            changes: ChangeLog::default(),
            version: 0,
            #[cfg(any(test, feature = "sim"))]
            steps: 0,
        }
    }
}

impl<B> RoutingTable<B> {
    /// Adds a route, and returns its id for [`RoutingTable::remove`] and [`RoutingTable::reroute`].
    pub(crate) fn insert(&mut self, path: &Path, route: Route, broadcast: B) -> u64 {
        let suspect_until = None;
        self.change(path, |it, id| {
            it.insert(RouteEntry { id, first: id, route, broadcast, suspect_until });
        })
    }

    /// Adds another route to the broadcast of `entry`. Readers see a switch between the two as a
    /// change of route.
    pub(crate) fn join(&mut self, path: &Path, entry: RouteEntry<B>, route: Route) -> u64 {
        self.change(path, |it, id| {
            it.insert(RouteEntry { id, route, suspect_until: None, ..entry });
        })
    }

    /// Removes a route. The next best one takes over.
    pub(crate) fn remove(&mut self, path: &Path, id: u64) -> Option<RouteEntry<B>> {
        let mut removed = None;
        if self.has_route(path, id) {
            self.change(path, |it, _| removed = it.take(id));
            self.prune(path);
        }
        removed
    }

    fn has_route(&self, path: &Path, id: u64) -> bool {
        self.routes(path).iter().any(|entry| entry.id == id)
    }

    /// The last hop of `lost`, which was removed, withdrew the broadcast. So no route through that
    /// hop can be valid, and the neighbors that announced such a route will withdraw it as well.
    pub(crate) fn suspect(&mut self, path: &Path, lost: &RouteEntry<B>, until: Instant) {
        let Some(path_entry) = self.entries.get_mut(path) else { return };
        let Some(hop) = lost.route.hops.as_slice().last() else { return };
        for entry in path_entry.routes.iter_mut().filter(|entry| entry.first == lost.first) {
            if entry.route.hops.contains(*hop) {
                entry.suspect_until = Some(until);
            }
        }
    }

    /// Changes a route, if it still exists.
    pub(crate) fn reroute(&mut self, path: &Path, id: u64, route: Route) {
        if self.has_route(path, id) {
            self.change(path, |it, _| {
                if let Some(entry) = it.take(id) {
                    it.insert(RouteEntry { route, suspect_until: None, ..entry });
                }
            });
        }
    }

    /// The routes to a path, best first.
    pub(crate) fn routes(&self, path: &Path) -> &[RouteEntry<B>] {
        self.entries.get(path).map_or(&[], |path_entry| &path_entry.routes)
    }

    /// The best route to a path within a horizon.
    pub(crate) fn best(&self, path: &Path, horizon: Horizon) -> Option<&RouteEntry<B>> {
        self.routes(path).iter().find(|entry| horizon.shows(&entry.route))
    }

    /// The routes to broadcasts on request whose prefix covers `path`, the longest prefix first,
    /// and the best route first for each prefix.
    pub(crate) fn covering<'a>(
        &'a self,
        path: &'a Path,
    ) -> impl Iterator<Item = &'a RouteEntry<B>> {
        let entries = path.covering().filter_map(|path| self.entries.get(path));
        let routes = entries.flat_map(|path_entry| &path_entry.routes);
        routes.filter(|entry| entry.route.reach != Reach::Exact)
    }

    /// Allocates an id that no route has.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Watches for changes at exactly `path`, until [`RoutingTable::unwatch`].
    pub(crate) fn watch(&mut self, path: &Path) {
        self.changes.watch(path);
    }

    pub(crate) fn unwatch(&mut self, path: &Path, slot: &mut WaitSlot) -> Option<Waker> {
        self.changes.unwatch(path, slot)
    }

    /// Registers the waker of a watcher of `path`.
    pub(crate) fn wait_at(
        &mut self,
        path: &Path,
        slot: &mut WaitSlot,
        waker: Waker,
    ) -> Option<Waker> {
        self.changes.wait_at(path, slot, waker)
    }

    /// Takes the wakers that the last changes concern, to be woken after the lock is released.
    pub(crate) fn take_due(&mut self) -> DeferredWakes {
        self.changes.take_due()
    }

    /// Wakes all waiters.
    pub(crate) fn wake_all(&mut self) {
        self.changes.wake_all();
    }

    /// Changes the routes to a path, and records that under a new version, which it returns.
    fn change(&mut self, path: &Path, change: impl FnOnce(&mut PathEntry<B>, u64)) -> u64 {
        self.version += 1;
        let version = self.version;
        let path_entry = self.entries.entry(path.clone()).or_insert(PathEntry {
            version: 0,
            routes: Vec::new(),
            announced_to: 0,
            changes: 0,
        });
        let (shown, handlers) = (path_entry.shown(), path_entry.handlers());
        path_entry.change(|it| change(it, version));
        let interest = match path_entry.shown() == shown {
            false => Interest::Broadcasts,
            true if path_entry.handlers() == handlers => Interest::Routes,
            true => Interest::Handlers,
        };
        self.changes.record(path, path_entry.version, version, interest);
        path_entry.version = version;
        version
    }

    fn prune(&mut self, path: &Path) {
        let Some(path_entry) = self.entries.get(path) else { return };
        if path_entry.routes.is_empty() && path_entry.announced_to == 0 {
            self.changes.forget(path, path_entry.version);
            self.entries.remove(path);
        }
    }

    /// Counts a visit, for tests.
    fn step(&mut self) {
        #[cfg(any(test, feature = "sim"))]
        {
            self.steps += 1;
        }
    }

    /// The next path of a walk below `prefixes`.
    fn walk(&self, prefixes: &[Path], walk: &mut Walk) -> Option<Path> {
        loop {
            let prefix = prefixes.get(walk.prefix)?;
            // The paths below a prefix are contiguous, but do not follow the prefix itself
            // directly.
            let first;
            let from = match &walk.last {
                None => Bound::Included(prefix.as_str()),
                Some(last) if last == prefix && !prefix.is_root() => {
                    first = format!("{prefix}/");
                    Bound::Included(first.as_str())
                }
                Some(last) => Bound::Excluded(last.as_str()),
            };
            let next = self.entries.range::<str, _>((from, Bound::Unbounded)).next();
            let next = next.map(|(path, _)| path);
            if let Some(path) = next.filter(|path| path.has_prefix(prefix)) {
                walk.last = Some(path.clone());
                return Some(path.clone());
            }
            if walk.last.is_none() {
                // The prefix itself has no entry.
                walk.last = Some(prefix.clone());
            } else {
                *walk = Walk { prefix: walk.prefix + 1, last: None, ..*walk };
            }
        }
    }

    fn add_announced(&mut self, path: &Path) {
        if let Some(path_entry) = self.entries.get_mut(path) {
            path_entry.announced_to += 1;
        }
    }

    fn remove_announced(&mut self, path: &Path) {
        if let Some(path_entry) = self.entries.get_mut(path) {
            path_entry.announced_to -= 1;
        }
        self.prune(path);
    }
}

impl<B> PathEntry<B> {
    fn insert(&mut self, entry: RouteEntry<B>) {
        if let Some(hop) = entry.route.hops.as_slice().last() {
            // A hop that announces a route is trusted again.
            for other in self.routes.iter_mut().filter(|other| other.first == entry.first) {
                if other.route.hops.contains(*hop) {
                    other.suspect_until = None;
                }
            }
        }
        let by_age = self.counts_age();
        let at = self.routes.partition_point(|other| other.order(by_age) < entry.order(by_age));
        self.routes.insert(at, entry);
    }

    /// The broadcast that the application is shown, by id of its first route.
    fn shown(&self) -> Option<u64> {
        let mut shown = self.routes.iter();
        shown.find(|entry| Horizon::default().understands(&entry.route)).map(|entry| entry.first)
    }

    /// The number of handlers for requests.
    fn handlers(&self) -> usize {
        self.routes.iter().filter(|entry| entry.route.reach == Reach::OnDemand).count()
    }

    fn counts_age(&self) -> bool {
        self.changes < MAX_CHANGES
    }

    /// Changes the routes, and counts the change if they lead to several broadcasts.
    fn change<T>(&mut self, change: impl FnOnce(&mut Self) -> T) -> T {
        let several = |it: &Self| it.routes.windows(2).any(|pair| pair[0].first != pair[1].first);
        let were_several = several(self);
        let result = change(self);
        if (were_several || several(self)) && self.counts_age() {
            self.changes += 1;
            if !self.counts_age() {
                self.routes.sort_by_key(|entry| entry.order(false));
            }
        }
        result
    }

    fn take(&mut self, id: u64) -> Option<RouteEntry<B>> {
        let at = self.routes.iter().position(|entry| entry.id == id)?;
        Some(self.routes.remove(at))
    }
}

/// The position of a reader that walks over existing paths.
#[derive(Clone, Debug)]
struct Walk {
    /// The index of the current prefix.
    prefix: usize,
    /// The last visited path; `None` before the prefix itself.
    last: Option<Path>,
    /// Routes that were added after this version are left to the change log.
    until: u64,
}

impl Walk {
    fn new(until: u64) -> Self {
        Self { prefix: 0, last: None, until }
    }
}

#[cfg(test)]
impl<B> RoutingTable<B> {
    /// The number of paths, of prefixes with a listener, and of changes below those.
    pub(crate) fn sizes(&self) -> (usize, usize, usize) {
        let (prefixes, rows) = self.changes.sizes();
        (self.entries.len(), prefixes, rows)
    }
}

census! { RoutingTable<super::broadcast::BroadcastConsumer> { within: entries, changes; plain: version, steps; } }

census! { each PathEntry<super::broadcast::BroadcastConsumer> {
    counts: announced_to;
    within: routes;
    plain: version, changes;
} }

census! { each RouteEntry<super::broadcast::BroadcastConsumer> {
    within: broadcast;
    plain: id, first, route, suspect_until;
} }
