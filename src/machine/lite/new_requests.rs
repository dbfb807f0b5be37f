//! The first message of a stream of the peer, which says what the request is for (moq-lite-06,
//! 7.2).
//!
//! A stream with an unknown type, or whose first message is malformed or past a limit, is reset,
//! and the session goes on.

use super::roles::{AnnounceResponse, Role};
use super::session::Lite;
use crate::coding::DecodeError;
use crate::coding::lite::{
    AnnounceRequest, BiStream, Fetch, Goaway, Subscribe, TrackRequest, frame_message,
};
use crate::error::{Error, LimitKind};
use crate::hop::Hop;
use crate::machine::engine::{Core, Dialect, IncomingSubscription, Progress, goaway};
use crate::machine::event::{Event, RequestKey};
use crate::slab::Key;
use crate::subscription::Subscription;

impl Lite {
    /// Reads the type of a stream and its first message. Both are read together, so that nothing is
    /// remembered of a stream that is only half described.
    pub(super) fn read_new_request(&mut self, core: &mut Core, key: Key) -> Progress {
        if !core.is_ready() {
            return self.read_early(core, key);
        }
        let mut kind = None;
        match self.open_request(core, key, &mut kind) {
            Ok(progress) => progress,
            Err(Error::Malformed(DecodeError::TooLong)) if kind == Some(BiStream::Goaway) => {
                // The URI has at most 8,192 bytes (7.18).
                core.violation("a GOAWAY that is too long");
                Progress::Wait
            }
            Err(_) if kind == Some(BiStream::Announce) => {
                // An announce request is refused by an empty answer, because the deployed
                // subscribers end their session on a reset of this stream.
                self.finish_announce_response(core, key, &AnnounceResponse::default());
                Progress::Wait
            }
            Err(error) => {
                self.cancel(core, key, &error);
                Progress::Wait
            }
        }
    }

    /// Reads the request. `found` is its type, also if it fails afterwards.
    fn open_request(
        &mut self,
        core: &mut Core,
        key: Key,
        found: &mut Option<BiStream>,
    ) -> Result<Progress, Error> {
        let Some(request) = core.requests.get(key) else { return Ok(Progress::Wait) };
        // A stream that was reset before its first message asked for nothing.
        if request.recv.reset().is_some() {
            return Err(Error::Cancelled);
        }
        // The type and the head of the first message fit into this.
        let mut front = [0; 32];
        let front = request.recv.peek(&mut front);
        let need_more =
            if request.recv.has_fin() { Err(Error::Cancelled) } else { Ok(Progress::Wait) };
        let Some((kind, type_len)) = self.features.form.read(front) else { return need_more };
        // An unknown type resets the stream, and the session lives (7.2).
        let kind = BiStream::from_u64(kind, self.version).ok_or(Error::Cancelled)?;
        *found = Some(kind);
        // A sender of GOAWAY reads no answer, and `moq-net` stops our half at once. Every other request
        // without a reader is pointless.
        if request.abandoned().is_some() && kind != BiStream::Goaway {
            return Err(Error::Cancelled);
        }
        if kind == BiStream::Probe {
            // A Probe stream has no message, only its type.
            return self.on_probe_request(core, key, type_len);
        }
        if kind == BiStream::Fetch && !self.features.fetch {
            // 03 and 04 define FETCH, and nobody serves it there.
            return Err(Error::Cancelled);
        }
        let limit = core.limits.message_bytes;
        let framed = frame_message(&front[type_len..], self.version, false, limit)?;
        let Some(framed) = framed else { return need_more };
        let head = type_len + framed.head;
        // The length was checked against the limit, so that waiting for the whole message is bounded.
        if request.recv.len() < head + framed.body {
            return need_more;
        }
        // After our GOAWAY new requests are refused; GOAWAY of the peer may cross ours (5.1.6).
        if core.state.is_ending() && kind != BiStream::Goaway {
            return Err(Error::GoingAway);
        }
        request.recv.skip(head);
        let body = request.recv.take(framed.body);
        self.on_request(core, key, kind, &body)
    }

