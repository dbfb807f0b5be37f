//! Events of connections for the [`tracing`](https://docs.rs/tracing) crate, with the feature of that name. smoq
//! itself reports the events of sessions.
//!
//! `connection` is a number that the adapter gives to each of its connections.

use std::net::SocketAddr;

use quinn_proto::ConnectionError;
use smoq::Version;

use crate::Buffers;

/// One event, or nothing without the feature.
macro_rules! event {
    ($level:ident, $($field:ident = $value:expr),*; $message:literal) => {{
        #[cfg(feature = "tracing")]
        tracing::$level!($($field = $value),*, $message);
        #[cfg(not(feature = "tracing"))]
        let _ = ($(&$value),*);
    }};
}

/// The handshake agreed on a version, and a session begins.
pub fn agreed(connection: u64, remote: SocketAddr, version: Version) {
    let (remote, version) = (format_args!("{remote}"), format_args!("{version}"));
    event!(debug, connection = connection, remote = remote, version = version; "version agreed");
}

/// The handshake agreed on no version. The adapter closes the connection.
pub fn no_version(connection: u64, remote: SocketAddr) {
    let remote = format_args!("{remote}");
    event!(warn, connection = connection, remote = remote; "no version in common");
}

/// HTTP/3 did not lead to a session. The adapter closes the connection.
pub fn no_session(connection: u64, remote: SocketAddr, error: &impl std::fmt::Display) {
    let (remote, reason) = (format_args!("{remote}"), format_args!("{error}"));
    event!(warn, connection = connection, remote = remote, reason = reason; "no session over HTTP/3");
}

/// The peer or the network ended the connection.
pub fn lost(connection: u64, error: &ConnectionError) {
    let reason = format_args!("{error}");
    event!(debug, connection = connection, reason = reason; "connection lost");
}

/// The buffers that the system granted to a socket.
pub(crate) fn buffers(buffers: &Buffers) {
    if buffers.is_short() {
        let (receive, send) = (buffers.receive, buffers.send);
        event!(warn, receive = receive, send = send; "socket buffers are small, bursts may be lost");
    }
}
