//! Announcements, at both ends (moq-lite-06, 5.1.1 and 7.4 to 7.8).

use super::*;
use crate::coding::lite::{Announce, Base, Bases};

fn hops(ids: &[u64]) -> Hops {
    ids.iter().map(|id| Hop::new(*id)).collect()
}

fn active(suffix: &str, ids: &[u64], cost: Cost) -> Announcement {
    Announcement::Active { suffix: path(suffix), hops: hops(ids), cost }
}

fn ended(suffix: &str) -> Announcement {
    Announcement::Ended { suffix: path(suffix) }
}

const FREE: Cost = Cost { warm: 0, cold: 0 };

// ---- between machines ------------------------------------------------------------------------

/// A pair in which the client requests the announcements of the server, and the request.
fn pair_with_announce_request(version: Version, link: Link, prefix: &str) -> (Peers, RequestKey) {
    let client = Config { interests: vec![path(prefix)], ..config(Side::Client, version) };
    let mut pair = join(client, config(Side::Server, version), link);
    pair.run_until_idle();
    let Event::AnnounceRequested { request, prefix: asked, exclude, hidden, .. } =
        one(pair.server.take_events())
    else {
        panic!("not a request");
    };
    assert_eq!(asked, path(prefix));
    assert_eq!(exclude, if version <= Lite03 { Hop::UNKNOWN } else { CLIENT });
    assert!(hidden);
    (pair, request)
}

/// The hops and cost that the client reports for those that the server announced.
fn expected_route(version: Version, ids: &[u64], cost: Cost) -> (Hops, Cost) {
    let mut hops = hops(ids);
    if version < Lite03 {
        hops = Hops::new();
    }
    hops.push(SERVER).unwrap();
    if version <= Lite03 {
        hops = hops.as_slice().iter().map(|_| Hop::UNKNOWN).collect();
    }
    let cost = if Features::of(version).announce_ids { cost.add(1) } else { Cost::UNKNOWN };
    (hops, cost)
}

#[test]
fn the_initial_set_and_its_changes_are_announced() {
    on_every_link(|version, link| {
        let (mut pair, request) = pair_with_announce_request(version, link, "room");
        let cost = Cost { warm: 2, cold: 5 };
        let announced = |name: &str, ids: &[u64], cost: Cost| {
            let (hops, cost) = expected_route(version, ids, cost);
            Event::Announced { path: path(name), hops, cost }
        };
        let (reader, source) = (token(1), &mut pair.server.source);
        source.announce(reader, active("alice", &[7], FREE));
        source.announce(reader, active("bob", &[], cost));
        pair.server.apply(Command::AcceptAnnounce { request, reader, active: 2 });
        // Only the first answer counts.
        pair.server.apply(Command::AcceptAnnounce { request, reader: token(2), active: 0 });
        pair.run_until_idle();
        let both = [announced("room/alice", &[7], FREE), announced("room/bob", &[], cost)];
        assert_eq!(pair.client.take_events(), both);

        pair.server.source.announce(reader, ended("alice"));
        pair.run_until_idle();
        assert_eq!(pair.client.take_events(), [], "announcements are not ready");
        pair.server.apply(Command::AnnouncementsReady { request });
        pair.run_until_idle();
        let gone = Event::Unannounced { path: path("room/alice") };
        assert_eq!(pair.client.take_events(), core::slice::from_ref(&gone));

        // Another route to the same broadcast. On 04 it is an end and a beginning. Before 04 hops are
        // anonymous, so this would be another broadcast, and it is not announced.
        pair.server.source.announce(reader, active("bob", &[8, 9], FREE));
        pair.server.source.announce(reader, active("alice", &[], FREE));
        pair.server.apply(Command::AnnouncementsReady { request });
        pair.run_until_idle();
        let mut expected = vec![announced("room/alice", &[], FREE)];
        if version >= Lite04 {
            expected.insert(0, announced("room/bob", &[8, 9], FREE));
        }
        if version == Lite04 {
            expected.insert(0, Event::Unannounced { path: path("room/bob") });
        }
        assert_eq!(pair.client.take_events(), expected);

        // A broadcast that was not announced to the peer can't end.
        pair.server.source.announce(reader, ended("carol"));
        pair.server.source.announce(reader, ended("alice"));
        pair.server.apply(Command::AnnouncementsReady { request });
        pair.run_until_idle();
        assert_eq!(pair.client.take_events(), [gone]);
        assert!(!pair.client.is_closed() && !pair.server.is_closed());
    });
}

