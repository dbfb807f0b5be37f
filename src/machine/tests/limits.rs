//! The limits of the machine: at each limit everything works, and past it exactly one thing fails with a
//! typed error.

use super::*;
use crate::LimitKind;

fn limited(side: Side, version: Version, limit: impl FnOnce(&mut Limits)) -> Config {
    let mut config = config(side, version);
    limit(&mut config.limits);
    config
}

/// A client with a subscription whose track information is known.
fn subscriber(version: Version, limit: impl FnOnce(&mut Limits)) -> Lone {
    let mut lone = Lone::ready_with(limited(Side::Client, version, limit));
    lone.apply(subscribe(0));
    lone.data(lone.own(Dir::Bi, 0), info_bytes(version));
    assert_eq!(lone.events(), [informed(0)]);
    lone
}

/// The bytes of a group with frames of these sizes.
fn group_bytes(version: Version, sequence: u8, sizes: &[usize]) -> String {
    let header = header_bytes(version, sequence);
    let delta = if Features::of(version).timestamps { "00" } else { "" };
    let frame = |size: &usize| format!("{delta} {size:02x} {}", "61".repeat(*size));
    header + &sizes.iter().map(frame).collect::<String>()
}

/// The result of a group with these frames. Also checks that the next group is read.
fn group_result(lone: &mut Lone, sizes: &[usize]) -> Result<(), Error> {
    let version = lone.version;
    let id = lone.open(Dir::Uni, &group_bytes(version, 1, sizes));
    lone.fin(id, "");
    let received = Received::of([vec![informed(0)], lone.events()].concat());
    let id = lone.open(Dir::Uni, &group_bytes(version, 2, &[1]));
    lone.fin(id, "");
    let next = Received::of([vec![informed(0)], lone.events()].concat());
    assert_eq!(next.groups[&(0, 2)].result, Some(Ok(())));
    received.groups[&(0, 1)].result.clone().expect("an end")
}

#[test]
fn frame_bytes() {
    for version in LITE {
        let mut lone = subscriber(version, |limits| limits.frame_bytes = 5);
        assert_eq!(group_result(&mut lone, &[5, 5]), Ok(()));
        assert_eq!(group_result(&mut lone, &[5, 6]), Err(Error::FrameTooLarge));
    }
}

#[test]
fn group_frames() {
    for version in LITE {
        let mut lone = subscriber(version, |limits| limits.group_frames = 3);
        assert_eq!(group_result(&mut lone, &[0, 1, 2]), Ok(()));
        assert_eq!(group_result(&mut lone, &[0, 1, 2, 0]), Err(Error::GroupTooLarge));
    }
}

#[test]
fn group_bytes_limit() {
    for version in LITE {
        let mut lone = subscriber(version, |limits| limits.group_bytes = 10);
        assert_eq!(group_result(&mut lone, &[5, 5, 0]), Ok(()));
        assert_eq!(group_result(&mut lone, &[5, 6]), Err(Error::GroupTooLarge));
    }
}

/// A body of exactly the limit passes in pieces of any size, through a buffer that is no larger than
/// necessary.
#[test]
fn message_bytes() {
    for version in LITE {
        for step in [1, 7, 1_000] {
            for (size, fits) in [(300, true), (301, false)] {
                let mut lone = Lone::ready_with(limited(Side::Server, version, |limits| {
                    limits.message_bytes = 300;
                    limits.stream_buffer = 0;
                }));
                let id = lone.open(Dir::Bi, "");
                let tail = hex(wanted_bytes(version));
                let name = size - 4 - tail.len();
                let two = if version == Lite07Wip { 0x8000 } else { 0x4000 };
                let mut bytes =
                    hex(&format!("02 {:04x} 00 00 {:04x}", two | size, two | name)).to_vec();
                bytes.extend(vec![b'x'; name]);
                bytes.extend(tail);
                let mut rest = &bytes[..];
                while !rest.is_empty()
                    && lone.actions.iter().all(|it| matches!(it, Action::Resume { .. }))
                {
                    let n = step.min(rest.len()).min(lone.end.read_limit(id));
                    assert!(n > 0, "{version} {step}: held with {} to go", rest.len());
                    lone.handle(Input::Data {
                        id,
                        bytes: Bytes::copy_from_slice(&rest[..n]),
                        fin: false,
                    });
                    rest = &rest[n..];
                }
                let events = lone.events();
                if fits {
                    assert!(matches!(one(events), Event::SubscribeRequested { .. }));
                } else {
                    assert_eq!(events, []);
                    assert_eq!(lone.actions(), [reset(id, 0x12), stop(id, 0x12)]);
                }
            }
        }
    }
}

