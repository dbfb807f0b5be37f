//! How a request whose sender has nothing to write hears of STOP_SENDING.
//!
//! quinn tells that by `SendStream::stopped`, and from the first poll of it on keeps a record in the
//! connection. Only an end that the peer acknowledges, or its STOP_SENDING, removes the record; the reset of
//! a stream leaves it for the life of the connection. Most requests that are reset are young, refused or
//! given up soon. So a request is watched only after a while, and until then asked when something else
//! happens to it; and when a connection has left too many records behind, it watches no more and looks
//! whether there was any STOP_SENDING.

use std::collections::VecDeque;
use std::time::Duration;

use smoq::Instant;
use smoq::stream::StreamId;

/// How old a request is when it is watched, and from then on the time between two looks if it is not.
pub(crate) const AGE: Duration = Duration::from_millis(500);
/// Records that a connection may leave behind. Each is about a hundred bytes.
const RECORDS: usize = 256;

/// The requests that are not watched.
#[derive(Default)]
pub(crate) struct Stops {
    /// The next to look at is the first.
    unwatched: VecDeque<Unwatched>,
    /// Streams that were watched and then reset.
    records: usize,
}

/// A request that is not watched.
#[derive(Clone, Copy)]
pub(crate) struct Unwatched {
    pub(crate) id: StreamId,
    /// When it is to be looked at.
    at: Instant,
    /// The STOP_SENDING frames that had come when it was looked at last.
    pub(crate) heard: u64,
}

impl Stops {
    /// A request begins, or was looked at when so many STOP_SENDING frames had come.
    pub(crate) fn push(&mut self, id: StreamId, now: Instant, heard: u64) {
        self.unwatched.push_back(Unwatched { id, at: now + AGE, heard });
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.unwatched.len()
    }

    /// Leaves out those that `keep` does not want.
    pub(crate) fn retain(&mut self, keep: impl Fn(StreamId) -> bool) {
        self.unwatched.retain(|one| keep(one.id));
    }

    /// Whether the next one may be watched.
    pub(crate) fn may_watch(&self) -> bool {
        self.records < RECORDS
    }

    /// A stream was reset that was watched.
    pub(crate) fn left_record(&mut self) {
        self.records += 1;
    }

    /// The one to look at first, and when.
    pub(crate) fn first(&self) -> Option<(StreamId, Instant)> {
        self.unwatched.front().map(|first| (first.id, first.at))
    }

    /// Takes the [`first`](Self::first) off the list.
    pub(crate) fn pop(&mut self) -> Option<Unwatched> {
        self.unwatched.pop_front()
    }
}
