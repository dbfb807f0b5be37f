//! Groups that were requested by number (FETCH) and have not arrived yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use crate::census::census;
use crate::model::base::{DeferredWakes, Result, WaitSlot, Wakers};
use crate::model::cache::group::GroupConsumer;
use crate::{Error, Instant};

/// The answer to a request, shared by all readers that made it. It keeps the group for readers that
/// have not seen the answer yet.
pub(super) type FetchAnswer = OnceLock<Result<GroupConsumer>>;

/// Requests that are not answered. Each has its own lists of waiters. So a new request wakes only
/// handlers, and an answer wakes only the readers that requested that group.
#[derive(Default)]
pub(crate) struct PendingFetches {
    by_sequence: BTreeMap<u64, PendingFetch>,
    /// Requests that were not handed out, oldest first.
    queue: BTreeMap<u64, u64>,
    /// All requests, by deadline.
    due: BTreeSet<(Instant, u64)>,
    last: u64,
    pub(super) dynamics: usize,
    /// Handlers that wait for requests.
    pub(crate) handler_waiters: Wakers,
}

pub(super) struct PendingFetch {
    pub(super) answer: Arc<FetchAnswer>,
    requesters: usize,
    pub(super) priority: u8,
    /// Its key in the queue.
    number: u64,
    due: Instant,
    /// The readers that wait for the answer.
    pub(super) waiters: Wakers,
    /// The handler that has the request and waits for its end.
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
    /// Requests a group, or joins the request of other readers.
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

    /// The request with this answer, if it is still open.
    pub(super) fn open(
        &mut self,
        sequence: u64,
        answer: &Arc<FetchAnswer>,
    ) -> Option<&mut PendingFetch> {
        self.by_sequence.get_mut(&sequence).filter(|open| open.is(answer))
    }

    /// Cancels one reader's part in a request. Drop the returned waker after releasing the lock.
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

    /// Removes a request and wakes its waiters, if the answer is the one given.
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

    /// The group arrived without the request. The readers that requested it find it in the cache.
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
    }

    /// The first deadline.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Refuses requests whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Instant, wakes: &mut DeferredWakes) {
        while let Some((_, sequence)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.due.pop_first();
            if let Some(open) = self.take(sequence) {
                open.refuse(&Error::Timeout, wakes);
            }
        }
    }

    /// Moves the requests with the deadline `before` to `now`.
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

    /// The track was accepted. If there is no handler, requests for missing groups fail now.
    pub(crate) fn recheck_queued(&mut self, wakes: &mut DeferredWakes) {
        if self.dynamics == 0 {
            for sequence in self.queue.values() {
                if let Some(open) = self.by_sequence.get_mut(sequence) {
                    open.waiters.take(wakes);
                }
            }
        }
    }

    /// Whether the request was given to a handler.
    pub(super) fn is_handed_out(&self, ticket: &FetchTicket) -> bool {
        let open = self.by_sequence.get(&ticket.sequence);
        open.is_some_and(|open| open.is(&ticket.answer) && !self.queue.contains_key(&open.number))
    }

    /// Refuses the requests that no handler has.
    pub(super) fn refuse_queued(&mut self, error: &Error, wakes: &mut DeferredWakes) {
        for (_, sequence) in std::mem::take(&mut self.queue) {
            if let Some(open) = self.take(sequence) {
                open.refuse(error, wakes);
            }
        }
    }

    /// Refuses all requests.
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
    /// Its slot among the readers that requested the same group.
    pub(super) slot: WaitSlot,
}

census! { PendingFetches { counts: queue, due, dynamics, handler_waiters; within: by_sequence; plain: last; } }

census! { each PendingFetch { counts: requesters, waiters, handler_waiter; plain: answer, priority, number, due; } }
