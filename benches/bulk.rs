//! Bulk transfer on loopback: quinn alone, and sessions on every carrier, with the same load.
//!
//! ```text
//! cargo bench -p smoq-benches --bench bulk [-- [NAME]... [--mib N] [--rounds N] [--frame BYTES] [--threads N]]
//! ```
//!
//! The load is groups of 1 MiB, one per stream, from a server to a client in the same process, on one
//! thread or on two. The contestants alternate, so that a change in the speed of the machine affects all of
//! them. The median of the rounds is printed. CPU time is that of both ends.

use std::fmt;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use smoq::bytes::Bytes;
use smoq::{
    Client, GroupConsumer, Origin, OriginProducer, Server, Subscription, Track, TrackProducer,
};
use smoq_blocking::{Budget, DialConfig, Endpoint};
use smoq_quinn::smoq_quic::{Identity, Scheme, Trust, Url, tls};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

#[path = "../examples/common/web_socket.rs"]
mod web_socket;
#[path = "../examples/common/web_socket_server.rs"]
mod web_socket_server;

mod peer {
    pub(crate) use super::web_socket;
}

/// Payload of a group.
const GROUP: usize = 1 << 20;
/// Groups that may be written before they are read. More would fill the cache.
const AHEAD: usize = 8;

/// The load.
#[derive(Clone)]
struct Load {
    frame: Bytes,
    groups: usize,
    /// A permit for each group that may be written.
    ahead: Arc<Semaphore>,
}

impl Load {
    fn new(size: usize, bytes: usize) -> Self {
        let frame = vec![7; size].into();
        Self { frame, groups: bytes.div_ceil(GROUP), ahead: Arc::new(Semaphore::new(AHEAD)) }
    }

    fn frames(&self) -> usize {
        GROUP / self.frame.len()
    }

    fn bytes(&self) -> usize {
        self.groups * self.frames() * self.frame.len()
    }

    /// Writes the whole load to a track.
    async fn publish(self, mut track: TrackProducer) {
        track.used().await.unwrap();
        for _ in 0..self.groups {
            self.ahead.acquire().await.unwrap().forget();
            let mut group = track.append_group().unwrap();
            for n in 0..self.frames() {
                group.write_frame(n as u64, self.frame.clone()).unwrap();
            }
            group.finish().unwrap();
        }
        track.finish().unwrap();
    }

    /// Reads the whole load from the peer's broadcast.
    async fn read(self, origin: OriginProducer) {
        let broadcast = origin.consume().announced_broadcast("live").await.unwrap();
        let want = Subscription::default().max_age(Duration::MAX).start(0);
        let mut track = broadcast.subscribe_track("bulk", want).unwrap();
        let mut bytes = 0;
        while let Some(group) = track.recv_group().await.unwrap() {
            bytes += read_group(group).await;
            self.ahead.add_permits(1);
        }
        assert_eq!(bytes, self.bytes());
    }
}

async fn read_group(mut group: GroupConsumer) -> usize {
    let mut bytes = 0;
    while let Some(frame) = group.read_frame().await.unwrap() {
        bytes += frame.len();
    }
    bytes
}

/// Both ends of a session before they are connected.
struct Ends {
    _broadcast: smoq::BroadcastProducer,
    track: TrackProducer,
    server: Server,
    received: OriginProducer,
    client: Client,
    identity: Identity,
}

impl Ends {
    fn new() -> Self {
        let origin = Origin::default().produce();
        let mut broadcast = origin.create_broadcast("live").unwrap();
        let track = broadcast.create_track(Track::new("bulk")).unwrap();
        let received = Origin::default().produce();
        Self {
            _broadcast: broadcast,
            track,
            server: Server::new().with_publish(origin.consume()),
            client: Client::new().with_consume(received.clone()),
            received,
            identity: Identity::self_signed(["localhost"]).unwrap(),
        }
    }

