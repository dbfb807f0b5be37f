//! The tracks that the peer offers by PUBLISH, and our subscriptions to them (moq-transport-22,
//! 3.1).
//!
//! An accepted offer is paused until the application subscribes, and paused again when the application
//! does not want the track any more. So a publisher that offers all its tracks costs only the offers.

use alloc::boxed::Box;

use super::offers::Offer;
use super::roles::Role;
use super::session::{DUPLICATE_TRACK_ALIAS, Ietf, Read, fault, fault_as, fault_of};
use super::subscriber::parameters_of;
use crate::coding::ietf::{
    GroupOrder, Message, MessageType, Parameters, Publish, RequestOk, RequestUpdate, UNINTERESTED,
    UNSUPPORTED_EXTENSION,
};
use crate::error::{Error, LimitKind};
use crate::machine::engine::{Core, Dialect, OutgoingSubscription, Progress, subscribing};
use crate::machine::event::{Event, RequestKey};
use crate::machine::source::Token;
use crate::slab::Key;
use crate::subscription::Subscription;

impl Ietf {
    /// PUBLISH of the peer. It gets exactly one answer (3.1): an offer that can't be used is
    /// refused, with UNINTERESTED if we asked for nothing, and UNSUPPORTED_EXTENSION if a mandatory
    /// property is not understood (3.7).
    pub(super) fn on_publish(&mut self, core: &mut Core, key: Key, message: Publish) -> Read {
        let name = (message.namespace, message.track);
        let code = if !self.is_interested() {
            UNINTERESTED
        } else if self.offers.by_key.len() >= core.limits.subscriptions {
            self.draft.request_code(&Error::Limit(LimitKind::Offers))
        } else if message.properties.unusable.is_some() {
            UNSUPPORTED_EXTENSION
        } else if self.offers.by_name.contains_key(&name) {
            self.draft.request_code(&Error::Duplicate)
        } else if self.offers.has_alias(message.alias)
            || core.outgoing.by_number(message.alias).is_some()
        {
            return fault_as(DUPLICATE_TRACK_ALIAS, "a track alias for two tracks");
        } else {
            let (broadcast, track) = name.clone();
            self.offers.by_name.insert(name, key);
            self.offers.aliases.insert(message.alias, key);
            let offer = Offer {
                path: broadcast.clone(),
                track: track.clone(),
                alias: message.alias,
                properties: message.properties,
                largest: message.parameters.largest,
                is_paused: message.parameters.forward == Some(false),
                ..Offer::default()
            };
            self.offers.by_key.insert(key, offer);
            self.set_role(key, Role::Offer);
            let (request, tokens) = (RequestKey::of(key), message.parameters.shown);
            return Ok(Progress::Event(Event::TrackOffered { request, broadcast, track, tokens }));
        };
        Ok(self.refuse(core, key, code))
    }

    /// Accepts the offer, with FORWARD 0 where it can be updated: nothing is sent until somebody subscribes. The offer
    /// counts as an announcement of its broadcast.
    pub(super) fn accept_offer(&mut self, core: &mut Core, key: Key) {
        match self.live_role(core, key) {
            Some(Role::Offer) => {}
            Some(Role::IncomingNamespace { is_accepted: false, .. }) => {
                return self.accept_namespace(core, key);
            }
            _ => return,
        }
        let id = self.reply_id(key);
        let Some(offer) = self.offers.by_key.get_mut(&key).filter(|offer| !offer.accepted) else {
            return;
        };
        offer.accepted = true;
        let (path, is_paused) = (offer.path.clone(), offer.is_paused);
        let forward = Some(self.may_not_update_offers());
        let pause = Parameters { forward, ..self.state(GroupOrder::Descending) };
        let parameters = pause.for_message(MessageType::PublishOk.written(self.draft), self.draft);
        let is_said = parameters.forward.is_some() || is_paused;
        let ok = RequestOk { id, parameters, ..RequestOk::default() };
        self.write(core, key, &Message::PublishOk(ok));
        if !is_said {
            // From 20 on the answer can't say it, and an update follows.
            self.update(core, key, pause);
        }
        // There may be no room for it; then its end will end nothing.
        let event = self.add_broadcast(core, &path, false);
        core.notices.extend(event);
        let is_known = self.knows_broadcast(&path);
        if let Some(offer) = self.offers.by_key.get_mut(&key) {
            offer.has_broadcast = is_known;
        }
    }

