//! A run of frames: the bytes that one [`Write`](super::Write) shows, as slices of the cache with frame
//! heads between them.

use crate::census::census;

use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::frame_view::FrameView;
use super::layout::{HEAD_MAX, Layout};
use crate::properties::Properties;
use crate::time::Timestamp;

/// How many bytes one guard shows at most.
pub(crate) const MAX_BURST: usize = 64 << 10;
/// How many slices one guard shows at most.
const MAX_CHUNKS: usize = 32;
/// Pieces up to this size are copied into the arena: for QUIC a slice costs more than the copy.
const COPY_MAX: usize = 256;
/// Payloads up to this size are copied together if they follow each other, because QUIC searches
/// its list of slices for each packet. A frame alone, as in live media, is not copied.
const MERGE_MAX: usize = 2 << 10;
/// The size of the arena at first, and at most.
const ARENA_STEPS: [usize; 2] = [1 << 10, 64 << 10];

/// The memory of one guard, reused by the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) total: usize,
    /// Where each complete frame ends, in bytes from the start of the run.
    pub(crate) ends: Vec<usize>,
    arena: BytesMut,
    /// The size of the arena when it was allocated last.
    step: usize,
    /// The arena holds payload, and not only heads.
    merging: bool,
}

impl Scratch {
    pub(crate) fn clear(&mut self) {
        self.chunks.clear();
        self.ends.clear();
        self.total = 0;
        self.arena.clear();
        self.merging = false;
        // If QUIC holds none of it any more, the whole arena is used again.
        let _ = self.arena.try_reclaim(self.step);
    }

    pub(crate) fn copy(&mut self, bytes: &[u8]) {
        if self.arena.capacity() - self.arena.len() < bytes.len() {
            let merging = self.merging;
            self.flush();
            self.merging = merging;
            let [least, most] = ARENA_STEPS;
            self.step = (2 * self.step).clamp(least, most).max(bytes.len());
            self.arena = BytesMut::with_capacity(self.step);
        }
        self.arena.extend_from_slice(bytes);
        self.total += bytes.len();
    }

    /// Adds the head of a frame.
    fn head(&mut self, bytes: &[u8]) {
        if self.arena.is_empty() {
            self.gather();
        }
        self.copy(bytes);
    }

    /// Adds a payload that gets a slice of its own, unless small payloads follow each other.
    fn share(&mut self, bytes: Bytes) {
        if bytes.len() <= MERGE_MAX {
            if self.arena.is_empty() {
                self.gather();
            }
            if self.merging {
                return self.copy(&bytes);
            }
        }
        self.flush();
        self.total += bytes.len();
        self.chunks.push(bytes);
    }

    /// More follows: if the last slices are a small payload and its head, they become the beginning
    /// of a merged run.
    fn gather(&mut self) {
        let small = self.chunks.iter().rev().take(2).take_while(|chunk| chunk.len() <= MERGE_MAX);
        let kept = self.chunks.len() - small.count();
        let run: SmallVec<[Bytes; 2]> = self.chunks.drain(kept..).collect();
        for piece in &run {
            self.merging = true;
            self.total -= piece.len();
            self.copy(piece);
        }
    }

    pub(crate) fn flush(&mut self) {
        if !self.arena.is_empty() {
            self.chunks.push(self.arena.split().freeze());
        }
        self.merging = false;
    }
}

/// Where [`Source::frames`](super::Source::frames) shows the frames of a group. It keeps what fits
/// into one write.
#[derive(Debug)]
pub struct Run<'a> {
    out: &'a mut Scratch,
    /// How frames are written; `None` is the payload alone, as in a datagram.
    layout: Option<Layout>,
    /// Index of the frame that is pushed next.
    index: u64,
    /// Which frames go on the stream. The timestamp delta of the first one starts from 0.
    range: FrameRange,
    /// Whether frames were passed over.
    passed: bool,
    /// Bytes of the next frame that were sent before.
    skip: usize,
    room: usize,
    waiting: bool,
    offered: bool,
    cut: bool,
    /// The timestamp of the frame that was shown last.
    timestamp: Timestamp,
    /// Its properties, if they are needed.
    properties: Option<Properties>,
    /// Records the frames that are shown, if the session is recorded.
    pub(crate) tap: Option<Tap>,
}

