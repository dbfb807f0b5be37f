//! PROBE: the publisher reports its estimates of the connection (moq-lite-06, 5.1.5 and 7.3.1).

use super::*;

const PROBING: [Version; 5] = [Lite03, Lite04, Lite05, Lite06, Lite07Wip];

/// An action of the peer on a stream.
type Deed = fn(&mut Lone, StreamId);

/// 5 Mbit/s, unless `percent` says otherwise.
fn path_of(percent: u64, rtt: u64) -> Input {
    let bitrate = (percent > 0).then_some(5_000_000 * percent / 100);
    let rtt = (rtt > 0).then(|| ms(rtt));
    Input::NetworkPath(NetworkPath { rtt, bitrate, max_datagram: 1_200 })
}

/// The first report: 5 Mbit/s and 40 ms.
fn first_bytes(version: Version) -> String {
    bytes(match version {
        Lite03 => "04 804c4b40",
        Lite07Wip => "05 e04c4b40 28",
        _ => "05 804c4b40 28",
    })
}

/// A publisher with a PROBE stream, which reported 5 Mbit/s and 40 ms.
fn reporting(version: Version) -> (Lone, StreamId) {
    let mut lone = Lone::ready(Side::Server, version);
    lone.sent.clear();
    let id = lone.open(Dir::Bi, "04");
    lone.handle(path_of(100, 40));
    assert_eq!(lone.sent(id), first_bytes(version), "{version}");
    (lone, id)
}

// ---- as publisher ----------------------------------------------------------------------------

/// The first report is sent at once, or as soon as an estimate is known.
#[test]
fn the_first_report_is_sent_when_an_estimate_is_known() {
    for version in PROBING {
        let mut lone = Lone::ready(Side::Server, version);
        lone.handle(path_of(100, 40));
        assert_eq!(lone.end.poll_timeout(), timeout_of_set_up(version), "no PROBE stream");
        let id = lone.open(Dir::Bi, "04");
        assert_eq!(lone.sent(id), first_bytes(version));

        let mut lone = Lone::ready(Side::Server, version);
        let id = lone.open(Dir::Bi, "04");
        lone.handle(path_of(0, 40));
        // 03 can't express the round-trip time.
        assert_eq!(lone.sent(id), if version == Lite03 { "" } else { "020028" });
        // A time below a millisecond is not unknown. An estimate that QUIC does not have is.
        lone.advance(ms(100));
        let (rtt, bitrate) = (Some(Duration::from_micros(3)), Some(u64::MAX));
        lone.handle(Input::NetworkPath(NetworkPath { rtt, bitrate, max_datagram: 0 }));
        assert_eq!(
            lone.sent(id),
            bytes(match version {
                Lite03 => "08 ffffffffffffffff",
                Lite07Wip => "0a ff3fffffffffffffff 01",
                _ => "09 ffffffffffffffff 01",
            })
        );
        assert_eq!((lone.events(), lone.actions()), (vec![], vec![]));
    }
}

/// The deadline of SETUP, on versions that have it. The timer stays until it is due.
fn timeout_of_set_up(version: Version) -> Option<Instant> {
    Features::of(version).setup.then(|| Instant::ZERO + ms(10_000))
}

/// An unchanged estimate is reported every 10 s.
#[test]
fn an_unchanged_path_is_reported_every_ten_seconds() {
    for version in PROBING {
        let (mut lone, id) = reporting(version);
        for _ in 0..3 {
            lone.advance(ms(9_999));
            assert_eq!(lone.sent(id), "", "{version}");
            lone.advance(ms(1));
            assert_eq!(lone.sent(id), first_bytes(version));
        }
    }
}

