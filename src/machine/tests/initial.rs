//! What there is at first in one message (01 and 02), and what announcements build on (07).

use super::*;

fn active(suffix: &str) -> Announcement {
    let cost = Cost { warm: 0, cold: 0 };
    Announcement::Active { suffix: path(suffix), hops: Hops::new(), cost }
}

fn listener(version: Version) -> (Lone, StreamId) {
    let config = config(Side::Client, version);
    let mut lone = Lone::ready_with(Config { interests: vec![Path::root()], ..config });
    let id = lone.own(Dir::Bi, 0);
    assert_eq!(lone.sent(id), bytes(ask_bytes(version)));
    (lone, id)
}

fn announced(name: &str, ids: &[u64]) -> Event {
    let hops = ids.iter().map(|id| Hop::new(*id)).collect();
    Event::Announced { path: path(name), hops, cost: Cost { warm: 1, cold: 1 } }
}

// ---- ANNOUNCE_INIT ---------------------------------------------------------------------------

/// G11, G12: everything that there is, once.
#[test]
fn the_initial_set_is_one_message() {
    for version in [Lite01, Lite02] {
        let (mut lone, id) = listener(version);
        lone.data(id, "0f 02 04 726f6f6d 08 64656d6f2f626262");
        let told = |name: &str| {
            let hops = Hops::from_iter([Hop::UNKNOWN]);
            Event::Announced { path: path(name), hops, cost: Cost::UNKNOWN }
        };
        assert_eq!(lone.events(), [told("room"), told("demo/bbb")]);
        // What is live is known.
        lone.data(id, "06 00 04 726f6f6d");
        assert_eq!(lone.events(), [Event::Unannounced { path: path("room") }]);
        lone.fin(id, "");
        assert_eq!(lone.events(), [Event::Unannounced { path: path("demo/bbb") }]);

        let (mut lone, id) = listener(version);
        lone.data(id, "01 00");
        assert_eq!(lone.events(), []);
        lone.data(id, "05 01 03 63616d");
        assert_eq!(lone.events(), [told("cam")]);
        lone.data(id, "05 01 03 63616d");
        assert_eq!(lone.closed_with(3), Error::ProtocolViolation("announced twice"));

        let (mut lone, id) = listener(version);
        lone.data(id, "05 02 01 61 01 61");
        assert_eq!(lone.closed_with(3), Error::ProtocolViolation("announced twice"));

        let (mut lone, id) = listener(version);
        lone.data(id, "03 02 01 61");
        assert_eq!((lone.events(), lone.actions()), (vec![], vec![stop(id, 0x12)]));
        assert!(!lone.end.is_closed());
    }
}

#[test]
fn the_initial_set_is_announced_in_one_message() {
    for version in [Lite01, Lite02] {
        let mut lone = Lone::ready(Side::Server, version);
        let id = lone.open(Dir::Bi, ask_bytes(version));
        let Event::AnnounceRequested { request, .. } = one(lone.events()) else { panic!() };
        let reader = token(0);
        // What ends before it is told, what is too deep to be told, and what comes behind.
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

/// One message has no more than a peer takes; the rest follows.
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
        let mut heard: Vec<_> = pair
            .client
            .take_events()
            .into_iter()
            .map(|event| match event {
                Event::Announced { path, .. } => path,
                other => panic!("{other:?}"),
            })
            .collect();
        heard.sort();
        let mut told: Vec<_> = (0..200).map(|index| path(&name(index))).collect();
        told.sort();
        assert_eq!(heard, told);
        assert!(!pair.client.is_closed());
    }
}

// ---- bases -----------------------------------------------------------------------------------

const OK: &str = "03 9234 01";
/// Chains with 0x1234 behind them, who says it.
const FIRST: &str = "00 16 00 00 0a 726f6f6d2f612f63616d 00 02 9111a222 00 00 00";

/// G84 and G85: the same, however it is said.
#[test]
fn announcements_that_build_on_each_other() {
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
        let (mut lone, id) = listener(Lite07Wip);
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

/// One that was kept to ourselves, here because it came through us, is built on all the same.
#[test]
fn a_loop_can_be_built_on() {
    let (mut lone, id) = listener(Lite07Wip);
    lone.data(id, OK);
    lone.data(id, FIRST);
    assert_eq!(lone.events(), []);
    lone.data(id, "00 0b 01 02 03 6d6963 01 00 01 00 00");
    assert_eq!(lone.events(), [announced("room/a/mic", &[0x2222, 0x1234])]);
}

#[test]
fn a_base_that_is_not_there_closes_the_session() {
    // Too far back; too many segments; too many hops; the same of a change.
    for bad in [
        "00 09 02 01 01 62 00 00 00 00 00",
        "00 09 01 04 01 62 00 00 00 00 00",
        "00 09 00 00 01 62 01 00 03 00 00",
        "02 06 00 01 00 03 00 00",
        "02 06 00 02 00 00 00 00",
    ] {
        let (mut lone, id) = listener(Lite07Wip);
        lone.data(id, OK);
        lone.data(id, FIRST);
        lone.data(id, bad);
        assert_eq!(lone.closed_with(3), Error::ProtocolViolation("unknown announce base"), "{bad}");
    }
    // One that ended.
    let (mut lone, id) = listener(Lite07Wip);
    lone.data(id, OK);
    lone.data(id, FIRST);
    lone.data(id, "01 01 00 00 09 01 01 01 62 00 00 00 00 00");
    assert_eq!(lone.closed_with(3), Error::ProtocolViolation("unknown announce base"));
    // More segments than there may be: 32 and one.
    let (mut lone, id) = listener(Lite07Wip);
    lone.data(id, OK);
    lone.data(id, &format!("00 47 00 00 3f 61 {} 00 00 00 00 00", "2f61".repeat(31)));
    assert_eq!(lone.events().len(), 1);
    lone.data(id, "00 09 01 20 01 62 00 00 00 00 00");
    assert_eq!(lone.closed_with(3), Error::ProtocolViolation("unknown announce base"));
}

/// Without room to keep a base, what builds on it is dropped, and its id counts.
#[test]
fn bases_that_were_not_kept() {
    let mut config = config(Side::Client, Lite07Wip);
    config.limits.announcements = 1;
    let mut lone = Lone::ready_with(Config { interests: vec![Path::root()], ..config });
    let id = lone.own(Dir::Bi, 0);
    lone.data(id, OK);
    // 0 is kept, 1 is not, and 2 builds on 1.
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
fn whether_hidden_paths_are_asked_for() {
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
