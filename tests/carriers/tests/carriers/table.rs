//! The cells of the table in the README of `smoq-web-transport`, one test each.
//!
//! One side is a session, and the other one the carrier alone.

use std::time::Duration;

use bytes::Bytes;
use smoq::stream::Code;
use smoq::{
    BroadcastProducer, Error, Goaway, Origin, OriginProducer, Server, Session, Subscription, Track,
    TrackProducer, Version, Versions,
};
use smoq_web_transport::web_transport_trait::{
    Error as _, RecvStream as _, SendStream as _, Session as Carrier,
};
use smoq_web_transport::{PENDING_GROUPS, Reliable, accept};
use tokio::task::JoinHandle;

use crate::carriers::{Kept, Tcp, Tested, pair};
use crate::ends::{bounded, pair_on, runtime};

/// Runs each test on each carrier, in a version without SETUP.
macro_rules! on_each_carrier {
    ($($test:ident)*) => {$(
        mod $test {
            use super::*;

            $crate::table::on_each_carrier! { $test: quinn Quinn; noq Noq; iroh Iroh; tcp Tcp;
                web_socket WebSocket; }
        }
    )*};
    ($test:ident: $($name:ident $kind:ident;)*) => {$(
        #[test]
        fn $name() {
            bounded(super::$test::<$crate::carriers::$kind>(Version::Lite04.into()));
        }
    )*};
}
pub(crate) use on_each_carrier;

on_each_carrier! {
    resets_and_stops_have_codes
    a_request_that_the_peer_stops_or_resets_is_over
    a_write_that_waits_is_reset_when_the_future_is_dropped
    the_code_of_a_close_arrives
    the_code_of_the_peers_close_arrives
    a_lost_peer_is_noticed
    the_peer_is_asked_to_go_away
    a_peer_that_speaks_no_common_version_is_refused
}

/// Stream type and SUBSCRIBE of moq-lite 04: broadcast `live`, a track of five letters, groups of the last 16 s.
fn subscribe(id: u8, track: &str) -> Vec<u8> {
    let head = [&[2, 18, id, 4][..], b"live", &[5], track.as_bytes()].concat();
    [&head[..], &[2, 0, 0x7f, 0xff, 0, 0]].concat()
}

/// A session that serves the carrier on the other side, and publishes two tracks.
struct Served {
    session: Session,
    driving: JoinHandle<Result<(), Error>>,
    _origin: OriginProducer,
    _broadcast: BroadcastProducer,
    video: TrackProducer,
    texts: TrackProducer,
}

fn serve<S: Carrier>(carrier: S, versions: Versions) -> Served {
    let origin = Origin::default().produce();
    let mut broadcast = origin.create_broadcast("live").unwrap();
    let [video, texts] = ["video", "texts"].map(|name| {
        broadcast.create_track(Track::new(name).max_age(Duration::from_secs(60))).unwrap()
    });
    let server = Server::new().with_origin(&origin).with_versions(versions);
    let (session, driving) = accept(carrier, &server, tokio::time::sleep).unwrap();
    let driving = tokio::spawn(driving);
    Served { session, driving, _origin: origin, _broadcast: broadcast, video, texts }
}

async fn resets_and_stops_have_codes<T: Tested + Send + 'static>(versions: Versions) {
    let (raw, far, _kept) = pair::<T>(&versions).await;
    let _served = serve(far, versions);
    let (mut send, mut recv) = raw.open_bi().await.unwrap();
    send.write_all(&subscribe(0, "other")).await.unwrap();
    let reset = recv.read_all().await.unwrap_err();
    assert_eq!(reset.stream_error().map(Into::into), Some(Error::NotFound.stream_code()));

    // A group of a subscription that is not there.
    let mut send = raw.open_uni().await.unwrap();
    send.write_all(&[0, 2, 9, 0]).await.unwrap();
    let stopped = send.closed().await.unwrap_err();
    assert_eq!(stopped.stream_error().map(Into::into), Some(Error::Cancelled.stream_code()));
}

