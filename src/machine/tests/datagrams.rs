//! Datagrams, at both ends (moq-lite-06, 6.4).

use super::*;

fn has_datagrams(version: Version) -> bool {
    Features::of(version).datagrams
}

pub(super) fn datagram(request: RequestKey, slot: u32) -> Command {
    Command::Datagram { request, group: token(slot), sequence: u64::from(slot) }
}

pub(super) fn came(sequence: u64, timestamp: u64, payload: &'static str) -> Event {
    Event::Datagram {
        subscription: token(0),
        sequence,
        subgroup: None,
        timestamp: Some(Timestamp::new(timestamp)),
        properties: None,
        payload: payload.into(),
    }
}

pub(super) fn max_datagram(max_datagram: usize) -> Input {
    Input::NetworkPath(NetworkPath { max_datagram, ..NetworkPath::default() })
}

/// A server with subscription 7, on a connection that takes datagrams of `max` bytes.
fn serving(version: Version, max: usize) -> (Lone, RequestKey) {
    let mut lone = Lone::ready(Side::Server, version);
    lone.handle(max_datagram(max));
    let bounds = if version == Lite06 { "00 00" } else { "" };
    let length = if version == Lite06 { "0b" } else { "08" };
    let ask = match version {
        Lite06 => "02 09 07 00 00 7f 00 00 00 00 00".into(),
        _ => format!("02 {length} 07 00 00 7f 00 00 00 00 {bounds}"),
    };
    lone.open(Dir::Bi, &ask);
    let Event::SubscribeRequested { request, .. } = one(lone.events()) else { panic!() };
    lone.apply(Command::AcceptSubscribe { request, info: TrackInfo::default(), largest: None });
    (lone, request)
}

/// A client with subscription 0, whose track information is known.
fn subscribed_lone(version: Version) -> Lone {
    let mut lone = Lone::ready(Side::Client, version);
    lone.apply(subscribe(0));
    let info = if version == Lite05 { "06 7f 00 5388 43e8" } else { "05 7f 5388 43e8" };
    lone.data(lone.own(Dir::Bi, 0), info);
    assert_eq!(lone.events(), [informed(0)]);
    lone
}

/// The next datagram, header and payload.
pub(super) fn sent(lone: &mut Lone) -> Option<(String, Bytes)> {
    let datagram = lone.end.poll_datagram()?;
    let all = (digits(datagram.header()), datagram.payload().clone());
    assert_eq!(datagram.size(), datagram.header().len() + all.1.len());
    assert_eq!(datagram.to_bytes(), [datagram.header(), &all.1].concat());
    datagram.sent();
    Some(all)
}

#[test]
fn a_group_of_one_frame_is_a_datagram() {
    for version in [Lite05, Lite06] {
        for as_wire in [true, false] {
            let (mut lone, request) = serving(version, 1_200);
            lone.end.source.as_wire = as_wire;
            let large = vec![9; 1_000];
            lone.end.source.insert(token(42), [Frame::new(1000, "hello")]);
            lone.end.source.insert(token(2), [Frame::new(3, large.clone())]);
            lone.end.source.insert(token(1), [Frame::new(0, "")]);
            for slot in [42, 2, 1] {
                lone.end.apply(datagram(request, slot));
            }
            assert!(lone.end.has_work());
            assert_eq!(sent(&mut lone), Some((bytes("07 2a 43e8"), "hello".into())));
            assert_eq!(sent(&mut lone), Some((bytes("07 02 03"), large.into())));
            assert_eq!(sent(&mut lone), Some((bytes("07 01 00"), Bytes::new())));
            assert_eq!(sent(&mut lone), None);
            let released = |slot| Event::GroupReleased { group: token(slot), sent: true };
            lone.run();
            assert_eq!(lone.events(), [released(42), released(2), released(1)]);
            assert_eq!(lone.opened[0][Dir::Uni as usize], 1, "SETUP alone");

            let mut lone = subscribed_lone(version);
            lone.handle(Input::Datagram { bytes: hex("00 2a 43e8 68656c6c6f") });
            lone.handle(Input::Datagram { bytes: hex("00 01 03") });
            assert_eq!(lone.events(), [came(42, 1000, "hello"), came(1, 3, "")]);
            assert_eq!(lone.end.machine.lost_datagrams(), 0);
        }
    }
}

