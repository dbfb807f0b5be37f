//! The memory that the cache takes, measured at the allocator.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use smoq::bytes::Bytes;
use smoq::{
    Error, GroupConsumer, GroupProducer, Limits, Subscription, Track, TrackConsumer, TrackProducer,
};

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

/// Writes `groups` groups of `frames` frames that do not expire, and checks the track's own count
/// meanwhile.
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

/// The memory exceeds the cache's own count by at most a quarter, and all of it is freed.
fn assert_bounded(publish: impl FnOnce()) {
    let info = measure(publish);
    assert!(info.bytes_max < BUDGET + BUDGET / 4, "{info:?}");
    assert_eq!((info.count_current, info.bytes_current), (0, 0), "{info:?}");
}

#[test]
fn an_unread_track_is_bounded() {
    assert_bounded(|| publish(&mut track(), 100_000, 1));
}

#[test]
fn an_unread_track_of_small_frames_is_bounded() {
    assert_bounded(|| publish(&mut track(), 5_000, 30));
}

#[test]
fn a_stalled_reader_is_bounded() {
    assert_bounded(|| {
        let mut track = track();
        let mut reader = track.subscribe(everything());
        publish(&mut track, 1, 1);
        let Poll::Ready(Ok(Some(mut group))) = reader.try_next_group() else { panic!("no group") };
        publish(&mut track, 100_000, 1);
        assert!(matches!(group.try_read_frame(), Poll::Ready(Ok(Some(_)))));
    });
}

#[test]
fn groups_held_but_not_read_are_bounded() {
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
    // An evicted group that a reader holds is an empty shell, which counts too.
    assert!(info.bytes_max < BUDGET + 640 * GROUPS as u64, "{info:?}");
    assert!(track.cached_bytes() * 5 / 4 > info.bytes_current as u64, "{info:?}");
    assert!(matches!(held[0].try_read_frame(), Poll::Ready(Err(Error::Evicted))));
    held.clear();
    track.write_frame(0, vec![1; SIZE]).unwrap();
    assert!(track.cached_bytes() < BUDGET);
}

#[test]
fn readers_leave_no_memory_behind() {
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
        while let Poll::Ready(Ok(Some(_))) = group.poll_read_frame(&mut cx) {}
    };
    visit();
    let info = measure(|| (0..1_000).for_each(|_| visit()));
    assert_eq!((info.count_current, info.bytes_current), (0, 0), "{info:?}");
}

/// Delivers one group to 100 readers that wait for each frame and read it when it arrives.
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
            assert!(group.poll_read_frame(&mut cx).is_pending());
        }
        group.write_frame(0, payload.clone()).unwrap();
        for group in &mut groups {
            let Poll::Ready(Ok(Some(frame))) = group.poll_read_frame(&mut cx) else {
                panic!("no frame")
            };
            assert_eq!(frame.len(), SIZE);
        }
    }
    group.finish().unwrap();
}

#[test]
fn delivery_does_not_allocate() {
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
    // Two more pages, and their entry in the group's list.
    assert!(long <= short + 3, "{short} for 3 frames, {long} for 30");
    let few = count(&mut readers[..10], 30);
    assert!(
        long <= few + 16,
        "lists of 100 waiters grow more often than those of 10: {few}, {long}"
    );
}

#[test]
fn a_group_takes_the_memory_of_the_one_given_up_before() {
    let mut limits = Limits::default();
    limits.track_groups = 3;
    let mut track = Track::new("t").produce_within(limits);
    let payload = Bytes::from(vec![1; SIZE]);
    let mut write = |groups: u64| {
        for _ in 0..groups {
            let mut group = track.append_group().unwrap();
            (0..30).for_each(|n| group.write_frame(n, payload.clone()).unwrap());
            group.finish().unwrap();
        }
    };
    write(5);
    let info = measure(|| write(100));
    // The state that a group needs only while it is open.
    assert_eq!((info.count_total, info.bytes_current), (100, 0), "{info:?}");
}

#[test]
fn a_frame_of_a_group_that_was_given_up_keeps_its_memory() {
    let mut limits = Limits::default();
    limits.track_groups = 1;
    let mut track = Track::new("t").produce_within(limits);
    let mut write = |byte: u8| {
        let mut group = track.append_group().unwrap();
        (0..10).for_each(|n| group.write_frame(n, vec![byte; SIZE]).unwrap());
        group.finish().unwrap();
        let Poll::Ready(Ok(Some(frame))) = group.consume().try_frame(5) else { panic!("no frame") };
        frame
    };
    let frames: Vec<_> = (0..5).map(&mut write).collect();
    for (byte, frame) in (0..).zip(frames) {
        assert_eq!(frame.payload(), [byte; SIZE]);
    }
}

/// Bytes of a small frame.
const SMALL: usize = 100;
const MANY: usize = 1_000;

/// A track with a finished group of one small frame, and an open one.
fn small_groups() -> (TrackProducer, GroupProducer) {
    let mut track = Track::new("t").produce();
    track.write_frame(0, vec![1; SMALL]).unwrap();
    let mut group = track.append_group().unwrap();
    group.write_frame(0, vec![1; SMALL]).unwrap();
    (track, group)
}

/// The heap that each of [`MANY`] values keeps, itself included.
fn heap<T>(mut make: impl FnMut() -> T) -> f64 {
    let mut kept = None;
    let info = measure(|| kept = Some((0..MANY).map(|_| make()).collect::<Vec<_>>()));
    info.bytes_current as f64 / MANY as f64
}

#[test]
fn an_idle_reader_of_a_track_is_small() {
    let (track, _group) = small_groups();
    let each = heap(|| track.subscribe(everything()));
    assert!(each <= 115.0, "{each} bytes");
}

#[test]
fn a_task_that_waits_is_small() {
    async fn read(mut track: TrackConsumer) {
        while let Ok(Some(mut group)) = track.recv_group().await {
            while let Ok(Some(_frame)) = group.read_frame().await {}
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut track, mut group) = small_groups();
    let park = |track: &TrackProducer| {
        runtime.block_on(async {
            (0..MANY).for_each(|_| drop(tokio::spawn(read(track.subscribe(everything())))));
            // More than enough turns for all of them.
            for _ in 0..MANY {
                tokio::task::yield_now().await;
            }
        });
    };
    // The queues of the runtime grow before the count.
    park(&track);
    let in_group = measure(|| park(&track)).bytes_current as f64 / MANY as f64;
    group.finish().unwrap();
    park(&track);
    let between = measure(|| park(&track)).bytes_current as f64 / MANY as f64;
    assert!(in_group <= 400.0 && between <= 400.0, "{in_group}, {between} bytes");
    track.finish().unwrap();
}

#[test]
fn a_cached_group_of_one_small_frame_is_small() {
    let (mut track, _group) = small_groups();
    let before = track.cached_bytes();
    let each = heap(|| track.write_frame(0, vec![1; SMALL]).unwrap()) - SMALL as f64;
    assert!(each <= 250.0, "{each} bytes");
    let counted = (track.cached_bytes() - before) as f64 / MANY as f64 - SMALL as f64;
    assert!(counted >= each - 8.0, "{counted} bytes counted, {each} taken");
}

#[test]
fn a_small_frame_of_an_open_group_is_small() {
    let (_track, mut group) = small_groups();
    let each = heap(|| group.write_frame(0, vec![1; SMALL]).unwrap()) - SMALL as f64;
    assert!(each <= 60.0, "{each} bytes");
}
