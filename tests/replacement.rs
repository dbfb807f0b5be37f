//! A broadcast is replaced by another one under its path, or its publisher dies and restarts while its old
//! session is still open. All readers see an end and a beginning at once, and stay with the new broadcast
//! whatever happens to the old one.

mod net;

use std::task::Poll;
use std::time::Duration;

use net::Net;
use smoq::{
    BroadcastProducer, Error, GroupConsumer, Hop, OriginConsumer, Subscription, Track,
    TrackConsumer, TrackProducer, Version,
};

const EVERY: [Version; 9] = [
    Version::Lite01,
    Version::Lite02,
    Version::Lite03,
    Version::Lite04,
    Version::Lite05,
    Version::Lite06,
    Version::Lite07Wip,
    Version::Moqt16,
    Version::Moqt18,
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

/// A reader at a node that waits for the broadcast to return whenever it ends.
struct Viewer {
    announced: OriginConsumer,
    reader: Option<TrackConsumer>,
    groups: Vec<GroupConsumer>,
    /// For each announcement, whether it was a beginning.
    changes: Vec<bool>,
    seen: Vec<String>,
}

impl Viewer {
    fn new(net: &Net, node: usize) -> Self {
        let announced = net.origins[node].consume();
        Self { announced, reader: None, groups: vec![], changes: vec![], seen: vec![] }
    }

    fn look(&mut self) {
        while let Poll::Ready(Some(change)) = self.announced.try_announced() {
            assert_eq!(change.path.as_str(), "live");
            self.changes.push(change.broadcast.is_some());
            self.groups.clear();
            self.reader = change.broadcast.map(|it| it.subscribe_track("clock", latest()).unwrap());
        }
        let Some(reader) = &mut self.reader else { return };
        while let Poll::Ready(Ok(Some(group))) = reader.try_recv_group() {
            self.groups.push(group);
        }
        self.groups.retain_mut(|group| {
            loop {
                match group.try_read_frame() {
                    Poll::Ready(Ok(Some(frame))) => {
                        let text = String::from_utf8_lossy(frame.payload()).into_owned();
                        self.seen.push(text);
                    }
                    Poll::Ready(_) => return false,
                    Poll::Pending => return true,
                }
            }
        });
    }

    /// The announcements since the last call, and the publisher of the last frame.
    fn take(&mut self) -> (Vec<bool>, Option<String>) {
        let last = self.seen.last().map(|text| text[..1].to_owned());
        self.seen.clear();
        (std::mem::take(&mut self.changes), last)
    }
}

fn latest() -> Subscription {
    Subscription::default().max_age(Duration::from_secs(5))
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

    /// Restarts the publisher at a node of the row, with this hop.
    fn restart(&mut self, at: usize, hop: Hop, name: &'static str) -> usize {
        let node = self.net.add(hop);
        self.clocks.push(Clock::new(&self.net, node, name));
        let version = self.row[at - 1];
        match version {
            // A publisher that reads as well is told about its predecessor first, and may repeat that.
            Version::Moqt16 | Version::Moqt18 => self.net.publish(node, at, version, 7),
            _ => self.net.link_for(node, at, version, 7),
        }
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
            // The old session is finally lost.
            world.net.cut(0);
            world.run(3_000);
            world.expect(&[], "b");
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
            world.net.cut(0);
            world.run(3_000);
            world.expect(&[], "d");
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
                world.net.cut(0);
                world.run(3_000);
                world.expect(&[], "b");
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
        world.net.cut(0);
        world.run(3_000);
        world.expect(&[], "b");
    }
}