/// A group that does not fit in a datagram is sent on a stream.
#[test]
fn groups_that_are_no_datagram_get_a_stream() {
    let whole = |size: usize| (vec![Frame::new(9, vec![b'a'; size])], Some(Ok(())));
    let two = (vec![Frame::new(0, "a"), Frame::new(0, "b")], Some(Ok(())));
    for version in [Lite05, Lite06] {
        // With a header of three bytes.
        let cases = [
            (100, whole(97), true),
            (100, whole(98), false),
            (0, whole(1), false),
            (3, whole(0), true),
            // Larger than the draft allows.
            (9_000, whole(1_197), true),
            (9_000, whole(1_198), false),
            (9_000, whole(100_000), false),
            (9_000, two.clone(), false),
            (9_000, (vec![], Some(Ok(()))), false),
        ];
        for (max, (frames, end), fits) in cases {
            let (mut lone, request) = serving(version, max);
            for frame in &frames {
                lone.end.source.push(token(1), frame.clone());
            }
            lone.end.source.end(token(1), end.unwrap());
            lone.end.apply(datagram(request, 1));
            assert_eq!(sent(&mut lone).is_some(), fits, "{max} {frames:?}");
            lone.run();
            let stream = lone.own(Dir::Uni, 1);
            let all: usize = frames.iter().map(|frame| frame.bytes().len()).sum();
            match fits {
                true => assert!(!lone.sent.contains_key(&stream)),
                false => assert!(lone.sent[&stream].0.len() >= all && lone.sent[&stream].1),
            }
            let released = Event::GroupReleased { group: token(1), sent: true };
            assert_eq!(lone.events(), [released]);
        }
    }
    // Versions without datagrams.
    for version in [Lite03, Lite04] {
        let (mut lone, request) = serving(version, 1_200);
        lone.end.source.insert(token(1), [Frame::new(0, "a")]);
        lone.end.apply(datagram(request, 1));
        assert!(lone.end.poll_datagram().is_none());
        lone.run();
        assert_eq!(lone.sent(lone.own(Dir::Uni, 0)), bytes("00 02 07 01 01 61") + " fin");
    }
}

/// The size of datagrams may shrink.
#[test]
fn the_datagram_size_follows_the_connection() {
    let (mut lone, request) = serving(Lite06, 1_200);
    for slot in [1, 2] {
        lone.end.source.insert(token(slot), [Frame::new(0, vec![0; 500])]);
        lone.end.apply(datagram(request, slot));
    }
    assert!(sent(&mut lone).is_some());
    lone.end.handle(Instant::ZERO, max_datagram(0));
    assert!(sent(&mut lone).is_none());
    lone.run();
    assert!(lone.sent.contains_key(&lone.own(Dir::Uni, 1)));
}

/// A datagram waits until its frame is complete. One whose group is evicted is dropped.
#[test]
fn a_datagram_waits_for_its_frame() {
    let (mut lone, request) = serving(Lite06, 1_200);
    lone.end.source.begin(token(1));
    lone.end.apply(datagram(request, 1));
    assert_eq!(sent(&mut lone), None);
    lone.run();
    lone.end.source.insert(token(1), [Frame::new(4, "x")]);
    lone.end.apply(Command::GroupReady { request, sequence: 1 });
    assert_eq!(sent(&mut lone), Some((bytes("07 01 04"), "x".into())));
    lone.end.source.end(token(2), Err(Error::Old));
    lone.end.apply(datagram(request, 2));
    assert_eq!(sent(&mut lone), None);
    lone.run();
    let released = |slot, sent| Event::GroupReleased { group: token(slot), sent };
    assert_eq!(lone.events(), [released(1, true), released(2, false)]);
}

/// Dropping the guard changes nothing, and `blocked` holds all of them.
#[test]
fn a_datagram_that_is_not_taken_stays() {
    let (mut lone, request) = serving(Lite06, 1_200);
    for slot in [1, 2] {
        lone.end.source.insert(token(slot), [Frame::new(0, "x")]);
        lone.end.apply(datagram(request, slot));
    }
    drop(lone.end.poll_datagram().unwrap());
    lone.end.poll_datagram().unwrap().blocked();
    lone.run();
    assert!(lone.end.poll_datagram().is_none() && !lone.end.has_work());
    lone.end.handle(Instant::ZERO, Input::DatagramsAvailable);
    assert!(lone.end.has_work());
    assert_eq!(sent(&mut lone).unwrap().0, bytes("07 02 00"), "the newest first");
    assert_eq!(sent(&mut lone).unwrap().0, bytes("07 01 00"));
}

