//! An idle connection in memory, with a clock of its own: which side keeps it alive.

use std::collections::VecDeque;
use std::net::SocketAddr;
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
const LATENCY: Duration = Duration::from_millis(10);

/// An endpoint with at most one connection.
struct End {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    /// Datagrams to the other end, with the time of their arrival.
    sent: VecDeque<(Instant, BytesMut)>,
}

impl End {
    fn new(server: Option<ServerConfig>) -> Self {
        let endpoint =
            Endpoint::new(Arc::new(EndpointConfig::default()), server.map(Arc::new), true, None);
        Self { endpoint, connection: None, sent: VecDeque::new() }
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
            self.sent.push_back((now + LATENCY, BytesMut::from(&buffer[..transmit.size])));
            buffer.clear();
        }
        while connection.poll().is_some() {}
    }

    /// Delivers what has arrived at `to` by now.
    fn deliver(&mut self, now: Instant, from: impl Into<SocketAddr>, to: &mut Self) {
        let from = from.into();
        while self.sent.front().is_some_and(|(at, _)| *at <= now) {
            let (_, datagram) = self.sent.pop_front().unwrap();
            to.receive(now, from, datagram);
        }
    }

    /// When it has something to do, or the other end receives something.
    fn next(&mut self) -> Option<Instant> {
        let timer = self.connection.as_mut().and_then(|(_, connection)| connection.poll_timeout());
        timer.into_iter().chain(self.sent.front().map(|(at, _)| *at)).min()
    }

    fn pings(&self) -> u64 {
        self.connection.as_ref().unwrap().1.stats().frame_tx.ping
    }
}

/// The PINGs that a client and a server send in a minute, after a minute, on a connection without other traffic.
#[expect(clippy::disallowed_methods, reason = "the beginning of a clock that the test moves")]
fn pings_of_a_minute(client: ClientConfig, server: ServerConfig) -> (u64, u64) {
    let (mut a, mut b) = (End::new(None), End::new(Some(server)));
    let mut now = Instant::now();
    let (second, third) = (now + Duration::from_secs(60), now + Duration::from_secs(120));
    a.connection = Some(a.endpoint.connect(now, client, SERVER.into(), "localhost").unwrap());
    let mut before = None;
    while now < third {
        a.run(now);
        b.run(now);
        now = [a.next(), b.next()].into_iter().flatten().min().expect("the connection lives");
        if now >= second {
            before.get_or_insert_with(|| (a.pings(), b.pings()));
        }
        a.deliver(now, CLIENT, &mut b);
        b.deliver(now, SERVER, &mut a);
    }
    let (by_a, by_b) = before.unwrap();
    (a.pings() - by_a, b.pings() - by_b)
}

fn configs() -> (ClientConfig, ServerConfig) {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let trust = Trust::from(identity.fingerprint());
    let versions = Versions::default();
    (config::client(&trust, &versions).unwrap(), config::server(&identity, &versions).unwrap())
}

#[test]
fn the_client_keeps_an_idle_connection_alive_and_the_server_only_answers() {
    let (client, server) = configs();
    let (by_client, by_server) = pings_of_a_minute(client, server);
    assert_eq!(by_server, 0);
    let at_most = 60 / config::KEEP_ALIVE.as_secs();
    assert!((at_most - 1..=at_most).contains(&by_client), "{by_client}");
}

#[test]
fn the_server_keeps_the_connection_of_a_silent_client_alive() {
    let (mut client, server) = configs();
    let mut silent = config::transport();
    silent.keep_alive_interval(None);
    client.transport_config(Arc::new(silent));
    let (by_client, by_server) = pings_of_a_minute(client, server);
    assert_eq!(by_client, 0);
    let at_most = 60 / config::SERVER_KEEP_ALIVE.as_secs();
    assert!((at_most - 1..=at_most).contains(&by_server), "{by_server}");
}
