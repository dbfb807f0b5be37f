//! Threads that share a port and an origin, each with an endpoint of its own.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "threads are what is tested")]

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use quinn::Endpoint;
use smoq::{Client, Origin, OriginProducer, Server, Session, Subscription, Track, TrackConsumer};
use smoq_quinn::smoq_quic::{Identity, Trust, bind_workers};
use smoq_quinn::{accept, config, connect, listen_on};
use tokio::runtime::Runtime;

/// All clients share one address, so the address does not choose the worker. A publisher and its readers reach each
/// other on any of the threads.
#[test]
fn clients_of_one_address_reach_all_workers_and_each_other() {
    let origin = Origin::default().produce();
    let workers = Workers::start(3, &Server::new().with_origin(&origin));
    on_tokio(async {
        let endpoint = Endpoint::client(loopback()).unwrap();
        let mine = Origin::default().produce();
        let mut broadcast = mine.create_broadcast("live").unwrap();
        let mut track = broadcast.create_track(Track::new("count")).unwrap();
        let client = Client::new().with_publish(mine.consume());
        let _publisher = workers.dial(&endpoint, &client).await;
        let mut readers = Vec::new();
        while workers.served().any(|served| served < 2) {
            readers.push(Reader::dial(&workers, &endpoint).await);
        }
        for n in 0_u64..100 {
            track.write_frame(n, n.to_be_bytes().to_vec()).unwrap();
            for reader in &mut readers {
                let frame = reader.track.read_frame().await.unwrap().unwrap();
                assert_eq!(frame.payload(), n.to_be_bytes());
            }
        }
    });
    workers.stop();
}

struct Workers {
    address: SocketAddr,
    trust: Trust,
    threads: Vec<(Endpoint, JoinHandle<()>, Arc<AtomicUsize>)>,
}

impl Workers {
    fn start(count: usize, server: &Server) -> Self {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let config = config::server(&identity, server.versions()).unwrap();
        let sockets = bind_workers(loopback(), NonZeroUsize::new(count).unwrap()).unwrap();
        let address = sockets[0].socket.local_addr().unwrap();
        let start = |socket| {
            let runtime = runtime();
            let endpoint = {
                let _entered = runtime.enter();
                listen_on(socket, config.clone()).unwrap()
            };
            let served = Arc::new(AtomicUsize::new(0));
            let task = serve(endpoint.clone(), server.clone(), Arc::clone(&served));
            (endpoint, thread::spawn(move || runtime.block_on(task)), served)
        };
        let threads = sockets.into_iter().map(start).collect();
        Self { address, trust: Trust::from(identity.fingerprint()), threads }
    }

    async fn dial(&self, endpoint: &Endpoint, client: &Client) -> Session {
        let config = config::client(&self.trust, client.versions()).unwrap();
        let connecting = endpoint.connect_with(config, self.address, "localhost").unwrap();
        let (session, driving) = connect(connecting.await.unwrap(), client).await.unwrap();
        tokio::spawn(driving);
        session
    }

    /// How many connections each thread accepted.
    fn served(&self) -> impl Iterator<Item = usize> {
        self.threads.iter().map(|(_, _, served)| served.load(Ordering::Relaxed))
    }

    fn stop(self) {
        for (endpoint, thread, _) in self.threads {
            endpoint.close(0_u32.into(), b"");
            thread.join().unwrap();
        }
    }
}

async fn serve(endpoint: Endpoint, server: Server, served: Arc<AtomicUsize>) {
    while let Some(incoming) = endpoint.accept().await {
        served.fetch_add(1, Ordering::Relaxed);
        let server = server.clone();
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            let (session, driving) = accept(connection, &server).await.unwrap();
            let _ = driving.await;
            drop(session);
        });
    }
    endpoint.wait_idle().await;
}

/// A client that reads all of `count`.
struct Reader {
    track: TrackConsumer,
    _session: Session,
    _origin: OriginProducer,
}

impl Reader {
    async fn dial(workers: &Workers, endpoint: &Endpoint) -> Self {
        let origin = Origin::default().produce();
        let client = Client::new().with_consume(origin.clone());
        let session = workers.dial(endpoint, &client).await;
        let broadcast = origin.consume().announced_broadcast("live").await.unwrap();
        let all = Subscription::default().max_age(Duration::MAX).start(0);
        let track = broadcast.subscribe_track("count", all).unwrap();
        Self { track, _session: session, _origin: origin }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn on_tokio(test: impl Future<Output = ()>) {
    runtime().block_on(async {
        tokio::time::timeout(Duration::from_secs(30), test).await.expect("it hangs");
    });
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}
