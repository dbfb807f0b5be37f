//! Subgroups as they are read and written where the application wants all of them (*Subgroup Header*, *Object Header*).

use super::*;
use crate::Properties;

/// A machine that reports subgroups, with a subscription whose alias is 9.
fn reader(version: Version) -> Talk {
    let config = Config { subgroups: true, ..config(Side::Client, version) };
    let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
    let mut talk = Talk::with(config, setup);
    talk.subscribed(9, TrackProperties::default());
    talk
}

fn other(number: u64) -> Subgroup {
    Subgroup {
        number,
        first_frame: 0,
        priority: Some(127),
        is_from_start: false,
        ends_group: false,
    }
}

fn began(sequence: u64, first_frame: u64, expected: Subgroup, event: Event) -> GroupKey {
    let Event::Subgroup { subscription, group, sequence: s, subgroup } = event else {
        panic!("{event:?}")
    };
    let expected = Subgroup { first_frame, ..expected };
    assert_eq!((subscription, s, subgroup), (token(0), sequence, expected));
    group
}

/// A gap, a status and a payload.
type Object = (u32, u8, Vec<u8>);

/// The objects and the end.
fn objects(group: GroupKey, events: Vec<Event>) -> (Vec<Object>, Option<Result<(), Error>>) {
    let (mut objects, mut end) = (Vec::new(), None);
    for event in events {
        match event {
            Event::Frame { group: of, properties, payload, .. } if of == group => {
                let properties = properties.expect("without a timescale");
                objects.push((properties.gap(), properties.status(), payload.to_bytes().to_vec()));
            }
            Event::GroupEnded { group: of, result } if of == group => end = Some(result),
            event => panic!("{event:?}"),
        }
    }
    (objects, end)
}

/// D22-11-3-2-MUST-NOT-516: each subgroup is reported with its number, its priority, the flags of its header, and the gaps between
/// its objects. A status is the last that is reported of it.
#[test]
fn subgroups_are_read_with_their_gaps() {
    let (hi, yo) = (b"hi".to_vec(), b"yo".to_vec());
    for version in EVERY {
        for (stream, first, subgroup, expected) in [
            // Explicit numbers, and the end of the group.
            (
                "14 09 04 03 80 02 02 6869 00 02 796f fin",
                2,
                other(3),
                vec![(2, 0, &hi), (0, 0, &yo)],
            ),
            (
                "1c 09 04 03 00 00 02 6869 fin",
                0,
                Subgroup { priority: Some(255), ends_group: true, ..other(3) },
                vec![(0, 0, &hi)],
            ),
            // The number of the first object.
            ("12 09 04 80 05 02 6869 02 02 796f fin", 5, other(5), vec![(5, 0, &hi), (2, 0, &yo)]),
            // Subgroup 0 with a gap, and statuses: the ends of the group and of the track.
            (
                "10 09 04 80 00 02 6869 01 02 796f 03 00 03",
                0,
                other(0),
                vec![(0, 0, &hi), (1, 0, &yo), (3, 3, &vec![])],
            ),
            ("14 09 04 01 80 07 00 04 00 02 6869", 7, other(1), vec![(7, 4, &vec![])]),
        ] {
            let mut talk = reader(version);
            let data = talk.lone.open(Dir::Uni, stream.trim_end_matches(" fin"));
            if stream.ends_with("fin") {
                talk.lone.fin(data, "");
            }
            let mut events = talk.lone.events().into_iter();
            let group = began(4, first, subgroup, events.next().expect("it begins"));
            let expected = expected.into_iter().map(|(gap, status, it)| (gap, status, it.clone()));
            let expected = (expected.collect(), Some(Ok(())));
            assert_eq!(objects(group, events.collect()), expected, "{version}: {stream}");
        }
    }
    // From 18 on the header tells whether the first object of a subgroup is on the stream; before a subgroup 0 with a
    // later object than 0 there is nothing then.
    for stream in ["54 09 04 03 80 02 02 6869", "50 09 04 80 02 02 6869"] {
        let mut talk = reader(Moqt18);
        talk.lone.open(Dir::Uni, stream);
        let number = if stream.starts_with("54") { 3 } else { 0 };
        let subgroup = Subgroup { is_from_start: true, ..other(number) };
        began(4, 2, subgroup, talk.lone.events().swap_remove(0));
    }
    // The priority of the track (15 and later).
    let mut talk = reader(Moqt18);
    talk.lone.open(Dir::Uni, "34 09 04 03 00 02 6869");
    began(4, 0, Subgroup { priority: None, ..other(3) }, talk.lone.events().swap_remove(0));
}

