//! The pure state machine of one session: no I/O, no clock, no locks, no tasks.
//!
//! One [`Machine`] stands beside one QUIC connection. Tell it what the connection does with
//! [`Machine::handle`], at any time, in any order; it never fails and never blocks. Then pull, also
//! in any order and as much or as little as you like:
//!
//! | call | gives | answered by |
//! |---|---|---|
//! | [`poll_event`](Machine::poll_event) | what the peer did, for the application | [`apply`](Machine::apply) |
//! | [`poll_action`](Machine::poll_action) | small things to do to the connection | - |
//! | [`poll_open`](Machine::poll_open) | the most urgent stream to open now | [`Open::opened`], [`Open::blocked`] |
//! | [`poll_datagram`](Machine::poll_datagram) | the most urgent datagram to send now | [`Datagram::sent`], [`Datagram::blocked`] |
//! | [`poll_write`](Machine::poll_write) | the most urgent bytes to write now | [`Write::accepted`], [`Write::blocked`] |
//! | [`poll_timeout`](Machine::poll_timeout) | when to call [`handle_timeout`](Machine::handle_timeout) | - |
//!
//! Hand in everything that is ready before the first `poll_datagram` and `poll_write`, or the order in which streams
//! woke up decides instead of the priorities. Equal inputs give equal outputs.

mod app;
mod counts;
mod datagram;
mod dialect;
mod fetch;
mod ietf;
mod incoming;
mod io;
mod layout;
mod leave;
mod lite;
mod request;
mod run;
mod schedule;
mod serves;
mod streams;
mod subs;
mod timers;
pub mod trace;

census! { Control { within: send; plain: stream, parked; } }
census! { Core {
    counts: lost, timers, actions, notices;
    within: requests, incoming, subs, serves, fetches, schedule, control, datagrams;
    plain: version, draft, limits, now, state, undecided, going_away, no_credit, counts, path;
} }
census! { Machine { within: core, dialect, scratch; } }

#[cfg(any(test, feature = "sim"))]
impl crate::census::Counted for Spoken {
    fn count(&self, name: &'static str, census: &mut crate::census::Census) {
        match self {
            Self::Lite(lite) => lite.count(name, census),
            Self::Ietf(ietf) => ietf.count(name, census),
        }
    }
}

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

pub use app::{Command, Event, GroupKey, RequestKey};
pub use counts::{Counts, PathEstimate, PathInfo};
pub use datagram::Datagram;
pub use io::{Action, Announcement, FrameView, Input, Source, Supply, Token, WireFrame};
pub use run::Run;

pub use crate::hop::Cost;

use crate::census::census;
use crate::coding::ietf::Draft;
use crate::error::Error;
use crate::hop::Hop;
use crate::limits::Limits;
use crate::path::Path;
use crate::peer::{Peer, Role};
use crate::slab::Key;
use crate::stream::{Code, Dir, Side, StreamId};
use crate::time::Instant;
use crate::version::{Agreed, Version};
use datagram::Datagrams;
use dialect::Dialect;
use fetch::Fetches;
use ietf::Ietf;
use incoming::Incoming;
use layout::Layout;
use lite::Lite;
use request::Requests;
use run::Scratch;
use schedule::{CONTROL_PRIORITY, Pick, Schedule, Shown};
use serves::Serves;
use streams::{Send, buffer};
use subs::Subs;
use timers::{Timer, Timers};
use trace::Recorder;

/// What a machine is made with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Which end of the connection this is.
    pub side: Side,
    /// What was agreed by ALPN.
    pub agreed: Agreed,
    /// Who we are in announcements; unknown if we do not say. Keep it the same in all sessions of
    /// one origin: it is how loops are seen.
    pub hop: Hop,
    /// What a client asks for: the path of the URL that it dialed. Told in SETUP, where the version has
    /// one. The root, the default, is not told.
    pub path: Path,
    /// Host and port of that URL, of a client. Told where the version has a place for it (moq-transport,
    /// AUTHORITY). Empty, the default, is not told.
    pub authority: Box<str>,
    /// What a client is there for. Told in SETUP of moq-lite.
    pub role: Role,
    /// What the link costs: it is added to the cost of what is announced here, and a client tells it in
    /// SETUP of moq-lite. `None`, the default, is what the peer says, or else 1.
    pub cost: Option<u64>,
    /// Whether a server decides on the peer when its set-up is read, after [`Event::SetUp`]. Until
    /// [`Command::Accept`] the peer is as one that has not set up: nothing else of it is decoded, nothing
    /// is sent to it, and [`Limits::handshake_time`] runs on. Other commands are for afterwards.
    pub decides: bool,
    /// The prefixes whose broadcasts we want to hear of.
    pub interests: Vec<Path>,
    /// Bounds.
    pub limits: Limits,
}

