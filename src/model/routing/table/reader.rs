//! A cursor that reads the changes of a routing table.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;

use super::change_log::Interest;
use super::{RouteEntry, RoutingTable, STEP, Walk};
use crate::census::census;
use crate::model::base::{HOLD_TIME, Horizon, Route};
use crate::model::routing::scope::Scope;
use crate::slab::Key;
use crate::{Instant, Path};

/// A cursor over a [`RoutingTable`]: first what exists, then what changes. It must be given back to
/// the table with [`TableReader::detach`].
#[derive(Debug)]
pub(crate) struct TableReader {
    scope: Scope,
    horizon: Horizon,
    filter: AnnounceFilter,
    /// Its key in the change log, after the first read.
    listener: Option<Key>,
    /// All changes up to this version were read.
    seen: u64,
    /// Set until all existing paths were read.
    walk: Option<Walk>,
    /// Set until all existing paths were counted, with the count so far.
    count: Option<(Walk, u64)>,
    /// The paths that were announced and not ended, by whole path.
    announced: BTreeMap<Path, AnnouncedRoute>,
    /// Whether a broadcast was left out because the quota was used up.
    is_over_quota: bool,
    /// Whether there may be more to read.
    is_paused: bool,
    /// When to check a path again that is held or suspect.
    deferred: BTreeSet<(Instant, Path)>,
}

/// Which broadcasts can be announced to the peer of a reader. The default is all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnnounceFilter {
    /// Whether paths with a segment that begins with a dot are announced.
    pub(crate) hidden: bool,
    /// The largest number of bytes of a path.
    pub(crate) bytes: usize,
    /// The largest number of segments of a path.
    pub(crate) segments: usize,
    /// The largest number of hops of a route.
    pub(crate) hops: usize,
}

impl Default for AnnounceFilter {
    fn default() -> Self {
        let (bytes, segments, hops) = (usize::MAX, usize::MAX, usize::MAX);
        Self { hidden: true, bytes, segments, hops }
    }
}

impl AnnounceFilter {
    fn allows_name(&self, name: &str) -> bool {
        let is_shown = || self.hidden || !name.split('/').any(|it| it.starts_with('.'));
        let fits = || name.split('/').nth(self.segments).is_none();
        name.len() <= self.bytes && is_shown() && fits()
    }
}

/// How many more broadcasts may be announced to a peer, and how many in all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnnounceQuota {
    pub(crate) left: usize,
    pub(crate) all: usize,
}

impl AnnounceQuota {
    pub(crate) const ENDLESS: Self = Self { left: usize::MAX, all: usize::MAX };

    /// Whether enough room is left to announce broadcasts that were left out. Each attempt costs a
    /// whole walk.
    pub(crate) fn has_headroom(self) -> bool {
        self.left > 0 && self.left >= self.all / 8
    }
}

/// The announcement that a reader made for a path.
#[derive(Clone, Debug)]
struct AnnouncedRoute {
    /// The id of the first route to the broadcast.
    first: u64,
    route: Route,
    /// Whether its end was announced while another route is held.
    gone: bool,
    /// Until when a route is held that is no better.
    held: Option<Instant>,
}

impl AnnouncedRoute {
    fn of<B>(entry: &RouteEntry<B>) -> Self {
        Self { first: entry.first, route: entry.route.clone(), gone: false, held: None }
    }

    /// The broadcast comes by the route of `entry` now. For a peer, `leads_back` tells whether the
    /// best route leads back to it.
    fn update<B>(
        &mut self,
        path: &Path,
        entry: RouteEntry<B>,
        leads_back: Option<bool>,
        now: Instant,
        deferred: &mut BTreeSet<(Instant, Path)>,
    ) -> Option<RouteChange<B>> {
        let is_news = self.gone || self.route != entry.route;
        let is_better = entry.route.rank() < self.route.rank();
        let until = self.held.unwrap_or(now + HOLD_TIME);
        if let Some(leads_back) = leads_back.filter(|_| is_news && !is_better && until > now) {
            if leads_back && !self.gone {
                return Some(self.retract(path, now, deferred));
            }
            self.held = Some(until);
            deferred.insert((until, path.clone()));
            return None;
        }
        if let Some(until) = self.held.take() {
            deferred.remove(&(until, path.clone()));
        }
        if !is_news {
            return None;
        }
        self.route.clone_from(&entry.route);
        let was_gone = std::mem::take(&mut self.gone);
        Some(if was_gone { RouteChange::Announced(entry) } else { RouteChange::Rerouted(entry) })
    }

