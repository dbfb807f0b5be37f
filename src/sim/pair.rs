//! Two endpoints, the link between them, and the clock.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use core::mem;
use core::task::Context;
use core::time::Duration;

use bytes::BytesMut;
use smallvec::SmallVec;

use super::net::{Half, Mail, Net};
use super::trace::Hex;
use super::{Endpoint, Link, Trace};
use crate::error::Error;
use crate::machine::{Input, NetworkPath};
use crate::stream::{Code, Dir, Side, StreamId};
use crate::time::Instant;

/// Two endpoints joined by a [`Link`].
///
/// As in an adapter, an end runs only when it has an input, when a deadline is due, and when it is woken.
///
/// The clock moves only in [`run_until_idle`](Self::run_until_idle), [`advance`](Self::advance) and
/// [`sleep_to_deadline`](Self::sleep_to_deadline).
#[derive(Debug)]
pub struct Pair<C: Endpoint, S: Endpoint> {
    /// The end that dialed.
    pub client: C,
    /// The end that was dialed.
    pub server: S,
    net: Net,
}

/// A step of one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Deliver,
    Timeout,
    Work,
    Act,
    Open,
    Send,
    Write,
}

const SIDES: [Side; 2] = [Side::Client, Side::Server];
const TASKS: [Task; 7] =
    [Task::Deliver, Task::Timeout, Task::Work, Task::Act, Task::Open, Task::Send, Task::Write];

/// Bytes that depart at once on a link with a bandwidth.
const PACKET: usize = 1_200;
/// Steps without moving the clock, far more than a run needs that ends.
const MAX_STEPS: u64 = 2_000_000;
/// Deadlines in a row of an idle session.
const MAX_TIMERS: usize = 50;
/// Steps in a row without any traffic.
const MAX_SILENT_STEPS: u64 = 100_000;
/// Instants in one call, and deadlines in a row without any traffic.
const MAX_INSTANTS: u64 = 1_000_000;
const MAX_SILENT_DEADLINES: u64 = 10_000;

impl<C: Endpoint, S: Endpoint> Pair<C, S> {
    /// Joins two endpoints at instant 0.
    pub fn new(client: C, server: S, link: Link) -> Self {
        Self { client, server, net: Net::new(link) }
    }

    /// The current time.
    pub const fn now(&self) -> Instant {
        self.net.now
    }

    /// The trace of the run so far.
    pub const fn trace(&self) -> &Trace {
        &self.net.trace
    }

    /// Discards the trace so far, for tests that count allocations.
    pub fn forget_trace(&mut self) {
        self.net.trace = Trace::new();
    }

    /// The link, to change its properties. Windows and stream credit that were granted before remain.
    pub const fn link(&mut self) -> &mut Link {
        &mut self.net.link
    }

    /// The priority that `side` set last for its half of a stream, with
    /// [`Action::SetPriority`](crate::machine::Action::SetPriority). `None` if the half is closed.
    pub fn priority(&self, side: Side, id: StreamId) -> Option<i32> {
        self.net.halves.get(&(side.peer(), id)).map(|half| half.priority)
    }

    /// The number of open streams that `side` opened.
    pub fn streams(&self, side: Side, dir: Dir) -> usize {
        let ids: BTreeSet<_> = self.net.halves.keys().map(|(_, id)| *id).collect();
        ids.into_iter().filter(|id| (id.initiator(), id.dir()) == (side, dir)).count()
    }

    /// How often the state of a stream was updated so far. It grows with the traffic, not with the number
    /// of open streams.
    pub const fn looks(&self) -> u64 {
        self.net.looks
    }

    /// Performs one step that is possible at this instant. `false`: there is none.
    pub fn step(&mut self) -> bool {
        let possible = TASKS.iter().filter(|task| self.net.datagrams || **task != Task::Send);
        let mut tasks: SmallVec<[(Side, Task); 2 * TASKS.len()]> =
            possible.flat_map(|task| SIDES.map(|side| (side, *task))).collect();
        if self.net.link.shuffle {
            for i in (1..tasks.len()).rev() {
                let other = self.net.random.below(i as u64 + 1) as usize;
                tasks.swap(i, other);
            }
        }
        tasks.into_iter().any(|(side, task)| self.attempt(side, task))
    }

    /// Performs at most `count` steps that are possible at this instant.
    pub fn steps(&mut self, count: usize) {
        for _ in 0..count {
            if !self.step() {
                return;
            }
        }
    }

