//! Tracks that this side asks for by a prefix (moq-transport, SUBSCRIBE_TRACKS), between our own sessions.

use std::task::Poll;
use std::time::Duration;

use smoq::sim::{Link, Pair, Wakes};
use smoq::stream::{Dir, Side};
use smoq::{
    BroadcastConsumer, BroadcastProducer, Client, Driver, Error, Goaway, Instant, Limits, Origin,
    OriginProducer, PeerRequestKind, Server, Session, Subscription, TrackNames, TrackProducer,
    Version,
};

fn drafts() -> impl Iterator<Item = Version> {
    Version::ALL.into_iter().filter(|it| *it >= Version::Moqt14)
}

/// A publisher and a subscriber.
struct World {
    pair: Pair<Driver, Driver>,
    publisher: Session,
    subscriber: Session,
    /// The broadcasts of the publisher.
    origin: OriginProducer,
    /// The broadcasts that the subscriber sees.
    seen: OriginProducer,
}

impl World {
    /// `asks` is the side of the subscriber.
    fn new(version: Version, asks: Side, link: Link) -> Self {
        let [origin, seen] = [(); 2].map(|()| Origin::default().produce());
        let (client, server) = (Client::new(), Server::new());
        let (client, server) = match asks {
            Side::Client => {
                (client.with_consume(seen.clone()), server.with_publish(origin.consume()))
            }
            Side::Server => {
                (client.with_publish(origin.consume()), server.with_consume(seen.clone()))
            }
        };
        let (near, client) = client.connect(version, Instant::ZERO);
        let (far, server) = server.accept(version, Instant::ZERO);
        let mut pair = Pair::new(client, server, link);
        pair.run_until_idle();
        let (subscriber, publisher) = match asks {
            Side::Client => (near, far),
            Side::Server => (far, near),
        };
        Self { pair, publisher, subscriber, origin, seen }
    }

    fn client(version: Version) -> Self {
        Self::new(version, Side::Client, Link::perfect())
    }

    fn broadcast(&self, path: &str) -> (BroadcastProducer, TrackProducer) {
        let mut broadcast = self.origin.create_broadcast(path).unwrap();
        let video = broadcast.create_track("video").unwrap();
        (broadcast, video)
    }

    fn seen(&self, path: &str) -> BroadcastConsumer {
        self.seen.consume().broadcast(path).expect("it is announced")
    }
}

/// The names that were not read yet.
fn read(names: &mut TrackNames) -> Vec<String> {
    let mut read = vec![];
    while let Poll::Ready(Ok(Some(name))) = names.try_next_name() {
        read.push(name.to_string());
    }
    read
}

fn write(track: &mut TrackProducer) {
    let mut group = track.append_group().unwrap();
    group.write_frame(0, "hi").unwrap();
    group.finish().unwrap();
}

/// The tracks that there are and those that come, of the broadcasts below the prefix and of no other. They are read like any
/// track. After the handle was dropped no others come, and those that came stay.
#[test]
fn tracks_are_offered_as_they_come() {
    for version in drafts() {
        for (side, link) in [
            (Side::Client, Link::perfect()),
            (Side::Server, Link::perfect()),
            (Side::Client, Link::hostile(3)),
        ] {
            println!("{version} {side:?} {link:?}");
            let mut world = World::new(version, side, link);
            let (mut alice, mut video) = world.broadcast("room/alice");
            let (mut bob, _chat) = world.broadcast("room/bob");
            let (mut hall, _stage) = world.broadcast("hall");
            let mut request = world.subscriber.subscribe_tracks("room").unwrap();
            assert_eq!(request.prefix().as_str(), "room");
            world.pair.run_until_idle();
            let mut names =
                ["room/alice", "room/bob", "hall"].map(|path| world.seen(path).track_names());
            let all = |names: &mut [TrackNames; 3]| names.each_mut().map(read).concat().join(" ");
            assert_eq!(all(&mut names), "video video");
            assert_eq!(read(&mut names[2]), [""; 0]);

            let _audio = alice.create_track("audio").unwrap();
            let _later = bob.create_track("later").unwrap();
            let _other = hall.create_track("other").unwrap();
            let (_carol, _face) = world.broadcast("room/carol");
            world.pair.run_until_idle();
            assert_eq!(all(&mut names), "audio later");
            assert_eq!(read(&mut world.seen("room/carol").track_names()), ["video"]);
            assert_eq!(read(&mut world.seen("room/alice").track_names()), ["video", "audio"]);

            // Nothing flows before it is read. On 16 to 18 a peer that does not name itself is not told to pause.
            write(&mut video);
            world.pair.run_until_idle();
            if version > Version::Moqt18 {
                assert_eq!(world.publisher.stats().groups_sent, 0, "{version}");
            }
            let mut reader =
                world.seen("room/alice").subscribe_track("video", Subscription::default()).unwrap();
            world.pair.run_until_idle();
            write(&mut video);
            world.pair.run_until_idle();
            let Poll::Ready(Ok(Some(mut group))) = reader.try_recv_group() else { panic!() };
            let Poll::Ready(Ok(Some(frame))) = group.try_read_frame() else { panic!() };
            assert_eq!(frame.payload(), b"hi");

            assert!(request.try_ended().is_pending());
            drop(request);
            world.pair.run_until_idle();
            let _late = alice.create_track("late").unwrap();
            world.pair.run_until_idle();
            assert_eq!(all(&mut names), "", "{version}: nobody asks any more");
            write(&mut video);
            world.pair.run_until_idle();
            assert!(matches!(reader.try_recv_group(), Poll::Ready(Ok(Some(_)))), "it runs on");
            // Another request brings what came meanwhile, and nothing twice.
            let _again = world.subscriber.subscribe_tracks("room/alice").unwrap();
            world.pair.run_until_idle();
            assert_eq!(read(&mut names[0]).last().unwrap(), "late");
            alice.finish().unwrap();
            drop(video);
            world.pair.run_until_idle();
            assert!(world.subscriber.try_closed().is_pending());
        }
    }
}

