//! Reading a group: by applications, which keep its frames, and by sessions, which don't.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker, ready};

use bytes::Bytes;

use super::super::page::Page;
use super::super::wakers::{WaitSlot, lock, wait};
use super::super::{Frame, FrameConsumer, Result};
use super::{Kept, State};
use crate::error::Error;
use crate::machine::{FrameView, Supply};

/// A group that is read; if by an application, its frames stay in the cache meanwhile.
struct Reading {
    group: Arc<Kept>,
    is_pin: bool,
}

impl Reading {
    fn new(group: Arc<Kept>, is_pin: bool) -> Self {
        group.pins.fetch_add(usize::from(is_pin), Ordering::SeqCst);
        Self { group, is_pin }
    }
}

impl Clone for Reading {
    fn clone(&self) -> Self {
        Self::new(self.group.clone(), self.is_pin)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let group = &self.group;
        let was_last = self.is_pin && group.pins.fetch_sub(1, Ordering::SeqCst) == 1;
        if was_last && group.overdue.load(Ordering::SeqCst) {
            if let Some(track) = group.track.upgrade() {
                track.sweep();
            }
        }
    }
}

/// Reads a group, frame by frame in order. A clone goes on from where the original stands.
///
/// As long as it lives the group's frames stay, unless the track runs out of memory; then reading
/// fails with [`Error::Evicted`].
pub struct GroupConsumer {
    reading: Reading,
    /// The page of the last frame that was read, for which no lock is needed.
    page: Option<Arc<Page>>,
    index: u64,
    slot: WaitSlot,
    whole_slot: WaitSlot,
    end_slot: WaitSlot,
}

impl GroupConsumer {
    pub(crate) fn new(group: Arc<Kept>) -> Self {
        Self::with(Reading::new(group, true), None, 0)
    }

    /// One that does not keep the group's frames.
    pub(crate) fn unpinned(group: Arc<Kept>) -> Self {
        Self::with(Reading::new(group, false), None, 0)
    }

    fn with(reading: Reading, page: Option<Arc<Page>>, index: u64) -> Self {
        let (slot, whole_slot, end_slot) = Default::default();
        Self { reading, page, index, slot, whole_slot, end_slot }
    }

    /// A session's view of the group, which does not keep its frames by itself.
    pub(crate) fn cursor(&self) -> GroupCursor {
        GroupCursor::new(self.reading.group.clone())
    }

    /// Whether more may come.
    pub(crate) fn is_open(&self) -> bool {
        self.reading.group.is_open()
    }

    /// Its number in the track.
    pub fn sequence(&self) -> u64 {
        self.reading.group.sequence
    }

    /// The number of the frame that is read next.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The frame `index`, if it is on the page of the last one: what needs no lock.
    #[inline]
    fn at_hand(&self, index: u64) -> Option<Frame> {
        self.page.as_ref().and_then(|page| Frame::on(page, index))
    }

    fn frame(&mut self, waker: Option<&Waker>, index: u64) -> Poll<Result<Option<Frame>>> {
        match self.at_hand(index) {
            Some(frame) => Poll::Ready(Ok(Some(frame))),
            None => self.turn(waker, index),
        }
    }

    /// Goes to the page of the frame `index`.
    #[cold]
    fn turn(&mut self, waker: Option<&Waker>, index: u64) -> Poll<Result<Option<Frame>>> {
        let waker = waker.cloned();
        let page = {
            // Declared before the guard: dropped after the unlock.
            let _displaced;
            let mut state = lock(&self.reading.group.state);
            match state.page(index) {
                Poll::Ready(Ok(Some(page))) => page.clone(),
                Poll::Ready(Ok(None)) => return Poll::Ready(Ok(None)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    _displaced =
                        waker.and_then(|waker| state.wholes.register(&mut self.whole_slot, waker));
                    return Poll::Pending;
                }
            }
        };
        let frame = Frame::on(&page, index);
        self.page = Some(page);
        Poll::Ready(Ok(frame))
    }

