//! Broadcasts on demand with faulty participants: requests without an answer, a peer with too many
//! requests, relays that ask each other in a ring, and handlers that appear while readers wait.

use std::task::Poll;
use std::time::Duration;

use smoq::machine::{Config, Event, Machine};
use smoq::sim::{Bare, Link, Pair, Shelf};
use smoq::stream::Side;
use smoq::{
    Client, Driver, Error, Hop, Instant, Limits, Origin, OriginProducer, Server, Session,
    Subscription, TrackConsumer, Version,
};

/// `Limits::answer_timeout`.
const ANSWER_MILLIS: u64 = 10_000;

fn every() -> impl Iterator<Item = Version> {
    Version::ALL.into_iter().chain(Version::WIP)
}

fn says_prefixes(version: Version) -> bool {
    version >= Version::Lite06
}

fn origin(hop: u64) -> OriginProducer {
    Origin::new(Hop::new(hop)).produce()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// `reader` dials `store` and may request broadcasts there.
fn join(version: Version, reader: &OriginProducer, store: &OriginProducer) -> Joined {
    let client = Client::new().with_consume(reader.clone());
    let server = Server::new().with_publish(store.consume());
    let (asks, a) = client.connect(version, Instant::ZERO);
    let (serves, b) = server.accept(version, Instant::ZERO);
    Joined { pair: Pair::new(a, b, Link::perfect()), asks, serves }
}

struct Joined {
    pair: Pair<Driver, Driver>,
    asks: Session,
    serves: Session,
}

impl Joined {
    fn read(&self, path: &str) -> TrackConsumer {
        let broadcast = self.asks.request_broadcast(path).unwrap();
        broadcast.subscribe_track("video", Subscription::default()).unwrap()
    }

    /// Checks that no session serves or reads, and that no deadline is left.
    fn assert_rest(&self, what: &str) {
        let (asks, serves) = (self.asks.gauges(), self.serves.gauges());
        assert_eq!((asks.reading, serves.serving), (0, 0), "{what}");
        let deadlines = [self.pair.client.poll_timeout(), self.pair.server.poll_timeout()];
        assert_eq!(deadlines, [None; 2], "{what}: no deadline is left");
    }
}

fn error(reader: &mut TrackConsumer) -> Option<Error> {
    match reader.try_recv_group() {
        Poll::Ready(Err(error)) => Some(error),
        Poll::Ready(Ok(_)) => panic!("neither a group nor an end is expected"),
        Poll::Pending => None,
    }
}

#[test]
fn a_peer_at_its_limit_affects_no_other() {
    for version in every() {
        let mut limits = Limits::default();
        limits.broadcast_requests = 8;
        let store = Origin::new(Hop::new(1)).limits(limits).produce();
        let mut handler = store.dynamic("archive").unwrap();
        let readers = [origin(10), origin(11)];
        let mut links = readers.each_ref().map(|reader| join(version, reader, &store));
        links.iter_mut().for_each(|link| link.pair.run_until_idle());
        let [greedy, modest] = &mut links;
        let mut many: Vec<_> = (0..9)
            .map(|n| {
                let track = greedy.read(&format!("archive/{n}"));
                greedy.pair.run_until_idle();
                track
            })
            .collect();
        let over = many.pop().map(|mut track| error(&mut track).is_some());
        assert_eq!(over, Some(true), "{version}: the limit is reached");
        assert!(many.iter_mut().all(|track| error(track).is_none()), "{version}");
        let mut one = modest.read("archive/mine");
        // Another reader of a path that was requested already needs no request.
        let mut same = modest.read("archive/3");
        modest.pair.run_until_idle();
        assert_eq!((error(&mut one), error(&mut same)), (None, None), "{version}");
        let mut here = store.consume();
        assert!(here.try_request_broadcast("archive/own").is_pending(), "{version}");
        let asked = std::iter::from_fn(|| match handler.try_requested_broadcast() {
            Poll::Ready(request) => Some(request),
            Poll::Pending => None,
        });
        let asked: Vec<_> = asked.collect();
        assert_eq!(asked.len(), 8 + 2, "{version}");
        // An answer makes room again.
        drop(asked);
        greedy.pair.run_until_idle();
        let mut next = greedy.read("archive/next");
        greedy.pair.run_until_idle();
        assert_eq!(error(&mut next), None, "{version}");
    }
}

/// A peer can't fill a store that keeps everything it accepted.
#[test]
fn answered_requests_of_a_peer_are_counted() {
    for version in every() {
        let mut limits = Limits::default();
        limits.broadcast_answers = 2;
        let store = Origin::new(Hop::new(1)).limits(limits).produce();
        let mut handler = store.dynamic("archive").unwrap();
        let readers = [origin(10), origin(11)];
        let mut links = readers.each_ref().map(|reader| join(version, reader, &store));
        links.iter_mut().for_each(|link| link.pair.run_until_idle());
        let mut kept = Vec::new();
        let mut ask = |link: &mut Joined, path: &str| {
            let mut track = link.read(path);
            link.pair.run_until_idle();
            let Poll::Ready(asked) = handler.try_requested_broadcast() else {
                assert!(error(&mut track).is_some(), "{version}: no answer");
                return false;
            };
            kept.push(asked.accept());
            link.pair.run_until_idle();
            assert_eq!(
                error(&mut track),
                Some(Error::NotFound),
                "{version}: the broadcast has no track"
            );
            true
        };
        let [greedy, modest] = &mut links;
        let got = ["archive/a", "archive/b", "archive/c"].map(|path| ask(greedy, path));
        assert_eq!(got, [true, true, false], "{version}");
        assert!(ask(modest, "archive/d"), "{version}: the other peer has a limit of its own");
        let mut here = store.consume();
        assert!(here.try_request_broadcast("archive/e").is_pending());
        // One of them ends.
        kept.remove(0);
        assert!(handler.try_requested_broadcast().is_ready());
        let mut track = greedy.read("archive/f");
        greedy.pair.run_until_idle();
        assert!(error(&mut track).is_none(), "{version}");
    }
}

/// Nodes that request `archive` from each other: `n` dials `n + 1`, and forwards each request
/// to it.
struct Ring {
    nodes: Vec<OriginProducer>,
    handlers: Vec<smoq::OriginDynamic>,
    links: Vec<Joined>,
}

impl Ring {
    fn new(size: usize, version: Version) -> Self {
        let nodes: Vec<_> = (1..=size as u64).map(origin).collect();
        let link = |n: usize| join(version, &nodes[n], &nodes[(n + 1) % size]);
        let mut links: Vec<_> = (0..size).map(link).collect();
        links.iter_mut().for_each(|link| link.pair.run_until_idle());
        let handlers = nodes.iter().map(|node| node.dynamic("archive").unwrap()).collect();
        let mut ring = Self { nodes, handlers, links };
        // Lets prefixes be announced.
        ring.advance(5_000);
        ring
    }

    fn advance(&mut self, time: u64) {
        for _ in 0..time / 50 {
            for (handler, link) in self.handlers.iter_mut().zip(&self.links) {
                while let Poll::Ready(request) = handler.try_requested_broadcast() {
                    let found = link.asks.request_broadcast(request.path().clone()).unwrap();
                    // It may be refused: where prefixes are announced, the route is known to lead back.
                    let _ = request.accept_broadcast(&found);
                }
            }
            for link in &mut self.links {
                link.pair.advance(millis(50));
            }
        }
    }

    fn read(&mut self, path: &str) -> TrackConsumer {
        let mut reader = self.nodes[0].consume();
        for _ in 0..10 {
            if let Poll::Ready(found) = reader.try_request_broadcast(path) {
                return found.unwrap().subscribe_track("video", Subscription::default()).unwrap();
            }
            self.advance(50);
        }
        panic!("no answer for {path}");
    }
}

/// No version carries the relays that a request has passed, so relays in a ring can't detect that they wait
/// for themselves.
#[test]
fn a_ring_of_relays_times_out() {
    let sizes = every().map(|version| (3, version));
    for (size, version) in sizes.chain([(2, Version::Lite05), (5, Version::Lite05)]) {
        let what = format!("{size} of {version}");
        let mut ring = Ring::new(size, version);
        let mut readers: Vec<_> = (0..4).map(|n| ring.read(&format!("archive/{n}"))).collect();
        ring.advance(ANSWER_MILLIS / 2);
        assert!(ring.links.iter().any(|link| link.asks.gauges().reading > 0), "{what}: no ring");
        // One reader leaves early, and the others see the end.
        readers.pop();
        ring.advance(ANSWER_MILLIS);
        for reader in &mut readers {
            assert_eq!(error(reader), Some(Error::Timeout), "{what}");
        }
        drop(readers);
        ring.advance(5_000);
        ring.links.iter().for_each(|link| link.assert_rest(&what));
    }
}

/// A peer that accepts SUBSCRIBE, TRACK and all else, and never answers.
#[test]
fn requests_to_a_silent_peer_time_out() {
    for version in every() {
        let here = origin(1);
        let client = Client::new().with_consume(here.clone());
        let (session, driver) = client.connect(version, Instant::ZERO);
        let machine = Machine::new(Config::new(Side::Server, version), Instant::ZERO);
        let peer = Bare::new(machine, Shelf::new());
        let mut pair = Pair::new(driver, peer, Link::perfect());
        pair.run_until_idle();
        let broadcast = session.request_broadcast("live").unwrap();
        let mut track = broadcast.subscribe_track("video", Subscription::default()).unwrap();
        pair.advance(millis(ANSWER_MILLIS - 1));
        assert_eq!(error(&mut track), None, "{version}");
        let is_asked = |event: &Event| matches!(event, Event::SubscribeRequested { .. });
        assert!(pair.server.take_events().iter().any(is_asked), "{version}");
        pair.advance(millis(1));
        assert_eq!(error(&mut track), Some(Error::Timeout), "{version}");
        pair.advance(millis(5_000));
        let is_over = |event: &Event| matches!(event, Event::RequestEnded { .. });
        assert!(
            pair.server.take_events().iter().any(is_over),
            "{version}: no end of the subscription"
        );
        assert_eq!(session.gauges().reading, 0, "{version}");
        drop((track, broadcast));
        pair.advance(millis(5_000));
        assert_eq!(pair.client.poll_timeout(), None, "{version}");
        assert_eq!(session.gauges().announced, 0, "{version}");
    }
}

/// An application accepts a request for a broadcast and does nothing with it.
#[test]
fn requests_to_a_silent_application_time_out() {
    for version in every() {
        let (store, reader) = (origin(1), origin(2));
        let mut handler = store.dynamic("archive").unwrap();
        let mut link = join(version, &reader, &store);
        link.pair.run_until_idle();
        // One reader waits for the broadcast, and the other one for the track.
        let mut waiting = [link.read("archive/a"), link.read("archive/b")];
        link.pair.run_until_idle();
        let mut requests: Vec<_> = (0..2)
            .map(|_| match handler.try_requested_broadcast() {
                Poll::Ready(request) => request,
                Poll::Pending => panic!("{version}: no request"),
            })
            .collect();
        let broadcast = requests.pop().unwrap().accept();
        let mut tracks = broadcast.dynamic();
        link.pair.run_until_idle();
        let track = tracks.try_requested_track();
        assert!(matches!(track, Poll::Ready(Ok(_))), "{version}");
        link.pair.advance(millis(ANSWER_MILLIS - 1));
        assert!(waiting.iter_mut().all(|track| error(track).is_none()), "{version}");
        link.pair.advance(millis(1));
        for track in &mut waiting {
            assert_eq!(error(track), Some(Error::Timeout), "{version}");
        }
        assert!(requests[0].try_unused().is_ready(), "{version}");
        drop((waiting, requests, track, tracks, broadcast, handler));
        link.pair.advance(millis(5_000));
        link.assert_rest(&version.to_string());
    }
}

/// A peer requests a path of an application's handler, and then another peer announces a longer prefix.
/// Waiting readers are served from there.
#[test]
fn a_request_moves_to_a_peer_that_announces_a_longer_prefix() {
    for version in every().filter(|version| says_prefixes(*version)) {
        let (relay, near, reader) = (origin(1), origin(2), origin(3));
        let mut wide = relay.dynamic("archive").unwrap();
        let mut down = join(version, &reader, &relay);
        down.pair.run_until_idle();
        let waiting = down.read("archive/1969/moon");
        down.pair.run_until_idle();
        let Poll::Ready(mut asked) = wide.try_requested_broadcast() else { panic!("asked") };
        let mut store = near.dynamic("archive/1969").unwrap();
        let mut up = join(version, &relay, &near);
        for _ in 0..20 {
            up.pair.advance(millis(50));
            down.pair.advance(millis(50));
        }
        assert!(asked.try_unused().is_ready(), "{version}: the better route took over");
        let Poll::Ready(moved) = store.try_requested_broadcast() else { panic!("{version}") };
        let mut broadcast = moved.accept();
        let mut video = broadcast.create_track("video").unwrap();
        video.write_frame(0, "moon").unwrap();
        for _ in 0..20 {
            up.pair.advance(millis(50));
            down.pair.advance(millis(50));
        }
        assert!(waiting.latest_frame().is_some(), "{version}");
    }
}
