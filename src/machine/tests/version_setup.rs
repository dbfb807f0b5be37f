//! The version exchange, where one ALPN stands for several versions (moq-lite 01 and 02).

use super::*;
use crate::Version::{Moqt14, Moqt22};
use crate::version::{Agreed, Versions};

const CODE_01: &str = "c0000000ff0dad01";
const CODE_02: &str = "c0000000ff0dad02";

/// The versions that `moql` leaves.
fn moql(versions: &[Version]) -> Agreed {
    let versions: Versions = versions.iter().copied().collect();
    versions.agreed(Some(b"moql")).expect("one of them")
}

fn config_of(side: Side, versions: &[Version]) -> Config {
    Config { agreed: moql(versions), ..config(side, Lite01) }
}

fn client_setup(codes: &[&str]) -> String {
    let body = format!("{:02x} {} 00", codes.len(), codes.concat());
    format!("20 {:04x} {body}", hex(&body).len())
}

fn server_setup(code: &str) -> String {
    format!("21 0009 {code} 00")
}

#[test]
fn the_servers_order_decides() {
    for (client, server, settled) in [
        (&[Lite02, Lite01][..], &[Lite02, Lite01][..], Lite02),
        (&[Lite01, Lite02], &[Lite02, Lite01], Lite02),
        (&[Lite02, Lite01], &[Lite01, Lite02], Lite01),
        (&[Lite02, Lite01], &[Lite01], Lite01),
        (&[Lite01], &[Lite02, Lite01], Lite01),
        (&[Lite02], &[Lite06, Lite02, Lite03, Lite01], Lite02),
    ] {
        for link in links() {
            let client = config_of(Side::Client, client);
            let mut pair = join(client, config_of(Side::Server, server), link);
            pair.run_until_idle();
            assert_eq!(pair.client.machine.version(), settled);
            assert_eq!(pair.server.machine.version(), settled);
            // Both ends speak it then: SUBSCRIBE_OK differs.
            subscribed(&mut pair, 0);
        }
    }
}

#[test]
fn no_version_in_common() {
    for link in links() {
        let [client, server] = [(Side::Client, Lite01), (Side::Server, Lite02)]
            .map(|(side, version)| config_of(side, &[version]));
        let mut pair = join(client, server, link);
        pair.run_until_idle();
        let closed = [Event::Closed { error: Error::Version }];
        assert_eq!(pair.server.take_events(), closed);
        assert_eq!(pair.client.take_events(), closed);
    }
    // A version of another dialect, and none at all.
    for codes in [&["c0000000ff00000e", "07"][..], &[]] {
        let mut lone = Lone::new(config_of(Side::Server, &[Lite02, Lite01]));
        lone.open(Dir::Bi, &client_setup(codes));
        assert_eq!(lone.closed_with(0x15), Error::Version);
    }
    // A version that was not offered, and an unknown one.
    for code in [CODE_02, "c0000000ff00000e", "c0000000ff0dad03"] {
        let mut lone = Lone::new(config_of(Side::Client, &[Lite01]));
        lone.data(StreamId::from_u64(0), &server_setup(code));
        assert_eq!(lone.closed_with(0x15), Error::Version);
    }
}

/// Deployed clients offer other dialects too, and send unknown parameters.
#[test]
fn set_up_of_deployed_clients_is_accepted() {
    let parameters = "02 02 c0000000ffffffff 07 0b 6d6f712d6c6974652d7273";
    let setup = format!("20 0030 03 {CODE_02} {CODE_01} c0000000ff00000e {parameters}");
    let mut lone = Lone::new(config_of(Side::Server, &[Lite02, Lite01]));
    let id = lone.open(Dir::Bi, &setup);
    assert_eq!(lone.sent(id), bytes(&server_setup(CODE_02)));
    assert_eq!(lone.end.machine.version(), Lite02);
    assert_eq!((lone.events(), lone.actions()), (vec![], vec![]));
}

#[test]
fn nothing_is_sent_before_the_version_is_agreed() {
    for side in [Side::Client, Side::Server] {
        let config = config_of(side, &[Lite02, Lite01]);
        let mut lone = Lone::new(Config { interests: vec![path("a")], ..config });
        lone.apply(subscribe(0));
        let first = StreamId::new(Side::Client, Dir::Bi, 0);
        if side == Side::Client {
            assert_eq!(lone.sent(first), bytes(&client_setup(&[CODE_02, CODE_01])));
        }
        assert!(lone.sent.is_empty());
        // A request that is withdrawn meanwhile leaves no state.
        let before = lone.end.machine.entries();
        lone.apply(subscribe(1));
        lone.apply(Command::Unsubscribe { subscription: token(1) });
        assert_eq!(lone.end.machine.entries(), before);
        lone.events();

        match side {
            Side::Client => lone.data(first, &server_setup(CODE_01)),
            Side::Server => {
                lone.open(Dir::Bi, &client_setup(&[CODE_01]));
                assert_eq!(lone.sent(first), bytes(&server_setup(CODE_01)));
            }
        }
        assert_eq!(lone.end.machine.version(), Lite01);
        let [ask, asked] = [0, 1].map(|index| lone.own(Dir::Bi, index));
        assert_eq!(lone.sent(ask), "01020161");
        assert_eq!(lone.sent(asked)[..2], *"02");
        // The response has the form of the version.
        lone.data(asked, info_bytes(Lite01));
        assert_eq!(lone.events(), [informed(0)]);
    }
}

