//! Finding the broadcasts of an origin.

use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::announce_reader::AnnounceReader;
use super::lookup::{PendingBroadcast, RoutedBroadcast};
use super::shared::{OriginShared, PathWatch};
use crate::model::Result;
use crate::model::base::{Clock, Horizon, lock, wait};
use crate::model::cache::Cache;
use crate::model::routing::broadcast::BroadcastConsumer;
use crate::model::routing::scope::Scope;
use crate::model::routing::table::{AnnounceFilter, AnnounceQuota, RouteChange, TableReader};
use crate::{Error, Hop, Path};

/// A change of what is announced.
#[derive(Clone, Debug)]
pub struct Announce {
    /// Relative to the root of the consumer that gave it.
    pub path: Path,
    /// The broadcast; `None` if the one that was announced before is gone.
    pub broadcast: Option<BroadcastConsumer>,
}

/// Finds broadcasts, and hears of new ones. A clone goes on where the original is.
pub struct OriginConsumer {
    shared: Arc<OriginShared>,
    reader: TableReader,
    watch: PathWatch,
    /// The broadcast that it asked for and that is not there yet.
    pending: Option<PendingBroadcast>,
}

impl OriginConsumer {
    /// Who the origin is in announcements.
    pub fn hop(&self) -> Hop {
        self.shared.hop
    }

    pub(super) fn new(shared: Arc<OriginShared>, scope: Scope) -> Self {
        let reader = TableReader::new(scope, Horizon::default(), AnnounceFilter::default());
        Self { shared, reader, watch: PathWatch::default(), pending: None }
    }

    wait! {
        /// The next change: first all that is there, then what comes and goes.
        ///
        /// `None`: every [`OriginProducer`] is gone and everything was told. What happens between two
        /// calls is coalesced: a broadcast that came and went is not mentioned, one that was replaced
        /// is gone and then announced. That the same content comes by another route is no change.
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

    /// The broadcast that is announced under `path` now.
    pub fn get_broadcast(&self, path: impl Into<Path>) -> Option<BroadcastConsumer> {
        self.best(&path.into(), Horizon::default())
    }

    wait! {
        /// The broadcast under exactly `path`, as soon as it is announced. `None` if that can't
        /// happen: the path is not allowed, or every [`OriginProducer`] is gone.
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

    /// Another consumer of the same, to which everything is new.
    pub fn consume(&self) -> Self {
        Self::new(self.shared.clone(), self.reader.scope().clone())
    }

    /// A consumer of what is below one of `prefixes` only, relative to [`root`](Self::root), to which
    /// everything is new. `None` if nothing is left.
    pub fn scope(&self, prefixes: &[Path]) -> Option<Self> {
        let scope = self.reader.scope().narrowed(prefixes)?;
        Some(Self::new(self.shared.clone(), scope))
    }

    /// A consumer of what is below `prefix`, by paths relative to it, to which everything is new.
    /// `None` if nothing there is allowed.
    pub fn with_root(&self, prefix: impl Into<Path>) -> Option<Self> {
        let scope = self.reader.scope().rooted(&prefix.into())?;
        Some(Self::new(self.shared.clone(), scope))
    }

    /// What is taken from every path.
    pub fn root(&self) -> &Path {
        self.reader.scope().root()
    }

    /// The prefixes, relative to [`root`](Self::root), below which it sees.
    pub fn allowed(&self) -> impl Iterator<Item = &Path> {
        self.reader.scope().allowed()
    }

    /// Converts to the time of the origin.
    pub fn clock(&self) -> Clock {
        self.shared.clock.clone()
    }

    /// Where the tracks of the origin are kept.
    pub(crate) fn cache(&self) -> &Arc<Cache> {
        &self.shared.cache
    }

    /// What a peer with this horizon is to be told of what is below `prefix`, as far as it can be told.
    /// Nothing if nothing there is allowed.
    pub(crate) fn reader(
        &self,
        prefix: &Path,
        horizon: Horizon,
        filter: AnnounceFilter,
    ) -> AnnounceReader {
        let scope = self.reader.scope().rooted(prefix).unwrap_or_else(Scope::nothing);
        AnnounceReader::new(self.shared.clone(), TableReader::new(scope, horizon, filter))
    }

    /// What the same peer's SUBSCRIBE is served from.
    ///
    /// Errors: as [`request_broadcast`](Self::request_broadcast), at once.
    pub(crate) fn route(&self, path: &Path, horizon: Horizon) -> Result<RoutedBroadcast> {
        let path = self.reader.scope().absolute(path).ok_or(Error::Unroutable)?;
        self.shared.request(path, horizon)
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

impl fmt::Debug for OriginConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginConsumer").field("scope", self.reader.scope()).finish_non_exhaustive()
    }
}

impl OriginConsumer {
    wait! {
        /// The broadcast at `path`: one that is announced, or else one that somebody answers for without
        /// announcing it, an [`OriginDynamic`](super::OriginDynamic) here or a peer that announced a prefix
        /// of it (moq-lite 06 and later, moq-transport). The longest prefix is asked. Whether a peer has it
        /// is known when a track is asked for.
        ///
        /// The request stands until it is answered, another path is asked for, or this handle is dropped. When
        /// somebody better appears meanwhile, who announces it or answers for a longer prefix, that one is
        /// asked instead.
        ///
        /// Errors: [`Error::Unroutable`], at once, if nobody answers for it; that of who was asked;
        /// [`Error::Timeout`] if nobody answered within [`Limits::answer_time`](crate::Limits::answer_time);
        /// [`Error::Limit`] past [`Limits::broadcast_requests`](crate::Limits::broadcast_requests) or
        /// [`Limits::path_bytes`](crate::Limits::path_bytes);
        /// [`Error::Unauthorized`] outside of what this handle sees.
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
            other => match self.shared.request(path, Horizon::default())? {
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
