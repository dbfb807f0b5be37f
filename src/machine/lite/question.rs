//! What is a track of the peer? Asked without subscribing to it (moq-lite, *Track*).

use super::super::Core;
use super::super::app::Event;
use super::super::dialect::{Dialect, Look};
use super::super::io::Token;
use super::{Lite, Role, Text};
use crate::coding::EncodeError;
use crate::coding::lite::{BiStream, TrackRequest};
use crate::error::Error;
use crate::path::Path;
use crate::slab::Key;

impl Lite {
    pub(super) fn describe(&mut self, core: &mut Core, token: Token, broadcast: Path, track: Text) {
        if let Err(error) = core.admit(token) {
            return core.refuse_sub(token, error);
        }
        if self.questions.contains_key(&token) {
            return core.refuse_sub(token, Error::Duplicate);
        }
        if !self.features.track {
            let info = core.unsaid();
            return core.notices.push_back(Event::TrackInfo { subscription: token, info });
        }
        if self.questions.len() >= core.limits.subscriptions {
            return core.refuse_sub(token, Error::Limit("subscriptions"));
        }
        let key = match self.ask(core, broadcast, track) {
            Ok(key) => key,
            Err(error) => return core.refuse_sub(token, error.into()),
        };
        self.questions.insert(token, key);
        self.set_role(key, Role::Wondering(token));
    }

    /// Sends TRACK.
    pub(super) fn ask(
        &mut self,
        core: &mut Core,
        broadcast: Path,
        track: Text,
    ) -> Result<Key, EncodeError> {
        let version = self.version;
        let key = core.requests.open();
        let mut result = Ok(());
        core.requests.write(key, |out| {
            BiStream::Track.encode(out);
            result = TrackRequest { broadcast, track }.encode(out, version);
        });
        if let Err(error) = result {
            core.requests.cancel(key, &Error::Cancelled, &mut core.actions);
            return Err(error);
        }
        Ok(key)
    }

    /// Takes the question back, if it is open.
    pub(super) fn take_back(&mut self, core: &mut Core, token: Token) {
        if let Some(key) = self.questions.remove(&token) {
            self.cancel(core, key, &Error::Cancelled);
        }
    }

    pub(super) fn look_at_wondering(&mut self, core: &mut Core, key: Key, token: Token) -> Look {
        let event = match self.read_info(core, key) {
            Ok(None) => return Look::Wait,
            Ok(Some(info)) => {
                self.finish(core, key);
                Event::TrackInfo { subscription: token, info }
            }
            Err(error) => {
                self.cancel(core, key, &error);
                Event::SubscribeEnded { subscription: token, result: Err(error) }
            }
        };
        self.questions.remove(&token);
        Look::Event(event)
    }
}
