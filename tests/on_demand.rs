//! Broadcasts that were not announced, between sessions on a virtual clock. A peer requests one by name,
//! and the request reaches the handler of its prefix through any number of relays.

use std::task::Poll;
use std::time::Duration;

use smoq::sim::{Link, Pair};
use smoq::{
    BroadcastRequest, Client, Driver, Error, Hop, Instant, Limits, Origin, OriginConsumer,
    OriginDynamic, OriginProducer, Server, Session, Subscription, Timestamp, TrackConsumer,
    Version,
};

const PATH: &str = "archive/1969";

/// Nodes in a row, beginning with the store. Each serves the origin of its node to the next.
struct Row {
    origins: Vec<OriginProducer>,
    links: Vec<Pair<Driver, Driver>>,
    /// The two sessions of each link: the serving end and the reading end.
    sessions: Vec<[Session; 2]>,
}

impl Drop for Row {
    /// Once everything that a test published and read is gone, no state may remain.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.advance(5_000);
        for (link, sessions) in self.links.iter_mut().zip(&self.sessions) {
            let [a, b] = [(); 2].map(|()| Origin::default().produce());
            let (fresh, _sessions) = join(sessions[0].version(), &a, &b);
            link.assert_unused(fresh);
        }
        self.links.clear();
        for origin in &self.origins {
            let census = origin.census();
            assert!(census.is_empty(), "an origin holds state after the end: {census:?}");
        }
    }
}

/// The first origin serves, the second one reads.
fn join(
    version: Version,
    serves: &OriginProducer,
    reads: &OriginProducer,
) -> (Pair<Driver, Driver>, [Session; 2]) {
    let client = Client::new().with_publish(serves.consume());
    let server = Server::new().with_consume(reads.clone());
    let (serves, a) = client.connect(version, Instant::ZERO);
    let (reads, b) = server.accept(version, Instant::ZERO);
    (Pair::new(a, b, Link::wide(3)), [serves, reads])
}

impl Row {
    fn new(versions: &[Version]) -> Self {
        let limited = |n: usize| {
            let mut limits = Limits::default();
            limits.broadcast_requests = 4;
            Origin::new(Hop::new(1 + n as u64)).limits(limits).produce()
        };
        let origins: Vec<_> = (0..=versions.len()).map(limited).collect();
        let mut row = Self { origins, links: Vec::new(), sessions: Vec::new() };
        for (n, version) in versions.iter().enumerate() {
            let (link, sessions) = join(*version, &row.origins[n], &row.origins[n + 1]);
            row.links.push(link);
            row.sessions.push(sessions);
        }
        row.advance(200);
        row
    }

    /// Advances all links in small steps, so that relays can forward what they receive.
    fn advance(&mut self, millis: u64) {
        if let [link] = &mut *self.links {
            return link.advance(Duration::from_millis(millis));
        }
        for _ in 0..millis {
            for link in &mut self.links {
                link.advance(Duration::from_millis(1));
            }
        }
    }

    fn store(&self) -> OriginDynamic {
        self.origins[0].dynamic("archive").unwrap()
    }

    /// A track at the end of the row, requested by name.
    fn read(&self, path: &str) -> TrackConsumer {
        let [_, session] = self.sessions.last().unwrap();
        let broadcast = session.request_broadcast(path).unwrap();
        broadcast.subscribe_track("video", Subscription::default()).unwrap()
    }

    /// Checks that no session serves or reads, and that only `announced` broadcasts are known.
    fn assert_rest(&self, announced: u64) {
        for [serves, reads] in &self.sessions {
            let (serves, reads) = (serves.gauges(), reads.gauges());
            let open =
                (serves.serving, serves.sending_groups, reads.reading, reads.receiving_groups);
            assert_eq!(open, (0, 0, 0, 0));
            assert_eq!(reads.announced, announced);
        }
    }
}

fn every() -> impl Iterator<Item = Version> {
    Version::ALL.into_iter().chain(Version::WIP)
}

fn says_prefixes(version: Version) -> bool {
    version >= Version::Lite06
}

