//! The receive halves that carry groups or set-up: the peer's unidirectional streams, and the halves of
//! bidirectional streams on which the peer answers a FETCH. This module holds their buffers and states, and
//! chooses the one that is read next.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::cmp::Reverse;

use bytes::Bytes;

use super::fetches::FetchId;
use crate::census::census;
use crate::error::{Error, LimitKind};
use crate::limits::Limits;
use crate::machine::chunks::Chunks;
use crate::machine::event::Subgroup;
use crate::machine::io::Action;
use crate::machine::layout::{FrameStart, HeadReader, Item, Layout};
use crate::machine::stream_buffers::{RecvBuffer, buffer_limit};
use crate::properties::Properties;
use crate::slab::{Key, Slab};
use crate::stream::{Code, StreamId};
use crate::time::{Instant, Timestamp};

/// Frames up to this size are reported at once, even if they arrived in several pieces.
const AT_ONCE: u64 = 16 << 10;

/// The receive halves of a session that carry groups or set-up.
#[derive(Debug, Default)]
pub(crate) struct RecvStreams {
    streams: Slab<RecvStream>,
    by_stream: BTreeMap<StreamId, Key>,
    /// Streams whose purpose is not known yet, and control streams.
    new: VecDeque<Key>,
    /// Groups that may have something to decode: the most urgent first, and equally urgent ones in
    /// turns.
    frames: BTreeSet<(Reverse<u8>, u64, Key)>,
    turn: u64,
    /// Streams that wait for their subscription or track, and until when.
    held: VecDeque<(Instant, Key)>,
    max_streams: usize,
    buffer: usize,
    /// The memory of the stream that ended last, for the next one.
    spare: RecvBuffer,
}

/// One receive half.
#[derive(Debug)]
pub(crate) struct RecvStream {
    pub(crate) id: StreamId,
    pub(crate) recv: RecvBuffer,
    pub(crate) state: StreamState,
    queued: bool,
}

#[derive(Debug)]
pub(crate) enum StreamState {
    /// The stream type has not arrived.
    New,
    /// It carries set-up, and what the dialect sends after it.
    Control,
    /// It answers a FETCH, and its first frame has not arrived.
    Answer(FetchId),
    /// The group header has not arrived completely.
    Header,
    /// Its subscription is not known yet, or the track of that.
    Waiting(GroupHeader),
    /// The part of a group from a later frame on. It waits for a FETCH of the frames before.
    Tail(TailStream),
    /// It carries frames.
    Group(GroupReader),
}

/// A stream that begins inside of its group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TailStream {
    /// Its subscription.
    pub(crate) owner: Key,
    pub(crate) header: GroupHeader,
    /// The frames before have begun to arrive.
    pub(crate) has_begun: bool,
}

/// The header before the frames of a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupHeader {
    /// The number of the subscription.
    pub(crate) subscription: u64,
    pub(crate) sequence: u64,
    pub(crate) first_frame: u64,
    pub(crate) part: GroupPart,
    /// Reported by the event that begins the group, if it is wanted.
    pub(crate) subgroup: Option<Subgroup>,
    pub(crate) layout: Layout,
}

/// Which part of a group a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupPart {
    /// The group, from `first_frame` on.
    Group,
    /// A part without the first frame: another subgroup, or what follows a gap.
    Other,
    /// Nothing: the track ends before this group.
    EndOfTrack,
}

/// Reads the frames of a group.
#[derive(Debug)]
pub(crate) struct GroupReader {
    pub(crate) owner: GroupOwner,
    priority: u8,
    heads: HeadReader,
    /// Timestamp of the previous frame.
    previous: Timestamp,
    frames: u64,
    /// How many payloads arrived that are no frames of the group.
    foreign: u64,
    bytes: u64,
    /// How many frames may arrive, or others in their place.
    limit: u64,
    /// Payload of the current frame that has not arrived.
    missing: u64,
    /// That payload is no frame of the group, and is thrown away.
    is_foreign: bool,
    /// A status said that nothing follows.
    ended: bool,
}

/// The request that asked for a group.
#[derive(Clone, Copy, Debug)]
pub(crate) enum GroupOwner {
    Subscription(Key),
    Fetch(FetchId),
}

