//! GOAWAY that this end sends, and its effect on both ends (moq-lite-06, 5.1.6 and 7.18).

use super::*;

const URI: &str = "https://b.example/";
const WITH_GOAWAY: [Version; 4] = [Lite04, Lite05, Lite06, Lite07Wip];

fn go_away(uri: &str, timeout: Duration) -> Command {
    Command::GoAway { uri: uri.into(), timeout }
}

fn going_away(uri: &str) -> Event {
    Event::GoingAway { uri: uri.into(), timeout: None }
}

fn refused(slot: u32) -> Event {
    Event::SubscribeEnded { subscription: token(slot), result: Err(Error::GoingAway) }
}

/// A server that accepted a subscription of the peer.
fn serving(version: Version) -> (Lone, RequestKey) {
    let mut lone = Lone::ready(Side::Server, version);
    lone.open(Dir::Bi, subscribe_bytes(version));
    let Some(Event::SubscribeRequested { request, .. }) = lone.events().pop() else {
        panic!("no subscription")
    };
    lone.apply(Command::AcceptSubscribe { request, info: TrackInfo::default(), largest: None });
    (lone, request)
}

/// moq-lite-06, 7.18: type, message and FIN on a stream of its own. A client's URI is empty.
#[test]
fn goaway_is_sent_once_on_its_own_stream() {
    for version in WITH_GOAWAY {
        for (side, uri, expected) in [
            (Side::Server, URI, "05 13 12 68747470733a2f2f622e6578616d706c652f fin"),
            (Side::Server, "", "05 01 00 fin"),
            (Side::Server, &"x".repeat(8_193), "05 01 00 fin"),
            (Side::Client, URI, "05 01 00 fin"),
        ] {
            let mut lone = Lone::ready(side, version);
            let id = lone.own(Dir::Bi, 0);
            lone.apply(go_away(uri, ms(5_000)));
            assert_eq!(lone.sent(id).replace(' ', ""), bytes(expected));
            // The peer has read the message when its half ends.
            assert!(!lone.end.is_closed());
            lone.fin(id, "");
            assert_eq!(lone.closed_with(0), Error::SessionClosed);
            assert_eq!(lone.opened[0][Dir::Bi as usize], 1);
        }
    }
}

/// Nothing is written after GOAWAY, so its sender may stop the other half at once, as `moq-net` does.
#[test]
fn goaway_is_read_from_a_peer_that_stopped_our_half() {
    for version in WITH_GOAWAY {
        let mut lone = Lone::ready(Side::Client, version);
        let id = lone.open(Dir::Bi, "");
        lone.stop(id, 0);
        lone.fin(id, "05 13 12 68747470733a2f2f622e6578616d706c652f");
        assert_eq!(one(lone.events()), going_away(URI), "{version}");
    }
}

/// A peer that does not answer delays the end no longer than `Limits::close_timeout`.
#[test]
fn an_idle_peer_has_the_close_timeout() {
    for version in WITH_GOAWAY {
        let mut lone = Lone::ready(Side::Server, version);
        lone.apply(go_away("", ms(5_000)));
        lone.advance(ms(999));
        assert!(!lone.end.is_closed());
        lone.advance(ms(1));
        assert_eq!(lone.closed_with(0), Error::SessionClosed);
    }
}

/// GOAWAY is not sent before the peer's SETUP; until then the session stays.
#[test]
fn goaway_waits_for_setup() {
    for version in [Lite05, Lite06, Lite07Wip] {
        let mut lone = Lone::new(config(Side::Server, version));
        lone.apply(go_away("", ms(5_000)));
        lone.fin(lone.own(Dir::Bi, 0), "");
        assert!(!lone.end.is_closed());
        lone.open(Dir::Uni, "01 01 00");
        assert_eq!(lone.closed_with(0), Error::SessionClosed);
    }
}

