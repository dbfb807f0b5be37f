//! Announcements, both ways (moq-lite, *Announce*).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use bytes::BytesMut;

use super::super::Core;
use super::super::app::Event;
use super::super::dialect::{Dialect, Look};
use super::super::io::{AHEAD, Announcement, Source, Token};
use super::{Lite, Role};
use crate::census::census;
use crate::coding::lite::{
    Announce, AnnounceInit, AnnounceOk, Base, Bases, HEAD_BYTES, HopsForm, frame_message,
};
use crate::error::Error;
use crate::hop::{Cost, Hop, Hops};
use crate::path::Path;
use crate::slab::Key;

/// What we tell the peer of our broadcasts.
#[derive(Debug, Default)]
pub(super) struct Announcing {
    /// Where to read it, once the application said so.
    reader: Option<Token>,
    /// The reader may have news.
    ready: bool,
    /// What there is at first, until that is said in ANNOUNCE_INIT.
    initial: Option<u64>,
    /// The answer that comes before announcements was given.
    answered: bool,
    /// What the peer knows.
    told: BTreeMap<Path, Said>,
    next_id: u64,
}

/// An announcement of ours.
#[derive(Debug, Default)]
struct Said {
    id: u64,
    /// Its hops on the wire, where another route is told by an end and a beginning.
    hops: Hops,
}

/// What the peer tells us of its broadcasts.
#[derive(Debug)]
pub(super) struct Listening {
    prefix: Path,
    /// Who the peer says it is, where it does; there is one when what comes before announcements came.
    responder: Option<Hop>,
    /// What ANNOUNCE_INIT had, as far as it was not looked at.
    initial: VecDeque<Path>,
    live: BTreeMap<Path, Offer>,
    by_id: BTreeMap<u64, Named>,
    next_id: u64,
    /// Some were not kept: their ids are not known.
    overflowed: bool,
    /// Bytes to come of a message that is too long.
    skipped: usize,
    over: bool,
}

/// An announcement of the peer.
#[derive(Debug)]
struct Offer {
    id: u64,
    /// The application was told; loops are kept to themselves.
    told: bool,
}

/// What an id of the peer stands for.
#[derive(Debug)]
struct Named {
    suffix: Path,
    /// As they were on the wire, for others to build on, where they may.
    hops: Hops,
}

impl Listening {
    pub(super) fn new(prefix: Path) -> Self {
        Self {
            prefix,
            responder: None,
            initial: VecDeque::new(),
            live: BTreeMap::new(),
            by_id: BTreeMap::new(),
            next_id: 0,
            overflowed: false,
            skipped: 0,
            over: false,
        }
    }
}

/// What ANNOUNCE_INIT has at most, or little more: less than any peer takes.
const INIT_BYTES: usize = 16 << 10;

/// Bytes of a message that is skipped at most: more than that no peer takes, nor writes.
const MAX_SKIPPED: usize = 64 << 20;

// ---- as publisher ----------------------------------------------------------------------------

impl Lite {
    pub(super) fn accept_announce(
        &mut self,
        core: &mut Core,
        key: Key,
        reader: Token,
        active: u64,
    ) {
        if core.requests.get(key).is_none() {
            return;
        }
        let (version, features, hop) = (self.version, self.features, self.hop);
        let Role::Announcing(announcing) = self.role(key) else { return };
        if announcing.reader.is_some() {
            return;
        }
        announcing.reader = Some(reader);
        announcing.ready = true;
        announcing.answered = !features.announce_init;
        announcing.initial = features.announce_init.then_some(active);
        if features.announce_ok {
            core.requests.write(key, |out| {
                // A count that does not fit is one that nobody has.
                let _ = AnnounceOk { hop, active }.encode(out, version);
            });
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
            if let (Some(reader), Some(active)) = (announcing.reader, announcing.initial.take()) {
                self.announce_init(core, key, announcing, active, || source.announcement(reader));
            }
            while let (Some(reader), true) = (announcing.reader, announcing.ready) {
                if core.requests.owed(key) >= core.limits.owed_bytes.min(AHEAD) {
                    break;
                }
                match source.announcement(reader) {
                    Some(change) => self.announce(core, key, announcing, change),
                    None => announcing.ready = false,
                }
            }
        }
        *self.role(key) = role;
    }

