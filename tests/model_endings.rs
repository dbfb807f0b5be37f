//! How frames, groups and tracks end, as their readers see it.

use std::task::Poll;
use std::time::Duration;

use smoq::{
    Error, Frame, Group, GroupConsumer, GroupProducer, Limits, Result, Subscription, Track,
    TrackConsumer, TrackProducer,
};

fn track() -> (TrackProducer, TrackConsumer) {
    let track = Track::new("t").produce();
    let reader = track.subscribe(Subscription::default().max_age(Duration::MAX).start(0));
    (track, reader)
}

fn group() -> (TrackProducer, GroupProducer, GroupConsumer) {
    let (mut track, _) = track();
    let group = track.append_group().unwrap();
    let reader = group.consume();
    (track, group, reader)
}

/// The payloads of all frames that are there, and the result after them.
fn drain(group: &mut GroupConsumer) -> (Vec<Vec<u8>>, Poll<Result<Option<Frame>>>) {
    let mut frames = Vec::new();
    loop {
        match group.try_read_frame() {
            Poll::Ready(Ok(Some(frame))) => frames.push(frame.payload().to_vec()),
            end => return (frames, end),
        }
    }
}

fn assert_end(group: &mut GroupConsumer, frames: &[&[u8]], end: Result<()>) {
    let (seen, seen_end) = drain(group);
    assert_eq!(seen, frames);
    match (seen_end, &end) {
        (Poll::Ready(Ok(None)), Ok(())) => {}
        (Poll::Ready(Err(seen)), Err(error)) => assert_eq!(&seen, error),
        (seen, _) => panic!("{seen:?} instead of {end:?}"),
    }
    assert_eq!(group.try_finished(), Poll::Ready(end.map(|()| frames.len() as u64)));
}

fn sequences(track: &mut TrackConsumer) -> (Vec<u64>, Poll<Result<()>>) {
    let mut all = Vec::new();
    loop {
        match track.try_recv_group() {
            Poll::Ready(Ok(Some(group))) => all.push(group.sequence()),
            end => return (all, end.map_ok(|_| ())),
        }
    }
}

#[test]
fn a_finished_frame_is_readable() {
    let (_track, mut group, mut reader) = group();
    let mut frame = group.create_frame(0, 4).unwrap();
    frame.write(b"ab").unwrap();
    assert!(reader.try_read_frame().is_pending(), "only whole frames are returned");
    frame.write(b"cd").unwrap();
    assert_eq!(frame.remaining(), 0);
    frame.finish().unwrap();
    group.finish().unwrap();
    assert_end(&mut reader, &[b"abcd"], Ok(()));
}

#[test]
fn a_short_frame_ends_its_group() {
    let (_track, mut group, mut reader) = group();
    group.write_frame(0, "a".as_bytes()).unwrap();
    let mut frame = group.create_frame(0, 4).unwrap();
    frame.write(b"b").unwrap();
    assert_eq!(frame.finish(), Err(Error::WrongSize));
    assert_end(&mut reader, &[b"a"], Err(Error::WrongSize));
    assert_eq!(group.write_frame(0, "c".as_bytes()), Err(Error::WrongSize));
}

#[test]
fn a_long_frame_ends_its_group() {
    let (_track, mut group, mut reader) = group();
    let mut frame = group.create_frame(0, 4).unwrap();
    assert_eq!(frame.write(b"abcde"), Err(Error::WrongSize));
    drop(frame);
    assert_end(&mut reader, &[], Err(Error::WrongSize));
}

#[test]
fn a_dropped_frame_ends_its_group() {
    let (_track, mut group, mut reader) = group();
    let mut frame = group.create_frame(0, 4).unwrap();
    frame.write(b"abc").unwrap();
    drop(frame);
    assert_end(&mut reader, &[], Err(Error::Dropped));
    assert_eq!(group.finish(), Err(Error::Dropped));
}

#[test]
fn an_aborted_frame_ends_its_group() {
    let (_track, mut group, mut reader) = group();
    group.write_frame(0, "a".as_bytes()).unwrap();
    let mut frame = group.create_frame(0, 4).unwrap();
    frame.write(b"abc").unwrap();
    frame.abort(Error::App(7));
    assert_eq!(frame.finish(), Err(Error::App(7)));
    assert_eq!(frame.write(b"d"), Err(Error::App(7)));
    drop(frame);
    assert_end(&mut reader, &[b"a"], Err(Error::App(7)));
    assert_eq!(group.finish(), Err(Error::App(7)));
}

