//! Two sessions joined in memory on a virtual clock: the view of each application on its peer, in every
//! version, over links from perfect to hostile. There is no runtime, socket or thread.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use smoq::coding::lite::SubscribeResponse;
use smoq::machine::{
    Action, Announcement, Command, Config, Event, Input, Machine, Run, Source, Supply, Token,
};
use smoq::sim::{Link, Pair};
use smoq::stream::{Code, Dir, Side, StreamId};
use smoq::{
    Broadcast, BroadcastConsumer, BroadcastProducer, Client, CloseReason, Driver, Error,
    GroupConsumer, Instant, Limits, Origin, OriginConsumer, OriginProducer, Path, Server, Session,
    Subscription, Track, TrackConsumer, TrackProducer, Version,
};

/// A publisher, a subscriber, and the link between them.
struct World {
    pair: Pair<Driver, Driver>,
    publisher: OriginProducer,
    subscriber: OriginProducer,
    sessions: [Session; 2],
    limits: Limits,
}

impl Drop for World {
    /// Once everything that a test published and read is gone, no state may remain.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let [publisher, subscriber] = [(); 2].map(|()| Origin::default().produce());
            let version = self.sessions[0].version();
            let (fresh, _sessions) =
                join(version, Link::perfect(), self.limits.clone(), &publisher, &subscriber);
            self.pair.assert_unused(fresh);
        }
    }
}

fn join(
    version: Version,
    link: Link,
    limits: Limits,
    publisher: &OriginProducer,
    subscriber: &OriginProducer,
) -> (Pair<Driver, Driver>, [Session; 2]) {
    let client = Client::new().with_publish(publisher.consume()).with_limits(limits.clone());
    let server = Server::new().with_consume(subscriber.clone()).with_limits(limits);
    let (client_session, client) = client.connect(version, Instant::ZERO);
    let (server_session, server) = server.accept(version, Instant::ZERO);
    (Pair::new(client, server, link), [client_session, server_session])
}

impl World {
    fn new(version: Version, link: Link) -> Self {
        Self::with_limits(version, link, Limits::default())
    }

    fn with_limits(version: Version, link: Link, limits: Limits) -> Self {
        let origin = || Origin::default().limits(limits.clone()).produce();
        let (publisher, subscriber) = (origin(), origin());
        let (pair, sessions) = join(version, link, limits.clone(), &publisher, &subscriber);
        Self { pair, publisher, subscriber, sessions, limits }
    }

    /// Runs until everything in flight has arrived and was handled.
    fn settle(&mut self) {
        self.pair.advance(Duration::from_millis(800));
    }

    /// A broadcast of the publisher with one track, seen by the subscriber.
    fn live(&mut self) -> (BroadcastProducer, TrackProducer, BroadcastConsumer) {
        let mut broadcast = self.publisher.create_broadcast("live").unwrap();
        let track = broadcast.create_track(Track::new("video").timescale(1_000)).unwrap();
        self.settle();
        let seen =
            self.subscriber.consume().broadcast("live").expect("the broadcast was announced");
        (broadcast, track, seen)
    }

    /// The same, with a subscriber for all groups.
    fn subscribed(&mut self) -> (BroadcastProducer, TrackProducer, TrackConsumer) {
        let (broadcast, track, seen) = self.live();
        let reader = seen.subscribe_track("video", everything()).unwrap();
        self.settle();
        (broadcast, track, reader)
    }
}

fn everything() -> Subscription {
    Subscription::default().max_age(Duration::MAX).start(0)
}

fn links() -> [Link; 3] {
    [Link::perfect(), Link::wide(1), Link::hostile(2)]
}

fn every_version() -> impl Iterator<Item = Version> {
    Version::ALL.into_iter().chain(Version::WIP)
}

fn in_every_version(test: impl Fn(Version, Link)) {
    for version in every_version() {
        for link in links() {
            test(version, link);
        }
    }
}

