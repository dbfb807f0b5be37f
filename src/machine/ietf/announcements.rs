//! Announcements in both directions: how they begin, and which of the peer's are echoes of our own
//! (moq-transport-22, 4).
//!
//! A publisher announces unsolicited by PUBLISH_NAMESPACE, or answers SUBSCRIBE_NAMESPACE by
//! NAMESPACE. Both are in use: most peers never send SUBSCRIBE_NAMESPACE, and peers of the moq-dev family
//! send it and declare so by the option SOLICIT. So we announce unsolicited unless the peer sends SOLICIT,
//! and always send SUBSCRIBE_NAMESPACE for the prefixes that we want.

use core::time::Duration;

use super::roles::{AnnounceResponse, AnnounceSubscription, Role};
use super::session::Ietf;
use crate::coding::ietf::{
    ControlStreams, Message, MessageType, NamespaceForm, Parameters, SubscribeNamespace, Wanted,
};
use crate::error::Error;
use crate::hop::{Cost, Hop, Hops};
use crate::machine::engine::{Core, Dialect, Progress, Timer};
use crate::machine::event::{Event, RequestKey};
use crate::machine::source::Token;
use crate::path::Path;
use crate::slab::Key;

/// For how long an announcement of the peer is taken for an echo of ours after we withdrew ours, and before the peer answered
/// it. Relays in a ring would otherwise announce a broadcast that is gone to each other for ever, or take each other for its
/// publisher.
const ECHO_TIME: Duration = Duration::from_millis(600);

impl Ietf {
    /// The session is ready: starts to announce, and to ask for announcements.
    pub(super) fn begin_announcements(&mut self, core: &mut Core) {
        // Peers that ask for announcements get none unsolicited: they would see each one twice.
        if !self.solicits() {
            // No request of the peer stands for these announcements, so that one is made up for the
            // application.
            let key = core.requests.open_implied();
            let response = AnnounceResponse { unsolicited: true, ..AnnounceResponse::default() };
            self.set_role(key, Role::AnnounceResponse(response));
            self.broadcasts.announcer = Some(key);
            core.notices.push_back(Event::AnnounceRequested {
                request: RequestKey::of(key),
                prefix: Path::root(),
                exclude: Hop::UNKNOWN,
                hidden: true,
                tokens: Default::default(),
            });
        }
        // That peer would close the session on the request, and announces unsolicited anyway.
        if !(self.is_early_moq_lite() && self.draft.has_request_streams()) {
            let prefixes = self.interests.iter().map(|prefix| (None, prefix.clone()));
            self.broadcasts.pending_prefixes.extend(prefixes);
        }
        self.send_pending(core);
    }

