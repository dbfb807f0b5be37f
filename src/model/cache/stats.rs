//! Counters of a track.

use crate::model::base::counters;

counters! {
    /// What was written to a track ([`TrackProducer::stats`](super::TrackProducer::stats)) or to
    /// all tracks of a broadcast ([`BroadcastProducer::stats`](crate::BroadcastProducer::stats)),
    /// and what they hold.
    TrackStats,
    /// The counters of a track.
    TrackCells {
        /// Count of groups that were created.
        groups,
        /// Count of frames that were completed.
        frames,
        /// Count of payload bytes of those frames.
        bytes,
        /// Count of groups that were given up because of their age.
        expired_groups,
        /// Count of groups that were given up because of the limits of the cache.
        evicted_groups,
        /// Gauge of bytes in memory: payload and the memory needed to manage it.
        cached_bytes,
    }
}
