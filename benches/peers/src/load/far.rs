//! A long path to a relay that loses packets, for viewers: what they send to this process goes to the relay, and back.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// The time that a packet takes in each direction.
const LATENCY: Duration = Duration::from_millis(20);

#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    relay: SocketAddr,
    /// Packets to viewers that are lost, of a thousand
    #[arg(long)]
    losses: u64,
}

/// Runs until the parent ends the process. It prints its address.
pub(crate) fn run(options: &Options) -> Result<()> {
    let near = Arc::new(UdpSocket::bind(("127.0.0.1", 0))?);
    println!("{}", near.local_addr()?);
    let mut viewers = HashMap::new();
    let mut packet = [0; 65_536];
    loop {
        let (len, viewer) = near.recv_from(&mut packet)?;
        let to_relay = match viewers.get(&viewer) {
            Some(to_relay) => to_relay,
            None => {
                let far = Arc::new(UdpSocket::bind(("127.0.0.1", 0))?);
                far.connect(options.relay)?;
                let back = late(Arc::clone(&near), viewer);
                let (of_relay, losses) = (Arc::clone(&far), options.losses);
                thread::spawn(move || carry_back(&of_relay, &back, losses));
                viewers.entry(viewer).or_insert(late(far, options.relay))
            }
        };
        let _ = to_relay.send((Instant::now() + LATENCY, packet[..len].into()));
    }
}

fn carry_back(of_relay: &UdpSocket, back: &Sender<Late>, losses: u64) {
    let (mut packet, mut random) = ([0; 65_536], 1_u64);
    while let Ok(len) = of_relay.recv(&mut packet) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if (random >> 33) % 1_000 >= losses {
            let _ = back.send((Instant::now() + LATENCY, packet[..len].into()));
        }
    }
}

/// A packet, and when it arrives.
type Late = (Instant, Box<[u8]>);

/// Sends packets when it is time.
fn late(socket: Arc<UdpSocket>, to: SocketAddr) -> Sender<Late> {
    let (send, packets) = channel::<Late>();
    thread::spawn(move || {
        for (at, packet) in packets {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            // On a connected socket the address is that of its peer.
            let _ = socket.send_to(&packet, to);
        }
    });
    send
}
