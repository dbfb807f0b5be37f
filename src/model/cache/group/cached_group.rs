//! A group in the cache: its frames, its end, and the wakers of its readers.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::Poll;
use std::{fmt, mem};

use smallvec::SmallVec;

use crate::census::census;
use crate::coding::varint;
use crate::model::base::{DeferredWakes, Result, Wakers, lock};
use crate::model::cache::budget::{Account, CacheMember, Charge};
use crate::model::cache::frame::Frame;
use crate::model::cache::page::{Buffer, FrameStart, Page, Pieces, Slot};
use crate::{Error, Instant, Timestamp};

/// Local frames up to this size are copied next to each other, so that a run of them is sent as one
/// slice.
pub(super) const SMALL: u64 = 512;

/// The first pieces of a frame are shown to readers however small they are. Later ones are shown
/// when they reach [`SMALL`].
const EAGER_PIECES: usize = 16;

/// A group in the cache, shared by its track, producers, consumers and cursors.
pub(crate) struct CachedGroup {
    pub(super) sequence: u64,
    /// Its number in the order of arrival.
    arrival: AtomicU64,
    pub(super) owner: Weak<dyn CacheMember>,
    /// Whether sessions send it as a datagram where they can.
    pub(super) is_datagram: bool,
    charge: Charge,
    /// Counts the consumers of applications, which keep the frames in the cache.
    pub(super) pins: AtomicUsize,
    /// Whether it is given up when the last pin goes.
    pub(super) overdue: AtomicBool,
    /// Timestamps in units, `u64::MAX` before the first frame. Copies that can be read under the
    /// track's lock.
    first: AtomicU64,
    newest: AtomicU64,
    /// When it was created or last written.
    written: AtomicU64,
    pub(super) state: Mutex<GroupState>,
}

#[derive(Default)]
pub(super) struct GroupState {
    pub(super) pages: SmallVec<[Arc<Page>; 3]>,
    /// Counts complete frames.
    pub(super) frames: u64,
    /// Payload bytes, counting an open frame with its declared size.
    bytes: u64,
    pub(super) last: Timestamp,
    buffer: Buffer,
    pub(super) open: Option<OpenFrame>,
    pub(super) end: Option<Result<()>>,
    /// Why the pages are gone.
    evicted: Option<Error>,
    pub(super) producers: usize,
    /// Whether readers of pieces have something new, and whether readers of whole frames do.
    pub(super) changed: bool,
    completed: bool,
    pub(super) chunk_waiters: Wakers,
    pub(super) frame_waiters: Wakers,
    /// Readers that only wait for the end.
    pub(super) end_waiters: Wakers,
}

/// A frame whose bytes are still arriving. Bytes that are in no piece yet lie in the group's
/// buffer. As long as there is no piece, the head of the frame lies before them.
pub(super) struct OpenFrame {
    pub(super) start: FrameStart,
    pub(super) size: u64,
    pub(super) received: u64,
    pub(super) pieces: Pieces,
}