/// Timestamp and payload.
type Frame = (u64, Vec<u8>);

/// All frames of a group that ended, and its result.
fn frames(group: &mut GroupConsumer) -> (Vec<Frame>, Result<(), Error>) {
    let mut frames = Vec::new();
    loop {
        match group.try_read_frame() {
            Poll::Ready(Ok(Some(frame))) => {
                frames.push((frame.timestamp().units(), frame.payload().to_vec()));
            }
            Poll::Ready(Ok(None)) => return (frames, Ok(())),
            Poll::Ready(Err(error)) => return (frames, Err(error)),
            Poll::Pending => panic!("group {} has not ended", group.sequence()),
        }
    }
}

fn next_group(track: &mut TrackConsumer) -> GroupConsumer {
    match track.try_recv_group() {
        Poll::Ready(Ok(Some(group))) => group,
        other => panic!("not a group: {other:?}"),
    }
}

#[test]
fn frames_arrive_as_they_were_written() {
    in_every_version(|version, link| {
        let mut world = World::new(version, link);
        let (_broadcast, mut track, mut reader) = world.subscribed();
        for sequence in 0..3_u64 {
            let mut group = track.append_group().unwrap();
            for (at, size) in [0_usize, 1, 600, 3_000].into_iter().enumerate() {
                let timestamp = sequence * 1_000 + at as u64;
                group.write_frame(timestamp, vec![at as u8; size]).unwrap();
            }
            group.finish().unwrap();
            world.settle();
            let mut group = next_group(&mut reader);
            assert_eq!(group.sequence(), sequence);
            let (frames, end) = frames(&mut group);
            assert_eq!(end, Ok(()));
            let sizes: Vec<_> = frames.iter().map(|(_, payload)| payload.len()).collect();
            assert_eq!(sizes, [0, 1, 600, 3_000], "{version}");
            if version >= Version::Lite05 && !(Version::Moqt14..=Version::Moqt16).contains(&version)
            {
                let times: Vec<_> = frames.iter().map(|(time, _)| *time).collect();
                assert_eq!(times, [0, 1, 2, 3].map(|at| sequence * 1_000 + at));
            }
        }
        track.finish().unwrap();
        world.pair.advance(Duration::from_secs(3));
        assert_eq!(reader.try_recv_group().map_ok(|group| group.is_none()), Poll::Ready(Ok(true)));
        for session in &mut world.sessions {
            assert_eq!(session.try_closed(), Poll::Pending);
        }
    });
}

#[test]
fn announcements_come_and_go() {
    in_every_version(|version, link| {
        let mut world = World::new(version, link);
        let mut announced = world.subscriber.consume();
        for path in ["a", "a/b", "c"] {
            let mut broadcast = world.publisher.create_broadcast(path).unwrap();
            world.settle();
            let Poll::Ready(Some(change)) = announced.try_announced() else { panic!("{version}") };
            assert_eq!(change.path.as_str(), path);
            assert!(change.broadcast.is_some());
            assert_eq!(announced.try_announced().map(|_| ()), Poll::Pending);
            broadcast.finish().unwrap();
            world.settle();
            let Poll::Ready(Some(change)) = announced.try_announced() else { panic!("{version}") };
            assert_eq!(change.path.as_str(), path);
            assert!(change.broadcast.is_none());
        }
    });
}

