//! Groups that are to be sent, in one order for opening streams, for writing, and for datagrams:
//!
//! 1. the priority that the subscriber gave;
//! 2. the priority of the publisher, which a subgroup of moq-transport may have of its own;
//! 3. fairness by bytes between tracks of equal priorities;
//! 4. within a track the newest group, or the oldest where the subscriber asked for order;
//! 5. within a group the lowest subgroup.
//!
//! Control messages go before all groups; see
//! [`Machine::poll_write`](crate::machine::Machine::poll_write).
//!
//! There is one exception: a group that needs little more is finished before a newer one of its track begins.
//! Otherwise no group would arrive complete on a path that is a little too slow.
//!
//! A group gets its stream when it is its turn to be written. While QUIC takes nothing, no stream is opened and
//! no bytes are offered, because a later choice knows more.
//!
//! Tracks that can open, write or send a datagram are in sorted sets, one for each kind of work. So a choice
//! costs the logarithm of the number of tracks, at any number of waiting groups.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::cmp::Reverse;
use core::mem;

use super::congestion::Congestion;
use super::fetches::AnswerStream;
use crate::census::census;
use crate::error::Error;
use crate::machine::io::Action;
use crate::machine::layout::{Head, Layout};
use crate::machine::run::{FrameRange, Run, Scratch};
use crate::machine::source::{Source, Supply, Token};
use crate::slab::{Key, SideTable};
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
    /// How its frames are laid out, if not like those of other groups.
    layout: Option<Layout>,
    /// The frame that is sent next.
    frame: u64,
    /// How many bytes of that frame were sent.
    skip: usize,
    /// The publisher's priority.
    publisher: Reverse<u8>,
    /// Its stream, once it has one.
    stream: Option<StreamId>,
    /// How the group is to go as a datagram, if it is.
    datagram: Option<DatagramForm>,
    part: Part,
    /// QUIC refused the stream, and the group has not caught up with the cache since.
    was_refused: bool,
    /// [`Schedule::stalls`] when the group joined a line.
    in_line_since: u64,
}

/// The fields of a datagram of moq-transport that belong to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DatagramForm {
    /// The publisher's priority; `None` is that of the track.
    pub(crate) priority: Option<u8>,
    /// The object is the last one of its group.
    pub(crate) ends_group: bool,
}

/// The place of a group on its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    /// The stream ends with the group.
    #[default]
    Whole,
    /// Another group follows.
    NotLast,
    /// The group is out, and the next one is not known yet.
    Over,
    /// There is no other group: the stream ends after the head.
    End,
}

/// The groups of one subscription of the peer, or the answer to a FETCH, one group at a time.
#[derive(Debug, Default)]
struct ScheduledTrack {
    urgency: Urgency,
    ordered: bool,
    /// The publisher's priority of groups that have none of their own.
    publisher: Reverse<u8>,
    /// Whether some group had a priority of its own. Then that of the next group counts for the track.
    has_priorities: bool,
    groups: BTreeMap<Place, ScheduledGroup>,
    /// By kind of work: the groups that can do it now.
    lines: [BTreeSet<Turn>; 3],
    /// The group that was written last, if it is not over.
    current: Option<Place>,
    /// `current` goes before newer groups.
    is_finishing: bool,
    /// How many streams its groups had so far.
    opened: u64,
}

/// The kinds of work that groups stand in line for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// To get a stream.
    Open,
    /// To write on its stream.
    Write,
    /// To go as a datagram.
    Datagram,
}

/// Orders the groups of a track: the one that goes first sorts first (moq-transport-22, 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    publisher: Reverse<u8>,
    /// The number of the group, or its complement where the newest goes first.
    group: u64,
    subgroup: u64,
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

/// The number of a group, and of its subgroup.
pub(crate) type Place = (u64, u64);

/// Names a group: which request its track answers, and which number it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupRef {
    pub(crate) request: Key,
    pub(crate) place: Place,
}

/// The bytes of a group that a guard shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupWrite {
    pub(crate) group_ref: GroupRef,
    pub(crate) stream: StreamId,
    /// The stream ends after these bytes.
    pub(crate) fin: bool,
    /// The group ends after these bytes, and another one follows on the stream.
    is_part: bool,
    /// The cache has no more: after these bytes the group waits for [`Schedule::on_ready`].
    exhausted: bool,
}

