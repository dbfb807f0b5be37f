//! Two endpoints joined in memory, without QUIC: a link with windows, stream credit, bandwidth, reordering
//! and faults, and a clock that only a test moves. The same seed gives the same run, line by line of its
//! [`Trace`].
//!
//! It serves tests and benches of anything that drives a [`Machine`]: implement [`Endpoint`], or join
//! [`Bare`] machines. It is outside of semver.

mod alarm;
mod bare;
#[cfg(feature = "std")]
mod driver;
mod link;
mod net;
mod pair;
mod random;
mod shelf;
mod trace;
mod wakes;

#[cfg(test)]
mod tests;

pub use crate::census::Census;
pub use alarm::Alarm;
pub use bare::Bare;
pub use link::Link;
pub use pair::Pair;
pub use random::Random;
pub use shelf::{Frame, Shelf};
pub use trace::Trace;
pub use wakes::Wakes;

use core::task::{Context, Poll};

use crate::machine::{Action, Datagram, Input, Open, Write};
use crate::stream::StreamId;
use crate::time::Instant;

#[cfg(doc)]
use crate::machine::Machine;

/// One end of a [`Link`]: the calls of a [`Machine`] without the source, which the endpoint owns.
pub trait Endpoint {
    /// As [`Machine::handle`].
    fn handle(&mut self, now: Instant, input: Input);

    /// As [`Machine::handle_timeout`].
    fn handle_timeout(&mut self, now: Instant);

    /// Performs one bounded step of the endpoint's own work, such as pulling an event. `false`: there was
    /// nothing to do. See [`Driver::work`](crate::Driver::work).
    fn work(&mut self, now: Instant) -> bool;

    /// As [`Machine::poll_action`].
    fn poll_action(&mut self) -> Option<Action>;

    /// As [`Machine::poll_open`].
    fn poll_open(&mut self) -> Option<Open<'_>>;

    /// As [`Machine::poll_datagram`]. An endpoint without datagrams need not implement it.
    fn poll_datagram(&mut self) -> Option<Datagram<'_>> {
        None
    }

    /// As [`Machine::poll_write`].
    fn poll_write(&mut self) -> Option<Write<'_>>;

    /// As [`Machine::poll_timeout`].
    fn poll_timeout(&self) -> Option<Instant>;

    /// As [`Machine::has_work`]: `false` once none of the calls above returns anything.
    fn has_work(&self) -> bool;

    /// As [`Machine::read_limit`].
    fn read_limit(&self, id: StreamId) -> usize;

    /// As [`Machine::is_closed`].
    fn is_closed(&self) -> bool;

    /// As [`Driver::poll_wake`](crate::Driver::poll_wake), for an endpoint that handles of its model can
    /// wake.
    fn poll_wake(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// The census of the endpoint, if it has one. It must be empty once the connection is gone, which
    /// dropping a [`Pair`] checks.
    fn census(&self) -> Census {
        Census::default()
    }
}
