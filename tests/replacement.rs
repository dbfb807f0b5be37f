//! A broadcast is replaced by another one under its path, or its publisher dies and restarts while its old
//! session is still open. All readers see an end and a beginning at once, and stay with the new broadcast
//! when the old session ends.

mod net;
mod viewer;

use std::task::Poll;

use net::Net;
use smoq::{BroadcastProducer, Error, Hop, Track, TrackConsumer, TrackProducer, Version};
use viewer::{Viewer, latest};

/// Every version, except drafts of moq-transport whose announcements are those of a draft in this list.
const EVERY: [Version; 11] = [
    Version::Lite01,
    Version::Lite02,
    Version::Lite03,
    Version::Lite04,
    Version::Lite05,
    Version::Lite06,
    Version::Lite07Wip,
    Version::Moqt14,
    Version::Moqt16,
    Version::Moqt18,
    Version::Moqt22,
];

/// The hop of the publisher, and its hop after the restart.
const HOPS: [[Hop; 2]; 4] = [
    [Hop::UNKNOWN, Hop::UNKNOWN],
    [Hop::new(1_000), Hop::new(1_001)],
    [Hop::new(1_000), Hop::new(1_000)],
    [Hop::UNKNOWN, Hop::new(1_001)],
];

/// The versions of the links of a row of nodes, from the publisher to a reader: with none, one and three
/// relays, of one version and of several.
fn rows() -> Vec<Vec<Version>> {
    let mut rows = Vec::new();
    for (n, version) in EVERY.into_iter().enumerate() {
        let other = |by: usize| EVERY[(n + by) % EVERY.len()];
        rows.push(vec![version]);
        rows.push(vec![version, other(4)]);
        rows.push(vec![version; 4]);
        rows.push(vec![other(5), version, other(2), other(7)]);
    }
    rows
}

/// A broadcast with a clock, whose groups begin with 0.
struct Clock {
    name: &'static str,
    broadcast: BroadcastProducer,
    track: TrackProducer,
    next: u64,
}

impl Clock {
    fn new(net: &Net, node: usize, name: &'static str) -> Self {
        let mut broadcast = net.origins[node].create_broadcast("live").unwrap();
        let track = broadcast.create_track(Track::new("clock")).unwrap();
        Self { name, broadcast, track, next: 0 }
    }

    fn tick(&mut self) {
        let text = format!("{}{}", self.name, self.next);
        self.track.write_frame(self.next * 10, text.into_bytes()).unwrap();
        self.next += 1;
    }
}

struct World {
    row: Vec<Version>,
    viewers: Vec<Viewer>,
    clocks: Vec<Clock>,
    what: String,
    /// The last field, because its drop checks that no state of the others remains.
    net: Net,
}

impl World {
    /// A row of nodes: node 0 publishes, and every other node has a reader.
    fn new(row: &[Version], hop: Hop) -> Self {
        let mut net = Net::new(0);
        net.add(hop);
        for (n, version) in row.iter().enumerate() {
            net.add(Hop::new(n as u64 + 1));
            net.link(n, n + 1, *version);
        }
        let clocks = vec![Clock::new(&net, 0, "a")];
        let viewers = (1..=row.len()).map(|node| Viewer::new(&net, node)).collect();
        let names: Vec<_> = row.iter().map(|version| version.name()).collect();
        let what = format!("{} hop {hop}", names.join(" "));
        let mut world = Self { net, row: row.to_vec(), viewers, clocks, what };
        world.run(2_000);
        world.expect(&[true], "a");
        world
    }

    /// All clocks tick, and all viewers read.
    fn run(&mut self, millis: u64) {
        for _ in 0..millis / 20 {
            self.clocks.iter_mut().for_each(Clock::tick);
            self.net.advance(20);
            self.viewers.iter_mut().for_each(Viewer::look);
        }
    }

    #[track_caller]
    fn expect(&mut self, changes: &[bool], name: &str) {
        for (node, viewer) in self.viewers.iter_mut().enumerate() {
            let expected = (changes.to_vec(), Some(name.to_owned()));
            assert_eq!(viewer.take(), expected, "{}, node {}", self.what, node + 1);
        }
    }