    /// What there is at first goes out in one message, unless it is too much: then the rest follows.
    fn announce_init(
        &mut self,
        core: &mut Core,
        key: Key,
        announcing: &mut Announcing,
        active: u64,
        mut next: impl FnMut() -> Option<Announcement>,
    ) {
        let version = self.version;
        let (mut size, mut large) = (BytesMut::new(), None);
        for _ in 0..active {
            match next() {
                Some(Announcement::Active { suffix, hops, cost }) => {
                    // One that can't be said would take the others with it, and one that is large may.
                    let before = size.len();
                    let message = AnnounceInit { suffixes: [suffix.clone()].into() };
                    let fits = core.limits.check_path(&suffix).is_ok();
                    if !fits || message.encode(&mut size, version).is_err() {
                        continue;
                    }
                    if size.len() - before > INIT_BYTES {
                        large = Some(Announcement::Active { suffix, hops, cost });
                        break;
                    }
                    let said = Said { id: announcing.next_id, ..Said::default() };
                    announcing.told.insert(suffix, said);
                    announcing.next_id += 1;
                }
                Some(Announcement::Ended { suffix }) => drop(announcing.told.remove(&suffix)),
                None => break,
            }
            if size.len() >= INIT_BYTES.min(core.limits.owed_bytes) {
                break;
            }
        }
        let suffixes = announcing.told.keys().cloned().collect();
        announcing.answered = true;
        core.requests.write(key, |out| {
            let _ = AnnounceInit { suffixes }.encode(out, version);
        });
        if let Some(large) = large {
            self.announce(core, key, announcing, large);
        }
    }

    fn announce(
        &mut self,
        core: &mut Core,
        key: Key,
        announcing: &mut Announcing,
        change: Announcement,
    ) {
        let (version, features) = (self.version, self.features);
        let write = |core: &mut Core, message: Announce| {
            let mut result = Ok(());
            core.requests.write(key, |out| result = message.encode(out, version));
            result.is_ok()
        };
        match change {
            Announcement::Active { suffix, mut hops, cost } => {
                let says_sender = matches!(features.hops, HopsForm::Count | HopsForm::WithSender);
                let is_full = says_sender && hops.push(self.hop).is_err();
                if is_full || core.limits.check_path(&suffix).is_err() {
                    // It can't be said. Nor does what the peer knows of it hold any more.
                    return self.announce(core, key, announcing, Announcement::Ended { suffix });
                }
                let mut said = Said { id: announcing.next_id, hops: Hops::new() };
                let known = announcing.told.get(&suffix);
                if let (Some(Said { id, .. }), true) = (known, features.announce_ids) {
                    write(core, Announce::Update { id: *id, hops, cost, base: Base::default() });
                    return;
                }
                if !features.announce_ok {
                    // These versions take a second one for a fault, and an end and a beginning of the same
                    // hops for another broadcast. Where they can't name hops it is left out.
                    let says_hops = features.hops == HopsForm::WithSender;
                    if says_hops {
                        said.hops.clone_from(&hops);
                    }
                    match known {
                        Some(known) if !says_hops || known.hops == hops => return,
                        Some(_) => drop(write(core, Announce::Ended { suffix: suffix.clone() })),
                        None => {}
                    }
                }
                let bases = Bases::default();
                if write(core, Announce::Active { suffix: suffix.clone(), hops, cost, bases }) {
                    announcing.told.insert(suffix, said);
                    announcing.next_id += 1;
                }
            }
            Announcement::Ended { suffix } => {
                let Some(Said { id, .. }) = announcing.told.remove(&suffix) else { return };
                write(
                    core,
                    match features.announce_ids {
                        true => Announce::EndedId { id },
                        false => Announce::Ended { suffix },
                    },
                );
            }
        }
    }

