//! GOAWAY that this end sends (*GOAWAY*, *Session Migration*, *Termination*).

use super::*;

fn go_away(uri: &str, millis: u64) -> Command {
    Command::GoAway { uri: uri.into(), timeout: ms(millis) }
}

/// The stream on which the machine sends it: its control stream.
fn control(talk: &Talk) -> StreamId {
    talk.control.unwrap_or(talk.lone.own(Dir::Uni, 0))
}

fn goaway(version: Version, uri: &str, millis: u64, request: u64) -> Message {
    let timeout = if version >= Moqt17 { ms(millis) } else { Duration::ZERO };
    Message::Goaway(Goaway {
        uri: uri.into(),
        timeout,
        request: (version == Moqt18).then_some(request),
    })
}

/// The peer subscribes and is accepted.
fn serving(version: Version) -> (Talk, StreamId, RequestKey) {
    let mut talk = Talk::quiet(Side::Server, version);
    let stream = talk.request(subscribe_message);
    let Some(Event::SubscribeRequested { request, .. }) = talk.lone.events().pop() else {
        panic!("no subscription")
    };
    talk.lone.apply(Command::AcceptSubscribe {
        request,
        info: TrackInfo::default(),
        largest: None,
    });
    talk.written(stream);
    (talk, stream, request)
}

/// GOAWAY is sent on the control stream, and a client's has no URI. 18: it has a timeout, and the first
/// request id of the peer that was not processed, with the peer's parity.
#[test]
fn goaway_has_a_uri_a_timeout_and_a_request_id() {
    for (version, side) in
        DRAFTS.into_iter().flat_map(|it| [(it, Side::Client), (it, Side::Server)])
    {
        for (uri, millis, sent) in [("moqt://b", 5_000, 5_000), ("", 0, 1)] {
            let mut talk = Talk::quiet(side, version);
            let control = control(&talk);
            let expected = |uri, request| goaway(version, uri, sent, request);
            talk.lone.apply(go_away(uri, millis));
            match side {
                Side::Client => assert_eq!(talk.written_one(control), expected("", 1)),
                Side::Server => assert_eq!(talk.written_one(control), expected(uri, 0)),
            }
        }
        let mut talk = Talk::quiet(side, version);
        for _ in 0..3 {
            talk.request(subscribe_message);
        }
        let control = control(&talk);
        talk.lone.apply(go_away(&"x".repeat(8_193), 5_000));
        let request = if side == Side::Client { 7 } else { 6 };
        assert_eq!(talk.written(control).pop(), Some(goaway(version, "", 5_000, request)));
    }
}

/// *Session Initialization*: GOAWAY is not sent before set-up is complete, and waits for it.
#[test]
fn goaway_follows_setup() {
    for version in DRAFTS {
        let mut lone = Lone::new(config(Side::Server, version));
        lone.apply(go_away("", 20_000));
        lone.advance(ms(2_000));
        assert!(!lone.end.is_closed());
        let (control, setup) = match version {
            Moqt14 | Moqt15 | Moqt16 => (lone.open(Dir::Bi, "20 0003 01 02 0a"), 1),
            _ => (lone.own(Dir::Uni, 0), 1),
        };
        if version >= Moqt17 {
            lone.open(Dir::Uni, "af000000");
        }
        let sent = lone.sent.remove(&control).unwrap().0;
        let written = messages(version, &sent).split_off(setup);
        assert_eq!(written, [goaway(version, "", 18_000, 0)]);
        lone.advance(ms(1_000));
        assert_eq!(lone.closed_with(0), Error::SessionClosed);
    }
}

