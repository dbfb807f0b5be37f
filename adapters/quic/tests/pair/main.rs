//! Two ends of a connection in memory, with a path between them and a clock of their own.

mod congestion;
mod keep_alive;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smoq::Versions;
use smoq::bytes::BytesMut;
use smoq_quic::quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Endpoint, EndpointConfig,
    EndpointEvent, ServerConfig,
};
use smoq_quic::{Identity, Trust, config};

const CLIENT: ([u8; 4], u16) = ([10, 0, 0, 1], 1);
const SERVER: ([u8; 4], u16) = ([10, 0, 0, 2], 2);

/// One direction of a path. Without further ado it has no limit, and loses nothing.
struct Path {
    latency: Duration,
    /// Bytes per second.
    rate: u64,
    /// The time that a packet waits at most before it is sent at that rate. It is dropped otherwise.
    queue: Duration,
    /// Of a thousand packets so many are lost.
    losses: u64,
    /// Packets need longer by a random part of this.
    jitter: Duration,
    /// That part is another one after this time. If it is zero, each packet has its own.
    jitter_lasts: Duration,
    /// Of a thousand packets so many need longer by `late`, and others overtake them.
    late_packets: u64,
    late: Duration,
    /// A generator of random numbers.
    random: u64,
    /// When the last packet has been sent.
    busy_until: Option<Instant>,
    /// When the last packet arrives that is not late.
    last_arrival: Option<Instant>,
    /// The additional delay of packets now, and since when.
    jitter_now: Option<(Instant, Duration)>,
    packets: u64,
    lost: u64,
}

impl Path {
    fn new(latency: Duration) -> Self {
        Self {
            latency,
            rate: u64::MAX,
            queue: Duration::MAX,
            losses: 0,
            jitter: Duration::ZERO,
            jitter_lasts: Duration::ZERO,
            late_packets: 0,
            late: Duration::ZERO,
            random: 1,
            busy_until: None,
            last_arrival: None,
            jitter_now: None,
            packets: 0,
            lost: 0,
        }
    }

    /// A random number less than 1,000.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % 1_000
    }

    fn jitter(&mut self, now: Instant) -> Duration {
        if let Some((_, jitter)) = self.jitter_now.filter(|(at, _)| now - *at < self.jitter_lasts) {
            return jitter;
        }
        let jitter = self.jitter * u32::try_from(self.random()).unwrap() / 1_000;
        self.jitter_now = Some((now, jitter));
        jitter
    }

    /// When a packet arrives, if it does.
    fn carry(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        self.packets += 1;
        let begins = self.busy_until.map_or(now, |at| at.max(now));
        if self.random() < self.losses || begins - now > self.queue {
            self.lost += 1;
            return None;
        }
        let time = Duration::from_nanos(bytes as u64 * 1_000_000_000 / self.rate);
        let sent = begins + time;
        self.busy_until = Some(sent);
        let arrival = sent + self.latency + self.jitter(sent);
        if self.random() < self.late_packets {
            return Some(arrival + self.late);
        }
        self.last_arrival = self.last_arrival.max(Some(arrival));
        self.last_arrival
    }
}

/// An endpoint with at most one connection.
struct End {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    address: SocketAddr,
    /// The path to the other end.
    path: Rc<RefCell<Path>>,
    /// Datagrams to the other end, with the time of their arrival.
    sent: VecDeque<(Instant, BytesMut)>,
}

/// Two ends.
struct Pair {
    now: Instant,
    client: End,
    server: End,
}

impl End {
    fn new(
        address: impl Into<SocketAddr>,
        server: Option<ServerConfig>,
        path: Rc<RefCell<Path>>,
    ) -> Self {
        let mut config = EndpointConfig::default();
        config.rng_seed(Some([1; 32]));
        let endpoint = Endpoint::new(Arc::new(config), server.map(Arc::new), true, None);
        Self { endpoint, connection: None, address: address.into(), path, sent: VecDeque::new() }
    }

