//! Reading: cursors, skipped groups, parts of frames, and wake-ups.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use smoq::bytes::Bytes;
use smoq::sim::Wakes;
use smoq::{Error, Frame, Origin, Result, Subscription, Track, TrackConsumer, TrackProducer};

fn everything() -> Subscription {
    Subscription::default().max_age(Duration::MAX).start(0)
}

fn write(track: &mut TrackProducer, sequence: u64, timestamp: u64) {
    let mut group = track.create_group(sequence).unwrap();
    group.write_frame(timestamp, sequence.to_string()).unwrap();
    group.finish().unwrap();
}

fn ready<T>(poll: Poll<Result<Option<T>>>) -> Option<T> {
    match poll {
        Poll::Ready(Ok(value)) => value,
        Poll::Ready(Err(error)) => panic!("{error}"),
        Poll::Pending => None,
    }
}

fn received(track: &mut TrackConsumer) -> Vec<u64> {
    std::iter::from_fn(|| ready(track.try_recv_group())).map(|group| group.sequence()).collect()
}

fn ordered(track: &mut TrackConsumer) -> Vec<u64> {
    std::iter::from_fn(|| ready(track.try_next_group())).map(|group| group.sequence()).collect()
}

fn text(frame: &Frame) -> &str {
    std::str::from_utf8(frame.payload()).unwrap()
}

#[test]
fn groups_come_in_both_orders() {
    let mut track = Track::new("t").produce();
    let mut reader = track.subscribe(everything());
    for sequence in [5, 7, 6] {
        write(&mut track, sequence, 0);
    }
    assert_eq!(received(&mut reader.clone()), [5, 7, 6]);
    assert_eq!(ordered(&mut reader), [5, 6, 7]);
    write(&mut track, 4, 0);
    assert_eq!(track.latest(), Some(7), "the highest number, not the last one written");
    write(&mut track, 9, 0);
    assert_eq!(ordered(&mut reader), [9], "4 is before the cursor");
    assert_eq!(received(&mut reader), [5, 7, 6, 4, 9], "arrival order has its own cursor");
    assert_eq!(track.create_group(4).unwrap_err(), Error::Duplicate);
    assert_eq!(track.append_group().unwrap().sequence(), 10);
    assert_eq!(track.latest(), Some(10));
}

#[test]
fn a_new_reader_starts_at_the_latest_group() {
    let mut track = Track::new("t").produce();
    let mut early = track.consume();
    for sequence in [3, 5, 4] {
        write(&mut track, sequence, 0);
    }
    assert_eq!(received(&mut track.consume()), [5]);
    assert_eq!(ordered(&mut track.consume()), [5]);
    assert_eq!(received(&mut early), [3, 5, 4]);
    assert_eq!(received(&mut track.subscribe(everything().start(4))), [5, 4]);
    assert_eq!(ordered(&mut track.subscribe(everything().end(4))), [3, 4]);
    assert!(matches!(track.subscribe(everything().end(2)).try_recv_group(), Poll::Ready(Ok(None))));
}

#[test]
fn clones_start_at_the_cursor_of_the_original() {
    let mut track = Track::new("t").produce();
    let mut reader = track.subscribe(everything());
    let mut group = track.append_group().unwrap();
    for n in 0..5u64 {
        group.write_frame(n, n.to_string()).unwrap();
    }
    let mut frames = ready(reader.try_next_group()).unwrap();
    assert!(ready(reader.clone().try_next_group()).is_none());
    assert_eq!(text(&ready(frames.try_read_frame()).unwrap()), "0");
    let mut clone = frames.clone();
    assert_eq!(clone.index(), 1);
    for expected in ["1", "2", "3", "4"] {
        assert_eq!(text(&ready(clone.try_read_frame()).unwrap()), expected);
    }
    assert_eq!(ready(frames.try_read_frame()).unwrap().bytes(), "1");
    assert_eq!(text(&ready(frames.try_frame(4)).unwrap()), "4");
    assert_eq!(text(&ready(frames.try_read_frame()).unwrap()), "2");
    group.finish().unwrap();
    assert!(matches!(frames.try_frame(5), Poll::Ready(Ok(None))));
}

