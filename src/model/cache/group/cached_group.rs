//! A group in the cache: its frames, its end, and the wakers of its readers.

use std::sync::{Arc, PoisonError};
use std::task::{Poll, Waker};
use std::{fmt, mem};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::census::census;
use crate::coding::varint;
use crate::machine::Subgroup;
use crate::model::base::sync::Mutex;
use crate::model::base::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::model::base::{DeferredWakes, Result, WaitSlot, Wakers, lock, wait_on};
use crate::model::cache::budget::{Account, Charge};
use crate::model::cache::frame::Frame;
use crate::model::cache::page::{Buffer, Head, NO_PROPERTIES, Page, Pieces, Slot};
use crate::{Error, Instant, Properties, Timestamp};

/// Local frames up to this size are copied next to each other, so that a run of them is sent as one
/// slice.
pub(super) const SMALL: u64 = 512;

/// The first pieces of a frame are shown to readers however small they are. Later ones are shown
/// when they reach [`SMALL`].
const EAGER_PIECES: usize = 16;

/// The number of pages that are kept for another group.
const SPARE_PAGES: usize = 3;

/// A group in the cache, shared by its track, producers, consumers and cursors.
pub(crate) struct CachedGroup {
    pub(super) sequence: u64,
    /// Its number in the order of arrival.
    arrival: AtomicU64,
    /// How sessions send it.
    form: GroupForm,
    account: Arc<Account>,
    /// Counts the consumers of applications, which keep the frames in the cache.
    pub(super) pins: AtomicU32,
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

/// How sessions send a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupForm {
    /// On a stream, with the priority of the track.
    Stream,
    /// As a subgroup of moq-transport: with a priority of its own, or on a stream that may not have the last frame of the
    /// group, because others of its subgroups may go on.
    Subgroup { priority: u8, ends_group: bool },
    /// As a datagram where they can.
    Datagram,
    /// The same, as an object of moq-transport with a priority of its own, or that may not be the last one of the group.
    Object { priority: u8, ends_group: bool },
}

impl GroupForm {
    /// The form of the part of a group in a track of this priority.
    pub(crate) fn of(part: Subgroup, track: u8) -> Self {
        let Subgroup { priority, ends_group, .. } = part;
        let priority = priority.unwrap_or(track);
        match (part.is_datagram(), ends_group && priority == track) {
            (false, true) => Self::Stream,
            (false, false) => Self::Subgroup { priority, ends_group },
            (true, true) => Self::Datagram,
            (true, false) => Self::Object { priority, ends_group },
        }
    }

    /// The part of moq-transport as which it is sent, if it has a form of its own.
    pub(crate) fn part(self) -> Option<Subgroup> {
        let (number, priority, ends_group) = match self {
            Self::Stream | Self::Datagram => return None,
            Self::Subgroup { priority, ends_group } => (0, priority, ends_group),
            Self::Object { priority, ends_group } => (Subgroup::DATAGRAMS, priority, ends_group),
        };
        let priority = Some(priority);
        Some(Subgroup { number, priority, ends_group, ..Subgroup::WITHOUT_END })
    }
}

// It fills a gap between other fields, so that a group of no other version is larger for it.
const _: () = assert!(mem::size_of::<GroupForm>() == 3);

type PageList = SmallVec<[Arc<Page>; 1]>;

/// The state of every group, also when it is finished and only kept.
#[derive(Default)]
pub(super) struct GroupState {
    pages: PageList,
    /// Counts complete frames.
    frames: u32,
    producers: u32,
    end: Option<Result<(), Box<Error>>>,
    /// `None` until it is needed, and again when the group is finished.
    extras: Option<Box<GroupExtras>>,
}

