//! Closing a connection without losing what was sent.

use std::collections::BTreeSet;
use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{StreamId, VarInt, WriteError};
use smoq_quic::FLUSH_TIMEOUT;

/// A close that waits for acknowledgements, because CONNECTION_CLOSE discards what is in flight.
pub(crate) struct Closing {
    pub(crate) code: VarInt,
    pub(crate) reason: Bytes,
    /// When it stops waiting.
    pub(crate) until: Instant,
}

impl Closing {
    pub(crate) fn new(now: Instant, code: VarInt, reason: Bytes) -> Self {
        Self { code, reason, until: now + FLUSH_TIMEOUT }
    }
}

/// The sending halves of streams.
#[derive(Default)]
pub(crate) struct Sending {
    open: BTreeSet<StreamId>,
    /// Finished, and not acknowledged completely.
    finished: BTreeSet<StreamId>,
}

impl Sending {
    pub(crate) fn opened(&mut self, id: StreamId) {
        self.open.insert(id);
    }

    pub(crate) fn finished(&mut self, id: StreamId) {
        if self.open.remove(&id) {
            self.finished.insert(id);
        }
    }

    /// The peer has all of the stream, or does not need it. Returns whether it was still open.
    pub(crate) fn done(&mut self, id: StreamId) -> bool {
        self.finished.remove(&id);
        self.open.remove(&id)
    }

    /// Whether the peer has acknowledged everything. Nothing can be written after this was called: it leaves a
    /// send window of one byte, with which a stream takes bytes exactly when nothing is unacknowledged.
    pub(crate) fn is_delivered(&self, quic: &mut quinn_proto::Connection) -> bool {
        if !self.finished.is_empty() {
            return false;
        }
        quic.set_send_window(1);
        // A stream may lack flow-control credit of its own. Then another one has to answer.
        let mut probes = self.open.iter().map(|id| quic.send_stream(*id).write_chunks(&mut []));
        self.open.is_empty() || probes.any(|probe| probe != Err(WriteError::Blocked))
    }
}