/// Running subscriptions continue. New requests are refused, with GOING_AWAY where the draft has that code.
#[test]
fn new_requests_are_refused() {
    for version in DRAFTS {
        let (mut talk, stream, request) = serving(version);
        let control = control(&talk);
        talk.lone.apply(go_away("", 5_000));
        talk.written(control);
        let next = talk.next;
        let refused = talk.request(subscribe_message);
        let code = if version >= Moqt17 { 0x6 } else { 0x0 };
        assert_eq!(talk.written_one(refused), talk.error(next, code));
        assert_eq!(talk.lone.events(), []);
        talk.lone.apply(subscribe(0));
        let ended = Event::SubscribeEnded { subscription: token(0), result: Err(Error::GoingAway) };
        assert_eq!(talk.lone.events(), [ended]);

        talk.lone.end.source.begin(token(0));
        talk.lone.end.source.push(token(0), Frame::new(0, "x"));
        talk.lone.apply(group(request, 0));
        assert_eq!(talk.lone.events().len(), 0);
        talk.lone.apply(Command::FinishSubscribe { request, end: 1 });
        assert!(!talk.lone.end.is_closed());
        // The end of the group, which ends the subscription.
        talk.lone.end.source.end(token(0), Ok(()));
        talk.lone.apply(Command::GroupReady { request, sequence: 0 });
        assert!(matches!(talk.written_one(stream), Message::PublishDone(_)));
        talk.lone.advance(ms(1_000));
        assert_eq!(talk.lone.closed_with(0), Error::SessionClosed);
    }
}

/// *Termination*: GOAWAY_TIMEOUT. A second call only moves the deadline forward and sends nothing.
#[test]
fn a_second_call_moves_only_the_deadline() {
    for version in DRAFTS {
        let (mut talk, ..) = serving(version);
        let control = control(&talk);
        for millis in [5_000, 7_000, 3_000, 4_000] {
            talk.lone.apply(go_away("", millis));
        }
        assert_eq!(talk.written_one(control), goaway(version, "", 5_000, 2));
        talk.lone.advance(ms(2_999));
        assert!(!talk.lone.end.is_closed());
        talk.lone.advance(ms(1));
        talk.closed_with(0x10);
    }
}

/// GOAWAY is not acknowledged, and some peers lose what they have not read when the session closes.
#[test]
fn an_idle_peer_has_time_to_read_goaway() {
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Server, version);
        talk.lone.apply(go_away("", 5_000));
        talk.lone.advance(ms(999));
        assert!(!talk.lone.end.is_closed());
        talk.lone.advance(ms(1));
        assert_eq!(talk.lone.closed_with(0), Error::SessionClosed);
    }
}

/// Two machines: the peer reads the message and obeys, and the session closes cleanly.
#[test]
fn the_session_closes_when_the_peer_is_done() {
    on_every_draft(|version, mut pair| {
        pair.client.apply(subscribe(0));
        accept_all(&mut pair);
        pair.run_until_idle();
        pair.client.take_events();
        pair.server.apply(go_away("moqt://b", 60_000));
        pair.run_until_idle();
        let timeout = (version >= Moqt17).then_some(ms(60_000));
        let told = Event::GoingAway { uri: "moqt://b".into(), timeout };
        assert_eq!(one(pair.client.take_events()), told);
        assert!(!pair.server.is_closed());
        pair.client.apply(Command::Unsubscribe { subscription: token(0) });
        pair.advance(ms(2_500));
        let closed = Event::Closed { error: Error::SessionClosed };
        for end in [&mut pair.server, &mut pair.client] {
            assert_eq!(end.take_events().pop(), Some(closed.clone()));
        }
    });
}

/// A session does not close by itself before GOAWAY was sent.
#[test]
fn goaway_is_sent_before_the_session_closes() {
    for version in DRAFTS {
        let (mut talk, ..) = serving(version);
        let control = control(&talk);
        talk.lone.reads = false;
        talk.lone.apply(go_away("", 5_000));
        talk.lone.advance(ms(2_000));
        match version {
            Moqt14 | Moqt15 | Moqt16 => {
                talk.send(control, &Message::Unsubscribe(Unsubscribe { id: Some(0) }))
            }
            _ => {
                // Nothing else is left to send.
                talk.lone.stop(StreamId::new(Side::Client, Dir::Bi, 0), 1);
                talk.lone.reset(StreamId::new(Side::Client, Dir::Bi, 0), 1);
            }
        }
        assert_eq!(talk.lone.events().len(), 1, "the subscription is over");
        assert!(!talk.lone.end.is_closed(), "{version}");
        talk.lone.reads = true;
        for id in [control, StreamId::new(Side::Client, Dir::Bi, 0)] {
            talk.lone.handle(Input::Writable { id });
        }
        assert!(talk.written(control).contains(&goaway(version, "", 5_000, 2)));
        assert_eq!(talk.lone.closed_with(0), Error::SessionClosed);
    }
}

