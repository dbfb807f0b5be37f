//! The paths of an origin with the ways to each, and cursors that read their changes.
//!
//! Nothing is queued or copied for a [`Reader`]. At first it walks over what there is below its prefixes, in
//! the order of the paths, and remembers how far it came. Then it reads changes: below a prefix that
//! somebody listens to, each path that changed stands once, under the version of its last change
//! ([`Changes`]), and the reader remembers the last version that it has seen. So what came and went between
//! two reads costs nothing, and a reader finds what concerns it without looking at the rest.

mod changes;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::task::Waker;

use changes::Changes;

use super::route::{HOLD_TIME, Horizon, Reach, Route};
use super::scope::Scope;
use super::wakers::{WaitSlot, Woken};
use crate::census::census;
use crate::slab::Key;
use crate::{Instant, Path};

/// Paths that are looked at under one lock at most.
const STEP: usize = 256;

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
    /// what was there before may have lost its publisher, and no route tells. `by_age`: else of all the better
    /// route.
    fn order(&self, by_age: bool) -> impl Ord + use<B> {
        let standing = self.route.standing();
        let counts = by_age && standing.counts_age();
        let age = if counts { Reverse(self.first) } else { Reverse(0) };
        // All relays agree about that as well. A publisher that was started again is next to the relay.
        let far = !by_age && !self.route.is_direct();
        let publisher = self.route.hops.as_slice().first().filter(|_| far).copied();
        (standing, age, self.route.rank(), publisher, Reverse(self.id))
    }
}

#[derive(Debug)]
struct Entry<B> {
    /// Of the last change.
    version: u64,
    /// Best first.
    ways: Vec<Way<B>>,
    /// Readers that were told of a broadcast here and not yet of its end.
    believers: usize,
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
pub(super) struct Table<B> {
    entries: BTreeMap<Path, Entry<B>>,
    changes: Changes,
    /// Of the last change of all; the first is 1.
    version: u64,
    /// How many paths and changes were looked at.
    #[cfg(any(test, feature = "sim"))]
    looks: usize,
}

impl<B> Default for Table<B> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            changes: Changes::default(),
            version: 0,
            #[cfg(any(test, feature = "sim"))]
            looks: 0,
        }
    }
}

impl<B> Table<B> {
    /// Adds a way, and gives the id that [`Table::remove`] and [`Table::reroute`] want.
    pub(super) fn insert(&mut self, path: &Path, route: Route, broadcast: B) -> u64 {
        let entry = self.touch(path);
        let id = entry.version;
        entry.change(|it| it.place(Way { id, first: id, route, broadcast, doubt: None }));
        id
    }

    /// Adds another way to the broadcast of `way`. Readers are told of a change between the two as one
    /// of the route.
    pub(super) fn join(&mut self, path: &Path, way: Way<B>, route: Route) -> u64 {
        let entry = self.touch(path);
        let id = entry.version;
        entry.change(|it| it.place(Way { id, route, doubt: None, ..way }));
        id
    }