impl Config {
    /// One that wants to hear of nothing.
    pub fn new(side: Side, agreed: impl Into<Agreed>) -> Self {
        Self {
            side,
            agreed: agreed.into(),
            hop: Hop::UNKNOWN,
            path: Path::root(),
            authority: "".into(),
            role: Role::Both,
            cost: None,
            decides: false,
            interests: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// The state machine of one session. See the [module](self).
#[derive(Debug)]
pub struct Machine {
    core: Core,
    dialect: Spoken,
    scratch: Scratch,
}

/// The dialect of the version that was agreed on.
#[derive(Debug)]
enum Spoken {
    Lite(Box<Lite>),
    Ietf(Box<Ietf>),
}

/// Calls the dialect, whichever it is.
macro_rules! speak {
    ($dialect:expr, $it:ident => $call:expr) => {
        match &mut $dialect {
            Spoken::Lite($it) => $call,
            Spoken::Ietf($it) => $call,
        }
    };
}

/// What every dialect stands on.
#[derive(Debug)]
struct Core {
    version: Version,
    /// Whose numbers the peer uses; ours are those of moq-lite.
    draft: Option<&'static Draft>,
    limits: Limits,
    now: Instant,
    state: State,
    /// The application has not said whether it takes the peer.
    undecided: bool,
    /// Why the connection is gone, until that is told.
    lost: Option<Error>,
    requests: Requests,
    incoming: Incoming,
    subs: Subs,
    serves: Serves,
    fetches: Fetches,
    schedule: Schedule,
    timers: Timers,
    /// The peer wants no new requests.
    going_away: bool,
    actions: VecDeque<Action>,
    /// Events that no bytes stand for: what ended by a command, or with the session.
    notices: VecDeque<Event>,
    /// A stream of our own that carries the set-up.
    control: Option<Control>,
    no_credit: [bool; 2],
    counts: Counts,
    path: PathInfo,
    datagrams: Datagrams,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The peer was told to leave; what runs goes on.
    Leaving,
    /// What is owed goes out, and nothing more.
    Draining,
    /// The connection is gone, but what it brought is not told yet.
    Lost,
    Closed,
}

#[derive(Debug, Default)]
struct Control {
    send: Send,
    stream: Option<StreamId>,
    parked: bool,
}

impl Machine {
    /// A session that begins now on a fresh connection.
    pub fn new(config: Config, now: Instant) -> Self {
        let limits = config.limits.clone();
        // Those that share an ALPN lay groups out alike.
        let version = config.agreed.version();
        let layout = Layout::of(version);
        let mut core = Core {
            version,
            draft: Draft::of(version),
            now,
            state: State::Open,
            undecided: config.decides && config.side == Side::Server,
            lost: None,
            requests: Requests::new(limits.requests, buffer(&limits)),
            incoming: Incoming::new(&limits),
            subs: Subs::default(),
            serves: Serves::default(),
            fetches: Fetches::default(),
            schedule: Schedule::new(layout, limits.pending_groups),
            timers: Timers::default(),
            going_away: false,
            actions: VecDeque::new(),
            notices: VecDeque::new(),
            control: None,
            no_credit: [false; 2],
            counts: Counts::default(),
            path: PathInfo::default(),
            datagrams: Datagrams::new(limits.datagrams),
            limits,
        };
        if core.undecided {
            core.timers.set(now + core.limits.handshake_time, Timer::Handshake);
        }
        let dialect = match core.draft {
            Some(draft) => Spoken::Ietf(Box::new(Ietf::new(config, draft, &mut core))),
            None => Spoken::Lite(Box::new(Lite::new(config, &mut core))),
        };
        Self { core, dialect, scratch: Scratch::default() }
    }

    /// What is spoken. Where set-up has yet to settle it, the most wanted that it may be.
    pub fn version(&self) -> Version {
        self.core.version
    }

    // ---- inputs ------------------------------------------------------------------------------

    /// Tells what the connection did. Never fails: what the peer did wrong comes out as an
    /// [`Action`] or an [`Event`].
    pub fn handle(&mut self, now: Instant, input: Input) {
        let core = &mut self.core;
        core.now = core.now.max(now);
        if core.is_cut_off() {
            return;
        }
        match input {
            Input::Available { dir } => core.no_credit[dir as usize] = false,
            Input::Closed { error } => core.lose(error),
            Input::Datagram { bytes } => {
                core.counts.bytes_received += bytes.len() as u64;
                core.datagrams.arrived(bytes);
            }
            Input::DatagramsAvailable => core.datagrams.blocked = false,
            Input::Time => {}
            Input::MaxDatagram { bytes } => core.datagrams.max = bytes,
            Input::Opened { id } => match id.dir() {
                Dir::Bi => core.requests.stream_opened(id, &mut core.actions),
                Dir::Uni => core.incoming.opened(id, &mut core.actions),
            },
            Input::Data { id, bytes, fin } => {
                core.counts.bytes_received += bytes.len() as u64;
                match core.carries_group_in(id) {
                    false => core.requests.stream_data(id, bytes, fin, &mut core.actions),
                    true => core.incoming.data(id, bytes, fin, &mut core.actions),
                }
            }
            Input::Path(path) => {
                core.path = path;
                speak!(self.dialect, it => it.report_path(core));
            }
            Input::Reset { id, code } => match (core.carries_group_in(id), core.our_code(code)) {
                (false, code) => core.requests.stream_reset(id, code),
                (true, code) => core.incoming.reset(id, code),
            },
            Input::Stopped { id, code } => {
                let code = core.our_code(code);
                if id.dir() == Dir::Bi {
                    core.requests.stream_stopped(id, code, &mut core.actions);
                }
                if core.schedule.stopped(id) {
                    core.actions.push_back(Action::Reset { id, code });
                }
            }
            Input::Writable { id } => match &mut core.control {
                Some(control) if control.stream == Some(id) => control.parked = false,
                _ => {
                    core.requests.stream_writable(id);
                    core.schedule.writable(id);
                }
            },
        }
    }

    /// Time passed. Calling it when nothing was due changes nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.core.now = self.core.now.max(now);
        while let Some(timer) = self.core.timers.due(now) {
            match timer {
                Timer::Handshake if speak!(self.dialect, it => it.is_heard(&self.core)) => {}
                Timer::Handshake => self.core.close(Error::Timeout),
                Timer::Close => self.core.close(Error::SessionClosed),
                Timer::Probe => speak!(self.dialect, it => it.report_path(&mut self.core)),
                Timer::Leave => self.core.leave_timeout(),
                Timer::Unbound => self.core.unbound_timeout(),
                Timer::Stragglers(key) => {
                    speak!(self.dialect, it => it.stragglers_timeout(&mut self.core, key));
                }
            }
        }
    }

    /// Does what the application wants. A command about something that ended does nothing.
    pub fn apply(&mut self, command: Command) {
        match command {
            _ if self.core.state == State::Closed => {}
            Command::Accept { hop, interests } => {
                if core::mem::take(&mut self.core.undecided) {
                    speak!(self.dialect, it => it.accept(&mut self.core, hop, interests));
                }
            }
            Command::Close { error } => self.core.close(error),
            Command::Drain => self.core.drain(),
            Command::GoAway { uri, timeout } => {
                if let Some(deadline) = self.core.begin_to_leave(timeout) {
                    speak!(self.dialect, it => it.say_going_away(&mut self.core, uri, deadline));
                }
            }
            Command::AcceptSubscribe { request, info } => {
                speak!(self.dialect, it => it.accept_subscribe(&mut self.core, request.into(), &info));
            }
            Command::FinishSubscribe { request, end } => {
                speak!(self.dialect, it => it.finish_subscribe(&mut self.core, request.into(), end));
            }
            Command::Group { request, group, sequence, first_frame } => {
                let key = request.into();
                speak!(self.dialect, it => it.push_group(&mut self.core, key, group, sequence, first_frame));
            }
            Command::Datagram { request, group, sequence } => {
                let key = request.into();
                speak!(self.dialect, it => it.push_datagram(&mut self.core, key, group, sequence));
            }
            Command::GroupReady { request, sequence } => {
                self.core.group_ready(request.into(), sequence);
            }
            Command::StopGroup { group, error } => {
                speak!(self.dialect, it => it.stop_group(&mut self.core, group.into(), &error));
            }
            Command::Unsubscribe { subscription } => {
                speak!(self.dialect, it => it.unsubscribe(&mut self.core, subscription));
            }
            command => speak!(self.dialect, it => it.command(&mut self.core, command)),
        }
    }

    // ---- outputs -----------------------------------------------------------------------------

    /// What the peer did next. Decodes one message or frame, of the most urgent stream that has one.
    /// `None` until another input or command.
    pub fn poll_event(&mut self) -> Option<Event> {
        let core = &mut self.core;
        if core.state == State::Closed {
            let closed = core.notices.pop_front();
            self.forget();
            return closed;
        }
        let event = self.next_event();
        let is_frame = matches!(event, Some(Event::Frame { .. } | Event::Datagram { .. }));
        self.core.counts.frames_received += u64::from(is_frame);
        event
    }

    fn next_event(&mut self) -> Option<Event> {
        let core = &mut self.core;
        if let Some(released) = core.schedule.released.pop_front() {
            return Some(speak!(self.dialect, it => it.group_released(core, released)));
        }
        if let Some(event) = core.notices.pop_front() {
            return Some(event);
        }
        let event =
            speak!(self.dialect, it => it.poll_event(core)).or_else(|| core.notices.pop_front());
        if event.is_none() && core.state == State::Lost {
            speak!(self.dialect, it => it.nothing_follows(core));
            if !core.notices.is_empty() {
                return core.notices.pop_front();
            }
            let error = core.lost.take().unwrap_or(Error::SessionClosed);
            core.end(error);
            let closed = core.notices.pop_front();
            self.forget();
            return closed;
        }
        event
    }

    /// The next small thing to do to the connection. `None` until something else is called.
    pub fn poll_action(&mut self) -> Option<Action> {
        if self.has_left() {
            self.core.drain();
        }
        if self.core.state == State::Draining && self.is_flushed() {
            self.core.close(Error::SessionClosed);
        }
        if self.core.state == State::Lost {
            // There is no connection to do it to.
            self.core.actions.clear();
        }
        let action = self.core.actions.pop_front();
        if self.core.state == State::Closed {
            // What was to be done besides does not matter any more.
            self.core.actions.clear();
        }
        action.map(|action| match action {
            Action::Reset { id, code } => Action::Reset { id, code: self.core.their_code(code) },
            Action::Stop { id, code } => Action::Stop { id, code: self.core.their_code(code) },
            other => other,
        })
    }

    /// The most urgent stream that should exist now: control, then groups. A group that is gone
    /// takes no credit. `None` until something changed, or credit came after [`Open::blocked`].
    pub fn poll_open(&mut self, source: &mut impl Source) -> Option<Open<'_>> {
        if self.core.is_cut_off() {
            return None;
        }
        let credit = |dir: Dir| !self.core.no_credit[dir as usize];
        let unopened = |control: &Control| control.stream.is_none();
        let (target, priority) =
            if credit(Dir::Uni) && self.core.control.as_ref().is_some_and(unopened) {
                (OpenTarget::Control, CONTROL_PRIORITY)
            } else if credit(Dir::Bi) && self.core.requests.wants_stream() {
                (OpenTarget::Request, CONTROL_PRIORITY)
            } else if credit(Dir::Uni) {
                self.scratch.clear();
                let pick = self.core.schedule.pick_unopened(source, &mut self.scratch)?;
                (OpenTarget::Group(pick.0), pick.1)
            } else {
                return None;
            };
        Some(Open { machine: self, target, priority, recorder: None })
    }

    /// The most urgent bytes now: control first, then groups by the priority rule, as slices of the
    /// cache. `None` until something changed.
    pub fn poll_write(&mut self, source: &mut impl Source) -> Option<Write<'_>> {
        if self.core.is_cut_off() {
            return None;
        }
        self.scratch.clear();
        let (target, id, fin) = self.next_write(source)?;
        let total = self.scratch.total;
        Some(Write { machine: self, target, id, total, fin, recorder: None })
    }

