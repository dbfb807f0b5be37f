//! Reading a group: whole frames, or one frame while it arrives.

use std::sync::Arc;
use std::task::{Poll, Waker, ready};

use bytes::Bytes;

use super::cached_group::CachedGroup;
use super::cursor::GroupCursor;
use crate::model::base::sync::atomic::Ordering;
use crate::model::base::{Result, WaitSlot, change, impl_debug, lock, wait, wait_on};
use crate::model::cache::frame::Frame;
use crate::model::cache::page::Page;
use crate::{Error, Timestamp};

/// Reads a group, frame by frame in order. A clone continues from the position of the original.
///
/// While a consumer lives, the frames of the group stay in the cache, unless the track runs out of
/// memory. Then reading fails with [`Error::Evicted`].
pub struct GroupConsumer {
    group: Arc<CachedGroup>,
    /// The page of the last frame that was read. Reading from it takes no lock.
    page: Option<Arc<Page>>,
    slot: WaitSlot,
    frame_slot: WaitSlot,
    end_slot: WaitSlot,
    /// A group has fewer frames than `u32::MAX`.
    index: u32,
    /// Whether it keeps the group's frames in the cache.
    is_pin: bool,
}

impl GroupConsumer {
    pub(crate) fn new(group: Arc<CachedGroup>) -> Self {
        Self::with(group, true, None, 0)
    }

    /// Creates a consumer that does not keep the group's frames.
    pub(crate) fn unpinned(group: Arc<CachedGroup>) -> Self {
        Self::with(group, false, None, 0)
    }

    fn with(group: Arc<CachedGroup>, is_pin: bool, page: Option<Arc<Page>>, index: u32) -> Self {
        group.pins.fetch_add(u32::from(is_pin), Ordering::SeqCst);
        let (slot, frame_slot, end_slot) = Default::default();
        Self { group, page, slot, frame_slot, end_slot, index, is_pin }
    }

    /// A cursor for a session, which does not keep the group's frames.
    pub(crate) fn cursor(&self) -> GroupCursor {
        GroupCursor::new(self.group.clone())
    }

    /// Whether the group has ended, in any way. Frames may be left to read.
    pub fn is_closed(&self) -> bool {
        !self.group.is_open()
    }

