//! Hosts with several addresses, and many clients at once, over loopback.
#![expect(clippy::disallowed_methods, reason = "a deadline instead of a hang")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use smoq::{Client, Server};
use smoq_blocking::quinn_proto::{ClientConfig, ConnectionError};
use smoq_blocking::smoq_quic::{Identity, Trust};
use smoq_blocking::{Budget, ConnectionId, DialError, Endpoint, Event, config};

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn listen(identity: &Identity) -> (Endpoint, SocketAddr) {
    let server = Server::new();
    let config = config::server(identity, server.versions()).unwrap();
    let endpoint = Endpoint::bind(loopback(), config, &server).unwrap();
    let addr = endpoint.local_addr().unwrap();
    (endpoint, addr)
}

/// A client that gives an address up after so long, or never.
fn client(identity: &Identity, patience: Option<Duration>) -> ClientConfig {
    let mut transport = config::transport();
    transport.max_idle_timeout(patience.map(|time| time.try_into().unwrap()));
    let trust = Trust::from(identity.fingerprint());
    let mut config = config::client(&trust, Client::new().versions()).unwrap();
    config.transport_config(Arc::new(transport));
    config
}

/// An address where nobody answers.
fn silent() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(loopback()).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

/// Steps all endpoints until `done` has something.
fn until<T>(
    endpoints: &mut [&mut Endpoint],
    mut done: impl FnMut(&mut Endpoint) -> Option<T>,
) -> T {
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        for endpoint in endpoints.iter_mut() {
            endpoint.step(Budget::items(10_000)).unwrap();
        }
        if let Some(done) = done(endpoints[0]) {
            return done;
        }
        assert!(Instant::now() < limit, "it hangs");
        endpoints[0].wait(Some(Duration::from_millis(1))).unwrap();
    }
}

fn connected(dialing: &mut Endpoint, id: ConnectionId, event: Event) -> SocketAddr {
    let Event::Connected { id: reported, session, remote, .. } = event else { panic!("{event:?}") };
    assert_eq!(reported, id);
    let kept = dialing.session(id).expect("it is connected");
    assert_eq!(kept.version(), session.version());
    remote
}

/// Attempts that nobody answers never fail here: only one that begins beside them gets through.
#[test]
fn the_next_address_is_dialed_when_one_does_not_answer() {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let ((mut server, alive), dead) = (listen(&identity), [silent(), silent()]);
    let mut dialing = Endpoint::new(loopback()).unwrap();
    let remotes = [dead[0].1, dead[1].1, alive];
    let id = dialing.dial_any(remotes, "localhost", client(&identity, None), &Client::new());
    assert!(dialing.session(id).is_none());
    let event = until(&mut [&mut dialing, &mut server], Endpoint::poll_event);
    assert_eq!(connected(&mut dialing, id, event), alive);
    // The others are closed, and say nothing.
    until(&mut [&mut dialing, &mut server], |it| (it.connections() == 1).then_some(()));
    assert!(dialing.poll_event().is_none());
    assert!(dialing.session(id).is_some());
}

/// A closed port, an IPv6 address for an IPv4 socket, and both through an endpoint for both families.
#[test]
fn the_next_address_is_dialed_when_one_fails() {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let (mut server, alive) = listen(&identity);
    let closed = silent().1;
    let v6 = SocketAddr::new("::1".parse().unwrap(), alive.port());
    let any = [loopback(), (std::net::Ipv6Addr::UNSPECIFIED, 0).into()];
    // A machine without IPv6 has only the first.
    for local in any.into_iter().filter_map(|local| Endpoint::new(local).ok()) {
        let mut dialing = local;
        let remotes = [closed, alive, v6];
        let id = dialing.dial_any(remotes, "localhost", client(&identity, None), &Client::new());
        let event = until(&mut [&mut dialing, &mut server], Endpoint::poll_event);
        let remote = connected(&mut dialing, id, event);
        assert_eq!(remote.port(), alive.port());
        assert_eq!(remote.ip().to_canonical(), alive.ip());
    }
}