#[test]
fn a_group_does_not_finish_after_half_a_frame() {
    let (_track, mut group, mut reader) = group();
    let mut frame = group.create_frame(0, 4).unwrap();
    assert_eq!(group.create_frame(0, 1).unwrap_err(), Error::Duplicate);
    assert_eq!(group.write_frame(0, "x".as_bytes()), Err(Error::Duplicate));
    assert_eq!(group.finish(), Err(Error::WrongSize));
    assert_eq!(frame.write(b"abcd"), Err(Error::WrongSize));
    assert_end(&mut reader, &[], Err(Error::WrongSize));
}

#[test]
fn a_finished_group_ends_cleanly() {
    let (_track, mut group, mut reader) = group();
    group.write_frame(0, "a".as_bytes()).unwrap();
    group.finish().unwrap();
    assert_end(&mut reader, &[b"a"], Ok(()));
    assert_eq!(group.finish(), Err(Error::Closed));
    assert_eq!(group.write_frame(0, "b".as_bytes()), Err(Error::Closed));
    group.abort(Error::Cancelled);
    assert_end(&mut group.consume(), &[b"a"], Ok(()));
}

#[test]
fn an_aborted_group_yields_its_frames_and_then_the_reason() {
    let (_track, mut group, mut reader) = group();
    group.write_frame(0, "a".as_bytes()).unwrap();
    group.abort(Error::App(9));
    group.abort(Error::Cancelled);
    assert_end(&mut reader, &[b"a"], Err(Error::App(9)));
    assert_end(&mut group.consume(), &[b"a"], Err(Error::App(9)));
}

#[test]
fn the_last_writer_of_a_group_ends_it() {
    let (_track, mut group, mut reader) = group();
    let mut second = group.clone();
    group.write_frame(0, "a".as_bytes()).unwrap();
    drop(group);
    second.write_frame(0, "b".as_bytes()).unwrap();
    let mut frame = second.create_frame(0, 1).unwrap();
    drop(second);
    frame.write(b"c").unwrap();
    assert!(reader.try_finished().is_pending(), "an open frame counts as a writer");
    drop(frame);
    assert_end(&mut reader, &[b"a", b"b", b"c"], Err(Error::Dropped));
}

#[test]
fn a_finished_track_ends_after_its_last_group() {
    let (mut track, mut reader) = track();
    let mut open = track.append_group().unwrap();
    track.write_frame(0, "x".as_bytes()).unwrap();
    assert!(reader.try_closed().is_pending());
    track.finish().unwrap();
    assert_eq!(reader.try_closed(), Poll::Ready(Ok(())));
    assert_eq!(reader.try_finished(), Poll::Ready(Ok(2)));
    assert_eq!(reader.end(), Some(2));
    assert_eq!(sequences(&mut reader.clone()), (vec![0, 1], Poll::Ready(Ok(()))));
    for _ in 0..2 {
        assert!(matches!(reader.try_next_group(), Poll::Ready(Ok(Some(_)))));
    }
    assert!(matches!(reader.try_next_group(), Poll::Ready(Ok(None))));
    assert_eq!(track.append_group().unwrap_err(), Error::Closed);
    assert_eq!(track.finish(), Err(Error::Closed));
    open.write_frame(0, "late".as_bytes()).unwrap();
    track.abort(Error::Cancelled);
    assert_eq!(reader.try_closed(), Poll::Ready(Ok(())), "the end had been reached before");
}

