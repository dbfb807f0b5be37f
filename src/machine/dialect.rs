//! What a dialect has to say, and the conversations that go alike in all of them.
//!
//! The machine is a [`Core`] (streams, requests, schedule, subscriptions in both directions, timers)
//! and a dialect, which knows what bytes mean. The required methods read and write its messages; the
//! provided ones are the life of a subscription and of a group, written once.

use super::app::{Event, GroupKey, RequestKey};
use super::incoming::{Header, Owner, Part, Read, State};
use super::io::{Source, Token};
use super::layout::Head;
use super::schedule::{Pick, Released};
use super::serves::Serving;
use super::streams::buffer;
use super::subs::Sub;
use super::timers::Timer;
use super::{Command, Core, State as Session};
use crate::error::Error;
use crate::hop::Hop;
use crate::path::Path;
use crate::slab::Key;
use crate::subscription::TrackInfo;
use crate::time::Instant;

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

/// What became of a look at a stream.
pub(super) enum Look {
    /// Something to tell; there may be more.
    Event(Event),
    /// Something was done; there may be more.
    More,
    /// Nothing more until more bytes come.
    Wait,
}

impl Look {
    /// A request of the peer is over.
    pub(super) fn request_ended(key: Key, error: Error) -> Self {
        Self::Event(Event::RequestEnded { request: RequestKey::of(key), result: Err(error) })
    }
}

pub(super) trait Dialect {
    // ---- what a dialect reads and writes -----------------------------------------------------

    /// Whether the peer's set-up came, or there is none, and the application takes the peer. Before,
    /// nothing else is decoded.
    fn is_heard(&self, core: &Core) -> bool;

    /// The application takes the peer: says what it was not to hear before, and goes on.
    fn accept(&mut self, core: &mut Core, hop: Hop, interests: Vec<Path>);

    /// Reads what a unidirectional stream is for, and set-up.
    fn look_at_new_uni(&mut self, core: &mut Core, key: Key) -> Look;

    /// Reads the next message on a request.
    fn look_at_request(&mut self, core: &mut Core, key: Key) -> Look;

    /// Reads the header of a group, if it is all there. `None` as well if the stream was given up.
    fn read_header(&mut self, core: &mut Core, key: Key) -> Result<Option<Header>, Error>;

    /// Whether a subscription of this number may still become known.
    fn may_come(&self, subscription: u64) -> bool;

    /// Does what the application wants, as far as dialects differ.
    fn command(&mut self, core: &mut Core, command: Command);

    /// Writes what [`Source`] has for a request that is about to be written.
    fn refill(&mut self, core: &mut Core, key: Key, source: &mut impl Source);

    /// What is known of the path changed, or it is time to tell it again: tells who asked.
    fn report_path(&mut self, _core: &mut Core) {}

    /// The peer's subscription is accepted.
    fn say_accepted(&mut self, core: &mut Core, key: Key, info: &TrackInfo);

    /// Stream type and header of a group; `None` if it can't be written, or is not wanted.
    fn group_head(&self, serving: &Serving, sequence: u64, first_frame: u64) -> Option<Head>;

    /// What a datagram names the peer's subscription by; `None` if there are none.
    fn datagram_number(&self, serving: &Serving) -> Option<u64>;

    /// Reads a datagram. `None` if it is lost.
    fn look_at_datagram(&mut self, core: &mut Core, bytes: Bytes) -> Option<Event>;

    /// All groups of the peer's subscription are out: its end, and FIN. `streams`: how many there were.
    fn say_ended(&mut self, core: &mut Core, key: Key, end: u64, streams: u64);

    /// Takes the question what a track is back, if it is open.
    fn unask(&mut self, core: &mut Core, token: Token);

    /// GOAWAY, where there is one; the session closes at `deadline`.
    fn say_going_away(&mut self, core: &mut Core, uri: Box<str>, deadline: Instant);

    /// Whether nothing of a request of ours went out yet.
    fn is_unsent(&self, core: &Core, key: Key) -> bool {
        core.requests.is_unopened(key)
    }

    /// A subscription of ours is over: its requests go.
    fn leave(&mut self, core: &mut Core, sub: &Sub, result: Result<(), &Error>);

    /// Resets and stops a request, which is free then.
    fn cancel(&mut self, core: &mut Core, key: Key, error: &Error);

    /// Nothing more goes out on a request; it is free when the peer's half is over too.
    fn finish(&mut self, core: &mut Core, key: Key);

    // ---- pulling -----------------------------------------------------------------------------

    /// Whether [`Dialect::poll_event`] may have something.
    fn has_events(&self, core: &Core) -> bool {
        let heard = self.is_heard(core);
        core.incoming.has_new()
            || (heard || self.reads_early()) && core.requests.has_readable()
            || heard && (core.incoming.has_frames() || core.datagrams.has_arrived())
    }

