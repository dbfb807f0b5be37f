//! Tests of the cache that need private access: hooks for sessions, locks, and the budget.

mod growth;

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use crate::machine::Supply;
use crate::model::Result;
use crate::model::cache::{
    Cache, Frame, GroupCursor, GroupProducer, Track, TrackConsumer, TrackProducer,
};
use crate::sim::Wakes;
use crate::{Error, Instant, Limits, Subscription, Timestamp, TrackInfo};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn track(cache: &Arc<Cache>, max_age: Duration) -> TrackProducer {
    TrackProducer::new(Track::new("t").max_age(max_age), cache.clone(), Arc::default())
}

fn everything() -> Subscription {
    Subscription::default().max_age(Duration::MAX).start(0)
}

fn cursor(track: &mut TrackConsumer) -> GroupCursor {
    match track.poll_recv_cursor(None) {
        Poll::Ready(Ok(Some(cursor))) => cursor,
        other => panic!("no group: {:?}", other.map_ok(|_| ())),
    }
}

/// The frames that a cursor shows: for each frame its timestamp, and its payload or wire form.
fn show(cursor: &GroupCursor, from: u64, waker: Option<&Waker>) -> (Vec<(u64, Vec<u8>)>, Supply) {
    let mut shown = Vec::new();
    let supply = cursor.frames(from, 0, waker, &mut |frame| {
        let bytes = match &frame.wire {
            Some(wire) => wire.bytes.to_vec(),
            None => frame.payload.concat(),
        };
        shown.push((frame.timestamp.units(), bytes));
        true
    });
    (shown, supply)
}

fn sequences(track: &mut TrackConsumer) -> Vec<u64> {
    let mut all = Vec::new();
    while let Poll::Ready(Ok(Some(group))) = track.try_recv_group() {
        all.push(group.sequence());
    }
    all
}

fn ready<T>(poll: Poll<Result<Option<T>>>) -> T {
    match poll {
        Poll::Ready(Ok(Some(value))) => value,
        other => panic!("{:?}", other.map_ok(|_| ())),
    }
}

#[test]
fn a_session_sees_frames_as_they_are_written() {
    let mut track = Track::new("t").produce();
    let mut reader = track.subscribe(everything());
    assert!(reader.poll_recv_cursor(None).is_pending());
    let mut group = track.append_group().unwrap();
    let cursor = cursor(&mut reader);
    let wakes = Wakes::new();
    assert_eq!(show(&cursor, 0, Some(wakes.waker())), (vec![], Supply::Pending));
    group.write_frame(100, "a".as_bytes()).unwrap();
    assert_eq!(wakes.take(), 1);
    // Zigzag 200 takes two bytes; the second delta is -50.
    let first = (100, vec![0x40, 200, 1, b'a']);
    let second = (50, vec![0x40, 99, 2, b'b', b'b']);
    assert_eq!(show(&cursor, 0, Some(wakes.waker())), (vec![first.clone()], Supply::Pending));
    assert_eq!(show(&cursor, 0, Some(wakes.waker())).1, Supply::Pending);
    group.write_frame(50, "bb".as_bytes()).unwrap();
    group.finish().unwrap();
    assert_eq!(wakes.take(), 1, "one slot, and none was left at the end");
    assert_eq!(show(&cursor, 1, None), (vec![second], Supply::End));
    assert_eq!(cursor.frames(0, 0, None, &mut |_| false), Supply::More);
    assert_eq!(show(&cursor, 7, None), (vec![], Supply::End));
}

