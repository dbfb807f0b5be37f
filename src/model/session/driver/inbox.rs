//! What comes from the peer: its broadcasts, the tracks of them that somebody here wants, their groups.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::answer_deadlines::AnswerDeadlines;
use super::incoming_group::IncomingGroup;
use super::lingering::{LingerPhase, LingeringTracks};
use super::{BROADCAST, Driver, TRACK, ready_key};
use crate::census::census;
use crate::machine::{Command, GroupKey, Token};
use crate::model::Result;
use crate::model::base::{Reach, Route, count};
use crate::model::cache::{TrackDynamic, UpstreamFetch};
use crate::model::routing::{OriginProducer, PeerAdmission, Upstream, UpstreamTrack};
use crate::model::session::log;
use crate::slab::{Key, Slab};
use crate::stream::Side;
use crate::{Cost, Error, Hops, Instant, Path, Subscription, TrackInfo};

/// What comes from the peer.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) consume: Option<OriginProducer>,
    /// Where broadcasts are asked for that the peer did not announce.
    pub(crate) admission: Option<PeerAdmission>,
    pub(crate) broadcasts: Slab<RemoteBroadcast>,
    pub(crate) broadcast_by_path: BTreeMap<Path, Token>,
    /// What the peer has no longer. If it says in the same breath what it has there now, the one takes the
    /// place of the other, and nothing that is older is shown between.
    pub(crate) ended: Option<Path>,
    pub(crate) tracks: Slab<RemoteTrack>,
    pub(crate) lingering: LingeringTracks,
    pub(crate) unanswered: AnswerDeadlines,
    pub(crate) fetchers: Slab<TrackFetcher>,
    /// The tracks of them.
    pub(crate) fetcher_by_track: BTreeMap<usize, Key>,
    pub(crate) fetches: Slab<OutgoingFetch>,
    /// By slot of the machine's key.
    pub(crate) groups: Vec<Option<IncomingGroup>>,
    /// How many of them there are.
    pub(crate) receiving: usize,
    pub(crate) age_floor: AgeFloor,
}

/// How long groups are kept, on versions where a subscription can't be changed and START is not told.
#[derive(Clone, Copy, Default)]
pub(crate) struct AgeFloor(pub(crate) Option<Duration>);

impl AgeFloor {
    /// What the peer is asked for when `want` is wanted. Where a subscription can't be changed that must
    /// do for all who join later: readers leave out themselves what is too old or too far for them.
    fn widen(self, want: Subscription) -> Subscription {
        match self.0 {
            Some(age_floor) => {
                Subscription { max_age: want.max_age.max(age_floor), end: None, ..want }
            }
            None => want,
        }
    }
}

/// A broadcast of the peer.
pub(crate) struct RemoteBroadcast {
    pub(crate) upstream: Upstream,
    pub(crate) path: Path,
    pub(crate) waker: Waker,
    /// Otherwise it was asked for, and goes when nobody reads it.
    pub(crate) is_announced: bool,
}

/// A track of the peer that somebody here wants, or asks about.
pub(crate) struct RemoteTrack {
    pub(crate) track: UpstreamTrack,
    pub(crate) broadcast: Path,
    /// The peer's broadcast that it is of. When that is gone, its path may stand for another one.
    pub(crate) broadcast_token: Token,
    /// Who has an eye on whether it is read.
    pub(crate) remote: Waker,
    pub(crate) sent: SentRequest,
    /// Groups that are coming.
    pub(crate) open: usize,
    /// If nobody reads it, and it is read on.
    pub(crate) idle: Option<LingerPhase>,
    /// When it is given up, as long as the peer did not answer.
    pub(crate) answer_due: Option<Instant>,
    pub(crate) waker: Waker,
}

impl RemoteTrack {
    pub(super) fn is_subscribed(&self) -> bool {
        matches!(self.sent, SentRequest::Subscription(_))
    }
}

/// What the peer was told that we want of a track.
#[derive(PartialEq, Eq)]
pub(crate) enum SentRequest {
    Nothing,
    /// To know what it is.
    Question,
    Subscription(Subscription),
}

/// Who answers for past groups of a track of the peer.
pub(crate) struct TrackFetcher {
    pub(crate) dynamic: TrackDynamic,
    pub(crate) broadcast: Path,
    /// As [`RemoteTrack::broadcast_token`].
    pub(crate) broadcast_token: Token,
    pub(crate) waker: Waker,
}

