//! The guards of the three kinds of output that QUIC may refuse: a stream to open, bytes to write, a
//! datagram to send. A guard that is dropped loses and consumes nothing.

use bytes::{Bytes, BytesMut};

use super::engine::{Core, GroupRef, GroupWrite};
use super::io::Action;
use super::recording::digest::WriteDigest;
use super::recording::format::{Kind, hash};
use super::recording::recorder::Recorder;
use crate::slab::Key;
use crate::stream::{Dir, StreamId};

/// The purpose of a new stream.
#[derive(Clone, Copy, Debug)]
pub(super) enum OpenTarget {
    Control,
    Request,
    Group(GroupRef),
}

/// A stream that should be opened, and its priority. Dropping it changes nothing.
#[derive(Debug)]
#[must_use = "answer with opened() or blocked()"]
pub struct Open<'a> {
    pub(super) core: &'a mut Core,
    pub(super) target: OpenTarget,
    pub(super) priority: i32,
    pub(super) recorder: Option<&'a mut Recorder>,
}

impl Open<'_> {
    /// The direction of the stream.
    pub fn dir(&self) -> Dir {
        match self.target {
            OpenTarget::Request => Dir::Bi,
            OpenTarget::Control | OpenTarget::Group(_) => Dir::Uni,
        }
    }

    /// The priority for QUIC's own scheduler; higher goes first.
    pub fn priority(&self) -> i32 {
        self.priority
    }

    /// The stream is open. Its priority follows as an [`Action::SetPriority`].
    pub fn opened(self, id: StreamId) {
        if let Some(recorder) = self.recorder {
            recorder.record(Kind::Opened, &[&id]);
        }
        let core = self.core;
        core.actions.push_back(Action::SetPriority { id, priority: self.priority });
        match self.target {
            OpenTarget::Control => {
                if let Some(control) = &mut core.control {
                    control.stream = Some(id);
                }
            }
            OpenTarget::Request => core.requests.stream_granted(id),
            OpenTarget::Group(group_ref) => core.schedule.opened(group_ref, id),
        }
    }

    /// There is no credit: no stream of this direction is asked for until
    /// [`Input::Available`](super::Input::Available).
    pub fn blocked(self) {
        let dir = self.dir();
        if let Some(recorder) = self.recorder {
            recorder.record(Kind::OpenBlocked, &[]);
        }
        self.core.no_credit[dir as usize] = true;
    }
}

/// Whose bytes a guard shows.
#[derive(Clone, Copy, Debug)]
pub(super) enum WriteTarget {
    Control,
    Request(Key),
    Group(GroupWrite),
}

/// Bytes for one stream, as slices of the cache. Dropping it loses and consumes nothing.
#[derive(Debug)]
#[must_use = "answer with accepted() or blocked()"]
pub struct Write<'a> {
    pub(super) core: &'a mut Core,
    pub(super) target: WriteTarget,
    pub(super) id: StreamId,
    pub(super) fin: bool,
    pub(super) recorder: Option<&'a mut Recorder>,
}

impl Write<'_> {
    /// The stream that the bytes are for.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The bytes. They are handles, which the transport may take or split.
    pub fn chunks(&mut self) -> &mut [Bytes] {
        &mut self.core.scratch.chunks
    }

    /// The target as a trace records it.
    pub(super) fn digest(&self) -> WriteDigest {
        let hash = hash(self.core.scratch.chunks.iter().map(|chunk| &**chunk));
        WriteDigest { id: self.id, len: self.len(), fin: self.fin, hash }
    }

    /// How many bytes are offered. 0 is FIN alone.
    pub fn len(&self) -> usize {
        self.core.scratch.total
    }

    /// Whether there are no bytes, only FIN.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the stream is to be finished after these bytes, if all of them are taken.
    pub fn fin(&self) -> bool {
        self.fin
    }

    /// The transport took the first `bytes` bytes, and FIN if it took all of them and [`Write::fin`] is
    /// set. The rest is offered again.
    pub fn accepted(self, bytes: usize) {
        self.done(bytes, false);
    }

    /// The transport took the first `bytes` bytes, not all of them, and takes no more on this stream until
    /// [`Input::Writable`](super::Input::Writable).
    pub fn blocked(self, bytes: usize) {
        self.done(bytes, true);
    }

    fn done(self, bytes: usize, blocked: bool) {
        let n = bytes.min(self.len());
        if let Some(recorder) = self.recorder {
            recorder.record(Kind::Taken, &[&n, &blocked]);
        }
        let fin = self.fin && n == self.core.scratch.total && !blocked;
        let core = self.core;
        core.counts.bytes_sent += n as u64;
        match self.target {
            WriteTarget::Control => {
                if let Some(control) = &mut core.control {
                    control.send.accepted(n, fin);
                    control.blocked = blocked;
                }
            }
            WriteTarget::Request(key) => core.requests.accepted(key, n, fin, blocked),
            WriteTarget::Group(write) => {
                let frames = core.schedule.accepted(write, n, blocked, &core.scratch, core.now);
                core.counts.frames_sent += frames;
            }
        }
    }
}

/// One QUIC datagram to send: a group of one frame, or an object of a group (moq-transport). Dropping it loses and consumes nothing.
#[derive(Debug)]
#[must_use = "answer with sent() or blocked()"]
pub struct Datagram<'a> {
    pub(super) core: &'a mut Core,
    pub(super) group_ref: GroupRef,
    pub(super) recorder: Option<&'a mut Recorder>,
}

impl Datagram<'_> {
    /// Everything before the payload.
    pub fn header(&self) -> &[u8] {
        &self.core.scratch.chunks[0]
    }

    /// The payload, as it lies in the cache.
    pub fn payload(&self) -> &Bytes {
        &self.core.scratch.chunks[1]
    }

    /// Size of both together: at most [`NetworkPath::max_datagram`](super::NetworkPath::max_datagram). That of a group of
    /// one frame is never more than 1,200 bytes.
    pub fn size(&self) -> usize {
        self.core.scratch.total
    }

    /// The target as a trace records it.
    pub(super) fn digest(&self) -> (usize, [u8; 8]) {
        (self.size(), hash([self.header(), self.payload()]))
    }

    /// Both in one piece, for a transport that needs it.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.size());
        bytes.extend_from_slice(self.header());
        bytes.extend_from_slice(self.payload());
        bytes.freeze()
    }

    /// QUIC took the datagram. It may still lose it.
    pub fn sent(self) {
        let bytes = self.size();
        if let Some(recorder) = self.recorder {
            recorder.record(Kind::DatagramTaken, &[&false]);
        }
        let core = self.core;
        core.counts.bytes_sent += bytes as u64;
        core.counts.frames_sent += 1;
        core.schedule.datagram_sent(self.group_ref, bytes);
    }

    /// QUIC has no room: no datagram is offered until
    /// [`Input::DatagramsAvailable`](super::Input::DatagramsAvailable).
    pub fn blocked(self) {
        if let Some(recorder) = self.recorder {
            recorder.record(Kind::DatagramTaken, &[&true]);
        }
        self.core.datagrams.blocked = true;
    }
}
