//! What the peer was asked for and has not answered: given up when it takes too long.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::track::Wanted;
use super::Driver;
use super::inbox::{Ask, Fetch};
use crate::census::census;
use crate::error::Error;
use crate::limits::Limits;
use crate::machine::Command;
use crate::slab::Key;
use crate::time::Instant;

/// Requests without an answer, by when they are given up.
#[derive(Default)]
pub(super) struct Unanswered {
    due: BTreeSet<(Instant, Asked)>,
    time: Duration,
}

/// A request to the peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    /// SUBSCRIBE or TRACK, by key of the `Ask`.
    Track(Key),
    /// FETCH, by key of the `Fetch`.
    Group(Key),
}

impl Unanswered {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { due: BTreeSet::new(), time: limits.answer_time }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The peer is asked for a track now. Once for each `Ask`, whatever is asked of the track later.
    pub(super) fn expect_track(&mut self, key: Key, ask: &mut Ask, now: Instant) {
        let due = *ask.answer_due.insert(now + self.time);
        self.due.insert((due, Asked::Track(key)));
    }

    /// It answered, or is not asked any more.
    pub(super) fn end_track(&mut self, key: Key, ask: &mut Ask) {
        if let Some(due) = ask.answer_due.take() {
            self.due.remove(&(due, Asked::Track(key)));
        }
    }

    /// By when a group that the peer is asked for must come.
    pub(super) fn due(&self, now: Instant) -> Instant {
        now + self.time
    }

    pub(super) fn expect_group(&mut self, key: Key, due: Instant) {
        self.due.insert((due, Asked::Group(key)));
    }

    pub(super) fn end_group(&mut self, key: Key, fetch: &Fetch) {
        self.due.remove(&(fetch.answer_due, Asked::Group(key)));
    }

    fn pop(&mut self, now: Instant) -> Option<Asked> {
        self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.pop_first().map(|(_, asked)| asked)
    }
}

impl Driver {
    /// Withdraws what the peer did not answer in time, and lets somebody else be asked.
    pub(super) fn give_up(&mut self, now: Instant) {
        while let Some(asked) = self.inbox.unanswered.pop(now) {
            match asked {
                Asked::Track(key) => {
                    self.machine.apply(Command::Unsubscribe { subscription: key.into() });
                    if let Some(ask) = self.inbox.end_ask(key) {
                        ask.track.lose(Error::Timeout);
                    }
                }
                Asked::Group(key) => {
                    self.machine.apply(Command::CancelFetch { fetch: key.into() });
                    match self.inbox.end_fetch(key).map(|fetch| fetch.wanted) {
                        Some(Wanted::Group(request)) => request.reject(Error::Timeout),
                        Some(Wanted::Rest(rest)) => rest.leave(),
                        None => {}
                    }
                }
            }
        }
    }
}

census! { Unanswered { counts: due; plain: time; } }
