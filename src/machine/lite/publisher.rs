//! What the peer asks of our tracks (moq-lite, *Subscribe* and *Track*).

use bytes::BytesMut;

use super::roles::Role;
use super::session::Lite;
use crate::coding::lite::{
    DatagramHead, GroupHeader, SubscribeResponse, SubscribeUpdate, UniStream, encode_track_info,
};
use crate::error::Error;
use crate::machine::engine::{Core, Dialect, IncomingSubscription, Progress};
use crate::machine::event::{Event, RequestKey};
use crate::machine::layout::Head;
use crate::slab::Key;
use crate::subscription::TrackInfo;
use crate::time::Timestamp;

impl Lite {
    pub(super) fn write_ok(&mut self, core: &mut Core, key: Key, _: &TrackInfo) {
        let Some(subscription) = core.incoming.get_mut(key) else { return };
        let priority = subscription.options.priority;
        if !self.features.subscribe_end {
            // The deployed peers say nothing but the priority.
            let ok = SubscribeResponse::Ok {
                priority,
                ordered: false,
                max_age: core::time::Duration::ZERO,
                start: None,
                end: None,
            };
            self.respond(core, key, &ok);
        }
    }

    fn respond(&mut self, core: &mut Core, key: Key, response: &SubscribeResponse) {
        let version = self.version;
        core.requests.write(key, |out| {
            // Only group numbers past 62 bits do not fit, and those can't be given either.
            let _ = response.encode(out, version);
        });
    }

    /// START is told once: it can't be taken back.
    pub(super) fn start_subscribe(&mut self, core: &mut Core, key: Key, group: u64) {
        let Some(subscription) = core.incoming.get_mut(key) else { return };
        let is_open = subscription.track.is_some() && subscription.start.is_none();
        if self.features.subscribe_end && is_open {
            subscription.start = Some(group);
            self.respond(core, key, &SubscribeResponse::Start { group });
        }
    }

    pub(super) fn begin_group(
        &self,
        subscription: &IncomingSubscription,
        sequence: u64,
        first_frame: u64,
    ) -> Option<Head> {
        if subscription.start.is_some_and(|start| sequence < start) {
            // The peer drops what is below the start that it was told.
            return None;
        }
        let mut head = BytesMut::with_capacity(32);
        UniStream::Group.encode(&mut head);
        let header = GroupHeader { subscribe: subscription.number, sequence, first_frame };
        header.encode(&mut head, self.version).ok()?;
        Some(Head::from_slice(&head))
    }

    /// Everything before the payload of a DATAGRAM (6.4).
    pub(super) fn encode_datagram_head(
        &self,
        subscribe: u64,
        sequence: u64,
        timestamp: Timestamp,
    ) -> Option<Head> {
        let head = DatagramHead { subscribe, sequence, timestamp }.encode(self.version).ok()?;
        Some(Head::from_slice(&head))
    }

    pub(super) fn write_end(&mut self, core: &mut Core, key: Key, end: u64, streams: u64) {
        if self.features.subscribe_end {
            let end = SubscribeResponse::End { group: end, streams: Some(streams) };
            self.respond(core, key, &end);
        }
        core.await_confirmation(key);
        self.set_role(key, Role::EndedSubscription);
    }

    /// A subscription that ended cleanly goes when the peer confirms it by ending its half.
    pub(super) fn read_ended_subscription(&mut self, core: &mut Core, key: Key) -> Progress {
        if core.is_confirmed(key) {
            self.set_role(key, Role::Done);
            return self.read_done(core, key);
        }
        Progress::Wait
    }

    /// SUBSCRIBE_UPDATE, or the end of the peer's interest.
    pub(super) fn read_incoming_subscription(&mut self, core: &mut Core, key: Key) -> Progress {
        match self.read_subscribe_update(core, key) {
            Ok(progress) => progress,
            Err(error) => {
                core.end_incoming(key, &error);
                let finished = core.requests.get(key).is_some_and(|it| it.recv.is_finished());
                if finished {
                    self.finish(core, key);
                } else {
                    self.cancel(core, key, &error);
                }
                Progress::request_ended(key, error)
            }
        }
    }

    fn read_subscribe_update(&mut self, core: &mut Core, key: Key) -> Result<Progress, Error> {
        let Some(request) = core.requests.get(key) else { return Ok(Progress::Wait) };
        if let Some(code) = request.abandoned() {
            return Err(Error::from_stream_code(code));
        }
        if request.recv.is_finished() {
            return Err(Error::Cancelled);
        }
        let Some((_, body)) = self.next_message(core, key, false)? else {
            return Ok(Progress::Wait);
        };
        let mut want = SubscribeUpdate::decode_body(&body, self.version)?.want;
        self.apply_default_start(&mut want);
        core.update_incoming(key, &want);
        let request = RequestKey::of(key);
        Ok(Progress::Event(Event::SubscribeUpdated { request, subscription: want }))
    }

    // ---- TRACK -------------------------------------------------------------------------------

    pub(super) fn accept_track(&mut self, core: &mut Core, key: Key, info: &TrackInfo) {
        let version = self.version;
        if core.requests.get(key).is_none() || !matches!(self.role(key), Role::IncomingQuery) {
            return;
        }
        let mut result = Ok(());
        core.requests.write(key, |out| result = encode_track_info(info, out, version));
        match result {
            Ok(()) => self.finish(core, key),
            Err(_) => self.cancel(core, key, &Error::Internal),
        }
    }

    pub(super) fn read_incoming_query(&mut self, core: &mut Core, key: Key) -> Progress {
        let Some(request) = core.requests.get(key) else { return Progress::Wait };
        let error = match request.abandoned() {
            Some(code) => Error::from_stream_code(code),
            None if request.recv.len() > 0 => Error::Malformed(crate::DecodeError::TrailingBytes),
            None if request.recv.has_fin() => Error::Cancelled,
            None => return Progress::Wait,
        };
        self.cancel(core, key, &error);
        Progress::request_ended(key, error)
    }
}