#[test]
fn a_session_sees_large_frames_shared_and_open_frames_in_part() {
    let mut track = Track::new("t").produce();
    let mut reader = track.subscribe(everything());
    let mut group = track.append_group().unwrap();
    let cursor = cursor(&mut reader);
    let large = Bytes::from(vec![1; 600]);
    group.write_frame(0, large.clone()).unwrap();
    let mut is_shared = false;
    cursor.frames(0, 0, None, &mut |frame| {
        is_shared = frame.payload[0].as_ptr() == large.as_ptr();
        true
    });
    assert!(is_shared);

    let wakes = Wakes::new();
    let mut frame = group.create_frame(5, 600).unwrap();
    assert_eq!(show(&cursor, 1, Some(wakes.waker())), (vec![(5, vec![])], Supply::Pending));
    frame.write(&[2; 100]).unwrap();
    assert_eq!(wakes.take(), 1);
    assert_eq!(show(&cursor, 1, None), (vec![(5, vec![2; 100])], Supply::Pending));
    frame.write(&[3; 500]).unwrap();
    let whole = [vec![2; 100], vec![3; 500]].concat();
    assert_eq!(show(&cursor, 1, None), (vec![(5, whole.clone())], Supply::Pending));
    assert_eq!(ready(group.consume().try_frame(1)).payload(), whole);
}

#[test]
fn received_frames_are_stored_in_wire_form() {
    let mut track = Track::new("t").produce();
    let mut reader = track.subscribe(everything());
    let mut group = track.append_group().unwrap();
    let cursor = cursor(&mut reader);
    assert!(group.ingest(Timestamp::new(1), None, 2, &[b"a", b"b"]).unwrap().is_none());
    // If no reader saw a part, the frame is one piece. Otherwise the parts are joined, because the
    // frame is small.
    for look in [false, true] {
        let mut rest = group.ingest(Timestamp::new(1), None, 3, &[b"c"]).unwrap().unwrap();
        if look {
            assert_eq!(show(&cursor, 2, None).0, [(1, b"c".to_vec())]);
        }
        rest.write(b"d").unwrap();
        rest.write(b"e").unwrap();
        rest.finish().unwrap();
    }
    let frames =
        [vec![2, 2, b'a', b'b'], vec![0, 3, b'c', b'd', b'e'], vec![0, 3, b'c', b'd', b'e']];
    let shown: Vec<_> = show(&cursor, 0, None).0.into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(shown, frames);
    assert_eq!(group.ingest(Timestamp::ZERO, None, 1, &[b"xy"]).unwrap_err(), Error::WrongSize);
    assert_eq!(show(&cursor, 3, None).1, Supply::Gone(Error::WrongSize));
}

#[test]
fn a_session_reads_all_groups_before_it_sees_an_abort() {
    let mut track = Track::new("t").produce();
    let mut reader = track.subscribe(everything());
    let mut group = track.append_group().unwrap();
    let cursor = cursor(&mut reader);
    group.write_frame(0, "x".as_bytes()).unwrap();
    group.abort(Error::App(7));
    let (shown, supply) = show(&cursor, 0, None);
    assert_eq!((shown.len(), supply), (1, Supply::Gone(Error::App(7))));
}

#[test]
fn reading_takes_no_lock_while_there_is_something_to_read() {
    let mut track = Track::new("t").produce();
    let mut group = track.append_group().unwrap();
    for n in 0..10u64 {
        group.write_frame(n, "x".as_bytes()).unwrap();
    }
    let mut reader = group.consume();
    // The first read of a page loads it. The others must work without the lock, which is held here.
    for (turn, rest) in [(0, 1..1), (1, 2..8), (8, 9..10)] {
        assert_eq!(ready(reader.try_read_frame()).index(), turn);
        let _guard = group.hold_lock();
        for index in rest {
            let frame = ready(reader.try_read_frame());
            assert_eq!((frame.index(), frame.payload()), (index, b"x".as_slice()));
        }
    }
}

