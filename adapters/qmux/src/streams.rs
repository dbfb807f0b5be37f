//! The streams of a session, their credit, and the records that wait to be sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use smoq::machine::Input;
use smoq::stream::{Code, Dir, Side, StreamId};
use smoq::{Driver, Instant};

use crate::credit::{Allowance, Credit};
use crate::frame::{self, Frame, encode};
use crate::params::{self, Params};
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
    /// Data that the driver does not take yet.
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

/// The streams of a session, with its driver.
pub(crate) struct Streams {
    pub(crate) driver: Driver,
    pub(crate) now: Instant,
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
    pub(crate) records: VecDeque<Vec<u8>>,
}

impl Streams {
    pub(crate) fn new(side: Side, driver: Driver, now: Instant) -> Self {
        Self {
            driver,
            now,
            side,
            open: BTreeMap::new(),
            peer: None,
            ours: Default::default(),
            theirs: [Allowance::new(STREAMS); 2],
            credit: Credit::default(),
            allowance: Allowance::new(CONNECTION_WINDOW),
            waiting: BTreeSet::new(),
            wanted: [false; 2],
            records: VecDeque::from([params::ours()]),
        }
    }

    /// Adds a frame that has only integers.
    pub(crate) fn push(&mut self, frame: &[u64]) {
        self.push_bytes(&encode(frame));
    }

    /// Adds a frame without bytes of a stream.
    pub(crate) fn push_bytes(&mut self, frame: &[u8]) {
        match self.records.back_mut() {
            Some(record) if record.len() + frame.len() <= RECORD_BYTES => record.extend(frame),
            _ => self.records.push_back(frame.to_vec()),
        }
    }

    /// How many bytes of a stream fit in the record that waits. Bytes in it can't be overtaken any more, so that
    /// there is one.
    fn room(&self) -> usize {
        let used = match self.records.len() {
            0 => 0,
            1 => self.records[0].len(),
            _ => RECORD_BYTES,
        };
        RECORD_BYTES.saturating_sub(used + HEAD)
    }

    fn send(&mut self, id: StreamId) -> Option<&mut SendHalf> {
        self.open.get_mut(&id)?.send.as_mut()
    }

    fn recv(&mut self, id: StreamId) -> Option<&mut RecvHalf> {
        self.open.get_mut(&id)?.recv.as_mut()
    }

    // ---- the driver's output -----------------------------------------------------------------

    /// Tells the driver what it may do again.
    pub(crate) fn resume(&mut self) {
        if self.room() == 0 {
            return;
        }
        if self.credit.left() > 0 {
            for id in std::mem::take(&mut self.waiting) {
                self.driver.handle(self.now, Input::Writable { id });
            }
        }
        for dir in [Dir::Bi, Dir::Uni] {
            let at = dir as usize;
            if self.ours[at].left() > 0 && std::mem::take(&mut self.wanted[at]) {
                self.driver.handle(self.now, Input::Available { dir });
            }
        }
    }

    /// Opens the most urgent stream. Returns whether there is one that wants to be opened.
    pub(crate) fn open(&mut self) -> bool {
        let room = self.room();
        let Some(open) = self.driver.poll_open() else { return false };
        let dir = open.dir();
        let credit = &mut self.ours[dir as usize];
        let (Some(peer), true) = (&self.peer, room > 0 && credit.left() > 0) else {
            self.wanted[dir as usize] = true;
            open.blocked();
            return true;
        };
        let id = StreamId::new(self.side, dir, credit.used);
        credit.used += 1;
        let (limit, recv) = match dir {
            Dir::Bi => (peer.bidi_remote, Some(RecvHalf::new())),
            Dir::Uni => (peer.uni, None),
        };
        self.open.insert(id, Stream { send: Some(SendHalf::new(limit)), recv });
        open.opened(id);
        true
    }

    /// Takes the most urgent bytes. Returns whether there are any.
    pub(crate) fn write(&mut self) -> bool {
        let room = self.room();
        let Some(mut write) = self.driver.poll_write() else { return false };
        let (id, len) = (write.id(), write.len());
        let send = self.open.get_mut(&id).and_then(|stream| stream.send.as_mut());
        let Some(send) = send else {
            // The peer stopped it, and the driver has been told.
            write.blocked(0);
            return true;
        };
        let credit = send.credit.left().min(self.credit.left());
        let taken = len.min(room).min(usize::try_from(credit).unwrap_or(usize::MAX));
        let fin = write.fin() && taken == len && room > 0;
        if taken > 0 || fin {
            let kind = frame::STREAM | u64::from(fin);
            let head = [kind, id.as_u64(), send.credit.used, taken as u64];
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
            write.blocked(taken);
        } else {
            write.accepted(taken);
            if fin {
                self.end(id, Half::Send);
            }
        }
        true
    }

    pub(crate) fn reset(&mut self, id: StreamId, code: Code) {
        if let Some(send) = self.send(id) {
            let size = send.credit.used;
            self.push(&[frame::RESET_STREAM, id.as_u64(), code.as_u64(), size]);
            self.end(id, Half::Send);
        }
    }

    pub(crate) fn stop(&mut self, id: StreamId, code: Code) {
        let Some(recv) = self.recv(id).filter(|recv| !recv.is_stopped) else { return };
        recv.is_stopped = true;
        let (unread, fin) = (std::mem::take(&mut recv.held).len(), recv.fin);
        self.release(id, unread as u64);
        if fin {
            self.end(id, Half::Recv);
        } else {
            self.push(&[frame::STOP_SENDING, id.as_u64(), code.as_u64()]);
        }
    }

