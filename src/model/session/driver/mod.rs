//! The driver of a session. It owns the [`Machine`], provides the
//! [`Source`](crate::machine::Source) that the machine reads from, and connects the peer to the
//! origins of this side. It is the only type that adapters drive.

mod answer_deadlines;
mod decisions;
mod fetching;
mod inbox;
mod incoming_group;
mod lingering;
mod serving;
mod waiting_requests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use self::answer_deadlines::AnswerDeadlines;
use self::decisions::Decisions;
use self::inbox::{AgeFloor, Inbox};
use self::lingering::LingeringTracks;
use self::waiting_requests::{TrackRequestKind, WaitingRequests};
use crate::census::census;
use crate::machine::{
    Action, Command, Config, Datagram, Event, FetchRange, FramePosition, Input, Machine,
    NetworkPath, Open, Write,
};
use crate::model::base::{ReadyList, SessionId, add, count, impl_debug, set};
use crate::model::cache::{Cache, TrackConsumer, UpstreamFetch};
use crate::model::routing::{OriginConsumer, OriginProducer};
use crate::model::session::close_reason::CloseReason;
use crate::model::session::handle::Session;
use crate::model::session::incoming_session::IncomingSession;
use crate::model::session::log;
use crate::model::session::origins::AdmittedOrigins;
use crate::model::session::outbox::{FetchedGroups, Outbox};
use crate::model::session::retained::Retained;
use crate::model::session::setup::SessionSetup;
use crate::model::session::shared::{SessionCommands, SessionEnd, SessionShared};
use crate::stream::{Side, StreamId};
use crate::{Agreed, Error, Hop, Instant, LimitKind, Version};

/// How long a queried track is kept for a subscription that may follow.
const QUERIED_TIME: Duration = Duration::from_secs(2);

/// How many such tracks are kept. Past that the oldest is dropped.
const MAX_QUERIED: usize = 64;

/// How long a deadline waits for input that may have arrived before it.
const MAX_LATENESS: Duration = Duration::from_millis(100);

/// Drives one session. An adapter hands in inputs, calls [`work`](Driver::work), and pulls outputs.
///
/// One task or loop owns it. The [machine](crate::machine) documents the calls that it shares with
/// the driver. `work` does what lies between machine and model.
/// [Driving a session](crate::guide::driving) shows a complete loop.
///
/// ```
/// use smoq::machine::{Action, Input};
/// use smoq::{Client, Instant, Version};
///
/// // QUIC connected, and negotiated the ALPN of moq-lite-06.
/// let (mut session, mut driver) = Client::new().connect(Version::Lite06, Instant::ZERO);
///
/// // A turn: input, work, output.
/// let now = Instant::from_millis(1);
/// driver.handle(now, Input::NetworkPath(Default::default()));
/// while driver.work(now) {}
/// driver.end_turn(now, false);
/// while let Some(action) = driver.poll_action() {
///     assert!(!matches!(action, Action::Close { .. }));
/// }
/// let setup = driver.poll_open().expect("SETUP has a stream of its own");
/// setup.blocked(); // QUIC has no credit for a stream yet.
///
/// // QUIC lost the connection.
/// driver.handle(now, Input::Closed { error: smoq::Error::Timeout });
/// while driver.work(now) {}
/// assert!(driver.close_reason().is_some());
/// assert!(session.try_closed().is_ready());
/// # Ok::<(), smoq::Error>(())
/// ```
pub struct Driver {
    machine: Machine,
    outbox: Outbox,
    inbox: Inbox,
    ready: ReadyList,
    shared: Arc<SessionShared>,
    version: Version,
    id: SessionId,
    now: Instant,
    publish: Option<OriginConsumer>,
    /// The hop of the peer. Broadcasts that came through it are not announced to it.
    peer: Hop,
    /// Since when a deadline that has passed waits for input.
    late_since: Option<Instant>,
    queried: VecDeque<(Instant, TrackConsumer)>,
    /// Whether either side sent GOAWAY. Then routes through other sessions are better.
    is_leaving: bool,
    waiting: WaitingRequests,
    /// Set if the application decides on each request.
    decisions: Option<Box<Decisions>>,
    /// Since when the application wants the session to drain.
    draining: Option<Instant>,
    /// Where the broadcasts of the peer stay when the session ends.
    retained: Option<Retained>,
    close_timeout: Duration,
    path_bytes: usize,
    /// `Limits::requests`.
    requests: usize,
    /// Whether the peer is asked for estimates of the path.
    probing: bool,
    /// How many of the machine's lost datagrams were counted.
    lost_datagrams: u64,
    /// Whether the session is closed, and everything of the peer was ended.
    is_over: bool,
    /// Whether the next piece of work is an event of the machine, if there is one.
    is_peers_turn: bool,
    /// Whether there may be work that an input caused.
    has_new_input: bool,
}

