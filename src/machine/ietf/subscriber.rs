//! Our subscriptions to the peer's tracks (moq-transport-22, 3.1 and 9.6 to 9.9).

use alloc::boxed::Box;
use core::time::Duration;

use bytes::Bytes;

use super::roles::Role;
use super::session::{DUPLICATE_TRACK_ALIAS, Fault, Ietf, Read, fault, fault_as};
use crate::coding::DecodeError;
use crate::coding::ietf::{
    DONE_BY_MOQ_LITE, DatagramHead, Filter, GroupOrder, Location, Message, MessageType,
    ObjectStatus, ParameterForm, Parameters, PublishDone, Subscribe, TrackProperties,
};
use crate::error::Error;
use crate::machine::engine::{
    Core, Dialect, GroupDialect, OutgoingSubscription, Progress, SubscribeDialect, subscribing,
};
use crate::machine::event::{Event, FramePosition, Subgroup};
use crate::machine::layout::FrameStart;
use crate::machine::source::Token;
use crate::path::Path;
use crate::slab::Key;
use crate::subscription::{Subscription, TrackInfo};
use crate::time::Timescale;

/// Ages from this one on need no timeout.
const MAX_TIMEOUT: Duration = Duration::from_secs(1 << 32);

/// The parameters of SUBSCRIBE or REQUEST_UPDATE for these options. `filters`: the peer understands
/// locations and timeouts.
///
/// Without a filter the deployed publishers begin with the latest group, from its first object. If one begins
/// inside of that group, a FETCH completes it. The maximum age is the delivery timeout, as far as that can say it: no
/// timeout is as short as only the latest group.
pub(super) fn parameters_of(want: &Subscription, filters: bool) -> Parameters {
    let start = want.start.filter(|_| filters);
    let start = start.map(|group| Location::new(group, 0));
    let filter = match (start, want.end) {
        (Some(start), Some(end_group)) => Some(Filter::Range { start, end_group }),
        (Some(start), None) => Some(Filter::From(start)),
        // An end without a start can't be said. Groups past the end are left out at the reader.
        (None, _) => None,
    };
    let order = if want.ordered { GroupOrder::Ascending } else { GroupOrder::Descending };
    let timeout = Some(want.max_age).filter(|age| age.as_millis() > 0 && *age < MAX_TIMEOUT);
    Parameters {
        delivery_timeout: timeout.filter(|_| filters),
        priority: Some(want.priority),
        order: Some(order),
        filter,
        new_group: want.new_group.filter(|_| filters),
        ..Parameters::default()
    }
}

impl SubscribeDialect for Ietf {
    /// Sends SUBSCRIBE; or resumes the offer of the peer for this track, if the application
    /// accepted one.
    fn subscribe(
        &mut self,
        core: &mut Core,
        token: Token,
        names: (Path, Box<str>),
        want: Subscription,
    ) -> Result<(), Error> {
        // An accepted offer serves the subscription: a SUBSCRIBE beside it would bring every group twice.
        let offer = self.offers.by_name.get(&names).copied();
        if let Some(offer) = offer.filter(|offer| !self.offers.is_open(*offer)) {
            self.subscribe_to_offer(core, token, offer, &want);
            return Ok(());
        }
        let (namespace, track) = names.clone();
        let mut parameters = parameters_of(&want, !self.is_early_moq_lite());
        if self.draft.parameters == ParameterForm::Inline {
            // SUBSCRIBE of 14 always has a filter. With this one the deployed publishers begin with the latest
            // group.
            parameters.filter.get_or_insert(Filter::NextGroup);
        }
        let parameters = parameters.for_message(MessageType::Subscribe, self.draft);
        let request = self.open(core, Role::Done, |id| {
            Message::Subscribe(Subscribe { id, namespace, track, parameters })
        })?;
        let sub = OutgoingSubscription::new(token, request, want.priority);
        let names = Some(Box::new(names));
        let sub = core.outgoing.insert(OutgoingSubscription { names, ..sub });
        self.set_role(request, Role::OutgoingSubscription(sub));
        Ok(())
    }

