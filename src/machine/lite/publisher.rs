//! The peer's subscriptions to our tracks, and its track queries (moq-lite-06, 5.1.2 and 5.1.4).

use bytes::BytesMut;

use super::roles::Role;
use super::session::Lite;
use crate::coding::lite::{
    DatagramHead, GroupHeader, SubscribeResponse, SubscribeUpdate, UniStream, encode_track_info,
};
use crate::error::Error;
use crate::machine::engine::{
    Core, DatagramForm, Dialect, IncomingSubscription, Place, Progress, PublishDialect,
};
use crate::machine::event::{Event, FramePosition, RequestKey, Subgroup};
use crate::machine::layout::Head;
use crate::properties::Properties;
use crate::slab::Key;
use crate::subscription::TrackInfo;
use crate::time::Timestamp;

impl PublishDialect for Lite {
    /// Up to 04 SUBSCRIBE_OK comes first and a subscriber waits for it. From 05 on the first answer
    /// names the first group, which is not known yet: see [`Lite::start_subscribe`].
    fn write_subscribe_ok(
        &mut self,
        core: &mut Core,
        key: Key,
        _: &TrackInfo,
        _: Option<FramePosition>,
    ) {
        let Some(subscription) = core.incoming.get_mut(key) else { return };
        let priority = subscription.options.priority;
        if !self.features.subscribe_end {
            // The deployed peers echo the priority and leave the rest empty. A subscriber ignores it.
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

    /// Stream type and GROUP header (6.3.2, 7.19): each group of each subscription has a stream of
    /// its own.
    fn group_head(
        &self,
        subscription: &IncomingSubscription,
        sequence: u64,
        first_frame: u64,
        _: Option<Subgroup>,
    ) -> Option<Head> {
        if subscription.start.is_some_and(|start| sequence < start) {
            // The subscriber would drop a group below the start that it was promised.
            return None;
        }
        let mut head = BytesMut::with_capacity(32);
        UniStream::Group.encode(&mut head);
        let header = GroupHeader { subscribe: subscription.number, sequence, first_frame };
        header.encode(&mut head, self.version).ok()?;
        Some(Head::from_slice(&head))
    }

    /// Everything before the payload of a datagram (6.4). Its timestamp is absolute, unlike that of
    /// a frame on a stream.
    fn datagram_head(
        &self,
        subscription: &IncomingSubscription,
        (sequence, _): Place,
        _: DatagramForm,
        timestamp: Timestamp,
        _: Option<&Properties>,
        _: usize,
    ) -> Option<Head> {
        let subscribe = subscription.number;
        let head = DatagramHead { subscribe, sequence, timestamp }.encode(self.version).ok()?;
        Some(Head::from_slice(&head))
    }

    /// Writes SUBSCRIBE_END (7.14) and FIN. On 07 it counts the group streams, so that the
    /// subscriber knows what to wait for. The draft allows it as soon as the end is known. It is
    /// sent last, because deployed subscribers forget the subscription when they read it.
    fn write_subscribe_end(&mut self, core: &mut Core, key: Key, end: u64, streams: u64) {
        if self.features.subscribe_end {
            let end = SubscribeResponse::End { group: end, streams: Some(streams) };
            self.respond(core, key, &end);
        }
        core.await_confirmation(key);
        self.set_role(key, Role::Done);
    }

    fn has_datagrams(&self) -> bool {
        // Datagrams exist from 05 on (6.4).
        self.features.datagrams
    }
}

impl Lite {
    /// Writes an answer on the Subscribe stream.
    fn respond(&self, core: &mut Core, key: Key, response: &SubscribeResponse) {
        // Only group numbers of more than 62 bits do not fit, and no group can have one: its header would
        // not fit either.
        let _ = self.write(core, key, |out, version| response.encode(out, version));
    }

    /// Writes the first group (SUBSCRIBE_OK, 7.13; START up to 06). A subscriber drops what is
    /// below it, so that it is written once and never taken back.
    pub(super) fn start_subscribe(&mut self, core: &mut Core, key: Key, group: u64) {
        let Some(subscription) = core.incoming.get_mut(key) else { return };
        // Not before the application accepted the subscription, and only once.
        let is_open = core.schedule.has_track(key) && subscription.start.is_none();
        if self.features.subscribe_end && is_open {
            subscription.start = Some(group);
            self.respond(core, key, &SubscribeResponse::Start { group });
        }
    }

    /// SUBSCRIBE_UPDATE, or the end of the peer's interest: FIN and a reset both unsubscribe. FIN
    /// is answered by FIN, everything else by a reset (4.3).
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

    /// Reads SUBSCRIBE_UPDATE, the only message that may follow SUBSCRIBE (5.1.2). It has the options
    /// of SUBSCRIBE in full, so that nothing is merged.
    fn read_subscribe_update(&mut self, core: &mut Core, key: Key) -> Result<Progress, Error> {
        let Some(request) = core.requests.get(key) else { return Ok(Progress::Wait) };
        if let Some(code) = request.abandoned() {
            return Err(Error::from_stream_code(code));
        }
        let Some(body) = self.next_body(core, key, Error::Cancelled)? else {
            return Ok(Progress::Wait);
        };
        let mut want = SubscribeUpdate::decode_body(&body, self.version)?.want;
        self.apply_default_start(&mut want);
        core.update_incoming(key, &want);
        let request = RequestKey::of(key);
        Ok(Progress::Event(Event::SubscribeUpdated { request, subscription: want }))
    }

    // ---- TRACK -------------------------------------------------------------------------------

    /// Writes TRACK_INFO (7.12) and FIN.
    pub(super) fn accept_track(&mut self, core: &mut Core, key: Key, info: &TrackInfo) {
        if !matches!(self.roles.get(key), Some(Role::IncomingQuery)) {
            return;
        }
        match self.write(core, key, |out, version| encode_track_info(info, out, version)) {
            Ok(()) => self.finish(core, key),
            // A value that the version can't write has no answer.
            Err(_) => self.cancel(core, key, &Error::Internal),
        }
    }

    /// The peer keeps its half open until TRACK_INFO arrived: FIN before that cancels the query,
    /// and more bytes are malformed.
    pub(super) fn read_incoming_query(&mut self, core: &mut Core, key: Key) -> Progress {
        let Some(request) = core.requests.get(key) else { return Progress::Wait };
        let fin = request.recv.has_fin().then_some(Error::Cancelled);
        match request.ended().or(fin) {
            Some(error) => self.end_incoming(core, key, error),
            None => Progress::Wait,
        }
    }
}