/// A group that the machine will not ask for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReleasedGroup {
    pub(crate) request: Key,
    /// `None` for a stream between two groups, and for its end.
    pub(crate) group: Option<Token>,
    /// Whether QUIC accepted all of it.
    pub(crate) sent: bool,
    /// One past the last frame that it accepted.
    pub(crate) end: u64,
}

/// How the next choice is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Bytes that a group may need to go before a newer one.
    pub(crate) finish: usize,
    /// Whether there is credit for a stream.
    pub(crate) may_open: bool,
}

/// All groups on their way out.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    layout: Option<Layout>,
    max_pending: usize,
    /// Each by the request that it answers.
    tracks: SideTable<ScheduledTrack>,
    /// The group of each open stream.
    by_stream: BTreeMap<StreamId, GroupRef>,
    /// By kind of work: the tracks with a group that can do it now, the most urgent first.
    orders: [BTreeSet<(Urgency, Key)>; 3],
    /// Streams that QUIC accepts no more bytes on for now.
    blocked: BTreeSet<StreamId>,
    congestion: Congestion,
    /// How often QUIC began to take nothing. A group that was in line then is stalled.
    stalls: u64,
    /// The priority classes that some track is in.
    classes: BTreeMap<Priorities, PriorityClass>,
    /// Groups that are out or given up, until an event reports them.
    pub(crate) released: VecDeque<ReleasedGroup>,
}

impl Schedule {
    pub(crate) fn new(layout: Layout, max_pending: usize) -> Self {
        Self { layout: Some(layout), max_pending, ..Self::default() }
    }

    /// Adds the track that answers `request`, without groups.
    pub(crate) fn add_track(&mut self, request: Key, subscriber: u8, publisher: u8, ordered: bool) {
        let (subscriber, publisher) = (Reverse(subscriber), Reverse(publisher));
        let urgency = Urgency { subscriber, publisher, served: 0 };
        self.classes.entry(urgency.priorities()).or_default().tracks += 1;
        let track = ScheduledTrack { urgency, ordered, publisher, ..Default::default() };
        self.tracks.insert(request, track);
    }

    /// Whether a track answers this request.
    pub(crate) fn has_track(&self, request: Key) -> bool {
        self.tracks.get(request).is_some()
    }

    /// The subscriber changed its priority or order. QUIC's priority of the open streams follows.
    pub(crate) fn update_track(
        &mut self,
        request: Key,
        subscriber: u8,
        ordered: bool,
        actions: &mut VecDeque<Action>,
    ) {
        self.reorder(request, |track| {
            track.urgency.subscriber = Reverse(subscriber);
            track.order(ordered);
        });
        let Some(track) = self.tracks.get(request) else { return };
        let open = track.groups.values().filter_map(|group| Some((group.stream?, group)));
        actions.extend(open.map(|(id, group)| {
            let priority = track.urgency.of(group).quic_priority();
            Action::SetPriority { id, priority }
        }));
    }

    /// Abandons what is left of a track. Open streams are reset with `code`.
    pub(crate) fn remove_track(
        &mut self,
        request: Key,
        code: Code,
        actions: &mut VecDeque<Action>,
    ) {
        self.clear_track(request, code, actions);
        let Some(track) = self.tracks.remove(request) else { return };
        self.leave_class(track.urgency.priorities());
    }

    /// Abandons the groups of a track. Open streams are reset with `code`.
    pub(crate) fn clear_track(&mut self, request: Key, code: Code, actions: &mut VecDeque<Action>) {
        let mut groups = BTreeMap::new();
        self.reorder(request, |track| {
            (track.lines, track.current, track.is_finishing) = Default::default();
            groups = mem::take(&mut track.groups);
        });
        for group in groups.into_values() {
            if let Some(id) = group.stream {
                self.forget_stream(id);
                actions.push_back(Action::Reset { id, code });
            }
            self.report_unsent(request, group.token());
        }
    }

