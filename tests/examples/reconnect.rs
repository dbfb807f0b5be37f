//! Clients that dial again.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::run::{Running, example};
use crate::{Relay, second};

/// Both ends of a clock go on after a restart of the relay at its address, with another certificate. The first of their
/// URLs leads nowhere.
#[test]
#[expect(clippy::disallowed_methods, reason = "a clock is compared with the clock")]
fn clocks_dial_again_when_their_relay_returns() {
    let relay = Relay::start("127.0.0.1:0", &[]);
    let address = relay.address.clone();
    let urls = format!("moqt://no-such-host.invalid/,{}", relay.url());
    let clock = |relay: &Relay, role: &str| {
        let mut clock = example("clock");
        clock.args([role, &*urls, "--insecure", "--reconnect"]);
        let mut clock = Running::start(&mut clock);
        clock.says("no-such-host.invalid");
        assert!(clock.says("speaks").starts_with(&relay.url()));
        clock
    };
    let (mut publisher, mut subscriber) = (clock(&relay, "publish"), clock(&relay, "subscribe"));
    second(&subscriber.line());
    relay.terminate();
    for running in [&mut publisher, &mut subscriber] {
        running.says(&format!("moqt://{address}/ is going away"));
    }
    let relay = Relay::start(&address, &[]);
    for running in [&mut publisher, &mut subscriber] {
        running.says("speaks");
    }
    // Its reader went on without an end, or there is another clock: that depends on what the relay sent last.
    let restarted = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() % 3_600;
    let later = |line: &str| (second(line) + 3_600 - restarted as u32) % 3_600;
    while !(1..1_800).contains(&later(&subscriber.line())) {}
    // A signal ends them, with a session and without one.
    subscriber.signal("TERM");
    let ended = subscriber.end();
    assert!(ended.status.success(), "{}", ended.err);
    relay.terminate();
    publisher.says("dialing again in");
    publisher.signal("INT");
    let ended = publisher.end();
    assert!(ended.status.success(), "{}", ended.err);
}

/// A relay tries the URLs of an upstream in turn.
#[test]
fn an_upstream_may_have_several_urls() {
    let upstream = Relay::start("127.0.0.1:0", &[]);
    let urls = format!("moqt://no-such-host.invalid/,{}", upstream.url());
    let mut edge = Relay::start("127.0.0.1:0", &["--insecure", "--upstream", &urls]);
    edge.running.says("can't reach moqt://no-such-host.invalid");
    assert!(edge.running.says("speaks").starts_with(&upstream.url()));
    let _publisher = upstream.clock("publish", &[]);
    second(edge.clock("subscribe", &["--count", "1"]).rest().trim_end());
}
