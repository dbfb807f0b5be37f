//! What a request can be, and what each role remembers.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::census::census;
use crate::machine::source::Token;
use crate::path::Path;
use crate::slab::Key;

/// What a request is.
#[derive(Debug, Default)]
pub(super) enum Role {
    /// The peer opened it and has not said what for.
    #[default]
    New,
    /// Answered or given up. It goes when the peer's half is over; what comes on it is discarded.
    Done,
    /// It carries the others.
    Control,
    /// SUBSCRIBE_NAMESPACE of the peer, or what it is told unasked.
    AnnounceResponse(AnnounceResponse),
    /// PUBLISH_NAMESPACE of ours.
    OutgoingNamespace(Path),
    /// SUBSCRIBE_NAMESPACE of ours.
    AnnounceSubscription(AnnounceSubscription),
    /// PUBLISH_NAMESPACE of the peer.
    IncomingNamespace(Path),
    /// SUBSCRIBE of the peer.
    IncomingSubscription,
    /// The peer's subscription came to its end, which it has not confirmed.
    EndedSubscription,
    /// TRACK_STATUS of the peer.
    IncomingQuery,
    /// SUBSCRIBE of ours.
    OutgoingSubscription(Key),
    /// PUBLISH of the peer.
    Offer,
}

/// What we tell the peer of our broadcasts.
#[derive(Debug, Default)]
pub(super) struct AnnounceResponse {
    pub(super) prefix: Path,
    /// Each by a PUBLISH_NAMESPACE, because the peer may not ask; else by NAMESPACE as it asked.
    pub(super) unsolicited: bool,
    /// Where to read it, once the application said so.
    pub(super) reader: Option<Token>,
    /// The reader may have news.
    pub(super) ready: bool,
    /// What the peer knows, and the request that told it if there is one for each.
    pub(super) announced: BTreeMap<Path, Option<Key>>,
}

impl AnnounceResponse {
    pub(super) fn new(prefix: Path, unsolicited: bool) -> Self {
        Self { prefix, unsolicited, ..Self::default() }
    }

    pub(super) fn is_unsolicited(&self) -> bool {
        self.unsolicited
    }
}

/// What the peer tells us under one prefix.
#[derive(Debug)]
pub(super) struct AnnounceSubscription {
    pub(super) prefix: Path,
    pub(super) names: BTreeSet<Path>,
    pub(super) over: bool,
}

#[cfg(any(test, feature = "sim"))]
impl crate::census::Counted for Role {
    fn count(&self, name: &'static str, census: &mut crate::census::Census) {
        match self {
            Self::New | Self::Done => return,
            Self::AnnounceResponse(response) => response.count("Role.response", census),
            Self::AnnounceSubscription(subscription) => {
                subscription.count("Role.subscription", census)
            }
            _ => {}
        }
        census.add(name, 1);
    }
}

census! { each AnnounceResponse { counts: announced; plain: prefix, unsolicited, reader, ready; } }
census! { each AnnounceSubscription { counts: names; plain: prefix, over; } }