#[test]
fn a_requested_track_waits_for_its_publisher() {
    let cache = Cache::new(Limits::default());
    let mut producer = TrackProducer::requested("t".into(), cache.clone(), Arc::default());
    let weak = producer.downgrade();
    let mut reader = weak.subscribe(Some(everything()), None).unwrap();
    let wakes = Wakes::new();
    let mut cx = wakes.context();
    assert!(reader.poll_info(&mut cx).is_pending());
    assert!(reader.try_recv_group().is_pending());
    producer.accept(TrackInfo { priority: 3, ..TrackInfo::default() }).unwrap();
    assert_eq!(wakes.take(), 1);
    assert!(matches!(reader.try_info(), Poll::Ready(Ok(info)) if info.priority == 3));
    assert_eq!(producer.accept(TrackInfo::default()), Err(Error::Duplicate));

    producer.finish().unwrap();
    assert!(weak.subscribe(Some(everything()), None).is_some(), "somebody holds on to it");
    drop(producer);
    assert!(weak.subscribe(Some(everything()), None).is_none());

    let mut refused = TrackProducer::requested("t".into(), cache.clone(), Arc::default());
    let mut reader = refused.consume();
    refused.abort(Error::NotFound);
    assert!(refused.downgrade().subscribe(Some(everything()), None).is_none());
    assert_eq!(reader.try_info(), Poll::Ready(Err(Error::NotFound)));
    assert!(matches!(reader.try_recv_group(), Poll::Ready(Err(Error::NotFound))));
    assert_eq!(refused.accept(TrackInfo::default()), Err(Error::NotFound));

    let mut eager = TrackProducer::requested("t".into(), cache, Arc::default());
    eager.write_frame(0, "x".as_bytes()).unwrap();
    assert_eq!(eager.info(), Some(&TrackInfo::default()));
}

#[test]
fn old_groups_go_by_media_age() {
    let mut producer = track(&Cache::new(Limits::default()), ms(100));
    let mut early = producer.subscribe(everything());
    let mut write = |timestamp: u64| producer.write_frame(timestamp, "x".as_bytes()).unwrap();
    write(0);
    write(50);
    write(149);
    assert_eq!(sequences(&mut early.clone()), [0, 1, 2], "group 0 ended at 50, 99 ms ago");
    let mut session = early.clone();
    let first = cursor(&mut session);
    write(150);
    assert_eq!(sequences(&mut early), [1, 2, 3]);
    assert_eq!(show(&first, 0, None), (vec![], Supply::Gone(Error::Old)), "cursors pin nothing");
    let mut latest = producer.append_group().unwrap();
    latest.write_frame(160, "x".as_bytes()).unwrap();
    latest.write_frame(100_000, "x".as_bytes()).unwrap();
    assert_eq!(sequences(&mut producer.subscribe(everything())), [4], "the newest stays");
    assert_eq!(producer.create_group(2).unwrap_err(), Error::Old);
}

#[test]
fn old_groups_go_by_the_clock() {
    let cache = Cache::new(Limits::default());
    let mut producer = track(&cache, ms(100));
    assert_eq!(cache.next_deadline(), None);
    producer.write_frame(0, "x".as_bytes()).unwrap();
    assert_eq!(cache.next_deadline(), None, "the newest of a live track has none");
    cache.advance(Instant::from_millis(30));
    producer.write_frame(0, "x".as_bytes()).unwrap();
    assert_eq!(cache.next_deadline(), Some(Instant::from_millis(100)));
    let mut reader = producer.subscribe(everything());
    cache.advance(Instant::from_millis(99));
    assert_eq!(sequences(&mut reader.clone()), [0, 1]);
    cache.advance(Instant::from_millis(100));
    cache.advance(Instant::from_millis(20));
    assert_eq!(cache.now(), Instant::from_millis(100), "never back");
    assert_eq!(sequences(&mut reader), [1]);
    assert_eq!(cache.next_deadline(), None);
    producer.finish().unwrap();
    assert_eq!(cache.next_deadline(), Some(Instant::from_millis(130)), "not live any more");
    cache.advance(Instant::from_millis(130));
    assert_eq!(sequences(&mut producer.subscribe(everything())), []);
    drop((producer, reader));
    assert_eq!((cache.used(), cache.next_deadline()), (0, None));
}

