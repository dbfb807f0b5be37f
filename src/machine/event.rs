//! The edge of the machine towards the application, outwards: [`Event`], the same for every dialect and
//! version.

use alloc::boxed::Box;
use core::time::Duration;

use bytes::Bytes;

use super::network_path::PathEstimate;
use super::source::Token;
use crate::error::Error;
use crate::hop::{Cost, Hop, Hops};
use crate::path::Path;
use crate::peer::Peer;
use crate::slab::Key;
use crate::subscription::{Subscription, TrackInfo};
use crate::time::Timestamp;

/// Names a request that the peer made, from the event that brings it until the one that ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey(pub(super) u32, pub(super) u32);

impl RequestKey {
    pub(super) const fn of(key: Key) -> Self {
        Self(key.0, key.1)
    }

    /// Small and dense: an index for a table beside the machine. Reused after the request ended.
    pub const fn slot(self) -> usize {
        self.0 as usize
    }
}

impl From<RequestKey> for Key {
    fn from(key: RequestKey) -> Self {
        (key.0, key.1)
    }
}

/// Names a group that the peer is sending, from [`Event::Group`] or [`Event::FetchStarted`] to [`Event::GroupEnded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey(pub(super) u32, pub(super) u32);

impl GroupKey {
    pub(super) const fn of(key: Key) -> Self {
        Self(key.0, key.1)
    }

    /// Small and dense: an index for a table beside the machine. Reused after the group ended.
    pub const fn slot(self) -> usize {
        self.0 as usize
    }
}

impl From<GroupKey> for Key {
    fn from(key: GroupKey) -> Self {
        (key.0, key.1)
    }
}

