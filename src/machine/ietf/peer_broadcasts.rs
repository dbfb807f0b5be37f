//! The broadcasts that the peer announces, and the paths that we announced to it.
//!
//! A peer may name one broadcast several times: by PUBLISH_NAMESPACE, by NAMESPACE under each
//! requested prefix, and by each track that it offers. The application sees one announcement, which ends
//! with the last of them. A relay may also name a broadcast that it received from us. Such an echo is not
//! reported, because the drafts have no hops by which a loop could be detected.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::census::census;
use crate::machine::source::Token;
use crate::path::Path;
use crate::slab::Key;
use crate::time::Instant;

/// A broadcast that the peer announces.
#[derive(Debug, Default)]
pub(super) struct PeerBroadcasts {
    /// The broadcasts that the peer announces.
    pub(super) live: BTreeMap<Path, PeerBroadcast>,
    /// The paths that we announced. The peer may echo them.
    pub(super) announced: BTreeMap<Path, AnnouncedPath>,
    /// When to look again at announcements that are hidden, because they may be echoes.
    pub(super) hidden: BTreeMap<Path, Instant>,
    /// The role that announces unsolicited, if the peer may not ask.
    pub(super) announcer: Option<Key>,
    /// Prefixes for which no request was sent yet, for want of credit: those of interest, and those whose tracks are
    /// wanted, with the name of the request.
    pub(super) pending_prefixes: BTreeSet<(Option<Token>, Path)>,
}

/// A path that we announced.
#[derive(Debug, Default)]
pub(super) struct AnnouncedPath {
    /// On how many requests.
    pub(super) count: usize,
    /// Whether the peer took it, or does not want it, or not any more; `None` before its answer.
    pub(super) is_taken: Option<bool>,
    /// The broadcast begins in this process.
    pub(super) is_own: bool,
    /// Its PUBLISH_NAMESPACE, if it has one; the latest if there are several.
    pub(super) request: Option<Key>,
}

#[derive(Debug, Default)]
pub(super) struct PeerBroadcast {
    /// By how many announcements and offered tracks.
    pub(super) count: usize,
    /// How many of them are announcements; the others are offered tracks.
    pub(super) named: usize,
    /// How many of the announcements are of the predecessor of this broadcast: their ends say
    /// nothing new.
    pub(super) stale: usize,
    /// One announcement of this broadcast ended while others remain. If another one begins, it is
    /// of a new broadcast under the same path.
    pub(super) has_ended: bool,
    /// The application knows it. Echoes of our own broadcasts are not reported.
    pub(super) reported: bool,
    /// Its PUBLISH_NAMESPACE, the latest one if there are several.
    pub(super) request: Option<Key>,
}

census! { PeerBroadcasts { counts: live, announced, hidden, pending_prefixes; plain: announcer; } }
