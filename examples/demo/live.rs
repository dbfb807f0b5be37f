//! Five seconds of video and audio from one publisher to twenty subscribers.

use std::cmp::Reverse;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use smoq::{
    BroadcastProducer, Error, GroupProducer, Limits, Origin, Subscription, TrackConsumer,
    TrackProducer,
};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::content::{AUDIO, Plan, VIDEO};
use crate::net::{self, BROADCAST, MakeReader, Relay, Stopped};

const SECONDS: u64 = 5;
/// The number of subscribers on tokio, of which the last two are special, and in a loop on one thread.
const ON_TOKIO: usize = 10;
const ON_THREAD: usize = 10;
/// When the late subscriber joins.
const LATE: Duration = Duration::from_millis(2_500);
/// The period in which the stalled subscriber does not read.
const STALL: [Duration; 2] = [Duration::from_millis(1_200), Duration::from_millis(3_800)];
/// Older groups are not worth waiting for.
const MAX_AGE: Duration = Duration::from_millis(500);
/// When to give up on missing frames.
const PATIENCE: Duration = Duration::from_secs(SECONDS + 10);

/// The frames that one or more subscribers received in a period.
#[derive(Clone, Default)]
struct Counts {
    groups: u64,
    frames: u64,
    bytes: u64,
    /// Frames that were skipped by rule: too old, or superseded by newer ones.
    skipped: u64,
    /// Groups among the skipped ones that never arrived, so that a sender must have skipped them.
    unsent: u64,
    /// Frames that were neither delivered nor skipped by rule, or that differ from what was sent.
    lost: u64,
    latencies: Vec<Duration>,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.groups += other.groups;
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.skipped += other.skipped;
        self.unsent += other.unsent;
        self.lost += other.lost;
        self.latencies.extend(&other.latencies);
    }

    fn latency(&self, percent: usize) -> Option<Duration> {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() * percent / 100).copied()
    }
}

const HEAD: &str = "groups  frames  Mbit/s  p50 ms  p99 ms  skipped";

/// A line below [`HEAD`], with the rate over this many seconds.
struct Line<'a>(&'a Counts, u64);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { groups, frames, bytes, skipped, .. } = self.0;
        let rate = *bytes as f64 * 8e-6 / self.1 as f64;
        let [p50, p99] = [50, 99].map(|percent| match self.0.latency(percent) {
            Some(latency) => format!("{:.1}", latency.as_secs_f64() * 1e3),
            None => "-".into(),
        });
        write!(f, "{groups:>6}  {frames:>6}  {rate:>6.1}  {p50:>6}  {p99:>6}  {skipped:>7}")
    }
}

/// A subscriber, as the other threads see it.
struct Subscriber {
    name: String,
    kind: &'static str,
    is_here: AtomicBool,
    recent: Mutex<Counts>,
}

