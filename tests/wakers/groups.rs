//! Readers of groups and of frames.

use std::task::{Context, Poll};

use smoq::{Error, FrameProducer, GroupConsumer, GroupProducer, Limits, Track, TrackProducer};

use super::{Case, Kept, Polled, Table, everything, joined, keep, track};

/// The name of a wait, and a function that begins it.
type Wait = (&'static str, fn(GroupConsumer) -> Polled);

/// The waits of a reader of the group. If a frame is open, a wait for the start of a frame is one for the
/// next frame.
const WAITS: [Wait; 4] = [
    ("GroupConsumer::poll_read_frame", |mut reader| {
        Box::new(move |cx| reader.poll_read_frame(cx).is_ready())
    }),
    ("GroupConsumer::poll_frame", |mut reader| {
        Box::new(move |cx| reader.poll_frame(cx, 0).is_ready())
    }),
    ("GroupConsumer::poll_start_frame", |mut reader| {
        let _open = reader.try_start_frame();
        Box::new(move |cx| reader.poll_start_frame(cx).is_ready())
    }),
    ("GroupConsumer::poll_finished", |mut reader| {
        Box::new(move |cx| reader.poll_finished(cx).is_ready())
    }),
];

const CHUNK: Wait = ("FrameConsumer::poll_read_chunk", |reader| {
    let mut frame = started(reader);
    Box::new(move |cx| frame.poll_read_chunk(cx).is_ready())
});

fn started(mut reader: GroupConsumer) -> smoq::FrameConsumer {
    let Poll::Ready(Ok(Some(frame))) = reader.try_start_frame() else { panic!("no frame") };
    frame
}

struct Fixture {
    track: TrackProducer,
    group: GroupProducer,
    /// A frame of 900 bytes, none of which is written.
    frame: Option<FrameProducer>,
}

fn fixture(is_open: bool) -> Fixture {
    let mut limits = Limits::default();
    (limits.track_bytes, limits.track_groups, limits.group_frames) = (20_000, 20, 2);
    let mut track = Track::new("video").produce_within(limits);
    let mut group = track.append_group().unwrap();
    let frame = is_open.then(|| group.create_frame(0, 900).unwrap());
    Fixture { track, group, frame }
}

/// Waiters for other events of the track.
fn others(case: &mut Case, track: &mut TrackProducer) {
    let other = track.append_group().unwrap();
    let mut reader = other.consume();
    case.other("a reader of another group", move |cx| {
        let _open = &other;
        reader.poll_read_frame(cx).is_ready()
    });
    let mut reader = track.subscribe(everything().start(2));
    case.other("a reader of groups", move |cx| reader.poll_recv_group(cx).is_ready());
    let mut reader = track.consume();
    case.other("a reader that waits for the end of the track", move |cx| {
        reader.poll_closed(cx).is_ready()
    });
    let mut writer = track.clone();
    case.other("a writer", move |cx| writer.poll_unused(cx).is_ready());
}

/// An event after which the group has ended.
type End = fn(Fixture) -> Kept;

const ENDS: [(&str, End); 4] = [
    ("the group is finished", |mut it| {
        it.group.finish().unwrap();
        keep((it.group, it.track))
    }),
    ("the group is aborted", |mut it| {
        it.group.abort(Error::Cancelled);
        keep((it.group, it.frame, it.track))
    }),
    ("the last writer of the group is dropped", |it| {
        drop(it.group.clone());
        drop(it.group);
        keep(it.track)
    }),
    ("a frame is too large", |mut it| {
        assert!(it.group.create_frame(0, u64::MAX >> 2).is_err());
        keep((it.group, it.track))
    }),
];

const OPEN_ENDS: [(&str, End); 7] = [
    ("the group is aborted within a frame", |mut it| {
        it.group.abort(Error::Cancelled);
        keep((it.group, it.frame, it.track))
    }),
    ("an open frame is dropped", |it| {
        drop(it.frame);
        keep((it.group, it.track))
    }),
    ("an open frame is finished too early", |mut it| {
        assert_eq!(it.frame.take().unwrap().finish(), Err(Error::WrongSize));
        keep((it.group, it.track))
    }),
    ("an open frame gets too many bytes", |mut it| {
        assert_eq!(it.frame.as_mut().unwrap().write(&[0; 901]), Err(Error::WrongSize));
        keep((it.group, it.frame, it.track))
    }),
    ("the group is finished within a frame", |mut it| {
        assert_eq!(it.group.finish(), Err(Error::WrongSize));
        keep((it.group, it.frame, it.track))
    }),
    ("the group is evicted for its bytes", |mut it| {
        let others = groups_with_readers(&mut it.track, 9, 3_000);
        keep((it.group, it.frame, it.track, others))
    }),
    ("the group is evicted for the number of groups", |mut it| {
        let others = groups_with_readers(&mut it.track, 20, 1);
        keep((it.group, it.frame, it.track, others))
    }),
];

/// Groups without a reader would be evicted first.
fn groups_with_readers(
    track: &mut TrackProducer,
    count: usize,
    bytes: usize,
) -> Vec<GroupConsumer> {
    let groups = (0..count).map(|_| {
        let mut group = track.append_group().unwrap();
        group.write_frame(0, vec![1; bytes]).unwrap();
        group.consume()
    });
    groups.collect()
}

pub(crate) fn rows(table: &mut Table) {
    for (wait, begin) in WAITS {
        for (cause, end) in ENDS {
            end_row(table, (wait, begin), cause, end, false);
        }
    }
    for wait in WAITS.into_iter().chain([CHUNK]) {
        for (cause, end) in OPEN_ENDS {
            end_row(table, wait, cause, end, true);
        }
    }
    table.row("GroupConsumer::poll_finished", "there are too many frames", |case| {
        let mut it = fixture(false);
        (0..2).for_each(|_| it.group.write_frame(0, "a").unwrap());
        let mut reader = it.group.consume();
        case.waits(move |cx| reader.poll_finished(cx).is_ready());
        move || {
            assert_eq!(it.group.create_frame(0, 1).err(), Some(Error::GroupTooLarge));
            it
        }
    });
    whole_frames(table);
    parts_of_frames(table);
    groups_of_a_peer(table);
    writers(table);
}

/// Writers that wait for the end of their group.
fn writers(table: &mut Table) {
    let ends = ENDS.map(|end| (end, false)).into_iter();
    let ends = ends.chain(OPEN_ENDS.map(|end| (end, true)));
    // A waiter is itself a writer, so none of them is the last.
    for ((cause, end), is_open) in ends.filter(|((cause, _), _)| !cause.contains("last writer")) {
        table.row("GroupProducer::poll_closed", cause, |case| {
            let mut it = fixture(is_open);
            if !cause.contains("evicted") {
                others(case, &mut it.track);
            }
            for _ in 0..2 {
                let mut writer = it.group.clone();
                case.waits(move |cx| writer.poll_closed(cx).is_ready());
            }
            move || end(it)
        });
    }
}

fn end_row(table: &mut Table, (wait, begin): Wait, cause: &'static str, end: End, is_open: bool) {
    table.row(wait, cause, |case| {
        let mut it = fixture(is_open);
        if !cause.contains("evicted") {
            others(case, &mut it.track);
        }
        for _ in 0..2 {
            case.waits(begin(it.group.consume()));
        }
        move || end(it)
    });
}

/// Whole frames are written.
fn whole_frames(table: &mut Table) {
    let begin = |case: &mut Case, is_open: bool| {
        let mut it = fixture(is_open);
        others(case, &mut it.track);
        let mut reader = it.group.consume();
        case.other("a reader that waits for the end", move |cx| {
            reader.poll_finished(cx).is_ready()
        });
        it
    };
    for (wait, wait_for) in &WAITS[..3] {
        for (cause, bytes) in [("a small frame is written", 1), ("a large frame is written", 5_000)]
        {
            table.row(wait, cause, |case| {
                let mut it = begin(case, false);
                case.waits(wait_for(it.group.consume()));
                move || {
                    it.group.write_frame(0, vec![1; bytes]).unwrap();
                    it
                }
            });
        }
        table.row(wait, "an empty frame is created", |case| {
            let mut it = begin(case, false);
            case.waits(wait_for(it.group.consume()));
            move || (it.group.create_frame(0, 0).unwrap(), it)
        });
    }
    for (wait, wait_for) in [WAITS[0], WAITS[1], CHUNK] {
        table.row(wait, "an open frame gets its last byte", |case| {
            let mut it = begin(case, true);
            let mut frame = it.frame.take().unwrap();
            frame.write(&[1; 899]).unwrap();
            let mut polled = wait_for(it.group.consume());
            if wait == CHUNK.0 {
                // The bytes that are there.
                assert!(polled(&mut Context::from_waker(std::task::Waker::noop())));
            }
            case.waits(polled);
            move || (frame.write(b"b"), frame, it)
        });
    }
    table.row("GroupConsumer::poll_frame", "the frame of this number is written", |case| {
        let mut group = track().append_group().unwrap();
        group.write_frame(0, "a").unwrap();
        let mut reader = group.consume();
        case.waits(move |cx| reader.poll_frame(cx, 1).is_ready());
        move || (group.write_frame(1, "b"), group)
    });
}

/// Frames begin, and parts of them are written.
fn parts_of_frames(table: &mut Table) {
    table.row("GroupConsumer::poll_start_frame", "a frame begins", |case| {
        let mut it = fixture(false);
        others(case, &mut it.track);
        let mut reader = it.group.consume();
        case.waits(move |cx| reader.poll_start_frame(cx).is_ready());
        let mut reader = it.group.consume();
        case.other("a reader of whole frames", move |cx| reader.poll_read_frame(cx).is_ready());
        move || (it.group.create_frame(0, 9).unwrap(), it)
    });
    for before in [0, 16] {
        table.row(CHUNK.0, &format!("bytes are written after {before} pieces"), |case| {
            let mut it = fixture(true);
            others(case, &mut it.track);
            let frame = it.frame.as_mut().unwrap();
            let mut reader = started(it.group.consume());
            for _ in 0..before {
                frame.write(&[1; 9]).unwrap();
                assert!(reader.try_read_chunk().is_ready());
            }
            case.waits(move |cx| reader.poll_read_chunk(cx).is_ready());
            let mut reader = it.group.consume();
            case.other("a reader of whole frames", move |cx| reader.poll_read_frame(cx).is_ready());
            let mut reader = it.group.consume();
            case.other("a reader of the end", move |cx| reader.poll_finished(cx).is_ready());
            move || {
                let frame = it.frame.as_mut().unwrap();
                match before {
                    0 => frame.write(&[1; 9]).unwrap(),
                    // Few bytes are not shown alone after that many pieces.
                    _ => (0..9).for_each(|_| frame.write(&[1; 64]).unwrap()),
                }
                it
            }
        });
    }
}

/// The group arrives through a session.
fn groups_of_a_peer(table: &mut Table) {
    for (wait, begin) in WAITS {
        let causes = match wait {
            "GroupConsumer::poll_finished" => &["FIN", "reset", "the session is lost"][..],
            _ => &["a frame arrives", "FIN", "reset", "the session is lost"],
        };
        for cause in causes {
            table.row(wait, &format!("at a peer: {cause}"), |case| {
                let mut joined = joined(smoq::Version::Lite06);
                let mut broadcast = joined.origins[1].create_broadcast("live").unwrap();
                let mut track = broadcast.create_track("video").unwrap();
                joined.pair.run_until_idle();
                let seen = joined.origins[0].consume().broadcast("live").unwrap();
                let mut reader = seen.subscribe_track("video", everything()).unwrap();
                let mut group = track.append_group().unwrap();
                let mut frame = group.create_frame(0, 2).unwrap();
                frame.write(b"a").unwrap();
                joined.pair.run_until_idle();
                let Poll::Ready(Ok(Some(arriving))) = reader.try_recv_group() else { panic!() };
                case.waits(begin(arriving));
                move || {
                    match *cause {
                        "a frame arrives" => {
                            frame.write(b"b").unwrap();
                            group.write_frame(1, "c").unwrap();
                        }
                        "FIN" => {
                            frame.write(b"b").unwrap();
                            group.finish().unwrap();
                        }
                        "reset" => group.abort(Error::Cancelled),
                        _ => joined.pair.disconnect(),
                    }
                    joined.pair.run_until_idle();
                    (frame, group, track, broadcast, reader, seen, joined)
                }
            });
        }
    }
}