    /// Adds a group to a track, unless the track is gone or has one of this number. Past the limit the
    /// group that would go last is dropped. A group that is to go as a datagram needs its `head` too, for the
    /// stream that it gets if no datagram can carry it. `publisher`: a priority of its own.
    pub(crate) fn push(
        &mut self,
        group_ref: GroupRef,
        token: Token,
        range: FrameRange,
        (head, layout): (Head, Option<Layout>),
        datagram: Option<DatagramForm>,
        publisher: Option<u8>,
    ) {
        let track = self.tracks.get(group_ref.request);
        if track.is_none_or(|track| track.groups.contains_key(&group_ref.place)) {
            return self.report_unsent(group_ref.request, Some(token));
        }
        let group = ScheduledGroup::new(token, range, head);
        let group = ScheduledGroup { datagram, layout, ..group };
        self.enqueue(group_ref, Some((group, publisher)));
    }

    /// Puts a group that has no stream yet in line; `new` if it is not part of its track yet.
    fn enqueue(&mut self, group_ref: GroupRef, new: Option<(ScheduledGroup, Option<u8>)>) {
        let (max, stalls, mut dropped) = (self.max_pending, self.stalls, None);
        self.reorder(group_ref.request, |track| {
            if let Some((group, publisher)) = new {
                track.insert(group_ref.place, group, publisher);
            }
            dropped = track.enqueue(group_ref.place, stalls, max);
        });
        if let Some(dropped) = dropped {
            self.report_unsent(group_ref.request, dropped.token());
        }
    }

    /// Adds frames of a group, as the only group of its track.
    pub(crate) fn push_answer(
        &mut self,
        group_ref: GroupRef,
        token: Token,
        frames: FrameRange,
        stream: AnswerStream,
    ) {
        match stream {
            AnswerStream::Own { head, layout } => {
                let group = ScheduledGroup::new(token, frames, head);
                let group = ScheduledGroup { layout: Some(layout), ..group };
                self.enqueue(group_ref, Some((group, None)));
            }
            AnswerStream::Request(id) => {
                let in_line_since = self.stalls;
                self.reorder(group_ref.request, |track| {
                    let group = ScheduledGroup::new(token, frames, Head::new());
                    let group = ScheduledGroup { in_line_since, ..group };
                    track.insert(group_ref.place, group, None);
                });
                self.opened(group_ref, id);
            }
        }
    }

    /// Adds the next group of an answer to its stream, or the end of the answer if there is no `token`.
    pub(crate) fn push_part(
        &mut self,
        group_ref: GroupRef,
        token: Option<Token>,
        frames: FrameRange,
        head: Head,
        layout: Layout,
    ) {
        let part = if token.is_some() { Part::NotLast } else { Part::End };
        let group = ScheduledGroup::new(token.unwrap_or_default(), frames, head);
        let group = ScheduledGroup { layout: Some(layout), part, ..group };
        let track = self.tracks.get(group_ref.request);
        let before = track.and_then(|track| track.groups.first_key_value());
        let Some((before, stream)) = before.map(|(before, it)| (*before, it.next_stream())) else {
            return self.enqueue(group_ref, Some((group, None)));
        };
        // Each waits for the one before.
        let Some(stream) = stream else { return self.report_unsent(group_ref.request, token) };
        self.reorder(group_ref.request, |track| {
            track.groups.remove(&before);
            let group = ScheduledGroup { stream: Some(stream), ..group };
            track.insert(group_ref.place, group, None);
        });
        self.by_stream.insert(stream, group_ref);
        if !self.blocked.contains(&stream) {
            self.join(group_ref, Work::Write);
        }
    }

    /// All of a group is out, and the next one on its stream is not known yet.
    fn end_part(&mut self, group_ref: GroupRef) {
        let mut over = None;
        self.reorder(group_ref.request, |track| {
            track.leave(Work::Write, group_ref.place);
            (track.current, track.is_finishing) = (None, false);
            if let Some(group) = track.groups.get_mut(&group_ref.place) {
                group.part = Part::Over;
                over = Some((group.token, group.frame));
            }
        });
        let Some((group, end)) = over else { return };
        let (request, group, sent) = (group_ref.request, Some(group), true);
        self.released.push_back(ReleasedGroup { request, group, sent, end });
    }

