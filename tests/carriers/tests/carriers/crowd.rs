//! Many sessions at one listener.

use smoq::{
    Client, Error, Origin, OriginProducer, Server, Session, SessionGauges, Subscription, Version,
    Versions,
};
use smoq_web_transport::{accept, connect};

use crate::carriers::{Tcp, Tested, WebSocket};
use crate::ends::{runtime, within_time};

const SESSIONS: usize = 200;

/// All of them read one track. Half of them are ended by the client and half by the server.
#[test]
fn hundreds_of_sessions_on_web_sockets_leave_nothing() {
    crowds::<WebSocket>();
}

#[test]
fn hundreds_of_sessions_on_tcp_leave_nothing() {
    crowds::<Tcp>();
}

fn crowds<T: Tested + Send + 'static>() {
    let runtime = runtime(false);
    let versions = Versions::from(Version::Lite04);
    let origin = Origin::default().produce();
    let listener = runtime.block_on(T::listen(&versions));
    let crowd = || {
        let crowd = crowd(&listener, &origin, &versions);
        runtime.block_on(within_time(crowd));
    };
    // Tables grow for the first ones, and stay.
    crowd();
    let info = allocation_counter::measure(crowd);
    println!("{} bytes are left of {}", info.bytes_current, info.bytes_max);
    assert!(info.bytes_current < 32 << 10, "{} bytes are left", info.bytes_current);
    assert!(info.bytes_max > 1 << 20, "{} bytes: that is not all of it", info.bytes_max);
}

async fn crowd<T: Tested>(listener: &T, origin: &OriginProducer, versions: &Versions) {
    let server = Server::new().with_publish(origin.consume()).with_versions(versions.clone());
    let mut broadcast = origin.create_broadcast("live").unwrap();
    let mut track = broadcast.create_track("video").unwrap();
    let (mut near, mut far, mut drivings, mut readers) = (vec![], vec![], vec![], vec![]);
    let mut kept = Vec::new();
    for _ in 0..SESSIONS {
        let origin = Origin::default().produce();
        let client = Client::new().with_consume(origin.clone()).with_versions(versions.clone());
        let dialing = T::dial(listener.address(), versions);
        let ((dialed, its), accepted) = tokio::join!(dialing, listener.accept());
        kept.push(its);
        let (session, driving) = connect(dialed, &client, tokio::time::sleep).unwrap();
        near.push(session);
        drivings.push(tokio::spawn(driving));
        let (session, driving) = accept(accepted, &server, tokio::time::sleep).unwrap();
        far.push(session);
        drivings.push(tokio::spawn(driving));
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
    // `qmux` closes its socket with the session. If this machine is busy, a peer may still write, and then it does not read
    // why the session is over.
    let ends = |error: &Error| *error == Error::Disconnected;
    for driving in drivings {
        assert!(driving.await.unwrap().as_ref().err().is_none_or(ends));
    }
    track.unused().await.unwrap();
    for session in near.iter_mut().chain(&mut far) {
        assert!(session.closed().await.into_result().as_ref().err().is_none_or(ends));
        let SessionGauges { rtt, bitrate, max_datagram, .. } = session.gauges();
        let mut none = SessionGauges::default();
        (none.rtt, none.bitrate, none.max_datagram) = (rtt, bitrate, max_datagram);
        assert_eq!(session.gauges(), none);
    }
}
