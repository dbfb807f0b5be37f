//! The paths of an origin with the ways to each, and cursors that read their changes.
//!
//! Changes are never queued. Each path stands once in an index, under the version of its last change;
//! a [`Reader`] is the last version that it has seen, and what it was told. So what came and went
//! between two reads costs nothing, and what is left to read is found without a queue per reader.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::route::{HOLD_TIME, Horizon, Reach, Route};
use super::scope::Scope;
use crate::census::census;
use crate::{Instant, Path};

/// One way to a broadcast `B`.
#[derive(Clone, Debug)]
pub(super) struct Way<B> {
    /// The version at which it came: tells ways apart, and newer from older.
    pub(super) id: u64,
    /// The id of the first way to this very broadcast: tells broadcasts apart, and newer from older.
    pub(super) first: u64,
    pub(super) route: Route,
    pub(super) broadcast: B,
    /// Until when peers are not told of it: somebody on the way says that there is none.
    doubt: Option<Instant>,
}

impl<B> Way<B> {
    /// Smaller is better. Of one broadcast that is the better route, of several broadcasts the newest one:
    /// what was there before may have lost its publisher, and no route tells.
    fn order(&self) -> impl Ord + use<B> {
        let standing = self.route.standing();
        let age = if standing.counts_age() { Reverse(self.first) } else { Reverse(0) };
        (standing, age, self.route.rank(), Reverse(self.id))
    }
}

#[derive(Debug)]
struct Entry<B> {
    /// The last change, which is its place in the index.
    version: u64,
    /// Best first.
    ways: Vec<Way<B>>,
    /// Readers that were told of a broadcast here and not yet of its end.
    believers: usize,
}

/// All paths with a way, and those without that some reader still believes in.
///
/// It grows with what is announced, and with what readers were told: never by a question, nor by a
/// reader that does not read.
#[derive(Debug)]
pub(super) struct Table<B> {
    entries: BTreeMap<Path, Entry<B>>,
    /// By version of the last change.
    index: BTreeMap<u64, Path>,
    /// Of the last change of all; the first is 1.
    version: u64,
}

impl<B> Default for Table<B> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), index: BTreeMap::new(), version: 0 }
    }
}

impl<B> Table<B> {
    /// Adds a way, and gives the id that [`Table::remove`] and [`Table::reroute`] want.
    pub(super) fn insert(&mut self, path: &Path, route: Route, broadcast: B) -> u64 {
        let entry = self.touch(path);
        let id = entry.version;
        entry.place(Way { id, first: id, route, broadcast, doubt: None });
        id
    }

    /// Adds another way to the broadcast of `way`. Readers are told of a change between the two as one
    /// of the route.
    pub(super) fn join(&mut self, path: &Path, way: Way<B>, route: Route) -> u64 {
        let entry = self.touch(path);
        let id = entry.version;
        entry.place(Way { id, route, doubt: None, ..way });
        id
    }

    /// Takes a way out; the next best takes over.
    pub(super) fn remove(&mut self, path: &Path, id: u64) -> Option<Way<B>> {
        let way = self.entries.get_mut(path)?.take(id)?;
        self.touch(path);
        self.prune(path);
        Some(way)
    }

    /// The last hop of `lost`, which was taken out, said that it has no way any more. So none of those
    /// that go through it can be one, and whoever told them will say so too.
    pub(super) fn doubt(&mut self, path: &Path, lost: &Way<B>, until: Instant) {
        let Some(entry) = self.entries.get_mut(path) else { return };
        let Some(hop) = lost.route.hops.as_slice().last() else { return };
        for way in entry.ways.iter_mut().filter(|way| way.first == lost.first) {
            if way.route.hops.contains(*hop) {
                way.doubt = Some(until);
            }
        }
    }

