//! A handle to a session.

use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::goaway::Goaway;
use super::probe::Probe;
use super::shared::{SessionEnd, SessionShared};
use super::stats::SessionStats;
use crate::model::Result;
use crate::model::base::{WaitSlot, lock, wait};
use crate::model::routing::BroadcastConsumer;
use crate::{Error, Path, Version};

/// A handle to a running session.
///
/// When the last clone is dropped the session is [drained](Session::drain).
pub struct Session {
    handle: Arc<SessionHandle>,
    slot: WaitSlot,
    leave_slot: WaitSlot,
}

impl Session {
    pub(crate) fn new(shared: Arc<SessionShared>) -> Self {
        Self::of(Arc::new(SessionHandle(shared)))
    }

    fn of(handle: Arc<SessionHandle>) -> Self {
        let (slot, leave_slot) = Default::default();
        Self { handle, slot, leave_slot }
    }

    fn shared(&self) -> &SessionShared {
        &self.handle.0
    }

    /// What the session speaks. Where one ALPN stands for several, moq-lite 01 and 02, it is the most
    /// wanted of them until set-up has settled it, which is before anything else is heard of the peer.
    pub fn version(&self) -> Version {
        self.shared().version()
    }

    /// Closes the session at once, with the code of `error`.
    pub fn close(&self, error: Error) {
        self.shared().end(SessionEnd::Close(error));
    }

    /// Closes the session when everything that is owed was sent, at the latest after
    /// [`Limits::close_time`]. New requests of the peer are refused meanwhile.
    pub fn drain(&self) {
        self.shared().end(SessionEnd::Drain);
    }

    /// Asks the peer to go elsewhere (GOAWAY, moq-lite 04+ and moq-transport). New requests are refused
    /// from now on in both directions, and what runs goes on: our own readers move to another session
    /// that has the same content, if there is one. When nothing runs any more the session goes on as if
    /// [drained](Self::drain); [`Error::SessionClosed`] is its end. At the deadline it closes: with
    /// [`Error::GoawayTimeout`] if the peer still reads something. On versions without GOAWAY the peer is
    /// not told, and the rest is the same.
    ///
    /// Keep a clone: when the last one is dropped, or [`drain`](Self::drain) is called, what is owed is
    /// all that is still sent. A second call only makes the deadline earlier, if it does.
    ///
    /// Errors: [`Error::Limit`] if the URI has more than [`Goaway::MAX_URI`] bytes;
    /// [`Error::Unsupported`] if a client names one. Then nothing was done.
    pub fn go_away(&self, goaway: Goaway) -> Result<(), Error> {
        goaway.check(self.shared().side)?;
        self.shared().go_away(goaway);
        Ok(())
    }

    /// A broadcast of the peer, by its path there, whether the peer announced it or not: on versions where
    /// a prefix can't be announced, and for who knows better. Whether the peer has it is known when a track
    /// is asked for, whose reader gets the error. It ends when nobody has a handle to it nor reads a track of
    /// it, and with the session.
    ///
    /// Errors: [`Error::Unauthorized`] outside of the origin that [`Client::with_consume`] was given, or
    /// without one; [`Error::SessionClosed`]; [`Error::Limit`] past [`Limits::broadcast_requests`] that the
    /// driver did not look at yet.
    pub fn request_broadcast(&self, path: impl Into<Path>) -> Result<BroadcastConsumer, Error> {
        self.shared().peer.get().ok_or(Error::Unauthorized)?.request(&path.into())
    }

    /// What the session did and holds. Takes no lock.
    pub fn stats(&self) -> SessionStats {
        self.shared().cells.load()
    }

    /// Asks the peer what it knows of the path from it to us, as long as there is a handle.
    pub fn probe(&self) -> Probe {
        Probe::new(self.handle.0.clone())
    }

    /// Groups that this side was to send and did not send whole: too old for their subscriber,
    /// stopped by it, aborted or evicted.
    pub fn skipped_groups(&self) -> u64 {
        self.stats().skipped_groups
    }

    /// Streams that the peer sent and that were not wanted (moq-transport): another subgroup than 0, or a
    /// group without its first objects.
    pub fn refused_groups(&self) -> u64 {
        self.stats().refused_groups
    }

    /// Datagrams that the peer sent, that came, and that were of no use: malformed, of no subscription of
    /// ours, doubled, too old, or more than [`Limits::datagrams`] at once. Those that the network lost
    /// are not known.
    pub fn lost_datagrams(&self) -> u64 {
        self.stats().lost_datagrams
    }

    fn wait_closed(&mut self, waker: Option<&Waker>) -> Poll<Error> {
        let waker = waker.cloned();
        // Declared before the guard, so that it is dropped after the lock is released.
        let _displaced;
        let mut state = lock(&self.handle.0.state);
        if let Some(error) = &state.closed {
            return Poll::Ready(error.clone());
        }
        _displaced = waker.and_then(|waker| state.close_waiters.register(&mut self.slot, waker));
        Poll::Pending
    }

    fn wait_going_away(&mut self, waker: Option<&Waker>) -> Poll<Result<Goaway, Error>> {
        let waker = waker.cloned();
        // Declared before the guard, so that it is dropped after the lock is released.
        let _displaced;
        let mut state = lock(&self.handle.0.state);
        if let Some(goaway) = &state.peer_goaway {
            return Poll::Ready(Ok(goaway.clone()));
        }
        if let Some(error) = &state.closed {
            return Poll::Ready(Err(error.clone()));
        }
        _displaced =
            waker.and_then(|waker| state.goaway_waiters.register(&mut self.leave_slot, waker));
        Poll::Pending
    }

    wait! {
        /// Until the peer asks us to go elsewhere: what it says. New requests to it fail with
        /// [`Error::GoingAway`], and readers move to another session that has the same content, if there
        /// is one; what else runs goes on until the peer closes, so a new session should be made before.
        /// Asked again it says the same.
        ///
        /// Errors: why the session is over, if the peer never said so.
        wait_going_away => poll_going_away, going_away, try_going_away() -> Result<Goaway, Error>
    }

    wait! {
        /// Until the session is over: why. [`Error::SessionClosed`] if nothing was wrong.
        wait_closed => poll_closed, closed, try_closed() -> Error
    }
}

impl Clone for Session {
    fn clone(&self) -> Self {
        Self::of(self.handle.clone())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Self { handle, slot, leave_slot } = self;
        if slot.is_used() || leave_slot.is_used() {
            let mut state = lock(&handle.0.state);
            let unused = (state.close_waiters.free(slot), state.goaway_waiters.free(leave_slot));
            drop(state);
            drop(unused);
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("version", &self.version()).finish_non_exhaustive()
    }
}

/// All clones of a [`Session`] together.
struct SessionHandle(Arc<SessionShared>);

impl Drop for SessionHandle {
    fn drop(&mut self) {
        self.0.end(SessionEnd::Drain);
    }
}
