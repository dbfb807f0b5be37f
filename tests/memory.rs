//! What the cache takes of the allocator, which is the only counter that can't be fooled.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use smoq::bytes::Bytes;
use smoq::{Error, GroupConsumer, Limits, Subscription, Track, TrackConsumer, TrackProducer};

const SIZE: usize = 1_200;
const BUDGET: u64 = 1 << 20;

fn track() -> TrackProducer {
    let mut limits = Limits::default();
    limits.track_bytes = BUDGET;
    Track::new("t").produce_within(limits)
}

fn everything() -> Subscription {
    Subscription::default().max_age(Duration::MAX).start(0)
}

/// Writes so many groups of `frames` frames, none of which gets old, and checks the track's count on
/// the way.
fn publish(track: &mut TrackProducer, groups: u64, frames: u64) {
    for _ in 0..groups {
        let mut group = track.append_group().unwrap();
        for _ in 0..frames {
            let mut frame = group.create_frame(0, SIZE as u64).unwrap();
            frame.write(&[1; SIZE]).unwrap();
        }
        group.finish().unwrap();
        assert!(track.cached_bytes() <= BUDGET + 3 * frames * SIZE as u64);
    }
}

/// Past the count of the cache by at most a quarter, and nothing is left behind.
fn assert_bounded(publish: impl FnOnce()) {
    let info = measure(publish);
    assert!(info.bytes_max < BUDGET + BUDGET / 4, "{info:?}");
    assert_eq!((info.count_current, info.bytes_current), (0, 0), "{info:?}");
}

#[test]
fn nobody_reads() {
    assert_bounded(|| publish(&mut track(), 100_000, 1));
}

#[test]
fn nobody_reads_groups_of_many_frames() {
    assert_bounded(|| publish(&mut track(), 5_000, 30));
}

#[test]
fn a_reader_stalls_for_ever() {
    assert_bounded(|| {
        let mut track = track();
        let mut reader = track.subscribe(everything());
        publish(&mut track, 1, 1);
        let Poll::Ready(Ok(Some(mut group))) = reader.try_next_group() else { panic!("no group") };
        publish(&mut track, 100_000, 1);
        assert!(matches!(group.try_next_frame(), Poll::Ready(Ok(Some(_)))));
    });
}

#[test]
fn a_reader_takes_every_group_and_reads_none() {
    const GROUPS: usize = 10_000;
    let mut held: Vec<GroupConsumer> = Vec::with_capacity(GROUPS);
    let mut track = track();
    let mut reader = track.subscribe(everything());
    let info = measure(|| {
        for _ in 0..GROUPS {
            track.write_frame(0, vec![1; SIZE]).unwrap();
            let Poll::Ready(Ok(Some(group))) = reader.try_recv_group() else { panic!("no group") };
            held.push(group);
        }
    });
    // What it holds of an evicted group is an empty shell, which is counted too.
    assert!(info.bytes_max < BUDGET + 640 * GROUPS as u64, "{info:?}");
    assert!(track.cached_bytes() * 5 / 4 > info.bytes_current as u64, "{info:?}");
    assert!(matches!(held[0].try_next_frame(), Poll::Ready(Err(Error::Evicted))));
    held.clear();
    track.write_frame(0, vec![1; SIZE]).unwrap();
    assert!(track.cached_bytes() < BUDGET);
}

#[test]
fn readers_that_come_and_go_leave_nothing() {
    let mut track = track();
    publish(&mut track, 3, 3);
    let mut cx = Context::from_waker(Waker::noop());
    let mut visit = || {
        let mut reader = track.consume();
        let Poll::Ready(Ok(Some(mut group))) = reader.poll_recv_group(&mut cx) else {
            panic!("no group")
        };
        assert!(reader.poll_recv_group(&mut cx).is_pending());
        assert!(reader.poll_closed(&mut cx).is_pending());
        while let Poll::Ready(Ok(Some(_))) = group.poll_next_frame(&mut cx) {}
    };
    visit();
    let info = measure(|| (0..1_000).for_each(|_| visit()));
    assert_eq!((info.count_current, info.bytes_current), (0, 0), "{info:?}");
}

/// One group to 100 readers who wait for each frame, and read it when it is there.
fn deliver(track: &mut TrackProducer, readers: &mut [TrackConsumer], frames: u64, payload: &Bytes) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut group = track.append_group().unwrap();
    let mut groups: Vec<GroupConsumer> = Vec::with_capacity(readers.len());
    for reader in readers.iter_mut() {
        let Poll::Ready(Ok(Some(group))) = reader.poll_next_group(&mut cx) else {
            panic!("no group")
        };
        groups.push(group);
    }
    for _ in 0..frames {
        for group in &mut groups {
            assert!(group.poll_next_frame(&mut cx).is_pending());
        }
        group.write_frame(0, payload.clone()).unwrap();
        for group in &mut groups {
            let Poll::Ready(Ok(Some(frame))) = group.poll_next_frame(&mut cx) else {
                panic!("no frame")
            };
            assert_eq!(frame.len(), SIZE);
        }
    }
    group.finish().unwrap();
}

#[test]
fn nothing_is_allocated_per_delivery() {
    let mut track = track();
    let mut readers: Vec<_> = (0..100).map(|_| track.subscribe(everything())).collect();
    let payload = Bytes::from(vec![1; SIZE]);
    let mut count = |readers: &mut [TrackConsumer], frames| {
        for _ in 0..5 {
            deliver(&mut track, readers, frames, &payload);
        }
        measure(|| deliver(&mut track, readers, frames, &payload)).count_total
    };
    let (short, long) = (count(&mut readers, 3), count(&mut readers, 30));
    // Two pages more, and their place in the group's list.
    assert!(long <= short + 3, "{short} for 3 frames, {long} for 30");
    let few = count(&mut readers[..10], 30);
    assert!(
        long <= few + 16,
        "lists of 100 waiters grow more often than those of 10: {few}, {long}"
    );
}