/// A change of a quarter is reported at once, but not within 0.1 s. A smaller change of the bitrate waits
/// longer the smaller it is. A change of the round-trip time waits for the next report.
#[test]
fn larger_changes_are_reported_sooner() {
    for (percent, rtt, due) in [
        (125, 40, 100),
        (75, 40, 100),
        (1, 40, 100),
        (400, 40, 100),
        (0, 40, 100),
        (100, 50, 100),
        (100, 30, 100),
        (100, 0, 100),
        (100, 49, 10_000),
        (100, 31, 10_000),
        (120, 49, 2_080),
        (110, 40, 6_040),
        (90, 40, 6_040),
        (101, 40, 9_604),
    ] {
        for early in [0, 50] {
            let (mut lone, id) = reporting(Lite06);
            lone.advance(ms(early));
            lone.handle(path_of(percent, rtt));
            let case = format!("{percent} % of the bitrate, {rtt} ms, from {early} ms on");
            lone.advance(ms(due - early) - Duration::from_micros(1));
            assert_eq!(lone.sent(id), "", "{case}");
            lone.advance(Duration::from_micros(1));
            assert_ne!(lone.sent(id), "", "{case}");
        }
    }
}

/// A change that was reverted is not reported, and of many only the last one is.
#[test]
fn changes_are_coalesced_into_one_report() {
    let (mut lone, id) = reporting(Lite06);
    for step in 0..50 {
        lone.handle(path_of(100 + 2 * step, 40));
        lone.handle(path_of(100, 40 + step));
    }
    lone.handle(path_of(100, 40));
    // One timer, not one for each change.
    let timers = lone.end.machine.bare.core.timers.len();
    assert_eq!(timers, 2, "the other one is for SETUP");
    lone.advance(ms(9_999));
    assert_eq!(lone.sent(id), "");
    lone.advance(ms(2_000));
    assert_eq!(lone.sent(id), first_bytes(Lite06));
    // A change of 10 % is reported at once if the last report is old enough.
    lone.advance(ms(7_000));
    lone.handle(path_of(110, 40));
    assert_eq!(lone.sent(id), bytes("05 8053ec60 28"));
}

/// A change that is not visible on the wire, like part of a millisecond, is not reported.
#[test]
fn an_invisible_change_is_not_reported() {
    let mut lone = Lone::ready(Side::Server, Lite06);
    let id = lone.open(Dir::Bi, "04");
    for micros in [300, 1, 900, 1_999] {
        let (rtt, bitrate) = (Some(Duration::from_micros(micros)), Some(5_000_000));
        lone.handle(Input::NetworkPath(NetworkPath { rtt, bitrate, max_datagram: 0 }));
        assert_eq!(lone.sent(id), if micros == 300 { "05804c4b4001" } else { "" });
        lone.advance(ms(1_000));
    }
}

/// If no estimate is known any more, that is reported once.
#[test]
fn an_unknown_path_is_reported_once() {
    for version in PROBING {
        let (mut lone, id) = reporting(version);
        lone.advance(ms(100));
        lone.handle(Input::NetworkPath(NetworkPath::default()));
        assert_eq!(lone.sent(id), if version == Lite03 { "0100" } else { "020000" });
        lone.advance(ms(60_000));
        assert_eq!(lone.sent(id), "");
        assert_eq!(lone.end.poll_timeout(), None);
        lone.handle(path_of(100, 40));
        assert_eq!(lone.sent(id), first_bytes(version));
    }
}

/// A peer that does not read has one report waiting, always the newest.
#[test]
fn a_slow_peer_holds_one_report() {
    let (mut lone, id) = reporting(Lite06);
    lone.reads = false;
    for step in 1..=100 {
        lone.advance(ms(1_000));
        lone.handle(path_of(100 + 100 * (step % 7), 40));
        // QUIC announces room, and then takes nothing.
        lone.handle(Input::Writable { id });
    }
    assert_eq!(lone.sent(id), "");
    lone.reads = true;
    lone.handle(Input::Writable { id });
    // The report that waited first, and the newest.
    assert_eq!(lone.sent(id), bytes("05 80989680 28 05 80e4e1c0 28"));
    lone.advance(ms(9_999));
    assert_eq!(lone.sent(id), "");
}

