//! Peers and adapters that break rules. A bad stream affects no other, memory is bounded, and nothing panics.

use super::*;

/// A request stream with no message, or half of one, delays nothing else.
#[test]
fn an_incomplete_request_delays_no_other() {
    for version in LITE {
        let mut lone = Lone::ready(Side::Server, version);
        let silent = lone.open(Dir::Bi, "");
        let whole = subscribe_bytes(version);
        let half = lone.open(Dir::Bi, &whole[..11]);
        let id = lone.open(Dir::Bi, subscribe_bytes(version));
        let Event::SubscribeRequested { request, .. } = one(lone.events()) else { panic!() };
        lone.apply(Command::Refuse { request, error: Error::NotFound });
        assert_eq!(lone.actions(), [reset(id, 0x33), stop(id, 0x33)]);
        // The message is complete now.
        lone.data(half, &whole[11..]);
        lone.fin(silent, "");
        assert_eq!(lone.events().len(), 1);
        assert_eq!(lone.actions(), [reset(silent, 1)]);
    }
}

#[test]
fn a_malformed_first_message_resets_its_stream_only() {
    for version in LITE {
        for bad in ["02 01 00", "02 04 00 01 ff 00", "02 f7ffffffffffffff"] {
            let mut lone = Lone::ready(Side::Server, version);
            let id = lone.open(Dir::Bi, bad);
            assert_eq!(lone.events(), []);
            assert_eq!(lone.actions(), [reset(id, 0x12), stop(id, 0x12)], "{version} {bad}");
            lone.open(Dir::Bi, subscribe_bytes(version));
            assert_eq!(lone.events().len(), 1);
        }
        // FIN in the middle.
        let mut lone = Lone::ready(Side::Server, version);
        let id = lone.open(Dir::Bi, "02 08 00");
        lone.fin(id, "");
        assert_eq!(lone.actions(), [reset(id, 1)]);
    }
}

/// moq-lite-06, 5.1.2: after SUBSCRIBE only updates may follow. Anything else ends the subscription.
#[test]
fn a_malformed_update_ends_its_subscription() {
    for version in LITE {
        let mut lone = Lone::ready(Side::Server, version);
        let id = lone.open(Dir::Bi, subscribe_bytes(version));
        let Event::SubscribeRequested { request, .. } = one(lone.events()) else { panic!() };
        lone.apply(Command::AcceptSubscribe { request, info: TrackInfo::default(), largest: None });
        lone.end.source.push(token(0), Frame::new(0, "x"));
        lone.apply(group(request, 0));
        lone.data(id, "01 00");
        let error = Error::Malformed(match Features::of(version).group_bounds {
            true => DecodeError::Truncated,
            false => DecodeError::NotInVersion,
        });
        let mut events = lone.events();
        events.sort_by_key(|event| matches!(event, Event::RequestEnded { .. }));
        assert_eq!(
            events,
            [
                Event::GroupReleased { group: token(0), sent: false },
                Event::RequestEnded { request, result: Err(error) },
            ]
        );
        let uni = lone.own(Dir::Uni, u64::from(Features::of(version).setup));
        assert_eq!(lone.actions(), [reset(uni, 0x12), reset(id, 0x12), stop(id, 0x12)]);
        assert!(!lone.end.is_closed());
    }
}

/// Input for streams that do not exist, have ended, or are of the other kind.
#[test]
fn input_for_unknown_streams_has_no_effect() {
    for version in LITE {
        let mut lone = Lone::ready(Side::Server, version);
        let before = lone.end.machine.entries();
        for side in [Side::Client, Side::Server] {
            for dir in [Dir::Bi, Dir::Uni] {
                let id = StreamId::new(side, dir, 777);
                lone.data(id, "02 00");
                lone.fin(id, "00");
                lone.reset(id, 1);
                lone.stop(id, 1);
                lone.handle(Input::Writable { id });
                assert_eq!(lone.end.read_limit(id), 0);
            }
        }
        for dir in [Dir::Bi, Dir::Uni] {
            lone.handle(Input::Available { dir });
        }
        assert_eq!((lone.events(), lone.actions()), (vec![], vec![]));
        assert_eq!(lone.end.machine.entries(), before);
    }
}

