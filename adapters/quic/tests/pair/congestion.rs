//! A server that sends as much as it can: the part of a path that it uses, and the packets that it loses.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use smoq_quic::config;
use smoq_quic::quinn_proto::congestion::CubicConfig;
use smoq_quic::quinn_proto::{Dir, StreamId, TransportConfig};

use crate::{Pair, Path, configs, start, step};

/// Bytes per second: 20 Mbit/s.
const RATE: u64 = 2_500_000;
/// Of each direction.
const LATENCY: Duration = millis(20);

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn path() -> Path {
    Path { rate: RATE, queue: millis(80), ..Path::new(LATENCY) }
}

fn ours() -> Arc<TransportConfig> {
    Arc::new(config::transport())
}

/// The default of quinn.
fn cubic() -> Arc<TransportConfig> {
    let mut transport = config::transport();
    transport.congestion_controller_factory(Arc::new(CubicConfig::default()));
    Arc::new(transport)
}

/// The packets that arrived, or were lost.
struct Sent {
    /// The bytes of each second, of each flow.
    bytes: Vec<Vec<u64>>,
    /// The lost packets of a thousand.
    lost: u64,
}

impl Sent {
    /// The part of 20 Mbit/s in percent that a flow used in these seconds.
    fn part(&self, flow: usize, seconds: Range<usize>) -> u64 {
        let time = seconds.len() as u64;
        self.bytes[flow][seconds].iter().sum::<u64>() * 100 / (time * RATE)
    }
}

/// Sends for some seconds, on one path for all flows. `change` may change it, and what is at its ends, in each second.
fn send_while(
    flows: &[Arc<TransportConfig>],
    path: Path,
    seconds: u64,
    mut change: impl FnMut(u64, &mut Path, &mut Pair),
) -> Sent {
    let (begun, path) = (start(), Rc::new(RefCell::new(path)));
    let pair = |transport: &Arc<TransportConfig>| {
        let (client, mut server) = configs();
        server.transport_config(Arc::clone(transport));
        let forth = Rc::new(RefCell::new(Path::new(LATENCY)));
        Pair::beside(begun, client, server, [forth, Rc::clone(&path)])
    };
    let mut pairs: Vec<_> = flows.iter().map(pair).collect();
    let mut streams = vec![None; flows.len()];
    let mut bytes = vec![Vec::new(); flows.len()];
    loop {
        let second = (pairs[0].now - begun).as_secs();
        if second >= seconds {
            let Path { packets, lost, .. } = *path.borrow();
            return Sent { bytes, lost: lost * 1_000 / packets };
        }
        change(second, &mut path.borrow_mut(), &mut pairs[0]);
        for ((pair, stream), bytes) in pairs.iter_mut().zip(&mut streams).zip(&mut bytes) {
            bytes.resize(second as usize + 1, 0);
            bytes[second as usize] += write_and_read(pair, stream);
        }
        step(&mut pairs);
    }
}

/// Lets the server write what its window takes. The bytes that the client reads.
fn write_and_read(pair: &mut Pair, stream: &mut Option<StreamId>) -> u64 {
    let Some(server) = pair.server.connection().filter(|it| !it.is_handshaking()) else { return 0 };
    let stream = *stream.get_or_insert_with(|| server.streams().open(Dir::Uni).unwrap());
    let _ = server.send_stream(stream).write(&[7; 64 << 10]);
    let mut recv = pair.client.connection().unwrap().recv_stream(stream);
    let Ok(mut chunks) = recv.read(true) else { return 0 };
    let mut read = 0;
    while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
        read += chunk.bytes.len() as u64;
    }
    let _ = chunks.finalize();
    read
}

/// The part of the path in percent that arrives within 20 seconds, after two that are not counted, and the lost packets of
/// a thousand.
fn used(transport: Arc<TransportConfig>, path: Path) -> (u64, u64) {
    let sent = send_while(&[transport], path, 22, |_, _, _| ());
    (sent.part(0, 2..22), sent.lost)
}

#[test]
fn random_loss_on_a_long_path_costs_little() {
    let path = |losses| Path { losses, queue: Duration::MAX, ..path() };
    for losses in [1, 10, 20] {
        let (ours, _) = used(ours(), path(losses));
        assert!(ours >= 88, "{ours} % with {losses} of 1,000 lost");
    }
    let (theirs, _) = used(cubic(), path(10));
    assert!(theirs <= 30, "{theirs} %: the path is no test");
}

/// A window that outgrows the path is not reduced soon: packets are lost, but none of them because of the window.
#[test]
fn random_loss_on_a_fast_path_ends_slow_start() {
    let path = Path { rate: 10 * RATE, losses: 1, ..path() };
    let ours = send_while(&[ours()], path, 7, |_, _, _| ()).part(0, 2..7) / 10;
    assert!(ours >= 85, "{ours} % of 200 Mbit/s");
}

#[test]
fn a_queue_that_overflows_is_congestion() {
    for queue in [10, 20, 60, 200].map(millis) {
        let path = || Path { queue, ..path() };
        let ((ours, lost), (theirs, by_cubic)) = (used(ours(), path()), used(cubic(), path()));
        assert!(ours >= 90 && ours + 2 >= theirs, "{ours} %, quinn {theirs} %");
        assert!(lost <= by_cubic + 3, "{lost} of 1,000 lost, quinn {by_cubic}");
    }
}

