//! Which version is spoken, where one ALPN stands for several (moq-lite up to 02).
//!
//! The client's first stream carries CLIENT_SETUP and SERVER_SETUP. Until then no other stream opens, and
//! those of the peer, which may overtake it, wait. Behind it the stream stands for the session.

use super::super::Core;
use super::super::dialect::{Dialect, Look};
use super::super::timers::Timer;
use super::{Lite, Role};
use crate::coding::DecodeError;
use crate::coding::lite::{
    ClientSetup, Features, HEAD_BYTES, ServerSetup, SessionUpdate, Setup, frame_settle,
};
use crate::error::Error;
use crate::slab::Key;
use crate::stream::Side;
use crate::version::Version;

impl Lite {
    /// The stream of a client opens first; everything else waits.
    pub(super) fn begin_settling(&mut self, core: &mut Core) {
        core.timers.set(core.now + core.limits.handshake_time, Timer::Handshake);
        if self.side == Side::Client {
            let setup = ClientSetup { versions: self.agreed.iter().collect() };
            let key = core.requests.open();
            core.requests.write(key, |out| {
                setup.encode(out).expect("versions that share this ALPN have a number");
            });
            self.set_role(key, Role::Settling);
        }
        core.requests.hold();
    }

    /// A stream of the peer before it is settled what is spoken: the one that settles it, or early.
    pub(super) fn look_at_early(&mut self, core: &mut Core, key: Key) -> Look {
        let Some(request) = core.requests.get(key) else { return Look::Wait };
        let mut front = [0; HEAD_BYTES];
        let front = request.recv.peek(&mut front);
        if self.side == Side::Server && !front.is_empty() {
            let framed = frame_settle(front, core.limits.message_bytes);
            if !matches!(framed, Err(DecodeError::UnknownMessage(_))) {
                self.set_role(key, Role::Settling);
                return Look::More;
            }
        }
        self.early.insert(key);
        Look::Wait
    }

    /// The other side's half of the exchange.
    pub(super) fn look_at_settling(&mut self, core: &mut Core, key: Key) -> Look {
        if self.peer.is_some() {
            core.violation("second SETUP");
            return Look::Wait;
        }
        match self.read_settling(core, key) {
            Ok(None) => {}
            Ok(Some(Some(version))) => self.settle(core, key, version),
            Ok(Some(None)) => core.close(Error::Version),
            Err(_) => core.violation("malformed SETUP"),
        }
        Look::Wait
    }

    /// `Some(None)`: no version in common.
    fn read_settling(
        &self,
        core: &mut Core,
        key: Key,
    ) -> Result<Option<Option<Version>>, DecodeError> {
        let Some(request) = core.requests.get(key) else { return Ok(None) };
        let mut front = [0; HEAD_BYTES];
        let framed = frame_settle(request.recv.peek(&mut front), core.limits.message_bytes)?;
        let Some(framed) = framed.filter(|it| request.recv.len() >= it.head + it.body) else {
            let is_cut = request.recv.has_fin() || request.given_up().is_some();
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
    pub(super) fn say_settled(&mut self, core: &mut Core, key: Key) {
        if self.side == Side::Server {
            core.requests.write(key, |out| {
                let setup = ServerSetup { version: Some(self.version) };
                setup.encode(out).expect("a version that was settled on has a number");
            });
        }
    }

    /// SESSION_UPDATE, which means nothing to us, or the end of the session.
    pub(super) fn look_at_session(&mut self, core: &mut Core, key: Key) -> Look {
        let Some(request) = core.requests.get(key) else { return Look::Wait };
        if request.given_up().is_some() || request.recv.is_finished() {
            core.close(Error::SessionClosed);
            return Look::Wait;
        }
        if !self.is_heard(core) {
            self.early.insert(key);
            return Look::Wait;
        }
        let update = self.next_message(core, key, false).and_then(|message| {
            let Some((_, body)) = message else { return Ok(false) };
            Ok(SessionUpdate::decode_body(&body, self.version).map(|_| true)?)
        });
        match update {
            Ok(true) => return Look::More,
            Ok(false) => {}
            Err(_) => core.violation("malformed SESSION_UPDATE"),
        }
        Look::Wait
    }
}
