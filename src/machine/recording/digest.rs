//! Outputs as a trace holds them: a payload is replaced by its length and hash, because a replay
//! produces it again.

use alloc::vec::Vec;

use super::field::{Bad, Field, Rest, put_number, structs};
use super::format::hash;
use crate::machine::event::Event;
use crate::stream::StreamId;

/// Replaces the payload of an event, which an input has already, by its length and hash.
pub(crate) fn digested(mut event: Option<Event>) -> Option<Event> {
    if let Some(
        Event::Frame { payload: bytes, .. }
        | Event::Payload { bytes, .. }
        | Event::Datagram { payload: bytes, .. },
    ) = &mut event
    {
        let mut digest = Vec::new();
        put_number(bytes.len() as u64, &mut digest);
        digest.extend(hash([&**bytes]));
        *bytes = digest.into();
    }
    event
}

/// What [`Machine::poll_write`](crate::machine::Machine::poll_write) showed, for comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WriteDigest {
    pub(crate) id: StreamId,
    pub(crate) len: usize,
    pub(crate) fin: bool,
    pub(crate) hash: [u8; 8],
}

structs! { WriteDigest { id, len, fin, hash } }
