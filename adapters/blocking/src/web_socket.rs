//! Sessions on WebSockets: the listener, dialing, and the turns of the connections.

mod handshake;
mod session;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Token};
use quinn_proto::ConnectError;
use smoq::{Client, Server, Session};
use smoq_quic::rustls::pki_types::ServerName;
use smoq_quic::rustls::{self, ClientConnection, ServerConnection};

use self::handshake::{Dial, Handshake, Progress, Upgrade};
use self::session::WebSocket;
use self::stream::Stream;
use crate::connection::Settings;
use crate::endpoint::{Endpoint, Job, WEB_SOCKETS};
use crate::error::DialError;
use crate::event::ConnectionId;
use crate::hosts::Attempt;

/// Accepted TCP connections that may be without a session at a time. A further one takes the place of the oldest. A
/// process that runs tests may have fewer files open.
const HANDSHAKES: usize = if cfg!(test) { 256 } else { 1_024 };
/// How long each of them has its place for certain. Until then further ones wait in the system's queue.
const GRACE: Duration = Duration::from_millis(250);
/// The length of that queue, as far as the system allows.
#[cfg(target_os = "linux")]
const BACKLOG: i32 = 4_096;
/// Connections accepted in one turn.
const ACCEPTS: usize = 64;
/// Events of the system that are taken at a time.
const EVENTS: usize = 1_024;
/// When the listener is asked again after the system was out of resources.
const RETRY: Duration = Duration::from_secs(1);

const LISTENER: Token = Token(WEB_SOCKETS);
/// The token of the WebSocket with the serial number 0.
const FIRST: usize = WEB_SOCKETS + 1;
/// The slot in the ids of WebSockets. QUIC has none with this number.
const SLOT: usize = usize::MAX - 1;
/// From here on the keys of wakers are those of WebSockets.
pub(crate) const WEB_SOCKET: u64 = 1 << 62;

/// Connections that wait and run, by serial number.
#[derive(Default)]
pub(crate) struct WebSockets {
    listener: Option<(TcpListener, Server)>,
    /// The listener's TLS.
    tls: Option<Arc<rustls::ServerConfig>>,
    /// Of accepted connections. The first one is the oldest.
    handshakes: BTreeMap<u64, Handshake>,
    /// Of dialed ones, as well.
    dials: BTreeMap<u64, Dial>,
    sessions: BTreeMap<u64, WebSocket>,
    /// Deadlines of sessions.
    timers: BTreeSet<(Instant, u64)>,
    /// When to ask the listener again, or as soon as a handshake is over.
    retry: Option<Instant>,
}

impl WebSockets {
    /// Until when no further connection may take the place of one.
    fn full_until(&self, now: Instant) -> Option<Instant> {
        let (_, oldest) = self.handshakes.first_key_value()?;
        let until = oldest.begun + GRACE;
        (self.handshakes.len() >= HANDSHAKES && until > now).then_some(until)
    }

    /// The session at this place.
    pub(crate) fn session(&self, place: ConnectionId) -> Option<&Session> {
        if place.slot == SLOT { self.sessions.get(&place.serial)?.session.as_ref() } else { None }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let handshake = self.handshakes.first_key_value().map(|(_, handshake)| handshake.until());
        let dial = self.dials.first_key_value().map(|(_, dial)| dial.handshake.until());
        let session = self.timers.first().map(|(at, _)| *at);
        [handshake, dial, session, self.retry].into_iter().flatten().min()
    }

    /// Whether there is nothing that the system could report.
    fn is_unused(&self) -> bool {
        self.listener.is_none() && self.dials.is_empty() && self.sessions.is_empty()
    }

    /// Tells all peers that it is over, and waits for nothing.
    pub(crate) fn abandon(&mut self) {
        self.sessions.values_mut().for_each(WebSocket::abandon);
    }

