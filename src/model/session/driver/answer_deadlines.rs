//! Deadlines for answers of the peer, and for ours to requests that may wait for a broadcast.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Driver;
use crate::census::census;
use crate::machine::Command;
use crate::model::cache::UpstreamFetch;
use crate::slab::Key;
use crate::{Error, Instant, Limits};

/// Requests without an answer, by deadline.
#[derive(Default)]
pub(crate) struct AnswerDeadlines {
    due: BTreeSet<(Instant, PendingAnswer)>,
    time: Duration,
}

/// A request that has no answer yet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PendingAnswer {
    /// SUBSCRIBE or TRACK, by key of the `RemoteTrack`.
    Track(Key),
    /// FETCH, by key of the `OutgoingFetch`.
    Group(Key),
    /// A request of the peer that waits for its broadcast, by slot.
    Route(usize),
}

impl AnswerDeadlines {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { due: BTreeSet::new(), time: limits.answer_timeout }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The peer is asked for a track. Called once for each `RemoteTrack`, even if it is asked more
    /// than once.
    pub(crate) fn expect_track(&mut self, key: Key, due: &mut Option<Instant>, now: Instant) {
        let due = *due.insert(now + self.time);
        self.due.insert((due, PendingAnswer::Track(key)));
    }

    /// The peer answered, or is no longer asked.
    pub(crate) fn end_track(&mut self, key: Key, due: &mut Option<Instant>) {
        if let Some(due) = due.take() {
            self.due.remove(&(due, PendingAnswer::Track(key)));
        }
    }

    /// The deadline for a group that the peer is asked for now.
    pub(crate) fn due(&self, now: Instant) -> Instant {
        now + self.time
    }

    pub(crate) fn expect_group(&mut self, key: Key, due: Instant) {
        self.due.insert((due, PendingAnswer::Group(key)));
    }

    pub(crate) fn end_group(&mut self, key: Key, due: Instant) {
        self.due.remove(&(due, PendingAnswer::Group(key)));
    }

    /// The peer waits so long for a broadcast. Returns the deadline.
    pub(crate) fn expect_route(&mut self, slot: usize, time: Duration, now: Instant) -> Instant {
        let due = now + time;
        self.due.insert((due, PendingAnswer::Route(slot)));
        due
    }

    pub(crate) fn end_route(&mut self, slot: usize, due: Option<Instant>) {
        if let Some(due) = due {
            self.due.remove(&(due, PendingAnswer::Route(slot)));
        }
    }

    fn pop(&mut self, now: Instant) -> Option<PendingAnswer> {
        self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.pop_first().map(|(_, asked)| asked)
    }
}

impl Driver {
    /// Cancels requests that the peer did not answer in time, so that another session can be asked, and refuses those of
    /// the peer whose broadcast did not come in time.
    pub(crate) fn expire_answers(&mut self, now: Instant) {
        while let Some(asked) = self.inbox.unanswered.pop(now) {
            match asked {
                PendingAnswer::Track(key) => {
                    self.machine.apply(Command::Unsubscribe { subscription: key.into() });
                    if let Some(remote_track) = self.inbox.end_track(key) {
                        remote_track.track.fail(Error::Timeout);
                    }
                }
                PendingAnswer::Route(slot) => {
                    if let Some((request, ..)) = self.stop_waiting(slot) {
                        self.refuse(request, Error::Timeout);
                    }
                }
                PendingAnswer::Group(key) => {
                    self.machine.apply(Command::CancelFetch { fetch: key.into() });
                    match self.inbox.end_fetch(key).map(|fetch| fetch.wanted) {
                        Some(UpstreamFetch::Group(request)) => request.reject(Error::Timeout),
                        Some(UpstreamFetch::PartialGroup(partial)) => partial.hand_back(),
                        None => {}
                    }
                }
            }
        }
    }
}

census! { AnswerDeadlines { counts: due; plain: time; } }
