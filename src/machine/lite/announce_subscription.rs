//! Our announce request to the peer, and the broadcasts that it announces (moq-lite, *Announce*).

use alloc::vec::Vec;

use super::roles::{AnnounceSubscription, NamedAnnouncement, PeerAnnouncement};
use super::session::Lite;
use crate::coding::lite::{
    Announce, AnnounceInit, AnnounceOk, Base, HEAD_BYTES, HopsForm, frame_message,
};
use crate::error::Error;
use crate::hop::{Cost, Hop, Hops};
use crate::machine::engine::{Core, Dialect, Progress};
use crate::machine::event::Event;
use crate::path::Path;
use crate::slab::Key;

/// Bytes of a message that is skipped at most: more than that no peer takes, nor writes.
const MAX_SKIPPED: usize = 64 << 20;

impl Lite {
    pub(super) fn read_announce_subscription(
        &mut self,
        core: &mut Core,
        key: Key,
        subscription: &mut AnnounceSubscription,
    ) -> Progress {
        if subscription.over {
            return match subscription.live.pop_first() {
                Some((suffix, PeerAnnouncement { reported: true, .. })) => {
                    Progress::Event(Event::Unannounced { path: subscription.prefix.join(&suffix) })
                }
                Some(_) => Progress::More,
                None => {
                    self.finish(core, key);
                    Progress::More
                }
            };
        }
        let Some(request) = core.requests.get(key) else { return Progress::Wait };
        if request.recv.reset().is_some() || request.recv.is_finished() {
            subscription.over = true;
            return Progress::More;
        }
        match self.next_announcement(core, key, subscription) {
            Ok(progress) => progress,
            Err(error) => {
                // One bad stream: what it announced ends, the session goes on.
                core.requests.stop(key, error.stream_code(), &mut core.actions);
                subscription.over = true;
                Progress::More
            }
        }
    }

    fn next_announcement(
        &mut self,
        core: &mut Core,
        key: Key,
        subscription: &mut AnnounceSubscription,
    ) -> Result<Progress, Error> {
        if let Some(suffix) = subscription.initial.pop_front() {
            return Ok(self.on_announced(core, subscription, suffix, Hops::new(), Cost::UNKNOWN));
        }
        if !self.skip(core, key, subscription) {
            return Ok(Progress::Wait);
        }
        let answers = self.features.announce_ok || self.features.announce_init;
        let before_first = answers && subscription.responder.is_none();
        let typed = self.features.announce_ids && !before_first;
        let is_counted = before_first && self.features.announce_ok;
        if !is_counted && self.begin_skip(core, key, typed, subscription)? {
            subscription.responder.get_or_insert(Hop::UNKNOWN);
            return Ok(Progress::More);
        }
        let Some((kind, body)) = self.next_message(core, key, typed)? else {
            return Ok(Progress::Wait);
        };
        // One path that is too deep is one path: it is looked at below.
        let depth = usize::MAX;
        if before_first {
            subscription.responder = Some(if self.features.announce_init {
                let init = AnnounceInit::decode_body(&body, self.version, depth)?;
                subscription.initial = init.suffixes.into();
                Hop::UNKNOWN
            } else {
                AnnounceOk::decode_body(&body, self.version)?.hop
            });
            return Ok(Progress::More);
        }
        let Some(message) = Announce::decode_body(kind, &body, self.version, depth)? else {
            return Ok(Progress::More);
        };
        Ok(match message {
            Announce::Active { suffix, hops, cost, bases } => {
                let most = core.limits.path_segments;
                let suffix = subscription.resolve_path(bases.path, &suffix, most);
                match suffix.zip(subscription.resolve_hops(bases.hops, hops)) {
                    Some((suffix, hops)) => {
                        self.on_announced(core, subscription, suffix, hops, cost)
                    }
                    None => {
                        subscription.next_id += 1;
                        subscription.unresolved(core)
                    }
                }
            }
            Announce::Ended { suffix } => subscription.ended(&suffix),
            Announce::EndedId { id } => match subscription.by_id.remove(&id) {
                Some(named) => subscription.ended(&named.suffix),
                None => subscription.unknown_id(core, id),
            },
            Announce::Update { id, hops, cost, base } => {
                let hops = subscription.resolve_hops(base, hops);
                match (subscription.by_id.get_mut(&id), hops) {
                    (Some(named), Some(hops)) => {
                        let suffix = named.suffix.clone();
                        named.hops =
                            if self.features.announce_bases { hops.clone() } else { Hops::new() };
                        self.update_announced(core, subscription, suffix, hops, cost)
                    }
                    (None, _) => subscription.unknown_id(core, id),
                    (Some(_), None) => subscription.unresolved(core),
                }
            }
        })
    }

