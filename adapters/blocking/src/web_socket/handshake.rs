//! A TCP connection before its upgrade (RFC 6455, section 4), accepted or dialed.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use smoq::{Agreed, Client, HttpRequest, Versions};
use smoq_quic::{HTTP_TIMEOUT, rustls};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::{Response, generate_request};
use tungstenite::handshake::derive_accept_key;
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::header::{
    CONNECTION, HOST, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use tungstenite::http::{HeaderValue, StatusCode};

use super::stream::Stream;
use crate::error::DialError;
use crate::hosts::Attempt;

/// The largest head of a request or a response.
const HEAD: usize = 16 << 10;
const REFUSAL: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

pub(super) struct Handshake {
    pub(super) stream: Stream,
    pub(super) remote: SocketAddr,
    /// The part of the request or the response that has arrived.
    head: Vec<u8>,
    pub(super) begun: Instant,
}

/// A handshake of a client.
pub(super) struct Dial {
    pub(super) handshake: Handshake,
    pub(super) attempt: Attempt,
    pub(super) client: Client,
    is_connected: bool,
    /// The part of the request that is not sent.
    request: Vec<u8>,
    key: String,
}

/// The result of a step.
pub(super) enum Progress<T, S> {
    Done(T),
    /// It goes on when there is more to read or room to write.
    Later(S),
}

/// The result of an upgrade.
pub(super) struct Upgrade {
    pub(super) stream: Stream,
    pub(super) remote: SocketAddr,
    pub(super) agreed: Agreed,
    /// That of the client, at a server.
    pub(super) request: Option<HttpRequest>,
    /// The bytes that have arrived after the head.
    pub(super) rest: Vec<u8>,
}

impl Handshake {
    pub(super) fn new(now: Instant, stream: Stream, remote: SocketAddr) -> Self {
        Self { stream, remote, head: Vec::new(), begun: now }
    }

    /// When it is given up.
    pub(super) fn until(&self) -> Instant {
        self.begun + HTTP_TIMEOUT
    }

    /// Reads until the head is complete, or is none. Then what came after it is returned.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut part = [0; 2 << 10];
        self.stream.begin_turn();
        loop {
            let read = match self.stream.read(&mut part) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // TLS has an error for it.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
                Err(error) => return Err(error),
            };
            if read == 0 {
                let text = "the peer ended the connection";
                return Err(io::Error::new(ErrorKind::UnexpectedEof, text));
            }
            let from = self.head.len().saturating_sub(3);
            self.head.extend_from_slice(&part[..read]);
            // Such as TLS, for which the peer would wait.
            if !self.head[0].is_ascii_uppercase() {
                return Ok(Some(Vec::new()));
            }
            let end = self.head[from..].windows(4).position(|it| it == b"\r\n\r\n");
            match end.map(|at| from + at + 4) {
                Some(len) if len <= HEAD => return Ok(Some(self.head.split_off(len))),
                None if self.head.len() <= HEAD => {}
                _ => return Err(io::Error::new(ErrorKind::InvalidData, "too large a head")),
            }
        }
    }

    /// Reads what is there, and answers a complete request. After an error the connection is of no use.
    pub(super) fn step(mut self, versions: &Versions) -> io::Result<Progress<Upgrade, Self>> {
        let Some(rest) = self.read()? else { return Ok(Progress::Later(self)) };
        let answered = answer(&self.head, versions);
        let response = answered.as_ref().map_or(REFUSAL, |(response, ..)| response);
        // Nothing was sent before, so that the system, or TLS, has room for all of it.
        self.stream.write_all(response)?;
        let (_, agreed, request) = answered.ok_or(ErrorKind::InvalidData)?;
        let Self { stream, remote, .. } = self;
        Ok(Progress::Done(Upgrade { stream, remote, agreed, request: Some(request), rest }))
    }
}

