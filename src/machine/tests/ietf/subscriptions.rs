//! Subscriptions, at both ends, and the streams of their groups (*Subscriptions*, *Data Streams*).

use super::*;
use crate::LimitKind;
use crate::Properties;

/// A whole subscription.
#[test]
fn a_subscription_runs_to_its_end() {
    on_every_draft(|version, mut pair| {
        pair.client.apply(subscribe(3));
        pair.run_until_idle();
        let event = one(pair.server.take_events());
        let Event::SubscribeRequested { request, broadcast, track, subscription, .. } = event
        else {
            panic!("{event:?}");
        };
        assert_eq!((broadcast, &*track), (path("demo"), "video"));
        assert_eq!((subscription.priority, subscription.start), (127, None));
        let info = TrackInfo { priority: 200, ..TrackInfo::default() };
        pair.server.apply(Command::AcceptSubscribe { request, info, largest: None });
        let frames = [Frame::new(1000, "hello"), Frame::new(1040, "hi"), Frame::new(1020, "")];
        for sequence in [4, 5, 7] {
            pair.server.source.insert(token(sequence), frames.clone());
            pair.server.apply(group(request, sequence.into()));
        }
        pair.run_until_idle();
        pair.server.apply(Command::FinishSubscribe { request, end: 8 });
        while pair.sleep_to_deadline() {}

        let received = Received::of(pair.client.take_events());
        assert_eq!(received.groups.keys().copied().collect::<Vec<_>>(), [(3, 4), (3, 5), (3, 7)]);
        for group in received.groups.values() {
            let frames = frames.iter().map(|frame| {
                let timestamp = (version >= Moqt17).then_some(frame.timestamp.units());
                (timestamp, frame.size, frame.bytes())
            });
            assert_eq!(group.frames, frames.collect::<Vec<_>>());
            assert_eq!(group.result, Some(Ok(())));
        }
        assert_eq!(received.ended[&3], Ok(None));
        let last = pair.server.take_events().pop();
        assert_eq!(last, Some(Event::RequestEnded { request, result: Ok(()) }));
        assert!(!pair.client.is_closed() && !pair.server.is_closed());
    });
}

/// Every kind of end leaves no state in either machine.
#[test]
fn ended_subscriptions_leave_no_state() {
    on_every_draft(|_, mut pair| {
        while pair.sleep_to_deadline() {}
        let before = (pair.client.machine.entries(), pair.server.machine.entries());
        for end in 0..5 {
            pair.client.apply(subscribe(end));
            pair.run_until_idle();
            let event = one(pair.server.take_events());
            let Event::SubscribeRequested { request, .. } = event else { panic!("{event:?}") };
            if end == 0 {
                pair.server.apply(Command::Refuse { request, error: Error::NotFound });
            } else {
                let info = TrackInfo::default();
                pair.server.apply(Command::AcceptSubscribe { request, info, largest: None });
                for sequence in 0..4 {
                    pair.server.source.insert(token(sequence), [Frame::new(0, "frame")]);
                    pair.server.apply(group(request, sequence.into()));
                }
                match end {
                    1 => pair.server.apply(Command::FinishSubscribe { request, end: 4 }),
                    2 => pair.server.apply(Command::Refuse { request, error: Error::App(3) }),
                    3 => pair.client.apply(Command::Unsubscribe { subscription: token(end) }),
                    _ => {
                        pair.run_until_idle();
                        pair.client.apply(Command::Unsubscribe { subscription: token(end) });
                    }
                }
            }
            while pair.sleep_to_deadline() {}
            pair.run_until_idle();
            let ended = pair.client.take_events().into_iter().find_map(|event| match event {
                Event::SubscribeEnded { result, .. } => Some(result),
                _ => None,
            });
            let expected = match end {
                0 => Err(Error::NotFound),
                1 => Ok(None),
                2 => Err(Error::App(3)),
                _ => Err(Error::Cancelled),
            };
            assert_eq!(ended, Some(expected), "end {end}");
            pair.server.take_events();
        }
        let after = (pair.client.machine.entries(), pair.server.machine.entries());
        assert_eq!(before, after);
    });
}

/// Priorities in SUBSCRIBE and on streams are those of the drafts, with 0 the most urgent. A filter is sent
/// only if it says something.
#[test]
fn subscribe_has_priority_order_and_filter() {
    for version in DRAFTS {
        let asked = |want: Subscription| {
            let mut talk = Talk::quiet(Side::Client, version);
            talk.lone.apply(subscribe_with(0, want));
            let stream = talk.control.unwrap_or(talk.lone.own(Dir::Bi, 0));
            let Message::Subscribe(asked) = talk.written_one(stream) else {
                panic!("no SUBSCRIBE")
            };
            assert_eq!((asked.id, &asked.namespace, &*asked.track), (0, &path("demo"), "video"));
            asked.parameters
        };
        let base = Subscription::default();
        let ours = Parameters {
            priority: Some(3),
            order: Some(GroupOrder::Descending),
            ..Parameters::default()
        };
        assert_eq!(asked(base.clone().priority(3)), ours);
        assert_eq!(asked(base.clone().ordered(true)).order, Some(GroupOrder::Ascending));
        let start = Location::new(0, 0);
        assert_eq!(asked(base.clone().start(0)).filter, Some(Filter::From(start)));
        let start = Location::new(300, 0);
        assert_eq!(asked(base.clone().start(300)).filter, Some(Filter::From(start)));
        let range = Filter::Range { start, end_group: 400 };
        assert_eq!(asked(base.start(300).end(400)).filter, Some(range));
    }
    let mut talk = Talk::quiet(Side::Client, Moqt18);
    talk.lone.apply(subscribe_with(0, Subscription::default().priority(255)));
    let sent = talk.lone.sent(talk.lone.own(Dir::Bi, 0));
    assert!(sent.contains("2000"), "SUBSCRIBER_PRIORITY 0: {sent}");
}

