//! The tracks that the peer offers by PUBLISH (moq-transport-22, 3.1), and the track aliases that
//! are out of use.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};

use crate::census::census;
use crate::coding::ietf::{Location, TrackProperties};
use crate::path::Path;
use crate::slab::Key;

/// Track aliases of subscriptions that are over. Groups that still arrive for them are stopped at
/// once, instead of waiting for a subscription that never comes. The oldest alias is forgotten
/// first: then such a group waits for its timeout.
#[derive(Debug, Default)]
pub(super) struct RetiredAliases(VecDeque<u64>);

impl RetiredAliases {
    /// How many aliases are remembered. Older ones cost at most a timeout.
    const MAX: usize = 64;

    /// Whether no subscription uses this alias any more.
    pub(super) fn contains(&self, alias: u64) -> bool {
        self.0.contains(&alias)
    }

    /// The subscription with this alias is over.
    pub(super) fn push(&mut self, alias: u64) {
        if self.0.len() == Self::MAX {
            self.0.pop_front();
        }
        self.0.push_back(alias);
    }

    /// The publisher may give an alias again after its subscription ended.
    pub(super) fn reuse(&mut self, alias: u64) {
        self.0.retain(|retired_aliases| *retired_aliases != alias);
    }
}

/// The tracks that the peer offers.
#[derive(Debug, Default)]
pub(super) struct Offers {
    pub(super) by_key: BTreeMap<Key, Offer>,
    /// Which offer serves a subscription to this track.
    pub(super) by_name: BTreeMap<(Path, Box<str>), Key>,
    /// The publisher chooses the aliases, and one alias for two tracks is an error (3.1.3).
    pub(super) aliases: BTreeMap<u64, Key>,
}

/// One track that the peer offers.
#[derive(Debug, Default)]
pub(super) struct Offer {
    pub(super) path: Path,
    pub(super) track: Box<str>,
    pub(super) alias: u64,
    pub(super) properties: TrackProperties,
    /// Its largest object when it was offered.
    pub(super) largest: Option<Location>,
    /// The peer sends nothing before it is told to (FORWARD 0).
    pub(super) is_paused: bool,
    /// The application wants to know of it.
    pub(super) accepted: bool,
    /// It counts as an announcement of its broadcast.
    pub(super) has_broadcast: bool,
    /// Our subscription to it; while there is none, the peer is told not to send.
    pub(super) sub: Option<Key>,
}

impl Offers {
    /// Whether the application has not answered the offer yet.
    pub(super) fn is_open(&self, key: Key) -> bool {
        self.by_key.get(&key).is_some_and(|offer| !offer.accepted)
    }

    /// Whether an offered track has this alias: its groups have no reader while nobody subscribed.
    pub(super) fn has_alias(&self, alias: u64) -> bool {
        self.aliases.contains_key(&alias)
    }

    /// Forgets an offer. The name may belong to a newer one by now.
    pub(super) fn remove(&mut self, key: Key) -> Option<Offer> {
        let offer = self.by_key.remove(&key)?;
        self.aliases.remove(&offer.alias);
        let name = (offer.path.clone(), offer.track.clone());
        if self.by_name.get(&name) == Some(&key) {
            self.by_name.remove(&name);
        }
        Some(offer)
    }
}

census! { each Offer { plain: path, track, alias, properties, largest, is_paused, accepted, has_broadcast, sub; } }
census! { Offers { counts: by_name, aliases; within: by_key; } }
