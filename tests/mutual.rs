//! Relays that dial each other, and relays in a ring: announcements come back to a relay by other sessions
//! than those on which it made them.

mod net;
mod viewer;

use net::Net;
use smoq::{BroadcastProducer, Hop, Track, TrackProducer, Version};
use viewer::Viewer;

struct Clock {
    name: &'static str,
    _broadcast: BroadcastProducer,
    track: TrackProducer,
}

impl Clock {
    fn new(net: &Net, node: usize, name: &'static str) -> Self {
        let mut broadcast = net.origins[node].create_broadcast("live").unwrap();
        let track = broadcast.create_track(Track::new("clock")).unwrap();
        Self { name, _broadcast: broadcast, track }
    }

    /// Writes a group. On 04 its number is the time: a publisher that restarts with lower numbers may be waited for in a
    /// ring, see *Limits of the versions* in README.md.
    fn tick(&mut self, now: u64, version: Version) {
        let mut group = match version {
            Version::Lite04 => self.track.create_group(now).unwrap(),
            _ => self.track.append_group().unwrap(),
        };
        group.write_frame(now, self.name).unwrap();
        group.finish().unwrap();
    }
}

struct World {
    viewers: Vec<Viewer>,
    clocks: Vec<Clock>,
    version: Version,
    net: Net,
}

impl World {
    fn new(relays: usize, edges: &[(usize, usize)], version: Version) -> Self {
        let mut net = Net::new(relays);
        for (a, b) in edges {
            net.link(*a, *b, version);
        }
        let viewers = (0..relays).map(|node| Viewer::new(&net, node)).collect();
        Self { viewers, clocks: vec![], version, net }
    }

    fn run(&mut self, millis: u64) {
        for _ in 0..millis / 20 {
            let now = self.net.now;
            self.clocks.iter_mut().for_each(|clock| clock.tick(now, self.version));
            self.net.advance(20);
            self.viewers.iter_mut().for_each(Viewer::look);
        }
    }

    fn publish(&mut self, at: usize, hop: Hop, name: &'static str) -> usize {
        let node = self.net.add(hop);
        self.clocks.push(Clock::new(&self.net, node, name));
        self.net.link_for(node, at, self.version, 1)
    }

    /// The relays come to rest, and all viewers read this publisher. Announcements take few bytes.
    fn reads(&mut self, name: &str) {
        let what = format!("{} relays, {}: {name}", self.viewers.len(), self.version);
        let before = self.net.sent();
        // No frames meanwhile.
        let clocks = std::mem::take(&mut self.clocks);
        self.run(2_000);
        self.clocks = clocks;
        assert!(self.net.sent() - before < 20_000, "{what}: {}", self.net.sent() - before);
        self.viewers.iter_mut().for_each(|viewer| viewer.seen.clear());
        self.run(1_000);
        for (node, viewer) in self.viewers.iter_mut().enumerate() {
            let changes = std::mem::take(&mut viewer.changes);
            assert!(
                changes.len() <= 3 && changes.last() == Some(&true),
                "{what}, {node}: {changes:?}"
            );
            assert!(viewer.seen.len() >= 40, "{what}, {node}: {:?}", viewer.seen);
            assert!(viewer.seen.iter().all(|it| it == name), "{what}, {node}: {:?}", viewer.seen);
        }
        self.is_quiet(&what);
    }

    /// The broadcast is gone at all relays, and does not come back.
    fn is_gone(&mut self) {
        let what = format!("{} relays, {}: gone", self.viewers.len(), self.version);
        let before = self.net.sent();
        self.clocks.clear();
        self.run(500);
        for _ in 0..2 {
            for (node, origin) in self.net.origins[..self.viewers.len()].iter().enumerate() {
                assert!(origin.consume().broadcast("live").is_none(), "{what} at {node}");
            }
            self.run(5_000);
        }
        for viewer in &mut self.viewers {
            assert_eq!(std::mem::take(&mut viewer.changes), [false], "{what}");
        }
        assert!(self.net.sent() - before < 1_000, "{what}: {}", self.net.sent() - before);
        self.is_quiet(&what);
    }

    /// Nothing is sent for a minute, except for frames.
    fn is_quiet(&mut self, what: &str) {
        let before = self.net.sent();
        self.net.advance(60_000);
        assert_eq!(self.net.sent(), before, "{what}");
    }
}

/// Two relays with a session in each direction, and three relays in a ring. moq-lite 01 and 02 are left out, see *Limits of the
/// versions* in README.md.
fn in_all_worlds(test: impl Fn(&mut World)) {
    use Version::{Lite03, Lite04, Lite05, Lite06, Lite07Wip};
    let drafts = Version::ALL.into_iter().filter(|it| *it >= Version::Moqt14);
    for version in [Lite03, Lite04, Lite05, Lite06, Lite07Wip].into_iter().chain(drafts) {
        for edges in [&[(0, 1), (1, 0)][..], &[(0, 1), (1, 2), (2, 0)]] {
            test(&mut World::new(edges.len().max(2), edges, version));
        }
    }
}

#[test]
fn a_broadcast_is_read_at_all_relays_and_leaves_all() {
    in_all_worlds(|world| {
        let link = world.publish(0, Hop::new(100), "a");
        world.reads("a");
        world.is_gone();
        world.net.cut(link);
        // The broadcast of a relay itself.
        world.clocks.push(Clock::new(&world.net, 0, "b"));
        world.reads("b");
        world.is_gone();
    });
}

/// The publisher dials again, at the same relay or at another one, after its old session ended or before. And a publisher
/// replaces its broadcast.
#[test]
fn a_publisher_that_comes_back_is_read_at_all_relays() {
    in_all_worlds(|world| {
        let mut old = world.publish(0, Hop::new(100), "a");
        world.reads("a");
        for (at, is_cut, name) in [(0, true, "b"), (0, false, "c"), (1, true, "d"), (0, true, "e")]
        {
            let node = world.net.origins.len() - 1;
            match is_cut {
                true => world.net.cut(old),
                false => world.net.kill(old, node),
            }
            world.clocks.clear();
            world.run(40);
            let new = world.publish(at, Hop::new(100 + node as u64), name);
            world.reads(name);
            if !is_cut {
                world.net.cut(old);
            }
            old = new;
        }
        world.clocks.push(Clock::new(&world.net, world.net.origins.len() - 1, "f"));
        world.clocks.remove(0);
        world.reads("f");
        world.is_gone();
    });
}

/// When one of two publishers of a path leaves, readers at both relays get the other one.
#[test]
fn of_two_publishers_at_two_relays_one_may_leave() {
    in_all_worlds(|world| {
        world.publish(0, Hop::new(100), "a");
        world.reads("a");
        world.publish(1, Hop::new(101), "b");
        world.run(3_000);
        world.clocks.remove(0);
        for viewer in &mut world.viewers {
            viewer.changes.insert(0, true);
            viewer.changes.truncate(1);
        }
        world.reads("b");
        world.is_gone();
    });
}
