//! FETCHes in both directions, as every dialect keeps them: single groups. The answer is sent and read like
//! any other group, on the stream of the request or on one of its own.

use crate::machine::layout::{Head, Layout};
use crate::machine::run::FrameRange;
use crate::slab::Key;
use crate::stream::StreamId;

/// A FETCH of the peer. Once it was accepted, the schedule has a track with its group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IncomingFetch {
    pub(crate) priority: u8,
    pub(crate) sequence: u64,
    pub(crate) range: FrameRange,
}

/// The stream that carries the answer to a FETCH of the peer.
#[derive(Debug)]
pub(crate) enum AnswerStream {
    /// That of the request.
    Request(StreamId),
    /// One of its own.
    Own { head: Head, layout: Layout },
}

/// A FETCH of ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutgoingFetch {
    pub(crate) request: Key,
    pub(crate) priority: u8,
    pub(crate) sequence: u64,
    pub(crate) range: FrameRange,
    /// The group stream, once the answer begins.
    pub(crate) group: Option<Key>,
}
