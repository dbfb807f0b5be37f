//! Pages of frames: append-only, written once, and read without a lock.

use std::mem;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};

use super::budget::{Account, Charge};
use crate::coding::lite::FrameHead;
use crate::coding::varint;
use crate::machine::{FrameView, WireFrame};
use crate::{Properties, Timestamp, Version};

/// The number of slots of the first page of a group, of the second, and of each further one. Most
/// groups of games and of audio are one frame, most groups of video are tens.
const SLOTS: [u64; 3] = [1, 7, 32];

/// Overhead of an allocation for payload: the reference count of `bytes`.
const BUFFER_OVERHEAD: usize = 48;

/// Consecutive frames of a group.
#[derive(Debug)]
pub(crate) struct Page<S: ?Sized = [OnceLock<Slot>]> {
    /// The index in the group of the first slot.
    first: u64,
    charge: Charge,
    slots: S,
}

impl Page {
    /// Creates page `number` of a group.
    #[cold]
    pub(crate) fn new(number: usize, account: &Arc<Account>) -> Arc<Self> {
        fn of<const N: usize>(first: u64, charge: Charge) -> Arc<Page> {
            Arc::new(Page { first, charge, slots: [const { OnceLock::new() }; N] })
        }
        let charge = Charge::new(account.clone(), 0);
        let page = match number {
            0 => of::<{ SLOTS[0] as usize }>(0, charge),
            1 => of::<{ SLOTS[1] as usize }>(SLOTS[0], charge),
            n => {
                let first = SLOTS[0] + SLOTS[1] + (n as u64 - 2) * SLOTS[2];
                of::<{ SLOTS[2] as usize }>(first, charge)
            }
        };
        page.charge.add(page.size());
        page
    }

    /// The memory of the page, without payload: itself, the two counts of its `Arc`, and its place in the group's list.
    fn size(&self) -> usize {
        mem::size_of_val(self) + 4 * mem::size_of::<usize>()
    }

    /// Makes it as good as new.
    pub(crate) fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| drop(slot.take()));
        let size = self.size();
        self.charge.lower(size);
    }

    /// The number of the page that holds the frame `index`.
    pub(crate) const fn number_of(index: u64) -> usize {
        if index < SLOTS[0] {
            0
        } else if index < SLOTS[0] + SLOTS[1] {
            1
        } else {
            2 + ((index - SLOTS[0] - SLOTS[1]) / SLOTS[2]) as usize
        }
    }

    /// The frame `index` of the group, if it is complete and on this page.
    #[inline]
    pub(crate) fn slot(&self, index: u64) -> Option<&Slot> {
        let at = usize::try_from(index.wrapping_sub(self.first)).ok()?;
        self.slots.get(at)?.get()
    }

    /// Stores the frame `index`, which must be on this page and not be stored yet.
    pub(crate) fn put(&self, index: u64, slot: Slot) {
        let is_new = self.slots[(index - self.first) as usize].set(slot).is_ok();
        debug_assert!(is_new, "a slot is written once");
    }

    pub(crate) fn charge(&self) -> &Charge {
        &self.charge
    }
}

pub(crate) static NO_PROPERTIES: Properties = Properties::NONE;

/// A complete frame. It is small, because each page has room for many.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The timestamp, [`WIRE`](Self::WIRE) and [`BARE`](Self::BARE).
    stamp: u64,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// In one piece: a frame that was copied, as `[timestamp delta][size][payload]`, or a large frame
    /// of the application, its payload alone.
    Whole(Bytes),
    Pieces(Pieces),
}

/// A large frame that arrived in pieces, or a frame with properties: its payload, without a head. The type is no
/// larger than a pointer, because every group has room for one and few need it.
#[derive(Debug, Default)]
pub(crate) struct Pieces(Option<Box<PieceLists>>);

#[derive(Debug, Default)]
struct PieceLists {
    /// None of them is empty.
    list: Vec<Bytes>,
    /// Where each piece ends, so that a reader finds its position by binary search.
    ends: Vec<u64>,
    /// The whole payload, once a reader asked for it in one piece.
    joined: OnceLock<Bytes>,
    properties: Option<Box<Properties>>,
}

