//! FETCH: one group, requested by its number (moq-transport-22, 3.2, 9.11, 9.12 and 11.4).
//!
//! The answer is a message on the request, and the group on a unidirectional stream. Either may come first.

use alloc::boxed::Box;

use bytes::BytesMut;

use super::ranges::{begin_range, range_of};
use super::roles::Role;
use super::session::{Ietf, Read, fault};
use crate::coding::ietf::{
    Fetch, FetchEnd, FetchForm, FetchOk, FetchRecord, FetchTarget, Filter, GroupOrder,
    INVALID_RANGE, Location, Message, Parameters, PropertyForm, TrackProperties, UniStream,
};
use crate::error::Error;
use crate::machine::engine::{
    AnswerStream, Core, Dialect, FetchDialect, FetchId, GroupHeader, GroupOwner, GroupReader,
    IncomingFetch, OutgoingFetch, Progress, RangeAnswer, StreamState, fetching, groups,
};
use crate::machine::event::{
    Event, FetchRange, FramePosition, GroupKey, ObjectRun, RangeTarget, RequestKey,
};
use crate::machine::layout::{Head, HeadReader, RecordFront, RecordReader, RecordWriter};
use crate::machine::run::FrameRange;
use crate::path::Path;
use crate::slab::Key;
use crate::subscription::TrackInfo;

impl FetchDialect for Ietf {
    /// Writes FETCH_OK, if the end of the answer is known by now (3.2), and begins the stream of the answer.
    fn answer_fetch(
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
        if !self.write_fetch_ok(core, key, fetch, &properties, frames, ends_track) {
            self.set_role(key, Role::IncomingFetch(Some(Box::new(properties))));
        }
        let (order, properties) = (GroupOrder::Ascending, self.sends_properties(info));
        let mut records = RecordWriter::new(self.draft, order, info.priority, properties);
        let layout = records.objects(ObjectRun::of_group(fetch.sequence));
        Some(AnswerStream::Own { head: Head::from_slice(&head), layout })
    }

    /// The answer to a FETCH is out: writes FETCH_OK, if its end was not known before.
    fn on_fetch_sent(&mut self, core: &mut Core, key: Key, end: u64) {
        let Role::IncomingFetch(properties) = self.role(key) else { return };
        let (properties, fetch) = (properties.take(), core.incoming_fetches.get(&key).copied());
        if let Some((properties, fetch)) = properties.zip(fetch) {
            self.write_fetch_ok(core, key, &fetch, &properties, Some(end), false);
        }
    }

    /// A subscription begins inside of a group: requests the objects before. A FETCH by location does it in every
    /// draft, and only where objects are missing (*Joining an Ongoing Track*).
    fn fetch_head(&mut self, core: &mut Core, stream: Key, header: &GroupHeader) -> bool {
        let owner = core.outgoing.by_number(header.subscription);
        let Some(sub) = owner.and_then(|owner| core.outgoing.get(owner)) else { return false };
        let Some(names) = sub.names.as_deref().cloned() else { return false };
        let range = FrameRange::new(0, header.first_frame.checked_sub(1));
        let wanted = OutgoingFetch::new(sub.priority, header.sequence, range);
        fetching::send(self, core, FetchId::Head(stream), names, wanted).is_ok()
    }

    fn fetch(
        &mut self,
        core: &mut Core,
        fetch: FetchId,
        (namespace, track): (Path, Box<str>),
        wanted: &OutgoingFetch,
    ) -> Result<Key, Error> {
        let (target, parameters) = self.target_of(namespace, track, wanted);
        let role = Role::OutgoingFetch { fetch, timed: None };
        let make = |id| Message::Fetch(Fetch { id, target, parameters });
        Ok(self.open(core, role, make)?)
    }
}

// ---- as publisher ----------------------------------------------------------------------------