/// The state that only some groups need: open ones with more than one frame or with readers that wait, and
/// those that were given up while somebody holds them.
pub(super) struct GroupExtras {
    charge: Charge,
    buffer: Buffer,
    open: Option<OpenFrame>,
    /// Payload bytes of the complete frames.
    bytes: u64,
    /// Whether readers of pieces have something new, and whether readers of whole frames do.
    changed: bool,
    completed: bool,
    pub(super) chunk_waiters: Wakers,
    pub(super) frame_waiters: Wakers,
    /// Readers that only wait for the end.
    pub(super) end_waiters: Wakers,
    /// Why the pages are gone.
    evicted: Option<Error>,
}

/// A frame whose bytes are still arriving. Bytes that are in no piece yet lie in the group's
/// buffer. As long as there is no piece, the head of the frame lies before them.
pub(super) struct OpenFrame {
    pub(super) timestamp: Timestamp,
    /// It came without properties from a session that has them.
    is_bare: bool,
    head_len: u8,
    pub(super) size: u64,
    pub(super) received: u64,
    /// They also hold the properties that it came with.
    pub(super) pieces: Pieces,
}

impl CachedGroup {
    /// The memory of a group: itself, the two counts of its `Arc`, and its two places in the track's
    /// lists.
    const SIZE: usize = mem::size_of::<Self>() + 4 * mem::size_of::<usize>();

    /// Creates a group, in the memory of `spare` if there is one.
    pub(crate) fn new(
        sequence: u64,
        arrival: u64,
        account: Arc<Account>,
        form: GroupForm,
        spare: Option<Arc<Self>>,
    ) -> Arc<Self> {
        let make = |pages| {
            account.charge(Self::SIZE as u64);
            Self {
                sequence,
                arrival: AtomicU64::new(arrival),
                form,
                pins: AtomicU32::new(0),
                overdue: AtomicBool::new(false),
                first: AtomicU64::new(u64::MAX),
                newest: AtomicU64::new(u64::MAX),
                written: AtomicU64::new(account.stamp().as_micros()),
                account,
                state: Mutex::new(GroupState { pages, ..GroupState::default() }),
            }
        };
        let Some(mut spare) = spare else { return Arc::new(make(PageList::default())) };
        let Some(group) = Arc::get_mut(&mut spare) else {
            return Arc::new(make(PageList::default()));
        };
        let pages = mem::take(&mut group.state_mut().pages);
        *group = make(pages);
        spare
    }

