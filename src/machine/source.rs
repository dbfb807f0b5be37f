//! The interface to the cache: [`Source`].

use alloc::boxed::Box;

use super::event::FramePosition;
use super::run::Run;
use crate::error::Error;
use crate::hop::{Cost, Hops};
use crate::path::Path;
use crate::slab::Key;
use crate::subscription::TrackInfo;

/// An identifier that the layer above chose: a slot in its table, and a generation that tells the
/// successive uses of the slot apart.
///
/// The machine returns it unchanged and never interprets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// Index into a table of the layer above.
    pub slot: u32,
    /// Tells the uses of a slot apart.
    pub generation: u32,
}

impl From<Key> for Token {
    fn from((slot, generation): Key) -> Self {
        Self { slot, generation }
    }
}

impl From<Token> for Key {
    fn from(token: Token) -> Self {
        (token.slot, token.generation)
    }
}

/// Where the machine reads what it sends: the cache of the layer above, borrowed for one call.
///
/// Every method is total and never blocks. For an unknown token they return [`Supply::Gone`] or `None`.
pub trait Source {
    /// Shows `run` the frames of a group from frame `from` on, with one [`Run::push`] a frame, until
    /// `push` returns `false` or there are no more frames. A frame whose payload is still arriving is
    /// shown with the payload that is available, and is the last one.
    fn frames(&mut self, group: Token, from: u64, run: &mut Run<'_>) -> Supply;

    /// The next change for a reader of announcements; `None` when the reader is up to date.
    fn announcement(&mut self, reader: Token) -> Option<Announcement>;
}

/// The continuation of the frames that [`Source::frames`] showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Supply {
    /// The group ends after them.
    End,
    /// The group is no longer available, for this reason. Returned once; then the token is free.
    Gone(Error),
    /// More is available already.
    More,
    /// More may arrive, which [`Command::GroupReady`](super::Command::GroupReady) will announce.
    Pending,
}

/// One change of the set of broadcasts, or of their tracks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// A broadcast can be subscribed.
    Active {
        /// Relative to the prefix of the announce request.
        suffix: Path,
        /// The hops that the announcement passed, without ours: none for a broadcast of this
        /// process.
        hops: Hops,
        /// The cost of the route.
        cost: Cost,
    },
    /// The broadcast can't be subscribed any more.
    Ended {
        /// Relative to the prefix of the announce request.
        suffix: Path,
    },
    /// A track can be subscribed. It is read only for
    /// [`Event::TracksRequested`](super::Event::TracksRequested), and its end is not reported.
    Track {
        /// The path of its broadcast, relative to the prefix of the request.
        suffix: Path,
        /// Name of the track.
        track: Box<str>,
        /// The track information.
        info: TrackInfo,
        /// The newest frame of the track.
        largest: Option<FramePosition>,
    },
}