/// FIN ends everything that was announced, and is not sent before ANNOUNCE_OK.
#[test]
fn the_end_of_announcements_ends_them_all() {
    on_every_link(|version, link| {
        for accepted in [true, false] {
            let (mut pair, request) = pair_with_announce_request(version, link.clone(), "");
            if accepted {
                for name in ["a", "b/c"] {
                    pair.server.source.announce(token(0), active(name, &[], FREE));
                }
                let reader = token(0);
                pair.server.apply(Command::AcceptAnnounce { request, reader, active: 2 });
                pair.run_until_idle();
                assert_eq!(pair.client.take_events().len(), 2);
            }
            pair.server.apply(Command::Refuse { request, error: Error::Unauthorized });
            pair.run_until_idle();
            let gone = |name| Event::Unannounced { path: path(name) };
            let expected = if accepted { vec![gone("a"), gone("b/c")] } else { vec![] };
            assert_eq!(pair.client.take_events(), expected);
            assert_eq!(pair.server.take_events(), []);
            let session = usize::from(Features::of(version).version_setup);
            assert_eq!(pair.streams(Side::Client, Dir::Bi), session, "both halves are over");
            let resets = pair.trace().lines().iter().filter(|line| line.contains("reset"));
            assert_eq!(resets.count(), 0);
        }
    });
}

/// A slow peer finds the changes coalesced: announcements are read only when they can be sent.
#[test]
fn announcements_are_read_as_they_are_sent() {
    for version in LITE {
        let client = Config { interests: vec![Path::root()], ..config(Side::Client, version) };
        let mut server = config(Side::Server, version);
        server.limits.request_buffer = 200;
        let mut pair = join(client, server, Link { stream_window: 100, ..Link::perfect() });
        pair.run_until_idle();
        let Event::AnnounceRequested { request, .. } = one(pair.server.take_events()) else {
            panic!();
        };
        let reader = token(0);
        for index in 0..1_000 {
            pair.server.source.announce(reader, active(&format!("{index}"), &[], FREE));
        }
        pair.server.apply(Command::AcceptAnnounce { request, reader, active: 1_000 });
        // The other end does not read yet.
        for _ in 0..20 {
            if let Some(write) = pair.server.poll_write() {
                let n = write.len().min(10);
                write.accepted(n);
            }
        }
        let read = 1_000 - core::iter::from_fn(|| pair.server.source.announcement(reader)).count();
        assert!((10..100).contains(&read), "{read} were read");
    }
}

// ---- as publisher, bytes ---------------------------------------------------------------------

/// The version decides which hops are in the chain.
#[test]
fn the_bytes_of_a_publisher() {
    let cases = [
        (Lite01, "01 01 00", ["05 01 03 63616d", "", "05 00 03 63616d"]),
        (Lite02, "01 01 00", ["05 01 03 63616d", "", "05 00 03 63616d"]),
        (Lite03, "01 01 00", ["06 01 03 63616d 02", "", "06 00 03 63616d 00"]),
        (
            Lite04,
            "01 03 00 5111",
            [
                "09 01 03 63616d 02 07 6222",
                "06 00 03 63616d 00 0a 01 03 63616d 03 07 09 6222",
                "06 00 03 63616d 00",
            ],
        ),
        (
            Lite05,
            "01 03 00 5111",
            ["03 6222 01 07 01 03 63616d 01 07", "08 01 03 63616d 02 07 09", "06 00 03 63616d 00"],
        ),
        (
            Lite06,
            "01 01 00",
            ["03 6222 01 00 08 03 63616d 01 07 00 03", "02 06 00 02 07 09 02 05", "01 01 00"],
        ),
        (
            Lite07Wip,
            "01 02 00 01",
            [
                "03 a222 01 00 0c 00 00 03 63616d 00 01 07 00 00 03",
                "02 08 00 00 02 07 09 00 02 05",
                "01 01 00",
            ],
        ),
    ];
    for (version, ask, expected) in cases {
        let mut lone = Lone::ready(Side::Server, version);
        let id = lone.open(Dir::Bi, ask);
        let Event::AnnounceRequested { request, .. } = one(lone.events()) else { panic!() };
        let changes = [
            active("cam", &[7], Cost { warm: 0, cold: 3 }),
            active("cam", &[7, 9], Cost { warm: 2, cold: 5 }),
            ended("cam"),
        ];
        let reader = token(0);
        for (index, (change, expected)) in changes.into_iter().zip(expected).enumerate() {
            lone.end.source.announce(reader, change);
            lone.apply(match index {
                0 => Command::AcceptAnnounce { request, reader, active: 1 },
                _ => Command::AnnouncementsReady { request },
            });
            assert_eq!(lone.sent(id), bytes(expected), "{version} {index}");
        }
        // A broadcast that returns gets a new id.
        if version >= Lite06 {
            lone.end.source.announce(reader, active("cam", &[], FREE));
            lone.end.source.announce(reader, ended("cam"));
            lone.apply(Command::AnnouncementsReady { request });
            let begun = match version {
                Lite06 => "00 07 03 63616d 00 00 00",
                _ => "00 0b 00 00 03 63616d 00 00 00 00 00",
            };
            assert_eq!(lone.sent(id), bytes(begun) + "010101");
        }
        assert_eq!(lone.actions(), []);
    }
}

