//! Ten relays with many routes between them: how fast they agree, and how few messages that takes.

mod net;

use std::collections::BTreeSet;
use std::task::Poll;
use std::time::Duration;

use net::{Net, received};
use smoq::coding::lite::Announce;
use smoq::sim::Random;
use smoq::{Hop, Subscription, Track, Version};

const RELAYS: usize = 10;
const PUBLISHER: usize = RELAYS;
/// The time for which routes are held, in milliseconds.
const HOLD: u64 = 300;

type Edges = Vec<(usize, usize)>;

/// A ring with chords, a grid, a complete graph, and some random connected graphs.
fn shapes() -> Vec<Edges> {
    let ring: Edges = (0..RELAYS).map(|n| (n, (n + 1) % RELAYS)).collect();
    let chords = [&ring[..], &[(0, 5), (2, 7), (3, 8), (1, 4)]].concat();
    let grid = (0..5).flat_map(|n| [(n, n + 5), (n, n + 1), (n + 5, n + 6)]);
    let grid = grid.filter(|(a, b)| (a % 5 < b % 5 || *b == a + 5) && *b < RELAYS).collect();
    let full = (0..RELAYS).flat_map(|a| (a + 1..RELAYS).map(move |b| (a, b))).collect();
    let mut shapes = vec![ring, chords, grid, full];
    for seed in 0..6 {
        let mut random = Random::new(seed);
        let mut edges: BTreeSet<_> =
            (1..RELAYS).map(|n| (random.below(n as u64) as usize, n)).collect();
        while edges.len() < RELAYS + 6 {
            let [a, b] = [(); 2].map(|()| random.below(RELAYS as u64) as usize);
            if a < b {
                edges.insert((a, b));
            }
        }
        shapes.push(edges.into_iter().collect());
    }
    shapes
}

struct Mesh {
    net: Net,
    version: Version,
    /// The longest of the shortest round trips, in milliseconds.
    round_trip: u64,
}

impl Mesh {
    fn new(edges: &Edges, version: Version, seed: u64) -> Self {
        let mut net = Net::new(RELAYS + 1);
        let mut random = Random::new(seed);
        let mut links = Vec::new();
        for (a, b) in edges.iter().copied().chain([(PUBLISHER, 0)]) {
            let millis = if seed == 0 { 10 } else { 1 + random.below(20) };
            net.link_over(a, b, version, millis);
            links.push((a, b, millis));
        }
        // The distances between all pairs.
        let far = |from: usize| {
            let mut times = [u64::MAX / 4; RELAYS + 1];
            times[from] = 0;
            for _ in 0..=RELAYS {
                for (a, b, millis) in &links {
                    times[*a] = times[*a].min(times[*b] + millis);
                    times[*b] = times[*b].min(times[*a] + millis);
                }
            }
            times.into_iter().max().unwrap_or_default()
        };
        let diameter = (0..=RELAYS).map(far).max().unwrap_or_default();
        Self { net, version, round_trip: 2 * diameter }
    }

    fn having(&self) -> usize {
        let relays = &self.net.origins[..RELAYS];
        relays.iter().filter(|it| it.consume().broadcast("live").is_some()).count()
    }

    /// Checks the announcements, and returns the most updates on one link in one direction. On moq-lite 04
    /// an end directly followed by a beginning is an update.
    fn check_announced(&mut self) -> (usize, String) {
        let mut most = (0, String::new());
        for (from, to, messages) in self.net.announced() {
            let mut updates = 0;
            for (n, message) in messages.iter().enumerate() {
                match message {
                    Announce::Active { hops, .. } | Announce::Update { hops, .. } => {
                        let receiver = self.net.origins[to].hop();
                        assert!(!hops.has_loop(), "{from} to {to}: {hops:?}");
                        assert!(!hops.contains(receiver), "{from} to {to}: {hops:?}");
                        updates += 1;
                    }
                    Announce::Ended { .. } => {
                        let replaced = matches!(messages.get(n + 1), Some(Announce::Active { .. }));
                        updates += usize::from(!replaced);
                    }
                    Announce::EndedId { .. } => updates += 1,
                }
            }
            if updates > most.0 {
                most = (updates, format!("{from} to {to}: {messages:?}"));
            }
        }
        most
    }

