//! Fetching groups by number on a plain thread: handlers, shared answers, and the cache.

use std::task::Poll;
use std::time::Duration;

use smoq::sim::Wakes;
use smoq::{
    Broadcast, Error, GroupConsumer, Limits, Subscription, Track, TrackConsumer, TrackDynamic,
    TrackProducer,
};

/// A track that evicted its first groups: 3 and 4 remain.
fn track() -> (TrackProducer, TrackConsumer) {
    let mut limits = Limits::default();
    limits.track_groups = 2;
    let mut track = Track::new("video").produce_within(limits);
    for n in 0..5_u64 {
        track.write_frame(n * 10, payload(n)).unwrap();
    }
    let reader = track.consume();
    (track, reader)
}

fn payload(sequence: u64) -> Vec<u8> {
    vec![sequence as u8; 10]
}

fn read(group: &mut GroupConsumer) -> Vec<Vec<u8>> {
    let mut frames = vec![];
    loop {
        match group.try_read_frame() {
            Poll::Ready(Ok(Some(frame))) => frames.push(frame.payload().to_vec()),
            Poll::Ready(Ok(None)) => return frames,
            other => panic!("{other:?}"),
        }
    }
}

fn fetched(reader: &mut TrackConsumer, sequence: u64) -> GroupConsumer {
    match reader.try_fetch_group(sequence) {
        Poll::Ready(Ok(group)) => group,
        other => panic!("{other:?}"),
    }
}

