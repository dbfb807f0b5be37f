//! What we ask of the peer's tracks, and what it offers (*Subscriptions*).

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};

use super::super::Core;
use super::super::app::{Event, RequestKey};
use super::super::dialect::{Dialect, Look};
use super::super::io::Token;
use super::super::subs::Sub;
use super::{ByKey, DUPLICATE_TRACK_ALIAS, Ietf, Role, violation};
use crate::census::census;
use crate::coding::DecodeError;
use crate::coding::ietf::{
    Filter, GroupOrder, Location, Message, Parameters, Publish, PublishDone, RequestOk,
    RequestUpdate, Subscribe, TrackProperties, UNINTERESTED,
};
use crate::error::Error;
use crate::path::Path;
use crate::slab::Key;
use crate::subscription::{Subscription, TrackInfo};
use crate::time::Timescale;

/// Aliases of subscriptions that are over: what still comes for them is not waited for.
#[derive(Debug, Default)]
pub(super) struct Retired(VecDeque<u64>);

impl Retired {
    const MAX: usize = 64;

    pub(super) fn contains(&self, alias: u64) -> bool {
        self.0.contains(&alias)
    }

    fn push(&mut self, alias: u64) {
        if self.0.len() == Self::MAX {
            self.0.pop_front();
        }
        self.0.push_back(alias);
    }

    fn reuse(&mut self, alias: u64) {
        self.0.retain(|retired| *retired != alias);
    }
}

/// Tracks that the peer offers.
#[derive(Debug, Default)]
pub(super) struct Offers {
    by_key: ByKey<Offer>,
    by_name: BTreeMap<(Path, Box<str>), Key>,
    aliases: BTreeMap<u64, Key>,
}

#[derive(Debug)]
pub(super) struct Offer {
    path: Path,
    track: Box<str>,
    alias: u64,
    properties: TrackProperties,
    accepted: bool,
    /// Its broadcast was announced by it, or known before.
    heard: bool,
    sub: Option<Key>,
}

impl Offers {
    /// Whether the application has not said yet whether it wants it.
    pub(super) fn is_open(&self, key: Key) -> bool {
        self.by_key.get(&key).is_some_and(|offer| !offer.accepted)
    }

    pub(super) fn has_alias(&self, alias: u64) -> bool {
        self.aliases.contains_key(&alias)
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.by_key.len() + self.by_name.len() + self.aliases.len()
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Offer> {
        let offer = self.by_key.remove(&key)?;
        self.aliases.remove(&offer.alias);
        let name = (offer.path.clone(), offer.track.clone());
        if self.by_name.get(&name) == Some(&key) {
            self.by_name.remove(&name);
        }
        Some(offer)
    }
}

/// What the parameters of a SUBSCRIBE or REQUEST_UPDATE say. Without a filter a publisher begins with
/// the latest group, from its start, or with more; with that for the latest, behind the largest object,
/// which would take a FETCH to mend. Ages are left to this side: some peers know no timeouts.
/// `filters`: whether the peer understands places; where it begins is then left to it.
fn parameters_of(want: &Subscription, filters: bool) -> Parameters {
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
        if let Err(error) = core.admit(token) {
            return core.refuse_sub(token, error);
        }
        let name = (broadcast, track);
        let offer = self.offers.by_name.get(&name).copied();
        if let Some(offer) = offer.filter(|offer| !self.offers.is_open(*offer)) {
            return self.take_offer(core, token, offer, want);
        }
        let (namespace, track) = name;
        let parameters = parameters_of(want, !self.is_early_moq_lite());
        let request = self.open(core, Role::Done, |id| {
            Message::Subscribe(Subscribe { id, namespace, track, parameters })
        });
        let request = match request {
            Ok(request) => request,
            Err(error) => return core.refuse_sub(token, error.into()),
        };
        let sub = core.subs.insert(Sub::new(token, request, want.priority));
        self.set_role(request, Role::Asking(sub));
    }

    /// Not for what the deployed peers can't change: they end the subscription, or never answer.
    pub(super) fn update_subscribe(&mut self, core: &mut Core, token: Token, want: &Subscription) {
        let Some(key) = core.subs.by_token(token) else { return };
        let Some(sub) = core.subs.get_mut(key) else { return };
        sub.priority = want.priority;
    }

    /// A subscription of ours is over.
    pub(super) fn left(&mut self, core: &mut Core, sub: &Sub, result: Result<(), &Error>) {
        let key = sub.request;
        if let Some(alias) = sub.number {
            self.retired.push(alias);
        }
        match self.role(key) {
            Role::Asking(_) if result.is_ok() => self.end(core, key),
            Role::Asking(_) => self.cancel(core, key, &Error::Cancelled),
            Role::Offered => self.leave_offer(core, key),
            _ => {}
        }
    }

