//! The peer's subscriptions to our tracks, and its track queries (moq-transport-22, 3.1 and 9.6 to
//! 9.9).

use alloc::boxed::Box;
use core::time::Duration;

use bytes::BytesMut;

use super::ranges::range_of;
use super::roles::{Role, SubscriptionStart};
use super::session::{Ietf, Read, fault};
use crate::coding::ietf::{
    DatagramHead, ErrorForm, Filter, GroupOrder, INVALID_RANGE, Location, Message, MessageType,
    ObjectStatus, ParameterForm, Parameters, PropertyForm, RequestError, RequestOk, SubgroupHeader,
    Subscribe, SubscribeOk, TRACK_ENDED, TrackProperties, UPDATE_FAILED, UniStream,
};
use crate::error::{Error, LimitKind};
use crate::machine::engine::{
    Core, DatagramForm, Dialect, IncomingSubscription, Place, Progress, PublishDialect,
};
use crate::machine::event::{Event, FramePosition, RequestKey, Subgroup};
use crate::machine::layout::{Head, Layout, properties_of};
use crate::properties::Properties;
use crate::slab::Key;
use crate::subscription::{Subscription, TrackInfo};
use crate::time::Timestamp;

/// The options of a subscription with these parameters. Without a delivery timeout nothing is too old. The default
/// priority is 128 on the wire, where smaller is more urgent, and so 127 here.
pub(super) fn options_of(parameters: &Parameters) -> Subscription {
    want_of(parameters, Subscription::default().priority(127).max_age(Duration::MAX))
}

/// Applies parameters to the options of a subscription. Positions relative to the largest object are known when the
/// subscription is accepted. The end of a filter is widened to the end of its group.
fn want_of(parameters: &Parameters, mut want: Subscription) -> Subscription {
    if let Some(priority) = parameters.priority {
        want.priority = priority;
    }
    if let Some(order) = parameters.order {
        want.ordered = order == GroupOrder::Ascending;
    }
    if let Some(timeout) = parameters.delivery_timeout {
        // From 17 on 0 stands for no timeout (5.2).
        want.max_age = if timeout.is_zero() { Duration::MAX } else { timeout };
    }
    want.new_group = parameters.new_group.or(want.new_group);
    let Some(filter) = parameters.filter else { return want };
    let range = range_of(Some(filter));
    let is_relative = filter == Filter::Unfiltered || range.groups_back.is_some();
    want.start = (!is_relative).then_some(range.start.group);
    want.end = Some(range.end.group).filter(|end| *end < u64::MAX);
    want
}

impl PublishDialect for Ietf {
    /// Writes SUBSCRIBE_OK, unless the peer accepted our offer, and begins to fill the subscription. The track alias is the request id: it is
    /// unique, and there are peers that use it before they read this message. Without a filter a
    /// subscription begins with the latest group, from its first object.
    fn write_subscribe_ok(
        &mut self,
        core: &mut Core,
        key: Key,
        info: &TrackInfo,
        largest: Option<FramePosition>,
    ) {
        let start = match self.role(key) {
            Role::IncomingSubscription(start) => start.take(),
            _ => None,
        };
        let largest = largest.filter(|_| self.takes_largest());
        let Some(subscription) = core.incoming.get_mut(key) else { return };
        subscription.largest = largest;
        if !self.draft.writes_properties() && info.properties.is_some() {
            subscription.layout = Some(Layout::objects(self.draft, true));
        }
        if let Some(filter) = start.as_ref().and_then(|start| start.filter) {
            subscription.from = self.first_of(filter, largest);
        }
        // The alias that the groups of the subscription will carry.
        let (alias, paused) = (subscription.number, subscription.paused);
        let (id, properties) = (self.reply_id(key), self.properties(info));
        let largest = largest.map(Location::from);
        let dynamic_groups = info.dynamic_groups.then_some(true);
        let state = self.state(GroupOrder::Descending);
        let parameters = Parameters { largest, dynamic_groups, ..state }
            .for_message(MessageType::SubscribeOk, self.draft);
        if core.requests.is_incoming(key) {
            let ok = SubscribeOk { id, alias, parameters, properties };
            self.write(core, key, &Message::SubscribeOk(ok));
        }
        self.wake_joins(core, alias);
        if let Some(start) = start.filter(|_| !paused) {
            self.begin_fill(core, key, *start);
        }
    }