/// L06-5-1-5-MUST-072: each PROBE of the subscriber is a target. At level Report it changes nothing, and the reports go on.
#[test]
fn targets_of_the_subscriber_change_nothing() {
    for version in PROBING {
        let (mut lone, id) = reporting(version);
        // It has the form of a report.
        lone.data(id, &first_bytes(version));
        lone.data(id, &first_bytes(version));
        assert_eq!((lone.events(), lone.actions(), lone.sent(id)), (vec![], vec![], "".into()));
        lone.handle(path_of(300, 40));
        lone.advance(ms(100));
        assert_ne!(lone.sent(id), "", "{version}");
    }
}

/// A malformed target, FIN or a reset ends the stream, and only the stream.
#[test]
fn the_end_of_a_probe_ends_nothing_else() {
    for version in PROBING {
        let ends: [(Deed, Option<u64>); 4] = [
            (|lone, id| lone.data(id, "01 80"), Some(0x12)),
            (|lone, id| lone.reset(id, 7), Some(7)),
            (|lone, id| lone.stop(id, 7), Some(7)),
            (|lone, id| lone.fin(id, ""), None),
        ];
        for (end, code) in ends {
            let mut lone = Lone::ready(Side::Server, version);
            lone.advance(ms(10_000));
            let before = lone.end.machine.entries();
            for _ in 0..3 {
                lone.handle(path_of(100, 40));
                let id = lone.open(Dir::Bi, "04");
                assert_eq!(lone.sent(id), first_bytes(version), "the previous stream has ended");
                assert!(lone.end.poll_timeout().is_some());
                end(&mut lone, id);
                let ours = lone.actions().into_iter().find(|it| matches!(it, Action::Reset { .. }));
                assert_eq!(ours, code.map(|code| reset(id, code)), "{version}");
                assert_eq!(lone.sent(id), if code.is_none() { " fin" } else { "" });
                lone.reset(id, 7);
                assert_eq!(lone.end.poll_timeout(), None, "no PROBE stream");
                lone.handle(path_of(300, 40));
                lone.advance(ms(20_000));
                assert_eq!((lone.sent(id), lone.events()), (String::new(), vec![]));
            }
            assert_eq!(lone.end.machine.entries(), before, "{version}");
            assert!(!lone.end.is_closed());
        }
        // All of it at once.
        let mut lone = Lone::ready(Side::Server, version);
        lone.handle(path_of(100, 40));
        let id = lone.open(Dir::Bi, "04 00");
        assert_eq!(lone.actions(), [reset(id, 0x12), stop(id, 0x12)]);
        assert!(!lone.end.is_closed());
    }
}

/// A peer has one PROBE stream at a time; the next one may follow the end of the first.
#[test]
fn there_is_one_report_at_a_time() {
    for version in PROBING {
        let (mut lone, id) = reporting(version);
        let second = lone.open(Dir::Bi, "04");
        assert_eq!(lone.actions(), [reset(second, 0x30), stop(second, 0x30)]);
        lone.advance(ms(10_000));
        assert_eq!(lone.sent(id), first_bytes(version), "the first continues");
    }
}

#[test]
fn a_session_that_drains_takes_no_probe() {
    let mut lone = Lone::ready(Side::Server, Lite06);
    // The session still has an answer to send.
    lone.reads = false;
    lone.open(Dir::Bi, subscribe_bytes(Lite06));
    let Event::SubscribeRequested { request, .. } = one(lone.events()) else { panic!() };
    lone.apply(Command::AcceptSubscribe { request, info: TrackInfo::default(), largest: None });
    lone.apply(start(request, 1));
    lone.apply(Command::Drain);
    let id = lone.open(Dir::Bi, "04");
    assert_eq!(lone.actions(), [reset(id, 4), stop(id, 4)]);
}

// ---- as subscriber ---------------------------------------------------------------------------

/// A subscriber that sent PROBE, and the stream.
fn probing(version: Version) -> (Lone, StreamId) {
    let mut lone = Lone::new(config(Side::Client, version));
    if Features::of(version).setup {
        lone.open(Dir::Uni, "01 04 01 01 01 01");
        lone.actions();
    }
    lone.apply(Command::Probe);
    let id = lone.own(Dir::Bi, 0);
    assert_eq!(lone.sent(id), "04", "the stream type alone");
    (lone, id)
}

