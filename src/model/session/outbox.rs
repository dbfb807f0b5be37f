//! What a session sends, as the machine reads it: groups and announcements, pinned by nothing.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use crate::census::census;
use crate::machine::{Announcement, Command, RequestKey, Run, Source, Supply, Token};
use crate::model::cache::{GroupConsumer, GroupCursor, TrackConsumer};
use crate::model::routing::{AnnounceQuota, AnnounceReader};
use crate::slab::Slab;
use crate::{Error, Instant, Subscription, TrackInfo};

/// What the peer asked for and is being given. Tables by slot of the request.
#[derive(Default)]
pub(crate) struct Outbox {
    /// Few, and all are looked at for their deadlines.
    readers: BTreeMap<usize, AnnounceSender>,
    /// Broadcasts that the peer was told of by all of them, and how many that may be.
    announced: usize,
    max_announced: usize,
    /// It was too many for one more, and nobody said so yet.
    is_over_quota: bool,
    serves: Vec<Option<ServedTrack>>,
    /// How many of them there are.
    serving: usize,
    answers: Vec<Option<ServedFetch>>,
    groups: Slab<OutgoingGroup>,
    /// Who tells of more of a group, by slot of the group: made once a slot.
    group_wakers: Vec<Waker>,
}

/// Announcements for the peer.
struct AnnounceSender {
    request: RequestKey,
    reader: AnnounceReader,
    waker: Waker,
    state: AnnouncePhase,
    /// When to look again although nothing changes; `None` too if that was said.
    deadline: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnnouncePhase {
    /// It counts what there is, which the peer is told at first.
    Counts,
    /// It need not, or has done so, and the machine was not told.
    Begins,
    /// The machine reads it.
    Reads,
}

/// A track that the peer reads, or asks what it is.
struct ServedTrack {
    request: RequestKey,
    track: TrackConsumer,
    waker: Waker,
    step: ServePhase,
    /// Whether the subscriber was told the first group.
    started: bool,
    /// The lowest group that was given.
    lowest: u64,
    /// Groups from here on came after the subscription.
    next_sequence: u64,
    /// Groups below are not wanted any more.
    floor: u64,
}

/// A group that the peer fetches.
struct ServedFetch {
    request: RequestKey,
    track: TrackConsumer,
    priority: u8,
    sequence: u64,
    /// The group, once it is here. It is kept until all of it is out.
    group: Option<GroupConsumer>,
    /// Tells of the group.
    waker: Waker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServePhase {
    /// Asked what it is; it is not known yet.
    Describe,
    /// Subscribed; it is not known yet what the track is.
    Accept,
    /// Groups are given.
    Groups,
    /// All groups are given.
    Over,
}

/// A group on its way.
struct OutgoingGroup {
    request: RequestKey,
    cursor: GroupCursor,
    /// It was given up for its age.
    is_old: bool,
}

/// What is to be told to the machine next.
pub(crate) enum OutboxStep {
    /// Nothing: a group is too old, and it is missed or not. There may be more.
    Skipped(bool),
    /// This, and there may be more.
    Command(Command),
    /// This, and nothing else.
    Last(Command),
    /// This; the track is to be kept for the subscription that follows.
    Described(Command, Box<TrackConsumer>),
}

impl Outbox {
    pub(crate) fn new(max_announced: usize) -> Self {
        Self { max_announced, ..Self::default() }
    }

    /// What one request of the peer is to be told. `is_counted`: first how much there is.
    pub(crate) fn add_reader(
        &mut self,
        request: RequestKey,
        reader: AnnounceReader,
        waker: Waker,
        is_counted: bool,
    ) {
        let state = if is_counted { AnnouncePhase::Counts } else { AnnouncePhase::Begins };
        let slot = request.slot();
        self.readers.insert(slot, AnnounceSender { request, reader, waker, state, deadline: None });
    }

