//! A session that a client requests, until the application decides on it.

use std::mem;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::handle::Session;
use super::http_request::HttpRequest;
use super::origins::SessionOrigins;
use super::peer_request::{Decide, PeerRequest};
use super::shared::{SessionEnd, SessionShared};
use crate::model::base::{Result, SessionId, WaitSlot, impl_debug, wait};
use crate::model::routing::{OriginConsumer, OriginProducer};
use crate::{AuthToken, Error, Hop, Path, Peer, Role, Version};

/// A session that a client requests: what its SETUP says, and the decision to
/// [`accept`](Self::accept) or [`reject`](Self::reject) it. From
/// [`Server::incoming`](crate::Server::incoming).
///
/// Its driver must be driven meanwhile. Until the decision nothing is sent to the client, and
/// nothing but its SETUP is read. Flow control holds the rest. Without a decision within
/// [`Limits::handshake_timeout`](crate::Limits::handshake_timeout) the session closes with
/// [`Error::Timeout`]. If the request is dropped, the client is rejected with
/// [`Error::Unauthorized`].
pub struct IncomingSession {
    shared: Arc<SessionShared>,
    slot: WaitSlot,
    id: SessionId,
    origins: SessionOrigins,
    /// The content of the peer's SETUP, after waiting for it.
    peer: Peer,
    http: Option<Box<HttpRequest>>,
    decide: Option<Decide>,
    is_decided: bool,
}

impl IncomingSession {
    pub(crate) fn new(shared: Arc<SessionShared>, id: SessionId, origins: SessionOrigins) -> Self {
        let (slot, peer, http, decide, is_decided) = Default::default();
        Self { shared, slot, id, origins, peer, http, decide, is_decided }
    }

    fn wait_ready(&mut self, waker: Option<&Waker>) -> Poll<Result<(), Error>> {
        self.shared.wait_peer(&mut self.slot, waker).map_ok(|peer| self.peer = peer)
    }

    wait! {
        /// Waits until the client's SETUP was read. Before, the methods below return defaults. It
        /// is ready at once on moq-lite 03 and 04, which have no SETUP.
        ///
        /// # Errors
        ///
        /// Why the session is over: the client left, broke a rule or took too long. The values
        /// below stay as they are.
        wait_ready => poll_ready, ready, try_ready() -> Result<(), Error>
    }

    /// The version of the session. moq-lite 01 and 02 share an ALPN. There it is the preferred one
    /// of them until the request is [`ready`](Self::ready).
    pub fn version(&self) -> Version {
        self.shared.version()
    }

    /// For adapters: the client opened the session by this request. Its path and authority then count
    /// instead of those in SETUP, which must not have any (moq-lite, *SETUP*; moq-transport, PATH).
    #[must_use]
    pub fn with_http(mut self, request: HttpRequest) -> Self {
        self.http = Some(Box::new(request));
        self
    }

    /// The client's HTTP request, with its origin and headers, if the session runs on WebTransport or
    /// a WebSocket. `None` on raw QUIC.
    pub fn http(&self) -> Option<&HttpRequest> {
        self.http.as_deref()
    }

    /// The path of the URL that the client dialed, by which it asks for the root of the session. It
    /// is empty if the client does not send it, as on moq-lite 01 to 04 without WebTransport.
    pub fn path(&self) -> Path {
        Path::new(self.url_parts().0)
    }

    /// The path and the query.
    fn url_parts(&self) -> (&str, &str) {
        let url = self.http.as_ref().map_or(&*self.peer.path, |request| request.path());
        url.split_once('?').unwrap_or((url, ""))
    }

    /// The part of the URL after the first `?`, as it was written; empty if there is none.
    pub fn query(&self) -> &str {
        self.url_parts().1
    }

    /// Host and port of the URL, if the client sends them (moq-transport, WebTransport); otherwise
    /// empty.
    pub fn authority(&self) -> &str {
        self.http.as_ref().map_or(&*self.peer.authority, |request| request.authority())
    }

    /// The authorization tokens of the client's SETUP (moq-transport). On moq-lite a client puts what shows its rights
    /// into the [`query`](Self::query) of the URL.
    pub fn tokens(&self) -> &[AuthToken] {
        &self.peer.tokens
    }

    /// Which directions the client uses (moq-lite 05 and later).
    pub fn role(&self) -> Role {
        self.peer.role
    }

    /// The hop that the client identifies itself with, if its SETUP has it (moq-lite 05 and later).
    pub fn hop(&self) -> Hop {
        self.peer.hop
    }

    /// The cost of the link, if the client sends it (moq-lite 05 and later).
    pub fn cost(&self) -> Option<u64> {
        self.peer.cost
    }

    /// Sets what is announced to the client, and what it can subscribe to: usually a part of the
    /// server's origin, from [`OriginConsumer::scope`] or [`OriginConsumer::with_root`]. Default:
    /// the setting of the [`Server`](crate::Server).
    ///
    /// The session uses the time of [`Server::clock`](crate::Server::clock). So create the server
    /// with the origin whose parts are handed out.
    #[must_use]
    pub fn with_publish(mut self, origin: OriginConsumer) -> Self {
        self.origins.publish = Some(origin);
        self
    }

    /// Sets where the broadcasts of the client appear; see [`with_publish`](Self::with_publish).
    /// Default: the setting of the [`Server`](crate::Server).
    #[must_use]
    pub fn with_consume(mut self, origin: OriginProducer) -> Self {
        self.origins.consume = Some(origin);
        self
    }

    /// Sets both to the same origin, as for a relay.
    #[must_use]
    pub fn with_origin(self, origin: &OriginProducer) -> Self {
        self.with_publish(origin.consume()).with_consume(origin.clone())
    }

    /// Lets `decide` decide on each request of the client: to subscribe, to fetch, to query, to publish a track, to
    /// announce a broadcast, or to get announcements. The driver calls it, so that it must return at once: it answers
    /// the request, or passes it on and the answer follows later. The client waits meanwhile, and its other requests go
    /// on. Default: everything that was granted is served.
    ///
    /// It is the same on all versions: a session of moq-lite is judged by its [`path`](Self::path) and
    /// [`query`](Self::query), one of moq-transport by its [`tokens`](Self::tokens) too, and by those of its requests.
    #[must_use]
    pub fn with_decisions(mut self, decide: impl Fn(PeerRequest) + Send + Sync + 'static) -> Self {
        self.decide = Some(Decide(Arc::new(decide)));
        self
    }

    /// Accepts the client. If the request is not [`ready`](Self::ready) yet, any client is
    /// accepted.
    ///
    /// If the session is over already, [`closed`](Session::closed) of the returned handle tells
    /// why.
    pub fn accept(mut self) -> Session {
        self.is_decided = true;
        let admitted = mem::take(&mut self.origins).admit(self.id);
        self.shared.accept(admitted, self.decide.take());
        Session::new(self.shared.clone())
    }

    /// Closes the session, with the [session code](Error::session_code) of `error`.
    pub fn reject(mut self, error: Error) {
        self.refuse(error);
    }

    fn refuse(&mut self, error: Error) {
        if !mem::replace(&mut self.is_decided, true) {
            self.shared.end(SessionEnd::Close(error));
        }
    }
}

impl Drop for IncomingSession {
    fn drop(&mut self) {
        if self.slot.is_used() {
            self.shared.forget(&mut self.slot);
        }
        self.refuse(Error::Unauthorized);
    }
}

impl_debug! { IncomingSession, it => version: &it.version(), peer: &it.peer }
