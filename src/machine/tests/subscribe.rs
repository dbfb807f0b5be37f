//! SUBSCRIBE and TRACK, at both ends (moq-lite-06, 5.1.2, 5.1.4 and 7.9 to 7.14).

use super::*;

/// A whole subscription.
#[test]
fn a_subscription_runs_to_its_end() {
    on_every_dialect(|version, mut pair| {
        let request = subscribed(&mut pair, 3);
        let frames = [Frame::new(1000, "hello"), Frame::new(1040, "hi"), Frame::new(1020, "")];
        for sequence in [4, 5, 7] {
            pair.server.source.insert(token(sequence), frames.clone());
            pair.server.apply(group(request, sequence.into()));
        }
        pair.run_until_idle();
        pair.server.apply(Command::FinishSubscribe { request, end: 8 });
        while pair.sleep_to_deadline() {}

        let mut events = vec![informed(3)];
        events.extend(pair.client.take_events());
        let received = Received::of(events);
        assert_eq!(received.groups.keys().copied().collect::<Vec<_>>(), [(3, 4), (3, 5), (3, 7)]);
        for group in received.groups.values() {
            assert_eq!(*group, whole(version, &frames));
        }
        let end = Features::of(version).subscribe_end.then_some(8);
        assert_eq!(received.ended[&3], Ok(end));

        let mut events = pair.server.take_events();
        assert_eq!(events.pop(), Some(Event::RequestEnded { request, result: Ok(()) }));
        events.sort_by_key(|event| match event {
            Event::GroupReleased { group, .. } => group.slot,
            other => panic!("{other:?}"),
        });
        let released = |slot| Event::GroupReleased { group: token(slot), sent: true };
        assert_eq!(events, [released(4), released(5), released(7)]);
        assert!(!pair.client.is_closed() && !pair.server.is_closed());
    });
}

/// Each field that a version can express arrives.
#[test]
fn a_subscription_arrives_unchanged() {
    on_every_dialect(|version, mut pair| {
        let want =
            Subscription::default().priority(3).ordered(true).max_age(ms(250)).start(4).end(9);
        pair.client.apply(subscribe_with(0, want.clone()));
        pair.run_until_idle();
        let features = Features::of(version);
        let mut events = pair.server.take_events();
        if features.track {
            let at = events.iter().position(|it| matches!(it, Event::TrackRequested { .. }));
            let asked = events.remove(at.expect("a question what the track is"));
            let Event::TrackRequested { broadcast, track, .. } = asked else { unreachable!() };
            assert_eq!((broadcast, &*track), (path("demo"), "video"));
        }
        let Event::SubscribeRequested { broadcast, track, subscription, .. } = one(events) else {
            panic!("not a subscription");
        };
        assert_eq!((broadcast, &*track), (path("demo"), "video"));
        let said = match features.group_bounds {
            true => want.ordered(features.ordered),
            false => Subscription::default().priority(3).max_age(Duration::MAX),
        };
        assert_eq!(subscription, said);
    });
}

/// The track information precedes the first group.
#[test]
fn track_info_precedes_the_first_group() {
    on_every_dialect(|version, mut pair| {
        let has_track = Features::of(version).track;
        let mut info = TrackInfo::default();
        if has_track {
            info.priority = 9;
            info.max_age = ms(7);
            info.timescale = crate::Timescale::new(90_000).unwrap();
        }
        pair.client.apply(subscribe(0));
        pair.run_until_idle();
        let mut describe = None;
        for event in pair.server.take_events() {
            match event {
                Event::TrackRequested { request, .. } => describe = Some(request),
                Event::SubscribeRequested { request, .. } => {
                    let info = info.clone();
                    pair.server.apply(Command::AcceptSubscribe { request, info, largest: None });
                    pair.server.source.insert(token(1), [Frame::new(0, "a")]);
                    pair.server.apply(group(request, 1));
                }
                other => panic!("{other:?}"),
            }
        }
        pair.run_until_idle();
        assert_eq!(describe.is_some(), has_track);
        if let Some(request) = describe {
            assert_eq!(pair.client.take_events(), [], "the group waits");
            pair.server.apply(Command::AcceptTrack { request, info: info.clone(), largest: None });
            pair.run_until_idle();
        }
        let events = pair.client.take_events();
        let subscription = token(0);
        assert_eq!(events[0], Event::TrackInfo { subscription, info });
        assert_eq!(Received::of(events).groups.len(), 1);
    });
}

