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
/// Subscribers on tokio, the last two of them special, and in a loop on one thread.
const ON_TOKIO: usize = 10;
const ON_THREAD: usize = 10;
/// One subscriber comes only now,
const LATE: Duration = Duration::from_millis(2_500);
/// and one does not read from the first of these times to the second.
const STALL: [Duration; 2] = [Duration::from_millis(1_200), Duration::from_millis(3_800)];
/// What is older than this is not worth waiting for.
const MAX_AGE: Duration = Duration::from_millis(500);
/// When to give up on what is still missing.
const PATIENCE: Duration = Duration::from_secs(SECONDS + 10);

/// What one subscriber, or some of them, got in some time.
#[derive(Clone, Default)]
struct Counts {
    groups: u64,
    frames: u64,
    bytes: u64,
    /// Frames that were skipped by rule: too old when their turn came, or behind newer ones.
    skipped: u64,
    /// Groups among them that never came: whoever was to send them must have skipped them.
    unsent: u64,
    /// Frames that were neither delivered nor skipped by rule, or not as they were sent.
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

/// A line under [`HEAD`], with the rate over so many seconds.
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

/// A subscriber, as far as the others care.
struct Seat {
    name: String,
    kind: &'static str,
    is_here: AtomicBool,
    recent: Mutex<Counts>,
}

impl Seat {
    fn recent(&self) -> MutexGuard<'_, Counts> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the threads and tasks tell.
enum News {
    /// The first frame is being sent.
    Begun(Instant),
    /// A subscriber saw the end.
    Done,
    Failed(anyhow::Error),
}

fn tell(news: &Sender<News>, result: Result<()>) {
    if let Err(error) = result {
        // Nobody listens any more after the first failure.
        let _ = news.send(News::Failed(error));
    }
}

/// What all threads and tasks know.
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
    let (news, heard) = channel();
    let stop_news = news.clone();
    runtime.spawn(async move { tell(&stop_news, Err(stopped.await)) });
    let mut seats = Vec::new();
    let mut seat = |kind, name: String| {
        let seat = Seat { name, kind, is_here: false.into(), recent: Mutex::default() };
        let seat = Arc::new(seat);
        seats.push(Arc::clone(&seat));
        make_reader(seat, Arc::clone(&stage), news.clone())
    };

    for n in 0..ON_TOKIO {
        let (kind, name) = match ON_TOKIO - n {
            1 => ("late", "the late one".into()),
            2 => ("stalled", "the stalled one".into()),
            _ => ("tokio", format!("tokio {n}")),
        };
        let (relay, stage, news) = (relay.clone(), Arc::clone(&stage), news.clone());
        let reader = seat(kind, name);
        runtime.spawn(async move {
            if kind == "late" {
                stage.until(LATE).await;
            }
            tell(&news, relay.subscribe(reader).await);
        });
    }
    let readers = (0..ON_THREAD).map(|n| seat("blocking", format!("blocking {n}"))).collect();
    let (there, other_news) = (relay.clone(), news.clone());
    thread::spawn(move || tell(&other_news, there.subscribe_all(readers)));
    let shared = Arc::clone(&stage);
    let there = relay.clone();
    thread::spawn(move || tell(&news, publish(&there, &shared, &news)));