/// A reader on another thread can be as fast as a waker that subscribes at once.
#[test]
fn a_waker_may_subscribe_to_an_announced_broadcast_at_once() {
    struct Eager(OriginConsumer, Mutex<Vec<Result<TrackConsumer, Error>>>);

    impl Wake for Eager {
        fn wake(self: Arc<Self>) {
            if let Some(broadcast) = self.0.broadcast("live") {
                let reader = broadcast.subscribe_track("video", everything());
                self.1.lock().unwrap().push(reader);
            }
        }
    }

    in_every_version(|version, link| {
        let mut world = World::new(version, link);
        let mut news = world.subscriber.consume();
        let eager = Arc::new(Eager(world.subscriber.consume(), Mutex::default()));
        let waker = Waker::from(eager.clone());
        assert!(news.poll_announced(&mut Context::from_waker(&waker)).is_pending());
        let mut broadcast = Broadcast::new().produce();
        let mut track = broadcast.create_track("video").unwrap();
        world.publisher.publish_broadcast("live", &broadcast.consume()).unwrap();
        world.settle();
        let mut reader =
            eager.1.lock().unwrap().pop().expect("the waker was called").expect("subscribed");
        track.write_frame(7, "seven").unwrap();
        world.settle();
        let (frames, end) = frames(&mut next_group(&mut reader));
        assert_eq!((frames[0].1.as_slice(), end), (&b"seven"[..], Ok(())));
    });
}

#[test]
fn broadcasts_from_before_the_session_are_announced() {
    for version in every_version() {
        let (near, far) = (Origin::default().produce(), Origin::default().produce());
        let broadcasts: Vec<_> =
            (0..50).map(|n| near.create_broadcast(format!("room/{n}")).unwrap()).collect();
        let client = Client::new().with_publish(near.consume());
        let server = Server::new().with_consume(far.clone());
        let (_near_session, client) = client.connect(version, Instant::ZERO);
        let (_far_session, server) = server.accept(version, Instant::ZERO);
        Pair::new(client, server, Link::hostile(5)).advance(Duration::from_secs(5));
        let seen = far.consume();
        // The pair is gone, and with it all broadcasts that came through it.
        assert!(broadcasts.iter().all(|it| seen.broadcast(it.path().as_str()).is_none()));
    }
}

#[test]
fn an_unknown_track_is_refused_and_affects_nothing_else() {
    in_every_version(|version, link| {
        let mut world = World::new(version, link);
        let (_broadcast, mut track, seen) = world.live();
        let mut unknown = seen.subscribe_track("subtitles", everything()).unwrap();
        world.settle();
        assert!(matches!(unknown.try_recv_group(), Poll::Ready(Err(Error::NotFound))), "{version}");
        let mut reader = seen.subscribe_track("video", everything()).unwrap();
        track.write_frame(5, "still here").unwrap();
        world.settle();
        assert_eq!(frames(&mut next_group(&mut reader)).0[0].1, b"still here");
    });
}

/// The rows of the endings table for groups: each cell as the peer's reader sees it.
#[test]
fn a_group_ends_for_the_peer_as_it_ended_here() {
    in_every_version(|version, link| {
        let mut world = World::new(version, link);
        let (_broadcast, mut track, mut reader) = world.subscribed();
        for end in [Ok(()), Err(Error::App(7)), Err(Error::Cancelled)] {
            let mut group = track.append_group().unwrap();
            group.write_frame(1, "begun").unwrap();
            world.settle();
            let mut there = next_group(&mut reader);
            match &end {
                Ok(()) => group.finish().unwrap(),
                Err(Error::App(_)) => group.abort(Error::App(7)),
                Err(_) => drop(group),
            }
            world.settle();
            let (frames, seen) = frames(&mut there);
            assert_eq!((frames.len(), seen), (1, end), "{version}");
        }
    });
}

/// The row of the endings table for tracks.
#[test]
fn a_track_ends_for_the_peer_as_it_ended_here() {
    in_every_version(|version, link| {
        for abort in [false, true] {
            let mut world = World::new(version, link.clone());
            let (_broadcast, mut track, mut reader) = world.subscribed();
            let mut group = track.append_group().unwrap();
            group.write_frame(1, "begun").unwrap();
            world.settle();
            let mut there = next_group(&mut reader);
            if abort {
                track.abort(Error::App(9));
                world.settle();
                assert!(matches!(reader.try_recv_group(), Poll::Ready(Err(Error::App(9)))));
                // Frames that had arrived remain readable.
                assert!(matches!(there.try_read_frame(), Poll::Ready(Ok(Some(_)))));
            } else {
                track.finish().unwrap();
                group.finish().unwrap();
                world.pair.advance(Duration::from_secs(3));
                assert!(matches!(reader.try_recv_group(), Poll::Ready(Ok(None))), "{version}");
                assert_eq!(frames(&mut there).1, Ok(()));
            }
        }
    });
}

