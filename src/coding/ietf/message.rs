//! The control messages (*Control Messages*) as they are in memory: the same for every draft.

use alloc::boxed::Box;
use core::time::Duration;

#[cfg(doc)]
use super::Draft;
use super::Location;
use super::parameters::Parameters;
use super::properties::TrackProperties;
use crate::path::Path;

/// SUBSCRIBE, and TRACK_STATUS, which has the same fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Request id.
    pub id: u64,
    /// The broadcast.
    pub namespace: Path,
    /// Name of the track.
    pub track: Box<str>,
    /// What is wanted.
    pub parameters: Parameters,
}

/// SUBSCRIBE_OK.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOk {
    /// Which request is answered, up to 16.
    pub id: Option<u64>,
    /// What data streams will call the track.
    pub alias: u64,
    /// LARGEST_OBJECT and EXPIRES.
    pub parameters: Parameters,
    /// Of the track.
    pub properties: TrackProperties,
}

/// REQUEST_UPDATE: changes a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestUpdate {
    /// Request id of its own.
    pub id: u64,
    /// The request that it changes, up to 16; after that it is the one of the stream.
    pub existing: Option<u64>,
    /// What changes; the rest stays as it is.
    pub parameters: Parameters,
}

/// UNSUBSCRIBE, up to 16. Later only received: some peers still cancel with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Which subscription. After 16 it is missing, or one of the peers' mind.
    pub id: Option<u64>,
}

/// PUBLISH: offers a track that nobody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Request id.
    pub id: u64,
    /// The broadcast.
    pub namespace: Path,
    /// Name of the track.
    pub track: Box<str>,
    /// What data streams will call it.
    pub alias: u64,
    /// What is there.
    pub parameters: Parameters,
    /// Of the track.
    pub properties: TrackProperties,
}

/// PUBLISH_DONE: a subscription has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishDone {
    /// Which, up to 16.
    pub id: Option<u64>,
    /// Why: [`Draft::done_error`].
    pub status: u64,
    /// How many data streams were opened for it, `None` if not known.
    pub streams: Option<u64>,
    /// For humans, at most 1024 bytes.
    pub reason: Box<str>,
}

/// PUBLISH_NAMESPACE: announces a broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishNamespace {
    /// Request id.
    pub id: u64,
    /// The broadcast.
    pub namespace: Path,
    /// None that are known here.
    pub parameters: Parameters,
}

/// PUBLISH_NAMESPACE_DONE, up to 16: the announcement is withdrawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishNamespaceDone {
    /// Which.
    pub id: u64,
}

/// PUBLISH_NAMESPACE_CANCEL, up to 16: the announcement is not wanted any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishNamespaceCancel {
    /// Which.
    pub id: u64,
    /// Why: [`Draft::request_error`].
    pub code: u64,
    /// For humans, at most 1024 bytes.
    pub reason: Box<str>,
}

/// SUBSCRIBE_NAMESPACE: asks for the broadcasts under a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeNamespace {
    /// Request id.
    pub id: u64,
    /// Only broadcasts under it.
    pub prefix: Path,
    /// What is to come; from 18 on only [`Wanted::Namespaces`].
    pub wanted: Wanted,
    /// FORWARD, up to 16.
    pub parameters: Parameters,
}

/// What a SUBSCRIBE_NAMESPACE asks for (*Subscribe Options*).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// PUBLISH of each track.
    Tracks = 0,
    /// NAMESPACE of each broadcast.
    #[default]
    Namespaces = 1,
    /// Both.
    Both = 2,
}

/// SUBSCRIBE_TRACKS (18+): asks for PUBLISH of each track under a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeTracks {
    /// Request id.
    pub id: u64,
    /// Only tracks of broadcasts under it.
    pub prefix: Path,
    /// FORWARD.
    pub parameters: Parameters,
}

/// NAMESPACE: there is a broadcast under the prefix that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Relative to the prefix.
    pub suffix: Path,
}

