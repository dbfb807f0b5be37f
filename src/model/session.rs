//! The ends of a session that applications hold: what it is made of, and a handle to it.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::broadcast::BroadcastConsumer;
use super::clock::Clock;
use super::driver::Driver;
use super::goaway::Goaway;
use super::origin::{OriginConsumer, OriginProducer, PeerName};
use super::probe::{Estimates, Probe};
use super::request::{Origins, SessionRequest, Terms};
use super::stats::{SessionCells, SessionStats, count};
use super::wakers::{WaitSlot, Wakers, Woken, lock, wait};
use crate::census::census;
use crate::error::Error;
use crate::hop::Cost;
use crate::limits::Limits;
use crate::machine::Config;
use crate::machine::trace::Sink;
use crate::path::Path;
use crate::peer::Peer;
use crate::stream::Side;
use crate::time::Instant;
use crate::version::{Agreed, Version, Versions};

/// What a session may read and write here, and how it behaves: the same for both ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Setup {
    pub(super) origins: Origins,
    pub(super) versions: Versions,
    pub(super) limits: Limits,
    pub(super) path: Path,
    pub(super) authority: Box<str>,
    pub(super) cost: Option<u64>,
    pub(super) trace: Trace,
    clock: Clock,
}

/// Makes the sink of each session that is to be recorded.
#[derive(Clone, Default)]
pub(super) struct Trace(Option<Arc<MakeSink>>);

type MakeSink = dyn Fn() -> Option<Box<dyn Sink>> + Send + Sync;

impl Trace {
    pub(super) fn sink(&self) -> Option<Box<dyn Sink>> {
        self.0.as_ref().and_then(|sink| sink())
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trace").field(&self.0.is_some()).finish()
    }
}

