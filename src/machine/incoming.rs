//! The peer's unidirectional streams: what they hold, and which of them is looked at next.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::cmp::Reverse;

use bytes::Bytes;

use super::Core;
use super::io::{Action, Token};
use super::layout::{Item, Layout};
use super::streams::{Recv, buffer};
use super::timers::Timer;
use crate::census::census;
use crate::error::Error;
use crate::limits::Limits;
use crate::slab::{Key, Slab};
use crate::stream::{Code, StreamId};
use crate::time::{Instant, Timestamp};

/// Frames up to this are given out in one piece, even if they came in two.
const JOIN_MAX: u64 = 16 << 10;

#[derive(Debug)]
pub(super) struct Incoming {
    streams: Slab<Stream>,
    by_stream: BTreeMap<StreamId, Key>,
    /// Streams of which it is not known yet what they are for.
    new: VecDeque<Key>,
    /// Groups that have something to decode, the most urgent first, in turns.
    frames: BTreeSet<(Reverse<u8>, u64, Key)>,
    turn: u64,
    /// Those that wait for their subscription or track, and until when.
    held: VecDeque<(Instant, Key)>,
    max_streams: usize,
    buffer: usize,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) recv: Recv,
    pub(super) state: State,
    queued: bool,
}

#[derive(Debug)]
pub(super) enum State {
    /// The stream type has not come.
    New,
    /// It carries set-up, and what the dialect has behind it.
    Control,
    /// The group header has not come whole.
    Header,
    /// It is not known yet which subscription it is for, or what its track is.
    Waiting(Header),
    /// Frames.
    Group(Reading),
}

/// What stands before the frames of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    /// The number of the subscription.
    pub(super) subscription: u64,
    pub(super) sequence: u64,
    pub(super) first_frame: u64,
    pub(super) part: Part,
    pub(super) layout: Layout,
}

/// What a stream has of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The group, from `first_frame` on.
    Group,
    /// Something that has no place in it: another subgroup, or what goes on behind a gap.
    Other,
    /// Nothing: the track ends before this group.
    EndOfTrack,
}

/// How far a group was read.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) owner: Owner,
    priority: u8,
    layout: Layout,
    /// Timestamp of the frame before.
    previous: Timestamp,
    frames: u64,
    bytes: u64,
    /// Frames that may come.
    max_frames: u64,
    /// Payload of the current frame that has not come.
    missing: u64,
}

/// Who asked for a group.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owner {
    Subscription(Key),
    Fetch(Token),
}

/// What one look at a group gave.
pub(super) enum Read {
    Frame { timestamp: Option<Timestamp>, size: u64, payload: Bytes },
    Payload(Bytes),
    Nothing,
    End,
}

