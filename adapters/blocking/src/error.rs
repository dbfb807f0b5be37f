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

/// Why there is no session with one address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The address is an IPv6 one, and the endpoint is bound to an IPv4 address.
    #[error("the socket is for IPv4 only")]
    Family,
    /// QUIC can't dial this address or this name.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// The handshake failed, or nobody answered.
    #[error("{0}")]
    Connection(#[from] ConnectionError),
    /// HTTP/3 did not lead to a session.
    #[error("{0}")]
    WebTransport(#[from] smoq_quic::webtransport::Error),
    /// HTTP/3 did not lead to a session within [`HTTP_TIMEOUT`](smoq_quic::HTTP_TIMEOUT).
    #[error("the peer opened no session in time")]
    Timeout,
}

/// No address of a host could be reached: the addresses that were tried, and why each failed.
pub type Unreachable = smoq_quic::Unreachable<DialError>;