    /// The most urgent group to send as a datagram now. QUIC sends datagrams before the bytes of
    /// streams, so that these are to be asked for first. `None` until something changed, or there is room
    /// after [`Datagram::blocked`].
    pub fn poll_datagram(&mut self, source: &mut impl Source) -> Option<Datagram<'_>> {
        let core = &mut self.core;
        if core.is_cut_off() || core.datagrams.blocked {
            return None;
        }
        let max = core.datagrams.max;
        let pick = core.schedule.pick_datagram(source, &mut self.scratch, max)?;
        Some(Datagram { machine: self, pick, recorder: None })
    }

    /// Datagrams that came and were of no use: malformed, for nobody, or too many at once.
    pub fn lost_datagrams(&self) -> u64 {
        self.core.datagrams.lost
    }

    fn next_write(&mut self, source: &mut impl Source) -> Option<(WriteTarget, StreamId, bool)> {
        let core = &mut self.core;
        if let Some(control) = &mut core.control {
            if let (Some(id), false, true) =
                (control.stream, control.parked, control.send.has_work())
            {
                let (bytes, fin) = control.send.offer(run::MAX_BURST);
                self.scratch.copy(&bytes);
                self.scratch.flush();
                return Some((WriteTarget::Control, id, fin));
            }
        }
        while let Some(key) = core.requests.next_writable() {
            speak!(self.dialect, it => it.refill(core, key, source));
            if let Some(offer) = core.requests.offer(key) {
                self.scratch.copy(&offer.bytes);
                self.scratch.flush();
                return Some((WriteTarget::Request(key), offer.stream, offer.fin));
            }
            core.requests.wrote_all();
        }
        let shown = core.schedule.pick_writable(source, &mut self.scratch, &mut core.actions)?;
        Some((WriteTarget::Group(shown), shown.stream, shown.fin))
    }

    /// When to call [`Machine::handle_timeout`] at the latest. `None`: nothing is waited for.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.core.timers.next()
    }

    /// Whether one of the `poll_*` above may have something.
    pub fn has_work(&self) -> bool {
        let core = &self.core;
        if !core.actions.is_empty() || !core.notices.is_empty() {
            return true;
        }
        if core.is_cut_off() {
            return core.state == State::Lost;
        }
        let credit = |dir: Dir| !core.no_credit[dir as usize];
        let control = core.control.as_ref().is_some_and(|control| match control.stream {
            None => credit(Dir::Uni),
            Some(_) => !control.parked && control.send.has_work(),
        });
        control
            || !core.schedule.released.is_empty()
            || self.has_events()
            || core.requests.has_writable()
            || (credit(Dir::Bi) && core.requests.wants_stream())
            || core.schedule.has_writable()
            || (!core.datagrams.blocked && core.schedule.has_datagrams())
            || (credit(Dir::Uni) && core.schedule.has_unopened())
            || (core.state == State::Draining && self.is_flushed())
            || self.has_left()
    }

    fn has_events(&self) -> bool {
        match &self.dialect {
            Spoken::Lite(lite) => lite.has_events(&self.core),
            Spoken::Ietf(ietf) => ietf.has_events(&self.core),
        }
    }

    /// How many more bytes of this stream are taken now. At 0 leave them in QUIC, until
    /// [`Action::Resume`].
    pub fn read_limit(&self, id: StreamId) -> usize {
        match self.core.carries_group_in(id) {
            false => self.core.requests.read_limit(id),
            true => self.core.incoming.read_limit(id),
        }
    }

    /// What went through it so far.
    pub fn counts(&self) -> Counts {
        self.core.counts
    }

    /// What [`Input::Path`] said last; nothing once the connection is gone.
    pub fn path(&self) -> PathInfo {
        if self.core.is_cut_off() { PathInfo::default() } else { self.core.path }
    }

    /// Whether the session is over. What is left to pull is [`Action::Close`] and
    /// [`Event::Closed`]. After [`Input::Closed`] that is when the events of what came before it are
    /// pulled.
    pub fn is_closed(&self) -> bool {
        self.core.state == State::Closed
    }

    /// The end was told: nobody asks for anything of it again.
    fn forget(&mut self) {
        let core = &mut self.core;
        core.requests = Requests::new(0, 0);
        core.incoming = Incoming::new(&core.limits);
        (core.subs, core.serves, core.fetches) = Default::default();
        core.schedule = Schedule::new(Layout::of(core.version), 0);
        (core.control, core.lost) = Default::default();
        core.datagrams.forget();
        self.scratch = Scratch::default();
        speak!(self.dialect, it => it.forget());
    }

    /// Everything that is remembered, but for announcements.
    #[cfg(test)]
    fn entries(&self) -> usize {
        let core = &self.core;
        let queues = core.actions.len() + core.notices.len() + core.timers.len();
        let groups = core.incoming.entries() + core.schedule.entries();
        let subscriptions = core.subs.entries() + core.serves.entries() + core.fetches.entries();
        let dialect = match &self.dialect {
            Spoken::Lite(lite) => lite.entries(),
            Spoken::Ietf(ietf) => ietf.entries(),
        };
        core.requests.entries() + groups + subscriptions + dialect + queues
    }

    /// Whether everything that is owed was taken and, where it ended well, seen by the peer.
    fn is_flushed(&self) -> bool {
        let core = &self.core;
        !core.requests.owes()
            && core.control.as_ref().is_none_or(|control| !control.send.has_work())
            && !core.schedule.owes()
            && core.schedule.released.is_empty()
            && core.serves.unconfirmed == 0
            && core.serves.unread_until.is_none_or(|until| until <= core.now)
    }
}

