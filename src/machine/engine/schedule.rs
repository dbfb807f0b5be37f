//! Groups on their way out, and the one rule that decides which goes first, for opening streams,
//! for writing, and for datagrams:
//!
//! 1. the priority that the subscriber gave;
//! 2. the priority of the publisher;
//! 3. fairness by bytes between tracks of equal priorities;
//! 4. within a track the newest group, or the oldest where the subscriber asked for order.
//!
//! Control goes before all of them; see
//! [`Machine::poll_write`](crate::machine::Machine::poll_write).
//!
//! Within a track there is one exception: a group that needs little more is finished before a newer one begins.
//! Otherwise no group would arrive complete on a path that is a little too slow.
//!
//! A group gets its stream when it is its turn to be written. While QUIC takes nothing, nothing is opened or
//! shown: what is chosen later is chosen better.
//!
//! Tracks with something to do stand in sorted sets, one for each kind of work, so that a choice
//! costs the logarithm of the number of tracks, however many groups wait.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::cmp::Reverse;
use core::time::Duration;

use crate::census::census;
use crate::error::Error;
use crate::machine::io::Action;
use crate::machine::layout::{Head, Layout};
use crate::machine::run::{FrameRange, Run, Scratch};
use crate::machine::source::{Source, Supply, Token};
use crate::slab::{Key, Slab};
use crate::stream::{Code, StreamId};
use crate::time::Instant;

/// One group on its way out. The cache has its frames; this is only how far it was sent.
#[derive(Debug, Default)]
struct ScheduledGroup {
    token: Token,
    range: FrameRange,
    /// Stream type and header of the group; sent before its frames.
    head: Head,
    /// How many bytes of the head were sent.
    head_sent: usize,
    /// The frame that is sent next.
    frame: u64,
    /// How many bytes of that frame were sent.
    skip: usize,
    /// Its stream, once it has one.
    stream: Option<StreamId>,
    /// Set if the group is to go as a datagram: the number by which that names its subscription.
    datagram: Option<u64>,
    /// QUIC blocked the stream, and the group has not caught up with the cache since.
    was_refused: bool,
    /// [`Schedule::stalls`] when the group had something to send after it had caught up with the cache.
    in_line_since: u64,
}

/// The groups of one subscription of the peer, or the single group of a FETCH. Each set holds the
/// groups that can do that kind of work now.
#[derive(Debug, Default)]
struct ScheduledTrack {
    urgency: Urgency,
    ordered: bool,
    groups: BTreeMap<u64, ScheduledGroup>,
    unopened: BTreeSet<u64>,
    datagrams: BTreeSet<u64>,
    writable: BTreeSet<u64>,
    /// The group that was written last, if it is not over.
    current: Option<u64>,
    /// `current` goes before newer groups.
    is_finishing: bool,
    /// How many streams its groups had so far.
    opened: u64,
}

/// The more urgent track sorts first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Urgency {
    subscriber: Reverse<u8>,
    publisher: Reverse<u8>,
    /// Bytes that the track was served, counted as if it had never been idle.
    served: u64,
}

/// Subscriber priority, then publisher priority.
type Priorities = (Reverse<u8>, Reverse<u8>);

/// The tracks of equal priorities, which share the bandwidth fairly.
#[derive(Debug, Default)]
struct PriorityClass {
    tracks: usize,
    /// `Urgency::served` of the track that was served last.
    served: u64,
}

/// Names a group: which scheduled track, and which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupRef {
    pub(crate) track: Key,
    pub(crate) sequence: u64,
}

/// The bytes of a group that a guard shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupWrite {
    pub(crate) group_ref: GroupRef,
    pub(crate) stream: StreamId,
    /// The group ends after these bytes.
    pub(crate) fin: bool,
    /// The cache has no more: after these bytes the group waits for [`Schedule::on_ready`].
    exhausted: bool,
}

