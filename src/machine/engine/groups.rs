//! Groups that arrive, each on a stream of its own.

use super::core::Core;
use super::dialect::{Dialect, Progress};
use super::fetches::FetchId;
use super::recv_streams::{
    GroupHeader, GroupOwner, GroupPart, GroupRead, GroupReader, StreamState, TailStream,
};
use super::{fetching, subscribing};
use crate::error::Error;
use crate::machine::event::{Event, GroupKey, Subgroup};
use crate::machine::source::Token;
use crate::slab::Key;

/// Reads the header of a group, its next frame, or a piece of one.
pub(crate) fn read(dialect: &mut impl Dialect, core: &mut Core, key: Key) -> Progress {
    let Some(stream) = core.recv_streams.get(key) else { return Progress::More };
    let progress = match &mut stream.state {
        StreamState::New | StreamState::Control | StreamState::Answer(_) | StreamState::Tail(_) => {
            return Progress::More;
        }
        StreamState::Header => match dialect.read_group_header(core, key) {
            Ok(Some(header)) => bind(dialect, core, key, header),
            Ok(None) => Progress::Wait,
            Err(Error::ProtocolViolation(rule)) => {
                core.violation(rule);
                return Progress::Wait;
            }
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
            let read = reader.read(&mut stream.recv, &core.limits, &mut core.chunk_list);
            let owner = reader.owner;
            let group = match owner {
                GroupOwner::Fetch(FetchId::Head(tail)) => GroupKey::of(tail),
                _ => GroupKey::of(key),
            };
            match read {
                Ok(GroupRead::Frame { timestamp, properties, size, payload }) => {
                    Progress::Event(Event::Frame { group, timestamp, properties, size, payload })
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
                Err(error) => {
                    let progress = end(dialect, core, key, owner, Err(error.clone()));
                    if let (GroupOwner::Subscription(owner), true) =
                        (owner, dialect.ends_track(&error))
                    {
                        subscribing::end_now(dialect, core, owner, Err(error));
                    }
                    return progress;
                }
            }
        }
    };
    if let Some(stream) = core.recv_streams.get(key) {
        let starved = matches!(progress, Progress::Wait);
        if !matches!(stream.state, StreamState::Waiting(_) | StreamState::Tail(_)) {
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
    // Where all parts are wanted, nothing is missing before a stream if the first object came in a datagram.
    let follows_datagram =
        header.subgroup.is_some() && subscription.datagram_group == Some(sequence);
    if header.part == GroupPart::Group && header.first_frame > 0 && !follows_datagram {
        subscription.active.push(key);
        return begin_tail(dialect, core, key, TailStream { owner, header, has_begun: false });
    }
    if header.part == GroupPart::Group
        || header.part == GroupPart::Other && header.subgroup.is_some()
    {
        subscription.active.push(key);
        let layout = header.layout.of_track(subscription.timed);
        core.recv_streams.begin(key, layout, owner, subscription.priority);
        return Progress::Event(header.begins(token, key));
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

// ---- groups that begin before their stream ---------------------------------------------------

/// Requests the frames before the first one on the stream. Until they are read the stream waits.
fn begin_tail(dialect: &mut impl Dialect, core: &mut Core, key: Key, tail: TailStream) -> Progress {
    core.recv_streams.wait_for_head(key, tail);
    if !dialect.fetch_head(core, key, &tail.header) {
        drop_tail(dialect, core, key, &Error::Cancelled);
    }
    Progress::Wait
}

/// The frames before the first one on the stream `key` begin to arrive. `None` if the stream is gone.
pub(crate) fn begin_head(core: &mut Core, key: Key) -> Option<Event> {
    let tail = core.recv_streams.tail_mut(key)?;
    tail.has_begun = true;
    let (owner, header) = (tail.owner, GroupHeader { first_frame: 0, ..tail.header });
    Some(header.begins(core.outgoing.get(owner)?.token, key))
}

impl GroupHeader {
    /// The event that the group on the stream `key` begins.
    fn begins(self, subscription: Token, key: Key) -> Event {
        let Self { sequence, first_frame, subgroup, .. } = self;
        let group = GroupKey::of(key);
        match subgroup {
            None => Event::Group { subscription, group, sequence, first_frame },
            Some(subgroup) => {
                let subgroup = Subgroup { first_frame, ..subgroup };
                Event::Subgroup { subscription, group, sequence, subgroup }
            }
        }
    }
}

/// The frames before the first one on the stream `key` did not begin to arrive in time.
pub(crate) fn on_head_timeout(dialect: &mut impl Dialect, core: &mut Core, key: Key) {
    if core.recv_streams.tail_mut(key).is_some_and(|tail| !tail.has_begun) {
        fetching::abort(dialect, core, FetchId::Head(key), Error::Timeout);
    }
}

/// `head` has read the frames before the first one on the stream `key`, which is read now.
fn end_head(dialect: &mut impl Dialect, core: &mut Core, key: Key, head: GroupReader) {
    let id = FetchId::Head(key);
    let Some(tail) = core.recv_streams.tail_mut(key).copied() else {
        return fetching::end(dialect, core, id, Err(Error::Cancelled));
    };
    if head.frames() < tail.header.first_frame {
        return fetching::end(dialect, core, id, Err(Error::Lagged));
    }
    fetching::end(dialect, core, id, Ok(()));
    let timed = core.outgoing.get(tail.owner).is_some_and(|subscription| subscription.timed);
    let layout = tail.header.layout.of_track(timed);
    core.recv_streams.begin_answer(key, head.resume(GroupOwner::Subscription(tail.owner), layout));
    core.recv_streams.release(key, true, &mut core.actions);
}

/// The frames before the first one on the stream `key` will not come, and so the group is lost.
pub(crate) fn drop_tail(dialect: &mut impl Dialect, core: &mut Core, key: Key, error: &Error) {
    let Some(tail) = core.recv_streams.tail_mut(key).copied() else { return };
    core.recv_streams.stop(&mut core.actions, key, error);
    let Some(subscription) = core.outgoing.get_mut(tail.owner) else { return };
    subscription.active.retain(|active| *active != key);
    let (token, sequence) = (subscription.token, tail.header.sequence);
    core.notices.push_back(match tail.has_begun {
        true => Event::GroupEnded { group: GroupKey::of(key), result: Err(error.clone()) },
        false => Event::GroupRefused { subscription: token, sequence },
    });
    subscribing::end_if_complete(dialect, core, tail.owner);
}

// ---- ends ------------------------------------------------------------------------------------

fn end(
    dialect: &mut impl Dialect,
    core: &mut Core,
    key: Key,
    owner: GroupOwner,
    result: Result<(), Error>,
) -> Progress {
    let error = result.clone().err().unwrap_or(Error::Cancelled);
    let stream = core.recv_streams.stop(&mut core.actions, key, &error);
    match owner {
        GroupOwner::Subscription(owner) => {
            if let Some(subscription) = core.outgoing.get_mut(owner) {
                subscription.active.retain(|active| *active != key);
                subscribing::end_if_complete(dialect, core, owner);
            }
        }
        GroupOwner::Fetch(FetchId::Head(tail)) => {
            match (result, stream.map(|stream| stream.state)) {
                (Ok(()), Some(StreamState::Group(head))) => end_head(dialect, core, tail, head),
                _ => fetching::end(dialect, core, FetchId::Head(tail), Err(error)),
            }
            return Progress::More;
        }
        GroupOwner::Fetch(id) => fetching::end(dialect, core, id, result.clone()),
    }
    Progress::Event(Event::GroupEnded { group: GroupKey::of(key), result })
}

/// The application does not want the rest of a group. It gets no event for that.
pub(crate) fn stop(dialect: &mut impl Dialect, core: &mut Core, key: Key, error: &Error) {
    let Some(stream) = core.recv_streams.get(key) else { return };
    match &stream.state {
        StreamState::Group(reader) => {
            let owner = reader.owner;
            let _ = end(dialect, core, key, owner, Err(error.clone()));
        }
        StreamState::Tail(tail) => {
            let owner = tail.owner;
            let _ = end(dialect, core, key, GroupOwner::Subscription(owner), Err(error.clone()));
            fetching::abort(dialect, core, FetchId::Head(key), error.clone());
        }
        _ => {}
    }
}