    /// The cache has more of a group than it had.
    pub(crate) fn on_ready(&mut self, group_ref: GroupRef) {
        let track = self.tracks.get(group_ref.request);
        match track.and_then(|track| track.groups.get(&group_ref.place)) {
            None | Some(ScheduledGroup { part: Part::Over, .. }) => {}
            Some(ScheduledGroup { stream: Some(id), .. }) if self.blocked.contains(id) => {}
            Some(ScheduledGroup { stream: Some(_), .. }) => self.join(group_ref, Work::Write),
            // It was counted when it was added.
            Some(group) if group.datagram.is_some() => self.join(group_ref, Work::Datagram),
            Some(_) => self.enqueue(group_ref, None),
        }
    }

    /// The group can do this kind of work now.
    fn join(&mut self, group_ref: GroupRef, work: Work) {
        let stalls = self.stalls;
        self.reorder(group_ref.request, |track| track.join(work, group_ref.place, stalls));
    }

    /// The group has nothing to do of this kind, until [`on_ready`](Self::on_ready).
    pub(crate) fn leave(&mut self, group_ref: GroupRef, work: Work) {
        self.reorder(group_ref.request, |track| track.leave(work, group_ref.place));
    }

    /// Whether a group can do this kind of work now.
    pub(crate) fn has(&self, work: Work) -> bool {
        let takes_it = work == Work::Datagram || self.congestion.until.is_none();
        takes_it && !self.orders[work as usize].is_empty()
    }

    /// The group that goes first in this kind of work, with its track.
    fn first(&self, work: Work) -> Option<(GroupRef, &ScheduledTrack, &ScheduledGroup)> {
        let (_, request) = *self.orders[work as usize].first()?;
        let track = self.tracks.get(request)?;
        let place = track.first(work)?;
        Some((GroupRef { request, place }, track, track.groups.get(&place)?))
    }

    /// The priority of the track's streams for QUIC's own scheduler.
    pub(crate) fn quic_priority(&self, request: Key) -> i32 {
        self.tracks.get(request).map_or(CONTROL_PRIORITY, |track| track.urgency.quic_priority())
    }

    /// How many streams the groups of the track had so far. `None` if no track answers this request.
    pub(crate) fn opened_streams(&self, request: Key) -> Option<u64> {
        self.tracks.get(request).map(|track| track.opened)
    }

    /// Whether every group of the track is out or given up.
    pub(crate) fn is_drained(&self, request: Key) -> bool {
        self.tracks.get(request).is_none_or(|track| track.groups.is_empty())
    }

    // ---- opening -----------------------------------------------------------------------------

    /// The group that should have the next stream. The source is asked first: a group that is gone
    /// uses no stream credit, and one that has nothing to send yet waits.
    pub(crate) fn pick_unopened(
        &mut self,
        source: &mut impl Source,
        scratch: &mut Scratch,
        actions: &mut VecDeque<Action>,
        rules: Rules,
    ) -> Option<(GroupRef, i32)> {
        while self.has(Work::Open) {
            if self.refresh_first(Work::Open, source, scratch, actions, rules) {
                continue;
            }
            let (group_ref, track, group) = self.first(Work::Open)?;
            scratch.clear();
            let priority = track.urgency.of(group).quic_priority();
            if group.part == Part::End {
                return Some((group_ref, priority));
            }
            let mut probe = Run::probe(scratch, group.range, group.range.first);
            let supply = source.frames(group.token, group.range.first, &mut probe);
            let (was_offered, is_before_start) = (probe.was_offered(), probe.is_before_start());
            let rest = probe.rest();
            if let Some(rest) = rest {
                self.pass(group_ref, rest);
            }
            match supply {
                Supply::Gone(_) => drop(self.release(group_ref, false)),
                Supply::Pending if !was_offered => self.leave(group_ref, Work::Open),
                // All objects of this subgroup come before the first one that is wanted.
                Supply::End if is_before_start && group_ref.place.1 > 0 => {
                    self.release(group_ref, false);
                }
                Supply::More if !was_offered && rest.is_some() => {}
                Supply::End | Supply::More | Supply::Pending => return Some((group_ref, priority)),
            }
        }
        None
    }

