//! The networked examples, run the way their users run them.

#[cfg(unix)]
mod certificates;
mod messages;
#[cfg(unix)]
mod reconnect;
mod run;
#[cfg(unix)]
mod signals;
mod transport;
mod web_socket;

use run::{Running, example};

struct Relay {
    running: Running,
    address: String,
    fingerprint: String,
}

impl Relay {
    fn start(listen: &str, more: &[&str]) -> Self {
        let mut running = Running::start(example("relay").args(["--listen", listen]).args(more));
        let line = running.line();
        let (address, fingerprint) =
            line.strip_prefix("listening ").and_then(|rest| rest.split_once(" sha256:")).unwrap();
        let (address, fingerprint) = (address.into(), fingerprint.into());
        Self { running, address, fingerprint }
    }

    fn url(&self) -> String {
        format!("moqt://{}/", self.address)
    }

    /// On WebTransport.
    fn web_url(&self) -> String {
        format!("https://{}/", self.address)
    }

    fn clock(&self, role: &str, more: &[&str]) -> Running {
        self.clock_below("", role, more)
    }

    /// A clock that dials a path.
    fn clock_below(&self, path: &str, role: &str, more: &[&str]) -> Running {
        self.clock_at(&(self.url() + path), role, more)
    }

    fn clock_at(&self, url: &str, role: &str, more: &[&str]) -> Running {
        let mut clock = example("clock");
        clock.args([role, url, "--fingerprint", &self.fingerprint]).args(more);
        Running::start(&mut clock)
    }

    /// Ends a process the way a service manager does.
    #[cfg(unix)]
    fn terminate(self) {
        self.running.signal("TERM");
        assert_eq!(self.running.rest(), "");
    }
}

/// The second of the hour in `YYYY-MM-DD HH:MM:SS`.
fn second(line: &str) -> u32 {
    let (date, time) = line.split_once(' ').unwrap();
    assert_eq!((date.len(), time.len()), (10, 8), "{line}");
    let parts: Vec<u32> = time.split(':').map(|part| part.parse().unwrap()).collect();
    parts[1] * 60 + parts[2]
}

#[test]
fn a_clock_runs_through_a_relay_in_every_version() {
    let relay = Relay::start("127.0.0.1:0", &[]);
    let publisher = relay.clock("publish", &[]);
    let subscribers = ["moq-lite-03", "moq-lite-04", "moq-lite-05", "moq-lite-06"]
        .map(|version| relay.clock("subscribe", &["--version", version, "--count", "3"]));
    for subscriber in subscribers {
        let printed = subscriber.rest();
        let seconds: Vec<_> = printed.lines().map(second).collect();
        assert_eq!(seconds.len(), 3, "{printed}");
        assert!(seconds.windows(2).all(|two| two[1] == (two[0] + 1) % 3_600), "{printed}");
    }
    drop(publisher);
}

/// A publisher, a link between relays, and subscribers on WebTransport, and one on raw QUIC at the same port. Every
/// version has the dialed path.
#[test]
fn a_clock_runs_on_webtransport() {
    let upstream = Relay::start("127.0.0.1:0", &[]);
    let edge = Relay::start("127.0.0.1:0", &["--insecure", "--upstream", &upstream.web_url()]);
    let publisher =
        upstream.clock_at(&format!("{}towers/north", upstream.web_url()), "publish", &[]);
    let below = format!("{}towers", edge.web_url());
    for version in ["moq-lite-02", "moq-lite-04", "moq-lite-06", "moqt-14", "moqt-22"] {
        let more = ["--version", version, "--broadcast", "north/clock", "--count", "1"];
        second(edge.clock_at(&below, "subscribe", &more).rest().trim_end());
    }
    let more = ["--broadcast", "north/clock", "--count", "1"];
    second(edge.clock_below("towers", "subscribe", &more).rest().trim_end());
    drop(publisher);
}

/// The dialed path is the root of the session.
#[test]
fn secrets_are_logged_where_the_environment_says() {
    let relay = Relay::start("127.0.0.1:0", &[]);
    let file = std::env::temp_dir().join(format!("smoq-keys-{}", std::process::id()));
    let mut clock = example("clock");
    clock.args(["publish", &relay.url(), "--fingerprint", &relay.fingerprint, "--count", "1"]);
    Running::start(clock.env("SSLKEYLOGFILE", &file)).rest();
    let secrets = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(secrets.contains("CLIENT_TRAFFIC_SECRET_0 "), "{secrets}");
}

#[test]
fn a_dialed_path_is_the_root_of_the_session() {
    let relay = Relay::start("127.0.0.1:0", &[]);
    let publisher = relay.clock_below("towers/north", "publish", &[]);
    for (version, path, name) in [
        ("moq-lite-06", "", "towers/north/clock"),
        ("moq-lite-05", "towers", "north/clock"),
        ("moqt-18", "towers/north", "clock"),
        // This version has no field for the dialed path.
        ("moq-lite-04", "towers/north", "towers/north/clock"),
    ] {
        let more = ["--version", version, "--broadcast", name, "--count", "1"];
        second(relay.clock_below(path, "subscribe", &more).rest().trim_end());
    }
    drop(publisher);
}

