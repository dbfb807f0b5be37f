//! A session that has a broadcast, and the tracks that are requested from it.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use super::consumer::BroadcastConsumer;
use super::producer::BroadcastProducer;
use super::state::{BroadcastShared, BroadcastState, DeferredDrops, ProducerGuard};
use super::upstreams::{FailedUpstreams, UpstreamEntry, UpstreamRequest};
use crate::machine::Subgroup;
use crate::model::base::sync::atomic::Ordering;
use crate::model::base::{Result, Route, WaitSlot};
use crate::model::cache::{Cache, GroupProducer, TrackDynamic, TrackProducer, WeakTrack};
use crate::model::routing::registration::Registration;
use crate::{Cost, Error, Path, Properties, Subscription, Timestamp, TrackInfo};

impl BroadcastProducer {
    /// Adds the first session of a broadcast that comes through sessions.
    pub(crate) fn add_upstream(&self, route: Route) -> Upstream {
        let shared = self.shared();
        Upstream::new(shared, &mut shared.lock(), route)
    }
}

impl BroadcastConsumer {
    /// Adds a session with the same content. `None` if the broadcast has ended, belongs to another
    /// origin or path, or does not come through sessions.
    pub(crate) fn join_upstream(
        &self,
        path: &Path,
        cache: &Arc<Cache>,
        route: &Route,
    ) -> Option<Upstream> {
        let shared = &self.waiter.shared;
        let here = shared.path == *path && Arc::ptr_eq(&shared.cache, cache);
        let mut state = shared.lock();
        let live = here && state.end.is_none() && !state.upstreams.is_empty();
        live.then(|| Upstream::new(shared, &mut state, route.clone()))
    }
}

/// A session that has a broadcast. If it is dropped, the session leaves with [`Error::Dropped`].
pub(crate) struct Upstream {
    guard: ProducerGuard,
    entry: u64,
    route: Route,
    registration: Option<Registration>,
    slot: WaitSlot,
    vacancy_waiters: WaitSlot,
}

impl Upstream {
    fn new(shared: &Arc<BroadcastShared>, state: &mut BroadcastState, route: Route) -> Self {
        state.producers += 1;
        let entry = state.upstreams.open(route.clone());
        let guard = ProducerGuard(shared.clone());
        let (slot, vacancy_waiters) = Default::default();
        Self { guard, entry, route, registration: None, slot, vacancy_waiters }
    }

    /// The broadcast is registered now. If this upstream is the best, running tracks move to it.
    pub(crate) fn register(&mut self, registration: Registration) {
        self.registration = Some(registration);
        self.guard.0.change(&Error::Dropped, BroadcastState::select_upstreams);
    }

    pub(super) fn shared(&self) -> &Arc<BroadcastShared> {
        &self.guard.0
    }

    /// Where the broadcast is registered.
    pub(crate) fn registration(&self) -> Option<&Registration> {
        self.registration.as_ref()
    }

    /// Whether an end followed at once by a beginning is a change of route, on versions where a
    /// peer has no other way to announce one. If nothing changed, it was a real end.
    pub(crate) fn is_rerouted(&self, route: &Route) -> bool {
        self.route.hops != route.hops && self.route.continues(route)
    }

    /// Changes the route. Returns `false` if the new route leads to other content, so that this
    /// upstream has to end.
    pub(crate) fn reroute(&mut self, route: &Route) -> bool {
        if !self.route.continues(route) {
            return false;
        }
        if self.route != *route {
            self.route = route.clone();
            self.guard.0.change(&Error::Dropped, |state, deferred, wakes| {
                if let Some(entry) = state.upstreams.take(self.entry) {
                    let is_only = state.upstreams.is_empty();
                    state.upstreams.insert(UpstreamEntry { route: route.clone(), ..entry });
                    match is_only {
                        // No track can move, however often the peer changes its route.
                        true => state.route.clone_from(route),
                        false => state.select_upstreams(deferred, wakes),
                    }
                }
            });
            if let Some(registration) = &self.registration {
                registration.reroute(route.clone());
            }
        }
        true
    }

    /// The route of a broadcast that no other session has, if its content can be recognized.
    pub(crate) fn sole_route(&self) -> Option<&Route> {
        let state = self.guard.0.lock();
        let is_sole = state.end.is_none() && state.upstreams.len() == 1;
        (is_sole && self.route.content().is_some()).then_some(&self.route)
    }

