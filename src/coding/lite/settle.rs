//! CLIENT_SETUP and SERVER_SETUP: which version is spoken, where the ALPN does not say it (up to 02).
//!
//! The messages have the shape of those of moq-transport 14, whose versions stand in the same list; the
//! parameters mean something only there.

use alloc::vec::Vec;

use bytes::BytesMut;

use super::Framed;
use crate::coding::varint::Form;
use crate::coding::writer::Writer;
use crate::coding::{Cursor, DecodeError, EncodeError};
use crate::version::Version;

const CLIENT_SETUP: u64 = 0x20;
const SERVER_SETUP: u64 = 0x21;

/// The number by which these messages name `version`, if they can settle on it.
const fn code(version: Version) -> Option<u64> {
    match version {
        Version::Lite01 => Some(0xff0d_ad01),
        Version::Lite02 => Some(0xff0d_ad02),
        _ => None,
    }
}

fn from_code(number: u64) -> Option<Version> {
    [Version::Lite01, Version::Lite02].into_iter().find(|it| code(*it) == Some(number))
}

/// CLIENT_SETUP: the first message of a client, on its first bidirectional stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientSetup {
    /// What the client speaks, the most wanted first. On reading, without those unknown here.
    pub versions: Vec<Version>,
}

/// SERVER_SETUP: the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerSetup {
    /// One of those that the client speaks; `None` is one that is not known here.
    pub version: Option<Version>,
}

/// Finds the message at `front`, of which the first [`HEAD_BYTES`](super::HEAD_BYTES) are enough; `None`
/// if more are needed. A body of more than `limit` bytes is [`DecodeError::TooLong`].
pub fn frame_settle(front: &[u8], limit: usize) -> Result<Option<Framed>, DecodeError> {
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
    /// Reads the body of a message with the type that [`Framed::kind`] says.
    pub fn decode_body(kind: Option<u64>, body: &[u8]) -> Result<Self, DecodeError> {
        expect(kind, CLIENT_SETUP)?;
        Cursor::new(body).whole(|cursor| {
            let mut versions = Vec::new();
            for _ in 0..cursor.varint()? {
                // Few are known, so that few are kept.
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
    /// Reads the body of a message with the type that [`Framed::kind`] says.
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

/// Even ids have an integer, odd ones bytes behind their length.
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
