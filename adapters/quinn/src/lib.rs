//! [smoq] over [quinn]: turns a connection into a [`Session`] and one future that drives it. Nothing is spawned
//! here; any executor with a [`quinn::Runtime`] will do.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use smoq::Client;
//! use smoq_quinn::{config, smoq_quic::Trust};
//!
//! let client = Client::new();
//! let config = config::client(&Trust::WebRoots, client.versions())?;
//! let addresses = ["[2001:db8::1]:443".parse()?, "192.0.2.1:443".parse()?];
//! let (endpoint, connection) = smoq_quinn::dial("relay.example", addresses, config).await?;
//! let (session, driving) = smoq_quinn::connect(connection, &client).await?;
//! // tokio::spawn(driving), smol::spawn(driving), or here:
//! driving.await?;
//! endpoint.wait_idle().await;
//! # Ok(())
//! # }
//! ```
//!
//! Sessions run on raw QUIC and on WebTransport over HTTP/3, so browsers can join. The ALPN of a connection decides:
//! with `h3` it is WebTransport. A server that [`config::server`] makes accepts both on one port. A client dials the
//! carrier of its URL with [`config::client_for`].
//!
//! [`reconnect`] keeps a client connected. Connections of any [`quinn::Endpoint`] will do. [`dial`] tries all addresses
//! of a host, [`listen`] opens a socket whose buffers hold bursts of clients, and [`listen_on`] takes one of several
//! sockets that share a port, for one thread each. After a stall of the process (a debugger, a laptop that slept, a long
//! computation) their endpoints read what waits in the socket before idle timers count, so that peers that are alive are not
//! lost. An endpoint that the application makes itself handles timers as quinn does, in between.

mod allowance;
mod drive;
mod endpoint;
mod http;
mod read_first;
mod reconnecting;
mod stops;
mod streams;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pub use endpoint::{
    DialError, Unreachable, dial, dial_in, listen, listen_in, listen_on, listen_on_in,
};
pub use reconnecting::{Reconnecting, SessionEvent, reconnect, reconnect_in};
use smoq::{Agreed, Client, Clock, HttpRequest, IncomingSession, Server, Session, Versions};
use smoq_quic::http3::{self, WebTransport};
pub use smoq_quic::{self, config};
use smoq_quic::{Carrier, log};

use crate::streams::Streams;

