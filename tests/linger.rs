//! Subscriptions without readers continue for a while, and are then cancelled.

use std::task::Poll;
use std::time::Duration;

use smoq::machine::{Announcement, Command, Config, Event, Machine, RequestKey, Token};
use smoq::sim::{Bare, Frame, Link, Pair, Shelf};
use smoq::stream::Side;
use smoq::{
    Cost, Driver, Goaway, Hop, Hops, Instant, Limits, Origin, OriginProducer, Server, Session,
    Subscription, TrackConsumer, TrackInfo, Version,
};

/// A publisher that counts the requests for its tracks, and a reader.
struct Reading {
    pair: Pair<Bare<Shelf>, Driver>,
    origin: OriginProducer,
    session: Option<Session>,
    /// The running subscriptions.
    running: Vec<RequestKey>,
    /// The number of subscriptions so far.
    subscribed: usize,
    groups: u64,
}

impl Reading {
    fn new(version: Version, limits: Limits) -> Self {
        let origin = Origin::new(Hop::new(2)).produce();
        let config = Config::new(Side::Client, version);
        let publisher = Bare::new(Machine::new(config, Instant::ZERO), Shelf::new());
        let server = Server::new().with_consume(origin.clone()).with_limits(limits);
        let (session, driver) = server.accept(version, Instant::ZERO);
        let pair = Pair::new(publisher, driver, Link::wide(3));
        let (session, running) = (Some(session), Vec::new());
        let mut reading = Self { pair, origin, session, running, subscribed: 0, groups: 0 };
        reading.advance(500);
        reading
    }

    fn advance(&mut self, millis: u64) {
        for _ in 0..millis / 10 {
            self.pair.advance(Duration::from_millis(10));
            self.answer();
        }
    }

    fn answer(&mut self) {
        let publisher = &mut self.pair.client;
        for event in publisher.take_events() {
            match event {
                Event::AnnounceRequested { request, .. } => {
                    let reader = Token { slot: 1, generation: 0 };
                    let hops = [Hop::new(1)].into_iter().collect::<Hops>();
                    let (suffix, cost) = ("live".into(), Cost::default());
                    publisher.source.announce(reader, Announcement::Active { suffix, hops, cost });
                    publisher.apply(Command::AcceptAnnounce { request, reader, active: 1 });
                }
                Event::TrackRequested { request, .. } => {
                    publisher.apply(Command::AcceptTrack {
                        request,
                        info: TrackInfo::default(),
                        largest: None,
                    });
                }
                Event::SubscribeRequested { request, .. } => {
                    self.subscribed += 1;
                    self.running.push(request);
                    let info = TrackInfo::default();
                    publisher.apply(Command::AcceptSubscribe { request, info, largest: None });
                }
                Event::RequestEnded { request, .. } => {
                    self.running.retain(|running| *running != request);
                }
                _ => {}
            }
        }
    }

    /// Writes a group on every running subscription.
    fn write(&mut self) {
        self.groups += 1;
        let publisher = &mut self.pair.client;
        for (n, request) in self.running.iter().enumerate() {
            let sequence = self.groups;
            let group = Token { slot: n as u32, generation: sequence as u32 };
            publisher.source.insert(group, [Frame::new(sequence, "frame")]);
            publisher.apply(Command::Group { request: *request, group, sequence, first_frame: 0 });
        }
    }

    fn read(&self, track: &str) -> TrackConsumer {
        let broadcast =
            self.origin.consume().broadcast("live").expect("the broadcast was announced");
        broadcast.subscribe_track(track, Subscription::default()).unwrap()
    }

    fn reading(&self) -> u64 {
        self.session.as_ref().unwrap().gauges().reading
    }
}

fn limits(linger: Duration) -> Limits {
    let mut limits = Limits::default();
    limits.linger_time = linger;
    limits
}

const VERSIONS: [Version; 6] = [
    Version::Lite02,
    Version::Lite03,
    Version::Lite05,
    Version::Lite06,
    Version::Moqt16,
    Version::Moqt18,
];

