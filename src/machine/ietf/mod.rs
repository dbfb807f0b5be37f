//! moq-transport: what each message and stream means, for all drafts.
//!
//! From draft 17 on a request is a bidirectional stream. Before, requests are messages on one control
//! stream: `control` takes those apart and hands each request its own, so that everything else here
//! is the same for both. `names` is discovery both ways, `publisher` and `subscriber` are
//! subscriptions, `streams` what comes on unidirectional streams.

mod control;
mod names;
mod publisher;
mod streams;
mod subscriber;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use bytes::Bytes;

use super::app::{Command, Event};
use super::dialect::{Dialect, Look};
use super::incoming::Header;
use super::io::{Source, Token};
use super::layout::Head;
use super::leave::redirect;
use super::serves::Serving;
use super::streams::{Recv, Send};
use super::subs::Sub;
use super::timers::Timer;
use super::{Config, Control, Core};
use crate::census::census;
use crate::coding::ietf::{
    Draft, Goaway, Message, MessageType, PublishDone, RequestError, Setup, frame_message,
    request_id,
};
use crate::coding::{DecodeError, EncodeError};
use crate::error::Error;
use crate::hop::Hop;
use crate::limits::Limits;
use crate::path::Path;
use crate::peer::Peer;
use crate::slab::Key;
use crate::stream::Side;
use crate::subscription::TrackInfo;
use crate::time::Instant;

use control::Ids;
use names::{Announcing, Heard};
use subscriber::{Offers, Retired};

/// What a request is.
#[derive(Debug, Default)]
enum Role {
    /// The peer opened it and has not said what for.
    #[default]
    New,
    /// Answered or given up. It goes when the peer's half is over; what comes on it is discarded.
    Done,
    /// It carries the others.
    Control,
    /// SUBSCRIBE_NAMESPACE of the peer, or what it is told unasked.
    Announcing(Announcing),
    /// PUBLISH_NAMESPACE of ours.
    Announced(Path),
    /// SUBSCRIBE_NAMESPACE of ours.
    Listening(names::Listening),
    /// PUBLISH_NAMESPACE of the peer.
    Hearing(Path),
    /// SUBSCRIBE of the peer.
    Serving,
    /// The peer's subscription came to its end, which it has not confirmed.
    Served,
    /// TRACK_STATUS of the peer.
    Describing,
    /// SUBSCRIBE of ours.
    Asking(Key),
    /// PUBLISH of the peer.
    Offered,
}

#[derive(Debug)]
pub(super) struct Ietf {
    draft: &'static Draft,
    side: Side,
    /// What the peer said when it set up; before it came, everything else waits.
    peer: Option<Setup>,
    /// The request that carries the others, up to 16.
    control: Option<Key>,
    /// By slot of the request.
    roles: Vec<Role>,
    ids: Ids,
    /// Requests that came before the peer's set-up.
    early: BTreeSet<Key>,
    /// The peer's own control stream, if more came on it before the application decided.
    early_stream: Option<Key>,
    interests: Vec<Path>,
    heard: Heard,
    offers: Offers,
    retired: Retired,
    /// GOAWAY, until the peer has set up: where to, and the deadline.
    parting: Option<(Box<str>, Instant)>,
}

impl Ietf {
    pub(super) fn new(config: Config, draft: &'static Draft, core: &mut Core) -> Self {
        let mut ietf = Self {
            draft,
            side: config.side,
            peer: None,
            control: None,
            roles: Vec::new(),
            ids: Ids::new(config.side, &config.limits),
            early: BTreeSet::new(),
            early_stream: None,
            interests: config.interests,
            heard: Heard::default(),
            offers: Offers::default(),
            retired: Retired::default(),
            parting: None,
        };
        core.timers.set(core.now + core.limits.handshake_time, Timer::Handshake);
        let is_client = config.side == Side::Client;
        let path = is_client && !config.path.is_root();
        let authority = is_client && !config.authority.is_empty();
        let setup = Setup {
            path: path.then(|| Box::from(format!("/{}", config.path))),
            authority: authority.then_some(config.authority),
            ..Setup::default()
        };
        if !draft.request_streams && is_client {
            let key = core.requests.open();
            ietf.control = Some(key);
            ietf.set_role(key, Role::Control);
            let setup = ietf.setup(setup);
            ietf.say(core, key, &setup);
        } else if !core.undecided {
            ietf.begin(core, setup);
        }
        ietf
    }

    /// What we say of ourselves on a stream of our own, where that has one.
    fn begin(&self, core: &mut Core, setup: Setup) {
        if self.draft.request_streams {
            let mut send = Send::default();
            let setup = self.setup(setup);
            setup.encode(send.buffer(), self.draft).expect("a URL fits, as it was dialed");
            core.control = Some(Control { send, ..Control::default() });
        }
    }