    /// A new reader gets the new broadcast too.
    #[track_caller]
    fn expect_late(&mut self, name: &str) {
        let viewers = (1..=self.row.len()).map(|node| Viewer::new(&self.net, node)).collect();
        let before = std::mem::replace(&mut self.viewers, viewers);
        self.run(1_000);
        for (node, viewer) in self.viewers.iter().enumerate() {
            let all = viewer.seen.iter().all(|text| text.starts_with(name));
            assert!(all, "{}, node {}: {:?}", self.what, node + 1, viewer.seen);
        }
        self.expect(&[true], name);
        self.viewers = before;
        self.run(200);
        self.expect(&[], name);
    }

    /// The session of the killed publisher ends at last, and no reader sees a change.
    #[track_caller]
    fn lose_old_session(&mut self, name: &str) {
        self.net.cut(0);
        self.run(3_000);
        self.expect(&[], name);
    }

    /// Restarts the publisher at a node of the row, with this hop.
    fn restart(&mut self, at: usize, hop: Hop, name: &'static str) -> usize {
        let node = self.net.add(hop);
        self.clocks.push(Clock::new(&self.net, node, name));
        self.net.link_for(node, at, self.row[at - 1], 7)
    }
}

/// The endings of the old broadcast, long after it was replaced.
const ENDS: [fn(&mut Clock); 3] = [
    |clock| clock.broadcast.finish().unwrap(),
    |clock| clock.broadcast.abort(Error::App(3)),
    |_| (),
];

#[test]
fn a_replaced_broadcast_ends_and_begins_for_every_reader() {
    for (n, row) in rows().iter().enumerate() {
        for [hop, _] in &HOPS[..2] {
            let mut world = World::new(row, *hop);
            world.clocks.push(Clock::new(&world.net, 0, "b"));
            world.run(1_000);
            world.expect(&[false, true], "b");
            world.expect_late("b");
            // The old broadcast lived until now.
            let mut old = world.clocks.remove(0);
            ENDS[n % ENDS.len()](&mut old);
            drop(old);
            world.run(3_000);
            world.expect(&[], "b");
        }
    }
}

#[test]
fn replacements_at_the_same_instant_are_one() {
    for row in rows() {
        for [hop, _] in &HOPS[..2] {
            let mut world = World::new(&row, *hop);
            for _ in 0..20 {
                world.clocks.push(Clock::new(&world.net, 0, "b"));
            }
            world.clocks.push(Clock::new(&world.net, 0, "c"));
            world.run(1_000);
            world.expect(&[false, true], "c");
            // The old ones end in any order.
            world.clocks.drain(..20);
            world.run(1_000);
            world.expect(&[], "c");
        }
    }
}

#[test]
fn a_restarted_publisher_is_seen_before_its_old_session_ends() {
    for row in rows() {
        for [old, new] in HOPS {
            let mut world = World::new(&row, old);
            world.what = format!("{} then {new}", world.what);
            world.net.kill(0, 0);
            world.run(500);
            world.restart(1, new, "b");
            world.run(1_000);
            world.expect(&[false, true], "b");
            world.expect_late("b");
            world.lose_old_session("b");
        }
    }
}

/// The publisher starts again at a relay that still shows the old broadcast. It may first connect or first
/// publish, and may also read.
#[test]
fn a_restarted_publisher_may_connect_before_it_publishes() {
    for row in rows() {
        let mut world = World::new(&row, Hop::UNKNOWN);
        world.net.kill(0, 0);
        let node = world.net.add(Hop::UNKNOWN);
        world.net.link_for(node, 1, row[0], 7);
        world.run(500);
        assert!(world.viewers.iter_mut().all(|viewer| viewer.take().0.is_empty()));
        world.clocks.push(Clock::new(&world.net, node, "b"));
        world.run(1_000);
        world.expect(&[false, true], "b");
        // It replaces its broadcast once more.
        world.clocks.push(Clock::new(&world.net, node, "c"));
        world.run(1_000);
        world.expect(&[false, true], "c");
        world.lose_old_session("c");
    }
}

