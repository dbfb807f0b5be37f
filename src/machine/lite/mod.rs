//! moq-lite, from 01 to 07: what each stream and message means.
//!
//! Roles say what a request is; `announce`, `publisher` and `subscriber` have a file each, for both
//! ends.

mod announce;
mod datagram;
mod fetch;
mod probe;
mod publisher;
mod question;
mod settle;
mod subscriber;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;
use core::mem;

use bytes::{Bytes, BytesMut};

use super::app::{Command, Event, RequestKey};
use super::dialect::{Dialect, Look};
use super::incoming::{Header, Part, State as Incoming};
use super::io::{Source, Token};
use super::layout::{Head, Layout};
use super::leave::{obey, redirect};
use super::serves::Serving;
use super::streams::{Recv, Send};
use super::subs::Sub;
use super::timers::Timer;
use super::{Config, Control, Core};
use crate::census::census;
use crate::coding::lite::{
    AnnounceRequest, BiStream, Features, Fetch, Goaway, GroupHeader, HEAD_BYTES, Setup, Subscribe,
    TrackRequest, UniStream, frame_message,
};
use crate::error::Error;
use crate::hop::{Cost, Hop};
use crate::path::Path;
use crate::peer::{self, Peer};
use crate::slab::Key;
use crate::stream::Side;
use crate::subscription::{Subscription, TrackInfo};
use crate::time::Instant;
use crate::version::{Agreed, Version};

use announce::{Announcing, Listening};
use probe::{Probing, Reporting};

/// What a request is.
#[derive(Debug, Default)]
enum Role {
    /// The peer opened it and has not said what for.
    #[default]
    New,
    /// Answered or given up. It goes when the peer's half is over; what comes on it is discarded.
    Done,
    /// It settles which version is spoken (up to 02).
    Settling,
    /// It did, and stands for the session now.
    Session,
    /// GOAWAY of the peer.
    Leaving,
    /// GOAWAY of ours, which the peer has not confirmed by ending its half.
    Parting,
    /// The peer hears of our broadcasts.
    Announcing(Announcing),
    /// We hear of the peer's.
    Listening(Listening),
    /// The peer subscribed.
    Serving,
    /// The peer's subscription came to its end, which it has not confirmed.
    Served,
    /// The peer asked what a track is.
    Describing,
    /// The peer asked for a group.
    Supplying,
    /// We asked for a group.
    Fetching(Token),
    /// It comes: what is read is not the request's any more.
    Fetched,
    /// We subscribed.
    Asking(Key),
    /// We asked what the track of a subscription is.
    Querying(Key),
    /// We asked what a track is, and did not subscribe.
    Wondering(Token),
    /// The peer asked what we know of the path.
    Reporting,
    /// We asked what the peer knows of the path.
    Probing,
    /// We did, and do not want to know any more. The peer has not ended it.
    Probed,
}

#[derive(Debug)]
pub(super) struct Lite {
    side: Side,
    agreed: Agreed,
    /// The one of them that is spoken; before it is settled, the most wanted.
    version: Version,
    features: &'static Features,
    hop: Hop,
    /// Our own price for the link.
    cost: Option<u64>,
    /// What the peer said in SETUP; before it came, requests and groups wait.
    peer: Option<Setup>,
    /// Requests of the peer that came before the version was settled.
    early: BTreeSet<Key>,
    /// By slot of the request.
    roles: Vec<Role>,
    /// What we only asked about, until it is answered.
    questions: BTreeMap<Token, Key>,
    next_sub_id: u64,
    /// The peer wants to know of the path.
    reporting: Option<Reporting>,
    /// We do.
    probing: Probing,
}

