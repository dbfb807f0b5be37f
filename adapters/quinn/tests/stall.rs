//! A process that stalls for longer than the idle timeout, over loopback, by clocks that only the test moves.

#[path = "common/clock.rs"]
mod clock;

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use clock::Clock;
use quinn::ClientConfig;
use smoq::{Client, Server, Session};
use smoq_quinn::smoq_quic::Identity;
use smoq_quinn::{accept_in, config, connect_in, dial_in, listen_in};
use tokio::runtime::Runtime;
use tokio::task::yield_now;

const MS: Duration = Duration::from_millis(1);

/// A process: it runs only during its turns.
struct Process {
    runtime: Runtime,
    clock: Clock,
    sessions: Arc<Mutex<Vec<Session>>>,
}

impl Process {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, clock: Clock::new(), sessions: Arc::default() }
    }

    fn turn(&self) {
        self.runtime.block_on(async {
            for _ in 0..100 {
                yield_now().await;
            }
        });
    }

    fn serve(&self, identity: &Identity) -> SocketAddr {
        let (server, clock) = (Server::new(), Arc::new(self.clock.clone()));
        let sessions = Arc::clone(&self.sessions);
        let tls = config::server(identity, server.versions()).unwrap();
        let local = (Ipv4Addr::LOCALHOST, 0).into();
        let _entered = self.runtime.enter();
        let (endpoint, _) = listen_in(local, tls, clock.clone()).unwrap();
        let address = endpoint.local_addr().unwrap();
        self.runtime.spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let connection = incoming.await.unwrap();
                let (session, driving) =
                    accept_in(connection, &server, clock.clone()).await.unwrap();
                sessions.lock().unwrap().push(session);
                tokio::spawn(driving);
            }
        });
        address
    }

    fn join(&self, address: SocketAddr, tls: &ClientConfig) {
        let (tls, clock) = (tls.clone(), Arc::new(self.clock.clone()));
        let sessions = Arc::clone(&self.sessions);
        self.runtime.spawn(async move {
            let dialed = dial_in("localhost", [address], tls, clock.clone()).await;
            let (_endpoint, connection) = dialed.unwrap();
            let (session, driving) = connect_in(connection, &Client::new(), clock).await.unwrap();
            sessions.lock().unwrap().push(session);
            driving.await
        });
    }

    fn live(&self) -> usize {
        self.sessions.lock().unwrap().iter().filter(|session| !session.is_closed()).count()
    }
}

/// A server, clients that stay alive, and one whose process never runs again.
struct Stall {
    server: Process,
    alive: Process,
    gone: Process,
    address: SocketAddr,
}

impl Stall {
    fn new(alive: usize) -> Self {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let tls = config::client(&identity.fingerprint().into(), Client::new().versions()).unwrap();
        let server = Process::new();
        let address = server.serve(&identity);
        let it = Self { server, alive: Process::new(), gone: Process::new(), address };
        for n in 0..=alive {
            let from = if n < alive { &it.alive } else { &it.gone };
            from.join(address, &tls);
        }
        let processes = [&it.server, &it.alive, &it.gone];
        for rounds in 0.. {
            processes.into_iter().for_each(Process::turn);
            if processes.map(Process::live) == [alive + 1, alive, 1] {
                break;
            }
            assert!(rounds < 10_000, "it hangs");
        }
        // The handshakes have left packets.
        for _ in 0..20 {
            processes.into_iter().for_each(|process| process.clock.advance(50 * MS));
            processes.into_iter().for_each(Process::turn);
        }
        it
    }

    /// The server does not run for that long, while its peers go on.
    fn stall(&self, time: Duration) {
        const STEP: Duration = Duration::from_millis(250);
        for _ in 0..time.div_duration_f32(STEP) as u32 {
            self.alive.clock.advance(STEP);
            self.alive.turn();
        }
        self.server.clock.advance(time);
    }
}

/// A laptop sleeps for 12 s. Far more than quinn receives at once waits in the socket then, and every idle timer is due.
#[test]
fn a_stall_of_this_process_loses_no_live_peer() {
    const ALIVE: usize = 150;
    let net = Stall::new(ALIVE);
    net.stall(Duration::from_secs(12));
    for _ in 0..500 {
        for process in [&net.server, &net.alive] {
            process.turn();
            process.clock.advance(10 * MS);
        }
    }
    // Only the client that is gone.
    assert_eq!([net.server.live(), net.alive.live(), net.gone.live()], [ALIVE, ALIVE, 1]);
}

/// The socket is never empty. Nevertheless a peer that is gone is noticed, when its packets could have been read.
#[test]
fn a_flood_does_not_hide_the_end_of_a_peer() {
    let net = Stall::new(0);
    // quinn reads for 50 us at a time.
    net.server.clock.set_tick(Duration::from_micros(20));
    let flood = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    flood.connect(net.address).unwrap();
    flood.send(&[0; 600]).unwrap();
    net.server.clock.advance(Duration::from_secs(30));
    net.server.runtime.spawn(poll_fn(move |cx| {
        for _ in 0..200 {
            flood.send(&[0; 600]).unwrap();
        }
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    }));
    let mut rounds = 0;
    while net.server.live() > 0 {
        net.server.runtime.block_on(yield_now());
        net.server.clock.advance(100 * MS);
        rounds += 1;
        // A second at most, and some rounds until quinn has told everybody.
        assert!(rounds < 20, "it waits too long");
    }
    assert!(rounds > 5, "{rounds}");
}
