//! One group, asked for by its number (moq-lite 05+, *Fetch*).

use super::super::Core;
use super::super::app::{Event, GroupKey, RequestKey};
use super::super::dialect::{Dialect, Look};
use super::super::fetch::{Fetch, Supply};
use super::super::incoming::{Owner, Reading};
use super::super::io::Token;
use super::super::layout::Layout;
use super::super::schedule::Range;
use super::{Lite, Role};
use crate::coding::lite::{BiStream, Fetch as Message};
use crate::error::Error;
use crate::slab::Key;
use crate::subscription::TrackInfo;

// ---- as publisher ----------------------------------------------------------------------------

impl Lite {
    pub(super) fn fetch_requested(&mut self, core: &mut Core, key: Key, message: Message) -> Look {
        let Message { broadcast, track, priority, group, frame_start, frame_end } = message;
        let range = Range { first: frame_start, last: frame_end };
        core.fetches.insert_theirs(key, Supply::new(priority, group, range));
        self.set_role(key, Role::Supplying);
        Look::Event(Event::FetchRequested {
            request: RequestKey::of(key),
            broadcast,
            track,
            priority,
            sequence: group,
            first_frame: frame_start,
            last_frame: frame_end,
        })
    }

    pub(super) fn accept_fetch(
        &mut self,
        core: &mut Core,
        key: Key,
        group: Token,
        info: &TrackInfo,
    ) {
        if !core.supply(key, group, info) {
            core.notices.push_back(Event::GroupReleased { group, sent: false });
        }
    }

    /// The peer has nothing more to say on its request. FIN alone may come at once, says the draft.
    pub(super) fn look_at_supplying(&mut self, core: &mut Core, key: Key) -> Look {
        let Some(request) = core.requests.get(key) else { return Look::Wait };
        let error = match request.given_up() {
            Some(code) => Error::from_stream_code(code),
            None if request.recv.len() > 0 => Error::Malformed(crate::DecodeError::TrailingBytes),
            None => return Look::Wait,
        };
        core.end_supply(key, &error);
        self.cancel(core, key, &error);
        Look::request_ended(key, error)
    }
}

// ---- as subscriber ---------------------------------------------------------------------------

impl Lite {
    pub(super) fn fetch(&mut self, core: &mut Core, token: Token, message: &Message) {
        if let Err(error) = self.try_fetch(core, token, message) {
            core.notices.push_back(Event::FetchEnded { fetch: token, result: Err(error) });
        }
    }

    fn try_fetch(&mut self, core: &mut Core, token: Token, message: &Message) -> Result<(), Error> {
        if !self.features.fetch {
            return Err(Error::Unsupported);
        }
        core.admit_fetch(token)?;
        let version = self.version;
        let request = core.requests.open();
        let mut result = Ok(());
        core.requests.write(request, |out| {
            BiStream::Fetch.encode(out);
            result = message.encode(out, version);
        });
        if let Err(error) = result {
            core.requests.cancel(request, &Error::Cancelled, &mut core.actions);
            return Err(error.into());
        }
        let range = Range { first: message.frame_start, last: message.frame_end };
        let fetch = Fetch { request, priority: message.priority, range, group: None };
        core.fetches.insert_ours(token, fetch);
        self.set_role(request, Role::Fetching(token));
        Ok(())
    }

    /// The answer begins, or does not come. From its first byte on it is read as a group.
    pub(super) fn look_at_fetching(&mut self, core: &mut Core, key: Key, token: Token) -> Look {
        let Some(request) = core.requests.get(key) else { return Look::Wait };
        if let Some(code) = request.recv.reset() {
            self.fetch_ended(core, token, Err(Error::from_stream_code(code)));
            return Look::More;
        }
        if request.recv.len() == 0 && !request.recv.has_fin() {
            return Look::Wait;
        }
        let Some(fetch) = core.fetches.ours(token) else { return Look::Wait };
        let Some((id, recv)) = core.requests.lend_recv(key) else { return Look::Wait };
        let Range { first, last } = fetch.range;
        let most = last.map_or(u64::MAX, |last| (last - first).saturating_add(1));
        let layout = Layout::Lite(self.version);
        let reading = Reading::new(Owner::Fetch(token), fetch.priority, layout, most);
        let group = core.incoming.adopt(id, recv, reading);
        fetch.group = Some(group);
        self.set_role(key, Role::Fetched);
        let group = GroupKey::of(group);
        Look::Event(Event::FetchStarted { fetch: token, group })
    }
}