impl Lite {
    pub(super) fn new(config: Config, core: &mut Core) -> Self {
        let version = config.agreed.version();
        let features = Features::of(version);
        let mut lite = Self {
            side: config.side,
            agreed: config.agreed,
            version,
            features,
            hop: config.hop,
            cost: config.cost.map(|cost| cost.min(Cost::MAX)),
            peer: None,
            early: BTreeSet::new(),
            roles: Vec::new(),
            questions: BTreeMap::new(),
            next_sub_id: 0,
            reporting: None,
            probing: Probing::default(),
        };
        if features.settles {
            lite.begin_settling(core);
        } else if features.setup {
            core.timers.set(core.now + core.limits.handshake_time, Timer::Handshake);
        } else {
            lite.set_up(core, Setup::default());
        }
        if !core.undecided {
            let is_client = config.side == Side::Client;
            let path = is_client && !config.path.is_root();
            let role = config.role.as_u64();
            let setup = Setup {
                path: path.then(|| format!("/{}", config.path).into()),
                role: (is_client && role != 0).then_some(role),
                cost: lite.cost.filter(|_| is_client),
                ..Setup::default()
            };
            lite.begin(core, setup, config.interests);
        }
        lite
    }

    /// Says what we are, and what we want to hear of.
    fn begin(&mut self, core: &mut Core, setup: Setup, interests: Vec<Path>) {
        let version = self.version;
        if self.features.setup {
            let mut send = Send::default();
            UniStream::Setup.encode(send.buffer());
            // Adapters tell of the path. If one does not, the peer hears nothing.
            let setup = Setup { hop: self.hop, probe: Some(Setup::REPORT), ..setup };
            setup.encode(send.buffer(), version).expect("such numbers and text always fit");
            send.finish();
            core.control = Some(Control { send, ..Control::default() });
        }
        for prefix in interests {
            // The versions that may be settled on ask alike.
            let request =
                AnnounceRequest { prefix: prefix.clone(), exclude: self.hop, hidden: true };
            let mut message = BytesMut::new();
            BiStream::Announce.encode(&mut message);
            if request.encode(&mut message, version).is_err() {
                // A prefix that is too deep to say has nothing under it.
                continue;
            }
            let key = core.requests.open();
            core.requests.write(key, |out| out.extend_from_slice(&message));
            self.set_role(key, Role::Listening(Listening::new(prefix)));
        }
    }

    /// The peer's set-up came, or there is none.
    fn set_up(&mut self, core: &mut Core, setup: Setup) {
        if core.limits.check_url(setup.path.as_deref()).is_err() {
            return core.violation("a path that is too long");
        }
        let setup = self.peer.insert(setup);
        let peer = || Peer {
            path: setup.path.clone().unwrap_or_default(),
            role: setup.role.map(peer::Role::from_u64).unwrap_or_default(),
            hop: setup.hop,
            cost: setup.cost,
            ..Peer::default()
        };
        if core.takes(peer) {
            self.heard(core);
        }
    }

    /// What waited for the peer's set-up goes on.
    fn heard(&mut self, core: &mut Core) {
        core.requests.release();
        for key in mem::take(&mut self.early) {
            if matches!(self.role(key), Role::Session) {
                self.say_settled(core, key);
            }
            core.requests.queue_in(key);
        }
        self.open_probe(core);
    }

    /// Reads what the stream is for and its first message, which come together or not at all.
    fn look_at_new_request(&mut self, core: &mut Core, key: Key) -> Look {
        if !self.is_heard(core) {
            return self.look_at_early(core, key);
        }
        let mut kind = None;
        match self.open_request(core, key, &mut kind) {
            Ok(look) => look,
            Err(_) if kind == Some(BiStream::Announce) => {
                self.finish_announcing(core, key, &Announcing::default());
                Look::Wait
            }
            Err(error) => {
                self.cancel(core, key, &error);
                Look::Wait
            }
        }
    }

