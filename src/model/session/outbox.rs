//! The side of a session that sends: the groups and announcements that the machine reads. It pins only
//! fetched groups in the cache.

mod served_fetches;

use std::cell::Cell;
use std::task::{Context, Poll, Waker};

pub(crate) use self::served_fetches::FetchedGroups;
use self::served_fetches::{FetchStep, ServedFetches};
use crate::census::census;
use crate::machine::{
    Announcement, Command, FramePosition, FrameView, RequestKey, Run, Source, Subgroup, Supply,
    Token,
};
use crate::model::cache::{GroupCursor, GroupForm, TrackConsumer};
use crate::model::routing::PeerTracks;
use crate::model::session::announce_senders::AnnounceSenders;
use crate::slab::{SideTable, Slab};
use crate::{Error, Subscription};

/// The requests of the peer that are being served.
#[derive(Default)]
pub(crate) struct Outbox {
    pub(super) announcing: AnnounceSenders,
    /// The tracks that the peer subscribed to.
    pub(super) peer_tracks: PeerTracks,
    tracks: SideTable<ServedTrack>,
    pub(super) fetches: ServedFetches,
    groups: Slab<OutgoingGroup>,
    /// Wakers for more of a group, by slot of the group. Each is made once.
    group_wakers: Vec<Waker>,
}

/// A track that the peer subscribed to or queries.
struct ServedTrack {
    track: TrackConsumer,
    /// The track that answers a query if this one can't.
    finished: Option<TrackConsumer>,
    waker: Waker,
    phase: ServePhase,
    /// Whether START was sent.
    started: bool,
    /// The lowest group that was sent.
    lowest: u64,
    /// Groups from this sequence on came after the subscription.
    next_sequence: u64,
    /// Groups below this sequence are no longer wanted.
    floor: u64,
    /// The peer subscribed before anybody accepted the track.
    is_early: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServePhase {
    /// It was queried, and its properties are not known yet.
    Query,
    /// It was subscribed, and its properties are not known yet.
    Accept,
    /// Its groups are sent.
    Groups,
    /// All its groups were sent.
    Done,
}

/// A group that is being sent.
struct OutgoingGroup {
    request: RequestKey,
    cursor: GroupCursor,
    /// The number of its subgroup.
    subgroup: u64,
    /// The number of frames before those of the cursor.
    base: u32,
    /// Whether it is no group of an application, or what follows one.
    is_rest: bool,
    /// Whether it was given up because of its age.
    is_old: bool,
}

/// A group, or a part of one, and the part of moq-transport as which it is sent, if it is.
type GroupToSend = (GroupCursor, Option<Subgroup>);

impl OutgoingGroup {
    fn new(request: RequestKey, cursor: GroupCursor) -> Self {
        Self { request, cursor, subgroup: 0, base: 0, is_rest: false, is_old: false }
    }
}

/// The next step for a served track.
pub(crate) enum OutboxStep {
    /// A group was too old. It counts as missed or not. There may be more steps.
    Skipped(bool),
    /// A command. There may be more steps.
    Command(Command),
    /// The last command.
    Last(Command),
    /// The last command. The track is kept for a subscription that may follow.
    Queried(Command, Box<TrackConsumer>),
}

impl Outbox {
    /// At most `max_announced` broadcasts are announced to the peer.
    pub(crate) fn new(max_announced: usize) -> Self {
        Self { announcing: AnnounceSenders::new(max_announced), ..Self::default() }
    }

    /// Adds a track that the peer subscribed to.
    pub(crate) fn add_track(&mut self, request: RequestKey, track: TrackConsumer, waker: Waker) {
        self.peer_tracks.serve(&track);
        self.add(request, track, waker, ServePhase::Accept);
    }

    /// Adds a track that the peer queries.
    pub(crate) fn add_query(&mut self, request: RequestKey, track: TrackConsumer, waker: Waker) {
        self.add(request, track, waker, ServePhase::Query);
    }

