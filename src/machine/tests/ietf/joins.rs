//! Subscriptions that begin inside of a group, at both ends, and what comes before them: LARGEST_OBJECT, filters,
//! joining FETCH, fill, and FETCH of several groups (*Location Filters*, *Fetch*, *Fill Semantics*, *Joining an
//! Ongoing Track*).

use super::fetch::{answer, fetch_message, fetch_ok, object, object_of};
use super::*;

// ---- as subscriber ---------------------------------------------------------------------------

/// A stream of group 7 of the track with alias 5, from an object on.
fn stream_from(version: Version, first: u64, payloads: &[&str]) -> String {
    let mut out = BytesMut::new();
    let header = SubgroupHeader {
        alias: 5,
        group: 7,
        subgroup: Some(0),
        priority: Some(9),
        properties: false,
        end_of_group: true,
        first_object: first == 0,
    };
    UniStream::Subgroup(header).encode(&mut out, draft(version)).unwrap();
    for (index, payload) in payloads.iter().enumerate() {
        let delta = if index == 0 { first } else { 0 };
        let (size, status) = (payload.len() as u64, ObjectStatus::Normal);
        let head = ObjectHead { delta, timestamp: None, properties: None, size, status };
        out.extend_from_slice(&head.encode(false, draft(version)).unwrap());
        out.extend_from_slice(payload.as_bytes());
    }
    digits(&out)
}

/// A subscription whose first stream begins with object 2 of group 7. Returns the request, the FETCH for the
/// objects before and its stream, and the stream of the group.
fn late(version: Version) -> (Talk, StreamId, (StreamId, Fetch), StreamId) {
    let mut talk = Talk::quiet(Side::Client, version);
    talk.lone.events();
    let request = talk.subscribed(5, TrackProperties::default());
    let group = talk.lone.open(Dir::Uni, &stream_from(version, 2, &["c"]));
    assert_eq!(talk.lone.events(), [], "{version}: the group waits for its beginning");
    let stream = talk.control.unwrap_or(talk.lone.own(Dir::Bi, 1));
    let Message::Fetch(asked) = talk.written_one(stream) else { panic!("no FETCH") };
    (talk, request, (stream, asked), group)
}

fn refused_group(slot: u32) -> Event {
    Event::GroupRefused { subscription: token(slot), sequence: 7 }
}

/// The missing objects are fetched, and the group arrives as one, whichever part is first complete.
#[test]
fn a_group_is_completed_by_a_fetch() {
    for version in EVERY {
        for rest_first in [false, true] {
            let (mut talk, _, (stream, asked), group) = late(version);
            let (start, end) = match (&asked.target, asked.parameters.filter) {
                (FetchTarget::Standalone { start, end, .. }, None) => {
                    (*start, Location::new(end.group, end.object.unwrap()))
                }
                (FetchTarget::Track { .. }, Some(Filter::RangeTo { start, end })) => (start, end),
                other => panic!("{other:?}"),
            };
            assert_eq!((start, end), (Location::new(7, 0), Location::new(7, 1)), "{version}");
            if rest_first {
                talk.lone.fin(group, &rest(version));
            }
            talk.send(stream, &fetch_ok(&talk, asked.id, 1));
            let head = talk.lone.open(Dir::Uni, "");
            talk.lone.fin(head, &answer(version, asked.id, &[object(0, "a"), object(1, "b")]));
            if !rest_first {
                talk.lone.fin(group, &rest(version));
            }
            let events = talk.lone.events();
            let begins = matches!(events[0], Event::Group { sequence: 7, first_frame: 0, .. });
            assert!(begins, "{version}: {events:?}");
            let received = Received::of([vec![informed(0)], events].concat());
            let arrived = &received.groups[&(0, 7)];
            let payloads: Vec<_> = arrived.frames.iter().map(|(_, _, bytes)| &bytes[..]).collect();
            assert_eq!(payloads, [b"a", b"b", b"c", b"d"], "{version}");
            assert_eq!(arrived.result, Some(Ok(())));
            let resumed = |it: &Action| matches!(it, Action::Resume { id } if *id == group);
            assert!(talk.lone.actions().iter().all(resumed), "{version}");
        }
    }
}

/// The object after those of `late`.
fn rest(version: Version) -> String {
    let (size, status) = (1, ObjectStatus::Normal);
    let head = ObjectHead { delta: 0, timestamp: None, properties: None, size, status };
    format!("{}64", digits(&head.encode(false, draft(version)).unwrap()))
}