/// The result of reading from a group once.
pub(crate) enum GroupRead {
    Frame {
        timestamp: Option<Timestamp>,
        properties: Option<Properties>,
        size: u64,
        payload: Chunks,
    },
    Payload(Bytes),
    /// Something that is no frame of the group.
    Skipped,
    NeedMore,
    End,
}

impl RecvStreams {
    pub(crate) fn new(limits: &Limits) -> Self {
        let buffer = buffer_limit(limits);
        Self { max_streams: limits.group_streams, buffer, ..Self::default() }
    }

    // ---- towards QUIC ------------------------------------------------------------------------

    pub(crate) fn opened(&mut self, id: StreamId, actions: &mut VecDeque<Action>) {
        if self.by_stream.contains_key(&id) {
            return;
        }
        if self.streams.len() >= self.max_streams {
            let code = Error::Limit(LimitKind::GroupStreams).stream_code();
            actions.push_back(Action::Stop { id, code });
            return;
        }
        let recv = core::mem::take(&mut self.spare);
        let stream = RecvStream { id, recv, state: StreamState::New, queued: false };
        self.by_stream.insert(id, self.streams.insert(stream));
    }

    pub(crate) fn data(
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

    pub(crate) fn reset(&mut self, id: StreamId, code: Code) {
        let Some(key) = self.by_stream.get(&id).copied() else { return };
        if let Some(stream) = self.streams.get_mut(key) {
            stream.recv.reset_by_peer(code);
            self.queue(key);
        }
    }

    pub(crate) fn read_limit(&self, id: StreamId) -> usize {
        let stream = self.by_stream.get(&id).and_then(|key| self.streams.get(*key));
        stream.map_or(0, |stream| stream.recv.read_limit(self.buffer))
    }

    /// Forgets the stream, and sends STOP_SENDING if the peer has not finished it.
    pub(crate) fn stop(
        &mut self,
        actions: &mut VecDeque<Action>,
        key: Key,
        error: &Error,
    ) -> Option<RecvStream> {
        let mut stream = self.remove(key)?;
        if !stream.recv.is_over() {
            let code = error.stream_code();
            actions.push_back(Action::Stop { id: stream.id, code });
        }
        self.spare = core::mem::take(&mut stream.recv).recycle();
        Some(stream)
    }

    // ---- towards the dialect -----------------------------------------------------------------

    pub(crate) fn get(&mut self, key: Key) -> Option<&mut RecvStream> {
        self.streams.get_mut(key)
    }

    pub(crate) fn has_new(&self) -> bool {
        !self.new.is_empty()
    }

    pub(crate) fn has_frames(&self) -> bool {
        !self.frames.is_empty()
    }

    /// The next stream whose purpose is to be found out.
    pub(crate) fn next_new(&mut self) -> Option<Key> {
        let key = self.new.pop_front()?;
        if let Some(stream) = self.streams.get_mut(key) {
            stream.queued = false;
        }
        Some(key)
    }

    /// The next group to read.
    pub(crate) fn next_frames(&mut self) -> Option<Key> {
        let (_, _, key) = self.frames.pop_first()?;
        if let Some(stream) = self.streams.get_mut(key) {
            stream.queued = false;
        }
        Some(key)
    }

    /// The type of the stream is known: it is read as such from now on.
    pub(crate) fn sort(&mut self, key: Key, state: StreamState) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.state = state;
            self.queue(key);
        }
    }

    /// Makes the stream be read again.
    pub(crate) fn queue(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.queued {
            return;
        }
        stream.queued = true;
        let priority = match &stream.state {
            StreamState::New | StreamState::Control | StreamState::Answer(_) => {
                return self.new.push_back(key);
            }
            StreamState::Header | StreamState::Waiting(..) | StreamState::Tail(_) => u8::MAX,
            StreamState::Group(reading) => reading.priority,
        };
        self.turn += 1;
        self.frames.insert((Reverse(priority), self.turn, key));
    }

    /// From here on the stream is read as a group of the subscription `sub`.
    pub(crate) fn begin(&mut self, key: Key, layout: Layout, sub: Key, priority: u8) {
        if let Some(stream) = self.streams.get_mut(key) {
            let (owner, heads) = (GroupOwner::Subscription(sub), HeadReader::Frames(layout));
            stream.state = StreamState::Group(GroupReader::new(owner, priority, heads, u64::MAX));
        }
    }

    /// From here on the stream is read as the answer to a FETCH.
    pub(crate) fn begin_answer(&mut self, key: Key, reader: GroupReader) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.state = StreamState::Group(reader);
            self.queue(key);
        }
    }

    /// Makes the stream wait for the frames before its first one.
    pub(crate) fn wait_for_head(&mut self, key: Key, tail: TailStream) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.recv.hold();
            stream.state = StreamState::Tail(tail);
        }
    }

    /// The stream that waits for the frames before its first one.
    pub(crate) fn tail_mut(&mut self, key: Key) -> Option<&mut TailStream> {
        match &mut self.streams.get_mut(key)?.state {
            StreamState::Tail(tail) => Some(tail),
            _ => None,
        }
    }

    /// Whether an event said that the group of this stream begins.
    pub(crate) fn has_begun(&self, key: Key) -> bool {
        match self.streams.get(key).map(|stream| &stream.state) {
            Some(StreamState::Tail(tail)) => tail.has_begun,
            Some(StreamState::Group(_)) => true,
            _ => false,
        }
    }

    /// Takes over the peer's half of a request, which is read as frames from now on.
    pub(crate) fn adopt(&mut self, id: StreamId, recv: RecvBuffer, reading: GroupReader) -> Key {
        let state = StreamState::Group(reading);
        let key = self.streams.insert(RecvStream { id, recv, state, queued: false });
        self.by_stream.insert(id, key);
        self.queue(key);
        key
    }

    /// Whether the stream is one of these.
    pub(crate) fn has(&self, id: StreamId) -> bool {
        self.by_stream.contains_key(&id)
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<RecvStream> {
        let stream = self.streams.remove(key)?;
        self.by_stream.remove(&stream.id);
        Some(stream)
    }

    fn waits_for(&self, key: Key) -> Option<u64> {
        match self.streams.get(key)?.state {
            StreamState::Waiting(header) => Some(header.subscription),
            _ => None,
        }
    }

    /// Whether a stream waits for the subscription of this number.
    pub(crate) fn holds_for(&self, number: u64) -> bool {
        self.held.iter().any(|(_, key)| self.waits_for(*key) == Some(number))
    }

    /// Makes a stream wait for its subscription or track until `until`, if it does not already. Returns
    /// `true` if no other stream waits.
    pub(crate) fn hold(&mut self, key: Key, header: GroupHeader, until: Instant) -> bool {
        let Some(stream) = self.streams.get_mut(key) else { return false };
        if matches!(stream.state, StreamState::Waiting(_)) {
            return false;
        }
        stream.recv.hold();
        stream.state = StreamState::Waiting(header);
        self.held.push_back((until, key));
        self.held.len() == 1
    }

    /// The stream that waits longest, and until when.
    pub(crate) fn oldest_held(&self) -> Option<(Instant, Key)> {
        self.held.front().copied()
    }

    /// Takes the stream that waits longest off the list if more than `max` wait.
    pub(crate) fn pop_held_past(&mut self, max: usize) -> Option<Key> {
        let is_past = self.held.len() > max;
        is_past.then(|| self.held.pop_front()).flatten().map(|(_, key)| key)
    }

    /// Takes the streams that wait for this subscription off the list.
    pub(crate) fn take_held(&mut self, number: u64) -> Vec<Key> {
        let held = core::mem::take(&mut self.held);
        let (taken, left): (VecDeque<_>, _) =
            held.into_iter().partition(|(_, key)| self.waits_for(*key) == Some(number));
        self.held = left;
        taken.into_iter().map(|(_, key)| key).collect()
    }

    /// Reads on with the streams that waited for this subscription.
    pub(crate) fn release_held(&mut self, number: u64, actions: &mut VecDeque<Action>) {
        for key in self.take_held(number) {
            self.release(key, true, actions);
            self.queue(key);
        }
    }

    /// Decoding made room, or needs more bytes if `starved`: resumes the stream if it was held.
    pub(crate) fn release(&mut self, key: Key, starved: bool, actions: &mut VecDeque<Action>) {
        let limit = self.buffer;
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.recv.release(limit, starved) {
            actions.push_back(Action::Resume { id: stream.id });
        }
    }

    /// Bytes that wait to be decoded.
    #[cfg(test)]
    pub(crate) fn buffered(&self) -> usize {
        self.streams.iter().map(|stream| stream.recv.len()).sum()
    }
}

