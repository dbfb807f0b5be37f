//! The interface to QUIC: [`Input`] and [`Action`].

use bytes::Bytes;

use super::network_path::NetworkPath;
use crate::error::Error;
use crate::stream::{Code, Dir, StreamId};

/// A report of the QUIC connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Input {
    /// There is stream credit again after [`Open::blocked`](super::Open::blocked).
    Available {
        /// For streams of this direction.
        dir: Dir,
    },
    /// The connection is gone, closed by the peer or lost.
    Closed {
        /// Why: [`Error::from_session_code`] of the peer's code; [`Error::Timeout`] or
        /// [`Error::Disconnected`] if there was none.
        error: Error,
    },
    /// A QUIC datagram arrived.
    Datagram {
        /// All of it.
        bytes: Bytes,
    },
    /// There is room for datagrams again after [`Datagram::blocked`](super::Datagram::blocked).
    DatagramsAvailable,
    /// The next bytes of a stream, in order and in any split. Empty with `fin` is legal.
    Data {
        /// The stream: one that we opened, or that `Opened` named. Others are ignored.
        id: StreamId,
        /// The bytes.
        bytes: Bytes,
        /// Whether the peer finished the stream after them.
        fin: bool,
    },
    /// QUIC's measurements of the network path. A few reports a second are enough; a
    /// `Driver` ignores reports that hardly differ from the last one.
    NetworkPath(NetworkPath),
    /// The peer opened a stream.
    Opened {
        /// Its id.
        id: StreamId,
    },
    /// RESET_STREAM: the peer abandoned its half.
    Reset {
        /// The stream.
        id: StreamId,
        /// The peer's code.
        code: Code,
    },
    /// STOP_SENDING: the peer reads our half no further.
    Stopped {
        /// The stream.
        id: StreamId,
        /// The peer's code.
        code: Code,
    },
    /// Time passed and nothing else happened. It makes the commands that follow happen now.
    Time,
    /// A stream accepts bytes again after [`Write::blocked`](super::Write::blocked).
    Writable {
        /// The stream.
        id: StreamId,
    },
}

/// An order to the QUIC connection. Small, without payload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub enum Action {
    /// Close the connection; nothing follows.
    Close {
        /// The application's code.
        code: Code,
        /// A reason for people.
        reason: &'static str,
    },
    /// RESET_STREAM: abandon our half.
    Reset {
        /// The stream.
        id: StreamId,
        /// The code to send.
        code: Code,
    },
    /// [`Machine::read_limit`](super::Machine::read_limit) of the stream is not 0 any more: read
    /// on.
    Resume {
        /// The stream.
        id: StreamId,
    },
    /// Sets the priority of our half.
    SetPriority {
        /// The stream.
        id: StreamId,
        /// Higher goes first.
        priority: i32,
    },
    /// STOP_SENDING: the peer's half is not wanted.
    Stop {
        /// The stream.
        id: StreamId,
        /// The code to send.
        code: Code,
    },
}
