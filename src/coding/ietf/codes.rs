//! The error codes of the drafts (*Error Codes*) and the [`Error`]s that they stand for.
//!
//! Codes of 64 and above belong to the application, as in moq-lite; no draft assigns them. A code that is
//! not registered becomes [`Error::Remote`], so that a relay forwards it unchanged.

use super::draft::{Draft, ErrorForm, PropertyForm};
use super::fields::{Read, Written};
use super::message::MessageType;
use crate::coding::cursor::Cursor;
use crate::coding::writer::Writer;
use crate::error::{Error, LimitKind};
use crate::stream::Code;

/// PUBLISH_DONE: the track has ended.
pub const TRACK_ENDED: u64 = 0x2;
/// PUBLISH_DONE: everything that the subscription requested was sent.
pub const SUBSCRIPTION_ENDED: u64 = 0x3;
/// PUBLISH_DONE: an update of the subscription failed (15+).
pub const UPDATE_FAILED: u64 = 0x8;

/// REQUEST_ERROR: the request is not supported.
pub const NOT_SUPPORTED: u64 = 0x3;
/// REQUEST_ERROR: the range is empty, or nothing was published in it.
pub const INVALID_RANGE: u64 = 0x11;
/// REQUEST_ERROR: the receiver has no use for the offer.
pub const UNINTERESTED: u64 = 0x20;
/// REQUEST_ERROR: another namespace subscription of this session overlaps with it.
pub const PREFIX_OVERLAP: u64 = 0x30;
/// REQUEST_ERROR: a joining FETCH names a request that is not a subscription.
pub const INVALID_JOINING_REQUEST_ID: u64 = 0x32;
/// REQUEST_ERROR (18+): the track has a mandatory property that the receiver does not know.
pub const UNSUPPORTED_EXTENSION: u64 = 0x33;
/// REQUEST_ERROR (19+): a range filter that the receiver did not offer to understand.
pub const INVALID_FILTER: u64 = 0x36;
/// REQUEST_ERROR (18+): the track is elsewhere, see [`Redirect`](super::Redirect).
pub const REDIRECT: u64 = 0x34;

const INTERNAL_ERROR: u64 = 0x0;
const UNAUTHORIZED: u64 = 0x1;
const TIMEOUT: u64 = 0x2;
const DOES_NOT_EXIST: u64 = 0x10;
/// REQUEST_ERROR: a token is well formed, and invalid all the same.
pub const MALFORMED_AUTH_TOKEN: u64 = 0x4;
const EXPIRED_AUTH_TOKEN: u64 = 0x5;
const MALFORMED_TRACK: u64 = 0x12;
/// INVALID_PATH of sessions: the server has nothing there.
pub(crate) const INVALID_PATH: u64 = 0x8;
/// INVALID_AUTHORITY of sessions: the server does not serve it.
pub(crate) const INVALID_AUTHORITY: u64 = 0x19;
/// EXPIRED_AUTH_TOKEN of sessions.
const SESSION_EXPIRED_AUTH_TOKEN: u64 = 0x18;
/// REQUEST_ERROR: a token has an alias that is not registered. The registry of requests has no number for it, and so it
/// is that of sessions.
pub const UNKNOWN_AUTH_TOKEN_ALIAS: u64 = 0x17;

/// Of PUBLISH_DONE.
const GOING_AWAY: u64 = 0x4;

/// Of RESET_STREAM and STOP_SENDING.
const CANCELLED: u64 = 0x1;
const DELIVERY_TIMEOUT: u64 = 0x2;
const SESSION_CLOSED: u64 = 0x3;

impl Draft {
    /// [`UNSUPPORTED_EXTENSION`], where the draft has mandatory properties.
    fn unsupported_extension(&self) -> Option<u64> {
        (self.properties >= PropertyForm::Answers).then_some(UNSUPPORTED_EXTENSION)
    }

