//! Discovery: which broadcasts there are, told and heard, asked for and unasked (*Track Namespaces*).

use alloc::collections::{BTreeMap, BTreeSet};

use super::super::Core;
use super::super::app::{Event, RequestKey};
use super::super::dialect::{Dialect, Look};
use super::super::io::{AHEAD, Announcement, Source, Token};
use super::{Ietf, Role, violation};
use crate::census::census;
use crate::coding::DecodeError;
use crate::coding::ietf::{
    Message, NOT_SUPPORTED, Namespace, NamespaceDone, PREFIX_OVERLAP, PublishNamespace, RequestOk,
    SubscribeNamespace, UNINTERESTED, Wanted,
};
use crate::error::Error;
use crate::hop::{Cost, Hop, Hops};
use crate::path::Path;
use crate::slab::Key;

/// What we tell the peer of our broadcasts.
#[derive(Debug)]
pub(super) struct Announcing {
    prefix: Path,
    /// Each by a PUBLISH_NAMESPACE, because the peer may not ask; else by NAMESPACE as it asked.
    unasked: bool,
    /// Where to read it, once the application said so.
    reader: Option<Token>,
    /// The reader may have news.
    ready: bool,
    /// What the peer knows, and the request that told it if there is one for each.
    told: BTreeMap<Path, Option<Key>>,
}

impl Announcing {
    fn new(prefix: Path, unasked: bool) -> Self {
        Self { prefix, unasked, reader: None, ready: false, told: BTreeMap::new() }
    }

    pub(super) fn is_unasked(&self) -> bool {
        self.unasked
    }
}

/// What the peer tells us under one prefix.
#[derive(Debug)]
pub(super) struct Listening {
    prefix: Path,
    names: BTreeSet<Path>,
    over: bool,
}

/// All broadcasts of the peer, in how many ways it said so.
#[derive(Debug, Default)]
pub(super) struct Heard {
    live: BTreeMap<Path, Known>,
    /// Paths that we told the peer of: it may tell us of them in turn.
    told: BTreeMap<Path, Told>,
    /// Those that we took back: if it tells of one still when all was said, that was not in turn.
    taken_back: BTreeSet<Path>,
    announcer: Option<Key>,
    /// Prefixes that were not asked for yet.
    unasked: BTreeSet<Path>,
}

/// What the peer was told of a path.
#[derive(Debug, Default)]
struct Told {
    /// In how many ways.
    ways: usize,
    /// It took note. What it names before that is its own.
    is_heard: bool,
}

#[derive(Debug)]
struct Known {
    ways: usize,
    /// How many of them name it; the others are its tracks.
    names: usize,
    /// How many name what was there before: their ends say nothing new.
    old: usize,
    /// Whether one ended that named what is there: if another one begins, it names another broadcast.
    has_ended: bool,
    /// The application was told; our own broadcasts are kept to themselves.
    told: bool,
}

impl Ietf {
    /// The peer has set up.
    pub(super) fn begin_names(&mut self, core: &mut Core) {
        let solicits = self.peer.as_ref().is_some_and(|peer| peer.solicit);
        if !solicits {
            let key = core.requests.open_local();
            self.set_role(key, Role::Announcing(Announcing::new(Path::root(), true)));
            self.heard.announcer = Some(key);
            core.notices.push_back(Event::AnnounceRequested {
                request: RequestKey::of(key),
                prefix: Path::root(),
                exclude: Hop::UNKNOWN,
                hidden: true,
            });
        }
        if !(self.is_early_moq_lite() && self.draft.request_streams) {
            self.heard.unasked = self.interests.iter().cloned().collect();
        }
        self.announce_all(core);
    }

