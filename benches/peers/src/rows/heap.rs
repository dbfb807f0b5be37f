//! Heap: a reader, a task that waits, a cached group, a frame of an open group.

use std::future::Future;

use bytes::Bytes;

use super::{MAX_AGE, MOQ_LITE, MOQ_NET};
use crate::case::{Case, lower};

/// Bytes of a small frame. It is subtracted where payload is cached.
const SMALL: usize = 100;

pub(crate) fn cases(quick: bool) -> Vec<Case> {
    let n = if quick { 50 } else { 1_000 };
    let case = |name: &str, sides: [fn(usize) -> f64; 3]| {
        let [smoq, moq_net, moq_lite] = sides;
        Case::new(format!("heap/{name}"), [lower("", "B")])
            .side("smoq", move || Ok(vec![smoq(n)]))
            .side(MOQ_NET, move || Ok(vec![moq_net(n)]))
            .side(MOQ_LITE, move || Ok(vec![moq_lite(n)]))
    };
    vec![
        // A handle that was never polled, itself included.
        case("reader", [ours::reader, net::reader, lite::reader]),
        // A task that has read a group to its end and waits for the next one.
        case("task", [ours::task, net::task, lite::task]),
        // A task that waits for the next frame of an open group.
        case("task-in-group", [ours::task_in_group, net::task_in_group, lite::task_in_group]),
        // A finished group of one frame, without its payload.
        case("group", [ours::group, net::group, lite::group]),
        // A frame of an open group, without its payload.
        case("frame", [ours::frame, net::frame, lite::frame]),
    ]
}

fn small() -> Bytes {
    Bytes::copy_from_slice(&[7; SMALL])
}

/// The heap that `make` leaves in use.
fn heap<T>(make: impl FnOnce() -> T) -> f64 {
    let mut kept = None;
    let used = allocation_counter::measure(|| kept = Some(make()));
    used.bytes_current as f64
}

/// The heap of each of `n` tasks that wait.
fn tasks<F: Future<Output = ()> + Send + 'static>(n: usize, mut task: impl FnMut() -> F) -> f64 {
    let runtime = super::runtime();
    let mut spawn_and_park = |n| {
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
    spawn_and_park(n);
    heap(|| spawn_and_park(n)) / n as f64
}

mod ours {
    use smoq::{GroupProducer, Subscription, Track, TrackConsumer, TrackProducer};

    use super::*;

    fn want() -> Subscription {
        Subscription::default().max_age(MAX_AGE)
    }

    /// A track with a group of one frame.
    fn track() -> (TrackProducer, GroupProducer) {
        let mut track = Track::new("video").produce();
        let mut group = track.append_group().unwrap();
        group.write_frame(0, small()).unwrap();
        (track, group)
    }

    async fn read(mut track: TrackConsumer) {
        while let Ok(Some(mut group)) = track.recv_group().await {
            while let Ok(Some(_frame)) = group.read_frame().await {}
        }
    }

    pub(super) fn reader(n: usize) -> f64 {
        let (track, _group) = track();
        heap(|| (0..n).map(|_| track.subscribe(want())).collect::<Vec<_>>()) / n as f64
    }

    pub(super) fn task(n: usize) -> f64 {
        let (track, mut group) = track();
        group.finish().unwrap();
        tasks(n, || read(track.subscribe(want())))
    }

    pub(super) fn task_in_group(n: usize) -> f64 {
        let (track, _group) = track();
        tasks(n, || read(track.subscribe(want())))
    }

    pub(super) fn group(n: usize) -> f64 {
        let (mut track, mut group) = track();
        group.finish().unwrap();
        let used = heap(|| {
            for _ in 0..n {
                let mut group = track.append_group().unwrap();
                group.write_frame(0, small()).unwrap();
                group.finish().unwrap();
            }
        });
        used / n as f64 - SMALL as f64
    }