    /// What we say of ourselves.
    fn setup(&self, setup: Setup) -> Message {
        let setup = Setup { max_request_id: self.ids.granted(), ..setup };
        Message::setup(setup, self.side, self.draft)
    }

    /// The peer's set-up came.
    fn set_up(&mut self, core: &mut Core, setup: Setup) {
        if core.limits.check_url(setup.path.as_deref()).is_err() {
            return core.violation("a path that is too long");
        }
        self.ids.grant(setup.max_request_id);
        let setup = self.peer.insert(setup);
        let peer = || Peer {
            path: setup.path.clone().unwrap_or_default(),
            authority: setup.authority.clone().unwrap_or_default(),
            ..Peer::default()
        };
        if core.takes(peer) {
            self.heard(core);
        }
    }

    /// What waited for the peer's set-up goes on.
    fn heard(&mut self, core: &mut Core) {
        if let Some(control) = self.control.filter(|_| self.side == Side::Server) {
            let setup = self.setup(Setup::default());
            self.say(core, control, &setup);
        }
        if let Some(stream) = self.early_stream.take() {
            core.incoming.queue(stream);
        }
        for key in mem::take(&mut self.early) {
            core.requests.queue_in(key);
        }
        self.begin_names(core);
        self.unblock(core);
        if let Some((uri, deadline)) = self.parting.take() {
            self.say_going_away(core, uri, deadline);
        }
    }

    // ---- messages ----------------------------------------------------------------------------

    /// Encodes a message behind what waits on a request. `false` if it can't be written.
    fn say(&self, core: &mut Core, key: Key, message: &Message) -> bool {
        self.try_say(core, key, message).is_ok()
    }

    fn try_say(&self, core: &mut Core, key: Key, message: &Message) -> Result<(), EncodeError> {
        let mut result = Ok(());
        core.requests.write(key, |out| result = message.encode(out, self.draft));
        result
    }

    /// The next whole message on a request.
    fn hear(&self, core: &mut Core, key: Key) -> Result<Option<Message>, DecodeError> {
        let limits = &core.limits;
        let Some(request) = core.requests.get(key) else { return Ok(None) };
        while let Some((kind, body)) = read_message(&mut request.recv, self.draft, limits)? {
            match Message::decode(kind, &body, self.draft)? {
                // This request alone should go elsewhere (18). Until it does, it goes on.
                Message::Goaway(_) if self.draft.request_streams => {}
                message => return Ok(Some(message)),
            }
        }
        Ok(None)
    }

    /// What a reply is marked with, where replies are.
    fn reply_id(&self, key: Key) -> Option<u64> {
        (!self.draft.request_streams).then(|| self.ids.of(key))
    }

    // ---- ends --------------------------------------------------------------------------------

    fn end(&mut self, core: &mut Core, key: Key) {
        self.ids.forget(key);
        if core.requests.withdraw(key) {
            *self.role(key) = Role::New;
            return;
        }
        let carried = core.requests.is_within(key);
        if let Some(request) = core.requests.get(key) {
            if carried {
                // Nothing on the wire says that a half of it is over.
                request.recv.abandon(Error::Closed.stream_code());
            }
            core.requests.finish(key);
            self.set_role(key, Role::Done);
            core.requests.queue_in(key);
        }
    }

    /// Says no to a request of the peer.
    fn refuse(&mut self, core: &mut Core, key: Key, code: u64) {
        let error = RequestError { id: self.reply_id(key), code, ..RequestError::default() };
        self.say(core, key, &Message::RequestError(error));
        self.end(core, key);
    }

    /// Ends a subscription of the peer that was accepted.
    fn done(&mut self, core: &mut Core, key: Key, status: u64, streams: u64) {
        let id = self.reply_id(key);
        let done = PublishDone { id, status, streams: Some(streams), ..PublishDone::default() };
        self.say(core, key, &Message::PublishDone(done));
    }

    /// The application refuses a request of the peer, or gives up one that it accepted.
    fn refused(&mut self, core: &mut Core, key: Key, error: &Error) {
        if !core.requests.is_theirs(key) && !matches!(self.role(key), Role::Announcing(_)) {
            return;
        }
        let code = self.draft.request_code(error);
        match mem::take(self.role(key)) {
            Role::Serving => self.stop_serving(core, key, error),
            Role::Offered if self.offers.is_open(key) => {
                self.offers.remove(key);
                self.refuse(core, key, code);
            }
            Role::Announcing(announcing) if announcing.is_unasked() => {
                // Nobody asked, so nobody is to be told.
                self.set_role(key, Role::Announcing(announcing));
            }
            Role::Announcing(mut announcing) => {
                self.forget_told(&mut announcing);
                self.refuse(core, key, code);
            }
            Role::Describing => self.refuse(core, key, code),
            role => *self.role(key) = role,
        }
    }

