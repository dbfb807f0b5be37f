//! A track query: TRACK without a subscription (moq-lite-06, 5.1.4). The answer is TRACK_INFO,
//! which never changes (7.12).

use alloc::boxed::Box;

use super::roles::Role;
use super::session::Lite;
use crate::coding::EncodeError;
use crate::coding::lite::{BiStream, TrackRequest};
use crate::error::{Error, LimitKind};
use crate::machine::engine::{Core, Dialect, Progress};
use crate::machine::event::Event;
use crate::machine::source::Token;
use crate::path::Path;
use crate::slab::Key;

impl Lite {
    /// The application asks what a track is.
    pub(super) fn query(
        &mut self,
        core: &mut Core,
        token: Token,
        broadcast: Path,
        track: Box<str>,
    ) {
        if let Err(error) = core.admit_subscription(token) {
            return core.reject_subscription(token, error);
        }
        // A token names one query at a time.
        if self.queries.contains_key(&token) {
            return core.reject_subscription(token, Error::Duplicate);
        }
        if !self.features.track {
            // Up to 04 there is no TRACK. The defaults are what a subscription would report as
            // well.
            let info = core.default_track_info();
            return core.notices.push_back(Event::TrackInfo { subscription: token, info });
        }
        // Queries have the limit of subscriptions, because one usually follows the other.
        if self.queries.len() >= core.limits.subscriptions {
            return core.reject_subscription(token, Error::Limit(LimitKind::Subscriptions));
        }
        let key = match self.query_track(core, broadcast, track) {
            Ok(key) => key,
            Err(error) => return core.reject_subscription(token, error.into()),
        };
        self.queries.insert(token, key);
        self.set_role(key, Role::TrackQuery(token));
    }

    /// Sends TRACK. Fails if a name does not fit.
    pub(super) fn query_track(
        &mut self,
        core: &mut Core,
        broadcast: Path,
        track: Box<str>,
    ) -> Result<Key, EncodeError> {
        self.open(core, BiStream::Track, |out, version| {
            TrackRequest { broadcast, track }.encode(out, version)
        })
    }

    /// The application does not want the answer any more.
    pub(super) fn withdraw_query(&mut self, core: &mut Core, token: Token) {
        if let Some(key) = self.queries.remove(&token) {
            self.cancel(core, key, &Error::Cancelled);
        }
    }

    /// Reads the answer: TRACK_INFO, or a reset that says why there is none.
    pub(super) fn read_track_query(&mut self, core: &mut Core, key: Key, token: Token) -> Progress {
        let event = match self.read_info(core, key) {
            Ok(None) => return Progress::Wait,
            Ok(Some(info)) => {
                self.finish(core, key);
                Event::TrackInfo { subscription: token, info }
            }
            Err(error) => {
                self.cancel(core, key, &error);
                Event::SubscribeEnded { subscription: token, result: Err(error) }
            }
        };
        self.queries.remove(&token);
        Progress::Event(event)
    }
}
