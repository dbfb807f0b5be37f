//! Requests of the peer that wait for their broadcast, and broadcasts that are requested from the
//! peer without an announcement.

use std::collections::BTreeMap;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::inbox::RemoteBroadcast;
use super::{ADMISSION, BROADCAST, Driver, SERVED_FETCH, WAITING, ready_key};
use crate::coding::MAX_SEGMENTS;
use crate::machine::{FetchRange, RangeTarget, RequestKey, Token};
use crate::model::base::Horizon;
use crate::model::cache::TrackConsumer;
use crate::model::routing::{AnnounceFilter, BroadcastConsumer, PendingBroadcast, RoutedBroadcast};
use crate::model::session::outbox::FetchedGroups;
use crate::{Error, Hops, Instant, Path, Subscription};

/// Requests of the peer, by slot, that wait for a broadcast.
pub(crate) type WaitingRequests = BTreeMap<usize, WaitingRequest>;

/// A request that waits for its broadcast.
pub(crate) struct WaitingRequest {
    request: RequestKey,
    broadcast: Path,
    track: Box<str>,
    kind: TrackRequestKind,
    pending: PendingBroadcast,
    waker: Waker,
    /// When the peer does not wait any longer, if it said so.
    due: Option<Instant>,
}

/// The request of the peer for a track.
pub(crate) enum TrackRequestKind {
    Subscribe(Subscription),
    /// A query for its properties.
    Query,
    Fetch {
        priority: u8,
        wanted: FetchedGroups,
    },
}

/// Replaces what a subscription that waits asks for. A new group that was asked for is still wanted.
pub(super) fn update(asked: &mut Subscription, want: &Subscription) {
    let new_group = want.new_group.or(asked.new_group);
    *asked = Subscription { new_group, ..want.clone() };
}

impl Driver {
    // ---- requests of the peer ----------------------------------------------------------------

    pub(crate) fn horizon(&self) -> Horizon {
        let on_demand = self.version.announces_prefixes();
        Horizon { exclude: self.peer, session: Some(self.id), on_demand }
    }

    /// The broadcasts that can be announced to the peer.
    pub(crate) fn announce_filter(&self, hidden: bool) -> AnnounceFilter {
        // The chain of hops must have room for the receiver, unless this version adds the hop at
        // the receiver.
        let hops = if self.version.announces_hops() { Hops::MAX - 1 } else { Hops::MAX };
        // The machine leaves out what moq-transport can't express besides. It counts nothing there.
        let segments = if self.version.is_lite() { MAX_SEGMENTS } else { usize::MAX };
        AnnounceFilter { hidden, bytes: self.path_bytes, segments, hops }
    }

    /// The peer requests something of a track. If there is no such broadcast it `waits` for one.
    pub(crate) fn requested(
        &mut self,
        request: RequestKey,
        broadcast: &Path,
        track: &str,
        kind: TrackRequestKind,
        waits: Option<Duration>,
    ) {
        let horizon = Horizon { on_demand: false, ..self.horizon() };
        let origin = self.publish.as_ref().ok_or(Error::Unroutable);
        match origin.and_then(|origin| origin.route(broadcast, horizon, waits.is_some())) {
            Ok(RoutedBroadcast::Ready(broadcast)) => self.serve(request, &broadcast, track, kind),
            Ok(RoutedBroadcast::Pending(pending)) => {
                let slot = request.slot();
                let waker = self.ready.waker(ready_key(WAITING, slot as u32));
                let (broadcast, track) = (broadcast.clone(), Box::<str>::from(track));
                if let TrackRequestKind::Subscribe(_) = kind {
                    self.outbox.peer_tracks.wait(broadcast.clone(), track.clone(), slot);
                }
                let due =
                    waits.map(|time| self.inbox.unanswered.expect_route(slot, time, self.now));
                let waiting =
                    WaitingRequest { request, broadcast, track, kind, pending, waker, due };
                self.waiting.insert(slot, waiting);
                self.waiting_changed(slot);
            }
            Err(error) => self.refuse(request, error),
        }
    }

    /// A request for a broadcast may have been answered.
    pub(crate) fn waiting_changed(&mut self, slot: usize) {
        let Some(waiting) = self.waiting.get_mut(&slot) else { return };
        let Poll::Ready(answer) = waiting.pending.poll(Some(&waiting.waker)) else { return };
        let Some((request, track, kind)) = self.stop_waiting(slot) else { return };
        match answer {
            Ok(broadcast) => self.serve(request, &broadcast, &track, kind),
            Err(error) => self.refuse(request, error),
        }
    }