    /// What the machine is to be told of a reader that may have news.
    pub(crate) fn next_for_reader(&mut self, slot: usize) -> Option<Command> {
        let quota = self.quota();
        let AnnounceSender { request, reader, waker, state, .. } = self.readers.get_mut(&slot)?;
        // Where it is not counted it is not told.
        let mut active = u64::MAX;
        if *state == AnnouncePhase::Counts {
            let Some(count) = reader.promise(quota.left) else {
                waker.wake_by_ref();
                return None;
            };
            (active, *state) = (count, AnnouncePhase::Begins);
        }
        let request = *request;
        if std::mem::replace(state, AnnouncePhase::Reads) == AnnouncePhase::Reads {
            return Some(Command::AnnouncementsReady { request });
        }
        // One reader a request: the slot says it all.
        let reader = Token { slot: slot as u32, generation: 0 };
        Some(Command::AcceptAnnounce { request, reader, active })
    }

    /// Whether the peer could not be told of something for want of room, since this was asked last.
    pub(crate) fn take_over_quota(&mut self) -> bool {
        std::mem::take(&mut self.is_over_quota)
    }

    fn quota(&self) -> AnnounceQuota {
        AnnounceQuota {
            left: self.max_announced.saturating_sub(self.announced),
            all: self.max_announced,
        }
    }

    /// What a reader has told changed from `before` to `after`. Where there is room again, who had none looks
    /// again.
    fn count_announced(&mut self, before: usize, after: usize) {
        let had_headroom = self.quota().has_headroom();
        self.announced = self.announced + after - before;
        if !had_headroom && self.quota().has_headroom() {
            let short = self.readers.values().filter(|it| it.reader.is_over_quota());
            short.for_each(|it| it.waker.wake_by_ref());
        }
    }

    /// When an announcement is due that is held now.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.readers.values().filter_map(|reader| reader.deadline).min()
    }

    /// A request with announcements that were held and are due; each is named once.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<RequestKey> {
        self.readers.values_mut().find_map(|reader| {
            reader.deadline.take_if(|deadline| *deadline <= now).map(|_| reader.request)
        })
    }

    /// A track that the peer subscribed.
    pub(crate) fn add_serve(&mut self, request: RequestKey, track: TrackConsumer, waker: Waker) {
        self.add(request, track, waker, ServePhase::Accept);
    }

    /// A track that the peer asks about.
    pub(crate) fn add_describe(&mut self, request: RequestKey, track: TrackConsumer, waker: Waker) {
        self.add(request, track, waker, ServePhase::Describe);
    }

    fn add(&mut self, request: RequestKey, track: TrackConsumer, waker: Waker, step: ServePhase) {
        let (next_sequence, floor) = (track.next_sequence(), 0);
        self.serving += 1;
        let (started, lowest) = (false, u64::MAX);
        let serve =
            ServedTrack { request, track, waker, step, started, lowest, next_sequence, floor };
        put(&mut self.serves, request.slot(), serve);
    }

    fn serve(&mut self, slot: usize) -> Option<&mut ServedTrack> {
        self.serves.get_mut(slot)?.as_mut()
    }

    pub(crate) fn update(&mut self, slot: usize, mut want: Subscription) {
        if let Some(serve) = self.serve(slot) {
            // What was given is not given again.
            serve.floor = want.start.unwrap_or(0);
            want.start = serve.track.subscription().start;
            serve.track.update(want);
            serve.waker.wake_by_ref();
        }
    }

    /// Looks at the track again, soon.
    pub(crate) fn wake(&mut self, slot: usize) {
        if let Some(serve) = self.serve(slot) {
            serve.waker.wake_by_ref();
        }
    }

    /// What is left of it: a track that somebody else may ask for soon.
    pub(crate) fn end_request(&mut self, slot: usize) -> Option<TrackConsumer> {
        if let Some(reader) = self.readers.remove(&slot) {
            self.count_announced(reader.reader.announced(), 0);
        }
        self.end_serve(slot);
        let mut track = self.answers.get_mut(slot)?.take()?.track;
        track.cancel_fetch();
        Some(track)
    }

