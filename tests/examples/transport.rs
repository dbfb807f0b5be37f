//! Options for QUIC.

#![expect(clippy::disallowed_methods, reason = "a proxy has threads")]

#[path = "../../examples/common/transport.rs"]
mod options;

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use clap::Parser;
use options::TransportOptions;
use quinn::congestion::{Bbr, Cubic, NewReno};
use smoq::Versions;
use smoq_quinn::config;
use smoq_quinn::smoq_quic::{Identity, Trust};

use crate::{Relay, second};

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    transport: TransportOptions,
}

/// A connection with these options tells what its congestion controller is.
#[test]
fn the_congestion_controller_is_chosen() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (identity, versions) =
            (Identity::self_signed(["localhost"]).unwrap(), Versions::default());
        let tls = config::server(&identity, &versions).unwrap();
        let (server, _) = smoq_quinn::listen("127.0.0.1:0".parse().unwrap(), tls).unwrap();
        let address = server.local_addr().unwrap();
        tokio::spawn(async move {
            while let Some(incoming) = server.accept().await {
                tokio::spawn(async { incoming.await.unwrap().closed().await });
            }
        });
        for (args, expected) in [
            (&["x"][..], [true, false, false]),
            (&["x", "--congestion", "cubic"], [true, false, false]),
            (&["x", "--congestion", "bbr"], [false, true, false]),
            (&["x", "--congestion", "newreno"], [false, false, true]),
        ] {
            let mut tls = config::client(&Trust::from(identity.fingerprint()), &versions).unwrap();
            tls.transport_config(Command::try_parse_from(args).unwrap().transport.config());
            let (_endpoint, connection) =
                smoq_quinn::dial("localhost", [address], tls).await.unwrap();
            let controller = || connection.congestion_state().into_any();
            let is = [
                controller().is::<Cubic>(),
                controller().is::<Bbr>(),
                controller().is::<NewReno>(),
            ];
            assert_eq!(is, expected, "{args:?}");
        }
    });
}

/// A way to a server for one client, and the sizes of the largest packets of both.
struct Way {
    address: String,
    largest: [Arc<AtomicUsize>; 2],
}

fn measured(address: &str) -> Way {
    let [near, far] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    far.connect(address).unwrap();
    let largest: [Arc<AtomicUsize>; 2] = Default::default();
    let way = Way { address: near.local_addr().unwrap().to_string(), largest: largest.clone() };
    let client = Arc::new(Mutex::new(None));
    let [forth, back] = largest;
    let (to, of, from) = (far.try_clone().unwrap(), Arc::clone(&client), near.try_clone().unwrap());
    thread::spawn(move || {
        let mut packet = [0; 65_536];
        while let Ok((len, client)) = from.recv_from(&mut packet) {
            *of.lock().unwrap() = Some(client);
            forth.fetch_max(len, Ordering::Relaxed);
            // The server may be gone.
            let _ = to.send(&packet[..len]);
        }
    });
    thread::spawn(move || {
        let mut packet = [0; 65_536];
        while let Ok(len) = far.recv(&mut packet) {
            back.fetch_max(len, Ordering::Relaxed);
            let client = client.lock().unwrap().expect("it came first");
            let _ = near.send_to(&packet[..len], client);
        }
    });
    way
}

#[test]
fn the_size_of_packets_is_bounded() {
    let own = ["--max-mtu", "1200"];
    for (client, server, expected) in [
        (&[][..], &own[..], [1_201..=1_452, 1_200..=1_200]),
        (&own, &[], [1_200..=1_200, 1_201..=1_452]),
        (&["--max-mtu", "1472"], &["--max-mtu", "1300"], [1_453..=1_472, 1_201..=1_300]),
        (&["--initial-mtu", "1400", "--max-mtu", "1400"], &own, [1_200..=1_400, 1_200..=1_200]),
    ] {
        let relay = Relay::start("127.0.0.1:0", server);
        let publisher = relay.clock("publish", &[]);
        let way = measured(&relay.address);
        let args = [client, &["--count", "2"]].concat();
        let url = format!("moqt://{}/", way.address);
        let printed = relay.clock_at(&url, "subscribe", &args).rest();
        printed.lines().for_each(|line| _ = second(line));
        for (largest, expected) in way.largest.iter().zip(expected) {
            let largest = largest.load(Ordering::Relaxed);
            assert!(expected.contains(&largest), "{largest} of {client:?} {server:?}");
        }
        drop(publisher);
    }
}

/// A whole session runs with the congestion controller that the relay and the clock chose.
#[test]
fn sessions_run_with_every_congestion_controller() {
    for name in ["cubic", "bbr", "newreno"] {
        let relay = Relay::start("127.0.0.1:0", &["--congestion", name]);
        let publisher = relay.clock("publish", &["--congestion", name]);
        let args = ["--congestion", name, "--count", "1"];
        second(relay.clock("subscribe", &args).rest().trim_end());
        drop(publisher);
    }
}
