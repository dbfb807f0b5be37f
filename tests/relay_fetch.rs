//! FETCH between drivers on a virtual clock, through a relay: what it does not have it asks upstream.

use std::task::Poll;
use std::time::Duration;

use smoq::machine::{Command, Config, Event, Machine, Token};
use smoq::sim::{Bare, Endpoint, Link, Pair, Shelf};
use smoq::stream::Side;
use smoq::{
    BroadcastProducer, Client, Driver, Error, GroupConsumer, GroupRequest, Instant, Origin,
    OriginProducer, Path, Server, Session, Subscription, Track, TrackConsumer, TrackProducer,
    Version, Versions,
};

/// A publisher, a relay, and somebody behind it.
struct World<B: Endpoint> {
    up: Pair<Driver, Driver>,
    down: Pair<Driver, B>,
    track: TrackProducer,
    _broadcast: BroadcastProducer,
    relay: OriginProducer,
    sessions: Vec<Session>,
}

impl<B: Endpoint> World<B> {
    fn with(versions: [Version; 2], link: &Link, join: impl FnOnce(Version) -> B) -> Self {
        let [up, down] = versions;
        let [publisher, relay] = [(); 2].map(|()| Origin::default().produce());
        let mut broadcast = publisher.create_broadcast("live").unwrap();
        let info = Track::new("video").max_age(Duration::from_secs(3_600)).priority(9);
        let track = broadcast.create_track(info).unwrap();
        let client = Client::new().with_publish(publisher.consume());
        let server = Server::new().with_origin(&relay);
        let (a, publisher) = client.connect(up, Instant::ZERO);
        let (b, relay_up) = server.accept(up, Instant::ZERO);
        let (c, relay_down) = Client::new().with_origin(&relay).connect(down, Instant::ZERO);
        let up = Pair::new(publisher, relay_up, link.clone());
        let down = Pair::new(relay_down, join(down), link.clone());
        let sessions = vec![a, b, c];
        let mut world = Self { up, down, track, _broadcast: broadcast, relay, sessions };
        world.advance(300);
        world
    }

    fn advance(&mut self, millis: u64) {
        for _ in 0..millis {
            self.up.advance(Duration::from_millis(1));
            self.down.advance(Duration::from_millis(1));
        }
    }

    /// Groups of two frames, the second one large.
    fn write(&mut self, groups: std::ops::Range<u64>) {
        for n in groups {
            let mut group = self.track.create_group(n).unwrap();
            for (time, frame) in frames(n) {
                group.write_frame(time, frame).unwrap();
            }
            group.finish().unwrap();
        }
    }
}

impl World<Driver> {
    fn new(versions: [Version; 2], link: &Link) -> (Self, TrackConsumer) {
        Self::behind(0, versions, link)
    }

    /// The reader joins when so many groups are there.
    fn behind(groups: u64, versions: [Version; 2], link: &Link) -> (Self, TrackConsumer) {
        let origin = Origin::default().produce();
        let server = Server::new().with_consume(origin.clone());
        let mut session = None;
        let mut world = Self::with(versions, link, |version| {
            let (handle, driver) = server.accept(version, Instant::ZERO);
            session = Some(handle);
            driver
        });
        world.sessions.extend(session);
        world.write(0..groups);
        let seen = origin.consume().get_broadcast("live").expect("it was announced");
        let reader = seen.subscribe_track("video", Subscription::default()).unwrap();
        world.advance(200);
        (world, reader)
    }

    fn fetch(&mut self, reader: &mut TrackConsumer, sequence: u64) -> Result<GroupConsumer, Error> {
        for _ in 0..500 {
            match reader.try_fetch_group(sequence) {
                Poll::Ready(answer) => return answer,
                Poll::Pending => self.advance(1),
            }
        }
        panic!("no answer");
    }

    fn fetch_whole(&mut self, reader: &mut TrackConsumer, sequence: u64) {
        let mut group = self.fetch(reader, sequence).unwrap();
        self.advance(500);
        for (time, payload) in frames(sequence) {
            let Poll::Ready(Ok(Some(frame))) = group.try_next_frame() else { panic!("{group:?}") };
            assert_eq!((frame.timestamp().units(), frame.payload()), (time, &payload[..]));
        }
        assert!(matches!(group.try_next_frame(), Poll::Ready(Ok(None))), "{group:?}");
    }
}

fn frames(sequence: u64) -> [(u64, Vec<u8>); 2] {
    [(sequence * 10_000, vec![1]), (sequence * 10_000 + 7, vec![sequence as u8; 3_000])]
}

fn fetches(version: Version) -> bool {
    matches!(version, Version::Lite05 | Version::Lite06)
}

const FETCHING: [Version; 2] = [Version::Lite05, Version::Lite06];