#[test]
fn the_last_reader_leaving_ends_the_subscription_upstream() {
    in_every_version(|version, link| {
        let mut world = World::new(version, link);
        let (_broadcast, mut track, seen) = world.live();
        // Two readers share one subscription.
        let first = seen.subscribe_track("video", everything()).unwrap();
        let second = seen.subscribe_track("video", everything()).unwrap();
        world.settle();
        assert_eq!(track.try_used(), Poll::Ready(Ok(())));
        drop(first);
        world.settle();
        assert_eq!(track.try_unused(), Poll::Pending, "{version}");
        drop(second);
        world.settle();
        // A request for the track's information keeps the track for longer, but does not read it.
        assert_eq!(track.try_unused(), Poll::Ready(Ok(())), "{version}");
    });
}

#[test]
fn a_streamed_frame_is_forwarded_before_its_end() {
    in_every_version(|version, link| {
        let mut world = World::new(version, link);
        let (_broadcast, mut track, mut reader) = world.subscribed();
        let mut group = track.append_group().unwrap();
        let mut frame = group.create_frame(1, 6).unwrap();
        frame.write(b"abc").unwrap();
        world.settle();
        let mut there = next_group(&mut reader);
        assert_eq!(there.try_read_frame().map(|_| ()), Poll::Pending);
        let Poll::Ready(Ok(Some(mut early))) = there.try_start_frame() else { panic!("{version}") };
        assert_eq!(early.size(), 6);
        let mut bytes = Vec::new();
        while let Poll::Ready(Ok(Some(chunk))) = early.try_read_chunk() {
            bytes.extend_from_slice(&chunk);
        }
        assert_eq!(bytes, b"abc");
        frame.write(b"def").unwrap();
        frame.finish().unwrap();
        world.settle();
        while let Poll::Ready(Ok(Some(chunk))) = early.try_read_chunk() {
            bytes.extend_from_slice(&chunk);
        }
        assert_eq!(bytes, b"abcdef");
    });
}

/// A reader that wants only the newest group gets only the newest, and the subscription continues.
#[test]
fn old_groups_are_skipped_and_counted() {
    for version in [Version::Lite05, Version::Lite06] {
        let mut link = Link::wide(9);
        link.uni_streams = 1;
        let mut world = World::new(version, link);
        let (_broadcast, mut track, seen) = world.live();
        let mut reader = seen.subscribe_track("video", Subscription::default()).unwrap();
        world.settle();
        for n in 0..100_u64 {
            track.write_frame(n * 33, vec![0; 1_000]).unwrap();
        }
        track.finish().unwrap();
        world.pair.advance(Duration::from_secs(5));
        let mut last = None;
        let mut received = 0;
        while let Poll::Ready(Ok(Some(group))) = reader.try_recv_group() {
            received += 1;
            last = last.max(Some(group.sequence()));
        }
        assert_eq!(last, Some(99), "the newest group always arrives");
        assert_eq!(received + world.sessions[0].stats().skipped_groups, 100, "{version}");
        assert!(received < 100, "one stream at a time is too slow for all of them");
        assert!(matches!(reader.try_recv_group(), Poll::Ready(Ok(None))));
    }
}

