//! FETCH of one group, at both ends (*Fetch*, *FETCH*, *FETCH_OK*, *Fetch Header*).

use super::super::fetch::*;
use super::*;

/// A pair on each draft, over links of every kind.
fn on_all_nine(test: impl Fn(Version, Peers)) {
    for version in EVERY {
        for link in links() {
            println!("{version} {link:?}");
            let mut pair = pair(version, link);
            pair.run_until_idle();
            // The unsolicited announcements.
            drop((pair.client.take_events(), pair.server.take_events()));
            test(version, pair);
        }
    }
}

pub(super) fn complete(request: RequestKey, slot: u32, frames: u64) -> Command {
    let (group, info) = (token(slot), TrackInfo::default());
    Command::AcceptFetch { request, group, info, frames: Some(frames), ends_track: false }
}

/// The frames of a group, as the other end receives them. Up to 16 no timestamps are written.
fn arrived(version: Version, frames: &[Frame]) -> ReceivedGroup {
    let has_time = version >= Moqt17;
    let frame = |it: &Frame| (has_time.then_some(it.timestamp.units()), it.size, it.bytes());
    let frames = frames.iter().map(frame).collect();
    ReceivedGroup { first_frame: 0, frames, result: Some(Ok(())) }
}

pub(super) fn object(object: u64, payload: &'static str) -> (FetchRecord<'static>, &'static str) {
    object_of(Some(0), object, payload)
}

pub(super) fn object_of(
    subgroup: Option<u64>,
    object: u64,
    payload: &'static str,
) -> (FetchRecord<'static>, &'static str) {
    let (location, size) = (Location::new(7, object), payload.len() as u64);
    let record =
        FetchObject { location, subgroup, priority: 9, timestamp: None, properties: None, size };
    (FetchRecord::Object(record), payload)
}

/// The stream that answers the FETCH of this id.
pub(super) fn answer(version: Version, request: u64, records: &[(FetchRecord, &str)]) -> String {
    let mut out = BytesMut::new();
    UniStream::Fetch { request }.encode(&mut out, draft(version)).unwrap();
    let mut state = FetchRecords::new(GroupOrder::Ascending, draft(version));
    for (record, payload) in records {
        out.extend_from_slice(&state.encode(record).unwrap());
        out.extend_from_slice(payload.as_bytes());
    }
    digits(&out)
}

pub(super) fn fetch_ok(talk: &Talk, id: u64, object: u64) -> Message {
    let end = FetchEnd { group: 7, object: Some(object) };
    let order = (talk.version == Moqt14).then_some(GroupOrder::Ascending);
    let parameters = Parameters { order, ..Parameters::default() };
    Message::FetchOk(FetchOk { id: talk.id(id), end, parameters, ..FetchOk::default() })
}

/// A client that fetches group 7. Returns the stream of the request, and the message.
fn fetching(version: Version) -> (Talk, StreamId, Fetch) {
    let mut talk = Talk::quiet(Side::Client, version);
    talk.lone.events();
    talk.lone.apply(fetch(3));
    let stream = talk.control.unwrap_or(talk.lone.own(Dir::Bi, 0));
    let Message::Fetch(asked) = talk.written_one(stream) else { panic!("no FETCH") };
    (talk, stream, asked)
}

/// FETCH of the peer for a range of `video` of `demo`.
pub(super) fn fetch_message(version: Version, id: u64, start: Location, end: FetchEnd) -> Message {
    let (namespace, track) = (path("demo"), "video".into());
    let parameters = Parameters { priority: Some(200), ..Parameters::default() };
    if version < Moqt20 {
        let target = FetchTarget::Standalone { namespace, track, start, end };
        return Message::Fetch(Fetch { id, target, parameters });
    }
    let filter = match end.object {
        None => Filter::Range { start, end_group: end.group },
        Some(object) => Filter::RangeTo { start, end: Location::new(end.group, object) },
    };
    let parameters = Parameters { filter: Some(filter), ..parameters };
    Message::Fetch(Fetch { id, target: FetchTarget::Track { namespace, track }, parameters })
}

/// A server, and the FETCH of group 7 that it received.
fn fetched(version: Version, last: Option<u64>) -> (Talk, StreamId, RequestKey) {
    let mut talk = Talk::quiet(Side::Server, version);
    talk.lone.events();
    let end = FetchEnd { group: 7, object: last };
    let stream = talk.request(|id| fetch_message(version, id, Location::new(7, 0), end));
    let request = match one(talk.lone.events()) {
        Event::FetchRequested {
            request,
            broadcast,
            track,
            priority,
            sequence,
            first_frame,
            last_frame,
            ..
        } => {
            assert_eq!((broadcast, &*track, priority, sequence), (path("demo"), "video", 200, 7));
            assert_eq!((first_frame, last_frame), (0, last));
            request
        }
        other => panic!("{other:?}"),
    };
    (talk, stream, request)
}

