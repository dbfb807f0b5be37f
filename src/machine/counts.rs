//! The counters of a machine.

/// Counters of a machine. They never decrease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Bytes of streams and datagrams that the connection accepted.
    pub bytes_sent: u64,
    /// Bytes of streams and datagrams that the connection delivered.
    pub bytes_received: u64,
    /// Frames that the connection accepted completely.
    pub frames_sent: u64,
    /// Frames of the peer whose head was read.
    pub frames_received: u64,
}