    /// `moq-lite` 0.16 and before. It tells of broadcasts unasked, and closes the session on the
    /// SUBSCRIBE_NAMESPACE of draft 18 and on filters with places. Its successors have the same name and
    /// know SOLICIT.
    pub(super) fn is_early_moq_lite(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| {
            !peer.solicit && peer.implementation.as_deref() == Some("moq-lite-rs")
        })
    }

    /// Whether the peer may name this because we did. All who know SOLICIT leave that out, and others can't
    /// before they answered; what `moq-lite` says on several streams need not come in order.
    fn may_echo(&self, path: &Path) -> bool {
        let Some(told) = self.heard.told.get(path) else { return false };
        let solicits = self.peer.as_ref().is_some_and(|peer| peer.solicit);
        !solicits && (told.is_heard || self.is_early_moq_lite())
    }

    /// Goes on with what waited for room.
    pub(super) fn announce_all(&mut self, core: &mut Core) {
        while self.may_open() {
            let Some(prefix) = self.heard.unasked.pop_first() else { break };
            let role = Role::Listening(Listening {
                prefix: prefix.clone(),
                names: BTreeSet::new(),
                over: false,
            });
            // A prefix that is too deep to say has nothing under it.
            let _ = self.open_stream(core, role, |id| {
                Message::SubscribeNamespace(SubscribeNamespace {
                    id,
                    prefix,
                    ..SubscribeNamespace::default()
                })
            });
        }
        if let Some(key) = self.heard.announcer {
            core.requests.queue_out(key);
        }
    }

    fn tell(&mut self, path: Path) {
        self.heard.told.entry(path).or_default().ways += 1;
    }

    fn untell(&mut self, path: &Path) {
        if let Some(told) = self.heard.told.get_mut(path) {
            told.ways -= 1;
            if told.ways == 0 {
                self.heard.told.remove(path);
                if self.heard.live.get(path).is_some_and(|known| !known.told) {
                    self.heard.taken_back.insert(path.clone());
                }
            }
        }
    }

    /// All was said for now: what the peer tells of, and we do not, is its own.
    fn believe(&mut self, core: &mut Core) {
        while let Some(path) = self.heard.taken_back.pop_first() {
            if self.heard.told.contains_key(&path) {
                continue;
            }
            if let Some(known) = self.heard.live.get_mut(&path) {
                if !core::mem::replace(&mut known.told, true) {
                    core.notices.push_back(announced(path));
                }
            }
        }
    }
}

fn announced(path: Path) -> Event {
    let hops: Hops = [Hop::UNKNOWN].into_iter().collect();
    Event::Announced { path, hops, cost: Cost::UNKNOWN }
}

// ---- as publisher ----------------------------------------------------------------------------

impl Ietf {
    pub(super) fn asked_for_names(
        &mut self,
        core: &mut Core,
        key: Key,
        message: SubscribeNamespace,
    ) -> Look {
        let prefix = message.prefix;
        let (mut asked, mut overlaps) = (0, false);
        for role in &self.roles {
            if let Role::Announcing(other) = role {
                asked += usize::from(!other.unasked);
                let (a, b) = (&other.prefix, &prefix);
                overlaps |= !other.unasked && (a.has_prefix(b) || b.has_prefix(a));
            }
        }
        let code = if message.wanted == Wanted::Tracks {
            NOT_SUPPORTED
        } else if overlaps {
            PREFIX_OVERLAP
        } else if asked >= core.limits.announce_requests {
            self.draft.request_code(&Error::Limit("announce requests"))
        } else {
            self.set_role(key, Role::Announcing(Announcing::new(prefix.clone(), false)));
            let (request, exclude) = (RequestKey::of(key), Hop::UNKNOWN);
            let hidden = true;
            return Look::Event(Event::AnnounceRequested { request, prefix, exclude, hidden });
        };
        self.refuse(core, key, code);
        Look::Wait
    }