impl Dial {
    /// Begins a handshake on a connection that is being made.
    pub(super) fn new(
        handshake: Handshake,
        attempt: Attempt,
        client: Client,
        is_tls: bool,
    ) -> Result<Self, DialError> {
        let authority = match client.authority() {
            "" => handshake.remote.to_string(),
            authority => authority.to_owned(),
        };
        let scheme = if is_tls { "wss" } else { "ws" };
        let url = format!("{scheme}://{authority}/{}", client.path());
        let invalid = DialError::WebSocket("path and authority can't be in a request");
        let Ok(mut request) = url.into_client_request() else { return Err(invalid) };
        let Ok(offer) = smoq_qmux::offer(client.versions()).parse() else { return Err(invalid) };
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, offer);
        let Ok((request, key)) = generate_request(request) else { return Err(invalid) };
        Ok(Self { handshake, attempt, client, is_connected: false, request, key })
    }

    /// Connects, asks, and reads the answer.
    pub(super) fn step(mut self) -> Result<Progress<(Upgrade, Client), Self>, DialError> {
        let Some(rest) = self.exchange().map_err(dial_error)? else {
            return Ok(Progress::Later(self));
        };
        let Self { handshake: Handshake { stream, remote, head, .. }, client, key, .. } = self;
        let agreed = verify(&head, &key, client.versions())?;
        Ok(Progress::Done((Upgrade { stream, remote, agreed, request: None, rest }, client)))
    }

    fn exchange(&mut self) -> io::Result<Option<Vec<u8>>> {
        if !self.is_connected {
            let tcp = self.handshake.stream.tcp();
            if let Some(error) = tcp.take_error()? {
                return Err(error);
            }
            match tcp.peer_addr() {
                Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(None),
                Err(error) => return Err(error),
                Ok(_) => tcp.set_nodelay(true)?,
            }
            self.is_connected = true;
        }
        while !self.request.is_empty() {
            match self.handshake.stream.write(&self.request) {
                Ok(sent) => drop(self.request.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.handshake.read()
    }
}

/// The error of TCP, or that of TLS in it.
fn dial_error(error: io::Error) -> DialError {
    match error.downcast::<rustls::Error>() {
        Ok(error) => error.into(),
        Err(error) => DialError::Tcp(error),
    }
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// The response to a request that asks for a WebSocket with a version of ours.
fn answer(head: &[u8], versions: &Versions) -> Option<(Vec<u8>, Agreed, HttpRequest)> {
    let (_, request) = Request::try_parse(head).ok()??;
    let mut response = create_response(&request).ok()?;
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
    Some((bytes, agreed, http))
}

/// The version that the response to our request has chosen (RFC 6455, section 4.1).
fn verify(head: &[u8], key: &str, versions: &Versions) -> Result<Agreed, DialError> {
    let Ok(Some((_, response))) = Response::try_parse(head) else {
        return Err(DialError::WebSocket("the answer is not HTTP/1.1"));
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(DialError::Refused(response.status().as_u16()));
    }
    let header = |name: HeaderName| response.headers().get(name).map(text).unwrap_or_default();
    // Extensions and subprotocols must be among those that were offered.
    let is_ours = header(UPGRADE).eq_ignore_ascii_case("websocket")
        && header(CONNECTION).split(',').any(|it| it.trim().eq_ignore_ascii_case("upgrade"))
        && header(SEC_WEBSOCKET_ACCEPT) == derive_accept_key(key.as_bytes())
        && !response.headers().contains_key(SEC_WEBSOCKET_EXTENSIONS);
    if !is_ours {
        return Err(DialError::WebSocket("the answer is not that to our request"));
    }
    let chosen = header(SEC_WEBSOCKET_PROTOCOL);
    let agreed = smoq_qmux::negotiate(&chosen, versions).filter(|(name, _)| *name == chosen);
    agreed.map(|(_, agreed)| agreed).ok_or(DialError::WebSocket("no version in common"))
}