#[test]
fn a_lost_connection_ends_everything_that_came_through_it() {
    in_every_version(|version, link| {
        let mut world = World::new(version, link);
        let (_broadcast, mut track, mut reader) = world.subscribed();
        track.write_frame(1, "seen").unwrap();
        world.settle();
        let mut announced = world.subscriber.consume();
        assert!(matches!(announced.try_announced(), Poll::Ready(Some(_))));
        world.pair.disconnect();
        world.settle();
        assert!(
            matches!(announced.try_announced(), Poll::Ready(Some(change)) if change.broadcast.is_none())
        );
        assert!(matches!(next_group(&mut reader).try_read_frame(), Poll::Ready(Ok(Some(_)))));
        assert!(matches!(reader.try_recv_group(), Poll::Ready(Err(Error::SessionClosed))));
        for session in &mut world.sessions {
            assert!(session.try_closed().is_ready());
        }
        assert_eq!(track.try_unused(), Poll::Ready(Ok(())));
    });
}

#[test]
fn a_drained_session_delivers_pending_groups() {
    in_every_version(|version, link| {
        if (Version::Moqt14..=Version::Moqt16).contains(&version) {
            // This version does not confirm that a subscriber has everything. Its adapters wait for QUIC's
            // delivery instead.
            return;
        }
        let mut world = World::new(version, link);
        let (_broadcast, mut track, mut reader) = world.subscribed();
        for n in 0..5_u64 {
            track.write_frame(n, vec![n as u8; 200]).unwrap();
        }
        track.finish().unwrap();
        world.sessions[0].drain();
        world.pair.advance(Duration::from_secs(4));
        let mut seen: Vec<_> = (0..5).map(|_| frames(&mut next_group(&mut reader)).0).collect();
        seen.sort();
        assert!(seen.iter().all(|frames| frames[0].1.len() == 200), "{version}");
        assert_eq!(world.sessions[0].try_closed(), Poll::Ready(CloseReason::Clean));
        assert!(world.sessions[1].try_closed().is_ready());
    });
}

/// 03 and 04 do not carry the number of groups, so the subscriber waits for stragglers.
#[test]
fn a_track_that_ended_before_the_close_ended_cleanly() {
    for version in every_version() {
        let mut world = World::new(version, Link::perfect());
        let (_broadcast, mut track, mut reader) = world.subscribed();
        track.write_frame(1, "the last words").unwrap();
        track.finish().unwrap();
        world.pair.advance(Duration::from_millis(1));
        world.sessions[0].close(Error::Cancelled);
        world.pair.advance(Duration::from_millis(1));
        assert!(world.sessions[1].try_closed().is_ready());
        assert_eq!(frames(&mut next_group(&mut reader)).1, Ok(()));
        assert!(matches!(reader.try_recv_group(), Poll::Ready(Ok(None))), "{version}");
    }
}

/// Deployed peers drop groups that arrive after the end of their subscription, so the end must not overtake
/// groups that QUIC still holds.
#[test]
fn the_end_of_a_track_follows_its_groups() {
    // On draft 16 the end shares a stream with all requests, and carries the number of streams to wait for.
    for version in
        every_version().filter(|version| !(Version::Moqt14..=Version::Moqt16).contains(version))
    {
        let mut world = World::new(version, Link::perfect());
        let (_broadcast, mut track, _reader) = world.subscribed();
        track.write_frame(1, "the last words").unwrap();
        track.finish().unwrap();
        let driver = &mut world.pair.client;
        let (mut priorities, mut written) = (BTreeMap::new(), Vec::new());
        for round in 0.. {
            if !driver.has_work() {
                break;
            }
            assert!(round < 10_000, "the driver has work and yields nothing");
            while driver.work(Instant::ZERO) {}
            while let Some(action) = driver.poll_action() {
                if let Action::SetPriority { id, priority } = action {
                    priorities.insert(id, priority);
                }
            }
            if let Some(open) = driver.poll_open() {
                let id = StreamId::new(Side::Client, open.dir(), 7);
                open.opened(id);
            }
            while let Some(write) = driver.poll_write() {
                let len = write.len();
                written.push((write.id(), write.fin()));
                write.accepted(len);
            }
        }
        let [.., (group, true), (subscription, true)] = written[..] else {
            panic!("{version}: {written:?}")
        };
        assert_eq!((group.dir(), subscription.dir()), (Dir::Uni, Dir::Bi));
        assert_eq!(priorities[&group], priorities[&subscription], "{version}");
        // Data written here never arrives, so the other end keeps waiting for it.
        world.pair.disconnect();
    }
}

