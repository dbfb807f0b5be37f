//! Requests between streams and dialects. A *request* has a key, received bytes, bytes to send, an end and
//! credit. A [`RequestStream`] carries its bytes.
//!
//! On moq-lite, and on moq-transport from draft 17 on, a request is a bidirectional stream. Up to draft
//! 16 it is an id in the messages of another request, the control stream. The dialect decides on the
//! stream of each request; nothing else in the machine depends on it.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::mem;

use bytes::{Bytes, BytesMut};

use super::schedule::CONTROL_PRIORITY;
use crate::census::census;
use crate::coding::DecodeError;
use crate::error::{Error, LimitKind};
use crate::machine::io::Action;
use crate::machine::stream_buffers::{RecvBuffer, SendBuffer};
use crate::slab::{Key, Slab};
use crate::stream::{Code, StreamId};

/// The stream that carries a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum RequestStream {
    /// A bidirectional stream of its own, once that is open.
    Own(Option<StreamId>),
    /// That of another request. The dialect writes the message that ends it.
    Within(Key),
    /// None: the request stands for what a dialect does unsolicited.
    #[default]
    None,
}

/// One request, of the peer or of ours.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) recv: RecvBuffer,
    pub(crate) send: SendBuffer,
    stream: RequestStream,
    /// Its position among the requests that want a stream.
    open_order: u64,
    /// QUIC accepts no more bytes for now.
    blocked: bool,
    read_queued: bool,
    write_queued: bool,
    /// The peer made it.
    incoming: bool,
    /// The peer sent STOP_SENDING for our half.
    stopped: Option<Code>,
    /// How many updates of ours the peer has not answered.
    updates: u64,
    /// The peer sent GOAWAY for this request.
    pub(crate) has_goaway: bool,
    /// It ended, and the peer has not confirmed that.
    pub(crate) unconfirmed: bool,
    /// How many updates of the peer arrived before its request was answered. `None` after that.
    early_updates: Option<u64>,
}

impl Request {
    fn new(stream: RequestStream, incoming: bool) -> Self {
        Self { stream, incoming, early_updates: incoming.then_some(0), ..Self::default() }
    }

    /// The code with which the peer abandoned the request: it reset its half or stopped ours.
    pub(crate) fn abandoned(&self) -> Option<Code> {
        self.recv.reset().or(self.stopped)
    }

    /// Whether an answer is that to an update of ours, which is then answered.
    pub(crate) fn end_update(&mut self) -> bool {
        let is_open = self.updates > 0;
        self.updates -= u64::from(is_open);
        is_open
    }

    /// Why a request is over whose answer has not arrived, if it is: the peer ended its half.
    pub(crate) fn cut_off(&self) -> Option<Error> {
        let fin = Error::ProtocolViolation("FIN without an answer");
        let reset = self.recv.reset().map(Error::from_stream_code);
        reset.or(self.recv.is_finished().then_some(fin))
    }

    /// Why a request is over on which the peer has nothing more to send, if it is: the peer abandoned it,
    /// or sent something nevertheless.
    pub(crate) fn ended(&self) -> Option<Error> {
        let excess = (self.recv.len() > 0).then_some(Error::Malformed(DecodeError::TrailingBytes));
        self.abandoned().map(Error::from_stream_code).or(excess)
    }

    fn stream(&self) -> Option<StreamId> {
        match self.stream {
            RequestStream::Own(id) => id,
            RequestStream::Within(_) | RequestStream::None => None,
        }
    }
}

/// All requests of a session, and which of them have something to read or to write.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    slab: Slab<Request>,
    by_stream: BTreeMap<StreamId, Key>,
    readable: VecDeque<Key>,
    writable: VecDeque<Key>,
    /// Requests of ours that want a stream, in the order in which they were made.
    unopened: BTreeMap<u64, Key>,
    /// While the set-up forbids it, requests that were made after this one open no stream.
    last_allowed: Option<u64>,
    last_order: u64,
    /// Requests that open others, and wait until there is room for more.
    waiting_for_room: BTreeSet<Key>,
    /// How many requests wait for QUIC to accept more.
    blocked: usize,
    incoming: usize,
    max_incoming: usize,
    buffer: usize,
}

/// The outer request of one that waits for it. No request has this key.
const UNBOUND: Key = (u32::MAX, u32::MAX);

/// Bytes of announcements that are written ahead of QUIC. Once an announcement was read and written it can't
/// be coalesced with later changes any more.
pub(crate) const MAX_UNSENT_ANNOUNCEMENTS: usize = 2 << 10;

