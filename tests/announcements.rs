//! What peers are told of each other's broadcasts: one name that can't be said is one name, the count of what
//! there is is right, and who asks for much and reads nothing costs little.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use allocation_counter::measure;
use smoq::coding::lite::{Announce, AnnounceOk, HEAD_BYTES, frame_message};
use smoq::machine::{Config, Input, Machine};
use smoq::sim::{Bare, Endpoint, Link, Pair, Shelf};
use smoq::stream::{Dir, Side, StreamId};
use smoq::{
    BroadcastProducer, Client, Driver, Error, Hop, Instant, Limits, Origin, OriginConsumer,
    OriginProducer, Path, Server, Session, Subscription, Version,
};

fn every() -> impl Iterator<Item = Version> {
    Version::ALL.into_iter().chain(Version::WIP)
}

/// Of somebody who takes names of any length.
fn boundless() -> Limits {
    let mut limits = Limits::default();
    limits.path_bytes = usize::MAX;
    limits
}

/// What is announced now.
fn announced(origin: &mut OriginConsumer) -> Vec<String> {
    let mut live = BTreeSet::new();
    while let Poll::Ready(Some(announce)) = origin.try_announced() {
        match announce.broadcast {
            Some(_) => live.insert(announce.path.to_string()),
            None => live.remove(announce.path.as_str()),
        };
    }
    live.into_iter().collect()
}

/// A publisher with limits of its own, a relay, and a reader behind it.
struct Line {
    publisher: OriginProducer,
    relay: OriginProducer,
    reader: OriginProducer,
    up: Pair<Driver, Driver>,
    down: Pair<Driver, Driver>,
    sessions: Vec<Session>,
}

impl Line {
    /// The relay puts what comes below `root`.
    fn new(
        up: Version,
        down: Version,
        limits: Limits,
        root: &str,
        fill: &[&str],
    ) -> (Self, Vec<BroadcastProducer>) {
        let publisher = Origin::new(Hop::new(1)).limits(limits.clone()).produce();
        let [relay, reader] = [2, 3].map(|hop| Origin::new(Hop::new(hop)).produce());
        let kept = fill.iter().map(|path| publisher.create_broadcast(*path).unwrap()).collect();
        let client = Client::new().with_publish(publisher.consume()).with_limits(limits);
        let server = Server::new().with_consume(relay.with_root(root).unwrap());
        let (a, a_driver) = client.connect(up, Instant::ZERO);
        let (b, b_driver) = server.accept(up, Instant::ZERO);
        let client = Client::new().with_publish(relay.consume());
        let server = Server::new().with_consume(reader.clone());
        let (c, c_driver) = client.connect(down, Instant::ZERO);
        let (d, d_driver) = server.accept(down, Instant::ZERO);
        let up = Pair::new(a_driver, b_driver, Link::perfect());
        let down = Pair::new(c_driver, d_driver, Link::perfect());
        let line = Self { publisher, relay, reader, up, down, sessions: vec![a, b, c, d] };
        (line, kept)
    }

    fn settle(&mut self) {
        for _ in 0..3 {
            self.up.run_until_idle();
            self.down.run_until_idle();
        }
    }
}

/// A path that is too long for some is left out, whether it is among those at first or comes later, and so
/// is its end. Everything else goes its way.
#[test]
fn one_long_path_takes_no_other_away() {
    for version in every() {
        for (up, down) in
            [(version, Version::Lite06), (Version::Lite06, version), (version, version)]
        {
            for bytes in [4_095, 4_096, 4_097, 20_000, 65_528, 65_529, 70_000] {
                for is_first in [true, false] {
                    let long = format!("m/{}", "x".repeat(bytes - 2));
                    let first: &[&str] = if is_first { &["a", &long, "z"] } else { &["a", "z"] };
                    let (mut line, mut kept) = Line::new(up, down, boundless(), "", first);
                    line.settle();
                    if !is_first {
                        kept.push(line.publisher.create_broadcast(&*long).unwrap());
                        line.settle();
                    }
                    kept.push(line.publisher.create_broadcast("later").unwrap());
                    line.settle();
                    let mut expected = vec!["a", "later", "m", "z"];
                    let case = format!("{up} to {down}, {bytes} bytes, at first: {is_first}");
                    let mut heard = line.reader.consume();
                    let found: Vec<_> = announced(&mut heard)
                        .into_iter()
                        .map(|path| path.split('/').next().unwrap().to_owned())
                        .collect();
                    if bytes > 4_096 {
                        expected.retain(|path| *path != "m");
                    }
                    assert_eq!(found, expected, "{case}");
                    kept.retain(|it| it.path().as_str() == "later");
                    line.settle();
                    assert_eq!(announced(&mut line.reader.consume()), ["later"], "{case}");
                    for session in &mut line.sessions {
                        assert!(session.try_closed().is_pending(), "{case}");
                    }
                }
            }
        }
    }
}

