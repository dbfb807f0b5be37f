//! What can go wrong, and the numbers that stand for it on the wire.

use crate::coding::{DecodeError, EncodeError};
use crate::stream::Code;

/// Why something ended, or was refused.
///
/// [`Error::stream_code`] and [`Error::session_code`] give the numbers of moq-lite 06, *Error Codes*,
/// which are the same for every version; a received number is advice and never decides what happens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The application's own code (64 and up on the wire, less 64 here).
    #[error("application code {0}")]
    App(u32),
    /// A number from the peer that has no name here.
    #[error("code {0} from the peer, which has no name here")]
    Remote(Code),
    /// Nobody wants it any more.
    #[error("cancelled")]
    Cancelled,
    /// It was finished or closed before.
    #[error("already closed")]
    Closed,
    /// The connection was lost without a word from the peer.
    #[error("the connection was lost")]
    Disconnected,
    /// The last producer went away without finishing it.
    #[error("dropped before it was finished")]
    Dropped,
    /// There is one with this name or sequence already.
    #[error("there is one with this name or number already")]
    Duplicate,
    /// It had to make room for newer groups.
    #[error("evicted from the cache for newer groups")]
    Evicted,
    /// A frame is larger than [`Limits::frame_bytes`](crate::Limits::frame_bytes).
    #[error("the frame is larger than the limit frame_bytes")]
    FrameTooLarge,
    /// The peer asked for no new requests.
    #[error("the peer is going away")]
    GoingAway,
    /// The peer was asked to leave, and what it asked for did not end in time.
    #[error("asked to leave, the peer did not in time")]
    GoawayTimeout,
    /// A group is larger than [`Limits::group_bytes`](crate::Limits::group_bytes) or
    /// [`Limits::group_frames`](crate::Limits::group_frames).
    #[error("the group is larger than the limit group_bytes or group_frames")]
    GroupTooLarge,
    /// A bug of ours or of the peer, without a better name.
    #[error("internal error, here or at the peer")]
    Internal,
    /// The reader fell too far behind.
    #[error("the reader fell too far behind")]
    Lagged,
    /// A limit was reached, of this side or of the peer.
    #[error("too many {0}")]
    Limit(&'static str),
    /// The bytes of one stream or message are not what the version allows.
    #[error("malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// The broadcast is there, the track is not.
    #[error("no such track or group")]
    NotFound,
    /// Older than the subscriber or the publisher allows.
    #[error("older than the subscriber or the publisher allows")]
    Old,
    /// The peer broke a rule that ends the session.
    #[error("protocol violation: {0}")]
    ProtocolViolation(&'static str),
    /// The session that it came through ended.
    #[error("the session is over")]
    SessionClosed,
    /// Something did not come in time.
    #[error("timed out")]
    Timeout,
    /// A path outside of what was granted.
    #[error("the path is outside of what was granted")]
    Unauthorized,
    /// No route leads to the broadcast.
    #[error("no such broadcast")]
    Unroutable,
    /// No version in common, or an unknown ALPN identifier.
    #[error("no version in common")]
    Version,
    /// The peer can't do that, or it has something that we must understand and do not.
    #[error("the peer or this side does not support it")]
    Unsupported,
    /// The named thing has no form on the wire, in any version or in that of the session: a group number
    /// above [`Group::MAX`](crate::Group::MAX), a name that moq-transport can't say.
    #[error("the wire can't carry {0}")]
    Unrepresentable(&'static str),
    /// A frame ended before its declared size, or went past it.
    #[error("frame shorter or longer than declared")]
    WrongSize,
}

impl From<EncodeError> for Error {
    /// Why a request can't be made: its message can't be written.
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::NotInVersion => Self::Unsupported,
            EncodeError::BoundsExceeded => Self::Unrepresentable("a number above 2^62-1"),
            EncodeError::TooLong => Self::Unrepresentable("a name that long"),
            EncodeError::TooMany => Self::Unrepresentable("a path of more than 32 segments"),
            EncodeError::InvalidValue(what) => Self::Unrepresentable(what),
        }
    }
}