/// Set-up past the limit ends the session before its body arrives.
#[test]
fn message_bytes_of_set_up() {
    for version in LITE.into_iter().filter(|it| *it <= Lite02 || *it >= Lite05) {
        for (limit, fits) in [(300, true), (299, false)] {
            let config = limited(Side::Server, version, |limits| limits.message_bytes = limit);
            let mut lone = Lone::new(config);
            match version {
                Lite01 | Lite02 => lone.open(Dir::Bi, "20 012c"),
                Lite07Wip => lone.open(Dir::Uni, "01 812c"),
                _ => lone.open(Dir::Uni, "01 412c"),
            };
            if fits {
                assert_eq!((lone.events(), lone.actions()), (vec![], vec![]), "{version}");
            } else {
                let malformed = Error::ProtocolViolation("malformed SETUP");
                assert_eq!(lone.closed_with(3), malformed, "{version}");
            }
        }
    }
}

/// An incomplete message after a complete one: the buffer is read again when there is room.
#[test]
fn large_messages_one_after_the_other() {
    for version in LITE {
        let config = limited(Side::Client, version, |limits| {
            limits.message_bytes = 100;
            limits.stream_buffer = 0;
        });
        let mut lone = Lone::ready_with(Config { interests: vec![Path::root()], ..config });
        let id = lone.own(Dir::Bi, 0);
        let mut bytes = hex(nothing_announced(version)).to_vec();
        for count in 0..10_u8 {
            let name = vec![b'a' + count; 60];
            let (head, tail) = match version {
                Lite01 | Lite02 => ("3e 01 3c", ""),
                Lite06 => ("00 4040 3c", "00 00 00"),
                Lite07Wip => ("00 44 00 00 3c", "00 00 00 00 00"),
                _ => ("3f 01 3c", "00"),
            };
            bytes.extend_from_slice(&hex(head));
            bytes.extend(name);
            bytes.extend_from_slice(&hex(tail));
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let n = rest.len().min(lone.end.read_limit(id));
            assert!(n > 0, "{version}: held with {} to go", rest.len());
            lone.handle(Input::Data { id, bytes: Bytes::copy_from_slice(&rest[..n]), fin: false });
            rest = &rest[n..];
        }
        assert_eq!(lone.events().len(), 10, "{version}");
    }
}

#[test]
fn path_segments() {
    for version in LITE {
        for (path, fits) in [("03 612f62", true), ("05 612f622f63", false)] {
            let limit = |limits: &mut Limits| limits.path_segments = 2;
            let mut lone = Lone::ready_with(limited(Side::Server, version, limit));
            let body = hex(&format!("00 {path} 00 {}", wanted_bytes(version)));
            let id = lone.open(Dir::Bi, &format!("02 {:02x} {}", body.len(), digits(&body)));
            assert_eq!(lone.events().len(), usize::from(fits));
            let refused = vec![reset(id, 0x12), stop(id, 0x12)];
            assert_eq!(lone.actions(), if fits { vec![] } else { refused });
        }
    }
}