/// What a root adds does not take the others away either, from those behind it.
#[test]
fn a_root_makes_no_path_too_long_for_others() {
    for version in every() {
        let long = "x".repeat(4_096);
        let deep = vec!["y"; 32].join("/");
        let (mut line, _kept) =
            Line::new(version, version, Limits::default(), "org/b", &["a", &long, &deep, "z"]);
        line.settle();
        let relay = announced(&mut line.relay.consume());
        assert_eq!(relay.len(), 4, "{version}");
        assert_eq!(announced(&mut line.reader.consume()), ["org/b/a", "org/b/z"], "{version}");
        assert!(line.sessions.iter_mut().all(|session| session.try_closed().is_pending()));
    }
}

fn is_lite(version: Version) -> bool {
    version < Version::Moqt16
}

/// The application is told at once, at the call.
#[test]
fn a_name_that_is_too_long_is_refused_where_it_is_given() {
    let origin = Origin::default().produce();
    let fits = "x".repeat(4_096);
    let long = "x".repeat(4_097);
    let too_long = Some(Error::Limit("bytes of a path"));
    assert_eq!(origin.create_broadcast(&*long).err(), too_long);
    assert_eq!(origin.dynamic(&*long).err(), too_long);
    let mut broadcast = origin.create_broadcast(&*fits).unwrap();
    assert_eq!(origin.publish_broadcast(&*long, &broadcast.consume()).err(), too_long);
    let mut reader = origin.consume();
    let Poll::Ready(asked) = reader.try_request_broadcast(&long) else { panic!("it waits") };
    assert_eq!(asked.err(), too_long);
    assert!(reader.get_broadcast(&*long).is_none());
    let too_long = Some(Error::Limit("bytes of a track name"));
    assert_eq!(broadcast.create_track(&*long).err(), too_long);
    assert_eq!(broadcast.unique_track(&fits).err(), too_long);
    let _dynamic = broadcast.dynamic();
    let seen = broadcast.consume();
    assert_eq!(seen.subscribe_track(&long, Subscription::default()).err(), too_long);
    assert!(broadcast.create_track(&*fits).is_ok());
    assert!(seen.subscribe_track(&fits, Subscription::default()).is_ok());
    // The root of a handle does not count.
    let inside = origin.with_root("org").unwrap();
    let _kept = inside.create_broadcast(&*fits).unwrap();
    assert!(announced(&mut origin.consume()).iter().any(|path| path.starts_with("org/")));
}

/// Asks `server` for announcements as a client with these interests does, and gives its bytes and what the
/// server says on each stream.
struct Asker {
    server: Driver,
    session: Session,
    /// Bytes that the requests took.
    asked: usize,
}

impl Asker {
    fn new(version: Version, origin: &OriginProducer, requests: usize) -> Self {
        let mut config = Config::new(Side::Client, version);
        config.hop = Hop::new(7);
        config.interests = vec![Path::root(); requests];
        let mut client = Bare::new(Machine::new(config, Instant::ZERO), Shelf::default());
        let (session, mut server) =
            Server::new().with_publish(origin.consume()).accept(version, Instant::ZERO);
        let (mut asked, mut opened) = (0, [0; 2]);
        while let Some(open) = client.poll_open() {
            let dir = open.dir();
            let id = StreamId::new(Side::Client, dir, opened[dir as usize]);
            opened[dir as usize] += 1;
            open.opened(id);
            server.handle(Instant::ZERO, Input::Opened { id });
        }
        while let Some(mut write) = client.poll_write() {
            let (id, len, fin) = (write.id(), write.len(), write.fin());
            let bytes = write.chunks().concat();
            asked += bytes.len();
            write.accepted(len);
            server.handle(Instant::ZERO, Input::Data { id, bytes: bytes.into(), fin });
        }
        Self { server, session, asked }
    }

