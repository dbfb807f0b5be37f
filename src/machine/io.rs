//! The edges of the machine towards QUIC: [`Input`] and [`Action`], and towards the cache: [`Source`].

use bytes::Bytes;

use super::counts::PathInfo;
use crate::error::Error;
use crate::hop::Cost;
use crate::hop::Hops;
use crate::path::Path;
use crate::slab::Key;
use crate::stream::{Code, Dir, StreamId};
use crate::time::Timestamp;

/// What the QUIC connection tells the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Input {
    /// Stream credit came back after [`Open::blocked`](super::Open::blocked).
    Available {
        /// Of which kind.
        dir: Dir,
    },
    /// The connection is gone, by the peer or by the transport.
    Closed {
        /// Why: [`Error::from_session_code`] of what the peer said, or [`Error::Timeout`] or
        /// [`Error::Disconnected`] if it said nothing.
        error: Error,
    },
    /// A QUIC datagram came.
    Datagram {
        /// All of it.
        bytes: Bytes,
    },
    /// Datagrams are taken again after [`Datagram::blocked`](super::Datagram::blocked).
    DatagramsAvailable,
    /// The next bytes of a stream, in order and in any split. Empty with `fin` is legal.
    Data {
        /// On which stream, opened by us or named by `Opened`; others are ignored.
        id: StreamId,
        /// The bytes.
        bytes: Bytes,
        /// Whether the peer finished the stream behind them.
        fin: bool,
    },
    /// How large a datagram may be now. Before the first time: 0.
    MaxDatagram {
        /// Bytes, without what QUIC adds. 0 if the peer or the path takes none.
        bytes: usize,
    },
    /// What QUIC knows of the way to the peer changed. Nothing is done about it but to tell it on; a few
    /// times a second is enough.
    Path(PathInfo),
    /// The peer opened a stream.
    Opened {
        /// Its id.
        id: StreamId,
    },
    /// RESET_STREAM: the peer gave up sending.
    Reset {
        /// On which stream.
        id: StreamId,
        /// Its reason.
        code: Code,
    },
    /// STOP_SENDING: the peer will not read on.
    Stopped {
        /// On which stream.
        id: StreamId,
        /// Its reason.
        code: Code,
    },
    /// Time passed, and nothing else is to be told: what is commanded next happens now.
    Time,
    /// A stream takes bytes again after [`Write::blocked`](super::Write::blocked).
    Writable {
        /// Which stream.
        id: StreamId,
    },
}

/// What the QUIC connection is asked to do. Small, without payload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub enum Action {
    /// Close the connection; nothing follows.
    Close {
        /// The application's code.
        code: Code,
        /// Text for people.
        reason: &'static str,
    },
    /// RESET_STREAM: abandon our half.
    Reset {
        /// On which stream.
        id: StreamId,
        /// Why.
        code: Code,
    },
    /// [`Machine::read_limit`](super::Machine::read_limit) of the stream left 0: read on.
    Resume {
        /// Which stream.
        id: StreamId,
    },
    /// How urgent our half is from now on.
    SetPriority {
        /// On which stream.
        id: StreamId,
        /// Higher goes first.
        priority: i32,
    },
    /// STOP_SENDING: the peer's half is not wanted.
    Stop {
        /// On which stream.
        id: StreamId,
        /// Why.
        code: Code,
    },
}

/// Names something of the layer above: a slot in its table, and which use of the slot is meant.
///
/// The machine gives it back as it was, and never looks inside.
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

/// Where the machine reads what it sends: the cache of the layer above, lent for one call.
///
/// Every method is total and never blocks; an unknown token is [`Supply::Gone`], or `None`.
pub trait Source {
    /// Shows `run` the frames of a group from frame `from` on, one [`Run::push`] a frame, until it
    /// answers `false` or there are no more. A frame whose payload is still arriving is shown with
    /// what is there, and is the last.
    ///
    /// [`Run::push`]: super::Run::push
    fn frames(&mut self, group: Token, from: u64, run: &mut super::Run<'_>) -> Supply;

    /// The next change for a reader of announcements, `None` when it knows everything.
    fn announcement(&mut self, reader: Token) -> Option<Announcement>;
}

/// What comes after the frames that [`Source::frames`] showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Supply {
    /// The group ends behind them.
    End,
    /// Nothing is left of it, for this reason; said once, then the token is free.
    Gone(Error),
    /// More is there already.
    More,
    /// More may come: say [`Command::GroupReady`](super::Command::GroupReady) then.
    Pending,
}

/// One frame as [`Source::frames`] shows it.
#[derive(Clone, Debug)]
pub struct FrameView<'a> {
    /// When it is to be shown.
    pub timestamp: Timestamp,
    /// The timestamp of the frame before it in the group, 0 for the first.
    pub previous: Timestamp,
    /// Bytes of payload that were declared.
    pub size: u64,
    /// The whole frame as moq-lite 05 and later write it, if it lies so in one piece:
    /// timestamp delta, size, payload.
    pub wire: Option<WireFrame<'a>>,
    /// The payload that is there, in order; not used if `wire` is given.
    pub payload: &'a [Bytes],
    /// Bytes of payload before the first of `payload`, at most what [`Run::skipped`] says and 0 behind
    /// the first frame: so that a large frame is not walked through anew for each write.
    ///
    /// [`Run::skipped`]: super::Run::skipped
    pub offset: u64,
}

/// A frame that lies in the cache as it is written.
#[derive(Clone, Copy, Debug)]
pub struct WireFrame<'a> {
    /// `[timestamp delta][size][payload]`, canonical varints.
    pub bytes: &'a Bytes,
    /// Bytes of the timestamp delta.
    pub delta_len: usize,
    /// Bytes of the timestamp delta and the size.
    pub head_len: usize,
}

/// Bytes of announcements that are written before QUIC takes any: what was read is remembered, and can't be
/// coalesced any more.
pub(super) const AHEAD: usize = 2 << 10;

/// One change of the set of broadcasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// A broadcast can be subscribed.
    Active {
        /// Relative to the prefix that was asked for.
        suffix: Path,
        /// Who it came through, without us.
        hops: Hops,
        /// What a path to it costs.
        cost: Cost,
    },
    /// It can't be subscribed any more.
    Ended {
        /// Relative to the prefix that was asked for.
        suffix: Path,
    },
}
