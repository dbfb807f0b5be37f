//! Our announce request to the peer, and the broadcasts that it announces (moq-lite-06, 5.1.1).
//!
//! An announcement that breaks a rule of the session closes it: an id that was never defined or is
//! retired, a second start of a live path, a hop twice in a list (06 and later). Other faults concern the stream or the path
//! alone. A route that loops, a path that is too long, or an announcement past our limits is left out.
//! Its id stays taken, so that later ids mean the same at both ends.

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

/// The largest message that is skipped instead of read. Deployed peers write and accept no message
/// above 64 MiB, so that a longer one is garbage.
const MAX_SKIPPED: usize = 64 << 20;

impl Lite {
    /// Reads the next announcement. The end of the stream makes all its routes unavailable (5.1.1),
    /// one event at a time.
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
                // A malformed message is the fault of this stream: its announcements end, the session
                // goes on. Rules that close the session did so already.
                core.requests.stop(key, error.stream_code(), &mut core.actions);
                subscription.over = true;
                Progress::More
            }
        }
    }

    /// Reads one message. The type of the first one depends on the version.
    fn next_announcement(
        &mut self,
        core: &mut Core,
        key: Key,
        subscription: &mut AnnounceSubscription,
    ) -> Result<Progress, Error> {
        // The entries of ANNOUNCE_INIT have neither hops nor cost.
        if let Some(suffix) = subscription.initial.pop_front() {
            return Ok(self.on_announced(core, subscription, suffix, Hops::new(), Cost::UNKNOWN));
        }
        // Nothing is decoded inside of a message that is skipped.
        if !self.skip(core, key, subscription) {
            return Ok(Progress::Wait);
        }
        let answers = self.features.announce_ok || self.features.announce_init;
        let before_first = answers && subscription.responder.is_none();
        let typed = self.features.announce_ids && !before_first;
        // ANNOUNCE_OK has a fixed size; ANNOUNCE_INIT and announcements may be too long for us.
        let is_counted = before_first && self.features.announce_ok;
        if !is_counted && self.begin_skip(core, key, typed, subscription)? {
            subscription.responder.get_or_insert(Hop::UNKNOWN);
            return Ok(Progress::More);
        }
        let Some((kind, body)) = self.next_message(core, key, typed)? else {
            return Ok(Progress::Wait);
        };
        // A path with too many segments is one bad path, not a bad message: it is checked below.
        let depth = usize::MAX;
        if before_first {
            subscription.responder = Some(if self.features.announce_init {
                let init = AnnounceInit::decode_body(&body, self.version, depth)?;
                subscription.initial = init.suffixes.into();
                Hop::UNKNOWN
            } else {
                let ok = AnnounceOk::decode_body(&body, self.version);
                if ok.is_err() && self.features.announce_ids {
                    // It is another message, which must not come before (5.1.1).
                    core.violation("no ANNOUNCE_OK");
                }
                ok?.hop
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
                        // Even a start that can't be resolved takes an id (7.6).
                        subscription.next_id += 1;
                        subscription.unresolved(core)
                    }
                }
            }
            // Up to 05 by path.
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

    /// Starts to skip an announcement, or ANNOUNCE_INIT, that is longer than our limit. Returns
    /// `true` if the next message is such a one. A peer with other limits is not at fault, so that
    /// the stream goes on.
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

    /// Skips what has arrived. Returns `true` when nothing is left to skip.
    fn skip(&self, core: &mut Core, key: Key, subscription: &mut AnnounceSubscription) -> bool {
        if let Some(request) = core.requests.get(key).filter(|_| subscription.skipped > 0) {
            let n = request.recv.len().min(subscription.skipped);
            request.recv.skip(n);
            subscription.skipped -= n;
        }
        subscription.skipped == 0
    }

    /// A start, or an announcement up to 05.
    fn on_announced(
        &mut self,
        core: &mut Core,
        subscription: &mut AnnounceSubscription,
        suffix: Path,
        hops: Hops,
        cost: Cost,
    ) -> Progress {
        if subscription.live.contains_key(&suffix) {
            // A start of a live path closes the session (5.1.1), and did so up to 04. On 05 it is how
            // another route is announced.
            if self.features.announce_ids || !self.features.announce_ok {
                core.violation("announced twice");
                return Progress::Wait;
            }
            return self.update_announced(core, subscription, suffix, hops, cost);
        }
        let id = subscription.next_id;
        subscription.next_id += 1;
        let path = subscription.prefix.join(&suffix);
        // A SUBSCRIBE names the whole path, so that one whose suffix alone fits is of no use.
        let is_sayable = core.limits.check_path(&path).is_ok()
            && path.segments().nth(core.limits.path_segments).is_none();
        // It is left out, and its id stays taken.
        if !is_sayable || subscription.live.len() >= core.limits.announcements {
            subscription.overflowed = true;
            return Progress::More;
        }
        // The wire form of the hops is needed only where later announcements may build on it (07).
        if self.features.announce_ids {
            let kept = if self.features.announce_bases { hops.clone() } else { Hops::new() };
            subscription.by_id.insert(id, NamedAnnouncement { suffix: suffix.clone(), hops: kept });
        }
        subscription.live.insert(suffix.clone(), PeerAnnouncement { id, reported: false });
        self.update_announced(core, subscription, suffix, hops, cost)
    }

    /// A live announcement has this chain and cost now. The chain may have become a loop, or ceased
    /// to be one (5.1.1.1).
    fn update_announced(
        &mut self,
        core: &mut Core,
        subscription: &mut AnnounceSubscription,
        suffix: Path,
        hops: Hops,
        cost: Cost,
    ) -> Progress {
        // Up to 05 it is a loop like any other (7.6).
        if self.features.announce_ids && hops.has_loop() {
            core.violation("a hop twice in an announcement");
            return Progress::Wait;
        }
        let chain = self.chain(core, subscription, hops);
        let Some(announcement) = subscription.live.get_mut(&suffix) else { return Progress::More };
        let path = subscription.prefix.join(&suffix);
        match chain {
            Some(hops) => {
                announcement.reported = true;
                let announced = self.peer.as_ref().and_then(|peer| peer.cost);
                // The price of the link: ours if configured, else the dialing peer's (7.3.4), else 1.
                let link = self.cost.or(announced).unwrap_or(1);
                let cost = if self.features.announce_ids { cost.add(link) } else { cost };
                Progress::Event(Event::Announced { path, hops, cost })
            }
            // It became a loop: for the application it is gone, for the peer it is live.
            None if core::mem::replace(&mut announcement.reported, false) => {
                Progress::Event(Event::Unannounced { path })
            }
            None => Progress::More,
        }
    }

    /// The chain with the peer at its end, which appends its Hop ID when it forwards (7.6). `None`
    /// if the route is discarded: it passed through us, twice through the same hop, or through too
    /// many (5.1.1.1).
    fn chain(
        &self,
        core: &Core,
        subscription: &AnnounceSubscription,
        mut hops: Hops,
    ) -> Option<Hops> {
        // Up to 04 the sender appends itself. From 05 on it is left out, and known from ANNOUNCE_OK (7.5).
        if matches!(self.features.hops, HopsForm::WithoutSender | HopsForm::Absent) {
            let responder = subscription.responder.unwrap_or(Hop::UNKNOWN);
            hops.push(responder).ok()?;
        }
        // A sender that left itself out nevertheless is a hop of which nothing is known.
        if hops.is_empty() {
            hops.push(Hop::UNKNOWN).ok()?;
        }
        // Our own Hop ID in the chain is a loop that we are part of.
        let bad = hops.contains(self.hop) || hops.has_loop() || hops.len() > core.limits.hops;
        if bad { None } else { Some(hops) }
    }
}

