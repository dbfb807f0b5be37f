//! The heap that an idle connection takes, in bytes.

use std::net::Ipv4Addr;

use smoq::{Client, Server};
use smoq_quinn::config;
use smoq_quinn::smoq_quic::{Identity, Trust};

/// How many bytes this thread has more afterwards.
fn growth(work: impl FnOnce()) -> i64 {
    allocation_counter::measure(work).bytes_current
}

/// Both ends of a connection are here, and both have the same limits: each is below 100 KiB. With all
/// streams that a peer may have open allowed at once it would be 600.
#[test]
fn an_idle_connection_is_small() {
    const CONNECTIONS: i64 = 8;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let (client, server) = (Client::new(), Server::new());
    let dial = config::client(&Trust::from(identity.fingerprint()), client.versions()).unwrap();
    let listen = config::server(&identity, server.versions()).unwrap();
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let endpoints = runtime.block_on(async {
        (smoq_quinn::listen(any, listen).unwrap().0, quinn::Endpoint::client(any).unwrap())
    });
    let (listening, dialing) = &endpoints;
    let address = listening.local_addr().unwrap();
    let mut kept = Vec::with_capacity(2 * CONNECTIONS as usize);
    let bytes = growth(|| {
        runtime.block_on(async {
            for _ in 0..CONNECTIONS {
                let near = dialing.connect_with(dial.clone(), address, "localhost").unwrap();
                let near = tokio::spawn(near);
                let far = listening.accept().await.unwrap().await;
                let near = near.await.unwrap();
                let (near, driving) = smoq_quinn::connect(near.unwrap(), &client).await.unwrap();
                tokio::spawn(driving);
                let (far, driving) = smoq_quinn::accept(far.unwrap(), &server).await.unwrap();
                tokio::spawn(driving);
                while near.stats().bytes_received == 0 || far.stats().bytes_received == 0 {
                    tokio::task::yield_now().await;
                }
                kept.extend([near, far]);
            }
        });
    });
    let each = bytes / CONNECTIONS / 2;
    println!("{each} bytes");
    assert!(each < 100 << 10, "{each} bytes");
    assert!(each > 10 << 10, "{each} bytes: that is not all of it");
}
