//! Tests of connections that never become sessions, and of time.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use smoq_quic::HTTP_TIMEOUT;

use super::*;
use crate::endpoint::clock;
use crate::endpoint::tests::AHEAD;
use crate::{Budget, Event};

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
