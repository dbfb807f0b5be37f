//! Counters of a session.

use crate::model::base::counters;

counters! {
    /// What a session did and what it holds, from [`Session::stats`](super::Session::stats).
    ///
    /// Counts of bytes and frames, and gauges, are updated at the end of each turn of the driver,
    /// when the adapter asks for the next deadline.
    SessionStats,
    /// The counters of a session.
    SessionCells {
        /// Count of bytes of streams and datagrams that QUIC accepted for sending.
        bytes_sent,
        /// Count of bytes of streams and datagrams that QUIC delivered.
        bytes_received,
        /// Count of frames that QUIC accepted completely.
        frames_sent,
        /// Count of frames of the peer that began to arrive.
        frames_received,
        /// Count of groups that QUIC accepted completely.
        groups_sent,
        /// Count of groups of the peer that arrived completely.
        groups_received,
        /// Count of groups that were to be sent and were not sent completely: they were too old for
        /// their subscriber, stopped by it, aborted or evicted.
        skipped_groups,
        /// Count of the skipped groups that were too old ([`Error::Old`](crate::Error::Old)).
        expired_groups,
        /// Count of groups of the peer that broke off: they were reset, malformed, or no longer
        /// wanted.
        broken_groups,
        /// Count of streams of the peer that were not wanted (moq-transport): a subgroup other than
        /// 0, or a group without its first objects.
        refused_groups,
        /// Count of datagrams of the peer that arrived and could not be used: they were malformed,
        /// of no subscription of this side, duplicates, too old, or more than
        /// [`Limits::datagrams`](crate::Limits::datagrams) at once.
        lost_datagrams,
        /// Count of requests of the peer that this side refused because the broadcast or track does
        /// not exist, failed, or is not allowed.
        refused_requests,
        /// Gauge of tracks that the peer reads or queries.
        serving,
        /// Gauge of tracks of the peer that are read or queried here, or that linger
        /// ([`Limits::linger_time`](crate::Limits::linger_time)).
        reading,
        /// Gauge of broadcasts of the peer.
        announced,
        /// Gauge of groups that are being sent.
        sending_groups,
        /// Gauge of groups that are being received.
        receiving_groups,
        /// Gauge: the smoothed round-trip time of QUIC in microseconds; 0 if the adapter does not
        /// report it.
        rtt_micros,
        /// Gauge: the sending rate that congestion control allows, in bytes per second; 0 if the
        /// adapter does not report it.
        send_rate,
        /// Gauge: the size in bytes of the largest datagram that path and peer accept; 0 if they
        /// accept none.
        max_datagram,
        /// Count of bytes of the [trace](crate::machine::trace) that its sink accepted.
        trace_bytes,
        /// Gauge: 1 while a trace is recorded. It becomes 0 in a running session if the sink
        /// accepts no more.
        recording,
    }
}
