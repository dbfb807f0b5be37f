//! One connection: quinn-proto's state machine, smoq's, and the turn that connects the two.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{
    ConnectionError, ConnectionHandle, Dir, EndpointEvent, FinishError, ReadError,
    SendDatagramError, StreamEvent, VarInt, WriteError,
};
use smoq::machine::{Action, Input, NetworkPath};
use smoq::stream::{self, Code};
use smoq::{
    Agreed, Client, Clock, Driver, HttpRequest, IncomingSession, Server, Session, Versions,
};
use smoq_quic::{
    Carrier, FLUSH_TIMEOUT, SendWindow, Sent, StreamAllowance, log, quic_code, quic_stream_code,
    quic_stream_id, stream_code, stream_id,
};

use crate::config::{FIRST_BIDI_STREAMS, FIRST_UNI_STREAMS};
use crate::ending::{Closing, Sending, WaitsFor};
use crate::error::DialError;
use crate::event::{ConnectionId, Event};
use crate::hosts::Attempt;
use crate::http::Http;
use crate::socket::Socket;

/// The settings from which the session of a connection is made, when TLS or HTTP/3 has agreed on a version.
pub(crate) enum Settings {
    Client(Client),
    Server(Server),
    /// A server whose application accepts or rejects each session.
    Request(Server),
}

impl Settings {
    fn versions(&self) -> &Versions {
        match self {
            Self::Client(client) => client.versions(),
            Self::Server(server) | Self::Request(server) => server.versions(),
        }
    }

    pub(crate) fn clock(&self) -> Clock {
        match self {
            Self::Client(client) => client.clock(),
            Self::Server(server) | Self::Request(server) => server.clock(),
        }
    }

    /// The settings of a session on WebTransport, where SETUP of a client must have neither path nor authority.
    fn on_web_transport(self) -> Self {
        match self {
            Self::Server(server) => Self::Server(server.with_web_transport(true)),
            Self::Request(server) => Self::Request(server.with_web_transport(true)),
            client @ Self::Client(_) => client,
        }
    }

    /// Starts the session. If the carrier begins with a request over HTTP, a server has it, and that of a client had path
    /// and authority, so that SETUP must not.
    pub(crate) fn start(
        self,
        agreed: Agreed,
        now: smoq::Instant,
        is_http: bool,
        http: Option<HttpRequest>,
    ) -> (Option<Session>, Option<IncomingSession>, Driver) {
        match self {
            Self::Client(mut client) => {
                if is_http {
                    client = client.with_path("").with_authority("");
                }
                let (session, driver) = client.connect(agreed, now);
                (Some(session), None, driver)
            }
            Self::Server(server) => {
                let (session, driver) = server.accept(agreed, now);
                (Some(session), None, driver)
            }
            Self::Request(server) => {
                let (mut request, driver) = server.incoming(agreed, now);
                if let Some(http) = http {
                    request = request.with_http(http);
                }
                (None, Some(request), driver)
            }
        }
    }
}

pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    handle: ConnectionHandle,
    /// If this is one of several attempts to reach a host.
    pub(crate) attempt: Option<Attempt>,
    pub(crate) quic: quinn_proto::Connection,
    /// Taken when the handshake is complete.
    pub(crate) settings: Option<Settings>,
    /// HTTP/3, if the session runs on WebTransport.
    pub(crate) http: Option<Box<Http>>,
    moq: Option<Moq>,
    pub(crate) sending: Sending,
    /// Streams that the peer may have open, bidirectional and unidirectional.
    allowed: [StreamAllowance; 2],
    send_window: SendWindow,
    /// When the next packet was due, if that has passed.
    due: Option<Instant>,
    /// The session has ended. QUIC closes when everything was acknowledged.
    closing: Option<Closing>,
    /// QUIC has ended. The session learns of it when everything that was received is read, or at this time.
    pub(crate) lost: Option<(smoq::Error, Instant)>,
    /// QUIC has forgotten the connection. The endpoint forgets it when the session has ended.
    drained: Option<EndpointEvent>,
    waker: Waker,
    /// Whether it is in the endpoint's queue of ready connections.
    pub(crate) queued: bool,
    /// Its entry in the endpoint's timers.
    pub(crate) timer: Option<Instant>,
}

struct Moq {
    /// `None` if the application alone has the session.
    session: Option<Session>,
    /// Until the client's SETUP was read.
    request: Option<IncomingSession>,
    driver: Driver,
    clock: Clock,
}

