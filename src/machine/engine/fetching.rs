//! FETCH in both directions: its answer and its end.

use alloc::boxed::Box;

use super::core::Core;
use super::dialect::{Dialect, FetchDialect};
use super::fetches::{AnswerStream, FetchId, OutgoingFetch, RangeAnswer};
use super::groups;
use super::publishing;
use super::schedule::{GroupRef, ReleasedGroup};
use super::timers::Timer;
use crate::error::Error;
use crate::machine::event::{Event, FetchRange, FramePosition, GroupKey, ObjectRun, RequestKey};
use crate::machine::io::Action;
use crate::machine::run::FrameRange;
use crate::machine::source::Token;
use crate::path::Path;
use crate::slab::Key;
use crate::subscription::TrackInfo;

/// The application asks for a group. A failure is reported like any other end of a FETCH.
pub(crate) fn begin(
    dialect: &mut impl Dialect,
    core: &mut Core,
    fetch: Token,
    names: (Path, Box<str>),
    wanted: OutgoingFetch,
) {
    if let Err(error) = send(dialect, core, FetchId::Token(fetch), names, wanted) {
        core.notices.push_back(Event::FetchEnded { fetch, result: Err(error) });
    }
}

/// Sends FETCH.
pub(crate) fn send(
    dialect: &mut impl FetchDialect,
    core: &mut Core,
    id: FetchId,
    names: (Path, Box<str>),
    wanted: OutgoingFetch,
) -> Result<(), Error> {
    core.admit_fetch(id)?;
    let request = dialect.fetch(core, id, names, &wanted)?;
    let until = core.now + core.limits.unbound_timeout;
    if let FetchId::Head(tail) = id {
        core.timers.set(until, Timer::Head(tail));
    }
    core.outgoing_fetches.insert(id, OutgoingFetch { request, until, ..wanted });
    Ok(())
}

/// A FETCH of ours is over, and its group with it.
pub(crate) fn end(
    dialect: &mut impl Dialect,
    core: &mut Core,
    id: FetchId,
    result: Result<(), Error>,
) {
    let Some(fetch) = core.outgoing_fetches.remove(&id) else { return };
    end_request(dialect, core, fetch.request, &result);
    match (id, result) {
        (FetchId::Token(fetch), result) => {
            core.notices.push_back(Event::FetchEnded { fetch, result });
        }
        (FetchId::Head(tail), result) => {
            core.timers.unset(fetch.until, Timer::Head(tail));
            if let Err(error) = result {
                groups::drop_tail(dialect, core, tail, &error);
            }
        }
    }
}

/// The application does not want the group of a FETCH any more.
pub(crate) fn cancel(dialect: &mut impl Dialect, core: &mut Core, token: Token) {
    abort(dialect, core, FetchId::Token(token), Error::Cancelled);
}

/// A FETCH of ours can't go on, and neither can its group.
pub(crate) fn abort(dialect: &mut impl Dialect, core: &mut Core, id: FetchId, error: Error) {
    let Some(fetch) = core.outgoing_fetches.get(&id) else { return };
    if let Some(key) = fetch.group {
        core.recv_streams.stop(&mut core.actions, key, &error);
        if let FetchId::Token(_) = id {
            let (group, result) = (GroupKey::of(key), Err(error.clone()));
            core.notices.push_back(Event::GroupEnded { group, result });
        }
    }
    end(dialect, core, id, Err(error));
}

/// Schedules `group` as the answer to a FETCH of the peer. If the request is gone or was answered, the group is
/// released at once.
pub(crate) fn accept(
    dialect: &mut impl Dialect,
    core: &mut Core,
    key: Key,
    group: Token,
    info: &TrackInfo,
    frames: Option<u64>,
    ends_track: bool,
) {
    let fetch = core.incoming_fetches.get(&key).copied();
    let fetch = fetch.filter(|fetch| fetch.several.is_none());
    let ready = fetch.filter(|_| !core.schedule.has_track(key)).and_then(|fetch| {
        Some((fetch, dialect.answer_fetch(core, key, &fetch, info, frames, ends_track)?))
    });
    let Some((fetch, stream)) = ready else {
        return core.notices.push_back(Event::GroupReleased { group, sent: false });
    };
    core.schedule.add_track(key, fetch.priority, info.priority, false);
    let group_ref = GroupRef { request: key, place: (fetch.sequence, 0) };
    if let AnswerStream::Request(id) = stream {
        let priority = core.schedule.quic_priority(key);
        core.actions.push_back(Action::SetPriority { id, priority });
    }
    core.schedule.push_answer(group_ref, group, fetch.range, stream);
}