#[test]
fn an_end_can_be_declared_in_advance() {
    let (mut track, mut reader) = track();
    track.write_frame(0, "x".as_bytes()).unwrap();
    track.finish_at(3).unwrap();
    assert_eq!(sequences(&mut reader), (vec![0], Poll::Pending));
    assert_eq!(reader.try_finished(), Poll::Ready(Ok(3)));
    track.create_group(2).unwrap();
    assert_eq!(track.create_group(3).unwrap_err(), Error::Closed);
    assert_eq!(sequences(&mut reader), (vec![2], Poll::Ready(Ok(()))));
    assert_eq!(track.create_group(1).unwrap_err(), Error::Closed, "readers know the end already");

    let (mut track, mut reader) = self::track();
    track.create_group(5).unwrap();
    assert!(matches!(track.finish_at(5), Err(Error::ProtocolViolation(_))));
    track.finish_at(9).unwrap();
    assert_eq!(sequences(&mut reader), (vec![5], Poll::Pending));
    drop(track);
    assert_eq!(sequences(&mut reader), (vec![], Poll::Ready(Ok(()))), "no writer is left");
}

#[test]
fn an_aborted_track_yields_its_groups_and_then_the_reason() {
    let (mut track, mut reader) = track();
    let mut group = track.append_group().unwrap();
    let mut begun = group.consume();
    track.abort(Error::App(1));
    track.abort(Error::App(2));
    assert_eq!(track.append_group().unwrap_err(), Error::App(1));
    assert_eq!(track.finish(), Err(Error::App(1)));
    assert_eq!(reader.try_closed(), Poll::Ready(Err(Error::App(1))));
    assert_eq!(reader.try_finished(), Poll::Ready(Err(Error::App(1))));
    assert_eq!(track.try_closed(), Poll::Ready(Err(Error::App(1))));
    assert_eq!(track.try_used(), Poll::Ready(Err(Error::App(1))));
    assert_eq!(sequences(&mut reader), (vec![0], Poll::Ready(Err(Error::App(1)))));
    assert!(matches!(reader.try_group(0), Poll::Ready(Ok(Some(_)))));
    assert!(matches!(reader.try_group(1), Poll::Ready(Err(Error::App(1)))));
    // An abort of the track does not affect its groups.
    group.write_frame(0, "x".as_bytes()).unwrap();
    group.finish().unwrap();
    assert_end(&mut begun, &[b"x"], Ok(()));
}

#[test]
fn the_last_writer_of_a_track_ends_it() {
    let (track, mut reader) = track();
    let mut second = track.clone();
    drop(track);
    second.write_frame(0, "x".as_bytes()).unwrap();
    assert!(reader.try_closed().is_pending());
    drop(second);
    assert_eq!(reader.try_closed(), Poll::Ready(Err(Error::Dropped)));
    assert_eq!(sequences(&mut reader), (vec![0], Poll::Ready(Err(Error::Dropped))));
}

#[test]
fn frames_and_groups_have_limits() {
    let mut limits = Limits::default();
    limits.frame_bytes = 100;
    limits.group_bytes = 150;
    limits.group_frames = 3;
    let mut track = Track::new("t").produce_within(limits);
    let mut write = |sizes: &[usize]| {
        let mut group = track.append_group().unwrap();
        let mut result = Ok(());
        for &size in sizes {
            result = group.write_frame(0, vec![0; size]);
        }
        let end = group.consume().try_finished();
        match &result {
            Ok(()) => assert!(end.is_pending()),
            Err(error) => assert_eq!(end, Poll::Ready(Err(error.clone()))),
        }
        result
    };
    assert_eq!(write(&[100, 50, 0]), Ok(()));
    assert_eq!(write(&[101]), Err(Error::FrameTooLarge));
    assert_eq!(write(&[100, 51]), Err(Error::GroupTooLarge));
    assert_eq!(write(&[0, 0, 0, 0]), Err(Error::GroupTooLarge));

    let mut group = track.append_group().unwrap();
    assert_eq!(group.create_frame(0, u64::MAX).unwrap_err(), Error::FrameTooLarge);
    let mut group = track.append_group().unwrap();
    group.create_frame(0, 100).unwrap().write(&[0; 100]).unwrap();
    assert_eq!(group.create_frame(0, 51).unwrap_err(), Error::GroupTooLarge);
}