/// The hop to exclude is in the request on 04 and 05, and in SETUP from 06 on.
#[test]
fn the_hop_to_exclude() {
    for (version, setup, ask, hop) in [
        (Lite03, "", "01 01 00", 0),
        (Lite04, "", "01 03 00 5234", 0x1234),
        (Lite04, "", "01 02 00 00", 0),
        (Lite05, "01 05 01 05 02 4021", "01 03 00 5234", 0x1234),
        (Lite06, "01 05 01 05 02 4021", "01 01 00", 0x21),
        (Lite06, "01 01 00", "01 01 00", 0),
        (Lite07Wip, "01 05 01 05 02 8021", "01 02 00 00", 0x21),
    ] {
        let mut lone = Lone::new(config(Side::Server, version));
        if !setup.is_empty() {
            lone.open(Dir::Uni, setup);
        }
        lone.open(Dir::Bi, ask);
        let Event::AnnounceRequested { exclude, .. } = one(lone.events()) else { panic!() };
        assert_eq!(exclude, Hop::new(hop), "{version}");
    }
}

/// On 03 and 04 a publisher adds itself to the chain, so a chain without room for it can't be announced.
#[test]
fn a_full_chain_is_not_announced() {
    for version in [Lite03, Lite04] {
        let mut lone = Lone::ready(Side::Server, version);
        let id = lone.open(Dir::Bi, if version == Lite03 { "01 01 00" } else { "01 02 00 00" });
        let Event::AnnounceRequested { request, .. } = one(lone.events()) else { panic!() };
        let full: Vec<_> = (1..=32).collect();
        let reader = token(0);
        lone.end.source.announce(reader, active("full", &full, FREE));
        lone.end.source.announce(reader, ended("full"));
        lone.apply(Command::AcceptAnnounce { request, reader, active: 1 });
        assert_eq!(lone.sent(id), "");
    }
}

/// moq-lite-06, 4.3: the subscriber may finish or reset its half without effect. STOP_SENDING ends the
/// request.
#[test]
fn only_stop_sending_ends_an_announce_request() {
    for version in LITE {
        let (ask, ok) = (announce_request_bytes(version), nothing_announced(version));
        let ok = ok.replace("5234", "6222").replace("9234", "a222");
        let announce_subscriber = || {
            let mut lone = Lone::ready(Side::Server, version);
            let id = lone.open(Dir::Bi, ask);
            let Event::AnnounceRequested { request, .. } = one(lone.events()) else { panic!() };
            let reader = token(0);
            lone.apply(Command::AcceptAnnounce { request, reader, active: 0 });
            assert_eq!(lone.sent(id), bytes(&ok));
            (lone, id, request)
        };
        // FIN: announcements continue.
        let (mut lone, id, request) = announce_subscriber();
        lone.fin(id, "");
        assert_eq!(lone.events(), []);
        lone.end.source.announce(token(0), active("a", &[], FREE));
        lone.apply(Command::AnnouncementsReady { request });
        assert!(lone.sent(id).len() > 4);

        // STOP_SENDING: the request ends.
        let (mut lone, id, request) = announce_subscriber();
        let before = lone.end.machine.entries();
        lone.stop(id, 9);
        let result = Err(Error::Remote(Code::new(9)));
        assert_eq!(lone.events(), [Event::RequestEnded { request, result }]);
        assert_eq!(lone.actions(), [reset(id, 9)]);
        lone.fin(id, "");
        assert!(lone.end.machine.entries() < before);
        lone.apply(Command::AnnouncementsReady { request });
        assert_eq!(lone.sent(id), "");
    }
}