/// First number of the application's codes, in both registries.
const APP: u64 = 64;

impl Error {
    /// The number for RESET_STREAM and STOP_SENDING.
    pub fn stream_code(&self) -> Code {
        Code::new(match self {
            Self::App(code) => APP + u64::from(*code),
            Self::Remote(code) => code.as_u64(),
            Self::Cancelled | Self::Closed | Self::Dropped => 0x1,
            Self::Duplicate | Self::Internal | Self::Unsupported => 0x0,
            Self::Evicted => 0x35,
            Self::FrameTooLarge => 0x38,
            Self::GoingAway => 0x4,
            Self::GroupTooLarge => 0x32,
            Self::Lagged => 0x5,
            Self::Limit(_) => 0x30,
            Self::Malformed(_) => 0x12,
            Self::NotFound => 0x33,
            Self::Old => 0x34,
            Self::Disconnected
            | Self::GoawayTimeout
            | Self::ProtocolViolation(_)
            | Self::SessionClosed
            | Self::Unauthorized
            | Self::Version => 0x3,
            Self::Timeout => 0x2,
            Self::Unroutable | Self::Unrepresentable(_) => 0x36,
            Self::WrongSize => 0x37,
        })
    }

    /// What a RESET_STREAM or STOP_SENDING with this number means.
    pub fn from_stream_code(code: Code) -> Self {
        match code.as_u64() {
            0x0 => Self::Internal,
            0x1 => Self::Cancelled,
            0x2 | 0x31 => Self::Timeout,
            0x3 => Self::SessionClosed,
            0x4 => Self::GoingAway,
            0x5 => Self::Lagged,
            0x30 => Self::Limit("requests at the peer"),
            0x32 => Self::GroupTooLarge,
            0x33 => Self::NotFound,
            0x34 => Self::Old,
            0x35 => Self::Evicted,
            0x36 => Self::Unroutable,
            0x37 => Self::WrongSize,
            0x38 => Self::FrameTooLarge,
            n => Self::app(n).unwrap_or(Self::Remote(code)),
        }
    }

    /// The number for closing the session.
    pub fn session_code(&self) -> Code {
        Code::new(match self {
            Self::App(code) => APP + u64::from(*code),
            Self::Remote(code) => code.as_u64(),
            Self::Cancelled
            | Self::Closed
            | Self::Dropped
            | Self::GoingAway
            | Self::SessionClosed => 0x0,
            Self::Unauthorized => 0x2,
            Self::ProtocolViolation(_) | Self::Malformed(_) | Self::Duplicate | Self::WrongSize => {
                0x3
            }
            Self::GoawayTimeout => 0x10,
            Self::Timeout => 0x11,
            Self::Version => 0x15,
            _ => 0x1,
        })
    }

    /// Why the peer closed the session with this number.
    pub fn from_session_code(code: Code) -> Self {
        match code.as_u64() {
            0x0 => Self::SessionClosed,
            0x1 => Self::Internal,
            0x2 => Self::Unauthorized,
            0x3 => Self::ProtocolViolation("says the peer"),
            0x10 => Self::GoawayTimeout,
            0x11 => Self::Timeout,
            0x15 => Self::Version,
            n => Self::app(n).unwrap_or(Self::Remote(code)),
        }
    }

    /// A number that no registry names.
    pub(crate) fn other(code: u64) -> Self {
        Self::app(code).unwrap_or(Self::Remote(Code::new(code)))
    }

    fn app(code: u64) -> Option<Self> {
        let code = code.checked_sub(APP)?;
        u32::try_from(code).ok().map(Self::App)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// wire-lite 5.1: every number that has a name comes back as the number it was.
    #[test]
    fn stream_codes_survive_a_relay() {
        for code in (0..0x50).chain([64, 65, 64 + u64::from(u32::MAX), Code::MAX.as_u64()]) {
            // 0x31 is only received; 0x12 carries no detail to restore.
            let back = Error::from_stream_code(Code::new(code)).stream_code().as_u64();
            let expected = if code == 0x31 { 0x2 } else { code };
            assert_eq!(back, expected, "{code:#x}");
        }
    }
}
