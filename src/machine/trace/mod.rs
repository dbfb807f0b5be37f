//! Traces: what a machine was told and what it said, written down, and played again.
//!
//! A trace has five kinds of records: inputs, commands, answers, source replies, poll calls. They are all
//! that a [`Machine`](super::Machine) depends on, so that a bare machine that is given the same does the
//! same, byte for byte; [`Replay`] does that, and says where it does not. No socket, clock or model is
//! needed for it.
//!
//! A driver records if its `Client` or `Server` was made with `with_trace`; nothing is done for it
//! otherwise. A record goes to the [`Sink`] as soon as it is made.
//!
//! # The format
//!
//! A file begins with the eight bytes `smoqtrc` and 1, the number of the format, and goes on with
//! records: a byte that says which kind, a length, and so many bytes of body. Numbers are unsigned
//! LEB128; texts and bytes stand behind their length; an optional value behind 0 or 1; a variant of an
//! enum behind its number; keys, tokens and structs are their fields.
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
//! Source replies stand before the poll call that asked for them, and an answer directly behind its poll
//! call; without one the guard was dropped. `now` is in microseconds. A view is 0 where the machine had
//! no room to look at it; else 1, timestamp, previous, size, the two lengths of the head, bytes for a
//! frame that lies as it is written, or 2, timestamp, previous, size, offset, how many pieces, pieces;
//! bytes that the machine could not look at are left out. A hash is FNV-1a of 64 bits, eight bytes,
//! least significant first. Calls that change nothing are not recorded: `poll_timeout`, `has_work`,
//! `read_limit`.
//!
//! A trace is for the build that made it: another one may rightly answer otherwise.

mod replay;

use alloc::string::String;

pub use super::recording::{Sink, TraceStopped};
pub use replay::{Replay, Step};

/// Why a trace can't be replayed, or where it is not what happens. Records are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// It does not begin as a trace of this format.
    #[error("not a trace of format 1")]
    NotATrace,
    /// It ends in the middle of a record: whoever wrote it was cut off.
    #[error("record {record}: the trace ends in the middle")]
    Truncated {
        /// Which.
        record: u64,
    },
    /// A record is none, or not there where it stands.
    #[error("record {record}: {what}")]
    Malformed {
        /// Which.
        record: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The machine does otherwise.
    #[error("record {record}: recorded {recorded}, replayed {replayed}")]
    Differs {
        /// Which.
        record: u64,
        /// What is in the trace.
        recorded: String,
        /// What happened now.
        replayed: String,
    },
}
