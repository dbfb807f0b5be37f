//! The roles of requests, and the state of each role.
//!
//! From draft 17 on a request is a stream of its own. Up to draft 16 it is an id on the control stream.
//! Roles are the same for both: they are in a table by the slot of the request.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};

use crate::census::census;
use crate::coding::ietf::{Filter, Parameters, TrackProperties, Wanted};
use crate::error::Error;
use crate::machine::engine::FetchId;
use crate::machine::source::Token;
use crate::path::Path;
use crate::slab::Key;

/// The role of a request. "We" and "our" are this end of the connection; either end can be publisher
/// and subscriber at the same time.
#[derive(Debug, Default)]
pub(super) enum Role {
    /// The first message of the peer, which says what the request is for, has not arrived yet.
    #[default]
    New,
    /// Answered or given up. Further bytes of the peer are discarded, and the request is
    /// forgotten when both halves are over.
    Done,
    /// The control stream, which carries the other requests (up to 16).
    Control,
    /// SUBSCRIBE_NAMESPACE or SUBSCRIBE_TRACKS of the peer; or no request at all, where we announce unsolicited.
    AnnounceResponse(AnnounceResponse),
    /// PUBLISH_NAMESPACE of ours.
    OutgoingNamespace(Path),
    /// SUBSCRIBE_NAMESPACE or SUBSCRIBE_TRACKS of ours.
    AnnounceSubscription(AnnounceSubscription),
    /// PUBLISH_NAMESPACE of the peer. It is announced once the application accepted it.
    IncomingNamespace { path: Path, is_accepted: bool },
    /// PUBLISH of ours, with the names of its track, until the peer accepts it. Then it is a subscription of the peer.
    Published(Box<(Path, Box<str>)>),
    /// SUBSCRIBE of the peer. Until it was accepted, what it says about where it begins.
    IncomingSubscription(Option<Box<SubscriptionStart>>),
    /// TRACK_STATUS of the peer.
    IncomingQuery,
    /// FETCH of the peer. If its answer began before its end was known, FETCH_OK follows the group, with these
    /// properties.
    IncomingFetch(Option<Box<TrackProperties>>),
    /// A joining FETCH of the peer that waits for its subscription to be accepted.
    Join(Box<Join>),
    /// A fill: an answer to the SUBSCRIBE of this id, beside the subscription.
    Fill { id: u64 },
    /// SUBSCRIBE of ours.
    OutgoingSubscription(Key),
    /// FETCH of ours.
    OutgoingFetch {
        fetch: FetchId,
        /// Whether the track has a timescale, once FETCH_OK said it.
        timed: Option<bool>,
    },
    /// PUBLISH of the peer.
    Offer,
}

/// Where a subscription of the peer begins.
#[derive(Debug)]
pub(super) struct SubscriptionStart {
    pub(super) filter: Option<Filter>,
    /// FILL_PARAMETERS.
    pub(super) fill: Option<Box<Parameters>>,
}

/// A joining FETCH of the peer.
#[derive(Clone, Debug)]
pub(super) struct Join {
    /// The id of its subscription.
    pub(super) subscription: u64,
    pub(super) filter: Filter,
    pub(super) parameters: Parameters,
}

/// The broadcasts that we announce under one prefix, or whose tracks we offer.
#[derive(Debug, Default)]
pub(super) struct AnnounceResponse {
    pub(super) prefix: Path,
    /// The peer did not ask: each broadcast is a PUBLISH_NAMESPACE of its own. Otherwise it is a
    /// NAMESPACE on the peer's request.
    pub(super) unsolicited: bool,
    pub(super) wanted: Wanted,
    /// The peer wants tracks, by PUBLISH: the parameters of SUBSCRIBE_TRACKS.
    pub(super) tracks: Option<Box<Parameters>>,
    /// Where to read our broadcasts, once the application accepted the request.
    pub(super) reader: Option<Token>,
    /// The reader may have changes.
    pub(super) ready: bool,
    /// The suffixes that the peer has from us, each with its PUBLISH_NAMESPACE if it has one.
    pub(super) announced: BTreeMap<Path, Option<Key>>,
}

/// The broadcasts that the peer announces under one prefix that we asked for, or whose tracks it offers.
#[derive(Debug, Default)]
pub(super) struct AnnounceSubscription {
    pub(super) prefix: Path,
    /// The suffixes in force. A NAMESPACE_DONE for any other one ends nothing.
    pub(super) names: BTreeSet<Path>,
    /// Names the request for tracks, if it is one. Those are offered by PUBLISH.
    pub(super) tracks: Option<Token>,
    /// Why the stream is over. The end of each broadcast remains to be reported.
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

census! { each AnnounceResponse { counts: announced; plain: prefix, unsolicited, wanted, tracks, reader, ready; } }
census! { each AnnounceSubscription { counts: names; plain: prefix, tracks, over; } }
