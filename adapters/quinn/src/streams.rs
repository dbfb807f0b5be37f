//! The streams of one connection, and a waker for each.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use quinn::{RecvStream, SendStream, StoppedError, VarInt, WriteError};
use smoq::stream::{Code, Dir, StreamId};
use smoq::{Instant, ReadyList};
use smoq_quic::Carrier;
use smoq_quic::http3::WebTransport;

use crate::allowance::Allowance;
use crate::config::{FIRST_BIDI_STREAMS, FIRST_UNI_STREAMS};
use crate::stops::{Stops, Unwatched};

/// The first key of the ready list that stands for a stream.
pub(crate) const FIRST_STREAM: usize = 7;

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send>>;

/// A stream with the halves that are not over.
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) recv: Option<RecvStream>,
    pub(crate) send: Option<SendStream>,
    /// The rest of the bytes that HTTP/3 writes before those of the session.
    pub(crate) head: Bytes,
    /// Resolves at STOP_SENDING, if the stream is watched: see [`Stops`].
    stopped: Option<Stopped>,
    /// Whether the peer opened it.
    is_peers: bool,
    /// quinn will wake the stream when `send` takes more.
    pub(crate) is_blocked: bool,
    /// A STOP_SENDING may have arrived unnoticed.
    pub(crate) is_doubtful: bool,
}

impl Stream {
    fn new(id: quinn::StreamId, send: Option<SendStream>, recv: Option<RecvStream>) -> Self {
        let id = smoq_quic::stream_id(id);
        let (is_peers, is_blocked, is_doubtful) = (false, false, false);
        let head = Bytes::new();
        Self { id, recv, send, head, stopped: None, is_peers, is_blocked, is_doubtful }
    }

    pub(crate) fn uni(send: SendStream) -> Self {
        Self::new(send.id(), Some(send), None)
    }

    pub(crate) fn bi((send, recv): (SendStream, RecvStream)) -> Self {
        Self::new(send.id(), Some(send), Some(recv))
    }

    pub(crate) fn incoming_uni(recv: RecvStream) -> Self {
        Self { is_peers: true, ..Self::new(recv.id(), None, Some(recv)) }
    }

    pub(crate) fn incoming_bi(halves: (SendStream, RecvStream)) -> Self {
        Self { is_peers: true, ..Self::bi(halves) }
    }

    pub(crate) fn with_head(self, head: Bytes) -> Self {
        Self { head, ..self }
    }

    /// Writes the head, and then of `chunks`, which have `len` bytes. Returns how many of these were taken.
    pub(crate) fn poll_write(
        &mut self,
        chunks: &mut [Bytes],
        len: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, WriteError>> {
        let Some(send) = &mut self.send else { return Poll::Ready(Err(WriteError::ClosedStream)) };
        while !self.head.is_empty() {
            let head = std::slice::from_mut(&mut self.head);
            ready!(pin!(send.write_chunks(head)).poll(cx))?;
        }
        // An empty write would wait for a window.
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        pin!(send.write_chunks(chunks)).poll(cx).map_ok(|written| written.bytes)
    }

    /// The code of a STOP_SENDING that has arrived. Registers `cx` for one to come if the stream is watched.
    pub(crate) fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Option<VarInt> {
        if let Some(stopped) = &mut self.stopped {
            let Poll::Ready(result) = stopped.as_mut().poll(cx) else { return None };
            self.stopped = None;
            return result.ok().flatten();
        }
        if !std::mem::take(&mut self.is_doubtful) {
            return None;
        }
        match pin!(self.send.as_mut()?.write_chunks(&mut [])).poll(cx) {
            Poll::Ready(Err(WriteError::Stopped(code))) => Some(code),
            Poll::Ready(_) => None,
            // quinn reports it only when something can be written. Asked again then.
            Poll::Pending => {
                (self.is_blocked, self.is_doubtful) = (true, true);
                None
            }
        }
    }
}

/// A slot for a stream. The next stream in it uses the same waker, and may be polled once too often.
pub(crate) struct Slot {
    waker: Waker,
    stream: Option<Stream>,
}

impl Slot {
    pub(crate) fn get(&mut self) -> Option<(&mut Stream, &Waker)> {
        let stream = self.stream.as_mut()?;
        Some((stream, &self.waker))
    }
}

/// All streams of a connection. Dropping them closes it first, so that none looks finished.
pub(crate) struct Streams {
    pub(crate) connection: quinn::Connection,
    /// HTTP/3, if the session runs on WebTransport.
    pub(crate) http: Option<Box<WebTransport>>,
    pub(crate) ready: ReadyList,
    pub(crate) slots: Vec<Slot>,
    free: Vec<usize>,
    pub(crate) by_id: HashMap<StreamId, usize>,
    finished: VecDeque<SendStream>,
    stops: Stops,
    uni_allowance: Allowance,
    bidi_allowance: Allowance,
}

impl Streams {
    pub(crate) fn new(connection: quinn::Connection, http: Option<Box<WebTransport>>) -> Self {
        Self {
            connection,
            http,
            ready: ReadyList::new(),
            slots: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::new(),
            finished: VecDeque::new(),
            stops: Stops::default(),
            uni_allowance: Allowance::new(FIRST_UNI_STREAMS),
            bidi_allowance: Allowance::new(FIRST_BIDI_STREAMS),
        }
    }

