//! The state that a driver and its handles share.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::estimates::PathEstimates;
use super::goaway::Goaway;
use super::origins::AdmittedOrigins;
use super::peer_request::Decide;
use super::stats::SessionCells;
use crate::census::census;
use crate::machine::{Config, Token};
use crate::model::base::sync::Mutex;
use crate::model::base::{Result, WaitSlot, Wakers, change, count, lock, wait_on};
use crate::model::routing::PeerRequester;
use crate::slab::Slab;
use crate::stream::Side;
use crate::{AuthToken, Error, LimitKind, Path, Peer, Version};

/// The state that a [`Driver`](super::Driver) and its handles share.
#[derive(Debug)]
pub(crate) struct SessionShared {
    pub(crate) cells: SessionCells,
    pub(crate) estimates: PathEstimates,
    pub(crate) side: Side,
    goaway_timeout: Duration,
    /// How many requests for tracks there may be.
    max_tracks: usize,
    pub(super) state: Mutex<SessionState>,
    /// Wakes the driver after a command.
    driver: Waker,
    /// Requests broadcasts of the peer. Not set if the session does not consume.
    pub(super) peer: OnceLock<PeerRequester>,
}

#[derive(Debug)]
pub(super) struct SessionState {
    version: Version,
    /// The content of the peer's SETUP, for the decision on the session.
    peer: Option<Peer>,
    commands: SessionCommands,
    pub(super) peer_goaway: Option<Goaway>,
    pub(super) closed: Option<Error>,
    /// The requests for tracks whose handle exists, each with the reason of its end.
    pub(super) tracks: Slab<Option<Error>>,
    pub(super) tracks_waiters: Wakers,
    /// Handles that wait for the peer's SETUP, for its GOAWAY, and for the end.
    peer_waiters: Wakers,
    pub(super) goaway_waiters: Wakers,
    pub(super) close_waiters: Wakers,
}

/// Commands of the application to the session, carried out in this order.
#[derive(Debug, Default)]
pub(crate) struct SessionCommands {
    /// The tokens of requests, by the prefix of their paths.
    pub(crate) tokens: BTreeMap<Path, Vec<AuthToken>>,
    /// Accept the peer.
    pub(crate) accept: Option<AdmittedOrigins>,
    /// Decides on each request of the peer.
    pub(crate) decide: Option<Decide>,
    /// Ask for the tracks below this prefix; `None`: no longer.
    pub(crate) tracks: BTreeMap<Token, Option<Path>>,
    /// Send GOAWAY with this URI and timeout.
    pub(crate) goaway: Option<(Box<str>, Duration)>,
    pub(crate) end: Option<SessionEnd>,
}

#[derive(Debug)]
pub(crate) enum SessionEnd {
    Close(Error),
    Drain,
}

impl SessionShared {
    pub(crate) fn new(config: &Config, driver: Waker, probe: Waker) -> Arc<Self> {
        let version = config.agreed.version();
        let (peer, commands, peer_goaway, closed) = Default::default();
        let (tracks, tracks_waiters) = Default::default();
        let (peer_waiters, goaway_waiters, close_waiters) = Default::default();
        let state = Mutex::new(SessionState {
            version,
            peer,
            commands,
            peer_goaway,
            closed,
            tracks,
            tracks_waiters,
            peer_waiters,
            goaway_waiters,
            close_waiters,
        });
        Arc::new(Self {
            cells: SessionCells::default(),
            estimates: PathEstimates::new(probe),
            side: config.side,
            goaway_timeout: config.limits.goaway_timeout,
            max_tracks: config.limits.announce_requests,
            state,
            driver,
            peer: OnceLock::new(),
        })
    }

    fn command(&self, command: impl FnOnce(&mut SessionCommands)) {
        let mut state = lock(&self.state);
        if state.closed.is_some() {
            return;
        }
        command(&mut state.commands);
        drop(state);
        self.driver.wake_by_ref();
    }

    /// Accepts the peer, which may use these origins.
    pub(crate) fn accept(&self, admitted: AdmittedOrigins, decide: Option<Decide>) {
        self.set_peer(&admitted);
        self.command(|commands| (commands.accept, commands.decide) = (Some(admitted), decide));
    }

    /// Sets where broadcasts of the peer are requested.
    pub(crate) fn set_peer(&self, admitted: &AdmittedOrigins) {
        if let Some(admission) = &admitted.admission {
            let _ = self.peer.set(admission.name().clone());
        }
    }

    /// The last command counts, except that a close can't be replaced by a drain.
    pub(crate) fn end(&self, end: SessionEnd) {
        self.command(|commands| match commands.end {
            Some(SessionEnd::Close(_)) => {}
            _ => commands.end = Some(end),
        });
    }

    pub(crate) fn version(&self) -> Version {
        lock(&self.state).version
    }

    /// Sets the tokens of requests for paths under `prefix`.
    pub(crate) fn set_tokens(&self, prefix: Path, tokens: Vec<AuthToken>) {
        self.command(|commands| drop(commands.tokens.insert(prefix, tokens)));
    }