    /// Announces the end of the broadcast. A route that follows is held for longer, because other
    /// relays go through the same, and their changes arrive one after the other.
    fn retract<B>(
        &mut self,
        path: &Path,
        now: Instant,
        deferred: &mut BTreeSet<(Instant, Path)>,
    ) -> RouteChange<B> {
        let until = now + 2 * HOLD_TIME;
        if let Some(until) = self.held.replace(until) {
            deferred.remove(&(until, path.clone()));
        }
        deferred.insert((until, path.clone()));
        self.gone = true;
        RouteChange::Gone
    }
}

/// A change at a path.
#[derive(Debug)]
pub(crate) enum RouteChange<B> {
    /// A broadcast, where none was announced.
    Announced(RouteEntry<B>),
    /// The announced broadcast is gone. If another one follows, it is a change of its own.
    Gone,
    /// The announced broadcast has another route.
    Rerouted(RouteEntry<B>),
}

impl TableReader {
    /// Creates a reader that has read nothing yet.
    pub(crate) fn new(scope: Scope, horizon: Horizon, filter: AnnounceFilter) -> Self {
        Self {
            scope,
            horizon,
            filter,
            listener: None,
            seen: 0,
            walk: None,
            count: None,
            announced: BTreeMap::new(),
            is_over_quota: false,
            is_paused: false,
            deferred: BTreeSet::new(),
        }
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Creates a second reader at the same position.
    pub(crate) fn fork<B>(&self, table: &mut RoutingTable<B>) -> Self {
        for path in self.announced.keys() {
            table.add_announced(path);
        }
        let prefixes = self.scope.prefixes();
        Self {
            scope: self.scope.clone(),
            listener: self.listener.map(|_| table.changes.listen(prefixes)),
            walk: self.walk.clone(),
            count: self.count.clone(),
            announced: self.announced.clone(),
            deferred: self.deferred.clone(),
            ..*self
        }
    }

    /// When to read again even if nothing changes.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deferred.first().map(|(at, _)| *at)
    }

    /// Counts the broadcasts that were announced and not ended.
    pub(crate) fn announced(&self) -> usize {
        self.announced.len()
    }

    pub(crate) fn has_announced(&self, name: &Path) -> bool {
        self.scope.absolute(name).is_some_and(|path| self.announced.contains_key(&path))
    }