    /// REQUEST_UPDATE asks only for a new group, of a publisher that allows it (9.20.19): one deployed publisher ends the
    /// subscription on it, another one never answers.
    fn update_subscribe(&mut self, core: &mut Core, sub: Key, want: Subscription) {
        let Some(sub) = core.outgoing.get(sub) else { return };
        let is_allowed = sub.info.as_ref().is_some_and(|it| it.dynamic_groups);
        let (request, new_group) = (sub.request, want.new_group.filter(|_| is_allowed));
        if new_group.is_some() {
            self.update(core, request, Parameters { new_group, ..Parameters::default() });
        }
    }

    /// A subscription of ours is over. Its alias is retired, so that groups that still arrive are
    /// not waited for. An offer stays, and may be subscribed again.
    fn release_subscription(
        &mut self,
        core: &mut Core,
        sub: &OutgoingSubscription,
        result: Result<(), &Error>,
    ) {
        let key = sub.request;
        if let Some(alias) = sub.number {
            self.retired_aliases.push(alias);
        }
        match self.role(key) {
            // A clean end needs no cancel: PUBLISH_DONE was the last message.
            Role::OutgoingSubscription(_) if result.is_ok() => self.finish(core, key),
            Role::OutgoingSubscription(_) => self.cancel(core, key, &Error::Cancelled),
            Role::Offer => self.pause_offer(core, key),
            _ => {}
        }
    }
}

impl Ietf {
    /// The publisher named the alias by which groups refer to the subscription, and the track
    /// properties, and perhaps its largest object. Groups that arrived before are read now.
    pub(super) fn begin_subscription(
        &mut self,
        core: &mut Core,
        key: Key,
        alias: u64,
        properties: &TrackProperties,
        largest: Option<Location>,
    ) -> Result<(), Fault> {
        if !core.outgoing.set_number(key, alias) {
            // One alias for two tracks closes the session (3.1.3).
            return fault_as(DUPLICATE_TRACK_ALIAS, "a track alias for two tracks");
        }
        self.retired_aliases.reuse(alias);
        if let Some(sub) = core.outgoing.get_mut(key) {
            // Without a timescale the timestamps of objects mean nothing.
            sub.timed = properties.timescale.is_some();
            let (subscription, largest) = (sub.token, largest.map(FramePosition::from));
            core.notices
                .extend(largest.map(|it| Event::LargestFrame { subscription, largest: it }));
        }
        let info = core.set_track_info(key, self.info_of(core, properties));
        core.notices.extend(info);
        Ok(())
    }

    /// The information in the properties of a track of the peer.
    pub(super) fn info_of(&self, core: &Core, properties: &TrackProperties) -> TrackInfo {
        TrackInfo {
            priority: properties.priority.unwrap_or(TrackInfo::default().priority),
            // Without MAX_CACHE_DURATION groups are kept as long as our limit says.
            max_age: properties.max_cache.unwrap_or(core.limits.max_age),
            timescale: properties.timescale.unwrap_or(Timescale::MILLIS),
            dynamic_groups: properties.dynamic_groups == Some(true),
            properties: Some(properties.to_pass_on(self.draft)),
        }
    }

