//! Sessions on WebSockets, over real TCP on the loopback interface. Server and clients are stepped by this thread.

#![expect(clippy::disallowed_methods, reason = "a deadline instead of a hang")]

mod bad_days;
mod dialing;
mod sessions;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::task::Poll;
use std::time::{Duration, Instant};

use smoq::stream::Side;
use smoq::{
    BroadcastProducer, Client, Clock, Hop, Origin, OriginProducer, Server, Session, Subscription,
    Track, TrackConsumer, TrackProducer,
};
use smoq_blocking::smoq_quic::{Identity, Trust};
use smoq_blocking::{Budget, Endpoint, Event, Step, config};
use smoq_qmux::Qmux;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

/// An endpoint that listens on UDP and TCP, and publishes a track.
struct Stage {
    net: Endpoint,
    address: SocketAddr,
    identity: Identity,
    trust: Trust,
    budget: Budget,
    clients: Vec<Dialed>,
    /// Endpoints that dial.
    others: Vec<Endpoint>,
    _origin: OriginProducer,
    _live: BroadcastProducer,
    track: TrackProducer,
}

impl Stage {
    fn new() -> Self {
        Self::with(|server| server)
    }

    fn with(change: impl FnOnce(Server) -> Server) -> Self {
        let origin = Origin::new(Hop::new(7)).produce();
        let mut live = origin.create_broadcast("live").unwrap();
        let track = Track::new("video").max_age(Duration::from_secs(600));
        let track = live.create_track(track).unwrap();
        let server = change(Server::new().with_publish(origin.consume()));
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let tls = config::server(&identity, server.versions()).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut net = Endpoint::bind(any, tls, &server).unwrap();
        let listener = TcpListener::bind(any).unwrap();
        let address = listener.local_addr().unwrap();
        net.listen_web_socket(listener, &server).unwrap();
        let trust = identity.fingerprint().into();
        let (budget, clients, others) = (Budget::items(64), Vec::new(), Vec::new());
        let (_origin, _live) = (origin, live);
        Self { net, address, identity, trust, budget, clients, others, _origin, _live, track }
    }

    /// A TCP connection, which has sent `bytes`.
    fn connect(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(bytes).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    }

    /// Sends a request, and returns the answer to it.
    fn request(&mut self, request: &str) -> (TcpStream, String) {
        let mut stream = self.connect(request.as_bytes());
        let mut answer = Vec::new();
        self.until(|_| {
            let mut byte = [0];
            while !answer.ends_with(b"\r\n\r\n") {
                match stream.read(&mut byte) {
                    Ok(0) => break,
                    Ok(_) => answer.extend(byte),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                    Err(error) => panic!("{error}"),
                }
            }
            Some(())
        });
        (stream, String::from_utf8(answer).unwrap())
    }

    fn dial(&mut self, client: &Client) -> usize {
        let dialed = self.dialed(client, "/");
        self.clients.push(dialed);
        self.clients.len() - 1
    }

    fn dialed(&mut self, client: &Client, path: &str) -> Dialed {
        let offered: Vec<_> = client.versions().alpns().map(|it| format!("qmux-02.{it}")).collect();
        let (stream, answer) = self.request(&upgrade(path, &offered.join(", ")));
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        let (_, rest) = answer.split_once("sec-websocket-protocol: qmux-02.").unwrap();
        let alpn = rest.lines().next().unwrap();
        let agreed = client.versions().agreed(Some(alpn.as_bytes())).unwrap();
        let clock = client.clock();
        let now = clock.instant(Instant::now());
        let (session, driver) = client.connect(agreed, now);
        let qmux = Qmux::new(Side::Client, driver, now);
        let socket = WebSocket::from_raw_socket(stream, Role::Client, None);
        Dialed { socket, qmux, session, clock, is_stalled: false, is_gone: false }
    }

    fn connected(&mut self) -> Session {
        match self.event() {
            Event::Connected { session, .. } => session,
            event => panic!("{event:?}"),
        }
    }

    fn event(&mut self) -> Event {
        self.until(|stage| stage.net.poll_event())
    }

    /// A reader of the track, whose subscription has arrived.
    fn subscribe(&mut self, received: &OriginProducer) -> TrackConsumer {
        let mut seen = received.consume();
        let live = self.until(|_| ready(seen.try_announced_broadcast("live"))).unwrap();
        let reader = live.subscribe_track("video", Subscription::default()).unwrap();
        self.until(|stage| ready(stage.track.try_used())).unwrap();
        reader
    }

    fn until<T>(&mut self, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(value) = done(self) {
                return value;
            }
            assert!(Instant::now() < deadline, "nothing for 30 s");
            if !self.step().1 {
                self.net.wait(Some(Duration::from_millis(1))).unwrap();
            }
        }
    }

    /// One step of everything, and whether somebody was busy.
    fn step(&mut self) -> (Step, bool) {
        let step = self.net.step(self.budget).unwrap();
        let mut busy = self.clients.iter_mut().map(Dialed::step).fold(false, |any, it| any | it);
        for other in &mut self.others {
            busy |= other.step(self.budget).unwrap().items > 0;
        }
        (step, busy || step.items > 0)
    }

    /// Until nobody has anything to do.
    fn until_quiet(&mut self) {
        let mut quiet = 0;
        while quiet < 20 {
            quiet = if self.step().1 { 0 } else { quiet + 1 };
            self.net.wait(Some(Duration::from_millis(1))).unwrap();
        }
    }
}

/// A client.
struct Dialed {
    socket: WebSocket<TcpStream>,
    qmux: Qmux,
    session: Session,
    clock: Clock,
    /// It does not read its socket.
    is_stalled: bool,
    is_gone: bool,
}

impl Dialed {
    fn step(&mut self) -> bool {
        let now = self.clock.instant(Instant::now());
        let mut busy = false;
        while !self.is_stalled && !self.is_gone {
            match self.socket.read() {
                Ok(Message::Binary(record)) => {
                    busy = true;
                    self.qmux.receive(now, record);
                }
                Ok(_) => {}
                Err(error) if would_block(&error) => break,
                Err(_) => {
                    self.qmux.lost(smoq::Error::Disconnected);
                    self.is_gone = true;
                }
            }
        }
        loop {
            let turn = self.qmux.turn(now, false);
            let mut record = None;
            if !self.is_gone {
                match self.socket.flush() {
                    Ok(()) => record = self.qmux.poll_record(),
                    Err(error) if would_block(&error) => {}
                    Err(_) => self.is_gone = true,
                }
            }
            busy |= turn.items > 0 || record.is_some();
            match record {
                // Bytes that are refused are sent by the next flush.
                Some(record) => drop(self.socket.write(Message::Binary(record))),
                None if !turn.again => return busy,
                None => {}
            }
        }
    }
}

fn would_block(error: &tungstenite::Error) -> bool {
    matches!(error, tungstenite::Error::Io(error) if error.kind() == ErrorKind::WouldBlock)
}

fn upgrade(path: &str, protocols: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: game.example:8080\r\nConnection: keep-alive, Upgrade\r\n\
         Upgrade: websocket\r\nOrigin: https://play.example\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: {protocols}\r\n\r\n"
    )
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
