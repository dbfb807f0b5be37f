//! Traces: the calls of a machine and their results, recorded and replayed.
//!
//! A trace has the configuration, the inputs, the commands, the replies of the source, the poll calls with their
//! results, and the answers to guards. A [`Machine`](super::Machine) depends on nothing else, so the same calls give
//! the same outputs, byte for byte. [`Replay`] makes these calls, and reports where the results differ. It needs no
//! socket, clock or model.
//!
//! A driver records if its `Client` or `Server` was made with `with_trace`, and a machine if it was made
//! by [`Machine::with_sink`](super::Machine::with_sink). Without a sink each call costs one branch. A
//! record goes to the [`Sink`] as soon as it is made.
//!
//! # The format
//!
//! A file begins with the eight bytes `smoqtrc` and 1, the number of the format, followed by records: a
//! byte for the kind, the length of the body, and the body. Numbers are unsigned LEB128; texts and bytes
//! follow their length, an optional value follows 0 or 1, a variant of an enum follows its number; keys,
//! tokens and structs are their fields.
//!
//! | kind | | body |
//! |---|---|---|
//! | 0 | start, first and once | now, configuration |
//! | 1 | input | now, [`Input`](super::Input) |
//! | 2 | input: time | now |
//! | 3 | command | [`Command`](super::Command) |
//! | 4 | source reply: frames | group, from, [`Supply`](super::Supply), views up to the end |
//! | 5 | source reply: announcement | reader, optional [`Announcement`](super::Announcement) |
//! | 6 | `poll_event` | optional [`Event`](super::Event), its payload as length and hash |
//! | 7 | `poll_action` | optional [`Action`](super::Action) |
//! | 8 | `poll_open` | optional direction and priority |
//! | 9 | `poll_write` | optional stream, length, FIN, hash of the bytes |
//! | 10 | answer to `poll_open`: opened | stream |
//! | 11 | answer to `poll_open`: blocked | |
//! | 12 | answer to `poll_write` | bytes taken, whether it is blocked now |
//! | 13 | `poll_datagram` | optional length, hash of the bytes |
//! | 14 | answer to `poll_datagram` | whether it is blocked now |
//!
//! Source replies come before the poll call that asked for them, and an answer comes directly after its
//! poll call; without an answer the guard was dropped. `now` is in microseconds. A view is 0 if the
//! machine had no room to look at the frame. It is 1, timestamp, previous, size, the two lengths of the
//! head, and bytes for a frame that the cache holds as it is written; and 2, timestamp, previous, size,
//! offset, number of pieces, and the pieces for any other frame. Bytes that the machine could not look
//! at are left out. A hash is FNV-1a with 64 bits, in eight bytes, least significant first. Calls that
//! change nothing are not recorded: `poll_timeout`, `has_work`, `read_limit`.
//!
//! A trace belongs to the build that made it: another build may rightly answer otherwise.

mod replay;

use alloc::string::String;

pub use super::recording::{Sink, TraceStopped};
pub use replay::{Replay, Step};

/// Why a trace can't be replayed, or where the results differ. Records are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// It does not begin like a trace of this format.
    #[error("not a trace of format 1")]
    NotATrace,
    /// It ends in the middle of a record: writing it was interrupted.
    #[error("record {record}: the trace ends in the middle")]
    Truncated {
        /// The number of the record.
        record: u64,
    },
    /// A record can't be decoded, or must not stand in its place.
    #[error("record {record}: {what}")]
    Malformed {
        /// The number of the record.
        record: u64,
        /// The fault.
        what: &'static str,
    },
    /// The machine does something else.
    #[error("record {record}: recorded {recorded}, replayed {replayed}")]
    Differs {
        /// The number of the record.
        record: u64,
        /// The recorded result.
        recorded: String,
        /// The result of the replay.
        replayed: String,
    },
}
