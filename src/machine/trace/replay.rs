//! Replaying: makes the calls of a trace on a machine, and compares the results.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Debug;

use bytes::Bytes;

use super::TraceError;
use crate::machine::bare_machine::BareMachine;
use crate::machine::command::Command;
use crate::machine::config::Config;
use crate::machine::event::Event;
use crate::machine::frame_view::{FrameView, WireFrame};
use crate::machine::guards::{Datagram, Write};
use crate::machine::io::{Action, Input};
use crate::machine::recording::digest::digested;
use crate::machine::recording::field::{Bad, Field, Rest};
use crate::machine::recording::format::{Kind, MAGIC};
use crate::machine::recording::recorder::{PIECES, UNSEEN, WIRE};
use crate::machine::run::Run;
use crate::machine::source::{Announcement, Source, Supply, Token};
use crate::properties::Properties;
use crate::stream::{Dir, StreamId};
use crate::time::{Instant, Timestamp};
use crate::version::Version;

/// Replays a trace on a machine of its own. The iterator returns what happens, until the trace ends
/// or a result differs.
#[derive(Debug)]
pub struct Replay<'a> {
    rest: &'a [u8],
    machine: BareMachine,
    config: Config,
    start: Instant,
    now: Instant,
    script: Script,
    /// Records that were read.
    records: u64,
    is_over: bool,
}

/// An input, a call or an output of the machine. Calls without a result are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The connection reported something.
    Input(Input),
    /// Time passed.
    Time,
    /// The application gave a command.
    Command(Command),
    /// An event was pulled.
    Event(Event),
    /// An action was pulled.
    Action(Action),
    /// A stream was opened.
    Opened {
        /// Its id.
        id: StreamId,
        /// Its priority.
        priority: i32,
    },
    /// A stream was asked for, and there was no credit or the guard was dropped.
    NotOpened {
        /// The direction of the stream.
        dir: Dir,
    },
    /// The connection took bytes.
    Wrote {
        /// The stream.
        id: StreamId,
        /// The bytes that were taken; none if it was blocked at once or the guard was dropped.
        bytes: Bytes,
        /// Whether the stream is finished after them.
        fin: bool,
    },
    /// A datagram was shown.
    Datagram {
        /// All of it.
        bytes: Bytes,
        /// Whether QUIC took it: there was room, and the guard was not dropped.
        sent: bool,
    },
}

impl<'a> Replay<'a> {
    /// Reads how a trace begins.
    pub fn new(trace: &'a [u8]) -> Result<Self, TraceError> {
        let mut rest = trace.strip_prefix(&MAGIC).ok_or(TraceError::NotATrace)?;
        let record = Record::next(&mut rest, 0)?.ok_or(TraceError::Truncated { record: 0 })?;
        if record.kind != Kind::Start {
            return Err(record.malformed("it does not start"));
        }
        let (start, config): (Instant, Config) = record.read()?;
        let machine = BareMachine::new(config.clone(), start);
        let script = Script::default();
        Ok(Self { rest, machine, config, start, now: start, script, records: 1, is_over: false })
    }

    /// The configuration of the machine.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The version that the replayed machine speaks; see
    /// [`Machine::version`](crate::machine::Machine::version).
    pub fn version(&self) -> Version {
        self.machine.core.version
    }

    /// When the session began.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// The time of the last input or timeout.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// How many records were read.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Whether the machine that is replayed is closed.
    pub fn is_closed(&self) -> bool {
        self.machine.is_closed()
    }

    fn step(&mut self) -> Result<Option<Step>, TraceError> {
        loop {
            if self.rest.is_empty() {
                return Ok(None);
            }
            let record = Record::next(&mut self.rest, self.records)?
                .ok_or(TraceError::Truncated { record: self.records })?;
            self.records += 1;
            let step = match record.kind {
                Kind::Input => {
                    let (now, input): (Instant, Input) = record.read()?;
                    self.now = now;
                    self.machine.handle(now, input.clone());
                    Some(Step::Input(input))
                }
                Kind::Time => {
                    self.now = record.read()?;
                    self.machine.handle_timeout(self.now);
                    Some(Step::Time)
                }
                Kind::Command => {
                    let command: Command = record.read()?;
                    self.machine.apply(command.clone());
                    Some(Step::Command(command))
                }
                Kind::Frames => {
                    self.script.replies.push_back(record.read_with(Reply::frames)?);
                    None
                }
                Kind::Announcement => {
                    let (reader, announcement) = record.read()?;
                    self.script.replies.push_back(Reply::Announcement(reader, announcement));
                    None
                }
                Kind::Event => {
                    let event = self.machine.poll_event();
                    record.compare(&digested(event.clone()))?;
                    event.map(Step::Event)
                }
                Kind::Action => {
                    let action = self.machine.poll_action();
                    record.compare(&action)?;
                    action.map(Step::Action)
                }
                Kind::Open => self.open(record)?,
                Kind::Write => self.write(record)?,
                Kind::Datagram => self.datagram(record)?,
                Kind::Start => return Err(record.malformed("it starts a second time")),
                Kind::Opened | Kind::OpenBlocked | Kind::Taken | Kind::DatagramTaken => {
                    return Err(record.malformed("an answer without a question"));
                }
            };
            if step.is_some() {
                return Ok(step);
            }
        }
    }