/// The kinds of keys in the ready list. The rest of a key is a slot.
const SESSION: u64 = 0;
const ANNOUNCE_READER: u64 = 1;
const SERVED_TRACK: u64 = 2;
const GROUP: u64 = 3;
const BROADCAST: u64 = 4;
const TRACK: u64 = 5;
/// Only lets the driver check the time again.
const TIMER: u64 = 6;
const FETCHER: u64 = 7;
const FETCH: u64 = 8;
const SERVED_FETCH: u64 = 9;
const PROBE: u64 = 10;
const WAITING: u64 = 11;
const ADMISSION: u64 = 12;
const DECISION: u64 = 13;

fn ready_key(kind: u64, slot: u32) -> u64 {
    kind << 32 | u64::from(slot)
}

impl Driver {
    pub(crate) fn new(
        setup: &SessionSetup,
        side: Side,
        agreed: Agreed,
        now: Instant,
    ) -> (Session, Self) {
        let mut config = Config::new(side, agreed);
        (config.hop, config.interests) = setup.origins.identity();
        config.path = setup.path.clone();
        config.authority = setup.authority.clone();
        config.tokens = setup.tokens.clone();
        config.cost = setup.cost;
        config.role = setup.origins.role();
        let mut driver = Self::begin(setup, config, now);
        let admitted = setup.origins.clone().admit(driver.id);
        driver.shared.set_peer(&admitted);
        driver.join(admitted);
        (Session::new(driver.shared.clone()), driver)
    }

    pub(crate) fn request(
        setup: &SessionSetup,
        agreed: Agreed,
        now: Instant,
    ) -> (IncomingSession, Self) {
        let config = Config { requires_accept: true, ..Config::new(Side::Server, agreed) };
        let mut driver = Self::begin(setup, config, now);
        // On versions without SETUP the request is ready at once.
        driver.work(now);
        (IncomingSession::new(driver.shared.clone(), driver.id, setup.origins.clone()), driver)
    }

