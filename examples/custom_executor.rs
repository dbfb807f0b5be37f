//! An executor of one screen, alone in the process: no tokio, no smol, no thread. It runs the async
//! API of smoq, while smoq-blocking steps the network in between.
//!
//! `cargo run --example custom_executor -- [GROUPS]`

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use smoq::{Client, Origin, OriginConsumer, ReadyList, Server, Subscription, Track, TrackProducer};
use smoq_blocking::smoq_tls::{Identity, Trust};
use smoq_blocking::{Budget, Endpoint, config};

type Outcome = Result<(), Box<dyn Error>>;

/// Tasks, and which of them were woken. Only those are polled.
#[derive(Default)]
struct Executor<'a> {
    tasks: Vec<Task<'a>>,
    woken: ReadyList,
}

struct Task<'a> {
    future: Pin<Box<dyn Future<Output = Outcome> + 'a>>,
    waker: Waker,
    done: bool,
}

impl<'a> Executor<'a> {
    fn spawn(&mut self, future: impl Future<Output = Outcome> + 'a) {
        let waker = self.woken.waker(self.tasks.len() as u64);
        waker.wake_by_ref();
        self.tasks.push(Task { future: Box::pin(future), waker, done: false });
    }

    /// Polls the tasks that were woken; `true` when all tasks are done.
    fn run_woken(&mut self) -> Result<bool, Box<dyn Error>> {
        while let Some(key) = self.woken.pop() {
            let task = &mut self.tasks[key as usize];
            if !task.done
                && task.future.as_mut().poll(&mut Context::from_waker(&task.waker))?.is_ready()
            {
                task.done = true;
            }
        }
        Ok(self.tasks.iter().all(|task| task.done))
    }
}

fn main() -> Outcome {
    let groups = std::env::args().nth(1).map_or(Ok(10), |arg| arg.parse())?;

    // One socket that listens and dials itself: the groups below cross a real UDP socket twice.
    let (published, received) = (Origin::default().produce(), Origin::default().produce());
    let server = Server::new().with_publish(published.consume());
    let client = Client::new().with_consume(received.clone());
    let identity = Identity::self_signed(["localhost"])?;
    let listen = config::server(&identity, server.versions())?;
    let dial = config::client(&Trust::from(identity.fingerprint()), client.versions())?;
    let mut net = Endpoint::bind(([127, 0, 0, 1], 0).into(), listen, &server)?;
    net.dial(net.local_addr()?, "localhost", dial, &client)?;

    let mut broadcast = published.create_broadcast("clock")?;
    let mut executor = Executor::default();
    executor.spawn(publish(broadcast.create_track(Track::new("ticks"))?, groups));
    executor.spawn(subscribe(received.consume(), groups));

    let waker = net.waker();
    while !executor.run_woken()? {
        net.step(Budget::items(256))?;
        // Wakes of the network's own making need no system call: asked for before the wait only.
        if executor.woken.poll_ready(&mut Context::from_waker(&waker)).is_pending() {
            net.wait(Some(Duration::from_secs(10)))?;
        }
    }
    Ok(())
}

async fn publish(mut track: TrackProducer, groups: u64) -> Outcome {
    track.used().await?;
    for number in 0..groups {
        track.write_frame(number, format!("tick {number}"))?;
    }
    track.finish()?;
    track.unused().await?;
    Ok(())
}

async fn subscribe(mut origin: OriginConsumer, groups: u64) -> Outcome {
    let broadcast = origin.announced_broadcast("clock").await.ok_or("no broadcast")?;
    let want = Subscription::default().ordered(true).max_age(Duration::MAX);
    let mut track = broadcast.subscribe_track("ticks", want)?;
    let mut seen = 0;
    while let Some(frame) = track.read_frame().await? {
        println!("{}", std::str::from_utf8(frame.payload())?);
        seen += 1;
    }
    if seen == groups { Ok(()) } else { Err(format!("{seen} of {groups} groups").into()) }
}
