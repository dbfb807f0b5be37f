//! Texts for people: help, versions, and errors that name their cause.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};

use crate::Relay;
use crate::run::{Ended, Running, example};

fn run(name: &str, args: &[&str]) -> Ended {
    Running::start(example(name).args(args)).end()
}

/// Runs an example that must fail with one line that contains all of these words.
fn fails(name: &str, args: &[&str], words: &[&str]) {
    let ended = run(name, args);
    assert_eq!(ended.status.code(), Some(1), "{name} {args:?}: {}{}", ended.out, ended.err);
    let lines: Vec<_> = ended.err.lines().collect();
    let [line] = lines[..] else {
        panic!("{name} {args:?} printed more than one line: {}", ended.err)
    };
    assert!(line.starts_with(&format!("{name}: ")), "{line}");
    for word in words {
        assert!(line.contains(word), "{name} {args:?}: {word:?} is missing in: {line}");
    }
    // Not in the form of `Debug`.
    assert!(!line.contains(['{', '"']) && !line.contains("Error("), "{line}");
}

/// A file in a directory that these tests share.
fn file(name: &str, content: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("messages");
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn help_lists_all_options() {
    let versions = ["moq-lite-01", "moq-lite-06", "moq-lite-07-wip", "moqt-16", "moqt-18"];
    let quic = ["--congestion", "cubic", "bbr", "newreno", "--initial-mtu", "--max-mtu"];
    let peer = ["--version", "--fingerprint", "--insecure", "--follow-redirects"];
    let peer = [&peer[..], &quic, &versions].concat();
    let relay = [&["--listen", "--cert", "--key", "--upstream", "--trace"][..], &peer].concat();
    let clock =
        [&["publish", "subscribe", "--broadcast", "--count", "--reconnect"][..], &peer].concat();
    for (name, options) in [
        ("relay", &relay[..]),
        ("clock", &clock),
        ("replay", &["TRACE", "--qlog", "--steps"]),
        ("demo", &["FILE"]),
        ("game_loop", &["SECONDS"]),
        ("custom_executor", &["FRAMES"]),
    ] {
        for help in ["--help", "-h"] {
            let ended = run(name, &[help]);
            assert!(ended.status.success(), "{name}: {}", ended.status);
            let missing = options.iter().find(|option| !ended.out.contains(**option));
            assert_eq!(missing, None, "{name} {help}: {}", ended.out);
        }
        for version in ["--version", "-V"] {
            let ended = run(name, &[version]);
            assert!(ended.status.success(), "{name}: {}", ended.status);
            assert_eq!(ended.out.trim_end(), format!("{name} {}", env!("CARGO_PKG_VERSION")));
        }
    }
}

#[test]
fn a_mistyped_argument_is_named_with_the_valid_ones() {
    let listen = ["--listen", "127.0.0.1:0"];
    let url = ["publish", "moqt://127.0.0.1:1/"];
    for (name, common, wrong, words) in [
        (
            "relay",
            &listen[..],
            &["--version", "moq-lite-99"][..],
            &["moq-lite-99", "moq-lite-06", "moqt-18"][..],
        ),
        ("clock", &url, &["--version", "moqt-13"], &["moqt-13", "moq-lite-07-wip", "moqt-16"]),
        (
            "clock",
            &url,
            &["--fingerprint", "abc"],
            &["abc", "--fingerprint", "64 hexadecimal digits"],
        ),
        ("clock", &url, &["--count", "0"], &["--count", "0"]),
        ("clock", &url, &["--colour"], &["--colour"]),
        ("clock", &url, &["--congestion", "reno"], &["reno", "cubic", "bbr", "newreno"]),
        ("clock", &url, &["--initial-mtu", "1199"], &["1199", "--initial-mtu", "1200"]),
        ("relay", &listen, &["--max-mtu", "9000"], &["9000", "--max-mtu", "1472"]),
        ("relay", &listen, &["--upstream", "moqt://a,,moqt://b"], &["--upstream", "moqt://HOST"]),
        ("clock", &["sing", "moqt://x"], &[], &["sing", "publish", "subscribe"]),
        ("clock", &["publish", "http://x"], &[], &["http://x", "moqt://HOST", "https://HOST"]),
        ("relay", &["--listen", "nowhere"], &[], &["nowhere", "--listen", "socket address"]),
        ("relay", &[], &[], &["--listen"]),
        ("relay", &listen, &["--cert", "x"], &["--key"]),
        ("game_loop", &[], &["many"], &["many", "SECONDS"]),
    ] {
        let args = [common, wrong].concat();
        let ended = run(name, &args);
        assert_eq!(ended.status.code(), Some(2), "{name} {args:?}: {}", ended.err);
        assert!(ended.err.starts_with("error: "), "{}", ended.err);
        for word in words {
            assert!(ended.err.contains(word), "nothing of {word:?} in: {}", ended.err);
        }
    }
}

/// Our names, those of the drafts, and those of other implementations.
#[test]
fn versions_have_several_names() {
    let relay = Relay::start("127.0.0.1:0", &["--version", "MOQ-Transport-18"]);
    for name in ["moqt-18", "moq-transport-18", "moq-transport-draft-18"] {
        let mut clock = relay.clock("subscribe", &["--version", name]);
        assert!(clock.says("speaks").contains("moqt-18"));
    }
}

#[test]
fn an_unusable_file_is_named() {
    let listen = ["--listen", "127.0.0.1:0"];
    let empty = file("empty.pem", "nothing\n");
    let broken =
        file("broken.pem", "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n");
    let (empty, broken) = (empty.to_str().unwrap(), broken.to_str().unwrap());
    for (cert, why) in [
        ("no/such.pem", &["can't read the certificate chain", "no/such.pem", "No such file"][..]),
        (empty, &["no certificate chain", empty]),
        (broken, &["no certificate chain", broken]),
    ] {
        fails("relay", &[&listen[..], &["--cert", cert, "--key", "no/key.pem"]].concat(), why);
    }
    // A directory can't be below a file.
    let below = format!("{empty}/traces");
    fails("relay", &[&listen[..], &["--trace", &below]].concat(), &["traces", &below, "directory"]);
    fails("relay", &[&listen[..], &["--trace", empty]].concat(), &["traces", empty, "exists"]);
    fails("replay", &["no/such.trace"], &["can't read", "no/such.trace", "No such file"]);
    fails("replay", &[empty], &[empty, "is not a trace"]);
    let ended = run("demo", &["no/such.file"]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.out.starts_with("demo: FAILED, can't read no/such.file: No such"),
        "{}",
        ended.out
    );
}

#[test]
fn a_missing_directory_for_traces_is_created() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("messages-traces");
    let _ = std::fs::remove_dir_all(&directory);
    let traces = directory.join("of/today");
    let relay = Relay::start("127.0.0.1:0", &["--trace", traces.to_str().unwrap()]);
    let mut subscriber = relay.clock("subscribe", &[]);
    let _publisher = relay.clock("publish", &[]);
    // The relay has both sessions by now, and each of them has its file.
    subscriber.says("clock is live");
    let made: Vec<_> = traces.read_dir().unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(made.len(), 2, "{made:?}");
}