    /// Whether all paths that existed at the first read were read, so that it reads changes now.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.listener.is_some() && self.walk.is_none()
    }

    /// Whether a broadcast was left out because the quota was used up.
    pub(crate) fn is_over_quota(&self) -> bool {
        self.is_over_quota
    }

    /// Registers the waker for the next change. Drop the returned waker after releasing the lock.
    #[must_use = "to be dropped after the unlock"]
    pub(crate) fn wait<B>(&mut self, table: &mut RoutingTable<B>, waker: Waker) -> Option<Waker> {
        let listener = (self.interest(), self.listener?);
        table.changes.wait(self.scope.prefixes(), listener, waker)
    }

    /// Frees what the table keeps for this reader. Drop the returned waker after releasing the
    /// lock.
    #[must_use = "to be dropped after the unlock"]
    pub(crate) fn detach<B>(&mut self, table: &mut RoutingTable<B>) -> Option<Waker> {
        self.deferred.clear();
        for path in std::mem::take(&mut self.announced).keys() {
            table.remove_announced(path);
        }
        let listener = (self.interest(), self.listener.take()?);
        table.changes.leave(self.scope.prefixes(), listener)
    }

    /// The application is not told of routes, and only some peers understand handlers.
    fn interest(&self) -> Interest {
        match self.horizon {
            Horizon { on_demand: true, .. } => Interest::Handlers,
            Horizon { session: Some(_), .. } => Interest::Routes,
            Horizon { session: None, .. } => Interest::Broadcasts,
        }
    }

    fn open<B>(&mut self, table: &mut RoutingTable<B>) {
        if self.listener.is_none() {
            self.listener = Some(table.changes.listen(self.scope.prefixes()));
            self.seen = table.version;
            self.walk = Some(Walk::new(table.version));
            self.count = Some((Walk::new(table.version), 0));
        }
    }

    /// Whether the path can be announced.
    fn can_name(&self, path: &Path) -> bool {
        let name = path.suffix_text(self.scope.root());
        name.is_some_and(|name| self.filter.allows_name(name))
    }

    fn is_suspect<B>(&self, entry: &RouteEntry<B>, now: Instant) -> bool {
        self.horizon.session.is_some() && entry.suspect_until.is_some_and(|until| until > now)
    }

    fn can_announce<B>(&self, entry: &RouteEntry<B>) -> bool {
        self.horizon.shows(&entry.route) && entry.route.hops.len() <= self.filter.hops
    }

    /// The routes to a path that can be announced and that existed at version `until`.
    fn initial<'a, B>(
        &self,
        table: &'a RoutingTable<B>,
        path: &Path,
        until: u64,
    ) -> impl Iterator<Item = &'a RouteEntry<B>> + use<'a, '_, B> {
        table.routes(path).iter().filter(move |entry| entry.id <= until && self.can_announce(entry))
    }

    /// Counts the broadcasts that existed at the first read, up to `most`. `None` means to call
    /// again, so that other threads can take the lock in between. Broadcasts that were added
    /// meanwhile are not counted, those that were removed may be.
    pub(crate) fn count<B>(
        &mut self,
        table: &mut RoutingTable<B>,
        now: Instant,
        most: usize,
    ) -> Option<u64> {
        self.open(table);
        let (mut walk, mut count) = self.count.take()?;
        for _ in 0..STEP {
            let path = table.walk(self.scope.prefixes(), &mut walk);
            let Some(path) = path.filter(|_| count < most as u64) else { return Some(count) };
            table.step();
            let mut routes = self.initial(table, &path, walk.until);
            let is_one = self.can_name(&path) && routes.any(|entry| !self.is_suspect(entry, now));
            count += u64::from(is_one);
        }
        self.count = Some((walk, count));
        None
    }

    /// Whether there may be more to read once other threads had the lock. This is also the state
    /// between existing paths and changes.
    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// The next path to check, and the version up to which all is read afterwards. On a walk, also
    /// the version up to which routes belong to it.
    fn next_path<B>(
        &mut self,
        table: &mut RoutingTable<B>,
        now: Instant,
    ) -> Option<(Path, u64, Option<u64>)> {
        table.step();
        if self.deadline().is_some_and(|at| at <= now) {
            return Some((self.deferred.pop_first()?.1, self.seen, None));
        }
        if let Some(walk) = &mut self.walk {
            if let Some(path) = table.walk(self.scope.prefixes(), walk) {
                return Some((path, self.seen, Some(walk.until)));
            }
            self.walk = None;
            self.is_paused = true;
            return None;
        }
        let (version, path) = table.changes.next(self.scope.prefixes(), self.seen)?;
        Some((path.clone(), version, None))
    }

    /// The next change and its path, relative to the root of the scope. `None` if there is none, or
    /// none among the paths that were visited: see [`TableReader::is_paused`].
    ///
    /// A route that is no better than the announced one is held for [`HOLD_TIME`] before it is
    /// announced to a peer. If the best route leads back to the peer, the end of the announced one
    /// is announced at once. Otherwise the peer might rely on this relay while this relay relies on
    /// the peer.
    ///
    /// When the `quota` is used up, no other broadcasts are announced, but changes of announced
    /// ones are. The others follow when there is room again.
    pub(crate) fn next<B: Clone>(
        &mut self,
        table: &mut RoutingTable<B>,
        now: Instant,
        quota: AnnounceQuota,
    ) -> Option<(Path, RouteChange<B>)> {
        self.open(table);
        if self.is_over_quota && self.walk.is_none() && quota.has_headroom() {
            self.is_over_quota = false;
            self.walk = Some(Walk::new(u64::MAX));
        }
        self.is_paused = false;
        for _ in 0..STEP {
            let (path, version, until) = self.next_path(table, now)?;
            self.seen = version;
            // Routes that were added during the walk are announced as changes.
            let is_due = until.is_none_or(|until| {
                !self.announced.contains_key(&path)
                    && self.initial(table, &path, until).next().is_some()
            });
            let name = self.scope.relative(&path).filter(|_| is_due && self.can_name(&path));
            let Some(name) = name else { continue };
            if let Some(change) = self.change_at(table, &path, now, quota) {
                return Some((name, change));
            }
        }
        self.is_paused = true;
        None
    }

    /// The announcement to make for a path now.
    fn change_at<B: Clone>(
        &mut self,
        table: &mut RoutingTable<B>,
        path: &Path,
        now: Instant,
        quota: AnnounceQuota,
    ) -> Option<RouteChange<B>> {
        let is_peer = self.horizon.session.is_some();
        let suspect_until =
            |entry: &&RouteEntry<B>| entry.suspect_until.filter(|until| is_peer && *until > now);
        let routes = table.routes(path);
        let understood = routes.iter().filter(|entry| self.horizon.understands(&entry.route));
        let mut trusted = understood.filter(|entry| suspect_until(entry).is_none());
        let entry = trusted.clone().find(|entry| self.can_announce(entry)).cloned();
        let leads_back = trusted.next().is_some_and(|entry| !self.horizon.shows(&entry.route));
        let is_left =
            |announced: &AnnouncedRoute| routes.iter().any(|entry| entry.first == announced.first);
        if let Some(until) = routes.iter().filter_map(|entry| suspect_until(&entry)).min() {
            self.deferred.insert((until, path.clone()));
        }
        match (self.announced.get_mut(path), entry) {
            (None, None) => None,
            (None, Some(_)) if quota.left == 0 => {
                self.is_over_quota = true;
                None
            }
            (None, Some(entry)) => {
                self.announced.insert(path.clone(), AnnouncedRoute::of(&entry));
                table.add_announced(path);
                Some(RouteChange::Announced(entry))
            }
            (Some(announced), Some(entry)) if announced.first == entry.first => {
                let leads_back = is_peer.then_some(leads_back);
                announced.update(path, entry, leads_back, now, &mut self.deferred)
            }
            // A hop does not identify itself, so this may be an echo of the old broadcast.
            (Some(announced), Some(entry)) if is_peer && entry.route.may_echo(&announced.route) => {
                if !announced.gone {
                    return Some(announced.retract(path, now, &mut self.deferred));
                }
                if announced.held.is_some_and(|until| until > now) {
                    return None;
                }
                *announced = AnnouncedRoute::of(&entry);
                Some(RouteChange::Announced(entry))
            }
            // There are other routes, which may become trusted again.
            (Some(announced), None) if is_peer && is_left(announced) => {
                (!announced.gone).then(|| announced.retract(path, now, &mut self.deferred))
            }
            // The next call announces what took its place, if anything.
            (Some(announced), _) => {
                let was_gone = announced.gone;
                if let Some(until) = announced.held {
                    self.deferred.remove(&(until, path.clone()));
                }
                self.announced.remove(path);
                table.remove_announced(path);
                self.deferred.insert((now, path.clone()));
                (!was_gone).then_some(RouteChange::Gone)
            }
        }
    }
}

census! { TableReader {
    counts: announced, deferred;
    plain: scope, horizon, filter, listener, seen, walk, count, is_over_quota, is_paused;
} }