#[test]
fn a_dropped_track_leaves_no_deadline() {
    let cache = Cache::new(Limits::default());
    let mut producer = track(&cache, ms(100));
    producer.write_frame(0, "x".as_bytes()).unwrap();
    producer.write_frame(0, "x".as_bytes()).unwrap();
    assert!(cache.next_deadline().is_some());
    drop(producer);
    assert_eq!((cache.used(), cache.next_deadline()), (0, None));
}

#[test]
fn a_pinned_group_is_kept_until_it_is_unpinned() {
    let cache = Cache::new(Limits::default());
    let mut producer = track(&cache, ms(100));
    producer.write_frame(0, "x".as_bytes()).unwrap();
    let mut session = producer.subscribe(everything());
    let first = cursor(&mut session);
    let pin = producer.subscribe(everything()).try_recv_group();
    let pin = ready(pin);
    producer.write_frame(1_000, "x".as_bytes()).unwrap();
    producer.write_frame(2_000, "x".as_bytes()).unwrap();
    assert_eq!(show(&first, 0, None).0.len(), 1);
    let second = pin.clone();
    drop(pin);
    assert_eq!(show(&first, 0, None).0.len(), 1);
    drop(second);
    assert_eq!(show(&first, 0, None).1, Supply::Gone(Error::Old));
}

fn small_cache(change: impl FnOnce(&mut Limits)) -> Arc<Cache> {
    let mut limits = Limits::default();
    change(&mut limits);
    Cache::new(limits)
}

#[test]
fn a_track_keeps_so_many_groups() {
    let mut producer = track(&small_cache(|limits| limits.track_groups = 3), ms(100));
    for _ in 0..5 {
        producer.write_frame(0, "x".as_bytes()).unwrap();
    }
    assert_eq!(sequences(&mut producer.subscribe(everything())), [2, 3, 4]);
}

#[test]
fn a_track_keeps_so_many_bytes_beside_the_newest_group() {
    let cache = small_cache(|limits| limits.track_bytes = 22_000);
    let mut producer = track(&cache, ms(100));
    for _ in 0..10 {
        producer.write_frame(0, vec![0; 6_000]).unwrap();
    }
    assert_eq!(sequences(&mut producer.subscribe(everything())), [6, 7, 8, 9]);
    let mut large = producer.append_group().unwrap();
    large.write_frame(0, vec![0; 100_000]).unwrap();
    assert_eq!(sequences(&mut producer.subscribe(everything())), [7, 8, 9, 10]);
}

#[test]
fn the_track_that_writes_gives_up_its_own() {
    let cache = small_cache(|limits| limits.cache_bytes = 28_000);
    let (mut quiet, mut busy) = (track(&cache, ms(100)), track(&cache, ms(100)));
    quiet.write_frame(0, vec![0; 5_000]).unwrap();
    quiet.write_frame(0, vec![0; 5_000]).unwrap();
    for _ in 0..10 {
        busy.write_frame(0, vec![0; 6_000]).unwrap();
        assert!(cache.used() <= 28_000 + 7_000);
    }
    assert_eq!(sequences(&mut quiet.subscribe(everything())), [0, 1]);
    assert_eq!(sequences(&mut busy.subscribe(everything())), [8, 9]);
}

#[test]
fn past_the_budget_the_oldest_pinned_group_goes_last() {
    let cache = small_cache(|limits| limits.cache_bytes = 25_000);
    let mut producer = track(&cache, ms(100));
    let mut readers = Vec::new();
    for _ in 0..3 {
        let mut group = producer.append_group().unwrap();
        group.write_frame(0, vec![0; 6_000]).unwrap();
        readers.push(group.consume());
        readers.push(group.consume());
    }
    producer.write_frame(0, vec![0; 6_000]).unwrap();
    producer.write_frame(0, vec![0; 6_000]).unwrap();
    // Group 3 had no reader and went first, then the oldest.
    assert_eq!(sequences(&mut producer.subscribe(everything())), [1, 2, 4]);
    assert!(matches!(readers[0].try_read_frame(), Poll::Ready(Err(Error::Evicted))));
    assert_eq!(readers[1].try_finished(), Poll::Ready(Err(Error::Dropped)));
    assert_eq!(ready(readers[2].try_read_frame()).len(), 6_000);
    assert!(cache.used() <= 25_000);
}

