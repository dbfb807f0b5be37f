//! Our subscriptions to the peer's tracks (moq-lite-06, 5.1.2 and 5.1.4).
//!
//! A subscription is a Subscribe stream; from 05 on a Track stream beside it asks for TRACK_INFO.
//! Both requests are sent at once, which saves a round trip: groups that arrive before TRACK_INFO
//! wait, because their timestamps have no unit yet.

use alloc::boxed::Box;

use bytes::Bytes;

use super::roles::Role;
use super::session::Lite;
use crate::coding::DecodeError;
use crate::coding::lite::{
    BiStream, DatagramHead, Subscribe, SubscribeResponse, SubscribeUpdate, decode_track_info,
};
use crate::error::Error;
use crate::machine::engine::{
    Core, Dialect, OutgoingSubscription, Progress, SubscribeDialect, subscribing,
};
use crate::machine::event::Event;
use crate::machine::source::Token;
use crate::path::Path;
use crate::slab::Key;
use crate::subscription::{Subscription, TrackInfo};

impl SubscribeDialect for Lite {
    /// Sends SUBSCRIBE, and TRACK unless the same token already asked.
    fn subscribe(
        &mut self,
        core: &mut Core,
        token: Token,
        (broadcast, track): (Path, Box<str>),
        want: Subscription,
    ) -> Result<(), Error> {
        // A track query of the same token that is still open becomes that of the subscription.
        let query = match self.queries.remove(&token) {
            None if self.features.track => {
                // If it can't be announced, neither can what follows.
                self.query_track(core, broadcast.clone(), track.clone()).ok()
            }
            query => query,
        };
        let id = self.next_sub_id;
        let priority = want.priority;
        // We ask for whole groups: a frame start is only legal after a part of the group was
        // received (7.9), and a frame end only with a group end.
        let message = Subscribe { id, broadcast, track, want, frame_start: 0, frame_end: None };
        let opened =
            self.open(core, BiStream::Subscribe, |out, version| message.encode(out, version));
        let request = match opened {
            Ok(request) => request,
            Err(error) => {
                if let Some(query) = query {
                    core.requests.cancel(query, &Error::Cancelled, &mut core.actions);
                }
                return Err(error.into());
            }
        };
        // Subscribe ids are never used again in a session (7.9). A SUBSCRIBE that was not written
        // used none.
        self.next_sub_id += 1;
        let sub = OutgoingSubscription {
            number: Some(id),
            query,
            ..OutgoingSubscription::new(token, request, priority)
        };
        let sub = core.outgoing.insert(sub);
        self.set_role(request, Role::OutgoingSubscription(sub));
        if let Some(query) = query {
            self.set_role(query, Role::SubscriptionQuery(sub));
        }
        Ok(())
    }

    /// Sends SUBSCRIBE_UPDATE (5.1.2). Not up to 04: `moq-lite` 0.16 can't decode it and ends the
    /// subscription.
    fn update_subscribe(&mut self, core: &mut Core, sub: Key, want: Subscription) {
        let Some(sub) = core.outgoing.get(sub).filter(|_| self.features.subscribe_end) else {
            return;
        };
        let (request, message) =
            (sub.request, SubscribeUpdate { want, frame_start: 0, frame_end: None });
        // Durations are clamped when they are encoded, and larger numbers can't be set.
        let _ = self.write(core, request, |out, version| message.encode(out, version));
    }

    fn release_subscription(
        &mut self,
        core: &mut Core,
        sub: &OutgoingSubscription,
        result: Result<(), &Error>,
    ) {
        if let Some(query) = sub.query {
            // The answer of an open track query is of no use any more.
            self.cancel(core, query, result.err().unwrap_or(&Error::Cancelled));
        }
        // FIN unsubscribes gracefully, and confirms an end (4.3). After a failure the request is cancelled
        // already, and this does nothing.
        self.finish(core, sub.request);
    }
}

impl Lite {
    // ---- answers -----------------------------------------------------------------------------

    /// Reads an answer. One that breaks a rule fails this subscription and nothing else.
    pub(super) fn read_outgoing_subscription(
        &mut self,
        core: &mut Core,
        key: Key,
        sub: Key,
    ) -> Progress {
        match self.read_response(core, key, sub) {
            Ok(progress) => progress,
            Err(error) => {
                subscribing::fail(self, core, sub, error);
                Progress::Wait
            }
        }
    }