#[test]
fn a_reader_can_move_its_cursor() {
    let mut track = Track::new("t").produce();
    for sequence in 0..5 {
        write(&mut track, sequence, 0);
    }
    let mut reader = track.consume();
    reader.start_at(2);
    assert_eq!(received(&mut reader), [2, 3, 4]);
    reader.update(everything().start(1).end(3));
    assert_eq!(ordered(&mut reader), [1, 2, 3]);
    reader.update(everything().start(1));
    assert_eq!(ordered(&mut reader), [4], "the cursor stays while the start does");
}

#[test]
fn old_groups_are_skipped_and_counted() {
    let mut track = Track::new("t").produce();
    let mut reader = track.subscribe(Subscription::default().max_age(Duration::from_millis(100)));
    for sequence in 0..5 {
        write(&mut track, sequence, sequence * 50);
    }
    // Group 1 ended at 100, which is 100 before the newest frame. Group 2 ended at 150.
    assert_eq!(ordered(&mut reader), [2, 3, 4]);
    assert_eq!(reader.skipped(), 2);
    let mut newest = track.consume();
    write(&mut track, 5, 250);
    write(&mut track, 6, 250);
    assert_eq!(ordered(&mut newest), [6], "by default only the latest");
    assert_eq!(newest.skipped(), 2);
    let mut all = track.consume();
    track.append_group().unwrap();
    assert_eq!(ordered(&mut all), [6, 7], "nothing is older than a group without frames");
}

#[test]
fn a_reader_can_wait_for_a_group_by_number() {
    let mut track = Track::new("t").produce();
    let mut reader = track.consume();
    assert!(reader.try_group(3).is_pending());
    write(&mut track, 3, 0);
    assert_eq!(ready(reader.try_group(3)).unwrap().sequence(), 3);
    assert!(reader.try_group(2).is_pending(), "it may still arrive");
    track.finish().unwrap();
    assert!(matches!(reader.try_group(2), Poll::Ready(Ok(None))));
    assert!(matches!(reader.try_group(4), Poll::Ready(Ok(None))));
    assert_eq!(received(&mut reader), [3]);
}

#[test]
fn the_newest_frame_is_available_at_once() {
    let mut track = Track::new("t").produce();
    let reader = track.consume();
    assert!(reader.latest_frame().is_none() && reader.latest_group().is_none());
    write(&mut track, 0, 0);
    let mut group = track.append_group().unwrap();
    assert_eq!(text(&reader.latest_frame().unwrap()), "0", "the newer group has no frame");
    group.write_frame(1, "a".as_bytes()).unwrap();
    let _open = group.create_frame(2, 9).unwrap();
    assert_eq!(text(&reader.latest_frame().unwrap()), "a");
    assert_eq!(reader.latest_group().unwrap().sequence(), 1);
}

#[test]
fn groups_of_one_frame_read_as_frames() {
    let mut track = Track::new("t").produce();
    let mut reader = track.subscribe(everything());
    for value in ["a", "b"] {
        track.write_frame(0, value.as_bytes()).unwrap();
    }
    let mut empty = track.append_group().unwrap();
    track.write_frame(0, "c".as_bytes()).unwrap();
    for value in ["a", "b"] {
        assert_eq!(text(&ready(reader.try_read_frame()).unwrap()), value);
    }
    let wakes = Wakes::new();
    assert!(reader.poll_read_frame(&mut wakes.context()).is_pending());
    empty.finish().unwrap();
    assert_eq!(wakes.take(), 1);
    assert_eq!(text(&ready(reader.try_read_frame()).unwrap()), "c");
    track.finish().unwrap();
    assert!(matches!(reader.try_read_frame(), Poll::Ready(Ok(None))));
}

