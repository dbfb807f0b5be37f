//! FETCH in both directions: its answer and its end.

use super::core::Core;
use super::dialect::Dialect;
use super::fetches::AnswerStream;
use super::schedule::{GroupRef, ReleasedGroup};
use crate::error::Error;
use crate::machine::event::{Event, GroupKey, RequestKey};
use crate::machine::io::Action;
use crate::machine::source::Token;
use crate::slab::Key;
use crate::subscription::TrackInfo;

/// A FETCH of ours is over, and its group with it.
pub(crate) fn end(
    dialect: &mut impl Dialect,
    core: &mut Core,
    token: Token,
    result: Result<(), Error>,
) {
    let Some(fetch) = core.outgoing_fetches.remove(&token) else { return };
    end_request(dialect, core, fetch.request, &result);
    core.notices.push_back(Event::FetchEnded { fetch: token, result });
}

/// The application does not want the group of a FETCH any more.
pub(crate) fn cancel(dialect: &mut impl Dialect, core: &mut Core, token: Token) {
    abort(dialect, core, token, Error::Cancelled);
}

/// A FETCH of ours can't go on, and neither can its group.
pub(crate) fn abort(dialect: &mut impl Dialect, core: &mut Core, token: Token, error: Error) {
    let Some(fetch) = core.outgoing_fetches.get(&token) else { return };
    if let Some(key) = fetch.group {
        let (group, result) = (GroupKey::of(key), Err(error.clone()));
        core.recv_streams.stop(&mut core.actions, key, &error);
        core.notices.push_back(Event::GroupEnded { group, result });
    }
    end(dialect, core, token, Err(error));
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
    let ready = fetch.filter(|_| !core.schedule.has_track(key)).and_then(|fetch| {
        Some((fetch, dialect.answer_fetch(core, key, &fetch, info, frames, ends_track)?))
    });
    let Some((fetch, stream)) = ready else {
        return core.notices.push_back(Event::GroupReleased { group, sent: false });
    };
    core.schedule.add_track(key, fetch.priority, info.priority, false);
    let group_ref = GroupRef { request: key, sequence: fetch.sequence };
    if let AnswerStream::Request(id) = stream {
        let priority = core.schedule.quic_priority(key);
        core.actions.push_back(Action::SetPriority { id, priority });
    }
    core.schedule.push_answer(group_ref, group, fetch.range, stream);
}

/// The answer to a FETCH of the peer is out, or was given up; then its stream was reset.
pub(crate) fn end_if_answered(
    dialect: &mut impl Dialect,
    core: &mut Core,
    released: &ReleasedGroup,
) {
    let key = released.request;
    if !core.incoming_fetches.contains_key(&key) {
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
}

fn end_request(dialect: &mut impl Dialect, core: &mut Core, key: Key, result: &Result<(), Error>) {
    match result {
        Ok(()) => dialect.finish(core, key),
        Err(error) => dialect.cancel(core, key, error),
    }
}
