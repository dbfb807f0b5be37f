//! Groups that are asked for by number (FETCH): who asks, and who answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};

use super::super::Result;
use super::super::group::{GroupConsumer, GroupProducer, Kept};
use super::super::stats::count;
use super::super::wakers::{WaitSlot, Wakers, Woken, lock, wait};
use super::{Rest, Shared, State};
use crate::census::census;
use crate::error::Error;
use crate::time::Instant;

/// What came of a request, shared by all who asked. It keeps the group for those who were not told yet.
type Answer = OnceLock<Result<GroupConsumer>>;

/// Requests that are not answered.
#[derive(Default)]
pub(super) struct Fetches {
    by_sequence: BTreeMap<u64, Open>,
    /// Those that were not handed out, the oldest first.
    queue: BTreeMap<u64, u64>,
    /// All of them, by when they are given up.
    due: BTreeSet<(Instant, u64)>,
    last: u64,
    dynamics: usize,
    /// Those who asked.
    pub(super) readers: Wakers,
}

struct Open {
    answer: Arc<Answer>,
    askers: usize,
    priority: u8,
    /// Its place in the queue.
    number: u64,
    due: Instant,
}

impl Fetches {
    /// Asks for a group, with all others who ask for it.
    fn join(&mut self, sequence: u64, priority: u8, due: Instant) -> Asking {
        let Self { last, due: all, .. } = self;
        let open = self.by_sequence.entry(sequence).or_insert_with(|| {
            *last += 1;
            all.insert((due, sequence));
            let answer = Arc::default();
            Open { answer, askers: 0, priority, number: *last, due }
        });
        if open.askers == 0 {
            self.queue.insert(open.number, sequence);
        }
        open.askers += 1;
        open.priority = open.priority.max(priority);
        Asking { sequence, answer: open.answer.clone() }
    }

    /// Asks no longer. `true` if nobody does.
    fn leave(&mut self, asking: &Asking) -> bool {
        let open = self.by_sequence.get_mut(&asking.sequence);
        let Some(open) = open.filter(|open| Arc::ptr_eq(&open.answer, &asking.answer)) else {
            return false;
        };
        open.askers -= 1;
        open.askers == 0 && self.close(asking.sequence, &asking.answer)
    }

    /// Forgets a request, if it is that one.
    fn close(&mut self, sequence: u64, answer: &Arc<Answer>) -> bool {
        let open = self.by_sequence.get(&sequence);
        let Some(open) = open.filter(|open| Arc::ptr_eq(&open.answer, answer)) else {
            return false;
        };
        self.queue.remove(&open.number);
        self.due.remove(&(open.due, sequence));
        self.by_sequence.remove(&sequence);
        true
    }

    /// When the first of those who ask has waited long enough.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Refuses those that were asked for too long ago. Whether there were any.
    pub(super) fn give_up(&mut self, now: Instant, woken: &mut Woken) -> bool {
        let mut any = false;
        while let Some((_, sequence)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            let Some(open) = self.by_sequence.get(&sequence) else { break };
            let answer = open.answer.clone();
            let _ = answer.set(Err(Error::Timeout));
            self.close(sequence, &answer);
            any = true;
        }
        if any {
            self.readers.take(woken);
        }
        any
    }

    /// What was to be given up at `before` is so at `now`.
    pub(super) fn put_off(&mut self, before: Instant, now: Instant) {
        let late: Vec<_> = self.due.range((before, 0)..=(before, u64::MAX)).copied().collect();
        for (at, sequence) in late {
            self.due.remove(&(at, sequence));
            self.due.insert((now, sequence));
            if let Some(open) = self.by_sequence.get_mut(&sequence) {
                open.due = now;
            }
        }
    }

    /// Hands out the oldest request.
    fn pop(&mut self) -> Option<(u64, &Open)> {
        let (_, sequence) = self.queue.pop_first()?;
        self.by_sequence.get(&sequence).map(|open| (sequence, open))
    }