impl CachedGroup {
    pub(crate) fn new(
        sequence: u64,
        arrival: u64,
        owner: Weak<dyn CacheMember>,
        account: Arc<Account>,
        is_datagram: bool,
    ) -> Arc<Self> {
        let written = AtomicU64::new(account.stamp(&owner).as_micros());
        // Including the two counts of the `Arc` and its two places in the track's lists.
        let size = mem::size_of::<Self>() + 4 * mem::size_of::<usize>();
        Arc::new(Self {
            sequence,
            arrival: AtomicU64::new(arrival),
            owner,
            is_datagram,
            charge: Charge::new(account, size),
            pins: AtomicUsize::new(0),
            overdue: AtomicBool::new(false),
            first: AtomicU64::new(u64::MAX),
            newest: AtomicU64::new(u64::MAX),
            written,
            state: Mutex::default(),
        })
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(crate) fn arrival(&self) -> u64 {
        self.arrival.load(Ordering::Relaxed)
    }

    /// Sets its number in the order of arrival. The caller holds the track's lock.
    pub(crate) fn set_arrival(&self, arrival: u64) {
        self.arrival.store(arrival, Ordering::Relaxed);
    }

    /// Whether it has not ended, so that more frames may come.
    pub(crate) fn is_open(&self) -> bool {
        lock(&self.state).end.is_none()
    }

    pub(crate) fn is_broken(&self) -> bool {
        matches!(lock(&self.state).end, Some(Err(_)))
    }

    pub(crate) fn first(&self) -> Option<Timestamp> {
        timestamp(&self.first)
    }

    pub(crate) fn newest(&self) -> Option<Timestamp> {
        timestamp(&self.newest)
    }

    pub(crate) fn written(&self) -> Instant {
        Instant::from_micros(self.written.load(Ordering::Relaxed))
    }

    /// Changes the time of the last write from `before` to `now`, if it was `before`.
    pub(crate) fn restamp(&self, before: Instant, now: Instant) {
        let (before, now) = (before.as_micros(), now.as_micros());
        let _ = self.written.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Bytes that the group holds.
    pub(crate) fn used(&self) -> u64 {
        let pages = &lock(&self.state).pages;
        self.charge.bytes() + pages.iter().map(|page| page.charge().bytes()).sum::<u64>()
    }

    /// Marks it to be given up when its last pin goes. Returns whether it is pinned now.
    pub(crate) fn mark_overdue(&self) -> bool {
        // In this order either the last pin sees the mark, or this call sees no pin.
        self.overdue.store(true, Ordering::SeqCst);
        self.is_pinned()
    }

    pub(crate) fn is_pinned(&self) -> bool {
        self.pins.load(Ordering::SeqCst) != 0
    }

    /// The last complete frame.
    pub(crate) fn latest_frame(&self) -> Option<Frame> {
        let state = lock(&self.state);
        let index = state.frames.checked_sub(1)?;
        Frame::on(state.pages.get(Page::number_of(index))?, index)
    }

    /// Releases all frames. Call it without holding a lock.
    pub(crate) fn evict(&self, why: Error) {
        let mut wakes = DeferredWakes::default();
        let freed = {
            let mut state = lock(&self.state);
            state.end.get_or_insert(Err(why.clone()));
            state.evicted = Some(why);
            let GroupState { chunk_waiters, frame_waiters, end_waiters, .. } = &mut *state;
            for waiting in [chunk_waiters, frame_waiters, end_waiters] {
                waiting.take(&mut wakes);
            }
            (mem::take(&mut state.pages), state.open.take(), mem::take(&mut state.buffer))
        };
        drop(freed);
        wakes.wake();
    }

    pub(super) fn abort(&self, error: Error, wakes: &mut DeferredWakes) {
        self.change(wakes, |state| state.stop(Err(error)));
    }

    /// Changes the state, and wakes the readers that the change concerns.
    pub(super) fn change<T>(
        &self,
        wakes: &mut DeferredWakes,
        change: impl FnOnce(&mut GroupState) -> T,
    ) -> T {
        let result = {
            let mut state = lock(&self.state);
            let result = change(&mut state);
            if mem::take(&mut state.changed) {
                state.chunk_waiters.take(wakes);
                if mem::take(&mut state.completed) {
                    state.frame_waiters.take(wakes);
                }
                if state.end.is_some() {
                    state.end_waiters.take(wakes);
                }
            }
            result
        };
        wakes.wake();
        result
    }

    /// Checks that a frame may be added. A frame that exceeds a limit ends the group.
    pub(super) fn begin_frame(
        &self,
        state: &mut GroupState,
        timestamp: Timestamp,
        size: u64,
    ) -> Result<FrameStart> {
        match &state.end {
            Some(Ok(())) => return Err(Error::Closed),
            Some(Err(error)) => return Err(error.clone()),
            None if state.open.is_some() => return Err(Error::Duplicate),
            None => {}
        }
        let limits = self.charge.account().limits();
        let start = FrameStart::new(state.last, timestamp, size);
        let error = match start {
            Some(start) if size <= limits.frame_bytes.min(varint::MAX) => {
                let bytes = state.bytes.saturating_add(size);
                if bytes <= limits.group_bytes && state.frames < limits.group_frames {
                    state.bytes = bytes;
                    return Ok(start);
                }
                Error::GroupTooLarge
            }
            _ => Error::FrameTooLarge,
        };
        state.stop(Err(error.clone()));
        Err(error)
    }

    /// Adds a complete frame by copying its parts.
    pub(super) fn put_copy(
        &self,
        state: &mut GroupState,
        start: &FrameStart,
        parts: &[impl AsRef<[u8]>],
    ) {
        let size: usize = parts.iter().map(|part| part.as_ref().len()).sum();
        let GroupState { pages, frames, buffer, .. } = state;
        buffer.reserve(start.head.len() + size, self.page(pages, *frames).charge());
        buffer.extend(&start.head);
        for part in parts {
            buffer.extend(part.as_ref());
        }
        let wire = buffer.take();
        self.put(state, Slot::wire(start, wire));
    }

    pub(super) fn put(&self, state: &mut GroupState, slot: Slot) {
        let units = slot.timestamp.units();
        self.charge.account().count_frame(slot.len());
        state.last = slot.timestamp;
        self.page(&mut state.pages, state.frames).put(state.frames, slot);
        if state.frames == 0 {
            self.first.store(units, Ordering::Relaxed);
            self.newest.store(units, Ordering::Relaxed);
        } else {
            self.newest.fetch_max(units, Ordering::Relaxed);
        }
        state.frames += 1;
        state.completed = true;
        self.touch(state);
    }

    fn touch(&self, state: &mut GroupState) {
        state.changed = true;
        let now = self.charge.account().stamp(&self.owner);
        self.written.store(now.as_micros(), Ordering::Relaxed);
    }

    /// The page for the next frame.
    pub(super) fn page<'a>(
        &self,
        pages: &'a mut SmallVec<[Arc<Page>; 3]>,
        frames: u64,
    ) -> &'a Page {
        let number = Page::number_of(frames);
        if pages.len() == number {
            pages.push(Page::new(number, self.charge.account()));
        }
        &pages[number]
    }