    fn state_mut(&mut self) -> &mut GroupState {
        self.state.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How sessions send it.
    pub(crate) fn form(&self) -> GroupForm {
        self.form
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
        let state = lock(&self.state);
        let pages = state.pages.iter().map(|page| page.charge());
        let extras = state.extras.iter().map(|extras| &extras.charge);
        Self::SIZE as u64 + pages.chain(extras).map(Charge::bytes).sum::<u64>()
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

    /// The number of frames that were begun.
    pub(crate) fn begun_frames(&self) -> u64 {
        let state = lock(&self.state);
        state.frames() + u64::from(state.open_frame().is_some())
    }

    /// Shows `visit` the index and the object id of each complete frame that has no status, where `base` objects of the
    /// group come before the first one and its gap.
    pub(crate) fn objects(&self, base: u64, visit: &mut dyn FnMut(u64, u64)) {
        let state = lock(&self.state);
        let mut next = base;
        for index in 0..state.frames() {
            let Some(slot) = state.slot(index) else { break };
            let (gap, status) = slot.properties().map_or((0, 0), |it| (it.gap, it.status));
            let object = next.saturating_add(gap.into());
            if status == 0 {
                visit(index, object);
            }
            next = object.saturating_add(1);
        }
    }

    /// The last complete frame.
    pub(crate) fn latest_frame(&self) -> Option<Frame> {
        let state = lock(&self.state);
        let index = u64::from(state.frames).checked_sub(1)?;
        Frame::on(state.pages.get(Page::number_of(index))?, index)
    }

    /// Releases all frames. Call it without holding a lock, after the track gave up the group. If nobody else holds
    /// the group, it returns what is left of it: memory for another one.
    pub(crate) fn evict(mut self: Arc<Self>, why: Error) -> Option<Arc<Self>> {
        if let Some(group) = Arc::get_mut(&mut self) {
            let state = group.state_mut();
            // A page may be held for a frame of it.
            let pages = state.pages.iter_mut().take(SPARE_PAGES);
            let cleared = pages.map(|page| Arc::get_mut(page).map(Page::clear).is_some());
            let cleared = cleared.take_while(|is_cleared| *is_cleared).count();
            state.pages.truncate(cleared);
            state.extras = None;
            return Some(self);
        }
        let mut wakes = DeferredWakes::default();
        let mut shell = GroupExtras::new(self.account.clone(), 0);
        shell.evicted = Some(why.clone());
        let freed = {
            let mut state = lock(&self.state);
            state.end.get_or_insert_with(|| Err(Box::new(why)));
            let mut extras = state.extras.replace(shell);
            if let Some(extras) = &mut extras {
                let GroupExtras { chunk_waiters, frame_waiters, end_waiters, .. } = &mut **extras;
                for waiting in [chunk_waiters, frame_waiters, end_waiters] {
                    waiting.take(&mut wakes);
                }
            }
            (mem::take(&mut state.pages), extras)
        };
        drop(freed);
        wakes.wake();
        None
    }

    /// Lets the track give up groups that are too old or too many.
    pub(super) fn sweep(&self) {
        if let Some(track) = self.account.owner().upgrade() {
            track.sweep();
        }
    }

    /// The state that a group needs while it is open.
    pub(super) fn extras<'a>(&self, state: &'a mut GroupState) -> &'a mut GroupExtras {
        let GroupState { pages, extras, .. } = state;
        extras.get_or_insert_with(|| {
            // Groups of one frame have no count.
            let first = pages.first().and_then(|page| page.slot(0));
            GroupExtras::new(self.account.clone(), first.map_or(0, |slot| slot.len() as u64))
        })
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
        let (result, over) = {
            let mut state = lock(&self.state);
            let result = change(&mut state);
            (result, state.take_waiters(wakes))
        };
        drop(over);
        wakes.wake();
        result
    }

    /// Waits for the end of the group, and returns the number of its frames.
    pub(super) fn wait_end(&self, waker: Option<&Waker>, slot: &mut WaitSlot) -> Poll<Result<u64>> {
        wait_on(
            &self.state,
            waker,
            slot,
            |state| &mut self.extras(state).end_waiters,
            |state| match state.end() {
                Some(end) => Poll::Ready(end.map(|()| state.frames())),
                None => Poll::Pending,
            },
        )
    }

    /// Checks that a frame may be added. A frame that exceeds a limit ends the group.
    pub(super) fn begin_frame(&self, state: &mut GroupState, size: u64) -> Result<()> {
        match &state.end {
            Some(Ok(())) => return Err(Error::Closed),
            Some(Err(error)) => return Err((**error).clone()),
            None if state.open_frame().is_some() => return Err(Error::Duplicate),
            None => {}
        }
        let limits = self.account.limits();
        let error = if size > limits.frame_bytes.min(varint::MAX) {
            Error::FrameTooLarge
        } else {
            let before = if state.frames == 0 { 0 } else { self.extras(state).bytes };
            let has_room = u64::from(state.frames) < limits.group_frames.min(u32::MAX.into());
            if has_room && before.saturating_add(size) <= limits.group_bytes {
                return Ok(());
            }
            Error::GroupTooLarge
        };
        state.stop(Err(error.clone()));
        Err(error)
    }

