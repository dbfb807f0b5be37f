//! Recording: a machine with a recorder beside it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::mem;

use super::field::{Bad, Field, Rest, put_bytes, put_number};
use super::{Kind, MAGIC, Sink, hash};
use crate::census::census;
use crate::machine::{
    Action, Announcement, Command, Config, Counts, Datagram, Event, FrameView, Input, Machine,
    Open, PathInfo, Run, Source, Supply, Token, Write,
};
use crate::stream::{Dir, StreamId};
use crate::time::Instant;
use crate::version::Version;

/// A [`Machine`] whose calls are recorded, if anybody wants that. Its calls are those of the machine.
#[derive(Debug)]
pub struct Recorded {
    machine: Machine,
    recorder: Option<Box<Recorder>>,
}

impl Recorded {
    /// A session that begins now. Without a sink nothing is recorded.
    pub fn new(config: Config, now: Instant, sink: Option<Box<dyn Sink>>) -> Self {
        let recorder = sink.map(|sink| Box::new(Recorder::new(sink, &config, now)));
        Self { machine: Machine::new(config, now), recorder }
    }

    /// As [`Machine::handle`].
    pub fn handle(&mut self, now: Instant, input: Input) {
        if let Some(recorder) = &mut self.recorder {
            recorder.record(Kind::Input, |out| {
                now.put(out);
                input.put(out);
            });
        }
        self.machine.handle(now, input);
    }

    /// As [`Machine::handle_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(recorder) = &mut self.recorder {
            recorder.record(Kind::Time, |out| now.put(out));
        }
        self.machine.handle_timeout(now);
    }

    /// As [`Machine::apply`].
    pub fn apply(&mut self, command: Command) {
        if let Some(recorder) = &mut self.recorder {
            recorder.record(Kind::Command, |out| command.put(out));
        }
        self.machine.apply(command);
    }

    /// As [`Machine::poll_event`].
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.machine.poll_event();
        if let Some(recorder) = &mut self.recorder {
            recorder.record(Kind::Event, |out| digested(event.clone()).put(out));
        }
        event
    }

    /// As [`Machine::poll_action`].
    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.machine.poll_action();
        if let Some(recorder) = &mut self.recorder {
            recorder.record(Kind::Action, |out| action.put(out));
        }
        action
    }

    /// As [`Machine::poll_open`].
    pub fn poll_open(&mut self, source: &mut impl Source) -> Option<Open<'_>> {
        let Some(recorder) = self.recorder.as_deref_mut() else {
            return self.machine.poll_open(source);
        };
        let mut open = self.machine.poll_open(&mut Tap { source, recorder });
        let shown = open.as_ref().map(|open| (open.dir(), open.priority()));
        recorder.record(Kind::Open, |out| shown.put(out));
        if let Some(open) = &mut open {
            open.recorder = Some(recorder);
        }
        open
    }

    /// As [`Machine::poll_write`].
    pub fn poll_write(&mut self, source: &mut impl Source) -> Option<Write<'_>> {
        let Some(recorder) = self.recorder.as_deref_mut() else {
            return self.machine.poll_write(source);
        };
        let mut write = self.machine.poll_write(&mut Tap { source, recorder });
        let shown = write.as_mut().map(Offer::of);
        recorder.record(Kind::Write, |out| shown.put(out));
        if let Some(write) = &mut write {
            write.recorder = Some(recorder);
        }
        write
    }

    /// As [`Machine::poll_datagram`].
    pub fn poll_datagram(&mut self, source: &mut impl Source) -> Option<Datagram<'_>> {
        let Some(recorder) = self.recorder.as_deref_mut() else {
            return self.machine.poll_datagram(source);
        };
        let mut datagram = self.machine.poll_datagram(&mut Tap { source, recorder });
        let shown = datagram.as_ref().map(Shown::of);
        recorder.record(Kind::Datagram, |out| shown.put(out));
        if let Some(datagram) = &mut datagram {
            datagram.recorder = Some(recorder);
        }
        datagram
    }

    /// As [`Machine::lost_datagrams`].
    pub fn lost_datagrams(&self) -> u64 {
        self.machine.lost_datagrams()
    }

    /// As [`Machine::version`].
    pub fn version(&self) -> Version {
        self.machine.version()
    }

    /// As [`Machine::poll_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }

    /// As [`Machine::has_work`].
    pub fn has_work(&self) -> bool {
        self.machine.has_work()
    }

    /// As [`Machine::read_limit`].
    pub fn read_limit(&self, id: StreamId) -> usize {
        self.machine.read_limit(id)
    }

    /// As [`Machine::is_closed`].
    pub fn is_closed(&self) -> bool {
        self.machine.is_closed()
    }

    /// As [`Machine::counts`].
    pub fn counts(&self) -> Counts {
        self.machine.counts()
    }

    /// As [`Machine::path`].
    pub fn path(&self) -> PathInfo {
        self.machine.path()
    }

    /// Bytes that the sink took so far, and whether it takes more; `None` if nothing is recorded.
    pub fn recording(&self) -> Option<(u64, bool)> {
        self.recorder.as_ref().map(|recorder| (recorder.written, recorder.sink.is_some()))
    }
}