    /// Stores `stream` and marks it ready, because it may have data already.
    pub(crate) fn insert(&mut self, stream: Stream, now: Instant) -> StreamId {
        let id = stream.id;
        match (stream.is_peers, id.dir()) {
            (true, Dir::Uni) => {
                if let Some(limit) = self.uni_allowance.opened(now, || self.connection.rtt()) {
                    self.connection.set_max_concurrent_uni_streams(limit.into());
                }
            }
            (true, Dir::Bi) => {
                if let Some(limit) = self.bidi_allowance.opened(now, || self.connection.rtt()) {
                    self.connection.set_max_concurrent_bi_streams(limit.into());
                }
            }
            (false, _) => {}
        }
        let slot = self.free.pop().unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            let waker = self.ready.waker((FIRST_STREAM + slot) as u64);
            self.slots.push(Slot { waker, stream: None });
        }
        self.slots[slot].waker.wake_by_ref();
        self.slots[slot].stream = Some(stream);
        self.by_id.insert(id, slot);
        if id.dir() == Dir::Bi {
            self.watch_later(id, now);
        }
        id
    }

    fn watch_later(&mut self, id: StreamId, now: Instant) {
        self.stops.push(id, now, 0);
        // Entries of streams that have ended are removed before their time comes.
        if self.stops.len() > 16 + 2 * self.by_id.len() {
            self.stops.retain(|id| is_sending(&self.slots, &self.by_id, id));
        }
    }

    /// A stream and its waker, by stream id.
    pub(crate) fn by_id(&mut self, id: StreamId) -> Option<(&mut Stream, &Waker)> {
        let slot = *self.by_id.get(&id)?;
        self.slots[slot].get()
    }

    /// A stream and its waker, by the key on the ready list.
    pub(crate) fn by_key(&mut self, key: usize) -> Option<(&mut Stream, &Waker)> {
        self.slots.get_mut(key - FIRST_STREAM)?.get()
    }

    /// Frees the slot of a stream whose halves are both over.
    pub(crate) fn forget_done(&mut self, id: StreamId) {
        let Some(&slot) = self.by_id.get(&id) else { return };
        let place = &mut self.slots[slot].stream;
        let is_done = |stream: &mut Stream| stream.recv.is_none() && stream.send.is_none();
        let Some(stream) = place.take_if(is_done) else { return };
        self.by_id.remove(&id);
        self.free.push(slot);
        match (stream.is_peers, id.dir()) {
            (true, Dir::Uni) => self.uni_allowance.ended(),
            (true, Dir::Bi) => self.bidi_allowance.ended(),
            (false, _) => {}
        }
    }

    /// Resets our half. Dropping a `SendStream` would finish it instead.
    pub(crate) fn reset(&mut self, id: StreamId, code: VarInt) {
        let Some((stream, _)) = self.by_id(id) else { return };
        let was_watched = stream.stopped.take().is_some();
        if let Some(mut send) = stream.send.take() {
            // It fails if the peer has acknowledged everything already.
            let _ = send.reset(code);
        }
        if was_watched {
            self.stops.left_record();
        }
        self.forget_done(id);
    }

    /// When to call [`look_for_stops`](Self::look_for_stops) next.
    pub(crate) fn next_look(&mut self) -> Option<Instant> {
        loop {
            let (id, at) = self.stops.first()?;
            if is_sending(&self.slots, &self.by_id, id) {
                return Some(at);
            }
            self.stops.pop();
        }
    }

