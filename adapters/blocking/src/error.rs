//! Errors of endpoints and of dialing.

use quinn_proto::{ConnectError, ConnectionError};

/// Why an endpoint or a connection could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// QUIC can't dial this address or name, or has no connection ids left. Other connections are unaffected.
    #[error("this address or name can't be dialed")]
    Connect(#[from] quinn_proto::ConnectError),
    /// The socket can't be used, or the host name can't be resolved.
    #[error("the socket can't be used, or the host name can't be resolved")]
    Io(#[from] std::io::Error),
    /// The URL can't be parsed.
    #[error(transparent)]
    Url(#[from] smoq_quic::InvalidUrl),
}

/// Why there is no session with one address by one carrier.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The address is an IPv6 one, and the endpoint, for QUIC, is bound to an IPv4 address.
    #[error("the socket is for IPv4 only")]
    Family,
    /// This address or this name can't be dialed.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// The handshake failed, or nobody answered.
    #[error("{0}")]
    Connection(#[from] ConnectionError),
    /// HTTP/3 did not lead to a session.
    #[error("{0}")]
    WebTransport(#[from] smoq_quic::http3::Error),
    /// HTTP/3 did not lead to a session within [`HTTP_TIMEOUT`](smoq_quic::HTTP_TIMEOUT), or TCP, TLS and HTTP together
    /// did not lead to a WebSocket.
    #[error("the peer opened no session in time")]
    Timeout,
    /// TCP failed, or ended before there was a WebSocket.
    #[error("TCP: {0}")]
    Tcp(std::io::Error),
    /// TLS failed on TCP, for example because the certificate is not trusted.
    #[error("TLS: {0}")]
    Tls(#[from] smoq_quic::rustls::Error),
    /// The server answered the request for a WebSocket with this status of HTTP.
    #[error("the server refused a WebSocket with the HTTP status {0}")]
    Refused(u16),
    /// There is no request for this WebSocket, or the answer does not fit it.
    #[error("no WebSocket: {0}")]
    WebSocket(&'static str),
}

/// No address of a host could be reached: the addresses that were tried, and why each failed.
pub type Unreachable = smoq_quic::Unreachable<DialError>;