    /// Frames of a group were passed over, and these are left.
    fn pass(&mut self, group_ref: GroupRef, rest: FrameRange) {
        let track = self.tracks.get_mut(group_ref.request);
        if let Some(group) = track.and_then(|it| it.groups.get_mut(&group_ref.place)) {
            (group.frame, group.range) = (rest.first, rest);
        }
    }

    /// The group has a stream.
    pub(crate) fn opened(&mut self, group_ref: GroupRef, id: StreamId) {
        self.by_stream.insert(id, group_ref);
        self.reorder(group_ref.request, |track| {
            track.opened += 1;
            if let Some(group) = track.groups.get_mut(&group_ref.place) {
                group.stream = Some(id);
            }
            track.move_to(Work::Write, Work::Open, group_ref.place);
        });
    }

    // ---- writing -----------------------------------------------------------------------------

    /// The group whose bytes go next. They are shown in `scratch`. `None` also if a more urgent group should get
    /// its stream first.
    pub(crate) fn pick_writable(
        &mut self,
        source: &mut impl Source,
        scratch: &mut Scratch,
        actions: &mut VecDeque<Action>,
        rules: Rules,
    ) -> Option<GroupWrite> {
        while self.has(Work::Write) {
            let [to_open, to_write, _] = self.orders.each_ref().map(BTreeSet::first);
            if rules.may_open && to_open.is_some_and(|first| Some(first) <= to_write) {
                return None;
            }
            if self.refresh_first(Work::Write, source, scratch, actions, rules) {
                continue;
            }
            let (group_ref, _, group) = self.first(Work::Write)?;
            let (stream, part) = (group.stream?, group.part);
            scratch.clear();
            scratch.copy(&group.head[group.head_sent..]);
            if part == Part::End {
                scratch.flush();
                let (fin, is_part, exhausted) = (true, false, false);
                return Some(GroupWrite { group_ref, stream, fin, is_part, exhausted });
            }
            let (range, frame) = (group.range, group.frame);
            let (layout, waits) = (group.layout.or(self.layout), group.is_stalled(self.stalls));
            let mut run = Run::new(scratch, layout, range, frame, group.skip, waits);
            let supply = source.frames(group.token, group.frame, &mut run);
            let (cut, over) = (run.was_cut(), run.is_over());
            scratch.flush();
            let ends = over || supply == Supply::End && !cut;
            let is_part = ends && part == Part::NotLast;
            let fin = ends && !is_part;
            match supply {
                Supply::Gone(error) if !over => self.give_up(group_ref, &error, actions),
                _ if is_part && scratch.total == 0 => self.end_part(group_ref),
                supply if fin || scratch.total > 0 => {
                    let exhausted = supply == Supply::Pending && !cut && !ends;
                    return Some(GroupWrite { group_ref, stream, fin, is_part, exhausted });
                }
                // Nothing new: it waits for `on_ready`.
                _ => self.reorder(group_ref.request, |track| {
                    track.wait_for_source(group_ref.place);
                }),
            }
        }
        None
    }