/// NAMESPACE_DONE: the broadcast of a NAMESPACE is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceDone {
    /// Relative to the prefix.
    pub suffix: Path,
}

/// PUBLISH_BLOCKED (17+): a track of SUBSCRIBE_TRACKS that can't be offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishBlocked {
    /// Relative to the prefix.
    pub suffix: Path,
    /// Name of the track.
    pub track: Box<str>,
}

/// REQUEST_OK and PUBLISH_OK: yes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestOk {
    /// Which request is answered, up to 16.
    pub id: Option<u64>,
    /// What the answer says.
    pub parameters: Parameters,
    /// Of the track, in answer to TRACK_STATUS (18+).
    pub properties: TrackProperties,
}

/// REQUEST_ERROR: no.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestError {
    /// Which request is answered, up to 16.
    pub id: Option<u64>,
    /// Why: [`Draft::request_error`].
    pub code: u64,
    /// How long to wait before asking again; `None`: not at all.
    pub retry: Option<Duration>,
    /// For humans, at most 1024 bytes.
    pub reason: Box<str>,
    /// Only and always with the code [`REDIRECT`](super::REDIRECT) (18+).
    pub redirect: Option<Redirect>,
}

/// Where to go instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// Empty is this session.
    pub uri: Box<str>,
    /// The broadcast.
    pub namespace: Path,
    /// Name of the track. With no namespace and no name it is the same track.
    pub track: Box<str>,
}

/// FETCH: asks for objects that were published before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Request id.
    pub id: u64,
    /// Which objects.
    pub target: FetchTarget,
    /// How they are to come.
    pub parameters: Parameters,
}

/// What a FETCH asks for (*Fetch Types*).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchTarget {
    /// A range of a track.
    Standalone {
        /// The broadcast.
        namespace: Path,
        /// Name of the track.
        track: Box<str>,
        /// The first object.
        start: Location,
        /// The last one. That it is not before `start` is for the receiver to check: the answer is
        /// INVALID_RANGE.
        end: FetchEnd,
    },
    /// Relative Joining: what a subscription missed, from the start of a group.
    Relative {
        /// Request id of the subscription.
        joins: u64,
        /// How many groups before that of the largest object.
        groups_back: u64,
    },
    /// Absolute Joining: what a subscription missed, from the start of this group.
    Absolute {
        /// Request id of the subscription.
        joins: u64,
        /// The first group.
        group: u64,
    },
}

/// Where a fetched range ends, inclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchEnd {
    /// The last group.
    pub group: u64,
    /// The last object of it; `None`: to its end.
    pub object: Option<u64>,
}

/// FETCH_OK.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchOk {
    /// Which request is answered, up to 16.
    pub id: Option<u64>,
    /// There is nothing behind `end`, now or ever.
    pub end_of_track: bool,
    /// What the answer covers.
    pub end: FetchEnd,
    /// None that are known here.
    pub parameters: Parameters,
    /// Of the track.
    pub properties: TrackProperties,
}

/// FETCH_CANCEL, up to 16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchCancel {
    /// Which.
    pub id: u64,
}

/// GOAWAY: make no new requests here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Goaway {
    /// Where to go instead, at most [`Goaway::MAX_URI`] bytes; empty if the sender does not say.
    /// Clients leave it empty.
    pub uri: Box<str>,
    /// How long the sender waits; zero is no bound (17+).
    pub timeout: Duration,
    /// The first request of the receiver that was not processed: 18 on a control stream, where it must
    /// be.
    pub request: Option<u64>,
}

impl Goaway {
    /// Bytes of the longest URI.
    pub const MAX_URI: usize = 8_192;
}

/// MAX_REQUEST_ID, up to 16: request ids must be below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaxRequestId {
    /// More than ever before.
    pub max: u64,
}

/// REQUESTS_BLOCKED, up to 16: the sender would like to make more requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestsBlocked {
    /// The bound that it knows.
    pub max: u64,
}