/// How filters of the peer are read: groups are sent whole.
#[test]
fn filters_of_the_peer_are_widened_to_groups() {
    for version in DRAFTS {
        let wanted = |parameters| {
            let mut talk = Talk::quiet(Side::Server, version);
            talk.request(|id| subscribe_message_with(id, parameters));
            match one(talk.lone.events()) {
                Event::SubscribeRequested { subscription, .. } => subscription,
                other => panic!("{other:?}"),
            }
        };
        let base = Subscription::default().priority(127).max_age(Duration::MAX);
        let with = |filter| Parameters { filter: Some(filter), ..Parameters::default() };
        assert_eq!(wanted(Parameters::default()), base);
        assert_eq!(wanted(with(Filter::NextObject)), base);
        assert_eq!(wanted(with(Filter::NextGroup)), base);
        let start = Location::new(300, 7);
        assert_eq!(wanted(with(Filter::From(start))), base.clone().start(300));
        let range = Filter::Range { start, end_group: 400 };
        assert_eq!(wanted(with(range)), base.clone().start(300).end(400));
        let parameters = Parameters {
            priority: Some(200),
            order: Some(GroupOrder::Ascending),
            delivery_timeout: Some(ms(250)),
            ..Parameters::default()
        };
        assert_eq!(wanted(parameters), base.clone().priority(200).ordered(true).max_age(ms(250)));
        if version >= Moqt17 {
            let delivery_timeout = Some(Duration::ZERO);
            let parameters = Parameters { delivery_timeout, ..Parameters::default() };
            assert_eq!(wanted(parameters), base, "no timeout");
        }
    }
}

/// FORWARD 0 is refused, and so is a range that ends before it begins.
#[test]
fn empty_ranges_are_refused() {
    let mut talk = Talk::quiet(Side::Server, Moqt16);
    let filter = Some(Filter::Range { start: Location::new(9, 0), end_group: 3 });
    let stream = talk
        .request(|id| subscribe_message_with(id, Parameters { filter, ..Parameters::default() }));
    assert_eq!(talk.written_one(stream), talk.error(0, INVALID_RANGE));
}

/// The answers of a publisher: REQUEST_ERROR before it accepted, PUBLISH_DONE after.
#[test]
fn a_publisher_answers_ok_error_and_done() {
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Server, version);
        let requested = |talk: &mut Talk| match one(talk.lone.events()) {
            Event::SubscribeRequested { request, .. } => request,
            other => panic!("{other:?}"),
        };
        let stream = talk.request(subscribe_message);
        let request = requested(&mut talk);
        talk.lone.apply(Command::Refuse { request, error: Error::Unroutable });
        assert_eq!(talk.written_one(stream), talk.error(0, 0x10));
        assert_eq!(talk.finished(stream), version >= Moqt17);

        let stream = talk.request(subscribe_message);
        let request = requested(&mut talk);
        let info = TrackInfo { priority: 200, ..TrackInfo::default() };
        talk.lone.apply(Command::AcceptSubscribe { request, info: info.clone(), largest: None });
        let Message::SubscribeOk(ok) = talk.written_one(stream) else { panic!("no SUBSCRIBE_OK") };
        assert_eq!((ok.id, ok.alias), (talk.id(2), 2), "the alias is the id of the request");
        assert_eq!(ok.parameters, Parameters::default(), "no largest object");
        let written = TrackProperties {
            max_cache: Some(info.max_age),
            timescale: Some(info.timescale),
            priority: Some(200),
            order: Some(GroupOrder::Descending),
            ..TrackProperties::default()
        };
        let properties = if version >= Moqt17 { written } else { TrackProperties::default() };
        assert_eq!(ok.properties, properties);

        talk.lone.end.source.insert(token(7), [Frame::new(0, "hi"), Frame::new(20_000, "yo")]);
        talk.lone.apply(group(request, 7));
        let data = talk.lone.own(Dir::Uni, u64::from(version >= Moqt17));
        let expected = match version {
            Moqt14 | Moqt15 | Moqt16 => "18 02 07 37 00 02 6869 00 02 796f fin",
            Moqt17 => "19 02 07 37 00 02 1000 02 6869 00 04 10c04e20 02 796f fin",
            _ => "59 02 07 37 00 02 1000 02 6869 00 04 10c04e20 02 796f fin",
        };
        assert_eq!(talk.lone.sent(data).replace(' ', ""), bytes(expected));
        talk.lone.apply(Command::FinishSubscribe { request, end: 8 });
        assert_eq!(talk.written_one(stream), talk.done(2, TRACK_ENDED, 1));

        let stream = talk.request(subscribe_message);
        let request = requested_last(&mut talk);
        talk.lone.apply(Command::AcceptSubscribe { request, info, largest: None });
        talk.written(stream);
        talk.lone.apply(Command::Refuse { request, error: Error::Dropped });
        assert_eq!(talk.written_one(stream), talk.done(4, 0x0, 0));
        assert!(!talk.lone.end.is_closed());
    }
}

fn requested_last(talk: &mut Talk) -> RequestKey {
    match talk.lone.events().pop() {
        Some(Event::SubscribeRequested { request, .. }) => request,
        other => panic!("{other:?}"),
    }
}