macro_rules! end {
    ($(#[$doc:meta])* $name:ident, $side:ident, $(#[$made:meta])* $make:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default)]
        pub struct $name(Setup);

        impl $name {
            /// One that neither publishes nor consumes, and speaks every version.
            pub fn new() -> Self {
                Self::default()
            }

            /// What the peer may hear of and subscribe to. Default: nothing.
            pub fn with_publish(mut self, origin: OriginConsumer) -> Self {
                self.0.origins.publish = Some(origin);
                self
            }

            /// Where the broadcasts of the peer appear. Default: they are not asked for.
            pub fn with_consume(mut self, origin: OriginProducer) -> Self {
                self.0.origins.consume = Some(origin);
                self
            }

            /// Both: what a relay does.
            pub fn with_origin(self, origin: &OriginProducer) -> Self {
                self.with_publish(origin.consume()).with_consume(origin.clone())
            }

            /// Which versions to speak, the most wanted first. Default: all.
            pub fn with_versions(mut self, versions: impl Into<Versions>) -> Self {
                self.0.versions = versions.into();
                self
            }

            /// Bounds of the session. Those of the cache are the origin's.
            pub fn with_limits(mut self, limits: Limits) -> Self {
                self.0.limits = limits;
                self
            }

            /// Records each session: `sink` is called at its beginning, and what it gives is where the
            /// [trace](crate::machine::trace) of that session goes; with `None` it is not recorded.
            /// A sink that takes no more ends its trace, not the session. Default: nothing is recorded.
            pub fn with_trace(
                mut self,
                sink: impl Fn() -> Option<Box<dyn Sink>> + Send + Sync + 'static,
            ) -> Self {
                self.0.trace = Trace(Some(Arc::new(sink)));
                self
            }

            /// The versions to offer or to choose from.
            pub fn versions(&self) -> &Versions {
                &self.0.versions
            }

            /// What turns the time of an adapter into that of the session.
            pub fn clock(&self) -> Clock {
                let Origins { publish, consume } = &self.0.origins;
                let consume = consume.as_ref().map(OriginProducer::clock);
                let publish = || publish.as_ref().map(OriginConsumer::clock);
                consume.or_else(publish).unwrap_or_else(|| self.0.clock.clone())
            }

            $(#[$made])*
            ///
            /// Give it what [`Versions::agreed`] says, or one version.
            pub fn $make(&self, agreed: impl Into<Agreed>, now: Instant) -> (Session, Driver) {
                Driver::new(&self.0, Side::$side, agreed.into(), now)
            }
        }
    };
}

end! {
    /// The end that dials. What it is to do, before there is a connection.
    Client, Client,
    /// A session on a connection that was dialed, with the version that its ALPN agreed on. Pure: an
    /// adapter calls it, and then drives the [`Driver`].
    connect
}

impl Client {
    /// The path of the URL that is dialed, and its query if it has one: what the root of the session is to
    /// be at the server. Told from moq-lite 05 on, and on moq-transport. Default: none.
    pub fn with_path(mut self, path: impl Into<Path>) -> Self {
        self.0.path = path.into();
        self
    }

    /// Host and port of the URL that is dialed. Told on moq-transport. Default: none.
    pub fn with_authority(mut self, authority: impl Into<Box<str>>) -> Self {
        self.0.authority = authority.into();
        self
    }

    /// What this link costs, as against others: it is added, at both ends, to the cost of what is announced
    /// over it, and of several ways to a broadcast the cheapest is taken, before the shortest (moq-lite 06
    /// and later, SETUP 4). 0 is a link that is free, [`Cost::MAX`] the largest cost. Default: 1, which is
    /// not told.
    pub fn with_cost(mut self, cost: u64) -> Self {
        self.0.cost = Some(cost.min(Cost::MAX));
        self
    }
}

end! {
    /// The end that is dialed. What it is to do with every connection.
    Server, Server,
    /// A session on a connection that was accepted, with the version that its ALPN agreed on. Pure:
    /// an adapter calls it, and then drives the [`Driver`].
    accept
}

impl Server {
    /// As [`accept`](Self::accept), but what comes of the session is decided when the client has said what
    /// it wants, and it is told nothing before.
    pub fn request(&self, agreed: impl Into<Agreed>, now: Instant) -> (SessionRequest, Driver) {
        Driver::request(&self.0, agreed.into(), now)
    }
}

/// A handle to a running session.
///
/// When the last clone is dropped the session is [drained](Session::drain).
pub struct Session {
    handle: Arc<Handle>,
    slot: WaitSlot,
    leave_slot: WaitSlot,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self::of(Arc::new(Handle(shared)))
    }

    fn of(handle: Arc<Handle>) -> Self {
        let (slot, leave_slot) = Default::default();
        Self { handle, slot, leave_slot }
    }

    fn shared(&self) -> &Shared {
        &self.handle.0
    }

    /// What the session speaks. Where one ALPN stands for several, moq-lite 01 and 02, it is the most
    /// wanted of them until set-up has settled it, which is before anything else is heard of the peer.
    pub fn version(&self) -> Version {
        self.shared().version()
    }

    /// Closes the session at once, with the code of `error`.
    pub fn close(&self, error: Error) {
        self.shared().end(End::Close(error));
    }

    /// Closes the session when everything that is owed was sent, at the latest after
    /// [`Limits::close_time`]. New requests of the peer are refused meanwhile.
    pub fn drain(&self) {
        self.shared().end(End::Drain);
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
        // Declared before the guard: dropped after the unlock.
        let _displaced;
        let mut state = lock(&self.handle.0.state);
        if let Some(error) = &state.closed {
            return Poll::Ready(error.clone());
        }
        _displaced = waker.and_then(|waker| state.closing.register(&mut self.slot, waker));
        Poll::Pending
    }

    fn wait_going_away(&mut self, waker: Option<&Waker>) -> Poll<Result<Goaway, Error>> {
        let waker = waker.cloned();
        // Declared before the guard: dropped after the unlock.
        let _displaced;
        let mut state = lock(&self.handle.0.state);
        if let Some(goaway) = &state.peer_goes {
            return Poll::Ready(Ok(goaway.clone()));
        }
        if let Some(error) = &state.closed {
            return Poll::Ready(Err(error.clone()));
        }
        _displaced = waker.and_then(|waker| state.leaving.register(&mut self.leave_slot, waker));
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
            let unused = (state.closing.free(slot), state.leaving.free(leave_slot));
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
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.end(End::Drain);
    }
}

/// What a [`Driver`] and its handles share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) cells: SessionCells,
    pub(super) estimates: Estimates,
    pub(super) side: Side,
    goaway_time: Duration,
    state: Mutex<State>,
    /// Tells the driver of a wish.
    driver: Waker,
    /// Who is asked for what it did not announce; nobody if nothing is consumed.
    peer: OnceLock<PeerName>,
}

#[derive(Debug)]
struct State {
    version: Version,
    /// What came of a peer that is to be decided on.
    peer: Option<Peer>,
    wishes: Wishes,
    peer_goes: Option<Goaway>,
    closed: Option<Error>,
    /// Who waits for the peer to be known, for the peer to go, and for the end.
    deciding: Wakers,
    leaving: Wakers,
    closing: Wakers,
}

/// What the application wants of the session itself, to be done in this order.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// It takes the peer.
    pub(super) accept: Option<Terms>,
    /// A place to go to, and how long there is for that.
    pub(super) goaway: Option<(Box<str>, Duration)>,
    pub(super) end: Option<End>,
}

#[derive(Debug)]
pub(super) enum End {
    Close(Error),
    Drain,
}

