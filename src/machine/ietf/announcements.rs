//! Announcements in both directions: how they begin, and which of the peer's are echoes of our own.

use alloc::collections::BTreeSet;

use super::roles::{AnnounceResponse, AnnounceSubscription, Role};
use super::session::Ietf;
use crate::coding::ietf::{Message, SubscribeNamespace};
use crate::hop::{Cost, Hop, Hops};
use crate::machine::engine::Core;
use crate::machine::event::{Event, RequestKey};
use crate::path::Path;

impl Ietf {
    /// The peer has set up.
    pub(super) fn begin_announcements(&mut self, core: &mut Core) {
        let solicits = self.peer.as_ref().is_some_and(|peer| peer.solicit);
        if !solicits {
            let key = core.requests.open_local();
            self.set_role(key, Role::AnnounceResponse(AnnounceResponse::new(Path::root(), true)));
            self.broadcasts.announcer = Some(key);
            core.notices.push_back(Event::AnnounceRequested {
                request: RequestKey::of(key),
                prefix: Path::root(),
                exclude: Hop::UNKNOWN,
                hidden: true,
            });
        }
        if !(self.is_early_moq_lite() && self.draft.request_streams) {
            self.broadcasts.pending_interests = self.interests.iter().cloned().collect();
        }
        self.send_pending(core);
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
    pub(super) fn may_echo(&self, path: &Path) -> bool {
        let Some(announced) = self.broadcasts.announced.get(path) else { return false };
        let solicits = self.peer.as_ref().is_some_and(|peer| peer.solicit);
        !solicits && (announced.acknowledged || self.is_early_moq_lite())
    }

    /// Goes on with what waited for room.
    pub(super) fn send_pending(&mut self, core: &mut Core) {
        while self.may_open() {
            let Some(prefix) = self.broadcasts.pending_interests.pop_first() else { break };
            let role = Role::AnnounceSubscription(AnnounceSubscription {
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
        if let Some(key) = self.broadcasts.announcer {
            core.requests.queue_write(key);
        }
    }

    pub(super) fn note_announced(&mut self, path: Path) {
        self.broadcasts.announced.entry(path).or_default().count += 1;
    }

    pub(super) fn note_withdrawn(&mut self, path: &Path) {
        if let Some(announced) = self.broadcasts.announced.get_mut(path) {
            announced.count -= 1;
            if announced.count == 0 {
                self.broadcasts.announced.remove(path);
                if self.broadcasts.live.get(path).is_some_and(|known| !known.reported) {
                    self.broadcasts.withdrawn.insert(path.clone());
                }
            }
        }
    }

    /// All was said for now: what the peer tells of, and we do not, is its own.
    pub(super) fn report_own_broadcasts(&mut self, core: &mut Core) {
        while let Some(path) = self.broadcasts.withdrawn.pop_first() {
            if self.broadcasts.announced.contains_key(&path) {
                continue;
            }
            if let Some(known) = self.broadcasts.live.get_mut(&path) {
                if !core::mem::replace(&mut known.reported, true) {
                    core.notices.push_back(announced(path));
                }
            }
        }
    }
}

pub(super) fn announced(path: Path) -> Event {
    let hops: Hops = [Hop::UNKNOWN].into_iter().collect();
    Event::Announced { path, hops, cost: Cost::UNKNOWN }
}
