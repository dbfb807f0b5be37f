//! Rules that deployed peers depend on, one test each. The version exchange is tested in `version_setup`.

use super::*;

fn announcement(suffix: &str) -> Announcement {
    let cost = Cost { warm: 0, cold: 0 };
    Announcement::Active { suffix: path(suffix), hops: Hops::new(), cost }
}

/// A server with one subscription that it accepted.
fn serving(version: Version) -> (Lone, StreamId, RequestKey) {
    let mut lone = Lone::ready(Side::Server, version);
    let id = lone.open(Dir::Bi, subscribe_bytes(version));
    let Event::SubscribeRequested { request, .. } = one(lone.events()) else { panic!() };
    lone.apply(Command::AcceptSubscribe { request, info: TrackInfo::default(), largest: None });
    (lone, id, request)
}

/// A client with one subscription whose track information is known, and its stream.
fn subscribing(version: Version) -> (Lone, StreamId) {
    let mut lone = Lone::ready(Side::Client, version);
    lone.apply(subscribe(0));
    let [first, second] = [0, 1].map(|index| lone.own(Dir::Bi, index));
    let id = if Features::of(version).track {
        lone.fin(first, info_bytes(version));
        second
    } else {
        lone.data(first, info_bytes(version));
        first
    };
    assert_eq!(lone.events().len(), 1);
    (lone, id)
}

fn group_bytes(version: Version, sequence: u8) -> String {
    let delta = if Features::of(version).timestamps { "00" } else { "" };
    format!("{} {delta} 01 61", header_bytes(version, sequence))
}

#[test]
fn setup_is_the_first_stream_and_is_sent_at_once() {
    for side in [Side::Client, Side::Server] {
        for version in [Lite05, Lite06, Lite07Wip] {
            let config = Config { interests: vec![Path::root()], ..config(side, version) };
            let mut end = machine(config);
            let open = end.poll_open().unwrap();
            assert_eq!((open.dir(), open.priority()), (Dir::Uni, CONTROL_PRIORITY));
            open.opened(StreamId::new(side, Dir::Uni, 0));
            let mut write = end.poll_write().unwrap();
            let hop = match (version, side) {
                (Lite07Wip, Side::Client) => "9111",
                (Lite07Wip, Side::Server) => "a222",
                (_, Side::Client) => "5111",
                (_, Side::Server) => "6222",
            };
            // Its options: it reports the connection's estimates, and its hop.
            let setup = format!("01 08 02 01 01 01 05 02 {hop}");
            assert_eq!(digits(&write.chunks().concat()), bytes(&setup));
            assert!(write.fin());
        }
        // A peer without a hop.
        let mut lone = Lone::new(Config { hop: Hop::UNKNOWN, ..config(side, Lite06) });
        assert_eq!(lone.sent(lone.own(Dir::Uni, 0)), bytes("01 04 01 01 01 01") + " fin");
    }
}

#[test]
fn type_and_first_message_are_one_write() {
    for version in LITE {
        let config = Config { interests: vec![path("a/b")], ..config(Side::Client, version) };
        let mut lone = Lone::ready_with(config);
        let mut opened = lone.sent.len();
        let end = &mut lone.end;
        end.apply(subscribe(0));
        while let Some(open) = end.poll_open() {
            let id = StreamId::new(Side::Client, open.dir(), 10 + opened as u64);
            open.opened(id);
            opened += 1;
        }
        let mut written: Vec<_> = lone.sent.values().map(|(bytes, _)| bytes.clone()).collect();
        while let Some(mut write) = end.poll_write() {
            written.push(write.chunks().concat());
            let n = write.len();
            write.accepted(n);
        }
        for bytes in &written {
            // Type, length and body; nothing is left for a second write.
            assert_eq!(bytes.len(), 2 + usize::from(bytes[1]), "{version}");
        }
        assert_eq!(opened, written.len(), "every stream begins with its type");
    }
}

#[test]
fn before_05_no_newer_stream_types_and_no_update() {
    for version in [Lite01, Lite02, Lite03, Lite04] {
        let config = Config { interests: vec![path("a")], ..config(Side::Client, version) };
        let mut lone = Lone::ready_with(config);
        lone.apply(subscribe(0));
        let (subscription, want) = (token(0), Subscription::default().priority(1));
        lone.apply(Command::UpdateSubscribe { subscription, want });
        let types: Vec<_> = lone.sent.values().map(|(bytes, _)| bytes[0]).collect();
        assert_eq!(types, [1, 2]);
        let (written, _) = &lone.sent[&lone.own(Dir::Bi, 1)];
        assert_eq!(written.len(), 2 + usize::from(written[1]), "SUBSCRIBE alone");
    }
}

