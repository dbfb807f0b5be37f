//! The socket, its connections, and the order of their turns.

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
use smoq_quic::{Buffers, WorkerSocket};

use crate::connection::{Connection, Settings};
use crate::dial_config::DialConfig;
use crate::error::{DialError, Error};
use crate::event::{ConnectionId, Event};
use crate::hosts::Hosts;
use crate::reconnect::Links;
use crate::socket::{Datagram, Socket};
#[cfg(feature = "websocket")]
use crate::web_socket::{WEB_SOCKET, WebSockets};

/// One UDP socket and the MoQ sessions on it, dialed and accepted.
///
/// Nothing happens outside of [`step`](Self::step) and [`run_until`](Self::run_until). Dropping the endpoint sends one
/// CONNECTION_CLOSE on each connection; [`Session::drain`] ends a session without losing data.
///
/// A server in a loop that has other things to do:
///
/// ```no_run
/// use std::time::Duration;
///
/// use smoq::{Origin, Server};
/// use smoq_blocking::{Budget, Endpoint, Event, config, smoq_quic::Identity};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A relay: what one client publishes, the others can read.
/// let server = Server::new().with_origin(&Origin::default().produce());
/// let tls = config::server(&Identity::from_pem_files("cert.pem", "key.pem")?, server.versions())?;
/// let mut net = Endpoint::bind("[::]:4443".parse()?, tls, &server)?;
/// loop {
///     net.step(Budget::time(Duration::from_micros(500)))?;
///     while let Some(event) = net.poll_event() {
///         match event {
///             Event::Connected { remote, version, .. } => println!("{remote} speaks {version}"),
///             Event::Closed { reason, .. } => println!("a session ended: {reason:?}"),
///             _ => {}
///         }
///     }
///     // The rest of the tick.
/// }
/// # }
/// ```
pub struct Endpoint {
    quic: quinn_proto::Endpoint,
    server: Option<Server>,
    /// Whether the application accepts or rejects each session of the server.
    pub(crate) requests: bool,
    socket: Socket,
    #[cfg(feature = "websocket")]
    pub(crate) web_sockets: WebSockets,
    /// Indexed by quinn's handle, which is small and dense.
    pub(crate) connections: Vec<Option<Connection>>,
    pub(crate) hosts: Hosts,
    pub(crate) links: Links,
    /// The next turns. A step costs what is queued here, not what is connected.
    pub(crate) ready: VecDeque<Job>,
    /// Whether `Job::Receive` is queued.
    receiving: bool,
    /// Deadlines of connections.
    timers: BTreeSet<(Instant, usize)>,
    /// Connections whose packets the socket did not accept.
    stuck: Vec<usize>,
    /// Connections that the application woke, by slot, and `INTERRUPT`.
    pub(crate) woken: ReadyList,
    interrupt: Waker,
    interrupted: bool,
    unblock: Arc<Unblock>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) poll: mio::Poll,
    pub(crate) polled: mio::Events,
    pub(crate) serial: u64,
    pub(crate) open: usize,
    pub(crate) max_connections: usize,
}

/// A turn.
pub(crate) enum Job {
    /// Of the socket: receive.
    Receive,
    /// Of the connection in this slot.
    Connection(usize),
    /// Of the listener for WebSockets.
    #[cfg(feature = "websocket")]
    Accept,
    /// Of the WebSocket with this serial number.
    #[cfg(feature = "websocket")]
    WebSocket(u64),
}

/// How much one [`Endpoint::step`] may do.
///
/// It is checked between turns, so it is exceeded by at most one turn: 64 datagrams received, or a few dozen items
/// of one connection. The smallest budget makes progress. (Measured with one connection at 2 Gbit/s: the longest of
/// all steps of 500 us took 720 us of CPU time.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    items: usize,
    time: Duration,
}

impl Budget {
    /// At most `items` items: a datagram received, an event handled, a stream opened or written, a burst of packets
    /// sent.
    pub const fn items(items: usize) -> Self {
        Self { items, time: Duration::MAX }
    }

    /// At most `time`.
    pub const fn time(time: Duration) -> Self {
        Self { items: usize::MAX, time }
    }

    /// Adds a limit on items; the limit that is reached first counts.
    #[must_use]
    pub const fn and_items(self, items: usize) -> Self {
        Self { items, ..self }
    }
}