    /// Whether no announcement is sent for a minute.
    fn is_quiet(&mut self) -> bool {
        let before = self.net.sent();
        self.net.advance(60_000);
        self.net.sent() == before
    }
}

fn in_all_shapes(seeds: u64, test: impl Fn(&mut Mesh, &str)) {
    for version in [Version::Lite04, Version::Lite06] {
        for (n, edges) in shapes().iter().enumerate() {
            for seed in 0..seeds {
                let mut mesh = Mesh::new(edges, version, seed);
                test(&mut mesh, &format!("{version:?}, shape {n}, seed {seed}"));
            }
        }
    }
}

#[test]
fn a_withdrawal_is_announced_at_most_twice() {
    in_all_shapes(3, |mesh, what| {
        let mut broadcast = mesh.net.origins[PUBLISHER].create_broadcast("live").unwrap();
        mesh.net.advance(2_000);
        assert_eq!(mesh.having(), RELAYS, "{what}");
        mesh.check_announced();
        assert!(mesh.is_quiet(), "{what}");
        broadcast.finish().unwrap();
        // Held routes that are announced late may still circulate in a small loop.
        mesh.net.advance(2 * mesh.round_trip + HOLD);
        assert_eq!(mesh.having(), 0, "{what}");
        mesh.net.advance(5_000);
        assert_eq!(mesh.having(), 0, "{what}");
        let (most, example) = mesh.check_announced();
        assert!(most <= 2, "{what}: {example}");
        assert!(mesh.is_quiet(), "{what}");
    });
}

/// A link in use breaks. All readers continue and receive each group once, with few announcements.
#[test]
fn a_broken_link_is_routed_around() {
    in_all_shapes(2, |mesh, what| {
        let mut broadcast = mesh.net.origins[PUBLISHER].create_broadcast("live").unwrap();
        let mut track = broadcast.create_track(Track::new("video")).unwrap();
        mesh.net.advance(2_000);
        let mut readers: Vec<_> = mesh.net.origins[..RELAYS]
            .iter()
            .map(|origin| {
                let mut announced = origin.consume();
                let Poll::Ready(Some(announce)) = announced.try_announced() else {
                    panic!("{what}: no announcement")
                };
                let broadcast = announce.broadcast.expect("the broadcast is live");
                let want = Subscription::default().max_age(Duration::MAX).start(0);
                (announced, broadcast.subscribe_track("video", want).unwrap(), Vec::new())
            })
            .collect();
        mesh.net.advance(1_000);
        mesh.check_announced();
        let used =
            |link: &usize| mesh.net.subscribed(*link) && mesh.net.is_connected_without(*link);
        let broken = (0..mesh.net.links()).find(used).expect("a link that is used");
        for n in 0..150_u64 {
            if n == 10 {
                mesh.net.cut(broken);
            }
            if n < 50 {
                track.write_frame(n * 10, "x").unwrap();
            }
            mesh.net.advance(10);
            for (_, reader, sequences) in &mut readers {
                sequences.extend(received(reader).iter().map(|group| group.sequence()));
            }
        }
        for (node, (announced, _, sequences)) in readers.iter_mut().enumerate() {
            sequences.sort_unstable();
            assert!(sequences.iter().copied().eq(0..50), "{what}: {node} has {sequences:?}");
            assert!(announced.try_announced().is_pending(), "{what}: {node} noticed it");
        }
        let (most, example) = mesh.check_announced();
        // A route that is found while others still search may be lost once more.
        assert!(most <= 4, "{what}: {example}");
        drop(readers);
        mesh.net.advance(5_000);
        assert!((0..mesh.net.links()).all(|link| !mesh.net.subscribed(link)), "{what}");
        assert!(mesh.is_quiet(), "{what}");
    });
}

/// moq-lite 03 carries no hop ids, so a loop is visible only by its growing number of hops. Late
/// announcements keep it from growing.
#[test]
fn a_withdrawal_does_not_circulate_without_hop_ids() {
    for (n, edges) in shapes().iter().enumerate() {
        let mut mesh = Mesh::new(edges, Version::Lite03, 1);
        let mut broadcast = mesh.net.origins[PUBLISHER].create_broadcast("live").unwrap();
        mesh.net.advance(5_000);
        assert_eq!(mesh.having(), RELAYS, "shape {n}");
        mesh.check_announced();
        broadcast.finish().unwrap();
        mesh.net.advance(5_000);
        assert_eq!(mesh.having(), 0, "shape {n}");
        let (most, example) = mesh.check_announced();
        assert!(most <= 4, "shape {n}: {example}");
        assert!(mesh.is_quiet(), "shape {n}");
    }
}

