//! Tests of the socket and of the streams of connections, which are private to an endpoint.

use std::cell::Cell;
use std::net::UdpSocket;

use quinn_proto::Dir;
use smoq::{Origin, Subscription, Track};
use smoq_quic::{HTTP_TIMEOUT, Identity, Trust};

use super::*;
use crate::config;

thread_local! {
    /// How far the clock of this thread is ahead.
    pub(crate) static AHEAD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

#[test]
fn a_connection_continues_when_the_socket_takes_packets_again() {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let server = Server::new();
    let listen = config::server(&identity, server.versions()).unwrap();
    let dial = config::client(&Trust::from(identity.fingerprint()), server.versions()).unwrap();
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut endpoint = Endpoint::bind(local, listen, &server).unwrap();
    let addr = endpoint.local_addr().unwrap();
    endpoint.dial(addr, "localhost", dial, &Client::new()).unwrap();
    let begun = clock();
    for _ in 0..2 {
        let event = loop {
            if !endpoint.socket.is_stuck() {
                endpoint.socket.refusals = 2;
            }
            endpoint.step(Budget::items(1)).unwrap();
            if let Some(event) = endpoint.poll_event() {
                break event;
            }
            endpoint.wait(None).unwrap();
        };
        assert!(matches!(event, Event::Connected { .. }), "{event:?}");
    }
    // Not by repeating what was lost: nothing was.
    assert!(clock() - begun < Duration::from_secs(1));
    for connection in endpoint.connections.iter().flatten() {
        assert_eq!(connection.quic.stats().path.lost_packets, 0);
    }
}

/// An endpoint that has dialed itself, stepped by hand.
struct Loop(Endpoint);

impl Loop {
    fn new(server: &Server, client: &Client) -> Self {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let listen = config::server(&identity, server.versions()).unwrap();
        let trust = Trust::from(identity.fingerprint());
        let dial = config::client(&trust, client.versions()).unwrap();
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut endpoint = Endpoint::bind(local, listen, server).unwrap();
        let addr = endpoint.local_addr().unwrap();
        endpoint.dial(addr, "localhost", dial, client).unwrap();
        Self(endpoint)
    }

    fn until<T>(&mut self, mut done: impl FnMut(&mut Endpoint) -> Option<T>) -> T {
        let begun = clock();
        loop {
            self.0.step(Budget::items(100)).unwrap();
            if let Some(done) = done(&mut self.0) {
                return done;
            }
            assert!(clock() - begun < Duration::from_secs(20), "it hangs");
        }
    }
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// quinn keeps a stream that was stopped until that is answered by a reset, also if it was finished
/// meanwhile, and gives no other one in its place.
#[test]
fn streams_leave_nothing_however_they_end() {
    for version in smoq::Version::ALL.into_iter().chain(smoq::Version::WIP) {
        let (near, far) = (Origin::default().produce(), Origin::default().produce());
        let server = Server::new().with_publish(near.consume()).with_versions(version);
        let client = Client::new().with_consume(far.clone()).with_versions(version);
        let mut net = Loop::new(&server, &client);
        let mut live = near.create_broadcast("live").unwrap();
        let mut track = live.create_track(Track::new("video")).unwrap();
        let mut seen = far.consume();
        let live = net.until(|_| ready(seen.try_announced_broadcast("live"))).unwrap();
        let open = |endpoint: &mut Endpoint| {
            let connections = endpoint.connections.iter_mut().flatten();
            let count = connections.map(|it| {
                let streams = it.quic.streams();
                let theirs = [Dir::Bi, Dir::Uni].map(|dir| streams.remote_open_streams(dir));
                streams.send_streams() as u64 + theirs.iter().sum::<u64>()
            });
            count.sum::<u64>()
        };
        // The streams that are open while there is no request.
        let mut idle = u64::MAX;
        for n in 0..30_u64 {
            let want = Subscription::default();
            let mut refused = live.subscribe_track("no such track", want.clone()).unwrap();
            assert!(net.until(|_| ready(refused.try_next_group())).is_err());
            let mut wanted = live.subscribe_track("video", want).unwrap();
            net.until(|_| ready(track.try_used())).unwrap();
            let mut group = track.append_group().unwrap();
            group.write_frame(n, "frame").unwrap();
            let mut there = net.until(|_| ready(wanted.try_next_group())).unwrap().unwrap();
            net.until(|_| ready(there.try_read_frame())).unwrap().unwrap();
            match n % 3 {
                0 => group.finish().unwrap(),
                1 => group.abort(smoq::Error::App(7)),
                // The reader stops it.
                _ => {}
            }
            drop((there, wanted));
            net.until(|_| ready(track.try_unused())).unwrap();
            drop(group);
            // Acknowledgements come late: the first rounds find out what stays.
            let begun = clock();
            net.until(|net| {
                let now = open(net);
                let is_idle = now <= idle && n >= 3;
                idle = idle.min(now);
                (is_idle || n < 3 && clock() - begun > Duration::from_millis(60)).then_some(())
            });
        }
    }
}

/// Clients on HTTP/3 that send nothing, or half of a request, are given up after [`HTTP_TIMEOUT`], and a session beside
/// them goes on. They keep their connections alive all the while.
#[test]
fn silent_clients_on_webtransport_are_given_up_in_time() {
    const SILENT: usize = 20;
    // HEADERS of 80 bytes.
    const HALF: &[u8] = &[1, 0x40, 80, 0, 0];
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let origin = Origin::default().produce();
    let mut live = origin.create_broadcast("live").unwrap();
    let mut track = live.create_track("video").unwrap();
    let server = Server::new().with_publish(origin.consume());
    let listen = config::server(&identity, server.versions()).unwrap();
    let dial = config::webtransport_client(&identity.fingerprint().into()).unwrap();
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut net = [
        Endpoint::bind(local, listen, &server).unwrap(),
        Endpoint::new(local).unwrap(),
        Endpoint::new(local).unwrap(),
    ];
    let addr = net[0].local_addr().unwrap();
    let received = Origin::default().produce();
    let client = Client::new().with_consume(received.clone());
    net[1].dial(addr, "localhost", dial.clone(), &client).unwrap();
    let mut seen = received.consume();
    let live = until(&mut net, |_| ready(seen.try_announced_broadcast("live"))).unwrap();
    let mut reader = live.subscribe_track("video", Subscription::default()).unwrap();
    until(&mut net, |_| ready(track.try_used())).unwrap();
    while net[0].poll_event().is_some() {}

    let begun = clock();
    for n in 0..SILENT {
        let id = net[2].dial(addr, "localhost", dial.clone(), &client).unwrap();
        // It has no session, and so no HTTP/3.
        net[2].connections[id.slot].as_mut().unwrap().settings = None;
        until(&mut net, |net| {
            let connection = net[2].connections[id.slot].as_ref().unwrap();
            (!connection.quic.is_handshaking()).then_some(())
        });
        if n % 2 == 1 {
            let connection = net[2].connections[id.slot].as_mut().unwrap();
            let stream = connection.quic.streams().open(Dir::Bi).unwrap();
            assert_eq!(connection.quic.send_stream(stream).write(HALF), Ok(HALF.len()));
            net[2].queue(id.slot);
        }
    }
    let is_read = |it: &Connection| it.quic.stats().frame_rx.stream > 0;
    until(&mut net, |net| {
        let there = net[0].connections.iter().flatten();
        (there.filter(|it| is_read(it)).count() == 1 + SILENT / 2).then_some(())
    });
    let mut given_up = 0;
    for n in 0_u64.. {
        track.write_frame(n, n.to_be_bytes().to_vec()).unwrap();
        let frame = until(&mut net, |_| ready(reader.try_read_frame())).unwrap().unwrap();
        assert_eq!(frame.payload(), n.to_be_bytes());
        while let Some(event) = net[0].poll_event() {
            let Event::Failed { error, .. } = event else { panic!("{event:?}") };
            assert!(matches!(error, DialError::Timeout), "{error:?}");
            assert!(clock() - begun >= HTTP_TIMEOUT);
            given_up += 1;
        }
        if given_up == SILENT {
            break;
        }
        assert!(clock() - begun < 2 * HTTP_TIMEOUT, "{given_up} were given up");
        AHEAD.set(AHEAD.get() + Duration::from_millis(500));
    }
    until(&mut net, |net| {
        AHEAD.set(AHEAD.get() + Duration::from_millis(50));
        (net[0].connections() == 1 && net[2].connections() == 0).then_some(())
    });
    track.write_frame(0_u64, "last").unwrap();
    let frame = until(&mut net, |_| ready(reader.try_read_frame())).unwrap().unwrap();
    assert_eq!(frame.payload(), b"last");
}

/// Peers of a server, each with its session, on one clock.
struct Stall {
    server: Endpoint,
    alive: Endpoint,
    gone: Endpoint,
}

impl Stall {
    /// A server with so many clients that stay alive, and one whose endpoint is never stepped again.
    fn new(alive: usize) -> Self {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let (server, client) = (Server::new(), Client::new());
        let listen = config::server(&identity, server.versions()).unwrap();
        let dial = config::client(&identity.fingerprint().into(), client.versions()).unwrap();
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Endpoint::bind(local, listen, &server).unwrap();
        let [mut first, mut second] = [(); 2].map(|()| Endpoint::new(local).unwrap());
        let address = server.local_addr().unwrap();
        for n in 0..=alive {
            let from = if n < alive { &mut first } else { &mut second };
            from.dial(address, "localhost", dial.clone(), &client).unwrap();
        }
        let mut net = [server, first, second];
        let mut connected = 0;
        until(&mut net, |net| {
            for endpoint in net {
                while let Some(event) = endpoint.poll_event() {
                    assert!(matches!(event, Event::Connected { .. }), "{event:?}");
                    connected += 1;
                }
            }
            (connected == 2 * (alive + 1)).then_some(())
        });
        // The handshakes have left packets.
        for _ in 0..20 {
            AHEAD.set(AHEAD.get() + Duration::from_millis(50));
            net.iter_mut().for_each(exhaust);
        }
        let [server, alive, gone] = net;
        Self { server, alive, gone }
    }

    /// The server is not stepped for that long, while its peers go on.
    fn stall(&mut self, time: Duration) {
        const STEP: Duration = Duration::from_millis(250);
        for _ in 0..time.div_duration_f32(STEP) as u32 {
            AHEAD.set(AHEAD.get() + STEP);
            exhaust(&mut self.alive);
        }
    }
}

fn exhaust(endpoint: &mut Endpoint) {
    while endpoint.step(Budget::items(1_000)).unwrap().more {}
}

/// A game loads a level for 12 s. Far more than one turn can receive waits in the socket then, and every idle timer is due.
#[test]
fn a_stall_of_this_process_loses_no_live_peer() {
    const ALIVE: usize = 150;
    let mut net = Stall::new(ALIVE);
    net.stall(Duration::from_secs(12));
    // Each step does as little as possible.
    let mut lost = Vec::new();
    for _ in 0..100 {
        while net.server.step(Budget::items(1)).unwrap().more {
            lost.extend(net.server.poll_event());
        }
        exhaust(&mut net.alive);
        AHEAD.set(AHEAD.get() + Duration::from_millis(50));
        assert!(net.alive.poll_event().is_none());
    }
    // Only the client that is gone.
    assert!(matches!(&lost[..], [Event::Closed { .. }]), "{lost:?}");
    assert_eq!(net.server.connections(), ALIVE);
}

/// The socket is never empty. Nevertheless a peer that is gone is noticed.
#[test]
fn a_flood_does_not_hide_the_end_of_a_peer() {
    let mut net = Stall::new(0);
    AHEAD.set(AHEAD.get() + Duration::from_secs(30));
    let flood = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    flood.connect(net.server.local_addr().unwrap()).unwrap();
    let mut steps = 0;
    let lost = loop {
        for _ in 0..=DATAGRAMS {
            flood.send(&[0; 600]).unwrap();
        }
        // One turn of the socket, or of the connection.
        assert!(net.server.step(Budget::items(1)).unwrap().more);
        if let Some(event) = net.server.poll_event() {
            break event;
        }
        steps += 1;
        assert!(steps < 2_000, "it hangs");
    };
    assert!(matches!(lost, Event::Closed { .. }), "{lost:?}");
    // It waited for what may have come from that peer.
    assert!(steps > 4, "{steps}");
    drop(net.gone);
}

/// QUIC would have sent a frame in many small bursts, had it been asked in between. It is asked 20 times a second.
#[test]
fn a_large_frame_leaves_within_two_rare_steps() {
    const STEP: u32 = 50;
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let [origin, received] = [(); 2].map(|()| Origin::default().produce());
    let mut live = origin.create_broadcast("live").unwrap();
    let mut track = live.create_track(Track::new("video")).unwrap();
    let server = Server::new().with_publish(origin.consume());
    let client = Client::new().with_consume(received.clone());
    let listen = config::server(&identity, server.versions()).unwrap();
    let dial = config::client(&identity.fingerprint().into(), client.versions()).unwrap();
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut rare = Endpoint::bind(local, listen, &server).unwrap();
    let mut often = Endpoint::new(local).unwrap();
    often.dial(rare.local_addr().unwrap(), "localhost", dial, &client).unwrap();
    let mut steps = 0;
    let mut next = |is_written: &mut dyn FnMut() -> bool| {
        for _ in 0..STEP {
            AHEAD.set(AHEAD.get() + Duration::from_millis(1));
            while often.step(Budget::items(1_000)).unwrap().more {}
        }
        steps += 1;
        assert!(steps < 1_000, "it hangs");
        let is_over = is_written();
        while rare.step(Budget::items(1_000)).unwrap().more {}
        is_over
    };
    let mut seen = received.consume();
    let mut reader = None;
    while !next(&mut || {
        let Poll::Ready(Some(live)) = seen.try_announced_broadcast("live") else { return false };
        reader = Some(live.subscribe_track("video", Subscription::default()).unwrap());
        true
    }) {}
    let mut reader = reader.unwrap();
    while !next(&mut || track.try_used().is_ready()) {}
    let mut took = 0;
    // The congestion window grows with the first ones.
    for _ in 0..5 {
        next(&mut || track.write_frame(0_u64, vec![7; 100_000]).is_ok());
        took = 1;
        while !next(&mut || ready(reader.try_read_frame()).is_some()) {
            took += 1;
        }
    }
    assert!(took <= 2, "{took} steps");
}

/// The first attempts time out while addresses are left. Each is replaced by an attempt that has to end as well.
#[test]
fn a_host_with_fifty_silent_addresses_is_given_up() {
    let silent = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let sockets: Vec<_> = (0..50).map(|_| silent()).collect();
    let remotes: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
    let client = Client::new();
    let dial = config::client(&Trust::Insecure, client.versions()).unwrap();
    let mut endpoint = Endpoint::new((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let id = endpoint.dial_any(remotes.clone(), "localhost", dial, &client);
    let begun = clock();
    let error = loop {
        endpoint.step(Budget::items(1_000)).unwrap();
        match endpoint.poll_event() {
            Some(Event::Unreachable { id: host, error }) if host == id => break error,
            Some(event) => panic!("{event:?}"),
            None => {}
        }
        assert!(clock() - begun < Duration::from_secs(60), "{} attempts hang", endpoint.open);
        AHEAD.set(AHEAD.get() + Duration::from_millis(50));
    };
    let tried: Vec<_> = error.tried.iter().map(|(address, _)| *address).collect();
    assert_eq!(tried, remotes);
    assert_eq!(endpoint.connections(), 0);
}

#[track_caller]
fn until<T>(net: &mut [Endpoint; 3], mut done: impl FnMut(&mut [Endpoint; 3]) -> Option<T>) -> T {
    let begun = clock();
    loop {
        for endpoint in &mut *net {
            endpoint.step(Budget::items(100)).unwrap();
        }
        if let Some(done) = done(net) {
            return done;
        }
        assert!(clock() - begun < Duration::from_secs(20), "it hangs");
    }
}