    fn trust(&self) -> Trust {
        self.identity.fingerprint().into()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stack {
    /// quinn without a protocol on top: streams of frames, written 64 KiB at a time.
    Quinn,
    /// smoq-quinn on raw QUIC and on WebTransport.
    SmoqQuinn,
    WebTransport,
    /// smoq-blocking on raw QUIC, and on a WebSocket without TLS and with it.
    SmoqBlocking,
    WebSocket,
    WebSocketTls,
    /// smoq-web-transport on qmux, as in the example relay.
    Qmux,
    QmuxTls,
}

impl Stack {
    const ALL: [Self; 8] = [
        Self::Quinn,
        Self::SmoqQuinn,
        Self::WebTransport,
        Self::SmoqBlocking,
        Self::WebSocket,
        Self::WebSocketTls,
        Self::Qmux,
        Self::QmuxTls,
    ];

    fn run(self, load: Load, threads: usize) {
        match self {
            Self::Quinn => quinn_alone(load, threads),
            Self::SmoqQuinn => smoq_quinn(load, threads, false),
            Self::WebTransport => smoq_quinn(load, threads, true),
            Self::SmoqBlocking => smoq_blocking(load, threads, Scheme::Moqt),
            Self::WebSocket => smoq_blocking(load, threads, Scheme::Ws),
            Self::WebSocketTls => smoq_blocking(load, threads, Scheme::Wss),
            Self::Qmux => qmux(load, threads, false),
            Self::QmuxTls => qmux(load, threads, true),
        }
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Quinn => "quinn",
            Self::SmoqQuinn => "smoq-quinn",
            Self::WebTransport => "webtransport",
            Self::SmoqBlocking => "smoq-blocking",
            Self::WebSocket => "blocking-ws",
            Self::WebSocketTls => "blocking-wss",
            Self::Qmux => "qmux-ws",
            Self::QmuxTls => "qmux-wss",
        })
    }
}

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A tokio runtime on the calling thread.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs the client, and the server on the same thread or on another.
fn both<S, C>(threads: usize, server: impl FnOnce() -> S + Send, client: impl FnOnce() -> C)
where
    S: Future<Output = ()>,
    C: Future<Output = ()>,
{
    if threads == 1 {
        runtime().block_on(async { tokio::join!(server(), client()) });
    } else {
        thread::scope(|scope| {
            scope.spawn(|| runtime().block_on(async { server().await }));
            runtime().block_on(async { client().await });
        });
    }
}

/// A socket for the server, and its address.
fn bound() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(LOOPBACK).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn listen(socket: UdpSocket, config: quinn::ServerConfig) -> quinn::Endpoint {
    let runtime = quinn::default_runtime().unwrap();
    quinn::Endpoint::new(quinn::EndpointConfig::default(), Some(config), socket, runtime).unwrap()
}

async fn dial(
    address: SocketAddr,
    config: quinn::ClientConfig,
) -> (quinn::Endpoint, quinn::Connection) {
    let endpoint = quinn::Endpoint::client(LOOPBACK).unwrap();
    let connection = endpoint.connect_with(config, address, "localhost").unwrap().await.unwrap();
    (endpoint, connection)
}

fn quinn_alone(load: Load, threads: usize) {
    let Ends { server, client, identity, .. } = Ends::new();
    let trust = Trust::from(identity.fingerprint());
    // The same TLS as the others, with quinn's default transport.
    let mut listening = smoq_quinn::config::server(&identity, server.versions()).unwrap();
    listening.transport_config(Arc::default());
    let mut dialing = smoq_quinn::config::client(&trust, client.versions()).unwrap();
    dialing.transport_config(Arc::default());
    let reading = load.clone();
    let (socket, address) = bound();
    let serve = || async move {
        let endpoint = listen(socket, listening);
        let connection = endpoint.accept().await.unwrap().await.unwrap();
        let batch = ((64 << 10) / load.frame.len()).max(1);
        for _ in 0..load.groups {
            let mut stream = connection.open_uni().await.unwrap();
            let mut left = load.frames();
            while left > 0 {
                let mut frames = vec![load.frame.clone(); batch.min(left)];
                left -= frames.len();
                stream.write_all_chunks(&mut frames).await.unwrap();
            }
            stream.finish().unwrap();
        }
        connection.closed().await;
    };
    let read = || async move {
        let (endpoint, connection) = dial(address, dialing).await;
        let mut bytes = 0;
        for _ in 0..reading.groups {
            let mut stream = connection.accept_uni().await.unwrap();
            while let Some(chunk) = stream.read_chunk(usize::MAX, true).await.unwrap() {
                bytes += chunk.bytes.len();
            }
        }
        assert_eq!(bytes, reading.bytes());
        connection.close(0_u32.into(), b"");
        endpoint.wait_idle().await;
    };
    both(threads, serve, read);
}

