//! Servers do what browsers need.

#![expect(clippy::disallowed_methods, reason = "a peer measures how long it has time")]

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::time::Instant;

use smoq::{
    BroadcastProducer, Client, CloseReason, Origin, OriginConsumer, Server, Session, Subscription,
    Version, Versions,
};
use smoq_blocking::Event;
use smoq_quic::{Identity, LINGER_TIMEOUT, Trust, config};
use smoq_web_transport::connect;
use web_transport_quinn::proto::{ConnectRequest, ConnectResponse, Settings};
use web_transport_quinn::{SessionError, WebTransportError};

use crate::blocking::Host;
use crate::carriers::{Quinn, Tested};
use crate::ends::bounded;

/// A server that publishes a broadcast, and its next session.
struct Hosted<'a> {
    address: SocketAddr,
    live: BroadcastProducer,
    session: Pin<Box<dyn Future<Output = Session> + 'a>>,
}

fn published() -> (OriginConsumer, BroadcastProducer) {
    let origin = Origin::default().produce();
    (origin.consume(), origin.create_broadcast("live").unwrap())
}

fn on_blocking(test: impl AsyncFnOnce(Hosted<'_>)) {
    bounded(async {
        let (origin, live) = published();
        let mut host = Host::on_quic(&Server::new().with_publish(origin));
        let (address, events) = (host.address, &mut host.events);
        let session = Box::pin(async move {
            match events.recv().await {
                Some(Event::Connected { session, .. }) => session,
                other => panic!("{other:?}"),
            }
        });
        test(Hosted { address, live, session }).await;
    });
}

fn on_quinn(test: impl AsyncFnOnce(Hosted<'_>)) {
    bounded(async {
        let (origin, live) = published();
        let server = Server::new().with_publish(origin);
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let tls = config::server(&identity, server.versions()).unwrap();
        let (endpoint, _) = smoq_quinn::listen((Ipv4Addr::LOCALHOST, 0).into(), tls).unwrap();
        let address = endpoint.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            let connection = endpoint.accept().await.unwrap().await.unwrap();
            let (session, driving) = smoq_quinn::accept(connection, &server).await.unwrap();
            tokio::spawn(driving);
            session
        });
        let session = Box::pin(async { accepting.await.unwrap() });
        test(Hosted { address, live, session }).await;
    });
}

/// A page subscribes, and then does nothing. It is sent more than it takes without reading, and the session is drained.
/// Browsers read in a capsule alone why a session is over. `web-transport-quinn` stands for a browser here.
async fn a_page_that_reads_nothing_learns_of_the_end(hosted: Hosted<'_>) {
    let Hosted { address, mut live, session } = hosted;
    let mut video = live.create_track("video").unwrap();
    let seen = Origin::default().produce();
    let client = Client::new().with_consume(seen.clone());
    let (page, _kept) = Quinn::dial(address, client.versions()).await;
    let (_session, driving) = connect(page.clone(), &client, tokio::time::sleep).unwrap();
    let mut driving = pin!(driving);
    let subscribed = async {
        let received = seen.consume().announced_broadcast("live").await.unwrap();
        let reader = received.subscribe_track("video", Subscription::default()).unwrap();
        video.used().await.unwrap();
        (reader, session.await)
    };
    let (_reader, session) = tokio::select! {
        subscribed = subscribed => subscribed,
        end = &mut driving => panic!("{end:?}"),
    };
    video.write_frame(0_u64, vec![7; 8 << 20]).unwrap();
    session.drain();
    let end = page.closed().await;
    let SessionError::WebTransportError(WebTransportError::Closed(0, _)) = end else {
        panic!("{end:?}");
    };
    // A client that has read the capsule closes the connection.
    assert_eq!(quinn::Connection::closed(&page).await, quinn::ConnectionError::LocallyClosed);
}

