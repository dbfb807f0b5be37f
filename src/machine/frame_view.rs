//! One frame of the cache, as [`Source::frames`](super::Source::frames) shows it.

use bytes::Bytes;

use crate::properties::Properties;
use crate::time::Timestamp;

/// One frame as [`Source::frames`](super::Source::frames) shows it.
#[derive(Clone, Debug)]
pub struct FrameView<'a> {
    /// Presentation timestamp.
    pub timestamp: Timestamp,
    /// The timestamp of the previous frame of the group, 0 for the first frame.
    pub previous: Timestamp,
    /// Declared size of the payload in bytes.
    pub size: u64,
    /// The properties with which the frame came from a session of moq-transport, if they are others than its
    /// timestamp: they take its place where the frame is sent to such a session.
    pub properties: Option<&'a Properties>,
    /// The whole frame as moq-lite 05 and 06 write it, if the cache holds it so in one piece:
    /// timestamp delta, size, payload.
    pub wire: Option<WireFrame<'a>>,
    /// The payload that is available, in order. It is ignored if `wire` is set.
    pub payload: &'a [Bytes],
    /// Bytes of payload before the first piece of `payload`: at most [`Run::skipped`], and 0 after the
    /// first frame. It lets the source continue a large frame without walking through it again for each
    /// write.
    ///
    /// [`Run::skipped`]: super::Run::skipped
    pub offset: u64,
}

/// A frame that the cache holds as it is written.
#[derive(Clone, Copy, Debug)]
pub struct WireFrame<'a> {
    /// `[timestamp delta][size][payload]`, with canonical varints.
    pub bytes: &'a Bytes,
    /// Length of the timestamp delta in bytes.
    pub delta_len: usize,
    /// Length of the timestamp delta and the size in bytes.
    pub head_len: usize,
}
