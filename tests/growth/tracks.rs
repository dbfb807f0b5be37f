//! Readers, groups and fetches of a track, and the tracks of a broadcast.

use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use smoq::sim::Wakes;
use smoq::{Broadcast, Subscription, Track, TrackProducer};

use super::{allocations, assert_amortized, assert_flat, everything};

#[test]
fn readers_of_a_track() {
    let visit = |n: usize, wakes: &Wakes| {
        let mut track = Track::new("video").produce();
        let mut writer = track.clone();
        let _first = track.consume();
        let want = || Subscription::default().priority(3);
        let mut readers: Vec<_> = (0..n).map(|_| track.subscribe(want())).collect();
        while writer.try_subscription_changed().is_ready() {}
        assert!(writer.poll_subscription_changed(&mut wakes.context()).is_pending());
        readers.truncate(1);
        readers.extend((1..n).map(|_| track.subscribe(want())));
        for reader in &mut readers {
            assert!(reader.poll_recv_group(&mut wakes.context()).is_pending());
        }
        track.append_group().unwrap();
        wakes.count()
    };
    assert_amortized("allocations", |n| {
        allocations(|| {
            visit(n, &Wakes::new());
        })
    });
    assert_amortized("wake-ups", |n| {
        let wakes = visit(n, &Wakes::new());
        assert_eq!(wakes, n, "only the readers are woken");
        wakes
    });
}

#[test]
fn open_groups_of_a_track() {
    let write = |n: usize, wakes: &Wakes| {
        let mut track = Track::new("video").produce();
        let mut groups: Vec<_> = (0..n).map(|_| track.append_group().unwrap()).collect();
        let mut readers: Vec<_> = groups.iter().map(|group| group.consume()).collect();
        for reader in &mut readers {
            assert!(reader.poll_read_frame(&mut wakes.context()).is_pending());
        }
        for group in &mut groups {
            group.write_frame(0, "a").unwrap();
        }
    };
    assert_amortized("allocations", |n| allocations(|| write(n, &Wakes::new())));
    assert_amortized("wake-ups", |n| {
        let wakes = Wakes::new();
        write(n, &wakes);
        assert_eq!(wakes.count(), n, "only the reader of each group is woken");
        wakes.count()
    });
}

#[test]
fn tracks_of_a_broadcast() {
    assert_amortized("allocations", |n| {
        allocations(|| {
            let mut broadcast = Broadcast::new().produce();
            let consumer = broadcast.consume();
            let tracks = (0..n).map(|n| broadcast.create_track(&*n.to_string()).unwrap());
            let tracks: Vec<_> = tracks.collect();
            let read = |n: usize| consumer.subscribe_track(&n.to_string(), everything()).unwrap();
            let readers: Vec<_> = (0..n).map(read).collect();
            drop((tracks, readers));
        })
    });
}

#[test]
fn a_unique_name_is_found_without_trying_all() {
    for n in [100, 1_000] {
        let mut broadcast = Broadcast::new().produce();
        let _tracks: Vec<_> = (0..n).map(|_| broadcast.unique_track(".mp4").unwrap()).collect();
        let mut next = None;
        let allocations = allocations(|| next = broadcast.unique_track(".mp4").ok());
        assert_eq!(next.unwrap().name(), format!("{n}.mp4"));
        assert!(allocations < 100, "{allocations} allocations after {n} tracks");
    }
}

#[test]
fn requests_for_tracks() {
    let ask = |n: usize, wakes: &Wakes| {
        let broadcast = Broadcast::new().produce();
        let mut dynamic = broadcast.dynamic();
        let consumer = broadcast.consume();
        let mut readers = Vec::new();
        for n in 0..n {
            while let Poll::Ready(Ok(request)) = dynamic.poll_requested_track(&mut wakes.context())
            {
                request.reject(smoq::Error::NotFound);
            }
            readers.push(consumer.subscribe_track(&n.to_string(), everything()).unwrap());
        }
    };
    assert_amortized("allocations", |n| allocations(|| ask(n, &Wakes::new())));
    assert_amortized("wake-ups", |n| {
        let wakes = Wakes::new();
        ask(n, &wakes);
        wakes.count()
    });
}

#[test]
fn readers_with_equal_subscriptions_wake_nobody() {
    for n in [1_000, 10_000] {
        let mut broadcast = Broadcast::new().produce();
        let mut track = broadcast.create_track("video").unwrap();
        let consumer = broadcast.consume();
        let (changes, unused) = (Wakes::new(), Wakes::new());
        let first = consumer.subscribe_track("video", Subscription::default()).unwrap();
        let mut cx = changes.context();
        assert!(track.poll_subscription_changed(&mut cx).is_ready());
        assert!(track.poll_subscription_changed(&mut cx).is_pending());
        assert!(broadcast.poll_unused(&mut unused.context()).is_pending());
        let join = || consumer.subscribe_track("video", Subscription::default()).unwrap();
        let readers: Vec<_> = (0..n).map(|_| join()).collect();
        drop(readers);
        assert_eq!((changes.count(), unused.count()), (0, 0), "{n} readers");
        drop(first);
        assert_eq!((changes.count(), unused.count()), (1, 1), "the last one of {n}");
    }
}