/// Streams are not ordered: requests that arrive first wait for the version.
#[test]
fn requests_before_the_version_wait() {
    for side in [Side::Client, Side::Server] {
        let mut lone = Lone::new(config_of(side, &[Lite02, Lite01]));
        let first = StreamId::new(Side::Client, Dir::Bi, 0);
        lone.sent.clear();
        if side == Side::Server {
            lone.opened[1][Dir::Bi as usize] = 1;
        }
        let ask = lone.open(Dir::Bi, "01");
        let asked = lone.open(Dir::Bi, subscribe_bytes(Lite02));
        let silent = lone.open(Dir::Bi, "");
        let gone = lone.open(Dir::Bi, "01 01");
        lone.reset(gone, 1);
        lone.data(ask, "01 00");
        // The application had no subscription; the machine learns that later.
        let group = lone.open(Dir::Uni, "00 02 00 01");
        assert_eq!((lone.events(), lone.actions()), (vec![], vec![]));
        assert!(lone.sent.is_empty());

        match side {
            Side::Client => lone.data(first, &server_setup(CODE_02)),
            Side::Server => {
                lone.handle(Input::Opened { id: first });
                lone.data(first, &client_setup(&[CODE_02]));
            }
        }
        let events = lone.events();
        assert!(matches!(
            events[..],
            [Event::AnnounceRequested { .. }, Event::SubscribeRequested { .. }]
        ));
        let Event::SubscribeRequested { request, .. } = events[1] else { unreachable!() };
        lone.apply(Command::AcceptSubscribe { request, info: TrackInfo::default(), largest: None });
        assert_eq!(lone.sent(asked), "00");
        assert_eq!(lone.actions(), [reset(gone, 1), stop(group, 1)]);
        lone.fin(silent, subscribe_bytes(Lite02));
        assert!(matches!(lone.events()[0], Event::SubscribeRequested { .. }));
    }
}

/// Without a protocol of WebTransport the set-up agrees on the dialect as well. `moq-lite` and `moq-net` offer versions of
/// both in one list, and clients of moq-transport 14 only that one (`aiomoqt` 0.13).
#[test]
fn without_an_identifier_the_set_up_agrees_on_the_dialect() {
    let unnamed = |side, versions: &[Version]| {
        let versions: Versions = versions.iter().copied().collect();
        let agreed = versions.agreed(None).expect("one of them");
        Config { agreed, interests: vec![path("demo")], ..config(side, Lite01) }
    };
    let all = [Moqt22, Lite06, Moqt14, Lite02, Lite01];
    for (client, server, settled) in [
        (&all[..], &all[..], Lite02),
        (&[Moqt14], &all, Moqt14),
        (&all, &[Moqt14], Moqt14),
        (&all, &[Lite01, Moqt14], Lite01),
        (&[Lite01, Moqt14], &[Lite02, Moqt14], Moqt14),
        (&[Lite01], &all, Lite01),
    ] {
        for link in links() {
            let (client, server) = (unnamed(Side::Client, client), unnamed(Side::Server, server));
            let mut pair = join(client, server, link);
            // Commands before the set-up are carried out after it.
            pair.client.apply(subscribe(0));
            pair.run_until_idle();
            assert_eq!(pair.client.machine.version(), settled);
            assert_eq!(pair.server.machine.version(), settled);
            let asks = |event: &Event| match event {
                Event::SubscribeRequested { request, .. } => Some(*request),
                Event::AnnounceRequested { .. } | Event::TracksRequested { .. } => None,
                other => panic!("{other:?}"),
            };
            let events = pair.server.take_events();
            let announce = |it: &Event| matches!(it, Event::AnnounceRequested { .. });
            assert!(events.iter().any(announce), "the interests of the client: {events:?}");
            let request = one(events.iter().filter_map(asks).collect());
            let info = TrackInfo::default();
            pair.server.apply(Command::AcceptSubscribe { request, info, largest: None });
            pair.run_until_idle();
            let events = pair.client.take_events();
            assert!(events.iter().any(|it| matches!(it, Event::TrackInfo { .. })), "{events:?}");
        }
    }
    // A server that decides on its client learns of the versions first, and the session may end before that.
    let mut lone = Lone::new(Config { requires_accept: true, ..unnamed(Side::Server, &all) });
    lone.open(Dir::Bi, &client_setup(&["c0000000ff00000e"]));
    assert!(matches!(lone.events()[..], [Event::SetUp { .. }]));
    assert!(lone.sent.is_empty());
    lone.apply(Command::Accept { hop: Hop::UNKNOWN, interests: vec![] });
    assert_eq!(lone.sent(StreamId::from_u64(0))[..2], *"21");
    let mut lone = Lone::new(unnamed(Side::Server, &all));
    lone.apply(Command::Close { error: Error::SessionClosed });
    lone.open(Dir::Bi, &client_setup(&["c0000000ff00000e"]));
    assert!(matches!(lone.events()[..], [Event::Closed { .. }]));
    let mut lone = Lone::new(unnamed(Side::Server, &all));
    lone.open(Dir::Bi, &client_setup(&["c0000000ff00000d"]));
    assert_eq!(lone.closed_with(0x15), Error::Version);
}