    #[inline]
    pub(crate) fn next(&mut self, waker: Option<&Waker>) -> Poll<Result<Option<Frame>>> {
        // Apart, so that what is at hand is not moved about with what is not.
        if let Some(frame) = self.at_hand(self.index) {
            self.index += 1;
            return Poll::Ready(Ok(Some(frame)));
        }
        let frame = self.turn(waker, self.index);
        self.index += u64::from(matches!(frame, Poll::Ready(Ok(Some(_)))));
        frame
    }

    wait! {
        /// The next frame, whole; `None` at the clean end.
        ///
        /// Takes no lock while there is a next frame on the page of the last one.
        next => poll_next_frame, next_frame, try_next_frame() -> Result<Option<Frame>>
    }

    fn read(&mut self, waker: Option<&Waker>) -> Poll<Result<Option<Bytes>>> {
        let frame = ready!(self.next(waker))?;
        Poll::Ready(Ok(frame.map(|frame| frame.bytes())))
    }

    wait! {
        /// The payload of the next frame, whole; `None` at the clean end.
        read => poll_read_frame, read_frame, try_read_frame() -> Result<Option<Bytes>>
    }

    wait! {
        /// The frame `index`, whole; `None` if the group ends before it. The cursor stays.
        frame => poll_get_frame, get_frame, try_get_frame(index: u64) -> Result<Option<Frame>>
    }

    fn start(&mut self, waker: Option<&Waker>) -> Poll<Result<Option<FrameConsumer>>> {
        let waker = waker.cloned();
        let (timestamp, size) = {
            // Declared before the guard: dropped after the unlock.
            let _displaced;
            let mut state = lock(&self.reading.group.state);
            match (state.page(self.index), &state.open) {
                (Poll::Ready(Ok(Some(page))), _) => match page.slot(self.index) {
                    Some(slot) => (slot.timestamp, slot.len() as u64),
                    None => return Poll::Ready(Err(Error::Internal)),
                },
                (Poll::Ready(Ok(None)), _) => return Poll::Ready(Ok(None)),
                (Poll::Ready(Err(error)), _) => return Poll::Ready(Err(error)),
                (Poll::Pending, Some(open)) if self.index == state.frames => {
                    (open.start.timestamp, open.size)
                }
                (Poll::Pending, _) => {
                    _displaced =
                        waker.and_then(|waker| state.readers.register(&mut self.slot, waker));
                    return Poll::Pending;
                }
            }
        };
        let frame = FrameConsumer::new(self.clone(), self.index, timestamp, size);
        self.index += 1;
        Poll::Ready(Ok(Some(frame)))
    }

    wait! {
        /// The next frame as soon as it begins, to be read while it comes; `None` at the clean end.
        start => poll_start_frame, start_frame, try_start_frame() -> Result<Option<FrameConsumer>>
    }

    /// Bytes of the frame `index` from `offset` on, which is before its end.
    pub(crate) fn piece(
        &mut self,
        index: u64,
        offset: u64,
        waker: Option<&Waker>,
    ) -> Poll<Result<Bytes>> {
        let waker = waker.cloned();
        // Declared before the guard: dropped after the unlock.
        let _displaced;
        let mut state = lock(&self.reading.group.state);
        let is_open = index == state.frames;
        if let Some(open) = state.open().filter(|_| is_open) {
            if let Some(piece) = open.pieces.piece(offset) {
                return Poll::Ready(Ok(piece));
            }
        }
        match state.page(index) {
            Poll::Ready(Ok(page)) => {
                let piece = page.and_then(|page| page.slot(index)?.piece(offset));
                Poll::Ready(piece.ok_or(Error::Internal))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                _displaced = waker.and_then(|waker| state.readers.register(&mut self.slot, waker));
                Poll::Pending
            }
        }
    }

