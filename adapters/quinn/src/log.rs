//! Events for the `tracing` crate, with the feature of that name. smoq itself reports the events of sessions.

use quinn::{Connection, ConnectionError};
use smoq::Version;
use smoq_quic::Buffers;

/// One event, or nothing without the feature.
macro_rules! event {
    ($level:ident, $($field:ident = $value:expr),*; $message:literal) => {{
        #[cfg(feature = "tracing")]
        tracing::$level!($($field = $value),*, $message);
        #[cfg(not(feature = "tracing"))]
        let _ = ($(&$value),*);
    }};
}

pub(crate) fn agreed(connection: &Connection, version: Version) {
    let (remote, id) = (connection.remote_address(), connection.stable_id());
    let (remote, version) = (format_args!("{remote}"), format_args!("{version}"));
    event!(debug, connection = id, remote = remote, version = version; "version agreed");
}

pub(crate) fn no_version(connection: &Connection) {
    let (remote, id) = (connection.remote_address(), connection.stable_id());
    event!(warn, connection = id, remote = format_args!("{remote}"); "no version in common");
}

pub(crate) fn lost(connection: &Connection, error: &ConnectionError) {
    let id = connection.stable_id();
    event!(debug, connection = id, reason = format_args!("{error}"); "connection lost");
}

pub(crate) fn buffers(buffers: &Buffers) {
    if buffers.is_short() {
        let (receive, send) = (buffers.receive, buffers.send);
        event!(warn, receive = receive, send = send; "socket buffers are small, bursts may be lost");
    }
}