    /// If the query can't be answered, this track answers it.
    pub(crate) fn answer_from(&mut self, request: RequestKey, finished: Option<TrackConsumer>) {
        if let Some(served) = self.tracks.get_mut(request.into()) {
            served.finished = finished;
        }
    }

    fn add(&mut self, request: RequestKey, track: TrackConsumer, waker: Waker, phase: ServePhase) {
        let (next_sequence, floor) = (track.next_sequence(), 0);
        let (started, lowest, is_early) = (false, u64::MAX, track.is_unanswered());
        let served = ServedTrack {
            track,
            finished: None,
            waker,
            phase,
            started,
            lowest,
            next_sequence,
            floor,
            is_early,
        };
        self.tracks.insert(request.into(), served);
    }

    pub(crate) fn update(&mut self, request: RequestKey, mut want: Subscription) {
        if let Some(served) = self.tracks.get_mut(request.into()) {
            if served.phase == ServePhase::Accept || !served.has_begun() {
                // The subscription may also begin earlier than before.
                served.track.update_unread(want);
            } else {
                // Groups that were sent are not sent again.
                served.floor = want.start.unwrap_or(0);
                want.start = served.track.subscription().start;
                served.track.update(want);
            }
            served.waker.wake_by_ref();
        }
    }

    /// Schedules another step for the track.
    pub(crate) fn wake(&mut self, slot: usize) {
        if let Some((_, served)) = self.tracks.at(slot) {
            served.waker.wake_by_ref();
        }
    }

    /// Ends a request. Returns its track if that may be requested again soon.
    pub(crate) fn end_request(&mut self, request: RequestKey) -> Option<TrackConsumer> {
        self.announcing.remove(request.slot());
        self.end_track(request);
        self.fetches.remove(request)
    }

    /// The next command for what the peer fetches. `no_group`: the error if the track exists, and the group does not.
    pub(crate) fn next_for_fetch(
        &mut self,
        slot: usize,
        no_group: Error,
        group_waker: impl FnOnce(usize) -> Waker,
    ) -> Option<Command> {
        match self.fetches.next(slot, no_group)? {
            FetchStep::Command(command) => Some(command),
            FetchStep::Group { request, cursor, info, frames, ends_track } => {
                let group = self.send(OutgoingGroup::new(request, cursor), group_waker);
                Some(Command::AcceptFetch { request, group, info, frames, ends_track })
            }
            FetchStep::Run { request, cursor, run, gap } => {
                let group = self.send(OutgoingGroup::new(request, cursor), group_waker);
                Some(Command::RangeGroup { request, group, run, gap })
            }
        }
    }

    /// A reader of the track that the peer subscribed to by this request.
    pub(crate) fn query(&self, request: RequestKey) -> Option<TrackConsumer> {
        self.tracks.get(request.into()).map(|served| served.track.query())
    }

    /// Lets the machine read a group. `waker` makes the waker for a slot that is used for the first
    /// time.
    fn send(&mut self, sending: OutgoingGroup, waker: impl FnOnce(usize) -> Waker) -> Token {
        let key = self.groups.insert(sending);
        if key.0 as usize == self.group_wakers.len() {
            self.group_wakers.push(waker(self.group_wakers.len()));
        }
        key.into()
    }

    fn end_track(&mut self, request: RequestKey) -> Option<ServedTrack> {
        let served = self.tracks.remove(request.into())?;
        if served.phase != ServePhase::Query {
            self.peer_tracks.end(&served.track);
        }
        Some(served)
    }

    /// The machine will not read the group again. Returns whether the group was given up because of
    /// its age.
    pub(crate) fn release(&mut self, group: Token) -> bool {
        let Some(sending) = self.groups.remove(group.into()) else { return false };
        self.fetches.sent(sending.request);
        sending.is_old
    }

    /// The number of tracks that the peer reads or queries.
    pub(crate) fn serving(&self) -> usize {
        self.tracks.len()
    }

    /// The number of groups that are being sent.
    pub(crate) fn sending(&self) -> usize {
        self.groups.len()
    }