/// Puts a length and a hash in the place of the payload, which an input has already.
pub(super) fn digested(mut event: Option<Event>) -> Option<Event> {
    if let Some(
        Event::Frame { payload: bytes, .. }
        | Event::Payload { bytes, .. }
        | Event::Datagram { payload: bytes, .. },
    ) = &mut event
    {
        let mut digest = Vec::new();
        put_number(bytes.len() as u64, &mut digest);
        digest.extend(hash([&**bytes]));
        *bytes = digest.into();
    }
    event
}

/// What [`Machine::poll_write`] gave, for comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) id: StreamId,
    pub(super) len: usize,
    pub(super) fin: bool,
    pub(super) hash: u64,
}

impl Offer {
    pub(super) fn of(write: &mut Write<'_>) -> Self {
        let (id, len, fin) = (write.id(), write.len(), write.fin());
        let hash = hash(write.chunks().iter().map(|chunk| &**chunk));
        Self { id, len, fin, hash: u64::from_le_bytes(hash) }
    }
}

impl Field for Offer {
    fn put(&self, out: &mut Vec<u8>) {
        self.id.put(out);
        self.len.put(out);
        self.fin.put(out);
        out.extend(self.hash.to_le_bytes());
    }

    fn take(from: &mut Rest<'_>) -> Result<Self, Bad> {
        let (id, len, fin) = (Field::take(from)?, Field::take(from)?, Field::take(from)?);
        Ok(Self { id, len, fin, hash: take_hash(from)? })
    }
}

/// What [`Machine::poll_datagram`] gave, for comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    len: usize,
    hash: u64,
}

impl Shown {
    pub(super) fn of(datagram: &Datagram<'_>) -> Self {
        let hash = hash([datagram.header(), datagram.payload()]);
        Self { len: datagram.size(), hash: u64::from_le_bytes(hash) }
    }
}

impl Field for Shown {
    fn put(&self, out: &mut Vec<u8>) {
        self.len.put(out);
        out.extend(self.hash.to_le_bytes());
    }

    fn take(from: &mut Rest<'_>) -> Result<Self, Bad> {
        Ok(Self { len: Field::take(from)?, hash: take_hash(from)? })
    }
}

fn take_hash(from: &mut Rest<'_>) -> Result<u64, Bad> {
    Ok(from.bytes(8)?.iter().rev().fold(0, |hash, byte| hash << 8 | u64::from(*byte)))
}

impl Field for (Dir, i32) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(from: &mut Rest<'_>) -> Result<Self, Bad> {
        Ok((Field::take(from)?, Field::take(from)?))
    }
}

/// Writes records to a [`Sink`] for as long as it takes them.
pub struct Recorder {
    sink: Option<Box<dyn Sink>>,
    written: u64,
    record: Vec<u8>,
    body: Vec<u8>,
    /// What a source shows, until its reply is over.
    views: Vec<u8>,
}

