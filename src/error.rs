//! Errors, and their codes on the wire.

use crate::coding_error::{DecodeError, EncodeError};
use crate::stream::Code;

/// The limit that [`Error::Limit`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum LimitKind {
    /// [`Limits::announcements`](crate::Limits::announcements).
    #[error("announcements of the peer")]
    Announcements,
    /// [`Limits::announce_requests`](crate::Limits::announce_requests).
    #[error("announce requests")]
    AnnounceRequests,
    /// [`Limits::sent_announcements`](crate::Limits::sent_announcements).
    #[error("announcements to the peer")]
    SentAnnouncements,
    /// 64 times [`Limits::request_buffer`](crate::Limits::request_buffer).
    #[error("answers that the peer does not read")]
    UnreadAnswers,
    /// [`Limits::broadcast_answers`](crate::Limits::broadcast_answers).
    #[error("broadcasts on request")]
    BroadcastAnswers,
    /// [`Limits::broadcast_requests`](crate::Limits::broadcast_requests).
    #[error("requests for broadcasts")]
    BroadcastRequests,
    /// `smoq_quic::MAX_LEAVING`, of a client that dials again.
    #[error("sessions that end after GOAWAY")]
    LeavingSessions,
    /// [`Goaway::MAX_URI`](crate::Goaway::MAX_URI).
    #[error("bytes of a URI")]
    UriBytes,
    /// [`Limits::path_bytes`](crate::Limits::path_bytes).
    #[error("bytes of a path")]
    PathBytes,
    /// [`Limits::path_bytes`](crate::Limits::path_bytes).
    #[error("bytes of a track name")]
    TrackNameBytes,
    /// [`Limits::group_streams`](crate::Limits::group_streams).
    #[error("group streams")]
    GroupStreams,
    /// [`Limits::unbound_streams`](crate::Limits::unbound_streams).
    #[error("group streams of unknown tracks")]
    UnboundStreams,
    /// Tracks that the peer offers by PUBLISH.
    #[error("tracks that the peer offers")]
    Offers,
    /// PROBE streams of the peer.
    #[error("PROBE streams")]
    ProbeStreams,
    /// [`Limits::requests`](crate::Limits::requests).
    #[error("requests")]
    Requests,
    /// A limit of the peer on requests.
    #[error("requests that the peer allows")]
    PeerRequests,
    /// [`Limits::subscriptions`](crate::Limits::subscriptions).
    #[error("subscriptions")]
    Subscriptions,
}