    /// Takes a way out; the next best takes over.
    pub(super) fn remove(&mut self, path: &Path, id: u64) -> Option<Way<B>> {
        let way = self.entries.get_mut(path)?.change(|it| it.take(id))?;
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
        let Some(entry) = self.entries.get_mut(path) else { return };
        let is_there = entry.change(|it| {
            it.take(id).map(|way| it.place(Way { route, doubt: None, ..way })).is_some()
        });
        if is_there {
            self.touch(path);
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
        let entries = path.covering().filter_map(|path| self.entries.get(path));
        let ways = entries.flat_map(|entry| &entry.ways);
        ways.filter(|way| way.route.reach != Reach::Exact)
    }

    /// An id that no way has.
    pub(super) fn spare_id(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Somebody wants to know when something changes at exactly `path`, until [`Table::give_up`].
    pub(super) fn seek(&mut self, path: &Path) {
        self.changes.seek(path);
    }

    pub(super) fn give_up(&mut self, path: &Path, slot: &mut WaitSlot) -> Option<Waker> {
        self.changes.give_up(path, slot)
    }

    /// One who seeks `path` waits.
    pub(super) fn wait_at(
        &mut self,
        path: &Path,
        slot: &mut WaitSlot,
        waker: Waker,
    ) -> Option<Waker> {
        self.changes.wait_at(path, slot, waker)
    }

    /// Those whom the last changes concern, to be woken after the unlock.
    pub(super) fn take_due(&mut self) -> Woken {
        self.changes.take_due()
    }

    /// Everybody who waits is to look again.
    pub(super) fn wake_all(&mut self) {
        self.changes.wake_all();
    }

    /// A path has news.
    fn touch(&mut self, path: &Path) -> &mut Entry<B> {
        self.version += 1;
        let entry = self.entries.entry(path.clone()).or_insert(Entry {
            version: 0,
            ways: Vec::new(),
            believers: 0,
            changes: 0,
        });
        self.changes.enter(path, entry.version, self.version);
        entry.version = self.version;
        entry
    }

    fn prune(&mut self, path: &Path) {
        let Some(entry) = self.entries.get(path) else { return };
        if entry.ways.is_empty() && entry.believers == 0 {
            self.changes.forget(path, entry.version);
            self.entries.remove(path);
        }
    }

    /// For tests that count the work.
    fn look(&mut self) {
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
        let by_age = self.counts_age();
        let at = self.ways.partition_point(|other| other.order(by_age) < way.order(by_age));
        self.ways.insert(at, way);
    }

    fn counts_age(&self) -> bool {
        self.changes < MAX_CHANGES
    }

    /// Changes the ways, and counts that if they lead to several broadcasts.
    fn change<T>(&mut self, change: impl FnOnce(&mut Self) -> T) -> T {
        let several = |it: &Self| it.ways.windows(2).any(|pair| pair[0].first != pair[1].first);
        let were_several = several(self);
        let result = change(self);
        if (were_several || several(self)) && self.counts_age() {
            self.changes += 1;
            if !self.counts_age() {
                self.ways.sort_by_key(|way| way.order(false));
            }
        }
        result
    }

    fn take(&mut self, id: u64) -> Option<Way<B>> {
        let at = self.ways.iter().position(|way| way.id == id)?;
        Some(self.ways.remove(at))
    }
}

/// A cursor over a [`Table`]: what there is, then what changes. [`Reader::forget`] gives it back.
#[derive(Debug)]
pub(super) struct Reader {
    scope: Scope,
    horizon: Horizon,
    speech: Speech,
    /// Under which key it listens, once it has been asked.
    listener: Option<Key>,
    /// All changes up to this version were read.
    seen: u64,
    /// Until all that there was is read.
    walk: Option<Walk>,
    /// Until all that there was is counted, and how much that is.
    count: Option<(Walk, u64)>,
    /// What is there, as far as it was told; by whole path.
    told: BTreeMap<Path, Told>,
    /// Something was not told for want of room.
    is_short: bool,
    /// There may be more to read.
    is_paused: bool,
    /// When to look again at what is held or in doubt.
    later: BTreeSet<(Instant, Path)>,
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

/// What can be said to the peer that a reader reads for. The default is everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speech {
    /// Paths with a segment that begins with a dot.
    pub(crate) hidden: bool,
    /// Bytes of a path.
    pub(crate) bytes: usize,
    /// Segments of a path.
    pub(crate) segments: usize,
    /// Hops of a route.
    pub(crate) hops: usize,
}

impl Default for Speech {
    fn default() -> Self {
        let (bytes, segments, hops) = (usize::MAX, usize::MAX, usize::MAX);
        Self { hidden: true, bytes, segments, hops }
    }
}

impl Speech {
    fn has_word_for(&self, name: &str) -> bool {
        let is_shown = || self.hidden || !name.split('/').any(|it| it.starts_with('.'));
        let fits = || name.split('/').nth(self.segments).is_none();
        name.len() <= self.bytes && is_shown() && fits()
    }
}

/// How many more broadcasts a peer may be told of, of how many in all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) left: usize,
    pub(crate) all: usize,
}

impl Room {
    pub(crate) const ENDLESS: Self = Self { left: usize::MAX, all: usize::MAX };