impl Pieces {
    pub(crate) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            let end = self.size() + piece.len() as u64;
            let lists = self.0.get_or_insert_default();
            lists.ends.push(end);
            lists.list.push(piece);
        }
    }

    pub(crate) fn set_properties(&mut self, properties: Properties) {
        self.0.get_or_insert_default().properties = Some(Box::new(properties));
    }

    pub(crate) fn take_properties(&mut self) -> Option<Properties> {
        self.0.as_mut()?.properties.take().map(|properties| *properties)
    }

    pub(crate) fn properties(&self) -> Option<&Properties> {
        self.0.as_ref()?.properties.as_deref()
    }

    pub(crate) fn list(&self) -> &[Bytes] {
        self.0.as_ref().map_or(&[], |lists| &lists.list)
    }

    fn ends(&self) -> &[u64] {
        self.0.as_ref().map_or(&[], |lists| &lists.ends)
    }

    /// The total number of bytes.
    fn size(&self) -> u64 {
        self.ends().last().copied().unwrap_or(0)
    }

    /// The memory of the lists and of the properties, without the bytes.
    pub(crate) fn overhead(&self) -> usize {
        self.0.as_ref().map_or(0, |lists| {
            let (list, ends) = (lists.list.capacity(), lists.ends.capacity());
            let lists = list * mem::size_of::<Bytes>() + ends * mem::size_of::<u64>();
            let properties = self.properties().map_or(0, |properties| {
                mem::size_of::<PieceLists>() + mem::size_of::<Properties>() + properties.len()
            });
            lists + properties
        })
    }

    /// The pieces starting with the one that holds byte `offset`, and where that one begins.
    pub(crate) fn from(&self, offset: u64) -> (&[Bytes], u64) {
        let ends = self.ends();
        let at = ends.partition_point(|end| *end <= offset);
        let begin = at.checked_sub(1).map_or(0, |before| ends[before]);
        (&self.list()[at..], begin)
    }

    /// The bytes of one piece from `offset` on; `None` at the end.
    pub(crate) fn piece(&self, offset: u64) -> Option<Bytes> {
        let (pieces, begin) = self.from(offset);
        Some(pieces.first()?.slice((offset - begin) as usize..))
    }

    /// The payload in one piece. It is joined by the first call and charged to `charge`.
    fn joined(&self, charge: &Charge) -> Option<&Bytes> {
        let lists = self.0.as_ref()?;
        Some(lists.joined.get_or_init(|| {
            charge.add(self.size() as usize + BUFFER_OVERHEAD);
            lists.list.concat().into()
        }))
    }
}

impl Slot {
    /// Set in the stamp if the head of the frame lies before its payload. A timestamp has 61 bits.
    const WIRE: u64 = 1 << 63;

    /// Set in the stamp if the frame came without properties from a session that has them.
    const BARE: u64 = 1 << 62;

    /// `bytes` begin with the head of the frame.
    pub(crate) fn wire(timestamp: Timestamp, bytes: Bytes) -> Self {
        Self { stamp: timestamp.units() | Self::WIRE, body: Body::Whole(bytes) }
    }

    pub(crate) fn shared(timestamp: Timestamp, payload: Bytes) -> Self {
        Self { stamp: timestamp.units(), body: Body::Whole(payload) }
    }

    pub(crate) fn pieces(timestamp: Timestamp, pieces: Pieces) -> Self {
        Self { stamp: timestamp.units(), body: Body::Pieces(pieces) }
    }

