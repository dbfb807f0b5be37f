//! Requests: ids, refusals, and faults that end the session (*Control Messages*, *Request ID*).

use super::*;
use crate::coding::varint;

/// Unknown and malformed messages end the session, on any stream.
#[test]
fn faults_end_the_session() {
    let faults = [
        "4f 0000",          // an unknown message type
        "03 0001 00",       // a SUBSCRIBE that is too short
        "07 0002 00 00",    // a response as a first message
        "0b 0003 02 05 00", // PUBLISH_DONE
    ];
    for fault in faults {
        let mut talk = Talk::quiet(Side::Server, Moqt18);
        talk.lone.open(Dir::Bi, fault);
        talk.closed_with(0x3);
    }
    for fault in ["40 4f 0000", "03 0001 00", "08 0001 00"] {
        let mut talk = Talk::quiet(Side::Server, Moqt16);
        talk.lone.data(talk.control.unwrap(), fault);
        talk.closed_with(0x3);
    }
    // The unknown parameter 0x3f. (17 has another field after the request id.)
    for version in DRAFTS.into_iter().filter(|it| *it != Moqt17) {
        let mut talk = Talk::quiet(Side::Server, version);
        let ask = "03 000e 00 01 04 64656d6f 02 7473 01 3f 01 00";
        match talk.control {
            Some(control) => talk.lone.data(control, ask),
            None => drop(talk.lone.open(Dir::Bi, ask)),
        }
        talk.closed_with(0x3);
    }
}

/// On 16 only SUBSCRIBE_NAMESPACE has its own stream.
#[test]
fn other_streams_of_16_end_the_session() {
    let mut talk = Talk::quiet(Side::Server, Moqt16);
    talk.lone.open(Dir::Bi, &wire(Moqt16, &subscribe_message(0)));
    talk.closed_with(0x3);
}

// D22-6-4-1-MUST-167
#[test]
fn unknown_stream_types_end_the_session() {
    for (version, kind) in [(Moqt16, "02"), (Moqt16, "4050"), (Moqt18, "02"), (Moqt18, "80ff")] {
        let mut talk = Talk::quiet(Side::Server, version);
        talk.lone.open(Dir::Uni, kind);
        talk.closed_with(0x3);
    }
}

/// D22-9-1-1-MUST-308, D22-9-1-2-MUST-316: MALFORMED_AUTHORITY, MALFORMED_PATH. Characters that need no escape here are
/// accepted.
#[test]
fn a_path_or_authority_that_is_no_part_of_a_url_closes_the_session() {
    for version in DRAFTS {
        let started = |path: Option<&str>, authority: Option<&str>| {
            let (path, authority) = (path.map(Into::into), authority.map(Into::into));
            let setup = Setup { path, authority, ..Setup::default() };
            let setup = wire(version, &Message::setup(setup, Side::Client, draft(version)));
            let mut lone = Lone::new(config(Side::Server, version));
            lone.open(if version == Moqt16 { Dir::Bi } else { Dir::Uni }, &setup);
            lone
        };
        for bad in ["/a b", "/a#b", "/a\"b", "/a\nb", "/a<b>", "/\u{7f}"] {
            started(Some(bad), None).closed_with(0x9);
            started(None, Some(bad)).closed_with(0x1a);
        }
        for good in ["", "/", "/a%20b?c=d&e", "/r\u{e4}ume/~x;y=(1),*'!$+:@"] {
            assert!(!started(Some(good), None).end.is_closed(), "{version} {good}");
        }
        assert!(!started(None, Some("user@[::1]:4443")).end.is_closed());
    }
    // Not UTF-8.
    let mut lone = Lone::new(config(Side::Server, Moqt22));
    lone.open(Dir::Uni, "af00 0003 01 01 ff");
    lone.closed_with(0x9);
}

