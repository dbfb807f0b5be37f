//! Servers that decide on a session: what they learn before the decision, and what they withhold until then
//! (moq-lite-06, 7.3; draft-ietf-moq-transport-18 and 16, *Session Initialization*).

use super::*;
use crate::coding::ietf::{Draft, Goaway, Message, Setup as Options};
use crate::peer::{Peer, Role};
use Version::{Moqt14, Moqt15, Moqt16, Moqt17, Moqt18, Moqt19, Moqt20, Moqt22};

const ALL: [Version; 15] = [
    Lite07Wip, Lite06, Lite05, Lite04, Lite03, Lite02, Lite01, Moqt22, Moqt20, Moqt19, Moqt18,
    Moqt17, Moqt16, Moqt15, Moqt14,
];

/// A server that waits for a decision.
fn deciding(version: Version) -> Config {
    Config { requires_accept: true, ..config(Side::Server, version) }
}

/// A client that sends every option of SETUP.
fn client_with_options(version: Version) -> Config {
    Config {
        path: path("room/a?token=1"),
        authority: "relay.example:4443".into(),
        role: Role::Subscriber,
        cost: Some(0),
        ..config(Side::Client, version)
    }
}

/// The part of it that a version can express.
fn expected_peer(version: Version) -> Peer {
    let path = "/room/a?token=1".into();
    match Draft::of(version) {
        Some(_) => Peer { path, authority: "relay.example:4443".into(), ..Peer::default() },
        None if Features::of(version).setup => {
            Peer { path, role: Role::Subscriber, hop: CLIENT, cost: Some(0), ..Peer::default() }
        }
        None => Peer::default(),
    }
}

fn accept() -> Command {
    Command::Accept { hop: SERVER, interests: vec![Path::root()] }
}

fn on_all(test: impl Fn(Version, Peers)) {
    for version in ALL {
        for link in links() {
            println!("{version} {link:?}");
            test(version, join(client_with_options(version), deciding(version), link));
        }
    }
}

/// A message of moq-transport as digits.
fn moqt(version: Version, message: &Message) -> String {
    let mut out = bytes::BytesMut::new();
    message.encode(&mut out, Draft::of(version).unwrap()).unwrap();
    digits(&out)
}

/// Sends the set-up of a client and returns the stream that carries it.
fn set_up(lone: &mut Lone) -> Option<StreamId> {
    let setup = |version| {
        let setup = Options { max_request_id: 100, ..Options::default() };
        moqt(version, &Message::setup(setup, Side::Client, Draft::of(version).unwrap()))
    };
    Some(match lone.version {
        Lite01 => lone.open(Dir::Bi, "20 000a 01 c0000000ff0dad01 00"),
        Lite02 => lone.open(Dir::Bi, "20 000a 01 c0000000ff0dad02 00"),
        Lite03 | Lite04 => return None,
        Lite05 | Lite06 | Lite07Wip => lone.open(Dir::Uni, "01 01 00"),
        Moqt14 | Moqt15 | Moqt16 => lone.open(Dir::Bi, &setup(lone.version)),
        _ => lone.open(Dir::Uni, &setup(lone.version)),
    })
}

fn is_set_up(events: &[Event]) -> bool {
    matches!(events, [Event::SetUp { .. }])
}

/// *Session Initialization*: before the decision a server knows the options of the client. It has sent
/// nothing and has decoded no request.
#[test]
fn nothing_is_sent_or_decoded_before_the_decision() {
    on_all(|version, mut pair| {
        pair.client.apply(subscribe(0));
        pair.run_until_idle();
        assert_eq!(pair.server.take_events(), [Event::SetUp { peer: expected_peer(version) }]);
        assert_eq!(pair.server.machine.counts().bytes_sent, 0);
        assert_eq!(pair.client.take_events(), []);

        pair.server.apply(accept());
        pair.run_until_idle();
        assert!(pair.server.machine.counts().bytes_sent > 0);
        // The unsolicited announcements of moq-transport, and the prefix of the decision.
        let wants = |it: &Event| matches!(it, Event::AnnounceRequested { .. });
        let asked = pair.client.take_events();
        assert!(asked.iter().all(wants), "{asked:?}");
        // The prefix of 14 and 15 can't be the root.
        let is_moqt = Draft::of(version).is_some() && ![Moqt14, Moqt15].contains(&version);
        assert_eq!(asked.len(), 1 + usize::from(is_moqt));
        // Requests that waited are decoded now, and answered.
        let info = TrackInfo::default();
        for event in pair.server.take_events() {
            pair.server.apply(match event {
                Event::TrackRequested { request, .. } => {
                    Command::AcceptTrack { request, info: info.clone(), largest: None }
                }
                Event::SubscribeRequested { request, .. } => {
                    Command::AcceptSubscribe { request, info: info.clone(), largest: None }
                }
                other if wants(&other) => continue,
                other => panic!("{other:?}"),
            });
        }
        pair.run_until_idle();
        let Event::TrackInfo { info: received, .. } = one(pair.client.take_events()) else {
            panic!("no track information");
        };
        assert_eq!(TrackInfo { properties: None, ..received }, info);
        // A second decision changes nothing.
        pair.server.apply(Command::Accept { hop: CLIENT, interests: vec![path("x")] });
        pair.run_until_idle();
        assert_eq!(pair.client.take_events(), []);
    });
}

