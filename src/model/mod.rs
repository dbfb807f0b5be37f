//! What applications hold: handles to origins, broadcasts, tracks, groups and frames.
//!
//! Every wait is there three times: `poll_x(cx)` for executors, `x().await`, and `try_x()`, which
//! answers at once and registers nothing. All three are one function inside.

mod base;
mod cache;
mod routing;
mod session;
#[cfg(test)]
mod tests;

pub use base::{Clock, ReadyList};
pub use cache::{
    Frame, FrameConsumer, FrameProducer, Group, GroupConsumer, GroupProducer, GroupRequest, Track,
    TrackConsumer, TrackDynamic, TrackProducer, TrackStats,
};
pub use routing::{
    Announce, Broadcast, BroadcastConsumer, BroadcastDynamic, BroadcastProducer, BroadcastRequest,
    Origin, OriginConsumer, OriginDynamic, OriginProducer, TrackRequest,
};
pub use session::{Client, Driver, Goaway, Probe, Server, Session, SessionRequest, SessionStats};

/// What a handle answers.
pub type Result<T, E = crate::Error> = core::result::Result<T, E>;
