//! Announce requests of a peer that reads no answers.

use allocation_counter::measure;
use smoq::{Origin, Version};

use crate::unread::UnreadServer;

/// The memory that announce requests hold while their answers are not read.
fn held(version: Version, requests: usize, broadcasts: usize, writes: usize) -> i64 {
    let origin = Origin::default().produce();
    let kept: Vec<_> =
        (0..broadcasts).map(|at| origin.create_broadcast(format!("room/{at}")).unwrap()).collect();
    let mut peer = UnreadServer::new(version, &origin, requests);
    let info = measure(|| {
        peer.work();
        for _ in 0..writes {
            let Some(write) = peer.server.poll_write() else { break };
            // QUIC accepts nothing.
            write.blocked(0);
            peer.work();
        }
    });
    drop(kept);
    info.bytes_current
}

#[test]
fn unread_announce_requests_hold_only_a_cursor_each() {
    for version in Version::known().filter(|it| (Version::Lite03..Version::Moqt14).contains(it)) {
        for writes in [0, 200] {
            let few = held(version, 64, 1_000, writes);
            let many = held(version, 64, 10_000, writes);
            assert!(many < 4 << 20, "{version}: {many} bytes after {writes} writes");
            assert!(many < few + few / 4 + 4_096, "{version}: {few} and {many} bytes");
        }
    }
}