    // ---- frames of the peer ------------------------------------------------------------------

    /// Whether the peer must not send this frame now.
    pub(crate) fn is_out_of_order(&self, frame: &Frame) -> bool {
        self.peer.is_some() == matches!(frame, Frame::Parameters(_))
    }

    /// A frame about streams; others have no effect.
    pub(crate) fn frame(&mut self, frame: Frame) -> Result<(), Violation> {
        match frame {
            Frame::Parameters(peer) => {
                self.credit.raise(peer.data);
                self.ours = peer.streams.map(Credit::new);
                self.peer = Some(peer);
            }
            Frame::MaxData { limit } => self.credit.raise(limit),
            Frame::MaxStreams { dir, limit } => self.ours[dir as usize].raise(limit),
            Frame::MaxStreamData { id, limit } => {
                self.known(id, Half::Send)?;
                let Some(send) = self.send(id) else { return Ok(()) };
                send.credit.raise(limit);
                if send.credit.left() > 0 && std::mem::take(&mut send.is_blocked) {
                    self.driver.handle(self.now, Input::Writable { id });
                }
            }
            Frame::Stop { id, code } => {
                self.known(id, Half::Send)?;
                if self.send(id).is_some() {
                    self.reset(id, code);
                    self.driver.handle(self.now, Input::Stopped { id, code });
                }
            }
            Frame::Stream { id, bytes, fin } => return self.data(id, bytes, fin),
            Frame::Reset { id, code, size } => return self.was_reset(id, code, size),
            _ => {}
        }
        Ok(())
    }

    fn data(&mut self, id: StreamId, bytes: Bytes, fin: bool) -> Result<(), Violation> {
        self.known(id, Half::Recv)?;
        let len = bytes.len() as u64;
        // Otherwise it was finished or reset before.
        let Some(recv) = self.recv(id) else { return Ok(()) };
        if recv.fin {
            return Err(Violation::FINAL_SIZE);
        }
        recv.fin = fin;
        let is_stopped = recv.is_stopped;
        if !recv.allowance.receive(len) || !self.allowance.receive(len) {
            return Err(Violation::FLOW_CONTROL);
        }
        if !is_stopped {
            self.deliver(id, bytes);
            return Ok(());
        }
        self.release(id, len);
        if fin {
            self.end(id, Half::Recv);
        }
        Ok(())
    }

    fn was_reset(&mut self, id: StreamId, code: Code, size: u64) -> Result<(), Violation> {
        self.known(id, Half::Recv)?;
        let Some(recv) = self.recv(id) else { return Ok(()) };
        // Deployed peers sent a final size of 0, so that a smaller one than expected is no mistake.
        let unsent = size.saturating_sub(recv.allowance.received);
        let (unread, is_stopped) = (recv.held.len() as u64, recv.is_stopped);
        if !recv.allowance.receive(unsent) || !self.allowance.receive(unsent) {
            return Err(Violation::FLOW_CONTROL);
        }
        self.end(id, Half::Recv);
        self.release(id, unread + unsent);
        if !is_stopped {
            self.driver.handle(self.now, Input::Reset { id, code });
        }
        Ok(())
    }

    /// Passes to the driver what it takes of a stream: what is held, and then `fresh`.
    pub(crate) fn deliver(&mut self, id: StreamId, mut fresh: Bytes) {
        loop {
            let limit = self.driver.read_limit(id);
            let Some(recv) = self.recv(id).filter(|recv| !recv.is_stopped) else { return };
            let rest = recv.held.len() + fresh.len();
            if limit == 0 || (rest == 0 && !recv.fin) {
                return recv.held.extend_from_slice(&fresh);
            }
            let bytes = match recv.held.is_empty() {
                true => fresh.split_to(fresh.len().min(limit)),
                false => recv.held.split_to(recv.held.len().min(limit)).freeze(),
            };
            let (len, fin) = (bytes.len(), recv.fin && bytes.len() == rest);
            self.driver.handle(self.now, Input::Data { id, bytes, fin });
            self.release(id, len as u64);
            if fin {
                return self.end(id, Half::Recv);
            }
        }
    }

    /// Checks that the peer may send a frame about this half of a stream. If it opens the stream by it, so does this side,
    /// with all streams before it.
    fn known(&mut self, id: StreamId, half: Half) -> Result<(), Violation> {
        let (dir, index) = (id.dir(), id.as_u64() >> 2);
        let is_ours = id.initiator() == self.side;
        let of_opener = if is_ours { Half::Send } else { Half::Recv };
        if dir == Dir::Uni && half != of_opener || is_ours && index >= self.ours[dir as usize].used
        {
            return Err(Violation::STREAM_STATE);
        }
        if is_ours {
            return Ok(());
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
            self.driver.handle(self.now, Input::Opened { id });
        }
        Ok(())
    }

    /// Gives the peer credit for bytes that need no memory here any longer.
    fn release(&mut self, id: StreamId, bytes: u64) {
        if let Some(limit) = self.allowance.release(bytes) {
            self.push(&[frame::MAX_DATA, limit]);
        }
        let recv = self.recv(id).filter(|recv| !recv.fin && !recv.is_stopped);
        if let Some(limit) = recv.and_then(|recv| recv.allowance.release(bytes)) {
            self.push(&[frame::MAX_STREAM_DATA, id.as_u64(), limit]);
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
        let dir = id.dir() as usize;
        if id.initiator() != self.side {
            if let Some(limit) = self.theirs[dir].release(1) {
                self.push(&[frame::MAX_STREAMS + dir as u64, limit]);
            }
        }
    }
}