#[test]
fn frames_keep_their_payload_and_timestamp() {
    let mut track = Track::new("t").timescale(90_000).produce();
    let mut group = track.append_group().unwrap();
    let sizes = [0, 1, 511, 512, 513, 70_000, 3];
    for (n, size) in sizes.into_iter().enumerate() {
        group.write_frame(1_000 - n as u64, vec![n as u8; size]).unwrap();
    }
    for (n, size) in sizes.into_iter().enumerate() {
        let payload = vec![n as u8; size];
        let mut frame = group.create_frame(n as u64, size as u64).unwrap();
        payload.chunks(7_001).for_each(|chunk| frame.write(chunk).unwrap());
        frame.finish().unwrap();
    }
    group.finish().unwrap();
    assert_eq!(group.frame_count(), 14);
    let mut reader = group.consume();
    let frames: Vec<Frame> = std::iter::from_fn(|| ready(reader.try_read_frame())).collect();
    drop((track, group, reader));
    assert_eq!(frames.len(), 14);
    for (n, frame) in frames.iter().enumerate() {
        let expected = vec![(n % 7) as u8; sizes[n % 7]];
        let timestamp = if n < 7 { 1_000 - n } else { n - 7 };
        assert_eq!((frame.index(), frame.timestamp().units()), (n as u64, timestamp as u64));
        assert_eq!((frame.len(), frame.is_empty()), (expected.len(), expected.is_empty()));
        assert_eq!(frame.as_ref(), expected);
        assert_eq!(frame.bytes(), expected);
    }
}

#[test]
fn large_chunks_of_a_frame_are_shared() {
    let large = Bytes::from(vec![1; 5_000]);
    let mut track = Track::new("t").produce();
    let mut group = track.append_group().unwrap();
    let before = track.cached_bytes();
    let mut writer = group.create_frame(7, 6_000).unwrap();
    assert_eq!((writer.timestamp().units(), writer.size(), writer.remaining()), (7, 6_000, 6_000));
    let mut reader = group.consume();
    let mut frame = ready(reader.try_start_frame()).unwrap();
    writer.write_chunk("head").unwrap();
    writer.write_chunk(large.clone()).unwrap();
    writer.write(&[2; 696]).unwrap();
    assert_eq!(writer.remaining(), 300);
    writer.write_chunk(vec![3; 300]).unwrap();
    writer.finish().unwrap();
    assert!(track.cached_bytes() - before >= 6_000, "what is shared counts");
    let mut chunks = Vec::new();
    while let Some(chunk) = ready(frame.try_read_chunk()) {
        chunks.push(chunk);
    }
    assert_eq!((chunks[0].as_ref(), chunks[1].as_ptr()), (&b"head"[..], large.as_ptr()));
    let payload = [&b"head"[..], &large, &[2; 696], &[3; 300]].concat();
    assert_eq!(chunks.concat(), payload);

    // A frame of one chunk is as one that is written at once.
    group.create_frame(8, 5_000).unwrap().write_chunk(large.clone()).unwrap();
    group.finish().unwrap();
    let mut frames = group.consume();
    assert_eq!(ready(frames.try_read_frame()).unwrap().payload(), payload);
    assert_eq!(ready(frames.try_read_frame()).unwrap().payload().as_ptr(), large.as_ptr());

    let mut group = track.append_group().unwrap();
    let mut writer = group.create_frame(9, 4_999).unwrap();
    assert_eq!(writer.write_chunk(large), Err(Error::WrongSize));
    assert_eq!(group.try_closed(), Poll::Ready(Err(Error::WrongSize)));
}

#[test]
fn a_reader_of_a_group_moves_to_any_frame() {
    let mut track = Track::new("t").produce();
    let mut group = track.append_group().unwrap();
    (0..50).for_each(|n| group.write_frame(n, "frame").unwrap());
    let mut reader = group.consume();
    assert_eq!(reader.frame_count(), 50);
    for index in [49, 3, 0] {
        reader.start_at(index);
        assert_eq!(ready(reader.try_read_frame()).unwrap().index(), index);
        assert_eq!(reader.index(), index + 1);
    }
    reader.start_at(u64::MAX);
    assert!(reader.try_read_frame().is_pending());
    group.finish().unwrap();
    assert!(matches!(reader.try_read_frame(), Poll::Ready(Ok(None))));
}

