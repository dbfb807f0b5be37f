//! What is a track of the peer? Asked without subscribing to it (moq-lite, *Track*).

use super::super::app::Event;
use super::super::io::Token;
use super::super::{Core, State};
use super::{Lite, Look, Role, Text};
use crate::coding::lite::{BiStream, TrackRequest};
use crate::error::Error;
use crate::path::Path;
use crate::slab::Key;
use crate::subscription::TrackInfo;

impl Lite {
    pub(super) fn describe(&mut self, core: &mut Core, token: Token, broadcast: Path, track: Text) {
        let refuse = |core: &mut Core, error| {
            let result = Err(error);
            core.notices.push_back(Event::SubscribeEnded { subscription: token, result });
        };
        if self.going_away || core.state == State::Draining {
            return refuse(core, Error::GoingAway);
        }
        if self.questions.contains_key(&token) || self.sub_by_token.contains_key(&token) {
            return refuse(core, Error::Duplicate);
        }
        if !self.features.track {
            let info = self.unsaid(core);
            return core.notices.push_back(Event::TrackInfo { subscription: token, info });
        }
        if self.questions.len() + self.subs.len() >= core.limits.subscriptions {
            return refuse(core, Error::Limit("subscriptions"));
        }
        let Some(key) = self.ask(core, broadcast, track) else {
            return refuse(core, Error::Limit("path segments"));
        };
        self.questions.insert(token, key);
        self.set_role(key, Role::Wondering(token));
    }

    /// Sends TRACK. `None` if it can't say the names.
    pub(super) fn ask(&mut self, core: &mut Core, broadcast: Path, track: Text) -> Option<Key> {
        let version = self.version;
        let key = core.requests.open();
        let mut result = Ok(());
        core.requests.write(key, |out| {
            BiStream::Track.encode(out);
            result = TrackRequest { broadcast, track }.encode(out, version);
        });
        if result.is_err() {
            core.requests.cancel(key, &Error::Cancelled, &mut core.actions);
            return None;
        }
        Some(key)
    }

    /// What a track is where the version does not say.
    pub(super) fn unsaid(&self, core: &Core) -> TrackInfo {
        TrackInfo { max_age: core.limits.max_age, ..TrackInfo::default() }
    }

    /// Takes the question back, if it is open.
    pub(super) fn unask(&mut self, core: &mut Core, token: Token) {
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
