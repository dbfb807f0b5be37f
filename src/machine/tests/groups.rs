//! Groups and frames, sent and received (moq-lite-06, 6.3.2 and 7.19).

use super::*;
use crate::coding::lite::FrameHead;

/// A subscription that the server accepted, and the stream of its next group.
fn publisher(version: Version) -> (Lone, RequestKey, StreamId) {
    let mut lone = Lone::ready(Side::Server, version);
    let id = lone.open(Dir::Bi, subscribe_bytes(version));
    let Event::SubscribeRequested { request, .. } = one(lone.events()) else { panic!() };
    lone.apply(Command::AcceptSubscribe { request, info: TrackInfo::default(), largest: None });
    lone.sent(id);
    let stream = lone.own(Dir::Uni, u64::from(Features::of(version).setup));
    (lone, request, stream)
}

/// A subscriber that knows its track's information.
fn subscriber(version: Version) -> Lone {
    subscriber_with(config(Side::Client, version))
}

fn subscriber_with(config: Config) -> Lone {
    let version = config.agreed.version();
    let mut lone = Lone::ready_with(config);
    lone.apply(subscribe(0));
    lone.data(lone.own(Dir::Bi, 0), info_bytes(version));
    assert_eq!(lone.events().len(), 1);
    lone
}

fn header(version: Version) -> String {
    header_bytes(version, 0x2a)
}

// ---- bytes -----------------------------------------------------------------------------------

/// A whole group, both ways, from frames that lie in the cache in the form of the wire and in another.
#[test]
fn the_bytes_of_a_group() {
    let frames = [Frame::new(1000, "hello"), Frame::new(1040, "hi"), Frame::new(1020, "")];
    for (version, digits) in [
        (Lite01, "00 02 00 2a 05 68656c6c6f 02 6869 00"),
        (Lite02, "00 02 00 2a 05 68656c6c6f 02 6869 00"),
        (Lite03, "00 02 00 2a 05 68656c6c6f 02 6869 00"),
        (Lite04, "00 02 00 2a 05 68656c6c6f 02 6869 00"),
        (Lite05, "00 02 00 2a 47d0 05 68656c6c6f 4050 02 6869 27 00"),
        (Lite06, "00 03 00 2a 00 47d0 05 68656c6c6f 4050 02 6869 27 00"),
        (Lite07Wip, "00 03 00 2a 00 87d0 05 68656c6c6f 50 02 6869 27 00"),
    ] {
        for as_wire in [false, true] {
            let (mut lone, request, stream) = publisher(version);
            lone.end.source.as_wire = as_wire;
            lone.end.source.insert(token(42), frames.clone());
            lone.apply(group(request, 42));
            assert_eq!(lone.sent(stream), bytes(digits) + " fin", "{version}");
            assert_eq!(lone.events(), [Event::GroupReleased { group: token(42), sent: true }]);
        }
        let mut lone = subscriber(version);
        let id = lone.open(Dir::Uni, digits);
        lone.fin(id, "");
        let received = Received::of([vec![informed(0)], lone.events()].concat());
        assert_eq!(received.groups[&(0, 42)], whole(version, &frames));
        assert_eq!(lone.actions(), []);
    }
}

/// On a stream that starts late the first delta is the timestamp itself. 06 and 07 can name the first frame;
/// on other versions the group is skipped.
#[test]
fn a_late_start_begins_with_a_whole_timestamp() {
    let frames = [Frame::new(1000, "a"), Frame::new(1040, "b"), Frame::new(1020, "c")];
    for as_wire in [false, true] {
        for version in LITE {
            let (mut lone, request, stream) = publisher(version);
            lone.end.source.as_wire = as_wire;
            lone.end.source.insert(token(42), frames.clone());
            let (group, sequence) = (token(42), 42);
            lone.apply(Command::Group { request, group, sequence, first_frame: 1 });
            let sent = version >= Lite06;
            assert_eq!(lone.events(), [Event::GroupReleased { group, sent }]);
            // 1040 and then -20.
            let expected = match version {
                Lite07Wip => "00 03 00 2a 01 8820 01 62 27 01 63",
                Lite06 => "00 03 00 2a 01 4820 01 62 27 01 63",
                _ => "",
            };
            let fin = if sent { " fin" } else { "" };
            assert_eq!(lone.sent(stream), bytes(expected) + fin);
        }
    }
}