    /// Refuses those that nobody took.
    fn refuse_queued(&mut self, error: &Error, woken: &mut Woken) {
        for (_, sequence) in std::mem::take(&mut self.queue) {
            if let Some(open) = self.by_sequence.remove(&sequence) {
                self.due.remove(&(open.due, sequence));
                let _ = open.answer.set(Err(error.clone()));
            }
        }
        self.readers.take(woken);
    }

    /// Refuses all.
    pub(super) fn refuse_all(&mut self, error: &Error, woken: &mut Woken) {
        self.queue.clear();
        self.due.clear();
        for open in std::mem::take(&mut self.by_sequence).into_values() {
            let _ = open.answer.set(Err(error.clone()));
        }
        self.readers.take(woken);
    }
}

struct Asking {
    sequence: u64,
    answer: Arc<Answer>,
}

/// What a reader of a track asks for by number.
#[derive(Default)]
pub(super) struct Asker {
    asking: Option<Asking>,
    slot: WaitSlot,
}

impl Asker {
    /// The group `sequence`: from the cache, or else as somebody answers.
    pub(super) fn poll(
        &mut self,
        shared: &Arc<Shared>,
        waker: Option<&Waker>,
        sequence: u64,
        priority: u8,
    ) -> Poll<Result<GroupConsumer>> {
        if self.asking.as_ref().is_some_and(|asking| asking.sequence != sequence) {
            self.leave(shared);
        }
        let waker = waker.cloned();
        // Dropped after the unlock, and so is what `change` gives back.
        let mut over = None;
        let (answer, _displaced) = shared.change(&mut Woken::default(), |state, woken| {
            let asked = self.asking.as_ref().map(|asking| asking.answer.get().cloned());
            let answer = match asked {
                Some(Some(answer)) => Poll::Ready(answer),
                asked => state.fetched(shared, sequence, asked.is_some()),
            };
            let Poll::Pending = answer else {
                over = self.asking.take();
                if over.as_ref().is_some_and(|asking| state.fetches.leave(asking)) {
                    state.demand.suppliers.take(woken);
                }
                return (answer, None);
            };
            if self.asking.is_none() && state.fetches.dynamics > 0 {
                let due = shared.answer_due();
                self.asking = Some(state.fetches.join(sequence, priority, due));
                state.demand.suppliers.take(woken);
            }
            let displaced =
                waker.and_then(|waker| state.fetches.readers.register(&mut self.slot, waker));
            (answer, displaced)
        });
        answer
    }

    /// Asks no longer.
    pub(super) fn leave(&mut self, shared: &Arc<Shared>) {
        let asking = self.asking.take();
        if asking.is_none() && !self.slot.is_used() {
            return;
        }
        let _freed = shared.change(&mut Woken::default(), |state, woken| {
            if asking.as_ref().is_some_and(|asking| state.fetches.leave(asking)) {
                state.demand.suppliers.take(woken);
            }
            state.fetches.readers.free(&mut self.slot)
        });
    }
}

impl State {
    /// What can be said of the group `sequence` without asking anybody. `is_asked`: somebody was.
    fn fetched(
        &self,
        shared: &Shared,
        sequence: u64,
        is_asked: bool,
    ) -> Poll<Result<GroupConsumer>> {
        let is_answered = is_asked || self.fetches.dynamics > 0;
        if let Some(group) = self.shelf.find(sequence) {
            if !is_answered || self.abort.is_some() || !group.is_broken() {
                return Poll::Ready(Ok(GroupConsumer::new(group.clone())));
            }
        }
        if let Some(error) = &self.abort {
            return Poll::Ready(Err(error.clone()));
        }
        if self.end.is_some_and(|end| sequence >= end) {
            return Poll::Ready(Err(Error::NotFound));
        }
        if is_answered || shared.info.get().is_none() {
            // Before it is accepted nobody knows who answers.
            return Poll::Pending;
        }
        Poll::Ready(Err(if sequence < self.shelf.floor() { Error::Old } else { Error::NotFound }))
    }
}

