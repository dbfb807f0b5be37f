//! A minimal executor, alone in the process: no tokio, no smol, no thread. It runs the async API of smoq,
//! while smoq-blocking steps the network in between.
//!
//! `cargo run --example custom_executor -- [FRAMES]`

#[path = "common/report.rs"]
mod report;

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::task::{self, Waker};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use smoq::{Client, Origin, OriginConsumer, ReadyList, Server, Subscription, Track, TrackProducer};
use smoq_blocking::smoq_quic::{Identity, Trust};
use smoq_blocking::{Budget, Endpoint, Event, config};

/// A minimal executor runs the async API of smoq between a publisher and a subscriber
#[derive(Parser)]
#[command(name = "custom_executor", version)]
struct Options {
    /// How many frames to send
    #[arg(default_value_t = 10)]
    frames: u64,
}

/// Tasks, and the list of those that were woken. Only these are polled.
#[derive(Default)]
struct Executor<'a> {
    tasks: Vec<Task<'a>>,
    woken: ReadyList,
}

struct Task<'a> {
    future: Pin<Box<dyn Future<Output = Result<()>> + 'a>>,
    waker: Waker,
    done: bool,
}

impl<'a> Executor<'a> {
    fn spawn(&mut self, future: impl Future<Output = Result<()>> + 'a) {
        let waker = self.woken.waker(self.tasks.len() as u64);
        waker.wake_by_ref();
        self.tasks.push(Task { future: Box::pin(future), waker, done: false });
    }

    /// Polls the woken tasks. Returns `true` once all tasks are done.
    fn run_woken(&mut self) -> Result<bool> {
        while let Some(key) = self.woken.pop() {
            let task = &mut self.tasks[key as usize];
            if !task.done
                && task
                    .future
                    .as_mut()
                    .poll(&mut task::Context::from_waker(&task.waker))?
                    .is_ready()
            {
                task.done = true;
            }
        }
        Ok(self.tasks.iter().all(|task| task.done))
    }
}

fn main() -> ExitCode {
    report::exit_code(run(Options::parse().frames))
}

fn run(frames: u64) -> Result<()> {
    // One socket that listens and dials itself, so the frames below cross a real UDP socket twice.
    let (published, received) = (Origin::default().produce(), Origin::default().produce());
    let server = Server::new().with_publish(published.consume());
    let client = Client::new().with_consume(received.clone());
    let identity = Identity::self_signed(["localhost"])?;
    let listen = config::server(&identity, server.versions())?;
    let dial = config::client(&Trust::from(identity.fingerprint()), client.versions())?;
    let local = ([127, 0, 0, 1], 0).into();
    let mut net = Endpoint::bind(local, listen, &server)
        .with_context(|| format!("can't listen on {local}"))?;
    net.dial(net.local_addr()?, "localhost", dial, &client)?;

    let mut broadcast = published.create_broadcast("clock")?;
    let mut executor = Executor::default();
    executor.spawn(publish(broadcast.create_track(Track::new("ticks"))?, frames));
    executor.spawn(subscribe(received.consume(), frames));

    let waker = net.waker();
    while !executor.run_woken()? {
        net.step(Budget::items(256)).context("the socket failed")?;
        while let Some(event) = net.poll_event() {
            match event {
                Event::Closed { reason, .. } => bail!("the session ended: {reason}"),
                Event::Failed { error, .. } => bail!("can't establish a session: {error}"),
                _ => {}
            }
        }
        // Wake-ups caused by the network's own step need no system call, so the list is checked only before
        // the wait.
        if executor.woken.poll_ready(&mut task::Context::from_waker(&waker)).is_pending() {
            net.wait(Some(Duration::from_secs(10)))?;
        }
    }
    // Everything has arrived. Dropping the socket ends both sessions.
    Ok(())
}

async fn publish(mut track: TrackProducer, frames: u64) -> Result<()> {
    track.used().await?;
    // The frames of a group arrive in order. Groups may overtake each other.
    let mut group = track.append_group()?;
    for number in 0..frames {
        group.write_frame(number, format!("tick {number}"))?;
    }
    group.finish()?;
    track.finish()?;
    track.unused().await?;
    Ok(())
}

async fn subscribe(mut origin: OriginConsumer, frames: u64) -> Result<()> {
    let broadcast = origin.announced_broadcast("clock").await;
    let broadcast = broadcast.context("the origin has ended")?;
    let mut track = broadcast.subscribe_track("ticks", Subscription::default())?;
    let mut seen = 0;
    while let Some(mut group) = track.recv_group().await.context("the track was aborted")? {
        while let Some(frame) = group.read_frame().await.context("the group was aborted")? {
            println!("{}", String::from_utf8_lossy(frame.payload()));
            seen += 1;
        }
    }
    ensure!(seen == frames, "received {seen} frames instead of {frames}");
    Ok(())
}
