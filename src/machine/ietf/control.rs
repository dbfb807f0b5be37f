//! The control stream of the drafts up to 16: the messages of all requests one after the other, each with
//! the id of its request.

use super::roles::Role;
use super::session::{INVALID_REQUEST_ID, Ietf, TOO_MANY_REQUESTS, violation};
use crate::coding::EncodeError;
use crate::coding::ietf::{
    MaxRequestId, Message, MessageType, PublishNamespaceCancel, PublishNamespaceDone, RequestError,
    Unsubscribe, frame_message, request_id,
};
use crate::error::Error;
use crate::machine::engine::{Core, Progress};
use crate::slab::Key;
use crate::stream::Side;

impl Ietf {
    /// Whether the peer grants another request.
    pub(super) fn may_open(&self) -> bool {
        let granted = self.ids.ours < self.ids.limit && self.ids.blocked.is_empty();
        self.draft.request_streams || granted
    }

    /// A request of ours, with a message that gets its id from `make`. On a stream of its own from 17
    /// on.
    pub(super) fn open(
        &mut self,
        core: &mut Core,
        role: Role,
        make: impl FnOnce(u64) -> Message,
    ) -> Result<Key, EncodeError> {
        if self.draft.request_streams {
            return self.open_stream(core, role, make);
        }
        let key = match self.control {
            Some(control) => core.requests.open_within(control),
            // The client has not opened it. Nor did it grant ids, so that the request waits below.
            None => core.requests.open_unbound(),
        };
        self.set_role(key, role);
        // The id is not known to the peer before the message goes out, so a placeholder does.
        let message = make(self.ids.ours);
        if self.may_open() {
            return self.send_request(core, key, message);
        }
        let mut trial = bytes::BytesMut::new();
        if let Err(error) = message.encode(&mut trial, self.draft) {
            core.requests.cancel(key, &Error::Cancelled, &mut core.actions);
            *self.role(key) = Role::New;
            return Err(error);
        }
        self.ids.block(key, message);
        Ok(key)
    }

    /// A request of ours on a stream of its own.
    pub(super) fn open_stream(
        &mut self,
        core: &mut Core,
        role: Role,
        make: impl FnOnce(u64) -> Message,
    ) -> Result<Key, EncodeError> {
        let key = core.requests.open();
        self.set_role(key, role);
        let message = make(self.ids.ours);
        self.send_request(core, key, message)
    }

    /// The message has the next id of ours already.
    fn send_request(
        &mut self,
        core: &mut Core,
        key: Key,
        message: Message,
    ) -> Result<Key, EncodeError> {
        let said = self.try_write(core, key, &message);
        if said.is_ok() {
            self.ids.take(key);
        } else {
            core.requests.cancel(key, &Error::Cancelled, &mut core.actions);
            *self.role(key) = Role::New;
        }
        said.map(|()| key)
    }

    /// Sends what waited for ids.
    pub(super) fn unblock(&mut self, core: &mut Core) {
        while self.ids.ours < self.ids.limit {
            let Some((key, mut message)) = self.ids.pop_blocked() else { break };
            if let Some(id) = first_id_mut(&mut message) {
                *id = self.ids.ours;
            }
            if let Some(control) = self.control {
                core.requests.bind(key, control);
            }
            // Tried before.
            let _ = self.send_request(core, key, message);
        }
        self.send_pending(core);
    }

    /// Reads the next message of the control stream, and hands it to its request.
    pub(super) fn read_control(&mut self, core: &mut Core, key: Key) -> Progress {
        let Some(request) = core.requests.get(key) else { return Progress::Wait };
        if request.abandoned().is_some() || request.recv.is_finished() {
            core.violation("the control stream ended");
            return Progress::Wait;
        }
        if self.peer.is_some() && core.awaits_accept {
            self.early.insert(key);
            return Progress::Wait;
        }
        let mut front = [0; 16];
        let front = request.recv.peek(&mut front);
        let framed = match frame_message(front, self.draft, core.limits.message_bytes) {
            Ok(Some(framed)) => framed,
            Ok(None) => return Progress::Wait,
            Err(error) => return violation(core, &error),
        };
        let len = framed.head + framed.body;
        if request.recv.len() < len {
            return Progress::Wait;
        }
        let whole = request.recv.take(len);
        let body = &whole[framed.head..];
        if self.peer.is_none() {
            return self.first_message(core, framed.kind, body);
        }
        let id = match request_id(framed.kind, body, self.draft) {
            Ok(id) => id,
            Err(error) => return violation(core, &error),
        };
        let Some(id) = id else { return self.session_message(core, framed.kind, body) };
        use MessageType as Kind;
        match framed.kind {
            Kind::Subscribe
            | Kind::Publish
            | Kind::PublishNamespace
            | Kind::TrackStatus
            | Kind::Fetch => {
                if !self.accept_id(core, id) {
                    return Progress::Wait;
                }
                match core.requests.accept_within(key) {
                    Some(request) => {
                        self.ids.insert(id, request);
                        core.requests.receive(request, whole, false);
                    }
                    None => self.refuse_id(core, id, &Error::Limit("requests")),
                }
            }
            Kind::RequestUpdate => {
                if !self.accept_id(core, id) {
                    return Progress::Wait;
                }
                let existing = match Message::decode(framed.kind, body, self.draft) {
                    Ok(Message::RequestUpdate(update)) => update.existing,
                    Ok(_) => None,
                    Err(error) => return violation(core, &error),
                };
                let request = existing.and_then(|id| self.ids.find(id));
                match request.filter(|request| core.requests.is_incoming(*request)) {
                    Some(request) => drop(core.requests.receive(request, whole, false)),
                    None => self.refuse_id(core, id, &Error::NotFound),
                }
            }
            Kind::SubscribeOk
            | Kind::RequestOk
            | Kind::RequestError
            | Kind::FetchOk
            | Kind::PublishOk
            | Kind::PublishDone => {
                if let Some(request) = self.ids.find(id) {
                    core.requests.receive(request, whole, false);
                }
            }
            Kind::Unsubscribe | Kind::FetchCancel | Kind::PublishNamespaceDone => {
                let request = self.ids.find(id);
                if let Some(request) = request.filter(|it| core.requests.is_incoming(*it)) {
                    core.requests.peer_reset(request, Error::Cancelled.stream_code());
                }
            }
            Kind::PublishNamespaceCancel => {
                let request = self.ids.find(id);
                if let Some(request) = request.filter(|it| !core.requests.is_incoming(*it)) {
                    core.requests.peer_reset(request, Error::Cancelled.stream_code());
                }
            }
            _ => core.violation("not a message of the control stream"),
        }
        Progress::More
    }

