//! [smoq] over every transport with the traits of [`web_transport_trait`]: turns a session of such a transport, the
//! *carrier*, into a [`Session`] and one future that drives it. Nothing is spawned here, and no runtime is named.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use smoq::Client;
//! use smoq_web_transport::Reliable;
//!
//! let client = Client::new();
//! let carrier = qmux::tcp::Config::new(qmux::Version::QMux02)
//!     .protocols(client.versions().alpns())
//!     .connect("relay.example:4443")
//!     .await?;
//! let (session, driving) =
//!     smoq_web_transport::connect(Reliable(carrier), &client, tokio::time::sleep)?;
//! // tokio::spawn(driving), or here:
//! driving.await?;
//! # drop(session);
//! # Ok(())
//! # }
//! ```
//!
//! The carrier decides what a session can do: see the table in the README. Where it has no datagrams, groups that were
//! meant for them go on streams. Where it has no priorities, the order in which the session writes remains, and the
//! carrier's own buffers should be small.

mod drive;
mod fallback;
mod future;
mod halves;
mod reliable;
mod streams;
mod timer;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

pub use fallback::{HEAD_START, Unreachable, dial_with_fallback};
pub use reliable::Reliable;
use smoq::stream::Side;
use smoq::{Agreed, Client, Clock, Driver, IncomingSession, Server, Session, Versions};
pub use timer::Timer;
pub use web_transport_trait;
use web_transport_trait::Session as Carrier;

use crate::future::{BoxFuture, boxed};
use crate::halves::carrier_code;
use crate::timer::Alarm;

/// How many bytes of a stream may wait in one write: 16,000, which fit into one record of `qmux`. They can't be reordered
/// any more.
pub const PENDING_WRITE: usize = 16_000;

/// How many groups may have bytes that the carrier has not taken yet: 6. Others wait.
///
/// `qmux` lets eight writes wait at a time. If all of them wait for credit of their streams, nothing else is sent, not even
/// the requests that might end it.
pub const PENDING_GROUPS: usize = 6;

/// How long a close without an error waits until the peer has what was sent before it, and then until the carrier
/// has closed: 1 s each.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a session did not begin. The carrier is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The carrier agreed on no version, or on one that was not offered. It is closed with 0x15.
    #[error("the peer speaks no version that was offered")]
    Version,
}

/// Starts a session of `client` on a carrier that was dialed, in the version that the carrier
/// agreed on (`Session::protocol` of web-transport-trait).
///
/// Without a protocol the session speaks one of the oldest versions, which agree on one by SETUP. If the URL of the
/// carrier had a path, as on WebTransport and on a WebSocket, the client must have none ([`Client::with_path`]): SETUP
/// repeats it only where there is no URL. `timer` is `tokio::time::sleep`, for example.
///
/// # Errors
///
/// See [`Error`].
pub fn connect<S: Carrier, T: Timer>(
    carrier: S,
    client: &Client,
    timer: T,
) -> Result<(Session, SessionDriver), Error> {
    let (agreed, alarm) = begin(&carrier, client.versions(), client.clock(), timer)?;
    let (session, driver) = client.connect(agreed, alarm.now());
    Ok((session, SessionDriver::new(carrier, driver, alarm, Side::Client)))
}

/// Starts a session of `server` on a carrier that was accepted. See [`connect`].
///
/// # Errors
///
/// See [`Error`].
pub fn accept<S: Carrier, T: Timer>(
    carrier: S,
    server: &Server,
    timer: T,
) -> Result<(Session, SessionDriver), Error> {
    let (agreed, alarm) = begin(&carrier, server.versions(), server.clock(), timer)?;
    let (session, driver) = server.accept(agreed, alarm.now());
    Ok((session, SessionDriver::new(carrier, driver, alarm, Side::Server)))
}

/// As [`accept`], but the application accepts or rejects the session after it has read the client's SETUP.
///
/// Poll [`SessionDriver`] meanwhile: it reads the SETUP, and closes the carrier if the session is rejected. If the
/// carrier began with an HTTP request, pass it on with [`IncomingSession::with_http`]. If it is WebTransport, pass a server
/// with [`Server::with_web_transport`].
///
/// # Errors
///
/// See [`Error`].
pub fn incoming<S: Carrier, T: Timer>(
    carrier: S,
    server: &Server,
    timer: T,
) -> Result<(IncomingSession, SessionDriver), Error> {
    let (agreed, alarm) = begin(&carrier, server.versions(), server.clock(), timer)?;
    let (request, driver) = server.incoming(agreed, alarm.now());
    Ok((request, SessionDriver::new(carrier, driver, alarm, Side::Server)))
}

fn begin<S: Carrier, T: Timer>(
    carrier: &S,
    versions: &Versions,
    clock: Clock,
    timer: T,
) -> Result<(Agreed, Alarm<T>), Error> {
    let Some(agreed) = versions.agreed(carrier.protocol().map(str::as_bytes)) else {
        let code = smoq::Error::Version.session_code();
        carrier.close(carrier_code(code), "no version in common");
        return Err(Error::Version);
    };
    Ok((agreed, Alarm::new(timer, clock)))
}

/// The protocol that a server chooses of those that a client `offered`: the first of its own order. `None` if they
/// have none in common.
///
/// Carriers that leave the choice to their caller need it: the requests of `web-transport-quinn`, for example.
pub fn choose<'a>(
    versions: &Versions,
    offered: impl IntoIterator<Item = &'a str>,
) -> Option<&'static str> {
    let offered: Vec<_> = offered.into_iter().collect();
    versions.alpns().find(|alpn| offered.contains(alpn))
}

/// Drives one session to its end: spawn it, or poll it with other futures.
///
/// Resolves to `Ok` if either side closed the session without an error. After a close of this side the peer has up to
/// [`CLOSE_TIMEOUT`] to receive what was sent; a process should not end at once after it, because some carriers send
/// the close from a task of their own. An error of the carrier that has no code is [`Error::Disconnected`](smoq::Error).
///
/// Dropping it closes the carrier at once with code 0, and resets what was not finished. To finish what was written
/// drop the session, or call its `drain`, and keep polling.
#[must_use = "nothing is sent or received while nobody polls it"]
pub struct SessionDriver(BoxFuture<Result<(), smoq::Error>>);

impl SessionDriver {
    fn new<S: Carrier, T: Timer>(carrier: S, driver: Driver, alarm: Alarm<T>, side: Side) -> Self {
        Self(boxed(drive::drive(carrier, driver, alarm, side)))
    }
}

impl Future for SessionDriver {
    type Output = Result<(), smoq::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for SessionDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionDriver").finish_non_exhaustive()
    }
}

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
