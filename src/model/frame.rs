//! Frames: one to keep, one that is being written, one that is being read while it comes.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;

use super::Result;
use super::group::{GroupConsumer, GroupProducer};
use super::page::{Page, Slot};
use super::wakers::wait;
use crate::error::Error;
use crate::time::Timestamp;

/// A whole frame: a handle into the cache, cheap to clone, that keeps the payload as long as it lives.
///
/// It keeps the page of the cache that the frame is on, up to 32 frames of its group. To keep few
/// frames for long, copy them.
#[derive(Clone)]
pub struct Frame {
    page: Arc<Page>,
    index: u64,
}

impl Frame {
    #[inline]
    pub(super) fn on(page: &Arc<Page>, index: u64) -> Option<Self> {
        page.slot(index).is_some().then(|| Self { page: page.clone(), index })
    }

    /// When it is to be shown, in units of the track's timescale.
    pub fn timestamp(&self) -> Timestamp {
        self.slot().map_or(Timestamp::ZERO, |slot| slot.timestamp)
    }

    /// Its number in the group, from 0.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The payload. One that came in several large pieces is joined by the first call.
    pub fn payload(&self) -> &[u8] {
        self.slot().map_or(&[], |slot| slot.payload(self.page.charge()))
    }

    /// The payload, shared and not copied.
    pub fn bytes(&self) -> Bytes {
        self.slot().map_or_else(Bytes::new, |slot| slot.bytes(self.page.charge()))
    }

    /// Bytes of payload.
    pub fn len(&self) -> usize {
        self.slot().map_or(0, Slot::len)
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Always there: the handle is made only for a slot that is set.
    fn slot(&self) -> Option<&Slot> {
        self.page.slot(self.index)
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        self.payload()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("index", &self.index)
            .field("timestamp", &self.timestamp())
            .field("len", &self.len())
            .finish()
    }
}

/// Writes one frame whose size is known before its bytes.
///
/// It is complete when the last byte is written. Dropped before, its group is aborted with
/// [`Error::Dropped`].
#[derive(Debug)]
pub struct FrameProducer {
    group: GroupProducer,
    remaining: u64,
}

impl FrameProducer {
    pub(super) fn new(group: GroupProducer, remaining: u64) -> Self {
        Self { group, remaining }
    }

    /// Appends bytes. Past the declared size the group is aborted with [`Error::WrongSize`], which is
    /// also the answer; if the group ended otherwise, the answer is why.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self.remaining.checked_sub(bytes.len() as u64) {
            Some(remaining) => self.remaining = remaining,
            None => return Err(self.fail()),
        }
        self.group.append(bytes)
    }

    /// Bytes that are missing.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Checks that all bytes are there; if not, the group is aborted with [`Error::WrongSize`], which
    /// is also the answer.
    pub fn finish(mut self) -> Result<()> {
        if self.remaining == 0 { Ok(()) } else { Err(self.fail()) }
    }

    fn fail(&mut self) -> Error {
        self.remaining = 0;
        self.group.abort(Error::WrongSize);
        Error::WrongSize
    }
}

impl Drop for FrameProducer {
    fn drop(&mut self) {
        if mem::take(&mut self.remaining) != 0 {
            self.group.abort(Error::Dropped);
        }
    }
}

/// Reads one frame while it comes.
#[derive(Clone, Debug)]
pub struct FrameConsumer {
    group: GroupConsumer,
    index: u64,
    timestamp: Timestamp,
    size: u64,
    offset: u64,
}

impl FrameConsumer {
    pub(super) fn new(group: GroupConsumer, index: u64, timestamp: Timestamp, size: u64) -> Self {
        Self { group, index, timestamp, size, offset: 0 }
    }

    /// When it is to be shown, in units of the track's timescale.
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// Its number in the group, from 0.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Bytes of payload that were declared.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn chunk(&mut self, waker: Option<&Waker>) -> Poll<Result<Option<Bytes>>> {
        if self.offset == self.size {
            return Poll::Ready(Ok(None));
        }
        let chunk = std::task::ready!(self.group.piece(self.index, self.offset, waker))?;
        self.offset += chunk.len() as u64;
        Poll::Ready(Ok(Some(chunk)))
    }

    wait! {
        /// The next bytes of the payload, at least one; `None` when all were given. Fails with the
        /// reason if the group is aborted before the frame is complete.
        chunk => poll_read_chunk, read_chunk, try_read_chunk() -> Result<Option<Bytes>>
    }
}
