//! Tests of connections that never become sessions, and of time.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use smoq_quic::{HTTP_TIMEOUT, Identity, Trust, tls};

use super::*;
use crate::endpoint::clock;
use crate::endpoint::tests::AHEAD;
use crate::{Budget, DialConfig, Event};

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: qmux-02.moq-lite-04\r\n\r\n";

fn listening() -> (Endpoint, SocketAddr) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut net = Endpoint::new(any).unwrap();
    let listener = TcpListener::bind(any).unwrap();
    let address = listener.local_addr().unwrap();
    net.listen_web_socket(listener, &Server::new()).unwrap();
    (net, address)
}

fn until<T>(net: &mut Endpoint, mut done: impl FnMut(&mut Endpoint) -> Option<T>) -> T {
    let begun = clock() - AHEAD.get();
    loop {
        net.step(Budget::items(100)).unwrap();
        if let Some(done) = done(net) {
            return done;
        }
        assert!(clock() - AHEAD.get() - begun < Duration::from_secs(20), "it hangs");
    }
}

fn connected(net: &mut Endpoint) -> Session {
    match until(net, Endpoint::poll_event) {
        Event::Connected { session, .. } => session,
        event => panic!("{event:?}"),
    }
}

/// Every other one has sent half of a request. The oldest are closed, so that clients that do ask are served meanwhile,
/// and at last time closes the rest.
#[test]
fn ten_thousand_connections_that_never_upgrade_are_limited_and_given_up() {
    let (mut net, address) = listening();
    let mut idle = VecDeque::new();
    let mut sessions = Vec::new();
    for n in 0..10_000 {
        AHEAD.set(AHEAD.get() + Duration::from_millis(1));
        let mut stream = TcpStream::connect(address).unwrap();
        if n % 2 == 0 {
            stream.write_all(&REQUEST[..REQUEST.len() / 2]).unwrap();
        }
        idle.push_back(stream);
        net.step(Budget::items(100)).unwrap();
        if idle.len() > 2 * HANDSHAKES {
            // It ends with FIN, or with RST because something was not read.
            let mut oldest = idle.pop_front().unwrap();
            assert!(!matches!(oldest.read(&mut [0]), Ok(1..)));
        }
        assert!(net.web_sockets.handshakes.len() <= HANDSHAKES);
        if n % 1_000 == 999 {
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(REQUEST).unwrap();
            sessions.push((connected(&mut net), client));
        }
    }
    // The last client took the place of one.
    assert_eq!((net.connections(), net.web_sockets.handshakes.len()), (10, HANDSHAKES - 1));
    let begun = clock();
    until(&mut net, |net| {
        AHEAD.set(AHEAD.get() + Duration::from_millis(500));
        net.web_sockets.handshakes.is_empty().then_some(())
    });
    assert!(clock() - begun < HTTP_TIMEOUT + Duration::from_secs(1));
    for mut stream in idle {
        assert!(!matches!(stream.read(&mut [0]), Ok(1..)));
    }
    assert_eq!(net.connections(), 10);
    assert!(net.poll_event().is_none());
}