    /// The first message of a request arrived.
    fn on_request(
        &mut self,
        core: &mut Core,
        key: Key,
        kind: BiStream,
        body: &[u8],
    ) -> Result<Progress, Error> {
        let (version, depth) = (self.version, core.limits.path_segments);
        let request = RequestKey::of(key);
        Ok(match kind {
            BiStream::Announce => {
                // Any prefix is legal, also one without broadcasts: they may be announced later.
                let message = AnnounceRequest::decode_body(body, version, depth)?;
                core.limits.check_path(&message.prefix)?;
                let response = |role: &&Role| matches!(role, Role::AnnounceResponse(_));
                if self.roles.iter().filter(response).count() >= core.limits.announce_requests {
                    return Err(Error::Limit(LimitKind::AnnounceRequests));
                }
                // Split horizon: routes through the peer are not announced to it (5.1.1.1). Its Hop ID
                // is in the request on 04 and 05, and in SETUP from 06 on (7.3.5).
                let setup = self.peer.as_ref().map_or(Hop::UNKNOWN, |peer| peer.hop);
                let exclude = if self.features.exclude_hop { message.exclude } else { setup };
                self.set_role(key, Role::AnnounceResponse(AnnounceResponse::default()));
                let hidden = message.hidden || !self.features.hidden;
                let (prefix, tokens) = (message.prefix, Default::default());
                let event = Event::AnnounceRequested { request, prefix, exclude, hidden, tokens };
                Progress::Event(event)
            }
            BiStream::Subscribe => {
                let mut message = Subscribe::decode_body(body, version, depth)?;
                core.limits.check_names(&message.broadcast, &message.track)?;
                self.apply_default_start(&mut message.want);
                // Past the limit the subscription is reset; the peer may try again later.
                if core.incoming.len() >= core.limits.subscriptions {
                    return Err(Error::Limit(LimitKind::Subscriptions));
                }
                let subscription = IncomingSubscription::new(message.id, message.want.clone());
                core.incoming.insert(key, subscription);
                self.set_role(key, Role::IncomingSubscription);
                Progress::Event(Event::SubscribeRequested {
                    request,
                    broadcast: message.broadcast,
                    track: message.track,
                    subscription: message.want,
                    wait: None,
                    tokens: Default::default(),
                })
            }
            BiStream::Track => {
                // A query is not a subscription: it keeps no group and counts against no limit but that of
                // requests.
                let message = TrackRequest::decode_body(body, version, depth)?;
                core.limits.check_names(&message.broadcast, &message.track)?;
                self.set_role(key, Role::IncomingQuery);
                Progress::Event(Event::TrackRequested {
                    request,
                    broadcast: message.broadcast,
                    track: message.track,
                    tokens: Default::default(),
                })
            }
            BiStream::Goaway => {
                let message = Goaway::decode_body(body, version)?;
                self.set_role(key, Role::PeerGoaway);
                // GOAWAY has no answer; FIN confirms it (4.3).
                core.requests.finish(key);
                goaway::on_goaway(self, core, message.uri, None)
            }
            BiStream::Fetch => {
                let message = Fetch::decode_body(body, version, depth)?;
                core.limits.check_names(&message.broadcast, &message.track)?;
                self.on_fetch(core, key, message)
            }
            BiStream::Probe => unreachable!("has no message"),
        })
    }

    /// From 06 on Group Start 0 means no floor: the subscription begins with the oldest group that
    /// is not too old (7.9). Before, a subscription without a start begins with the latest group.
    pub(super) fn apply_default_start(&self, want: &mut Subscription) {
        if self.features.frame_bounds {
            want.start.get_or_insert(0);
        }
    }

    /// Nothing follows GOAWAY: whatever does is discarded.
    pub(super) fn read_goaway(&mut self, core: &mut Core, key: Key) -> Progress {
        self.set_role(key, Role::Done);
        self.read_done(core, key)
    }

    /// Ends a request of the peer, and what answers it, with an error.
    pub(super) fn end_incoming(&mut self, core: &mut Core, key: Key, error: Error) -> Progress {
        core.end_incoming(key, &error);
        self.cancel(core, key, &error);
        Progress::request_ended(key, error)
    }

    /// The application refuses a request of the peer, or gives up one that it accepted. A request
    /// that can't be served is reset promptly (5.1.2).
    pub(super) fn refuse(&mut self, core: &mut Core, key: Key, error: &Error) {
        if !core.requests.is_incoming(key) {
            return;
        }
        match self.roles.remove(key) {
            Some(Role::AnnounceResponse(response)) => {
                self.finish_announce_response(core, key, &response);
            }
            Some(Role::IncomingSubscription | Role::IncomingFetch | Role::IncomingQuery) => {
                let _ = self.end_incoming(core, key, error.clone());
            }
            // Other roles have nothing that an application could refuse.
            Some(role) => self.set_role(key, role),
            None => {}
        }
    }
}