    /// Adds the properties of a frame that came with some, or without any, and charges them to `charge`.
    pub(crate) fn with_properties(self, properties: Option<Properties>, charge: &Charge) -> Self {
        let Some(properties) = properties else { return self };
        if properties == Properties::NONE {
            return Self { stamp: self.stamp | Self::BARE, ..self };
        }
        let head_len = match &self.body {
            Body::Whole(bytes) => self.head_len(bytes),
            Body::Pieces(_) => 0,
        };
        let mut pieces = match self.body {
            Body::Pieces(pieces) => pieces,
            Body::Whole(mut bytes) => {
                let (mut pieces, payload) = (Pieces::default(), bytes.split_off(head_len));
                pieces.push(payload.clone());
                // A payload in one piece needs no joining.
                let _ = pieces.0.get_or_insert_default().joined.set(payload);
                pieces
            }
        };
        pieces.set_properties(properties);
        charge.add(pieces.overhead());
        Self { stamp: self.stamp & !Self::WIRE, body: Body::Pieces(pieces) }
    }

    pub(crate) fn timestamp(&self) -> Timestamp {
        Timestamp::new(self.stamp & !(Self::WIRE | Self::BARE))
    }

    /// The properties that it came with, or [`Properties::NONE`] if it came without any.
    pub(crate) fn properties(&self) -> Option<&Properties> {
        let own = match &self.body {
            Body::Pieces(pieces) => pieces.properties(),
            Body::Whole(_) => None,
        };
        own.or((self.stamp & Self::BARE != 0).then_some(&NO_PROPERTIES))
    }

    fn is_wire(&self) -> bool {
        self.stamp & Self::WIRE != 0
    }

    /// The length of the head that lies before the payload in `bytes`.
    fn head_len(&self, bytes: &[u8]) -> usize {
        if self.is_wire() { Head::lens(bytes).1 } else { 0 }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.body {
            Body::Whole(bytes) => bytes.len() - self.head_len(bytes),
            Body::Pieces(pieces) => pieces.size() as usize,
        }
    }

    /// The payload in one piece. Pieces are joined by the first call and charged to `charge`.
    pub(crate) fn payload(&self, charge: &Charge) -> &[u8] {
        match &self.body {
            Body::Whole(bytes) => &bytes[self.head_len(bytes)..],
            Body::Pieces(pieces) => pieces.joined(charge).map_or(&[], |joined| joined),
        }
    }

    /// [`payload`](Self::payload), shared.
    pub(crate) fn bytes(&self, charge: &Charge) -> Bytes {
        match &self.body {
            Body::Whole(bytes) => bytes.slice(self.head_len(bytes)..),
            Body::Pieces(pieces) => pieces.joined(charge).cloned().unwrap_or_default(),
        }
    }

    /// A piece of the payload from `offset` on, as long as it is contiguous; `None` at the end.
    pub(crate) fn piece(&self, offset: u64) -> Option<Bytes> {
        match &self.body {
            Body::Whole(bytes) => {
                let from = usize::try_from(offset).ok()?.checked_add(self.head_len(bytes))?;
                (from < bytes.len()).then(|| bytes.slice(from..))
            }
            Body::Pieces(pieces) => pieces.piece(offset),
        }
    }

    /// The frame as the machine reads it, after a frame with the timestamp `previous`. The shown
    /// payload begins at byte `from` or before.
    pub(crate) fn view(&self, previous: Timestamp, from: u64) -> FrameView<'_> {
        let (wire, (payload, offset)) = match &self.body {
            Body::Whole(bytes) if self.is_wire() => {
                let (delta_len, head_len) = Head::lens(bytes);
                (Some(WireFrame { bytes, delta_len, head_len }), ([].as_slice(), 0))
            }
            Body::Whole(payload) => (None, (std::slice::from_ref(payload), 0)),
            Body::Pieces(pieces) => (None, pieces.from(from)),
        };
        let properties = self.properties();
        let (timestamp, size) = (self.timestamp(), self.len() as u64);
        FrameView { timestamp, previous, size, properties, wire, payload, offset }
    }
}

/// The head before the payload of a copied frame: timestamp delta and size in the integer form of
/// moq-lite 05 and 06. Other forms are written anew when the frame is sent.
pub(crate) struct Head(varint::Head<2>);

