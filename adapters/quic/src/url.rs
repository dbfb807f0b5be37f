use std::fmt;
use std::str::FromStr;

/// The address of a server: `moqt://HOST[:PORT][/PATH][?QUERY]` on raw QUIC, or another [`Scheme`] with the same parts.
///
/// The default port is 443, with `ws://` 80. A user, a fragment or a control character is an error.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Url {
    scheme: Scheme,
    host: String,
    port: u16,
    path: String,
}

/// The protocols below a session, which the first part of a [`Url`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `moqt://`: raw QUIC.
    Moqt,
    /// `https://`: WebTransport over HTTP/3.
    Https,
    /// `ws://`: a WebSocket, without TLS.
    Ws,
    /// `wss://`: a WebSocket, with TLS.
    Wss,
}

impl Scheme {
    const ALL: [Self; 4] = [Self::Moqt, Self::Https, Self::Ws, Self::Wss];

    const fn default_port(self) -> u16 {
        match self {
            // RFC 6455, section 3.
            Self::Ws => 80,
            _ => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Moqt => "moqt",
            Self::Https => "https",
            Self::Ws => "ws",
            Self::Wss => "wss",
        })
    }
}

/// The text is not a URL of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not moqt://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH], nor ws:// or wss://")]
pub struct InvalidUrl;

impl Url {
    /// The protocols below the session.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// A DNS name or an IP address, IPv6 without brackets. The server's certificate must be for it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port: of UDP for QUIC, of TCP for a WebSocket.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The path without slashes at its ends, and the query after a `?` if there is one. It may be empty.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Host and port, IPv6 in brackets, without the port if it is the default.
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        if *port == self.scheme.default_port() { host } else { format!("{host}:{port}") }
    }
}

impl FromStr for Url {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidUrl)?;
        let scheme = Scheme::ALL.into_iter().find(|known| known.to_string() == scheme);
        let scheme = scheme.ok_or(InvalidUrl)?;
        let (rest, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let is_foreign = |c: char| c == '#' || c.is_whitespace() || c.is_control();
        if text.contains(is_foreign) || authority.contains('@') {
            return Err(InvalidUrl);
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, after) = v6.split_once(']').ok_or(InvalidUrl)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| InvalidUrl)?;
                let port = after.strip_prefix(':');
                if port.is_none() && !after.is_empty() {
                    return Err(InvalidUrl);
                }
                (host, port)
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return Err(InvalidUrl);
        }
        let port = port.map_or(Ok(scheme.default_port()), str::parse).map_err(|_| InvalidUrl)?;
        let path = path.trim_matches('/').to_owned() + query;
        Ok(Self { scheme, host: host.into(), port, path })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port, path } = self;
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}/{path}")
        } else {
            write!(f, "{scheme}://{host}:{port}/{path}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        for (text, host, port, path) in [
            ("moqt://relay.example:4443/a/b", "relay.example", 4443, "a/b"),
            ("moqt://relay.example", "relay.example", 443, ""),
            ("moqt://127.0.0.1:1/", "127.0.0.1", 1, ""),
            ("moqt://[::1]:4443/x/", "::1", 4443, "x"),
            ("moqt://[::1]", "::1", 443, ""),
            ("https://relay.example/a/?token=b/c@d", "relay.example", 443, "a?token=b/c@d"),
            ("https://relay.example:4443?token", "relay.example", 4443, "?token"),
            ("ws://relay.example/a", "relay.example", 80, "a"),
            ("wss://[::1]", "::1", 443, ""),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.host(), url.port(), url.path()), (host, port, path), "{text}");
            assert_eq!(url.to_string().parse(), Ok(url), "{text}");
        }
    }

    #[test]
    fn the_scheme_tells_the_carrier() {
        for (text, scheme, authority) in [
            ("moqt://relay.example/a", Scheme::Moqt, "relay.example"),
            ("https://relay.example:443", Scheme::Https, "relay.example"),
            ("https://[::1]:4443/a", Scheme::Https, "[::1]:4443"),
            ("ws://relay.example:80", Scheme::Ws, "relay.example"),
            ("ws://relay.example:443", Scheme::Ws, "relay.example:443"),
            ("wss://relay.example:443", Scheme::Wss, "relay.example"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.scheme(), &*url.authority()), (scheme, authority));
        }
    }

    #[test]
    fn other_texts_are_rejected() {
        for text in [
            "",
            "relay.example:4443",
            "http://relay.example",
            "wsss://relay.example",
            "https:relay.example",
            "moqt://",
            "https://?query",
            "moqt:///path",
            "moqt://:4443",
            "moqt://host:",
            "moqt://host:65536",
            "moqt://::1:4443",
            "moqt://[::1",
            "moqt://[::1]4443",
            "moqt://[host]:1",
            "moqt://user@host",
            "https://user@host",
            "https://host/#fragment",
            "https://host/?query#fragment",
            "moqt://host/a b",
            "moqt://host/\u{1b}[2J",
            "moqt://host\0/",
        ] {
            assert_eq!(text.parse::<Url>(), Err(InvalidUrl), "{text}");
        }
    }
}
