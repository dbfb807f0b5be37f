//! CLIENT_SETUP and SERVER_SETUP: negotiation of the version if the ALPN identifier does not determine it
//! (up to 02).
//!
//! The messages have the form of those in moq-transport 14, which may be in the same list. Parameters have a meaning only
//! there.

use alloc::vec::Vec;

use bytes::BytesMut;

use super::stream::Framed;
use crate::coding::cursor::Cursor;
use crate::coding::varint::Form;
use crate::coding::writer::Writer;
use crate::coding_error::{DecodeError, EncodeError};
use crate::version::Version;

const CLIENT_SETUP: u64 = 0x20;
const SERVER_SETUP: u64 = 0x21;

/// The number of `version` in these messages, if they can negotiate it.
const fn code(version: Version) -> Option<u64> {
    match version {
        Version::Lite01 => Some(0xff0d_ad01),
        Version::Lite02 => Some(0xff0d_ad02),
        Version::Moqt14 => Some(0xff00_000e),
        _ => None,
    }
}

fn from_code(number: u64) -> Option<Version> {
    [Version::Lite01, Version::Lite02, Version::Moqt14]
        .into_iter()
        .find(|it| code(*it) == Some(number))
}

/// CLIENT_SETUP: the first message of a client, on its first bidirectional stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientSetup {
    /// The client's versions in order of preference. Unknown ones are left out on decoding.
    pub versions: Vec<Version>,
}

/// SERVER_SETUP: the answer to CLIENT_SETUP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerSetup {
    /// One of the client's versions; `None` is an unknown version.
    pub version: Option<Version>,
}

/// Finds the message at `front`. The first [`HEAD_BYTES`](super::HEAD_BYTES) bytes are enough; `None` if
/// more are needed.
///
/// # Errors
///
/// [`DecodeError::TooLong`] for a body of more than `limit` bytes.
pub fn frame_version_setup(front: &[u8], limit: usize) -> Result<Option<Framed>, DecodeError> {
    let head = Cursor::new(front).begin(|cursor| {
        let kind = cursor.varint()?;
        if !matches!(kind, CLIENT_SETUP | SERVER_SETUP) {
            return Err(DecodeError::UnknownMessage(kind));
        }
        Ok((kind, usize::from(cursor.u8()?) << 8 | usize::from(cursor.u8()?)))
    })?;
    match head {
        Some(((_, body), _)) if body > limit => Err(DecodeError::TooLong),
        Some(((kind, body), head)) => Ok(Some(Framed { kind: Some(kind), head, body })),
        None => Ok(None),
    }
}

impl ClientSetup {
    /// Reads the body of a message with the type from [`Framed::kind`].
    pub fn decode_body(kind: Option<u64>, body: &[u8]) -> Result<Self, DecodeError> {
        expect(kind, CLIENT_SETUP)?;
        Cursor::new(body).whole(|cursor| {
            let mut versions = Vec::new();
            for _ in 0..cursor.varint()? {
                // Only known versions are kept, each once, so a long list needs no memory.
                let version = from_code(cursor.varint()?);
                versions.extend(version.filter(|it| !versions.contains(it)));
            }
            skip_parameters(cursor)?;
            Ok(Self { versions })
        })
    }

    /// Appends the whole message, without parameters.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        Writer::control(out, Form::Quic, CLIENT_SETUP, |writer| {
            writer.varint(self.versions.len() as u64)?;
            for version in &self.versions {
                writer.varint(code(*version).ok_or(EncodeError::NotInVersion)?)?;
            }
            Ok(writer.varint(0)?)
        })
    }
}

impl ServerSetup {
    /// Reads the body of a message with the type from [`Framed::kind`].
    pub fn decode_body(kind: Option<u64>, body: &[u8]) -> Result<Self, DecodeError> {
        expect(kind, SERVER_SETUP)?;
        Cursor::new(body).whole(|cursor| {
            let version = from_code(cursor.varint()?);
            skip_parameters(cursor)?;
            Ok(Self { version })
        })
    }

    /// Appends the whole message, without parameters.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let code = self.version.and_then(code).ok_or(EncodeError::NotInVersion)?;
        Writer::control(out, Form::Quic, SERVER_SETUP, |writer| {
            writer.varint(code)?;
            Ok(writer.varint(0)?)
        })
    }
}

fn expect(kind: Option<u64>, expected: u64) -> Result<(), DecodeError> {
    match kind {
        Some(kind) if kind == expected => Ok(()),
        kind => Err(DecodeError::UnknownMessage(kind.unwrap_or_default())),
    }
}

/// Parameters with even ids have an integer as their value, those with odd ids bytes with their length.
fn skip_parameters(cursor: &mut Cursor<'_>) -> Result<(), DecodeError> {
    for _ in 0..cursor.varint()? {
        if cursor.varint()? % 2 == 0 {
            cursor.varint()?;
        } else {
            cursor.block()?;
        }
    }
    Ok(())
}