/// A group whose beginning can't be had is left out, and the next one is read.
#[test]
fn a_group_without_its_beginning_is_left_out() {
    for version in EVERY {
        for reason in 0..5 {
            let (mut talk, _, (stream, asked), group) = late(version);
            match reason {
                0 => {
                    let code = NOT_SUPPORTED;
                    let error = RequestError { id: talk.id(asked.id), code, ..Default::default() };
                    talk.send(
                        stream,
                        &match version {
                            Moqt14 => Message::FetchError(error),
                            _ => Message::RequestError(error),
                        },
                    );
                }
                1 => talk.lone.advance(Duration::from_secs(60)),
                // Too few objects.
                2 => {
                    let head = talk.lone.open(Dir::Uni, "");
                    talk.lone.fin(head, &answer(version, asked.id, &[object(0, "a")]));
                }
                // Object 1 is of another subgroup (*Fetch Header*), and so no frame of the group.
                3 => {
                    let records = [object(0, "a"), object_of(Some(1), 1, "b")];
                    let head = talk.lone.open(Dir::Uni, "");
                    talk.lone.fin(head, &answer(version, asked.id, &records));
                }
                _ => {
                    let head = talk.lone.open(Dir::Uni, &answer(version, asked.id, &[]));
                    talk.lone.reset(head, 0);
                }
            }
            let events = talk.lone.events();
            if matches!(reason, 2 | 3) {
                let received = Received::of([vec![informed(0)], events].concat());
                let result = received.groups[&(0, 7)].result.clone();
                assert_eq!(result, Some(Err(Error::Lagged)), "{version}");
            } else {
                assert_eq!(events, [refused_group(0)], "{version} {reason}");
            }
            let stopped = |it: &Action| matches!(it, Action::Stop { id, .. } if *id == group);
            assert!(talk.lone.actions().iter().any(stopped), "{version} {reason}");
            assert!(!talk.lone.end.is_closed());
        }
    }
}

