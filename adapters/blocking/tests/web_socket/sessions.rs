use std::future::poll_fn;
use std::thread;

use smoq::{CloseReason, Error, Version, Versions};

use super::*;

#[test]
fn both_sides_publish_in_every_version() {
    for version in Version::known() {
        let there = Origin::default().produce();
        let every: Versions = Version::known().collect();
        let mut stage =
            Stage::with(|server| server.with_consume(there.clone()).with_versions(every));
        let [near, received] = [(); 2].map(|()| Origin::default().produce());
        let client = Client::new().with_publish(near.consume()).with_consume(received.clone());
        stage.dial(&client.with_versions(version));
        let session = stage.connected();
        let mut reader = stage.subscribe(&received);
        assert_eq!(session.version(), version);
        // The first one is larger than all windows.
        for size in [6 << 20, 0, 1, 20_000] {
            let mut group = stage.track.append_group().unwrap();
            group.write_frame(0_u64, vec![7; size]).unwrap();
            group.finish().unwrap();
            let frame = stage.until(|_| ready(reader.try_read_frame())).unwrap().unwrap();
            assert!(frame.payload() == vec![7; size], "{version}, {size}");
        }

        let mut mouse = near.create_broadcast("mouse").unwrap();
        let mut position = mouse.create_track("position").unwrap();
        let mut seen = there.consume();
        let mouse = stage.until(|_| ready(seen.try_announced_broadcast("mouse"))).unwrap();
        let mut reader = mouse.subscribe_track("position", Subscription::default()).unwrap();
        stage.until(|_| ready(position.try_used())).unwrap();
        for size in [6 << 20, 8] {
            position.write_frame(0_u64, vec![8; size]).unwrap();
            let frame = stage.until(|_| ready(reader.try_read_frame())).unwrap().unwrap();
            assert!(frame.payload() == vec![8; size], "{version}, {size}");
        }
    }
}

/// Sessions on QUIC and on WebSockets, by the smallest steps.
#[test]
fn the_smallest_budget_serves_both_carriers() {
    let mut stage = Stage::new();
    stage.budget = Budget::items(1);
    let origins: Vec<_> = (0..20).map(|_| Origin::default().produce()).collect();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut quic = Endpoint::new(any).unwrap();
    for (n, origin) in origins.iter().enumerate() {
        let client = Client::new().with_consume(origin.clone());
        if n % 2 == 0 {
            stage.dial(&client);
        } else {
            let tls = config::client(&stage.trust, client.versions()).unwrap();
            let address = stage.net.local_addr().unwrap();
            quic.dial(address, "localhost", tls, &client).unwrap();
        }
    }
    let mut readers = Vec::new();
    for origin in &origins {
        let mut seen = origin.consume();
        let live = stage.until(|_| {
            quic.step(Budget::items(64)).unwrap();
            ready(seen.try_announced_broadcast("live"))
        });
        readers.push(live.unwrap().subscribe_track("video", Subscription::default()).unwrap());
    }
    for n in 0..5_u8 {
        stage.track.write_frame(u64::from(n), vec![n; 30_000]).unwrap();
        for reader in &mut readers {
            loop {
                let frame = stage.until(|_| {
                    quic.step(Budget::items(64)).unwrap();
                    ready(reader.try_read_frame())
                });
                // One that subscribed early may get an older one first.
                if frame.unwrap().unwrap().payload() == vec![n; 30_000] {
                    break;
                }
            }
        }
    }
    assert_eq!(stage.net.connections(), 20);
}

#[test]
fn a_step_costs_what_is_ready_and_not_what_is_connected() {
    let mut stage = Stage::new();
    let origins: Vec<_> = (0..100).map(|_| Origin::default().produce()).collect();
    for origin in &origins {
        stage.dial(&Client::new().with_consume(origin.clone()));
    }
    let mut reader = stage.subscribe(&origins[0]);
    stage.until_quiet();
    let idle = stage.net.step(Budget::items(1_000)).unwrap();
    // The turn of the UDP socket.
    assert_eq!((idle.items, idle.turns), (0, 1));
    stage.track.write_frame(0_u64, "news").unwrap();
    let mut turns = 0;
    let frame = loop {
        turns += stage.step().0.turns;
        if let Some(frame) = ready(reader.try_read_frame()) {
            break frame;
        }
        stage.net.wait(Some(Duration::from_millis(1))).unwrap();
    };
    assert_eq!(frame.unwrap().unwrap().payload(), b"news");
    assert!(turns < 30, "{turns} turns for one frame on one connection");
}

/// Every wait ends by what another thread did: it writes, connects, or sends.
#[test]
fn a_wait_ends_by_whatever_happens() {
    let mut stage = Stage::new();
    let received = Origin::default().produce();
    stage.dial(&Client::new().with_consume(received.clone()));
    let mut reader = stage.subscribe(&received);
    stage.until_quiet();
    let Stage { mut net, mut clients, mut track, .. } = stage;
    let stop = net.waker();
    let serving = thread::spawn(move || {
        let mut polls = 0;
        net.run_until(poll_fn(|_| {
            polls += 1;
            if polls == 1 { Poll::Pending } else { Poll::Ready(()) }
        }))
    });
    let begun = Instant::now();
    for n in 0..50_u64 {
        track.write_frame(n, n.to_be_bytes().to_vec()).unwrap();
        let frame = loop {
            clients[0].step();
            if let Some(frame) = ready(reader.try_read_frame()) {
                break frame;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "it hangs");
        };
        assert_eq!(frame.unwrap().unwrap().payload(), n.to_be_bytes());
    }
    // Without wakes there would be one frame in 12 s, with each ping.
    assert!(begun.elapsed() < Duration::from_secs(10));
    stop.wake();
    serving.join().unwrap().unwrap();
}

