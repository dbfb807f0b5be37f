//! The edge of the machine towards QUIC: [`Input`] and [`Action`].

use bytes::Bytes;

use super::network_path::NetworkPath;
use crate::error::Error;
use crate::stream::{Code, Dir, StreamId};

/// What the QUIC connection tells the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Input {
    /// Stream credit came back after [`Open::blocked`](super::Open::blocked).
    Available {
        /// Of which kind.
        dir: Dir,
    },
    /// The connection is gone, by the peer or by the transport.
    Closed {
        /// Why: [`Error::from_session_code`] of what the peer said, or [`Error::Timeout`] or
        /// [`Error::Disconnected`] if it said nothing.
        error: Error,
    },
    /// A QUIC datagram came.
    Datagram {
        /// All of it.
        bytes: Bytes,
    },
    /// Datagrams are taken again after [`Datagram::blocked`](super::Datagram::blocked).
    DatagramsAvailable,
    /// The next bytes of a stream, in order and in any split. Empty with `fin` is legal.
    Data {
        /// On which stream, opened by us or named by `Opened`; others are ignored.
        id: StreamId,
        /// The bytes.
        bytes: Bytes,
        /// Whether the peer finished the stream behind them.
        fin: bool,
    },
    /// How large a datagram may be now. Before the first time: 0.
    MaxDatagram {
        /// Bytes, without what QUIC adds. 0 if the peer or the path takes none.
        bytes: usize,
    },
    /// What QUIC knows of the way to the peer changed. Nothing is done about it but to tell it on; a few
    /// times a second is enough.
    NetworkPath(NetworkPath),
    /// The peer opened a stream.
    Opened {
        /// Its id.
        id: StreamId,
    },
    /// RESET_STREAM: the peer gave up sending.
    Reset {
        /// On which stream.
        id: StreamId,
        /// Its reason.
        code: Code,
    },
    /// STOP_SENDING: the peer will not read on.
    Stopped {
        /// On which stream.
        id: StreamId,
        /// Its reason.
        code: Code,
    },
    /// Time passed, and nothing else is to be told: what is commanded next happens now.
    Time,
    /// A stream takes bytes again after [`Write::blocked`](super::Write::blocked).
    Writable {
        /// Which stream.
        id: StreamId,
    },
}

/// What the QUIC connection is asked to do. Small, without payload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub enum Action {
    /// Close the connection; nothing follows.
    Close {
        /// The application's code.
        code: Code,
        /// Text for people.
        reason: &'static str,
    },
    /// RESET_STREAM: abandon our half.
    Reset {
        /// On which stream.
        id: StreamId,
        /// Why.
        code: Code,
    },
    /// [`Machine::read_limit`](super::Machine::read_limit) of the stream left 0: read on.
    Resume {
        /// Which stream.
        id: StreamId,
    },
    /// How urgent our half is from now on.
    SetPriority {
        /// On which stream.
        id: StreamId,
        /// Higher goes first.
        priority: i32,
    },
    /// STOP_SENDING: the peer's half is not wanted.
    Stop {
        /// On which stream.
        id: StreamId,
        /// Why.
        code: Code,
    },
}
