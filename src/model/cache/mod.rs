//! The cache: frames in pages, groups, tracks, and the budget that bounds them.

mod budget;
mod cached_groups;
mod cached_subgroups;
mod frame;
mod group;
mod page;
mod stats;
mod track;

pub(crate) use budget::{Account, Cache, CacheMember};
pub use frame::Frame;
pub use group::{FrameConsumer, FrameProducer, Group, GroupConsumer, GroupProducer};
pub(crate) use group::{GroupCursor, GroupForm};
pub use stats::TrackStats;
pub(crate) use track::{
    FetchedRun, KeepAlive, Occupancy, OccupancySlots, PartialGroup, TrackShared, UpstreamFetch,
    WeakTrack,
};
pub use track::{GroupRequest, Track, TrackConsumer, TrackDynamic, TrackProducer};
