//! The heap that an idle connection takes, in bytes, and what many sessions leave behind.

use std::net::Ipv4Addr;
use std::time::Duration;

use smoq::{
    Client, CloseReason, Origin, OriginProducer, Server, Session, SessionGauges, Subscription,
};
use smoq_quinn::config;
use smoq_quinn::smoq_quic::{Identity, Trust};
use tokio::time::timeout;

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

/// All of them read one track. Half of them are ended by the client and half by the server.
#[test]
fn hundreds_of_sessions_on_webtransport_leave_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let origin = Origin::default().produce();
    let server = Server::new().with_publish(origin.consume());
    let dial = config::webtransport_client(&identity.fingerprint().into()).unwrap();
    let listen = config::server(&identity, server.versions()).unwrap();
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let (listening, dialing) = runtime.block_on(async {
        (smoq_quinn::listen(any, listen).unwrap().0, quinn::Endpoint::client(any).unwrap())
    });
    let crowd = || {
        let crowd = crowd(&listening, &dialing, &dial, &origin, &server);
        let limit = Duration::from_secs(30);
        runtime.block_on(async { timeout(limit, crowd).await.expect("it hangs") });
    };
    // Tables grow for the first ones, and stay.
    crowd();
    let info = allocation_counter::measure(crowd);
    println!("{} bytes are left of {}", info.bytes_current, info.bytes_max);
    assert!(info.bytes_current < 32 << 10, "{} bytes are left", info.bytes_current);
    assert!(info.bytes_max > 1 << 20, "{} bytes: that is not all of it", info.bytes_max);
}

async fn crowd(
    listening: &quinn::Endpoint,
    dialing: &quinn::Endpoint,
    dial: &quinn::ClientConfig,
    origin: &OriginProducer,
    server: &Server,
) {
    const SESSIONS: usize = 250;
    let mut broadcast = origin.create_broadcast("live").unwrap();
    let mut track = broadcast.create_track("video").unwrap();
    let address = listening.local_addr().unwrap();
    let (mut near, mut far, mut drivings, mut readers) = (vec![], vec![], vec![], vec![]);
    for _ in 0..SESSIONS {
        let origin = Origin::default().produce();
        let client = Client::new().with_consume(origin.clone());
        let connecting = dialing.connect_with(dial.clone(), address, "localhost").unwrap();
        let connecting = async { smoq_quinn::connect(connecting.await.unwrap(), &client).await };
        let accepting = async {
            let connection = listening.accept().await.unwrap().await.unwrap();
            smoq_quinn::accept(connection, server).await
        };
        let (connected, accepted) = tokio::join!(connecting, accepting);
        for (end, sessions) in [(connected, &mut near), (accepted, &mut far)] {
            let (session, driving) = end.unwrap();
            drivings.push(tokio::spawn(driving));
            sessions.push(session);
        }
        let live = origin.consume().announced_broadcast("live").await.unwrap();
        readers.push(live.subscribe_track("video", Subscription::default()).unwrap());
    }
    while far.iter().any(|session| session.gauges().serving == 0) {
        tokio::task::yield_now().await;
    }
    for n in 0..3_u8 {
        track.write_frame(0_u64, vec![n; 2_000]).unwrap();
        for reader in &mut readers {
            assert!(reader.read_frame().await.unwrap().unwrap().payload() == [n; 2_000]);
        }
    }
    drop(readers);
    let half = SESSIONS / 2;
    near[..half].iter().chain(&far[half..]).for_each(Session::drain);
    for driving in drivings {
        driving.await.unwrap().unwrap();
    }
    track.unused().await.unwrap();
    listening.wait_idle().await;
    dialing.wait_idle().await;
    for session in near.iter_mut().chain(&mut far) {
        assert_eq!(session.closed().await, CloseReason::Clean);
        let SessionGauges { rtt, bitrate, max_datagram, .. } = session.gauges();
        let mut none = SessionGauges::default();
        (none.rtt, none.bitrate, none.max_datagram) = (rtt, bitrate, max_datagram);
        assert_eq!(session.gauges(), none);
    }
}