    /// Whether both handles read the same group.
    pub fn is_clone(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.group, &other.group)
    }

    /// The number of the group in its track.
    pub fn sequence(&self) -> u64 {
        self.group.sequence
    }

    /// The number of the next frame.
    #[inline]
    pub fn index(&self) -> u64 {
        self.index.into()
    }

    /// The number of complete frames that the group has so far.
    pub fn frame_count(&self) -> u64 {
        lock(&self.group.state).frames()
    }

    /// Moves the reader to the frame `index`. It can also move back.
    pub fn start_at(&mut self, index: u64) {
        self.index = u32::try_from(index).unwrap_or(u32::MAX);
    }

    /// The frame `index`, if it is on the current page. Takes no lock.
    #[inline]
    fn on_page(&self, index: u64) -> Option<Frame> {
        self.page.as_ref().and_then(|page| Frame::on(page, index))
    }

    #[inline]
    fn frame_at(&mut self, waker: Option<&Waker>, index: u64) -> Poll<Result<Option<Frame>>> {
        loop {
            if let Some(frame) = self.on_page(index) {
                return Poll::Ready(Ok(Some(frame)));
            }
            // It returns no frame, so that one stays in registers.
            if !ready!(self.load_page(waker, index))? {
                return Poll::Ready(Ok(None));
            }
        }
    }

    /// Moves to the page of the frame `index`; `false` if the group ended before that frame.
    #[cold]
    fn load_page(&mut self, waker: Option<&Waker>, index: u64) -> Poll<Result<bool>> {
        let Self { group, frame_slot, .. } = self;
        let page = wait_on(
            &group.state,
            waker,
            frame_slot,
            |state| &mut group.extras(state).frame_waiters,
            |state| state.page(index).map_ok(Option::<&Arc<Page>>::cloned),
        );
        let Some(page) = ready!(page)? else { return Poll::Ready(Ok(false)) };
        self.page = Some(page);
        Poll::Ready(Ok(true))
    }

    #[inline]
    pub(crate) fn next(&mut self, waker: Option<&Waker>) -> Poll<Result<Option<Frame>>> {
        let frame = ready!(self.frame_at(waker, self.index()))?;
        self.index += u32::from(frame.is_some());
        Poll::Ready(Ok(frame))
    }

    wait! {
        /// The next whole frame; `None` after the last frame of a group that ended cleanly.
        ///
        /// It takes no lock while the next frame is on the current page.
        ///
        /// # Errors
        ///
        /// The reason why the group was aborted or evicted. Frames that were read before stay
        /// valid, and other groups are not affected.
        next => poll_read_frame, read_frame, try_read_frame() -> Result<Option<Frame>>
    }

    wait! {
        /// The whole frame `index`; `None` if the group ended before it. The position of the
        /// consumer does not change.
        ///
        /// # Errors
        ///
        /// As [`poll_read_frame`](Self::poll_read_frame).
        frame_at => poll_frame, frame, try_frame(index: u64) -> Result<Option<Frame>>
    }

    fn start(&mut self, waker: Option<&Waker>) -> Poll<Result<Option<FrameConsumer>>> {
        let index = self.index();
        let Self { group, slot, .. } = self;
        let start = wait_on(
            &group.state,
            waker,
            slot,
            |state| &mut group.extras(state).chunk_waiters,
            |state| match (state.page(index), state.open_frame()) {
                (Poll::Ready(Ok(Some(page))), _) => Poll::Ready(match page.slot(index) {
                    Some(slot) => Ok(Some((slot.timestamp(), slot.len() as u64))),
                    None => Err(Error::Internal),
                }),
                (Poll::Ready(Ok(None)), _) => Poll::Ready(Ok(None)),
                (Poll::Ready(Err(error)), _) => Poll::Ready(Err(error)),
                (Poll::Pending, Some(open)) if index == state.frames() => {
                    Poll::Ready(Ok(Some((open.timestamp, open.size))))
                }
                (Poll::Pending, _) => Poll::Pending,
            },
        );
        let Some((timestamp, size)) = ready!(start)? else { return Poll::Ready(Ok(None)) };
        let frame = FrameConsumer::new(self.clone(), index, timestamp, size);
        self.index += 1;
        Poll::Ready(Ok(Some(frame)))
    }

    wait! {
        /// The next frame as soon as it begins, to be read while it arrives; `None` after the last
        /// frame of a group that ended cleanly.
        ///
        /// # Errors
        ///
        /// As [`poll_read_frame`](Self::poll_read_frame).
        start => poll_start_frame, start_frame, try_start_frame() -> Result<Option<FrameConsumer>>
    }

    /// Bytes of the frame `index` from `offset` on, which must be before its end.
    pub(crate) fn piece(
        &mut self,
        index: u64,
        offset: u64,
        waker: Option<&Waker>,
    ) -> Poll<Result<Bytes>> {
        let Self { group, slot, .. } = self;
        wait_on(
            &group.state,
            waker,
            slot,
            |state| &mut group.extras(state).chunk_waiters,
            |state| {
                let is_open = index == state.frames();
                if let Some(open) = state.open().filter(|_| is_open) {
                    if let Some(piece) = open.pieces.piece(offset) {
                        return Poll::Ready(Ok(piece));
                    }
                }
                let page = ready!(state.page(index))?;
                let piece = page.and_then(|page| page.slot(index)?.piece(offset));
                Poll::Ready(piece.ok_or(Error::Internal))
            },
        )
    }

    fn end(&mut self, waker: Option<&Waker>) -> Poll<Result<u64>> {
        let Self { group, end_slot, .. } = self;
        group.wait_end(waker, end_slot)
    }

    wait! {
        /// Waits for the end of the group, and returns the number of its frames.
        ///
        /// # Errors
        ///
        /// The reason why the group was aborted. The frames that arrived stay readable.
        end => poll_finished, finished, try_finished() -> Result<u64>
    }
}

impl Clone for GroupConsumer {
    fn clone(&self) -> Self {
        Self::with(self.group.clone(), self.is_pin, self.page.clone(), self.index)
    }
}

impl Drop for GroupConsumer {
    fn drop(&mut self) {
        let Self { group, slot, frame_slot, end_slot, is_pin, .. } = self;
        if slot.is_used() || frame_slot.is_used() || end_slot.is_used() {
            let _freed = change(&group.state, |state, _| {
                state.extras().map(|extras| {
                    (
                        extras.chunk_waiters.free(slot),
                        extras.frame_waiters.free(frame_slot),
                        extras.end_waiters.free(end_slot),
                    )
                })
            });
        }
        let was_last = *is_pin && group.pins.fetch_sub(1, Ordering::SeqCst) == 1;
        if was_last && group.overdue.load(Ordering::SeqCst) {
            group.sweep();
        }
    }
}

impl_debug! { GroupConsumer, it => sequence: &it.sequence(), index: &it.index }

/// Reads one frame while it arrives.
#[derive(Clone, Debug)]
pub struct FrameConsumer {
    group: GroupConsumer,
    index: u64,
    timestamp: Timestamp,
    size: u64,
    offset: u64,
}

impl FrameConsumer {
    pub(crate) fn new(group: GroupConsumer, index: u64, timestamp: Timestamp, size: u64) -> Self {
        Self { group, index, timestamp, size, offset: 0 }
    }

    /// The presentation time, in units of the track's timescale.
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// The number of the frame in its group, from 0.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The declared payload size in bytes.
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
        /// The next bytes of the payload, at least one; `None` after the last.
        ///
        /// # Errors
        ///
        /// The reason why the group was aborted before the frame was complete.
        chunk => poll_read_chunk, read_chunk, try_read_chunk() -> Result<Option<Bytes>>
    }
}