/// On 16 the end of a track is not acknowledged, and some peers lose what they have not read when the session
/// closes. So a drain after that end takes its time.
#[test]
fn a_drain_leaves_time_to_read() {
    let mut talk = Talk::quiet(Side::Server, Moqt16);
    talk.request(subscribe_message);
    let request = requested_last(&mut talk);
    talk.lone.apply(Command::AcceptSubscribe {
        request,
        info: TrackInfo::default(),
        largest: None,
    });
    talk.lone.apply(Command::FinishSubscribe { request, end: 0 });
    talk.lone.advance(ms(400));
    talk.lone.apply(Command::Drain);
    talk.lone.advance(ms(500));
    assert!(!talk.lone.end.is_closed());
    // No longer than that: the time for the drain would end later.
    assert_eq!(talk.lone.end.machine.poll_timeout(), Some(Instant::ZERO + ms(1_000)));
    talk.lone.advance(ms(100));
    assert_eq!(talk.lone.closed_with(0x0), Error::SessionClosed);

    let mut talk = Talk::quiet(Side::Server, Moqt16);
    talk.lone.apply(Command::Drain);
    assert!(talk.lone.end.is_closed(), "nothing was left to read");
}

/// A publisher that never sends its last groups is waited for, but not after the application has left.
#[test]
fn an_ended_subscription_leaves_no_timer() {
    for version in EVERY {
        let mut talk = Talk::quiet(Side::Client, version);
        talk.lone.events();
        let before = talk.lone.end.machine.poll_timeout();
        let stream = talk.subscribed(5, TrackProperties::default());
        let done = talk.done(0, TRACK_ENDED, 1);
        talk.send(stream, &done);
        assert_eq!(talk.lone.events(), [], "{version}: a group is missing");
        let straggling = Some(Instant::ZERO + Limits::default().straggler_timeout);
        assert_eq!(talk.lone.end.machine.poll_timeout(), straggling);
        talk.lone.apply(Command::Unsubscribe { subscription: token(0) });
        assert!(matches!(one(talk.lone.events()), Event::SubscribeEnded { .. }));
        assert_eq!(talk.lone.end.machine.poll_timeout(), before, "{version}");
    }
}

/// *FORWARD*: a subscription may begin paused, and be paused at any time. While it is, groups are given up.
#[test]
fn a_paused_subscription_gets_no_groups() {
    for version in EVERY {
        let mut talk = Talk::quiet(Side::Server, version);
        let forward = |forward| Parameters { forward: Some(forward), ..Parameters::default() };
        let stream = talk.request(|id| subscribe_message_with(id, forward(false)));
        let request = requested_last(&mut talk);
        talk.lone.apply(Command::AcceptSubscribe {
            request,
            info: TrackInfo::default(),
            largest: None,
        });
        assert!(matches!(talk.written_one(stream), Message::SubscribeOk(_)));
        let update = |talk: &mut Talk, parameters| {
            let (id, existing) = (talk.next, talk.id(0));
            talk.next += 2;
            talk.send(stream, &Message::RequestUpdate(RequestUpdate { id, existing, parameters }));
            assert_eq!(talk.written(stream).len(), usize::from(version > Moqt14));
            let updated = |it: &Event| matches!(it, Event::SubscribeUpdated { .. });
            assert!(talk.lone.events().iter().any(updated));
        };
        let unsent = |slot| Event::GroupReleased { group: token(slot), sent: false };
        for slot in [5, 6, 7] {
            talk.lone.end.source.push(token(slot), Frame::new(0, "hi"));
        }
        talk.lone.apply(group(request, 5));
        assert_eq!(talk.lone.events(), [unsent(5)], "{version}");

        update(&mut talk, forward(true));
        talk.lone.apply(group(request, 6));
        let data = talk.lone.own(Dir::Uni, u64::from(version >= Moqt17));
        assert!(talk.lone.sent(data).ends_with("6869"), "{version}");

        talk.lone.actions();
        update(&mut talk, forward(false));
        let code = Error::Cancelled.stream_code();
        assert!(talk.lone.actions().contains(&Action::Reset { id: data, code }), "{version}");
        talk.lone.apply(group(request, 7));
        assert_eq!(talk.lone.events(), [unsent(7)], "{version}");
        talk.lone.apply(Command::FinishSubscribe { request, end: 8 });
        assert_eq!(talk.written_one(stream), talk.done(0, TRACK_ENDED, 1), "{version}");
    }
}

/// D22-9-5-1-MUST-357: range filters were not offered, so that an update with one fails, and ends the subscription.
#[test]
fn a_failed_update_ends_the_subscription() {
    for version in [Moqt19, Moqt20, Moqt21, Moqt22] {
        for is_accepted in [true, false] {
            let mut talk = Talk::quiet(Side::Server, version);
            let stream = talk.request(subscribe_message);
            let request = requested_last(&mut talk);
            if is_accepted {
                let info = TrackInfo::default();
                talk.lone.apply(Command::AcceptSubscribe { request, info, largest: None });
                talk.written(stream);
            }
            talk.lone.data(stream, "02 0004 02 01 25 00");
            let failed = talk.error(2, INVALID_FILTER);
            let end = if is_accepted { talk.done(0, UPDATE_FAILED, 0) } else { failed.clone() };
            assert_eq!(talk.written(stream), [failed, end], "{version}");
            assert!(talk.finished(stream));
            let over = Event::RequestEnded { request, result: Err(Error::Unsupported) };
            assert_eq!(talk.lone.events(), [over]);
        }
    }
}

/// REQUEST_UPDATE changes the priority of a subscription, and is answered.
#[test]
fn the_peer_updates_its_subscription() {
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Server, version);
        let stream = talk.request(subscribe_message);
        let request = requested_last(&mut talk);
        talk.lone.apply(Command::AcceptSubscribe {
            request,
            info: TrackInfo::default(),
            largest: None,
        });
        talk.written(stream);
        let update = |talk: &mut Talk, parameters| {
            let (id, existing) = (talk.next, talk.id(0));
            talk.next += 2;
            talk.send(stream, &Message::RequestUpdate(RequestUpdate { id, existing, parameters }));
            talk.written_one(stream)
        };
        let parameters = Parameters { priority: Some(255), ..Parameters::default() };
        let answer = update(&mut talk, parameters);
        let ok = RequestOk { id: talk.id(2), ..RequestOk::default() };
        assert_eq!(answer, Message::RequestOk(ok));
        match one(talk.lone.events()) {
            Event::SubscribeUpdated { subscription, .. } => assert_eq!(subscription.priority, 255),
            other => panic!("{other:?}"),
        }
    }
    // An update of an unknown request (16).
    let mut talk = Talk::quiet(Side::Server, Moqt16);
    let control = talk.control.unwrap();
    let update = RequestUpdate { id: 0, existing: Some(8), ..RequestUpdate::default() };
    talk.send(control, &Message::RequestUpdate(update));
    assert_eq!(talk.written_one(control), talk.error(0, 0x10));
}