/// As many datagrams wait as `Limits::pending_groups` allows. Past it the one that would be sent last is
/// dropped.
#[test]
fn waiting_datagrams_have_a_limit() {
    let mut config = config(Side::Server, Lite06);
    config.limits.pending_groups = 2;
    let mut lone = Lone::ready_with(config);
    lone.handle(max_datagram(100));
    lone.open(Dir::Bi, "02 09 07 00 00 7f 00 00 00 00 00");
    let Event::SubscribeRequested { request, .. } = one(lone.events()) else { panic!() };
    lone.end.apply(Command::AcceptSubscribe { request, info: TrackInfo::default(), largest: None });
    for slot in 0..5 {
        lone.end.source.insert(token(slot), [Frame::new(0, "x")]);
        lone.end.apply(datagram(request, slot));
    }
    // A duplicate counts once.
    lone.end.apply(datagram(request, 4));
    lone.end.apply(Command::FinishSubscribe { request, end: 5 });
    let order: Vec<_> = std::iter::from_fn(|| sent(&mut lone)).map(|(head, _)| head).collect();
    assert_eq!(order, [bytes("07 04 00"), bytes("07 03 00")]);
    lone.run();
    let released = |slot, sent| Event::GroupReleased { group: token(slot), sent };
    let mut events = lone.events();
    let over = Event::RequestEnded { request, result: Ok(()) };
    let at = events.iter().position(|event| *event == over).expect("it ended after them");
    events.remove(at);
    let expected = [0, 1, 2, 4].map(|slot| released(slot, false)).into_iter();
    let expected: Vec<_> = expected.chain([released(4, true), released(3, true)]).collect();
    assert_eq!(events, expected);
}

/// Unusable datagrams are dropped silently, and counted.
#[test]
fn unusable_datagrams_are_dropped_silently() {
    for version in [Lite05, Lite06] {
        let mut lone = subscribed_lone(version);
        let own = lone.own(Dir::Bi, 1);
        lone.data(own, "00 01 05");
        assert_eq!(lone.events(), [started(0, 5)]);
        let useless = [
            "",
            "00",
            "00 05",
            "00 40",
            // For an unknown subscription, below START, with a timestamp out of range.
            "01 05 00 61",
            "00 04 00 61",
            "00 05 ffffffffffffffff 61",
        ];
        for (n, digits) in useless.iter().enumerate() {
            lone.handle(Input::Datagram { bytes: hex(digits) });
            assert_eq!((lone.events(), lone.actions()), (vec![], vec![]), "{digits}");
            assert_eq!(lone.end.machine.lost_datagrams(), n as u64 + 1);
        }
        lone.handle(Input::Datagram { bytes: hex("00 05 00 61") });
        assert_eq!(lone.events(), [came(5, 0, "a")]);
        lone.apply(Command::Unsubscribe { subscription: token(0) });
        lone.events();
        lone.handle(Input::Datagram { bytes: hex("00 06 00 61") });
        assert_eq!(lone.events(), []);
        assert_eq!(lone.end.machine.lost_datagrams(), useless.len() as u64 + 1);
    }
    // Versions without datagrams, and a track whose information is not known yet.
    for version in LITE {
        let mut lone = Lone::ready(Side::Client, version);
        lone.apply(subscribe(0));
        lone.handle(Input::Datagram { bytes: hex("00 05 00 61") });
        assert_eq!((lone.events(), lone.end.machine.lost_datagrams()), (vec![], 1));
    }
}

/// Datagrams before SETUP are held undecoded, up to `Limits::datagrams`.
#[test]
fn held_datagrams_have_a_limit() {
    let mut config = config(Side::Client, Lite06);
    config.limits.datagrams = 3;
    let mut lone = Lone::new(config);
    for n in 0..5 {
        lone.end.handle(Instant::ZERO, Input::Datagram { bytes: hex(&format!("00 0{n} 00")) });
    }
    lone.run();
    assert_eq!((lone.events(), lone.end.machine.lost_datagrams()), (vec![], 2));
    lone.open(Dir::Uni, "01 01 00");
    assert_eq!(
        (lone.events(), lone.end.machine.lost_datagrams()),
        (vec![], 5),
        "of no subscription"
    );

    let mut lone = subscribed_lone(Lite06);
    lone.handle(Input::Datagram { bytes: Bytes::from_static(&[0, 5, 0, 1, 2, 3, 4, 5, 6]) });
    assert_eq!(lone.events().len(), 1);
    let mut config = super::config(Side::Client, Lite06);
    config.limits.frame_bytes = 5;
    let mut lone = Lone::ready_with(config);
    lone.apply(subscribe(0));
    lone.data(lone.own(Dir::Bi, 0), "05 7f 5388 43e8");
    lone.events();
    for (payload, comes) in [("0102030405", true), ("010203040506", false)] {
        lone.handle(Input::Datagram { bytes: hex(&format!("00 05 00 {payload}")) });
        assert_eq!(!lone.events().is_empty(), comes);
    }
}

/// The end of a subscription is sent after its datagrams, as it is after its groups. Datagrams do not outlive
/// the subscription.
#[test]
fn the_end_comes_after_the_last_datagram() {
    let mut lone = subscribed_lone(Lite06);
    let own = lone.own(Dir::Bi, 1);
    lone.fin(own, "00 01 01 01 01 03");
    lone.handle(Input::Datagram { bytes: hex("00 02 00 61") });
    assert_eq!(lone.events(), [started(0, 1), came(2, 0, "a")]);
    lone.handle(Input::Datagram { bytes: hex("00 01 00 61") });
    let over = Event::SubscribeEnded { subscription: token(0), result: Ok(Some(3)) };
    assert_eq!(lone.events(), [came(1, 0, "a"), over]);
}