fn request(store: &mut OriginDynamic) -> Option<BroadcastRequest> {
    match store.try_requested_broadcast() {
        Poll::Ready(request) => Some(request),
        Poll::Pending => None,
    }
}

fn error(reader: &mut TrackConsumer) -> Error {
    match reader.try_recv_group() {
        Poll::Ready(Err(error)) => error,
        Poll::Ready(Ok(_)) => panic!("neither a group nor an end is expected"),
        Poll::Pending => panic!("no answer"),
    }
}

fn changes(consumer: &mut OriginConsumer) -> Vec<String> {
    std::iter::from_fn(|| match consumer.try_announced() {
        Poll::Ready(change) => change.map(|change| {
            format!("{}{}", if change.broadcast.is_some() { '+' } else { '-' }, change.path)
        }),
        Poll::Pending => None,
    })
    .collect()
}

#[test]
fn a_peer_reads_a_broadcast_that_was_not_announced() {
    for version in every() {
        let mut row = Row::new(&[version]);
        let mut store = row.store();
        row.advance(200);
        let mut reader = row.read(PATH);
        let [_, session] = &row.sessions[0];
        let again = session.request_broadcast(PATH).unwrap();
        let mut audio = again.subscribe_track("audio", Subscription::default()).unwrap();
        drop(again);
        row.advance(3_000);
        let asked = request(&mut store).expect("no request of the peer");
        assert_eq!(asked.path().as_str(), PATH, "{version}");
        assert!(request(&mut store).is_none(), "{version}: readers share one request");
        assert!(reader.try_recv_group().is_pending(), "{version}: the reader waits");
        assert!(row.sessions[0][0].gauges().serving >= 2, "{version}");

        let mut broadcast = asked.accept();
        let mut video = broadcast.create_track("video").unwrap();
        row.advance(200);
        assert_eq!(error(&mut audio), Error::NotFound, "{version}");
        video.write_frame(Timestamp::new(0), "moon").unwrap();
        row.advance(200);
        let frame = reader.latest_frame().unwrap_or_else(|| panic!("{version}: no frame"));
        assert_eq!(frame.payload(), b"moon");
        assert!(changes(&mut row.origins[1].consume()).iter().all(|path| path == "+archive"));
        drop((reader, audio, store));
        row.advance(3_000);
        assert_eq!(broadcast.try_unused(), Poll::Ready(()), "{version}");
        row.assert_rest(0);
    }
}

/// moq-lite 06, *Announce*, and moq-transport, *Track Namespaces*: an announced path covers everything
/// below it.
#[test]
fn a_prefix_is_announced_where_paths_cover_those_below() {
    for version in every() {
        let mut row = Row::new(&[version]);
        let mut store = row.store();
        row.advance(700);
        let mut there = row.origins[1].consume();
        let mut reader = row.origins[1].consume();
        if !says_prefixes(version) {
            assert_eq!(changes(&mut there), [""; 0], "{version}: here it would be a broadcast");
            let refused = reader.try_request_broadcast(PATH);
            assert!(matches!(refused, Poll::Ready(Err(Error::Unroutable))), "{version}");
            continue;
        }
        assert_eq!(changes(&mut there), ["+archive"], "{version}");
        let Poll::Ready(Ok(found)) = reader.try_request_broadcast(PATH) else {
            panic!("{version}: the prefix is not requested from the peer")
        };
        let track = found.subscribe_track("video", Subscription::default()).unwrap();
        row.advance(200);
        assert_eq!(request(&mut store).unwrap().path().as_str(), PATH, "{version}");
        drop((found, track, store));
        row.advance(3_000);
        assert_eq!(changes(&mut there), ["-archive"], "{version}");
        let refused = reader.try_request_broadcast(PATH);
        assert!(matches!(refused, Poll::Ready(Err(Error::Unroutable))), "{version}");
        row.assert_rest(0);
    }
}

