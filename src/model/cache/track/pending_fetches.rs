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
    pub(crate) handler_waiters: Wakers,
}

pub(super) struct PendingFetch {
    pub(super) answer: Arc<FetchAnswer>,
    requesters: usize,
    pub(super) priority: u8,
    /// Its place in the queue.
    number: u64,
    due: Instant,
    /// Those who asked.
    pub(super) waiters: Wakers,
    /// Who it was handed out to.
    pub(super) handler_waiter: Wakers,
}

impl PendingFetch {
    fn is(&self, answer: &Arc<FetchAnswer>) -> bool {
        Arc::ptr_eq(&self.answer, answer)
    }

    fn refuse(mut self, error: &Error, wakes: &mut DeferredWakes) {
        let _ = self.answer.set(Err(error.clone()));
        self.waiters.take(wakes);
        self.handler_waiter.take(wakes);
    }
}

impl PendingFetches {
    /// Asks for a group, with all others who ask for it.
    pub(super) fn join(
        &mut self,
        sequence: u64,
        priority: u8,
        due: Instant,
        wakes: &mut DeferredWakes,
    ) -> FetchTicket {
        let open = self.by_sequence.entry(sequence).or_insert_with(|| {
            self.last += 1;
            self.queue.insert(self.last, sequence);
            self.due.insert((due, sequence));
            self.handler_waiters.take(wakes);
            let (answer, requesters, waiters, handler_waiter) = Default::default();
            PendingFetch {
                answer,
                requesters,
                priority,
                number: self.last,
                due,
                waiters,
                handler_waiter,
            }
        });
        open.requesters += 1;
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
        ticket: &mut FetchTicket,
        wakes: &mut DeferredWakes,
    ) -> Option<Waker> {
        let open = self.open(ticket.sequence, &ticket.answer)?;
        open.requesters -= 1;
        let freed = open.waiters.free(&mut ticket.slot);
        if open.requesters == 0 {
            self.close(ticket.sequence, &ticket.answer, wakes);
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
        wakes: &mut DeferredWakes,
    ) {
        if self.open(sequence, answer).is_none() {
            return;
        }
        if let Some(mut open) = self.take(sequence) {
            open.waiters.take(wakes);
            open.handler_waiter.take(wakes);
        }
    }

    /// The group came by itself: those who asked for it find it.
    pub(crate) fn group_arrived(&mut self, sequence: u64, wakes: &mut DeferredWakes) {
        if let Some(open) = self.by_sequence.get_mut(&sequence) {
            open.waiters.take(wakes);
        }
    }

    /// There is no group from `end` on.
    pub(crate) fn end_at(&mut self, end: u64, wakes: &mut DeferredWakes) {
        for open in self.by_sequence.range_mut(end..).map(|(_, open)| open) {
            open.waiters.take(wakes);
        }
        self.handler_waiters.take(wakes);
    }

    /// When the first of those who ask has waited long enough.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Refuses those that were asked for too long ago.
    pub(crate) fn expire(&mut self, now: Instant, wakes: &mut DeferredWakes) {
        while let Some((_, sequence)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.due.pop_first();
            if let Some(open) = self.take(sequence) {
                open.refuse(&Error::Timeout, wakes);
            }
        }
    }

    /// What was to be given up at `before` is so at `now`.
    pub(crate) fn postpone(&mut self, before: Instant, now: Instant) {
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
    pub(crate) fn recheck_queued(&mut self, wakes: &mut DeferredWakes) {
        if self.dynamics == 0 {
            for sequence in self.queue.values() {
                if let Some(open) = self.by_sequence.get_mut(sequence) {
                    open.waiters.take(wakes);
                }
            }
        }
    }

    /// Whether somebody was handed the request.
    pub(super) fn is_handed_out(&self, ticket: &FetchTicket) -> bool {
        let open = self.by_sequence.get(&ticket.sequence);
        open.is_some_and(|open| open.is(&ticket.answer) && !self.queue.contains_key(&open.number))
    }

    /// Refuses those that nobody took.
    pub(super) fn refuse_queued(&mut self, error: &Error, wakes: &mut DeferredWakes) {
        for (_, sequence) in std::mem::take(&mut self.queue) {
            if let Some(open) = self.take(sequence) {
                open.refuse(error, wakes);
            }
        }
    }

    /// Refuses all.
    pub(crate) fn refuse_all(&mut self, error: &Error, wakes: &mut DeferredWakes) {
        self.queue.clear();
        self.due.clear();
        for open in std::mem::take(&mut self.by_sequence).into_values() {
            open.refuse(error, wakes);
        }
    }
}

pub(super) struct FetchTicket {
    pub(super) sequence: u64,
    pub(super) answer: Arc<FetchAnswer>,
    /// Its place among those who asked for the same.
    pub(super) slot: WaitSlot,
}

census! { PendingFetches { counts: queue, due, dynamics, handler_waiters; within: by_sequence; plain: last; } }

census! { each PendingFetch { counts: requesters, waiters, handler_waiter; plain: answer, priority, number, due; } }
