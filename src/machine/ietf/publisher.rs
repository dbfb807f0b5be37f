//! What the peer asks of our tracks (*Subscriptions*).

use core::time::Duration;

use bytes::BytesMut;

use super::roles::Role;
use super::session::{Ietf, violation};
use crate::coding::ietf::{
    Filter, GroupOrder, INVALID_RANGE, Message, NOT_SUPPORTED, Parameters, RequestError, RequestOk,
    SubgroupHeader, Subscribe, SubscribeOk, TRACK_ENDED, TrackProperties, UniStream,
};
use crate::error::Error;
use crate::machine::engine::{Core, Dialect, IncomingSubscription, Progress};
use crate::machine::event::{Event, RequestKey};
use crate::machine::layout::Head;
use crate::slab::Key;
use crate::subscription::{Subscription, TrackInfo};

/// What the parameters change of what is wanted. Groups are sent whole, so where a filter begins inside
/// of one its start is sent as well, and the latest group is, where only what follows was asked for.
fn want_of(parameters: &Parameters, mut want: Subscription) -> Subscription {
    if let Some(priority) = parameters.priority {
        want.priority = priority;
    }
    if let Some(order) = parameters.order {
        want.ordered = order == GroupOrder::Ascending;
    }
    if let Some(timeout) = parameters.delivery_timeout {
        want.max_age = timeout;
    }
    match parameters.filter {
        None | Some(Filter::NextObject | Filter::NextGroup) => {}
        Some(Filter::From(start)) => want.start = Some(start.group),
        Some(Filter::Range { start, end_group }) => {
            want.start = Some(start.group);
            want.end = Some(end_group);
        }
    }
    want
}

impl Ietf {
    /// SUBSCRIBE of the peer.
    pub(super) fn on_subscribe(
        &mut self,
        core: &mut Core,
        key: Key,
        message: Subscribe,
    ) -> Progress {
        let parameters = &message.parameters;
        let range_is_empty = matches!(
            parameters.filter,
            Some(Filter::Range { start, end_group }) if end_group < start.group
        );
        let refusal = if core.incoming.len() >= core.limits.subscriptions {
            Some(self.draft.request_code(&Error::Limit("subscriptions")))
        } else if range_is_empty {
            Some(INVALID_RANGE)
        } else if parameters.forward == Some(false) {
            Some(NOT_SUPPORTED)
        } else {
            None
        };
        if let Some(code) = refusal {
            self.refuse(core, key, code);
            return Progress::Wait;
        }
        // Without a timeout nothing is too old, and 128 in the middle of the wire is 127 here.
        let base = Subscription::default().priority(127).max_age(Duration::MAX);
        let want = want_of(parameters, base);
        core.incoming.insert(key, message.id, want.clone());
        self.set_role(key, Role::IncomingSubscription);
        Progress::Event(Event::SubscribeRequested {
            request: RequestKey::of(key),
            broadcast: message.namespace,
            track: message.track,
            subscription: want,
        })
    }

    /// What is said of a track, where it can be said.
    fn properties(&self, info: &TrackInfo) -> TrackProperties {
        if !self.draft.write_properties {
            return TrackProperties::default();
        }
        TrackProperties {
            max_cache: (info.max_age != Duration::MAX).then_some(info.max_age),
            timescale: Some(info.timescale),
            priority: Some(info.priority),
            order: Some(GroupOrder::Descending),
            ..TrackProperties::default()
        }
    }

    /// SUBSCRIBE_OK. The track's alias is the id of the request, because there are peers that use it
    /// before they read this. LARGEST_OBJECT is left out: it would say that what comes first begins
    /// behind it, and the latest group comes from its start. (`moq-lite` 0.16 fails on it as well.)
    pub(super) fn accepted(&mut self, core: &mut Core, key: Key, info: &TrackInfo) {
        let Some(subscription) = core.incoming.get_mut(key) else { return };
        let alias = subscription.number;
        let (id, properties) = (self.reply_id(key), self.properties(info));
        let ok = SubscribeOk { id, alias, parameters: Parameters::default(), properties };
        self.write(core, key, &Message::SubscribeOk(ok));
    }

    /// SUBGROUP_HEADER of a group, which is its subgroup 0.
    pub(super) fn subgroup_head(
        &self,
        subscription: &IncomingSubscription,
        sequence: u64,
        first_frame: u64,
    ) -> Option<Head> {
        let header = UniStream::Subgroup(SubgroupHeader {
            alias: subscription.number,
            group: sequence,
            subgroup: Some(0),
            priority: Some(subscription.publisher),
            properties: self.draft.write_properties,
            end_of_group: true,
            first_object: first_frame == 0,
        });
        let mut head = BytesMut::with_capacity(32);
        header.encode(&mut head, self.draft).ok()?;
        Some(Head::from_slice(&head))
    }