// ---- out -------------------------------------------------------------------------------------

/// Frames of all sizes, over links that take and deliver them in pieces of all sizes.
#[test]
fn frames_arrive_as_they_were_sent() {
    on_every_link(|version, link| {
        let mut random = Random::new(link.seed);
        for as_wire in [false, true] {
            let mut pair = pair(version, link.clone());
            let request = subscribed(&mut pair, 0);
            pair.server.source.as_wire = as_wire;
            let mut sent = vec![];
            for sequence in 0..4_u32 {
                let mut frames = vec![];
                for index in 0..random.below(5) {
                    let size = [0, 1, 2, 63, 64, 300][random.below(6) as usize];
                    let payload: Vec<u8> = (0..size).map(|_| random.next() as u8).collect();
                    let timestamp = [0, 90, 1 << 20, 1 << 60][random.below(4) as usize] + index;
                    frames.push(Frame::new(timestamp, payload));
                }
                pair.server.source.insert(token(sequence), frames.clone());
                pair.server.apply(group(request, sequence.into()));
                sent.push(frames);
                pair.steps(random.below(50) as usize);
            }
            pair.run_until_idle();
            let received = Received::of([vec![informed(0)], pair.client.take_events()].concat());
            for (sequence, frames) in sent.iter().enumerate() {
                assert_eq!(received.groups[&(0, sequence as u64)], whole(version, frames));
            }
        }
    });
}

/// A large frame is written in bursts, and read in the pieces that arrive.
#[test]
fn a_large_frame_is_not_copied_or_joined() {
    for version in LITE {
        let mut pair = pair(version, Link::perfect());
        let request = subscribed(&mut pair, 0);
        let frames = [Frame::new(0, vec![1; 1 << 20]), Frame::new(1, vec![2; 300_000])];
        pair.server.source.insert(token(0), frames.clone());
        pair.server.apply(group(request, 0));
        pair.run_until_idle();
        let events = pair.client.take_events();
        assert!(events.iter().filter(|it| matches!(it, Event::Payload { .. })).count() > 10);
        let received = Received::of([vec![informed(0)], events].concat());
        assert_eq!(received.groups[&(0, 0)], whole(version, &frames));
    }
}

/// A frame that arrived in several chunks is reported at once, in the memory in which QUIC delivered it.
#[test]
fn a_frame_in_several_chunks_is_not_copied_or_joined() {
    for version in LITE {
        let mut lone = subscriber(version);
        let stream = lone.open(Dir::Uni, &header(version));
        let head = FrameHead::between(Timestamp::ZERO, Timestamp::ZERO, 2_048).encode(version);
        let head = head.expect("the numbers fit");
        let first = [&head[..], &[1; 1_000]].concat().into();
        let chunks: [Bytes; 3] = [first, vec![2; 524].into(), vec![3; 524].into()];
        for bytes in chunks.clone() {
            lone.end.handle(lone.now, Input::Data { id: stream, bytes, fin: false });
        }
        lone.run();
        let events = lone.events();
        let [Event::Group { .. }, Event::Frame { size: 2_048, payload, .. }] = &events[..] else {
            panic!("{version}: {events:?}")
        };
        let parts = [&chunks[0][head.len()..], &chunks[1], &chunks[2]];
        assert_eq!(payload.as_slice(), parts, "{version}");
        for (piece, part) in payload.as_slice().iter().zip(parts) {
            assert_eq!(piece.as_ptr(), part.as_ptr(), "{version}");
        }
    }
}

