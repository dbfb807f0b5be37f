//! What we ask of the peer's tracks (moq-lite, *Subscribe* and *Track*).

use alloc::vec::Vec;

use super::super::app::{Event, GroupKey};
use super::super::io::Token;
use super::super::timers::Timer;
use super::super::{Core, State};
use super::{Lite, Look, Role, Text};
use crate::coding::lite::{
    BiStream, Subscribe, SubscribeResponse, SubscribeUpdate, decode_track_info,
};
use crate::error::Error;
use crate::path::Path;
use crate::slab::Key;
use crate::subscription::{Subscription, TrackInfo};

/// A subscription of ours.
#[derive(Debug)]
pub(super) struct Sub {
    pub(super) token: Token,
    id: u64,
    request: Key,
    /// The question what the track is, while it is open.
    query: Option<Key>,
    pub(super) priority: u8,
    /// What the track is; groups wait for it.
    pub(super) info: Option<TrackInfo>,
    /// The first group that the peer promised.
    pub(super) start: Option<u64>,
    end: Option<u64>,
    /// Group streams that are being read.
    pub(super) active: Vec<Key>,
    /// Group streams that wait for `info`.
    pub(super) waiting: Vec<Key>,
    /// Groups that came.
    pub(super) seen: u64,
    /// How it ended, while groups may still come.
    result: Option<Result<(), Error>>,
    /// Time is up for groups that did not come.
    pub(super) late: bool,
}