fn estimate(bitrate: Option<u64>, rtt: Option<u64>) -> Event {
    Event::Estimate { estimate: PathEstimate { bitrate, rtt: rtt.map(ms) } }
}

fn ended(error: Error) -> Event {
    Event::ProbeEnded { error }
}

/// On 03 and 04 PROBE is sent at once; later only if the peer's SETUP has the level for reports.
#[test]
fn probe_waits_until_the_peer_can_report() {
    for version in PROBING {
        let mut lone = Lone::new(config(Side::Client, version));
        lone.apply(Command::Probe);
        let id = lone.own(Dir::Bi, 0);
        if Features::of(version).setup {
            assert_eq!(lone.sent(id), "", "{version}");
            // The level "increase" includes reports.
            lone.open(Dir::Uni, "01 04 01 01 01 02");
        }
        assert_eq!(lone.sent(id), "04", "{version}");
        assert_eq!(lone.events(), []);
        // Sent once.
        lone.apply(Command::Probe);
        assert_eq!(lone.opened[0][Dir::Bi as usize], 1);
        assert_eq!(
            lone.end.poll_timeout(),
            timeout_of_set_up(version),
            "a subscriber has no timer"
        );
    }
    for version in [Lite05, Lite06, Lite07Wip] {
        for setup in ["01 01 00", "01 04 01 01 01 00"] {
            for before in [true, false] {
                let mut lone = Lone::new(config(Side::Client, version));
                if before {
                    lone.apply(Command::Probe);
                }
                lone.open(Dir::Uni, setup);
                lone.apply(Command::Probe);
                let expected = if before { 2 } else { 1 };
                assert_eq!(lone.events(), vec![ended(Error::Unsupported); expected]);
                assert_eq!(lone.opened[0][Dir::Bi as usize], 0);
            }
        }
    }
}

/// Before 03, and on moq-transport, there is no PROBE.
#[test]
fn without_probe_the_request_is_unsupported() {
    for version in [Lite01, Lite02, Version::Moqt16, Version::Moqt18] {
        let mut end = machine(config(Side::Client, version));
        end.apply(Command::Probe);
        while end.work(Instant::ZERO) {}
        assert_eq!(end.take_events(), [ended(Error::Unsupported)], "{version}");
        end.apply(Command::Unprobe);
        while end.work(Instant::ZERO) {}
        assert_eq!(end.take_events(), [], "{version}");
    }
}

/// 0 means unknown.
#[test]
fn estimates_of_the_peer_are_reported() {
    for version in PROBING {
        let (mut lone, id) = probing(version);
        lone.data(id, &first_bytes(version));
        let rtt = |rtt| if version == Lite03 { None } else { Some(rtt) };
        assert_eq!(lone.events(), [estimate(Some(5_000_000), rtt(40))]);
        for byte in hex(if version == Lite03 { "01 01 01 00" } else { "02 01 00 02 00 01" }) {
            lone.data(id, &format!("{byte:02x}"));
        }
        assert_eq!(lone.events(), [estimate(Some(1), None), estimate(None, rtt(1))]);
        assert_eq!((lone.sent(id), lone.actions()), (String::new(), vec![]));
    }
}

/// A PROBE stream that the peer ended is not opened again in this session.
#[test]
fn probe_is_not_repeated_after_the_peer_ended_it() {
    for version in PROBING {
        let ends: [(Deed, Error, Option<u64>); 4] = [
            (|lone, id| lone.fin(id, ""), Error::Unsupported, None),
            (|lone, id| lone.reset(id, 0x33), Error::NotFound, None),
            (|lone, id| lone.data(id, "00"), Error::Malformed(DecodeError::Truncated), Some(0x12)),
            (|lone, id| lone.fin(id, "02"), Error::Malformed(DecodeError::Truncated), Some(0x12)),
        ];
        for (end, error, code) in ends {
            let (mut lone, id) = probing(version);
            end(&mut lone, id);
            let received = one(lone.events());
            let Event::ProbeEnded { error: received } = received else { panic!("{received:?}") };
            // The kind of malformed message does not matter here.
            let same = matches!((&received, &error), (Error::Malformed(_), Error::Malformed(_)));
            assert!(same || received == error, "{version} {received}");
            assert_eq!(lone.sent(id), if code.is_none() { " fin" } else { "" });
            let ours = lone.actions().into_iter().find(|it| matches!(it, Action::Reset { .. }));
            assert_eq!(ours, code.map(|code| reset(id, code)));
            lone.apply(Command::Unprobe);
            lone.apply(Command::Probe);
            assert_eq!(lone.events(), [ended(received)]);
            assert_eq!(lone.opened[0][Dir::Bi as usize], 1, "{version}");
            assert!(!lone.end.is_closed());
        }
    }
}

