//! Counters of a session.

use crate::model::base::counters;

counters! {
    /// What a session did and holds, from [`Session::stats`](super::Session::stats).
    ///
    /// Bytes, frames and gauges are those of the driver's last turn, which ends when the adapter asks for
    /// the next deadline.
    SessionStats,
    /// The numbers of a session.
    SessionCells {
        /// Count of bytes of streams and datagrams that QUIC took of us.
        bytes_sent,
        /// Count of bytes of streams and datagrams that QUIC gave us.
        bytes_received,
        /// Count of frames that QUIC took whole.
        frames_sent,
        /// Count of frames of the peer that began.
        frames_received,
        /// Count of groups that QUIC took whole.
        groups_sent,
        /// Count of groups of the peer that came whole.
        groups_received,
        /// Count of groups that this side was to send and did not send whole: too old for their
        /// subscriber, stopped by it, aborted or evicted.
        skipped_groups,
        /// Count of those of them that were too old ([`Error::Old`](crate::Error::Old)).
        expired_groups,
        /// Count of groups of the peer that broke off: reset, malformed, or not wanted any more.
        broken_groups,
        /// Count of streams that the peer sent and that were not wanted (moq-transport): another
        /// subgroup than 0, or a group without its first objects.
        refused_groups,
        /// Count of datagrams of the peer that came and were of no use: malformed, of no subscription of
        /// ours, doubled, too old, or more than [`Limits::datagrams`](crate::Limits::datagrams) at once.
        lost_datagrams,
        /// Count of requests of the peer that this side refused for a reason of the model: no such
        /// broadcast or track, its error, not granted.
        refused_requests,
        /// Gauge of tracks that the peer reads, or asks about.
        serving,
        /// Gauge of tracks of the peer that are read here, or asked about, or linger
        /// ([`Limits::linger_time`](crate::Limits::linger_time)).
        reading,
        /// Gauge of broadcasts that the peer offers.
        announced,
        /// Gauge of groups on their way to the peer.
        sending_groups,
        /// Gauge of groups on their way from the peer.
        receiving_groups,
        /// Gauge: smoothed round-trip time in microseconds, as QUIC says; 0 if the adapter does not tell.
        rtt_micros,
        /// Gauge: bytes a second that congestion control lets out; 0 if the adapter does not tell.
        send_rate,
        /// Gauge: bytes of the largest datagram that the path and the peer take; 0 if they take none.
        max_datagram,
        /// Count of bytes of the [trace](crate::machine::trace) that its sink took.
        trace_bytes,
        /// Gauge: 1 while a trace is recorded. 0 in a running session that was to be recorded: the sink took
        /// no more.
        recording,
    }
}