#[test]
fn an_address_in_use_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fails("relay", &["--listen", &address], &["can't listen", &address, "in use"]);
}

#[test]
fn an_unknown_host_is_named() {
    let url = "moqt://no-such-host.invalid:4443/";
    let words = ["can't reach", url, "the host no-such-host.invalid has no address: "];
    fails("clock", &["subscribe", url, "--insecure"], &words);
}

/// The error also says for how long it tried.
#[test]
fn an_unreachable_port_is_named() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let url = format!("moqt://localhost:{}/", address.port());
    let words = ["can't reach", &url, "after trying for ", "timed out"];
    fails("clock", &["publish", &url, "--insecure"], &words);
}

#[test]
fn a_relay_with_another_certificate_is_named() {
    let relay = Relay::start("127.0.0.1:0", &["--version", "moq-lite-06"]);
    let url = relay.url();
    let pin = "00".repeat(32);
    let words = [
        "can't reach",
        &url,
        &relay.address,
        &relay.fingerprint,
        "not one of those that are pinned",
    ];
    fails("clock", &["subscribe", &url, "--fingerprint", &pin], &words);
    // No authority has certified it.
    fails("clock", &["subscribe", &url], &["can't reach", &url, "certificate"]);
    let other = ["subscribe", &url, "--insecure", "--version", "moqt-18"];
    fails("clock", &other, &["can't reach", &url, "protocol"]);
}
