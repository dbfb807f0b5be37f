//! Events for `tracing`, in the target `smoq`, if the feature `tracing` is on: the beginning and
//! end of sessions, refused requests and exceeded limits. Frames and groups that arrive as they
//! should cause no events.

use crate::model::base::SessionId;
use crate::stream::Side;
use crate::{Error, Version};

/// Emits an event, or nothing without the feature.
macro_rules! event {
    ($level:ident, $($field:ident = $value:expr),*; $message:literal) => {{
        #[cfg(feature = "tracing")]
        tracing::$level!(target: "smoq", $($field = $value),*, $message);
        #[cfg(not(feature = "tracing"))]
        let _ = ($(&$value),*);
    }};
}

pub(crate) fn started(session: SessionId, side: Side, version: Version) {
    let (side, version) = (format_args!("{side:?}"), format_args!("{version}"));
    event!(info, session = session.0, side = side, version = version; "session started");
}

pub(crate) fn closed(session: SessionId, error: &Error) {
    event!(info, session = session.0, reason = format_args!("{error}"); "session closed");
}

/// The peer sent GOAWAY.
pub(crate) fn going_away(session: SessionId, uri: &str) {
    event!(info, session = session.0, uri = uri; "peer goes away");
}

/// This side refused a request of the peer.
pub(crate) fn refused(session: SessionId, error: &Error) {
    event!(debug, session = session.0, reason = format_args!("{error}"); "request refused");
}

/// A group or request of the peer broke off. It is a warning if the peer exceeded a limit or broke
/// a rule.
pub(crate) fn broke(session: SessionId, what: &'static str, error: &Error) {
    let reason = format_args!("{error}");
    match error {
        Error::Limit(_) | Error::FrameTooLarge | Error::GroupTooLarge => {
            event!(warn, session = session.0, what = what, reason = reason; "limit passed");
        }
        Error::Malformed(_) | Error::WrongSize | Error::ProtocolViolation(_) => {
            event!(warn, session = session.0, what = what, reason = reason; "malformed");
        }
        _ => {}
    }
}

/// The sink of a trace accepts no more.
pub(crate) fn trace_stopped(session: SessionId) {
    event!(warn, session = session.0, what = "trace"; "recording stopped");
}