/// `moq-lite` 0.16 sends STOP_SENDING after the FIN of its answer, and both may arrive together.
#[test]
fn stop_sending_after_an_answer_is_no_failure() {
    let version = Version::Lite04;
    let mut machine = Machine::new(Config::new(Side::Client, version), Instant::ZERO);
    let subscription = Token::default();
    machine.apply(Command::Subscribe {
        subscription,
        broadcast: Path::new("live"),
        track: "video".into(),
        want: everything(),
    });
    let id = StreamId::new(Side::Client, Dir::Bi, 0);
    machine.poll_open(&mut Empty).expect("a stream for the request").opened(id);
    let mut answer = Default::default();
    let ok = SubscribeResponse::Ok {
        priority: 0,
        ordered: false,
        max_age: Duration::ZERO,
        start: None,
        end: None,
    };
    ok.encode(&mut answer, version).unwrap();
    machine.handle(Instant::ZERO, Input::Data { id, bytes: answer.freeze(), fin: true });
    machine.handle(Instant::ZERO, Input::Stopped { id, code: Code::default() });
    assert!(matches!(machine.poll_event(), Some(Event::TrackInfo { .. })));
    assert_eq!(machine.poll_event(), None);
    // Groups may still arrive for a while.
    let deadline = machine.poll_timeout().expect("a deadline for stragglers");
    machine.handle_timeout(deadline);
    assert_eq!(
        machine.poll_event(),
        Some(Event::SubscribeEnded { subscription, result: Ok(None) })
    );

    struct Empty;
    impl Source for Empty {
        fn frames(&mut self, _: Token, _: u64, _: &mut Run<'_>) -> Supply {
            Supply::Gone(Error::NotFound)
        }

        fn announcement(&mut self, _: Token) -> Option<Announcement> {
            None
        }
    }
}

/// 03 and 04 can't update a subscription.
#[test]
fn a_second_reader_gets_groups_that_the_first_did_not_want() {
    for version in every_version() {
        let mut link = Link::wide(9);
        // One stream, in addition to the control stream of draft 18.
        link.uni_streams = if version >= Version::Moqt17 { 2 } else { 1 };
        let mut world = World::new(version, link);
        let (_broadcast, mut track, seen) = world.live();
        let _newest = seen.subscribe_track("video", Subscription::default().end(7)).unwrap();
        world.settle();
        let want = Subscription::default().max_age(Duration::from_secs(5));
        let mut reader = seen.subscribe_track("video", want).unwrap();
        world.settle();
        for n in 0..40_u64 {
            track.write_frame(n * 33, vec![0; 1_000]).unwrap();
        }
        track.finish().unwrap();
        world.pair.advance(Duration::from_secs(4));
        let groups = std::iter::from_fn(|| match reader.try_recv_group() {
            Poll::Ready(Ok(group)) => group,
            other => panic!("{version}: {other:?}"),
        });
        assert_eq!(groups.count(), 40, "{version}");
    }
}

#[test]
fn a_close_carries_its_code() {
    for version in every_version() {
        let mut world = World::new(version, Link::wide(3));
        world.sessions[0].close(Error::App(5));
        world.settle();
        assert_eq!(world.sessions[0].try_closed(), Poll::Ready(CloseReason::Error(Error::App(5))));
        assert_eq!(world.sessions[1].try_closed(), Poll::Ready(CloseReason::Error(Error::App(5))));
    }
}

/// An idle session has no timer and is not woken until something happens.
#[test]
fn an_idle_session_costs_nothing() {
    for version in every_version() {
        let mut world = World::new(version, Link::perfect());
        let (_broadcast, _track, _reader) = world.subscribed();
        // Cached track information expires, and the deadline of the handshake passes.
        world.pair.advance(Duration::from_secs(30));
        assert!(!world.pair.sleep_to_deadline(), "{version} has a timer");
    }
}