/// D22-9-1-1-MUST-304, D22-9-1-2-MUST-311: INVALID_AUTHORITY, INVALID_PATH.
#[test]
fn path_and_authority_of_a_server_close_the_session() {
    for version in DRAFTS {
        let path = Setup { path: Some("/a".into()), ..Setup::default() };
        let authority = Setup { authority: Some("a".into()), ..Setup::default() };
        for (setup, code) in [(path, 0x8), (authority, 0x19)] {
            let setup = wire(version, &Message::setup(setup, Side::Server, draft(version)));
            let mut lone = Lone::new(config(Side::Client, version));
            match version {
                Moqt16 => lone.data(lone.own(Dir::Bi, 0), &setup),
                _ => drop(lone.open(Dir::Uni, &setup)),
            }
            lone.closed_with(code);
        }
    }
}

/// D22-9-1-1-MUST-305, D22-9-1-2-MUST-312: the request of WebTransport has both, and SETUP neither.
#[test]
fn path_and_authority_on_webtransport_close_the_session() {
    for version in EVERY {
        let path = Setup { path: Some("/a".into()), ..Setup::default() };
        let authority = Setup { authority: Some("a".into()), ..Setup::default() };
        for (setup, code) in [(path, 0x8), (authority, 0x19)] {
            let setup = wire(version, &Message::setup(setup, Side::Client, draft(version)));
            let dir = if version < Moqt17 { Dir::Bi } else { Dir::Uni };
            let mut lone = Lone::new(config(Side::Server, version));
            lone.open(dir, &setup);
            assert!(!lone.end.is_closed(), "{version} on raw QUIC");

            let config = Config { web_transport: true, ..config(Side::Server, version) };
            let mut lone = Lone::new(config);
            lone.open(dir, &setup);
            lone.closed_with(code);
        }
    }
}

/// SUBSCRIBE on 20 and later with one parameter.
fn subscribe_with_parameter(parameter: &str) -> String {
    let body = format!("00 01 04 64656d6f 02 7473 01 {parameter}");
    format!("03 {:04x} {body}", hex(&body).len())
}

/// D22-9-1-6-MUST-326: none is allowed, so that each is INVALID_FILTER.
#[test]
fn range_filters_are_refused() {
    for version in [Moqt19, Moqt20, Moqt21, Moqt22] {
        for kind in 0x25..0x29 {
            let mut talk = Talk::quiet(Side::Server, version);
            // Objects 0 to 9, of set 1, and of property 2.
            let ranges = if kind == 0x28 { "04 01 02 00 09" } else { "03 01 00 09" };
            let asked = subscribe_with_parameter(&format!("{kind:02x} {ranges}"));
            let stream = talk.lone.open(Dir::Bi, &asked);
            assert_eq!(talk.written_one(stream), talk.error(0, INVALID_FILTER));
            assert_eq!((talk.lone.events(), talk.lone.actions()), (vec![], vec![]));
        }
    }
}

/// D22-9-20-9-MUST-424: an end above 64 bits. D22-9-20-15-MUST-432: FORWARD inside of FILL_PARAMETERS.
#[test]
fn malformed_filters_close_the_session() {
    for parameter in ["21 03 01 00 ffffffffffffffffff", "23 03 01 10 01"] {
        let mut talk = Talk::quiet(Side::Server, Moqt22);
        talk.lone.open(Dir::Bi, &subscribe_with_parameter(parameter));
        talk.closed_with(0x3);
    }
    let mut talk = Talk::quiet(Side::Server, Moqt22);
    talk.lone.open(Dir::Bi, &subscribe_with_parameter("21 03 01 00 05"));
    assert_eq!(talk.lone.events().len(), 1);
}

/// D22-9-10-MUST-380, D22-9-5-MUST-355: who may send PUBLISH_STATE_NOTIFY and REQUEST_UPDATE.
#[test]
fn messages_out_of_place_close_the_session() {
    let notify = || Message::PublishStateNotify(Parameters::default());
    let update = |id| Message::RequestUpdate(RequestUpdate { id, ..RequestUpdate::default() });
    let status = |id| match subscribe_message(id) {
        Message::Subscribe(it) => Message::TrackStatus(it),
        other => other,
    };
    let listen = |id| Message::SubscribeNamespace(SubscribeNamespace { id, ..Default::default() });
    // A subscriber; the wrong requests; a publisher.
    type Make<'a> = &'a dyn Fn(u64) -> Message;
    let makes: [(Make, Message); 4] = [
        (&subscribe_message, notify()),
        (&listen, notify()),
        (&status, notify()),
        (&status, update(2)),
    ];
    for version in [Moqt20, Moqt22] {
        for (make, message) in &makes {
            let mut talk = Talk::quiet(Side::Server, version);
            let stream = talk.request(make);
            talk.send(stream, message);
            talk.closed_with(0x3);
        }
        let mut talk = Talk::quiet(Side::Client, version);
        let stream = talk.subscribed(4, TrackProperties::default());
        talk.send(stream, &notify());
        assert!(!talk.lone.end.is_closed());
        talk.send(stream, &update(1));
        talk.closed_with(0x3);
    }
}

