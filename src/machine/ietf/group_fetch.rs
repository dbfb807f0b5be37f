//! FETCH: one group, requested by its number (moq-transport-22, 3.2, 9.11, 9.12 and 11.4).
//!
//! The answer is a message on the request, and the group on a unidirectional stream. Either may come first.

use alloc::boxed::Box;

use bytes::BytesMut;

use super::roles::Role;
use super::session::{Ietf, Read, fault};
use crate::coding::ietf::{
    Fetch, FetchEnd, FetchForm, FetchOk, FetchRecord, FetchTarget, Filter, GroupOrder,
    INVALID_FILTER, INVALID_RANGE, Location, Message, NOT_SUPPORTED, ParameterForm, Parameters,
    PropertyForm, TrackProperties, UniStream,
};
use crate::error::Error;
use crate::machine::engine::{
    AnswerStream, Core, Dialect, GroupOwner, GroupReader, IncomingFetch, OutgoingFetch, Progress,
    fetching,
};
use crate::machine::event::{Event, GroupKey, RequestKey};
use crate::machine::layout::{Head, HeadReader, Layout, RecordReader};
use crate::machine::run::FrameRange;
use crate::machine::source::Token;
use crate::path::Path;
use crate::slab::Key;
use crate::subscription::TrackInfo;

// ---- as publisher ----------------------------------------------------------------------------

impl Ietf {
    /// FETCH of the peer. A range of more than one group is not served, and neither is one that depends on a
    /// subscription.
    pub(super) fn on_fetch(&mut self, core: &mut Core, key: Key, message: Fetch) -> Progress {
        let Fetch { target, parameters, .. } = message;
        let (broadcast, track, start, end) = match (target, parameters.filter) {
            (FetchTarget::Standalone { namespace, track, start, end }, _) => {
                (namespace, track, start, end)
            }
            (
                FetchTarget::Track { namespace, track },
                Some(Filter::Range { start, end_group: group }),
            ) => (namespace, track, start, FetchEnd { group, object: None }),
            (FetchTarget::Track { namespace, track }, Some(Filter::RangeTo { start, end })) => {
                let end = FetchEnd { group: end.group, object: Some(end.object) };
                (namespace, track, start, end)
            }
            _ => return self.refuse(core, key, NOT_SUPPORTED),
        };
        let is_empty = (end.group, end.object.unwrap_or(u64::MAX)) < (start.group, start.object);
        let refusal = match parameters.range_filters {
            _ if is_empty => Some(INVALID_RANGE),
            // SETUP offered no range filters (19 and later).
            true => Some(INVALID_FILTER),
            false => (start.group != end.group).then_some(NOT_SUPPORTED),
        };
        if let Some(code) = refusal {
            return self.refuse(core, key, code);
        }
        let (sequence, first_frame, last_frame) = (start.group, start.object, end.object);
        let priority = parameters.priority.unwrap_or(127);
        let range = FrameRange { first: first_frame, last: last_frame };
        core.incoming_fetches.insert(key, IncomingFetch { priority, sequence, range });
        self.set_role(key, Role::IncomingFetch(None));
        let request = RequestKey::of(key);
        Progress::Event(Event::FetchRequested {
            request,
            broadcast,
            track,
            priority,
            sequence,
            first_frame,
            last_frame,
        })
    }

    /// Writes FETCH_OK, if the end of the answer is known by now (3.2), and begins the stream of the answer.
    pub(super) fn accept_fetch(
        &mut self,
        core: &mut Core,
        key: Key,
        fetch: &IncomingFetch,
        info: &TrackInfo,
        frames: Option<u64>,
        ends_track: bool,
    ) -> Option<AnswerStream> {
        let mut head = BytesMut::with_capacity(16);
        UniStream::Fetch { request: self.ids.of(key) }.encode(&mut head, self.draft).ok()?;
        let properties = self.properties(info);
        if !self.write_fetch_ok(core, key, fetch, properties, frames, ends_track) {
            self.set_role(key, Role::IncomingFetch(Some(properties)));
        }
        let (draft, group, priority) = (self.draft, fetch.sequence, info.priority);
        let layout = Layout::Records { draft, group, priority };
        Some(AnswerStream::Own { head: Head::from_slice(&head), layout })
    }

    /// The answer to a FETCH is out: writes FETCH_OK, if its end was not known before.
    pub(super) fn write_late_fetch_ok(&mut self, core: &mut Core, key: Key, end: u64) {
        let Role::IncomingFetch(Some(properties)) = *self.role(key) else { return };
        if let Some(fetch) = core.incoming_fetches.get(&key).copied() {
            self.write_fetch_ok(core, key, &fetch, properties, Some(end), false);
        }
    }