    /// Everything that is remembered beside what the peer was told and told us.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.ids.entries() + self.early.len() + self.offers.entries()
    }

    /// The session is over, and that was told.
    pub(super) fn forget(&mut self) {
        self.ids.forget_all();
        (self.roles, self.early, self.early_stream, self.interests) = Default::default();
        (self.heard, self.offers, self.retired, self.parting) = Default::default();
    }

    // ---- roles -------------------------------------------------------------------------------

    fn role(&mut self, key: Key) -> &mut Role {
        let slot = key.0 as usize;
        if slot >= self.roles.len() {
            self.roles.resize_with(slot + 1, Role::default);
        }
        &mut self.roles[slot]
    }

    fn set_role(&mut self, key: Key, role: Role) {
        *self.role(key) = role;
    }

    fn look_at_done(&mut self, core: &mut Core, key: Key) -> Look {
        if core.requests.retire(key) {
            *self.role(key) = Role::New;
        }
        Look::Wait
    }

    /// The first message of the peer on a request says what it is for.
    fn look_at_new(&mut self, core: &mut Core, key: Key) -> Look {
        if self.control.is_none() && !self.draft.request_streams && self.side == Side::Server {
            // The first stream of the client carries the requests.
            self.control = Some(key);
            self.set_role(key, Role::Control);
            return Look::More;
        }
        if !self.is_heard(core) {
            self.early.insert(key);
            return Look::Wait;
        }
        let Some(request) = core.requests.get(key) else { return Look::Wait };
        if request.given_up().is_some() {
            self.cancel(core, key, &Error::Cancelled);
            return Look::Wait;
        }
        let is_cut = request.recv.has_fin();
        let (kind, body) = match read_message(&mut request.recv, self.draft, &core.limits) {
            Ok(Some(message)) => message,
            Ok(None) if is_cut => {
                self.cancel(core, key, &Error::Cancelled);
                return Look::Wait;
            }
            Ok(None) => return Look::Wait,
            Err(error) => return violation(core, &error),
        };
        let (id, message) =
            match (request_id(kind, &body, self.draft), Message::decode(kind, &body, self.draft)) {
                (Ok(id), Ok(message)) => (id, Some(message)),
                // Nothing here has such a name.
                (Ok(id), Err(DecodeError::InvalidName)) => (id, None),
                (Err(error), _) | (_, Err(error)) => return violation(core, &error),
            };
        let on_control = core.requests.is_within(key);
        // Those on the control stream were looked at there.
        if let Some(id) = id.filter(|_| !on_control) {
            if !self.accept_id(core, id) {
                return Look::Wait;
            }
            self.ids.insert(id, key);
        }
        if core.state.is_ending() {
            let code = self.draft.request_code(&Error::GoingAway);
            self.refuse(core, key, code);
            return Look::Wait;
        }
        let Some(message) = message else {
            let code = self.draft.request_code(&Error::Unroutable);
            self.refuse(core, key, code);
            return Look::Wait;
        };
        if let Err(error) = check_names(&message, &core.limits) {
            let code = self.draft.request_code(&error);
            self.refuse(core, key, code);
            return Look::Wait;
        }
        match message {
            Message::SubscribeNamespace(it) | Message::FormerSubscribeNamespace(it)
                if !on_control =>
            {
                self.asked_for_names(core, key, it)
            }
            _ if !on_control && !self.draft.request_streams => {
                core.violation("not a request with a stream of its own");
                Look::Wait
            }
            Message::Subscribe(message) => self.asked_for_track(core, key, message),
            Message::TrackStatus(message) => self.asked_for_status(key, message),
            Message::PublishNamespace(message) => self.told_of_name(core, key, message),
            Message::Publish(message) => self.offered(core, key, message),
            Message::Fetch(_) | Message::SubscribeTracks(_) => {
                self.refuse(core, key, crate::coding::ietf::NOT_SUPPORTED);
                Look::Wait
            }
            _ => {
                core.violation("not a request");
                Look::Wait
            }
        }
    }
}

/// Session codes that have no error of their own (*Session Termination*).
const INVALID_REQUEST_ID: u64 = 0x4;
const DUPLICATE_TRACK_ALIAS: u64 = 0x5;
const TOO_MANY_REQUESTS: u64 = 0x7;