impl Ietf {
    /// FETCH of the peer. One group may come from elsewhere, so that it is requested as such, unless FILL_TIMEOUT is 0: then
    /// the cache alone answers, as for several groups (9.20.5).
    pub(super) fn on_fetch(&mut self, core: &mut Core, key: Key, message: Fetch) -> Progress {
        let Fetch { target, parameters, .. } = message;
        let (broadcast, track, range) = match target {
            FetchTarget::Track { namespace, track } => {
                (namespace, track, range_of(parameters.filter))
            }
            FetchTarget::Standalone { namespace, track, start, end } => {
                let end = FramePosition::new(end.group, end.object.unwrap_or(u64::MAX));
                let range = FetchRange { start: start.into(), end, ..FetchRange::default() };
                (namespace, track, range)
            }
            FetchTarget::Relative { joins, groups_back } => {
                let filter = Filter::GroupsBack(groups_back.saturating_add(1));
                return self.on_join(core, key, joins, filter, parameters);
            }
            FetchTarget::Absolute { joins, group } => {
                let filter = Filter::From(Location::new(group, 0));
                return self.on_join(core, key, joins, filter, parameters);
            }
        };
        let FetchRange { start, end, groups_back, .. } = range;
        if end < start {
            return self.refuse(core, key, INVALID_RANGE);
        }
        let priority = parameters.priority.unwrap_or(127);
        self.set_role(key, Role::IncomingFetch(None));
        let fill_timeout = parameters.fill_timeout;
        if fill_timeout.is_some() || start.group != end.group || groups_back.is_some() {
            let descending = parameters.order == Some(GroupOrder::Descending);
            let range = FetchRange { descending, fill_timeout, ..range };
            let target = RangeTarget::Track { broadcast, track };
            let answer = RangeAnswer::new(range, None);
            let tokens = parameters.shown;
            return Progress::Event(begin_range(core, key, target, priority, answer, tokens));
        }
        let (sequence, first_frame) = (start.group, start.frame);
        let last_frame = Some(end.frame).filter(|frame| *frame < u64::MAX);
        let range = FrameRange::new(first_frame, last_frame);
        let fetch = IncomingFetch { priority, sequence, range, several: None };
        core.incoming_fetches.insert(key, fetch);
        let request = RequestKey::of(key);
        Progress::Event(Event::FetchRequested {
            request,
            broadcast,
            track,
            priority,
            sequence,
            first_frame,
            last_frame,
            tokens: parameters.shown,
        })
    }