// ---- as subscriber, bytes --------------------------------------------------------------------

/// A client that requested all announcements, and the stream of that request.
fn announce_subscriber(version: Version) -> (Lone, StreamId) {
    announce_subscriber_with(Config {
        interests: vec![Path::root()],
        ..config(Side::Client, version)
    })
}

fn announce_subscriber_with(config: Config) -> (Lone, StreamId) {
    let version = config.agreed.version();
    let mut lone = Lone::ready_with(config);
    let id = lone.own(Dir::Bi, 0);
    assert_eq!(
        lone.sent(id),
        bytes(if matches!(version, Lite04 | Lite05) {
            "01 03 00 5111"
        } else {
            announce_request_bytes(version)
        })
    );
    lone.data(id, nothing_announced(version));
    (lone, id)
}

fn announced(name: &str, ids: &[u64], cost: Cost) -> Event {
    Event::Announced { path: path(name), hops: hops(ids), cost }
}

fn gone(name: &str) -> Event {
    Event::Unannounced { path: path(name) }
}

/// The sender is the last hop of the chain, in each form in which versions name it.
#[test]
fn reported_hops_end_with_the_sender() {
    let unknown = Cost::UNKNOWN;
    let cases = [
        (Lite01, "05 01 03 63616d", announced("cam", &[0], unknown)),
        (Lite02, "05 01 03 63616d", announced("cam", &[0], unknown)),
        (Lite03, "06 01 03 63616d 02", announced("cam", &[0, 0], unknown)),
        (Lite04, "09 01 03 63616d 02 07 5234", announced("cam", &[7, 0x1234], unknown)),
        (Lite05, "07 01 03 63616d 01 07", announced("cam", &[7, 0x1234], unknown)),
        (
            Lite06,
            "00 08 03 63616d 01 07 00 03",
            announced("cam", &[7, 0x1234], Cost { warm: 1, cold: 4 }),
        ),
        (
            Lite07Wip,
            "00 0c 00 00 03 63616d 00 01 07 00 00 03",
            announced("cam", &[7, 0x1234], Cost { warm: 1, cold: 4 }),
        ),
    ];
    for (version, digits, event) in cases {
        let (mut lone, id) = announce_subscriber(version);
        lone.data(id, digits);
        assert_eq!(lone.events(), [event]);
    }
    // A route equal to the prefix.
    let config = Config { interests: vec![path("room/x")], ..config(Side::Client, Lite06) };
    let mut lone = Lone::ready_with(config);
    lone.data(lone.own(Dir::Bi, 0), "02 00 01 00 04 00 00 00 00");
    let cost = Cost { warm: 1, cold: 1 };
    assert_eq!(lone.events(), [announced("room/x", &[0], cost)]);
}

/// The cost of the link is that of the peer's SETUP, or 1. The sum saturates at the maximum.
#[test]
fn the_link_cost_is_added() {
    for (setup, warm, cold) in
        [("01 04 01 04 01 00", 0, 3), ("01 05 01 04 02 4064", 100, 103), ("01 01 00", 1, 4)]
    {
        let config = Config { interests: vec![Path::root()], ..config(Side::Client, Lite06) };
        let mut lone = Lone::new(config);
        lone.open(Dir::Uni, setup);
        lone.data(lone.own(Dir::Bi, 0), "02 00 01 00 08 03 63616d 01 07 00 03");
        assert_eq!(lone.events(), [announced("cam", &[7, 0], Cost { warm, cold })]);
        // A draining route stays draining.
        lone.data(lone.own(Dir::Bi, 0), "02 12 00 00 ffffffffffffffff ffffffffffffffff");
        let cost = Cost { warm: Cost::MAX, cold: Cost::MAX };
        assert_eq!(lone.events(), [announced("cam", &[0], cost)]);
    }
}