    /// The application subscribes to an offered track: REQUEST_UPDATE with FORWARD 1. The alias and
    /// the properties are known from PUBLISH.
    pub(super) fn subscribe_to_offer(
        &mut self,
        core: &mut Core,
        token: Token,
        key: Key,
        want: &Subscription,
    ) {
        let Some(offer) = self.offers.by_key.get_mut(&key) else { return };
        // One subscription a track: the alias names only one.
        if offer.sub.is_some() {
            return core.reject_subscription(token, Error::Duplicate);
        }
        let (alias, properties, largest) = (offer.alias, offer.properties.clone(), offer.largest);
        let names = Some(Box::new((offer.path.clone(), offer.track.clone())));
        let new_group = want.new_group.filter(|_| properties.dynamic_groups == Some(true));
        // The order of groups can't be changed.
        let (forward, order) = (Some(true), None);
        let parameters = Parameters { forward, order, new_group, ..parameters_of(want, true) };
        if !self.may_not_update_offers() && !self.update(core, key, parameters) {
            return core.reject_subscription(token, Error::Limit(LimitKind::Requests));
        }
        let sub = OutgoingSubscription::new(token, key, want.priority);
        let sub = core.outgoing.insert(OutgoingSubscription { names, ..sub });
        if let Some(offer) = self.offers.by_key.get_mut(&key) {
            offer.sub = Some(sub);
        }
        // The alias was checked when the track was offered.
        let _ = self.begin_subscription(core, sub, alias, &properties, largest);
    }

    /// Sends REQUEST_UPDATE. Returns `false` if the peer grants no more ids, or no more updates before it
    /// answered (MAX_REQUEST_UPDATES, 9.1.7); then the agreement stays as it was.
    pub(super) fn update(&mut self, core: &mut Core, key: Key, parameters: Parameters) -> bool {
        let limit = self.peer.as_ref().map_or(0, |peer| peer.max_request_updates);
        if !self.may_open() || !core.requests.begin_update(key, limit) {
            return false;
        }
        let existing = self.reply_id(key);
        let update = RequestUpdate { id: self.ids.skip(), existing, parameters };
        self.write(core, key, &Message::RequestUpdate(update))
    }

    /// The subscription is over, but the offer stays: the peer is told to pause. If there is no id
    /// for that, its groups are stopped as they arrive.
    pub(super) fn pause_offer(&mut self, core: &mut Core, key: Key) {
        let Some(offer) = self.offers.by_key.get_mut(&key) else { return };
        offer.sub = None;
        let parameters = Parameters { forward: Some(false), ..Parameters::default() };
        if !self.may_not_update_offers() {
            self.update(core, key, parameters);
        }
    }

    /// Whether the peer would end an offer that is updated, see
    /// [`Setup::may_be_cloudflare`](crate::coding::ietf::Setup).
    pub(super) fn may_not_update_offers(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.may_be_cloudflare(self.draft))
    }

    /// Reads what the peer sends on its offer: updates of its own, and PUBLISH_DONE. The end of the stream ends the
    /// offer; without PUBLISH_DONE it is a failure (6.4.2.2).
    pub(super) fn read_offer(&mut self, core: &mut Core, key: Key) -> Read {
        let done = match self.next_message(core, key)? {
            Some(Message::PublishStateNotify(_)) => return Ok(Progress::More),
            Some(Message::RequestUpdate(update)) => {
                let code = fault_of(&update.parameters, Parameters::default());
                self.answer_update(core, key, update.id, code);
                // A failed update ends the request (9.5.1). The publisher ends an offer that was accepted.
                let Some(code) = code.filter(|_| self.offers.is_open(key)) else {
                    return Ok(Progress::More);
                };
                self.offers.remove(key);
                self.refuse(core, key, code);
                return Ok(Progress::request_ended(key, Error::Unsupported));
            }
            Some(Message::PublishDone(done)) => Ok(done),
            Some(_) => return fault("not a message of PUBLISH"),
            // Some publishers send STOP_SENDING with PUBLISH_DONE: they need no more of us, and their half goes on.
            None => {
                let Some(request) = core.requests.get(key) else { return Ok(Progress::Wait) };
                Err(match request.recv.reset() {
                    Some(code) => Error::from_stream_code(code),
                    None if request.recv.is_finished() => {
                        Error::ProtocolViolation("FIN without PUBLISH_DONE")
                    }
                    None => return Ok(Progress::Wait),
                })
            }
        };
        let Some(offer) = self.offers.remove(key) else { return Ok(Progress::Wait) };
        self.finish(core, key);
        // The subscription ends as the offer did.
        match (offer.sub, &done) {
            (Some(sub), Ok(done)) => self.on_publish_done(core, sub, done),
            (Some(sub), Err(error)) => subscribing::fail(self, core, sub, error.clone()),
            (None, _) => {}
        }
        let event = offer.has_broadcast.then(|| self.remove_broadcast(&offer.path, false));
        core.notices.extend(event.flatten());
        // If the application has not answered yet, its answer is not needed any more.
        let result = if offer.accepted { done.map(drop) } else { Err(Error::Cancelled) };
        Ok(Progress::Event(Event::RequestEnded { request: RequestKey::of(key), result }))
    }
}
