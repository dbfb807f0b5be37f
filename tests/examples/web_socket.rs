//! Networks that drop UDP.

#![expect(clippy::disallowed_methods, reason = "a proxy has threads")]

use std::io::copy;
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use smoq::{Client, Origin, Server, Subscription, Version};
use smoq_blocking::smoq_quic::{Fingerprint, Identity, Trust, Url, tls};
use smoq_blocking::{Budget, DialConfig, Endpoint, Event};

use crate::run::{Running, example};
use crate::{Relay, second};

/// A way to `address` for TCP alone: UDP is dropped. Returns its address.
fn without_udp(address: &str) -> String {
    let (silent, listener) = loop {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        // The same port may be taken for TCP.
        if let Ok(listener) = TcpListener::bind(silent.local_addr().unwrap()) {
            break (silent, listener);
        }
    };
    let way = listener.local_addr().unwrap().to_string();
    let address = address.to_owned();
    thread::spawn(move || {
        let _silent = silent;
        for near in listener.incoming() {
            let (near, far) = (near.unwrap(), TcpStream::connect(&address).unwrap());
            for (from, to) in [(&near, &far), (&far, &near)] {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                thread::spawn(move || {
                    // An error is the end of either connection.
                    let _ = copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    way
}

#[test]
fn a_clock_runs_where_udp_is_dropped() {
    let upstream = Relay::start("127.0.0.1:0", &[]);
    let way = without_udp(&upstream.address);
    // Of a relay, a publisher and a subscriber, each on the carrier that its URL prefers.
    let edge =
        Relay::start("127.0.0.1:0", &["--insecure", "--upstream", &format!("moqt://{way}/")]);
    let publisher = upstream.clock_at(&format!("https://{way}/towers/north"), "publish", &[]);
    let more = ["--broadcast", "north/clock", "--count", "1"];
    for relay in [&upstream, &edge] {
        let way = without_udp(&relay.address);
        let url = format!("moqt://{way}/towers");
        second(relay.clock_at(&url, "subscribe", &more).rest().trim_end());
    }
    drop(publisher);
}

#[test]
fn a_clock_runs_on_a_web_socket_in_every_version() {
    let relay = Relay::start("127.0.0.1:0", &[]);
    let url = format!("ws://{}/towers/north", relay.address);
    let publisher = relay.clock_at(&url, "publish", &[]);
    for (version, scheme) in [
        ("moq-lite-02", "wss"),
        ("moq-lite-04", "ws"),
        ("moq-lite-06", "wss"),
        ("moqt-14", "ws"),
        ("moqt-22", "wss"),
    ] {
        let url = format!("{scheme}://{}/towers", relay.address);
        let more = ["--version", version, "--broadcast", "north/clock", "--count", "1"];
        second(relay.clock_at(&url, "subscribe", &more).rest().trim_end());
    }
    drop(publisher);
}

/// By a WebSocket, and by the fallback to one.
#[test]
fn a_blocking_client_joins_the_relay() {
    let relay = Relay::start("127.0.0.1:0", &[]);
    let publisher = relay.clock_at(&format!("ws://{}/towers/north", relay.address), "publish", &[]);
    let way = without_udp(&relay.address);
    let trust = Trust::from(relay.fingerprint.parse::<Fingerprint>().unwrap());
    for (url, version) in [
        (format!("ws://{}/towers", relay.address), Version::Lite05),
        (format!("wss://{}/towers", relay.address), Version::Lite04),
        (format!("wss://{}/towers", relay.address), Version::Moqt18),
        (format!("moqt://{way}/towers"), Version::Lite06),
    ] {
        let received = Origin::default().produce();
        let client = Client::new().with_consume(received.clone()).with_versions(version);
        let parsed: Url = url.parse().unwrap();
        let fallback = format!("wss://{way}").parse().unwrap();
        let of = |url| DialConfig::for_url(url, &trust, client.versions()).unwrap();
        let mut net = Endpoint::connect(&url, of(&parsed).or(of(&fallback)), &client).unwrap();
        let frame = net.run_until(async {
            let clock = received.consume().announced_broadcast("north/clock").await.unwrap();
            let mut seconds = clock.subscribe_track("seconds", Subscription::default()).unwrap();
            seconds.read_frame().await.unwrap().unwrap()
        });
        // The first frame of a minute, `YYYY-MM-DD HH:MM:`.
        let minute = frame.unwrap();
        assert!(minute.payload().len() == 17 && minute.payload().ends_with(b":"), "{url}");
    }
    drop(publisher);
}

/// The clock dials by `qmux`, the server is one of this thread.
#[test]
fn a_clock_joins_a_blocking_server() {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let origin = Origin::default().produce();
    let mut clock = origin.create_broadcast("clock").unwrap();
    let mut seconds = clock.create_track("seconds").unwrap();
    let mut group = seconds.append_group().unwrap();
    for text in ["2026-07-01 12:34:", "05"] {
        group.write_frame(0_u64, text).unwrap();
    }
    let server = Server::new().with_publish(origin.consume());
    for (scheme, version) in [("ws", "moq-lite-05"), ("wss", "moq-lite-04"), ("wss", "moqt-18")] {
        let mut net = Endpoint::new("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        net.listen_web_socket(listener, &server).unwrap();
        if scheme == "wss" {
            net.set_web_socket_tls(tls::server(&identity, ["http/1.1"]).unwrap());
        }
        let fingerprint = identity.fingerprint().to_string();
        let mut subscriber = example("clock");
        subscriber.args(["subscribe", &url, "--fingerprint", &fingerprint]);
        let subscriber = Running::start(subscriber.args(["--version", version, "--count", "1"]));
        let limit = Instant::now() + Duration::from_secs(60);
        while !matches!(net.poll_event(), Some(Event::Closed { .. })) {
            assert!(Instant::now() < limit, "it hangs");
            net.step(Budget::items(1_000)).unwrap();
            net.wait(Some(Duration::from_millis(100))).unwrap();
        }
        assert_eq!(subscriber.rest(), "2026-07-01 12:34:05\n", "{url}");
    }
}