#[test]
fn the_error_lists_all_addresses_if_none_answers() {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let dead = [silent(), silent()];
    let mut dialing = Endpoint::new(loopback()).unwrap();
    let v6: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
    let patience = Some(Duration::from_millis(100));
    let remotes = [dead[0].1, dead[1].1, v6];
    let id =
        dialing.dial_any(remotes, "relay.example", client(&identity, patience), &Client::new());
    let event = until(&mut [&mut dialing], Endpoint::poll_event);
    let Event::Unreachable { id: reported, error } = event else { panic!("{event:?}") };
    assert_eq!(reported, id);
    let tried: Vec<_> = error.tried.iter().map(|(address, _)| *address).collect();
    assert_eq!(tried, [v6, dead[0].1, dead[1].1]);
    assert!(matches!(error.tried[0].1, DialError::Family));
    let timed_out = |error: &_| matches!(error, DialError::Connection(ConnectionError::TimedOut));
    assert!(error.tried[1..].iter().all(|(_, error)| timed_out(error)));
    let text = error.to_string();
    assert!(text.starts_with("can't reach relay.example: [2001:db8::1]:1: the socket"), "{text}");
    assert!(text.ends_with(&format!("; {}: timed out", dead[1].1)), "{text}");
    until(&mut [&mut dialing], |it| (it.connections() == 0).then_some(()));
}

#[test]
fn a_host_without_an_address_is_unreachable() {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let mut dialing = Endpoint::new(loopback()).unwrap();
    dialing.dial_any([], "localhost", client(&identity, None), &Client::new());
    let event = dialing.poll_event();
    let Some(Event::Unreachable { error, .. }) = event else { panic!("{event:?}") };
    assert_eq!(error.to_string(), "localhost has no address");
}

#[test]
fn a_cancelled_dial_is_not_reported() {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let ((mut server, alive), dead) = (listen(&identity), silent());
    let mut dialing = Endpoint::new(loopback()).unwrap();
    let config = client(&identity, None);
    let several = [dead.1, alive];
    let several = dialing.dial_any(several, "localhost", config.clone(), &Client::new());
    let single = dialing.dial(alive, "localhost", config, &Client::new()).unwrap();
    dialing.step(Budget::items(100)).unwrap();
    dialing.cancel(several);
    dialing.cancel(single);
    until(&mut [&mut dialing, &mut server], |it| (it.connections() == 0).then_some(()));
    assert!(dialing.poll_event().is_none());
    // One that is connected stays.
    let id = dialing.dial_any([alive], "localhost", client(&identity, None), &Client::new());
    let event = until(&mut [&mut dialing, &mut server], Endpoint::poll_event);
    connected(&mut dialing, id, event);
    dialing.cancel(id);
    assert!(dialing.session(id).is_some());
}

/// The first address answers, but too late.
#[test]
fn the_slower_of_two_is_given_up() {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let ((mut slow, first), (mut fast, second)) = (listen(&identity), listen(&identity));
    let mut dialing = Endpoint::new(loopback()).unwrap();
    let remotes = [first, second];
    let id = dialing.dial_any(remotes, "localhost", client(&identity, None), &Client::new());
    let event = until(&mut [&mut dialing, &mut fast], Endpoint::poll_event);
    assert_eq!(connected(&mut dialing, id, event), second);
    until(&mut [&mut slow, &mut dialing], |it| {
        (it.connections() == 0 && it.poll_event().is_none()).then_some(())
    });
    until(&mut [&mut dialing, &mut slow], |it| (it.connections() == 1).then_some(()));
    assert!(dialing.poll_event().is_none());
}

/// Their first packets all lie in the listening socket before it is read: the 208 KiB that Linux gives a
/// socket unasked hold fewer than a hundred.
#[test]
fn many_clients_that_dial_at_once_all_get_in() {
    const CLIENTS: usize = 150;
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let (mut server, addr) = listen(&identity);
    let mut dialing = Endpoint::new(loopback()).unwrap();
    let config = client(&identity, None);
    for _ in 0..CLIENTS {
        dialing.dial(addr, "localhost", config.clone(), &Client::new()).unwrap();
    }
    while dialing.step(Budget::items(10_000)).unwrap().more {}
    let mut up = 0;
    until(&mut [&mut dialing, &mut server], |dialing| {
        while let Some(event) = dialing.poll_event() {
            assert!(matches!(event, Event::Connected { .. }), "{event:?}");
            up += 1;
        }
        (up == CLIENTS).then_some(())
    });
    if !server.buffers().is_short() {
        assert_eq!(dropped(addr.port()), 0);
    }
}

/// Datagrams that found no room in the socket on this port, where the system reports them.
fn dropped(port: u16) -> u64 {
    let sockets = std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
    let ours = |line: &&str| {
        let local = line.split_whitespace().nth(1).and_then(|local| local.split_once(':'));
        local.is_some_and(|(_, hex)| u16::from_str_radix(hex, 16) == Ok(port))
    };
    let dropped = |line: &str| line.split_whitespace().last()?.parse::<u64>().ok();
    sockets.lines().filter(ours).filter_map(dropped).sum()
}
