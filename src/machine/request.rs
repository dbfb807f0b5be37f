//! The seam between streams and dialects: a *request* is bytes in and bytes out under a key, with
//! finish, cancel and credit. A [`Way`] says what that is on the wire.
//!
//! On moq-lite, and on moq-transport from draft 17 on, a request is a bidirectional stream. Before, it
//! is a number in the messages of another request, the control stream. A dialect decides for each
//! request; nothing else here or in the machine takes the one for the other.

use alloc::collections::{BTreeMap, VecDeque};
use core::mem;

use bytes::{Bytes, BytesMut};

use super::io::Action;
use super::schedule::CONTROL_PRIORITY;
use super::streams::{Recv, Send};
use crate::census::census;
use crate::error::Error;
use crate::slab::{Key, Slab};
use crate::stream::{Code, StreamId};

/// How a request travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// On a bidirectional stream of its own, once there is one.
    Stream(Option<StreamId>),
    /// As messages within another request. The dialect says on the wire what ends it.
    Within(Key),
    /// Not at all: it stands for what a dialect does unasked.
    Local,
}

/// One request, of the peer or of ours.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) recv: Recv,
    pub(super) send: Send,
    way: Way,
    /// When it was made, among those that want a stream.
    turn: u64,
    /// QUIC takes no more for now.
    parked: bool,
    queued_in: bool,
    queued_out: bool,
    theirs: bool,
    /// The peer reads no more of our half.
    stopped: Option<Code>,
}

impl Request {
    fn new(way: Way, theirs: bool) -> Self {
        let (recv, send) = Default::default();
        Self {
            recv,
            send,
            way,
            turn: 0,
            parked: false,
            queued_in: false,
            queued_out: false,
            theirs,
            stopped: None,
        }
    }

    /// Of a request of the peer: the code with which it abandoned either half.
    pub(super) fn given_up(&self) -> Option<Code> {
        self.recv.reset().or(self.stopped)
    }

    fn stream(&self) -> Option<StreamId> {
        match self.way {
            Way::Stream(id) => id,
            Way::Within(_) | Way::Local => None,
        }
    }
}

/// Bytes that QUIC may take now, and FIN behind them.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) stream: StreamId,
    pub(super) bytes: Bytes,
    pub(super) fin: bool,
}

/// All requests of a session, and which of them want something.
#[derive(Debug)]
pub(super) struct Requests {
    slab: Slab<Request>,
    by_stream: BTreeMap<StreamId, Key>,
    readable: VecDeque<Key>,
    writable: VecDeque<Key>,
    /// Requests of ours that want a stream, by their turn.
    unopened: BTreeMap<u64, Key>,
    /// Those that must not open yet, while any must not.
    held: Option<BTreeMap<u64, Key>>,
    last_turn: u64,
    local: Option<Key>,
    /// How many wait for QUIC to take more.
    parked: usize,
    theirs: usize,
    max_theirs: usize,
    buffer: usize,
}

/// No request has this key.
const NOWHERE: Key = (u32::MAX, u32::MAX);

/// Control bytes that one guard shows at most.
const MAX_OFFER: usize = 16 << 10;

impl Requests {
    pub(super) fn new(max_theirs: usize, buffer: usize) -> Self {
        Self {
            slab: Slab::new(),
            by_stream: BTreeMap::new(),
            readable: VecDeque::new(),
            writable: VecDeque::new(),
            unopened: BTreeMap::new(),
            held: None,
            last_turn: 0,
            local: None,
            parked: 0,
            theirs: 0,
            max_theirs,
            buffer,
        }
    }

    // ---- towards the dialect -----------------------------------------------------------------

    /// A request of ours on a stream of its own, which opens when there is credit.
    pub(super) fn open(&mut self) -> Key {
        self.last_turn += 1;
        let request = Request { turn: self.last_turn, ..Request::new(Way::Stream(None), false) };
        let key = self.slab.insert(request);
        self.held.as_mut().unwrap_or(&mut self.unopened).insert(self.last_turn, key);
        key
    }

    /// Streams of requests that are made from now on do not open, until [`Requests::release`].
    pub(super) fn hold(&mut self) {
        self.held.get_or_insert_default();
    }

    /// What was held may open.
    pub(super) fn release(&mut self) {
        self.unopened.extend(self.held.take().unwrap_or_default());
    }

    /// A request of ours within another one.
    pub(super) fn open_within(&mut self, carrier: Key) -> Key {
        self.slab.insert(Request::new(Way::Within(carrier), false))
    }