impl AnnounceSubscription {
    /// An announcement ended. One that is not live is ignored: up to 05 that is legal, and ids are
    /// checked before.
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

    /// The live announcement that another one builds on: `back` counts from the next id downwards,
    /// so that 1 is the most recent start (07).
    fn base(&self, base: Base) -> Option<&NamedAnnouncement> {
        self.by_id.get(&self.next_id.checked_sub(base.back)?)
    }

    /// The suffix of an announcement: `rest` after the first segments of its base. `None` if there
    /// is no such base, it has fewer segments, or the result is too deep.
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

    /// The hops of an announcement: its own, then the last ones of its base. `None` if there is no
    /// such base, it has fewer hops, or the result is too long.
    fn resolve_hops(&self, base: Base, mut hops: Hops) -> Option<Hops> {
        if base.back == 0 {
            return Some(hops);
        }
        let chain = self.base(base)?.hops.as_slice();
        let from = chain.len().checked_sub(usize::try_from(base.keep).ok()?)?;
        chain[from..].iter().try_for_each(|hop| hops.push(*hop)).ok()?;
        Some(hops)
    }

    /// A base that is not live closes the session, unless we may have dropped it ourselves.
    fn unresolved(&self, core: &mut Core) -> Progress {
        if !self.overflowed {
            core.violation("unknown announce base");
        }
        Progress::More
    }

    /// An id that was never given or is retired closes the session (5.1.1), unless we may have
    /// dropped it ourselves.
    fn unknown_id(&self, core: &mut Core, id: u64) -> Progress {
        if !(self.overflowed && id < self.next_id) {
            core.violation("unknown announce id");
        }
        Progress::More
    }
}
