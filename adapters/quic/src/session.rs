//! The rules by which a QUIC connection carries a session, the same for every adapter.

use std::any::Any;
use std::time::Duration;

use quinn_proto::crypto::rustls::HandshakeData;
use quinn_proto::{ConnectionError, VarInt};
use smoq::stream::{Code, StreamId};
use smoq::{Agreed, Error, Versions};

use crate::config::STREAMS;

/// How long a close without an error waits until the peer has acknowledged what was sent before it: 1 s.
/// QUIC's CONNECTION_CLOSE discards what is in flight.
///
/// A connection that the peer closed is given the same time to hand over what it received before the close.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a close on WebTransport waits after that until the peer has read that the session is over: 3 s. A browser may be
/// busy, and a page that does not read it takes the connection for lost.
pub const CAPSULE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a connection outlives a session on WebTransport that both ends have closed: 500 ms, or until the peer closes
/// the connection. Chromium ends its half of the session before its page learns of the close. A CONNECTION_CLOSE that
/// arrives in between makes it forget the close, and the page takes the connection for lost.
pub const LINGER_TIMEOUT: Duration = Duration::from_millis(500);

/// The version that TLS agreed on, from the handshake data of a quinn or quinn-proto connection.
///
/// A peer without ALPN can only speak the oldest versions of moq-lite, which settle on one by a SETUP message.
/// `None`: the peer chose a protocol that is not in `versions`.
pub fn agreed(handshake_data: Option<Box<dyn Any>>, versions: &Versions) -> Option<Agreed> {
    versions.agreed(alpn(handshake_data).as_deref())
}

/// How long the HTTP/3 handshake of a session on WebTransport may take, after that of QUIC: 10 s, the default of
/// [`Limits::handshake_timeout`](smoq::Limits::handshake_timeout).
pub const HTTP_TIMEOUT: Duration = Duration::from_secs(10);

/// The protocol between QUIC and a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// None: the ALPN is that of a version.
    RawQuic,
    /// WebTransport over HTTP/3.
    WebTransport,
}

impl Carrier {
    /// The carrier that TLS agreed on, from the handshake data of a quinn or quinn-proto connection.
    pub fn of(handshake_data: Option<Box<dyn Any>>) -> Self {
        let is_http = alpn(handshake_data).as_deref() == Some(smoq_http3::ALPN.as_bytes());
        if is_http { Self::WebTransport } else { Self::RawQuic }
    }

    /// The code of a CONNECTION_CLOSE to send. Only WebTransport maps it.
    pub fn close_code(self, code: Code) -> VarInt {
        match self {
            Self::RawQuic => quic_code(code),
            Self::WebTransport => quic_code(smoq_http3::connection_code(code)),
        }
    }

    /// The error that a session ends with when its connection was lost.
    pub fn session_error(self, error: &ConnectionError) -> Error {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                let code = Code::new(close.error_code.into_inner());
                match self {
                    Self::RawQuic => Error::from_session_code(code),
                    Self::WebTransport => smoq_http3::connection_error(code),
                }
            }
            // By the application, which has the connection.
            ConnectionError::LocallyClosed => Error::SessionClosed,
            ConnectionError::TimedOut => Error::Timeout,
            _ => Error::Disconnected,
        }
    }
}

fn alpn(handshake_data: Option<Box<dyn Any>>) -> Option<Vec<u8>> {
    handshake_data?.downcast::<HandshakeData>().ok()?.protocol
}

/// How many streams of one direction a peer may have open. The limit starts low, because QUIC allocates memory
/// for every stream below it, and quadruples up to [`STREAMS`] before a peer has to wait. It never shrinks:
/// QUIC would not free the memory.
#[derive(Clone, Copy, Debug)]
pub struct StreamAllowance {
    limit: u32,
}

impl StreamAllowance {
    /// `first` is the limit of the transport configuration: [`FIRST_UNI_STREAMS`](crate::config::FIRST_UNI_STREAMS)
    /// or [`FIRST_BIDI_STREAMS`](crate::config::FIRST_BIDI_STREAMS).
    pub const fn new(first: u32) -> Self {
        Self { limit: first }
    }

    /// The new limit, if the peer uses more than half of the old one with `used` streams.
    pub fn raise(&mut self, used: u64) -> Option<u32> {
        if used <= u64::from(self.limit / 2) || self.limit >= STREAMS {
            return None;
        }
        self.limit = STREAMS.min(self.limit * 4);
        Some(self.limit)
    }
}

/// A stream id of QUIC as a session knows it.
pub fn stream_id(id: quinn_proto::StreamId) -> StreamId {
    StreamId::from_u64(VarInt::from(id).into_inner())
}

/// A stream id of a session as QUIC knows it.
pub fn quic_stream_id(id: StreamId) -> quinn_proto::StreamId {
    VarInt::from_u64(id.as_u64()).unwrap_or(VarInt::MAX).into()
}

/// The code of a RESET_STREAM or STOP_SENDING that was received.
///
/// Deployed peers map these codes into the range of HTTP/3, as WebTransport does, also without HTTP/3. Both
/// forms are understood.
pub fn stream_code(code: VarInt) -> Code {
    Code::new(code.into_inner()).from_http3()
}

/// The code of a RESET_STREAM or STOP_SENDING to send: mapped into the range of HTTP/3, as deployed peers
/// expect.
pub fn quic_stream_code(code: Code) -> VarInt {
    quic_code(code.to_http3())
}

/// A code as QUIC carries it, without a mapping.
pub fn quic_code(code: Code) -> VarInt {
    VarInt::from_u64(code.as_u64()).unwrap_or(VarInt::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_codes_are_read_in_both_forms_and_sent_in_one() {
        let mapped = VarInt::from_u64(0x52e4_a40f_a8db + 7).unwrap();
        assert_eq!(quic_stream_code(Code::new(7)), mapped);
        assert_eq!(stream_code(mapped), Code::new(7));
        assert_eq!(stream_code(VarInt::from_u32(7)), Code::new(7));
    }

    #[test]
    fn the_limit_of_streams_grows_when_more_than_half_is_used() {
        let mut allowance = StreamAllowance::new(512);
        let raised: Vec<_> =
            (1..=4_096).filter_map(|used| allowance.raise(used).map(|to| (used, to))).collect();
        assert_eq!(raised, [(257, 2_048), (1_025, STREAMS)]);
    }
}