    /// An announcement that is too long for us is left out, or ANNOUNCE_INIT, and no other: `true` if there is
    /// one.
    fn begin_skip(
        &self,
        core: &mut Core,
        key: Key,
        typed: bool,
        subscription: &mut AnnounceSubscription,
    ) -> Result<bool, Error> {
        let Some(request) = core.requests.get(key) else { return Ok(false) };
        let mut front = [0; HEAD_BYTES];
        let front = request.recv.peek(&mut front);
        let framed = frame_message(front, self.version, typed, MAX_SKIPPED)?;
        let Some(framed) = framed.filter(|it| it.body > core.limits.message_bytes) else {
            return Ok(false);
        };
        request.recv.skip(framed.head);
        subscription.skipped = framed.body;
        subscription.next_id += u64::from(Announce::takes_id(framed.kind));
        subscription.overflowed = true;
        Ok(true)
    }

    /// Whether nothing of what is skipped is to come any more.
    fn skip(&self, core: &mut Core, key: Key, subscription: &mut AnnounceSubscription) -> bool {
        if let Some(request) = core.requests.get(key).filter(|_| subscription.skipped > 0) {
            let n = request.recv.len().min(subscription.skipped);
            request.recv.skip(n);
            subscription.skipped -= n;
        }
        subscription.skipped == 0
    }

    fn on_announced(
        &mut self,
        core: &mut Core,
        subscription: &mut AnnounceSubscription,
        suffix: Path,
        hops: Hops,
        cost: Cost,
    ) -> Progress {
        if subscription.live.contains_key(&suffix) {
            if self.features.announce_ids || !self.features.announce_ok {
                core.violation("announced twice");
                return Progress::Wait;
            }
            return self.update_announced(core, subscription, suffix, hops, cost);
        }
        let id = subscription.next_id;
        subscription.next_id += 1;
        let path = subscription.prefix.join(&suffix);
        // What can't be asked for by its whole path is of no use.
        let is_sayable = core.limits.check_path(&path).is_ok()
            && path.segments().nth(core.limits.path_segments).is_none();
        if !is_sayable || subscription.live.len() >= core.limits.announcements {
            subscription.overflowed = true;
            return Progress::More;
        }
        if self.features.announce_ids {
            let kept = if self.features.announce_bases { hops.clone() } else { Hops::new() };
            subscription.by_id.insert(id, NamedAnnouncement { suffix: suffix.clone(), hops: kept });
        }
        subscription.live.insert(suffix.clone(), PeerAnnouncement { id, reported: false });
        self.update_announced(core, subscription, suffix, hops, cost)
    }

    /// A live announcement has this chain and cost now: it may be a way, or a loop.
    fn update_announced(
        &mut self,
        core: &mut Core,
        subscription: &mut AnnounceSubscription,
        suffix: Path,
        hops: Hops,
        cost: Cost,
    ) -> Progress {
        let chain = self.chain(core, subscription, hops);
        let Some(announcement) = subscription.live.get_mut(&suffix) else { return Progress::More };
        let path = subscription.prefix.join(&suffix);
        match chain {
            Some(hops) => {
                announcement.reported = true;
                let announced = self.peer.as_ref().and_then(|peer| peer.cost);
                let link = self.cost.or(announced).unwrap_or(1);
                let cost = if self.features.announce_ids { cost.add(link) } else { cost };
                Progress::Event(Event::Announced { path, hops, cost })
            }
            None if core::mem::replace(&mut announcement.reported, false) => {
                Progress::Event(Event::Unannounced { path })
            }
            None => Progress::More,
        }
    }

    /// The chain with the peer at its end; `None` if it came through us, twice through somebody, or
    /// through too many.
    fn chain(
        &self,
        core: &Core,
        subscription: &AnnounceSubscription,
        mut hops: Hops,
    ) -> Option<Hops> {
        if matches!(self.features.hops, HopsForm::WithoutSender | HopsForm::Absent) {
            let responder = subscription.responder.unwrap_or(Hop::UNKNOWN);
            hops.push(responder).ok()?;
        }
        let bad = hops.contains(self.hop) || hops.has_loop() || hops.len() > core.limits.hops;
        if bad { None } else { Some(hops) }
    }
}

impl AnnounceSubscription {
    fn ended(&mut self, suffix: &Path) -> Progress {
        match self.live.remove(suffix) {
            Some(announcement) => {
                self.by_id.remove(&announcement.id);
                if announcement.reported {
                    return Progress::Event(Event::Unannounced { path: self.prefix.join(suffix) });
                }
                Progress::More
            }
            None => Progress::More,
        }
    }

    /// What an announcement builds on, if it is live.
    fn base(&self, base: Base) -> Option<&NamedAnnouncement> {
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
    fn unresolved(&self, core: &mut Core) -> Progress {
        if !self.overflowed {
            core.violation("unknown announce base");
        }
        Progress::More
    }

    /// An id that nothing has: the peer's fault, unless we had no room to keep it.
    fn unknown_id(&self, core: &mut Core, id: u64) -> Progress {
        if !(self.overflowed && id < self.next_id) {
            core.violation("unknown announce id");
        }
        Progress::More
    }
}
