//! Broadcasts that are asked for by name: announced ones, else those that somebody answers for.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Poll, Waker};

use super::super::Result;
use super::super::broadcast::BroadcastConsumer;
use super::super::budget::Timed;
use super::super::route::{Horizon, Reach, Route, SessionId};
use super::super::table::Table;
use super::super::wakers::{WaitSlot, Wakers, Woken, lock, wait};
use super::peer::Peer;
use super::{OriginConsumer, Place, Shared, State};
use crate::census::census;
use crate::{Error, Instant, Limits, Path};

/// Why one more broadcast can't be asked for.
pub(super) const TOO_MANY: Error = Error::Limit("requests for broadcasts");

/// Who asks: a session, on behalf of its peer, or the application.
pub(super) type Asker = Option<SessionId>;

/// What is asked for that is not announced, who answers, and what was answered.
#[derive(Default)]
pub(super) struct Requests {
    /// By id of their way in the table.
    handlers: BTreeMap<u64, Handler>,
    /// The handlers of each prefix; the newest is asked.
    prefixes: BTreeMap<Path, BTreeSet<u64>>,
    pending: BTreeMap<Path, Pending>,
    /// All that is pending, by when it is given up.
    due: BTreeSet<(Instant, Path)>,
    /// The deadline that the cache knows of.
    pub(super) scheduled: Option<Instant>,
    /// Broadcasts that are found without being announced, by the session that brings them.
    served: BTreeMap<(Path, Asker), Served>,
    shares: BTreeMap<Asker, Share>,
    /// The sessions that can be asked.
    pub(super) peers: BTreeMap<SessionId, Peer>,
    last: u64,
    /// Who is to be woken after the unlock.
    pub(super) woken: Woken,
    /// What is to be dropped after it.
    pub(super) debris: Vec<BroadcastConsumer>,
}

/// How many requests of one who asks are not answered, and how many of the answers are still there.
#[derive(Clone, Copy, Default)]
struct Share {
    asked: usize,
    answered: usize,
}

/// Who answers for a prefix.
pub(super) struct Handler {
    pub(super) handles: usize,
    /// What was not handed out yet, the oldest first.
    queue: BTreeMap<u64, Path>,
    /// All that it is asked for and did not answer.
    asked: BTreeSet<Path>,
    pub(super) waiters: Wakers,
}

/// A broadcast that was asked for and is not there.
pub(super) struct Pending {
    /// Of the request that can answer.
    number: u64,
    /// Who asked first.
    asker: Asker,
    /// `None` if it is gone.
    handler: Option<u64>,
    askers: usize,
    /// Whether there is a `BroadcastRequest`, which stays until it is answered.
    is_out: bool,
    due: Instant,
    answer: Answer,
    waiters: Wakers,
    /// Who waits for the last asker to go.
    pub(super) unused: Wakers,
}

type Answer = Arc<OnceLock<Result<BroadcastConsumer>>>;

pub(super) struct Served {
    id: u64,
    /// The announcement under which it was asked for, if there was one: under another one it is another.
    under: u64,
    asker: Asker,
    /// Who only knows of it.
    broadcast: BroadcastConsumer,
    /// What keeps it here; `None`: the broadcast itself, until it ends.
    stay: Option<Weak<Stay>>,
}

impl Served {
    /// Whether it is still there.
    fn is_live(&self) -> bool {
        let stays = self.stay.as_ref().is_none_or(|stay| stay.strong_count() > 0);
        stays && !self.broadcast.is_closed()
    }

    /// The broadcast, if it is still there; else what may be to be dropped after the unlock.
    fn live(&self) -> Result<BroadcastConsumer, Option<BroadcastConsumer>> {
        let stay = self.stay.as_ref().map(|stay| stay.upgrade().ok_or(None)).transpose()?;
        // Counted first: from then on it does not end for want of readers.
        let found = self.broadcast.clone().with_stay(stay);
        if found.is_closed() { Err(Some(found)) } else { Ok(found) }
    }
}

/// Keeps a broadcast under the path that it was asked for by. All handles that came by that path share it;
/// with the last of them, which is never dropped under a lock, the path is forgotten.
pub(crate) struct Stay {
    place: Place,
    /// Of the path by which the answer was asked for itself.
    _within: Option<Arc<Self>>,
}

