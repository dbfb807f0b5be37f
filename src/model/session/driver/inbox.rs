//! The side of a session that receives: broadcasts of the peer, the tracks that are read here, and their groups.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::answer_deadlines::AnswerDeadlines;
use super::incoming_group::IncomingGroup;
use super::lingering::{LingerPhase, LingeringTracks};
use super::{BROADCAST, Driver, TRACK, ready_key};
use crate::census::census;
use crate::machine::{Command, GroupKey, RequestKey, Subgroup, Token};
use crate::model::base::{Reach, Result, Route, count};
use crate::model::cache::{TrackDynamic, UpstreamFetch};
use crate::model::routing::{OriginProducer, PeerAdmission, Upstream, UpstreamTrack};
use crate::model::session::goaway::Goaway;
use crate::model::session::log;
use crate::slab::{Key, SideTable, Slab};
use crate::stream::Side;
use crate::{
    Cost, Error, Hops, Instant, Path, Properties, Subscription, Timestamp, TrackInfo, Version,
};

/// The state of everything that the peer sends.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) consume: Option<OriginProducer>,
    /// Requests for broadcasts that the peer did not announce.
    pub(crate) admission: Option<PeerAdmission>,
    pub(crate) broadcasts: Slab<RemoteBroadcast>,
    pub(crate) broadcast_by_path: BTreeMap<Path, Token>,
    pub(crate) offers: OfferedTracks,
    /// The path of a broadcast that the peer ended. If the next event announces that path again,
    /// the new broadcast takes the place of the old one, and no older one is shown in between.
    pub(crate) ended: Option<Path>,
    pub(crate) tracks: Slab<RemoteTrack>,
    pub(crate) lingering: LingeringTracks,
    pub(crate) unanswered: AnswerDeadlines,
    pub(crate) fetchers: Slab<TrackFetcher>,
    /// The fetchers by id of their track.
    pub(crate) fetcher_by_track: BTreeMap<usize, Key>,
    pub(crate) fetches: Slab<OutgoingFetch>,
    /// By the machine's key.
    pub(crate) groups: SideTable<IncomingGroup>,
    pub(crate) age_floor: AgeFloor,
}

/// On versions where a subscription can't be changed and START is not sent, the age that each
/// subscription asks for at least.
#[derive(Clone, Copy, Default)]
pub(crate) struct AgeFloor(pub(crate) Option<Duration>);

impl AgeFloor {
    /// The subscription to send if readers want `want`. Where it can't be changed, it must suffice
    /// for later readers too. They skip what is too old or too far for them.
    fn widen(self, want: Subscription) -> Subscription {
        match self.0 {
            Some(age_floor) => {
                Subscription { max_age: want.max_age.max(age_floor), end: None, ..want }
            }
            None => want,
        }
    }
}

/// The tracks that the peer offers (moq-transport, PUBLISH). A broadcast lists a name as long as it is here.
#[derive(Default)]
pub(crate) struct OfferedTracks {
    /// By broadcast, and by the slot of the request.
    names: BTreeMap<Path, BTreeMap<usize, Arc<str>>>,
    paths: BTreeMap<usize, Path>,
}

impl OfferedTracks {
    fn insert(&mut self, path: &Path, slot: usize, name: Arc<str>) {
        self.names.entry(path.clone()).or_default().insert(slot, name);
        self.paths.insert(slot, path.clone());
    }

    /// The offer of a request is over, if it is one.
    pub(crate) fn remove(&mut self, slot: usize) {
        let Some(path) = self.paths.remove(&slot) else { return };
        if let Entry::Occupied(mut names) = self.names.entry(path) {
            names.get_mut().remove(&slot);
            if names.get().is_empty() {
                names.remove();
            }
        }
    }
}

/// A broadcast of the peer.
pub(crate) struct RemoteBroadcast {
    pub(crate) upstream: Upstream,
    pub(crate) path: Path,
    pub(crate) waker: Waker,
    /// Otherwise it was requested, and ends when it has no readers.
    pub(crate) is_announced: bool,
}

/// A track of the peer that is read or queried here.
pub(crate) struct RemoteTrack {
    pub(crate) track: UpstreamTrack,
    pub(crate) broadcast: Path,
    /// Its broadcast. When that is gone, its path may belong to another one.
    pub(crate) broadcast_token: Token,
    /// Wakes the broadcast, which checks whether it is still read.
    pub(crate) remote: Waker,
    pub(crate) sent: SentRequest,
    /// The publisher begins groups on request, as this peer says.
    pub(crate) dynamic_groups: bool,
    /// The number of groups that are arriving.
    pub(crate) open: usize,
    /// Set if it has no readers and lingers.
    pub(crate) idle: Option<LingerPhase>,
    /// When it is given up, until the peer answers.
    pub(crate) answer_due: Option<Instant>,
    pub(crate) waker: Waker,
}

