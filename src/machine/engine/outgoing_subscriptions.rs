//! Our subscriptions to the peer's tracks, as every dialect keeps them.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::census::census;
use crate::error::Error;
use crate::machine::source::Token;
use crate::path::Path;
use crate::slab::{Key, Slab};
use crate::subscription::TrackInfo;
use crate::time::Instant;

/// A subscription of ours.
#[derive(Debug, Default)]
pub(crate) struct OutgoingSubscription {
    pub(crate) token: Token,
    /// How groups name it: the subscribe id (moq-lite), the track alias (moq-transport).
    pub(crate) number: Option<u64>,
    pub(crate) request: Key,
    /// The names of its broadcast and track, where a FETCH may complete a group of it.
    pub(crate) names: Option<Box<(Path, Box<str>)>>,
    /// Its track query, while that is open.
    pub(crate) query: Option<Key>,
    pub(crate) priority: u8,
    /// The track information. Groups wait for it.
    pub(crate) info: Option<TrackInfo>,
    /// The track has a timescale.
    pub(crate) timed: bool,
    /// The first group, as the publisher promised it.
    pub(crate) start: Option<u64>,
    pub(crate) end: Option<u64>,
    /// The newest group whose first object came in a datagram (moq-transport).
    pub(crate) datagram_group: Option<u64>,
    /// Group streams that are being read.
    pub(crate) active: Vec<Key>,
    /// How many group streams arrived.
    pub(crate) seen: u64,
    /// How many will have arrived, once that is known.
    pub(crate) expected: Option<u64>,
    /// How it ended, while groups may still arrive.
    pub(crate) result: Option<Result<(), Error>>,
    /// Groups that have not begun by now are not waited for.
    pub(crate) late: bool,
    /// When `late` is set, once it ended.
    pub(crate) late_at: Instant,
}

impl OutgoingSubscription {
    pub(crate) fn new(token: Token, request: Key, priority: u8) -> Self {
        Self { token, request, priority, timed: true, ..Self::default() }
    }
}

/// All subscriptions of ours, by token and by number.
#[derive(Debug, Default)]
pub(crate) struct OutgoingSubscriptions {
    slab: Slab<OutgoingSubscription>,
    by_number: BTreeMap<u64, Key>,
    by_token: BTreeMap<Token, Key>,
}

impl OutgoingSubscriptions {
    pub(crate) fn insert(&mut self, subscription: OutgoingSubscription) -> Key {
        let (token, number) = (subscription.token, subscription.number);
        let key = self.slab.insert(subscription);
        self.by_token.insert(token, key);
        if let Some(number) = number {
            self.by_number.insert(number, key);
        }
        key
    }

    /// From now on groups name the subscription by `number`. Returns `false` if they name another
    /// one so.
    pub(crate) fn set_number(&mut self, key: Key, number: u64) -> bool {
        if self.by_number.get(&number).is_some_and(|other| *other != key) {
            return false;
        }
        if let Some(subscription) = self.slab.get_mut(key) {
            subscription.number = Some(number);
            self.by_number.insert(number, key);
        }
        true
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<OutgoingSubscription> {
        let subscription = self.slab.remove(key)?;
        self.by_token.remove(&subscription.token);
        if let Some(number) = subscription.number {
            self.by_number.remove(&number);
        }
        Some(subscription)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&OutgoingSubscription> {
        self.slab.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut OutgoingSubscription> {
        self.slab.get_mut(key)
    }

    pub(crate) fn by_number(&self, number: u64) -> Option<Key> {
        self.by_number.get(&number).copied()
    }

    pub(crate) fn by_token(&self, token: Token) -> Option<Key> {
        self.by_token.get(&token).copied()
    }

    /// Whether groups may name a subscription by a number that is not known yet.
    pub(crate) fn any_unnumbered(&self) -> bool {
        self.slab.len() > self.by_number.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_token.is_empty()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.by_token.values().copied()
    }
}

census! { each OutgoingSubscription {
    counts: active;
    plain: token, number, request, names, query, priority, info, timed, start, end, datagram_group, seen, expected, result, late, late_at;
} }
census! { OutgoingSubscriptions { counts: by_number, by_token; within: slab; } }