    /// Reads SUBSCRIBE_OK, SUBSCRIBE_END or SUBSCRIBE_DROP, or the end of the stream.
    fn read_response(
        &mut self,
        core: &mut Core,
        key: Key,
        sub_key: Key,
    ) -> Result<Progress, Error> {
        let Some(request) = core.requests.get(key) else { return Ok(Progress::Wait) };
        let Some(sub) = core.outgoing.get_mut(sub_key) else { return Ok(Progress::Wait) };
        // The last answer was read. Only the end of the stream may follow, and means nothing new.
        if sub.result.is_some() {
            return Ok(Progress::Wait);
        }
        // STOP_SENDING alone is no refusal: `moq-lite` 0.16 sends it after its FIN, and both may arrive
        // together.
        if let Some(code) = request.recv.reset() {
            return Err(Error::from_stream_code(code));
        }
        if request.recv.is_finished() {
            // From 05 on a clean end is announced by SUBSCRIBE_END before FIN (7.14).
            let result = if self.features.subscribe_end && sub.end.is_none() {
                Err(Error::ProtocolViolation("FIN without END"))
            } else {
                Ok(())
            };
            subscribing::on_last_answer(self, core, sub_key, result);
            return Ok(Progress::Wait);
        }
        let typed = self.features.typed_responses();
        let Some((kind, body)) = self.next_message(core, key, typed)? else {
            return Ok(Progress::Wait);
        };
        let Some(sub) = core.outgoing.get_mut(sub_key) else { return Ok(Progress::Wait) };
        match SubscribeResponse::decode_body(kind, &body, self.version)? {
            SubscribeResponse::Ok { .. } if sub.info.is_none() => {
                // Up to 04 there is no TRACK_INFO: the defaults apply, and groups can be read.
                let info = core.default_track_info();
                return Ok(core
                    .set_track_info(sub_key, info)
                    .map_or(Progress::More, Progress::Event));
            }
            // Some early peers send it twice.
            SubscribeResponse::Ok { .. } => {}
            SubscribeResponse::Start { group } if sub.start.is_none() => {
                sub.start = Some(group);
                let subscription = sub.token;
                return Ok(Progress::Event(Event::SubscribeStarted { subscription, group }));
            }
            // The promise of the first one can't be taken back.
            SubscribeResponse::Start { .. } => {}
            SubscribeResponse::End { group, streams } => {
                sub.end = Some(group);
                // How many group streams are to be waited for: the peer counts them on 07. Before, gaps
                // are not visible, so that the range is an upper bound; and on 05 the end may be the
                // last group or the one after it.
                let loose = u64::from(self.features.loose_end);
                let groups = |start: u64| group.saturating_sub(start) + loose;
                sub.expected = streams.or(Some(sub.start.map_or(0, groups)));
            }
            // No deployed peer sends it, and gaps need no announcement (6.1.2).
            SubscribeResponse::Drop { .. } => {}
        }
        Ok(Progress::More)
    }

    /// Reads TRACK_INFO for a subscription. If it fails, so does the subscription: its groups could
    /// not be read.
    pub(super) fn read_subscription_query(
        &mut self,
        core: &mut Core,
        key: Key,
        sub_key: Key,
    ) -> Progress {
        match self.read_info(core, key) {
            Ok(Some(info)) => {
                self.finish(core, key);
                core.set_track_info(sub_key, info).map_or(Progress::Wait, Progress::Event)
            }
            Ok(None) => Progress::Wait,
            Err(error) => {
                self.cancel(core, key, &error);
                let Some(sub) = core.outgoing.get_mut(sub_key) else { return Progress::Wait };
                sub.query = None;
                if sub.result.is_none() {
                    subscribing::fail(self, core, sub_key, error);
                }
                Progress::Wait
            }
        }
    }

    /// Reads TRACK_INFO (7.12). Exactly one arrives, then FIN; FIN alone is a malformed answer.
    pub(super) fn read_info(
        &mut self,
        core: &mut Core,
        key: Key,
    ) -> Result<Option<TrackInfo>, Error> {
        let at_end = Error::Malformed(DecodeError::Truncated);
        let body = self.next_body(core, key, at_end)?;
        Ok(body.map(|body| decode_track_info(&body, self.version)).transpose()?)
    }

    // ---- datagrams ---------------------------------------------------------------------------

    /// A datagram is a whole group of one frame (6.4). One for an unknown subscription, or that
    /// arrives before TRACK_INFO, is dropped silently, as it may be lost anywhere on its way.
    pub(super) fn on_datagram(&mut self, core: &mut Core, mut bytes: Bytes) -> Option<Event> {
        let (head, len) = DatagramHead::decode(&bytes, self.version).ok()?;
        let payload = bytes.split_off(len);
        let DatagramHead { subscribe, sequence, timestamp } = head;
        let timestamp = Some(timestamp);
        let key = core.outgoing.by_number(subscribe)?;
        let sub = core.outgoing.get_mut(key)?;
        // As for a group on a stream: nothing below the promised start, and nothing after the time is up.
        let is_wanted = !sub.late && sub.start.is_none_or(|start| start <= sequence);
        if sub.info.is_none() || !is_wanted || payload.len() as u64 > core.limits.frame_bytes {
            return None;
        }
        // On 07 SUBSCRIBE_END counts streams, and a datagram is none. Before, it bounds the groups, and a
        // datagram is one of them.
        sub.seen += u64::from(!self.features.stream_count);
        let subscription = sub.token;
        // If this was the last group, the end is reported after it: notices follow this event.
        subscribing::end_if_complete(self, core, key);
        let (subgroup, properties) = (None, None);
        Some(Event::Datagram { subscription, sequence, subgroup, timestamp, properties, payload })
    }
}
