//! A relay: any number of sessions around one origin.
//!
//! ```text
//! relay --listen ADDR [--cert FILE --key FILE] [--version VERSION]... [--workers N]
//!       [--upstream URL[,URL]...]... [--follow-redirects] [--fingerprint HEX... | --insecure] [--trace DIR]
//!       [--congestion NAME] [--initial-mtu BYTES] [--max-mtu BYTES]
//! ```
//!
//! Clients dial `moqt://HOST:PORT/PATH` (raw QUIC), `https://` (WebTransport, for browsers as well), or `ws://` and
//! `wss://` (a WebSocket on the TCP port of the same number, for networks that drop UDP). A client is confined to
//! `PATH`: it sees only broadcasts below it, and publishes below it, with paths relative to it. On raw QUIC moq-lite up
//! to 04 does not carry the dialed path, so those clients see everything.
//!
//! Each worker is a thread with a socket and a runtime of its own. A connection stays with its worker; all workers share
//! one origin, so that each track is in memory once.
//!
//! Without a certificate the relay creates one and prints its fingerprint for clients to pin. Programs that dial
//! `http://HOST:PORT` while they are developed fetch it as `/certificate.sha256` from there, and then dial `https://`. On
//! SIGHUP the relay reads the files of its certificate again, for new connections.
//!
//! It keeps trying to reach its upstreams: the URLs of each in turn. Readers of a lost upstream wait for it for a while.
//! `--trace` records each session into a file of its own in that directory, for the example `replay`. SIGTERM and SIGINT
//! end the relay: it asks all peers to leave (GOAWAY). After half a second it sends pending data to those that are still
//! connected, and after a second it closes everything.

#![allow(clippy::disallowed_methods, reason = "a server has threads")]

#[path = "common/hangups.rs"]
mod hangups;
#[path = "common/peer.rs"]
mod peer;
#[path = "common/report.rs"]
mod report;
#[path = "common/signals.rs"]
mod signals;
#[path = "common/trace.rs"]
mod trace;
#[path = "common/web_socket_server.rs"]
mod web_socket_server;

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use hangups::Hangups;
use peer::{Dialer, Driving, Targets};
use smoq::{
    Client, Error, Goaway, IncomingSession, Limits, Origin, OriginProducer, Server, Session,
    Versions,
};
use smoq_quinn::config;
use smoq_quinn::smoq_quic::{
    Fingerprint, Identity, Redial, SOCKET_BUFFER, Url, WorkerSocket, bind_workers, tls,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// How long a track without readers continues, for readers that switch channels and return.
const LINGER: Duration = Duration::from_secs(5);

/// The request for the fingerprint of the certificate, as the programs of moq-dev and pages make it, and how long it and
/// the answer may take.
const FINGERPRINT_REQUEST: &[u8] = b"GET /certificate.sha256 HTTP/1.1\r\n";
const FINGERPRINT_TIMEOUT: Duration = Duration::from_secs(10);

/// When the relay stops: how long peers have to leave, and how long all of it may take.
const STOP: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(1));

/// A relay: any number of sessions around one origin
#[derive(Parser)]
#[command(name = "relay", version, disable_version_flag = true)]
struct Options {
    /// Where to accept sessions; port 0 lets the system choose one, which is printed
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// The certificate chain in PEM form; without one a certificate is made, and its fingerprint printed
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key in PEM form
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// An upstream relay, moqt:// or https://HOST[:PORT][/PATH] with a fallback to wss://, or ws:// and wss://. Several
    /// URLs of one upstream are separated by commas; may be repeated for further upstreams
    #[arg(long = "upstream", value_name = "URL")]
    upstreams: Vec<Targets>,
    /// Threads that serve sessions [default: one for each core; on systems other than Linux, one]
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
    /// A directory for the recordings of all sessions; created if necessary
    #[arg(long, value_name = "DIR")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    peer: peer::PeerOptions,
}

fn main() -> ExitCode {
    report::exit_code(run(peer::parse()))
}