/// Padding, and answers without a FETCH, are not read.
#[test]
fn padding_and_unexpected_fetch_streams_are_stopped() {
    for (version, stream) in [(Moqt18, "f0132b3e28 00"), (Moqt18, "05 00"), (Moqt16, "05 00")] {
        let mut talk = Talk::quiet(Side::Client, version);
        let id = talk.lone.open(Dir::Uni, stream);
        assert_eq!(talk.lone.actions(), [stop(id, 1)]);
    }
}

/// *Request ID*: ids have the parity of their sender and are used once; else INVALID_REQUEST_ID.
// D22-6-4-2-1-MUST-168, -169
#[test]
fn request_ids_are_checked() {
    for version in DRAFTS {
        for ids in [&[1][..], &[0, 0], &[0, 2, 0], &[0, 1]] {
            let mut talk = Talk::quiet(Side::Server, version);
            for id in ids {
                talk.request(|_| subscribe_message(*id));
            }
            talk.closed_with(0x4);
        }
        // Streams are not ordered: the first request may arrive last.
        let mut talk = Talk::quiet(Side::Server, version);
        for id in [4, 0, 2, 6] {
            talk.request(|_| subscribe_message(id));
        }
        assert_eq!(talk.lone.events().len(), 4);
    }
}

/// *MAX_REQUEST_ID* (16): an id that was not granted is TOO_MANY_REQUESTS. More ids are granted in time.
#[test]
fn requests_of_the_peer_have_credit() {
    let limited = || {
        let mut config = config(Side::Server, Moqt16);
        config.limits.requests = 4;
        Talk::with(config, Setup { solicit: true, ..Setup::default() })
    };
    let mut talk = limited();
    talk.request(|_| subscribe_message(8));
    talk.closed_with(0x7);

    let mut talk = limited();
    let control = talk.control.unwrap();
    for _ in 0..40 {
        talk.request(subscribe_message);
        let request = match one(talk.lone.events()) {
            Event::SubscribeRequested { request, .. } => request,
            other => panic!("{other:?}"),
        };
        talk.lone.apply(Command::Refuse { request, error: Error::NotFound });
    }
    let granted = talk.written(control).into_iter().filter_map(|message| match message {
        Message::MaxRequestId(max) => Some(max),
        _ => None,
    });
    let granted: Vec<_> = granted.collect();
    assert!(granted.is_sorted() && granted.last() > Some(&80), "{granted:?}");
}

/// Requests of this end wait until the peer grants ids, and are sent in order, without gaps between ids (16).
#[test]
fn our_requests_wait_for_credit() {
    let setup = Setup { max_request_id: 2, solicit: true, ..Setup::default() };
    let mut talk = Talk::with(config(Side::Client, Moqt16), setup);
    let control = talk.control.unwrap();
    for slot in 0..4 {
        talk.lone.apply(subscribe(slot));
    }
    let ids = |messages: Vec<Message>| -> Vec<u64> {
        let id = |message| match message {
            Message::Subscribe(it) => it.id,
            other => panic!("{other:?}"),
        };
        messages.into_iter().map(id).collect()
    };
    assert_eq!(ids(talk.written(control)), [0]);
    // A request that was not sent is not withdrawn on the wire.
    talk.lone.apply(Command::Unsubscribe { subscription: token(1) });
    assert_eq!(talk.written(control), []);
    talk.send(control, &Message::MaxRequestId(5));
    assert_eq!(ids(talk.written(control)), [2, 4]);
    talk.send(control, &Message::RequestsBlocked(5));
    talk.send(control, &Message::MaxRequestId(5));
    talk.closed_with(0x3);
}