#[test]
fn a_group_is_fetched_whole() {
    on_all_nine(|version, mut pair| {
        let entries = |pair: &Peers| (pair.client.machine.entries(), pair.server.machine.entries());
        while pair.sleep_to_deadline() {}
        let before = entries(&pair);
        pair.client.apply(fetch(3));
        pair.run_until_idle();
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
        assert_eq!(received.groups[&(3, 7)], arrived(version, &frames()));
        assert_eq!(received.ended[&3], Ok(None));
        let released = Event::GroupReleased { group: token(0), sent: true };
        let over = Event::RequestEnded { request, result: Ok(()) };
        assert_eq!(pair.server.take_events(), [released, over]);
        while pair.sleep_to_deadline() {}
        assert_eq!(entries(&pair), before);
    });
}

/// Only the frames that were asked for are sent.
#[test]
fn part_of_a_group_is_fetched() {
    on_all_nine(|version, mut pair| {
        for (first, last) in [(1, None), (0, Some(0)), (1, Some(2))] {
            pair.client.apply(fetch_frames(0, first, last));
            pair.run_until_idle();
            let request = request_of(pair.server.take_events());
            pair.server.source.insert(token(0), frames());
            pair.server.apply(complete(request, 0, 4));
            pair.run_until_idle();
            let received = received(pair.client.take_events());
            let end = last.map_or(4, |last| last as usize + 1);
            let expected = arrived(version, &frames()[first as usize..end]);
            assert_eq!(received.groups[&(0, 7)], expected);
            assert_eq!(received.ended[&0], Ok(None));
            pair.server.take_events();
        }
    });
}

/// A FETCH may be withdrawn at any time, and leaves nothing.
#[test]
fn a_fetch_can_be_withdrawn_at_any_time() {
    on_all_nine(|_, mut pair| {
        while pair.sleep_to_deadline() {}
        // Without ids: one that was not used leaves a gap, which the other end remembers.
        let entries = |pair: &Peers| {
            [&pair.client, &pair.server].map(|end| Census::of(&end.machine.bare.core))
        };
        let before = entries(&pair);
        for steps in [0, 1, 5, 20, 50, 1_000] {
            for accepts in [true, false] {
                pair.client.apply(fetch(0));
                if accepts {
                    pair.run_until_idle();
                    let request = request_of(pair.server.take_events());
                    pair.server.source.insert(token(0), frames());
                    pair.server.apply(accept(request, 0));
                }
                pair.steps(steps);
                pair.client.apply(Command::CancelFetch { fetch: token(0) });
                pair.run_until_idle();
                let received = received(pair.client.take_events());
                let result = &received.ended[&0];
                assert!(matches!(result, Ok(None) | Err(Error::Cancelled)), "{result:?}");
                assert!(received.groups.values().all(|group| group.result.is_some()));
                // The publisher is told once that the request ended, if it was told that it began.
                let events = pair.server.take_events();
                let over = |event: &&Event| matches!(event, Event::RequestEnded { .. });
                let asked = |event: &Event| matches!(event, Event::FetchRequested { .. });
                let asked = accepts || events.iter().any(asked);
                assert_eq!(events.iter().filter(over).count(), usize::from(asked), "{events:?}");
                while pair.sleep_to_deadline() {}
                assert_eq!(entries(&pair), before, "{steps} {accepts}");
            }
        }
    });
}

/// A group that is lost while it is sent is reset, never finished.
#[test]
fn an_incomplete_answer_is_reset() {
    on_all_nine(|_, mut pair| {
        for refused in [true, false] {
            pair.client.apply(fetch(0));
            pair.run_until_idle();
            let request = request_of(pair.server.take_events());
            pair.server.source.push(token(0), frames()[0].clone());
            pair.server.apply(accept(request, 0));
            pair.run_until_idle();
            let mut events = pair.client.take_events();
            if refused {
                pair.server.apply(Command::Refuse { request, error: Error::App(5) });
            } else {
                pair.server.source.end(token(0), Err(Error::App(5)));
                pair.server.apply(Command::GroupReady { request, sequence: 7 });
            }
            pair.run_until_idle();
            events.extend(pair.client.take_events());
            let received = received(events);
            assert_eq!(received.groups[&(0, 7)].result, Some(Err(Error::App(5))));
            assert_eq!(received.ended[&0], Err(Error::App(5)));
            let unsent = Event::GroupReleased { group: token(0), sent: false };
            assert_eq!(pair.server.take_events()[0], unsent);
        }
    });
}