async fn a_request_that_the_peer_stops_or_resets_is_over<T: Tested + Send + 'static>(
    versions: Versions,
) {
    let (raw, far, _kept) = pair::<T>(&versions).await;
    let mut served = serve(far, versions);
    for is_stopped in [true, false] {
        let (mut send, mut recv) = raw.open_bi().await.unwrap();
        send.write_all(&subscribe(is_stopped.into(), "video")).await.unwrap();
        // SUBSCRIBE_OK. After it there is nothing to write.
        assert!(recv.read_chunk(100).await.unwrap().is_some());
        served.video.used().await.unwrap();
        if is_stopped {
            recv.stop(5)
        } else {
            send.reset(6)
        }
        served.video.unused().await.unwrap();
    }
}

async fn a_write_that_waits_is_reset_when_the_future_is_dropped<T: Tested + Send + 'static>(
    versions: Versions,
) {
    let (raw, far, _kept) = pair::<T>(&versions).await;
    let mut served = serve(far, versions);
    let (mut send, _recv) = raw.open_bi().await.unwrap();
    send.write_all(&subscribe(0, "video")).await.unwrap();
    served.video.used().await.unwrap();
    served.video.write_frame(0_u64, vec![7; 32 << 20]).unwrap();
    let mut group = raw.accept_uni().await.unwrap();
    assert!(group.read_chunk(1).await.unwrap().is_some());
    // The carrier takes less than the frame, which the peer does not read.
    served.driving.abort();
    assert!(served.driving.await.unwrap_err().is_cancelled());
    let mut size = 0;
    let end = loop {
        match group.read_chunk(1 << 20).await {
            Ok(Some(chunk)) => size += chunk.len(),
            end => break end,
        }
    };
    assert!(end.is_err(), "a group was cut off after {size} bytes, and looks whole");
}

async fn the_code_of_a_close_arrives<T: Tested + Send + 'static>(versions: Versions) {
    let (raw, far, _kept) = pair::<T>(&versions).await;
    let served = serve(far, versions.clone());
    served.session.close(Error::App(7));
    let code = raw.closed().await.session_error().map(|(code, _)| code);
    assert_eq!(code, T::TELLS_CLOSE.then_some(64 + 7));
    assert_eq!(served.driving.await.unwrap(), Err(Error::App(7)));
    // The code on the wire has a meaning for the peer alone.
    let (_raw, far, _kept) = pair::<T>(&versions).await;
    let served = serve(far, versions);
    served.session.close(Error::NotFound);
    assert_eq!(served.driving.await.unwrap(), Err(Error::NotFound));
}

async fn the_code_of_the_peers_close_arrives<T: Tested + Send + 'static>(versions: Versions) {
    let (raw, far, _kept) = pair::<T>(&versions).await;
    let served = serve(far, versions);
    raw.close(64 + 9, "enough");
    let expected = if T::TELLS_CLOSE { Error::App(9) } else { Error::Disconnected };
    assert_eq!(served.driving.await.unwrap(), Err(expected));
}

async fn a_lost_peer_is_noticed<T: Tested + Send + 'static>(versions: Versions) {
    let listener = T::listen(&versions).await;
    let address = listener.address();
    // A process that ends, as far as the other side sees.
    let (other, offered) = (runtime(true), versions.clone());
    let dialing = other.spawn(async move { T::dial(address, &offered).await });
    let served = serve(listener.accept().await, versions);
    let session = dialing.await.unwrap();
    other.shutdown_background();
    // It holds a second handle of the socket.
    drop(session);
    assert_eq!(served.driving.await.unwrap(), Err(Error::Disconnected));
}

async fn the_peer_is_asked_to_go_away<T: Tested + Send + 'static>(versions: Versions) {
    let (mut drivings, mut near, far) = pair_on(pair::<T>(&versions).await, &versions);
    far.session.go_away(Goaway::default().uri("moqt://other.example")).unwrap();
    let goaway = drivings.run(near.session.going_away()).await.unwrap();
    assert_eq!(goaway.uri.as_deref(), Some("moqt://other.example"));
    drop(near.session);
    assert_eq!(drivings.ended().await, [Ok(()), Ok(())]);
}

async fn a_peer_that_speaks_no_common_version_is_refused<T: Tested + Send + 'static>(
    versions: Versions,
) {
    let (raw, far, _kept) = pair::<T>(&versions).await;
    let server = Server::new().with_versions(Version::Lite06);
    let refused = accept(far, &server, tokio::time::sleep).err();
    assert_eq!(refused, Some(smoq_web_transport::Error::Version));
    let code = raw.closed().await.session_error().map(|(code, _)| Code::from(code));
    assert_eq!(code, T::TELLS_CLOSE.then(|| Error::Version.session_code()));
}