impl Head {
    /// `size` is at most [`varint::MAX`].
    pub(crate) fn new(previous: Timestamp, timestamp: Timestamp, size: u64) -> Self {
        let head = FrameHead::between(previous, timestamp, size).encode(Version::Lite06);
        Self(head.expect("a difference of timestamps fits, and the size was checked"))
    }

    /// The lengths of the timestamp delta and of the whole head that `bytes` begin with.
    fn lens(bytes: &[u8]) -> (usize, usize) {
        // The first byte of an integer tells its length.
        let len = |at: usize| bytes.get(at).map_or(0, |first| 1 << (first >> 6));
        let delta_len = len(0);
        (delta_len, delta_len + len(delta_len))
    }
}

impl Deref for Head {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Where copied frames of a group lie next to each other.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: BytesMut,
    last: usize,
}

impl Buffer {
    /// The size of the largest allocation, except for single pieces that are larger.
    pub(crate) const STEP: usize = 64 << 10;

    /// Makes room for `need` contiguous bytes, and charges the allocation. The first allocation is
    /// as large as asked for, and each further one twice the last. So a group of one frame wastes
    /// nothing, and a group of many frames needs few allocations.
    pub(crate) fn reserve(&mut self, need: usize, charge: &Charge) {
        debug_assert!(self.bytes.is_empty(), "what lies there is split off before");
        if self.bytes.capacity() < need {
            self.last = need.max((2 * self.last).min(Self::STEP));
            self.bytes = BytesMut::with_capacity(self.last);
            charge.add(self.last + BUFFER_OVERHEAD);
        }
    }

    /// The number of bytes that were written and not taken yet.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The number of bytes that fit without allocating.
    pub(crate) fn room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.room());
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the written bytes as a shared slice. The room after them stays.
    pub(crate) fn take(&mut self) -> Bytes {
        if self.room() == 0 {
            // Memory that a single frame fills has no reference count before it is shared.
            return mem::take(&mut self.bytes).freeze();
        }
        self.bytes.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::super::budget::{Cache, Nobody};
    use super::*;
    use crate::limits::Limits;

    #[test]
    fn every_index_is_on_its_page() {
        let account = Account::new(Cache::new(Limits::default()), Weak::<Nobody>::new());
        let mut next = 0;
        for number in 0..6 {
            let page = Page::new(number, &account);
            assert_eq!(page.first, next);
            next += page.slots.len() as u64;
            for index in page.first..next {
                assert_eq!(Page::number_of(index), number);
            }
            assert!(page.slot(page.first.wrapping_sub(1)).is_none());
            assert!(page.slot(next).is_none());
        }
    }

    #[test]
    fn a_slot_has_no_room_to_spare() {
        assert_eq!(mem::size_of::<OnceLock<Slot>>(), 48);
    }

    #[test]
    fn bytes_of_dropped_pages_are_uncharged() {
        let cache = Cache::new(Limits::default());
        let account = Account::new(cache.clone(), Weak::<Nobody>::new());
        let page = Page::new(0, &account);
        let empty = cache.used();
        assert!(empty >= mem::size_of_val(&*page) as u64);
        let mut buffer = Buffer::default();
        buffer.reserve(100, page.charge());
        assert!(cache.used() >= empty + 100);
        drop(page);
        assert_eq!((cache.used(), account.used()), (0, 0));
    }

    #[test]
    fn the_buffer_doubles_up_to_its_step() {
        let account = Account::new(Cache::new(Limits::default()), Weak::<Nobody>::new());
        let page = Page::new(0, &account);
        let mut buffer = Buffer::default();
        let mut allocations = 0;
        for _ in 0..1_000 {
            allocations += usize::from(buffer.room() < 1_000);
            buffer.reserve(1_000, page.charge());
            assert!(buffer.last <= Buffer::STEP);
            buffer.extend(&[1; 1_000]);
            assert_eq!(buffer.take().len(), 1_000);
        }
        assert!(allocations < 25, "{allocations}");
        buffer.reserve(3 * Buffer::STEP, page.charge());
        assert!(buffer.room() >= 3 * Buffer::STEP);
    }
}