/// Frames of a group, from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FrameRange {
    pub(crate) first: u64,
    /// `None`: to the end of the group.
    pub(crate) last: Option<u64>,
    /// How many objects come before the first frame and its gap. It differs from `first` after gaps.
    base: u64,
    /// The first object that is wanted. Frames before it are passed over.
    from_object: u64,
}

impl FrameRange {
    pub(crate) fn new(first: u64, last: Option<u64>) -> Self {
        Self { first, last, base: first, from_object: first }
    }

    /// The same without those before this object.
    pub(crate) fn starting_at(self, from_object: u64) -> Self {
        Self { from_object, ..self }
    }

    /// The number of frames; [`u64::MAX`] to the end of the group.
    pub(crate) fn len(self) -> u64 {
        self.last.map_or(u64::MAX, |last| (last - self.first).saturating_add(1))
    }
}

/// Where a run writes down the frames that it is shown. Only the run knows how much of a frame it can
/// look at.
#[derive(Debug)]
pub(crate) struct Tap {
    pub(crate) out: Vec<u8>,
    /// Appends a frame of which no more than so many bytes of payload matter; `None`: nothing of it.
    pub(crate) record: fn(&FrameView<'_>, Option<usize>, &mut Vec<u8>),
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        out: &'a mut Scratch,
        layout: Option<Layout>,
        range: FrameRange,
        index: u64,
        skip: usize,
        waiting: bool,
    ) -> Self {
        let room = MAX_BURST.saturating_sub(out.total);
        Self {
            out,
            layout,
            index,
            range,
            passed: false,
            skip,
            room,
            waiting,
            offered: false,
            cut: false,
            timestamp: Timestamp::ZERO,
            properties: None,
            tap: None,
        }
    }

    /// A run that keeps nothing: it only finds out whether there is anything to show.
    pub(crate) fn probe(out: &'a mut Scratch, range: FrameRange, index: u64) -> Self {
        Self { room: 0, ..Self::new(out, None, range, index, 0, true) }
    }

    /// A run that keeps the payload of a group of one frame. It has room for a second frame, so that a
    /// group of several is recognized.
    pub(crate) fn payload_alone(out: &'a mut Scratch) -> Self {
        Self::new(out, None, FrameRange::new(0, Some(1)), 0, 0, true)
    }

    /// Shows the next frame. After `false` show no more.
    pub fn push(&mut self, frame: FrameView<'_>) -> bool {
        if self.tap.is_some() {
            self.write_down(&frame);
        }
        if self.index == self.range.first && self.range.base < self.range.from_object {
            if let Some(goes_on) = self.pass(&frame) {
                return goes_on;
            }
        }
        self.offered = true;
        self.timestamp = frame.timestamp;
        if self.layout.is_none() {
            self.properties = frame.properties.cloned();
        }
        if self.is_over() {
            return false;
        }
        if self.is_full() {
            self.cut = true;
            return false;
        }
        let restarts = self.index == self.range.first && self.index != 0;
        let as_it_lies = frame.wire.and_then(|wire| self.layout?.as_it_lies(&wire, restarts));
        if let (None, Some(layout)) = (as_it_lies, self.layout) {
            let base = restarts.then_some(self.range.base);
            let Some(head) = layout.head(&frame, self.index, base) else { return false };
            self.head(&head);
        }
        // Whether everything that was shown fitted, and whether that is the whole frame.
        let (kept, whole) = match frame.wire {
            Some(wire) => {
                let kept = self.piece(wire.bytes, as_it_lies.unwrap_or(wire.head_len));
                (kept, kept)
            }
            None => self.payload(&frame),
        };
        if whole {
            self.out.ends.push(self.out.total);
            self.index += 1;
            self.skip = 0;
        }
        self.cut = !kept;
        kept && !self.is_full() && !self.is_over()
    }

    /// Passes over the next frame if it comes before the first object that is wanted. Returns `None` if it does not, and
    /// otherwise whether more can be shown: a frame that is still arriving is passed over when it is complete.
    #[cold]
    fn pass(&mut self, frame: &FrameView<'_>) -> Option<bool> {
        let gap = frame.properties.map_or(0, |it| it.gap);
        let object = self.range.base.saturating_add(gap.into());
        if object >= self.range.from_object {
            return None;
        }
        let arrived = || frame.offset + frame.payload.iter().map(|it| it.len() as u64).sum::<u64>();
        if frame.wire.is_none() && arrived() < frame.size {
            return Some(false);
        }
        self.index += 1;
        self.range.first = self.index;
        self.range.base = object.saturating_add(1);
        self.passed = true;
        Some(true)
    }

