//! The frame of a trace: how a file begins, the kinds of records, and where records go.

/// How a file begins.
pub(crate) const MAGIC: [u8; 8] = *b"smoqtrc\x01";

/// Where a trace goes.
///
/// A sink answers at once, because the session waits for it: whoever writes to something slow keeps the
/// bytes or hands them on, and says [`TraceStopped`] when that gets too much. Then the recorder lets go
/// of the sink and never writes again; the session goes on. What was written before is whole records
/// and can be replayed up to there.
pub trait Sink: Send {
    /// Takes the next record, whole; the first time the beginning of the file as well.
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

/// What kind a record is.
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

/// FNV-1a, 64 bits, of bytes in pieces.
pub(crate) fn hash<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> [u8; 8] {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in pieces.into_iter().flatten() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash.to_le_bytes()
}
