//! Request ids, and the control stream of the drafts up to 16: messages of all requests one behind the
//! other, each with the id of its request.

use alloc::collections::{BTreeMap, BTreeSet};

use super::super::Core;
use super::super::dialect::Look;
use super::{ByKey, Ietf, Role, TOO_MANY_REQUESTS, violation};
use crate::census::census;
use crate::coding::EncodeError;
use crate::coding::ietf::{
    MaxRequestId, Message, MessageType, PublishNamespaceCancel, PublishNamespaceDone, RequestError,
    Unsubscribe, frame_message, request_id,
};
use crate::error::Error;
use crate::limits::Limits;
use crate::slab::Key;
use crate::stream::Side;

/// Request ids of both sides.
#[derive(Debug)]
pub(super) struct Ids {
    by_id: BTreeMap<u64, Key>,
    by_key: ByKey<u64>,
    ours: u64,
    /// Ours must be below.
    limit: u64,
    /// Theirs from here on were not used, but for those in `ahead`.
    theirs: u64,
    /// Streams race: what was used before those below it.
    ahead: BTreeSet<u64>,
    /// Theirs must be below.
    granted: u64,
    window: u64,
    parity: u64,
    /// Requests of ours that wait for the peer to grant more, by their turn, with what they will say.
    blocked: BTreeMap<u64, (Key, Message)>,
    turns: BTreeMap<Key, u64>,
    last_turn: u64,
}

/// Ids that are remembered because those below them were left out.
const MAX_AHEAD: usize = 1_024;

impl Ids {
    pub(super) fn new(side: Side, limits: &Limits) -> Self {
        let parity = if side == Side::Client { 0 } else { 1 };
        // Ids go in steps of two.
        let window = (limits.requests as u64).saturating_mul(2).clamp(2, 1 << 32);
        Self {
            by_id: BTreeMap::new(),
            by_key: BTreeMap::new(),
            ours: parity,
            limit: 0,
            theirs: 1 - parity,
            ahead: BTreeSet::new(),
            granted: window,
            window,
            parity,
            blocked: BTreeMap::new(),
            turns: BTreeMap::new(),
            last_turn: 0,
        }
    }

    pub(super) fn granted(&self) -> u64 {
        self.granted
    }

    pub(super) fn of(&self, key: Key) -> u64 {
        self.by_key.get(&key).copied().unwrap_or_default()
    }

    /// The smallest id of the peer that was not looked at.
    pub(super) fn unprocessed(&self) -> u64 {
        self.theirs
    }

    pub(super) fn find(&self, id: u64) -> Option<Key> {
        self.by_id.get(&id).copied()
    }

    /// The peer grants our ids up to `limit`. `false` if that is not more than before.
    pub(super) fn grant(&mut self, limit: u64) -> bool {
        let grows = limit > self.limit;
        self.limit = self.limit.max(limit);
        grows
    }

    /// The next id of ours.
    fn take(&mut self, key: Key) -> u64 {
        let id = self.skip();
        self.insert(id, key);
        id
    }

    pub(super) fn insert(&mut self, id: u64, key: Key) {
        self.by_id.insert(id, key);
        self.by_key.insert(key, id);
    }

    /// Another id of ours, whose answer says nothing that is waited for.
    pub(super) fn skip(&mut self) -> u64 {
        let id = self.ours;
        self.ours += 2;
        id
    }

    /// The peer uses an id. `false` if it is none of its own, or was used before.
    fn use_theirs(&mut self, id: u64) -> bool {
        if id % 2 == self.parity || id < self.theirs || !self.ahead.insert(id) {
            return false;
        }
        while self.ahead.remove(&self.theirs) {
            self.theirs += 2;
        }
        if self.ahead.len() > MAX_AHEAD {
            // Who leaves so many out will not come back to them.
            self.theirs = self.ahead.pop_first().map_or(self.theirs, |id| id + 2);
        }
        true
    }

    pub(super) fn forget(&mut self, key: Key) {
        if let Some(turn) = self.turns.remove(&key) {
            self.blocked.remove(&turn);
        }
        if let Some(id) = self.by_key.remove(&key) {
            self.by_id.remove(&id);
        }
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.by_id.len()
            + self.by_key.len()
            + self.blocked.len()
            + self.turns.len()
            + self.ahead.len()
    }

    pub(super) fn forget_all(&mut self) {
        (self.by_id, self.by_key, self.ahead) = Default::default();
        (self.blocked, self.turns) = Default::default();
    }

    /// Whether the request was not sent for want of ids.
    pub(super) fn is_blocked(&self, key: Key) -> bool {
        self.turns.contains_key(&key)
    }

    fn block(&mut self, key: Key, message: Message) {
        self.last_turn += 1;
        self.turns.insert(key, self.last_turn);
        self.blocked.insert(self.last_turn, (key, message));
    }