    /// SUBGROUP_HEADER (11.3.1). A whole group is one subgroup, number 0, that ends the group.
    fn group_head(
        &self,
        subscription: &IncomingSubscription,
        sequence: u64,
        first_frame: u64,
        subgroup: Option<Subgroup>,
    ) -> Option<Head> {
        let header = UniStream::Subgroup(SubgroupHeader {
            alias: subscription.number,
            group: sequence,
            subgroup: Some(subgroup.map_or(0, |it| it.number)),
            priority: subgroup.and_then(|it| it.priority).or(Some(subscription.publisher)),
            properties: self.draft.writes_properties() || subscription.layout.is_some(),
            end_of_group: subgroup.is_none_or(|it| it.ends_group),
            first_object: first_frame == 0 && subgroup.is_none_or(|it| it.is_from_start),
        });
        let mut head = BytesMut::with_capacity(32);
        header.encode(&mut head, self.draft).ok()?;
        Some(Head::from_slice(&head))
    }

    /// OBJECT_DATAGRAM before its payload (11.2).
    fn datagram_head(
        &self,
        subscription: &IncomingSubscription,
        (group, number): Place,
        form: DatagramForm,
        timestamp: Timestamp,
        properties: Option<&Properties>,
        size: usize,
    ) -> Option<Head> {
        let have_any = self.draft.writes_properties() || subscription.layout.is_some();
        let (timestamp, all) = properties_of(have_any, timestamp, properties, self.draft);
        let status = properties.map_or(0, |it| it.status);
        let head = DatagramHead {
            alias: subscription.number,
            group,
            object: number.saturating_sub(Subgroup::DATAGRAMS),
            priority: form.priority.or(Some(subscription.publisher)),
            // An object without payload can't say that it is the last one.
            end_of_group: form.ends_group && size > 0,
            timestamp,
            properties: all.as_deref(),
            status: ObjectStatus::of(status.into(), self.draft).ok()?,
        };
        head.encode(size, self.draft).ok()
    }

    /// Writes PUBLISH_DONE of a track that came to its end. It may be sent only when all streams of
    /// the subscription are closed (9.9).
    fn write_subscribe_end(&mut self, core: &mut Core, key: Key, _end: u64, streams: u64) {
        self.done(core, key, TRACK_ENDED, streams);
        if core.requests.is_within(key) {
            // On the control stream nothing confirms that the peer read everything, so that a close
            // waits for a while.
            core.unread_until = Some(core.now + core.limits.close_timeout);
            return self.finish(core, key);
        }
        self.forget_id(core, key);
        core.await_confirmation(key);
        self.set_role(key, Role::Done);
    }

    fn has_datagrams(&self) -> bool {
        // `moq-lite` 0.16 reads none.
        !self.is_early_moq_lite()
    }
}

impl Ietf {
    /// SUBSCRIBE of the peer. A request that can't be served is refused at once (9.6).
    pub(super) fn on_subscribe(
        &mut self,
        core: &mut Core,
        key: Key,
        message: Subscribe,
    ) -> Progress {
        let parameters = &message.parameters;
        let range = range_of(parameters.filter);
        if core.incoming.len() >= core.limits.subscriptions {
            return self.refuse_for(core, key, &Error::Limit(LimitKind::Subscriptions));
        }
        // A range that ends before it begins has no group.
        if range.end.group < range.start.group {
            return self.refuse(core, key, INVALID_RANGE);
        }
        let want = options_of(parameters);
        let subscription = IncomingSubscription::new(message.id, want.clone());
        let paused = parameters.forward == Some(false);
        core.incoming.insert(key, IncomingSubscription { paused, ..subscription });
        let Parameters { filter, fill, shown: tokens, rendezvous_timeout, .. } = message.parameters;
        let start = SubscriptionStart { filter, fill };
        self.set_role(key, Role::IncomingSubscription(Some(Box::new(start))));
        Progress::Event(Event::SubscribeRequested {
            request: RequestKey::of(key),
            broadcast: message.namespace,
            track: message.track,
            subscription: want,
            wait: rendezvous_timeout.filter(|time| !time.is_zero()),
            tokens,
        })
    }