#[test]
fn no_declared_size_causes_a_panic() {
    let mut limits = Limits::default();
    limits.frame_bytes = u64::MAX;
    limits.group_bytes = u64::MAX;
    let mut track = Track::new("t").produce_within(limits);
    for (size, expected) in [
        (u64::MAX, Err(Error::FrameTooLarge)),
        (1 << 62, Err(Error::FrameTooLarge)),
        ((1 << 62) - 1, Err(Error::WrongSize)),
    ] {
        let mut group = track.append_group().unwrap();
        let result = group.create_frame(u64::MAX, size).and_then(|mut frame| frame.finish());
        assert_eq!(result, expected);
    }
    assert!(track.cached_bytes() < 200_000);
    track.create_group(Group::MAX).unwrap();
    assert!(matches!(track.append_group(), Err(Error::Unrepresentable(_))));
    assert!(matches!(track.create_group(u64::MAX), Err(Error::Unrepresentable(_))));
}

#[test]
fn a_finished_track_accepts_no_group_in_a_gap() {
    let (mut track, mut reader) = track();
    let mut other = track.clone();
    for sequence in [0, 4] {
        track.create_group(sequence).unwrap().finish().unwrap();
    }
    track.finish().unwrap();
    assert_eq!(sequences(&mut reader), (vec![0, 4], Poll::Ready(Ok(()))));
    for writer in [&mut track, &mut other] {
        for sequence in [0, 2, 4, 5] {
            assert_eq!(writer.create_group(sequence).unwrap_err(), Error::Closed, "{sequence}");
        }
        assert_eq!(writer.append_group().unwrap_err(), Error::Closed);
        assert_eq!(writer.write_frame(0, "late").unwrap_err(), Error::Closed);
        assert_eq!(writer.write_datagram(0, "late").unwrap_err(), Error::Closed);
    }
    assert_eq!(sequences(&mut reader), (vec![], Poll::Ready(Ok(()))), "the announced end stays");
}

#[test]
fn a_track_with_a_later_end_accepts_groups_up_to_it() {
    let (mut track, mut reader) = track();
    track.create_group(0).unwrap().finish().unwrap();
    track.finish_at(4).unwrap();
    assert_eq!(track.create_group(4).unwrap_err(), Error::Closed);
    track.create_group(2).unwrap().finish().unwrap();
    assert_eq!(sequences(&mut reader), (vec![0, 2], Poll::Pending));
    track.create_group(1).unwrap().finish().unwrap();
    assert_eq!(sequences(&mut reader), (vec![1], Poll::Pending));
    track.create_group(3).unwrap().finish().unwrap();
    assert_eq!(sequences(&mut reader), (vec![3], Poll::Ready(Ok(()))));
}

/// A dynamic handler of past groups outlives the end of the track.
#[test]
fn groups_of_a_finished_track_can_be_fetched() {
    let (mut track, mut reader) = track();
    let mut dynamic = track.dynamic();
    track.create_group(4).unwrap().finish().unwrap();
    track.finish().unwrap();
    assert!(reader.try_fetch_group(2).is_pending());
    let Poll::Ready(Ok(request)) = dynamic.try_requested_group() else { panic!("no request") };
    request.accept().unwrap().finish().unwrap();
    assert!(matches!(reader.try_fetch_group(2), Poll::Ready(Ok(group)) if group.sequence() == 2));
}

/// D22-12-1-MUST-NOT-552: nothing of a malformed track is served, not even to a reader that has begun a group.
#[test]
fn a_malformed_track_yields_none_of_its_groups() {
    let (mut track, mut other) = track();
    for group in 0..3 {
        track.write_frame(group, "frame").unwrap();
    }
    let mut open = track.append_group().unwrap();
    open.write_frame(3, "frame").unwrap();
    let mut reading = track.consume();
    let Poll::Ready(Ok(Some(mut group))) = reading.try_recv_group() else { panic!("a group") };
    assert!(matches!(group.try_read_frame(), Poll::Ready(Ok(Some(_)))));
    let fault = Error::Malformed(smoq::coding::DecodeError::InvalidValue("properties"));
    track.abort(fault.clone());
    assert_eq!(group.try_read_frame().map_ok(drop), Poll::Ready(Err(fault.clone())));
    assert_eq!(reading.try_recv_group().map_ok(drop), Poll::Ready(Err(fault.clone())));
    assert_eq!(other.try_recv_group().map_ok(drop), Poll::Ready(Err(fault.clone())));
    assert_eq!(open.write_frame(4, "late"), Err(fault));
}