/// The size of an answer to an update.
const ANSWER_BYTES: usize = 4;

/// How many bytes of a request one guard shows at most.
const MAX_OFFER: usize = 16 << 10;

impl Requests {
    pub(crate) fn new(max_incoming: usize, buffer: usize) -> Self {
        Self { max_incoming, buffer, ..Self::default() }
    }

    // ---- towards the dialect -----------------------------------------------------------------

    /// A request of ours on a stream of its own, which opens when there is credit.
    pub(crate) fn open(&mut self) -> Key {
        self.last_order += 1;
        let request = Request {
            open_order: self.last_order,
            ..Request::new(RequestStream::Own(None), false)
        };
        let key = self.slab.insert(request);
        self.unopened.insert(self.last_order, key);
        key
    }

    /// From now on requests of ours open no stream, until [`Requests::release`].
    pub(crate) fn hold(&mut self) {
        self.last_allowed.get_or_insert(self.last_order);
    }

    /// Requests that were held back may open.
    pub(crate) fn release(&mut self) {
        self.last_allowed = None;
    }

    /// A request of ours within another one.
    pub(crate) fn open_within(&mut self, outer: Key) -> Key {
        self.slab.insert(Request::new(RequestStream::Within(outer), false))
    }

    /// A request of ours within another one that is not known yet. Nothing is sent before [`Requests::bind`].
    pub(crate) fn open_unbound(&mut self) -> Key {
        self.slab.insert(Request::new(RequestStream::Within(UNBOUND), false))
    }

    /// The request is within `outer` from now on, if it waited for that.
    pub(crate) fn bind(&mut self, key: Key, outer: Key) {
        if let Some(request) = self.slab.get_mut(key) {
            if request.stream == RequestStream::Within(UNBOUND) {
                request.stream = RequestStream::Within(outer);
            }
        }
    }

    /// A request without a message of its own: another request of the peer implies it, or the peer does not know of
    /// it.
    pub(crate) fn open_implied(&mut self) -> Key {
        self.slab.insert(Request::new(RequestStream::None, false))
    }

    /// A request of the peer within another one. `None` past the limit.
    pub(crate) fn accept_within(&mut self, outer: Key) -> Option<Key> {
        self.accept(RequestStream::Within(outer))
    }

    /// Counts a request of the peer. `None` past the limit.
    fn accept(&mut self, stream: RequestStream) -> Option<Key> {
        if self.incoming >= self.max_incoming {
            return None;
        }
        self.incoming += 1;
        Some(self.slab.insert(Request::new(stream, true)))
    }

    pub(crate) fn get(&mut self, key: Key) -> Option<&mut Request> {
        self.slab.get_mut(key)
    }

    /// Why the peer abandoned a request, if it did.
    pub(crate) fn abandoned(&self, key: Key) -> Option<Error> {
        self.slab.get(key)?.abandoned().map(Error::from_stream_code)
    }

    /// Whether the peer abandoned a request, or its half ended and was read.
    pub(crate) fn is_ended(&self, key: Key) -> bool {
        let request = self.slab.get(key);
        request.is_some_and(|it| it.abandoned().is_some() || it.recv.is_finished())
    }

    pub(crate) fn is_incoming(&self, key: Key) -> bool {
        self.slab.get(key).is_some_and(|request| request.incoming)
    }

    pub(crate) fn is_within(&self, key: Key) -> bool {
        self.slab.get(key).is_some_and(|request| matches!(request.stream, RequestStream::Within(_)))
    }

    /// The request whose stream carries the bytes of `key`.
    fn writer(&self, key: Key) -> Key {
        match self.slab.get(key).map(|request| request.stream) {
            Some(RequestStream::Within(outer)) => outer,
            _ => key,
        }
    }

    /// Encodes a message after what waits to be sent.
    pub(crate) fn write(&mut self, key: Key, encode: impl FnOnce(&mut BytesMut)) {
        let writer = self.writer(key);
        if self.slab.get(key).is_none_or(|request| request.send.is_over()) {
            return;
        }
        let Some(request) = self.slab.get_mut(writer) else { return };
        if !request.send.is_over() {
            encode(request.send.buffer());
            self.queue_write(writer);
        }
    }

    /// An update of a request of ours is about to be written. Returns `false` if so many are not answered; 0 stands for
    /// no limit.
    pub(crate) fn begin_update(&mut self, key: Key, limit: u64) -> bool {
        let request = self.slab.get_mut(key);
        let request = request.filter(|request| limit == 0 || request.updates < limit);
        request.map(|request| request.updates += 1).is_some()
    }

