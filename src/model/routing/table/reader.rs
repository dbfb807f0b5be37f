//! A cursor that reads the changes of a routing table.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;

use super::{RouteEntry, RoutingTable, STEP, Walk};
use crate::census::census;
use crate::model::base::{HOLD_TIME, Horizon, Route};
use crate::model::routing::scope::Scope;
use crate::slab::Key;
use crate::{Instant, Path};

/// A cursor over a [`RoutingTable`]: what there is, then what changes. [`TableReader::forget`] gives it back.
#[derive(Debug)]
pub(crate) struct TableReader {
    scope: Scope,
    horizon: Horizon,
    speech: AnnounceFilter,
    /// Under which key it listens, once it has been asked.
    listener: Option<Key>,
    /// All changes up to this version were read.
    seen: u64,
    /// Until all that there was is read.
    walk: Option<Walk>,
    /// Until all that there was is counted, and how much that is.
    count: Option<(Walk, u64)>,
    /// What is there, as far as it was told; by whole path.
    told: BTreeMap<Path, AnnouncedRoute>,
    /// Something was not told for want of room.
    is_short: bool,
    /// There may be more to read.
    is_paused: bool,
    /// When to look again at what is held or in doubt.
    later: BTreeSet<(Instant, Path)>,
}

/// What can be said to the peer that a reader reads for. The default is everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnnounceFilter {
    /// Paths with a segment that begins with a dot.
    pub(crate) hidden: bool,
    /// Bytes of a path.
    pub(crate) bytes: usize,
    /// Segments of a path.
    pub(crate) segments: usize,
    /// Hops of a route.
    pub(crate) hops: usize,
}

impl Default for AnnounceFilter {
    fn default() -> Self {
        let (bytes, segments, hops) = (usize::MAX, usize::MAX, usize::MAX);
        Self { hidden: true, bytes, segments, hops }
    }
}

impl AnnounceFilter {
    fn has_word_for(&self, name: &str) -> bool {
        let is_shown = || self.hidden || !name.split('/').any(|it| it.starts_with('.'));
        let fits = || name.split('/').nth(self.segments).is_none();
        name.len() <= self.bytes && is_shown() && fits()
    }
}

/// How many more broadcasts a peer may be told of, of how many in all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnnounceQuota {
    pub(crate) left: usize,
    pub(crate) all: usize,
}

impl AnnounceQuota {
    pub(crate) const ENDLESS: Self = Self { left: usize::MAX, all: usize::MAX };

    /// Enough to look again for what there was no room for: each time that costs a whole walk.
    pub(crate) fn is_wide(self) -> bool {
        self.left > 0 && self.left >= self.all / 8
    }
}

/// What a reader was told of a path.
#[derive(Clone, Debug)]
struct AnnouncedRoute {
    /// Of the first way to the broadcast.
    first: u64,
    route: Route,
    /// Whether it was told that it is gone, while another route is held.
    gone: bool,
    /// Until when a route is held that is no better.
    held: Option<Instant>,
}

impl AnnouncedRoute {
    /// It is told that the broadcast is gone. What comes then has to stand for longer: others go through
    /// the same, and their changes come from them one after the other.
    fn take_back(&mut self, path: &Path, now: Instant, later: &mut BTreeSet<(Instant, Path)>) {
        let until = now + 2 * HOLD_TIME;
        if let Some(until) = self.held.replace(until) {
            later.remove(&(until, path.clone()));
        }
        later.insert((until, path.clone()));
        self.gone = true;
    }
}

/// What is new at a path.
#[derive(Debug)]
pub(crate) enum RouteChange<B> {
    /// There is a broadcast, where the reader knew of none.
    Announced(RouteEntry<B>),
    /// The broadcast that the reader knew is gone; another one follows as a change of its own.
    Gone,
    /// The broadcast that the reader knew has another route.
    Rerouted(RouteEntry<B>),
}

