//! Sessions over real UDP on the loopback interface. Nothing here sleeps: both ends are stepped, or
//! wait for each other.

#![expect(clippy::disallowed_methods, reason = "threads to wake, and a deadline instead of a hang")]

use std::cell::Cell;
use std::future::poll_fn;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use smoq::{
    BroadcastProducer, Client, CloseReason, Error, Limits, Origin, OriginProducer, Server, Session,
    Subscription, Track, TrackConsumer, TrackProducer, Version, Versions,
};
use smoq_blocking::quinn_proto::ConnectionError;
use smoq_blocking::smoq_quic::{Carrier, Identity, Trust, http3};
use smoq_blocking::{Budget, DialError, Endpoint, Event, Step, config};

thread_local! {
    /// The carrier that clients of this thread dial.
    static CARRIER: Cell<Carrier> = const { Cell::new(Carrier::RawQuic) };
}

/// The tests that do not depend on raw QUIC, with clients on WebTransport.
mod on_webtransport {
    macro_rules! again {
        ($($test:ident)*) => {
            $(#[test] fn $test() {
                super::CARRIER.set(super::Carrier::WebTransport);
                super::$test();
            })*
        };
    }
    again! {
        every_version_publishes_and_subscribes
        a_large_group_arrives_whole
        the_smallest_budget_serves_many_connections_on_one_socket
        a_step_costs_what_is_ready_and_not_what_is_connected
        another_thread_ends_the_wait_by_writing
        one_datagram_in_twenty_lost
        lost_datagrams_are_not_sent_again
        a_past_group_is_fetched
        the_peer_reports_the_path
        a_session_is_closed_with_its_code
        a_drained_session_sends_what_it_owes
        a_drained_session_loses_nothing_of_tracks_that_go_on
        a_drained_session_does_not_wait_for_ever
        data_that_came_before_the_end_is_read_first
        a_late_step_handles_input_before_deadlines
        dropping_an_endpoint_tells_its_peers
        set_up_settles_on_a_version
    }
}

#[test]
fn every_version_publishes_and_subscribes() {
    for version in Version::ALL.into_iter().chain(Version::WIP) {
        let mut stage = Stage::new();
        let every: Versions = Version::ALL.into_iter().chain(Version::WIP).collect();
        let server = Server::new().with_publish(stage.origin.consume()).with_versions(every);
        let mut pair = Pair::new(&server);
        let received = Origin::default().produce();
        let client = Client::new().with_versions(version).with_consume(received.clone());
        let session = pair.connect(&client);
        assert_eq!(session.version(), version);

        let mut video = pair.subscribe(&received, &mut stage);
        for sequence in 0..20 {
            let mut group = stage.track.append_group().unwrap();
            for frame in 0..3_u64 {
                group.write_frame(frame, vec![sequence; 2_000]).unwrap();
            }
            group.finish().unwrap();
            let mut group = pair.until(|| ready(video.try_next_group())).unwrap().unwrap();
            assert_eq!(group.sequence(), u64::from(sequence), "{version}");
            for _ in 0..3 {
                let frame = pair.until(|| ready(group.try_read_frame())).unwrap().unwrap();
                assert_eq!(frame.payload(), vec![sequence; 2_000]);
            }
            assert!(pair.until(|| ready(group.try_read_frame())).unwrap().is_none());
        }
        stage.track.finish().unwrap();
        assert!(pair.until(|| ready(video.try_next_group())).unwrap().is_none(), "{version}");
        let stats = session.stats();
        assert_eq!(stats.frames_received, 60, "{version}");
        let gauges = session.gauges();
        assert!(gauges.rtt.is_some() && gauges.bitrate > Some(0), "{version}: {gauges:?}");
    }
}

/// More than any window holds: short writes, blocked streams and credit in both layers.
#[test]
fn a_large_group_arrives_whole() {
    let mut stage = Stage::new();
    let mut pair = Pair::new(&Server::new().with_publish(stage.origin.consume()));
    let received = Origin::default().produce();
    let _session = pair.connect(&Client::new().with_consume(received.clone()));
    let mut video = pair.subscribe(&received, &mut stage);
    let mut group = stage.track.append_group().unwrap();
    let frames: Vec<Vec<u8>> = (0..12).map(|n| vec![n; 1 << 20]).collect();
    for frame in &frames {
        group.write_frame(0_u64, frame.clone()).unwrap();
    }
    group.finish().unwrap();
    let mut group = pair.until(|| ready(video.try_next_group())).unwrap().unwrap();
    for expected in &frames {
        let frame = pair.until(|| ready(group.try_read_frame())).unwrap().unwrap();
        assert!(frame.payload() == expected);
    }
}

