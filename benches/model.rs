//! The cost of the model, in numbers that do not depend on the load of the machine: bytes of heap, allocations,
//! and instructions where `valgrind` is installed.
//!
//! ```text
//! cargo bench -p smoq-benches --bench model
//! ```
//!
//! One writer and N readers polled in turn, frames of 1,200 bytes, 30 a group. Instructions do not show what atomic
//! operations and cache misses cost: see `fanout` for the time.

use std::future::Future;
use std::hint::black_box;
use std::process::Command;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use smoq::bytes::Bytes;
use smoq::{GroupConsumer, GroupProducer, Subscription, Track, TrackConsumer, TrackProducer};

const FRAMES: u64 = 30;
const SIZE: usize = 1_200;
/// Bytes of a small frame. They are subtracted where payload is cached.
const SMALL: usize = 100;
/// Readers, tasks, groups, or frames that a row of bytes is measured with.
const MANY: usize = 1_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [flag, readers, groups] = &args[..] {
        assert_eq!(flag, "--run");
        let number = |arg: &str| arg.parse().expect("a number");
        return Polled::new(number(readers)).groups(number(groups) as u64);
    }
    let is_test = args.iter().any(|arg| arg == "--test");
    heap(if is_test { 10 } else { MANY });
    for readers in if is_test { vec![1] } else { vec![1, 10, 100, 1_000] } {
        let mut state = Polled::new(readers);
        state.groups(20);
        let deliveries = (100 * FRAMES * readers as u64) as f64;
        let each = measure(|| state.groups(100)).count_total as f64 / deliveries;
        println!("polled/{readers}: {each:.4} allocations per delivery");
        if !is_test {
            instructions(readers);
        }
    }
}

fn want() -> Subscription {
    Subscription::default().max_age(Duration::from_secs(1))
}

fn small() -> Bytes {
    Bytes::copy_from_slice(&[7; SMALL])
}

/// A track with a group of one frame.
fn track() -> (TrackProducer, GroupProducer) {
    let mut track = Track::new("video").produce();
    let mut group = track.append_group().unwrap();
    group.write_frame(0, small()).unwrap();
    (track, group)
}

/// Prints the heap that `make` leaves in use for each of `n`, without `payload`.
fn row<T>(name: &str, n: usize, payload: usize, make: impl FnOnce() -> T) {
    let mut kept = None;
    let used = measure(|| kept = Some(make()));
    println!("{name}: {:.1} B", used.bytes_current as f64 / n as f64 - payload as f64);
}

fn heap(n: usize) {
    let (idle, _group) = track();
    row("reader", n, 0, || (0..n).map(|_| idle.subscribe(want())).collect::<Vec<_>>());

    let (idle, mut group) = track();
    group.finish().unwrap();
    tasks("task", n, || read(idle.subscribe(want())));

    let (idle, _group) = track();
    tasks("task in a group", n, || read(idle.subscribe(want())));

    let (mut track, mut group) = track();
    row("group of one frame", n, SMALL, || {
        for _ in 0..n {
            let mut group = track.append_group().unwrap();
            group.write_frame(0, small()).unwrap();
            group.finish().unwrap();
        }
    });
    row("frame of an open group", n, SMALL, || {
        (0..n).for_each(|_| group.write_frame(0, small()).unwrap());
    });
}

async fn read(mut track: TrackConsumer) {
    while let Ok(Some(mut group)) = track.recv_group().await {
        while let Ok(Some(_frame)) = group.read_frame().await {}
    }
}

/// Prints the heap of each of `n` tasks that wait.
fn tasks<F: Future<Output = ()> + Send + 'static>(
    name: &str,
    n: usize,
    mut task: impl FnMut() -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut park = |n| {
        runtime.block_on(async {
            for _ in 0..n {
                tokio::spawn(task());
            }
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        });
    };
    // The queues of the runtime grow before the count.
    park(n);
    row(name, n, 0, || park(n));
}

struct Polled {
    track: TrackProducer,
    readers: Vec<TrackConsumer>,
    reading: Vec<GroupConsumer>,
    payload: Bytes,
    timestamp: u64,
}

impl Polled {
    fn new(readers: usize) -> Self {
        let track = Track::new("video").produce();
        let readers: Vec<_> = (0..readers).map(|_| track.subscribe(want())).collect();
        let reading = Vec::with_capacity(readers.len());
        Self { track, readers, reading, payload: vec![7; SIZE].into(), timestamp: 0 }
    }

    fn groups(&mut self, groups: u64) {
        (0..groups).for_each(|_| self.group());
    }

    /// Writes one group frame by frame. All readers read each frame before the next, and then the end.
    fn group(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut group = self.track.append_group().unwrap();
        for reader in &mut self.readers {
            let Poll::Ready(Ok(Some(group))) = reader.poll_recv_group(&mut cx) else {
                panic!("no group")
            };
            self.reading.push(group);
        }
        for _ in 0..FRAMES {
            group.write_frame(self.timestamp, self.payload.clone()).unwrap();
            self.timestamp += 33;
            for group in &mut self.reading {
                let Poll::Ready(Ok(Some(frame))) = group.poll_read_frame(&mut cx) else {
                    panic!("no frame")
                };
                black_box(frame);
            }
        }
        group.finish().unwrap();
        for mut group in self.reading.drain(..) {
            let Poll::Ready(Ok(None)) = group.poll_read_frame(&mut cx) else { panic!("no end") };
        }
    }
}

/// Prints the instructions of a delivery, as the difference of two runs of this program.
fn instructions(readers: usize) {
    let count = |groups: usize| -> Option<f64> {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(std::env::current_exe().ok()?)
            .args(["--run", &readers.to_string(), &groups.to_string()])
            .output()
            .ok()?;
        let text = String::from_utf8(output.stderr).ok()?;
        text.split("Collected :").nth(1)?.trim().lines().next()?.parse().ok()
    };
    let groups = 20_000 / (readers + 10);
    match (count(20), count(20 + groups)) {
        (Some(few), Some(many)) => {
            let each = (many - few) / (groups as u64 * FRAMES * readers as u64) as f64;
            println!("polled/{readers}: {each:.1} instructions per delivery");
        }
        _ => println!("polled/{readers}: instructions were not counted, for that takes valgrind"),
    }
}
