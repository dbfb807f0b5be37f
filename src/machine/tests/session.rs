//! The start and the end of a session: SETUP, GOAWAY, closing (moq-lite-06, 3.1, 5.1.6 and 7.3).

use super::*;

// ---- SETUP -----------------------------------------------------------------------------------

/// Both ends send SETUP, and finish the streams of it.
#[test]
fn setup_goes_both_ways() {
    on_every_link(|version, link| {
        let mut pair = pair(version, link);
        pair.run_until_idle();
        let opened = pair.trace().lines().iter().filter(|line| line.ends_with(": open")).count();
        let features = Features::of(version);
        assert_eq!(opened, 2 * usize::from(features.setup) + usize::from(features.version_setup));
        for side in [Side::Client, Side::Server] {
            assert_eq!(pair.streams(side, Dir::Uni), 0);
        }
        assert!(!pair.client.is_closed() && !pair.server.is_closed());
        assert_eq!(pair.client.take_events(), []);
        assert_eq!(pair.server.take_events(), []);
    });
}

/// moq-lite-06, 7.3: requests of the peer wait for its SETUP.
#[test]
fn requests_and_groups_wait_for_setup() {
    for version in [Lite05, Lite06, Lite07Wip] {
        let mut lone = Lone::new(config(Side::Server, version));
        let id = lone.open(Dir::Bi, "06 02 00 00");
        assert_eq!(lone.events(), []);
        assert_eq!(lone.actions(), []);
        lone.open(Dir::Uni, "01 01 00");
        assert!(matches!(one(lone.events()), Event::TrackRequested { .. }));
        assert_eq!(lone.sent(id), "");
    }
}

/// A malformed or a second SETUP closes the session.
#[test]
fn a_bad_setup_closes_the_session() {
    for version in [Lite05, Lite06, Lite07Wip] {
        // A parameter twice, a length and an integer that are cut off, and a Path that is no text.
        let malformed =
            ["01 05 02 00 00 00 00", "01 02 01 01", "01 04 01 05 01 d2", "01 04 01 02 01 ff"];
        for bad in malformed {
            let mut lone = Lone::new(config(Side::Server, version));
            lone.open(Dir::Uni, bad);
            assert_eq!(lone.closed_with(3), Error::ProtocolViolation("malformed SETUP"));
        }
        let mut lone = Lone::ready(Side::Server, version);
        lone.open(Dir::Uni, "01 01 00");
        assert_eq!(lone.closed_with(3), Error::ProtocolViolation("second SETUP"));
        let mut lone = Lone::new(config(Side::Server, version));
        let id = lone.open(Dir::Uni, "01 04 01");
        lone.fin(id, "");
        assert_eq!(lone.closed_with(3), Error::ProtocolViolation("malformed SETUP"));
    }
}

/// L06-7-3-2-MUST-126, L06-7-3-3-MUST-131: Path and Role come from the client alone.
#[test]
fn path_and_role_of_a_server_close_the_session() {
    for version in [Lite05, Lite06, Lite07Wip] {
        let config = Config { path: path("a"), hop: Hop::UNKNOWN, ..config(Side::Server, version) };
        let mut server = Lone::new(config);
        assert_eq!(server.sent(server.own(Dir::Uni, 0)), "010401010101 fin");
        for setup in ["01 05 01 02 02 2f61", "01 04 01 03 01 01"] {
            let mut client = Lone::new(super::config(Side::Client, version));
            client.open(Dir::Uni, setup);
            let error = client.closed_with(3);
            assert_eq!(error, Error::ProtocolViolation("Path or Role of a server"));
            let mut server = Lone::new(super::config(Side::Server, version));
            server.open(Dir::Uni, setup);
            assert!(!server.end.is_closed());
        }
    }
}

/// Bytes after SETUP are ignored.
#[test]
fn bytes_after_setup_are_ignored() {
    let mut lone = Lone::new(config(Side::Server, Lite06));
    let id = lone.open(Dir::Uni, "01 01 00 ff ff ff ff");
    lone.fin(id, "aa");
    assert_eq!(lone.actions(), [stop(id, 1)]);
    assert!(!lone.end.is_closed());
    lone.open(Dir::Bi, "06 02 00 00");
    assert_eq!(lone.events().len(), 1);
}

