//! Finding the broadcasts of an origin.

use std::sync::Arc;
use std::task::{Poll, Waker};

use super::announce_reader::AnnounceReader;
use super::lookup::{PendingBroadcast, RoutedBroadcast};
use super::shared::{OriginShared, PathWatch};
use crate::model::base::{Clock, Horizon, Result, impl_debug, lock, wait};
use crate::model::cache::Cache;
use crate::model::routing::broadcast::BroadcastConsumer;
use crate::model::routing::scope::Scope;
use crate::model::routing::table::{AnnounceFilter, AnnounceQuota, RouteChange, TableReader};
use crate::{Error, Hop, Path};

/// A change of what is announced.
#[derive(Clone, Debug)]
pub struct Announce {
    /// Relative to the root of the consumer that returned it.
    pub path: Path,
    /// The broadcast; `None` if the one that was announced before is gone.
    pub broadcast: Option<BroadcastConsumer>,
}

/// Finds broadcasts and reads announcements. A clone continues from the position of the original.
pub struct OriginConsumer {
    shared: Arc<OriginShared>,
    reader: TableReader,
    watch: PathWatch,
    /// The broadcast that it requested and that is not there yet.
    pending: Option<PendingBroadcast>,
}

impl OriginConsumer {
    /// The hop that identifies the origin in announcements.
    pub fn hop(&self) -> Hop {
        self.shared.hop
    }

    pub(super) fn new(shared: Arc<OriginShared>, scope: Scope) -> Self {
        let reader = TableReader::new(scope, Horizon::default(), AnnounceFilter::default());
        Self { shared, reader, watch: PathWatch::default(), pending: None }
    }

    wait! {
        /// The next change: first everything that is announced, then what comes and goes. `None`
        /// when every [`OriginProducer`](crate::OriginProducer) is gone and everything was read.
        ///
        /// Changes between two calls are coalesced. A broadcast that came and went is left out. One
        /// that was replaced is gone and then announced. Another route to the same content is no
        /// change.
        next_announced => poll_announced, announced, try_announced() -> Option<Announce>
    }

    fn next_announced(&mut self, waker: Option<&Waker>) -> Poll<Option<Announce>> {
        let Self { shared, reader, .. } = self;
        let now = shared.cache.now();
        shared.read(reader, waker, |reader, state| {
            while let Some((path, change)) =
                reader.next(&mut state.table, now, AnnounceQuota::ENDLESS)
            {
                let broadcast = match change {
                    RouteChange::Announced(entry) => Some(entry.broadcast),
                    RouteChange::Gone => None,
                    RouteChange::Rerouted(_) => continue,
                };
                return Some(Some(Announce { path, broadcast }));
            }
            (state.producers == 0 && !reader.is_paused()).then_some(None)
        })
    }

    /// The broadcast that is announced under `path` at the moment.
    pub fn broadcast(&self, path: impl Into<Path>) -> Option<BroadcastConsumer> {
        self.best(&path.into(), Horizon::default())
    }

    wait! {
        /// The broadcast under exactly `path`, as soon as it is announced. `None` if that can't
        /// happen, because the path is not allowed or every
        /// [`OriginProducer`](crate::OriginProducer) is gone.
        next_broadcast => poll_announced_broadcast, announced_broadcast, try_announced_broadcast(
            path: &str
        ) -> Option<BroadcastConsumer>
    }

    fn next_broadcast(
        &mut self,
        waker: Option<&Waker>,
        path: &str,
    ) -> Poll<Option<BroadcastConsumer>> {
        let Self { shared, reader, watch, .. } = self;
        let Some(path) = reader.scope().absolute(&path.into()) else { return Poll::Ready(None) };
        watch.wait(shared, path.clone(), waker, |state| {
            let entry = state.table.best(&path, Horizon::default());
            let found = entry.map(|entry| entry.broadcast.clone());
            (found.is_some() || state.producers == 0).then_some(found)
        })
    }

    /// Creates another consumer that reads all announcements from the start.
    #[must_use]
    pub fn consume(&self) -> Self {
        Self::new(self.shared.clone(), self.reader.scope().clone())
    }

    /// A consumer of paths below one of `prefixes` only, relative to [`root`](Self::root), which
    /// reads all announcements from the start. `None` if nothing is left.
    pub fn scope(&self, prefixes: impl IntoIterator<Item: Into<Path>>) -> Option<Self> {
        let scope = self.reader.scope().narrowed(prefixes)?;
        Some(Self::new(self.shared.clone(), scope))
    }

    /// A consumer whose paths are relative to `prefix`, and which reads all announcements from the
    /// start. `None` if nothing there is allowed.
    pub fn with_root(&self, prefix: impl Into<Path>) -> Option<Self> {
        let scope = self.reader.scope().rooted(&prefix.into())?;
        Some(Self::new(self.shared.clone(), scope))
    }

