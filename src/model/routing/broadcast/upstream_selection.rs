//! Which session each track of a broadcast is requested from.

use super::state::{BroadcastShared, BroadcastState, DeferredDrops};
use super::upstreams::{FailedUpstreams, UpstreamRequest};
use crate::Error;
use crate::model::base::{DeferredWakes, Reach, Route};
use crate::model::cache::TrackProducer;

impl BroadcastState {
    /// Requests a new track from an upstream.
    pub(crate) fn request_first(
        &mut self,
        entry: u64,
        mut track: TrackProducer,
        wakes: &mut DeferredWakes,
    ) {
        if let Some(found) = self.upstreams.find(entry) {
            track.attach(entry, &found.route);
            self.upstreams.request(
                entry,
                UpstreamRequest { track, failed: FailedUpstreams::new() },
                wakes,
            );
        }
    }

    /// Requests each running track from the upstream that is best for it now. The old upstream goes
    /// on until the new one delivers a group, even one that is already here.
    pub(super) fn select_upstreams(
        &mut self,
        deferred: &mut DeferredDrops,
        wakes: &mut DeferredWakes,
    ) {
        let tracks: Vec<_> = self.tracks.values().filter_map(|track| track.upgrade()).collect();
        for track in &tracks {
            if !track.is_running() {
                continue;
            }
            let better = self.upstreams.better_for(track);
            if let Some(entry) = better.filter(|entry| !track.select_again(entry.id, &entry.route))
            {
                let (entry, track) = (entry.id, track.add_upstream(entry.id, &entry.route, wakes));
                self.upstreams.request(
                    entry,
                    UpstreamRequest { track, failed: FailedUpstreams::new() },
                    wakes,
                );
            }
        }
        deferred.tracks.extend(tracks);
        if let Some(best) = self.upstreams.best_first().next() {
            self.route = best.route.clone();
        }
    }

    /// Requests a track from another upstream, because this one no longer delivers it. If there is
    /// no other, the track ends.
    pub(super) fn request_elsewhere(
        &mut self,
        mut request: UpstreamRequest,
        deferred: &mut DeferredDrops,
        wakes: &mut DeferredWakes,
    ) {
        let UpstreamRequest { track, failed } = &mut request;
        if !track.is_only_upstream() {
            deferred.spare.push(request.track);
            return;
        }
        let running = track.shared().is_running();
        let next = self.upstreams.best_for(track.shared(), failed).filter(|_| running);
        let next = next
            .map(|entry| (entry.id, track.shared().add_upstream(entry.id, &entry.route, wakes)));
        match next {
            Some((entry, next)) => {
                let failed = std::mem::take(failed);
                deferred.spare.push(request.track);
                self.upstreams.request(entry, UpstreamRequest { track: next, failed }, wakes);
            }
            None => deferred.requests.push(request.track),
        }
    }
}

impl BroadcastShared {
    /// Changes the upstreams, and updates the route wherever the broadcast is registered.
    pub(super) fn change<T>(
        &self,
        error: &Error,
        change: impl FnOnce(&mut BroadcastState, &mut DeferredDrops, &mut DeferredWakes) -> T,
    ) -> T {
        let (mut deferred, mut wakes) = (DeferredDrops::default(), DeferredWakes::default());
        let mut state = self.lock();
        let before = state.route.clone();
        let result = change(&mut state, &mut deferred, &mut wakes);
        let route = state.route.clone();
        let registrations = if route == before { Vec::new() } else { state.registrations.clone() };
        drop(state);
        for registration in registrations {
            // Elsewhere it is a single broadcast, even if it is a prefix here.
            registration.reroute(Route { reach: Reach::Exact, ..route.clone() });
        }
        deferred.refuse(error);
        wakes.wake();
        result
    }
}
