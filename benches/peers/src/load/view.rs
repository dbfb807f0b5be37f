//! The viewers: they read everything, and record how old each frame is when it is read.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use smoq::{Client, GroupConsumer, Origin, Subscription, TrackConsumer};
use tokio::task::spawn_local;

use super::{BROADCAST, Target, URGENT, VERSION, VIDEO, dial, endpoint, input, monotonic};

/// The oldest frame that is told apart from older ones, in nanoseconds: a minute.
const LONGEST: u64 = 60_000_000_000;
/// How often the publisher is told what was read.
const PROGRESS: Duration = Duration::from_millis(1);

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    #[arg(long)]
    viewers: usize,
    /// The address that the publisher printed, if it has no rate
    #[arg(long)]
    progress: Option<SocketAddr>,
    /// The oldest group that a viewer takes
    #[arg(long)]
    max_age_ms: u64,
    /// Also reads the urgent track, with a higher priority
    #[arg(long)]
    urgent: bool,
}

/// The sums of all viewers between `start` and `stop`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Viewed {
    pub(crate) seconds: f64,
    pub(crate) video: Read,
    pub(crate) urgent: Read,
}

/// The sums of one track.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Read {
    pub(crate) bytes: u64,
    /// Ages when read, in milliseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Groups that arrived whole.
    pub(crate) whole_groups: u64,
}

/// The counts of all viewers together for a track.
#[derive(Clone)]
struct Record(Rc<RefCell<Counts>>);

struct Counts {
    bytes: u64,
    whole_groups: u64,
    ages: Histogram<u64>,
}

impl Record {
    fn new() -> Result<Self> {
        let ages = Histogram::new_with_max(LONGEST, 2)?;
        Ok(Self(Rc::new(RefCell::new(Counts { bytes: 0, whole_groups: 0, ages }))))
    }

    fn clear(&self) {
        let mut counts = self.0.borrow_mut();
        (counts.bytes, counts.whole_groups) = (0, 0);
        counts.ages.reset();
    }

    fn read(&self) -> Read {
        let counts = self.0.borrow();
        let age = |quantile| counts.ages.value_at_quantile(quantile) as f64 / 1e6;
        Read {
            bytes: counts.bytes,
            p50: age(0.5),
            p99: age(0.99),
            whole_groups: counts.whole_groups,
        }
    }
}

pub(crate) async fn run(options: Options) -> Result<()> {
    tokio::task::LocalSet::new().run_until(view_all(options)).await
}

async fn view_all(options: Options) -> Result<()> {
    let mut orders = input();
    let (video, urgent) = (Record::new()?, Record::new()?);
    // By viewer: the frames of the video that it has read, or that were written before it came.
    let mut read = Vec::new();
    let mut sessions = Vec::new();
    for _ in 0..options.viewers {
        let received = Origin::default().produce();
        let client = Client::new().with_consume(received.clone()).with_versions(VERSION);
        // A socket each, as viewers have.
        let endpoint = endpoint()?;
        sessions.push((dial(options.target, &client, &endpoint).await?, endpoint));
        let broadcast = received.consume().announced_broadcast(BROADCAST).await;
        let broadcast = broadcast.context("the session has ended")?;
        let want = Subscription::default().max_age(Duration::from_millis(options.max_age_ms));
        if options.urgent {
            let want = want.clone().priority(want.priority + 1);
            let track = broadcast.subscribe_track(URGENT, want)?;
            spawn_local(view(track, Rc::default(), urgent.clone()));
        }
        let track = broadcast.subscribe_track(VIDEO, want)?;
        let frames = Rc::default();
        read.push(Rc::clone(&frames));
        spawn_local(view(track, frames, video.clone()));
    }
    if let Some(publisher) = options.progress {
        spawn_local(report_progress(read.clone(), publisher));
    }
    while read.iter().any(|frames| frames.get() == 0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("ready");

    orders.recv().await.context("start")?;
    video.clear();
    urgent.clear();
    let begun = Instant::now();
    orders.recv().await.context("stop")?;
    let seconds = begun.elapsed().as_secs_f64();
    let viewed = Viewed { seconds, video: video.read(), urgent: urgent.read() };
    println!("{}", serde_json::to_string(&viewed)?);
    Ok(())
}

/// Tells the publisher how much the slowest viewer has read.
async fn report_progress(read: Vec<Rc<Cell<u64>>>, publisher: SocketAddr) -> Result<()> {
    let socket = tokio::net::UdpSocket::bind(("127.0.0.1", 0)).await?;
    loop {
        let least = read.iter().map(|frames| frames.get()).min().unwrap_or(0);
        // A report that is lost is followed by a newer one.
        let _ = socket.send_to(&least.to_le_bytes(), publisher).await;
        tokio::time::sleep(PROGRESS).await;
    }
}

/// Reads all groups of a track at the same time, so that one that is stuck does not hold up those after it.
async fn view(mut track: TrackConsumer, frames: Rc<Cell<u64>>, record: Record) {
    while let Ok(Some(group)) = track.recv_group().await {
        spawn_local(view_group(group, frames.clone(), record.clone()));
    }
}

async fn view_group(mut group: GroupConsumer, frames: Rc<Cell<u64>>, record: Record) {
    loop {
        let read = group.read_frame().await;
        let mut counts = record.0.borrow_mut();
        match read {
            Ok(Some(frame)) => {
                let payload = frame.payload();
                let word = |at: usize| {
                    let bytes = payload.get(at..).and_then(|rest| rest.first_chunk());
                    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
                };
                let before = if frames.get() == 0 { word(8) } else { frames.get() };
                frames.set(before + 1);
                counts.bytes += payload.len() as u64;
                counts.ages.saturating_record(monotonic().saturating_sub(word(0)).max(1));
            }
            Ok(None) => {
                counts.whole_groups += 1;
                return;
            }
            Err(_) => return,
        }
    }
}
