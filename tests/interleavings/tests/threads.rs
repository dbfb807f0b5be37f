//! Producers and consumers on several threads. A scheduler chooses which thread runs after each lock and each atomic
//! operation, and reports a wake-up that got lost as a deadlock. Half of the runs are random, half change threads only a
//! few times but at any place (PCT).

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use shuttle::future::block_on;
use shuttle::thread;
use smoq::{
    Broadcast, BroadcastDynamic, Error, Limits, Origin, ReadyList, Subscription, Track, TrackInfo,
};

/// Runs of each test in each way.
const RUNS: usize = 300;

fn check(test: fn()) {
    shuttle::check_random(test, RUNS);
    shuttle::check_pct(test, RUNS, 3);
}

fn all() -> Subscription {
    Subscription::default().max_age(Duration::from_secs(10))
}

#[test]
fn each_reader_gets_every_frame_and_the_end() {
    check(|| {
        let mut track = Track::new("video").produce();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let mut reader = track.subscribe(all());
                thread::spawn(move || {
                    block_on(async {
                        let mut frames = Vec::new();
                        while let Some(mut group) = reader.next_group().await.unwrap() {
                            while let Some(frame) = group.read_frame().await.unwrap() {
                                frames.push(frame.payload()[0]);
                            }
                        }
                        frames
                    })
                })
            })
            .collect();
        for group in [[0, 1], [2, 3]] {
            let mut open = track.append_group().unwrap();
            for frame in group {
                open.write_frame(u64::from(frame), vec![frame]).unwrap();
            }
            open.finish().unwrap();
        }
        track.finish().unwrap();
        for reader in readers {
            assert_eq!(reader.join().unwrap(), [0, 1, 2, 3]);
        }
    });
}

#[test]
fn a_frame_written_in_pieces_arrives_whole() {
    check(|| {
        let mut track = Track::new("video").produce();
        let mut reader = track.subscribe(all());
        let reading = thread::spawn(move || {
            block_on(async {
                let mut group = reader.recv_group().await.unwrap().unwrap();
                let frame = group.read_frame().await.unwrap().unwrap();
                assert_eq!(frame.payload(), &b"abcd"[..]);
                assert!(group.read_frame().await.unwrap().is_none());
            });
        });
        let mut group = track.append_group().unwrap();
        let mut frame = group.create_frame(0, 4).unwrap();
        frame.write(b"ab").unwrap();
        frame.write(b"cd").unwrap();
        frame.finish().unwrap();
        group.finish().unwrap();
        reading.join().unwrap();
    });
}

#[test]
fn a_reader_that_leaves_does_not_keep_a_wake_up_from_the_others() {
    check(|| {
        let mut track = Track::new("video").produce();
        let leaving = track.subscribe(all());
        let mut staying = track.subscribe(all());
        let leaver = thread::spawn(move || drop(leaving));
        let stayer = thread::spawn(move || block_on(staying.read_frame()).unwrap().is_some());
        track.write_frame(0, "x").unwrap();
        leaver.join().unwrap();
        assert!(stayer.join().unwrap());
    });
}

#[test]
fn a_publisher_learns_of_the_first_and_of_the_last_reader() {
    check(|| {
        let mut room = Broadcast::new().produce();
        let mut track = room.create_track("video").unwrap();
        let consumer = room.consume();
        let reading = thread::spawn(move || {
            let mut reader = consumer.subscribe_track("video", all()).unwrap();
            block_on(reader.read_frame()).unwrap().is_some()
        });
        block_on(track.used()).unwrap();
        track.write_frame(0, "x").unwrap();
        assert!(reading.join().unwrap());
        block_on(track.unused()).unwrap();
    });
}

#[test]
fn an_abort_reaches_readers_that_wait() {
    check(|| {
        let mut track = Track::new("video").produce();
        let mut reader = track.subscribe(all());
        let reading = thread::spawn(move || block_on(reader.read_frame()));
        track.abort(Error::Cancelled);
        assert!(reading.join().unwrap().is_err());
    });
}

#[test]
fn an_announced_broadcast_is_found_by_consumers_that_wait_for_it() {
    check(|| {
        let origin = Origin::default().produce();
        let mut consumer = origin.consume();
        let finding = thread::spawn(move || {
            block_on(async {
                let room = consumer.announced_broadcast("room").await.unwrap();
                let mut chat = room.subscribe_track("chat", all()).unwrap();
                chat.read_frame().await.unwrap().is_some()
            })
        });
        let mut room = Broadcast::new().produce();
        let mut chat = room.create_track("chat").unwrap();
        origin.publish_broadcast("room", &room.consume()).unwrap();
        chat.write_frame(0, "hello").unwrap();
        assert!(finding.join().unwrap());
    });
}

#[test]
fn a_track_on_demand_is_served_to_readers_of_two_threads() {
    check(|| {
        let origin = Origin::default().produce();
        let room = origin.create_broadcast("room").unwrap();
        let mut requests: BroadcastDynamic = room.dynamic();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let room = room.consume();
                thread::spawn(move || {
                    let mut chat = room.subscribe_track("chat", all()).unwrap();
                    block_on(chat.read_frame()).unwrap().is_some()
                })
            })
            .collect();
        let request = block_on(requests.requested_track()).unwrap();
        let mut chat = request.accept(TrackInfo::default()).unwrap();
        chat.write_frame(0, "hello").unwrap();
        for reader in readers {
            assert!(reader.join().unwrap());
        }
    });
}

#[test]
fn eviction_beside_readers_and_writers_keeps_the_account() {
    check(|| {
        let mut limits = Limits::default();
        limits.cache_bytes = 4 << 10;
        let origin = Origin::default().limits(limits).produce();
        let mut room = origin.create_broadcast("room").unwrap();
        let writers: Vec<_> = ["a", "b"]
            .map(|name| {
                let mut track = room.create_track(name).unwrap();
                let mut reader = track.subscribe(Subscription::default());
                thread::spawn(move || {
                    for n in 0..3_u64 {
                        track.write_frame(n, vec![0; 1_500]).unwrap();
                        let _ = reader.try_next_group();
                    }
                })
            })
            .into();
        for writer in writers {
            writer.join().unwrap();
        }
        drop(room);
        assert_eq!(origin.cached_bytes(), 0);
    });
}

#[test]
fn keys_that_two_threads_wake_are_popped_after_each_wake_up() {
    check(|| {
        let mut ready = ReadyList::new();
        let seen = [0, 1].map(|_| Arc::new(shuttle::sync::atomic::AtomicUsize::new(0)));
        let threads: Vec<_> = [0_usize, 1]
            .map(|key| {
                let (waker, events) = (ready.waker(key as u64), seen[key].clone());
                thread::spawn(move || {
                    for _ in 0..2 {
                        events.fetch_add(1, shuttle::sync::atomic::Ordering::SeqCst);
                        waker.wake_by_ref();
                    }
                })
            })
            .into();
        // Each wake-up must be followed by a pop that sees what happened before it.
        let mut handled = [0, 0];
        block_on(std::future::poll_fn(|cx| {
            loop {
                while let Some(key) = ready.pop() {
                    let key = key as usize;
                    handled[key] = seen[key].load(shuttle::sync::atomic::Ordering::SeqCst);
                }
                if handled == [2, 2] {
                    return Poll::Ready(());
                }
                if ready.poll_ready(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        }));
        for thread in threads {
            thread.join().unwrap();
        }
    });
}