/// moq-transport carries no hops at all, so that an announcement that went around a loop looks like another broadcast. It is
/// hidden: all relays read from the publisher, and no withdrawal circulates.
#[test]
fn a_withdrawal_does_not_circulate_without_hops() {
    for version in [Version::Moqt14, Version::Moqt16, Version::Moqt18, Version::Moqt22] {
        for (n, edges) in shapes().iter().enumerate() {
            let what = format!("{version}, shape {n}");
            let mut mesh = Mesh::new(edges, version, n as u64 % 3);
            let mut broadcast = mesh.net.origins[PUBLISHER].create_broadcast("live").unwrap();
            let mut track = broadcast.create_track(Track::new("video")).unwrap();
            mesh.net.advance(2_000);
            assert_eq!(mesh.having(), RELAYS, "{what}");
            assert!(mesh.is_quiet(), "{what}");
            // At most 46 links, with one announcement and its answer in each direction.
            assert!(mesh.net.sent() < 5_000, "{what}: {}", mesh.net.sent());
            let want = || Subscription::default().max_age(Duration::MAX);
            let mut readers: Vec<_> = mesh.net.origins[..RELAYS]
                .iter()
                .map(|origin| origin.consume().broadcast("live").expect("the broadcast is live"))
                .map(|broadcast| broadcast.subscribe_track("video", want()).unwrap())
                .collect();
            mesh.net.advance(1_000);
            track.write_frame(0, "x").unwrap();
            mesh.net.advance(1_000);
            for (node, reader) in readers.iter_mut().enumerate() {
                assert_eq!(received(reader).len(), 1, "{what}: {node}");
            }
            drop(readers);
            mesh.net.advance(5_000);
            let before = mesh.net.sent();
            broadcast.finish().unwrap();
            mesh.net.advance(2 * mesh.round_trip + HOLD);
            assert_eq!(mesh.having(), 0, "{what}");
            mesh.net.advance(5_000);
            assert_eq!(mesh.having(), 0, "{what}");
            assert!(mesh.net.sent() - before < 2_000, "{what}: {}", mesh.net.sent() - before);
            assert!(mesh.is_quiet(), "{what}");
        }
    }
}

/// Two publishers have different content under one path. A relay shows the newer one, or after many changes
/// the one with the better route, so that all relays come to rest. When one publisher ends, all relays show
/// the other.
#[test]
fn two_publishers_of_one_path_come_to_rest() {
    in_all_shapes(2, |mesh, what| {
        let second = mesh.net.add(Hop::new(100));
        let to_second = mesh.net.link(second, RELAYS / 2, mesh.version);
        let publish = |net: &Net, node: usize| net.origins[node].create_broadcast("live").unwrap();
        for at_once in [false, true] {
            let mut one = publish(&mesh.net, PUBLISHER);
            if !at_once {
                mesh.net.advance(2_000);
            }
            let mut two = publish(&mesh.net, second);
            mesh.net.advance(5_000);
            assert_eq!(mesh.having(), RELAYS, "{what}");
            assert!(mesh.is_quiet(), "{what}, at once: {at_once}");
            if at_once {
                let joins_relays = |link: &usize| *link != to_second && *link + 1 != to_second;
                let spare = |link: &usize| mesh.net.is_connected_without(*link);
                let links = 0..mesh.net.links();
                let cut = links.filter(joins_relays).find(spare).expect("there are ways around");
                mesh.net.cut(cut);
                mesh.net.advance(5_000);
                assert_eq!(mesh.having(), RELAYS, "{what}");
                assert!(mesh.is_quiet(), "{what}, without a link");
            }
            one.finish().unwrap();
            mesh.net.advance(5_000);
            assert_eq!(mesh.having(), RELAYS, "{what}");
            assert!(mesh.is_quiet(), "{what}, with one left");
            two.finish().unwrap();
            mesh.net.advance(5_000);
            assert_eq!(mesh.having(), 0, "{what}");
        }
    });
}
