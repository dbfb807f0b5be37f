//! Broadcasts that come through sessions. Several sessions may have the same one: each has a desk, at
//! which the tracks are asked for that it should bring, and a track moves when another desk gets better
//! or its own is gone. Readers do not see it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use smallvec::SmallVec;

use super::super::Result;
use super::super::budget::Cache;
use super::super::group::GroupProducer;
use super::super::origin::Place;
use super::super::route::{Horizon, Rank, Reach, Route};
use super::super::track::{self, TrackConsumer, TrackDynamic, TrackProducer};
use super::super::wakers::{WaitSlot, Wakers, Woken};
use super::{BroadcastConsumer, BroadcastProducer, Debris, Shared, State, Writer, is_wanted};
use crate::census::census;
use crate::{Cost, Error, Path, Subscription, Timestamp, TrackInfo};

/// The desks of a broadcast; none if it is the application's.
#[derive(Default)]
pub(super) struct Desks {
    by_id: BTreeMap<u64, Desk>,
    /// Best first; as in the table, the newest first among equals.
    order: BTreeSet<(Rank, Reverse<u64>)>,
    last: u64,
}

/// Where one session is asked for tracks.
struct Desk {
    id: u64,
    route: Route,
    requests: VecDeque<Request>,
    handler: Wakers,
}

/// A track to be brought.
struct Request {
    /// A source of it already, so that it does not end while it waits here.
    track: TrackProducer,
    tried: Tried,
}

/// The desks that could not bring a track.
type Tried = SmallVec<[u64; 2]>;

impl Desk {
    fn place(&self) -> (Rank, Reverse<u64>) {
        (self.route.rank(), Reverse(self.id))
    }
}

impl Desks {
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    fn open(&mut self, route: Route) -> u64 {
        self.last += 1;
        let (requests, handler) = Default::default();
        self.insert(Desk { id: self.last, route, requests, handler });
        self.last
    }

    fn insert(&mut self, desk: Desk) {
        self.order.insert(desk.place());
        self.by_id.insert(desk.id, desk);
    }

    fn find(&mut self, id: u64) -> Option<&mut Desk> {
        self.by_id.get_mut(&id)
    }

    fn take(&mut self, id: u64) -> Option<Desk> {
        let desk = self.by_id.remove(&id)?;
        self.order.remove(&desk.place());
        Some(desk)
    }

    fn best_first(&self) -> impl Iterator<Item = &Desk> + Clone {
        self.order.iter().filter_map(|(_, Reverse(id))| self.by_id.get(id))
    }

    /// The best desk for a reader of whom only this is known.
    pub(super) fn first_for(&self, horizon: Option<Horizon>) -> Option<u64> {
        let shows = |desk: &&Desk| horizon.is_none_or(|horizon| horizon.shows(&desk.route));
        self.best_first().find(shows).map(|desk| desk.id)
    }

    /// The desk that was asked for the track last, if it is still there.
    fn current(&self, track: &track::Shared) -> Option<&Desk> {
        self.by_id.get(&track.supplier()?)
    }

    /// The best desk for all who read the track, or else for some, but for those that were tried.
    fn best_for(&self, track: &track::Shared, tried: &[u64]) -> Option<&Desk> {
        let mut open = self.best_first().filter(|desk| !tried.contains(&desk.id));
        let for_all = open.clone().find(|desk| track.suits_all(&desk.route));
        for_all.or_else(|| open.find(|desk| track.suits_some(&desk.route)))
    }

    /// The desk that should be asked for a track that runs, if it is another one.
    fn better_for(&self, track: &track::Shared) -> Option<&Desk> {
        let best = self.best_for(track, &[])?;
        let stays = |desk: &Desk| {
            desk.id == best.id || !track.suits_all(&best.route) && track.suits_some(&desk.route)
        };
        let moves = !self.current(track).is_some_and(stays);
        moves.then_some(best)
    }

    fn ask(&mut self, id: u64, request: Request, woken: &mut Woken) {
        if let Some(desk) = self.find(id) {
            desk.requests.push_back(request);
            desk.handler.take(woken);
        }
    }

    /// Takes out the requests that nobody wants any more.
    pub(super) fn withdraw(&mut self) -> Vec<TrackProducer> {
        let mut vain = Vec::new();
        for desk in self.by_id.values_mut() {
            for request in std::mem::take(&mut desk.requests) {
                if is_wanted(&request.track) {
                    desk.requests.push_back(request);
                } else {
                    vain.push(request.track);
                }
            }
        }
        vain
    }
}

