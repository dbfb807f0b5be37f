//! QMux (draft-ietf-quic-qmux 01 and 02) on a WebSocket for [smoq](https://crates.io/crates/smoq), as a state machine
//! without I/O: one [`Qmux`] stands between a WebSocket and a [`smoq::Driver`].
//!
//! Browsers open a WebSocket where QUIC does not get through, and `@moq/net` and `qmux` speak this protocol on it: frames
//! of QUIC, with streams and flow control, in records. Each binary message is one record. An adapter makes these calls:
//!
//! | on the WebSocket | call |
//! |---|---|
//! | a client asks for an upgrade | [`offer`] is its `Sec-WebSocket-Protocol` |
//! | the server answers | [`negotiate`], with that header; the client again, with the header of the answer |
//! | it was upgraded | [`Qmux::new`], with the driver of the version |
//! | a binary message arrives, and [`is_full`](Qmux::is_full) is `false` | [`receive`](Qmux::receive) |
//! | it breaks, or a message has another type | [`lost`](Qmux::lost) |
//! | after these, and when [`poll_wake`](Qmux::poll_wake) or [`poll_timeout`](Qmux::poll_timeout) is due | [`turn`](Qmux::turn) |
//! | it takes a message | [`poll_record`](Qmux::poll_record), and `turn` again |
//! | [`closed`](Qmux::closed) has a value | send the records that are left, and close |
//!
//! The data of a peer costs at most the memory that this side gave credit for, [`CONNECTION_WINDOW`] and [`STREAMS`].
//! There are no datagrams, because they would wait for one another: groups that were meant for them go on streams.

mod credit;
mod frame;
mod negotiation;
mod params;
mod qmux;
mod streams;
mod violation;

use std::time::Duration;

pub use negotiation::{negotiate, offer};
pub use qmux::{Qmux, Turn};

/// The largest record: 16,382 bytes, which every peer takes.
pub const RECORD_BYTES: usize = 16_382;

/// Bytes that a peer may send before the session has read them: 2 MiB.
pub const CONNECTION_WINDOW: u64 = 2 << 20;

/// Such bytes of one stream: 512 KiB.
pub const STREAM_WINDOW: u64 = CONNECTION_WINDOW / 4;

/// Streams of one direction that a peer may have open: 1,024.
pub const STREAMS: u64 = 1_024;

/// A session whose peer sends nothing for this long is lost: 30 s, as with `qmux` and `@moq/net`.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A peer that sent nothing for this long is sent a ping: 12 s. Peers that keep their sessions alive do so after 10 s.
pub const KEEP_ALIVE: Duration = Duration::from_secs(12);

/// How long a close without an error waits until the peer has read everything: 1 s.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