#[test]
fn a_restarted_publisher_may_read_nothing() {
    for row in rows() {
        let mut world = World::new(&row, Hop::UNKNOWN);
        world.net.kill(0, 0);
        let node = world.net.add(Hop::UNKNOWN);
        world.clocks.push(Clock::new(&world.net, node, "b"));
        world.net.publish(node, 1, row[0], 7);
        world.run(1_000);
        world.expect(&[false, true], "b");
        world.lose_old_session("b");
    }
}

/// Two processes publish under one path, and both read. The newer one is shown, and the older one after it ended.
#[test]
fn the_older_of_two_publishers_takes_over_again() {
    for row in rows() {
        let mut world = World::new(&row, Hop::UNKNOWN);
        world.restart(1, Hop::UNKNOWN, "b");
        world.run(1_000);
        world.expect(&[false, true], "b");
        drop(world.clocks.pop());
        world.run(3_000);
        world.expect(&[false, true], "a");
        let node = world.net.origins.len() - 1;
        world.clocks.push(Clock::new(&world.net, node, "c"));
        world.run(1_000);
        world.expect(&[false, true], "c");
    }
}

/// A broadcast is announced under a second path, and another broadcast takes that path.
#[test]
fn a_published_broadcast_is_replaced_too() {
    for row in rows() {
        let mut world = World::new(&row, Hop::new(1_000));
        let other = world.net.add(Hop::UNKNOWN);
        let elsewhere = Clock::new(&world.net, other, "b");
        world.net.origins[0].publish_broadcast("live", &elsewhere.broadcast.consume()).unwrap();
        world.clocks.push(elsewhere);
        world.run(1_000);
        world.expect(&[false, true], "b");
        world.expect_late("b");
        world.clocks.remove(0);
        world.run(1_000);
        world.expect(&[], "b");
    }
}

/// A group is fetched while its publisher dies and starts again. The fetch ends with the old broadcast, and fetches of
/// the new one are answered.
#[test]
fn a_fetch_ends_with_the_broadcast_that_was_replaced() {
    for version in [Version::Lite05, Version::Lite06, Version::Lite07Wip] {
        let mut world = World::new(&[version, version], Hop::new(1_000));
        let mut old = find_track(&world.net);
        world.net.kill(0, 0);
        world.run(100);
        assert!(old.try_fetch_group(1_000_000).is_pending(), "{version}");
        world.restart(1, Hop::new(1_001), "b");
        world.run(1_000);
        world.expect(&[false, true], "b");
        let Poll::Ready(Err(_)) = old.try_fetch_group(1_000_000) else { panic!("{version}") };
        let mut new = find_track(&world.net);
        let first = loop {
            match new.try_fetch_group(0) {
                Poll::Ready(Ok(mut group)) => break group.try_read_frame(),
                Poll::Ready(Err(error)) => panic!("{version}: {error}"),
                Poll::Pending => world.run(20),
            }
        };
        let Poll::Ready(Ok(Some(frame))) = first else { panic!("{version}: {first:?}") };
        assert_eq!(frame.payload(), b"b0", "{version}");
        world.net.cut(0);
    }
}

/// The track at the last node.
fn find_track(net: &Net) -> TrackConsumer {
    let mut consumer = net.origins[2].consume();
    let Poll::Ready(Ok(found)) = consumer.try_request_broadcast("live") else { panic!() };
    found.subscribe_track("clock", latest()).unwrap()
}