    /// Adds a complete frame by copying its parts.
    pub(super) fn put_copy(
        &self,
        state: &mut GroupState,
        timestamp: Timestamp,
        properties: Option<Properties>,
        parts: &[impl AsRef<[u8]>],
    ) {
        let size: usize = parts.iter().map(|part| part.as_ref().len()).sum();
        let head = Head::new(state.last(), timestamp, size as u64);
        // The memory of the first frame is as large as the frame, because it may be the only one.
        let mut alone = Buffer::default();
        let frames = state.frames;
        let GroupState { pages, extras, .. } = state;
        let buffer = match extras {
            Some(extras) if frames > 0 => &mut extras.buffer,
            _ => &mut alone,
        };
        buffer.reserve(head.len() + size, self.page(pages, frames).charge());
        buffer.extend(&head);
        for part in parts {
            buffer.extend(part.as_ref());
        }
        let slot = Slot::wire(timestamp, buffer.take());
        let slot = slot.with_properties(properties, self.page(pages, frames).charge());
        self.put(state, slot, 0);
    }

    /// Adds a complete frame. Its page is charged with `shared`, the payload that is not in a buffer of the group.
    fn put(&self, state: &mut GroupState, slot: Slot, shared: usize) {
        let (units, len) = (slot.timestamp().units(), slot.len());
        self.account.count_frame(len);
        let page = self.page(&mut state.pages, state.frames);
        if shared > 0 {
            page.charge().add(shared);
        }
        page.put(state.frames.into(), slot);
        if state.frames == 0 {
            self.first.store(units, Ordering::Relaxed);
            self.newest.store(units, Ordering::Relaxed);
        } else if units > self.newest.load(Ordering::Relaxed) {
            self.newest.store(units, Ordering::Relaxed);
        }
        state.frames += 1;
        if let Some(extras) = &mut state.extras {
            extras.completed = true;
            extras.bytes += len as u64;
        }
        self.touch(state);
    }

    fn touch(&self, state: &mut GroupState) {
        if let Some(extras) = &mut state.extras {
            extras.changed = true;
        }
        self.written.store(self.account.stamp().as_micros(), Ordering::Relaxed);
    }