/// The group that should go as the next datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NextDatagram {
    pub(crate) group_ref: GroupRef,
    pub(crate) token: Token,
    /// The number by which datagrams name its subscription.
    pub(crate) number: u64,
}

/// A group that the machine will not ask for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReleasedGroup {
    pub(crate) track: Key,
    pub(crate) group: Token,
    /// Whether QUIC accepted all of it.
    pub(crate) sent: bool,
}

/// Whether QUIC takes bytes. It refuses for one of two reasons: the peer gives no credit to one stream, or the
/// connection sends as fast as it can. A second stream that is refused as well means the connection, at least
/// for a while.
#[derive(Debug, Default)]
struct Congestion {
    /// Streams that were refused since QUIC took something.
    refused: u32,
    /// QUIC takes nothing, unless it says so earlier, until this time.
    until: Option<Instant>,
}

impl Congestion {
    /// How long nothing else is tried, at first and at most. QUIC says earlier that it takes more, unless
    /// what it refused were streams without credit.
    const WAITS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(1_280)];

    /// QUIC refused a stream. `true`: it takes nothing.
    fn refuse(&mut self, now: Instant) -> bool {
        self.refused += 1;
        if self.refused % 2 != 0 {
            return false;
        }
        let [first, most] = Self::WAITS;
        self.until = Some(now + most.min(first * (1 << (self.refused / 2 - 1).min(10))));
        true
    }
}

/// All groups on their way out.
#[derive(Debug)]
pub(crate) struct Schedule {
    layout: Layout,
    max_pending: usize,
    tracks: Slab<ScheduledTrack>,
    /// The group of each open stream.
    by_stream: BTreeMap<StreamId, GroupRef>,
    /// Tracks that have a group to open, to write, and to send as a datagram; the most urgent
    /// first.
    to_open: BTreeSet<(Urgency, Key)>,
    to_write: BTreeSet<(Urgency, Key)>,
    to_datagram: BTreeSet<(Urgency, Key)>,
    /// Streams that QUIC accepts no more bytes on for now.
    blocked: BTreeSet<StreamId>,
    congestion: Congestion,
    /// How often QUIC began to take nothing. A group that waited then is stalled.
    stalls: u64,
    /// The priority classes that some track is in.
    classes: BTreeMap<Priorities, PriorityClass>,
    /// Groups that are out or given up, until an event reports them.
    pub(crate) released: VecDeque<ReleasedGroup>,
}

impl Schedule {
    pub(crate) fn new(layout: Layout, max_pending: usize) -> Self {
        let (tracks, by_stream, to_open, to_write, to_datagram) = Default::default();
        let (blocked, congestion, stalls, classes, released) = Default::default();
        Self {
            layout,
            max_pending,
            tracks,
            by_stream,
            to_open,
            to_write,
            to_datagram,
            blocked,
            congestion,
            stalls,
            classes,
            released,
        }
    }

    /// Adds a track without groups.
    pub(crate) fn add_track(&mut self, subscriber: u8, publisher: u8, ordered: bool) -> Key {
        let (subscriber, publisher) = (Reverse(subscriber), Reverse(publisher));
        let urgency = Urgency { subscriber, publisher, served: 0 };
        self.classes.entry(urgency.priorities()).or_default().tracks += 1;
        self.tracks.insert(ScheduledTrack { urgency, ordered, ..ScheduledTrack::default() })
    }

    /// The subscriber changed its priority or order. QUIC's priority of the open streams follows.
    pub(crate) fn update_track(
        &mut self,
        key: Key,
        subscriber: u8,
        ordered: bool,
        actions: &mut VecDeque<Action>,
    ) {
        self.reorder(key, |track| {
            track.urgency.subscriber = Reverse(subscriber);
            track.ordered = ordered;
        });
        let Some(track) = self.tracks.get(key) else { return };
        let priority = track.urgency.quic_priority();
        let open = track.groups.values().filter_map(|group| group.stream);
        actions.extend(open.map(|id| Action::SetPriority { id, priority }));
    }

