//! The control stream of the drafts up to 16: the messages of all requests one after the other,
//! each with the id of its request.
//!
//! The other modules handle requests as if each had a stream of its own, in all drafts. A message of a
//! request is handed on as bytes. A message that ends a request becomes a reset. In the other direction
//! the end of a request becomes such a message.

use alloc::boxed::Box;

use bytes::BytesMut;

use super::new_requests::{check_reserved, names_of};
use super::roles::Role;
use super::session::{Fault, INVALID_REQUEST_ID, Ietf, Read, TOO_MANY_REQUESTS, fault, fault_as};
use crate::coding::EncodeError;
use crate::coding::ietf::{
    Flow, Framed, Message, MessageType, NamespaceForm, NamespaceRequest, PublishNamespaceCancel,
    RequestError, TokenReference, Unsubscribe, frame_message, request_id,
};
use crate::error::{Error, LimitKind};
use crate::machine::engine::{Core, Progress};
use crate::path::Path;
use crate::slab::Key;
use crate::stream::Side;

impl Ietf {
    /// Whether another request can be sent now: the peer granted its id, and no older request waits
    /// for one.
    pub(super) fn may_open(&self) -> bool {
        let granted = self.ids.ours < self.ids.limit && self.ids.blocked.is_empty();
        self.draft.has_request_streams() || granted
    }

    /// Makes a request of ours. `make` builds its message from an id. From 17 on it has a stream of
    /// its own.
    pub(super) fn open(
        &mut self,
        core: &mut Core,
        role: Role,
        make: impl FnOnce(u64) -> Message,
    ) -> Result<Key, EncodeError> {
        if self.draft.has_request_streams() {
            return self.open_stream(core, role, make);
        }
        let message = self.authorized(make(self.ids.ours))?;
        let may_open = self.may_open();
        if !may_open {
            // A message that can't be encoded fails now, not when its turn comes.
            message.encode(&mut BytesMut::new(), self.draft)?;
        }
        let key = match self.control {
            Some(control) => core.requests.open_within(control),
            // The client has not opened the control stream yet. It has not granted ids either, so
            // that the request waits below.
            None => core.requests.open_unbound(),
        };
        self.set_role(key, role);
        if may_open {
            return self.send_request(core, key, message);
        }
        // Its id is a placeholder. It gets one when it is sent.
        self.ids.block(key, message);
        Ok(key)
    }

    /// Makes a request of ours on a stream of its own.
    pub(super) fn open_stream(
        &mut self,
        core: &mut Core,
        role: Role,
        make: impl FnOnce(u64) -> Message,
    ) -> Result<Key, EncodeError> {
        let message = self.authorized(make(self.ids.ours))?;
        let key = core.requests.open();
        self.set_role(key, role);
        self.send_request(core, key, message)
    }

    /// Adds the tokens of the application to a request of ours. Nothing is asked about reserved paths.
    fn authorized(&self, mut message: Message) -> Result<Message, EncodeError> {
        let Some((path, _)) = names_of(&message) else { return Ok(message) };
        check_reserved(path).map_err(|_| EncodeError::InvalidValue("a reserved path"))?;
        let prefixes = self.request_tokens.iter().filter(|(prefix, _)| path.has_prefix(prefix));
        let tokens = prefixes.max_by_key(|(prefix, _)| prefix.as_str().len());
        let tokens = tokens.into_iter().flat_map(|(_, tokens)| tokens.clone());
        let tokens = tokens.map(TokenReference::Value).collect();
        if let Some((_, parameters)) = message.request_mut() {
            parameters.tokens = tokens;
        }
        Ok(message)
    }

    /// Writes the message of a request, which has the next id of ours already. An id is used up
    /// only if that succeeds.
    fn send_request(
        &mut self,
        core: &mut Core,
        key: Key,
        message: Message,
    ) -> Result<Key, EncodeError> {
        let written = self.try_write(core, key, &message);
        if written.is_ok() {
            self.ids.take(key, message.kind());
        } else {
            core.requests.cancel(key, &Error::Cancelled, &mut core.actions);
            *self.role(key) = Role::New;
        }
        written.map(|()| key)
    }

    /// The peer granted ids: sends the requests that waited for them, in the order in which they
    /// were made.
    pub(super) fn unblock(&mut self, core: &mut Core) {
        while self.ids.ours < self.ids.limit {
            let Some((key, mut message)) = self.ids.pop_blocked() else { break };
            // The id that it has is a placeholder.
            if let Some((id, _)) = message.request_mut() {
                *id = self.ids.ours;
            }
            if let Some(control) = self.control {
                core.requests.bind(key, control);
            }
            // That it can be encoded was tried before it was made to wait.
            let _ = self.send_request(core, key, message);
        }
        self.send_pending(core);
    }