#[test]
fn the_smallest_budget_serves_many_connections_on_one_socket() {
    const CLIENTS: usize = 40;
    let mut stage = Stage::new();
    let mut pair = Pair::new(&Server::new().with_publish(stage.origin.consume()));
    pair.budget = Budget::items(1);
    let origins: Vec<_> = (0..CLIENTS).map(|_| Origin::default().produce()).collect();
    for origin in &origins {
        pair.dial(&Client::new().with_consume(origin.clone()));
    }
    let mut readers: Vec<_> =
        origins.iter().map(|origin| pair.subscribe(origin, &mut stage)).collect();
    assert_eq!((pair.server.connections(), pair.client.connections()), (CLIENTS, CLIENTS));

    // All get the same at about the same time: while the slowest has nothing, the fastest does
    // not run away by more than what it can have been sent ahead.
    for sequence in 0..10_u8 {
        stage.track.write_frame(u64::from(sequence), vec![sequence; 10_000]).unwrap();
        for reader in &mut readers {
            let frame = pair.until(|| ready(reader.try_read_frame())).unwrap().unwrap();
            assert_eq!(frame.payload(), vec![sequence; 10_000]);
        }
    }
}

#[test]
fn a_step_costs_what_is_ready_and_not_what_is_connected() {
    let mut stage = Stage::new();
    let mut pair = Pair::new(&Server::new().with_publish(stage.origin.consume()));
    let origins: Vec<_> = (0..40).map(|_| Origin::default().produce()).collect();
    for origin in &origins {
        pair.dial(&Client::new().with_consume(origin.clone()));
    }
    let mut reader = pair.subscribe(&origins[0], &mut stage);
    pair.until_quiet();
    stage.track.write_frame(0_u64, "news").unwrap();
    let mut turns = 0;
    let frame = pair.until_step(|server, _| {
        turns += server.turns;
        ready(reader.try_read_frame())
    });
    assert_eq!(frame.unwrap().unwrap().payload(), b"news");
    // The socket's own turns apart there are those of one connection: far fewer than 40.
    assert!(turns < 30, "{turns} turns for one frame on one connection");
}

#[test]
fn another_thread_ends_the_wait_by_writing() {
    let mut stage = Stage::new();
    let mut pair = Pair::new(&Server::new().with_publish(stage.origin.consume()));
    let received = Origin::default().produce();
    let _session = pair.connect(&Client::new().with_consume(received.clone()));
    let mut video = pair.subscribe(&received, &mut stage);
    pair.until_quiet();

    let Pair { mut server, mut client, .. } = pair;
    let stop = server.waker();
    let serving = thread::spawn(move || {
        // `stop` is the only thing that ends this: everything else is done on the way.
        let mut polls = 0;
        server.run_until(poll_fn(|_| {
            polls += 1;
            if polls == 1 { Poll::Pending } else { Poll::Ready(()) }
        }))
    });
    let writing = thread::spawn(move || {
        for n in 0..50_u64 {
            stage.track.write_frame(n, n.to_be_bytes().to_vec()).unwrap();
            // The next one is written after this one was read, so that each wake is needed.
            thread::park();
        }
        stage
    });
    let begun = Instant::now();
    for n in 0..50_u64 {
        let frame = client.run_until(video.read_frame()).unwrap().unwrap().unwrap();
        assert_eq!(frame.payload(), n.to_be_bytes());
        writing.thread().unpark();
    }
    // Without wakes the server would find each frame when its next keep-alive is due, seconds later.
    assert!(begun.elapsed() < Duration::from_secs(30));
    writing.join().unwrap();
    stop.wake();
    serving.join().unwrap().unwrap();
}

#[test]
fn a_wait_ends_for_its_timeout_and_for_the_waker() {
    let mut endpoint = Endpoint::new(loopback()).unwrap();
    endpoint.step(Budget::items(1)).unwrap();
    // Nothing is connected: there are no timers, and no packets come.
    let begun = Instant::now();
    endpoint.wait(Some(Duration::from_millis(20))).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(20));
    let waker = endpoint.waker();
    waker.wake_by_ref();
    endpoint.wait(None).unwrap();
    let waking = thread::spawn(move || waker.wake());
    endpoint.wait(None).unwrap();
    waking.join().unwrap();
    // Each wake has ended one wait and not two.
    endpoint.step(Budget::items(1)).unwrap();
    let begun = Instant::now();
    endpoint.wait(Some(Duration::from_millis(20))).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(20));
}

