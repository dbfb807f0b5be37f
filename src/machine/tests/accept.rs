//! Deciding on a session: what a server hears before it, and what it keeps to itself (wire-lite 1.3, 1.4,
//! 6.2, 7.3; draft-ietf-moq-transport-18 and 16, *Session Initialization*).

use super::*;
use crate::coding::ietf::{Draft, Goaway, Message, RequestsBlocked, Setup as Options};
use crate::peer::{Peer, Role};
use Version::{Moqt16, Moqt18};

const ALL: [Version; 9] =
    [Lite07Wip, Lite06, Lite05, Lite04, Lite03, Lite02, Lite01, Moqt18, Moqt16];

/// A server that decides.
fn deciding(version: Version) -> Config {
    Config { requires_accept: true, ..config(Side::Server, version) }
}

/// A client that says all that there is to say.
fn talkative(version: Version) -> Config {
    Config {
        path: path("room/a?token=1"),
        authority: "relay.example:4443".into(),
        role: Role::Subscriber,
        cost: Some(0),
        ..config(Side::Client, version)
    }
}

/// What of it a version tells.
fn told(version: Version) -> Peer {
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
            test(version, join(talkative(version), deciding(version), link));
        }
    }
}

/// A message of moq-transport as digits.
fn moqt(version: Version, message: &Message) -> String {
    let mut out = bytes::BytesMut::new();
    message.encode(&mut out, Draft::of(version).unwrap()).unwrap();
    digits(&out)
}

/// The set-up of a client, by itself; gives the stream that it came on.
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
        Moqt16 => lone.open(Dir::Bi, &setup(Moqt16)),
        Moqt18 => lone.open(Dir::Uni, &setup(Moqt18)),
    })
}

fn is_set_up(events: &[Event]) -> bool {
    matches!(events, [Event::SetUp { .. }])
}

/// wire-lite 1.3, 1.4, 6.2; *Session Initialization*: a server that has not decided knows what the client
/// said, has said nothing itself, and does not know yet what is asked.
#[test]
fn nothing_goes_on_before_the_decision() {
    on_all(|version, mut pair| {
        pair.client.apply(subscribe(0));
        pair.run_until_idle();
        assert_eq!(pair.server.take_events(), [Event::SetUp { peer: told(version) }]);
        assert_eq!(pair.server.machine.counts().bytes_sent, 0);
        assert_eq!(pair.client.take_events(), []);

        pair.server.apply(accept());
        pair.run_until_idle();
        assert!(pair.server.machine.counts().bytes_sent > 0);
        // What is told unasked on moq-transport, and what the decision wants to hear of.
        let wants = |it: &Event| matches!(it, Event::AnnounceRequested { .. });
        let asked = pair.client.take_events();
        assert!(asked.iter().all(wants), "{asked:?}");
        assert_eq!(asked.len(), 1 + usize::from(Draft::of(version).is_some()));
        // What waited is looked at now, and answered.
        let info = TrackInfo::default();
        for event in pair.server.take_events() {
            pair.server.apply(match event {
                Event::TrackRequested { request, .. } => {
                    Command::AcceptTrack { request, info: info.clone() }
                }
                Event::SubscribeRequested { request, .. } => {
                    Command::AcceptSubscribe { request, info: info.clone() }
                }
                other if wants(&other) => continue,
                other => panic!("{other:?}"),
            });
        }
        pair.run_until_idle();
        assert_eq!(pair.client.take_events(), [informed(0)]);
        // Once is enough.
        pair.server.apply(Command::Accept { hop: CLIENT, interests: vec![path("x")] });
        pair.run_until_idle();
        assert_eq!(pair.client.take_events(), []);
    });
}

/// wire-lite 6.2, parameter 5: who the decision says that we are.
#[test]
fn accept_sets_our_hop() {
    for version in [Lite05, Lite06, Lite07Wip] {
        let mut lone = Lone::new(Config { hop: Hop::UNKNOWN, ..deciding(version) });
        set_up(&mut lone);
        assert!(lone.sent.is_empty());
        lone.apply(Command::Accept { hop: Hop::new(7), interests: vec![] });
        assert_eq!(lone.sent(lone.own(Dir::Uni, 0)), "010702010101050107 fin");
        lone.open(Dir::Bi, ask_bytes(version));
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

/// A client that is refused hears the code, and nothing else.
#[test]
fn a_refusal_is_a_code() {
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

/// `Limits::handshake_timeout` is for set-up and decision together.
#[test]
fn accept_has_a_deadline() {
    for version in ALL {
        for says in [false, true] {
            let mut lone = Lone::new(deciding(version));
            lone.advance(ms(9_000));
            if says {
                set_up(&mut lone);
            }
            lone.advance(ms(1_000) - Duration::from_micros(1));
            assert_eq!(is_set_up(&lone.events()), says || matches!(version, Lite03 | Lite04));
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
    // wire-lite 1.3: up to 02 the stream of set-up stands for the session.
    for version in [Lite01, Lite02] {
        let mut lone = Lone::new(deciding(version));
        let id = set_up(&mut lone).unwrap();
        lone.events();
        lone.fin(id, "");
        assert_eq!(lone.closed_with(0), Error::SessionClosed);
    }
}

/// wire-lite 1.4, 6.2; *SETUP*: what is wrong with set-up is wrong before the decision as well.
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

/// wire-lite 1.4: accepted before its set-up came, a client is told at once, and never asked about.
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

/// What comes behind set-up stays where it is: undecoded, and held by flow control.
#[test]
fn what_comes_meanwhile_is_held() {
    for version in ALL {
        let mut lone = Lone::new(deciding(version));
        let control = set_up(&mut lone);
        lone.events();
        lone.actions.clear();
        // Updates of the session, requests that are blocked, or a request that is none.
        let (id, message) = match version {
            Lite01 | Lite02 => (control.unwrap(), String::from("0105")),
            Moqt16 => {
                let blocked = Message::RequestsBlocked(RequestsBlocked { max: 9 });
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
            Action::Close { .. } => version == Moqt18,
            _ => false,
        });
        assert!(is_read, "{version}: it goes on");
    }
    // *GOAWAY* comes on the control stream, behind SETUP.
    let mut lone = Lone::new(deciding(Moqt18));
    let control = set_up(&mut lone).unwrap();
    lone.events();
    lone.data(control, &moqt(Moqt18, &Message::Goaway(Goaway::default())));
    assert_eq!(lone.events(), []);
    lone.apply(accept());
    assert!(lone.events().contains(&Event::GoingAway { uri: "".into(), timeout: None }));
}

/// wire-lite 6.2, parameter 3: a client says which direction it uses, if it is one; what has no name is
/// both. A server says nothing of that, and nothing of a price.
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

/// wire-lite 6.2, parameter 4, and 7.3: the price of the link is what we say, or else what the peer says,
/// or else 1. It counts from 06 on.
#[test]
fn the_price_of_the_link_is_ours_or_the_peers_or_one() {
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