    /// Writes FETCH_OK. Returns `false` if its end, which is that of the last object, is not known yet (9.12).
    fn write_fetch_ok(
        &mut self,
        core: &mut Core,
        key: Key,
        fetch: &IncomingFetch,
        properties: &TrackProperties,
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
        let ok = FetchOk {
            id: self.reply_id(key),
            end_of_track,
            end: FetchEnd { group: fetch.sequence, object },
            parameters: self.state(GroupOrder::Ascending),
            properties: properties.clone(),
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
    pub(super) fn give_up_fetch(&mut self, core: &mut Core, key: Key, error: &Error) {
        core.end_incoming(key, error);
        self.set_role(key, Role::Done);
        self.cancel(core, key, error);
    }

    /// Reads an update of a FETCH, or the end of the peer's interest. FIN alone only says that no update follows.
    pub(super) fn read_incoming_fetch(&mut self, core: &mut Core, key: Key) -> Read {
        if let Some(error) = core.requests.abandoned(key) {
            self.give_up_fetch(core, key, &error);
            return Ok(Progress::request_ended(key, error));
        }
        let update = match self.next_message(core, key)? {
            None => return Ok(Progress::Wait),
            Some(Message::RequestUpdate(update)) => update,
            Some(_) => return fault("not a message of a FETCH"),
        };
        if let Some(code) = update.parameters.unusable {
            // A failed update resets the stream of the answer (9.5.1).
            self.answer_update(core, key, update.id, Some(code));
            let is_answered = core.schedule.has_track(key);
            core.end_incoming(key, &Error::Unsupported);
            match is_answered {
                true => self.finish(core, key),
                false => drop(self.refuse(core, key, code)),
            }
            return Ok(Progress::request_ended(key, Error::Unsupported));
        }
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
        id: FetchId,
        is_answered: bool,
    ) -> Read {
        let Some(request) = core.requests.get(key) else { return Ok(Progress::Wait) };
        let Some(fetch) = core.outgoing_fetches.get(&id).copied() else {
            return Ok(Progress::Wait);
        };
        let end = request.cut_off().filter(|_| fetch.group.is_none());
        // After the answer FIN means nothing.
        if let Some(error) = end.filter(|_| !is_answered || request.recv.reset().is_some()) {
            fetching::end(self, core, id, Err(error));
            return Ok(Progress::More);
        }
        match self.next_message(core, key)? {
            None => Ok(Progress::Wait),
            Some(Message::FetchOk(ok)) if !is_answered => self.on_fetch_ok(core, key, id, &ok),
            Some(Message::RequestError(error)) if !is_answered => {
                let error = match error.code {
                    // Nothing was published in the range.
                    INVALID_RANGE => Error::NotFound,
                    code => self.draft.request_error(code),
                };
                fetching::abort(self, core, id, error);
                Ok(Progress::More)
            }
            Some(_) => fault("not an answer to FETCH"),
        }
    }

    fn on_fetch_ok(&mut self, core: &mut Core, key: Key, id: FetchId, ok: &FetchOk) -> Read {
        let Some(fetch) = core.outgoing_fetches.get(&id) else { return Ok(Progress::More) };
        // The end is that of the answer, so that it can be before the end that was asked for, but not before
        // the start (9.12).
        let start = (fetch.sequence, fetch.range.first);
        if (ok.end.group, ok.end.object.unwrap_or(u64::MAX)) < start {
            return fault("the end of a FETCH before its start");
        }
        // A mandatory property that is not understood makes the track unreadable (3.7).
        if ok.properties.unusable.is_some() {
            fetching::abort(self, core, id, Error::UnknownProperty);
            return Ok(Progress::More);
        }
        let timed = Some(ok.properties.timescale.is_some());
        self.set_role(key, Role::OutgoingFetch { fetch: id, timed });
        Ok(Progress::More)
    }

    /// A stream answers the FETCH of this id. `len`: its header.
    pub(super) fn read_fetch_header(&mut self, core: &mut Core, key: Key, id: u64, len: usize) {
        let fetch = match self.ids.find(id).map(|request| &*self.role(request)) {
            Some(Role::OutgoingFetch { fetch, .. }) => Some(*fetch),
            _ => None,
        };
        match (fetch, core.recv_streams.get(key)) {
            (Some(fetch), Some(stream)) => {
                stream.recv.skip(len);
                stream.state = StreamState::Answer(fetch);
                core.recv_streams.queue(key);
            }
            _ => drop(core.recv_streams.stop(&mut core.actions, key, &Error::Cancelled)),
        }
    }

    /// The group of a FETCH begins with its first record, because that may say that there is no group.
    pub(super) fn read_first_record(&mut self, core: &mut Core, key: Key, fetch: FetchId) -> Read {
        let wanted = core.outgoing_fetches.get(&fetch).filter(|it| it.group.is_none()).copied();
        let Some((stream, wanted)) = core.recv_streams.get(key).zip(wanted) else {
            core.recv_streams.stop(&mut core.actions, key, &Error::Cancelled);
            return Ok(Progress::More);
        };
        // Before FETCH_OK it is not known whether the track has a timescale. A publisher that writes
        // timestamps has one.
        let timed = match self.role(wanted.request) {
            Role::OutgoingFetch { timed: Some(timed), .. } => *timed,
            _ => self.draft.properties > PropertyForm::None,
        };
        let first = wanted.range.first;
        let reader = RecordReader::new(self.draft, wanted.sequence, first, timed);
        let mut front = RecordFront::default();
        let no_group = match reader.peek(&stream.recv, &mut front) {
            _ if stream.recv.reset().is_some() => stream.recv.reset().map(Error::from_stream_code),
            Err(Error::ProtocolViolation(rule)) => return fault(rule),
            Err(error) => Some(error),
            Ok(None) if !stream.recv.has_fin() => return Ok(Progress::More),
            Ok(None) if stream.recv.len() > 0 => Some(Error::WrongSize),
            Ok(Some((FetchRecord::Absent(_) | FetchRecord::Unknown(_), ..))) => {
                Some(Error::NotFound)
            }
            Ok(Some((FetchRecord::TimedOut(_), ..))) => Some(Error::Timeout),
            // Without a record the group is empty.
            Ok(_) => None,
        };
        if let Some(error) = no_group {
            core.recv_streams.stop(&mut core.actions, key, &error);
            fetching::end(self, core, fetch, Err(error));
            return Ok(Progress::More);
        }
        let (owner, heads) = (GroupOwner::Fetch(fetch), HeadReader::Records(Box::new(reader)));
        let reader = GroupReader::new(owner, wanted.priority, heads, wanted.range.len());
        core.recv_streams.begin_answer(key, reader);
        core.outgoing_fetches.insert(fetch, OutgoingFetch { group: Some(key), ..wanted });
        Ok(match fetch {
            FetchId::Token(fetch) => {
                Progress::Event(Event::FetchStarted { fetch, group: GroupKey::of(key) })
            }
            FetchId::Head(tail) => {
                groups::begin_head(core, tail).map_or(Progress::More, Progress::Event)
            }
        })
    }
}
