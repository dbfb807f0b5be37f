//! FETCH, at both ends (moq-lite-06, 5.1.3 and 7.16).

use super::*;
use crate::LimitKind;

pub(super) fn fetch(slot: u32) -> Command {
    fetch_frames(slot, 0, None)
}

/// The client fetches frames of group 7 of the track `video` of `demo`.
pub(super) fn fetch_frames(slot: u32, first_frame: u64, last_frame: Option<u64>) -> Command {
    Command::Fetch {
        fetch: token(slot),
        broadcast: path("demo"),
        track: "video".into(),
        priority: 2,
        sequence: 7,
        first_frame,
        last_frame,
    }
}

pub(super) fn accept(request: RequestKey, slot: u32) -> Command {
    let (group, info) = (token(slot), TrackInfo::default());
    Command::AcceptFetch { request, group, info, frames: None, ends_track: false }
}

pub(super) fn request_of(events: Vec<Event>) -> RequestKey {
    match one(events) {
        Event::FetchRequested { request, .. } => request,
        other => panic!("{other:?}"),
    }
}

/// The fetched groups that the application received, by slot.
pub(super) fn received(events: Vec<Event>) -> Received {
    let mut received = Received { informed: (0..10).collect(), ..Received::default() };
    received.record(
        events
            .into_iter()
            .map(|event| match event {
                Event::FetchStarted { fetch: subscription, group } => {
                    Event::Group { subscription, group, sequence: 7, first_frame: 0 }
                }
                Event::FetchEnded { fetch: subscription, result } => {
                    Event::SubscribeEnded { subscription, result: result.map(|()| None) }
                }
                other => other,
            })
            .collect(),
    );
    received
}

pub(super) fn ended(slot: u32, error: Error) -> Event {
    Event::FetchEnded { fetch: token(slot), result: Err(error) }
}

pub(super) fn frames() -> [Frame; 4] {
    let large = vec![9; 3_000];
    [Frame::new(1000, "hello"), Frame::new(1040, large), Frame::new(1020, ""), Frame::new(3, "x")]
}

/// The number of requests and groups, without the deadline of the handshake.
fn nothing_is_left(end: &Bare<Shelf>) {
    assert_eq!(end.machine.entries(), end.machine.bare.core.timers.len(), "{:?}", end.machine);
}

fn fetches(version: Version) -> bool {
    Features::of(version).fetch
}

#[test]
fn a_group_is_fetched_whole() {
    on_every_link(|version, link| {
        let mut pair = pair(version, link);
        pair.client.apply(fetch(3));
        pair.run_until_idle();
        if !fetches(version) {
            assert_eq!(pair.client.take_events(), [ended(3, Error::Unsupported)]);
            // 01 and 02 use one stream for set-up.
            let streams = usize::from(version <= Lite02);
            assert_eq!(
                (pair.server.take_events(), pair.streams(Side::Client, Dir::Bi)),
                (vec![], streams)
            );
            return;
        }
        let request = match one(pair.server.take_events()) {
            Event::FetchRequested { request, broadcast, track, priority, sequence, .. } => {
                assert_eq!((broadcast, &*track, priority, sequence), (path("demo"), "video", 2, 7));
                request
            }
            other => panic!("{other:?}"),
        };
        // The answer begins before the group is complete.
        pair.server.source.push(token(0), frames()[0].clone());
        pair.server.apply(accept(request, 0));
        pair.run_until_idle();
        let mut events = pair.client.take_events();
        assert!(matches!(events[..2], [Event::FetchStarted { .. }, Event::Frame { .. }]));
        pair.server.source.insert(token(0), frames()[1..].to_vec());
        pair.server.apply(Command::GroupReady { request, sequence: 7 });
        pair.run_until_idle();
        events.extend(pair.client.take_events());
        let received = received(events);
        assert_eq!(received.groups[&(3, 7)], whole(version, &frames()));
        assert_eq!(received.ended[&3], Ok(None));
        let released = Event::GroupReleased { group: token(0), sent: true };
        let over = Event::RequestEnded { request, result: Ok(()) };
        assert_eq!(pair.server.take_events(), [released, over]);
        assert_eq!(pair.streams(Side::Client, Dir::Bi), 0);
        for end in [&pair.client, &pair.server] {
            nothing_is_left(end);
        }
    });
}

