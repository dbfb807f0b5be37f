//! Outputs as a trace holds them: a payload is replaced by its length and hash, because a replay
//! produces it again.

use alloc::vec::Vec;
use core::slice;

use bytes::Bytes;

use super::field::{Bad, Field, Rest, put_number, structs};
use super::format::hash;
use crate::machine::event::Event;
use crate::stream::StreamId;

/// Replaces the payload of an event, which an input has already, by its length and hash.
pub(crate) fn digested(mut event: Option<Event>) -> Option<Event> {
    if let Some(Event::Payload { bytes, .. } | Event::Datagram { payload: bytes, .. }) = &mut event
    {
        *bytes = digest(slice::from_ref(bytes));
    }
    if let Some(Event::Frame { payload, .. }) = &mut event {
        *payload = digest(payload.as_slice()).into();
    }
    event
}

fn digest(chunks: &[Bytes]) -> Bytes {
    let mut digest = Vec::new();
    put_number(chunks.iter().map(|chunk| chunk.len() as u64).sum(), &mut digest);
    digest.extend(hash(chunks.iter().map(|chunk| &**chunk)));
    digest.into()
}

/// The bytes that [`Machine::poll_write`](crate::machine::Machine::poll_write) showed, for comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WriteDigest {
    pub(crate) id: StreamId,
    pub(crate) len: usize,
    pub(crate) fin: bool,
    pub(crate) hash: [u8; 8],
}

structs! { WriteDigest { id, len, fin, hash } }