/// FIN ends the subscription. The next stream waits for the end of the previous one.
#[test]
fn fin_ends_probe() {
    for version in PROBING {
        let (mut lone, id) = probing(version);
        let before = lone.end.machine.entries();
        lone.apply(Command::Unprobe);
        assert_eq!(lone.sent(id), " fin", "{version}");
        lone.apply(Command::Probe);
        lone.data(id, &first_bytes(version));
        assert_eq!((lone.events(), lone.opened[0][Dir::Bi as usize]), (vec![], 1));
        lone.fin(id, "");
        let id = lone.own(Dir::Bi, 1);
        assert_eq!(lone.sent(id), "04");
        lone.data(id, &first_bytes(version));
        assert_eq!(lone.events().len(), 1);
        lone.apply(Command::Unprobe);
        lone.fin(id, "");
        assert_eq!(lone.opened[0][Dir::Bi as usize], 2);
        assert_eq!(lone.end.machine.entries() + 5, before, "a request, its stream and its role");

        // A request that was not sent is not made.
        let mut end = machine(config(Side::Client, version));
        let before = end.machine.entries();
        end.apply(Command::Probe);
        end.apply(Command::Unprobe);
        assert!(end.poll_write().is_none());
        assert_eq!(end.machine.entries(), before);
    }
}

// ---- both ------------------------------------------------------------------------------------

/// Over every link: the first report, the changes, and nothing else.
#[test]
fn reports_reach_the_subscriber() {
    on_every_link(|version, link| {
        let mut pair = pair(version, link);
        let tell = |pair: &mut Peers, input: Input| {
            let now = pair.now();
            pair.server.handle(now, input);
        };
        tell(&mut pair, path_of(100, 40));
        pair.run_until_idle();
        pair.client.apply(Command::Probe);
        pair.run_until_idle();
        if version < Lite03 {
            assert_eq!(pair.client.take_events(), [ended(Error::Unsupported)]);
            return;
        }
        let rtt = |rtt| if version == Lite03 { None } else { Some(rtt) };
        assert_eq!(pair.client.take_events(), [estimate(Some(5_000_000), rtt(40))], "{version}");
        pair.advance(ms(9_000));
        assert_eq!(pair.client.take_events(), []);
        tell(&mut pair, path_of(200, 20));
        pair.run_until_idle();
        assert_eq!(pair.client.take_events(), [estimate(Some(10_000_000), rtt(20))]);
        tell(&mut pair, path_of(10, 80));
        pair.advance(ms(9_000));
        assert_eq!(pair.client.take_events(), [estimate(Some(500_000), rtt(80))]);
        assert_eq!(pair.server.take_events(), []);

        pair.client.apply(Command::Unprobe);
        pair.run_until_idle();
        pair.client.apply(Command::Probe);
        pair.run_until_idle();
        assert_eq!(
            pair.client.take_events(),
            [estimate(Some(500_000), rtt(80))],
            "requested again"
        );
        pair.client.apply(Command::Unprobe);
        pair.advance(ms(20_000));
        assert_eq!(pair.client.take_events(), []);
        let [client, server] = [&pair.client, &pair.server].map(|end| end.machine.poll_timeout());
        assert_eq!((client, server), (None, None), "{version}");
        assert_eq!(pair.streams(Side::Client, Dir::Bi), 0);
    });
}
