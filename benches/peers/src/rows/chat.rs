//! A chat on two threads: 1,000 broadcasts with 50 readers each, half of them on each thread. A message is a group of its
//! own. How long do threads wait for locks that the other one holds?
//!
//! Each thread writes to half of the broadcasts. It never sleeps, and begins its next round when its readers have all
//! messages of the last one. So the time in which it neither ran nor was ready to run is the time in which it waited for a
//! lock.

use std::fs;
use std::hint::{black_box, spin_loop};
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use smoq::{Broadcast, BroadcastConsumer, BroadcastProducer, ReadyList, Subscription};
use smoq::{TrackConsumer, TrackProducer};

use crate::case::{Case, lower};

const THREADS: usize = 2;
const MESSAGE: [u8; 200] = [7; 200];
/// Messages that a thread writes before it reads what has arrived.
const TURN: usize = 8;

pub(crate) fn cases(quick: bool) -> Vec<Case> {
    let chat = if quick {
        Chat { broadcasts: 4, readers: 4, rounds: 2 }
    } else {
        Chat { broadcasts: 1_000, readers: 50, rounds: 40 }
    };
    let metrics = [lower("lock-wait", "% of CPU"), lower("", "ns/delivery")];
    vec![Case::new("model/chat", metrics).side("smoq", move || chat.run())]
}

#[derive(Clone, Copy)]
struct Chat {
    broadcasts: usize,
    /// Of each broadcast.
    readers: usize,
    /// Messages of each broadcast, one second apart.
    rounds: u64,
}

impl Chat {
    fn run(self) -> Result<Vec<f64>> {
        let mut producers: Vec<_> = (0..self.broadcasts).map(|_| produce()).collect();
        let consumers: Vec<_> = producers.iter().map(|(room, _)| room.consume()).collect();
        let mut workers = Vec::new();
        for _ in 0..THREADS {
            let own = producers.split_off(producers.len() - self.broadcasts / THREADS);
            workers.push(Worker::new(own, &consumers, self.readers / THREADS)?);
        }
        let begin = Barrier::new(THREADS);
        let begun = Instant::now();
        let times = thread::scope(|scope| {
            let threads: Vec<_> = workers
                .iter_mut()
                .map(|worker| {
                    scope.spawn(|| {
                        begin.wait();
                        worker.chat(self.rounds)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
        });
        let deliveries = self.rounds * (self.broadcasts * self.readers) as u64;
        let (mut waited, mut ran) = (Duration::ZERO, Duration::ZERO);
        for times in times {
            let times = times?;
            waited += times.wall.saturating_sub(times.ran + times.ready);
            ran += times.ran;
        }
        let share = 100.0 * waited.as_secs_f64() / ran.as_secs_f64();
        Ok(vec![share, begun.elapsed().as_nanos() as f64 / deliveries as f64])
    }
}

fn produce() -> (BroadcastProducer, TrackProducer) {
    let mut room = Broadcast::new().produce();
    let track = room.create_track("chat").expect("a free name");
    (room, track)
}

/// The share of one thread.
struct Worker {
    producers: Vec<(BroadcastProducer, TrackProducer)>,
    readers: Vec<(TrackConsumer, Waker)>,
    ready: ReadyList,
    received: u64,
}

impl Worker {
    fn new(
        producers: Vec<(BroadcastProducer, TrackProducer)>,
        rooms: &[BroadcastConsumer],
        readers: usize,
    ) -> Result<Self> {
        let ready = ReadyList::new();
        let mut all = Vec::new();
        for room in rooms {
            for _ in 0..readers {
                let want = Subscription::default().max_age(Duration::MAX);
                let waker = ready.waker(all.len() as u64);
                waker.wake_by_ref();
                all.push((room.subscribe_track("chat", want)?, waker));
            }
        }
        Ok(Self { producers, readers: all, ready, received: 0 })
    }

    fn chat(&mut self, rounds: u64) -> Result<Times> {
        let (begun, before) = (Instant::now(), Times::of_this_thread()?);
        for round in 0..rounds {
            for n in 0..self.producers.len() {
                self.producers[n].1.write_frame(round * 1_000, MESSAGE.to_vec())?;
                if n.is_multiple_of(TURN) {
                    self.read();
                }
            }
            while self.received < (round + 1) * self.readers.len() as u64 {
                self.read();
                spin_loop();
            }
        }
        let after = Times::of_this_thread()?;
        Ok(Times {
            wall: begun.elapsed(),
            ran: after.ran - before.ran,
            ready: after.ready - before.ready,
        })
    }

    fn read(&mut self) {
        while let Some(key) = self.ready.pop() {
            let (reader, waker) = &mut self.readers[key as usize];
            let mut cx = Context::from_waker(waker);
            while let Poll::Ready(Ok(Some(frame))) = reader.poll_read_frame(&mut cx) {
                black_box(frame);
                self.received += 1;
            }
        }
    }
}

/// How a thread spent its time.
#[derive(Default)]
struct Times {
    wall: Duration,
    ran: Duration,
    /// It could have run, but others did.
    ready: Duration,
}

impl Times {
    fn of_this_thread() -> Result<Self> {
        let text = fs::read_to_string("/proc/thread-self/schedstat")?;
        let mut fields =
            text.split_whitespace().map(|field| field.parse().map(Duration::from_nanos));
        let mut next = || fields.next().context("a field is missing").and_then(|field| Ok(field?));
        Ok(Self { wall: Duration::ZERO, ran: next()?, ready: next()? })
    }
}