    /// Abandons what is left of a track. Open streams are reset with `code`.
    pub(crate) fn remove_track(&mut self, key: Key, code: Code, actions: &mut VecDeque<Action>) {
        self.reorder(key, |track| {
            track.unopened.clear();
            track.datagrams.clear();
            track.writable.clear();
        });
        let Some(track) = self.tracks.remove(key) else { return };
        self.leave_class(track.urgency.priorities());
        for group in track.groups.into_values() {
            if let Some(id) = group.stream {
                self.forget_stream(id);
                actions.push_back(Action::Reset { id, code });
            }
            self.released.push_back(ReleasedGroup { track: key, group: group.token, sent: false });
        }
    }

    /// Adds a group to a track. Past the limit the group that would go last is dropped.
    pub(crate) fn push(&mut self, group_ref: GroupRef, token: Token, first_frame: u64, head: Head) {
        let range = FrameRange { first: first_frame, last: None };
        self.insert(group_ref, ScheduledGroup::new(token, range, head));
    }

    /// Adds a group that is to go as a datagram, which names its subscription by `number`. `head` is for
    /// the stream that it gets if a datagram can't carry it.
    pub(crate) fn push_datagram(
        &mut self,
        group_ref: GroupRef,
        token: Token,
        number: u64,
        head: Head,
    ) {
        let range = FrameRange { first: 0, last: None };
        let group = ScheduledGroup::new(token, range, head);
        self.insert(group_ref, ScheduledGroup { datagram: Some(number), ..group });
    }

    /// Adds a group, unless the track is gone or has one of this number.
    fn insert(&mut self, group_ref: GroupRef, group: ScheduledGroup) {
        let track = self.tracks.get(group_ref.track);
        let is_new = track.is_some_and(|track| !track.groups.contains_key(&group_ref.sequence));
        if !is_new {
            let (track, group) = (group_ref.track, group.token);
            self.released.push_back(ReleasedGroup { track, group, sent: false });
            return;
        }
        self.enqueue(group_ref, Some(group));
    }

    /// Puts a group that has no stream yet in line; `new` if it is not part of its track yet. Past the
    /// limit the group that would go last is dropped.
    fn enqueue(&mut self, group_ref: GroupRef, new: Option<ScheduledGroup>) {
        let (max, stalls, mut dropped) = (self.max_pending, self.stalls, None);
        self.reorder(group_ref.track, |track| {
            track.groups.extend(new.map(|group| (group_ref.sequence, group)));
            if let Some(group) = track.groups.get_mut(&group_ref.sequence) {
                group.in_line_since = stalls;
            }
            dropped = track.enqueue(group_ref.sequence, max);
        });
        let track = group_ref.track;
        let released = |group| ReleasedGroup { track, group, sent: false };
        self.released.extend(dropped.map(|it: ScheduledGroup| released(it.token)));
    }

    /// Adds frames of a group, as the only group of its track, for a stream that exists already.
    pub(crate) fn push_on(
        &mut self,
        group_ref: GroupRef,
        token: Token,
        frames: FrameRange,
        id: StreamId,
    ) {
        let in_line_since = self.stalls;
        self.reorder(group_ref.track, |track| {
            let group =
                ScheduledGroup { in_line_since, ..ScheduledGroup::new(token, frames, Head::new()) };
            track.groups.insert(group_ref.sequence, group);
        });
        self.opened(group_ref, id);
    }