    /// The code for REQUEST_ERROR. A draft without a matching code gets INTERNAL_ERROR.
    pub fn request_code(&self, error: &Error) -> u64 {
        let codes = &self.codes;
        match error {
            Error::App(_) | Error::Remote(_) => error.stream_code().as_u64(),
            Error::Duplicate => codes.duplicate_subscription.unwrap_or(INTERNAL_ERROR),
            Error::Expired => EXPIRED_AUTH_TOKEN,
            Error::GoingAway => codes.going_away.unwrap_or(INTERNAL_ERROR),
            Error::Limit(_) => codes.excessive_load.unwrap_or(INTERNAL_ERROR),
            Error::Malformed(_) | Error::WrongSize => MALFORMED_TRACK,
            Error::NotFound | Error::Unroutable | Error::Unrepresentable(_) => DOES_NOT_EXIST,
            Error::Old => INVALID_RANGE,
            Error::Timeout => TIMEOUT,
            Error::Unauthorized => UNAUTHORIZED,
            Error::UnknownProperty => self.unsupported_extension().unwrap_or(NOT_SUPPORTED),
            Error::Unsupported => NOT_SUPPORTED,
            // Codes are informative, so an error without a code of its own is reported as INTERNAL_ERROR.
            _ => INTERNAL_ERROR,
        }
    }

    /// The meaning of a code in REQUEST_ERROR.
    pub fn request_error(&self, code: u64) -> Error {
        let codes = &self.codes;
        match code {
            INTERNAL_ERROR => Error::Internal,
            UNAUTHORIZED => Error::Unauthorized,
            TIMEOUT => Error::Timeout,
            NOT_SUPPORTED => Error::Unsupported,
            EXPIRED_AUTH_TOKEN => Error::Expired,
            DOES_NOT_EXIST => Error::NotFound,
            _ if self.unsupported_extension() == Some(code) => Error::UnknownProperty,
            _ if codes.duplicate_subscription == Some(code) => Error::Duplicate,
            _ if codes.going_away == Some(code) => Error::GoingAway,
            _ if codes.excessive_load == Some(code) => Error::Limit(LimitKind::PeerRequests),
            _ => Error::other(code),
        }
    }

    /// The status for PUBLISH_DONE when a subscription ends with an error. Without an error it is
    /// [`TRACK_ENDED`].
    pub fn done_code(&self, error: &Error) -> u64 {
        let codes = &self.codes;
        match error {
            Error::App(_) | Error::Remote(_) => error.stream_code().as_u64(),
            Error::GoingAway => GOING_AWAY,
            Error::Lagged => codes.done_too_far_behind,
            Error::Limit(_) => codes.excessive_load.unwrap_or(INTERNAL_ERROR),
            Error::Malformed(_) | Error::WrongSize => codes.done_malformed_track,
            Error::Old => codes.done_expired,
            Error::Expired | Error::Unauthorized => UNAUTHORIZED,
            _ => INTERNAL_ERROR,
        }
    }

    /// The error that a status in PUBLISH_DONE stands for. [`TRACK_ENDED`] and [`SUBSCRIPTION_ENDED`] are a
    /// regular end, and give `None`.
    pub fn done_error(&self, status: u64) -> Option<Error> {
        let codes = &self.codes;
        Some(match status {
            TRACK_ENDED | SUBSCRIPTION_ENDED => return None,
            INTERNAL_ERROR => Error::Internal,
            UNAUTHORIZED => Error::Unauthorized,
            GOING_AWAY => Error::GoingAway,
            _ if status == codes.done_too_far_behind => Error::Lagged,
            _ if status == codes.done_expired => Error::Old,
            _ if codes.excessive_load == Some(status) => Error::Limit(LimitKind::PeerRequests),
            _ => Error::other(status),
        })
    }

    /// The code for RESET_STREAM and STOP_SENDING.
    pub fn stream_code(&self, error: &Error) -> Code {
        let codes = &self.codes;
        Code::new(match error {
            Error::App(_) | Error::Remote(_) => return error.stream_code(),
            Error::Cancelled | Error::Closed | Error::Dropped => CANCELLED,
            Error::GoingAway => codes.reset_going_away.unwrap_or(CANCELLED),
            Error::Evicted | Error::Old | Error::Timeout => DELIVERY_TIMEOUT,
            Error::Lagged => codes.reset_too_far_behind.unwrap_or(DELIVERY_TIMEOUT),
            Error::Limit(_) => codes.excessive_load.unwrap_or(INTERNAL_ERROR),
            Error::Malformed(_) | Error::WrongSize => {
                codes.malformed_track.unwrap_or(INTERNAL_ERROR)
            }
            Error::Disconnected
            | Error::Expired
            | Error::ProtocolViolation(_)
            | Error::SessionClosed
            | Error::Unauthorized
            | Error::Version => SESSION_CLOSED,
            _ => INTERNAL_ERROR,
        })
    }

