//! A blocking endpoint that clients on `qmux` join by WebSocket.

#![expect(clippy::disallowed_methods, reason = "the endpoint blocks a thread of its own")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use smoq::{
    Client, CloseReason, Error, Origin, OriginProducer, Server, Subscription, Version, Versions,
};
use smoq_blocking::{Budget, Endpoint, Event, config};
use smoq_quic::Identity;
use smoq_web_transport::connect;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::carriers::dial_web_socket;
use crate::ends::bounded;

/// An endpoint on a thread of its own, which reports its events.
pub(crate) struct Host {
    pub(crate) address: SocketAddr,
    pub(crate) events: UnboundedReceiver<Event>,
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    fn new(origin: &OriginProducer, received: &OriginProducer) -> Self {
        let every: Versions = Version::known().collect();
        let server = Server::new().with_publish(origin.consume()).with_consume(received.clone());
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind(any).unwrap();
        let address = listener.local_addr().unwrap();
        let mut net = Endpoint::new(any).unwrap();
        net.listen_web_socket(listener, &server.with_versions(every)).unwrap();
        Self::of(net, address)
    }

    /// Clients join by QUIC.
    pub(crate) fn on_quic(server: &Server) -> Self {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let tls = config::server(&identity, server.versions()).unwrap();
        let net = Endpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), tls, server).unwrap();
        let address = net.local_addr().unwrap();
        Self::of(net, address)
    }

    fn of(mut net: Endpoint, address: SocketAddr) -> Self {
        let (report, events) = unbounded_channel();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let is_stopped = is_stopped.clone();
            move || {
                while !is_stopped.load(Ordering::Relaxed) {
                    net.step(Budget::items(1_000)).unwrap();
                    while let Some(event) = net.poll_event() {
                        let _ = report.send(event);
                    }
                    net.wait(Some(Duration::from_millis(10))).unwrap();
                }
            }
        });
        Self { address, events, is_stopped, thread: Some(thread) }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Both sides publish, more than `qmux` has credit for at a time, and the client closes.
#[test]
fn a_client_on_qmux_joins_in_every_version() {
    for (n, version) in Version::known().enumerate() {
        bounded(joins(version, ["qmux-02", "qmux-01"][n % 2]));
    }
}

async fn joins(version: Version, format: &str) {
    let [world, visitors, mine, seen] = [(); 4].map(|()| Origin::default().produce());
    let mut host = Host::new(&world, &visitors);
    let mut live = world.create_broadcast("live").unwrap();
    let mut video = live.create_track("video").unwrap();
    let client = Client::new().with_publish(mine.consume()).with_consume(seen.clone());
    let client = client.with_versions(version);
    let carrier = dial_web_socket(host.address, client.versions(), format).await;
    let (session, driving) = connect(carrier, &client, tokio::time::sleep).unwrap();
    let driving = tokio::spawn(driving);
    let Some(Event::Connected { session: there, .. }) = host.events.recv().await else {
        panic!("no session");
    };

    let live = seen.consume().announced_broadcast("live").await.unwrap();
    let mut reader = live.subscribe_track("video", Subscription::default()).unwrap();
    video.used().await.unwrap();
    for size in [3 << 20, 0, 1, 40_000] {
        video.write_frame(0_u64, vec![7; size]).unwrap();
        let frame = reader.read_frame().await.unwrap().unwrap();
        assert!(frame.payload() == vec![7; size], "{version}, {size}");
    }
    let mut mouse = mine.create_broadcast("mouse").unwrap();
    let mut position = mouse.create_track("position").unwrap();
    let mouse = visitors.consume().announced_broadcast("mouse").await.unwrap();
    let mut reader = mouse.subscribe_track("position", Subscription::default()).unwrap();
    position.used().await.unwrap();
    for size in [3 << 20, 8] {
        position.write_frame(0_u64, vec![8; size]).unwrap();
        let frame = reader.read_frame().await.unwrap().unwrap();
        assert!(frame.payload() == vec![8; size], "{version}, {size}");
    }
    assert_eq!(there.version(), version);

    let error = if format == "qmux-02" { Error::SessionClosed } else { Error::App(7) };
    session.close(error.clone());
    let Some(Event::Closed { reason, .. }) = host.events.recv().await else { panic!("no end") };
    assert_eq!(reason, CloseReason::from(error.clone()));
    assert_eq!(driving.await.unwrap(), reason.into_result());
}

/// The server closes, with an error or after everything was read.
#[test]
fn a_client_on_qmux_learns_of_the_end() {
    for error in [Error::SessionClosed, Error::Unauthorized] {
        bounded(async {
            let [world, visitors, seen] = [(); 3].map(|()| Origin::default().produce());
            let mut host = Host::new(&world, &visitors);
            let mut live = world.create_broadcast("live").unwrap();
            let mut video = live.create_track("video").unwrap();
            let client = Client::new().with_consume(seen.clone());
            let carrier = dial_web_socket(host.address, client.versions(), "qmux-02").await;
            let (_session, driving) = connect(carrier, &client, tokio::time::sleep).unwrap();
            let driving = tokio::spawn(driving);
            let Some(Event::Connected { session, .. }) = host.events.recv().await else {
                panic!("no session");
            };
            let live = seen.consume().announced_broadcast("live").await.unwrap();
            let mut reader = live.subscribe_track("video", Subscription::default()).unwrap();
            video.used().await.unwrap();
            video.write_frame(0_u64, vec![7; 1 << 20]).unwrap();
            if error == Error::SessionClosed {
                video.finish().unwrap();
                session.drain();
                let frame = reader.read_frame().await.unwrap().unwrap();
                assert!(frame.payload() == vec![7; 1 << 20]);
                assert_eq!(driving.await.unwrap(), Ok(()));
            } else {
                session.close(error.clone());
                assert_eq!(driving.await.unwrap(), Err(error.clone()));
            }
            let Some(Event::Closed { reason, .. }) = host.events.recv().await else {
                panic!("no end");
            };
            assert_eq!(reason, CloseReason::from(error.clone()));
        });
    }
}
