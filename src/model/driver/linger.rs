//! Tracks of the peer that nobody reads any more, and that are read on for a while.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Driver;
use super::inbox::{Ask, Told};
use crate::census::census;
use crate::error::Error;
use crate::limits::Limits;
use crate::machine::Command;
use crate::slab::Key;
use crate::time::Instant;

/// Tracks that nobody reads, by when to look at them, and by key of their `Ask`.
#[derive(Default)]
pub(super) struct Lingering {
    due: BTreeSet<(Instant, Key)>,
    time: Duration,
    /// How many there may be.
    max: usize,
}

/// Until when nobody came.
#[derive(Clone, Copy)]
pub(super) enum Idle {
    /// When the time is known: the model wakes a session that may not have been told it for long.
    Since(Instant),
    /// It is cancelled then.
    Until(Instant),
}

impl Idle {
    fn due(self) -> Instant {
        match self {
            Self::Since(at) | Self::Until(at) => at,
        }
    }
}

impl Lingering {
    pub(super) fn new(limits: &Limits) -> Self {
        let (due, time) = (BTreeSet::new(), limits.linger_time);
        Self { due, time, max: limits.subscriptions / 2 }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// It lingers no longer: somebody reads it, or it ended.
    pub(super) fn end(&mut self, key: Key, ask: &mut Ask) {
        if let Some(idle) = ask.idle.take() {
            self.due.remove(&(idle.due(), key));
        }
    }

    fn begin(&mut self, key: Key, ask: &mut Ask, idle: Idle) {
        self.end(key, ask);
        self.due.insert((idle.due(), key));
        ask.idle = Some(idle);
    }

    fn takes(&self, ask: &Ask) -> bool {
        // What was not answered yet is warm for nobody.
        let is_running = matches!(ask.told, Told::Subscription(_)) && ask.track.info().is_some();
        is_running && !self.time.is_zero() && self.due.len() < self.max
    }
}

impl Driver {
    /// Nobody asks for a track of the peer: it is cancelled, now or later.
    pub(super) fn unwanted(&mut self, key: Key) {
        let Some(ask) = self.inbox.asks.get_mut(key) else { return };
        if self.inbox.lingering.takes(ask) {
            self.inbox.lingering.begin(key, ask, Idle::Since(self.now));
        } else {
            self.cancel(key);
        }
    }

    /// Looks at those that nobody came back to.
    pub(super) fn linger(&mut self, now: Instant) {
        while let Some((_, key)) = self.inbox.lingering.due.first().filter(|(at, _)| *at <= now) {
            let (key, lingering) = (*key, &mut self.inbox.lingering);
            let Some(ask) = self.inbox.asks.get_mut(key) else { return };
            if let Some(Idle::Since(_)) = ask.idle {
                lingering.begin(key, ask, Idle::Until(now + lingering.time));
            } else {
                lingering.end(key, ask);
                self.cancel(key);
            }
        }
    }

    /// Reads nothing on from now on: the session is to end, and who comes back goes elsewhere.
    pub(super) fn stop_lingering(&mut self) {
        let lingering = &mut self.inbox.lingering;
        lingering.max = 0;
        for (_, key) in std::mem::take(&mut lingering.due) {
            if let Some(ask) = self.inbox.asks.get_mut(key) {
                ask.idle = None;
            }
            self.cancel(key);
        }
    }

    fn cancel(&mut self, key: Key) {
        let Some(ask) = self.inbox.asks.get_mut(key) else { return };
        if !ask.track.abort_unasked(Error::Cancelled) {
            // Somebody came meanwhile, of whom the waker tells.
            return;
        }
        let is_subscribed = matches!(ask.told, Told::Subscription(_));
        self.machine.apply(Command::Unsubscribe { subscription: key.into() });
        if !is_subscribed {
            // Nothing is to come that would have to be waited for.
            self.inbox.end_ask(key);
        }
    }
}

census! { Lingering { counts: due; plain: time, max; } }