    /// Whether set-up may come on a request, so that requests are looked at before it.
    fn reads_early(&self) -> bool {
        false
    }

    fn poll_event(&mut self, core: &mut Core) -> Option<Event> {
        while core.state != Session::Closed {
            let look = if let Some(key) = core.incoming.next_new() {
                self.look_at_new_uni(core, key)
            } else if !self.is_heard(core) && !self.reads_early() {
                return None;
            } else if let Some(key) = core.requests.next_readable() {
                let look = self.look_at_request(core, key);
                let starved = matches!(look, Look::Wait);
                // What waits for set-up is not in need of more.
                let needs_more = starved && self.is_heard(core);
                core.requests.consumed(key, needs_more, &mut core.actions);
                if !starved {
                    core.requests.queue_in(key);
                }
                look
            } else if !self.is_heard(core) {
                return None;
            } else if let Some(bytes) = core.datagrams.next() {
                match self.look_at_datagram(core, bytes) {
                    Some(event) => Look::Event(event),
                    None => {
                        core.datagrams.lost += 1;
                        Look::More
                    }
                }
            } else if let Some(key) = core.incoming.next_frames() {
                self.look_at_group(core, key)
            } else {
                return None;
            };
            if let Look::Event(event) = look {
                return Some(event);
            }
        }
        None
    }

    // ---- groups that come in -----------------------------------------------------------------

    /// Reads the header of a group, or its next frame or piece of one.
    fn look_at_group(&mut self, core: &mut Core, key: Key) -> Look {
        let Some(stream) = core.incoming.get(key) else { return Look::More };
        let look = match &mut stream.state {
            State::New | State::Control => return Look::More,
            State::Header => match self.read_header(core, key) {
                Ok(Some(header)) => self.bind(core, key, header),
                Ok(None) => Look::Wait,
                Err(error) => {
                    core.incoming.stop(&mut core.actions, key, &error);
                    return Look::More;
                }
            },
            State::Waiting(header) => {
                let header = *header;
                let known = core.subs.by_number(header.subscription);
                let waits = match known.and_then(|key| core.subs.get(key)) {
                    Some(sub) => sub.info.is_none(),
                    None => self.may_come(header.subscription),
                };
                if waits {
                    // Only its reset would matter now, and it will be seen later.
                    return Look::More;
                }
                self.bind(core, key, header)
            }
            State::Group(reading) => {
                let read = reading.read(&mut stream.recv, &core.limits);
                let (owner, group) = (reading.owner, GroupKey::of(key));
                match read {
                    Ok(Read::Frame { timestamp, size, payload }) => {
                        Look::Event(Event::Frame { group, timestamp, size, payload })
                    }
                    Ok(Read::Payload(bytes)) => Look::Event(Event::Payload { group, bytes }),
                    Ok(Read::Nothing) => Look::Wait,
                    Ok(Read::End) => return self.group_ended(core, key, owner, Ok(())),
                    Err(error) => return self.group_ended(core, key, owner, Err(error)),
                }
            }
        };
        if let Some(stream) = core.incoming.get(key) {
            let starved = matches!(look, Look::Wait);
            let waits = matches!(stream.state, State::Waiting(..));
            if !waits && stream.recv.release(buffer(&core.limits), starved) {
                core.actions.push_back(super::Action::Resume { id: stream.id });
            }
            if !starved {
                core.incoming.queue(key);
            }
        }
        // Others may have something still.
        if matches!(look, Look::Wait) { Look::More } else { look }
    }

    /// Begins a group whose subscription and track are known, or lets it wait for them.
    fn bind(&mut self, core: &mut Core, key: Key, header: Header) -> Look {
        let sub_key = core.subs.by_number(header.subscription);
        let Some(sub) = sub_key.and_then(|key| core.subs.get_mut(key)) else {
            if self.may_come(header.subscription) {
                core.hold(key, header);
            } else {
                core.incoming.stop(&mut core.actions, key, &Error::Cancelled);
            }
            return Look::Wait;
        };
        if sub.info.is_none() {
            core.hold(key, header);
            return Look::Wait;
        }
        let token = sub.token;
        match header.part {
            // A peer drops what is below the start that it promised.
            _ if sub.late || sub.start.is_some_and(|it| header.sequence < it) => {
                core.incoming.stop(&mut core.actions, key, &Error::Cancelled);
                return Look::Wait;
            }
            Part::Group => {
                sub.active.push(key);
                sub.seen += 1;
                let (layout, priority) = (header.layout.of_track(sub.timed), sub.priority);
                core.incoming.begin(key, layout, sub_key.unwrap_or_default(), priority);
            }
            Part::Other | Part::EndOfTrack => {
                sub.seen += 1;
                core.incoming.stop(&mut core.actions, key, &Error::Cancelled);
                if header.part == Part::EndOfTrack {
                    sub.end = Some(header.sequence);
                }
                self.check_over(core, sub_key.unwrap_or_default());
                if header.part == Part::EndOfTrack {
                    return Look::Wait;
                }
                let (subscription, sequence) = (token, header.sequence);
                return Look::Event(Event::GroupRefused { subscription, sequence });
            }
        }
        let event = Event::Group {
            subscription: token,
            group: GroupKey::of(key),
            sequence: header.sequence,
            first_frame: header.first_frame,
        };
        Look::Event(event)
    }

