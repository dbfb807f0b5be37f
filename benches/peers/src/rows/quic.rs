//! Bulk transfer over UDP on loopback: both adapters beside quinn alone, whose cost every session has.
//!
//! Streams go from a server to a client. At most [`AHEAD`] of them are written before they are read.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use smoq::{
    BroadcastProducer, Client, Origin, OriginProducer, Server, Subscription, TrackProducer, Version,
};
use smoq_blocking::{Budget, Endpoint};
use smoq_quinn::smoq_quic::{Identity, Trust};
use tokio::sync::Semaphore;

use super::runtime;
use crate::case::{Case, higher};

const AHEAD: usize = 8;
/// The newest version with an order of groups.
const VERSION: Version = Version::Lite05;
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(crate) fn cases(quick: bool) -> Vec<Case> {
    let mib = if quick { 2 } else { 256 };
    let mut cases = Vec::new();
    for size in [1_200, 64 << 10] {
        let load = move || Load::new(size, (1 << 20) / size, mib);
        let case = |name: &str, ours: fn(&Load)| {
            Case::new(format!("quic/{name}/{size}"), [higher("", "Gbit/s")])
                .side("smoq", move || Ok(vec![load().gbits(ours)]))
                .side("quinn", move || Ok(vec![load().gbits(quinn_alone)]))
        };
        cases.push(case("smoq-quinn", smoq_quinn));
        cases.push(case("smoq-blocking", smoq_blocking));
    }
    cases
}

/// CPU seconds that quinn alone spends per GB on one side: the mean of both, each on a thread of its own. The streams
/// are those of the groups that the relays get.
pub(crate) fn floor(quick: bool) -> Result<f64> {
    let load = Load::new(super::SIZE, super::FRAMES as usize, if quick { 2 } else { 256 });
    let (listening, dialing) = quinn_config();
    let socket = UdpSocket::bind(ANY)?;
    let addr = socket.local_addr()?;
    let (server, client) = thread::scope(|scope| {
        let server = scope.spawn(|| {
            runtime().block_on(quinn_serve(&load, socket, listening));
            thread_cpu()
        });
        runtime().block_on(quinn_read(&load, addr, dialing));
        (server.join().expect("no panic"), thread_cpu())
    });
    // Threads begin with zero, except for the one that runs the benchmark.
    let before = load.cpu_before;
    let both = server + client.saturating_sub(before);
    Ok(both.as_secs_f64() / 2.0 / (load.bytes() as f64 * 1e-9))
}

fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Frames of one size in groups.
struct Load {
    frame: Bytes,
    frames: usize,
    groups: usize,
    /// A permit for each group that may be written.
    ahead: Semaphore,
    cpu_before: Duration,
}

impl Load {
    fn new(size: usize, frames: usize, mib: usize) -> Self {
        let groups = (mib << 20) / (size * frames) + 1;
        let ahead = Semaphore::new(AHEAD);
        Self { frame: vec![7; size].into(), frames, groups, ahead, cpu_before: thread_cpu() }
    }

    fn bytes(&self) -> usize {
        self.groups * self.frames * self.frame.len()
    }

    fn gbits(&self, transfer: fn(&Self)) -> f64 {
        let begun = Instant::now();
        transfer(self);
        self.bytes() as f64 * 8e-9 / begun.elapsed().as_secs_f64()
    }

    async fn may_write(&self) {
        self.ahead.acquire().await.unwrap().forget();
    }

    fn was_read(&self) {
        self.ahead.add_permits(1);
    }

    /// Writes everything to a track of smoq.
    async fn publish(&self, mut track: TrackProducer) {
        track.used().await.unwrap();
        for _ in 0..self.groups {
            self.may_write().await;
            let mut group = track.append_group().unwrap();
            for n in 0..self.frames {
                group.write_frame(n as u64, self.frame.clone()).unwrap();
            }
            group.finish().unwrap();
        }
        track.finish().unwrap();
    }

    /// Reads everything from the broadcast of smoq's peer.
    async fn read(&self, received: OriginProducer) {
        let broadcast = received.consume().announced_broadcast("live").await.unwrap();
        // Otherwise newer groups pass one until the cache loses it.
        let want = Subscription::default().max_age(Duration::MAX).start(0).ordered(true);
        let mut track = broadcast.subscribe_track("bulk", want).unwrap();
        let mut bytes = 0;
        // It does not wait for the end, which a reader of moq-lite 05 learns `straggler_timeout` later.
        while bytes < self.bytes() {
            let mut group = track.recv_group().await.unwrap().unwrap();
            while let Some(frame) = group.read_frame().await.unwrap() {
                bytes += frame.len();
            }
            self.was_read();
        }
        assert_eq!(bytes, self.bytes());
    }
}

/// Both ends of a session of smoq before they are connected.
struct Ends {
    _broadcast: BroadcastProducer,
    track: TrackProducer,
    server: Server,
    received: OriginProducer,
    client: Client,
    identity: Identity,
    trust: Trust,
}