impl Subscriber {
    fn recent(&self) -> MutexGuard<'_, Counts> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Messages from the threads and tasks.
enum News {
    /// The first frame is being sent.
    Begun(Instant),
    /// A subscriber saw the end.
    Done,
    Failed(anyhow::Error),
}

fn report(news: &Sender<News>, result: Result<()>) {
    if let Err(error) = result {
        // After the first failure nobody receives any more.
        let _ = news.send(News::Failed(error));
    }
}

/// The state that all threads and tasks share.
struct Stage {
    epoch: Instant,
    /// When the first frame was sent.
    begun: watch::Sender<Option<Instant>>,
    here: AtomicUsize,
    is_over: AtomicBool,
}

pub(crate) fn run() -> Result<String> {
    net::with_relay(Limits::default(), play)
}

fn play(runtime: &Runtime, relay: &Relay, stopped: Stopped) -> Result<String> {
    let stage = Arc::new(Stage {
        epoch: Instant::now(),
        begun: watch::Sender::new(None),
        here: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
    });
    let (news, inbox) = channel();
    let stop_news = news.clone();
    runtime.spawn(async move { report(&stop_news, Err(stopped.await)) });
    let mut subscribers = Vec::new();
    let mut subscriber = |kind, name: String| {
        let subscriber = Subscriber { name, kind, is_here: false.into(), recent: Mutex::default() };
        let subscriber = Arc::new(subscriber);
        subscribers.push(Arc::clone(&subscriber));
        make_reader(subscriber, Arc::clone(&stage), news.clone())
    };

    for n in 0..ON_TOKIO {
        let (kind, name) = match ON_TOKIO - n {
            1 => ("late", "the late one".into()),
            2 => ("stalled", "the stalled one".into()),
            _ => ("tokio", format!("tokio {n}")),
        };
        let (relay, stage, news) = (relay.clone(), Arc::clone(&stage), news.clone());
        let reader = subscriber(kind, name);
        runtime.spawn(async move {
            if kind == "late" {
                stage.until(LATE).await;
            }
            report(&news, relay.subscribe(reader).await);
        });
    }
    let readers = (0..ON_THREAD).map(|n| subscriber("blocking", format!("blocking {n}"))).collect();
    let (there, other_news) = (relay.clone(), news.clone());
    thread::spawn(move || report(&other_news, there.subscribe_all(readers)));
    let shared = Arc::clone(&stage);
    let there = relay.clone();
    thread::spawn(move || report(&news, publish(&there, &shared, &news)));

    println!("5 Mbit/s of video and 64 kbit/s of audio, to {} subscribers", subscribers.len());
    println!("{:<26}{HEAD}", "");
    let totals = watch_them(&subscribers, &stage, &inbox)?;
    println!("\n{:<26}{HEAD}", "in all");
    for kind in ["tokio", "blocking", "stalled", "late"] {
        let of_kind =
            || subscribers.iter().zip(&totals).filter(|(subscriber, _)| subscriber.kind == kind);
        let name = format!("{kind} ({})", of_kind().count());
        println!("{name:<26}{}", Line(&sum(of_kind().map(|(_, counts)| counts)), SECONDS));
    }
    let all = sum(&totals);
    println!("{:<26}{}", "everyone", Line(&all, SECONDS));
    if let Some(memory) = resident_memory() {
        println!("memory: {memory} resident, of all {} ends together", subscribers.len() + 2);
    }
    if all.lost > 0 {
        bail!("{} frames were lost", all.lost);
    }
    let unsent = relay.skipped_groups(subscribers.len() as u64);
    if all.unsent > unsent {
        bail!("{} groups did not arrive, {unsent} were skipped", all.unsent);
    }
    let Counts { frames, skipped, .. } = all;
    Ok(format!("{frames} frames delivered, {skipped} skipped by rule, none lost"))
}

fn sum<'a>(counts: impl IntoIterator<Item = &'a Counts>) -> Counts {
    counts.into_iter().fold(Counts::default(), |mut sum, counts| {
        sum.add(counts);
        sum
    })
}

/// Prints a line every second until all subscribers saw the end. Returns the totals of each.
fn watch_them(
    subscribers: &[Arc<Subscriber>],
    stage: &Stage,
    news: &Receiver<News>,
) -> Result<Vec<Counts>> {
    let mut totals = vec![Counts::default(); subscribers.len()];
    let (mut begun, mut second, mut missing) = (None, 1, subscribers.len());
    let limit = stage.epoch + PATIENCE;
    while missing > 0 {
        let tick = begun.map_or(limit, |begun| begun + Duration::from_secs(second)).min(limit);
        match news.recv_timeout(tick.saturating_duration_since(Instant::now())) {
            Ok(News::Failed(error)) => return Err(error),
            Ok(News::Begun(at)) => begun = Some(at),
            Ok(News::Done) => missing -= 1,
            Err(_) if tick == limit => {
                bail!("{missing} of {} subscribers did not see the end in time", subscribers.len());
            }
            Err(_) => {
                print_second(second, subscribers, &mut totals);
                second += 1;
            }
        }
    }
    print_second(second, subscribers, &mut totals);
    stage.is_over.store(true, Ordering::Relaxed);
    Ok(totals)
}