/// A publisher whose subscriber's link accepts nothing holds no more than the cache may hold.
#[test]
fn a_stalled_peer_stays_within_the_budget() {
    let mut limits = Limits::default();
    limits.cache_bytes = 1 << 20;
    let mut link = Link::perfect();
    // A thousandth of the bytes that are written.
    link.bandwidth = Some(1);
    let mut world = World::with_limits(Version::Lite06, link, limits);
    let (_broadcast, mut track, seen) = world.live();
    let stalled = seen.subscribe_track("video", everything()).unwrap();
    world.settle();
    for n in 0..5_000_u64 {
        track.write_frame(n * 10, vec![0; 2_000]).unwrap();
        world.pair.advance(Duration::from_millis(2));
        assert!(world.publisher.cached_bytes() <= 2 << 20, "{}", world.publisher.cached_bytes());
        assert!(world.subscriber.cached_bytes() <= 2 << 20);
    }
    drop(stalled);
}

/// 06 carries the end of a track, so there is nothing to wait for. (05 does as well, but its peers disagree
/// about the number; 03 and 04 do not.)
#[test]
fn the_end_of_a_track_is_known_with_its_last_group() {
    for link in [Link::perfect(), Link::wide(4)] {
        let mut world = World::new(Version::Lite06, link);
        let (_broadcast, mut track, mut reader) = world.subscribed();
        for n in 0..3_u64 {
            track.write_frame(n, "x").unwrap();
        }
        track.finish().unwrap();
        world.pair.advance(Duration::from_millis(150));
        for _ in 0..3 {
            next_group(&mut reader);
        }
        assert!(matches!(reader.try_recv_group(), Poll::Ready(Ok(None))));
    }
}

/// Data that arrived before the end of the connection is delivered first, even if both arrive together.
#[test]
fn data_that_arrives_with_a_close_is_delivered() {
    for version in every_version() {
        let mut world = World::new(version, Link::perfect());
        let (_broadcast, mut track, mut reader) = world.subscribed();
        track.write_frame(1, "the last words").unwrap();
        // Everything is sent, but nothing that arrives is handled before the connection is gone.
        let now = Instant::from_millis(10_000);
        let driver = &mut world.pair.client;
        while driver.work(now) {}
        let open = driver.poll_open().expect("a stream for the group");
        let id = StreamId::new(Side::Client, open.dir(), 7);
        open.opened(id);
        let server = &mut world.pair.server;
        server.handle(now, Input::Opened { id });
        while let Some(mut write) = driver.poll_write() {
            let (id, fin, len) = (write.id(), write.fin(), write.len());
            let bytes = write.chunks().concat().into();
            write.accepted(len);
            server.handle(now, Input::Data { id, bytes, fin });
        }
        server.handle(now, Input::Closed { error: Error::SessionClosed });
        assert!(server.close_reason().is_none());
        for round in 0.. {
            if !server.has_work() {
                break;
            }
            assert!(round < 10_000, "the server has work and yields nothing");
            server.work(now);
        }
        assert!(server.close_reason().is_some());
        let (frames, end) = frames(&mut next_group(&mut reader));
        assert_eq!((&frames[0].1[..], end), (&b"the last words"[..], Ok(())), "{version}");
        assert!(matches!(reader.try_recv_group(), Poll::Ready(Err(Error::SessionClosed))));
    }
}

/// A publisher on another core may write groups as fast as a session takes them. The session handles its peer nevertheless.
#[test]
fn a_busy_publisher_does_not_hold_up_the_session() {
    for version in every_version() {
        let mut world = World::new(version, Link::perfect());
        let (_broadcast, mut track, _reader) = world.subscribed();
        let now = Instant::from_millis(10_000);
        let driver = &mut world.pair.client;
        driver.handle(now, Input::Closed { error: Error::Disconnected });
        for n in 0_u64..1_000 {
            track.write_frame(n, "busy").unwrap();
            driver.work(now);
        }
        assert!(world.sessions[0].try_closed().is_ready(), "{version}");
        assert!(track.try_unused().is_ready(), "{version}");
    }
}

