//! Writing a group, and a frame whose size is known before its bytes.

use std::sync::Arc;
use std::{fmt, mem};

use bytes::Bytes;

use super::cached_group::{CachedGroup, OpenFrame, SMALL};
use super::consumer::GroupConsumer;
use crate::model::Result;
use crate::model::base::{DeferredWakes, lock};
use crate::model::cache::page::Slot;
use crate::{Error, Timestamp};

/// Writes a group. Cloning adds a writer; if the last one is dropped before
/// [`finish`](Self::finish), the group is aborted with [`Error::Dropped`].
pub struct GroupProducer {
    group: Arc<CachedGroup>,
    wakes: DeferredWakes,
}

impl GroupProducer {
    pub(crate) fn new(group: Arc<CachedGroup>) -> Self {
        lock(&group.state).producers += 1;
        Self { group, wakes: DeferredWakes::default() }
    }

    /// Its number in the track.
    pub fn sequence(&self) -> u64 {
        self.group.sequence
    }

    /// Appends a whole frame.
    ///
    /// Up to 512 bytes are copied, more are shared. Fails if the group ended, if a frame of
    /// [`create_frame`](Self::create_frame) is open ([`Error::Duplicate`]), and past a limit
    /// ([`Error::FrameTooLarge`], [`Error::GroupTooLarge`]), which also aborts the group.
    pub fn write_frame(
        &mut self,
        timestamp: impl Into<Timestamp>,
        payload: impl Into<Bytes>,
    ) -> Result<()> {
        let (timestamp, group) = (timestamp.into(), &self.group);
        // Outlives the lock, whatever becomes of it: dropping it may run foreign code.
        let mut payload = Some(payload.into());
        group.write(&mut self.wakes, |state| {
            let size = payload.as_ref().map_or(0, |payload: &Bytes| payload.len() as u64);
            let start = group.begin_frame(state, timestamp, size)?;
            match payload.take_if(|_| size > SMALL) {
                Some(payload) => {
                    group.page(&mut state.pages, state.frames).charge().add(payload.len());
                    group.put(state, Slot::shared(&start, payload));
                }
                None => group.put_copy(state, &start, payload.as_slice()),
            }
            Ok(())
        })
    }

    /// Begins a frame of `size` bytes, to be written piece by piece. One at a time: another one
    /// meanwhile is [`Error::Duplicate`]. Fails as [`write_frame`](Self::write_frame).
    pub fn create_frame(
        &mut self,
        timestamp: impl Into<Timestamp>,
        size: u64,
    ) -> Result<FrameProducer> {
        let (timestamp, group) = (timestamp.into(), &self.group);
        group.write(&mut self.wakes, |state| {
            let start = group.begin_frame(state, timestamp, size)?;
            group.open(state, start, size);
            state.changed = true;
            Ok(())
        })?;
        Ok(FrameProducer::new(self.clone(), size))
    }

    /// Copies a received frame of `size` bytes that begins with `first`; what is missing goes to the
    /// frame that comes back. Fails as [`write_frame`](Self::write_frame).
    pub(crate) fn ingest(
        &mut self,
        timestamp: Timestamp,
        size: u64,
        first: &[u8],
    ) -> Result<Option<FrameProducer>> {
        if first.len() as u64 != size {
            let mut frame = self.create_frame(timestamp, size)?;
            frame.write(first)?;
            return Ok(Some(frame));
        }
        let group = &self.group;
        group.write(&mut self.wakes, |state| {
            let start = group.begin_frame(state, timestamp, size)?;
            group.put_copy(state, &start, &[first]);
            Ok(())
        })?;
        Ok(None)
    }

    /// The open frame comes anew, of `size` bytes: how many bytes of it are here. Fails with
    /// [`Error::WrongSize`] if it is not the same frame.
    pub(crate) fn resume_frame(&self, timestamp: Option<Timestamp>, size: u64) -> Result<u64> {
        let state = lock(&self.group.state);
        let same = |open: &&OpenFrame| {
            open.size == size && timestamp.is_none_or(|it| it == open.start.timestamp)
        };
        state.open.as_ref().filter(same).map(|open| open.received).ok_or(Error::WrongSize)
    }

    /// For the open frame, which holds one of us.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let group = &self.group;
        group.write(&mut self.wakes, |state| group.append(state, bytes))
    }

    /// Ends the group cleanly. With an incomplete frame it is aborted with [`Error::WrongSize`]
    /// instead. Fails if it ended before.
    pub fn finish(&mut self) -> Result<()> {
        self.group.change(&mut self.wakes, |state| match &state.end {
            Some(Ok(())) => Err(Error::Closed),
            Some(Err(error)) => Err(error.clone()),
            None => {
                let end = if state.open.is_some() { Err(Error::WrongSize) } else { Ok(()) };
                state.stop(end.clone());
                end
            }
        })
    }

    /// Ends the group; readers get the reason after what they have. Nothing if it ended before.
    pub fn abort(&mut self, error: Error) {
        self.group.abort(error, &mut self.wakes);
    }

    /// Complete frames.
    pub fn frame_count(&self) -> u64 {
        lock(&self.group.state).frames
    }

    /// Reads from the first frame on.
    pub fn consume(&self) -> GroupConsumer {
        GroupConsumer::new(self.group.clone())
    }
}

#[cfg(test)]
impl GroupProducer {
    /// Holds the group's lock, for tests of what does without.
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
        self.group.change(&mut self.wakes, |state| {
            state.producers -= 1;
            if state.producers == 0 {
                state.stop(Err(Error::Dropped));
            }
        });
    }
}

impl fmt::Debug for GroupProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupProducer").field("sequence", &self.sequence()).finish_non_exhaustive()
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
    pub(crate) fn new(group: GroupProducer, remaining: u64) -> Self {
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