/// The result of one turn.
#[derive(Default)]
pub(crate) struct Turn {
    pub(crate) items: usize,
    /// There is more to do right away.
    pub(crate) again: bool,
    /// The socket takes no packets: continue when it does.
    pub(crate) stuck: bool,
    /// The connection can be forgotten.
    pub(crate) drained: bool,
}

/// Items of each kind of work in one turn. With `BURSTS` it bounds how long a turn takes, and so how far a step
/// exceeds its budget.
const PIECES: usize = 16;
/// Packet batches in one turn.
const BURSTS: usize = 4;

impl Connection {
    pub(crate) fn new(
        id: ConnectionId,
        handle: ConnectionHandle,
        quic: quinn_proto::Connection,
        settings: Settings,
        waker: Waker,
    ) -> Self {
        Self {
            id,
            handle,
            attempt: None,
            quic,
            settings: Some(settings),
            http: None,
            moq: None,
            sending: Sending::default(),
            allowed: [FIRST_BIDI_STREAMS, FIRST_UNI_STREAMS].map(StreamAllowance::new),
            send_window: SendWindow::default(),
            due: None,
            closing: None,
            lost: None,
            drained: None,
            waker,
            queued: false,
            timer: None,
        }
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    pub(crate) fn session(&self) -> Option<&Session> {
        self.moq.as_ref()?.session.as_ref()
    }

    /// When to call [`turn`](Self::turn) if nothing else happens.
    pub(crate) fn poll_timeout(&mut self) -> Option<Instant> {
        let moq = self.moq.as_ref();
        let moq = moq.and_then(|moq| moq.clock.deadline(moq.driver.poll_timeout()?));
        let closing = self.closing.as_ref().map(|closing| closing.until);
        let lost = self.lost.as_ref().map(|(_, until)| *until);
        let http = self.http.as_ref().filter(|_| self.settings.is_some()).map(|http| http.until);
        [self.quic.poll_timeout(), moq, closing, lost, http].into_iter().flatten().min()
    }

    /// Does part of the work that is ready. Deadlines count up to the time [up to which](Socket::heard) the socket was read.
    /// *All* events of QUIC are handled before the first byte is chosen for
    /// sending, because quinn reports writable streams in no useful order: answering each report at once
    /// would send in that order and not by priority.
    pub(crate) fn turn(
        &mut self,
        now: Instant,
        endpoint: &mut quinn_proto::Endpoint,
        socket: &mut Socket,
        events: &mut VecDeque<Event>,
    ) -> Turn {
        let (mut turn, heard) = (Turn::default(), socket.heard());
        if let Some(due) = self.quic.poll_timeout().filter(|at| *at <= now) {
            // Packets are due by the clock, whatever the peer has sent.
            self.quic.handle_timeout(heard);
            self.due.get_or_insert(due);
        }
        self.inputs(now, events, &mut turn);
        self.follow_http(now, heard, events, &mut turn);
        self.outputs(now, &mut turn);
        self.requested(events);
        if let Some(Moq { driver, clock, .. }) = &mut self.moq {
            turn.again |= driver.end_turn(clock.instant(heard), turn.again);
        }
        self.endings(now, heard, events, &mut turn);
        self.packets(now, socket, &mut turn);
        // Connection ids that are requested or retired. The answer may have packets to send.
        let handle = self.handle;
        while let Some(event) = self.quic.poll_endpoint_events() {
            if event.is_drained() {
                self.drained = Some(event);
            } else if let Some(event) = endpoint.handle_event(handle, event) {
                self.quic.handle_event(event);
                turn.again = true;
            }
        }
        if self.moq.is_none() {
            if let Some(event) = self.drained.take() {
                endpoint.handle_event(handle, event);
                turn.drained = true;
            }
        }
        turn
    }

    /// Passes all events of QUIC to the driver.
    fn inputs(&mut self, now: Instant, events: &mut VecDeque<Event>, turn: &mut Turn) {
        use quinn_proto::Event as Quic;
        while let Some(event) = self.quic.poll() {
            turn.items += 1;
            match event {
                Quic::Connected => self.connected(now, events),
                Quic::ConnectionLost { reason } => self.lost(now, reason, events),
                Quic::Stream(event) => self.stream_event(now, event, turn),
                Quic::DatagramReceived => {
                    while let Some(bytes) = self.quic.datagrams().recv() {
                        turn.items += 1;
                        let bytes = match &mut self.http {
                            Some(http) => http.web_transport.datagram(bytes),
                            None => Some(bytes),
                        };
                        if let Some(bytes) = bytes {
                            self.input(now, Input::Datagram { bytes });
                        }
                    }
                }
                Quic::DatagramsUnblocked => self.input(now, Input::DatagramsAvailable),
                // The version is read at `Connected`.
                Quic::HandshakeDataReady => {}
            }
        }
    }

    /// The handshake of QUIC is complete: starts the session in the agreed version, or HTTP/3.
    fn connected(&mut self, now: Instant, events: &mut VecDeque<Event>) {
        let Some(settings) = &self.settings else { return };
        let tls = || self.quic.crypto_session().handshake_data();
        if Carrier::of(tls()) == Carrier::WebTransport {
            return self.begin_http(now, events);
        }
        match smoq_quic::agreed(tls(), settings.versions()) {
            Some(agreed) => self.begin(now, agreed, None, events),
            None => {
                // The TLS configuration offered a foreign protocol, or the peer has no ALPN.
                log::no_version(self.id.serial, self.quic.remote_address());
                let code = quic_code(smoq::Error::Version.session_code());
                let error = ConnectionError::VersionMismatch.into();
                self.fail(now, code, "no version in common", error, events);
            }
        }
    }

    /// Closes the connection before a session has begun.
    pub(crate) fn fail(
        &mut self,
        now: Instant,
        code: VarInt,
        reason: &str,
        error: DialError,
        events: &mut VecDeque<Event>,
    ) {
        self.quic.close(now, code, Bytes::copy_from_slice(reason.as_bytes()));
        if self.settings.take().is_some() {
            events.push_back(Event::Failed { id: self.id, error });
        }
    }

    /// Starts the session. On WebTransport a server has the client's request.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        agreed: Agreed,
        http: Option<HttpRequest>,
        events: &mut VecDeque<Event>,
    ) {
        let Some(mut settings) = self.settings.take() else { return };
        if self.http.is_some() {
            settings = settings.on_web_transport();
        }
        let (remote, version, clock) =
            (self.quic.remote_address(), agreed.version(), settings.clock());
        let (session, request, driver) =
            settings.start(agreed, clock.instant(now), self.http.is_some(), http);
        log::agreed(self.id.serial, remote, version);
        if let Some(session) = session.clone() {
            events.push_back(Event::Connected { id: self.id, session, version, remote });
        }
        self.moq = Some(Moq { session, request, driver, clock });
    }

