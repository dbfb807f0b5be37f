//! What the peer sends on unidirectional streams: SETUP once, and groups.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::cmp::Reverse;

use bytes::Bytes;

use super::super::Core;
use super::super::app::{Event, GroupKey};
use super::super::io::Action;
use super::super::streams::{Recv, buffer};
use super::super::timers::Timer;
use super::{Lite, Look, read_message};
use crate::coding::lite::{FrameHead, GroupHeader, Setup, UniStream};
use crate::coding::varint;
use crate::error::Error;
use crate::limits::Limits;
use crate::slab::{Key, Slab};
use crate::stream::{Code, StreamId};
use crate::time::{Instant, Timestamp};

/// Frames up to this are given out in one piece, even if they came in two.
const JOIN_MAX: u64 = 16 << 10;

/// The peer's unidirectional streams.
#[derive(Debug)]
pub(super) struct Groups {
    streams: Slab<Incoming>,
    by_stream: BTreeMap<StreamId, Key>,
    /// Streams of which it is not known yet what they are for.
    new: VecDeque<Key>,
    /// Groups that have something to decode, the most urgent first, in turns.
    frames: BTreeSet<(Reverse<u8>, u64, Key)>,
    turn: u64,
    /// Those that wait for their track, and until when.
    waiting: VecDeque<(Instant, Key)>,
}

#[derive(Debug)]
struct Incoming {
    id: StreamId,
    recv: Recv,
    state: State,
    queued: bool,
}

#[derive(Debug)]
enum State {
    /// The stream type has not come.
    Type,
    /// SETUP has not come whole.
    Setup,
    /// The group header has not come whole.
    Header,
    /// The subscription waits to hear what its track is.
    Waiting(GroupHeader, Key),
    /// Frames.
    Group(Reading),
}

/// How far a group was read.
#[derive(Clone, Debug)]
struct Reading {
    sub: Key,
    priority: u8,
    /// Timestamp of the frame before.
    previous: Timestamp,
    frames: u64,
    bytes: u64,
    /// Payload of the current frame that has not come.
    missing: u64,
}

