//! Outputs as a trace holds them: a payload is replaced by its length and hash, because a replay
//! produces it again.

use alloc::vec::Vec;

use super::field::{Bad, Field, Rest, put_number};
use super::format::hash;
use crate::machine::event::Event;
use crate::stream::{Dir, StreamId};

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
    pub(crate) hash: u64,
}

impl WriteDigest {
    pub(crate) fn new<'a>(
        id: StreamId,
        fin: bool,
        chunks: impl IntoIterator<Item = &'a [u8]> + Clone,
    ) -> Self {
        let len = chunks.clone().into_iter().map(<[u8]>::len).sum();
        Self { id, len, fin, hash: u64::from_le_bytes(hash(chunks)) }
    }
}

impl Field for WriteDigest {
    fn put(&self, out: &mut Vec<u8>) {
        self.id.put(out);
        self.len.put(out);
        self.fin.put(out);
        out.extend(self.hash.to_le_bytes());
    }

    fn take(from: &mut Rest<'_>) -> Result<Self, Bad> {
        let (id, len, fin) = (Field::take(from)?, Field::take(from)?, Field::take(from)?);
        Ok(Self { id, len, fin, hash: take_hash(from)? })
    }
}

/// What [`Machine::poll_datagram`](crate::machine::Machine::poll_datagram) showed, for comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DatagramDigest {
    len: usize,
    hash: u64,
}

impl DatagramDigest {
    pub(crate) fn new(head: &[u8], payload: &[u8]) -> Self {
        let len = head.len() + payload.len();
        Self { len, hash: u64::from_le_bytes(hash([head, payload])) }
    }
}

impl Field for DatagramDigest {
    fn put(&self, out: &mut Vec<u8>) {
        self.len.put(out);
        out.extend(self.hash.to_le_bytes());
    }

    fn take(from: &mut Rest<'_>) -> Result<Self, Bad> {
        Ok(Self { len: Field::take(from)?, hash: take_hash(from)? })
    }
}

fn take_hash(from: &mut Rest<'_>) -> Result<u64, Bad> {
    Ok(from.bytes(8)?.iter().rev().fold(0, |hash, byte| hash << 8 | u64::from(*byte)))
}

impl Field for (Dir, i32) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(from: &mut Rest<'_>) -> Result<Self, Bad> {
        Ok((Field::take(from)?, Field::take(from)?))
    }
}
