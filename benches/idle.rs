//! The cost of idle connections for a server, and how many of many clients connect when all dial at once.
//!
//! ```text
//! cargo bench -p smoq-benches --bench idle [-- [quinn|blocking]... [--connections N]]
//! ```
//!
//! The server is a process of its own, and its resident memory is read before and after (Linux only). All
//! clients dial at once, and the number of those that connect is printed with the time that it took. Then
//! one of them opens two thousand streams at once, to show how often a burst of groups waits for QUIC to
//! allow more.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::future::poll_fn;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use smoq::{Client, Origin, Server};
use smoq_blocking::Endpoint;
use smoq_quinn::smoq_quic::{Buffers, Identity, Trust};

/// Clients that share a socket.
const PER_SOCKET: usize = 50;
/// Streams of the burst.
const STREAMS: usize = 2_000;

fn main() {
    let mut adapters = Vec::new();
    let mut connections = 500;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match &*arg {
            "--bench" => {}
            "--serve" => return serve(&args.next().expect("the name of an adapter")),
            // Cargo passes it for `cargo bench -- --test`.
            "--test" => connections = 10,
            "--connections" => {
                let n = args.next().and_then(|n| n.parse().ok());
                connections = n.expect("--connections N");
            }
            "quinn" | "blocking" => adapters.push(arg),
            other => panic!("unknown argument {other:?}"),
        }
    }
    if adapters.is_empty() {
        adapters = ["quinn", "blocking"].map(String::from).to_vec();
    }
    for adapter in adapters {
        measure(&adapter, connections);
    }
}

/// The server's process.
struct Served {
    child: Child,
    addr: SocketAddr,
    trust: Trust,
}

impl Served {
    fn by(adapter: &str) -> Self {
        let this = std::env::current_exe().expect("this program");
        let mut child = Command::new(this)
            .args(["--serve", adapter])
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
        Self { child, addr, trust: Trust::Pinned(vec![pin]) }
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

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn measure(adapter: &str, connections: usize) {
    let served = Served::by(adapter);
    runtime().block_on(async {
        // The first connection includes one-time costs.
        let warm = up(&served, 1).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let before = served.kib();
        let begun = Instant::now();
        let kept = up(&served, connections).await;
        let time = begun.elapsed();
        // Sessions finish their handshakes.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let each = served
            .kib()
            .zip(before)
            .map(|(after, before)| after.saturating_sub(before) as f64 / kept.len().max(1) as f64);
        let (n, time) = (kept.len(), time.as_secs_f64());
        let each = each.map_or("-".into(), |kib| format!("{kib:.1}"));
        println!(
            "idle {adapter}: {n} of {connections} connected in {time:.2} s, {each} KiB per connection"
        );
        burst(adapter, &served).await;
        drop((warm, kept));
    });
}

/// Dials this many sessions at once, and returns those that succeeded.
async fn up(served: &Served, connections: usize) -> Vec<(smoq::Session, quinn::Endpoint)> {
    let origin = Origin::default().produce();
    let client = Client::new().with_consume(origin);
    let config = smoq_quinn::config::client(&served.trust, client.versions()).expect("TLS");
    let mut dialing = Vec::new();
    let mut endpoint = None;
    for n in 0..connections {
        if n % PER_SOCKET == 0 {
            let any = (Ipv4Addr::UNSPECIFIED, 0).into();
            endpoint = Some(quinn::Endpoint::client(any).expect("a socket"));
        }
        let endpoint = endpoint.clone().expect("an endpoint");
        let (client, config, addr) = (client.clone(), config.clone(), served.addr);
        dialing.push(tokio::spawn(async move {
            let connecting = endpoint.connect_with(config, addr, "localhost").ok()?;
            let (session, driving) =
                smoq_quinn::connect(connecting.await.ok()?, &client).await.ok()?;
            tokio::spawn(driving);
            Some((session, endpoint))
        }));
    }
    let mut up = Vec::new();
    for dialed in dialing {
        up.extend(dialed.await.ok().flatten());
    }
    up
}

/// One client opens many streams at once.
async fn burst(adapter: &str, served: &Served) {
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
    println!("burst {adapter}: {STREAMS} streams open in {time:.1} ms, {waits} waits");
}

fn serve(adapter: &str) {
    let identity = Identity::self_signed(["localhost"]).expect("a certificate");
    let origin = Origin::default().produce();
    let server = Server::new().with_origin(&origin);
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let print_address = |addr: SocketAddr, buffers: Buffers| {
        println!("{addr} {}", identity.fingerprint());
        std::io::stdout().flush().expect("a pipe");
        if buffers.is_short() {
            eprintln!("the system grants a receive buffer of {} bytes", buffers.receive);
        }
    };
    if adapter == "quinn" {
        runtime().block_on(async {
            let config = smoq_quinn::config::server(&identity, server.versions()).expect("TLS");
            let (endpoint, buffers) = smoq_quinn::listen(any, config).expect("a socket");
            print_address(endpoint.local_addr().expect("it is bound"), buffers);
            while let Some(incoming) = endpoint.accept().await {
                let server = server.clone();
                tokio::spawn(async move {
                    let Ok(connection) = incoming.await else { return };
                    let Ok((_session, driving)) = smoq_quinn::accept(connection, &server).await
                    else {
                        return;
                    };
                    let _ = driving.await;
                });
            }
        });
    } else {
        let config = smoq_blocking::config::server(&identity, server.versions()).expect("TLS");
        let mut endpoint = Endpoint::bind(any, config, &server).expect("a socket");
        print_address(endpoint.local_addr().expect("it is bound"), endpoint.buffers());
        let forever: std::io::Result<()> = endpoint.run_until(std::future::pending());
        forever.expect("a working socket");
    }
}