/// Why something ended or was refused.
///
/// [`Error::stream_code`] and [`Error::session_code`] give the codes of moq-lite 06, *Error Codes*, for all
/// versions of moq-lite. A received code is only informative: it never decides what happens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error code of the application. On the wire it is 64 higher.
    #[error("application error code {0}")]
    App(u32),
    /// A code from the peer that is not registered.
    #[error("the peer sent the unregistered error code {0}")]
    Remote(Code),
    /// The subscriber or the publisher does not want it any more.
    #[error("cancelled")]
    Cancelled,
    /// It was already finished or closed.
    #[error("already closed")]
    Closed,
    /// The connection was lost without a close from the peer.
    #[error("the connection was lost")]
    Disconnected,
    /// The last producer was dropped without finishing it.
    #[error("dropped before it was finished")]
    Dropped,
    /// The name or sequence number is already in use.
    #[error("the name or number is already in use")]
    Duplicate,
    /// The cache evicted it to make room for newer groups.
    #[error("evicted from the cache to make room for newer groups")]
    Evicted,
    /// The authorization token is no longer valid.
    #[error("the authorization token is no longer valid")]
    Expired,
    /// The frame is larger than [`Limits::frame_bytes`](crate::Limits::frame_bytes).
    #[error("the frame is larger than the limit frame_bytes")]
    FrameTooLarge,
    /// The peer sent GOAWAY and takes no new requests.
    #[error("the peer is going away")]
    GoingAway,
    /// The peer received GOAWAY and did not end its requests in time.
    #[error("the peer did not end its requests in time after GOAWAY")]
    GoawayTimeout,
    /// The group is larger than [`Limits::group_bytes`](crate::Limits::group_bytes) or
    /// [`Limits::group_frames`](crate::Limits::group_frames).
    #[error("the group is larger than the limit group_bytes or group_frames")]
    GroupTooLarge,
    /// A bug, in this crate or at the peer, or an error of the peer that has no better code.
    #[error("internal error, here or at the peer")]
    Internal,
    /// The reader fell too far behind.
    #[error("the reader fell too far behind")]
    Lagged,
    /// A limit of this side or of the peer was reached. Everything below the limit is unaffected.
    #[error("the limit on {0} was reached")]
    Limit(LimitKind),
    /// The bytes of one stream or message violate the format of the version.
    #[error("malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// The broadcast exists, but the track or the group does not.
    #[error("no such track or group")]
    NotFound,
    /// It is older than the subscriber or the publisher allows.
    #[error("older than the subscriber or the publisher allows")]
    Old,
    /// The peer broke a rule of the protocol, and the session ended.
    #[error("protocol violation: {0}")]
    ProtocolViolation(&'static str),
    /// The session that it came through has ended.
    #[error("the session has ended")]
    SessionClosed,
    /// Something did not happen in time.
    #[error("timed out")]
    Timeout,
    /// The path is outside of what this session was granted.
    #[error("the path is outside of what was granted")]
    Unauthorized,
    /// The server does not serve the authority that the client named (moq-transport, INVALID_AUTHORITY).
    #[error("the server does not serve this authority")]
    UnknownAuthority,
    /// The track has a property that each reader must understand, and this side or the peer does not
    /// (moq-transport 18 and later, UNSUPPORTED_EXTENSION).
    #[error("the track has a property that a reader must understand, and does not")]
    UnknownProperty,
    /// No route leads to the broadcast.
    #[error("no route leads to the broadcast")]
    Unroutable,
    /// The two sides have no version in common, or the ALPN identifier is unknown.
    #[error("the two sides have no version in common")]
    Version,
    /// One side does not support the request, or a feature that the request requires.
    #[error("the peer or this side does not support it")]
    Unsupported,
    /// The named value has no encoding, in any version or in that of the session. Examples are a group
    /// number above [`Group::MAX`](crate::Group::MAX) and a name that moq-transport can't encode.
    #[error("the wire format can't carry {0}")]
    Unrepresentable(&'static str),
    /// A frame was shorter or longer than its declared size.
    #[error("the frame is shorter or longer than its declared size")]
    WrongSize,
}

impl From<EncodeError> for Error {
    /// The reason why a message can't be encoded, as the error of the request that needs it.
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

/// The first code that belongs to the application, for streams and for sessions.
const APP: u64 = 64;

impl Error {
    /// The code for RESET_STREAM and STOP_SENDING.
    pub fn stream_code(&self) -> Code {
        Code::new(match self {
            Self::App(code) => APP + u64::from(*code),
            Self::Remote(code) => code.as_u64(),
            Self::Cancelled | Self::Closed | Self::Dropped => 0x1,
            Self::Duplicate | Self::Internal | Self::UnknownProperty | Self::Unsupported => 0x0,
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
            | Self::Expired
            | Self::GoawayTimeout
            | Self::ProtocolViolation(_)
            | Self::SessionClosed
            | Self::Unauthorized
            | Self::UnknownAuthority
            | Self::Version => 0x3,
            Self::Timeout => 0x2,
            Self::Unroutable | Self::Unrepresentable(_) => 0x36,
            Self::WrongSize => 0x37,
        })
    }

    /// The meaning of a code in RESET_STREAM or STOP_SENDING.
    pub fn from_stream_code(code: Code) -> Self {
        match code.as_u64() {
            0x0 => Self::Internal,
            0x1 => Self::Cancelled,
            0x2 | 0x31 => Self::Timeout,
            0x3 => Self::SessionClosed,
            0x4 => Self::GoingAway,
            0x5 => Self::Lagged,
            0x30 => Self::Limit(LimitKind::PeerRequests),
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

    /// The code for closing the session.
    pub fn session_code(&self) -> Code {
        Code::new(match self {
            Self::App(code) => APP + u64::from(*code),
            Self::Remote(code) => code.as_u64(),
            Self::Cancelled
            | Self::Closed
            | Self::Dropped
            | Self::GoingAway
            | Self::SessionClosed => 0x0,
            Self::Expired | Self::Unauthorized => 0x2,
            Self::ProtocolViolation(_) | Self::Malformed(_) | Self::Duplicate | Self::WrongSize => {
                0x3
            }
            Self::GoawayTimeout => 0x10,
            Self::Timeout => 0x11,
            Self::Version => 0x15,
            _ => 0x1,
        })
    }

    /// The meaning of the code with which the peer closed the session.
    pub fn from_session_code(code: Code) -> Self {
        match code.as_u64() {
            0x0 => Self::SessionClosed,
            0x1 => Self::Internal,
            0x2 => Self::Unauthorized,
            0x3 => Self::ProtocolViolation("reported by the peer"),
            0x10 => Self::GoawayTimeout,
            0x11 => Self::Timeout,
            0x15 => Self::Version,
            n => Self::app(n).unwrap_or(Self::Remote(code)),
        }
    }

    /// An error for a code that is not registered.
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

    /// moq-lite 06, *Error Codes*: a relay forwards every registered code unchanged.
    #[test]
    fn stream_codes_survive_a_relay() {
        for code in (0..0x50).chain([64, 65, 64 + u64::from(u32::MAX), Code::MAX.as_u64()]) {
            // 0x31 is only received. 0x12 carries no detail that could be restored.
            let back = Error::from_stream_code(Code::new(code)).stream_code().as_u64();
            let expected = if code == 0x31 { 0x2 } else { code };
            assert_eq!(back, expected, "{code:#x}");
        }
    }
}
