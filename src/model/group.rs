//! Groups: frames in order, from any number of writers to any number of cursors.

mod consumer;

use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::Poll;

use bytes::Bytes;
use smallvec::SmallVec;

use super::Result;
use super::budget::{Account, Charge};
use super::frame::{Frame, FrameProducer};
use super::page::{Buffer, FrameStart, Page, Pieces, Slot};
use super::track::Shared;
use super::wakers::{Wakers, Woken, lock};
use crate::census::census;
use crate::coding::varint;
use crate::error::Error;
use crate::time::{Instant, Timestamp};

pub use consumer::GroupConsumer;
pub(crate) use consumer::GroupCursor;

/// Local frames up to this are copied together, so that runs of them leave as one slice.
const SMALL: u64 = 512;
/// So many pieces of a frame are shown however small they are; later ones when they reach [`SMALL`].
const EAGER_PIECES: usize = 16;

/// What a group is before there is one: its number in the track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// Counts up in the track; gaps are allowed.
    pub sequence: u64,
}

impl Group {
    /// The highest number that a group can have: one past it, where a track may end, is the largest that
    /// the wire can carry.
    pub const MAX: u64 = varint::MAX - 1;

    /// Fails for a number that no version can carry.
    pub(crate) fn check(sequence: u64) -> Result<u64> {
        match sequence {
            ..=Self::MAX => Ok(sequence),
            _ => Err(Error::Unrepresentable("a group number above 2^62-2")),
        }
    }
}

impl From<u64> for Group {
    fn from(sequence: u64) -> Self {
        Self { sequence }
    }
}

/// A group in the cache. Its track, its producers, cursors and consumers share it.
pub(crate) struct Kept {
    sequence: u64,
    /// Counts the groups of the track as they came.
    arrival: AtomicU64,
    track: Weak<Shared>,
    /// Sessions send it as a datagram where they can.
    is_datagram: bool,
    charge: Charge,
    /// Consumers of applications, which keep the frames.
    pins: AtomicUsize,
    /// To be given up when the last pin goes.
    overdue: AtomicBool,
    /// Timestamps in units, `u64::MAX` before the first frame. Copies for who holds the track's lock.
    first: AtomicU64,
    newest: AtomicU64,
    /// When it was created or written last.
    written: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pages: SmallVec<[Arc<Page>; 3]>,
    /// Complete frames.
    frames: u64,
    /// Payload, that of the open frame as declared.
    bytes: u64,
    last: Timestamp,
    buffer: Buffer,
    open: Option<Open>,
    end: Option<Result<()>>,
    /// Why the pages are gone.
    evicted: Option<Error>,
    producers: usize,
    /// Whether there is something to see for those who read what comes, and for those who read whole frames.
    changed: bool,
    completed: bool,
    readers: Wakers,
    wholes: Wakers,
    /// Those who only wait for the end.
    finishers: Wakers,
}

/// A frame whose bytes still come. Those in no piece yet lie in the group's buffer, with the head
/// before them as long as there is no piece.
struct Open {
    start: FrameStart,
    size: u64,
    received: u64,
    pieces: Pieces,
}

