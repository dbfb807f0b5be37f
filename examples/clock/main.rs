//! A clock: one end publishes the time (UTC), the others print it.
//!
//! ```text
//! clock publish|subscribe moqt://HOST:PORT|https://HOST:PORT|wss://HOST:PORT [--broadcast NAME] [--count SECONDS]
//!       [--reconnect [--follow-redirects]] [--version VERSION]... [--fingerprint HEX... | --insecure]
//!       [--congestion NAME] [--initial-mtu BYTES] [--max-mtu BYTES]
//! ```
//!
//! The track `seconds` has one group per minute: first a frame `YYYY-MM-DD HH:MM:`, then a frame `SS` every
//! second. Other implementations have the same clock, so either end can be one of theirs.
//!
//! A subscriber waits for the broadcast, and waits again when it ends. It prints the time to stdout, and
//! the state of the broadcast to stderr. Only the end of its session, SIGTERM or SIGINT end it. A publisher
//! that receives one of these signals finishes the broadcast first, so that subscribers notice at once.
//!
//! With `--reconnect` the end of a session does not end it either: it dials again, the URLs in turn.
#![allow(clippy::disallowed_methods, reason = "a clock reads the clock")]

#[path = "../common/peer.rs"]
mod peer;
#[path = "../common/report.rs"]
mod report;
#[path = "../common/signals.rs"]
mod signals;
mod time;

use std::io::Write;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Error, Result, anyhow};
use clap::{Parser, ValueEnum};
use peer::{Dialer, Targets};
use smoq::{
    BroadcastConsumer, BroadcastProducer, Client, GroupProducer, Hop, Origin, OriginConsumer,
    OriginProducer, Path, Session, Subscription, Timestamp,
};
use smoq_quinn::smoq_quic::{Redial, Url};
use smoq_quinn::{Reconnecting, SessionEvent};
use tokio::time::{Instant, sleep, sleep_until};

const TRACK: &str = "seconds";
/// When to try again if the track could not be read although its broadcast is still live.
const AGAIN: Duration = Duration::from_secs(3);

/// A clock: one end publishes the time (UTC), the others print it
#[derive(Parser)]
#[command(name = "clock", version, disable_version_flag = true)]
struct Options {
    /// Whether to publish the time or to print it
    role: Role,
    /// A relay: moqt://HOST[:PORT][/PATH] on raw QUIC, https:// on WebTransport, either with a fallback to wss://; or
    /// ws:// and wss://. With --reconnect there may be several, separated by commas
    url: Targets,
    /// Dials again when the session ends, or nobody answers, instead of ending
    #[arg(long)]
    reconnect: bool,
    /// The path of the broadcast
    #[arg(long, value_name = "NAME", default_value = "clock")]
    broadcast: Path,
    /// Ends after this many seconds instead of never
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    peer: peer::PeerOptions,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Publish,
    Subscribe,
}

/// Resolves to the name of the signal that stops the program.
type Stop<'a> = Pin<&'a mut dyn Future<Output = &'static str>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    report::exit_code(run(peer::parse()).await)
}

async fn run(Options { role, url, reconnect, broadcast, count, peer }: Options) -> Result<()> {
    let mut stop: Stop = pin!(signals::stopped()?);
    // Peers recognize by the hop what is published again.
    let hop = if reconnect { peer::random_hop()? } else { Hop::UNKNOWN };
    let origin = Origin::new(hop).produce();
    let client = Client::new().with_versions(peer.versions());
    let client = match role {
        Role::Publish => client.with_publish(origin.consume()),
        Role::Subscribe => {
            // Only this broadcast is asked for. moq-transport 14 and 15 have no request for all of them.
            let only = origin.scope(std::slice::from_ref(&broadcast));
            client.with_consume(only.with_context(|| format!("can't read {broadcast}"))?)
        }
    };
    let mut link = Link::new(peer.redial(&url), &client, peer.dialer(), reconnect)?;
    tokio::select! {
        connected = link.connect() => connected?,
        signal = &mut stop => {
            eprintln!("stopped by {signal} before {url} answered");
            return Ok(());
        }
    };

    let count = count.unwrap_or(u64::MAX);
    let work = async {
        match role {
            Role::Publish => {
                let made = origin.create_broadcast(broadcast.clone());
                let made = made.with_context(|| format!("can't publish {broadcast}"))?;
                publish(made, count, stop).await
            }
            Role::Subscribe => tokio::select! {
                done = subscribe(&origin, &broadcast, count) => done,
                signal = stop => {
                    eprintln!("stopped by {signal}");
                    Ok(())
                }
            },
        }
    };
    tokio::select! {
        error = link.run() => return Err(error),
        done = work => done?,
    }
    // The last frames are still in flight.
    link.end().await
}

/// The session, and the one after it.
struct Link {
    reconnecting: Reconnecting<Url, Error>,
    /// Whether the end of a session is an error.
    once: bool,
    session: Option<Session>,
}

impl Link {
    fn new(redial: Redial<Url>, client: &Client, dialer: Dialer, again: bool) -> Result<Self> {
        let dial = move |url, client| {
            let dialer = dialer.clone();
            async move { dialer.join(&url, &client).await }
        };
        let reconnecting = smoq_quinn::reconnect(redial, client, dial)?;
        Ok(Self { reconnecting, once: !again, session: None })
    }

    /// Waits for a session.
    async fn connect(&mut self) -> Result<()> {
        while self.session.is_none() {
            self.next().await?;
        }
        Ok(())
    }