/// A peer ends a subscription by UNSUBSCRIBE (16), by a reset of either half (18), or by UNSUBSCRIBE on 18,
/// as some peers still do, which takes effect with FIN. FIN alone ends nothing.
#[test]
fn the_peer_unsubscribes() {
    for (version, end) in [(Moqt16, 0), (Moqt18, 0), (Moqt18, 1), (Moqt18, 2), (Moqt18, 3)] {
        let mut talk = Talk::quiet(Side::Server, version);
        let stream = talk.request(subscribe_message);
        let request = requested_last(&mut talk);
        talk.lone.apply(Command::AcceptSubscribe {
            request,
            info: TrackInfo::default(),
            largest: None,
        });
        match end {
            0 => {
                talk.lone.data(stream, if version < Moqt17 { "0a 0001 00" } else { "0a 0000" });
                assert_eq!(talk.finished(stream), version >= Moqt17);
            }
            1 => talk.lone.reset(stream, 1),
            2 => talk.lone.stop(stream, 1),
            _ => {
                talk.lone.fin(stream, "");
                assert_eq!(talk.lone.events(), []);
                talk.lone.stop(stream, 1);
            }
        }
        let result = Err(Error::Cancelled);
        assert_eq!(talk.lone.events(), [Event::RequestEnded { request, result }]);
    }
}

/// Unsubscribing sends UNSUBSCRIBE (16), or resets both halves (18).
#[test]
fn unsubscribing_resets_both_halves_on_18() {
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Client, version);
        let stream = talk.subscribed(0, TrackProperties::default());
        let actions = talk.lone.actions().len();
        assert_eq!(actions, 0);
        talk.lone.apply(Command::Unsubscribe { subscription: token(0) });
        match version {
            Moqt14 | Moqt15 | Moqt16 => {
                let id = Some(0);
                assert_eq!(talk.written_one(stream), Message::Unsubscribe(Unsubscribe { id }));
            }
            _ => assert_eq!(talk.lone.actions(), [reset(stream, 1), stop(stream, 1)]),
        }
    }
}

/// The ways in which a publisher may end a subscription.
#[test]
fn a_publisher_ends_a_subscription_in_several_ways() {
    let refused = |talk: &Talk, code| talk.error(0, code);
    for version in DRAFTS {
        for (code, error) in [
            (0x10, Error::NotFound),
            (0x1, Error::Unauthorized),
            (0x3, Error::Unsupported),
            (0x2, Error::Timeout),
            (404, Error::App(404 - 64)),
        ] {
            let mut talk = Talk::quiet(Side::Client, version);
            let (stream, _) = talk.subscribe();
            let refusal = refused(&talk, code);
            talk.send(stream, &refusal);
            let (subscription, result) = (token(0), Err(error));
            assert_eq!(talk.lone.events(), [Event::SubscribeEnded { subscription, result }]);
            assert_eq!(talk.written(stream), [], "nothing to withdraw");
        }
        // Statuses, 200 as `moq-lite` 0.16 sends it, without streams to wait for.
        for (status, streams, result, waits) in [
            (TRACK_ENDED, 0, Ok(None), true),
            (0x3, 0, Ok(None), true),
            (200, 0, Ok(None), true),
            (0x0, 0, Err(Error::Internal), false),
            (0x1, 0, Err(Error::Unauthorized), false),
        ] {
            let mut talk = Talk::quiet(Side::Client, version);
            let stream = talk.subscribed(0, TrackProperties::default());
            let done = talk.done(0, status, streams);
            talk.send(stream, &done);
            assert_eq!(talk.lone.events().is_empty(), waits, "{status:#x}");
            if waits {
                talk.lone.advance(Duration::from_secs(1));
            }
            let mut talk_again = Talk::quiet(Side::Client, version);
            let stream = talk_again.subscribed(0, TrackProperties::default());
            let done = talk_again.done(0, status, streams);
            talk_again.send(stream, &done);
            talk_again.lone.advance(Duration::from_secs(1));
            let subscription = token(0);
            assert_eq!(talk_again.lone.events(), [Event::SubscribeEnded { subscription, result }]);
        }
    }
    // A reset before the answer, and FIN without an answer (18).
    for is_reset in [false, true] {
        let mut talk = Talk::quiet(Side::Client, Moqt18);
        let (stream, _) = talk.subscribe();
        if is_reset {
            talk.lone.reset(stream, 1)
        } else {
            talk.lone.fin(stream, "")
        }
        let error = match is_reset {
            true => Error::Cancelled,
            false => Error::ProtocolViolation("FIN without an answer"),
        };
        let (subscription, result) = (token(0), Err(error));
        assert_eq!(talk.lone.events(), [Event::SubscribeEnded { subscription, result }]);
    }
}

