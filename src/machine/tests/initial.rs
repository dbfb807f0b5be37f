//! The initial set in one message (01 and 02), and announcements relative to earlier ones (07).

use super::*;

fn active(suffix: &str) -> Announcement {
    let cost = Cost { warm: 0, cold: 0 };
    Announcement::Active { suffix: path(suffix), hops: Hops::new(), cost }
}

fn announce_subscriber(version: Version) -> (Lone, StreamId) {
    let config = config(Side::Client, version);
    let mut lone = Lone::ready_with(Config { interests: vec![Path::root()], ..config });
    let id = lone.own(Dir::Bi, 0);
    assert_eq!(lone.sent(id), bytes(announce_request_bytes(version)));
    (lone, id)
}

fn announced(name: &str, ids: &[u64]) -> Event {
    let hops = ids.iter().map(|id| Hop::new(*id)).collect();
    Event::Announced { path: path(name), hops, cost: Cost { warm: 1, cold: 1 } }
}

// ---- ANNOUNCE_INIT ---------------------------------------------------------------------------

/// ANNOUNCE_INIT has every live broadcast once.
#[test]
fn the_initial_set_is_one_message() {
    for version in [Lite01, Lite02] {
        let (mut lone, id) = announce_subscriber(version);
        lone.data(id, "0f 02 04 726f6f6d 08 64656d6f2f626262");
        let told = |name: &str| {
            let hops = Hops::from_iter([Hop::UNKNOWN]);
            Event::Announced { path: path(name), hops, cost: Cost::UNKNOWN }
        };
        assert_eq!(lone.events(), [told("room"), told("demo/bbb")]);
        // A live broadcast is known.
        lone.data(id, "06 00 04 726f6f6d");
        assert_eq!(lone.events(), [Event::Unannounced { path: path("room") }]);
        lone.fin(id, "");
        assert_eq!(lone.events(), [Event::Unannounced { path: path("demo/bbb") }]);

        let (mut lone, id) = announce_subscriber(version);
        lone.data(id, "01 00");
        assert_eq!(lone.events(), []);
        lone.data(id, "05 01 03 63616d");
        assert_eq!(lone.events(), [told("cam")]);
        lone.data(id, "05 01 03 63616d");
        assert_eq!(lone.closed_with(3), Error::ProtocolViolation("announced twice"));

        let (mut lone, id) = announce_subscriber(version);
        lone.data(id, "05 02 01 61 01 61");
        assert_eq!(lone.closed_with(3), Error::ProtocolViolation("announced twice"));

        let (mut lone, id) = announce_subscriber(version);
        lone.data(id, "03 02 01 61");
        assert_eq!((lone.events(), lone.actions()), (vec![], vec![stop(id, 0x12)]));
        assert!(!lone.end.is_closed());
    }
}

#[test]
fn the_initial_set_is_announced_in_one_message() {
    for version in [Lite01, Lite02] {
        let mut lone = Lone::ready(Side::Server, version);
        let id = lone.open(Dir::Bi, announce_request_bytes(version));
        let Event::AnnounceRequested { request, .. } = one(lone.events()) else { panic!() };
        let reader = token(0);
        // One ends before it is announced, one is too deep to be announced, and one comes after the message.
        let deep = "x/".repeat(33);
        for name in ["b", &deep, "a"] {
            lone.end.source.announce(reader, active(name));
        }
        let ended = Announcement::Ended { suffix: path("b") };
        lone.end.source.announce(reader, ended);
        lone.end.source.announce(reader, active("c"));
        lone.apply(Command::AcceptAnnounce { request, reader, active: 4 });
        assert_eq!(lone.sent(id), bytes("03 01 01 61 03 01 01 63"));
        lone.end.source.announce(reader, Announcement::Ended { suffix: path("a") });
        lone.apply(Command::AnnouncementsReady { request });
        assert_eq!(lone.sent(id), bytes("03 00 01 61"));
    }
}

/// A message is no larger than peers accept; the rest follows.
#[test]
fn a_large_initial_set_goes_out_in_pieces() {
    for version in [Lite01, Lite02] {
        let client = Config { interests: vec![Path::root()], ..config(Side::Client, version) };
        let mut pair = join(client, config(Side::Server, version), Link::perfect());
        pair.run_until_idle();
        let Event::AnnounceRequested { request, .. } = one(pair.server.take_events()) else {
            panic!();
        };
        let name = |index: usize| format!("{index}/{}", "x".repeat(1_000));
        let reader = token(0);
        (0..200).for_each(|index| pair.server.source.announce(reader, active(&name(index))));
        pair.server.apply(Command::AcceptAnnounce { request, reader, active: 200 });
        pair.run_until_idle();
        let mut received: Vec<_> = pair
            .client
            .take_events()
            .into_iter()
            .map(|event| match event {
                Event::Announced { path, .. } => path,
                other => panic!("{other:?}"),
            })
            .collect();
        received.sort();
        let mut told: Vec<_> = (0..200).map(|index| path(&name(index))).collect();
        told.sort();
        assert_eq!(received, told);
        assert!(!pair.client.is_closed());
    }
}

// ---- bases -----------------------------------------------------------------------------------

const OK: &str = "03 9234 01";
/// Chains that end with 0x1234, the sender.
const FIRST: &str = "00 16 00 00 0a 726f6f6d2f612f63616d 00 02 9111a222 00 00 00";