    /// The cache has more of a group than it had.
    pub(crate) fn on_ready(&mut self, group_ref: GroupRef) {
        let track = self.tracks.get(group_ref.track);
        let group = track.and_then(|track| track.groups.get(&group_ref.sequence));
        let is_datagram = group.is_some_and(|group| group.datagram.is_some());
        match group.map(|group| group.stream) {
            None => {}
            Some(Some(id)) if self.blocked.contains(&id) => {}
            Some(Some(_)) => {
                let stalls = self.stalls;
                self.reorder(group_ref.track, |track| {
                    if let (true, Some(group)) = (
                        track.writable.insert(group_ref.sequence),
                        track.groups.get_mut(&group_ref.sequence),
                    ) {
                        group.in_line_since = stalls;
                    }
                });
            }
            // It was counted when it was added.
            Some(None) if is_datagram => self.reorder(group_ref.track, |track| {
                track.datagrams.insert(group_ref.sequence);
            }),
            Some(None) => self.enqueue(group_ref, None),
        }
    }

    /// The priority of the track's streams for QUIC's own scheduler.
    pub(crate) fn quic_priority(&self, key: Key) -> i32 {
        self.tracks.get(key).map_or(CONTROL_PRIORITY, |track| track.urgency.quic_priority())
    }

    /// How many streams the track's groups had so far.
    pub(crate) fn opened_streams(&self, key: Key) -> u64 {
        self.tracks.get(key).map_or(0, |track| track.opened)
    }

    /// Whether every group of the track is out or given up.
    pub(crate) fn is_drained(&self, key: Key) -> bool {
        self.tracks.get(key).is_none_or(|track| track.groups.is_empty())
    }

    // ---- opening -----------------------------------------------------------------------------

    /// The group that should have the next stream. The source is asked first: a group that is gone
    /// uses no stream credit, and one that has nothing to send yet waits.
    pub(crate) fn pick_unopened(
        &mut self,
        source: &mut impl Source,
        scratch: &mut Scratch,
        actions: &mut VecDeque<Action>,
        finish: usize,
    ) -> Option<(GroupRef, i32)> {
        if self.congestion.until.is_some() {
            return None;
        }
        loop {
            let (urgency, key) = *self.to_open.first()?;
            if self.settle(key, source, scratch, actions, finish) {
                continue;
            }
            let track = self.tracks.get(key)?;
            let sequence = track.most_urgent(&track.unopened)?;
            let group = &track.groups[&sequence];
            let group_ref = GroupRef { track: key, sequence };
            scratch.clear();
            let mut probe = Run::probe(scratch, group.range.first);
            match source.frames(group.token, group.range.first, &mut probe) {
                Supply::End | Supply::More => return Some((group_ref, urgency.quic_priority())),
                Supply::Gone(_) => {
                    self.release(group_ref, false);
                }
                Supply::Pending if probe.was_offered() => {
                    return Some((group_ref, urgency.quic_priority()));
                }
                Supply::Pending => self.reorder(key, |track| {
                    track.unopened.remove(&sequence);
                }),
            }
        }
    }

    /// The group has a stream.
    pub(crate) fn opened(&mut self, group_ref: GroupRef, id: StreamId) {
        self.by_stream.insert(id, group_ref);
        self.reorder(group_ref.track, |track| {
            track.opened += 1;
            track.unopened.remove(&group_ref.sequence);
            if let Some(group) = track.groups.get_mut(&group_ref.sequence) {
                group.stream = Some(id);
                track.writable.insert(group_ref.sequence);
            }
        });
    }

    pub(crate) fn has_unopened(&self) -> bool {
        self.congestion.until.is_none() && !self.to_open.is_empty()
    }

    // ---- writing -----------------------------------------------------------------------------