#[test]
fn a_request_stays_open_until_its_answer_ended() {
    for version in [Lite05, Lite06, Lite07Wip] {
        let mut lone = Lone::ready(Side::Client, version);
        lone.apply(subscribe(0));
        let query = lone.own(Dir::Bi, 0);
        assert!(!lone.sent(query).ends_with("fin"));
        lone.data(query, info_bytes(version));
        assert_eq!(lone.sent(query), " fin");
        // FIN ends a subscription, so it is not sent before.
        let id = lone.own(Dir::Bi, 1);
        assert!(!lone.sent(id).ends_with("fin"));
    }
}

#[test]
fn an_announce_stream_is_never_reset() {
    for version in LITE {
        let ok = nothing_announced(version).replace("5234", "6222").replace("9234", "a222");
        let ok = ok.as_str();
        let (head, tail) = match version {
            Lite04 | Lite05 => ("4045 4042", "00"),
            Lite07Wip => ("44 42", "01"),
            _ => ("4044 4042", ""),
        };
        let too_deep = format!("01 {head} {} {tail}", "2f61".repeat(33));
        type Spoil = fn(&mut Lone, StreamId);
        let ends: [(&str, Spoil); 5] = [
            ("trailing bytes", |lone, id| lone.data(id, "00")),
            ("RESET of the asking half", |lone, id| lone.reset(id, 1)),
            ("refused", |lone, _| {
                let event = lone.end.events.iter().rev().find_map(|event| match event {
                    Event::AnnounceRequested { request, .. } => Some(*request),
                    _ => None,
                });
                lone.apply(Command::Refuse { request: event.unwrap(), error: Error::Unauthorized });
            }),
            ("FIN and refused", |lone, id| {
                lone.fin(id, "");
                let Event::AnnounceRequested { request, .. } = one(lone.events()) else { panic!() };
                lone.apply(Command::Refuse { request, error: Error::Unauthorized });
            }),
            ("nothing", |_, _| {}),
        ];
        for (what, end) in ends {
            let mut lone = Lone::ready(Side::Server, version);
            let id = lone.open(Dir::Bi, announce_request_bytes(version));
            end(&mut lone, id);
            let fin = if what == "nothing" { String::new() } else { bytes(ok) + " fin" };
            assert_eq!(lone.sent(id), fin, "{version} {what}");
            assert!(!lone.actions().iter().any(|it| matches!(it, Action::Reset { .. })), "{what}");
        }
        // A request that can't be answered, or not any more.
        let malformed = ["01 01 40", "01 05 01", &too_deep];
        for request in malformed {
            let mut lone = Lone::ready(Side::Server, version);
            let id = lone.open(Dir::Bi, request);
            lone.fin(id, "");
            assert_eq!(lone.sent(id), bytes(ok) + " fin", "{version} {request}");
            assert_eq!(lone.actions(), []);
        }
        let (mut lone, _, request) = serving(version);
        lone.end.source.push(token(0), Frame::new(0, "x"));
        lone.apply(group(request, 0));
        lone.apply(Command::FinishSubscribe { request, end: 1 });
        lone.end.source.end(token(0), Ok(()));
        lone.end.apply(Command::GroupReady { request, sequence: 0 });
        lone.end.apply(Command::Drain);
        let id = StreamId::new(Side::Client, Dir::Bi, 9);
        lone.end.handle(Instant::ZERO, Input::Opened { id });
        lone.data(id, announce_request_bytes(version));
        assert_eq!(lone.sent(id), bytes(ok) + " fin");
        assert!(!lone.actions().iter().any(|it| matches!(it, Action::Reset { .. })));
    }
}

