//! The socket, its connections, and whose turn it is.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use quinn_proto::{
    ClientConfig, ConnectionHandle, DatagramEvent, EndpointConfig, Incoming, ServerConfig, Transmit,
};
use smoq::{Client, ReadyList, Server, Session};
use smoq_quic::Buffers;

use crate::Error;
use crate::connection::{Connection, ConnectionId, Event, Role};
use crate::dialing::{DialError, Hosts};
use crate::socket::{Datagram, Socket};

/// One UDP socket and the MoQ sessions on it, dialed and accepted.
///
/// Nothing happens outside of [`step`](Self::step) and [`run_until`](Self::run_until). Dropping it
/// tells the peers of all connections, once, that it is gone; [`Session::drain`] is the polite way.
pub struct Endpoint {
    quic: quinn_proto::Endpoint,
    server: Option<Server>,
    /// Whether the application decides on the server's sessions.
    requests: bool,
    socket: Socket,
    /// By quinn's handle, which is small and dense.
    pub(crate) connections: Vec<Option<Connection>>,
    pub(crate) hosts: Hosts,
    /// Whose turn it is. A step costs what stands here and not what is connected.
    ready: VecDeque<Job>,
    /// Whether `Job::Receive` stands there.
    receiving: bool,
    /// When the connections want a turn without being asked.
    timers: BTreeSet<(Instant, usize)>,
    /// Connections whose packets the socket did not take.
    stuck: Vec<usize>,
    /// What the application's threads woke: connections by their slot, and `INTERRUPT`.
    woken: ReadyList,
    interrupt: Waker,
    interrupted: bool,
    unblock: Arc<Unblock>,
    pub(crate) events: VecDeque<Event>,
    poll: mio::Poll,
    polled: mio::Events,
    pub(crate) serial: u64,
    open: usize,
    max_connections: usize,
}

/// A turn to be given.
enum Job {
    /// To the socket: receive.
    Receive,
    /// To the connection in this slot.
    Connection(usize),
}

/// How much one [`Endpoint::step`] may do.
///
/// It is looked at between turns, and a turn does at least something: the smallest budget makes
/// progress, and no budget is exceeded by more than one turn: at most 64 datagrams received, or
/// one connection's few dozen pieces of work. (Measured with one connection at 2 Gbit/s: of steps
/// with 500 us the longest took 720 us of CPU time.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    items: usize,
    time: Duration,
}

impl Budget {
    /// At most `items` pieces: a datagram or event that comes in, an event for the application, a
    /// stream opened or written, a burst of packets sent.
    pub const fn items(items: usize) -> Self {
        Self { items, time: Duration::MAX }
    }

    /// At most `time`.
    pub const fn time(time: Duration) -> Self {
        Self { items: usize::MAX, time }
    }

    /// Both limits, whichever is reached first.
    #[must_use]
    pub const fn and_items(self, items: usize) -> Self {
        Self { items, ..self }
    }
}

/// What one [`Endpoint::step`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// Pieces of work, as [`Budget::items`] counts them.
    pub items: usize,
    /// Turns: how often a connection was looked at, or the socket.
    pub turns: usize,
    /// The budget ended before the work did; who was not reached is first in the next step.
    pub more: bool,
}

/// Datagrams received in one turn.
const DATAGRAMS: usize = 64;
/// Events that wait for [`Endpoint::poll_event`]; the oldest give way.
const EVENTS: usize = 4_096;
/// What [`Endpoint::run_until`] does at once before it looks at its future again.
const SLICE: Budget = Budget::items(1_024);

const SOCKET: mio::Token = mio::Token(0);
const WAKER: mio::Token = mio::Token(1);
/// The key of [`Endpoint::waker`]; no slot goes so far.
const INTERRUPT: u64 = u64::MAX;

/// Ends a wait on the poll, which costs a system call: so only while there is a wait.
struct Unblock {
    poll: mio::Waker,
    waiting: AtomicBool,
}