    /// The track properties, where the draft has them. The order says how we send groups of a
    /// subscription without a preference.
    pub(super) fn properties(&self, info: &TrackInfo) -> TrackProperties {
        // Those of another publisher pass on as they are. On 16 `moq-lite` can't read any.
        let takes_any = self.draft.writes_properties()
            || self.draft.properties != PropertyForm::None && !self.is_early_moq_lite();
        if let Some(all) = info.properties.clone().filter(|_| takes_any) {
            return TrackProperties { all: Some(all), ..TrackProperties::default() };
        }
        let dynamic_groups = (info.dynamic_groups && takes_any).then_some(true);
        if !self.draft.writes_properties() {
            return TrackProperties { dynamic_groups, ..TrackProperties::default() };
        }
        TrackProperties {
            dynamic_groups,
            max_cache: (info.max_age != Duration::MAX).then_some(info.max_age),
            timescale: Some(info.timescale),
            priority: Some(info.priority),
            order: Some(GroupOrder::Descending),
            ..TrackProperties::default()
        }
    }

    /// Whether objects of the track may have properties: those of another publisher, and those of ours where a timestamp
    /// has a timescale.
    pub(super) fn sends_properties(&self, info: &TrackInfo) -> bool {
        self.draft.writes_properties() || info.properties.is_some()
    }

    /// The parameters of an answer about a track. On 14 it must name an order (*SUBSCRIBE_OK*, *PUBLISH_OK*).
    pub(super) fn state(&self, order: GroupOrder) -> Parameters {
        let has_order = self.draft.parameters == ParameterForm::Inline;
        Parameters { order: has_order.then_some(order), ..Parameters::default() }
    }

    /// The application refuses a subscription, or ends one that it accepted.
    pub(super) fn end_subscription(&mut self, core: &mut Core, key: Key, error: &Error) {
        let (status, code) = (self.draft.done_code(error), self.draft.request_code(error));
        self.end_with(core, key, error, status, code);
    }

    /// Ends a subscription: by PUBLISH_DONE with a status if it was accepted, or was an offer of ours, and otherwise by
    /// REQUEST_ERROR.
    fn end_with(&mut self, core: &mut Core, key: Key, error: &Error, status: u64, code: u64) {
        // A track in the schedule means that SUBSCRIBE_OK was sent.
        let streams = core.schedule.opened_streams(key);
        let streams = streams.or((!core.requests.is_incoming(key)).then_some(0));
        self.end_incoming(core, key, error);
        let Some(streams) = streams else { return drop(self.refuse(core, key, code)) };
        self.done(core, key, status, streams);
        self.finish(core, key);
    }

    /// Reads REQUEST_UPDATE, or the end of the peer's interest: a reset or STOP_SENDING. FIN alone
    /// only says that no update follows.
    pub(super) fn read_incoming_subscription(&mut self, core: &mut Core, key: Key) -> Read {
        if let Some(error) = core.requests.abandoned(key) {
            self.end_incoming(core, key, &error);
            self.finish(core, key);
            return Ok(Progress::request_ended(key, error));
        }
        let update = match self.next_message(core, key)? {
            None => return Ok(Progress::Wait),
            Some(Message::RequestUpdate(update)) => update,
            Some(Message::Unsubscribe(_)) => {
                // UNSUBSCRIBE on a request stream is the cancel of older drafts. Some peers still
                // send it, and close the session unless they get FIN.
                self.end_incoming(core, key, &Error::Cancelled);
                self.finish(core, key);
                return Ok(Progress::request_ended(key, Error::Cancelled));
            }
            Some(_) => return fault("not a message of a subscription"),
        };
        // A failed update ends the subscription (9.5.1).
        if let Some(code) = update.parameters.unusable {
            self.answer_update(core, key, update.id, Some(code));
            self.end_with(core, key, &Error::Unsupported, UPDATE_FAILED, code);
            return Ok(Progress::request_ended(key, Error::Unsupported));
        }
        let Some(subscription) = self.change(core, key, &update.parameters) else {
            return Ok(Progress::Wait);
        };
        self.answer_update(core, key, update.id, None);
        let request = RequestKey::of(key);
        Ok(Progress::Event(Event::SubscribeUpdated { request, subscription }))
    }

