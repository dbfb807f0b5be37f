//! Counters and gauges of a session.

use std::time::Duration;

use crate::machine::NetworkPath;
use crate::model::base::sync::atomic::{AtomicU64, Ordering};
use crate::model::base::{counters, set};

counters! {
    /// Counters of a session, from [`Session::stats`](super::Session::stats). They only grow.
    ///
    /// Bytes and frames are updated at the end of each turn of the driver, when the adapter asks for
    /// the next deadline.
    SessionStats,
    /// The counters of a session.
    SessionCells {
        /// Bytes of streams and datagrams that QUIC accepted for sending.
        bytes_sent,
        /// Bytes of streams and datagrams that QUIC delivered.
        bytes_received,
        /// Frames that QUIC accepted completely.
        frames_sent,
        /// Frames of the peer that began to arrive.
        frames_received,
        /// Groups that QUIC accepted completely.
        groups_sent,
        /// Groups of the peer that arrived completely.
        groups_received,
        /// Groups that were to be sent and were not sent completely: they were too old for
        /// their subscriber, stopped by it, aborted or evicted.
        skipped_groups,
        /// The skipped groups that were too old ([`Error::Old`](crate::Error::Old)).
        expired_groups,
        /// Groups of the peer that broke off: they were reset, malformed, or no longer
        /// wanted.
        broken_groups,
        /// Streams of the peer that were not wanted (moq-transport): a subgroup other than
        /// 0 that no other peer reads, or a group without its first objects.
        refused_groups,
        /// Datagrams of the peer that arrived and could not be used: they were malformed,
        /// of no subscription of this side, duplicates, too old, more than
        /// [`Limits::datagrams`](crate::Limits::datagrams) at once, or an object other than the first of
        /// its group that no other peer reads (moq-transport).
        lost_datagrams,
        /// Requests of the peer that this side refused because the broadcast or track does
        /// not exist, failed, or is not allowed.
        refused_requests,
        /// Bytes of the [trace](crate::machine::trace) that its sink accepted.
        trace_bytes,
    }
    gauges: serving, reading, announced, sending_groups, receiving_groups, rtt_micros, bitrate,
        max_datagram, recording;
}

/// The state of a session, from [`Session::gauges`](super::Session::gauges). When the session has
/// ended, everything is 0 or `None`.
///
/// The values are updated at the end of each turn of the driver, when the adapter asks for the next
/// deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionGauges {
    /// Tracks that the peer reads or queries.
    pub serving: u64,
    /// Tracks of the peer that are read or queried here, or that linger
    /// ([`Limits::linger_time`](crate::Limits::linger_time)).
    pub reading: u64,
    /// Broadcasts of the peer.
    pub announced: u64,
    /// Groups that are being sent.
    pub sending_groups: u64,
    /// Groups that are being received.
    pub receiving_groups: u64,
    /// The smoothed round-trip time of QUIC. `None` if the adapter has not reported it.
    pub rtt: Option<Duration>,
    /// The sending rate that congestion control allows, in bits per second. `None` if the adapter has
    /// not reported it.
    pub bitrate: Option<u64>,
    /// The size in bytes of the largest datagram that path and peer accept; 0 if they accept none.
    pub max_datagram: usize,
    /// Whether a trace is being recorded. It becomes `false` in a running session if the sink accepts
    /// no more.
    pub recording: bool,
}

impl SessionCells {
    pub(crate) fn gauges(&self) -> SessionGauges {
        let get = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        // Kept one higher, because 0 means that the value is not known.
        let known = |cell| get(cell).checked_sub(1);
        SessionGauges {
            serving: get(&self.serving),
            reading: get(&self.reading),
            announced: get(&self.announced),
            sending_groups: get(&self.sending_groups),
            receiving_groups: get(&self.receiving_groups),
            rtt: known(&self.rtt_micros).map(Duration::from_micros),
            bitrate: known(&self.bitrate),
            max_datagram: get(&self.max_datagram) as usize,
            recording: get(&self.recording) != 0,
        }
    }

    pub(crate) fn set_network_path(&self, path: &NetworkPath) {
        let micros = path.rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX));
        let known = |value: Option<u64>| value.map_or(0, |value| value.saturating_add(1));
        set(&self.rtt_micros, known(micros));
        set(&self.bitrate, known(path.bitrate));
        set(&self.max_datagram, path.max_datagram as u64);
    }
}
