//! The peer's subscriptions to our tracks, as every dialect keeps them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::census::census;
use crate::slab::Key;
use crate::subscription::Subscription;
use crate::time::Instant;

/// A subscription of the peer.
#[derive(Clone, Debug)]
pub(crate) struct IncomingSubscription {
    request: Key,
    /// How its groups name it: the subscribe id (moq-lite), the track alias (moq-transport).
    pub(crate) number: u64,
    pub(crate) options: Subscription,
    /// The publisher's priority of the track, once it was accepted.
    pub(crate) publisher: u8,
    /// Its track in the schedule, once it was accepted.
    pub(crate) track: Option<Key>,
    /// The first group, as it was promised to the peer.
    pub(crate) start: Option<u64>,
    /// All groups are given. Those from this one on do not exist.
    pub(crate) ending: Option<u64>,
}

/// All subscriptions of the peer, by slot of the request.
#[derive(Debug, Default)]
pub(crate) struct IncomingSubscriptions {
    by_slot: Vec<Option<IncomingSubscription>>,
    by_track: BTreeMap<Key, Key>,
    len: usize,
    /// How many requests wait for the peer to confirm their end.
    pub(crate) unconfirmed: usize,
    /// Until when the peer may still read what it can't confirm. Some peers throw away what they
    /// have not read when the session closes.
    pub(crate) unread_until: Option<Instant>,
}

impl IncomingSubscriptions {
    pub(crate) fn insert(&mut self, request: Key, number: u64, options: Subscription) {
        let slot = request.0 as usize;
        if slot >= self.by_slot.len() {
            self.by_slot.resize_with(slot + 1, || None);
        }
        let (track, start, ending) = Default::default();
        let subscription =
            IncomingSubscription { request, number, options, publisher: 0, track, start, ending };
        self.len += usize::from(self.by_slot[slot].replace(subscription).is_none());
    }

    pub(crate) fn get_mut(&mut self, request: Key) -> Option<&mut IncomingSubscription> {
        let subscription = self.by_slot.get_mut(request.0 as usize)?.as_mut();
        subscription.filter(|subscription| subscription.request == request)
    }

    pub(crate) fn bind(&mut self, track: Key, request: Key) {
        self.by_track.insert(track, request);
    }

    pub(crate) fn by_track(&self, track: Key) -> Option<Key> {
        self.by_track.get(&track).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn remove(&mut self, request: Key) -> Option<IncomingSubscription> {
        self.get_mut(request)?;
        self.len -= 1;
        let subscription = self.by_slot[request.0 as usize].take()?;
        if let Some(track) = subscription.track {
            self.by_track.remove(&track);
        }
        Some(subscription)
    }

    /// The number of remembered entries.
    #[cfg(test)]
    pub(crate) fn entries(&self) -> usize {
        self.by_track.len() + self.len + self.unconfirmed
    }
}

census! { each IncomingSubscription { plain: request, number, options, publisher, track, start, ending; } }
census! { IncomingSubscriptions { counts: by_track, unconfirmed; within: by_slot; plain: len, unread_until; } }