    pub(crate) fn carrier(&self) -> Carrier {
        if self.http.is_some() { Carrier::WebTransport } else { Carrier::RawQuic }
    }

    /// Reports the session request when the client's SETUP was read.
    fn requested(&mut self, events: &mut VecDeque<Event>) {
        let Some(moq) = &mut self.moq else { return };
        let is_ready = |request: &mut IncomingSession| request.try_ready() == Poll::Ready(Ok(()));
        let Some(request) = moq.request.take_if(is_ready) else { return };
        let certificates = self.quic.crypto_session().peer_identity();
        let certificates = certificates.and_then(|it| it.downcast().ok());
        events.push_back(Event::Incoming {
            id: self.id,
            request,
            remote: self.quic.remote_address(),
            certificates: certificates.map(|it| *it).unwrap_or_default(),
        });
    }

    /// The peer or the network ended the connection.
    fn lost(&mut self, now: Instant, error: ConnectionError, events: &mut VecDeque<Event>) {
        log::lost(self.id.serial, &error);
        if self.settings.take().is_some() {
            return events.push_back(Event::Failed { id: self.id, error: error.into() });
        }
        if self.moq.is_none() {
            return;
        }
        self.lost = Some((self.carrier().session_error(&error), now + FLUSH_TIMEOUT));
    }

    fn stream_event(&mut self, now: Instant, event: StreamEvent, turn: &mut Turn) {
        match event {
            StreamEvent::Opened { dir } => {
                while let Some(id) = self.quic.streams().accept(dir) {
                    if dir == Dir::Bi {
                        self.sending.opened(id, Bytes::new());
                    }
                    match &mut self.http {
                        Some(http) => http.web_transport.opened(stream_id(id)),
                        None => self.input(now, Input::Opened { id: stream_id(id) }),
                    }
                    // Data that arrived with the stream is not reported separately.
                    self.read(now, id, turn);
                }
                self.allow_streams(dir);
            }
            StreamEvent::Readable { id } => self.read(now, id, turn),
            StreamEvent::Writable { id } => {
                if self.is_http(id) {
                    self.write_head(id);
                } else {
                    self.input(now, Input::Writable { id: stream_id(id) });
                }
            }
            StreamEvent::Stopped { id, error_code } => {
                if self.sending.done(id) {
                    // QUIC keeps a stopped stream until it is reset.
                    let _ = self.quic.send_stream(id).reset(error_code);
                }
                if let Some(http) = &mut self.http {
                    // It knows its own streams.
                    http.web_transport.cancelled(stream_id(id));
                }
                self.input(
                    now,
                    Input::Stopped { id: stream_id(id), code: stream_code(error_code) },
                );
            }
            StreamEvent::Available { dir } => {
                let dir = match dir {
                    Dir::Bi => stream::Dir::Bi,
                    Dir::Uni => stream::Dir::Uni,
                };
                self.input(now, Input::Available { dir });
            }
            StreamEvent::Finished { id } => {
                self.sending.done(id);
            }
        }
    }

