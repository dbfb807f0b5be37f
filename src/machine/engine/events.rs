//! Which stream is read next: set-up, then requests, then datagrams, then groups by priority.

use super::core::{Core, SessionState};
use super::dialect::{Dialect, Progress};
use super::groups;
use crate::machine::event::Event;

/// Whether [`poll_event`] may return something.
pub(crate) fn has_events(dialect: &impl Dialect, core: &Core) -> bool {
    let is_ready = dialect.is_ready(core);
    core.recv_streams.has_new()
        || (is_ready || dialect.sets_up_on_request()) && core.requests.has_readable()
        || is_ready && (core.recv_streams.has_frames() || core.datagrams.has_arrived())
}

/// Decodes until there is an event, or nothing more to decode.
pub(crate) fn poll_event(dialect: &mut impl Dialect, core: &mut Core) -> Option<Event> {
    while core.state != SessionState::Closed {
        let is_ready = dialect.is_ready(core);
        let progress = if let Some(key) = core.recv_streams.next_new() {
            dialect.read_uni_stream(core, key)
        } else if !is_ready && !dialect.sets_up_on_request() {
            return None;
        } else if let Some(key) = core.requests.next_readable() {
            let progress = dialect.read_request(core, key);
            let starved = matches!(progress, Progress::Wait);
            // A request that waits for the set-up does not need more bytes.
            let needs_more = starved && dialect.is_ready(core);
            core.requests.consumed(key, needs_more, &mut core.actions);
            if !starved {
                core.requests.queue_read(key);
            }
            progress
        } else if !is_ready {
            return None;
        } else if let Some(bytes) = core.datagrams.pop() {
            let event = dialect.read_datagram(core, bytes);
            core.datagrams.lost += u64::from(event.is_none());
            event.map_or(Progress::More, Progress::Event)
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
