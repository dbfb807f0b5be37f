//! The broadcasts that we announce (moq-transport-22, 4): NAMESPACE on a request of the peer,
//! PUBLISH_NAMESPACE where it did not ask. Also the requests for tracks (3.6), whose answers are in
//! [`published_tracks`](super::published_tracks).

use alloc::boxed::Box;

use super::new_requests::check_reserved;
use super::roles::{AnnounceResponse, Role};
use super::session::{Ietf, Read, fault};
use crate::coding::ietf::{
    FinRule, Message, NamespaceForm, PREFIX_OVERLAP, PublishNamespace, SubscribeNamespace, Wanted,
};
use crate::error::{Error, LimitKind};
use crate::hop::Hop;
use crate::machine::engine::{Core, Dialect, MAX_UNSENT_ANNOUNCEMENTS, Progress};
use crate::machine::event::{Event, RequestKey};
use crate::machine::source::{Announcement, Source, Token};
use crate::path::Path;
use crate::slab::Key;

impl Ietf {
    /// SUBSCRIBE_NAMESPACE of the peer, or SUBSCRIBE_TRACKS. Two prefixes of which one covers the other would announce a
    /// broadcast twice, so that the second one is refused (3.6, 4.2).
    pub(super) fn on_prefix(
        &mut self,
        core: &mut Core,
        key: Key,
        message: SubscribeNamespace,
        wanted: Wanted,
    ) -> Progress {
        let SubscribeNamespace { prefix, parameters, .. } = message;
        if self.overlaps(&prefix, wanted) {
            return self.refuse(core, key, PREFIX_OVERLAP);
        }
        if self.responses().count() >= core.limits.announce_requests {
            return self.refuse_for(core, key, &Error::Limit(LimitKind::AnnounceRequests));
        }
        let (request, exclude, asked) = (RequestKey::of(key), Hop::UNKNOWN, prefix.clone());
        let tokens = parameters.shown.clone();
        let names = wanted == Wanted::Both;
        let event = match wanted {
            // The drafts know no hidden broadcasts, so that nothing is left out.
            Wanted::Namespaces => {
                Event::AnnounceRequested { request, prefix, exclude, hidden: true, tokens }
            }
            _ => Event::TracksRequested { request, prefix, names, tokens },
        };
        let tracks = (wanted != Wanted::Namespaces).then(|| Box::new(parameters));
        let response = AnnounceResponse { prefix: asked, wanted, tracks, ..Default::default() };
        self.set_role(key, Role::AnnounceResponse(response));
        Progress::Event(event)
    }

    /// The wishes of a SUBSCRIBE_NAMESPACE. Up to 15 it asks for both, and a peer that gets all announcements unsolicited
    /// lacks the tracks. Peers of moq-dev want none with the announcements.
    pub(super) fn wanted(&self, asked: Wanted) -> Wanted {
        let takes_offers = self.peer.as_ref().is_some_and(|peer| peer.takes_offers());
        match asked {
            Wanted::Namespaces if takes_offers && self.draft.namespaces <= NamespaceForm::Id => {
                Wanted::Tracks
            }
            Wanted::Both if !takes_offers => Wanted::Namespaces,
            asked => asked,
        }
    }

    /// The requests of the peer for a prefix. Unsolicited announcements are no request of the peer.
    fn responses(&self) -> impl Iterator<Item = &AnnounceResponse> {
        self.roles.iter().filter_map(|role| match role {
            Role::AnnounceResponse(it) if !it.unsolicited => Some(it),
            _ => None,
        })
    }

    /// Whether the peer asked for a prefix that covers this one, or is covered by it. Requests for tracks and those for
    /// namespaces do not overlap.
    pub(super) fn overlaps(&self, prefix: &Path, wanted: Wanted) -> bool {
        let is_same = |it: &&AnnounceResponse| {
            it.wanted == wanted || it.wanted == Wanted::Both || wanted == Wanted::Both
        };
        let mut same = self.responses().filter(is_same);
        same.any(|it| it.prefix.has_prefix(prefix) || prefix.has_prefix(&it.prefix))
    }

