//! The peer's view of the path to us (PROBE), as applications see it.

use std::task::Poll;
use std::time::Duration;

use smoq::machine::{Input, NetworkPath};
use smoq::sim::{Endpoint, Link, Pair, Wakes};
use smoq::stream::{Dir, Side};
use smoq::{Client, Driver, Error, Instant, PathEstimate, Server, Session, Version, Versions};

/// The client subscribes to PROBE, and the server reports its path.
struct World {
    pair: Pair<Driver, Driver>,
    near: Session,
    far: Session,
}

impl World {
    fn new(version: Version, link: Link) -> Self {
        let (near, client) = Client::new().connect(version, Instant::ZERO);
        let (far, server) = Server::new().accept(version, Instant::ZERO);
        let mut pair = Pair::new(client, server, link);
        // The handshake is over, and its timer too.
        pair.advance(Duration::from_secs(11));
        Self { pair, near, far }
    }

    fn report_path(&mut self, rate: u64, millis: u64) {
        let rtt = (millis > 0).then(|| Duration::from_millis(millis));
        let bitrate = (rate > 0).then_some(rate * 8);
        let path = NetworkPath { rtt, bitrate, max_datagram: 1_200 };
        let now = self.pair.now();
        Endpoint::handle(&mut self.pair.server, now, Input::NetworkPath(path));
        self.advance(800);
    }

    fn advance(&mut self, millis: u64) {
        self.pair.advance(Duration::from_millis(millis));
    }

    fn deadlines(&self) -> [Option<Instant>; 2] {
        [self.pair.client.poll_timeout(), self.pair.server.poll_timeout()]
    }
}

fn versions() -> impl Iterator<Item = Version> {
    Versions::default().iter().chain(Version::WIP).collect::<Vec<_>>().into_iter()
}

fn can_probe(version: Version) -> bool {
    (Version::Lite03..=Version::Lite07Wip).contains(&version)
}

fn links() -> [Link; 4] {
    [Link::perfect(), Link::wide(3), Link::hostile(4), Link::byte_by_byte(5)]
}

/// `rate` in bytes per second, as adapters report it.
fn estimate(version: Version, rate: u64, millis: u64) -> PathEstimate {
    let rtt = (version > Version::Lite03).then_some(Duration::from_millis(millis));
    PathEstimate { bitrate: Some(rate * 8), rtt }
}

#[test]
fn a_handle_receives_the_first_estimate_and_each_change() {
    for version in versions().filter(|version| can_probe(*version)) {
        for link in links() {
            let mut world = World::new(version, link);
            world.report_path(1_000_000, 40);
            let mut probe = world.near.probe();
            assert_eq!((probe.try_changed(), probe.latest()), (Poll::Pending, None));
            world.advance(800);
            let first = estimate(version, 1_000_000, 40);
            assert_eq!(probe.try_changed(), Poll::Ready(Ok(first)), "{version}");
            assert_eq!((probe.try_changed(), probe.latest()), (Poll::Pending, Some(first)));

            // The same estimate, repeated every 10 s, is not a change.
            world.advance(25_000);
            assert_eq!(probe.try_changed(), Poll::Pending, "{version}");
            world.report_path(2_000_000, 30);
            let second = estimate(version, 2_000_000, 30);
            assert_eq!(probe.try_changed(), Poll::Ready(Ok(second)), "{version}");
            // Only the newest estimate is delivered.
            world.report_path(500_000, 30);
            world.report_path(3_000_000, 30);
            let third = estimate(version, 3_000_000, 30);
            assert_eq!(probe.try_changed(), Poll::Ready(Ok(third)), "{version}");
            // A change of less than a quarter is not reported at once.
            world.report_path(3_500_000, 30);
            assert_eq!(probe.try_changed(), Poll::Pending, "{version}");
            world.advance(10_000);
            let fourth = estimate(version, 3_500_000, 30);
            assert_eq!(probe.try_changed(), Poll::Ready(Ok(fourth)), "{version}");

            // The path is unknown again.
            world.report_path(0, 0);
            assert_eq!(probe.try_changed(), Poll::Ready(Ok(PathEstimate::default())));
        }
    }
}