    /// A request does not wait any more.
    pub(crate) fn stop_waiting(
        &mut self,
        slot: usize,
    ) -> Option<(RequestKey, Box<str>, TrackRequestKind)> {
        let WaitingRequest { request, broadcast, track, kind, due, .. } =
            self.waiting.remove(&slot)?;
        self.inbox.unanswered.end_route(slot, due);
        self.outbox.peer_tracks.stop_waiting(broadcast, track.clone(), slot);
        Some((request, track, kind))
    }

    /// The peer changed its subscription before the track was found. Returns whether the request is
    /// still waiting.
    pub(crate) fn update_waiting(&mut self, slot: usize, want: &Subscription) -> bool {
        let waiting = self.waiting.get_mut(&slot);
        if let Some(WaitingRequest { kind: TrackRequestKind::Subscribe(asked), .. }) = waiting {
            update(asked, want);
            return true;
        }
        false
    }

    /// Without a subscription only the properties are queried, and the track need not be produced.
    fn serve(
        &mut self,
        request: RequestKey,
        broadcast: &BroadcastConsumer,
        track: &str,
        kind: TrackRequestKind,
    ) {
        let horizon = self.horizon();
        let find = |want| broadcast.serve_track(track, want, horizon);
        let finished = |groups| broadcast.finished_track(track, groups, horizon);
        // Before the track is requested, and live by that.
        let queried = matches!(kind, TrackRequestKind::Query).then(|| finished(None)).flatten();
        let found = match &kind {
            TrackRequestKind::Subscribe(want) => find(Some(want.clone())),
            TrackRequestKind::Query => find(None),
            TrackRequestKind::Fetch { wanted, .. } => {
                finished(wanted.bounds()).map_or_else(|| find(None), Ok)
            }
        };
        match found {
            Ok(track) => self.serve_track(request, track, kind),
            Err(error) => return self.refuse(request, error),
        }
        if queried.is_some() {
            self.outbox.answer_from(request, queried);
            self.served_track_changed(request.slot());
        }
    }

    /// The peer requests several groups of a track, or those before its subscription.
    pub(crate) fn range_requested(
        &mut self,
        request: RequestKey,
        target: RangeTarget,
        priority: u8,
        range: FetchRange,
    ) {
        let kind = TrackRequestKind::Fetch { priority, wanted: FetchedGroups::Range(range) };
        match target {
            RangeTarget::Track { broadcast, track } => {
                self.requested(request, &broadcast, &track, kind, None);
            }
            RangeTarget::Subscription(subscription) => match self.outbox.query(subscription) {
                Some(track) => self.serve_track(request, track, kind),
                None => self.refuse(request, Error::NotFound),
            },
        }
    }

    fn serve_track(&mut self, request: RequestKey, track: TrackConsumer, kind: TrackRequestKind) {
        let slot = request.slot();
        let track = if self.version.is_lite() { track } else { track.with_subgroups() };
        match kind {
            TrackRequestKind::Subscribe(_) => {
                self.outbox.add_track(request, track, self.served_track_waker(request));
                self.served_track_changed(slot);
            }
            TrackRequestKind::Query => {
                self.outbox.add_query(request, track, self.served_track_waker(request));
                self.served_track_changed(slot);
            }
            TrackRequestKind::Fetch { priority, wanted } => {
                let waker = self.ready.waker(ready_key(SERVED_FETCH, slot as u32));
                self.outbox.fetches.add(request, track, priority, wanted, waker, self.now);
                self.served_fetch_changed(slot);
            }
        }
    }

    // ---- broadcasts of the peer --------------------------------------------------------------

    /// A broadcast that the peer did not announce is requested.
    pub(crate) fn admission_changed(&mut self) {
        let waker = self.ready.waker(ready_key(ADMISSION, 0));
        let admission = self.inbox.admission.as_mut();
        let Some(Poll::Ready((path, upstream))) =
            admission.map(|admission| admission.poll_requested(&waker))
        else {
            return;
        };
        // There may be more requests.
        waker.wake();
        let waker = |slot| self.ready.waker(ready_key(BROADCAST, slot));
        let remote =
            |slot| RemoteBroadcast { upstream, path, waker: waker(slot), is_announced: false };
        let token = Token::from(self.inbox.broadcasts.insert_with(remote));
        self.broadcast_changed(token.slot as usize);
    }
}