#[test]
fn a_malformed_set_up_closes_the_session() {
    let malformed = || Error::ProtocolViolation("malformed SETUP");
    let client = || Lone::new(config_of(Side::Client, &[Lite02, Lite01]));
    let server = || Lone::new(config_of(Side::Server, &[Lite02, Lite01]));
    // Too short, too long, of the wrong side, and a body above the limit.
    for bad in ["20 0001 01", "20 0003 00 00 00", "21 0009 c0000000ff0dad02 00", "20 ffff"] {
        let mut lone = server();
        lone.end.machine.bare.core.limits.message_bytes = 1_000;
        lone.open(Dir::Bi, bad);
        assert_eq!(lone.closed_with(3), malformed(), "{bad}");
    }
    for bad in ["21 0001 07", "20 0002 00 00", "01 01 00"] {
        let mut lone = client();
        lone.data(StreamId::from_u64(0), bad);
        assert_eq!(lone.closed_with(3), malformed(), "{bad}");
    }
    // Truncated.
    let mut lone = server();
    let id = lone.open(Dir::Bi, "20 00");
    lone.fin(id, "");
    assert_eq!(lone.closed_with(3), malformed());
    let mut lone = client();
    lone.reset(StreamId::from_u64(0), 1);
    assert_eq!(lone.closed_with(3), malformed());
    // Two that race. The second is a stream of an unknown type.
    let mut lone = server();
    lone.open(Dir::Bi, "20 00");
    lone.open(Dir::Bi, &client_setup(&[CODE_02]));
    lone.data(StreamId::from_u64(0), "0c 01");
    assert_eq!(lone.closed_with(3), Error::ProtocolViolation("second SETUP"));
    let mut lone = Lone::ready(Side::Server, Lite02);
    let id = lone.open(Dir::Bi, &client_setup(&[CODE_02]));
    assert_eq!(lone.actions(), [reset(id, 1), stop(id, 1)]);
}

#[test]
fn a_set_up_that_does_not_come_closes_the_session_in_time() {
    for side in [Side::Client, Side::Server] {
        let mut lone = Lone::new(config_of(side, &[Lite02, Lite01]));
        lone.open(Dir::Bi, "01 01 00");
        lone.advance(ms(10_000) - Duration::from_micros(1));
        assert!(!lone.end.is_closed());
        lone.advance(Duration::from_micros(1));
        assert_eq!(lone.closed_with(0x11), Error::Timeout);
    }
}

/// SESSION_UPDATE on the set-up stream has no effect, and the end of the stream ends the session.
#[test]
fn the_end_of_the_set_up_stream_ends_the_session() {
    for side in [Side::Client, Side::Server] {
        for version in [Lite01, Lite02] {
            let id = StreamId::new(Side::Client, Dir::Bi, 0);
            let mut lone = Lone::ready(side, version);
            lone.data(id, "04 804c4b40 01");
            lone.data(id, "00");
            assert_eq!((lone.events(), lone.actions()), (vec![], vec![]));
            lone.fin(id, "");
            assert_eq!(lone.closed_with(0), Error::SessionClosed);

            let mut lone = Lone::ready(side, version);
            lone.reset(id, 7);
            assert_eq!(lone.closed_with(0), Error::SessionClosed);

            let mut lone = Lone::ready(side, version);
            lone.stop(id, 7);
            assert_eq!(lone.closed_with(0), Error::SessionClosed);

            for bad in ["02 00 00", "00", "f7ffffffffffffff"] {
                let mut lone = Lone::ready(side, version);
                lone.data(id, bad);
                let malformed = Error::ProtocolViolation("malformed SESSION_UPDATE");
                assert_eq!(lone.closed_with(3), malformed);
            }
        }
    }
}