impl Core {
    /// The number of moq-lite for one that came in RESET_STREAM or STOP_SENDING.
    fn our_code(&self, code: Code) -> Code {
        self.draft.map_or(code, |draft| draft.stream_error(code).stream_code())
    }

    /// The way back.
    fn their_code(&self, code: Code) -> Code {
        self.draft.map_or(code, |draft| draft.stream_code(&Error::from_stream_code(code)))
    }

    /// Whether the peer's half of the stream is a group, or what may become one; else it is a request's.
    fn carries_group_in(&self, id: StreamId) -> bool {
        id.dir() == Dir::Uni || self.incoming.has(id)
    }

    /// Whether there is no connection any more, for us or at all.
    fn is_cut_off(&self) -> bool {
        matches!(self.state, State::Closed | State::Lost)
    }

    /// The connection is gone. What came before is still to be decoded.
    fn lose(&mut self, error: Error) {
        self.state = State::Lost;
        self.lost = Some(error);
        self.timers.clear();
        self.actions.clear();
    }

    /// The peer's set-up was read. `true`: it goes on; otherwise the application decides.
    fn takes(&mut self, peer: impl FnOnce() -> Peer) -> bool {
        if self.undecided {
            self.notices.push_back(Event::SetUp { peer: peer() });
        }
        !self.undecided
    }

