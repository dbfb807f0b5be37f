//! Announcements and tracks that the peer requests.

use std::task::Waker;

use super::{ANNOUNCE_READER, Driver, GROUP, MAX_QUERIED, QUERIED_TIME, SERVED_TRACK, ready_key};
use crate::machine::{Command, RequestKey, Token};
use crate::model::base::count;
use crate::model::cache::TrackConsumer;
use crate::model::session::log;
use crate::model::session::outbox::OutboxStep;
use crate::{Error, Hop, Path};

impl Driver {
    /// The peer asks for announcements; or for `tracks`, and with them for announcements if that is `true`.
    pub(crate) fn announce_requested(
        &mut self,
        request: RequestKey,
        prefix: &Path,
        exclude: Hop,
        hidden: bool,
        tracks: Option<bool>,
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
        let mut reader = origin.reader(prefix, self.horizon(), self.announce_filter(hidden));
        if let Some(names) = tracks {
            reader.announce_tracks(prefix, self.horizon(), names);
        }
        let waker = self.ready.waker(ready_key(ANNOUNCE_READER, request.slot() as u32));
        let is_counted = self.version.counts_announcements();
        self.outbox.announcing.add(request, reader, waker, is_counted);
        self.announcements_changed(request.slot());
    }

    /// There may be something new for a request for announcements.
    pub(crate) fn announcements_changed(&mut self, slot: usize) {
        if let Some(command) = self.outbox.announcing.next_command(slot) {
            self.machine.apply(command);
        }
    }

    pub(crate) fn refuse(&mut self, request: RequestKey, error: Error) {
        self.count_refusal(&error);
        self.machine.apply(Command::Refuse { request, error });
    }

    pub(crate) fn count_refusal(&self, error: &Error) {
        count(&self.shared.cells.refused_requests);
        log::refused(self.id, error);
    }

    pub(crate) fn served_track_waker(&self, request: RequestKey) -> Waker {
        self.ready.waker(ready_key(SERVED_TRACK, request.slot() as u32))
    }

    /// There may be something new on a track that the peer reads.
    pub(crate) fn served_track_changed(&mut self, slot: usize) {
        let waker = |slot| self.ready.waker(ready_key(GROUP, slot as u32));
        let Some(next) = self.outbox.next_for_track(slot, waker) else { return };
        let more = matches!(next, OutboxStep::Skipped(_) | OutboxStep::Command(_));
        match next {
            OutboxStep::Skipped(missed) => {
                if missed {
                    self.shared.skip_group();
                    count(&self.shared.cells.expired_groups);
                }
            }
            OutboxStep::Command(command) | OutboxStep::Last(command) => {
                if let Command::Refuse { error, .. } = &command {
                    self.count_refusal(error);
                }
                self.machine.apply(command);
            }
            OutboxStep::Queried(command, track) => {
                self.keep_queried(*track);
                self.machine.apply(command);
            }
        }
        if more {
            self.outbox.wake(slot);
        }
    }

    pub(super) fn group_released(&mut self, group: Token, sent: bool) {
        let was_old = self.outbox.release(group);
        if sent {
            return count(&self.shared.cells.groups_sent);
        }
        self.shared.skip_group();
        if was_old {
            count(&self.shared.cells.expired_groups);
        }
    }

    pub(super) fn request_ended(&mut self, request: RequestKey, result: Result<(), Error>) {
        if let Err(error) = &result {
            log::broke(self.id, "request", error);
        }
        self.stop_waiting(request.slot());
        self.inbox.offers.remove(request.slot());
        if let Some(track) = self.outbox.end_request(request) {
            self.keep_queried(track);
        }
    }

    /// Keeps a track that may be requested again soon.
    pub(crate) fn keep_queried(&mut self, track: TrackConsumer) {
        if self.queried.len() >= MAX_QUERIED {
            self.queried.pop_front();
        }
        self.queried.push_back((self.now + QUERIED_TIME, track));
    }
}