    /// The next step for the track of a request.
    pub(crate) fn next_for_track(
        &mut self,
        slot: usize,
        group_waker: impl FnOnce(usize) -> Waker,
    ) -> Option<OutboxStep> {
        let (key, served) = self.tracks.at(slot)?;
        let request = RequestKey::of(key);
        if let Some(group) = served.start() {
            return Some(OutboxStep::Command(Command::StartSubscribe { request, group }));
        }
        if served.phase == ServePhase::Query
            && matches!(served.track.try_info(), Poll::Ready(Err(_)))
        {
            if let Some(finished) = served.finished.take() {
                served.track = finished;
            }
        }
        let error = match served.phase {
            ServePhase::Query | ServePhase::Accept => {
                match served.track.poll_info(&mut Context::from_waker(&served.waker)) {
                    Poll::Pending => return None,
                    Poll::Ready(Ok(info)) if served.phase == ServePhase::Accept => {
                        served.phase = ServePhase::Groups;
                        let largest = served.largest();
                        return Some(OutboxStep::Command(Command::AcceptSubscribe {
                            request,
                            info,
                            largest,
                        }));
                    }
                    Poll::Ready(Ok(info)) => {
                        let track = self.end_track(request)?.track;
                        let largest = track.last_position(FramePosition::MAX);
                        return Some(OutboxStep::Queried(
                            Command::AcceptTrack { request, info, largest },
                            Box::new(track),
                        ));
                    }
                    Poll::Ready(Err(error)) => error,
                }
            }
            ServePhase::Groups => match served.poll_group() {
                Poll::Pending => return None,
                Poll::Ready(Ok(Some((cursor, part)))) => {
                    let sequence = cursor.sequence();
                    if sequence < served.floor {
                        return Some(OutboxStep::Skipped(false));
                    }
                    if served.track.is_old(sequence) {
                        // A group that was too old before the subscription is not missed.
                        return Some(OutboxStep::Skipped(sequence >= served.next_sequence));
                    }
                    served.lowest = served.lowest.min(sequence);
                    let form = cursor.form();
                    let sending = OutgoingGroup::new(request, cursor);
                    let subgroup = part.map_or(0, |part| part.number);
                    let is_rest = part.is_some_and(|part| part.is_apart());
                    let sending = OutgoingGroup { subgroup, is_rest, ..sending };
                    let group = self.send(sending, group_waker);
                    return Some(OutboxStep::Command(match part {
                        Some(subgroup) => Command::Subgroup { request, group, sequence, subgroup },
                        None if form == GroupForm::Datagram => {
                            Command::Datagram { request, group, sequence }
                        }
                        None => Command::Group { request, group, sequence, first_frame: 0 },
                    }));
                }
                Poll::Ready(Ok(None)) => {
                    // The track has not ended, so this is the end of the subscription, which the
                    // peer can still move. So wait for the end of the track.
                    let mut cx = Context::from_waker(&served.waker);
                    match (served.track.end(), served.track.poll_closed(&mut cx)) {
                        (Some(end), _) => {
                            served.phase = ServePhase::Done;
                            return Some(OutboxStep::Last(Command::FinishSubscribe {
                                request,
                                end,
                            }));
                        }
                        (None, Poll::Ready(Err(error))) => error,
                        (None, _) => return None,
                    }
                }
                Poll::Ready(Err(error)) => error,
            },
            ServePhase::Done => return None,
        };
        self.end_track(request);
        Some(OutboxStep::Last(Command::Refuse { request, error }))
    }

    /// A group may have more to send.
    pub(crate) fn group_ready(&mut self, slot: usize) -> Option<Command> {
        let (_, OutgoingGroup { request, cursor, subgroup, .. }) = self.groups.at(slot)?;
        let (request, sequence) = (*request, cursor.sequence());
        Some(match *subgroup {
            0 => Command::GroupReady { request, sequence },
            number => Command::SubgroupReady { request, sequence, number },
        })
    }
}

impl ServedTrack {
    /// The next group, or the next part that is none.
    fn poll_group(&mut self) -> Poll<Result<Option<GroupToSend>, Error>> {
        match self.track.poll_recv_cursor(Some(&self.waker)) {
            Poll::Ready(Ok(Some(group))) => {
                let part = group.form().part();
                Poll::Ready(Ok(Some((group, part))))
            }
            // Its waker is registered first, so that none is missed.
            other => match self.track.next_subgroup() {
                Some((cursor, part)) => Poll::Ready(Ok(Some((cursor, Some(part))))),
                None => other.map_ok(|_| None),
            },
        }
    }