    /// The page for the next frame.
    fn page<'a>(&self, pages: &'a mut PageList, frames: u32) -> &'a Page {
        let number = Page::number_of(frames.into());
        if pages.len() == number {
            pages.push(Page::new(number, &self.account));
        }
        &pages[number]
    }

    /// Adds a complete frame that shares its payload.
    pub(super) fn put_shared(&self, state: &mut GroupState, timestamp: Timestamp, payload: Bytes) {
        let len = payload.len();
        self.put(state, Slot::shared(timestamp, payload), len);
    }

    pub(super) fn open(
        &self,
        state: &mut GroupState,
        timestamp: Timestamp,
        properties: Option<Properties>,
        size: u64,
    ) {
        let head = Head::new(state.last(), timestamp, size);
        self.extras(state);
        let GroupState { pages, frames, extras: Some(extras), .. } = state else { return };
        let need = head.len() + size.min(Buffer::STEP as u64) as usize;
        extras.buffer.reserve(need, self.page(pages, *frames).charge());
        extras.buffer.extend(&head);
        let (head_len, is_bare) = (head.len() as u8, properties == Some(Properties::NONE));
        let (received, mut pieces) = (0, Pieces::default());
        if let Some(properties) = properties.filter(|_| !is_bare) {
            pieces.set_properties(properties);
        }
        extras.open = Some(OpenFrame { timestamp, is_bare, head_len, size, received, pieces });
        extras.changed = true;
        self.close_if_complete(state);
    }

    /// Adds bytes to the open frame, at most as many as are missing.
    pub(super) fn append(&self, state: &mut GroupState, mut bytes: &[u8]) -> Result<()> {
        if let Some(Err(error)) = &state.end {
            return Err((**error).clone());
        }
        let GroupState { pages, frames, extras: Some(extras), .. } = state else { return Ok(()) };
        let GroupExtras { buffer, open, .. } = &mut **extras;
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
        self.bytes_arrived(state);
        Ok(())
    }

    /// Adds a piece of the open frame that is shared instead of copied, of at most as many bytes as are missing.
    pub(super) fn append_shared(&self, state: &mut GroupState, piece: &mut Bytes) -> Result<()> {
        if let Some(Err(error)) = &state.end {
            return Err((**error).clone());
        }
        let GroupState { pages, frames, extras: Some(extras), .. } = state else { return Ok(()) };
        let GroupExtras { buffer, open: Some(open), .. } = &mut **extras else { return Ok(()) };
        open.flush(buffer);
        open.received += piece.len() as u64;
        self.page(pages, *frames).charge().add(piece.len());
        open.pieces.push(mem::take(piece));
        self.bytes_arrived(state);
        Ok(())
    }

    /// Bytes of the open frame were added.
    fn bytes_arrived(&self, state: &mut GroupState) {
        self.touch(state);
        self.close_if_complete(state);
    }

    fn close_if_complete(&self, state: &mut GroupState) {
        let Some(extras) = &mut state.extras else { return };
        let GroupExtras { buffer, open, .. } = &mut **extras;
        let Some(mut open) = open.take_if(|open| open.received == open.size) else { return };
        let bare = open.is_bare.then_some(Properties::NONE);
        let properties = open.pieces.take_properties().or(bare);
        if open.pieces.list().is_empty() {
            let slot = Slot::wire(open.timestamp, buffer.take());
            let charge = self.page(&mut state.pages, state.frames).charge();
            let slot = slot.with_properties(properties, charge);
            return self.put(state, slot, 0);
        }
        open.flush(buffer);
        if open.size <= SMALL {
            return self.put_copy(state, open.timestamp, properties, open.pieces.list());
        }
        let charge = self.page(&mut state.pages, state.frames).charge();
        let slot = match open.pieces.list() {
            [piece] => Slot::shared(open.timestamp, piece.clone()),
            _ => {
                charge.add(open.pieces.overhead());
                Slot::pieces(open.timestamp, open.pieces)
            }
        };
        let slot = slot.with_properties(properties, charge);
        self.put(state, slot, 0);
    }

    /// Changes the frames, and then lets the track give up old groups if the change calls for it.
    pub(super) fn write(
        &self,
        wakes: &mut DeferredWakes,
        write: impl FnOnce(&mut GroupState) -> Result<()>,
    ) -> Result<()> {
        let (result, is_first) = self.change(wakes, |state| {
            let before = state.frames;
            (write(state), before == 0 && state.frames != 0)
        });
        if is_first || self.account.is_due(self.newest().unwrap_or(Timestamp::ZERO)) {
            self.sweep();
        }
        result
    }
}

