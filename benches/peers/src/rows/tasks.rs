//! One writer, N readers as tokio tasks on one thread: the cost of a delivery and its wake-up.
//!
//! The writer waits until all tasks have read a frame before it writes the next one.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::task::yield_now;

use super::{Count, FRAMES, Load, MAX_AGE, MOQ_LITE, MOQ_NET};
use crate::case::{Case, Metric, lower};

pub(crate) fn cases(quick: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for readers in [100, 1_000] {
        let load = Load { readers, groups: if quick { 3 } else { 20_000 / readers as u64 } };
        let metric = lower("", "ns/delivery");
        cases.push(case(format!("model/tasks/{readers}"), metric, load, Count::Nanoseconds));
    }
    let load = Load { readers: 100, groups: if quick { 3 } else { 200 } };
    let metric = lower("", "allocations/delivery");
    cases.push(case("allocations/tasks/100".into(), metric, load, Count::Allocations));
    cases
}

fn case(name: String, metric: Metric, load: Load, count: Count) -> Case {
    Case::new(name, [metric])
        .side("smoq", move || Ok(vec![smoq(load, count)]))
        .side(MOQ_NET, move || Ok(vec![moq_net(load, count)]))
        .side(MOQ_LITE, move || Ok(vec![moq_lite(load, count)]))
}

/// Frames that all readers together have read.
#[derive(Clone, Default)]
struct Delivered(Arc<AtomicU64>);

impl Delivered {
    fn add<T>(&self, frame: T) {
        black_box(frame);
        self.0.fetch_add(1, Relaxed);
    }

    async fn reach(&self, frames: u64) {
        while self.0.load(Relaxed) < frames {
            yield_now().await;
        }
    }
}

fn smoq(load: Load, count: Count) -> f64 {
    async fn read(mut track: smoq::TrackConsumer, delivered: Delivered) {
        while let Ok(Some(mut group)) = track.recv_group().await {
            while let Ok(Some(frame)) = group.read_frame().await {
                delivered.add(frame);
            }
        }
    }

    let runtime = super::runtime();
    let mut track = smoq::Track::new("video").produce();
    let want = smoq::Subscription::default().max_age(MAX_AGE);
    let delivered = Delivered::default();
    for _ in 0..load.readers {
        runtime.spawn(read(track.subscribe(want.clone()), delivered.clone()));
    }
    let payload = load.payload();
    load.measure(count, |n| {
        runtime.block_on(async {
            let mut group = track.append_group().unwrap();
            for frame in 0..FRAMES {
                group.write_frame(Load::timestamp(n, frame), payload.clone()).unwrap();
                delivered.reach((n * FRAMES + frame + 1) * load.readers as u64).await;
            }
            group.finish().unwrap();
        });
    })
}

fn moq_net(load: Load, count: Count) -> f64 {
    use moq_net::{Timescale, Timestamp, broadcast, track};

    async fn read(mut track: track::Subscriber, delivered: Delivered) {
        while let Ok(Some(mut group)) = track.recv_group().await {
            while let Ok(Some(frame)) = group.read_frame().await {
                delivered.add(frame);
            }
        }
    }

    let runtime = super::runtime();
    let _context = runtime.enter();
    let broadcast = broadcast::Producer::new(broadcast::Info::default());
    let info = track::Info::default().with_timescale(Timescale::MILLI);
    let track = broadcast.create_track("video", info).unwrap();
    let want = track::Subscription::default().with_max_age(MAX_AGE);
    let delivered = Delivered::default();
    for _ in 0..load.readers {
        runtime.spawn(read(track.subscribe(want.clone()), delivered.clone()));
    }
    let payload = load.payload();
    load.measure(count, |n| {
        runtime.block_on(async {
            let mut group = track.append_group().unwrap();
            for frame in 0..FRAMES {
                let timestamp = Timestamp::from_millis(Load::timestamp(n, frame)).unwrap();
                group.write_frame(timestamp, payload.clone()).unwrap();
                delivered.reach((n * FRAMES + frame + 1) * load.readers as u64).await;
            }
            group.finish().unwrap();
        });
    })
}

fn moq_lite(load: Load, count: Count) -> f64 {
    async fn read(mut track: moq_lite::TrackConsumer, delivered: Delivered) {
        while let Ok(Some(mut group)) = track.recv_group().await {
            while let Ok(Some(frame)) = group.read_frame().await {
                delivered.add(frame);
            }
        }
    }

    let runtime = super::runtime();
    let _context = runtime.enter();
    let mut track = moq_lite::Track::new("video").produce();
    let delivered = Delivered::default();
    for _ in 0..load.readers {
        runtime.spawn(read(track.consume(), delivered.clone()));
    }
    let payload = load.payload();
    load.measure(count, |n| {
        runtime.block_on(async {
            let mut group = track.append_group().unwrap();
            for frame in 0..FRAMES {
                group.write_frame(payload.clone()).unwrap();
                delivered.reach((n * FRAMES + frame + 1) * load.readers as u64).await;
            }
            group.finish().unwrap();
        });
    })
}