/// Without a protocol the oldest versions agree on one by SETUP.
#[test]
fn qmux_without_a_protocol_begins_with_setup() {
    bounded(async {
        let config = || qmux::tcp::Config::new(qmux::Version::QMux02);
        let listener = Tcp::with(config()).await;
        let dialing = config().connect(listener.address());
        let (near, far) = tokio::join!(dialing, listener.accept());
        let pair = (Reliable(near.unwrap()), far, Box::new(()) as Kept);
        let (mut drivings, near, far) = pair_on(pair, &Versions::default());
        let mut broadcast = near.origin.create_broadcast("live").unwrap();
        let mut video = broadcast.create_track("video").unwrap();
        video.write_frame(0_u64, "hello").unwrap();
        let mut announced = far.origin.consume();
        drivings
            .run(async {
                let live = announced.announced_broadcast("live").await.unwrap();
                let mut video = live.subscribe_track("video", Subscription::default()).unwrap();
                assert_eq!(video.read_frame().await.unwrap().unwrap().payload(), b"hello");
            })
            .await;
        assert_eq!(near.session.version(), Version::Lite02);
        assert_eq!(far.session.version(), Version::Lite02);
    });
}

/// `qmux` lets eight writes wait at a time, for credit of their streams as well.
#[test]
fn groups_without_credit_leave_room_for_requests() {
    bounded(async {
        const GROUPS: usize = 12;
        let versions = Versions::from(Version::Lite04);
        let listener = Tcp::with(Tcp::config(&versions)).await;
        let mut window = qmux::Config::new(qmux::Version::QMux02);
        window.max_stream_data_uni = 2_000;
        let dialing = Tcp::config(&versions).session_config(window).connect(listener.address());
        let (raw, far) = tokio::join!(dialing, listener.accept());
        let raw = raw.unwrap();
        let mut served = serve(far, versions);
        let (mut send, _recv) = raw.open_bi().await.unwrap();
        send.write_all(&subscribe(0, "video")).await.unwrap();
        served.video.used().await.unwrap();
        let frame = Bytes::from(vec![7; 10_000]);
        for n in 0..GROUPS as u64 {
            served.video.write_frame(n, frame.clone()).unwrap();
        }
        let mut groups = Vec::new();
        while groups.len() < PENDING_GROUPS {
            groups.push(raw.accept_uni().await.unwrap());
        }
        for id in 1..4 {
            let (mut send, mut recv) = raw.open_bi().await.unwrap();
            send.write_all(&subscribe(id, "texts")).await.unwrap();
            assert!(recv.read_chunk(100).await.unwrap().is_some(), "SUBSCRIBE_OK");
        }
        served.texts.used().await.unwrap();
        // Each group that is read makes room for another one.
        for n in 0..GROUPS {
            if groups.len() <= n {
                groups.push(raw.accept_uni().await.unwrap());
            }
            assert!(groups[n].read_all().await.unwrap().ends_with(&frame), "{n}");
        }
    });
}

/// moq-lite 06, section 4.2.
#[test]
fn datagrams_go_on_streams_of_a_reliable_carrier() {
    bounded(async {
        let versions = Versions::from(Version::Lite06);
        let (near, far, kept) = pair::<Tcp>(&versions).await;
        assert!(near.0.max_datagram_size() > 1_200 && near.max_datagram_size() == 0);
        let (mut drivings, near, far) = pair_on((near, far, kept), &versions);
        let mut broadcast = near.origin.create_broadcast("live").unwrap();
        let mut video = broadcast.create_track("video").unwrap();
        let mut announced = far.origin.consume();
        drivings
            .run(async {
                let live = announced.announced_broadcast("live").await.unwrap();
                let mut reader = live.subscribe_track("video", Subscription::default()).unwrap();
                video.used().await.unwrap();
                video.write_datagram(0_u64, "hello").unwrap();
                assert_eq!(reader.read_frame().await.unwrap().unwrap().payload(), b"hello");
            })
            .await;
    });
}