/// Each time in the middle of a handshake, which ends as it began. Sessions that are there go on.
#[test]
fn certificates_are_replaced_while_clients_dial() {
    let mut stage = Stage::new();
    let server = Server::new().with_publish(stage.origin.consume());
    let mut pair = Pair::new(&server);
    let is_answered = Arc::new(AtomicBool::new(false));
    pair.client.set_filter({
        let is_answered = is_answered.clone();
        move |datagram| {
            // Packets of a handshake have the long header (RFC 9000, section 17.2).
            is_answered.fetch_or(datagram[0] & 0x80 != 0, Ordering::Relaxed);
            true
        }
    });
    let mut readers = Vec::new();
    for n in 0..20_u64 {
        CARRIER.set(if n % 2 == 0 { Carrier::WebTransport } else { Carrier::RawQuic });
        let received = Origin::default().produce();
        is_answered.store(false, Ordering::Relaxed);
        pair.dial(&Client::new().with_consume(received.clone()));
        pair.until(|| is_answered.load(Ordering::Relaxed).then_some(()));
        let next = Identity::self_signed(["localhost"]).unwrap();
        pair.server.listen(config::server(&next, server.versions()).unwrap(), &server);
        let event = pair.until_both(|_, client| client.poll_event());
        let Event::Connected { session, .. } = event else { panic!("{event:?}") };
        let mut reader = pair.subscribe(&received, &mut stage);
        // A client that knows the old certificate alone sees that it is gone.
        pair.dial(&Client::new());
        pair.failed();
        pair.trust = next.fingerprint().into();

        stage.track.write_frame(n, n.to_be_bytes().to_vec()).unwrap();
        // The frame before it may come first.
        let mut next = || pair.until(|| ready(reader.try_read_frame())).unwrap().unwrap();
        while next().payload() != n.to_be_bytes() {}
        readers.push((reader, session, received));
        let (_, there) = readers.split_last_mut().unwrap();
        for (reader, ..) in there {
            let frame = pair.until(|| ready(reader.try_read_frame())).unwrap().unwrap();
            assert_eq!(frame.payload(), n.to_be_bytes());
        }
        while let Some(event) = pair.server.poll_event() {
            assert!(!matches!(event, Event::Closed { .. }), "{event:?}");
        }
    }
}

#[test]
fn one_datagram_in_twenty_lost() {
    let mut stage = Stage::new();
    let mut pair = Pair::new(&Server::new().with_publish(stage.origin.consume()));
    pair.server.set_filter(lossy(1));
    pair.client.set_filter(lossy(2));
    let received = Origin::default().produce();
    let _session = pair.connect(&Client::new().with_consume(received.clone()));
    let mut video = pair.subscribe(&received, &mut stage);
    let mut group = stage.track.append_group().unwrap();
    for n in 0..200_u64 {
        group.write_frame(n, vec![n as u8; 5_000]).unwrap();
    }
    group.finish().unwrap();
    let mut group = pair.until(|| ready(video.try_next_group())).unwrap().unwrap();
    for n in 0..200_u64 {
        let frame = pair.until(|| ready(group.try_read_frame())).unwrap().unwrap();
        assert_eq!(frame.payload(), vec![n as u8; 5_000]);
    }
}

/// A lost datagram leaves a gap. A group on a stream, of which packets are lost, arrives.
#[test]
fn lost_datagrams_are_not_sent_again() {
    for (version, loses) in
        [(Version::Lite06, true), (Version::Lite05, true), (Version::Lite04, false)]
    {
        let mut stage = Stage::new();
        let mut pair = Pair::new(&Server::new().with_publish(stage.origin.consume()));
        let received = Origin::default().produce();
        let client = Client::new().with_versions(version).with_consume(received.clone());
        let session = pair.connect(&client);
        let mut video = pair.subscribe(&received, &mut stage);
        // All arrive as long as nothing is lost.
        for n in 0..10_u8 {
            stage.track.write_datagram(0, vec![n; 100]).unwrap();
            let frame = pair.until(|| ready(video.try_read_frame())).unwrap().unwrap();
            assert_eq!(frame.payload(), vec![n; 100]);
        }
        // Larger than half a packet, so that each is lost or not by itself.
        pair.client.set_filter(lossy_in(7, 3));
        for n in 10..110_u8 {
            stage.track.write_datagram(0, vec![n; 1_000]).unwrap();
        }
        stage.track.finish().unwrap();
        let mut count = 0;
        while let Some(mut group) = pair.until(|| ready(video.try_recv_group())).unwrap() {
            let n = group.sequence() as u8;
            if n >= 10 {
                let frame = pair.until(|| ready(group.try_read_frame())).unwrap().unwrap();
                assert_eq!(frame.payload(), vec![n; 1_000]);
                count += 1;
            }
        }
        assert_eq!(count < 100, loses, "{version}: {count} came");
        assert!(count > 30, "{version}: {count} came");
        assert_eq!(session.stats().lost_datagrams, 0, "they did not come at all");
    }
}