fn run(options: Options) -> Result<()> {
    let Options { listen, cert, key, upstreams, workers, trace, peer } = options;
    let versions = peer.versions();
    let origin = Origin::new(peer::random_hop()?).produce();
    let mut limits = Limits::default();
    limits.linger_time = LINGER;
    let mut server = Server::new().with_origin(&origin).with_versions(versions.clone());
    let mut client = Client::new().with_origin(&origin).with_versions(versions.clone());
    (server, client) = (server.with_limits(limits.clone()), client.with_limits(limits));
    if let Some(directory) = trace {
        let files = trace::Files::in_directory(directory)?;
        let more = files.clone();
        server = server.with_trace(move || files.sink());
        client = client.with_trace(move || more.sink());
    }
    let certificate = Certificate { files: cert.zip(key), versions, transport: peer.transport() };
    let identity = match &certificate.files {
        Some(files) => Identity::from_pem_files(&files.0, &files.1)?,
        None => Identity::self_signed(["localhost"])?,
    };
    let (config, tls) = certificate.configs(&identity)?;
    let (tls, current) = watch::channel(tls);
    let (sockets, tcp) = bind(listen, workers.map_or_else(cores, Ok)?)
        .with_context(|| format!("can't listen on {listen}"))?;
    let address = sockets[0].socket.local_addr()?;
    report_small_buffers(&sockets[0]);
    let mut workers = Vec::new();
    for socket in sockets {
        let runtime = current_thread()?;
        let (endpoint, tcp) = {
            let _entered = runtime.enter();
            let endpoint = smoq_quinn::listen_on(socket, config.clone())?;
            (endpoint, TcpListener::from_std(tcp.try_clone()?)?)
        };
        let (server, origin, tls) = (server.clone(), origin.clone(), current.clone());
        let worker = Worker { endpoint, tcp, tls, server, origin, upstreams: Vec::new() };
        workers.push((runtime, worker));
    }
    for (n, urls) in upstreams.into_iter().enumerate() {
        let redial = peer.redial(&urls);
        let upstream = Upstream { client: client.clone(), redial, dialer: peer.dialer() };
        let count = workers.len();
        workers[n % count].1.upstreams.push(upstream);
    }

    current_thread()?.block_on(async {
        // Signals are caught before anyone learns the address.
        let (mut end, mut hangups) = (pin!(signals::stopped()?), Hangups::new()?);
        let mut stdout = std::io::stdout();
        writeln!(stdout, "listening {address} sha256:{}", identity.fingerprint())
            .and_then(|()| stdout.flush())
            .context("can't print the address")?;
        let endpoints: Vec<_> = workers.iter().map(|(_, it)| it.endpoint.clone()).collect();
        let (stop, stopping) = watch::channel(false);
        let start = |(runtime, worker): (Runtime, Worker)| {
            let stopping = stopping.clone();
            thread::spawn(move || runtime.block_on(worker.run(stopping)))
        };
        let threads: Vec<_> = workers.into_iter().map(start).collect();
        let signal = loop {
            tokio::select! {
                signal = &mut end => break signal,
                () = hangups.next() => certificate.renew(&endpoints, &tls),
            }
        };
        eprintln!("stopped by {signal}");
        drop(endpoints);
        stop.send_replace(true);
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a worker panicked"))?;
        }
        Ok(())
    })
}

/// The certificate of all workers, and the configurations around it.
struct Certificate {
    /// The chain and the key. Without them the certificate was made here.
    files: Option<(PathBuf, PathBuf)>,
    versions: Versions,
    transport: Arc<quinn::TransportConfig>,
}

impl Certificate {
    fn configs(&self, identity: &Identity) -> Result<(quinn::ServerConfig, Tls)> {
        let mut config = config::server(identity, &self.versions)?;
        config.transport_config(Arc::clone(&self.transport));
        let acceptor = TlsAcceptor::from(Arc::new(tls::server(identity, ["http/1.1"])?));
        Ok((config, Tls { acceptor, fingerprint: identity.fingerprint() }))
    }

    /// Reads the files again, for new connections.
    fn renew(&self, endpoints: &[quinn::Endpoint], tls: &watch::Sender<Tls>) {
        let Some((cert, key)) = &self.files else {
            return eprintln!("the certificate is not in a file");
        };
        let read = Identity::from_pem_files(cert, key).map_err(Into::into);
        match read.and_then(|identity| self.configs(&identity)) {
            Ok((config, new)) => {
                for endpoint in endpoints {
                    endpoint.set_server_config(Some(config.clone()));
                }
                let fingerprint = new.fingerprint;
                tls.send_replace(new);
                eprintln!("new certificate sha256:{fingerprint}");
            }
            Err(error) => eprintln!("the old certificate stays: {}", report::sentence(&error)),
        }
    }
}