impl Stay {
    pub(super) fn new(place: Place, within: Option<&Arc<Self>>) -> Arc<Self> {
        Arc::new(Self { place, _within: within.cloned() })
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.place.leave();
    }
}

/// The paths below `path`, but for itself.
fn below(path: &Path) -> (String, String) {
    match path.is_root() {
        true => (String::new(), char::MAX.to_string()),
        // The character behind the slash.
        false => (format!("{path}/"), format!("{path}0")),
    }
}

impl Requests {
    /// Who is to be woken and what is to be dropped after the unlock.
    pub(super) fn take_rest(&mut self) -> (Woken, Vec<BroadcastConsumer>) {
        (std::mem::take(&mut self.woken), std::mem::take(&mut self.debris))
    }

    // ---- handlers ----------------------------------------------------------------------------

    pub(super) fn open_handler(&mut self, prefix: &Path, id: u64) {
        let (queue, asked, waiters) = Default::default();
        self.handlers.insert(id, Handler { handles: 1, queue, asked, waiters });
        self.prefixes.entry(prefix.clone()).or_default().insert(id);
    }

    pub(super) fn handler(&mut self, id: u64) -> Option<&mut Handler> {
        self.handlers.get_mut(&id)
    }

    /// Nobody answers there any more: what it did not hand out goes to the next one.
    pub(super) fn close_handler(&mut self, prefix: &Path, id: u64) -> impl Sized + use<> {
        if let Some(ids) = self.prefixes.get_mut(prefix) {
            ids.remove(&id);
            if ids.is_empty() {
                self.prefixes.remove(prefix);
            }
        }
        let mut handler = self.handlers.remove(&id)?;
        for path in std::mem::take(&mut handler.asked) {
            let Some(pending) = self.pending.get_mut(&path) else { continue };
            pending.handler = None;
            if pending.is_out {
                // It can be answered still; who asked may find another way.
                pending.waiters.take(&mut self.woken);
            } else {
                self.settle(&path);
            }
        }
        Some(handler.waiters)
    }

    /// The next path that a handler is asked for, and the number of the request.
    pub(super) fn hand_out(&mut self, handler: u64) -> Option<(Path, u64)> {
        let (number, path) = self.handlers.get_mut(&handler)?.queue.pop_first()?;
        self.pending.get_mut(&path)?.is_out = true;
        Some((path, number))
    }

    /// The handler of this process that is to be asked for `path`.
    fn nearest(&self, path: &Path) -> Option<u64> {
        path.covering().find_map(|prefix| self.prefixes.get(prefix)?.last().copied())
    }

    /// Something changed at `path`: who asked for a broadcast there, or below if that is in reach, may be
    /// better served now.
    pub(super) fn look_again(&mut self, path: &Path, reach: Reach) {
        if let Some(pending) = self.pending.get_mut(path) {
            pending.waiters.take(&mut self.woken);
        }
        if reach == Reach::Exact {
            return;
        }
        // What is asked of a handler with a longer prefix stays there.
        let (from, to) = below(path);
        let mut concerned = BTreeSet::new();
        for id in path.covering().filter_map(|prefix| self.prefixes.get(prefix)).flatten() {
            let Some(handler) = self.handlers.get(id) else { continue };
            let range = (Bound::Included(&*from), Bound::Excluded(&*to));
            concerned.extend(handler.asked.get(path).cloned());
            concerned.extend(handler.asked.range::<str, _>(range).cloned());
        }
        concerned.iter().for_each(|path| self.settle(path));
    }

    /// Asks the nearest handler, if that is another one than before, and lets those who asked look again.
    fn settle(&mut self, path: &Path) {
        let nearest = self.nearest(path);
        let Some(pending) = self.pending.get_mut(path) else { return };
        pending.waiters.take(&mut self.woken);
        if pending.handler == nearest {
            return;
        }
        if let Some(old) = pending.handler.and_then(|handler| self.handlers.get_mut(&handler)) {
            old.queue.remove(&pending.number);
            old.asked.remove(path);
        }
        if std::mem::take(&mut pending.is_out) {
            pending.unused.take(&mut self.woken);
        }
        pending.handler = nearest;
        self.last += 1;
        pending.number = self.last;
        if let Some(handler) = nearest.and_then(|handler| self.handlers.get_mut(&handler)) {
            handler.queue.insert(self.last, path.clone());
            handler.asked.insert(path.clone());
            handler.waiters.take(&mut self.woken);
        }
    }