    /// Lets the peer open more streams if it needs them.
    fn allow_streams(&mut self, dir: Dir) {
        let open = self.quic.streams().remote_open_streams(dir);
        if let Some(limit) = self.allowed[dir as usize].raise(open) {
            self.quic.set_max_concurrent_streams(dir, limit.into());
        }
    }

    pub(crate) fn input(&mut self, now: Instant, input: Input) {
        if let Some(moq) = &mut self.moq {
            moq.driver.handle(moq.clock.instant(now), input);
        }
    }

    /// Reads a stream as far as the driver's read limit allows. The rest stays in quinn, whose flow control
    /// holds the peer.
    pub(crate) fn read(&mut self, now: Instant, id: quinn_proto::StreamId, turn: &mut Turn) {
        if self.is_http(id) {
            return self.read_http(id, turn);
        }
        let Some(Moq { driver, clock, .. }) = &mut self.moq else { return };
        let (now, stream_id) = (clock.instant(now), stream_id(id));
        let mut stream = self.quic.recv_stream(id);
        if driver.read_limit(stream_id) == 0 {
            // A reset is reported nevertheless. `Action::Resume` continues the data.
            if let Ok(Some(code)) = stream.received_reset() {
                driver.handle(now, Input::Reset { id: stream_id, code: stream_code(code) });
            }
            return;
        }
        // The stream was read to its end before, or stopped by us.
        let Ok(mut chunks) = stream.read(true) else { return };
        loop {
            let limit = driver.read_limit(stream_id);
            if limit == 0 {
                break;
            }
            turn.items += 1;
            match chunks.next(limit) {
                Ok(Some(chunk)) => {
                    driver
                        .handle(now, Input::Data { id: stream_id, bytes: chunk.bytes, fin: false });
                }
                Ok(None) => {
                    driver
                        .handle(now, Input::Data { id: stream_id, bytes: Bytes::new(), fin: true });
                    break;
                }
                Err(ReadError::Blocked) => break,
                Err(ReadError::Reset(code)) => {
                    driver.handle(now, Input::Reset { id: stream_id, code: stream_code(code) });
                    break;
                }
            }
        }
        // Returns flow-control credit. The result does not matter, because every turn sends packets.
        let _ = chunks.finalize();
    }

    /// Lets the driver work and carries out its output.
    fn outputs(&mut self, now: Instant, turn: &mut Turn) {
        let Some(moq) = &mut self.moq else { return };
        let driver = &mut moq.driver;
        let time = moq.clock.instant(now);
        turn.items += (0..PIECES).take_while(|_| driver.work(time)).count();
        while let Some(action) = self.moq.as_mut().and_then(|moq| moq.driver.poll_action()) {
            turn.items += 1;
            self.act(now, action, turn);
        }
        let Some(moq) = &mut self.moq else { return };
        let driver = &mut moq.driver;
        for _ in 0..PIECES {
            let Some(open) = driver.poll_open() else { break };
            turn.items += 1;
            open_stream(&mut self.quic, &mut self.sending, self.http.as_deref(), open);
        }
        for _ in 0..PIECES {
            let Some(datagram) = driver.poll_datagram() else { break };
            turn.items += 1;
            let head = self.http.as_ref().and_then(|http| http.web_transport.datagram_head());
            let bytes = match head {
                Some(head) => [head, datagram.header(), &datagram.payload()[..]].concat().into(),
                None => datagram.to_bytes(),
            };
            match self.quic.datagrams().send(bytes, false) {
                Err(SendDatagramError::Blocked(_)) => datagram.blocked(),
                // The size was checked above. After any other error the datagram is lost.
                Ok(()) | Err(_) => datagram.sent(),
            }
        }
        for _ in 0..PIECES {
            let Some(write) = driver.poll_write() else { break };
            turn.items += 1;
            write_stream(&mut self.quic, &mut self.sending, write);
        }
        let (rtt, congestion_window) = (self.quic.rtt(), self.quic.congestion_state().window());
        let stats = self.quic.stats();
        let (bytes, lost) = (stats.udp_tx.bytes, stats.path.lost_packets);
        let is_blocked = driver.is_blocked();
        let sent = Sent { bytes, congestion_window, rtt, lost, is_blocked };
        if let Some(window) = self.send_window.update(time, &sent) {
            self.quic.set_send_window(window);
        }
        let max_datagram = self.quic.datagrams().max_size().unwrap_or(0);
        let max_datagram = match &self.http {
            Some(http) => http.without_head(max_datagram),
            None => max_datagram,
        };
        let path = NetworkPath::from_window(rtt, self.send_window.flight(&sent), max_datagram);
        driver.handle(time, Input::NetworkPath(path));

        // Output may have made room for more, and a call without output may have cleaned up.
        let mut cx = Context::from_waker(&self.waker);
        turn.again |= driver.poll_wake(&mut cx).is_ready();
        turn.again |= driver.has_work();
    }