    fn group_ended(
        &mut self,
        core: &mut Core,
        key: Key,
        owner: Owner,
        result: Result<(), Error>,
    ) -> Look {
        let error = result.clone().err().unwrap_or(Error::Cancelled);
        core.incoming.stop(&mut core.actions, key, &error);
        match owner {
            Owner::Subscription(sub_key) => {
                if let Some(sub) = core.subs.get_mut(sub_key) {
                    sub.active.retain(|active| *active != key);
                    self.check_over(core, sub_key);
                }
            }
            Owner::Fetch(token) => self.fetch_ended(core, token, result.clone()),
        }
        Look::Event(Event::GroupEnded { group: GroupKey::of(key), result })
    }

    fn stop_group(&mut self, core: &mut Core, key: Key, error: &Error) {
        let Some(stream) = core.incoming.get(key) else { return };
        if let State::Group(reading) = &stream.state {
            let owner = reading.owner;
            let _ = self.group_ended(core, key, owner, Err(error.clone()));
        }
    }

    // ---- subscriptions of ours ---------------------------------------------------------------

    fn unsubscribe(&mut self, core: &mut Core, token: Token) {
        self.unask(core, token);
        if let Some(key) = core.subs.by_token(token) {
            self.forget_sub(core, key, Err(Error::Cancelled));
        }
    }

    /// Ends a subscription at once, with what is left of it.
    fn forget_sub(&mut self, core: &mut Core, key: Key, result: Result<Option<u64>, Error>) {
        let Some(sub) = core.subs.remove(key) else { return };
        let error = result.clone().err().unwrap_or(Error::Cancelled);
        if let Some(number) = sub.number {
            core.drop_held(number, &error);
        }
        for key in &sub.active {
            core.incoming.stop(&mut core.actions, *key, &error);
            let group = GroupKey::of(*key);
            core.notices.push_back(Event::GroupEnded { group, result: Err(error.clone()) });
        }
        self.leave(core, &sub, result.as_ref().map(|_| ()));
        core.notices.push_back(Event::SubscribeEnded { subscription: sub.token, result });
    }

    /// No more answers will come: what is on its way may still arrive.
    fn answered(&mut self, core: &mut Core, key: Key, result: Result<(), Error>) {
        let Some(sub) = core.subs.get_mut(key) else { return };
        sub.result = Some(result);
        core.timers.set(core.now + core.limits.straggler_time, Timer::Stragglers(key));
        self.check_over(core, key);
    }

    /// The subscription can't go on: its request is void.
    fn fail_sub(&mut self, core: &mut Core, key: Key, error: Error) {
        let Some(sub) = core.subs.get_mut(key) else { return };
        let request = sub.request;
        sub.result = Some(Err(error.clone()));
        self.cancel(core, request, &error);
        self.check_over(core, key);
    }

    /// Ends a subscription whose answers and groups all came, or had their time.
    fn check_over(&mut self, core: &mut Core, key: Key) {
        let Some(sub) = core.subs.get(key) else { return };
        let Some(result) = &sub.result else { return };
        if !sub.active.is_empty() {
            return;
        }
        let complete = result.is_err()
            || sub.expected.is_some_and(|expected| sub.seen >= expected)
                && !sub.number.is_some_and(|number| core.incoming.holds_for(number));
        if complete || sub.late {
            let result = result.clone().map(|()| sub.end);
            self.forget_sub(core, key, result);
        }
    }

    fn stragglers_timeout(&mut self, core: &mut Core, key: Key) {
        if let Some(sub) = core.subs.get_mut(key) {
            sub.late = true;
            self.check_over(core, key);
        }
    }

    /// The connection is gone and all that it brought was read: what had its answers is over.
    fn nothing_follows(&mut self, core: &mut Core) {
        let subs: Vec<_> = core.subs.keys().collect();
        for key in subs {
            self.stragglers_timeout(core, key);
        }
    }

    // ---- subscriptions of the peer -----------------------------------------------------------