/// PUBLISH_DONE has the number of streams; the end waits for them.
#[test]
fn the_end_waits_for_the_streams() {
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Client, version);
        let stream = talk.subscribed(9, TrackProperties::default());
        let done = talk.done(0, TRACK_ENDED, 2);
        talk.send(stream, &done);
        let first = talk.lone.open(Dir::Uni, "18 09 00 80 00 02 6869");
        talk.lone.fin(first, "");
        let events = talk.lone.events();
        assert!(!events.iter().any(|it| matches!(it, Event::SubscribeEnded { .. })), "{events:?}");
        let second = talk.lone.open(Dir::Uni, "18 09 01 80 00 02 6869");
        talk.lone.fin(second, "");
        let (subscription, result) = (token(0), Ok(None));
        let last = talk.lone.events().pop();
        assert_eq!(last, Some(Event::SubscribeEnded { subscription, result }));
    }
}

/// *Track Alias*: an alias names one track; else the session ends with DUPLICATE_TRACK_ALIAS.
// D22-3-1-3-MUST-051
#[test]
fn aliases_are_unique() {
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Client, version);
        let first = talk.subscribed(5, TrackProperties::default());
        talk.lone.apply(subscribe(1));
        let stream = talk.control.unwrap_or(talk.lone.own(Dir::Bi, 1));
        assert_eq!(stream == first, version < Moqt17);
        let ok = SubscribeOk { id: talk.id(2), alias: 5, ..SubscribeOk::default() };
        talk.send(stream, &Message::SubscribeOk(ok));
        talk.closed_with(0x5);
    }
}

/// A group may overtake the SUBSCRIBE_OK that defines its alias. It is held, unread, for a while.
#[test]
fn a_group_waits_for_its_alias() {
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Client, version);
        let (stream, _) = talk.subscribe();
        let data = talk.lone.open(Dir::Uni, "18 09 04 80 00 02 6869");
        assert_eq!(talk.lone.events(), []);
        assert_eq!(talk.lone.end.read_limit(data), 0);
        let ok = SubscribeOk { id: talk.id(0), alias: 9, ..SubscribeOk::default() };
        talk.send(stream, &Message::SubscribeOk(ok));
        assert_eq!(talk.lone.actions(), [Action::Resume { id: data }]);
        let received = Received::of(talk.lone.events());
        assert_eq!(received.groups[&(0, 4)].frames, [(None, 2, b"hi".to_vec())]);

        let mut talk = Talk::quiet(Side::Client, version);
        talk.subscribe();
        let data = talk.lone.open(Dir::Uni, "18 09 04 80 00 02 6869");
        talk.lone.advance(Duration::from_secs(5));
        assert_eq!(talk.lone.actions(), [stop(data, 2)]);
    }
}

/// Streams of a subscription that ended are stopped at once.
#[test]
fn streams_of_retired_aliases_are_stopped() {
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Client, version);
        talk.subscribed(9, TrackProperties::default());
        talk.lone.apply(Command::Unsubscribe { subscription: token(0) });
        talk.lone.actions();
        let data = talk.lone.open(Dir::Uni, "18 09 04 80 00 02 6869");
        assert_eq!(talk.lone.actions(), [stop(data, 1)]);
    }
}

/// *Subgroup Header*: a group is its subgroup 0. Other streams are stopped and counted, and end nothing.
#[test]
fn other_subgroups_are_refused() {
    let refused = [
        "14 09 04 01 80 00 02 6869", // subgroup 1
        "34 09 04 01 00 02 6869",    // the same with the priority of the track
        "12 09 04 80 03 02 6869",    // the subgroup of its first object, which is 3
    ];
    for version in DRAFTS {
        for stream in refused {
            let mut talk = Talk::quiet(Side::Client, version);
            talk.subscribed(9, TrackProperties::default());
            let data = talk.lone.open(Dir::Uni, stream);
            assert_eq!(talk.lone.actions(), [stop(data, 1)], "{stream}");
            let (subscription, sequence) = (token(0), 4);
            assert_eq!(talk.lone.events(), [Event::GroupRefused { subscription, sequence }]);
            let other = talk.lone.open(Dir::Uni, "12 09 05 80 00 02 6869");
            talk.lone.fin(other, "");
            assert_eq!(
                Received::of(informed_events(&mut talk)).groups[&(0, 5)].result,
                Some(Ok(()))
            );
        }
    }
}

/// The track information of a peer that declared no properties.
fn informed_by_peer(slot: u32) -> Event {
    let info = TrackInfo { properties: Some(Properties::NONE), ..TrackInfo::default() };
    Event::TrackInfo { subscription: token(slot), info }
}

/// The events of a subscription, after its track information.
fn informed_events(talk: &mut Talk) -> Vec<Event> {
    let mut events = vec![informed(0)];
    events.extend(talk.lone.events());
    events
}

/// *Object Header*: timestamps are in units of TIMESCALE, and ignored without it. Other properties are
/// kept. An empty object has a status.
#[test]
fn objects_become_frames() {
    for version in DRAFTS {
        for timescale in [None, crate::Timescale::new(90_000)] {
            let mut talk = Talk::quiet(Side::Client, version);
            talk.subscribed(9, TrackProperties { timescale, ..TrackProperties::default() });
            let data = talk.lone.open(Dir::Uni, "19 09 04 80 00 02 1007 02 6869");
            talk.lone.data(data, "00 02 3c02 00 00");
            talk.lone.fin(data, "00 00 01 78");
            let received = Received::of(informed_events(&mut talk));
            let group = &received.groups[&(0, 4)];
            let first = timescale.map(|_| 7);
            let frames = [(first, 2, b"hi".to_vec()), (None, 0, vec![]), (None, 1, b"x".to_vec())];
            assert_eq!(group.frames, frames);
            assert_eq!(group.result, Some(Ok(())));
        }
    }
}

