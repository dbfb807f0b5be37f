//! A [`Driver`] at the end of a link.

use core::task::{Context, Poll};

use super::{Census, Endpoint};
use crate::machine::{Action, Datagram, Input, Open, Write};
use crate::model::Driver;
use crate::stream::StreamId;
use crate::time::Instant;

impl Endpoint for Driver {
    fn handle(&mut self, now: Instant, input: Input) {
        Self::handle(self, now, input);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.end_turn(now, false);
    }

    fn work(&mut self, now: Instant) -> bool {
        Self::work(self, now)
    }

    fn poll_action(&mut self) -> Option<Action> {
        Self::poll_action(self)
    }

    fn poll_open(&mut self) -> Option<Open<'_>> {
        Self::poll_open(self)
    }

    fn poll_datagram(&mut self) -> Option<Datagram<'_>> {
        Self::poll_datagram(self)
    }

    fn poll_write(&mut self) -> Option<Write<'_>> {
        Self::poll_write(self)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Self::poll_timeout(self)
    }

    fn has_work(&self) -> bool {
        Self::has_work(self)
    }

    fn read_limit(&self, id: StreamId) -> usize {
        Self::read_limit(self, id)
    }

    fn is_closed(&self) -> bool {
        self.close_reason().is_some()
    }

    fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Self::poll_wake(self, cx)
    }

    fn census(&self) -> Census {
        Self::census(self)
    }
}