/// Running subscriptions continue to their end, and then the session closes cleanly. Versions up to 03 have
/// no GOAWAY, so nothing is sent.
#[test]
fn running_subscriptions_reach_their_end() {
    on_every_dialect(|version, mut pair| {
        let request = subscribed(&mut pair, 0);
        let frames = [Frame::new(3, vec![7; 99]), Frame::new(4, vec![8; 20])];
        pair.server.apply(go_away(URI, ms(60_000)));
        pair.run_until_idle();
        let is_told = Features::of(version).goaway;
        if is_told {
            assert_eq!(one(pair.client.take_events()), going_away(URI));
            pair.client.apply(subscribe(1));
            pair.run_until_idle();
            assert_eq!(one(pair.client.take_events()), refused(1));
        }
        pair.advance(ms(5_000));
        pair.server.apply(start(request, 0));
        for sequence in 0..3 {
            pair.server.source.insert(token(sequence), frames.clone());
            pair.server.apply(group(request, sequence.into()));
        }
        pair.run_until_idle();
        assert!(!pair.server.is_closed());
        pair.server.apply(Command::FinishSubscribe { request, end: 3 });
        while !pair.server.is_closed() {
            pair.run_until_idle();
            assert!(pair.server.is_closed() || pair.sleep_to_deadline());
        }
        assert!(pair.now() < Instant::ZERO + ms(8_000));
        pair.run_until_idle();
        let mut events = pair.client.take_events();
        assert_eq!(events.pop(), Some(Event::Closed { error: Error::SessionClosed }));
        let received = Received::of([vec![informed(0)], events].concat());
        assert_eq!(received.groups.len(), 3);
        assert!(received.groups.values().all(|group| *group == whole(version, &frames)));
    });
}

/// A peer that obeys ends its subscriptions, and then the session closes cleanly.
#[test]
fn the_session_closes_when_the_peer_is_done() {
    on_every_dialect(|_, mut pair| {
        subscribed(&mut pair, 0);
        pair.server.apply(go_away("", ms(60_000)));
        pair.run_until_idle();
        assert!(!pair.server.is_closed());
        pair.client.take_events();
        pair.client.apply(Command::Unsubscribe { subscription: token(0) });
        pair.advance(ms(1_500));
        let closed = Event::Closed { error: Error::SessionClosed };
        for end in [&mut pair.server, &mut pair.client] {
            assert_eq!(end.take_events().pop(), Some(closed.clone()));
        }
    });
}

/// Requests that cross GOAWAY are refused; running ones are not.
#[test]
fn requests_that_cross_goaway_are_refused() {
    for version in LITE {
        let (mut lone, request) = serving(version);
        lone.apply(go_away("", ms(5_000)));
        let id = lone.open(Dir::Bi, subscribe_bytes(version));
        assert_eq!(lone.actions(), [reset(id, 4), stop(id, 4)]);
        let mut asked = 2;
        if Features::of(version).track {
            let id = lone.open(Dir::Bi, "06 02 00 00");
            assert_eq!(lone.actions(), [reset(id, 4), stop(id, 4)]);
            asked += 1;
        }
        let settled = u64::from(Features::of(version).version_setup);
        assert_eq!(lone.opened[1][Dir::Bi as usize], asked + settled);
        // This end makes no new requests either.
        lone.apply(subscribe(0));
        assert_eq!(lone.events(), [refused(0)]);
        lone.end.source.insert(token(0), [Frame::new(0, "x")]);
        lone.apply(group(request, 0));
        assert!(!lone.sent(lone.own(Dir::Uni, u64::from(Features::of(version).setup))).is_empty());
        assert!(!lone.end.is_closed());
    }
}

/// At the deadline the session closes with GOAWAY_TIMEOUT, also on versions without GOAWAY.
#[test]
fn the_deadline_is_kept_in_every_version() {
    for version in LITE {
        let (mut lone, _) = serving(version);
        lone.apply(go_away("", ms(5_000)));
        lone.advance(ms(4_999));
        assert!(!lone.end.is_closed());
        lone.advance(ms(1));
        assert_eq!(lone.closed_with(0x10), Error::GoawayTimeout);
        assert_eq!(lone.end.poll_timeout(), None);
    }
    on_every_dialect(|_, mut pair| {
        subscribed(&mut pair, 0);
        pair.server.apply(go_away("", ms(5_000)));
        pair.advance(ms(5_100));
        let closed = Event::Closed { error: Error::GoawayTimeout };
        assert_eq!(pair.server.take_events().pop(), Some(closed.clone()));
        assert_eq!(pair.client.take_events().pop(), Some(closed));
    });
}