    fn set_timer(&mut self, serial: u64, timer: Option<Instant>) {
        let Some(session) = self.sessions.get_mut(&serial) else { return };
        let old = std::mem::replace(&mut session.timer, timer);
        if old != timer {
            old.map(|at| self.timers.remove(&(at, serial)));
            timer.map(|at| self.timers.insert((at, serial)));
        }
    }
}

impl Endpoint {
    /// Accepts sessions on WebSockets from now on, each with a session of `server`: from browsers and networks where QUIC
    /// does not get through. [`set_manual_accept`](Self::set_manual_accept) counts for them as well.
    ///
    /// They are part of the same steps, and of the same number of connections
    /// ([`set_max_connections`](Self::set_max_connections)). A TCP connection counts when it has become a session. Up to
    /// 1,024 others may wait for 10 s; a further one takes the place of the oldest, if that has waited for 250 ms. They
    /// report no events.
    ///
    /// They are for `ws://`, which browsers take on pages from `http://` and `localhost`, or with
    /// [`set_web_socket_tls`](Self::set_web_socket_tls) for `wss://`. Pages of every origin can connect: a server that is not
    /// for all of them decides by [`IncomingSession::http`](smoq::IncomingSession::http).
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::net::TcpListener;
    ///
    /// use smoq::{Origin, Server};
    /// use smoq_blocking::{Endpoint, config, smoq_quic::Identity};
    ///
    /// let server = Server::new().with_origin(&Origin::default().produce());
    /// let tls = config::server(&Identity::self_signed(["localhost"])?, server.versions())?;
    /// let mut net = Endpoint::bind("[::]:4443".parse()?, tls, &server)?;
    /// net.listen_web_socket(TcpListener::bind("[::]:4443")?, &server)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The system can't wait for the listener.
    pub fn listen_web_socket(
        &mut self,
        listener: std::net::TcpListener,
        server: &Server,
    ) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        #[cfg(target_os = "linux")]
        // The standard library asks for 128. If it fails, they remain.
        let _ = socket2::SockRef::from(&listener).listen(BACKLOG);
        let mut listener = TcpListener::from_std(listener);
        self.poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        self.web_sockets.listener = Some((listener, server.clone()));
        self.make_room_for_events();
        Ok(())
    }

    /// WebSockets that are accepted from now on are for `wss://`, and for `ws://` no more. They have this TLS configuration.
    ///
    /// Call it again to replace a certificate: connections that were accepted before keep running. If the configuration
    /// names ALPNs, `http/1.1` has to be one of them.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut net = smoq_blocking::Endpoint::new("[::]:4443".parse()?)?;
    /// use smoq_blocking::smoq_quic::{Identity, tls};
    ///
    /// let identity = Identity::from_pem_files("cert.pem", "key.pem")?;
    /// net.set_web_socket_tls(tls::server(&identity, ["http/1.1"])?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_web_socket_tls(&mut self, config: impl Into<Arc<rustls::ServerConfig>>) {
        self.web_sockets.tls = Some(config.into());
    }

    fn make_room_for_events(&mut self) {
        if self.polled.capacity() < EVENTS {
            self.polled = mio::Events::with_capacity(EVENTS);
        }
    }

    /// Dials one address, with TLS if there is a configuration.
    pub(crate) fn dial_web_socket(
        &mut self,
        now: Instant,
        attempt: Attempt,
        name: &str,
        tls: Option<&Arc<rustls::ClientConfig>>,
        client: &Client,
    ) -> Result<ConnectionId, DialError> {
        let tls = match tls {
            Some(config) => {
                let invalid = |_| ConnectError::InvalidServerName(name.to_owned());
                let name = ServerName::try_from(name.to_owned()).map_err(invalid)?;
                Some(ClientConnection::new(Arc::clone(config), name)?.into())
            }
            None => None,
        };
        let is_tls = tls.is_some();
        let mut stream = TcpStream::connect(attempt.address).map_err(DialError::Tcp)?;
        self.register(&mut stream, self.serial + 1).map_err(DialError::Tcp)?;
        let handshake = Handshake::new(now, Stream::new(stream, tls), attempt.address);
        let dial = Dial::new(handshake, attempt, client.clone(), is_tls)?;
        self.serial += 1;
        self.open += 1;
        self.web_sockets.dials.insert(self.serial, dial);
        self.make_room_for_events();
        Ok(ConnectionId { slot: SLOT, serial: self.serial })
    }

    /// Gives up a dial.
    pub(crate) fn give_up_web_socket(&mut self, place: ConnectionId) {
        if self.web_sockets.dials.remove(&place.serial).is_some() {
            self.open -= 1;
        }
    }

    fn register(&self, stream: &mut TcpStream, serial: u64) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(stream, Token(FIRST + serial as usize), interest)
    }

    /// Queues what has become ready since the last step.
    pub(crate) fn collect_web_sockets(&mut self, now: Instant) -> io::Result<()> {
        if self.web_sockets.is_unused() {
            return Ok(());
        }
        self.poll_system(Some(Duration::ZERO))?;
        if self.web_sockets.retry.take_if(|at| *at <= now).is_some() {
            self.ready.push_back(Job::Accept);
        }
        // A last turn of those that are late: after a stall of this process what they wait for may be there.
        while let Some(oldest) = self.web_sockets.handshakes.first_entry() {
            if oldest.get().until() > now {
                break;
            }
            let (serial, handshake) = oldest.remove_entry();
            self.handshake_turn(now, serial, handshake);
        }
        while let Some(oldest) = self.web_sockets.dials.first_entry() {
            if oldest.get().handshake.until() > now {
                break;
            }
            let (serial, dial) = oldest.remove_entry();
            self.dial_turn(now, serial, dial);
        }
        while let Some((at, serial)) = self.web_sockets.timers.first().copied() {
            if at > now {
                break;
            }
            self.web_sockets.set_timer(serial, None);
            self.queue_web_socket(serial);
        }
        Ok(())
    }

    /// Queues what the system said to be ready. It says so once.
    pub(crate) fn queue_web_sockets(&mut self) {
        for event in &self.polled {
            match event.token() {
                LISTENER => self.ready.push_back(Job::Accept),
                Token(token) if token >= FIRST => {
                    let serial = (token - FIRST) as u64;
                    if let Some(session) = self.web_sockets.sessions.get_mut(&serial) {
                        session.is_readable |= event.is_readable();
                        session.is_writable |= event.is_writable();
                        session.queue(serial, &mut self.ready);
                    } else {
                        self.ready.push_back(Job::WebSocket(serial));
                    }
                }
                _ => {}
            }
        }
    }

    pub(crate) fn queue_web_socket(&mut self, serial: u64) {
        if let Some(session) = self.web_sockets.sessions.get_mut(&serial) {
            session.queue(serial, &mut self.ready);
        }
    }

    /// The listener's turn.
    pub(crate) fn accept_web_sockets(&mut self, now: Instant) -> usize {
        let Some((listener, _)) = &self.web_sockets.listener else { return 0 };
        for items in 0..ACCEPTS {
            if let Some(until) = self.web_sockets.full_until(now) {
                self.web_sockets.retry = Some(until);
                return items;
            }
            let (mut stream, remote) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return items,
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => {
                    self.web_sockets.retry = Some(now + RETRY);
                    return items;
                }
            };
            let tls = self.web_sockets.tls.as_ref();
            // Dropping it closes the connection.
            let (false, Ok(()), Ok(()), Ok(tls)) = (
                self.open >= self.max_connections,
                stream.set_nodelay(true),
                self.register(&mut stream, self.serial + 1),
                tls.map(|config| ServerConnection::new(Arc::clone(config))).transpose(),
            ) else {
                continue;
            };
            let stream = Stream::new(stream, tls.map(Into::into));
            self.serial += 1;
            let handshakes = &mut self.web_sockets.handshakes;
            handshakes.insert(self.serial, Handshake::new(now, stream, remote));
            if handshakes.len() > HANDSHAKES {
                handshakes.pop_first();
            }
        }
        self.ready.push_back(Job::Accept);
        ACCEPTS
    }

    /// The turn of a WebSocket, or of a connection that may become one.
    pub(crate) fn web_socket_turn(&mut self, serial: u64, now: Instant) -> usize {
        if let Some(handshake) = self.web_sockets.handshakes.remove(&serial) {
            self.handshake_turn(now, serial, handshake);
        } else if let Some(dial) = self.web_sockets.dials.remove(&serial) {
            self.dial_turn(now, serial, dial);
        }
        let Some(session) = self.web_sockets.sessions.get_mut(&serial) else { return 1 };
        let before = self.events.len();
        let turn = session.turn(now, &mut self.events);
        session.queued = false;
        if turn.again && !turn.drained {
            // After all others, so that a flood on one connection does not keep them waiting.
            session.queue(serial, &mut self.ready);
        }
        let (id, timer) = (session.id, session.poll_timeout().filter(|_| !turn.drained));
        self.web_sockets.set_timer(serial, timer);
        if turn.drained {
            self.web_sockets.sessions.remove(&serial);
            self.hosts.reached.remove(&id);
            self.open -= 1;
        }
        self.report_since(now, before);
        turn.items
    }

    fn handshake_turn(&mut self, now: Instant, serial: u64, handshake: Handshake) {
        let Some((_, server)) = &self.web_sockets.listener else { return };
        match handshake.step(server.versions()) {
            Ok(Progress::Done(upgrade)) if self.open < self.max_connections => {
                let make = if self.requests { Settings::Request } else { Settings::Server };
                let settings = make(server.clone());
                self.open += 1;
                self.begin_session(
                    now,
                    serial,
                    ConnectionId { slot: SLOT, serial },
                    upgrade,
                    settings,
                );
            }
            Ok(Progress::Later(later)) if later.until() > now => {
                if later.stream.has_read_all() {
                    self.ready.push_back(Job::WebSocket(serial));
                }
                self.web_sockets.handshakes.insert(serial, later);
                return;
            }
            Ok(Progress::Done(_) | Progress::Later(_)) | Err(_) => {}
        }
        if self.web_sockets.retry.take().is_some() {
            self.ready.push_back(Job::Accept);
        }
    }

    fn dial_turn(&mut self, now: Instant, serial: u64, dial: Dial) {
        let attempt = dial.attempt;
        match dial.step() {
            Ok(Progress::Done((upgrade, client))) => {
                self.reached(now, attempt.host, ConnectionId { slot: SLOT, serial });
                self.begin_session(now, serial, attempt.host, upgrade, Settings::Client(client));
            }
            Ok(Progress::Later(late)) if late.handshake.until() <= now => {
                self.dial_failed(now, serial, attempt, DialError::Timeout);
            }
            Ok(Progress::Later(later)) => {
                if later.handshake.stream.has_read_all() {
                    self.ready.push_back(Job::WebSocket(serial));
                }
                self.web_sockets.dials.insert(serial, later);
            }
            Err(error) => self.dial_failed(now, serial, attempt, error),
        }
    }

    fn dial_failed(&mut self, now: Instant, serial: u64, attempt: Attempt, error: DialError) {
        self.open -= 1;
        self.failed(now, attempt, ConnectionId { slot: SLOT, serial }, error);
    }

    fn begin_session(
        &mut self,
        now: Instant,
        serial: u64,
        id: ConnectionId,
        upgrade: Upgrade,
        settings: Settings,
    ) {
        let waker = self.woken.waker(WEB_SOCKET | serial);
        let session = WebSocket::new(id, upgrade, settings, waker, now);
        let connected = session.connected();
        self.web_sockets.sessions.insert(serial, session);
        if let Some(connected) = connected {
            self.report(now, connected);
        }
    }
}

#[cfg(test)]
mod tests;
