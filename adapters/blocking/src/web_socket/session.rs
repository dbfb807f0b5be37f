//! One session: tungstenite's WebSocket, QMux, and the turn that connects the two.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use smoq::stream::Side;
use smoq::{Clock, Error, IncomingSession, Session, Version};
use smoq_qmux::{Qmux, RECORD_BYTES};
use smoq_quic::{FLUSH_TIMEOUT, log};
use tungstenite::Message;
use tungstenite::error::ProtocolError;
use tungstenite::protocol::{Role, WebSocketConfig};

use super::handshake::Upgrade;
use super::stream::Stream;
use crate::connection::{Settings, Turn};
use crate::endpoint::Job;
use crate::event::{ConnectionId, Event};

/// Messages that are read in one turn.
const MESSAGES: usize = 64;
/// Rounds of work and writing in one turn.
const ROUNDS: usize = 4;
/// Bytes that the system may hold unsent. Nothing can overtake them.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 16 << 10;

pub(super) struct WebSocket {
    pub(super) id: ConnectionId,
    remote: SocketAddr,
    version: Version,
    /// `None` if the application alone has the session.
    pub(super) session: Option<Session>,
    /// Until the client's SETUP was read.
    request: Option<IncomingSession>,
    socket: tungstenite::WebSocket<Stream>,
    qmux: Qmux,
    clock: Clock,
    waker: Waker,
    /// Whether it is in the endpoint's queue.
    pub(super) queued: bool,
    /// Its entry in the timers.
    pub(super) timer: Option<Instant>,
    /// The system has not said since that there is nothing to read, or no room.
    pub(super) is_readable: bool,
    pub(super) is_writable: bool,
    /// The session is over. The peer has this long to read the rest and to close.
    closing: Option<Instant>,
    /// Nothing can be read or written any more.
    is_gone: bool,
}

impl WebSocket {
    pub(super) fn new(
        id: ConnectionId,
        Upgrade { stream, remote, agreed, request, rest }: Upgrade,
        settings: Settings,
        waker: Waker,
        now: Instant,
    ) -> Self {
        #[cfg(target_os = "linux")]
        // It is faster with it, and works without.
        let _ = socket2::SockRef::from(stream.tcp()).set_tcp_notsent_lowat(UNSENT);
        let (clock, version) = (settings.clock(), agreed.version());
        let now = clock.instant(now);
        let (role, side) = match settings {
            Settings::Client(_) => (Role::Client, Side::Client),
            Settings::Server(_) | Settings::Request(_) => (Role::Server, Side::Server),
        };
        let (session, request, driver) = settings.start(agreed, now, true, request);
        let config = WebSocketConfig::default()
            .read_buffer_size(RECORD_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(RECORD_BYTES))
            .max_frame_size(Some(RECORD_BYTES));
        let config = Some(config);
        log::agreed(id.serial, remote, version);
        Self {
            id,
            remote,
            version,
            session,
            request,
            socket: tungstenite::WebSocket::from_partially_read(stream, rest, role, config),
            qmux: Qmux::new(side, driver, now),
            clock,
            waker,
            queued: false,
            timer: None,
            is_readable: true,
            is_writable: true,
            closing: None,
            is_gone: false,
        }
    }

    /// The event that reports it, unless the application is asked.
    pub(super) fn connected(&self) -> Option<Event> {
        let (session, version) = (self.session.clone()?, self.version);
        Some(Event::Connected { id: self.id, session, version, remote: self.remote })
    }