#[test]
fn a_past_group_is_fetched() {
    let mut stage = Stage::new();
    let mut pair = Pair::new(&Server::new().with_publish(stage.origin.consume()));
    let received = Origin::default().produce();
    let _session = pair.connect(&Client::new().with_consume(received.clone()));
    for n in 0..5_u8 {
        stage.track.write_frame(u64::from(n) * 10_000, vec![n; 300_000]).unwrap();
    }
    let mut origin = received.consume();
    let broadcast = pair.until(|| ready(origin.try_announced_broadcast("room/alice"))).unwrap();
    let mut video = broadcast.subscribe_track("video", Subscription::default()).unwrap();
    let mut group = pair.until(|| ready(video.try_fetch_group(3))).unwrap();
    let frame = pair.until(|| ready(group.try_read_frame())).unwrap().unwrap();
    assert_eq!(frame.payload(), vec![3; 300_000]);
    assert!(pair.until(|| ready(group.try_read_frame())).unwrap().is_none());
    let refused = pair.until(|| ready(video.try_fetch_group(5)));
    assert_eq!(refused.err(), Some(Error::NotFound));
}

#[test]
fn the_peer_reports_the_path() {
    let mut pair = Pair::new(&Server::new());
    let dialed = pair.connect(&Client::new());
    let accepted = pair.accepted();
    for session in [&dialed, &accepted] {
        let mut probe = session.probe();
        let estimate = pair.until(|| ready(probe.try_changed())).unwrap();
        assert!(estimate.bitrate.is_some() && estimate.rtt.is_some(), "{estimate:?}");
        assert_eq!(probe.latest(), Some(estimate));
    }
}

#[test]
fn a_session_is_closed_with_its_code() {
    for server_closes in [true, false] {
        let mut pair = Pair::new(&Server::new());
        let dialed = pair.connect(&Client::new());
        let accepted = pair.accepted();
        let (closer, mut other) =
            if server_closes { (accepted, dialed) } else { (dialed, accepted) };
        closer.close(Error::App(7));
        let error = pair.until(|| ready(other.try_closed()));
        assert_eq!(error, CloseReason::Error(Error::App(7)));
        for is_server in [true, false] {
            pair.until_both(|server, client| {
                let end = if is_server { server } else { client };
                let Event::Closed { reason, id } = end.poll_event()? else { panic!("no close") };
                assert_eq!(reason, error);
                assert!(end.session(id).is_none());
                Some(())
            });
        }
        // QUIC remembers a closed connection for a few round trips, and then forgets it.
        pair.until_both(|server, client| {
            (server.connections() + client.connections() == 0).then_some(())
        });
    }
}

#[test]
fn a_drained_session_sends_what_it_owes() {
    let mut stage = Stage::new();
    let mut pair = Pair::new(&Server::new().with_publish(stage.origin.consume()));
    let received = Origin::default().produce();
    let mut dialed = pair.connect(&Client::new().with_consume(received.clone()));
    let accepted = pair.accepted();
    let mut video = pair.subscribe(&received, &mut stage);
    // More than one send window: most of it waits for acknowledgements when the drain begins.
    let mut group = stage.track.append_group().unwrap();
    for n in 0..100_u8 {
        group.write_frame(0_u64, vec![n; 5_000]).unwrap();
    }
    group.finish().unwrap();
    stage.track.finish().unwrap();
    pair.server.step(pair.budget).unwrap();
    accepted.drain();
    assert_eq!(pair.until(|| ready(dialed.try_closed())), CloseReason::Clean);
    let mut group = pair.until(|| ready(video.try_next_group())).unwrap().unwrap();
    for n in 0..100_u8 {
        let frame = pair.until(|| ready(group.try_read_frame())).unwrap().unwrap();
        assert_eq!(frame.payload(), vec![n; 5_000]);
    }
    assert!(pair.until(|| ready(group.try_read_frame())).unwrap().is_none());
}

