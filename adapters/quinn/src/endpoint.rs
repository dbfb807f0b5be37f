//! Endpoints: sockets to listen on and to dial from.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use quinn::{ClientConfig, Connecting, Connection, Endpoint, EndpointConfig, ServerConfig};
use smoq_quic::{Buffers, Race};

use crate::log;

/// Why there is no connection to one address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// There is no socket to dial from, most likely because the machine does not speak this family.
    #[error("{0}")]
    Socket(#[from] io::Error),
    /// QUIC can't dial this address or this name.
    #[error("{0}")]
    Connect(#[from] quinn::ConnectError),
    /// The handshake failed, or nobody answered.
    #[error("{0}")]
    Connection(#[from] quinn::ConnectionError),
}

/// No address of a host could be reached: which were tried, and why each failed.
pub type Unreachable = smoq_quic::Unreachable<DialError>;

/// Listens on `local`, with socket buffers for bursts of clients.
///
/// The second value is what the system granted; if that is less than
/// [`SOCKET_BUFFER`](smoq_quic::SOCKET_BUFFER) and many clients may dial at once, the operator should know.
/// Port 0 lets the system choose one; `[::]` takes IPv4 as well.
///
/// # Errors
///
/// The address can't be used, or there is no runtime.
pub fn listen(local: SocketAddr, config: ServerConfig) -> io::Result<(Endpoint, Buffers)> {
    listen_in(local, config, default_runtime()?)
}

/// As [`listen`], with the runtime for the socket named.
pub fn listen_in(
    local: SocketAddr,
    config: ServerConfig,
    runtime: Arc<dyn quinn::Runtime>,
) -> io::Result<(Endpoint, Buffers)> {
    bind(local, Some(config), runtime)
}

/// Connects to `host` by one of its `addresses`, in the way of RFC 8305 ("Happy Eyeballs").
///
/// IPv6 and IPv4 take turns, IPv6 first. An address that does not answer within
/// [250 ms](smoq_quic::ATTEMPT_DELAY) is joined by the next one, and one that fails is followed by it at once;
/// the first handshake that completes wins, and the others are closed. `host` is the name that the server's
/// certificate must be for. Resolving it is the caller's: `tokio::net::lookup_host`, or
/// [`ToSocketAddrs`](std::net::ToSocketAddrs), which blocks.
///
/// The connection has an endpoint of its own. Keep that as long as the connection; at the end
/// [`Endpoint::wait_idle`] waits for the last packets. Dropping the future gives up all attempts.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use smoq_quinn::{config, smoq_quic::{Trust, Url}};
///
/// let client = smoq::Client::new();
/// let url: Url = "moqt://relay.example".parse()?;
/// let addresses = tokio::net::lookup_host((url.host(), url.port())).await?;
/// let config = config::client(&Trust::WebRoots, client.versions())?;
/// let (endpoint, connection) = smoq_quinn::dial(url.host(), addresses, config).await?;
/// let (session, driving) = smoq_quinn::connect(connection, &client.with_path(url.path()))?;
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

/// As [`dial`], with the runtime for sockets and timers named.
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
            // A timer that fired has to be set again, even to the same time.
            timer.as_mut().reset(at);
        }
    })
    .await;
    won.ok_or_else(|| race.into_error(host))
}

/// A handshake that is under way. Dropping it closes the connection.
struct Attempt {
    address: SocketAddr,
    endpoint: Endpoint,
    connecting: Connecting,
}

/// What attempts go out from: one socket for each family, as a machine may know only one of them.
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
    log::buffers(&buffers);
    let endpoint = Endpoint::new(EndpointConfig::default(), config, socket, runtime)?;
    Ok((endpoint, buffers))
}

fn default_runtime() -> io::Result<Arc<dyn quinn::Runtime>> {
    quinn::default_runtime().ok_or_else(|| io::Error::other(crate::Error::NoRuntime))
}
