//! The driver of one session: it owns the [`Machine`], has the
//! [`Source`](crate::machine::Source) that the machine reads from, and joins the peer to the origins
//! of this side. Adapters drive it, and nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::broadcast::{BroadcastConsumer, BroadcastDynamic, BroadcastProducer, TrackRequest};
use super::budget::Cache;
use super::frame::FrameProducer;
use super::group::GroupProducer;
use super::log;
use super::origin::{OriginConsumer, OriginProducer};
use super::outbox::{Next, Outbox, ServeWakers};
use super::ready::ReadyList;
use super::route::{Route, SessionId};
use super::session::{Session, Setup, Shared, Wish};
use super::stats::{count, tell};
use super::track::{TrackConsumer, TrackProducer};
use crate::error::Error;
use crate::hop::{Cost, Hop, Hops};
#[cfg(doc)]
use crate::machine::Machine;
use crate::machine::trace::Recorded;
use crate::machine::{
    Action, Command, Config, Event, GroupKey, Input, Open, PathInfo, RequestKey, Token, Write,
};
use crate::path::Path;
use crate::slab::Slab;
use crate::stream::{Side, StreamId};
use crate::subscription::{Subscription, TrackInfo};
use crate::time::{Instant, Timestamp};
use crate::version::Version;

/// How long a track that a peer asked about is kept ready for the subscription that follows.
const DESCRIBED_TIME: Duration = Duration::from_secs(2);
/// How many of them; then the oldest goes.
const MAX_DESCRIBED: usize = 64;

/// One session, to be driven by an adapter: inputs in, [`work`](Driver::work), outputs out.
///
/// It is owned by one task or loop. See the [machine](crate::machine) for the calls that it shares
/// with it; what lies between machine and model is done by `work`.
pub struct Driver {
    machine: Recorded,
    outbox: Outbox,
    inbox: Inbox,
    ready: ReadyList,
    shared: Arc<Shared>,
    id: SessionId,
    now: Instant,
    publish: Option<OriginConsumer>,
    /// What the peer may not be sent back: itself.
    peer: Hop,
    described: VecDeque<(Instant, TrackConsumer)>,
    /// Since when the application wants the session to end.
    draining: Option<Instant>,
    close_time: Duration,
    /// The session is closed, and everything that came from the peer.
    is_over: bool,
}

/// What comes from the peer.
#[derive(Default)]
struct Inbox {
    consume: Option<OriginProducer>,
    remotes: Slab<Remote>,
    remote_by_path: BTreeMap<Path, Token>,
    asks: Slab<Ask>,
    /// By slot of the machine's key.
    groups: Vec<Option<Receiving>>,
    /// How many of them there are.
    receiving: usize,
    kept: Kept,
}

/// How long groups are kept, on versions where a subscription can't be changed and START is not told.
#[derive(Clone, Copy, Default)]
struct Kept(Option<Duration>);

impl Kept {
    /// What the peer is asked for when `want` is wanted. Where a subscription can't be changed that must
    /// do for all who join later: readers leave out themselves what is too old or too far for them.
    fn lasting(self, want: Subscription) -> Subscription {
        match self.0 {
            Some(kept) => Subscription { max_age: want.max_age.max(kept), end: None, ..want },
            None => want,
        }
    }
}

/// A broadcast of the peer.
struct Remote {
    producer: BroadcastProducer,
    dynamic: BroadcastDynamic,
    path: Path,
    waker: Waker,
}

/// A track of the peer that somebody here wants, or asks about.
struct Ask {
    track: TrackProducer,
    broadcast: Path,
    told: Told,
    waker: Waker,
}

/// What the peer was told that we want of a track.
#[derive(PartialEq, Eq)]
enum Told {
    Nothing,
    /// To know what it is.
    Question,
    Subscription(Subscription),
}

/// A group that the peer is sending.
struct Receiving {
    key: GroupKey,
    group: GroupProducer,
    frame: Option<FrameProducer>,
    ask: Token,
}

/// What a key of the ready list stands for; the rest of the key is a slot.
const SESSION: u64 = 0;
const READER: u64 = 1;
const SERVE: u64 = 2;
const GROUPS: u64 = 3;
const REMOTE: u64 = 4;
const ASK: u64 = 5;
/// It has nothing to do but to look at the time again.
const TIMER: u64 = 6;

fn ready_key(kind: u64, slot: u32) -> u64 {
    kind << 32 | u64::from(slot)
}