    /// The application answers the request. REQUEST_OK must be the first message (4.2).
    pub(super) fn accept_announce(&mut self, core: &mut Core, key: Key, reader: Token) {
        let Some(Role::AnnounceResponse(response)) = self.live_role(core, key) else { return };
        if response.reader.is_some() {
            return;
        }
        response.reader = Some(reader);
        // Updates that arrived before this are read first.
        response.ready = response.tracks.is_none();
        if !response.unsolicited {
            self.write_ok(core, key);
            core.requests.queue_read(key);
        }
        core.requests.queue_write(key);
    }

    /// The reader, which was up to date, has changes again. They are read when QUIC can take bytes.
    pub(super) fn on_announcements_ready(&mut self, core: &mut Core, key: Key) {
        if let Some(Role::AnnounceResponse(response)) = self.live_role(core, key) {
            response.ready = true;
            core.requests.queue_write(key);
        }
    }

    /// Writes announcements, but no more than QUIC is about to take: changes that a slow peer has
    /// not read yet are coalesced in the reader, and nothing is queued here. Unsolicited ones also
    /// wait for request ids and stream credit.
    pub(super) fn fill_announce_response(
        &mut self,
        core: &mut Core,
        key: Key,
        source: &mut impl Source,
    ) {
        let mut role = core::mem::take(self.role(key));
        if let Role::AnnounceResponse(response) = &mut role {
            let is_named = self.names_each(response);
            // A peer that gets everything unsolicited gets nothing twice. Then tracks are all that it lacks.
            let is_asked = !response.unsolicited && response.tracks.is_none();
            if is_named && is_asked && self.broadcasts.announcer.is_some() {
                response.ready = false;
            }
            while let (Some(reader), true) = (response.reader, response.ready) {
                // PUBLISH_NAMESPACE goes out on the control stream up to 16.
                let writer = self.control.filter(|_| is_named).unwrap_or(key);
                let opens = is_named || response.tracks.is_some();
                let is_full = core.requests.unsent(writer)
                    >= core.limits.request_buffer.min(MAX_UNSENT_ANNOUNCEMENTS)
                    || opens && (core.requests.wants_stream() || !self.may_open());
                if is_full {
                    core.requests.await_room(key);
                    break;
                }
                match source.announcement(reader) {
                    Some(Announcement::Active { suffix, hops, .. }) => {
                        self.announce(core, key, response, suffix, hops.is_empty());
                    }
                    Some(Announcement::Ended { suffix }) => {
                        self.withdraw(core, key, response, &suffix);
                    }
                    Some(track @ Announcement::Track { .. }) => {
                        self.publish(core, key, response, track);
                    }
                    None => response.ready = false,
                }
            }
        }
        *self.role(key) = role;
    }

    /// Whether each broadcast is a PUBLISH_NAMESPACE of its own. Up to 15 that answers a request too.
    fn names_each(&self, response: &AnnounceResponse) -> bool {
        response.unsolicited || self.draft.namespaces <= NamespaceForm::Id
    }

    /// Announces a broadcast, unless the peer has it already: another route to it is nothing that
    /// the drafts can say.
    fn announce(
        &mut self,
        core: &mut Core,
        key: Key,
        response: &mut AnnounceResponse,
        suffix: Path,
        is_own: bool,
    ) {
        if response.announced.contains_key(&suffix)
            || (self.names_each(response) && core.peer_is_going_away)
        {
            // Another way to it, which the peer need not know; or a request that it does not want.
            return;
        }
        let path = response.prefix.join(&suffix);
        // An empty suffix is legal, but draft 16 has no empty namespace, so that nothing could be
        // subscribed there.
        if core.limits.check_path(&path).is_err()
            || !self.draft.has_namespace(&path)
            || check_reserved(&path).is_err()
        {
            return;
        }
        let request = if self.names_each(response) {
            let namespace = path.clone();
            let parameters = Default::default();
            let request = self.open(core, Role::OutgoingNamespace(path.clone()), |id| {
                Message::PublishNamespace(PublishNamespace { id, namespace, parameters })
            });
            // A path that can't be encoded is not announced.
            let Ok(request) = request else { return };
            Some(request)
        } else {
            let message = Message::Namespace(suffix.clone());
            if !self.write(core, key, &message) {
                return;
            }
            None
        };
        response.announced.insert(suffix, request);
        self.note_announced(core, path, is_own, request);
    }

