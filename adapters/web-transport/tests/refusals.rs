//! Carriers that refuse to open a stream while the peer allows no more, instead of waiting, as browsers do.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use smoq::{Client, Origin, Server, Subscription, Version};
use smoq_web_transport::web_transport_trait::{MaybeSend, Session, Stats};
use smoq_web_transport::{accept, connect};

/// Refuses the first `left` streams of each kind. `asked` counts all attempts.
#[derive(Clone)]
struct Refusing {
    inner: qmux::Session,
    left: [Arc<AtomicUsize>; 2],
    asked: Arc<AtomicUsize>,
}

impl Refusing {
    fn new(inner: qmux::Session, times: usize) -> Self {
        let left = [times, times].map(|times| Arc::new(AtomicUsize::new(times)));
        Self { inner, left, asked: Arc::default() }
    }

    fn ask(&self, kind: usize) -> Result<(), qmux::Error> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let less = |left: usize| left.checked_sub(1);
        match self.left[kind].fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(_) => Err(qmux::Error::StreamLimitExceeded),
            Err(_) => Ok(()),
        }
    }
}

impl Session for Refusing {
    type SendStream = qmux::SendStream;
    type RecvStream = qmux::RecvStream;
    type Error = qmux::Error;

    fn accept_uni(
        &self,
    ) -> impl Future<Output = Result<Self::RecvStream, qmux::Error>> + MaybeSend {
        self.inner.accept_uni()
    }

    fn accept_bi(
        &self,
    ) -> impl Future<Output = Result<(Self::SendStream, Self::RecvStream), qmux::Error>> + MaybeSend
    {
        self.inner.accept_bi()
    }

    async fn open_bi(&self) -> Result<(Self::SendStream, Self::RecvStream), qmux::Error> {
        self.ask(0)?;
        self.inner.open_bi().await
    }

    async fn open_uni(&self) -> Result<Self::SendStream, qmux::Error> {
        self.ask(1)?;
        self.inner.open_uni().await
    }

    fn send_datagram(&self, payload: Bytes) -> Result<(), qmux::Error> {
        self.inner.send_datagram(payload)
    }

    fn recv_datagram(&self) -> impl Future<Output = Result<Bytes, qmux::Error>> + MaybeSend {
        self.inner.recv_datagram()
    }

    fn max_datagram_size(&self) -> usize {
        0
    }

    fn protocol(&self) -> Option<&str> {
        self.inner.protocol()
    }

    fn close(&self, code: u32, reason: &str) {
        self.inner.close(code, reason);
    }

    fn closed(&self) -> impl Future<Output = qmux::Error> + MaybeSend {
        self.inner.closed()
    }

    fn stats(&self) -> impl Stats {
        self.inner.stats()
    }
}

/// Two ends of one connection, the client's first, each of which refuses so many streams.
async fn pair(times: usize) -> (Refusing, Refusing) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = qmux::tcp::Config::new(qmux::Version::QMux02).protocols([Version::Lite06.alpn()]);
    let accepting = config.clone();
    let accepted = async move { accepting.accept(listener.accept().await.unwrap().0).await };
    let (near, far) = tokio::join!(config.connect(address), accepted);
    (Refusing::new(near.unwrap(), times), Refusing::new(far.unwrap(), times))
}

#[tokio::test]
async fn streams_that_were_refused_are_opened_later() {
    let (near, far) = pair(3).await;
    let asked = [near.asked.clone(), far.asked.clone()];
    let published = Origin::default().produce();
    let mut broadcast = published.create_broadcast("room").unwrap();
    let mut track = broadcast.create_track("chat").unwrap();
    let server = Server::new().with_publish(published.consume());
    let (_server, driving) = accept(far, &server, tokio::time::sleep).unwrap();
    tokio::spawn(driving);

    let received = Origin::default().produce();
    let mut broadcasts = received.consume();
    let client = Client::new().with_consume(received);
    let (session, driving) = connect(near, &client, tokio::time::sleep).unwrap();
    let driving = tokio::spawn(driving);
    let read = async {
        let room = broadcasts.announced_broadcast("room").await.unwrap();
        let mut chat = room.subscribe_track("chat", Subscription::default()).unwrap();
        for text in ["one", "two"] {
            track.write_frame(0, text).unwrap();
            let frame = chat.read_frame().await.unwrap().unwrap();
            assert_eq!(frame.payload(), text.as_bytes());
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("nothing was asked again");
    drop(session);
    assert_eq!(driving.await.unwrap(), Ok(()));
    // Each kind of stream was refused where it is opened: requests by the client, groups by the server.
    assert!(asked.iter().all(|asked| asked.load(Ordering::Relaxed) > 3));
}

#[tokio::test]
async fn a_carrier_that_refuses_for_ever_is_asked_seldom() {
    let (near, _far) = pair(usize::MAX).await;
    let asked = near.asked.clone();
    let client = Client::new().with_consume(Origin::default().produce());
    let (session, mut driving) = connect(near, &client, tokio::time::sleep).unwrap();
    let half = tokio::time::timeout(Duration::from_millis(500), &mut driving).await;
    assert!(half.is_err(), "{half:?}");
    let asked = asked.load(Ordering::Relaxed);
    assert!((2..=20).contains(&asked), "asked {asked} times");
    drop(session);
    assert_eq!(driving.await, Ok(()));
}
