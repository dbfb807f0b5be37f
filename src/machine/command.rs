//! The decisions and requests of the application: [`Command`], the same for every dialect and version.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::event::{FramePosition, GroupKey, ObjectRun, RequestKey, Subgroup};
use super::source::Token;
use crate::auth_token::AuthToken;
use crate::error::Error;
use crate::hop::Hop;
use crate::path::Path;
use crate::subscription::{Subscription, TrackInfo};

/// A command of the application. Given to [`Machine::apply`](super::Machine::apply).
///
/// A command about something that has ended does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Answers [`Event::SetUp`](super::Event::SetUp): only now something is sent to the peer, and
    /// its requests are read. Before that event it accepts whatever peer appears.
    Accept {
        /// Our Hop ID in announcements, instead of [`Config::hop`](super::Config::hop).
        hop: Hop,
        /// The prefixes under which we ask for announcements, instead of
        /// [`Config::interests`](super::Config::interests).
        interests: Vec<Path>,
    },
    /// Answers [`Event::AnnounceRequested`](super::Event::AnnounceRequested) or
    /// [`Event::TracksRequested`](super::Event::TracksRequested). The first `active`
    /// calls of [`Source::announcement`](super::Source::announcement) with `reader` return that
    /// many active broadcasts, each of which the version can express. From moq-lite 05 on the peer
    /// learns the number; before, at most that many go into ANNOUNCE_INIT; on moq-transport it has
    /// no meaning.
    AcceptAnnounce {
        /// The request.
        request: RequestKey,
        /// Where to read the announcements.
        reader: Token,
        /// How many broadcasts there are now.
        active: u64,
    },
    /// Answers [`Event::FetchRequested`](super::Event::FetchRequested). The machine sends exactly
    /// the frames that were asked for, and ends the request after them.
    AcceptFetch {
        /// The request.
        request: RequestKey,
        /// Where to read the group's frames.
        group: Token,
        /// The track information.
        info: TrackInfo,
        /// How many frames the group has; `None` while it may get more.
        frames: Option<u64>,
        /// Whether the track ended with this group.
        ends_track: bool,
    },
    /// The next frames of the answer after [`AcceptRange`](Self::AcceptRange): a group, or a part of one.
    RangeGroup {
        /// The request.
        request: RequestKey,
        /// Where to read the frames.
        group: Token,
        /// Which objects they are.
        run: ObjectRun,
        /// Objects that may exist are missing before them.
        gap: bool,
    },
    /// Answers [`Event::BroadcastOffered`](super::Event::BroadcastOffered) or
    /// [`Event::TrackOffered`](super::Event::TrackOffered). The peer sends nothing before there is a subscription.
    AcceptOffer {
        /// The request.
        request: RequestKey,
    },
    /// Answers [`Event::RangeRequested`](super::Event::RangeRequested), or on moq-transport
    /// [`Event::FetchRequested`](super::Event::FetchRequested), if the group has several parts. The frames follow run by run,
    /// each with a [`RangeGroup`](Self::RangeGroup) after the one before was released, and then
    /// [`EndRange`](Self::EndRange).
    AcceptRange {
        /// The request.
        request: RequestKey,
        /// The track information.
        info: TrackInfo,
        /// The last frame in the range that there is.
        end: FramePosition,
        /// Whether it is the last frame of the track.
        ends_track: bool,
    },
    /// Answers [`Event::SubscribeRequested`](super::Event::SubscribeRequested). Groups may be given
    /// from now on.
    AcceptSubscribe {
        /// The request.
        request: RequestKey,
        /// The track information.
        info: TrackInfo,
        /// The newest frame of the track, which may be incomplete. It tells a subscriber of moq-transport where
        /// its subscription begins.
        largest: Option<FramePosition>,
    },
    /// Answers [`Event::TrackRequested`](super::Event::TrackRequested).
    AcceptTrack {
        /// The request.
        request: RequestKey,
        /// The track information.
        info: TrackInfo,
        /// As in [`Command::AcceptSubscribe`].
        largest: Option<FramePosition>,
    },
    /// A reader of announcements, which was up to date, has changes again.
    AnnouncementsReady {
        /// The request.
        request: RequestKey,
    },
    /// Ends a FETCH of ours. [`Event::FetchEnded`](super::Event::FetchEnded) follows.
    CancelFetch {
        /// The FETCH.
        fetch: Token,
    },
    /// Ends the answer after [`AcceptRange`](Self::AcceptRange).
    EndRange {
        /// The request.
        request: RequestKey,
        /// Frames that may exist are missing at the end.
        gap: bool,
    },
    /// Closes the session at once, with the code of `error`.
    Close {
        /// Why.
        error: Error,
    },
    /// Like [`Command::Group`], for a group of one frame that should go as a datagram: it is sent
    /// once, whether it arrives or not. If it does not fit (see
    /// [`NetworkPath::max_datagram`](super::NetworkPath::max_datagram)), has more than one frame, or the version
    /// has no datagrams, it goes on a stream.
    Datagram {
        /// The subscription.
        request: RequestKey,
        /// Where to read its frame.
        group: Token,
        /// Its number in the track.
        sequence: u64,
    },
    /// Asks the peer for track information, without a subscription.
    /// [`Event::TrackInfo`](super::Event::TrackInfo) follows, or
    /// [`Event::SubscribeEnded`](super::Event::SubscribeEnded) if there is no such track.
    /// [`Command::Subscribe`] may follow under the same token, before or after the answer, and
    /// reports the information again. [`Command::Unsubscribe`] withdraws the query without an
    /// event. Where the version has no such query, the answer is the defaults.
    Describe {
        /// Names the track in events.
        subscription: Token,
        /// The whole path.
        broadcast: Path,
        /// Name of the track.
        track: Box<str>,
    },
    /// Accepts no more requests, sends what is owed for at most
    /// [`Limits::close_timeout`](crate::Limits::close_timeout), then closes.
    Drain,
    /// Asks the peer for one group. The track need not be subscribed.
    /// [`Event::FetchStarted`](super::Event::FetchStarted) follows when the group begins to arrive,
    /// and in any case [`Event::FetchEnded`](super::Event::FetchEnded).
    Fetch {
        /// Names the request in events.
        fetch: Token,
        /// The whole path.
        broadcast: Path,
        /// Name of the track.
        track: Box<str>,
        /// Higher is more urgent.
        priority: u8,
        /// Number of the group in the track.
        sequence: u64,
        /// Index of the first frame wanted. Only 0 on moq-lite 05.
        first_frame: u64,
        /// Index of the last frame wanted, not below the first; `None` is the last one of the
        /// group. Only `None` on moq-lite 05.
        last_frame: Option<u64>,
    },
    /// All groups of a subscription of the peer are given. It ends cleanly after them.
    FinishSubscribe {
        /// The request.
        request: RequestKey,
        /// Groups from this one on do not exist.
        end: u64,
    },
    /// Asks the peer to leave (GOAWAY; moq-lite 04 and later, moq-transport), and refuses its new
    /// requests. When everything that runs in both directions is over, the session drains as after
    /// [`Command::Drain`]. A second command can only bring the deadline forward.
    GoAway {
        /// Where to connect instead; empty for nowhere in particular. It is left out if we are the
        /// client, or if it has more than 8,192 bytes.
        uri: Box<str>,
        /// When the session closes at the latest: with [`Error::GoawayTimeout`] if a request of the
        /// peer still runs.
        timeout: Duration,
    },
    /// A group for a subscription of the peer. The machine opens its stream, sends and ends it when
    /// it is due.
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
    /// A group has more frames after [`Supply::Pending`](super::Supply::Pending).
    GroupReady {
        /// The subscription, or the FETCH.
        request: RequestKey,
        /// Its number in the track.
        sequence: u64,
    },
    /// Asks the peer for estimates of the network path to us (moq-lite 03 and later, *Probe*).
    /// [`Event::Estimate`](super::Event::Estimate) follows now and then, until [`Command::Unprobe`]
    /// or [`Event::ProbeEnded`](super::Event::ProbeEnded).
    Probe,
    /// Ends a request of the peer, answered or not, with the code of `error`.
    Refuse {
        /// The request.
        request: RequestKey,
        /// Why.
        error: Error,
    },
    /// No group of this subscription of the peer will be given below this one, and none was; a
    /// group that is given anyway is released at once. Give it once, as soon as a group exists, and
    /// at the latest before [`Command::FinishSubscribe`]. Does nothing where the version does not
    /// say it (it does from moq-lite 05 on).
    StartSubscribe {
        /// The request.
        request: RequestKey,
        /// The first group that may be given.
        group: u64,
    },
    /// An arriving group is not wanted any more.
    StopGroup {
        /// The group.
        group: GroupKey,
        /// Why.
        error: Error,
    },
    /// Sets the authorization tokens of the requests for paths under `prefix` that are made from now on: to subscribe, to
    /// fetch, to announce a broadcast, and to get announcements (moq-transport). Of several prefixes the longest counts.
    /// No tokens, as before the first command. It may come before [`Command::Accept`].
    SetTokens {
        /// The prefix of the paths.
        prefix: Path,
        /// The tokens. They take the place of those that were set for this prefix before.
        tokens: Vec<AuthToken>,
    },
    /// Like [`Command::Group`], for a part of a group that goes as this subgroup (moq-transport). Its frames are in the
    /// order of their indexes in the group, with [gaps](crate::Properties::gap). Where the peer's subscription begins
    /// inside of the group, other subgroups than 0 that begin before are not sent.
    ///
    /// A [subgroup of a datagram](crate::machine::Subgroup::of_datagram) has one frame, without a gap, which goes as in
    /// [`Command::Datagram`]. If that is not possible, the first object of the group goes on a stream, and others are
    /// dropped.
    Subgroup {
        /// The subscription.
        request: RequestKey,
        /// Where to read its frames.
        group: Token,
        /// The number of its group in the track.
        sequence: u64,
        /// The subgroup.
        subgroup: Subgroup,
    },
    /// Like [`Command::GroupReady`], for a subgroup.
    SubgroupReady {
        /// The subscription.
        request: RequestKey,
        /// The number of its group in the track.
        sequence: u64,
        /// Its number in the group.
        number: u64,
    },
    /// Subscribes to a track of the peer.
    Subscribe {
        /// Names the subscription in events.
        subscription: Token,
        /// The whole path.
        broadcast: Path,
        /// Name of the track.
        track: Box<str>,
        /// The options of the subscription.
        want: Subscription,
    },
    /// Asks the peer to offer each track below a prefix, those that exist and those that come
    /// (moq-transport-22, 3.6). For each offer there is an [`Event::TrackOffered`](super::Event::TrackOffered).
    /// [`Event::TracksEnded`](super::Event::TracksEnded) follows if the peer refuses or ends the request, or if the version
    /// has none. The offers go on then.
    SubscribeTracks {
        /// Names the request in events. No other one has this token.
        tracks: Token,
        /// The prefix of the broadcasts.
        prefix: Path,
    },
    /// Withdraws [`Command::Probe`], without an event. It may be given again later.
    Unprobe,
    /// Ends a subscription of ours, and [`Event::SubscribeEnded`](super::Event::SubscribeEnded)
    /// follows; or withdraws a query of [`Command::Describe`].
    Unsubscribe {
        /// The subscription.
        subscription: Token,
    },
    /// Withdraws [`Command::SubscribeTracks`], without an event. Tracks that were offered stay so until the peer ends them.
    UnsubscribeTracks {
        /// The request.
        tracks: Token,
    },
    /// Changes the options of a subscription of ours, where the version can.
    UpdateSubscribe {
        /// The subscription.
        subscription: Token,
        /// The new options.
        want: Subscription,
    },
}
