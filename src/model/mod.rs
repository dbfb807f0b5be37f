//! What applications hold: handles to origins, broadcasts, tracks, groups and frames.
//!
//! Every wait is there three times: `poll_x(cx)` for executors, `x().await`, and `try_x()`, which
//! answers at once and registers nothing. All three are one function inside.

mod budget;
mod frame;
mod group;
mod page;
mod ready;
mod shelf;
#[cfg(test)]
mod tests;
mod track;
mod wakers;

pub use frame::{Frame, FrameConsumer, FrameProducer};
pub use group::{GroupConsumer, GroupProducer};
pub use ready::ReadyList;
pub use track::{Track, TrackConsumer, TrackProducer};

/// What a handle answers.
pub type Result<T, E = crate::Error> = core::result::Result<T, E>;
