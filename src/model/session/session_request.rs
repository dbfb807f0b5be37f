//! A session that a peer wants, until the application has decided on it.

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::{fmt, mem};

use super::handle::Session;
use super::origins::SessionOrigins;
use super::shared::{SessionEnd, SessionShared};
use crate::model::Result;
use crate::model::base::{SessionId, WaitSlot, wait};
use crate::model::routing::{OriginConsumer, OriginProducer};
use crate::{Error, Hop, Path, Peer, Role, Version};

/// A session that a client wants: what it says of itself, and the decision, [`accept`](Self::accept) or
/// [`reject`](Self::reject). From [`Server::request`].
///
/// Its driver must be driven meanwhile. Until the decision the client hears nothing of us, and of what it
/// sends no more is looked at than its set-up; flow control holds the rest. If there is none within
/// [`Limits::handshake_time`], the session closes with [`Error::Timeout`]. Dropped without one it is
/// rejected with [`Error::Unauthorized`].
pub struct SessionRequest {
    shared: Arc<SessionShared>,
    slot: WaitSlot,
    id: SessionId,
    origins: SessionOrigins,
    /// What came of the peer, once that was waited for.
    peer: Peer,
    is_decided: bool,
}

impl SessionRequest {
    pub(crate) fn new(shared: Arc<SessionShared>, id: SessionId, origins: SessionOrigins) -> Self {
        let (slot, peer, is_decided) = Default::default();
        Self { shared, slot, id, origins, peer, is_decided }
    }

    fn wait_ready(&mut self, waker: Option<&Waker>) -> Poll<Result<(), Error>> {
        self.shared.wait_peer(&mut self.slot, waker).map_ok(|peer| self.peer = peer)
    }

    wait! {
        /// Until the client's set-up was read: before, nothing is known of it, and what is asked below has
        /// the answers of one that says nothing. At once on moq-lite 03 and 04, which have no set-up.
        ///
        /// Errors: why the session is over, if the client went away, broke a rule or let too much time
        /// pass; afterwards as before.
        wait_ready => poll_ready, ready, try_ready() -> Result<(), Error>
    }

    /// What is spoken. Where one ALPN stands for several, moq-lite 01 and 02, the most wanted of them
    /// until it is [`ready`](Self::ready).
    pub fn version(&self) -> Version {
        self.shared.version()
    }

    /// The path of the URL that the client dialed: where it wants the root of the session to be. The
    /// root if it does not say, as on moq-lite 01 to 04.
    pub fn path(&self) -> Path {
        let (path, _) = self.peer.path.split_once('?').unwrap_or((&self.peer.path, ""));
        Path::new(path)
    }

    /// What follows the first `?` of the URL, as it was written; empty if there is nothing.
    pub fn query(&self) -> &str {
        self.peer.path.split_once('?').map_or("", |(_, query)| query)
    }

    /// Host and port of the URL, where the version tells it (moq-transport) and the client does; else
    /// empty.
    pub fn authority(&self) -> &str {
        &self.peer.authority
    }

    /// Which directions the client uses (moq-lite 05 and later).
    pub fn role(&self) -> Role {
        self.peer.role
    }

    /// Who the client is in announcements, if it says so in its set-up (moq-lite 05 and later).
    pub fn hop(&self) -> Hop {
        self.peer.hop
    }

    /// What the link costs, if the client says so (moq-lite 05 and later).
    pub fn cost(&self) -> Option<u64> {
        self.peer.cost
    }

    /// What the client may hear of and subscribe to: mostly a part of the server's origin, narrowed by
    /// [`OriginConsumer::scope`] or with a root of its own by [`OriginConsumer::with_root`]. Default: what the
    /// [`Server`] has.
    ///
    /// The session keeps the time of [`Server::clock`], so make the server with the origin whose parts are
    /// handed out.
    pub fn with_publish(mut self, origin: OriginConsumer) -> Self {
        self.origins.publish = Some(origin);
        self
    }

    /// Where the broadcasts of the client appear; see [`with_publish`](Self::with_publish). Default: what
    /// the [`Server`] has.
    pub fn with_consume(mut self, origin: OriginProducer) -> Self {
        self.origins.consume = Some(origin);
        self
    }

    /// Both: what a relay does.
    pub fn with_origin(self, origin: &OriginProducer) -> Self {
        self.with_publish(origin.consume()).with_consume(origin.clone())
    }

    /// Takes the client: it hears of us now. Before it is [`ready`](Self::ready), whoever it is.
    ///
    /// If the session is over by now, that is what its [`closed`](Session::closed) says.
    pub fn accept(mut self) -> Session {
        self.is_decided = true;
        self.shared.accept(mem::take(&mut self.origins).admit(self.id));
        Session::new(self.shared.clone())
    }

    /// Sends the client away, with the [session code](Error::session_code) of `error`.
    pub fn reject(mut self, error: Error) {
        self.refuse(error);
    }

    fn refuse(&mut self, error: Error) {
        if !mem::replace(&mut self.is_decided, true) {
            self.shared.end(SessionEnd::Close(error));
        }
    }
}

impl Drop for SessionRequest {
    fn drop(&mut self) {
        if self.slot.is_used() {
            self.shared.forget(&mut self.slot);
        }
        self.refuse(Error::Unauthorized);
    }
}

impl fmt::Debug for SessionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionRequest")
            .field("version", &self.version())
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