/// Requests as the golden bytes have them, and the answers byte by byte.
#[test]
fn the_answer_is_bare_frames_on_the_stream_of_the_request() {
    let asks = [
        (Lite05, "03 11 08 64656d6f2f626262 05 766964656f 02 07", (0, None)),
        (Lite06, "03 13 08 64656d6f2f626262 05 766964656f 02 07 00 00", (0, None)),
        (Lite06, "03 13 08 64656d6f2f626262 05 766964656f 02 07 01 03", (1, Some(2))),
        (Lite06, "03 13 08 64656d6f2f626262 05 766964656f 02 07 02 00", (2, None)),
        (Lite06, "03 13 08 64656d6f2f626262 05 766964656f 02 07 04 00", (4, None)),
    ];
    for (version, bytes_in, (first, last)) in asks {
        for as_wire in [true, false] {
            for early_fin in [true, false] {
                let mut lone = Lone::ready(Side::Server, version);
                lone.end.source.as_wire = as_wire;
                let id = lone.open(Dir::Bi, bytes_in);
                if early_fin {
                    // The draft says FIN here. The deployed peers keep the stream open.
                    lone.fin(id, "");
                }
                let request = match one(lone.events()) {
                    Event::FetchRequested { request, first_frame, last_frame, .. } => {
                        assert_eq!((first_frame, last_frame), (first, last));
                        request
                    }
                    other => panic!("{other:?}"),
                };
                let frame = |at: u64| Frame::new(20 + at, vec![0x61 + at as u8]);
                lone.end.source.insert(token(0), (0..4).map(frame));
                lone.apply(accept(request, 0));
                let answer = match first {
                    0 => "28 01 61 02 01 62 02 01 63 02 01 64",
                    1 => "2a 01 62 02 01 63",
                    2 => "2c 01 63 02 01 64",
                    _ => "",
                };
                assert_eq!(lone.sent(id), bytes(answer) + " fin", "{version} {bytes_in}");
                assert_eq!(lone.priorities[&id], 2 << 8 | 127, "the priority of a group");
                assert_eq!(lone.events().len(), 2);
                if !early_fin {
                    lone.fin(id, "");
                }
                assert_eq!((lone.actions(), lone.events()), (vec![], vec![]));
                nothing_is_left(&lone.end);
            }
        }
    }
}

/// A range ends with its last frame, whether the cache has later frames, will have them, or evicted them.
#[test]
fn a_range_ends_with_its_last_frame() {
    for more in [Some(Ok(())), Some(Err(Error::Old)), None] {
        let mut lone = Lone::ready(Side::Server, Lite06);
        let id = lone.open(Dir::Bi, "03 13 08 64656d6f2f626262 05 766964656f 02 07 00 01");
        let request = request_of(lone.events());
        lone.end.source.push(token(0), Frame { size: 2, ..Frame::new(0, "a") });
        lone.apply(accept(request, 0));
        assert_eq!(lone.sent(id), bytes("00 02 61"));
        lone.end.source.extend(token(0), "b");
        lone.end.source.push(token(0), Frame::new(0, "c"));
        lone.end.apply(Command::GroupReady { request, sequence: 7 });
        // QUIC takes all bytes, but not FIN.
        let mut write = lone.end.poll_write().unwrap();
        assert!(write.fin());
        assert_eq!((digits(&write.chunks().concat()), write.len()), (bytes("62"), 1));
        write.blocked(1);
        if let Some(end) = more {
            lone.end.source.end(token(0), end);
        }
        lone.handle(Input::Writable { id });
        assert_eq!(lone.sent(id), " fin");
        assert_eq!(lone.events()[1], Event::RequestEnded { request, result: Ok(()) });
    }
}