    // ---- what is asked for -------------------------------------------------------------------

    /// The request of this number for a path, if anybody still wants it.
    pub(super) fn wanted(&mut self, path: &Path, number: u64) -> Option<&mut Pending> {
        let pending = self.pending.get_mut(path);
        pending.filter(|pending| pending.number == number && pending.askers > 0)
    }

    /// Whether the request of this number can still answer for a path, or nobody else is asked for it.
    pub(super) fn may_answer(&self, path: &Path, number: u64) -> bool {
        match self.pending.get(path) {
            Some(pending) => pending.number == number,
            None => !self.served.get(&(path.clone(), None)).is_some_and(Served::is_live),
        }
    }

    /// Asks a handler, or joins those who did.
    fn ask(&mut self, path: &Path, handler: u64, asker: Asker, due: Instant) -> Result<Answer> {
        if let Some(pending) = self.pending.get_mut(path) {
            if pending.askers == 0 {
                self.due.remove(&(pending.due, path.clone()));
                self.due.insert((due, path.clone()));
                pending.due = due;
            }
            pending.askers += 1;
            return Ok(pending.answer.clone());
        }
        let found = self.handlers.get_mut(&handler).ok_or(Error::Unroutable)?;
        self.last += 1;
        let number = self.last;
        found.queue.insert(number, path.clone());
        found.asked.insert(path.clone());
        found.waiters.take(&mut self.woken);
        let (answer, waiters, unused) = Default::default();
        let (handler, askers, is_out) = (Some(handler), 1, false);
        let pending =
            Pending { number, asker, handler, askers, is_out, due, answer, waiters, unused };
        let answer = pending.answer.clone();
        self.pending.insert(path.clone(), pending);
        self.due.insert((due, path.clone()));
        self.shares.entry(asker).or_default().asked += 1;
        Ok(answer)
    }

    /// Whether one more broadcast may be asked for.
    fn admit(&self, asker: Asker, limits: &Limits) -> Result<()> {
        let share = self.shares.get(&asker).copied().unwrap_or_default();
        if share.asked >= limits.broadcast_requests {
            return Err(TOO_MANY);
        }
        self.admit_answer(asker, limits)
    }

    pub(super) fn admit_answer(&self, asker: Asker, limits: &Limits) -> Result<()> {
        let answered = self.shares.get(&asker).map_or(0, |share| share.answered);
        match asker.is_some() && answered >= limits.broadcast_answers {
            true => Err(Error::Limit("broadcasts by request")),
            false => Ok(()),
        }
    }

    fn discharge(&mut self, asker: Asker, asked: usize, answered: usize) {
        if let Some(share) = self.shares.get_mut(&asker) {
            share.asked -= asked;
            share.answered -= answered;
            if share.asked + share.answered == 0 {
                self.shares.remove(&asker);
            }
        }
    }

    /// Forgets a request.
    fn close(&mut self, path: &Path) -> Option<Pending> {
        let mut pending = self.pending.remove(path)?;
        pending.waiters.take(&mut self.woken);
        pending.unused.take(&mut self.woken);
        self.due.remove(&(pending.due, path.clone()));
        if let Some(handler) = pending.handler.and_then(|handler| self.handlers.get_mut(&handler)) {
            handler.queue.remove(&pending.number);
            handler.asked.remove(path);
        }
        self.discharge(pending.asker, 1, 0);
        Some(pending)
    }

    /// Tells those who asked, if the request of this number is still the one that can. What comes back is to
    /// be dropped after the unlock.
    pub(super) fn answer(
        &mut self,
        path: &Path,
        number: u64,
        answer: Result<BroadcastConsumer>,
    ) -> impl Sized + use<> {
        if self.pending.get(path).is_none_or(|pending| pending.number != number) {
            return (None, Some(answer));
        }
        let pending = self.close(path);
        let unused = pending.as_ref().and_then(|pending| pending.answer.set(answer).err());
        (pending, unused)
    }

