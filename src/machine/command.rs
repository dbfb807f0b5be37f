//! The edge of the machine towards the application, inwards: [`Command`], the same for every dialect and
//! version.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::event::{GroupKey, RequestKey};
use super::source::Token;
use crate::error::Error;
use crate::hop::Hop;
use crate::path::Path;
use crate::subscription::{Subscription, TrackInfo};

/// What the application wants, given by [`Machine::apply`](super::Machine::apply).
///
/// A command about something that ended meanwhile does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Answers [`Event::SetUp`](super::Event::SetUp): only now the peer hears of us, and what it asks for is looked at. Before
    /// [`Event::SetUp`](super::Event::SetUp) it says that the peer is welcome whoever it is.
    Accept {
        /// Who we are in announcements, in the place of [`Config::hop`](super::Config::hop).
        hop: Hop,
        /// The prefixes whose broadcasts we want to hear of, in the place of
        /// [`Config::interests`](super::Config::interests).
        interests: Vec<Path>,
    },
    /// Answers [`Event::AnnounceRequested`](super::Event::AnnounceRequested): the first `active` calls of
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
    /// Answers [`Event::FetchRequested`](super::Event::FetchRequested). The machine sends the frames that were asked for and no
    /// others, and ends the request behind them.
    AcceptFetch {
        /// Which.
        request: RequestKey,
        /// Where to read the group's frames.
        group: Token,
        /// What the track is.
        info: TrackInfo,
    },
    /// Answers [`Event::TrackOffered`](super::Event::TrackOffered). Nothing is sent before somebody subscribes.
    AcceptOffer {
        /// Which.
        request: RequestKey,
    },
    /// Answers [`Event::SubscribeRequested`](super::Event::SubscribeRequested). Groups may be given from now on.
    AcceptSubscribe {
        /// Which.
        request: RequestKey,
        /// What the track is.
        info: TrackInfo,
    },
    /// Answers [`Event::TrackRequested`](super::Event::TrackRequested).
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
    /// Ends a FETCH of ours, answered by [`Event::FetchEnded`](super::Event::FetchEnded).
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
    /// Asks the peer what a track is, without subscribing: answered by [`Event::TrackInfo`](super::Event::TrackInfo), or by
    /// [`Event::SubscribeEnded`](super::Event::SubscribeEnded) if there is none. [`Command::Subscribe`] may follow under the same
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
    /// [`Event::FetchStarted`](super::Event::FetchStarted) when it comes, and in any case by [`Event::FetchEnded`](super::Event::FetchEnded).
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
    /// [`Event::Estimate`](super::Event::Estimate) now and then, until [`Command::Unprobe`], or by [`Event::ProbeEnded`](super::Event::ProbeEnded).
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
    /// Ends a subscription of ours, answered by [`Event::SubscribeEnded`](super::Event::SubscribeEnded), or a question.
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