#[test]
fn ranges_need_a_version_that_can_encode_them() {
    for (version, result) in [(Lite05, Err(Error::Unsupported)), (Lite06, Ok(()))] {
        for bounds in [(1, None), (0, Some(0)), (1, Some(2))] {
            let mut pair = pair(version, Link::wide(1));
            pair.client.apply(fetch_frames(0, bounds.0, bounds.1));
            pair.run_until_idle();
            if let Err(error) = &result {
                assert_eq!(pair.client.take_events(), [ended(0, error.clone())]);
                nothing_is_left(&pair.client);
                continue;
            }
            let request = request_of(pair.server.take_events());
            pair.server.source.insert(token(0), frames());
            pair.server.apply(accept(request, 0));
            pair.run_until_idle();
            let received = received(pair.client.take_events());
            let last = bounds.1.map_or(4, |last| last as usize + 1);
            let expected = whole(version, &frames()[bounds.0 as usize..last]);
            assert_eq!(received.groups[&(0, 7)], expected);
        }
    }
    // A range whose end is before its start can't be encoded.
    let mut lone = Lone::ready(Side::Client, Lite06);
    lone.apply(fetch_frames(0, 2, Some(1)));
    let error = Error::Unrepresentable("frame end before frame start");
    assert_eq!(lone.events(), [ended(0, error)]);
    let mut lone = Lone::ready(Side::Server, Lite06);
    let id = lone.open(Dir::Bi, "03 13 08 64656d6f2f626262 05 766964656f 02 07 02 02");
    assert_eq!(lone.actions(), [reset(id, 0x12), stop(id, 0x12)]);
}

#[test]
fn a_refusal_arrives_with_its_code() {
    on_every_link(|version, link| {
        if !fetches(version) {
            return;
        }
        let mut pair = pair(version, link);
        let errors = [Error::NotFound, Error::Old, Error::SessionClosed, Error::App(3)];
        for (slot, error) in errors.into_iter().enumerate() {
            pair.client.apply(fetch(slot as u32));
            pair.run_until_idle();
            let request = request_of(pair.server.take_events());
            pair.server.apply(Command::Refuse { request, error: error.clone() });
            // Only the first answer counts.
            pair.server.apply(accept(request, 0));
            pair.run_until_idle();
            assert_eq!(pair.client.take_events(), [ended(slot as u32, error)]);
            let unsent = Event::GroupReleased { group: token(0), sent: false };
            assert_eq!(pair.server.take_events(), [unsent]);
        }
        for end in [&pair.client, &pair.server] {
            nothing_is_left(end);
        }
    });
}

/// A group that is lost while it is sent is reset, never finished.
#[test]
fn an_incomplete_answer_is_reset() {
    on_every_link(|version, link| {
        if !fetches(version) {
            return;
        }
        for refused in [true, false] {
            let mut pair = pair(version, link.clone());
            pair.client.apply(fetch(0));
            pair.run_until_idle();
            let request = request_of(pair.server.take_events());
            pair.server.source.push(token(0), frames()[0].clone());
            pair.server.apply(accept(request, 0));
            pair.run_until_idle();
            let mut events = pair.client.take_events();
            if refused {
                pair.server.apply(Command::Refuse { request, error: Error::Evicted });
            } else {
                pair.server.source.end(token(0), Err(Error::Evicted));
                pair.server.apply(Command::GroupReady { request, sequence: 7 });
            }
            pair.run_until_idle();
            events.extend(pair.client.take_events());
            let received = received(events);
            assert_eq!(received.groups[&(0, 7)].result, Some(Err(Error::Evicted)));
            assert_eq!(received.ended[&0], Err(Error::Evicted));
            let unsent = Event::GroupReleased { group: token(0), sent: false };
            assert_eq!(pair.server.take_events()[0], unsent);
            for end in [&pair.client, &pair.server] {
                nothing_is_left(end);
            }
        }
    });
}

/// A subscriber may withdraw a fetch at any time.
#[test]
fn a_fetch_can_be_withdrawn_at_any_time() {
    on_every_link(|version, link| {
        if !fetches(version) {
            return;
        }
        for steps in [0, 1, 5, 20, 50, 1_000] {
            for accepts in [true, false] {
                let mut pair = pair(version, link.clone());
                pair.run_until_idle();
                pair.client.apply(fetch(0));
                let mut request = None;
                if accepts {
                    pair.run_until_idle();
                    let key = request_of(pair.server.take_events());
                    pair.server.source.insert(token(0), frames());
                    pair.server.apply(accept(key, 0));
                    request = Some(key);
                }
                pair.steps(steps);
                pair.client.apply(Command::CancelFetch { fetch: token(0) });
                pair.client.apply(Command::CancelFetch { fetch: token(0) });
                pair.run_until_idle();
                let received = received(pair.client.take_events());
                let result = &received.ended[&0];
                assert!(matches!(result, Ok(None) | Err(Error::Cancelled)), "{result:?}");
                assert!(received.groups.values().all(|group| group.result.is_some()));
                // The publisher is told once that the request ended.
                let events = pair.server.take_events();
                let over = |event: &&Event| matches!(event, Event::RequestEnded { .. });
                let asked = request.is_some()
                    || events.iter().any(|event| matches!(event, Event::FetchRequested { .. }));
                assert_eq!(events.iter().filter(over).count(), usize::from(asked), "{events:?}");
                let released = |event: &&Event| matches!(event, Event::GroupReleased { .. });
                assert_eq!(events.iter().filter(released).count(), usize::from(accepts));
                for end in [&pair.client, &pair.server] {
                    nothing_is_left(end);
                }
            }
        }
    });
}