impl Kept {
    pub(super) fn new(
        sequence: u64,
        arrival: u64,
        track: Weak<Shared>,
        account: Arc<Account>,
        is_datagram: bool,
    ) -> Arc<Self> {
        let written = AtomicU64::new(account.stamp(&track).as_micros());
        // With the two counts of the `Arc` and its two places in the track's lists.
        let size = mem::size_of::<Self>() + 4 * mem::size_of::<usize>();
        Arc::new(Self {
            sequence,
            arrival: AtomicU64::new(arrival),
            track,
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

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn arrival(&self) -> u64 {
        self.arrival.load(Ordering::Relaxed)
    }

    /// Sets its number in order of arrival. For who holds the track's lock.
    pub(super) fn arrive(&self, arrival: u64) {
        self.arrival.store(arrival, Ordering::Relaxed);
    }

    /// Whether it ended before it was whole.
    pub(super) fn is_open(&self) -> bool {
        lock(&self.state).end.is_none()
    }

    pub(super) fn is_broken(&self) -> bool {
        matches!(lock(&self.state).end, Some(Err(_)))
    }

    pub(super) fn first(&self) -> Option<Timestamp> {
        timestamp(&self.first)
    }

    pub(super) fn newest(&self) -> Option<Timestamp> {
        timestamp(&self.newest)
    }

    pub(super) fn written(&self) -> Instant {
        Instant::from_micros(self.written.load(Ordering::Relaxed))
    }

    /// What was written at `before` was so `now`.
    pub(super) fn restamp(&self, before: Instant, now: Instant) {
        let (before, now) = (before.as_micros(), now.as_micros());
        let _ = self.written.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Bytes that the group holds.
    pub(super) fn used(&self) -> u64 {
        let pages = &lock(&self.state).pages;
        self.charge.bytes() + pages.iter().map(|page| page.charge().bytes()).sum::<u64>()
    }

    /// Whether an application reads it; if so, it is given up when it does so no longer.
    pub(super) fn outlives_its_time(&self) -> bool {
        // In this order, so that either the last pin sees the mark or we see no pin.
        self.overdue.store(true, Ordering::SeqCst);
        self.is_pinned()
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.pins.load(Ordering::SeqCst) != 0
    }

    /// The last complete frame.
    pub(super) fn latest_frame(&self) -> Option<Frame> {
        let state = lock(&self.state);
        let index = state.frames.checked_sub(1)?;
        Frame::on(state.pages.get(Page::number_of(index))?, index)
    }

    /// Lets go of all frames. Call it without any lock.
    pub(super) fn evict(&self, why: Error) {
        let mut woken = Woken::default();
        let freed = {
            let mut state = lock(&self.state);
            state.end.get_or_insert(Err(why.clone()));
            state.evicted = Some(why);
            let State { readers, wholes, finishers, .. } = &mut *state;
            for waiting in [readers, wholes, finishers] {
                waiting.take(&mut woken);
            }
            (mem::take(&mut state.pages), state.open.take(), mem::take(&mut state.buffer))
        };
        drop(freed);
        woken.wake();
    }

    fn abort(&self, error: Error, woken: &mut Woken) {
        self.change(woken, |state| state.stop(Err(error)));
    }

    /// Changes the state and wakes who waits for what changed.
    fn change<T>(&self, woken: &mut Woken, change: impl FnOnce(&mut State) -> T) -> T {
        let result = {
            let mut state = lock(&self.state);
            let result = change(&mut state);
            if mem::take(&mut state.changed) {
                state.readers.take(woken);
                if mem::take(&mut state.completed) {
                    state.wholes.take(woken);
                }
                if state.end.is_some() {
                    state.finishers.take(woken);
                }
            }
            result
        };
        woken.wake();
        result
    }

    /// Checks that a frame may be added, and ends the group if it is too large.
    fn admit(&self, state: &mut State, timestamp: Timestamp, size: u64) -> Result<FrameStart> {
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

    /// Adds a complete frame of which all parts are at hand.
    fn put_copy(&self, state: &mut State, start: &FrameStart, parts: &[impl AsRef<[u8]>]) {
        let size: usize = parts.iter().map(|part| part.as_ref().len()).sum();
        let State { pages, frames, buffer, .. } = state;
        buffer.reserve(start.head.len() + size, self.page(pages, *frames).charge());
        buffer.extend(&start.head);
        for part in parts {
            buffer.extend(part.as_ref());
        }
        let wire = buffer.take();
        self.put(state, Slot::wire(start, wire));
    }

    fn put(&self, state: &mut State, slot: Slot) {
        let units = slot.timestamp.units();
        self.charge.account().wrote(slot.len());
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

    fn touch(&self, state: &mut State) {
        state.changed = true;
        let now = self.charge.account().stamp(&self.track);
        self.written.store(now.as_micros(), Ordering::Relaxed);
    }

    /// The page for the frame that is written next.
    fn page<'a>(&self, pages: &'a mut SmallVec<[Arc<Page>; 3]>, frames: u64) -> &'a Page {
        let number = Page::number_of(frames);
        if pages.len() == number {
            pages.push(Page::new(number, self.charge.account()));
        }
        &pages[number]
    }

    fn open(&self, state: &mut State, start: FrameStart, size: u64) {
        let State { pages, frames, buffer, .. } = state;
        let need = start.head.len() + size.min(Buffer::STEP as u64) as usize;
        buffer.reserve(need, self.page(pages, *frames).charge());
        buffer.extend(&start.head);
        state.open = Some(Open { start, size, received: 0, pieces: Pieces::default() });
        self.close_if_complete(state);
    }

    /// Adds bytes to the open frame, at most those that it misses.
    fn append(&self, state: &mut State, mut bytes: &[u8]) -> Result<()> {
        if let Some(Err(error)) = &state.end {
            return Err(error.clone());
        }
        let State { pages, frames, buffer, open, .. } = state;
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

    fn close_if_complete(&self, state: &mut State) {
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

    /// Changes the frames, and then gives up old groups of the track if what was written calls for it.
    fn write(&self, woken: &mut Woken, write: impl FnOnce(&mut State) -> Result<()>) -> Result<()> {
        let (result, is_first, last) = self.change(woken, |state| {
            let before = state.frames;
            (write(state), before == 0 && state.frames != 0, state.last)
        });
        if is_first || self.charge.account().is_due(last) {
            if let Some(track) = self.track.upgrade() {
                track.sweep();
            }
        }
        result
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

fn timestamp(units: &AtomicU64) -> Option<Timestamp> {
    let units = units.load(Ordering::Relaxed);
    (units != u64::MAX).then(|| Timestamp::new(units))
}

impl State {
    /// The first end counts.
    fn stop(&mut self, end: Result<()>) {
        if self.end.is_none() {
            self.end = Some(end);
            (self.changed, self.completed) = (true, true);
        }
    }

    /// The page of a complete frame, `None` if the group ends before it.
    fn page(&self, index: u64) -> Poll<Result<Option<&Arc<Page>>>> {
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

    /// The open frame, with all that came of it in its pieces unless that is too little.
    fn open(&mut self) -> Option<&Open> {
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

impl Open {
    /// Moves what lies in the buffer into a piece.
    fn flush(&mut self, buffer: &mut Buffer) {
        let mut piece = buffer.take();
        if self.pieces.list().is_empty() {
            piece = piece.split_off(self.start.head.len());
        }
        self.pieces.push(piece);
    }
}

/// Writes a group. Cloning adds a writer; if the last one is dropped before
/// [`finish`](Self::finish), the group is aborted with [`Error::Dropped`].
pub struct GroupProducer {
    group: Arc<Kept>,
    woken: Woken,
}

impl GroupProducer {
    pub(super) fn new(group: Arc<Kept>) -> Self {
        lock(&group.state).producers += 1;
        Self { group, woken: Woken::default() }
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
        group.write(&mut self.woken, |state| {
            let size = payload.as_ref().map_or(0, |payload: &Bytes| payload.len() as u64);
            let start = group.admit(state, timestamp, size)?;
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
        group.write(&mut self.woken, |state| {
            let start = group.admit(state, timestamp, size)?;
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
        group.write(&mut self.woken, |state| {
            let start = group.admit(state, timestamp, size)?;
            group.put_copy(state, &start, &[first]);
            Ok(())
        })?;
        Ok(None)
    }

    /// The open frame comes anew, of `size` bytes: how many bytes of it are here. Fails with
    /// [`Error::WrongSize`] if it is not the same frame.
    pub(crate) fn resume_frame(&self, timestamp: Option<Timestamp>, size: u64) -> Result<u64> {
        let state = lock(&self.group.state);
        let same = |open: &&Open| {
            open.size == size && timestamp.is_none_or(|it| it == open.start.timestamp)
        };
        state.open.as_ref().filter(same).map(|open| open.received).ok_or(Error::WrongSize)
    }

    /// The track of which it is, as long as somebody holds that.
    pub(super) fn track(&self) -> Option<Arc<Shared>> {
        self.group.track.upgrade()
    }

    /// For the open frame, which holds one of us.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let group = &self.group;
        group.write(&mut self.woken, |state| group.append(state, bytes))
    }

    /// Ends the group cleanly. With an incomplete frame it is aborted with [`Error::WrongSize`]
    /// instead. Fails if it ended before.
    pub fn finish(&mut self) -> Result<()> {
        self.group.change(&mut self.woken, |state| match &state.end {
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
        self.group.abort(error, &mut self.woken);
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
    pub(super) fn hold_lock(&self) -> impl Sized + '_ {
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
        self.group.change(&mut self.woken, |state| {
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

census! { each Kept {
    counts: pins;
    within: state;
    plain: sequence, arrival, track, is_datagram, charge, overdue, first, newest, written;
} }
census! { State {
    counts: pages, open, producers, readers, wholes, finishers;
    plain: frames, bytes, last, buffer, end, evicted, changed, completed;
} }