/// Nobody confirms a track that goes on: only QUIC knows what has arrived.
#[test]
fn a_drained_session_loses_nothing_of_tracks_that_go_on() {
    for finished in [true, false] {
        let mut stage = Stage::new();
        let mut pair = Pair::new(&Server::new().with_publish(stage.origin.consume()));
        pair.server.set_filter(lossy(3));
        // The server repeats a CONNECTION_CLOSE only to a client that sends, and this one would be silent.
        let mut keep = lossy(4);
        pair.client.set_filter(move |datagram| datagram.len() < 100 || keep(datagram));
        let received = Origin::default().produce();
        let mut dialed = pair.connect(&Client::new().with_consume(received.clone()));
        let accepted = pair.accepted();
        let mut video = pair.subscribe(&received, &mut stage);
        let mut group = stage.track.append_group().unwrap();
        for n in 0..100_u8 {
            group.write_frame(0_u64, vec![n; 5_000]).unwrap();
        }
        if finished {
            group.finish().unwrap();
        }
        accepted.drain();
        assert_eq!(pair.until(|| ready(dialed.try_closed())), CloseReason::Clean);
        let mut group = ready(video.try_next_group()).unwrap().unwrap().unwrap();
        for n in 0..100_u8 {
            let frame = ready(group.try_read_frame()).unwrap().unwrap().unwrap();
            assert_eq!(frame.payload(), vec![n; 5_000]);
        }
        match ready(group.try_read_frame()).unwrap() {
            Ok(end) => assert!(finished && end.is_none()),
            Err(error) => assert!(!finished, "{error}"),
        }
    }
}

/// The other end is gone without a word, so nothing will be acknowledged.
#[test]
fn a_drained_session_does_not_wait_for_ever() {
    let mut stage = Stage::new();
    let mut pair = Pair::new(&Server::new().with_publish(stage.origin.consume()));
    let received = Origin::default().produce();
    let _dialed = pair.connect(&Client::new().with_consume(received.clone()));
    let mut accepted = pair.accepted();
    let _video = pair.subscribe(&received, &mut stage);
    pair.client.set_filter(|_| false);
    stage.track.write_frame(0_u64, "lost").unwrap();
    let begun = Instant::now();
    accepted.drain();
    assert_eq!(pair.until(|| ready(accepted.try_closed())), CloseReason::Clean);
    let event = pair.until_both(|server, _| server.poll_event());
    assert!(matches!(event, Event::Closed { reason: CloseReason::Clean, .. }), "{event:?}");
    let waited = begun.elapsed();
    assert!((900..5_000).contains(&waited.as_millis()), "{waited:?}");
}

/// Data that QUIC acknowledged may still be unread when the close arrives.
#[test]
fn data_that_came_before_the_end_is_read_first() {
    let mut stage = Stage::new();
    let mut pair = Pair::new(&Server::new().with_publish(stage.origin.consume()));
    pair.budget = Budget::items(1);
    let received = Origin::default().produce();
    let mut dialed = pair.connect(&Client::new().with_consume(received.clone()));
    let accepted = pair.accepted();
    let mut video = pair.subscribe(&received, &mut stage);
    let mut group = stage.track.append_group().unwrap();
    // Frames so small that a few packets have more of them than the reader decodes at a time.
    for n in 0..8_000_u64 {
        group.write_frame(0_u64, n.to_be_bytes().to_vec()).unwrap();
    }
    group.finish().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    accepted.drain();
    while !matches!(pair.server.poll_event(), Some(Event::Closed { .. })) {
        assert!(Instant::now() < deadline, "nothing for 30 s");
        pair.server.step(Budget::items(1_024)).unwrap();
        pair.client.step(Budget::items(1)).unwrap();
    }
    assert_eq!(pair.until(|| ready(dialed.try_closed())), CloseReason::Clean);
    let mut group = ready(video.try_next_group()).unwrap().unwrap().unwrap();
    for n in 0..8_000_u64 {
        let frame = ready(group.try_read_frame()).unwrap().unwrap().unwrap();
        assert_eq!(frame.payload(), n.to_be_bytes());
    }
    assert!(ready(group.try_read_frame()).unwrap().unwrap().is_none());
}