/// *Request ID*: a peer that left out more ids than are remembered may use the last ones of all, each once. There are no
/// ids that no message could name: the largest integer here is 2^62-1.
#[test]
fn the_last_request_ids_are_used_once() {
    const LAST: u64 = varint::MAX - 3;
    const FIRST: u64 = LAST - 2 * 1_025;
    for version in DRAFTS.into_iter().filter(|it| *it >= Moqt17) {
        for bad in [None, Some(0), Some(FIRST), Some(LAST), Some(LAST + 2), Some(u64::MAX - 1)] {
            let limits = Limits { requests: 4_096, ..Limits::default() };
            let setup = Setup { solicit: true, ..Setup::default() };
            let mut talk = Talk::with(Config { limits, ..config(Side::Server, version) }, setup);
            // It is refused at once.
            let tokens = vec![TokenReference::Alias(5)];
            let parameters = Parameters { tokens, ..Parameters::default() };
            let message = hex(&wire(version, &subscribe_message_with(0, parameters)));
            let mut ask = |id: u64| {
                // The type, the length, and the id in nine bytes in place of one.
                let length = u16::try_from(message.len() + 5).unwrap().to_be_bytes();
                let id = id.to_be_bytes();
                let parts = [&message[..1], &length, &[0xff], &id, &message[4..]].concat();
                talk.lone.open(Dir::Bi, &digits(&parts));
                talk.lone.end.is_closed()
            };
            for id in [FIRST].into_iter().chain((FIRST + 4..=LAST).step_by(2)).chain([FIRST + 2]) {
                assert!(!ask(id), "{version}: {id}");
            }
            if let Some(bad) = bad {
                assert!(ask(bad), "{version}: {bad}");
                talk.closed_with(0x4);
                continue;
            }
            // Draft 18 names the next id in GOAWAY.
            talk.lone.apply(Command::GoAway { uri: "".into(), timeout: ms(10_000) });
            talk.lone.advance(ms(1_000));
            talk.closed_with(0x0);
        }
    }
}

/// Requests that are not supported are refused with the codes of the draft, and the session continues.
#[test]
fn unsupported_requests_are_refused() {
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Server, version);
        // No announcements are wanted here.
        let id = talk.next;
        let stream = talk.request(|id| {
            let (namespace, parameters) = (path("demo"), Parameters::default());
            Message::PublishNamespace(PublishNamespace { id, namespace, parameters })
        });
        assert_eq!(talk.written_one(stream), talk.error(id, UNINTERESTED));
        assert_eq!((talk.lone.events(), talk.lone.actions()), (vec![], vec![]));
    }
}

/// Cloudflare `moq-transport` 0.17, see `coding::ietf::quirks`. It may even come before the request whose id is lower.
#[test]
fn track_status_on_the_control_stream_is_ignored() {
    for version in DRAFTS.into_iter().filter(|it| *it >= Moqt17) {
        let mut talk = Talk::quiet(Side::Server, version);
        let Message::Subscribe(asked) = subscribe_message(2) else { unreachable!() };
        let control = StreamId::new(Side::Client, Dir::Uni, 0);
        talk.send(control, &Message::TrackStatus(asked));
        if version != Moqt18 {
            talk.closed_with(0x3);
            continue;
        }
        assert_eq!((talk.lone.events(), talk.lone.actions()), (vec![], vec![]));
        talk.request(subscribe_message);
        assert!(matches!(talk.lone.events()[..], [Event::SubscribeRequested { .. }]));
        // It used up its id.
        talk.request(|_| subscribe_message(2));
        talk.closed_with(0x4);
    }
}

/// *TRACK_STATUS* is answered like a track query.
#[test]
fn track_status_is_answered() {
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Server, version);
        let stream = talk.request(|id| {
            let Message::Subscribe(it) = subscribe_message(id) else { unreachable!() };
            Message::TrackStatus(it)
        });
        let request = match one(talk.lone.events()) {
            Event::TrackRequested { request, broadcast, track, .. } => {
                assert_eq!((broadcast, &*track), (path("demo"), "video"));
                request
            }
            other => panic!("{other:?}"),
        };
        let info = TrackInfo { priority: 9, ..TrackInfo::default() };
        let largest = Some(FramePosition::new(7, 2));
        talk.lone.apply(Command::AcceptTrack { request, info, largest });
        let Message::RequestOk(ok) = talk.written_one(stream) else { panic!("not accepted") };
        // D22-9-20-17-MUST-441.
        assert_eq!(ok.parameters.largest, Some(Location::new(7, 2)));
        assert_eq!((ok.id, ok.properties.priority), (talk.id(0), (version >= Moqt18).then_some(9)));
    }
}

