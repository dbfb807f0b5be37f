//! Clients on HTTP/3 that never ask for a session, over loopback, by a clock that only the test moves.

#[path = "common/clock.rs"]
mod clock;

use std::future::Future;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use clock::Clock;
use quinn::{ConnectionError, Endpoint};
use smoq::{Client, Origin, Server, Subscription};
use smoq_quinn::smoq_quic::{HTTP_TIMEOUT, Identity};
use smoq_quinn::{Error, accept_in, config, connect, listen};

/// HEADERS of 80 bytes.
const HALF: &[u8] = &[1, 0x40, 80, 0, 0];
const SILENT: usize = 20;
const SECOND: Duration = Duration::from_secs(1);

/// They send nothing, or half of a request. They are given up after [`HTTP_TIMEOUT`], and a session beside them goes on.
#[test]
fn silent_clients_on_webtransport_are_given_up_in_time() {
    on_tokio(async {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let origin = Origin::default().produce();
        let mut broadcast = origin.create_broadcast("live").unwrap();
        let mut track = broadcast.create_track("video").unwrap();
        let server = Server::new().with_publish(origin.consume());
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let tls = config::server(&identity, server.versions()).unwrap();
        let (listening, _) = listen(any, tls).unwrap();
        let address = listening.local_addr().unwrap();
        let dialing = Endpoint::client(any).unwrap();
        let tls = config::webtransport_client(&identity.fingerprint().into()).unwrap();
        let clock = Clock::new();
        let dial = async || {
            let near = dialing.connect_with(tls.clone(), address, "localhost").unwrap();
            let far = async { listening.accept().await.unwrap().await };
            let (near, far) = tokio::join!(near, far);
            let (near, far) = (near.unwrap(), far.unwrap());
            let (there, server, runtime) = (far.clone(), server.clone(), Arc::new(clock.clone()));
            let timers = clock.timers();
            let accepting = tokio::spawn(async move { accept_in(there, &server, runtime).await });
            while clock.timers() == timers {
                tokio::task::yield_now().await;
            }
            (near, far, accepting)
        };

        let received = Origin::default().produce();
        let client = Client::new().with_consume(received.clone());
        let (near, _, accepting) = dial().await;
        let (_near, driving) = connect(near, &client).await.unwrap();
        tokio::spawn(driving);
        let (_far, driving) = accepting.await.unwrap().unwrap();
        tokio::spawn(driving);
        let live = received.consume().announced_broadcast("live").await.unwrap();
        let mut reader = live.subscribe_track("video", Subscription::default()).unwrap();
        track.used().await.unwrap();

        let mut silent = Vec::new();
        for n in 0..SILENT {
            let (near, far, accepting) = dial().await;
            if n % 2 == 1 {
                let (mut send, recv) = near.open_bi().await.unwrap();
                send.write_all(HALF).await.unwrap();
                while far.stats().frame_rx.stream == 0 {
                    tokio::task::yield_now().await;
                }
                silent.push((near, accepting, Some((send, recv))));
            } else {
                silent.push((near, accepting, None));
            }
        }
        for (n, ahead) in [HTTP_TIMEOUT - SECOND, 2 * SECOND].into_iter().enumerate() {
            while clock.timers() < SILENT {
                tokio::task::yield_now().await;
            }
            assert!(silent.iter().all(|(_, accepting, _)| !accepting.is_finished()));
            clock.advance(ahead);
            track.write_frame(n as u64, "frame").unwrap();
            assert_eq!(reader.read_frame().await.unwrap().unwrap().payload(), b"frame");
        }
        for (near, accepting, _) in silent {
            let end = accepting.await.unwrap().map(drop);
            assert!(matches!(end, Err(Error::Timeout)), "{end:?}");
            let end = near.closed().await;
            assert!(matches!(end, ConnectionError::ApplicationClosed(_)), "{end:?}");
        }
        track.write_frame(2_u64, "last").unwrap();
        assert_eq!(reader.read_frame().await.unwrap().unwrap().payload(), b"last");
    });
}

fn on_tokio(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(30), test).await.expect("it hangs");
    });
}