    /// Writes FETCH_OK. Returns `false` if its end, which is that of the last object, is not known yet (9.12).
    fn write_fetch_ok(
        &mut self,
        core: &mut Core,
        key: Key,
        fetch: &IncomingFetch,
        properties: TrackProperties,
        frames: Option<u64>,
        ends_track: bool,
    ) -> bool {
        let asked = fetch.range.last;
        let last = frames.and_then(|frames| frames.checked_sub(1));
        let reached = last.map(|last| asked.unwrap_or(last).min(last).max(fetch.range.first));
        let end_of_track = ends_track && reached == last;
        if frames.is_none() {
            return false;
        }
        // An answer without objects has no last one. Up to 19 the end says so. Later it must not be before the
        // start.
        let is_empty_start = self.draft.fetch == FetchForm::Filter;
        let object = reached.or(is_empty_start.then_some(fetch.range.first));
        let has_order = self.draft.parameters == ParameterForm::Inline;
        let order = has_order.then_some(GroupOrder::Ascending);
        let ok = FetchOk {
            id: self.reply_id(key),
            end_of_track,
            end: FetchEnd { group: fetch.sequence, object },
            parameters: Parameters { order, ..Parameters::default() },
            properties,
        };
        self.write(core, key, &Message::FetchOk(ok));
        true
    }

    /// The application refuses a FETCH, or gives up one that it accepted.
    pub(super) fn refuse_fetch(&mut self, core: &mut Core, key: Key, error: &Error) {
        if core.schedule.has_track(key) {
            return self.give_up_fetch(core, key, error);
        }
        core.end_incoming(key, error);
        self.refuse_for(core, key, error);
    }

    /// Resets the streams of a FETCH (3.2.4).
    fn give_up_fetch(&mut self, core: &mut Core, key: Key, error: &Error) {
        core.end_incoming(key, error);
        self.set_role(key, Role::Done);
        self.cancel(core, key, error);
    }

    /// Reads an update of a FETCH, or the end of the peer's interest. FIN alone only says that no update follows.
    pub(super) fn read_incoming_fetch(&mut self, core: &mut Core, key: Key) -> Read {
        let Some(request) = core.requests.get(key) else { return Ok(Progress::Wait) };
        if let Some(code) = request.abandoned() {
            let error = Error::from_stream_code(code);
            self.give_up_fetch(core, key, &error);
            return Ok(Progress::request_ended(key, error));
        }
        let update = match self.next_message(core, key)? {
            None => return Ok(Progress::Wait),
            Some(Message::RequestUpdate(update)) => update,
            Some(_) => return fault("not a message of a FETCH"),
        };
        if let Some(priority) = update.parameters.priority {
            if let Some(fetch) = core.incoming_fetches.get_mut(&key) {
                fetch.priority = priority;
            }
            core.schedule.update_track(key, priority, false, &mut core.actions);
        }
        self.answer_update(core, key, update.id, None);
        Ok(Progress::More)
    }
}

// ---- as subscriber ---------------------------------------------------------------------------

impl Ietf {
    /// Sends FETCH. A failure is reported like any other end of a FETCH.
    pub(super) fn fetch(
        &mut self,
        core: &mut Core,
        token: Token,
        namespace: Path,
        track: Box<str>,
        wanted: OutgoingFetch,
    ) {
        let sent = core.admit_fetch(token).and_then(|()| {
            let (target, parameters) = self.target_of(namespace, track, &wanted);
            let role = Role::OutgoingFetch { fetch: token, timed: None };
            let make = |id| Message::Fetch(Fetch { id, target, parameters });
            Ok(self.open(core, role, make)?)
        });
        match sent {
            Ok(request) => {
                core.outgoing_fetches.insert(token, OutgoingFetch { request, ..wanted });
            }
            Err(error) => {
                core.notices.push_back(Event::FetchEnded { fetch: token, result: Err(error) });
            }
        }
    }

    /// The range as the draft has it: in the message, or as a filter.
    fn target_of(
        &self,
        namespace: Path,
        track: Box<str>,
        wanted: &OutgoingFetch,
    ) -> (FetchTarget, Parameters) {
        let (group, last) = (wanted.sequence, wanted.range.last);
        let start = Location::new(group, wanted.range.first);
        let parameters = Parameters { priority: Some(wanted.priority), ..Parameters::default() };
        if self.draft.fetch == FetchForm::Target {
            let end = FetchEnd { group, object: last };
            return (FetchTarget::Standalone { namespace, track, start, end }, parameters);
        }
        let filter = match last {
            None => Filter::Range { start, end_group: group },
            Some(last) => Filter::RangeTo { start, end: Location::new(group, last) },
        };
        (FetchTarget::Track { namespace, track }, Parameters { filter: Some(filter), ..parameters })
    }

