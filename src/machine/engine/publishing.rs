//! The peer's subscriptions to our tracks, once the application answers them.

use alloc::vec::Vec;

use bytes::Bytes;

use super::core::Core;
use super::datagrams::MAX_DATAGRAM;
use super::dialect::Dialect;
use super::fetching;
use super::schedule::{DatagramForm, GroupRef, Place, ReleasedGroup, Work};
use crate::error::Error;
use crate::machine::event::{Event, FramePosition, RequestKey, Subgroup};
use crate::machine::run::{FrameRange, Run};
use crate::machine::source::{Source, Supply, Token};
use crate::slab::Key;
use crate::subscription::TrackInfo;

pub(crate) fn accept_subscribe(
    dialect: &mut impl Dialect,
    core: &mut Core,
    key: Key,
    info: &TrackInfo,
    largest: Option<FramePosition>,
) {
    let Some(subscription) = core.incoming.get_mut(key) else { return };
    if core.schedule.has_track(key) {
        return;
    }
    let options = &mut subscription.options;
    options.new_group = None;
    core.schedule.add_track(key, options.priority, info.priority, options.ordered);
    subscription.publisher = info.priority;
    dialect.write_subscribe_ok(core, key, info, largest);
}

/// How a group is to be sent.
#[derive(Clone, Copy)]
pub(crate) enum SendAs {
    Stream,
    /// A datagram where that is possible, otherwise a stream.
    Datagram,
    /// A part of a group: on its stream, or as a datagram if it came as one.
    Subgroup(Subgroup),
}

/// A group is to be sent from its frame `first_frame` on.
pub(crate) fn push_group(
    dialect: &impl Dialect,
    core: &mut Core,
    key: Key,
    group: Token,
    (sequence, first_frame): (u64, u64),
    send_as: SendAs,
) {
    let subscription = core.incoming.get(key).filter(|it| it.ending.is_none() && !it.paused);
    let from = subscription.map_or(FramePosition::default(), |it| it.from);
    let subgroup = if let SendAs::Subgroup(it) = send_as { Some(it) } else { None };
    let object = subgroup.filter(Subgroup::is_datagram);
    let last = FramePosition::new(sequence, object.map_or(u64::MAX, |it| it.first_frame));
    let subscription = subscription.filter(|it| last >= it.from);
    // The subscription begins inside of the group, after the first object of this part of it.
    let begin = FramePosition::new(sequence, subgroup.map_or(first_frame, |it| it.first_frame));
    let range = FrameRange::new(first_frame, None);
    let (first_frame, range) = match object.is_none() && begin < from {
        true => (from.frame, range.starting_at(from.frame)),
        false => (first_frame, range),
    };
    let can_datagram = dialect.has_datagrams() && core.datagrams.max > 0;
    let datagram = match send_as {
        SendAs::Datagram => Some(DatagramForm { priority: None, ends_group: true }),
        SendAs::Subgroup(Subgroup {
            number: Subgroup::DATAGRAMS.., priority, ends_group, ..
        }) => Some(DatagramForm { priority, ends_group }),
        SendAs::Stream | SendAs::Subgroup(_) => None,
    };
    let datagram = datagram.filter(|_| can_datagram && first_frame == 0);
    let place = (sequence, subgroup.map_or(0, |it| it.number));
    let layout = subscription.and_then(|subscription| subscription.layout);
    // On a stream the first object of a group is its subgroup 0.
    let subgroup = subgroup.map(|it| match it.is_datagram() {
        true => Subgroup { number: 0, ..it },
        false => it,
    });
    let head = subscription.and_then(|it| dialect.group_head(it, sequence, first_frame, subgroup));
    let can_send = core.schedule.has_track(key) && (datagram.is_some() || may_stream(place));
    let Some(head) = head.filter(|_| can_send) else {
        return core.notices.push_back(Event::GroupReleased { group, sent: false });
    };
    let group_ref = GroupRef { request: key, place };
    let priority = subgroup.and_then(|it| it.priority);
    core.schedule.push(group_ref, group, range, (head, layout), datagram, priority);
}

/// Whether a group that no datagram can carry gets a stream. Of the objects of moq-transport only the first one of a group
/// does: others would be subgroups that nobody published.
fn may_stream((_, number): Place) -> bool {
    number <= Subgroup::DATAGRAMS
}