#[test]
fn a_setup_that_does_not_come_closes_the_session_in_time() {
    for version in [Lite05, Lite06, Lite07Wip] {
        let mut lone = Lone::new(config(Side::Client, version));
        // A reset is no SETUP.
        let id = lone.open(Dir::Uni, "01");
        lone.reset(id, 0);
        assert_eq!(lone.end.poll_timeout(), Some(Instant::from_millis(10_000)));
        lone.advance(ms(10_000) - Duration::from_micros(1));
        assert!(!lone.end.is_closed());
        lone.advance(Duration::from_micros(1));
        assert_eq!(lone.closed_with(0x11), Error::Timeout);
        assert_eq!(lone.end.poll_timeout(), None);
    }
    let mut lone = Lone::ready(Side::Client, Lite06);
    lone.advance(ms(10_000));
    assert!(!lone.end.is_closed());
    assert_eq!(Lone::new(config(Side::Client, Lite04)).end.poll_timeout(), None);
}

// ---- GOAWAY ----------------------------------------------------------------------------------

/// No new requests are sent to a peer that goes away.
#[test]
fn goaway_stops_new_requests() {
    for version in [Lite04, Lite05, Lite06, Lite07Wip] {
        let mut lone = Lone::ready(Side::Client, version);
        lone.apply(subscribe(0));
        lone.events();
        let requests = lone.opened[0][Dir::Bi as usize];
        let id = lone.open(Dir::Bi, "05 13 12 68747470733a2f2f622e6578616d706c652f");
        assert_eq!(
            one(lone.events()),
            Event::GoingAway { uri: "https://b.example/".into(), timeout: None }
        );
        lone.fin(id, "");
        assert_eq!(lone.sent(id), " fin");
        lone.apply(subscribe(1));
        let (subscription, result) = (token(1), Err(Error::GoingAway));
        assert_eq!(one(lone.events()), Event::SubscribeEnded { subscription, result });
        assert_eq!(lone.opened[0][Dir::Bi as usize], requests);
        assert_eq!(lone.actions(), []);
    }
}

// L06-7-18-MUST-186
#[test]
fn a_second_goaway_closes_the_session() {
    for version in [Lite04, Lite05, Lite06, Lite07Wip] {
        let mut lone = Lone::ready(Side::Client, version);
        lone.open(Dir::Bi, "05 01 00");
        assert!(!lone.end.is_closed());
        lone.open(Dir::Bi, "05 01 00");
        assert_eq!(lone.closed_with(3), Error::ProtocolViolation("second GOAWAY"));
    }
}

/// L06-7-18-MUST-179. It does so as well if it is longer than a message may be.
#[test]
fn a_goaway_with_a_long_uri_closes_the_session() {
    for version in [Lite04, Lite05, Lite06, Lite07Wip] {
        for (length, closes) in [(8_192, false), (8_193, true), (1 << 20, true)] {
            // A text, and a message, are preceded by their length.
            let with_length = |bytes: &[u8]| {
                let mut out = vec![];
                Features::of(version).form.write(&mut out, bytes.len() as u64).unwrap();
                [out.as_slice(), bytes].concat()
            };
            let mut goaway = with_length(&with_length(&vec![b'x'; length]));
            // No more than QUIC lets the peer send.
            goaway.truncate(10_000);
            let mut lone = Lone::ready(Side::Client, version);
            lone.open(Dir::Bi, &format!("05 {}", digits(&goaway)));
            match closes {
                true => drop(lone.closed_with(3)),
                false => assert!(!lone.end.is_closed(), "{version}"),
            }
        }
    }
}

/// A malformed GOAWAY resets its stream. 03 has no GOAWAY.
#[test]
fn a_malformed_goaway_is_reset() {
    for version in LITE {
        let mut lone = Lone::ready(Side::Client, version);
        let id = lone.open(Dir::Bi, "05 02 01 ff");
        let code = if Features::of(version).goaway { 0x12 } else { 1 };
        assert_eq!(lone.actions(), [reset(id, code), stop(id, code)]);
        assert_eq!(lone.events(), []);
    }
}

// ---- closing ---------------------------------------------------------------------------------

#[test]
fn closing_sends_the_code_of_the_error_and_nothing_follows() {
    on_every_dialect(|_, mut pair| {
        pair.client.apply(subscribe(0));
        pair.steps(5);
        pair.client.apply(Command::Close { error: Error::App(5) });
        pair.client.apply(Command::Close { error: Error::App(6) });
        pair.client.apply(subscribe(1));
        pair.run_until_idle();
        assert_eq!(one(pair.client.take_events()), Event::Closed { error: Error::App(5) });
        let last = pair.server.take_events().pop();
        assert_eq!(last, Some(Event::Closed { error: Error::App(5) }));
        assert!(pair.client.is_closed() && pair.server.is_closed());
    });
}