    pub(super) fn accept_announce(&mut self, core: &mut Core, key: Key, reader: Token) {
        if core.requests.get(key).is_none() {
            return;
        }
        let Role::Announcing(announcing) = self.role(key) else { return };
        if announcing.reader.is_some() {
            return;
        }
        announcing.reader = Some(reader);
        announcing.ready = true;
        if !announcing.unasked {
            let id = self.reply_id(key);
            self.say(core, key, &Message::RequestOk(RequestOk { id, ..RequestOk::default() }));
        }
        core.requests.queue_out(key);
    }

    pub(super) fn announce_more(&mut self, core: &mut Core, key: Key) {
        if core.requests.get(key).is_none() {
            return;
        }
        if let Role::Announcing(announcing) = self.role(key) {
            announcing.ready = true;
            core.requests.queue_out(key);
        }
    }

    /// Reads announcements only when they can go out, so that a slow peer finds them coalesced.
    pub(super) fn refill_announcing(
        &mut self,
        core: &mut Core,
        key: Key,
        source: &mut impl Source,
    ) {
        let mut role = core::mem::take(self.role(key));
        if let Role::Announcing(announcing) = &mut role {
            while let (Some(reader), true) = (announcing.reader, announcing.ready) {
                let writer = self.control.filter(|_| announcing.unasked).unwrap_or(key);
                let is_full = core.requests.owed(writer) >= core.limits.owed_bytes.min(AHEAD)
                    || announcing.unasked && (core.requests.wants_stream() || !self.may_open());
                if is_full {
                    break;
                }
                match source.announcement(reader) {
                    Some(Announcement::Active { suffix, .. }) => {
                        self.announce(core, key, announcing, suffix);
                    }
                    Some(Announcement::Ended { suffix }) => {
                        self.withdraw(core, key, announcing, &suffix);
                    }
                    None => {
                        announcing.ready = false;
                        self.believe(core);
                    }
                }
            }
        }
        *self.role(key) = role;
    }

    fn announce(&mut self, core: &mut Core, key: Key, announcing: &mut Announcing, suffix: Path) {
        if announcing.told.contains_key(&suffix) || (announcing.unasked && core.going_away) {
            // Another way to it, which the peer need not know; or a request that it does not want.
            return;
        }
        let path = announcing.prefix.join(&suffix);
        // A suffix may be empty, but nothing could be asked for at the root of draft 16.
        if core.limits.check_path(&path).is_err() || !self.draft.has_namespace(&path) {
            return;
        }
        let request = if announcing.unasked {
            let namespace = path.clone();
            let parameters = Default::default();
            let request = self.open(core, Role::Announced(path.clone()), |id| {
                Message::PublishNamespace(PublishNamespace { id, namespace, parameters })
            });
            // One that can't be said, as it is too deep, is none.
            let Ok(request) = request else { return };
            Some(request)
        } else {
            let message = Message::Namespace(Namespace { suffix: suffix.clone() });
            if !self.say(core, key, &message) {
                return;
            }
            None
        };
        announcing.told.insert(suffix, request);
        self.tell(path);
    }

    fn withdraw(&mut self, core: &mut Core, key: Key, announcing: &mut Announcing, suffix: &Path) {
        let Some(request) = announcing.told.remove(suffix) else { return };
        match request {
            Some(request) => self.cancel(core, request, &Error::Cancelled),
            None => {
                let suffix = suffix.clone();
                self.say(core, key, &Message::NamespaceDone(NamespaceDone { suffix }));
            }
        }
        self.untell(&announcing.prefix.join(suffix));
    }

    /// What was told of on a request that is over; all of it was said on that request.
    pub(super) fn forget_told(&mut self, announcing: &mut Announcing) {
        for suffix in core::mem::take(&mut announcing.told).into_keys() {
            self.untell(&announcing.prefix.join(&suffix));
        }
    }

