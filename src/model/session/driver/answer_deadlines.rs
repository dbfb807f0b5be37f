//! Deadlines for answers of the peer.

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

/// A request to the peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PendingAnswer {
    /// SUBSCRIBE or TRACK, by key of the `RemoteTrack`.
    Track(Key),
    /// FETCH, by key of the `OutgoingFetch`.
    Group(Key),
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

    fn pop(&mut self, now: Instant) -> Option<PendingAnswer> {
        self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.pop_first().map(|(_, asked)| asked)
    }
}

impl Driver {
    /// Cancels requests that the peer did not answer in time, so that another session can be asked.
    pub(crate) fn expire_answers(&mut self, now: Instant) {
        while let Some(asked) = self.inbox.unanswered.pop(now) {
            match asked {
                PendingAnswer::Track(key) => {
                    self.machine.apply(Command::Unsubscribe { subscription: key.into() });
                    if let Some(remote_track) = self.inbox.end_track(key) {
                        remote_track.track.fail(Error::Timeout);
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
