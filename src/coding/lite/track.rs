//! The Track and Fetch streams: the properties of a track, and one of its groups.

use alloc::boxed::Box;

use bytes::BytesMut;

use super::features::Features;
use crate::coding::cursor::decodable;
use crate::coding::writer::encodable;
use crate::coding_error::{DecodeError, EncodeError};
use crate::path::Path;
use crate::subscription::TrackInfo;
use crate::time::Timescale;
use crate::version::Version;

/// TRACK (05+): requests TRACK_INFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackRequest {
    /// The whole path.
    pub broadcast: Path,
    /// Name of the track.
    pub track: Box<str>,
}

impl TrackRequest {
    /// Reads the body of a message.
    pub fn decode_body(
        body: &[u8],
        version: Version,
        max_segments: usize,
    ) -> Result<Self, DecodeError> {
        let features = Features::of(version);
        decodable(features.track)?;
        features.read(body, |cursor| {
            Ok(Self { broadcast: cursor.path(max_segments)?, track: cursor.string()?.into() })
        })
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut BytesMut, version: Version) -> Result<(), EncodeError> {
        let features = Features::of(version);
        encodable(features.track)?;
        features.write(out, None, |writer| {
            writer.path(&self.broadcast)?;
            Ok(writer.string(&self.track)?)
        })
    }
}

/// Reads the body of a TRACK_INFO message (05+).
pub fn decode_track_info(body: &[u8], version: Version) -> Result<TrackInfo, DecodeError> {
    let features = Features::of(version);
    decodable(features.track)?;
    features.read(body, |cursor| {
        let priority = cursor.u8()?;
        if features.ordered {
            cursor.u8()?;
        }
        let max_age = cursor.millis()?;
        let timescale =
            Timescale::new(cursor.varint()?).ok_or(DecodeError::InvalidValue("timescale"))?;
        Ok(TrackInfo { priority, max_age, timescale, ..TrackInfo::default() })
    })
}

/// Appends a whole TRACK_INFO message (05+).
pub fn encode_track_info(
    info: &TrackInfo,
    out: &mut BytesMut,
    version: Version,
) -> Result<(), EncodeError> {
    let features = Features::of(version);
    encodable(features.track)?;
    features.write(out, None, |writer| {
        writer.u8(info.priority);
        if features.ordered {
            writer.u8(0);
        }
        writer.millis(info.max_age)?;
        Ok(writer.varint(info.timescale.units())?)
    })
}

/// FETCH (03+): requests one group. The answer consists of frames only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The whole path.
    pub broadcast: Path,
    /// Name of the track.
    pub track: Box<str>,
    /// Higher is more important.
    pub priority: u8,
    /// Number of the group.
    pub group: u64,
    /// The first frame. Must be 0 before 06.
    pub frame_start: u64,
    /// The last frame, inclusive and not before `frame_start`. Must be `None` before 06.
    pub frame_end: Option<u64>,
}

impl Fetch {
    /// Reads the body of a message.
    pub fn decode_body(
        body: &[u8],
        version: Version,
        max_segments: usize,
    ) -> Result<Self, DecodeError> {
        let features = Features::of(version);
        decodable(features.probe)?;
        features.read(body, |cursor| {
            let mut fetch = Self {
                broadcast: cursor.path(max_segments)?,
                track: cursor.string()?.into(),
                priority: cursor.u8()?,
                group: cursor.varint()?,
                frame_start: 0,
                frame_end: None,
            };
            if features.frame_bounds {
                fetch.frame_start = cursor.varint()?;
                fetch.frame_end = cursor.option()?;
            }
            if fetch.is_backwards() {
                return Err(DecodeError::InvalidValue("frame end before frame start"));
            }
            Ok(fetch)
        })
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut BytesMut, version: Version) -> Result<(), EncodeError> {
        let features = Features::of(version);
        encodable(features.probe)?;
        if self.is_backwards() {
            return Err(EncodeError::InvalidValue("frame end before frame start"));
        }
        encodable(features.frame_bounds || (self.frame_start == 0 && self.frame_end.is_none()))?;
        features.write(out, None, |writer| {
            writer.path(&self.broadcast)?;
            writer.string(&self.track)?;
            writer.u8(self.priority);
            writer.varint(self.group)?;
            if features.frame_bounds {
                writer.varint(self.frame_start)?;
                writer.option(self.frame_end)?;
            }
            Ok(())
        })
    }

    fn is_backwards(&self) -> bool {
        self.frame_end.is_some_and(|end| end < self.frame_start)
    }
}