    /// Who asked for the path first.
    pub(super) fn asker(&self, path: &Path) -> Asker {
        self.pending.get(path)?.asker
    }

    /// One who asked waits no longer.
    fn leave(&mut self, asking: &mut Asking) -> impl Sized + use<> {
        let pending = self.pending.get_mut(&asking.path)?;
        if !Arc::ptr_eq(&pending.answer, &asking.answer) {
            return None;
        }
        let waker = pending.waiters.free(&mut asking.slot);
        pending.askers -= 1;
        if pending.askers > 0 {
            return Some((waker, None));
        }
        if pending.is_out {
            pending.unused.take(&mut self.woken);
            return Some((waker, None));
        }
        Some((waker, self.close(&asking.path)))
    }

    /// When the first of those who ask have waited long enough.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Gives up what was asked for too long ago. What comes back is to be dropped after the unlock.
    fn give_up(&mut self, now: Instant) -> Vec<Pending> {
        let mut late = Vec::new();
        while let Some((_, path)) = self.due.first().filter(|(due, _)| *due <= now).cloned() {
            let Some(pending) = self.close(&path) else { break };
            let _ = pending.answer.set(Err(Error::Timeout));
            late.push(pending);
        }
        late
    }

    /// What was to be given up at `before` is so at `now`.
    fn put_off(&mut self, before: Instant, now: Instant) {
        let Self { due, pending, .. } = self;
        let from = (before, Path::root());
        let late = due.range(from..).take_while(|(at, _)| *at == before).cloned();
        for (at, path) in late.collect::<Vec<_>>() {
            due.remove(&(at, path.clone()));
            if let Some(pending) = pending.get_mut(&path) {
                pending.due = now;
            }
            due.insert((now, path));
        }
    }

    // ---- what was answered -------------------------------------------------------------------

    /// From now on the broadcast is found. What was found before is to be dropped after the unlock.
    pub(super) fn serve(
        &mut self,
        path: &Path,
        session: Option<SessionId>,
        [id, under]: [u64; 2],
        asker: Asker,
        broadcast: &BroadcastConsumer,
        stay: Option<Weak<Stay>>,
    ) -> Option<Served> {
        let served = Served { id, under, asker, broadcast: broadcast.knows(), stay };
        self.shares.entry(asker).or_default().answered += 1;
        let displaced = self.served.insert((path.clone(), session), served)?;
        self.discharge(displaced.asker, 0, 1);
        Some(displaced)
    }

    /// What was entered with this id is over.
    pub(super) fn forget(
        &mut self,
        path: &Path,
        session: Option<SessionId>,
        id: u64,
    ) -> Option<Served> {
        let key = (path.clone(), session);
        if self.served.get(&key)?.id != id {
            return None;
        }
        let served = self.served.remove(&key)?;
        self.discharge(served.asker, 0, 1);
        Some(served)
    }

    /// As [`find`](Self::find), if it was asked for without an announcement or under this one.
    pub(super) fn find_under(
        &mut self,
        path: &Path,
        session: Option<SessionId>,
        under: u64,
    ) -> Option<BroadcastConsumer> {
        let served = self.served.get(&(path.clone(), session))?;
        [0, under].contains(&served.under).then(|| self.find(path, session)).flatten()
    }

    pub(super) fn find(
        &mut self,
        path: &Path,
        session: Option<SessionId>,
    ) -> Option<BroadcastConsumer> {
        let found = self.served.get(&(path.clone(), session))?.live();
        found.map_err(|dead| self.debris.extend(dead)).ok()
    }

    /// Who is to be asked for a broadcast that is not there.
    fn choose(
        &self,
        table: &Table<BroadcastConsumer>,
        path: &Path,
        horizon: Horizon,
    ) -> Option<Asked> {
        let shown = Horizon { on_demand: true, ..horizon };
        let mut ways = table.covering(path).filter(|way| shown.shows(&way.route));
        ways.find_map(|way| match way.route.session {
            None => Some(Asked::Handler(way.id)),
            Some(peer) if self.peers.contains_key(&peer) => {
                let route = Route { reach: Reach::Exact, ..way.route.clone() };
                Some(Asked::Peer(peer, way.first, route))
            }
            Some(_) => None,
        })
    }
}

