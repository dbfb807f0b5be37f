//! The dialect-independent state of a session: [`Core`], and every operation that needs no dialect.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::datagrams::Datagrams;
use super::fetches::{FetchId, IncomingFetch, OutgoingFetch};
use super::incoming_subscriptions::IncomingSubscription;
use super::outgoing_subscriptions::OutgoingSubscriptions;
use super::recv_streams::{GroupHeader, RecvStreams};
use super::requests::Requests;
use super::schedule::{Rules, Schedule};
use super::timers::{Timer, Timers};
use crate::census::census;
use crate::coding::ietf::Draft;
use crate::error::{Error, LimitKind};
use crate::limits::Limits;
use crate::machine::config::Config;
use crate::machine::counts::Counts;
use crate::machine::event::Event;
use crate::machine::io::Action;
use crate::machine::layout::Layout;
use crate::machine::network_path::NetworkPath;
use crate::machine::run::Scratch;
use crate::machine::source::Token;
use crate::machine::stream_buffers::{SendBuffer, buffer_limit};
use crate::peer::Peer;
use crate::slab::{Key, SideTable};
use crate::stream::{Code, Dir, Side, StreamId};
use crate::subscription::{Subscription, TrackInfo};
use crate::time::Instant;
use crate::version::Version;

/// The state that every dialect builds on.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) version: Version,
    /// Translates the codes of moq-transport. Internally the codes are those of moq-lite.
    pub(crate) draft: Option<&'static Draft>,
    pub(crate) limits: Limits,
    pub(crate) now: Instant,
    pub(crate) state: SessionState,
    /// The peer's set-up arrived, or the version has none.
    is_set_up: bool,
    /// The set-up arrives on a request, so that requests are read before it.
    pub(crate) sets_up_on_request: bool,
    /// The set-up on this request agreed on a version of the other dialect, which goes on with it.
    pub(crate) agreed_on: Option<(Version, Key)>,
    /// The application has not accepted the peer yet.
    pub(crate) awaits_accept: bool,
    /// `Config::subgroups`.
    pub(crate) takes_subgroups: bool,
    /// Why the connection was lost, until the event reports it.
    pub(crate) lost: Option<Error>,
    pub(crate) requests: Requests,
    pub(crate) recv_streams: RecvStreams,
    /// Our subscriptions to the peer's tracks.
    pub(crate) outgoing: OutgoingSubscriptions,
    /// The peer's subscriptions to our tracks.
    pub(crate) incoming: SideTable<IncomingSubscription>,
    /// How many requests wait for the peer to confirm their end.
    unconfirmed: usize,
    /// Until when the peer may still read what it can't confirm. Some peers throw away what they
    /// have not read when the session closes.
    pub(crate) unread_until: Option<Instant>,
    /// FETCHes of the peer, by request.
    pub(crate) incoming_fetches: BTreeMap<Key, IncomingFetch>,
    pub(crate) outgoing_fetches: BTreeMap<FetchId, OutgoingFetch>,
    pub(crate) schedule: Schedule,
    pub(crate) timers: Timers,
    /// The peer sent GOAWAY: it accepts no new requests.
    pub(crate) peer_is_going_away: bool,
    pub(crate) actions: VecDeque<Action>,
    /// Events that no received bytes cause: the results of commands, and of the session's end.
    pub(crate) notices: VecDeque<Event>,
    /// Our unidirectional stream that carries the set-up.
    pub(crate) control: Option<ControlStream>,
    /// By direction: QUIC has no stream credit.
    pub(crate) no_credit: [bool; 2],
    pub(crate) counts: Counts,
    pub(crate) network_path: NetworkPath,
    pub(crate) datagrams: Datagrams,
    /// The empty list of an earlier payload, for the next one that has several chunks.
    pub(crate) chunk_list: Vec<Bytes>,
    /// The bytes that the current guard shows.
    pub(crate) scratch: Scratch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionState {
    Open,
    /// We sent GOAWAY. Running requests continue.
    GoingAway,
    /// Only what is already owed is still sent.
    Draining,
    /// The connection is gone, but not everything that it delivered was reported yet.
    Lost,
    Closed,
}