    /// Enough to look again for what there was no room for: each time that costs a whole walk.
    pub(crate) fn is_wide(self) -> bool {
        self.left > 0 && self.left >= self.all / 8
    }
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
    pub(super) fn new(scope: Scope, horizon: Horizon, speech: Speech) -> Self {
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

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// A second reader that goes on from the same point.
    pub(super) fn fork<B>(&self, table: &mut Table<B>) -> Self {
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
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }

    /// How many broadcasts it was told of that are not known to be gone.
    pub(super) fn told(&self) -> usize {
        self.told.len()
    }

    pub(super) fn was_told_of(&self, name: &Path) -> bool {
        self.scope.absolute(name).is_some_and(|path| self.told.contains_key(&path))
    }

    /// Whether all that there was when it was first asked was read, and it reads changes.
    pub(super) fn knows_all(&self) -> bool {
        self.listener.is_some() && self.walk.is_none()
    }

    /// Whether something was not told for want of room.
    pub(super) fn is_short(&self) -> bool {
        self.is_short
    }

    /// Waits for the next change. What comes back is to be dropped after the unlock.
    #[must_use = "to be dropped after the unlock"]
    pub(super) fn wait<B>(&mut self, table: &mut Table<B>, waker: Waker) -> Option<Waker> {
        table.changes.wait(self.scope.prefixes(), self.listener?, waker)
    }

    /// Frees what the table keeps for this reader. What comes back is to be dropped after the unlock.
    #[must_use = "to be dropped after the unlock"]
    pub(super) fn forget<B>(&mut self, table: &mut Table<B>) -> Option<Waker> {
        self.later.clear();
        for path in std::mem::take(&mut self.told).keys() {
            table.disbelieve(path);
        }
        table.changes.leave(self.scope.prefixes(), self.listener.take()?)
    }

    fn open<B>(&mut self, table: &mut Table<B>) {
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

    fn is_in_doubt<B>(&self, way: &Way<B>, now: Instant) -> bool {
        self.horizon.session.is_some() && way.doubt.is_some_and(|until| until > now)
    }

    fn can_be_told<B>(&self, way: &Way<B>) -> bool {
        self.horizon.shows(&way.route) && way.route.hops.len() <= self.speech.hops
    }

    /// The ways to a path that can be told and that there were at version `until`.
    fn initial<'a, B>(
        &self,
        table: &'a Table<B>,
        path: &Path,
        until: u64,
    ) -> impl Iterator<Item = &'a Way<B>> + use<'a, '_, B> {
        table.ways(path).iter().filter(move |way| way.id <= until && self.can_be_told(way))
    }

    /// How many broadcasts there were when it was first asked, at most `most`. `None`: others may have the
    /// lock, and then it is to be asked again. What came is not among them, and what went may be.
    pub(super) fn count<B>(
        &mut self,
        table: &mut Table<B>,
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
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// The next path to look at, and the version up to which all is read when that was done. On a walk also
    /// up to which version things belong to it.
    fn look<B>(&mut self, table: &mut Table<B>, now: Instant) -> Option<(Path, u64, Option<u64>)> {
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
    /// of those that were looked at: [`Reader::is_paused`].
    ///
    /// A peer hears [`HOLD_TIME`] later of a route that is no better than the one it knows. If the best
    /// one leads back to the peer, it hears at once that the one it knows is gone: it must not be left
    /// to rely on us while we rely on it.
    ///
    /// Without `room` it hears of no other broadcasts, but of all that becomes of those it knows. When there
    /// is room again it hears of the others.
    pub(super) fn next<B: Clone>(
        &mut self,
        table: &mut Table<B>,
        now: Instant,
        room: Room,
    ) -> Option<(Path, Change<B>)> {
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
            let doubt = |way: &&Way<B>| way.doubt.filter(|until| is_peer && *until > now);
            let ways = table.ways(&path);
            let understood = ways.iter().filter(|way| self.horizon.understands(&way.route));
            let mut trusted = understood.filter(|way| doubt(way).is_none());
            let way = trusted.clone().find(|way| self.can_be_told(way)).cloned();
            let leads_back = trusted.next().is_some_and(|way| !self.horizon.shows(&way.route));
            let is_left = |told: &Told| ways.iter().any(|way| way.first == told.first);
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
                        return Some((name, Change::Gone));
                    }
                }
            }
        }
        self.is_paused = true;
        None
    }
}