fn in_all_versions(test: impl Fn([Version; 2], &Link)) {
    for up in Versions::default().iter() {
        for down in Versions::default().iter() {
            for link in [Link::perfect(), Link::wide(3)] {
                println!("{up} {down} {link:?}");
                test([up, down], &link);
            }
        }
    }
}

fn requests(world: &TrackProducer) -> smoq::TrackDynamic {
    world.dynamic()
}

fn request(dynamic: &mut smoq::TrackDynamic) -> GroupRequest {
    match dynamic.try_requested_group() {
        Poll::Ready(Ok(request)) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_relay_fetches_what_it_does_not_have() {
    in_all_versions(|versions, link| {
        let (mut world, mut reader) = World::behind(3, versions, link);
        world.write(3..6);
        world.advance(500);
        let mut live: Vec<u64> = vec![];
        let mut hear = |reader: &mut TrackConsumer| {
            while let Poll::Ready(Ok(Some(group))) = reader.try_recv_group() {
                live.push(group.sequence());
            }
            live.clone()
        };
        let before = hear(&mut reader);
        assert!(before.contains(&5), "{before:?}");
        let missing = if versions.into_iter().all(fetches) { 0 } else { 77 };
        assert!(!before.contains(&missing));
        let [up, down] = versions.map(fetches);
        match (up, down) {
            (true, true) => world.fetch_whole(&mut reader, missing),
            (_, false) => {
                // Known at once.
                let answer = reader.try_fetch_group(missing);
                world.advance(1);
                let answer =
                    if answer.is_pending() { reader.try_fetch_group(missing) } else { answer };
                assert!(matches!(answer, Poll::Ready(Err(Error::Unsupported))), "{answer:?}");
            }
            // What a relay can't do has no code of its own.
            (false, true) => {
                assert_eq!(world.fetch(&mut reader, missing).unwrap_err(), Error::Internal);
            }
        }
        // Whoever follows the track sees nothing of it, and it goes on.
        assert_eq!(hear(&mut reader), before);
        world.write(6..7);
        world.advance(300);
        assert_eq!(hear(&mut reader).last(), Some(&6));
    });
}

/// Everything is asked for once: of the relay by its sessions, of the publisher by the relay.
#[test]
fn all_who_want_a_group_share_one_request() {
    for version in FETCHING {
        let (mut world, mut reader) = World::new([version; 2], &Link::wide(3));
        let mut dynamic = requests(&world.track);
        // Two behind one session, one at the relay itself.
        let mut other = reader.clone();
        let seen = world.relay.consume().get_broadcast("live").unwrap();
        let mut third = seen.subscribe_track("video", Subscription::default()).unwrap();
        for reader in [&mut reader, &mut other, &mut third] {
            assert!(reader.try_fetch_group(70).is_pending());
        }
        world.advance(300);
        let asked = request(&mut dynamic);
        assert_eq!((asked.sequence(), asked.priority()), (70, 127));
        assert!(dynamic.try_requested_group().is_pending());
        // It is passed on while it comes.
        let mut group = asked.accept().unwrap();
        group.write_frame(5, "first").unwrap();
        world.advance(300);
        let readers = [&mut reader, &mut other, &mut third];
        let mut groups = readers.map(|reader| world.fetch(reader, 70).unwrap());
        for group in &mut groups {
            let Poll::Ready(Ok(Some(first))) = group.try_read_frame() else { panic!() };
            assert_eq!(&first[..], b"first");
            assert!(group.try_read_frame().is_pending());
        }
        group.finish().unwrap();
        world.advance(300);
        for group in &mut groups {
            assert_eq!(group.try_finished(), Poll::Ready(Ok(1)));
        }
        // And kept: nobody asks again.
        drop(groups);
        world.fetch(&mut third, 70).unwrap();
        world.fetch(&mut reader, 70).unwrap();
        assert!(dynamic.try_requested_group().is_pending());
        assert_eq!(world.track.latest(), None, "nobody wrote it by itself");
    }
}

#[test]
fn refusals_come_through_as_they_were_said() {
    for version in FETCHING {
        let (mut world, mut reader) = World::new([version; 2], &Link::wide(3));
        world.write(0..3);
        assert_eq!(world.fetch(&mut reader, 3).unwrap_err(), Error::NotFound);
        let mut dynamic = requests(&world.track);
        for error in [Error::Old, Error::NotFound, Error::App(9)] {
            assert!(reader.try_fetch_group(3).is_pending());
            world.advance(200);
            request(&mut dynamic).reject(error.clone());
            assert_eq!(world.fetch(&mut reader, 3).unwrap_err(), error);
        }
        // One that breaks off on its way is no group.
        assert!(reader.try_fetch_group(3).is_pending());
        world.advance(200);
        let mut group = request(&mut dynamic).accept().unwrap();
        group.write_frame(0, "x").unwrap();
        let mut read = world.fetch(&mut reader, 3).unwrap();
        group.abort(Error::App(3));
        world.advance(200);
        assert!(matches!(read.try_read_frame(), Poll::Ready(Ok(Some(_)))));
        assert!(matches!(read.try_read_frame(), Poll::Ready(Err(Error::App(3)))));
    }
}

#[test]
fn what_nobody_wants_any_more_is_taken_back_upstream() {
    let (mut world, mut reader) = World::new([Version::Lite06; 2], &Link::wide(3));
    let mut dynamic = requests(&world.track);
    assert!(reader.try_fetch_group(3).is_pending());
    world.advance(200);
    let mut asked = request(&mut dynamic);
    assert!(asked.try_unused().is_pending());
    // By asking for another one.
    assert!(reader.try_fetch_group(4).is_pending());
    world.advance(200);
    assert!(asked.try_unused().is_ready());
    assert_eq!(request(&mut dynamic).sequence(), 4);
}

#[test]
fn the_end_of_a_session_is_the_end_of_what_it_was_asked() {
    let (mut world, mut reader) = World::new([Version::Lite06; 2], &Link::wide(3));
    let mut dynamic = requests(&world.track);
    let mut begun = reader.clone();
    assert!(begun.try_fetch_group(2).is_pending());
    world.advance(200);
    assert!(reader.try_fetch_group(3).is_pending());
    world.advance(200);
    let mut group = request(&mut dynamic).accept().unwrap();
    group.write_frame(0, "x").unwrap();
    let mut begun = world.fetch(&mut begun, 2).unwrap();
    world.advance(200);
    assert!(matches!(begun.try_read_frame(), Poll::Ready(Ok(Some(_)))));
    world.sessions[0].close(Error::Cancelled);
    world.advance(200);
    assert_eq!(world.fetch(&mut reader, 3).unwrap_err(), Error::SessionClosed);
    assert!(matches!(begun.try_read_frame(), Poll::Ready(Err(Error::SessionClosed))));
    assert_eq!(world.fetch(&mut reader, 4).unwrap_err(), Error::SessionClosed);
}

/// A track that came to its end has its past still.
#[test]
fn past_groups_are_fetched_behind_the_end() {
    for version in FETCHING {
        let (mut world, mut reader) = World::new([version; 2], &Link::wide(3));
        world.write(0..6);
        world.advance(300);
        world.track.finish().unwrap();
        world.advance(3_000);
        assert_eq!(reader.try_finished(), Poll::Ready(Ok(6)));
        assert_eq!(world.fetch(&mut reader, 6).unwrap_err(), Error::NotFound);
        for sequence in [0, 1, 2, 5] {
            world.fetch_whole(&mut reader, sequence);
        }
    }
}

/// What moq-net does: it asks what the track is and fetches, and subscribes to nothing.
#[test]
fn a_fetch_needs_no_subscription_and_is_none() {
    for version in FETCHING {
        let mut world = World::with([Version::Lite06, version], &Link::wide(3), |version| {
            let mut config = Config::new(Side::Server, version);
            config.interests = vec![Path::root()];
            Bare::new(Machine::new(config, Instant::ZERO), Shelf::new())
        });
        world.write(0..6);
        world.down.server.take_events();
        for sequence in [2, 2, 9] {
            let fetch = Token::default();
            world.down.server.apply(Command::Fetch {
                fetch,
                broadcast: Path::new("live"),
                track: "video".into(),
                priority: 200,
                sequence,
                first_frame: 0,
                last_frame: None,
            });
            world.advance(500);
            let mut events = world.down.server.take_events();
            let result = if sequence == 9 { Err(Error::NotFound) } else { Ok(()) };
            assert_eq!(events.pop(), Some(Event::FetchEnded { fetch, result }), "{events:?}");
            let count = |it: &&Event| matches!(it, Event::Frame { .. });
            assert_eq!(events.iter().filter(count).count(), if sequence == 9 { 0 } else { 2 });
            assert_eq!(world.track.try_used(), Poll::Pending, "a fetch is no subscription");
        }
        // What it asked about goes when nobody asks again.
        world.advance(3_000);
        assert_eq!(world.relay.cached_bytes(), 0);
        // Nothing is there of that name.
        let fetch = Token::default();
        for (broadcast, track) in [("live", "audio"), ("dead", "video")] {
            world.down.server.apply(Command::Fetch {
                fetch,
                broadcast: Path::new(broadcast),
                track: track.into(),
                priority: 0,
                sequence: 0,
                first_frame: 0,
                last_frame: None,
            });
            world.advance(500);
            let error = if broadcast == "live" { Error::NotFound } else { Error::Unroutable };
            let refused = Event::FetchEnded { fetch, result: Err(error) };
            assert_eq!(world.down.server.take_events(), [refused]);
        }
    }
}