    /// The next record, if it has one of these kinds: the answer to a guard.
    fn answer(&mut self, kinds: &[Kind]) -> Result<Option<Record<'a>>, TraceError> {
        let mut rest = self.rest;
        let next = Record::next(&mut rest, self.records)?;
        let answer = next.filter(|record| kinds.contains(&record.kind));
        if answer.is_some() {
            self.rest = rest;
            self.records += 1;
        }
        Ok(answer)
    }

    fn open(&mut self, record: Record<'_>) -> Result<Option<Step>, TraceError> {
        let answer = self.answer(&[Kind::Opened, Kind::OpenBlocked])?;
        let open = self.machine.poll_open(&mut self.script);
        let shown = open.as_ref().map(|open| (open.dir(), open.priority()));
        self.script.check(record.number)?;
        record.compare(&shown)?;
        let Some(open) = open else { return Ok(None) };
        let (dir, priority) = (open.dir(), open.priority());
        Ok(Some(match answer {
            Some(answer) if answer.kind == Kind::Opened => {
                let id = answer.read()?;
                open.opened(id);
                Step::Opened { id, priority }
            }
            Some(_) => {
                open.blocked();
                Step::NotOpened { dir }
            }
            None => Step::NotOpened { dir },
        }))
    }

    fn datagram(&mut self, record: Record<'_>) -> Result<Option<Step>, TraceError> {
        let answer = self.answer(&[Kind::DatagramTaken])?;
        let datagram = self.machine.poll_datagram(&mut self.script);
        let shown = datagram.as_ref().map(Datagram::digest);
        self.script.check(record.number)?;
        record.compare(&shown)?;
        let Some(datagram) = datagram else { return Ok(None) };
        let bytes = datagram.to_bytes();
        let blocked = answer.map(|answer| answer.read()).transpose()?;
        match blocked {
            Some(false) => datagram.sent(),
            Some(true) => datagram.blocked(),
            None => {}
        }
        Ok(Some(Step::Datagram { bytes, sent: blocked == Some(false) }))
    }

    fn write(&mut self, record: Record<'_>) -> Result<Option<Step>, TraceError> {
        let answer = self.answer(&[Kind::Taken])?;
        let write = self.machine.poll_write(&mut self.script);
        let shown = write.as_ref().map(Write::digest);
        self.script.check(record.number)?;
        record.compare(&shown)?;
        let Some(mut write) = write else { return Ok(None) };
        let id = write.id();
        let Some(answer) = answer else {
            return Ok(Some(Step::Wrote { id, bytes: Bytes::new(), fin: false }));
        };
        let (taken, blocked): (usize, bool) = answer.read()?;
        let all = write.chunks().concat();
        let taken = taken.min(all.len());
        let fin = write.fin() && taken == all.len() && !blocked;
        if blocked {
            write.blocked(taken);
        } else {
            write.accepted(taken);
        }
        let bytes = Bytes::from(all).slice(..taken);
        Ok(Some(Step::Wrote { id, bytes, fin }))
    }
}

impl Iterator for Replay<'_> {
    type Item = Result<Step, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let step = self.step().transpose();
        self.is_over = !matches!(step, Some(Ok(_)));
        step
    }
}

/// One record of the trace.
#[derive(Clone, Copy)]
struct Record<'a> {
    /// Its place in the trace, for errors.
    number: u64,
    kind: Kind,
    body: &'a [u8],
}

impl<'a> Record<'a> {
    /// Takes the record `number` off the front; `None` if it is not complete.
    fn next(rest: &mut &'a [u8], number: u64) -> Result<Option<Self>, TraceError> {
        let mut from = Rest(rest);
        let Ok(kind) = from.byte() else { return Ok(None) };
        let what = "an unknown kind of record";
        let kind = Kind::of(kind).ok_or(TraceError::Malformed { record: number, what })?;
        let Ok(body) = from.number().and_then(|len| from.bytes(len)) else { return Ok(None) };
        *rest = from.0;
        Ok(Some(Self { number, kind, body }))
    }

    fn malformed(&self, what: Bad) -> TraceError {
        TraceError::Malformed { record: self.number, what }
    }

