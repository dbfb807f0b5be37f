//! Reports to the application: [`Event`], the same for every dialect and version.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::chunks::Chunks;
use super::network_path::PathEstimate;
use super::source::Token;
use crate::auth_token::AuthToken;
use crate::error::Error;
use crate::hop::{Cost, Hop, Hops};
use crate::path::Path;
use crate::peer::Peer;
use crate::properties::Properties;
use crate::slab::Key;
use crate::subscription::{Subscription, TrackInfo};
use crate::time::Timestamp;

/// Names a request of the peer, from the event that brings it until the one that ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey(pub(super) u32, pub(super) u32);

impl RequestKey {
    pub(crate) const fn of(key: Key) -> Self {
        Self(key.0, key.1)
    }

    /// A small index for a table beside the machine. It is reused after the request ended.
    pub const fn slot(self) -> usize {
        self.0 as usize
    }
}

impl From<RequestKey> for Key {
    fn from(key: RequestKey) -> Self {
        (key.0, key.1)
    }
}

/// Names a group that the peer is sending, from [`Event::Group`] or [`Event::FetchStarted`] until
/// [`Event::GroupEnded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey(pub(super) u32, pub(super) u32);

impl GroupKey {
    pub(super) const fn of(key: Key) -> Self {
        Self(key.0, key.1)
    }

    /// A small index for a table beside the machine. It is reused after the group ended.
    pub const fn slot(self) -> usize {
        self.0 as usize
    }
}

impl From<GroupKey> for Key {
    fn from(key: GroupKey) -> Self {
        (key.0, key.1)
    }
}

/// A frame of a track, by the number of its group and its index there. Frames are ordered like that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FramePosition {
    /// Number of the group in the track.
    pub group: u64,
    /// Index of the frame in the group.
    pub frame: u64,
}

impl FramePosition {
    /// After every frame.
    pub const MAX: Self = Self::new(u64::MAX, u64::MAX);

    /// A frame by its number in its group.
    pub const fn new(group: u64, frame: u64) -> Self {
        Self { group, frame }
    }
}

/// A subgroup: a part of a group of moq-transport that has a stream of its own (moq-transport-22, 11.3.1). In versions
/// without subgroups a group is its subgroup 0. An object in a datagram is in no subgroup; it has a number from
/// [`DATAGRAMS`](Self::DATAGRAMS) on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subgroup {
    /// Its number in the group.
    pub number: u64,
    /// Index in the group of its first frame on the stream.
    pub first_frame: u64,
    /// The publisher's priority of its frames, higher is more urgent; `None` is that of the track.
    pub priority: Option<u8>,
    /// Whether the stream begins with the first frame of the subgroup (18 and later; `false` before). `true` for an
    /// object in a datagram.
    pub is_from_start: bool,
    /// Whether the last frame on the stream is the last one of the group.
    pub ends_group: bool,
}

impl Subgroup {
    /// The object `n` of a group has the number `DATAGRAMS + n` if it is in a datagram.
    pub const DATAGRAMS: u64 = 1 << 63;

    /// An object in a datagram (moq-transport-22, 11.2). `None` if its id has more than 63 bits.
    pub fn of_datagram(object: u64, priority: Option<u8>, ends_group: bool) -> Option<Self> {
        let number = Self::DATAGRAMS.checked_add(object)?;
        Some(Self { number, first_frame: object, priority, is_from_start: true, ends_group })
    }

    /// Whether it is an object in a datagram.
    pub const fn is_datagram(&self) -> bool {
        self.number >= Self::DATAGRAMS
    }

    /// A group whose last frame others of its subgroups may have.
    #[cfg(feature = "std")]
    pub(crate) const WITHOUT_END: Self =
        Self { number: 0, first_frame: 0, priority: None, is_from_start: true, ends_group: false };

    /// Whether it is no group of an application: another subgroup than 0, one that does not begin with the first frame
    /// of the group, or an object in a datagram.
    #[cfg(feature = "std")]
    pub(crate) const fn is_apart(&self) -> bool {
        self.number > 0 || self.first_frame > 0
    }
}