impl Shared {
    pub(super) fn new(config: &Config, driver: Waker, probe: Waker) -> Arc<Self> {
        let version = config.agreed.version();
        let (peer, wishes, peer_goes, closed) = Default::default();
        let (deciding, leaving, closing) = Default::default();
        let state = Mutex::new(State {
            version,
            peer,
            wishes,
            peer_goes,
            closed,
            deciding,
            leaving,
            closing,
        });
        Arc::new(Self {
            cells: SessionCells::default(),
            estimates: Estimates::new(probe),
            side: config.side,
            goaway_time: config.limits.goaway_time,
            state,
            driver,
            peer: OnceLock::new(),
        })
    }

    fn wish(&self, wish: impl FnOnce(&mut Wishes)) {
        let mut state = lock(&self.state);
        if state.closed.is_some() {
            return;
        }
        wish(&mut state.wishes);
        drop(state);
        self.driver.wake_by_ref();
    }

    /// The session may read and write these.
    pub(super) fn accept(&self, terms: Terms) {
        self.know(&terms);
        self.wish(|wishes| wishes.accept = Some(terms));
    }

    /// Where the broadcasts of the peer are asked for.
    pub(super) fn know(&self, terms: &Terms) {
        if let Some(door) = &terms.door {
            let _ = self.peer.set(door.name().clone());
        }
    }

    /// The last wish counts, but nothing softens a close.
    pub(super) fn end(&self, end: End) {
        self.wish(|wishes| match wishes.end {
            Some(End::Close(_)) => {}
            _ => wishes.end = Some(end),
        });
    }

    pub(super) fn version(&self) -> Version {
        lock(&self.state).version
    }

    /// Until the peer's set-up was read, for who decides on it.
    pub(super) fn wait_peer(
        &self,
        slot: &mut WaitSlot,
        waker: Option<&Waker>,
    ) -> Poll<Result<Peer, Error>> {
        let waker = waker.cloned();
        // Declared before the guard: dropped after the unlock.
        let _displaced;
        let mut state = lock(&self.state);
        if let Some(error) = &state.closed {
            return Poll::Ready(Err(error.clone()));
        }
        if let Some(peer) = &state.peer {
            return Poll::Ready(Ok(peer.clone()));
        }
        _displaced = waker.and_then(|waker| state.deciding.register(slot, waker));
        Poll::Pending
    }

    /// Whoever waited for the peer in `slot` does so no longer.
    pub(super) fn forget(&self, slot: &mut WaitSlot) {
        let unused = lock(&self.state).deciding.free(slot);
        drop(unused);
    }

    pub(super) fn set_up(&self, peer: Peer) {
        self.change(|state, woken| {
            state.peer = Some(peer);
            state.deciding.take(woken);
        });
    }

    /// What the first says counts, but for an earlier deadline.
    fn go_away(&self, goaway: Goaway) {
        let timeout = goaway.timeout.unwrap_or(self.goaway_time);
        self.wish(|wishes| {
            let first = (goaway.uri.unwrap_or_default(), timeout);
            let (_, first) = wishes.goaway.get_or_insert(first);
            *first = timeout.min(*first);
        });
    }

    pub(super) fn take_wishes(&self) -> Wishes {
        std::mem::take(&mut lock(&self.state).wishes)
    }

    pub(super) fn going_away(&self, goaway: Goaway) {
        self.change(|state, woken| {
            state.peer_goes = Some(goaway);
            state.leaving.take(woken);
        });
    }

    /// The driver looks at the wish again, behind what waits now.
    pub(super) fn look_again(&self) {
        self.driver.wake_by_ref();
    }

    pub(super) fn settle(&self, version: Version) {
        lock(&self.state).version = version;
    }

    pub(super) fn refuse_group(&self) {
        count(&self.cells.refused_groups);
    }

    pub(super) fn skip_group(&self) {
        count(&self.cells.skipped_groups);
    }

    pub(super) fn closed(&self, error: Error) {
        self.estimates.end(error.clone());
        // Dropped behind the unlock, with the origins that it may have.
        let _unfulfilled = self.change(|state, woken| {
            state.closed.get_or_insert(error);
            let State { deciding, leaving, closing, .. } = state;
            for waiting in [deciding, leaving, closing] {
                waiting.take(woken);
            }
            std::mem::take(&mut state.wishes)
        });
    }

    /// Why the session is over, if it is.
    pub(super) fn over(&self) -> Option<Error> {
        lock(&self.state).closed.clone()
    }

    /// Changes the state, then wakes those whom `change` put on the list.
    fn change<T>(&self, change: impl FnOnce(&mut State, &mut Woken) -> T) -> T {
        let mut woken = Woken::default();
        let mut state = lock(&self.state);
        let result = change(&mut state, &mut woken);
        drop(state);
        woken.wake();
        result
    }
}

census! { Wishes { counts: accept, goaway, end; } }
census! { State {
    counts: deciding, leaving, closing;
    within: wishes;
    plain: version, peer, peer_goes, closed;
} }
census! { Shared { within: estimates, state; plain: cells, side, goaway_time, driver, peer; } }
