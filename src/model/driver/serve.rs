//! What the peer asks for.

use std::task::Waker;

use super::super::log;
use super::super::outbox::Next;
use super::super::stats::count;
use super::super::track::TrackConsumer;
use super::{DESCRIBED_TIME, Driver, GROUP, MAX_DESCRIBED, READER, SERVE, ready_key};
use crate::error::Error;
use crate::hop::Hop;
use crate::machine::{Command, RequestKey, Token};
use crate::path::Path;

impl Driver {
    pub(super) fn announce_requested(
        &mut self,
        request: RequestKey,
        prefix: &Path,
        exclude: Hop,
        hidden: bool,
    ) {
        self.peer = exclude;
        let Some(origin) = &self.publish else {
            self.machine.apply(Command::AcceptAnnounce {
                request,
                reader: Token::default(),
                active: 0,
            });
            return;
        };
        let reader = origin.reader(prefix, self.horizon(), self.speech(hidden));
        let waker = self.ready.waker(ready_key(READER, request.slot() as u32));
        let is_counted = self.version.counts_announcements();
        self.outbox.add_reader(request, reader, waker, is_counted);
        self.announcements_changed(request.slot());
    }

    /// There may be something to tell the peer on a request for announcements.
    pub(super) fn announcements_changed(&mut self, slot: usize) {
        if let Some(command) = self.outbox.next_for_reader(slot) {
            self.machine.apply(command);
        }
    }

    pub(super) fn refuse(&mut self, request: RequestKey, error: Error) {
        self.count_refusal(&error);
        self.machine.apply(Command::Refuse { request, error });
    }

    pub(super) fn count_refusal(&self, error: &Error) {
        count(&self.shared.cells.refused_requests);
        log::refused(self.id, error);
    }

    pub(super) fn serve_waker(&self, request: RequestKey) -> Waker {
        self.ready.waker(ready_key(SERVE, request.slot() as u32))
    }

    /// A track that the peer reads has news.
    pub(super) fn serve_changed(&mut self, slot: usize) {
        let waker = |slot| self.ready.waker(ready_key(GROUP, slot as u32));
        let Some(next) = self.outbox.next_for(slot, waker) else { return };
        let more = matches!(next, Next::Skipped(_) | Next::Command(_));
        match next {
            Next::Skipped(missed) => {
                if missed {
                    self.shared.skip_group();
                    count(&self.shared.cells.expired_groups);
                }
            }
            Next::Command(command) | Next::Last(command) => {
                if let Command::Refuse { error, .. } = &command {
                    self.count_refusal(error);
                }
                self.machine.apply(command);
            }
            Next::Described(command, track) => {
                self.keep_described(*track);
                self.machine.apply(command);
            }
        }
        if more {
            self.outbox.wake(slot);
        }
    }

    /// Somebody may soon ask for a track again.
    pub(super) fn keep_described(&mut self, track: TrackConsumer) {
        if self.described.len() >= MAX_DESCRIBED {
            self.described.pop_front();
        }
        self.described.push_back((self.now + DESCRIBED_TIME, track));
    }
}