/// Past it the request is refused or the announcement ignored, and nothing else.
#[test]
fn path_bytes() {
    use crate::coding::lite::{Announce, AnnounceInit, Bases};

    let limit = |limits: &mut Limits| {
        (limits.path_bytes, limits.path_segments, limits.message_bytes) = (5, 2, 40);
    };
    for version in LITE {
        for (names, fits) in [
            ("05 6161616161 05 6262626262", true),
            ("06 616161616161 01 62", false),
            ("01 61 06 626262626262", false),
        ] {
            let mut lone = Lone::ready_with(limited(Side::Server, version, limit));
            let body = hex(&format!("00 {names} {}", wanted_bytes(version)));
            let id = lone.open(Dir::Bi, &format!("02 {:02x} {}", body.len(), digits(&body)));
            assert_eq!(lone.events().len(), usize::from(fits));
            let refused = vec![reset(id, 0x30), stop(id, 0x30)];
            assert_eq!(lone.actions(), if fits { vec![] } else { refused });
        }
        let listener = || {
            let config = limited(Side::Client, version, limit);
            let lone = Lone::ready_with(Config { interests: vec![Path::root()], ..config });
            let id = lone.own(Dir::Bi, 0);
            (lone, id)
        };
        // Too long for a path, too deep, and too long for a message.
        let names = ["a", "bbbbbb", "c/c/c", &"d".repeat(50), "e"];
        let (mut lone, id) = listener();
        lone.data(id, nothing_announced(version));
        let tell = |lone: &mut Lone, message: Announce| {
            let mut bytes = BytesMut::new();
            message.encode(&mut bytes, version).unwrap();
            for piece in bytes.chunks(7) {
                let bytes = Bytes::copy_from_slice(piece);
                lone.handle(Input::Data { id, bytes, fin: false });
            }
        };
        for name in names {
            let (hops, cost, bases) = (Hops::new(), Cost::UNKNOWN, Bases::default());
            tell(&mut lone, Announce::Active { suffix: path(name), hops, cost, bases });
        }
        let told = |events: Vec<Event>| -> Vec<String> {
            let path = |event| match event {
                Event::Announced { path, .. } => format!("+{path}"),
                Event::Unannounced { path } => format!("-{path}"),
                other => panic!("{other:?}"),
            };
            events.into_iter().map(path).collect()
        };
        assert_eq!(told(lone.events()), ["+a", "+e"], "{version}");
        for (id, name) in (0..).zip(names) {
            tell(
                &mut lone,
                match Features::of(version).announce_ids {
                    true => Announce::EndedId { id },
                    false => Announce::Ended { suffix: path(name) },
                },
            );
        }
        assert_eq!(told(lone.events()), ["-a", "-e"], "{version}");
        assert_eq!(lone.actions(), []);
        if Features::of(version).announce_init {
            for names in [&["a", "bbbbbb", "c/c/c", "e"][..], &["x"; 50]] {
                let (mut lone, id) = listener();
                let suffixes = names.iter().copied().map(path).collect();
                let mut bytes = BytesMut::new();
                AnnounceInit { suffixes }.encode(&mut bytes, version).unwrap();
                lone.handle(Input::Data { id, bytes: bytes.freeze(), fin: false });
                lone.data(id, "03 01 01 7a");
                let expected: &[&str] =
                    if names.len() < 50 { &["+a", "+e", "+z"] } else { &["+z"] };
                assert_eq!(told(lone.events()), expected);
            }
        }
    }
}