/// A route through this end, or twice through the same hop, is a loop. It is not reported, but its id counts,
/// and an update may make it usable.
#[test]
fn loops_are_not_reported() {
    // The client is 0x1111.
    let (mut lone, id) = announce_subscriber(Lite04);
    lone.data(id, "0b 01 03 63616d 03 07 5111 5234");
    assert_eq!(lone.events(), []);
    lone.data(id, "0a 01 03 666f6f 03 07 07 5234");
    assert_eq!(lone.events(), []);
    lone.data(id, "06 00 03 63616d 00");
    assert_eq!(lone.events(), [], "a route that was not reported does not end");
    lone.data(id, "06 01 03 63616d 00");
    let unknown = announced("cam", &[0], Cost::UNKNOWN);
    assert_eq!(lone.events(), [unknown], "a sender that is not in the chain is an unknown hop");

    let (mut lone, id) = announce_subscriber(Lite05);
    // This end; then the peer itself, which is the last hop as well.
    lone.data(id, "08 01 03 63616d 01 5111");
    lone.data(id, "08 01 03 666f6f 01 5234");
    assert_eq!(lone.events(), []);
    lone.data(id, "07 01 03 63616d 01 07");
    assert_eq!(lone.events(), [announced("cam", &[7, 0x1234], Cost::UNKNOWN)]);
    lone.data(id, "08 01 03 63616d 01 5111");
    assert_eq!(lone.events(), [gone("cam")], "a route that became a loop");

    let (mut lone, id) = announce_subscriber(Lite06);
    lone.data(id, "00 09 03 63616d 01 5111 00 00");
    lone.data(id, "00 08 03 666f6f 01 07 00 00");
    let one_link = Cost { warm: 1, cold: 1 };
    assert_eq!(lone.events(), [announced("foo", &[7, 0x1234], one_link)]);
    lone.data(id, "02 04 00 00 00 00");
    assert_eq!(lone.events(), [announced("cam", &[0x1234], one_link)], "id 0 is the first");
    lone.data(id, "02 06 01 01 5111 00 00");
    assert_eq!(lone.events(), [gone("foo")]);
    lone.data(id, "01 01 01");
    assert_eq!(lone.events(), []);
    lone.data(id, "01 01 00");
    assert_eq!(lone.events(), [gone("cam")]);
    assert!(!lone.end.is_closed());
}

/// A live path is not announced again, except on 05, where that is another route to it.
#[test]
fn a_second_announcement_is_a_violation_except_on_05() {
    for version in LITE.into_iter().filter(|it| *it != Lite05) {
        let digits = cam_bytes(version);
        let (mut lone, id) = announce_subscriber(version);
        lone.data(id, digits);
        assert!(!lone.end.is_closed());
        lone.data(id, digits);
        assert_eq!(lone.closed_with(3), Error::ProtocolViolation("announced twice"));
    }
    // A route that was not reported is live as well.
    let (mut lone, id) = announce_subscriber(Lite06);
    lone.data(id, "00 09 03 63616d 01 5111 00 00 00 09 03 63616d 01 5112 00 00");
    assert_eq!(lone.closed_with(3), Error::ProtocolViolation("announced twice"));

    let (mut lone, id) = announce_subscriber(Lite05);
    lone.data(id, "07 01 03 63616d 01 07");
    // Status 2 means the same.
    lone.data(id, "07 02 03 63616d 01 08");
    let [first, second] =
        [[7, 0x1234], [8, 0x1234]].map(|ids| announced("cam", &ids, Cost::UNKNOWN));
    assert_eq!(lone.events(), [first, second]);
    assert!(!lone.end.is_closed());
}

/// The end of an unknown route is ignored if it names a path, and a violation if it names an id.
// L06-5-1-1-MUST-037
#[test]
fn unknown_routes_can_not_end() {
    for version in [Lite01, Lite02, Lite03, Lite04, Lite05] {
        let (mut lone, id) = announce_subscriber(version);
        lone.data(id, if version < Lite03 { "05 00 03 63616d" } else { "06 00 03 63616d 00" });
        assert_eq!((lone.events(), lone.actions()), (vec![], vec![]));
    }
    for unknown in ["01 01 00", "02 04 00 00 00 00"] {
        let (mut lone, id) = announce_subscriber(Lite06);
        lone.data(id, unknown);
        assert_eq!(lone.closed_with(3), Error::ProtocolViolation("unknown announce id"));
        let (mut lone, id) = announce_subscriber(Lite06);
        lone.data(id, "00 08 03 63616d 01 07 00 00 01 01 00");
        assert!(!lone.end.is_closed());
        lone.data(id, unknown);
        assert_eq!(lone.closed_with(3), Error::ProtocolViolation("unknown announce id"), "retired");
    }
}