/// A handler of a prefix starts again. Later requests reach the new one, although the old session is still open.
#[test]
fn requests_below_a_prefix_reach_the_handler_that_was_started_again() {
    use Version::{Lite06, Lite07Wip};
    for version in
        [Lite06, Lite07Wip, Version::Moqt14, Version::Moqt16, Version::Moqt18, Version::Moqt22]
    {
        for [old, new] in HOPS {
            let mut net = Net::new(0);
            net.add(old);
            for relay in 1..=2 {
                net.add(Hop::new(relay));
                net.link(relay as usize - 1, relay as usize, version);
            }
            let mut store = net.origins[0].dynamic("shows").unwrap();
            net.advance(1_000);
            let mut reader = net.origins[2].consume();
            let mut request = |path: &str| match reader.try_request_broadcast(path) {
                Poll::Ready(Ok(found)) => found.subscribe_track("clock", latest()).unwrap(),
                other => panic!("{version}: {other:?}"),
            };
            let _one = request("shows/1");
            net.advance(500);
            let Poll::Ready(asked) = store.try_requested_broadcast() else { panic!("{version}") };
            assert_eq!(asked.path().as_str(), "shows/1", "{version}");
            let _answered = asked.accept();
            net.kill(0, 0);
            let node = net.add(new);
            let mut again = net.origins[node].dynamic("shows").unwrap();
            net.link_for(node, 1, version, 7);
            net.advance(1_000);
            for path in ["shows/1", "shows/2"] {
                let late = request(path);
                net.advance(500);
                let Poll::Ready(asked) = again.try_requested_broadcast() else {
                    panic!("{version}, {old} then {new}: {path} did not reach it")
                };
                assert_eq!(asked.path().as_str(), path, "{version}");
                let mut broadcast = asked.accept();
                let mut track = broadcast.create_track(Track::new("clock")).unwrap();
                track.write_frame(0, "new").unwrap();
                net.advance(500);
                assert!(late.latest_frame().is_some(), "{version}, {old} then {new}: {path}");
            }
            net.cut(0);
        }
    }
}

/// Restarts an hour or an instant apart: the announcement of one does not delay the next.
#[test]
fn every_restart_of_a_publisher_is_seen() {
    for row in rows() {
        for [old, new] in HOPS {
            let mut world = World::new(&row, old);
            world.what = format!("{} then {new}", world.what);
            let mut last = 0;
            for name in ["b", "c", "d"] {
                let node = world.net.origins.len() - 1;
                world.net.kill(last, if last == 0 { 0 } else { node });
                last = world.restart(1, new, name);
                world.run(700);
                world.expect(&[false, true], name);
            }
            for link in world.row.len()..last {
                world.net.cut(link);
            }
            world.lose_old_session("d");
        }
    }
}

/// The old session ends at the instant at which the new one arrives, before or after it.
#[test]
fn a_publisher_that_returns_by_another_session_is_announced_once() {
    for row in rows() {
        for [old, new] in HOPS {
            for is_first in [true, false] {
                let mut world = World::new(&row, old);
                world.what = format!("{} then {new}, {is_first}", world.what);
                world.net.kill(0, 0);
                if is_first {
                    world.net.cut(0);
                }
                world.restart(1, new, "b");
                if !is_first {
                    world.run(20);
                    world.net.cut(0);
                }
                world.run(1_000);
                world.expect(&[false, true], "b");
                world.run(3_000);
                world.expect(&[], "b");
            }
        }
    }
}

/// The new process dials another relay. Where hops are known, readers at the old relay see the new
/// broadcast too. Otherwise it might be the old one on its way around a loop.
#[test]
fn a_publisher_may_restart_at_another_relay() {
    let versions = [Version::Lite04, Version::Lite05, Version::Lite06, Version::Lite07Wip];
    for (n, version) in versions.into_iter().enumerate() {
        for row in [vec![version; 4], (0..4).map(|at| versions[(n + at) % 4]).collect()] {
            for at in [2, 3] {
                let mut world = World::new(&row, Hop::new(1_000));
                world.net.kill(0, 0);
                world.restart(at, Hop::new(1_001), "b");
                world.run(1_000);
                world.expect(&[false, true], "b");
                world.expect_late("b");
                world.lose_old_session("b");
            }
        }
    }
    for row in rows().into_iter().filter(|row| row.len() == 4) {
        let mut world = World::new(&row, Hop::UNKNOWN);
        world.net.kill(0, 0);
        world.restart(2, Hop::UNKNOWN, "b");
        world.run(1_000);
        world.viewers.remove(0);
        world.expect(&[false, true], "b");
        world.lose_old_session("b");
    }
}