impl State {
    /// Asks a desk for a track of which nothing is there yet.
    pub(super) fn ask_first(&mut self, desk: u64, mut track: TrackProducer, woken: &mut Woken) {
        if let Some(found) = self.desks.find(desk) {
            track.attach(desk, &found.route);
            self.desks.ask(desk, Request { track, tried: Tried::new() }, woken);
        }
    }

    /// Lets every running track come from the desk that is best for it now. The old source goes on until
    /// the new one brings a group, which may be one that is here already.
    fn steer(&mut self, debris: &mut Debris, woken: &mut Woken) {
        let tracks: Vec<_> = self.tracks.values().filter_map(|track| track.upgrade()).collect();
        for track in &tracks {
            if !track.is_running() {
                continue;
            }
            let better = self.desks.better_for(track);
            if let Some(desk) = better.filter(|desk| !track.prefer(desk.id, &desk.route)) {
                let (desk, track) = (desk.id, track.supply(desk.id, &desk.route, woken));
                self.desks.ask(desk, Request { track, tried: Tried::new() }, woken);
            }
        }
        debris.tracks.extend(tracks);
        if let Some(best) = self.desks.best_first().next() {
            self.route = best.route.clone();
        }
    }

    /// Asks another desk for a track that is not brought any more. If that was the last source and
    /// nobody is left who could be asked, the track ends.
    fn pass_on(&mut self, mut request: Request, debris: &mut Debris, woken: &mut Woken) {
        let Request { track, tried } = &mut request;
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
                self.desks.ask(desk, Request { track: next, tried }, woken);
            }
            None => debris.requests.push(request.track),
        }
    }
}

