//! Messages about the session as a whole: PROBE, GOAWAY and SESSION_UPDATE.

use alloc::boxed::Box;
use core::time::Duration;

use bytes::BytesMut;

use super::features::Features;
use crate::coding::cursor::decodable;
use crate::coding::writer::encodable;
use crate::coding_error::{DecodeError, EncodeError};
use crate::version::Version;

/// PROBE (03+): the capacity of the path to the subscriber, as measured by the publisher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Bits per second, `None` if unknown. `Some(0)` is written as 1, because 0 stands for `None`.
    pub bitrate: Option<u64>,
    /// Round-trip time, `None` if unknown. It is written in whole milliseconds, at least 1 because 0 stands
    /// for `None`. Not written on 03.
    pub rtt: Option<Duration>,
}

impl Probe {
    /// Reads the body of a message.
    pub fn decode_body(body: &[u8], version: Version) -> Result<Self, DecodeError> {
        let features = Features::of(version);
        decodable(features.probe)?;
        features.read(body, |cursor| {
            let bitrate = Some(cursor.varint()?).filter(|&bitrate| bitrate > 0);
            let rtt = if features.rtt { Some(cursor.millis()?) } else { None };
            Ok(Self { bitrate, rtt: rtt.filter(|rtt| !rtt.is_zero()) })
        })
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut BytesMut, version: Version) -> Result<(), EncodeError> {
        const MILLI: Duration = Duration::from_millis(1);
        let features = Features::of(version);
        encodable(features.probe)?;
        features.write(out, None, |writer| {
            writer.varint(self.bitrate.map_or(0, |bitrate| bitrate.max(1)))?;
            if features.rtt {
                writer.millis(self.rtt.map_or(Duration::ZERO, |rtt| rtt.max(MILLI)))?;
            }
            Ok(())
        })
    }
}

/// GOAWAY (04+): the receiver must make no new requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Goaway {
    /// Where to connect instead, at most [`Goaway::MAX_URI`] bytes; empty for the same URI. A client leaves
    /// it empty.
    pub uri: Box<str>,
}

impl Goaway {
    /// Bytes of the longest URI that peers accept.
    pub const MAX_URI: usize = 8_192;

    /// Reads the body of a message.
    pub fn decode_body(body: &[u8], version: Version) -> Result<Self, DecodeError> {
        let features = Features::of(version);
        decodable(features.goaway)?;
        features.read(body, |cursor| {
            let uri = cursor.string()?;
            if uri.len() > Self::MAX_URI {
                return Err(DecodeError::TooLong);
            }
            Ok(Self { uri: uri.into() })
        })
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut BytesMut, version: Version) -> Result<(), EncodeError> {
        let features = Features::of(version);
        encodable(features.goaway)?;
        if self.uri.len() > Self::MAX_URI {
            return Err(EncodeError::TooLong);
        }
        features.write(out, None, |writer| Ok(writer.string(&self.uri)?))
    }
}

/// SESSION_UPDATE (up to 02), on the setup stream: the capacity of the sender. Deployed peers never send
/// it, and ignore it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionUpdate {
    /// Bits per second, `None` if unknown. `Some(0)` is written as 1, because 0 stands for `None`.
    pub bitrate: Option<u64>,
}

impl SessionUpdate {
    /// Reads the body of a message.
    pub fn decode_body(body: &[u8], version: Version) -> Result<Self, DecodeError> {
        let features = Features::of(version);
        decodable(features.version_setup)?;
        features.read(body, |cursor| {
            Ok(Self { bitrate: Some(cursor.varint()?).filter(|&bitrate| bitrate > 0) })
        })
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut BytesMut, version: Version) -> Result<(), EncodeError> {
        let features = Features::of(version);
        encodable(features.version_setup)?;
        features.write(out, None, |writer| {
            Ok(writer.varint(self.bitrate.map_or(0, |bitrate| bitrate.max(1)))?)
        })
    }
}