/// *FETCH*: the range is a target up to 19, and a filter later. FETCH_OK and the stream come in either order.
#[test]
fn an_answer_is_read_before_and_after_its_stream() {
    for version in EVERY {
        for ok_first in [true, false] {
            let (mut talk, stream, asked) = fetching(version);
            assert_eq!(asked.parameters.priority, Some(2));
            match (asked.target, asked.parameters.filter) {
                (FetchTarget::Standalone { namespace, track, start, end }, None) => {
                    assert!(version < Moqt20);
                    assert_eq!((namespace, &*track), (path("demo"), "video"));
                    let whole = FetchEnd { group: 7, object: None };
                    assert_eq!((start, end), (Location::new(7, 0), whole));
                }
                (
                    FetchTarget::Track { namespace, track },
                    Some(Filter::Range { start, end_group }),
                ) => {
                    assert!(version >= Moqt20);
                    assert_eq!((namespace, &*track), (path("demo"), "video"));
                    assert_eq!((start, end_group), (Location::new(7, 0), 7));
                }
                other => panic!("{other:?}"),
            }
            let ok = fetch_ok(&talk, asked.id, 1);
            if ok_first {
                talk.send(stream, &ok);
                assert_eq!(talk.lone.events(), []);
            }
            let records = [object(0, "one"), object(1, "")];
            let id = talk.lone.open(Dir::Uni, &answer(version, asked.id, &records));
            if !ok_first {
                talk.send(stream, &ok);
            }
            talk.lone.fin(id, "");
            let received = received(talk.lone.events());
            let frames = vec![(None, 3, b"one".to_vec()), (None, 0, vec![])];
            assert_eq!(received.groups[&(3, 7)].frames, frames, "{version}");
            assert_eq!(received.ended[&3], Ok(None));
            assert_eq!(talk.lone.actions(), []);
            assert_eq!(talk.finished(stream), version >= Moqt17);
        }
    }
}

/// The bytes of whole exchanges, with what each draft has of its own.
#[test]
fn exchanges_have_the_bytes_of_their_drafts() {
    // FETCH, FETCH_OK with an exclusive end up to 19, and the stream with objects "a" and "b".
    let cases = [
        (
            Moqt14,
            "16 0015 00 fd 00 01 01 04 64656d6f 05 766964656f 07 00 07 00 00",
            "18 0006 00 01 00 07 02 00",
            "05 00 07 00 00 80 00 01 61 07 00 01 80 00 01 62",
        ),
        (
            Moqt15,
            "16 0016 00 01 01 04 64656d6f 05 766964656f 07 00 07 00 01 20 40fd",
            "18 0005 00 00 07 02 00",
            "05 00 1c 07 00 80 01 61 00 01 62",
        ),
        (
            Moqt18,
            "16 0015 00 01 01 04 64656d6f 05 766964656f 07 00 07 00 01 20 fd",
            "18 0004 00 07 02 00",
            "05 00 1c 07 00 80 01 61 00 01 62",
        ),
        (
            Moqt22,
            "16 0015 00 01 04 64656d6f 05 766964656f 02 20 fd 01 03 07 00 00",
            "18 0004 00 07 01 00",
            "05 00 1c 07 00 80 01 61 00 01 62",
        ),
    ];
    for (version, ask, ok, records) in cases {
        let mut talk = Talk::quiet(Side::Client, version);
        talk.lone.events();
        talk.lone.apply(fetch(3));
        let stream = talk.control.unwrap_or(talk.lone.own(Dir::Bi, 0));
        assert_eq!(talk.lone.sent(stream), bytes(ask), "{version}");
        talk.lone.data(stream, ok);
        let id = talk.lone.open(Dir::Uni, "");
        talk.lone.fin(id, records);
        let received = received(talk.lone.events());
        let frames = vec![(None, 1, b"a".to_vec()), (None, 1, b"b".to_vec())];
        assert_eq!(received.groups[&(3, 7)].frames, frames, "{version}");
        assert_eq!(received.ended[&3], Ok(None));
    }
}

