//! Tracks of the peer that have no readers, and that stay subscribed for a while.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Driver;
use crate::census::census;
use crate::machine::Command;
use crate::slab::Key;
use crate::{Error, Instant, Limits};

/// Tracks without readers, by when to check them, and by key of their `RemoteTrack`.
#[derive(Default)]
pub(crate) struct LingeringTracks {
    due: BTreeSet<(Instant, Key)>,
    time: Duration,
    /// The largest number of lingering tracks.
    max: usize,
}

/// How long a track has had no readers.
#[derive(Clone, Copy)]
pub(crate) enum LingerPhase {
    /// Since this time, which may be late: the session may have been idle before the model woke it.
    Since(Instant),
    /// It is cancelled at this time.
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

    /// A track lingers no longer: it has a reader again, or it ended.
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
    /// A track of the peer has no readers. It is cancelled now or later.
    pub(crate) fn unwanted(&mut self, key: Key) {
        let Some(remote_track) = self.inbox.tracks.get_mut(key) else { return };
        // A track that was not answered yet is not worth keeping.
        let is_running = remote_track.is_subscribed() && remote_track.track.info().is_some();
        if is_running && self.inbox.lingering.has_room() {
            self.inbox.lingering.begin(key, &mut remote_track.idle, LingerPhase::Since(self.now));
        } else {
            self.cancel(key);
        }
    }

    /// Cancels the tracks whose time is over.
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

    /// Cancels all lingering tracks, because the session is about to end.
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
            // A reader came meanwhile. The waker reports it.
            return;
        }
        let is_subscribed = remote_track.is_subscribed();
        self.machine.apply(Command::Unsubscribe { subscription: key.into() });
        if !is_subscribed {
            // Nothing is subscribed, so there is no end to wait for.
            self.inbox.end_track(key);
        }
    }
}

census! { LingeringTracks { counts: due; plain: time, max; } }