    /// Reads the next message of the control stream, and hands it to its request.
    pub(super) fn read_control(&mut self, core: &mut Core, key: Key) -> Read {
        let Some(request) = core.requests.get(key) else { return Ok(Progress::Wait) };
        if request.abandoned().is_some() || request.recv.is_finished() {
            // Both ends must keep the control stream open (6.3).
            core.control_ended();
            return Ok(Progress::Wait);
        }
        // Everything after the set-up waits until the application accepts the peer.
        if self.peer.is_some() && core.awaits_accept {
            self.early.insert(key);
            return Ok(Progress::Wait);
        }
        let mut front = [0; 16];
        let front = request.recv.peek(&mut front);
        let framed = frame_message(front, self.draft, core.limits.message_bytes)?;
        // The length was checked against the limit, so that waiting for the whole message is bounded.
        let len = framed.map_or(usize::MAX, |framed| framed.head + framed.body);
        let (Some(Framed { kind, head, .. }), true) = (framed, request.recv.len() >= len) else {
            return Ok(Progress::Wait);
        };
        let whole = request.recv.take(len);
        let body = &whole[head..];
        if self.peer.is_none() {
            return self.first_message(core, kind, body);
        }
        let id = request_id(kind, body, self.draft)?;
        match (kind.flow(), id) {
            // A new request: its message is the first one of a request of its own.
            (Flow::Request, Some(id)) => {
                self.accept_id(core, id)?;
                match core.requests.accept_within(key) {
                    Some(request) => {
                        self.ids.insert(id, request, kind);
                        core.requests.receive(request, whole, false);
                    }
                    // Past the limit it is refused by its id, without a request of its own.
                    None => self.refuse_id(core, id, kind, &Error::Limit(LimitKind::Requests)),
                }
            }
            // It has an id of its own, for its answer, and names the request that it changes. That may be
            // over: messages cross.
            (Flow::Update, Some(id)) => {
                self.accept_id(core, id)?;
                let mut message = Message::decode(kind, body, self.draft)?;
                let existing = match &message {
                    Message::RequestUpdate(update) => update.existing,
                    _ => None,
                };
                let request = existing.and_then(|id| self.ids.find(id));
                match request.filter(|request| is_of_peer(core, *request)) {
                    Some(request) => drop(core.requests.receive(request, whole, false)),
                    None => {
                        self.resolve_tokens(&mut message)?;
                        self.refuse_id(core, id, kind, &Error::NotFound);
                    }
                }
            }
            // Answers to requests of ours. One that is over by now is answered for nothing.
            (Flow::Answer, Some(id)) => {
                if let Some(request) = self.ids.find(id) {
                    core.requests.receive(request, whole, false);
                }
            }
            // From 17 on these are a reset of the request stream. The first may come only from the side
            // that made the request, the second from the other one.
            (flow @ (Flow::Cancel | Flow::Revoke), id) => {
                let message = Message::decode(kind, body, self.draft)?;
                let request = self.named(&message, id);
                let is_theirs = |it: &Key| is_of_peer(core, *it) == (flow == Flow::Cancel);
                if let Some(request) = request.filter(is_theirs) {
                    core.requests.peer_reset(request, Error::Cancelled.stream_code());
                }
            }
            _ => return self.session_message(core, Message::decode(kind, body, self.draft)?),
        }
        Ok(Progress::More)
    }

    /// The request that a message gives up: by its id, or by its namespace.
    fn named(&self, message: &Message, id: Option<u64>) -> Option<Key> {
        match message {
            _ if id.is_some() => self.ids.find(id?),
            Message::PublishNamespaceDone(NamespaceRequest::Namespace(path)) => self.find_role(
                |role| matches!(role, Role::IncomingNamespace { path: it, .. } if it == path),
            ),
            Message::PublishNamespaceCancel(PublishNamespaceCancel {
                request: NamespaceRequest::Namespace(path),
                ..
            }) => self.broadcasts.announced.get(path)?.request,
            Message::UnsubscribeNamespace(NamespaceRequest::Namespace(prefix)) => self.find_role(
                |role| matches!(role, Role::AnnounceResponse(it) if it.prefix == *prefix),
            ),
            _ => None,
        }
    }

    pub(super) fn find_role(&self, is_wanted: impl Fn(&Role) -> bool) -> Option<Key> {
        let mut keys = self.ids.by_key.keys().copied();
        keys.find(|key| self.roles.get(key.0 as usize).is_some_and(&is_wanted))
    }

