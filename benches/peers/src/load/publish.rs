//! The publisher: frames that begin with the time of their write.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Result;
use smoq::{Client, Origin, Track};
use tokio::task::yield_now;

use super::{BROADCAST, TRACK, VERSION, dial, endpoint, input, monotonic};

/// Frames that may be written before the slowest viewer has read them, without a rate.
const AHEAD: u64 = 2_000;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    relay: SocketAddr,
    /// Mbit/s of payload; 0: as fast as the viewers read
    #[arg(long)]
    mbps: f64,
    /// Bytes of a frame
    #[arg(long)]
    size: usize,
    /// Frames of a group
    #[arg(long)]
    group: u64,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let _parent = input();
    let origin = Origin::default().produce();
    let mut broadcast = origin.create_broadcast(BROADCAST)?;
    let mut track = broadcast.create_track(Track::new(TRACK))?;
    let client = Client::new().with_publish(origin.consume()).with_versions(VERSION);
    let endpoint = endpoint()?;
    let _session = dial(options.relay, &client, &endpoint).await?;
    // The viewers send here how many frames the slowest of them has read.
    let progress = UdpSocket::bind(("127.0.0.1", 0))?;
    progress.set_nonblocking(true)?;
    println!("{}", progress.local_addr()?);
    let progress = tokio::net::UdpSocket::from_std(progress)?;

    track.used().await?;
    let begun = Instant::now();
    let interval = match options.mbps {
        0.0 => None,
        mbps => Some(Duration::from_secs_f64(options.size as f64 * 8.0 / (mbps * 1e6))),
    };
    let mut frame = vec![0x55; options.size];
    let (mut written, mut read, mut datagram) = (0_u64, 0, [0; 8]);
    loop {
        let mut group = track.append_group()?;
        for _ in 0..options.group {
            if let Some(interval) = interval {
                let due = begun + Duration::from_secs_f64(interval.as_secs_f64() * written as f64);
                // The timer has steps of a millisecond: several frames become due together.
                if due > Instant::now() {
                    tokio::time::sleep_until(due.into()).await;
                }
            } else {
                while written >= read + AHEAD {
                    progress.recv(&mut datagram).await?;
                    read = read.max(u64::from_le_bytes(datagram));
                    // Those that came meanwhile are newer.
                    while progress.try_recv(&mut datagram).is_ok() {
                        read = read.max(u64::from_le_bytes(datagram));
                    }
                }
                if written % 32 == 0 {
                    yield_now().await;
                }
            }
            frame[..8].copy_from_slice(&monotonic().to_le_bytes());
            let age = begun.elapsed().as_millis() as u64;
            group.write_frame(age, smoq::bytes::Bytes::copy_from_slice(&frame))?;
            written += 1;
        }
        group.finish()?;
    }
}