/// Stopping a fetched group ends its request.
#[test]
fn a_fetched_group_can_be_stopped() {
    let mut lone = Lone::ready(Side::Client, Lite06);
    lone.apply(fetch(0));
    let id = lone.own(Dir::Bi, 0);
    assert_eq!(lone.sent(id), bytes("03 0f 04 64656d6f 05 766964656f 02 07 00 00"));
    lone.data(id, "00 05 61");
    let Event::FetchStarted { group, .. } = lone.events()[0] else { panic!() };
    lone.apply(Command::StopGroup { group, error: Error::Old });
    assert_eq!(lone.events(), [ended(0, Error::Old)]);
    let mut actions = lone.actions();
    actions.sort_by_key(|action| matches!(action, Action::Stop { .. }));
    assert_eq!(actions, [reset(id, 0x34), stop(id, 0x34)]);
    lone.data(id, "62 63");
    assert_eq!(lone.events(), []);
    nothing_is_left(&lone.end);
}

/// An answer is limited like a group, and by the requested range.
#[test]
fn an_answer_is_limited_like_a_group_and_by_its_range() {
    let cases = [
        ((0, None), "00 06 616161616161", Error::FrameTooLarge),
        ((0, None), "00 01 61 00 01 61 00 01 61 00 01 61", Error::GroupTooLarge),
        ((3, Some(4)), "00 01 61 00 01 61 00 01 61", Error::GroupTooLarge),
        ((0, None), "01 01 61", Error::Malformed(DecodeError::BoundsExceeded)),
    ];
    for ((first, last), bytes, error) in cases {
        let mut config = config(Side::Client, Lite06);
        (config.limits.frame_bytes, config.limits.group_frames) = (5, 3);
        let mut lone = Lone::ready_with(config);
        lone.apply(fetch_frames(0, first, last));
        let id = lone.own(Dir::Bi, 0);
        lone.data(id, bytes);
        let received = received(lone.events());
        assert_eq!(received.ended[&0], Err(error.clone()));
        assert_eq!(received.groups[&(0, 7)].result, Some(Err(error.clone())));
        assert_eq!(lone.actions().len(), 2, "RESET and STOP");
        nothing_is_left(&lone.end);
    }
    // The range ends in the middle of a frame, and before the first one.
    for (bytes, result) in [("00 02 61", Err(Error::WrongSize)), ("", Ok(None))] {
        let mut lone = Lone::ready(Side::Client, Lite06);
        lone.apply(fetch(0));
        lone.fin(lone.own(Dir::Bi, 0), bytes);
        assert_eq!(received(lone.events()).ended[&0], result);
        nothing_is_left(&lone.end);
    }
}

/// Nothing may follow FETCH.
#[test]
fn bytes_after_fetch_are_malformed() {
    for accepts in [true, false] {
        let mut lone = Lone::ready(Side::Server, Lite06);
        let id = lone.open(Dir::Bi, "03 13 08 64656d6f2f626262 05 766964656f 02 07 00 00");
        let request = request_of(lone.events());
        if accepts {
            lone.end.source.begin(token(0));
            lone.apply(accept(request, 0));
        }
        lone.data(id, "00");
        assert_eq!(lone.actions(), [reset(id, 0x12), stop(id, 0x12)]);
        let error = Error::Malformed(DecodeError::TrailingBytes);
        let over = Event::RequestEnded { request, result: Err(error) };
        assert!(lone.events().contains(&over));
        nothing_is_left(&lone.end);
    }
}

