//! Groups on their way out, and the one rule of what goes first, for opening and for writing:
//! subscriber priority; then publisher priority; then fair by bytes between tracks equal in both;
//! within a track the newest group first, the oldest where it is ordered.
//! (Control goes before all of them; see [`Machine::poll_write`](super::Machine::poll_write).)

mod datagrams;

pub(super) use datagrams::MAX_DATAGRAM;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::cmp::Reverse;

use super::io::{Action, Source, Supply, Token};
use super::layout::{Head, Layout};
use super::run::{Run, Scratch};
use crate::census::census;
use crate::slab::{Key, Slab};
use crate::stream::{Code, StreamId};

/// One group on its way out.
#[derive(Debug)]
struct Outgoing {
    token: Token,
    range: Range,
    /// What goes out next: this much of the head, then from this byte of this frame on.
    head: Head,
    head_sent: usize,
    frame: u64,
    skip: usize,
    stream: Option<StreamId>,
    /// It is to go as a datagram, which names its subscription so.
    datagram: Option<u64>,
    /// QUIC held it up and it has not caught up since.
    stalled: bool,
}

/// The groups of one served subscription, or the one of a FETCH.
#[derive(Debug)]
struct Track {
    urgency: Urgency,
    ordered: bool,
    groups: BTreeMap<u64, Outgoing>,
    unopened: BTreeSet<u64>,
    datagrams: BTreeSet<u64>,
    writable: BTreeSet<u64>,
    /// Streams that groups had, ever.
    opened: u64,
}

/// What goes first sorts first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Urgency {
    subscriber: Reverse<u8>,
    publisher: Reverse<u8>,
    /// Bytes that the track was given, as if it had had something to send all the time.
    served: u64,
}

/// Tracks that share what there is: subscriber and publisher priority.
type Class = (Reverse<u8>, Reverse<u8>);

/// What tracks of equal priorities have in common.
#[derive(Debug, Default)]
struct Clock {
    tracks: usize,
    /// That of the track that was given bytes last.
    served: u64,
}

/// Frames of a group: from the first on, up to and with the last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) first: u64,
    pub(super) last: Option<u64>,
}

/// Which group of which subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pick {
    pub(super) track: Key,
    pub(super) sequence: u64,
}

/// Bytes of a group that QUIC may take now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) pick: Pick,
    pub(super) stream: StreamId,
    /// The group ends behind them.
    pub(super) fin: bool,
    /// The cache has no more: the group waits for [`Schedule::ready`] behind them.
    dry: bool,
}

/// A group that the machine will not ask for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Released {
    pub(super) track: Key,
    pub(super) group: Token,
    /// All of it was taken by QUIC.
    pub(super) sent: bool,
}

#[derive(Debug)]
pub(super) struct Schedule {
    layout: Layout,
    max_pending: usize,
    tracks: Slab<Track>,
    by_stream: BTreeMap<StreamId, Pick>,
    to_open: BTreeSet<(Urgency, Key)>,
    to_write: BTreeSet<(Urgency, Key)>,
    to_send: BTreeSet<(Urgency, Key)>,
    /// Streams of which QUIC takes no more for now.
    parked: BTreeSet<StreamId>,
    /// By priorities, for those that some track has.
    clocks: BTreeMap<Class, Clock>,
    pub(super) released: VecDeque<Released>,
}

impl Schedule {
    pub(super) fn new(layout: Layout, max_pending: usize) -> Self {
        Self {
            layout,
            max_pending,
            tracks: Slab::new(),
            by_stream: BTreeMap::new(),
            to_open: BTreeSet::new(),
            to_write: BTreeSet::new(),
            to_send: BTreeSet::new(),
            parked: BTreeSet::new(),
            clocks: BTreeMap::new(),
            released: VecDeque::new(),
        }
    }

    pub(super) fn add_track(&mut self, subscriber: u8, publisher: u8, ordered: bool) -> Key {
        let (subscriber, publisher) = (Reverse(subscriber), Reverse(publisher));
        let urgency = Urgency { subscriber, publisher, served: 0 };
        self.clocks.entry(urgency.class()).or_default().tracks += 1;
        self.tracks.insert(Track {
            urgency,
            ordered,
            groups: BTreeMap::new(),
            unopened: BTreeSet::new(),
            datagrams: BTreeSet::new(),
            writable: BTreeSet::new(),
            opened: 0,
        })
    }