impl GroupReader {
    pub(crate) fn new(owner: GroupOwner, priority: u8, heads: HeadReader, limit: u64) -> Self {
        let (previous, missing, is_foreign, ended) = Default::default();
        let (frames, foreign, bytes) = Default::default();
        Self {
            owner,
            priority,
            heads,
            previous,
            frames,
            foreign,
            bytes,
            limit,
            missing,
            is_foreign,
            ended,
        }
    }

    /// Reads on with the rest of the group, from another stream.
    pub(crate) fn resume(self, owner: GroupOwner, layout: Layout) -> Self {
        let heads = HeadReader::Tail(layout, self.frames);
        Self { owner, heads, limit: u64::MAX, ..self }
    }

    /// How many frames were read.
    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }

    /// Reads the next frame, or a piece of one. A frame or group that declares more than the limits
    /// allow is an error before its payload is read. A payload of several chunks takes the empty `list`.
    pub(crate) fn read(
        &mut self,
        recv: &mut RecvBuffer,
        limits: &Limits,
        list: &mut Vec<Bytes>,
    ) -> Result<GroupRead, Error> {
        if let Some(code) = recv.reset() {
            return Err(Error::from_stream_code(code));
        }
        if self.missing > 0 {
            if recv.len() == 0 {
                return if recv.has_fin() {
                    Err(Error::WrongSize)
                } else {
                    Ok(GroupRead::NeedMore)
                };
            }
            let bytes = recv.take_some(usize::try_from(self.missing).unwrap_or(usize::MAX));
            self.missing -= bytes.len() as u64;
            return Ok(if self.is_foreign {
                GroupRead::Skipped
            } else {
                GroupRead::Payload(bytes)
            });
        }
        if recv.is_finished() || self.ended {
            return Ok(GroupRead::End);
        }
        let (head, is_foreign) = match self.heads.read(recv, self.previous)? {
            Item::Frame(head) => (head, false),
            Item::Foreign(size) => (FrameStart { timestamp: None, properties: None, size }, true),
            Item::End => return Ok(GroupRead::End),
            Item::NeedMore if recv.has_fin() => return Err(Error::WrongSize),
            Item::NeedMore => return Ok(GroupRead::NeedMore),
        };
        if head.size > limits.frame_bytes {
            return Err(Error::FrameTooLarge);
        }
        let count = if is_foreign { &mut self.foreign } else { &mut self.frames };
        *count += 1;
        // Properties are kept with the frame.
        let properties = head.properties.as_ref().map_or(0, Properties::len) as u64;
        self.bytes = self.bytes.saturating_add(head.size).saturating_add(properties);
        let most = limits.group_frames.min(self.limit);
        if self.frames + self.foreign > most || self.bytes > limits.group_bytes {
            return Err(Error::GroupTooLarge);
        }
        self.is_foreign = is_foreign;
        self.ended = head.properties.as_ref().is_some_and(|it| it.status != 0);
        self.previous = head.timestamp.unwrap_or_default();
        let there = recv.len() as u64;
        let payload = if head.size <= there && head.size <= AT_ONCE {
            recv.take_chunks(head.size as usize, list)
        } else {
            recv.take_some(usize::try_from(head.size).unwrap_or(usize::MAX)).into()
        };
        self.missing = head.size - payload.len() as u64;
        if is_foreign {
            return Ok(GroupRead::Skipped);
        }
        let FrameStart { timestamp, properties, size } = head;
        Ok(GroupRead::Frame { timestamp, properties, size, payload })
    }
}

census! { each RecvStream { within: recv; plain: id, state, queued; } }
census! { RecvStreams {
    counts: by_stream, new, frames, held;
    within: streams;
    plain: turn, max_streams, buffer, spare;
} }
