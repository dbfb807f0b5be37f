//! QUIC datagrams: those that came and wait to be looked at, and the guard of one that goes out.

use crate::census::census;

use alloc::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::Machine;
use super::schedule::{MAX_DATAGRAM, Pick};
use super::streams::SMALL;
use super::trace::Recorder;

/// What is kept of datagrams.
#[derive(Debug)]
pub(super) struct Datagrams {
    /// Those that came, and how many may wait.
    arrived: VecDeque<Bytes>,
    room: usize,
    /// Bytes of those that came.
    bytes: usize,
    /// How large one may be that goes out.
    pub(super) max: usize,
    /// QUIC takes none for now.
    pub(super) blocked: bool,
    /// Those that came for nothing.
    pub(super) lost: u64,
}

impl Datagrams {
    pub(super) fn new(room: usize) -> Self {
        let (arrived, bytes, max, blocked, lost) = Default::default();
        Self { arrived, room, bytes, max, blocked, lost }
    }

    pub(super) fn forget(&mut self) {
        self.arrived = VecDeque::new();
    }

    pub(super) fn arrived(&mut self, bytes: Bytes) {
        // One that waits behind another would keep all of its packet.
        let is_small = bytes.len() < SMALL && !self.arrived.is_empty();
        let bytes = if is_small { Bytes::copy_from_slice(&bytes) } else { bytes };
        self.bytes += bytes.len();
        self.arrived.push_back(bytes);
        // Nobody may send larger ones than `MAX_DATAGRAM`.
        let most = self.room.saturating_mul(MAX_DATAGRAM);
        while self.arrived.len() > self.room || self.bytes > most {
            if self.next().is_none() {
                return;
            }
            self.lost += 1;
        }
    }

    pub(super) fn next(&mut self) -> Option<Bytes> {
        let bytes = self.arrived.pop_front()?;
        self.bytes -= bytes.len();
        Some(bytes)
    }

    pub(super) fn has_arrived(&self) -> bool {
        !self.arrived.is_empty()
    }
}

/// One QUIC datagram to send: a group of one frame. Dropping it loses and consumes nothing.
#[derive(Debug)]
#[must_use = "say sent() or blocked()"]
pub struct Datagram<'a> {
    pub(super) machine: &'a mut Machine,
    pub(super) pick: Pick,
    pub(super) recorder: Option<&'a mut Recorder>,
}

impl Datagram<'_> {
    fn chunk(&self, at: usize) -> &Bytes {
        &self.machine.scratch.chunks[at]
    }

    /// What stands before the payload.
    pub fn header(&self) -> &[u8] {
        self.chunk(0)
    }

    /// The payload, as it lies in the cache.
    pub fn payload(&self) -> &Bytes {
        self.chunk(1)
    }

    /// Bytes of both: at most what [`Input::MaxDatagram`](super::Input::MaxDatagram) said, and never more
    /// than 1,200.
    pub fn size(&self) -> usize {
        self.machine.scratch.total
    }

    /// Both in one piece, for a transport that takes no less.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.size());
        bytes.extend_from_slice(self.header());
        bytes.extend_from_slice(self.payload());
        bytes.freeze()
    }

    /// QUIC took it, and may lose it.
    pub fn sent(self) {
        let bytes = self.size();
        if let Some(recorder) = self.recorder {
            recorder.datagram_taken(false);
        }
        let counts = &mut self.machine.core.counts;
        counts.bytes_sent += bytes as u64;
        counts.frames_sent += 1;
        self.machine.core.schedule.datagram_sent(self.pick, bytes);
    }

    /// QUIC has no room for it: none is wanted until
    /// [`Input::DatagramsAvailable`](super::Input::DatagramsAvailable).
    pub fn blocked(self) {
        if let Some(recorder) = self.recorder {
            recorder.datagram_taken(true);
        }
        self.machine.core.datagrams.blocked = true;
    }
}

census! { Datagrams { counts: arrived, bytes; plain: room, max, blocked, lost; } }