/// The application at the other end may refuse the request. Two requests may not overlap.
#[test]
fn a_refusal_is_the_end_of_the_request() {
    for version in drafts() {
        let (near, client) =
            Client::new().with_consume(Origin::default().produce()).connect(version, Instant::ZERO);
        let published = Origin::default().produce();
        let server = Server::new().with_publish(published.consume());
        let (mut asking, server) = server.incoming(version, Instant::ZERO);
        let mut pair = Pair::new(client, server, Link::perfect());
        pair.run_until_idle();
        assert!(asking.try_ready().is_ready());
        let session = asking
            .with_decisions(|request| match request.kind() {
                PeerRequestKind::Tracks if request.path().as_str() == "secret" => {
                    request.reject(Error::Unauthorized);
                }
                _ => request.accept(),
            })
            .accept();
        pair.run_until_idle();
        let wakes = Wakes::new();
        let mut secret = near.subscribe_tracks("secret").unwrap();
        assert!(secret.poll_ended(&mut wakes.context()).is_pending());
        pair.run_until_idle();
        assert_eq!(wakes.count(), 1, "{version}");
        for _ in 0..2 {
            assert_eq!(secret.try_ended(), Poll::Ready(Error::Unauthorized), "{version}");
        }
        let mut room = near.subscribe_tracks("room").unwrap();
        pair.run_until_idle();
        let mut inner = near.subscribe_tracks("room/alice").unwrap();
        pair.run_until_idle();
        assert_eq!(inner.try_ended(), Poll::Ready(Error::Duplicate), "{version}");
        assert!(room.try_ended().is_pending(), "{version}");
        drop(secret);
        pair.run_until_idle();
        // It learns of the end of the session.
        session.close(Error::App(3));
        pair.run_until_idle();
        assert_eq!(room.try_ended(), Poll::Ready(Error::App(3)), "{version}");
        assert_eq!(inner.try_ended(), Poll::Ready(Error::Duplicate), "{version}: as before");
        assert_eq!(near.subscribe_tracks("hall").err(), Some(Error::App(3)), "{version}");
    }
}

/// On 14 and 15 the request for announcements brings the tracks of its prefix. That for the root can't be sent there.
#[test]
fn announcements_bring_tracks_on_14_and_15() {
    for version in Version::known() {
        let brings = matches!(version, Version::Moqt14 | Version::Moqt15);
        let [origin, seen] = [(); 2].map(|()| Origin::default().produce());
        let client = Client::new().with_consume(seen.scope(["room"]).unwrap());
        let server = Server::new().with_publish(origin.consume());
        let (near, client) = client.connect(version, Instant::ZERO);
        let (_far, server) = server.accept(version, Instant::ZERO);
        let mut pair = Pair::new(client, server, Link::perfect());
        let mut alice = origin.create_broadcast("room/alice").unwrap();
        let mut video = alice.create_track("video").unwrap();
        pair.run_until_idle();
        let found = seen.consume().broadcast("room/alice").expect("it is announced");
        let expected = if brings { &["video"][..] } else { &[] };
        assert_eq!(read(&mut found.track_names()), expected, "{version}");
        let mut request = near.subscribe_tracks("room").unwrap();
        pair.run_until_idle();
        assert_eq!(request.try_ended().is_pending(), version >= Version::Moqt14, "{version}");
        let mut track = found.subscribe_track("video", Subscription::default()).unwrap();
        pair.run_until_idle();
        write(&mut video);
        pair.run_until_idle();
        assert!(matches!(track.try_recv_group(), Poll::Ready(Ok(Some(_)))), "{version}");
    }
}