impl Incoming {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            streams: Slab::new(),
            by_stream: BTreeMap::new(),
            new: VecDeque::new(),
            frames: BTreeSet::new(),
            turn: 0,
            held: VecDeque::new(),
            max_streams: limits.group_streams,
            buffer: buffer(limits),
        }
    }

    // ---- towards QUIC ------------------------------------------------------------------------

    pub(super) fn opened(&mut self, id: StreamId, actions: &mut VecDeque<Action>) {
        if self.by_stream.contains_key(&id) {
            return;
        }
        if self.streams.len() >= self.max_streams {
            let code = Error::Limit("group streams").stream_code();
            actions.push_back(Action::Stop { id, code });
            return;
        }
        let stream = Stream { id, recv: Recv::default(), state: State::New, queued: false };
        self.by_stream.insert(id, self.streams.insert(stream));
    }

    pub(super) fn data(
        &mut self,
        id: StreamId,
        bytes: Bytes,
        fin: bool,
        actions: &mut VecDeque<Action>,
    ) {
        let Some(key) = self.by_stream.get(&id).copied() else { return };
        let Some(stream) = self.streams.get_mut(key) else { return };
        if !stream.recv.push(bytes, fin, self.buffer) {
            let code = Error::Internal.stream_code();
            stream.recv.abandon(code);
            actions.push_back(Action::Stop { id, code });
        }
        self.queue(key);
    }

    pub(super) fn reset(&mut self, id: StreamId, code: Code) {
        let Some(key) = self.by_stream.get(&id).copied() else { return };
        if let Some(stream) = self.streams.get_mut(key) {
            stream.recv.reset_by_peer(code);
            self.queue(key);
        }
    }

    pub(super) fn read_limit(&self, id: StreamId) -> usize {
        let stream = self.by_stream.get(&id).and_then(|key| self.streams.get(*key));
        stream.map_or(0, |stream| stream.recv.read_limit(self.buffer))
    }

    /// STOP_SENDING, and forgets the stream.
    pub(super) fn stop(&mut self, actions: &mut VecDeque<Action>, key: Key, error: &Error) {
        let Some(stream) = self.remove(key) else { return };
        if !stream.recv.is_over() {
            let code = error.stream_code();
            actions.push_back(Action::Stop { id: stream.id, code });
        }
    }

    // ---- towards the dialect -----------------------------------------------------------------

    pub(super) fn get(&mut self, key: Key) -> Option<&mut Stream> {
        self.streams.get_mut(key)
    }

    pub(super) fn has_new(&self) -> bool {
        !self.new.is_empty()
    }

    pub(super) fn has_frames(&self) -> bool {
        !self.frames.is_empty()
    }

    /// The next stream to ask what it is for.
    pub(super) fn next_new(&mut self) -> Option<Key> {
        let key = self.new.pop_front()?;
        if let Some(stream) = self.streams.get_mut(key) {
            stream.queued = false;
        }
        Some(key)
    }

    /// The next group to read.
    pub(super) fn next_frames(&mut self) -> Option<Key> {
        let (_, _, key) = self.frames.pop_first()?;
        if let Some(stream) = self.streams.get_mut(key) {
            stream.queued = false;
        }
        Some(key)
    }

    /// Looks at the stream again.
    pub(super) fn queue(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.queued {
            return;
        }
        stream.queued = true;
        let priority = match &stream.state {
            State::New | State::Control => return self.new.push_back(key),
            State::Header | State::Waiting(..) => u8::MAX,
            State::Group(reading) => reading.priority,
        };
        self.turn += 1;
        self.frames.insert((Reverse(priority), self.turn, key));
    }

    /// From here on the stream is read as a group of the subscription `sub`.
    pub(super) fn begin(&mut self, key: Key, layout: Layout, sub: Key, priority: u8) {
        if let Some(stream) = self.streams.get_mut(key) {
            let owner = Owner::Subscription(sub);
            stream.state = State::Group(Reading::new(owner, priority, layout, u64::MAX));
        }
    }

    /// Takes over the peer's half of a request, to be read as frames.
    pub(super) fn adopt(&mut self, id: StreamId, recv: Recv, reading: Reading) -> Key {
        let state = State::Group(reading);
        let key = self.streams.insert(Stream { id, recv, state, queued: false });
        self.by_stream.insert(id, key);
        self.queue(key);
        key
    }

    /// Whether the stream is one of these.
    pub(super) fn has(&self, id: StreamId) -> bool {
        self.by_stream.contains_key(&id)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Stream> {
        let stream = self.streams.remove(key)?;
        self.by_stream.remove(&stream.id);
        Some(stream)
    }

    fn waits_for(&self, key: Key) -> Option<u64> {
        match self.streams.get(key)?.state {
            State::Waiting(header) => Some(header.subscription),
            _ => None,
        }
    }

    /// Whether some stream waits for the subscription of this number.
    pub(super) fn holds_for(&self, number: u64) -> bool {
        self.held.iter().any(|(_, key)| self.waits_for(*key) == Some(number))
    }

    /// Takes those that wait for this subscription off the list.
    fn take_held(&mut self, number: u64) -> VecDeque<(Instant, Key)> {
        let held = core::mem::take(&mut self.held);
        let (taken, left) =
            held.into_iter().partition(|(_, key)| self.waits_for(*key) == Some(number));
        self.held = left;
        taken
    }

    /// Everything that is remembered.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        let queues = self.new.len() + self.frames.len() + self.held.len();
        self.streams.len() + self.by_stream.len() + queues
    }

    /// Bytes that wait to be decoded.
    #[cfg(test)]
    pub(super) fn buffered(&self) -> usize {
        self.streams.iter().map(|stream| stream.recv.len()).sum()
    }
}