#[test]
fn the_cache_is_empty_after_the_last_handle() {
    let cache = Cache::new(Limits::default());
    let mut producer = track(&cache, ms(100));
    let mut reader = producer.subscribe(everything());
    let mut group = producer.append_group().unwrap();
    let mut large = group.create_frame(0, 200_000).unwrap();
    large.write(&vec![1; 150_000]).unwrap();
    let mut reading = ready(reader.try_recv_group());
    let mut streaming = ready(reading.try_start_frame());
    assert!(!ready(streaming.try_read_chunk()).is_empty());
    large.write(&vec![1; 50_000]).unwrap();
    group.write_frame(1, vec![0; 1_000]).unwrap();
    group.write_frame(2, vec![0; 10]).unwrap();
    let before = cache.used();
    let frame: Frame = ready(reading.try_frame(0));
    assert_eq!(frame.payload(), vec![1; 200_000]);
    assert!(cache.used() >= before + 200_000, "joining is counted");
    drop((producer, reader, reading, streaming, group, large));
    assert!(cache.used() >= 400_000, "a frame keeps its page, and that is counted");
    drop(frame);
    assert_eq!(cache.used(), 0);
}

#[test]
fn groups_are_given_up_while_other_threads_read() {
    let cache = small_cache(|limits| limits.track_bytes = 22_000);
    let mut producer = track(&cache, ms(100));
    let readers: Vec<_> = (0..3).map(|_| producer.subscribe(everything())).collect();
    std::thread::scope(|scope| {
        for mut reader in readers {
            scope.spawn(move || {
                loop {
                    match reader.try_recv_group() {
                        Poll::Ready(Ok(Some(mut group))) => {
                            while let Poll::Ready(Ok(Some(frame))) = group.try_read_frame() {
                                assert_eq!(frame.payload(), [7; 900]);
                            }
                        }
                        Poll::Ready(Ok(None)) => break,
                        Poll::Ready(Err(error)) => panic!("{error}"),
                        Poll::Pending => std::thread::yield_now(),
                    }
                }
            });
        }
        for n in 0..3_000u64 {
            let mut group = producer.append_group().unwrap();
            for _ in 0..3 {
                group.write_frame(n, vec![7; 900]).unwrap();
            }
            cache.advance(Instant::from_millis(n));
        }
        producer.finish().unwrap();
    });
    drop(producer);
    assert_eq!((cache.used(), cache.next_deadline()), (0, None));
}

#[test]
fn many_small_pieces_stay_few() {
    let mut track = Track::new("t").produce();
    let mut reader = track.subscribe(everything());
    let mut group = track.append_group().unwrap();
    let cursor = cursor(&mut reader);
    let mut frame = group.create_frame(0, 4_096).unwrap();
    let mut pieces = 0;
    for n in 0..4_096u64 {
        frame.write(&[n as u8]).unwrap();
        cursor.frames(0, 0, None, &mut |frame| {
            pieces = frame.payload.len();
            true
        });
    }
    assert!((16..=24).contains(&pieces), "{pieces}");
    let expected: Vec<u8> = (0..4_096u64).map(|n| n as u8).collect();
    assert_eq!(ready(group.consume().try_read_frame()).payload(), expected);
}