/// A stream that is opened twice, finished twice, and continues after its end.
#[test]
fn a_stream_that_continues_after_its_end() {
    for version in LITE {
        let mut lone = Lone::ready(Side::Server, version);
        let id = lone.open(Dir::Bi, subscribe_bytes(version));
        lone.handle(Input::Opened { id });
        lone.fin(id, "");
        lone.fin(id, "00 00");
        lone.reset(id, 3);
        lone.stop(id, 3);
        let ended = lone.events().pop();
        assert!(matches!(ended, Some(Event::RequestEnded { .. })), "{ended:?}");
        assert!(!lone.end.is_closed());
    }
}

/// Commands with unknown keys, or with keys of something else.
#[test]
fn commands_with_unknown_keys_have_no_effect() {
    for version in LITE {
        let mut lone = Lone::ready(Side::Server, version);
        lone.open(Dir::Bi, subscribe_bytes(version));
        let Event::SubscribeRequested { request, .. } = one(lone.events()) else { panic!() };
        let (info, reader) = (TrackInfo::default(), token(0));
        let other = RequestKey(request.0, request.1.wrapping_add(1));
        let gone = RequestKey(99, 0);
        for request in [other, gone] {
            lone.apply(Command::Refuse { request, error: Error::Old });
            lone.apply(Command::AcceptSubscribe { request, info: info.clone(), largest: None });
        }
        for request in [request, other, gone] {
            lone.apply(Command::AcceptTrack { request, info: info.clone(), largest: None });
            lone.apply(Command::AcceptAnnounce { request, reader, active: 3 });
            lone.apply(Command::AnnouncementsReady { request });
            lone.apply(Command::GroupReady { request, sequence: 0 });
            lone.apply(Command::FinishSubscribe { request, end: 1 });
        }
        lone.apply(Command::StopGroup { group: GroupKey(3, 3), error: Error::Old });
        lone.apply(Command::Unsubscribe { subscription: token(5) });
        assert_eq!((lone.events(), lone.actions()), (vec![], vec![]));
        assert!(lone.sent.iter().all(|(id, _)| id.dir() == Dir::Uni));
        // The state is unchanged.
        lone.apply(Command::AcceptSubscribe { request, info, largest: None });
        lone.end.source.insert(token(0), []);
        lone.apply(group(request, 0));
        assert_eq!(lone.events(), [Event::GroupReleased { group: token(0), sent: true }]);
    }
}

/// A peer that opens, resets, stops and finishes streams forever leaves no state.
#[test]
fn ended_streams_leave_no_state() {
    for version in LITE {
        let mut lone = Lone::ready(Side::Client, version);
        lone.apply(subscribe(0));
        // SETUP arrived in time.
        lone.advance(ms(10_000));
        let before = lone.end.machine.entries();
        let group = &*header_bytes(version, 1);
        let round = |lone: &mut Lone| {
            for (index, bytes) in
                ["", "02", subscribe_bytes(version), "06 02 00 00", "07", "02 02 ff ff", "04"]
                    .into_iter()
                    .enumerate()
            {
                for end in 0..3 {
                    let id = lone.open(Dir::Bi, bytes);
                    match (end + index) % 3 {
                        0 => lone.fin(id, ""),
                        1 => lone.reset(id, 1),
                        _ => {
                            lone.stop(id, 1);
                            lone.reset(id, 1);
                        }
                    }
                    lone.fin(id, "");
                }
            }
            for bytes in ["", "00", group, "07", "00 02 05 00"] {
                let id = lone.open(Dir::Uni, bytes);
                lone.fin(id, "");
                let id = lone.open(Dir::Uni, bytes);
                lone.reset(id, 1);
            }
            for event in lone.events() {
                let (Event::AnnounceRequested { request, .. }
                | Event::TrackRequested { request, .. }
                | Event::SubscribeRequested { request, .. }) = event
                else {
                    continue;
                };
                lone.apply(Command::Refuse { request, error: Error::NotFound });
            }
            lone.events();
            lone.actions();
        };
        // Groups of unknown tracks may wait for a while.
        round(&mut lone);
        lone.advance(ms(5_000));
        lone.actions();
        let after = lone.end.machine.entries();
        assert_eq!(after, before, "{version}");
        for _ in 0..20 {
            round(&mut lone);
        }
        lone.advance(ms(5_000));
        assert_eq!(lone.end.machine.entries(), before, "{version}");
        assert!(!lone.end.is_closed());
    }
}

