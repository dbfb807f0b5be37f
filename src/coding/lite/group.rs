//! Media: the fields before the payload of groups, frames and datagrams.

use bytes::BytesMut;

use super::features::Features;
use crate::coding::cursor::Cursor;
use crate::coding::cursor::decodable;
use crate::coding::varint::{self, Head};
use crate::coding::writer::encodable;
use crate::coding_error::{BoundsExceeded, DecodeError, EncodeError};
use crate::time::Timestamp;
use crate::version::Version;

/// GROUP: the message after the type of a Group stream. Frames follow until the stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// The subscription that it belongs to.
    pub subscribe: u64,
    /// Number of the group in the track.
    pub sequence: u64,
    /// The index in the group of the first frame that follows. Always 0 before 06.
    pub first_frame: u64,
}

impl GroupHeader {
    /// Reads the body of a message.
    pub fn decode_body(body: &[u8], version: Version) -> Result<Self, DecodeError> {
        let features = Features::of(version);
        features.read(body, |cursor| {
            let subscribe = cursor.varint()?;
            let sequence = cursor.varint()?;
            let first_frame = if features.frame_bounds { cursor.varint()? } else { 0 };
            Ok(Self { subscribe, sequence, first_frame })
        })
    }

    /// Appends the whole message, without the type of the stream.
    pub fn encode(&self, out: &mut BytesMut, version: Version) -> Result<(), EncodeError> {
        let features = Features::of(version);
        encodable(features.frame_bounds || self.first_frame == 0)?;
        features.write(out, None, |writer| {
            writer.varint(self.subscribe)?;
            writer.varint(self.sequence)?;
            if features.frame_bounds {
                writer.varint(self.first_frame)?;
            }
            Ok(())
        })
    }
}

/// FRAME: the fields before a payload, on a Group stream and in the answer to FETCH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// The difference to the timestamp of the previous frame on the stream, or to 0 for the first one.
    /// Before 05 it is not written, and decoded as 0.
    pub delta: i64,
    /// Bytes of the payload.
    pub size: u64,
}

impl FrameHead {
    /// The head of a frame. `previous` is the timestamp of the frame before it on its stream, or
    /// [`Timestamp::ZERO`] for the first one.
    pub const fn between(previous: Timestamp, timestamp: Timestamp, size: u64) -> Self {
        // Both are below 2^61, so the difference fits.
        Self { delta: timestamp.units() as i64 - previous.units() as i64, size }
    }

    /// The frame's timestamp, from that of the previous frame.
    ///
    /// # Errors
    ///
    /// [`BoundsExceeded`] if it is negative or above [`Timestamp::MAX`].
    pub fn timestamp(&self, previous: Timestamp) -> Result<Timestamp, BoundsExceeded> {
        let units = previous.units().checked_add_signed(self.delta).ok_or(BoundsExceeded)?;
        if units > Timestamp::MAX.units() { Err(BoundsExceeded) } else { Ok(Timestamp::new(units)) }
    }

    /// Reads the head at `front` and the number of its bytes. The first [`HEAD_BYTES`](super::HEAD_BYTES)
    /// bytes are enough; `None` if more are needed.
    pub fn read(front: &[u8], version: Version) -> Result<Option<(Self, usize)>, DecodeError> {
        let features = Features::of(version);
        Cursor::of(front, features.form).begin(|cursor| {
            let delta = if features.timestamps { cursor.zigzag()? } else { 0 };
            Ok(Self { delta, size: cursor.varint()? })
        })
    }

    /// The encoded head.
    pub fn encode(&self, version: Version) -> Result<Head<2>, EncodeError> {
        let features = Features::of(version);
        let mut head = Head::of(features.form);
        if features.timestamps {
            head.push(varint::zigzag(self.delta)?)?;
        }
        head.push(self.size)?;
        Ok(head)
    }
}

/// The fields before the payload of a datagram (05+). A datagram is a whole group of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramHead {
    /// The subscription that it belongs to.
    pub subscribe: u64,
    /// Number of the group in the track.
    pub sequence: u64,
    /// The timestamp of its frame. It is absolute, because no other frame precedes it.
    pub timestamp: Timestamp,
}

impl DatagramHead {
    /// Reads the head of a whole datagram and the position of its payload.
    pub fn decode(datagram: &[u8], version: Version) -> Result<(Self, usize), DecodeError> {
        let features = Features::of(version);
        decodable(features.datagrams)?;
        let head = Cursor::of(datagram, features.form).begin(|cursor| {
            let subscribe = cursor.varint()?;
            let sequence = cursor.varint()?;
            let units = cursor.varint()?;
            if units > Timestamp::MAX.units() {
                return Err(DecodeError::BoundsExceeded);
            }
            Ok(Self { subscribe, sequence, timestamp: Timestamp::new(units) })
        })?;
        head.ok_or(DecodeError::Truncated)
    }

    /// The encoded head.
    pub fn encode(&self, version: Version) -> Result<Head<3>, EncodeError> {
        let features = Features::of(version);
        encodable(features.datagrams)?;
        let mut head = Head::of(features.form);
        head.push(self.subscribe)?;
        head.push(self.sequence)?;
        head.push(self.timestamp.units())?;
        Ok(head)
    }
}