    /// A group that the peer fetches.
    pub(crate) fn add_answer(
        &mut self,
        request: RequestKey,
        track: TrackConsumer,
        priority: u8,
        sequence: u64,
        waker: Waker,
    ) {
        let answer = ServedFetch { request, track, priority, sequence, group: None, waker };
        put(&mut self.answers, request.slot(), answer);
    }

    /// What the machine is to be told of a group that the peer fetches.
    pub(crate) fn next_answer(
        &mut self,
        slot: usize,
        group_waker: impl FnOnce(usize) -> Waker,
    ) -> Option<Command> {
        let answer = self.answers.get_mut(slot)?.as_mut()?;
        let (request, sequence) = (answer.request, answer.sequence);
        if answer.group.is_some() {
            return None;
        }
        match answer.track.poll_fetch(Some(&answer.waker), sequence, answer.priority) {
            Poll::Pending => None,
            Poll::Ready(Ok(group)) => {
                let cursor = group.cursor();
                answer.group = Some(group);
                // Of one that is not known yet only the default can be said.
                let info = match answer.track.try_info() {
                    Poll::Ready(Ok(info)) => info,
                    _ => TrackInfo::default(),
                };
                let group =
                    self.send(OutgoingGroup { request, cursor, is_old: false }, group_waker);
                Some(Command::AcceptFetch { request, group, info })
            }
            Poll::Ready(Err(error)) => {
                self.answers[slot] = None;
                Some(Command::Refuse { request, error })
            }
        }
    }

    /// A group that the machine reads from now on; `waker` makes the one that tells of more of what is in a
    /// slot.
    fn send(&mut self, sending: OutgoingGroup, waker: impl FnOnce(usize) -> Waker) -> Token {
        let key = self.groups.insert(sending);
        if key.0 as usize == self.group_wakers.len() {
            self.group_wakers.push(waker(self.group_wakers.len()));
        }
        key.into()
    }

    fn end_serve(&mut self, slot: usize) -> Option<ServedTrack> {
        let serve = self.serves.get_mut(slot)?.take()?;
        self.serving -= 1;
        Some(serve)
    }

    /// The machine will not ask for the group again. Whether it was given up for its age.
    pub(crate) fn release(&mut self, group: Token) -> bool {
        self.groups.remove(group.into()).is_some_and(|sending| sending.is_old)
    }

    /// How many tracks the peer reads, or asks about.
    pub(crate) fn serving(&self) -> usize {
        self.serving
    }

    /// How many groups are on their way.
    pub(crate) fn sending(&self) -> usize {
        self.groups.len()
    }

