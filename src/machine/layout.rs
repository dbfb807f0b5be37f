//! How the frames of a group lie on a stream, for writing and for reading.

use smallvec::SmallVec;

use super::io::{FrameView, WireFrame};
use super::streams::Recv;
use crate::coding::lite::{Features, FrameHead};
use crate::error::Error;
use crate::time::Timestamp;
use crate::version::Version;

/// What stands before a payload, or before the frames of a group.
pub(super) type Head = SmallVec<[u8; 32]>;

/// How the frames of a group are written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layout {
    /// FRAME of moq-lite: the timestamp's change (05+), size, payload.
    Lite(Version),
}

/// A frame that begins.
pub(super) struct FrameStart {
    /// `None` where the layout has none.
    pub(super) timestamp: Option<Timestamp>,
    pub(super) size: u64,
}

impl Layout {
    /// From which byte on a frame of the cache can be sent as it lies there, if it can. `restarts`: it
    /// is the first on its stream, and not the first of its group.
    pub(super) fn as_it_lies(self, wire: &WireFrame<'_>, restarts: bool) -> Option<usize> {
        match self {
            Self::Lite(_) if restarts => None,
            Self::Lite(version) if Features::of(version).timestamps => Some(0),
            Self::Lite(_) => Some(wire.delta_len),
        }
    }

    /// What stands before the payload of a frame; `None` if it can't be written.
    pub(super) fn head(self, frame: &FrameView<'_>, restarts: bool) -> Option<Head> {
        match self {
            Self::Lite(version) => {
                let previous = if restarts { Timestamp::ZERO } else { frame.previous };
                let head = FrameHead::between(previous, frame.timestamp, frame.size);
                Some(Head::from_slice(&head.encode(version).ok()?))
            }
        }
    }

    /// Takes what stands before the payload of the next frame off a stream; `None` if it is not all
    /// there. `previous`: the timestamp of the frame before it.
    pub(super) fn read(
        self,
        recv: &mut Recv,
        previous: Timestamp,
    ) -> Result<Option<FrameStart>, Error> {
        match self {
            Self::Lite(version) => {
                let mut front = [0; 16];
                let Some((head, len)) = FrameHead::read(recv.peek(&mut front), version)? else {
                    return Ok(None);
                };
                recv.skip(len);
                let timestamp = head
                    .timestamp(previous)
                    .map_err(|_| Error::Malformed(crate::DecodeError::BoundsExceeded))?;
                let timestamp = Features::of(version).timestamps.then_some(timestamp);
                Ok(Some(FrameStart { timestamp, size: head.size }))
            }
        }
    }
}
