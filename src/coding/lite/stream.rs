//! Types of streams, and the messages at their front.

use bytes::{BufMut, BytesMut};

use super::features::Features;
use crate::coding::cursor::Cursor;
use crate::coding_error::DecodeError;
use crate::version::Version;

/// The purpose of a bidirectional stream: the integer at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum BiStream {
    /// An announce request, and the announcements that answer it.
    Announce = 1,
    /// A subscription.
    Subscribe = 2,
    /// One group, or a part of it.
    Fetch = 3,
    /// Reports about the path.
    Probe = 4,
    /// GOAWAY.
    Goaway = 5,
    /// The properties of a track.
    Track = 6,
}

impl BiStream {
    const ALL: [Self; 6] =
        [Self::Announce, Self::Subscribe, Self::Fetch, Self::Probe, Self::Goaway, Self::Track];

    /// The type with this number, `None` if `version` does not have it.
    pub fn from_u64(kind: u64, version: Version) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| stream.as_u64() == kind && stream.is_in(version))
    }

    /// The number on the wire.
    pub const fn as_u64(self) -> u64 {
        self as u64
    }

    /// Whether `version` defines it. Opening an undefined type makes some peers close the session. FETCH is
    /// defined before peers answer it, see [`Features::fetch`].
    pub const fn is_in(self, version: Version) -> bool {
        let features = Features::of(version);
        match self {
            Self::Announce | Self::Subscribe => true,
            Self::Fetch | Self::Probe => features.probe,
            Self::Goaway => features.goaway,
            Self::Track => features.track,
        }
    }

    /// Appends the number.
    pub fn encode(self, out: &mut BytesMut) {
        out.put_u8(self as u8);
    }
}

/// The purpose of a unidirectional stream: the integer at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum UniStream {
    /// The frames of one group for one subscription.
    Group = 0,
    /// SETUP.
    Setup = 1,
}

impl UniStream {
    /// The type with this number, `None` if `version` does not have it.
    pub fn from_u64(kind: u64, version: Version) -> Option<Self> {
        [Self::Group, Self::Setup]
            .into_iter()
            .find(|stream| stream.as_u64() == kind && stream.is_in(version))
    }

    /// The number on the wire.
    pub const fn as_u64(self) -> u64 {
        self as u64
    }

    /// Whether `version` has it.
    pub const fn is_in(self, version: Version) -> bool {
        match self {
            Self::Group => true,
            Self::Setup => Features::of(version).setup,
        }
    }

    /// Appends the number.
    pub fn encode(self, out: &mut BytesMut) {
        out.put_u8(self as u8);
    }
}

/// The frame of a message at the front of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed {
    /// Its type, if messages on the stream have one.
    pub kind: Option<u64>,
    /// Bytes before the body.
    pub head: usize,
    /// Bytes of the body.
    pub body: usize,
}

/// The most bytes that two integers take, in every form.
pub const HEAD_BYTES: usize = 18;

/// Finds the length-prefixed message at `front`. The first [`HEAD_BYTES`] bytes are enough; `None` if more
/// are needed. `typed` messages begin with a type.
///
/// # Errors
///
/// [`DecodeError::TooLong`] for a body of more than `limit` bytes.
pub fn frame_message(
    front: &[u8],
    version: Version,
    typed: bool,
    limit: usize,
) -> Result<Option<Framed>, DecodeError> {
    let head = Cursor::of(front, Features::of(version).form).begin(|cursor| {
        let kind = if typed { Some(cursor.varint()?) } else { None };
        Ok((kind, cursor.varint()?))
    })?;
    let Some(((kind, body), head)) = head else { return Ok(None) };
    match usize::try_from(body) {
        Ok(body) if body <= limit => Ok(Some(Framed { kind, head, body })),
        _ => Err(DecodeError::TooLong),
    }
}
