//! The implementation of [`Machine`](super::Machine), without the recorder: the engine and the dialect of
//! the agreed version. A trace is replayed on it.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::chunks::Chunks;
use super::command::Command;
use super::config::Config;
use super::engine::publishing::SendAs;
use super::engine::{
    CONTROL_PRIORITY, Core, Dialect, GroupRef, OutgoingFetch, SessionState, Timer, Work, events,
    fetching, groups, publishing, subscribing,
};
use super::event::Event;
use super::guards::{Datagram, Open, OpenTarget, Write, WriteTarget};
use super::ietf::Ietf;
use super::io::{Action, Input};
use super::lite::Lite;
use super::run::{FrameRange, MAX_BURST};
use super::source::Source;
use crate::census::census;
use crate::error::Error;
use crate::stream::{Dir, StreamId};
use crate::time::Instant;

/// One session on one QUIC connection. Its calls are those of [`Machine`](super::Machine).
#[derive(Debug)]
pub(super) struct BareMachine {
    pub(super) core: Core,
    pub(super) dialect: AnyDialect,
    /// The set-up may agree on another dialect than that of the preferred version.
    open_dialect: Option<Box<OpenDialect>>,
}

/// The state with which the other dialect goes on.
#[derive(Debug)]
struct OpenDialect {
    config: Config,
    /// The commands so far.
    commands: Vec<Command>,
}

/// The dialect of the agreed version.
#[derive(Debug)]
pub(super) enum AnyDialect {
    Lite(Box<Lite>),
    Ietf(Box<Ietf>),
}

/// Evaluates an expression with the dialect, whichever it is.
macro_rules! dispatch {
    ($dialect:expr, $it:ident => $call:expr) => {
        match $dialect {
            AnyDialect::Lite($it) => $call,
            AnyDialect::Ietf($it) => $call,
        }
    };
}

impl BareMachine {
    pub(super) fn new(config: Config, now: Instant) -> Self {
        let mut core = Core::new(&config, now);
        let open_dialect =
            || Box::new(OpenDialect { config: config.clone(), commands: Vec::new() });
        let open_dialect = config.agreed.is_mixed().then(open_dialect);
        let dialect = match core.draft {
            Some(draft) => AnyDialect::Ietf(Box::new(Ietf::start(config, draft, &mut core))),
            None => AnyDialect::Lite(Box::new(Lite::start(config, &mut core))),
        };
        Self { core, dialect, open_dialect }
    }

    /// The set-up agreed on a version: the session goes on in its dialect, with the commands so far.
    fn agree(&mut self) {
        let core = &mut self.core;
        if core.agreed_on.is_none() && !core.is_set_up() {
            return;
        }
        let Some(OpenDialect { config, commands }) = self.open_dialect.take().map(|it| *it) else {
            return;
        };
        if let Some((version, key)) = core.agreed_on.take() {
            core.change_version(version);
            let draft = core.draft.expect("a version of the other dialect");
            self.dialect = AnyDialect::Ietf(Box::new(Ietf::resume(config, draft, core, key)));
        }
        commands.into_iter().for_each(|command| self.apply(command));
    }

    // ---- inputs ------------------------------------------------------------------------------

