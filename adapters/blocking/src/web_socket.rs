//! Sessions on WebSockets: the listener, and the turns of its connections.

mod handshake;
mod metered;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use mio::{Interest, Token};
use smoq::{Server, Session};

use self::handshake::Handshake;
use self::session::WebSocket;
use crate::connection::Role;
use crate::endpoint::{Endpoint, Job, WEB_SOCKETS};
use crate::event::ConnectionId;

/// TCP connections that may be without a session at a time. A further one takes the place of the oldest.
const HANDSHAKES: usize = 256;
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
    listener: Option<(mio::net::TcpListener, Server)>,
    /// The first one is the oldest.
    handshakes: BTreeMap<u64, Handshake>,
    sessions: BTreeMap<u64, WebSocket>,
    /// Deadlines of sessions.
    timers: BTreeSet<(Instant, u64)>,
    /// When to ask the listener again.
    retry: Option<Instant>,
}

impl WebSockets {
    pub(crate) fn session(&self, id: ConnectionId) -> Option<&Session> {
        if id.slot == SLOT { self.sessions.get(&id.serial)?.session.as_ref() } else { None }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let handshake = self.handshakes.first_key_value().map(|(_, handshake)| handshake.until);
        let session = self.timers.first().map(|(at, _)| *at);
        [handshake, session, self.retry].into_iter().flatten().min()
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
    /// ([`set_max_connections`](Self::set_max_connections)). A TCP connection counts when it has become a session. Up to 256
    /// others may wait for 10 s; a further one takes the place of the oldest. They report no events.
    ///
    /// There is no TLS. Browsers take `ws://` on pages from `http://` and `localhost`; for others put a proxy before it.
    /// Pages of every origin can connect: a server that is not for all of them decides by
    /// [`IncomingSession::http`](smoq::IncomingSession::http).
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
        let mut listener = mio::net::TcpListener::from_std(listener);
        self.poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        self.web_sockets.listener = Some((listener, server.clone()));
        self.polled = mio::Events::with_capacity(EVENTS);
        Ok(())
    }

    /// Queues what has become ready since the last step.
    pub(crate) fn collect_web_sockets(&mut self, now: Instant) -> io::Result<()> {
        if self.web_sockets.listener.is_none() {
            return Ok(());
        }
        self.poll_system(Some(Duration::ZERO))?;
        if self.web_sockets.retry.take_if(|at| *at <= now).is_some() {
            self.ready.push_back(Job::Accept);
        }
        let handshakes = &mut self.web_sockets.handshakes;
        while handshakes.first_entry().is_some_and(|oldest| oldest.get().until <= now) {
            handshakes.pop_first();
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
                        session.queue(&mut self.ready);
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
            session.queue(&mut self.ready);
        }
    }

    /// The listener's turn.
    pub(crate) fn accept_web_sockets(&mut self, now: Instant) -> usize {
        let Some((listener, _)) = &self.web_sockets.listener else { return 0 };
        for items in 0..ACCEPTS {
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
            let token = Token(FIRST + self.serial as usize + 1);
            let interest = Interest::READABLE | Interest::WRITABLE;
            // Dropping it closes the connection.
            if self.open >= self.max_connections
                || stream.set_nodelay(true).is_err()
                || self.poll.registry().register(&mut stream, token, interest).is_err()
            {
                continue;
            }
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
        let WebSockets { handshakes, sessions, listener, .. } = &mut self.web_sockets;
        if let Some(handshake) = handshakes.get_mut(&serial) {
            let Some((_, server)) = listener else { return 0 };
            let is_full = self.open >= self.max_connections;
            let upgrade = match handshake.step(server.versions()) {
                Ok(None) => return 1,
                Ok(Some(upgrade)) if !is_full => upgrade,
                Ok(Some(_)) | Err(_) => {
                    handshakes.remove(&serial);
                    return 1;
                }
            };
            let Some(Handshake { stream, remote, .. }) = handshakes.remove(&serial) else {
                return 0;
            };
            self.open += 1;
            let make = if self.requests { Role::Request } else { Role::Server };
            let (role, waker) = (make(server.clone()), self.woken.waker(WEB_SOCKET | serial));
            let id = ConnectionId { slot: SLOT, serial };
            let session = WebSocket::new(id, (stream, remote), upgrade, role, waker, now);
            self.events.extend(session.connected());
            sessions.insert(serial, session);
        }
        let Some(session) = sessions.get_mut(&serial) else { return 0 };
        let turn = session.turn(now, &mut self.events);
        session.queued = false;
        if turn.drained {
            self.web_sockets.set_timer(serial, None);
            self.web_sockets.sessions.remove(&serial);
            self.open -= 1;
            return turn.items;
        }
        if turn.again {
            // After all others, so that a flood on one connection does not keep them waiting.
            session.queue(&mut self.ready);
        }
        let timer = session.poll_timeout();
        self.web_sockets.set_timer(serial, timer);
        turn.items
    }
}

#[cfg(test)]
mod tests;
