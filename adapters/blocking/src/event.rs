//! Events of connections, as an endpoint reports them.

use std::net::SocketAddr;
use std::time::Duration;

use smoq::{CloseReason, Goaway, IncomingSession, Session, Version};
use smoq_quic::rustls::pki_types::CertificateDer;
use smoq_quic::{Redirect, Url};

use crate::error::{DialError, Unreachable};
use crate::reconnect::BoxError;

/// Identifies a connection of an [`Endpoint`](crate::Endpoint). An id is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// The connection's slot, or `usize::MAX` while several addresses of a host are dialed.
    pub(crate) slot: usize,
    pub(crate) serial: u64,
}

/// Identifies a client that dials again: see [`Endpoint::reconnect`](crate::Endpoint::reconnect).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReconnectId(pub(crate) u64);

/// A change of a connection, from [`Endpoint::poll_event`](crate::Endpoint::poll_event).
#[derive(Debug)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "a connection has one or two, which are read soon")]
pub enum Event {
    /// The session ended. If it ended without an error, the peer has acknowledged everything that was sent,
    /// or had a second to do so.
    Closed {
        /// The connection.
        id: ConnectionId,
        /// Why it ended.
        reason: CloseReason,
    },
    /// The handshake is complete, on WebTransport that of HTTP/3 as well.
    Connected {
        /// The connection.
        id: ConnectionId,
        /// Its session. The endpoint keeps a handle as well, so dropping this one ends nothing.
        session: Session,
        /// The version that TLS, HTTP/3 or the upgrade to a WebSocket agreed on. moq-lite 01 and 02 share an ALPN: then it
        /// is the preferred one, and [`Session::version`] returns the final one after SETUP.
        version: Version,
        /// The peer's address.
        remote: SocketAddr,
    },
    /// A client asks for a session: accept or reject it. It is reported instead of `Connected` if
    /// [`Endpoint::set_manual_accept`](crate::Endpoint::set_manual_accept) asks for that.
    Incoming {
        /// The connection.
        id: ConnectionId,
        /// The request. It times out after
        /// [`Limits::handshake_timeout`](smoq::Limits::handshake_timeout). The endpoint keeps no handle to a session
        /// that is accepted here.
        request: IncomingSession,
        /// The client's address.
        remote: SocketAddr,
        /// The client's certificates, its own first, if the TLS configuration asks for them.
        certificates: Vec<CertificateDer<'static>>,
    },
    /// The handshake failed.
    Failed {
        /// The connection.
        id: ConnectionId,
        /// Why it failed.
        error: DialError,
    },
    /// No address of a host could be reached that was dialed by
    /// [`Endpoint::dial_any`](crate::Endpoint::dial_any) or [`Endpoint::connect`](crate::Endpoint::connect).
    Unreachable {
        /// The connection.
        id: ConnectionId,
        /// The addresses that were tried, and why each failed.
        error: Unreachable,
    },
    /// A client that dials again makes an attempt. [`Connected`](Self::Connected), [`Closed`](Self::Closed) and
    /// [`Unreachable`](Self::Unreachable) follow for this connection.
    Dialing {
        /// The client.
        reconnect: ReconnectId,
        /// The connection.
        id: ConnectionId,
        /// Where.
        url: Url,
    },
    /// A client that dials again has no session, and makes its next attempt after a pause. The reason is in the event
    /// before it, if there is one for the connection. If there is none, nobody answered within
    /// [`Redial::attempt_timeout`](smoq_quic::Redial::attempt_timeout), or there is an error here.
    Waiting {
        /// The client.
        reconnect: ReconnectId,
        /// Where it was, or could not get.
        url: Url,
        /// Why the URL could not be dialed, if the application told so.
        error: Option<BoxError>,
        /// How long. It may be zero.
        pause: Duration,
    },
    /// The peer of a client that dials again sent GOAWAY. The session goes on until it ends by itself, and the next one is
    /// dialed meanwhile. If the peer of that one sends GOAWAY as well, this session is drained. Past
    /// [`MAX_LEAVING`](smoq_quic::MAX_LEAVING) such sessions the oldest is closed, with
    /// [`LimitKind::LeavingSessions`](smoq::LimitKind::LeavingSessions). [`Closed`](Self::Closed) reports each end.
    GoingAway {
        /// The client.
        reconnect: ReconnectId,
        /// The connection of the session that goes on.
        id: ConnectionId,
        /// The GOAWAY of the peer.
        goaway: Goaway,
        /// Whether the next attempt goes where the peer wants.
        redirect: Redirect,
        /// The pause before the next attempt.
        pause: Duration,
    },
}