    /// The group whose bytes go next. They are shown in `scratch`. `None` also if a more urgent group should get
    /// its stream first, and `may_open` says that there is credit for one.
    pub(crate) fn pick_writable(
        &mut self,
        source: &mut impl Source,
        scratch: &mut Scratch,
        actions: &mut VecDeque<Action>,
        finish: usize,
        may_open: bool,
    ) -> Option<GroupWrite> {
        if self.congestion.until.is_some() {
            return None;
        }
        loop {
            let (urgency, key) = *self.to_write.first()?;
            if may_open && self.to_open.first().is_some_and(|first| *first <= (urgency, key)) {
                return None;
            }
            if self.settle(key, source, scratch, actions, finish) {
                continue;
            }
            let track = self.tracks.get(key)?;
            let sequence = track.next_writable()?;
            let group = &track.groups[&sequence];
            let group_ref = GroupRef { track: key, sequence };
            let stream = group.stream?;
            scratch.clear();
            scratch.copy(&group.head[group.head_sent..]);
            let (layout, range, frame) = (Some(self.layout), group.range, group.frame);
            let waits = group.is_stalled(self.stalls);
            let mut run = Run::new(scratch, layout, range, frame, group.skip, waits);
            let supply = source.frames(group.token, group.frame, &mut run);
            let (cut, over) = (run.was_cut(), run.is_over());
            scratch.flush();
            match supply {
                _ if over => {
                    return Some(GroupWrite { group_ref, stream, fin: true, exhausted: false });
                }
                Supply::End if !cut => {
                    return Some(GroupWrite { group_ref, stream, fin: true, exhausted: false });
                }
                Supply::Gone(error) => self.give_up(group_ref, &error, actions),
                supply if scratch.total > 0 => {
                    let exhausted = supply == Supply::Pending && !cut;
                    return Some(GroupWrite { group_ref, stream, fin: false, exhausted });
                }
                // Nothing new: it waits for `on_ready`.
                _ => self.reorder(key, |track| {
                    track.wait_for_source(sequence);
                }),
            }
        }
    }

    /// Decides what goes first within the track: drops what became too old, and lets the current group go before
    /// newer ones if all that is left of it is in the cache and is not more than `finish` bytes. `true`: the track
    /// changed, so that another one may be more urgent.
    fn settle(
        &mut self,
        key: Key,
        source: &mut impl Source,
        scratch: &mut Scratch,
        actions: &mut VecDeque<Action>,
        finish: usize,
    ) -> bool {
        let Some(track) = self.tracks.get(key) else { return false };
        if track.groups.len() < 2 || track.ordered {
            return false;
        }
        let next = track.writable.last().max(track.unopened.last()).copied();
        let oldest = track.groups.first_key_value().map(|(sequence, _)| *sequence);
        let is_stalled = |sequence: &u64| track.groups[sequence].is_stalled(self.stalls);
        if let Some(oldest) = oldest.filter(|_| oldest != next).filter(is_stalled) {
            let group = &track.groups[&oldest];
            scratch.clear();
            let mut probe = Run::probe(scratch, group.frame);
            if let Supply::Gone(error) = source.frames(group.token, group.frame, &mut probe) {
                self.give_up(GroupRef { track: key, sequence: oldest }, &error, actions);
                return true;
            }
        }
        let current = track.current.filter(|current| track.writable.contains(current));
        let Some(current) = current.filter(|_| !track.is_finishing && current != next) else {
            return false;
        };
        let group = &track.groups[&current];
        scratch.clear();
        let (layout, waits) = (Some(self.layout), group.is_stalled(self.stalls));
        let mut run = Run::new(scratch, layout, group.range, group.frame, group.skip, waits);
        let supply = source.frames(group.token, group.frame, &mut run);
        let is_all = run.is_over() || (supply == Supply::End && !run.was_cut());
        if let Supply::Gone(error) = supply {
            self.give_up(GroupRef { track: key, sequence: current }, &error, actions);
            return true;
        }
        let is_short = is_all && scratch.total <= finish;
        self.reorder(key, |track| {
            track.is_finishing = is_short;
            track.current = Some(current).filter(|_| is_short);
        });
        true
    }