impl Groups {
    pub(super) fn new() -> Self {
        Self {
            streams: Slab::new(),
            by_stream: BTreeMap::new(),
            new: VecDeque::new(),
            frames: BTreeSet::new(),
            turn: 0,
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn opened(&mut self, core: &mut Core, id: StreamId) {
        if self.by_stream.contains_key(&id) {
            return;
        }
        if self.streams.len() >= core.limits.group_streams {
            let code = Error::Limit("group streams").stream_code();
            core.actions.push_back(Action::Stop { id, code });
            return;
        }
        let incoming = Incoming { id, recv: Recv::default(), state: State::Type, queued: false };
        self.by_stream.insert(id, self.streams.insert(incoming));
    }

    pub(super) fn data(&mut self, core: &mut Core, id: StreamId, bytes: Bytes, fin: bool) {
        let Some(key) = self.by_stream.get(&id).copied() else { return };
        let Some(stream) = self.streams.get_mut(key) else { return };
        if !stream.recv.push(bytes, fin, buffer(&core.limits)) {
            let code = Error::Internal.stream_code();
            stream.recv.abandon(code);
            core.actions.push_back(Action::Stop { id, code });
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

    pub(super) fn read_limit(&self, core: &Core, id: StreamId) -> usize {
        let stream = self.by_stream.get(&id).and_then(|key| self.streams.get(*key));
        stream.map_or(0, |stream| stream.recv.read_limit(buffer(&core.limits)))
    }

    /// Lets a group be read that waited for its track.
    pub(super) fn release(&mut self, core: &mut Core, key: Key) {
        self.waiting.retain(|(_, waiting)| *waiting != key);
        let limit = buffer(&core.limits);
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.recv.release(limit, true) {
            core.actions.push_back(Action::Resume { id: stream.id });
        }
        self.queue(key);
    }

    /// STOP_SENDING, and forgets the stream.
    pub(super) fn stop(&mut self, core: &mut Core, key: Key, error: &Error) {
        let Some(stream) = self.remove(key) else { return };
        if !stream.recv.is_over() {
            let code = error.stream_code();
            core.actions.push_back(Action::Stop { id: stream.id, code });
        }
    }

    pub(super) fn has_new(&self) -> bool {
        !self.new.is_empty()
    }

    pub(super) fn has_frames(&self) -> bool {
        !self.frames.is_empty()
    }

    pub(super) fn next_new(&mut self) -> Option<Key> {
        let key = self.new.pop_front()?;
        if let Some(stream) = self.streams.get_mut(key) {
            stream.queued = false;
        }
        Some(key)
    }

    pub(super) fn next_frames(&mut self) -> Option<Key> {
        let (_, _, key) = self.frames.pop_first()?;
        if let Some(stream) = self.streams.get_mut(key) {
            stream.queued = false;
        }
        Some(key)
    }

    fn queue(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.queued {
            return;
        }
        stream.queued = true;
        let priority = match &stream.state {
            State::Type | State::Setup => return self.new.push_back(key),
            State::Header | State::Waiting(..) => u8::MAX,
            State::Group(reading) => reading.priority,
        };
        self.turn += 1;
        self.frames.insert((Reverse(priority), self.turn, key));
    }

    /// Everything that is remembered.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        let queues = self.new.len() + self.frames.len() + self.waiting.len();
        self.streams.len() + self.by_stream.len() + queues
    }

    /// Bytes that wait to be decoded.
    #[cfg(test)]
    pub(super) fn buffered(&self) -> usize {
        self.streams.iter().map(|stream| stream.recv.len()).sum()
    }

    fn remove(&mut self, key: Key) -> Option<Incoming> {
        let stream = self.streams.remove(key)?;
        self.by_stream.remove(&stream.id);
        Some(stream)
    }
}

impl Lite {
    /// Reads what a stream is for, and SETUP.
    pub(super) fn look_at_new_uni(&mut self, core: &mut Core, key: Key) -> Look {
        let Some(stream) = self.groups.streams.get_mut(key) else { return Look::More };
        if stream.recv.reset().is_some() {
            self.groups.remove(key);
            return Look::More;
        }
        if matches!(stream.state, State::Type) {
            let mut front = [0; 8];
            let Some((kind, len)) = varint::read(stream.recv.peek(&mut front)) else {
                if stream.recv.has_fin() {
                    self.groups.remove(key);
                }
                return Look::More;
            };
            stream.recv.skip(len);
            match UniStream::from_u64(kind, self.version) {
                Some(UniStream::Group) => {
                    stream.state = State::Header;
                    self.groups.queue(key);
                    return Look::More;
                }
                Some(UniStream::Setup) => stream.state = State::Setup,
                None => {
                    self.groups.stop(core, key, &Error::Cancelled);
                    return Look::More;
                }
            }
        }
        let message = read_message(&mut stream.recv, false, core.limits.message_bytes);
        let body = match message {
            Ok(Some((_, body))) => body,
            Ok(None) if !stream.recv.has_fin() => return Look::More,
            Ok(None) | Err(_) => {
                core.violation("malformed SETUP");
                return Look::Wait;
            }
        };
        let setup = Setup::decode_body(&body, self.version);
        match (setup, &self.peer) {
            (Ok(setup), None) => self.peer = Some(setup),
            (Ok(_), Some(_)) => core.violation("second SETUP"),
            (Err(_), _) => core.violation("malformed SETUP"),
        }
        // Bytes behind the message mean nothing.
        self.groups.stop(core, key, &Error::Cancelled);
        Look::More
    }

    /// Reads the header of a group, or its next frame or piece of one.
    pub(super) fn look_at_group(&mut self, core: &mut Core, key: Key) -> Look {
        let Some(stream) = self.groups.streams.get_mut(key) else { return Look::More };
        let look = match &mut stream.state {
            State::Type | State::Setup => return Look::More,
            State::Header => match self.read_header(core, key) {
                Ok(look) => look,
                Err(error) => {
                    self.groups.stop(core, key, &error);
                    return Look::More;
                }
            },
            State::Waiting(header, sub) => {
                let (header, sub) = (*header, *sub);
                if self.subs.get(sub).is_some_and(|sub| sub.info.is_none()) {
                    // Only its reset would matter now, and it will be seen later.
                    return Look::More;
                }
                self.bind(core, key, header, sub)
            }
            State::Group(reading) => {
                let mut next = reading.clone();
                let read = next.read(&mut stream.recv, self.version, &core.limits);
                stream.state = State::Group(next.clone());
                let group = GroupKey(key.0, key.1);
                match read {
                    Ok(Read::Frame { timestamp, size, payload }) => {
                        let timestamp = self.features.timestamps.then_some(timestamp);
                        Look::Event(Event::Frame { group, timestamp, size, payload })
                    }
                    Ok(Read::Payload(bytes)) => Look::Event(Event::Payload { group, bytes }),
                    Ok(Read::Nothing) => Look::Wait,
                    Ok(Read::End) => return self.group_ended(core, key, next.sub, Ok(())),
                    Err(error) => return self.group_ended(core, key, next.sub, Err(error)),
                }
            }
        };
        if let Some(stream) = self.groups.streams.get_mut(key) {
            let starved = matches!(look, Look::Wait);
            let waits = matches!(stream.state, State::Waiting(..));
            if !waits && stream.recv.release(buffer(&core.limits), starved) {
                core.actions.push_back(Action::Resume { id: stream.id });
            }
            if !starved {
                self.groups.queue(key);
            }
        }
        // Others may have something still.
        if matches!(look, Look::Wait) { Look::More } else { look }
    }

    fn group_ended(
        &mut self,
        core: &mut Core,
        key: Key,
        sub_key: Key,
        result: Result<(), Error>,
    ) -> Look {
        let error = result.clone().err().unwrap_or(Error::Cancelled);
        self.groups.stop(core, key, &error);
        if let Some(sub) = self.subs.get_mut(sub_key) {
            sub.active.retain(|active| *active != key);
            self.check_over(core, sub_key);
        }
        Look::Event(Event::GroupEnded { group: GroupKey(key.0, key.1), result })
    }

    fn read_header(&mut self, core: &mut Core, key: Key) -> Result<Look, Error> {
        let Some(stream) = self.groups.streams.get_mut(key) else { return Ok(Look::Wait) };
        if let Some(code) = stream.recv.reset() {
            return Err(Error::from_stream_code(code));
        }
        let message = read_message(&mut stream.recv, false, core.limits.message_bytes)?;
        let Some((_, body)) = message else {
            return if stream.recv.has_fin() { Err(Error::Cancelled) } else { Ok(Look::Wait) };
        };
        let header = GroupHeader::decode_body(&body, self.version)?;
        let sub_key = *self.sub_by_id.get(&header.subscribe).ok_or(Error::Cancelled)?;
        let sub = self.subs.get_mut(sub_key).ok_or(Error::Cancelled)?;
        if sub.info.is_some() {
            return Ok(self.bind(core, key, header, sub_key));
        }
        if core.limits.unbound_streams == 0 {
            return Err(Error::Limit("unbound streams"));
        }
        stream.recv.hold();
        stream.state = State::Waiting(header, sub_key);
        sub.waiting.push(key);
        let until = core.now + core.limits.unbound_time;
        if self.groups.waiting.is_empty() {
            core.timers.set(until, Timer::Unbound);
        }
        self.groups.waiting.push_back((until, key));
        if self.groups.waiting.len() > core.limits.unbound_streams {
            if let Some((_, oldest)) = self.groups.waiting.front().copied() {
                self.drop_waiting(core, oldest, &Error::Limit("unbound streams"));
            }
        }
        Ok(Look::Wait)
    }

    fn bind(&mut self, core: &mut Core, key: Key, header: GroupHeader, sub_key: Key) -> Look {
        let Some(sub) = self.subs.get_mut(sub_key) else {
            self.groups.stop(core, key, &Error::Cancelled);
            return Look::Wait;
        };
        // We always ask for whole groups, and a peer drops what is below the start it promised.
        let unwanted =
            sub.late || header.first_frame != 0 || sub.start.is_some_and(|it| header.sequence < it);
        if unwanted {
            self.groups.stop(core, key, &Error::Cancelled);
            return Look::Wait;
        }
        sub.active.push(key);
        sub.seen += 1;
        let event = Event::Group {
            subscription: sub.token,
            group: GroupKey(key.0, key.1),
            sequence: header.sequence,
            first_frame: header.first_frame,
        };
        if let Some(stream) = self.groups.streams.get_mut(key) {
            stream.state = State::Group(Reading {
                sub: sub_key,
                priority: sub.priority,
                previous: Timestamp::ZERO,
                frames: 0,
                bytes: 0,
                missing: 0,
            });
        }
        Look::Event(event)
    }

    pub(super) fn stop_group(&mut self, core: &mut Core, key: Key, error: &Error) {
        let Some(stream) = self.groups.streams.get(key) else { return };
        if let State::Group(reading) = &stream.state {
            let sub = reading.sub;
            let _ = self.group_ended(core, key, sub, Err(error.clone()));
        }
    }

    pub(in crate::machine) fn unbound_timeout(&mut self, core: &mut Core) {
        while let Some((until, key)) = self.groups.waiting.front().copied() {
            if until > core.now {
                core.timers.set(until, Timer::Unbound);
                return;
            }
            self.drop_waiting(core, key, &Error::Timeout);
        }
    }

    fn drop_waiting(&mut self, core: &mut Core, key: Key, error: &Error) {
        self.groups.waiting.retain(|(_, waiting)| *waiting != key);
        let stream = self.groups.streams.get(key);
        if let Some(Incoming { state: State::Waiting(_, sub), .. }) = stream {
            if let Some(sub) = self.subs.get_mut(*sub) {
                sub.waiting.retain(|waiting| *waiting != key);
            }
        }
        self.groups.stop(core, key, error);
    }
}

/// What one look at a group gave.
enum Read {
    Frame { timestamp: Timestamp, size: u64, payload: Bytes },
    Payload(Bytes),
    Nothing,
    End,
}

impl Reading {
    fn read(
        &mut self,
        recv: &mut Recv,
        version: crate::Version,
        limits: &Limits,
    ) -> Result<Read, Error> {
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
        let mut front = [0; 16];
        let Some((head, len)) = FrameHead::read(recv.peek(&mut front), version)? else {
            return if recv.has_fin() { Err(Error::WrongSize) } else { Ok(Read::Nothing) };
        };
        if head.size > limits.frame_bytes {
            return Err(Error::FrameTooLarge);
        }
        self.frames += 1;
        self.bytes = self.bytes.saturating_add(head.size);
        if self.frames > limits.group_frames || self.bytes > limits.group_bytes {
            return Err(Error::GroupTooLarge);
        }
        let timestamp = head
            .timestamp(self.previous)
            .map_err(|_| Error::Malformed(crate::DecodeError::BoundsExceeded))?;
        self.previous = timestamp;
        recv.skip(len);
        let there = recv.len() as u64;
        let payload = if head.size <= there && head.size <= JOIN_MAX {
            recv.take(head.size as usize)
        } else {
            recv.take_some(usize::try_from(head.size).unwrap_or(usize::MAX))
        };
        self.missing = head.size - payload.len() as u64;
        Ok(Read::Frame { timestamp, size: head.size, payload })
    }
}