#[test]
fn an_active_announcement_is_not_repeated() {
    for version in LITE {
        let mut lone = Lone::ready(Side::Server, version);
        let id = lone.open(Dir::Bi, announce_request_bytes(version));
        let Event::AnnounceRequested { request, .. } = one(lone.events()) else { panic!() };
        lone.end.source.announce(token(0), announcement("a"));
        lone.apply(Command::AcceptAnnounce { request, reader: token(0), active: 1 });
        lone.sent(id);
        lone.end.source.announce(token(0), announcement("a"));
        lone.apply(Command::AnnouncementsReady { request });
        assert_eq!(
            lone.sent(id),
            bytes(match version {
                // The hops are the same, and on these versions UPDATE can't be expressed.
                Lite01 | Lite02 | Lite03 | Lite04 => "",
                Lite05 => "04 01 01 61 00",
                Lite06 => "02 04 00 00 00 00",
                _ => "02 06 00 00 00 00 00 00",
            })
        );
    }
}

#[test]
fn the_announced_count_is_sent_at_once() {
    for version in [Lite05, Lite06, Lite07Wip] {
        let mut lone = Lone::ready(Side::Server, version);
        let id = lone.open(Dir::Bi, announce_request_bytes(version));
        let Event::AnnounceRequested { request, .. } = one(lone.events()) else { panic!() };
        for name in ["a", "b", "c"] {
            lone.end.source.announce(token(0), announcement(name));
        }
        lone.end.apply(Command::AcceptAnnounce { request, reader: token(0), active: 3 });
        // All of them in the first write.
        let mut write = lone.end.poll_write().unwrap();
        assert_eq!(write.id(), id);
        let each = |name: &str| match version {
            Lite05 => format!("04 01 01 {name} 00"),
            Lite07Wip => format!("00 09 00 00 01 {name} 00 00 00 00 00"),
            _ => format!("00 05 01 {name} 00 00 00"),
        };
        let expected = ["61", "62", "63"].map(each).concat();
        let hop = if version == Lite07Wip { "a222" } else { "6222" };
        assert_eq!(digits(&write.chunks().concat()), bytes(&format!("03 {hop} 03 {expected}")));
        let n = write.len();
        write.accepted(n);
    }
}

#[test]
fn start_once_then_groups_then_end_then_fin() {
    for version in [Lite05, Lite06, Lite07Wip] {
        let (mut lone, id, request) = serving(version);
        assert_eq!(lone.sent(id), "", "no START before the first group is known");
        lone.apply(start(request, 5));
        lone.apply(start(request, 4));
        for sequence in [5, 6] {
            lone.end.source.push(token(sequence), Frame::new(0, "x"));
            lone.apply(group(request, sequence.into()));
        }
        assert_eq!(lone.sent(id), bytes("00 01 05"));
        lone.apply(Command::FinishSubscribe { request, end: 7 });
        assert_eq!(lone.sent(id), "", "some peers lose groups that arrive after END");
        lone.end.source.end(token(5), Ok(()));
        lone.apply(Command::GroupReady { request, sequence: 5 });
        assert_eq!(lone.sent(id), "");
        lone.end.source.end(token(6), Err(Error::Old));
        lone.apply(Command::GroupReady { request, sequence: 6 });
        // 07 has the number of streams.
        let end = if version == Lite07Wip { "01 02 07 02" } else { "01 01 07" };
        assert_eq!(lone.sent(id), format!("{} fin", bytes(end)));
    }
}

#[test]
fn limits_are_those_of_the_deployed_peers() {
    let limits = Limits::default();
    let (frame, group) = (limits.frame_bytes, limits.group_bytes);
    assert_eq!((frame, group, limits.group_frames), (32 << 20, 32 << 20, 8_192));
    assert_eq!((limits.path_segments, limits.hops), (32, Hops::MAX));
}

#[test]
fn timestamps_restart_on_each_stream() {
    for version in [Lite05, Lite06, Lite07Wip] {
        let (mut lone, _, request) = serving(version);
        for sequence in [1, 2] {
            lone.end.source.insert(token(sequence), [Frame::new(20, "a"), Frame::new(21, "b")]);
            lone.apply(group(request, sequence.into()));
            let sent = lone.sent(lone.own(Dir::Uni, sequence.into()));
            assert!(sent.ends_with(&(bytes("28 01 61 02 01 62") + " fin")), "{sent}");
        }
    }
}

