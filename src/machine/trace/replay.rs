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
use crate::machine::recording::digest::{DatagramDigest, WriteDigest, digested};
use crate::machine::recording::field::{Bad, Field, Rest};
use crate::machine::recording::format::{Kind, MAGIC};
use crate::machine::recording::recorder::{PIECES, UNSEEN, WIRE};
use crate::machine::run::Run;
use crate::machine::source::{Announcement, Source, Supply, Token};
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

/// What happened to the machine, or what it did. Calls without a result are left out.
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
        let bad = |what| TraceError::Malformed { record: 0, what };
        let (kind, body) =
            next(&mut rest).map_err(bad)?.ok_or(TraceError::Truncated { record: 0 })?;
        if kind != Kind::Start {
            return Err(bad("it does not start"));
        }
        let (start, config): (Instant, Config) = two(body).map_err(bad)?;
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
            let record = self.records;
            let bad = |what| TraceError::Malformed { record, what };
            if self.rest.is_empty() {
                return Ok(None);
            }
            let Some((kind, body)) = next(&mut self.rest).map_err(bad)? else {
                return Err(TraceError::Truncated { record });
            };
            self.records += 1;
            let step = match kind {
                Kind::Input => {
                    let (now, input): (Instant, Input) = two(body).map_err(bad)?;
                    self.now = now;
                    self.machine.handle(now, input.clone());
                    Some(Step::Input(input))
                }
                Kind::Time => {
                    self.now = one(body).map_err(bad)?;
                    self.machine.handle_timeout(self.now);
                    Some(Step::Time)
                }
                Kind::Command => {
                    let command: Command = one(body).map_err(bad)?;
                    self.machine.apply(command.clone());
                    Some(Step::Command(command))
                }
                Kind::Frames => {
                    self.script.replies.push_back(Reply::frames(body).map_err(bad)?);
                    None
                }
                Kind::Announcement => {
                    let (reader, announcement) = two(body).map_err(bad)?;
                    self.script.replies.push_back(Reply::Announcement(reader, announcement));
                    None
                }
                Kind::Event => {
                    let event = self.machine.poll_event();
                    same(record, &one(body).map_err(bad)?, &digested(event.clone()))?;
                    event.map(Step::Event)
                }
                Kind::Action => {
                    let action = self.machine.poll_action();
                    same(record, &one(body).map_err(bad)?, &action)?;
                    action.map(Step::Action)
                }
                Kind::Open => self.open(record, one(body).map_err(bad)?)?,
                Kind::Write => self.write(record, one(body).map_err(bad)?)?,
                Kind::Datagram => self.datagram(record, one(body).map_err(bad)?)?,
                Kind::Start => return Err(bad("it starts a second time")),
                Kind::Opened | Kind::OpenBlocked | Kind::Taken | Kind::DatagramTaken => {
                    return Err(bad("an answer without a question"));
                }
            };
            if step.is_some() {
                return Ok(step);
            }
        }
    }

    /// The body of the next record, if it has one of these kinds: the answer to a guard.
    fn answer(&mut self, kinds: [Kind; 2]) -> Result<Option<(Kind, &'a [u8])>, TraceError> {
        let mut rest = self.rest;
        let answer = next(&mut rest)
            .map_err(|what| TraceError::Malformed { record: self.records, what })?
            .filter(|(kind, _)| kinds.contains(kind));
        if answer.is_some() {
            self.rest = rest;
            self.records += 1;
        }
        Ok(answer)
    }

    fn open(
        &mut self,
        record: u64,
        recorded: Option<(Dir, i32)>,
    ) -> Result<Option<Step>, TraceError> {
        let answer = self.answer([Kind::Opened, Kind::OpenBlocked])?;
        let bad = |what| TraceError::Malformed { record: record + 1, what };
        let open = self.machine.poll_open(&mut self.script);
        let shown = open.as_ref().map(|open| (open.dir(), open.priority()));
        self.script.check(record)?;
        same(record, &recorded, &shown)?;
        let Some(open) = open else { return Ok(None) };
        let (dir, priority) = (open.dir(), open.priority());
        Ok(Some(match answer {
            Some((Kind::Opened, body)) => {
                let id = one(body).map_err(bad)?;
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

    fn datagram(
        &mut self,
        record: u64,
        recorded: Option<DatagramDigest>,
    ) -> Result<Option<Step>, TraceError> {
        let answer = self.answer([Kind::DatagramTaken, Kind::DatagramTaken])?;
        let bad = |what| TraceError::Malformed { record: record + 1, what };
        let datagram = self.machine.poll_datagram(&mut self.script);
        let shown = datagram.as_ref().map(Datagram::digest);
        self.script.check(record)?;
        same(record, &recorded, &shown)?;
        let Some(datagram) = datagram else { return Ok(None) };
        let bytes = datagram.to_bytes();
        let blocked = answer.map(|(_, body)| one(body)).transpose().map_err(bad)?;
        match blocked {
            Some(false) => datagram.sent(),
            Some(true) => datagram.blocked(),
            None => {}
        }
        Ok(Some(Step::Datagram { bytes, sent: blocked == Some(false) }))
    }

    fn write(
        &mut self,
        record: u64,
        recorded: Option<WriteDigest>,
    ) -> Result<Option<Step>, TraceError> {
        let answer = self.answer([Kind::Taken, Kind::Taken])?;
        let bad = |what| TraceError::Malformed { record: record + 1, what };
        let write = self.machine.poll_write(&mut self.script);
        let shown = write.as_ref().map(Write::digest);
        self.script.check(record)?;
        same(record, &recorded, &shown)?;
        let Some(mut write) = write else { return Ok(None) };
        let id = write.id();
        let Some((_, body)) = answer else {
            return Ok(Some(Step::Wrote { id, bytes: Bytes::new(), fin: false }));
        };
        let (taken, blocked): (usize, bool) = two(body).map_err(bad)?;
        let all: Vec<u8> = write.chunks().iter().flat_map(|chunk| chunk.iter().copied()).collect();
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

/// Takes a record off the front; `None` if it is not complete.
fn next<'a>(rest: &mut &'a [u8]) -> Result<Option<(Kind, &'a [u8])>, Bad> {
    let mut from = Rest(rest);
    let Ok(kind) = from.byte() else { return Ok(None) };
    let kind = Kind::of(kind).ok_or("an unknown kind of record")?;
    let Ok(body) = from.number().and_then(|len| from.bytes(len)) else { return Ok(None) };
    *rest = from.0;
    Ok(Some((kind, body)))
}

fn one<T: Field>(body: &[u8]) -> Result<T, Bad> {
    let mut from = Rest(body);
    let value = T::take(&mut from)?;
    from.end()?;
    Ok(value)
}

fn two<A: Field, B: Field>(body: &[u8]) -> Result<(A, B), Bad> {
    let mut from = Rest(body);
    let values = (A::take(&mut from)?, B::take(&mut from)?);
    from.end()?;
    Ok(values)
}

fn same<T: PartialEq + Debug>(record: u64, recorded: &T, replayed: &T) -> Result<(), TraceError> {
    if recorded == replayed {
        return Ok(());
    }
    let [recorded, replayed] = [recorded, replayed].map(|it| format!("{it:?}"));
    Err(TraceError::Differs { record, recorded, replayed })
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

/// A frame as it was shown.
#[derive(Debug)]
enum View {
    Unseen,
    Wire { about: [u64; 3], delta_len: usize, head_len: usize, bytes: Bytes },
    Pieces { about: [u64; 3], offset: u64, payload: Vec<Bytes> },
}

impl View {
    fn take(from: &mut Rest<'_>) -> Result<Self, Bad> {
        let kind = from.byte()?;
        if kind == UNSEEN {
            return Ok(Self::Unseen);
        }
        // Timestamp, previous, size.
        let about = [from.number()?, from.number()?, from.number()?];
        match kind {
            WIRE => {
                let (delta_len, head_len) = (usize::take(from)?, usize::take(from)?);
                let bytes = Bytes::take(from)?;
                if delta_len > head_len || head_len > bytes.len() {
                    return Err("a frame without its head");
                }
                Ok(Self::Wire { about, delta_len, head_len, bytes })
            }
            PIECES => {
                let (offset, pieces) = (from.number()?, from.number()?);
                let mut payload = Vec::new();
                for _ in 0..pieces {
                    payload.push(Bytes::take(from)?);
                }
                Ok(Self::Pieces { about, offset, payload })
            }
            _ => Err("an unknown view"),
        }
    }

    fn show(&self, run: &mut Run<'_>) {
        let ([timestamp, previous, size], wire, payload, offset) = match self {
            Self::Unseen => ([0; 3], None, &[][..], 0),
            Self::Wire { about, delta_len, head_len, bytes } => {
                let wire = WireFrame { bytes, delta_len: *delta_len, head_len: *head_len };
                (*about, Some(wire), &[][..], 0)
            }
            Self::Pieces { about, offset, payload } => (*about, None, &payload[..], *offset),
        };
        let [timestamp, previous] = [timestamp, previous].map(Timestamp::new);
        run.push(FrameView { timestamp, previous, size, wire, payload, offset });
    }
}

impl Reply {
    fn frames(body: &[u8]) -> Result<Self, Bad> {
        let mut rest = Rest(body);
        let (group, from) = (Field::take(&mut rest)?, Field::take(&mut rest)?);
        let supply = Field::take(&mut rest)?;
        let mut views = Vec::new();
        while rest.end().is_err() {
            views.push(View::take(&mut rest)?);
        }
        Ok(Self::Frames { group, from, supply, views })
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
