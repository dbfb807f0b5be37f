//! Sessions over a WebSocket, for networks that drop UDP. `qmux` makes streams of it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use qmux::ws::tokio_tungstenite::tungstenite::client::IntoClientRequest;
use qmux::ws::tokio_tungstenite::tungstenite::handshake::server::{
    ErrorResponse, Request, Response,
};
use qmux::ws::tokio_tungstenite::tungstenite::http::header::{HOST, SEC_WEBSOCKET_PROTOCOL};
use qmux::ws::tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use qmux::ws::tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};
use qmux::ws::{KeepAlive, Upgraded};
use smoq::{HttpRequest, Versions};
use smoq_quinn::smoq_quic::rustls::pki_types::ServerName;
use smoq_quinn::smoq_quic::{Trust, tls};
use smoq_web_transport::Reliable;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The carrier of a session.
pub(crate) type Carrier = Reliable<qmux::Session>;

/// How long a client has for TLS and HTTP.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// TCP, or TLS on it.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

type BoxStream = Box<dyn Stream>;

/// The names by which a version is agreed on: the wire format of `qmux`, and the protocol.
fn protocols(versions: &Versions) -> impl Iterator<Item = String> + '_ {
    let of = |alpn| ["qmux-02", "qmux-01", "qmux-00"].map(|format| format!("{format}.{alpn}"));
    versions.alpns().flat_map(of)
}

/// The statistics of a socket, where the system has some.
#[cfg(unix)]
fn stats(stream: &TcpStream) -> Option<qmux::SharedSocketStats> {
    Some(Arc::new(qmux::TcpStats::new(stream).ok()?))
}

#[cfg(not(unix))]
fn stats(_: &TcpStream) -> Option<qmux::SharedSocketStats> {
    None
}

/// What [`Upgraded`] becomes with our limits.
fn configured(
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

/// Accepts `ws://`, and `wss://` on the same port, in one of `versions` by the server's order.
pub(crate) async fn accept(
    stream: TcpStream,
    tls: &TlsAcceptor,
    versions: &Versions,
) -> Result<(Carrier, HttpRequest)> {
    let accepted = tokio::time::timeout(HANDSHAKE, handshake(stream, tls, versions));
    accepted.await.context("no WebSocket in time")?
}

async fn handshake(
    stream: TcpStream,
    tls: &TlsAcceptor,
    versions: &Versions,
) -> Result<(Carrier, HttpRequest)> {
    stream.set_nodelay(true)?;
    let stats = stats(&stream);
    let mut first = [0];
    stream.peek(&mut first).await?;
    // A TLS record with a handshake message (RFC 8446, section 5.1), which HTTP can't begin with.
    let stream: BoxStream =
        if first == [22] { Box::new(tls.accept(stream).await?) } else { Box::new(stream) };
    let mut agreed = None;
    #[expect(clippy::result_large_err, reason = "the type of tungstenite")]
    let choose = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        let headers = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter();
        let offered: Vec<_> = headers
            .filter_map(|value| value.to_str().ok())
            .flat_map(|list| list.split(',').map(str::trim))
            .collect();
        let Some(protocol) = protocols(versions).find(|it| offered.contains(&it.as_str())) else {
            let mut refused = ErrorResponse::new(Some("no protocol in common".into()));
            *refused.status_mut() = StatusCode::BAD_REQUEST;
            return Err(refused);
        };
        if let Ok(value) = HeaderValue::from_str(&protocol) {
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
        }
        agreed = Some((protocol, http_request(request)));
        Ok(response)
    };
    let socket = accept_hdr_async(stream, choose).await?;
    let (protocol, request) = agreed.context("the request was not read")?;
    Ok((Reliable(configured(socket, &protocol, stats).accept()), request))
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
    let (socket, response) = client_async(request, stream).await?;
    let protocol = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
    let protocol = protocol.context("the server chose no protocol")?.to_str()?;
    Ok(Reliable(configured(socket, protocol, stats).connect()))
}

fn http_request(request: &Request) -> HttpRequest {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let authority = request.headers().get(HOST).map(text).unwrap_or_default();
    let mut http = HttpRequest::new(path, authority);
    for (name, value) in request.headers() {
        http.push_header(name.as_str(), &text(value));
    }
    http
}