/// Who can be asked for a broadcast that is not there.
enum Asked {
    Handler(u64),
    /// And the announcement that says so.
    Peer(SessionId, u64, Route),
}

/// What there is of a broadcast, and what is to be dropped after the unlock.
type Look = (Result<There>, Option<Served>);

/// Where a broadcast is to be had.
enum There {
    Here(BroadcastConsumer),
    Handler(u64),
}

impl Shared {
    /// The broadcast at the whole path `path`, or who was asked for it: an announced one first, then one
    /// that was accepted, then whoever answers for the longest prefix.
    pub(super) fn request(self: &Arc<Self>, path: Path, horizon: Horizon) -> Result<Found> {
        let asker = horizon.session;
        // The second one is dropped after the unlock.
        let (found, _displaced) = self.quietly(|state| {
            let (there, displaced) = self.look(state, &path, horizon);
            let asking = there.and_then(|there| {
                let handler = match there {
                    There::Here(broadcast) => return Ok(Found::Here(broadcast)),
                    There::Handler(handler) => handler,
                };
                if !state.requests.pending.contains_key(&path) {
                    state.requests.admit(asker, self.cache.limits())?;
                }
                let due = self.stamp() + self.cache.limits().answer_time;
                let answer = state.requests.ask(&path, handler, asker, due)?;
                let (shared, slot) = (self.clone(), WaitSlot::default());
                Ok(Found::Asked(Asking { shared, path, horizon, answer, slot }))
            });
            (asking, displaced)
        });
        found
    }

    fn look(self: &Arc<Self>, state: &mut State, path: &Path, horizon: Horizon) -> Look {
        let State { table, requests, .. } = state;
        if let Some(way) = table.best(path, horizon) {
            return (Ok(There::Here(way.broadcast.clone())), None);
        }
        if let Some(broadcast) = requests.find(path, None) {
            return (Ok(There::Here(broadcast)), None);
        }
        match requests.choose(table, path, horizon) {
            None => (Err(Error::Unroutable), None),
            Some(Asked::Handler(handler)) => (Ok(There::Handler(handler)), None),
            Some(Asked::Peer(peer, under, route)) => {
                // By another route it may lead back to who asks.
                let known = requests.served.get(&(path.clone(), Some(peer)));
                let known = known.filter(|served| served.under == under);
                if known.is_some_and(|served| served.broadcast.route() == route) {
                    if let Some(broadcast) = requests.find(path, Some(peer)) {
                        return (Ok(There::Here(broadcast)), None);
                    }
                }
                let asker = horizon.session;
                let (result, displaced) =
                    self.ask_peer(state, path.clone(), (peer, under), route, asker);
                (result.map(There::Here), displaced)
            }
        }
    }

    /// The time, for a deadline.
    fn stamp(self: &Arc<Self>) -> Instant {
        self.cache.stamp(&self.turn, || Arc::downgrade(self) as Weak<dyn Timed>)
    }

    /// Lets the cache know of the next deadline.
    pub(super) fn schedule(self: &Arc<Self>, state: &mut State) {
        let requests = &mut state.requests;
        let next = requests.next_due();
        let old = std::mem::replace(&mut requests.scheduled, next);
        if old == next {
            return;
        }
        let new = next.map(|at| (at, Arc::downgrade(self) as Weak<dyn Timed>));
        if self.cache.schedule(self.timed, old, new) {
            // It may not have been told the time for long, nor of this deadline.
            requests.woken.push(self.cache.minder());
        }
    }
}

impl Timed for Shared {
    fn restamp(&self, before: Instant, now: Instant) {
        let time = self.cache.limits().answer_time;
        // An entry that is too early in the cache is as good.
        lock(&self.state).requests.put_off(before + time, now + time);
    }

    fn expire(self: Arc<Self>) {
        let now = self.cache.now();
        drop(self.quietly(|state| {
            state.requests.scheduled = None;
            state.requests.give_up(now)
        }));
    }
}