/// The work of one [`Endpoint::step`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// Items of work, as [`Budget::items`] counts them.
    pub items: usize,
    /// Turns of the socket and of connections.
    pub turns: usize,
    /// There is more work. The next step continues with it.
    pub more: bool,
}

/// Datagrams received in one turn.
const DATAGRAMS: usize = 64;
/// Events that are kept for [`Endpoint::poll_event`]; the oldest are dropped.
const EVENTS: usize = 4_096;
/// The work of [`Endpoint::run_until`] between two polls of its future.
const SLICE: Budget = Budget::items(1_024);

const SOCKET: mio::Token = mio::Token(0);
const WAKER: mio::Token = mio::Token(1);
/// From here on the tokens are those of WebSockets.
#[cfg(feature = "websocket")]
pub(crate) const WEB_SOCKETS: usize = 2;
/// The key of [`Endpoint::waker`]. No slot has this number.
const INTERRUPT: u64 = u64::MAX;
/// From here on the keys are those of clients that dial again.
pub(crate) const LINK: u64 = 1 << 63;

/// Ends a wait on the socket. Waking costs a system call, so it is done only while there is a wait.
struct Unblock {
    poll: mio::Waker,
    waiting: AtomicBool,
}

impl Wake for Unblock {
    fn wake(self: Arc<Self>) {
        if self.waiting.swap(false, Ordering::AcqRel) {
            // It fails only if the system is out of resources. Then a timer ends the wait.
            let _ = self.poll.wake();
        }
    }
}

impl Endpoint {
    /// Opens a socket that neither listens nor dials yet. The system chooses a port for port 0.
    ///
    /// # Errors
    ///
    /// The address can't be used.
    pub fn new(local: SocketAddr) -> io::Result<Self> {
        let (socket, buffers) = smoq_quic::bind(local)?;
        Self::of(Socket::new(socket, buffers, clock())?, EndpointConfig::default())
    }

    /// Takes one of the sockets that share a port: each belongs to a thread with an endpoint of its own. It neither
    /// listens nor dials yet.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use smoq::{Origin, Server};
    /// use smoq_blocking::{Endpoint, config, smoq_quic::{Identity, bind_workers}};
    ///
    /// let server = Server::new().with_origin(&Origin::default().produce());
    /// let tls = config::server(&Identity::self_signed(["localhost"])?, server.versions())?;
    /// for socket in bind_workers("[::]:4443".parse()?, std::thread::available_parallelism()?)? {
    ///     let (server, tls) = (server.clone(), tls.clone());
    ///     std::thread::spawn(move || {
    ///         let mut net = Endpoint::from_worker(socket)?;
    ///         net.listen(tls, &server);
    ///         net.run_until(std::future::pending::<std::io::Result<()>>())?
    ///     });
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The system can't wait for the socket.
    pub fn from_worker(worker: WorkerSocket) -> io::Result<Self> {
        let config = worker.endpoint_config();
        Self::of(Socket::new(worker.socket, worker.buffers, clock())?, config)
    }

