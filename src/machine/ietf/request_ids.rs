//! The request ids of both sides (moq-transport-22, 6.4.2.1).
//!
//! The client uses even ids, the server odd ones, each in steps of two. Up to draft 16 the peer
//! grants ids by MAX_REQUEST_ID, and a request beyond that waits here. From 17 on QUIC's stream
//! credit limits requests instead.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::census::census;
use crate::coding::ietf::{Message, MessageType};
use crate::coding::varint;
use crate::limits::Limits;
use crate::slab::Key;
use crate::stream::Side;

/// The request ids of both sides, and the requests of ours that wait for one.
#[derive(Debug, Default)]
pub(super) struct RequestIds {
    /// The requests of both sides that have an id. Ids of the two sides differ in parity, so that
    /// one table does.
    pub(super) by_id: BTreeMap<u64, Key>,
    /// The same the other way round, with the type of the request: it determines that of the answer on 14.
    pub(super) by_key: BTreeMap<Key, (u64, MessageType)>,
    /// Our next id. Those of the client are even.
    pub(super) ours: u64,
    /// Our ids must be below this (MAX_REQUEST_ID of the peer; 0 until it arrived).
    pub(super) limit: u64,
    /// The peer has used all its ids below this, and none from here on except those in `ahead`.
    pub(super) next_incoming: u64,
    /// Ids that the peer used before smaller ones: request streams may overtake each other.
    pub(super) ahead: BTreeSet<u64>,
    /// The peer's ids must be below this (our MAX_REQUEST_ID).
    pub(super) granted: u64,
    /// By how much the grant is raised at a time.
    pub(super) window: u64,
    /// Requests of ours that wait for the peer to grant more ids, with their message, in the order
    /// in which they were made.
    pub(super) blocked: BTreeMap<u64, (Key, Message)>,
    /// The position of each blocked request in that order.
    pub(super) turns: BTreeMap<Key, u64>,
}

/// How many ids are remembered in `ahead`. It bounds what a peer can cause that leaves gaps.
const MAX_AHEAD: usize = 1_024;

impl RequestIds {
    /// `limits.requests` bounds the requests that run at the same time, so that it is the window of
    /// ids as well.
    pub(super) fn new(side: Side, limits: &Limits) -> Self {
        let (ours, next_incoming) = if side == Side::Client { (0, 1) } else { (1, 0) };
        // Ids go in steps of two.
        let window = (limits.requests as u64).saturating_mul(2).clamp(2, 1 << 32);
        Self { ours, next_incoming, granted: window, window, ..Self::default() }
    }

    /// The id of a request.
    pub(super) fn of(&self, key: Key) -> u64 {
        self.by_key.get(&key).map_or(0, |(id, _)| *id)
    }

    /// The type of a request.
    pub(super) fn kind_of(&self, key: Key) -> MessageType {
        self.by_key.get(&key).map_or(MessageType::RequestUpdate, |(_, kind)| *kind)
    }

    /// The request of an id, of either side.
    pub(super) fn find(&self, id: u64) -> Option<Key> {
        self.by_id.get(&id).copied()
    }

    /// The peer grants our ids below `limit`. Returns `false` if that is not more than before,
    /// which is a violation.
    pub(super) fn grant(&mut self, limit: u64) -> bool {
        let grows = limit > self.limit;
        self.limit = self.limit.max(limit);
        grows
    }

    /// Gives the next id of ours to a request.
    pub(super) fn take(&mut self, key: Key, kind: MessageType) {
        let id = self.skip();
        self.insert(id, key, kind);
    }

    /// Remembers the id of a request, and its type.
    pub(super) fn insert(&mut self, id: u64, key: Key, kind: MessageType) {
        self.by_id.insert(id, key);
        self.by_key.insert(key, (id, kind));
    }

    /// Uses the next id of ours for a message whose answer changes nothing, such as REQUEST_UPDATE.
    pub(super) fn skip(&mut self) -> u64 {
        let id = self.ours;
        self.ours += 2;
        id
    }

    /// The peer uses an id. Returns `false` if the id has our parity, was used before or is too large; each closes
    /// the session (6.4.2.1). Gaps are legal.
    pub(super) fn use_incoming(&mut self, id: u64) -> bool {
        if !self.may_come(id) {
            return false;
        }
        self.ahead.insert(id);
        while self.ahead.remove(&self.next_incoming) {
            self.next_incoming += 2;
        }
        if self.ahead.len() > MAX_AHEAD {
            // A peer that left so many ids out will not come back to them.
            self.next_incoming = self.ahead.pop_first().map_or(self.next_incoming, |id| id + 2);
        }
        true
    }

    /// Whether the peer may still use this id for a request.
    pub(super) fn may_come(&self, id: u64) -> bool {
        // No message could name a larger one, nor the one after it.
        let is_theirs = id % 2 != self.ours % 2 && id < varint::MAX - 1;
        is_theirs && id >= self.next_incoming && !self.ahead.contains(&id)
    }

    /// The request is over.
    pub(super) fn forget(&mut self, key: Key) {
        if let Some(turn) = self.turns.remove(&key) {
            self.blocked.remove(&turn);
        }
        if let Some((id, _)) = self.by_key.remove(&key) {
            self.by_id.remove(&id);
        }
    }

    /// Frees the memory of a session whose end was reported.
    pub(super) fn forget_all(&mut self) {
        (self.by_id, self.by_key, self.ahead) = Default::default();
        (self.blocked, self.turns) = Default::default();
    }

    /// Whether the request was not sent for want of an id.
    pub(super) fn is_blocked(&self, key: Key) -> bool {
        self.turns.contains_key(&key)
    }

    /// Lets a request wait for an id. Its message gets the id when it goes out.
    pub(super) fn block(&mut self, key: Key, message: Message) {
        let turn = self.blocked.last_key_value().map_or(0, |(last, _)| last + 1);
        self.turns.insert(key, turn);
        self.blocked.insert(turn, (key, message));
    }

    /// The request that waits longest for an id.
    pub(super) fn pop_blocked(&mut self) -> Option<(Key, Message)> {
        let (_, (key, message)) = self.blocked.pop_first()?;
        self.turns.remove(&key);
        Some((key, message))
    }
}

census! { RequestIds {
    counts: by_id, by_key, blocked, turns;
    plain: ours, limit, next_incoming, ahead, granted, window;
} }