    fn begin(setup: &SessionSetup, config: Config, now: Instant) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let id = SessionId(LAST.fetch_add(1, Ordering::Relaxed));
        // Versions that share an ALPN do not differ in the features that are read here.
        let version = config.agreed.version();
        let config = Config { limits: setup.limits.clone(), subgroups: true, ..config };
        log::started(id, config.side, version);
        let age_floor =
            AgeFloor((!version.updates_subscriptions()).then_some(setup.limits.max_age));
        let ready = ReadyList::new();
        let probe = ready.waker(ready_key(PROBE, 0));
        let shared = SessionShared::new(&config, ready.waker(SESSION), probe);
        let mut machine = Machine::with_sink(config, now, setup.trace.sink());
        for (prefix, tokens) in setup.request_tokens.clone() {
            machine.apply(Command::SetTokens { prefix, tokens });
        }
        Self {
            machine,
            outbox: Outbox::new(setup.limits.sent_announcements),
            inbox: Inbox {
                lingering: LingeringTracks::new(&setup.limits),
                unanswered: AnswerDeadlines::new(&setup.limits),
                age_floor,
                ..Inbox::default()
            },
            shared,
            ready,
            version,
            id,
            now,
            publish: None,
            peer: Hop::UNKNOWN,
            late_since: None,
            queried: VecDeque::new(),
            is_leaving: false,
            waiting: WaitingRequests::new(),
            decisions: None,
            draining: None,
            retained: setup.retained.clone(),
            close_timeout: setup.limits.close_timeout,
            path_bytes: setup.limits.path_bytes,
            requests: setup.limits.requests,
            probing: false,
            lost_datagrams: 0,
            is_over: false,
            is_peers_turn: false,
            has_new_input: false,
        }
    }

    /// Lets the session use these origins.
    fn join(&mut self, admitted: AdmittedOrigins) {
        let AdmittedOrigins { origins, admission } = admitted;
        self.publish = origins.publish;
        self.inbox.consume = origins.consume;
        self.inbox.admission = admission;
        for cache in self.caches() {
            cache.add_timekeeper(self.id.0, self.ready.waker(ready_key(TIMER, 0)));
        }
        self.admission_changed();
    }

    /// The application accepts the peer.
    fn accept(&mut self, admitted: AdmittedOrigins) {
        let (hop, interests) = admitted.origins.identity();
        self.join(admitted);
        self.machine.apply(Command::Accept { hop, interests });
    }

    // ---- inputs ------------------------------------------------------------------------------

    /// Hands in what the connection did; see [`Machine::handle`](crate::machine::Machine::handle).
    pub fn handle(&mut self, now: Instant, input: Input) {
        self.advance_clock(now);
        self.has_new_input = true;
        // Adapters report the path in every turn. Only changes that matter are recorded and handled.
        let is_noise = |path: &NetworkPath| !path.is_news_to(&self.machine.network_path());
        if !matches!(&input, Input::NetworkPath(path) if is_noise(path)) {
            self.machine.handle(now, input);
        }
    }

    /// Handles the deadlines that have passed, after the inputs of a turn were handled. Returns whether there was one.
    /// [`Work`](Self::work) that these inputs caused and that is left is done first.
    ///
    /// `more` says that the turn ended early, so that more input or work is waiting. Then deadlines wait for it, for
    /// 100 ms at most: a peer whose data arrived in time must not time out because this process was busy.
    pub fn end_turn(&mut self, now: Instant, more: bool) -> bool {
        while !more && self.has_new_input && self.work(now) {}
        if self.poll_timeout().is_none_or(|at| at > now) {
            self.late_since = None;
            return false;
        }
        let late_since = *self.late_since.get_or_insert(now);
        if more && now < late_since + MAX_LATENESS {
            return false;
        }
        self.late_since = None;
        self.handle_timeout(now);
        true
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        for cache in self.caches() {
            cache.advance(now);
        }
        self.machine.handle_timeout(now);
        while let Some(request) = self.outbox.announcing.pop_due(now) {
            self.machine.apply(Command::AnnouncementsReady { request });
        }
        self.expire_lingering(now);
        self.expire_answers(now);
        self.outbox.fetches.expire(now);
        while self.queried.front().is_some_and(|(until, _)| *until <= now) {
            self.queried.pop_front();
        }
    }

    fn caches(&self) -> impl Iterator<Item = &Arc<Cache>> {
        let consume = self.inbox.consume.as_ref().map(OriginProducer::cache);
        consume.into_iter().chain(self.publish.as_ref().map(OriginConsumer::cache))
    }

    /// Moves the clocks of the origins forward without checking deadlines. Returns whether time has
    /// passed.
    fn advance_clock(&mut self, now: Instant) -> bool {
        let is_later = now > self.now;
        if is_later {
            self.now = now;
            for cache in self.caches() {
                cache.set_now(now);
            }
        }
        is_later
    }

    /// Does one bounded piece of the work between machine and model. Returns `false` if there is
    /// none until something changes.
    ///
    /// Changes by the application since the last call count as made `now`, because the session may
    /// have been idle before.
    pub fn work(&mut self, now: Instant) -> bool {
        if self.advance_clock(now) {
            self.machine.handle(now, Input::Time);
        }
        // In turns, so that neither a busy model nor a busy peer holds up the other.
        self.is_peers_turn = !self.is_peers_turn;
        if self.is_peers_turn && self.follow_machine() || self.follow_model() {
            return true;
        }
        if !self.is_peers_turn && self.follow_machine() {
            return true;
        }
        self.has_new_input = false;
        if self.outbox.announcing.take_left_out() {
            log::broke(self.id, "announcements", &Error::Limit(LimitKind::SentAnnouncements));
        }
        self.caches().for_each(|cache| cache.confirm_now());
        false
    }

    /// Handles one change of the model.
    fn follow_model(&mut self) -> bool {
        let Some(key) = self.ready.pop() else { return false };
        self.model_changed(key);
        true
    }

    /// Handles one event of the machine.
    fn follow_machine(&mut self) -> bool {
        let event = self.machine.poll_event();
        let lost = self.machine.lost_datagrams();
        add(&self.shared.cells.lost_datagrams, lost - self.lost_datagrams);
        self.lost_datagrams = lost;
        if self.machine.version() != self.version {
            self.version = self.machine.version();
            self.shared.set_version(self.version);
        }
        match event {
            Some(event) => {
                self.event(event);
                true
            }
            None => self.apply_ended(),
        }
    }

    // ---- outputs -----------------------------------------------------------------------------

    /// The next change to the connection; see
    /// [`Machine::poll_action`](crate::machine::Machine::poll_action).
    pub fn poll_action(&mut self) -> Option<Action> {
        self.machine.poll_action()
    }

    /// The most urgent stream to open; see
    /// [`Machine::poll_open`](crate::machine::Machine::poll_open).
    pub fn poll_open(&mut self) -> Option<Open<'_>> {
        self.machine.poll_open(&mut self.outbox)
    }

    /// The most urgent datagram; see
    /// [`Machine::poll_datagram`](crate::machine::Machine::poll_datagram).
    pub fn poll_datagram(&mut self) -> Option<Datagram<'_>> {
        self.machine.poll_datagram(&mut self.outbox)
    }

    /// The most urgent bytes; see [`Machine::poll_write`](crate::machine::Machine::poll_write).
    pub fn poll_write(&mut self) -> Option<Write<'_>> {
        self.machine.poll_write(&mut self.outbox)
    }

    /// When the next turn is due if nothing happens before: [`end_turn`](Self::end_turn) handles the deadline. `None`:
    /// there is no deadline.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.publish_stats();
        let queried = self.queried.front().map(|(until, _)| *until);
        // One session of an origin runs the timer of its cache for all.
        let minded = self.caches().filter(|cache| cache.is_timekeeper(self.id.0));
        let expiry = minded.filter_map(|cache| cache.next_deadline()).min();
        let waiting = self.outbox.announcing.next_deadline();
        let lingering = self.inbox.lingering.next_deadline();
        let unanswered = self.inbox.unanswered.next_deadline();
        let fills = self.outbox.fetches.next_deadline();
        let deadlines =
            [self.machine.poll_timeout(), queried, lingering, unanswered, expiry, waiting, fills];
        deadlines.into_iter().flatten().min()
    }

    /// Updates the counters and gauges that handles read, at the end of a turn.
    fn publish_stats(&self) {
        let (cells, counts, path) =
            (&self.shared.cells, self.machine.counts(), self.machine.network_path());
        let path = if self.is_over { NetworkPath::default() } else { path };
        let serving = self.outbox.serving() + self.queried.len() + self.waiting.len();
        let (trace_bytes, is_recording) = self.machine.recording().unwrap_or_default();
        let is_recording = is_recording && !self.is_over;
        if cells.recording.load(Ordering::Relaxed) == 1 && !is_recording && !self.is_over {
            log::trace_stopped(self.id);
        }
        cells.set_network_path(&path);
        for (cell, value) in [
            (&cells.bytes_sent, counts.bytes_sent),
            (&cells.bytes_received, counts.bytes_received),
            (&cells.frames_sent, counts.frames_sent),
            (&cells.frames_received, counts.frames_received),
            (&cells.serving, serving as u64),
            (&cells.reading, self.inbox.tracks.len() as u64),
            (&cells.announced, self.inbox.broadcasts.len() as u64),
            (&cells.sending_groups, self.outbox.sending() as u64),
            (&cells.receiving_groups, self.inbox.groups.len() as u64),
            (&cells.trace_bytes, trace_bytes),
            (&cells.recording, is_recording.into()),
        ] {
            set(cell, value);
        }
    }

    /// Whether [`work`](Driver::work) or one of the `poll_*` above may have something to do. A game
    /// loop can check it and needs no waker.
    pub fn has_work(&self) -> bool {
        !self.ready.is_empty() || self.machine.has_work() || self.inbox.ended.is_some()
    }

    /// As [`Machine::is_blocked`](crate::machine::Machine::is_blocked): the session has more than QUIC takes.
    pub fn is_blocked(&self) -> bool {
        self.machine.is_blocked()
    }

    /// Ready when the model changed: call [`work`](Driver::work). Otherwise the waker of `cx` is
    /// registered in place of an earlier one.
    pub fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.ready.poll_ready(cx)
    }

    /// How many more bytes of this stream are accepted now; see
    /// [`Machine::read_limit`](crate::machine::Machine::read_limit).
    pub fn read_limit(&self, id: StreamId) -> usize {
        self.machine.read_limit(id)
    }

    /// Why the session is over, as [`Session::closed`] returns it; `None` while it runs. Nothing follows but the last
    /// [`Action::Close`].
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.shared.close_reason().map(CloseReason::from)
    }

    // ---- events of the peer ------------------------------------------------------------------

    fn event(&mut self, event: Event) {
        if !matches!(event, Event::Announced { .. }) {
            self.apply_ended();
        }
        let event = match &mut self.decisions {
            None => event,
            Some(decisions) => match decisions.ask(event) {
                Some(event) => event,
                None => return,
            },
        };
        self.act_on(event);
    }

    fn act_on(&mut self, event: Event) {
        match event {
            Event::Announced { path, hops, cost } => self.announced(path, hops, cost),
            Event::Unannounced { path } => self.inbox.ended = Some(path),
            Event::TrackInfo { subscription, info } => self.track_info(subscription, info),
            Event::Group { subscription, group, sequence, .. } => {
                self.group(subscription, group, sequence, None);
            }
            Event::Subgroup { subscription, group, sequence, subgroup } => {
                self.group(subscription, group, sequence, Some(subgroup));
            }
            Event::Frame { group, timestamp, properties, size, payload } => {
                self.receive(group, |receiving, now| {
                    receiving.frame(timestamp, now, properties, size, payload.as_slice())
                });
                self.machine.recycle(payload);
            }
            Event::Payload { group, bytes } => {
                self.receive(group, |receiving, _| receiving.payload(&bytes));
            }
            Event::GroupEnded { group, result } => self.group_ended(group, result),
            Event::SubscribeEnded { subscription, result } => {
                self.subscribe_ended(subscription, result);
            }
            Event::AnnounceRequested { request, prefix, exclude, hidden, .. } => {
                self.announce_requested(request, &prefix, exclude, hidden, None);
            }
            Event::TracksRequested { request, prefix, names, .. } => {
                self.announce_requested(request, &prefix, Hop::UNKNOWN, true, Some(names));
            }
            Event::SubscribeStarted { subscription, group } => {
                if let Some(remote_track) = self.inbox.tracks.get_mut(subscription.into()) {
                    remote_track.track.set_start(group);
                }
            }
            Event::SubscribeRequested { request, broadcast, track, subscription, wait, .. } => {
                let kind = TrackRequestKind::Subscribe(subscription);
                self.requested(request, &broadcast, &track, kind, wait);
            }
            Event::SubscribeUpdated { request, subscription } => {
                if !self.update_waiting(request.slot(), &subscription) {
                    self.outbox.update(request, subscription);
                }
            }
            Event::TrackOffered { request, broadcast, track, .. } => {
                self.offered(request, &broadcast, Some(&track));
            }
            Event::BroadcastOffered { request, broadcast, .. } => {
                self.offered(request, &broadcast, None);
            }
            // Readers are told what they can fetch: the newest frame that is in the cache.
            Event::LargestFrame { subscription, .. } => {
                if let Some(remote_track) = self.inbox.tracks.get(subscription.into()) {
                    remote_track.track.set_has_past();
                }
            }
            Event::TrackRequested { request, broadcast, track, .. } => {
                self.requested(request, &broadcast, &track, TrackRequestKind::Query, None);
            }
            Event::Datagram {
                subscription,
                sequence,
                subgroup,
                timestamp,
                properties,
                payload,
            } => {
                self.datagram(subscription, sequence, subgroup, timestamp, properties, &payload);
            }
            Event::Estimate { estimate } => self.shared.estimates.update(estimate),
            Event::ProbeEnded { error } => self.shared.estimates.end(error),
            Event::TracksEnded { tracks, error } => self.shared.tracks_ended(tracks, error),
            Event::FetchEnded { fetch, result } => self.fetch_ended(fetch, result),
            Event::FetchRequested {
                request,
                broadcast,
                track,
                priority,
                sequence,
                first_frame,
                last_frame,
                ..
            } => {
                let start = FramePosition::new(sequence, first_frame);
                let end = FramePosition::new(sequence, last_frame.unwrap_or(u64::MAX));
                let wanted = FetchedGroups::One(FetchRange { start, end, ..FetchRange::default() });
                let kind = TrackRequestKind::Fetch { priority, wanted };
                self.requested(request, &broadcast, &track, kind, None);
            }
            Event::RangeRequested { request, target, priority, range, .. } => {
                self.range_requested(request, target, priority, range);
            }
            Event::FetchStarted { fetch, group } => self.fetch_started(fetch, group),
            Event::SetUp { peer } => self.shared.set_peer_setup(peer),
            Event::GroupRefused { .. } => self.shared.refuse_group(),
            Event::GroupReleased { group, sent } => self.group_released(group, sent),
            Event::RequestEnded { request, result } => self.request_ended(request, result),
            Event::GoingAway { uri, timeout } => self.going_away(uri, timeout),
            Event::Closed { error } => self.close(error),
        }
    }

    /// Ends everything that came from the peer, and drops everything else.
    fn close(&mut self, error: Error) {
        for cache in self.caches() {
            cache.remove_timekeeper(self.id.0);
        }
        self.apply_ended();
        let inbox = std::mem::take(&mut self.inbox);
        // First, so that running tracks find something to wait for.
        if let (Some(retained), Some(origin)) = (&self.retained, &inbox.consume) {
            for remote in inbox.broadcasts.iter().filter(|remote| remote.is_announced) {
                let (path, upstream) = (&remote.path, &remote.upstream);
                retained.keep(path, || origin.retain(path, upstream));
            }
        }
        for mut fetcher in inbox.fetchers.into_values() {
            fetcher.dynamic.refuse(&Error::SessionClosed);
        }
        for remote_track in inbox.tracks.into_values() {
            remote_track.track.fail(Error::SessionClosed);
        }
        for remote in inbox.broadcasts.into_values() {
            remote.upstream.leave(Err(Error::SessionClosed));
        }
        // Last, because only now it is known whether another session goes on.
        for receiving in inbox.groups.into_values() {
            count(&self.shared.cells.broken_groups);
            receiving.cut_off(Error::SessionClosed);
        }
        for fetch in inbox.fetches.into_values() {
            match fetch.wanted {
                UpstreamFetch::Group(request) => request.reject(Error::SessionClosed),
                UpstreamFetch::PartialGroup(partial) => partial.hand_back(),
            }
        }
        self.outbox = Outbox::default();
        self.waiting.clear();
        self.decisions = None;
        self.publish = None;
        self.queried.clear();
        if !self.is_over {
            log::closed(self.id, &error);
        }
        self.is_over = true;
        self.publish_stats();
        self.shared.closed(error);
    }

    /// Carries out the commands of the application.
    fn run_commands(&mut self) {
        let SessionCommands { tokens, accept, decide, tracks, goaway, end } =
            self.shared.take_commands();
        for (prefix, tokens) in tokens {
            self.machine.apply(Command::SetTokens { prefix, tokens });
        }
        if let Some(admitted) = accept {
            self.accept(admitted);
        }
        if let Some(decide) = decide {
            self.decide_with(decide);
        }
        for (tracks, prefix) in tracks {
            self.machine.apply(match prefix {
                Some(prefix) => Command::SubscribeTracks { tracks, prefix },
                None => Command::UnsubscribeTracks { tracks },
            });
        }
        if let Some((uri, timeout)) = goaway {
            self.machine.apply(Command::GoAway { uri, timeout });
            self.drain_routes();
        }
        match end {
            Some(SessionEnd::Close(error)) => return self.machine.apply(Command::Close { error }),
            Some(SessionEnd::Drain) => self.draining = self.draining.or(Some(self.now)),
            None => {}
        }
        let Some(since) = self.draining else { return };
        // Data that was written before is sent first, unless the application never stops writing.
        if !self.ready.is_empty() && self.now < since + self.close_timeout {
            return self.shared.wake_driver();
        }
        self.machine.apply(Command::Drain);
    }

    /// The first probe was created, or the last one was dropped.
    fn probe_changed(&mut self) {
        let wanted = self.shared.estimates.are_wanted();
        if wanted != std::mem::replace(&mut self.probing, wanted) {
            self.machine.apply(if wanted { Command::Probe } else { Command::Unprobe });
        }
    }

    fn model_changed(&mut self, key: u64) {
        let slot = (key & u64::from(u32::MAX)) as usize;
        match key >> 32 {
            SESSION => self.run_commands(),
            ANNOUNCE_READER => self.announcements_changed(slot),
            SERVED_TRACK => self.served_track_changed(slot),
            GROUP => {
                if let Some(command) = self.outbox.group_ready(slot) {
                    self.machine.apply(command);
                }
            }
            BROADCAST => self.broadcast_changed(slot),
            TRACK => self.track_changed(slot),
            FETCHER => self.fetcher_changed(slot),
            FETCH => self.fetch_changed(slot),
            SERVED_FETCH => self.served_fetch_changed(slot),
            PROBE => self.probe_changed(),
            WAITING => self.waiting_changed(slot),
            ADMISSION => self.admission_changed(),
            DECISION => self.decided(),
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

impl_debug! { Driver, it => machine: &it.machine }

census! { Driver {
    counts: ready, queried, waiting;
    within: machine, outbox, inbox, shared, decisions;
    plain: version, id, now, late_since, publish, peer, is_leaving, draining, retained, close_timeout,
        path_bytes, requests, probing, lost_datagrams, is_over, is_peers_turn, has_new_input;
} }

#[cfg(any(test, feature = "sim"))]
impl Driver {
    /// The census of the session, for tests.
    pub fn census(&self) -> crate::census::Census {
        crate::census::Census::of(self)
    }
}
