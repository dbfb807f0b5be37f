//! QUIC datagrams that arrived and wait to be read, and whether QUIC accepts any.

use alloc::collections::VecDeque;

use bytes::Bytes;

use crate::census::census;
use crate::machine::stream_buffers::SMALL;

/// A sender must not exceed this size, however large the path allows them (moq-lite-06, 6.4). It also
/// bounds what is remembered of a receiver's.
pub(super) const MAX_DATAGRAM: usize = 1_200;

/// The datagrams of a session.
#[derive(Debug)]
pub(crate) struct Datagrams {
    arrived: VecDeque<Bytes>,
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
        let (arrived, bytes, max, blocked, lost) = Default::default();
        Self { arrived, room, bytes, max, blocked, lost }
    }

    pub(crate) fn forget(&mut self) {
        self.arrived = VecDeque::new();
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

    pub(crate) fn has_arrived(&self) -> bool {
        !self.arrived.is_empty()
    }
}

census! { Datagrams { counts: arrived, bytes; plain: room, max, blocked, lost; } }
