//! The HTTP request that opened a session over WebTransport or a WebSocket.

/// The HTTP request by which a client opened a session over WebTransport or a WebSocket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpRequest {
    path: Box<str>,
    authority: Box<str>,
    headers: Vec<(Box<str>, Box<str>)>,
}

impl HttpRequest {
    /// A request for `path`, with its query if it has one, of `authority`.
    pub fn new(path: impl Into<Box<str>>, authority: impl Into<Box<str>>) -> Self {
        Self { path: path.into(), authority: authority.into(), headers: Vec::new() }
    }

    /// Adds a header. Names are in lower case.
    pub fn push_header(&mut self, name: &str, value: &str) {
        self.headers.push((name.into(), value.into()));
    }

    /// The path with its query, as the client wrote it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Host and port of the URL. The port is left out if it is that of the scheme.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The origin of the page that opened the session, as `https://example.org`. Only browsers send it.
    pub fn origin(&self) -> Option<&str> {
        self.header("origin")
    }

    /// The first header with this name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(its, _)| *its == name).map(|(_, value)| value)
    }

    /// All headers.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (&**name, &**value))
    }
}
