//! The roles of requests, and the state of each role.
//!
//! Every stream of moq-lite that carries messages is a request of its own. Its role says what the
//! next bytes on it mean, and which state they change.

use alloc::collections::{BTreeMap, VecDeque};

use crate::census::census;
use crate::coding::lite::Probe;
use crate::error::Error;
use crate::hop::{Hop, Hops};
use crate::machine::source::Token;
use crate::path::Path;
use crate::slab::Key;
use crate::time::Instant;

/// The kind of a request. "We" and "our" are this end of the connection; either end can be publisher
/// and subscriber at the same time.
#[derive(Debug)]
pub(super) enum Role {
    /// Answered or given up. Further bytes of the peer are discarded, and the request is
    /// forgotten when both halves are over.
    Done,
    /// The stream that carries CLIENT_SETUP and SERVER_SETUP (up to 02).
    VersionSetup,
    /// The same stream after that exchange: its end is the end of the session.
    Session,
    /// GOAWAY of the peer (5.1.6).
    PeerGoaway,
    /// The peer asked for announcements (5.1.1).
    AnnounceResponse(AnnounceResponse),
    /// We asked for announcements.
    AnnounceSubscription(AnnounceSubscription),
    /// A subscription of the peer (5.1.2).
    IncomingSubscription,
    /// The peer asked for TRACK_INFO (5.1.4).
    IncomingQuery,
    /// The peer asked for a group (5.1.3).
    IncomingFetch,
    /// We asked for a group, and no answer has arrived.
    OutgoingFetch(Token),
    /// The answer arrives. It is read as a group, so the receive half is not the request's any
    /// more.
    DetachedFetch,
    /// A subscription of ours.
    OutgoingSubscription(Key),
    /// Our TRACK that belongs to a subscription of ours.
    SubscriptionQuery(Key),
    /// Our TRACK without a subscription.
    TrackQuery(Token),
    /// The peer asked for PROBE messages (5.1.5).
    ProbeReports,
    /// We asked for PROBE messages.
    Probe,
    /// We asked for PROBE messages and do not want them any more. The peer has not ended its half
    /// yet.
    EndedProbe,
}

/// Our answer to an announce request of the peer.
#[derive(Debug, Default)]
pub(super) struct AnnounceResponse {
    /// Where to read our broadcasts, once the application accepted the request.
    pub(super) reader: Option<Token>,
    /// The reader may have changes.
    pub(super) ready: bool,
    /// How many broadcasts ANNOUNCE_INIT may have (01 and 02), until it is written.
    pub(super) initial: Option<u64>,
    /// ANNOUNCE_INIT or ANNOUNCE_OK is written. Before it neither an announcement nor FIN is legal.
    pub(super) answered: bool,
    /// The announcements that the peer has from us.
    pub(super) announced: BTreeMap<Path, AnnouncedPath>,
    /// The announce id of the next ANNOUNCE_START. Ids are not on the wire: both ends count (7.6).
    pub(super) next_id: u64,
}

/// An announcement that the peer has from us.
#[derive(Debug, Default)]
pub(super) struct AnnouncedPath {
    /// How ANNOUNCE_UPDATE and ANNOUNCE_END name it (06 and later).
    pub(super) id: u64,
    /// The hops that were written. Only set where another route must be announced by an end and a
    /// beginning (03 and 04).
    pub(super) hops: Hops,
}

/// Our announce request, and what the peer announced on it.
#[derive(Debug, Default)]
pub(super) struct AnnounceSubscription {
    /// The prefix that we asked for. The suffixes on the wire are relative to it.
    pub(super) prefix: Path,
    /// The Hop ID of the peer, from ANNOUNCE_OK (7.5); unknown on versions without it. `None` until
    /// the first answer arrived.
    pub(super) responder: Option<Hop>,
    /// Suffixes of ANNOUNCE_INIT that were not reported yet. One event goes out at a time.
    pub(super) initial: VecDeque<Path>,
    /// The announcements in force, also those that are not reported.
    pub(super) live: BTreeMap<Path, PeerAnnouncement>,
    /// The same by announce id (06 and later).
    pub(super) by_id: BTreeMap<u64, NamedAnnouncement>,
    /// The id of the next ANNOUNCE_START. One that is ignored takes an id too.
    pub(super) next_id: u64,
    /// An announcement was not kept for want of room. From then on an unknown id or base may be our
    /// fault, so that it does not close the session.
    pub(super) overflowed: bool,
    /// Bytes that are still to be skipped of a message that is too long.
    pub(super) skipped: usize,
    /// The stream is over. Only the end of each announcement has to be reported.
    pub(super) over: bool,
}

/// An announcement of the peer.
#[derive(Debug)]
pub(super) struct PeerAnnouncement {
    /// Its announce id.
    pub(super) id: u64,
    /// The application knows it. Routes that came through us are loops and not reported (5.1.1.1).
    pub(super) reported: bool,
}

/// The announcement that an announce id of the peer names.
#[derive(Debug)]
pub(super) struct NamedAnnouncement {
    pub(super) suffix: Path,
    /// The hops as they were on the wire. Later announcements may build on them (07); empty before.
    pub(super) hops: Hops,
}

impl AnnounceSubscription {
    pub(super) fn new(prefix: Path) -> Self {
        Self { prefix, ..Self::default() }
    }
}

/// The peer's request for PROBE messages. The draft allows several, but one gives the same answer.
#[derive(Debug)]
pub(super) struct ProbeReports {
    pub(super) request: Key,
    /// The last report, and when it was written.
    pub(super) last: Option<(Instant, Probe)>,
    /// The deadline that is set for the next report.
    pub(super) timer: Option<Instant>,
}

/// Our request for PROBE messages.
#[derive(Debug, Default)]
pub(super) struct ProbeRequest {
    /// The application wants estimates.
    pub(super) wanted: bool,
    /// The open stream; also one that is not wanted any more, until the peer ended it.
    pub(super) request: Option<Key>,
    /// The peer can't report, or refused. A peer that ended a Probe stream is not asked again.
    pub(super) over: Option<Error>,
}

#[cfg(any(test, feature = "sim"))]
impl crate::census::Counted for Role {
    fn count(&self, name: &'static str, census: &mut crate::census::Census) {
        match self {
            Self::Done => return,
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