/// *Fetch Header*: what is no frame of the group is skipped, and what is missing ends it with an error.
#[test]
fn a_fetched_group_has_no_gaps() {
    let at = |object| Location::new(7, object);
    let absent = |object| (FetchRecord::Absent(at(object)), "");
    let unknown = |object| (FetchRecord::Unknown(at(object)), "");
    let late = |object| (FetchRecord::TimedOut(at(object)), "");
    let end_of_group = |object| (FetchRecord::EndOfGroup(at(object)), "");
    let end_of_track = |object| (FetchRecord::EndOfTrack(at(object)), "");
    let every = Moqt14..=Moqt22;
    let cases = [
        // Objects that do not exist at the end are no gap.
        (every.clone(), vec![object(0, "a"), absent(3)], 1, Ok(())),
        (every.clone(), vec![object(0, "a"), absent(1), object(2, "c")], 1, Err(Error::Lagged)),
        (every.clone(), vec![object(0, "a"), object(2, "c")], 1, Err(Error::Lagged)),
        (every.clone(), vec![object(1, "b")], 0, Err(Error::Lagged)),
        // A group of ours is subgroup 0.
        (every.clone(), vec![object(0, "a"), object_of(Some(4), 1, "xyz")], 1, Ok(())),
        (every.clone(), vec![object_of(Some(4), 0, "xyz"), object(1, "b")], 0, Err(Error::Lagged)),
        (Moqt16..=Moqt22, vec![object_of(None, 0, "a"), object(1, "b")], 2, Ok(())),
        (Moqt14..=Moqt15, vec![object(0, "a"), end_of_group(1)], 1, Ok(())),
        (Moqt14..=Moqt15, vec![object(0, "a"), end_of_track(1)], 1, Ok(())),
        (Moqt14..=Moqt15, vec![end_of_group(0)], 0, Ok(())),
        (Moqt16..=Moqt22, vec![object(0, "a"), unknown(1)], 1, Err(Error::Lagged)),
        (Moqt20..=Moqt22, vec![object(0, "a"), late(1)], 1, Err(Error::Timeout)),
        (every, vec![], 0, Ok(())),
    ];
    for version in EVERY {
        for (_, records, frames, result) in
            cases.iter().filter(|(versions, ..)| versions.contains(&version))
        {
            let (mut talk, stream, asked) = fetching(version);
            talk.send(stream, &fetch_ok(&talk, asked.id, 9));
            let id = talk.lone.open(Dir::Uni, "");
            talk.lone.fin(id, &answer(version, asked.id, records));
            let received = received(talk.lone.events());
            let group = &received.groups[&(3, 7)];
            assert_eq!(group.frames.len(), *frames, "{version} {records:?}");
            assert_eq!(group.result.as_ref(), Some(result), "{version} {records:?}");
            assert_eq!(received.ended[&3], result.clone().map(|()| None));
        }
        // If there is nothing of the group, it does not begin.
        let none = [
            (every_draft(), absent(0), Error::NotFound),
            (Moqt16..=Moqt22, unknown(u64::MAX >> 2), Error::NotFound),
            (Moqt20..=Moqt22, late(5), Error::Timeout),
        ];
        for (_, record, error) in none.iter().filter(|(versions, ..)| versions.contains(&version)) {
            let (mut talk, _, asked) = fetching(version);
            let id = talk.lone.open(Dir::Uni, "");
            talk.lone.fin(id, &answer(version, asked.id, &[*record]));
            assert_eq!(talk.lone.events(), [ended(3, error.clone())], "{version}");
        }
    }
}

fn every_draft() -> core::ops::RangeInclusive<Version> {
    Moqt14..=Moqt22
}

