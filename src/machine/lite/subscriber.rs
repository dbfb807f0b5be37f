//! What we ask of the peer's tracks (moq-lite, *Subscribe* and *Track*).

use super::super::Core;
use super::super::app::Event;
use super::super::dialect::{Dialect, Look};
use super::super::io::Token;
use super::super::subs::Sub;
use super::{Lite, Role, Text};
use crate::coding::lite::{
    BiStream, Subscribe, SubscribeResponse, SubscribeUpdate, decode_track_info,
};
use crate::error::Error;
use crate::path::Path;
use crate::slab::Key;
use crate::subscription::{Subscription, TrackInfo};

impl Lite {
    pub(super) fn subscribe(
        &mut self,
        core: &mut Core,
        token: Token,
        broadcast: Path,
        track: Text,
        want: Subscription,
    ) {
        if let Err(error) = core.admit(token) {
            return core.refuse_sub(token, error);
        }
        let version = self.version;
        // A question that is open already does.
        let query = match self.questions.remove(&token) {
            None if self.features.track => {
                // If it can't be said, neither can what follows.
                self.ask(core, broadcast.clone(), track.clone()).ok()
            }
            query => query,
        };
        let id = self.next_sub_id;
        let priority = want.priority;
        let message = Subscribe { id, broadcast, track, want, frame_start: 0, frame_end: None };
        let request = core.requests.open();
        let mut result = Ok(());
        core.requests.write(request, |out| {
            BiStream::Subscribe.encode(out);
            result = message.encode(out, version);
        });
        if let Err(error) = result {
            core.requests.cancel(request, &Error::Cancelled, &mut core.actions);
            if let Some(query) = query {
                core.requests.cancel(query, &Error::Cancelled, &mut core.actions);
            }
            return core.refuse_sub(token, error.into());
        }
        self.next_sub_id += 1;
        let sub = Sub { number: Some(id), query, ..Sub::new(token, request, priority) };
        let sub = core.subs.insert(sub);
        self.set_role(request, Role::Asking(sub));
        if let Some(query) = query {
            self.set_role(query, Role::Querying(sub));
        }
    }

    /// Not on versions that 0.16 of the deployed peers speaks: it takes an update for a fault.
    pub(super) fn update_subscribe(&mut self, core: &mut Core, token: Token, want: Subscription) {
        let Some(key) = core.subs.by_token(token) else { return };
        let Some(sub) = core.subs.get_mut(key) else { return };
        sub.priority = want.priority;
        if sub.result.is_some() || !self.features.subscribe_end {
            return;
        }
        let version = self.version;
        core.requests.write(sub.request, |out| {
            let message = SubscribeUpdate { want, frame_start: 0, frame_end: None };
            // Durations are cut to what fits, and larger numbers are refused where they are written.
            let _ = message.encode(out, version);
        });
    }

    // ---- answers -----------------------------------------------------------------------------

    pub(super) fn look_at_asking(&mut self, core: &mut Core, key: Key, sub: Key) -> Look {
        match self.read_answer(core, key, sub) {
            Ok(look) => look,
            Err(error) => {
                self.fail_sub(core, sub, error);
                Look::Wait
            }
        }
    }

    fn read_answer(&mut self, core: &mut Core, key: Key, sub_key: Key) -> Result<Look, Error> {
        let Some(request) = core.requests.get(key) else { return Ok(Look::Wait) };
        let Some(sub) = core.subs.get_mut(sub_key) else { return Ok(Look::Wait) };
        if sub.result.is_some() {
            return Ok(Look::Wait);
        }
        // STOP_SENDING says nothing here: 0.16 sends it behind its FIN, and both may come at once.
        if let Some(code) = request.recv.reset() {
            return Err(Error::from_stream_code(code));
        }
        if request.recv.is_finished() {
            let result = if self.features.subscribe_end && sub.end.is_none() {
                Err(Error::ProtocolViolation("FIN without END"))
            } else {
                Ok(())
            };
            self.answered(core, sub_key, result);
            return Ok(Look::Wait);
        }
        let typed = self.features.typed_responses();
        let Some((kind, body)) = self.next_message(core, key, typed)? else {
            return Ok(Look::Wait);
        };
        let Some(sub) = core.subs.get_mut(sub_key) else { return Ok(Look::Wait) };
        match SubscribeResponse::decode_body(kind, &body, self.version)? {
            SubscribeResponse::Ok { .. } if sub.info.is_none() => {
                // These versions do not say what a track is.
                let info = core.unsaid();
                return Ok(core.informed(sub_key, info).map_or(Look::More, Look::Event));
            }
            // Sent twice by some early peers; says nothing new.
            SubscribeResponse::Ok { .. } => {}
            SubscribeResponse::Start { group } if sub.start.is_none() => {
                sub.start = Some(group);
                let subscription = sub.token;
                return Ok(Look::Event(Event::SubscribeStarted { subscription, group }));
            }
            // It can't be taken back.
            SubscribeResponse::Start { .. } => {}
            SubscribeResponse::End { group, streams } => {
                sub.end = Some(group);
                let loose = u64::from(self.features.loose_end);
                let groups = |start: u64| group.saturating_sub(start) + loose;
                sub.expected = streams.or(Some(sub.start.map_or(0, groups)));
            }
            // Gaps are silent with every deployed peer, so nothing hangs on being told of them.
            SubscribeResponse::Drop { .. } => {}
        }
        Ok(Look::More)
    }

    pub(super) fn look_at_querying(&mut self, core: &mut Core, key: Key, sub_key: Key) -> Look {
        match self.read_info(core, key) {
            Ok(Some(info)) => {
                self.finish(core, key);
                core.informed(sub_key, info).map_or(Look::Wait, Look::Event)
            }
            Ok(None) => Look::Wait,
            Err(error) => {
                self.cancel(core, key, &error);
                let Some(sub) = core.subs.get_mut(sub_key) else { return Look::Wait };
                sub.query = None;
                if sub.result.is_none() {
                    self.fail_sub(core, sub_key, error);
                }
                Look::Wait
            }
        }
    }

    pub(super) fn read_info(
        &mut self,
        core: &mut Core,
        key: Key,
    ) -> Result<Option<TrackInfo>, Error> {
        let Some(request) = core.requests.get(key) else { return Ok(None) };
        if let Some(code) = request.recv.reset() {
            return Err(Error::from_stream_code(code));
        }
        if request.recv.is_finished() {
            return Err(Error::Malformed(crate::DecodeError::Truncated));
        }
        let message = self.next_message(core, key, false)?;
        Ok(match message {
            Some((_, body)) => Some(decode_track_info(&body, self.version)?),
            None => None,
        })
    }
}
