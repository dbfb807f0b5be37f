//! The broadcasts that the peer announces (moq-transport-22, 4): by NAMESPACE on our request, by
//! PUBLISH_NAMESPACE, and by the tracks that it offers. See
//! [`peer_broadcasts`](super::peer_broadcasts) for how they are counted.

use core::mem;

use super::announcements::announced;
use super::new_requests::check_reserved;
use super::peer_broadcasts::PeerBroadcast;
use super::roles::{AnnounceSubscription, Role};
use super::session::{Ietf, Read, fault};
use crate::coding::DecodeError;
use crate::coding::ietf::{Message, PREFIX_OVERLAP, PublishNamespace, UNINTERESTED};
use crate::error::{Error, LimitKind};
use crate::machine::engine::{Core, Dialect, Progress};
use crate::machine::event::{Event, RequestKey};
use crate::path::Path;
use crate::slab::Key;

impl Ietf {
    /// Whether we asked for announcements at all. If not, those of the peer are refused.
    pub(super) fn is_interested(&self) -> bool {
        !self.interests.is_empty()
    }

    /// The peer announces a broadcast: by its name if `is_named`, else by a track of it. Returns
    /// the event if the application does not know it yet.
    pub(super) fn add_broadcast(
        &mut self,
        core: &mut Core,
        path: &Path,
        is_named: bool,
    ) -> Option<Event> {
        let echo = self.hides_echo(core, path);
        let event = announced(path.clone());
        if let Some(known) = self.broadcasts.live.get_mut(path) {
            let was_named = known.named;
            known.count += 1;
            known.named += usize::from(is_named);
            if !is_named || !mem::take(&mut known.has_ended) {
                return None;
            }
            known.stale = was_named;
            if mem::replace(&mut known.reported, !echo) {
                core.notices.push_back(Event::Unannounced { path: path.clone() });
            }
            // A new broadcast under an old path is an end and a beginning. Both go through the notices, so
            // that their order is kept.
            core.notices.extend((!echo).then_some(event));
            return None;
        }
        // Past the limit it is not remembered, and its end will end nothing.
        if self.broadcasts.live.len() >= core.limits.announcements {
            return None;
        }
        let named = usize::from(is_named);
        let known = PeerBroadcast { count: 1, named, reported: !echo, ..PeerBroadcast::default() };
        self.broadcasts.live.insert(path.clone(), known);
        (!echo).then_some(event)
    }

    /// Whether [`add_broadcast`](Self::add_broadcast) had room for it.
    pub(super) fn knows_broadcast(&self, path: &Path) -> bool {
        self.broadcasts.live.contains_key(path)
    }

    /// One announcement of a broadcast ended. Returns the event if it was the last one.
    pub(super) fn remove_broadcast(&mut self, path: &Path, is_named: bool) -> Option<Event> {
        let known = self.broadcasts.live.get_mut(path)?;
        known.count -= 1;
        if known.count > 0 {
            if is_named {
                known.named -= 1;
                // Ends count for the announcements of the predecessor first.
                match known.stale {
                    0 => known.has_ended = true,
                    _ => known.stale -= 1,
                }
            }
            return None;
        }
        let known = self.broadcasts.live.remove(path)?;
        known.reported.then(|| Event::Unannounced { path: path.clone() })
    }