    /// SUBSCRIBE_NAMESPACE of the peer: FIN or a reset ends it.
    pub(super) fn look_at_announcing(
        &mut self,
        core: &mut Core,
        key: Key,
        announcing: &mut Announcing,
    ) -> Look {
        let Some(request) = core.requests.get(key) else { return Look::Wait };
        let is_over = request.given_up().is_some() || request.recv.is_finished();
        if !is_over {
            return self.look_at_update(core, key);
        }
        self.forget_told(announcing);
        self.believe(core);
        self.end(core, key);
        Look::request_ended(key, Error::Cancelled)
    }

    /// REQUEST_UPDATE where nothing can be changed, and nothing else may come.
    pub(super) fn look_at_update(&mut self, core: &mut Core, key: Key) -> Look {
        match self.hear(core, key) {
            Ok(None) => Look::Wait,
            Ok(Some(Message::RequestUpdate(update))) => {
                self.refuse_update(core, key, update.id);
                Look::More
            }
            Ok(Some(_)) => {
                core.violation("not a message of this request");
                Look::Wait
            }
            Err(error) => violation(core, &error),
        }
    }

    /// PUBLISH_NAMESPACE of ours. That the peer took note is all that its answer changes.
    pub(super) fn look_at_announced(&mut self, core: &mut Core, key: Key, path: &Path) -> Look {
        let Some(request) = core.requests.get(key) else { return Look::Wait };
        if request.recv.reset().is_some() || request.recv.is_finished() {
            self.end(core, key);
            return Look::Wait;
        }
        match self.hear(core, key) {
            Ok(None) => Look::Wait,
            Ok(Some(Message::RequestOk(_))) => {
                if let Some(told) = self.heard.told.get_mut(path) {
                    told.is_heard = true;
                }
                Look::More
            }
            Ok(Some(Message::RequestError(_))) => {
                self.end(core, key);
                Look::Wait
            }
            Ok(Some(_)) => {
                core.violation("not an answer to PUBLISH_NAMESPACE");
                Look::Wait
            }
            Err(error) => violation(core, &error),
        }
    }
}

// ---- as subscriber ---------------------------------------------------------------------------

impl Ietf {
    /// Whether broadcasts of the peer are of any use here.
    pub(super) fn is_interested(&self) -> bool {
        !self.interests.is_empty()
    }

    /// The peer said in one more way that there is a broadcast: it named it, or offered a track of it.
    pub(super) fn hear_of(
        &mut self,
        core: &mut Core,
        path: &Path,
        is_named: bool,
    ) -> Option<Event> {
        let echo = self.may_echo(path);
        let event = announced(path.clone());
        if let Some(known) = self.heard.live.get_mut(path) {
            let was_named = known.names;
            known.ways += 1;
            known.names += usize::from(is_named);
            if !is_named || !core::mem::take(&mut known.has_ended) {
                return None;
            }
            known.old = was_named;
            if core::mem::replace(&mut known.told, !echo) {
                core.notices.push_back(Event::Unannounced { path: path.clone() });
            }
            // Behind that.
            core.notices.extend((!echo).then_some(event));
            return None;
        }
        if self.heard.live.len() >= core.limits.announcements {
            return None;
        }
        let names = usize::from(is_named);
        let known = Known { ways: 1, names, old: 0, has_ended: false, told: !echo };
        self.heard.live.insert(path.clone(), known);
        (!echo).then_some(event)
    }

    /// Whether [`hear_of`](Self::hear_of) kept it.
    pub(super) fn knows_of(&self, path: &Path) -> bool {
        self.heard.live.contains_key(path)
    }

    /// One of the ways in which the peer said so is over.
    pub(super) fn hear_no_more(&mut self, path: &Path, is_named: bool) -> Option<Event> {
        let known = self.heard.live.get_mut(path)?;
        known.ways -= 1;
        if known.ways > 0 {
            if is_named {
                known.names -= 1;
                match known.old {
                    0 => known.has_ended = true,
                    _ => known.old -= 1,
                }
            }
            return None;
        }
        let known = self.heard.live.remove(path)?;
        known.told.then(|| Event::Unannounced { path: path.clone() })
    }