/// A broadcast at the prefix itself is an ordinary one. A handler for paths below it causes no
/// announcement.
#[test]
fn a_broadcast_may_have_the_path_of_a_prefix() {
    for version in every() {
        let mut row = Row::new(&[version]);
        let mut there = row.origins[1].consume();
        let broadcast = row.origins[0].create_broadcast("archive").unwrap();
        row.advance(700);
        assert_eq!(changes(&mut there), ["+archive"], "{version}");
        let store = row.store();
        row.advance(3_000);
        assert_eq!(changes(&mut there), [""; 0], "{version}");
        drop(broadcast);
        row.advance(3_000);
        // Only the prefix is left. In versions where an end and a beginning are a change of route, the
        // broadcast seems to continue.
        let (left, known) = (changes(&mut there), row.origins[1].consume().broadcast("archive"));
        let ended = ["-archive", "+archive"];
        match says_prefixes(version) {
            true => assert!(known.is_some() && (left.is_empty() || left == ended), "{version}"),
            false => assert!(known.is_none() && left == ended[..1], "{version}"),
        }
        drop(store);
    }
}

#[test]
fn a_refusal_comes_with_its_code() {
    for version in every() {
        let mut row = Row::new(&[version]);
        let mut store = row.store();
        let mut reader = row.read(PATH);
        row.advance(200);
        request(&mut store).unwrap().reject(Error::NotFound);
        row.advance(200);
        assert_eq!(error(&mut reader), Error::NotFound, "{version}");
        // No handler covers the path.
        let mut reader = row.read("elsewhere/1969");
        row.advance(200);
        let none = [Error::Unroutable, Error::NotFound];
        assert!(none.contains(&error(&mut reader)), "{version}");
        // The handler leaves.
        let mut reader = row.read(PATH);
        row.advance(200);
        drop(store);
        row.advance(200);
        assert!(none.contains(&error(&mut reader)), "{version}");
        assert!(row.sessions[0][0].stats().refused_requests >= 3, "{version}");
        drop(reader);
        row.advance(3_000);
        row.assert_rest(0);
    }
    let mut row = Row::new(&[Version::Lite06]);
    let mut store = row.store();
    let mut reader = row.read(PATH);
    row.advance(200);
    request(&mut store).unwrap().reject(Error::App(7));
    row.advance(200);
    assert_eq!(error(&mut reader), Error::App(7));
}

#[test]
fn a_peer_that_gives_up_withdraws_its_request() {
    for version in every() {
        let mut row = Row::new(&[version]);
        let mut store = row.store();
        let reader = row.read(PATH);
        row.advance(200);
        drop(reader);
        row.advance(200);
        assert!(request(&mut store).is_none(), "{version}: the request was withdrawn");
        let reader = row.read(PATH);
        row.advance(200);
        let mut asked = request(&mut store).expect("no second request");
        assert!(asked.try_unused().is_pending(), "{version}");
        // The end of the session withdraws its requests.
        row.sessions[0][1].close(Error::Cancelled);
        row.advance(200);
        assert!(asked.try_unused().is_ready(), "{version}");
        drop(reader);
        let [_, session] = &row.sessions[0];
        assert_eq!(session.request_broadcast(PATH).err(), Some(Error::SessionClosed));
    }
}

#[test]
fn requests_of_a_peer_are_limited() {
    for version in every() {
        let mut row = Row::new(&[version]);
        let mut store = row.store();
        let mut readers = Vec::new();
        for n in 0..5 {
            readers.push(row.read(&format!("archive/{n}")));
            row.advance(200);
        }
        let open = readers.iter_mut().map(|reader| reader.try_recv_group().is_pending());
        assert!(open.eq([true, true, true, true, false]), "{version}");
        let asked = std::iter::from_fn(|| request(&mut store)).count();
        assert_eq!(asked, 4, "{version}");
    }
}