#[test]
fn handles_know_their_clones_and_their_end() {
    let [origin, other_origin] = [(); 2].map(|()| Origin::default().produce());
    let narrow = origin.scope(["a"]).unwrap();
    assert!(narrow.is_clone(&origin) && !origin.is_clone(&other_origin));
    assert!(narrow.allows("a/b") && !narrow.allows("b") && origin.allows("b"));
    let (seen, other) = (narrow.consume(), other_origin.consume());
    assert!(seen.is_clone(&origin.consume()) && !seen.is_clone(&other));
    assert!(seen.allows("a/b") && !seen.allows("b") && other.allows("b"));

    let mut broadcast = origin.create_broadcast("a").unwrap();
    let mut track = broadcast.create_track("t").unwrap();
    let second = broadcast.create_track("u").unwrap();
    let mut group = track.append_group().unwrap();
    let next = track.append_group().unwrap();
    let (tracks, groups) = (track.consume(), group.consume());
    assert!(track.clone().is_clone(&track) && !track.is_clone(&second));
    assert!(tracks.clone().is_clone(&tracks) && !tracks.is_clone(&second.consume()));
    assert!(group.clone().is_clone(&group) && !group.is_clone(&next));
    assert!(groups.clone().is_clone(&groups) && !groups.is_clone(&next.consume()));
    assert_eq!(
        (track.latest(), tracks.latest(), second.consume().latest()),
        (Some(1), Some(1), None)
    );

    assert!(!broadcast.is_closed() && !track.is_closed() && !tracks.is_closed());
    assert!(!group.is_closed() && !groups.is_closed() && group.try_closed().is_pending());
    group.finish().unwrap();
    assert!(group.is_closed() && groups.is_closed() && !next.is_closed());
    assert_eq!(group.try_closed(), Poll::Ready(Ok(())));
    track.abort(Error::Cancelled);
    assert!(track.is_closed() && tracks.is_closed() && !second.is_closed());
    broadcast.finish().unwrap();
    assert!(broadcast.is_closed() && !other_origin.create_broadcast("a").unwrap().is_closed());
}

#[test]
fn a_large_frame_is_read_while_it_arrives() {
    let mut track = Track::new("t").produce();
    let mut group = track.append_group().unwrap();
    let mut reader = group.consume();
    assert!(reader.try_start_frame().is_pending());
    let mut writer = group.create_frame(7, 200_000).unwrap();
    let mut frame = ready(reader.try_start_frame()).unwrap();
    assert_eq!((frame.timestamp().units(), frame.size(), frame.index()), (7, 200_000, 0));
    let wakes = Wakes::new();
    let mut cx = wakes.context();
    assert!(frame.poll_read_chunk(&mut cx).is_pending());
    writer.write(&[1; 10]).unwrap();
    assert_eq!(wakes.take(), 1);
    assert_eq!(ready(frame.poll_read_chunk(&mut cx)).unwrap(), [1; 10].as_slice());
    let mut late = frame.clone();
    writer.write(&vec![2; 199_990]).unwrap();
    group.finish().unwrap();
    let read = |frame: &mut smoq::FrameConsumer| {
        std::iter::from_fn(|| ready(frame.try_read_chunk())).map(|chunk| chunk.len()).sum::<usize>()
    };
    assert_eq!((read(&mut frame), read(&mut late)), (199_990, 199_990));
    assert!(matches!(frame.try_read_chunk(), Poll::Ready(Ok(None))));
    // A complete frame is read the same way.
    let mut again = ready(group.consume().try_start_frame()).unwrap();
    assert_eq!(read(&mut again), 200_000);
    assert!(matches!(reader.try_start_frame(), Poll::Ready(Ok(None))));
}

