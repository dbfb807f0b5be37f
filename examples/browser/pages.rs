//! The few files of a page, over HTTP/1.1, without blocking: one request a connection.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// The largest head of a request.
const HEAD: usize = 16 << 10;
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at a time.
const CONNECTIONS: usize = 64;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/browser/dist/page.js");
const NO_SCRIPT: &str =
    "document.body.textContent = 'examples/browser/build.sh builds the script of this page';";

pub(crate) struct Pages {
    listener: TcpListener,
    files: [File; 3],
    connections: Vec<Connection>,
}

struct File {
    path: &'static str,
    kind: &'static str,
    content: String,
}

impl Pages {
    /// `session` tells the page where to connect, as JSON.
    pub(crate) fn new(address: SocketAddr, session: String) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let script = fs::read_to_string(Path::new(SCRIPT)).unwrap_or_else(|_| NO_SCRIPT.into());
        let files = [
            ("/", "text/html; charset=utf-8", include_str!("index.html").to_owned()),
            ("/page.js", "text/javascript; charset=utf-8", script),
            ("/session.json", "application/json", session),
        ]
        .map(|(path, kind, content)| File { path, kind, content });
        Ok(Self { listener, files, connections: Vec::new() })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Does what can be done at once.
    pub(crate) fn step(&mut self) {
        while self.connections.len() < CONNECTIONS {
            let Ok((stream, _)) = self.listener.accept() else { break };
            if stream.set_nonblocking(true).is_ok() {
                let (request, response) = (Vec::new(), None);
                self.connections.push(Connection {
                    stream,
                    request,
                    response,
                    until: Instant::now() + PATIENCE,
                });
            }
        }
        let files = &self.files;
        self.connections.retain_mut(|connection| connection.step(files).unwrap_or(false));
    }
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    /// The response, and how much of it was written.
    response: Option<(Vec<u8>, usize)>,
    until: Instant,
}

impl Connection {
    /// Whether there is more to do. An error is the end, and concerns nobody else.
    fn step(&mut self, files: &[File]) -> io::Result<bool> {
        if Instant::now() > self.until {
            return Ok(false);
        }
        while self.response.is_none() {
            let mut bytes = [0; 4 << 10];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Ok(false),
                Ok(n) => self.request.extend_from_slice(&bytes[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
            self.response = respond(&self.request, files).map(|response| (response, 0));
        }
        while let Some((response, written)) = &mut self.response {
            if *written == response.len() {
                return Ok(false);
            }
            match self.stream.write(&response[*written..]) {
                Ok(n) => *written += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// The answer to a request; `None` while its head is not complete.
fn respond(request: &[u8], files: &[File]) -> Option<Vec<u8>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let (status, file) = match parsed.parse(request) {
        Ok(httparse::Status::Partial) if request.len() < HEAD => return None,
        Ok(httparse::Status::Complete(_)) if parsed.method == Some("GET") => {
            let path = parsed.path.unwrap_or_default().split('?').next();
            match files.iter().find(|file| Some(file.path) == path) {
                Some(file) => ("200 OK", Some(file)),
                None => ("404 Not Found", None),
            }
        }
        Ok(httparse::Status::Complete(_)) => ("405 Method Not Allowed", None),
        Ok(httparse::Status::Partial) | Err(_) => ("400 Bad Request", None),
    };
    let (kind, content) = file.map_or(("text/plain", status), |file| (file.kind, &*file.content));
    let length = content.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    );
    Some([head.as_bytes(), content.as_bytes()].concat())
}
