//! The handles that applications hold: origins, broadcasts, tracks, groups, frames and sessions.
//!
//! The three forms of a wait, `x().await`, `poll_x(cx)` and `try_x()`, call one private function.

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
    Origin, OriginConsumer, OriginDynamic, OriginProducer, TrackNames, TrackRequest,
};
pub use session::{
    Client, CloseReason, Driver, Goaway, HttpRequest, IncomingSession, PeerRequest,
    PeerRequestKind, Probe, Retained, Server, Session, SessionGauges, SessionStats, TracksRequest,
};
#[cfg(feature = "stream")]
pub use streams::{Announcements, Frames, Groups};
