//! QUIC datagrams that arrived and wait to be read, and whether QUIC accepts any.

use alloc::collections::VecDeque;

use bytes::Bytes;

use crate::census::census;
use crate::machine::stream_buffers::SMALL;
use crate::time::Instant;

/// A sender must not exceed this size, however large the path allows them (moq-lite-06, 6.4). It also
/// bounds what is remembered of a receiver's.
pub(super) const MAX_DATAGRAM: usize = 1_200;

/// The datagrams of a session.
#[derive(Debug)]
pub(crate) struct Datagrams {
    arrived: VecDeque<Bytes>,
    /// Those that came before the subscription with this number is known, and until when they wait for it.
    held: VecDeque<(Instant, u64, Bytes)>,
    /// How many may wait.
    room: usize,
    /// Bytes of those that wait.
    bytes: usize,
    /// The largest size that QUIC can send now.
    pub(crate) max: usize,
    /// QUIC accepts none for now.
    pub(crate) blocked: bool,
    /// Datagrams that arrived and were of no use.
    pub(crate) lost: u64,
}

impl Datagrams {
    pub(crate) fn new(room: usize) -> Self {
        let (arrived, held, bytes, max, blocked, lost) = Default::default();
        Self { arrived, held, room, bytes, max, blocked, lost }
    }

    pub(crate) fn forget(&mut self) {
        (self.arrived, self.held) = Default::default();
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        // A small one that waits would keep the whole packet that brought it.
        let is_small = bytes.len() < SMALL && !self.arrived.is_empty();
        let bytes = if is_small { Bytes::copy_from_slice(&bytes) } else { bytes };
        self.bytes += bytes.len();
        self.arrived.push_back(bytes);
        let most = self.room.saturating_mul(MAX_DATAGRAM);
        while self.arrived.len() > self.room || self.bytes > most {
            if self.pop().is_none() {
                return;
            }
            self.lost += 1;
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let bytes = self.arrived.pop_front()?;
        self.bytes -= bytes.len();
        Some(bytes)
    }

    /// Keeps a datagram for the subscription with this number, in place of older ones if there are too many.
    pub(crate) fn hold(&mut self, now: Instant, until: Instant, number: u64, bytes: &Bytes) {
        self.held.push_back((until, number, Bytes::copy_from_slice(bytes)));
        let is_over = |held: &VecDeque<(Instant, u64, Bytes)>, room| {
            held.len() > room || held.front().is_some_and(|(until, ..)| *until < now)
        };
        while is_over(&self.held, self.room) {
            self.held.pop_front();
            self.lost += 1;
        }
    }

    /// The subscription with this number is known: its datagrams are read again.
    pub(crate) fn release(&mut self, now: Instant, number: u64) {
        for (until, its, bytes) in core::mem::take(&mut self.held) {
            if its != number {
                self.held.push_back((until, its, bytes));
            } else if until < now {
                self.lost += 1;
            } else {
                self.push(bytes);
            }
        }
    }

    pub(crate) fn has_arrived(&self) -> bool {
        !self.arrived.is_empty()
    }
}

census! { Datagrams { counts: arrived, held, bytes; plain: room, max, blocked, lost; } }
