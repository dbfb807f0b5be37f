//! The paths of an origin with the ways to each, and cursors that read their changes.
//!
//! Nothing is queued or copied for a [`Reader`]. At first it walks over what there is below its prefixes, in
//! the order of the paths, and remembers how far it came. Then it reads changes: below a prefix that
//! somebody listens to, each path that changed stands once, under the version of its last change
//! ([`Changes`]), and the reader remembers the last version that it has seen. So what came and went between
//! two reads costs nothing, and a reader finds what concerns it without looking at the rest.

mod change_log;
mod reader;
#[cfg(test)]
mod tests;

pub(crate) use reader::{AnnounceFilter, AnnounceQuota, RouteChange, TableReader};

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::task::Waker;

use self::change_log::ChangeLog;
use crate::census::census;
use crate::model::base::{DeferredWakes, Horizon, Reach, Route, WaitSlot};
use crate::{Instant, Path};

/// Paths that are looked at under one lock at most.
const STEP: usize = 256;

/// One way to a broadcast `B`.
#[derive(Clone, Debug)]
pub(crate) struct RouteEntry<B> {
    /// The version at which it came: tells ways apart, and newer from older.
    pub(crate) id: u64,
    /// The id of the first way to this very broadcast: tells broadcasts apart, and newer from older.
    pub(crate) first: u64,
    pub(crate) route: Route,
    pub(crate) broadcast: B,
    /// Until when peers are not told of it: somebody on the way says that there is none.
    suspect_until: Option<Instant>,
}

impl<B> RouteEntry<B> {
    /// Smaller is better. Of one broadcast that is the better route, of several broadcasts the newest one:
    /// what was there before may have lost its publisher, and no route tells. `by_age`: else of all the better
    /// route.
    fn order(&self, by_age: bool) -> impl Ord + use<B> {
        let class = self.route.class();
        let counts = by_age && class.counts_age();
        let age = if counts { Reverse(self.first) } else { Reverse(0) };
        // All relays agree about that as well. A publisher that was started again is next to the relay.
        let far = !by_age && !self.route.is_direct();
        let publisher = self.route.hops.as_slice().first().filter(|_| far).copied();
        (class, age, self.route.rank(), publisher, Reverse(self.id))
    }
}

#[derive(Debug)]
struct PathEntry<B> {
    /// Of the last change.
    version: u64,
    /// Best first.
    routes: Vec<RouteEntry<B>>,
    /// Readers that were told of a broadcast here and not yet of its end.
    announced_to: usize,
    /// How often a way came, changed or went while there were several broadcasts, up to [`MAX_CHANGES`].
    changes: u8,
}

/// How many changes there may be at a path with several broadcasts before the better route decides, and not age.
/// Relays that hear of two live broadcasts from each other might never agree which is newer; about routes they
/// do.
const MAX_CHANGES: u8 = 32;

/// All paths with a way, and those without that some reader still believes in.
///
/// It grows with what is announced, and with what readers were told: never by a question, nor by a
/// reader that does not read.
#[derive(Debug)]
pub(crate) struct RoutingTable<B> {
    entries: BTreeMap<Path, PathEntry<B>>,
    changes: ChangeLog,
    /// Of the last change of all; the first is 1.
    version: u64,
    /// How many paths and changes were looked at.
    #[cfg(any(test, feature = "sim"))]
    looks: usize,
}

impl<B> Default for RoutingTable<B> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            changes: ChangeLog::default(),
            version: 0,
            #[cfg(any(test, feature = "sim"))]
            looks: 0,
        }
    }
}

impl<B> RoutingTable<B> {
    /// Adds a way, and gives the id that [`RoutingTable::remove`] and [`RoutingTable::reroute`] want.
    pub(crate) fn insert(&mut self, path: &Path, route: Route, broadcast: B) -> u64 {
        let path_entry = self.touch(path);
        let id = path_entry.version;
        path_entry.change(|it| {
            it.place(RouteEntry { id, first: id, route, broadcast, suspect_until: None })
        });
        id
    }

    /// Adds another way to the broadcast of `entry`. Readers are told of a change between the two as one
    /// of the route.
    pub(crate) fn join(&mut self, path: &Path, entry: RouteEntry<B>, route: Route) -> u64 {
        let path_entry = self.touch(path);
        let id = path_entry.version;
        path_entry.change(|it| it.place(RouteEntry { id, route, suspect_until: None, ..entry }));
        id
    }

    /// Takes a way out; the next best takes over.
    pub(crate) fn remove(&mut self, path: &Path, id: u64) -> Option<RouteEntry<B>> {
        let entry = self.entries.get_mut(path)?.change(|it| it.take(id))?;
        self.touch(path);
        self.prune(path);
        Some(entry)
    }

    /// The last hop of `lost`, which was taken out, said that it has no way any more. So none of those
    /// that go through it can be one, and whoever told them will say so too.
    pub(crate) fn suspect(&mut self, path: &Path, lost: &RouteEntry<B>, until: Instant) {
        let Some(path_entry) = self.entries.get_mut(path) else { return };
        let Some(hop) = lost.route.hops.as_slice().last() else { return };
        for entry in path_entry.routes.iter_mut().filter(|entry| entry.first == lost.first) {
            if entry.route.hops.contains(*hop) {
                entry.suspect_until = Some(until);
            }
        }
    }

