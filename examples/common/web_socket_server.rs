//! Accepting sessions over a WebSocket.

use std::time::Duration;

use anyhow::{Context, Result};
use qmux::ws::tokio_tungstenite::accept_hdr_async_with_config;
use qmux::ws::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use qmux::ws::tungstenite::http::header::{HOST, SEC_WEBSOCKET_PROTOCOL};
use qmux::ws::tungstenite::http::{HeaderValue, StatusCode};
use smoq::{HttpRequest, Versions};
use smoq_web_transport::Reliable;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::peer::web_socket::{BoxStream, Carrier, config, configured, protocols, stats};

/// How long a client has for TLS and HTTP.
const HANDSHAKE: Duration = Duration::from_secs(10);

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
    let socket = accept_hdr_async_with_config(stream, choose, config()).await?;
    let (protocol, request) = agreed.context("the request was not read")?;
    Ok((Reliable(configured(socket, &protocol, stats).accept()), request))
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
