//! A TCP connection before its upgrade (RFC 6455, section 4.2).

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::TcpStream;
use smoq::{Agreed, HttpRequest, Versions};
use smoq_quic::HTTP_TIMEOUT;
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::HeaderValue;
use tungstenite::http::header::{HOST, SEC_WEBSOCKET_PROTOCOL};

/// The largest head of a request.
const HEAD: usize = 16 << 10;
const REFUSAL: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

pub(super) struct Handshake {
    pub(super) stream: TcpStream,
    pub(super) remote: SocketAddr,
    /// The part of the request that has arrived.
    head: Vec<u8>,
    /// When it is given up.
    pub(super) until: Instant,
}

/// The result of an upgrade.
pub(super) struct Upgrade {
    pub(super) agreed: Agreed,
    pub(super) request: HttpRequest,
}

impl Handshake {
    pub(super) fn new(now: Instant, stream: TcpStream, remote: SocketAddr) -> Self {
        Self { stream, remote, head: Vec::new(), until: now + HTTP_TIMEOUT }
    }

    /// Reads what is there, and answers a complete request. After an error the connection is of no use.
    pub(super) fn step(&mut self, versions: &Versions) -> io::Result<Option<Upgrade>> {
        let mut part = [0; 2 << 10];
        // A client sends no more until it is answered (RFC 6455, section 4.1), so that the head ends what was sent.
        while !self.head.ends_with(b"\r\n\r\n") {
            match self.stream.read(&mut part) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.head.extend_from_slice(&part[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.head.len() > HEAD {
                return Err(ErrorKind::InvalidData.into());
            }
        }
        let answered = answer(&self.head, versions);
        let response = answered.as_ref().map_or(REFUSAL, |(response, _)| response);
        // Nothing was sent before, so that the system has room for all of it.
        self.stream.write_all(response)?;
        let (_, upgrade) = answered.ok_or(ErrorKind::InvalidData)?;
        Ok(Some(upgrade))
    }
}

/// The response to a request that asks for a WebSocket with a version of ours.
fn answer(head: &[u8], versions: &Versions) -> Option<(Vec<u8>, Upgrade)> {
    let (_, request) = Request::try_parse(head).ok()??;
    let mut response = create_response(&request).ok()?;
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let offered = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter().map(text);
    let (chosen, agreed) = smoq_qmux::negotiate(&offered.collect::<Vec<_>>().join(","), versions)?;
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, chosen.parse().ok()?);
    let mut bytes = Vec::new();
    write_response(&mut bytes, &response).ok()?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let authority = request.headers().get(HOST).map(text).unwrap_or_default();
    let mut http = HttpRequest::new(path, authority);
    for (name, value) in request.headers() {
        http.push_header(name.as_str(), &text(value));
    }
    Some((bytes, Upgrade { agreed, request: http }))
}