/// A policer drops what comes too fast, and keeps nothing.
#[test]
fn heavy_loss_is_congestion_without_a_queue() {
    let (ours, lost) = used(ours(), Path { queue: millis(2), ..path() });
    assert!(ours >= 80 && lost <= 30, "{ours} %, {lost} of 1,000 lost");
}

/// The packets of a flow wait for half a second, and never for less than a third of it.
#[test]
fn the_queue_of_the_flow_itself_is_no_longer_path() {
    let lost = |transport| {
        let (mut early, mut late) = (0, 0);
        send_while(&[transport], Path { queue: millis(500), ..path() }, 100, |second, path, _| {
            let lost = if second < 20 { &mut early } else { &mut late };
            *lost = path.lost;
        });
        late - early
    };
    let (ours, theirs) = (lost(ours()), lost(cubic()));
    assert!(theirs > 50, "{theirs} lost: no queue overflows");
    assert!(ours <= theirs + theirs / 4, "{ours} packets lost, quinn {theirs}");
}

#[test]
fn a_path_that_became_longer_is_used_again() {
    let lengthens = |transport| {
        let path = Path { losses: 10, queue: millis(200), ..path() };
        send_while(&[transport], path, 60, |second, path, _| {
            path.latency = millis(if second < 10 { 20 } else { 80 });
        })
    };
    let ours = lengthens(ours());
    let (before, after) = (ours.part(0, 2..10), ours.part(0, 40..60));
    assert!(before >= 85 && after >= 80, "{before} %, then {after} %");
    let theirs = lengthens(cubic()).part(0, 40..60);
    assert!(theirs <= 20, "{theirs} %: the path is no test");
}

/// A client with another address has another path: quinn begins anew.
#[test]
fn the_path_of_a_client_that_moved_is_used_at_once() {
    let path = Path { losses: 10, queue: millis(200), ..path() };
    let ours = send_while(&[ours()], path, 20, |second, path, pair| {
        if second == 10 {
            path.latency = millis(80);
            pair.client.address = ([10, 0, 0, 3], 1).into();
        }
    });
    let after = ours.part(0, 13..20);
    assert!(after >= 80, "{after} %");
}

#[test]
fn random_loss_on_a_path_whose_delay_varies_costs_little() {
    let path = |jitter_lasts| {
        let (latency, jitter) = (millis(5), millis(30));
        Path { losses: 10, latency, jitter, jitter_lasts, ..path() }
    };
    for lasts in [0, 5, 20, 50].map(millis) {
        let (ours, _) = used(ours(), path(lasts));
        assert!(ours >= 80, "{ours} %, the delay lasts {lasts:?}");
        let (theirs, _) = used(cubic(), path(lasts));
        assert!(theirs <= 30, "{theirs} %: the path is no test");
    }
}

/// A packet that three others overtake counts as lost (RFC 9002, section 6.1.1).
#[test]
fn packets_that_are_overtaken_cost_little() {
    let path = || Path { late_packets: 10, late: millis(10), ..path() };
    let ((ours, _), (theirs, _)) = (used(ours(), path()), used(cubic(), path()));
    assert!(ours >= 85, "{ours} %");
    assert!(theirs <= 50, "{theirs} %: the path is no test");
}

/// The queue holds a quarter, a half and twice of what the path does.
#[test]
fn a_flow_shares_a_path_with_others() {
    for queue in [10, 20, 80].map(millis) {
        for other in [cubic(), ours()] {
            let path = Path { queue, ..path() };
            let sent = send_while(&[ours(), other], path, 65, |_, _, _| ());
            let (ours, theirs) = (sent.part(0, 5..65), sent.part(1, 5..65));
            assert!(ours >= 30 && theirs >= 30, "{ours} %, the other {theirs} %, {queue:?}");
            assert!(ours + theirs >= 90, "{ours} % and {theirs} %");
        }
    }
}

#[test]
fn a_path_that_was_silent_is_used_again() {
    for losses in [0, 10] {
        let sent = send_while(&[ours()], path(), 28, |second, path, _| {
            path.losses = if (10..13).contains(&second) { 1_000 } else { losses };
        });
        let after = sent.part(0, 18..28);
        assert!(after >= 80, "{after} % with {losses} of 1,000 lost");
    }
}

#[test]
fn a_path_that_was_slow_is_used_again() {
    for losses in [0, 10] {
        let sent = send_while(&[ours()], Path { losses, ..path() }, 50, |second, path, _| {
            path.rate = if (10..30).contains(&second) { RATE / 10 } else { RATE };
        });
        let (slow, after) = (sent.part(0, 12..30), sent.part(0, 40..50));
        assert!(slow >= 8 && after >= 85, "{slow} % of 10 %, then {after} %");
    }
}

#[test]
fn a_path_that_lost_many_packets_is_used_again() {
    let lossy = |transport| {
        send_while(&[transport], path(), 35, |second, path, _| {
            path.losses = if (10..15).contains(&second) { 100 } else { 0 };
        })
    };
    let (ours, theirs) = (lossy(ours()), lossy(cubic()));
    let after = ours.part(0, 25..35);
    assert!(after >= 90, "{after} %");
    let [ours, theirs] = [ours, theirs].map(|it| it.part(0, 10..25));
    assert!(ours >= theirs, "{ours} % while it loses and after it, quinn {theirs} %");
}