    /// One that waits for what it will travel within: nothing goes out before [`Requests::bind`].
    pub(super) fn open_unbound(&mut self) -> Key {
        self.slab.insert(Request::new(Way::Within(NOWHERE), false))
    }

    /// From now on the request travels within `carrier`, if it waited for that.
    pub(super) fn bind(&mut self, key: Key, carrier: Key) {
        if let Some(request) = self.slab.get_mut(key) {
            if request.way == Way::Within(NOWHERE) {
                request.way = Way::Within(carrier);
            }
        }
    }

    /// A request that the peer knows nothing of, and that opens others: it is looked at when there is
    /// room for them. One a session.
    pub(super) fn open_local(&mut self) -> Key {
        let key = self.slab.insert(Request::new(Way::Local, false));
        self.local = Some(key);
        key
    }

    /// A request of the peer within another one. `None` past the limit.
    pub(super) fn accept_within(&mut self, carrier: Key) -> Option<Key> {
        self.accept(Way::Within(carrier))
    }

    fn accept(&mut self, way: Way) -> Option<Key> {
        if self.theirs >= self.max_theirs {
            return None;
        }
        self.theirs += 1;
        Some(self.slab.insert(Request::new(way, true)))
    }

    pub(super) fn get(&mut self, key: Key) -> Option<&mut Request> {
        self.slab.get_mut(key)
    }

    pub(super) fn is_theirs(&self, key: Key) -> bool {
        self.slab.get(key).is_some_and(|request| request.theirs)
    }

    pub(super) fn is_within(&self, key: Key) -> bool {
        self.slab.get(key).is_some_and(|request| matches!(request.way, Way::Within(_)))
    }

    /// Who writes for `key`: itself, or what it travels within.
    fn writer(&self, key: Key) -> Key {
        match self.slab.get(key).map(|request| request.way) {
            Some(Way::Within(carrier)) => carrier,
            _ => key,
        }
    }

    /// Encodes behind what waits to go out.
    pub(super) fn write(&mut self, key: Key, encode: impl FnOnce(&mut BytesMut)) {
        let writer = self.writer(key);
        if self.slab.get(key).is_none_or(|request| request.send.is_over()) {
            return;
        }
        let Some(request) = self.slab.get_mut(writer) else { return };
        if !request.send.is_over() {
            encode(request.send.buffer());
            self.queue_out(writer);
        }
    }

    /// Bytes that were written and not taken yet, of the request and all that share its stream.
    pub(super) fn owed(&self, key: Key) -> usize {
        self.slab.get(self.writer(key)).map_or(usize::MAX, |request| request.send.len())
    }

    /// Nothing more goes out behind what was written.
    pub(super) fn finish(&mut self, key: Key) {
        let Some(request) = self.slab.get_mut(key) else { return };
        request.send.finish();
        if matches!(request.way, Way::Stream(_)) {
            self.queue_out(key);
        } else {
            // The dialect wrote what says so.
            request.send.accepted(0, true);
            self.queue_in(key);
        }
    }

    /// Whether nothing of a request can have gone out, for want of a stream.
    pub(super) fn is_unopened(&self, key: Key) -> bool {
        self.slab.get(key).is_some_and(|request| request.way == Way::Stream(None))
    }

    /// Forgets a request of which nothing can have gone out. `false` if something may have.
    pub(super) fn withdraw(&mut self, key: Key) -> bool {
        self.is_unopened(key) && self.remove(key).is_some()
    }

    /// Gives our half to the schedule of groups: for the request it is over. `None` if it is, or if the
    /// request has no stream to itself.
    pub(super) fn lend_send(&mut self, key: Key) -> Option<StreamId> {
        let request = self.slab.get_mut(key)?;
        let stream = request.stream()?;
        request.send.abandon().then_some(stream)
    }

    /// Gives the peer's half, with what came of it, to the groups that come in: for the request it is
    /// over.
    pub(super) fn lend_recv(&mut self, key: Key) -> Option<(StreamId, Recv)> {
        let request = self.slab.get_mut(key)?;
        let stream = request.stream()?;
        let recv = mem::take(&mut request.recv);
        request.recv.abandon(Error::Closed.stream_code());
        Some((stream, recv))
    }

    /// How urgent our half is from now on, where the request has a stream to itself.
    pub(super) fn set_priority(&mut self, key: Key, priority: i32, actions: &mut VecDeque<Action>) {
        if let Some(id) = self.slab.get(key).and_then(Request::stream) {
            actions.push_back(Action::SetPriority { id, priority });
        }
    }

