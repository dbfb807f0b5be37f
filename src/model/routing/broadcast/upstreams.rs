//! The sessions that have a broadcast.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use smallvec::SmallVec;

use crate::census::census;
use crate::model::base::{DeferredWakes, Horizon, Rank, Route, Wakers};
use crate::model::cache::{TrackProducer, TrackShared};

/// The desks of a broadcast; none if it is the application's.
#[derive(Default)]
pub(crate) struct Upstreams {
    by_id: BTreeMap<u64, UpstreamEntry>,
    /// Best first; as in the table, the newest first among equals.
    order: BTreeSet<(Rank, Reverse<u64>)>,
    last: u64,
}

/// Where one session is asked for tracks.
pub(super) struct UpstreamEntry {
    pub(super) id: u64,
    pub(super) route: Route,
    pub(super) requests: VecDeque<UpstreamRequest>,
    pub(super) handler: Wakers,
}

/// A track to be brought.
pub(super) struct UpstreamRequest {
    /// A source of it already, so that it does not end while it waits here.
    pub(super) track: TrackProducer,
    pub(super) tried: FailedUpstreams,
}

/// The desks that could not bring a track.
pub(super) type FailedUpstreams = SmallVec<[u64; 2]>;

impl UpstreamEntry {
    fn place(&self) -> (Rank, Reverse<u64>) {
        (self.route.rank(), Reverse(self.id))
    }
}

impl Upstreams {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn open(&mut self, route: Route) -> u64 {
        self.last += 1;
        let (requests, handler) = Default::default();
        self.insert(UpstreamEntry { id: self.last, route, requests, handler });
        self.last
    }

    pub(super) fn insert(&mut self, desk: UpstreamEntry) {
        self.order.insert(desk.place());
        self.by_id.insert(desk.id, desk);
    }

    pub(super) fn find(&mut self, id: u64) -> Option<&mut UpstreamEntry> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn take(&mut self, id: u64) -> Option<UpstreamEntry> {
        let desk = self.by_id.remove(&id)?;
        self.order.remove(&desk.place());
        Some(desk)
    }

    pub(super) fn best_first(&self) -> impl Iterator<Item = &UpstreamEntry> + Clone {
        self.order.iter().filter_map(|(_, Reverse(id))| self.by_id.get(id))
    }

    /// The best desk for a reader of whom only this is known.
    pub(crate) fn first_for(&self, horizon: Option<Horizon>) -> Option<u64> {
        let shows =
            |desk: &&UpstreamEntry| horizon.is_none_or(|horizon| horizon.shows(&desk.route));
        self.best_first().find(shows).map(|desk| desk.id)
    }

    /// The desk that was asked for the track last, if it is still there.
    pub(super) fn current(&self, track: &TrackShared) -> Option<&UpstreamEntry> {
        self.by_id.get(&track.supplier()?)
    }

    /// The best desk for all who read the track, or else for some, but for those that were tried.
    pub(super) fn best_for(&self, track: &TrackShared, tried: &[u64]) -> Option<&UpstreamEntry> {
        let mut open = self.best_first().filter(|desk| !tried.contains(&desk.id));
        let for_all = open.clone().find(|desk| track.suits_all(&desk.route));
        for_all.or_else(|| open.find(|desk| track.suits_some(&desk.route)))
    }

    /// The desk that should be asked for a track that runs, if it is another one.
    pub(super) fn better_for(&self, track: &TrackShared) -> Option<&UpstreamEntry> {
        let best = self.best_for(track, &[])?;
        let stays = |desk: &UpstreamEntry| {
            desk.id == best.id || !track.suits_all(&best.route) && track.suits_some(&desk.route)
        };
        let moves = !self.current(track).is_some_and(stays);
        moves.then_some(best)
    }

    pub(super) fn ask(&mut self, id: u64, request: UpstreamRequest, woken: &mut DeferredWakes) {
        if let Some(desk) = self.find(id) {
            desk.requests.push_back(request);
            desk.handler.take(woken);
        }
    }

    /// Takes out the requests that nobody wants any more.
    pub(crate) fn withdraw(&mut self) -> Vec<TrackProducer> {
        let mut vain = Vec::new();
        for desk in self.by_id.values_mut() {
            for request in std::mem::take(&mut desk.requests) {
                if request.track.is_asked() {
                    desk.requests.push_back(request);
                } else {
                    vain.push(request.track);
                }
            }
        }
        vain
    }
}

census! { each UpstreamRequest { plain: track, tried; } }

census! { each UpstreamEntry { counts: handler; within: requests; plain: id, route; } }

census! { Upstreams { counts: order; within: by_id; plain: last; } }