/// Datagrams follow the same order as groups.
#[test]
fn the_most_urgent_datagram_goes_first() {
    let (mut lone, low) = serving(Lite06, 1_200);
    lone.open(Dir::Bi, "02 09 08 00 00 80 00 00 00 00 00");
    let Event::SubscribeRequested { request: high, .. } = one(lone.events()) else { panic!() };
    lone.end.apply(Command::AcceptSubscribe {
        request: high,
        info: TrackInfo::default(),
        largest: None,
    });
    for slot in 1..5 {
        lone.end.source.insert(token(slot), [Frame::new(0, "x")]);
    }
    for (request, slot) in [(low, 1), (high, 2), (low, 3), (high, 4)] {
        lone.end.apply(datagram(request, slot));
    }
    let order: Vec<_> = std::iter::from_fn(|| sent(&mut lone)).map(|(head, _)| head).collect();
    assert_eq!(order, ["080400", "080200", "070300", "070100"]);
}

/// Of equal tracks the one that has sent fewer bytes goes first.
#[test]
fn equal_tracks_take_turns_with_datagrams() {
    let (mut lone, first) = serving(Lite06, 1_200);
    lone.open(Dir::Bi, "02 09 08 00 00 7f 00 00 00 00 00");
    let Event::SubscribeRequested { request: second, .. } = one(lone.events()) else { panic!() };
    lone.end.apply(Command::AcceptSubscribe {
        request: second,
        info: TrackInfo::default(),
        largest: None,
    });
    for slot in 1..7 {
        let size = if slot < 4 { 300 } else { 100 };
        lone.end.source.insert(token(slot), [Frame::new(0, vec![1; size])]);
        lone.end.apply(datagram(if slot < 4 { first } else { second }, slot));
    }
    let order: Vec<_> = std::iter::from_fn(|| sent(&mut lone)).map(|(head, _)| head).collect();
    // The first one, then the second one until both have sent the same.
    assert_eq!(order, ["070300", "080600", "080500", "080400", "070200", "070100"]);
}

/// Over links of every kind, with and without loss: each group arrives at most once, unaltered.
#[test]
fn datagrams_and_groups_arrive_side_by_side() {
    on_every_link(|version, link| {
        for lost in [0, 3] {
            let mut pair = pair(version, link.clone().datagrams(200, lost));
            let request = subscribed(&mut pair, 0);
            pair.server.apply(start(request, 0));
            for slot in 0..30 {
                let size = if slot % 5 == 4 { 300 } else { 20 };
                let frame = Frame::new(slot.into(), vec![slot as u8; size]);
                pair.server.source.insert(token(slot), [frame]);
                let command = if slot % 3 == 0 {
                    group(request, slot.into())
                } else {
                    datagram(request, slot)
                };
                pair.server.apply(command);
            }
            pair.server.apply(Command::FinishSubscribe { request, end: 30 });
            while pair.sleep_to_deadline() {}
            let mut groups = BTreeMap::new();
            let mut events = vec![informed(0)];
            for event in pair.client.take_events() {
                match event {
                    Event::Datagram { subscription, sequence, timestamp, payload, .. } => {
                        assert_eq!(subscription, token(0));
                        assert_eq!(timestamp, Some(Timestamp::new(sequence)));
                        let before = groups.insert(sequence, payload.to_vec());
                        assert_eq!(before, None);
                        assert!(sequence % 3 != 0 && sequence % 5 != 4, "{sequence}");
                    }
                    event => events.push(event),
                }
            }
            let datagrams = groups.len();
            let received = Received::of(events);
            for ((_, sequence), group) in &received.groups {
                let before = groups.insert(*sequence, group.frames[0].2.clone());
                assert_eq!(before, None);
            }
            let is_good = |(n, bytes): (&u64, &Vec<u8>)| bytes.iter().all(|it| *it == *n as u8);
            assert!(groups.iter().all(is_good));
            assert!(received.ended[&0].is_ok());
            match (has_datagrams(version), lost) {
                (false, _) => assert_eq!((datagrams, groups.len()), (0, 30)),
                (true, 0) if version != Lite07Wip => {
                    assert_eq!((datagrams, groups.len()), (16, 30));
                }
                // On 07 the end counts streams only, so a datagram after the last stream is late.
                (true, 0) => assert!(datagrams <= 16 && groups.len() == 14 + datagrams),
                (true, _) => assert!(datagrams < 16 && groups.len() == 14 + datagrams),
            }
        }
    });
}