/// Answers for groups of a track that are asked for by number and that are not in its cache. It does not
/// count as a producer: it goes on behind the end of the track.
///
/// When the last clone is dropped, requests that still wait are refused with [`Error::NotFound`].
pub struct TrackDynamic {
    shared: Arc<Shared>,
    slot: WaitSlot,
    /// If it is a session's that can be asked for the rest of a group.
    taker: Option<u64>,
}

impl TrackDynamic {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        shared.change(&mut Woken::default(), |state, woken| {
            state.fetches.dynamics += 1;
            state.fetches.readers.take(woken);
        });
        Self { shared, slot: WaitSlot::default(), taker: None }
    }

    /// For a session: it can be asked for the rest of groups too, which not all can.
    pub(in super::super) fn take_rests(&mut self) {
        let taker = || lock(&self.shared.state).rests.open_taker();
        self.taker = Some(self.taker.unwrap_or_else(taker));
    }

    /// The track's name in its broadcast.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Whether both answer for the same track.
    pub(in super::super) fn is_clone(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    fn pop(&self, state: &mut State) -> Option<GroupRequest> {
        let (sequence, open) = state.fetches.pop()?;
        let (shared, answer) = (self.shared.clone(), open.answer.clone());
        let (priority, slot) = (open.priority, WaitSlot::default());
        Some(GroupRequest { shared, sequence, priority, answer, slot })
    }

    /// What `next` finds, now or when there is something new.
    fn wait<T>(
        &mut self,
        waker: Option<&Waker>,
        next: impl FnOnce(&Self, &mut State) -> Poll<T>,
    ) -> Poll<T> {
        let waker = waker.cloned();
        // Declared before the guard: dropped after the unlock.
        let _displaced;
        let mut state = lock(&self.shared.state);
        let next = next(self, &mut state);
        if next.is_pending() {
            _displaced =
                waker.and_then(|waker| state.demand.suppliers.register(&mut self.slot, waker));
        }
        next
    }

    fn request(&mut self, waker: Option<&Waker>) -> Poll<Result<GroupRequest>> {
        self.wait(waker, |this, state| match (this.pop(state), &state.abort) {
            (Some(request), _) => Poll::Ready(Ok(request)),
            (None, Some(error)) => Poll::Ready(Err(error.clone())),
            (None, None) => Poll::Pending,
        })
    }

    wait! {
        /// The next group that somebody wants and that is not here, first come first served. All who
        /// want a group share one request.
        ///
        /// Errors: why the track was aborted, if it was.
        request => poll_requested_group, requested_group, try_requested_group()
            -> Result<GroupRequest>
    }

    /// For a session: what is wanted of it, and how important it is; `None` when no more can come.
    pub(in super::super) fn poll_supply(
        &mut self,
        waker: Option<&Waker>,
    ) -> Poll<Option<(Wanted, u8)>> {
        self.wait(waker, |this, state| {
            if let Some(rest) = this.taker.and_then(|taker| state.rests.take(taker)) {
                let priority = state.demand.all().map_or(0, |want| want.priority);
                return Poll::Ready(Some((Wanted::Rest(rest), priority)));
            }
            // Not by a session that would refuse it, if there is another one.
            let takes = this.taker.is_some() || !state.rests.has_takers();
            if let Some(request) = takes.then(|| this.pop(state)).flatten() {
                let priority = request.priority();
                return Poll::Ready(Some((Wanted::Group(request), priority)));
            }
            let left = state.end.is_some() && !state.demand.is_asked();
            if left || state.abort.is_some() { Poll::Ready(None) } else { Poll::Pending }
        })
    }

    /// Refuses what waits.
    pub(in super::super) fn refuse(&mut self, error: &Error) {
        self.shared.change(&mut Woken::default(), |state, woken| {
            state.fetches.refuse_queued(error, woken);
        });
    }
}

impl Clone for TrackDynamic {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone())
    }
}

