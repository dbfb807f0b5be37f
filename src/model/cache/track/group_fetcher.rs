//! Requesting a group by its number (FETCH).

use std::sync::Arc;
use std::task::{Poll, Waker};

use super::pending_fetches::FetchTicket;
use super::state::{TrackShared, TrackState};
use crate::Error;
use crate::model::base::{DeferredWakes, Result};
use crate::model::cache::group::GroupConsumer;

/// The request of one reader for a group by its number.
#[derive(Default)]
pub(crate) struct GroupFetcher {
    ticket: Option<FetchTicket>,
}

impl GroupFetcher {
    /// Returns the group `sequence` from the cache, or requests it and waits for the answer.
    pub(crate) fn poll(
        &mut self,
        shared: &Arc<TrackShared>,
        waker: Option<&Waker>,
        sequence: u64,
        priority: u8,
    ) -> Poll<Result<GroupConsumer>> {
        if self.ticket.as_ref().is_some_and(|ticket| ticket.sequence != sequence) {
            self.leave(shared);
        }
        let waker = waker.cloned();
        // Dropped after the lock is released, and so is what `change` returns.
        let mut over = None;
        let (answer, _displaced) = shared.change(&mut DeferredWakes::default(), |state, wakes| {
            let ticket = self.ticket.as_ref();
            let answer = match ticket.and_then(|ticket| ticket.answer.get().cloned()) {
                Some(answer) => Poll::Ready(answer),
                None => {
                    let is_handed_out =
                        ticket.is_some_and(|ticket| state.fetches.is_handed_out(ticket));
                    state.fetch_result(shared, sequence, is_handed_out)
                }
            };
            let Poll::Pending = answer else {
                over = self.ticket.take();
                let freed = over.as_mut().and_then(|over| state.fetches.leave(over, wakes));
                return (answer, freed);
            };
            let fetches = &mut state.fetches;
            let ticket = self.ticket.get_or_insert_with(|| {
                fetches.join(sequence, priority, shared.answer_due(), wakes)
            });
            let open = fetches.open(sequence, &ticket.answer);
            let displaced = waker
                .zip(open)
                .and_then(|(waker, open)| open.waiters.register(&mut ticket.slot, waker));
            (answer, displaced)
        });
        answer
    }

    /// Cancels the request.
    pub(crate) fn leave(&mut self, shared: &Arc<TrackShared>) {
        let Some(mut ticket) = self.ticket.take() else { return };
        let _freed = shared.change(&mut DeferredWakes::default(), |state, wakes| {
            state.fetches.leave(&mut ticket, wakes)
        });
    }
}

impl TrackState {
    /// The result for the group `sequence` that is known without asking. `is_handed_out` tells
    /// whether the request was given to a handler.
    fn fetch_result(
        &self,
        shared: &TrackShared,
        sequence: u64,
        is_handed_out: bool,
    ) -> Poll<Result<GroupConsumer>> {
        let is_answered = is_handed_out || self.fetches.dynamics > 0;
        if let Some(group) = self.cached.find(sequence) {
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
            // Before the track is accepted it is unknown whether there will be a handler.
            return Poll::Pending;
        }
        Poll::Ready(Err(if sequence < self.cached.floor() { Error::Old } else { Error::NotFound }))
    }
}