    fn of(mut socket: Socket, config: EndpointConfig) -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        poll.registry().register(socket.source(), SOCKET, mio::Interest::READABLE)?;
        let waker = mio::Waker::new(poll.registry(), WAKER)?;
        let woken = ReadyList::new();
        Ok(Self {
            quic: quinn_proto::Endpoint::new(Arc::new(config), None, !socket.may_fragment(), None),
            server: None,
            requests: false,
            socket,
            #[cfg(feature = "websocket")]
            web_sockets: WebSockets::default(),
            connections: Vec::new(),
            hosts: Hosts::default(),
            links: Links::default(),
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
            // The socket and the waker.
            polled: mio::Events::with_capacity(2),
            serial: 0,
            open: 0,
            max_connections: 16_384,
        })
    }

    /// Opens a socket that listens: [`new`](Self::new) and [`listen`](Self::listen).
    ///
    /// # Errors
    ///
    /// The address can't be used.
    pub fn bind(local: SocketAddr, config: ServerConfig, server: &Server) -> io::Result<Self> {
        let mut endpoint = Self::new(local)?;
        endpoint.listen(config, server);
        Ok(endpoint)
    }

    /// Opens a socket and dials `moqt://HOST[:PORT][/PATH]` or another [`Url`](smoq_quic::Url): [`new`](Self::new) and
    /// [`dial_any`](Self::dial_any). `config` must be for the same URL: see [`DialConfig::for_url`].
    ///
    /// Resolving the host name blocks.
    ///
    /// # Errors
    ///
    /// The URL can't be parsed, the host name can't be resolved, or there is no socket. A host that does not answer
    /// is an [`Event`].
    pub fn connect(
        url: &str,
        config: impl Into<DialConfig>,
        client: &Client,
    ) -> Result<Self, Error> {
        let url: smoq_quic::Url = url.parse()?;
        let remotes: Vec<_> = (url.host(), url.port()).to_socket_addrs()?.collect();
        let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let mut endpoint = if remotes.iter().any(SocketAddr::is_ipv6) {
            // The machine may not support IPv6.
            Self::new((Ipv6Addr::UNSPECIFIED, 0).into()).or_else(|_| Self::new(v4))?
        } else {
            Self::new(v4)?
        };
        let client = client.clone().with_path(url.path()).with_authority(url.authority());
        endpoint.dial_any(remotes, url.host(), config, &client);
        Ok(endpoint)
    }

    /// Accepts connections from now on, each with a session of `server`.
    ///
    /// Call it again to replace a certificate: connections that were accepted before keep running.
    pub fn listen(&mut self, config: ServerConfig, server: &Server) {
        self.quic.set_server_config(Some(Arc::new(config)));
        self.server = Some(server.clone());
    }

    /// Whether the application accepts or rejects each session of the server after the client's SETUP:
    /// [`poll_event`](Self::poll_event) then returns [`Event::Incoming`]. An event that is dropped rejects its
    /// session. Default: every client is accepted.
    pub fn set_manual_accept(&mut self, requests: bool) {
        self.requests = requests;
    }

    /// Dials `remote` by QUIC. Its certificate must be for `name`. [`poll_event`](Self::poll_event) reports the result.
    ///
    /// # Errors
    ///
    /// QUIC can't dial this address or name.
    pub fn dial(
        &mut self,
        remote: SocketAddr,
        name: &str,
        config: ClientConfig,
        client: &Client,
    ) -> Result<ConnectionId, Error> {
        let remote = self.reachable(remote)?;
        let (handle, quic) = self.quic.connect(clock(), config, remote, name)?;
        Ok(self.insert(handle, quic, Settings::Client(client.clone())))
    }

    /// The address in the form that the socket takes.
    fn reachable(&self, remote: SocketAddr) -> io::Result<SocketAddr> {
        Ok(match (self.local_addr()?, remote) {
            // A socket for IPv6 knows IPv4 addresses in mapped form only.
            (SocketAddr::V6(_), SocketAddr::V4(v4)) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            _ => remote,
        })
    }

    /// Begins a handshake of QUIC.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        name: &str,
        config: ClientConfig,
        settings: Settings,
    ) -> Result<ConnectionId, DialError> {
        let local = self.local_addr();
        if local.as_ref().is_ok_and(SocketAddr::is_ipv4) && remote.is_ipv6() {
            return Err(DialError::Family);
        }
        let remote = self.reachable(remote).unwrap_or(remote);
        let (handle, quic) = self.quic.connect(now, config, remote, name)?;
        Ok(self.insert(handle, quic, settings))
    }

    /// The number of connections above which further ones are refused. Default 16,384.
    pub fn set_max_connections(&mut self, max: usize) {
        self.max_connections = max;
    }

    /// Passes every received datagram to `keep`, and drops it on `false`: a lossy network for tests and
    /// demonstrations.
    pub fn set_filter(&mut self, keep: impl FnMut(&[u8]) -> bool + Send + 'static) {
        self.socket.filter = Some(Box::new(keep));
    }

    /// The address that the socket is bound to.
    ///
    /// # Errors
    ///
    /// That of the system; the endpoint is unaffected.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The sizes of the socket's buffers. Tell the operator if they [are short](Buffers::is_short) and many clients
    /// may dial at once.
    pub fn buffers(&self) -> Buffers {
        self.socket.buffers()
    }

    /// The number of connections, with those that are being made or closed.
    pub fn connections(&self) -> usize {
        self.open
    }

    /// The session of a connection between [`Event::Connected`] and [`Event::Closed`]. `None` for a session that was
    /// [`Event::Incoming`]: only the application has that.
    pub fn session(&self, id: ConnectionId) -> Option<&Session> {
        #[cfg(feature = "websocket")]
        if let Some(session) = self.web_sockets.session(self.place(id)) {
            return Some(session);
        }
        self.connections[self.slot(id)?].as_ref()?.session()
    }

    /// The id of the attempt that made a connection, which tells where it is.
    fn place(&self, id: ConnectionId) -> ConnectionId {
        self.hosts.reached.get(&id).copied().unwrap_or(id)
    }

    /// The slot of a connection on QUIC.
    pub(crate) fn slot(&self, id: ConnectionId) -> Option<usize> {
        let slot = self.place(id).slot;
        let connection = self.connections.get(slot)?.as_ref()?;
        (connection.id() == id).then_some(slot)
    }

    /// The next change of a connection. An application need not call this: only the newest 4,096 events are kept.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Does what is ready, at most `budget` of it, and never waits. Connections where nothing happens cost nothing.
    ///
    /// A program may pause its steps, for example while it loads a level. Deadlines count only when everything that came in
    /// the meantime was read, in this step or the next ones. So a pause of 10 s
    /// ([`IDLE_TIMEOUT`](crate::config::IDLE_TIMEOUT)) or a few more loses no peer that has not given up this side.
    ///
    /// # Errors
    ///
    /// The socket can't be read any more. An error of one connection is an [`Event`] instead.
    pub fn step(&mut self, budget: Budget) -> io::Result<Step> {
        let begun = clock();
        let mut now = begun;
        let mut step = Step::default();
        self.collect();
        #[cfg(feature = "websocket")]
        self.collect_web_sockets(now)?;
        while let Some(job) = self.ready.pop_front() {
            step.turns += 1;
            step.items += match job {
                Job::Receive => self.receive(now)?,
                Job::Connection(slot) => self.turn(slot, now),
                #[cfg(feature = "websocket")]
                Job::Accept => self.accept_web_sockets(now),
                #[cfg(feature = "websocket")]
                Job::WebSocket(serial) => self.web_socket_turn(serial, now),
            };
            // The clock is read once per turn.
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

    /// Waits until [`step`](Self::step) has something to do, the [`waker`](Self::waker) was used, or `timeout` has
    /// passed.
    ///
    /// # Errors
    ///
    /// The system can't wait on the socket.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let result = self.sleep(timeout);
        self.take_woken();
        self.interrupted = false;
        result
    }

    fn sleep(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        // Set before the list is read, so that a waker that comes after the read sees it.
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
        let dialing = self.hosts.poll_timeout().into_iter().chain(self.links.poll_timeout());
        #[cfg(feature = "websocket")]
        let dialing = dialing.chain(self.web_sockets.poll_timeout());
        let timer = timers.chain(dialing).min();
        let timer = timer.map(|at| at.saturating_duration_since(now));
        let timeout = timer.into_iter().chain(timeout).min();
        // Otherwise "writable" would end the wait after each packet.
        let stuck = self.socket.is_stuck();
        if stuck {
            self.listen_for(mio::Interest::READABLE | mio::Interest::WRITABLE)?;
        }
        let polled = self.poll_system(timeout);
        if stuck {
            self.listen_for(mio::Interest::READABLE)?;
        }
        polled
    }

    /// Asks the system what is ready. Only WebSockets depend on the answer: the next step checks the socket and the waker
    /// in any case.
    pub(crate) fn poll_system(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.polled, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        #[cfg(feature = "websocket")]
        self.queue_web_sockets();
        Ok(())
    }

    fn listen_for(&mut self, interest: mio::Interest) -> io::Result<()> {
        self.poll.registry().reregister(self.socket.source(), SOCKET, interest)
    }

    /// A waker that ends the current or else the next [`wait`](Self::wait), from any thread.
    pub fn waker(&self) -> Waker {
        self.interrupt.clone()
    }

    /// Steps and waits until `future` is ready. The future is polled on this thread between steps;
    /// `std::future::pending()` runs until an error.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step) and [`wait`](Self::wait).
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

    /// Queues everything that has become ready since the last step.
    fn collect(&mut self) {
        if self.socket.is_stuck() {
            self.socket.retry();
        }
        if !self.socket.is_stuck() {
            self.ready.extend(self.stuck.drain(..).map(Job::Connection));
        }
        // Only a read shows whether the socket has something.
        if !std::mem::replace(&mut self.receiving, true) {
            self.ready.push_back(Job::Receive);
        }
        self.take_woken();
    }

    /// Queues what is due. Deadlines count for the time up to which the socket was read: after a stall of this process the
    /// packets of peers that are alive still wait there.
    fn deadlines(&mut self) {
        let heard = self.socket.heard();
        while let Some((at, slot)) = self.timers.first().copied() {
            if at > heard {
                break;
            }
            self.set_timer(slot, None);
            self.queue(slot);
        }
        self.attempt_due(heard);
        self.links_due(heard);
    }

    fn take_woken(&mut self) {
        while let Some(key) = self.woken.pop() {
            match key {
                INTERRUPT => self.interrupted = true,
                link if link >= LINK => self.link_woken(link),
                #[cfg(feature = "websocket")]
                key if key >= WEB_SOCKET => self.queue_web_socket(key & !WEB_SOCKET),
                slot => self.queue(slot as usize),
            }
        }
    }

    /// The socket's turn: passes datagrams to the connections that quinn names.
    fn receive(&mut self, now: Instant) -> io::Result<usize> {
        self.receiving = false;
        for items in 0..DATAGRAMS {
            let Some(Datagram { remote, local_ip, ecn, bytes }) = self.socket.receive(now)? else {
                self.deadlines();
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
        self.deadlines();
        // There may be more, after the turns of the connections that have data now.
        self.receiving = true;
        self.ready.push_back(Job::Receive);
        Ok(DATAGRAMS)
    }

    fn accept(&mut self, incoming: Incoming, now: Instant, mut answer: Vec<u8>) {
        let Some(server) = &self.server else { return self.quic.ignore(incoming) };
        let make = if self.requests { Settings::Request } else { Settings::Server };
        let settings = make(server.clone());
        if self.open >= self.max_connections {
            let packet = self.quic.refuse(incoming, &mut answer);
            return self.respond(packet, &answer);
        }
        match self.quic.accept(incoming, now, &mut answer, None) {
            Ok((handle, quic)) => {
                self.insert(handle, quic, settings);
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
            self.socket.send(u16::MAX, |_, buf| {
                buf.extend_from_slice(bytes);
                Some(packet)
            });
        }
    }

    fn insert(
        &mut self,
        handle: ConnectionHandle,
        quic: quinn_proto::Connection,
        settings: Settings,
    ) -> ConnectionId {
        let ConnectionHandle(slot) = handle;
        if self.connections.len() <= slot {
            self.connections.resize_with(slot + 1, || None);
        }
        self.serial += 1;
        self.open += 1;
        let id = ConnectionId { slot, serial: self.serial };
        self.connections[slot] =
            Some(Connection::new(id, handle, quic, settings, self.woken.waker(slot as u64)));
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
        self.set_timer(slot, timer.filter(|_| !turn.drained));
        if turn.drained {
            // Before the events: an attempt that follows one of them may get this slot.
            self.hosts.reached.remove(&id);
            self.connections[slot] = None;
            self.open -= 1;
        } else if turn.stuck {
            self.stuck.push(slot);
        } else if turn.again {
            // After all others, so that a flood on one connection does not keep them waiting.
            self.ready.push_back(Job::Connection(slot));
        }
        match attempt {
            Some(attempt) if self.events.len() > before => {
                for event in self.events.split_off(before) {
                    self.attempted(now, slot, attempt, event);
                }
            }
            _ => self.report_since(now, before),
        }
        turn.items
    }

    /// A waker with this key.
    pub(crate) fn waker_for(&self, key: u64) -> Waker {
        self.woken.waker(key)
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
    let now = Instant::now();
    #[cfg(test)]
    let now = now + tests::AHEAD.get();
    now
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let now = clock();
        for connection in self.connections.iter_mut().flatten() {
            connection.abandon(now, &mut self.socket);
        }
        #[cfg(feature = "websocket")]
        self.web_sockets.abandon();
    }
}

#[cfg(test)]
pub(crate) mod tests;