    fn open_request(
        &mut self,
        core: &mut Core,
        key: Key,
        found: &mut Option<BiStream>,
    ) -> Result<Look, Error> {
        let Some(request) = core.requests.get(key) else { return Ok(Look::Wait) };
        if request.recv.reset().is_some() {
            return Err(Error::Cancelled);
        }
        let mut front = [0; 32];
        let front = request.recv.peek(&mut front);
        let need_more = if request.recv.has_fin() { Err(Error::Cancelled) } else { Ok(Look::Wait) };
        let Some((kind, type_len)) = self.features.form.read(front) else { return need_more };
        let kind = BiStream::from_u64(kind, self.version).ok_or(Error::Cancelled)?;
        *found = Some(kind);
        // Who says GOAWAY need not listen: `moq-net` stops our half at once.
        if request.given_up().is_some() && kind != BiStream::Goaway {
            return Err(Error::Cancelled);
        }
        if kind == BiStream::Probe {
            return self.probe_requested(core, key, type_len);
        }
        if kind == BiStream::Fetch && !self.features.fetch {
            // Not served: an answer, not a fault.
            return Err(Error::Cancelled);
        }
        let limit = core.limits.message_bytes;
        let framed = frame_message(&front[type_len..], self.version, false, limit)?;
        let Some(framed) = framed else { return need_more };
        let head = type_len + framed.head;
        if request.recv.len() < head + framed.body {
            return need_more;
        }
        if core.state.is_ending() && kind != BiStream::Goaway {
            return Err(Error::GoingAway);
        }
        request.recv.skip(head);
        let body = request.recv.take(framed.body);
        let (version, depth) = (self.version, core.limits.path_segments);
        let request = RequestKey::of(key);
        Ok(match kind {
            BiStream::Announce => {
                let message = AnnounceRequest::decode_body(&body, version, depth)?;
                core.limits.check_path(&message.prefix)?;
                let announcing = |role: &&Role| matches!(role, Role::Announcing(_));
                if self.roles.iter().filter(announcing).count() >= core.limits.announce_requests {
                    return Err(Error::Limit("announce requests"));
                }
                let setup = self.peer.as_ref().map_or(Hop::UNKNOWN, |peer| peer.hop);
                let exclude = if self.features.exclude_hop { message.exclude } else { setup };
                self.set_role(key, Role::Announcing(Announcing::default()));
                let hidden = message.hidden || !self.features.hidden;
                let prefix = message.prefix;
                Look::Event(Event::AnnounceRequested { request, prefix, exclude, hidden })
            }
            BiStream::Subscribe => {
                let mut message = Subscribe::decode_body(&body, version, depth)?;
                core.limits.check_names(&message.broadcast, &message.track)?;
                self.floor(&mut message.want);
                if core.serves.len() >= core.limits.subscriptions {
                    return Err(Error::Limit("subscriptions"));
                }
                core.serves.insert(key, message.id, message.want.clone());
                self.set_role(key, Role::Serving);
                Look::Event(Event::SubscribeRequested {
                    request,
                    broadcast: message.broadcast,
                    track: message.track,
                    subscription: message.want,
                })
            }
            BiStream::Track => {
                let message = TrackRequest::decode_body(&body, version, depth)?;
                core.limits.check_names(&message.broadcast, &message.track)?;
                self.set_role(key, Role::Describing);
                Look::Event(Event::TrackRequested {
                    request,
                    broadcast: message.broadcast,
                    track: message.track,
                })
            }
            BiStream::Goaway => {
                let message = Goaway::decode_body(&body, version)?;
                self.set_role(key, Role::Leaving);
                core.requests.finish(key);
                obey(self, core, message.uri, None)
            }
            BiStream::Fetch => {
                let message = Fetch::decode_body(&body, version, depth)?;
                core.limits.check_names(&message.broadcast, &message.track)?;
                self.fetch_requested(core, key, message)
            }
            BiStream::Probe => unreachable!("has no message"),
        })
    }

