//! The pure state machine of one session: no I/O, no clock, no locks, no tasks.
//!
//! One [`Machine`] belongs to one QUIC connection. Report what the connection does with
//! [`Machine::handle`]: it never fails and never blocks. Then take its outputs, in any amount:
//!
//! | call | returns | answered by |
//! |---|---|---|
//! | [`poll_event`](Machine::poll_event) | what the peer did, for the application | [`apply`](Machine::apply) |
//! | [`poll_action`](Machine::poll_action) | resets, priorities and other changes to the connection | - |
//! | [`poll_open`](Machine::poll_open) | the most urgent stream to open now | [`Open::opened`], [`Open::blocked`] |
//! | [`poll_datagram`](Machine::poll_datagram) | the most urgent datagram to send now | [`Datagram::sent`], [`Datagram::blocked`] |
//! | [`poll_write`](Machine::poll_write) | the most urgent bytes to write now | [`Write::accepted`], [`Write::blocked`] |
//! | [`poll_timeout`](Machine::poll_timeout) | when to call [`handle_timeout`](Machine::handle_timeout) | - |
//!
//! Hand in all inputs that are ready before the first `poll_datagram` and `poll_write`. Otherwise the order in
//! which QUIC reports streams decides, and not the priorities. Equal inputs give equal outputs.

mod bare_machine;
mod chunks;
mod command;
mod config;
mod counts;
mod engine;
mod event;
mod frame_view;
mod guards;
mod ietf;
mod io;
mod layout;
mod lite;
mod network_path;
mod recording;
mod run;
mod source;
mod stream_buffers;
pub mod trace;

#[cfg(test)]
mod tests;

use alloc::boxed::Box;

pub use chunks::Chunks;
pub use command::Command;
pub use config::Config;
pub use counts::Counts;
pub use event::{
    Event, FetchRange, FramePosition, GroupKey, ObjectRun, RangeTarget, RequestKey, Subgroup,
};
pub use frame_view::{FrameView, WireFrame};
pub use guards::{Datagram, Open, Write};
pub use io::{Action, Input};
pub use network_path::{NetworkPath, PathEstimate};
pub use run::Run;
pub use source::{Announcement, Source, Supply, Token};

pub use crate::hop::Cost;

use crate::census::census;
use crate::stream::StreamId;
use crate::time::Instant;
use crate::version::Version;
use bare_machine::BareMachine;
use recording::Sink;
use recording::digest::digested;
use recording::field::Field;
use recording::format::Kind;
use recording::recorder::{RecordedSource, Recorder};

/// The state machine of one session. See the [module](self).
#[derive(Debug)]
pub struct Machine {
    bare: BareMachine,
    /// Writes down the calls, if the session is recorded.
    recorder: Option<Box<Recorder>>,
}

impl Machine {
    /// A session that begins now on a fresh connection.
    pub fn new(config: Config, now: Instant) -> Self {
        Self::with_sink(config, now, None)
    }

    /// Like [`new`](Self::new). If there is a sink, it gets a [trace] of the session.
    pub fn with_sink(config: Config, now: Instant, sink: Option<Box<dyn Sink>>) -> Self {
        let recorder = sink.map(|sink| Box::new(Recorder::new(sink, &config, now)));
        Self { bare: BareMachine::new(config, now), recorder }
    }

    fn record(&mut self, kind: Kind, fields: &[&dyn Field]) {
        if let Some(recorder) = &mut self.recorder {
            recorder.record(kind, fields);
        }
    }

    // ---- inputs ------------------------------------------------------------------------------

    /// Reports what the connection did. It never fails: misbehaviour of the peer comes out as an
    /// [`Action`] or an [`Event`]. Nothing is decoded yet; only a stream whose sender ignores
    /// [`read_limit`](Self::read_limit) by more than 64 KiB is stopped here.
    pub fn handle(&mut self, now: Instant, input: Input) {
        self.record(Kind::Input, &[&now, &input]);
        self.bare.handle(now, input);
    }