    /// The peer has nothing more to say on its request.
    pub(super) fn look_at_announcing(
        &mut self,
        core: &mut Core,
        key: Key,
        announcing: &Announcing,
    ) -> Look {
        let Some(request) = core.requests.get(key) else { return Look::Wait };
        let error = match request.given_up() {
            Some(code) => Error::from_stream_code(code),
            None if request.recv.len() > 0 => Error::Malformed(crate::DecodeError::TrailingBytes),
            // A FIN alone says nothing: the deployed peers finish their half or keep it as they like.
            None => return Look::Wait,
        };
        self.finish_announcing(core, key, announcing);
        Look::request_ended(key, error)
    }

    /// No more announcements: FIN, which is legal only behind ANNOUNCE_INIT or ANNOUNCE_OK. Never RESET,
    /// which ends the session of the deployed peers.
    pub(super) fn finish_announcing(&mut self, core: &mut Core, key: Key, announcing: &Announcing) {
        let version = self.version;
        if !announcing.answered {
            let (features, hop) = (self.features, self.hop);
            core.requests.write(key, |out| {
                let _ = match features.announce_init {
                    true => AnnounceInit::default().encode(out, version),
                    false if features.announce_ok => {
                        AnnounceOk { hop, active: 0 }.encode(out, version)
                    }
                    false => Ok(()),
                };
            });
        }
        self.finish(core, key);
    }
}

// ---- as subscriber ---------------------------------------------------------------------------

impl Lite {
    pub(super) fn look_at_listening(
        &mut self,
        core: &mut Core,
        key: Key,
        listening: &mut Listening,
    ) -> Look {
        if listening.over {
            return match listening.live.pop_first() {
                Some((suffix, Offer { told: true, .. })) => {
                    Look::Event(Event::Unannounced { path: listening.prefix.join(&suffix) })
                }
                Some(_) => Look::More,
                None => {
                    self.finish(core, key);
                    Look::More
                }
            };
        }
        let Some(request) = core.requests.get(key) else { return Look::Wait };
        if request.recv.reset().is_some() || request.recv.is_finished() {
            listening.over = true;
            return Look::More;
        }
        match self.hear(core, key, listening) {
            Ok(look) => look,
            Err(error) => {
                // One bad stream: what it announced ends, the session goes on.
                core.requests.stop(key, error.stream_code(), &mut core.actions);
                listening.over = true;
                Look::More
            }
        }
    }