    /// Abandons a group that the source does not have any more.
    fn give_up(&mut self, group_ref: GroupRef, error: &Error, actions: &mut VecDeque<Action>) {
        let track = self.tracks.get(group_ref.track);
        let group = track.and_then(|track| track.groups.get(&group_ref.sequence));
        if let Some(id) = group.and_then(|group| group.stream) {
            actions.push_back(Action::Reset { id, code: error.stream_code() });
        }
        self.release(group_ref, false);
    }

    /// QUIC accepted `n` of the bytes that `scratch` shows; and FIN too, if that was all and there
    /// was one. `blocked`: it accepts no more for now. Returns how many frames are out completely
    /// by this.
    pub(crate) fn accepted(
        &mut self,
        shown: GroupWrite,
        n: usize,
        blocked: bool,
        scratch: &Scratch,
        now: Instant,
    ) -> u64 {
        let (group_ref, ends) = (shown.group_ref, &scratch.ends);
        let all = n == scratch.total && !blocked;
        let mut blocked_stream = None;
        let whole = ends.partition_point(|end| *end <= n);
        self.reorder(group_ref.track, |track| {
            let Some(group) = track.groups.get_mut(&group_ref.sequence) else { return };
            let head = n.min(group.head.len() - group.head_sent);
            group.head_sent += head;
            match whole.checked_sub(1) {
                // Still inside of the same frame.
                None => group.skip += n - head,
                Some(last) => {
                    group.frame += whole as u64;
                    group.skip = n - ends[last];
                }
            }
            group.was_refused |= blocked;
            if n > 0 && track.current != Some(group_ref.sequence) {
                (track.current, track.is_finishing) = (Some(group_ref.sequence), false);
            }
            if blocked {
                track.writable.remove(&group_ref.sequence);
                blocked_stream = group.stream;
            } else if all && shown.exhausted {
                track.wait_for_source(group_ref.sequence);
            }
            track.urgency.served = track.urgency.served.saturating_add(n as u64);
        });
        self.update_class(group_ref.track);
        self.blocked.extend(blocked_stream);
        if n > 0 {
            self.congestion = Congestion::default();
        }
        if blocked && self.congestion.refuse(now) {
            self.stalls += 1;
        }
        if all && shown.fin {
            self.release(group_ref, true);
        }
        whole as u64
    }

    /// QUIC accepts bytes on this stream again.
    pub(crate) fn on_writable(&mut self, id: StreamId) {
        self.unblock(id);
        let Some(group_ref) = self.by_stream.get(&id).copied() else { return };
        self.reorder(group_ref.track, |track| {
            track.writable.insert(group_ref.sequence);
        });
    }

    /// The peer sent STOP_SENDING for this stream. Returns `true` if it had a group.
    pub(crate) fn on_stopped(&mut self, id: StreamId) -> bool {
        let group_ref = self.by_stream.get(&id).copied();
        group_ref.is_some_and(|group_ref| self.release(group_ref, false))
    }

    pub(crate) fn has_writable(&self) -> bool {
        self.congestion.until.is_none() && !self.to_write.is_empty()
    }

    // ---- datagrams ---------------------------------------------------------------------------

    /// The group that should go as the next datagram.
    pub(crate) fn next_datagram(&self) -> Option<NextDatagram> {
        let (_, key) = *self.to_datagram.first()?;
        let track = self.tracks.get(key)?;
        let sequence = track.most_urgent(&track.datagrams)?;
        let group = &track.groups[&sequence];
        let group_ref = GroupRef { track: key, sequence };
        Some(NextDatagram { group_ref, token: group.token, number: group.datagram? })
    }

    /// The group has no frame yet: it waits for [`on_ready`](Self::on_ready).
    pub(crate) fn defer_datagram(&mut self, group_ref: GroupRef) {
        self.reorder(group_ref.track, |track| {
            track.datagrams.remove(&group_ref.sequence);
        });
    }

