//! Closing a connection without losing what was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{SendStream, StreamId, WriteError};
use smoq::stream::Code;
use smoq_quic::{CAPSULE_TIMEOUT, FLUSH_TIMEOUT, LINGER_TIMEOUT};

/// A close that waits for acknowledgements, because CONNECTION_CLOSE discards what is in flight.
pub(crate) struct Closing {
    pub(crate) code: Code,
    pub(crate) reason: &'static str,
    pub(crate) waits_for: WaitsFor,
    /// When it stops waiting.
    pub(crate) until: Instant,
}

/// The condition for the end of a connection.
pub(crate) enum WaitsFor {
    /// All that the session wrote.
    Everything,
    /// The capsule that ends the session on WebTransport, on this stream, which the peer has to end too.
    Capsule(StreamId),
    /// The close of the connection by the peer, which knows that the session on WebTransport is over.
    Peer,
}

impl Closing {
    pub(crate) fn new(now: Instant, code: Code, reason: &'static str, waits_for: WaitsFor) -> Self {
        let time = match waits_for {
            WaitsFor::Everything => FLUSH_TIMEOUT,
            WaitsFor::Capsule(_) => CAPSULE_TIMEOUT,
            WaitsFor::Peer => LINGER_TIMEOUT,
        };
        Self { code, reason, waits_for, until: now + time }
    }
}

/// The sending halves of streams.
#[derive(Default)]
pub(crate) struct Sending {
    /// With what HTTP/3 writes before the bytes of the session, as far as it is not written yet.
    open: BTreeMap<StreamId, Bytes>,
    /// Finished, and not acknowledged completely.
    finished: BTreeSet<StreamId>,
}

impl Sending {
    /// A stream was opened. `head` has to be written first.
    pub(crate) fn opened(&mut self, id: StreamId, head: Bytes) {
        self.open.insert(id, head);
    }

    /// Writes the rest of the head.
    pub(crate) fn write_head(
        &mut self,
        id: StreamId,
        stream: &mut SendStream<'_>,
    ) -> Result<(), WriteError> {
        let Some(head) = self.open.get_mut(&id) else { return Ok(()) };
        while !head.is_empty() {
            stream.write_chunks(std::slice::from_mut(head))?;
        }
        Ok(())
    }

    pub(crate) fn finished(&mut self, id: StreamId) {
        if self.open.remove(&id).is_some() {
            self.finished.insert(id);
        }
    }

    /// The peer has all of the stream, or does not need it. Returns whether it was still open.
    pub(crate) fn done(&mut self, id: StreamId) -> bool {
        self.finished.remove(&id);
        self.open.remove(&id).is_some()
    }

    /// Whether the peer has acknowledged a stream that was finished.
    pub(crate) fn is_acknowledged(&self, id: StreamId) -> bool {
        !self.finished.contains(&id)
    }

    /// Whether the peer has acknowledged everything. Nothing can be written after this was called: it leaves a
    /// send window of one byte, with which a stream takes bytes exactly when nothing is unacknowledged.
    pub(crate) fn is_delivered(&self, quic: &mut quinn_proto::Connection) -> bool {
        if !self.finished.is_empty() {
            return false;
        }
        quic.set_send_window(1);
        // A stream may lack flow-control credit of its own. Then another one has to answer.
        let mut probes = self.open.keys().map(|id| quic.send_stream(*id).write_chunks(&mut []));
        self.open.is_empty() || probes.any(|probe| probe != Err(WriteError::Blocked))
    }
}