    /// Reads the answer to FETCH. Once the group began, its stream alone decides how the FETCH ends.
    pub(super) fn read_outgoing_fetch(
        &mut self,
        core: &mut Core,
        key: Key,
        token: Token,
        is_answered: bool,
    ) -> Read {
        let Some(request) = core.requests.get(key) else { return Ok(Progress::Wait) };
        let Some(fetch) = core.outgoing_fetches.get(&token).copied() else {
            return Ok(Progress::Wait);
        };
        let end = match (request.recv.reset(), request.recv.is_finished()) {
            (Some(code), _) => Some(Error::from_stream_code(code)),
            (None, true) if !is_answered => Some(Error::ProtocolViolation("FIN without an answer")),
            _ => None,
        };
        if let Some(error) = end.filter(|_| fetch.group.is_none()) {
            fetching::end(self, core, token, Err(error));
            return Ok(Progress::More);
        }
        match self.next_message(core, key)? {
            None => Ok(Progress::Wait),
            Some(Message::FetchOk(ok)) if !is_answered => self.on_fetch_ok(core, key, token, &ok),
            Some(Message::RequestError(error)) if !is_answered => {
                let error = match error.code {
                    // Nothing was published in the range.
                    INVALID_RANGE => Error::NotFound,
                    code => self.draft.request_error(code),
                };
                fetching::abort(self, core, token, error);
                Ok(Progress::More)
            }
            Some(_) => fault("not an answer to FETCH"),
        }
    }

    fn on_fetch_ok(&mut self, core: &mut Core, key: Key, token: Token, ok: &FetchOk) -> Read {
        let Some(fetch) = core.outgoing_fetches.get(&token) else { return Ok(Progress::More) };
        // The end is that of the answer, so that it can be before the end that was asked for, but not before
        // the start (9.12).
        let start = (fetch.sequence, fetch.range.first);
        if (ok.end.group, ok.end.object.unwrap_or(u64::MAX)) < start {
            return fault("the end of a FETCH before its start");
        }
        // A mandatory property that is not understood makes the track unreadable (3.7).
        if ok.properties.mandatory.is_some() {
            fetching::abort(self, core, token, Error::Unsupported);
            return Ok(Progress::More);
        }
        let timed = Some(ok.properties.timescale.is_some());
        self.set_role(key, Role::OutgoingFetch { fetch: token, timed });
        Ok(Progress::More)
    }

    /// A stream answers a FETCH of ours. The group begins with its first record, because that may say that there
    /// is no group. `len`: the header.
    pub(super) fn read_fetch_stream(
        &mut self,
        core: &mut Core,
        key: Key,
        id: u64,
        len: usize,
    ) -> Read {
        let role = self.ids.find(id).map(|request| &*self.role(request));
        let known = match role {
            Some(Role::OutgoingFetch { fetch, timed }) => {
                let wanted = core.outgoing_fetches.get(fetch).filter(|it| it.group.is_none());
                wanted.map(|wanted| (*fetch, *timed, *wanted))
            }
            _ => None,
        };
        let Some((token, timed, wanted)) = known else {
            core.recv_streams.stop(&mut core.actions, key, &Error::Cancelled);
            return Ok(Progress::More);
        };
        let Some(stream) = core.recv_streams.get(key) else { return Ok(Progress::More) };
        // Before FETCH_OK it is not known whether the track has a timescale. A publisher that writes
        // timestamps has one.
        let timed = timed.unwrap_or(self.draft.properties > PropertyForm::None);
        let first = wanted.range.first;
        let reader = RecordReader::new(self.draft, wanted.sequence, first, timed);
        let no_group = match reader.peek(&stream.recv, len) {
            Err(Error::ProtocolViolation(rule)) => return fault(rule),
            Err(error) => Some(error),
            Ok(None) if !stream.recv.has_fin() => return Ok(Progress::More),
            Ok(None) if stream.recv.len() > len => Some(Error::WrongSize),
            Ok(Some((FetchRecord::Absent(_) | FetchRecord::Unknown(_), ..))) => {
                Some(Error::NotFound)
            }
            Ok(Some((FetchRecord::TimedOut(_), ..))) => Some(Error::Timeout),
            // Without a record the group is empty.
            Ok(_) => None,
        };
        if let Some(error) = no_group {
            core.recv_streams.stop(&mut core.actions, key, &error);
            fetching::end(self, core, token, Err(error));
            return Ok(Progress::More);
        }
        stream.recv.skip(len);
        let (owner, heads) = (GroupOwner::Fetch(token), HeadReader::Records(Box::new(reader)));
        let reader = GroupReader::new(owner, wanted.priority, heads, wanted.range.len());
        core.recv_streams.begin_answer(key, reader);
        core.outgoing_fetches.insert(token, OutgoingFetch { group: Some(key), ..wanted });
        let group = GroupKey::of(key);
        Ok(Progress::Event(Event::FetchStarted { fetch: token, group }))
    }
}
