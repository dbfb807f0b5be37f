//! The tracks that we offer by PUBLISH to a peer that asked for them by SUBSCRIBE_TRACKS (moq-transport-22, 3.6 and 9.8).
//!
//! An offer that the peer accepts is a subscription of the peer from then on, like one that it made by SUBSCRIBE.

use alloc::boxed::Box;

use super::publisher::options_of;
use super::roles::{AnnounceResponse, Role, SubscriptionStart};
use super::session::{Ietf, Read, fault};
use crate::coding::ietf::{
    GroupOrder, Location, Message, MessageType, Parameters, Publish, PublishBlocked, Wanted,
};
use crate::error::Error;
use crate::machine::engine::{Core, Dialect, IncomingSubscription, Progress};
use crate::machine::event::{Event, RequestKey};
use crate::machine::source::Announcement;
use crate::slab::Key;

impl Ietf {
    /// Offers a track, as the parameters of SUBSCRIBE_TRACKS say. If that is not possible, PUBLISH_BLOCKED (18) or
    /// PUBLISH_SKIPPED says so, and the track is not offered again on this request. A peer that reads slowly, or allows few
    /// streams, gets its offers later.
    pub(super) fn publish(
        &mut self,
        core: &mut Core,
        key: Key,
        response: &AnnounceResponse,
        offered: Announcement,
    ) {
        let (Some(asked), Announcement::Track { suffix, track, info, largest }) =
            (&response.tracks, offered)
        else {
            return;
        };
        let (namespace, properties) = (response.prefix.join(&suffix), self.properties(&info));
        let largest = largest.map(Location::from);
        let parameters = asked.for_message(MessageType::Publish, self.draft);
        let order = parameters.order.or(self.state(GroupOrder::Descending).order);
        let parameters = Parameters { largest, order, ..parameters };
        let is_possible = !core.peer_is_going_away
            && !core.state.is_ending()
            && core.incoming.len() < core.limits.subscriptions
            && core.limits.check_names(&namespace, &track).is_ok();
        let role = Role::Published(Box::new((namespace.clone(), track.clone())));
        let blocked = PublishBlocked { suffix, track: track.clone() };
        // The alias is the request id: it is unique.
        let make = |id| {
            let alias = id;
            Message::Publish(Publish { id, namespace, track, alias, parameters, properties })
        };
        let Some(Ok(request)) = is_possible.then(|| self.open(core, role, make)) else {
            self.write(core, key, &Message::PublishBlocked(blocked));
            return;
        };
        let subscription = IncomingSubscription::new(self.ids.of(request), options_of(asked));
        let paused = asked.forward == Some(false);
        core.incoming.insert(request, IncomingSubscription { paused, ..subscription });
    }

    /// An update of SUBSCRIBE_TRACKS changes later offers (9.5.2). With another prefix the request begins again, and the
    /// application decides, with the former tokens if the update has none.
    pub(super) fn update_tracks(
        &mut self,
        core: &mut Core,
        key: Key,
        response: &mut AnnounceResponse,
        id: u64,
        update: Parameters,
    ) -> Progress {
        let Some(asked) = &mut response.tracks else { return Progress::Wait };
        asked.forward = update.forward.or(asked.forward);
        if !update.shown.is_empty() {
            asked.shown = update.shown;
        }
        let Some(prefix) = update.prefix else {
            self.answer_update(core, key, id, None);
            return Progress::More;
        };
        (response.prefix, response.reader) = (prefix.clone(), None);
        let (request, result, tokens) = (RequestKey::of(key), Ok(()), asked.shown.clone());
        let names = response.wanted == Wanted::Both;
        core.notices.push_back(Event::TracksRequested { request, prefix, names, tokens });
        Progress::Event(Event::RequestEnded { request, result })
    }

    /// Reads the answer to PUBLISH. An end without an answer is a refusal (6.4.2.2).
    pub(super) fn read_published(&mut self, core: &mut Core, key: Key) -> Read {
        let is_over = core.requests.is_ended(key);
        let message = if is_over { None } else { self.next_message(core, key)? };
        let parameters = match message {
            None if !is_over => return Ok(Progress::Wait),
            None | Some(Message::RequestError(_)) => {
                core.end_incoming(key, &Error::Cancelled);
                self.finish(core, key);
                return Ok(Progress::Wait);
            }
            // The name of the answer up to 17.
            Some(Message::RequestOk(ok) | Message::PublishOk(ok)) => ok.parameters,
            Some(_) => return fault("not an answer to PUBLISH"),
        };
        let subscription = self.change(core, key, &parameters);
        let start = SubscriptionStart { filter: parameters.filter, fill: None };
        let role =
            core::mem::replace(self.role(key), Role::IncomingSubscription(Some(Box::new(start))));
        let (Role::Published(names), Some(subscription)) = (role, subscription) else {
            return Ok(Progress::Wait);
        };
        let (request, tokens, (broadcast, track)) = (RequestKey::of(key), parameters.shown, *names);
        Ok(Progress::Event(Event::SubscribeRequested {
            request,
            broadcast,
            track,
            subscription,
            wait: None,
            tokens,
        }))
    }
}
