//! Our subscriptions to the peer's tracks (*Subscriptions*).

use alloc::boxed::Box;

use super::roles::Role;
use super::session::{DUPLICATE_TRACK_ALIAS, Ietf, violation};
use crate::coding::DecodeError;
use crate::coding::ietf::{
    Filter, GroupOrder, Location, Message, Parameters, PublishDone, Subscribe, TrackProperties,
};
use crate::error::Error;
use crate::machine::engine::{Core, Dialect, OutgoingSubscription, Progress, subscribing};
use crate::machine::source::Token;
use crate::path::Path;
use crate::slab::Key;
use crate::subscription::{Subscription, TrackInfo};
use crate::time::Timescale;

/// What the parameters of a SUBSCRIBE or REQUEST_UPDATE say. Without a filter a publisher begins with
/// the latest group, from its start, or with more; with that for the latest, behind the largest object,
/// which would take a FETCH to mend. Ages are left to this side: some peers know no timeouts.
/// `filters`: whether the peer understands places; where it begins is then left to it.
pub(super) fn parameters_of(want: &Subscription, filters: bool) -> Parameters {
    let start = want.start.filter(|_| filters);
    let start = start.map(|group| Location::new(group, 0));
    let filter = match (start, want.end) {
        (Some(start), Some(end_group)) => Some(Filter::Range { start, end_group }),
        (Some(start), None) => Some(Filter::From(start)),
        // Where it ends is seen to here.
        (None, _) => None,
    };
    let order = if want.ordered { GroupOrder::Ascending } else { GroupOrder::Descending };
    Parameters {
        priority: Some(want.priority),
        order: Some(order),
        filter,
        ..Parameters::default()
    }
}

impl Ietf {
    pub(super) fn subscribe(
        &mut self,
        core: &mut Core,
        token: Token,
        broadcast: Path,
        track: Box<str>,
        want: &Subscription,
    ) {
        if let Err(error) = core.admit_subscription(token) {
            return core.reject_subscription(token, error);
        }
        let name = (broadcast, track);
        let offer = self.offers.by_name.get(&name).copied();
        if let Some(offer) = offer.filter(|offer| !self.offers.is_open(*offer)) {
            return self.subscribe_to_offer(core, token, offer, want);
        }
        let (namespace, track) = name;
        let parameters = parameters_of(want, !self.is_early_moq_lite());
        let request = self.open(core, Role::Done, |id| {
            Message::Subscribe(Subscribe { id, namespace, track, parameters })
        });
        let request = match request {
            Ok(request) => request,
            Err(error) => return core.reject_subscription(token, error.into()),
        };
        let sub = core.outgoing.insert(OutgoingSubscription::new(token, request, want.priority));
        self.set_role(request, Role::OutgoingSubscription(sub));
    }

    /// Not for what the deployed peers can't change: they end the subscription, or never answer.
    pub(super) fn update_subscribe(&mut self, core: &mut Core, token: Token, want: &Subscription) {
        let Some(key) = core.outgoing.by_token(token) else { return };
        let Some(sub) = core.outgoing.get_mut(key) else { return };
        sub.priority = want.priority;
    }

    /// A subscription of ours is over.
    pub(super) fn end_outgoing(
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
            Role::OutgoingSubscription(_) if result.is_ok() => self.finish(core, key),
            Role::OutgoingSubscription(_) => self.cancel(core, key, &Error::Cancelled),
            Role::Offer => self.pause_offer(core, key),
            _ => {}
        }
    }

    /// Where the groups of a subscription are to be found, and what they are.
    pub(super) fn begin_subscription(
        &mut self,
        core: &mut Core,
        key: Key,
        alias: u64,
        properties: &TrackProperties,
    ) -> Progress {
        if !core.outgoing.set_number(key, alias) {
            core.violation_as(DUPLICATE_TRACK_ALIAS, "a track alias for two tracks");
            return Progress::Wait;
        }
        self.retired_aliases.reuse(alias);
        if let Some(sub) = core.outgoing.get_mut(key) {
            sub.timed = properties.timescale.is_some();
        }
        let defaults = TrackInfo::default();
        let info = TrackInfo {
            priority: properties.priority.unwrap_or(defaults.priority),
            max_age: properties.max_cache.unwrap_or(core.limits.max_age),
            timescale: properties.timescale.unwrap_or(Timescale::MILLIS),
        };
        core.set_track_info(key, info).map_or(Progress::More, Progress::Event)
    }

    /// The answers to SUBSCRIBE.
    pub(super) fn read_outgoing_subscription(
        &mut self,
        core: &mut Core,
        key: Key,
        sub_key: Key,
    ) -> Progress {
        let Some(request) = core.requests.get(key) else { return Progress::Wait };
        let Some(sub) = core.outgoing.get(sub_key) else { return Progress::Wait };
        if sub.result.is_some() {
            request.recv.discard();
            return Progress::Wait;
        }
        let accepted = sub.info.is_some();
        let end = match (request.recv.reset(), request.recv.is_finished()) {
            (Some(code), _) => Some(Error::from_stream_code(code)),
            (None, true) => Some(Error::ProtocolViolation("FIN without an answer")),
            (None, false) => None,
        };
        if let Some(error) = end {
            subscribing::fail(self, core, sub_key, error);
            return Progress::Wait;
        }
        match self.next_message(core, key) {
            Ok(None) => Progress::Wait,
            Ok(Some(Message::SubscribeOk(ok))) if !accepted => {
                if ok.properties.mandatory.is_some() {
                    subscribing::fail(self, core, sub_key, Error::Unsupported);
                    return Progress::Wait;
                }
                self.begin_subscription(core, sub_key, ok.alias, &ok.properties)
            }
            Ok(Some(Message::RequestError(error))) if !accepted => {
                let error = self.draft.request_error(error.code);
                self.finish(core, key);
                subscribing::fail(self, core, sub_key, error);
                Progress::Wait
            }
            Ok(Some(Message::PublishDone(done))) if accepted => {
                self.on_publish_done(core, sub_key, &done);
                Progress::Wait
            }
            // An answer to an update, which changes nothing here.
            Ok(Some(Message::RequestOk(_) | Message::RequestError(_))) => Progress::More,
            Ok(Some(_)) => {
                core.violation("not an answer to SUBSCRIBE");
                Progress::Wait
            }
            Err(DecodeError::InvalidName) => {
                subscribing::fail(self, core, sub_key, Error::Malformed(DecodeError::InvalidName));
                Progress::Wait
            }
            Err(error) => violation(core, &error),
        }
    }

    pub(super) fn on_publish_done(&mut self, core: &mut Core, sub_key: Key, done: &PublishDone) {
        // `moq-lite` 0.16 says 200 where it means TRACK_ENDED.
        let error = self.draft.done_error(done.status).filter(|_| done.status != 200);
        let result = error.map_or(Ok(()), Err);
        if let Some(sub) = core.outgoing.get_mut(sub_key) {
            // 0 is what peers write that do not count.
            sub.expected = done.streams.filter(|streams| *streams > 0);
        }
        subscribing::on_last_answer(self, core, sub_key, result);
    }
}
