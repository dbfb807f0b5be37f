//! A file from one publisher to four subscribers, in order and complete, at any pace.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, bail};
use ring::digest::{Context as Hash, Digest, SHA256};
use smoq::{GroupProducer, Limits, Origin, OriginProducer, Subscription, Track};
use tokio::runtime::Runtime;

use crate::net::{self, BROADCAST, MakeReader, Relay, Stopped};

const TRACK: &str = "file";
const READERS: usize = 4;
/// Bytes per frame.
const FRAME: u64 = 16 << 10;
const GROUP: u64 = 64;
/// 200 Mbit/s.
const BYTES_PER_SECOND: u128 = 25_000_000;
/// How often the publisher checks what is due.
const TICK: Duration = Duration::from_millis(2);
/// No group expires.
const FOR_EVER: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Messages from the threads and tasks.
enum News {
    Sent(Digest),
    Received(Digest),
    Failed(Error),
}

/// The progress of the readers.
#[derive(Default)]
struct Audience {
    attached: AtomicUsize,
    done: AtomicUsize,
}

pub(crate) fn run(path: &Path) -> Result<String> {
    let unreadable = || format!("can't read {}", path.display());
    let file = File::open(path).with_context(unreadable)?;
    let meta = file.metadata().with_context(unreadable)?;
    if meta.is_dir() {
        bail!("can't read {}: it is a directory", path.display());
    }
    let len = meta.len();
    net::with_relay(limits(len), |runtime, relay, stopped| {
        send(runtime, relay, stopped, file, len)
            .with_context(|| format!("can't send {}", path.display()))
    })
}

fn send(
    runtime: &Runtime,
    relay: &Relay,
    stopped: Stopped,
    file: File,
    len: u64,
) -> Result<String> {
    let audience = Arc::new(Audience::default());
    let (news, inbox) = channel();
    let reader = || make_reader(Arc::clone(&audience), news.clone());

    for reader in [reader(), reader()] {
        let (relay, news) = (relay.clone(), news.clone());
        runtime.spawn(async move { report(&news, relay.subscribe(reader).await) });
    }
    let (there, threaded) = (relay.clone(), vec![reader(), reader()]);
    let other_news = news.clone();
    let stop_news = news.clone();
    runtime.spawn(async move { report(&stop_news, Err(stopped.await)) });
    thread::spawn(move || report(&other_news, there.subscribe_all(threaded)));
    let begun = Instant::now();
    let relay = relay.clone();
    thread::spawn(move || report(&news, publish(&relay, file, &audience, &news)));

    let mut sent = None;
    let mut received = Vec::new();
    while sent.is_none() || received.len() < READERS {
        match inbox.recv()? {
            News::Sent(hash) => {
                println!("sent      sha256:{}", hex(&hash));
                sent = Some(hash);
            }
            News::Received(hash) => {
                println!("received  sha256:{}", hex(&hash));
                received.push(hash);
            }
            News::Failed(error) => return Err(error),
        }
    }
    let differ =
        received.iter().filter(|hash| Some(hash.as_ref()) != sent.as_ref().map(AsRef::as_ref));
    match differ.count() {
        0 => Ok(format!("{len} bytes to {READERS} subscribers in {:.1?}", begun.elapsed())),
        n => bail!("{n} of {READERS} subscribers received other bytes"),
    }
}

fn report(news: &Sender<News>, result: Result<()>) {
    if let Err(error) = result {
        // After the first failure nobody receives any more.
        let _ = news.send(News::Failed(error));
    }
}

/// Limits with room for the whole file.
fn limits(len: u64) -> Limits {
    let mut limits = Limits::default();
    let groups = (len / (FRAME * GROUP)) as usize + 1;
    limits.track_groups = limits.track_groups.max(groups);
    limits.pending_groups = limits.pending_groups.max(groups);
    limits.track_bytes += 2 * len;
    limits.cache_bytes += 2 * len;
    limits.max_age = FOR_EVER;
    limits
}

fn publish(relay: &Relay, mut file: File, audience: &Audience, news: &Sender<News>) -> Result<()> {
    let origin = Origin::default().limits(relay.limits().clone()).produce();
    let mut broadcast = origin.create_broadcast(BROADCAST)?;
    let mut track = broadcast.create_track(Track::new(TRACK).max_age(FOR_EVER))?;
    let mut hash = Some(Hash::new(&SHA256));
    let mut group: Option<GroupProducer> = None;
    let (mut begun, mut frames) = (None, 0);
    relay.publish(&origin, |now| {
        let soon = Ok(Some(now + TICK));
        if audience.done.load(Ordering::Relaxed) == READERS {
            return Ok(None);
        }
        if audience.attached.load(Ordering::Relaxed) < READERS {
            return soon;
        }
        let due = now - *begun.get_or_insert(now);
        while let Some(hashing) = &mut hash {
            if u128::from(frames * FRAME) > due.as_micros() * BYTES_PER_SECOND / 1_000_000 {
                break;
            }
            let mut frame = Vec::new();
            (&mut file).take(FRAME).read_to_end(&mut frame)?;
            if frames % GROUP == 0 || frame.is_empty() {
                if let Some(mut full) = group.take() {
                    full.finish()?;
                }
            }
            if frame.is_empty() {
                track.finish()?;
                if let Some(hash) = hash.take() {
                    news.send(News::Sent(hash.finish()))?;
                }
                break;
            }
            hashing.update(&frame);
            let group = match &mut group {
                Some(group) => group,
                none => none.insert(track.append_group()?),
            };
            group.write_frame(frames, frame)?;
            frames += 1;
        }
        soon
    })
}

fn make_reader(audience: Arc<Audience>, news: Sender<News>) -> MakeReader {
    Box::new(|origin| {
        Box::pin(async move {
            let hash = receive(&origin, &audience).await?;
            news.send(News::Received(hash))?;
            audience.done.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    })
}

async fn receive(origin: &OriginProducer, audience: &Audience) -> Result<Digest> {
    let all = Subscription::default().ordered(true).start(0).max_age(FOR_EVER);
    let mut track = net::find(origin).await?.subscribe_track(TRACK, all)?;
    track.info().await?;
    audience.attached.fetch_add(1, Ordering::Relaxed);

    let mut hash = Hash::new(&SHA256);
    // Groups travel in parallel, so one may arrive before an earlier one.
    let (mut early, mut next) = (BTreeMap::new(), 0);
    while let Some(mut group) = track.recv_group().await? {
        let mut frames = Vec::new();
        while let Some(frame) = group.read_frame().await? {
            frames.push(frame.bytes());
        }
        early.insert(group.sequence(), frames);
        while let Some(frames) = early.remove(&next) {
            frames.iter().for_each(|frame| hash.update(frame));
            next += 1;
        }
    }
    Ok(hash.finish())
}

fn hex(hash: &Digest) -> String {
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
