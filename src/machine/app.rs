//! The edge of the machine towards the application: [`Event`] and [`Command`], the same for every
//! dialect and version.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::counts::PathEstimate;
use super::io::Token;
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
    /// The peer wants to hear of broadcasts: answer [`Command::AcceptAnnounce`] or
    /// [`Command::Refuse`].
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
    /// What the peer knows of the path to us, after [`Command::Probe`].
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
    /// The peer asks for one group: answer [`Command::AcceptFetch`] or [`Command::Refuse`].
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
        /// As given by [`Command::Group`].
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
    /// Nothing more will be heard of the path, however often [`Command::Probe`] asks.
    ProbeEnded {
        /// [`Error::Unsupported`] if the version or the peer can't tell, which it says in SETUP or by
        /// FIN; else what the peer gave up with.
        error: Error,
    },
    /// A request of the peer is over: it gave up, it broke a rule, or everything that was promised by
    /// [`Command::FinishSubscribe`] or [`Command::AcceptFetch`] is out. Nothing to answer; the key is free.
    RequestEnded {
        /// Which.
        request: RequestKey,
        /// Whether it came to its end.
        result: Result<(), Error>,
    },
    /// The peer's set-up was read, and [`Config::decides`](super::Config::decides): answer
    /// [`Command::Accept`] or [`Command::Close`]. Where the version has no set-up, the first event.
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
    /// [`Command::AcceptOffer`] or [`Command::Refuse`]. Once accepted, its broadcast is announced, and a
    /// [`Command::Subscribe`] for it is served by the offer.
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
    /// The peer subscribes: answer [`Command::AcceptSubscribe`] or [`Command::Refuse`].
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
    /// The peer asks what a track is: answer [`Command::AcceptTrack`] or [`Command::Refuse`].
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