/// A frame of many pieces that is sent while it arrives: each write visits only the new pieces.
#[test]
fn pieces_that_were_sent_are_not_visited_again() {
    const PIECE: usize = 1_200;
    const PIECES: usize = 4_000;
    let mut track = Track::new("t").produce();
    let mut reader = track.subscribe(everything());
    let mut group = track.append_group().unwrap();
    let cursor = cursor(&mut reader);
    let mut frame = group.create_frame(0, (PIECE * PIECES) as u64).unwrap();
    let (mut out, mut walked) = (0, 0);
    for n in 0..PIECES {
        frame.write(&[n as u8; PIECE]).unwrap();
        // As a session that has not taken the last bytes that it was shown.
        let skipped = (out as u64).saturating_sub(256);
        cursor.frames(0, skipped, None, &mut |frame| {
            assert!(frame.offset <= skipped);
            walked += frame.payload.len();
            out = frame.offset as usize + frame.payload.iter().map(Bytes::len).sum::<usize>();
            true
        });
        let hidden = PIECE * (n + 1) - out;
        assert!(hidden < 512, "what is too little to be shown comes with the next");
    }
    // Walking from the start each time would be 8 million steps.
    assert!(walked <= 3 * PIECES, "{walked}");
}

/// START is the highest sequence below which no group can come, whatever came first.
#[test]
fn no_group_comes_below_start() {
    let write = |producer: &mut TrackProducer, sequence: u64| {
        let mut group = producer.create_group(sequence).unwrap();
        group.write_frame(sequence * 10, "x".as_bytes()).unwrap();
        group.finish().unwrap();
    };
    let cache = Cache::new(Limits::default());
    let mut own = track(&cache, ms(5_000));
    let early = own.subscribe(everything());
    assert_eq!(early.start(), None, "there is no group yet");
    write(&mut own, 7);
    assert_eq!(early.start(), Some(0), "an application may write any group next");
    write(&mut own, 8);
    write(&mut own, 9);
    assert_eq!(own.consume().start(), Some(9), "the latest");
    assert_eq!(own.subscribe(everything().start(8)).start(), Some(8), "what is wanted");
    assert_eq!(own.subscribe(everything().start(10)).start(), None);
    let young = everything().max_age(ms(5));
    assert_eq!(own.subscribe(young).start(), Some(8), "what is not too old");

    // A track of a peer has its own START.
    let mut relayed = TrackProducer::requested("t".into(), cache, Arc::default());
    let reader = relayed.subscribe(everything());
    write(&mut relayed, 30);
    write(&mut relayed, 29);
    assert_eq!(reader.start(), None, "it did not say yet");
    relayed.set_start(20);
    relayed.set_start(10);
    assert_eq!(reader.start(), Some(20), "the first word counts");
    assert_eq!(relayed.subscribe(everything().start(25)).start(), Some(25));
    // Groups that were given up do not come back: group 29 ended more than 5 s ago, group 30 did
    // not.
    for sequence in 1_000..1_003 {
        write(&mut relayed, sequence);
    }
    assert_eq!(reader.start(), Some(30));
}

/// L06-6-4-MUST-102: the first copy counts.
#[test]
fn a_group_that_comes_by_stream_and_by_datagram_counts_once() {
    let mut track = track(&Cache::new(Limits::default()), ms(5_000));
    let mut reader = track.subscribe(everything());
    let mut group = track.create_group(3).unwrap();
    group.write_frame(0, "stream").unwrap();
    group.finish().unwrap();
    assert!(!track.ingest(3, None, Timestamp::ZERO, None, b"datagram"));
    assert!(track.ingest(4, None, Timestamp::ZERO, None, b"datagram"));
    assert_eq!(track.create_group(4).err(), Some(Error::Duplicate));
    assert_eq!(sequences(&mut reader), [3, 4]);
}

fn is_send_and_sync<T: Send + Sync>() {}

#[test]
fn handles_cross_threads() {
    is_send_and_sync::<TrackProducer>();
    is_send_and_sync::<TrackConsumer>();
    is_send_and_sync::<GroupProducer>();
    is_send_and_sync::<super::GroupConsumer>();
    is_send_and_sync::<super::FrameProducer>();
    is_send_and_sync::<super::FrameConsumer>();
    is_send_and_sync::<Frame>();
    is_send_and_sync::<super::ReadyList>();
    is_send_and_sync::<super::IncomingSession>();
    fn is_send<T: Send>() {}
    is_send::<GroupCursor>();
}
