//! Certificates that are replaced while a relay runs.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair};

use crate::run::{Running, example};
use crate::{Relay, second};

/// Writes a new certificate and its key.
fn write(cert: &Path, key: &Path) {
    let pair = KeyPair::generate().unwrap();
    let made = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&pair);
    fs::write(cert, made.unwrap().pem()).unwrap();
    fs::write(key, pair.serialize_pem()).unwrap();
}

/// The answer of the relay's TCP port to a request for this path.
fn get(relay: &Relay, path: &str) -> String {
    let mut stream = TcpStream::connect(&relay.address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", relay.address);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Programs of moq-dev and pages that are given an URL with `http://` ask for it.
fn tells_its_fingerprint(relay: &Relay) {
    let answer = get(relay, "/certificate.sha256");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("access-control-allow-origin: *"), "{head}");
    assert_eq!(body, relay.fingerprint);
}

/// New connections get the new one, on QUIC and on a WebSocket, and the old ones go on.
#[test]
fn a_relay_reads_its_certificate_again_on_a_hangup() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("certificates");
    fs::create_dir_all(&directory).unwrap();
    let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    write(&cert, &key);
    let files = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let mut relay = Relay::start("127.0.0.1:0", &files);
    let _publisher = relay.clock("publish", &[]);
    let mut viewer = relay.clock("subscribe", &[]);
    second(&viewer.line());

    write(&cert, &key);
    relay.running.signal("HUP");
    let said = relay.running.says("new certificate");
    let old = std::mem::replace(
        &mut relay.fingerprint,
        said.strip_prefix("new certificate sha256:").unwrap().to_owned(),
    );
    assert_ne!(relay.fingerprint, old);
    // A session that was there goes on.
    second(&viewer.line());
    tells_its_fingerprint(&relay);
    let mut dialed = |relay: &Relay| {
        for url in [relay.url(), format!("wss://{}/", relay.address)] {
            second(relay.clock_at(&url, "subscribe", &["--count", "1"]).rest().trim_end());
            let mut pinned = example("clock");
            pinned.args(["subscribe", &url, "--fingerprint", &old]);
            assert_eq!(Running::start(&mut pinned).end().status.code(), Some(1), "{url}");
        }
        second(&viewer.line());
    };
    dialed(&relay);

    // Files that can't be used change nothing.
    for (file, text) in [(&cert, "nothing"), (&key, "nothing")] {
        let before = fs::read(file).unwrap();
        fs::write(file, text).unwrap();
        relay.running.signal("HUP");
        let said = relay.running.says("the old certificate stays");
        assert!(said.contains(file.to_str().unwrap()), "{said}");
        fs::write(file, before).unwrap();
    }
    // Neither does a key of another certificate.
    let kept = fs::read(&cert).unwrap();
    write(&cert, &key);
    fs::write(&cert, kept).unwrap();
    relay.running.signal("HUP");
    let said = relay.running.says("the old certificate stays");
    assert!(said.contains("can't be used together"), "{said}");
    dialed(&relay);
    relay.terminate();
}

#[test]
fn a_relay_that_made_its_certificate_keeps_it() {
    let mut relay = Relay::start("127.0.0.1:0", &[]);
    relay.running.signal("HUP");
    relay.running.says("the certificate is not in a file");
    tells_its_fingerprint(&relay);
    assert!(!get(&relay, "/certificate.sha256.old").contains(&relay.fingerprint));
    let _publisher = relay.clock("publish", &[]);
    second(relay.clock("subscribe", &["--count", "1"]).rest().trim_end());
}