/// What the application wants, given by [`Machine::apply`](super::Machine::apply).
///
/// A command about something that ended meanwhile does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Answers [`Event::SetUp`]: only now the peer hears of us, and what it asks for is looked at. Before
    /// [`Event::SetUp`] it says that the peer is welcome whoever it is.
    Accept {
        /// Who we are in announcements, in the place of [`Config::hop`](super::Config::hop).
        hop: Hop,
        /// The prefixes whose broadcasts we want to hear of, in the place of
        /// [`Config::interests`](super::Config::interests).
        interests: Vec<Path>,
    },
    /// Answers [`Event::AnnounceRequested`]: the first `active` calls of
    /// [`Source::announcement`](super::Source::announcement) with `reader` give that many active
    /// broadcasts, each of which the version can say. From moq-lite 05 on the peer is told how many; before, so
    /// many go into ANNOUNCE_INIT at most, and on moq-transport it means nothing.
    AcceptAnnounce {
        /// Which.
        request: RequestKey,
        /// Where to read what to say.
        reader: Token,
        /// How many broadcasts there are now.
        active: u64,
    },
    /// Answers [`Event::FetchRequested`]. The machine sends the frames that were asked for and no
    /// others, and ends the request behind them.
    AcceptFetch {
        /// Which.
        request: RequestKey,
        /// Where to read the group's frames.
        group: Token,
        /// What the track is.
        info: TrackInfo,
    },
    /// Answers [`Event::TrackOffered`]. Nothing is sent before somebody subscribes.
    AcceptOffer {
        /// Which.
        request: RequestKey,
    },
    /// Answers [`Event::SubscribeRequested`]. Groups may be given from now on.
    AcceptSubscribe {
        /// Which.
        request: RequestKey,
        /// What the track is.
        info: TrackInfo,
    },
    /// Answers [`Event::TrackRequested`].
    AcceptTrack {
        /// Which.
        request: RequestKey,
        /// What the track is.
        info: TrackInfo,
    },
    /// A reader of announcements has news again after it said that it knew everything.
    AnnouncementsReady {
        /// Which.
        request: RequestKey,
    },
    /// Ends a FETCH of ours, answered by [`Event::FetchEnded`].
    CancelFetch {
        /// Which.
        fetch: Token,
    },
    /// Closes the session at once with the code of `error`.
    Close {
        /// Why.
        error: Error,
    },
    /// As [`Command::Group`], for a group of one frame that is to go as a datagram: once, whether it
    /// arrives or not. Where it does not fit into one (see [`Input::MaxDatagram`](super::Input)), or has
    /// other than one frame, or the version has no datagrams, it goes as any other group.
    Datagram {
        /// The subscription.
        request: RequestKey,
        /// Where to read its frame.
        group: Token,
        /// Its number in the track.
        sequence: u64,
    },
    /// Asks the peer what a track is, without subscribing: answered by [`Event::TrackInfo`], or by
    /// [`Event::SubscribeEnded`] if there is none. [`Command::Subscribe`] may follow under the same
    /// token, whether it was answered or not, and tells what the track is once more;
    /// [`Command::Unsubscribe`] takes the question back, without an answer. Where the version can't
    /// ask, the answer is the defaults.
    Describe {
        /// Names the track in events.
        subscription: Token,
        /// The whole path.
        broadcast: Path,
        /// Name of the track.
        track: Box<str>,
    },
    /// Stops taking requests, flushes what is owed for at most
    /// [`Limits::close_time`](crate::Limits::close_time), then closes.
    Drain,
    /// Asks the peer for one group, which need not be of a track that is subscribed: answered by
    /// [`Event::FetchStarted`] when it comes, and in any case by [`Event::FetchEnded`].
    Fetch {
        /// Names the request in events.
        fetch: Token,
        /// The whole path.
        broadcast: Path,
        /// Name of the track.
        track: Box<str>,
        /// Higher is more important.
        priority: u8,
        /// Number of the group in the track.
        sequence: u64,
        /// Index of the first frame wanted. Only 0 before moq-lite 06.
        first_frame: u64,
        /// Index of the last frame wanted, not below the first; `None` is that of the group. Only
        /// `None` before moq-lite 06.
        last_frame: Option<u64>,
    },
    /// All groups of a served subscription are given; it ends cleanly behind them.
    FinishSubscribe {
        /// Which.
        request: RequestKey,
        /// Groups from this one on do not exist.
        end: u64,
    },
    /// Asks the peer to leave (GOAWAY, moq-lite 04+ and moq-transport), and refuses its new requests. When
    /// what runs both ways is over it goes on as [`Command::Drain`]. Once told it can only be hastened.
    GoAway {
        /// Where to go instead; empty for nowhere in particular. Left out if it is of a client, or has more
        /// than 8,192 bytes.
        uri: Box<str>,
        /// When the session closes at the latest: with [`Error::GoawayTimeout`] if something that the peer
        /// asked for still runs.
        timeout: Duration,
    },
    /// A group for a served subscription. The machine opens, sends and ends it when it may.
    Group {
        /// The subscription.
        request: RequestKey,
        /// Where to read its frames.
        group: Token,
        /// Its number in the track.
        sequence: u64,
        /// Index of the first frame to send.
        first_frame: u64,
    },
    /// A group has more after [`Supply::Pending`](super::Supply::Pending).
    GroupReady {
        /// The subscription, or the FETCH.
        request: RequestKey,
        /// Its number in the track.
        sequence: u64,
    },
    /// Asks the peer what it knows of the path to us (moq-lite 03+, *Probe*): answered by
    /// [`Event::Estimate`] now and then, until [`Command::Unprobe`], or by [`Event::ProbeEnded`].
    Probe,
    /// Ends a request of the peer, answered or not, with the code of `error`.
    Refuse {
        /// Which.
        request: RequestKey,
        /// Why.
        error: Error,
    },
    /// No group of a served subscription will be given below this one, and none was: what is given
    /// all the same is released at once. Once, as soon as it is known that there is a group, and at
    /// the latest before [`Command::FinishSubscribe`]. Does nothing where the version does not tell
    /// (moq-lite 05+, START).
    StartSubscribe {
        /// Which.
        request: RequestKey,
        /// The first group that may come.
        group: u64,
    },
    /// A group that comes in is not wanted.
    StopGroup {
        /// Which.
        group: GroupKey,
        /// Why.
        error: Error,
    },
    /// Subscribes at the peer.
    Subscribe {
        /// Names the subscription in events.
        subscription: Token,
        /// The whole path.
        broadcast: Path,
        /// Name of the track.
        track: Box<str>,
        /// What is wanted.
        want: Subscription,
    },
    /// Takes [`Command::Probe`] back, without an answer. It may be asked again.
    Unprobe,
    /// Ends a subscription of ours, answered by [`Event::SubscribeEnded`], or a question.
    Unsubscribe {
        /// Which.
        subscription: Token,
    },
    /// Changes what a subscription of ours wants, where the version can say so.
    UpdateSubscribe {
        /// Which.
        subscription: Token,
        /// What is wanted now.
        want: Subscription,
    },
}