    fn hear(
        &mut self,
        core: &mut Core,
        key: Key,
        listening: &mut Listening,
    ) -> Result<Look, Error> {
        if let Some(suffix) = listening.initial.pop_front() {
            return Ok(self.offered(core, listening, suffix, Hops::new(), Cost::UNKNOWN));
        }
        if !self.skip(core, key, listening) {
            return Ok(Look::Wait);
        }
        let answers = self.features.announce_ok || self.features.announce_init;
        let before_first = answers && listening.responder.is_none();
        let typed = self.features.announce_ids && !before_first;
        let is_counted = before_first && self.features.announce_ok;
        if !is_counted && self.begin_to_skip(core, key, typed, listening)? {
            listening.responder.get_or_insert(Hop::UNKNOWN);
            return Ok(Look::More);
        }
        let Some((kind, body)) = self.next_message(core, key, typed)? else {
            return Ok(Look::Wait);
        };
        // One path that is too deep is one path: it is looked at below.
        let depth = usize::MAX;
        if before_first {
            listening.responder = Some(if self.features.announce_init {
                let init = AnnounceInit::decode_body(&body, self.version, depth)?;
                listening.initial = init.suffixes.into();
                Hop::UNKNOWN
            } else {
                AnnounceOk::decode_body(&body, self.version)?.hop
            });
            return Ok(Look::More);
        }
        let Some(message) = Announce::decode_body(kind, &body, self.version, depth)? else {
            return Ok(Look::More);
        };
        Ok(match message {
            Announce::Active { suffix, hops, cost, bases } => {
                let most = core.limits.path_segments;
                let suffix = listening.resolve_path(bases.path, &suffix, most);
                match suffix.zip(listening.resolve_hops(bases.hops, hops)) {
                    Some((suffix, hops)) => self.offered(core, listening, suffix, hops, cost),
                    None => {
                        listening.next_id += 1;
                        listening.unresolved(core)
                    }
                }
            }
            Announce::Ended { suffix } => listening.ended(&suffix),
            Announce::EndedId { id } => match listening.by_id.remove(&id) {
                Some(named) => listening.ended(&named.suffix),
                None => listening.unknown_id(core, id),
            },
            Announce::Update { id, hops, cost, base } => {
                let hops = listening.resolve_hops(base, hops);
                match (listening.by_id.get_mut(&id), hops) {
                    (Some(named), Some(hops)) => {
                        let suffix = named.suffix.clone();
                        named.hops =
                            if self.features.announce_bases { hops.clone() } else { Hops::new() };
                        self.reconsider(core, listening, suffix, hops, cost)
                    }
                    (None, _) => listening.unknown_id(core, id),
                    (Some(_), None) => listening.unresolved(core),
                }
            }
        })
    }

    /// An announcement that is too long for us is left out, or ANNOUNCE_INIT, and no other: `true` if there is
    /// one.
    fn begin_to_skip(
        &self,
        core: &mut Core,
        key: Key,
        typed: bool,
        listening: &mut Listening,
    ) -> Result<bool, Error> {
        let Some(request) = core.requests.get(key) else { return Ok(false) };
        let mut front = [0; HEAD_BYTES];
        let front = request.recv.peek(&mut front);
        let framed = frame_message(front, self.version, typed, MAX_SKIPPED)?;
        let Some(framed) = framed.filter(|it| it.body > core.limits.message_bytes) else {
            return Ok(false);
        };
        request.recv.skip(framed.head);
        listening.skipped = framed.body;
        listening.next_id += u64::from(Announce::takes_id(framed.kind));
        listening.overflowed = true;
        Ok(true)
    }

    /// Whether nothing of what is skipped is to come any more.
    fn skip(&self, core: &mut Core, key: Key, listening: &mut Listening) -> bool {
        if let Some(request) = core.requests.get(key).filter(|_| listening.skipped > 0) {
            let n = request.recv.len().min(listening.skipped);
            request.recv.skip(n);
            listening.skipped -= n;
        }
        listening.skipped == 0
    }

    fn offered(
        &mut self,
        core: &mut Core,
        listening: &mut Listening,
        suffix: Path,
        hops: Hops,
        cost: Cost,
    ) -> Look {
        if listening.live.contains_key(&suffix) {
            if self.features.announce_ids || !self.features.announce_ok {
                core.violation("announced twice");
                return Look::Wait;
            }
            return self.reconsider(core, listening, suffix, hops, cost);
        }
        let id = listening.next_id;
        listening.next_id += 1;
        let path = listening.prefix.join(&suffix);
        // What can't be asked for by its whole path is of no use.
        let is_sayable = core.limits.check_path(&path).is_ok()
            && path.segments().nth(core.limits.path_segments).is_none();
        if !is_sayable || listening.live.len() >= core.limits.announcements {
            listening.overflowed = true;
            return Look::More;
        }
        if self.features.announce_ids {
            let kept = if self.features.announce_bases { hops.clone() } else { Hops::new() };
            listening.by_id.insert(id, Named { suffix: suffix.clone(), hops: kept });
        }
        listening.live.insert(suffix.clone(), Offer { id, told: false });
        self.reconsider(core, listening, suffix, hops, cost)
    }

