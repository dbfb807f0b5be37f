//! Sessions over QUIC on loopback, both ends of each on one thread: time and allocations per delivery, including those of
//! quinn, which all of them run on. Also the deliveries of two threads divided by those of one, and the time that a delivery
//! takes on two: all sessions share the track, and each thread has half of them.
//!
//! A group is written when all viewers have read the one before.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use smoq_quinn::smoq_quic::{Identity, Trust, tls};
use tokio::sync::{Notify, oneshot};

use super::{Count, FRAMES, Load, MOQ_LITE, MOQ_NET, runtime};
use crate::case::{Case, higher, lower};

/// The newest version that both sides of a row speak: moq-net and smoq.
const LITE_05: &str = "moq-lite-05";
/// The newest version of moq-lite 0.16.
const LITE_04: &str = "moq-lite-04";
/// Nothing is too old.
const MAX_AGE: Duration = Duration::from_secs(30);
/// Subscriptions arrive at the publisher before the first group.
const SETTLE: Duration = Duration::from_millis(100);

pub(crate) fn cases(quick: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    let load = |viewers| {
        let groups = if quick { 3 } else { 4_000 / (viewers as u64 + 3) };
        Load { readers: viewers, groups }
    };
    for viewers in [1, 10] {
        let load = load(viewers);
        let units = [
            ("sessions", Count::Nanoseconds, "ns/delivery"),
            ("allocations/sessions", Count::Allocations, "allocations/delivery"),
        ];
        for (name, count, unit) in units {
            cases.push(
                Case::new(format!("{name}/{viewers}"), [lower("", unit)])
                    .side("smoq", move || Ok(vec![measure::<Smoq>(load, count, 1)?]))
                    .side(MOQ_NET, move || Ok(vec![measure::<MoqNet>(load, count, 1)?]))
                    .side(MOQ_LITE, move || Ok(vec![measure::<MoqLite>(load, count, 1)?])),
            );
        }
    }
    let load = load(10);
    cases.push(
        Case::new("sessions/two-cores", [higher("speed-up", "x"), lower("time", "ns/delivery")])
            .side("smoq", move || on_two_cores::<Smoq>(load))
            .side(MOQ_NET, move || on_two_cores::<MoqNet>(load))
            .side(MOQ_LITE, move || on_two_cores::<MoqLite>(load)),
    );
    cases
}

/// Frames that all viewers together have read.
#[derive(Clone, Default)]
struct Delivered(Arc<(AtomicU64, Notify)>);

impl Delivered {
    fn add_frame(&self) {
        self.0.0.fetch_add(1, Relaxed);
    }

    /// A viewer has read a group to its end.
    fn end_of_group(&self) {
        self.0.1.notify_one();
    }

    async fn reach(&self, frames: u64) {
        while self.0.0.load(Relaxed) < frames {
            self.0.1.notified().await;
        }
    }
}

/// A server and its address, and the configuration of clients, for one version.
fn quic(alpn: &str) -> Result<(quinn::Endpoint, SocketAddr, quinn::ClientConfig)> {
    use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};

    let identity = Identity::self_signed(["localhost"])?;
    let alpns = || [alpn];
    let tls = tls::server(&identity, alpns())?;
    let transport = Arc::new(smoq_quinn::config::transport());
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    server.transport_config(transport.clone());
    let endpoint = quinn::Endpoint::server(server, ([127, 0, 0, 1], 0).into())?;
    let tls = tls::client(&Trust::from(identity.fingerprint()), alpns())?;
    let mut client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    client.transport_config(transport);
    let addr = endpoint.local_addr()?;
    Ok((endpoint, addr, client))
}

/// A client's connection from a socket of its own, and the server's end of it.
async fn connect(
    server: &quinn::Endpoint,
    addr: SocketAddr,
    config: &quinn::ClientConfig,
) -> Result<(quinn::Connection, quinn::Connection)> {
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into())?;
    let dialing = endpoint.connect_with(config.clone(), addr, "localhost")?;
    let accepting = async { anyhow::Ok(server.accept().await.expect("it is open").await?) };
    let (client, server) = tokio::join!(dialing, accepting);
    Ok((client?, server?))
}