    /// The frames that are left if some were passed over: they are not shown again.
    pub(crate) fn rest(&self) -> Option<FrameRange> {
        self.passed.then_some(self.range)
    }

    /// Whether only objects from some number on are wanted, and none of them was shown.
    pub(crate) fn is_before_start(&self) -> bool {
        !self.offered && self.range.from_object > 0
    }

    /// How many bytes of payload of the first frame were sent before, or a few less. They need not
    /// be shown, see [`FrameView::offset`].
    pub fn skipped(&self) -> u64 {
        self.skip.saturating_sub(HEAD_MAX) as u64
    }

    /// Whether the group waits: it has no stream yet, or QUIC blocked its stream. A group that is
    /// too old then should be given up instead of sent late.
    pub fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Whether a frame was shown, kept or not.
    pub(crate) fn was_offered(&self) -> bool {
        self.offered
    }

    /// The timestamp of the frame that was shown last.
    pub(crate) fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// The properties of that frame, on a run of [`payload_alone`](Self::payload_alone).
    pub(crate) fn take_properties(&mut self) -> Option<Properties> {
        self.properties.take()
    }

    /// Whether the last frame shown was not kept completely.
    pub(crate) fn was_cut(&self) -> bool {
        self.cut
    }

    #[cold]
    fn write_down(&mut self, frame: &FrameView<'_>) {
        // One byte more than what fits shows that there is more.
        let most = (self.room + 1).saturating_add(self.skip);
        let most = (!self.is_full() && !self.is_over()).then_some(most);
        if let Some(tap) = &mut self.tap {
            (tap.record)(frame, most, &mut tap.out);
        }
    }

    /// Whether the last frame that goes on the stream was kept completely.
    pub(crate) fn is_over(&self) -> bool {
        self.range.last.is_some_and(|last| self.index > last)
    }

    fn is_full(&self) -> bool {
        self.room == 0 || self.out.chunks.len() >= MAX_CHUNKS
    }

    fn head(&mut self, head: &[u8]) {
        let skipped = self.skip.min(head.len());
        self.skip -= skipped;
        self.out.head(&head[skipped..]);
        self.room = self.room.saturating_sub(head.len() - skipped);
    }

    /// Keeps the payload that is available, without what was sent before. Returns whether it
    /// fitted, and whether it is all of the frame's.
    fn payload(&mut self, frame: &FrameView<'_>) -> (bool, bool) {
        let Some(skip) = (self.skip as u64).checked_sub(frame.offset) else {
            // Bytes that were not sent are not shown, which breaks the contract of `Source`.
            return (false, false);
        };
        self.skip = skip as usize;
        let mut end = frame.offset;
        for chunk in frame.payload {
            end += chunk.len() as u64;
            if self.is_full() || !self.piece(chunk, 0) {
                return (false, false);
            }
        }
        (true, end == frame.size)
    }

    /// Keeps `bytes[from..]` without what was sent before. Returns `false` if it did not fit.
    fn piece(&mut self, bytes: &Bytes, from: usize) -> bool {
        let skipped = self.skip.min(bytes.len() - from);
        self.skip -= skipped;
        let from = from + skipped;
        let n = (bytes.len() - from).min(self.room);
        self.room -= n;
        if n <= COPY_MAX {
            self.out.merging = true;
            self.out.copy(&bytes[from..from + n]);
        } else {
            self.out.share(bytes.slice(from..from + n));
        }
        from + n == bytes.len()
    }
}