/// How many times [`owed_bytes`](crate::Limits::owed_bytes) the answers may be that a peer leaves unread
/// while it goes on asking: each message has one, and a stream may carry any number of messages. Not to
/// read them would stop two ends that both ask for much.
const MAX_UNREAD: usize = 64;

/// Whether the names in a request are short enough.
fn check_names(message: &Message, limits: &Limits) -> Result<(), Error> {
    match message {
        Message::SubscribeNamespace(it) | Message::FormerSubscribeNamespace(it) => {
            limits.check_path(&it.prefix)
        }
        Message::PublishNamespace(it) => limits.check_path(&it.namespace),
        Message::Subscribe(it) | Message::TrackStatus(it) => {
            limits.check_names(&it.namespace, &it.track)
        }
        Message::Publish(it) => limits.check_names(&it.namespace, &it.track),
        _ => Ok(()),
    }
}

/// Bytes that are no message of the draft end the session.
fn violation(core: &mut Core, error: &DecodeError) -> Look {
    core.violation(match error {
        DecodeError::UnknownMessage(_) => "unknown message",
        _ => "malformed message",
    });
    Look::Wait
}

/// Takes the next whole message off the front of a stream.
fn read_message(
    recv: &mut Recv,
    draft: &Draft,
    limits: &Limits,
) -> Result<Option<(MessageType, Bytes)>, DecodeError> {
    let mut front = [0; 16];
    match frame_message(recv.peek(&mut front), draft, limits.message_bytes)? {
        Some(framed) if recv.len() >= framed.head + framed.body => {
            recv.skip(framed.head);
            Ok(Some((framed.kind, recv.take(framed.body))))
        }
        _ if recv.has_fin() && recv.len() > 0 => Err(DecodeError::Truncated),
        _ => Ok(None),
    }
}

impl Dialect for Ietf {
    fn is_heard(&self, core: &Core) -> bool {
        self.peer.is_some() && !core.undecided
    }

    fn accept(&mut self, core: &mut Core, _: Hop, interests: Vec<Path>) {
        self.interests = interests;
        self.begin(core, Setup::default());
        if self.peer.is_some() {
            self.heard(core);
        }
    }

    fn reads_early(&self) -> bool {
        !self.draft.request_streams
    }

    fn look_at_new_uni(&mut self, core: &mut Core, key: Key) -> Look {
        self.look_at_stream(core, key)
    }

    fn look_at_request(&mut self, core: &mut Core, key: Key) -> Look {
        let unread = core.limits.owed_bytes.saturating_mul(MAX_UNREAD);
        if core.requests.get(key).is_some() && core.requests.owed(key) > unread {
            core.close(Error::Limit("answers that are not read"));
            return Look::Wait;
        }
        match self.role(key) {
            Role::New => return self.look_at_new(core, key),
            Role::Done => return self.look_at_done(core, key),
            Role::Control => return self.look_at_control(core, key),
            Role::Serving => return self.look_at_serving(core, key),
            Role::Served => return self.look_at_served(core, key),
            Role::Describing => return self.look_at_describing(core, key),
            Role::Offered => return self.look_at_offered(core, key),
            Role::Announced(path) => {
                let path = path.clone();
                return self.look_at_announced(core, key, &path);
            }
            Role::Asking(sub) => {
                let sub = *sub;
                return self.look_at_asking(core, key, sub);
            }
            Role::Announcing(_) | Role::Listening(_) | Role::Hearing(_) => {}
        }
        // What these remember is lent for the look.
        let mut role = mem::take(self.role(key));
        let look = match &mut role {
            Role::Announcing(announcing) => self.look_at_announcing(core, key, announcing),
            Role::Listening(listening) => self.look_at_listening(core, key, listening),
            Role::Hearing(path) => self.look_at_hearing(core, key, path),
            _ => unreachable!("looked at above"),
        };
        // A look that ends a role leaves another one in its place.
        let alive = core.requests.get(key).is_some();
        let slot = self.role(key);
        if alive && matches!(slot, Role::New) {
            *slot = role;
        }
        look
    }

    fn read_header(&mut self, core: &mut Core, key: Key) -> Result<Option<Header>, Error> {
        self.read_subgroup(core, key)
    }

    fn may_come(&self, subscription: u64) -> bool {
        !self.retired.contains(subscription) && !self.offers.has_alias(subscription)
    }

