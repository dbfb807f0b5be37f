//! The streams of a session, their credit, and the records that wait to be sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use smoq::machine::{Input, Open, Write};
use smoq::stream::{Code, Dir, Side, StreamId};
use smoq::{Driver, Instant};

use crate::credit::{Allowance, Credit};
use crate::frame::{self, encode};
use crate::params::Params;
use crate::violation::Violation;
use crate::{CONNECTION_WINDOW, RECORD_BYTES, STREAM_WINDOW, STREAMS};

/// The largest head of a STREAM frame: type, id, offset and length.
const HEAD: usize = 32;

struct Stream {
    send: Option<SendHalf>,
    recv: Option<RecvHalf>,
}

struct SendHalf {
    credit: Credit,
    /// The driver was told that the stream has no credit.
    is_blocked: bool,
}

struct RecvHalf {
    allowance: Allowance,
    /// What the driver does not take yet.
    held: BytesMut,
    fin: bool,
    /// This side does not want the rest.
    is_stopped: bool,
}

impl SendHalf {
    fn new(limit: u64) -> Self {
        Self { credit: Credit::new(limit), is_blocked: false }
    }
}

impl RecvHalf {
    fn new() -> Self {
        let allowance = Allowance::new(STREAM_WINDOW);
        Self { allowance, held: BytesMut::new(), fin: false, is_stopped: false }
    }
}

/// Which half of a stream a frame is about, as this side sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Send,
    Recv,
}

pub(crate) struct Streams {
    side: Side,
    open: BTreeMap<StreamId, Stream>,
    /// `None` until the peer's parameters arrive. Before, nothing may be sent.
    peer: Option<Params>,
    /// Streams that this side opened, and may open, by direction.
    ours: [Credit; 2],
    /// Streams that the peer opened, and may open, by direction.
    theirs: [Allowance; 2],
    /// Bytes of all streams.
    credit: Credit,
    allowance: Allowance,
    /// Streams that wait for credit of the connection, or for room in a record.
    waiting: BTreeSet<StreamId>,
    /// Whether the driver was told that it can't open a stream, by direction.
    wanted: [bool; 2],
    /// Frames, in records. Bytes of streams wait in the first one only.
    records: VecDeque<Vec<u8>>,
}

impl Streams {
    pub(crate) fn new(side: Side) -> Self {
        Self {
            side,
            open: BTreeMap::new(),
            peer: None,
            ours: Default::default(),
            theirs: [Allowance::new(STREAMS); 2],
            credit: Credit::default(),
            allowance: Allowance::new(CONNECTION_WINDOW),
            waiting: BTreeSet::new(),
            wanted: [false; 2],
            records: VecDeque::new(),
        }
    }

    // ---- records -----------------------------------------------------------------------------

    /// Adds a frame without bytes of a stream.
    pub(crate) fn push(&mut self, frame: &[u8]) {
        match self.records.back_mut() {
            Some(record) if record.len() + frame.len() <= RECORD_BYTES => record.extend(frame),
            _ => self.records.push_back(frame.to_vec()),
        }
    }

    pub(crate) fn poll_record(&mut self) -> Option<Vec<u8>> {
        self.records.pop_front()
    }

    /// The number of records that wait.
    pub(crate) fn records(&self) -> usize {
        self.records.len()
    }

    /// How many bytes of a stream fit in the record that waits. What is in it can't be overtaken any more, so that
    /// there is one.
    fn room(&self) -> usize {
        let used = match self.records.len() {
            0 => 0,
            1 => self.records[0].len(),
            _ => RECORD_BYTES,
        };
        RECORD_BYTES.saturating_sub(used + HEAD)
    }

    // ---- sending -----------------------------------------------------------------------------

    /// Tells the driver what it may do again.
    pub(crate) fn resume(&mut self, now: Instant, driver: &mut Driver) {
        if self.room() == 0 {
            return;
        }
        if self.credit.left() > 0 {
            for id in std::mem::take(&mut self.waiting) {
                driver.handle(now, Input::Writable { id });
            }
        }
        for dir in [Dir::Bi, Dir::Uni] {
            let at = dir as usize;
            if self.wanted[at] && self.ours[at].left() > 0 {
                self.wanted[at] = false;
                driver.handle(now, Input::Available { dir });
            }
        }
    }

    pub(crate) fn open(&mut self, open: Open<'_>) {
        let (dir, room) = (open.dir(), self.room());
        let credit = &mut self.ours[dir as usize];
        let (Some(peer), true) = (&self.peer, room > 0 && credit.left() > 0) else {
            self.wanted[dir as usize] = true;
            return open.blocked();
        };
        let id = StreamId::new(self.side, dir, credit.used);
        credit.used += 1;
        let (limit, recv) = match dir {
            Dir::Bi => (peer.bidi_remote, Some(RecvHalf::new())),
            Dir::Uni => (peer.uni, None),
        };
        self.open.insert(id, Stream { send: Some(SendHalf::new(limit)), recv });
        open.opened(id);
    }