/// moq-lite-06, 7.3.5 (Hop): the decision sets the hop of this end.
#[test]
fn accept_sets_our_hop() {
    for version in [Lite05, Lite06, Lite07Wip] {
        let mut lone = Lone::new(Config { hop: Hop::UNKNOWN, ..deciding(version) });
        set_up(&mut lone);
        assert!(lone.sent.is_empty());
        lone.apply(Command::Accept { hop: Hop::new(7), interests: vec![] });
        assert_eq!(lone.sent(lone.own(Dir::Uni, 0)), "010702010101050107 fin");
        lone.open(Dir::Bi, announce_request_bytes(version));
        let request = match lone.events().pop() {
            Some(Event::AnnounceRequested { request, .. }) => request,
            other => panic!("{other:?}"),
        };
        let reader = token(0);
        lone.end.source.announce(reader, Announcement::Ended { suffix: path("x") });
        lone.apply(Command::AcceptAnnounce { request, reader, active: 0 });
        // ANNOUNCE_OK has the same hop.
        assert_eq!(lone.sent(StreamId::new(Side::Client, Dir::Bi, 0)), "020700");
    }
}

/// A client that is refused receives the code and nothing else.
#[test]
fn a_refused_client_receives_only_the_code() {
    on_all(|_, mut pair| {
        pair.client.apply(subscribe(0));
        pair.run_until_idle();
        assert!(is_set_up(&pair.server.take_events()));
        pair.server.apply(Command::Close { error: Error::Unauthorized });
        pair.server.apply(accept());
        pair.run_until_idle();
        let closed = Event::Closed { error: Error::Unauthorized };
        assert_eq!(pair.server.machine.counts().bytes_sent, 0);
        assert_eq!(pair.server.take_events(), core::slice::from_ref(&closed));
        assert_eq!(pair.client.take_events().pop(), Some(closed));
    });
}

/// `Limits::handshake_timeout` covers set-up and decision together.
#[test]
fn accept_has_a_deadline() {
    for version in ALL {
        for sends_set_up in [false, true] {
            let mut lone = Lone::new(deciding(version));
            lone.advance(ms(9_000));
            if sends_set_up {
                set_up(&mut lone);
            }
            lone.advance(ms(1_000) - Duration::from_micros(1));
            assert_eq!(
                is_set_up(&lone.events()),
                sends_set_up || matches!(version, Lite03 | Lite04)
            );
            assert!(!lone.end.is_closed());
            lone.advance(Duration::from_micros(1));
            assert_eq!(lone.closed_with(0x11), Error::Timeout, "{version}");
        }
        let mut lone = Lone::new(deciding(version));
        set_up(&mut lone);
        lone.apply(accept());
        lone.advance(ms(10_000));
        assert!(!lone.end.is_closed(), "{version}: decided in time");
    }
}

#[test]
fn a_client_that_disconnects_ends_the_session() {
    on_all(|_, mut pair| {
        pair.run_until_idle();
        assert!(is_set_up(&pair.server.take_events()));
        pair.client.apply(Command::Close { error: Error::App(3) });
        pair.run_until_idle();
        assert_eq!(pair.server.take_events(), [Event::Closed { error: Error::App(3) }]);
    });
    // Up to moq-lite 02 the set-up stream carries the session.
    for version in [Lite01, Lite02] {
        let mut lone = Lone::new(deciding(version));
        let id = set_up(&mut lone).unwrap();
        lone.events();
        lone.fin(id, "");
        assert_eq!(lone.closed_with(0), Error::SessionClosed);
    }
}

/// A fault in set-up closes the session before the decision too.
#[test]
fn a_second_set_up_is_a_violation() {
    for version in [Lite01, Lite02, Lite05, Lite06, Lite07Wip] {
        let mut lone = Lone::new(deciding(version));
        set_up(&mut lone);
        lone.events();
        set_up(&mut lone);
        assert_eq!(lone.closed_with(3), Error::ProtocolViolation("second SETUP"), "{version}");
    }
}

/// A client that is accepted before its set-up arrives gets SETUP at once, and there is no event to decide
/// on.
#[test]
fn an_early_accept_gives_no_set_up_event() {
    for version in ALL {
        let mut early = Lone::new(deciding(version));
        early.events();
        early.apply(accept());
        let mut plain =
            Lone::new(Config { interests: vec![Path::root()], ..config(Side::Server, version) });
        assert_eq!(early.sent, plain.sent, "{version}");
        for lone in [&mut early, &mut plain] {
            set_up(lone);
        }
        assert_eq!(early.sent, plain.sent, "{version}");
        let events = early.events();
        assert_eq!(events, plain.events(), "{version}");
        assert!(!is_set_up(&events));
    }
}

