//! GOAWAY that is sent, and what it does to both ends (wire-lite 6.14, 7.1, 9).

use super::*;

const URI: &str = "https://b.example/";
const TOLD: [Version; 4] = [Lite04, Lite05, Lite06, Lite07Wip];

fn go_away(uri: &str, timeout: Duration) -> Command {
    Command::GoAway { uri: uri.into(), timeout }
}

fn told(uri: &str) -> Event {
    Event::GoingAway { uri: uri.into(), timeout: None }
}

fn refused(slot: u32) -> Event {
    Event::SubscribeEnded { subscription: token(slot), result: Err(Error::GoingAway) }
}

/// A server with a subscription of the peer, which was accepted.
fn serving(version: Version) -> (Lone, RequestKey) {
    let mut lone = Lone::ready(Side::Server, version);
    lone.open(Dir::Bi, subscribe_bytes(version));
    let Some(Event::SubscribeRequested { request, .. }) = lone.events().pop() else {
        panic!("no subscription")
    };
    lone.apply(Command::AcceptSubscribe { request, info: TrackInfo::default() });
    (lone, request)
}

/// 6.14: the type, the message and FIN, on a stream of its own. 9 #21: a client names no other place.
#[test]
fn goaway_is_sent_once_on_its_own_stream() {
    for version in TOLD {
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
            // 4.2: the peer has it when its half is over.
            assert!(!lone.end.is_closed());
            lone.fin(id, "");
            assert_eq!(lone.closed_with(0), Error::SessionClosed);
            assert_eq!(lone.opened[0][Dir::Bi as usize], 1);
        }
    }
}

/// 4.2: nothing is written behind GOAWAY, so who says it may stop the other half at once (`moq-net` does).
#[test]
fn goaway_is_read_from_a_peer_that_stopped_our_half() {
    for version in TOLD {
        let mut lone = Lone::ready(Side::Client, version);
        let id = lone.open(Dir::Bi, "");
        lone.stop(id, 0);
        lone.fin(id, "05 13 12 68747470733a2f2f622e6578616d706c652f");
        assert_eq!(one(lone.events()), told(URI), "{version}");
    }
}

/// 4.2: who does not answer is not waited for.
#[test]
fn an_idle_peer_has_the_time_of_a_drain() {
    for version in TOLD {
        let mut lone = Lone::ready(Side::Server, version);
        lone.apply(go_away("", ms(5_000)));
        lone.advance(ms(999));
        assert!(!lone.end.is_closed());
        lone.advance(ms(1));
        assert_eq!(lone.closed_with(0), Error::SessionClosed);
    }
}

/// 1.4: it is told to nobody who did not set up; meanwhile the session stays.
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

/// 7.1: what runs goes on to its end, and then the session closes cleanly. Up to 03 nobody is told.
#[test]
fn what_runs_comes_to_its_end() {
    on_every_dialect(|version, mut pair| {
        let request = subscribed(&mut pair, 0);
        let frames = [Frame::new(3, vec![7; 99]), Frame::new(4, vec![8; 20])];
        pair.server.apply(go_away(URI, ms(60_000)));
        pair.run_until_idle();
        let is_told = Features::of(version).goaway;
        if is_told {
            assert_eq!(one(pair.client.take_events()), told(URI));
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
        let heard = Heard::of([vec![informed(0)], events].concat());
        assert_eq!(heard.groups.len(), 3);
        assert!(heard.groups.values().all(|group| *group == whole(version, &frames)));
    });
}

/// 7.1: a peer that obeys ends what it has, and the session closes cleanly then.
#[test]
fn a_peer_that_leaves_closes_it() {
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

/// 7.1: requests that cross it are refused; what runs is not.
#[test]
fn requests_that_cross_it_are_refused() {
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
        let settled = u64::from(Features::of(version).settles);
        assert_eq!(lone.opened[1][Dir::Bi as usize], asked + settled);
        // Nor does this end ask for more.
        lone.apply(subscribe(0));
        assert_eq!(lone.events(), [refused(0)]);
        lone.end.source.insert(token(0), [Frame::new(0, "x")]);
        lone.apply(group(request, 0));
        assert!(!lone.sent(lone.own(Dir::Uni, u64::from(Features::of(version).setup))).is_empty());
        assert!(!lone.end.is_closed());
    }
}

/// 5.1, 7.1: GOAWAY_TIMEOUT when time is up. Without the message too.
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

/// 7.1: a second one is a fault, so it is never said; but the deadline may come earlier.
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
        let told = u64::from(Features::of(version).goaway);
        assert_eq!(lone.opened[0][Dir::Bi as usize] - opened[Dir::Bi as usize], told);
        lone.advance(ms(2_999));
        assert!(!lone.end.is_closed());
        lone.advance(ms(1));
        lone.closed_with(0x10);
    }
}

/// A drain waits for nothing that runs. It was no fault of the peer.
#[test]
fn a_drain_ends_goaway_sooner() {
    for version in TOLD {
        let (mut lone, _) = serving(version);
        lone.apply(go_away("", ms(5_000)));
        lone.fin(lone.own(Dir::Bi, 0), "");
        lone.apply(Command::Drain);
        assert_eq!(lone.closed_with(0), Error::SessionClosed);

        // It is still told if both come at once, and then the drain counts.
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
        assert_eq!(lone.end.poll_timeout(), Some(lone.now + ms(1_000)), "it is too late for it");
    }
}

/// What this end reads of the peer is waited for as well, and is no fault of the peer.
#[test]
fn own_subscriptions_are_waited_for() {
    for version in TOLD {
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

/// 7.1: nothing new is asked of a peer that goes away, and what did not go out yet is new.
#[test]
fn requests_that_did_not_go_out_are_none() {
    for version in TOLD {
        let mut lone = Lone::ready(Side::Client, version);
        lone.apply(subscribe(0));
        lone.events();
        let opened = lone.opened[0];
        // No stream is asked for between these.
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
        let mut expected = vec![told(""), refused(1)];
        if can_fetch {
            expected.push(Event::FetchEnded { fetch, result: Err(Error::GoingAway) });
        }
        assert_eq!(lone.events(), expected);
        assert_eq!(lone.opened[0], opened);
        assert_eq!(lone.actions(), []);
    }
}

/// Both ends may say it.
#[test]
fn both_ends_may_send_goaway() {
    on_every_dialect(|version, mut pair| {
        subscribed(&mut pair, 0);
        pair.server.apply(go_away("", ms(60_000)));
        pair.client.apply(go_away("", ms(60_000)));
        pair.run_until_idle();
        if Features::of(version).goaway {
            assert_eq!(one(pair.server.take_events()), told(""));
            assert_eq!(one(pair.client.take_events()), told(""));
        }
        assert!(!pair.server.is_closed() && !pair.client.is_closed());
        pair.client.apply(Command::Unsubscribe { subscription: token(0) });
        pair.advance(ms(2_000));
        let closed = Event::Closed { error: Error::SessionClosed };
        assert_eq!(pair.client.take_events().pop(), Some(closed.clone()));
        assert_eq!(pair.server.take_events().pop(), Some(closed));
    });
}