/// FETCH waits as well, besides TRACK and SUBSCRIBE of the same track.
#[test]
fn a_fetch_waits_for_its_broadcast() {
    for version in [Version::Lite05, Version::Lite06, Version::Lite07Wip] {
        let mut row = Row::new(&[version]);
        let mut store = row.store();
        let mut reader = row.read(PATH);
        assert!(reader.try_fetch_group(3).is_pending());
        row.advance(200);
        assert!(reader.try_fetch_group(3).is_pending());
        assert!(row.sessions[0][0].gauges().serving >= 2, "{version}");
        let mut broadcast = request(&mut store).unwrap().accept();
        let mut video = broadcast.create_track("video").unwrap();
        let mut past = video.create_group(3).unwrap();
        past.write_frame(Timestamp::new(0), "past").unwrap();
        past.finish().unwrap();
        video.write_frame(Timestamp::new(1), "now").unwrap();
        row.advance(400);
        let Poll::Ready(Ok(group)) = reader.try_fetch_group(3) else { panic!("{version}") };
        assert_eq!(group.sequence(), 3);
    }
}

/// Where prefixes are announced, relays need no handler: they forward the prefix, and the requests below
/// it. Each asks once, for any number of readers.
#[test]
fn relays_route_by_prefix() {
    for version in every().filter(|version| says_prefixes(*version)) {
        let mut row = Row::new(&[version; 3]);
        let mut store = row.store();
        row.advance(2_000);
        let [mut one, mut two] = [(); 2].map(|()| {
            let mut consumer = row.origins[3].consume();
            let Poll::Ready(Ok(found)) = consumer.try_request_broadcast(PATH) else {
                panic!("{version}: the prefix was not forwarded")
            };
            found.subscribe_track("video", Subscription::default()).unwrap()
        });
        // Another reader is at the first relay.
        let mut near = row.origins[1].consume();
        let Poll::Ready(Ok(found)) = near.try_request_broadcast(PATH) else { panic!("{version}") };
        let mut near = found.subscribe_track("video", Subscription::default()).unwrap();
        drop(found);
        row.advance(400);
        let asked = request(&mut store).unwrap();
        assert_eq!(asked.path().as_str(), PATH);
        let mut broadcast = asked.accept();
        let mut video = broadcast.create_track("video").unwrap();
        video.write_frame(Timestamp::new(0), "moon").unwrap();
        row.advance(400);
        for reader in [&mut one, &mut two, &mut near] {
            assert!(reader.latest_frame().is_some(), "{version}");
        }
        // Track information is cached for two seconds.
        row.advance(3_000);
        for [serves, _] in &row.sessions {
            assert_eq!(serves.gauges().serving, 1, "{version}: one subscription per link");
        }
        drop((one, two, near));
        row.advance(3_000);
        row.assert_rest(1);
        assert_eq!(broadcast.try_unused(), Poll::Ready(()));
    }
}

/// On all versions a relay can handle a prefix itself and request upstream by name.
#[test]
fn a_relay_may_request_from_a_session_of_its_choice() {
    let older = [Version::Lite03, Version::Lite05];
    for versions in [older, [Version::Lite04, Version::Lite06], [Version::Moqt18, Version::Lite03]]
    {
        let mut row = Row::new(&versions);
        let mut store = row.store();
        let mut relay = row.origins[1].dynamic("archive").unwrap();
        row.advance(200);
        let reader = row.read(PATH);
        row.advance(200);
        let asked = request(&mut relay).expect("no request at the relay");
        let [_, upstream] = &row.sessions[0];
        let found = upstream.request_broadcast(asked.path()).unwrap();
        asked.accept_broadcast(&found).unwrap();
        drop(found);
        row.advance(200);
        let mut broadcast = request(&mut store).expect("no request at the store").accept();
        let mut video = broadcast.create_track("video").unwrap();
        video.write_frame(Timestamp::new(0), "moon").unwrap();
        row.advance(400);
        assert!(reader.latest_frame().is_some(), "{versions:?}");
        drop(reader);
        row.advance(3_000);
        assert_eq!(broadcast.try_unused(), Poll::Ready(()));
        // An answer without readers is not kept: the relay is asked again.
        let again = row.read(PATH);
        row.advance(200);
        assert!(request(&mut relay).is_some(), "{versions:?}");
        drop((again, relay, store));
        row.advance(3_000);
        row.assert_rest(0);
    }
}