    /// A live announcement has this chain and cost now: it may be a way, or a loop.
    fn reconsider(
        &mut self,
        core: &mut Core,
        listening: &mut Listening,
        suffix: Path,
        hops: Hops,
        cost: Cost,
    ) -> Look {
        let chain = self.chain(core, listening, hops);
        let Some(offer) = listening.live.get_mut(&suffix) else { return Look::More };
        let path = listening.prefix.join(&suffix);
        match chain {
            Some(hops) => {
                offer.told = true;
                let said = self.peer.as_ref().and_then(|peer| peer.cost);
                let link = self.cost.or(said).unwrap_or(1);
                let cost = if self.features.announce_ids { cost.add(link) } else { cost };
                Look::Event(Event::Announced { path, hops, cost })
            }
            None if core::mem::replace(&mut offer.told, false) => {
                Look::Event(Event::Unannounced { path })
            }
            None => Look::More,
        }
    }

    /// The chain with the peer at its end; `None` if it came through us, twice through somebody, or
    /// through too many.
    fn chain(&self, core: &Core, listening: &Listening, mut hops: Hops) -> Option<Hops> {
        if matches!(self.features.hops, HopsForm::WithoutSender | HopsForm::Absent) {
            let responder = listening.responder.unwrap_or(Hop::UNKNOWN);
            hops.push(responder).ok()?;
        }
        let bad = hops.contains(self.hop) || hops.has_loop() || hops.len() > core.limits.hops;
        if bad { None } else { Some(hops) }
    }
}

impl Listening {
    fn ended(&mut self, suffix: &Path) -> Look {
        match self.live.remove(suffix) {
            Some(offer) => {
                self.by_id.remove(&offer.id);
                if offer.told {
                    return Look::Event(Event::Unannounced { path: self.prefix.join(suffix) });
                }
                Look::More
            }
            None => Look::More,
        }
    }

    /// What an announcement builds on, if it is live.
    fn base(&self, base: Base) -> Option<&Named> {
        self.by_id.get(&self.next_id.checked_sub(base.back)?)
    }

    /// A suffix behind the first segments of its base; `None` if there is no such base.
    fn resolve_path(&self, base: Base, rest: &Path, max_segments: usize) -> Option<Path> {
        if base.back == 0 {
            return Some(rest.clone());
        }
        let suffix = &self.base(base)?.suffix;
        let keep = usize::try_from(base.keep).ok()?;
        let kept: Vec<_> = suffix.segments().take(keep).collect();
        let path = Path::new(&kept.join("/")).join(rest);
        let fits = kept.len() == keep && path.segments().nth(max_segments).is_none();
        fits.then_some(path)
    }

    /// Hops before the last ones of their base; `None` if there is no such base, or they are too many.
    fn resolve_hops(&self, base: Base, mut hops: Hops) -> Option<Hops> {
        if base.back == 0 {
            return Some(hops);
        }
        let chain = self.base(base)?.hops.as_slice();
        let from = chain.len().checked_sub(usize::try_from(base.keep).ok()?)?;
        chain[from..].iter().try_for_each(|hop| hops.push(*hop)).ok()?;
        Some(hops)
    }

    /// A base that is not there: the peer's fault, unless we had no room to keep it.
    fn unresolved(&self, core: &mut Core) -> Look {
        if !self.overflowed {
            core.violation("unknown announce base");
        }
        Look::More
    }

    /// An id that nothing has: the peer's fault, unless we had no room to keep it.
    fn unknown_id(&self, core: &mut Core, id: u64) -> Look {
        if !(self.overflowed && id < self.next_id) {
            core.violation("unknown announce id");
        }
        Look::More
    }
}

census! { each Announcing { counts: told; plain: reader, ready, initial, answered, next_id; } }
census! { each Listening {
    counts: initial, live, by_id;
    plain: prefix, responder, next_id, overflowed, skipped, over;
} }
