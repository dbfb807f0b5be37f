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

/// Requests that are not answered. Each has lists of its own of who waits, so that one more is told to
/// nobody but those who answer, and an answer to nobody but those who asked for that group.
#[derive(Default)]
pub(super) struct Fetches {
    by_sequence: BTreeMap<u64, Open>,
    /// Those that were not handed out, the oldest first.
    queue: BTreeMap<u64, u64>,
    /// All of them, by when they are given up.
    due: BTreeSet<(Instant, u64)>,
    last: u64,
    dynamics: usize,
    /// Those who answer.
    pub(super) handlers: Wakers,
}

struct Open {
    answer: Arc<Answer>,
    askers: usize,
    priority: u8,
    /// Its place in the queue.
    number: u64,
    due: Instant,
    /// Those who asked.
    readers: Wakers,
    /// Who it was handed out to.
    taker: Wakers,
}

impl Open {
    fn is(&self, answer: &Arc<Answer>) -> bool {
        Arc::ptr_eq(&self.answer, answer)
    }

    fn refuse(mut self, error: &Error, woken: &mut Woken) {
        let _ = self.answer.set(Err(error.clone()));
        self.readers.take(woken);
        self.taker.take(woken);
    }
}

impl Fetches {
    /// Asks for a group, with all others who ask for it.
    fn join(&mut self, sequence: u64, priority: u8, due: Instant, woken: &mut Woken) -> Asking {
        let open = self.by_sequence.entry(sequence).or_insert_with(|| {
            self.last += 1;
            self.queue.insert(self.last, sequence);
            self.due.insert((due, sequence));
            self.handlers.take(woken);
            let (answer, askers, readers, taker) = Default::default();
            Open { answer, askers, priority, number: self.last, due, readers, taker }
        });
        open.askers += 1;
        open.priority = open.priority.max(priority);
        Asking { sequence, answer: open.answer.clone(), slot: WaitSlot::default() }
    }

    /// The request of this answer, if it is still open.
    fn open(&mut self, sequence: u64, answer: &Arc<Answer>) -> Option<&mut Open> {
        self.by_sequence.get_mut(&sequence).filter(|open| open.is(answer))
    }

    /// Asks no longer. What comes back is to be dropped after the unlock.
    fn leave(&mut self, asking: &mut Asking, woken: &mut Woken) -> Option<Waker> {
        let open = self.open(asking.sequence, &asking.answer)?;
        open.askers -= 1;
        let freed = open.readers.free(&mut asking.slot);
        if open.askers == 0 {
            self.close(asking.sequence, &asking.answer, woken);
        }
        freed
    }

    fn take(&mut self, sequence: u64) -> Option<Open> {
        let open = self.by_sequence.remove(&sequence)?;
        self.queue.remove(&open.number);
        self.due.remove(&(open.due, sequence));
        Some(open)
    }

    /// Forgets a request, if it is that one, and tells whoever waits for it.
    fn close(&mut self, sequence: u64, answer: &Arc<Answer>, woken: &mut Woken) {
        if self.open(sequence, answer).is_none() {
            return;
        }
        if let Some(mut open) = self.take(sequence) {
            open.readers.take(woken);
            open.taker.take(woken);
        }
    }

    /// The group came by itself: those who asked for it find it.
    pub(super) fn came(&mut self, sequence: u64, woken: &mut Woken) {
        if let Some(open) = self.by_sequence.get_mut(&sequence) {
            open.readers.take(woken);
        }
    }

    /// There is no group from `end` on.
    pub(super) fn end_at(&mut self, end: u64, woken: &mut Woken) {
        for open in self.by_sequence.range_mut(end..).map(|(_, open)| open) {
            open.readers.take(woken);
        }
        self.handlers.take(woken);
    }

