use smoq::{CloseReason, Error};

use super::*;

/// A client that reads the track to the end of each test.
struct Beside {
    reader: TrackConsumer,
    written: u64,
}

impl Beside {
    fn new(stage: &mut Stage) -> Self {
        let received = Origin::default().produce();
        stage.dial(&Client::new().with_consume(received.clone()));
        stage.connected();
        Self { reader: stage.subscribe(&received), written: 0 }
    }

    /// Its session goes on.
    fn goes_on(&mut self, stage: &mut Stage) {
        self.written += 1;
        stage.track.write_frame(0_u64, self.written.to_be_bytes().to_vec()).unwrap();
        let frame = stage.until(|_| ready(self.reader.try_read_frame())).unwrap().unwrap();
        assert_eq!(frame.payload(), self.written.to_be_bytes());
    }
}

/// A frame of a client (RFC 6455, section 5.2), with a mask of zeros.
fn message(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len();
    let head = match len {
        0..126 => vec![first, 0x80 | len as u8],
        126..0x1_0000 => [&[first, 0x80 | 126][..], &(len as u16).to_be_bytes()].concat(),
        _ => [&[first, 0x80 | 127][..], &(len as u64).to_be_bytes()].concat(),
    };
    [&head[..], &[0; 4], payload].concat()
}

const BINARY: u8 = 0x82;

/// The transport parameters of a client: it may be sent 1 MiB on 100 streams.
pub(crate) const PARAMETERS: [u8; 37] = [
    0xff, 0x51, 0x53, 0x30, 0x0d, 0x0a, 0x0d, 0x0a, 28, 4, 4, 0x80, 0x10, 0, 0, 5, 4, 0x80, 0x10,
    0, 0, 7, 4, 0x80, 0x10, 0, 0, 8, 2, 0x40, 100, 9, 2, 0x40, 100, 0x11, 0,
];

fn closed(stage: &mut Stage) -> CloseReason {
    match stage.event() {
        Event::Closed { reason, .. } => reason,
        event => panic!("{event:?}"),
    }
}

#[test]
fn hostile_messages_close_their_own_session() {
    let mut stage = Stage::new();
    let mut beside = Beside::new(&mut stage);
    let websocket = "a message that is not allowed on this WebSocket";
    let too_large = message(BINARY, &[0; smoq_qmux::RECORD_BYTES + 1]);
    let fragments = [message(0x02, &[0; 16_000]), message(0x80, &[0; 16_000])].concat();
    for (bytes, rule) in [
        (message(0x81, b"text"), "a text message"),
        (message(0x81, b"\xff\xff"), websocket),
        (message(BINARY, &[0xff]), "a frame that can't be decoded"),
        (message(BINARY, &[8, 0, 1]), "transport parameters late, or twice"),
        (
            [message(BINARY, &PARAMETERS), message(BINARY, &[8, 3, 1])].concat(),
            "a frame for a stream that can't have it",
        ),
        // Not masked.
        (vec![BINARY, 1, 0], websocket),
        // A reserved bit, a reserved opcode, and a length of 2^63-1.
        (message(0xc2, &[]), websocket),
        (message(0x8f, &[]), websocket),
        ([&[BINARY, 0xff, 0x7f][..], &[0xff; 7], &[0; 4]].concat(), websocket),
        (too_large, websocket),
        (fragments, websocket),
        // A ping of more than 125 bytes.
        (message(0x89, &[0; 126]), websocket),
    ] {
        let (mut stream, answer) = stage.request(&upgrade("/", "qmux-02.moq-lite-05"));
        assert!(answer.starts_with("HTTP/1.1 101"));
        let _session = stage.connected();
        stream.write_all(&bytes).unwrap();
        let reason = closed(&mut stage);
        assert_eq!(reason, CloseReason::from(Error::ProtocolViolation(rule)), "{:?}", &bytes[..3]);
        beside.goes_on(&mut stage);
        drop(stream);
        stage.until(|stage| (stage.net.connections() == 1).then_some(()));
    }
}

