//! The request ids of both sides (*Request ID*).

use alloc::collections::{BTreeMap, BTreeSet};

use crate::census::census;
use crate::coding::ietf::Message;
use crate::limits::Limits;
use crate::slab::Key;
use crate::stream::Side;

/// Request ids of both sides.
#[derive(Debug, Default)]
pub(super) struct RequestIds {
    pub(super) by_id: BTreeMap<u64, Key>,
    pub(super) by_key: BTreeMap<Key, u64>,
    pub(super) ours: u64,
    /// Ours must be below.
    pub(super) limit: u64,
    /// Theirs from here on were not used, but for those in `ahead`.
    pub(super) theirs: u64,
    /// Streams race: what was used before those below it.
    pub(super) ahead: BTreeSet<u64>,
    /// Theirs must be below.
    pub(super) granted: u64,
    pub(super) window: u64,
    pub(super) parity: u64,
    /// Requests of ours that wait for the peer to grant more, by their turn, with what they will say.
    pub(super) blocked: BTreeMap<u64, (Key, Message)>,
    pub(super) turns: BTreeMap<Key, u64>,
    pub(super) last_turn: u64,
}

/// RequestIds that are remembered because those below them were left out.
const MAX_AHEAD: usize = 1_024;

impl RequestIds {
    pub(super) fn new(side: Side, limits: &Limits) -> Self {
        let parity = if side == Side::Client { 0 } else { 1 };
        // RequestIds go in steps of two.
        let window = (limits.requests as u64).saturating_mul(2).clamp(2, 1 << 32);
        let (ours, theirs, granted) = (parity, 1 - parity, window);
        Self { ours, theirs, granted, window, parity, ..Self::default() }
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
    pub(super) fn take(&mut self, key: Key) -> u64 {
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
    pub(super) fn use_theirs(&mut self, id: u64) -> bool {
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

    pub(super) fn block(&mut self, key: Key, message: Message) {
        self.last_turn += 1;
        self.turns.insert(key, self.last_turn);
        self.blocked.insert(self.last_turn, (key, message));
    }

    pub(super) fn pop_blocked(&mut self) -> Option<(Key, Message)> {
        let (_, (key, message)) = self.blocked.pop_first()?;
        self.turns.remove(&key);
        Some((key, message))
    }
}

census! { RequestIds {
    counts: by_id, by_key, blocked, turns;
    plain: ours, limit, theirs, ahead, granted, window, parity, last_turn;
} }
