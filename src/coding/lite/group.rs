//! Media: the heads of groups, frames and datagrams.

use bytes::BytesMut;

use super::{Features, decodable, encodable};
use crate::coding::varint::{self, Head};
use crate::coding::{BoundsExceeded, Cursor, DecodeError, EncodeError};
use crate::time::Timestamp;
use crate::version::Version;

/// GROUP: the message behind the type of a Group stream. Frames follow until the stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// The subscription that it belongs to.
    pub subscribe: u64,
    /// Number of the group in the track.
    pub sequence: u64,
    /// Index in the group of the first frame that follows. Before 06 only 0.
    pub first_frame: u64,
}

impl GroupHeader {
    /// Reads the body of a message.
    pub fn decode_body(body: &[u8], version: Version) -> Result<Self, DecodeError> {
        Features::of(version).read(body, |cursor| {
            let subscribe = cursor.varint()?;
            let sequence = cursor.varint()?;
            let first_frame =
                if Features::of(version).frame_bounds { cursor.varint()? } else { 0 };
            Ok(Self { subscribe, sequence, first_frame })
        })
    }

    /// Appends the whole message, without the stream's type.
    pub fn encode(&self, out: &mut BytesMut, version: Version) -> Result<(), EncodeError> {
        let features = Features::of(version);
        encodable(features.frame_bounds || self.first_frame == 0)?;
        Features::of(version).write(out, None, |writer| {
            writer.varint(self.subscribe)?;
            writer.varint(self.sequence)?;
            if features.frame_bounds {
                writer.varint(self.first_frame)?;
            }
            Ok(())
        })
    }
}

/// FRAME: what stands before a payload on a Group stream and in the answer to FETCH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Timestamp less that of the frame before it on the same stream, 0 before the first. Before 05
    /// not written, and 0 on reading.
    pub delta: i64,
    /// Bytes of payload.
    pub size: u64,
}

impl FrameHead {
    /// The head of a frame that follows one of timestamp `previous`, [`Timestamp::ZERO`] if it is the
    /// first on its stream.
    pub const fn between(previous: Timestamp, timestamp: Timestamp, size: u64) -> Self {
        // Both are below 2^61.
        Self { delta: timestamp.units() as i64 - previous.units() as i64, size }
    }

    /// The frame's timestamp if that of the frame before it is `previous`; an error if it is negative
    /// or above [`Timestamp::MAX`].
    pub fn timestamp(&self, previous: Timestamp) -> Result<Timestamp, BoundsExceeded> {
        let units = previous.units().checked_add_signed(self.delta).ok_or(BoundsExceeded)?;
        if units > Timestamp::MAX.units() { Err(BoundsExceeded) } else { Ok(Timestamp::new(units)) }
    }

    /// The head at `front`, of which the first
    /// [`HEAD_BYTES`](super::HEAD_BYTES) are enough, and how many bytes it takes;
    /// `None` if more are needed.
    pub fn read(front: &[u8], version: Version) -> Result<Option<(Self, usize)>, DecodeError> {
        let features = Features::of(version);
        Cursor::of(front, features.form).begin(|cursor| {
            let delta = if features.timestamps { cursor.zigzag()? } else { 0 };
            Ok(Self { delta, size: cursor.varint()? })
        })
    }

    /// The bytes.
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

/// What stands before the payload of a datagram (05+), which is a whole group of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramHead {
    /// The subscription that it belongs to.
    pub subscribe: u64,
    /// Number of the group in the track.
    pub sequence: u64,
    /// Of its frame.
    pub timestamp: Timestamp,
}

impl DatagramHead {
    /// The head of a whole datagram, and where the payload begins.
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

    /// The bytes.
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