    /// Runs until nothing is in flight and nothing can be done. The clock moves to arrivals, but not to the
    /// deadlines of the endpoints.
    ///
    /// # Panics
    ///
    /// If that takes too many steps, or if an endpoint has work and yields nothing. The message names the
    /// endpoint.
    pub fn run_until_idle(&mut self) {
        for _ in 0..MAX_INSTANTS {
            self.exhaust();
            match self.net.next_arrival() {
                Some(at) => self.net.pass_to(at),
                None => return,
            }
        }
        panic!("{} never stops sending:\n{}", self.busy_ends(), self.last_lines());
    }

    /// Runs until `time` has passed, with all arrivals and deadlines in it.
    ///
    /// # Panics
    ///
    /// As [`run_until_idle`](Self::run_until_idle).
    pub fn advance(&mut self, time: Duration) {
        let target = self.net.now + time;
        let mut instants = 0;
        loop {
            self.exhaust();
            match self.next_instant() {
                Some(at) if at <= target => self.net.pass_to(at),
                _ => break,
            }
            instants += 1;
            assert!(
                instants < MAX_INSTANTS,
                "{} never becomes idle:\n{}",
                self.busy_ends(),
                self.last_lines()
            );
        }
        self.net.pass_to(target);
        self.exhaust();
    }

    /// Runs until idle, moves the clock to the next deadline, and runs until idle again. `false`: there is
    /// no deadline.
    ///
    /// # Panics
    ///
    /// As [`run_until_idle`](Self::run_until_idle).
    pub fn sleep_to_deadline(&mut self) -> bool {
        self.run_until_idle();
        let Some(at) = self.next_deadline() else { return false };
        let before = self.net.trace.lines().len();
        self.net.pass_to(at);
        self.run_until_idle();
        let is_silent = self.net.trace.lines().len() == before;
        self.net.silent_deadlines = if is_silent { self.net.silent_deadlines + 1 } else { 0 };
        assert!(
            self.net.silent_deadlines < MAX_SILENT_DEADLINES,
            "deadlines follow each other without any traffic, the next one is {:?}:\n{}",
            self.next_deadline(),
            self.last_lines()
        );
        true
    }

    /// Runs until there is nothing left to wait for, and checks that both ends hold no more state than
    /// those of `fresh`, an identical pair that did nothing. A closed pair is not checked.
    ///
    /// # Panics
    ///
    /// If an end holds other state, and as [`run_until_idle`](Self::run_until_idle).
    pub fn assert_unused(&mut self, mut fresh: Self) {
        for pair in [&mut *self, &mut fresh] {
            pair.net.link = Link::perfect();
            let timers = (0..MAX_TIMERS).take_while(|_| pair.sleep_to_deadline()).count();
            assert!(timers < MAX_TIMERS, "an idle session has a timer");
        }
        if self.client.is_closed() || self.server.is_closed() {
            return;
        }
        for side in SIDES {
            let left = self.at(side).census().beyond(&fresh.at(side).census());
            assert!(left.is_empty(), "state of the {side:?}, here and unused: {left:?}");
        }
    }

    /// Breaks the connection at both ends.
    pub fn disconnect(&mut self) {
        for side in SIDES {
            let input = Input::Closed { error: Error::Disconnected };
            self.give(side, input);
            self.net.close_end(side);
        }
        self.net.halves.clear();
    }

    /// The time of the next step: now, if an endpoint has work. For tests that join several pairs.
    pub fn next_event(&self) -> Option<Instant> {
        if self.client.has_work() || self.server.has_work() {
            return Some(self.net.now);
        }
        self.next_instant().map(|at| at.max(self.net.now))
    }

    /// Moves the clock and does nothing else. For tests that join several pairs.
    pub fn skip_to(&mut self, at: Instant) {
        self.net.pass_to(at);
    }

    /// The time of the next arrival or deadline.
    fn next_instant(&self) -> Option<Instant> {
        self.net.next_arrival().into_iter().chain(self.next_deadline()).min()
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.client.poll_timeout().into_iter().chain(self.server.poll_timeout()).min()
    }

    fn exhaust(&mut self) {
        let mut silent = 0;
        for _ in 0..MAX_STEPS {
            let before = self.net.trace.lines().len();
            // A call that yields nothing may clean up, and so enable another one: opening enables writing, and
            // writing an event.
            if (0..3).all(|_| !self.step()) {
                for side in SIDES {
                    let busy = self.at(side).has_work();
                    assert!(!busy, "{side:?} has work but yields nothing:\n{}", self.last_lines());
                    self.end_turn(side);
                }
                return;
            }
            silent = if self.net.trace.lines().len() == before { silent + 1 } else { 0 };
            assert!(
                silent < MAX_SILENT_STEPS,
                "{} works without any traffic:\n{}",
                self.busy_ends(),
                self.last_lines()
            );
        }
        panic!("{} never becomes idle:\n{}", self.busy_ends(), self.last_lines());
    }