    /// Applies parameters of the peer to its subscription, and returns the options. One that goes on begins with the next
    /// group.
    pub(super) fn change(
        &mut self,
        core: &mut Core,
        key: Key,
        parameters: &Parameters,
    ) -> Option<Subscription> {
        let want = want_of(parameters, core.incoming.get(key)?.options.clone());
        core.update_incoming(key, &want);
        if let Role::IncomingSubscription(Some(start)) = self.role(key) {
            start.filter = parameters.filter.or(start.filter);
        }
        if let Some(forward) = parameters.forward {
            core.pause_incoming(key, !forward);
        }
        Some(want)
    }

    /// Answers an update (15 and later), with an error if there is a code. Each update gets exactly one answer (9.5). On
    /// the control stream it carries the id of the update, not of the request; on a request stream the request is
    /// answered first.
    pub(super) fn answer_update(&mut self, core: &mut Core, key: Key, id: u64, code: Option<u64>) {
        let has_streams = self.draft.has_request_streams();
        if self.draft.errors <= ErrorForm::PerRequest
            || has_streams && code.is_none() && core.requests.defer_answer(key)
        {
            return;
        }
        let id = (!has_streams).then_some(id);
        let message = match code {
            None => Message::RequestOk(RequestOk { id, ..RequestOk::default() }),
            Some(code) => {
                Message::RequestError(RequestError { id, code, ..RequestError::default() })
            }
        };
        self.write(core, key, &message);
    }

    // ---- TRACK_STATUS ------------------------------------------------------------------------

    /// TRACK_STATUS of the peer asks what a track is.
    pub(super) fn on_track_status(&mut self, key: Key, message: Subscribe) -> Progress {
        self.set_role(key, Role::IncomingQuery);
        Progress::Event(Event::TrackRequested {
            request: RequestKey::of(key),
            broadcast: message.namespace,
            track: message.track,
            tokens: message.parameters.shown,
        })
    }

    /// Writes REQUEST_OK with the track properties and the largest object, and FIN.
    pub(super) fn accept_status(
        &mut self,
        core: &mut Core,
        key: Key,
        info: &TrackInfo,
        largest: Option<FramePosition>,
    ) {
        let Some(Role::IncomingQuery) = self.live_role(core, key) else { return };
        let largest = largest.filter(|_| self.takes_largest()).map(Location::from);
        let parameters = Parameters { largest, ..self.state(GroupOrder::Descending) };
        let id = self.reply_id(key);
        // REQUEST_OK has no properties up to 17.
        let has_properties = self.draft.properties >= PropertyForm::Answers;
        let properties =
            if has_properties { self.properties(info) } else { TrackProperties::default() };
        self.write(core, key, &Message::RequestOk(RequestOk { id, parameters, properties }));
        self.finish(core, key);
    }

    /// A reset gives the query up. FIN means nothing: some peers send it at once. No message may
    /// follow, not even an update (9.5).
    pub(super) fn read_incoming_query(&mut self, core: &mut Core, key: Key) -> Read {
        let Some(error) = core.requests.abandoned(key) else {
            return match self.next_message(core, key)? {
                None => Ok(Progress::Wait),
                Some(_) => fault("a message after TRACK_STATUS"),
            };
        };
        self.cancel(core, key, &error);
        Ok(Progress::request_ended(key, error))
    }
}