/// Bytes after set-up are held by flow control and not decoded.
#[test]
fn bytes_before_the_decision_are_held() {
    for version in ALL {
        let mut lone = Lone::new(deciding(version));
        let control = set_up(&mut lone);
        lone.events();
        lone.actions.clear();
        // SESSION_UPDATE, REQUESTS_BLOCKED, or a malformed request.
        let (id, message) = match version {
            Lite01 | Lite02 => (control.unwrap(), String::from("0105")),
            Moqt14 | Moqt15 | Moqt16 => {
                let blocked = Message::RequestsBlocked(9);
                (control.unwrap(), moqt(version, &blocked))
            }
            _ => (lone.open(Dir::Bi, ""), String::from("3f")),
        };
        let mut chunks = 0;
        while lone.end.machine.read_limit(id) > 0 {
            lone.data(id, &message.repeat(500));
            chunks += 1;
            assert!(chunks < 1_000, "{version}: never held");
        }
        assert_eq!((lone.events(), lone.actions()), (vec![], vec![]), "{version}");
        lone.apply(accept());
        let is_read = lone.actions().iter().any(|action| match action {
            Action::Resume { id: it } | Action::Stop { id: it, .. } => *it == id,
            Action::Close { .. } => version >= Moqt17,
            _ => false,
        });
        assert!(is_read, "{version}: still held");
    }
    // *GOAWAY* comes on the control stream, after SETUP.
    let mut lone = Lone::new(deciding(Moqt18));
    let control = set_up(&mut lone).unwrap();
    lone.events();
    lone.data(control, &moqt(Moqt18, &Message::Goaway(Goaway::default())));
    assert_eq!(lone.events(), []);
    lone.apply(accept());
    assert!(lone.events().contains(&Event::GoingAway { uri: "".into(), timeout: None }));
}

/// moq-lite-06, 7.3.3 (Role): a client names the direction that it uses if it uses only one. An unknown value
/// means both. A server sends neither a role nor a cost.
#[test]
fn a_role_is_a_hint_of_clients() {
    for version in [Lite05, Lite06, Lite07Wip] {
        for (role, setup) in [
            (Role::Both, "010401010101 fin"),
            (Role::Publisher, "010702010101030101 fin"),
            (Role::Subscriber, "010702010101030102 fin"),
        ] {
            for side in [Side::Client, Side::Server] {
                let hop = Hop::UNKNOWN;
                let config = Config { role, hop, ..config(side, version) };
                let cost = Some(4).filter(|_| side == Side::Server);
                let mut lone = Lone::new(Config { cost, ..config });
                let expected = if side == Side::Client { setup } else { "010401010101 fin" };
                assert_eq!(lone.sent(lone.own(Dir::Uni, 0)), expected);
            }
        }
        for (number, role) in
            [(0, Role::Both), (1, Role::Publisher), (2, Role::Subscriber), (3, Role::Both)]
        {
            let mut lone = Lone::new(deciding(version));
            lone.open(Dir::Uni, &format!("01 04 01 03 01 {number:02x}"));
            let peer = Peer { role, ..Peer::default() };
            assert_eq!(lone.events(), [Event::SetUp { peer }]);
        }
    }
}

/// moq-lite-06, 7.3.4 (Cost): the cost of the link is ours if it is set, else the peer's, else 1. It counts
/// from 06 on.
#[test]
fn the_link_cost_is_ours_or_the_peers_or_one() {
    let free = |cost| Cost { warm: cost, cold: cost };
    for (ours, theirs, link) in [
        (None, "01 01 00", 1),
        (None, "01 04 01 04 01 03", 3),
        (None, "01 04 01 04 01 00", 0),
        (Some(5), "01 04 01 04 01 03", 5),
        (Some(0), "01 04 01 04 01 03", 0),
        (Some(u64::MAX), "01 01 00", Cost::MAX),
    ] {
        for version in [Lite05, Lite06, Lite07Wip] {
            for side in [Side::Client, Side::Server] {
                let interests = vec![Path::root()];
                let config = Config { cost: ours, interests, ..config(side, version) };
                let mut lone = Lone::new(config);
                lone.open(Dir::Uni, theirs);
                let listening = lone.own(Dir::Bi, 0);
                lone.data(listening, nothing_announced(version));
                lone.data(listening, cam_bytes(version));
                let expected = if version == Lite05 { Cost::UNKNOWN } else { free(link) };
                let costs = lone.events().into_iter().filter_map(|event| match event {
                    Event::Announced { cost, .. } => Some(cost),
                    _ => None,
                });
                assert_eq!(costs.collect::<Vec<_>>(), [expected], "{version} {ours:?} {theirs}");
            }
        }
    }
}