    /// Reads the answers to SUBSCRIBE. An end before the answer, or before PUBLISH_DONE, fails the
    /// subscription (6.4.2.2).
    pub(super) fn read_outgoing_subscription(
        &mut self,
        core: &mut Core,
        key: Key,
        sub_key: Key,
    ) -> Read {
        let Some(request) = core.requests.get(key) else { return Ok(Progress::Wait) };
        let Some(sub) = core.outgoing.get(sub_key) else { return Ok(Progress::Wait) };
        if sub.result.is_some() {
            request.recv.discard();
            return Ok(Progress::Wait);
        }
        let accepted = sub.info.is_some();
        if let Some(error) = request.cut_off() {
            subscribing::fail(self, core, sub_key, error);
            return Ok(Progress::Wait);
        }
        match self.next_message(core, key) {
            Ok(None) => Ok(Progress::Wait),
            Ok(Some(Message::SubscribeOk(ok))) if !accepted => {
                // A mandatory property that is not understood makes the track unreadable (3.7).
                if ok.properties.unusable.is_some() {
                    subscribing::fail(self, core, sub_key, Error::UnknownProperty);
                    return Ok(Progress::Wait);
                }
                // Up to 15 these properties are parameters.
                let properties = TrackProperties {
                    max_cache: ok.properties.max_cache.or(ok.parameters.max_cache),
                    priority: ok.properties.priority.or(ok.parameters.publisher_priority),
                    dynamic_groups: ok.properties.dynamic_groups.or(ok.parameters.dynamic_groups),
                    ..ok.properties
                };
                let largest = ok.parameters.largest;
                self.begin_subscription(core, sub_key, ok.alias, &properties, largest)?;
                Ok(core.notices.pop_front().map_or(Progress::More, Progress::Event))
            }
            Ok(Some(Message::RequestError(error))) if !accepted => {
                let error = self.draft.request_error(error.code);
                self.finish(core, key);
                subscribing::fail(self, core, sub_key, error);
                Ok(Progress::Wait)
            }
            Ok(Some(Message::PublishDone(done))) if accepted => {
                self.on_publish_done(core, sub_key, &done);
                Ok(Progress::Wait)
            }
            // A change of state (20 and later) changes nothing here.
            Ok(Some(Message::PublishStateNotify(_))) if accepted => Ok(Progress::More),
            Ok(Some(_)) => fault("not an answer to SUBSCRIBE"),
            Err(DecodeError::InvalidName) => {
                subscribing::fail(self, core, sub_key, Error::Malformed(DecodeError::InvalidName));
                Ok(Progress::Wait)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// OBJECT_DATAGRAM (11.2). The first object of a group counts as the whole group; others are dropped, unless the
    /// application wants all of them. One whose alias is not known yet waits for it, bounded in number and time
    /// (3.1.3.1).
    pub(super) fn on_datagram(&mut self, core: &mut Core, mut bytes: Bytes) -> Progress {
        let datagram = bytes.clone();
        let (head, len) = match DatagramHead::decode(&datagram, self.draft) {
            Ok(Some(head)) => head,
            Ok(None) => return Progress::Wait,
            Err(_) => {
                core.violation("malformed datagram");
                return Progress::Wait;
            }
        };
        let owner = core.outgoing.by_number(head.alias);
        let may_come = core.outgoing.any_unnumbered() && self.may_become_known(head.alias);
        if owner.is_none() && may_come {
            let until = core.now + core.limits.unbound_timeout;
            core.datagrams.hold(core.now, until, head.alias, &bytes);
            return Progress::More;
        }
        let Some(sub) = owner.and_then(|owner| core.outgoing.get_mut(owner)) else {
            return Progress::Wait;
        };
        let payload = bytes.split_off(len);
        let is_group = head.object == 0 && head.status == ObjectStatus::Normal;
        let subgroup = Subgroup::of_datagram(head.object, head.priority, head.end_of_group)
            .filter(|_| core.takes_subgroups);
        let is_wanted = (is_group || subgroup.is_some()) && !sub.late && sub.info.is_some();
        if !is_wanted || payload.len() as u64 > core.limits.frame_bytes {
            return Progress::Wait;
        }
        if is_group {
            sub.datagram_group = Some(head.group);
        }
        let (subscription, sequence) = (sub.token, head.group);
        let size = payload.len() as u64;
        let FrameStart { timestamp, properties, .. } =
            FrameStart::of_object(head.timestamp, head.properties, size, sub.timed, self.draft);
        let properties = properties.map(|it| it.with_gap_and_status(0, head.status as u8));
        Progress::Event(Event::Datagram {
            subscription,
            sequence,
            subgroup,
            timestamp,
            properties,
            payload,
        })
    }

    /// PUBLISH_DONE: how the subscription ended, and how many streams it had. Their groups may
    /// still arrive.
    pub(super) fn on_publish_done(&mut self, core: &mut Core, sub_key: Key, done: &PublishDone) {
        let error = self.draft.done_error(done.status);
        let error = error.filter(|_| done.status != DONE_BY_MOQ_LITE);
        let result = error.map_or(Ok(()), Err);
        if let Some(sub) = core.outgoing.get_mut(sub_key) {
            // Peers that do not count write 0, so that 0 is no reason to stop waiting.
            sub.expected = done.streams.filter(|streams| *streams > 0);
        }
        subscribing::on_last_answer(self, core, sub_key, result);
    }
}
