//! Which session each track of a broadcast is requested from.

use super::state::{BroadcastShared, BroadcastState, DeferredDrops};
use super::upstreams::{FailedUpstreams, UpstreamRequest};
use crate::Error;
use crate::model::base::{DeferredWakes, Reach, Route};
use crate::model::cache::TrackProducer;

impl BroadcastState {
    /// Asks a desk for a track of which nothing is there yet.
    pub(crate) fn ask_first(
        &mut self,
        desk: u64,
        mut track: TrackProducer,
        woken: &mut DeferredWakes,
    ) {
        if let Some(found) = self.desks.find(desk) {
            track.attach(desk, &found.route);
            self.desks.ask(desk, UpstreamRequest { track, tried: FailedUpstreams::new() }, woken);
        }
    }

    /// Lets every running track come from the desk that is best for it now. The old source goes on until
    /// the new one brings a group, which may be one that is here already.
    pub(super) fn steer(&mut self, debris: &mut DeferredDrops, woken: &mut DeferredWakes) {
        let tracks: Vec<_> = self.tracks.values().filter_map(|track| track.upgrade()).collect();
        for track in &tracks {
            if !track.is_running() {
                continue;
            }
            let better = self.desks.better_for(track);
            if let Some(desk) = better.filter(|desk| !track.prefer(desk.id, &desk.route)) {
                let (desk, track) = (desk.id, track.supply(desk.id, &desk.route, woken));
                self.desks.ask(
                    desk,
                    UpstreamRequest { track, tried: FailedUpstreams::new() },
                    woken,
                );
            }
        }
        debris.tracks.extend(tracks);
        if let Some(best) = self.desks.best_first().next() {
            self.route = best.route.clone();
        }
    }

    /// Asks another desk for a track that is not brought any more. If that was the last source and
    /// nobody is left who could be asked, the track ends.
    pub(super) fn pass_on(
        &mut self,
        mut request: UpstreamRequest,
        debris: &mut DeferredDrops,
        woken: &mut DeferredWakes,
    ) {
        let UpstreamRequest { track, tried } = &mut request;
        if !track.is_only_source() {
            debris.spare.push(request.track);
            return;
        }
        let running = track.shared().is_running();
        let next = self.desks.best_for(track.shared(), tried).filter(|_| running);
        let next = next.map(|desk| (desk.id, track.shared().supply(desk.id, &desk.route, woken)));
        match next {
            Some((desk, next)) => {
                let tried = std::mem::take(tried);
                debris.spare.push(request.track);
                self.desks.ask(desk, UpstreamRequest { track: next, tried }, woken);
            }
            None => debris.requests.push(request.track),
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
        let (mut debris, mut woken) = (DeferredDrops::default(), DeferredWakes::default());
        let mut state = self.lock();
        let before = state.route.clone();
        let result = change(&mut state, &mut debris, &mut woken);
        let route = state.route.clone();
        let places = if route == before { Vec::new() } else { state.places.clone() };
        drop(state);
        for place in places {
            // Elsewhere it is one broadcast, whatever is below it here.
            place.reroute(Route { reach: Reach::Exact, ..route.clone() });
        }
        debris.refuse(error);
        woken.wake();
        result
    }
}