    fn work(&mut self) {
        while self.server.work(Instant::ZERO) {}
    }

    /// What is written on the stream of the first request.
    fn written(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let request = StreamId::new(Side::Client, Dir::Bi, 0);
        loop {
            self.work();
            while let Some(open) = self.server.poll_open() {
                let id = StreamId::new(Side::Server, open.dir(), 0);
                open.opened(id);
            }
            let Some(mut write) = self.server.poll_write() else { return all };
            let (id, len) = (write.id(), write.len());
            if id == request {
                all.extend(write.chunks().concat());
            }
            write.accepted(len);
        }
    }
}

/// moq-lite 05, ANNOUNCE_OK: as many announcements follow as it says, and those are active.
#[test]
fn the_count_is_what_follows() {
    for version in every().filter(|it| (Version::Lite05..=Version::Lite07Wip).contains(it)) {
        for n in [0, 1, 1_000] {
            let origin = Origin::default().produce();
            let mut kept: Vec<_> =
                (0..n).map(|at| origin.create_broadcast(format!("room/{at}")).unwrap()).collect();
            // With the root they are too deep and too long.
            let inside = origin.with_root("org").unwrap();
            for unsayable in ["s/".repeat(32), "x".repeat(4_096)] {
                kept.push(inside.create_broadcast(unsayable).unwrap());
            }
            let bytes = Asker::new(version, &origin, 1).written();
            let mut rest = &bytes[..];
            let mut next = |typed| {
                let front = &rest[..rest.len().min(HEAD_BYTES)];
                let framed = frame_message(front, version, typed, usize::MAX).unwrap()?;
                let body = &rest[framed.head..framed.head + framed.body];
                rest = &rest[framed.head + framed.body..];
                Some((framed.kind, body))
            };
            let ok = AnnounceOk::decode_body(next(false).unwrap().1, version).unwrap();
            let mut active = 0;
            while let Some((kind, body)) = next(version >= Version::Lite06) {
                let message = Announce::decode_body(kind, body, version, 32).unwrap();
                assert!(matches!(message, Some(Announce::Active { .. })));
                active += 1;
            }
            assert_eq!((ok.active, active), (n as u64, n), "{version}");
        }
    }
}

/// What requests cost that nobody reads the answers of: a cursor each, however much there is.
fn cost(version: Version, requests: usize, broadcasts: usize, writes: usize) -> i64 {
    let origin = Origin::default().produce();
    let kept: Vec<_> =
        (0..broadcasts).map(|at| origin.create_broadcast(format!("room/{at}")).unwrap()).collect();
    let mut asker = Asker::new(version, &origin, requests);
    let mut held = 0;
    let info = measure(|| {
        asker.work();
        for _ in 0..writes {
            let Some(write) = asker.server.poll_write() else { break };
            // QUIC has no room.
            write.blocked(0);
            asker.work();
        }
    });
    held += info.bytes_current;
    assert!(asker.asked < 400, "{} bytes", asker.asked);
    assert!(asker.session.try_closed().is_pending());
    drop(kept);
    held
}

#[test]
fn requests_that_nobody_reads_the_answers_of_cost_little() {
    for version in every().filter(|it| is_lite(*it) && *it >= Version::Lite03) {
        for writes in [0, 200] {
            let few = cost(version, 64, 1_000, writes);
            let many = cost(version, 64, 10_000, writes);
            assert!(many < 4 << 20, "{version}: {many} bytes after {writes} writes");
            assert!(many < few + few / 4 + 4_096, "{version}: {few} and {many} bytes");
        }
    }
}