    fn pop_blocked(&mut self) -> Option<(Key, Message)> {
        let (_, (key, message)) = self.blocked.pop_first()?;
        self.turns.remove(&key);
        Some((key, message))
    }
}

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
        let said = self.try_say(core, key, &message);
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
        self.announce_all(core);
    }

    /// Reads the next message of the control stream, and hands it to its request.
    pub(super) fn look_at_control(&mut self, core: &mut Core, key: Key) -> Look {
        let Some(request) = core.requests.get(key) else { return Look::Wait };
        if request.given_up().is_some() || request.recv.is_finished() {
            core.violation("the control stream ended");
            return Look::Wait;
        }
        if self.peer.is_some() && core.undecided {
            self.early.insert(key);
            return Look::Wait;
        }
        let mut front = [0; 16];
        let front = request.recv.peek(&mut front);
        let framed = match frame_message(front, self.draft, core.limits.message_bytes) {
            Ok(Some(framed)) => framed,
            Ok(None) => return Look::Wait,
            Err(error) => return violation(core, &error),
        };
        let len = framed.head + framed.body;
        if request.recv.len() < len {
            return Look::Wait;
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
                    return Look::Wait;
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
                    return Look::Wait;
                }
                let existing = match Message::decode(framed.kind, body, self.draft) {
                    Ok(Message::RequestUpdate(update)) => update.existing,
                    Ok(_) => None,
                    Err(error) => return violation(core, &error),
                };
                let request = existing.and_then(|id| self.ids.find(id));
                match request.filter(|request| core.requests.is_theirs(*request)) {
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
                if let Some(request) = request.filter(|it| core.requests.is_theirs(*it)) {
                    core.requests.peer_reset(request, Error::Cancelled.stream_code());
                }
            }
            Kind::PublishNamespaceCancel => {
                let request = self.ids.find(id);
                if let Some(request) = request.filter(|it| !core.requests.is_theirs(*it)) {
                    core.requests.peer_reset(request, Error::Cancelled.stream_code());
                }
            }
            _ => core.violation("not a message of the control stream"),
        }
        Look::More
    }

    fn first_message(&mut self, core: &mut Core, kind: MessageType, body: &[u8]) -> Look {
        let setup = match Message::decode(kind, body, self.draft) {
            Ok(Message::ServerSetup(setup)) if self.side == Side::Client => setup,
            Ok(Message::ClientSetup(setup)) if self.side == Side::Server => setup,
            Ok(_) => {
                core.violation("not a set-up");
                return Look::Wait;
            }
            Err(error) => return violation(core, &error),
        };
        self.set_up(core, setup);
        Look::More
    }

    /// A message that belongs to no request.
    fn session_message(&mut self, core: &mut Core, kind: MessageType, body: &[u8]) -> Look {
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
            Ok(Message::Goaway(goaway)) => return self.going_away(core, goaway),
            Ok(_) => core.violation("not a message of the control stream"),
            Err(error) => return violation(core, &error),
        }
        Look::More
    }

    /// Takes note of the id of a request of the peer. `false` if the session ends by it (*Request ID*).
    pub(super) fn accept_id(&mut self, core: &mut Core, id: u64) -> bool {
        if !self.draft.request_streams && id >= self.ids.granted {
            core.violation_as(TOO_MANY_REQUESTS, "more requests than granted");
            return false;
        }
        if !self.ids.use_theirs(id) {
            core.violation_as(super::INVALID_REQUEST_ID, "request id");
            return false;
        }
        if self.ids.granted.saturating_sub(id) <= self.ids.window / 2 {
            self.ids.granted += self.ids.window;
            let message = Message::MaxRequestId(MaxRequestId { max: self.ids.granted });
            if let Some(control) = self.control {
                self.say(core, control, &message);
            }
        }
        true
    }

    fn refuse_id(&mut self, core: &mut Core, id: u64, error: &Error) {
        let code = self.draft.request_code(error);
        let error = RequestError { id: Some(id), code, ..RequestError::default() };
        if let Some(control) = self.control {
            self.say(core, control, &Message::RequestError(error));
        }
    }

    /// What stands for the resets of a request that has no stream.
    pub(super) fn say_cancelled(&mut self, core: &mut Core, key: Key, error: &Error) {
        let id = self.ids.of(key);
        if self.ids.is_blocked(key) {
            return;
        }
        let code = self.draft.request_code(error);
        let reply = |code| RequestError { id: Some(id), code, ..RequestError::default() };
        let message = match self.role(key) {
            Role::Asking(_) | Role::Offered => Message::Unsubscribe(Unsubscribe { id: Some(id) }),
            Role::Announced(_) => Message::PublishNamespaceDone(PublishNamespaceDone { id }),
            Role::Hearing(_) => Message::PublishNamespaceCancel(PublishNamespaceCancel {
                id,
                code,
                ..PublishNamespaceCancel::default()
            }),
            Role::New | Role::Serving | Role::Describing => Message::RequestError(reply(code)),
            Role::Done
            | Role::Served
            | Role::Control
            | Role::Announcing(_)
            | Role::Listening(_) => return,
        };
        self.say(core, key, &message);
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

census! { Ids {
    counts: by_id, by_key, blocked, turns;
    plain: ours, limit, theirs, ahead, granted, window, parity, last_turn;
} }