/// A gap that no group of this side can have breaks its subgroup alone. An object that does not exist (14, 15) ends it.
#[test]
fn absurd_objects_end_their_subgroup() {
    let mut talk = reader(Moqt18);
    // Objects 2^40, and 2^64 - 1 after another one.
    for stream in [
        "14 09 04 01 80 fc010000000000 00 02 6869",
        "14 09 05 01 80 00 02 6869 ffffffffffffffffff 02 6869",
    ] {
        let stream = stream.replace("fc010000000000 00", "fd010000000000");
        talk.lone.open(Dir::Uni, &stream);
        let ended = talk.lone.events().pop();
        assert!(
            matches!(ended, Some(Event::GroupEnded { result: Err(Error::Lagged), .. })),
            "{ended:?}"
        );
    }
    let mut talk = reader(Moqt14);
    talk.lone.open(Dir::Uni, "14 09 04 01 80 00 02 6869 00 00 01");
    let ended = talk.lone.events().pop();
    assert!(matches!(ended, Some(Event::GroupEnded { result: Ok(()), .. })), "{ended:?}");
    assert!(!talk.lone.end.is_closed());
}

fn serving(
    version: Version,
    parameters: Parameters,
    largest: Option<FramePosition>,
) -> (Talk, RequestKey) {
    let mut talk = Talk::quiet(Side::Server, version);
    talk.request(|id| subscribe_message_with(id, parameters));
    let Some(Event::SubscribeRequested { request, .. }) = talk.lone.events().pop() else {
        panic!("no subscription")
    };
    let info = TrackInfo { priority: 200, ..TrackInfo::default() };
    talk.lone.apply(Command::AcceptSubscribe { request, info, largest });
    (talk, request)
}

fn after(gap: u32, status: u8, payload: &'static str) -> Frame {
    let properties = Properties::NONE.with_gap_and_status(gap, status);
    Frame { properties: Some(properties), ..Frame::new(0, payload) }
}

/// D22-2-2-MUST-NOT-019: a subgroup is written to a stream of its own, with its number, its priority, its flags, the gaps
/// between its objects, and its status.
#[test]
fn subgroups_are_written_with_their_gaps() {
    for version in EVERY {
        let (mut talk, request) = serving(version, Parameters::default(), None);
        let written = [
            (other(3), 2, vec![after(2, 0, "hi"), after(0, 0, "yo")]),
            (
                Subgroup { ends_group: true, is_from_start: true, priority: None, ..other(1) },
                0,
                vec![after(0, 0, "hi"), after(300, 0, "yo")],
            ),
            (other(0), 0, vec![after(0, 0, "hi"), after(1, 0, "yo"), after(3, 3, "")]),
        ];
        for (n, (subgroup, first_frame, frames)) in written.into_iter().enumerate() {
            let subgroup = Subgroup { first_frame, ..subgroup };
            talk.lone.end.source.insert(token(n as u32), frames);
            let (group, sequence) = (token(n as u32), 7);
            talk.lone.apply(Command::Subgroup { request, group, sequence, subgroup });
        }
        let expected = match version {
            Moqt14 | Moqt15 | Moqt16 => [
                "14 00 07 03 80 02 02 6869 00 02 796f fin",
                "1c 00 07 01 37 00 02 6869 412c 02 796f fin",
                "10 00 07 80 00 02 6869 01 02 796f 03 00 03 fin",
            ],
            Moqt17 => [
                "15 00 07 03 80 02 00 02 6869 00 00 02 796f fin",
                "1d 00 07 01 37 00 00 02 6869 812c 00 02 796f fin",
                "11 00 07 80 00 00 02 6869 01 00 02 796f 03 00 00 03 fin",
            ],
            _ => [
                "15 00 07 03 80 02 00 02 6869 00 00 02 796f fin",
                "5d 00 07 01 37 00 00 02 6869 812c 00 02 796f fin",
                "11 00 07 80 00 00 02 6869 01 00 02 796f 03 00 00 03 fin",
            ],
        };
        for (n, expected) in expected.into_iter().enumerate() {
            let data = talk.lone.own(Dir::Uni, n as u64 + u64::from(version >= Moqt17));
            assert_eq!(talk.lone.sent(data).replace(' ', ""), bytes(expected), "{version}");
        }
        assert_eq!(talk.lone.events().len(), 3, "all are released");
    }
}

