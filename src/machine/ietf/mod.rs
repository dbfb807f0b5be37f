//! moq-transport: what each message and stream means, for all drafts.
//!
//! From draft 17 on a request is a bidirectional stream. Up to draft 16 requests are messages on one control
//! stream. [`control`] passes each request its own messages, so that all other modules are the same for both.
//!
//! | module | content |
//! |---|---|
//! | [`setup`] | set-up |
//! | [`control`] | the control stream up to draft 16, and request ids |
//! | [`uni_streams`] | the peer's unidirectional streams |
//! | [`new_requests`] | the first message of a request of the peer |
//! | [`announcements`], [`announce_response`], [`announce_subscription`] | namespaces, ours and the peer's |
//! | [`publisher`], [`subscriber`] | subscriptions, the peer's and ours |
//! | [`offered_tracks`], [`published_tracks`] | PUBLISH, the peer's and ours |
//! | [`group_fetch`] | FETCH, the peer's and ours |
//! | [`ranges`] | FETCH of several groups, joining FETCH and fill, the peer's |
//!
//! [`session`], [`roles`], [`request_ids`], [`offers`], [`token_cache`] and [`peer_broadcasts`] hold the state that they share.

mod announce_response;
mod announce_subscription;
mod announcements;
mod control;
mod group_fetch;
mod new_requests;
mod offered_tracks;
mod offers;
mod peer_broadcasts;
mod published_tracks;
mod publisher;
mod ranges;
mod request_ids;
mod roles;
mod session;
mod setup;
mod subscriber;
mod token_cache;
mod uni_streams;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use bytes::Bytes;

use super::command::Command;
use super::engine::{Core, Dialect, Progress, goaway};
use super::event::Event;
use super::source::Source;
use crate::coding::ietf::{Goaway, GoawayForm, Message, Setup};
use crate::error::{Error, LimitKind};
use crate::hop::Hop;
use crate::path::Path;
use crate::slab::Key;
use crate::time::Instant;

use roles::Role;
pub(super) use session::Ietf;
use session::{Read, close_on_fault};

/// The peer must read our answers while it asks: each message has one, and a stream may carry any
/// number of messages. This many times [`request_buffer`](crate::Limits::request_buffer) may wait before
/// the session is closed. To stop reading instead would block two ends that both ask for much.
const MAX_UNREAD: usize = 64;

impl Dialect for Ietf {
    fn accept(&mut self, core: &mut Core, _: Hop, interests: Vec<Path>) {
        // Up to 16 the client sent its set-up already, as the first message of the control stream.
        // Everything else of ours waited for this.
        self.interests = interests;
        self.begin(core, Setup::default());
        if self.peer.is_some() {
            self.on_ready(core);
        }
    }

    fn on_echo_timeout(&mut self, core: &mut Core) {
        self.report_own_broadcasts(core);
    }

    fn read_uni_stream(&mut self, core: &mut Core, key: Key) -> Progress {
        let read = self.read_stream(core, key);
        close_on_fault(core, read)
    }

    fn read_request(&mut self, core: &mut Core, key: Key) -> Progress {
        // Checked before anything is read, so that one more message can't cause one more answer.
        let unread = core.limits.request_buffer.saturating_mul(MAX_UNREAD);
        if core.requests.get(key).is_some() && core.requests.unsent(key) > unread {
            core.close(Error::Limit(LimitKind::UnreadAnswers));
            return Progress::Wait;
        }
        let read = self.read(core, key);
        close_on_fault(core, read)
    }

    fn apply(&mut self, core: &mut Core, command: Command) {
        match command {
            Command::AcceptAnnounce { request, reader, .. } => {
                self.accept_announce(core, request.into(), reader);
            }
            Command::AcceptOffer { request } => self.accept_offer(core, request.into()),
            Command::SetTokens { prefix, tokens } => {
                self.request_tokens.insert(prefix, tokens);
            }
            Command::AcceptTrack { request, info, largest } => {
                self.accept_status(core, request.into(), &info, largest);
            }
            // TRACK_STATUS would say no more than SUBSCRIBE_OK, so that it is not asked. An offer says it too.
            Command::Describe { subscription, broadcast, track } => {
                let offer = self.offers.by_name.get(&(broadcast, track));
                let offer = offer.and_then(|key| self.offers.by_key.get(key));
                let info = offer.map(|offer| self.info_of(core, &offer.properties));
                let info = info.unwrap_or_else(|| core.default_track_info());
                core.notices.push_back(Event::TrackInfo { subscription, info });
            }
            Command::Probe => {
                core.notices.push_back(Event::ProbeEnded { error: Error::Unsupported });
            }
            // The drafts have no message for the first group of a subscription, and no PROBE.
            Command::StartSubscribe { .. } | Command::Unprobe => {}
            Command::AnnouncementsReady { request } => {
                self.on_announcements_ready(core, request.into())
            }
            Command::SubscribeTracks { tracks, prefix } => {
                self.broadcasts.pending_prefixes.insert((Some(tracks), prefix));
                // Otherwise it is sent when the session is ready.
                if core.is_ready() {
                    self.send_pending(core);
                }
            }
            Command::UnsubscribeTracks { tracks } => self.unsubscribe_tracks(core, tracks),
            Command::Refuse { request, error } => self.refused(core, request.into(), &error),
            other => unreachable!("{other:?} is the same in all dialects"),
        }
    }