    /// The meaning of a code in RESET_STREAM or STOP_SENDING.
    pub fn stream_error(&self, code: Code) -> Error {
        let codes = &self.codes;
        let number = code.as_u64();
        match number {
            INTERNAL_ERROR => Error::Internal,
            CANCELLED => Error::Cancelled,
            DELIVERY_TIMEOUT => Error::Old,
            SESSION_CLOSED => Error::SessionClosed,
            _ if codes.reset_going_away == Some(number) => Error::GoingAway,
            _ if codes.reset_too_far_behind == Some(number) => Error::Lagged,
            _ if codes.excessive_load == Some(number) => Error::Limit(LimitKind::PeerRequests),
            _ => Error::other(number),
        }
    }

    /// The code for closing the session. For most of our errors the drafts have the same codes as moq-lite.
    pub fn session_code(&self, error: &Error) -> Code {
        match error {
            Error::Expired => Code::new(SESSION_EXPIRED_AUTH_TOKEN),
            Error::UnknownAuthority => Code::new(INVALID_AUTHORITY),
            Error::Unroutable => Code::new(INVALID_PATH),
            error => error.session_code(),
        }
    }

    /// The meaning of the code with which the peer closed the session.
    pub fn session_error(&self, code: Code) -> Error {
        let rule = match code.as_u64() {
            0x4 => "invalid request id reported by the peer",
            0x5 => "duplicate track alias reported by the peer",
            0x6 => "malformed key-value pair reported by the peer",
            0x7 if self.codes.too_many_requests => "too many requests reported by the peer",
            0x9 => "invalid path reported by the peer",
            SESSION_EXPIRED_AUTH_TOKEN => return Error::Expired,
            INVALID_AUTHORITY => return Error::UnknownAuthority,
            INVALID_PATH => return Error::Unroutable,
            0x1a => "invalid authority reported by the peer",
            _ => return Error::from_session_code(code),
        };
        Error::ProtocolViolation(rule)
    }
}

/// The codes of 14 for a kind of request: the common code, and that of 14. Codes below 4 are the same.
fn codes_of_14(kind: MessageType) -> impl Iterator<Item = (u64, u64)> {
    let codes: &[_] = match kind {
        MessageType::SubscribeError | MessageType::TrackStatusError => {
            &[(DOES_NOT_EXIST, 0x4), (INVALID_RANGE, 0x5)]
        }
        MessageType::FetchError => &[
            (DOES_NOT_EXIST, 0x4),
            (INVALID_RANGE, 0x5),
            // NO_OBJECTS: a range without objects.
            (INVALID_RANGE, 0x6),
            (INVALID_JOINING_REQUEST_ID, 0x7),
            (MALFORMED_TRACK, 0x9),
        ],
        MessageType::SubscribeNamespaceError => &[(DOES_NOT_EXIST, 0x4), (PREFIX_OVERLAP, 0x5)],
        _ => &[(UNINTERESTED, 0x4)],
    };
    let of_tokens: &[_] = match kind {
        MessageType::PublishError => &[],
        _ => &[(MALFORMED_AUTH_TOKEN, 0x10), (EXPIRED_AUTH_TOKEN, 0x12)],
    };
    codes.iter().chain(of_tokens).copied()
}

/// Whether 14 has this code with the meaning of later drafts. That holds for the first ones, and for those
/// of the application.
fn is_common(code: u64) -> bool {
    !(0x4..0x40).contains(&code)
}

/// The form of a code of REQUEST_ERROR. Only 14 has others than the common ones; one that is unknown there is an
/// INTERNAL_ERROR.
pub(super) struct RequestCode;

impl RequestCode {
    pub(super) fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<(u64,)> {
        let code = cursor.varint()?;
        Ok((translate(code, kind, draft, |(common, theirs)| (theirs, common)),))
    }

    pub(super) fn write(
        writer: &mut Writer<'_>,
        (code,): (&u64,),
        kind: MessageType,
        draft: &Draft,
    ) -> Written {
        Ok(writer.varint(translate(*code, kind, draft, |row| row))?)
    }
}

/// Looks a code up in the rows of 14, each of which `pair` orders as the code to find and its translation.
fn translate(
    code: u64,
    kind: MessageType,
    draft: &Draft,
    pair: fn((u64, u64)) -> (u64, u64),
) -> u64 {
    if draft.errors > ErrorForm::PerRequest || is_common(code) {
        return code;
    }
    let mut rows = codes_of_14(kind).map(pair);
    rows.find(|(from, _)| *from == code).map_or(INTERNAL_ERROR, |(_, to)| to)
}
