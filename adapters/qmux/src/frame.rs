//! The frames of QMux: those of QUIC (RFC 9000, section 19), in records.

use bytes::Bytes;
use smoq::coding::{Cursor, DecodeError, varint};
use smoq::stream::{Code, Dir, StreamId};

use crate::params::{self, Params};
use crate::violation::Violation;

pub(crate) const RESET_STREAM: u64 = 0x04;
pub(crate) const STOP_SENDING: u64 = 0x05;
/// STREAM with an offset and a length; one more with FIN.
pub(crate) const STREAM: u64 = 0x0e;
pub(crate) const MAX_DATA: u64 = 0x10;
pub(crate) const MAX_STREAM_DATA: u64 = 0x11;
/// Of bidirectional streams; one more is of unidirectional ones.
pub(crate) const MAX_STREAMS: u64 = 0x12;
pub(crate) const CONNECTION_CLOSE: u64 = 0x1c;
pub(crate) const APPLICATION_CLOSE: u64 = 0x1d;
/// QX_TRANSPORT_PARAMETERS.
pub(crate) const PARAMETERS: u64 = 0x3f51_5330_0d0a_0d0a;
/// QX_PING, a request; one more is the response.
pub(crate) const PING: u64 = 0x348c_6752_9ef8_c7bd;
const PONG: u64 = PING + 1;
/// The highest number of streams that a limit can name (RFC 9000, section 19.11).
const MOST_STREAMS: u64 = 1 << 60;

/// A frame with a meaning for this side.
#[derive(Debug)]
pub(crate) enum Frame {
    Parameters(Params),
    Stream {
        id: StreamId,
        bytes: Bytes,
        fin: bool,
    },
    Reset {
        id: StreamId,
        code: Code,
        size: u64,
    },
    Stop {
        id: StreamId,
        code: Code,
    },
    MaxData {
        limit: u64,
    },
    MaxStreamData {
        id: StreamId,
        limit: u64,
    },
    MaxStreams {
        dir: Dir,
        limit: u64,
    },
    /// The session of the peer is over.
    Close {
        code: Code,
    },
    /// The peer found a mistake.
    Failed,
    Ping {
        sequence: u64,
    },
    Pong {
        sequence: u64,
    },
}

/// The frames of one record, one after the other.
pub(crate) struct Frames {
    record: Bytes,
    at: usize,
}

impl Frames {
    pub(crate) fn new(record: Bytes) -> Self {
        Self { record, at: 0 }
    }

    fn read(&mut self) -> Result<Option<Frame>, Violation> {
        let mut cursor = Cursor::new(&self.record[self.at..]);
        while cursor.remaining() > 0 {
            let frame = frame(&mut cursor, &self.record)?;
            self.at = self.record.len() - cursor.remaining();
            if frame.is_some() {
                return Ok(frame);
            }
        }
        Ok(None)
    }
}

impl Iterator for Frames {
    type Item = Result<Frame, Violation>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

impl From<DecodeError> for Violation {
    fn from(_: DecodeError) -> Self {
        Self::ENCODING
    }
}

/// `None`: a frame that says nothing.
fn frame(cursor: &mut Cursor<'_>, record: &Bytes) -> Result<Option<Frame>, Violation> {
    let kind = cursor.varint()?;
    Ok(Some(match kind {
        // PADDING.
        0 => return Ok(None),
        RESET_STREAM => {
            Frame::Reset { id: id(cursor)?, code: code(cursor)?, size: cursor.varint()? }
        }
        STOP_SENDING => Frame::Stop { id: id(cursor)?, code: code(cursor)? },
        0x08..=0x0f => {
            let id = id(cursor)?;
            if kind & 4 != 0 {
                // A WebSocket keeps the order. Deployed peers do not look at offsets either.
                cursor.varint()?;
            }
            let len = if kind & 2 == 0 { cursor.remaining() as u64 } else { cursor.varint()? };
            Frame::Stream { id, bytes: record.slice_ref(cursor.bytes(len)?), fin: kind & 1 != 0 }
        }
        MAX_DATA => Frame::MaxData { limit: cursor.varint()? },
        MAX_STREAM_DATA => Frame::MaxStreamData { id: id(cursor)?, limit: cursor.varint()? },
        0x12 | 0x13 => {
            let dir = if kind == MAX_STREAMS { Dir::Bi } else { Dir::Uni };
            let limit = cursor.varint()?;
            if limit > MOST_STREAMS {
                return Err(Violation::ENCODING);
            }
            Frame::MaxStreams { dir, limit }
        }
        // DATA_BLOCKED and STREAMS_BLOCKED.
        0x14 | 0x16 | 0x17 => {
            cursor.varint()?;
            return Ok(None);
        }
        // STREAM_DATA_BLOCKED.
        0x15 => {
            cursor.varint()?;
            cursor.varint()?;
            return Ok(None);
        }
        CONNECTION_CLOSE => {
            code(cursor)?;
            // The type of the frame that was the mistake.
            cursor.varint()?;
            reason(cursor)?;
            Frame::Failed
        }
        APPLICATION_CLOSE => {
            let code = code(cursor)?;
            reason(cursor)?;
            Frame::Close { code }
        }
        PARAMETERS => {
            let len = cursor.varint()?;
            Frame::Parameters(params::read(cursor.bytes(len)?)?)
        }
        PING => Frame::Ping { sequence: cursor.varint()? },
        PONG => Frame::Pong { sequence: cursor.varint()? },
        // Among them DATAGRAM and RESET_STREAM_AT, which the parameters of this side do not allow.
        _ => return Err(Violation::FRAME),
    }))
}

fn id(cursor: &mut Cursor<'_>) -> Result<StreamId, DecodeError> {
    cursor.varint().map(StreamId::from_u64)
}

fn code(cursor: &mut Cursor<'_>) -> Result<Code, DecodeError> {
    cursor.varint().map(Code::new)
}

fn reason(cursor: &mut Cursor<'_>) -> Result<(), DecodeError> {
    let len = cursor.varint()?;
    cursor.bytes(len).map(drop)
}

/// Appends the integers of a frame.
pub(crate) fn append(frame: &mut Vec<u8>, fields: &[u64]) {
    for field in fields {
        varint::write(frame, *field).expect("ids, codes and credit have 62 bits");
    }
}

/// A frame that has only integers.
pub(crate) fn encode(fields: &[u64]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(fields.len() * 8);
    append(&mut frame, fields);
    frame
}