    /// Closes for our own reason.
    fn close(&mut self, error: Error) {
        let code = error.session_code();
        self.close_as(error, code);
    }

    fn close_as(&mut self, error: Error, code: Code) {
        if self.state == State::Closed {
            return;
        }
        let reason = match &error {
            Error::ProtocolViolation(rule) => rule,
            _ => "",
        };
        self.end(error);
        self.actions.push_back(Action::Close { code, reason });
    }

    /// Nothing more goes in or out.
    fn end(&mut self, error: Error) {
        self.state = State::Closed;
        self.timers.clear();
        self.actions.clear();
        self.notices.clear();
        self.notices.push_back(Event::Closed { error });
    }

    fn drain(&mut self) {
        if matches!(self.state, State::Open | State::Leaving) {
            self.state = State::Draining;
            self.timers.set(self.now + self.limits.close_time, Timer::Close);
        }
    }

    fn violation(&mut self, rule: &'static str) {
        self.close(Error::ProtocolViolation(rule));
    }

    /// As [`violation`](Self::violation), with a session code of its own.
    fn violation_as(&mut self, code: u64, rule: &'static str) {
        self.close_as(Error::ProtocolViolation(rule), Code::new(code));
    }
}

#[derive(Clone, Copy, Debug)]
enum OpenTarget {
    Control,
    Request,
    Group(Pick),
}