/// More than may be without a session at a time, as after a restart of the server: none of them is turned away.
#[test]
fn hundreds_of_clients_that_dial_at_once_all_join() {
    const CLIENTS: usize = 400;
    const { assert!(CLIENTS > HANDSHAKES) };
    let (mut net, address) = listening();
    let mut dialing = Endpoint::new((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    for _ in 0..CLIENTS {
        let config = DialConfig::web_socket(None);
        dialing.dial_any([address], "localhost", config, &Client::new());
    }
    let begun = clock();
    let mut joined = 0;
    while joined < CLIENTS {
        net.step(Budget::items(1_024)).unwrap();
        assert!(net.web_sockets.handshakes.len() <= HANDSHAKES);
        dialing.step(Budget::items(1_024)).unwrap();
        while let Some(event) = dialing.poll_event() {
            assert!(matches!(event, Event::Connected { .. }), "{joined}: {event:?}");
            joined += 1;
        }
        assert!(clock() - begun < Duration::from_secs(20), "{joined} have joined");
    }
    assert_eq!(net.connections(), CLIENTS);
}

/// Its last byte comes in time or not.
#[test]
fn half_of_a_request_is_given_up_in_time() {
    for in_time in [true, false] {
        let (mut net, address) = listening();
        let mut stream = TcpStream::connect(address).unwrap();
        let (most, last) = REQUEST.split_at(REQUEST.len() - 1);
        stream.write_all(most).unwrap();
        until(&mut net, |net| (net.web_sockets.handshakes.len() == 1).then_some(()));
        let patience = if in_time { HTTP_TIMEOUT / 2 } else { HTTP_TIMEOUT };
        let due = net.web_sockets.poll_timeout().unwrap() - clock();
        assert!(due > HTTP_TIMEOUT - Duration::from_secs(5) && due <= HTTP_TIMEOUT, "{due:?}");
        AHEAD.set(AHEAD.get() + patience);
        net.step(Budget::items(100)).unwrap();
        let sent = stream.write_all(last);
        if in_time {
            sent.unwrap();
            let _session = connected(&mut net);
        } else {
            assert!(net.web_sockets.handshakes.is_empty());
            assert!(!matches!(stream.read(&mut [0]), Ok(1..)));
        }
    }
}

/// The process stalls, and finds the request when the time for it is over.
#[test]
fn a_request_that_came_during_a_stall_is_answered() {
    let (mut net, address) = listening();
    let mut stream = TcpStream::connect(address).unwrap();
    until(&mut net, |net| (net.web_sockets.handshakes.len() == 1).then_some(()));
    stream.write_all(REQUEST).unwrap();
    AHEAD.set(AHEAD.get() + 2 * HTTP_TIMEOUT);
    let _session = connected(&mut net);
}

/// A head that never ends.
#[test]
fn a_large_request_is_given_up() {
    let (mut net, address) = listening();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&REQUEST[..REQUEST.len() - 2]).unwrap();
    stream.write_all(&[b'a'; 20_000]).unwrap();
    let mut was_there = false;
    until(&mut net, |net| {
        was_there |= !net.web_sockets.handshakes.is_empty();
        (was_there && net.web_sockets.handshakes.is_empty()).then_some(())
    });
    assert!(!matches!(stream.read(&mut [0]), Ok(1..)));
}

/// A client that has become silent without a FIN, as behind a network that was cut, and one that answers pings.
#[test]
fn a_silent_client_is_asked_and_given_up() {
    let (mut net, address) = listening();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(REQUEST).unwrap();
    let session = connected(&mut net);
    let begun = clock();
    let reason = until(&mut net, |net| {
        AHEAD.set(AHEAD.get() + Duration::from_millis(500));
        match net.poll_event()? {
            Event::Closed { reason, .. } => Some(reason),
            event => panic!("{event:?}"),
        }
    });
    assert_eq!(reason, smoq::CloseReason::from(smoq::Error::Timeout));
    let waited = clock() - begun;
    assert!(waited >= smoq_qmux::IDLE_TIMEOUT && waited < Duration::from_secs(32), "{waited:?}");
    until(&mut net, |net| {
        AHEAD.set(AHEAD.get() + Duration::from_millis(500));
        (net.connections() == 0).then_some(())
    });
    assert!(net.web_sockets.timers.is_empty());
    drop(session);
    // The answer to the request, the parameters, one ping and the end.
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    let ping = (0xf48c_6752_9ef8_c7bd_u64).to_be_bytes();
    assert_eq!(got.windows(8).filter(|it| *it == ping).count(), 1);
}

/// A server that takes the connection and stays silent is given up, whether TLS or HTTP waits for it.
#[test]
fn a_silent_server_is_given_up_in_time() {
    for tls in [None, Some(Trust::Insecure)] {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let silent = TcpListener::bind(any).unwrap();
        let address = silent.local_addr().unwrap();
        let mut net = Endpoint::new(any).unwrap();
        let tls = tls.map(|trust| Arc::new(tls::client(&trust, []).unwrap()));
        let config = DialConfig::web_socket(tls);
        let id = net.dial_any([address], "localhost", config, &Client::new());
        let (mut stream, _) = silent.accept().unwrap();
        assert!(until(&mut net, |_| stream.read(&mut [0; 10]).ok()) > 0);
        let due = net.web_sockets.poll_timeout().unwrap() - clock();
        assert!(due > HTTP_TIMEOUT - Duration::from_secs(5) && due <= HTTP_TIMEOUT, "{due:?}");
        AHEAD.set(AHEAD.get() + HTTP_TIMEOUT);
        let event = until(&mut net, Endpoint::poll_event);
        let Event::Unreachable { id: reported, error } = event else { panic!("{event:?}") };
        assert_eq!(reported, id);
        assert!(matches!(error.tried[..], [(_, DialError::Timeout)]), "{error}");
        assert_eq!(net.connections(), 0);
        assert!(net.web_sockets.is_unused());
    }
}

/// Thousands of clients that begin TLS and stop there neither lock out a client that goes on, nor end what the endpoint
/// dials itself.
#[test]
fn connections_that_stop_within_tls_are_limited_and_given_up() {
    let (mut net, address) = listening();
    let identity = Identity::self_signed(["localhost"]).unwrap();
    net.set_web_socket_tls(tls::server(&identity, []).unwrap());
    let trust = Trust::from(identity.fingerprint());
    let silent = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let silent = silent.local_addr().unwrap();
    let dialing = net.dial_any([silent], "localhost", secure(&trust), &Client::new());
    // The first bytes of a ClientHello, or all of it.
    let name = "localhost".try_into().unwrap();
    let config = Arc::new(tls::client(&trust, []).unwrap());
    let mut hello = Vec::new();
    ClientConnection::new(config, name).unwrap().write_tls(&mut hello).unwrap();
    let mut idle = VecDeque::new();
    for n in 0..2_000 {
        AHEAD.set(AHEAD.get() + Duration::from_millis(1));
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&hello[..hello.len() / (1 + n % 3)]).unwrap();
        idle.push_back(stream);
        net.step(Budget::items(100)).unwrap();
        if idle.len() > 2 * HANDSHAKES {
            idle.pop_front();
        }
        assert!(net.web_sockets.handshakes.len() <= HANDSHAKES);
        if n % 500 == 499 {
            let dialed = net.dial_any([address], "localhost", secure(&trust), &Client::new());
            let mut connected = 0;
            until(&mut net, |net| {
                let Event::Connected { id, .. } = net.poll_event()? else { panic!("it failed") };
                connected += 1 + usize::from(id == dialed);
                (connected == 3).then_some(())
            });
        }
    }
    // Two ends of each session, and the dial.
    assert_eq!(net.connections(), 2 * 4 + 1);
    let begun = clock();
    until(&mut net, |net| {
        AHEAD.set(AHEAD.get() + Duration::from_millis(500));
        net.web_sockets.handshakes.is_empty().then_some(())
    });
    assert!(clock() - begun < HTTP_TIMEOUT + Duration::from_secs(1));
    let event = until(&mut net, Endpoint::poll_event);
    assert!(matches!(event, Event::Unreachable { id, .. } if id == dialing), "{event:?}");
    assert_eq!(net.connections(), 2 * 4);
}

