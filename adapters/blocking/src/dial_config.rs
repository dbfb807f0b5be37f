//! The carriers by which a host is dialed.

#[cfg(feature = "websocket")]
use std::sync::Arc;
use std::time::Duration;

use quinn_proto::ClientConfig;
use smoq::Versions;
#[cfg(feature = "websocket")]
use smoq_quic::{Scheme, rustls, tls};
use smoq_quic::{Trust, Url, config};

/// How long a carrier is alone before the next one of a [`DialConfig`] is tried as well: 200 ms.
pub const HEAD_START: Duration = Duration::from_millis(200);

/// The carriers by which a host is dialed, the preferred one first, with their TLS configurations.
///
/// A `ClientConfig` of quinn becomes one for QUIC alone.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use smoq_blocking::{DialConfig, smoq_quic::{Trust, Url}};
///
/// let (trust, client) = (Trust::WebRoots, smoq::Client::new());
/// let [quic, web_socket]: [Url; 2] = ["moqt://relay.example".parse()?, "wss://relay.example".parse()?];
/// let dial = DialConfig::for_url(&quic, &trust, client.versions())?;
/// # #[cfg(feature = "websocket")]
/// // On networks that drop UDP.
/// let dial = dial.or(DialConfig::for_url(&web_socket, &trust, client.versions())?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DialConfig(pub(crate) Vec<Dialer>);

#[derive(Clone, Debug)]
pub(crate) enum Dialer {
    Quic(ClientConfig),
    /// With TLS or without.
    #[cfg(feature = "websocket")]
    WebSocket(Option<Arc<rustls::ClientConfig>>),
}

impl DialConfig {
    /// The carrier of a URL: raw QUIC for `moqt://`, WebTransport for `https://`. With the feature `websocket` also a
    /// WebSocket for `ws://`, and for `wss://` one with TLS. It accepts the servers that `trust` names; without TLS, any.
    ///
    /// # Errors
    ///
    /// [`NotQuic`](smoq_quic::Error::NotQuic) for `ws://` and `wss://` without the feature. Otherwise as
    /// [`config::client_for`].
    pub fn for_url(
        url: &Url,
        trust: &Trust,
        versions: &Versions,
    ) -> Result<Self, smoq_quic::Error> {
        Ok(match url.scheme() {
            #[cfg(feature = "websocket")]
            Scheme::Ws => Self::web_socket(None),
            #[cfg(feature = "websocket")]
            Scheme::Wss => Self::web_socket(Some(Arc::new(tls::client(trust, ["http/1.1"])?))),
            _ => config::client_for(url, trust, versions)?.into(),
        })
    }

    /// A WebSocket with this TLS configuration, or without TLS. If the configuration names an ALPN it has to be
    /// `http/1.1`.
    #[cfg(feature = "websocket")]
    pub fn web_socket(tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        Self(vec![Dialer::WebSocket(tls)])
    }

    /// Adds carriers that are tried as well, at the same addresses, if those before have not answered within
    /// [`HEAD_START`], or have failed. The first handshake that completes wins.
    #[must_use]
    pub fn or(mut self, other: impl Into<Self>) -> Self {
        self.0.extend(other.into().0);
        self
    }
}

impl From<ClientConfig> for DialConfig {
    fn from(config: ClientConfig) -> Self {
        Self(vec![Dialer::Quic(config)])
    }
}