/// At each byte of the second message.
#[test]
fn a_peer_that_vanishes_in_the_middle_of_a_frame_is_lost() {
    let mut stage = Stage::new();
    let mut beside = Beside::new(&mut stage);
    let second = message(BINARY, &[0x10, 0x40, 100, 8, 0, 1, 1, 0]);
    for cut in 0..second.len() {
        let (mut stream, _) = stage.request(&upgrade("/", "qmux-02.moq-lite-05"));
        let session = stage.connected();
        stream.write_all(&message(BINARY, &PARAMETERS)).unwrap();
        stream.write_all(&second[..cut]).unwrap();
        stage.until_quiet();
        // FIN, or RST because there is something unread.
        drop(stream);
        assert_eq!(closed(&mut stage), CloseReason::from(Error::Disconnected), "{cut}");
        assert!(ready(session.clone().try_closed()).is_some());
        beside.goes_on(&mut stage);
        stage.until(|stage| (stage.net.connections() == 1).then_some(()));
    }
}

/// Messages arrive byte by byte, in fragments, and with pings between them.
#[test]
fn a_session_runs_however_its_bytes_arrive() {
    let mut stage = Stage::new();
    let (mut stream, _) = stage.request(&upgrade("/", "qmux-01.moq-lite-04"));
    let session = stage.connected();
    // The fragments are one message.
    let (first, rest) = PARAMETERS.split_at(11);
    let fragments = [message(0x02, first), message(0x89, b"ping"), message(0x80, rest)].concat();
    // Stream type and SUBSCRIBE of moq-lite 04.
    let subscribe = [&[8, 0, 2, 18, 0, 4][..], b"live\x05video\x02\x00\x7f\xff\x00\x00"].concat();
    for byte in [fragments, message(BINARY, &subscribe)].concat() {
        stream.write_all(&[byte]).unwrap();
        stage.step();
    }
    stage.until(|_| (session.gauges().serving == 1).then_some(()));
    stage.track.write_frame(0_u64, "the news").unwrap();
    let mut got = Vec::new();
    stage.until(|_| {
        let mut bytes = [0; 1_000];
        let len = stream.read(&mut bytes).unwrap_or(0);
        got.extend_from_slice(&bytes[..len]);
        got.windows(8).any(|it| it == b"the news").then_some(())
    });
    assert!(got.windows(4).any(|it| it == b"ping"));
}

/// A client that stops to read its socket costs the buffers of the system and a few records, whatever is published. The
/// others get everything.
#[test]
fn a_client_that_reads_nothing_stalls_nobody() {
    let mut stage = Stage::new();
    let mut beside = Beside::new(&mut stage);
    let received = Origin::default().produce();
    let at = stage.dial(&Client::new().with_consume(received.clone()));
    stage.connected();
    let mut slow = stage.subscribe(&received);
    stage.until_quiet();
    stage.clients[at].is_stalled = true;
    // Fills the buffers of the system.
    let memory = allocation_counter::measure(|| {
        for n in 0..400_u64 {
            stage.track.write_frame(n, vec![0; 50_000]).unwrap();
            let frame = stage.until(|_| ready(beside.reader.try_read_frame())).unwrap().unwrap();
            assert_eq!(frame.payload().len(), 50_000);
        }
    });
    println!("{} bytes, {} at most", memory.bytes_current, memory.bytes_max);
    // The track is in the cache of the server and in that of the reader, and not again for the slow client.
    assert!(memory.bytes_max < 2 * 400 * 50_000 + (1 << 20), "{}", memory.bytes_max);
    assert!(stage.net.poll_event().is_none());
    beside.goes_on(&mut stage);
    // It goes on as well, in the end with the newest.
    stage.clients[at].is_stalled = false;
    stage.until(|_| {
        let frame = ready(slow.try_read_frame())?.unwrap().unwrap();
        (frame.payload() == beside.written.to_be_bytes()).then_some(())
    });
}