/// Dials with TLS.
fn secure(trust: &Trust) -> DialConfig {
    DialConfig::web_socket(Some(Arc::new(tls::client(trust, []).unwrap())))
}

/// Both ends of TLS have written as much as the system takes, and neither reads unless the other does.
#[test]
fn a_write_that_waits_holds_no_read_back() {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let server = Arc::new(tls::server(&identity, []).unwrap());
    let client = Arc::new(tls::client(&Trust::Insecure, []).unwrap());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    let name = "localhost".try_into().unwrap();
    let tls: [rustls::Connection; 2] = [
        ClientConnection::new(client, name).unwrap().into(),
        ServerConnection::new(server).unwrap().into(),
    ];
    let mut ends = [near, far].into_iter().zip(tls).map(|(tcp, tls)| {
        tcp.set_nonblocking(true).unwrap();
        Stream::new(mio::net::TcpStream::from_std(tcp), Some(tls))
    });
    let mut ends = [ends.next().unwrap(), ends.next().unwrap()];
    // The handshake.
    assert_eq!(ends[0].write(b"?").unwrap(), 1);
    let begun = clock();
    while !matches!(ends[1].read(&mut [0]), Ok(1)) {
        let _ = ends[0].read(&mut [0]);
        assert!(clock() - begun < Duration::from_secs(20), "it hangs");
    }
    // The system takes a while to move bytes from one end to the other.
    let mut refused = 0;
    while refused < 1_000 {
        let taken = ends.iter_mut().map(|end| end.write(&[0; 16_000])).filter(Result::is_ok);
        refused = if taken.count() > 0 { 0 } else { refused + 1 };
    }
    for end in &mut ends {
        assert!(end.read(&mut [0; 1_000]).unwrap() > 0);
    }
}