    pub(super) fn frame(n: usize) -> f64 {
        let (_track, mut group) = track();
        let used = heap(|| (0..n).for_each(|_| group.write_frame(0, small()).unwrap()));
        used / n as f64 - SMALL as f64
    }
}

mod net {
    use moq_net::{Timescale, Timestamp, broadcast, group, track};

    use super::*;

    fn want() -> track::Subscription {
        track::Subscription::default().with_max_age(MAX_AGE)
    }

    fn track() -> (broadcast::Producer, track::Producer, group::Producer) {
        let broadcast = broadcast::Producer::new(broadcast::Info::default());
        let info = track::Info::default().with_timescale(Timescale::MILLI);
        let track = broadcast.create_track("video", info).unwrap();
        let mut group = track.append_group().unwrap();
        group.write_frame(at(), small()).unwrap();
        (broadcast, track, group)
    }

    fn at() -> Timestamp {
        Timestamp::from_millis(0).unwrap()
    }

    async fn read(mut track: track::Subscriber) {
        while let Ok(Some(mut group)) = track.recv_group().await {
            while let Ok(Some(_frame)) = group.read_frame().await {}
        }
    }

    pub(super) fn reader(n: usize) -> f64 {
        let (_broadcast, track, _group) = track();
        heap(|| (0..n).map(|_| track.subscribe(want())).collect::<Vec<_>>()) / n as f64
    }

    pub(super) fn task(n: usize) -> f64 {
        let (_broadcast, track, group) = track();
        group.finish().unwrap();
        tasks(n, || read(track.subscribe(want())))
    }

    pub(super) fn task_in_group(n: usize) -> f64 {
        let (_broadcast, track, _group) = track();
        tasks(n, || read(track.subscribe(want())))
    }

    pub(super) fn group(n: usize) -> f64 {
        let (_broadcast, track, group) = track();
        group.finish().unwrap();
        let used = heap(|| {
            for _ in 0..n {
                let mut group = track.append_group().unwrap();
                group.write_frame(at(), small()).unwrap();
                group.finish().unwrap();
            }
        });
        used / n as f64 - SMALL as f64
    }

    pub(super) fn frame(n: usize) -> f64 {
        let (_broadcast, _track, mut group) = track();
        let used = heap(|| (0..n).for_each(|_| group.write_frame(at(), small()).unwrap()));
        used / n as f64 - SMALL as f64
    }
}

mod lite {
    use moq_lite::{GroupProducer, Track, TrackConsumer, TrackProducer};

    use super::*;

    fn track() -> (TrackProducer, GroupProducer) {
        let mut track = Track::new("video").produce();
        let mut group = track.append_group().unwrap();
        group.write_frame(small()).unwrap();
        (track, group)
    }

    async fn read(mut track: TrackConsumer) {
        while let Ok(Some(mut group)) = track.recv_group().await {
            while let Ok(Some(_frame)) = group.read_frame().await {}
        }
    }

    pub(super) fn reader(n: usize) -> f64 {
        let (track, _group) = track();
        heap(|| (0..n).map(|_| track.consume()).collect::<Vec<_>>()) / n as f64
    }

    pub(super) fn task(n: usize) -> f64 {
        let (track, mut group) = track();
        group.finish().unwrap();
        tasks(n, || read(track.consume()))
    }

    pub(super) fn task_in_group(n: usize) -> f64 {
        let (track, _group) = track();
        tasks(n, || read(track.consume()))
    }

    pub(super) fn group(n: usize) -> f64 {
        let (mut track, mut group) = track();
        group.finish().unwrap();
        let used = heap(|| {
            for _ in 0..n {
                let mut group = track.append_group().unwrap();
                group.write_frame(small()).unwrap();
                group.finish().unwrap();
            }
        });
        used / n as f64 - SMALL as f64
    }

    pub(super) fn frame(n: usize) -> f64 {
        let (_track, mut group) = track();
        let used = heap(|| (0..n).for_each(|_| group.write_frame(small()).unwrap()));
        used / n as f64 - SMALL as f64
    }
}