#[cfg(unix)]
#[test]
fn relays_reconnect_and_close_cleanly() {
    let upstream = Relay::start("127.0.0.1:0", &[]);
    let address = upstream.address.clone();
    let edge = Relay::start("127.0.0.1:0", &["--insecure", "--upstream", &upstream.url()]);
    let mut upstream = Some(upstream);
    for _ in 0..2 {
        // The second time on the same port, with another certificate.
        let upstream = upstream.take().unwrap_or_else(|| Relay::start(&address, &[]));
        let publisher = upstream.clock("publish", &[]);
        let printed = edge.clock("subscribe", &["--count", "1"]).rest();
        second(printed.trim_end());
        drop(publisher);
        upstream.terminate();
    }
    edge.terminate();
}

/// The position of the last record about written bytes.
#[cfg(unix)]
fn last_write(trace: &[u8]) -> usize {
    const WRITE: u8 = 9;
    let (mut at, mut found) = (8, None);
    while at < trace.len() {
        let kind = trace[at];
        let mut len = 0;
        for shift in (0..).step_by(7) {
            at += 1;
            len |= usize::from(trace[at] & 0x7f) << shift;
            if trace[at] & 0x80 == 0 {
                break;
            }
        }
        let body = at + 1;
        at = body + len;
        if kind == WRITE && trace[body] == 1 {
            found = Some(at);
        }
    }
    found.expect("a session with written bytes")
}

/// Real sessions over UDP, in both dialects, replayed without a network.
#[cfg(unix)]
#[test]
fn sessions_of_a_relay_can_be_replayed() {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("traces");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    let relay = Relay::start("127.0.0.1:0", &["--trace", directory.to_str().unwrap()]);
    let publisher = relay.clock("publish", &[]);
    for version in ["moq-lite-06", "moqt-18", "moqt-16"] {
        relay.clock("subscribe", &["--version", version, "--count", "1"]).rest();
    }
    drop(publisher);
    relay.terminate();
    let replay = |trace: &std::path::Path| {
        let qlog = trace.with_extension("qlog");
        let output = example("replay").arg(trace).arg("--qlog").arg(&qlog).output().unwrap();
        (output, qlog)
    };
    let traces: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(traces.len(), 4);
    for trace in traces {
        let (output, qlog) = replay(&trace);
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout.starts_with(b"replay: ok"), "{output:?}");
        let log: serde_json::Value =
            serde_json::from_slice(&std::fs::read(qlog).unwrap()).expect("JSON");
        let events = log["traces"][0]["events"].as_array().unwrap();
        for name in ["control_message_created", "control_message_parsed", "stream_type_set"] {
            let name = format!("moqt:{name}");
            assert!(events.iter().any(|event| event["name"] == *name), "no {name}");
        }

        // A changed byte changes the hash of the written data.
        let mut bytes = std::fs::read(&trace).unwrap();
        let end = last_write(&bytes);
        bytes[end - 1] ^= 0x55;
        let tampered = trace.with_extension("tampered");
        std::fs::write(&tampered, bytes).unwrap();
        let (output, _) = replay(&tampered);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("record "), "{output:?}");
    }
}

#[cfg(unix)]
#[test]
#[expect(clippy::disallowed_methods, reason = "how long an end takes")]
fn a_relay_does_not_wait_for_a_silent_peer() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let upstream = format!("moqt://{}/", silent.local_addr().unwrap());
    let relay = Relay::start("127.0.0.1:0", &["--insecure", "--upstream", &upstream]);
    // The first packet of a client that dials.
    silent.recv(&mut [0; 2_000]).unwrap();
    let begun = std::time::Instant::now();
    relay.terminate();
    // QUIC alone would give up after 10 s.
    assert!(begun.elapsed().as_secs() < 8);
}

/// A relay does not wait for a client that stays after GOAWAY.
#[cfg(unix)]
#[test]
#[expect(clippy::disallowed_methods, reason = "how long an end takes")]
fn a_relay_does_not_wait_for_a_client_that_stays() {
    let relay = Relay::start("127.0.0.1:0", &[]);
    let _publisher = relay.clock("publish", &[]);
    let mut subscriber = relay.clock("subscribe", &[]);
    second(&subscriber.line());
    let begun = std::time::Instant::now();
    relay.terminate();
    // One second, and the time that QUIC takes to deliver the close.
    assert!(begun.elapsed().as_secs() < 5);
}

#[test]
fn the_demo_loses_nothing() {
    let printed = Running::start(&mut example("demo")).rest();
    assert!(printed.lines().last().is_some_and(|last| last.starts_with("demo: ok")), "{printed}");
    // A slow machine takes more seconds, with two lines each.
    let seconds = printed.lines().filter(|line| line.contains(" s, everyone")).count();
    let lines = printed.lines().count() - 2 * seconds.saturating_sub(5);
    assert!(lines <= 30, "more than a screen:\n{printed}");
}

#[test]
fn demo_sends_a_whole_file() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo-file");
    // The size is no multiple of a frame or a group.
    let content: Vec<u8> =
        (0..3_333_333_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(&path, content).unwrap();
    let printed = Running::start(example("demo").arg(&path)).rest();
    let hashes = |label| {
        printed.lines().filter_map(move |line| line.strip_prefix(label)).collect::<Vec<_>>()
    };
    let (sent, received) = (hashes("sent"), hashes("received"));
    assert_eq!((sent.len(), received.len()), (1, 4), "{printed}");
    assert!(received.iter().all(|hash| hash.trim() == sent[0].trim()), "{printed}");
    assert!(printed.lines().last().is_some_and(|last| last.starts_with("demo: ok")), "{printed}");

    let missing = example("demo").arg(path.with_extension("missing")).output().unwrap();
    assert!(!missing.status.success());
    assert!(String::from_utf8(missing.stdout).unwrap().starts_with("demo: FAILED"));
}
