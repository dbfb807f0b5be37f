use std::fmt;
use std::str::FromStr;

/// `moqt://HOST[:PORT][/PATH]`: the address of a server on raw QUIC.
///
/// The default port is 443. A user, a query or a fragment is an error.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Url {
    host: String,
    port: u16,
    path: String,
}

/// The text is not a `moqt://` URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not moqt://HOST[:PORT][/PATH]")]
pub struct InvalidUrl;

impl Url {
    /// A DNS name or an IP address, IPv6 without brackets. The server's certificate must be for it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The UDP port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The path without slashes at its ends. It may be empty.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for Url {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let rest = text.strip_prefix("moqt://").ok_or(InvalidUrl)?;
        if rest.contains(|c: char| matches!(c, '@' | '?' | '#') || c.is_whitespace()) {
            return Err(InvalidUrl);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
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
        let port = port.map_or(Ok(443), str::parse).map_err(|_| InvalidUrl)?;
        Ok(Self { host: host.into(), port, path: path.trim_matches('/').into() })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, path } = self;
        if host.contains(':') {
            write!(f, "moqt://[{host}]:{port}/{path}")
        } else {
            write!(f, "moqt://{host}:{port}/{path}")
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
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.host(), url.port(), url.path()), (host, port, path), "{text}");
            assert_eq!(url.to_string().parse(), Ok(url), "{text}");
        }
    }

    #[test]
    fn other_texts_are_rejected() {
        for text in [
            "",
            "relay.example:4443",
            "https://relay.example",
            "moqt://",
            "moqt:///path",
            "moqt://:4443",
            "moqt://host:",
            "moqt://host:65536",
            "moqt://::1:4443",
            "moqt://[::1",
            "moqt://[::1]4443",
            "moqt://[host]:1",
            "moqt://user@host",
            "moqt://host/?query",
            "moqt://host/a b",
        ] {
            assert_eq!(text.parse::<Url>(), Err(InvalidUrl), "{text}");
        }
    }
}