    /// From 06 on a subscription without a first group begins with the oldest that is not too old
    /// (*SUBSCRIBE*, Group Start); before, with the latest.
    fn floor(&self, want: &mut Subscription) {
        if self.features.frame_bounds {
            want.start.get_or_insert(0);
        }
    }

    fn look_at_done(&mut self, core: &mut Core, key: Key) -> Look {
        if core.requests.retire(key) {
            *self.role(key) = Role::New;
        }
        Look::Wait
    }

    fn look_at_goaway(&mut self, core: &mut Core, key: Key) -> Look {
        self.set_role(key, Role::Done);
        self.look_at_done(core, key)
    }

    /// The next whole message on a request, or `None` if more bytes are needed.
    fn next_message(
        &self,
        core: &mut Core,
        key: Key,
        typed: bool,
    ) -> Result<Option<(Option<u64>, Bytes)>, Error> {
        let Some(request) = core.requests.get(key) else { return Ok(None) };
        Ok(read_message(&mut request.recv, self.version, typed, core.limits.message_bytes)?)
    }

    fn refuse(&mut self, core: &mut Core, key: Key, error: &Error) {
        if !core.requests.is_theirs(key) {
            return;
        }
        match mem::take(self.role(key)) {
            Role::Announcing(announcing) => self.finish_announcing(core, key, &announcing),
            Role::Serving => {
                core.end_serving(key, error);
                self.cancel(core, key, error);
            }
            Role::Supplying => {
                core.end_supply(key, error);
                self.cancel(core, key, error);
            }
            Role::Describing => self.cancel(core, key, error),
            role => *self.role(key) = role,
        }
    }

    /// Questions that are open, and requests that wait.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.questions.len() + self.early.len()
    }

    /// The session is over, and that was told.
    pub(super) fn forget(&mut self) {
        (self.early, self.roles, self.questions) = Default::default();
        (self.reporting, self.probing) = Default::default();
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
}

impl Dialect for Lite {
    fn is_heard(&self, core: &Core) -> bool {
        self.peer.is_some() && !core.undecided
    }

    fn accept(&mut self, core: &mut Core, hop: Hop, interests: Vec<Path>) {
        self.hop = hop;
        self.begin(core, Setup::default(), interests);
        if self.peer.is_some() {
            self.heard(core);
        }
    }

    fn reads_early(&self) -> bool {
        self.features.settles
    }

    fn look_at_new_uni(&mut self, core: &mut Core, key: Key) -> Look {
        let Some(stream) = core.incoming.get(key) else { return Look::More };
        if stream.recv.reset().is_some() {
            core.incoming.remove(key);
            return Look::More;
        }
        if matches!(stream.state, Incoming::New) {
            let mut front = [0; HEAD_BYTES];
            let Some((kind, len)) = self.features.form.read(stream.recv.peek(&mut front)) else {
                if stream.recv.has_fin() {
                    core.incoming.remove(key);
                }
                return Look::More;
            };
            stream.recv.skip(len);
            match UniStream::from_u64(kind, self.version) {
                Some(UniStream::Group) => {
                    stream.state = Incoming::Header;
                    core.incoming.queue(key);
                    return Look::More;
                }
                Some(UniStream::Setup) => stream.state = Incoming::Control,
                None => {
                    core.incoming.stop(&mut core.actions, key, &Error::Cancelled);
                    return Look::More;
                }
            }
        }
        let limit = core.limits.message_bytes;
        let message = read_message(&mut stream.recv, self.version, false, limit);
        let body = match message {
            Ok(Some((_, body))) => body,
            Ok(None) if !stream.recv.has_fin() => return Look::More,
            Ok(None) | Err(_) => {
                core.violation("malformed SETUP");
                return Look::Wait;
            }
        };
        let setup = Setup::decode_body(&body, self.version);
        match (setup, &self.peer) {
            (Ok(setup), None) => self.set_up(core, setup),
            (Ok(_), Some(_)) => core.violation("second SETUP"),
            (Err(_), _) => core.violation("malformed SETUP"),
        }
        // Bytes behind the message mean nothing.
        core.incoming.stop(&mut core.actions, key, &Error::Cancelled);
        Look::More
    }