impl Lite {
    pub(super) fn subscribe(
        &mut self,
        core: &mut Core,
        token: Token,
        broadcast: Path,
        track: Text,
        want: Subscription,
    ) {
        let refuse = |core: &mut Core, error| {
            let result = Err(error);
            core.notices.push_back(Event::SubscribeEnded { subscription: token, result });
        };
        if self.going_away || core.state == State::Draining {
            return refuse(core, Error::GoingAway);
        }
        if self.subs.len() >= core.limits.subscriptions {
            return refuse(core, Error::Limit("subscriptions"));
        }
        if self.sub_by_token.contains_key(&token) {
            return refuse(core, Error::Duplicate);
        }
        let version = self.version;
        // A question that is open already does.
        let query = match self.questions.remove(&token) {
            None if self.features.track => self.ask(core, broadcast.clone(), track.clone()),
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
        if result.is_err() {
            core.requests.cancel(request, &Error::Cancelled, &mut core.actions);
            if let Some(query) = query {
                core.requests.cancel(query, &Error::Cancelled, &mut core.actions);
            }
            return refuse(core, Error::Limit("path segments"));
        }
        self.next_sub_id += 1;
        let sub = self.subs.insert(Sub {
            token,
            id,
            request,
            query,
            priority,
            info: None,
            start: None,
            end: None,
            active: Vec::new(),
            waiting: Vec::new(),
            seen: 0,
            result: None,
            late: false,
        });
        self.sub_by_id.insert(id, sub);
        self.sub_by_token.insert(token, sub);
        self.set_role(request, Role::Asking(sub));
        if let Some(query) = query {
            self.set_role(query, Role::Querying(sub));
        }
    }

    /// Not on versions that 0.16 of the deployed peers speaks: it takes an update for a fault.
    pub(super) fn update_subscribe(&mut self, core: &mut Core, token: Token, want: Subscription) {
        let Some(key) = self.sub_by_token.get(&token).copied() else { return };
        let Some(sub) = self.subs.get_mut(key) else { return };
        sub.priority = want.priority;
        if sub.result.is_some() || !self.features.subscribe_end {
            return;
        }
        let version = self.version;
        core.requests.write(sub.request, |out| {
            let message = SubscribeUpdate { want, frame_start: 0, frame_end: None };
            // Durations and group numbers are cut to what fits.
            let _ = message.encode(out, version);
        });
    }

    pub(super) fn unsubscribe(&mut self, core: &mut Core, token: Token) {
        self.unask(core, token);
        if let Some(key) = self.sub_by_token.get(&token).copied() {
            self.forget_sub(core, key, Err(Error::Cancelled));
        }
    }

    /// Ends a subscription at once, with what is left of it.
    fn forget_sub(&mut self, core: &mut Core, key: Key, result: Result<Option<u64>, Error>) {
        let Some(sub) = self.subs.remove(key) else { return };
        self.sub_by_id.remove(&sub.id);
        self.sub_by_token.remove(&sub.token);
        let error = result.clone().err().unwrap_or(Error::Cancelled);
        for key in sub.waiting {
            self.groups.stop(core, key, &error);
        }
        for key in sub.active {
            self.groups.stop(core, key, &error);
            let group = GroupKey(key.0, key.1);
            core.notices.push_back(Event::GroupEnded { group, result: Err(error.clone()) });
        }
        if let Some(query) = sub.query {
            self.cancel(core, query, &error);
        }
        // FIN says that we are no longer interested, or have everything. After a failure there is nothing
        // left to finish.
        self.finish(core, sub.request);
        core.notices.push_back(Event::SubscribeEnded { subscription: sub.token, result });
    }

    /// No more answers will come: what is on its way may still arrive.
    fn answered(&mut self, core: &mut Core, key: Key, result: Result<(), Error>) {
        let Some(sub) = self.subs.get_mut(key) else { return };
        sub.result = Some(result);
        core.timers.set(core.now + core.limits.straggler_time, Timer::Stragglers(key));
        self.check_over(core, key);
    }

    /// Ends a subscription whose answers and groups all came, or had their time.
    pub(super) fn check_over(&mut self, core: &mut Core, key: Key) {
        let Some(sub) = self.subs.get(key) else { return };
        let Some(result) = &sub.result else { return };
        if !sub.active.is_empty() {
            return;
        }
        let complete = match (result, sub.start, sub.end) {
            (Err(_), ..) => true,
            (Ok(()), Some(start), Some(end)) => {
                sub.seen >= end.saturating_sub(start) + u64::from(self.features.loose_end)
            }
            (Ok(()), None, Some(_)) => sub.seen == 0 && sub.waiting.is_empty(),
            _ => false,
        };
        if complete || sub.late {
            let result = result.clone().map(|()| sub.end);
            self.forget_sub(core, key, result);
        }
    }

    pub(in crate::machine) fn stragglers_timeout(&mut self, core: &mut Core, key: Key) {
        if let Some(sub) = self.subs.get_mut(key) {
            sub.late = true;
            self.check_over(core, key);
        }
    }

    /// The connection is gone and all that it brought was read: what had its answers is over.
    pub(in crate::machine) fn nothing_follows(&mut self, core: &mut Core) {
        let subs: Vec<_> = self.sub_by_token.values().copied().collect();
        for key in subs {
            self.stragglers_timeout(core, key);
        }
    }

    // ---- answers -----------------------------------------------------------------------------

    pub(super) fn look_at_asking(&mut self, core: &mut Core, key: Key, sub: Key) -> Look {
        match self.read_answer(core, key, sub) {
            Ok(look) => look,
            Err(error) => {
                self.fail_sub(core, key, sub, error);
                Look::Wait
            }
        }
    }

    /// The request is void.
    fn fail_sub(&mut self, core: &mut Core, key: Key, sub: Key, error: Error) {
        if let Some(sub) = self.subs.get_mut(sub) {
            sub.result = Some(Err(error.clone()));
        }
        self.cancel(core, key, &error);
        self.check_over(core, sub);
    }

    fn read_answer(&mut self, core: &mut Core, key: Key, sub_key: Key) -> Result<Look, Error> {
        let Some(request) = core.requests.get(key) else { return Ok(Look::Wait) };
        let Some(sub) = self.subs.get_mut(sub_key) else { return Ok(Look::Wait) };
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
        let Some((kind, body)) = Self::next_message(core, key, true)? else {
            return Ok(Look::Wait);
        };
        match SubscribeResponse::decode_body(kind, &body, self.version)? {
            SubscribeResponse::Ok { .. } if sub.info.is_none() => {
                // These versions do not say what a track is.
                let info = self.unsaid(core);
                return Ok(Look::Event(self.informed(core, sub_key, info)));
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
            SubscribeResponse::End { group } => sub.end = Some(group),
            // Gaps are silent with every deployed peer, so nothing hangs on being told of them.
            SubscribeResponse::Drop { .. } => {}
        }
        Ok(Look::More)
    }

    /// The track is known: its groups may be read.
    fn informed(&mut self, core: &mut Core, key: Key, info: TrackInfo) -> Event {
        let sub = self.subs.get_mut(key).expect("the caller looked it up");
        sub.info = Some(info.clone());
        sub.query = None;
        let subscription = sub.token;
        for group in core::mem::take(&mut sub.waiting) {
            self.groups.release(core, group);
        }
        Event::TrackInfo { subscription, info }
    }

    pub(super) fn look_at_querying(&mut self, core: &mut Core, key: Key, sub_key: Key) -> Look {
        match self.read_info(core, key) {
            Ok(Some(info)) => {
                self.finish(core, key);
                if self.subs.get(sub_key).is_none() {
                    return Look::Wait;
                }
                Look::Event(self.informed(core, sub_key, info))
            }
            Ok(None) => Look::Wait,
            Err(error) => {
                self.cancel(core, key, &error);
                let Some(sub) = self.subs.get_mut(sub_key) else { return Look::Wait };
                sub.query = None;
                let request = sub.request;
                if sub.result.is_none() {
                    self.fail_sub(core, request, sub_key, error);
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
        let message = Self::next_message(core, key, false)?;
        Ok(match message {
            Some((_, body)) => Some(decode_track_info(&body, self.version)?),
            None => None,
        })
    }
}