/// A publisher of one track.
trait Publisher: Sized {
    /// Serves the track.
    type Origin: Clone + Send;
    /// Keeps sessions alive.
    type Sessions;

    async fn publish() -> Result<(Self, Self::Origin)>;

    fn write(&mut self, group: u64, payload: &Bytes);

    /// Makes sessions whose viewers read the track, both ends on this thread.
    async fn view(
        origin: Self::Origin,
        viewers: usize,
        delivered: &Delivered,
    ) -> Result<Self::Sessions>;
}

fn on_two_cores<P: Publisher>(load: Load) -> Result<Vec<f64>> {
    let time = |threads| measure::<P>(load, Count::Nanoseconds, threads);
    let (one, two) = (time(1)?, time(2)?);
    Ok(vec![one / two, two])
}

/// Time or allocations by delivery, where each thread has an equal part of the viewers.
fn measure<P: Publisher>(load: Load, count: Count, threads: usize) -> Result<f64> {
    let delivered = Delivered::default();
    let (viewers, payload, runtime) = (load.readers / threads, load.payload(), runtime());
    let (mut publisher, origin) = runtime.block_on(P::publish())?;
    thread::scope(|scope| {
        let others = (1..threads).map(|_| {
            let (origin, delivered) = (origin.clone(), &delivered);
            let (ready, is_ready) = oneshot::channel();
            let (stop, stopped) = oneshot::channel::<()>();
            scope.spawn(move || {
                super::runtime().block_on(async {
                    let sessions = P::view(origin, viewers, delivered).await;
                    let _ = ready.send(sessions.as_ref().map(drop).map_err(|it| it.to_string()));
                    let _ = stopped.await;
                });
            });
            (is_ready, stop)
        });
        let others: Vec<_> = others.collect();
        let _sessions = runtime.block_on(async {
            let sessions = P::view(origin.clone(), viewers, &delivered).await?;
            let mut stops = Vec::new();
            for (is_ready, stop) in others {
                is_ready.await?.map_err(anyhow::Error::msg)?;
                stops.push(stop);
            }
            tokio::time::sleep(SETTLE).await;
            anyhow::Ok((sessions, stops))
        })?;
        Ok(load.measure(count, |n| {
            runtime.block_on(async {
                publisher.write(n, &payload);
                delivered.reach((n + 1) * FRAMES * load.readers as u64).await;
            });
        }))
    })
}

struct Smoq {
    track: smoq::TrackProducer,
    _broadcast: smoq::BroadcastProducer,
}

impl Publisher for Smoq {
    type Origin = smoq::OriginConsumer;
    type Sessions = Vec<(quinn::Endpoint, [smoq::Session; 2], smoq::OriginProducer)>;

    async fn publish() -> Result<(Self, Self::Origin)> {
        let origin = smoq::Origin::default().produce();
        let mut broadcast = origin.create_broadcast("live")?;
        let track = broadcast.create_track("video")?;
        Ok((Self { track, _broadcast: broadcast }, origin.consume()))
    }

    fn write(&mut self, n: u64, payload: &Bytes) {
        let mut group = self.track.append_group().unwrap();
        for frame in 0..FRAMES {
            group.write_frame(Load::timestamp(n, frame), payload.clone()).unwrap();
        }
        group.finish().unwrap();
    }