/// The list of a payload that was given back holds the chunks of the next one.
#[test]
fn a_recycled_payload_spares_the_next_one_its_list() {
    for version in LITE {
        let mut lone = subscriber(version);
        let (mut lists, mut others) = (Vec::new(), Vec::new());
        for sequence in 0x2a..0x2d {
            let stream = lone.open(Dir::Uni, &header_bytes(version, sequence));
            let head = FrameHead::between(Timestamp::ZERO, Timestamp::ZERO, 2_048).encode(version);
            let head = head.expect("the numbers fit");
            for bytes in [[&head[..], &[1; 1_024]].concat(), vec![2; 1_024]] {
                let bytes = bytes.into();
                lone.end.handle(lone.now, Input::Data { id: stream, bytes, fin: false });
            }
            lone.run();
            let Some(Event::Frame { payload, .. }) = lone.events().pop() else {
                panic!("{version}")
            };
            assert_eq!(payload.to_bytes(), [[1; 1_024], [2; 1_024]].concat(), "{version}");
            lists.push(payload.as_slice().as_ptr());
            lone.end.machine.recycle(payload);
            // It would take the memory of a list that was dropped.
            others.push(Vec::<Bytes>::with_capacity(4));
        }
        assert!(lists.iter().all(|list| *list == lists[0]), "{version}");
    }
}

/// Frames and bytes that are produced while the group is sent follow.
#[test]
fn a_frame_may_grow_while_it_is_sent() {
    on_every_link(|version, link| {
        let mut pair = pair(version, link);
        let request = subscribed(&mut pair, 0);
        let ready = Command::GroupReady { request, sequence: 0 };
        let frame = Frame { size: 12, ..Frame::new(5, "grow") };
        pair.server.source.push(token(0), frame);
        pair.server.apply(group(request, 0));
        pair.run_until_idle();
        let mut received = Received::of(vec![informed(0)]);
        received.record(pair.client.take_events());
        let bytes = |received: &Received| received.groups[&(0, 0)].frames[0].2.clone();
        assert_eq!(bytes(&received), b"grow");

        pair.server.source.extend(token(0), "ing");
        pair.run_until_idle();
        assert_eq!(pair.client.take_events(), [], "the group is not ready");
        pair.server.apply(ready.clone());
        pair.server.apply(ready.clone());
        pair.steps(3);
        pair.server.source.extend(token(0), " more");
        pair.server.apply(ready.clone());
        pair.run_until_idle();
        received.record(pair.client.take_events());
        assert_eq!(bytes(&received), b"growing more");

        pair.server.source.push(token(0), Frame::new(6, "next"));
        pair.server.source.end(token(0), Ok(()));
        pair.server.apply(ready);
        pair.run_until_idle();
        received.record(pair.client.take_events());
        let frames = [Frame::new(5, "growing more"), Frame::new(6, "next")];
        assert_eq!(received.groups[&(0, 0)], whole(version, &frames));
    });
}

/// An expired group uses no stream credit. Nor does a group without bytes to send.
#[test]
fn a_group_takes_a_stream_only_when_it_has_something_to_send() {
    for version in LITE {
        let (mut lone, request, stream) = publisher(version);
        lone.end.source.end(token(1), Err(Error::Old));
        lone.apply(group(request, 1));
        let setup = u64::from(Features::of(version).setup);
        assert_eq!(lone.opened[0][Dir::Uni as usize], setup);
        assert_eq!(lone.events(), [Event::GroupReleased { group: token(1), sent: false }]);
        assert_eq!(lone.end.source.told_gone(), [token(1)], "asked once");

        lone.end.source.insert(token(2), []);
        lone.end.source.push(token(3), Frame::new(0, "x"));
        lone.apply(group(request, 3));
        lone.apply(group(request, 2));
        assert_eq!(lone.opened[0][Dir::Uni as usize], setup + 2);
        assert!(lone.sent(stream).len() > 8);

        // A group without a frame waits until it is ready.
        let opened = lone.opened[0][Dir::Uni as usize];
        lone.end.source.begin(token(9));
        lone.apply(group(request, 9));
        assert_eq!(lone.opened[0][Dir::Uni as usize], opened);
        lone.end.source.push(token(9), Frame::new(0, "x"));
        lone.apply(Command::GroupReady { request, sequence: 9 });
        assert_eq!(lone.opened[0][Dir::Uni as usize], opened + 1);
    }
}

