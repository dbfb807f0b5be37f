//! Servers do what browsers need. `web-transport-quinn` stands for a browser here.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;

use smoq::{Client, Origin, OriginConsumer, Server, Session, Subscription, TrackProducer};
use smoq_blocking::Event;
use smoq_quic::{Identity, config};
use smoq_web_transport::connect;
use web_transport_quinn::{SessionError, WebTransportError};

use crate::blocking::Host;
use crate::carriers::{Quinn, Tested};
use crate::ends::bounded;

/// A page subscribes, and then does nothing. It is sent more than it takes without reading, and the session is drained.
/// Browsers read in a capsule alone why a session is over.
async fn a_page_that_reads_nothing_learns_of_the_end(
    address: SocketAddr,
    mut video: TrackProducer,
    session: impl AsyncFnOnce() -> Session,
) {
    let seen = Origin::default().produce();
    let client = Client::new().with_consume(seen.clone());
    let (page, _kept) = Quinn::dial(address, client.versions()).await;
    let (_session, driving) = connect(page.clone(), &client, tokio::time::sleep).unwrap();
    let mut driving = pin!(driving);
    let subscribed = async {
        let live = seen.consume().announced_broadcast("live").await.unwrap();
        let reader = live.subscribe_track("video", Subscription::default()).unwrap();
        video.used().await.unwrap();
        (reader, session().await)
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

fn published(test: impl AsyncFnOnce(OriginConsumer, TrackProducer)) {
    bounded(async {
        let origin = Origin::default().produce();
        let mut live = origin.create_broadcast("live").unwrap();
        test(origin.consume(), live.create_track("video").unwrap()).await;
    });
}

#[test]
fn a_page_that_reads_nothing_learns_of_the_end_from_smoq_blocking() {
    published(async |origin, video| {
        let mut host = Host::on_quic(&Server::new().with_publish(origin));
        let (address, events) = (host.address, &mut host.events);
        let session = async move || match events.recv().await {
            Some(Event::Connected { session, .. }) => session,
            other => panic!("{other:?}"),
        };
        a_page_that_reads_nothing_learns_of_the_end(address, video, session).await;
    });
}

#[test]
fn a_page_that_reads_nothing_learns_of_the_end_from_smoq_quinn() {
    published(async |origin, video| {
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
        let session = async move || accepting.await.unwrap();
        a_page_that_reads_nothing_learns_of_the_end(address, video, session).await;
    });
}