    /// The session is about to end, so any other route is better.
    pub(crate) fn drain(&mut self) {
        let route = Route { cost: Cost::DRAINED, ..self.route.clone() };
        self.reroute(&route);
    }

    /// The next track that is requested from the session.
    pub(crate) fn poll_request(&mut self, waker: &Waker) -> Poll<UpstreamTrack> {
        let waker = waker.clone();
        let mut deferred = DeferredDrops::default();
        // Declared before the guard, so that it is dropped after the lock is released.
        let _displaced;
        let mut state = self.guard.0.lock();
        while let Some(entry) = state.upstreams.find(self.entry) {
            let Some(UpstreamRequest { track, failed }) = entry.requests.pop_front() else {
                _displaced = entry.request_waiter.register(&mut self.slot, waker);
                break;
            };
            if track.has_readers() {
                let broadcast = Arc::downgrade(&self.guard.0);
                let from = track.latest().map(|latest| latest + 1);
                let (entry, known) = (self.entry, track.info().cloned());
                return Poll::Ready(UpstreamTrack { track, entry, failed, broadcast, from, known });
            }
            state.forget_unwanted(track, &mut deferred);
        }
        Poll::Pending
    }

    /// Ends a broadcast that was never announced once it has no consumer and no live track. A
    /// handle that finds it later sees that it ended.
    pub(crate) fn is_vacant(&mut self, waker: &Waker) -> bool {
        let waker = waker.clone();
        let mut displaced = None;
        let slot = &mut self.vacancy_waiters;
        let ended = self.guard.0.end_if(Err(Error::Unroutable), |state| {
            displaced = state.vacancy_waiters.register(slot, waker);
            let is_vacant = self.guard.0.readers.load(Ordering::Relaxed) == 0;
            is_vacant && !self.guard.0.occupancy.has_live()
        });
        ended.is_ok()
    }

    /// The session no longer has the broadcast. `end` is `Ok` if the peer withdrew it, otherwise
    /// the reason. If no other session has it, the broadcast ends.
    pub(crate) fn leave(mut self, end: Result<()>) {
        self.end(end);
    }

    fn end(&mut self, end: Result<()>) {
        let Self { guard, entry, registration, slot, vacancy_waiters, .. } = self;
        let error = end.clone().err().unwrap_or(Error::NotFound);
        let was_withdrawn = end.is_ok();
        let left = guard.0.change(&error, |state, deferred, wakes| {
            let mut entry = state.upstreams.take(*entry)?;
            for mut request in entry.requests {
                request.failed.push(entry.id);
                state.request_elsewhere(request, deferred, wakes);
            }
            state.select_upstreams(deferred, wakes);
            let wakers =
                (entry.request_waiter.free(slot), state.vacancy_waiters.free(vacancy_waiters));
            Some((state.upstreams.is_empty(), wakers))
        });
        if let Some((true, _)) = left {
            // If the broadcast ended before, that end stands.
            let _ = guard.0.end(end);
        }
        match registration.take() {
            Some(registration) if was_withdrawn => registration.withdraw(),
            Some(registration) => registration.leave(),
            None => {}
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.end(Err(Error::Dropped));
    }
}

#[cfg(test)]
impl Upstream {
    pub(crate) fn consume(&self) -> BroadcastConsumer {
        BroadcastConsumer::of(&self.guard.0)
    }
}

/// A track that a session delivers.
pub(crate) struct UpstreamTrack {
    track: TrackProducer,
    entry: u64,
    failed: FailedUpstreams,
    broadcast: Weak<BroadcastShared>,
    /// Set if another upstream delivered the track before: lower groups came from that one, or may
    /// still come.
    from: Option<u64>,
    /// The properties of the track as another upstream announced them.
    known: Option<TrackInfo>,
}

impl UpstreamTrack {
    pub(crate) fn name(&self) -> &str {
        self.track.name()
    }

    pub(crate) fn info(&self) -> Option<&TrackInfo> {
        self.track.info()
    }

    /// A handle to the track that keeps nothing alive.
    pub(crate) fn downgrade(&self) -> WeakTrack {
        self.track.downgrade()
    }

    /// As [`TrackProducer::dynamic`].
    pub(crate) fn dynamic(&self) -> TrackDynamic {
        self.track.dynamic()
    }

    /// The session knows of the track. It is asked for open groups from now on, if its version can
    /// fetch them.
    pub(crate) fn confirm(&self) {
        self.track.confirm();
    }