/// Objects of another group, a stream that is cut, and more than the limits allow fail this FETCH alone.
#[test]
fn a_bad_answer_fails_one_fetch() {
    for version in EVERY {
        let other_group = FetchObject {
            location: Location::new(8, 0),
            subgroup: Some(0),
            priority: 9,
            timestamp: None,
            properties: None,
            size: 1,
        };
        let records = [(FetchRecord::Object(other_group), "a")];
        let bad = Error::Malformed(DecodeError::BoundsExceeded);
        let (mut talk, _, asked) = fetching(version);
        let id = talk.lone.open(Dir::Uni, &answer(version, asked.id, &records));
        assert_eq!(talk.lone.events(), [ended(3, bad.clone())], "{version}");
        assert!(
            talk.lone
                .actions()
                .iter()
                .any(|it| matches!(it, Action::Stop { id: it, .. } if *it == id))
        );

        // After a frame of the group.
        let records = [object(0, "a"), records[0]];
        let (mut talk, ..) = fetching(version);
        talk.lone.open(Dir::Uni, &answer(version, asked.id, &records));
        assert_eq!(received(talk.lone.events()).ended[&3], Err(bad));

        // Properties of 5,000 bytes.
        if version >= Moqt17 {
            let (mut talk, ..) = fetching(version);
            talk.lone.open(Dir::Uni, "05 00 3c 07 00 80 9388");
            assert_eq!(talk.lone.events(), [ended(3, Error::Malformed(DecodeError::TooLong))]);
        }

        let whole = answer(version, asked.id, &[object(0, "ab")]);
        for cut in [2, 4] {
            let (mut talk, ..) = fetching(version);
            let id = talk.lone.open(Dir::Uni, "");
            talk.lone.fin(id, &whole[..whole.len() - cut]);
            assert_eq!(received(talk.lone.events()).ended[&3], Err(Error::WrongSize), "{version}");
        }

        let limited = |limit: fn(&mut Limits)| {
            let mut config = config(Side::Client, version);
            limit(&mut config.limits);
            let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
            let mut talk = Talk::with(config, setup);
            talk.lone.events();
            talk.lone.apply(fetch(3));
            let records = [object(0, "a"), object_of(Some(1), 1, "bcd")];
            talk.lone.open(Dir::Uni, &answer(version, asked.id, &records));
            received(talk.lone.events()).ended[&3].clone()
        };
        assert_eq!(limited(|it| it.frame_bytes = 2), Err(Error::FrameTooLarge));
        assert_eq!(limited(|it| it.group_frames = 1), Err(Error::GroupTooLarge));
        assert_eq!(limited(|it| it.group_bytes = 3), Err(Error::GroupTooLarge));
    }
}

/// D22-11-4-1-1-MUST-529, D22-9-12-MUST-384: a record without the fields that the first one needs, and a
/// FETCH_OK that ends before the start, close the session.
#[test]
fn broken_answers_close_the_session() {
    for version in EVERY.into_iter().filter(|it| *it >= Moqt15) {
        // The first one refers to the object before it. After an object of the group, flags that mean nothing.
        let unknown = match version {
            Moqt15 => "05 00 1c 07 00 80 01 61 7f",
            Moqt16 => "05 00 1c 07 00 80 01 61 4080",
            _ => "05 00 1c 07 00 80 01 61 8080",
        };
        for records in ["05 00 00 01 61", unknown] {
            let (mut talk, ..) = fetching(version);
            talk.lone.open(Dir::Uni, records);
            talk.closed_with(0x3);
        }
    }
    for version in EVERY {
        let (mut talk, stream, asked) = fetching(version);
        let Message::FetchOk(ok) = fetch_ok(&talk, asked.id, 0) else { unreachable!() };
        let end = FetchEnd { group: 6, object: Some(9) };
        talk.send(stream, &Message::FetchOk(FetchOk { end, ..ok }));
        talk.closed_with(0x3);

        let (mut talk, stream, asked) = fetching(version);
        let ok = fetch_ok(&talk, asked.id, 0);
        talk.send(stream, &ok);
        talk.send(stream, &ok);
        talk.closed_with(0x3);
    }
}

/// D22-11-4-1-1-MUST-530–532: after object 1 of group 7 a group and an object that are 2^64 - 1 further (18 and later).
#[test]
fn a_group_or_object_out_of_range_closes_the_session() {
    const FIRST: &str = "05 00 1c 07 00 80 01 61 14 01 80 01 61";
    for version in EVERY.into_iter().filter(|it| *it >= Moqt18) {
        for record in ["1c ffffffffffffffffff 00 80 01 61", "14 ffffffffffffffffff 80 01 61"] {
            let (mut talk, ..) = fetching(version);
            let id = talk.lone.open(Dir::Uni, FIRST);
            assert!(!talk.lone.end.is_closed());
            talk.lone.data(id, record);
            talk.closed_with(0x3);
        }
    }
}

/// D22-3-7-MUST-094: a mandatory property that is not known ends the FETCH.
#[test]
fn a_track_with_an_unknown_mandatory_property_is_not_fetched() {
    for version in EVERY.into_iter().filter(|it| *it >= Moqt18) {
        let (mut talk, stream, asked) = fetching(version);
        let id = talk.lone.open(Dir::Uni, &answer(version, asked.id, &[object(0, "a")]));
        assert_eq!(talk.lone.events().len(), 2);
        // FETCH_OK with property 0x4000.
        talk.lone.data(stream, "18 0008 00 07 01 00 c04000 00");
        assert_eq!(received_end(talk.lone.events()), Err(Error::UnknownProperty), "{version}");
        assert_eq!(talk.lone.actions(), [stop(id, 0), reset(stream, 0), stop(stream, 0)]);
    }
}