/// Past it announcements are dropped. Known ones continue, and ids of dropped ones count.
#[test]
fn announcements() {
    for version in LITE {
        let config = limited(Side::Client, version, |limits| limits.announcements = 2);
        let mut lone = Lone::ready_with(Config { interests: vec![Path::root()], ..config });
        let id = lone.own(Dir::Bi, 0);
        lone.data(id, nothing_announced(version));
        let active = |name: &str| match version {
            Lite01 | Lite02 => format!("03 01 01 {name}"),
            Lite07Wip => format!("00 09 00 00 01 {name} 00 00 00 00 00"),
            Lite06 => format!("00 05 01 {name} 00 00 00"),
            _ => format!("04 01 01 {name} 00"),
        };
        for name in ["61", "62", "63", "64"] {
            lone.data(id, &active(name));
        }
        assert_eq!(lone.events().len(), 2);
        // The third, which was not reported, ends; then the first, and there is room again.
        let end = |id: &str, name: &str| match version {
            Lite01 | Lite02 => format!("03 00 01 {name}"),
            Lite06 | Lite07Wip => format!("01 01 {id}"),
            _ => format!("04 00 01 {name} 00"),
        };
        lone.data(id, &end("02", "63"));
        assert_eq!(lone.events(), []);
        lone.data(id, &end("00", "61"));
        assert_eq!(lone.events(), [Event::Unannounced { path: path("a") }]);
        lone.data(id, &active("65"));
        lone.data(id, &end("04", "65"));
        assert_eq!(lone.events().len(), 2);
        assert_eq!(lone.actions(), []);
    }
}

/// Past it an announce request is answered with an empty set, because deployed peers take a reset for the end
/// of the session. The end of another request makes room.
#[test]
fn announce_requests() {
    for version in LITE {
        let limit = |limits: &mut Limits| limits.announce_requests = 2;
        let mut lone = Lone::ready_with(limited(Side::Server, version, limit));
        let ids = [(); 3].map(|()| lone.open(Dir::Bi, announce_request_bytes(version)));
        assert_eq!(lone.events().len(), 2);
        let nothing = nothing_announced(version).replace("5234", "6222").replace("9234", "a222");
        assert_eq!(lone.sent(ids[2]), bytes(&nothing) + " fin", "{version}");
        assert!(ids[..2].iter().all(|id| lone.sent(*id).is_empty()));
        assert_eq!(lone.actions(), []);
        // Other requests are not affected.
        lone.open(Dir::Bi, &subscribe_request(version, 0));
        assert!(matches!(one(lone.events()), Event::SubscribeRequested { .. }));
        lone.stop(ids[0], 1);
        assert!(matches!(one(lone.events()), Event::RequestEnded { .. }));
        lone.open(Dir::Bi, announce_request_bytes(version));
        assert!(matches!(one(lone.events()), Event::AnnounceRequested { .. }));
    }
}

#[test]
fn outgoing_subscriptions() {
    for version in LITE {
        let limit = |limits: &mut Limits| limits.subscriptions = 2;
        let mut lone = Lone::ready_with(limited(Side::Client, version, limit));
        for slot in 0..3 {
            lone.apply(subscribe(slot));
        }
        let result = Err(Error::Limit(LimitKind::Subscriptions));
        assert_eq!(lone.events(), [Event::SubscribeEnded { subscription: token(2), result }]);
        lone.apply(Command::Unsubscribe { subscription: token(0) });
        lone.events();
        lone.apply(subscribe(2));
        assert_eq!(lone.events(), []);
    }
}

fn subscribe_request(version: Version, id: u8) -> String {
    let tail = wanted_bytes(version);
    format!("02 {:02x} {id:02x} 00 00 {tail}", 3 + hex(tail).len())
}

#[test]
fn incoming_subscriptions() {
    for version in LITE {
        let limit = |limits: &mut Limits| limits.subscriptions = 2;
        let mut lone = Lone::ready_with(limited(Side::Server, version, limit));
        let ids = [0, 1, 2].map(|id| lone.open(Dir::Bi, &subscribe_request(version, id)));
        assert_eq!(lone.events().len(), 2);
        assert_eq!(lone.actions(), [reset(ids[2], 0x30), stop(ids[2], 0x30)]);
        lone.fin(ids[0], "");
        assert_eq!(lone.events().len(), 1);
        lone.open(Dir::Bi, &subscribe_request(version, 3));
        assert!(matches!(one(lone.events()), Event::SubscribeRequested { .. }));
    }
}

