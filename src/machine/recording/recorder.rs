//! The recorder of a session, and the source whose replies it records.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::mem;

use super::field::{Field, put_bytes, put_number};
use super::format::{Kind, MAGIC, Sink};
use crate::machine::config::Config;
use crate::machine::frame_view::FrameView;
use crate::machine::run::{self, Run};
use crate::machine::source::{Announcement, Source, Supply, Token};
use crate::time::Instant;

/// Writes records to a [`Sink`] for as long as that takes them.
pub(crate) struct Recorder {
    sink: Option<Box<dyn Sink>>,
    written: u64,
    record: Vec<u8>,
    body: Vec<u8>,
    /// The frames that a source shows, until its reply is complete.
    views: Vec<u8>,
}

impl Recorder {
    pub(crate) fn new(sink: Box<dyn Sink>, config: &Config, now: Instant) -> Self {
        let (written, body, views) = Default::default();
        let mut recorder = Self { sink: Some(sink), written, record: MAGIC.to_vec(), body, views };
        recorder.record(Kind::Start, &[&now, config]);
        recorder
    }

    /// Records that something of this kind happened, with what belongs to it.
    pub(crate) fn record(&mut self, kind: Kind, fields: &[&dyn Field]) {
        self.record_with(kind, |out| fields.iter().for_each(|field| field.put(out)));
    }

    fn record_with(&mut self, kind: Kind, put: impl FnOnce(&mut Vec<u8>)) {
        let Some(sink) = &mut self.sink else { return };
        self.body.clear();
        put(&mut self.body);
        self.record.push(kind as u8);
        put_bytes(&self.body, &mut self.record);
        match sink.write(&self.record) {
            Ok(()) => self.written += self.record.len() as u64,
            // For good: what follows could not be replayed without what is missing.
            Err(_) => self.sink = None,
        }
        self.record.clear();
    }

    /// Bytes that the sink took so far, and whether it takes more.
    pub(crate) fn progress(&self) -> (u64, bool) {
        (self.written, self.sink.is_some())
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("written", &self.written).finish_non_exhaustive()
    }
}

/// A source whose replies are recorded.
pub(crate) struct RecordedSource<'a, S> {
    pub(crate) source: &'a mut S,
    pub(crate) recorder: &'a mut Recorder,
}

impl<S: Source> Source for RecordedSource<'_, S> {
    fn frames(&mut self, group: Token, from: u64, run: &mut Run<'_>) -> Supply {
        run.tap = Some(run::Tap { out: mem::take(&mut self.recorder.views), record: put_view });
        let supply = self.source.frames(group, from, run);
        let mut views = run.tap.take().map(|tap| tap.out).unwrap_or_default();
        self.recorder.record_with(Kind::Frames, |out| {
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
        self.recorder.record(Kind::Announcement, &[&reader, &announcement]);
        announcement
    }
}

/// A frame that the machine had no room to look at.
pub(crate) const UNSEEN: u8 = 0;
/// A frame that the cache holds as it is written.
pub(crate) const WIRE: u8 = 1;
/// A frame in pieces.
pub(crate) const PIECES: u8 = 2;

/// Records a frame of which no more than `most` bytes after its head matter; `None`: nothing of it.
fn put_view(frame: &FrameView<'_>, most: Option<usize>, out: &mut Vec<u8>) {
    let Some(most) = most else { return out.push(UNSEEN) };
    let FrameView { timestamp, previous, size, properties, wire, payload, offset } = frame;
    out.push(if wire.is_some() { WIRE } else { PIECES });
    timestamp.put(out);
    previous.put(out);
    size.put(out);
    properties.cloned().put(out);
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