impl RemoteTrack {
    pub(super) fn is_subscribed(&self) -> bool {
        matches!(self.sent, SentRequest::Subscription(_))
    }

    /// Whether the peer may be asked for a new group now: by SUBSCRIBE, or if it allows it (moq-transport-22,
    /// 9.20.19).
    fn takes_group_requests(&self, version: Version) -> bool {
        !version.is_lite() && (self.dynamic_groups || !self.is_subscribed())
    }
}

/// The last request for a track that was sent to the peer.
#[derive(PartialEq, Eq)]
pub(crate) enum SentRequest {
    Nothing,
    /// A query for its properties.
    Query,
    Subscription(Subscription),
}

/// Handles requests for groups of a track of the peer.
pub(crate) struct TrackFetcher {
    pub(crate) dynamic: TrackDynamic,
    pub(crate) broadcast: Path,
    /// As [`RemoteTrack::broadcast_token`].
    pub(crate) broadcast_token: Token,
    pub(crate) waker: Waker,
}

/// A group of the peer, or the rest of one, that was requested and has not begun to arrive.
pub(crate) struct OutgoingFetch {
    pub(crate) wanted: UpstreamFetch,
    /// When it is given up.
    pub(crate) answer_due: Instant,
    pub(crate) waker: Waker,
}

impl Inbox {
    pub(crate) fn end_track(&mut self, key: Key) -> Option<RemoteTrack> {
        let mut remote_track = self.tracks.remove(key)?;
        self.lingering.end(key, &mut remote_track.idle);
        self.unanswered.end_track(key, &mut remote_track.answer_due);
        remote_track.remote.wake_by_ref();
        Some(remote_track)
    }

    pub(crate) fn end_fetch(&mut self, key: Key) -> Option<OutgoingFetch> {
        let fetch = self.fetches.remove(key)?;
        self.unanswered.end_group(key, fetch.answer_due);
        Some(fetch)
    }
}

impl Driver {
    pub(crate) fn announced(&mut self, path: Path, hops: Hops, cost: Cost) {
        let has_ended = self.inbox.ended.as_ref() == Some(&path);
        if !has_ended {
            self.apply_ended();
        }
        self.inbox.ended = None;
        let Some(origin) = self.inbox.consume.clone() else { return };
        let cost = if self.is_leaving { Cost::DRAINED } else { cost };
        let reach = match self.version.announces_prefixes() {
            true => Reach::Prefix,
            false => Reach::Exact,
        };
        let accepted = self.shared.side == Side::Server;
        let route = Route { hops, cost, session: Some(self.id), accepted, reach };
        let ends_to_reroute = self.version.ends_to_reroute();
        if let Some(token) = self.inbox.broadcast_by_path.get(&path) {
            let remote = self.inbox.broadcasts.get_mut((*token).into());
            let is_same = remote.is_some_and(|RemoteBroadcast { upstream, .. }| {
                let may_be_same = !has_ended || ends_to_reroute && upstream.is_rerouted(&route);
                may_be_same && upstream.reroute(&route)
            });
            if is_same {
                return;
            }
        }
        // The old one ends after the announcement, so that no standby is shown in between.
        let over = self.take_broadcast(&path);
        let announced = match &over {
            Some(over) => origin.announce_anew(path.clone(), route, &over.upstream),
            None => origin.announce_remote(path.clone(), route),
        };
        if let Some(over) = over {
            over.upstream.leave(Ok(()));
        }
        // A path outside of the origin is ignored.
        let Ok(upstream) = announced else { return };
        let offers = self.inbox.offers.names.get(&path);
        offers.into_iter().flat_map(BTreeMap::values).for_each(|name| upstream.offer(name));
        if let Some(retained) = &self.retained {
            retained.announced(&path);
        }
        let token: Token = self
            .inbox
            .broadcasts
            .insert_with(|slot| RemoteBroadcast {
                upstream,
                path: path.clone(),
                waker: self.ready.waker(ready_key(BROADCAST, slot)),
                is_announced: true,
            })
            .into();
        self.inbox.broadcast_by_path.insert(path, token);
        self.broadcast_changed(token.slot as usize);
    }

