//! Writing a group, whole frames or one whose size is known before its bytes.

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::{mem, slice};

use bytes::Bytes;

use super::cached_group::{CachedGroup, OpenFrame, SMALL};
use super::consumer::GroupConsumer;
use crate::model::base::{DeferredWakes, Result, WaitSlot, impl_debug, lock, wait};
use crate::{Error, Properties, Timestamp};

/// Writes a group. A clone is another writer of the same group. If the last one is dropped before
/// [`finish`](Self::finish), the group is aborted with [`Error::Dropped`].
pub struct GroupProducer {
    group: Arc<CachedGroup>,
    wakes: DeferredWakes,
    end_slot: WaitSlot,
}

impl GroupProducer {
    pub(crate) fn new(group: Arc<CachedGroup>) -> Self {
        lock(&group.state).join();
        Self { group, wakes: DeferredWakes::default(), end_slot: WaitSlot::default() }
    }

    /// The number of the group in its track.
    pub fn sequence(&self) -> u64 {
        self.group.sequence
    }

    /// Appends a whole frame. A payload of up to 512 bytes is copied, a larger one is shared.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if the group is finished; the reason if it was aborted;
    /// [`Error::Duplicate`] if a frame of [`create_frame`](Self::create_frame) is open. These leave
    /// the group as it is. [`Error::FrameTooLarge`] and [`Error::GroupTooLarge`] past a limit,
    /// which also aborts this group. Other groups are not affected.
    pub fn write_frame(
        &mut self,
        timestamp: impl Into<Timestamp>,
        payload: impl Into<Bytes>,
    ) -> Result<()> {
        self.put(timestamp.into(), payload.into())
    }

    /// Not generic, so that it is compiled once, together with what it calls.
    fn put(&mut self, timestamp: Timestamp, mut payload: Bytes) -> Result<()> {
        let (group, size) = (&self.group, payload.len() as u64);
        // The payload outlives the lock in any case, because dropping it may run foreign code.
        group.write(&mut self.wakes, |state| {
            group.begin_frame(state, size)?;
            if size > SMALL {
                group.put_shared(state, timestamp, mem::take(&mut payload));
            } else {
                group.put_copy(state, timestamp, None, slice::from_ref(&payload));
            }
            Ok(())
        })
    }

    /// Begins a frame of `size` bytes, to be written in pieces. Only one frame can be open at a
    /// time.
    ///
    /// # Errors
    ///
    /// As [`write_frame`](Self::write_frame).
    pub fn create_frame(
        &mut self,
        timestamp: impl Into<Timestamp>,
        size: u64,
    ) -> Result<FrameProducer> {
        self.begin_frame(timestamp.into(), None, size)
    }

    fn begin_frame(
        &mut self,
        timestamp: Timestamp,
        properties: Option<Properties>,
        size: u64,
    ) -> Result<FrameProducer> {
        let group = &self.group;
        group.write(&mut self.wakes, |state| {
            group.begin_frame(state, size)?;
            group.open(state, timestamp, properties, size);
            Ok(())
        })?;
        Ok(FrameProducer { group: self.clone(), timestamp, size, remaining: size })
    }

    /// Copies a received frame of `size` bytes that begins with the pieces `first`. If bytes are missing, it returns the
    /// open frame to write them to. Fails as [`write_frame`](Self::write_frame).
    pub(crate) fn ingest(
        &mut self,
        timestamp: Timestamp,
        properties: Option<Properties>,
        size: u64,
        first: &[impl AsRef<[u8]>],
    ) -> Result<Option<FrameProducer>> {
        if first.iter().map(|piece| piece.as_ref().len() as u64).sum::<u64>() != size {
            let mut frame = self.begin_frame(timestamp, properties, size)?;
            first.iter().try_for_each(|piece| frame.write(piece.as_ref()))?;
            return Ok(Some(frame));
        }
        let group = &self.group;
        group.write(&mut self.wakes, |state| {
            group.begin_frame(state, size)?;
            group.put_copy(state, timestamp, properties, first);
            Ok(())
        })?;
        Ok(None)
    }

    /// The open frame is received again, with `size` bytes. Returns how many of its bytes are here.
    /// Fails with [`Error::WrongSize`] if it is not the same frame.
    pub(crate) fn resume_frame(&self, timestamp: Option<Timestamp>, size: u64) -> Result<u64> {
        let state = lock(&self.group.state);
        let same = |open: &&OpenFrame| {
            open.size == size && timestamp.is_none_or(|it| it == open.timestamp)
        };
        state.open_frame().filter(same).map(|open| open.received).ok_or(Error::WrongSize)
    }