/// A stream that should be opened, and how urgent it is. Dropping it changes nothing.
#[derive(Debug)]
#[must_use = "say opened() or blocked()"]
pub struct Open<'a> {
    machine: &'a mut Machine,
    target: OpenTarget,
    priority: i32,
    recorder: Option<&'a mut Recorder>,
}

impl Open<'_> {
    /// Which kind of stream.
    pub fn dir(&self) -> Dir {
        match self.target {
            OpenTarget::Request => Dir::Bi,
            OpenTarget::Control | OpenTarget::Group(_) => Dir::Uni,
        }
    }

    /// For QUIC's own scheduler; higher goes first.
    pub fn priority(&self) -> i32 {
        self.priority
    }

    /// Here it is. Its priority follows as an [`Action::SetPriority`].
    pub fn opened(self, id: StreamId) {
        if let Some(recorder) = self.recorder {
            recorder.opened(id);
        }
        let core = &mut self.machine.core;
        core.actions.push_back(Action::SetPriority { id, priority: self.priority });
        match self.target {
            OpenTarget::Control => {
                if let Some(control) = &mut core.control {
                    control.stream = Some(id);
                }
            }
            OpenTarget::Request => core.requests.stream_granted(id),
            OpenTarget::Group(pick) => core.schedule.opened(pick, id),
        }
    }

    /// There is no credit: none of this kind is wanted until [`Input::Available`].
    pub fn blocked(self) {
        let dir = self.dir();
        if let Some(recorder) = self.recorder {
            recorder.open_blocked();
        }
        self.machine.core.no_credit[dir as usize] = true;
    }
}

