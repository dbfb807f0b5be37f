//! Sessions over a WebSocket, for networks that drop UDP. `qmux` makes streams of it.

use std::sync::Arc;

use anyhow::{Context, Result};
use qmux::ws::tokio_tungstenite::{WebSocketStream, client_async_with_config};
use qmux::ws::tungstenite::client::IntoClientRequest;
use qmux::ws::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use qmux::ws::tungstenite::protocol::WebSocketConfig;
use qmux::ws::{KeepAlive, Upgraded};
use smoq::Versions;
use smoq_quinn::smoq_quic::rustls::pki_types::ServerName;
use smoq_quinn::smoq_quic::{Trust, tls};
use smoq_web_transport::Reliable;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The carrier of a session.
pub(crate) type Carrier = Reliable<qmux::Session>;

/// TCP, or TLS on it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(crate) type BoxStream = Box<dyn Stream>;

/// The names by which a version is agreed on: the wire format of `qmux`, and the protocol.
pub(crate) fn protocols(versions: &Versions) -> impl Iterator<Item = String> + '_ {
    let of = |alpn| ["qmux-02", "qmux-01", "qmux-00"].map(|format| format!("{format}.{alpn}"));
    versions.alpns().flat_map(of)
}

/// tungstenite reserves 128 KiB for what it reads, for each connection. A record of `qmux` has 16.
pub(crate) fn config() -> Option<WebSocketConfig> {
    Some(WebSocketConfig::default().read_buffer_size(32 << 10))
}

/// The statistics of a socket, where the system has some.
#[cfg(unix)]
pub(crate) fn stats(stream: &TcpStream) -> Option<qmux::SharedSocketStats> {
    Some(Arc::new(qmux::TcpStats::new(stream).ok()?))
}

#[cfg(not(unix))]
pub(crate) fn stats(_: &TcpStream) -> Option<qmux::SharedSocketStats> {
    None
}

/// What [`Upgraded`] becomes with our limits.
pub(crate) fn configured(
    socket: WebSocketStream<BoxStream>,
    protocol: &str,
    stats: Option<qmux::SharedSocketStats>,
) -> Upgraded<WebSocketStream<BoxStream>> {
    let mut config = qmux::Config::default();
    (config.max_streams_uni, config.max_streams_bidi) = (4_096, 4_096);
    (config.max_data, config.max_stream_data_uni) = (8 << 20, 1 << 20);
    (config.max_stream_data_bidi_local, config.max_stream_data_bidi_remote) = (1 << 20, 1 << 20);
    // A WebSocket has no idle timeout.
    let upgraded = Upgraded::new(socket)
        .with_alpn(protocol)
        .with_keep_alive(KeepAlive::default())
        .with_session_config(config);
    match stats {
        Some(stats) => upgraded.with_socket_stats(stats),
        None => upgraded,
    }
}

/// Dials a WebSocket, with TLS if there is something to trust.
pub(crate) async fn dial(
    host: (&str, u16),
    authority: &str,
    path: &str,
    trust: Option<&Trust>,
    versions: &Versions,
) -> Result<Carrier> {
    let stream = TcpStream::connect(host).await?;
    stream.set_nodelay(true)?;
    let stats = stats(&stream);
    let stream: BoxStream = match trust {
        Some(trust) => {
            let name = ServerName::try_from(host.0.to_owned())?;
            let config = tls::client(trust, ["http/1.1"])?;
            Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
        }
        None => Box::new(stream),
    };
    let scheme = if trust.is_some() { "wss" } else { "ws" };
    let mut request = format!("{scheme}://{authority}/{path}").into_client_request()?;
    let offered = protocols(versions).collect::<Vec<_>>().join(", ");
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, offered.parse()?);
    let (socket, response) = client_async_with_config(request, stream, config()).await?;
    let protocol = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
    let protocol = protocol.context("the server chose no protocol")?.to_str()?;
    Ok(Reliable(configured(socket, protocol, stats).connect()))
}