/// A group of the peer, or the rest of one, that was asked for and does not come yet.
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

    pub(crate) fn begin(&mut self, receiving: IncomingGroup) {
        let slot = receiving.key.slot();
        if slot >= self.groups.len() {
            self.groups.resize_with(slot + 1, || None);
        }
        let before = self.groups[slot].replace(receiving);
        self.receiving += usize::from(before.is_none());
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
        // Ended behind the announcement, so that nobody is shown what stood by for it.
        let over = self.take_broadcast(&path);
        let announced = match &over {
            Some(over) => origin.announce_anew(path.clone(), route, &over.upstream),
            None => origin.announce_remote(path.clone(), route),
        };
        if let Some(over) = over {
            over.upstream.leave(Ok(()));
        }
        // A path outside of what was granted is none of ours.
        let Ok(upstream) = announced else { return };
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

    /// New requests of either side are refused by the machine. What runs goes on, unless somebody else has
    /// it too.
    pub(crate) fn drain_routes(&mut self) {
        self.is_leaving = true;
        for token in self.inbox.broadcast_by_path.values() {
            if let Some(remote) = self.inbox.broadcasts.get_mut((*token).into()) {
                remote.upstream.drain();
            }
        }
        self.stop_lingering();
    }

    /// What ended did not come back at once.
    pub(crate) fn apply_ended(&mut self) -> bool {
        let ended = self.inbox.ended.take();
        ended.inspect(|path| self.unannounced(path)).is_some()
    }

    pub(crate) fn unannounced(&mut self, path: &Path) {
        if let Some(remote) = self.take_broadcast(path) {
            // Tracks that run and that nobody else has end by themselves.
            remote.upstream.leave(Ok(()));
        }
    }

    fn take_broadcast(&mut self, path: &Path) -> Option<RemoteBroadcast> {
        let token = self.inbox.broadcast_by_path.remove(path)?;
        self.inbox.broadcasts.remove(token.into())
    }

    /// Somebody here wants a track of the peer, or nobody wants the broadcast any more.
    pub(crate) fn broadcast_changed(&mut self, slot: usize) {
        let Some((key, remote)) = self.inbox.broadcasts.at(slot) else { return };
        let waker = remote.waker.clone();
        match remote.upstream.poll_request(&waker) {
            Poll::Ready(source) => {
                let path = remote.path.clone();
                // There may be more.
                waker.wake_by_ref();
                self.add_track(path, key.into(), waker, source);
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
        let (open, idle, answer_due) = Default::default();
        let remote_track = |slot| {
            let waker = waker(slot);
            RemoteTrack {
                track,
                broadcast,
                broadcast_token,
                remote,
                sent,
                open,
                idle,
                answer_due,
                waker,
            }
        };
        let token = Token::from(self.inbox.tracks.insert_with(remote_track));
        self.track_changed(token.slot as usize);
    }

    /// Those who want a track of the peer want it otherwise, or are no longer there.
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
        while let Poll::Ready((want, has_readers)) = remote_track.track.poll_interest(&mut cx) {
            if !has_readers {
                self.unwanted(key);
                // It is looked at again, for who comes back.
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
            let sent = want.map_or(SentRequest::Question, SentRequest::Subscription);
            // Who still asks may subscribe next, so that a subscription stays until nobody is there.
            if sent == remote_track.sent
                || (sent == SentRequest::Question && remote_track.sent != SentRequest::Nothing)
            {
                continue;
            }
            let was_subscribed = remote_track.is_subscribed();
            if !was_subscribed
                && self.inbox.broadcasts.get(remote_track.broadcast_token.into()).is_none()
            {
                // By its path another broadcast would be asked.
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
            if std::mem::replace(&mut remote_track.sent, sent) == SentRequest::Nothing {
                self.inbox.unanswered.expect_track(key, &mut remote_track.answer_due, self.now);
            }
            self.machine.apply(command);
        }
    }

    pub(crate) fn track_info(&mut self, subscription: Token, info: TrackInfo) {
        let Some(remote_track) = self.inbox.tracks.get_mut(subscription.into()) else { return };
        self.inbox.unanswered.end_track(subscription.into(), &mut remote_track.answer_due);
        if let Err(error) = remote_track.track.accept(info) {
            // It is another track under the same name.
            self.machine.apply(Command::Unsubscribe { subscription });
            if let Some(remote_track) = self.inbox.end_track(subscription.into()) {
                remote_track.track.fail(error);
            }
        } else if self.inbox.age_floor.0.is_some() {
            // Nor will it say what comes first.
            remote_track.track.set_start(0);
        }
    }

    pub(crate) fn subscribe_ended(
        &mut self,
        subscription: Token,
        result: Result<Option<u64>, Error>,
    ) {
        let Some(remote_track) = self.inbox.end_track(subscription.into()) else { return };
        // If it was the answer to a question, a subscription may have followed that.
        self.machine.apply(Command::Unsubscribe { subscription });
        match result {
            Ok(end) => remote_track.track.finish(end),
            Err(error) => remote_track.track.fail(error),
        }
    }

    pub(crate) fn group(&mut self, subscription: Token, key: GroupKey, sequence: u64) {
        let remote_track = self.inbox.tracks.get_mut(subscription.into());
        let group = remote_track.ok_or(Error::Cancelled).and_then(|remote_track| {
            let group = remote_track.track.create_group(sequence)?;
            remote_track.open += 1;
            Ok((remote_track.track.downgrade(), group))
        });
        match group {
            Ok((track, group)) => {
                self.inbox.begin(IncomingGroup::new(key, track, group, Some(subscription)));
            }
            Err(error) => self.machine.apply(Command::StopGroup { group: key, error }),
        }
    }

    /// A group comes no longer.
    pub(crate) fn group_over(&mut self, remote_track: Option<Token>) {
        if let Some(remote_track) =
            remote_track.and_then(|remote_track| self.inbox.tracks.get_mut(remote_track.into()))
        {
            remote_track.open -= 1;
            if remote_track.open == 0 && remote_track.track.is_superseded() {
                remote_track.waker.wake_by_ref();
            }
        }
    }

    /// Hands bytes to a group; if it can't take them, the peer need not send more.
    pub(crate) fn receive(
        &mut self,
        key: GroupKey,
        hand: impl FnOnce(&mut IncomingGroup, u64) -> Result<(), Error>,
    ) {
        let slot = self.inbox.groups.get_mut(key.slot());
        let Some(receiving) = slot.and_then(Option::as_mut).filter(|it| it.key == key) else {
            return;
        };
        let remote_track = receiving
            .remote_track
            .and_then(|remote_track| self.inbox.tracks.get(remote_track.into()));
        let info = remote_track.and_then(|remote_track| remote_track.track.info());
        let timescale = info.map(|info| info.timescale).unwrap_or_default();
        let now = timescale.of_micros(self.now.as_micros());
        if let Err(error) = hand(receiving, now) {
            receiving.group.abort(error.clone());
            let remote_track = receiving.remote_track;
            self.inbox.groups[key.slot()] = None;
            self.inbox.receiving -= 1;
            count(&self.shared.cells.broken_groups);
            log::broke(self.id, "group", &error);
            self.group_over(remote_track);
            self.machine.apply(Command::StopGroup { group: key, error });
        }
    }

    pub(crate) fn group_ended(&mut self, key: GroupKey, result: Result<(), Error>) {
        let Some(slot) = self.inbox.groups.get_mut(key.slot()) else { return };
        if slot.as_ref().is_none_or(|receiving| receiving.key != key) {
            return;
        }
        let Some(mut receiving) = slot.take() else { return };
        self.inbox.receiving -= 1;
        if let Err(error) = &result {
            log::broke(self.id, "group", error);
        }
        let cells = &self.shared.cells;
        count(if result.is_ok() { &cells.groups_received } else { &cells.broken_groups });
        match result {
            // It fails if the group was aborted meanwhile, which its readers know.
            Ok(()) => drop(receiving.group.finish()),
            Err(error) => receiving.group.abort(error),
        }
        self.group_over(receiving.remote_track);
    }
}

census! { each RemoteBroadcast { plain: upstream, path, waker, is_announced; } }

census! { each RemoteTrack { counts: open, idle, answer_due; plain: track, broadcast, broadcast_token, remote, sent, waker; } }

census! { each TrackFetcher { plain: dynamic, broadcast, broadcast_token, waker; } }

census! { each OutgoingFetch { plain: wanted, answer_due, waker; } }

census! { Inbox {
    counts: broadcast_by_path, ended, fetcher_by_track;
    within: broadcasts, tracks, lingering, unanswered, fetchers, fetches, groups;
    plain: consume, admission, receiving, age_floor;
} }