    /// Decides what goes first within the track that goes first in this kind of work. Drops what became too old,
    /// and lets the current group go before newer ones if the rest of it is in the cache and short. Returns `true`
    /// if the track changed: another one may go first now.
    fn refresh_first(
        &mut self,
        work: Work,
        source: &mut impl Source,
        scratch: &mut Scratch,
        actions: &mut VecDeque<Action>,
        rules: Rules,
    ) -> bool {
        let Some((_, request)) = self.orders[work as usize].first().copied() else { return false };
        let Some(track) = self.tracks.get(request) else { return false };
        if track.groups.len() < 2 || track.ordered {
            return false;
        }
        let [unopened, writable, _] = track.lines.each_ref().map(BTreeSet::first);
        let next = [unopened, writable].into_iter().flatten().min();
        let newest = next.map(|next| track.place(*next).0);
        let oldest = track.groups.first_key_value().map(|(place, _)| *place);
        let is_stalled = |place: &Place| track.groups[place].is_stalled(self.stalls);
        if let Some(place) = oldest.filter(|it| Some(it.0) != newest).filter(is_stalled) {
            let group = &track.groups[&place];
            scratch.clear();
            let mut probe = Run::probe(scratch, group.range, group.frame);
            if let Supply::Gone(error) = source.frames(group.token, group.frame, &mut probe) {
                self.give_up(GroupRef { request, place }, &error, actions);
                return true;
            }
        }
        let is_passed = !track.is_finishing && track.current.map(|place| place.0) != newest;
        let Some(place) = track.current.filter(|it| is_passed && track.is_writable(*it)) else {
            return false;
        };
        let group = &track.groups[&place];
        if next.is_some_and(|next| next.publisher < group.publisher) {
            return false;
        }
        let (range, frame, waits) = (group.range, group.frame, group.is_stalled(self.stalls));
        scratch.clear();
        let layout = group.layout.or(self.layout);
        let mut run = Run::new(scratch, layout, range, frame, group.skip, waits);
        let supply = source.frames(group.token, frame, &mut run);
        let is_all = run.is_over() || (supply == Supply::End && !run.was_cut());
        if let Supply::Gone(error) = supply {
            self.give_up(GroupRef { request, place }, &error, actions);
            return true;
        }
        let is_short = is_all && scratch.total <= rules.finish;
        self.reorder(request, |track| {
            track.is_finishing = is_short;
            track.current = Some(place).filter(|_| is_short);
        });
        true
    }

    /// Abandons a group that the source does not have any more.
    fn give_up(&mut self, group_ref: GroupRef, error: &Error, actions: &mut VecDeque<Action>) {
        let track = self.tracks.get(group_ref.request);
        let group = track.and_then(|track| track.groups.get(&group_ref.place));
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
        self.reorder(group_ref.request, |track| {
            let Some(group) = track.groups.get_mut(&group_ref.place) else { return };
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
            if n > 0 && track.current != Some(group_ref.place) {
                (track.current, track.is_finishing) = (Some(group_ref.place), false);
            }
            if blocked {
                blocked_stream = group.stream;
                track.leave(Work::Write, group_ref.place);
            } else if all && shown.exhausted {
                track.wait_for_source(group_ref.place);
            }
            track.urgency.served = track.urgency.served.saturating_add(n as u64);
        });
        self.update_class(group_ref.request);
        self.blocked.extend(blocked_stream);
        if n > 0 {
            self.congestion = Congestion::default();
        }
        if blocked && self.congestion.refuse(now) {
            self.stalls += 1;
        }
        if all && shown.is_part {
            self.end_part(group_ref);
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
        self.reorder(group_ref.request, |track| {
            let group = track.groups.get(&group_ref.place).filter(|group| group.part != Part::Over);
            if let Some(group) = group {
                let turn = Turn::new(group_ref.place, group.publisher, track.ordered);
                track.lines[Work::Write as usize].insert(turn);
            }
        });
    }

    fn unblock(&mut self, id: StreamId) {
        if self.blocked.remove(&id) {
            self.congestion = Congestion::default();
        }
    }

    /// Whether QUIC refused bytes, and has taken none since.
    pub(crate) fn is_blocked(&self) -> bool {
        self.congestion.refused > 0
    }

    /// When to try again although QUIC did not say that it takes more.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        let [to_open, to_write, _] = &self.orders;
        self.congestion.until.filter(|_| !to_open.is_empty() || !to_write.is_empty())
    }

    /// Tries again if it is time.
    pub(crate) fn retry(&mut self, now: Instant) {
        self.congestion.until = self.congestion.until.filter(|until| *until > now);
    }

    /// The peer sent STOP_SENDING for this stream. Returns `true` if it had a group.
    pub(crate) fn on_stopped(&mut self, id: StreamId) -> bool {
        let group_ref = self.by_stream.get(&id).copied();
        group_ref.is_some_and(|group_ref| self.release(group_ref, false))
    }

    // ---- datagrams ---------------------------------------------------------------------------

    /// The group that should go as the next datagram.
    pub(crate) fn next_datagram(&self) -> Option<(GroupRef, Token, DatagramForm)> {
        let (group_ref, _, group) = self.first(Work::Datagram)?;
        Some((group_ref, group.token, group.datagram?))
    }

