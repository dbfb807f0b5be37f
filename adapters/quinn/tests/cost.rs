//! The cost of a delivery on WebTransport beyond raw QUIC.

use std::net::Ipv4Addr;
use std::time::Duration;

use smoq::bytes::Bytes;
use smoq::{Client, Origin, Server, Subscription, Track};
use smoq_quinn::config;
use smoq_quinn::smoq_quic::{Carrier, Identity, Trust};

const GROUPS: u64 = 64;
const FRAMES: u64 = 64;

/// How often this thread, on which both ends run, allocates while all frames are delivered.
fn allocations(carrier: Carrier) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let near = Origin::default().produce();
    let far = Origin::default().produce();
    let server = Server::new().with_publish(near.consume());
    let client = Client::new().with_consume(far.clone());
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let trust = Trust::from(identity.fingerprint());
    let listen = config::server(&identity, server.versions()).unwrap();
    let dial = match carrier {
        Carrier::RawQuic => config::client(&trust, client.versions()).unwrap(),
        Carrier::WebTransport => config::webtransport_client(&trust).unwrap(),
    };
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let mut broadcast = near.create_broadcast("live").unwrap();
    let mut track =
        broadcast.create_track(Track::new("video").max_age(Duration::from_secs(3_600))).unwrap();
    let (listening, dialing, mut reader) = runtime.block_on(async {
        let listening = smoq_quinn::listen(any, listen).unwrap().0;
        let dialing = quinn::Endpoint::client(any).unwrap();
        let connecting =
            dialing.connect_with(dial, listening.local_addr().unwrap(), "localhost").unwrap();
        let accepting = listening.clone();
        tokio::spawn(async move {
            let connection = accepting.accept().await.unwrap().await.unwrap();
            let (session, driving) = smoq_quinn::accept(connection, &server).await.unwrap();
            let _ = driving.await;
            drop(session);
        });
        let (session, driving) =
            smoq_quinn::connect(connecting.await.unwrap(), &client).await.unwrap();
        tokio::spawn(async move {
            let _ = driving.await;
            drop(session);
        });
        let there = far.consume().announced_broadcast("live").await.unwrap();
        let want = Subscription::default().max_age(Duration::MAX).start(0);
        let reader = there.subscribe_track("video", want).unwrap();
        track.used().await.unwrap();
        (listening, dialing, reader)
    });
    let payload = Bytes::from_static(&[7; 1_000]);
    let mut deliver = |groups: u64| {
        runtime.block_on(async {
            for n in 0..groups {
                let mut group = track.append_group().unwrap();
                for _ in 0..FRAMES {
                    group.write_frame(n, payload.clone()).unwrap();
                }
                group.finish().unwrap();
                let mut there = reader.recv_group().await.unwrap().unwrap();
                while there.read_frame().await.unwrap().is_some() {}
            }
        });
    };
    deliver(16);
    let counted = allocation_counter::measure(|| deliver(GROUPS)).count_total;
    drop((listening, dialing));
    counted
}

#[test]
fn a_delivery_allocates_no_more_than_on_raw_quic() {
    let [raw, web] = [Carrier::RawQuic, Carrier::WebTransport].map(allocations);
    println!("{raw} allocations on raw QUIC, {web} on WebTransport");
    // Less than one in sixteen frames, and so nothing for each of them.
    assert!(web < raw + GROUPS * FRAMES / 16, "{raw} on raw QUIC, {web} on WebTransport");
}