    fn first_message(&mut self, core: &mut Core, kind: MessageType, body: &[u8]) -> Progress {
        let setup = match Message::decode(kind, body, self.draft) {
            Ok(Message::ServerSetup(setup)) if self.side == Side::Client => setup,
            Ok(Message::ClientSetup(setup)) if self.side == Side::Server => setup,
            Ok(_) => {
                core.violation("not a set-up");
                return Progress::Wait;
            }
            Err(error) => return violation(core, &error),
        };
        self.set_up(core, setup);
        Progress::More
    }

    /// A message that belongs to no request.
    fn session_message(&mut self, core: &mut Core, kind: MessageType, body: &[u8]) -> Progress {
        match Message::decode(kind, body, self.draft) {
            Ok(Message::MaxRequestId(MaxRequestId { max })) => {
                if self.ids.grant(max) {
                    self.unblock(core);
                } else {
                    core.violation("MAX_REQUEST_ID that does not grow");
                }
            }
            // Advice: more is granted as requests come.
            Ok(Message::RequestsBlocked(_)) => {}
            Ok(Message::Goaway(goaway)) => return self.on_goaway_message(core, goaway),
            Ok(_) => core.violation("not a message of the control stream"),
            Err(error) => return violation(core, &error),
        }
        Progress::More
    }

    /// Takes note of the id of a request of the peer. `false` if the session ends by it (*Request ID*).
    pub(super) fn accept_id(&mut self, core: &mut Core, id: u64) -> bool {
        if !self.draft.request_streams && id >= self.ids.granted {
            core.violation_as(TOO_MANY_REQUESTS, "more requests than granted");
            return false;
        }
        if !self.ids.use_theirs(id) {
            core.violation_as(INVALID_REQUEST_ID, "request id");
            return false;
        }
        if self.ids.granted.saturating_sub(id) <= self.ids.window / 2 {
            self.ids.granted += self.ids.window;
            let message = Message::MaxRequestId(MaxRequestId { max: self.ids.granted });
            if let Some(control) = self.control {
                self.write(core, control, &message);
            }
        }
        true
    }

    fn refuse_id(&mut self, core: &mut Core, id: u64, error: &Error) {
        let code = self.draft.request_code(error);
        let error = RequestError { id: Some(id), code, ..RequestError::default() };
        if let Some(control) = self.control {
            self.write(core, control, &Message::RequestError(error));
        }
    }

    /// What stands for the resets of a request that has no stream.
    pub(super) fn write_cancel(&mut self, core: &mut Core, key: Key, error: &Error) {
        let id = self.ids.of(key);
        if self.ids.is_blocked(key) {
            return;
        }
        let code = self.draft.request_code(error);
        let reply = |code| RequestError { id: Some(id), code, ..RequestError::default() };
        let message = match self.role(key) {
            Role::OutgoingSubscription(_) | Role::Offer => {
                Message::Unsubscribe(Unsubscribe { id: Some(id) })
            }
            Role::OutgoingNamespace(_) => {
                Message::PublishNamespaceDone(PublishNamespaceDone { id })
            }
            Role::IncomingNamespace(_) => Message::PublishNamespaceCancel(PublishNamespaceCancel {
                id,
                code,
                ..PublishNamespaceCancel::default()
            }),
            Role::New | Role::IncomingSubscription | Role::IncomingQuery => {
                Message::RequestError(reply(code))
            }
            Role::Done
            | Role::EndedSubscription
            | Role::Control
            | Role::AnnounceResponse(_)
            | Role::AnnounceSubscription(_) => return,
        };
        self.write(core, key, &message);
    }
}

/// The id that a request brings, to be filled in when it goes out.
fn first_id_mut(message: &mut Message) -> Option<&mut u64> {
    match message {
        Message::Subscribe(it) => Some(&mut it.id),
        Message::PublishNamespace(it) => Some(&mut it.id),
        _ => None,
    }
}