/// A browser that answers the capsule, and still has to tell its page, as Chromium does. It leaves the connection to the
/// server.
async fn a_page_has_time_to_learn_of_the_end(hosted: Hosted<'_>) {
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let config = config::webtransport_client(&Trust::Insecure).unwrap();
    let dialing = endpoint.connect_with(config, hosted.address, "localhost").unwrap();
    let connection = dialing.await.unwrap();
    let mut control = connection.open_uni().await.unwrap();
    let mut settings = Settings::default();
    settings.enable_webtransport(1);
    settings.write(&mut control).await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let url: url::Url = format!("https://{}/", hosted.address).parse().unwrap();
    let request = ConnectRequest::new(url).with_protocol("moq-lite-04");
    request.write(&mut send).await.unwrap();
    let response = ConnectResponse::read(&mut recv).await.unwrap();
    assert_eq!(response.protocol.as_deref(), Some("moq-lite-04"));

    hosted.session.await.close(smoq::Error::Unauthorized);
    recv.read_to_end(100).await.unwrap();
    let answered = Instant::now();
    send.finish().unwrap();
    let end = connection.closed().await;
    assert!(matches!(end, quinn::ConnectionError::ApplicationClosed(_)), "{end:?}");
    assert!(answered.elapsed() >= LINGER_TIMEOUT, "{:?}", answered.elapsed());
}

/// A page leaves. Browsers reset all streams of the session then, and the reset of a control stream may arrive before the
/// capsule that ends the session. These are the drafts with requests on that stream, and their CLIENT_SETUP.
const LEAVING: [(Version, &[u8]); 3] = [
    (Version::Moqt14, &[0x20, 0, 10, 1, 0xc0, 0, 0, 0, 0xff, 0, 0, 14, 0]),
    (Version::Moqt15, &[0x20, 0, 1, 0]),
    (Version::Moqt16, &[0x20, 0, 1, 0]),
];

async fn a_page_that_leaves_breaks_no_rule(hosted: Hosted<'_>, version: Version, setup: &[u8]) {
    let (page, _kept) = Quinn::dial(hosted.address, &Versions::from(version)).await;
    let (mut send, mut recv) = page.open_bi().await.unwrap();
    send.write_all(setup).await.unwrap();
    // It is answered.
    recv.read_exact(&mut [0]).await.unwrap();
    let mut session = hosted.session.await;
    assert_eq!(session.version(), version);
    let acks = quinn::Connection::stats(&page).frame_rx.acks;
    send.reset(0).unwrap();
    recv.stop(0).unwrap();
    // They have arrived, and the end has not.
    while quinn::Connection::stats(&page).frame_rx.acks < acks + 1 {
        tokio::task::yield_now().await;
    }
    page.close(0, b"");
    assert_eq!(session.closed().await, CloseReason::Clean, "{version}");
}

#[test]
fn a_page_that_leaves_breaks_no_rule_of_smoq_blocking() {
    for (version, setup) in LEAVING {
        on_blocking(async |hosted| a_page_that_leaves_breaks_no_rule(hosted, version, setup).await);
    }
}

#[test]
fn a_page_that_leaves_breaks_no_rule_of_smoq_quinn() {
    for (version, setup) in LEAVING {
        on_quinn(async |hosted| a_page_that_leaves_breaks_no_rule(hosted, version, setup).await);
    }
}

#[test]
fn a_page_that_reads_nothing_learns_of_the_end_from_smoq_blocking() {
    on_blocking(a_page_that_reads_nothing_learns_of_the_end);
}

#[test]
fn a_page_that_reads_nothing_learns_of_the_end_from_smoq_quinn() {
    on_quinn(a_page_that_reads_nothing_learns_of_the_end);
}

#[test]
fn a_page_has_time_to_learn_of_the_end_from_smoq_blocking() {
    on_blocking(a_page_has_time_to_learn_of_the_end);
}

#[test]
fn a_page_has_time_to_learn_of_the_end_from_smoq_quinn() {
    on_quinn(a_page_has_time_to_learn_of_the_end);
}
