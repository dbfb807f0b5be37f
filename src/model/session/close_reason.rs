//! Why a session ended.

use std::fmt;

use crate::Error;
use crate::stream::Code;

/// Why a session ended, from [`Session::closed`](super::Session::closed).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Either side closed the session without an error: code 0 on the wire.
    Clean,
    /// The session failed, or was closed with an error.
    Error(Error),
}

impl CloseReason {
    /// Whether the session ended without an error.
    pub const fn is_clean(&self) -> bool {
        matches!(self, Self::Clean)
    }

    /// `Ok` for a clean end.
    ///
    /// # Errors
    ///
    /// The error that the session ended with.
    pub fn into_result(self) -> Result<(), Error> {
        match self {
            Self::Clean => Ok(()),
            Self::Error(error) => Err(error),
        }
    }
}

impl From<Error> for CloseReason {
    /// Errors with code 0 are a clean end, see [`Error::session_code`].
    fn from(error: Error) -> Self {
        match error.session_code() == Code::default() {
            true => Self::Clean,
            false => Self::Error(error),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => f.write_str("the session was closed"),
            Self::Error(error) => error.fmt(f),
        }
    }
}
