//! SETUP and the start of a session (wire-lite 1.4, 6.2).

use super::*;

/// Both sides say who they are, and wait for nothing before they do.
#[test]
fn setup_goes_both_ways() {
    on_every_link(|version, link| {
        let mut pair = pair(version, link);
        pair.run_until_idle();
        let streams = usize::from(Features::of(version).setup);
        for side in [Side::Client, Side::Server] {
            assert_eq!(
                pair.trace().lines().iter().filter(|line| line.ends_with(": open")).count(),
                2 * streams
            );
            assert_eq!(pair.streams(side, Dir::Uni), 0, "SETUP was finished");
        }
        assert!(!pair.client.machine.is_closed() && !pair.server.machine.is_closed());
        assert_eq!(pair.client.take_events(), []);
    });
}