/// A group that arrives after the end of its track is waited for, but not for long. That its reader was
/// busy elsewhere must not count as waiting.
#[test]
fn a_late_step_handles_input_before_deadlines() {
    let mut stage = Stage::new();
    let mut pair = Pair::new(&Server::new().with_publish(stage.origin.consume()));
    let received = Origin::default().produce();
    let wait = Limits::default().straggler_timeout;
    let _session = pair.connect(&Client::new().with_consume(received.clone()));
    let mut video = pair.subscribe(&received, &mut stage);
    stage.track.write_frame(0_u64, "before").unwrap();
    assert!(pair.until(|| ready(video.try_read_frame())).unwrap().is_some());
    pair.until_quiet();

    // The end overtakes the last group: it comes in one of the first small datagrams.
    let (small, dropping) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
    let (count, drops) = (Arc::clone(&small), Arc::clone(&dropping));
    pair.client.set_filter(move |datagram| {
        let is_small = datagram.len() < 500;
        count.fetch_add(usize::from(is_small), Ordering::Relaxed);
        is_small || !drops.load(Ordering::Relaxed)
    });
    stage.track.write_frame(1_u64, vec![7; 1_000]).unwrap();
    while pair.server.step(pair.budget).unwrap().items > 0 {}
    stage.track.finish().unwrap();
    pair.until(|| (small.load(Ordering::Relaxed) >= 3).then_some(()));
    dropping.store(false, Ordering::Relaxed);

    // For longer than it waits the client does nothing, and the group comes meanwhile.
    let begun = Instant::now();
    while begun.elapsed() < wait + wait / 4 {
        pair.server.step(pair.budget).unwrap();
        pair.server.wait(Some(wait / 10)).unwrap();
    }
    let frame = pair.until(|| ready(video.try_read_frame())).unwrap();
    assert_eq!(frame.expect("it came in time").payload(), vec![7; 1_000]);
    assert!(pair.until(|| ready(video.try_read_frame())).unwrap().is_none());
}

#[test]
fn dropping_an_endpoint_tells_its_peers() {
    let mut pair = Pair::new(&Server::new());
    let mut session = pair.connect(&Client::new());
    pair.accepted();
    let Pair { server, mut client, .. } = pair;
    drop(server);
    let error = client.run_until(session.closed()).unwrap();
    assert_eq!(error, CloseReason::Clean);
}

#[test]
fn one_socket_dials_itself() {
    let mut stage = Stage::new();
    let server = Server::new().with_publish(stage.origin.consume());
    let (mut endpoint, trust) = listen(&server);
    let received = Origin::default().produce();
    let client = Client::new().with_consume(received.clone());
    let addr = endpoint.local_addr().unwrap();
    let config = config::client(&trust, client.versions()).unwrap();
    endpoint.dial(addr, "localhost", config, &client).unwrap();
    let frame = endpoint
        .run_until(async {
            let mut received = received.consume();
            let broadcast = received.announced_broadcast("room/alice").await.unwrap();
            let mut video = broadcast.subscribe_track("video", all()).unwrap();
            stage.track.used().await.unwrap();
            stage.track.write_frame(0_u64, "to myself").unwrap();
            video.read_frame().await.unwrap().unwrap()
        })
        .unwrap();
    assert_eq!(frame.payload(), b"to myself");
}

#[test]
fn failed_connections_are_reported() {
    // Not the certificate that is pinned.
    let mut pair = Pair::new(&Server::new());
    pair.trust = Identity::self_signed(["localhost"]).unwrap().fingerprint().into();
    pair.dial(&Client::new());
    assert!(matches!(pair.failed(), ConnectionError::TransportError(_)));

    // No version in common.
    let mut pair = Pair::new(&Server::new().with_versions(Version::Lite06));
    let client = Client::new().with_versions(Version::Lite03);
    pair.dial(&client);
    assert!(matches!(pair.failed(), ConnectionError::ConnectionClosed(_)));

    // Nor on WebTransport.
    CARRIER.set(Carrier::WebTransport);
    let mut pair = Pair::new(&Server::new().with_versions(Version::Lite06));
    pair.dial(&client);
    assert!(matches!(pair.failed(), ConnectionError::ApplicationClosed(_)));
    let refused = pair.until_both(|server, _| server.poll_event());
    let Event::Failed { error: DialError::WebTransport(error), .. } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(error, http3::Error::Version);
    CARRIER.set(Carrier::RawQuic);

    // One too many.
    let mut pair = Pair::new(&Server::new());
    pair.server.set_max_connections(1);
    let _session = pair.connect(&Client::new());
    pair.dial(&Client::new());
    assert!(matches!(pair.failed(), ConnectionError::ConnectionClosed(_)));

    // Not a URL, and nothing to dial.
    let config = config::client(&pair.trust, &Versions::default()).unwrap();
    for url in ["http://localhost", "moqt://"] {
        assert!(Endpoint::connect(url, config.clone(), &Client::new()).is_err(), "{url}");
    }
    let mut dialing = Endpoint::connect("moqt://127.0.0.1:0", config, &Client::new()).unwrap();
    let event = dialing.poll_event();
    let Some(Event::Unreachable { error, .. }) = event else { panic!("{event:?}") };
    assert!(error.to_string().starts_with("can't reach 127.0.0.1: 127.0.0.1:0: "), "{error}");
}