#[test]
fn requests() {
    for version in LITE {
        // The stream of the session counts, on versions that have one.
        let session = usize::from(Features::of(version).version_setup);
        let limit = |limits: &mut Limits| limits.requests = 2 + session;
        let mut lone = Lone::ready_with(limited(Side::Server, version, limit));
        // A stream without a message counts as well.
        let silent = lone.open(Dir::Bi, "");
        let served = lone.open(Dir::Bi, &subscribe_request(version, 0));
        let refused = lone.open(Dir::Bi, &subscribe_request(version, 1));
        assert_eq!(lone.actions(), [reset(refused, 0x30), stop(refused, 0x30)]);
        assert_eq!(lone.events().len(), 1);
        lone.fin(refused, "00");
        lone.reset(silent, 0);
        assert_eq!(lone.actions(), [reset(silent, 1)]);
        lone.open(Dir::Bi, &subscribe_request(version, 2));
        assert_eq!(lone.events().len(), 1);
        // Requests of this end do not count.
        lone.apply(subscribe(0));
        lone.fin(served, "");
        assert_eq!(lone.events().len(), 1);
        assert!(lone.actions().iter().all(|it| !matches!(it, Action::Stop { .. })));
    }
}

#[test]
fn group_streams() {
    for version in LITE {
        let mut lone = subscriber(version, |limits| limits.group_streams = 2);
        let first = lone.open(Dir::Uni, "");
        let second = lone.open(Dir::Uni, &group_bytes(version, 1, &[1]));
        let third = lone.open(Dir::Uni, &group_bytes(version, 2, &[1]));
        assert_eq!(lone.actions(), [stop(third, 0x30)]);
        assert_eq!(lone.events().len(), 2);
        lone.fin(second, "");
        lone.fin(first, &group_bytes(version, 3, &[1]));
        assert_eq!(lone.events().len(), 4);
        lone.open(Dir::Uni, &group_bytes(version, 4, &[1]));
        assert_eq!(lone.events().len(), 2);
        assert_eq!(lone.actions(), []);
    }
}

/// Groups of unknown tracks wait, unread. The newest are kept, for a limited time.
#[test]
fn unbound_streams() {
    for version in LITE {
        let limit = |limits: &mut Limits| limits.unbound_streams = 2;
        let mut lone = Lone::ready_with(limited(Side::Client, version, limit));
        lone.apply(subscribe(0));
        let ids =
            [1, 2, 3].map(|sequence| lone.open(Dir::Uni, &group_bytes(version, sequence, &[1])));
        assert_eq!(lone.actions(), [stop(ids[0], 0x30)]);
        assert_eq!(ids.map(|id| lone.end.read_limit(id)), [0; 3]);
        lone.data(lone.own(Dir::Bi, 0), info_bytes(version));
        assert_eq!(lone.actions(), [1, 2].map(|index| Action::Resume { id: ids[index] }));
        let received = Received::of(lone.events());
        assert_eq!(received.groups.keys().copied().collect::<Vec<_>>(), [(0, 2), (0, 3)]);
        assert!(ids[1..].iter().all(|id| lone.end.read_limit(*id) > 0));

        let mut lone =
            Lone::ready_with(limited(Side::Client, version, |it| it.unbound_streams = 0));
        lone.apply(subscribe(0));
        let id = lone.open(Dir::Uni, &group_bytes(version, 1, &[1]));
        assert_eq!(lone.actions(), [stop(id, 0x30)]);
    }
}