    fn command(&mut self, core: &mut Core, command: Command) {
        match command {
            Command::AcceptAnnounce { request, reader, .. } => {
                self.accept_announce(core, request.into(), reader);
            }
            Command::AcceptOffer { request } => self.accept_offer(core, request.into()),
            Command::AcceptTrack { request, info } => {
                self.accept_status(core, request.into(), &info);
            }
            // A question of its own is not worth it: SUBSCRIBE_OK says as much as the drafts can.
            Command::Describe { subscription, .. } => {
                let info = core.unsaid();
                core.notices.push_back(Event::TrackInfo { subscription, info });
            }
            Command::Probe => {
                core.notices.push_back(Event::ProbeEnded { error: Error::Unsupported });
            }
            Command::StartSubscribe { .. } | Command::CancelFetch { .. } | Command::Unprobe => {}
            Command::AcceptFetch { group, .. } => {
                // Nobody fetches here, so that there is nothing to accept.
                core.notices.push_back(Event::GroupReleased { group, sent: false });
            }
            Command::Fetch { fetch, .. } => {
                let result = Err(Error::Unsupported);
                core.notices.push_back(Event::FetchEnded { fetch, result });
            }
            Command::AnnouncementsReady { request } => self.announce_more(core, request.into()),
            Command::Refuse { request, error } => self.refused(core, request.into(), &error),
            Command::Subscribe { subscription, broadcast, track, want } => {
                self.subscribe(core, subscription, broadcast, track, &want);
            }
            Command::UpdateSubscribe { subscription, want } => {
                self.update_subscribe(core, subscription, &want);
            }
            other => unreachable!("{other:?} is the same in all dialects"),
        }
    }

    fn refill(&mut self, core: &mut Core, key: Key, source: &mut impl Source) {
        if let Some(Role::Announcing(_)) = self.roles.get(key.0 as usize) {
            self.refill_announcing(core, key, source);
        }
    }

    fn say_accepted(&mut self, core: &mut Core, key: Key, info: &TrackInfo) {
        self.accepted(core, key, info);
    }

    fn group_head(&self, serving: &Serving, sequence: u64, first_frame: u64) -> Option<Head> {
        self.subgroup_head(serving, sequence, first_frame)
    }

    fn datagram_number(&self, _: &Serving) -> Option<u64> {
        None
    }

    fn look_at_datagram(&mut self, _: &mut Core, _: Bytes) -> Option<Event> {
        None
    }

    fn say_ended(&mut self, core: &mut Core, key: Key, _end: u64, streams: u64) {
        self.say_done(core, key, streams);
    }

    fn unask(&mut self, _: &mut Core, _: Token) {}

    fn say_going_away(&mut self, core: &mut Core, uri: Box<str>, deadline: Instant) {
        if self.peer.is_none() {
            self.parting = Some((uri, deadline));
            return;
        }
        // Zero would be no bound.
        let timeout = (deadline - core.now).max(Duration::from_millis(1));
        let request = self.draft.goaway_request.then(|| self.ids.unprocessed());
        let uri = redirect(self.side, uri);
        let message = Message::Goaway(Goaway { uri, timeout, request });
        if let Some(control) = &mut core.control {
            let encoded = message.encode(control.send.buffer(), self.draft);
            encoded.expect("what is too long was left out");
        } else if let Some(control) = self.control {
            self.say(core, control, &message);
        }
        // Nothing confirms it.
        core.serves.unread_until = Some(core.now + core.limits.close_time);
    }

    fn is_unsent(&self, core: &Core, key: Key) -> bool {
        core.requests.is_unopened(key) || self.ids.is_blocked(key)
    }

    fn leave(&mut self, core: &mut Core, sub: &Sub, result: Result<(), &Error>) {
        self.left(core, sub, result);
    }

    fn finish(&mut self, core: &mut Core, key: Key) {
        self.end(core, key);
    }

    fn cancel(&mut self, core: &mut Core, key: Key, error: &Error) {
        if core.requests.get(key).is_none() {
            return;
        }
        if core.requests.is_within(key) {
            self.say_cancelled(core, key, error);
        }
        self.ids.forget(key);
        core.requests.cancel(key, error, &mut core.actions);
        *self.role(key) = Role::New;
    }
}

/// Where a table by request has something.
type ByKey<T> = BTreeMap<Key, T>;

#[cfg(any(test, feature = "sim"))]
impl crate::census::Counted for Role {
    fn count(&self, name: &'static str, census: &mut crate::census::Census) {
        match self {
            Self::New | Self::Done => return,
            Self::Announcing(announcing) => announcing.count("Role.announcing", census),
            Self::Listening(listening) => listening.count("Role.listening", census),
            _ => {}
        }
        census.add(name, 1);
    }
}

census! { Ietf {
    counts: early, early_stream, parting;
    within: roles, ids, heard, offers;
    plain: draft, side, peer, control, interests, retired;
} }
