//! FETCHes in both directions, as every dialect keeps them: single groups, each on the stream of its
//! own request. The answer is sent and read like any other group.

use crate::machine::run::FrameRange;
use crate::slab::Key;

/// A FETCH of the peer. Once it was accepted, the schedule has a track with its group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IncomingFetch {
    pub(crate) priority: u8,
    pub(crate) sequence: u64,
    pub(crate) range: FrameRange,
}

/// A FETCH of ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutgoingFetch {
    pub(crate) request: Key,
    pub(crate) priority: u8,
    pub(crate) range: FrameRange,
    /// The group stream, once the answer begins.
    pub(crate) group: Option<Key>,
}
