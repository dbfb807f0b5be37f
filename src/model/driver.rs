//! The driver of one session: it owns the [`Machine`], has the
//! [`Source`](crate::machine::Source) that the machine reads from, and joins the peer to the origins
//! of this side. Adapters drive it, and nothing else.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

mod answers;
mod fetch;
mod held;
mod inbox;
mod linger;
mod receive;
mod serve;

use super::budget::Cache;
use super::goaway::Goaway;
use super::log;
use super::origin::{OriginConsumer, OriginProducer};
use super::outbox::Outbox;
use super::ready::ReadyList;
use super::request::{SessionRequest, Terms};
use super::route::SessionId;
use super::session::{End, Session, Setup, Shared, Wishes};
use super::stats::{add, count, tell};
use super::track::{TrackConsumer, Wanted, cut_off};
use crate::census::census;
use crate::error::Error;
use crate::hop::Hop;
use crate::machine::{
    Action, Command, Config, Datagram, Event, Input, Machine, NetworkPath, Open, Write,
};
use crate::stream::{Side, StreamId};
use crate::time::Instant;
use crate::version::{Agreed, Version};

use answers::Unanswered;
use held::{Asks, Held};
use inbox::{Inbox, Kept};
use linger::Lingering;

/// How long a track that a peer asked about is kept ready for the subscription that follows.
const DESCRIBED_TIME: Duration = Duration::from_secs(2);
/// How many of them; then the oldest goes.
const MAX_DESCRIBED: usize = 64;

/// One session, to be driven by an adapter: inputs in, [`work`](Driver::work), outputs out.
///
/// It is owned by one task or loop. See the [machine](crate::machine) for the calls that it shares
/// with it; what lies between machine and model is done by `work`.
pub struct Driver {
    machine: Machine,
    outbox: Outbox,
    inbox: Inbox,
    ready: ReadyList,
    shared: Arc<Shared>,
    version: Version,
    id: SessionId,
    now: Instant,
    publish: Option<OriginConsumer>,
    /// What the peer may not be sent back: itself.
    peer: Hop,
    described: VecDeque<(Instant, TrackConsumer)>,
    /// One of both said GOAWAY: what comes from the peer is better had elsewhere.
    is_parting: bool,
    held: Held,
    /// Since when the application wants the session to end.
    draining: Option<Instant>,
    close_time: Duration,
    path_bytes: usize,
    /// The peer is asked what it knows of the path.
    probing: bool,
    /// Those that the machine lost and that are counted.
    lost_datagrams: u64,
    /// The session is closed, and everything that came from the peer.
    is_over: bool,
}

/// What a key of the ready list stands for; the rest of the key is a slot.
const SESSION: u64 = 0;
const READER: u64 = 1;
const SERVE: u64 = 2;
const GROUP: u64 = 3;
const REMOTE: u64 = 4;
const ASK: u64 = 5;
/// It has nothing to do but to look at the time again.
const TIMER: u64 = 6;
const PAST: u64 = 7;
const FETCH: u64 = 8;
const ANSWER: u64 = 9;
const PROBE: u64 = 10;
const HELD: u64 = 11;
const DOOR: u64 = 12;

fn ready_key(kind: u64, slot: u32) -> u64 {
    kind << 32 | u64::from(slot)
}

impl Driver {
    pub(super) fn new(setup: &Setup, side: Side, agreed: Agreed, now: Instant) -> (Session, Self) {
        let mut config = Config::new(side, agreed);
        (config.hop, config.interests) = setup.origins.said();
        config.path = setup.path.clone();
        config.authority = setup.authority.clone();
        config.cost = setup.cost;
        config.role = setup.origins.role();
        let mut driver = Self::begin(setup, config, now);
        let terms = setup.origins.clone().open(driver.id);
        driver.shared.know(&terms);
        driver.join(terms);
        (Session::new(driver.shared.clone()), driver)
    }

    pub(super) fn request(setup: &Setup, agreed: Agreed, now: Instant) -> (SessionRequest, Self) {
        let config = Config { requires_accept: true, ..Config::new(Side::Server, agreed) };
        let mut driver = Self::begin(setup, config, now);
        // Where there is no set-up it is known from the beginning what comes of it.
        driver.work(now);
        (SessionRequest::new(driver.shared.clone(), driver.id, setup.origins.clone()), driver)
    }