/// A large block of properties is kept. One past the limit ends its group only.
#[test]
fn long_properties_are_kept_up_to_the_limit() {
    let mut talk = Talk::quiet(Side::Client, Moqt18);
    talk.subscribed(9, TrackProperties::default());
    // A property of 3,000 bytes (0x0d), then one of 5,000.
    let block = |len: usize| {
        let head = format!("0d {:02x}{:02x}", 0x80 | len >> 8, len & 0xff);
        let block = bytes(&head) + &"00".repeat(len);
        let len = block.len() / 2;
        format!("{:02x}{:02x}", 0x80 | len >> 8, len & 0xff) + &block
    };
    let data = talk.lone.open(Dir::Uni, "19 09 04 80 00");
    talk.lone.data(data, &block(3000));
    talk.lone.fin(data, "02 6869");
    let data = talk.lone.open(Dir::Uni, "19 09 05 80 00");
    talk.lone.fin(data, &(block(5000) + "026869"));
    let received = Received::of(informed_events(&mut talk));
    assert_eq!(received.groups[&(0, 4)].result, Some(Ok(())));
    assert!(received.groups.get(&(0, 5)).is_none_or(|it| it.result != Some(Ok(()))));
    assert!(!talk.lone.end.is_closed());
}

/// D22-11-1-2-MUST-493: properties of a status close the session, and so do types above 64 bits. D22-12-1-MUST-547: others
/// make the track malformed, which ends its subscription.
#[test]
fn faults_in_properties_end_the_session_or_the_track() {
    let faults = [
        ("00 02 3c02 00 03", true),
        ("00 0c ffffffffffffffffff 00 0100 01 78", true),
        ("00 04 0b000000 01 78", false),
        ("00 04 0b02 0b00 01 78", false),
        ("00 04 3e000000 01 78", false),
    ];
    for version in DRAFTS {
        for (object, closes) in faults {
            for before in ["", "00 00 01 78"] {
                let mut talk = Talk::quiet(Side::Client, version);
                let stream = talk.subscribed(9, TrackProperties::default());
                // Another group of the track.
                let other = talk.lone.open(Dir::Uni, "19 09 03 80 00 00 01 78");
                let data = talk.lone.open(Dir::Uni, "19 09 04 80");
                talk.lone.data(data, before);
                talk.written(stream);
                talk.lone.actions();
                talk.lone.fin(data, object);
                let events = talk.lone.events();
                // Integers of QUIC have no 64 bits.
                let closes = closes && !(version == Moqt16 && object.contains("ff"));
                assert_eq!(talk.lone.end.is_closed(), closes, "{version}: {object}");
                let ended = |it: &Event| matches!(it, Event::GroupEnded { result: Ok(()), .. });
                assert!(!events.iter().any(ended), "{version}: {object}");
                if closes || object.contains("ff") {
                    continue;
                }
                let malformed = Error::Malformed(crate::coding::ietf::MALFORMED);
                let over = Event::SubscribeEnded { subscription: token(0), result: Err(malformed) };
                assert_eq!(events.last(), Some(&over), "{version}: {object}");
                let actions = talk.lone.actions();
                assert!(actions.contains(&stop(other, 0x12)), "{actions:?}");
                match version {
                    Moqt16 => assert!(matches!(talk.written_one(stream), Message::Unsubscribe(_))),
                    _ => assert!(actions.contains(&reset(stream, 1)), "{actions:?}"),
                }
            }
        }
    }
}

/// Gaps in a group, truncated objects, and statuses.
#[test]
fn gaps_and_statuses_end_a_group() {
    let ends = [
        ("00 02 6869 00 00 03", None, Some(Ok(()))), // END_OF_GROUP, without FIN
        ("00 02 6869 01 02 6869", None, Some(Err(Error::Lagged))), // object 1 is missing
        ("00 02 6869 00 09 6869", Some(()), Some(Err(Error::WrongSize))),
        ("00 02 6869", Some(()), Some(Ok(()))),
    ];
    for version in DRAFTS {
        for (objects, fin, result) in ends.clone() {
            let mut talk = Talk::quiet(Side::Client, version);
            talk.subscribed(9, TrackProperties::default());
            let data = talk.lone.open(Dir::Uni, "18 09 04 80");
            match fin {
                Some(()) => talk.lone.fin(data, objects),
                None => talk.lone.data(data, objects),
            }
            let received = Received::of(informed_events(&mut talk));
            assert_eq!(received.groups[&(0, 4)].result, result, "{objects}");
            assert_eq!(received.ended.len(), 0);
        }
        // END_OF_TRACK in a group that does not exist.
        let mut talk = Talk::quiet(Side::Client, version);
        let stream = talk.subscribed(9, TrackProperties::default());
        talk.lone.open(Dir::Uni, "18 09 0a 80 00 00 04");
        assert_eq!(talk.lone.events(), []);
        let done = talk.done(0, TRACK_ENDED, 1);
        talk.send(stream, &done);
        let (subscription, result) = (token(0), Ok(Some(10)));
        assert_eq!(talk.lone.events(), [Event::SubscribeEnded { subscription, result }]);
    }
}

/// An unknown mandatory property refuses the track (18).
// D22-3-7-MUST-092
#[test]
fn mandatory_properties_refuse_the_track() {
    let mut talk = Talk::quiet(Side::Client, Moqt18);
    let (stream, _) = talk.subscribe();
    // SUBSCRIBE_OK, alias 9, no parameters, property 0x4000 = 1.
    talk.lone.data(stream, "04 0006 09 00 c04000 01");
    let (subscription, result) = (token(0), Err(Error::UnknownProperty));
    assert_eq!(talk.lone.events(), [Event::SubscribeEnded { subscription, result }]);
    assert!(!talk.lone.end.is_closed());
}

