//! How examples end on a signal, and what their peers see.

use crate::run::{Running, example};
use crate::{Relay, second};

const VERSIONS: [&str; 9] = [
    "moq-lite-01",
    "moq-lite-02",
    "moq-lite-03",
    "moq-lite-04",
    "moq-lite-05",
    "moq-lite-06",
    "moq-lite-07-wip",
    "moqt-16",
    "moqt-18",
];

/// Subscribers in all versions see a clean end at once, and then show the next clock.
#[test]
fn a_stopped_clock_ends_its_broadcast_and_the_next_clock_is_shown() {
    let all: Vec<_> = VERSIONS.iter().flat_map(|version| ["--version", version]).collect();
    let mut relay = Relay::start("127.0.0.1:0", &all);
    let mut subscribers = VERSIONS.map(|version| relay.clock("subscribe", &["--version", version]));
    for subscriber in &mut subscribers {
        subscriber.says("waiting for clock");
    }
    for (version, signal) in
        [("moq-lite-06", "TERM"), ("moqt-18", "INT"), ("moq-lite-02", "TERM"), ("moqt-16", "INT")]
    {
        let mut publisher = relay.clock("publish", &["--version", version]);
        for subscriber in &mut subscribers {
            subscriber.says("clock is live");
            second(&subscriber.line());
        }
        publisher.says("speaks");
        publisher.signal(signal);
        let ended = publisher.end();
        assert!(ended.status.success(), "{version}: {}", ended.status);
        assert_eq!(ended.err.trim_end(), format!("stopped by SIG{signal}"));
        // It closed its session without an error. A lost session would be noticed much later.
        relay.running.says(" left");
        assert!(!relay.running.said().contains(" lost"), "{}", relay.running.said());
        for subscriber in &mut subscribers {
            let said = subscriber.says("waiting for it to come back");
            assert!(said.starts_with("clock ended"), "after {version}: {said}");
        }
    }
    // A subscriber leaves just as cleanly. Only the end of its session is an error.
    let [first, others @ ..] = subscribers;
    first.signal("INT");
    let ended = first.end();
    assert!(ended.status.success(), "{}", ended.status);
    assert_eq!(ended.err.trim_end(), "stopped by SIGINT");
    let url = relay.url();
    relay.terminate();
    for other in others {
        let ended = other.end();
        assert_eq!(ended.status.code(), Some(1));
        assert_eq!(ended.err.trim_end(), format!("clock: {url} closed the session"));
    }
}

/// The relay does not learn that the first publisher is gone: its session is lost only after the idle
/// timeout.
#[test]
fn a_killed_and_restarted_clock_is_shown_at_once() {
    let all: Vec<_> = VERSIONS.iter().flat_map(|version| ["--version", version]).collect();
    let mut relay = Relay::start("127.0.0.1:0", &all);
    let mut subscribers = ["moq-lite-01", "moq-lite-04", "moq-lite-06", "moqt-18"]
        .map(|version| relay.clock("subscribe", &["--version", version]));
    for subscriber in &mut subscribers {
        subscriber.says("waiting for clock");
    }
    for version in ["moq-lite-06", "moq-lite-02", "moqt-18"] {
        for _ in 0..2 {
            let publisher = relay.clock("publish", &["--version", version]);
            for subscriber in &mut subscribers {
                subscriber.says("clock is live");
                second(&subscriber.line());
            }
            publisher.signal("KILL");
            publisher.end();
        }
    }
    // All of this happened while the session of each killed publisher still existed.
    relay.running.signal("TERM");
    relay.running.says("stopped by SIGTERM");
    assert!(!relay.running.said().contains(" lost"), "{}", relay.running.said());
}

/// This also works before there is a session.
#[test]
fn a_clock_can_be_stopped_while_it_dials() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("moqt://{}/", silent.local_addr().unwrap());
    let clock = Running::start(example("clock").args(["subscribe", &url, "--insecure"]));
    // After its first packet the process handles signals.
    silent.recv(&mut [0; 2_000]).unwrap();
    clock.signal("TERM");
    let ended = clock.end();
    assert!(ended.status.success(), "{}", ended.status);
    assert_eq!(ended.err.trim_end(), format!("stopped by SIGTERM before {url} answered"));
}

#[test]
fn a_stopped_game_prints_a_summary() {
    for signal in ["TERM", "INT"] {
        let mut game = Running::start(example("game_loop").arg("100000"));
        assert_eq!(game.line(), "all players have joined");
        game.signal(signal);
        let ended = game.end();
        assert!(ended.status.success(), "{}", ended.status);
        assert!(ended.err.starts_with("stopped by a signal after "), "{}", ended.err);
        assert!(ended.out.contains("player 31 saw"), "{}", ended.out);
    }
}

#[test]
fn a_stopped_demo_reports_the_signal() {
    for signal in ["TERM", "INT"] {
        let mut demo = Running::start(&mut example("demo"));
        demo.line();
        demo.signal(signal);
        let ended = demo.end();
        assert_eq!(ended.status.code(), Some(1));
        let last = ended.out.lines().last().unwrap_or_default();
        assert_eq!(last, format!("demo: FAILED, stopped by SIG{signal}"));
    }
}

/// The listening socket is free again after both signals.
#[test]
fn a_relay_ends_on_both_signals() {
    let mut address = "127.0.0.1:0".to_owned();
    for signal in ["TERM", "INT"] {
        let relay = Relay::start(&address, &[]);
        address.clone_from(&relay.address);
        relay.running.signal(signal);
        let ended = relay.running.end();
        assert!(ended.status.success(), "{}", ended.status);
        assert_eq!(ended.err.lines().last(), Some(&*format!("stopped by SIG{signal}")));
    }
}
