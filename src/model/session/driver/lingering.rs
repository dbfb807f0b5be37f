//! Tracks of the peer that nobody reads any more, and that are read on for a while.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Driver;
use crate::census::census;
use crate::machine::Command;
use crate::slab::Key;
use crate::{Error, Instant, Limits};

/// Tracks that nobody reads, by when to look at them, and by key of their `RemoteTrack`.
#[derive(Default)]
pub(crate) struct LingeringTracks {
    due: BTreeSet<(Instant, Key)>,
    time: Duration,
    /// How many there may be.
    max: usize,
}

/// Until when nobody came.
#[derive(Clone, Copy)]
pub(crate) enum LingerPhase {
    /// When the time is known: the model wakes a session that may not have been told it for long.
    Since(Instant),
    /// It is cancelled then.
    Until(Instant),
}

impl LingerPhase {
    fn due(self) -> Instant {
        match self {
            Self::Since(at) | Self::Until(at) => at,
        }
    }
}

impl LingeringTracks {
    pub(crate) fn new(limits: &Limits) -> Self {
        let (due, time) = (BTreeSet::new(), limits.linger_time);
        Self { due, time, max: limits.subscriptions / 2 }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// It lingers no longer: somebody reads it, or it ended.
    pub(crate) fn end(&mut self, key: Key, idle: &mut Option<LingerPhase>) {
        if let Some(idle) = idle.take() {
            self.due.remove(&(idle.due(), key));
        }
    }

    fn begin(&mut self, key: Key, idle: &mut Option<LingerPhase>, phase: LingerPhase) {
        self.end(key, idle);
        self.due.insert((phase.due(), key));
        *idle = Some(phase);
    }

    fn has_room(&self) -> bool {
        !self.time.is_zero() && self.due.len() < self.max
    }
}

impl Driver {
    /// Nobody asks for a track of the peer: it is cancelled, now or later.
    pub(crate) fn unwanted(&mut self, key: Key) {
        let Some(remote_track) = self.inbox.tracks.get_mut(key) else { return };
        // What was not answered yet is warm for nobody.
        let is_running = remote_track.is_subscribed() && remote_track.track.info().is_some();
        if is_running && self.inbox.lingering.has_room() {
            self.inbox.lingering.begin(key, &mut remote_track.idle, LingerPhase::Since(self.now));
        } else {
            self.cancel(key);
        }
    }

    /// Looks at those that nobody came back to.
    pub(crate) fn expire_lingering(&mut self, now: Instant) {
        while let Some((_, key)) = self.inbox.lingering.due.first().filter(|(at, _)| *at <= now) {
            let (key, lingering) = (*key, &mut self.inbox.lingering);
            let Some(remote_track) = self.inbox.tracks.get_mut(key) else { return };
            if let Some(LingerPhase::Since(_)) = remote_track.idle {
                lingering.begin(
                    key,
                    &mut remote_track.idle,
                    LingerPhase::Until(now + lingering.time),
                );
            } else {
                lingering.end(key, &mut remote_track.idle);
                self.cancel(key);
            }
        }
    }

    /// Reads nothing on from now on: the session is to end, and who comes back goes elsewhere.
    pub(crate) fn stop_lingering(&mut self) {
        let lingering = &mut self.inbox.lingering;
        lingering.max = 0;
        for (_, key) in std::mem::take(&mut lingering.due) {
            if let Some(remote_track) = self.inbox.tracks.get_mut(key) {
                remote_track.idle = None;
            }
            self.cancel(key);
        }
    }

    fn cancel(&mut self, key: Key) {
        let Some(remote_track) = self.inbox.tracks.get_mut(key) else { return };
        if !remote_track.track.abort_if_unread(Error::Cancelled) {
            // Somebody came meanwhile, of whom the waker tells.
            return;
        }
        let is_subscribed = remote_track.is_subscribed();
        self.machine.apply(Command::Unsubscribe { subscription: key.into() });
        if !is_subscribed {
            // Nothing is to come that would have to be waited for.
            self.inbox.end_track(key);
        }
    }
}

census! { LingeringTracks { counts: due; plain: time, max; } }