fn smoq_quinn(load: Load, threads: usize, is_webtransport: bool) {
    let ends = Ends::new();
    let trust = ends.trust();
    let Ends { _broadcast, track, server, received, client, identity } = ends;
    let listening = smoq_quinn::config::server(&identity, server.versions()).unwrap();
    let dialing = match is_webtransport {
        true => smoq_quinn::config::webtransport_client(&trust),
        false => smoq_quinn::config::client(&trust, client.versions()),
    };
    let dialing = dialing.unwrap();
    let reading = load.clone();
    let (socket, address) = bound();
    let serve = || async move {
        let endpoint = listen(socket, listening);
        let connection = endpoint.accept().await.unwrap().await.unwrap();
        let (_session, driving) = smoq_quinn::accept(connection, &server).await.unwrap();
        let (end, ()) = tokio::join!(driving, load.publish(track));
        end.unwrap();
        // The client waits until it is told that the session on WebTransport is over.
        endpoint.wait_idle().await;
    };
    let read = || async move {
        let (endpoint, connection) = dial(address, dialing).await;
        let (session, mut driving) = smoq_quinn::connect(connection, &client).await.unwrap();
        tokio::select! {
            end = &mut driving => panic!("{end:?}"),
            () = reading.read(received) => {}
        }
        drop(session);
        driving.await.unwrap();
        endpoint.wait_idle().await;
    };
    both(threads, serve, read);
}

/// smoq-web-transport on a WebSocket.
fn qmux(load: Load, threads: usize, is_tls: bool) {
    let ends = Ends::new();
    let trust = ends.trust();
    let Ends { _broadcast, track, server, received, client, identity } = ends;
    let reading = load.clone();
    let listener = TcpListener::bind(LOOPBACK).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = || async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls::server(&identity, ["http/1.1"]).unwrap()));
        let (stream, _) = listener.accept().await.unwrap();
        let accepted = web_socket_server::accept(stream, &acceptor, server.versions()).await;
        let (carrier, _) = accepted.unwrap();
        let accepted = smoq_web_transport::accept(carrier, &server, tokio::time::sleep);
        let (_session, driving) = accepted.unwrap();
        let (end, ()) = tokio::join!(driving, load.publish(track));
        end.unwrap();
    };
    let read = || async move {
        let host = (&*address.ip().to_string(), address.port());
        let trust = is_tls.then_some(&trust);
        let dialed = web_socket::dial(host, "localhost", "", trust, client.versions()).await;
        let dialed = smoq_web_transport::connect(dialed.unwrap(), &client, tokio::time::sleep);
        let (session, mut driving) = dialed.unwrap();
        tokio::select! {
            end = &mut driving => panic!("{end:?}"),
            () = reading.read(received) => {}
        }
        drop(session);
        driving.await.unwrap();
    };
    both(threads, serve, read);
}