/// Limits::told_announcements: the peer is told of no others, of all ends, and then of the others.
#[test]
fn who_is_told_of_much_is_told_the_rest_when_some_has_ended() {
    for version in every() {
        let mut limits = Limits::default();
        limits.told_announcements = 8;
        let [publisher, reader] = [1, 2].map(|hop| Origin::new(Hop::new(hop)).produce());
        let mut kept: BTreeMap<_, _> = (0..20)
            .map(|at| format!("room/{at:02}"))
            .map(|path| (path.clone(), publisher.create_broadcast(&*path).unwrap()))
            .collect();
        let all: BTreeSet<_> = kept.keys().cloned().collect();
        let client = Client::new().with_publish(publisher.consume()).with_limits(limits);
        let (_a, client) = client.connect(version, Instant::ZERO);
        let server = Server::new().with_consume(reader.clone());
        let (_b, server) = server.accept(version, Instant::ZERO);
        let mut pair = Pair::new(client, server, Link::perfect());
        let mut ever = BTreeSet::new();
        while !kept.is_empty() {
            pair.run_until_idle();
            let seen = announced(&mut reader.consume());
            assert!(!seen.is_empty() && seen.len() <= 8, "{version}: {seen:?}");
            seen.iter().take(3).for_each(|path| drop(kept.remove(path)));
            ever.extend(seen);
        }
        pair.run_until_idle();
        assert_eq!(announced(&mut reader.consume()), [""; 0], "{version}");
        assert_eq!(ever, all, "{version}");
    }
}

#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A change wakes those who listen above it, and who wait for exactly it, once; and nobody else.
#[test]
fn a_change_wakes_those_whom_it_concerns() {
    for n in [10_usize, 100] {
        let origin = Origin::default().produce();
        let rooms: Vec<_> = (0..n).map(|at| format!("room/{at}")).collect();
        let bells: Vec<_> = (0..n + 5).map(|_| Arc::new(Bell::default())).collect();
        let wakers: Vec<_> = bells.iter().cloned().map(Waker::from).collect();
        let listen = |prefixes: &[&str], at: usize| {
            let prefixes: Vec<Path> = prefixes.iter().copied().map(Path::from).collect();
            let mut listener = origin.consume().scope(&prefixes).unwrap();
            let mut cx = Context::from_waker(&wakers[at]);
            assert!(listener.poll_announced(&mut cx).is_pending());
            listener
        };
        let mut listeners: Vec<_> =
            rooms.iter().enumerate().map(|(at, room)| listen(&[room], at)).collect();
        listeners.push(listen(&[""], n));
        listeners.push(listen(&["hall", "room/7", "x"], n + 1));
        let exact = |path: &str, at: usize| {
            let mut listener = origin.consume();
            let mut cx = Context::from_waker(&wakers[at]);
            assert!(listener.poll_announced_broadcast(&mut cx, path).is_pending());
            listener
        };
        listeners.push(exact("room/7", n + 2));
        listeners.push(exact("room/7/a", n + 3));
        listeners.push(exact("room/7/a/b", n + 4));
        let rung = || -> Vec<usize> {
            let all = bells.iter().enumerate();
            all.flat_map(|(at, bell)| vec![at; bell.0.swap(0, Ordering::SeqCst)]).collect()
        };
        let broadcast = origin.create_broadcast("room/7/a").unwrap();
        assert_eq!(rung(), [7, n, n + 1, n + 3]);
        let _again = origin.create_broadcast("room/7/a").unwrap();
        assert_eq!(rung(), [0; 0], "nobody waits");
        let mut cx = Context::from_waker(&wakers[7]);
        let seven = &mut listeners[7];
        assert!(
            seven.poll_announced(&mut cx).is_ready() && seven.poll_announced(&mut cx).is_pending()
        );
        drop(broadcast);
        assert_eq!(rung(), [7]);
        let room = origin.create_broadcast("room/7").unwrap();
        assert_eq!(rung(), [n + 2]);
        drop(room);
        // The others wait still, for the end as well.
        drop(origin);
        let rest: Vec<_> = (0..n).filter(|at| *at != 7).chain([n + 4]).collect();
        assert_eq!(rung(), rest);
    }
}