    fn look_at_request(&mut self, core: &mut Core, key: Key) -> Look {
        let mut role = mem::take(self.role(key));
        let look = match &mut role {
            Role::New => return self.look_at_new_request(core, key),
            Role::Done => self.look_at_done(core, key),
            Role::Settling => self.look_at_settling(core, key),
            Role::Session => self.look_at_session(core, key),
            Role::Leaving => self.look_at_goaway(core, key),
            Role::Announcing(announcing) => self.look_at_announcing(core, key, announcing),
            Role::Listening(listening) => self.look_at_listening(core, key, listening),
            Role::Serving => self.look_at_serving(core, key),
            Role::Served | Role::Parting => self.look_at_served(core, key),
            Role::Describing => self.look_at_describing(core, key),
            Role::Supplying => self.look_at_supplying(core, key),
            Role::Fetching(token) => self.look_at_fetching(core, key, *token),
            Role::Fetched => Look::Wait,
            Role::Asking(sub) => self.look_at_asking(core, key, *sub),
            Role::Querying(sub) => self.look_at_querying(core, key, *sub),
            Role::Wondering(token) => self.look_at_wondering(core, key, *token),
            Role::Reporting => self.look_at_reporting(core, key),
            Role::Probing => self.look_at_probing(core, key),
            Role::Probed => self.look_at_probed(core, key),
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
        let Some(stream) = core.incoming.get(key) else { return Ok(None) };
        if let Some(code) = stream.recv.reset() {
            return Err(Error::from_stream_code(code));
        }
        let limit = core.limits.message_bytes;
        let message = read_message(&mut stream.recv, self.version, false, limit)?;
        let Some((_, body)) = message else {
            return if stream.recv.has_fin() { Err(Error::Cancelled) } else { Ok(None) };
        };
        let GroupHeader { subscribe, sequence, first_frame } =
            GroupHeader::decode_body(&body, self.version)?;
        // We always ask for whole groups.
        let part = if first_frame == 0 { Part::Group } else { Part::Other };
        let layout = Layout::Lite(self.version);
        Ok(Some(Header { subscription: subscribe, sequence, first_frame, part, layout }))
    }

    fn may_come(&self, _: u64) -> bool {
        // We gave the number ourselves, before the peer could use it.
        false
    }

    fn command(&mut self, core: &mut Core, command: Command) {
        match command {
            Command::AcceptAnnounce { request, reader, active } => {
                self.accept_announce(core, request.into(), reader, active);
            }
            Command::AcceptFetch { request, group, info } => {
                self.accept_fetch(core, request.into(), group, &info);
            }
            Command::AcceptTrack { request, info } => {
                self.accept_track(core, request.into(), &info)
            }
            Command::AnnouncementsReady { request } => self.announce_more(core, request.into()),
            Command::Describe { subscription, broadcast, track } => {
                self.describe(core, subscription, broadcast, track);
            }
            Command::CancelFetch { fetch } => self.cancel_fetch(core, fetch),
            Command::Fetch {
                fetch,
                broadcast,
                track,
                priority,
                sequence: group,
                first_frame: frame_start,
                last_frame: frame_end,
            } => {
                let message = Fetch { broadcast, track, priority, group, frame_start, frame_end };
                self.fetch(core, fetch, &message);
            }
            Command::Probe => self.probe(core),
            Command::Refuse { request, error } => self.refuse(core, request.into(), &error),
            Command::StartSubscribe { request, group } => {
                self.start_subscribe(core, request.into(), group);
            }
            Command::Subscribe { subscription, broadcast, track, want } => {
                self.subscribe(core, subscription, broadcast, track, want);
            }
            Command::UpdateSubscribe { subscription, want } => {
                self.update_subscribe(core, subscription, want);
            }
            Command::Unprobe => self.unprobe(core),
            Command::AcceptOffer { .. } => {}
            other => unreachable!("{other:?} is the same in all dialects"),
        }
    }

    fn refill(&mut self, core: &mut Core, key: Key, source: &mut impl Source) {
        match self.roles.get(key.0 as usize) {
            Some(Role::Announcing(_)) => self.refill_announcing(core, key, source),
            Some(Role::Reporting) => self.refill_reporting(core, key),
            _ => {}
        }
    }

    fn report_path(&mut self, core: &mut Core) {
        self.tell_path(core);
    }

    fn say_accepted(&mut self, core: &mut Core, key: Key, info: &TrackInfo) {
        self.say_ok(core, key, info);
    }

    fn group_head(&self, serving: &Serving, sequence: u64, first_frame: u64) -> Option<Head> {
        self.begin_group(serving, sequence, first_frame)
    }

    fn datagram_number(&self, serving: &Serving) -> Option<u64> {
        self.features.datagrams.then_some(serving.number)
    }

    fn look_at_datagram(&mut self, core: &mut Core, bytes: Bytes) -> Option<Event> {
        self.read_datagram(core, bytes)
    }

    fn say_ended(&mut self, core: &mut Core, key: Key, end: u64, streams: u64) {
        self.say_end(core, key, end, streams);
    }

    fn unask(&mut self, core: &mut Core, token: Token) {
        self.take_back(core, token);
    }

    fn say_going_away(&mut self, core: &mut Core, uri: Box<str>, _: Instant) {
        if !self.features.goaway {
            return;
        }
        let (version, uri) = (self.version, redirect(self.side, uri));
        let key = core.requests.open();
        core.requests.write(key, |out| {
            BiStream::Goaway.encode(out);
            Goaway { uri }.encode(out, version).expect("what is too long was left out");
        });
        core.await_confirmation(key);
        self.set_role(key, Role::Parting);
    }

    fn leave(&mut self, core: &mut Core, sub: &Sub, result: Result<(), &Error>) {
        if let Some(query) = sub.query {
            self.cancel(core, query, result.err().unwrap_or(&Error::Cancelled));
        }
        // FIN says that we are no longer interested, or have everything. After a failure there is nothing
        // left to finish.
        self.finish(core, sub.request);
    }

    fn cancel(&mut self, core: &mut Core, key: Key, error: &Error) {
        if core.requests.get(key).is_some() {
            core.requests.cancel(key, error, &mut core.actions);
            *self.role(key) = Role::New;
        }
    }

    fn finish(&mut self, core: &mut Core, key: Key) {
        if core.requests.withdraw(key) {
            *self.role(key) = Role::New;
        } else if core.requests.get(key).is_some() {
            core.requests.finish(key);
            self.set_role(key, Role::Done);
            core.requests.queue_in(key);
        }
    }
}

/// Takes the next whole message off the front of a stream.
fn read_message(
    recv: &mut Recv,
    version: Version,
    typed: bool,
    limit: usize,
) -> Result<Option<(Option<u64>, Bytes)>, crate::DecodeError> {
    let mut front = [0; HEAD_BYTES];
    let framed = frame_message(recv.peek(&mut front), version, typed, limit)?;
    match framed {
        Some(framed) if recv.len() >= framed.head + framed.body => {
            recv.skip(framed.head);
            Ok(Some((framed.kind, recv.take(framed.body))))
        }
        _ if recv.has_fin() && recv.len() > 0 => Err(crate::DecodeError::Truncated),
        _ => Ok(None),
    }
}

/// Text of a message that is kept.
type Text = Box<str>;

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

census! { Lite {
    counts: early, questions;
    within: roles, reporting, probing;
    plain: side, agreed, version, features, hop, cost, peer, next_sub_id;
} }