    /// Ends both halves at once and forgets the request.
    pub(super) fn cancel(&mut self, key: Key, error: &Error, actions: &mut VecDeque<Action>) {
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

    /// Reads the rest for nothing, and forgets the request if both halves are over.
    pub(super) fn retire(&mut self, key: Key) -> bool {
        let Some(request) = self.slab.get_mut(key) else { return false };
        request.recv.discard();
        let over = request.recv.is_over() && request.send.is_over();
        if over {
            self.remove(key);
        }
        over
    }

    /// Nothing more that the peer says on this request counts.
    pub(super) fn stop(&mut self, key: Key, code: Code, actions: &mut VecDeque<Action>) {
        let Some(request) = self.slab.get_mut(key) else { return };
        request.recv.abandon(code);
        if let Some(id) = request.stream() {
            actions.push_back(Action::Stop { id, code });
        }
        self.queue_in(key);
    }

    /// Decoding made room, or needs more bytes if `starved`: reads on if the stream was held.
    pub(super) fn consumed(&mut self, key: Key, starved: bool, actions: &mut VecDeque<Action>) {
        let buffer = self.buffer;
        let Some(request) = self.slab.get_mut(key) else { return };
        if request.recv.release(buffer, starved) {
            actions.extend(request.stream().map(|id| Action::Resume { id }));
        }
    }

    /// The next request whose input wants a look.
    pub(super) fn next_readable(&mut self) -> Option<Key> {
        while let Some(key) = self.readable.pop_front() {
            if let Some(request) = self.slab.get_mut(key) {
                request.queued_in = false;
                return Some(key);
            }
        }
        None
    }

    /// Looks at the request's input again.
    pub(super) fn queue_in(&mut self, key: Key) {
        let Some(request) = self.slab.get_mut(key) else { return };
        if !request.queued_in {
            request.queued_in = true;
            self.readable.push_back(key);
        }
    }

    /// Looks at what the request has to write again.
    pub(super) fn queue_out(&mut self, key: Key) {
        let Some(request) = self.slab.get_mut(key) else { return };
        if !request.queued_out && !request.parked {
            request.queued_out = true;
            self.writable.push_back(key);
        }
    }

    pub(super) fn has_readable(&self) -> bool {
        !self.readable.is_empty()
    }

    // ---- towards QUIC: input -----------------------------------------------------------------

    /// The peer opened a bidirectional stream.
    pub(super) fn stream_opened(&mut self, id: StreamId, actions: &mut VecDeque<Action>) {
        if self.by_stream.contains_key(&id) {
            return;
        }
        let Some(key) = self.accept(Way::Stream(Some(id))) else {
            let code = Error::Limit("requests").stream_code();
            actions.push_back(Action::Reset { id, code });
            actions.push_back(Action::Stop { id, code });
            return;
        };
        self.by_stream.insert(id, key);
        actions.push_back(Action::SetPriority { id, priority: CONTROL_PRIORITY });
    }

    /// Bytes of a bidirectional stream.
    pub(super) fn stream_data(
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
    pub(super) fn stream_reset(&mut self, id: StreamId, code: Code) {
        if let Some(key) = self.by_stream.get(&id).copied() {
            self.peer_reset(key, code);
        }
    }

    /// The peer wants no more of our half of a bidirectional stream.
    pub(super) fn stream_stopped(
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

    pub(super) fn stream_writable(&mut self, id: StreamId) {
        let Some(key) = self.by_stream.get(&id).copied() else { return };
        self.park(key, false);
        self.queue_out(key);
    }

    pub(super) fn read_limit(&self, id: StreamId) -> usize {
        let request = self.by_stream.get(&id).and_then(|key| self.slab.get(*key));
        request.map_or(0, |request| request.recv.read_limit(self.buffer))
    }

    // ---- towards QUIC: output ----------------------------------------------------------------

    /// The stream that was wanted is there.
    pub(super) fn stream_granted(&mut self, id: StreamId) {
        let Some((_, key)) = self.unopened.pop_first() else { return };
        if let Some(request) = self.slab.get_mut(key) {
            request.way = Way::Stream(Some(id));
            self.by_stream.insert(id, key);
            self.queue_out(key);
        }
        if let Some(local) = self.local.filter(|_| self.unopened.is_empty()) {
            self.queue_out(local);
        }
    }

    /// The next request that may have something to write. It stays the next until
    /// [`taken`](Self::taken), or [`wrote_all`](Self::wrote_all).
    pub(super) fn next_writable(&mut self) -> Option<Key> {
        while let Some(key) = self.writable.front().copied() {
            let reachable = self.slab.get(key).is_some_and(|request| match request.way {
                Way::Stream(id) => id.is_some() && !request.parked,
                Way::Within(_) | Way::Local => true,
            });
            if reachable {
                return Some(key);
            }
            self.wrote_all();
        }
        None
    }

    /// The next request has nothing to write after all.
    pub(super) fn wrote_all(&mut self) {
        let key = self.writable.pop_front();
        if let Some(request) = key.and_then(|key| self.slab.get_mut(key)) {
            request.queued_out = false;
        }
    }

    /// What the request has to write.
    pub(super) fn offer(&mut self, key: Key) -> Option<Offer> {
        let request = self.slab.get_mut(key)?;
        let stream = request.stream()?;
        if !request.send.has_work() {
            return None;
        }
        let (bytes, fin) = request.send.offer(MAX_OFFER);
        Some(Offer { stream, bytes, fin })
    }

    /// `n` bytes of the last offer were taken, FIN too if `fin`; `parked`: no more for now.
    pub(super) fn taken(&mut self, key: Key, n: usize, fin: bool, parked: bool) {
        self.wrote_all();
        let Some(request) = self.slab.get_mut(key) else { return };
        request.send.accepted(n, fin);
        self.park(key, parked);
        if fin {
            // The dialect looks whether the request is over.
            self.queue_in(key);
        } else {
            // Behind the others; the dialect may have more to say by then.
            self.queue_out(key);
            // So may what is said on this one unasked, and waited for room.
            if let Some(local) = self.local {
                self.queue_out(local);
            }
        }
    }

    /// Whether anything that was written waits to be taken.
    pub(super) fn owes(&self) -> bool {
        let is_held = self.held.as_ref().is_some_and(|held| !held.is_empty());
        self.parked > 0 || !self.writable.is_empty() || !self.unopened.is_empty() || is_held
    }

    /// Whether a bidirectional stream is to be opened.
    pub(super) fn wants_stream(&self) -> bool {
        !self.unopened.is_empty()
    }

    /// Whether a request may have something to write now.
    pub(super) fn has_writable(&self) -> bool {
        !self.writable.is_empty()
    }

    // ---- the peer's half ---------------------------------------------------------------------

    /// `false` if the peer ignores the read limit.
    pub(super) fn receive(&mut self, key: Key, bytes: Bytes, fin: bool) -> bool {
        let buffer = self.buffer;
        let Some(request) = self.slab.get_mut(key) else { return true };
        let fair = request.recv.push(bytes, fin, buffer);
        self.queue_in(key);
        fair
    }

    pub(super) fn peer_reset(&mut self, key: Key, code: Code) {
        if let Some(request) = self.slab.get_mut(key) {
            request.recv.reset_by_peer(code);
            self.queue_in(key);
        }
    }

    /// `true` if our half ends by it.
    pub(super) fn peer_stopped(&mut self, key: Key, code: Code) -> bool {
        let Some(request) = self.slab.get_mut(key) else { return false };
        let was_open = request.send.abandon();
        request.stopped.get_or_insert(code);
        self.queue_in(key);
        was_open
    }

    fn remove(&mut self, key: Key) -> Option<Request> {
        let request = self.slab.remove(key)?;
        self.theirs -= usize::from(request.theirs);
        self.parked -= usize::from(request.parked);
        match request.way {
            Way::Stream(Some(id)) => drop(self.by_stream.remove(&id)),
            Way::Stream(None) => {
                self.unopened.remove(&request.turn);
                self.held.iter_mut().for_each(|held| _ = held.remove(&request.turn));
            }
            Way::Within(_) | Way::Local => {}
        }
        Some(request)
    }

    fn park(&mut self, key: Key, parked: bool) {
        let Some(request) = self.slab.get_mut(key) else { return };
        self.parked -= usize::from(request.parked);
        self.parked += usize::from(parked);
        request.parked = parked;
    }

    /// Everything that is remembered.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        let held = self.held.as_ref().map_or(0, BTreeMap::len);
        let queues = self.readable.len() + self.writable.len() + self.unopened.len() + held;
        self.slab.len() + self.by_stream.len() + queues
    }
}

census! { each Request {
    within: recv, send;
    plain: way, turn, parked, queued_in, queued_out, theirs, stopped;
} }
census! { Requests {
    counts: by_stream, readable, writable, unopened, held, local, parked, theirs;
    within: slab;
    plain: last_turn, max_theirs, buffer;
} }
