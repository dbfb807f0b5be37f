//! What applications hold: handles to origins, broadcasts, tracks, groups and frames.
//!
//! Every wait is there three times: `poll_x(cx)` for executors, `x().await`, and `try_x()`, which
//! answers at once and registers nothing. All three are one function inside.

mod broadcast;
mod budget;
mod clock;
mod driver;
mod frame;
mod goaway;
mod group;
#[cfg(test)]
mod growth;
mod log;
mod origin;
mod outbox;
mod page;
mod probe;
mod ready;
mod request;
mod route;
mod scope;
mod session;
mod shelf;
mod stats;
mod table;
#[cfg(test)]
mod tests;
mod track;
mod wakers;

pub use broadcast::{
    Broadcast, BroadcastConsumer, BroadcastDynamic, BroadcastProducer, TrackRequest,
};
pub use clock::Clock;
pub use driver::Driver;
pub use frame::{Frame, FrameConsumer, FrameProducer};
pub use goaway::Goaway;
pub use group::{Group, GroupConsumer, GroupProducer};
pub use origin::{
    Announce, BroadcastRequest, Origin, OriginConsumer, OriginDynamic, OriginProducer,
};
pub use probe::Probe;
pub use ready::ReadyList;
pub use request::SessionRequest;
pub use session::{Client, Server, Session};
pub use stats::{SessionStats, TrackStats};
pub use track::{GroupRequest, Track, TrackConsumer, TrackDynamic, TrackProducer};

/// What a handle answers.
pub type Result<T, E = crate::Error> = core::result::Result<T, E>;
