//! The streams of one connection, and a waker for each.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use quinn::{RecvStream, SendStream, StoppedError, VarInt, WriteError};
use smoq::stream::{Code, Dir, StreamId};
use smoq::{Instant, ReadyList};

use crate::allowance::Allowance;
use crate::config::{FIRST_BIDI_STREAMS, FIRST_UNI_STREAMS};
use crate::stops::{Stops, Unwatched};

/// Keys of the ready list from this one on are streams'.
pub(crate) const FIRST_STREAM: usize = 7;

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send>>;

/// What is left of a stream.
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) recv: Option<RecvStream>,
    pub(crate) send: Option<SendStream>,
    /// STOP_SENDING of a request that is watched: see [`Stops`].
    stopped: Option<Stopped>,
    /// Whether the peer opened it.
    is_peers: bool,
    /// quinn has a waker of ours for when `send` takes more.
    pub(crate) is_blocked: bool,
    /// There may have been a STOP_SENDING that nobody told of.
    pub(crate) is_doubtful: bool,
}

impl Stream {
    fn new(id: quinn::StreamId, send: Option<SendStream>, recv: Option<RecvStream>) -> Self {
        let id = smoq_quic::stream_id(id);
        let (is_peers, is_blocked, is_doubtful) = (false, false, false);
        Self { id, recv, send, stopped: None, is_peers, is_blocked, is_doubtful }
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

    /// What a STOP_SENDING said that came lately, with `cx` for the next one if the stream is watched.
    pub(crate) fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Option<VarInt> {
        if let Some(stopped) = &mut self.stopped {
            let Poll::Ready(told) = stopped.as_mut().poll(cx) else { return None };
            self.stopped = None;
            return told.ok().flatten();
        }
        if !std::mem::take(&mut self.is_doubtful) {
            return None;
        }
        match pin!(self.send.as_mut()?.write_chunks(&mut [])).poll(cx) {
            Poll::Ready(Err(WriteError::Stopped(code))) => Some(code),
            Poll::Ready(_) => None,
            // quinn does not say as long as nothing can be written. Asked again then.
            Poll::Pending => {
                (self.is_blocked, self.is_doubtful) = (true, true);
                None
            }
        }
    }
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
    stops: Stops,
    uni_allowance: Allowance,
    bidi_allowance: Allowance,
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
            stops: Stops::default(),
            uni_allowance: Allowance::new(FIRST_UNI_STREAMS),
            bidi_allowance: Allowance::new(FIRST_BIDI_STREAMS),
        }
    }

    /// Keeps `stream` and marks it ready: nobody looked into it yet.
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
        // Those that have ended are not kept until their time would have come.
        if self.stops.len() > 16 + 2 * self.by_id.len() {
            self.stops.retain(|id| is_sending(&self.slots, &self.by_id, id));
        }
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

    /// Abandons our half. A `SendStream` that is just dropped would say that it is complete.
    pub(crate) fn reset(&mut self, id: StreamId, code: VarInt) {
        let Some((stream, _)) = self.by_id(id) else { return };
        let was_watched = stream.stopped.take().is_some();
        if let Some(mut send) = stream.send.take() {
            // It fails if the peer has everything already.
            let _ = send.reset(code);
        }
        if was_watched {
            self.stops.left_record();
        }
        self.forget_done(id);
    }

    /// When to [`look_for_stops`](Self::look_for_stops) next.
    pub(crate) fn next_look(&mut self) -> Option<Instant> {
        loop {
            let (id, at) = self.stops.first()?;
            if is_sending(&self.slots, &self.by_id, id) {
                return Some(at);
            }
            self.stops.pop();
        }
    }

    /// Looks at the requests whose time has come: see [`Stops`].
    pub(crate) fn look_for_stops(&mut self, now: Instant) {
        while self.next_look().is_some_and(|at| at <= now) {
            let Some(Unwatched { id, heard, .. }) = self.stops.pop() else { return };
            let may_watch = self.stops.may_watch();
            let frames = if may_watch { 0 } else { self.connection.stats().frame_rx.stop_sending };
            let Some((stream, waker)) = self.by_id(id) else { continue };
            if may_watch {
                stream.stopped = stream.send.as_ref().map(|send| Box::pin(send.stopped()) as _);
                waker.wake_by_ref();
                continue;
            }
            if frames != heard {
                stream.is_doubtful = true;
                waker.wake_by_ref();
            }
            self.stops.push(id, now, frames);
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
            self.connection.close(smoq_quic::quic_code(code), reason);
        }
    }

    /// Ends our half cleanly. Gives the code of a STOP_SENDING that came first: then it is reset.
    pub(crate) fn finish(&mut self, id: StreamId) -> Option<VarInt> {
        // Acknowledged ones need no memory any more.
        while self.finished.front().is_some_and(|send| send.priority().is_err()) {
            self.finished.pop_front();
        }
        let (stream, _) = self.by_id(id)?;
        stream.stopped = None;
        let mut send = stream.send.take()?;
        // It says nothing of a stream that was stopped, which then is not finished.
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

/// What a STOP_SENDING said that came before the end of a stream that was just finished.
fn stopped_first(send: &mut SendStream) -> Option<VarInt> {
    let cx = &mut Context::from_waker(Waker::noop());
    let probe = pin!(send.write_chunks(&mut [])).poll(cx);
    match probe {
        Poll::Ready(Err(WriteError::Stopped(code))) => Some(code),
        Poll::Ready(_) => None,
        // Without a window that says nothing. The record that this leaves goes with the end.
        Poll::Pending => match pin!(send.stopped()).poll(cx) {
            Poll::Ready(told) => told.ok().flatten(),
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