    /// The group can't go as a datagram: it gets a stream.
    pub(crate) fn move_to_stream(&mut self, group_ref: GroupRef) {
        self.reorder(group_ref.track, |track| {
            track.datagrams.remove(&group_ref.sequence);
            track.unopened.insert(group_ref.sequence);
            if let Some(group) = track.groups.get_mut(&group_ref.sequence) {
                group.datagram = None;
            }
        });
    }

    /// QUIC accepted the datagram, of so many bytes.
    pub(crate) fn datagram_sent(&mut self, group_ref: GroupRef, bytes: usize) {
        self.reorder(group_ref.track, |track| {
            track.datagrams.remove(&group_ref.sequence);
            track.urgency.served = track.urgency.served.saturating_add(bytes as u64);
        });
        self.update_class(group_ref.track);
        self.release(group_ref, true);
    }

    pub(crate) fn has_datagrams(&self) -> bool {
        !self.to_datagram.is_empty()
    }

    // ---- ends --------------------------------------------------------------------------------

    /// Whether some group has bytes that QUIC has not accepted.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.blocked.is_empty()
            || !self.to_write.is_empty()
            || !self.to_open.is_empty()
            || !self.to_datagram.is_empty()
    }

    /// Forgets a group. Its token is free.
    pub(crate) fn release(&mut self, group_ref: GroupRef, sent: bool) -> bool {
        let mut group = None;
        self.reorder(group_ref.track, |track| {
            track.unopened.remove(&group_ref.sequence);
            track.datagrams.remove(&group_ref.sequence);
            track.writable.remove(&group_ref.sequence);
            if track.current == Some(group_ref.sequence) {
                (track.current, track.is_finishing) = (None, false);
            }
            group = track.groups.remove(&group_ref.sequence);
        });
        let Some(group) = group else { return false };
        if let Some(id) = group.stream {
            self.forget_stream(id);
        }
        self.released.push_back(ReleasedGroup { track: group_ref.track, group: group.token, sent });
        true
    }

    /// The number of remembered entries.
    #[cfg(test)]
    pub(crate) fn entries(&self) -> usize {
        let groups: usize = self.tracks.iter().map(|track| track.groups.len()).sum();
        let orders = self.to_open.len() + self.to_write.len();
        self.tracks.len() + groups + orders + self.by_stream.len() + self.released.len()
    }

    fn forget_stream(&mut self, id: StreamId) {
        self.by_stream.remove(&id);
        self.unblock(id);
    }

    fn unblock(&mut self, id: StreamId) {
        if self.blocked.remove(&id) {
            self.congestion = Congestion::default();
        }
    }

    /// When to try again although QUIC did not say that it takes more.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        let is_waiting = !self.to_open.is_empty() || !self.to_write.is_empty();
        self.congestion.until.filter(|_| is_waiting)
    }

    /// Tries again if it is time.
    pub(crate) fn retry(&mut self, now: Instant) {
        self.congestion.until = self.congestion.until.filter(|until| *until > now);
    }

    /// Changes a track, and its positions in the three orders.
    fn reorder(&mut self, key: Key, change: impl FnOnce(&mut ScheduledTrack)) {
        let Some(track) = self.tracks.get_mut(key) else { return };
        let (before, was_ready) = (track.urgency, track.ready_for());
        change(track);
        let is_ready = track.ready_for();
        if (before, was_ready) == (track.urgency, is_ready) {
            return;
        }
        self.to_open.remove(&(before, key));
        self.to_write.remove(&(before, key));
        self.to_datagram.remove(&(before, key));
        let priorities = track.urgency.priorities();
        let joins = before.priorities() != priorities;
        if joins {
            track.urgency.served = 0;
            self.classes.entry(priorities).or_default().tracks += 1;
        }
        if joins || was_ready == [false; 3] {
            // A track that was idle gets no credit for it, and a new one starts even with the others.
            let served = self.classes.get(&priorities).map_or(0, |class| class.served);
            track.urgency.served = track.urgency.served.max(served);
        }
        let orders = [&mut self.to_open, &mut self.to_write, &mut self.to_datagram];
        for (order, _) in orders.into_iter().zip(is_ready).filter(|(_, is_ready)| *is_ready) {
            order.insert((track.urgency, key));
        }
        if joins {
            self.leave_class(before.priorities());
        }
    }

    /// The track was served: others that become active start from here.
    fn update_class(&mut self, track: Key) {
        let Some(ScheduledTrack { urgency, .. }) = self.tracks.get(track) else { return };
        if let Some(class) = self.classes.get_mut(&urgency.priorities()) {
            class.served = urgency.served;
        }
    }

    fn leave_class(&mut self, priorities: Priorities) {
        if let Some(class) = self.classes.get_mut(&priorities) {
            class.tracks -= 1;
            if class.tracks == 0 {
                self.classes.remove(&priorities);
            }
        }
    }
}

