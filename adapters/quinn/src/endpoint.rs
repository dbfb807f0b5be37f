//! Endpoints to listen on and to dial from.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use quinn::{ClientConfig, Connecting, Connection, Endpoint, EndpointConfig, ServerConfig};
use smoq_quic::{Buffers, Race, WorkerSocket};

use crate::read_first::ReadFirst;

/// Why one address could not be reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// No socket could be opened, most likely because the machine does not support this address family.
    #[error("{0}")]
    Socket(#[from] io::Error),
    /// QUIC can't dial this address or this name.
    #[error("{0}")]
    Connect(#[from] quinn::ConnectError),
    /// The handshake failed or timed out.
    #[error("{0}")]
    Connection(#[from] quinn::ConnectionError),
}

/// No address of a host could be reached: the addresses that were tried, and why each failed.
pub type Unreachable = smoq_quic::Unreachable<DialError>;

/// Listens on `local`, with socket buffers for bursts of clients.
///
/// The second value is the size of the buffers that the system granted. Tell the operator if it
/// [is short](Buffers::is_short) and many clients may dial at once. The system chooses a port for port 0;
/// `[::]` accepts IPv4 as well.
///
/// [`Endpoint::set_server_config`] replaces a certificate: connections that were accepted before keep running.
///
/// # Errors
///
/// The address can't be used, or there is no async runtime.
pub fn listen(local: SocketAddr, config: ServerConfig) -> io::Result<(Endpoint, Buffers)> {
    listen_in(local, config, default_runtime()?)
}

/// As [`listen`], with an explicit runtime.
///
/// # Errors
///
/// As [`listen`].
pub fn listen_in(
    local: SocketAddr,
    config: ServerConfig,
    runtime: Arc<dyn quinn::Runtime>,
) -> io::Result<(Endpoint, Buffers)> {
    bind(local, Some(config), runtime)
}

/// Listens on one of the sockets that share a port, for the current thread's runtime.
///
/// With a runtime for each thread, a connection stays on the thread that accepted it:
///
/// ```no_run
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use smoq_quinn::{config, smoq_quic::{Identity, bind_workers}};
///
/// let server = smoq::Server::new();
/// let config = config::server(&Identity::self_signed(["localhost"])?, server.versions())?;
/// for socket in bind_workers("[::]:4443".parse()?, std::thread::available_parallelism()?)? {
///     let (server, config) = (server.clone(), config.clone());
///     std::thread::spawn(move || {
///         let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
///         runtime.block_on(async {
///             let endpoint = smoq_quinn::listen_on(socket, config)?;
///             while let Some(incoming) = endpoint.accept().await {
///                 let server = server.clone();
///                 tokio::spawn(async move {
///                     let accepted = smoq_quinn::accept(incoming.await.ok()?, &server).await;
///                     let (_session, driving) = accepted.ok()?;
///                     driving.await.ok()
///                 });
///             }
///             std::io::Result::Ok(())
///         })
///     });
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// There is no async runtime, or it can't take the socket.
pub fn listen_on(worker: WorkerSocket, config: ServerConfig) -> io::Result<Endpoint> {
    listen_on_in(worker, config, default_runtime()?)
}

/// As [`listen_on`], with an explicit runtime.
///
/// # Errors
///
/// As [`listen_on`].
pub fn listen_on_in(
    worker: WorkerSocket,
    config: ServerConfig,
    runtime: Arc<dyn quinn::Runtime>,
) -> io::Result<Endpoint> {
    let runtime = ReadFirst::around(runtime);
    Endpoint::new(worker.endpoint_config(), Some(config), worker.socket, runtime)
}

/// Connects to `host` at one of its `addresses`, as RFC 8305 ("Happy Eyeballs") recommends.
///
/// IPv6 and IPv4 alternate, IPv6 first. The next address is dialed when the last one failed, or has not answered
/// within [250 ms](smoq_quic::ATTEMPT_DELAY). The first handshake that completes wins, and the others are closed.
/// The server's certificate must be for `host`. The caller resolves the name, with `tokio::net::lookup_host` or
/// the blocking [`ToSocketAddrs`](std::net::ToSocketAddrs).
///
/// The connection has an endpoint of its own. Keep it as long as the connection; at the end
/// [`Endpoint::wait_idle`] waits for the last packets. Dropping the future gives up all attempts.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use smoq_quinn::{config, smoq_quic::{Trust, Url}};
///
/// let client = smoq::Client::new();
/// let url: Url = "moqt://relay.example".parse()?;
/// let addresses = tokio::net::lookup_host((url.host(), url.port())).await?;
/// let config = config::client_for(&url, &Trust::WebRoots, client.versions())?;
/// let (endpoint, connection) = smoq_quinn::dial(url.host(), addresses, config).await?;
/// let client = client.with_path(url.path()).with_authority(url.authority());
/// let (session, driving) = smoq_quinn::connect(connection, &client).await?;
/// # drop((endpoint, session, driving));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// No address could be reached. The error names each, and why it failed.
pub async fn dial(
    host: &str,
    addresses: impl IntoIterator<Item = SocketAddr>,
    config: ClientConfig,
) -> Result<(Endpoint, Connection), Unreachable> {
    match default_runtime() {
        Ok(runtime) => dial_in(host, addresses, config, runtime).await,
        Err(_) => {
            let why = || io::Error::other(crate::Error::NoRuntime).into();
            let tried = addresses.into_iter().map(|address| (address, why())).collect();
            Err(Unreachable { host: host.into(), tried })
        }
    }
}

/// As [`dial`], with an explicit runtime for sockets and timers.
///
/// # Errors
///
/// As [`dial`].
pub async fn dial_in(
    host: &str,
    addresses: impl IntoIterator<Item = SocketAddr>,
    config: ClientConfig,
    runtime: Arc<dyn quinn::Runtime>,
) -> Result<(Endpoint, Connection), Unreachable> {
    let mut race = Race::new(addresses);
    let mut sockets = Sockets { runtime: &runtime, v6: None, v4: None };
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut timer = None;
    let won = poll_fn(|cx| {
        loop {
            while let Some(address) = race.poll(runtime.now()) {
                timer = None;
                match sockets.connect(address, host, config.clone()) {
                    Ok(attempt) => attempts.push(attempt),
                    Err(error) => race.failed(address, error),
                }
            }
            let (before, mut won) = (attempts.len(), None);
            attempts.retain_mut(|attempt| {
                match Pin::new(&mut attempt.connecting).poll(cx) {
                    Poll::Pending => return true,
                    Poll::Ready(Ok(connection)) => {
                        won = Some((attempt.endpoint.clone(), connection))
                    }
                    Poll::Ready(Err(error)) => race.failed(attempt.address, error.into()),
                }
                false
            });
            if won.is_some() || race.is_lost() {
                return Poll::Ready(won);
            }
            if attempts.len() < before {
                continue;
            }
            let Some(at) = race.poll_timeout() else { return Poll::Pending };
            let timer = timer.get_or_insert_with(|| runtime.new_timer(at));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // A timer that fired has to be reset, even to the same time.
            timer.as_mut().reset(at);
        }
    })
    .await;
    won.ok_or_else(|| race.into_error(host))
}

/// A handshake in progress. Dropping it closes the connection.
struct Attempt {
    address: SocketAddr,
    endpoint: Endpoint,
    connecting: Connecting,
}

/// The endpoints to dial from, one for each address family, because a machine may support only one.
struct Sockets<'a> {
    runtime: &'a Arc<dyn quinn::Runtime>,
    v6: Option<Endpoint>,
    v4: Option<Endpoint>,
}

impl Sockets<'_> {
    fn connect(
        &mut self,
        address: SocketAddr,
        host: &str,
        config: ClientConfig,
    ) -> Result<Attempt, DialError> {
        let (place, any) = match address {
            SocketAddr::V6(_) => (&mut self.v6, IpAddr::from(Ipv6Addr::UNSPECIFIED)),
            SocketAddr::V4(_) => (&mut self.v4, IpAddr::from(Ipv4Addr::UNSPECIFIED)),
        };
        let endpoint = match place {
            Some(endpoint) => endpoint,
            None => place.insert(bind((any, 0).into(), None, Arc::clone(self.runtime))?.0),
        };
        let connecting = endpoint.connect_with(config, address, host)?;
        Ok(Attempt { address, endpoint: endpoint.clone(), connecting })
    }
}

fn bind(
    local: SocketAddr,
    config: Option<ServerConfig>,
    runtime: Arc<dyn quinn::Runtime>,
) -> io::Result<(Endpoint, Buffers)> {
    let (socket, buffers) = smoq_quic::bind(local)?;
    let runtime = ReadFirst::around(runtime);
    let endpoint = Endpoint::new(EndpointConfig::default(), config, socket, runtime)?;
    Ok((endpoint, buffers))
}

pub(crate) fn default_runtime() -> io::Result<Arc<dyn quinn::Runtime>> {
    quinn::default_runtime().ok_or_else(|| io::Error::other(crate::Error::NoRuntime))
}