impl SessionState {
    /// Whether new requests are refused in both directions, because of us.
    pub(crate) fn is_ending(self) -> bool {
        matches!(self, Self::GoingAway | Self::Draining)
    }
}

#[derive(Debug, Default)]
pub(crate) struct ControlStream {
    pub(crate) send: SendBuffer,
    pub(crate) stream: Option<StreamId>,
    /// QUIC accepts no more bytes for now.
    pub(crate) blocked: bool,
}

impl Core {
    pub(crate) fn new(config: &Config, now: Instant) -> Self {
        let limits = config.limits.clone();
        // Versions that share an ALPN lay out groups alike, so this holds before the set-up too.
        let version = config.agreed.version();
        let layout = Layout::of(version);
        let mut core = Self {
            version,
            draft: Draft::of(version),
            now,
            state: SessionState::Open,
            is_set_up: false,
            sets_up_on_request: false,
            agreed_on: None,
            awaits_accept: config.requires_accept && config.side == Side::Server,
            takes_subgroups: config.subgroups,
            lost: None,
            requests: Requests::new(limits.requests, buffer_limit(&limits)),
            recv_streams: RecvStreams::new(&limits),
            outgoing: OutgoingSubscriptions::default(),
            incoming: SideTable::default(),
            unconfirmed: 0,
            unread_until: None,
            incoming_fetches: BTreeMap::new(),
            outgoing_fetches: BTreeMap::new(),
            schedule: Schedule::new(layout, limits.pending_groups),
            timers: Timers::default(),
            peer_is_going_away: false,
            actions: VecDeque::new(),
            notices: VecDeque::new(),
            control: None,
            no_credit: [false; 2],
            counts: Counts::default(),
            network_path: NetworkPath::default(),
            datagrams: Datagrams::new(limits.datagrams),
            chunk_list: Vec::new(),
            scratch: Scratch::default(),
            limits,
        };
        if core.awaits_accept {
            core.timers.set(now + core.limits.handshake_timeout, Timer::Handshake);
        }
        core
    }

    /// The set-up agreed on a version of another dialect. Nothing but the set-up was sent or received, and no group was
    /// opened.
    pub(crate) fn change_version(&mut self, version: Version) {
        (self.version, self.draft) = (version, Draft::of(version));
        self.schedule = Schedule::new(Layout::of(version), self.limits.pending_groups);
        self.requests.release();
    }

    /// Frees the memory of a session whose end was reported.
    pub(crate) fn forget(&mut self) {
        self.requests = Requests::new(0, 0);
        self.recv_streams = RecvStreams::new(&self.limits);
        (self.outgoing, self.incoming, self.schedule) = Default::default();
        (self.incoming_fetches, self.outgoing_fetches) = Default::default();
        (self.unconfirmed, self.unread_until) = Default::default();
        (self.control, self.lost) = Default::default();
        self.datagrams.forget();
        self.scratch = Scratch::default();
    }

    // ---- streams -----------------------------------------------------------------------------

    /// Translates a code of RESET_STREAM or STOP_SENDING from the peer's draft to moq-lite.
    pub(crate) fn local_code(&self, code: Code) -> Code {
        self.draft.map_or(code, |draft| draft.stream_error(code).stream_code())
    }

    /// Translates a code from moq-lite to the peer's draft.
    pub(crate) fn wire_code(&self, code: Code) -> Code {
        self.draft.map_or(code, |draft| draft.stream_code(&Error::from_stream_code(code)))
    }

    /// Whether the peer's half of the stream belongs to `recv_streams`; otherwise it belongs to a request.
    pub(crate) fn is_recv_stream(&self, id: StreamId) -> bool {
        id.dir() == Dir::Uni || self.recv_streams.has(id)
    }

