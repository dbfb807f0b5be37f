//! A server that sends as much as it can: the part of a path that it uses, and the packets that it loses.

use std::sync::Arc;
use std::time::Duration;

use smoq_quic::config;
use smoq_quic::quinn_proto::congestion::CubicConfig;
use smoq_quic::quinn_proto::{Dir, TransportConfig};

use crate::{Pair, Path, configs};

/// Bytes per second: 20 Mbit/s.
const RATE: u64 = 2_500_000;
const LATENCY: Duration = Duration::from_millis(20);

/// The part of the path in percent that arrives within 20 seconds, after two that are not counted, and the lost packets of
/// a thousand.
fn used(transport: TransportConfig, path: Path) -> (u64, u64) {
    let (client, mut server) = configs();
    server.transport_config(Arc::new(transport));
    let mut pair = Pair::new(client, server, [Path::new(LATENCY), path]);
    while pair.server.connection().is_none_or(|it| it.is_handshaking()) {
        pair.step();
    }
    let stream = pair.server.connection().unwrap().streams().open(Dir::Uni).unwrap();
    let (data, begun) = ([7; 64 << 10], pair.now);
    let (mut received, mut counted) = (0, 0);
    while pair.now - begun < Duration::from_secs(22) {
        let _ = pair.server.connection().unwrap().send_stream(stream).write(&data);
        pair.step();
        let client = pair.client.connection().unwrap();
        let mut recv = client.recv_stream(stream);
        let Ok(mut chunks) = recv.read(true) else { continue };
        while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
            received += chunk.bytes.len() as u64;
        }
        let _ = chunks.finalize();
        if pair.now - begun < Duration::from_secs(2) {
            counted = received;
        }
    }
    let Path { packets, lost, rate, .. } = pair.server.path;
    ((received - counted) * 100 / (20 * rate), lost * 1_000 / packets)
}

/// The default of quinn.
fn cubic() -> TransportConfig {
    let mut transport = config::transport();
    transport.congestion_controller_factory(Arc::new(CubicConfig::default()));
    transport
}

#[test]
fn random_loss_on_a_long_path_costs_little() {
    let path = |losses| Path { rate: RATE, losses, ..Path::new(LATENCY) };
    for losses in [1, 10, 20] {
        let (ours, _) = used(config::transport(), path(losses));
        assert!(ours >= 90, "{ours} % with {losses} of 1,000 lost");
    }
    let (theirs, _) = used(cubic(), path(10));
    assert!(theirs <= 30, "{theirs} %: the path is no test");
}

#[test]
fn a_queue_that_overflows_is_congestion() {
    let path = || Path { rate: RATE, queue: Duration::from_millis(60), ..Path::new(LATENCY) };
    let ((ours, lost), (theirs, by_cubic)) =
        (used(config::transport(), path()), used(cubic(), path()));
    assert!(ours >= 90 && ours + 2 >= theirs, "{ours} %, quinn {theirs} %");
    assert!(lost <= by_cubic + 2, "{lost} of 1,000 lost, quinn {by_cubic}");
}

/// A policer drops what comes too fast, and keeps nothing.
#[test]
fn heavy_loss_is_congestion_without_a_queue() {
    let path = Path { rate: RATE, queue: Duration::from_millis(2), ..Path::new(LATENCY) };
    let (ours, lost) = used(config::transport(), path);
    assert!(ours >= 80 && lost <= 30, "{ours} %, {lost} of 1,000 lost");
}
