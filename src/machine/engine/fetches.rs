//! FETCHes in both directions, as every dialect keeps them. The answer is sent and read like any other group, on the
//! stream of the request or on one of its own. Several groups follow each other on that stream.

use crate::machine::event::{FetchRange, FramePosition, ObjectRun};
use crate::machine::layout::{Head, Layout, RecordWriter};
use crate::machine::run::FrameRange;
use crate::machine::source::Token;
use crate::slab::Key;
use crate::stream::StreamId;
use crate::time::Instant;

/// A FETCH of the peer. Once it was accepted, the schedule has a track with its group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IncomingFetch {
    pub(crate) priority: u8,
    pub(crate) sequence: u64,
    pub(crate) range: FrameRange,
    /// Set if it asks for several groups, or is answered in several parts, in place of `sequence` and `range`.
    pub(crate) several: Option<RangeAnswer>,
}

/// The answer to a FETCH in several parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RangeAnswer {
    /// Once it was accepted, up to the last frame that there is.
    pub(crate) range: FetchRange,
    /// The subscription that it fills, if it is no request of its own.
    pub(crate) fills: Option<Key>,
    /// How long the subscriber waits for what the cache lacks.
    pub(crate) due: Option<Instant>,
    /// The stream has its header.
    pub(crate) has_begun: bool,
    /// Once it was accepted.
    pub(crate) records: Option<RecordWriter>,
}

impl RangeAnswer {
    pub(crate) fn new(range: FetchRange, fills: Option<Key>) -> Self {
        Self { range, fills, due: None, has_begun: false, records: None }
    }

    /// Where a gap ends that precedes these frames, or the end of the answer. Also whether it lies in one group.
    pub(crate) fn end_of_gap(&self, run: Option<ObjectRun>) -> Option<(FramePosition, bool)> {
        let FetchRange { start, end, descending, .. } = self.range;
        let whole = |group| Some((FramePosition::new(group, u64::MAX), false));
        let Some(run) = run else { return whole(if descending { start.group } else { end.group }) };
        let first = if run.sequence == start.group { start.frame } else { 0 };
        if run.object > first {
            return Some((FramePosition::new(run.sequence, run.object - 1), true));
        }
        // It ends with the group before, in the order of the answer.
        let before = match descending {
            true => run.sequence.checked_add(1),
            false => run.sequence.checked_sub(1),
        };
        before.and_then(whole)
    }
}

/// The stream that carries the answer to a FETCH of the peer.
#[derive(Debug)]
pub(crate) enum AnswerStream {
    /// That of the request.
    Request(StreamId),
    /// One of its own.
    Own { head: Head, layout: Layout },
}

/// The purpose of a FETCH of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FetchId {
    /// A command of the application.
    Token(Token),
    /// The frames before the first one on this group stream.
    Head(Key),
}

/// A FETCH of ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutgoingFetch {
    pub(crate) request: Key,
    pub(crate) priority: u8,
    pub(crate) sequence: u64,
    pub(crate) range: FrameRange,
    /// The group stream, once the answer begins.
    pub(crate) group: Option<Key>,
    /// When the answer should have begun, if a group stream waits for it.
    pub(crate) until: Instant,
}

impl OutgoingFetch {
    pub(crate) fn new(priority: u8, sequence: u64, range: FrameRange) -> Self {
        let (request, group, until) = Default::default();
        Self { request, priority, sequence, range, group, until }
    }
}