    pub(super) fn open(&self, state: &mut GroupState, start: FrameStart, size: u64) {
        let GroupState { pages, frames, buffer, .. } = state;
        let need = start.head.len() + size.min(Buffer::STEP as u64) as usize;
        buffer.reserve(need, self.page(pages, *frames).charge());
        buffer.extend(&start.head);
        state.open = Some(OpenFrame { start, size, received: 0, pieces: Pieces::default() });
        self.close_if_complete(state);
    }

    /// Adds bytes to the open frame, at most as many as are missing.
    pub(super) fn append(&self, state: &mut GroupState, mut bytes: &[u8]) -> Result<()> {
        if let Some(Err(error)) = &state.end {
            return Err(error.clone());
        }
        let GroupState { pages, frames, buffer, open, .. } = state;
        while let Some(open) = open.as_mut().filter(|_| !bytes.is_empty()) {
            if buffer.room() == 0 {
                open.flush(buffer);
                let missing = (open.size - open.received).min(Buffer::STEP as u64);
                buffer.reserve(missing as usize, self.page(pages, *frames).charge());
            }
            let (now, later) = bytes.split_at(bytes.len().min(buffer.room()));
            buffer.extend(now);
            open.received += now.len() as u64;
            bytes = later;
        }
        self.touch(state);
        self.close_if_complete(state);
        Ok(())
    }

    fn close_if_complete(&self, state: &mut GroupState) {
        let Some(mut open) = state.open.take_if(|open| open.received == open.size) else { return };
        if open.pieces.list().is_empty() {
            let wire = state.buffer.take();
            return self.put(state, Slot::wire(&open.start, wire));
        }
        open.flush(&mut state.buffer);
        if open.size <= SMALL {
            return self.put_copy(state, &open.start, open.pieces.list());
        }
        self.page(&mut state.pages, state.frames).charge().add(open.pieces.overhead());
        self.put(state, Slot::pieces(&open.start, open.pieces));
    }

    /// Changes the frames, and then lets the track give up old groups if the change calls for it.
    pub(super) fn write(
        &self,
        wakes: &mut DeferredWakes,
        write: impl FnOnce(&mut GroupState) -> Result<()>,
    ) -> Result<()> {
        let (result, is_first, last) = self.change(wakes, |state| {
            let before = state.frames;
            (write(state), before == 0 && state.frames != 0, state.last)
        });
        if is_first || self.charge.account().is_due(last) {
            if let Some(owner) = self.owner.upgrade() {
                owner.sweep();
            }
        }
        result
    }
}

impl fmt::Debug for CachedGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

fn timestamp(units: &AtomicU64) -> Option<Timestamp> {
    let units = units.load(Ordering::Relaxed);
    (units != u64::MAX).then(|| Timestamp::new(units))
}

impl GroupState {
    /// Ends the group unless it has ended before.
    pub(super) fn stop(&mut self, end: Result<()>) {
        if self.end.is_none() {
            self.end = Some(end);
            (self.changed, self.completed) = (true, true);
        }
    }

    /// The page of a complete frame; `None` if the group ended before that frame.
    pub(super) fn page(&self, index: u64) -> Poll<Result<Option<&Arc<Page>>>> {
        if index < self.frames {
            let page = self.pages.get(Page::number_of(index));
            let gone = || self.evicted.clone().unwrap_or(Error::Evicted);
            return Poll::Ready(page.map(Some).ok_or_else(gone));
        }
        match &self.end {
            Some(Ok(())) => Poll::Ready(Ok(None)),
            Some(Err(error)) => Poll::Ready(Err(error.clone())),
            None => Poll::Pending,
        }
    }

    /// The open frame. The bytes that arrived are moved into its pieces first, unless they are too
    /// few.
    pub(super) fn open(&mut self) -> Option<&OpenFrame> {
        let open = self.open.as_mut()?;
        let pieces = open.pieces.list().len();
        let head = if pieces == 0 { open.start.head.len() } else { 0 };
        let waiting = self.buffer.len() - head;
        if waiting > 0 && (waiting as u64 >= SMALL || pieces < EAGER_PIECES) {
            open.flush(&mut self.buffer);
        }
        Some(open)
    }
}

impl OpenFrame {
    /// Moves the bytes in the buffer into a new piece.
    fn flush(&mut self, buffer: &mut Buffer) {
        let mut piece = buffer.take();
        if self.pieces.list().is_empty() {
            piece = piece.split_off(self.start.head.len());
        }
        self.pieces.push(piece);
    }
}

census! { each CachedGroup {
    counts: pins;
    within: state;
    plain: sequence, arrival, owner, is_datagram, charge, overdue, first, newest, written;
} }

census! { GroupState {
    counts: pages, open, producers, chunk_waiters, frame_waiters, end_waiters;
    plain: frames, bytes, last, buffer, end, evicted, changed, completed;
} }