    /// Reads the answers to SUBSCRIBE_NAMESPACE or SUBSCRIBE_TRACKS. The end of the stream ends all that was announced
    /// on it (4.2), one event at a time. It ends no track that was offered.
    pub(super) fn read_announce_subscription(
        &mut self,
        core: &mut Core,
        key: Key,
        subscription: &mut AnnounceSubscription,
    ) -> Read {
        if let Some(error) = &subscription.over {
            let Some(suffix) = subscription.names.pop_first() else {
                self.finish(core, key);
                let Some(tracks) = subscription.tracks else { return Ok(Progress::Wait) };
                return Ok(Progress::Event(Event::TracksEnded { tracks, error: error.clone() }));
            };
            let event = self.remove_broadcast(&subscription.prefix.join(&suffix), true);
            return Ok(event.map_or(Progress::More, Progress::Event));
        }
        let Some(request) = core.requests.get(key) else { return Ok(Progress::Wait) };
        let reset = request.recv.reset().map(Error::from_stream_code);
        subscription.over = reset.or(request.recv.is_finished().then_some(Error::Closed));
        if subscription.over.is_some() {
            return Ok(Progress::More);
        }
        let event = match self.next_message(core, key) {
            Ok(None) => return Ok(Progress::Wait),
            Ok(Some(Message::RequestOk(_))) => None,
            Ok(Some(Message::RequestError(error))) => {
                let overlap = (error.code == PREFIX_OVERLAP).then_some(Error::Duplicate);
                subscription.over = overlap.or(Some(self.draft.request_error(error.code)));
                None
            }
            // The peer does not offer this track. The application can subscribe to it by its name (3.6.3).
            Ok(Some(Message::PublishBlocked(_))) if subscription.tracks.is_some() => None,
            Ok(Some(Message::Namespace(suffix))) => {
                let path = subscription.prefix.join(&suffix);
                // A path past our limits, or the root on draft 16, can't be subscribed, so that it
                // is left out.
                let room = subscription.names.len() < core.limits.announcements
                    && core.limits.check_path(&path).is_ok()
                    && check_reserved(&path).is_ok()
                    && self.draft.has_namespace(&path);
                let event = (room && subscription.names.insert(suffix.clone()))
                    .then(|| self.add_broadcast(core, &path, true))
                    .flatten();
                if !self.knows_broadcast(&path) {
                    // There was no room. Its NAMESPACE_DONE must not end another announcement of
                    // the path that comes later.
                    subscription.names.remove(&suffix);
                }
                event
            }
            Ok(Some(Message::NamespaceDone(suffix))) => {
                let path = subscription.prefix.join(&suffix);
                // NAMESPACE_DONE without NAMESPACE is a violation (4.2), but a harmless one that deployed
                // peers commit.
                subscription
                    .names
                    .remove(&suffix)
                    .then(|| self.remove_broadcast(&path, true))
                    .flatten()
            }
            Ok(Some(_)) => return fault("not an answer to SUBSCRIBE_NAMESPACE"),
            // A namespace whose fields are not a path here can't be subscribed.
            Err(DecodeError::InvalidName) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(event.map_or(Progress::More, Progress::Event))
    }

    /// PUBLISH_NAMESPACE of the peer. It gets exactly one answer (4.1): UNINTERESTED if we asked
    /// for nothing, or have a broadcast of our own in its place.
    pub(super) fn on_publish_namespace(
        &mut self,
        core: &mut Core,
        key: Key,
        message: PublishNamespace,
    ) -> Progress {
        let (path, tokens) = (message.namespace, message.parameters.shown);
        if !self.is_interested() || self.has_own(&path) {
            return self.refuse(core, key, UNINTERESTED);
        }
        let (request, broadcast) = (RequestKey::of(key), path.clone());
        self.set_role(key, Role::IncomingNamespace { path, is_accepted: false });
        Progress::Event(Event::BroadcastOffered { request, broadcast, tokens })
    }

    /// The application accepts a PUBLISH_NAMESPACE. Meanwhile it may have a broadcast of its own there.
    pub(super) fn accept_namespace(&mut self, core: &mut Core, key: Key) {
        let Role::IncomingNamespace { path, .. } = mem::take(self.role(key)) else { return };
        if self.has_own(&path) {
            return drop(self.refuse(core, key, UNINTERESTED));
        }
        let event = self.add_broadcast(core, &path, true);
        let Some(known) = self.broadcasts.live.get_mut(&path) else {
            return drop(self.refuse_for(core, key, &Error::Limit(LimitKind::Announcements)));
        };
        known.request = Some(key);
        self.write_ok(core, key);
        self.set_role(key, Role::IncomingNamespace { path, is_accepted: true });
        core.notices.extend(event);
    }

    /// A PUBLISH_NAMESPACE lasts until FIN or a reset: peers withdraw by either.
    pub(super) fn read_incoming_namespace(
        &mut self,
        core: &mut Core,
        key: Key,
        path: &Path,
        is_accepted: bool,
    ) -> Read {
        if !core.requests.is_ended(key) {
            if let Some(progress) = self.read_update(core, key, None)? {
                return Ok(progress);
            }
        }
        self.finish(core, key);
        if !is_accepted {
            return Ok(Progress::request_ended(key, Error::Cancelled));
        }
        let known = self.broadcasts.live.get_mut(path);
        if let Some(known) = known.filter(|known| known.request == Some(key)) {
            known.request = None;
        }
        Ok(self.remove_broadcast(path, true).map_or(Progress::Wait, Progress::Event))
    }
}