/// 03 and 04 have no TRACK_INFO, and peers of draft 16 accept no properties. The subscriber then decides
/// how long groups are kept.
#[test]
fn a_track_without_a_maximum_age_gets_the_local_limit() {
    let mut limits = Limits::default();
    limits.max_age = Duration::from_secs(1);
    for version in every_version() {
        let mut world = World::with_limits(version, Link::perfect(), limits.clone());
        let (_broadcast, _track, mut reader) = world.subscribed();
        let Poll::Ready(Ok(info)) = reader.try_info() else { panic!("{version}") };
        let silent =
            version < Version::Lite05 || (Version::Moqt14..=Version::Moqt16).contains(&version);
        let expected = if silent { 1 } else { 5 };
        assert_eq!(info.max_age, Duration::from_secs(expected), "{version}");
    }
}

/// A subscription with a last group stays open after that group, and learns how the track ends.
#[test]
fn a_bounded_subscription_learns_of_the_end_of_the_track() {
    in_every_version(|version, link| {
        for abort in [false, true] {
            let mut world = World::new(version, link.clone());
            let (_broadcast, mut track, seen) = world.live();
            let mut reader = seen.subscribe_track("video", everything().end(0)).unwrap();
            world.settle();
            track.write_frame(1, "the last that is wanted").unwrap();
            track.write_frame(2, "not wanted").unwrap();
            world.settle();
            assert_eq!(next_group(&mut reader).sequence(), 0);
            if abort {
                track.abort(Error::App(3))
            } else {
                track.finish().unwrap()
            }
            world.pair.advance(Duration::from_secs(4));
            assert_eq!(world.sessions[0].stats().skipped_groups, 0, "{version}");
            assert!(
                track.try_unused().is_ready(),
                "{version}, {abort}: the publisher has a reader"
            );
        }
    });
}

/// An update of the subscription does not send groups again.
#[test]
fn an_update_does_not_send_groups_again() {
    in_every_version(|version, link| {
        let mut world = World::new(version, link);
        let (_broadcast, mut track, mut reader) = world.subscribed();
        for n in 0..3_u64 {
            track.write_frame(n, "x").unwrap();
        }
        world.settle();
        reader.update(everything().start(2).priority(9));
        world.settle();
        track.write_frame(3, "x").unwrap();
        world.settle();
        assert_eq!(world.sessions[0].stats().skipped_groups, 0, "{version}: stopped as duplicates");
        assert!(track.subscription().is_some());
    });
}

/// A connection that broke is not a session that was closed.
#[test]
fn a_lost_connection_is_not_a_clean_end() {
    let mut world = World::new(Version::Lite06, Link::perfect());
    world.pair.disconnect();
    world.settle();
    for session in &mut world.sessions {
        assert_eq!(session.try_closed(), Poll::Ready(CloseReason::Error(Error::Disconnected)));
    }
}

/// SETUP, parameter 2: the path of the URL that a client dialed, from 05 on (golden row G76). Parameter 1
/// precedes it.
#[test]
fn a_client_sends_the_path_that_it_dialed() {
    for version in [Version::Lite05, Version::Lite06] {
        let client = Client::new().with_path("room");
        let (_session, mut driver) = client.connect(version, Instant::ZERO);
        let open = driver.poll_open().expect("a stream for SETUP");
        let id = StreamId::new(Side::Client, open.dir(), 0);
        open.opened(id);
        let mut write = driver.poll_write().expect("SETUP");
        assert_eq!(write.chunks().concat(), b"\x01\x0b\x02\x01\x01\x01\x02\x05/room");
        assert!(write.fin());
    }
}