    /// Where the groups of a subscription are to be found, and what they are.
    fn begin_sub(
        &mut self,
        core: &mut Core,
        key: Key,
        alias: u64,
        properties: &TrackProperties,
    ) -> Look {
        if !core.subs.set_number(key, alias) {
            core.violation_as(DUPLICATE_TRACK_ALIAS, "a track alias for two tracks");
            return Look::Wait;
        }
        self.retired.reuse(alias);
        if let Some(sub) = core.subs.get_mut(key) {
            sub.timed = properties.timescale.is_some();
        }
        let defaults = TrackInfo::default();
        let info = TrackInfo {
            priority: properties.priority.unwrap_or(defaults.priority),
            max_age: properties.max_cache.unwrap_or(core.limits.max_age),
            timescale: properties.timescale.unwrap_or(Timescale::MILLIS),
        };
        core.informed(key, info).map_or(Look::More, Look::Event)
    }

    /// The answers to SUBSCRIBE.
    pub(super) fn look_at_asking(&mut self, core: &mut Core, key: Key, sub_key: Key) -> Look {
        let Some(request) = core.requests.get(key) else { return Look::Wait };
        let Some(sub) = core.subs.get(sub_key) else { return Look::Wait };
        if sub.result.is_some() {
            request.recv.discard();
            return Look::Wait;
        }
        let accepted = sub.info.is_some();
        let end = match (request.recv.reset(), request.recv.is_finished()) {
            (Some(code), _) => Some(Error::from_stream_code(code)),
            (None, true) => Some(Error::ProtocolViolation("FIN without an answer")),
            (None, false) => None,
        };
        if let Some(error) = end {
            self.fail_sub(core, sub_key, error);
            return Look::Wait;
        }
        match self.hear(core, key) {
            Ok(None) => Look::Wait,
            Ok(Some(Message::SubscribeOk(ok))) if !accepted => {
                if ok.properties.mandatory.is_some() {
                    self.fail_sub(core, sub_key, Error::Unsupported);
                    return Look::Wait;
                }
                self.begin_sub(core, sub_key, ok.alias, &ok.properties)
            }
            Ok(Some(Message::RequestError(error))) if !accepted => {
                let error = self.draft.request_error(error.code);
                self.end(core, key);
                self.fail_sub(core, sub_key, error);
                Look::Wait
            }
            Ok(Some(Message::PublishDone(done))) if accepted => {
                self.answered_by(core, sub_key, &done);
                Look::Wait
            }
            // An answer to an update, which changes nothing here.
            Ok(Some(Message::RequestOk(_) | Message::RequestError(_))) => Look::More,
            Ok(Some(_)) => {
                core.violation("not an answer to SUBSCRIBE");
                Look::Wait
            }
            Err(DecodeError::InvalidName) => {
                self.fail_sub(core, sub_key, Error::Malformed(DecodeError::InvalidName));
                Look::Wait
            }
            Err(error) => violation(core, &error),
        }
    }

    fn answered_by(&mut self, core: &mut Core, sub_key: Key, done: &PublishDone) {
        // `moq-lite` 0.16 says 200 where it means TRACK_ENDED.
        let error = self.draft.done_error(done.status).filter(|_| done.status != 200);
        let result = error.map_or(Ok(()), Err);
        if let Some(sub) = core.subs.get_mut(sub_key) {
            // 0 is what peers write that do not count.
            sub.expected = done.streams.filter(|streams| *streams > 0);
        }
        self.answered(core, sub_key, result);
    }

    // ---- PUBLISH -----------------------------------------------------------------------------

    /// The peer offers a track.
    pub(super) fn offered(&mut self, core: &mut Core, key: Key, message: Publish) -> Look {
        let name = (message.namespace, message.track);
        let code = if !self.is_interested() {
            UNINTERESTED
        } else if self.offers.by_key.len() >= core.limits.subscriptions {
            self.draft.request_code(&Error::Limit("offers"))
        } else if message.properties.mandatory.is_some() {
            crate::coding::ietf::UNSUPPORTED_EXTENSION
        } else if self.offers.by_name.contains_key(&name) {
            self.draft.request_code(&Error::Duplicate)
        } else if self.offers.has_alias(message.alias)
            || core.subs.by_number(message.alias).is_some()
        {
            core.violation_as(DUPLICATE_TRACK_ALIAS, "a track alias for two tracks");
            return Look::Wait;
        } else {
            let (broadcast, track) = name.clone();
            self.offers.by_name.insert(name, key);
            self.offers.aliases.insert(message.alias, key);
            let offer = Offer {
                path: broadcast.clone(),
                track: track.clone(),
                alias: message.alias,
                properties: message.properties,
                accepted: false,
                heard: false,
                sub: None,
            };
            self.offers.by_key.insert(key, offer);
            self.set_role(key, Role::Offered);
            let request = RequestKey::of(key);
            return Look::Event(Event::TrackOffered { request, broadcast, track });
        };
        self.refuse(core, key, code);
        Look::Wait
    }

