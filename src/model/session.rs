//! The ends of a session that applications hold: what it is made of, and a handle to it.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use super::broadcast::BroadcastConsumer;
use super::clock::Clock;
use super::driver::Driver;
use super::origin::{OriginConsumer, OriginProducer, PeerName};
use super::stats::{SessionCells, SessionStats, count};
use super::wakers::{WaitSlot, Wakers, Woken, lock, wait};
use crate::error::Error;
use crate::limits::Limits;
use crate::machine::trace::Sink;
use crate::path::Path;
use crate::stream::Side;
use crate::time::Instant;
use crate::version::{Agreed, Version, Versions};

/// What a session may read and write here, and how it behaves: the same for both ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Setup {
    pub(super) publish: Option<OriginConsumer>,
    pub(super) consume: Option<OriginProducer>,
    pub(super) versions: Versions,
    pub(super) limits: Limits,
    pub(super) path: Path,
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
                self.0.publish = Some(origin);
                self
            }

            /// Where the broadcasts of the peer appear. Default: they are not asked for.
            pub fn with_consume(mut self, origin: OriginProducer) -> Self {
                self.0.consume = Some(origin);
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
                let consume = self.0.consume.as_ref().map(OriginProducer::clock);
                let publish = || self.0.publish.as_ref().map(OriginConsumer::clock);
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
    /// The path of the URL that is dialed, which the peer is told from moq-lite 05 on. Default: none.
    pub fn with_path(mut self, path: impl Into<Path>) -> Self {
        self.0.path = path.into();
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

/// A handle to a running session.
///
/// When the last clone is dropped the session is [drained](Session::drain).
pub struct Session {
    handle: Arc<Handle>,
    slot: WaitSlot,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { handle: Arc::new(Handle(shared)), slot: WaitSlot::default() }
    }

    fn shared(&self) -> &Shared {
        &self.handle.0
    }

    /// What the session speaks. Where one ALPN stands for several, moq-lite 01 and 02, it is the most
    /// wanted of them until set-up has settled it, which is before anything else is heard of the peer.
    pub fn version(&self) -> Version {
        lock(&self.shared().state).version
    }

    /// Closes the session at once, with the code of `error`.
    pub fn close(&self, error: Error) {
        self.shared().wish(Wish::Close(error));
    }

    /// Closes the session when everything that is owed was sent, at the latest after
    /// [`Limits::close_time`]. New requests of the peer are refused meanwhile.
    pub fn drain(&self) {
        self.shared().wish(Wish::Drain);
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
        self.shared().peer.as_ref().ok_or(Error::Unauthorized)?.request(&path.into())
    }

    /// What the session did and holds. Takes no lock.
    pub fn stats(&self) -> SessionStats {
        self.shared().cells.load()
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
        _displaced = waker.and_then(|waker| state.waiters.register(&mut self.slot, waker));
        Poll::Pending
    }

    wait! {
        /// Until the session is over: why. [`Error::SessionClosed`] if nothing was wrong.
        wait_closed => poll_closed, closed, try_closed() -> Error
    }
}

impl Clone for Session {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone(), slot: WaitSlot::default() }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.slot.is_used() {
            let unused = lock(&self.handle.0.state).waiters.free(&mut self.slot);
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
        self.0.wish(Wish::Drain);
    }
}

/// What a [`Driver`] and its handles share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) cells: SessionCells,
    state: Mutex<State>,
    /// Tells the driver of a wish.
    driver: Waker,
    /// Who is asked for what it did not announce; nobody if nothing is consumed.
    peer: Option<PeerName>,
}

#[derive(Debug)]
struct State {
    version: Version,
    wish: Option<Wish>,
    closed: Option<Error>,
    waiters: Wakers,
}

/// What the application wants of the session itself.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    Close(Error),
    Drain,
}

impl Shared {
    pub(super) fn new(version: Version, driver: Waker, peer: Option<PeerName>) -> Arc<Self> {
        let (wish, closed, waiters) = Default::default();
        let state = Mutex::new(State { version, wish, closed, waiters });
        Arc::new(Self { cells: SessionCells::default(), state, driver, peer })
    }

    /// The last wish counts, but nothing softens a close.
    fn wish(&self, wish: Wish) {
        let mut state = lock(&self.state);
        if state.closed.is_some() || matches!(state.wish, Some(Wish::Close(_))) {
            return;
        }
        state.wish = Some(wish);
        drop(state);
        self.driver.wake_by_ref();
    }

    pub(super) fn take_wish(&self) -> Option<Wish> {
        lock(&self.state).wish.take()
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
        let mut woken = Woken::default();
        let mut state = lock(&self.state);
        state.closed.get_or_insert(error);
        state.waiters.take(&mut woken);
        drop(state);
        woken.wake();
    }
}