    /// Whether the peer has no answer to its request yet.
    pub(crate) fn is_unanswered(&self, key: Key) -> bool {
        self.slab.get(key).is_some_and(|request| request.early_updates.is_some())
    }

    /// The answer to an update of the peer waits for that to its request. Returns `false` if it need not.
    pub(crate) fn defer_answer(&mut self, key: Key) -> bool {
        let early = self.slab.get_mut(key).and_then(|request| request.early_updates.as_mut());
        early.map(|early| *early += 1).is_some()
    }

    /// The request of the peer is answered. Returns how many of its updates waited for that.
    pub(crate) fn take_early_updates(&mut self, key: Key) -> u64 {
        let early = self.slab.get_mut(key).and_then(|request| request.early_updates.take());
        early.unwrap_or_default()
    }

    /// How many bytes are written and not accepted by QUIC, of this request and all that share its
    /// stream. Answers to updates that wait to be written count too.
    pub(crate) fn unsent(&self, key: Key) -> usize {
        let deferred =
            |request: &Request| request.early_updates.unwrap_or_default() as usize * ANSWER_BYTES;
        let request = self.slab.get(self.writer(key));
        request.map_or(usize::MAX, |it| it.send.len().saturating_add(deferred(it)))
    }

    /// Sends FIN after what is written.
    pub(crate) fn finish(&mut self, key: Key) {
        let Some(request) = self.slab.get_mut(key) else { return };
        request.send.finish();
        if matches!(request.stream, RequestStream::Own(_)) {
            self.queue_write(key);
        } else {
            // The dialect wrote the message that ends it.
            request.send.accepted(0, true);
            self.queue_read(key);
        }
    }

    /// Whether nothing of a request was sent, because it has no stream.
    pub(crate) fn is_unopened(&self, key: Key) -> bool {
        self.slab.get(key).is_some_and(|request| request.stream == RequestStream::Own(None))
    }

    /// Forgets a request of which nothing was sent. Returns `false` if something may have been.
    pub(crate) fn withdraw(&mut self, key: Key) -> bool {
        self.is_unopened(key) && self.remove(key).is_some()
    }

    /// Hands our half to the schedule of groups: for the request it is over. `None` if it is over
    /// already, or the request has no stream of its own.
    pub(crate) fn detach_send(&mut self, key: Key) -> Option<StreamId> {
        let request = self.slab.get_mut(key)?;
        let stream = request.stream()?;
        request.send.abandon().then_some(stream)
    }

    /// Hands the peer's half, with what arrived on it, to the group streams: for the request it is
    /// over.
    pub(crate) fn detach_recv(&mut self, key: Key) -> Option<(StreamId, RecvBuffer)> {
        let request = self.slab.get_mut(key)?;
        let stream = request.stream()?;
        let recv = mem::take(&mut request.recv);
        request.recv.abandon(Error::Closed.stream_code());
        Some((stream, recv))
    }

    /// Sets the priority of our half, where the request has a stream of its own.
    pub(crate) fn set_priority(&mut self, key: Key, priority: i32, actions: &mut VecDeque<Action>) {
        if let Some(id) = self.slab.get(key).and_then(Request::stream) {
            actions.push_back(Action::SetPriority { id, priority });
        }
    }

    /// Resets and stops both halves, and forgets the request.
    pub(crate) fn cancel(&mut self, key: Key, error: &Error, actions: &mut VecDeque<Action>) {
        let Some(mut request) = self.remove(key) else { return };
        let code = error.stream_code();
        let reset = request.send.abandon();
        let Some(id) = request.stream() else { return };
        if reset {
            actions.push_back(Action::Reset { id, code });
        }
        if !request.recv.is_over() {
            actions.push_back(Action::Stop { id, code });
        }
    }

    /// Forgets the request if both halves are over. Returns whether it did.
    pub(crate) fn retire(&mut self, key: Key) -> bool {
        let Some(request) = self.slab.get_mut(key) else { return false };
        let over = request.recv.is_over() && request.send.is_over();
        if over {
            self.remove(key);
        }
        over
    }

    /// Stops the peer's half: nothing more that it sends counts.
    pub(crate) fn stop(&mut self, key: Key, code: Code, actions: &mut VecDeque<Action>) {
        let Some(request) = self.slab.get_mut(key) else { return };
        request.recv.abandon(code);
        if let Some(id) = request.stream() {
            actions.push_back(Action::Stop { id, code });
        }
        self.queue_read(key);
    }