    /// Ends the session after QUIC, and QUIC after the session, without cutting anything off.
    fn endings(
        &mut self,
        now: Instant,
        heard: Instant,
        events: &mut VecDeque<Event>,
        turn: &mut Turn,
    ) {
        let Some(moq) = &mut self.moq else { return };
        // While there is work, received data may still be unread.
        if let Some((error, _)) = self.lost.take_if(|(_, until)| !turn.again || *until <= now) {
            moq.driver.handle(moq.clock.instant(now), Input::Closed { error });
            turn.again = true;
        }
        if let Some(closing) = self.closing.take() {
            let is_closed = self.quic.is_closed();
            let is_late = closing.until <= heard;
            let is_over = match closing.waits_for {
                WaitsFor::Everything => self.sending.is_delivered(&mut self.quic),
                // QUIC acknowledges what the peer has not read yet. When it has, it ends its half as well
                // (draft-ietf-webtrans-http3, Session Termination).
                WaitsFor::Capsule(stream) => {
                    self.sending.is_acknowledged(stream) && self.has_ended(stream)
                }
                WaitsFor::Peer => false,
            };
            if !is_closed && !is_over && !is_late {
                self.closing = Some(closing);
                return;
            }
            let next = match closing.waits_for {
                _ if is_closed => None,
                // Also to a peer that has not acknowledged the rest: it would not learn why the session is over.
                WaitsFor::Everything => {
                    self.close_http(closing.code, closing.reason).map(WaitsFor::Capsule)
                }
                WaitsFor::Capsule(_) => Some(WaitsFor::Peer),
                WaitsFor::Peer => None,
            };
            if let Some(next) = next {
                self.closing = Some(Closing::new(now, closing.code, closing.reason, next));
                return;
            }
            let reason = Bytes::from_static(closing.reason.as_bytes());
            self.quic.close(now, self.carrier().close_code(closing.code), reason);
        }
        let Some(moq) = &mut self.moq else { return };
        if let Some(reason) = moq.driver.close_reason() {
            self.moq = None;
            if self.http.is_some() {
                // The peer ended the session and waits for the end of the connection.
                let code = Carrier::WebTransport.close_code(Code::default());
                self.quic.close(now, code, Bytes::new());
            }
            events.push_back(Event::Closed { id: self.id, reason });
        }
    }

    /// Carries out an action. The errors that are ignored all say that the stream is closed already.
    fn act(&mut self, now: Instant, action: Action, turn: &mut Turn) {
        match action {
            Action::Close { code, reason } => {
                if code == Code::default() {
                    self.closing = Some(Closing::new(now, code, reason, WaitsFor::Everything));
                } else if let Some(stream) = self.close_http(code, reason) {
                    let waits_for = WaitsFor::Capsule(stream);
                    self.closing = Some(Closing::new(now, code, reason, waits_for));
                } else {
                    let code = self.carrier().close_code(code);
                    self.quic.close(now, code, Bytes::from_static(reason.as_bytes()));
                }
            }
            Action::Reset { id, code } => {
                self.sending.done(quic_stream_id(id));
                let _ = self.quic.send_stream(quic_stream_id(id)).reset(quic_stream_code(code));
            }
            Action::Resume { id } => self.read(now, quic_stream_id(id), turn),
            Action::SetPriority { id, priority } => {
                let _ = self.quic.send_stream(quic_stream_id(id)).set_priority(priority);
            }
            Action::Stop { id, code } => {
                let _ = self.quic.recv_stream(quic_stream_id(id)).stop(quic_stream_code(code));
            }
            // Actions that are added later are hints.
            _ => {}
        }
    }