impl Shared {
    /// Changes the desks, and tells those who published the broadcast elsewhere of its new route.
    fn change<T>(
        &self,
        error: &Error,
        change: impl FnOnce(&mut State, &mut Debris, &mut Woken) -> T,
    ) -> T {
        let (mut debris, mut woken) = (Debris::default(), Woken::default());
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

impl BroadcastProducer {
    /// Makes it one that comes through sessions, of which this is the first.
    pub(in super::super) fn supply(&self, route: Route) -> Supplier {
        let shared = self.shared();
        Supplier::new(shared, &mut shared.lock(), route)
    }
}

impl BroadcastConsumer {
    /// Another session has the same content: it supplies this broadcast too, unless that has ended or
    /// belongs elsewhere.
    pub(in super::super) fn join(
        &self,
        path: &Path,
        cache: &Arc<Cache>,
        route: &Route,
    ) -> Option<Supplier> {
        let shared = &self.seat.shared;
        let here = shared.path == *path && Arc::ptr_eq(&shared.cache, cache);
        let mut state = shared.lock();
        let live = here && state.end.is_none() && !state.desks.is_empty();
        live.then(|| Supplier::new(shared, &mut state, route.clone()))
    }

    /// A track for a peer, which may only come by routes within its `horizon`. Without a subscription it
    /// only asks what the track is.
    ///
    /// Errors: as [`subscribe_track`](Self::subscribe_track); [`Error::Unroutable`] if every route leads
    /// back to a peer who reads it.
    pub(in super::super) fn serve_track(
        &self,
        name: &str,
        want: Option<Subscription>,
        horizon: Horizon,
    ) -> Result<TrackConsumer> {
        self.find_track(name, want, Some(horizon)).map(|track| track.with_stay(self.stay()))
    }

    /// Sees to it that a track does not come from a peer that begins to read it.
    pub(super) fn turn_away(&self, track: &Arc<track::Shared>, horizon: Horizon) -> Result<()> {
        self.seat.shared.change(&Error::Unroutable, |state, _, woken| {
            let desks = &mut state.desks;
            let current = desks.current(track);
            if desks.is_empty() || current.is_some_and(|desk| horizon.shows(&desk.route)) {
                return Ok(());
            }
            let mut shown = desks.best_first().filter(|desk| horizon.shows(&desk.route));
            let for_all = shown.clone().find(|desk| track.suits_all(&desk.route));
            let desk = for_all.or_else(|| shown.next()).ok_or(Error::Unroutable)?;
            let (desk, track) = (desk.id, track.supply(desk.id, &desk.route, woken));
            drop(shown);
            desks.ask(desk, Request { track, tried: Tried::new() }, woken);
            Ok(())
        })
    }
}

/// One session's part in a broadcast. Dropped it leaves with [`Error::Dropped`].
pub(crate) struct Supplier {
    writer: Writer,
    desk: u64,
    route: Route,
    place: Option<Place>,
    slot: WaitSlot,
    vacancy: WaitSlot,
}

impl Supplier {
    fn new(shared: &Arc<Shared>, state: &mut State, route: Route) -> Self {
        state.producers += 1;
        let desk = state.desks.open(route.clone());
        let writer = Writer(shared.clone());
        let (slot, vacancy) = Default::default();
        Self { writer, desk, route, place: None, slot, vacancy }
    }

    /// It stands in the table now: tracks that run come this way if it is the best.
    pub(in super::super) fn settle(&mut self, place: Place) {
        self.place = Some(place);
        self.writer.0.change(&Error::Dropped, State::steer);
    }

    /// Where it stands in the table.
    pub(in super::super) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Whether the peer says with an end and a beginning in one breath that it has the same by `route`, where
    /// it has no other way to say it. An end that changes nothing is one.
    pub(crate) fn is_rerouted(&self, route: &Route) -> bool {
        self.route.hops != route.hops && self.route.continues(route)
    }

    /// Changes the route. `false` if what comes by it is something else, so that this has to end.
    pub(crate) fn reroute(&mut self, route: &Route) -> bool {
        if !self.route.continues(route) {
            return false;
        }
        if self.route != *route {
            self.route = route.clone();
            self.writer.0.change(&Error::Dropped, |state, debris, woken| {
                if let Some(desk) = state.desks.take(self.desk) {
                    state.desks.insert(Desk { route: route.clone(), ..desk });
                    state.steer(debris, woken);
                }
            });
            if let Some(place) = &self.place {
                place.reroute(route.clone());
            }
        }
        true
    }

    /// The session is about to end: every other way is better.
    pub(crate) fn drain(&mut self) {
        let route = Route { cost: Cost::DRAINED, ..self.route.clone() };
        self.reroute(&route);
    }

    /// The next track that is to be brought.
    pub(crate) fn poll_request(&mut self, waker: &Waker) -> Poll<Source> {
        let waker = waker.clone();
        let mut debris = Debris::default();
        // Declared before the guard: dropped after the unlock.
        let _displaced;
        let mut state = self.writer.0.lock();
        while let Some(desk) = state.desks.find(self.desk) {
            let Some(Request { track, tried }) = desk.requests.pop_front() else {
                _displaced = desk.handler.register(&mut self.slot, waker);
                break;
            };
            if is_wanted(&track) {
                let broadcast = Arc::downgrade(&self.writer.0);
                let from = track.latest().map(|latest| latest + 1);
                let (desk, known) = (self.desk, track.info().cloned());
                return Poll::Ready(Source { track, desk, tried, broadcast, from, known });
            }
            state.forget_vain(track, &mut debris);
        }
        Poll::Pending
    }

    /// Ends a broadcast that was never announced, when nobody has a handle to it nor reads a track of it.
    /// Whoever finds it from then on sees that it ended.
    pub(crate) fn is_vacant(&mut self, waker: &Waker) -> bool {
        let waker = waker.clone();
        let mut displaced = None;
        let slot = &mut self.vacancy;
        let ended = self.writer.0.end_if(Err(Error::Unroutable), |state| {
            displaced = state.vacancy.register(slot, waker);
            let is_vacant = self.writer.0.readers.load(Ordering::Relaxed) == 0;
            is_vacant && !self.writer.0.occupancy.has_live()
        });
        ended.is_ok()
    }

    /// The session has it no longer: `Ok` if the peer said so, else why. If nobody else has it, the
    /// broadcast ends.
    pub(crate) fn leave(mut self, end: Result<()>) {
        self.end(end);
    }

    fn end(&mut self, end: Result<()>) {
        let Self { writer, desk, place, slot, vacancy, .. } = self;
        let error = end.clone().err().unwrap_or(Error::NotFound);
        let was_withdrawn = end.is_ok();
        let left = writer.0.change(&error, |state, debris, woken| {
            let mut desk = state.desks.take(*desk)?;
            for mut request in desk.requests {
                request.tried.push(desk.id);
                state.pass_on(request, debris, woken);
            }
            state.steer(debris, woken);
            let wakers = (desk.handler.free(slot), state.vacancy.free(vacancy));
            Some((state.desks.is_empty(), wakers))
        });
        if let Some((true, _)) = left {
            // It may have ended before, which stands.
            let _ = writer.0.end(end);
        }
        match place.take() {
            Some(place) if was_withdrawn => place.withdraw(),
            Some(place) => place.leave(),
            None => {}
        }
    }
}

impl Drop for Supplier {
    fn drop(&mut self) {
        self.end(Err(Error::Dropped));
    }
}

#[cfg(test)]
impl Supplier {
    pub(in super::super) fn consume(&self) -> BroadcastConsumer {
        BroadcastConsumer::of(&self.writer.0)
    }
}

/// A track that a session brings.
pub(crate) struct Source {
    track: TrackProducer,
    desk: u64,
    tried: Tried,
    broadcast: Weak<Shared>,
    /// If another source was there before: groups below came from it, or may come.
    from: Option<u64>,
    /// What another source said of the track before.
    known: Option<TrackInfo>,
}

impl Source {
    pub(crate) fn name(&self) -> &str {
        self.track.name()
    }

    pub(crate) fn info(&self) -> Option<&TrackInfo> {
        self.track.info()
    }

    /// As [`TrackProducer::dynamic`].
    pub(crate) fn dynamic(&self) -> TrackDynamic {
        self.track.dynamic()
    }

    /// Its session has it, and is asked for the rest of groups if it can be.
    pub(crate) fn meet(&self) {
        self.track.meet();
    }

    /// As [`TrackProducer::poll_interest`].
    pub(crate) fn poll_interest(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<(Option<Subscription>, bool)> {
        self.track.poll_interest(cx)
    }

    /// Whether anybody who reads the track may be given what this source brings. Two who read from each
    /// other, and nobody else from them, would never end.
    pub(crate) fn is_useful(&self) -> bool {
        self.track.is_useful()
    }

    /// What to ask for if all readers want `want`: what was there before is not asked for again, but the
    /// newest group that began is, which may have been cut off.
    pub(crate) fn wanted(&self, want: Subscription) -> Subscription {
        let Some(newest) = self.from.map(|from| from - 1) else { return want };
        Subscription { start: Some(want.start.unwrap_or(newest).max(newest)), ..want }
    }

    /// What the peer says of the track. Fails if another source said something else.
    pub(crate) fn accept(&mut self, info: TrackInfo) -> Result<()> {
        if self.known.as_ref().is_some_and(|known| *known != info) {
            return Err(Error::Duplicate);
        }
        // It fails if the track ended meanwhile, which its readers know, and the second time.
        let _ = self.track.accept(info);
        Ok(())
    }

    /// Says that no group below `start` will come. Those that another source had begun to count are
    /// lost then.
    pub(crate) fn begin_at(&mut self, start: u64) {
        self.track.begin_at(start);
        if let Some(from) = self.from.filter(|from| *from < start) {
            self.track.lose(from..start);
        }
    }

    /// As [`TrackProducer::create_group`]; [`Error::Cancelled`] if a newer source brings it.
    pub(crate) fn create_group(&mut self, sequence: u64) -> Result<GroupProducer> {
        let group = self.track.create_group(sequence)?;
        self.tried.clear();
        Ok(group)
    }

    /// As [`TrackProducer::ingest`].
    pub(crate) fn ingest(&mut self, sequence: u64, timestamp: Timestamp, payload: &[u8]) -> bool {
        let taken = self.track.ingest(sequence, timestamp, payload);
        if taken {
            self.tried.clear();
        }
        taken
    }

    /// The track ended before the group `end`, or behind its last one.
    pub(crate) fn finish(mut self, end: Option<u64>) {
        // Fails if another source told the end before, or it was aborted, which stands.
        let _ = match end {
            Some(end) => self.track.finish_at(end).or_else(|_| self.track.finish()),
            None => self.track.finish(),
        };
    }

    /// Ends the track for all, unless somebody came meanwhile.
    pub(crate) fn abort_unasked(&mut self, error: Error) -> bool {
        self.track.abort_unasked(error)
    }

    /// Whether a newer source has taken over: this one is not needed but for the groups that it began.
    pub(crate) fn is_superseded(&self) -> bool {
        self.track.is_superseded()
    }

    /// The session can't bring the track any more. Another one is asked for it, unless one is at it
    /// already; if there is none, the track ends with `error`.
    pub(crate) fn lose(self, error: Error) {
        let Self { track, desk, mut tried, broadcast, .. } = self;
        tried.push(desk);
        let mut request = Request { track, tried };
        match broadcast.upgrade() {
            Some(broadcast) => broadcast.change(&error, |state, debris, woken| {
                state.pass_on(request, debris, woken);
            }),
            None if request.track.is_only_source() => request.track.abort(error),
            None => {}
        }
    }
}

census! { each Request { plain: track, tried; } }
census! { each Desk { counts: handler; within: requests; plain: id, route; } }
census! { Desks { counts: order; within: by_id; plain: last; } }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::route::SessionId;
    use crate::{Hop, Origin, OriginProducer};

    fn origin() -> OriginProducer {
        Origin::new(Hop::new(1)).produce()
    }

    /// A session that has the content of 7.
    fn session(origin: &OriginProducer, id: u64, cost: u64) -> Supplier {
        let hops = [7, 100 + id].into_iter().map(Hop::new).collect();
        let cost = Cost { warm: cost, cold: cost };
        let route = Route { hops, cost, session: Some(SessionId(id)), ..Route::default() };
        origin.announce_remote("a".into(), route).unwrap()
    }

    fn asked(supplier: &mut Supplier) -> Option<Source> {
        match supplier.poll_request(Waker::noop()) {
            Poll::Ready(source) => Some(source),
            Poll::Pending => None,
        }
    }

    fn behind(id: u64) -> Horizon {
        Horizon { exclude: Hop::new(100 + id), session: Some(SessionId(id)), on_demand: false }
    }

    fn read(origin: &OriginProducer) -> TrackConsumer {
        let broadcast = origin.consume().get_broadcast("a").unwrap();
        broadcast.subscribe_track("video", Subscription::default()).unwrap()
    }

    #[test]
    fn a_track_passes_on_until_nobody_is_left() {
        let origin = origin();
        let (mut near, mut far) = (session(&origin, 2, 1), session(&origin, 3, 2));
        let mut reader = read(&origin);
        assert!(asked(&mut far).is_none());
        let mut source = asked(&mut near).expect("the best is asked");
        source.accept(TrackInfo::default()).unwrap();
        drop(source.create_group(4).unwrap());
        source.lose(Error::SessionClosed);
        near.leave(Err(Error::SessionClosed));
        let mut source = asked(&mut far).expect("the next one is asked");
        assert!(asked(&mut far).is_none(), "once");
        assert_eq!(source.wanted(Subscription::default()).start, Some(4));
        assert_eq!(source.wanted(Subscription::default().start(9)).start, Some(9));
        source.accept(TrackInfo::default()).unwrap();
        assert_eq!(source.create_group(4).unwrap_err(), Error::Duplicate);
        source.create_group(5).unwrap().finish().unwrap();
        let sequences = std::iter::from_fn(|| match reader.try_recv_group() {
            Poll::Ready(Ok(group)) => group.map(|group| group.sequence()),
            _ => None,
        });
        assert!(sequences.eq([4, 5]));
        source.lose(Error::App(3));
        assert!(matches!(reader.try_recv_group(), Poll::Ready(Err(Error::App(3)))));
    }

    #[test]
    fn a_better_session_is_asked_before_the_old_one_is_left() {
        let origin = origin();
        let mut far = session(&origin, 2, 5);
        let mut reader = read(&origin);
        let mut old = asked(&mut far).unwrap();
        old.accept(TrackInfo::default()).unwrap();
        drop(old.create_group(0).unwrap());
        let mut near = session(&origin, 3, 1);
        let mut new = asked(&mut near).expect("it is asked at once");
        new.accept(TrackInfo::default()).unwrap();
        let open = old.create_group(1).unwrap();
        assert!(!old.is_superseded(), "the new one brought nothing yet");
        assert_eq!(new.create_group(0).unwrap_err(), Error::Duplicate);
        assert!(
            old.is_superseded() && !new.is_superseded(),
            "it need not be sooner to bring a group"
        );
        assert_eq!(old.create_group(2).unwrap_err(), Error::Cancelled);
        drop(new.create_group(2).unwrap());
        assert_eq!(old.create_group(3).unwrap_err(), Error::Cancelled);
        drop((open, old));
        assert!(reader.try_closed().is_pending());
        drop(new.create_group(3).unwrap());

        // Another track under the same name is none that could go on.
        near.leave(Ok(()));
        let mut other = asked(&mut far).unwrap();
        let info = TrackInfo { priority: 9, ..TrackInfo::default() };
        assert_eq!(other.accept(info).unwrap_err(), Error::Duplicate);
        other.lose(Error::Duplicate);
        assert!(reader.try_closed().is_pending(), "what runs goes on");
        new.lose(Error::SessionClosed);
        let mut last = asked(&mut far).expect("it is tried again");
        last.accept(TrackInfo::default()).unwrap();
        last.finish(Some(4));
        assert_eq!(reader.try_finished(), Poll::Ready(Ok(4)));
    }

    #[test]
    fn the_rest_of_a_group_is_not_waited_for_when_the_last_source_of_a_finished_track_goes() {
        let origin = origin();
        let mut far = session(&origin, 2, 5);
        let reader = read(&origin);
        let mut old = asked(&mut far).unwrap();
        old.accept(TrackInfo::default()).unwrap();
        let mut near = session(&origin, 3, 1);
        let mut new = asked(&mut near).unwrap();
        let open = new.create_group(0).unwrap();
        let mut group = open.consume();
        new.finish(Some(1));
        drop(reader);
        track::cut_off(open, None, Error::SessionClosed);
        assert!(group.try_next_frame().is_pending(), "the other one may have it");
        old.lose(Error::Cancelled);
        assert!(matches!(group.try_next_frame(), Poll::Ready(Err(Error::SessionClosed))));
    }

    /// moq-lite 03 and 04 and moq-transport have no FETCH that could complete a group.
    #[test]
    fn the_rest_of_a_group_goes_to_a_session_that_can_fetch_it() {
        let origin = origin();
        let mut sessions = [(2, 9), (3, 5), (4, 3)].map(|(id, cost)| session(&origin, id, cost));
        let _reader = read(&origin);
        let mut sources = Vec::new();
        let mut near = session(&origin, 5, 1);
        // Each is asked when it is the best; those that were asked before stay.
        sources.extend(sessions.iter_mut().filter_map(asked));
        let mut new = asked(&mut near).expect("the best");
        new.accept(TrackInfo::default()).unwrap();
        new.meet();
        let old = sources.pop().expect("the best before");
        old.meet();
        let (mut unable, mut able) = (old.dynamic(), old.dynamic());
        able.take_rests();
        let begin = |source: &mut Source, sequence| source.create_group(sequence).unwrap();
        let open = begin(&mut new, 0);
        let mut group = open.consume();
        track::cut_off(open, None, Error::SessionClosed);
        assert!(unable.poll_supply(None).is_pending(), "it would refuse it");
        let taken = able.poll_supply(None);
        let Poll::Ready(Some((track::Wanted::Rest(rest), _))) = taken else { panic!("no rest") };
        assert!(group.try_next_frame().is_pending());
        // It was asked and has not got it, and nobody is left.
        rest.leave();
        assert!(matches!(group.try_next_frame(), Poll::Ready(Err(Error::SessionClosed))));
        // The next one has nobody who can from the beginning.
        drop(able);
        let open = begin(&mut new, 1);
        let mut group = open.consume();
        track::cut_off(open, None, Error::SessionClosed);
        assert!(matches!(group.try_next_frame(), Poll::Ready(Err(Error::SessionClosed))));
    }

    #[test]
    fn a_way_that_gets_better_and_worse_is_asked_once() {
        let origin = origin();
        let (mut near, mut far) = (session(&origin, 2, 1), session(&origin, 3, 5));
        let _reader = read(&origin);
        let mut sources = Vec::new();
        for n in 0..20 {
            let cost = if n % 2 == 0 { 1 } else { 9 };
            let route = Route { cost: Cost { warm: cost, cold: cost }, ..near.route.clone() };
            near.reroute(&route);
            sources.extend(asked(&mut near));
            sources.extend(asked(&mut far));
        }
        assert_eq!(sources.len(), 2);
    }

    #[test]
    fn nobody_is_served_what_it_brings_itself() {
        let origin = origin();
        let mut near = session(&origin, 2, 1);
        let broadcast = origin.consume().get_broadcast("a").unwrap();
        let serve = |id| broadcast.serve_track("video", Some(Subscription::default()), behind(id));
        assert_eq!(serve(2).unwrap_err(), Error::Unroutable);
        let _reader = read(&origin);
        let source = asked(&mut near).unwrap();
        assert_eq!(serve(2).unwrap_err(), Error::Unroutable, "that it runs is no help");
        let mut far = session(&origin, 3, 5);
        assert!(asked(&mut far).is_none());
        let peer = serve(2).unwrap();
        let _other = asked(&mut far).expect("a way that does not lead back");
        assert!(source.is_useful(), "for the application");
        drop(_reader);
        assert!(!source.is_useful(), "only the peer reads, which must not have it from itself");
        drop(peer);
    }
}