    /// Drives sessions until one ends that is the last.
    async fn run(&mut self) -> Error {
        loop {
            if let Err(error) = self.next().await {
                return error;
            }
        }
    }

    async fn next(&mut self) -> Result<()> {
        let event = self.reconnecting.next().await.context("there is no session")?;
        match event {
            SessionEvent::GoingAway { .. } if self.once => {
                self.reconnecting.stop();
                return Ok(());
            }
            SessionEvent::Lost { url, end, .. } if self.once => return Err(ended(&url, end)),
            SessionEvent::Failed { url, error, .. } if self.once => {
                return Err(error.unwrap_or_else(|| anyhow!("{url} did not answer in time")));
            }
            _ => peer::tell(&event),
        }
        if let SessionEvent::Connected { session, .. } = event {
            self.session = Some(session);
        }
        Ok(())
    }

    /// Closes the sessions when everything was sent. The failure of one cuts off no other.
    async fn end(mut self) -> Result<()> {
        self.reconnecting.stop();
        self.session = None;
        let mut result = Ok(());
        while let Some(event) = self.reconnecting.next().await {
            if let SessionEvent::Lost { url, end: Err(error), .. } = event {
                result = result.and(Err(ended(&url, Err(error))));
            }
        }
        result
    }
}

/// The reason why the session is gone, as a sentence.
fn ended(url: &Url, end: smoq::Result<()>) -> Error {
    match end {
        Ok(()) => anyhow!("{url} closed the session"),
        Err(error) => Error::new(error).context(format!("the session with {url} ended")),
    }
}

async fn publish(mut broadcast: BroadcastProducer, count: u64, mut stop: Stop<'_>) -> Result<()> {
    let mut track = broadcast.create_track(TRACK)?;
    let begun = Instant::now();
    let mut ticks = time::Ticks::new(unix_time());
    let mut next = begun;
    let mut group: Option<GroupProducer> = None;
    for _ in 0..count {
        tokio::select! {
            () = sleep_until(next) => {}
            signal = &mut stop => {
                eprintln!("stopped by {signal}");
                break;
            }
        }
        let tick = ticks.tick(unix_time(), begun.elapsed());
        // In the track's default timescale.
        let timestamp = Timestamp::new(tick.timestamp);
        if let Some((sequence, minute)) = tick.begins {
            if let Some(mut full) = group.replace(track.create_group(sequence)?) {
                full.finish()?;
            }
            group.iter_mut().try_for_each(|group| group.write_frame(timestamp, minute.clone()))?;
        }
        if let Some(group) = &mut group {
            group.write_frame(timestamp, tick.second)?;
        }
        next = begun + tick.next;
    }
    if let Some(mut last) = group {
        last.finish()?;
    }
    track.finish()?;
    broadcast.finish()?;
    Ok(())
}

/// The time since 1970 by the wall clock, which may be adjusted.
fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Prints the seconds of one broadcast after the other, `count` of them.
async fn subscribe(origin: &OriginProducer, path: &Path, count: u64) -> Result<()> {
    let mut left = count;
    let mut origin = origin.consume();
    eprintln!("waiting for {path}");
    let mut broadcast = next(&mut origin, path).await?;
    loop {
        eprintln!("{path} is live");
        let end = tokio::select! {
            end = show(&broadcast, &mut left) => end?,
            newer = next(&mut origin, path) => {
                eprintln!("{path} was replaced");
                broadcast = newer?;
                continue;
            }
        };
        if left == 0 {
            return Ok(());
        }
        let is_broken = end.is_err();
        match end {
            Ok(()) => eprintln!("{path} ended, waiting for it to come back"),
            Err(error) => eprintln!("{path} was aborted: {error}; waiting for it to come back"),
        }
        broadcast = tokio::select! {
            newer = next(&mut origin, path) => newer?,
            // If only the track was aborted, the broadcast may still be live.
            () = sleep(AGAIN), if is_broken => match origin.try_announced_broadcast(path.as_str()) {
                Poll::Ready(Some(same)) => same,
                _ => next(&mut origin, path).await?,
            },
        };
    }
}

/// The next broadcast that begins under this path.
async fn next(origin: &mut OriginConsumer, path: &Path) -> Result<BroadcastConsumer> {
    loop {
        let change = origin.announced().await.context("the origin has ended")?;
        if let (true, Some(broadcast)) = (change.path == *path, change.broadcast) {
            return Ok(broadcast);
        }
    }
}

/// Prints the track of one broadcast until its end, or `left` seconds of it. The inner result is that of
/// the track. The outer one is an error if nothing can be printed.
async fn show(broadcast: &BroadcastConsumer, left: &mut u64) -> Result<smoq::Result<()>> {
    let mut track = match broadcast.subscribe_track(TRACK, Subscription::default()) {
        Ok(track) => track,
        Err(error) => return Ok(Err(error)),
    };
    loop {
        let mut group = match track.next_group().await {
            Ok(Some(group)) => group,
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        };
        let mut minute = None;
        loop {
            let frame = match group.read_frame().await {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    // The next minute may be complete.
                    eprintln!("a minute was aborted: {error}");
                    break;
                }
            };
            let text = String::from_utf8_lossy(frame.payload()).into_owned();
            let Some(minute) = &minute else {
                minute = Some(text);
                continue;
            };
            writeln!(std::io::stdout(), "{minute}{text}").context("can't print the time")?;
            *left -= 1;
            if *left == 0 {
                return Ok(Ok(()));
            }
        }
    }
}
