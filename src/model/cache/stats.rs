//! Counters of a track.

use crate::model::base::counters;

counters! {
    /// Counters of a track ([`TrackProducer::stats`](super::TrackProducer::stats)) or of all tracks of
    /// a broadcast ([`BroadcastProducer::stats`](crate::BroadcastProducer::stats)). They only grow.
    TrackStats,
    /// The counters of a track.
    TrackCells {
        /// Groups that were created.
        groups,
        /// Frames that were completed.
        frames,
        /// Payload bytes of those frames.
        bytes,
        /// Groups that were given up because of their age.
        expired_groups,
        /// Groups that were given up because of the limits of the cache.
        evicted_groups,
    }
    gauges: ;
}