    /// A change of mind of the subscriber, which also reaches streams that are open.
    pub(super) fn update_track(
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

    /// Abandons what is left of a track, with `code` where streams are open.
    pub(super) fn remove_track(&mut self, key: Key, code: Code, actions: &mut VecDeque<Action>) {
        self.reorder(key, |track| {
            track.unopened.clear();
            track.datagrams.clear();
            track.writable.clear();
        });
        let Some(track) = self.tracks.remove(key) else { return };
        self.leave_class(track.urgency.class());
        for group in track.groups.into_values() {
            if let Some(id) = group.stream {
                self.forget_stream(id);
                actions.push_back(Action::Reset { id, code });
            }
            self.released.push_back(Released { track: key, group: group.token, sent: false });
        }
    }

    /// Takes a group into the track. Past the limit the one that would go last is let go.
    pub(super) fn push(&mut self, pick: Pick, token: Token, first_frame: u64, head: Head) {
        let released = |group| Released { track: pick.track, group, sent: false };
        let max_pending = self.max_pending;
        let track = self.tracks.get(pick.track);
        let taken = track.is_some_and(|track| !track.groups.contains_key(&pick.sequence));
        if !taken {
            self.released.push_back(released(token));
            return;
        }
        let mut dropped = None;
        let range = Range { first: first_frame, last: None };
        self.reorder(pick.track, |track| {
            track.groups.insert(pick.sequence, Outgoing::new(token, range, head));
            track.unopened.insert(pick.sequence);
            dropped = track.drop_one_past(max_pending);
        });
        if let Some(group) = dropped {
            self.released.push_back(released(group.token));
        }
    }

    /// Takes frames of a group as all that its track has, for a stream that is there.
    pub(super) fn push_on(&mut self, pick: Pick, token: Token, frames: Range, id: StreamId) {
        self.reorder(pick.track, |track| {
            track.groups.insert(pick.sequence, Outgoing::new(token, frames, Head::new()));
        });
        self.opened(pick, id);
    }

    /// The cache has more of a group than it had.
    pub(super) fn ready(&mut self, pick: Pick) {
        let track = self.tracks.get(pick.track);
        let Some(group) = track.and_then(|track| track.groups.get(&pick.sequence)) else { return };
        match group.stream {
            Some(id) if self.parked.contains(&id) => {}
            Some(_) => self.reorder(pick.track, |track| {
                track.writable.insert(pick.sequence);
            }),
            None if group.datagram.is_some() => self.reorder(pick.track, |track| {
                track.datagrams.insert(pick.sequence);
            }),
            None => {
                let max_pending = self.max_pending;
                let mut dropped = None;
                self.reorder(pick.track, |track| {
                    track.unopened.insert(pick.sequence);
                    dropped = track.drop_one_past(max_pending);
                });
                if let Some(group) = dropped {
                    let (track, group) = (pick.track, group.token);
                    self.released.push_back(Released { track, group, sent: false });
                }
            }
        }
    }

    /// How urgent the streams of the track are for QUIC.
    pub(super) fn quic_priority(&self, key: Key) -> i32 {
        self.tracks.get(key).map_or(CONTROL_PRIORITY, |track| track.urgency.quic_priority())
    }

    /// How many streams the track's groups had so far.
    pub(super) fn opened_streams(&self, key: Key) -> u64 {
        self.tracks.get(key).map_or(0, |track| track.opened)
    }

    /// Whether every group that was given is out or given up.
    pub(super) fn is_drained(&self, key: Key) -> bool {
        self.tracks.get(key).is_none_or(|track| track.groups.is_empty())
    }

    // ---- opening -----------------------------------------------------------------------------

    /// The group that should have the next stream. What is gone takes none, and what has nothing
    /// to say yet waits.
    pub(super) fn pick_unopened(
        &mut self,
        source: &mut impl Source,
        scratch: &mut Scratch,
    ) -> Option<(Pick, i32)> {
        loop {
            let (urgency, key) = *self.to_open.first()?;
            let track = self.tracks.get(key)?;
            let sequence = track.best(&track.unopened)?;
            let group = &track.groups[&sequence];
            let pick = Pick { track: key, sequence };
            let mut probe = Run::probe(scratch, self.layout, group.range.first);
            match source.frames(group.token, group.range.first, &mut probe) {
                Supply::End | Supply::More => return Some((pick, urgency.quic_priority())),
                Supply::Gone(_) => {
                    self.release(pick, false);
                }
                Supply::Pending if probe.was_offered() => {
                    return Some((pick, urgency.quic_priority()));
                }
                Supply::Pending => self.reorder(key, |track| {
                    track.unopened.remove(&sequence);
                }),
            }
        }
    }

    pub(super) fn opened(&mut self, pick: Pick, id: StreamId) {
        self.by_stream.insert(id, pick);
        self.reorder(pick.track, |track| {
            track.opened += 1;
            track.unopened.remove(&pick.sequence);
            if let Some(group) = track.groups.get_mut(&pick.sequence) {
                group.stream = Some(id);
                track.writable.insert(pick.sequence);
            }
        });
    }

    pub(super) fn has_unopened(&self) -> bool {
        !self.to_open.is_empty()
    }

    // ---- writing -----------------------------------------------------------------------------

    /// The group whose bytes go next, shown in `scratch`.
    pub(super) fn pick_writable(
        &mut self,
        source: &mut impl Source,
        scratch: &mut Scratch,
        actions: &mut VecDeque<Action>,
    ) -> Option<Shown> {
        loop {
            let (_, key) = *self.to_write.first()?;
            let track = self.tracks.get(key)?;
            let sequence = track.best(&track.writable)?;
            let group = &track.groups[&sequence];
            let pick = Pick { track: key, sequence };
            let stream = group.stream?;
            scratch.clear();
            scratch.copy(&group.head[group.head_sent..]);
            let mut run =
                Run::new(scratch, self.layout, group.range, group.frame, group.skip, group.stalled);
            let supply = source.frames(group.token, group.frame, &mut run);
            let (cut, over) = (run.was_cut(), run.is_over());
            scratch.flush();
            match supply {
                _ if over => return Some(Shown { pick, stream, fin: true, dry: false }),
                Supply::End if !cut => {
                    return Some(Shown { pick, stream, fin: true, dry: false });
                }
                Supply::Gone(error) => {
                    let code = error.stream_code();
                    actions.push_back(Action::Reset { id: stream, code });
                    self.release(pick, false);
                }
                supply if scratch.total > 0 => {
                    let dry = supply == Supply::Pending && !cut;
                    return Some(Shown { pick, stream, fin: false, dry });
                }
                // Nothing new: it waits for `ready`.
                _ => self.reorder(key, |track| {
                    track.rest(sequence);
                }),
            }
        }
    }

    /// `n` of the bytes that `scratch` shows were taken; if those are all, FIN as well, if there is
    /// one. `parked`: QUIC takes no more for now. How many frames are out whole with them.
    pub(super) fn taken(&mut self, shown: Shown, n: usize, parked: bool, scratch: &Scratch) -> u64 {
        let (pick, ends) = (shown.pick, &scratch.ends);
        let all = n == scratch.total && !parked;
        let mut parked_stream = None;
        let whole = ends.partition_point(|end| *end <= n);
        self.reorder(pick.track, |track| {
            let Some(group) = track.groups.get_mut(&pick.sequence) else { return };
            let head = n.min(group.head.len() - group.head_sent);
            group.head_sent += head;
            match whole.checked_sub(1) {
                // Still inside the frame it was in.
                None => group.skip += n - head,
                Some(last) => {
                    group.frame += whole as u64;
                    group.skip = n - ends[last];
                }
            }
            group.stalled |= parked;
            if parked {
                track.writable.remove(&pick.sequence);
                parked_stream = group.stream;
            } else if all && shown.dry {
                track.rest(pick.sequence);
            }
            track.urgency.served = track.urgency.served.saturating_add(n as u64);
        });
        self.set_clock(pick.track);
        self.parked.extend(parked_stream);
        if all && shown.fin {
            self.release(pick, true);
        }
        whole as u64
    }

    pub(super) fn writable(&mut self, id: StreamId) {
        self.parked.remove(&id);
        let Some(pick) = self.by_stream.get(&id).copied() else { return };
        self.reorder(pick.track, |track| {
            track.writable.insert(pick.sequence);
        });
    }

    /// The peer does not want the group on this stream. `true` if there was one.
    pub(super) fn stopped(&mut self, id: StreamId) -> bool {
        let pick = self.by_stream.get(&id).copied();
        pick.is_some_and(|pick| self.release(pick, false))
    }

    pub(super) fn has_writable(&self) -> bool {
        !self.to_write.is_empty()
    }

    /// Whether some group has bytes that were not taken yet.
    pub(super) fn owes(&self) -> bool {
        !self.parked.is_empty()
            || !self.to_write.is_empty()
            || !self.to_open.is_empty()
            || !self.to_send.is_empty()
    }

    /// Forgets a group. Its token is free.
    fn release(&mut self, pick: Pick, sent: bool) -> bool {
        let mut group = None;
        self.reorder(pick.track, |track| {
            track.unopened.remove(&pick.sequence);
            track.datagrams.remove(&pick.sequence);
            track.writable.remove(&pick.sequence);
            group = track.groups.remove(&pick.sequence);
        });
        let Some(group) = group else { return false };
        if let Some(id) = group.stream {
            self.forget_stream(id);
        }
        self.released.push_back(Released { track: pick.track, group: group.token, sent });
        true
    }

    /// Everything that is remembered.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        let groups: usize = self.tracks.iter().map(|track| track.groups.len()).sum();
        let orders = self.to_open.len() + self.to_write.len();
        self.tracks.len() + groups + orders + self.by_stream.len() + self.released.len()
    }