/// A group that is lost after its beginning was sent is reset with the reason.
#[test]
fn a_group_that_is_lost_while_it_is_sent_is_reset() {
    on_every_link(|_, link| {
        let mut pair = pair(Lite06, link);
        let request = subscribed(&mut pair, 0);
        pair.server.source.push(token(0), Frame { size: 100, ..Frame::new(0, "begins") });
        pair.server.apply(group(request, 0));
        pair.run_until_idle();
        pair.server.source.end(token(0), Err(Error::Evicted));
        pair.server.apply(Command::GroupReady { request, sequence: 0 });
        pair.run_until_idle();
        let released = Event::GroupReleased { group: token(0), sent: false };
        assert_eq!(pair.server.take_events(), [released]);
        let received = Received::of([vec![informed(0)], pair.client.take_events()].concat());
        assert_eq!(received.groups[&(0, 0)].result, Some(Err(Error::Evicted)));
        assert!(!received.ended.contains_key(&0), "the subscription continues");
        // The credit for the stream is returned.
        assert_eq!(pair.streams(Side::Server, Dir::Uni), 0);
    });
}

/// A subscriber stops a group that it does not want; other groups go on.
#[test]
fn a_stopped_group_is_released() {
    on_every_link(|version, link| {
        let mut pair = pair(version, link);
        let request = subscribed(&mut pair, 0);
        let mut received = Received::of(vec![informed(0)]);
        for sequence in 0..2 {
            pair.server.source.push(token(sequence), Frame::new(0, "first"));
            pair.server.apply(group(request, sequence.into()));
        }
        pair.run_until_idle();
        received.record(pair.client.take_events());
        let unwanted = *received.names.iter().find(|(_, name)| **name == (0, 0)).unwrap().0;
        pair.client.apply(Command::StopGroup { group: unwanted, error: Error::Lagged });
        pair.client.apply(Command::StopGroup { group: unwanted, error: Error::Lagged });
        for sequence in 0..2 {
            pair.server.source.push(token(sequence), Frame::new(1, "second"));
            pair.server.source.end(token(sequence), Ok(()));
            pair.server.apply(Command::GroupReady { request, sequence: sequence.into() });
        }
        pair.run_until_idle();
        let mut released = pair.server.take_events();
        released.sort_by_key(
            |event| matches!(event, Event::GroupReleased { group, .. } if *group == token(1)),
        );
        // The whole group may have been sent before STOP_SENDING arrived.
        assert!(matches!(released[0], Event::GroupReleased { group, .. } if group == token(0)));
        assert_eq!(released[1], Event::GroupReleased { group: token(1), sent: true });
        received.names.remove(&unwanted);
        received.record(pair.client.take_events());
        let frames = [Frame::new(0, "first"), Frame::new(1, "second")];
        assert_eq!(received.groups[&(0, 1)], whole(version, &frames));
        assert_eq!(pair.streams(Side::Server, Dir::Uni), 0);
    });
}

/// STOP_SENDING is answered by RESET_STREAM with the same code, once, and the token is free.
#[test]
fn stop_sending_is_answered_by_a_reset() {
    let (mut lone, request, stream) = publisher(Lite06);
    lone.end.source.push(token(0), Frame::new(0, "x"));
    lone.apply(group(request, 0));
    lone.stop(stream, Code::MAX.as_u64());
    lone.stop(stream, 5);
    assert_eq!(lone.actions(), [reset(stream, Code::MAX.as_u64())]);
    assert_eq!(lone.events(), [Event::GroupReleased { group: token(0), sent: false }]);
    lone.apply(Command::GroupReady { request, sequence: 0 });
    lone.handle(Input::Writable { id: stream });
    assert_eq!(lone.actions(), []);
}

