//! The format of a trace: how a file begins, the kinds of records, and where records go.

/// How a file begins.
pub(crate) const MAGIC: [u8; 8] = *b"smoqtrc\x01";

/// Where a trace goes.
///
/// The session waits for the sink, so that it must return at once: a sink for something slow
/// buffers the bytes, and returns [`TraceStopped`] when that becomes too much. The recorder then
/// drops the sink for good, and the session goes on. The records
/// that were written before are whole, and can be replayed.
pub trait Sink: Send {
    /// Takes the next record, which is complete. The first one includes the beginning of the file.
    fn write(&mut self, record: &[u8]) -> Result<(), TraceStopped>;
}

impl<F: FnMut(&[u8]) -> Result<(), TraceStopped> + Send> Sink for F {
    fn write(&mut self, record: &[u8]) -> Result<(), TraceStopped> {
        self(record)
    }
}

/// The sink of a trace takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sink of the trace takes no more")]
pub struct TraceStopped;

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Start,
    Input,
    Time,
    Command,
    Frames,
    Announcement,
    Event,
    Action,
    Open,
    Write,
    Opened,
    OpenBlocked,
    Taken,
    Datagram,
    DatagramTaken,
}

impl Kind {
    const ALL: [Self; 15] = [
        Self::Start,
        Self::Input,
        Self::Time,
        Self::Command,
        Self::Frames,
        Self::Announcement,
        Self::Event,
        Self::Action,
        Self::Open,
        Self::Write,
        Self::Opened,
        Self::OpenBlocked,
        Self::Taken,
        Self::Datagram,
        Self::DatagramTaken,
    ];

    pub(crate) fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// FNV-1a with 64 bits, over bytes in pieces.
pub(crate) fn hash<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> [u8; 8] {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in pieces.into_iter().flatten() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash.to_le_bytes()
}