/// Small messages as fast as the system takes them. Others go on meanwhile.
#[test]
fn a_flood_of_messages_takes_turns() {
    let mut stage = Stage::new();
    let mut beside = Beside::new(&mut stage);
    let mut flood = Vec::new();
    for first in [0x89, 0x8a, BINARY, BINARY] {
        flood.extend(message(first, &[0; 2]).repeat(1_000));
    }
    // Empty fragments, which are no message until the last one.
    flood.extend(message(0x02, &[]));
    flood.extend(message(0x00, &[]).repeat(10_000));
    flood.extend(message(0x80, &[]));
    let (mut stream, _) = stage.request(&upgrade("/", "qmux-02.moq-lite-04"));
    let session = stage.connected();
    stream.write_all(&message(BINARY, &PARAMETERS)).unwrap();
    let (mut sent, mut most) = (0, 0);
    for n in 0..1_000_000 {
        while let Ok(more @ 1..) = stream.write(&flood[sent % flood.len()..]) {
            sent += more;
        }
        // Pongs are answers that have to be read.
        while let Ok(1..) = stream.read(&mut [0; 10_000]) {}
        most = most.max(stage.step().0.items);
        if n % 10 == 0 {
            beside.goes_on(&mut stage);
        }
        if sent > 20 * flood.len() {
            break;
        }
    }
    // The budget, and one turn more.
    assert!(most < 64 + 128, "{most}");
    assert!(ready(session.clone().try_closed()).is_none(), "{sent}");
}

/// The memory of the server alone, in bytes.
#[test]
fn an_idle_session_is_small() {
    const SESSIONS: i64 = 50;
    let mut stage = Stage::new();
    let mut kept = Vec::new();
    let info = allocation_counter::measure(|| {
        for _ in 0..SESSIONS {
            let (mut stream, _) = stage.request(&upgrade("/", "qmux-02.moq-lite-04"));
            stream.write_all(&message(BINARY, &PARAMETERS)).unwrap();
            kept.push((stream, stage.connected()));
        }
        stage.until_quiet();
    });
    let each = info.bytes_current / SESSIONS;
    println!("{each} bytes");
    assert!(each < 64 << 10, "{each} bytes");
    assert!(each > 10 << 10, "{each} bytes: that is not all of it");
}

/// All of them read one track, and are ended by either side, or by nobody.
#[test]
fn hundreds_of_sessions_leave_nothing() {
    let mut stage = Stage::new();
    // Tables grow for the first ones, and stay.
    crowd(&mut stage);
    let info = allocation_counter::measure(|| crowd(&mut stage));
    println!("{} bytes are left of {}", info.bytes_current, info.bytes_max);
    assert!(info.bytes_current < 32 << 10, "{} bytes are left", info.bytes_current);
    assert!(info.bytes_max > 1 << 20, "{} bytes: that is not all of it", info.bytes_max);
}

fn crowd(stage: &mut Stage) {
    let origins: Vec<_> = (0..150).map(|_| Origin::default().produce()).collect();
    let mut there = Vec::new();
    let mut readers = Vec::new();
    for origin in &origins {
        stage.dial(&Client::new().with_consume(origin.clone()));
        there.push(stage.connected());
        readers.push(stage.subscribe(origin));
    }
    let is_served = |session: &Session| session.gauges().serving == 1;
    stage.until(|_| there.iter().all(is_served).then_some(()));
    stage.track.write_frame(0_u64, vec![1; 2_000]).unwrap();
    for reader in &mut readers {
        let frame = stage.until(|_| ready(reader.try_read_frame())).unwrap().unwrap();
        assert!(frame.payload() == [1; 2_000]);
    }
    drop(readers);
    there[..50].iter().for_each(Session::drain);
    stage.clients[50..100].iter().for_each(|client| client.session.drain());
    // These vanish.
    stage.clients.truncate(100);
    let mut closed = 0;
    while closed < there.len() {
        let Event::Closed { .. } = stage.event() else { panic!("no end") };
        closed += 1;
    }
    stage.until(|stage| (stage.net.connections() == 0).then_some(()));
    stage.clients.clear();
}
