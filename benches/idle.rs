//! The cost of idle connections for a server, and how many of many clients connect when all dial at once.
//!
//! ```text
//! cargo bench -p smoq-benches --bench idle [-- [NAME]... [--connections N]]
//! ```
//!
//! A name is a server and the scheme of its clients' URLs, such as `quinn/moqt` or `blocking/wss`; a part of it chooses
//! all names that begin with it. The server is a process of its own, and its resident memory is read before and after
//! (Linux only). All clients dial at once, and the number of those that connect is printed with the time that it took. Then
//! one client of QUIC opens two thousand streams at once, to show how often a burst of groups waits for QUIC to allow
//! more.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::future::poll_fn;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use smoq::{Client, Origin, Server};
use smoq_blocking::{Budget, DialConfig, Endpoint, Event};
use smoq_quinn::smoq_quic::{Buffers, Identity, Scheme, Trust, Url, tls};
use tokio_rustls::TlsAcceptor;

#[path = "../examples/common/web_socket.rs"]
#[allow(dead_code, reason = "this program only listens")]
mod web_socket;
#[path = "../examples/common/web_socket_server.rs"]
mod web_socket_server;

mod peer {
    pub(crate) use super::web_socket;
}

/// Clients that share a socket.
const PER_SOCKET: usize = 50;
/// Streams of the burst.
const STREAMS: usize = 2_000;

/// The servers, with the schemes of their clients. `qmux` is smoq-web-transport on the WebSockets of the example relay.
const ROWS: [&str; 8] = [
    "quinn/moqt",
    "quinn/https",
    "qmux/ws",
    "qmux/wss",
    "blocking/moqt",
    "blocking/https",
    "blocking/ws",
    "blocking/wss",
];

fn main() {
    let mut chosen = Vec::new();
    let mut connections = 500;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match &*arg {
            "--bench" => {}
            "--serve" => return serve(&args.next().expect("the name of a row")),
            // Cargo passes it for `cargo bench -- --test`.
            "--test" => connections = 10,
            "--connections" => {
                let n = args.next().and_then(|n| n.parse().ok());
                connections = n.expect("--connections N");
            }
            name if ROWS.iter().any(|row| row.starts_with(name)) => chosen.push(arg),
            other => panic!("unknown argument {other:?}"),
        }
    }
    let is_chosen = |row: &str| chosen.iter().any(|name| row.starts_with(name));
    for row in ROWS.into_iter().filter(|row| chosen.is_empty() || is_chosen(row)) {
        measure(row, connections);
    }
}

/// The server's process.
struct Served {
    child: Child,
    addr: SocketAddr,
    scheme: Scheme,
    trust: Trust,
}

impl Served {
    fn by(row: &str) -> Self {
        let this = std::env::current_exe().expect("this program");
        let mut child = Command::new(this)
            .args(["--serve", row])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut line = String::new();
        let output = child.stdout.take().expect("stdout is a pipe");
        BufReader::new(output).read_line(&mut line).expect("the address of the server");
        let mut words = line.split_whitespace();
        let addr = words.next().and_then(|addr| addr.parse().ok()).expect("an address");
        let pin = words.next().and_then(|pin| pin.parse().ok()).expect("a fingerprint");
        Self { child, addr, scheme: scheme(row), trust: Trust::Pinned(vec![pin]) }
    }