/// A second GOAWAY would be a violation, so it is never sent; but a second call may bring the deadline
/// forward.
#[test]
fn a_second_goaway_brings_the_deadline_forward() {
    for version in LITE {
        let (mut lone, _) = serving(version);
        let opened = lone.opened[0];
        lone.apply(go_away("", ms(5_000)));
        let entries = lone.end.machine.entries();
        for timeout in [9_000, 4_000, 3_000, 6_000] {
            lone.apply(go_away(URI, ms(timeout)));
        }
        assert_eq!(lone.end.machine.entries(), entries);
        let goaways = u64::from(Features::of(version).goaway);
        assert_eq!(lone.opened[0][Dir::Bi as usize] - opened[Dir::Bi as usize], goaways);
        lone.advance(ms(2_999));
        assert!(!lone.end.is_closed());
        lone.advance(ms(1));
        lone.closed_with(0x10);
    }
}

/// A drain does not wait for running subscriptions, and its end does not blame the peer.
#[test]
fn a_drain_overrides_goaway() {
    for version in WITH_GOAWAY {
        let (mut lone, _) = serving(version);
        lone.apply(go_away("", ms(5_000)));
        lone.fin(lone.own(Dir::Bi, 0), "");
        lone.apply(Command::Drain);
        assert_eq!(lone.closed_with(0), Error::SessionClosed);

        // If both come at once, GOAWAY is still sent, and then the drain counts.
        let (mut lone, _) = serving(version);
        lone.end.apply(go_away("", ms(5_000)));
        lone.apply(Command::Drain);
        assert_eq!(lone.sent(lone.own(Dir::Bi, 0)), "050100 fin");
        lone.advance(ms(1_000));
        assert_eq!(lone.closed_with(0), Error::SessionClosed);

        let mut lone = Lone::ready(Side::Server, version);
        lone.open(Dir::Bi, subscribe_bytes(version));
        lone.reads = false;
        lone.end.apply(Command::Drain);
        lone.end.apply(go_away("", ms(5_000)));
        assert_eq!(
            lone.end.poll_timeout(),
            Some(lone.now + ms(1_000)),
            "a later GOAWAY does not move it"
        );
    }
}

/// Subscriptions of this end are waited for as well, and do not count against the peer.
#[test]
fn own_subscriptions_are_waited_for() {
    for version in WITH_GOAWAY {
        let mut lone = Lone::ready(Side::Client, version);
        lone.apply(subscribe(0));
        lone.events();
        let id = StreamId::new(Side::Client, Dir::Bi, lone.opened[0][Dir::Bi as usize]);
        lone.apply(go_away("", ms(5_000)));
        lone.fin(id, "");
        lone.advance(ms(4_999));
        assert!(!lone.end.is_closed());
        lone.advance(ms(1));
        assert_eq!(lone.closed_with(0), Error::SessionClosed);
    }
}

/// No new request is sent to a peer that goes away. A request that was not sent yet is new.
#[test]
fn requests_that_were_not_sent_are_refused() {
    for version in WITH_GOAWAY {
        let mut lone = Lone::ready(Side::Client, version);
        lone.apply(subscribe(0));
        lone.events();
        let opened = lone.opened[0];
        // No stream is requested between these.
        lone.end.apply(subscribe(1));
        let fetch = token(5);
        let can_fetch = Features::of(version).fetch;
        if can_fetch {
            lone.end.apply(Command::Fetch {
                fetch,
                broadcast: path("demo"),
                track: "video".into(),
                priority: 0,
                sequence: 3,
                first_frame: 0,
                last_frame: None,
            });
        }
        lone.open(Dir::Bi, "05 01 00");
        let mut expected = vec![going_away(""), refused(1)];
        if can_fetch {
            expected.push(Event::FetchEnded { fetch, result: Err(Error::GoingAway) });
        }
        assert_eq!(lone.events(), expected);
        assert_eq!(lone.opened[0], opened);
        assert_eq!(lone.actions(), []);
    }
}

/// Both ends may send GOAWAY.
#[test]
fn both_ends_may_send_goaway() {
    on_every_dialect(|version, mut pair| {
        subscribed(&mut pair, 0);
        pair.server.apply(go_away("", ms(60_000)));
        pair.client.apply(go_away("", ms(60_000)));
        pair.run_until_idle();
        if Features::of(version).goaway {
            assert_eq!(one(pair.server.take_events()), going_away(""));
            assert_eq!(one(pair.client.take_events()), going_away(""));
        }
        assert!(!pair.server.is_closed() && !pair.client.is_closed());
        pair.client.apply(Command::Unsubscribe { subscription: token(0) });
        pair.advance(ms(2_000));
        let closed = Event::Closed { error: Error::SessionClosed };
        assert_eq!(pair.client.take_events().pop(), Some(closed.clone()));
        assert_eq!(pair.server.take_events().pop(), Some(closed));
    });
}
