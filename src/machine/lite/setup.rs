//! The set-up of a session.
//!
//! From 05 on each end opens a unidirectional stream with one SETUP and FIN (moq-lite-06, 3.1 and
//! 6.3.1). 03 and 04 have no set-up. 01 and 02 share an ALPN: the client's first stream carries
//! CLIENT_SETUP and SERVER_SETUP, and no other stream opens before; streams of the peer, which may
//! overtake it, wait. Afterwards that stream stands for the session.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::mem;

use super::roles::{AnnounceSubscription, Role};
use super::session::Lite;
use crate::coding::DecodeError;
use crate::coding::ietf::Draft;
use crate::coding::lite::{
    AnnounceRequest, BiStream, ClientSetup, Features, HEAD_BYTES, ServerSetup, SessionUpdate,
    Setup, UniStream, frame_version_setup,
};
use crate::error::Error;
use crate::machine::config::Config;
use crate::machine::engine::{ControlStream, Core, Progress, Timer};
use crate::machine::stream_buffers::SendBuffer;
use crate::path::Path;
use crate::peer::{self, Peer};
use crate::slab::Key;
use crate::stream::Side;
use crate::version::Version;

impl Lite {
    /// Starts a session. The first message depends on the version. A server whose application
    /// decides on the peer sends nothing yet.
    pub(in crate::machine) fn start(config: Config, core: &mut Core) -> Self {
        let mut lite = Self::new(&config);
        // On 01 and 02 the client's first bidirectional stream carries the versions.
        core.sets_up_on_request = lite.features.version_setup;
        if lite.features.version_setup {
            lite.begin_version_setup(core);
        } else if lite.features.setup {
            core.timers.set(core.now + core.limits.handshake_timeout, Timer::Handshake);
        } else {
            lite.set_up(core, Setup::default());
        }
        if core.awaits_accept {
            return lite;
        }
        if lite.agreed.is_mixed() {
            // 01 and 02 encode an announce request alike, so that it can wait as it is; the other dialect has none.
            lite.interests = config.interests;
        } else {
            let is_client = config.side == Side::Client;
            // Path, Role and Cost come from the client alone (7.3.2 to 7.3.4): the server knows who
            // it is by its address. Defaults are left out.
            let path = is_client && !config.path.is_root();
            let role = config.role.as_u64();
            let setup = Setup {
                path: path.then(|| format!("/{}", config.path).into()),
                role: (is_client && role != 0).then_some(role),
                cost: lite.cost.filter(|_| is_client),
                ..Setup::default()
            };
            lite.begin(core, setup, config.interests);
        }
        lite
    }

    /// Sends our SETUP, and an announce request for each prefix of interest. None of this waits for
    /// the peer's SETUP, because a server may read that first: two ends that wait for each other
    /// would stay silent.
    pub(super) fn begin(&mut self, core: &mut Core, setup: Setup, interests: Vec<Path>) {
        if self.features.setup {
            let mut send = SendBuffer::default();
            UniStream::Setup.encode(send.buffer());
            // Level Report: we can report what the adapter measures, and never send padding (7.3.1). An
            // adapter that measures nothing makes us a publisher that reports nothing.
            let setup = Setup { hop: self.hop, probe: Some(Setup::REPORT), ..setup };
            setup.encode(send.buffer(), self.version).expect("such numbers and text always fit");
            send.finish();
            core.control = Some(ControlStream { send, ..ControlStream::default() });
        }
        for prefix in interests {
            let request =
                AnnounceRequest { prefix: prefix.clone(), exclude: self.hop, hidden: true };
            let opened =
                self.open(core, BiStream::Announce, |out, version| request.encode(out, version));
            // A prefix that can't be encoded has no announcement below it either.
            let Ok(key) = opened else { continue };
            self.set_role(key, Role::AnnounceSubscription(AnnounceSubscription::new(prefix)));
        }
    }