    /// Sends up to `BURSTS` bursts of packets.
    ///
    /// QUIC spreads packets over a round trip, ten or a few more at a time. A program that steps once in a frame is not
    /// there when the next ones are due, so they are sent now with the times at which they were due, up to a round trip
    /// ago.
    fn packets(&mut self, now: Instant, socket: &mut Socket, turn: &mut Turn) {
        let earliest = now.checked_sub(self.quic.rtt()).unwrap_or(now);
        let mut at = self.due.take().map_or(now, |due| due.clamp(earliest, now));
        for _ in 0..BURSTS {
            if socket.is_stuck() {
                turn.stuck = true;
                self.due = Some(at);
                return;
            }
            let size = self.quic.current_mtu();
            while !socket.send(size, |segments, buf| self.quic.poll_transmit(at, segments, buf)) {
                let next = self.quic.poll_timeout().filter(|next| at < *next && *next <= now);
                let Some(next) = next else { return };
                at = next;
            }
            turn.items += 1;
        }
        turn.again = true;
        self.due = Some(at);
    }

    /// Whether the handshake is in progress.
    pub(crate) fn is_dialing(&self) -> bool {
        self.settings.is_some()
    }

    /// This attempt reached the host: the connection has the host's id from now on.
    pub(crate) fn win(&mut self, id: ConnectionId) {
        (self.id, self.attempt) = (id, None);
    }

    /// Gives up the handshake without an event.
    pub(crate) fn give_up(&mut self, now: Instant) {
        (self.settings, self.attempt) = (None, None);
        self.quic.close(now, VarInt::from_u32(0), Bytes::new());
    }

    /// Sends one CONNECTION_CLOSE and waits for nothing.
    pub(crate) fn abandon(&mut self, now: Instant, socket: &mut Socket) {
        let code = self.carrier().close_code(Code::default());
        self.quic.close(now, code, Bytes::new());
        if !socket.is_stuck() {
            let size = self.quic.current_mtu();
            socket.send(size, |_, buf| self.quic.poll_transmit(now, 1, buf));
        }
    }
}

fn open_stream(
    quic: &mut quinn_proto::Connection,
    sending: &mut Sending,
    http: Option<&Http>,
    open: smoq::machine::Open<'_>,
) {
    let dir = match open.dir() {
        stream::Dir::Bi => Dir::Bi,
        stream::Dir::Uni => Dir::Uni,
    };
    // `StreamEvent::Available` reports new credit.
    let Some(id) = quic.streams().open(dir) else { return open.blocked() };
    let _ = quic.send_stream(id).set_priority(open.priority());
    let head = http.map(|http| http.web_transport.stream_head(open.dir()).clone());
    sending.opened(id, head.unwrap_or_default());
    open.opened(stream_id(id));
}

fn write_stream(
    quic: &mut quinn_proto::Connection,
    sending: &mut Sending,
    mut write: smoq::machine::Write<'_>,
) {
    let id = quic_stream_id(write.id());
    let mut stream = quic.send_stream(id);
    // Read before quinn takes bytes out of the slice.
    let (len, fin) = (write.len(), write.fin());
    // A FIN alone needs no window, but an empty write would fail without one.
    let taken = match sending.write_head(id, &mut stream) {
        Ok(()) if len == 0 => Ok(0),
        Ok(()) => stream.write_chunks(write.chunks()).map(|written| written.bytes),
        Err(error) => Err(error),
    };
    match taken {
        Ok(taken) => {
            if fin && taken == len {
                match stream.finish() {
                    Ok(()) => sending.finished(id),
                    // The event is reported separately. QUIC keeps the stream until it is reset.
                    Err(FinishError::Stopped(code)) => {
                        sending.done(id);
                        let _ = stream.reset(code);
                    }
                    Err(FinishError::ClosedStream) => {}
                }
            }
            // After a short write the driver offers the rest until a write fails: quinn reports a stream as
            // writable only after that.
            write.accepted(taken);
        }
        // The driver learns of STOP_SENDING by its own input.
        Err(WriteError::Blocked | WriteError::Stopped(_) | WriteError::ClosedStream) => {
            write.blocked(0);
        }
    }
}
