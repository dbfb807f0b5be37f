//! One writer, N readers polled in turn on one thread: the cost of a delivery in the model alone.
//!
//! Every reader is handed every group, reads each frame before the next one is written, and sees the end of the group.

use std::hint::black_box;
use std::task::{Context, Poll, Waker};

use super::{Count, FRAMES, Load, MAX_AGE, MOQ_LITE, MOQ_NET};
use crate::case::{Case, lower};

pub(crate) fn cases(quick: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for readers in [1, 100, 1_000] {
        let groups = if quick { 3 } else { 40_000 / (readers as u64 + 10) + 100 };
        let load = Load { readers, groups };
        cases.push(case(
            format!("model/polled/{readers}"),
            lower("", "ns/delivery"),
            load,
            Count::Nanoseconds,
        ));
    }
    for readers in [1, 100] {
        let load = Load { readers, groups: if quick { 3 } else { 500 } };
        let name = format!("allocations/polled/{readers}");
        cases.push(case(name, lower("", "allocations/delivery"), load, Count::Allocations));
    }
    cases
}

fn case(name: String, metric: crate::case::Metric, load: Load, count: Count) -> Case {
    Case::new(name, [metric])
        .side("smoq", move || Ok(vec![smoq(load, count)]))
        .side(MOQ_NET, move || Ok(vec![moq_net(load, count)]))
        .side(MOQ_LITE, move || Ok(vec![moq_lite(load, count)]))
}

fn smoq(load: Load, count: Count) -> f64 {
    let mut track = smoq::Track::new("video").produce();
    let want = smoq::Subscription::default().max_age(MAX_AGE);
    let mut readers: Vec<_> = (0..load.readers).map(|_| track.subscribe(want.clone())).collect();
    let mut cx = Context::from_waker(Waker::noop());
    let payload = load.payload();
    let mut reading = Vec::with_capacity(load.readers);
    load.measure(count, |n| {
        let mut group = track.append_group().unwrap();
        for reader in &mut readers {
            let Poll::Ready(Ok(Some(group))) = reader.poll_recv_group(&mut cx) else {
                panic!("no group")
            };
            reading.push(group);
        }
        for frame in 0..FRAMES {
            group.write_frame(Load::timestamp(n, frame), payload.clone()).unwrap();
            for group in &mut reading {
                let Poll::Ready(Ok(Some(frame))) = group.poll_read_frame(&mut cx) else {
                    panic!("no frame")
                };
                black_box(frame);
            }
        }
        group.finish().unwrap();
        for mut group in reading.drain(..) {
            let Poll::Ready(Ok(None)) = group.poll_read_frame(&mut cx) else { panic!("no end") };
        }
    })
}

fn moq_net(load: Load, count: Count) -> f64 {
    use moq_net::{Timescale, Timestamp, broadcast, track};

    let runtime = super::runtime();
    let _context = runtime.enter();
    let broadcast = broadcast::Producer::new(broadcast::Info::default());
    let info = track::Info::default().with_timescale(Timescale::MILLI);
    let track = broadcast.create_track("video", info).unwrap();
    let want = track::Subscription::default().with_max_age(MAX_AGE);
    let mut readers: Vec<_> = (0..load.readers).map(|_| track.subscribe(want.clone())).collect();
    let waiter = kio::Waiter::noop();
    let payload = load.payload();
    let mut reading = Vec::with_capacity(load.readers);
    load.measure(count, |n| {
        let mut group = track.append_group().unwrap();
        for reader in &mut readers {
            let Poll::Ready(Ok(Some(group))) = reader.poll_recv_group(&waiter) else {
                panic!("no group")
            };
            reading.push(group);
        }
        for frame in 0..FRAMES {
            let timestamp = Timestamp::from_millis(Load::timestamp(n, frame)).unwrap();
            group.write_frame(timestamp, payload.clone()).unwrap();
            for group in &mut reading {
                let Poll::Ready(Ok(Some(frame))) = group.poll_read_frame(&waiter) else {
                    panic!("no frame")
                };
                black_box(frame);
            }
        }
        group.finish().unwrap();
        for mut group in reading.drain(..) {
            let Poll::Ready(Ok(None)) = group.poll_read_frame(&waiter) else { panic!("no end") };
        }
    })
}

fn moq_lite(load: Load, count: Count) -> f64 {
    let runtime = super::runtime();
    let _context = runtime.enter();
    let mut track = moq_lite::Track::new("video").produce();
    let mut readers: Vec<_> = (0..load.readers).map(|_| track.consume()).collect();
    let waiter = conducer::Waiter::noop();
    let payload = load.payload();
    let mut reading = Vec::with_capacity(load.readers);
    load.measure(count, |_| {
        let mut group = track.append_group().unwrap();
        for reader in &mut readers {
            let Poll::Ready(Ok(Some(group))) = reader.poll_recv_group(&waiter) else {
                panic!("no group")
            };
            reading.push(group);
        }
        for _ in 0..FRAMES {
            group.write_frame(payload.clone()).unwrap();
            for group in &mut reading {
                let Poll::Ready(Ok(Some(frame))) = group.poll_read_frame(&waiter) else {
                    panic!("no frame")
                };
                black_box(frame);
            }
        }
        group.finish().unwrap();
        for mut group in reading.drain(..) {
            let Poll::Ready(Ok(None)) = group.poll_read_frame(&waiter) else { panic!("no end") };
        }
    })
}