    /// What the machine is to be told of the track of a request.
    pub(crate) fn next_for(
        &mut self,
        slot: usize,
        group_waker: impl FnOnce(usize) -> Waker,
    ) -> Option<OutboxStep> {
        let serve = self.serves.get_mut(slot)?.as_mut()?;
        let request = serve.request;
        if let Some(group) = serve.start() {
            return Some(OutboxStep::Command(Command::StartSubscribe { request, group }));
        }
        let error = match serve.step {
            ServePhase::Describe | ServePhase::Accept => {
                match serve.track.poll_info(&mut Context::from_waker(&serve.waker)) {
                    Poll::Pending => return None,
                    Poll::Ready(Ok(info)) if serve.step == ServePhase::Accept => {
                        serve.step = ServePhase::Groups;
                        return Some(OutboxStep::Command(Command::AcceptSubscribe {
                            request,
                            info,
                        }));
                    }
                    Poll::Ready(Ok(info)) => {
                        let track = self.end_serve(slot)?.track;
                        return Some(OutboxStep::Described(
                            Command::AcceptTrack { request, info },
                            Box::new(track),
                        ));
                    }
                    Poll::Ready(Err(error)) => error,
                }
            }
            ServePhase::Groups => match serve.track.poll_recv_cursor(Some(&serve.waker)) {
                Poll::Pending => return None,
                Poll::Ready(Ok(Some(cursor))) => {
                    let sequence = cursor.sequence();
                    if sequence < serve.floor {
                        return Some(OutboxStep::Skipped(false));
                    }
                    if serve.track.is_old(sequence) {
                        // What was old before it was asked for is not missed.
                        return Some(OutboxStep::Skipped(sequence >= serve.next_sequence));
                    }
                    serve.lowest = serve.lowest.min(sequence);
                    let is_datagram = cursor.is_datagram();
                    let group =
                        self.send(OutgoingGroup { request, cursor, is_old: false }, group_waker);
                    return Some(OutboxStep::Command(match is_datagram {
                        true => Command::Datagram { request, group, sequence },
                        false => Command::Group { request, group, sequence, first_frame: 0 },
                    }));
                }
                Poll::Ready(Ok(None)) => {
                    // Without an end of the track it is the subscription's own, which may move yet:
                    // the track's is waited for.
                    let mut cx = Context::from_waker(&serve.waker);
                    match (serve.track.end(), serve.track.poll_closed(&mut cx)) {
                        (Some(end), _) => {
                            serve.step = ServePhase::Over;
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
            ServePhase::Over => return None,
        };
        self.end_serve(slot);
        Some(OutboxStep::Last(Command::Refuse { request, error }))
    }

    /// A group that may have more now.
    pub(crate) fn group_ready(&mut self, slot: usize) -> Option<Command> {
        let (_, OutgoingGroup { request, cursor, .. }) = self.groups.at(slot)?;
        Some(Command::GroupReady { request: *request, sequence: cursor.sequence() })
    }
}

impl ServedTrack {
    /// The first group that will be given, when it is known and was not told.
    fn start(&mut self) -> Option<u64> {
        if self.started || self.step != ServePhase::Groups {
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
        let slot = sending.request.slot();
        let answer = self.answers.get(slot).and_then(Option::as_ref);
        let is_answer = answer.is_some_and(|answer| answer.request == sending.request);
        let serve = self.serves.get(slot).and_then(Option::as_ref);
        let serve = serve.filter(|serve| serve.request == sending.request);
        if serve.is_none() && !is_answer {
            return Supply::Gone(Error::Cancelled);
        }
        // A fetched group has no age.
        let aging = serve.filter(|_| !is_answer && run.is_waiting());
        if aging.is_some_and(|serve| serve.track.is_old(sending.cursor.sequence())) {
            sending.is_old = true;
            return Supply::Gone(Error::Old);
        }
        let (waker, skipped) = (self.group_wakers.get(group.slot as usize), run.skipped());
        let supply = sending.cursor.frames(from, skipped, waker, &mut |frame| run.push(frame));
        sending.is_old = !is_answer && supply == Supply::Gone(Error::Old);
        supply
    }

    fn announcement(&mut self, reader: Token) -> Option<Announcement> {
        let quota = self.quota();
        let AnnounceSender { reader, waker, deadline, .. } =
            self.readers.get_mut(&(reader.slot as usize))?;
        let (before, was_over_quota) = (reader.announced(), reader.is_over_quota());
        let next = reader.poll_next(Some(waker), quota);
        *deadline = reader.deadline();
        self.is_over_quota |= reader.is_over_quota() && !was_over_quota;
        let after = reader.announced();
        self.count_announced(before, after);
        match next {
            Poll::Ready(announcement) => Some(announcement),
            Poll::Pending => None,
        }
    }
}

fn put<T>(table: &mut Vec<Option<T>>, slot: usize, value: T) {
    if slot >= table.len() {
        table.resize_with(slot + 1, || None);
    }
    table[slot] = Some(value);
}

census! { each AnnounceSender { counts: deadline; within: reader; plain: request, waker, state; } }

census! { each ServedTrack {
    plain: request, track, waker, step, started, lowest, next_sequence, floor;
} }

census! { each ServedFetch { counts: group; plain: request, track, priority, sequence, waker; } }

census! { each OutgoingGroup { plain: request, cursor, is_old; } }

census! { Outbox {
    counts: announced;
    within: readers, serves, answers, groups;
    plain: max_announced, is_over_quota, serving, group_wakers;
} }
