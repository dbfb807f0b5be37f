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
//! let (session, driving) = smoq_quinn::connect(connection, &client)?;
//! // tokio::spawn(driving), smol::spawn(driving), or here:
//! driving.await?;
//! endpoint.wait_idle().await;
//! # Ok(())
//! # }
//! ```
//!
//! Connections of any [`quinn::Endpoint`] will do. [`dial`] tries all addresses of a host, [`listen`] opens a
//! socket whose buffers hold bursts of clients, and [`listen_on`] uses one of several threads that share a port.

mod allowance;
mod drive;
mod endpoint;
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
use smoq::{Agreed, Client, Clock, IncomingSession, Server, Session, Versions};
use smoq_quic::log;
pub use smoq_quic::{self, config};

use crate::streams::Streams;

/// Why a connection did not become a session. The connection is closed; others are unaffected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `quinn::default_runtime` finds no runtime: pass one, or enable a feature of this crate.
    #[error("no async runtime was found, and none was passed")]
    NoRuntime,
    /// TLS agreed on no version, or on one that was not offered. The connection is closed with 0x15.
    #[error("the peer speaks no version that was offered")]
    Version,
}

/// Starts a session of `client` on a connection that was dialed, in the version that TLS agreed on.
///
/// The handshake must be complete: await `quinn::Connecting` first. Timers are those of the current runtime.
///
/// # Errors
///
/// See [`Error`].
pub fn connect(
    connection: quinn::Connection,
    client: &Client,
) -> Result<(Session, ConnectionDriver), Error> {
    let runtime = default_runtime(&connection)?;
    connect_in(connection, client, runtime)
}

/// As [`connect`], with an explicit runtime for timers.
pub fn connect_in(
    connection: quinn::Connection,
    client: &Client,
    runtime: Arc<dyn quinn::Runtime>,
) -> Result<(Session, ConnectionDriver), Error> {
    let agreed = agreed(&connection, client.versions())?;
    let clock = client.clock();
    let (session, driver) = client.connect(agreed, clock.instant(runtime.now()));
    Ok((session, ConnectionDriver::new(connection, driver, clock, runtime)))
}

/// Starts a session of `server` on a connection that was accepted, in the version that TLS agreed on.
///
/// The handshake must be complete: await `quinn::Connecting` first. Timers are those of the current runtime.
///
/// ```no_run
/// # async fn example(tls: quinn::ServerConfig) -> Result<(), Box<dyn std::error::Error>> {
/// let server = smoq::Server::new().with_origin(&smoq::Origin::default().produce());
/// let (endpoint, _buffers) = smoq_quinn::listen("[::]:4443".parse()?, tls)?;
/// while let Some(incoming) = endpoint.accept().await {
///     let (session, driving) = smoq_quinn::accept(incoming.await?, &server)?;
///     // Dropping the handle drains the session, so the task keeps it until the connection is over.
///     tokio::spawn(async move {
///         let result = driving.await;
///         drop(session);
///         result
///     });
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// See [`Error`].
pub fn accept(
    connection: quinn::Connection,
    server: &Server,
) -> Result<(Session, ConnectionDriver), Error> {
    let runtime = default_runtime(&connection)?;
    accept_in(connection, server, runtime)
}

/// As [`accept`], with an explicit runtime for timers.
pub fn accept_in(
    connection: quinn::Connection,
    server: &Server,
    runtime: Arc<dyn quinn::Runtime>,
) -> Result<(Session, ConnectionDriver), Error> {
    let agreed = agreed(&connection, server.versions())?;
    let clock = server.clock();
    let (session, driver) = server.accept(agreed, clock.instant(runtime.now()));
    Ok((session, ConnectionDriver::new(connection, driver, clock, runtime)))
}

/// As [`accept`], but the application accepts or rejects the session after it has read the client's SETUP. The
/// client receives nothing before that. The connection knows the client's address and certificate.
///
/// Poll [`ConnectionDriver`] meanwhile: it reads the SETUP, and closes the connection if the session is rejected.
///
/// ```no_run
/// # async fn example(connection: quinn::Connection, server: smoq::Server)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// let peer = connection.remote_address();
/// let (mut request, driving) = smoq_quinn::incoming(connection, &server)?;
/// // tokio::spawn(driving), smol::spawn(driving), and then:
/// request.ready().await?;
/// if !peer.ip().is_loopback() || !request.role().publishes() {
///     request.reject(smoq::Error::Unauthorized);
///     return Ok(());
/// }
/// let mut session = request.accept();
/// session.closed().await;
/// # drop(driving);
/// # Ok(())
/// # }
/// ```
pub fn incoming(
    connection: quinn::Connection,
    server: &Server,
) -> Result<(IncomingSession, ConnectionDriver), Error> {
    let runtime = default_runtime(&connection)?;
    incoming_in(connection, server, runtime)
}

/// As [`incoming`], with an explicit runtime for timers.
pub fn incoming_in(
    connection: quinn::Connection,
    server: &Server,
    runtime: Arc<dyn quinn::Runtime>,
) -> Result<(IncomingSession, ConnectionDriver), Error> {
    let agreed = agreed(&connection, server.versions())?;
    let clock = server.clock();
    let (request, driver) = server.incoming(agreed, clock.instant(runtime.now()));
    Ok((request, ConnectionDriver::new(connection, driver, clock, runtime)))
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
        connection: quinn::Connection,
        driver: smoq::Driver,
        clock: Clock,
        runtime: Arc<dyn quinn::Runtime>,
    ) -> Self {
        let streams = Streams::new(connection);
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

/// The version that TLS agreed on. Closes the connection if there is none.
fn agreed(connection: &quinn::Connection, versions: &Versions) -> Result<Agreed, Error> {
    let (id, remote) = (connection.stable_id() as u64, connection.remote_address());
    let Some(agreed) = smoq_quic::agreed(connection.handshake_data(), versions) else {
        log::no_version(id, remote);
        let code = smoq_quic::quic_code(smoq::Error::Version.session_code());
        connection.close(code, b"no version in common");
        return Err(Error::Version);
    };
    log::agreed(id, remote, agreed.version());
    Ok(agreed)
}

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
