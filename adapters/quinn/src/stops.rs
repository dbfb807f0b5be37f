//! Noticing STOP_SENDING on a request that has nothing to write.
//!
//! quinn reports it by `SendStream::stopped`. From the first poll on quinn keeps a record in the connection, which
//! is removed when the peer acknowledges the end of the stream or sends STOP_SENDING. If we reset the stream, the
//! record stays for the life of the connection. Most requests that are reset are young: they were refused,
//! or withdrawn soon. So a request is watched only after a while; until then its state is checked when something
//! else happens on it. A connection that has left too many records watches no more and polls the counter of
//! STOP_SENDING frames instead.

use std::collections::VecDeque;
use std::time::Duration;

use smoq::Instant;
use smoq::stream::StreamId;

/// The age at which a request is watched, and the interval of polls if it is not watched.
pub(crate) const AGE: Duration = Duration::from_millis(500);
/// Records that a connection may leave in quinn. Each takes about 100 bytes.
const RECORDS: usize = 256;

/// The requests that are not watched, ordered by time.
#[derive(Default)]
pub(crate) struct Stops {
    unwatched: VecDeque<Unwatched>,
    /// Streams that were watched and then reset: each left a record.
    records: usize,
}

/// A request that is not watched.
#[derive(Clone, Copy)]
pub(crate) struct Unwatched {
    pub(crate) id: StreamId,
    /// When to check it.
    at: Instant,
    /// The number of STOP_SENDING frames at the last check.
    pub(crate) stop_frames: u64,
}

impl Stops {
    /// Adds a request that is new, or that was checked when the counter of STOP_SENDING frames was `stop_frames`.
    pub(crate) fn push(&mut self, id: StreamId, now: Instant, stop_frames: u64) {
        self.unwatched.push_back(Unwatched { id, at: now + AGE, stop_frames });
    }

    /// The number of requests.
    pub(crate) fn len(&self) -> usize {
        self.unwatched.len()
    }

    /// Keeps only the requests for which `keep` is true.
    pub(crate) fn retain(&mut self, keep: impl Fn(StreamId) -> bool) {
        self.unwatched.retain(|one| keep(one.id));
    }

    /// Whether one more request may be watched.
    pub(crate) fn may_watch(&self) -> bool {
        self.records < RECORDS
    }

    /// A stream that was watched was reset.
    pub(crate) fn left_record(&mut self) {
        self.records += 1;
    }

    /// The next request to check, and when.
    pub(crate) fn first(&self) -> Option<(StreamId, Instant)> {
        self.unwatched.front().map(|first| (first.id, first.at))
    }

    /// Removes [`first`](Self::first).
    pub(crate) fn pop(&mut self) -> Option<Unwatched> {
        self.unwatched.pop_front()
    }
}