impl Ends {
    fn new() -> Self {
        let origin = Origin::default().produce();
        let mut broadcast = origin.create_broadcast("live").unwrap();
        let track = broadcast.create_track("bulk").unwrap();
        let received = Origin::default().produce();
        let identity = Identity::self_signed(["localhost"]).unwrap();
        Self {
            _broadcast: broadcast,
            track,
            server: Server::new().with_publish(origin.consume()).with_versions(VERSION),
            client: Client::new().with_consume(received.clone()).with_versions(VERSION),
            received,
            trust: identity.fingerprint().into(),
            identity,
        }
    }
}

fn listen(socket: UdpSocket, config: quinn::ServerConfig) -> quinn::Endpoint {
    let runtime = quinn::default_runtime().unwrap();
    quinn::Endpoint::new(quinn::EndpointConfig::default(), Some(config), socket, runtime).unwrap()
}

async fn dial(
    addr: SocketAddr,
    config: quinn::ClientConfig,
) -> (quinn::Endpoint, quinn::Connection) {
    let endpoint = quinn::Endpoint::client(ANY).unwrap();
    let connection = endpoint.connect_with(config, addr, "localhost").unwrap().await.unwrap();
    (endpoint, connection)
}

/// The TLS of the others, with quinn's default transport.
fn quinn_config() -> (quinn::ServerConfig, quinn::ClientConfig) {
    let Ends { server, client, identity, trust, .. } = Ends::new();
    let mut listening = smoq_quinn::config::server(&identity, server.versions()).unwrap();
    listening.transport_config(Arc::default());
    let mut dialing = smoq_quinn::config::client(&trust, client.versions()).unwrap();
    dialing.transport_config(Arc::default());
    (listening, dialing)
}

async fn quinn_serve(load: &Load, socket: UdpSocket, config: quinn::ServerConfig) {
    let connection = listen(socket, config).accept().await.unwrap().await.unwrap();
    let batch = ((64 << 10) / load.frame.len()).max(1);
    for _ in 0..load.groups {
        load.may_write().await;
        let mut stream = connection.open_uni().await.unwrap();
        let mut left = load.frames;
        while left > 0 {
            let mut frames = vec![load.frame.clone(); batch.min(left)];
            left -= frames.len();
            stream.write_all_chunks(&mut frames).await.unwrap();
        }
        stream.finish().unwrap();
    }
    connection.closed().await;
}

async fn quinn_read(load: &Load, addr: SocketAddr, config: quinn::ClientConfig) {
    let (endpoint, connection) = dial(addr, config).await;
    let mut bytes = 0;
    for _ in 0..load.groups {
        let mut stream = connection.accept_uni().await.unwrap();
        while let Some(chunk) = stream.read_chunk(usize::MAX, true).await.unwrap() {
            bytes += chunk.bytes.len();
        }
        load.was_read();
    }
    assert_eq!(bytes, load.bytes());
    connection.close(0_u32.into(), b"");
    endpoint.wait_idle().await;
}

fn quinn_alone(load: &Load) {
    let (listening, dialing) = quinn_config();
    let socket = UdpSocket::bind(ANY).unwrap();
    let addr = socket.local_addr().unwrap();
    runtime().block_on(async {
        tokio::join!(quinn_serve(load, socket, listening), quinn_read(load, addr, dialing))
    });
}

fn smoq_quinn(load: &Load) {
    let Ends { _broadcast, track, server, received, client, identity, trust } = Ends::new();
    let listening = smoq_quinn::config::server(&identity, server.versions()).unwrap();
    let dialing = smoq_quinn::config::client(&trust, client.versions()).unwrap();
    let socket = UdpSocket::bind(ANY).unwrap();
    let addr = socket.local_addr().unwrap();
    let serve = async {
        let connection = listen(socket, listening).accept().await.unwrap().await.unwrap();
        let (_session, driving) = smoq_quinn::accept(connection, &server).await.unwrap();
        let (end, ()) = tokio::join!(driving, load.publish(track));
        end.unwrap();
    };
    let read = async {
        let (endpoint, connection) = dial(addr, dialing).await;
        let (session, mut driving) = smoq_quinn::connect(connection, &client).await.unwrap();
        tokio::select! {
            end = &mut driving => panic!("{end:?}"),
            () = load.read(received) => {}
        }
        drop(session);
        driving.await.unwrap();
        endpoint.wait_idle().await;
    };
    runtime().block_on(async { tokio::join!(serve, read) });
}

fn smoq_blocking(load: &Load) {
    let Ends { _broadcast, track, server, received, client, identity, trust } = Ends::new();
    let config = smoq_blocking::config::server(&identity, server.versions()).unwrap();
    let mut listening = Endpoint::bind(ANY, config, &server).unwrap();
    let config = smoq_blocking::config::client(&trust, client.versions()).unwrap();
    let mut dialing = Endpoint::new(ANY).unwrap();
    let addr = listening.local_addr().unwrap();
    dialing.dial(addr, "localhost", config, &client).unwrap();
    let mut work = pin!(async { tokio::join!(load.publish(track), load.read(received)) });
    let budget = Budget::items(1_024);
    let waker = dialing.waker();
    let mut cx = Context::from_waker(&waker);
    while work.as_mut().poll(&mut cx).is_pending() {
        let steps = [listening.step(budget).unwrap(), dialing.step(budget).unwrap()];
        if steps.iter().all(|step| step.items == 0) {
            // Paced packets are due soon.
            listening.wait(Some(Duration::from_micros(100))).unwrap();
        }
    }
}