/// Why a connection did not become a session. The connection is closed; others are unaffected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `quinn::default_runtime` finds no runtime: pass one, or enable a feature of this crate.
    #[error("no async runtime was found, and none was passed")]
    NoRuntime,
    /// TLS agreed on no version, or on one that was not offered. The connection is closed with 0x15.
    #[error("the peer speaks no version that was offered")]
    Version,
    /// HTTP/3 did not lead to a session.
    #[error(transparent)]
    WebTransport(#[from] http3::Error),
    /// HTTP/3 did not lead to a session within [`HTTP_TIMEOUT`](smoq_quic::HTTP_TIMEOUT).
    #[error("the peer opened no session in time")]
    Timeout,
    /// The connection was lost before the session began.
    #[error(transparent)]
    Connection(#[from] quinn::ConnectionError),
}

/// Starts a session of `client` on a connection that was dialed, in the version that TLS agreed on, or that the
/// server chooses on WebTransport.
///
/// The handshake must be complete: await `quinn::Connecting` first. On raw QUIC the result is ready at once. On
/// WebTransport the client requests [`Client::path`] of [`Client::authority`], or of the address that was dialed if
/// that is empty. Timers are those of the current runtime.
///
/// # Errors
///
/// See [`Error`].
pub async fn connect(
    connection: quinn::Connection,
    client: &Client,
) -> Result<(Session, ConnectionDriver), Error> {
    let runtime = default_runtime(&connection)?;
    connect_in(connection, client, runtime).await
}

/// As [`connect`], with an explicit runtime for timers.
///
/// # Errors
///
/// See [`Error`].
pub async fn connect_in(
    connection: quinn::Connection,
    client: &Client,
    runtime: Arc<dyn quinn::Runtime>,
) -> Result<(Session, ConnectionDriver), Error> {
    let http = || {
        let dialed = || connection.remote_address().to_string();
        let authority = Some(client.authority().to_owned()).filter(|it| !it.is_empty());
        let authority = authority.unwrap_or_else(dialed);
        WebTransport::client(&authority, client.path().as_str(), client.versions())
    };
    let (streams, agreed, _) = begin(&connection, client.versions(), http, &runtime).await?;
    let (mut client, clock) = (client.clone(), client.clock());
    if streams.http.is_some() {
        // The request had them. SETUP must not.
        client = client.with_path("").with_authority("");
    }
    let (session, driver) = client.connect(agreed, clock.instant(runtime.now()));
    Ok((session, ConnectionDriver::new(streams, driver, clock, runtime)))
}

/// Starts a session of `server` on a connection that was accepted, in the version that TLS agreed on, or by the
/// server's preference on WebTransport.
///
/// The handshake must be complete: await `quinn::Connecting` first. On raw QUIC the result is ready at once. On
/// WebTransport it waits for the client's request, so a loop that accepts connections should not await it. Timers are
/// those of the current runtime.
///
/// ```no_run
/// # async fn example(tls: quinn::ServerConfig) -> Result<(), Box<dyn std::error::Error>> {
/// let server = smoq::Server::new().with_origin(&smoq::Origin::default().produce());
/// let (endpoint, _buffers) = smoq_quinn::listen("[::]:4443".parse()?, tls)?;
/// while let Some(incoming) = endpoint.accept().await {
///     let server = server.clone();
///     tokio::spawn(async move {
///         let (session, driving) = smoq_quinn::accept(incoming.await?, &server).await?;
///         let result = driving.await;
///         // Dropping the handle drains the session, so the task keeps it until the connection is over.
///         drop(session);
///         Ok::<_, Box<dyn std::error::Error + Send + Sync>>(result?)
///     });
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// See [`Error`].
pub async fn accept(
    connection: quinn::Connection,
    server: &Server,
) -> Result<(Session, ConnectionDriver), Error> {
    let runtime = default_runtime(&connection)?;
    accept_in(connection, server, runtime).await
}

/// As [`accept`], with an explicit runtime for timers.
///
/// # Errors
///
/// See [`Error`].
pub async fn accept_in(
    connection: quinn::Connection,
    server: &Server,
    runtime: Arc<dyn quinn::Runtime>,
) -> Result<(Session, ConnectionDriver), Error> {
    let http = || Ok(WebTransport::server(server.versions()));
    let (streams, agreed, asked) = begin(&connection, server.versions(), http, &runtime).await?;
    let clock = server.clock();
    let server = server.clone().with_web_transport(asked.is_some());
    let (session, driver) = server.accept(agreed, clock.instant(runtime.now()));
    Ok((session, ConnectionDriver::new(streams, driver, clock, runtime)))
}

/// As [`accept`], but the application accepts or rejects the session after it has read the client's SETUP. On raw
/// QUIC the client receives nothing before that. The connection knows the client's address and certificate.
///
/// On WebTransport [`IncomingSession::http`] is the client's request, with the origin of the page. It was answered with
/// status 200 already, because a client sends SETUP only after that: a rejection closes the session with its code.
///
/// Poll [`ConnectionDriver`] meanwhile: it reads the SETUP, and closes the connection if the session is rejected.
///
/// ```no_run
/// # async fn example(connection: quinn::Connection, server: smoq::Server)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// let peer = connection.remote_address();
/// let (mut request, driving) = smoq_quinn::incoming(connection, &server).await?;
/// // tokio::spawn(driving), smol::spawn(driving), and then:
/// request.ready().await?;
/// let page = request.http().and_then(|request| request.origin());
/// let is_known = page.is_none_or(|page| page == "https://example.org");
/// if !is_known || !peer.ip().is_loopback() || !request.role().publishes() {
///     request.reject(smoq::Error::Unauthorized);
///     return Ok(());
/// }
/// let mut session = request.accept();
/// session.closed().await;
/// # drop(driving);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// See [`Error`].
pub async fn incoming(
    connection: quinn::Connection,
    server: &Server,
) -> Result<(IncomingSession, ConnectionDriver), Error> {
    let runtime = default_runtime(&connection)?;
    incoming_in(connection, server, runtime).await
}

/// As [`incoming`], with an explicit runtime for timers.
///
/// # Errors
///
/// See [`Error`].
pub async fn incoming_in(
    connection: quinn::Connection,
    server: &Server,
    runtime: Arc<dyn quinn::Runtime>,
) -> Result<(IncomingSession, ConnectionDriver), Error> {
    let http = || Ok(WebTransport::server(server.versions()));
    let (streams, agreed, asked) = begin(&connection, server.versions(), http, &runtime).await?;
    let clock = server.clock();
    let server = server.clone().with_web_transport(asked.is_some());
    let (mut request, driver) = server.incoming(agreed, clock.instant(runtime.now()));
    if let Some(asked) = asked {
        request = request.with_http(asked);
    }
    Ok((request, ConnectionDriver::new(streams, driver, clock, runtime)))
}

/// Agrees on a version: by what TLS says, or by HTTP/3.
async fn begin(
    connection: &quinn::Connection,
    versions: &Versions,
    http: impl FnOnce() -> Result<WebTransport, http3::Error>,
    runtime: &Arc<dyn quinn::Runtime>,
) -> Result<(Streams, Agreed, Option<HttpRequest>), Error> {
    let (id, remote) = (connection.stable_id() as u64, connection.remote_address());
    let carrier = Carrier::of(connection.handshake_data());
    let began = match carrier {
        Carrier::WebTransport => {
            let http = http().inspect_err(|error| {
                connection.close(smoq_quic::quic_code(error.code()), b"no request can be made");
            })?;
            http::handshake(connection, http, runtime).await?
        }
        Carrier::RawQuic => {
            let agreed = smoq_quic::agreed(connection.handshake_data(), versions);
            let Some(agreed) = agreed else {
                log::no_version(id, remote);
                let code = smoq_quic::quic_code(smoq::Error::Version.session_code());
                connection.close(code, b"no version in common");
                return Err(Error::Version);
            };
            (Streams::new(connection.clone(), None), agreed, None)
        }
    };
    log::agreed(id, remote, began.1.version());
    Ok(began)
}

/// Drives one connection to its end: spawn it, or poll it with other futures.
///
/// Resolves to `Ok` if either side closed the session without an error. After a close of this side the peer has up
/// to a second to acknowledge what was sent; `quinn::Endpoint::wait_idle` waits for the last packets.
///
/// It sets the connection's send window to [`smoq_quic::SendWindow`], and raises the number of streams that the
/// peer may open as the peer uses them, up to [`config::STREAMS`].
///
/// Dropping it closes the connection at once with code 0. To finish what was written drop the session, or
/// call its `drain`, and keep polling.
#[must_use = "nothing is sent or received while nobody polls it"]
pub struct ConnectionDriver(Pin<Box<dyn Future<Output = Result<(), smoq::Error>> + Send>>);

impl ConnectionDriver {
    fn new(
        streams: Streams,
        driver: smoq::Driver,
        clock: Clock,
        runtime: Arc<dyn quinn::Runtime>,
    ) -> Self {
        Self(Box::pin(drive::drive(streams, driver, clock, runtime)))
    }
}

impl Future for ConnectionDriver {
    type Output = Result<(), smoq::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ConnectionDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionDriver").finish_non_exhaustive()
    }
}

fn default_runtime(connection: &quinn::Connection) -> Result<Arc<dyn quinn::Runtime>, Error> {
    let runtime = quinn::default_runtime();
    if runtime.is_none() {
        connection.close(smoq_quic::quic_code(smoq::Error::Internal.session_code()), b"no runtime");
    }
    runtime.ok_or(Error::NoRuntime)
}

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