/// 18: GOAWAY on the stream of a request is about that request, which continues until an end closes it.
#[test]
fn goaway_on_a_request_has_no_effect() {
    let mut talk = Talk::quiet(Side::Client, Moqt18);
    let stream = talk.subscribed(4, TrackProperties::default());
    let (uri, timeout) = ("moqt://b".into(), ms(1_000));
    talk.send(stream, &Message::Goaway(Goaway { uri, timeout, request: None }));
    assert_eq!((talk.lone.events(), talk.lone.actions()), (vec![], vec![]));
    talk.lone.apply(subscribe(1));
    assert!(talk.lone.events().is_empty(), "the session goes on");
    assert!(matches!(talk.written_one(talk.lone.own(Dir::Bi, 1)), Message::Subscribe(_)));
}

/// D22-9-2-MUST-339: each request is asked to move once (17 and later).
#[test]
fn a_second_goaway_on_a_request_closes_the_session() {
    for version in EVERY.into_iter().filter(|it| *it >= Moqt17) {
        let mut talk = Talk::quiet(Side::Client, version);
        let first = talk.subscribed(4, TrackProperties::default());
        talk.lone.apply(subscribe(1));
        let second = talk.lone.own(Dir::Bi, 1);
        for stream in [first, second] {
            talk.send(stream, &Message::Goaway(Goaway::default()));
            assert!(!talk.lone.end.is_closed(), "{version}");
        }
        talk.send(second, &Message::Goaway(Goaway::default()));
        talk.closed_with(0x3);
    }
}

/// D22-9-2-MUST-343, D22-9-4-1-MUST-350: neither in GOAWAY nor in a redirect.
#[test]
fn a_client_names_no_uri_on_a_request() {
    for version in [Moqt18, Moqt22] {
        let goaway = |uri: &str| {
            Message::Goaway(Goaway { uri: uri.into(), request: None, ..Goaway::default() })
        };
        let redirect = |uri: &str| {
            let redirect = Some(Redirect { uri: uri.into(), ..Redirect::default() });
            let error = RequestError { code: REDIRECT, redirect, ..RequestError::default() };
            Message::RequestError(error)
        };
        let messages: [fn(&str) -> Message; 2] = [goaway, redirect];
        for message in messages {
            for (uri, side, closes) in [
                ("moqt://b", Side::Server, true),
                ("", Side::Server, false),
                ("moqt://b", Side::Client, false),
            ] {
                let mut talk = Talk::quiet(side, version);
                let (stream, _) = talk.subscribe();
                talk.send(stream, &message(uri));
                assert_eq!(talk.lone.end.is_closed(), closes, "{version} {uri}");
            }
        }
    }
}

/// *Maximum Request ID* (16): requests that wait for ids when GOAWAY arrives are never sent.
#[test]
fn requests_that_wait_for_ids_are_never_sent() {
    let setup = Setup { max_request_id: 1, solicit: true, ..Setup::default() };
    let mut talk = Talk::with(config(Side::Client, Moqt16), setup);
    let control = control(&talk);
    for slot in 0..2 {
        talk.lone.apply(subscribe(slot));
    }
    assert!(matches!(talk.written_one(control), Message::Subscribe(_)), "one id");
    assert_eq!(talk.lone.events(), []);
    talk.send(control, &goaway(Moqt16, "", 0, 0));
    let result = Err(Error::GoingAway);
    assert_eq!(
        talk.lone.events(),
        [
            Event::GoingAway { uri: "".into(), timeout: None },
            Event::SubscribeEnded { subscription: token(1), result }
        ]
    );
    talk.send(control, &Message::MaxRequestId(100));
    assert_eq!(talk.written(control), []);
}
