//! The viewers: they read everything, and record how old each frame is when it is read.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use smoq::{Client, Origin, Subscription};

use super::{BROADCAST, TRACK, VERSION, dial, endpoint, input, monotonic};

/// The oldest frame that is told apart from older ones, in nanoseconds: a minute.
const LONGEST: u64 = 60_000_000_000;
/// How often the publisher is told what was read.
const PROGRESS: Duration = Duration::from_millis(1);

#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    relay: SocketAddr,
    #[arg(long)]
    viewers: usize,
    /// The address that the publisher printed, if it has no rate
    #[arg(long)]
    progress: Option<SocketAddr>,
    /// The oldest group that a viewer takes
    #[arg(long)]
    max_age_ms: u64,
}

/// What the viewers read together between `start` and `stop`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Viewed {
    pub(crate) seconds: f64,
    pub(crate) bytes: u64,
    pub(crate) frames: u64,
    /// Ages when read, in milliseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Groups that ended early.
    pub(crate) cut_groups: u64,
}

struct Record {
    counts: bool,
    bytes: u64,
    cut_groups: u64,
    ages: Histogram<u64>,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let mut orders = input();
    let record = Rc::new(std::cell::RefCell::new(Record {
        counts: false,
        bytes: 0,
        cut_groups: 0,
        ages: Histogram::new_with_max(LONGEST, 2)?,
    }));
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let mut read = Vec::new();
            let mut sessions = Vec::new();
            for _ in 0..options.viewers {
                let received = Origin::default().produce();
                let client = Client::new().with_consume(received.clone());
                let client = client.with_versions(VERSION);
                // A socket each, as viewers have.
                let endpoint = endpoint()?;
                sessions.push((dial(options.relay, &client, &endpoint).await?, endpoint));
                let broadcast = received.consume().announced_broadcast(BROADCAST).await;
                let broadcast = broadcast.context("the session has ended")?;
                let want =
                    Subscription::default().max_age(Duration::from_millis(options.max_age_ms));
                let track = broadcast.subscribe_track(TRACK, want)?;
                let frames = Rc::new(Cell::new(0));
                read.push(frames.clone());
                tokio::task::spawn_local(view(track, frames, record.clone()));
            }
            if let Some(progress) = options.progress {
                let socket = tokio::net::UdpSocket::bind(("127.0.0.1", 0)).await?;
                let read = read.clone();
                tokio::task::spawn_local(async move {
                    loop {
                        let least: u64 = read.iter().map(|frames| frames.get()).min().unwrap_or(0);
                        let _ = socket.send_to(&least.to_le_bytes(), progress).await;
                        tokio::time::sleep(PROGRESS).await;
                    }
                });
            }
            while read.iter().any(|frames| frames.get() == 0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            println!("ready");

            orders.recv().await.context("start")?;
            record.borrow_mut().counts = true;
            let begun = Instant::now();
            orders.recv().await.context("stop")?;
            let record = record.borrow();
            let age = |quantile| record.ages.value_at_quantile(quantile) as f64 / 1e6;
            let viewed = Viewed {
                seconds: begun.elapsed().as_secs_f64(),
                bytes: record.bytes,
                frames: record.ages.len(),
                p50: age(0.5),
                p99: age(0.99),
                cut_groups: record.cut_groups,
            };
            println!("{}", serde_json::to_string(&viewed)?);
            drop(sessions);
            Ok(())
        })
        .await
}

/// Reads all groups of a track at the same time, so that one that is stuck does not hold up those after it.
async fn view(
    mut track: smoq::TrackConsumer,
    frames: Rc<Cell<u64>>,
    record: Rc<std::cell::RefCell<Record>>,
) {
    while let Ok(Some(group)) = track.recv_group().await {
        tokio::task::spawn_local(view_group(group, frames.clone(), record.clone()));
    }
}

async fn view_group(
    mut group: smoq::GroupConsumer,
    frames: Rc<Cell<u64>>,
    record: Rc<std::cell::RefCell<Record>>,
) {
    loop {
        let read = group.read_frame().await;
        let mut record = record.borrow_mut();
        match read {
            Ok(Some(frame)) => {
                frames.set(frames.get() + 1);
                if record.counts {
                    let payload = frame.payload();
                    let written = payload.first_chunk().map_or(0, |time| u64::from_le_bytes(*time));
                    record.bytes += payload.len() as u64;
                    record.ages.saturating_record(monotonic().saturating_sub(written).max(1));
                }
            }
            Ok(None) => return,
            Err(_) => {
                record.cut_groups += u64::from(record.counts);
                return;
            }
        }
    }
}