    fn connection(&mut self) -> Option<&mut Connection> {
        self.connection.as_mut().map(|(_, connection)| connection)
    }

    fn receive(&mut self, now: Instant, from: SocketAddr, datagram: BytesMut) {
        let mut out = Vec::new();
        match self.endpoint.handle(now, from, None, None, datagram, &mut out) {
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                self.connection.as_mut().unwrap().1.handle_event(event);
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                self.connection =
                    Some(self.endpoint.accept(incoming, now, &mut out, None).unwrap());
            }
            Some(DatagramEvent::Response(_)) => panic!("nothing here needs a response"),
            None => {}
        }
    }

    /// Lets due timers fire, and sends.
    fn run(&mut self, now: Instant) {
        let Some((handle, connection)) = &mut self.connection else { return };
        if connection.poll_timeout().is_some_and(|due| due <= now) {
            connection.handle_timeout(now);
        }
        while let Some(event) = connection.poll_endpoint_events() {
            let event: EndpointEvent = event;
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
        let mut buffer = Vec::new();
        while let Some(transmit) = connection.poll_transmit(now, 1, &mut buffer) {
            if let Some(arrival) = self.path.borrow_mut().carry(now, transmit.size) {
                let place = self.sent.partition_point(|(at, _)| *at <= arrival);
                self.sent.insert(place, (arrival, BytesMut::from(&buffer[..transmit.size])));
            }
            buffer.clear();
        }
        while connection.poll().is_some() {}
    }

    /// Delivers what has arrived at `to` by now.
    fn deliver(&mut self, now: Instant, to: &mut Self) {
        while self.sent.front().is_some_and(|(at, _)| *at <= now) {
            let (_, datagram) = self.sent.pop_front().unwrap();
            to.receive(now, self.address, datagram);
        }
    }

    /// When it has something to do, or the other end receives something.
    fn next(&mut self) -> Option<Instant> {
        let timer = self.connection.as_mut().and_then(|(_, connection)| connection.poll_timeout());
        timer.into_iter().chain(self.sent.front().map(|(at, _)| *at)).min()
    }
}

impl Pair {
    /// Connects them. Each end has a path to the other one.
    fn new(client: ClientConfig, server: ServerConfig, [forth, back]: [Path; 2]) -> Self {
        Self::beside(start(), client, server, [forth, back].map(|path| Rc::new(RefCell::new(path))))
    }

    /// Connects them on paths that may be those of other pairs as well.
    fn beside(
        now: Instant,
        client: ClientConfig,
        server: ServerConfig,
        [forth, back]: [Rc<RefCell<Path>>; 2],
    ) -> Self {
        let mut client_end = End::new(CLIENT, None, forth);
        let server = End::new(SERVER, Some(server), back);
        let connection = client_end.endpoint.connect(now, client, SERVER.into(), "localhost");
        client_end.connection = Some(connection.unwrap());
        Self { now, client: client_end, server }
    }

    /// Sends what both have to send, and lets the next packets arrive or the next timers fire.
    fn step(&mut self) {
        step(slice::from_mut(self));
    }
}

/// The same for several pairs with one clock.
fn step(pairs: &mut [Pair]) {
    let mut next: Option<Instant> = None;
    for Pair { now, client, server } in &mut *pairs {
        client.run(*now);
        server.run(*now);
        next = [next, client.next(), server.next()].into_iter().flatten().min();
    }
    let next = next.expect("a connection lives");
    for Pair { now, client, server } in pairs {
        *now = next.max(*now);
        client.deliver(*now, server);
        server.deliver(*now, client);
    }
}

/// The beginning of the clock.
#[expect(clippy::disallowed_methods, reason = "the beginning of a clock that the test moves")]
fn start() -> Instant {
    Instant::now()
}

fn configs() -> (ClientConfig, ServerConfig) {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let trust = Trust::from(identity.fingerprint());
    let versions = Versions::default();
    (config::client(&trust, &versions).unwrap(), config::server(&identity, &versions).unwrap())
}