/// 01 and 02 share an ALPN, so the version is settled after the handshake.
#[test]
fn set_up_settles_on_a_version() {
    use Version::{Lite01, Lite02};
    let mut stage = Stage::new();
    let server = Server::new().with_publish(stage.origin.consume()).with_versions(Lite01);
    let mut pair = Pair::new(&server);
    let received = Origin::default().produce();
    let client = Client::new().with_versions([Lite02, Lite01]).with_consume(received.clone());
    let session = pair.connect(&client);
    assert_eq!(session.version(), Lite02, "the most wanted, until it is settled");
    pair.subscribe(&received, &mut stage);
    assert_eq!(session.version(), Lite01);

    let mut session = pair.connect(&Client::new().with_versions(Lite02));
    let error = pair.until(|| ready(session.try_closed()));
    assert_eq!(error, CloseReason::Error(Error::Version));
}

#[test]
fn noise_on_the_socket_changes_nothing() {
    let mut pair = Pair::new(&Server::new());
    let _session = pair.connect(&Client::new());
    let noise = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut seed = 1_u32;
    for len in 0..1_400 {
        let bytes: Vec<u8> = (0..len).map(|_| random(&mut seed) as u8).collect();
        noise.send_to(&bytes, pair.addr()).unwrap();
        pair.server.step(Budget::items(16)).unwrap();
    }
    pair.until_quiet();
    assert_eq!(pair.server.connections(), 1);
    pair.connect(&Client::new());
}

#[test]
fn needs_no_async_runtime() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-e", "normal", "--prefix", "none", "-f", "{p} {f}"])
        .args(["-p", "smoq-blocking"])
        .output()
        .unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap();
    assert!(tree.contains("quinn-proto "), "{tree}");
    // The traits of I/O, which web-transport-proto implements, and no runtime.
    let mut tokio = tree.lines().filter(|line| line.starts_with("tokio "));
    assert!(tokio.all(|line| line.ends_with(" bytes,io-util")), "{tree}");
    for runtime in ["async-std ", "smol ", "async-io ", "quinn v"] {
        assert!(!tree.lines().any(|line| line.starts_with(runtime)), "{runtime}");
    }
}

/// A publisher: one broadcast with one track.
struct Stage {
    origin: OriginProducer,
    track: TrackProducer,
    _broadcast: BroadcastProducer,
}

impl Stage {
    fn new() -> Self {
        let origin = Origin::default().produce();
        let mut broadcast = origin.create_broadcast("room/alice").unwrap();
        let track = broadcast.create_track(Track::new("video")).unwrap();
        Self { origin, track, _broadcast: broadcast }
    }
}

/// A socket that listens and one that dials, both stepped by this thread.
struct Pair {
    server: Endpoint,
    client: Endpoint,
    trust: Trust,
    budget: Budget,
}

impl Pair {
    fn new(server: &Server) -> Self {
        let (server, trust) = listen(server);
        let client = Endpoint::new(loopback()).unwrap();
        Self { server, client, trust, budget: Budget::time(Duration::from_millis(1)) }
    }

    fn addr(&self) -> SocketAddr {
        self.server.local_addr().unwrap()
    }

    fn dial(&mut self, client: &Client) {
        let addr = self.addr();
        let config = match CARRIER.get() {
            Carrier::RawQuic => config::client(&self.trust, client.versions()),
            Carrier::WebTransport => config::webtransport_client(&self.trust),
        };
        let config = config.unwrap();
        self.client.dial(addr, "localhost", config, client).unwrap();
    }

    #[track_caller]
    fn connect(&mut self, client: &Client) -> Session {
        self.dial(client);
        match self.until_both(|_, client| client.poll_event()) {
            Event::Connected { session, remote, version, .. } => {
                assert_eq!((remote, version), (self.addr(), session.version()));
                session
            }
            event => panic!("{event:?}"),
        }
    }