    /// The first message of the control stream is the peer's set-up; anything else is a violation.
    fn first_message(&mut self, core: &mut Core, kind: MessageType, body: &[u8]) -> Read {
        match Message::decode(kind, body, self.draft)? {
            Message::ServerSetup(setup) if self.side == Side::Client => self.set_up(core, setup),
            Message::ClientSetup(setup) if self.side == Side::Server => self.set_up(core, setup),
            _ => return fault("not a set-up"),
        }
        Ok(Progress::More)
    }

    /// Reads a message that belongs to no request.
    fn session_message(&mut self, core: &mut Core, message: Message) -> Read {
        match message {
            // The drafts that have the message demand that it grows.
            Message::MaxRequestId(max) if !self.ids.grant(max) => {
                return fault("MAX_REQUEST_ID that does not grow");
            }
            Message::MaxRequestId(_) => self.unblock(core),
            // The peer says that it waits. It is granted more ids as its requests arrive.
            Message::RequestsBlocked(_) => {}
            Message::Goaway(goaway) => return self.on_goaway_message(core, goaway),
            _ => return fault("not a message of the control stream"),
        }
        Ok(Progress::More)
    }

    /// Checks the id of a request of the peer (6.4.2.1). Grants more ids when half of the window is used,
    /// so that a peer that behaves never waits.
    pub(super) fn accept_id(&mut self, core: &mut Core, id: u64) -> Result<(), Fault> {
        if !self.draft.has_request_streams() && id >= self.ids.granted {
            return fault_as(TOO_MANY_REQUESTS, "more requests than granted");
        }
        if !self.ids.use_incoming(id) {
            return fault_as(INVALID_REQUEST_ID, "request id");
        }
        if self.ids.granted.saturating_sub(id) <= self.ids.window / 2 {
            self.ids.granted += self.ids.window;
            let message = Message::MaxRequestId(self.ids.granted);
            if let Some(control) = self.control {
                self.write(core, control, &message);
            }
        }
        Ok(())
    }

    /// Refuses a request for which nothing is remembered. On 14 an update has no answer.
    fn refuse_id(&mut self, core: &mut Core, id: u64, request: MessageType, error: &Error) {
        let code = self.draft.request_code(error);
        let error = RequestError { id: Some(id), code, ..RequestError::default() };
        let kind = MessageType::RequestError.answering(request, self.draft);
        if let Some(control) = self.control {
            core.requests.write(control, |out| {
                let _ = Message::RequestError(error).encode_as(kind, out, self.draft);
            });
        }
    }

    /// Writes the message that stands for the resets of a request without a stream. Which one
    /// depends on the side that made the request, and on whether it was answered.
    pub(super) fn write_cancel(&mut self, core: &mut Core, key: Key, error: &Error) {
        let id = self.ids.of(key);
        // The peer does not know a request that was never sent.
        if self.ids.is_blocked(key) {
            return;
        }
        let code = self.draft.request_code(error);
        let refusal = RequestError { id: Some(id), code, ..RequestError::default() };
        let namespaces = self.draft.namespaces;
        let named = |path: &Path, last| match namespaces > last {
            true => NamespaceRequest::Id(id),
            false => NamespaceRequest::Namespace(path.clone()),
        };
        let message = match self.role(key) {
            Role::OutgoingSubscription(_) | Role::Offer => {
                Message::Unsubscribe(Unsubscribe { id: Some(id) })
            }
            Role::OutgoingFetch { .. } => Message::FetchCancel(id),
            Role::OutgoingNamespace(path) => {
                Message::PublishNamespaceDone(named(path, NamespaceForm::Id))
            }
            Role::IncomingNamespace { path, .. } => {
                let (request, reason) = (named(path, NamespaceForm::Id), Box::default());
                Message::PublishNamespaceCancel(PublishNamespaceCancel { request, code, reason })
            }
            Role::AnnounceSubscription(it) => {
                Message::UnsubscribeNamespace(named(&it.prefix, NamespaceForm::Prefix))
            }
            Role::New | Role::IncomingSubscription(_) | Role::IncomingQuery => {
                Message::RequestError(refusal)
            }
            // These are over for the peer, or have a stream of their own.
            Role::Done | Role::Control | Role::Published(_) | Role::AnnounceResponse(_) => return,
            // Its stream was reset, or the peer gave it up.
            Role::IncomingFetch(_) | Role::Join(_) | Role::Fill { .. } => return,
        };
        self.write(core, key, &message);
    }
}

/// Whether it is a request of the peer, or one of ours to which the peer subscribed: PUBLISH.
fn is_of_peer(core: &Core, key: Key) -> bool {
    core.requests.is_incoming(key) || core.incoming.get(key).is_some()
}
