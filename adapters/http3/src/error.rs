use smoq::stream::Code;

use crate::codes;

/// Why a connection can't carry a session. The connection has to be closed with [`code`](Self::code).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer broke a rule of HTTP/3 or WebTransport.
    #[error("the peer broke a rule of HTTP/3: {reason}")]
    Protocol {
        /// The code of HTTP/3, QPACK or WebTransport for it.
        code: Code,
        /// The violation, in words.
        reason: &'static str,
    },
    /// The server's SETTINGS do not say that it has WebTransport.
    #[error("the server does not support WebTransport")]
    Unsupported,
    /// The server answered the request with this HTTP status. 0 stands for an answer without a status, or for none.
    #[error("the server refused the session with HTTP status {0}")]
    Refused(u16),
    /// No version was offered that both sides speak, or the server chose one that was not offered.
    #[error("the peer speaks no version that was offered")]
    Version,
    /// Authority and path do not form a URL.
    #[error("the authority and the path do not form a URL")]
    Url,
}

impl Error {
    /// The code for CONNECTION_CLOSE.
    pub const fn code(&self) -> Code {
        match self {
            Self::Protocol { code, .. } => *code,
            Self::Version => codes::REQUEST_REJECTED,
            Self::Unsupported | Self::Refused(_) | Self::Url => codes::NO_ERROR,
        }
    }
}

/// A broken rule: its code, and what the peer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation(pub(crate) Code, pub(crate) &'static str);

impl From<Violation> for Error {
    fn from(Violation(code, reason): Violation) -> Self {
        Self::Protocol { code, reason }
    }
}