    /// The peer's SETUP arrived, or the version has none.
    pub(super) fn set_up(&mut self, core: &mut Core, setup: Setup) {
        // They come from the client alone (7.3.2, 7.3.3).
        if self.side == Side::Client && (setup.path.is_some() || setup.role.is_some()) {
            return core.violation("Path or Role of a server");
        }
        if core.limits.check_url(setup.path.as_deref()).is_err() {
            // An invalid Path closes the session (7.3.2).
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

    /// The peer is set up and accepted: everything that waited for that goes on.
    pub(super) fn on_ready(&mut self, core: &mut Core) {
        core.requests.release();
        // On 01 and 02 SERVER_SETUP goes out first, and releases the peer's other streams.
        for key in mem::take(&mut self.early) {
            if matches!(self.roles.get(key), Some(Role::Session)) {
                self.write_version(core, key);
            }
            core.requests.queue_read(key);
        }
        self.open_probe(core);
    }

    /// Starts the exchange of 01 and 02. The client's stream opens first, all others are held back.
    pub(super) fn begin_version_setup(&mut self, core: &mut Core) {
        core.timers.set(core.now + core.limits.handshake_timeout, Timer::Handshake);
        if self.side == Side::Client {
            let setup = ClientSetup { versions: self.agreed.iter().collect() };
            let key = core.requests.open();
            core.requests.write(key, |out| {
                setup.encode(out).expect("versions that share this ALPN have a number");
            });
            self.set_role(key, Role::VersionSetup);
        }
        // Nothing else may be sent before the version is known.
        core.requests.hold();
    }

    /// A stream of the peer before the session is ready: either the one that carries CLIENT_SETUP,
    /// which a server recognizes by its first byte, or one that waits.
    pub(super) fn read_early(&mut self, core: &mut Core, key: Key) -> Progress {
        let Some(request) = core.requests.get(key) else { return Progress::Wait };
        let mut front = [0; HEAD_BYTES];
        let front = request.recv.peek(&mut front);
        if self.side == Side::Server && !front.is_empty() {
            let framed = frame_version_setup(front, core.limits.message_bytes);
            if !matches!(framed, Err(DecodeError::UnknownMessage(_))) {
                self.set_role(key, Role::VersionSetup);
                return Progress::More;
            }
        }
        self.early.insert(key);
        Progress::Wait
    }

    /// Reads the peer's half of the exchange.
    pub(super) fn read_version_setup(&mut self, core: &mut Core, key: Key) -> Progress {
        if self.peer.is_some() {
            core.violation("second SETUP");
            return Progress::Wait;
        }
        // No common version closes the session with a code of its own; garbage is a violation.
        match self.decode_version_setup(core, key) {
            Ok(None) => {}
            // It is not consumed: the other dialect reads it again.
            Ok(Some(Some(version))) if Draft::of(version).is_some() => {
                core.agreed_on = Some((version, key));
            }
            Ok(Some(Some(version))) => self.agree(core, key, version),
            Ok(Some(None)) => core.close(Error::Version),
            Err(_) => core.violation("malformed SETUP"),
        }
        Progress::Wait
    }

    /// The version that the peer's message selects. `Some(None)`: no version in common.
    fn decode_version_setup(
        &self,
        core: &mut Core,
        key: Key,
    ) -> Result<Option<Option<Version>>, DecodeError> {
        let Some(request) = core.requests.get(key) else { return Ok(None) };
        let mut front = [0; HEAD_BYTES];
        let framed = frame_version_setup(request.recv.peek(&mut front), core.limits.message_bytes)?;
        let Some(framed) = framed.filter(|it| request.recv.len() >= it.head + it.body) else {
            // A stream that ends inside of the message can't be completed any more.
            let is_cut = request.recv.has_fin() || request.abandoned().is_some();
            return if is_cut { Err(DecodeError::Truncated) } else { Ok(None) };
        };
        let mut whole = vec![0; framed.head + framed.body];
        let body = &request.recv.peek(&mut whole)[framed.head..];
        let version = match self.side {
            // The server must have chosen one that we offered.
            Side::Client => {
                let setup = ServerSetup::decode_body(framed.kind, body)?;
                setup.version.filter(|it| self.agreed.iter().any(|ours| ours == *it))
            }
            // Our order of preference decides among those that the client offers.
            Side::Server => {
                let setup = ClientSetup::decode_body(framed.kind, body)?;
                self.agreed.iter().find(|it| setup.versions.contains(it))
            }
        };
        if version.is_some_and(|it| Draft::of(it).is_none()) {
            request.recv.skip(whole.len());
        }
        Ok(Some(version))
    }

    /// A version was agreed on. Everything that depends on it begins now.
    fn agree(&mut self, core: &mut Core, key: Key, version: Version) {
        self.version = version;
        core.version = version;
        self.features = Features::of(version);
        self.set_role(key, Role::Session);
        let interests = mem::take(&mut self.interests);
        self.begin(core, Setup::default(), interests);
        // The answer goes out with everything that waits, once the application accepts the peer.
        self.early.insert(key);
        self.set_up(core, Setup::default());
    }

    /// Writes SERVER_SETUP, the answer to CLIENT_SETUP.
    pub(super) fn write_version(&mut self, core: &mut Core, key: Key) {
        if self.side == Side::Server {
            core.requests.write(key, |out| {
                let setup = ServerSetup { version: Some(self.version) };
                setup.encode(out).expect("a version that was agreed on has a number");
            });
        }
    }

    /// Reads SESSION_UPDATE, which is ignored: no deployed peer sends it, and nothing here depends
    /// on it. The end of the stream ends the session.
    pub(super) fn read_session(&mut self, core: &mut Core, key: Key) -> Progress {
        let Some(request) = core.requests.get(key) else { return Progress::Wait };
        if request.abandoned().is_some() || request.recv.is_finished() {
            core.close(Error::SessionClosed);
            return Progress::Wait;
        }
        if !core.is_ready() {
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