    fn fill_request(&mut self, core: &mut Core, key: Key, source: &mut impl Source) {
        if let Some(Role::AnnounceResponse(_)) = self.roles.get(key.0 as usize) {
            self.fill_announce_response(core, key, source);
        }
    }

    fn read_datagram(&mut self, core: &mut Core, bytes: Bytes) -> Progress {
        self.on_datagram(core, bytes)
    }

    fn write_goaway(&mut self, core: &mut Core, uri: Box<str>, deadline: Instant) {
        // Before the peer's set-up there may be no stream for it.
        if self.peer.is_none() {
            self.pending_goaway = Some((uri, deadline));
            return;
        }
        // On the wire 0 means that there is no timeout.
        let timeout = (deadline - core.now).max(Duration::from_millis(1));
        // Draft 18 names the first request that we did not process.
        let request = (self.draft.goaway == GoawayForm::Request).then_some(self.ids.next_incoming);
        let uri = goaway::redirect(self.side, uri);
        let message = Message::Goaway(Goaway { uri, timeout, request });
        // Control stream of our own (17 and later), or the shared one.
        if let Some(control) = &mut core.control {
            let encoded = message.encode(control.send.buffer(), self.draft);
            encoded.expect("what is too long was left out");
        } else if let Some(control) = self.control {
            self.write(core, control, &message);
        }
        // No message confirms that the peer read GOAWAY.
        core.unread_until = Some(core.now + core.limits.close_timeout);
    }

    fn is_unsent(&self, core: &Core, key: Key) -> bool {
        // It waits for stream credit, or for the peer to grant ids.
        core.requests.is_unopened(key) || self.ids.is_blocked(key)
    }

    fn cancel(&mut self, core: &mut Core, key: Key, error: &Error) {
        if core.requests.get(key).is_none() {
            return;
        }
        // Without a stream to reset, a message says that the request is over.
        if core.requests.is_within(key) {
            self.write_cancel(core, key, error);
        }
        // An answer that still arrives for its id finds no request.
        self.forget_id(core, key);
        core.requests.cancel(key, error, &mut core.actions);
        *self.role(key) = Role::New;
    }

    fn finish(&mut self, core: &mut Core, key: Key) {
        if let Role::Fill { .. } = self.role(key) {
            return self.cancel(core, key, &Error::Closed);
        }
        self.forget_id(core, key);
        // A request whose stream never opened is unknown to the peer.
        if core.requests.withdraw(key) {
            *self.role(key) = Role::New;
            return;
        }
        let carried = core.requests.is_within(key);
        if let Some(request) = core.requests.get(key) {
            if carried {
                // A request within the control stream has no FIN of the peer to wait for.
                request.recv.abandon(Error::Closed.stream_code());
            }
            core.requests.finish(key);
            self.set_role(key, Role::Done);
            core.requests.queue_read(key);
        }
    }
}

impl Ietf {
    /// Reads the next message of a request, according to its role.
    fn read(&mut self, core: &mut Core, key: Key) -> Read {
        match *self.role(key) {
            Role::New => self.read_new_request(core, key),
            Role::Done => self.read_done(core, key),
            Role::Control => self.read_control(core, key),
            Role::IncomingSubscription(_) => self.read_incoming_subscription(core, key),
            Role::Join(_) => self.read_join(core, key),
            Role::Fill { .. } => Ok(Progress::Wait),
            Role::IncomingQuery => self.read_incoming_query(core, key),
            Role::IncomingFetch(_) => self.read_incoming_fetch(core, key),
            Role::Offer => self.read_offer(core, key),
            Role::Published(_) => self.read_published(core, key),
            Role::OutgoingFetch { fetch, timed } => {
                self.read_outgoing_fetch(core, key, fetch, timed.is_some())
            }
            Role::OutgoingSubscription(sub) => self.read_outgoing_subscription(core, key, sub),
            Role::AnnounceResponse(_)
            | Role::AnnounceSubscription(_)
            | Role::IncomingNamespace { .. }
            | Role::OutgoingNamespace(_) => self.read_about_names(core, key),
        }
    }

    /// These roles hold state. It is taken out for the call, so that it and the session can change at once.
    fn read_about_names(&mut self, core: &mut Core, key: Key) -> Read {
        let mut role = mem::take(self.role(key));
        let progress = match &mut role {
            Role::AnnounceResponse(response) => self.read_announce_response(core, key, response),
            Role::AnnounceSubscription(it) => self.read_announce_subscription(core, key, it),
            Role::IncomingNamespace { path, is_accepted } => {
                self.read_incoming_namespace(core, key, path, *is_accepted)
            }
            Role::OutgoingNamespace(path) => self.read_outgoing_namespace(core, key, path),
            _ => Ok(Progress::Wait),
        };
        // A call that ends the role has put another one in its place; otherwise it goes back.
        let alive = core.requests.get(key).is_some();
        let slot = self.role(key);
        if alive && matches!(slot, Role::New) {
            *slot = role;
        }
        progress
    }
}