    /// As [`TrackProducer::poll_interest`].
    pub(crate) fn poll_interest(
        &mut self,
        cx: &mut Context<'_>,
        takes_requests: bool,
    ) -> Poll<(Option<Subscription>, bool)> {
        self.track.poll_interest(cx, takes_requests)
    }

    /// Whether any reader of the track may be given what this upstream delivers. Otherwise two
    /// relays that read only from each other would keep the track alive for ever.
    pub(crate) fn is_useful(&self) -> bool {
        self.track.is_useful()
    }

    /// The subscription to request if all readers want `want`. Groups that came before are not requested
    /// again, except for the newest one, which may be incomplete.
    pub(crate) fn wanted(&self, want: Subscription) -> Subscription {
        let Some(newest) = self.from.map(|from| from - 1) else { return want };
        Subscription { start: Some(want.start.unwrap_or(newest).max(newest)), ..want }
    }

    /// Sets the properties that the peer announced. Fails if another upstream announced different
    /// ones.
    pub(crate) fn accept(&mut self, info: TrackInfo) -> Result<()> {
        // Routes of different versions differ in the properties of moq-transport.
        let fields = |it: &TrackInfo| (it.priority, it.max_age, it.timescale);
        if self.known.as_ref().is_some_and(|known| fields(known) != fields(&info)) {
            return Err(Error::Duplicate);
        }
        // It fails if it was accepted before, or if the track ended meanwhile, which its readers
        // know.
        let _ = self.track.accept(info);
        Ok(())
    }

    /// Declares that the publisher had frames before this was subscribed.
    pub(crate) fn set_has_past(&self) {
        self.track.set_has_past();
    }

    /// Declares that no group below `start` will come. Groups that another upstream had reached
    /// before are lost then.
    pub(crate) fn set_start(&mut self, start: u64) {
        self.track.set_start(start);
        if let Some(from) = self.from.filter(|from| *from < start) {
            self.track.mark_lost(from..start);
        }
    }

    /// As [`TrackProducer::create_part`]. Fails with [`Error::Cancelled`] if a newer upstream
    /// delivers the group.
    pub(crate) fn create_group(
        &mut self,
        sequence: u64,
        subgroup: Option<Subgroup>,
    ) -> Result<GroupProducer> {
        let group = self.track.create_part(sequence, subgroup)?;
        self.failed.clear();
        Ok(group)
    }

    /// As [`TrackProducer::ingest`].
    pub(crate) fn ingest(
        &mut self,
        sequence: u64,
        object: Option<Subgroup>,
        timestamp: Timestamp,
        properties: Option<Properties>,
        payload: &[u8],
    ) -> bool {
        let taken = self.track.ingest(sequence, object, timestamp, properties, payload);
        if taken {
            self.failed.clear();
        }
        taken
    }

    /// The track ended before the group `end`, or after its last one.
    pub(crate) fn finish(mut self, end: Option<u64>) {
        // The answer with the properties can be slower than the end. Nobody waits for it then. If
        // they are known, they stay.
        let _ = self.track.accept(TrackInfo::default());
        // It fails if another upstream announced the end before, or if the track was aborted. Then
        // that end stands.
        let _ = match end {
            Some(end) => self.track.finish_at(end).or_else(|_| self.track.finish()),
            None => self.track.finish(),
        };
        if let Some(broadcast) = self.broadcast.upgrade() {
            let (name, track) = (self.track.shared_name().clone(), self.track.shared().clone());
            broadcast.keep_finished(name, track);
        }
    }

    /// Aborts the track for all, unless a reader came meanwhile.
    pub(crate) fn abort_if_unread(&mut self, error: Error) -> bool {
        self.track.abort_if_unread(error)
    }

    /// Whether a newer upstream has taken over. This one then only completes the groups that it
    /// began.
    pub(crate) fn is_superseded(&self) -> bool {
        self.track.is_superseded()
    }

    /// The session can no longer deliver the track. It is requested from another one, unless that
    /// was done before. If there is none, the track ends with `error`.
    pub(crate) fn fail(self, error: Error) {
        let Self { track, entry, mut failed, broadcast, .. } = self;
        failed.push(entry);
        let mut request = UpstreamRequest { track, failed };
        match broadcast.upgrade() {
            Some(broadcast) => broadcast.change(&error, |state, deferred, wakes| {
                state.request_elsewhere(request, deferred, wakes);
            }),
            None if request.track.is_only_upstream() => request.track.abort(error),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests;