    pub(super) fn handle(&mut self, now: Instant, input: Input) {
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
                core.datagrams.push(bytes);
            }
            Input::DatagramsAvailable => core.datagrams.blocked = false,
            Input::Time => {}
            Input::Opened { id } => match id.dir() {
                Dir::Bi => core.requests.stream_opened(id, &mut core.actions),
                Dir::Uni => core.recv_streams.opened(id, &mut core.actions),
            },
            Input::Data { id, bytes, fin } => {
                core.counts.bytes_received += bytes.len() as u64;
                match core.is_recv_stream(id) {
                    false => core.requests.stream_data(id, bytes, fin, &mut core.actions),
                    true => core.recv_streams.data(id, bytes, fin, &mut core.actions),
                }
            }
            Input::NetworkPath(path) => {
                (core.network_path, core.datagrams.max) = (path, path.max_datagram);
                dispatch!(&mut self.dialect, it => it.on_network_path(core));
            }
            Input::Reset { id, code } => match (core.is_recv_stream(id), core.local_code(code)) {
                (false, code) => core.requests.stream_reset(id, code),
                (true, code) => core.recv_streams.reset(id, code),
            },
            Input::Stopped { id, code } => {
                let code = core.local_code(code);
                if id.dir() == Dir::Bi {
                    core.requests.stream_stopped(id, code, &mut core.actions);
                }
                if core.schedule.on_stopped(id) {
                    core.actions.push_back(Action::Reset { id, code });
                }
            }
            Input::Writable { id } => match &mut core.control {
                Some(control) if control.stream == Some(id) => control.blocked = false,
                _ => {
                    core.requests.stream_writable(id);
                    core.schedule.on_writable(id);
                }
            },
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let core = &mut self.core;
        core.now = core.now.max(now);
        core.schedule.retry(now);
        while let Some(timer) = core.timers.due(now) {
            match timer {
                Timer::Handshake if core.is_ready() => {}
                // The next action closes.
                Timer::Unread => {}
                Timer::Handshake => core.close(Error::Timeout),
                Timer::Close => core.close(Error::SessionClosed),
                Timer::Leaving => core.violation("the control stream ended"),
                Timer::Probe => dispatch!(&mut self.dialect, it => it.on_network_path(core)),
                Timer::Echo => dispatch!(&mut self.dialect, it => it.on_echo_timeout(core)),
                Timer::GoAway => core.on_goaway_timeout(),
                Timer::Unbound => core.on_unbound_timeout(),
                Timer::Head(key) => dispatch!(&mut self.dialect, it => {
                    groups::on_head_timeout(&mut **it, core, key);
                }),
                Timer::Stragglers(key) => dispatch!(&mut self.dialect, it => {
                    subscribing::on_stragglers_timeout(&mut **it, core, key);
                }),
            }
        }
    }

    pub(super) fn apply(&mut self, command: Command) {
        let core = &mut self.core;
        if core.state == SessionState::Closed {
            return;
        }
        if let Some(open_dialect) = &mut self.open_dialect {
            if !matches!(command, Command::Close { .. } | Command::Drain) {
                return open_dialect.commands.push(command);
            }
        }
        dispatch!(&mut self.dialect, it => apply(&mut **it, core, command));
    }

    // ---- outputs -----------------------------------------------------------------------------

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        let core = &mut self.core;
        let mut event = dispatch!(&mut self.dialect, it => events::poll_event(&mut **it, core));
        if self.open_dialect.is_some() {
            self.agree();
            let core = &mut self.core;
            event = event.or_else(
                || dispatch!(&mut self.dialect, it => events::poll_event(&mut **it, core)),
            );
        }
        let core = &mut self.core;
        let is_frame = matches!(event, Some(Event::Frame { .. } | Event::Datagram { .. }));
        core.counts.frames_received += u64::from(is_frame);
        if self.is_closed() {
            self.forget();
        }
        event
    }

    pub(super) fn recycle(&mut self, payload: Chunks) {
        if let Some(list) = payload.recycle() {
            self.core.chunk_list = list;
        }
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        let core = &mut self.core;
        if core.goaway_is_done() {
            core.drain();
        }
        if core.state == SessionState::Draining && core.is_flushed() {
            core.close(Error::SessionClosed);
        }
        if core.state == SessionState::Lost {
            // There is no connection that the actions could apply to.
            core.actions.clear();
        }
        let action = core.actions.pop_front();
        if core.state == SessionState::Closed {
            // After the close nothing else matters.
            core.actions.clear();
        }
        action.map(|action| match action {
            Action::Reset { id, code } => Action::Reset { id, code: core.wire_code(code) },
            Action::Stop { id, code } => Action::Stop { id, code: core.wire_code(code) },
            other => other,
        })
    }

    pub(super) fn poll_open(&mut self, source: &mut impl Source) -> Option<Open<'_>> {
        let core = &mut self.core;
        if core.is_cut_off() {
            return None;
        }
        let is_unopened = core.control.as_ref().is_some_and(|control| control.stream.is_none());
        let (target, priority) = if core.has_credit(Dir::Uni) && is_unopened {
            (OpenTarget::Control, CONTROL_PRIORITY)
        } else if core.has_credit(Dir::Bi) && core.requests.wants_stream() {
            (OpenTarget::Request, CONTROL_PRIORITY)
        } else if core.has_credit(Dir::Uni) {
            let rules = core.rules();
            let Core { schedule, scratch, actions, .. } = &mut *core;
            let (group_ref, priority) = schedule.pick_unopened(source, scratch, actions, rules)?;
            (OpenTarget::Group(group_ref), priority)
        } else {
            return None;
        };
        Some(Open { core, target, priority, recorder: None })
    }

    pub(super) fn poll_write(&mut self, source: &mut impl Source) -> Option<Write<'_>> {
        if self.core.is_cut_off() {
            return None;
        }
        self.core.scratch.clear();
        let (target, id, fin) = self.next_write(source)?;
        Some(Write { core: &mut self.core, target, id, fin, recorder: None })
    }

    fn next_write(&mut self, source: &mut impl Source) -> Option<(WriteTarget, StreamId, bool)> {
        let core = &mut self.core;
        if let Some(control) = &mut core.control {
            if let (Some(id), false, true) =
                (control.stream, control.blocked, control.send.has_work())
            {
                let (bytes, fin) = control.send.offer(MAX_BURST);
                core.scratch.copy(&bytes);
                core.scratch.flush();
                return Some((WriteTarget::Control, id, fin));
            }
        }
        while let Some(key) = core.requests.next_writable() {
            dispatch!(&mut self.dialect, it => it.fill_request(core, key, source));
            if let Some((id, bytes, fin)) = core.requests.offer(key) {
                core.scratch.copy(&bytes);
                core.scratch.flush();
                return Some((WriteTarget::Request(key), id, fin));
            }
            core.requests.pop_writable();
        }
        let rules = core.rules();
        let Core { schedule, scratch, actions, .. } = core;
        let write = schedule.pick_writable(source, scratch, actions, rules)?;
        Some((WriteTarget::Group(write), write.stream, write.fin))
    }

    pub(super) fn poll_datagram(&mut self, source: &mut impl Source) -> Option<Datagram<'_>> {
        let core = &mut self.core;
        if core.is_cut_off() || core.datagrams.blocked {
            return None;
        }
        let group_ref =
            dispatch!(&self.dialect, it => publishing::pick_datagram(&**it, core, source))?;
        Some(Datagram { core, group_ref, recorder: None })
    }

    pub(super) fn has_work(&self) -> bool {
        let core = &self.core;
        if !core.actions.is_empty() || !core.notices.is_empty() {
            return true;
        }
        if core.is_cut_off() {
            return core.state == SessionState::Lost;
        }
        let control = core.control.as_ref().is_some_and(|control| match control.stream {
            None => core.has_credit(Dir::Uni),
            Some(_) => !control.blocked && control.send.has_work(),
        });
        control
            || !core.schedule.released.is_empty()
            || events::has_events(core)
            || core.requests.has_writable()
            || (core.has_credit(Dir::Bi) && core.requests.wants_stream())
            || core.schedule.has(Work::Write)
            || (!core.datagrams.blocked && core.schedule.has(Work::Datagram))
            || (core.has_credit(Dir::Uni) && core.schedule.has(Work::Open))
            || (core.state == SessionState::Draining && core.is_flushed())
            || core.goaway_is_done()
    }

    pub(super) fn read_limit(&self, id: StreamId) -> usize {
        match self.core.is_recv_stream(id) {
            false => self.core.requests.read_limit(id),
            true => self.core.recv_streams.read_limit(id),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.core.state == SessionState::Closed
    }

    /// The end was reported: frees all memory.
    fn forget(&mut self) {
        self.core.forget();
        self.open_dialect = None;
        dispatch!(&mut self.dialect, it => it.forget());
    }
}

