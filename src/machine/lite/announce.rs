//! Announcements, both ways (moq-lite, *Announce*).

use alloc::collections::BTreeMap;

use super::super::Core;
use super::super::app::{Event, RequestKey};
use super::super::dialect::{Dialect, Look};
use super::super::io::{Announcement, Source, Token};
use super::{Lite, Role};
use crate::coding::lite::{Announce, AnnounceOk, HopsForm};
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
    /// What the peer knows, with its id.
    told: BTreeMap<Path, u64>,
    next_id: u64,
}

/// What the peer tells us of its broadcasts.
#[derive(Debug)]
pub(super) struct Listening {
    prefix: Path,
    /// Who the peer says it is, where it does.
    responder: Option<Hop>,
    live: BTreeMap<Path, Offer>,
    by_id: BTreeMap<u64, Path>,
    next_id: u64,
    /// Some were not kept for want of room: their ids are not known.
    overflowed: bool,
    over: bool,
}

/// An announcement of the peer.
#[derive(Debug)]
struct Offer {
    id: u64,
    /// The application was told; loops are kept to themselves.
    told: bool,
}

impl Listening {
    pub(super) fn new(prefix: Path) -> Self {
        Self {
            prefix,
            responder: None,
            live: BTreeMap::new(),
            by_id: BTreeMap::new(),
            next_id: 0,
            overflowed: false,
            over: false,
        }
    }
}

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
        let (version, hop) = (self.version, self.hop);
        let Role::Announcing(announcing) = self.role(key) else { return };
        if announcing.reader.is_some() {
            return;
        }
        announcing.reader = Some(reader);
        announcing.ready = true;
        if self.features.announce_ok {
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
            while let (Some(reader), true) = (announcing.reader, announcing.ready) {
                if core.requests.owed(key) >= core.limits.owed_bytes {
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

    fn announce(
        &mut self,
        core: &mut Core,
        key: Key,
        announcing: &mut Announcing,
        change: Announcement,
    ) {
        let (version, features) = (self.version, self.features);
        let mut write = |message: Announce| {
            let mut result = Ok(());
            core.requests.write(key, |out| result = message.encode(out, version));
            result.is_ok()
        };
        match change {
            Announcement::Active { suffix, mut hops, cost } => {
                if features.hops != HopsForm::WithoutSender && hops.push(self.hop).is_err() {
                    return;
                }
                let known = announcing.told.get(&suffix).copied();
                if let (Some(id), true) = (known, features.announce_ids) {
                    write(Announce::Update { id, hops, cost });
                    return;
                }
                if known.is_some() && !features.announce_ok {
                    // These versions take a second one for a fault.
                    write(Announce::Ended { suffix: suffix.clone() });
                }
                if write(Announce::Active { suffix: suffix.clone(), hops, cost }) {
                    announcing.told.insert(suffix, announcing.next_id);
                    announcing.next_id += 1;
                }
            }
            Announcement::Ended { suffix } => {
                let Some(id) = announcing.told.remove(&suffix) else { return };
                write(if features.announce_ids {
                    Announce::EndedId { id }
                } else {
                    Announce::Ended { suffix }
                });
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
        let request = RequestKey(key.0, key.1);
        Look::Event(Event::RequestEnded { request, result: Err(error) })
    }

    /// No more announcements: FIN, which is legal only behind ANNOUNCE_OK. Never RESET, which ends the
    /// session of the deployed peers.
    pub(super) fn finish_announcing(&mut self, core: &mut Core, key: Key, announcing: &Announcing) {
        let version = self.version;
        if announcing.reader.is_none() && self.features.announce_ok {
            let hop = self.hop;
            core.requests.write(key, |out| {
                let _ = AnnounceOk { hop, active: 0 }.encode(out, version);
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
        let before_first = self.features.announce_ok && listening.responder.is_none();
        let typed = self.features.announce_ids && !before_first;
        let Some((kind, body)) = Self::next_message(core, key, typed)? else {
            return Ok(Look::Wait);
        };
        if before_first {
            listening.responder = Some(AnnounceOk::decode_body(&body, self.version)?.hop);
            return Ok(Look::More);
        }
        let depth = core.limits.path_segments;
        let Some(message) = Announce::decode_body(kind, &body, self.version, depth)? else {
            return Ok(Look::More);
        };
        Ok(match message {
            Announce::Active { suffix, hops, cost } => {
                self.offered(core, listening, suffix, hops, cost)
            }
            Announce::Ended { suffix } => listening.ended(&suffix),
            Announce::EndedId { id } => match listening.by_id.remove(&id) {
                Some(suffix) => listening.ended(&suffix),
                None => listening.unknown_id(core, id),
            },
            Announce::Update { id, hops, cost } => match listening.by_id.get(&id).cloned() {
                Some(suffix) => self.reconsider(core, listening, suffix, hops, cost),
                None => listening.unknown_id(core, id),
            },
        })
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
        if listening.live.len() >= core.limits.announcements {
            listening.overflowed = true;
            return Look::More;
        }
        if self.features.announce_ids {
            listening.by_id.insert(id, suffix.clone());
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
                let link = self.peer.as_ref().and_then(|peer| peer.cost).unwrap_or(1);
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
        if self.features.hops == HopsForm::WithoutSender {
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

    /// An id that nothing has: the peer's fault, unless we had no room to keep it.
    fn unknown_id(&self, core: &mut Core, id: u64) -> Look {
        if !(self.overflowed && id < self.next_id) {
            core.violation("unknown announce id");
        }
        Look::More
    }
}