/// The group that should go as a datagram now. The scratch then holds two slices: the head of the
/// datagram, and the payload. Groups that no datagram can carry get a stream instead.
pub(crate) fn pick_datagram(
    dialect: &impl Dialect,
    core: &mut Core,
    source: &mut impl Source,
) -> Option<GroupRef> {
    let Core { schedule, scratch, datagrams, incoming, .. } = core;
    loop {
        let (group_ref, token, form) = schedule.next_datagram()?;
        scratch.clear();
        let mut run = Run::payload_alone(scratch);
        let supply = source.frames(token, 0, &mut run);
        let (timestamp, properties) = (run.timestamp(), run.take_properties());
        let is_status = properties.as_ref().is_some_and(|it| it.status != 0);
        scratch.flush();
        // A group of two frames does not fit into a datagram, which has no place for a second head.
        let head = match supply {
            Supply::Gone(_) => {
                schedule.release(group_ref, false);
                continue;
            }
            Supply::Pending => {
                schedule.leave(group_ref, Work::Datagram);
                continue;
            }
            Supply::End if scratch.ends.len() == 1 => {
                incoming.get(group_ref.request).and_then(|it| {
                    let (place, properties) = (group_ref.place, properties.as_ref());
                    dialect.datagram_head(it, place, form, timestamp, properties, scratch.total)
                })
            }
            Supply::End | Supply::More => None,
        };
        // An object that came as a datagram may be as large as the path allows.
        let is_object = group_ref.place.1 >= Subgroup::DATAGRAMS;
        let max = if is_object { datagrams.max } else { datagrams.max.min(MAX_DATAGRAM) };
        match head.filter(|head| head.len() + scratch.total <= max) {
            Some(head) => {
                let mut chunks = core::mem::take(&mut scratch.chunks);
                let payload = match chunks.len() {
                    0 | 1 => chunks.pop().unwrap_or_default(),
                    _ => chunks.concat().into(),
                };
                scratch.total += head.len();
                scratch.chunks = Vec::from([Bytes::copy_from_slice(&head), payload]);
                return Some(group_ref);
            }
            None if may_stream(group_ref.place) && !is_status => schedule.move_to_stream(group_ref),
            None => drop(schedule.release(group_ref, false)),
        }
    }
}

/// No group will be given from `end` on.
pub(crate) fn finish_subscribe(dialect: &mut impl Dialect, core: &mut Core, key: Key, end: u64) {
    let Some(subscription) = core.incoming.get_mut(key) else { return };
    if core.schedule.has_track(key) {
        subscription.ending.get_or_insert(end);
        end_if_drained(dialect, core, key);
    }
}

/// The schedule gave up a group or sent all of it.
pub(crate) fn on_released(
    dialect: &mut impl Dialect,
    core: &mut Core,
    released: ReleasedGroup,
) -> Option<Event> {
    end_if_drained(dialect, core, released.request);
    fetching::end_if_answered(dialect, core, &released);
    let sent = released.sent;
    released.group.map(|group| Event::GroupReleased { group, sent })
}

/// An answer that filled a subscription is over.
pub(crate) fn end_fill(dialect: &mut impl Dialect, core: &mut Core, key: Key, fill: Key) {
    if let Some(subscription) = core.incoming.get_mut(key) {
        subscription.fills.retain(|other| *other != fill);
        end_if_drained(dialect, core, key);
    }
}

/// Ends a subscription whose last group is out.
fn end_if_drained(dialect: &mut impl Dialect, core: &mut Core, key: Key) {
    let subscription = core.incoming.get(key).filter(|it| it.fills.is_empty());
    let Some((end, filled)) = subscription.and_then(|it| Some((it.ending?, it.filled))) else {
        return;
    };
    if !core.schedule.is_drained(key) {
        return;
    }
    // The end must not overtake bytes of groups that QUIC still holds: `moq-lite` 0.16 loses what arrives
    // after the end, and `moq-net` 0.3 reports the end as soon as it has the newest group.
    let priority = core.schedule.quic_priority(key);
    core.requests.set_priority(key, priority, &mut core.actions);
    let streams = core.schedule.opened_streams(key).unwrap_or(0) + filled;
    core.end_incoming(key, &Error::Closed);
    dialect.write_subscribe_end(core, key, end, streams);
    let request = RequestKey::of(key);
    core.notices.push_back(Event::RequestEnded { request, result: Ok(()) });
}
