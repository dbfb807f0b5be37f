//! The handles that applications hold: origins, broadcasts, tracks, groups, frames and sessions.
//!
//! Each wait comes in three forms: `poll_x(cx)` for executors, `x().await`, and `try_x()`, which
//! answers at once and registers no waker. All three call one private function.

mod base;
mod cache;
mod routing;
mod session;
#[cfg(feature = "stream")]
mod streams;
#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "sim"))]
pub(crate) use base::sync;
pub use base::{Clock, ReadyList, Result};
pub use cache::{
    Frame, FrameConsumer, FrameProducer, Group, GroupConsumer, GroupProducer, GroupRequest, Track,
    TrackConsumer, TrackDynamic, TrackProducer, TrackStats,
};
pub use routing::{
    Announce, Broadcast, BroadcastConsumer, BroadcastDynamic, BroadcastProducer, BroadcastRequest,
    Origin, OriginConsumer, OriginDynamic, OriginProducer, TrackRequest,
};
pub use session::{
    Client, CloseReason, Driver, Goaway, HttpRequest, IncomingSession, PeerRequest,
    PeerRequestKind, Probe, Retained, Server, Session, SessionGauges, SessionStats,
};
#[cfg(feature = "stream")]
pub use streams::{Announcements, Frames, Groups};