impl TableReader {
    /// A reader to which everything is new.
    pub(crate) fn new(scope: Scope, horizon: Horizon, speech: AnnounceFilter) -> Self {
        Self {
            scope,
            horizon,
            speech,
            listener: None,
            seen: 0,
            walk: None,
            count: None,
            told: BTreeMap::new(),
            is_short: false,
            is_paused: false,
            later: BTreeSet::new(),
        }
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// A second reader that goes on from the same point.
    pub(crate) fn fork<B>(&self, table: &mut RoutingTable<B>) -> Self {
        for path in self.told.keys() {
            table.believe(path);
        }
        let prefixes = self.scope.prefixes();
        Self {
            scope: self.scope.clone(),
            listener: self.listener.map(|_| table.changes.listen(prefixes)),
            walk: self.walk.clone(),
            count: self.count.clone(),
            told: self.told.clone(),
            later: self.later.clone(),
            ..*self
        }
    }

    /// When to ask again although nothing changes.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }

    /// How many broadcasts it was told of that are not known to be gone.
    pub(crate) fn told(&self) -> usize {
        self.told.len()
    }

    pub(crate) fn was_told_of(&self, name: &Path) -> bool {
        self.scope.absolute(name).is_some_and(|path| self.told.contains_key(&path))
    }

    /// Whether all that there was when it was first asked was read, and it reads changes.
    pub(crate) fn knows_all(&self) -> bool {
        self.listener.is_some() && self.walk.is_none()
    }

    /// Whether something was not told for want of room.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short
    }

    /// Waits for the next change. What comes back is to be dropped after the unlock.
    #[must_use = "to be dropped after the unlock"]
    pub(crate) fn wait<B>(&mut self, table: &mut RoutingTable<B>, waker: Waker) -> Option<Waker> {
        table.changes.wait(self.scope.prefixes(), self.listener?, waker)
    }

    /// Frees what the table keeps for this reader. What comes back is to be dropped after the unlock.
    #[must_use = "to be dropped after the unlock"]
    pub(crate) fn forget<B>(&mut self, table: &mut RoutingTable<B>) -> Option<Waker> {
        self.later.clear();
        for path in std::mem::take(&mut self.told).keys() {
            table.disbelieve(path);
        }
        table.changes.leave(self.scope.prefixes(), self.listener.take()?)
    }

    fn open<B>(&mut self, table: &mut RoutingTable<B>) {
        if self.listener.is_none() {
            self.listener = Some(table.changes.listen(self.scope.prefixes()));
            self.seen = table.version;
            self.walk = Some(Walk::new(table.version));
            self.count = Some((Walk::new(table.version), 0));
        }
    }

    /// Whether what is at a path can be told at all.
    fn can_name(&self, path: &Path) -> bool {
        let name = path.suffix_text(self.scope.root());
        name.is_some_and(|name| self.speech.has_word_for(name))
    }

    fn is_in_doubt<B>(&self, way: &RouteEntry<B>, now: Instant) -> bool {
        self.horizon.session.is_some() && way.doubt.is_some_and(|until| until > now)
    }

    fn can_be_told<B>(&self, way: &RouteEntry<B>) -> bool {
        self.horizon.shows(&way.route) && way.route.hops.len() <= self.speech.hops
    }

