//! The set-up of a session (moq-transport-22, 9.1).
//!
//! Up to draft 16 the client opens the control stream with CLIENT_SETUP, and the server answers
//! SERVER_SETUP on it. From 17 on each end opens a unidirectional control stream that begins with
//! SETUP, and neither waits for the other.

use alloc::boxed::Box;
use alloc::format;
use core::mem;

use super::roles::Role;
use super::session::{Ietf, close_on_fault};
use crate::coding::ietf::{
    Draft, INVALID_AUTHORITY, INVALID_PATH, MALFORMED_AUTHORITY, MALFORMED_PATH, Message, Setup,
    SetupForm, TokenReference, UNKNOWN_AUTH_TOKEN_ALIAS,
};
use crate::error::Error;
use crate::machine::config::Config;
use crate::machine::engine::{ControlStream, Core, Dialect, Timer};
use crate::machine::stream_buffers::SendBuffer;
use crate::peer::Peer;
use crate::slab::Key;
use crate::stream::Side;

impl Ietf {
    /// Starts a session. The first message depends on the draft. A server whose application
    /// decides on the peer sends nothing yet.
    pub(in crate::machine) fn start(
        mut config: Config,
        draft: &'static Draft,
        core: &mut Core,
    ) -> Self {
        let mut ietf = Self::new(&mut config, draft);
        core.timers.set(core.now + core.limits.handshake_timeout, Timer::Handshake);
        // Up to 16 the control stream, which is a request here, carries the set-up.
        core.sets_up_on_request = !draft.has_request_streams();
        let is_client = config.side == Side::Client;
        // PATH and AUTHORITY come from the client alone (9.1.1, 9.1.2).
        let path = is_client && !config.path.is_root();
        let authority = is_client && !config.authority.is_empty();
        let setup = Setup {
            path: path.then(|| Box::from(format!("/{}", config.path))),
            authority: authority.then_some(config.authority),
            ..Setup::default()
        };
        if !draft.has_request_streams() && is_client {
            let key = core.requests.open();
            ietf.control = Some(key);
            ietf.set_role(key, Role::Control);
            ietf.write(core, key, &ietf.setup(setup));
        } else if !core.awaits_accept {
            ietf.begin(core, setup);
        }
        ietf
    }

    /// Goes on with a session whose set-up, on this request, agreed on a draft among versions of moq-lite. The set-up of
    /// the peer is still to be read, and a client has not said yet how many requests it grants.
    pub(in crate::machine) fn resume(
        mut config: Config,
        draft: &'static Draft,
        core: &mut Core,
        control: Key,
    ) -> Self {
        let mut ietf = Self::new(&mut config, draft);
        ietf.control = Some(control);
        ietf.set_role(control, Role::Control);
        if ietf.side == Side::Client {
            ietf.write(core, control, &Message::MaxRequestId(ietf.ids.granted));
        }
        core.requests.queue_read(control);
        ietf
    }

    /// Sends SETUP on a control stream of our own (17 and later). That stream is never finished
    /// (6.3).
    pub(super) fn begin(&self, core: &mut Core, setup: Setup) {
        if self.draft.has_request_streams() {
            let mut send = SendBuffer::default();
            let setup = self.setup(setup);
            setup.encode(send.buffer(), self.draft).expect("a URL fits, as it was dialed");
            core.control = Some(ControlStream { send, ..ControlStream::default() });
        }
    }

    /// The set-up message of this side, with the ids that we grant where the draft has them.
    pub(super) fn setup(&self, setup: Setup) -> Message {
        let tokens = self.own_tokens.iter().cloned().map(TokenReference::Value);
        let setup = Setup {
            max_request_id: self.ids.granted,
            max_token_cache: self.tokens.max,
            tokens: tokens.collect(),
            ..setup
        };
        Message::setup(setup, self.side, self.draft)
    }

    /// The peer's set-up arrived.
    pub(super) fn set_up(&mut self, core: &mut Core, mut setup: Setup) {
        if setup.other_version {
            return core.close(Error::Version);
        }
        self.draft = setup.draft(self.draft);
        // PATH and AUTHORITY come from the client alone (9.1.1, 9.1.2).
        if self.side == Side::Client && setup.path.is_some() {
            return core.violation_as(INVALID_PATH, "PATH of a server");
        }
        if self.side == Side::Client && setup.authority.is_some() {
            return core.violation_as(INVALID_AUTHORITY, "AUTHORITY of a server");
        }
        let is_bad = |url: &Option<Box<str>>| url.as_ref().is_some_and(|it| it.contains(is_no_url));
        if is_bad(&setup.path) || is_bad(&setup.authority) {
            let error = if is_bad(&setup.path) { MALFORMED_PATH } else { MALFORMED_AUTHORITY };
            return drop(close_on_fault(core, Err(error.into())));
        }
        // A path beyond our limit can't be kept for the application.
        if core.limits.check_url(setup.path.as_deref()).is_err() {
            return core.violation("a path that is too long");
        }
        // Nothing was registered before that a client could use or delete (9.1.4). 14 does not say so.
        let is_early = |token: &TokenReference| {
            matches!(token, TokenReference::Alias(_) | TokenReference::Delete(_))
        };
        if self.draft.setup != SetupForm::Versions && setup.tokens.iter().any(is_early) {
            return core.violation("a token alias in SETUP");
        }
        let tokens = match self.tokens.resolve(mem::take(&mut setup.tokens), true) {
            Ok(Some(tokens)) => tokens,
            Ok(None) => return core.violation_as(UNKNOWN_AUTH_TOKEN_ALIAS, "an unknown alias"),
            Err(error) => return drop(close_on_fault(core, Err(error.into()))),
        };
        // 0 where the option is missing: then the peer accepts no request before MAX_REQUEST_ID.
        self.ids.grant(setup.max_request_id);
        let setup = self.peer.insert(setup);
        let peer = || Peer {
            path: setup.path.clone().unwrap_or_default(),
            authority: setup.authority.clone().unwrap_or_default(),
            tokens: tokens.clone(),
            ..Peer::default()
        };
        if core.accepts_peer(peer) {
            self.on_ready(core);
        }
    }

    /// The peer is set up and accepted: everything that waited for that goes on, SERVER_SETUP
    /// first.
    pub(super) fn on_ready(&mut self, core: &mut Core) {
        if let Some(control) = self.control.filter(|_| self.side == Side::Server) {
            let setup = self.setup(Setup::default());
            self.write(core, control, &setup);
        }
        if let Some(stream) = self.early_stream.take() {
            core.recv_streams.queue(stream);
        }
        for key in mem::take(&mut self.early) {
            core.requests.queue_read(key);
        }
        self.begin_announcements(core);
        self.unblock(core);
        if let Some((uri, deadline)) = self.pending_goaway.take() {
            self.write_goaway(core, uri, deadline);
        }
    }
}

/// Whether no part of a URL has the character. Those that are not ASCII need not be escaped here.
fn is_no_url(c: char) -> bool {
    c.is_ascii_control() || " \"#<>\\^`{|}".contains(c)
}