/// D22-8-3-MUST-251: a priority above 255 and a timescale of 0 are no values of their types: KEY_VALUE_FORMATTING_ERROR. An
/// order that does not exist has a rule of its own.
#[test]
fn values_that_do_not_fit_their_types_close_the_session() {
    for (properties, code) in [("0e 812c", 0x6), ("08 00", 0x6), ("22 03", 0x3), ("30 02", 0x3)] {
        for version in [Moqt18, Moqt22] {
            let mut talk = Talk::quiet(Side::Client, version);
            let (stream, _) = talk.subscribe();
            let body = format!("09 00 {properties}");
            talk.lone.data(stream, &format!("04 {:04x} {body}", hex(&body).len()));
            talk.closed_with(code);
        }
    }
}

pub(super) fn publish(id: u64, alias: u64) -> Message {
    let (namespace, track) = (path("demo"), "video".into());
    let (parameters, properties) = Default::default();
    Message::Publish(Publish { id, namespace, track, alias, parameters, properties })
}

/// *PUBLISH* is accepted without forwarding, and its broadcast is reported. A subscription is served by it,
/// and the end of the subscription stops forwarding.
#[test]
fn a_published_track_serves_subscriptions() {
    for version in DRAFTS {
        let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(interested(Side::Server, version), setup);
        let stream = talk.request(|id| publish(id, 77));
        let request = match one(talk.lone.events()) {
            Event::TrackOffered { request, broadcast, track, .. } => {
                assert_eq!((broadcast, &*track), (path("demo"), "video"));
                request
            }
            other => panic!("{other:?}"),
        };
        // Streams before forwarding are not held.
        let data = talk.lone.open(Dir::Uni, "18 404d 04 80 00 02 6869");
        if version < Moqt17 {
            assert_eq!(talk.lone.actions(), [stop(data, 1)]);
        }
        talk.lone.apply(Command::AcceptOffer { request });
        let parameters = Parameters { forward: Some(false), ..Parameters::default() };
        let ok =
            RequestOk { id: talk.id(0), parameters: parameters.clone(), ..RequestOk::default() };
        let accepted = match version {
            Moqt14 | Moqt15 | Moqt16 | Moqt17 => vec![Message::PublishOk(ok)],
            Moqt18 | Moqt19 => vec![Message::RequestOk(ok)],
            // The answer can't say FORWARD 0. An update follows.
            _ => vec![
                Message::RequestOk(RequestOk::default()),
                Message::RequestUpdate(RequestUpdate { id: 3, existing: None, parameters }),
            ],
        };
        assert_eq!(talk.written(stream), accepted, "{version}");
        let hops = [Hop::UNKNOWN].into_iter().collect();
        let announced = Event::Announced { path: path("demo"), hops, cost: Cost::UNKNOWN };
        assert_eq!(talk.lone.events(), [announced]);

        let update = |talk: &mut Talk| match talk.written_one(stream) {
            Message::RequestUpdate(it) => {
                assert_eq!(it.existing, talk.id(0));
                it.parameters.forward
            }
            other => panic!("{other:?}"),
        };
        talk.lone.apply(subscribe(0));
        assert_eq!(update(&mut talk), Some(true));
        assert_eq!(talk.lone.events(), [informed_by_peer(0)]);
        let alias = if version < Moqt17 { "404d" } else { "4d" };
        let data = talk.lone.open(Dir::Uni, &format!("18 {alias} 05 80 00 02 6869"));
        talk.lone.fin(data, "");
        let received = Received::of(informed_events(&mut talk));
        assert_eq!(received.groups[&(0, 5)].result, Some(Ok(())));

        talk.lone.apply(Command::Unsubscribe { subscription: token(0) });
        assert_eq!(update(&mut talk), Some(false));
        talk.lone.events();
        talk.lone.apply(subscribe(0));
        assert_eq!(update(&mut talk), Some(true));
        let done = talk.done(0, TRACK_ENDED, 1);
        talk.send(stream, &done);
        let gone = Event::Unannounced { path: path("demo") };
        let events = talk.lone.events();
        assert!(events.contains(&gone), "{events:?}");
        talk.lone.advance(Duration::from_secs(1));
        let (subscription, result) = (token(0), Ok(None));
        assert_eq!(talk.lone.events(), [Event::SubscribeEnded { subscription, result }]);
    }
}

/// Cloudflare `moq-transport` 0.17, see `coding::ietf::quirks`.
#[test]
fn offers_of_cloudflare_are_not_paused() {
    let names = [None, Some("aiomoqt")];
    for (version, name) in [Moqt16, Moqt18].into_iter().flat_map(|it| names.map(|name| (it, name)))
    {
        let implementation = name.map(Into::into);
        let setup = Setup { max_request_id: 1_000, implementation, ..Setup::default() };
        let mut talk = Talk::with(interested(Side::Server, version), setup);
        talk.lone.events();
        let stream = talk.request(|id| publish(id, 77));
        let Event::TrackOffered { request, .. } = one(talk.lone.events()) else { panic!() };
        talk.lone.apply(Command::AcceptOffer { request });
        let (Message::RequestOk(ok) | Message::PublishOk(ok)) = talk.written_one(stream) else {
            panic!()
        };
        assert_eq!(ok.parameters.forward, Some(name.is_none()));
        talk.lone.events();
        // Without a subscription the groups are stopped as they arrive.
        let alias = if version < Moqt17 { "404d" } else { "4d" };
        let early = talk.lone.open(Dir::Uni, &format!("18 {alias} 04 80 00 02 6869"));
        talk.lone.advance(Duration::from_secs(60));
        assert_eq!(talk.lone.actions(), [stop(early, 1)]);
        for slot in 0..3 {
            talk.lone.apply(subscribe(slot));
            assert_eq!(talk.written(stream).len(), usize::from(name.is_some()));
            let data =
                talk.lone.open(Dir::Uni, &format!("18 {alias} {:02x} 80 00 02 6869", 5 + slot));
            talk.lone.fin(data, "");
            let events = talk.lone.events();
            assert!(events.iter().any(|it| matches!(it, Event::Group { .. })), "{events:?}");
            talk.lone.apply(Command::Unsubscribe { subscription: token(slot) });
            assert_eq!(talk.written(stream).len(), usize::from(name.is_some()));
            talk.lone.events();
        }
    }
}