/// A group that is passed twice, or for an unknown request, is released at once.
#[test]
fn a_group_that_can_not_be_sent_is_released() {
    let released = |slot| Event::GroupReleased { group: token(slot), sent: false };
    for version in LITE {
        let mut lone = Lone::ready(Side::Server, version);
        lone.open(Dir::Bi, subscribe_bytes(version));
        let Event::SubscribeRequested { request, .. } = one(lone.events()) else { panic!() };
        lone.apply(group(request, 1));
        assert_eq!(lone.events(), [released(1)], "not accepted yet");
        lone.apply(Command::AcceptSubscribe { request, info: TrackInfo::default(), largest: None });
        lone.end.source.push(token(5), Frame::new(0, "x"));
        lone.end.source.push(token(6), Frame::new(0, "x"));
        lone.apply(group(request, 5));
        let again = Command::Group { request, group: token(6), sequence: 5, first_frame: 0 };
        lone.apply(again);
        assert_eq!(lone.events(), [released(6)], "a duplicate number");
        if Features::of(version).subscribe_end {
            lone.apply(group(request, 4));
            assert_eq!(lone.events(), [released(4)], "below START");
        }
        let sequence = u64::MAX;
        lone.apply(Command::Group { request, group: token(7), sequence, first_frame: 0 });
        assert_eq!(lone.events(), [released(7)], "past the largest number");
        lone.apply(Command::FinishSubscribe { request, end: 6 });
        lone.apply(group(request, 8));
        assert_eq!(lone.events(), [released(8)], "after the end");
    }
}

// ---- in --------------------------------------------------------------------------------------

/// A group that waited for its track may become readable after its subscription ended.
#[test]
fn a_group_that_lost_its_subscription_is_stopped() {
    for version in LITE {
        let mut lone = Lone::ready(Side::Client, version);
        lone.apply(subscribe(0));
        let stream = lone.open(Dir::Uni, &header(version));
        let (id, bytes) = (lone.own(Dir::Bi, 0), hex(info_bytes(version)));
        lone.end.handle(lone.now, Input::Data { id, bytes, fin: false });
        assert!(lone.end.work(lone.now) && lone.events() == [informed(0)]);
        lone.actions();
        lone.apply(Command::Unsubscribe { subscription: token(0) });
        assert!(lone.actions().contains(&stop(stream, 1)));
        assert!(Census::of(&lone.end.machine.bare.core.recv_streams).is_empty());
    }
}

/// FIN in the middle of a frame, a size that is too large, a timestamp below 0.
#[test]
fn a_malformed_group_ends_by_itself() {
    for version in LITE {
        let has_time = Features::of(version).timestamps;
        let early = Error::Malformed(DecodeError::BoundsExceeded);
        let mut cases = vec![
            ("00 05 6162", true, Error::WrongSize),
            // More than one byte as an integer of either form.
            ("00 c0", true, Error::WrongSize),
            ("00 e7ffffff", false, Error::FrameTooLarge),
        ];
        if version != Lite07Wip {
            cases[2] = ("00 ffffffffffffffff", false, Error::FrameTooLarge);
        }
        if has_time {
            cases.push(("01 00", false, early));
        }
        for (frame, fin, error) in cases {
            let mut lone = subscriber(version);
            let frame = if has_time { frame } else { &frame[2..] };
            let id = lone.open(Dir::Uni, &format!("{} {frame}", header(version)));
            if fin {
                lone.fin(id, "");
            }
            let received = Received::of([vec![informed(0)], lone.events()].concat());
            let code = error.stream_code().as_u64();
            assert_eq!(received.groups[&(0, 42)].result, Some(Err(error)), "{version} {frame}");
            assert_eq!(lone.actions(), if fin { vec![] } else { vec![stop(id, code)] });
            // The next group is read.
            let id = lone.open(Dir::Uni, &header(version));
            lone.fin(id, "");
            assert_eq!(lone.events().len(), 2);
        }
    }
}

/// Only the stream is stopped.
#[test]
fn a_group_of_an_unknown_subscription_is_stopped() {
    for version in LITE {
        let mut lone = subscriber(version);
        let digits = if version >= Lite06 { "00 03 05 2a 00" } else { "00 02 05 2a" };
        let id = lone.open(Dir::Uni, digits);
        assert_eq!(lone.actions(), [stop(id, 1)]);
        // Later input for it has no effect.
        lone.data(id, "00 01 61");
        lone.fin(id, "");
        lone.reset(id, 3);
        assert_eq!((lone.events(), lone.actions()), (vec![], vec![]));
        assert_eq!(lone.end.read_limit(id), 0);
    }
}