    async fn view(
        origin: Self::Origin,
        viewers: usize,
        delivered: &Delivered,
    ) -> Result<Self::Sessions> {
        async fn read(mut track: smoq::TrackConsumer, delivered: Delivered) {
            while let Ok(Some(mut group)) = track.recv_group().await {
                while let Ok(Some(frame)) = group.read_frame().await {
                    std::hint::black_box(frame);
                    delivered.add_frame();
                }
                delivered.end_of_group();
            }
        }

        let (endpoint, addr, config) = quic(LITE_05)?;
        let server = smoq::Server::new().with_publish(origin);
        let mut sessions = Vec::new();
        for _ in 0..viewers {
            let received = smoq::Origin::default().produce();
            let client = smoq::Client::new().with_consume(received.clone());
            let (ours, theirs) = connect(&endpoint, addr, &config).await?;
            let (viewing, driving) = smoq_quinn::connect(ours, &client).await?;
            tokio::spawn(driving);
            let (serving, driving) = smoq_quinn::accept(theirs, &server).await?;
            tokio::spawn(driving);
            let broadcast = received.consume().announced_broadcast("live").await;
            let broadcast = broadcast.expect("it is announced");
            let want = smoq::Subscription::default().max_age(MAX_AGE);
            tokio::spawn(read(broadcast.subscribe_track("video", want)?, delivered.clone()));
            sessions.push((endpoint.clone(), [viewing, serving], received));
        }
        Ok(sessions)
    }
}

struct MoqNet {
    track: moq_net::track::Producer,
    _kept: (moq_net::broadcast::Producer, moq_net::origin::Producer),
}

impl MoqNet {
    fn origin() -> moq_net::origin::Producer {
        use moq_net::{Hop, origin, time};

        let (origin, driver) = origin::Producer::new(origin::Config::new(Hop::random()));
        tokio::spawn(time::run(driver));
        origin
    }
}

impl Publisher for MoqNet {
    type Origin = moq_net::origin::Consumer;
    type Sessions = Vec<(quinn::Endpoint, [moq_net::Session; 2], moq_net::origin::Producer)>;

    async fn publish() -> Result<(Self, Self::Origin)> {
        use moq_net::{Timescale, origin, track};

        let origin = Self::origin();
        let broadcast = origin.create_broadcast("live")?;
        let info = track::Info::default().with_timescale(Timescale::MILLI).with_max_age(MAX_AGE);
        let track = broadcast.create_track("video", info)?;
        broadcast.announce(origin::Route::default())?;
        let consumer = origin.consume();
        Ok((Self { track, _kept: (broadcast, origin) }, consumer))
    }

    fn write(&mut self, n: u64, payload: &Bytes) {
        let mut group = self.track.append_group().unwrap();
        for frame in 0..FRAMES {
            let timestamp = moq_net::Timestamp::from_millis(Load::timestamp(n, frame)).unwrap();
            group.write_frame(timestamp, payload.clone()).unwrap();
        }
        group.finish().unwrap();
    }

    async fn view(
        origin: Self::Origin,
        viewers: usize,
        delivered: &Delivered,
    ) -> Result<Self::Sessions> {
        use moq_net::{time, track};

        async fn read(
            _broadcast: moq_net::broadcast::Consumer,
            mut track: track::Subscriber,
            delivered: Delivered,
        ) {
            while let Ok(Some(mut group)) = track.recv_group().await {
                while let Ok(Some(frame)) = group.read_frame().await {
                    std::hint::black_box(frame);
                    delivered.add_frame();
                }
                delivered.end_of_group();
            }
        }

        let (endpoint, addr, config) = quic(LITE_05)?;
        let version = moq_net::Version::from_alpn(LITE_05).context("a known version")?;
        let server =
            moq_net::Server::new().with_versions(vec![version].into()).with_publisher(origin);
        let mut sessions = Vec::new();
        for _ in 0..viewers {
            let received = Self::origin();
            let client = moq_net::Client::new()
                .with_versions(vec![version].into())
                .with_subscriber(received.clone());
            let (ours, theirs) = connect(&endpoint, addr, &config).await?;
            let now = std::time::Instant::now();
            // Each side needs the other's driver to get through its handshake.
            let viewing = async {
                let (session, driver) = client.connect(now, wtq_net03::Session::raw(ours)).await?;
                tokio::spawn(time::run(driver));
                Ok::<_, moq_net::Error>(session)
            };
            let serving = async {
                let (session, driver) = server.accept(now, wtq_net03::Session::raw(theirs)).await?;
                tokio::spawn(time::run(driver));
                Ok::<_, moq_net::Error>(session)
            };
            let (viewing, serving) = tokio::join!(viewing, serving);
            let broadcast = received.consume().routed_broadcast("live").await?;
            let want = track::Subscription::default().with_max_age(MAX_AGE);
            let subscribed = broadcast.track("video")?.subscribe(want).await?;
            tokio::spawn(read(broadcast, subscribed, delivered.clone()));
            sessions.push((endpoint.clone(), [viewing?, serving?], received));
        }
        Ok(sessions)
    }
}