    /// Changes the route of a way, if it is still there.
    pub(super) fn reroute(&mut self, path: &Path, id: u64, route: Route) {
        if let Some(way) = self.entries.get_mut(path).and_then(|entry| entry.take(id)) {
            self.touch(path).place(Way { route, doubt: None, ..way });
        }
    }

    /// The ways to a path, best first.
    pub(super) fn ways(&self, path: &Path) -> &[Way<B>] {
        self.entries.get(path).map_or(&[], |entry| &entry.ways)
    }

    /// The best way to a path within a horizon.
    pub(super) fn best(&self, path: &Path, horizon: Horizon) -> Option<&Way<B>> {
        self.ways(path).iter().find(|way| horizon.shows(&way.route))
    }

    /// The ways that lead to what is asked for at or below their own path, where that covers `path`: the
    /// nearest path first, and of one path the best.
    pub(super) fn covering<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a Way<B>> {
        let above = |path: &str| match path.rfind('/') {
            Some(at) => Some(at),
            None => (!path.is_empty()).then_some(0),
        };
        let text = path.as_str();
        let ends = std::iter::successors(Some(text.len()), move |end| above(&text[..*end]));
        let paths = ends.map(move |end| &text[..end]);
        let ways = paths.filter_map(|path| self.entries.get(path)).flat_map(|entry| &entry.ways);
        ways.filter(|way| way.route.reach != Reach::Exact)
    }

    /// An id that no way has.
    pub(super) fn spare_id(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Moves a path to the end of the index.
    fn touch(&mut self, path: &Path) -> &mut Entry<B> {
        self.version += 1;
        let entry = self.entries.entry(path.clone()).or_insert(Entry {
            version: 0,
            ways: Vec::new(),
            believers: 0,
        });
        self.index.remove(&entry.version);
        self.index.insert(self.version, path.clone());
        entry.version = self.version;
        entry
    }

    fn prune(&mut self, path: &Path) {
        let Some(entry) = self.entries.get(path) else { return };
        if entry.ways.is_empty() && entry.believers == 0 {
            self.index.remove(&entry.version);
            self.entries.remove(path);
        }
    }

    fn believe(&mut self, path: &Path) {
        if let Some(entry) = self.entries.get_mut(path) {
            entry.believers += 1;
        }
    }

    fn disbelieve(&mut self, path: &Path) {
        if let Some(entry) = self.entries.get_mut(path) {
            entry.believers -= 1;
        }
        self.prune(path);
    }
}

impl<B> Entry<B> {
    fn place(&mut self, way: Way<B>) {
        if let Some(hop) = way.route.hops.as_slice().last() {
            // Who has a way is believed again.
            for other in self.ways.iter_mut().filter(|other| other.first == way.first) {
                if other.route.hops.contains(*hop) {
                    other.doubt = None;
                }
            }
        }
        let at = self.ways.partition_point(|other| other.order() < way.order());
        self.ways.insert(at, way);
    }

