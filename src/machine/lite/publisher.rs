//! What the peer asks of our tracks (moq-lite, *Subscribe* and *Track*).

use super::super::Core;
use super::super::app::{Event, RequestKey};
use super::super::io::Token;
use super::super::schedule::{Head, Pick, Released};
use super::{Lite, Look, Role};
use crate::coding::lite::{
    GroupHeader, Subscribe, SubscribeResponse, SubscribeUpdate, UniStream, encode_track_info,
};
use crate::error::Error;
use crate::slab::Key;
use crate::subscription::{Subscription, TrackInfo};

use bytes::BytesMut;

/// A subscription of the peer.
#[derive(Debug)]
pub(super) struct Serving {
    id: u64,
    want: Subscription,
    /// Its groups, once it was accepted.
    track: Option<Key>,
    /// The first group that may come, once it was told.
    start: Option<u64>,
    /// All groups are given: those from this one on do not exist.
    ending: Option<u64>,
}

impl Serving {
    pub(super) fn new(message: &Subscribe) -> Self {
        Self { id: message.id, want: message.want.clone(), track: None, start: None, ending: None }
    }
}

impl Lite {
    fn serving(&mut self, core: &mut Core, key: Key) -> Option<&mut Serving> {
        core.requests.get(key)?;
        match self.role(key) {
            Role::Serving(serving) => Some(serving),
            _ => None,
        }
    }

    pub(super) fn accept_subscribe(&mut self, core: &mut Core, key: Key, info: &TrackInfo) {
        let Some(serving) = self.serving(core, key) else { return };
        if serving.track.is_some() {
            return;
        }
        let want = &serving.want;
        let track = core.schedule.add_track(want.priority, info.priority, want.ordered);
        let priority = want.priority;
        serving.track = Some(track);
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
        self.request_by_track.insert(track, key);
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
        let says_start = self.features.subscribe_end;
        let Some(serving) = self.serving(core, key) else { return };
        let is_open = serving.track.is_some() && serving.start.is_none();
        if says_start && is_open {
            serving.start = Some(group);
            self.respond(core, key, &SubscribeResponse::Start { group });
        }
    }

    pub(super) fn push_group(
        &mut self,
        core: &mut Core,
        key: Key,
        group: Token,
        sequence: u64,
        first_frame: u64,
    ) {
        let version = self.version;
        let refused = |core: &mut Core| {
            core.notices.push_back(Event::GroupReleased { group, sent: false });
        };
        let Some(serving) = self.serving(core, key) else { return refused(core) };
        let (Some(track), None) = (serving.track, serving.ending) else { return refused(core) };
        if serving.start.is_some_and(|start| sequence < start) {
            // The peer drops what is below the start that it was told.
            return refused(core);
        }
        let mut head = BytesMut::with_capacity(32);
        UniStream::Group.encode(&mut head);
        let header = GroupHeader { subscribe: serving.id, sequence, first_frame };
        if header.encode(&mut head, version).is_err() {
            return refused(core);
        }
        core.schedule.push(Pick { track, sequence }, group, first_frame, Head::from_slice(&head));
    }

    pub(super) fn group_ready(&mut self, core: &mut Core, key: Key, sequence: u64) {
        if let Some(track) = self.serving(core, key).and_then(|serving| serving.track) {
            core.schedule.ready(Pick { track, sequence });
        }
    }

    pub(super) fn finish_subscribe(&mut self, core: &mut Core, key: Key, end: u64) {
        let Some(serving) = self.serving(core, key) else { return };
        let Some(track) = serving.track else { return };
        serving.ending.get_or_insert(end);
        self.check_drained(core, track);
    }

    pub(in crate::machine) fn group_released(
        &mut self,
        core: &mut Core,
        released: Released,
    ) -> Event {
        self.check_drained(core, released.track);
        Event::GroupReleased { group: released.group, sent: released.sent }
    }

    /// The last group of an ending subscription ends it.
    fn check_drained(&mut self, core: &mut Core, track: Key) {
        let Some(key) = self.request_by_track.get(&track).copied() else { return };
        let Role::Serving(serving) = self.role(key) else { return };
        let Some(end) = serving.ending.filter(|_| core.schedule.is_drained(track)) else { return };
        // Behind the bytes of the groups that QUIC still holds: what reaches a subscriber after the end
        // is lost on 0.16, and 0.3 tells its reader of the end as soon as it has the newest group.
        let priority = core.schedule.quic_priority(track);
        core.requests.set_priority(key, priority, &mut core.actions);
        if self.features.subscribe_end {
            self.respond(core, key, &SubscribeResponse::End { group: end });
        }
        core.schedule.remove_track(track, Error::Closed.stream_code(), &mut core.actions);
        self.request_by_track.remove(&track);
        self.serving -= 1;
        self.unconfirmed += 1;
        core.requests.finish(key);
        self.set_role(key, Role::Served);
        core.requests.queue_in(key);
        let request = RequestKey(key.0, key.1);
        core.notices.push_back(Event::RequestEnded { request, result: Ok(()) });
    }

    /// A subscription that ended cleanly goes when the peer confirms it by ending its half.
    pub(super) fn look_at_served(&mut self, core: &mut Core, key: Key) -> Look {
        let Some(request) = core.requests.get(key) else { return Look::Wait };
        request.recv.discard();
        if request.recv.is_over() || request.given_up().is_some() {
            self.unconfirmed -= 1;
            self.set_role(key, Role::Done);
            return self.look_at_done(core, key);
        }
        Look::Wait
    }

    /// SUBSCRIBE_UPDATE, or the end of the peer's interest.
    pub(super) fn look_at_serving(
        &mut self,
        core: &mut Core,
        key: Key,
        serving: &mut Serving,
    ) -> Look {
        match self.read_serving(core, key, serving) {
            Ok(look) => look,
            Err(error) => {
                self.end_serving(core, serving, &error);
                let finished = core.requests.get(key).is_some_and(|it| it.recv.is_finished());
                if finished {
                    self.finish(core, key);
                } else {
                    self.cancel(core, key, &error);
                }
                let request = RequestKey(key.0, key.1);
                Look::Event(Event::RequestEnded { request, result: Err(error) })
            }
        }
    }

    fn read_serving(
        &mut self,
        core: &mut Core,
        key: Key,
        serving: &mut Serving,
    ) -> Result<Look, Error> {
        let Some(request) = core.requests.get(key) else { return Ok(Look::Wait) };
        if let Some(code) = request.given_up() {
            return Err(Error::from_stream_code(code));
        }
        if request.recv.is_finished() {
            return Err(Error::Cancelled);
        }
        let Some((_, body)) = Self::next_message(core, key, false)? else { return Ok(Look::Wait) };
        let mut want = SubscribeUpdate::decode_body(&body, self.version)?.want;
        self.floor(&mut want);
        serving.want = want.clone();
        if let Some(track) = serving.track {
            let (priority, ordered) = (want.priority, want.ordered);
            core.schedule.update_track(track, priority, ordered, &mut core.actions);
        }
        let request = RequestKey(key.0, key.1);
        Ok(Look::Event(Event::SubscribeUpdated { request, subscription: want }))
    }

    pub(super) fn end_serving(&mut self, core: &mut Core, serving: &Serving, error: &Error) {
        self.serving -= 1;
        if let Some(track) = serving.track {
            core.schedule.remove_track(track, error.stream_code(), &mut core.actions);
            self.request_by_track.remove(&track);
        }
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
        let request = RequestKey(key.0, key.1);
        Look::Event(Event::RequestEnded { request, result: Err(error) })
    }
}