/// A FETCH of the peer is answered in parts, up to `end`. One for a single group can be as well.
pub(crate) fn accept_range(
    dialect: &mut impl Dialect,
    core: &mut Core,
    key: Key,
    info: &TrackInfo,
    end: FramePosition,
    ends_track: bool,
) {
    let is_new = !core.schedule.has_track(key);
    let Some(fetch) = core.incoming_fetches.get_mut(&key).filter(|_| is_new) else { return };
    let priority = fetch.priority;
    let FrameRange { first, .. } = fetch.range;
    let single =
        FetchRange { start: FramePosition::new(fetch.sequence, first), ..Default::default() };
    let answer = fetch.several.get_or_insert(RangeAnswer::new(single, None));
    answer.range.end = end;
    core.schedule.add_track(key, priority, info.priority, false);
    dialect.accept_range(core, key, info, end, ends_track);
}

/// Schedules the next part of an answer, or its end. Each follows on the stream of the one before.
pub(crate) fn push_part(
    dialect: &mut impl Dialect,
    core: &mut Core,
    key: Key,
    part: Option<(Token, ObjectRun)>,
    gap: bool,
) {
    let (token, run) = part.unzip();
    let fetch = core.incoming_fetches.get(&key).filter(|_| core.schedule.has_track(key));
    if fetch.is_none_or(|fetch| fetch.several.is_none()) {
        let unsent = token.map(|group| Event::GroupReleased { group, sent: false });
        return core.notices.extend(unsent);
    }
    let Some((head, layout)) = dialect.range_part(core, key, run, gap) else {
        let unsent = token.map(|group| Event::GroupReleased { group, sent: false });
        core.notices.extend(unsent);
        return give_up(dialect, core, key, &Error::Evicted);
    };
    let place = (run.map_or(0, |run| run.sequence), 0);
    let frames = run.map(|run| FrameRange::new(run.first_frame, run.last_frame));
    let group_ref = GroupRef { request: key, place };
    core.schedule.push_part(group_ref, token, frames.unwrap_or_default(), head, layout);
}

/// The answer to a FETCH of the peer can't go on, or is not wanted any more. Its streams are reset.
pub(crate) fn give_up(dialect: &mut impl Dialect, core: &mut Core, key: Key, error: &Error) {
    core.end_incoming(key, error);
    dialect.cancel(core, key, error);
    let (request, result) = (RequestKey::of(key), Err(error.clone()));
    core.notices.push_back(Event::RequestEnded { request, result });
}

/// The answer to a FETCH of the peer is out, or was given up; then its stream was reset.
pub(crate) fn end_if_answered(
    dialect: &mut impl Dialect,
    core: &mut Core,
    released: &ReleasedGroup,
) {
    let key = released.request;
    let Some(fetch) = core.incoming_fetches.get(&key).copied() else { return };
    if fetch.several.is_some() && released.sent && released.group.is_some() {
        // The next group follows.
        return;
    }
    if released.sent {
        dialect.on_fetch_sent(core, key, released.end);
    }
    let abandoned = core.requests.get(key).and_then(|request| request.abandoned());
    core.end_incoming(key, &Error::Closed);
    let result = match (released.sent, abandoned) {
        (true, _) => Ok(()),
        (false, Some(code)) => Err(Error::from_stream_code(code)),
        (false, None) => Err(Error::Cancelled),
    };
    end_request(dialect, core, key, &result);
    let request = RequestKey::of(key);
    core.notices.push_back(Event::RequestEnded { request, result });
    if let Some(subscription) = fetch.several.and_then(|answer| answer.fills) {
        publishing::end_fill(dialect, core, subscription, key);
    }
}

fn end_request(dialect: &mut impl Dialect, core: &mut Core, key: Key, result: &Result<(), Error>) {
    match result {
        Ok(()) => dialect.finish(core, key),
        Err(error) => dialect.cancel(core, key, error),
    }
}