    /// The machine refuses new requests of either side. Running subscriptions go on, unless another
    /// session has the same content.
    pub(crate) fn drain_routes(&mut self) {
        self.is_leaving = true;
        for token in self.inbox.broadcast_by_path.values() {
            if let Some(remote) = self.inbox.broadcasts.get_mut((*token).into()) {
                remote.upstream.drain();
            }
        }
        self.stop_lingering();
    }

    /// A broadcast that ended was not announced again at once.
    pub(crate) fn apply_ended(&mut self) -> bool {
        let ended = self.inbox.ended.take();
        ended.inspect(|path| self.unannounced(path)).is_some()
    }

    pub(crate) fn unannounced(&mut self, path: &Path) {
        if let Some(remote) = self.take_broadcast(path) {
            // Running tracks that no other session has end by themselves.
            remote.upstream.leave(Ok(()));
        }
    }

    fn take_broadcast(&mut self, path: &Path) -> Option<RemoteBroadcast> {
        let token = self.inbox.broadcast_by_path.remove(path)?;
        self.inbox.broadcasts.remove(token.into())
    }

    /// A track of the broadcast is requested, or the broadcast has no readers any more.
    pub(crate) fn broadcast_changed(&mut self, slot: usize) {
        let Some((key, remote)) = self.inbox.broadcasts.at(slot) else { return };
        let waker = remote.waker.clone();
        match remote.upstream.poll_request(&waker) {
            Poll::Ready(track) => {
                let path = remote.path.clone();
                // There may be more requests.
                waker.wake_by_ref();
                self.add_track(path, key.into(), waker, track);
            }
            Poll::Pending if !remote.is_announced && remote.upstream.is_vacant(&waker) => {
                self.inbox.broadcasts.remove(key);
            }
            Poll::Pending => {}
        }
    }

    pub(crate) fn add_track(
        &mut self,
        broadcast: Path,
        broadcast_token: Token,
        remote: Waker,
        track: UpstreamTrack,
    ) {
        let mut dynamic = track.dynamic();
        if self.version.fetches() {
            dynamic.accept_partials();
        }
        self.add_fetcher(broadcast.clone(), broadcast_token, dynamic);
        track.confirm();
        let waker = |slot| self.ready.waker(ready_key(TRACK, slot));
        let sent = SentRequest::Nothing;
        let (dynamic_groups, open, idle, answer_due) = Default::default();
        let remote_track = |slot| {
            let waker = waker(slot);
            RemoteTrack {
                track,
                broadcast,
                broadcast_token,
                remote,
                sent,
                dynamic_groups,
                open,
                idle,
                answer_due,
                waker,
            }
        };
        let token = Token::from(self.inbox.tracks.insert_with(remote_track));
        self.track_changed(token.slot as usize);
    }

    /// The demand for a track of the peer changed.
    pub(crate) fn track_changed(&mut self, slot: usize) {
        let Some((key, remote_track)) = self.inbox.tracks.at(slot) else { return };
        let subscription = Token::from(key);
        if remote_track.open == 0 && remote_track.track.is_superseded() {
            self.inbox.end_track(key);
            self.machine.apply(Command::Unsubscribe { subscription });
            return;
        }
        let waker = remote_track.waker.clone();
        let mut cx = Context::from_waker(&waker);
        loop {
            let takes_requests = remote_track.takes_group_requests(self.version);
            let interest = remote_track.track.poll_interest(&mut cx, takes_requests);
            let Poll::Ready((want, has_readers)) = interest else { return };
            if !has_readers {
                self.unwanted(key);
                // It is checked again, in case a reader comes back.
                return waker.wake_by_ref();
            }
            self.inbox.lingering.end(key, &mut remote_track.idle);
            if !remote_track.track.is_useful() {
                self.machine.apply(Command::Unsubscribe { subscription });
                if let Some(remote_track) = self.inbox.end_track(key) {
                    remote_track.track.fail(Error::Unroutable);
                }
                return;
            }
            let want = want.map(|want| remote_track.track.wanted(want));
            let mut sent = want.map_or(SentRequest::Query, SentRequest::Subscription);
            // A reader that queries the track may subscribe next. So a subscription stays until
            // there are no readers.
            if sent == remote_track.sent
                || (sent == SentRequest::Query && remote_track.sent != SentRequest::Nothing)
            {
                continue;
            }
            let was_subscribed = remote_track.is_subscribed();
            if !was_subscribed
                && self.inbox.broadcasts.get(remote_track.broadcast_token.into()).is_none()
            {
                // The path may belong to another broadcast by now.
                self.machine.apply(Command::Unsubscribe { subscription });
                if let Some(remote_track) = self.inbox.end_track(key) {
                    remote_track.track.fail(Error::NotFound);
                }
                return;
            }
            let (broadcast, track) =
                (remote_track.broadcast.clone(), remote_track.track.name().into());
            let command = match &sent {
                SentRequest::Subscription(want) if was_subscribed => {
                    Command::UpdateSubscribe { subscription, want: want.clone() }
                }
                SentRequest::Subscription(want) => {
                    let want = self.inbox.age_floor.widen(want.clone());
                    Command::Subscribe { subscription, broadcast, track, want }
                }
                _ => Command::Describe { subscription, broadcast, track },
            };
            if let SentRequest::Subscription(want) = &mut sent {
                want.new_group = None;
            }
            if std::mem::replace(&mut remote_track.sent, sent) == SentRequest::Nothing {
                self.inbox.unanswered.expect_track(key, &mut remote_track.answer_due, self.now);
            }
            self.machine.apply(command);
        }
    }

