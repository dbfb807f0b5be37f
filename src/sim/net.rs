//! The connection between two endpoints: streams, windows, credit, and what is in flight.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::mem;
use core::time::Duration;

use bytes::Bytes;

use super::{Alarm, Link, Random, Trace};
use crate::machine::Action;
use crate::stream::{Code, Dir, Side, StreamId};
use crate::time::Instant;

/// Everything of a [`Pair`](super::Pair) except the endpoints.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) link: Link,
    /// Whether there are datagrams, or were before.
    pub(super) datagrams: bool,
    pub(super) datagrams_sent: u64,
    pub(super) random: Random,
    pub(super) now: Instant,
    pub(super) trace: Trace,
    pub(super) ends: [End; 2],
    /// Each open direction of each stream, by its receiver.
    pub(super) halves: BTreeMap<(Side, StreamId), Half>,
    /// When the next thing arrives, for each direction with something in flight.
    pub(super) due: BTreeSet<(Instant, Side, StreamId)>,
    /// How often the state of a stream was updated.
    pub(super) looks: u64,
    /// Consecutive deadlines without any traffic.
    pub(super) silent_deadlines: u64,
}

/// The QUIC state of one end.
#[derive(Debug, Default)]
pub(super) struct End {
    pub(super) closed: bool,
    /// Whether the end is running. It stops when there is nothing to do, and the alarm restarts it.
    pub(super) awake: bool,
    pub(super) alarm: Alarm,
    /// The number of streams opened so far, by kind.
    pub(super) opened: [u64; 2],
    /// The number of streams that could be opened so far, by kind.
    pub(super) credit: [u64; 2],
    /// Whether a stream was refused, so that the end waits for credit, by kind.
    pub(super) waits: [bool; 2],
    /// The number of streams of the other end that were reported to this one, by kind.
    pub(super) known: [u64; 2],
    /// Bytes that may be sent on all streams together.
    pub(super) window: u64,
    /// Streams with something to deliver to this end now.
    pub(super) ready: BTreeSet<StreamId>,
    /// Streams that blocked.
    pub(super) parked: BTreeSet<StreamId>,
    /// Blocked streams whose own window has room again.
    pub(super) writable: BTreeSet<StreamId>,
    /// When everything written so far has departed.
    pub(super) busy_until: Instant,
    /// Arrivals from the other end apart from stream data, in order.
    pub(super) mail: VecDeque<(Instant, Mail)>,
    /// Datagrams from the other end, by arrival and number.
    pub(super) datagrams: BTreeMap<(Instant, u64), Bytes>,
    /// The last maximum size of datagrams that was reported to it.
    pub(super) max_datagram: usize,
    /// Whether a datagram was refused for lack of room.
    pub(super) full: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Mail {
    Closed(Code),
    Credit(Dir),
    Stop(StreamId, Code),
    Window(StreamId, u64),
}

/// One direction of a stream.
#[derive(Debug, Default)]
pub(super) struct Half {
    /// Data that was sent and not read yet, with its arrival.
    pub(super) wire: VecDeque<(Instant, Bytes)>,
    pub(super) fin: Option<Instant>,
    pub(super) reset: Option<(Instant, Code)>,
    /// Bytes that may be sent.
    pub(super) window: u64,
    /// Whether the sender received STOP_SENDING. Its writes are discarded from then on.
    pub(super) stop_received: bool,
    /// Whether the receiver sent STOP_SENDING.
    pub(super) stopped: bool,
    /// Whether the receiver's read limit was 0, so that it must ask to resume.
    pub(super) held: bool,
    pub(super) priority: i32,
    /// Its entry in [`Net::due`].
    pub(super) due: Option<Instant>,
}

impl Net {
    pub(super) fn new(link: Link) -> Self {
        let end = || End {
            awake: true,
            credit: [link.bi_streams, link.uni_streams],
            window: link.connection_window,
            ..End::default()
        };
        let (ends, random, trace) = ([end(), end()], Random::new(link.seed), Trace::new());
        let (datagrams, datagrams_sent, now, halves, due) = Default::default();
        let (looks, silent_deadlines) = Default::default();
        Self {
            link,
            datagrams,
            datagrams_sent,
            random,
            now,
            trace,
            ends,
            halves,
            due,
            looks,
            silent_deadlines,
        }
    }