#[test]
fn unbound_timeout() {
    for version in LITE {
        let mut lone = Lone::ready(Side::Client, version);
        lone.apply(subscribe(0));
        let first = lone.open(Dir::Uni, &group_bytes(version, 1, &[1]));
        lone.advance(ms(3_000));
        let second = lone.open(Dir::Uni, &group_bytes(version, 2, &[1]));
        lone.advance(ms(1_999));
        assert_eq!(lone.actions(), []);
        lone.advance(ms(1));
        assert_eq!(lone.actions(), [stop(first, 2)]);
        assert_eq!(lone.end.poll_timeout(), Some(Instant::from_millis(8_000)));
        lone.advance(ms(3_000));
        assert_eq!(lone.actions(), [stop(second, 2)]);
        lone.data(lone.own(Dir::Bi, 0), info_bytes(version));
        assert_eq!(lone.events(), [informed(0)]);
    }
}

/// The least wanted group is skipped: the oldest, or the newest if the subscription is ordered.
#[test]
fn pending_groups() {
    for (ordered, skipped) in [(0, [1, 2]), (1, [5, 6])] {
        let limit = |limits: &mut Limits| limits.pending_groups = 3;
        let mut end = machine(limited(Side::Server, Lite04, limit));
        let id = StreamId::new(Side::Client, Dir::Bi, 0);
        end.handle(Instant::ZERO, Input::Opened { id });
        let bytes = hex(&format!("02 08 00 00 00 7f {ordered:02x} 00 00 00"));
        end.handle(Instant::ZERO, Input::Data { id, bytes, fin: false });
        while end.work(Instant::ZERO) {}
        let Event::SubscribeRequested { request, .. } = one(end.take_events()) else { panic!() };
        end.apply(Command::AcceptSubscribe { request, info: TrackInfo::default(), largest: None });
        let order = if ordered == 0 { [3, 4, 5, 2, 1] } else { [2, 3, 4, 5, 6] };
        for sequence in order {
            end.source.insert(token(sequence), []);
            end.apply(group(request, sequence.into()));
        }
        while end.work(Instant::ZERO) {}
        let mut released: Vec<_> = end
            .take_events()
            .into_iter()
            .map(|event| match event {
                Event::GroupReleased { group, sent: false } => group.slot,
                other => panic!("{other:?}"),
            })
            .collect();
        released.sort_unstable();
        assert_eq!(released, skipped);
    }
}

/// Past the buffer the machine lowers the read limit to 0, and it resumes the stream later. An adapter that
/// ignores the limit loses the stream.
#[test]
fn stream_buffer() {
    for version in LITE {
        let limit = |limits: &mut Limits| {
            limits.stream_buffer = 1_000;
            limits.message_bytes = 100;
        };
        let mut lone = subscriber(version, limit);
        lone.end.room = 0;
        let id = lone.open(Dir::Uni, "");
        assert_eq!(lone.end.read_limit(id), 1_000);
        let frames = hex(&group_bytes(version, 1, &[60; 30]));
        lone.handle(Input::Data { id, bytes: frames.slice(..999), fin: false });
        assert_eq!(lone.end.read_limit(id), 1);
        lone.handle(Input::Data { id, bytes: frames.slice(999..1000), fin: false });
        assert_eq!(lone.end.read_limit(id), 0);
        assert_eq!(lone.actions(), []);
        lone.end.room = usize::MAX;
        lone.run();
        assert_eq!(lone.actions(), [Action::Resume { id }]);
        assert!(lone.end.read_limit(id) > 900);
        lone.events();

        lone.end.room = 0;
        lone.handle(Input::Data { id, bytes: vec![0; 1_000 + (64 << 10)].into(), fin: false });
        assert_eq!(lone.actions(), [], "one more read may be in progress");
        lone.handle(Input::Data { id, bytes: vec![0; 1].into(), fin: false });
        assert_eq!(lone.actions(), [stop(id, 0)]);
        assert_eq!(lone.end.machine.bare.core.recv_streams.buffered(), 0);
        lone.end.room = usize::MAX;
        lone.run();
        assert!(matches!(one(lone.events()), Event::GroupEnded { result: Err(_), .. }));
    }
}

