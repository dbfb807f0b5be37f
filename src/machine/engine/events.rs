//! The order of events: released groups, then effects of commands, then streams: set-up, requests,
//! datagrams, groups by priority.

use super::core::{Core, SessionState};
use super::dialect::{Dialect, Progress};
use super::{groups, publishing, subscribing};
use crate::error::Error;
use crate::machine::event::Event;

/// Whether [`poll_event`] may return something.
pub(crate) fn has_events(core: &Core) -> bool {
    let is_ready = core.is_ready();
    core.recv_streams.has_new()
        || (is_ready || core.sets_up_on_request) && core.requests.has_readable()
        || is_ready && (core.recv_streams.has_frames() || core.datagrams.has_arrived())
}

/// The next event. After the last one of a lost connection comes the end of the session.
pub(crate) fn poll_event(dialect: &mut impl Dialect, core: &mut Core) -> Option<Event> {
    if core.state == SessionState::Closed {
        return core.notices.pop_front();
    }
    while let Some(released) = core.schedule.released.pop_front() {
        if let Some(event) = publishing::on_released(dialect, core, released) {
            return Some(event);
        }
    }
    if let Some(event) = core.notices.pop_front().or_else(|| decode(dialect, core)) {
        return Some(event);
    }
    if core.notices.is_empty() && core.state == SessionState::Lost {
        subscribing::on_connection_lost(dialect, core);
        if core.notices.is_empty() {
            let error = core.lost.take().unwrap_or(Error::SessionClosed);
            core.end(error);
        }
    }
    core.notices.pop_front()
}

/// Decodes until there is an event, or nothing more to decode.
fn decode(dialect: &mut impl Dialect, core: &mut Core) -> Option<Event> {
    while core.state != SessionState::Closed && core.agreed_on.is_none() {
        let is_ready = core.is_ready();
        let progress = if let Some(key) = core.recv_streams.next_new() {
            dialect.read_uni_stream(core, key)
        } else if !is_ready && !core.sets_up_on_request {
            return None;
        } else if let Some(key) = core.requests.next_readable() {
            let progress = dialect.read_request(core, key);
            let starved = matches!(progress, Progress::Wait);
            // A request that waits for the set-up does not need more bytes.
            let needs_more = starved && core.is_ready();
            core.requests.consumed(key, needs_more, &mut core.actions);
            if !starved {
                core.requests.queue_read(key);
            }
            progress
        } else if !is_ready {
            return None;
        } else if let Some(bytes) = core.datagrams.pop() {
            let progress = dialect.read_datagram(core, bytes);
            core.datagrams.lost += u64::from(matches!(progress, Progress::Wait));
            progress
        } else if let Some(key) = core.recv_streams.next_frames() {
            groups::read(dialect, core, key)
        } else {
            return None;
        };
        if let Progress::Event(event) = progress {
            return Some(event);
        }
    }
    None
}