impl Driver {
    pub(super) fn new(
        setup: &Setup,
        side: Side,
        version: Version,
        now: Instant,
    ) -> (Session, Self) {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let id = SessionId(LAST.fetch_add(1, Ordering::Relaxed));
        let mut config = Config::new(side, version);
        config.limits = setup.limits.clone();
        config.path = setup.path.clone();
        let publish_hop = setup.publish.as_ref().map(OriginConsumer::hop);
        let consume_hop = setup.consume.as_ref().map(OriginProducer::hop);
        config.hop = publish_hop.or(consume_hop).unwrap_or_default();
        if let Some(consume) = &setup.consume {
            config.interests = consume.allowed().cloned().collect();
        }
        let kept = Kept((!version.updates_subscriptions()).then_some(setup.limits.max_age));
        let ready = ReadyList::new();
        let shared = Shared::new(version, ready.waker(SESSION));
        let driver = Self {
            machine: Recorded::new(config, now, setup.trace.sink()),
            outbox: Outbox::default(),
            inbox: Inbox { consume: setup.consume.clone(), kept, ..Inbox::default() },
            ready,
            shared: shared.clone(),
            id,
            now,
            publish: setup.publish.clone(),
            peer: Hop::UNKNOWN,
            described: VecDeque::new(),
            draining: None,
            close_time: setup.limits.close_time,
            is_over: false,
        };
        for cache in driver.caches() {
            cache.join(id.0, driver.ready.waker(ready_key(TIMER, 0)));
        }
        log::started(id, side, version);
        (Session::new(shared), driver)
    }

    // ---- inputs ------------------------------------------------------------------------------

    /// Tells what the connection did; see [`Machine::handle`].
    pub fn handle(&mut self, now: Instant, input: Input) {
        self.now = self.now.max(now);
        for cache in self.caches() {
            cache.tell(now);
        }
        self.machine.handle(now, input);
    }