    pub(crate) fn write(&mut self, mut write: Write<'_>) {
        let (id, len, room) = (write.id(), write.len(), self.room());
        let send = self.open.get_mut(&id).and_then(|stream| stream.send.as_mut());
        // The peer stopped it, and the driver has been told.
        let Some(send) = send else { return write.blocked(0) };
        let credit = send.credit.left().min(self.credit.left());
        let taken = len.min(room).min(usize::try_from(credit).unwrap_or(usize::MAX));
        let fin = write.fin() && taken == len;
        if room > 0 && (taken > 0 || fin) {
            let head =
                [frame::STREAM | u64::from(fin), id.as_u64(), send.credit.used, taken as u64];
            send.credit.used += taken as u64;
            self.credit.used += taken as u64;
            if self.records.is_empty() {
                self.records.push_back(Vec::with_capacity(HEAD + taken));
            }
            let record = &mut self.records[0];
            frame::append(record, &head);
            let mut rest = taken;
            for chunk in write.chunks() {
                let part = &chunk[..chunk.len().min(rest)];
                record.extend_from_slice(part);
                rest -= part.len();
            }
        }
        if taken < len || room == 0 {
            send.is_blocked = send.credit.left() == 0;
            if !send.is_blocked {
                self.waiting.insert(id);
            }
            return write.blocked(taken);
        }
        write.accepted(taken);
        if fin {
            self.end(id, Half::Send);
        }
    }

    pub(crate) fn reset(&mut self, id: StreamId, code: Code) {
        let send = self.open.get(&id).and_then(|stream| stream.send.as_ref());
        if let Some(send) = send {
            let frame = [frame::RESET_STREAM, id.as_u64(), code.as_u64(), send.credit.used];
            self.push(&encode(&frame));
            self.end(id, Half::Send);
        }
    }

    pub(crate) fn stop(&mut self, id: StreamId, code: Code) {
        let recv = self.open.get_mut(&id).and_then(|stream| stream.recv.as_mut());
        let Some(recv) = recv.filter(|recv| !recv.is_stopped) else { return };
        recv.is_stopped = true;
        let (unread, fin) = (std::mem::take(&mut recv.held).len(), recv.fin);
        self.release(id, unread as u64);
        if fin {
            self.end(id, Half::Recv);
        } else {
            self.push(&encode(&[frame::STOP_SENDING, id.as_u64(), code.as_u64()]));
        }
    }

    // ---- frames of the peer ------------------------------------------------------------------

    pub(crate) fn set_up(&mut self, peer: Params) {
        self.credit.raise(peer.data);
        for (credit, limit) in self.ours.iter_mut().zip(peer.streams) {
            credit.raise(limit);
        }
        self.peer = Some(peer);
    }

    pub(crate) fn is_set_up(&self) -> bool {
        self.peer.is_some()
    }

    pub(crate) fn data_allowed(&mut self, limit: u64) {
        self.credit.raise(limit);
    }

    pub(crate) fn streams_allowed(&mut self, dir: Dir, limit: u64) {
        self.ours[dir as usize].raise(limit);
    }

    pub(crate) fn stream_data_allowed(
        &mut self,
        now: Instant,
        driver: &mut Driver,
        id: StreamId,
        limit: u64,
    ) -> Result<(), Violation> {
        self.known(now, driver, id, Half::Send)?;
        if let Some(send) = self.open.get_mut(&id).and_then(|stream| stream.send.as_mut()) {
            send.credit.raise(limit);
            if send.credit.left() > 0 && std::mem::take(&mut send.is_blocked) {
                driver.handle(now, Input::Writable { id });
            }
        }
        Ok(())
    }

    pub(crate) fn stopped(
        &mut self,
        now: Instant,
        driver: &mut Driver,
        id: StreamId,
        code: Code,
    ) -> Result<(), Violation> {
        self.known(now, driver, id, Half::Send)?;
        if self.open.get(&id).is_some_and(|stream| stream.send.is_some()) {
            self.reset(id, code);
            driver.handle(now, Input::Stopped { id, code });
        }
        Ok(())
    }

    pub(crate) fn data(
        &mut self,
        now: Instant,
        driver: &mut Driver,
        (id, bytes, fin): (StreamId, Bytes, bool),
    ) -> Result<(), Violation> {
        self.known(now, driver, id, Half::Recv)?;
        let recv = self.open.get_mut(&id).and_then(|stream| stream.recv.as_mut());
        // It was finished or reset before.
        let Some(recv) = recv else { return Ok(()) };
        if recv.fin {
            return Err(Violation::FINAL_SIZE);
        }
        let len = bytes.len() as u64;
        if !recv.allowance.receive(len) || !self.allowance.receive(len) {
            return Err(Violation::FLOW_CONTROL);
        }
        recv.fin = fin;
        if !recv.is_stopped {
            self.deliver(now, driver, id, bytes);
            return Ok(());
        }
        self.release(id, len);
        if fin {
            self.end(id, Half::Recv);
        }
        Ok(())
    }

