//! One writer and many readers, on one thread and on two: the deliveries of two threads, divided by those of one, and the
//! time that a delivery takes on two.
//!
//! A group is written when all readers have read the one before. The readers of both threads read one track, or each thread
//! has a track of its own: the second row is what the machine allows without anything shared.

use std::hint::{self, black_box};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use super::{Count, FRAMES, Load, MAX_AGE, MOQ_LITE, MOQ_NET, SIZE};
use crate::case::{Case, higher, lower};

/// Writes the group with this number.
type Writer = Box<dyn FnMut(u64)>;
/// Reads a group.
type Reader = Box<dyn FnMut() + Send>;
type Side = fn(usize) -> (Writer, Vec<Reader>);

pub(crate) fn cases(quick: bool) -> Vec<Case> {
    let (readers, groups) = if quick { (10, 3) } else { (1_000, 200) };
    let load = Load { readers, groups };
    let case = |name, tracks| {
        Case::new(name, [higher("speed-up", "x"), lower("time", "ns/delivery")])
            .side("smoq", move || Ok(on_two_cores(load, smoq, tracks)))
            .side(MOQ_NET, move || Ok(on_two_cores(load, moq_net, tracks)))
            .side(MOQ_LITE, move || Ok(on_two_cores(load, moq_lite, tracks)))
    };
    vec![case("model/two-cores", 1), case("model/two-cores-apart", 2)]
}

fn on_two_cores(load: Load, side: Side, tracks: usize) -> Vec<f64> {
    let runtime = super::runtime();
    let _context = runtime.enter();
    let [one, two] = [1, 2].map(|threads| time(load, side, tracks, threads));
    vec![one / two, two]
}

/// Where threads wait for each other without sleeping: to wake a thread takes as long as thousands of deliveries.
#[derive(Default)]
struct Barrier(AtomicUsize);

impl Barrier {
    fn wait(&self, threads: usize) {
        let arrived = self.0.fetch_add(1, Ordering::AcqRel) + 1;
        let all = arrived.next_multiple_of(threads);
        while self.0.load(Ordering::Acquire) < all {
            hint::spin_loop();
        }
    }
}

/// Nanoseconds a delivery.
fn time(load: Load, side: Side, tracks: usize, threads: usize) -> f64 {
    let (mut writers, mut readers) = (Vec::new(), Vec::new());
    for (writer, of_track) in (0..tracks).map(|_| side(load.readers / tracks)) {
        writers.push(writer);
        readers.extend(of_track);
    }
    let mut others = readers.split_off(load.readers / threads);
    let (begin, end) = (Barrier::default(), Barrier::default());
    thread::scope(|scope| {
        if threads == 2 {
            scope.spawn(|| {
                for _ in 0..load.all_groups() {
                    begin.wait(threads);
                    others.iter_mut().for_each(|read| read());
                    end.wait(threads);
                }
            });
        }
        load.measure(Count::Nanoseconds, |n| {
            writers.iter_mut().for_each(|write| write(n));
            begin.wait(threads);
            readers.iter_mut().for_each(|read| read());
            end.wait(threads);
        })
    })
}

fn smoq(readers: usize) -> (Writer, Vec<Reader>) {
    let mut track = smoq::Track::new("video").produce();
    let want = smoq::Subscription::default().max_age(MAX_AGE);
    let reader = |_| {
        let mut track = track.subscribe(want.clone());
        Box::new(move || {
            let mut cx = Context::from_waker(Waker::noop());
            let Poll::Ready(Ok(Some(mut group))) = track.poll_recv_group(&mut cx) else {
                panic!("no group")
            };
            while let Poll::Ready(Ok(Some(frame))) = group.poll_read_frame(&mut cx) {
                black_box(frame);
            }
        }) as Reader
    };
    let readers = (0..readers).map(reader).collect();
    let payload = smoq::bytes::Bytes::from(vec![7; SIZE]);
    let write = move |n| {
        let mut group = track.append_group().unwrap();
        for frame in 0..FRAMES {
            group.write_frame(Load::timestamp(n, frame), payload.clone()).unwrap();
        }
        group.finish().unwrap();
    };
    (Box::new(write), readers)
}

fn moq_net(readers: usize) -> (Writer, Vec<Reader>) {
    use moq_net::{Timescale, Timestamp, broadcast, track};

    let broadcast = broadcast::Producer::new(broadcast::Info::default());
    let info = track::Info::default().with_timescale(Timescale::MILLI);
    let track = broadcast.create_track("video", info).unwrap();
    let want = track::Subscription::default().with_max_age(MAX_AGE);
    let reader = |_| {
        let mut track = track.subscribe(want.clone());
        Box::new(move || {
            let waiter = kio::Waiter::noop();
            let Poll::Ready(Ok(Some(mut group))) = track.poll_recv_group(&waiter) else {
                panic!("no group")
            };
            while let Poll::Ready(Ok(Some(frame))) = group.poll_read_frame(&waiter) {
                black_box(frame);
            }
        }) as Reader
    };
    let readers = (0..readers).map(reader).collect();
    let payload = bytes::Bytes::from(vec![7; SIZE]);
    let write = move |n| {
        let _kept = &broadcast;
        let mut group = track.append_group().unwrap();
        for frame in 0..FRAMES {
            let timestamp = Timestamp::from_millis(Load::timestamp(n, frame)).unwrap();
            group.write_frame(timestamp, payload.clone()).unwrap();
        }
        group.finish().unwrap();
    };
    (Box::new(write), readers)
}

fn moq_lite(readers: usize) -> (Writer, Vec<Reader>) {
    let mut track = moq_lite::Track::new("video").produce();
    let reader = |_| {
        let mut track = track.consume();
        Box::new(move || {
            let waiter = conducer::Waiter::noop();
            let Poll::Ready(Ok(Some(mut group))) = track.poll_recv_group(&waiter) else {
                panic!("no group")
            };
            while let Poll::Ready(Ok(Some(frame))) = group.poll_read_frame(&waiter) {
                black_box(frame);
            }
        }) as Reader
    };
    let readers = (0..readers).map(reader).collect();
    let payload = bytes::Bytes::from(vec![7; SIZE]);
    let write = move |_| {
        let mut group = track.append_group().unwrap();
        for _ in 0..FRAMES {
            group.write_frame(payload.clone()).unwrap();
        }
        group.finish().unwrap();
    };
    (Box::new(write), readers)
}