    println!("5 Mbit/s of video and 64 kbit/s of audio, to {} subscribers", seats.len());
    println!("{:<26}{HEAD}", "");
    let totals = watch_them(&seats, &stage, &heard)?;
    println!("\n{:<26}{HEAD}", "in all");
    for kind in ["tokio", "blocking", "stalled", "late"] {
        let of_kind = || seats.iter().zip(&totals).filter(|(seat, _)| seat.kind == kind);
        let name = format!("{kind} ({})", of_kind().count());
        println!("{name:<26}{}", Line(&sum(of_kind().map(|(_, counts)| counts)), SECONDS));
    }
    let all = sum(&totals);
    println!("{:<26}{}", "everyone", Line(&all, SECONDS));
    if let Some(memory) = resident_memory() {
        println!("memory: {memory} resident, of all {} ends together", seats.len() + 2);
    }
    if all.lost > 0 {
        bail!("{} frames were lost", all.lost);
    }
    let unsent = relay.skipped_groups(seats.len() as u64);
    if all.unsent > unsent {
        bail!("{} groups did not come, {unsent} were skipped", all.unsent);
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

/// Prints every second until all subscribers saw the end; gives what each got.
fn watch_them(seats: &[Arc<Seat>], stage: &Stage, news: &Receiver<News>) -> Result<Vec<Counts>> {
    let mut totals = vec![Counts::default(); seats.len()];
    let (mut begun, mut second, mut missing) = (None, 1, seats.len());
    let limit = stage.epoch + PATIENCE;
    while missing > 0 {
        let tick = begun.map_or(limit, |begun| begun + Duration::from_secs(second)).min(limit);
        match news.recv_timeout(tick.saturating_duration_since(Instant::now())) {
            Ok(News::Failed(error)) => return Err(error),
            Ok(News::Begun(at)) => begun = Some(at),
            Ok(News::Done) => missing -= 1,
            Err(_) if tick == limit => {
                bail!("{missing} of {} subscribers did not see the end in time", seats.len());
            }
            Err(_) => {
                print_second(second, seats, &mut totals);
                second += 1;
            }
        }
    }
    print_second(second, seats, &mut totals);
    stage.is_over.store(true, Ordering::Relaxed);
    Ok(totals)
}

/// What everyone and the one who is worst off got since the last time.
fn print_second(second: u64, seats: &[Arc<Seat>], totals: &mut [Counts]) {
    let recent: Vec<_> = seats.iter().map(|seat| std::mem::take(&mut *seat.recent())).collect();
    println!("{:<26}{}", format!("{second} s, everyone"), Line(&sum(&recent), 1));
    let here = seats.iter().zip(&recent).filter(|(seat, _)| seat.is_here.load(Ordering::Relaxed));
    let worst = here.min_by_key(|(_, counts)| (counts.frames, Reverse(counts.latency(99))));
    if let Some((seat, counts)) = worst {
        println!("{:<26}{}", format!("     {}", seat.name), Line(counts, 1));
    }
    totals.iter_mut().zip(&recent).for_each(|(total, recent)| total.add(recent));
}

impl Stage {
    /// Waits until so long after the first frame.
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

/// One track as it is written.
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

    /// Writes what is due; gives when the next frame is, unless that was the last one.
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
        // All but the late one.
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

fn make_reader(seat: Arc<Seat>, stage: Arc<Stage>, news: Sender<News>) -> MakeReader {
    Box::new(|origin| {
        Box::pin(async move {
            let broadcast = net::find(&origin).await?;
            let want = Subscription::default().max_age(MAX_AGE);
            let mut video = broadcast.subscribe_track(VIDEO.name, want.clone())?;
            let mut audio = broadcast.subscribe_track(AUDIO.name, want)?;
            video.info().await?;
            audio.info().await?;
            seat.is_here.store(true, Ordering::Relaxed);
            stage.here.fetch_add(1, Ordering::Relaxed);
            let (video, audio) = tokio::join!(
                read(&VIDEO, video, &seat, &stage),
                read(&AUDIO, audio, &seat, &stage)
            );
            video.and(audio)?;
            Ok(news.send(News::Done)?)
        })
    })
}

/// Reads a track to its end, and counts.
async fn read(plan: &Plan, mut track: TrackConsumer, seat: &Seat, stage: &Stage) -> Result<()> {
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
        seat.recent().skipped += skipped;
        gaps.extend(gap);
        forget_late(&mut gaps, &mut track);
        loop {
            match group.next_frame().await {
                Ok(Some(frame)) => {
                    let now = stage.micros(Instant::now());
                    let mut recent = seat.recent();
                    if let Some(sent) = plan.check(index, frame.payload()) {
                        recent.frames += 1;
                        recent.bytes += frame.len() as u64;
                        recent.latencies.push(Duration::from_micros(now - sent));
                        *missing = missing.saturating_sub(1);
                    }
                    index += 1;
                }
                Ok(None) => {
                    seat.recent().groups += 1;
                    break;
                }
                Err(Error::Old | Error::Evicted | Error::Lagged) => {
                    seat.recent().skipped += end - index;
                    *missing = missing.saturating_sub(end - index);
                    break;
                }
                // Whatever else it is, what did not come counts as lost.
                Err(error) => {
                    eprintln!("{}: {} group {}: {error}", seat.name, plan.name, group.sequence());
                    break;
                }
            }
            if seat.kind == "stalled" {
                let begun = *stage.begun.borrow();
                let since = begun.map(|begun| begun.elapsed());
                if since.is_some_and(|since| STALL[0] < since && since < STALL[1]) {
                    stage.until(STALL[1]).await;
                }
            }
        }
    }
    forget_late(&mut gaps, &mut track);
    seat.recent().unsent += gaps.len() as u64;
    let missing = missing.unwrap_or(SECONDS * plan.rate);
    if missing > 0 {
        eprintln!("{}: {missing} frames of {} are missing", seat.name, plan.name);
    }
    seat.recent().lost += missing;
    Ok(())
}

/// Of groups that were passed over keeps those that did not come later.
fn forget_late(gaps: &mut Vec<u64>, track: &mut TrackConsumer) {
    gaps.retain(|gap| !matches!(track.try_get_group(*gap), Poll::Ready(Ok(Some(_)))));
}

/// As the system says, where it does.
fn resident_memory() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(format!("{} MiB", kib >> 10))
}