#[test]
fn a_broken_connection_ends_the_session_once() {
    on_every_dialect(|_, mut pair| {
        pair.client.apply(subscribe(0));
        pair.disconnect();
        pair.disconnect();
        pair.run_until_idle();
        let closed = Event::Closed { error: Error::Disconnected };
        assert_eq!(pair.client.take_events(), core::slice::from_ref(&closed));
        assert_eq!(pair.server.take_events(), [closed]);
        assert_eq!(pair.client.poll_timeout(), None);
    });
}

/// Everything pending is sent first, even if it waits for flow control and stream credit.
#[test]
fn draining_sends_everything_and_closes() {
    on_every_dialect(|version, mut pair| {
        let request = subscribed(&mut pair, 0);
        let frames = [Frame::new(3, vec![7; 99]), Frame::new(4, vec![8; 20])];
        pair.server.apply(start(request, 0));
        for sequence in 0..4 {
            pair.server.source.insert(token(sequence), frames.clone());
            pair.server.apply(group(request, sequence.into()));
        }
        pair.server.apply(Command::FinishSubscribe { request, end: 4 });
        pair.steps(3);
        pair.server.apply(Command::Drain);
        pair.run_until_idle();
        while !pair.server.is_closed() {
            assert!(pair.sleep_to_deadline());
        }

        let mut events = pair.client.take_events();
        assert_eq!(events.pop(), Some(Event::Closed { error: Error::SessionClosed }));
        let received = Received::of([vec![informed(0)], events].concat());
        assert_eq!(received.groups.len(), 4);
        for group in received.groups.values() {
            assert_eq!(*group, whole(version, &frames));
        }
        assert!(pair.server.is_closed());
        // Before 06 a subscriber can't know that it has everything: it waits for stragglers.
        let features = Features::of(version);
        let knows = features.subscribe_end && !features.loose_end;
        assert!(
            !knows || pair.now() < Instant::ZERO + ms(1_000),
            "all was there before the deadline"
        );
    });
}

#[test]
fn draining_ends_in_time_whatever_the_peer_does() {
    for version in LITE {
        let mut pair = pair(version, Link::perfect());
        let request = subscribed(&mut pair, 0);
        pair.link().bandwidth = Some(1);
        pair.server.source.insert(token(0), [Frame::new(0, vec![0; 1 << 20])]);
        pair.server.apply(group(request, 0));
        pair.server.apply(Command::FinishSubscribe { request, end: 1 });
        pair.server.apply(Command::Drain);
        pair.advance(ms(999));
        assert!(!pair.server.is_closed());
        pair.advance(ms(1));
        assert!(pair.server.is_closed());
        let closed = Event::Closed { error: Error::SessionClosed };
        assert_eq!(pair.server.take_events().pop(), Some(closed.clone()));
        assert_eq!(pair.client.take_events().pop(), Some(closed));
    }
}

/// A session that drains refuses new requests.
#[test]
fn a_draining_session_refuses_requests() {
    on_every_dialect(|_, mut pair| {
        let request = subscribed(&mut pair, 0);
        // Pending bytes are not sent yet.
        pair.server.source.insert(token(0), [Frame::new(0, vec![0; 6_000])]);
        pair.server.apply(group(request, 0));
        pair.server.apply(Command::FinishSubscribe { request, end: 1 });
        pair.link().bandwidth = Some(10);
        pair.server.apply(Command::Drain);
        pair.client.apply(subscribe(1));
        pair.advance(ms(400));
        assert!(!pair.server.is_closed());
        // On one stream the refusal follows the pending bytes.
        pair.advance(ms(500));
        let ended = Event::SubscribeEnded { subscription: token(1), result: Err(Error::GoingAway) };
        let events = pair.client.take_events();
        assert!(events.contains(&ended), "{events:?}");
    });
}

#[test]
fn an_idle_session_drains_at_once() {
    on_every_link(|version, link| {
        let mut pair = pair(version, link);
        pair.run_until_idle();
        let before = pair.now();
        pair.server.apply(Command::Drain);
        pair.steps(100);
        assert!(pair.server.is_closed());
        assert_eq!(pair.now(), before);
    });
}
