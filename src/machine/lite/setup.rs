//! Which version is spoken, where one ALPN stands for several (moq-lite up to 02).
//!
//! The client's first stream carries CLIENT_SETUP and SERVER_SETUP. Until then no other stream opens, and
//! those of the peer, which may overtake it, wait. Behind it the stream stands for the session.

use alloc::format;
use alloc::vec::Vec;
use core::mem;

use bytes::BytesMut;

use super::roles::{AnnounceSubscription, Role};
use super::session::Lite;
use crate::coding::DecodeError;
use crate::coding::lite::{
    AnnounceRequest, BiStream, ClientSetup, Features, HEAD_BYTES, ServerSetup, SessionUpdate,
    Setup, UniStream, frame_settle,
};
use crate::error::Error;
use crate::machine::config::Config;
use crate::machine::engine::{ControlStream, Core, Dialect, Progress, Timer};
use crate::machine::stream_buffers::SendBuffer;
use crate::path::Path;
use crate::peer::{self, Peer};
use crate::slab::Key;
use crate::stream::Side;
use crate::version::Version;

impl Lite {
    /// Starts the session: what is sent first depends on the version.
    pub(super) fn start(&mut self, core: &mut Core, config: Config) {
        if self.features.settles {
            self.begin_version_setup(core);
        } else if self.features.setup {
            core.timers.set(core.now + core.limits.handshake_time, Timer::Handshake);
        } else {
            self.set_up(core, Setup::default());
        }
        if !core.awaits_accept {
            let is_client = config.side == Side::Client;
            let path = is_client && !config.path.is_root();
            let role = config.role.as_u64();
            let setup = Setup {
                path: path.then(|| format!("/{}", config.path).into()),
                role: (is_client && role != 0).then_some(role),
                cost: self.cost.filter(|_| is_client),
                ..Setup::default()
            };
            self.begin(core, setup, config.interests);
        }
    }

    /// Says what we are, and what we want to hear of.
    pub(super) fn begin(&mut self, core: &mut Core, setup: Setup, interests: Vec<Path>) {
        let version = self.version;
        if self.features.setup {
            let mut send = SendBuffer::default();
            UniStream::Setup.encode(send.buffer());
            // Adapters tell of the path. If one does not, the peer hears nothing.
            let setup = Setup { hop: self.hop, probe: Some(Setup::REPORT), ..setup };
            setup.encode(send.buffer(), version).expect("such numbers and text always fit");
            send.finish();
            core.control = Some(ControlStream { send, ..ControlStream::default() });
        }
        for prefix in interests {
            // The versions that may be settled on ask alike.
            let request =
                AnnounceRequest { prefix: prefix.clone(), exclude: self.hop, hidden: true };
            let mut message = BytesMut::new();
            BiStream::Announce.encode(&mut message);
            if request.encode(&mut message, version).is_err() {
                // A prefix that is too deep to say has nothing under it.
                continue;
            }
            let key = core.requests.open();
            core.requests.write(key, |out| out.extend_from_slice(&message));
            self.set_role(key, Role::AnnounceSubscription(AnnounceSubscription::new(prefix)));
        }
    }

    /// The peer's set-up came, or there is none.
    pub(super) fn set_up(&mut self, core: &mut Core, setup: Setup) {
        if core.limits.check_url(setup.path.as_deref()).is_err() {
            return core.violation("a path that is too long");
        }
        let setup = self.peer.insert(setup);
        let peer = || Peer {
            path: setup.path.clone().unwrap_or_default(),
            role: setup.role.map(peer::Role::from_u64).unwrap_or_default(),
            hop: setup.hop,
            cost: setup.cost,
            ..Peer::default()
        };
        if core.accepts_peer(peer) {
            self.on_ready(core);
        }
    }

    /// What waited for the peer's set-up goes on.
    pub(super) fn on_ready(&mut self, core: &mut Core) {
        core.requests.release();
        for key in mem::take(&mut self.early) {
            if matches!(self.role(key), Role::Session) {
                self.write_version(core, key);
            }
            core.requests.queue_read(key);
        }
        self.open_probe(core);
    }