/// The first message has no type, so that one that is no ANNOUNCE_OK is another message (06 and later).
// L06-5-1-1-MUST-037
#[test]
fn a_message_before_announce_ok_closes_the_session() {
    for version in [Lite06, Lite07Wip] {
        let interests = vec![Path::root()];
        let mut lone = Lone::ready_with(Config { interests, ..config(Side::Client, version) });
        lone.data(lone.own(Dir::Bi, 0), cam_bytes(version));
        assert_eq!(lone.closed_with(3), Error::ProtocolViolation("no ANNOUNCE_OK"));
    }
}

/// L06-7-6-MUST-149: a known hop twice in a list. Unknown hops may be repeated. Up to 05 it is a loop, see
/// `loops_are_not_reported`.
#[test]
fn a_hop_twice_in_a_list_closes_the_session() {
    for version in [Lite06, Lite07Wip] {
        for (ids, closes) in [(&[7, 8, 7][..], true), (&[0, 0, 7][..], false)] {
            let written = |announcement: Announce| {
                let mut out = BytesMut::new();
                announcement.encode(&mut out, version).unwrap();
                digits(&out)
            };
            let (suffix, hops, cost) = (path("cam"), hops(ids), FREE);
            let (bases, base) = (Bases::default(), Base::default());
            let start = Announce::Active { suffix, hops: hops.clone(), cost, bases };
            let start = written(start);
            let update = written(Announce::Update { id: 0, hops, cost, base });
            for (before, message) in [("", start), (cam_bytes(version), update)] {
                let (mut lone, id) = announce_subscriber(version);
                lone.data(id, before);
                lone.data(id, &message);
                match closes {
                    true => drop(lone.closed_with(3)),
                    false => assert!(!lone.end.is_closed(), "{version}"),
                }
            }
        }
    }
}

/// A malformed announcement stops its stream and ends what was announced on it. The session goes on.
#[test]
fn a_malformed_announcement_ends_its_stream() {
    for version in LITE {
        let prefix = if version >= Lite06 { "00" } else { "" };
        for bad in ["01 01", "03 01 02 61", "f7ffffffffffffff"] {
            let (mut lone, id) = announce_subscriber(version);
            lone.data(id, cam_bytes(version));
            lone.events();
            lone.data(id, &format!("{prefix} {bad}"));
            assert_eq!(lone.events(), [gone("cam")], "{version} {bad}");
            assert_eq!(lone.actions(), [stop(id, 0x12)]);
            assert_eq!(lone.sent(id), " fin");
            // Later bytes have no effect.
            lone.data(id, cam_bytes(version));
            assert_eq!((lone.events(), lone.actions()), (vec![], vec![]));
            assert!(!lone.end.is_closed());
        }
    }
}

/// The end of the publisher's half, FIN or reset, ends everything that it announced. The session goes on.
#[test]
fn the_end_of_an_announce_stream_ends_its_announcements() {
    for version in LITE {
        let own = StreamId::from_u64(if Features::of(version).version_setup { 4 } else { 0 });
        for end in [
            Input::Data { id: own, bytes: Bytes::new(), fin: true },
            Input::Reset { id: own, code: Code::new(5) },
        ] {
            let (mut lone, id) = announce_subscriber(version);
            let before = lone.end.machine.entries();
            lone.data(id, cam_bytes(version));
            lone.events();
            lone.handle(end);
            assert_eq!(lone.events(), [gone("cam")]);
            assert_eq!(lone.sent(id), " fin");
            assert!(!lone.end.is_closed());
            assert!(lone.end.machine.entries() < before);
        }
    }
}

/// A prefix that can't be encoded is not requested: `moq-lite` 0.16 waits for the first message of a stream
/// that was opened.
#[test]
fn a_prefix_that_is_too_deep_is_not_requested() {
    let deep = vec!["x"; 33].join("/");
    for version in LITE {
        let interests = vec![path(&deep), path("a")];
        let mut lone = Lone::ready_with(Config { interests, ..config(Side::Client, version) });
        let session = u64::from(Features::of(version).version_setup);
        assert_eq!(lone.opened[0][Dir::Bi as usize], 1 + session);
        assert_eq!(lone.sent(lone.own(Dir::Bi, 0))[..2], *"01");
    }
}