fn smoq_blocking(load: Load, threads: usize, scheme: Scheme) {
    let ends = Ends::new();
    let trust = ends.trust();
    let Ends { _broadcast, track, server, received, client, identity } = ends;
    let mut listening = Endpoint::new(LOOPBACK).unwrap();
    let mut address = listening.local_addr().unwrap();
    if matches!(scheme, Scheme::Ws | Scheme::Wss) {
        let listener = TcpListener::bind(LOOPBACK).unwrap();
        address = listener.local_addr().unwrap();
        listening.listen_web_socket(listener, &server).unwrap();
    } else {
        let config = smoq_blocking::config::server(&identity, server.versions()).unwrap();
        listening.listen(config, &server);
    }
    if scheme == Scheme::Wss {
        listening.set_web_socket_tls(tls::server(&identity, ["http/1.1"]).unwrap());
    }
    let url: Url = format!("{scheme}://{address}").parse().unwrap();
    let config = DialConfig::for_url(&url, &trust, client.versions()).unwrap();
    let mut dialing = Endpoint::new(LOOPBACK).unwrap();
    dialing.dial_any([address], "localhost", config, &client);
    let read = load.clone().read(received);
    if threads == 2 {
        return thread::scope(|scope| {
            let (all_read, done) = tokio::sync::oneshot::channel::<()>();
            scope.spawn(|| {
                // Written data may not be read yet, so the server ends when the client says so.
                let served = async {
                    load.publish(track).await;
                    let _ = done.await;
                };
                listening.run_until(served).unwrap();
            });
            dialing.run_until(read).unwrap();
            drop(all_read);
            drop(dialing);
        });
    }
    let mut work = pin!(async { tokio::join!(load.publish(track), read) });
    let budget = Budget::items(1_024);
    let waker = dialing.waker();
    let mut cx = std::task::Context::from_waker(&waker);
    while work.as_mut().poll(&mut cx).is_pending() {
        let steps = [listening.step(budget).unwrap(), dialing.step(budget).unwrap()];
        if steps.iter().all(|step| step.items == 0) {
            // Paced packets are due soon.
            listening.wait(Some(Duration::from_micros(100))).unwrap();
        }
    }
}

/// The result of one run.
#[derive(Clone, Copy)]
struct Figures {
    gbit_a_second: f64,
    cpu_seconds_a_gb: f64,
}

fn measure(stack: Stack, load: Load, threads: usize) -> Figures {
    let bytes = load.bytes() as f64;
    let (begun, cpu) = (clock(), cpu_time());
    stack.run(load, threads);
    let (took, cpu) = (begun.elapsed(), cpu_time() - cpu);
    Figures {
        gbit_a_second: bytes * 8e-9 / took.as_secs_f64(),
        cpu_seconds_a_gb: cpu.as_secs_f64() / (bytes * 1e-9),
    }
}

#[expect(clippy::disallowed_methods, reason = "measuring is what a benchmark does")]
fn clock() -> Instant {
    Instant::now()
}

/// The CPU time of this process, in steps of 10 ms; zero on systems that do not report it.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15, counted after the name in parentheses, in hundredths of a second.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * ticks)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let (mut mib, mut rounds, mut chosen) = (256, 5, Vec::new());
    let (mut sizes, mut threads) = (vec![64 << 10, 1_200], vec![1, 2]);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse().ok()).expect("a number");
        match &*arg {
            "--bench" => {}
            // A quick check that it runs.
            "--test" => (mib, rounds) = (4, 1),
            "--mib" => mib = number(),
            "--rounds" => rounds = number(),
            "--frame" => sizes = vec![number()],
            "--threads" => threads = vec![number()],
            name => chosen.push(name.to_owned()),
        }
    }
    let is_chosen = |stack: &Stack| chosen.is_empty() || chosen.contains(&stack.to_string());
    let contestants: Vec<_> = Stack::ALL.into_iter().filter(is_chosen).collect();
    println!("{mib} MiB, median of {rounds}: Gbit/s (least to most), CPU seconds per GB");
    for size in sizes {
        for threads in threads.iter().copied() {
            println!("\n{size} B frames, {threads} thread(s)");
            let mut figures = vec![Vec::new(); contestants.len()];
            for _ in 0..rounds {
                for (stack, figures) in contestants.iter().zip(&mut figures) {
                    figures.push(measure(*stack, Load::new(size, mib << 20), threads));
                }
            }
            for (stack, figures) in contestants.iter().zip(figures) {
                let speeds: Vec<_> = figures.iter().map(|f| f.gbit_a_second).collect();
                let least = speeds.iter().copied().fold(f64::INFINITY, f64::min);
                let most = speeds.iter().copied().fold(0.0, f64::max);
                let cpu = median(figures.iter().map(|f| f.cpu_seconds_a_gb).collect());
                let speed = median(speeds);
                println!("{stack:<14} {speed:5.2} ({least:.2} to {most:.2})  {cpu:5.2}");
            }
        }
    }
}