/// The certificate, as the TCP port needs it.
#[derive(Clone)]
struct Tls {
    acceptor: TlsAcceptor,
    fingerprint: Fingerprint,
}

/// A socket that is too small for many clients is a matter for the operator.
fn report_small_buffers(socket: &WorkerSocket) {
    let buffers = socket.buffers;
    if buffers.is_short() {
        eprintln!(
            "the system lets this socket hold {} bytes that came and {} that go, not {SOCKET_BUFFER}: \
             many clients that dial at once may time out",
            buffers.receive, buffers.send
        );
    }
}

/// Only Linux leads the packets of a connection to one of several sockets.
fn cores() -> Result<NonZeroUsize> {
    let one = NonZeroUsize::MIN;
    if cfg!(target_os = "linux") { Ok(thread::available_parallelism()?) } else { Ok(one) }
}

/// The sockets of all workers, and the TCP port of the same number, which they share.
fn bind(
    listen: SocketAddr,
    workers: NonZeroUsize,
) -> Result<(Vec<WorkerSocket>, std::net::TcpListener)> {
    loop {
        let sockets = bind_workers(listen, workers)?;
        match std::net::TcpListener::bind(sockets[0].socket.local_addr()?) {
            // The system chose a port that TCP does not have.
            Err(error) if error.kind() == ErrorKind::AddrInUse && listen.port() == 0 => {}
            tcp => {
                let tcp = tcp?;
                tcp.set_nonblocking(true)?;
                return Ok((sockets, tcp));
            }
        }
    }
}

fn current_thread() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// A thread that serves its share of the sessions.
struct Worker {
    endpoint: quinn::Endpoint,
    tcp: TcpListener,
    tls: watch::Receiver<Tls>,
    server: Server,
    origin: OriginProducer,
    upstreams: Vec<Upstream>,
}

impl Worker {
    async fn run(self, mut stopping: watch::Receiver<bool>) {
        let Self { endpoint, tcp, tls, server, origin, upstreams } = self;
        let (mut tasks, stop) = (JoinSet::new(), stopping.clone());
        for upstream in upstreams {
            tasks.spawn(upstream.join(stop.clone()));
        }
        loop {
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => break,
                Some(incoming) = endpoint.accept() => {
                    let (peer, server) = (incoming.remote_address(), server.clone());
                    // Boxed, because a session has no use for the memory of its handshake.
                    let asked = Box::pin(async move { quic(incoming, &server).await });
                    tasks.spawn(serve(peer, asked, origin.clone(), stop.clone()));
                }
                // An error is that of one connection.
                Ok((stream, peer)) = tcp.accept() => {
                    let (tls, server) = (tls.borrow().clone(), server.clone());
                    let asked = Box::pin(async move { web_socket(stream, &tls, &server).await });
                    tasks.spawn(serve(peer, asked, origin.clone(), stop.clone()));
                }
                // Ended sessions are removed from the set.
                Some(_) = tasks.join_next() => {}
            }
        }
        while tasks.join_next().await.is_some() {}
        endpoint.close(0u32.into(), b"");
        endpoint.wait_idle().await;
    }
}

/// The session of a client, unless it only asked for the fingerprint.
type Asked = Option<(IncomingSession, Driving)>;

/// A client on QUIC.
async fn quic(incoming: quinn::Incoming, server: &Server) -> Result<Asked> {
    let (request, driving) = smoq_quinn::incoming(incoming.await?, server).await?;
    Ok(Some((request, Box::pin(driving))))
}

/// A client on a WebSocket.
async fn web_socket(mut stream: TcpStream, tls: &Tls, server: &Server) -> Result<Asked> {
    let asks = timeout(FINGERPRINT_TIMEOUT, asks_for_fingerprint(&stream));
    if asks.await.context("no request in time")?? {
        timeout(FINGERPRINT_TIMEOUT, tell_fingerprint(&mut stream, &tls.fingerprint)).await??;
        return Ok(None);
    }
    let accepted = web_socket_server::accept(stream, &tls.acceptor, server.versions()).await?;
    let (carrier, http) = accepted;
    let (request, driving) = smoq_web_transport::incoming(carrier, server, tokio::time::sleep)?;
    Ok(Some((request.with_http(http), Box::pin(driving))))
}

