//! The tracks that the peer offers by PUBLISH, and the track aliases that are out of use.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};

use crate::census::census;
use crate::coding::ietf::TrackProperties;
use crate::path::Path;
use crate::slab::Key;

/// Aliases of subscriptions that are over: what still comes for them is not waited for.
#[derive(Debug, Default)]
pub(super) struct RetiredAliases(VecDeque<u64>);

impl RetiredAliases {
    const MAX: usize = 64;

    pub(super) fn contains(&self, alias: u64) -> bool {
        self.0.contains(&alias)
    }

    pub(super) fn push(&mut self, alias: u64) {
        if self.0.len() == Self::MAX {
            self.0.pop_front();
        }
        self.0.push_back(alias);
    }

    pub(super) fn reuse(&mut self, alias: u64) {
        self.0.retain(|retired_aliases| *retired_aliases != alias);
    }
}

/// Tracks that the peer offers.
#[derive(Debug, Default)]
pub(super) struct Offers {
    pub(super) by_key: BTreeMap<Key, Offer>,
    pub(super) by_name: BTreeMap<(Path, Box<str>), Key>,
    pub(super) aliases: BTreeMap<u64, Key>,
}

#[derive(Debug)]
pub(super) struct Offer {
    pub(super) path: Path,
    pub(super) track: Box<str>,
    pub(super) alias: u64,
    pub(super) properties: TrackProperties,
    pub(super) accepted: bool,
    /// Its broadcast was announced by it, or known before.
    pub(super) has_broadcast: bool,
    pub(super) sub: Option<Key>,
}

impl Offers {
    /// Whether the application has not said yet whether it wants it.
    pub(super) fn is_open(&self, key: Key) -> bool {
        self.by_key.get(&key).is_some_and(|offer| !offer.accepted)
    }

    pub(super) fn has_alias(&self, alias: u64) -> bool {
        self.aliases.contains_key(&alias)
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.by_key.len() + self.by_name.len() + self.aliases.len()
    }

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

census! { each Offer { plain: path, track, alias, properties, accepted, has_broadcast, sub; } }
census! { Offers { counts: by_name, aliases; within: by_key; } }