census! { Scratch { counts: chunks, ends; plain: total, arena, step, merging; } }

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces<const N: usize>(sizes: [usize; N]) -> [Bytes; N] {
        sizes.map(|n| Bytes::from(alloc::vec![n as u8; n]))
    }

    #[test]
    fn a_run_of_small_payloads_is_one_slice_and_others_are_not_copied() {
        let mut out = Scratch { step: ARENA_STEPS[1], ..Scratch::default() };
        let [small, large] = pieces([MERGE_MAX, MERGE_MAX + 1]);
        out.share(small.clone());
        assert_eq!(out.chunks[0].as_ptr(), small.as_ptr(), "one alone is not a run");
        out.share(small.clone());
        out.head(b"head");
        out.share(small.clone());
        out.share(large.clone());
        out.share(small.clone());
        out.flush();
        let run = [&small[..], &small, b"head", &small].concat();
        assert_eq!(out.chunks, [Bytes::from(run), large.clone(), small.clone()]);
        assert_eq!(out.chunks[1].as_ptr(), large.as_ptr());
        assert_eq!(out.chunks[2].as_ptr(), small.as_ptr());
        assert_eq!(out.total, out.chunks.iter().map(Bytes::len).sum());
    }

    #[test]
    fn a_small_payload_behind_its_head_is_copied_only_when_another_frame_follows() {
        let mut out = Scratch { step: ARENA_STEPS[1], ..Scratch::default() };
        let [small, large] = pieces([1_200, MERGE_MAX + 1]);
        out.head(b"1");
        out.share(small.clone());
        assert_eq!(out.chunks[1].as_ptr(), small.as_ptr());
        out.head(b"2");
        out.share(small.clone());
        out.head(b"3");
        out.share(large.clone());
        out.flush();
        let run = [b"1", &small[..], b"2", &small, b"3"].concat();
        assert_eq!(out.chunks, [Bytes::from(run), large.clone()]);
        assert_eq!(out.total, out.chunks.iter().map(Bytes::len).sum());
    }

    /// Objects 2, 3 and 9, of which 3 is still arriving at first, and those from 4 on are wanted.
    #[test]
    fn objects_before_the_first_one_are_passed_over_once_they_are_complete() {
        let [payload] = pieces([5]);
        let range = FrameRange::new(0, None).starting_at(4);
        let mut out = Scratch::default();
        let draft = crate::coding::ietf::Draft::of(crate::Version::Moqt22).unwrap();
        let layout = Some(Layout::objects(draft, true));
        let mut show = |range: FrameRange, frames: &[(u32, u64)]| {
            out.clear();
            let mut run = Run::new(&mut out, layout, range, range.first, 0, false);
            for (gap, size) in frames {
                let properties = Some(&Properties::NONE.with_gap_and_status(*gap, 0));
                let (timestamp, previous) = (Timestamp::ZERO, Timestamp::ZERO);
                let (size, payload) = (*size, core::slice::from_ref(&payload));
                let (wire, offset) = (None, 0);
                if !run.push(FrameView {
                    timestamp,
                    previous,
                    size,
                    properties,
                    wire,
                    payload,
                    offset,
                }) {
                    break;
                }
            }
            let (rest, shown) = (run.rest(), run.was_offered());
            out.flush();
            (rest, shown, out.chunks.concat())
        };
        let (rest, shown, bytes) = show(range, &[(2, 5), (0, 9)]);
        let rest = rest.expect("the first one was passed over");
        assert_eq!((rest.first, shown, bytes), (1, false, vec![]));
        let (rest, shown, bytes) = show(rest, &[(0, 5), (5, 5)]);
        let rest = rest.expect("the second one as well");
        // The number of the first object on a stream is whole: 9, without properties, of 5 bytes.
        assert_eq!((rest.first, shown, bytes), (2, true, [&[9, 0, 5], &payload[..]].concat()));
        let (again, shown, bytes) = show(rest, &[(5, 5), (0, 5)]);
        assert!(again.is_none() && shown);
        assert_eq!(bytes[..3], [9, 0, 5], "{bytes:?}");
    }

    #[test]
    fn the_arena_is_used_again_when_nothing_of_it_is_held() {
        let mut out = Scratch::default();
        let mut at = |held: &mut alloc::vec::Vec<Bytes>| {
            out.clear();
            out.copy(&[1; 600]);
            out.flush();
            held.extend(out.chunks.iter().cloned());
            (out.chunks[0].as_ptr() as usize, out.step)
        };
        let mut held = Vec::new();
        let first = at(&mut held);
        held.clear();
        assert_eq!(at(&mut held), first);
        let (other, step) = at(&mut held);
        assert_ne!(other, first.0, "QUIC holds the first");
        assert_eq!(step, 2 * first.1);
    }
}