    /// When the first of those who ask has waited long enough.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Refuses those that were asked for too long ago.
    pub(super) fn give_up(&mut self, now: Instant, woken: &mut Woken) {
        while let Some((_, sequence)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.due.pop_first();
            if let Some(open) = self.take(sequence) {
                open.refuse(&Error::Timeout, woken);
            }
        }
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

    /// The track was accepted: without anybody to ask, what is not here is nowhere.
    pub(super) fn settle(&mut self, woken: &mut Woken) {
        if self.dynamics == 0 {
            for sequence in self.queue.values() {
                if let Some(open) = self.by_sequence.get_mut(sequence) {
                    open.readers.take(woken);
                }
            }
        }
    }

    /// Whether somebody was handed the request.
    fn is_taken(&self, asking: &Asking) -> bool {
        let open = self.by_sequence.get(&asking.sequence);
        open.is_some_and(|open| open.is(&asking.answer) && !self.queue.contains_key(&open.number))
    }

    /// Refuses those that nobody took.
    fn refuse_queued(&mut self, error: &Error, woken: &mut Woken) {
        for (_, sequence) in std::mem::take(&mut self.queue) {
            if let Some(open) = self.take(sequence) {
                open.refuse(error, woken);
            }
        }
    }

    /// Refuses all.
    pub(super) fn refuse_all(&mut self, error: &Error, woken: &mut Woken) {
        self.queue.clear();
        self.due.clear();
        for open in std::mem::take(&mut self.by_sequence).into_values() {
            open.refuse(error, woken);
        }
    }
}

struct Asking {
    sequence: u64,
    answer: Arc<Answer>,
    /// Its place among those who asked for the same.
    slot: WaitSlot,
}

/// What a reader of a track asks for by number.
#[derive(Default)]
pub(super) struct Asker {
    asking: Option<Asking>,
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
            let asking = self.asking.as_ref();
            let answer = match asking.and_then(|asking| asking.answer.get().cloned()) {
                Some(answer) => Poll::Ready(answer),
                None => {
                    let is_taken = asking.is_some_and(|asking| state.fetches.is_taken(asking));
                    state.fetched(shared, sequence, is_taken)
                }
            };
            let Poll::Pending = answer else {
                over = self.asking.take();
                let freed = over.as_mut().and_then(|over| state.fetches.leave(over, woken));
                return (answer, freed);
            };
            let fetches = &mut state.fetches;
            let asking = self.asking.get_or_insert_with(|| {
                fetches.join(sequence, priority, shared.answer_due(), woken)
            });
            let open = fetches.open(sequence, &asking.answer);
            let displaced = waker
                .zip(open)
                .and_then(|(waker, open)| open.readers.register(&mut asking.slot, waker));
            (answer, displaced)
        });
        answer
    }

    /// Asks no longer.
    pub(super) fn leave(&mut self, shared: &Arc<Shared>) {
        let Some(mut asking) = self.asking.take() else { return };
        let _freed = shared
            .change(&mut Woken::default(), |state, woken| state.fetches.leave(&mut asking, woken));
    }
}

impl State {
    /// What can be said of the group `sequence` without asking anybody. `is_taken`: somebody was.
    fn fetched(
        &self,
        shared: &Shared,
        sequence: u64,
        is_taken: bool,
    ) -> Poll<Result<GroupConsumer>> {
        let is_answered = is_taken || self.fetches.dynamics > 0;
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
            // Before it is accepted nobody knows whether somebody answers.
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
        lock(&shared.state).fetches.dynamics += 1;
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

    /// Another one than that of any other track, as long as the handle lives.
    pub(in super::super) fn track_id(&self) -> usize {
        Arc::as_ptr(&self.shared).addr()
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
                waker.and_then(|waker| state.fetches.handlers.register(&mut self.slot, waker));
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
                state.fetches.handlers.take(woken);
            }
            if state.fetches.dynamics == 0 {
                state.fetches.refuse_queued(&Error::NotFound, woken);
            }
            state.fetches.handlers.free(&mut self.slot)
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
    pub fn accept(mut self) -> Result<GroupProducer> {
        let Self { shared, sequence, answer, slot, .. } = &mut self;
        let (shared, sequence, answer) = (&*shared, &*sequence, &*answer);
        // Both outlive the lock.
        let (mut _replaced, mut _freed) = (None, None);
        shared.change(&mut Woken::default(), |state, woken| {
            if let Some(error) = &state.abort {
                return Err(error.clone());
            }
            _freed = state.fetches.open(*sequence, answer).and_then(|open| open.taker.free(slot));
            if let Some(group) = state.shelf.find(*sequence).filter(|group| !group.is_broken()) {
                let _ = answer.set(Ok(GroupConsumer::new(group.clone())));
                state.fetches.close(*sequence, answer, woken);
                return Err(Error::Duplicate);
            }
            let (track, account) = (Arc::downgrade(shared), shared.account.clone());
            let group = Kept::new(*sequence, u64::MAX, track, account, false);
            _replaced = state.shelf.insert_fetched(group.clone());
            let _ = answer.set(Ok(GroupConsumer::new(group.clone())));
            state.fetches.close(*sequence, answer, woken);
            count(&shared.account.tally().groups);
            Ok(GroupProducer::new(group))
        })
    }

    /// Refuses it: all who asked get `error`.
    pub fn reject(mut self, error: Error) {
        self.refuse(error);
    }

    fn refuse(&mut self, error: Error) {
        let Self { shared, sequence, answer, slot, .. } = self;
        let _freed = shared.change(&mut Woken::default(), |state, woken| {
            answer.set(Err(error)).ok()?;
            let freed = state.fetches.open(*sequence, answer)?.taker.free(slot);
            state.fetches.close(*sequence, answer, woken);
            freed
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
        let Some(open) = state.fetches.open(self.sequence, &self.answer) else {
            return Poll::Ready(());
        };
        _displaced = waker.and_then(|waker| open.taker.register(&mut self.slot, waker));
        Poll::Pending
    }
}

impl Drop for GroupRequest {
    fn drop(&mut self) {
        if self.answer.get().is_none() {
            self.refuse(Error::Dropped);
        }
    }
}

impl fmt::Debug for GroupRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupRequest").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

census! { Fetches { counts: queue, due, dynamics, handlers; within: by_sequence; plain: last; } }
census! { each Open { counts: askers, readers, taker; plain: answer, priority, number, due; } }