    /// Time passed; see [`Machine::handle_timeout`]. Also moves the clock of the origins forward.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        for cache in self.caches() {
            cache.advance(now);
        }
        self.machine.handle_timeout(now);
        while self.described.front().is_some_and(|(until, _)| *until <= now) {
            self.described.pop_front();
        }
    }

    fn caches(&self) -> impl Iterator<Item = &Arc<Cache>> {
        let consume = self.inbox.consume.as_ref().map(OriginProducer::cache);
        consume.into_iter().chain(self.publish.as_ref().map(OriginConsumer::cache))
    }

    /// Does one bounded piece of the work between the machine and the model. `false`: there is none
    /// until something changes.
    pub fn work(&mut self) -> bool {
        if let Some(key) = self.ready.pop() {
            self.model_changed(key);
            return true;
        }
        match self.machine.poll_event() {
            Some(event) => self.event(event),
            None => return false,
        }
        true
    }

    // ---- outputs -----------------------------------------------------------------------------

    /// The next small thing to do to the connection; see [`Machine::poll_action`].
    pub fn poll_action(&mut self) -> Option<Action> {
        self.machine.poll_action()
    }

    /// The most urgent stream that should exist now; see [`Machine::poll_open`].
    pub fn poll_open(&mut self) -> Option<Open<'_>> {
        self.machine.poll_open(&mut self.outbox)
    }

    /// The most urgent bytes now; see [`Machine::poll_write`].
    pub fn poll_write(&mut self) -> Option<Write<'_>> {
        self.machine.poll_write(&mut self.outbox)
    }

    /// When to call [`Driver::handle_timeout`] at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.tell();
        let described = self.described.front().map(|(until, _)| *until);
        // One session of an origin minds its cache for all.
        let minded = self.caches().filter(|cache| cache.is_minded_by(self.id.0));
        let expiry = minded.filter_map(|cache| cache.next_deadline()).min();
        [self.machine.poll_timeout(), described, expiry].into_iter().flatten().min()
    }

    /// Tells the handles what was counted and what there is, at the end of a turn.
    fn tell(&self) {
        let (cells, counts, path) =
            (&self.shared.cells, self.machine.counts(), self.machine.path());
        let path = if self.is_over { PathInfo::default() } else { path };
        let serving = self.outbox.serving() + self.described.len();
        let (trace_bytes, is_recording) = self.machine.recording().unwrap_or_default();
        let is_recording = is_recording && !self.is_over;
        if cells.recording.load(Ordering::Relaxed) == 1 && !is_recording && !self.is_over {
            log::trace_stopped(self.id);
        }
        let rtt = u64::try_from(path.rtt.as_micros()).unwrap_or(u64::MAX);
        for (cell, value) in [
            (&cells.bytes_sent, counts.bytes_sent),
            (&cells.bytes_received, counts.bytes_received),
            (&cells.frames_sent, counts.frames_sent),
            (&cells.frames_received, counts.frames_received),
            (&cells.serving, serving as u64),
            (&cells.reading, self.inbox.asks.len() as u64),
            (&cells.announced, self.inbox.remotes.len() as u64),
            (&cells.sending_groups, self.outbox.sending() as u64),
            (&cells.receiving_groups, self.inbox.receiving as u64),
            (&cells.trace_bytes, trace_bytes),
            (&cells.recording, is_recording.into()),
            (&cells.rtt_micros, rtt),
            (&cells.send_rate, path.rate),
            (&cells.max_datagram, path.max_datagram),
        ] {
            tell(cell, value);
        }
    }

    /// Whether [`work`](Driver::work) or one of the `poll_*` above may have something. A game loop
    /// looks here and never needs a waker.
    pub fn has_work(&self) -> bool {
        !self.ready.is_empty() || self.machine.has_work()
    }

    /// Ready when the model changed: call [`work`](Driver::work). Otherwise the waker of `cx` is kept,
    /// in the place of an earlier one.
    pub fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.ready.poll_ready(cx)
    }

    /// How many more bytes of this stream are taken now; see [`Machine::read_limit`].
    pub fn read_limit(&self, id: StreamId) -> usize {
        self.machine.read_limit(id)
    }

    /// Whether the session is over: nothing comes but the last [`Action::Close`].
    pub fn is_closed(&self) -> bool {
        self.machine.is_closed()
    }

    // ---- the peer did something --------------------------------------------------------------

    fn event(&mut self, event: Event) {
        match event {
            Event::Announced { path, hops, cost } => self.announced(path, hops, cost),
            Event::Unannounced { path } => self.unannounced(&path),
            Event::TrackInfo { subscription, info } => self.track_info(subscription, info),
            Event::Group { subscription, group, sequence, .. } => {
                self.group(subscription, group, sequence);
            }
            Event::Frame { group, timestamp, size, payload } => {
                self.receive(group, |receiving, now| {
                    receiving.frame(timestamp, now, size, &payload)
                });
            }
            Event::Payload { group, bytes } => {
                self.receive(group, |receiving, _| receiving.payload(&bytes));
            }
            Event::GroupEnded { group, result } => self.group_ended(group, result),
            Event::SubscribeEnded { subscription, result } => {
                self.subscribe_ended(subscription, result);
            }
            Event::AnnounceRequested { request, prefix, exclude } => {
                self.announce_requested(request, &prefix, exclude);
            }
            Event::SubscribeStarted { subscription, group } => {
                if let Some(ask) = self.inbox.asks.get_mut(subscription.into()) {
                    ask.track.begin_at(group);
                }
            }
            Event::SubscribeRequested { request, broadcast, track, subscription } => {
                self.subscribe_requested(request, &broadcast, &track, subscription);
            }
            Event::SubscribeUpdated { request, subscription } => {
                self.outbox.update(request.slot(), subscription);
            }
            Event::TrackOffered { request, broadcast, .. } => {
                let origin = self.inbox.consume.as_ref();
                match origin.is_some_and(|origin| origin.allows(&broadcast)) {
                    true => self.machine.apply(Command::AcceptOffer { request }),
                    false => self.refuse(request, Error::Unauthorized),
                }
            }
            Event::TrackRequested { request, broadcast, track } => {
                self.track_requested(request, &broadcast, &track);
            }
            Event::GroupRefused { .. } => self.shared.refuse_group(),
            Event::GroupReleased { group, sent } => {
                let was_old = self.outbox.release(group);
                if sent {
                    count(&self.shared.cells.groups_sent);
                } else {
                    self.shared.skip_group();
                }
                if was_old && !sent {
                    count(&self.shared.cells.expired_groups);
                }
            }
            Event::RequestEnded { request, result } => {
                if let Err(error) = &result {
                    log::broke(self.id, "request", error);
                }
                self.outbox.end_request(request.slot());
            }
            // New requests are refused by the machine; who runs a session looks at its end.
            Event::GoingAway { .. } => {}
            Event::Closed { error } => self.close(error),
        }
    }

    /// Ends everything that came from the peer, and lets go of everything else.
    fn close(&mut self, error: Error) {
        for cache in self.caches() {
            cache.leave(self.id.0);
        }
        let inbox = std::mem::take(&mut self.inbox);
        for mut receiving in inbox.groups.into_iter().flatten() {
            count(&self.shared.cells.broken_groups);
            receiving.group.abort(Error::SessionClosed);
        }
        for mut ask in inbox.asks.into_values() {
            ask.track.abort(Error::SessionClosed);
        }
        for mut remote in inbox.remotes.into_values() {
            let _ = remote.producer.abort(Error::SessionClosed);
        }
        self.outbox = Outbox::default();
        self.publish = None;
        self.described.clear();
        if !self.is_over {
            log::closed(self.id, &error);
        }
        self.is_over = true;
        self.tell();
        self.shared.closed(error);
    }

    // ---- broadcasts of the peer --------------------------------------------------------------

    fn announced(&mut self, path: Path, hops: Hops, cost: Cost) {
        let Some(origin) = &self.inbox.consume else { return };
        let route = Route { hops, cost, session: Some(self.id) };
        if let Some(token) = self.inbox.remote_by_path.get(&path) {
            if let Some(remote) = self.inbox.remotes.get((*token).into()) {
                origin.reroute(&remote.producer, route);
            }
            return;
        }
        // A path outside of what was granted is none of ours.
        let remote = origin.announce_remote(path.clone(), route);
        let Ok((producer, dynamic)) = remote else { return };
        let token: Token = self
            .inbox
            .remotes
            .insert_with(|slot| Remote {
                producer,
                dynamic,
                path: path.clone(),
                waker: self.ready.waker(ready_key(REMOTE, slot)),
            })
            .into();
        self.inbox.remote_by_path.insert(path, token);
        self.remote_changed(token.slot as usize);
    }

    fn unannounced(&mut self, path: &Path) {
        let Some(token) = self.inbox.remote_by_path.remove(path) else { return };
        if let Some(mut remote) = self.inbox.remotes.remove(token.into()) {
            // Tracks that run end by themselves.
            let _ = remote.producer.finish();
        }
    }

    /// Somebody here wants a track of the peer.
    fn remote_changed(&mut self, slot: usize) {
        let Some((_, remote)) = self.inbox.remotes.at(slot) else { return };
        let waker = remote.waker.clone();
        let mut cx = Context::from_waker(&waker);
        let Poll::Ready(Ok(request)) = remote.dynamic.poll_requested_track(&mut cx) else { return };
        let path = remote.path.clone();
        // There may be more.
        waker.wake();
        self.ask(path, request);
    }

    fn ask(&mut self, broadcast: Path, request: TrackRequest) {
        let track = request.into_producer();
        let waker = |slot| self.ready.waker(ready_key(ASK, slot));
        let told = Told::Nothing;
        let ask = |slot| Ask { track, broadcast, told, waker: waker(slot) };
        let token = Token::from(self.inbox.asks.insert_with(ask));
        self.ask_changed(token.slot as usize);
    }

    /// Those who want a track of the peer want it otherwise, or are no longer there.
    fn ask_changed(&mut self, slot: usize) {
        let Some((key, ask)) = self.inbox.asks.at(slot) else { return };
        let subscription = Token::from(key);
        let waker = ask.waker.clone();
        let mut cx = Context::from_waker(&waker);
        while let Poll::Ready((want, is_asked)) = ask.track.poll_interest(&mut cx) {
            if !is_asked {
                ask.track.abort(Error::Cancelled);
                self.machine.apply(Command::Unsubscribe { subscription });
                if !matches!(ask.told, Told::Subscription(_)) {
                    // Nothing is to come that would have to be waited for.
                    self.inbox.asks.remove(key);
                }
                return;
            }
            let told = want.map_or(Told::Question, Told::Subscription);
            // Who still asks may subscribe next, so that a subscription stays until nobody is there.
            if told == ask.told || (told == Told::Question && ask.told != Told::Nothing) {
                continue;
            }
            let was_subscribed = matches!(ask.told, Told::Subscription(_));
            let (broadcast, track) = (ask.broadcast.clone(), ask.track.name().into());
            let command = match &told {
                Told::Subscription(want) if was_subscribed => {
                    Command::UpdateSubscribe { subscription, want: want.clone() }
                }
                Told::Subscription(want) => {
                    let want = self.inbox.kept.lasting(want.clone());
                    Command::Subscribe { subscription, broadcast, track, want }
                }
                _ => Command::Describe { subscription, broadcast, track },
            };
            ask.told = told;
            self.machine.apply(command);
        }
    }

    fn track_info(&mut self, subscription: Token, info: TrackInfo) {
        if let Some(ask) = self.inbox.asks.get_mut(subscription.into()) {
            // It fails if the track ended meanwhile, which is told to its readers, and the second time.
            let _ = ask.track.accept(info);
            if self.inbox.kept.0.is_some() {
                // Nor will it say what comes first.
                ask.track.begin_at(0);
            }
        }
    }

    fn subscribe_ended(&mut self, subscription: Token, result: Result<Option<u64>, Error>) {
        let Some(mut ask) = self.inbox.asks.remove(subscription.into()) else { return };
        // If it was the answer to a question, a subscription may have followed that.
        self.machine.apply(Command::Unsubscribe { subscription });
        let finished = match result {
            Ok(Some(end)) => ask.track.finish_at(end).or_else(|_| ask.track.finish()),
            Ok(None) => ask.track.finish(),
            Err(error) => return ask.track.abort(error),
        };
        if finished.is_err() {
            ask.track.abort(Error::Closed);
        }
    }

    fn group(&mut self, subscription: Token, key: GroupKey, sequence: u64) {
        let group = match self.inbox.asks.get_mut(subscription.into()) {
            Some(ask) => ask.track.create_group(sequence),
            None => Err(Error::Cancelled),
        };
        match group {
            Ok(group) => {
                let slot = key.slot();
                if slot >= self.inbox.groups.len() {
                    self.inbox.groups.resize_with(slot + 1, || None);
                }
                let receiving = Receiving { key, group, frame: None, ask: subscription };
                let before = self.inbox.groups[slot].replace(receiving);
                self.inbox.receiving += usize::from(before.is_none());
            }
            Err(error) => self.machine.apply(Command::StopGroup { group: key, error }),
        }
    }

    /// Hands bytes to a group; if it can't take them, the peer need not send more.
    fn receive(
        &mut self,
        key: GroupKey,
        hand: impl FnOnce(&mut Receiving, u64) -> Result<(), Error>,
    ) {
        let slot = self.inbox.groups.get_mut(key.slot());
        let Some(receiving) = slot.and_then(Option::as_mut).filter(|it| it.key == key) else {
            return;
        };
        let info = self.inbox.asks.get(receiving.ask.into()).and_then(|ask| ask.track.info());
        let timescale = info.map(|info| info.timescale).unwrap_or_default();
        let now = timescale.of_micros(self.now.as_micros());
        if let Err(error) = hand(receiving, now) {
            receiving.group.abort(error.clone());
            self.inbox.groups[key.slot()] = None;
            self.inbox.receiving -= 1;
            count(&self.shared.cells.broken_groups);
            log::broke(self.id, "group", &error);
            self.machine.apply(Command::StopGroup { group: key, error });
        }
    }

    fn group_ended(&mut self, key: GroupKey, result: Result<(), Error>) {
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
    }

    // ---- what the peer asks for --------------------------------------------------------------

    fn announce_requested(&mut self, request: RequestKey, prefix: &Path, exclude: Hop) {
        self.peer = exclude;
        let Some(origin) = &self.publish else {
            self.machine.apply(Command::AcceptAnnounce {
                request,
                reader: Token::default(),
                active: 0,
            });
            return;
        };
        let reader = origin.reader(prefix, exclude, self.id);
        let active = reader.active();
        let waker = self.ready.waker(ready_key(READER, request.slot() as u32));
        let reader = self.outbox.add_reader(request, reader, waker);
        self.machine.apply(Command::AcceptAnnounce { request, reader, active });
    }

    /// `find` looks in the broadcast.
    fn find_track(
        &self,
        broadcast: &Path,
        find: impl FnOnce(&BroadcastConsumer) -> Result<TrackConsumer, Error>,
    ) -> Result<TrackConsumer, Error> {
        let origin = self.publish.as_ref().ok_or(Error::Unroutable)?;
        let broadcast = origin.route(broadcast, self.peer, self.id).ok_or(Error::Unroutable)?;
        find(&broadcast)
    }

    fn subscribe_requested(
        &mut self,
        request: RequestKey,
        broadcast: &Path,
        track: &str,
        want: Subscription,
    ) {
        match self.find_track(broadcast, |it| it.subscribe_track(track, want)) {
            Ok(track) => {
                self.outbox.add_serve(request, track, self.serve_wakers(request));
                self.serve_changed(request.slot());
            }
            Err(error) => self.refuse(request, error),
        }
    }

    fn track_requested(&mut self, request: RequestKey, broadcast: &Path, track: &str) {
        match self.find_track(broadcast, |it| it.ask_track(track)) {
            Ok(track) => {
                self.outbox.add_describe(request, track, self.serve_wakers(request));
                self.serve_changed(request.slot());
            }
            Err(error) => self.refuse(request, error),
        }
    }

    fn refuse(&mut self, request: RequestKey, error: Error) {
        self.count_refusal(&error);
        self.machine.apply(Command::Refuse { request, error });
    }

    fn count_refusal(&self, error: &Error) {
        count(&self.shared.cells.refused_requests);
        log::refused(self.id, error);
    }

    fn serve_wakers(&self, request: RequestKey) -> ServeWakers {
        let waker = |kind| self.ready.waker(ready_key(kind, request.slot() as u32));
        ServeWakers { track: waker(SERVE), groups: waker(GROUPS) }
    }

    /// A track that the peer reads has news.
    fn serve_changed(&mut self, slot: usize) {
        let Some(next) = self.outbox.next_for(slot) else { return };
        let more = matches!(next, Next::Skipped(_) | Next::Command(_));
        match next {
            Next::Skipped(missed) => {
                if missed {
                    self.shared.skip_group();
                    count(&self.shared.cells.expired_groups);
                }
            }
            Next::Command(command) | Next::Last(command) => {
                if let Command::Refuse { error, .. } = &command {
                    self.count_refusal(error);
                }
                self.machine.apply(command);
            }
            Next::Described(command, track) => {
                if self.described.len() >= MAX_DESCRIBED {
                    self.described.pop_front();
                }
                self.described.push_back((self.now + DESCRIBED_TIME, track));
                self.machine.apply(command);
            }
        }
        if more {
            self.outbox.wake(slot);
        }
    }

    /// The application wants something of the session itself.
    fn wished(&mut self) {
        match self.shared.take_wish() {
            Some(Wish::Close(error)) => return self.machine.apply(Command::Close { error }),
            Some(Wish::Drain) => self.draining = self.draining.or(Some(self.now)),
            None => {}
        }
        let Some(since) = self.draining else { return };
        // What was written before comes first, unless writing never ends.
        if !self.ready.is_empty() && self.now < since + self.close_time {
            return self.shared.look_again();
        }
        self.machine.apply(Command::Drain);
    }

    fn model_changed(&mut self, key: u64) {
        let slot = (key & u64::from(u32::MAX)) as usize;
        match key >> 32 {
            SESSION => self.wished(),
            READER => {
                if let Some(request) = self.outbox.reader_request(slot) {
                    self.machine.apply(Command::AnnouncementsReady { request });
                }
            }
            SERVE => self.serve_changed(slot),
            GROUPS => {
                while let Some(command) = self.outbox.group_ready(slot) {
                    self.machine.apply(command);
                }
            }
            REMOTE => self.remote_changed(slot),
            ASK => self.ask_changed(slot),
            TIMER => {}
            _ => unreachable!("no other keys are given out"),
        }
    }
}

impl Receiving {
    fn frame(
        &mut self,
        timestamp: Option<Timestamp>,
        now: u64,
        size: u64,
        payload: &[u8],
    ) -> Result<(), Error> {
        let timestamp = timestamp.unwrap_or(Timestamp::new(now));
        self.frame = self.group.ingest(timestamp, size, payload)?;
        self.settle()
    }

    fn payload(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(frame) = &mut self.frame else { return Err(Error::WrongSize) };
        frame.write(bytes)?;
        self.settle()
    }

    /// A frame is over as soon as all its bytes are there.
    fn settle(&mut self) -> Result<(), Error> {
        match self.frame.take_if(|frame| frame.remaining() == 0) {
            Some(frame) => frame.finish(),
            None => Ok(()),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.close(Error::SessionClosed);
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("machine", &self.machine).finish_non_exhaustive()
    }
}
