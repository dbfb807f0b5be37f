//! What the peer asks of our tracks (moq-lite, *Subscribe* and *Track*).

use super::super::Core;
use super::super::app::{Event, RequestKey};
use super::super::dialect::{Dialect, Look};
use super::super::layout::Head;
use super::super::serves::Serving;
use super::{Lite, Role};
use crate::coding::lite::{
    GroupHeader, SubscribeResponse, SubscribeUpdate, UniStream, encode_track_info,
};
use crate::error::Error;
use crate::slab::Key;
use crate::subscription::TrackInfo;

use bytes::BytesMut;

impl Lite {
    pub(super) fn say_ok(&mut self, core: &mut Core, key: Key, _: &TrackInfo) {
        let Some(serving) = core.serves.get_mut(key) else { return };
        let priority = serving.want.priority;
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
        let Some(serving) = core.serves.get_mut(key) else { return };
        let is_open = serving.track.is_some() && serving.start.is_none();
        if self.features.subscribe_end && is_open {
            serving.start = Some(group);
            self.respond(core, key, &SubscribeResponse::Start { group });
        }
    }

    pub(super) fn begin_group(
        &self,
        serving: &Serving,
        sequence: u64,
        first_frame: u64,
    ) -> Option<Head> {
        if serving.start.is_some_and(|start| sequence < start) {
            // The peer drops what is below the start that it was told.
            return None;
        }
        let mut head = BytesMut::with_capacity(32);
        UniStream::Group.encode(&mut head);
        let header = GroupHeader { subscribe: serving.number, sequence, first_frame };
        header.encode(&mut head, self.version).ok()?;
        Some(Head::from_slice(&head))
    }

    pub(super) fn say_end(&mut self, core: &mut Core, key: Key, end: u64, streams: u64) {
        if self.features.subscribe_end {
            let end = SubscribeResponse::End { group: end, streams: Some(streams) };
            self.respond(core, key, &end);
        }
        core.await_confirmation(key);
        self.set_role(key, Role::Served);
    }

    /// A subscription that ended cleanly goes when the peer confirms it by ending its half.
    pub(super) fn look_at_served(&mut self, core: &mut Core, key: Key) -> Look {
        if core.is_confirmed(key) {
            self.set_role(key, Role::Done);
            return self.look_at_done(core, key);
        }
        Look::Wait
    }

    /// SUBSCRIBE_UPDATE, or the end of the peer's interest.
    pub(super) fn look_at_serving(&mut self, core: &mut Core, key: Key) -> Look {
        match self.read_serving(core, key) {
            Ok(look) => look,
            Err(error) => {
                core.end_serving(key, &error);
                let finished = core.requests.get(key).is_some_and(|it| it.recv.is_finished());
                if finished {
                    self.finish(core, key);
                } else {
                    self.cancel(core, key, &error);
                }
                Look::request_ended(key, error)
            }
        }
    }

    fn read_serving(&mut self, core: &mut Core, key: Key) -> Result<Look, Error> {
        let Some(request) = core.requests.get(key) else { return Ok(Look::Wait) };
        if let Some(code) = request.given_up() {
            return Err(Error::from_stream_code(code));
        }
        if request.recv.is_finished() {
            return Err(Error::Cancelled);
        }
        let Some((_, body)) = self.next_message(core, key, false)? else { return Ok(Look::Wait) };
        let mut want = SubscribeUpdate::decode_body(&body, self.version)?.want;
        self.floor(&mut want);
        core.update_serving(key, &want);
        let request = RequestKey::of(key);
        Ok(Look::Event(Event::SubscribeUpdated { request, subscription: want }))
    }

    // ---- TRACK -------------------------------------------------------------------------------

    pub(super) fn accept_track(&mut self, core: &mut Core, key: Key, info: &TrackInfo) {
        let version = self.version;
        if core.requests.get(key).is_none() || !matches!(self.role(key), Role::Describing) {
            return;
        }
        let mut result = Ok(());
        core.requests.write(key, |out| result = encode_track_info(info, out, version));
        match result {
            Ok(()) => self.finish(core, key),
            Err(_) => self.cancel(core, key, &Error::Internal),
        }
    }

    pub(super) fn look_at_describing(&mut self, core: &mut Core, key: Key) -> Look {
        let Some(request) = core.requests.get(key) else { return Look::Wait };
        let error = match request.given_up() {
            Some(code) => Error::from_stream_code(code),
            None if request.recv.len() > 0 => Error::Malformed(crate::DecodeError::TrailingBytes),
            None if request.recv.has_fin() => Error::Cancelled,
            None => return Look::Wait,
        };
        self.cancel(core, key, &error);
        Look::request_ended(key, error)
    }
}