    fn forget_stream(&mut self, id: StreamId) {
        self.by_stream.remove(&id);
        self.parked.remove(&id);
    }

    /// Changes a track and its places in the two orders.
    fn reorder(&mut self, key: Key, change: impl FnOnce(&mut Track)) {
        let Some(track) = self.tracks.get_mut(key) else { return };
        let (before, could) = (track.urgency, track.can());
        change(track);
        let can = track.can();
        if (before, could) == (track.urgency, can) {
            return;
        }
        self.to_open.remove(&(before, key));
        self.to_write.remove(&(before, key));
        self.to_send.remove(&(before, key));
        let class = track.urgency.class();
        let joins = before.class() != class;
        if joins {
            track.urgency.served = 0;
            self.clocks.entry(class).or_default().tracks += 1;
        }
        if joins || could == [false; 3] {
            // Who was away gets no credit for it, and who is new owes nothing.
            let clock = self.clocks.get(&class).map_or(0, |clock| clock.served);
            track.urgency.served = track.urgency.served.max(clock);
        }
        let orders = [&mut self.to_open, &mut self.to_write, &mut self.to_send];
        for (order, _) in orders.into_iter().zip(can).filter(|(_, can)| *can) {
            order.insert((track.urgency, key));
        }
        if joins {
            self.leave_class(before.class());
        }
    }