    /// The group can't go as a datagram: it gets a stream.
    pub(crate) fn move_to_stream(&mut self, group_ref: GroupRef) {
        self.reorder(group_ref.request, |track| {
            if let Some(group) = track.groups.get_mut(&group_ref.place) {
                group.datagram = None;
            }
            track.move_to(Work::Open, Work::Datagram, group_ref.place);
        });
    }

    /// QUIC accepted the datagram, of so many bytes.
    pub(crate) fn datagram_sent(&mut self, group_ref: GroupRef, bytes: usize) {
        self.reorder(group_ref.request, |track| {
            track.urgency.served = track.urgency.served.saturating_add(bytes as u64);
        });
        self.update_class(group_ref.request);
        self.release(group_ref, true);
    }

    // ---- ends --------------------------------------------------------------------------------

    /// Whether some group has bytes that QUIC has not accepted.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.blocked.is_empty() || self.orders.iter().any(|order| !order.is_empty())
    }

    /// Forgets a group. Its token is free.
    pub(crate) fn release(&mut self, group_ref: GroupRef, sent: bool) -> bool {
        let mut group = None;
        self.reorder(group_ref.request, |track| {
            if track.current == Some(group_ref.place) {
                (track.current, track.is_finishing) = (None, false);
            }
            group = track.remove(group_ref.place);
        });
        let Some(group) = group else { return false };
        if let Some(id) = group.stream {
            self.forget_stream(id);
        }
        let (request, end) = (group_ref.request, group.frame);
        let group = group.token();
        self.released.push_back(ReleasedGroup { request, group, sent, end });
        true
    }

    fn report_unsent(&mut self, request: Key, group: Option<Token>) {
        self.released.push_back(ReleasedGroup { request, group, sent: false, end: 0 });
    }

    fn forget_stream(&mut self, id: StreamId) {
        self.by_stream.remove(&id);
        self.unblock(id);
    }

    /// Changes a track, and its positions in the three orders.
    fn reorder(&mut self, request: Key, change: impl FnOnce(&mut ScheduledTrack)) {
        let Some(track) = self.tracks.get_mut(request) else { return };
        let (before, was_ready) = (track.urgency, track.ready_for());
        change(track);
        if track.has_priorities {
            track.urgency.publisher = track.next_priority();
        }
        let is_ready = track.ready_for();
        if (before, was_ready) == (track.urgency, is_ready) {
            return;
        }
        for order in &mut self.orders {
            order.remove(&(before, request));
        }
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
        for (order, _) in self.orders.iter_mut().zip(is_ready).filter(|(_, is_ready)| *is_ready) {
            order.insert((track.urgency, request));
        }
        if joins {
            self.leave_class(before.priorities());
        }
    }

    /// The track was served: others that become active start from here.
    fn update_class(&mut self, request: Key) {
        let Some(ScheduledTrack { urgency, .. }) = self.tracks.get(request) else { return };
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

    /// Its token, until it is reported. The end of an answer has none.
    fn token(&self) -> Option<Token> {
        matches!(self.part, Part::Whole | Part::NotLast).then_some(self.token)
    }

    /// The stream on which the next group follows, if all of this one is out.
    fn next_stream(&self) -> Option<StreamId> {
        self.stream.filter(|_| self.part == Part::Over)
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
    fn enqueue(&mut self, place: Place, stalls: u64, max: usize) -> Option<ScheduledGroup> {
        let is_datagram = self.groups.get(&place)?.datagram.is_some();
        let work = if is_datagram { Work::Datagram } else { Work::Open };
        self.join(work, place, stalls);
        let line = &self.lines[work as usize];
        let last = *line.last().filter(|_| line.len() > max)?;
        self.remove(self.place(last))
    }

    /// Adds a group, which is in no line yet. `publisher`: a priority of its own.
    fn insert(&mut self, place: Place, group: ScheduledGroup, publisher: Option<u8>) {
        let publisher = publisher.map_or(self.publisher, Reverse);
        self.has_priorities |= publisher != self.publisher;
        self.groups.insert(place, ScheduledGroup { publisher, ..group });
    }

    fn remove(&mut self, place: Place) -> Option<ScheduledGroup> {
        let group = self.groups.remove(&place)?;
        let turn = Turn::new(place, group.publisher, self.ordered);
        for line in &mut self.lines {
            line.remove(&turn);
        }
        Some(group)
    }

    fn turn(&self, place: Place) -> Option<Turn> {
        Some(Turn::new(place, self.groups.get(&place)?.publisher, self.ordered))
    }

    fn place(&self, turn: Turn) -> Place {
        (Turn::group(turn.group, self.ordered), turn.subgroup)
    }

    /// Lets the oldest group go first, or the newest.
    fn order(&mut self, ordered: bool) {
        if ordered == self.ordered {
            return;
        }
        self.ordered = ordered;
        for line in &mut self.lines {
            let turns = mem::take(line).into_iter();
            line.extend(turns.map(|turn| Turn { group: !turn.group, ..turn }));
        }
    }

    fn join(&mut self, work: Work, place: Place, stalls: u64) {
        if let Some(group) = self.groups.get_mut(&place) {
            let turn = Turn::new(place, group.publisher, self.ordered);
            if self.lines[work as usize].insert(turn) {
                group.in_line_since = stalls;
            }
        }
    }

    fn leave(&mut self, work: Work, place: Place) {
        if let Some(turn) = self.turn(place) {
            self.lines[work as usize].remove(&turn);
        }
    }

    /// The group goes from one line to another.
    fn move_to(&mut self, to: Work, from: Work, place: Place) {
        if let Some(turn) = self.turn(place) {
            self.lines[from as usize].remove(&turn);
            self.lines[to as usize].insert(turn);
        }
    }

    /// The group has nothing to write before the cache has more.
    fn wait_for_source(&mut self, place: Place) {
        if let Some(group) = self.groups.get_mut(&place) {
            group.was_refused = false;
            let turn = Turn::new(place, group.publisher, self.ordered);
            self.lines[Work::Write as usize].remove(&turn);
        }
    }

    fn is_writable(&self, place: Place) -> bool {
        let line = &self.lines[Work::Write as usize];
        self.turn(place).is_some_and(|turn| line.contains(&turn))
    }

    /// The group that goes first in this kind of work.
    #[inline]
    fn first(&self, work: Work) -> Option<Place> {
        let is_next = |current: &Place| {
            work == Work::Write && self.is_finishing && self.is_writable(*current)
        };
        let next = self.lines[work as usize].first().map(|turn| self.place(*turn));
        self.current.filter(is_next).or(next)
    }

    /// The publisher's priority of the group that goes first, whichever work it is for.
    fn next_priority(&self) -> Reverse<u8> {
        let next = self.lines.iter().filter_map(BTreeSet::first).min();
        next.map_or(self.publisher, |turn| turn.publisher)
    }

    /// By kind of work: whether the track has a group for it now. A group is opened only before those that are
    /// written after it.
    fn ready_for(&self) -> [bool; 3] {
        let [unopened, writable, datagram] = self.lines.each_ref().map(BTreeSet::first);
        let opens = unopened.is_some_and(|unopened| {
            let is_finishing = self.is_finishing && self.first(Work::Write) == self.current;
            writable.is_none_or(|writable| unopened < writable && !is_finishing)
        });
        [opens, writable.is_some(), datagram.is_some()]
    }
}

impl Turn {
    const fn new((sequence, subgroup): Place, publisher: Reverse<u8>, ordered: bool) -> Self {
        Self { publisher, group: Self::group(sequence, ordered), subgroup }
    }

    /// From the number of a group to [`Turn::group`], and back.
    const fn group(number: u64, ordered: bool) -> u64 {
        if ordered { number } else { !number }
    }
}

impl Urgency {
    /// The same with the priority of this group.
    const fn of(self, group: &ScheduledGroup) -> Self {
        Self { publisher: group.publisher, ..self }
    }

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
    counts: groups, lines;
    plain: urgency, ordered, publisher, has_priorities, current, is_finishing, opened;
} }
census! { Schedule {
    counts: by_stream, orders, blocked, classes, released;
    within: tracks;
    plain: layout, max_pending, congestion, stalls;
} }
