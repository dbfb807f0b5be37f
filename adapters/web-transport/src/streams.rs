//! The streams of one session, and a waker for each.

use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use smoq::stream::{Code, Dir, Side, StreamId};
use smoq::{Error, Instant, ReadyList};

use crate::halves::{RecvHalf, SendHalf};

/// The first key of the ready list that stands for a stream.
pub(crate) const FIRST_STREAM: usize = 6;

/// How many requests that were watched for STOP_SENDING this side may reset. quinn keeps a record of each.
const MAX_RECORDS: usize = 256;

/// How long a stream with an error without a code waits for the end of the session, which explains it.
const GRACE: Duration = Duration::from_millis(100);

/// A stream with the halves that are not over.
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) recv: Option<RecvHalf>,
    pub(crate) send: Option<SendHalf>,
    /// Bytes that were read before the session lowered the limit.
    pub(crate) held: Bytes,
    /// The session waits until a write is over.
    pub(crate) is_blocked: bool,
    /// FIN is ordered. The session knows nothing of the sending half any more.
    pub(crate) is_finished: bool,
}

/// A half that failed without a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Send,
    Recv,
}

struct Slot {
    waker: Waker,
    stream: Option<Stream>,
}

/// All streams of a session.
pub(crate) struct Streams {
    side: Side,
    pub(crate) ready: ReadyList,
    slots: Vec<Slot>,
    free: Vec<usize>,
    by_id: HashMap<StreamId, usize>,
    /// The next index, by initiator and direction. The carriers do not tell ids.
    next: [[u64; 2]; 2],
    records: usize,
    /// Halves that failed without a code, and until when they wait for the end of the session.
    broken: VecDeque<(Instant, StreamId, Half)>,
}

impl Streams {
    pub(crate) fn new(side: Side) -> Self {
        Self {
            side,
            ready: ReadyList::new(),
            slots: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::new(),
            next: Default::default(),
            records: 0,
            broken: VecDeque::new(),
        }
    }

    /// Whether a new sending half is watched for STOP_SENDING while there is nothing to write. A group has
    /// something to write soon, or does not matter.
    pub(crate) fn is_watched(&self, dir: Dir) -> bool {
        dir == Dir::Bi && self.records < MAX_RECORDS
    }

    /// Stores a stream and marks it ready, because it may have data already.
    pub(crate) fn insert(
        &mut self,
        is_peers: bool,
        send: Option<SendHalf>,
        recv: Option<RecvHalf>,
    ) -> StreamId {
        let dir = if send.is_some() && recv.is_some() { Dir::Bi } else { Dir::Uni };
        let initiator = if is_peers { self.side.peer() } else { self.side };
        let next = &mut self.next[usize::from(is_peers)][dir as usize];
        let id = StreamId::new(initiator, dir, *next);
        *next += 1;
        let slot = self.free.pop().unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            let waker = self.ready.waker((FIRST_STREAM + slot) as u64);
            self.slots.push(Slot { waker, stream: None });
        }
        let (is_blocked, is_finished) = (false, false);
        let stream = Stream { id, recv, send, held: Bytes::new(), is_blocked, is_finished };
        self.slots[slot].waker.wake_by_ref();
        self.slots[slot].stream = Some(stream);
        self.by_id.insert(id, slot);
        id
    }

    /// A stream and its waker, by stream id.
    pub(crate) fn by_id(&mut self, id: StreamId) -> Option<(&mut Stream, &Waker)> {
        let key = FIRST_STREAM + *self.by_id.get(&id)?;
        self.by_key(key)
    }

    /// A stream and its waker, by the key on the ready list.
    pub(crate) fn by_key(&mut self, key: usize) -> Option<(&mut Stream, &Waker)> {
        let slot = self.slots.get_mut(key - FIRST_STREAM)?;
        Some((slot.stream.as_mut()?, &slot.waker))
    }

    /// Frees the slot of a stream whose halves are both over.
    pub(crate) fn forget_done(&mut self, id: StreamId) {
        let Some(&slot) = self.by_id.get(&id) else { return };
        let place = &mut self.slots[slot].stream;
        if place.take_if(|stream| stream.recv.is_none() && stream.send.is_none()).is_some() {
            self.by_id.remove(&id);
            self.free.push(slot);
        }
    }

    /// Resets our half, if it is not finished.
    pub(crate) fn reset(&mut self, id: StreamId, code: Code) {
        let is_watched = self.is_watched(id.dir());
        let Some((stream, _)) = self.by_id(id) else { return };
        if let Some(send) = stream.send.take() {
            send.reset(code);
            self.records += usize::from(is_watched);
        }
        self.forget_done(id);
    }

    /// A half failed without a code.
    pub(crate) fn broke(&mut self, now: Instant, id: StreamId, half: Half) {
        self.broken.push_back((now + GRACE, id, half));
    }

    /// When to call [`pop_broken`](Self::pop_broken).
    pub(crate) fn next_broken(&self) -> Option<Instant> {
        self.broken.front().map(|(at, ..)| *at)
    }

    /// A half that failed although the session goes on.
    pub(crate) fn pop_broken(&mut self, now: Instant) -> Option<(StreamId, Half)> {
        self.next_broken().filter(|at| *at <= now)?;
        self.broken.pop_front().map(|(_, id, half)| (id, half))
    }

    /// Polls every stream once more.
    pub(crate) fn wake_all(&self) {
        self.slots.iter().for_each(|slot| slot.waker.wake_by_ref());
    }

    /// Ready when the peer has everything that was finished, and the carrier has taken everything else.
    pub(crate) fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut flushed = Poll::Ready(());
        for stream in self.slots.iter_mut().filter_map(|slot| slot.stream.as_mut()) {
            let Some(send) = &mut stream.send else { continue };
            match send.poll(cx) {
                Poll::Pending if stream.is_finished || send.is_writing() => flushed = Poll::Pending,
                Poll::Pending => {}
                Poll::Ready(_) => stream.send = None,
            }
        }
        flushed
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        let code = Error::SessionClosed.stream_code();
        for stream in self.slots.iter_mut().filter_map(|slot| slot.stream.as_mut()) {
            if let Some(send) = stream.send.take() {
                send.reset(code);
            }
        }
    }
}