/// A request past the limit is refused, or its stream reset.
#[test]
fn requests_have_a_limit() {
    for version in DRAFTS {
        let mut config = config(Side::Server, version);
        config.limits.requests = if version < Moqt17 { 3 } else { 2 };
        let mut talk = Talk::with(config, Setup { solicit: true, ..Setup::default() });
        talk.request(subscribe_message);
        talk.request(subscribe_message);
        assert_eq!(talk.lone.events().len(), 2);
        let stream = talk.request(subscribe_message);
        assert_eq!(talk.lone.events(), []);
        match version {
            Moqt14 | Moqt15 | Moqt16 => {
                let refused =
                    |it: &Message| matches!(it, Message::RequestError(it) if it.id == Some(4));
                assert!(talk.written(stream).iter().any(refused));
            }
            _ => assert_eq!(talk.lone.actions(), [reset(stream, 0x9), stop(stream, 0x9)]),
        }
    }
}

/// A name that is not a path affects its request alone: DOES_NOT_EXIST.
#[test]
fn names_that_are_not_paths_are_refused() {
    // SUBSCRIBE with a namespace of one field that is not UTF-8; NAMESPACE with such a suffix. (17 has another
    // field after the request id.)
    for version in DRAFTS.into_iter().filter(|it| *it != Moqt17) {
        let mut talk = Talk::quiet(Side::Server, version);
        let ask = "03 0006 00 01 01 ff 00 00";
        let stream = match talk.control {
            Some(control) => {
                talk.lone.data(control, ask);
                control
            }
            None => talk.lone.open(Dir::Bi, ask),
        };
        assert_eq!(talk.written_one(stream), talk.error(0, 0x10));
        assert!(!talk.lone.end.is_closed());

        let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(interested(Side::Client, version), setup);
        let listen = talk.lone.own(Dir::Bi, u64::from(version < Moqt17));
        talk.lone.data(listen, "08 0003 01 01 ff");
        assert_eq!(talk.lone.events(), []);
        assert!(!talk.lone.end.is_closed());
    }
}

/// A message that declares a length past the limit ends the session.
#[test]
fn messages_have_a_limit() {
    for version in DRAFTS {
        for (size, fits) in [("012c", true), ("012d", false)] {
            let mut config = config(Side::Server, version);
            config.limits.message_bytes = 300;
            let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
            let mut talk = Talk::with(config, setup);
            let head = format!("03 {size}");
            match talk.control {
                Some(control) => talk.lone.data(control, &head),
                None => drop(talk.lone.open(Dir::Bi, &head)),
            }
            match fits {
                true => assert!(!talk.lone.end.is_closed()),
                false => talk.closed_with(0x3),
            }
        }
    }
}

/// Each request and each update has an answer. A peer that sends requests and never reads the answers is
/// disconnected before they take more memory than the limit.
#[test]
fn unread_answers_have_a_limit() {
    for version in DRAFTS {
        let mut config = config(Side::Server, version);
        config.limits.request_buffer = 100;
        let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(config, setup);
        let stream = talk.request(subscribe_message);
        assert_eq!(talk.lone.events().len(), 1);
        talk.lone.reads = false;
        let mut asked = 0;
        while !talk.lone.end.is_closed() {
            let (id, existing) = (talk.next, talk.id(0));
            talk.next += 2;
            let parameters = Parameters { forward: Some(false), ..Parameters::default() };
            let update = RequestUpdate { id, existing, parameters };
            talk.send(stream, &Message::RequestUpdate(update));
            talk.lone.events();
            asked += 1;
            assert!(asked < 6_400, "an answer has at least one byte");
        }
        assert!(asked > 500, "{asked}: a peer may be slow");
    }
}