/// Frames of a group, or of a part of it, in the answer to a FETCH of moq-transport: objects of one subgroup whose ids
/// follow each other (moq-transport-22, 11.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectRun {
    /// Number of the group in the track.
    pub sequence: u64,
    /// The number of the subgroup; `None` if they were datagrams.
    pub subgroup: Option<u64>,
    /// The publisher's priority, higher is more urgent; `None` is that of the track.
    pub priority: Option<u8>,
    /// The object id of the first frame.
    pub object: u64,
    /// Index of that frame where the frames are read.
    pub first_frame: u64,
    /// Index of the last frame; `None` is the last one that there is.
    pub last_frame: Option<u64>,
}

impl ObjectRun {
    /// All frames of a group that an application can read.
    pub(crate) const fn of_group(sequence: u64) -> Self {
        let (subgroup, priority, last_frame) = (Some(0), None, None);
        Self { sequence, subgroup, priority, object: 0, first_frame: 0, last_frame }
    }

    /// The object id of the frame with this index.
    pub(crate) const fn object_of(&self, frame: u64) -> u64 {
        self.object.wrapping_add(frame.wrapping_sub(self.first_frame))
    }
}

/// The frames of a track between two positions, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchRange {
    /// The first frame.
    pub start: FramePosition,
    /// In place of `start`: the range begins so many groups before the one after the latest.
    pub groups_back: Option<u64>,
    /// The last frame. [`u64::MAX`] stands for the end of the group, and for the latest group.
    pub end: FramePosition,
    /// Whether groups with higher numbers come first.
    pub descending: bool,
    /// How long the subscriber waits for what the cache lacks; `None` is no limit (FILL_TIMEOUT, moq-transport-22, 9.20.5).
    pub fill_timeout: Option<Duration>,
}

impl FetchRange {
    /// The first frame, if this is the newest one of the track.
    pub(crate) fn start_before(&self, newest: FramePosition) -> FramePosition {
        self.groups_back.map_or(self.start, |back| {
            FramePosition::new(newest.group.saturating_add(1).saturating_sub(back), 0)
        })
    }
}

/// The track of which the peer requests several groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeTarget {
    /// A track by its name.
    Track {
        /// The whole path.
        broadcast: Path,
        /// Name of the track.
        track: Box<str>,
    },
    /// The track of this subscription of the peer, which was accepted.
    Subscription(RequestKey),
}

