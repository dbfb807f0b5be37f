//! A handle to a session.

use std::sync::Arc;
use std::task::{Poll, Waker};

use super::close_reason::CloseReason;
use super::goaway::Goaway;
use super::probe::Probe;
use super::shared::{SessionEnd, SessionShared};
use super::stats::{SessionGauges, SessionStats};
use super::tracks_request::TracksRequest;
use crate::model::base::{Result, WaitSlot, change, impl_debug, wait, wait_on};
use crate::model::routing::BroadcastConsumer;
use crate::{AuthToken, Error, Path, Version};

/// A handle to a running session.
///
/// When the last clone is dropped, the session is [drained](Session::drain).
///
/// ```
/// use smoq::{Client, Error, Instant, Version};
///
/// let (mut session, mut driver) = Client::new().connect(Version::Lite06, Instant::ZERO);
/// // The driver goes to its loop; the handle stays with the application.
/// assert_eq!(session.version(), Version::Lite06);
/// assert_eq!(session.gauges().announced, 0);
/// assert!(session.try_closed().is_pending());
///
/// session.close(Error::App(7));
/// while driver.work(Instant::ZERO) {}
/// assert!(session.try_closed().is_ready());
/// ```
pub struct Session {
    handle: Arc<SessionHandle>,
    slot: WaitSlot,
    goaway_slot: WaitSlot,
}

impl Session {
    pub(crate) fn new(shared: Arc<SessionShared>) -> Self {
        Self::of(Arc::new(SessionHandle(shared)))
    }

    fn of(handle: Arc<SessionHandle>) -> Self {
        let (slot, goaway_slot) = Default::default();
        Self { handle, slot, goaway_slot }
    }

    fn shared(&self) -> &SessionShared {
        &self.handle.0
    }

    /// The version of the session. moq-lite 01 and 02 share an ALPN. There it is the preferred one
    /// of them until SETUP has settled it, which happens before anything else is received.
    pub fn version(&self) -> Version {
        self.shared().version()
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        self.shared().close_reason().is_some()
    }