    /// How the schedule chooses. A group may go before a newer one if the rest of it leaves within 50 ms at the
    /// rate of the path, and never if that is unknown.
    pub(crate) fn rules(&self) -> Rules {
        let in_50_ms = self.network_path.bitrate.unwrap_or(0) / (8 * 20);
        let finish = usize::try_from(in_50_ms).unwrap_or(usize::MAX);
        Rules { finish, may_open: self.has_credit(Dir::Uni) }
    }

    pub(crate) fn has_credit(&self, dir: Dir) -> bool {
        !self.no_credit[dir as usize]
    }

    // ---- the end of the session --------------------------------------------------------------

    /// Whether there is no usable connection any more.
    pub(crate) fn is_cut_off(&self) -> bool {
        matches!(self.state, SessionState::Closed | SessionState::Lost)
    }

    /// The connection is gone. Data that arrived before is still decoded.
    pub(crate) fn lose(&mut self, error: Error) {
        self.state = SessionState::Lost;
        // Adapters know the codes of moq-lite.
        self.lost = Some(match (self.draft, error) {
            (Some(draft), Error::Remote(code)) => draft.session_error(code),
            (_, error) => error,
        });
        self.timers.clear();
        self.actions.clear();
    }

    /// Closes the session for a reason of our own.
    pub(crate) fn close(&mut self, error: Error) {
        let draft = self.draft;
        let code = draft.map_or_else(|| error.session_code(), |draft| draft.session_code(&error));
        self.close_with(error, code);
    }

    fn close_with(&mut self, error: Error, code: Code) {
        if self.state == SessionState::Closed {
            return;
        }
        let reason = match &error {
            Error::ProtocolViolation(rule) => rule,
            _ => "",
        };
        self.end(error);
        self.actions.push_back(Action::Close { code, reason });
    }

    /// Nothing more is received or sent.
    pub(crate) fn end(&mut self, error: Error) {
        self.state = SessionState::Closed;
        self.timers.clear();
        self.actions.clear();
        self.notices.clear();
        self.notices.push_back(Event::Closed { error });
    }

    pub(crate) fn violation(&mut self, rule: &'static str) {
        self.close(Error::ProtocolViolation(rule));
    }

    /// Like [`violation`](Self::violation), with a session code of its own.
    pub(crate) fn violation_as(&mut self, code: u64, rule: &'static str) {
        self.close_with(Error::ProtocolViolation(rule), Code::new(code));
    }

    /// The peer ended its control stream, which it must keep open. So do carriers when a session ends, and its end may be
    /// read later than that of its streams. If it does not come, the peer broke the rule.
    pub(crate) fn control_ended(&mut self) {
        self.timers.hasten(self.now + self.limits.close_timeout, Timer::Leaving);
    }

    pub(crate) fn drain(&mut self) {
        if matches!(self.state, SessionState::Open | SessionState::GoingAway) {
            self.state = SessionState::Draining;
            self.timers.set(self.now + self.limits.close_timeout, Timer::Close);
            self.unread_until.inspect(|until| self.timers.set(*until, Timer::Unread));
        }
    }

    /// Whether everything that is owed was accepted by QUIC and, where the version confirms it, read by
    /// the peer.
    pub(crate) fn is_flushed(&self) -> bool {
        !self.requests.has_unsent()
            && self.control.as_ref().is_none_or(|control| !control.send.has_work())
            && !self.schedule.has_unsent()
            && self.schedule.released.is_empty()
            && self.unconfirmed == 0
            && self.unread_until.is_none_or(|until| until <= self.now)
    }

    // ---- set-up and GOAWAY -------------------------------------------------------------------