    /// Decoding made room, or needs more bytes if `starved`: resumes the stream if it was held.
    pub(crate) fn consumed(&mut self, key: Key, starved: bool, actions: &mut VecDeque<Action>) {
        let buffer = self.buffer;
        let Some(request) = self.slab.get_mut(key) else { return };
        if request.recv.release(buffer, starved) {
            actions.extend(request.stream().map(|id| Action::Resume { id }));
        }
    }

    /// The next request that may have something to read.
    pub(crate) fn next_readable(&mut self) -> Option<Key> {
        while let Some(key) = self.readable.pop_front() {
            if let Some(request) = self.slab.get_mut(key) {
                request.read_queued = false;
                return Some(key);
            }
        }
        None
    }

    /// Makes the request be read again.
    pub(crate) fn queue_read(&mut self, key: Key) {
        let Some(request) = self.slab.get_mut(key) else { return };
        if !request.read_queued {
            request.read_queued = true;
            self.readable.push_back(key);
        }
    }

    /// Makes the request be written again.
    pub(crate) fn queue_write(&mut self, key: Key) {
        let Some(request) = self.slab.get_mut(key) else { return };
        if !request.write_queued && !request.blocked {
            request.write_queued = true;
            self.writable.push_back(key);
        }
    }

    /// Makes the request be written again when there may be room for other requests that it opens.
    pub(crate) fn await_room(&mut self, key: Key) {
        self.waiting_for_room.insert(key);
    }

    /// There may be room again.
    pub(crate) fn tell_of_room(&mut self) {
        for key in mem::take(&mut self.waiting_for_room) {
            self.queue_write(key);
        }
    }

    pub(crate) fn has_readable(&self) -> bool {
        !self.readable.is_empty()
    }

    // ---- towards QUIC: input -----------------------------------------------------------------

    /// The peer opened a bidirectional stream.
    pub(crate) fn stream_opened(&mut self, id: StreamId, actions: &mut VecDeque<Action>) {
        if self.by_stream.contains_key(&id) {
            return;
        }
        let Some(key) = self.accept(RequestStream::Own(Some(id))) else {
            let code = Error::Limit(LimitKind::Requests).stream_code();
            actions.push_back(Action::Reset { id, code });
            actions.push_back(Action::Stop { id, code });
            return;
        };
        self.by_stream.insert(id, key);
        actions.push_back(Action::SetPriority { id, priority: CONTROL_PRIORITY });
    }

    /// Bytes of a bidirectional stream.
    pub(crate) fn stream_data(
        &mut self,
        id: StreamId,
        bytes: Bytes,
        fin: bool,
        actions: &mut VecDeque<Action>,
    ) {
        let Some(key) = self.by_stream.get(&id).copied() else { return };
        if !self.receive(key, bytes, fin) {
            self.stop(key, Error::Internal.stream_code(), actions);
        }
    }

    /// The peer reset its half of a bidirectional stream.
    pub(crate) fn stream_reset(&mut self, id: StreamId, code: Code) {
        if let Some(key) = self.by_stream.get(&id).copied() {
            self.peer_reset(key, code);
        }
    }

    /// The peer sent STOP_SENDING for our half of a bidirectional stream. The answer is a reset.
    pub(crate) fn stream_stopped(
        &mut self,
        id: StreamId,
        code: Code,
        actions: &mut VecDeque<Action>,
    ) {
        if let Some(key) = self.by_stream.get(&id).copied() {
            if self.peer_stopped(key, code) {
                actions.push_back(Action::Reset { id, code });
            }
        }
    }

    pub(crate) fn stream_writable(&mut self, id: StreamId) {
        let Some(key) = self.by_stream.get(&id).copied() else { return };
        self.set_blocked(key, false);
        self.queue_write(key);
    }

    pub(crate) fn read_limit(&self, id: StreamId) -> usize {
        let request = self.by_stream.get(&id).and_then(|key| self.slab.get(*key));
        request.map_or(0, |request| request.recv.read_limit(self.buffer))
    }

    // ---- towards QUIC: output ----------------------------------------------------------------

    /// QUIC opened a stream: it goes to the request that waits longest.
    pub(crate) fn stream_granted(&mut self, id: StreamId) {
        let Some((_, key)) = self.unopened.pop_first() else { return };
        if let Some(request) = self.slab.get_mut(key) {
            request.stream = RequestStream::Own(Some(id));
            self.by_stream.insert(id, key);
            self.queue_write(key);
        }
        if self.unopened.is_empty() {
            self.tell_of_room();
        }
    }