impl Drop for CachedGroup {
    fn drop(&mut self) {
        self.account.uncharge(Self::SIZE as u64);
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
            self.end = Some(end.map_err(Box::new));
            if let Some(extras) = &mut self.extras {
                (extras.changed, extras.completed) = (true, true);
            }
        }
    }

    /// Moves the waiters that the changes concern to `wakes`. Returns what a finished group does not
    /// need any more, to be dropped after the lock is released.
    fn take_waiters(&mut self, wakes: &mut DeferredWakes) -> Option<Box<GroupExtras>> {
        let extras = self.extras.as_mut()?;
        if mem::take(&mut extras.changed) {
            extras.chunk_waiters.take(wakes);
            if mem::take(&mut extras.completed) {
                extras.frame_waiters.take(wakes);
            }
            if self.end.is_some() {
                extras.end_waiters.take(wakes);
            }
        }
        self.extras.take_if(|extras| extras.evicted.is_none() && matches!(self.end, Some(Ok(()))))
    }

    /// How the group ended; `None` while it is open.
    pub(super) fn end(&self) -> Option<Result<()>> {
        self.end.as_ref().map(|end| end.as_ref().copied().map_err(|error| (**error).clone()))
    }

    /// The number of complete frames.
    pub(super) fn frames(&self) -> u64 {
        self.frames.into()
    }

    /// The complete frame `index`.
    fn slot(&self, index: u64) -> Option<&Slot> {
        self.pages.get(Page::number_of(index))?.slot(index)
    }

    /// The timestamp before the frame `index`: that of the previous frame, or 0.
    pub(super) fn previous(&self, index: u64) -> Timestamp {
        let previous = index.checked_sub(1).and_then(|index| self.slot(index));
        previous.map_or(Timestamp::ZERO, Slot::timestamp)
    }

    /// The timestamp of the last complete frame, or 0.
    fn last(&self) -> Timestamp {
        self.previous(self.frames())
    }

    /// The page of a complete frame; `None` if the group ended before that frame.
    pub(super) fn page(&self, index: u64) -> Poll<Result<Option<&Arc<Page>>>> {
        if index < self.frames() {
            let page = self.pages.get(Page::number_of(index));
            let why = || self.extras.as_ref().and_then(|extras| extras.evicted.clone());
            return Poll::Ready(page.map(Some).ok_or_else(|| why().unwrap_or(Error::Evicted)));
        }
        match self.end() {
            Some(end) => Poll::Ready(end.map(|()| None)),
            None => Poll::Pending,
        }
    }

    pub(super) fn open_frame(&self) -> Option<&OpenFrame> {
        self.extras.as_ref()?.open.as_ref()
    }

    /// The open frame, to be read. The bytes that arrived are moved into its pieces first, unless
    /// they are too few.
    pub(super) fn open(&mut self) -> Option<&OpenFrame> {
        let GroupExtras { open, buffer, .. } = &mut **self.extras.as_mut()?;
        let open = open.as_mut()?;
        let pieces = open.pieces.list().len();
        let head = if pieces == 0 { open.head_len.into() } else { 0 };
        let waiting = buffer.len() - head;
        if waiting > 0 && (waiting as u64 >= SMALL || pieces < EAGER_PIECES) {
            open.flush(buffer);
        }
        Some(open)
    }

    /// Adds a producer.
    pub(super) fn join(&mut self) {
        self.producers += 1;
    }

    /// Removes a producer. The last one must have ended the group.
    pub(super) fn leave(&mut self) {
        self.producers -= 1;
        if self.producers == 0 {
            self.stop(Err(Error::Dropped));
        }
    }

    /// The state that some groups need, if this one has it.
    pub(super) fn extras(&mut self) -> Option<&mut GroupExtras> {
        self.extras.as_deref_mut()
    }
}

impl GroupExtras {
    fn new(account: Arc<Account>, bytes: u64) -> Box<Self> {
        Box::new(Self {
            charge: Charge::new(account, mem::size_of::<Self>()),
            buffer: Buffer::default(),
            open: None,
            bytes,
            changed: false,
            completed: false,
            chunk_waiters: Wakers::default(),
            frame_waiters: Wakers::default(),
            end_waiters: Wakers::default(),
            evicted: None,
        })
    }
}

impl OpenFrame {
    pub(super) fn properties(&self) -> Option<&Properties> {
        self.pieces.properties().or(self.is_bare.then_some(&NO_PROPERTIES))
    }

    /// Moves the bytes in the buffer into a new piece.
    fn flush(&mut self, buffer: &mut Buffer) {
        let mut piece = buffer.take();
        if self.pieces.list().is_empty() {
            piece = piece.split_off(self.head_len.into());
        }
        self.pieces.push(piece);
    }
}

census! { each CachedGroup {
    counts: pins;
    within: state;
    plain: sequence, arrival, account, form, overdue, first, newest, written;
} }

census! { GroupState {
    counts: pages, producers;
    within: extras;
    plain: frames, end;
} }

census! { GroupExtras {
    counts: open, chunk_waiters, frame_waiters, end_waiters;
    plain: charge, buffer, bytes, changed, completed, evicted;
} }