    /// Ends the group cleanly.
    ///
    /// # Errors
    ///
    /// [`Error::WrongSize`] if a frame is incomplete, which aborts the group. [`Error::Closed`] if
    /// it was finished before, or the reason if it was aborted before; then nothing changes.
    pub fn finish(&mut self) -> Result<()> {
        self.group.change(&mut self.wakes, |state| match state.end() {
            Some(Ok(())) => Err(Error::Closed),
            Some(Err(error)) => Err(error),
            None => {
                let end = if state.open_frame().is_some() { Err(Error::WrongSize) } else { Ok(()) };
                state.stop(end.clone());
                end
            }
        })
    }

    /// Aborts the group. Readers get `error` after the frames that are here. It does nothing if the
    /// group has ended.
    pub fn abort(&mut self, error: Error) {
        self.group.abort(error, &mut self.wakes);
    }

    wait! {
        /// Waits until the group has ended, by any of its producers or because the cache gave it up.
        ///
        /// # Errors
        ///
        /// The reason if the end was not clean.
        wait_closed => poll_closed, closed, try_closed() -> Result<()>
    }

    fn wait_closed(&mut self, waker: Option<&Waker>) -> Poll<Result<()>> {
        let Self { group, end_slot, .. } = self;
        group.wait_end(waker, end_slot).map_ok(|_| ())
    }

    /// Whether the group has ended, in any way.
    pub fn is_closed(&self) -> bool {
        !self.group.is_open()
    }

    /// Whether both handles write the same group.
    pub fn is_clone(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.group, &other.group)
    }

    /// The number of complete frames.
    pub fn frame_count(&self) -> u64 {
        lock(&self.group.state).frames()
    }

    /// Creates a consumer that starts at the first frame.
    pub fn consume(&self) -> GroupConsumer {
        GroupConsumer::new(self.group.clone())
    }
}

#[cfg(test)]
impl GroupProducer {
    /// Holds the group's lock, to test what works without it.
    pub(crate) fn hold_lock(&self) -> impl Sized + '_ {
        lock(&self.group.state)
    }
}

impl Clone for GroupProducer {
    fn clone(&self) -> Self {
        Self::new(self.group.clone())
    }
}

impl Drop for GroupProducer {
    fn drop(&mut self) {
        let Self { group, wakes, end_slot } = self;
        let _freed = group.change(wakes, |state| {
            state.leave();
            state.extras()?.end_waiters.free(end_slot)
        });
    }
}

impl_debug! { GroupProducer, it => sequence: &it.sequence() }

/// Writes one frame whose size was declared in advance.
///
/// The frame is complete when its last byte is written. If it is dropped before, its group is
/// aborted with [`Error::Dropped`].
#[derive(Debug)]
pub struct FrameProducer {
    group: GroupProducer,
    timestamp: Timestamp,
    size: u64,
    remaining: u64,
}

impl FrameProducer {
    /// The presentation time, in units of the track's timescale.
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// The declared payload size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The number of missing bytes.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Appends bytes to the frame by copying them.
    ///
    /// # Errors
    ///
    /// [`Error::WrongSize`] past the declared size, which aborts the group; the reason if the group
    /// was aborted before.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.advance(bytes.len())?;
        let GroupProducer { group, wakes, .. } = &mut self.group;
        group.write(wakes, |state| group.append(state, bytes))
    }

    /// Appends bytes to the frame. Up to 512 bytes are copied, more are shared.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub fn write_chunk(&mut self, chunk: impl Into<Bytes>) -> Result<()> {
        let mut chunk = chunk.into();
        if chunk.len() as u64 <= SMALL {
            return self.write(&chunk);
        }
        self.advance(chunk.len())?;
        let GroupProducer { group, wakes, .. } = &mut self.group;
        // The chunk outlives the lock if it is not taken, because dropping it may run foreign code.
        group.write(wakes, |state| group.append_shared(state, &mut chunk))
    }

    /// Counts bytes that are written.
    fn advance(&mut self, len: usize) -> Result<()> {
        match self.remaining.checked_sub(len as u64) {
            Some(remaining) => self.remaining = remaining,
            None => return Err(self.fail()),
        }
        Ok(())
    }

    /// Checks that the frame is complete.
    ///
    /// # Errors
    ///
    /// [`Error::WrongSize`] if bytes are missing, which aborts the group; the reason if the group was
    /// aborted before.
    pub fn finish(&mut self) -> Result<()> {
        if self.remaining == 0 { Ok(()) } else { Err(self.fail()) }
    }

    /// Aborts the frame, and with it its group: readers get `error` after the frames before this one. It does
    /// nothing if the group has ended.
    pub fn abort(&mut self, error: Error) {
        self.group.abort(error);
    }

    /// Aborts the group unless it has ended before, and returns the reason for its end.
    fn fail(&mut self) -> Error {
        self.group.abort(Error::WrongSize);
        match self.group.try_closed() {
            Poll::Ready(Err(error)) => error,
            _ => Error::WrongSize,
        }
    }
}

impl Drop for FrameProducer {
    fn drop(&mut self) {
        if mem::take(&mut self.remaining) != 0 {
            self.group.abort(Error::Dropped);
        }
    }
}
