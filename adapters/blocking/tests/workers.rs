//! Threads that share a port and an origin, each with an endpoint of its own and no runtime.

#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_methods, reason = "threads are what is tested")]

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use smoq::{Client, Origin, Server, Subscription, Track};
use smoq_blocking::smoq_quic::{Identity, Trust, bind_workers};
use smoq_blocking::{Endpoint, Event, config};

/// All clients share one address, so the address does not choose the worker. A publisher and its readers reach each
/// other on any of the threads.
#[test]
fn clients_of_one_address_reach_all_workers_and_each_other() {
    let origin = Origin::default().produce();
    let workers = Workers::start(3, &Server::new().with_origin(&origin));
    let mut net = Endpoint::new((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let mine = Origin::default().produce();
    let mut broadcast = mine.create_broadcast("live").unwrap();
    let mut track = broadcast.create_track(Track::new("count")).unwrap();
    workers.dial(&mut net, &Client::new().with_publish(mine.consume()));
    let mut readers = Vec::new();
    while workers.served().any(|served| served < 2) {
        let origin = Origin::default().produce();
        workers.dial(&mut net, &Client::new().with_consume(origin.clone()));
        let found = async { origin.consume().announced_broadcast("live").await };
        let broadcast = net.run_until(found).unwrap().unwrap();
        let all = Subscription::default().max_age(Duration::MAX).start(0);
        readers.push((broadcast.subscribe_track("count", all).unwrap(), origin));
    }
    for n in 0_u64..100 {
        track.write_frame(n, n.to_be_bytes().to_vec()).unwrap();
        for (reader, _) in &mut readers {
            let frame = net.run_until(reader.read_frame()).unwrap().unwrap().unwrap();
            assert_eq!(frame.payload(), n.to_be_bytes());
        }
    }
    workers.stop();
}

struct Workers {
    address: SocketAddr,
    trust: Trust,
    stop: Arc<AtomicBool>,
    threads: Vec<(JoinHandle<()>, Waker, Arc<AtomicUsize>)>,
}

impl Workers {
    fn start(count: usize, server: &Server) -> Self {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let config = config::server(&identity, server.versions()).unwrap();
        let count = NonZeroUsize::new(count).unwrap();
        let sockets = bind_workers((Ipv4Addr::LOCALHOST, 0).into(), count).unwrap();
        let address = sockets[0].socket.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let start = |socket| {
            let mut net = Endpoint::from_worker(socket).unwrap();
            net.listen(config.clone(), server);
            let (waker, served) = (net.waker(), Arc::new(AtomicUsize::new(0)));
            let (stop, counter) = (Arc::clone(&stop), Arc::clone(&served));
            (thread::spawn(move || serve(net, &stop, &counter)), waker, served)
        };
        let threads = sockets.into_iter().map(start).collect();
        Self { address, trust: Trust::from(identity.fingerprint()), stop, threads }
    }

    fn dial(&self, net: &mut Endpoint, client: &Client) {
        let config = config::client(&self.trust, client.versions()).unwrap();
        net.dial(self.address, "localhost", config, client).unwrap();
    }

    /// How many sessions each thread accepted.
    fn served(&self) -> impl Iterator<Item = usize> {
        self.threads.iter().map(|(_, _, served)| served.load(Ordering::Relaxed))
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for (thread, waker, _) in self.threads {
            waker.wake();
            thread.join().unwrap();
        }
    }
}

fn serve(mut net: Endpoint, stop: &AtomicBool, served: &AtomicUsize) {
    let mut sessions = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        net.step(smoq_blocking::Budget::items(256)).unwrap();
        while let Some(event) = net.poll_event() {
            if let Event::Connected { session, .. } = event {
                sessions.push(session);
                served.fetch_add(1, Ordering::Relaxed);
            }
        }
        net.wait(None).unwrap();
    }
}