    /// SUBSCRIBE_NAMESPACE of ours.
    pub(super) fn look_at_listening(
        &mut self,
        core: &mut Core,
        key: Key,
        listening: &mut Listening,
    ) -> Look {
        if listening.over {
            let Some(suffix) = listening.names.pop_first() else {
                self.end(core, key);
                return Look::Wait;
            };
            let event = self.hear_no_more(&listening.prefix.join(&suffix), true);
            return event.map_or(Look::More, Look::Event);
        }
        let Some(request) = core.requests.get(key) else { return Look::Wait };
        if request.recv.reset().is_some() || request.recv.is_finished() {
            listening.over = true;
            return Look::More;
        }
        let event = match self.hear(core, key) {
            Ok(None) => return Look::Wait,
            Ok(Some(Message::RequestOk(_))) => None,
            Ok(Some(Message::RequestError(_))) => {
                listening.over = true;
                None
            }
            Ok(Some(Message::Namespace(Namespace { suffix }))) => {
                let path = listening.prefix.join(&suffix);
                // What is too long, or the root of draft 16, can't be asked for.
                let room = listening.names.len() < core.limits.announcements
                    && core.limits.check_path(&path).is_ok()
                    && self.draft.has_namespace(&path);
                let event = (room && listening.names.insert(suffix.clone()))
                    .then(|| self.hear_of(core, &path, true))
                    .flatten();
                if !self.knows_of(&path) {
                    // Its NAMESPACE_DONE must not end another way to it that comes later.
                    listening.names.remove(&suffix);
                }
                event
            }
            Ok(Some(Message::NamespaceDone(NamespaceDone { suffix }))) => {
                let path = listening.prefix.join(&suffix);
                // One that was never named is the peer's fault, but a harmless one that is seen in the
                // field.
                listening.names.remove(&suffix).then(|| self.hear_no_more(&path, true)).flatten()
            }
            Ok(Some(_)) => {
                core.violation("not an answer to SUBSCRIBE_NAMESPACE");
                return Look::Wait;
            }
            // A namespace that is no path here can't be subscribed.
            Err(DecodeError::InvalidName) => None,
            Err(error) => return violation(core, &error),
        };
        event.map_or(Look::More, Look::Event)
    }

    /// PUBLISH_NAMESPACE of the peer.
    pub(super) fn told_of_name(
        &mut self,
        core: &mut Core,
        key: Key,
        message: PublishNamespace,
    ) -> Look {
        if !self.is_interested() {
            self.refuse(core, key, UNINTERESTED);
            return Look::Wait;
        }
        let path = message.namespace;
        let event = self.hear_of(core, &path, true);
        if !self.knows_of(&path) {
            let code = self.draft.request_code(&Error::Limit("announcements"));
            self.refuse(core, key, code);
            return Look::Wait;
        }
        let id = self.reply_id(key);
        self.say(core, key, &Message::RequestOk(RequestOk { id, ..RequestOk::default() }));
        self.set_role(key, Role::Hearing(path));
        event.map_or(Look::More, Look::Event)
    }

    /// PUBLISH_NAMESPACE of the peer lasts until FIN or a reset.
    pub(super) fn look_at_hearing(&mut self, core: &mut Core, key: Key, path: &Path) -> Look {
        let Some(request) = core.requests.get(key) else { return Look::Wait };
        let is_over = request.given_up().is_some() || request.recv.is_finished();
        if !is_over {
            return self.look_at_update(core, key);
        }
        self.end(core, key);
        self.hear_no_more(path, true).map_or(Look::Wait, Look::Event)
    }
}

census! { each Announcing { counts: told; plain: prefix, unasked, reader, ready; } }
census! { each Listening { counts: names; plain: prefix, over; } }
census! { Heard { counts: live, told, taken_back, unasked; plain: announcer; } }
