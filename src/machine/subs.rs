//! What we ask of the peer's tracks, as every dialect keeps it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::Core;
use super::app::Event;
use super::io::Token;
use crate::census::census;
use crate::error::Error;
use crate::slab::{Key, Slab};
use crate::subscription::TrackInfo;

/// A subscription of ours.
#[derive(Debug)]
pub(super) struct Sub {
    pub(super) token: Token,
    /// What groups name it by: the subscribe id (moq-lite), the track alias (moq-transport).
    pub(super) number: Option<u64>,
    pub(super) request: Key,
    /// The question what the track is, while it is open.
    pub(super) query: Option<Key>,
    pub(super) priority: u8,
    /// What the track is; groups wait for it.
    pub(super) info: Option<TrackInfo>,
    /// The track says what its timestamps count.
    pub(super) timed: bool,
    /// The first group that the peer promised.
    pub(super) start: Option<u64>,
    pub(super) end: Option<u64>,
    /// Group streams that are being read.
    pub(super) active: Vec<Key>,
    /// Group streams that came.
    pub(super) seen: u64,
    /// How many will have come, once that is known.
    pub(super) expected: Option<u64>,
    /// How it ended, while groups may still come.
    pub(super) result: Option<Result<(), Error>>,
    /// Time is up for groups that did not come.
    pub(super) late: bool,
}

impl Sub {
    pub(super) fn new(token: Token, request: Key, priority: u8) -> Self {
        Self {
            token,
            number: None,
            request,
            query: None,
            priority,
            info: None,
            timed: true,
            start: None,
            end: None,
            active: Vec::new(),
            seen: 0,
            expected: None,
            result: None,
            late: false,
        }
    }
}

/// All of them, by the names that they go by.
#[derive(Debug, Default)]
pub(super) struct Subs {
    slab: Slab<Sub>,
    by_number: BTreeMap<u64, Key>,
    by_token: BTreeMap<Token, Key>,
}

impl Subs {
    pub(super) fn insert(&mut self, sub: Sub) -> Key {
        let (token, number) = (sub.token, sub.number);
        let key = self.slab.insert(sub);
        self.by_token.insert(token, key);
        if let Some(number) = number {
            self.by_number.insert(number, key);
        }
        key
    }

    /// Groups name the subscription by `number` from now on. `false` if they name another one so.
    pub(super) fn set_number(&mut self, key: Key, number: u64) -> bool {
        if self.by_number.get(&number).is_some_and(|other| *other != key) {
            return false;
        }
        if let Some(sub) = self.slab.get_mut(key) {
            sub.number = Some(number);
            self.by_number.insert(number, key);
        }
        true
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Sub> {
        let sub = self.slab.remove(key)?;
        self.by_token.remove(&sub.token);
        if let Some(number) = sub.number {
            self.by_number.remove(&number);
        }
        Some(sub)
    }

    pub(super) fn get(&self, key: Key) -> Option<&Sub> {
        self.slab.get(key)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Sub> {
        self.slab.get_mut(key)
    }

    pub(super) fn by_number(&self, number: u64) -> Option<Key> {
        self.by_number.get(&number).copied()
    }

    pub(super) fn by_token(&self, token: Token) -> Option<Key> {
        self.by_token.get(&token).copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_token.is_empty()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.by_token.values().copied()
    }

    /// Everything that is remembered.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.slab.len() + self.by_number.len() + self.by_token.len()
    }
}

impl Core {
    /// Why a subscription of ours can't be made now.
    pub(super) fn admit(&self, token: Token) -> Result<(), Error> {
        if self.going_away || self.state.is_ending() {
            return Err(Error::GoingAway);
        }
        if self.subs.slab.len() >= self.limits.subscriptions {
            return Err(Error::Limit("subscriptions"));
        }
        if self.subs.by_token(token).is_some() {
            return Err(Error::Duplicate);
        }
        Ok(())
    }

    /// A subscription of ours that never began.
    pub(super) fn refuse_sub(&mut self, token: Token, error: Error) {
        let result = Err(error);
        self.notices.push_back(Event::SubscribeEnded { subscription: token, result });
    }

    /// What a track is where nothing says it.
    pub(super) fn unsaid(&self) -> TrackInfo {
        TrackInfo { max_age: self.limits.max_age, ..TrackInfo::default() }
    }

    /// The track is known: its groups may be read.
    pub(super) fn informed(&mut self, key: Key, info: TrackInfo) -> Option<Event> {
        let sub = self.subs.get_mut(key)?;
        sub.info = Some(info.clone());
        sub.query = None;
        let (subscription, number) = (sub.token, sub.number);
        if let Some(number) = number {
            self.release_held(number);
        }
        Some(Event::TrackInfo { subscription, info })
    }
}

census! { each Sub {
    counts: active;
    plain: token, number, request, query, priority, info, timed, start, end, seen, expected, result, late;
} }
census! { Subs { counts: by_number, by_token; within: slab; } }