    /// Whether the peer is set up, and the application accepted it. Until then nothing else is decoded.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_set_up && !self.awaits_accept
    }

    /// Whether the peer's set-up was read, or the version has none.
    pub(crate) fn is_set_up(&self) -> bool {
        self.is_set_up
    }

    /// The peer's set-up was read, or the version has none. Returns `true` if the session goes on at once; otherwise the
    /// application decides.
    pub(crate) fn accepts_peer(&mut self, peer: impl FnOnce() -> Peer) -> bool {
        self.is_set_up = true;
        if self.awaits_accept {
            self.notices.push_back(Event::SetUp { peer: peer() });
        }
        !self.awaits_accept
    }

    /// Starts to wait for the end of what runs. Returns the deadline if GOAWAY is to be sent; a second
    /// call can only bring the deadline forward.
    pub(crate) fn begin_goaway(&mut self, timeout: Duration) -> Option<Instant> {
        let is_new = self.state == SessionState::Open;
        if !is_new && self.state != SessionState::GoingAway {
            return None;
        }
        self.state = SessionState::GoingAway;
        let deadline = self.now + timeout;
        self.timers.hasten(deadline, Timer::GoAway);
        is_new.then_some(deadline)
    }

    /// Whether everything that ran when GOAWAY was sent is over. Before the peer's set-up GOAWAY was not
    /// sent.
    pub(crate) fn goaway_is_done(&self) -> bool {
        let has_requests = !self.outgoing.is_empty() || !self.outgoing_fetches.is_empty();
        let is_going_away = self.state == SessionState::GoingAway && self.is_ready();
        is_going_away && !has_requests && !self.is_serving()
    }

    /// Whether the peer has a subscription or waits for a group.
    fn is_serving(&self) -> bool {
        self.incoming.len() > 0 || !self.incoming_fetches.is_empty()
    }

    /// The deadline of GOAWAY passed. The peer is at fault only if requests of its own still run.
    pub(crate) fn on_goaway_timeout(&mut self) {
        let is_late = self.is_serving();
        self.close(if is_late { Error::GoawayTimeout } else { Error::SessionClosed });
    }

    // ---- group streams that wait for their subscription --------------------------------------

    /// Makes a group stream wait until its subscription and track are known. Such streams are not read
    /// on, and are bounded in number and time.
    pub(crate) fn hold_group(&mut self, key: Key, header: GroupHeader) {
        let until = self.now + self.limits.unbound_timeout;
        if self.recv_streams.hold(key, header, until) {
            self.timers.set(until, Timer::Unbound);
        }
        if let Some(oldest) = self.recv_streams.pop_held_past(self.limits.unbound_streams) {
            let error = Error::Limit(LimitKind::UnboundStreams);
            self.recv_streams.stop(&mut self.actions, oldest, &error);
        }
    }

    /// Stops the group streams that waited for this subscription.
    pub(crate) fn stop_held(&mut self, number: u64, error: &Error) {
        for key in self.recv_streams.take_held(number) {
            self.recv_streams.stop(&mut self.actions, key, error);
        }
    }

    pub(crate) fn on_unbound_timeout(&mut self) {
        while let Some((until, key)) = self.recv_streams.oldest_held() {
            if until > self.now {
                self.timers.set(until, Timer::Unbound);
                return;
            }
            self.recv_streams.pop_held_past(0);
            self.recv_streams.stop(&mut self.actions, key, &Error::Timeout);
        }
    }

    // ---- our subscriptions -------------------------------------------------------------------

    /// Why a new subscription of ours must fail, if it must.
    pub(crate) fn admit_subscription(&self, token: Token) -> Result<(), Error> {
        if self.peer_is_going_away || self.state.is_ending() {
            return Err(Error::GoingAway);
        }
        if self.outgoing.len() >= self.limits.subscriptions {
            return Err(Error::Limit(LimitKind::Subscriptions));
        }
        if self.outgoing.by_token(token).is_some() {
            return Err(Error::Duplicate);
        }
        Ok(())
    }

    /// Reports a subscription of ours that never began.
    pub(crate) fn reject_subscription(&mut self, token: Token, error: Error) {
        let result = Err(error);
        self.notices.push_back(Event::SubscribeEnded { subscription: token, result });
    }

    /// The track information that is assumed where the version has none.
    pub(crate) fn default_track_info(&self) -> TrackInfo {
        TrackInfo { max_age: self.limits.max_age, ..TrackInfo::default() }
    }

    /// The track information of a subscription is known: its groups may be read.
    pub(crate) fn set_track_info(&mut self, key: Key, info: TrackInfo) -> Option<Event> {
        let subscription = self.outgoing.get_mut(key)?;
        subscription.info = Some(info.clone());
        subscription.query = None;
        let (token, number) = (subscription.token, subscription.number);
        if let Some(number) = number {
            self.recv_streams.release_held(number, &mut self.actions);
            self.datagrams.release(self.now, number);
        }
        Some(Event::TrackInfo { subscription: token, info })
    }

    // ---- the peer's subscriptions ------------------------------------------------------------

    /// Abandons what is left of a subscription or FETCH of the peer.
    pub(crate) fn end_incoming(&mut self, request: Key, error: &Error) {
        self.incoming.remove(request);
        self.incoming_fetches.remove(&request);
        self.schedule.remove_track(request, error.stream_code(), &mut self.actions);
    }

    /// The peer changed the options of its subscription.
    pub(crate) fn update_incoming(&mut self, request: Key, options: &Subscription) {
        let Some(subscription) = self.incoming.get_mut(request) else { return };
        // A request for a new group is reported once.
        subscription.options = Subscription { new_group: None, ..options.clone() };
        let (priority, ordered) = (options.priority, options.ordered);
        self.schedule.update_track(request, priority, ordered, &mut self.actions);
    }

    /// The peer wants no groups, or wants groups again. Those that were given are given up.
    pub(crate) fn pause_incoming(&mut self, request: Key, paused: bool) {
        let Some(subscription) = self.incoming.get_mut(request) else { return };
        subscription.paused = paused;
        if paused {
            let code = Error::Cancelled.stream_code();
            self.schedule.clear_track(request, code, &mut self.actions);
        }
    }

    /// Sends FIN. The peer confirms that it read everything by ending its half. Until then a close could destroy what it
    /// has not read.
    pub(crate) fn await_confirmation(&mut self, key: Key) {
        let Some(request) = self.requests.get(key) else { return };
        request.unconfirmed = true;
        self.unconfirmed += 1;
        self.requests.finish(key);
        self.requests.queue_read(key);
    }

    /// Discards what the peer still sends on a request that is over, and forgets it if both halves are. Returns whether it
    /// did.
    pub(crate) fn retire(&mut self, key: Key) -> bool {
        let Some(request) = self.requests.get(key) else { return false };
        request.recv.discard();
        let has_ended = request.recv.is_over() || request.abandoned().is_some();
        if has_ended && core::mem::take(&mut request.unconfirmed) {
            self.unconfirmed -= 1;
        }
        self.requests.retire(key)
    }

    // ---- FETCH -------------------------------------------------------------------------------

    /// Why a new FETCH of ours must fail, if it must.
    pub(crate) fn admit_fetch(&self, id: FetchId) -> Result<(), Error> {
        if self.peer_is_going_away || self.state.is_ending() {
            return Err(Error::GoingAway);
        }
        if self.outgoing_fetches.len() >= self.limits.requests {
            return Err(Error::Limit(LimitKind::Requests));
        }
        if self.outgoing_fetches.contains_key(&id) {
            return Err(Error::Duplicate);
        }
        Ok(())
    }
}

census! { ControlStream { within: send; plain: stream, blocked; } }
census! { Core {
    counts: incoming_fetches, outgoing_fetches, unconfirmed, lost, timers, actions, notices;
    within: requests, recv_streams, outgoing, incoming, schedule, control, datagrams, scratch;
    plain: version, draft, limits, now, state, is_set_up, sets_up_on_request, agreed_on, awaits_accept, takes_subgroups, peer_is_going_away, no_credit, counts, network_path, unread_until, chunk_list;
} }