    /// The next request that may have something to write. It stays the next one until
    /// [`accepted`](Self::accepted) or [`pop_writable`](Self::pop_writable).
    pub(crate) fn next_writable(&mut self) -> Option<Key> {
        while let Some(key) = self.writable.front().copied() {
            let reachable = self.slab.get(key).is_some_and(|request| match request.stream {
                RequestStream::Own(id) => id.is_some() && !request.blocked,
                RequestStream::Within(_) | RequestStream::None => true,
            });
            if reachable {
                return Some(key);
            }
            self.pop_writable();
        }
        None
    }

    /// The next request has nothing to write after all.
    pub(crate) fn pop_writable(&mut self) {
        let key = self.writable.pop_front();
        if let Some(request) = key.and_then(|key| self.slab.get_mut(key)) {
            request.write_queued = false;
        }
    }

    /// The next write of the request: stream, bytes, and whether FIN follows them.
    pub(crate) fn offer(&mut self, key: Key) -> Option<(StreamId, Bytes, bool)> {
        let request = self.slab.get_mut(key)?;
        let stream = request.stream()?;
        if !request.send.has_work() {
            return None;
        }
        let (bytes, fin) = request.send.offer(MAX_OFFER);
        Some((stream, bytes, fin))
    }

    /// QUIC accepted `n` bytes of the last offer, and FIN if `fin`. `blocked`: it accepts no more
    /// for now.
    pub(crate) fn accepted(&mut self, key: Key, n: usize, fin: bool, blocked: bool) {
        self.pop_writable();
        let Some(request) = self.slab.get_mut(key) else { return };
        request.send.accepted(n, fin);
        self.set_blocked(key, blocked);
        if fin {
            // The dialect looks whether the request is over.
            self.queue_read(key);
        } else {
            // After the others: the dialect may have more to write by then.
            self.queue_write(key);
            self.tell_of_room();
        }
    }

    /// Whether something that was written waits for QUIC.
    pub(crate) fn has_unsent(&self) -> bool {
        self.blocked > 0 || !self.writable.is_empty() || !self.unopened.is_empty()
    }

    /// Whether a bidirectional stream should be opened.
    pub(crate) fn wants_stream(&self) -> bool {
        let first = self.unopened.keys().next();
        first.is_some_and(|order| self.last_allowed.is_none_or(|last| *order <= last))
    }

    /// Whether a request may have something to write now.
    pub(crate) fn has_writable(&self) -> bool {
        !self.writable.is_empty()
    }

    // ---- the peer's half ---------------------------------------------------------------------

    /// Appends bytes of the peer. Returns `false` if it ignores the read limit.
    pub(crate) fn receive(&mut self, key: Key, bytes: Bytes, fin: bool) -> bool {
        let buffer = self.buffer;
        let Some(request) = self.slab.get_mut(key) else { return true };
        let fair = request.recv.push(bytes, fin, buffer);
        self.queue_read(key);
        fair
    }

    pub(crate) fn peer_reset(&mut self, key: Key, code: Code) {
        if let Some(request) = self.slab.get_mut(key) {
            request.recv.reset_by_peer(code);
            self.queue_read(key);
        }
    }

    /// Our half is stopped. Returns `true` if it was open.
    pub(crate) fn peer_stopped(&mut self, key: Key, code: Code) -> bool {
        let Some(request) = self.slab.get_mut(key) else { return false };
        let was_open = request.send.abandon();
        request.stopped.get_or_insert(code);
        self.queue_read(key);
        was_open
    }

    fn remove(&mut self, key: Key) -> Option<Request> {
        let request = self.slab.remove(key)?;
        self.incoming -= usize::from(request.incoming);
        self.blocked -= usize::from(request.blocked);
        self.waiting_for_room.remove(&key);
        match request.stream {
            RequestStream::Own(Some(id)) => drop(self.by_stream.remove(&id)),
            RequestStream::Own(None) => drop(self.unopened.remove(&request.open_order)),
            RequestStream::Within(_) | RequestStream::None => {}
        }
        Some(request)
    }

    fn set_blocked(&mut self, key: Key, blocked: bool) {
        let Some(request) = self.slab.get_mut(key) else { return };
        self.blocked -= usize::from(request.blocked);
        self.blocked += usize::from(blocked);
        request.blocked = blocked;
    }
}

census! { each Request {
    within: recv, send;
    plain: stream, open_order, blocked, read_queued, write_queued, incoming, stopped, updates, has_goaway, unconfirmed,
        early_updates;
} }
census! { Requests {
    counts: by_stream, readable, writable, unopened, waiting_for_room, blocked, incoming;
    within: slab;
    plain: last_order, last_allowed, max_incoming, buffer;
} }