fn received_end(events: Vec<Event>) -> Result<(), Error> {
    match events.last() {
        Some(Event::FetchEnded { result, .. }) => result.clone(),
        other => panic!("{other:?}"),
    }
}

/// Each refusal is an error of its own, and ends the request.
#[test]
fn a_refusal_is_an_error() {
    let codes = [
        (0x1, Error::Unauthorized),
        (NOT_SUPPORTED, Error::Unsupported),
        (0x10, Error::NotFound),
        (INVALID_RANGE, Error::NotFound),
        (0x12, Error::Remote(Code::new(0x12))),
        (0x45, Error::App(5)),
    ];
    for version in EVERY {
        for (code, error) in codes.clone() {
            let (mut talk, stream, asked) = fetching(version);
            let refusal = RequestError { id: talk.id(asked.id), code, ..RequestError::default() };
            match version {
                Moqt14 => talk.send(stream, &Message::FetchError(refusal)),
                _ => talk.send(stream, &Message::RequestError(refusal)),
            }
            assert_eq!(talk.lone.events(), [ended(3, error)], "{version}");
            // A stream that comes nevertheless is stopped.
            talk.lone.actions();
            let id = talk.lone.open(Dir::Uni, &answer(version, asked.id, &[object(0, "a")]));
            assert_eq!(talk.lone.actions(), [stop(id, 1)]);
        }
    }
    // 17 and later: the end of the stream instead of an answer.
    for version in EVERY.into_iter().filter(|it| *it >= Moqt17) {
        let (mut talk, stream, _) = fetching(version);
        talk.lone.fin(stream, "");
        let error = Error::ProtocolViolation("FIN without an answer");
        assert_eq!(talk.lone.events(), [ended(3, error)]);
        let (mut talk, stream, _) = fetching(version);
        talk.lone.reset(stream, 1);
        assert_eq!(talk.lone.events(), [ended(3, Error::Cancelled)]);
        // After FETCH_OK the group is awaited. Its stream decides once it begins.
        let (mut talk, stream, asked) = fetching(version);
        talk.send(stream, &fetch_ok(&talk, asked.id, 0));
        talk.lone.fin(stream, "");
        assert_eq!(talk.lone.events(), []);
        let id = talk.lone.open(Dir::Uni, &answer(version, asked.id, &[object(0, "a")]));
        talk.lone.fin(id, "");
        assert_eq!(received(talk.lone.events()).ended[&3], Ok(None));
    }
}

/// D22-3-2-4-MUST-066: STOP_SENDING on the request withdraws a FETCH; up to 16 it is FETCH_CANCEL.
#[test]
fn a_withdrawn_fetch_is_cancelled() {
    for version in EVERY {
        for begun in [false, true] {
            let (mut talk, stream, asked) = fetching(version);
            let mut stopped = vec![];
            if begun {
                let id = talk.lone.open(Dir::Uni, &answer(version, asked.id, &[object(0, "a")]));
                stopped.push(stop(id, 1));
            }
            talk.lone.events();
            talk.lone.apply(Command::CancelFetch { fetch: token(3) });
            assert_eq!(received_end(talk.lone.events()), Err(Error::Cancelled));
            if version >= Moqt17 {
                stopped.extend([reset(stream, 1), stop(stream, 1)]);
            } else {
                let cancel = asked.id;
                assert_eq!(talk.written_one(stream), Message::FetchCancel(cancel));
            }
            assert_eq!(talk.lone.actions(), stopped, "{version}");
            // The answers that cross are of no use.
            if version < Moqt17 {
                talk.send(stream, &fetch_ok(&talk, asked.id, 0));
            }
            let id = talk.lone.open(Dir::Uni, &answer(version, asked.id, &[object(0, "a")]));
            assert_eq!((talk.lone.events(), talk.lone.actions()), (vec![], vec![stop(id, 1)]));
        }
    }
}

/// Up to 16 a FETCH waits until the peer grants an id.
#[test]
fn a_fetch_waits_for_an_id() {
    for version in [Moqt14, Moqt15, Moqt16] {
        let setup = Setup { solicit: true, ..Setup::default() };
        let mut talk = Talk::with(config(Side::Client, version), setup);
        talk.lone.events();
        let control = talk.control.unwrap();
        for slot in [1, 2] {
            talk.lone.apply(fetch(slot));
        }
        talk.lone.apply(Command::CancelFetch { fetch: token(1) });
        assert_eq!(talk.lone.events(), [ended(1, Error::Cancelled)]);
        assert_eq!(talk.written(control), [], "nothing was sent that could be cancelled");
        talk.send(control, &Message::MaxRequestId(5));
        let Message::Fetch(asked) = talk.written_one(control) else { panic!("no FETCH") };
        talk.lone.open(Dir::Uni, &answer(version, asked.id, &[object(0, "a")]));
        let events = talk.lone.events();
        let started =
            |it: &Event| matches!(it, Event::FetchStarted { fetch, .. } if *fetch == token(2));
        assert!(events.iter().any(started), "{events:?}");
    }
}