/// What there is of a broadcast that is asked for.
pub(crate) enum Found {
    /// All of it.
    Here(BroadcastConsumer),
    /// A request that somebody is to answer.
    Asked(Asking),
}

/// Waits for the answer to a request. Dropped it takes its part in the request back.
pub(crate) struct Asking {
    shared: Arc<Shared>,
    path: Path,
    horizon: Horizon,
    answer: Answer,
    slot: WaitSlot,
}

impl Asking {
    /// The answer, or what there is to be had of somebody better by now.
    pub(crate) fn poll(&mut self, waker: Option<&Waker>) -> Poll<Result<BroadcastConsumer>> {
        let Self { shared, path, horizon, answer, slot } = self;
        let waker = waker.cloned();
        // Both are dropped after the unlock.
        let (result, _displaced, _unused) = shared.quietly(|state| {
            if let Some(answer) = answer.get() {
                return (Poll::Ready(answer.clone()), None, None);
            }
            let (there, displaced) = shared.look(state, path, *horizon);
            if let Ok(There::Here(broadcast)) = there {
                return (Poll::Ready(Ok(broadcast)), displaced, None);
            }
            let Some(pending) = state.requests.pending.get_mut(path) else {
                return (Poll::Ready(Err(Error::Unroutable)), displaced, None);
            };
            if let (None, false, Err(error)) = (pending.handler, pending.is_out, there.map(drop)) {
                return (Poll::Ready(Err(error)), displaced, None);
            }
            let unused = waker.and_then(|waker| pending.waiters.register(slot, waker));
            (Poll::Pending, displaced, unused)
        });
        result
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let shared = self.shared.clone();
        drop(shared.quietly(|state| state.requests.leave(self)));
    }
}

impl OriginConsumer {
    wait! {
        /// The broadcast at `path`: one that is announced, or else one that somebody answers for without
        /// announcing it, an [`OriginDynamic`](super::OriginDynamic) here or a peer that announced a prefix
        /// of it (moq-lite 06 and later, moq-transport). The longest prefix is asked. Whether a peer has it
        /// is known when a track is asked for.
        ///
        /// The request stands until it is answered, another path is asked for, or this handle is dropped. When
        /// somebody better appears meanwhile, who announces it or answers for a longer prefix, that one is
        /// asked instead.
        ///
        /// Errors: [`Error::Unroutable`], at once, if nobody answers for it; that of who was asked;
        /// [`Error::Timeout`] if nobody answered within [`Limits::answer_time`](crate::Limits::answer_time);
        /// [`Error::Limit`] past [`Limits::broadcast_requests`](crate::Limits::broadcast_requests) or
        /// [`Limits::path_bytes`](crate::Limits::path_bytes);
        /// [`Error::Unauthorized`] outside of what this handle sees.
        next_requested => poll_request_broadcast, request_broadcast, try_request_broadcast(
            path: &str
        ) -> Result<BroadcastConsumer>
    }

    fn next_requested(
        &mut self,
        waker: Option<&Waker>,
        path: &str,
    ) -> Poll<Result<BroadcastConsumer>> {
        let path = Path::from(path);
        self.shared.cache.limits().check_path(&path)?;
        let absolute = self.reader.scope().absolute(&path);
        let Some(path) = absolute else { return Poll::Ready(Err(Error::Unauthorized)) };
        let asking = match &mut self.asking {
            Some(asking) if asking.path == path => asking,
            other => match self.shared.request(path, Horizon::default())? {
                Found::Here(broadcast) => {
                    *other = None;
                    return Poll::Ready(Ok(broadcast));
                }
                Found::Asked(asking) => other.insert(asking),
            },
        };
        let answer = asking.poll(waker);
        if answer.is_ready() {
            self.asking = None;
        }
        answer
    }
}

census! { each Handler { counts: handles, queue, asked, waiters; } }
census! { each Pending {
    counts: askers, waiters, unused;
    plain: number, asker, handler, is_out, due, answer;
} }
census! { each Served { within: broadcast; plain: id, under, asker, stay; } }
census! { Requests {
    counts: prefixes, due, scheduled, shares, debris;
    within: handlers, pending, served, peers;
    plain: last, woken;
} }
