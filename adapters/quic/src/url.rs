use std::fmt;
use std::str::FromStr;

use crate::Carrier;

/// The address of a server: `moqt://HOST[:PORT][/PATH][?QUERY]` on raw QUIC, `https://` with the same parts on
/// WebTransport.
///
/// The default port is 443. A user or a fragment is an error.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Url {
    carrier: Carrier,
    host: String,
    port: u16,
    path: String,
}

/// The text is not a URL of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not moqt://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]")]
pub struct InvalidUrl;

impl Url {
    /// The protocol between QUIC and the session, which the scheme tells.
    pub const fn carrier(&self) -> Carrier {
        self.carrier
    }

    /// A DNS name or an IP address, IPv6 without brackets. The server's certificate must be for it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The UDP port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The path without slashes at its ends, and the query after a `?` if there is one. It may be empty.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Host and port, IPv6 in brackets, without the port if it is 443.
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        if *port == 443 { host } else { format!("{host}:{port}") }
    }
}

impl FromStr for Url {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let (carrier, rest) = match text.split_once("://") {
            Some(("moqt", rest)) => (Carrier::RawQuic, rest),
            Some(("https", rest)) => (Carrier::WebTransport, rest),
            _ => return Err(InvalidUrl),
        };
        let (rest, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if text.contains(|c: char| c == '#' || c.is_whitespace()) || authority.contains('@') {
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
        let port = port.map_or(Ok(443), str::parse).map_err(|_| InvalidUrl)?;
        let path = path.trim_matches('/').to_owned() + query;
        Ok(Self { carrier, host: host.into(), port, path })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { carrier, host, port, path } = self;
        let scheme = match carrier {
            Carrier::RawQuic => "moqt",
            Carrier::WebTransport => "https",
        };
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
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.host(), url.port(), url.path()), (host, port, path), "{text}");
            assert_eq!(url.to_string().parse(), Ok(url), "{text}");
        }
    }

    #[test]
    fn the_scheme_tells_the_carrier() {
        for (text, carrier, authority) in [
            ("moqt://relay.example/a", Carrier::RawQuic, "relay.example"),
            ("https://relay.example:443", Carrier::WebTransport, "relay.example"),
            ("https://[::1]:4443/a", Carrier::WebTransport, "[::1]:4443"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.carrier(), &*url.authority()), (carrier, authority));
        }
    }

    #[test]
    fn other_texts_are_rejected() {
        for text in [
            "",
            "relay.example:4443",
            "http://relay.example",
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
        ] {
            assert_eq!(text.parse::<Url>(), Err(InvalidUrl), "{text}");
        }
    }
}