#[test]
fn each_reader_takes_the_same_memory() {
    assert_flat("readers of a track", 1_000, |n| {
        let track = Track::new("t").produce();
        let cost = measure(|| drop((0..n).map(|_| track.consume()).collect::<Vec<_>>()));
        cost.count_total as usize + cost.bytes_max as usize
    });
}

#[test]
fn the_use_of_a_broadcast_is_known_without_visiting_its_tracks() {
    for n in [100, 1_000] {
        let mut broadcast = Broadcast::new().produce();
        let make = |n: usize| broadcast.create_track(format!("{n}").as_str()).unwrap();
        let tracks: Vec<_> = (0..n).map(make).collect();
        let (used, unused) = (Wakes::new(), Wakes::new());
        let cost = measure(|| {
            assert!(broadcast.poll_used(&mut used.context()).is_pending());
        });
        assert!(cost.count_total <= 1, "{n} tracks: {cost:?}");
        let readers: Vec<_> = tracks.iter().map(TrackProducer::consume).collect();
        assert_eq!(used.count(), 1, "the first reader of {n} tracks");
        assert_eq!(broadcast.try_used(), Poll::Ready(Ok(())));
        assert!(broadcast.poll_unused(&mut unused.context()).is_pending());
        drop(readers);
        assert_eq!((used.count(), unused.count()), (1, 1), "the last reader of {n} tracks");
        assert!(broadcast.try_used().is_pending() && broadcast.try_unused().is_ready());
    }
}

#[test]
fn a_producer_that_waits_for_a_reader_is_woken_by_the_end() {
    let mut broadcast = Broadcast::new().produce();
    let mut other = broadcast.clone();
    let used = Wakes::new();
    assert!(other.poll_used(&mut used.context()).is_pending());
    broadcast.finish().unwrap();
    assert_eq!(used.count(), 1);
    assert_eq!(other.try_used(), Poll::Ready(Err(smoq::Error::Closed)));
}

#[test]
fn an_answer_wakes_only_the_readers_that_requested_it() {
    let mut track = Track::new("t").produce();
    let mut dynamic = track.dynamic();
    track.append_group().unwrap().finish().unwrap();
    let mut readers: Vec<_> = (0..100).map(|_| (track.consume(), Wakes::new())).collect();
    for (n, (reader, wakes)) in readers.iter_mut().enumerate() {
        // Two readers request each group.
        let poll = reader.poll_fetch_group(&mut wakes.context(), 1_000 + n as u64 / 2);
        assert!(poll.is_pending());
    }
    let woken = |readers: &[(_, Wakes)]| {
        let woken = readers.iter().enumerate().filter(|(_, (_, wakes))| wakes.count() > 0);
        woken.map(|(n, _)| n).collect::<Vec<_>>()
    };
    let Poll::Ready(Ok(request)) = dynamic.try_requested_group() else { panic!("no request") };
    let mut group = request.accept().unwrap();
    assert_eq!(woken(&readers), [0, 1]);
    group.finish().unwrap();
    let Poll::Ready(Ok(request)) = dynamic.try_requested_group() else { panic!("no request") };
    request.reject(smoq::Error::NotFound);
    assert_eq!(woken(&readers), [0, 1, 2, 3]);
    // A requested group may also arrive without an answer.
    drop(track.create_group(1_002).unwrap());
    assert_eq!(woken(&readers), [0, 1, 2, 3, 4, 5]);
    track.finish_at(1_048).unwrap();
    assert_eq!(woken(&readers), [0, 1, 2, 3, 4, 5, 96, 97, 98, 99]);
    assert!(readers.iter().all(|(_, wakes)| wakes.count() <= 1), "each is woken at most once");
    drop(dynamic);
    assert_eq!(woken(&readers).len(), 100, "no handler is left");
}

#[test]
fn a_dynamic_handler_learns_that_the_last_reader_left() {
    let track = Track::new("t").produce();
    let mut dynamic = track.dynamic();
    let mut readers: Vec<_> = (0..10).map(|_| track.consume()).collect();
    let mut requests = vec![];
    for (reader, sequence) in readers.iter_mut().zip(5..) {
        assert!(
            reader.poll_fetch_group(&mut Context::from_waker(Waker::noop()), sequence).is_pending()
        );
        let Poll::Ready(Ok(request)) = dynamic.try_requested_group() else { panic!("no request") };
        requests.push((request, Wakes::new()));
    }
    for (request, wakes) in &mut requests {
        assert!(request.poll_unused(&mut wakes.context()).is_pending());
    }
    drop(readers.remove(3));
    let woken: Vec<_> = requests.iter().map(|(_, wakes)| wakes.count()).collect();
    assert_eq!(woken, [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(requests[3].0.try_unused(), Poll::Ready(()));
}
