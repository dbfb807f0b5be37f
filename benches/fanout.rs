//! Model fan-out: one writer, N readers polled in turn on one thread.

use std::hint::black_box;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use smoq::bytes::Bytes;
use smoq::{GroupConsumer, Limits, Subscription, Track, TrackConsumer, TrackProducer};

const FRAMES: u64 = 30;
const SIZE: usize = 1_200;

struct FanOut {
    track: TrackProducer,
    readers: Vec<(TrackConsumer, Option<GroupConsumer>)>,
    payload: Bytes,
    timestamp: u64,
}

impl FanOut {
    fn new(readers: usize) -> Self {
        let mut limits = Limits::default();
        limits.track_groups = 8;
        let track = Track::new("video").produce_within(limits);
        let want = Subscription::default().max_age(Duration::MAX);
        let readers = (0..readers).map(|_| (track.subscribe(want.clone()), None)).collect();
        Self { track, readers, payload: vec![7; SIZE].into(), timestamp: 0 }
    }

    /// Writes one group frame by frame. All readers read each frame before the next. Returns the time spent
    /// reading.
    fn group(&mut self) -> Duration {
        let mut cx = Context::from_waker(Waker::noop());
        let mut spent = Duration::ZERO;
        let mut group = self.track.append_group().unwrap();
        for (track, reading) in &mut self.readers {
            let Poll::Ready(Ok(next)) = track.poll_next_group(&mut cx) else { panic!("no group") };
            *reading = next;
        }
        for _ in 0..FRAMES {
            group.write_frame(self.timestamp, self.payload.clone()).unwrap();
            self.timestamp += 33;
            let start = clock();
            for (_, reading) in &mut self.readers {
                let Some(reading) = reading else { panic!("no group") };
                let Poll::Ready(Ok(Some(frame))) = reading.poll_read_frame(&mut cx) else {
                    panic!("no frame")
                };
                black_box(frame);
            }
            spent += start.elapsed();
        }
        group.finish().unwrap();
        spent
    }
}

#[expect(clippy::disallowed_methods, reason = "measuring is what a benchmark does")]
fn clock() -> Instant {
    Instant::now()
}

fn fan_out(c: &mut Criterion) {
    let mut bench = c.benchmark_group("model fan-out");
    for readers in [1, 10, 100, 1_000] {
        let deliveries = FRAMES * readers as u64;
        let mut state = FanOut::new(readers);
        for _ in 0..20 {
            state.group();
        }
        let allocated = allocation_counter::measure(|| {
            for _ in 0..100 {
                state.group();
            }
        });
        let per_delivery = allocated.count_total as f64 / (100 * deliveries) as f64;
        println!(
            "{readers} readers: {per_delivery:.4} allocations per delivery, {} per group",
            allocated.count_total / 100
        );
        bench.throughput(Throughput::Elements(deliveries));
        bench.bench_function(BenchmarkId::from_parameter(readers), |b| {
            b.iter_custom(|n| (0..n).map(|_| state.group()).sum());
        });
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(2))
        .warm_up_time(Duration::from_millis(300))
        .sample_size(20)
        .configure_from_args();
    fan_out(&mut criterion);
    criterion.final_summary();
}