    /// The track was given bytes.
    fn set_clock(&mut self, track: Key) {
        let Some(Track { urgency, .. }) = self.tracks.get(track) else { return };
        if let Some(clock) = self.clocks.get_mut(&urgency.class()) {
            clock.served = urgency.served;
        }
    }

    fn leave_class(&mut self, class: Class) {
        if let Some(clock) = self.clocks.get_mut(&class) {
            clock.tracks -= 1;
            if clock.tracks == 0 {
                self.clocks.remove(&class);
            }
        }
    }
}

impl Outgoing {
    fn new(token: Token, range: Range, head: Head) -> Self {
        Self {
            token,
            range,
            head,
            head_sent: 0,
            frame: range.first,
            skip: 0,
            stream: None,
            datagram: None,
            stalled: false,
        }
    }
}

impl Track {
    /// If more than `max` groups want a stream, the one that would have it last goes.
    fn drop_one_past(&mut self, max: usize) -> Option<Outgoing> {
        if self.unopened.len() <= max {
            return None;
        }
        let last = if self.ordered { self.unopened.pop_last() } else { self.unopened.pop_first() };
        last.and_then(|sequence| self.groups.remove(&sequence))
    }

    /// Nothing of the group can be written before the cache has more.
    fn rest(&mut self, sequence: u64) {
        self.writable.remove(&sequence);
        if let Some(group) = self.groups.get_mut(&sequence) {
            group.stalled = false;
        }
    }

    /// Whether it has something to open, to write, and to send as a datagram.
    fn can(&self) -> [bool; 3] {
        [&self.unopened, &self.writable, &self.datagrams].map(|groups| !groups.is_empty())
    }

    fn best(&self, of: &BTreeSet<u64>) -> Option<u64> {
        if self.ordered { of.first().copied() } else { of.last().copied() }
    }
}

impl Urgency {
    const fn class(&self) -> Class {
        (self.subscriber, self.publisher)
    }

    /// The same order for QUIC's own scheduler, below [`CONTROL_PRIORITY`].
    fn quic_priority(&self) -> i32 {
        i32::from(self.subscriber.0) << 8 | i32::from(self.publisher.0)
    }
}

/// Control streams go before every group.
pub(super) const CONTROL_PRIORITY: i32 = 1 << 16;

census! { each Track {
    counts: groups, unopened, datagrams, writable;
    plain: urgency, ordered, opened;
} }
census! { Schedule {
    counts: by_stream, to_open, to_write, to_send, parked, clocks, released;
    within: tracks;
    plain: layout, max_pending;
} }