/// D22-3-2-MUST-057, -MUST-NOT-059: one FETCH_OK, as soon as the end of the answer is known.
#[test]
fn a_group_answers_a_fetch() {
    for version in EVERY {
        for (is_complete, last) in [(true, None), (false, None), (true, Some(1)), (true, Some(9))] {
            let (mut talk, stream, request) = fetched(version, last);
            let source = &mut talk.lone.end.source;
            for at in 0..3 {
                source.push(token(0), Frame::new(20 + at, vec![0x61 + at as u8]));
            }
            if is_complete {
                source.end(token(0), Ok(()));
                talk.lone.apply(complete(request, 0, 3));
            } else {
                talk.lone.apply(accept(request, 0));
                assert_eq!(talk.written(stream), []);
                talk.lone.end.source.end(token(0), Ok(()));
                talk.lone.apply(Command::GroupReady { request, sequence: 7 });
            }
            let Message::FetchOk(ok) = talk.written_one(stream) else { panic!("no FETCH_OK") };
            let end = FetchEnd { group: 7, object: Some(if last == Some(1) { 1 } else { 2 }) };
            assert_eq!(ok.end, end, "{version} {last:?}");
            assert_eq!((ok.id, ok.end_of_track), (talk.id(0), false));
            assert_eq!(talk.finished(stream), version >= Moqt17);
            let id = talk.lone.own(Dir::Uni, u64::from(version >= Moqt17));
            let frames = if last == Some(1) { 2 } else { 3 };
            let payloads = ["a", "b", "c"];
            let records = (0..frames).map(|at| {
                let timestamp = (version >= Moqt17).then_some(Timestamp::new(20 + at));
                let (location, priority) = (Location::new(7, at), 127);
                let object = FetchObject {
                    location,
                    subgroup: Some(0),
                    priority,
                    timestamp,
                    properties: None,
                    size: 1,
                };
                (FetchRecord::Object(object), payloads[at as usize])
            });
            let records: Vec<_> = records.collect();
            assert_eq!(talk.lone.sent(id), answer(version, 0, &records) + " fin", "{version}");
            let released = Event::GroupReleased { group: token(0), sent: true };
            let over = Event::RequestEnded { request, result: Ok(()) };
            assert_eq!(talk.lone.events(), [released, over]);
            assert_eq!(talk.lone.actions(), []);
        }
    }
}

/// *FETCH_OK*: the last group of a track says so, and where it ends. Without objects there is only the header.
#[test]
fn an_answer_tells_the_end_of_the_track() {
    for version in EVERY {
        for (frames, last, end_of_track) in
            [(3, None, true), (3, Some(2), true), (3, Some(1), false), (0, None, false)]
        {
            let (mut talk, stream, request) = fetched(version, last);
            let source = &mut talk.lone.end.source;
            source.begin(token(0));
            (0..frames).for_each(|_| source.push(token(0), Frame::new(0, "x")));
            source.end(token(0), Ok(()));
            let (group, info, frames) = (token(0), TrackInfo::default(), Some(frames));
            let ends_track = true;
            talk.lone.apply(Command::AcceptFetch { request, group, info, frames, ends_track });
            let Message::FetchOk(ok) = talk.written_one(stream) else { panic!("no FETCH_OK") };
            let end = match (frames, last) {
                (Some(0), _) if version < Moqt20 => None,
                (Some(0), _) => Some(0),
                (_, Some(1)) => Some(1),
                _ => Some(2),
            };
            assert_eq!((ok.end_of_track, ok.end.object), (end_of_track || frames == Some(0), end));
            let id = talk.lone.own(Dir::Uni, u64::from(version >= Moqt17));
            let sent = talk.lone.sent(id);
            assert!(sent.ends_with("fin"), "{sent}");
            assert_eq!(
                sent == bytes("0500 fin").replace("fin", " fin"),
                frames == Some(0),
                "{sent}"
            );
        }
    }
}