/// A deadline is kept once, however many streams come and go.
#[test]
fn deadlines_do_not_pile_up() {
    for version in LITE {
        let mut lone = Lone::ready(Side::Client, version);
        lone.apply(subscribe(0));
        let group = &*header_bytes(version, 1);
        for _ in 0..500 {
            lone.now = lone.now + Duration::from_micros(1);
            lone.open(Dir::Uni, group);
        }
        assert!(lone.end.machine.bare.core.timers.len() <= 2);
    }
}

/// After the end a machine has no output, whatever is called.
#[test]
fn a_closed_machine_is_silent() {
    for version in LITE {
        let mut lone = Lone::ready(Side::Server, version);
        let id = lone.open(Dir::Bi, subscribe_bytes(version));
        let uni = lone.open(Dir::Uni, "00");
        let Event::SubscribeRequested { request, .. } = one(lone.events()) else { panic!() };
        lone.apply(Command::AcceptSubscribe { request, info: TrackInfo::default(), largest: None });
        lone.end.source.push(token(0), Frame::new(0, "x"));
        lone.end.apply(group(request, 0));
        lone.apply(Command::Close { error: Error::Unauthorized });
        assert_eq!(lone.closed_with(2), Error::Unauthorized);
        lone.sent.clear();
        lone.actions();
        lone.data(id, "05 04 00 00 00 00");
        lone.fin(uni, "02 00 00");
        lone.open(Dir::Bi, "05 01 00");
        lone.open(Dir::Uni, "01 01 00");
        lone.apply(subscribe(0));
        lone.apply(group(request, 1));
        lone.apply(Command::Drain);
        lone.apply(Command::Close { error: Error::Internal });
        lone.handle(Input::Closed { error: Error::from_session_code(Code::MAX) });
        lone.advance(ms(100_000));
        assert_eq!((lone.events(), lone.actions()), (vec![], vec![]));
        assert!(lone.sent.is_empty());
        assert!(!lone.end.has_work());
        assert_eq!(lone.end.poll_timeout(), None);
    }
}

/// A guard that is dropped changes nothing.
#[test]
fn guards_that_are_dropped_change_nothing() {
    for version in LITE {
        let config = Config { interests: vec![path("a")], ..config(Side::Client, version) };
        let mut end = machine(config);
        end.apply(subscribe(0));
        let mut opened = 0;
        while let Some(open) = end.poll_open() {
            let dir = open.dir();
            drop(open);
            let open = end.poll_open().unwrap();
            assert_eq!(open.dir(), dir);
            open.opened(StreamId::new(Side::Client, dir, opened));
            opened += 1;
        }
        while let Some(mut write) = end.poll_write() {
            let (id, bytes) = (write.id(), write.chunks().concat());
            drop(write);
            let mut write = end.poll_write().unwrap();
            assert_eq!((write.id(), write.chunks().concat()), (id, bytes));
            let n = write.len();
            write.accepted(n);
        }
    }
}