/// The peer refuses each FETCH at once. None leaves a timer.
#[test]
fn ten_thousand_groups_without_their_beginning_leave_nothing() {
    for version in [Moqt14, Moqt22] {
        let setup = Setup { max_request_id: 1 << 40, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(config(Side::Client, version), setup);
        talk.lone.events();
        talk.subscribed(5, TrackProperties::default());
        let mut entries = None;
        for n in 1..=10_000 {
            talk.lone.open(Dir::Uni, &stream_from(version, 2, &["c"]));
            let stream = talk.control.unwrap_or(talk.lone.own(Dir::Bi, n));
            // On the control stream the one before is given up first.
            let Some(Message::Fetch(asked)) = talk.written(stream).pop() else { panic!() };
            let error = RequestError { id: talk.id(asked.id), ..RequestError::default() };
            let refusal = match version {
                Moqt14 => Message::FetchError(error),
                _ => Message::RequestError(error),
            };
            match talk.control {
                Some(control) => talk.send(control, &refusal),
                None => talk.lone.fin(stream, &wire(version, &refusal)),
            }
            assert_eq!(talk.lone.events(), [refused_group(0)], "{version}");
            talk.lone.actions();
            let now = talk.lone.end.machine.entries();
            assert_eq!(*entries.get_or_insert(now), now, "{version}: after {n}");
        }
    }
}

/// A subscription ends with its groups at any time, and leaves nothing.
#[test]
fn a_group_that_waits_for_its_beginning_ends_with_its_subscription() {
    for version in EVERY {
        for begun in [false, true] {
            let (mut talk, _, (_, asked), group) = late(version);
            if begun {
                talk.lone.open(Dir::Uni, &answer(version, asked.id, &[object(0, "a")]));
                assert_eq!(talk.lone.events().len(), 2, "{version}: the group and its first frame");
            }
            talk.lone.apply(Command::Unsubscribe { subscription: token(0) });
            let events = talk.lone.events();
            let (ended, over) = events.split_at(usize::from(begun));
            assert!(matches!(over, [Event::SubscribeEnded { .. }]), "{version}: {events:?}");
            assert!(ended.iter().all(|it| matches!(it, Event::GroupEnded { .. })), "{events:?}");
            let stopped = |it: &Action| matches!(it, Action::Stop { id, .. } if *id == group);
            assert!(talk.lone.actions().iter().any(stopped), "{version}");
            assert!(talk.lone.end.machine.bare.core.outgoing_fetches.is_empty());
            assert_eq!(talk.lone.end.machine.bare.core.recv_streams.buffered(), 0);
        }
    }
}

/// *Subgroup Header*: objects before the first one of a subgroup do not exist (18 and later).
#[test]
fn a_group_without_a_first_object_is_not_fetched() {
    for version in EVERY.into_iter().filter(|it| *it >= Moqt18) {
        let mut talk = Talk::quiet(Side::Client, version);
        talk.lone.events();
        talk.subscribed(5, TrackProperties::default());
        // FIRST_OBJECT.
        let stream = stream_from(version, 2, &["c"]).replacen("18", "58", 1);
        talk.lone.open(Dir::Uni, &stream);
        assert_eq!(talk.lone.events(), [refused_group(0)], "{version}");
    }
}

// ---- as publisher ----------------------------------------------------------------------------

const LARGEST: FramePosition = FramePosition::new(7, 2);

/// A server with a subscription of this filter, which was accepted when object 2 of group 7 was the largest.
/// Returns its stream, the request, and what was answered.
fn serving(version: Version, parameters: Parameters) -> (Talk, StreamId, RequestKey, SubscribeOk) {
    let (mut talk, stream, request) = serve_to(Talk::quiet(Side::Server, version), parameters);
    let Message::SubscribeOk(ok) = talk.written_one(stream) else { panic!("no SUBSCRIBE_OK") };
    (talk, stream, request, ok)
}

fn serve_to(mut talk: Talk, parameters: Parameters) -> (Talk, StreamId, RequestKey) {
    talk.lone.events();
    let stream = talk.request(|id| subscribe_message_with(id, parameters));
    let request = match one(talk.lone.events()) {
        Event::SubscribeRequested { request, .. } => request,
        other => panic!("{other:?}"),
    };
    let (info, largest) = (TrackInfo::default(), Some(LARGEST));
    talk.lone.apply(Command::AcceptSubscribe { request, info, largest });
    (talk, stream, request)
}

fn with_filter(filter: Filter) -> Parameters {
    Parameters { filter: Some(filter), ..Parameters::default() }
}

/// The payloads `0` to `n`.
fn numbered(n: u8) -> Vec<Frame> {
    (0..n).map(|i| Frame::new(u64::from(i), vec![b'0' + i])).collect()
}

/// Serves groups 7 and 8 with five objects each. Returns the first object of each that is sent.
fn first_objects(talk: &mut Talk, request: RequestKey, version: Version) -> [Option<u64>; 2] {
    for slot in [7, 8] {
        talk.lone.end.source.insert(token(slot), numbered(5));
        talk.lone.apply(group(request, slot.into()));
    }
    let mut firsts = [None, None];
    for (id, (bytes, fin)) in &talk.lone.sent {
        if id.dir() == Dir::Bi || bytes.is_empty() {
            continue;
        }
        assert!(fin);
        let read = UniStream::read(bytes, draft(version)).unwrap().unwrap();
        let (UniStream::Subgroup(header), len) = read else { panic!("{read:?}") };
        let head = ObjectHead::read(&bytes[len..], header.properties, draft(version));
        firsts[header.group as usize - 7] = Some(head.unwrap().unwrap().0.delta);
    }
    firsts
}

/// *Location Filters*, *Largest Object*: nothing outside of the filter is sent.
#[test]
fn a_subscription_begins_where_its_filter_says() {
    for version in EVERY {
        // The first object of groups 7 and 8 that is sent. All frames of group 6 are before.
        let at = |group, object| Location::new(group, object);
        let cases = [
            (Filter::NextObject, Some(3), Some(0)),
            // The publishers of 14 begin with the latest group.
            (Filter::NextGroup, (version == Moqt14).then_some(0), Some(0)),
            (Filter::From(at(7, 1)), Some(1), Some(0)),
            (Filter::From(at(8, 4)), None, Some(4)),
            (Filter::GroupsBack(1), Some(0), Some(0)),
        ];
        for (filter, seven, eight) in cases {
            if version < Moqt20 && matches!(filter, Filter::GroupsBack(_)) {
                continue;
            }
            let (mut talk, _, request, ok) = serving(version, with_filter(filter));
            assert_eq!(ok.parameters.largest, Some(at(7, 2)), "{version}");
            let firsts = first_objects(&mut talk, request, version);
            assert_eq!(firsts, [seven, eight], "{version} {filter:?}");
        }
    }
}

/// `@moq/net` drops a group whose first object it did not get, see `coding::ietf::quirks`.
#[test]
fn moq_lite_js_gets_the_latest_group_from_its_first_object() {
    for version in EVERY {
        let implementation = Some("moq-lite-js".into());
        let setup = Setup { implementation, solicit: true, ..Setup::default() };
        let talk = Talk::with(config(Side::Server, version), setup);
        let (mut talk, _, request) = serve_to(talk, with_filter(Filter::NextObject));
        let firsts = first_objects(&mut talk, request, version);
        assert_eq!(firsts, [Some(0), Some(0)], "{version}");
    }
}

/// A group that ended with the largest object has a stream without objects, which says so.
#[test]
fn a_group_without_later_objects_has_an_empty_stream() {
    for version in EVERY {
        let (mut talk, _, request, _) = serving(version, with_filter(Filter::NextObject));
        talk.lone.end.source.insert(token(7), numbered(3));
        talk.lone.apply(group(request, 7));
        let sent = answered(&mut talk);
        let read = UniStream::read(&sent, draft(version)).unwrap().unwrap();
        let (UniStream::Subgroup(header), len) = read else { panic!("{read:?}") };
        assert_eq!((header.group, header.first_object, len), (7, false, sent.len()), "{version}");
    }
}

/// A record in the answer to a FETCH, as a test compares it.
#[derive(Debug, PartialEq, Eq)]
enum Record {
    Object(u64, u64, Vec<u8>),
    Unknown(u64),
}

/// The request and the records on a stream of the machine that answers a FETCH.
fn records(version: Version, order: GroupOrder, bytes: &[u8]) -> (u64, Vec<Record>) {
    let read = UniStream::read(bytes, draft(version)).unwrap().unwrap();
    let (UniStream::Fetch { request }, mut at) = read else { panic!("{read:?}") };
    let mut state = FetchRecords::new(order, draft(version));
    let mut records = vec![];
    while at < bytes.len() {
        let (record, len) = state.read(&bytes[at..]).unwrap().expect("whole records");
        at += len;
        records.push(match record {
            FetchRecord::Object(FetchObject { location, size, .. }) => {
                let payload = bytes[at..at + size as usize].to_vec();
                at += size as usize;
                Record::Object(location.group, location.object, payload)
            }
            FetchRecord::Unknown(end) => Record::Unknown(end.group),
            other => panic!("{other:?}"),
        });
    }
    (request, records)
}

/// Objects `first` to `last` of a group of [`numbered`].
fn objects(group: u64, first: u8, last: u8) -> impl Iterator<Item = Record> {
    (first..=last).map(move |i| Record::Object(group, i.into(), vec![b'0' + i]))
}

fn range_requested(events: Vec<Event>) -> (RequestKey, RangeTarget, FetchRange) {
    match one(events) {
        Event::RangeRequested { request, target, range, .. } => (request, target, range),
        other => panic!("{other:?}"),
    }
}

/// The only unidirectional stream that the machine wrote on, which is finished.
fn answered(talk: &mut Talk) -> Vec<u8> {
    let control = |(id, _): &(&StreamId, &(Vec<u8>, bool))| id.dir() == Dir::Uni;
    let streams: Vec<_> = talk.lone.sent.iter().filter(control).collect();
    let (_, (bytes, fin)) = one(streams);
    assert!(fin);
    bytes.clone()
}

/// The frames of a group that lie in a range.
fn frames_of(sequence: u64, (start, end): (FramePosition, FramePosition)) -> ObjectRun {
    let first_frame = if sequence == start.group { start.frame } else { 0 };
    let last_frame = (sequence == end.group).then_some(end.frame);
    let (subgroup, priority) = (Some(0), None);
    ObjectRun { sequence, subgroup, priority, object: first_frame, first_frame, last_frame }
}

/// A whole group.
fn whole(sequence: u64) -> ObjectRun {
    frames_of(sequence, (FramePosition::default(), FramePosition::MAX))
}

/// The application answers with groups of five frames, and ends the range.
fn serve(
    talk: &mut Talk,
    request: RequestKey,
    groups: &[(u64, bool)],
    range: (FramePosition, FramePosition),
) {
    let (info, end) = (TrackInfo::default(), range.1);
    talk.lone.apply(Command::AcceptRange { request, info, end, ends_track: false });
    for (sequence, gap) in groups {
        let group = token(*sequence as u32);
        talk.lone.end.source.insert(group, numbered(5));
        talk.lone.apply(Command::RangeGroup {
            request,
            group,
            run: frames_of(*sequence, range),
            gap: *gap,
        });
        assert_eq!(talk.lone.events(), [Event::GroupReleased { group, sent: true }]);
    }
    talk.lone.apply(Command::EndRange { request, gap: false });
    let over = Event::RequestEnded { request, result: Ok(()) };
    assert_eq!(talk.lone.events(), [over]);
}

/// *Fetch*: groups come in the requested order, on one stream, and gaps are told where the draft can.
#[test]
fn several_groups_are_fetched_in_either_order() {
    for version in EVERY {
        for order in [GroupOrder::Ascending, GroupOrder::Descending] {
            let mut talk = Talk::quiet(Side::Server, version);
            talk.lone.events();
            let before = talk.lone.end.machine.entries();
            let stream = talk.request(|id| {
                let end = FetchEnd { group: 9, object: Some(1) };
                let message = fetch_message(version, id, Location::new(3, 2), end);
                let Message::Fetch(mut message) = message else { panic!("no FETCH") };
                message.parameters.order = Some(order);
                Message::Fetch(message)
            });
            let (request, target, range) = range_requested(talk.lone.events());
            let track = RangeTarget::Track { broadcast: path("demo"), track: "video".into() };
            assert_eq!(target, track);
            let descending = order == GroupOrder::Descending;
            let (start, end) = (FramePosition::new(3, 2), FramePosition::new(9, 1));
            assert_eq!(
                range,
                FetchRange { start, groups_back: None, end, descending, fill_timeout: None }
            );
            let has_gaps = version >= Moqt16;
            let mut groups = [(3, false), (4, false), (9, has_gaps)];
            if descending {
                groups = [(9, false), (4, has_gaps), (3, false)];
            }
            serve(&mut talk, request, &groups, (start, end));
            let Message::FetchOk(ok) = talk.written_one(stream) else { panic!("no FETCH_OK") };
            assert_eq!(ok.end, FetchEnd { group: 9, object: Some(1) }, "{version}");
            let (id, sent) = records(version, order, &answered(&mut talk));
            let gap = if descending { Record::Unknown(5) } else { Record::Unknown(8) };
            let gap = Some(gap).filter(|_| has_gaps);
            let expected: Vec<_> = if descending {
                let (late, early) = (objects(9, 0, 1), objects(4, 0, 4).chain(objects(3, 2, 4)));
                late.chain(gap).chain(early).collect()
            } else {
                let early = objects(3, 2, 4).chain(objects(4, 0, 4));
                early.chain(gap).chain(objects(9, 0, 1)).collect()
            };
            assert_eq!((id, sent), (0, expected), "{version} {order:?}");
            if version >= Moqt17 {
                talk.lone.fin(stream, "");
            }
            // The id of the first request is used up.
            let after = talk.lone.end.machine.entries();
            assert_eq!(after, before, "{version} {order:?}");
        }
    }
}

/// *Gaps in a Fetch Stream*: what can't be told resets the stream (14, 15). An empty answer is a stream as well.
#[test]
fn a_range_ends_with_what_is_known() {
    for version in EVERY {
        let range = |talk: &mut Talk| {
            let end = FetchEnd { group: 9, object: None };
            talk.request(|id| fetch_message(version, id, Location::new(3, 0), end));
            let (request, ..) = range_requested(talk.lone.events());
            let (info, end) = (TrackInfo::default(), FramePosition::new(9, 4));
            talk.lone.apply(Command::AcceptRange { request, info, end, ends_track: true });
            request
        };
        let mut talk = Talk::quiet(Side::Server, version);
        talk.lone.events();
        let request = range(&mut talk);
        talk.lone.apply(Command::EndRange { request, gap: false });
        assert_eq!(talk.lone.events(), [Event::RequestEnded { request, result: Ok(()) }]);
        let (_, sent) = records(version, GroupOrder::Ascending, &answered(&mut talk));
        assert_eq!(sent, [], "{version}");

        let mut talk = Talk::quiet(Side::Server, version);
        talk.lone.events();
        let request = range(&mut talk);
        talk.lone.end.source.insert(token(3), numbered(5));
        let group = token(3);
        talk.lone.apply(Command::RangeGroup { request, group, run: whole(3), gap: false });
        // The next part is out of turn before this one is released, and it comes once.
        assert_eq!(talk.lone.events(), [Event::GroupReleased { group, sent: true }]);
        talk.lone.apply(Command::EndRange { request, gap: true });
        if version >= Moqt16 {
            let (_, sent) = records(version, GroupOrder::Ascending, &answered(&mut talk));
            let expected: Vec<_> = objects(3, 0, 4).chain([Record::Unknown(9)]).collect();
            assert_eq!(sent, expected, "{version}");
            assert_eq!(talk.lone.events(), [Event::RequestEnded { request, result: Ok(()) }]);
        } else {
            let is_reset =
                |it: &Action| matches!(it, Action::Reset { id, .. } if id.dir() == Dir::Uni);
            assert!(talk.lone.actions().iter().any(is_reset), "{version}");
            let result = Err(Error::Evicted);
            assert_eq!(talk.lone.events(), [Event::RequestEnded { request, result }]);
        }
    }
}

/// *Fetch Header*: the objects of several subgroups come in the order of their ids, also in the answer for one group.
/// Each has its subgroup, its priority, and whether it was a datagram, where the draft can say so.
#[test]
fn several_subgroups_are_fetched_as_one_group() {
    for version in EVERY {
        let mut talk = Talk::quiet(Side::Server, version);
        talk.lone.events();
        let end = FetchEnd { group: 7, object: Some(9) };
        talk.request(|id| fetch_message(version, id, Location::new(7, 1), end));
        let events = talk.lone.events();
        let Event::FetchRequested { request, .. } = one(events) else { panic!("no FETCH") };
        let (info, end) =
            (TrackInfo { priority: 90, ..Default::default() }, FramePosition::new(7, 8));
        talk.lone.apply(Command::AcceptRange { request, info, end, ends_track: false });
        let group = token(7);
        talk.lone.end.source.insert(group, numbered(5));
        let run = |subgroup, priority, object, first_frame, last_frame| {
            let last_frame = Some(last_frame);
            ObjectRun { sequence: 7, subgroup, priority, object, first_frame, last_frame }
        };
        for (run, gap) in [
            (run(Some(4), Some(200), 1, 0, 1), false),
            (run(Some(0), None, 3, 3, 3), false),
            (run(None, Some(9), 5, 0, 0), true),
            (run(Some(4), Some(200), 6, 2, 4), false),
        ] {
            talk.lone.apply(Command::RangeGroup { request, group, run, gap });
            assert_eq!(talk.lone.events(), [Event::GroupReleased { group, sent: true }]);
        }
        talk.lone.apply(Command::EndRange { request, gap: false });
        assert_eq!(talk.lone.events(), [Event::RequestEnded { request, result: Ok(()) }]);

        let bytes = answered(&mut talk);
        let mut at = UniStream::read(&bytes, draft(version)).unwrap().unwrap().1;
        let mut state = FetchRecords::new(GroupOrder::Ascending, draft(version));
        let mut sent = vec![];
        while at < bytes.len() {
            let (record, len) = state.read(&bytes[at..]).unwrap().expect("whole records");
            at += len;
            sent.push(match record {
                FetchRecord::Object(it) => {
                    let payload = bytes[at];
                    at += it.size as usize;
                    (it.location, Some((it.subgroup, it.priority, payload)))
                }
                FetchRecord::Unknown(end) => (end, None),
                other => panic!("{other:?}"),
            });
        }
        let has_flags = version >= Moqt16;
        let datagram = (!has_flags).then_some(0);
        let object = |id, subgroup, priority, payload| {
            (Location::new(7, id), Some((subgroup, priority, payload)))
        };
        let gap = has_flags.then_some((Location::new(7, 4), None));
        let before = [
            object(1, Some(4), 200, b'0'),
            object(2, Some(4), 200, b'1'),
            object(3, Some(0), 90, b'3'),
        ];
        let after = [
            object(5, datagram, 9, b'0'),
            object(6, Some(4), 200, b'2'),
            object(7, Some(4), 200, b'3'),
            object(8, Some(4), 200, b'4'),
        ];
        let expected: Vec<_> = before.into_iter().chain(gap).chain(after).collect();
        assert_eq!(sent, expected, "{version}");
    }
}

/// A range can be given up between its groups, by either end.
#[test]
fn a_range_can_be_given_up_between_its_groups() {
    for version in EVERY {
        for by_peer in [false, true] {
            let mut talk = Talk::quiet(Side::Server, version);
            talk.lone.events();
            let end = FetchEnd { group: 9, object: None };
            talk.request(|id| fetch_message(version, id, Location::new(3, 0), end));
            let (request, ..) = range_requested(talk.lone.events());
            let (info, end) = (TrackInfo::default(), FramePosition::new(9, 4));
            talk.lone.apply(Command::AcceptRange { request, info, end, ends_track: false });
            let group = token(3);
            talk.lone.end.source.insert(group, numbered(5));
            talk.lone.apply(Command::RangeGroup { request, group, run: whole(3), gap: false });
            assert_eq!(talk.lone.events(), [Event::GroupReleased { group, sent: true }]);
            if by_peer {
                let uni = |id: &&StreamId| id.dir() == Dir::Uni;
                let stream = *talk.lone.sent.keys().find(uni).unwrap();
                talk.lone.stop(stream, 1);
                let events = talk.lone.events();
                assert!(matches!(events[..], [Event::RequestEnded { result: Err(_), .. }]));
            } else {
                talk.lone.apply(Command::Refuse { request, error: Error::App(3) });
                assert_eq!(talk.lone.events(), []);
            }
            let is_reset =
                |it: &Action| matches!(it, Action::Reset { id, .. } if id.dir() == Dir::Uni);
            assert!(talk.lone.actions().iter().any(is_reset), "{version}");
            let core = &talk.lone.end.machine.bare.core;
            assert!(core.incoming_fetches.is_empty(), "{version}");
            assert!(Census::of(&core.schedule).is_empty(), "{version}");
            // A group that follows is too late, and its token is released.
            let group = token(4);
            talk.lone.apply(Command::RangeGroup { request, group, run: whole(4), gap: false });
            assert_eq!(talk.lone.events(), [Event::GroupReleased { group, sent: false }]);
        }
    }
}

/// No group may wait, and so neither the end of an answer. It has no group whose token could be released.
#[test]
fn an_end_that_can_not_wait_releases_no_group() {
    for version in EVERY {
        let limits = Limits { pending_groups: 0, ..Limits::default() };
        let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(Config { limits, ..config(Side::Server, version) }, setup);
        let end = FetchEnd { group: 9, object: None };
        talk.request(|id| fetch_message(version, id, Location::new(3, 0), end));
        let (request, ..) = range_requested(talk.lone.events());
        let (info, end) = (TrackInfo::default(), FramePosition::new(9, 4));
        talk.lone.apply(Command::AcceptRange { request, info, end, ends_track: false });
        talk.lone.apply(Command::EndRange { request, gap: false });
        let over = Event::RequestEnded { request, result: Err(Error::Cancelled) };
        assert_eq!(talk.lone.events(), [over], "{version}");
    }
}

/// *Joining Fetches*: the objects up to the largest one when the subscription was accepted, which may come after the
/// FETCH (14 to 19).
#[test]
fn a_joining_fetch_ends_where_its_subscription_begins() {
    for version in EVERY.into_iter().filter(|it| *it < Moqt20) {
        for (early, target) in [
            (false, FetchTarget::Relative { joins: 0, groups_back: 1 }),
            (false, FetchTarget::Absolute { joins: 0, group: 6 }),
            (true, FetchTarget::Relative { joins: 0, groups_back: 1 }),
        ] {
            let mut talk = Talk::quiet(Side::Server, version);
            talk.lone.events();
            let fetch = |id| {
                let parameters = Parameters::default();
                Message::Fetch(Fetch { id, target: target.clone(), parameters })
            };
            talk.request(|id| subscribe_message_with(id, with_filter(Filter::NextObject)));
            let joined = match one(talk.lone.events()) {
                Event::SubscribeRequested { request, .. } => request,
                other => panic!("{other:?}"),
            };
            if early {
                talk.request(fetch);
                assert_eq!(talk.lone.events(), [], "{version}: it waits for the subscription");
            }
            let (info, largest) = (TrackInfo::default(), Some(LARGEST));
            talk.lone.apply(Command::AcceptSubscribe { request: joined, info, largest });
            if !early {
                talk.request(fetch);
            }
            let (request, target, range) = range_requested(talk.lone.events());
            assert_eq!(target, RangeTarget::Subscription(joined));
            let start = FramePosition::new(6, 0);
            assert_eq!((range.start, range.end), (start, LARGEST), "{version}");
            serve(&mut talk, request, &[(6, false), (7, false)], (start, LARGEST));
            let (id, sent) = records(version, GroupOrder::Ascending, &answered(&mut talk));
            let expected: Vec<_> = objects(6, 0, 4).chain(objects(7, 0, 2)).collect();
            assert_eq!((id, sent), (2, expected), "{version}");
        }
    }
}

/// *Joining Fetches*: without a subscription, without objects, and after the largest one.
#[test]
fn a_joining_fetch_is_refused_with_a_code() {
    for version in EVERY.into_iter().filter(|it| *it < Moqt20) {
        let refused = |subscribes: bool, largest, target: FetchTarget, code| {
            let mut talk = Talk::quiet(Side::Server, version);
            talk.lone.events();
            talk.request(|id| subscribe_message_with(id, with_filter(Filter::NextObject)));
            let request = match one(talk.lone.events()) {
                Event::SubscribeRequested { request, .. } => request,
                other => panic!("{other:?}"),
            };
            let info = TrackInfo::default();
            talk.lone.apply(match subscribes {
                true => Command::AcceptSubscribe { request, info, largest },
                false => Command::Refuse { request, error: Error::NotFound },
            });
            let parameters = Parameters::default();
            let stream = talk.request(|id| Message::Fetch(Fetch { id, target, parameters }));
            let written = talk.written(stream).pop().map(Message::unified);
            assert_eq!(written, Some(talk.error(2, code)), "{version}");
            assert_eq!(talk.lone.events(), []);
        };
        let relative = FetchTarget::Relative { joins: 0, groups_back: 0 };
        refused(false, None, relative.clone(), INVALID_JOINING_REQUEST_ID);
        refused(true, None, relative, INVALID_RANGE);
        let after = FetchTarget::Absolute { joins: 0, group: 8 };
        refused(true, Some(LARGEST), after, INVALID_RANGE);
    }
}

/// A joining FETCH on a stream of its own may overtake its SUBSCRIBE (17 and later).
#[test]
fn a_joining_fetch_may_overtake_its_subscription() {
    for version in [Moqt17, Moqt18, Moqt19] {
        for withdrawn in [false, true] {
            let mut talk = Talk::quiet(Side::Server, version);
            talk.lone.events();
            talk.next = 2;
            let target = FetchTarget::Relative { joins: 0, groups_back: 0 };
            let parameters = Parameters::default();
            let join = talk.request(|id| Message::Fetch(Fetch { id, target, parameters }));
            assert_eq!(talk.lone.events(), [], "{version}");
            if withdrawn {
                talk.lone.reset(join, 1);
            }
            talk.next = 0;
            talk.request(|id| subscribe_message_with(id, with_filter(Filter::NextObject)));
            let joined = match one(talk.lone.events()) {
                Event::SubscribeRequested { request, .. } => request,
                other => panic!("{other:?}"),
            };
            let (info, largest) = (TrackInfo::default(), Some(LARGEST));
            talk.lone.apply(Command::AcceptSubscribe { request: joined, info, largest });
            let events = talk.lone.events();
            assert_eq!(events.len(), usize::from(!withdrawn), "{version}: {events:?}");
        }
    }
}

/// *Fill Semantics*: a stream with the id of SUBSCRIBE brings the objects before the subscription (20 and later).
#[test]
fn a_subscription_is_filled() {
    for version in [Moqt20, Moqt21, Moqt22] {
        let fill = with_filter(Filter::GroupsBack(1));
        let parameters = |forward| Parameters {
            fill: Some(Box::new(fill.clone())),
            forward,
            ..with_filter(Filter::NextObject)
        };
        let (mut talk, stream, joined, ok) = serving(version, parameters(None));
        assert_eq!(ok.parameters.largest, Some(Location::new(7, 2)));
        let (request, target, range) = range_requested(talk.lone.events());
        assert_eq!(target, RangeTarget::Subscription(joined));
        let (start, end) = (FramePosition::new(7, 0), LARGEST);
        // Groups of the subscription come in descending order.
        assert_eq!(
            range,
            FetchRange { start, groups_back: None, end, descending: true, fill_timeout: None }
        );
        serve(&mut talk, request, &[(7, false)], (start, end));
        let (id, sent) = records(version, GroupOrder::Descending, &answered(&mut talk));
        assert_eq!((id, sent), (0, objects(7, 0, 2).collect()), "{version}");
        // No FETCH_OK, and PUBLISH_DONE counts the stream.
        talk.lone.apply(Command::FinishSubscribe { request: joined, end: 8 });
        assert_eq!(talk.written_one(stream), talk.done(0, TRACK_ENDED, 1), "{version}");

        // Without a stream there is none to count.
        let (mut talk, stream, joined, _) = serving(version, parameters(None));
        let (request, ..) = range_requested(talk.lone.events());
        talk.lone.apply(Command::FinishSubscribe { request: joined, end: 8 });
        assert_eq!(talk.written(stream), [], "{version}");
        talk.lone.apply(Command::Refuse { request, error: Error::Old });
        assert_eq!(talk.written_one(stream), talk.done(0, TRACK_ENDED, 0), "{version}");

        // A paused subscription is not filled.
        let (mut talk, ..) = serving(version, parameters(Some(false)));
        assert_eq!(talk.lone.events(), [], "{version}");
    }
}

/// *Fill Semantics*: a track that ends waits for what fills the subscription. A subscription that is cancelled does
/// not.
#[test]
fn a_fill_ends_with_its_subscription() {
    for version in [Moqt20, Moqt21, Moqt22] {
        for finishes in [true, false] {
            let fill = Some(Box::new(with_filter(Filter::GroupsBack(2))));
            let parameters = Parameters { fill, ..with_filter(Filter::NextObject) };
            let (mut talk, stream, joined, _) = serving(version, parameters);
            let (request, ..) = range_requested(talk.lone.events());
            let (info, end) = (TrackInfo::default(), LARGEST);
            talk.lone.apply(Command::AcceptRange { request, info, end, ends_track: false });
            let group = token(7);
            talk.lone.end.source.insert(group, numbered(5));
            talk.lone.apply(Command::RangeGroup { request, group, run: whole(7), gap: false });
            assert_eq!(talk.lone.events(), [Event::GroupReleased { group, sent: true }]);
            if finishes {
                talk.lone.apply(Command::FinishSubscribe { request: joined, end: 8 });
                assert_eq!(talk.written(stream), [], "{version}");
                talk.lone.apply(Command::EndRange { request, gap: false });
                assert_eq!(talk.written_one(stream), talk.done(0, TRACK_ENDED, 1), "{version}");
            } else {
                talk.lone.reset(stream, 1);
                let ended = |request, error| Event::RequestEnded { request, result: Err(error) };
                let events = talk.lone.events();
                let over = [ended(request, Error::Cancelled), ended(joined, Error::Cancelled)];
                assert!(over.iter().all(|it| events.contains(it)), "{version}: {events:?}");
                let is_reset =
                    |it: &Action| matches!(it, Action::Reset { id, .. } if id.dir() == Dir::Uni);
                assert!(talk.lone.actions().iter().any(is_reset), "{version}");
            }
            assert!(talk.lone.end.machine.bare.core.incoming_fetches.is_empty());
        }
    }
}

/// `@moq/net` 0.3, see `coding::ietf::quirks`: from 17 on a Location is two integers for everybody else.
#[test]
fn largest_object_has_a_length_for_moq_lite_js() {
    for version in [Moqt17, Moqt18, Moqt19, Moqt20] {
        let answer = |implementation: &str| {
            let implementation = Some(implementation.into());
            let setup = Setup { implementation, solicit: true, ..Setup::default() };
            let mut talk = Talk::with(config(Side::Server, version), setup);
            let stream = talk.request(subscribe_message);
            let Event::SubscribeRequested { request, .. } = one(talk.lone.events()) else {
                panic!()
            };
            let largest = Some(FramePosition::new(5, 3));
            let info = TrackInfo::default();
            talk.lone.apply(Command::AcceptSubscribe { request, info, largest });
            talk.lone.sent(stream)
        };
        assert!(answer("moq-lite-js").contains("09020503"), "{}", answer("moq-lite-js"));
        assert!(answer("moq-lite-rs").contains("090503"), "{}", answer("moq-lite-rs"));
    }
}
