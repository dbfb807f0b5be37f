//! Tracks: groups by number, from any number of writers to any number of readers.

mod consumer;
mod demand;
mod dynamic;
mod group_fetcher;
mod occupancy;
mod partial_groups;
mod pending_fetches;
mod producer;
mod ranges;
mod state;
mod track_upstreams;
mod weak;

pub(crate) use consumer::KeepAlive;
pub use consumer::TrackConsumer;
pub use dynamic::{GroupRequest, TrackDynamic};
pub(crate) use dynamic::{PartialGroup, UpstreamFetch};
pub(crate) use occupancy::{Occupancy, OccupancySlots};
pub use producer::TrackProducer;
pub(crate) use ranges::FetchedRun;
pub(crate) use state::TrackShared;
pub(crate) use weak::WeakTrack;

use std::sync::Arc;
use std::time::Duration;

use crate::model::cache::budget::Cache;
use crate::{Limits, Timescale, TrackInfo};

/// Describes a track before it is created: its name, and what its publisher says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// The name in the broadcast.
    pub name: Arc<str>,
    /// Properties of the track. They never change.
    pub info: TrackInfo,
}

impl Track {
    /// Describes a track with this name and the defaults of [`TrackInfo`].
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), info: TrackInfo::default() }
    }

    /// Sets the number of timestamp units per second. The value is clamped to 1 ..= 2^62 - 1, which
    /// all versions can carry. The default is that of [`TrackInfo::timescale`].
    #[must_use]
    pub fn timescale(mut self, units_per_second: u64) -> Self {
        let units = units_per_second.clamp(1, (1 << 62) - 1);
        self.info.timescale = Timescale::new(units).unwrap_or_default();
        self
    }

    /// Sets [`TrackInfo::priority`].
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.info.priority = priority;
        self
    }

    /// Sets [`TrackInfo::max_age`].
    #[must_use]
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.info.max_age = max_age;
        self
    }

    /// Sets [`TrackInfo::dynamic_groups`]: the publisher then waits for
    /// [`TrackProducer::new_group_requested`].
    #[must_use]
    pub fn dynamic_groups(mut self, dynamic_groups: bool) -> Self {
        self.info.dynamic_groups = dynamic_groups;
        self
    }

    /// Creates a track that belongs to no broadcast, with a cache of its own under the default
    /// [`Limits`].
    pub fn produce(self) -> TrackProducer {
        self.produce_within(Limits::default())
    }

    /// As [`produce`](Self::produce), with the given limits.
    pub fn produce_within(self, limits: Limits) -> TrackProducer {
        TrackProducer::new(self, Cache::new(limits), Arc::default())
    }
}

impl From<&str> for Track {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}
