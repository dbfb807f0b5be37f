//! Counters of a track.

use crate::model::base::counters;

counters! {
    /// What was written to a track, from [`TrackProducer::stats`](super::TrackProducer::stats), or to all
    /// tracks of a broadcast, from [`BroadcastProducer::stats`](super::BroadcastProducer::stats); and what
    /// they hold.
    TrackStats,
    /// The counts of a track.
    TrackCells {
        /// Count of groups that were begun.
        groups,
        /// Count of frames that were written to their end.
        frames,
        /// Count of payload bytes of those frames.
        bytes,
        /// Count of groups that were given up for their age.
        expired_groups,
        /// Count of groups that were given up for the limits of the cache.
        evicted_groups,
        /// Gauge of bytes in memory, payload and what it takes to keep it.
        cached_bytes,
    }
}