    pub(crate) fn track_info(&mut self, subscription: Token, info: TrackInfo) {
        let Some(remote_track) = self.inbox.tracks.get_mut(subscription.into()) else { return };
        self.inbox.unanswered.end_track(subscription.into(), &mut remote_track.answer_due);
        let dynamic_groups = info.dynamic_groups;
        remote_track.dynamic_groups = dynamic_groups;
        if let Err(error) = remote_track.track.accept(info) {
            // It is another track with the same name.
            self.machine.apply(Command::Unsubscribe { subscription });
            if let Some(remote_track) = self.inbox.end_track(subscription.into()) {
                remote_track.track.fail(error);
            }
        } else if self.inbox.age_floor.0.is_some() {
            // These versions do not send START either.
            remote_track.track.set_start(0);
        }
        if dynamic_groups {
            // A new group may be wanted that could not be requested before.
            self.track_changed(subscription.slot as usize);
        }
    }

    pub(crate) fn subscribe_ended(
        &mut self,
        subscription: Token,
        result: Result<Option<u64>, Error>,
    ) {
        let Some(remote_track) = self.inbox.end_track(subscription.into()) else { return };
        // If this answers a query, a subscription may have been sent after it.
        self.machine.apply(Command::Unsubscribe { subscription });
        match result {
            Ok(end) => remote_track.track.finish(end),
            Err(error) => remote_track.track.fail(error),
        }
    }

    /// A group begins, or a part of one.
    pub(crate) fn group(
        &mut self,
        subscription: Token,
        key: GroupKey,
        sequence: u64,
        subgroup: Option<Subgroup>,
    ) {
        let is_apart = subgroup.is_some_and(|subgroup| subgroup.is_apart());
        let remote_track = self.inbox.tracks.get_mut(subscription.into());
        let group = remote_track.ok_or(Error::Cancelled).and_then(|remote_track| {
            let group = remote_track.track.create_group(sequence, subgroup)?;
            remote_track.open += 1;
            Ok((remote_track.track.downgrade(), group))
        });
        match group {
            Ok((track, group)) => {
                let mut group = IncomingGroup::new(track, group, Some(subscription));
                group.is_apart = is_apart;
                self.inbox.groups.insert(key.into(), group);
            }
            Err(error) => {
                if is_apart {
                    self.shared.refuse_group();
                }
                self.machine.apply(Command::StopGroup { group: key, error });
            }
        }
    }

    /// The peer offers a track or a broadcast (moq-transport, PUBLISH and PUBLISH_NAMESPACE).
    pub(super) fn offered(&mut self, request: RequestKey, broadcast: &Path, track: Option<&str>) {
        let origin = self.inbox.consume.as_ref();
        if !origin.is_some_and(|origin| origin.allows(broadcast)) {
            return self.refuse(request, Error::Unauthorized);
        }
        if let Some(name) = track.map(Arc::from) {
            // If the broadcast is not known yet, it is announced next.
            let known = self.inbox.broadcast_by_path.get(broadcast);
            let known = known.and_then(|token| self.inbox.broadcasts.get((*token).into()));
            known.inspect(|remote| remote.upstream.offer(&name));
            self.inbox.offers.insert(broadcast, request.slot(), name);
        }
        self.machine.apply(Command::AcceptOffer { request });
    }

