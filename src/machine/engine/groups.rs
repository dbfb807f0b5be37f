//! Groups that arrive, each on a stream of its own.

use super::core::Core;
use super::dialect::{Dialect, Progress};
use super::recv_streams::{GroupHeader, GroupOwner, GroupPart, GroupRead, StreamState};
use super::{fetching, subscribing};
use crate::error::Error;
use crate::machine::event::{Event, GroupKey};
use crate::slab::Key;

/// Reads the header of a group, its next frame, or a piece of one.
pub(crate) fn read(dialect: &mut impl Dialect, core: &mut Core, key: Key) -> Progress {
    let Some(stream) = core.recv_streams.get(key) else { return Progress::More };
    let progress = match &mut stream.state {
        StreamState::New | StreamState::Control => return Progress::More,
        StreamState::Header => match dialect.read_group_header(core, key) {
            Ok(Some(header)) => bind(dialect, core, key, header),
            Ok(None) => Progress::Wait,
            Err(error) => {
                core.recv_streams.stop(&mut core.actions, key, &error);
                return Progress::More;
            }
        },
        StreamState::Waiting(header) => {
            let header = *header;
            bind(dialect, core, key, header)
        }
        StreamState::Group(reader) => {
            let read = reader.read(&mut stream.recv, &core.limits, &mut core.joined);
            let (owner, group) = (reader.owner, GroupKey::of(key));
            match read {
                Ok(GroupRead::Frame { timestamp, size, payload }) => {
                    Progress::Event(Event::Frame { group, timestamp, size, payload })
                }
                Ok(GroupRead::Payload(bytes)) => Progress::Event(Event::Payload { group, bytes }),
                Ok(GroupRead::Skipped) => Progress::More,
                Ok(GroupRead::NeedMore) => Progress::Wait,
                Ok(GroupRead::End) => return end(dialect, core, key, owner, Ok(())),
                // The layout says which faults concern more than the group.
                Err(Error::ProtocolViolation(rule)) => {
                    core.violation(rule);
                    return Progress::Wait;
                }
                Err(error) => return end(dialect, core, key, owner, Err(error)),
            }
        }
    };
    if let Some(stream) = core.recv_streams.get(key) {
        let starved = matches!(progress, Progress::Wait);
        if !matches!(stream.state, StreamState::Waiting(..)) {
            core.recv_streams.release(key, starved, &mut core.actions);
        }
        if !starved {
            core.recv_streams.queue(key);
        }
    }
    // Other streams may still have something.
    if matches!(progress, Progress::Wait) { Progress::More } else { progress }
}

/// Begins a group whose subscription and track are known, or makes it wait for them.
fn bind(dialect: &mut impl Dialect, core: &mut Core, key: Key, header: GroupHeader) -> Progress {
    let owner = core.outgoing.by_number(header.subscription);
    let known = owner.and_then(|it| Some((it, core.outgoing.get_mut(it)?)));
    let (owner, subscription) = match known {
        Some((owner, subscription)) if subscription.info.is_some() => (owner, subscription),
        None if !dialect.may_become_known(header.subscription) => {
            core.recv_streams.stop(&mut core.actions, key, &Error::Cancelled);
            return Progress::Wait;
        }
        _ => {
            core.hold_group(key, header);
            return Progress::Wait;
        }
    };
    let (token, sequence) = (subscription.token, header.sequence);
    // The publisher promised with START that nothing below it comes.
    if subscription.late || subscription.start.is_some_and(|start| sequence < start) {
        core.recv_streams.stop(&mut core.actions, key, &Error::Cancelled);
        return Progress::Wait;
    }
    subscription.seen += 1;
    if header.part == GroupPart::Group {
        subscription.active.push(key);
        let layout = header.layout.of_track(subscription.timed);
        core.recv_streams.begin(key, layout, owner, subscription.priority);
        let (group, first_frame) = (GroupKey::of(key), header.first_frame);
        return Progress::Event(Event::Group { subscription: token, group, sequence, first_frame });
    }
    let is_end = header.part == GroupPart::EndOfTrack;
    if is_end {
        subscription.end = Some(sequence);
    }
    core.recv_streams.stop(&mut core.actions, key, &Error::Cancelled);
    subscribing::end_if_complete(dialect, core, owner);
    if is_end {
        return Progress::Wait;
    }
    Progress::Event(Event::GroupRefused { subscription: token, sequence })
}

fn end(
    dialect: &mut impl Dialect,
    core: &mut Core,
    key: Key,
    owner: GroupOwner,
    result: Result<(), Error>,
) -> Progress {
    let error = result.clone().err().unwrap_or(Error::Cancelled);
    core.recv_streams.stop(&mut core.actions, key, &error);
    match owner {
        GroupOwner::Subscription(owner) => {
            if let Some(subscription) = core.outgoing.get_mut(owner) {
                subscription.active.retain(|active| *active != key);
                subscribing::end_if_complete(dialect, core, owner);
            }
        }
        GroupOwner::Fetch(token) => fetching::end(dialect, core, token, result.clone()),
    }
    Progress::Event(Event::GroupEnded { group: GroupKey::of(key), result })
}

/// The application does not want the rest of a group. It gets no event for that.
pub(crate) fn stop(dialect: &mut impl Dialect, core: &mut Core, key: Key, error: &Error) {
    let Some(stream) = core.recv_streams.get(key) else { return };
    if let StreamState::Group(reader) = &stream.state {
        let owner = reader.owner;
        let _ = end(dialect, core, key, owner, Err(error.clone()));
    }
}