/// Prints the frames of the last second, for all subscribers and for the worst one.
fn print_second(second: u64, subscribers: &[Arc<Subscriber>], totals: &mut [Counts]) {
    let recent: Vec<_> =
        subscribers.iter().map(|subscriber| std::mem::take(&mut *subscriber.recent())).collect();
    println!("{:<26}{}", format!("{second} s, everyone"), Line(&sum(&recent), 1));
    let here = subscribers
        .iter()
        .zip(&recent)
        .filter(|(subscriber, _)| subscriber.is_here.load(Ordering::Relaxed));
    let worst = here.min_by_key(|(_, counts)| (counts.frames, Reverse(counts.latency(99))));
    if let Some((subscriber, counts)) = worst {
        println!("{:<26}{}", format!("     {}", subscriber.name), Line(counts, 1));
    }
    totals.iter_mut().zip(&recent).for_each(|(total, recent)| total.add(recent));
}

impl Stage {
    /// Waits until this long after the first frame.
    async fn until(&self, after: Duration) {
        let mut begun = self.begun.subscribe();
        if let Ok(Some(begun)) = begun.wait_for(Option::is_some).await.map(|begun| *begun) {
            tokio::time::sleep_until((begun + after).into()).await;
        }
    }

    fn micros(&self, now: Instant) -> u64 {
        (now - self.epoch).as_micros() as u64
    }
}

/// One track on the sending side.
struct Feed {
    plan: &'static Plan,
    track: TrackProducer,
    group: Option<GroupProducer>,
    next: u64,
}

impl Feed {
    fn new(broadcast: &mut BroadcastProducer, plan: &'static Plan) -> Result<Self> {
        let track = broadcast.create_track(plan.name)?;
        Ok(Self { plan, track, group: None, next: 0 })
    }

    /// Writes the frames that are due. Returns when the next one is due, or `None` after the last.
    fn turn(&mut self, stage: &Stage, begun: Instant, now: Instant) -> Result<Option<Instant>> {
        let Self { plan, track, group, next } = self;
        while *next < SECONDS * plan.rate {
            let since_begin = Duration::from_micros(*next * 1_000_000 / plan.rate);
            let due = begun + since_begin;
            if due > now {
                return Ok(Some(due));
            }
            if *next % plan.rate == 0 {
                if let Some(mut full) = group.replace(track.append_group()?) {
                    full.finish()?;
                }
            }
            if let Some(group) = group {
                let timestamp = since_begin.as_millis() as u64;
                group.write_frame(timestamp, plan.frame(*next, stage.micros(now)))?;
            }
            *next += 1;
        }
        if let Some(mut last) = group.take() {
            last.finish()?;
            track.finish()?;
        }
        Ok(None)
    }
}

fn publish(relay: &Relay, stage: &Stage, news: &Sender<News>) -> Result<()> {
    let origin = Origin::default().produce();
    let mut broadcast = origin.create_broadcast(BROADCAST)?;
    let mut feeds = [Feed::new(&mut broadcast, &VIDEO)?, Feed::new(&mut broadcast, &AUDIO)?];
    let mut begun = None;
    relay.publish(&origin, |now| {
        let soon = now + Duration::from_millis(5);
        if stage.is_over.load(Ordering::Relaxed) {
            return Ok(None);
        }
        // All except the late one.
        if stage.here.load(Ordering::Relaxed) < ON_TOKIO + ON_THREAD - 1 {
            return Ok(Some(soon));
        }
        let begun = match begun {
            Some(begun) => begun,
            None => {
                stage.begun.send_replace(Some(now));
                news.send(News::Begun(now))?;
                *begun.insert(now)
            }
        };
        let mut next = None;
        for feed in &mut feeds {
            next = feed.turn(stage, begun, now)?.into_iter().chain(next).min();
        }
        Ok(next.or(Some(soon)))
    })
}