#[test]
fn groups_may_arrive_before_the_first_response_and_after_the_end() {
    for version in LITE {
        // Before: they wait, and no group is lost.
        let mut lone = Lone::ready(Side::Client, version);
        lone.apply(subscribe(0));
        let early = lone.open(Dir::Uni, &group_bytes(version, 1));
        assert_eq!((lone.events(), lone.actions()), (vec![], vec![]));
        assert_eq!(lone.end.read_limit(early), 0, "held");
        lone.fin(early, "");
        let info = lone.own(Dir::Bi, 0);
        lone.data(info, info_bytes(version));
        let received = Received::of(lone.events());
        assert_eq!(received.groups[&(0, 1)], whole(version, &[Frame::new(0, "a")]));

        // After: for a second.
        let (mut lone, id) = subscribing(version);
        let end = match version {
            Lite05 | Lite06 => "00 01 01 01 01 04",
            Lite07Wip => "00 01 01 01 02 04 03",
            _ => "",
        };
        lone.fin(id, end);
        assert_eq!(lone.events(), if end.is_empty() { vec![] } else { vec![started(0, 1)] });
        for sequence in 1..4 {
            if version >= Lite06 && sequence == 3 {
                break;
            }
            lone.advance(ms(300));
            let id = lone.open(Dir::Uni, &group_bytes(version, sequence));
            lone.fin(id, "");
            let events = lone.events();
            assert_eq!(events.len(), 3, "{version} {sequence} {events:?}");
        }
        lone.advance(ms(99));
        assert_eq!(lone.events(), []);
        lone.advance(ms(301));
        assert!(matches!(one(lone.events()), Event::SubscribeEnded { result: Ok(_), .. }));
        let late = lone.open(Dir::Uni, &group_bytes(version, 2));
        assert_eq!(lone.actions(), [stop(late, 1)]);
    }
}

#[test]
fn a_reset_after_the_last_byte_is_like_fin() {
    for version in LITE {
        // After FIN, before the events were pulled.
        let (mut lone, _) = subscribing(version);
        let id = StreamId::new(Side::Server, Dir::Uni, 40);
        let bytes = hex(&group_bytes(version, 1));
        for input in [
            Input::Opened { id },
            Input::Data { id, bytes, fin: true },
            Input::Reset { id, code: Code::new(1) },
        ] {
            lone.end.handle(Instant::ZERO, input);
        }
        lone.run();
        let received = Received::of([vec![informed(0)], lone.events()].concat());
        assert_eq!(received.groups[&(0, 1)], whole(version, &[Frame::new(0, "a")]));
    }
    for version in [Lite05, Lite06, Lite07Wip] {
        // A complete answer needs no FIN.
        let mut lone = Lone::ready(Side::Client, version);
        lone.apply(subscribe(0));
        let query = lone.own(Dir::Bi, 0);
        lone.data(query, info_bytes(version));
        lone.reset(query, 1);
        assert_eq!(lone.events(), [informed(0)]);
    }
}

/// A peer that drops its reading half after it answered sends STOP_SENDING, which may arrive before the
/// answer.
#[test]
fn stop_sending_does_not_replace_the_answer() {
    for version in LITE {
        let mut lone = Lone::ready(Side::Client, version);
        lone.apply(subscribe(0));
        let first = lone.own(Dir::Bi, 0);
        lone.stop(first, 0);
        assert_eq!(lone.actions(), [reset(first, 0)]);
        assert_eq!(lone.events(), []);
        lone.fin(first, info_bytes(version));
        assert_eq!(lone.events(), [informed(0)]);
    }
}

#[test]
fn every_start_uses_an_id_and_unknown_ids_are_violations() {
    let config = Config { interests: vec![Path::root()], ..config(Side::Client, Lite06) };
    let mut lone = Lone::ready_with(config);
    let id = lone.own(Dir::Bi, 0);
    // A loop is id 0, a usable route is id 1.
    lone.data(id, "03 5234 02 00 07 01 61 01 5111 00 00 00 05 01 62 00 00 00");
    assert_eq!(lone.events().len(), 1);
    lone.data(id, "01 01 01");
    assert_eq!(lone.events(), [Event::Unannounced { path: path("b") }]);
    lone.data(id, "01 01 02");
    assert_eq!(lone.closed_with(3), Error::ProtocolViolation("unknown announce id"));
}