/// The same for a long-lived request.
#[test]
fn stream_buffer_of_a_request() {
    for version in LITE.into_iter().filter(|it| Features::of(*it).group_bounds) {
        let limit = |limits: &mut Limits| {
            limits.stream_buffer = 1_000;
            limits.message_bytes = 100;
        };
        let mut lone = Lone::ready_with(limited(Side::Server, version, limit));
        let id = lone.open(Dir::Bi, &subscribe_request(version, 0));
        assert_eq!(lone.events().len(), 1);
        lone.end.room = 0;
        let update = if version >= Lite06 { "06 04 00 00 00 00 00" } else { "05 04 00 00 00 00" };
        let updates = hex(&update.repeat(200));
        lone.handle(Input::Data { id, bytes: updates.slice(..1_000), fin: false });
        assert_eq!(lone.end.read_limit(id), 0);
        lone.end.room = usize::MAX;
        lone.run();
        assert_eq!(lone.actions(), [Action::Resume { id }]);
        assert_eq!(lone.events().len(), 1_000 / hex(update).len());

        lone.end.room = 0;
        let more = 1_000 + (64 << 10) + 7;
        lone.handle(Input::Data { id, bytes: vec![0; more].into(), fin: false });
        assert_eq!(lone.actions(), [stop(id, 0)]);
        lone.end.room = usize::MAX;
        lone.run();
        assert!(matches!(one(lone.events()), Event::RequestEnded { result: Err(_), .. }));
        assert_eq!(lone.actions(), [reset(id, 0)]);
    }
}

/// A longer chain is ignored. Another test shows that its id counts.
#[test]
fn hops() {
    for version in LITE.into_iter().filter(|it| Features::of(*it).hops != HopsForm::Absent) {
        let config = limited(Side::Client, version, |limits| limits.hops = 3);
        let mut lone = Lone::ready_with(Config { interests: vec![Path::root()], ..config });
        let id = lone.own(Dir::Bi, 0);
        // With the peer itself: 3 and 4 hops.
        let [fits, long] = match version {
            Lite03 => ["04 01 01 61 03", "04 01 01 62 04"],
            Lite04 => ["07 01 01 61 03 07 08 09", "08 01 01 62 04 07 08 09 0a"],
            Lite05 => ["02 00 02 06 01 01 61 02 07 08", "07 01 01 62 03 07 08 09"],
            Lite07Wip => [
                "02 00 02 00 0b 00 00 01 61 00 02 07 08 00 00 00",
                "00 0c 00 00 01 62 00 03 07 08 09 00 00 00",
            ],
            _ => ["02 00 02 00 07 01 61 02 07 08 00 00", "00 08 01 62 03 07 08 09 00 00"],
        };
        lone.data(id, fits);
        assert!(matches!(one(lone.events()), Event::Announced { .. }));
        lone.data(id, long);
        assert_eq!((lone.events(), lone.actions()), (vec![], vec![]));
        assert!(!lone.end.is_closed());
    }
}

#[test]
fn straggler_timeout() {
    for version in LITE {
        let mut lone = subscriber(version, |limits| limits.straggler_timeout = ms(20));
        let has_end = Features::of(version).subscribe_end;
        let id = lone.own(Dir::Bi, u64::from(has_end));
        lone.fin(
            id,
            match version {
                Lite07Wip => "00 01 00 01 02 05 05",
                _ if has_end => "00 01 00 01 01 05",
                _ => "",
            },
        );
        lone.advance(ms(19));
        assert_eq!(lone.events(), if has_end { vec![started(0, 0)] } else { vec![] });
        assert!(!lone.sent(id).ends_with("fin"));
        lone.advance(ms(1));
        let result = Ok(has_end.then_some(5));
        assert_eq!(lone.events(), [Event::SubscribeEnded { subscription: token(0), result }]);
        assert_eq!(lone.sent(id), " fin");
    }
}