/// Some requests need no peer to be refused.
#[test]
fn a_request_that_can_not_be_made_fails_at_once() {
    let version = Version::Moqt22;
    let seen = Origin::default().produce();
    let mut limits = Limits::default();
    (limits.announce_requests, limits.path_bytes) = (2, 100);
    let client = Client::new().with_limits(limits.clone());
    let (session, _driver) = client.connect(version, Instant::ZERO);
    assert_eq!(session.subscribe_tracks("room").err(), Some(Error::Unauthorized));
    let scoped = client.clone().with_consume(seen.scope(["room"]).unwrap());
    let (session, _driver) = scoped.connect(version, Instant::ZERO);
    assert_eq!(session.subscribe_tracks("hall").err(), Some(Error::Unauthorized));
    assert_eq!(session.subscribe_tracks("").err(), Some(Error::Unauthorized));
    let held = ["room/a", "room/b"].map(|prefix| session.subscribe_tracks(prefix).unwrap());
    assert!(matches!(session.subscribe_tracks("room/c"), Err(Error::Limit(_))));
    drop(held);
    assert!(session.subscribe_tracks("room/c").is_ok());
    let origin = Origin::default().limits(limits).produce();
    let (session, _driver) = client.with_consume(origin).connect(version, Instant::ZERO);
    assert!(matches!(session.subscribe_tracks("a".repeat(101)), Err(Error::Limit(_))));

    // moq-lite has no such request. That it is moq-lite is not always known before the set-up.
    for version in Version::known().filter(|version| *version <= Version::Lite07Wip) {
        let mut world = World::client(version);
        let mut request = world.subscriber.subscribe_tracks("room").unwrap();
        world.pair.run_until_idle();
        assert_eq!(request.try_ended(), Poll::Ready(Error::Unsupported), "{version}");
        assert!(world.subscriber.try_closed().is_pending());
    }
}

/// A handle that is dropped before the driver ran leaves nothing to send, and ten thousand handles leave nothing behind.
#[test]
fn requests_that_were_dropped_leave_nothing() {
    for version in drafts() {
        let mut world = World::client(version);
        let (_alice, _video) = world.broadcast("room/alice");
        world.pair.run_until_idle();
        let streams = |world: &World| world.pair.streams(Side::Client, Dir::Bi);
        let (before, sent) = (streams(&world), world.subscriber.stats().bytes_sent);
        for _ in 0..10_000 {
            drop(world.subscriber.subscribe_tracks("room").unwrap());
        }
        world.pair.run_until_idle();
        assert_eq!((streams(&world), world.subscriber.stats().bytes_sent), (before, sent));
        let unused = world.pair.client.census();
        for _ in 0..100 {
            let request = world.subscriber.subscribe_tracks("hall").unwrap();
            world.pair.run_until_idle();
            drop(request);
            world.pair.run_until_idle();
        }
        assert_eq!(streams(&world), before, "{version}");
        assert_eq!(world.pair.client.census().beyond(&unused), [], "{version}");
        // Nothing is asked of a peer that wants to be left.
        world.publisher.go_away(Goaway::default().timeout(Duration::from_secs(3))).unwrap();
        let mut late = world.subscriber.subscribe_tracks("room").unwrap();
        world.pair.run_until_idle();
        let ended = late.try_ended();
        assert!(matches!(ended, Poll::Ready(_)), "{version}: {ended:?}");
    }
}

/// A relay asks its publisher, and offers what comes to a reader that asks the relay.
#[test]
fn tracks_pass_a_relay() {
    for version in drafts() {
        let [origin, relayed, seen] = [(); 3].map(|()| Origin::default().produce());
        let publisher = Client::new().with_publish(origin.consume());
        let reader = Client::new().with_consume(seen.clone());
        let relay = Server::new().with_origin(&relayed);
        let (_publishing, near) = publisher.connect(version, Instant::ZERO);
        let (upstream, far) = relay.accept(version, Instant::ZERO);
        let mut first = Pair::new(near, far, Link::perfect());
        let (reading, near) = reader.connect(version, Instant::ZERO);
        let (_downstream, far) = relay.accept(version, Instant::ZERO);
        let mut second = Pair::new(near, far, Link::perfect());
        let mut settle = || {
            for _ in 0..10 {
                first.run_until_idle();
                second.run_until_idle();
            }
        };
        let mut alice = origin.create_broadcast("room/alice").unwrap();
        let mut video = alice.create_track("video").unwrap();
        let _requests = [&upstream, &reading].map(|it| it.subscribe_tracks("room").unwrap());
        settle();
        let found = seen.consume().broadcast("room/alice").expect("it is announced");
        let mut names = found.track_names();
        assert_eq!(read(&mut names), ["video"], "{version}");
        let _audio = alice.create_track("audio").unwrap();
        settle();
        assert_eq!(read(&mut names), ["audio"], "{version}");
        let mut track = found.subscribe_track("video", Subscription::default()).unwrap();
        settle();
        write(&mut video);
        settle();
        assert!(matches!(track.try_recv_group(), Poll::Ready(Ok(Some(_)))), "{version}");
        // The end of a broadcast is the end of its names.
        alice.finish().unwrap();
        drop((video, _audio));
        settle();
        assert_eq!(names.try_next_name(), Poll::Ready(Ok(None)), "{version}");
    }
}