    pub(super) fn datagram(
        &mut self,
        subscription: Token,
        sequence: u64,
        object: Option<Subgroup>,
        timestamp: Option<Timestamp>,
        properties: Option<Properties>,
        payload: &[u8],
    ) {
        let now = self.now.as_micros();
        let remote_track = self.inbox.tracks.get_mut(subscription.into());
        let is_used = remote_track.is_some_and(|it| {
            let timescale = it.track.info().map(|info| info.timescale).unwrap_or_default();
            let arrival = || Timestamp::new(timescale.from_micros(now));
            let timestamp = timestamp.unwrap_or_else(arrival);
            it.track.ingest(sequence, object, timestamp, properties, payload)
        });
        let cells = &self.shared.cells;
        match is_used {
            true => count(&cells.groups_received),
            false => count(&cells.lost_datagrams),
        }
    }

    pub(super) fn going_away(&mut self, uri: Box<str>, timeout: Option<Duration>) {
        log::going_away(self.id, &uri);
        self.drain_routes();
        let goaway = Goaway::default().uri(uri);
        self.shared.going_away(timeout.into_iter().fold(goaway, Goaway::timeout));
    }

    /// Passes bytes to a group. If it can't accept them, the stream is stopped.
    pub(crate) fn receive(
        &mut self,
        key: GroupKey,
        hand: impl FnOnce(&mut IncomingGroup, u64) -> Result<(), Error>,
    ) {
        let Some(receiving) = self.inbox.groups.get_mut(key.into()) else { return };
        let remote_track = receiving
            .remote_track
            .and_then(|remote_track| self.inbox.tracks.get(remote_track.into()));
        let info = remote_track.and_then(|remote_track| remote_track.track.info());
        let timescale = info.map(|info| info.timescale).unwrap_or_default();
        let now = timescale.from_micros(self.now.as_micros());
        if let Err(error) = hand(receiving, now) {
            self.group_ended(key, Err(error.clone()));
            self.machine.apply(Command::StopGroup { group: key, error });
        }
    }

    /// A group is no longer arriving.
    pub(crate) fn group_ended(&mut self, key: GroupKey, result: Result<(), Error>) {
        let Some(mut ended) = self.inbox.groups.remove(key.into()) else { return };
        let cells = &self.shared.cells;
        match result {
            Ok(()) => {
                count(&cells.groups_received);
                // It fails if the group was aborted meanwhile, which its readers know.
                let _ = ended.group.finish();
            }
            Err(error) => {
                count(&cells.broken_groups);
                log::broke(self.id, "group", &error);
                ended.group.abort(error);
            }
        }
        let track = ended.remote_track.and_then(|it| self.inbox.tracks.get_mut(it.into()));
        if let Some(remote_track) = track {
            remote_track.open -= 1;
            if remote_track.open == 0 && remote_track.track.is_superseded() {
                remote_track.waker.wake_by_ref();
            }
        }
    }
}

census! { each RemoteBroadcast { plain: upstream, path, waker, is_announced; } }

census! { each RemoteTrack { counts: open, idle, answer_due; plain: track, broadcast, broadcast_token, remote, sent, dynamic_groups, waker; } }

census! { each TrackFetcher { plain: dynamic, broadcast, broadcast_token, waker; } }

census! { each OutgoingFetch { plain: wanted, answer_due, waker; } }

census! { OfferedTracks { counts: names, paths; } }

census! { Inbox {
    counts: broadcast_by_path, ended, fetcher_by_track;
    within: broadcasts, offers, tracks, lingering, unanswered, fetchers, fetches, groups;
    plain: consume, admission, age_floor;
} }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Alarm;
    use crate::{Hop, Origin, Server, Version};

    /// The answer with the properties of a track has a stream of its own on some versions, so the
    /// end of the track may overtake it.
    #[test]
    fn a_track_that_ends_before_its_properties_arrive_has_default_properties() {
        for version in Version::known() {
            let origin = Origin::default().produce();
            let server = Server::new().with_consume(origin.clone());
            let (_session, mut driver) = server.accept(version, Instant::ZERO);
            let hops = [Hop::new(7)].into_iter().collect();
            driver.announced("live".into(), hops, Cost::UNKNOWN);
            let live = origin.consume().broadcast("live").unwrap();
            let mut reader = live.subscribe_track("video", Subscription::default()).unwrap();
            while driver.work(Instant::ZERO) {}
            let (key, _) = driver.inbox.tracks.at(0).expect("the track is requested");
            let mut alarm = Alarm::new();
            assert!(alarm.poll(|cx| reader.poll_info(cx)).is_pending());
            driver.subscribe_ended(key.into(), Ok(Some(0)));
            assert!(alarm.rang(), "{version}");
            assert_eq!(reader.try_info(), Poll::Ready(Ok(TrackInfo::default())), "{version}");
            assert!(matches!(reader.try_recv_group(), Poll::Ready(Ok(None))), "{version}");
        }
    }
}