    /// Changes the route of a way, if it is still there.
    pub(crate) fn reroute(&mut self, path: &Path, id: u64, route: Route) {
        let Some(path_entry) = self.entries.get_mut(path) else { return };
        let is_there = path_entry.change(|it| {
            it.take(id)
                .map(|entry| it.place(RouteEntry { route, suspect_until: None, ..entry }))
                .is_some()
        });
        if is_there {
            self.touch(path);
        }
    }

    /// The ways to a path, best first.
    pub(crate) fn routes(&self, path: &Path) -> &[RouteEntry<B>] {
        self.entries.get(path).map_or(&[], |path_entry| &path_entry.routes)
    }

    /// The best way to a path within a horizon.
    pub(crate) fn best(&self, path: &Path, horizon: Horizon) -> Option<&RouteEntry<B>> {
        self.routes(path).iter().find(|entry| horizon.shows(&entry.route))
    }

    /// The ways that lead to what is asked for at or below their own path, where that covers `path`: the
    /// nearest path first, and of one path the best.
    pub(crate) fn covering<'a>(
        &'a self,
        path: &'a Path,
    ) -> impl Iterator<Item = &'a RouteEntry<B>> {
        let entries = path.covering().filter_map(|path| self.entries.get(path));
        let routes = entries.flat_map(|path_entry| &path_entry.routes);
        routes.filter(|entry| entry.route.reach != Reach::Exact)
    }

    /// An id that no way has.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Somebody wants to know when something changes at exactly `path`, until [`RoutingTable::unwatch`].
    pub(crate) fn watch(&mut self, path: &Path) {
        self.changes.watch(path);
    }

    pub(crate) fn unwatch(&mut self, path: &Path, slot: &mut WaitSlot) -> Option<Waker> {
        self.changes.unwatch(path, slot)
    }

    /// One who seeks `path` waits.
    pub(crate) fn wait_at(
        &mut self,
        path: &Path,
        slot: &mut WaitSlot,
        waker: Waker,
    ) -> Option<Waker> {
        self.changes.wait_at(path, slot, waker)
    }

    /// Those whom the last changes concern, to be woken after the unlock.
    pub(crate) fn take_due(&mut self) -> DeferredWakes {
        self.changes.take_due()
    }

    /// Everybody who waits is to look again.
    pub(crate) fn wake_all(&mut self) {
        self.changes.wake_all();
    }

    /// A path has news.
    fn touch(&mut self, path: &Path) -> &mut PathEntry<B> {
        self.version += 1;
        let path_entry = self.entries.entry(path.clone()).or_insert(PathEntry {
            version: 0,
            routes: Vec::new(),
            announced_to: 0,
            changes: 0,
        });
        self.changes.record(path, path_entry.version, self.version);
        path_entry.version = self.version;
        path_entry
    }

    fn prune(&mut self, path: &Path) {
        let Some(path_entry) = self.entries.get(path) else { return };
        if path_entry.routes.is_empty() && path_entry.announced_to == 0 {
            self.changes.forget(path, path_entry.version);
            self.entries.remove(path);
        }
    }

    /// For tests that count the work.
    fn step(&mut self) {
        #[cfg(any(test, feature = "sim"))]
        {
            self.looks += 1;
        }
    }

    /// The next path of a walk, if there is one more below `prefixes`.
    fn walk(&self, prefixes: &[Path], walk: &mut Walk) -> Option<Path> {
        loop {
            let prefix = prefixes.get(walk.prefix)?;
            // What is below a prefix lies in one piece, but not next to the prefix itself.
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
                // Nothing stands at the prefix itself.
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
    fn place(&mut self, entry: RouteEntry<B>) {
        if let Some(hop) = entry.route.hops.as_slice().last() {
            // Who has a way is believed again.
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

    fn counts_age(&self) -> bool {
        self.changes < MAX_CHANGES
    }

    /// Changes the ways, and counts that if they lead to several broadcasts.
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

/// How far a reader came with what there is.
#[derive(Clone, Debug)]
struct Walk {
    /// Index of the prefix that it is at.
    prefix: usize,
    /// The last path; `None` before the prefix itself.
    last: Option<Path>,
    /// What came after this version is left to the changes.
    until: u64,
}

impl Walk {
    fn new(until: u64) -> Self {
        Self { prefix: 0, last: None, until }
    }
}

#[cfg(test)]
impl<B> RoutingTable<B> {
    /// How many paths, how many prefixes that somebody listens to, and changes below those.
    pub(crate) fn sizes(&self) -> (usize, usize, usize) {
        let (prefixes, rows) = self.changes.sizes();
        (self.entries.len(), prefixes, rows)
    }
}

census! { RoutingTable<super::broadcast::BroadcastConsumer> { within: entries, changes; plain: version, looks; } }

census! { each PathEntry<super::broadcast::BroadcastConsumer> { counts: announced_to; within: routes; plain: version, changes; } }

census! { each RouteEntry<super::broadcast::BroadcastConsumer> { within: broadcast; plain: id, first, route, suspect_until; } }