    /// Checks the requests that are due: see [`Stops`].
    pub(crate) fn look_for_stops(&mut self, now: Instant) {
        while self.next_look().is_some_and(|at| at <= now) {
            let Some(Unwatched { id, stop_frames, .. }) = self.stops.pop() else { return };
            let may_watch = self.stops.may_watch();
            let frames = if may_watch { 0 } else { self.connection.stats().frame_rx.stop_sending };
            let Some((stream, waker)) = self.by_id(id) else { continue };
            if may_watch {
                stream.stopped = stream.send.as_ref().map(|send| Box::pin(send.stopped()) as _);
                waker.wake_by_ref();
                continue;
            }
            if frames != stop_frames {
                stream.is_doubtful = true;
                waker.wake_by_ref();
            }
            self.stops.push(id, now, frames);
        }
    }

    /// Resolves when the peer has acknowledged everything, or the connection is lost. Nothing can be written
    /// after this was called.
    pub(crate) async fn flushed(&mut self) {
        while let Some(send) = self.finished.pop_front() {
            // Whether the peer has it all or does not want it makes no difference.
            let _ = send.stopped().await;
        }
        // With a window of one byte a stream takes more exactly when nothing is unacknowledged.
        self.connection.set_send_window(1);
        poll_fn(|cx| {
            let streams = self.slots.iter_mut().filter_map(|slot| slot.stream.as_mut());
            let mut open = streams.filter_map(|stream| stream.send.as_mut()).peekable();
            // A stream may lack flow-control credit of its own. Then another one has to answer.
            if open.peek().is_none()
                || open.any(|send| pin!(send.write_chunks(&mut [])).poll(cx).is_ready())
            {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    pub(crate) fn carrier(&self) -> Carrier {
        if self.http.is_some() { Carrier::WebTransport } else { Carrier::RawQuic }
    }

    /// Closes the connection unless that was done already.
    pub(crate) fn close(&self, code: Code, reason: &[u8]) {
        if self.connection.close_reason().is_none() {
            self.connection.close(self.carrier().close_code(code), reason);
        }
    }

    /// Finishes our half. If a STOP_SENDING came first, the half is reset and the code is returned.
    pub(crate) fn finish(&mut self, id: StreamId) -> Option<VarInt> {
        forget_some(&mut self.finished, |send| send.priority().is_err());
        let (stream, _) = self.by_id(id)?;
        stream.stopped = None;
        let mut send = stream.send.take()?;
        // It does not fail for a stream that was stopped, although that is not finished.
        let _ = send.finish();
        let stopped = stopped_first(&mut send);
        match stopped {
            Some(code) => drop(send.reset(code)),
            None => self.finished.push_back(send),
        }
        self.forget_done(id);
        stopped
    }
}

fn is_sending(slots: &[Slot], by_id: &HashMap<StreamId, usize>, id: StreamId) -> bool {
    let stream = by_id.get(&id).and_then(|slot| slots[*slot].stream.as_ref());
    stream.is_some_and(|stream| stream.send.is_some())
}

/// Forgets streams that were acknowledged, which need not be kept any more. Called for each stream that is added, it keeps
/// about twice as many as are not acknowledged, even if one of them never is.
fn forget_some<T>(finished: &mut VecDeque<T>, is_acknowledged: impl Fn(&T) -> bool) {
    for _ in 0..2 {
        let Some(oldest) = finished.pop_front() else { return };
        if !is_acknowledged(&oldest) {
            finished.push_back(oldest);
        }
    }
}

/// The code of a STOP_SENDING that came before the end of a stream that was just finished.
fn stopped_first(send: &mut SendStream) -> Option<VarInt> {
    let cx = &mut Context::from_waker(Waker::noop());
    let probe = pin!(send.write_chunks(&mut [])).poll(cx);
    match probe {
        Poll::Ready(Err(WriteError::Stopped(code))) => Some(code),
        Poll::Ready(_) => None,
        // Inconclusive without a window. The record that `stopped` creates is removed with the stream.
        Poll::Pending => match pin!(send.stopped()).poll(cx) {
            Poll::Ready(result) => result.ok().flatten(),
            Poll::Pending => None,
        },
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.close(Code::default(), b"");
    }
}

#[cfg(test)]
mod tests;
