//! A machine without a driver.

use alloc::vec::Vec;
use core::mem;

use super::Endpoint;
use crate::machine::{Action, Command, Datagram, Event, Input, Machine, Open, Source, Write};
use crate::stream::StreamId;
use crate::time::Instant;

/// A [`Machine`] with its source. It collects the events for a test to inspect.
#[derive(Debug)]
pub struct Bare<S> {
    /// The machine.
    pub machine: Machine,
    /// The source of the frames that it sends.
    pub source: S,
    /// The events that were pulled, in order.
    pub events: Vec<Event>,
    /// The number of events to collect. No further event is pulled then, as by a slow application.
    pub room: usize,
    /// Whether each broadcast that the peer offers is accepted at once, and the event left out. Default `true`.
    pub accepts_broadcasts: bool,
}

impl<S> Bare<S> {
    /// An endpoint that collects any number of events.
    pub const fn new(machine: Machine, source: S) -> Self {
        Self { machine, source, events: Vec::new(), room: usize::MAX, accepts_broadcasts: true }
    }

    /// As [`Machine::apply`].
    pub fn apply(&mut self, command: Command) {
        self.machine.apply(command);
    }

    /// The events that were pulled since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        mem::take(&mut self.events)
    }
}

impl<S: Source> Endpoint for Bare<S> {
    fn handle(&mut self, now: Instant, input: Input) {
        self.machine.handle(now, input);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.machine.handle_timeout(now);
    }

    fn work(&mut self, _: Instant) -> bool {
        let event = if self.events.len() < self.room { self.machine.poll_event() } else { None };
        let any = event.is_some();
        if let (Some(Event::BroadcastOffered { request, .. }), true) =
            (&event, self.accepts_broadcasts)
        {
            self.machine.apply(Command::AcceptOffer { request: *request });
            return true;
        }
        self.events.extend(event);
        any
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.machine.poll_action()
    }

    fn poll_open(&mut self) -> Option<Open<'_>> {
        self.machine.poll_open(&mut self.source)
    }

    fn poll_datagram(&mut self) -> Option<Datagram<'_>> {
        self.machine.poll_datagram(&mut self.source)
    }

    fn poll_write(&mut self) -> Option<Write<'_>> {
        self.machine.poll_write(&mut self.source)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }

    fn has_work(&self) -> bool {
        self.events.len() < self.room && self.machine.has_work()
    }

    fn read_limit(&self, id: StreamId) -> usize {
        self.machine.read_limit(id)
    }

    fn is_closed(&self) -> bool {
        self.machine.is_closed()
    }
}