    pub(super) fn queue(&mut self, serial: u64, ready: &mut VecDeque<Job>) {
        if !std::mem::replace(&mut self.queued, true) {
            ready.push_back(Job::WebSocket(serial));
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.closing {
            Some(until) => Some(until),
            None => self.clock.deadline(self.qmux.poll_timeout()?),
        }
    }

    /// Does part of the work that is ready.
    pub(super) fn turn(&mut self, now: Instant, events: &mut VecDeque<Event>) -> Turn {
        let (mut turn, time) = (Turn::default(), self.clock.instant(now));
        turn.items += self.read(time);
        for round in 1..=ROUNDS {
            let done = self.qmux.turn(time, self.wants_more());
            let sent = self.write();
            turn.items += done.items + sent;
            if !done.again && sent == 0 {
                break;
            }
            turn.again = round == ROUNDS;
        }
        self.requested(events);
        self.end(now, events);
        let cx = &mut Context::from_waker(&self.waker);
        turn.again |= self.wants_more() || self.qmux.poll_wake(cx).is_ready();
        // A session learns of it after the rest.
        turn.again |= self.is_gone && self.closing.is_none();
        turn.drained = self.closing.is_some_and(|until| self.is_gone || until <= now);
        turn
    }

    /// Whether there is something to read, and it is to be read.
    fn wants_more(&self) -> bool {
        self.is_readable && !self.is_gone && !self.qmux.is_full()
    }

    /// Passes messages on, and returns how many.
    fn read(&mut self, time: smoq::Instant) -> usize {
        self.socket.get_mut().begin_turn();
        for items in 0..MESSAGES {
            if !self.wants_more() {
                return items;
            }
            match self.socket.read() {
                Ok(Message::Binary(record)) => self.qmux.receive(time, record),
                Ok(Message::Text(_)) => self.qmux.lost(Error::ProtocolViolation("a text message")),
                // It sent a close before, or is gone. tungstenite answers.
                Ok(Message::Close(_)) => self.qmux.lost(Error::Disconnected),
                Ok(_) => {}
                Err(error) if would_block(&error) => {
                    self.is_readable = self.socket.get_ref().has_read_all();
                    return items;
                }
                Err(error) => self.broke(&error),
            }
        }
        MESSAGES
    }

    /// Sends records until the system has no room, and returns how many.
    fn write(&mut self) -> usize {
        let mut sent = 0;
        while self.is_writable && !self.is_gone {
            // Bytes that the system refused before are sent first.
            let result = match self.socket.flush() {
                Ok(()) => match self.qmux.poll_record() {
                    Some(record) => {
                        sent += 1;
                        self.socket.write(Message::Binary(record))
                    }
                    None => return sent,
                },
                refused => refused,
            };
            match result {
                Ok(()) => {}
                Err(error) if would_block(&error) => self.is_writable = false,
                Err(error) => self.broke(&error),
            }
        }
        sent
    }

    fn broke(&mut self, error: &tungstenite::Error) {
        self.is_gone = true;
        self.qmux.lost(match error {
            tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                Error::Disconnected
            }
            tungstenite::Error::Protocol(_)
            | tungstenite::Error::Capacity(_)
            | tungstenite::Error::Utf8(_) => {
                Error::ProtocolViolation("a message that is not allowed on this WebSocket")
            }
            _ => Error::Disconnected,
        });
    }

    /// Reports the session request when the client's SETUP was read.
    fn requested(&mut self, events: &mut VecDeque<Event>) {
        let is_ready = |request: &mut IncomingSession| request.try_ready() == Poll::Ready(Ok(()));
        if let Some(request) = self.request.take_if(is_ready) {
            let (id, remote) = (self.id, self.remote);
            let certificates = self.socket.get_ref().certificates();
            events.push_back(Event::Incoming { id, request, remote, certificates });
        }
    }

    /// Closes the WebSocket after the session, without cutting anything off.
    fn end(&mut self, now: Instant, events: &mut VecDeque<Event>) {
        if self.closing.is_none() {
            let Some(reason) = self.qmux.closed() else { return };
            events.push_back(Event::Closed { id: self.id, reason });
            self.closing = Some(now + FLUSH_TIMEOUT);
            (self.session, self.request) = (None, None);
        }
        // Sends CLOSE once everything else was sent. The peer answers it.
        if self.is_writable && !self.is_gone && self.socket.can_write() {
            match self.socket.close(None) {
                Err(error) if !would_block(&error) => self.is_gone = true,
                _ => {}
            }
        }
    }

    /// Tells the peer that the session is over, if the system has room.
    pub(super) fn abandon(&mut self) {
        self.qmux.abandon();
        self.write();
        if self.is_writable && !self.is_gone {
            // It is the last thing that happens.
            let _ = self.socket.close(None);
        }
    }
}

fn would_block(error: &tungstenite::Error) -> bool {
    matches!(error, tungstenite::Error::Io(error) if error.kind() == ErrorKind::WouldBlock)
}