/// Streams that wait to be bound: not read on, bounded in number and time.
impl Core {
    pub(super) fn hold(&mut self, key: Key, header: Header) {
        let Some(stream) = self.incoming.get(key) else { return };
        stream.recv.hold();
        stream.state = State::Waiting(header);
        let until = self.now + self.limits.unbound_time;
        if self.incoming.held.is_empty() {
            self.timers.set(until, Timer::Unbound);
        }
        self.incoming.held.push_back((until, key));
        if self.incoming.held.len() > self.limits.unbound_streams {
            if let Some((_, oldest)) = self.incoming.held.pop_front() {
                let error = Error::Limit("unbound streams");
                self.incoming.stop(&mut self.actions, oldest, &error);
            }
        }
    }

    /// What waited for this subscription is read on.
    pub(super) fn release_held(&mut self, number: u64) {
        for (_, key) in self.incoming.take_held(number) {
            let limit = self.incoming.buffer;
            let Some(stream) = self.incoming.get(key) else { continue };
            if stream.recv.release(limit, true) {
                self.actions.push_back(Action::Resume { id: stream.id });
            }
            self.incoming.queue(key);
        }
    }

    /// What waited for this subscription is not wanted.
    pub(super) fn drop_held(&mut self, number: u64, error: &Error) {
        for (_, key) in self.incoming.take_held(number) {
            self.incoming.stop(&mut self.actions, key, error);
        }
    }

    pub(super) fn unbound_timeout(&mut self) {
        while let Some((until, key)) = self.incoming.held.front().copied() {
            if until > self.now {
                self.timers.set(until, Timer::Unbound);
                return;
            }
            self.incoming.held.pop_front();
            self.incoming.stop(&mut self.actions, key, &Error::Timeout);
        }
    }
}

impl Reading {
    pub(super) fn new(owner: Owner, priority: u8, layout: Layout, max_frames: u64) -> Self {
        let (previous, frames, bytes, missing) = Default::default();
        Self { owner, priority, layout, previous, frames, bytes, max_frames, missing }
    }

    pub(super) fn read(&mut self, recv: &mut Recv, limits: &Limits) -> Result<Read, Error> {
        if let Some(code) = recv.reset() {
            return Err(Error::from_stream_code(code));
        }
        if self.missing > 0 {
            if recv.len() == 0 {
                return if recv.has_fin() { Err(Error::WrongSize) } else { Ok(Read::Nothing) };
            }
            let bytes = recv.take_some(usize::try_from(self.missing).unwrap_or(usize::MAX));
            self.missing -= bytes.len() as u64;
            return Ok(Read::Payload(bytes));
        }
        if recv.is_finished() {
            return Ok(Read::End);
        }
        let head = match self.layout.read(recv, self.previous)? {
            Item::Frame(head) => head,
            Item::End => return Ok(Read::End),
            Item::Nothing if recv.has_fin() => return Err(Error::WrongSize),
            Item::Nothing => return Ok(Read::Nothing),
        };
        if head.size > limits.frame_bytes {
            return Err(Error::FrameTooLarge);
        }
        self.frames += 1;
        self.bytes = self.bytes.saturating_add(head.size);
        let most = limits.group_frames.min(self.max_frames);
        if self.frames > most || self.bytes > limits.group_bytes {
            return Err(Error::GroupTooLarge);
        }
        self.previous = head.timestamp.unwrap_or_default();
        let there = recv.len() as u64;
        let payload = if head.size <= there && head.size <= JOIN_MAX {
            recv.take(head.size as usize)
        } else {
            recv.take_some(usize::try_from(head.size).unwrap_or(usize::MAX))
        };
        self.missing = head.size - payload.len() as u64;
        Ok(Read::Frame { timestamp: head.timestamp, size: head.size, payload })
    }
}

census! { each Stream { within: recv; plain: id, state, queued; } }
census! { Incoming {
    counts: by_stream, new, frames, held;
    within: streams;
    plain: turn, max_streams, buffer;
} }