    /// Withdraws a broadcast. A PUBLISH_NAMESPACE is reset, because some peers ignore its FIN
    /// alone.
    fn withdraw(
        &mut self,
        core: &mut Core,
        key: Key,
        response: &mut AnnounceResponse,
        suffix: &Path,
    ) {
        let Some(request) = response.announced.remove(suffix) else { return };
        match request {
            Some(request) => self.cancel(core, request, &Error::Cancelled),
            None => {
                let suffix = suffix.clone();
                self.write(core, key, &Message::NamespaceDone(suffix));
            }
        }
        self.note_withdrawn(core, &response.prefix.join(suffix));
    }

    /// A request is over, and with it everything that was announced on it.
    pub(super) fn forget_announced(&mut self, core: &mut Core, response: &mut AnnounceResponse) {
        for suffix in core::mem::take(&mut response.announced).into_keys() {
            self.note_withdrawn(core, &response.prefix.join(&suffix));
        }
    }

    /// The peer ends its request for a prefix by a reset. Up to 18 FIN cancels SUBSCRIBE_NAMESPACE as well, and deployed
    /// clients use it; otherwise it only says that no update follows.
    pub(super) fn read_announce_response(
        &mut self,
        core: &mut Core,
        key: Key,
        response: &mut AnnounceResponse,
    ) -> Read {
        let is_for_names =
            response.wanted != Wanted::Tracks || self.draft.namespaces < NamespaceForm::Plain;
        let fin_cancels = self.draft.fin == FinRule::Cancels && is_for_names;
        let is_over = core.requests.abandoned(key).is_some();
        let is_over = is_over || fin_cancels && core.requests.is_ended(key);
        // Earlier requests are answered first.
        if !is_over && response.tracks.is_some() && response.reader.is_none() {
            return Ok(Progress::Wait);
        }
        if !is_over {
            let tracks = Some(&mut *response).filter(|it| it.tracks.is_some());
            if let Some(progress) = self.read_update(core, key, tracks)? {
                if let (Progress::Wait, true) = (&progress, response.reader.is_some()) {
                    response.ready = true;
                    core.requests.queue_write(key);
                }
                return Ok(progress);
            }
        }
        self.forget_announced(core, response);
        self.finish(core, key);
        Ok(Progress::request_ended(key, Error::Cancelled))
    }

    /// The answer to PUBLISH_NAMESPACE. REQUEST_OK changes only that echoes are possible from now
    /// on. A refusal or a later PUBLISH_NAMESPACE_CANCEL (from 17 on a reset) is final, and rules out
    /// echoes. A FIN says only that no further message follows. Ours would withdraw the namespace for
    /// deployed peers, so that it is not the answer.
    pub(super) fn read_outgoing_namespace(
        &mut self,
        core: &mut Core,
        key: Key,
        path: &Path,
    ) -> Read {
        if core.requests.abandoned(key).is_some() {
            self.finish(core, key);
            return Ok(self.note_refused(path));
        }
        match self.next_message(core, key)? {
            None => Ok(Progress::Wait),
            Some(Message::RequestOk(_)) => {
                if let Some(announced) = self.broadcasts.announced.get_mut(path) {
                    announced.is_taken = Some(true);
                }
                Ok(Progress::More)
            }
            Some(Message::RequestError(_)) => {
                self.finish(core, key);
                Ok(self.note_refused(path))
            }
            Some(_) => fault("not an answer to PUBLISH_NAMESPACE"),
        }
    }
}