    /// Whether both handles belong to the same session.
    pub fn is_clone(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.handle, &other.handle)
    }

    /// Closes the session at once, with the code of `error`.
    pub fn close(&self, error: Error) {
        self.shared().end(SessionEnd::Close(error));
    }

    /// Closes the session when everything that is owed to the peer was sent, at the latest after
    /// [`Limits::close_timeout`](crate::Limits::close_timeout). New requests of the peer are refused
    /// meanwhile.
    pub fn drain(&self) {
        self.shared().end(SessionEnd::Drain);
    }

    /// Asks the peer to connect elsewhere (GOAWAY, moq-lite 04 and later, moq-transport). New
    /// requests are refused in both directions. Running subscriptions go on, and local readers move
    /// to another session with the same content, if there is one. When none are left, the session
    /// is closed as by [`drain`](Self::drain), with [`Error::SessionClosed`]. At the deadline it is
    /// closed in any case, with [`Error::GoawayTimeout`] if the peer still reads something. On
    /// versions without GOAWAY the peer is not told, and the rest is the same.
    ///
    /// Keep a clone of the handle: when the last one is dropped, or [`drain`](Self::drain) is
    /// called, only what is owed is still sent. A second call can only make the deadline earlier.
    ///
    /// # Errors
    ///
    /// [`Error::Limit`] if the URI has more than [`Goaway::MAX_URI`] bytes; [`Error::Unsupported`]
    /// if a client names a URI. Nothing is sent then, and the session goes on.
    pub fn go_away(&self, goaway: Goaway) -> Result<(), Error> {
        goaway.check(self.shared().side)?;
        self.shared().go_away(goaway);
        Ok(())
    }

    /// Requests a broadcast of the peer, by its path there. The peer need not have announced it.
    /// Whether the peer has it shows when a track is subscribed: the reader gets the error. The
    /// broadcast ends when it has no handle and none of its tracks is read, and with the session.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthorized`] for a path outside of the origin of
    /// [`Client::with_consume`](crate::Client::with_consume), or without one;
    /// [`Error::SessionClosed`] if the session is over; [`Error::Limit`] past
    /// [`Limits::broadcast_requests`](crate::Limits::broadcast_requests) that the driver has not
    /// taken yet. The session goes on.
    pub fn request_broadcast(&self, path: impl Into<Path>) -> Result<BroadcastConsumer, Error> {
        self.shared().peer.get().ok_or(Error::Unauthorized)?.request(&path.into())
    }

    /// Asks the peer to offer each track of the broadcasts below `prefix`, those that exist and those that come, until the
    /// handle is dropped (moq-transport: SUBSCRIBE_TRACKS, 18 and later; SUBSCRIBE_NAMESPACE before). A track that the peer
    /// offers appears as one of its broadcast, in the origin of [`Client::with_consume`](crate::Client::with_consume):
    /// [`BroadcastConsumer::track_names`] lists it. Nothing of it flows before it is read, except from peers that can't be
    /// told so. Without this request a peer announces broadcasts, and the application has to know the names of their tracks.
    ///
    /// The request has the tokens of its prefix ([`set_request_tokens`](Self::set_request_tokens)), and belongs to this
    /// session: after a reconnect ask again. Whether the peer refused it shows in [`TracksRequest::ended`]. The tracks that
    /// were offered stay when the handle is dropped. A track that the peer leaves out (PUBLISH_SKIPPED) can still be
    /// subscribed by its name.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthorized`] for a prefix outside of the origin of `with_consume`, or without one; [`Error::Limit`] past
    /// [`Limits::announce_requests`](crate::Limits::announce_requests) or
    /// [`Limits::path_bytes`](crate::Limits::path_bytes); the reason if the session is over. Nothing is sent then.
    pub fn subscribe_tracks(&self, prefix: impl Into<Path>) -> Result<TracksRequest, Error> {
        let prefix = prefix.into();
        let request = self.shared().subscribe_tracks(prefix.clone())?;
        Ok(TracksRequest::new(self.handle.0.clone(), request, prefix))
    }

    /// Sets the authorization tokens of the requests for paths under `prefix` that are made from now on, in place of those
    /// of [`Client::with_request_token`](crate::Client::with_request_token) or of an earlier call. They are sent on
    /// moq-transport. No tokens are a choice too: then those of a shorter prefix do not count.
    pub fn set_request_tokens(&self, prefix: impl Into<Path>, tokens: Vec<AuthToken>) {
        self.shared().set_tokens(prefix.into(), tokens);
    }

    /// The counters of the session. Reading them takes no lock.
    pub fn stats(&self) -> SessionStats {
        self.shared().cells.load()
    }

    /// The current state of the session, and of the network path. Reading it takes no lock.
    pub fn gauges(&self) -> SessionGauges {
        self.shared().cells.gauges()
    }

    /// Asks the peer for estimates of the path from it to this side, as long as the handle lives.
    pub fn probe(&self) -> Probe {
        Probe::new(self.handle.0.clone())
    }

    fn wait_closed(&mut self, waker: Option<&Waker>) -> Poll<CloseReason> {
        let (state, slot) = (&self.handle.0.state, &mut self.slot);
        wait_on(
            state,
            waker,
            slot,
            |state| &mut state.close_waiters,
            |state| match &state.closed {
                Some(error) => Poll::Ready(error.clone().into()),
                None => Poll::Pending,
            },
        )
    }

    fn wait_going_away(&mut self, waker: Option<&Waker>) -> Poll<Result<Goaway, Error>> {
        let (state, slot) = (&self.handle.0.state, &mut self.goaway_slot);
        wait_on(
            state,
            waker,
            slot,
            |state| &mut state.goaway_waiters,
            |state| match (&state.peer_goaway, &state.closed) {
                (Some(goaway), _) => Poll::Ready(Ok(goaway.clone())),
                (None, Some(error)) => Poll::Ready(Err(error.clone())),
                (None, None) => Poll::Pending,
            },
        )
    }

    wait! {
        /// Waits for GOAWAY of the peer. New requests to it fail with [`Error::GoingAway`], and
        /// readers move to another session with the same content, if there is one. The rest goes on
        /// until the peer closes, so a new session should be made before. Each call returns the
        /// same GOAWAY.
        ///
        /// # Errors
        ///
        /// Why the session is over, if the peer never sent GOAWAY.
        wait_going_away => poll_going_away, going_away, try_going_away() -> Result<Goaway, Error>
    }

    wait! {
        /// Waits for the end of the session and returns the reason.
        wait_closed => poll_closed, closed, try_closed() -> CloseReason
    }
}

impl Clone for Session {
    fn clone(&self) -> Self {
        Self::of(self.handle.clone())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Self { handle, slot, goaway_slot } = self;
        if slot.is_used() || goaway_slot.is_used() {
            let _freed = change(&handle.0.state, |state, _| {
                (state.close_waiters.free(slot), state.goaway_waiters.free(goaway_slot))
            });
        }
    }
}

impl_debug! { Session, it => version: &it.version() }

/// Dropped with the last clone of a [`Session`].
struct SessionHandle(Arc<SessionShared>);

impl Drop for SessionHandle {
    fn drop(&mut self) {
        self.0.end(SessionEnd::Drain);
    }
}