/// A FETCH that can't be served gets the code of its draft, and the session goes on.
#[test]
fn a_fetch_is_refused_with_a_code() {
    let whole = |group| FetchEnd { group, object: None };
    for version in EVERY {
        let cases = [
            // Ends before the start: those of 20 and later can't be written with groups.
            (Location::new(7, 2), FetchEnd { group: 7, object: Some(1) }, INVALID_RANGE),
            (Location::new(7, 0), whole(6), INVALID_RANGE),
        ];
        let count = if version < Moqt20 { 2 } else { 1 };
        for (start, end, code) in &cases[..count] {
            let mut talk = Talk::quiet(Side::Server, version);
            talk.lone.events();
            let stream = talk.request(|id| fetch_message(version, id, *start, *end));
            let refusal = talk.written_one(stream).unified();
            assert_eq!(refusal, talk.error(0, *code), "{version} {start:?} {end:?}");
            assert_eq!((talk.lone.events(), talk.lone.actions()), (vec![], vec![]));
        }
        for (error, code) in [(Error::Unroutable, 0x10), (Error::Old, INVALID_RANGE)] {
            let (mut talk, stream, request) = fetched(version, None);
            talk.lone.apply(Command::Refuse { request, error });
            assert_eq!(talk.written_one(stream).unified(), talk.error(0, code), "{version}");
            // Only the first answer counts.
            talk.lone.apply(accept(request, 0));
            let unsent = Event::GroupReleased { group: token(0), sent: false };
            assert_eq!(talk.lone.events(), [unsent]);
        }
    }
}

/// D22-3-2-4-MUST-067, -068: a FETCH that the peer cancels ends its streams. FIN alone cancels nothing.
#[test]
fn the_peer_cancels_a_fetch() {
    for version in EVERY {
        for accepts in [false, true] {
            let (mut talk, stream, request) = fetched(version, None);
            let mut expected = vec![];
            if version >= Moqt17 {
                talk.lone.fin(stream, "");
                assert_eq!((talk.lone.events(), talk.lone.actions()), (vec![], vec![]));
            }
            if accepts {
                talk.lone.end.source.push(token(0), frames()[0].clone());
                talk.lone.apply(accept(request, 0));
                let id = talk.lone.own(Dir::Uni, u64::from(version >= Moqt17));
                expected.push(reset(id, 1));
            }
            talk.written(stream);
            if version >= Moqt17 {
                talk.lone.stop(stream, 1);
                expected.insert(0, reset(stream, 1));
            } else {
                talk.send(stream, &Message::FetchCancel(0));
            }
            assert_eq!(talk.lone.actions(), expected, "{version}");
            let over = Event::RequestEnded { request, result: Err(Error::Cancelled) };
            assert!(talk.lone.events().contains(&over));
            assert_eq!(talk.written(stream), []);
        }
        // STOP_SENDING on the stream of the answer does the same.
        let (mut talk, stream, request) = fetched(version, None);
        talk.lone.end.source.push(token(0), frames()[0].clone());
        talk.lone.apply(accept(request, 0));
        let id = talk.lone.own(Dir::Uni, u64::from(version >= Moqt17));
        talk.lone.stop(id, 1);
        let mut expected = vec![reset(id, 1)];
        if version >= Moqt17 {
            expected.extend([reset(stream, 1), stop(stream, 1)]);
        }
        assert_eq!(talk.lone.actions(), expected, "{version}");
        let over = Event::RequestEnded { request, result: Err(Error::Cancelled) };
        assert_eq!(talk.lone.events().pop(), Some(over));
    }
}

/// *REQUEST_UPDATE* of a FETCH changes its priority.
#[test]
fn an_update_changes_the_priority_of_a_fetch() {
    for version in EVERY {
        let (mut talk, stream, request) = fetched(version, None);
        talk.lone.end.source.push(token(0), frames()[0].clone());
        let (group, info, frames, ends_track) = (token(0), TrackInfo::default(), Some(1), false);
        talk.lone.apply(Command::AcceptFetch { request, group, info, frames, ends_track });
        assert!(matches!(talk.written_one(stream), Message::FetchOk(_)));
        let parameters = Parameters { priority: Some(9), ..Parameters::default() };
        let existing = (version < Moqt17).then_some(0);
        talk.send(stream, &Message::RequestUpdate(RequestUpdate { id: 2, existing, parameters }));
        let id = talk.lone.own(Dir::Uni, u64::from(version >= Moqt17));
        assert_eq!(talk.lone.priorities[&id], 9 << 8 | 127, "{version}");
        let answers = talk.written(stream);
        let ok = RequestOk { id: talk.id(2), ..RequestOk::default() };
        let expected = if version == Moqt14 { vec![] } else { vec![Message::RequestOk(ok)] };
        assert_eq!(answers, expected);
    }
}