#[test]
fn part_of_an_aborted_frame_is_readable_before_the_reason() {
    let mut track = Track::new("t").produce();
    let mut group = track.append_group().unwrap();
    let mut reader = group.consume();
    let mut writer = group.create_frame(0, 10).unwrap();
    let mut frame = ready(reader.try_start_frame()).unwrap();
    writer.write(b"abc").unwrap();
    drop(writer);
    assert_eq!(ready(frame.try_read_chunk()).unwrap(), "abc");
    assert!(matches!(frame.try_read_chunk(), Poll::Ready(Err(Error::Dropped))));
    assert!(matches!(group.consume().try_start_frame(), Poll::Ready(Err(Error::Dropped))));
}

#[test]
fn only_waiting_readers_are_woken_and_once() {
    let mut track = Track::new("t").produce();
    let mut reader = track.subscribe(everything());
    let wakes = Wakes::new();
    let mut cx = wakes.context();
    let others = Wakes::new();
    let mut end = track.consume();
    assert!(end.poll_closed(&mut others.context()).is_pending());

    assert!(reader.poll_recv_group(&mut cx).is_pending());
    assert!(reader.poll_recv_group(&mut cx).is_pending());
    let mut group = track.append_group().unwrap();
    assert_eq!(wakes.take(), 1);
    let mut frames = ready(reader.poll_recv_group(&mut cx)).unwrap();
    assert!(frames.poll_finished(&mut others.context()).is_pending());
    assert!(frames.poll_read_frame(&mut cx).is_pending());
    track.append_group().unwrap();
    assert_eq!(wakes.take(), 0, "the reader waits for no group");
    group.write_frame(0, "x".as_bytes()).unwrap();
    assert_eq!((wakes.take(), others.take()), (1, 0));
    group.write_frame(0, "y".as_bytes()).unwrap();
    assert_eq!(wakes.take(), 0, "it was woken before");
    ready(frames.try_read_frame()).unwrap();
    ready(frames.try_read_frame()).unwrap();
    assert!(frames.try_read_frame().is_pending());
    group.write_frame(0, "z".as_bytes()).unwrap();
    assert_eq!(wakes.take(), 0, "trying does not register");
    ready(frames.try_read_frame()).unwrap();
    assert!(frames.poll_read_frame(&mut cx).is_pending());
    drop(frames);
    group.write_frame(0, "z".as_bytes()).unwrap();
    assert_eq!((wakes.take(), others.take()), (0, 0), "the waiters are gone");
    assert_eq!(group.create_frame(0, u64::MAX).unwrap_err(), Error::FrameTooLarge);
    track.finish().unwrap();
    assert_eq!((wakes.take(), others.take()), (0, 1));
}

#[test]
fn waits_exist_as_futures() {
    let mut track = Track::new("t").produce();
    let mut reader = track.subscribe(everything());
    let wakes = Wakes::new();
    let mut cx = wakes.context();
    let mut read = pin!(async {
        let mut frames = Vec::new();
        while let Some(mut group) = reader.next_group().await? {
            while let Some(frame) = group.read_frame().await? {
                frames.push(text(&frame).to_owned());
            }
        }
        Ok::<_, Error>(frames)
    });
    assert!(read.as_mut().poll(&mut cx).is_pending());
    for (sequence, expected) in [(0, 1), (1, 1)] {
        write(&mut track, sequence, 0);
        assert_eq!(wakes.take(), expected);
        assert!(read.as_mut().poll(&mut cx).is_pending());
    }
    track.finish().unwrap();
    assert_eq!(wakes.take(), 1);
    assert_eq!(read.poll(&mut cx), Poll::Ready(Ok(vec!["0".to_owned(), "1".to_owned()])));
}