impl ScheduledGroup {
    fn new(token: Token, range: FrameRange, head: Head) -> Self {
        Self { token, range, head, frame: range.first, ..Self::default() }
    }

    /// Whether QUIC took nothing while the group had something to send. The source may then give it up as too
    /// old.
    fn is_stalled(&self, stalls: u64) -> bool {
        self.was_refused || self.in_line_since < stalls
    }
}

impl ScheduledTrack {
    /// Puts a group in line for a stream, or for a datagram. If more than `max` are in that line, the one
    /// that would go last is returned.
    fn enqueue(&mut self, sequence: u64, max: usize) -> Option<ScheduledGroup> {
        let is_datagram = self.groups.get(&sequence)?.datagram.is_some();
        let line = if is_datagram { &mut self.datagrams } else { &mut self.unopened };
        line.insert(sequence);
        if line.len() <= max {
            return None;
        }
        let last = if self.ordered { line.pop_last() } else { line.pop_first() };
        last.and_then(|sequence| self.groups.remove(&sequence))
    }

    /// The group has nothing to write before the cache has more.
    fn wait_for_source(&mut self, sequence: u64) {
        self.writable.remove(&sequence);
        if let Some(group) = self.groups.get_mut(&sequence) {
            group.was_refused = false;
        }
    }

    /// Whether the track has something to open, to write, and to send as a datagram.
    fn ready_for(&self) -> [bool; 3] {
        let written_first = self.next_writable();
        let opens = self.most_urgent(&self.unopened).is_some_and(|first| match written_first {
            Some(written) if self.is_finishing && self.current == Some(written) => false,
            Some(written) if self.ordered => first < written,
            Some(written) => first > written,
            None => true,
        });
        [opens, written_first.is_some(), !self.datagrams.is_empty()]
    }

    /// The group that is written first.
    fn next_writable(&self) -> Option<u64> {
        let finishing =
            self.current.filter(|current| self.is_finishing && self.writable.contains(current));
        finishing.or_else(|| self.most_urgent(&self.writable))
    }

    /// The group of this set that goes first.
    fn most_urgent(&self, of: &BTreeSet<u64>) -> Option<u64> {
        if self.ordered { of.first().copied() } else { of.last().copied() }
    }
}

impl Urgency {
    const fn priorities(&self) -> Priorities {
        (self.subscriber, self.publisher)
    }

    /// The same order as one number for QUIC's own scheduler, below [`CONTROL_PRIORITY`].
    fn quic_priority(&self) -> i32 {
        i32::from(self.subscriber.0) << 8 | i32::from(self.publisher.0)
    }
}

/// The priority of control streams, above every group.
pub(crate) const CONTROL_PRIORITY: i32 = 1 << 16;

census! { each ScheduledTrack {
    counts: groups, unopened, datagrams, writable;
    plain: urgency, ordered, current, is_finishing, opened;
} }
census! { Schedule {
    counts: by_stream, to_open, to_write, to_datagram, blocked, classes, released;
    within: tracks;
    plain: layout, max_pending, congestion, stalls;
} }