/// A refused subscription ends with the error of that code.
#[test]
fn a_refused_subscription_ends_with_the_error() {
    on_every_dialect(|_, mut pair| {
        let errors = [Error::NotFound, Error::Unroutable, Error::App(3), Error::Remote(Code::MAX)];
        for (slot, error) in errors.into_iter().enumerate() {
            pair.client.apply(subscribe(slot as u32));
            pair.run_until_idle();
            for event in pair.server.take_events() {
                match event {
                    Event::SubscribeRequested { request, .. } => {
                        pair.server.apply(Command::Refuse { request, error: error.clone() });
                        // Only the first answer counts.
                        pair.server.apply(Command::Refuse { request, error: Error::Old });
                        pair.server.apply(Command::AcceptSubscribe {
                            request,
                            info: TrackInfo::default(),
                            largest: None,
                        });
                    }
                    Event::TrackRequested { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
            pair.run_until_idle();
            let (subscription, result) = (token(slot as u32), Err(error));
            let ended = Event::SubscribeEnded { subscription, result };
            assert_eq!(pair.client.take_events(), [ended]);
            // The request for track information was withdrawn as well.
            for event in pair.server.take_events() {
                assert!(matches!(event, Event::RequestEnded { result: Err(_), .. }), "{event:?}");
            }
        }
        assert!(!pair.client.is_closed() && !pair.server.is_closed());
    });
}

#[test]
fn a_refused_track_ends_its_subscription() {
    on_every_dialect(|version, mut pair| {
        if !Features::of(version).track {
            return;
        }
        pair.client.apply(subscribe(0));
        pair.run_until_idle();
        let mut subscription = None;
        for event in pair.server.take_events() {
            match event {
                Event::TrackRequested { request, .. } => {
                    pair.server.apply(Command::Refuse { request, error: Error::NotFound });
                }
                Event::SubscribeRequested { request, .. } => subscription = Some(request),
                other => panic!("{other:?}"),
            }
        }
        pair.run_until_idle();
        let result = Err(Error::NotFound);
        let ended = Event::SubscribeEnded { subscription: token(0), result };
        assert_eq!(pair.client.take_events(), [ended]);
        let Event::RequestEnded { request, result } = one(pair.server.take_events()) else {
            panic!("not an end");
        };
        assert_eq!((Some(request), result), (subscription, Err(Error::NotFound)));
    });
}

/// moq-lite-06, 4.3: FIN of the subscriber ends a subscription, and open groups are reset.
#[test]
fn unsubscribing_ends_both_ends() {
    on_every_dialect(|_, mut pair| {
        let request = subscribed(&mut pair, 0);
        pair.server.source.push(token(1), Frame::new(0, "open end"));
        pair.server.apply(group(request, 1));
        pair.run_until_idle();
        let mut received = Received::of([vec![informed(0)], pair.client.take_events()].concat());
        assert_eq!(received.groups[&(0, 1)].frames.len(), 1);

        pair.client.apply(Command::Unsubscribe { subscription: token(0) });
        pair.client.apply(Command::Unsubscribe { subscription: token(0) });
        pair.run_until_idle();
        received.record(pair.client.take_events());
        assert_eq!(received.groups[&(0, 1)].result, Some(Err(Error::Cancelled)));
        assert_eq!(received.ended[&0], Err(Error::Cancelled));
        let mut events = pair.server.take_events();
        events.sort_by_key(|event| matches!(event, Event::RequestEnded { .. }));
        assert_eq!(
            events,
            [
                Event::GroupReleased { group: token(1), sent: false },
                Event::RequestEnded { request, result: Err(Error::Cancelled) },
            ]
        );
        // Commands that come too late only release their tokens.
        pair.server.apply(group(request, 2));
        pair.server.apply(Command::FinishSubscribe { request, end: 3 });
        pair.run_until_idle();
        let released = Event::GroupReleased { group: token(2), sent: false };
        assert_eq!(pair.server.take_events(), [released]);
        assert_eq!(pair.client.take_events(), []);
        assert_eq!(pair.streams(Side::Server, Dir::Uni), 0);
    });
}

/// A request that was not sent is withdrawn without a stream.
#[test]
fn a_subscription_that_was_not_sent_is_withdrawn_without_a_trace() {
    for version in LITE {
        // The session's own stream opens, on versions that have one.
        let bi_streams = Features::of(version).version_setup.into();
        let link = Link { bi_streams, ..Link::perfect() };
        let mut pair = pair(version, link);
        for _ in 0..10 {
            pair.client.apply(subscribe(0));
            pair.run_until_idle();
            pair.client.apply(Command::Unsubscribe { subscription: token(0) });
            pair.run_until_idle();
            let result = Err(Error::Cancelled);
            let ended = Event::SubscribeEnded { subscription: token(0), result };
            assert_eq!(pair.client.take_events(), [ended]);
        }
        assert!(!pair.client.machine.bare.core.requests.has_unsent());
    }
}

/// The publisher aborts a running subscription: its groups, then the subscription.
#[test]
fn an_aborted_subscription_ends_with_the_error() {
    on_every_dialect(|_, mut pair| {
        let request = subscribed(&mut pair, 0);
        pair.server.source.push(token(1), Frame::new(0, "open end"));
        pair.server.apply(group(request, 1));
        pair.run_until_idle();
        pair.server.apply(Command::Refuse { request, error: Error::App(1) });
        pair.run_until_idle();
        let received = Received::of([vec![informed(0)], pair.client.take_events()].concat());
        assert_eq!(received.groups[&(0, 1)].result, Some(Err(Error::App(1))));
        assert_eq!(received.ended[&0], Err(Error::App(1)));
        let released = Event::GroupReleased { group: token(1), sent: false };
        assert_eq!(pair.server.take_events(), [released]);
    });
}

/// SUBSCRIBE_UPDATE reaches the publisher, except on 03 and 04, where `moq-lite` 0.16 ends the subscription.
#[test]
fn an_update_arrives() {
    on_every_dialect(|version, mut pair| {
        let request = subscribed(&mut pair, 0);
        let want = Subscription::default().priority(200).max_age(ms(30)).start(2);
        for _ in 0..2 {
            let subscription = token(0);
            pair.client.apply(Command::UpdateSubscribe { subscription, want: want.clone() });
        }
        pair.run_until_idle();
        let events = pair.server.take_events();
        if Features::of(version).subscribe_end {
            let updated = Event::SubscribeUpdated { request, subscription: want };
            assert_eq!(events, [updated.clone(), updated]);
        } else {
            assert_eq!(events, []);
        }
        // An update of an unknown subscription has no effect.
        let (subscription, want) = (token(1), Subscription::default());
        pair.client.apply(Command::UpdateSubscribe { subscription, want });
        pair.run_until_idle();
        assert_eq!(pair.server.take_events(), []);
    });
}

#[test]
fn a_token_names_one_subscription_at_a_time() {
    on_every_dialect(|_, mut pair| {
        subscribed(&mut pair, 0);
        pair.client.apply(subscribe(0));
        pair.run_until_idle();
        let result = Err(Error::Duplicate);
        let ended = Event::SubscribeEnded { subscription: token(0), result };
        assert_eq!(pair.client.take_events(), [ended]);
        assert_eq!(pair.server.take_events(), []);
        // The first one continues.
        pair.client.apply(Command::Unsubscribe { subscription: token(0) });
        pair.run_until_idle();
        assert!(matches!(one(pair.server.take_events()), Event::RequestEnded { .. }));
        pair.client.take_events();
        subscribed(&mut pair, 0);
    });
}

/// START names the lowest group that may follow. Groups that arrived before START are kept. Lower groups are
/// not sent after it, because the peer would drop them.
#[test]
fn a_start_is_sent_once_and_holds() {
    on_every_dialect(|version, mut pair| {
        let request = subscribed(&mut pair, 0);
        let says_start = Features::of(version).subscribe_end;
        for sequence in [9, 8] {
            pair.server.source.insert(token(sequence), []);
            pair.server.apply(group(request, sequence.into()));
        }
        pair.run_until_idle();
        pair.server.apply(start(request, 7));
        pair.server.apply(start(request, 0));
        for sequence in [6, 7] {
            pair.server.source.insert(token(sequence), []);
            pair.server.apply(group(request, sequence.into()));
        }
        pair.server.apply(Command::FinishSubscribe { request, end: 10 });
        while pair.sleep_to_deadline() {}
        let received = Received::of([vec![informed(0)], pair.client.take_events()].concat());
        let groups: Vec<_> = received.groups.keys().map(|(_, sequence)| *sequence).collect();
        if says_start {
            assert_eq!((groups, received.started[&0]), (vec![7, 8, 9], 7));
        } else {
            assert_eq!((groups, received.started.len()), (vec![6, 7, 8, 9], 0));
        }
    });
}

/// Track information can be requested alone. A subscription may follow before the response, and then one
/// request serves both.
#[test]
fn track_info_is_requested_without_a_subscription() {
    on_every_dialect(|version, mut pair| {
        let has_track = Features::of(version).track;
        let describe = |slot| {
            let (broadcast, track) = (path("demo"), "video".into());
            Command::Describe { subscription: token(slot), broadcast, track }
        };
        pair.client.apply(describe(0));
        assert_eq!(accept_all(&mut pair), [], "no subscription");
        pair.run_until_idle();
        assert_eq!(pair.client.take_events(), [informed(0)]);
        if !has_track {
            return;
        }
        // Refused.
        pair.client.apply(describe(1));
        pair.run_until_idle();
        let Event::TrackRequested { request, .. } = one(pair.server.take_events()) else {
            panic!()
        };
        pair.server.apply(Command::Refuse { request, error: Error::NotFound });
        pair.run_until_idle();
        let (subscription, result) = (token(1), Err(Error::NotFound));
        assert_eq!(pair.client.take_events(), [Event::SubscribeEnded { subscription, result }]);
        // Withdrawn.
        pair.client.apply(describe(2));
        pair.run_until_idle();
        pair.client.apply(Command::Unsubscribe { subscription: token(2) });
        pair.run_until_idle();
        assert!(matches!(
            pair.server.take_events()[..],
            [Event::TrackRequested { .. }, Event::RequestEnded { .. }]
        ));
        assert_eq!(pair.client.take_events(), []);
        // Followed by a subscription.
        pair.client.apply(describe(3));
        pair.client.apply(subscribe(3));
        pair.run_until_idle();
        let mut events = pair.server.take_events();
        events.sort_by_key(|event| matches!(event, Event::SubscribeRequested { .. }));
        let [Event::TrackRequested { request, .. }, Event::SubscribeRequested { .. }] = events[..]
        else {
            panic!("{events:?}");
        };
        pair.server.apply(Command::AcceptTrack {
            request,
            info: TrackInfo::default(),
            largest: None,
        });
        pair.run_until_idle();
        assert_eq!(pair.client.take_events(), [informed(3)]);
        let machine = &pair.client.machine;
        let AnyDialect::Lite(lite) = &machine.bare.dialect else { panic!("moq-lite") };
        assert_eq!(Census::of(&machine.bare.core.outgoing).total(), 3, "the subscription alone");
        let census = format!("{:?}", Census::of(&**lite));
        assert!(!census.contains("queries"), "{census}");
    });
}

/// A track that ended without a group.
#[test]
fn a_track_may_end_without_a_group() {
    on_every_dialect(|version, mut pair| {
        let request = subscribed(&mut pair, 0);
        pair.server.apply(Command::FinishSubscribe { request, end: 0 });
        while pair.sleep_to_deadline() {}
        let result = Ok(Features::of(version).subscribe_end.then_some(0));
        let ended = Event::SubscribeEnded { subscription: token(0), result };
        assert_eq!(pair.client.take_events(), [ended]);
        let ended = Event::RequestEnded { request, result: Ok(()) };
        assert_eq!(pair.server.take_events(), [ended]);
    });
}

/// Many subscriptions at once, each with its own groups.
#[test]
fn subscriptions_do_not_mix() {
    on_every_dialect(|version, mut pair| {
        for slot in 0..5 {
            pair.client.apply(subscribe_with(slot, Subscription::default().priority(slot as u8)));
            pair.steps(7);
        }
        let mut received = Received::default();
        let (mut requests, mut rounds) = (vec![], 0);
        while requests.len() < 5 {
            assert!(rounds < 10, "{} of 5 subscriptions came", requests.len());
            rounds += 1;
            pair.run_until_idle();
            for event in pair.server.take_events() {
                match event {
                    Event::TrackRequested { request, .. } => {
                        let info = TrackInfo::default();
                        pair.server.apply(Command::AcceptTrack { request, info, largest: None });
                    }
                    Event::SubscribeRequested { request, subscription, .. } => {
                        let info = TrackInfo::default();
                        pair.server.apply(Command::AcceptSubscribe {
                            request,
                            info,
                            largest: None,
                        });
                        requests.push((request, u32::from(subscription.priority)));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        for (request, slot) in &requests {
            for sequence in 0..3_u32 {
                let token = token(slot * 10 + sequence);
                pair.server.source.insert(token, [Frame::new(0, format!("{slot} {sequence}"))]);
                let (request, sequence) = (*request, sequence.into());
                let command = Command::Group { request, group: token, sequence, first_frame: 0 };
                pair.server.apply(command);
            }
        }
        pair.run_until_idle();
        received.record(pair.client.take_events());
        assert_eq!(received.groups.len(), 15);
        for ((slot, sequence), group) in received.groups {
            assert_eq!(group, whole(version, &[Frame::new(0, format!("{slot} {sequence}"))]));
        }
    });
}

// ---- bytes -----------------------------------------------------------------------------------

/// The golden bytes of a publisher.
#[test]
fn the_bytes_of_a_publisher() {
    let cases = [
        (Lite01, "02 11 00 08 64656d6f2f626262 05 766964656f 02", "01 02", ""),
        (Lite02, "02 11 00 08 64656d6f2f626262 05 766964656f 02", "00", ""),
        (
            Lite03,
            "02 15 00 08 64656d6f2f626262 05 766964656f 02 01 00 00 00",
            "00 05 02 00 00 00 00",
            "",
        ),
        (
            Lite04,
            "02 15 00 08 64656d6f2f626262 05 766964656f 02 01 00 00 00",
            "00 05 02 00 00 00 00",
            "",
        ),
        (
            Lite05,
            "02 16 00 08 64656d6f2f626262 05 766964656f 02 00 40fa 00 00",
            "00 01 2a",
            "01 01 2b",
        ),
        (
            Lite06,
            "02 17 00 08 64656d6f2f626262 05 766964656f 02 40fa 00 00 00 00",
            "00 01 2a",
            "01 01 2b",
        ),
        (
            Lite07Wip,
            "02 17 00 08 64656d6f2f626262 05 766964656f 02 80fa 00 00 00 00",
            "00 01 2a",
            "01 02 2b 01",
        ),
    ];
    for (version, subscribe, begin, end) in cases {
        let mut lone = Lone::ready(Side::Server, version);
        let id = lone.open(Dir::Bi, subscribe);
        let Event::SubscribeRequested { request, broadcast, track, subscription, .. } =
            one(lone.events())
        else {
            panic!("not a subscription");
        };
        assert_eq!((broadcast, &*track), (path("demo/bbb"), "video"));
        assert_eq!(subscription.priority, 2);
        assert_eq!(lone.sent(id), "");

        lone.apply(Command::AcceptSubscribe { request, info: TrackInfo::default(), largest: None });
        lone.end.source.insert(token(42), []);
        lone.apply(start(request, 42));
        lone.apply(group(request, 42));
        assert_eq!(lone.sent(id), bytes(begin));
        let stream = lone.own(Dir::Uni, u64::from(Features::of(version).setup));
        let header = if version >= Lite06 { "00 03 00 2a 00" } else { "00 02 00 2a" };
        assert_eq!(lone.sent(stream), bytes(header) + " fin");
        lone.apply(Command::FinishSubscribe { request, end: 43 });
        assert_eq!(lone.sent(id), bytes(end) + " fin");
        lone.fin(id, "");
        assert_eq!(lone.actions(), []);
    }
}

/// The golden bytes of a subscriber.
#[test]
fn the_bytes_of_a_subscriber() {
    let cases = [
        (Lite01, "02 11 00 08 64656d6f2f626262 05 766964656f 02", ""),
        (Lite02, "02 11 00 08 64656d6f2f626262 05 766964656f 02", ""),
        (Lite03, "02 16 00 08 64656d6f2f626262 05 766964656f 02 00 40fa 00 00", ""),
        (Lite04, "02 16 00 08 64656d6f2f626262 05 766964656f 02 00 40fa 00 00", ""),
        (
            Lite05,
            "02 16 00 08 64656d6f2f626262 05 766964656f 02 00 40fa 00 00",
            "06 04 00 40fa 00 00",
        ),
        (
            Lite06,
            "02 17 00 08 64656d6f2f626262 05 766964656f 02 40fa 00 00 00 00",
            "07 04 40fa 07 0a 00 00",
        ),
        (
            Lite07Wip,
            "02 17 00 08 64656d6f2f626262 05 766964656f 02 80fa 00 00 00 00",
            "07 04 80fa 07 0a 00 00",
        ),
    ];
    for (version, subscribe, update) in cases {
        let mut lone = Lone::ready(Side::Client, version);
        let want = Subscription::default().priority(2).max_age(ms(250));
        let (broadcast, track) = (path("/demo//bbb/"), "video".into());
        let subscription = token(0);
        lone.apply(Command::Subscribe { subscription, broadcast, track, want: want.clone() });
        let mut index = 0;
        if Features::of(version).track {
            let sent = lone.sent(lone.own(Dir::Bi, 0));
            assert_eq!(sent, bytes("06 0f 08 64656d6f2f626262 05 766964656f"));
            index = 1;
        }
        let id = lone.own(Dir::Bi, index);
        assert_eq!(lone.sent(id), bytes(subscribe));
        let mut want = want.priority(4);
        if version >= Lite06 {
            want = want.start(7).end(9);
        }
        lone.apply(Command::UpdateSubscribe { subscription, want });
        assert_eq!(lone.sent(id), bytes(update));
        lone.apply(Command::Unsubscribe { subscription });
        assert_eq!(lone.sent(id), " fin");
        assert!(lone.actions().iter().all(|it| *it != reset(id, 1)), "FIN is enough");
    }
}

/// L06-3-6-MUST-023: the stream is reset, at first and in an update.
#[test]
fn a_frame_end_without_a_group_end_resets_the_stream() {
    for version in [Lite06, Lite07Wip] {
        let mut lone = Lone::ready(Side::Server, version);
        let id = lone.open(Dir::Bi, "02 09 00 00 00 7f 00 00 00 00 01");
        assert_eq!(
            (lone.events(), lone.actions()),
            (vec![], vec![reset(id, 0x12), stop(id, 0x12)])
        );
        let id = lone.open(Dir::Bi, subscribe_bytes(version));
        assert_eq!(lone.events().len(), 1);
        lone.data(id, "06 7f 00 00 00 00 01");
        assert!(matches!(one(lone.events()), Event::RequestEnded { result: Err(_), .. }));
        assert_eq!(lone.actions(), [reset(id, 0x12), stop(id, 0x12)]);
    }
}

/// moq-lite-06, 7.9: ids count up from 0 and are not reused.
// L06-7-9-MUST-NOT-154
#[test]
fn subscribe_ids_are_never_used_again() {
    let mut lone = Lone::ready(Side::Client, Lite04);
    for id in 0..3 {
        lone.apply(subscribe(0));
        let sent = lone.sent(lone.own(Dir::Bi, id));
        assert_eq!(sent[4..6], format!("{id:02x}"));
        lone.apply(Command::Unsubscribe { subscription: token(0) });
    }
}

// ---- answers ---------------------------------------------------------------------------------

/// A subscriber with one subscription, its stream, and the stream of its TRACK.
fn subscriber(version: Version) -> (Lone, StreamId, Option<StreamId>) {
    let mut lone = Lone::ready(Side::Client, version);
    lone.apply(subscribe(0));
    let [first, second] = [0, 1].map(|index| lone.own(Dir::Bi, index));
    if Features::of(version).track { (lone, second, Some(first)) } else { (lone, first, None) }
}

/// From 05 on FIN without END fails the track.
#[test]
fn fin_without_end_fails_the_subscription() {
    for version in [Lite05, Lite06, Lite07Wip] {
        let (mut lone, id, _) = subscriber(version);
        lone.fin(id, "00 01 2a");
        // Groups may be on their way.
        lone.advance(ms(1_000));
        let result = Err(Error::ProtocolViolation("FIN without END"));
        let ended = Event::SubscribeEnded { subscription: token(0), result };
        assert_eq!(lone.events(), [started(0, 42), ended]);
        assert!(!lone.end.is_closed());
    }
}

/// FIN in the middle of a message fails the stream.
#[test]
fn a_truncated_answer_fails_the_subscription() {
    for version in LITE {
        let (mut lone, id, _) = subscriber(version);
        lone.fin(id, if Features::of(version).typed_responses() { "00 05 02" } else { "01" });
        let result = Err(Error::Malformed(DecodeError::Truncated));
        let ended = Event::SubscribeEnded { subscription: token(0), result };
        assert_eq!(lone.events(), [ended]);
        assert!(!lone.end.is_closed());
    }
}

#[test]
fn a_malformed_answer_fails_the_subscription() {
    for version in LITE {
        let (mut lone, id, query) = subscriber(version);
        let (bad, error) = match Features::of(version).typed_responses() {
            true => ("07 01 00", DecodeError::UnknownMessage(7)),
            false => ("02 00 00", DecodeError::TrailingBytes),
        };
        lone.data(id, bad);
        let result = Err(Error::Malformed(error));
        let ended = Event::SubscribeEnded { subscription: token(0), result };
        assert_eq!(lone.events(), [ended]);
        let mut expected = vec![reset(id, 0x12), stop(id, 0x12)];
        expected.extend(query.into_iter().flat_map(|id| [reset(id, 0x12), stop(id, 0x12)]));
        assert_eq!(lone.actions(), expected);
    }
}

#[test]
fn malformed_track_info_fails_the_subscription() {
    // A timescale of 0; an empty message.
    for (version, info) in [(Lite05, "06 7f 00 5388 00"), (Lite06, "05 7f 5388 00"), (Lite06, "")] {
        let (mut lone, id, query) = subscriber(version);
        lone.fin(query.unwrap(), info);
        let Event::SubscribeEnded { result: Err(Error::Malformed(_)), .. } = one(lone.events())
        else {
            panic!("not a failure");
        };
        assert!(lone.actions().contains(&reset(id, 0x12)));
        assert!(!lone.end.is_closed());
    }
}

/// SUBSCRIBE_DROP is not sent by deployed peers, and has no effect.
#[test]
fn drops_are_tolerated() {
    for version in [Lite03, Lite04, Lite05, Lite06] {
        let (mut lone, id, _) = subscriber(version);
        let (ok, drop) = match Features::of(version).subscribe_end {
            true => ("00 01 2a", "02 03 01 03 00"),
            false => ("00 05 02 00 00 00 00", "01 03 01 03 00"),
        };
        lone.data(id, ok);
        lone.data(id, drop);
        lone.data(id, drop);
        let told = |event: &Event| {
            matches!(event, Event::TrackInfo { .. } | Event::SubscribeStarted { .. })
        };
        assert!(lone.events().iter().all(told));
        assert_eq!(lone.actions(), []);
    }
}

/// Bytes after TRACK, or FIN before the response, withdraw the request.
#[test]
fn a_track_request_that_is_not_kept_open_is_withdrawn() {
    for version in [Lite05, Lite06, Lite07Wip] {
        for (more, fin, code) in [("aa", false, 0x12), ("", true, 1)] {
            let mut lone = Lone::ready(Side::Server, version);
            let id = lone.open(Dir::Bi, "06 02 00 00");
            let Event::TrackRequested { request, .. } = one(lone.events()) else { panic!() };
            lone.handle(Input::Data { id, bytes: hex(more), fin });
            let Event::RequestEnded { request: ended, result: Err(error) } = one(lone.events())
            else {
                panic!("not an end");
            };
            assert_eq!((ended, error.stream_code().as_u64()), (request, code));
            assert!(lone.actions().contains(&reset(id, code)));
            lone.apply(Command::AcceptTrack { request, info: TrackInfo::default(), largest: None });
            assert_eq!(lone.sent(id), "");
        }
    }
}

/// A question about the track was open, and ends with the subscription that can't be sent.
#[test]
fn the_slot_of_a_question_that_was_given_up_is_used_again() {
    let version = Version::Lite06;
    let mut lone = Lone::ready(Side::Client, version);
    let (broadcast, track) = (path("demo"), "video".into());
    lone.apply(Command::Describe { subscription: token(0), broadcast, track });
    lone.apply(subscribe_with(0, Subscription::default().start(u64::MAX)));
    assert!(matches!(one(lone.events()), Event::SubscribeEnded { result: Err(_), .. }));
    lone.open(Dir::Bi, subscribe_bytes(version));
    assert!(matches!(one(lone.events()), Event::SubscribeRequested { .. }));
}