    /// Asks for the tracks below a prefix.
    pub(super) fn subscribe_tracks(&self, prefix: Path) -> Result<Token, Error> {
        if let Some(error) = self.close_reason() {
            return Err(error);
        }
        self.peer.get().ok_or(Error::Unauthorized)?.check(&prefix)?;
        let mut state = lock(&self.state);
        if state.tracks.len() >= self.max_tracks {
            return Err(Error::Limit(LimitKind::AnnounceRequests));
        }
        let request = state.tracks.insert(None).into();
        state.commands.tracks.insert(request, Some(prefix));
        drop(state);
        self.driver.wake_by_ref();
        Ok(request)
    }

    /// The handle of a request for tracks was dropped. A request that the driver has not seen vanishes.
    pub(super) fn unsubscribe_tracks(&self, request: Token) {
        let mut state = lock(&self.state);
        let has_ended = state.tracks.remove(request.into()).flatten().is_some();
        let is_unseen = state.commands.tracks.remove(&request).is_some();
        if has_ended || is_unseen || state.closed.is_some() {
            return;
        }
        state.commands.tracks.insert(request, None);
        drop(state);
        self.driver.wake_by_ref();
    }

    /// A request for tracks is over.
    pub(crate) fn tracks_ended(&self, request: Token, error: Error) {
        change(&self.state, |state, wakes| {
            if let Some(ended) = state.tracks.get_mut(request.into()) {
                *ended = Some(error);
                state.tracks_waiters.take(wakes);
            }
        });
    }

    /// Waits until the peer's SETUP was read.
    pub(crate) fn wait_peer(
        &self,
        slot: &mut WaitSlot,
        waker: Option<&Waker>,
    ) -> Poll<Result<Peer, Error>> {
        wait_on(
            &self.state,
            waker,
            slot,
            |state| &mut state.peer_waiters,
            |state| match (&state.closed, &state.peer) {
                (Some(error), _) => Poll::Ready(Err(error.clone())),
                (None, Some(peer)) => Poll::Ready(Ok(peer.clone())),
                (None, None) => Poll::Pending,
            },
        )
    }

    /// Removes the waiter in `slot`.
    pub(crate) fn forget(&self, slot: &mut WaitSlot) {
        let unused = lock(&self.state).peer_waiters.free(slot);
        drop(unused);
    }

    pub(crate) fn set_peer_setup(&self, peer: Peer) {
        change(&self.state, |state, wakes| {
            state.peer = Some(peer);
            state.peer_waiters.take(wakes);
        });
    }

    /// The first GOAWAY counts, but a later one can make the deadline earlier.
    pub(super) fn go_away(&self, goaway: Goaway) {
        let timeout = goaway.timeout.unwrap_or(self.goaway_timeout);
        self.command(|commands| {
            let first = (goaway.uri.unwrap_or_default(), timeout);
            let (_, first) = commands.goaway.get_or_insert(first);
            *first = timeout.min(*first);
        });
    }

    pub(crate) fn take_commands(&self) -> SessionCommands {
        std::mem::take(&mut lock(&self.state).commands)
    }

    pub(crate) fn going_away(&self, goaway: Goaway) {
        change(&self.state, |state, wakes| {
            state.peer_goaway = Some(goaway);
            state.goaway_waiters.take(wakes);
        });
    }

    /// Lets the driver run the commands again, after the work that is queued now.
    pub(crate) fn wake_driver(&self) {
        self.driver.wake_by_ref();
    }

    pub(crate) fn set_version(&self, version: Version) {
        lock(&self.state).version = version;
    }

    pub(crate) fn refuse_group(&self) {
        count(&self.cells.refused_groups);
    }

    pub(crate) fn skip_group(&self) {
        count(&self.cells.skipped_groups);
    }

    pub(crate) fn closed(&self, error: Error) {
        self.estimates.end(error.clone());
        // Dropped after the lock is released, because it may hold origins.
        let _unfulfilled = change(&self.state, |state, wakes| {
            state.closed.get_or_insert(error);
            let SessionState {
                tracks_waiters, peer_waiters, goaway_waiters, close_waiters, ..
            } = state;
            for waiting in [tracks_waiters, peer_waiters, goaway_waiters, close_waiters] {
                waiting.take(wakes);
            }
            state.tracks = Slab::default();
            std::mem::take(&mut state.commands)
        });
    }

    /// Why the session is over, if it is.
    pub(crate) fn close_reason(&self) -> Option<Error> {
        lock(&self.state).closed.clone()
    }
}

census! { SessionCommands { counts: tokens, accept, decide, tracks, goaway, end; } }

census! { SessionState {
    counts: tracks, tracks_waiters, peer_waiters, goaway_waiters, close_waiters;
    within: commands;
    plain: version, peer, peer_goaway, closed;
} }

census! { SessionShared { within: estimates, state; plain: cells, side, goaway_timeout, max_tracks, driver, peer; } }