    pub(crate) fn was_reset(
        &mut self,
        now: Instant,
        driver: &mut Driver,
        (id, code, size): (StreamId, Code, u64),
    ) -> Result<(), Violation> {
        self.known(now, driver, id, Half::Recv)?;
        let recv = self.open.get_mut(&id).and_then(|stream| stream.recv.as_mut());
        let Some(recv) = recv else { return Ok(()) };
        // Deployed peers sent a final size of 0, so that a smaller one than expected is no mistake.
        let unsent = size.saturating_sub(recv.allowance.received);
        if !recv.allowance.receive(unsent) || !self.allowance.receive(unsent) {
            return Err(Violation::FLOW_CONTROL);
        }
        let (unread, is_stopped) = (recv.held.len() as u64, recv.is_stopped);
        recv.fin = true;
        self.release(id, unread + unsent);
        self.end(id, Half::Recv);
        if !is_stopped {
            driver.handle(now, Input::Reset { id, code });
        }
        Ok(())
    }

    /// The driver takes more of a stream.
    pub(crate) fn read_on(&mut self, now: Instant, driver: &mut Driver, id: StreamId) {
        self.deliver(now, driver, id, Bytes::new());
    }

    /// Passes to the driver what it takes of a stream: what is held, and then `fresh`.
    fn deliver(&mut self, now: Instant, driver: &mut Driver, id: StreamId, mut fresh: Bytes) {
        loop {
            let recv = self.open.get_mut(&id).and_then(|stream| stream.recv.as_mut());
            let Some(recv) = recv.filter(|recv| !recv.is_stopped) else { return };
            let (limit, rest) = (driver.read_limit(id), recv.held.len() + fresh.len());
            if limit == 0 || (rest == 0 && !recv.fin) {
                return recv.held.extend_from_slice(&fresh);
            }
            let bytes = match recv.held.is_empty() {
                true => fresh.split_to(fresh.len().min(limit)),
                false => recv.held.split_to(recv.held.len().min(limit)).freeze(),
            };
            let (len, fin) = (bytes.len(), recv.fin && bytes.len() == rest);
            driver.handle(now, Input::Data { id, bytes, fin });
            self.release(id, len as u64);
            if fin {
                return self.end(id, Half::Recv);
            }
        }
    }

    /// Checks that the peer may send a frame about this half of a stream. If it opens the stream by it, so does this side,
    /// with all streams before it.
    fn known(
        &mut self,
        now: Instant,
        driver: &mut Driver,
        id: StreamId,
        half: Half,
    ) -> Result<(), Violation> {
        let (dir, index) = (id.dir(), id.as_u64() >> 2);
        let is_ours = id.initiator() == self.side;
        let opener = if is_ours { Half::Send } else { Half::Recv };
        if dir == Dir::Uni && half != opener {
            return Err(Violation::STREAM_STATE);
        }
        if is_ours {
            let is_open = index < self.ours[dir as usize].used;
            return if is_open { Ok(()) } else { Err(Violation::STREAM_STATE) };
        }
        let known = self.theirs[dir as usize].received;
        if !self.theirs[dir as usize].receive((index + 1).saturating_sub(known)) {
            return Err(Violation::STREAM_LIMIT);
        }
        for index in known..=index {
            let id = StreamId::new(self.side.peer(), dir, index);
            let limit = self.peer.map_or(0, |peer| peer.bidi_local);
            let send = (dir == Dir::Bi).then(|| SendHalf::new(limit));
            self.open.insert(id, Stream { send, recv: Some(RecvHalf::new()) });
            driver.handle(now, Input::Opened { id });
        }
        Ok(())
    }

    /// Gives the peer credit for bytes that need no memory here any longer.
    fn release(&mut self, id: StreamId, bytes: u64) {
        if let Some(limit) = self.allowance.release(bytes) {
            self.push(&encode(&[frame::MAX_DATA, limit]));
        }
        let recv = self.open.get_mut(&id).and_then(|stream| stream.recv.as_mut());
        let Some(recv) = recv.filter(|recv| !recv.fin && !recv.is_stopped) else { return };
        if let Some(limit) = recv.allowance.release(bytes) {
            self.push(&encode(&[frame::MAX_STREAM_DATA, id.as_u64(), limit]));
        }
    }

    /// One half of a stream is over.
    fn end(&mut self, id: StreamId, half: Half) {
        let Some(stream) = self.open.get_mut(&id) else { return };
        match half {
            Half::Send => stream.send = None,
            Half::Recv => stream.recv = None,
        }
        if stream.send.is_some() || stream.recv.is_some() {
            return;
        }
        self.open.remove(&id);
        self.waiting.remove(&id);
        if id.initiator() != self.side {
            let dir = id.dir() as usize;
            if let Some(limit) = self.theirs[dir].release(1) {
                self.push(&encode(&[frame::MAX_STREAMS + dir as u64, limit]));
            }
        }
    }
}
