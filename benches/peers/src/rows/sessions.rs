//! Sessions over QUIC on loopback, publisher and viewers on one thread: time and allocations per delivery, including those
//! of quinn, which all of them run on.
//!
//! A group is written when all viewers have read the one before.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result};
use smoq_quinn::smoq_quic::{Identity, Trust, tls};
use tokio::sync::Notify;

use super::{Count, FRAMES, Load, MOQ_LITE, MOQ_NET, runtime};
use crate::case::{Case, lower};

/// The newest version that both sides of a row speak: moq-net and smoq.
const LITE_05: &str = "moq-lite-05";
/// The newest version of moq-lite 0.16.
const LITE_04: &str = "moq-lite-04";
/// Nothing is too old.
const MAX_AGE: Duration = Duration::from_secs(30);

pub(crate) fn cases(quick: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for viewers in [1, 10] {
        let groups = if quick { 3 } else { 4_000 / (viewers as u64 + 3) };
        let load = Load { readers: viewers, groups };
        let units = [
            ("sessions", Count::Nanoseconds, "ns/delivery"),
            ("allocations/sessions", Count::Allocations, "allocations/delivery"),
        ];
        for (name, count, unit) in units {
            cases.push(
                Case::new(format!("{name}/{viewers}"), [lower("", unit)])
                    .side("smoq", move || Ok(vec![smoq(load, count)?]))
                    .side(MOQ_NET, move || Ok(vec![moq_net(load, count)?]))
                    .side(MOQ_LITE, move || Ok(vec![moq_lite(load, count)?])),
            );
        }
    }
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

fn smoq(load: Load, count: Count) -> Result<f64> {
    async fn read(mut track: smoq::TrackConsumer, delivered: Delivered) {
        while let Ok(Some(mut group)) = track.recv_group().await {
            while let Ok(Some(frame)) = group.read_frame().await {
                std::hint::black_box(frame);
                delivered.add_frame();
            }
            delivered.end_of_group();
        }
    }

    let runtime = runtime();
    let origin = smoq::Origin::default().produce();
    let mut broadcast = origin.create_broadcast("live")?;
    let mut track = broadcast.create_track("video")?;
    let delivered = Delivered::default();
    let kept = runtime.block_on(async {
        let (endpoint, addr, config) = quic(LITE_05)?;
        let server = smoq::Server::new().with_publish(origin.consume());
        let mut kept = Vec::new();
        for _ in 0..load.readers {
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
            kept.push((viewing, serving, received));
        }
        tokio::time::sleep(SETTLE).await;
        anyhow::Ok((endpoint, kept))
    })?;
    let payload = load.payload();
    let figure = load.measure(count, |n| {
        runtime.block_on(async {
            let mut group = track.append_group().unwrap();
            for frame in 0..FRAMES {
                group.write_frame(Load::timestamp(n, frame), payload.clone()).unwrap();
            }
            group.finish().unwrap();
            delivered.reach((n + 1) * FRAMES * load.readers as u64).await;
        });
    });
    drop(kept);
    Ok(figure)
}

/// Subscriptions arrive at the publisher before the first group.
const SETTLE: Duration = Duration::from_millis(100);

fn moq_net(load: Load, count: Count) -> Result<f64> {
    use moq_net::{Hop, Timescale, Timestamp, origin, time, track};

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

    fn produce() -> origin::Producer {
        let (origin, driver) = origin::Producer::new(origin::Config::new(Hop::random()));
        tokio::spawn(time::run(driver));
        origin
    }

    let runtime = runtime();
    let delivered = Delivered::default();
    let (track, kept) = runtime.block_on(async {
        let (endpoint, addr, config) = quic(LITE_05)?;
        let origin = produce();
        let broadcast = origin.create_broadcast("live")?;
        let info = track::Info::default().with_timescale(Timescale::MILLI).with_max_age(MAX_AGE);
        let track = broadcast.create_track("video", info)?;
        broadcast.announce(origin::Route::default())?;
        let version = moq_net::Version::from_alpn(LITE_05).context("a known version")?;
        let server = moq_net::Server::new()
            .with_versions(vec![version].into())
            .with_publisher(origin.consume());
        let mut kept = Vec::new();
        for _ in 0..load.readers {
            let received = produce();
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
            let (viewing, serving) = (viewing?, serving?);
            let broadcast = received.consume().routed_broadcast("live").await?;
            let want = track::Subscription::default().with_max_age(MAX_AGE);
            let subscribed = broadcast.track("video")?.subscribe(want).await?;
            tokio::spawn(read(broadcast, subscribed, delivered.clone()));
            kept.push((viewing, serving, received));
        }
        tokio::time::sleep(SETTLE).await;
        anyhow::Ok((track, (endpoint, origin, broadcast, kept)))
    })?;
    let payload = load.payload();
    let figure = load.measure(count, |n| {
        runtime.block_on(async {
            let mut group = track.append_group().unwrap();
            for frame in 0..FRAMES {
                let timestamp = Timestamp::from_millis(Load::timestamp(n, frame)).unwrap();
                group.write_frame(timestamp, payload.clone()).unwrap();
            }
            group.finish().unwrap();
            delivered.reach((n + 1) * FRAMES * load.readers as u64).await;
        });
    });
    drop(kept);
    Ok(figure)
}

fn moq_lite(load: Load, count: Count) -> Result<f64> {
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

    let runtime = runtime();
    let delivered = Delivered::default();
    let (mut track, kept) = runtime.block_on(async {
        let (endpoint, addr, config) = quic(LITE_04)?;
        let origin = moq_lite::Origin::random().produce();
        let mut broadcast = moq_lite::Broadcast::new().produce();
        let track = broadcast.create_track(moq_lite::Track::new("video"))?;
        origin.publish_broadcast("live", broadcast.consume());
        let version = moq_lite::Version::from_alpn(LITE_04).context("a known version")?;
        let server = moq_lite::Server::new()
            .with_versions(vec![version].into())
            .with_publish(origin.consume());
        let mut kept = Vec::new();
        for _ in 0..load.readers {
            let received = moq_lite::Origin::random().produce();
            let client = moq_lite::Client::new()
                .with_versions(vec![version].into())
                .with_consume(received.clone());
            let (ours, theirs) = connect(&endpoint, addr, &config).await?;
            let (viewing, serving) =
                tokio::join!(client.connect(transport(ours)?), server.accept(transport(theirs)?));
            let (viewing, serving) = (viewing?, serving?);
            let broadcast = received.consume().announced_broadcast("live").await;
            let broadcast = broadcast.expect("it is announced");
            let subscribed = broadcast.subscribe_track(&moq_lite::Track::new("video"))?;
            tokio::spawn(read(subscribed, delivered.clone()));
            kept.push((viewing, serving, received, broadcast));
        }
        tokio::time::sleep(SETTLE).await;
        anyhow::Ok((track, (endpoint, origin, broadcast, kept)))
    })?;
    let payload = load.payload();
    let figure = load.measure(count, |n| {
        runtime.block_on(async {
            let mut group = track.append_group().unwrap();
            for _ in 0..FRAMES {
                group.write_frame(payload.clone()).unwrap();
            }
            group.finish().unwrap();
            delivered.reach((n + 1) * FRAMES * load.readers as u64).await;
        });
    });
    drop(kept);
    Ok(figure)
}
