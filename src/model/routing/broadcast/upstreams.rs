//! The sessions that have a broadcast.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use smallvec::SmallVec;

use crate::census::census;
use crate::model::base::{DeferredWakes, Horizon, Rank, Route, Wakers};
use crate::model::cache::{TrackProducer, TrackShared};

/// The upstreams of a broadcast. An application's own broadcast has none.
#[derive(Default)]
pub(crate) struct Upstreams {
    by_id: BTreeMap<u64, UpstreamEntry>,
    /// Best first, and the newest first among equals, as in the routing table.
    order: BTreeSet<(Rank, Reverse<u64>)>,
    last: u64,
}

/// The requests for tracks to one session.
pub(super) struct UpstreamEntry {
    pub(super) id: u64,
    pub(super) route: Route,
    pub(super) requests: VecDeque<UpstreamRequest>,
    pub(super) request_waiter: Wakers,
}

/// A track that is requested from a session.
pub(super) struct UpstreamRequest {
    /// A producer for this upstream, which keeps the track alive while the request waits.
    pub(super) track: TrackProducer,
    pub(super) failed: FailedUpstreams,
}

/// The upstreams that could not deliver a track.
pub(super) type FailedUpstreams = SmallVec<[u64; 2]>;

impl UpstreamEntry {
    fn order_key(&self) -> (Rank, Reverse<u64>) {
        (self.route.rank(), Reverse(self.id))
    }
}

impl Upstreams {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn open(&mut self, route: Route) -> u64 {
        self.last += 1;
        let (requests, request_waiter) = Default::default();
        self.insert(UpstreamEntry { id: self.last, route, requests, request_waiter });
        self.last
    }

    pub(super) fn insert(&mut self, entry: UpstreamEntry) {
        self.order.insert(entry.order_key());
        self.by_id.insert(entry.id, entry);
    }

    pub(super) fn find(&mut self, id: u64) -> Option<&mut UpstreamEntry> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn take(&mut self, id: u64) -> Option<UpstreamEntry> {
        let entry = self.by_id.remove(&id)?;
        self.order.remove(&entry.order_key());
        Some(entry)
    }

    pub(super) fn best_first(&self) -> impl Iterator<Item = &UpstreamEntry> + Clone {
        self.order.iter().filter_map(|(_, Reverse(id))| self.by_id.get(id))
    }

    /// The best upstream for a reader with this horizon.
    pub(crate) fn first_for(&self, horizon: Option<Horizon>) -> Option<u64> {
        let shows =
            |entry: &&UpstreamEntry| horizon.is_none_or(|horizon| horizon.shows(&entry.route));
        self.best_first().find(shows).map(|entry| entry.id)
    }

    /// The upstream that was asked for the track last, if it still exists.
    pub(super) fn current(&self, track: &TrackShared) -> Option<&UpstreamEntry> {
        self.by_id.get(&track.upstream_id()?)
    }

    /// The best upstream for all readers of the track, or otherwise for some of them, except for
    /// those in `failed`.
    pub(super) fn best_for(&self, track: &TrackShared, failed: &[u64]) -> Option<&UpstreamEntry> {
        let mut open = self.best_first().filter(|entry| !failed.contains(&entry.id));
        let for_all = open.clone().find(|entry| track.allows_all(&entry.route));
        for_all.or_else(|| open.find(|entry| track.allows_any(&entry.route)))
    }

    /// The upstream that a running track should move to, if it is not the current one.
    pub(super) fn better_for(&self, track: &TrackShared) -> Option<&UpstreamEntry> {
        let best = self.best_for(track, &[])?;
        let stays = |entry: &UpstreamEntry| {
            entry.id == best.id || !track.allows_all(&best.route) && track.allows_any(&entry.route)
        };
        let moves = !self.current(track).is_some_and(stays);
        moves.then_some(best)
    }

    pub(super) fn request(&mut self, id: u64, request: UpstreamRequest, wakes: &mut DeferredWakes) {
        if let Some(entry) = self.find(id) {
            entry.requests.push_back(request);
            entry.request_waiter.take(wakes);
        }
    }

    /// Removes the requests that nobody wants any more.
    pub(crate) fn withdraw(&mut self) -> Vec<TrackProducer> {
        let mut unwanted = Vec::new();
        for entry in self.by_id.values_mut() {
            for request in std::mem::take(&mut entry.requests) {
                if request.track.has_readers() {
                    entry.requests.push_back(request);
                } else {
                    unwanted.push(request.track);
                }
            }
        }
        unwanted
    }
}

census! { each UpstreamRequest { plain: track, failed; } }

census! { each UpstreamEntry { counts: request_waiter; within: requests; plain: id, route; } }

census! { Upstreams { counts: order; within: by_id; plain: last; } }