/// Clients send so short a request in one piece.
async fn asks_for_fingerprint(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0; FINGERPRINT_REQUEST.len()];
    let len = stream.peek(&mut first).await?;
    Ok(first[..len] == *FINGERPRINT_REQUEST)
}

async fn tell_fingerprint(
    stream: &mut TcpStream,
    fingerprint: &Fingerprint,
) -> std::io::Result<()> {
    // Closing a connection with unread bytes would reset it.
    let _ = stream.read(&mut [0; 8 << 10]).await?;
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 64\r\n\
         access-control-allow-origin: *\r\nconnection: close\r\n\r\n{fingerprint}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

async fn serve(
    peer: SocketAddr,
    asked: impl Future<Output = Result<Asked>>,
    origin: OriginProducer,
    mut stopping: watch::Receiver<bool>,
) {
    // A socket for both families shows the addresses of IPv4 in the form of IPv6.
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let served = async {
        let Some((mut request, mut driving)) = unless_stopped(&mut stopping, asked).await?? else {
            return Ok(());
        };
        let asking = async {
            tokio::select! {
                ready = request.ready() => ready,
                end = &mut driving => end.and(Err(Error::SessionClosed)),
            }
        };
        unless_stopped(&mut stopping, asking).await??;
        let root = request.path();
        let part = origin.with_root(&root).with_context(|| format!("no access below /{root}"))?;
        let page = request.http().map(|http| http.origin().unwrap_or("no page").to_owned());
        let page = page.map_or_else(String::new, |page| format!(" by HTTP, from {page}"));
        let session = request.with_origin(&part).accept();
        eprintln!("{peer} speaks {} below /{root}{page}", session.version());
        anyhow::Ok(drive(session, driving, stopping).await?)
    };
    tell_end(peer, served.await);
}

/// A relay that this one dials.
struct Upstream {
    redial: Redial<Url>,
    dialer: Dialer,
    client: Client,
}

impl Upstream {
    async fn join(self, mut stopping: watch::Receiver<bool>) {
        let Self { redial, dialer, client } = self;
        let stop = stopping.clone();
        let dial = move |url, client| {
            let (dialer, stop) = (dialer.clone(), stop.clone());
            async move {
                let (session, driving) = dialer.join(&url, &client).await?;
                anyhow::Ok((session.clone(), drive(session, driving, stop)))
            }
        };
        let mut upstream = match smoq_quinn::reconnect(redial, &client, dial) {
            Ok(upstream) => upstream,
            Err(error) => return eprintln!("no upstream: {error}"),
        };
        let mut is_stopped = false;
        loop {
            tokio::select! {
                event = upstream.next() => match event {
                    Some(event) => peer::tell(&event),
                    None => return,
                },
                // It fails only if the sender is gone, which is the end as well.
                _ = stopping.wait_for(|stop| *stop), if !is_stopped => {
                    upstream.stop();
                    is_stopped = true;
                }
            }
        }
    }
}

fn tell_end(whose: impl std::fmt::Display, end: Result<()>) {
    match end {
        Ok(()) => eprintln!("{whose} left"),
        Err(error) => eprintln!("{whose} lost: {}", report::sentence(&error)),
    }
}

/// A peer that never answers does not keep the relay from ending.
async fn unless_stopped<F: IntoFuture>(
    stopping: &mut watch::Receiver<bool>,
    future: F,
) -> Result<F::Output> {
    tokio::select! {
        output = future.into_future() => Ok(output),
        _ = stopping.wait_for(|stop| *stop) => Err(anyhow!("the relay is stopping")),
    }
}

/// Drives a session until it ends, or until the relay stops. Then the peer is asked to leave, and the
/// session is drained if it does not.
async fn drive(
    session: Session,
    mut driving: Driving,
    mut stopping: watch::Receiver<bool>,
) -> smoq::Result<()> {
    tokio::select! {
        end = &mut driving => return end,
        _ = stopping.wait_for(|stop| *stop) => session.go_away(Goaway::default().timeout(STOP.1))?,
    }
    tokio::select! {
        end = &mut driving => return end,
        () = tokio::time::sleep(STOP.0) => session.drain(),
    }
    driving.await
}
