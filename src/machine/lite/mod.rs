//! moq-lite, from 01 to 07: what each stream and message means.
//!
//! | module | streams |
//! |---|---|
//! | [`setup`] | set-up: SETUP, or the exchange of versions up to 02 |
//! | [`uni_streams`] | the peer's unidirectional streams |
//! | [`new_requests`] | the first message of a stream of the peer |
//! | [`announce_response`], [`announce_subscription`] | announcements, ours and the peer's |
//! | [`publisher`], [`subscriber`] | subscriptions, the peer's and ours |
//! | [`track_query`] | TRACK without a subscription |
//! | [`group_fetch`] | FETCH, both ways |
//! | [`probe`] | PROBE, both ways |
//!
//! [`session`] and [`roles`] hold the state that they share.

mod announce_response;
mod announce_subscription;
mod group_fetch;
mod new_requests;
mod probe;
mod publisher;
mod roles;
mod session;
mod setup;
mod subscriber;
mod track_query;
mod uni_streams;

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use super::command::Command;
use super::engine::{Core, Dialect, Progress, goaway};
use super::event::Event;
use super::source::{Source, Token};
use crate::coding::lite::{BiStream, Goaway, Setup};
use crate::error::Error;
use crate::hop::Hop;
use crate::path::Path;
use crate::slab::Key;
use crate::time::Instant;

use roles::Role;
pub(super) use session::Lite;

impl Dialect for Lite {
    fn accept(&mut self, core: &mut Core, hop: Hop, interests: Vec<Path>) {
        // Nothing was sent yet, SETUP included: the application may choose the Hop ID by what the
        // peer is, and refuse the peer without a word.
        self.hop = hop;
        self.begin(core, Setup::default(), interests);
        if self.peer.is_some() {
            self.on_ready(core);
        }
    }

    fn read_uni_stream(&mut self, core: &mut Core, key: Key) -> Progress {
        self.read_stream(core, key)
    }

    fn read_request(&mut self, core: &mut Core, key: Key) -> Progress {
        let Some(mut role) = self.roles.remove(key) else {
            return self.read_new_request(core, key);
        };
        let progress = match &mut role {
            Role::Done => self.read_done(core, key),
            Role::VersionSetup => self.read_version_setup(core, key),
            Role::Session => self.read_session(core, key),
            Role::PeerGoaway => self.read_goaway(core, key),
            Role::AnnounceResponse(response) => self.read_announce_response(core, key, response),
            Role::AnnounceSubscription(subscription) => {
                self.read_announce_subscription(core, key, subscription)
            }
            Role::IncomingSubscription => self.read_incoming_subscription(core, key),
            Role::IncomingQuery => self.read_incoming_query(core, key),
            Role::IncomingFetch => self.read_incoming_fetch(core, key),
            Role::OutgoingFetch(token) => self.read_outgoing_fetch(core, key, *token),
            Role::DetachedFetch => Progress::Wait,
            Role::OutgoingSubscription(sub) => self.read_outgoing_subscription(core, key, *sub),
            Role::SubscriptionQuery(sub) => self.read_subscription_query(core, key, *sub),
            Role::TrackQuery(token) => self.read_track_query(core, key, *token),
            Role::ProbeReports => self.read_probe_reports(core, key),
            Role::Probe => self.read_probe(core, key),
            Role::EndedProbe => self.read_ended_probe(core, key),
        };
        // The role was taken out for the call, so that it and the session can change at once. A call that
        // ends the role has put another one in its place; otherwise it goes back.
        if core.requests.get(key).is_some() && self.roles.get(key).is_none() {
            self.set_role(key, role);
        }
        progress
    }

    fn apply(&mut self, core: &mut Core, command: Command) {
        match command {
            Command::AcceptAnnounce { request, reader, active } => {
                self.accept_announce(core, request.into(), reader, active);
            }
            Command::AcceptTrack { request, info, .. } => {
                self.accept_track(core, request.into(), &info)
            }
            Command::AnnouncementsReady { request } => {
                self.on_announcements_ready(core, request.into())
            }
            Command::Describe { subscription, broadcast, track } => {
                self.query(core, subscription, broadcast, track);
            }
            Command::Probe => self.probe(core),
            Command::Refuse { request, error } => self.refuse(core, request.into(), &error),
            Command::StartSubscribe { request, group } => {
                self.start_subscribe(core, request.into(), group);
            }
            Command::Unprobe => self.unprobe(core),
            // moq-lite offers no tracks, so that none can be asked for or accepted. Its requests have no tokens.
            Command::SubscribeTracks { tracks, .. } => {
                let error = Error::Unsupported;
                core.notices.push_back(Event::TracksEnded { tracks, error });
            }
            Command::AcceptOffer { .. }
            | Command::SetTokens { .. }
            | Command::UnsubscribeTracks { .. } => {}
            other => unreachable!("{other:?} is the same in all dialects"),
        }
    }

    fn fill_request(&mut self, core: &mut Core, key: Key, source: &mut impl Source) {
        // Only these two write what is not an answer to a message: changes of the cache, and of the
        // network path. They are written when QUIC asks for bytes, so that they are the newest.
        match self.roles.get(key) {
            Some(Role::AnnounceResponse(_)) => self.fill_announce_response(core, key, source),
            Some(Role::ProbeReports) => self.fill_probe_reports(core, key),
            _ => {}
        }
    }

    fn on_network_path(&mut self, core: &mut Core) {
        self.schedule_report(core);
    }

    fn read_datagram(&mut self, core: &mut Core, bytes: Bytes) -> Progress {
        self.on_datagram(core, bytes).map_or(Progress::Wait, Progress::Event)
    }

    fn cancel_query(&mut self, core: &mut Core, token: Token) {
        self.withdraw_query(core, token);
    }

    fn write_goaway(&mut self, core: &mut Core, uri: Box<str>, _: Instant) {
        // Up to 03 there is no GOAWAY. The session still ends at the deadline.
        if !self.features.goaway {
            return;
        }
        let uri = goaway::redirect(self.side, uri);
        let key =
            self.open(core, BiStream::Goaway, |out, version| Goaway { uri }.encode(out, version));
        let key = key.expect("what is too long was left out");
        core.await_confirmation(key);
        self.set_role(key, Role::Done);
    }

    fn is_unsent(&self, core: &Core, key: Key) -> bool {
        core.requests.is_unopened(key)
    }

    fn cancel(&mut self, core: &mut Core, key: Key, error: &Error) {
        // A reset of our half, and STOP_SENDING for the peer's, with the code of the error (4.4).
        core.requests.cancel(key, error, &mut core.actions);
        self.roles.remove(key);
    }

    fn finish(&mut self, core: &mut Core, key: Key) {
        // A stream that did not open yet is unknown to the peer, and does not open at all.
        // Otherwise the request stays until the peer ends its half too (4.3).
        if core.requests.withdraw(key) {
            self.roles.remove(key);
        } else if core.requests.get(key).is_some() {
            core.requests.finish(key);
            self.set_role(key, Role::Done);
            core.requests.queue_read(key);
        }
    }
}
