//! How a connection ends without losing what was sent.

use std::collections::BTreeSet;
use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{StreamId, VarInt, WriteError};
use smoq_quic::FLUSH_TIMEOUT;

/// A close that waits: a CONNECTION_CLOSE overtakes what is under way.
pub(crate) struct Closing {
    pub(crate) code: VarInt,
    pub(crate) reason: Bytes,
    /// When it waits no more.
    pub(crate) until: Instant,
}

impl Closing {
    pub(crate) fn new(now: Instant, code: VarInt, reason: Bytes) -> Self {
        Self { code, reason, until: now + FLUSH_TIMEOUT }
    }
}

/// The halves on which we send.
#[derive(Default)]
pub(crate) struct Sending {
    open: BTreeSet<StreamId>,
    /// Those of which the peer may not have everything.
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

    /// The peer has all of it, or need not have it. Gives whether its end was not written yet.
    pub(crate) fn done(&mut self, id: StreamId) -> bool {
        self.finished.remove(&id);
        self.open.remove(&id)
    }

    /// Whether the peer has acknowledged everything. To be asked only when nothing is written any
    /// more: it leaves a send window of one byte, with which a stream takes more exactly when
    /// nothing is unacknowledged.
    pub(crate) fn is_delivered(&self, quic: &mut quinn_proto::Connection) -> bool {
        if !self.finished.is_empty() {
            return false;
        }
        quic.set_send_window(1);
        // A stream may be without credit of its own: then another one has to tell.
        let mut probes = self.open.iter().map(|id| quic.send_stream(*id).write_chunks(&mut []));
        self.open.is_empty() || probes.any(|probe| probe != Err(WriteError::Blocked))
    }
}