/// Fetched groups are scheduled like others.
#[test]
fn fetched_groups_have_priorities_like_others() {
    for (priority, fetched_first) in [("c8", true), ("01", false)] {
        let mut lone = Lone::ready(Side::Server, Lite06);
        lone.open(Dir::Bi, "02 09 00 00 00 7f 00 00 00 00 00");
        let Event::SubscribeRequested { request, .. } = one(lone.events()) else { panic!() };
        lone.apply(Command::AcceptSubscribe { request, info: TrackInfo::default(), largest: None });
        let ask = format!("03 13 08 64656d6f2f626262 05 766964656f {priority} 07 00 00");
        let id = lone.open(Dir::Bi, &ask);
        let fetch = request_of(lone.events());
        for slot in [0, 1] {
            lone.end.source.insert(token(slot), [Frame::new(0, "x")]);
        }
        lone.end.apply(group(request, 0));
        lone.end.apply(accept(fetch, 1));
        let open = lone.end.poll_open().unwrap();
        let group = StreamId::new(Side::Server, Dir::Uni, 1);
        open.opened(group);
        let mut order = vec![];
        while let Some(write) = lone.end.poll_write() {
            order.push(write.id());
            let n = write.len();
            write.accepted(n);
        }
        assert_eq!(order, if fetched_first { [id, group] } else { [group, id] });
    }
}

#[test]
fn fetches_count_as_requests_at_both_ends() {
    let mut few = config(Side::Client, Lite06);
    few.limits.requests = 2;
    let mut lone = Lone::ready_with(few);
    for slot in [0, 1, 1] {
        lone.apply(fetch(slot));
    }
    lone.apply(fetch(2));
    let refused =
        [ended(1, Error::Limit(LimitKind::Requests)), ended(2, Error::Limit(LimitKind::Requests))];
    assert_eq!(lone.events(), refused);
    lone.apply(Command::CancelFetch { fetch: token(0) });
    lone.apply(fetch(1));
    assert_eq!(lone.events(), [ended(0, Error::Cancelled), ended(1, Error::Duplicate)]);

    let mut few = config(Side::Server, Lite06);
    few.limits.requests = 1;
    let mut lone = Lone::ready_with(few);
    let ask = "03 13 08 64656d6f2f626262 05 766964656f 02 07 00 00";
    let first = lone.open(Dir::Bi, ask);
    let second = lone.open(Dir::Bi, ask);
    assert_eq!(lone.actions(), [reset(second, 0x30), stop(second, 0x30)]);
    let request = request_of(lone.events());
    lone.reset(first, 1);
    let over = Event::RequestEnded { request, result: Err(Error::Cancelled) };
    assert_eq!(lone.events(), [over]);
    lone.actions();
    lone.open(Dir::Bi, ask);
    request_of(lone.events());
}

/// An answer that is not read is held by flow control, like any group.
#[test]
fn an_answer_that_is_not_read_is_held() {
    for version in [Lite05, Lite06] {
        let mut pair = pair(version, Link::perfect());
        pair.client.apply(fetch(0));
        pair.run_until_idle();
        let request = request_of(pair.server.take_events());
        pair.client.room = 1;
        let many = vec![Frame::new(0, vec![1; 90_000]); 40];
        pair.server.source.insert(token(0), many.clone());
        pair.server.apply(accept(request, 0));
        let mut events = vec![];
        loop {
            pair.run_until_idle();
            assert!(pair.client.machine.bare.core.recv_streams.buffered() <= 3 * (64 << 10));
            match pair.client.take_events() {
                none if none.is_empty() => break,
                some => events.extend(some),
            }
        }
        assert_eq!(received(events).groups[&(0, 7)], whole(version, &many));
    }
}

#[test]
fn nothing_is_fetched_from_a_peer_that_leaves() {
    let mut lone = Lone::ready(Side::Client, Lite06);
    lone.open(Dir::Bi, "05 01 00");
    lone.apply(fetch(0));
    assert_eq!(lone.events().pop(), Some(ended(0, Error::GoingAway)));

    // Frames before the end are reported, and then the end.
    let mut lone = Lone::ready(Side::Client, Lite06);
    lone.apply(fetch(0));
    let id = lone.own(Dir::Bi, 0);
    lone.end.handle(Instant::ZERO, Input::Data { id, bytes: hex("00 01 61 00"), fin: false });
    lone.handle(Input::Closed { error: Error::Timeout });
    let events = lone.events();
    assert!(
        matches!(
            events[..],
            [
                Event::FetchStarted { .. },
                Event::Frame { .. },
                Event::Closed { error: Error::Timeout }
            ]
        ),
        "{events:?}"
    );
}