#[derive(Clone, Copy, Debug)]
enum WriteTarget {
    Control,
    Request(Key),
    Group(Shown),
}

/// Bytes for one stream, as slices of the cache. Dropping it loses and consumes nothing.
#[derive(Debug)]
#[must_use = "say accepted() or blocked()"]
pub struct Write<'a> {
    machine: &'a mut Machine,
    target: WriteTarget,
    id: StreamId,
    total: usize,
    fin: bool,
    recorder: Option<&'a mut Recorder>,
}

impl Write<'_> {
    /// For which stream.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The bytes. They are handles: the transport may take or split them as it likes.
    pub fn chunks(&mut self) -> &mut [Bytes] {
        &mut self.machine.scratch.chunks
    }

    /// How many bytes were offered. 0 is FIN alone.
    pub fn len(&self) -> usize {
        self.total
    }

    /// Whether there are no bytes, only FIN.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Whether the stream is to be finished behind these bytes, if all of them were taken.
    pub fn fin(&self) -> bool {
        self.fin
    }

    /// The transport took the first `bytes` bytes, and FIN if it took all and [`Write::fin`].
    /// The rest is offered again.
    pub fn accepted(self, bytes: usize) {
        self.done(bytes, false);
    }

    /// The transport took the first `bytes` bytes, not all, and no more on this stream until
    /// [`Input::Writable`].
    pub fn blocked(self, bytes: usize) {
        self.done(bytes, true);
    }

    fn done(self, bytes: usize, blocked: bool) {
        let n = bytes.min(self.total);
        if let Some(recorder) = self.recorder {
            recorder.taken(n, blocked);
        }
        let fin = self.fin && n == self.total && !blocked;
        let Machine { core, scratch, .. } = &mut *self.machine;
        core.counts.bytes_sent += n as u64;
        match self.target {
            WriteTarget::Control => {
                if let Some(control) = &mut core.control {
                    control.send.accepted(n, fin);
                    control.parked = blocked;
                }
            }
            WriteTarget::Request(key) => core.requests.taken(key, n, fin, blocked),
            WriteTarget::Group(shown) => {
                core.counts.frames_sent += core.schedule.taken(shown, n, blocked, scratch);
            }
        }
    }
}