/// *Subscription Filters*: where a subscription begins inside of a group, subgroups that begin before are left out.
#[test]
fn subgroups_before_the_start_are_left_out() {
    for version in DRAFTS {
        let filter = Some(Filter::NextObject);
        let parameters = Parameters { filter, ..Parameters::default() };
        let (mut talk, request) = serving(version, parameters, Some(FramePosition::new(7, 2)));
        for (n, (sequence, number, first_frame, is_sent)) in
            [(6, 1, 9, false), (7, 1, 2, false), (7, 2, 3, true), (8, 1, 1, true)]
                .into_iter()
                .enumerate()
        {
            let (group, subgroup) = (token(n as u32), Subgroup { first_frame, ..other(number) });
            talk.lone.end.source.insert(group, [after(first_frame as u32, 0, "hi")]);
            talk.lone.apply(Command::Subgroup { request, group, sequence, subgroup });
            let released = Event::GroupReleased { group, sent: is_sent };
            assert_eq!(talk.lone.events(), [released], "{version}: {sequence} {number}");
        }
    }
}

/// *Priorities*: the publisher's priority of a subgroup comes before the order of groups, and before the numbers of subgroups,
/// also between two tracks.
#[test]
fn more_urgent_subgroups_go_first() {
    for (order, expected) in [
        (GroupOrder::Ascending, ["0:0700", "0:0800", "1:0700", "0:0703", "0:0802", "0:0701"]),
        (GroupOrder::Descending, ["0:0800", "0:0700", "1:0700", "0:0802", "0:0703", "0:0701"]),
    ] {
        let parameters = || Parameters { order: Some(order), ..Parameters::default() };
        let (mut talk, request) = serving(Moqt18, parameters(), None);
        talk.request(|id| subscribe_message_with(id, parameters()));
        let Some(Event::SubscribeRequested { request: other_track, .. }) = talk.lone.events().pop()
        else {
            panic!("no subscription")
        };
        let info = TrackInfo { priority: 150, ..TrackInfo::default() };
        let largest = None;
        talk.lone.apply(Command::AcceptSubscribe { request: other_track, info, largest });
        for (n, (request, sequence, number, priority)) in [
            (request, 7, 1, 9),
            (request, 7, 3, 100),
            (other_track, 7, 0, 150),
            (request, 8, 2, 100),
            (request, 7, 0, 200),
            (request, 8, 0, 200),
        ]
        .into_iter()
        .enumerate()
        {
            let subgroup = Subgroup { priority: Some(priority), ..other(number) };
            let group = token(n as u32);
            talk.lone.end.source.insert(group, [after(0, 0, "hi")]);
            talk.lone.end.apply(Command::Subgroup { request, group, sequence, subgroup });
        }
        talk.lone.run();
        let mut priorities = Vec::new();
        for (n, place) in expected.into_iter().enumerate() {
            let (bytes, _) = &talk.lone.sent[&talk.lone.own(Dir::Uni, 1 + n as u64)];
            let read = UniStream::read(bytes, draft(Moqt18)).unwrap().unwrap();
            let (UniStream::Subgroup(header), _) = read else { panic!("{read:?}") };
            let SubgroupHeader { alias, group, subgroup, priority, .. } = header;
            priorities.push(priority.unwrap());
            assert_eq!(
                format!("{}:{group:02}{:02}", alias / 2, subgroup.unwrap()),
                place,
                "{order:?}"
            );
        }
        assert_eq!(priorities, [200, 200, 150, 100, 100, 9]);
    }
}

/// *Priorities*: of the subgroups of a group the lowest goes first, and so does the newest group, or the oldest if that
/// was asked for.
#[test]
fn lower_subgroups_go_first() {
    for (order, expected) in [
        (GroupOrder::Ascending, ["0700", "0703", "0705", "0801", "0802"]),
        (GroupOrder::Descending, ["0801", "0802", "0700", "0703", "0705"]),
    ] {
        let parameters = Parameters { order: Some(order), ..Parameters::default() };
        let (mut talk, request) = serving(Moqt18, parameters, None);
        for (n, (sequence, number)) in
            [(7, 5), (8, 2), (7, 0), (8, 1), (7, 3)].into_iter().enumerate()
        {
            let (group, subgroup) = (token(n as u32), other(number));
            talk.lone.end.source.insert(group, [after(0, 0, "hi")]);
            let command = Command::Subgroup { request, group, sequence, subgroup };
            talk.lone.end.apply(command);
        }
        talk.lone.run();
        for (n, place) in expected.into_iter().enumerate() {
            let sent = talk.lone.sent(talk.lone.own(Dir::Uni, 1 + n as u64)).replace(' ', "");
            // Subgroup 0 has no number in its header.
            let head = if place == "0700" { "11000780" } else { &format!("1500{place}80") };
            assert!(sent.starts_with(head), "{order:?}: {sent} at {n}");
        }
    }
}
