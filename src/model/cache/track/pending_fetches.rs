//! Groups that were requested by number (FETCH) and that nobody has delivered yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use crate::census::census;
use crate::model::Result;
use crate::model::base::{DeferredWakes, WaitSlot, Wakers};
use crate::model::cache::group::GroupConsumer;
use crate::{Error, Instant};

/// What came of a request, shared by all who asked. It keeps the group for those who were not told yet.
pub(super) type FetchAnswer = OnceLock<Result<GroupConsumer>>;

/// Requests that are not answered. Each has lists of its own of who waits, so that one more is told to
/// nobody but those who answer, and an answer to nobody but those who asked for that group.
#[derive(Default)]
pub(crate) struct PendingFetches {
    by_sequence: BTreeMap<u64, PendingFetch>,
    /// Those that were not handed out, the oldest first.
    queue: BTreeMap<u64, u64>,
    /// All of them, by when they are given up.
    due: BTreeSet<(Instant, u64)>,
    last: u64,
    pub(super) dynamics: usize,
    /// Those who answer.
    pub(crate) handlers: Wakers,
}

pub(super) struct PendingFetch {
    pub(super) answer: Arc<FetchAnswer>,
    askers: usize,
    pub(super) priority: u8,
    /// Its place in the queue.
    number: u64,
    due: Instant,
    /// Those who asked.
    pub(super) readers: Wakers,
    /// Who it was handed out to.
    pub(super) taker: Wakers,
}

impl PendingFetch {
    fn is(&self, answer: &Arc<FetchAnswer>) -> bool {
        Arc::ptr_eq(&self.answer, answer)
    }

    fn refuse(mut self, error: &Error, woken: &mut DeferredWakes) {
        let _ = self.answer.set(Err(error.clone()));
        self.readers.take(woken);
        self.taker.take(woken);
    }
}

impl PendingFetches {
    /// Asks for a group, with all others who ask for it.
    pub(super) fn join(
        &mut self,
        sequence: u64,
        priority: u8,
        due: Instant,
        woken: &mut DeferredWakes,
    ) -> FetchTicket {
        let open = self.by_sequence.entry(sequence).or_insert_with(|| {
            self.last += 1;
            self.queue.insert(self.last, sequence);
            self.due.insert((due, sequence));
            self.handlers.take(woken);
            let (answer, askers, readers, taker) = Default::default();
            PendingFetch { answer, askers, priority, number: self.last, due, readers, taker }
        });
        open.askers += 1;
        open.priority = open.priority.max(priority);
        FetchTicket { sequence, answer: open.answer.clone(), slot: WaitSlot::default() }
    }

    /// The request of this answer, if it is still open.
    pub(super) fn open(
        &mut self,
        sequence: u64,
        answer: &Arc<FetchAnswer>,
    ) -> Option<&mut PendingFetch> {
        self.by_sequence.get_mut(&sequence).filter(|open| open.is(answer))
    }

    /// Asks no longer. What comes back is to be dropped after the unlock.
    pub(super) fn leave(
        &mut self,
        asking: &mut FetchTicket,
        woken: &mut DeferredWakes,
    ) -> Option<Waker> {
        let open = self.open(asking.sequence, &asking.answer)?;
        open.askers -= 1;
        let freed = open.readers.free(&mut asking.slot);
        if open.askers == 0 {
            self.close(asking.sequence, &asking.answer, woken);
        }
        freed
    }

    fn take(&mut self, sequence: u64) -> Option<PendingFetch> {
        let open = self.by_sequence.remove(&sequence)?;
        self.queue.remove(&open.number);
        self.due.remove(&(open.due, sequence));
        Some(open)
    }

    /// Forgets a request, if it is that one, and tells whoever waits for it.
    pub(super) fn close(
        &mut self,
        sequence: u64,
        answer: &Arc<FetchAnswer>,
        woken: &mut DeferredWakes,
    ) {
        if self.open(sequence, answer).is_none() {
            return;
        }
        if let Some(mut open) = self.take(sequence) {
            open.readers.take(woken);
            open.taker.take(woken);
        }
    }

    /// The group came by itself: those who asked for it find it.
    pub(crate) fn came(&mut self, sequence: u64, woken: &mut DeferredWakes) {
        if let Some(open) = self.by_sequence.get_mut(&sequence) {
            open.readers.take(woken);
        }
    }

    /// There is no group from `end` on.
    pub(crate) fn end_at(&mut self, end: u64, woken: &mut DeferredWakes) {
        for open in self.by_sequence.range_mut(end..).map(|(_, open)| open) {
            open.readers.take(woken);
        }
        self.handlers.take(woken);
    }

    /// When the first of those who ask has waited long enough.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Refuses those that were asked for too long ago.
    pub(crate) fn give_up(&mut self, now: Instant, woken: &mut DeferredWakes) {
        while let Some((_, sequence)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.due.pop_first();
            if let Some(open) = self.take(sequence) {
                open.refuse(&Error::Timeout, woken);
            }
        }
    }

    /// What was to be given up at `before` is so at `now`.
    pub(crate) fn put_off(&mut self, before: Instant, now: Instant) {
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
    pub(super) fn pop(&mut self) -> Option<(u64, &PendingFetch)> {
        let (_, sequence) = self.queue.pop_first()?;
        self.by_sequence.get(&sequence).map(|open| (sequence, open))
    }

    /// The track was accepted: without anybody to ask, what is not here is nowhere.
    pub(crate) fn settle(&mut self, woken: &mut DeferredWakes) {
        if self.dynamics == 0 {
            for sequence in self.queue.values() {
                if let Some(open) = self.by_sequence.get_mut(sequence) {
                    open.readers.take(woken);
                }
            }
        }
    }

    /// Whether somebody was handed the request.
    pub(super) fn is_taken(&self, asking: &FetchTicket) -> bool {
        let open = self.by_sequence.get(&asking.sequence);
        open.is_some_and(|open| open.is(&asking.answer) && !self.queue.contains_key(&open.number))
    }

    /// Refuses those that nobody took.
    pub(super) fn refuse_queued(&mut self, error: &Error, woken: &mut DeferredWakes) {
        for (_, sequence) in std::mem::take(&mut self.queue) {
            if let Some(open) = self.take(sequence) {
                open.refuse(error, woken);
            }
        }
    }

    /// Refuses all.
    pub(crate) fn refuse_all(&mut self, error: &Error, woken: &mut DeferredWakes) {
        self.queue.clear();
        self.due.clear();
        for open in std::mem::take(&mut self.by_sequence).into_values() {
            open.refuse(error, woken);
        }
    }
}

pub(super) struct FetchTicket {
    pub(super) sequence: u64,
    pub(super) answer: Arc<FetchAnswer>,
    /// Its place among those who asked for the same.
    pub(super) slot: WaitSlot,
}

census! { PendingFetches { counts: queue, due, dynamics, handlers; within: by_sequence; plain: last; } }

census! { each PendingFetch { counts: askers, readers, taker; plain: answer, priority, number, due; } }