/// What the peer did, pulled by [`Machine::poll_event`](super::Machine::poll_event).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The peer offers a broadcast, or offers it by another way.
    Announced {
        /// The whole path.
        path: Path,
        /// Who it came through, the peer last.
        hops: Hops,
        /// What the way costs, this link included.
        cost: Cost,
    },
    /// The peer wants to hear of broadcasts: answer [`Command::AcceptAnnounce`](super::Command::AcceptAnnounce) or
    /// [`Command::Refuse`](super::Command::Refuse).
    AnnounceRequested {
        /// Names the request.
        request: RequestKey,
        /// Only paths under it.
        prefix: Path,
        /// Nothing that came through this hop (split horizon); unknown excludes nothing.
        exclude: Hop,
        /// Also paths with a segment behind the prefix that begins with a dot. From moq-lite 07 on the
        /// peer says so; before, they are not told apart.
        hidden: bool,
    },
    /// The session is over. The last event.
    Closed {
        /// Why; [`Error::SessionClosed`] if nothing was wrong.
        error: Error,
    },
    /// A group of one frame came whole in a datagram, for one of our subscriptions.
    Datagram {
        /// The subscription.
        subscription: Token,
        /// Number of the group in the track.
        sequence: u64,
        /// Of its frame.
        timestamp: Timestamp,
        /// Of its frame.
        payload: Bytes,
    },
    /// What the peer knows of the path to us, after [`Command::Probe`](super::Command::Probe).
    Estimate {
        /// The newest.
        estimate: PathEstimate,
    },
    /// A FETCH of ours is over and its token free. Its group has ended before, if it began.
    FetchEnded {
        /// Which.
        fetch: Token,
        /// Whether everything that was asked for came, or why not: [`Error::Unsupported`] where the
        /// version can't fetch.
        result: Result<(), Error>,
    },
    /// The peer asks for one group: answer [`Command::AcceptFetch`](super::Command::AcceptFetch) or [`Command::Refuse`](super::Command::Refuse).
    FetchRequested {
        /// Names the request.
        request: RequestKey,
        /// The whole path.
        broadcast: Path,
        /// Name of the track.
        track: Box<str>,
        /// Higher is more important.
        priority: u8,
        /// Number of the group in the track.
        sequence: u64,
        /// Index of the first frame wanted.
        first_frame: u64,
        /// Index of the last frame wanted, not below the first; `None` is that of the group.
        last_frame: Option<u64>,
    },
    /// What one of our FETCHes asked for begins to come.
    FetchStarted {
        /// Which.
        fetch: Token,
        /// Names its group in what follows.
        group: GroupKey,
    },
    /// A frame of a group begins; in order, without holes.
    Frame {
        /// In which group.
        group: GroupKey,
        /// `None` where the version has no timestamps.
        timestamp: Option<Timestamp>,
        /// Bytes of payload to come, at most [`Limits::frame_bytes`](crate::Limits::frame_bytes).
        size: u64,
        /// The first of them that are here: all, some or none.
        payload: Bytes,
    },
    /// The peer wants no new requests; what runs goes on until it closes.
    GoingAway {
        /// Where to go instead; empty if it does not say.
        uri: Box<str>,
        /// How long it waits, if it says so (moq-transport 18).
        timeout: Option<Duration>,
    },
    /// A group of one of our subscriptions begins.
    Group {
        /// The subscription.
        subscription: Token,
        /// Names the group in what follows.
        group: GroupKey,
        /// Its number in the track.
        sequence: u64,
        /// Index of the first frame that will come.
        first_frame: u64,
    },
    /// Nothing more of this group will come.
    GroupEnded {
        /// Which.
        group: GroupKey,
        /// Whether it is whole.
        result: Result<(), Error>,
    },
    /// A stream of one of our subscriptions was not wanted: another subgroup than 0, or a part of a group
    /// that does not begin with its first frame.
    GroupRefused {
        /// The subscription.
        subscription: Token,
        /// Number of the group in the track.
        sequence: u64,
    },
    /// The machine will not ask for this group again: the token is free.
    GroupReleased {
        /// As given by [`Command::Group`](super::Command::Group).
        group: Token,
        /// All of it was taken by QUIC, which loses datagrams. Otherwise it was skipped, stopped by the peer, or gone.
        sent: bool,
    },
    /// More payload of the frame that began last in this group.
    Payload {
        /// In which group.
        group: GroupKey,
        /// At least one byte, at most what is missing.
        bytes: Bytes,
    },
    /// Nothing more will be heard of the path, however often [`Command::Probe`](super::Command::Probe) asks.
    ProbeEnded {
        /// [`Error::Unsupported`] if the version or the peer can't tell, which it says in SETUP or by
        /// FIN; else what the peer gave up with.
        error: Error,
    },
    /// A request of the peer is over: it gave up, it broke a rule, or everything that was promised by
    /// [`Command::FinishSubscribe`](super::Command::FinishSubscribe) or [`Command::AcceptFetch`](super::Command::AcceptFetch) is out. Nothing to answer; the key is free.
    RequestEnded {
        /// Which.
        request: RequestKey,
        /// Whether it came to its end.
        result: Result<(), Error>,
    },
    /// The peer's set-up was read, and [`Config::decides`](super::Config::decides): answer
    /// [`Command::Accept`](super::Command::Accept) or [`Command::Close`](super::Command::Close). Where the version has no set-up, the first event.
    /// [`Machine::version`](super::Machine::version) is settled by now.
    SetUp {
        /// What it says of itself.
        peer: Peer,
    },
    /// A subscription of ours is over and its token free. All its groups have ended before, those
    /// that trickled in late too.
    SubscribeEnded {
        /// Which.
        subscription: Token,
        /// One past the last group if the publisher said so, or why it failed.
        result: Result<Option<u64>, Error>,
    },
    /// The peer offers a track that nobody asked for (moq-transport, PUBLISH): answer
    /// [`Command::AcceptOffer`](super::Command::AcceptOffer) or [`Command::Refuse`](super::Command::Refuse). Once accepted, its broadcast is announced, and a
    /// [`Command::Subscribe`](super::Command::Subscribe) for it is served by the offer.
    TrackOffered {
        /// Names the request.
        request: RequestKey,
        /// The whole path.
        broadcast: Path,
        /// Name of the track.
        track: Box<str>,
    },
    /// No group of one of our subscriptions will come below this one. At most once, before or behind
    /// its first groups; never where the version does not tell (moq-lite 05+, START).
    SubscribeStarted {
        /// The subscription.
        subscription: Token,
        /// The first group that may come.
        group: u64,
    },
    /// The peer subscribes: answer [`Command::AcceptSubscribe`](super::Command::AcceptSubscribe) or [`Command::Refuse`](super::Command::Refuse).
    SubscribeRequested {
        /// Names the request.
        request: RequestKey,
        /// The whole path.
        broadcast: Path,
        /// Name of the track.
        track: Box<str>,
        /// What it wants.
        subscription: Subscription,
    },
    /// The peer changed its mind about what it wants of a running subscription.
    SubscribeUpdated {
        /// Which.
        request: RequestKey,
        /// What it wants now.
        subscription: Subscription,
    },
    /// What the publisher says of the track of one of our subscriptions; before its first group.
    /// Versions that have no TRACK_INFO give the defaults, with
    /// [`Limits::max_age`](crate::Limits::max_age).
    TrackInfo {
        /// The subscription.
        subscription: Token,
        /// What it says.
        info: TrackInfo,
    },
    /// The peer asks what a track is: answer [`Command::AcceptTrack`](super::Command::AcceptTrack) or [`Command::Refuse`](super::Command::Refuse).
    TrackRequested {
        /// Names the request.
        request: RequestKey,
        /// The whole path.
        broadcast: Path,
        /// Name of the track.
        track: Box<str>,
    },
    /// A broadcast can't be subscribed at the peer any more.
    Unannounced {
        /// The whole path, which was announced before.
        path: Path,
    },
}