    /// Whether a group was sent, or START named the first one.
    fn has_begun(&self) -> bool {
        self.started || self.lowest < u64::MAX
    }

    /// The newest frame when the peer subscribed. Later frames belong to the subscription.
    fn largest(&self) -> Option<FramePosition> {
        let has_past = !self.is_early || self.track.has_past();
        has_past.then(|| self.track.last_position(FramePosition::MAX)).flatten()
    }

    /// The first group that will be sent, once it is known and was not reported.
    fn start(&mut self) -> Option<u64> {
        if self.started || self.phase != ServePhase::Groups {
            return None;
        }
        let start = self.track.start()?.min(self.lowest);
        self.started = true;
        Some(start)
    }
}

impl Source for Outbox {
    fn frames(&mut self, group: Token, from: u64, run: &mut Run<'_>) -> Supply {
        #[cfg(test)]
        crate::model::base::count_step();
        let Some(sending) = self.groups.get_mut(group.into()) else {
            return Supply::Gone(Error::Cancelled);
        };
        let is_fetched = self.fetches.has(sending.request);
        let served = self.tracks.get(sending.request.into());
        if served.is_none() && !is_fetched {
            return Supply::Gone(Error::Cancelled);
        }
        // A fetched group is never too old.
        let aging = served.filter(|_| !is_fetched && run.is_waiting());
        if aging.is_some_and(|served| served.track.is_old(sending.cursor.sequence())) {
            sending.is_old = true;
            return Supply::Gone(Error::Old);
        }
        // The rest of a group is as old as its next frame.
        let has_begun = from > 0 || run.skipped() > 0;
        let oldest = aging.filter(|_| has_begun);
        let oldest =
            oldest.and_then(|served| served.track.oldest_useful(sending.cursor.sequence()));
        let (mut is_next, mut is_old) = (true, false);
        let (waker, skipped) = (self.group_wakers.get(group.slot as usize), run.skipped());
        let shown = Cell::new(from - u64::from(sending.base));
        let mut push = |frame: FrameView<'_>| {
            is_old |=
                std::mem::take(&mut is_next) && oldest.is_some_and(|it| frame.timestamp <= it);
            shown.set(shown.get() + 1);
            !is_old && run.push(frame)
        };
        let mut supply = sending.cursor.frames(shown.get(), skipped, waker, &mut push);
        let ends = matches!(supply, Supply::End | Supply::Gone(_)) && !sending.is_rest;
        let rest = served.filter(|_| ends).and_then(|it| it.track.rest(sending.cursor.sequence()));
        if let Some(rest) = rest.filter(|_| shown.get() == sending.cursor.frame_count()) {
            supply = Supply::More;
            if shown.get() == from {
                (sending.cursor, sending.base, sending.is_rest) = (rest, from as u32, true);
                supply = sending.cursor.frames(0, skipped, waker, &mut push);
            }
        }
        let supply = if is_old { Supply::Gone(Error::Old) } else { supply };
        sending.is_old = !is_fetched && supply == Supply::Gone(Error::Old);
        supply
    }

    fn announcement(&mut self, reader: Token) -> Option<Announcement> {
        self.announcing.next(reader, &self.peer_tracks)
    }
}

census! { each ServedTrack {
    plain: track, finished, waker, phase, started, lowest, next_sequence, floor, is_early;
} }

census! { each OutgoingGroup { plain: request, cursor, subgroup, base, is_rest, is_old; } }

census! { Outbox {
    within: announcing, peer_tracks, tracks, fetches, groups;
    plain: group_wakers;
} }
