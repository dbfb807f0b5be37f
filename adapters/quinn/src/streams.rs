//! The streams of one connection, and a waker for each.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Poll, Waker};

use quinn::{RecvStream, SendStream, StoppedError, VarInt};
use smoq::ReadyList;
use smoq::stream::{Code, StreamId};

/// A code as quinn takes it.
pub(crate) fn wire_code(code: Code) -> VarInt {
    VarInt::from_u64(code.as_u64()).unwrap_or(VarInt::MAX)
}

/// A code from RESET_STREAM or STOP_SENDING, in either of the forms that peers send.
pub(crate) fn stream_code(code: VarInt) -> Code {
    Code::new(code.into_inner()).from_http3()
}

/// Keys of the ready list from this one on are streams'.
pub(crate) const FIRST_STREAM: usize = 7;

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send>>;

/// What is left of a stream.
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) recv: Option<RecvStream>,
    pub(crate) send: Option<SendStream>,
    /// STOP_SENDING of a bidi stream: its sender may have nothing to write for long.
    pub(crate) stopped: Option<Stopped>,
    /// quinn has a waker of ours for when `send` takes more.
    pub(crate) is_blocked: bool,
}

impl Stream {
    pub(crate) fn uni(send: SendStream) -> Self {
        let id = stream_id(send.id());
        Self { id, recv: None, send: Some(send), stopped: None, is_blocked: false }
    }

    pub(crate) fn bi(send: SendStream, recv: RecvStream) -> Self {
        let stopped: Stopped = Box::pin(send.stopped());
        let stopped = Some(stopped);
        Self { recv: Some(recv), stopped, ..Self::uni(send) }
    }

    pub(crate) fn incoming(recv: RecvStream) -> Self {
        let id = stream_id(recv.id());
        Self { id, recv: Some(recv), send: None, stopped: None, is_blocked: false }
    }

    /// Abandons our half. A `SendStream` that is just dropped would say that it is complete.
    pub(crate) fn reset(&mut self, code: VarInt) {
        if let Some(mut send) = self.send.take() {
            // It fails if the peer has everything already.
            let _ = send.reset(code);
        }
        self.stopped = None;
    }
}

fn stream_id(id: quinn::StreamId) -> StreamId {
    StreamId::from_u64(VarInt::from(id).into_inner())
}

/// A place for a stream. Its waker stays for the next one: at worst that is polled in vain.
struct Slot {
    waker: Waker,
    stream: Option<Stream>,
}

impl Slot {
    fn get(&mut self) -> Option<(&mut Stream, &Waker)> {
        let stream = self.stream.as_mut()?;
        Some((stream, &self.waker))
    }
}

/// All streams of a connection. Dropping them closes it first, so that none looks finished.
pub(crate) struct Streams {
    pub(crate) connection: quinn::Connection,
    pub(crate) ready: ReadyList,
    slots: Vec<Slot>,
    free: Vec<usize>,
    by_id: HashMap<StreamId, usize>,
    finished: VecDeque<SendStream>,
}

impl Streams {
    pub(crate) fn new(connection: quinn::Connection) -> Self {
        Self {
            connection,
            ready: ReadyList::new(),
            slots: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::new(),
            finished: VecDeque::new(),
        }
    }

    /// Keeps `stream` and marks it ready: nobody looked into it yet.
    pub(crate) fn insert(&mut self, stream: Stream) -> StreamId {
        let id = stream.id;
        let slot = self.free.pop().unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            let waker = self.ready.waker((FIRST_STREAM + slot) as u64);
            self.slots.push(Slot { waker, stream: None });
        }
        self.slots[slot].waker.wake_by_ref();
        self.slots[slot].stream = Some(stream);
        self.by_id.insert(id, slot);
        id
    }

    /// A stream by its number, with its waker.
    pub(crate) fn by_id(&mut self, id: StreamId) -> Option<(&mut Stream, &Waker)> {
        let slot = *self.by_id.get(&id)?;
        self.slots[slot].get()
    }

    /// A stream by the key that its waker put on the ready list.
    pub(crate) fn by_key(&mut self, key: usize) -> Option<(&mut Stream, &Waker)> {
        self.slots.get_mut(key - FIRST_STREAM)?.get()
    }

    /// Frees a place in which both halves are done.
    pub(crate) fn forget_done(&mut self, id: StreamId) {
        let Some(&slot) = self.by_id.get(&id) else { return };
        let place = &mut self.slots[slot].stream;
        if place.as_ref().is_some_and(|stream| stream.recv.is_none() && stream.send.is_none()) {
            *place = None;
            self.by_id.remove(&id);
            self.free.push(slot);
        }
    }

    /// Resolves when the peer has acknowledged everything, or the connection is lost. Nothing can be
    /// written any more.
    pub(crate) async fn flushed(&mut self) {
        while let Some(send) = self.finished.pop_front() {
            // It does not matter whether the peer has it or does not want it.
            let _ = send.stopped().await;
        }
        // With a window of one byte a stream takes more exactly when nothing is unacknowledged.
        self.connection.set_send_window(1);
        poll_fn(|cx| {
            let streams = self.slots.iter_mut().filter_map(|slot| slot.stream.as_mut());
            let mut open = streams.filter_map(|stream| stream.send.as_mut()).peekable();
            // A stream may be without credit of its own: then another one has to tell.
            if open.peek().is_none()
                || open.any(|send| pin!(send.write_chunks(&mut [])).poll(cx).is_ready())
            {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    /// Closes the connection unless that was done already.
    pub(crate) fn close(&self, code: Code, reason: &[u8]) {
        if self.connection.close_reason().is_none() {
            self.connection.close(wire_code(code), reason);
        }
    }

    /// Ends our half cleanly.
    pub(crate) fn finish(&mut self, id: StreamId) {
        // Acknowledged ones need no memory any more.
        while self.finished.front().is_some_and(|send| send.priority().is_err()) {
            self.finished.pop_front();
        }
        let Some((stream, _)) = self.by_id(id) else { return };
        stream.stopped = None;
        if let Some(mut send) = stream.send.take() {
            // It fails if the stream was stopped, and then nobody listens.
            let _ = send.finish();
            self.finished.push_back(send);
        }
        self.forget_done(id);
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.close(Code::default(), b"");
    }
}