#[test]
fn a_reader_that_returns_in_time_shares_the_subscription() {
    for version in VERSIONS {
        let mut reading = Reading::new(version, limits(Duration::from_secs(5)));
        let reader = reading.read("video");
        reading.advance(200);
        assert_eq!((reading.subscribed, reading.running.len()), (1, 1), "{version}");
        drop(reader);
        for _ in 0..3 {
            reading.advance(4_000);
            reading.write();
            reading.advance(200);
            let back = reading.read("video");
            let latest = back.latest_group().map(|group| group.sequence());
            assert_eq!(latest, Some(reading.groups), "{version}: warm");
            reading.advance(2_000);
            assert_eq!((reading.subscribed, reading.running.len()), (1, 1), "{version}");
        }
        reading.advance(4_500);
        assert_eq!((reading.running.len(), reading.reading()), (1, 1), "{version}");
        reading.advance(2_000);
        assert_eq!((reading.running.len(), reading.reading()), (0, 0), "{version}");
        assert_eq!(reading.pair.server.poll_timeout(), None, "{version}: no timer is left");
        let mut reader = reading.read("video");
        reading.advance(200);
        assert_eq!((reading.subscribed, reading.running.len()), (2, 1), "{version}");
        reading.write();
        reading.advance(200);
        assert!(matches!(reader.try_recv_group(), Poll::Ready(Ok(Some(_)))), "{version}");
    }
}

#[test]
fn without_linger_time_a_subscription_is_cancelled_at_once() {
    for version in VERSIONS {
        let mut reading = Reading::new(version, Limits::default());
        for n in 1..=3 {
            let reader = reading.read("video");
            reading.advance(200);
            assert_eq!((reading.subscribed, reading.running.len()), (n, 1), "{version}");
            drop(reader);
            reading.advance(200);
            assert_eq!((reading.running.len(), reading.reading()), (0, 0), "{version}");
        }
    }
}

#[test]
fn at_most_half_of_the_subscriptions_linger() {
    let mut limits = limits(Duration::from_secs(5));
    limits.subscriptions = 4;
    let mut reading = Reading::new(Version::Lite06, limits);
    let tracks = ["a", "b", "c"].map(|name| reading.read(name));
    reading.advance(200);
    assert_eq!(reading.running.len(), 3);
    drop(tracks);
    reading.advance(200);
    assert_eq!(reading.running.len(), 2);
}

#[test]
fn lingering_does_not_delay_the_end_of_a_session_or_an_origin() {
    for version in VERSIONS {
        let mut reading = Reading::new(version, limits(Duration::from_secs(60)));
        let reader = reading.read("video");
        reading.advance(200);
        drop(reader);
        reading.advance(200);
        assert_eq!(reading.running.len(), 1, "{version}");
        reading.session = None;
        reading.advance(2_000);
        assert!(reading.pair.server.close_reason().is_some(), "{version}");
        assert_eq!(reading.pair.server.poll_timeout(), None, "{version}");
    }
}

/// A subscription without readers does not delay leaving.
#[test]
fn a_leaving_session_has_no_lingering_subscriptions() {
    for version in VERSIONS {
        for is_peer in [false, true] {
            let mut reading = Reading::new(version, limits(Duration::from_secs(60)));
            let [kept, reader] = ["audio", "video"].map(|name| reading.read(name));
            reading.advance(200);
            drop(reader);
            reading.advance(200);
            assert_eq!(reading.running.len(), 2, "{version}");
            let timeout = Duration::from_secs(5);
            if is_peer {
                reading.pair.client.apply(Command::GoAway { uri: "".into(), timeout });
            } else {
                let session = reading.session.as_ref().unwrap();
                session.go_away(Goaway::default().timeout(timeout)).unwrap();
            }
            reading.advance(200);
            // moq-lite up to 03 has no GOAWAY, so the peer does not learn of it.
            let has_goaway = !is_peer || version >= Version::Lite05;
            assert_eq!(
                reading.running.len(),
                if has_goaway { 1 } else { 2 },
                "{version} {is_peer}"
            );
            drop(kept);
            reading.advance(1_500);
            assert!(
                reading.pair.server.close_reason().is_some() || !has_goaway,
                "{version} {is_peer}"
            );
        }
    }
}
