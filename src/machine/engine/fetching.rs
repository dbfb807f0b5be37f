//! FETCH in both directions, once it is accepted: its end.

use super::core::Core;
use super::dialect::Dialect;
use super::schedule::ReleasedGroup;
use crate::error::Error;
use crate::machine::event::{Event, GroupKey, RequestKey};
use crate::machine::source::Token;
use crate::slab::Key;

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
    let Some(fetch) = core.outgoing_fetches.get(&token) else { return };
    if let Some(key) = fetch.group {
        let (group, result) = (GroupKey::of(key), Err(Error::Cancelled));
        core.recv_streams.stop(&mut core.actions, key, &Error::Cancelled);
        core.notices.push_back(Event::GroupEnded { group, result });
    }
    end(dialect, core, token, Err(Error::Cancelled));
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
