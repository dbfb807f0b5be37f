//! Error codes of HTTP/3 and WebTransport, as QUIC carries them.

use smoq::Error as SessionError;
use smoq::stream::Code;

/// H3_NO_ERROR (RFC 9114, section 8.1).
pub(crate) const NO_ERROR: Code = Code::new(0x100);
/// H3_STREAM_CREATION_ERROR.
pub(crate) const STREAM_CREATION: Code = Code::new(0x103);
/// H3_CLOSED_CRITICAL_STREAM.
pub(crate) const CLOSED_CRITICAL_STREAM: Code = Code::new(0x104);
/// H3_FRAME_UNEXPECTED.
pub(crate) const FRAME_UNEXPECTED: Code = Code::new(0x105);
/// H3_FRAME_ERROR.
pub(crate) const FRAME: Code = Code::new(0x106);
/// H3_EXCESSIVE_LOAD.
pub(crate) const EXCESSIVE_LOAD: Code = Code::new(0x107);
/// H3_ID_ERROR.
pub(crate) const ID: Code = Code::new(0x108);
/// H3_SETTINGS_ERROR.
pub(crate) const SETTINGS: Code = Code::new(0x109);
/// H3_MISSING_SETTINGS.
pub(crate) const MISSING_SETTINGS: Code = Code::new(0x10a);
/// H3_REQUEST_REJECTED.
pub(crate) const REQUEST_REJECTED: Code = Code::new(0x10b);
/// H3_REQUEST_CANCELLED.
pub(crate) const REQUEST_CANCELLED: Code = Code::new(0x10c);
/// H3_REQUEST_INCOMPLETE.
pub(crate) const REQUEST_INCOMPLETE: Code = Code::new(0x10d);
/// H3_MESSAGE_ERROR.
pub(crate) const MESSAGE: Code = Code::new(0x10e);
/// QPACK_DECOMPRESSION_FAILED (RFC 9204, section 6).
pub(crate) const DECOMPRESSION_FAILED: Code = Code::new(0x200);
/// H3_DATAGRAM_ERROR (RFC 9297, section 5.2).
pub(crate) const DATAGRAM: Code = Code::new(0x33);
/// WT_BUFFERED_STREAM_REJECTED (WebTransport over HTTP/3, section 9.5).
pub(crate) const BUFFERED_STREAM_REJECTED: Code = Code::new(0x3994_bd84);
/// WT_SESSION_GONE.
pub(crate) const SESSION_GONE: Code = Code::new(0x170d_7b68);

/// The code of a CONNECTION_CLOSE that ends a session with `code`.
///
/// WebTransport defines none, because a connection may outlive a session. Deployed peers take the form that
/// reset codes have (WebTransport over HTTP/3, section 4.4), also if they did not read the capsule.
pub fn connection_code(code: Code) -> Code {
    clamp(code).to_http3()
}

/// The reason for which a session is over whose connection the peer closed with `code`, without a capsule before.
pub fn connection_error(code: Code) -> SessionError {
    match code.from_http3() {
        session if session != code => SessionError::from_session_code(session),
        // A QUIC stack that closes a connection by itself sends 0.
        _ if code == NO_ERROR || code == Code::default() => SessionError::SessionClosed,
        _ => SessionError::Disconnected,
    }
}

/// Session codes of WebTransport have 32 bits (WebTransport over HTTP/3, section 6).
pub(crate) fn clamp(code: Code) -> Code {
    Code::new(code.as_u64().min(u32::MAX.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_a_close_is_mapped_and_understood() {
        for code in [0, 1, 2, 0x10, 64, 64 + 9, u32::MAX.into()].map(Code::new) {
            let error = connection_error(connection_code(code));
            assert_eq!(error, SessionError::from_session_code(code));
        }
        assert_eq!(connection_code(Code::MAX), connection_code(Code::new(u32::MAX.into())));
        assert_eq!(connection_error(NO_ERROR), SessionError::SessionClosed);
        assert_eq!(connection_error(Code::default()), SessionError::SessionClosed);
        assert_eq!(connection_error(EXCESSIVE_LOAD), SessionError::Disconnected);
    }
}