    /// The path that is removed from every path.
    pub fn root(&self) -> &Path {
        self.reader.scope().root()
    }

    /// The prefixes that it sees, relative to [`root`](Self::root).
    pub fn allowed(&self) -> impl Iterator<Item = &Path> {
        self.reader.scope().allowed()
    }

    /// Whether it sees `path`, relative to [`root`](Self::root).
    pub fn allows(&self, path: impl Into<Path>) -> bool {
        self.reader.scope().absolute(&path.into()).is_some()
    }

    /// Whether both handles belong to the same origin, whatever they see.
    pub fn is_clone(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Converts instants to the time of the origin.
    pub fn clock(&self) -> Clock {
        self.shared.clock.clone()
    }

    /// The cache of the tracks of the origin.
    pub(crate) fn cache(&self) -> &Arc<Cache> {
        &self.shared.cache
    }

    /// Reads the announcements below `prefix` for a peer with this horizon. It reads nothing if
    /// nothing there is allowed.
    pub(crate) fn reader(
        &self,
        prefix: &Path,
        horizon: Horizon,
        filter: AnnounceFilter,
    ) -> AnnounceReader {
        let scope = self.reader.scope().rooted(prefix).unwrap_or_else(Scope::nothing);
        AnnounceReader::new(self.shared.clone(), TableReader::new(scope, horizon, filter))
    }

    /// Finds the broadcast for a SUBSCRIBE of the same peer. If it `waits`, one that nothing leads to is pending.
    ///
    /// # Errors
    ///
    /// As [`request_broadcast`](Self::request_broadcast), at once, but [`Error::Unroutable`] also if the path is not
    /// allowed: a peer learns nothing about it.
    pub(crate) fn route(
        &self,
        path: &Path,
        horizon: Horizon,
        waits: bool,
    ) -> Result<RoutedBroadcast> {
        let path = self.reader.scope().absolute(path).ok_or(Error::Unroutable)?;
        self.shared.request(path, horizon, waits)
    }

    fn best(&self, path: &Path, horizon: Horizon) -> Option<BroadcastConsumer> {
        let path = self.reader.scope().absolute(path)?;
        let state = lock(&self.shared.state);
        state.table.best(&path, horizon).map(|entry| entry.broadcast.clone())
    }
}

impl Clone for OriginConsumer {
    fn clone(&self) -> Self {
        let reader = self.reader.fork(&mut lock(&self.shared.state).table);
        Self { shared: self.shared.clone(), reader, watch: PathWatch::default(), pending: None }
    }
}

impl Drop for OriginConsumer {
    fn drop(&mut self) {
        self.shared.forget(&mut self.reader);
        let former = self.watch.end(&mut lock(&self.shared.state));
        drop(former);
    }
}

impl_debug! { OriginConsumer, it => scope: it.reader.scope() }

impl OriginConsumer {
    wait! {
        /// The broadcast at `path`. If it is not announced, it is requested from an
        /// [`OriginDynamic`](super::OriginDynamic) of this process or from a peer that announced a
        /// prefix of the path (moq-lite 06 and later, moq-transport). The longest prefix decides.
        /// Whether a peer has the broadcast shows when a track is subscribed.
        ///
        /// The request is pending until it is answered, until another path is requested, or until
        /// this handle is dropped. If meanwhile the broadcast is announced, or a handler for a
        /// longer prefix appears, that one is used instead.
        ///
        /// # Errors
        ///
        /// [`Error::Unroutable`], at once, if nobody answers for the path; the error of the handler
        /// or peer that was asked; [`Error::Timeout`] past
        /// [`Limits::answer_timeout`](crate::Limits::answer_timeout); [`Error::Limit`] past
        /// [`Limits::broadcast_requests`](crate::Limits::broadcast_requests) or
        /// [`Limits::path_bytes`](crate::Limits::path_bytes); [`Error::Unauthorized`] for a path
        /// that this handle does not see. Other requests are not affected.
        next_requested => poll_request_broadcast, request_broadcast, try_request_broadcast(
            path: &str
        ) -> Result<BroadcastConsumer>
    }

    fn next_requested(
        &mut self,
        waker: Option<&Waker>,
        path: &str,
    ) -> Poll<Result<BroadcastConsumer>> {
        let path = Path::from(path);
        self.shared.cache.limits().check_path(&path)?;
        let absolute = self.reader.scope().absolute(&path);
        let Some(path) = absolute else { return Poll::Ready(Err(Error::Unauthorized)) };
        let pending = match &mut self.pending {
            Some(pending) if pending.path == path => pending,
            other => match self.shared.request(path, Horizon::default(), false)? {
                RoutedBroadcast::Ready(broadcast) => {
                    *other = None;
                    return Poll::Ready(Ok(broadcast));
                }
                RoutedBroadcast::Pending(pending) => other.insert(pending),
            },
        };
        let answer = pending.poll(waker);
        if answer.is_ready() {
            self.pending = None;
        }
        answer
    }
}
