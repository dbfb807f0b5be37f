//! The base of the other modules of the model: wakers, routes, the clock and counters.

mod clock;
mod counters;
mod debug;
mod ready_list;
mod route;
#[cfg(test)]
mod steps;
pub(crate) mod sync;
mod wakers;

pub use clock::Clock;
pub(crate) use counters::{add, count, counters, set};
pub(crate) use debug::impl_debug;
pub use ready_list::ReadyList;
pub(crate) use route::{HOLD_TIME, Horizon, Rank, Reach, Route, SUSPECT_TIME, SessionId};
#[cfg(test)]
pub(crate) use steps::{count_step, steps};
pub(crate) use wakers::{DeferredWakes, WaitSlot, Wakers, change, lock, wait, wait_on};

/// The result of a call on a handle.
pub type Result<T, E = crate::Error> = core::result::Result<T, E>;