    /// PUBLISH_OK: nothing is to be sent yet.
    pub(super) fn accept_offer(&mut self, core: &mut Core, key: Key) {
        if core.requests.get(key).is_none() {
            return;
        }
        let id = self.reply_id(key);
        let Some(offer) = self.offers.by_key.get_mut(&key).filter(|offer| !offer.accepted) else {
            return;
        };
        offer.accepted = true;
        let path = offer.path.clone();
        let parameters = Parameters { forward: Some(false), ..Parameters::default() };
        let ok = RequestOk { id, parameters, ..RequestOk::default() };
        self.say(core, key, &Message::PublishOk(ok));
        let event = self.hear_of(core, &path, false);
        core.notices.extend(event);
        let heard = self.knows_of(&path);
        if let Some(offer) = self.offers.by_key.get_mut(&key) {
            offer.heard = heard;
        }
    }

    /// Somebody wants what was offered.
    fn take_offer(&mut self, core: &mut Core, token: Token, key: Key, want: &Subscription) {
        let Some(offer) = self.offers.by_key.get_mut(&key) else { return };
        if offer.sub.is_some() {
            return core.refuse_sub(token, Error::Duplicate);
        }
        let (alias, properties) = (offer.alias, offer.properties);
        // The order of groups can't be changed.
        let parameters =
            Parameters { forward: Some(true), order: None, ..parameters_of(want, true) };
        if !self.update(core, key, parameters) {
            return core.refuse_sub(token, Error::Limit("requests"));
        }
        let sub = core.subs.insert(Sub::new(token, key, want.priority));
        if let Some(offer) = self.offers.by_key.get_mut(&key) {
            offer.sub = Some(sub);
        }
        if let Look::Event(event) = self.begin_sub(core, sub, alias, &properties) {
            core.notices.push_back(event);
        }
    }

    /// `false` if the peer grants no more ids: what was agreed goes on.
    fn update(&mut self, core: &mut Core, key: Key, parameters: Parameters) -> bool {
        if !self.may_open() {
            return false;
        }
        let existing = self.reply_id(key);
        let update = RequestUpdate { id: self.ids.skip(), existing, parameters };
        self.say(core, key, &Message::RequestUpdate(update))
    }

    /// Nobody wants it any more, but somebody may again. What the peer can't be told to keep is refused.
    fn leave_offer(&mut self, core: &mut Core, key: Key) {
        let Some(offer) = self.offers.by_key.get_mut(&key) else { return };
        offer.sub = None;
        let parameters = Parameters { forward: Some(false), ..Parameters::default() };
        self.update(core, key, parameters);
    }

    /// What the peer says of what it offered.
    pub(super) fn look_at_offered(&mut self, core: &mut Core, key: Key) -> Look {
        let Some(request) = core.requests.get(key) else { return Look::Wait };
        let end = match (request.given_up(), request.recv.is_finished()) {
            (Some(code), _) => Some(Err(Error::from_stream_code(code))),
            (None, true) => Some(Err(Error::ProtocolViolation("FIN without PUBLISH_DONE"))),
            (None, false) => None,
        };
        let (result, done) = match end {
            Some(result) => (result, None),
            None => match self.hear(core, key) {
                Ok(None) => return Look::Wait,
                Ok(Some(Message::RequestOk(_) | Message::RequestError(_))) => return Look::More,
                Ok(Some(Message::RequestUpdate(update))) => {
                    self.refuse_update(core, key, update.id);
                    return Look::More;
                }
                Ok(Some(Message::PublishDone(done))) => (Ok(()), Some(done)),
                Ok(Some(_)) => {
                    core.violation("not a message of PUBLISH");
                    return Look::Wait;
                }
                Err(error) => return violation(core, &error),
            },
        };
        let Some(offer) = self.offers.remove(key) else { return Look::Wait };
        self.end(core, key);
        if let Some(sub) = offer.sub {
            match (result, done) {
                (Ok(()), Some(done)) => self.answered_by(core, sub, &done),
                (Err(error), _) => self.fail_sub(core, sub, error),
                (Ok(()), None) => {}
            }
        }
        if !offer.accepted {
            return Look::request_ended(key, Error::Cancelled);
        }
        if !offer.heard {
            return Look::Wait;
        }
        self.hear_no_more(&offer.path, false).map_or(Look::Wait, Look::Event)
    }
}

census! { each Offer { plain: path, track, alias, properties, accepted, heard, sub; } }
census! { Offers { counts: by_name, aliases; within: by_key; } }
