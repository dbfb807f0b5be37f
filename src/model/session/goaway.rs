//! GOAWAY, for applications.

use std::time::Duration;

use crate::coding::lite;
use crate::model::base::Result;
use crate::stream::Side;
use crate::{Error, LimitKind};

/// The content of GOAWAY, which [`Session::go_away`](crate::Session::go_away) sends and
/// [`Session::going_away`](crate::Session::going_away) receives.
///
/// ```
/// # use smoq::Goaway;
/// # use std::time::Duration;
/// let goaway = Goaway::default().uri("moqt://b.example/").timeout(Duration::from_secs(5));
/// assert_eq!(goaway.uri.as_deref(), Some("moqt://b.example/"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Goaway {
    /// Where the peer should connect instead. Default: not specified.
    pub uri: Option<Box<str>>,
    /// How long running subscriptions may go on. Default:
    /// [`Limits::goaway_timeout`](crate::Limits::goaway_timeout). From a peer it is `None` if the peer
    /// does not tell it; only moq-transport 17 and later can.
    pub timeout: Option<Duration>,
}

impl Goaway {
    /// The length of the longest URI in bytes (moq-transport, *GOAWAY*).
    pub const MAX_URI: usize = lite::Goaway::MAX_URI;

    /// Sets [`uri`](Self::uri), where the peer should connect instead. An empty one stands for none.
    #[must_use]
    pub fn uri(mut self, uri: impl Into<Box<str>>) -> Self {
        let uri = uri.into();
        self.uri = if uri.is_empty() { None } else { Some(uri) };
        self
    }

    /// Sets [`timeout`](Self::timeout).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Fails if `side` must not send it.
    pub(crate) fn check(&self, side: Side) -> Result<(), Error> {
        match self.uri.as_deref().unwrap_or_default() {
            "" => Ok(()),
            uri if uri.len() > Self::MAX_URI => Err(Error::Limit(LimitKind::UriBytes)),
            _ if side == Side::Client => Err(Error::Unsupported),
            _ => Ok(()),
        }
    }
}