    fn begin(setup: &Setup, config: Config, now: Instant) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let id = SessionId(LAST.fetch_add(1, Ordering::Relaxed));
        // Those that share an ALPN are alike in what is asked here.
        let version = config.agreed.version();
        let config = Config { limits: setup.limits.clone(), ..config };
        log::started(id, config.side, version);
        let kept = Kept((!version.updates_subscriptions()).then_some(setup.limits.max_age));
        let ready = ReadyList::new();
        let probe = ready.waker(ready_key(PROBE, 0));
        let shared = Shared::new(&config, ready.waker(SESSION), probe);
        Self {
            machine: Machine::with_sink(config, now, setup.trace.sink()),
            outbox: Outbox::new(setup.limits.told_announcements),
            inbox: Inbox {
                lingering: Lingering::new(&setup.limits),
                unanswered: Unanswered::new(&setup.limits),
                kept,
                ..Inbox::default()
            },
            shared,
            ready,
            version,
            id,
            now,
            publish: None,
            peer: Hop::UNKNOWN,
            described: VecDeque::new(),
            is_parting: false,
            held: Held::new(),
            draining: None,
            close_time: setup.limits.close_time,
            path_bytes: setup.limits.path_bytes,
            probing: false,
            lost_datagrams: 0,
            is_over: false,
        }
    }

    /// The session may read and write these from now on.
    fn join(&mut self, terms: Terms) {
        let Terms { origins, door } = terms;
        self.publish = origins.publish;
        self.inbox.consume = origins.consume;
        self.inbox.door = door;
        for cache in self.caches() {
            cache.join(self.id.0, self.ready.waker(ready_key(TIMER, 0)));
        }
        self.door_changed();
    }

    /// The application takes the peer.
    fn accept(&mut self, terms: Terms) {
        let (hop, interests) = terms.origins.said();
        self.join(terms);
        self.machine.apply(Command::Accept { hop, interests });
    }

    // ---- inputs ------------------------------------------------------------------------------

    /// Tells what the connection did; see [`Machine::handle`].
    pub fn handle(&mut self, now: Instant, input: Input) {
        self.pass_to(now);
        self.machine.handle(now, input);
    }

    /// Time passed; see [`Machine::handle_timeout`]. Also moves the clock of the origins forward.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        for cache in self.caches() {
            cache.advance(now);
        }
        self.machine.handle_timeout(now);
        while let Some(request) = self.outbox.pop_due(now) {
            self.machine.apply(Command::AnnouncementsReady { request });
        }
        self.linger(now);
        self.give_up(now);
        while self.described.front().is_some_and(|(until, _)| *until <= now) {
            self.described.pop_front();
        }
    }

    fn caches(&self) -> impl Iterator<Item = &Arc<Cache>> {
        let consume = self.inbox.consume.as_ref().map(OriginProducer::cache);
        consume.into_iter().chain(self.publish.as_ref().map(OriginConsumer::cache))
    }

    /// The clocks of the origins go forward; no deadline is looked at yet. Whether it is later than before.
    fn pass_to(&mut self, now: Instant) -> bool {
        let is_later = now > self.now;
        if is_later {
            self.now = now;
            for cache in self.caches() {
                cache.tell(now);
            }
        }
        is_later
    }

    /// Does one bounded piece of the work between the machine and the model. `false`: there is none
    /// until something changes.
    ///
    /// What the application did since the last call is taken to be done `now`, and not when the time was
    /// told last: a session may have been idle.
    pub fn work(&mut self, now: Instant) -> bool {
        if self.pass_to(now) {
            self.machine.handle(now, Input::Time);
        }
        if let Some(key) = self.ready.pop() {
            self.model_changed(key);
            return true;
        }
        let event = self.machine.poll_event();
        let lost = self.machine.lost_datagrams();
        add(&self.shared.cells.lost_datagrams, lost - self.lost_datagrams);
        self.lost_datagrams = lost;
        if self.machine.version() != self.version {
            self.version = self.machine.version();
            self.shared.settle(self.version);
        }
        match event {
            Some(event) => self.event(event),
            None if self.settle_ended() => {}
            None => {
                if self.outbox.take_short() {
                    log::broke(self.id, "announcements", &Error::Limit("announcements told"));
                }
                self.caches().for_each(|cache| cache.pause());
                return false;
            }
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

    /// The most urgent datagram now; see [`Machine::poll_datagram`].
    pub fn poll_datagram(&mut self) -> Option<Datagram<'_>> {
        self.machine.poll_datagram(&mut self.outbox)
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
        let held = self.outbox.next_deadline();
        let lingering = self.inbox.lingering.next_deadline();
        let unanswered = self.inbox.unanswered.next_deadline();
        let deadlines =
            [self.machine.poll_timeout(), described, lingering, unanswered, expiry, held];
        deadlines.into_iter().flatten().min()
    }

    /// Tells the handles what was counted and what there is, at the end of a turn.
    fn tell(&self) {
        let (cells, counts, path) =
            (&self.shared.cells, self.machine.counts(), self.machine.network_path());
        let path = if self.is_over { NetworkPath::default() } else { path };
        let serving = self.outbox.serving() + self.described.len() + self.held.len();
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
        !self.ready.is_empty() || self.machine.has_work() || self.inbox.ended.is_some()
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

    /// Why the session is over, as soon as its handles know: what [`Session::closed`] gives, for who has
    /// no handle.
    pub fn closed(&self) -> Option<Error> {
        self.shared.over()
    }

    /// Whether the session is over: nothing comes but the last [`Action::Close`].
    pub fn is_closed(&self) -> bool {
        self.machine.is_closed()
    }

    // ---- the peer did something --------------------------------------------------------------

    fn event(&mut self, event: Event) {
        if !matches!(event, Event::Announced { .. }) {
            self.settle_ended();
        }
        match event {
            Event::Announced { path, hops, cost } => self.announced(path, hops, cost),
            Event::Unannounced { path } => self.inbox.ended = Some(path),
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
            Event::AnnounceRequested { request, prefix, exclude, hidden } => {
                self.announce_requested(request, &prefix, exclude, hidden);
            }
            Event::SubscribeStarted { subscription, group } => {
                if let Some(ask) = self.inbox.asks.get_mut(subscription.into()) {
                    ask.track.begin_at(group);
                }
            }
            Event::SubscribeRequested { request, broadcast, track, subscription } => {
                self.requested(request, &broadcast, &track, Asks::Subscribe(subscription));
            }
            Event::SubscribeUpdated { request, subscription } => {
                if !self.update_held(request.slot(), &subscription) {
                    self.outbox.update(request.slot(), subscription);
                }
            }
            Event::TrackOffered { request, broadcast, .. } => {
                let origin = self.inbox.consume.as_ref();
                match origin.is_some_and(|origin| origin.allows(&broadcast)) {
                    true => self.machine.apply(Command::AcceptOffer { request }),
                    false => self.refuse(request, Error::Unauthorized),
                }
            }
            Event::TrackRequested { request, broadcast, track } => {
                self.requested(request, &broadcast, &track, Asks::Describe);
            }
            Event::Datagram { subscription, sequence, timestamp, payload } => {
                let ask = self.inbox.asks.get_mut(subscription.into());
                let cells = &self.shared.cells;
                match ask.is_some_and(|ask| ask.track.ingest(sequence, timestamp, &payload)) {
                    true => count(&cells.groups_received),
                    false => count(&cells.lost_datagrams),
                }
            }
            Event::Estimate { estimate } => self.shared.estimates.tell(estimate),
            Event::ProbeEnded { error } => self.shared.estimates.end(error),
            Event::FetchEnded { fetch, result } => self.fetch_ended(fetch, result),
            Event::FetchRequested { request, broadcast, track, priority, sequence, .. } => {
                self.requested(request, &broadcast, &track, Asks::Fetch { priority, sequence });
            }
            Event::FetchStarted { fetch, group } => self.fetch_started(fetch, group),
            Event::SetUp { peer } => self.shared.set_up(peer),
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
                self.held.remove(&request.slot());
                if let Some(track) = self.outbox.end_request(request.slot()) {
                    self.keep_described(track);
                }
            }
            Event::GoingAway { uri, timeout } => {
                log::going_away(self.id, &uri);
                self.part();
                let timeout = timeout.into_iter();
                self.shared
                    .going_away(timeout.fold(Goaway::default().redirect(uri), Goaway::timeout));
            }
            Event::Closed { error } => self.close(error),
        }
    }

    /// Ends everything that came from the peer, and lets go of everything else.
    fn close(&mut self, error: Error) {
        for cache in self.caches() {
            cache.leave(self.id.0);
        }
        let inbox = std::mem::take(&mut self.inbox);
        for mut past in inbox.pasts.into_values() {
            past.dynamic.refuse(&Error::SessionClosed);
        }
        for ask in inbox.asks.into_values() {
            ask.track.lose(Error::SessionClosed);
        }
        for remote in inbox.remotes.into_values() {
            remote.supplier.leave(Err(Error::SessionClosed));
        }
        // Last, when it is known whether another session goes on.
        for receiving in inbox.groups.into_iter().flatten() {
            count(&self.shared.cells.broken_groups);
            cut_off(receiving.group, receiving.frame, Error::SessionClosed);
        }
        for fetch in inbox.fetches.into_values() {
            match fetch.wanted {
                Wanted::Group(request) => request.reject(Error::SessionClosed),
                Wanted::Rest(rest) => rest.leave(),
            }
        }
        self.outbox = Outbox::default();
        self.held.clear();
        self.publish = None;
        self.described.clear();
        if !self.is_over {
            log::closed(self.id, &error);
        }
        self.is_over = true;
        self.tell();
        self.shared.closed(error);
    }

    /// The application wants something of the session itself.
    fn wished(&mut self) {
        let Wishes { accept, goaway, end } = self.shared.take_wishes();
        if let Some(terms) = accept {
            self.accept(terms);
        }
        if let Some((uri, timeout)) = goaway {
            self.machine.apply(Command::GoAway { uri, timeout });
            self.part();
        }
        match end {
            Some(End::Close(error)) => return self.machine.apply(Command::Close { error }),
            Some(End::Drain) => self.draining = self.draining.or(Some(self.now)),
            None => {}
        }
        let Some(since) = self.draining else { return };
        // What was written before comes first, unless writing never ends.
        if !self.ready.is_empty() && self.now < since + self.close_time {
            return self.shared.look_again();
        }
        self.machine.apply(Command::Drain);
    }

    /// Somebody wants to know of the path, or nobody any more.
    fn probe_changed(&mut self) {
        let wanted = self.shared.estimates.are_wanted();
        if wanted != std::mem::replace(&mut self.probing, wanted) {
            self.machine.apply(if wanted { Command::Probe } else { Command::Unprobe });
        }
    }

    fn model_changed(&mut self, key: u64) {
        let slot = (key & u64::from(u32::MAX)) as usize;
        match key >> 32 {
            SESSION => self.wished(),
            READER => self.announcements_changed(slot),
            SERVE => self.serve_changed(slot),
            GROUP => {
                if let Some(command) = self.outbox.group_ready(slot) {
                    self.machine.apply(command);
                }
            }
            REMOTE => self.remote_changed(slot),
            ASK => self.ask_changed(slot),
            PAST => self.past_changed(slot),
            FETCH => self.fetch_changed(slot),
            ANSWER => self.answer_changed(slot),
            PROBE => self.probe_changed(),
            HELD => self.held_changed(slot),
            DOOR => self.door_changed(),
            TIMER => {}
            _ => unreachable!("no other keys are given out"),
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

census! { Driver {
    counts: ready, described, held;
    within: machine, outbox, inbox, shared;
    plain: version, id, now, publish, peer, is_parting, draining, close_time, path_bytes, probing,
        lost_datagrams, is_over;
} }

#[cfg(any(test, feature = "sim"))]
impl Driver {
    /// What the session remembers, for tests.
    pub fn census(&self) -> crate::sim::Census {
        crate::sim::Census::of(self)
    }
}