/// The same announcement, however it is encoded.
#[test]
fn announcements_may_be_relative_to_earlier_ones() {
    let with_bases = [
        "00 16 00 00 0a 726f6f6d2f612f63616d 00 02 9abca222 00 00 00",
        "00 0d 01 02 03 6d6963 01 01 b333 01 00 00",
        "02 09 00 01 01 c04444 01 00 00",
        "01 01 01",
        "00 0c 02 01 01 62 02 01 c05555 01 00 00",
    ];
    let without = [
        "00 16 00 00 0a 726f6f6d2f612f63616d 00 02 9abca222 00 00 00",
        "00 16 00 00 0a 726f6f6d2f612f6d6963 00 02 b333a222 00 00 00",
        "02 0b 00 00 02 c04444a222 00 00 00",
        "01 01 01",
        "00 13 00 00 06 726f6f6d2f62 00 02 c05555a222 00 00 00",
    ];
    for messages in [with_bases, without] {
        let (mut lone, id) = announce_subscriber(Lite07Wip);
        lone.data(id, OK);
        lone.data(id, &messages.concat());
        assert_eq!(
            lone.events(),
            [
                announced("room/a/cam", &[0x1abc, 0x2222, 0x1234]),
                announced("room/a/mic", &[0x3333, 0x2222, 0x1234]),
                announced("room/a/cam", &[0x4444, 0x2222, 0x1234]),
                Event::Unannounced { path: path("room/a/mic") },
                announced("room/b", &[0x5555, 0x2222, 0x1234]),
            ]
        );
        assert!(!lone.end.is_closed());
    }
}

/// An announcement that was not reported, here because it is a loop, may be a base.
#[test]
fn a_loop_can_be_a_base() {
    let (mut lone, id) = announce_subscriber(Lite07Wip);
    lone.data(id, OK);
    lone.data(id, FIRST);
    assert_eq!(lone.events(), []);
    lone.data(id, "00 0b 01 02 03 6d6963 01 00 01 00 00");
    assert_eq!(lone.events(), [announced("room/a/mic", &[0x2222, 0x1234])]);
}

#[test]
fn an_unknown_base_closes_the_session() {
    // Too far back; too many segments; too many hops; the same for a change.
    for bad in [
        "00 09 02 01 01 62 00 00 00 00 00",
        "00 09 01 04 01 62 00 00 00 00 00",
        "00 09 00 00 01 62 01 00 03 00 00",
        "02 06 00 01 00 03 00 00",
        "02 06 00 02 00 00 00 00",
    ] {
        let (mut lone, id) = announce_subscriber(Lite07Wip);
        lone.data(id, OK);
        lone.data(id, FIRST);
        lone.data(id, bad);
        assert_eq!(lone.closed_with(3), Error::ProtocolViolation("unknown announce base"), "{bad}");
    }
    // A base that ended.
    let (mut lone, id) = announce_subscriber(Lite07Wip);
    lone.data(id, OK);
    lone.data(id, FIRST);
    lone.data(id, "01 01 00 00 09 01 01 01 62 00 00 00 00 00");
    assert_eq!(lone.closed_with(3), Error::ProtocolViolation("unknown announce base"));
    // Too many segments: 32 and one.
    let (mut lone, id) = announce_subscriber(Lite07Wip);
    lone.data(id, OK);
    lone.data(id, &format!("00 47 00 00 3f 61 {} 00 00 00 00 00", "2f61".repeat(31)));
    assert_eq!(lone.events().len(), 1);
    lone.data(id, "00 09 01 20 01 62 00 00 00 00 00");
    assert_eq!(lone.closed_with(3), Error::ProtocolViolation("unknown announce base"));
}

/// A base may be dropped for lack of room. Announcements relative to it are dropped too, and their ids count.
#[test]
fn announcements_relative_to_a_dropped_one_are_dropped() {
    let mut config = config(Side::Client, Lite07Wip);
    config.limits.announcements = 1;
    let mut lone = Lone::ready_with(Config { interests: vec![Path::root()], ..config });
    let id = lone.own(Dir::Bi, 0);
    lone.data(id, OK);
    // 0 is kept, 1 is not, and 2 is relative to 1.
    lone.data(id, "00 09 00 00 01 61 00 00 00 00 00");
    lone.data(id, "00 09 00 00 01 62 00 00 00 00 00");
    lone.data(id, "00 09 01 01 01 63 00 00 00 00 00");
    assert_eq!(lone.events(), [announced("a", &[0x1234])]);
    lone.data(id, "01 01 02 01 01 01 01 01 00");
    assert_eq!(lone.events(), [Event::Unannounced { path: path("a") }]);
    lone.data(id, "00 09 00 00 01 64 00 00 00 00 00 01 01 03");
    assert_eq!(lone.events().len(), 2);
    assert!(!lone.end.is_closed());
}

// ---- the hidden flag -------------------------------------------------------------------------

#[test]
fn the_hidden_flag_of_an_announce_request_is_read() {
    for (version, ask, expected) in [
        (Lite07Wip, "01 02 00 00", false),
        (Lite07Wip, "01 02 00 01", true),
        (Lite06, "01 01 00", true),
        (Lite01, "01 01 00", true),
    ] {
        let mut lone = Lone::ready(Side::Server, version);
        lone.open(Dir::Bi, ask);
        let Event::AnnounceRequested { hidden, .. } = one(lone.events()) else { panic!() };
        assert_eq!(hidden, expected);
    }
}