    /// Ends the turn of an end.
    fn end_turn(&mut self, side: Side) {
        let end = self.net.end(side);
        end.awake = false;
        end.alarm.rang();
        let waker = end.alarm.waker();
        let wakes = self.at(side).poll_wake(&mut Context::from_waker(&waker));
        assert!(wakes.is_pending(), "{side:?} is woken and has no work:\n{}", self.last_lines());
    }

    /// Whether an end is running, or has a reason to.
    fn is_awake(&mut self, side: Side) -> bool {
        let end = self.net.end(side);
        end.awake |= end.alarm.rang();
        if end.awake || !self.at(side).has_work() {
            return self.net.end(side).awake;
        }
        // A test called it directly, which needs no waker.
        let waker = self.net.end(side).alarm.waker();
        let wakes = self.at(side).poll_wake(&mut Context::from_waker(&waker));
        assert!(wakes.is_pending(), "{side:?} has work and was not woken:\n{}", self.last_lines());
        self.net.end(side).awake = true;
        true
    }

    fn busy_ends(&mut self) -> String {
        let [client, server] = SIDES.map(|side| self.at(side).has_work());
        format!("(client has work: {client}, server has work: {server})")
    }

    fn last_lines(&self) -> String {
        let lines = self.net.trace.lines();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn at(&mut self, side: Side) -> &mut dyn Endpoint {
        self.split(side).0
    }

    fn split(&mut self, side: Side) -> (&mut dyn Endpoint, &mut Net) {
        match side {
            Side::Client => (&mut self.client, &mut self.net),
            Side::Server => (&mut self.server, &mut self.net),
        }
    }

    fn attempt(&mut self, side: Side, task: Task) -> bool {
        if !matches!(task, Task::Deliver | Task::Timeout) && !self.is_awake(side) {
            return false;
        }
        match task {
            Task::Deliver => self.deliver(side),
            Task::Timeout => {
                let now = self.net.now;
                let due = self.at(side).poll_timeout().is_some_and(|at| at <= now);
                if due {
                    self.net.end(side).awake = true;
                    self.at(side).handle_timeout(now);
                }
                due
            }
            Task::Work => {
                let now = self.net.now;
                self.at(side).work(now)
            }
            Task::Act => {
                let action = self.at(side).poll_action();
                action.map(|action| self.net.act(side, action)).is_some()
            }
            Task::Open => self.open(side),
            Task::Send => self.send_datagram(side),
            Task::Write => self.write(side),
        }
    }

    fn give(&mut self, side: Side, input: Input) {
        let now = self.net.now;
        match &input {
            Input::Data { id, bytes, fin } => {
                let fin = if *fin { " fin" } else { "" };
                self.net.log(side, format_args!("<- {id}: data {}{fin}", Hex(bytes)));
            }
            Input::Opened { id } => self.net.log(side, format_args!("<- {id}: opened")),
            Input::Reset { id, code } => self.net.log(side, format_args!("<- {id}: reset {code}")),
            Input::Stopped { id, code } => self.net.log(side, format_args!("<- {id}: stop {code}")),
            Input::Writable { id } => self.net.log(side, format_args!("<- {id}: writable")),
            other => self.net.log(side, format_args!("<- {other:?}")),
        }
        self.net.end(side).awake = true;
        self.at(side).handle(now, input);
    }

    // ---- in ----------------------------------------------------------------------------------

    /// Delivers one input to an end.
    fn deliver(&mut self, side: Side) -> bool {
        if self.net.end(side).closed {
            return false;
        }
        let now = self.net.now;
        if self.deliver_datagram(side) {
            return true;
        }
        let end = &self.net.ends[side as usize];
        let mail = end.mail.front().is_some_and(|(at, _)| *at <= now);
        let takes = end.busy_until <= now && end.window > 0;
        let writable = if takes { end.writable.len() } else { 0 };
        let total = end.ready.len() + usize::from(mail) + writable;
        if total == 0 {
            return false;
        }
        let shuffle = self.net.link.shuffle;
        let choice = if shuffle { self.net.random.below(total as u64) as usize } else { 0 };
        let end = &self.net.ends[side as usize];
        if let Some(id) = end.ready.iter().nth(choice).copied() {
            self.deliver_stream(side, id);
            self.net.update_ready(side, id);
        } else if choice - end.ready.len() < writable {
            let id = end.writable.iter().nth(choice - end.ready.len()).copied();
            let id = id.expect("there are as many");
            self.net.end(side).parked.remove(&id);
            self.net.update_writable(side, id);
            self.give(side, Input::Writable { id });
        } else {
            self.deliver_mail(side);
        }
        true
    }

    /// Delivers one input about datagrams to an end.
    fn deliver_datagram(&mut self, side: Side) -> bool {
        let (now, max) = (self.net.now, self.net.link.max_datagram);
        let end = self.net.end(side);
        let input = if end.max_datagram != max {
            end.max_datagram = max;
            self.net.datagrams = true;
            Input::NetworkPath(NetworkPath { max_datagram: max, ..NetworkPath::default() })
        } else if end.full && end.busy_until <= now {
            end.full = false;
            Input::DatagramsAvailable
        } else if let Some(entry) = end.datagrams.first_entry().filter(|it| it.key().0 <= now) {
            Input::Datagram { bytes: entry.remove() }
        } else {
            return false;
        };
        self.give(side, input);
        true
    }

    fn deliver_stream(&mut self, side: Side, id: StreamId) {
        let (known, kind) = (self.net.end(side).known, id.dir() as usize);
        if id.initiator() != side && id.as_u64() >> 2 >= known[kind] {
            // A stream opens all streams of its kind with lower ids (RFC 9000 section 2.1).
            let opened = StreamId::new(id.initiator(), id.dir(), known[kind]);
            self.net.end(side).known[kind] += 1;
            return self.give(side, Input::Opened { id: opened });
        }
        let limit = self.at(side).read_limit(id);
        let net = &mut self.net;
        let now = net.now;
        let Some(half) = net.halves.get_mut(&(side, id)) else { return };
        let has_bytes = half.wire.front().is_some_and(|(at, _)| *at <= now);
        if let Some((_, code)) = half.reset.filter(|(at, _)| *at <= now) {
            if half.stopped
                || !has_bytes
                || half.held
                || (net.link.shuffle && net.random.once_in(3))
            {
                let stopped = half.stopped;
                net.drop_half(side, id);
                if !stopped {
                    self.give(side, Input::Reset { id, code });
                }
                return;
            }
        }
        if half.stopped {
            let unread = half.wire.drain(..).map(|(_, bytes)| bytes.len() as u64).sum();
            let over = half.fin.is_some();
            net.read(side, id, unread);
            if over {
                net.drop_half(side, id);
            }
            return;
        }
        if limit == 0 {
            half.held = true;
            return;
        }
        let max = net.link.max_read.min(limit);
        let max = if net.link.shuffle { 1 + net.random.below(max as u64) as usize } else { max };
        let mut bytes = BytesMut::new();
        while let Some((at, front)) = half.wire.front_mut() {
            if *at > now || bytes.len() == max {
                break;
            }
            let n = front.len().min(max - bytes.len());
            bytes.extend_from_slice(&front.split_to(n));
            if front.is_empty() {
                half.wire.pop_front();
            }
        }
        // FIN arrives with the last bytes, or alone.
        let ends = half.wire.is_empty() && half.fin.is_some_and(|at| at <= now);
        let fin = ends && (bytes.is_empty() || !(net.link.shuffle && net.random.once_in(2)));
        net.read(side, id, bytes.len() as u64);
        if fin {
            net.drop_half(side, id);
        }
        self.give(side, Input::Data { id, bytes: bytes.freeze(), fin });
    }

    fn deliver_mail(&mut self, side: Side) {
        let Some((_, mail)) = self.net.end(side).mail.pop_front() else { return };
        let net = &mut self.net;
        match mail {
            Mail::Closed(code) => {
                net.close_end(side);
                self.give(side, Input::Closed { error: Error::from_session_code(code) });
            }
            Mail::Credit(dir) => {
                let end = net.end(side);
                end.credit[dir as usize] += 1;
                if mem::take(&mut end.waits[dir as usize]) {
                    self.give(side, Input::Available { dir });
                }
            }
            Mail::Stop(id, code) => {
                let Some(half) = net.halves.get_mut(&(side.peer(), id)) else { return };
                if half.reset.is_none() {
                    half.stop_received = true;
                    net.update_writable(side, id);
                    self.give(side, Input::Stopped { id, code });
                }
            }
            Mail::Window(id, bytes) => {
                net.end(side).window += bytes;
                if let Some(half) = net.halves.get_mut(&(side.peer(), id)) {
                    half.window += bytes;
                }
                net.update_writable(side, id);
            }
        }
    }

    // ---- out ---------------------------------------------------------------------------------

    fn open(&mut self, side: Side) -> bool {
        let (endpoint, net) = self.split(side);
        let Some(open) = endpoint.poll_open() else { return false };
        let (dir, kind) = (open.dir(), open.dir() as usize);
        if net.drops_guard() {
            return true;
        }
        let end = &mut net.ends[side as usize];
        if end.opened[kind] == end.credit[kind] {
            end.waits[kind] = true;
            open.blocked();
            net.log(side, format_args!("-> {dir:?} stream is blocked"));
            return true;
        }
        let id = StreamId::new(side, dir, end.opened[kind]);
        end.opened[kind] += 1;
        let window = net.link.stream_window;
        let half = || Half { window, ..Half::default() };
        net.halves.insert((side.peer(), id), half());
        if dir == Dir::Bi {
            net.halves.insert((side, id), half());
        }
        open.opened(id);
        net.log(side, format_args!("-> {id}: open"));
        true
    }

    fn send_datagram(&mut self, side: Side) -> bool {
        let (endpoint, net) = self.split(side);
        let Some(datagram) = endpoint.poll_datagram() else { return false };
        if net.drops_guard() {
            return true;
        }
        assert!(
            datagram.size() <= net.link.max_datagram,
            "the datagram is larger than the maximum"
        );
        let now = net.now;
        if net.end(side).busy_until > now {
            datagram.blocked();
            net.end(side).full = true;
            net.log(side, format_args!("-> datagram is blocked"));
            return true;
        }
        let bytes = datagram.to_bytes();
        datagram.sent();
        net.log(side, format_args!("-> datagram {}", Hex(&bytes)));
        net.occupy(side, bytes.len() as u64);
        let at = net.arrival(side);
        if !net.random.once_in(net.link.lose_datagrams) {
            net.datagrams_sent += 1;
            let number = net.datagrams_sent;
            net.end(side.peer()).datagrams.insert((at, number), bytes);
        }
        true
    }

    fn write(&mut self, side: Side) -> bool {
        let (endpoint, net) = self.split(side);
        let Some(mut write) = endpoint.poll_write() else { return false };
        if net.drops_guard() {
            return true;
        }
        let (id, total, fin) = (write.id(), write.len(), write.fin());
        let (now, connection) = (net.now, net.end(side).window);
        let (shuffle, busy) = (net.link.shuffle, net.end(side).busy_until > now);
        let Some(half) = net.halves.get_mut(&(side.peer(), id)) else {
            // The other end is done with the stream.
            write.accepted(total);
            return true;
        };
        if half.reset.is_some() || half.stop_received {
            write.accepted(total);
            net.log(side, format_args!("-> {id}: {total} bytes go nowhere"));
            if fin {
                net.reset(side, id, Code::default());
            }
            return true;
        }
        let room = if busy { 0 } else { half.window.min(connection) };
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let packet = if net.link.bandwidth.is_some() { PACKET } else { usize::MAX };
        let mut n = total.min(net.link.max_write).min(packet);
        if shuffle {
            n = net.random.below(n as u64 + 1) as usize;
        }
        let n = n.min(room);
        let mut bytes = BytesMut::with_capacity(n);
        for chunk in write.chunks() {
            let taken = chunk.split_to(chunk.len().min(n - bytes.len()));
            bytes.extend_from_slice(&taken);
        }
        let parks = n < total && (n == room || n == 0 || (shuffle && net.random.once_in(2)));
        let fin = fin && n == total;
        if parks {
            write.blocked(n);
            net.end(side).parked.insert(id);
        } else {
            write.accepted(n);
        }
        let end = match (fin, parks) {
            (true, _) => " fin",
            (false, true) => " blocked",
            (false, false) => "",
        };
        net.log(side, format_args!("-> {id}: write {}/{total}{end}", Hex(&bytes)));
        net.send(side, id, bytes.freeze(), fin);
        net.update_writable(side, id);
        true
    }
}

#[cfg(feature = "std")]
impl<C: Endpoint, S: Endpoint> Drop for Pair<C, S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.disconnect();
        self.run_until_idle();
        for side in SIDES {
            let census = self.at(side).census();
            assert!(census.is_empty(), "the {side:?} holds state after the end: {census:?}");
        }
    }
}
