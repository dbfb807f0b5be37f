//! Events for the `tracing` crate, with the feature of that name. smoq itself reports the events of sessions.

use std::net::SocketAddr;

use quinn_proto::ConnectionError;
use smoq::Version;
use smoq_quic::Buffers;

use crate::event::ConnectionId;

/// One event, or nothing without the feature.
macro_rules! event {
    ($level:ident, $($field:ident = $value:expr),*; $message:literal) => {{
        #[cfg(feature = "tracing")]
        tracing::$level!($($field = $value),*, $message);
        #[cfg(not(feature = "tracing"))]
        let _ = ($(&$value),*);
    }};
}

pub(crate) fn agreed(id: ConnectionId, remote: SocketAddr, version: Version) {
    let (remote, version) = (format_args!("{remote}"), format_args!("{version}"));
    event!(debug, connection = id.serial, remote = remote, version = version; "version agreed");
}

pub(crate) fn no_version(id: ConnectionId, remote: SocketAddr) {
    event!(warn, connection = id.serial, remote = format_args!("{remote}"); "no version in common");
}

pub(crate) fn lost(id: ConnectionId, error: &ConnectionError) {
    event!(debug, connection = id.serial, reason = format_args!("{error}"); "connection lost");
}

pub(crate) fn buffers(buffers: &Buffers) {
    if buffers.is_short() {
        let (receive, send) = (buffers.receive, buffers.send);
        event!(warn, receive = receive, send = send; "socket buffers are small, bursts may be lost");
    }
}
