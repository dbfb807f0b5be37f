//! What a request can be, and what each role remembers.

use alloc::collections::{BTreeMap, VecDeque};

use crate::census::census;
use crate::coding::lite::Probe;
use crate::error::Error;
use crate::hop::{Hop, Hops};
use crate::machine::source::Token;
use crate::path::Path;
use crate::slab::Key;
use crate::time::Instant;

/// What a request is.
#[derive(Debug, Default)]
pub(super) enum Role {
    /// The peer opened it and has not said what for.
    #[default]
    New,
    /// Answered or given up. It goes when the peer's half is over; what comes on it is discarded.
    Done,
    /// It settles which version is spoken (up to 02).
    VersionSetup,
    /// It did, and stands for the session now.
    Session,
    /// GOAWAY of the peer.
    PeerGoaway,
    /// GOAWAY of ours, which the peer has not confirmed by ending its half.
    OurGoaway,
    /// The peer hears of our broadcasts.
    AnnounceResponse(AnnounceResponse),
    /// We hear of the peer's.
    AnnounceSubscription(AnnounceSubscription),
    /// The peer subscribed.
    IncomingSubscription,
    /// The peer's subscription came to its end, which it has not confirmed.
    EndedSubscription,
    /// The peer asked what a track is.
    IncomingQuery,
    /// The peer asked for a group.
    IncomingFetch,
    /// We asked for a group.
    OutgoingFetch(Token),
    /// It comes: what is read is not the request's any more.
    DetachedFetch,
    /// We subscribed.
    OutgoingSubscription(Key),
    /// We asked what the track of a subscription is.
    SubscriptionQuery(Key),
    /// We asked what a track is, and did not subscribe.
    TrackQuery(Token),
    /// The peer asked what we know of the path.
    ProbeReports,
    /// We asked what the peer knows of the path.
    Probe,
    /// We did, and do not want to know any more. The peer has not ended it.
    EndedProbe,
}

/// What we tell the peer of our broadcasts.
#[derive(Debug, Default)]
pub(super) struct AnnounceResponse {
    /// Where to read it, once the application said so.
    pub(super) reader: Option<Token>,
    /// The reader may have news.
    pub(super) ready: bool,
    /// What there is at first, until that is said in ANNOUNCE_INIT.
    pub(super) initial: Option<u64>,
    /// The answer that comes before announcements was given.
    pub(super) answered: bool,
    /// What the peer knows.
    pub(super) announced: BTreeMap<Path, AnnouncedPath>,
    pub(super) next_id: u64,
}

/// An announcement of ours.
#[derive(Debug, Default)]
pub(super) struct AnnouncedPath {
    pub(super) id: u64,
    /// Its hops on the wire, where another route is told by an end and a beginning.
    pub(super) hops: Hops,
}

/// What the peer tells us of its broadcasts.
#[derive(Debug, Default)]
pub(super) struct AnnounceSubscription {
    pub(super) prefix: Path,
    /// Who the peer says it is, where it does; there is one when what comes before announcements came.
    pub(super) responder: Option<Hop>,
    /// What ANNOUNCE_INIT had, as far as it was not looked at.
    pub(super) initial: VecDeque<Path>,
    pub(super) live: BTreeMap<Path, PeerAnnouncement>,
    pub(super) by_id: BTreeMap<u64, NamedAnnouncement>,
    pub(super) next_id: u64,
    /// Some were not kept: their ids are not known.
    pub(super) overflowed: bool,
    /// Bytes to come of a message that is too long.
    pub(super) skipped: usize,
    pub(super) over: bool,
}

/// An announcement of the peer.
#[derive(Debug)]
pub(super) struct PeerAnnouncement {
    pub(super) id: u64,
    /// The application was told; loops are kept to themselves.
    pub(super) reported: bool,
}

/// What an id of the peer stands for.
#[derive(Debug)]
pub(super) struct NamedAnnouncement {
    pub(super) suffix: Path,
    /// As they were on the wire, for others to build on, where they may.
    pub(super) hops: Hops,
}

impl AnnounceSubscription {
    pub(super) fn new(prefix: Path) -> Self {
        Self { prefix, ..Self::default() }
    }
}

/// The peer asked what we know of the path.
#[derive(Debug)]
pub(super) struct ProbeReports {
    pub(super) request: Key,
    /// What was told last, and when.
    pub(super) last: Option<(Instant, Probe)>,
    pub(super) timer: Option<Instant>,
}

/// What we asked the peer of the path.
#[derive(Debug, Default)]
pub(super) struct ProbeRequest {
    pub(super) wanted: bool,
    /// Also one that is not wanted any more, until the peer has ended it.
    pub(super) request: Option<Key>,
    /// The peer can't tell, or won't: it is not asked again.
    pub(super) over: Option<Error>,
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

census! { each AnnounceResponse { counts: announced; plain: reader, ready, initial, answered, next_id; } }
census! { each AnnounceSubscription {
    counts: initial, live, by_id;
    plain: prefix, responder, next_id, overflowed, skipped, over;
} }
census! { each ProbeReports { counts: timer; plain: request, last; } }
census! { ProbeRequest { counts: wanted, request; plain: over; } }