fn make_reader(subscriber: Arc<Subscriber>, stage: Arc<Stage>, news: Sender<News>) -> MakeReader {
    Box::new(|origin| {
        Box::pin(async move {
            let broadcast = net::find(&origin).await?;
            let want = Subscription::default().max_age(MAX_AGE);
            let mut video = broadcast.subscribe_track(VIDEO.name, want.clone())?;
            let mut audio = broadcast.subscribe_track(AUDIO.name, want)?;
            video.info().await?;
            audio.info().await?;
            subscriber.is_here.store(true, Ordering::Relaxed);
            stage.here.fetch_add(1, Ordering::Relaxed);
            let (video, audio) = tokio::join!(
                read(&VIDEO, video, &subscriber, &stage),
                read(&AUDIO, audio, &subscriber, &stage)
            );
            video.and(audio)?;
            Ok(news.send(News::Done)?)
        })
    })
}

/// Reads a track to its end and counts its frames.
async fn read(
    plan: &Plan,
    mut track: TrackConsumer,
    subscriber: &Subscriber,
    stage: &Stage,
) -> Result<()> {
    let mut missing = None;
    let mut expected = None;
    let mut gaps = Vec::new();
    while let Some(mut group) = track.next_group().await? {
        let mut index = group.sequence() * plan.rate;
        let end = index + plan.rate;
        let missing = missing.get_or_insert(SECONDS * plan.rate - index);
        let gap = expected.unwrap_or(group.sequence())..group.sequence();
        expected = Some(group.sequence() + 1);
        let skipped = (gap.end - gap.start) * plan.rate;
        *missing = missing.saturating_sub(skipped);
        subscriber.recent().skipped += skipped;
        gaps.extend(gap);
        forget_late(&mut gaps, &mut track);
        loop {
            match group.read_frame().await {
                Ok(Some(frame)) => {
                    let now = stage.micros(Instant::now());
                    let mut recent = subscriber.recent();
                    if let Some(sent) = plan.check(index, frame.payload()) {
                        recent.frames += 1;
                        recent.bytes += frame.len() as u64;
                        recent.latencies.push(Duration::from_micros(now - sent));
                        *missing = missing.saturating_sub(1);
                    }
                    index += 1;
                }
                Ok(None) => {
                    subscriber.recent().groups += 1;
                    break;
                }
                Err(Error::Old | Error::Evicted | Error::Lagged) => {
                    subscriber.recent().skipped += end - index;
                    *missing = missing.saturating_sub(end - index);
                    break;
                }
                // Frames that did not arrive count as lost, with any error.
                Err(error) => {
                    eprintln!(
                        "{}: {} group {}: {error}",
                        subscriber.name,
                        plan.name,
                        group.sequence()
                    );
                    break;
                }
            }
            if subscriber.kind == "stalled" {
                let begun = *stage.begun.borrow();
                let since = begun.map(|begun| begun.elapsed());
                if since.is_some_and(|since| STALL[0] < since && since < STALL[1]) {
                    stage.until(STALL[1]).await;
                }
            }
        }
    }
    forget_late(&mut gaps, &mut track);
    subscriber.recent().unsent += gaps.len() as u64;
    let missing = missing.unwrap_or(SECONDS * plan.rate);
    if missing > 0 {
        eprintln!("{}: {missing} frames of {} are missing", subscriber.name, plan.name);
    }
    subscriber.recent().lost += missing;
    Ok(())
}

/// Removes from `gaps` the groups that arrived late.
fn forget_late(gaps: &mut Vec<u64>, track: &mut TrackConsumer) {
    gaps.retain(|gap| !matches!(track.try_group(*gap), Poll::Ready(Ok(Some(_)))));
}

/// The resident memory, on systems that report it.
fn resident_memory() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(format!("{} MiB", kib >> 10))
}