    fn accept_subscribe(&mut self, core: &mut Core, key: Key, info: &TrackInfo) {
        let Some(serving) = core.serves.get_mut(key) else { return };
        if serving.track.is_some() {
            return;
        }
        let want = &serving.want;
        let track = core.schedule.add_track(want.priority, info.priority, want.ordered);
        serving.track = Some(track);
        serving.publisher = info.priority;
        core.serves.bind(track, key);
        self.say_accepted(core, key, info);
    }

    fn push_group(
        &mut self,
        core: &mut Core,
        key: Key,
        group: Token,
        sequence: u64,
        first_frame: u64,
    ) {
        let head = match core.serves.get_mut(key) {
            Some(serving) if serving.ending.is_none() => {
                self.group_head(serving, sequence, first_frame).zip(serving.track)
            }
            _ => None,
        };
        let Some((head, track)) = head else {
            core.notices.push_back(Event::GroupReleased { group, sent: false });
            return;
        };
        core.schedule.push(Pick { track, sequence }, group, first_frame, head);
    }

    fn push_datagram(&mut self, core: &mut Core, key: Key, group: Token, sequence: u64) {
        let serving = core.serves.get_mut(key).filter(|serving| serving.ending.is_none());
        let serving = serving.and_then(|serving| {
            let head = self.group_head(serving, sequence, 0)?;
            Some((head, serving.track?, self.datagram_number(serving)?))
        });
        let Some((head, track, number)) = serving else {
            return self.push_group(core, key, group, sequence, 0);
        };
        let max = core.datagrams.max;
        core.schedule.push_datagram(Pick { track, sequence }, group, number, head, max);
    }

    fn finish_subscribe(&mut self, core: &mut Core, key: Key, end: u64) {
        let Some(serving) = core.serves.get_mut(key) else { return };
        let Some(track) = serving.track else { return };
        serving.ending.get_or_insert(end);
        self.check_drained(core, track);
    }

    fn group_released(&mut self, core: &mut Core, released: Released) -> Event {
        self.check_drained(core, released.track);
        self.check_supplied(core, &released);
        Event::GroupReleased { group: released.group, sent: released.sent }
    }

    /// The last group of an ending subscription ends it.
    fn check_drained(&mut self, core: &mut Core, track: Key) {
        let Some(key) = core.serves.by_track(track) else { return };
        let Some(serving) = core.serves.get_mut(key) else { return };
        let Some(end) = serving.ending.filter(|_| core.schedule.is_drained(track)) else { return };
        // Behind the bytes of the groups that QUIC still holds: what reaches a subscriber after the end
        // is lost on 0.16, and 0.3 tells its reader of the end as soon as it has the newest group.
        let priority = core.schedule.quic_priority(track);
        core.requests.set_priority(key, priority, &mut core.actions);
        let streams = core.schedule.opened_streams(track);
        core.end_serving(key, &Error::Closed);
        self.say_ended(core, key, end, streams);
        let request = RequestKey::of(key);
        core.notices.push_back(Event::RequestEnded { request, result: Ok(()) });
    }

    // ---- FETCH -------------------------------------------------------------------------------

    /// A FETCH of ours is over, and its group with it.
    fn fetch_ended(&mut self, core: &mut Core, token: Token, result: Result<(), Error>) {
        let Some(fetch) = core.fetches.remove_ours(token) else { return };
        match &result {
            Ok(()) => self.finish(core, fetch.request),
            Err(error) => self.cancel(core, fetch.request, error),
        }
        core.notices.push_back(Event::FetchEnded { fetch: token, result });
    }

    /// A FETCH of ours is not wanted any more.
    fn cancel_fetch(&mut self, core: &mut Core, token: Token) {
        let Some(fetch) = core.fetches.ours(token) else { return };
        if let Some(key) = fetch.group {
            let (group, result) = (GroupKey::of(key), Err(Error::Cancelled));
            core.incoming.stop(&mut core.actions, key, &Error::Cancelled);
            core.notices.push_back(Event::GroupEnded { group, result });
        }
        self.fetch_ended(core, token, Err(Error::Cancelled));
    }

    /// The answer to a FETCH of the peer is out, or given up: its stream was reset then.
    fn check_supplied(&mut self, core: &mut Core, released: &Released) {
        let Some(key) = core.fetches.by_track(released.track) else { return };
        let given_up = core.requests.get(key).and_then(|request| request.given_up());
        core.end_supply(key, &Error::Closed);
        let result = match (released.sent, given_up) {
            (true, _) => Ok(()),
            (false, Some(code)) => Err(Error::from_stream_code(code)),
            (false, None) => Err(Error::Cancelled),
        };
        match &result {
            Ok(()) => self.finish(core, key),
            Err(error) => self.cancel(core, key, error),
        }
        let request = RequestKey::of(key);
        core.notices.push_back(Event::RequestEnded { request, result });
    }
}