    /// Whether the peer is `moq-lite` 0.16 or older, see [`Setup::is_early_moq_lite`](crate::coding::ietf::Setup).
    pub(super) fn is_early_moq_lite(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.is_early_moq_lite())
    }

    /// Whether an announcement of this path may be an echo of ours. Peers that send SOLICIT leave
    /// echoes out. Other peers can't echo a path before they answered its announcement, or after
    /// they refused it. The exception is `moq-lite`, which writes on several streams, so that its
    /// answer may arrive later.
    pub(super) fn may_echo(&self, path: &Path) -> bool {
        let Some(announced) = self.broadcasts.announced.get(path) else { return false };
        !self.solicits() && (announced.is_taken == Some(true) || self.is_early_moq_lite())
    }

    /// Whether the peer gets announcements only on request, and no echoes.
    fn solicits(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.solicit)
    }

    /// Sends what waited for credit: the requests for the remaining prefixes, then announcements.
    pub(super) fn send_pending(&mut self, core: &mut Core) {
        while self.may_open() {
            let Some((tracks, prefix)) = self.broadcasts.pending_prefixes.pop_first() else {
                break;
            };
            // A prefix that can't be encoded has no announcement below it either.
            if let Err(error) = self.ask(core, tracks, prefix) {
                core.notices.extend(tracks.map(|tracks| Event::TracksEnded { tracks, error }));
            }
        }
        core.requests.tell_of_room();
    }

    /// Asks for the announcements under a prefix, or to be offered its tracks (moq-transport-22, 3.6), by SUBSCRIBE_TRACKS
    /// or the option of SUBSCRIBE_NAMESPACE before it (16, 17).
    fn ask(&mut self, core: &mut Core, tracks: Option<Token>, prefix: Path) -> Result<(), Error> {
        let (form, for_tracks) = (self.draft.namespaces, tracks.is_some());
        // Up to 15 a request for announcements asks for both. That for the root can't be sent there.
        let mut asked = self.interests.iter().filter(|it| !it.is_root());
        if for_tracks && form < NamespaceForm::Options && asked.any(|it| prefix.has_prefix(it)) {
            return Ok(());
        }
        if core.peer_is_going_away || core.state.is_ending() {
            return Err(Error::GoingAway);
        }
        // That peer would close the session.
        if !self.draft.has_prefix(&prefix) || for_tracks && self.is_early_moq_lite() {
            return Err(Error::Unsupported);
        }
        let (kind, message): (_, fn(_) -> _) = match form {
            NamespaceForm::Plain if for_tracks => {
                (MessageType::SubscribeTracks, Message::SubscribeTracks)
            }
            _ => (MessageType::SubscribeNamespace, Message::SubscribeNamespace),
        };
        let is_option = for_tracks && form == NamespaceForm::Options;
        let wanted = if is_option { Wanted::Tracks } else { Wanted::default() };
        // Nothing is to flow before somebody reads it.
        let forward = (for_tracks && !self.may_not_update_offers()).then_some(false);
        let parameters = Parameters { forward, ..Default::default() }.for_message(kind, self.draft);
        let asked = AnnounceSubscription { prefix: prefix.clone(), tracks, ..Default::default() };
        let role = Role::AnnounceSubscription(asked);
        let make = |id| message(SubscribeNamespace { id, prefix, wanted, parameters });
        match self.draft.control {
            ControlStreams::Single => self.open(core, role, make)?,
            _ => self.open_stream(core, role, make)?,
        };
        Ok(())
    }

    /// The application does not want to be offered more tracks. Those that were offered stay.
    pub(super) fn unsubscribe_tracks(&mut self, core: &mut Core, tracks: Token) {
        self.broadcasts.pending_prefixes.retain(|(request, _)| *request != Some(tracks));
        let is_it = |role: &Role| matches!(role, Role::AnnounceSubscription(it) if it.tracks == Some(tracks));
        if let Some(key) = self.find_role(is_it) {
            self.cancel(core, key, &Error::Cancelled);
        }
    }

    /// As [`may_echo`](Self::may_echo), or the peer has not answered ours yet: two relays that have a broadcast from a third
    /// one announce it to each other at the same time. If the peer does not answer, this announcement is reported later.
    pub(super) fn hides_echo(&mut self, core: &mut Core, path: &Path) -> bool {
        let announced = self.broadcasts.announced.get(path);
        let waits = announced.is_some_and(|it| it.is_taken.is_none()) && !self.solicits();
        if waits {
            self.hide(core, path);
        }
        waits || self.may_echo(path)
    }

    /// Whether a PUBLISH_NAMESPACE of the peer is to be refused, because a broadcast of this process has the path.
    ///
    /// The peer learns by the refusal that ours is no echo of its own, and that it replaces its own. It needs to know that
    /// also after it took ours, because its announcement may have crossed that answer. Where we relay a broadcast this is not
    /// known: it may have come around a loop.
    pub(super) fn has_own(&self, path: &Path) -> bool {
        self.broadcasts.announced.get(path).is_some_and(|announced| announced.is_own)
    }

    /// Remembers that the peer has this path from us. If the broadcast is our own, an earlier
    /// PUBLISH_NAMESPACE of the peer is cancelled, for the reason of [`has_own`](Self::has_own).
    pub(super) fn note_announced(
        &mut self,
        core: &mut Core,
        path: Path,
        is_own: bool,
        request: Option<Key>,
    ) {
        let announced = self.broadcasts.announced.entry(path.clone()).or_default();
        announced.count += 1;
        (announced.is_own, announced.request) = (is_own, request);
        let known = self.broadcasts.live.get_mut(&path).filter(|known| is_own && known.reported);
        if let Some(request) = known.and_then(|known| known.request.take()) {
            self.cancel(core, request, &Error::Duplicate);
            core.notices.extend(self.remove_broadcast(&path, true));
        }
    }

    /// The peer does not take our announcement of this path, or no longer. So its own announcement
    /// of it is no echo.
    pub(super) fn note_refused(&mut self, path: &Path) -> Progress {
        if let Some(announced) = self.broadcasts.announced.get_mut(path) {
            announced.is_taken = Some(false);
        }
        let Some(known) = self.broadcasts.live.get_mut(path) else { return Progress::Wait };
        match core::mem::replace(&mut known.reported, true) {
            true => Progress::Wait,
            false => Progress::Event(announced(path.clone())),
        }
    }

    /// We withdrew a path on one request. If no other one announces it and the peer still does, it
    /// may be no echo.
    pub(super) fn note_withdrawn(&mut self, core: &mut Core, path: &Path) {
        let Some(announced) = self.broadcasts.announced.get_mut(path) else { return };
        announced.count -= 1;
        if announced.count == 0 {
            self.broadcasts.announced.remove(path);
            if self.broadcasts.live.get(path).is_some_and(|known| !known.reported) {
                self.hide(core, path);
            }
        }
    }

    /// An announcement of the peer stays hidden for [`ECHO_TIME`].
    fn hide(&mut self, core: &mut Core, path: &Path) {
        let due = core.now + ECHO_TIME;
        self.broadcasts.hidden.insert(path.clone(), due);
        core.timers.hasten(due, Timer::Echo);
    }

    /// Reports the broadcasts that the peer still announces, although it did not take them from us, or not any more.
    pub(super) fn report_own_broadcasts(&mut self, core: &mut Core) {
        for (path, due) in core::mem::take(&mut self.broadcasts.hidden) {
            if due > core.now {
                core.timers.hasten(due, Timer::Echo);
                self.broadcasts.hidden.insert(path, due);
                continue;
            }
            let is_echo = self.may_echo(&path);
            let known = self.broadcasts.live.get_mut(&path).filter(|_| !is_echo);
            if known.is_some_and(|known| !core::mem::replace(&mut known.reported, true)) {
                core.notices.push_back(announced(path));
            }
        }
    }
}

/// The drafts have neither hops nor costs: the route is of one unknown hop.
pub(super) fn announced(path: Path) -> Event {
    let hops: Hops = [Hop::UNKNOWN].into_iter().collect();
    Event::Announced { path, hops, cost: Cost::UNKNOWN }
}