struct MoqLite {
    track: moq_lite::TrackProducer,
    _kept: (moq_lite::BroadcastProducer, moq_lite::OriginProducer),
}

impl Publisher for MoqLite {
    type Origin = moq_lite::OriginConsumer;
    type Sessions = Vec<(
        quinn::Endpoint,
        [moq_lite::Session; 2],
        moq_lite::OriginProducer,
        moq_lite::BroadcastConsumer,
    )>;

    async fn publish() -> Result<(Self, Self::Origin)> {
        let origin = moq_lite::Origin::random().produce();
        let mut broadcast = moq_lite::Broadcast::new().produce();
        let track = broadcast.create_track(moq_lite::Track::new("video"))?;
        origin.publish_broadcast("live", broadcast.consume());
        let consumer = origin.consume();
        Ok((Self { track, _kept: (broadcast, origin) }, consumer))
    }

    fn write(&mut self, _: u64, payload: &Bytes) {
        let mut group = self.track.append_group().unwrap();
        for _ in 0..FRAMES {
            group.write_frame(payload.clone()).unwrap();
        }
        group.finish().unwrap();
    }

    async fn view(
        origin: Self::Origin,
        viewers: usize,
        delivered: &Delivered,
    ) -> Result<Self::Sessions> {
        use wtq_lite016::proto::{ConnectRequest, ConnectResponse};

        async fn read(mut track: moq_lite::TrackConsumer, delivered: Delivered) {
            while let Ok(Some(mut group)) = track.recv_group().await {
                while let Ok(Some(frame)) = group.read_frame().await {
                    std::hint::black_box(frame);
                    delivered.add_frame();
                }
                delivered.end_of_group();
            }
        }

        /// This release of the carrier wants the answer to a CONNECT, also on raw QUIC.
        fn transport(connection: quinn::Connection) -> Result<wtq_lite016::Session> {
            let url: url::Url = "moqt://localhost".parse()?;
            let request = ConnectRequest::new(url).with_protocol(LITE_04);
            let response = ConnectResponse::OK.with_protocol(LITE_04);
            Ok(wtq_lite016::Session::raw(connection, request, response))
        }

        let (endpoint, addr, config) = quic(LITE_04)?;
        let version = moq_lite::Version::from_alpn(LITE_04).context("a known version")?;
        let server =
            moq_lite::Server::new().with_versions(vec![version].into()).with_publish(origin);
        let mut sessions = Vec::new();
        for _ in 0..viewers {
            let received = moq_lite::Origin::random().produce();
            let client = moq_lite::Client::new()
                .with_versions(vec![version].into())
                .with_consume(received.clone());
            let (ours, theirs) = connect(&endpoint, addr, &config).await?;
            let (viewing, serving) =
                tokio::join!(client.connect(transport(ours)?), server.accept(transport(theirs)?));
            let broadcast = received.consume().announced_broadcast("live").await;
            let broadcast = broadcast.expect("it is announced");
            let subscribed = broadcast.subscribe_track(&moq_lite::Track::new("video"))?;
            tokio::spawn(read(subscribed, delivered.clone()));
            sessions.push((endpoint.clone(), [viewing?, serving?], received, broadcast));
        }
        Ok(sessions)
    }
}