impl Drop for TrackDynamic {
    fn drop(&mut self) {
        let _freed = self.shared.change(&mut Woken::default(), |state, woken| {
            state.fetches.dynamics -= 1;
            if let Some(taker) = self.taker {
                state.rests.close_taker(taker);
                state.settle_rests();
                state.demand.suppliers.take(woken);
            }
            if state.fetches.dynamics == 0 {
                state.fetches.refuse_queued(&Error::NotFound, woken);
            }
            state.demand.suppliers.free(&mut self.slot)
        });
    }
}

impl fmt::Debug for TrackDynamic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackDynamic").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// What a session is asked for beside what it brings by itself.
pub(crate) enum Wanted {
    /// That somebody asked for.
    Group(GroupRequest),
    /// That another session began.
    Rest(Rest),
}

/// A group that somebody asked for by number. Dropped without an answer it is refused with
/// [`Error::Dropped`].
pub struct GroupRequest {
    shared: Arc<Shared>,
    sequence: u64,
    priority: u8,
    answer: Arc<Answer>,
    slot: WaitSlot,
}

impl GroupRequest {
    /// Number of the group in the track.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How important it was to those who asked before it was handed out; higher is more.
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// Begins the group, which all who asked read. It is kept as other groups are, but for its media
    /// time, which does not count, and no reader of the track comes across it.
    ///
    /// Fails if it came by another way meanwhile ([`Error::Duplicate`]), which answers as well, and if
    /// the track was aborted.
    pub fn accept(self) -> Result<GroupProducer> {
        let Self { shared, sequence, answer, .. } = &self;
        // Outlives the lock.
        let mut _replaced = None;
        shared.change(&mut Woken::default(), |state, woken| {
            if let Some(error) = &state.abort {
                return Err(error.clone());
            }
            state.fetches.readers.take(woken);
            if let Some(group) = state.shelf.find(*sequence).filter(|group| !group.is_broken()) {
                let _ = answer.set(Ok(GroupConsumer::new(group.clone())));
                state.fetches.close(*sequence, answer);
                return Err(Error::Duplicate);
            }
            let (track, account) = (Arc::downgrade(shared), shared.account.clone());
            let group = Kept::new(*sequence, u64::MAX, track, account, false);
            _replaced = state.shelf.insert_fetched(group.clone());
            let _ = answer.set(Ok(GroupConsumer::new(group.clone())));
            state.fetches.close(*sequence, answer);
            count(&shared.account.tally().groups);
            Ok(GroupProducer::new(group))
        })
    }

    /// Refuses it: all who asked get `error`.
    pub fn reject(self, error: Error) {
        self.refuse(error);
    }

    fn refuse(&self, error: Error) {
        let Self { shared, sequence, answer, .. } = self;
        shared.change(&mut Woken::default(), |state, woken| {
            if answer.set(Err(error)).is_ok() {
                state.fetches.close(*sequence, answer);
                state.fetches.readers.take(woken);
            }
        });
    }

    wait! {
        /// Until all who asked for it went away.
        wait_unused => poll_unused, unused, try_unused() -> ()
    }

    fn wait_unused(&mut self, waker: Option<&Waker>) -> Poll<()> {
        let waker = waker.cloned();
        // Declared before the guard: dropped after the unlock.
        let _displaced;
        let mut state = lock(&self.shared.state);
        let open = state.fetches.by_sequence.get(&self.sequence);
        if !open.is_some_and(|open| Arc::ptr_eq(&open.answer, &self.answer)) {
            return Poll::Ready(());
        }
        _displaced = waker.and_then(|waker| state.demand.suppliers.register(&mut self.slot, waker));
        Poll::Pending
    }
}

impl Drop for GroupRequest {
    fn drop(&mut self) {
        if self.answer.get().is_none() {
            self.refuse(Error::Dropped);
        }
        if self.slot.is_used() {
            let _freed = lock(&self.shared.state).demand.suppliers.free(&mut self.slot);
        }
    }
}

impl fmt::Debug for GroupRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupRequest").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

census! { Fetches { counts: by_sequence, queue, due, dynamics, readers; plain: last; } }