    #[track_caller]
    fn accepted(&mut self) -> Session {
        match self.until_both(|server, _| server.poll_event()) {
            Event::Connected { session, .. } => session,
            event => panic!("{event:?}"),
        }
    }

    #[track_caller]
    fn failed(&mut self) -> ConnectionError {
        match self.until_both(|_, client| client.poll_event()) {
            Event::Failed { error: DialError::Connection(error), .. } => error,
            event => panic!("{event:?}"),
        }
    }

    /// Subscribes to the track of `stage` that comes out at `origin`, and sees it arrive there.
    #[track_caller]
    fn subscribe(&mut self, origin: &OriginProducer, stage: &mut Stage) -> TrackConsumer {
        let mut origin = origin.consume();
        let broadcast = self.until(|| ready(origin.try_announced_broadcast("room/alice"))).unwrap();
        let mut track = broadcast.subscribe_track("video", all()).unwrap();
        self.until(|| ready(stage.track.try_used())).unwrap();
        self.until(|| ready(track.try_info())).unwrap();
        track
    }

    #[track_caller]
    fn until<T>(&mut self, mut done: impl FnMut() -> Option<T>) -> T {
        self.until_step(|_, _| done())
    }

    #[track_caller]
    fn until_both<T>(
        &mut self,
        mut done: impl FnMut(&mut Endpoint, &mut Endpoint) -> Option<T>,
    ) -> T {
        let mut patience = Patience::new();
        loop {
            if let Some(value) = done(&mut self.server, &mut self.client) {
                return value;
            }
            let (server, client) = self.step();
            patience.check(server.items + client.items);
        }
    }

    /// `done` gets the results of the server's and of the client's step.
    #[track_caller]
    fn until_step<T>(&mut self, mut done: impl FnMut(Step, Step) -> Option<T>) -> T {
        let mut patience = Patience::new();
        loop {
            let (server, client) = self.step();
            if let Some(value) = done(server, client) {
                return value;
            }
            patience.check(server.items + client.items);
        }
    }

    /// Until nothing happens any more, late acknowledgements included.
    #[track_caller]
    fn until_quiet(&mut self) {
        let mut quiet = 0;
        self.until_step(|server, client| {
            quiet = if server.items + client.items == 0 { quiet + 1 } else { 0 };
            (quiet == 100).then_some(())
        });
    }

    /// One step of each; where nothing happened, a moment for the other end's packets.
    fn step(&mut self) -> (Step, Step) {
        let steps =
            (self.server.step(self.budget).unwrap(), self.client.step(self.budget).unwrap());
        if steps.0.items + steps.1.items == 0 {
            self.client.wait(Some(Duration::from_millis(1))).unwrap();
        }
        steps
    }
}

/// A wait that fails instead of hanging. Its failure names the line that waits.
struct Patience {
    begun: Instant,
    progress: Instant,
}

impl Patience {
    fn new() -> Self {
        let now = Instant::now();
        Self { begun: now, progress: now }
    }

    /// Both ends did so many things.
    #[track_caller]
    fn check(&mut self, items: usize) {
        let now = Instant::now();
        if items > 0 {
            self.progress = now;
        }
        let (quiet, whole) = (now - self.progress, now - self.begun);
        assert!(quiet < Duration::from_secs(10), "waits here in vain: nothing happens");
        assert!(whole < Duration::from_secs(60), "waits here in vain: it never comes");
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A socket that listens, and the trust of its clients.
fn listen(server: &Server) -> (Endpoint, Trust) {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let config = config::server(&identity, server.versions()).unwrap();
    let endpoint = Endpoint::bind(loopback(), config, server).unwrap();
    (endpoint, identity.fingerprint().into())
}

/// Every group, however old.
fn all() -> Subscription {
    Subscription::default().max_age(Duration::MAX)
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Keeps 19 datagrams of 20, which ones depends on `seed` alone.
fn lossy(seed: u32) -> impl FnMut(&[u8]) -> bool {
    lossy_in(seed, 20)
}

/// Loses one in `n`.
fn lossy_in(mut seed: u32, n: u32) -> impl FnMut(&[u8]) -> bool {
    move |_| random(&mut seed) % n != 0
}

/// Numerical Recipes' linear congruential generator.
fn random(seed: &mut u32) -> u32 {
    *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    *seed >> 16
}