    /// Reports that time passed. Calling it when nothing was due changes nothing. Pull all events before: a deadline
    /// does not know of input that was not decoded yet.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.record(Kind::Time, &[&now]);
        self.bare.handle_timeout(now);
    }

    /// Does what the application commands. A command about something that ended does nothing.
    pub fn apply(&mut self, command: Command) {
        self.record(Kind::Command, &[&command]);
        self.bare.apply(command);
    }

    // ---- outputs -----------------------------------------------------------------------------

    /// The next event. Decodes one message or frame, from the most urgent stream that has one.
    /// `None` until the next input or command.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.bare.poll_event();
        if let Some(recorder) = &mut self.recorder {
            recorder.record(Kind::Event, &[&digested(event.clone())]);
        }
        event
    }

    /// Takes back a payload that was copied. The next one that arrives in several chunks then needs no allocation. A payload
    /// that is dropped instead costs no more than that.
    pub fn recycle(&mut self, payload: Chunks) {
        self.bare.recycle(payload);
    }

    /// The next small thing to do to the connection. `None` until another call changes something.
    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.bare.poll_action();
        self.record(Kind::Action, &[&action]);
        action
    }

    /// The most urgent stream to open now: control, then groups. A group that is no longer available
    /// uses no credit. `None` until something changed, or credit came back after [`Open::blocked`].
    pub fn poll_open(&mut self, source: &mut impl Source) -> Option<Open<'_>> {
        let Some(recorder) = self.recorder.as_deref_mut() else {
            return self.bare.poll_open(source);
        };
        let open = self.bare.poll_open(&mut RecordedSource { source, recorder });
        recorder.record(Kind::Open, &[&open.as_ref().map(|open| (open.dir(), open.priority()))]);
        open.map(|open| Open { recorder: Some(recorder), ..open })
    }

    /// The most urgent bytes to write now, as slices of the cache: control first, then groups by
    /// priority. `None` until something changed.
    pub fn poll_write(&mut self, source: &mut impl Source) -> Option<Write<'_>> {
        let Some(recorder) = self.recorder.as_deref_mut() else {
            return self.bare.poll_write(source);
        };
        let write = self.bare.poll_write(&mut RecordedSource { source, recorder });
        recorder.record(Kind::Write, &[&write.as_ref().map(Write::digest)]);
        write.map(|write| Write { recorder: Some(recorder), ..write })
    }

    /// The most urgent group to send as a datagram now. QUIC sends datagrams before the bytes of
    /// streams, so call this before [`poll_write`](Self::poll_write). `None` until something changed, or
    /// there is room again after [`Datagram::blocked`].
    pub fn poll_datagram(&mut self, source: &mut impl Source) -> Option<Datagram<'_>> {
        let Some(recorder) = self.recorder.as_deref_mut() else {
            return self.bare.poll_datagram(source);
        };
        let datagram = self.bare.poll_datagram(&mut RecordedSource { source, recorder });
        recorder.record(Kind::Datagram, &[&datagram.as_ref().map(Datagram::digest)]);
        datagram.map(|datagram| Datagram { recorder: Some(recorder), ..datagram })
    }

    /// When to call [`Machine::handle_timeout`] at the latest. `None`: there is no deadline.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let core = &self.bare.core;
        [core.timers.next(), core.schedule.retry_at()].into_iter().flatten().min()
    }

    // ---- state -------------------------------------------------------------------------------

    /// Whether one of the `poll_*` calls that return work may return something.
    pub fn has_work(&self) -> bool {
        self.bare.has_work()
    }

    /// Whether QUIC refused bytes of a group, and has taken none of any group since. The adapter's measure of
    /// how fast bytes leave is that of the path then, and not that of the application.
    pub fn is_blocked(&self) -> bool {
        self.bare.core.schedule.is_blocked()
    }

    /// How many more bytes of this stream may be handed in now. At 0 leave them in QUIC until
    /// [`Action::Resume`].
    pub fn read_limit(&self, id: StreamId) -> usize {
        self.bare.read_limit(id)
    }

    /// The version that is spoken. While the set-up has yet to agree on it, the most preferred one that
    /// is possible.
    pub fn version(&self) -> Version {
        self.bare.core.version
    }

    /// Whether the session is over. Only [`Action::Close`] and [`Event::Closed`] may follow.
    /// After [`Input::Closed`] it turns `true` when the events of everything that arrived before were
    /// pulled.
    pub fn is_closed(&self) -> bool {
        self.bare.is_closed()
    }

    /// The counters of the machine, from its beginning.
    pub fn counts(&self) -> Counts {
        self.bare.core.counts
    }

    /// The newest [`Input::NetworkPath`]; the default once the connection is gone.
    pub fn network_path(&self) -> NetworkPath {
        let core = &self.bare.core;
        if core.is_cut_off() { NetworkPath::default() } else { core.network_path }
    }

    /// How many datagrams arrived and were of no use: malformed, for an unknown subscription, or too
    /// many at once.
    pub fn lost_datagrams(&self) -> u64 {
        self.bare.core.datagrams.lost
    }

    /// How many bytes the sink took so far, and whether it takes more. `None` if the session is not
    /// recorded.
    pub fn recording(&self) -> Option<(u64, bool)> {
        self.recorder.as_ref().map(|recorder| recorder.progress())
    }

    /// The number of remembered entries.
    #[cfg(test)]
    fn entries(&self) -> usize {
        crate::census::Census::of(self).total()
    }
}

census! { Machine { within: bare; plain: recorder; } }