    fn end(&mut self, waker: Option<&Waker>) -> Poll<Result<u64>> {
        let waker = waker.cloned();
        // Declared before the guard: dropped after the unlock.
        let _displaced;
        let mut state = lock(&self.reading.group.state);
        match &state.end {
            Some(Ok(())) => Poll::Ready(Ok(state.frames)),
            Some(Err(error)) => Poll::Ready(Err(error.clone())),
            None => {
                _displaced =
                    waker.and_then(|waker| state.finishers.register(&mut self.end_slot, waker));
                Poll::Pending
            }
        }
    }

    wait! {
        /// How many frames the group has, once it ended cleanly; else why it ended.
        end => poll_finished, finished, try_finished() -> Result<u64>
    }
}

impl Clone for GroupConsumer {
    fn clone(&self) -> Self {
        Self::with(self.reading.clone(), self.page.clone(), self.index)
    }
}

impl Drop for GroupConsumer {
    fn drop(&mut self) {
        let Self { reading, slot, whole_slot, end_slot, .. } = self;
        if slot.is_used() || whole_slot.is_used() || end_slot.is_used() {
            let mut state = lock(&reading.group.state);
            let State { readers, wholes, finishers, .. } = &mut *state;
            let freed = (readers.free(slot), wholes.free(whole_slot), finishers.free(end_slot));
            drop(state);
            drop(freed);
        }
    }
}

impl fmt::Debug for GroupConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupConsumer")
            .field("sequence", &self.sequence())
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// A session's view of a group: it keeps no frames.
pub(crate) struct GroupCursor {
    group: Arc<Kept>,
    slot: Cell<WaitSlot>,
}

impl GroupCursor {
    pub(crate) fn new(group: Arc<Kept>) -> Self {
        Self { group, slot: Cell::default() }
    }

    /// Its number in the track.
    pub(crate) fn sequence(&self) -> u64 {
        self.group.sequence
    }

    /// Whether it is to go as a datagram.
    pub(crate) fn is_datagram(&self) -> bool {
        self.group.is_datagram
    }

    /// Shows `push` the frames from `from` on until it answers `false`, the open one last, all under
    /// one lock; of the first one `skipped` bytes of payload or fewer are left out. On [`Supply::Pending`] `waker` stays behind, in the place of an earlier one.
    pub(crate) fn frames(
        &self,
        from: u64,
        skipped: u64,
        waker: Option<&Waker>,
        push: &mut dyn FnMut(FrameView<'_>) -> bool,
    ) -> Supply {
        let waker = waker.cloned();
        // Declared before the guard: dropped after the unlock.
        let _displaced;
        let mut state = lock(&self.group.state);
        let mut index = from;
        let skipped = |index| if index == from { skipped } else { 0 };
        loop {
            match state.page(index) {
                Poll::Ready(Ok(Some(page))) => {
                    while let Some(slot) = page.slot(index) {
                        if !push(slot.view(skipped(index))) {
                            return Supply::More;
                        }
                        index += 1;
                    }
                }
                Poll::Ready(Ok(None)) => return Supply::End,
                Poll::Ready(Err(error)) => return Supply::Gone(error),
                Poll::Pending => break,
            }
        }
        let previous = state.last;
        let is_open = index == state.frames;
        if let Some(open) = state.open().filter(|_| is_open) {
            let (timestamp, size) = (open.start.timestamp, open.size);
            let (payload, offset) = open.pieces.from(skipped(index));
            // An incomplete frame can't be taken whole, and is the last in any case.
            push(FrameView { timestamp, previous, size, wire: None, payload, offset });
        }
        let mut slot = self.slot.take();
        _displaced = waker.and_then(|waker| state.readers.register(&mut slot, waker));
        self.slot.set(slot);
        Supply::Pending
    }
}

impl Drop for GroupCursor {
    fn drop(&mut self) {
        let slot = self.slot.get_mut();
        if slot.is_used() {
            let freed = lock(&self.group.state).readers.free(slot);
            drop(freed);
        }
    }
}