    /// PUBLISH_DONE of a track that came to its end.
    pub(super) fn write_done(&mut self, core: &mut Core, key: Key, streams: u64) {
        self.done(core, key, TRACK_ENDED, streams);
        if core.requests.is_within(key) {
            core.incoming.unread_until = Some(core.now + core.limits.close_time);
            return self.finish(core, key);
        }
        self.ids.forget(key);
        core.await_confirmation(key);
        self.set_role(key, Role::EndedSubscription);
    }

    /// A subscription that ended cleanly goes when the peer ends its half too.
    pub(super) fn read_ended_subscription(&mut self, core: &mut Core, key: Key) -> Progress {
        if core.is_confirmed(key) {
            self.set_role(key, Role::Done);
            return self.read_done(core, key);
        }
        Progress::Wait
    }

    /// The application can't serve a subscription, or not any longer.
    pub(super) fn end_subscription(&mut self, core: &mut Core, key: Key, error: &Error) {
        let track = core.incoming.get_mut(key).and_then(|subscription| subscription.track);
        match track {
            Some(track) => {
                let streams = core.schedule.opened_streams(track);
                core.end_incoming(key, error);
                let status = self.draft.done_code(error);
                self.done(core, key, status, streams);
                self.finish(core, key);
            }
            None => {
                core.end_incoming(key, error);
                let code = self.draft.request_code(error);
                self.refuse(core, key, code);
            }
        }
    }

    /// REQUEST_UPDATE, or the end of the peer's interest. A FIN alone is none: no more updates.
    pub(super) fn read_incoming_subscription(&mut self, core: &mut Core, key: Key) -> Progress {
        let Some(request) = core.requests.get(key) else { return Progress::Wait };
        if let Some(code) = request.abandoned() {
            let error = Error::from_stream_code(code);
            core.end_incoming(key, &error);
            self.finish(core, key);
            return Progress::request_ended(key, error);
        }
        let update = match self.next_message(core, key) {
            Ok(None) => return Progress::Wait,
            Ok(Some(Message::RequestUpdate(update))) => update,
            Ok(Some(Message::Unsubscribe(_))) => {
                // A cancel of older drafts, which some peers still send; they wait for FIN.
                core.end_incoming(key, &Error::Cancelled);
                self.finish(core, key);
                return Progress::request_ended(key, Error::Cancelled);
            }
            Ok(Some(_)) => {
                core.violation("not a message of a subscription");
                return Progress::Wait;
            }
            Err(error) => return violation(core, &error),
        };
        if update.parameters.forward == Some(false) {
            self.refuse_update(core, key, update.id);
            return Progress::More;
        }
        let Some(subscription) = core.incoming.get_mut(key) else { return Progress::Wait };
        let want = want_of(&update.parameters, subscription.options.clone());
        core.update_incoming(key, &want);
        let id = self.update_id(update.id);
        self.write(core, key, &Message::RequestOk(RequestOk { id, ..RequestOk::default() }));
        Progress::Event(Event::SubscribeUpdated {
            request: RequestKey::of(key),
            subscription: want,
        })
    }

    /// What the answer to an update is marked with.
    fn update_id(&self, id: u64) -> Option<u64> {
        (!self.draft.request_streams).then_some(id)
    }

    /// Nothing changes: what was agreed goes on.
    pub(super) fn refuse_update(&mut self, core: &mut Core, key: Key, id: u64) {
        let id = self.update_id(id);
        let error = RequestError { id, code: NOT_SUPPORTED, ..RequestError::default() };
        self.write(core, key, &Message::RequestError(error));
    }

    // ---- TRACK_STATUS ------------------------------------------------------------------------

    pub(super) fn on_track_status(&mut self, key: Key, message: Subscribe) -> Progress {
        self.set_role(key, Role::IncomingQuery);
        Progress::Event(Event::TrackRequested {
            request: RequestKey::of(key),
            broadcast: message.namespace,
            track: message.track,
        })
    }

    pub(super) fn accept_status(&mut self, core: &mut Core, key: Key, info: &TrackInfo) {
        if core.requests.get(key).is_none() || !matches!(self.role(key), Role::IncomingQuery) {
            return;
        }
        let (id, parameters) = (self.reply_id(key), Parameters::default());
        let properties = self.properties(info);
        self.write(core, key, &Message::RequestOk(RequestOk { id, parameters, properties }));
        self.finish(core, key);
    }

    /// A FIN says nothing here; a reset gives the question up.
    pub(super) fn read_incoming_query(&mut self, core: &mut Core, key: Key) -> Progress {
        let Some(request) = core.requests.get(key) else { return Progress::Wait };
        let Some(code) = request.abandoned() else {
            return if request.recv.len() > 0 {
                self.read_update(core, key)
            } else {
                Progress::Wait
            };
        };
        let error = Error::from_stream_code(code);
        self.cancel(core, key, &error);
        Progress::request_ended(key, error)
    }
}