impl Wake for Unblock {
    fn wake(self: Arc<Self>) {
        if self.waiting.swap(false, Ordering::AcqRel) {
            // Fails only when the system has no resources left; timers end the wait then.
            let _ = self.poll.wake();
        }
    }
}

impl Endpoint {
    /// A socket that neither listens nor has dialed yet. Port 0 lets the system choose one.
    pub fn new(local: SocketAddr) -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let mut socket = Socket::bind(local)?;
        poll.registry().register(socket.source(), SOCKET, mio::Interest::READABLE)?;
        let waker = mio::Waker::new(poll.registry(), WAKER)?;
        let woken = ReadyList::new();
        let config = Arc::new(EndpointConfig::default());
        Ok(Self {
            quic: quinn_proto::Endpoint::new(config, None, !socket.may_fragment(), None),
            server: None,
            requests: false,
            socket,
            connections: Vec::new(),
            hosts: Hosts::default(),
            ready: VecDeque::new(),
            receiving: false,
            timers: BTreeSet::new(),
            stuck: Vec::new(),
            interrupt: woken.waker(INTERRUPT),
            woken,
            interrupted: false,
            unblock: Arc::new(Unblock { poll: waker, waiting: AtomicBool::new(false) }),
            events: VecDeque::new(),
            poll,
            // The socket and the waker: there is nothing else.
            polled: mio::Events::with_capacity(2),
            serial: 0,
            open: 0,
            max_connections: 16_384,
        })
    }

    /// A socket that listens: [`new`](Self::new) and [`listen`](Self::listen).
    pub fn bind(local: SocketAddr, config: ServerConfig, server: &Server) -> io::Result<Self> {
        let mut endpoint = Self::new(local)?;
        endpoint.listen(config, server);
        Ok(endpoint)
    }

    /// A socket that dials `moqt://HOST[:PORT]`: [`new`](Self::new) and [`dial_any`](Self::dial_any).
    ///
    /// Resolving a host name blocks.
    pub fn connect(url: &str, config: ClientConfig, client: &Client) -> Result<Self, Error> {
        let url: smoq_quic::Url = url.parse()?;
        let remotes: Vec<_> = (url.host(), url.port()).to_socket_addrs()?.collect();
        let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let mut endpoint = if remotes.iter().any(SocketAddr::is_ipv6) {
            // A machine that knows the address may not know the family.
            Self::new((Ipv6Addr::UNSPECIFIED, 0).into()).or_else(|_| Self::new(v4))?
        } else {
            Self::new(v4)?
        };
        endpoint.dial_any(remotes, url.host(), config, &client.clone().with_path(url.path()));
        Ok(endpoint)
    }

    /// Accepts connections from now on, each with a session of `server`.
    pub fn listen(&mut self, config: ServerConfig, server: &Server) {
        self.quic.set_server_config(Some(Arc::new(config)));
        self.server = Some(server.clone());
    }

    /// Whether the application decides on each connection that it accepts from now on, when the client has
    /// said what it wants: [`poll_event`](Self::poll_event) gives [`Event::Requested`] then, and an event
    /// that is not looked at is a session that is rejected. Default: no, every client is accepted.
    pub fn set_requests(&mut self, requests: bool) {
        self.requests = requests;
    }

    /// Dials `remote`, whose certificate must be for `name`. What becomes of it is told by
    /// [`poll_event`](Self::poll_event).
    pub fn dial(
        &mut self,
        remote: SocketAddr,
        name: &str,
        config: ClientConfig,
        client: &Client,
    ) -> Result<ConnectionId, Error> {
        let remote = self.reachable(remote)?;
        let (handle, quic) = self.quic.connect(clock(), config, remote, name)?;
        Ok(self.insert(handle, quic, Role::Client(client.clone())))
    }

    /// An address in the form that the socket knows.
    fn reachable(&self, remote: SocketAddr) -> io::Result<SocketAddr> {
        Ok(match (self.local_addr()?, remote) {
            // A socket for IPv6 knows IPv4 addresses in mapped form only.
            (SocketAddr::V6(_), SocketAddr::V4(v4)) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            _ => remote,
        })
    }

    /// Begins a handshake; gives its place.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        name: &str,
        config: ClientConfig,
        role: Role,
    ) -> Result<usize, DialError> {
        let local = self.local_addr();
        if local.as_ref().is_ok_and(SocketAddr::is_ipv4) && remote.is_ipv6() {
            return Err(DialError::Family);
        }
        let remote = self.reachable(remote).unwrap_or(remote);
        let (handle, quic) = self.quic.connect(now, config, remote, name)?;
        Ok(self.insert(handle, quic, role).slot)
    }

    /// Past so many connections further ones are refused. Default 16,384.
    pub fn set_max_connections(&mut self, max: usize) {
        self.max_connections = max;
    }

    /// Shows every datagram that arrives to `keep`, and drops it on `false`: a bad network for
    /// tests and demonstrations.
    pub fn set_filter(&mut self, keep: impl FnMut(&[u8]) -> bool + Send + 'static) {
        self.socket.filter = Some(Box::new(keep));
    }

    /// Where the socket is bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// How many bytes the system holds for the socket. If that is less than
    /// [`SOCKET_BUFFER`](smoq_quic::SOCKET_BUFFER) and many clients may dial at once, the operator should know.
    pub fn buffers(&self) -> Buffers {
        self.socket.buffers()
    }

    /// Connections that are being made, open, or closing.
    pub fn connections(&self) -> usize {
        self.open
    }

    /// The session of a connection, once it is [`Event::Connected`] and until it is
    /// [`Event::Closed`]. One that was [`Event::Requested`] is with whoever accepted it.
    pub fn session(&self, id: ConnectionId) -> Option<&Session> {
        self.connections[self.slot(id)?].as_ref()?.session()
    }

    /// Where a connection is.
    pub(crate) fn slot(&self, id: ConnectionId) -> Option<usize> {
        let slot = self.hosts.reached.get(&id).copied().unwrap_or(id.slot);
        let connection = self.connections.get(slot)?.as_ref()?;
        (connection.id() == id).then_some(slot)
    }

    /// What became of connections since the last call. Nobody has to ask: of many thousand
    /// unasked events the oldest are forgotten.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Does what is ready, at most `budget`, and never waits.
    ///
    /// The cost is that of what is ready: connections where nothing happens are not looked at.
    ///
    /// # Errors
    ///
    /// The socket can't be read any more. Trouble of one connection is an [`Event`].
    pub fn step(&mut self, budget: Budget) -> io::Result<Step> {
        let begun = clock();
        let mut now = begun;
        let mut step = Step::default();
        self.collect(now);
        while let Some(job) = self.ready.pop_front() {
            step.turns += 1;
            step.items += match job {
                Job::Receive => self.receive(now)?,
                Job::Connection(slot) => self.turn(slot, now),
            };
            // The one look at the clock in a turn; everything below is told the time.
            now = clock();
            if step.items >= budget.items || now - begun >= budget.time {
                break;
            }
        }
        let surplus = self.events.len().saturating_sub(EVENTS);
        self.events.drain(..surplus);
        step.more = !self.ready.is_empty();
        Ok(step)
    }

    /// Waits until there is something for [`step`](Self::step), somebody used the
    /// [`waker`](Self::waker), or `timeout` is over.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let result = self.sleep(timeout);
        self.take_woken();
        self.interrupted = false;
        result
    }

    fn sleep(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        // Said before the list is looked at: who comes too late for the look sees it.
        self.unblock.waiting.store(true, Ordering::Release);
        let result = self.sleep_unless_ready(timeout);
        self.unblock.waiting.store(false, Ordering::Release);
        result
    }

    fn sleep_unless_ready(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let unblock = Waker::from(Arc::clone(&self.unblock));
        let woken = self.woken.poll_ready(&mut Context::from_waker(&unblock)).is_ready();
        if woken || self.interrupted || !self.ready.is_empty() {
            return Ok(());
        }
        let now = clock();
        let timers = self.timers.first().map(|(at, _)| *at).into_iter();
        let timer = timers.chain(self.hosts.poll_timeout()).min();
        let timer = timer.map(|at| at.saturating_duration_since(now));
        let timeout = timer.into_iter().chain(timeout).min();
        // Asked for always, "writable" would end the wait after each packet that left.
        let stuck = self.socket.is_stuck();
        if stuck {
            self.listen_for(mio::Interest::READABLE | mio::Interest::WRITABLE)?;
        }
        // What it tells does not matter: the next step looks at everything that it can tell of.
        let polled = self.poll.poll(&mut self.polled, timeout);
        if stuck {
            self.listen_for(mio::Interest::READABLE)?;
        }
        polled.or_else(|e| if e.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(e) })
    }

    fn listen_for(&mut self, interest: mio::Interest) -> io::Result<()> {
        self.poll.registry().reregister(self.socket.source(), SOCKET, interest)
    }

    /// Ends the current or else the next [`wait`](Self::wait), from any thread.
    pub fn waker(&self) -> Waker {
        self.interrupt.clone()
    }

    /// Steps and waits until `future` is done. The future is polled on this thread, in between;
    /// `std::future::pending()` runs until an error.
    pub fn run_until<F: Future>(&mut self, future: F) -> io::Result<F::Output> {
        let mut future = pin!(future);
        let waker = self.waker();
        let mut cx = Context::from_waker(&waker);
        self.interrupted = true;
        loop {
            if std::mem::take(&mut self.interrupted) {
                if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                    return Ok(output);
                }
            }
            self.step(SLICE)?;
            self.sleep(None)?;
        }
    }

    /// Puts everyone on the list of the ready who has become so since the last step.
    fn collect(&mut self, now: Instant) {
        if self.socket.is_stuck() {
            self.socket.retry();
        }
        if !self.socket.is_stuck() {
            self.ready.extend(self.stuck.drain(..).map(Job::Connection));
        }
        // Whether the socket has something is known only by asking it.
        if !std::mem::replace(&mut self.receiving, true) {
            self.ready.push_back(Job::Receive);
        }
        while let Some((at, slot)) = self.timers.first().copied() {
            if at > now {
                break;
            }
            self.set_timer(slot, None);
            self.queue(slot);
        }
        self.attempt_due(now);
        self.take_woken();
    }

    fn take_woken(&mut self) {
        while let Some(key) = self.woken.pop() {
            match key {
                INTERRUPT => self.interrupted = true,
                slot => self.queue(slot as usize),
            }
        }
    }

    /// The socket's turn: hands datagrams to the connections that quinn names.
    fn receive(&mut self, now: Instant) -> io::Result<usize> {
        self.receiving = false;
        for items in 0..DATAGRAMS {
            let Some(Datagram { remote, local_ip, ecn, bytes }) = self.socket.receive()? else {
                return Ok(items);
            };
            let mut answer = Vec::new();
            match self.quic.handle(now, remote, local_ip, ecn, bytes, &mut answer) {
                Some(DatagramEvent::ConnectionEvent(ConnectionHandle(slot), event)) => {
                    if let Some(connection) = &mut self.connections[slot] {
                        connection.quic.handle_event(event);
                        self.queue(slot);
                    }
                }
                Some(DatagramEvent::NewConnection(incoming)) => self.accept(incoming, now, answer),
                Some(DatagramEvent::Response(packet)) => self.respond(packet, &answer),
                None => {}
            }
        }
        // There may be more; but first those who have something to read now.
        self.receiving = true;
        self.ready.push_back(Job::Receive);
        Ok(DATAGRAMS)
    }

    fn accept(&mut self, incoming: Incoming, now: Instant, mut answer: Vec<u8>) {
        let Some(server) = &self.server else { return self.quic.ignore(incoming) };
        let make = if self.requests { Role::Request } else { Role::Server };
        let role = make(server.clone());
        if self.open >= self.max_connections {
            let packet = self.quic.refuse(incoming, &mut answer);
            return self.respond(packet, &answer);
        }
        match self.quic.accept(incoming, now, &mut answer, None) {
            Ok((handle, quic)) => {
                self.insert(handle, quic, role);
            }
            Err(error) => {
                if let Some(packet) = error.response {
                    self.respond(packet, &answer);
                }
            }
        }
    }

    /// Sends what belongs to no connection. If the socket is full it is lost: the peer asks again.
    fn respond(&mut self, packet: Transmit, bytes: &[u8]) {
        if !self.socket.is_stuck() {
            self.socket.send(|_, buf| {
                buf.extend_from_slice(bytes);
                Some(packet)
            });
        }
    }

    fn insert(
        &mut self,
        handle: ConnectionHandle,
        quic: quinn_proto::Connection,
        role: Role,
    ) -> ConnectionId {
        let ConnectionHandle(slot) = handle;
        if self.connections.len() <= slot {
            self.connections.resize_with(slot + 1, || None);
        }
        self.serial += 1;
        self.open += 1;
        let id = ConnectionId { slot, serial: self.serial };
        self.connections[slot] =
            Some(Connection::new(id, handle, quic, role, self.woken.waker(slot as u64)));
        self.queue(slot);
        id
    }

    /// A connection's turn.
    fn turn(&mut self, slot: usize, now: Instant) -> usize {
        let Some(connection) = &mut self.connections[slot] else { return 0 };
        let (attempt, before) = (connection.attempt, self.events.len());
        let turn = connection.turn(now, &mut self.quic, &mut self.socket, &mut self.events);
        // While it stands on a list it is not put on another one.
        connection.queued = turn.stuck || turn.again;
        let (timer, id) = (connection.poll_timeout(), connection.id());
        if let Some(attempt) = attempt {
            for event in self.events.split_off(before) {
                self.attempted(now, slot, attempt, event);
            }
        }
        if turn.drained {
            self.set_timer(slot, None);
            self.hosts.reached.remove(&id);
            self.connections[slot] = None;
            self.open -= 1;
            return turn.items;
        }
        self.set_timer(slot, timer);
        if turn.stuck {
            self.stuck.push(slot);
        } else if turn.again {
            // Behind all others: nobody's flood keeps them waiting.
            self.ready.push_back(Job::Connection(slot));
        }
        turn.items
    }

    pub(crate) fn queue(&mut self, slot: usize) {
        if let Some(connection) = &mut self.connections[slot] {
            if !std::mem::replace(&mut connection.queued, true) {
                self.ready.push_back(Job::Connection(slot));
            }
        }
    }

    fn set_timer(&mut self, slot: usize, timer: Option<Instant>) {
        let Some(connection) = &mut self.connections[slot] else { return };
        let old = std::mem::replace(&mut connection.timer, timer);
        if old != timer {
            old.map(|at| self.timers.remove(&(at, slot)));
            timer.map(|at| self.timers.insert((at, slot)));
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Endpoint");
        f.field("local_addr", &self.local_addr().ok()).field("connections", &self.open);
        f.finish_non_exhaustive()
    }
}

/// The one place where this crate looks at the clock.
#[expect(clippy::disallowed_methods, reason = "an adapter is where time comes from")]
pub(crate) fn clock() -> Instant {
    Instant::now()
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let now = clock();
        for connection in self.connections.iter_mut().flatten() {
            connection.abandon(now, &mut self.socket);
        }
    }
}

#[cfg(test)]
mod tests;