/// RFC 6455, section 4.2: the request tells the part, the authority and the origin, on versions without SETUP as well.
#[test]
fn the_decision_sees_the_request() {
    for version in [Version::Lite06, Version::Lite04, Version::Lite02, Version::Moqt18] {
        let mut stage = Stage::with(|server| server.with_versions(version));
        stage.net.set_manual_accept(true);
        for error in [None, Some(Error::Unauthorized), Some(Error::App(7))] {
            let received = Origin::default().produce();
            let client = Client::new().with_versions(version).with_consume(received.clone());
            let dialed = stage.dialed(&client, "/room/7?token=abc");
            stage.clients = vec![dialed];
            let Event::Incoming { id, request, remote, certificates } = stage.event() else {
                panic!("no request");
            };
            assert_eq!(request.path().as_str(), "room/7");
            assert_eq!((request.query(), request.authority()), ("token=abc", "game.example:8080"));
            let http = request.http().unwrap();
            assert_eq!(
                (http.path(), http.origin()),
                ("/room/7?token=abc", Some("https://play.example"))
            );
            assert_eq!(http.header("sec-websocket-version"), Some("13"));
            assert_eq!(remote, stage.clients[0].socket.get_ref().local_addr().unwrap());
            assert!(certificates.is_empty() && stage.net.session(id).is_none());
            let reason = if let Some(error) = error {
                request.reject(error.clone());
                CloseReason::from(error)
            } else {
                let session = request.accept();
                let mut reader = stage.subscribe(&received);
                stage.track.write_frame(0_u64, "news").unwrap();
                let frame = stage.until(|_| ready(reader.try_read_frame())).unwrap().unwrap();
                assert_eq!(frame.payload(), b"news");
                session.close(Error::SessionClosed);
                CloseReason::Clean
            };
            let Event::Closed { id: closed, reason: here } = stage.event() else {
                panic!("no end")
            };
            assert_eq!((closed, &here), (id, &reason));
            let there = stage.until(|stage| stage.clients[0].qmux.closed());
            assert_eq!(there, reason, "{version}");
            stage.until(|stage| (stage.net.connections() == 0).then_some(()));
        }
    }
}

/// The client has all that was written before when it learns of the end.
#[test]
fn a_drained_session_sends_what_it_owes() {
    let mut stage = Stage::new();
    let received = Origin::default().produce();
    let at = stage.dial(&Client::new().with_consume(received.clone()));
    let session = stage.connected();
    let mut reader = stage.subscribe(&received);
    stage.track.write_frame(0_u64, vec![1; 3 << 20]).unwrap();
    stage.track.finish().unwrap();
    session.drain();
    let reason = stage.until(|stage| stage.clients[at].qmux.closed());
    assert!(reason.is_clean(), "{reason}");
    let frame = ready(reader.try_read_frame()).unwrap().unwrap().unwrap();
    assert!(frame.payload() == vec![1; 3 << 20]);
    let Event::Closed { reason, .. } = stage.event() else { panic!("no end") };
    assert!(reason.is_clean());
    let begun = Instant::now();
    stage.until(|stage| (stage.net.connections() == 0).then_some(()));
    // Both sides closed the WebSocket, so that nobody waited for a timer.
    assert!(begun.elapsed() < Duration::from_millis(500));
}

#[test]
fn dropping_an_endpoint_tells_its_peers() {
    let mut stage = Stage::new();
    stage.dial(&Client::new());
    let _session = stage.connected();
    let client = Client::new();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    stage.until_quiet();
    drop(std::mem::replace(&mut stage.net, Endpoint::new(any).unwrap()));
    drop(client);
    let reason = stage.until(|stage| stage.clients[0].qmux.closed());
    assert!(reason.is_clean(), "{reason}");
}

/// The order of the server counts, and a client without a version in common is refused before there is a session.
#[test]
fn requests_that_are_not_for_a_session_are_refused() {
    let mut stage = Stage::with(|server| server.with_versions([Version::Lite05, Version::Lite04]));
    let both = upgrade("/", "qmux-02.moq-lite-04, qmux-01.moq-lite-05, webtransport");
    let (_kept, answer) = stage.request(&both);
    assert!(answer.contains("sec-websocket-protocol: qmux-01.moq-lite-05\r\n"), "{answer}");
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    let _session = stage.connected();
    for request in [
        upgrade("/", "qmux-02.moq-lite-03, webtransport, qmux-02"),
        upgrade("/", "").replace("Upgrade: websocket\r\n", ""),
        upgrade("/", "qmux-02.moq-lite-05").replace("GET", "POST"),
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        "\x16\x03\x01 this is TLS\r\n\r\n".into(),
    ] {
        let (mut stream, answer) = stage.request(&request);
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    assert!(stage.net.poll_event().is_none());
    assert_eq!(stage.net.connections(), 1);
}

/// Beyond the largest number a connection is closed.
#[test]
fn there_is_a_largest_number_of_connections() {
    let mut stage = Stage::new();
    stage.net.set_max_connections(2);
    for _ in 0..2 {
        stage.dial(&Client::new());
    }
    let (_, answer) = stage.request(&upgrade("/", "qmux-02.moq-lite-05"));
    assert_eq!(answer, "");
    stage.clients.pop();
    stage.until(|stage| (stage.net.connections() == 1).then_some(()));
    stage.dial(&Client::new());
    assert_eq!(stage.net.connections(), 2);
}
