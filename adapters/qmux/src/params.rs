//! Transport parameters (RFC 9000, section 18).

use smoq::coding::Cursor;

use crate::frame::encode;
use crate::violation::Violation;
use crate::{CONNECTION_WINDOW, IDLE_TIMEOUT, RECORD_BYTES, STREAM_WINDOW, STREAMS};

const MAX_IDLE_TIMEOUT: u64 = 0x01;
const MAX_DATA: u64 = 0x04;
/// For bidirectional streams that the sender of the parameter opens.
const STREAM_DATA_BIDI_LOCAL: u64 = 0x05;
/// For bidirectional streams that the receiver of the parameter opens.
const STREAM_DATA_BIDI_REMOTE: u64 = 0x06;
const STREAM_DATA_UNI: u64 = 0x07;
const STREAMS_BIDI: u64 = 0x08;
const STREAMS_UNI: u64 = 0x09;
const MAX_RECORD_SIZE: u64 = 0x0571_c594_29cd_0845;

/// The limits that a peer begins with. A limit that it does not name is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Params {
    pub(crate) data: u64,
    pub(crate) bidi_local: u64,
    pub(crate) bidi_remote: u64,
    pub(crate) uni: u64,
    /// Streams that this side may open, by direction.
    pub(crate) streams: [u64; 2],
}

pub(crate) fn read(bytes: &[u8]) -> Result<Params, Violation> {
    let mut params = Params::default();
    let mut seen = 0_u32;
    let mut cursor = Cursor::new(bytes);
    while cursor.remaining() > 0 {
        let id = cursor.varint()?;
        let len = cursor.varint()?;
        let mut value = Cursor::new(cursor.bytes(len)?);
        let field = match id {
            MAX_DATA => &mut params.data,
            STREAM_DATA_BIDI_LOCAL => &mut params.bidi_local,
            STREAM_DATA_BIDI_REMOTE => &mut params.bidi_remote,
            STREAM_DATA_UNI => &mut params.uni,
            STREAMS_BIDI => &mut params.streams[0],
            STREAMS_UNI => &mut params.streams[1],
            MAX_RECORD_SIZE if value.varint()? < RECORD_BYTES as u64 => {
                return Err(Violation::PARAMETER);
            }
            // Parameters of QUIC that have no meaning without its packets.
            0x00 | 0x02 | 0x03 | 0x0a..=0x10 => return Err(Violation::PARAMETER),
            _ => continue,
        };
        if seen & 1 << id != 0 {
            return Err(Violation::PARAMETER);
        }
        seen |= 1 << id;
        *field = value.varint()?;
        value.finish()?;
    }
    Ok(params)
}

/// The frame with the limits of this side. Record size and datagrams are not in it: 16,382 bytes, and none.
pub(crate) fn ours() -> Vec<u8> {
    let idle = IDLE_TIMEOUT.as_millis() as u64;
    let params = [
        (MAX_IDLE_TIMEOUT, idle),
        (MAX_DATA, CONNECTION_WINDOW),
        (STREAM_DATA_BIDI_LOCAL, STREAM_WINDOW),
        (STREAM_DATA_BIDI_REMOTE, STREAM_WINDOW),
        (STREAM_DATA_UNI, STREAM_WINDOW),
        (STREAMS_BIDI, STREAMS),
        (STREAMS_UNI, STREAMS),
    ];
    let mut bytes = Vec::new();
    for (id, value) in params {
        let value = encode(&[value]);
        bytes.extend(encode(&[id, value.len() as u64]));
        bytes.extend(value);
    }
    [encode(&[crate::frame::PARAMETERS, bytes.len() as u64]), bytes].concat()
}