#[test]
fn a_writer_sees_the_combined_subscription() {
    let mut track = Track::new("t").produce();
    let wakes = Wakes::new();
    let mut cx = wakes.context();
    assert_eq!(track.subscription(), None);
    assert_eq!(track.try_unused(), Poll::Ready(Ok(())));
    assert!(track.poll_used(&mut cx).is_pending());
    assert!(track.poll_subscription_changed(&mut cx).is_pending());

    let second = Duration::from_secs(1);
    let mut a =
        track.subscribe(Subscription::default().priority(3).max_age(second).start(4).end(9));
    assert_eq!(wakes.take(), 1);
    assert_eq!(track.try_used(), Poll::Ready(Ok(())));
    assert_eq!(track.try_subscription_changed(), Poll::Ready(Some(a.subscription())));
    assert!(track.poll_subscription_changed(&mut cx).is_pending());

    let b = track.subscribe(Subscription::default().priority(9).start(2).end(5).ordered(true));
    let both = Subscription::default().priority(9).max_age(second).start(2).end(9);
    assert_eq!(wakes.take(), 1);
    assert_eq!(track.subscription(), Some(both.clone()));
    assert_eq!(track.try_subscription_changed(), Poll::Ready(Some(both)));
    assert!(track.poll_subscription_changed(&mut cx).is_pending());
    let c = b.clone();
    drop(b);
    assert_eq!(wakes.take(), 0, "the combined subscription did not change");
    a.update(Subscription::default().priority(1));
    assert_eq!(wakes.take(), 1);
    assert_eq!(track.subscription().unwrap().end, None);
    assert!(track.try_unused().is_pending());
    drop((a, c));
    assert_eq!(track.try_unused(), Poll::Ready(Ok(())));
    assert_eq!(track.try_subscription_changed(), Poll::Ready(None));
}

#[test]
fn readers_see_names_and_infos() {
    let track = Track::from("t").timescale(0).priority(9).max_age(Duration::from_secs(1));
    assert_eq!(track.info.timescale.units(), 1);
    let track = track.timescale(90_000).produce();
    let mut reader = track.consume();
    assert_eq!((track.name(), reader.name()), ("t", "t"));
    let Poll::Ready(Ok(info)) = reader.try_info() else {
        panic!("the info is known from the start")
    };
    assert_eq!((Some(&info), info.timescale.units(), info.priority), (track.info(), 90_000, 9));
}

struct Unpark(std::thread::Thread, AtomicBool);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.1.store(true, Ordering::Relaxed);
        self.0.unpark();
    }
}

/// Runs a future on this thread. Only its waker ends a pause.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let unpark = Arc::new(Unpark(std::thread::current(), AtomicBool::new(false)));
    let waker = unpark.clone().into();
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(value) => return value,
            Poll::Pending => {
                let woken = (0..20).any(|_| {
                    std::thread::park_timeout(Duration::from_millis(100));
                    unpark.1.swap(false, Ordering::Relaxed)
                });
                assert!(woken, "no wake-up for a waiter of {}", std::any::type_name::<T>());
            }
        }
    }
}

#[test]
fn readers_on_other_threads_receive_everything() {
    const GROUPS: u64 = 300;
    const FRAMES: u64 = 40;
    let mut track = Track::new("t").produce();
    let readers: Vec<_> = (0..3).map(|_| track.subscribe(everything())).collect();
    std::thread::scope(|scope| {
        for mut reader in readers {
            scope.spawn(move || {
                block_on(async {
                    for expected in 0..GROUPS {
                        let mut group = reader.next_group().await.unwrap().unwrap();
                        assert_eq!(group.sequence(), expected);
                        for index in 0..FRAMES {
                            let frame = group.read_frame().await.unwrap().unwrap();
                            assert_eq!(frame.payload(), (expected * index).to_le_bytes());
                        }
                        assert!(group.read_frame().await.unwrap().is_none());
                    }
                    assert!(reader.next_group().await.unwrap().is_none());
                });
            });
        }
        for sequence in 0..GROUPS {
            let mut group = track.append_group().unwrap();
            for index in 0..FRAMES {
                let payload = (sequence * index).to_le_bytes();
                if index % 3 == 0 {
                    group.create_frame(0, 8).unwrap().write(&payload).unwrap();
                } else {
                    group.write_frame(0, payload.to_vec()).unwrap();
                }
            }
            group.finish().unwrap();
        }
        track.finish().unwrap();
    });
}