    pub(super) fn log(&mut self, side: Side, text: core::fmt::Arguments<'_>) {
        let name = if side == Side::Client { "client" } else { "server" };
        self.trace.line(format_args!("{:>9} {name} {text}", self.now.as_micros()));
    }

    pub(super) fn end(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    /// Moves the clock, never backwards.
    pub(super) fn pass_to(&mut self, at: Instant) {
        self.now = self.now.max(at);
        while self.due.first().is_some_and(|(at, ..)| *at <= self.now) {
            if let Some((_, side, id)) = self.due.pop_first() {
                self.update_ready(side, id);
            }
        }
    }

    /// Updates whether one direction of a stream has something for its receiver, now or later.
    pub(super) fn update_ready(&mut self, side: Side, id: StreamId) {
        self.looks += 1;
        let (now, end) = (self.now, &mut self.ends[side as usize]);
        let half = self.halves.get_mut(&(side, id)).filter(|_| !end.closed);
        let Some(half) = half else {
            end.ready.remove(&id);
            return;
        };
        let came = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let front = half.wire.front().map(|(at, _)| *at);
        let reset = half.reset.map(|(at, _)| at);
        let data = came(front) || (front.is_none() && came(half.fin));
        let is_ready = came(reset) || (data && (!half.held || half.stopped));
        match is_ready {
            true => end.ready.insert(id),
            false => end.ready.remove(&id),
        };
        let coming = [front, half.fin, reset].into_iter().flatten();
        let due = coming.filter(|at| *at > now).min();
        let before = mem::replace(&mut half.due, due);
        if before != due {
            self.due.extend(due.map(|at| (at, side, id)));
            before.map(|at| self.due.remove(&(at, side, id)));
        }
    }

    /// Updates whether a blocked stream has room again.
    pub(super) fn update_writable(&mut self, side: Side, id: StreamId) {
        self.looks += 1;
        let half = self.halves.get(&(side.peer(), id));
        let takes = half.is_none_or(|half| half.window > 0 || half.stop_received);
        let end = &mut self.ends[side as usize];
        match takes && end.parked.contains(&id) {
            true => end.writable.insert(id),
            false => end.writable.remove(&id),
        };
    }

    /// Closes an end, which receives nothing from then on.
    pub(super) fn close_end(&mut self, side: Side) {
        let end = self.end(side);
        end.closed = true;
        end.ready.clear();
        self.due.retain(|(_, receiver, _)| *receiver != side);
    }

    pub(super) fn drops_guard(&mut self) -> bool {
        self.random.once_in(self.link.drop_guards)
    }

    fn post(&mut self, to: Side, mail: Mail) {
        let at = self.now + self.link.latency;
        self.end(to).mail.push_back((at, mail));
    }

    /// When something sent now arrives.
    pub(super) fn arrival(&mut self, sender: Side) -> Instant {
        let jitter = u64::try_from(self.link.jitter.as_micros()).unwrap_or(u64::MAX);
        let jitter = Duration::from_micros(self.random.below(jitter.saturating_add(1)));
        self.ends[sender as usize].busy_until.max(self.now) + self.link.latency + jitter
    }

    /// Occupies the link for the time that this many bytes take.
    pub(super) fn occupy(&mut self, side: Side, bytes: u64) {
        if let Some(bandwidth) = self.link.bandwidth {
            let time = Duration::from_micros((bytes * 1_000).div_ceil(bandwidth.max(1)));
            let start = self.ends[side as usize].busy_until.max(self.now);
            self.end(side).busy_until = start + time;
        }
    }

    pub(super) fn send(&mut self, side: Side, id: StreamId, bytes: Bytes, fin: bool) {
        let n = bytes.len() as u64;
        self.occupy(side, n);
        self.end(side).window -= n;
        let at = self.arrival(side);
        let Some(half) = self.halves.get_mut(&(side.peer(), id)) else { return };
        half.window -= n;
        // Bytes arrive in order within a stream.
        let at = half.wire.back().map_or(at, |(before, _)| at.max(*before));
        if n > 0 {
            half.wire.push_back((at, bytes));
        }
        if fin {
            half.fin = Some(at);
        }
        self.update_ready(side.peer(), id);
    }

    /// The receiver read bytes, so the sender may send as many.
    pub(super) fn read(&mut self, receiver: Side, id: StreamId, bytes: u64) {
        if bytes > 0 {
            self.post(receiver.peer(), Mail::Window(id, bytes));
        }
    }

    pub(super) fn act(&mut self, side: Side, action: Action) {
        assert!(
            !self.end(side).closed || matches!(action, Action::Close { .. }),
            "{action:?} after the end"
        );
        match action {
            Action::Close { code, reason } => {
                self.log(side, format_args!("-> close {code} {reason}"));
                self.close_end(side);
                self.post(side.peer(), Mail::Closed(code));
                self.halves.retain(|(receiver, _), _| *receiver != side);
                let sender = self.end(side.peer());
                sender.writable.clone_from(&sender.parked);
            }
            Action::Reset { id, code } => {
                self.log(side, format_args!("-> {id}: reset {code}"));
                self.reset(side, id, code);
            }
            Action::Stop { id, code } => {
                self.log(side, format_args!("-> {id}: stop {code}"));
                if let Some(half) = self.halves.get_mut(&(side, id)) {
                    if !mem::replace(&mut half.stopped, true) {
                        self.post(side.peer(), Mail::Stop(id, code));
                    }
                    self.update_ready(side, id);
                }
            }
            Action::SetPriority { id, priority } => {
                self.log(side, format_args!("-> {id}: priority {priority}"));
                if let Some(half) = self.halves.get_mut(&(side.peer(), id)) {
                    half.priority = priority;
                }
            }
            Action::Resume { id } => {
                self.log(side, format_args!("-> {id}: resume"));
                if let Some(half) = self.halves.get_mut(&(side, id)) {
                    half.held = false;
                    self.update_ready(side, id);
                }
            }
        }
    }

    pub(super) fn reset(&mut self, side: Side, id: StreamId, code: Code) {
        self.end(side).parked.remove(&id);
        self.update_writable(side, id);
        let at = self.arrival(side);
        if let Some(half) = self.halves.get_mut(&(side.peer(), id)) {
            // A RESET after FIN means nothing to a receiver that has everything.
            half.reset.get_or_insert((at, code));
            self.update_ready(side.peer(), id);
        }
    }

    /// Removes one direction of a stream. The credit for a stream returns with its last direction.
    pub(super) fn drop_half(&mut self, receiver: Side, id: StreamId) {
        let Some(half) = self.halves.remove(&(receiver, id)) else { return };
        half.due.map(|at| self.due.remove(&(at, receiver, id)));
        self.update_ready(receiver, id);
        self.update_writable(receiver.peer(), id);
        let unread = half.wire.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        self.read(receiver, id, unread);
        if !self.halves.contains_key(&(receiver.peer(), id)) {
            self.post(id.initiator(), Mail::Credit(id.dir()));
        }
    }

    /// When the next thing arrives or becomes possible, if that is later than now.
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        let streams = self.due.first().map(|(at, ..)| *at);
        let open = self.ends.iter().filter(|end| !end.closed);
        let mail = open.clone().filter_map(|end| end.mail.front().map(|(at, _)| *at));
        let later = |end: &End| end.datagrams.range((self.now, u64::MAX)..).next().map(|it| it.0.0);
        let datagrams = open.clone().filter_map(later);
        let busy = open.filter(|end| end.full || !end.parked.is_empty());
        let busy = busy.map(|end| end.busy_until);
        streams
            .into_iter()
            .chain(mail)
            .chain(datagrams)
            .chain(busy)
            .filter(|at| *at > self.now)
            .min()
    }
}