#[cfg(test)]
impl<B> Table<B> {
    /// How many paths, how many prefixes that somebody listens to, and changes below those.
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        let (prefixes, rows) = self.changes.sizes();
        (self.entries.len(), prefixes, rows)
    }
}

census! { Table<super::broadcast::BroadcastConsumer> { within: entries, changes; plain: version, looks; } }
census! { each Entry<super::broadcast::BroadcastConsumer> { counts: believers; within: ways; plain: version, changes; } }
census! { each Way<super::broadcast::BroadcastConsumer> { within: broadcast; plain: id, first, route, doubt; } }
census! { Reader {
    counts: told, later;
    plain: scope, horizon, speech, listener, seen, walk, count, is_short, is_paused;
} }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hop::{Cost, Hop};
    use crate::model::route::SessionId;

    /// What a reader reads until it knows everything, as text.
    fn read(reader: &mut Reader, table: &mut Table<u32>) -> Vec<String> {
        let mut out = Vec::new();
        loop {
            match reader.next(table, Instant::ZERO, Room::ENDLESS) {
                Some((path, Change::Announced(way))) => {
                    out.push(format!("+{path} {}", way.broadcast))
                }
                Some((path, Change::Gone)) => out.push(format!("-{path}")),
                Some((path, Change::Rerouted(way))) => {
                    out.push(format!("~{path} {}", way.broadcast))
                }
                None if reader.is_paused() => {}
                None => return out,
            }
        }
    }

    fn everything() -> Reader {
        Reader::new(Scope::default(), Horizon::default(), Speech::default())
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
        assert_eq!(table.sizes(), (1, 1, 0));
        assert_eq!(read(&mut slow, &mut table), [""; 0]);
        assert!(table.remove(&Path::new("kept"), kept).is_some());
        assert_eq!(table.sizes(), (1, 1, 1), "the slow one believes in it");
        assert_eq!(read(&mut slow, &mut table), ["-kept"]);
        assert_eq!(table.sizes(), (0, 1, 0));
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
        assert_eq!(table.sizes(), (1, 1, 1));
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
        drop(second.forget(&mut table));
        drop(first.forget(&mut table));
        assert_eq!(table.sizes(), (0, 0, 0));
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

    fn below(prefixes: &[&str]) -> Reader {
        let prefixes: Vec<_> = prefixes.iter().copied().map(Path::from).collect();
        let scope = Scope::default().narrowed(&prefixes).unwrap();
        Reader::new(scope, Horizon::default(), Speech::default())
    }

    fn fill(table: &mut Table<u32>, paths: &[&str]) {
        for path in paths {
            table.insert(&Path::new(path), Route::default(), 0);
        }
    }

    /// As text `a-b` stands between `a` and `a/b`.
    #[test]
    fn a_walk_finds_what_is_below_its_prefixes_and_nothing_else() {
        let mut table = Table::default();
        fill(&mut table, &["", "a", "a!", "a-b", "a-b/c", "a/b", "a/b/c", "a0", "ab", "b/c", "c"]);
        let read = |prefixes: &[&str], table: &mut Table<u32>| {
            let mut reader = below(prefixes);
            let found = read(&mut reader, table);
            drop(reader.forget(table));
            found
        };
        assert_eq!(read(&["a"], &mut table), ["+a 0", "+a/b 0", "+a/b/c 0"]);
        assert_eq!(read(&["a/b", "a-b"], &mut table), ["+a/b 0", "+a/b/c 0", "+a-b 0", "+a-b/c 0"]);
        assert_eq!(read(&["b", "c", "d"], &mut table), ["+b/c 0", "+c 0"]);
        assert_eq!(read(&["a/b/c/d"], &mut table), [""; 0]);
        assert_eq!(read(&[""], &mut table).len(), 11);
        assert_eq!(table.sizes(), (11, 0, 0));
    }

    #[test]
    fn changes_are_found_below_each_prefix_in_their_order() {
        let mut table = Table::default();
        let mut reader = below(&["a", "c/d"]);
        let mut wide = everything();
        assert_eq!(read(&mut reader, &mut table), [""; 0]);
        assert_eq!(read(&mut wide, &mut table), [""; 0]);
        fill(&mut table, &["c/d", "b", "c", "a/x", "a-b", "c/d/e"]);
        assert_eq!(table.sizes(), (6, 3, 9));
        assert_eq!(read(&mut reader, &mut table), ["+c/d 0", "+a/x 0", "+c/d/e 0"]);
        assert_eq!(read(&mut wide, &mut table).len(), 6);
        drop((reader.forget(&mut table), wide.forget(&mut table)));
        assert_eq!(table.sizes(), (6, 0, 0));
    }

    /// What came since the walk began is told once, and so is what the walk passed.
    #[test]
    fn a_walk_and_the_changes_meanwhile_make_one() {
        let mut table = Table::default();
        fill(&mut table, &["b", "d", "f"]);
        let mut reader = everything();
        let mut next =
            |table: &mut Table<u32>| match reader.next(table, Instant::ZERO, Room::ENDLESS) {
                Some((path, Change::Announced(_))) => format!("+{path}"),
                Some((path, Change::Gone)) => format!("-{path}"),
                Some((path, Change::Rerouted(_))) => format!("~{path}"),
                None => String::new(),
            };
        assert_eq!(next(&mut table), "+b");
        fill(&mut table, &["a", "e"]);
        let id = |table: &Table<u32>, path: &str| table.ways(&Path::new(path))[0].id;
        for path in ["b", "d"] {
            let id = id(&table, path);
            assert!(table.remove(&Path::new(path), id).is_some());
        }
        let f = id(&table, "f");
        table.reroute(&Path::new("f"), f, through(7, 1));
        assert_eq!(next(&mut table), "+f");
        assert_eq!(next(&mut table), "", "what there was is told");
        let rest: Vec<_> = std::iter::repeat_with(|| next(&mut table)).take(4).collect();
        assert_eq!(rest, ["+a", "+e", "-b", ""]);
    }

    /// The work of a reader with `n` paths elsewhere: to count, to read, and to find a change.
    fn work_beside(n: u32) -> [usize; 3] {
        let mut table = Table::default();
        for at in 0..n {
            table.insert(&Path::new(&format!("room/{at}")), Route::default(), at);
        }
        fill(&mut table, &["x/one", "x/two"]);
        let mut elsewhere: Vec<_> = (0..n).map(|at| below(&[&format!("room/{at}")])).collect();
        for reader in &mut elsewhere {
            assert_eq!(read(reader, &mut table).len(), 1);
        }
        let work = |table: &mut Table<u32>, step: &mut dyn FnMut(&mut Table<u32>)| {
            let before = table.looks;
            step(table);
            table.looks - before
        };
        let mut reader = below(&["x"]);
        let counted = work(&mut table, &mut |table| {
            assert_eq!(reader.count(table, Instant::ZERO, usize::MAX), Some(2));
        });
        let first = work(&mut table, &mut |table| assert_eq!(read(&mut reader, table).len(), 2));
        let changed = work(&mut table, &mut |table| {
            for at in 0..n {
                let path = Path::new(&format!("room/{at}"));
                let id = table.ways(&path)[0].id;
                table.reroute(&path, id, through(7, 1));
            }
            fill(table, &["x/three"]);
            assert_eq!(read(&mut reader, table), ["+x/three 0"]);
        });
        [counted, first, changed]
    }

    #[test]
    fn a_reader_does_not_look_at_what_is_elsewhere() {
        let work = work_beside(1_000);
        assert!(work.iter().all(|looks| *looks < 10), "{work:?}");
        assert_eq!(work_beside(10_000), work);
    }

    /// However much there is, others get the lock after a few paths, and what is not read is not remembered.
    #[test]
    fn much_is_counted_and_read_in_pieces() {
        for n in [1_000_u32, 10_000] {
            let mut table = Table::default();
            for at in 0..n {
                table.insert(&Path::new(&format!("room/{at}")), through(7, 1), at);
            }
            let mut reader = everything();
            let mut pieces = 0;
            let counted = loop {
                let before = table.looks;
                let counted = reader.count(&mut table, Instant::ZERO, usize::MAX);
                assert!(table.looks - before <= STEP);
                match counted {
                    Some(counted) => break counted,
                    None => pieces += 1,
                }
            };
            assert_eq!((counted, pieces), (u64::from(n), n as usize / STEP));
            assert_eq!((reader.told(), table.looks), (0, n as usize));
            // Nothing of it is for this one.
            let horizon = Horizon { session: Some(SessionId(1)), ..Horizon::default() };
            let mut other = Reader::new(Scope::default(), horizon, Speech::default());
            let before = table.looks;
            assert!(other.next(&mut table, Instant::ZERO, Room::ENDLESS).is_none());
            assert!(other.is_paused() && table.looks - before <= STEP);
        }
    }

    #[test]
    fn without_room_the_ends_are_told_and_then_the_others() {
        let mut table = Table::default();
        let paths: Vec<_> = (0..16).map(|at| format!("{at:02}")).collect();
        let ids: Vec<_> =
            paths.iter().map(|path| table.insert(&Path::new(path), Route::default(), 0)).collect();
        let mut reader = everything();
        let read = |reader: &mut Reader, table: &mut Table<u32>| {
            let mut out = Vec::new();
            loop {
                let room = Room { left: 8 - reader.told(), all: 8 };
                match reader.next(table, Instant::ZERO, room) {
                    Some((path, Change::Announced(_))) => out.push(format!("+{path}")),
                    Some((path, _)) => out.push(format!("-{path}")),
                    None if reader.is_paused() => {}
                    None => return out,
                }
            }
        };
        let told = read(&mut reader, &mut table);
        assert!(told.iter().map(|it| &it[1..]).eq(&paths[..8]), "{told:?}");
        assert!(reader.is_short());
        assert_eq!(read(&mut reader, &mut table), [""; 0]);
        for at in [3, 5, 9] {
            assert!(table.remove(&Path::new(&paths[at]), ids[at]).is_some());
        }
        let told = read(&mut reader, &mut table);
        assert_eq!(told, ["-03", "+08", "-05", "+10"]);
        for at in 8..16 {
            table.remove(&Path::new(&paths[at]), ids[at]);
        }
        assert_eq!(read(&mut reader, &mut table), ["-08", "-10"]);
        assert!(!reader.is_short());
    }

    #[test]
    fn behind_a_horizon_the_next_best_is_seen() {
        let mut table = Table::default();
        let path = Path::new("a");
        let best = table.insert(&path, through(7, 1), 1);
        let worse = Route { cost: Cost { warm: 5, cold: 5 }, ..through(8, 2) };
        table.insert(&path, worse, 2);
        let horizon = Horizon { exclude: Hop::new(7), ..Horizon::default() };
        let mut reader = Reader::new(Scope::default(), horizon, Speech::default());
        assert_eq!(read(&mut reader, &mut table), ["+a 2"]);
        table.remove(&path, best);
        assert_eq!(read(&mut reader, &mut table), [""; 0]);
        let horizon = Horizon { session: Some(SessionId(2)), ..Horizon::default() };
        assert_eq!(
            read(&mut Reader::new(Scope::default(), horizon, Speech::default()), &mut table),
            [""; 0]
        );
    }
}