/// Without a handle there is no request and no timer.
#[test]
fn without_a_handle_nothing_is_requested() {
    for version in versions() {
        for link in links() {
            let mut world = World::new(version, link);
            world.report_path(1_000_000, 40);
            world.advance(20_000);
            assert_eq!(world.deadlines(), [None; 2], "{version}");
            let before = world.pair.streams(Side::Client, Dir::Bi);
            let sent = world.far.stats().bytes_sent;

            let probe = world.near.probe();
            let second = probe.clone();
            world.advance(800);
            let is_asked = can_probe(version);
            let asked = world.pair.streams(Side::Client, Dir::Bi);
            assert_eq!(asked, before + usize::from(is_asked), "{version}");
            assert_eq!(world.deadlines()[1].is_some(), is_asked, "{version}");
            drop(probe);
            world.advance(800);
            assert_eq!(world.pair.streams(Side::Client, Dir::Bi), asked, "one handle is left");
            drop(second);
            world.advance(800);
            assert_eq!(world.pair.streams(Side::Client, Dir::Bi), before, "{version}");
            assert_eq!(world.deadlines(), [None; 2], "{version}");
            assert!(world.far.stats().bytes_sent - sent <= 10, "{version}: one report");

            // A later handle sees the current estimate, not an old one.
            world.report_path(2_000_000, 40);
            let mut probe = world.near.probe();
            assert_eq!(probe.latest(), None, "{version}");
            world.advance(800);
            if is_asked {
                let news = estimate(version, 2_000_000, 40);
                assert_eq!(probe.try_changed(), Poll::Ready(Ok(news)), "{version}");
            }
            // Replacing a handle by another one keeps the stream.
            drop(probe);
            let mut probe = world.near.probe();
            assert!(probe.try_changed().is_ready(), "{version}");
        }
    }
}

#[test]
fn waiting_fails_if_the_version_has_no_probe() {
    for version in versions().filter(|version| !can_probe(*version)) {
        let mut world = World::new(version, Link::wide(2));
        world.report_path(1_000_000, 40);
        let mut probe = world.near.probe();
        world.advance(800);
        assert_eq!(probe.try_changed(), Poll::Ready(Err(Error::Unsupported)), "{version}");
        drop(probe);
        let mut probe = world.near.probe();
        assert_eq!(probe.try_changed(), Poll::Ready(Err(Error::Unsupported)), "{version}");
        assert_eq!(probe.latest(), None);
    }
}

#[test]
fn a_waiter_is_woken_by_changes_and_by_the_end() {
    let mut world = World::new(Version::Lite06, Link::perfect());
    let mut probe = world.near.probe();
    let mut other = probe.clone();
    let wakes = Wakes::new();
    let mut cx = wakes.context();
    assert!(probe.poll_changed(&mut cx).is_pending());
    world.report_path(1_000_000, 40);
    assert_eq!(wakes.count(), 1);
    let news = estimate(Version::Lite06, 1_000_000, 40);
    assert_eq!(probe.poll_changed(&mut cx), Poll::Ready(Ok(news)));
    assert_eq!(other.try_changed(), Poll::Ready(Ok(news)), "each handle sees every change");
    assert!(probe.poll_changed(&mut cx).is_pending());
    world.report_path(1_000_000, 40);
    assert_eq!(wakes.count(), 1, "no change");

    // A handle does not keep the session alive, and learns of its end.
    let World { mut pair, near, far } = world;
    drop(near);
    pair.advance(Duration::from_secs(2));
    assert_eq!(wakes.count(), 2);
    assert_eq!(probe.poll_changed(&mut cx), Poll::Ready(Err(Error::SessionClosed)));
    assert_eq!(probe.latest(), None);
    let mut late = far.probe();
    assert_eq!(late.try_changed(), Poll::Ready(Err(Error::SessionClosed)));
    drop(pair);
    drop(late);
}
