//! Broadcasts: tracks under one path, created by the application or on request.

mod consumer;
mod dynamic;
mod producer;
mod state;
#[cfg(test)]
mod tests;
mod track_list;
mod upstream;
mod upstream_selection;
mod upstreams;

pub use consumer::BroadcastConsumer;
pub use dynamic::{BroadcastDynamic, TrackRequest};
pub use producer::BroadcastProducer;
pub use track_list::TrackNames;
pub(crate) use upstream::{Upstream, UpstreamTrack};

use crate::model::base::Route;
use crate::model::cache::Cache;
use crate::{Limits, Path};

/// A collection of tracks that belongs to no origin. For one in an origin see
/// [`OriginProducer::create_broadcast`](super::OriginProducer::create_broadcast).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Broadcast {}

impl Broadcast {
    /// Describes a broadcast without a path.
    pub fn new() -> Self {
        Self {}
    }

    /// Creates the broadcast, with a cache of its own under the default [`Limits`].
    pub fn produce(self) -> BroadcastProducer {
        BroadcastProducer::new(Path::root(), Cache::new(Limits::default()), Route::default())
    }
}