    fn take(&mut self, id: u64) -> Option<Way<B>> {
        let at = self.ways.iter().position(|way| way.id == id)?;
        Some(self.ways.remove(at))
    }
}

/// A cursor over the changes of a [`Table`]. [`Reader::forget`] gives it back.
#[derive(Debug)]
pub(super) struct Reader {
    scope: Scope,
    horizon: Horizon,
    /// Everything up to this version was read.
    seen: u64,
    /// What is there, as far as it was told; by whole path.
    told: BTreeMap<Path, Told>,
    /// When to look again at what is held or in doubt.
    later: BTreeSet<(Instant, Path)>,
}

/// What a reader was told of a path.
#[derive(Clone, Debug)]
struct Told {
    /// Of the first way to the broadcast.
    first: u64,
    route: Route,
    /// Whether it was told that it is gone, while another route is held.
    gone: bool,
    /// Until when a route is held that is no better.
    held: Option<Instant>,
}

impl Told {
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
pub(super) enum Change<B> {
    /// There is a broadcast, where the reader knew of none.
    Announced(Way<B>),
    /// The broadcast that the reader knew is gone; another one follows as a change of its own.
    Gone,
    /// The broadcast that the reader knew has another route.
    Rerouted(Way<B>),
}

impl Reader {
    /// A reader to which everything is new.
    pub(super) fn new(scope: Scope, horizon: Horizon) -> Self {
        Self { scope, horizon, seen: 0, told: BTreeMap::new(), later: BTreeSet::new() }
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// A second reader that goes on from the same point.
    pub(super) fn fork<B>(&self, table: &mut Table<B>) -> Self {
        for path in self.told.keys() {
            table.believe(path);
        }
        let Self { scope, horizon, seen, told, later } = self;
        let (scope, told, later) = (scope.clone(), told.clone(), later.clone());
        Self { scope, horizon: *horizon, seen: *seen, told, later }
    }

    /// When to ask again although nothing changes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }

    /// Frees what the table keeps for this reader.
    pub(super) fn forget<B>(&mut self, table: &mut Table<B>) {
        self.later.clear();
        for path in std::mem::take(&mut self.told).keys() {
            table.disbelieve(path);
        }
    }

    /// The next change and its path, relative to the root of the scope.
    ///
    /// A peer hears [`HOLD_TIME`] later of a route that is no better than the one it knows. If the best
    /// one leads back to the peer, it hears at once that the one it knows is gone: it must not be left
    /// to rely on us while we rely on it.
    pub(super) fn next<B: Clone>(
        &mut self,
        table: &mut Table<B>,
        now: Instant,
    ) -> Option<(Path, Change<B>)> {
        loop {
            let unseen = (Bound::Excluded(self.seen), Bound::Unbounded);
            let (path, version) = if self.deadline().is_some_and(|at| at <= now) {
                (self.later.pop_first()?.1, self.seen)
            } else {
                let (version, path) = table.index.range(unseen).next()?;
                (path.clone(), *version)
            };
            let Some(name) = self.scope.relative(&path) else {
                self.seen = version;
                continue;
            };
            let is_peer = self.horizon.session.is_some();
            let doubt = |way: &&Way<B>| way.doubt.filter(|until| is_peer && *until > now);
            let ways = table.ways(&path);
            let understood = ways.iter().filter(|way| self.horizon.understands(&way.route));
            let mut trusted = understood.filter(|way| doubt(way).is_none());
            let way = trusted.clone().find(|way| self.horizon.shows(&way.route)).cloned();
            let leads_back = trusted.next().is_some_and(|way| !self.horizon.shows(&way.route));
            let is_left = |told: &Told| ways.iter().any(|way| way.first == told.first);
            if let Some(until) = ways.iter().filter_map(|way| doubt(&way)).min() {
                self.later.insert((until, path.clone()));
            }
            match (self.told.get_mut(&path), way) {
                (None, None) => self.seen = version,
                (None, Some(way)) => {
                    self.seen = version;
                    let (first, route) = (way.first, way.route.clone());
                    let told = Told { first, route, gone: false, held: None };
                    self.told.insert(path.clone(), told);
                    table.believe(&path);
                    return Some((name, Change::Announced(way)));
                }
                (Some(told), Some(way)) if told.first == way.first => {
                    self.seen = version;
                    let is_news = told.gone || told.route != way.route;
                    let is_better = way.route.rank() < told.route.rank();
                    let until = told.held.unwrap_or(now + HOLD_TIME);
                    if is_peer && is_news && !is_better && until > now {
                        if leads_back && !told.gone {
                            told.take_back(&path, now, &mut self.later);
                            return Some((name, Change::Gone));
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
                        let change = if was_gone { Change::Announced } else { Change::Rerouted };
                        return Some((name, change(way)));
                    }
                }
                // Nobody says who it is: it may be the old one on its way around.
                (Some(told), Some(way)) if is_peer && way.route.may_echo(&told.route) => {
                    self.seen = version;
                    if !told.gone {
                        told.take_back(&path, now, &mut self.later);
                        return Some((name, Change::Gone));
                    }
                    if told.held.is_none_or(|until| until <= now) {
                        let (first, route) = (way.first, way.route.clone());
                        *told = Told { first, route, gone: false, held: None };
                        return Some((name, Change::Announced(way)));
                    }
                }
                // There are others, which may get trusted.
                (Some(told), None) if is_peer && is_left(told) => {
                    self.seen = version;
                    if !told.gone {
                        told.take_back(&path, now, &mut self.later);
                        return Some((name, Change::Gone));
                    }
                }
                // `seen` stays, so that the next call announces what took its place, if anything.
                (Some(told), _) => {
                    let was_gone = told.gone;
                    if let Some(until) = told.held {
                        self.later.remove(&(until, path.clone()));
                    }
                    self.told.remove(&path);
                    table.disbelieve(&path);
                    if !was_gone {
                        return Some((name, Change::Gone));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
impl<B> Table<B> {
    /// How many entries, and how many in the index.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.entries.len(), self.index.len())
    }
}

census! { Table<super::broadcast::BroadcastConsumer> { counts: index; within: entries; plain: version; } }
census! { each Entry<super::broadcast::BroadcastConsumer> { counts: believers; within: ways; plain: version; } }
census! { each Way<super::broadcast::BroadcastConsumer> { within: broadcast; plain: id, first, route, doubt; } }
census! { Reader { counts: told, later; plain: scope, horizon, seen; } }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hop::{Cost, Hop};
    use crate::model::route::SessionId;

    /// What a reader reads until it knows everything, as text.
    fn read(reader: &mut Reader, table: &mut Table<u32>) -> Vec<String> {
        let mut out = Vec::new();
        while let Some((path, change)) = reader.next(table, Instant::ZERO) {
            out.push(match change {
                Change::Announced(way) => format!("+{path} {}", way.broadcast),
                Change::Gone => format!("-{path}"),
                Change::Rerouted(way) => format!("~{path} {}", way.broadcast),
            });
        }
        out
    }

    fn everything() -> Reader {
        Reader::new(Scope::default(), Horizon::default())
    }

    fn through(hop: u64, session: u64) -> Route {
        let hops = [Hop::new(hop)].into_iter().collect();
        Route { hops, session: Some(SessionId(session)), ..Route::default() }
    }

    #[test]
    fn a_path_that_comes_and_goes_costs_nothing_to_who_does_not_read() {
        let mut table = Table::default();
        let mut slow = everything();
        let kept = table.insert(&Path::new("kept"), Route::default(), 0);
        assert_eq!(read(&mut slow, &mut table), ["+kept 0"]);
        for n in 0..10_000 {
            let path = Path::new(&format!("room/{n}"));
            let id = table.insert(&path, Route::default(), n);
            assert!(table.remove(&path, id).is_some());
        }
        assert_eq!(table.sizes(), (1, 1));
        assert_eq!(read(&mut slow, &mut table), [""; 0]);
        assert!(table.remove(&Path::new("kept"), kept).is_some());
        assert_eq!(table.sizes(), (1, 1), "the slow one believes in it");
        assert_eq!(read(&mut slow, &mut table), ["-kept"]);
        assert_eq!(table.sizes(), (0, 0));
    }

    #[test]
    fn one_path_replaced_many_times_is_one_change() {
        let mut table = Table::default();
        let mut reader = everything();
        let path = Path::new("a");
        let mut id = table.insert(&path, Route::default(), 0);
        assert_eq!(read(&mut reader, &mut table), ["+a 0"]);
        for n in 1..=10_000 {
            assert!(table.remove(&path, id).is_some());
            id = table.insert(&path, Route::default(), n);
        }
        assert_eq!(table.sizes(), (1, 1));
        assert_eq!(read(&mut reader, &mut table), ["-a", "+a 10000"]);
        assert_eq!(read(&mut everything(), &mut table), ["+a 10000"]);
    }

    #[test]
    fn a_forked_reader_goes_on_and_a_forgotten_one_leaves_nothing() {
        let mut table = Table::default();
        let mut first = everything();
        let path = Path::new("a");
        let id = table.insert(&path, Route::default(), 1);
        assert_eq!(read(&mut first, &mut table), ["+a 1"]);
        let mut second = first.fork(&mut table);
        table.remove(&path, id);
        assert_eq!(read(&mut first, &mut table), ["-a"]);
        assert_eq!(table.entries.len(), 1);
        second.forget(&mut table);
        assert_eq!(table.sizes(), (0, 0));
    }

    #[test]
    fn the_loser_stands_by_and_takes_over() {
        let mut table = Table::default();
        let mut reader = everything();
        let path = Path::new("a");
        let far = table.insert(&path, through(7, 1), 1);
        assert_eq!(read(&mut reader, &mut table), ["+a 1"]);
        let local = table.insert(&path, Route::default(), 2);
        assert_eq!(read(&mut reader, &mut table), ["-a", "+a 2"]);
        let newer = table.insert(&path, through(8, 2), 3);
        assert_eq!(read(&mut reader, &mut table), [""; 0], "the best stays the best");
        table.remove(&path, local);
        assert_eq!(read(&mut reader, &mut table), ["-a", "+a 3"], "the newest among equals");
        table.remove(&path, newer);
        table.remove(&path, far);
        assert_eq!(read(&mut reader, &mut table), ["-a"]);
    }

    #[test]
    fn a_route_is_told_again_only_if_it_changed() {
        let mut table = Table::default();
        let mut reader = everything();
        let path = Path::new("a");
        let id = table.insert(&path, through(7, 1), 1);
        assert_eq!(read(&mut reader, &mut table), ["+a 1"]);
        table.reroute(&path, id, through(8, 1));
        table.reroute(&path, id, through(7, 1));
        assert_eq!(read(&mut reader, &mut table), [""; 0]);
        table.reroute(&path, id, through(8, 1));
        assert_eq!(read(&mut reader, &mut table), ["~a 1"]);
        let standby = table.insert(&path, through(9, 2), 2);
        assert_eq!(read(&mut reader, &mut table), ["-a", "+a 2"]);
        let dear = Route { cost: Cost { warm: 9, cold: 9 }, ..through(9, 2) };
        table.reroute(&path, standby, dear.clone());
        assert_eq!(read(&mut reader, &mut table), ["~a 2"], "it is the newer broadcast still");
        table.reroute(&path, standby, Route { cost: Cost::DRAINED, ..dear });
        assert_eq!(read(&mut reader, &mut table), ["-a", "+a 1"], "it is about to end");
        table.remove(&path, id);
        table.reroute(&path, id, through(1, 1));
        assert_eq!(table.ways(&path).len(), 1, "what is gone can't be rerouted");
    }

    #[test]
    fn behind_a_horizon_the_next_best_is_seen() {
        let mut table = Table::default();
        let path = Path::new("a");
        let best = table.insert(&path, through(7, 1), 1);
        let worse = Route { cost: Cost { warm: 5, cold: 5 }, ..through(8, 2) };
        table.insert(&path, worse, 2);
        let horizon = Horizon { exclude: Hop::new(7), ..Horizon::default() };
        let mut reader = Reader::new(Scope::default(), horizon);
        assert_eq!(read(&mut reader, &mut table), ["+a 2"]);
        table.remove(&path, best);
        assert_eq!(read(&mut reader, &mut table), [""; 0]);
        let horizon = Horizon { session: Some(SessionId(2)), ..Horizon::default() };
        assert_eq!(read(&mut Reader::new(Scope::default(), horizon), &mut table), [""; 0]);
    }
}