/// Does what the application commands.
fn apply(dialect: &mut impl Dialect, core: &mut Core, command: Command) {
    match command {
        Command::Accept { hop, interests } => {
            if core::mem::take(&mut core.awaits_accept) {
                dialect.accept(core, hop, interests);
            }
        }
        Command::Close { error } => core.close(error),
        Command::Drain => core.drain(),
        Command::GoAway { uri, timeout } => {
            if let Some(deadline) = core.begin_goaway(timeout) {
                dialect.write_goaway(core, uri, deadline);
            }
        }
        Command::AcceptSubscribe { request, info, largest } => {
            publishing::accept_subscribe(dialect, core, request.into(), &info, largest);
        }
        Command::FinishSubscribe { request, end } => {
            publishing::finish_subscribe(dialect, core, request.into(), end);
        }
        Command::Group { request, group, sequence, first_frame } => {
            let (request, place) = (request.into(), (sequence, first_frame));
            publishing::push_group(dialect, core, request, group, place, SendAs::Stream);
        }
        Command::Subgroup { request, group, sequence, subgroup } => {
            let (request, send_as) = (request.into(), SendAs::Subgroup(subgroup));
            publishing::push_group(dialect, core, request, group, (sequence, 0), send_as);
        }
        Command::Datagram { request, group, sequence } => {
            let (request, place) = (request.into(), (sequence, 0));
            publishing::push_group(dialect, core, request, group, place, SendAs::Datagram);
        }
        Command::AcceptFetch { request, group, info, frames, ends_track } => {
            fetching::accept(dialect, core, request.into(), group, &info, frames, ends_track);
        }
        Command::AcceptRange { request, info, end, ends_track } => {
            fetching::accept_range(dialect, core, request.into(), &info, end, ends_track);
        }
        Command::RangeGroup { request, group, run, gap } => {
            fetching::push_part(dialect, core, request.into(), Some((group, run)), gap);
        }
        Command::EndRange { request, gap } => {
            fetching::push_part(dialect, core, request.into(), None, gap);
        }
        Command::Fetch {
            fetch,
            broadcast,
            track,
            priority,
            sequence,
            first_frame: first,
            last_frame: last,
        } => {
            let wanted = OutgoingFetch::new(priority, sequence, FrameRange::new(first, last));
            fetching::begin(dialect, core, fetch, (broadcast, track), wanted);
        }
        Command::CancelFetch { fetch } => fetching::cancel(dialect, core, fetch),
        Command::GroupReady { request, sequence } => {
            core.schedule.on_ready(GroupRef { request: request.into(), place: (sequence, 0) });
        }
        Command::SubgroupReady { request, sequence, number } => {
            core.schedule.on_ready(GroupRef { request: request.into(), place: (sequence, number) });
        }
        Command::StopGroup { group, error } => groups::stop(dialect, core, group.into(), &error),
        Command::Subscribe { subscription, broadcast, track, want } => {
            subscribing::begin(dialect, core, subscription, (broadcast, track), want);
        }
        Command::UpdateSubscribe { subscription, want } => {
            subscribing::update(dialect, core, subscription, want);
        }
        Command::Unsubscribe { subscription } => {
            subscribing::unsubscribe(dialect, core, subscription);
        }
        command => dialect.apply(core, command),
    }
}

#[cfg(any(test, feature = "sim"))]
impl crate::census::Counted for AnyDialect {
    fn count(&self, name: &'static str, census: &mut crate::census::Census) {
        dispatch!(self, it => it.count(name, census));
    }
}

census! { BareMachine { within: core, dialect; plain: open_dialect; } }
