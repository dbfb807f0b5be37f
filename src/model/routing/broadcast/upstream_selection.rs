//! Which session each track of a broadcast is requested from.

use super::state::{BroadcastShared, BroadcastState, DeferredDrops};
use super::upstreams::{FailedUpstreams, UpstreamRequest};
use crate::Error;
use crate::model::base::{DeferredWakes, Reach, Route};
use crate::model::cache::TrackProducer;

impl BroadcastState {
    /// Asks a desk for a track of which nothing is there yet.
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

    /// Lets every running track come from the desk that is best for it now. The old source goes on until
    /// the new one brings a group, which may be one that is here already.
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

    /// Asks another desk for a track that is not brought any more. If that was the last source and
    /// nobody is left who could be asked, the track ends.
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
    /// Changes the desks, and tells those who published the broadcast elsewhere of its new route.
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
            // Elsewhere it is one broadcast, whatever is below it here.
            registration.reroute(Route { reach: Reach::Exact, ..route.clone() });
        }
        deferred.refuse(error);
        wakes.wake();
        result
    }
}
