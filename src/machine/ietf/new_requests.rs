//! The first message of a request of the peer, which says what the request is for
//! (moq-transport-22, 6.3), and the refusal of requests.
//!
//! A message that is no request, malformed or out of place closes the session. A request that is
//! well formed and can't be served is refused, and the session goes on.

use core::mem;

use super::roles::Role;
use super::session::{Ietf, Read, fault, read_message};
use crate::coding::DecodeError;
use crate::coding::ietf::{
    ControlStreams, Fetch, FetchTarget, Message, MessageType, Wanted, request_id,
};
use crate::error::Error;
use crate::limits::Limits;
use crate::machine::engine::{Core, Dialect, Progress};
use crate::path::Path;
use crate::slab::Key;
use crate::stream::Side;

impl Ietf {
    /// Reads the first message of a request, and begins that kind of request.
    pub(super) fn read_new_request(&mut self, core: &mut Core, key: Key) -> Read {
        if self.control.is_none() && !self.draft.has_request_streams() && self.side == Side::Server
        {
            // Up to 16 the first stream of the client is the control stream.
            self.control = Some(key);
            self.set_role(key, Role::Control);
            return Ok(Progress::More);
        }
        if !core.is_ready() {
            // A request may overtake the set-up. Nothing is decoded before that.
            self.early.insert(key);
            return Ok(Progress::Wait);
        }
        let Some(request) = core.requests.get(key) else { return Ok(Progress::Wait) };
        if request.abandoned().is_some() {
            self.cancel(core, key, &Error::Cancelled);
            return Ok(Progress::Wait);
        }
        let is_cut = request.recv.has_fin();
        let Some((kind, body)) = read_message(&mut request.recv, self.draft, &core.limits)? else {
            if is_cut {
                self.cancel(core, key, &Error::Cancelled);
            }
            return Ok(Progress::Wait);
        };
        let id = request_id(kind, &body, self.draft)?;
        let mut message = match Message::decode(kind, &body, self.draft) {
            Ok(message) => Some(message),
            // A namespace whose fields are not a path here names nothing that we have. It is
            // refused below, by its id.
            Err(DecodeError::InvalidName) => None,
            Err(error) => return Err(error.into()),
        };
        let on_control = core.requests.is_within(key);
        // The ids of requests on the control stream were checked there.
        if let Some(id) = id.filter(|_| !on_control) {
            self.accept_id(core, id)?;
            self.ids.insert(id, key, kind);
        }
        // On 16 SUBSCRIBE_NAMESPACE has a stream of its own, and nothing else has one.
        let has_stream = match self.draft.control {
            ControlStreams::Single => false,
            ControlStreams::SingleAndNamespaces => kind == MessageType::SubscribeNamespace,
            ControlStreams::PerRequest => true,
        };
        if on_control == has_stream {
            return fault("a request on the wrong stream");
        }
        // A token that it registers counts, whatever becomes of it (8.9).
        if let Some(message) = &mut message {
            self.resolve_tokens(message)?;
            if let Some(code) = message.request_mut().and_then(|(_, it)| it.unusable) {
                return Ok(self.refuse(core, key, code));
            }
        }
        // After our GOAWAY new requests are refused (9.2).
        if core.state.is_ending() {
            return Ok(self.refuse_for(core, key, &Error::GoingAway));
        }
        // A name that is no path here names nothing that could be routed.
        let Some(message) = message else {
            return Ok(self.refuse_for(core, key, &Error::Unroutable));
        };
        if let Err(error) = check_names(&message, &core.limits) {
            return Ok(self.refuse_for(core, key, &error));
        }
        self.begin_request(core, key, message)
    }

    /// Begins a request by its first message.
    fn begin_request(&mut self, core: &mut Core, key: Key, message: Message) -> Read {
        match message {
            Message::SubscribeNamespace(it) | Message::FormerSubscribeNamespace(it) => {
                let wanted = self.wanted(it.wanted);
                Ok(self.on_prefix(core, key, it, wanted))
            }
            Message::SubscribeTracks(it) => Ok(self.on_prefix(core, key, it, Wanted::Tracks)),
            Message::Subscribe(message) => Ok(self.on_subscribe(core, key, message)),
            Message::TrackStatus(message) => Ok(self.on_track_status(key, message)),
            Message::PublishNamespace(message) => Ok(self.on_publish_namespace(core, key, message)),
            Message::Publish(message) => self.on_publish(core, key, message),
            Message::Fetch(message) => Ok(self.on_fetch(core, key, message)),
            _ => fault("not a request"),
        }
    }

    /// The application refuses a request of the peer, or gives up one that it accepted.
    pub(super) fn refused(&mut self, core: &mut Core, key: Key, error: &Error) {
        // Unsolicited announcements, fills and offers of ours are no request of the peer.
        if core.requests.get(key).is_none() {
            return;
        }
        let code = self.draft.request_code(error);
        match mem::take(self.role(key)) {
            Role::IncomingSubscription(_) => self.end_subscription(core, key, error),
            // An offer that was accepted ends by the peer alone.
            Role::Offer if self.offers.is_open(key) => {
                self.offers.remove(key);
                self.refuse(core, key, code);
            }
            Role::AnnounceResponse(response) if response.unsolicited => {
                // The peer did not ask for these announcements, so that there is no request to
                // refuse.
                self.set_role(key, Role::AnnounceResponse(response));
            }
            Role::AnnounceResponse(mut response) => {
                self.forget_announced(core, &mut response);
                self.refuse(core, key, code);
            }
            Role::IncomingQuery | Role::IncomingNamespace { is_accepted: false, .. } => {
                drop(self.refuse(core, key, code))
            }
            Role::IncomingFetch(_) => self.refuse_fetch(core, key, error),
            Role::Fill { .. } => self.refuse_fill(core, key, error),
            role => *self.role(key) = role,
        }
    }
}

/// Fails if nothing can be published under this path: `.` names nothing (2.4.3), and `.session` belongs to the session,
/// which has nothing there (6.5).
pub(super) fn check_reserved(path: &Path) -> Result<(), Error> {
    match path.segments().next() {
        Some("." | ".session") => Err(Error::NotFound),
        _ => Ok(()),
    }
}

/// The path that a request is about, and the name of its track if it has one.
pub(super) fn names_of(message: &Message) -> Option<(&Path, &str)> {
    Some(match message {
        Message::SubscribeNamespace(it)
        | Message::FormerSubscribeNamespace(it)
        | Message::SubscribeTracks(it) => (&it.prefix, ""),
        Message::PublishNamespace(it) => (&it.namespace, ""),
        Message::Subscribe(it) | Message::TrackStatus(it) => (&it.namespace, &*it.track),
        Message::Publish(it) => (&it.namespace, &*it.track),
        Message::Fetch(Fetch {
            target:
                FetchTarget::Track { namespace, track }
                | FetchTarget::Standalone { namespace, track, .. },
            ..
        }) => (namespace, &**track),
        _ => return None,
    })
}

/// Whether the names in a request are within our limits, and not reserved.
fn check_names(message: &Message, limits: &Limits) -> Result<(), Error> {
    let Some((path, track)) = names_of(message) else { return Ok(()) };
    let offers = matches!(message, Message::Publish(_) | Message::PublishNamespace(_));
    check_reserved(path).map_err(|error| if offers { Error::Unauthorized } else { error })?;
    limits.check_names(path, track)
}
