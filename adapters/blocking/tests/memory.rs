//! The heap that an idle connection takes, in bytes.
#![expect(clippy::disallowed_methods, reason = "a deadline instead of a hang")]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use smoq::{Client, Server, Session};
use smoq_blocking::smoq_quic::{Identity, Trust};
use smoq_blocking::{Budget, Endpoint, Event, config};

/// Both ends of a connection are here, and both have the same limits: each is below 100 KiB. With all
/// streams that a peer may have open allowed at once it would be 600.
#[test]
fn an_idle_connection_is_small() {
    const CONNECTIONS: i64 = 8;
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let (server, client) = (Server::new(), Client::new());
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let listen = config::server(&identity, server.versions()).unwrap();
    let mut listening = Endpoint::bind(any, listen, &server).unwrap();
    let addr = listening.local_addr().unwrap();
    let mut dialing = Endpoint::new(any).unwrap();
    let dial = config::client(&Trust::from(identity.fingerprint()), client.versions()).unwrap();
    let mut kept: Vec<Session> = Vec::with_capacity(2 * CONNECTIONS as usize);
    let info = allocation_counter::measure(|| {
        for _ in 0..CONNECTIONS {
            dialing.dial(addr, "localhost", dial.clone(), &client).unwrap();
        }
        let limit = Instant::now() + Duration::from_secs(30);
        while kept.len() < 2 * CONNECTIONS as usize
            || kept.iter().any(|session| session.stats().bytes_received == 0)
        {
            for endpoint in [&mut listening, &mut dialing] {
                endpoint.step(Budget::items(1_000)).unwrap();
                while let Some(event) = endpoint.poll_event() {
                    let Event::Connected { session, .. } = event else { panic!("{event:?}") };
                    kept.push(session);
                }
            }
            assert!(Instant::now() < limit, "it hangs");
        }
    });
    let each = info.bytes_current / CONNECTIONS / 2;
    println!("{each} bytes");
    assert!(each < 100 << 10, "{each} bytes");
    assert!(each > 10 << 10, "{each} bytes: that is not all of it");
}