/// L06-7-19-MUST-NOT-192: the earlier frames are not waited for, and the next group is read.
#[test]
fn a_part_of_a_group_is_refused() {
    for version in [Lite06, Lite07Wip] {
        let mut lone = subscriber(version);
        let part = lone.open(Dir::Uni, "00 03 00 2a 01 00 01 61");
        assert_eq!(lone.actions(), [stop(part, 1)]);
        let refused = Event::GroupRefused { subscription: token(0), sequence: 42 };
        assert_eq!(lone.events(), [refused]);
        let id = lone.open(Dir::Uni, &header_bytes(version, 0x2b));
        lone.fin(id, "");
        assert_eq!(lone.events().len(), 2);
    }
}

/// moq-dev/moq#2721: a dropped group must not end anything else.
#[test]
fn a_reset_before_the_first_byte_has_no_effect() {
    for version in LITE {
        let mut lone = subscriber(version);
        let before = lone.end.machine.entries();
        let id = lone.open(Dir::Uni, "");
        lone.reset(id, 2);
        let id = lone.open(Dir::Uni, "00");
        lone.reset(id, 2);
        let id = lone.open(Dir::Uni, "00 02");
        lone.reset(id, 2);
        let id = lone.open(Dir::Bi, "");
        lone.reset(id, 2);
        assert_eq!(lone.events(), []);
        assert_eq!(lone.actions(), [reset(id, 1)]);
        let empty = lone.open(Dir::Uni, "");
        lone.fin(empty, "");
        assert_eq!((lone.events(), lone.actions()), (vec![], vec![]));
        assert_eq!(lone.end.machine.entries(), before);
    }
}

#[test]
fn a_reset_group_ends_with_the_code() {
    for version in LITE {
        let mut lone = subscriber(version);
        let id = lone.open(Dir::Uni, &header(version));
        lone.reset(id, Code::MAX.as_u64());
        let received = Received::of([vec![informed(0)], lone.events()].concat());
        let result = Some(Err(Error::Remote(Code::MAX)));
        assert_eq!(received.groups[&(0, 42)], ReceivedGroup { result, ..ReceivedGroup::default() });
        assert_eq!(lone.actions(), []);
    }
}

/// moq-lite-06, 7.13: groups below START are dropped.
#[test]
fn groups_below_the_start_are_dropped() {
    for version in [Lite05, Lite06, Lite07Wip] {
        let mut lone = subscriber(version);
        lone.data(lone.own(Dir::Bi, 1), "00 01 2b");
        let id = lone.open(Dir::Uni, &header(version));
        assert_eq!(lone.actions(), [stop(id, 1)]);
        assert_eq!(lone.events(), [started(0, 0x2b)]);
    }
}

/// Events that the application does not pull hold the stream: the machine reads no more than a buffer holds.
#[test]
fn unpulled_events_stop_reading() {
    for version in LITE {
        let link = Link { stream_window: 4 << 20, ..Link::perfect() };
        let mut pair = pair(version, link);
        let request = subscribed(&mut pair, 0);
        let frames: Vec<_> = (0..50).map(|_| Frame::new(0, vec![3; 10_000])).collect();
        pair.server.source.insert(token(0), frames.clone());
        pair.server.apply(group(request, 0));
        pair.client.room = 3;
        pair.run_until_idle();
        let mut received = Received::of(vec![informed(0)]);
        let mut rounds = 0;
        while received.groups.get(&(0, 0)).is_none_or(|group| group.result.is_none()) {
            let events = pair.client.take_events();
            assert_eq!(events.len(), 3.min(52 - rounds * 3));
            received.record(events);
            pair.run_until_idle();
            assert!(pair.client.machine.bare.core.recv_streams.buffered() <= (64 << 10) + 24);
            rounds += 1;
        }
        assert_eq!(received.groups[&(0, 0)], whole(version, &frames));
    }
}
