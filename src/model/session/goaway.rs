//! GOAWAY as applications say and hear it.

use std::time::Duration;

use crate::Error;
use crate::coding::lite;
use crate::model::Result;
use crate::stream::Side;

/// What an end that goes away says: [`Session::go_away`], [`Session::going_away`].
///
/// ```
/// # use smoq::Goaway;
/// # use std::time::Duration;
/// let goaway = Goaway::default().redirect("moqt://b.example/").timeout(Duration::from_secs(5));
/// assert_eq!(goaway.uri.as_deref(), Some("moqt://b.example/"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Goaway {
    /// Where the peer should go instead. Default: nowhere in particular.
    pub uri: Option<Box<str>>,
    /// How long what runs may go on. Default: [`Limits::goaway_time`]. Of a peer: `None` if it does not
    /// say, which only moq-transport 18 can.
    pub timeout: Option<Duration>,
}

impl Goaway {
    /// Bytes of the longest URI (moq-transport, *GOAWAY*).
    pub const MAX_URI: usize = lite::Goaway::MAX_URI;

    /// Names where the peer should go instead; nothing if `uri` is empty.
    pub fn redirect(mut self, uri: impl Into<Box<str>>) -> Self {
        let uri = uri.into();
        self.uri = if uri.is_empty() { None } else { Some(uri) };
        self
    }

    /// Says how long what runs may go on.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Whether `side` may say it.
    pub(crate) fn check(&self, side: Side) -> Result<(), Error> {
        match self.uri.as_deref().unwrap_or_default() {
            "" => Ok(()),
            uri if uri.len() > Self::MAX_URI => Err(Error::Limit("bytes of a URI")),
            _ if side == Side::Client => Err(Error::Unsupported),
            _ => Ok(()),
        }
    }
}