impl Recorder {
    fn new(sink: Box<dyn Sink>, config: &Config, now: Instant) -> Self {
        let (written, body, views) = Default::default();
        let mut recorder = Self { sink: Some(sink), written, record: MAGIC.to_vec(), body, views };
        recorder.record(Kind::Start, |out| {
            now.put(out);
            config.put(out);
        });
        recorder
    }

    fn record(&mut self, kind: Kind, put: impl FnOnce(&mut Vec<u8>)) {
        let Some(sink) = &mut self.sink else { return };
        self.body.clear();
        put(&mut self.body);
        self.record.push(kind as u8);
        put_bytes(&self.body, &mut self.record);
        match sink.write(&self.record) {
            Ok(()) => self.written += self.record.len() as u64,
            // For good: what would follow could not be replayed without what is missing.
            Err(_) => self.sink = None,
        }
        self.record.clear();
    }

    pub(in crate::machine) fn opened(&mut self, id: StreamId) {
        self.record(Kind::Opened, |out| id.put(out));
    }

    pub(in crate::machine) fn open_blocked(&mut self) {
        self.record(Kind::OpenBlocked, |_| ());
    }

    pub(in crate::machine) fn taken(&mut self, bytes: usize, blocked: bool) {
        self.record(Kind::Taken, |out| {
            bytes.put(out);
            blocked.put(out);
        });
    }

    pub(in crate::machine) fn datagram_taken(&mut self, blocked: bool) {
        self.record(Kind::DatagramTaken, |out| blocked.put(out));
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("written", &self.written).finish_non_exhaustive()
    }
}

/// A source that writes down what it says.
struct Tap<'a, S> {
    source: &'a mut S,
    recorder: &'a mut Recorder,
}

impl<S: Source> Source for Tap<'_, S> {
    fn frames(&mut self, group: Token, from: u64, run: &mut Run<'_>) -> Supply {
        // The run writes down what it is shown: it knows how much of that it can look at.
        run.tap = Some(mem::take(&mut self.recorder.views));
        let supply = self.source.frames(group, from, run);
        let mut views = run.tap.take().unwrap_or_default();
        self.recorder.record(Kind::Frames, |out| {
            group.put(out);
            from.put(out);
            supply.put(out);
            out.extend_from_slice(&views);
        });
        views.clear();
        self.recorder.views = views;
        supply
    }

    fn announcement(&mut self, reader: Token) -> Option<Announcement> {
        let announcement = self.source.announcement(reader);
        self.recorder.record(Kind::Announcement, |out| {
            reader.put(out);
            announcement.put(out);
        });
        announcement
    }
}

/// A frame that the machine had no room to look at.
pub(super) const UNSEEN: u8 = 0;
/// A frame that lies as it is written.
pub(super) const WIRE: u8 = 1;
/// A frame in pieces.
pub(super) const PIECES: u8 = 2;

/// Writes down a frame of which no more than `most` bytes behind its head can be looked at; `None`: nothing.
pub(in crate::machine) fn put_view(frame: &FrameView<'_>, most: Option<usize>, out: &mut Vec<u8>) {
    let Some(most) = most else { return out.push(UNSEEN) };
    let FrameView { timestamp, previous, size, wire, payload, offset } = frame;
    out.push(if wire.is_some() { WIRE } else { PIECES });
    timestamp.put(out);
    previous.put(out);
    size.put(out);
    if let Some(wire) = wire {
        wire.delta_len.put(out);
        wire.head_len.put(out);
        let end = wire.bytes.len().min(wire.head_len.saturating_add(most));
        return put_bytes(&wire.bytes[..end], out);
    }
    offset.put(out);
    let mut room = most;
    let mut seen = Vec::new();
    for piece in *payload {
        if room == 0 {
            break;
        }
        let piece = &piece[..piece.len().min(room)];
        room -= piece.len();
        seen.push(piece);
    }
    put_number(seen.len() as u64, out);
    seen.iter().for_each(|piece| put_bytes(piece, out));
}

census! { Recorded { within: machine; plain: recorder; } }