    fn read<T: Field>(&self) -> Result<T, TraceError> {
        self.read_with(T::take)
    }

    fn read_with<T>(
        &self,
        take: impl FnOnce(&mut Rest<'_>) -> Result<T, Bad>,
    ) -> Result<T, TraceError> {
        let mut from = Rest(self.body);
        let value = take(&mut from).and_then(|value| from.end().map(|()| value));
        value.map_err(|what| self.malformed(what))
    }

    /// Compares what the record holds with what the replay produced.
    fn compare<T: Field + PartialEq + Debug>(&self, replayed: &T) -> Result<(), TraceError> {
        let recorded: T = self.read()?;
        if recorded == *replayed {
            return Ok(());
        }
        let [recorded, replayed] = [&recorded, replayed].map(|it| format!("{it:?}"));
        Err(TraceError::Differs { record: self.number, recorded, replayed })
    }
}

/// The replies of the source, in order.
#[derive(Debug, Default)]
struct Script {
    replies: VecDeque<Reply>,
    /// A question that the next reply does not answer.
    astray: Option<(String, String)>,
}

#[derive(Debug)]
enum Reply {
    Frames { group: Token, from: u64, supply: Supply, views: Vec<View> },
    Announcement(Token, Option<Announcement>),
}

/// A frame as it was shown; the default if nothing of it was seen.
#[derive(Debug, Default)]
struct View {
    timestamp: Timestamp,
    previous: Timestamp,
    size: u64,
    properties: Option<Properties>,
    /// The length of the delta, the length of the head, and all bytes.
    wire: Option<(usize, usize, Bytes)>,
    offset: u64,
    payload: Vec<Bytes>,
}

impl View {
    fn take(from: &mut Rest<'_>) -> Result<Self, Bad> {
        let mut view = Self::default();
        let kind = from.byte()?;
        if kind == UNSEEN {
            return Ok(view);
        }
        (((view.timestamp, view.previous), view.size), view.properties) = Field::take(from)?;
        match kind {
            WIRE => {
                let ((delta_len, head_len), bytes): ((usize, usize), Bytes) = Field::take(from)?;
                if delta_len > head_len || head_len > bytes.len() {
                    return Err("a frame without its head");
                }
                view.wire = Some((delta_len, head_len, bytes));
            }
            PIECES => (view.offset, view.payload) = Field::take(from)?,
            _ => return Err("an unknown view"),
        }
        Ok(view)
    }

    fn show(&self, run: &mut Run<'_>) {
        let Self { timestamp, previous, size, offset, .. } = *self;
        let wire = self.wire.as_ref().map(|(delta_len, head_len, bytes)| WireFrame {
            bytes,
            delta_len: *delta_len,
            head_len: *head_len,
        });
        let (payload, properties) = (&self.payload, self.properties.as_ref());
        run.push(FrameView { timestamp, previous, size, properties, wire, payload, offset });
    }
}

impl Reply {
    fn frames(from: &mut Rest<'_>) -> Result<Self, Bad> {
        let ((group, at), supply) = Field::take(from)?;
        let mut views = Vec::new();
        while from.end().is_err() {
            views.push(View::take(from)?);
        }
        Ok(Self::Frames { group, from: at, supply, views })
    }
}

impl Script {
    /// Whether exactly the recorded questions were asked.
    fn check(&mut self, record: u64) -> Result<(), TraceError> {
        let left = self.replies.pop_front();
        let left = left.map(|reply| (format!("{reply:?}"), String::from("no such question")));
        match self.astray.take().or(left) {
            Some((recorded, replayed)) => Err(TraceError::Differs { record, recorded, replayed }),
            None => Ok(()),
        }
    }

    fn lost(&mut self, reply: Option<Reply>, question: String) {
        let recorded = reply.map_or_else(|| "no question".into(), |reply| format!("{reply:?}"));
        self.astray.get_or_insert((recorded, question));
    }
}

impl Source for Script {
    fn frames(&mut self, group: Token, from: u64, run: &mut Run<'_>) -> Supply {
        match self.replies.pop_front() {
            Some(Reply::Frames { group: of, from: at, supply, views })
                if (of, at) == (group, from) =>
            {
                views.iter().for_each(|view| view.show(run));
                supply
            }
            other => {
                self.lost(other, format!("frames of {group:?} from {from}"));
                // Not `Pending`, so that this is not asked for ever.
                Supply::Gone(crate::error::Error::Internal)
            }
        }
    }

    fn announcement(&mut self, reader: Token) -> Option<Announcement> {
        match self.replies.pop_front() {
            Some(Reply::Announcement(of, announcement)) if of == reader => announcement,
            other => {
                self.lost(other, format!("announcements for {reader:?}"));
                None
            }
        }
    }
}
