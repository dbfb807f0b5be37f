//! The publisher: frames that begin with the time of their write and their number.

use std::time::{Duration, Instant};

use anyhow::Result;
use smoq::bytes::Bytes;
use smoq::{Client, Origin, Track, TrackProducer};
use tokio::net::UdpSocket;
use tokio::task::yield_now;

use super::{BROADCAST, Target, URGENT, VERSION, VIDEO, dial, endpoint, input, monotonic};

/// Frames that may be written before the slowest viewer has read them, without a rate.
const AHEAD: u64 = 2_000;
/// How long nothing may have been read before the publisher takes what is missing for lost.
const STALL: Duration = Duration::from_millis(500);
/// Frames that are written before others of this process have a turn.
const TURN: u64 = 32;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    /// Mbit/s of payload; 0: as fast as the viewers read
    #[arg(long)]
    mbps: f64,
    /// Bytes of a frame, at least 16
    #[arg(long)]
    size: usize,
    /// Frames of a group
    #[arg(long)]
    group: u64,
    /// Also publishes a track of 50 frames of 200 bytes a second, each a group
    #[arg(long)]
    urgent: bool,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let _parent = input();
    let origin = Origin::default().produce();
    let mut broadcast = origin.create_broadcast(BROADCAST)?;
    let video = broadcast.create_track(Track::new(VIDEO))?;
    let client = Client::new().with_publish(origin.consume()).with_versions(VERSION);
    let endpoint = endpoint()?;
    let _session = dial(options.target, &client, &endpoint).await?;
    // The viewers send here which frame the slowest of them has read.
    let progress = UdpSocket::bind(("127.0.0.1", 0)).await?;
    println!("{}", progress.local_addr()?);

    let Options { mbps, size, group, .. } = options;
    let pace = match mbps {
        0.0 => Pace::Viewers(Viewers { progress, read: 0, lost: 0 }),
        _ => Pace::Interval(Duration::from_secs_f64(size as f64 * 8.0 / (mbps * 1e6))),
    };
    let video = write(video, size, group, pace);
    if options.urgent {
        let urgent = broadcast.create_track(Track::new(URGENT))?;
        let urgent = write(urgent, 200, 1, Pace::Interval(Duration::from_millis(20)));
        return tokio::try_join!(video, urgent).map(|_| ());
    }
    video.await
}

/// When the next frame is written.
enum Pace {
    /// At regular times. Frames that are late are made up for.
    Interval(Duration),
    /// A little ahead of the slowest viewer.
    Viewers(Viewers),
}

impl Pace {
    async fn wait(&mut self, begun: Instant, written: u64) -> Result<()> {
        match self {
            Self::Interval(interval) => {
                let due = begun + Duration::from_secs_f64(interval.as_secs_f64() * written as f64);
                // The timer has steps of a millisecond: several frames become due together.
                if due > Instant::now() {
                    tokio::time::sleep_until(due.into()).await;
                    return Ok(());
                }
            }
            Self::Viewers(viewers) => viewers.wait(written).await?,
        }
        if written.is_multiple_of(TURN) {
            yield_now().await;
        }
        Ok(())
    }
}

/// The viewers' reports of their progress.
struct Viewers {
    progress: UdpSocket,
    /// Frames that the slowest of them has read.
    read: u64,
    /// Frames that it won't read any more.
    lost: u64,
}

impl Viewers {
    async fn wait(&mut self, written: u64) -> Result<()> {
        let mut since = Instant::now();
        let mut datagram = [0; 8];
        while written >= self.read + self.lost + AHEAD {
            self.progress.recv(&mut datagram).await?;
            let mut read = u64::from_le_bytes(datagram);
            // Those that came meanwhile are newer.
            while self.progress.try_recv(&mut datagram).is_ok() {
                read = read.max(u64::from_le_bytes(datagram));
            }
            if read > self.read {
                (self.read, since) = (read, Instant::now());
            } else if since.elapsed() > STALL {
                self.lost = written.saturating_sub(self.read);
            }
        }
        Ok(())
    }
}

async fn write(mut track: TrackProducer, size: usize, frames: u64, mut pace: Pace) -> Result<()> {
    track.used().await?;
    let begun = Instant::now();
    let mut frame = vec![0x55; size];
    let mut written = 0_u64;
    loop {
        let mut group = track.append_group()?;
        for _ in 0..frames {
            pace.wait(begun, written).await?;
            frame[..8].copy_from_slice(&monotonic().to_le_bytes());
            frame[8..16].copy_from_slice(&written.to_le_bytes());
            let age = begun.elapsed().as_millis() as u64;
            group.write_frame(age, Bytes::copy_from_slice(&frame))?;
            written += 1;
        }
        group.finish()?;
    }
}