#[test]
fn long_integers_are_accepted_and_long_messages_refused() {
    for version in LITE {
        // Type and length in 2 and 4 bytes.
        let mut lone = Lone::ready(Side::Server, version);
        let long = match version {
            Lite04 | Lite05 => "4001 80000002 00 00",
            Lite07Wip => "8001 e0000002 00 01",
            _ => "4001 80000001 00",
        };
        lone.open(Dir::Bi, long);
        assert!(matches!(one(lone.events()), Event::AnnounceRequested { .. }));
        // One byte too many.
        let mut request = hex(subscribe_bytes(version)).to_vec();
        request[1] += 1;
        request.push(0);
        let id = lone.open(Dir::Bi, &digits(&request));
        assert_eq!(lone.events(), []);
        assert_eq!(lone.actions(), [reset(id, 0x12), stop(id, 0x12)]);
    }
    // An unknown parameter of SETUP, and an unknown type of announcement, which uses no id.
    let interests = vec![Path::root()];
    let mut lone = Lone::new(Config { interests, ..config(Side::Client, Lite06) });
    lone.open(Dir::Uni, "01 06 01 4063 02 abcd");
    let id = lone.own(Dir::Bi, 0);
    lone.data(id, "03 5234 01 09 03 010203 00 05 01 62 00 00 00 01 01 00");
    assert_eq!(lone.events().len(), 2);
    assert!(!lone.end.is_closed());
}

// L06-7-2-MUST-108, -MUST-NOT-109
#[test]
fn unknown_stream_types_are_reset_and_the_session_goes_on() {
    for version in LITE {
        let mut lone = Lone::ready(Side::Server, version);
        let bi = ["00", "07", "20", "5063 00", "fe0000ff0dad0200"];
        // TRACK and FETCH before 05, GOAWAY before 04, PROBE before 03.
        let old =
            [(Lite05, "06 02 00 00"), (Lite05, "03 0b 00"), (Lite04, "05 01 00"), (Lite03, "04")];
        let missing = old.iter().filter(|(since, _)| version < *since).map(|(_, bytes)| *bytes);
        for bytes in bi.into_iter().chain(missing) {
            let id = lone.open(Dir::Bi, bytes);
            assert_eq!(lone.actions(), [reset(id, 1), stop(id, 1)], "{version} {bytes}");
        }
        let uni = ["02", "03 00", "4063 00", "7fff 00"];
        let setup = if version < Lite05 { Some("01 01 00") } else { None };
        for bytes in uni.into_iter().chain(setup) {
            let id = lone.open(Dir::Uni, bytes);
            assert_eq!(lone.actions(), [stop(id, 1)], "{version} {bytes}");
        }
        assert_eq!(lone.events(), []);
        lone.open(Dir::Bi, subscribe_bytes(version));
        assert!(matches!(one(lone.events()), Event::SubscribeRequested { .. }));
    }
}

#[test]
fn a_publisher_without_broadcasts_may_end_or_stay() {
    for version in LITE {
        for fin in [true, false] {
            let interests = vec![Path::root()];
            let mut lone = Lone::ready_with(Config { interests, ..config(Side::Client, version) });
            let id = lone.own(Dir::Bi, 0);
            lone.sent(id);
            lone.handle(Input::Data { id, bytes: hex(nothing_announced(version)), fin });
            assert_eq!((lone.events(), lone.actions()), (vec![], vec![]));
            assert_eq!(lone.sent(id), if fin { " fin" } else { "" });
            assert!(!lone.end.is_closed());
            lone.apply(subscribe(0));
            assert!(!lone.sent(lone.own(Dir::Bi, 1)).is_empty());
        }
    }
}

#[test]
fn on_05_end_may_name_the_last_group() {
    let (mut lone, id) = subscribing(Lite05);
    // START 1, and END 2 from a peer that names the last group.
    lone.fin(id, "00 01 01 01 01 02");
    for sequence in [1, 2] {
        let id = lone.open(Dir::Uni, &group_bytes(Lite05, sequence));
        lone.fin(id, "");
    }
    let received = Received::of([vec![informed(0)], lone.events()].concat());
    assert_eq!(received.groups.len(), 2);
    assert_eq!(received.ended[&0], Ok(Some(2)));
    // From a peer that names the one after the last group, nothing more comes.
    let (mut lone, id) = subscribing(Lite05);
    lone.fin(id, "00 01 01 01 01 02");
    let group = lone.open(Dir::Uni, &group_bytes(Lite05, 1));
    lone.fin(group, "");
    assert_eq!(lone.events().len(), 4);
    lone.advance(ms(1_000));
    assert_eq!(
        one(lone.events()),
        Event::SubscribeEnded { subscription: token(0), result: Ok(Some(2)) }
    );
}