    /// Its resident memory, on systems that report it.
    fn kib(&self) -> Option<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn scheme(row: &str) -> Scheme {
    let name = row.split('/').next_back().expect("a scheme");
    format!("{name}://localhost").parse::<Url>().expect("a scheme").scheme()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn measure(row: &str, connections: usize) {
    let served = Served::by(row);
    // The first connection includes one-time costs.
    let mut clients = Clients::default();
    assert_eq!(clients.dial(&served, 1), 1, "no connection");
    clients.step_for(Duration::from_millis(500));
    let before = served.kib();
    let begun = Instant::now();
    let n = clients.dial(&served, connections);
    let time = begun.elapsed().as_secs_f64();
    // Sessions finish their handshakes.
    clients.step_for(Duration::from_secs(1));
    let each = served
        .kib()
        .zip(before)
        .map(|(after, before)| after.saturating_sub(before) as f64 / n.max(1) as f64);
    let each = each.map_or("-".into(), |kib| format!("{kib:.1}"));
    println!(
        "idle {row}: {n} of {connections} connected in {time:.2} s, {each} KiB per connection"
    );
    if served.scheme == Scheme::Moqt {
        runtime().block_on(burst(row, &served));
    }
}

/// Endpoints with the sessions that they dialed.
#[derive(Default)]
struct Clients(Vec<Endpoint>);

impl Clients {
    /// Dials this many sessions at once, and returns how many there are.
    fn dial(&mut self, served: &Served, connections: usize) -> usize {
        let client = Client::new().with_consume(Origin::default().produce());
        let url: Url = format!("{}://{}", served.scheme, served.addr).parse().expect("a URL");
        let config = DialConfig::for_url(&url, &served.trust, client.versions()).expect("TLS");
        for n in 0..connections {
            if n % PER_SOCKET == 0 {
                let any = (Ipv4Addr::UNSPECIFIED, 0).into();
                self.0.push(Endpoint::new(any).expect("a socket"));
            }
            let endpoint = self.0.last_mut().expect("an endpoint");
            endpoint.dial_any([served.addr], "localhost", config.clone(), &client);
        }
        let (mut connected, mut failed) = (0, 0);
        while connected + failed < connections {
            for event in self.step() {
                match event {
                    Event::Connected { .. } => connected += 1,
                    Event::Unreachable { .. } => failed += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        connected
    }

    fn step(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut is_idle = true;
        for endpoint in &mut self.0 {
            is_idle &= endpoint.step(Budget::items(1_000)).expect("a working socket").items == 0;
            events.extend(std::iter::from_fn(|| endpoint.poll_event()));
        }
        if is_idle {
            self.0[0].wait(Some(Duration::from_millis(1))).expect("a working socket");
        }
        events
    }

    fn step_for(&mut self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            assert!(self.step().is_empty(), "sessions go on");
        }
    }
}

/// One client opens many streams at once.
async fn burst(row: &str, served: &Served) {
    let versions = Client::new().versions().clone();
    let config = smoq_quinn::config::client(&served.trust, &versions).expect("TLS");
    let dialed = smoq_quinn::dial("localhost", [served.addr], config).await;
    let (_endpoint, connection) = dialed.expect("a connection");
    let (begun, mut waits) = (Instant::now(), 0);
    let mut kept = Vec::with_capacity(STREAMS);
    for _ in 0..STREAMS {
        let mut opening = pin!(connection.open_uni());
        let mut stream = poll_fn(|cx| {
            let polled = opening.as_mut().poll(cx);
            waits += usize::from(polled.is_pending());
            polled
        })
        .await
        .expect("a stream");
        // The header is incomplete, so the server keeps the stream open.
        stream.write_all(&[0; 1]).await.expect("room");
        kept.push(stream);
    }
    let time = begun.elapsed().as_secs_f64() * 1e3;
    println!("burst {row}: {STREAMS} streams open in {time:.1} ms, {waits} waits");
}

fn serve(row: &str) {
    let identity = Identity::self_signed(["localhost"]).expect("a certificate");
    let origin = Origin::default().produce();
    let server = Server::new().with_origin(&origin);
    let is_web_socket = matches!(scheme(row), Scheme::Ws | Scheme::Wss);
    if row.starts_with("blocking") {
        serve_blocking(&server, &identity, scheme(row));
    } else if is_web_socket {
        runtime().block_on(serve_qmux(server, &identity));
    } else {
        runtime().block_on(serve_quinn(server, &identity));
    }
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn print_address(addr: SocketAddr, identity: &Identity) {
    println!("{addr} {}", identity.fingerprint());
    std::io::stdout().flush().expect("a pipe");
}

fn print_buffers(buffers: Buffers) {
    if buffers.is_short() {
        eprintln!("the system grants a receive buffer of {} bytes", buffers.receive);
    }
}

fn web_socket_tls(identity: &Identity) -> Arc<smoq_quinn::smoq_quic::rustls::ServerConfig> {
    Arc::new(tls::server(identity, ["http/1.1"]).expect("TLS"))
}

async fn serve_quinn(server: Server, identity: &Identity) {
    let config = smoq_quinn::config::server(identity, server.versions()).expect("TLS");
    let (endpoint, buffers) = smoq_quinn::listen(ANY, config).expect("a socket");
    print_buffers(buffers);
    print_address(endpoint.local_addr().expect("it is bound"), identity);
    while let Some(incoming) = endpoint.accept().await {
        let server = server.clone();
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            let Ok((_session, driving)) = smoq_quinn::accept(connection, &server).await else {
                return;
            };
            let _ = driving.await;
        });
    }
}

async fn serve_qmux(server: Server, identity: &Identity) {
    let acceptor = TlsAcceptor::from(web_socket_tls(identity));
    let listener = tokio::net::TcpListener::bind(ANY).await.expect("a socket");
    print_address(listener.local_addr().expect("it is bound"), identity);
    while let Ok((stream, _)) = listener.accept().await {
        let (server, acceptor) = (server.clone(), acceptor.clone());
        tokio::spawn(async move {
            let accepted = web_socket_server::accept(stream, &acceptor, server.versions()).await;
            let Ok((carrier, _)) = accepted else { return };
            let accepted = smoq_web_transport::accept(carrier, &server, tokio::time::sleep);
            let Ok((_session, driving)) = accepted else { return };
            let _ = driving.await;
        });
    }
}

fn serve_blocking(server: &Server, identity: &Identity, scheme: Scheme) {
    let mut endpoint = Endpoint::new(ANY).expect("a socket");
    let mut addr = endpoint.local_addr().expect("it is bound");
    match scheme {
        Scheme::Ws | Scheme::Wss => {
            let listener = TcpListener::bind(ANY).expect("a socket");
            addr = listener.local_addr().expect("it is bound");
            endpoint.listen_web_socket(listener, server).expect("a listener");
            if scheme == Scheme::Wss {
                endpoint.set_web_socket_tls(web_socket_tls(identity));
            }
        }
        Scheme::Moqt | Scheme::Https => {
            let config = smoq_blocking::config::server(identity, server.versions()).expect("TLS");
            endpoint.listen(config, server);
            print_buffers(endpoint.buffers());
        }
    }
    print_address(addr, identity);
    let forever: std::io::Result<()> = endpoint.run_until(std::future::pending());
    forever.expect("a working socket");
}