    /// The ways to a path that can be told and that there were at version `until`.
    fn initial<'a, B>(
        &self,
        table: &'a RoutingTable<B>,
        path: &Path,
        until: u64,
    ) -> impl Iterator<Item = &'a RouteEntry<B>> + use<'a, '_, B> {
        table.ways(path).iter().filter(move |way| way.id <= until && self.can_be_told(way))
    }

    /// How many broadcasts there were when it was first asked, at most `most`. `None`: others may have the
    /// lock, and then it is to be asked again. What came is not among them, and what went may be.
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
            table.look();
            let mut ways = self.initial(table, &path, walk.until);
            let is_one = self.can_name(&path) && ways.any(|way| !self.is_in_doubt(way, now));
            count += u64::from(is_one);
        }
        self.count = Some((walk, count));
        None
    }

    /// Whether there may be more to read, when others had the lock. So it is between what there was and what
    /// changed.
    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// The next path to look at, and the version up to which all is read when that was done. On a walk also
    /// up to which version things belong to it.
    fn look<B>(
        &mut self,
        table: &mut RoutingTable<B>,
        now: Instant,
    ) -> Option<(Path, u64, Option<u64>)> {
        table.look();
        if self.deadline().is_some_and(|at| at <= now) {
            return Some((self.later.pop_first()?.1, self.seen, None));
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

    /// The next change and its path, relative to the root of the scope. `None` if there is no other, or none
    /// of those that were looked at: [`TableReader::is_paused`].
    ///
    /// A peer hears [`HOLD_TIME`] later of a route that is no better than the one it knows. If the best
    /// one leads back to the peer, it hears at once that the one it knows is gone: it must not be left
    /// to rely on us while we rely on it.
    ///
    /// Without `room` it hears of no other broadcasts, but of all that becomes of those it knows. When there
    /// is room again it hears of the others.
    pub(crate) fn next<B: Clone>(
        &mut self,
        table: &mut RoutingTable<B>,
        now: Instant,
        room: AnnounceQuota,
    ) -> Option<(Path, RouteChange<B>)> {
        self.open(table);
        if self.is_short && self.walk.is_none() && room.is_wide() {
            self.is_short = false;
            self.walk = Some(Walk::new(u64::MAX));
        }
        self.is_paused = false;
        for _ in 0..STEP {
            let (path, version, until) = self.look(table, now)?;
            // What else the walk finds is told as a change.
            let is_due = until.is_none_or(|until| {
                !self.told.contains_key(&path) && self.initial(table, &path, until).next().is_some()
            });
            let name = self.scope.relative(&path).filter(|_| is_due && self.can_name(&path));
            let Some(name) = name else {
                self.seen = version;
                continue;
            };
            let is_peer = self.horizon.session.is_some();
            let doubt = |way: &&RouteEntry<B>| way.doubt.filter(|until| is_peer && *until > now);
            let ways = table.ways(&path);
            let understood = ways.iter().filter(|way| self.horizon.understands(&way.route));
            let mut trusted = understood.filter(|way| doubt(way).is_none());
            let way = trusted.clone().find(|way| self.can_be_told(way)).cloned();
            let leads_back = trusted.next().is_some_and(|way| !self.horizon.shows(&way.route));
            let is_left = |told: &AnnouncedRoute| ways.iter().any(|way| way.first == told.first);
            if let Some(until) = ways.iter().filter_map(|way| doubt(&way)).min() {
                self.later.insert((until, path.clone()));
            }
            match (self.told.get_mut(&path), way) {
                (None, None) => self.seen = version,
                (None, Some(_)) if room.left == 0 => {
                    self.seen = version;
                    self.is_short = true;
                }
                (None, Some(way)) => {
                    self.seen = version;
                    let (first, route) = (way.first, way.route.clone());
                    let told = AnnouncedRoute { first, route, gone: false, held: None };
                    self.told.insert(path.clone(), told);
                    table.believe(&path);
                    return Some((name, RouteChange::Announced(way)));
                }
                (Some(told), Some(way)) if told.first == way.first => {
                    self.seen = version;
                    let is_news = told.gone || told.route != way.route;
                    let is_better = way.route.rank() < told.route.rank();
                    let until = told.held.unwrap_or(now + HOLD_TIME);
                    if is_peer && is_news && !is_better && until > now {
                        if leads_back && !told.gone {
                            told.take_back(&path, now, &mut self.later);
                            return Some((name, RouteChange::Gone));
                        }
                        told.held = Some(until);
                        self.later.insert((until, path));
                        continue;
                    }
                    if let Some(until) = told.held.take() {
                        self.later.remove(&(until, path));
                    }
                    if is_news {
                        told.route.clone_from(&way.route);
                        let was_gone = std::mem::take(&mut told.gone);
                        let change =
                            if was_gone { RouteChange::Announced } else { RouteChange::Rerouted };
                        return Some((name, change(way)));
                    }
                }
                // Nobody says who it is: it may be the old one on its way around.
                (Some(told), Some(way)) if is_peer && way.route.may_echo(&told.route) => {
                    self.seen = version;
                    if !told.gone {
                        told.take_back(&path, now, &mut self.later);
                        return Some((name, RouteChange::Gone));
                    }
                    if told.held.is_none_or(|until| until <= now) {
                        let (first, route) = (way.first, way.route.clone());
                        *told = AnnouncedRoute { first, route, gone: false, held: None };
                        return Some((name, RouteChange::Announced(way)));
                    }
                }
                // There are others, which may get trusted.
                (Some(told), None) if is_peer && is_left(told) => {
                    self.seen = version;
                    if !told.gone {
                        told.take_back(&path, now, &mut self.later);
                        return Some((name, RouteChange::Gone));
                    }
                }
                // The next call announces what took its place, if anything.
                (Some(told), _) => {
                    self.seen = version;
                    let was_gone = told.gone;
                    if let Some(until) = told.held {
                        self.later.remove(&(until, path.clone()));
                    }
                    self.told.remove(&path);
                    table.disbelieve(&path);
                    self.later.insert((now, path));
                    if !was_gone {
                        return Some((name, RouteChange::Gone));
                    }
                }
            }
        }
        self.is_paused = true;
        None
    }
}

census! { TableReader {
    counts: told, later;
    plain: scope, horizon, speech, listener, seen, walk, count, is_short, is_paused;
} }
