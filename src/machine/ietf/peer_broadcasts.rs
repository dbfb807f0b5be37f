//! The broadcasts that the peer announces, and the paths that we announced: the peer may echo those.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::census::census;
use crate::path::Path;
use crate::slab::Key;

/// All broadcasts of the peer, in how many ways it said so.
#[derive(Debug, Default)]
pub(super) struct PeerBroadcasts {
    pub(super) live: BTreeMap<Path, PeerBroadcast>,
    /// Paths that we told the peer of: it may tell us of them in turn.
    pub(super) announced: BTreeMap<Path, AnnouncedPath>,
    /// Those that we took back: if it tells of one still when all was said, that was not in turn.
    pub(super) withdrawn: BTreeSet<Path>,
    pub(super) announcer: Option<Key>,
    /// Prefixes that were not asked for yet.
    pub(super) pending_interests: BTreeSet<Path>,
}

/// What the peer was told of a path.
#[derive(Debug, Default)]
pub(super) struct AnnouncedPath {
    /// In how many ways.
    pub(super) count: usize,
    /// It took note. What it names before that is its own.
    pub(super) acknowledged: bool,
}

#[derive(Debug)]
pub(super) struct PeerBroadcast {
    pub(super) count: usize,
    /// How many of them name it; the others are its tracks.
    pub(super) named: usize,
    /// How many name what was there before: their ends say nothing new.
    pub(super) stale: usize,
    /// Whether one ended that named what is there: if another one begins, it names another broadcast.
    pub(super) has_ended: bool,
    /// The application was told; our own broadcasts are kept to themselves.
    pub(super) reported: bool,
}

census! { PeerBroadcasts { counts: live, announced, withdrawn, pending_interests; plain: announcer; } }