fn refused(reader: &mut TrackConsumer, sequence: u64) -> Error {
    match reader.try_fetch_group(sequence) {
        Poll::Ready(Err(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn answer(dynamic: &mut TrackDynamic, sequence: u64) {
    let Poll::Ready(Ok(request)) = dynamic.try_requested_group() else { panic!("no request") };
    assert_eq!(request.sequence(), sequence);
    let mut group = request.accept().unwrap();
    group.write_frame(sequence * 10, payload(sequence)).unwrap();
    group.finish().unwrap();
}

#[test]
fn a_cached_group_is_available_at_once() {
    let (_track, mut reader) = track();
    for sequence in [3, 4] {
        assert_eq!(read(&mut fetched(&mut reader, sequence)), [payload(sequence)]);
    }
}

#[test]
fn without_a_handler_a_fetch_is_refused() {
    let (mut track, mut reader) = track();
    assert_eq!(refused(&mut reader, 2), Error::Old);
    assert_eq!(refused(&mut reader, 5), Error::NotFound);
    track.create_group(7).unwrap().finish().unwrap();
    assert_eq!(refused(&mut reader, 6), Error::NotFound);
    track.finish().unwrap();
    assert_eq!(refused(&mut reader, 8), Error::NotFound);
    assert_eq!(read(&mut fetched(&mut reader, 7)).len(), 0);
}

#[test]
fn a_request_is_shared_and_its_answer_is_cached() {
    let (track, mut reader) = track();
    let mut dynamic = track.dynamic();
    let mut other = reader.clone();
    assert!(reader.try_fetch_group(1).is_pending());
    assert!(other.try_fetch_group(1).is_pending());
    answer(&mut dynamic, 1);
    assert!(dynamic.try_requested_group().is_pending(), "both share one request");
    for reader in [&mut reader, &mut other] {
        assert_eq!(read(&mut fetched(reader, 1)), [payload(1)]);
    }
    // It evicted the oldest group that may go. Another reader finds it without a request.
    assert_eq!(read(&mut fetched(&mut track.consume(), 1)), [payload(1)]);
    assert!(dynamic.try_requested_group().is_pending());
}

/// A reader that follows the track does not notice that an old group returned.
#[test]
fn a_fetch_moves_no_cursor_and_not_the_latest_group() {
    let (mut track, mut reader) = track();
    let mut dynamic = track.dynamic();
    let from_start = Subscription::default().max_age(Duration::MAX).start(0);
    let [mut arrivals, mut order] = [(); 2].map(|()| track.subscribe(from_start.clone()));
    let next = |it: &mut TrackConsumer| match it.try_next_group() {
        Poll::Ready(Ok(Some(group))) => Some(group.sequence()),
        _ => None,
    };
    let recv = |it: &mut TrackConsumer| match it.try_recv_group() {
        Poll::Ready(Ok(Some(group))) => Some(group.sequence()),
        _ => None,
    };
    assert_eq!((next(&mut order), recv(&mut arrivals)), (Some(3), Some(3)));
    // One that is before all cursors, and one that was not written yet.
    for sequence in [1, 9] {
        assert!(reader.try_fetch_group(sequence).is_pending());
        answer(&mut dynamic, sequence);
        assert_eq!(read(&mut fetched(&mut reader, sequence)), [payload(sequence)]);
    }
    let mut late = track.subscribe(from_start);
    assert_eq!((track.latest(), reader.latest_group().unwrap().sequence()), (Some(4), 4));
    assert_eq!(reader.latest_frame().unwrap().payload(), payload(4));
    assert_eq!((next(&mut order), next(&mut order)), (Some(4), None));
    assert_eq!((recv(&mut arrivals), recv(&mut arrivals)), (Some(4), None));
    assert_ne!(next(&mut late), Some(1));
    track.write_frame(50, payload(5)).unwrap();
    assert_eq!(next(&mut order), Some(5), "the next number is unaffected by the fetch");
    assert_eq!(recv(&mut arrivals), Some(5));
}

/// The first copy of a group stays, however the second one arrives.
#[test]
fn a_second_copy_is_dropped() {
    // A group is fetched, and is then written.
    let (mut track, mut reader) = track();
    let mut dynamic = track.dynamic();
    let mut live = track.consume();
    assert!(live.try_next_group().is_ready());
    assert!(reader.try_fetch_group(6).is_pending());
    answer(&mut dynamic, 6);
    let mut group = fetched(&mut reader, 6);
    assert!(live.try_next_group().is_pending());
    assert!(matches!(track.create_group(6), Err(Error::Duplicate)));
    let Poll::Ready(Ok(Some(mut same))) = live.try_next_group() else { panic!("no group") };
    assert_eq!((same.sequence(), read(&mut same)), (6, vec![payload(6)]));
    assert_eq!((track.latest(), read(&mut group)), (Some(6), vec![payload(6)]));

    // A group is requested, and is written before the answer.
    assert!(reader.try_fetch_group(8).is_pending());
    let Poll::Ready(Ok(mut request)) = dynamic.try_requested_group() else { panic!() };
    assert!(request.try_unused().is_pending());
    let mut written = track.create_group(8).unwrap();
    assert_eq!(fetched(&mut reader, 8).sequence(), 8);
    assert!(request.try_unused().is_ready());
    assert!(matches!(request.accept(), Err(Error::Duplicate)));
    written.write_frame(0, "x").unwrap();
    written.finish().unwrap();
    assert_eq!(read(&mut fetched(&mut reader, 8)), [b"x"]);
}

/// An incomplete copy does not count as a copy.
#[test]
fn a_broken_copy_is_requested_again() {
    let (mut track, mut reader) = track();
    track.create_group(5).unwrap().abort(Error::Lagged);
    assert_eq!(fetched(&mut reader, 5).try_finished(), Poll::Ready(Err(Error::Lagged)));
    let mut dynamic = track.dynamic();
    assert!(reader.try_fetch_group(5).is_pending());
    let Poll::Ready(Ok(request)) = dynamic.try_requested_group() else { panic!() };
    drop(request.accept().unwrap());
    let broken = fetched(&mut reader, 5).try_finished();
    assert_eq!(
        broken,
        Poll::Ready(Err(Error::Dropped)),
        "the reader that requested it sees the failure"
    );
    assert!(reader.try_fetch_group(5).is_pending());
    answer(&mut dynamic, 5);
    assert_eq!(read(&mut fetched(&mut reader, 5)), [payload(5)]);
    assert_eq!(read(&mut fetched(&mut reader, 5)), [payload(5)]);
}

#[test]
fn a_refusal_is_only_for_the_readers_that_waited() {
    let (track, mut reader) = track();
    let mut dynamic = track.dynamic();
    let mut other = reader.clone();
    for (refuse, error) in [(true, Error::App(7)), (false, Error::Dropped)] {
        assert!(reader.try_fetch_group(0).is_pending());
        assert!(other.try_fetch_group(0).is_pending());
        let Poll::Ready(Ok(request)) = dynamic.try_requested_group() else { panic!() };
        if refuse {
            request.reject(Error::App(7));
        } else {
            drop(request);
        }
        assert_eq!(refused(&mut reader, 0), error);
        assert!(reader.try_fetch_group(0).is_pending(), "it is requested again");
        assert_eq!(refused(&mut other, 0), error);
        answer(&mut dynamic, 0);
        assert_eq!(read(&mut fetched(&mut reader, 0)), [payload(0)]);
        // Fills the cache, so that the group is evicted.
        for sequence in [1, 2] {
            assert!(reader.try_fetch_group(sequence).is_pending());
            answer(&mut dynamic, sequence);
            fetched(&mut reader, sequence);
        }
    }
    // The last handler leaves.
    assert!(reader.try_fetch_group(0).is_pending());
    let clone = dynamic.clone();
    drop(dynamic);
    assert!(reader.try_fetch_group(0).is_pending());
    drop(clone);
    assert_eq!(refused(&mut reader, 0), Error::NotFound);
    assert_eq!(refused(&mut reader, 0), Error::Old, "no handler is left");
}

#[test]
fn the_end_of_a_track_answers_all_fetches() {
    let (mut aborted, mut reader) = track();
    let mut dynamic = aborted.dynamic();
    assert!(reader.try_fetch_group(1).is_pending());
    let Poll::Ready(Ok(request)) = dynamic.try_requested_group() else { panic!() };
    let mut other = reader.clone();
    assert!(other.try_fetch_group(2).is_pending());
    aborted.abort(Error::SessionClosed);
    assert_eq!(refused(&mut reader, 1), Error::SessionClosed);
    assert_eq!(refused(&mut other, 2), Error::SessionClosed);
    assert!(matches!(request.accept(), Err(Error::SessionClosed)));
    assert!(matches!(dynamic.try_requested_group(), Poll::Ready(Err(Error::SessionClosed))));
    assert_eq!(read(&mut fetched(&mut reader, 4)), [payload(4)], "a cached group stays");

    // A clean end does not affect earlier groups, and the answers need no producer.
    let (mut finished, mut reader) = track();
    let mut dynamic = finished.dynamic();
    let mut beyond = reader.clone();
    assert!(beyond.try_fetch_group(5).is_pending());
    finished.finish().unwrap();
    drop(finished);
    assert_eq!(refused(&mut beyond, 5), Error::NotFound);
    assert!(reader.try_fetch_group(1).is_pending());
    answer(&mut dynamic, 1);
    assert_eq!(read(&mut fetched(&mut reader, 1)), [payload(1)]);
}

#[test]
fn readers_that_wait_for_a_fetch_are_woken() {
    let (mut track, reader) = track();
    let [asks, answers] = [(); 2].map(|()| Wakes::new());
    let (mut ask, mut serve) = (asks.context(), answers.context());
    let mut dynamic = track.dynamic();
    assert!(dynamic.poll_requested_group(&mut serve).is_pending());

    let mut reader = reader;
    assert!(reader.poll_fetch_group(&mut ask, 1).is_pending());
    assert_eq!((asks.take(), answers.take()), (0, 1));
    let Poll::Ready(Ok(mut request)) = dynamic.poll_requested_group(&mut serve) else { panic!() };
    assert!(request.poll_unused(&mut serve).is_pending());
    let group = request.accept().unwrap();
    assert_eq!(asks.take(), 1);
    drop(group);

    // Readers that leave, by requesting another group or altogether.
    for _ in 0..2 {
        assert!(reader.poll_fetch_group(&mut ask, 2).is_pending());
        let Poll::Ready(Ok(mut request)) = dynamic.try_requested_group() else { panic!() };
        assert!(request.poll_unused(&mut serve).is_pending());
        answers.take();
        assert!(reader.poll_fetch_group(&mut ask, 0).is_pending());
        assert_eq!(answers.take(), 1);
        assert!(request.poll_unused(&mut serve).is_ready());
    }
    assert!(dynamic.poll_requested_group(&mut serve).is_ready(), "group 0");
    assert!(dynamic.poll_requested_group(&mut serve).is_pending());

    // A wait ends with a group that is written, with the end of the track, and with the last handler.
    asks.take();
    assert!(reader.poll_fetch_group(&mut ask, 5).is_pending());
    track.append_group().unwrap().finish().unwrap();
    assert_eq!(asks.take(), 1);
    assert!(reader.poll_fetch_group(&mut ask, 5).is_ready());
    assert!(reader.poll_fetch_group(&mut ask, 6).is_pending());
    track.finish().unwrap();
    assert_eq!(asks.take(), 1);
    assert!(reader.poll_fetch_group(&mut ask, 0).is_pending());
    drop(dynamic);
    assert_eq!(asks.take(), 1);
    assert!(reader.poll_fetch_group(&mut ask, 0).is_ready());
}

/// Unwanted requests are not handed out and do not accumulate.
#[test]
fn requests_are_withdrawn() {
    let (track, mut reader) = track();
    let mut dynamic = track.dynamic();
    for sequence in [0, 1, 2, 0, 1] {
        assert!(reader.try_fetch_group(sequence).is_pending());
    }
    let mut other = reader.clone();
    assert!(other.try_fetch_group(2).is_pending());
    drop(reader);
    answer(&mut dynamic, 2);
    assert!(dynamic.try_requested_group().is_pending());
    assert_eq!(read(&mut fetched(&mut other, 2)), [payload(2)]);
}

/// Fetched groups are subject to the same limits of the cache.
#[test]
fn fetched_groups_are_evicted_unless_they_are_read() {
    let (mut track, mut reader) = track();
    let mut dynamic = track.dynamic();
    assert!(reader.try_fetch_group(1).is_pending());
    answer(&mut dynamic, 1);
    let mut held = fetched(&mut reader, 1);
    for n in 5..9_u64 {
        track.write_frame(n * 10, payload(n)).unwrap();
    }
    assert_eq!(read(&mut held), [payload(1)], "a group with a reader stays");
    drop(held);
    track.write_frame(90, payload(9)).unwrap();
    assert!(reader.try_fetch_group(1).is_pending(), "it was evicted");
    assert_eq!(read(&mut fetched(&mut reader.clone(), 9)), [payload(9)]);

    // Their bytes are released.
    let before = track.cached_bytes();
    answer(&mut dynamic, 1);
    let held = fetched(&mut reader, 1);
    track.write_frame(100, payload(10)).unwrap();
    drop(held);
    track.write_frame(110, payload(11)).unwrap();
    track.write_frame(120, payload(12)).unwrap();
    assert_eq!(track.cached_bytes(), before);
}

/// Before a track is accepted, it is unknown whether a handler exists.
#[test]
fn a_requested_track_answers_fetches_once_it_is_accepted() {
    for answers in [true, false] {
        let broadcast = Broadcast::new().produce();
        let mut tracks = broadcast.dynamic();
        let consumer = broadcast.consume();
        let mut reader = consumer.subscribe_track("video", Subscription::default()).unwrap();
        assert!(reader.try_fetch_group(3).is_pending());
        let Poll::Ready(Ok(request)) = tracks.try_requested_track() else { panic!() };
        let dynamic = answers.then(|| request.dynamic());
        let wakes = Wakes::new();
        assert!(reader.poll_fetch_group(&mut wakes.context(), 3).is_pending());
        let _track = request.accept(Track::new("video").info).unwrap();
        // With a handler the answer is still open.
        assert_eq!(wakes.take(), usize::from(!answers));
        match dynamic {
            Some(mut dynamic) => {
                assert!(reader.try_fetch_group(3).is_pending());
                answer(&mut dynamic, 3);
                assert_eq!(read(&mut fetched(&mut reader, 3)), [payload(3)]);
            }
            None => assert_eq!(refused(&mut reader, 3), Error::NotFound),
        }
    }
}