    /// The stream of a client opens first; everything else waits.
    pub(super) fn begin_version_setup(&mut self, core: &mut Core) {
        core.timers.set(core.now + core.limits.handshake_time, Timer::Handshake);
        if self.side == Side::Client {
            let setup = ClientSetup { versions: self.agreed.iter().collect() };
            let key = core.requests.open();
            core.requests.write(key, |out| {
                setup.encode(out).expect("versions that share this ALPN have a number");
            });
            self.set_role(key, Role::VersionSetup);
        }
        core.requests.hold();
    }

    /// A stream of the peer before it is settled what is spoken: the one that settles it, or early.
    pub(super) fn read_early(&mut self, core: &mut Core, key: Key) -> Progress {
        let Some(request) = core.requests.get(key) else { return Progress::Wait };
        let mut front = [0; HEAD_BYTES];
        let front = request.recv.peek(&mut front);
        if self.side == Side::Server && !front.is_empty() {
            let framed = frame_settle(front, core.limits.message_bytes);
            if !matches!(framed, Err(DecodeError::UnknownMessage(_))) {
                self.set_role(key, Role::VersionSetup);
                return Progress::More;
            }
        }
        self.early.insert(key);
        Progress::Wait
    }

    /// The other side's half of the exchange.
    pub(super) fn read_version_setup(&mut self, core: &mut Core, key: Key) -> Progress {
        if self.peer.is_some() {
            core.violation("second SETUP");
            return Progress::Wait;
        }
        match self.decode_version_setup(core, key) {
            Ok(None) => {}
            Ok(Some(Some(version))) => self.settle(core, key, version),
            Ok(Some(None)) => core.close(Error::Version),
            Err(_) => core.violation("malformed SETUP"),
        }
        Progress::Wait
    }

    /// `Some(None)`: no version in common.
    fn decode_version_setup(
        &self,
        core: &mut Core,
        key: Key,
    ) -> Result<Option<Option<Version>>, DecodeError> {
        let Some(request) = core.requests.get(key) else { return Ok(None) };
        let mut front = [0; HEAD_BYTES];
        let framed = frame_settle(request.recv.peek(&mut front), core.limits.message_bytes)?;
        let Some(framed) = framed.filter(|it| request.recv.len() >= it.head + it.body) else {
            let is_cut = request.recv.has_fin() || request.abandoned().is_some();
            return if is_cut { Err(DecodeError::Truncated) } else { Ok(None) };
        };
        request.recv.skip(framed.head);
        let body = request.recv.take(framed.body);
        Ok(Some(match self.side {
            Side::Client => {
                let setup = ServerSetup::decode_body(framed.kind, &body)?;
                setup.version.filter(|it| self.agreed.iter().any(|ours| ours == *it))
            }
            Side::Server => {
                let setup = ClientSetup::decode_body(framed.kind, &body)?;
                self.agreed.iter().find(|it| setup.versions.contains(it))
            }
        }))
    }

    fn settle(&mut self, core: &mut Core, key: Key, version: Version) {
        self.version = version;
        core.version = version;
        self.features = Features::of(version);
        self.set_role(key, Role::Session);
        self.early.insert(key);
        self.set_up(core, Setup::default());
    }

    /// SERVER_SETUP, the answer to CLIENT_SETUP.
    pub(super) fn write_version(&mut self, core: &mut Core, key: Key) {
        if self.side == Side::Server {
            core.requests.write(key, |out| {
                let setup = ServerSetup { version: Some(self.version) };
                setup.encode(out).expect("a version that was settled on has a number");
            });
        }
    }

    /// SESSION_UPDATE, which means nothing to us, or the end of the session.
    pub(super) fn read_session(&mut self, core: &mut Core, key: Key) -> Progress {
        let Some(request) = core.requests.get(key) else { return Progress::Wait };
        if request.abandoned().is_some() || request.recv.is_finished() {
            core.close(Error::SessionClosed);
            return Progress::Wait;
        }
        if !self.is_ready(core) {
            self.early.insert(key);
            return Progress::Wait;
        }
        let update = self.next_message(core, key, false).and_then(|message| {
            let Some((_, body)) = message else { return Ok(false) };
            Ok(SessionUpdate::decode_body(&body, self.version).map(|_| true)?)
        });
        match update {
            Ok(true) => return Progress::More,
            Ok(false) => {}
            Err(_) => core.violation("malformed SESSION_UPDATE"),
        }
        Progress::Wait
    }
}