/// STOP_SENDING of the publisher may come before its PUBLISH_DONE (Cloudflare `moq-transport` 0.17, in one packet).
#[test]
fn an_offer_ends_as_its_publisher_says_although_it_reads_no_more() {
    for version in DRAFTS.into_iter().filter(|it| *it >= Moqt17) {
        for fin in [false, true] {
            let setup = Setup { solicit: true, ..Setup::default() };
            let mut talk = Talk::with(interested(Side::Server, version), setup);
            let stream = talk.request(|id| publish(id, 77));
            let Event::TrackOffered { request, .. } = one(talk.lone.events()) else { panic!() };
            talk.lone.apply(Command::AcceptOffer { request });
            talk.lone.apply(subscribe(0));
            talk.lone.events();
            talk.lone.handle(Input::Stopped { id: stream, code: Code::new(0) });
            assert_eq!(talk.lone.events(), []);
            if fin {
                talk.lone.fin(stream, "");
            } else {
                let done = talk.done(0, TRACK_ENDED, 0);
                talk.lone.fin(stream, &wire(version, &done));
            }
            let events = talk.lone.events();
            let ended = |event: &Event| matches!(event, Event::RequestEnded { result, .. } if result.is_ok() != fin);
            assert!(events.iter().any(ended), "{events:?}");
        }
    }
}

/// An offer may be refused by the application, or because announcements are not wanted.
#[test]
fn an_offer_is_refused() {
    for version in DRAFTS {
        let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(interested(Side::Server, version), setup);
        let stream = talk.request(|id| publish(id, 77));
        let request = match one(talk.lone.events()) {
            Event::TrackOffered { request, .. } => request,
            other => panic!("{other:?}"),
        };
        talk.lone.apply(Command::Refuse { request, error: Error::Unauthorized });
        assert_eq!(talk.written_one(stream), talk.error(0, 0x1));
        // The alias is free again.
        talk.request(|id| publish(id, 77));
        assert_eq!(talk.lone.events().len(), 1);

        let mut talk = Talk::quiet(Side::Server, version);
        let stream = talk.request(|id| publish(id, 77));
        assert_eq!(talk.written_one(stream), talk.error(0, UNINTERESTED));
    }
}

/// *MAX_REQUEST_ID* (16): an update uses an id too, and no id is used that the peer did not grant.
#[test]
fn an_offer_is_not_used_without_credit() {
    let setup = Setup { max_request_id: 5, solicit: true, ..Setup::default() };
    let mut talk = Talk::with(interested(Side::Server, Moqt16), setup);
    let stream = talk.request(|id| publish(id, 77));
    let request = match one(talk.lone.events()) {
        Event::TrackOffered { request, .. } => request,
        other => panic!("{other:?}"),
    };
    talk.lone.apply(Command::AcceptOffer { request });
    talk.lone.events();
    talk.written(stream);
    // Id 1 was used for SUBSCRIBE_NAMESPACE, and 3 starts forwarding. None is left to stop it.
    let ids = |talk: &mut Talk| -> Vec<u64> {
        let id = |message| match message {
            Message::RequestUpdate(it) => it.id,
            other => panic!("{other:?}"),
        };
        talk.written(stream).into_iter().map(id).collect()
    };
    talk.lone.apply(subscribe(0));
    assert_eq!(ids(&mut talk), [3]);
    assert_eq!(talk.lone.events(), [informed_by_peer(0)]);
    talk.lone.apply(Command::Unsubscribe { subscription: token(0) });
    assert_eq!(ids(&mut talk), []);
    talk.lone.events();
    talk.lone.apply(subscribe(1));
    assert_eq!(ids(&mut talk), []);
    let (subscription, result) = (token(1), Err(Error::Limit(LimitKind::Requests)));
    assert_eq!(talk.lone.events(), [Event::SubscribeEnded { subscription, result }]);
    talk.send(stream, &Message::MaxRequestId(100));
    talk.lone.apply(subscribe(2));
    assert_eq!(ids(&mut talk), [5]);
}

/// A subscriber that starts and stops forwarding again and again leaves no state.
#[test]
fn updates_of_an_offer_are_not_remembered() {
    for version in DRAFTS {
        let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(interested(Side::Server, version), setup);
        talk.request(|id| publish(id, 77));
        let request = match one(talk.lone.events()) {
            Event::TrackOffered { request, .. } => request,
            other => panic!("{other:?}"),
        };
        talk.lone.apply(Command::AcceptOffer { request });
        let mut entries = Vec::new();
        for slot in 0..10 {
            talk.lone.apply(subscribe(slot));
            talk.lone.apply(Command::Unsubscribe { subscription: token(slot) });
            talk.lone.events();
            entries.push(talk.lone.end.machine.entries());
        }
        // Names of aliases stay, but they are the same.
        assert_eq!(entries[1], entries[9], "{entries:?}");
    }
}

/// *Control Messages* (16): the client opens the control stream. Earlier requests of the server wait for it,
/// and for ids.
#[test]
fn a_server_may_request_before_the_clients_set_up() {
    for version in DRAFTS {
        for link in links() {
            let mut pair = join(config(Side::Client, version), config(Side::Server, version), link);
            pair.server.apply(subscribe(0));
            pair.server.apply(subscribe(1));
            pair.server.apply(Command::Unsubscribe { subscription: token(0) });
            pair.run_until_idle();
            let asked = pair.client.take_events().into_iter();
            let asked = asked.filter(|it| matches!(it, Event::SubscribeRequested { .. })).count();
            assert_eq!(asked, 1, "{version}");
            assert!(!pair.client.is_closed() && !pair.server.is_closed(), "{version}");
        }
    }
}