/// A change that the peer caused. Pulled by [`Machine::poll_event`](super::Machine::poll_event).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The peer announces a broadcast, or another route to it.
    Announced {
        /// The whole path.
        path: Path,
        /// The hops that the announcement passed, the peer last.
        hops: Hops,
        /// The cost of the route, including this link.
        cost: Cost,
    },
    /// The peer asks for announcements. Answer with
    /// [`Command::AcceptAnnounce`](super::Command::AcceptAnnounce) or
    /// [`Command::Refuse`](super::Command::Refuse).
    AnnounceRequested {
        /// Names the request.
        request: RequestKey,
        /// The prefix of the paths that it wants.
        prefix: Path,
        /// Routes through this hop are to be left out (split horizon). If it is unknown nothing is.
        exclude: Hop,
        /// Whether the peer wants paths too that have a segment after the prefix which begins with
        /// a dot. The peer chooses from moq-lite 07 on; before, this is `true`.
        hidden: bool,
        /// The authorization tokens of the request (moq-transport), without their aliases.
        tokens: Vec<AuthToken>,
    },
    /// The session is over. This is the last event.
    Closed {
        /// Why; [`Error::SessionClosed`] for a clean end.
        error: Error,
    },
    /// A group of one frame arrived in a datagram, for one of our subscriptions. Where
    /// [`Config::subgroups`](super::Config::subgroups) is set, it may be any object of its group, or have a
    /// [status](Properties::status) (moq-transport).
    Datagram {
        /// The subscription.
        subscription: Token,
        /// Number of the group in the track.
        sequence: u64,
        /// The object, where `Config::subgroups` is set. Its [`first_frame`](Subgroup::first_frame) is the object id.
        subgroup: Option<Subgroup>,
        /// Timestamp of the frame. `None` where the version has no timestamps.
        timestamp: Option<Timestamp>,
        /// As in [`Event::Frame`].
        properties: Option<Properties>,
        /// Payload of the frame.
        payload: Bytes,
    },
    /// The peer's estimate of the network path to us, after
    /// [`Command::Probe`](super::Command::Probe).
    Estimate {
        /// The newest estimate.
        estimate: PathEstimate,
    },
    /// A FETCH of ours is over, and its token is free. If its group began, it ended before.
    FetchEnded {
        /// The FETCH.
        fetch: Token,
        /// Whether everything that was asked for arrived, or why not: [`Error::Unsupported`] where
        /// the version has no FETCH.
        result: Result<(), Error>,
    },
    /// The peer asks for one group. Answer with
    /// [`Command::AcceptFetch`](super::Command::AcceptFetch) or
    /// [`Command::Refuse`](super::Command::Refuse).
    FetchRequested {
        /// Names the request.
        request: RequestKey,
        /// The whole path.
        broadcast: Path,
        /// Name of the track.
        track: Box<str>,
        /// Higher is more urgent.
        priority: u8,
        /// Number of the group in the track.
        sequence: u64,
        /// Index of the first frame wanted.
        first_frame: u64,
        /// Index of the last frame wanted, not below the first; `None` is the last one of the
        /// group.
        last_frame: Option<u64>,
        /// The authorization tokens of the request (moq-transport), without their aliases.
        tokens: Vec<AuthToken>,
    },
    /// The peer asks to announce a broadcast (moq-transport, PUBLISH_NAMESPACE). Answer with
    /// [`Command::AcceptOffer`](super::Command::AcceptOffer), after which it is announced, or
    /// [`Command::Refuse`](super::Command::Refuse).
    BroadcastOffered {
        /// Names the request.
        request: RequestKey,
        /// The whole path.
        broadcast: Path,
        /// The authorization tokens of the request (moq-transport), without their aliases.
        tokens: Vec<AuthToken>,
    },
    /// The peer requests frames of several groups, or the frames before its subscription (moq-transport).
    /// Answer with [`Command::AcceptRange`](super::Command::AcceptRange) or
    /// [`Command::Refuse`](super::Command::Refuse).
    RangeRequested {
        /// Names the request.
        request: RequestKey,
        /// The track.
        target: RangeTarget,
        /// Higher is more urgent.
        priority: u8,
        /// The frames.
        range: FetchRange,
        /// The authorization tokens of the request (moq-transport), without their aliases.
        tokens: Vec<AuthToken>,
    },
    /// The group of a FETCH of ours begins to arrive.
    FetchStarted {
        /// The FETCH.
        fetch: Token,
        /// Names its group in later events.
        group: GroupKey,
    },
    /// A frame of a group begins. Frames are in order, without gaps.
    Frame {
        /// The group that it belongs to.
        group: GroupKey,
        /// `None` where the version has no timestamps.
        timestamp: Option<Timestamp>,
        /// All properties of the object, where the version has them (moq-transport). `None` if the timestamp is the
        /// only one.
        properties: Option<Properties>,
        /// Size of the whole payload in bytes, at most
        /// [`Limits::frame_bytes`](crate::Limits::frame_bytes).
        size: u64,
        /// The first bytes of the payload, as many as have arrived: all, some or none.
        payload: Chunks,
    },
    /// The peer accepts no new requests. Running ones continue until it closes the session.
    GoingAway {
        /// Where to connect instead; empty if the peer does not say.
        uri: Box<str>,
        /// How long the peer waits, where the version says so (moq-transport 17 and later).
        timeout: Option<Duration>,
    },
    /// A group of one of our subscriptions begins.
    Group {
        /// The subscription.
        subscription: Token,
        /// Names the group in later events.
        group: GroupKey,
        /// Its number in the track.
        sequence: u64,
        /// Index of the first frame that will arrive.
        first_frame: u64,
    },
    /// No more of this group will arrive.
    GroupEnded {
        /// The group.
        group: GroupKey,
        /// Whether the group is complete.
        result: Result<(), Error>,
    },
    /// A stream of one of our subscriptions was stopped: it carried another subgroup than 0, or a
    /// part of a group that does not begin with its first frame. With [`Config::subgroups`](super::Config::subgroups)
    /// only parts that could not be completed.
    GroupRefused {
        /// The subscription.
        subscription: Token,
        /// Number of the group in the track.
        sequence: u64,
    },
    /// The machine does not need this group any more. Its token is free.
    GroupReleased {
        /// The token of the command that gave it: [`Command::Group`](super::Command::Group),
        /// [`Subgroup`](super::Command::Subgroup), [`Datagram`](super::Command::Datagram),
        /// [`AcceptFetch`](super::Command::AcceptFetch) or [`RangeGroup`](super::Command::RangeGroup).
        group: Token,
        /// Whether QUIC accepted all of it. (QUIC may still lose a datagram.) Otherwise the group
        /// was dropped, stopped by the peer, or gone from the cache.
        sent: bool,
    },
    /// The newest frame that the track of a subscription of ours had when the publisher accepted it (moq-transport). It
    /// comes before [`Event::TrackInfo`], and the frame itself may not arrive.
    LargestFrame {
        /// The subscription.
        subscription: Token,
        /// The frame.
        largest: FramePosition,
    },
    /// More payload of the frame of this group that began last.
    Payload {
        /// The group.
        group: GroupKey,
        /// At least one byte, at most what is missing.
        bytes: Bytes,
    },
    /// No more estimates will arrive in this session, even if
    /// [`Command::Probe`](super::Command::Probe) asks again.
    ProbeEnded {
        /// [`Error::Unsupported`] if the version or the peer can't report; otherwise the reason
        /// that the peer gave.
        error: Error,
    },
    /// A request of the peer is over: the peer gave it up or broke a rule, or everything that
    /// [`Command::FinishSubscribe`](super::Command::FinishSubscribe) or
    /// [`Command::AcceptFetch`](super::Command::AcceptFetch) promised is out. No answer is due, and
    /// the key is free.
    RequestEnded {
        /// The request.
        request: RequestKey,
        /// Whether it came to its regular end.
        result: Result<(), Error>,
    },
    /// The peer's set-up was read, and [`Config::requires_accept`](super::Config::requires_accept)
    /// is set. Answer with [`Command::Accept`](super::Command::Accept) or
    /// [`Command::Close`](super::Command::Close). Where the version has no set-up, this is the
    /// first event. [`Machine::version`](super::Machine::version) is final by now.
    SetUp {
        /// The peer's description of itself.
        peer: Peer,
    },
    /// A subscription of ours is over, and its token is free. All its groups ended before, also
    /// those that arrived late.
    SubscribeEnded {
        /// The subscription.
        subscription: Token,
        /// One past the last group, if the publisher named it; or why the subscription failed.
        result: Result<Option<u64>, Error>,
    },
    /// The peer offers a track that was not asked for (moq-transport, PUBLISH). Answer with
    /// [`Command::AcceptOffer`](super::Command::AcceptOffer) or
    /// [`Command::Refuse`](super::Command::Refuse). Once it is accepted its broadcast counts as
    /// announced, and the offer serves a [`Command::Subscribe`](super::Command::Subscribe) for it.
    /// [`Event::RequestEnded`] ends it.
    TrackOffered {
        /// Names the request.
        request: RequestKey,
        /// The whole path.
        broadcast: Path,
        /// Name of the track.
        track: Box<str>,
        /// The authorization tokens of the request (moq-transport), without their aliases.
        tokens: Vec<AuthToken>,
    },
    /// A request of [`Command::SubscribeTracks`](super::Command::SubscribeTracks) is over, and its token is free. Tracks that
    /// were offered stay so until the peer ends them.
    TracksEnded {
        /// The request.
        tracks: Token,
        /// Why: [`Error::Unsupported`] where the version or the peer has no such request, [`Error::Duplicate`] if the prefix
        /// overlaps with that of another request, [`Error::Closed`] if the peer ended it, or the reason that the peer gave.
        error: Error,
    },
    /// The peer asks for the tracks of broadcasts: each is offered to it by PUBLISH (moq-transport: SUBSCRIBE_TRACKS, 18 and
    /// later; SUBSCRIBE_NAMESPACE before). Answer with
    /// [`Command::AcceptAnnounce`](super::Command::AcceptAnnounce), with a reader that
    /// returns [`Announcement::Track`](super::Announcement::Track) alone, or with `names` the broadcasts as well, or
    /// [`Command::Refuse`](super::Command::Refuse). For each offer that the peer accepts, there is an
    /// [`Event::SubscribeRequested`]. The end of this request ends none of them. A peer that asks for another prefix instead
    /// ends it by [`Event::RequestEnded`], and begins it again by an event of this kind, with the same key.
    TracksRequested {
        /// Names the request.
        request: RequestKey,
        /// The prefix of the broadcasts.
        prefix: Path,
        /// Whether the peer asks for announcements of the broadcasts with the same request (16, 17). On 14 and 15 it has
        /// them without a request.
        names: bool,
        /// The authorization tokens of the request (moq-transport), without their aliases.
        tokens: Vec<AuthToken>,
    },
    /// No group of this subscription of ours will arrive below this one. Reported at most once,
    /// before or after the first groups; never where the version does not say it (it does from
    /// moq-lite 05 on).
    SubscribeStarted {
        /// The subscription.
        subscription: Token,
        /// The first group that may come.
        group: u64,
    },
    /// A subgroup of a group of one of our subscriptions begins, in place of [`Event::Group`] where
    /// [`Config::subgroups`](super::Config::subgroups) is set (moq-transport). Frames may come after
    /// [gaps](Properties::gap), and one with a [status](Properties::status) may be the last.
    Subgroup {
        /// The subscription.
        subscription: Token,
        /// Names the subgroup in later events.
        group: GroupKey,
        /// The number of its group in the track.
        sequence: u64,
        /// The subgroup.
        subgroup: Subgroup,
    },
    /// The peer subscribes, or accepts a track that was offered to it. Answer with
    /// [`Command::AcceptSubscribe`](super::Command::AcceptSubscribe) or
    /// [`Command::Refuse`](super::Command::Refuse).
    SubscribeRequested {
        /// Names the request.
        request: RequestKey,
        /// The whole path.
        broadcast: Path,
        /// Name of the track.
        track: Box<str>,
        /// The options of the subscription.
        subscription: Subscription,
        /// How long the peer waits for a publisher, before it wants to be refused with
        /// [`Error::Timeout`] (RENDEZVOUS_TIMEOUT of moq-transport 17 and later). `None`: not at all.
        wait: Option<Duration>,
        /// The authorization tokens of the request (moq-transport), without their aliases.
        tokens: Vec<AuthToken>,
    },
    /// The peer changed the options of its subscription.
    SubscribeUpdated {
        /// The request.
        request: RequestKey,
        /// The new options.
        subscription: Subscription,
    },
    /// The track information of one of our subscriptions. It comes before the first group. Versions
    /// without TRACK_INFO give the defaults, with [`Limits::max_age`](crate::Limits::max_age).
    TrackInfo {
        /// The subscription.
        subscription: Token,
        /// The information.
        info: TrackInfo,
    },
    /// The peer asks for the track information. Answer with
    /// [`Command::AcceptTrack`](super::Command::AcceptTrack) or
    /// [`Command::Refuse`](super::Command::Refuse).
    TrackRequested {
        /// Names the request.
        request: RequestKey,
        /// The whole path.
        broadcast: Path,
        /// Name of the track.
        track: Box<str>,
        /// The authorization tokens of the request (moq-transport), without their aliases.
        tokens: Vec<AuthToken>,
    },
    /// A broadcast of the peer can't be subscribed any more.
    Unannounced {
        /// The whole path, which was announced before.
        path: Path,
    },
}
