//! Announcements between peers: a name that can't be encoded affects no other name, and the announced number
//! of announcements is right.

mod unread;

use std::collections::{BTreeMap, BTreeSet};
use std::task::Poll;

use smoq::coding::lite::{Announce, AnnounceOk, HEAD_BYTES, frame_message};
use smoq::sim::{Link, Pair};
use smoq::stream::{Dir, Side, StreamId};
use smoq::{
    BroadcastProducer, Client, Driver, Error, Hop, Instant, LimitKind, Limits, Origin,
    OriginConsumer, OriginProducer, Server, Session, Subscription, Version,
};

use unread::UnreadServer;

/// Limits of a peer that accepts names of any length.
fn boundless() -> Limits {
    let mut limits = Limits::default();
    limits.path_bytes = usize::MAX;
    limits
}

/// The paths that are announced now.
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

/// A publisher with limits of its own, a relay, and a reader at the relay.
struct Line {
    publisher: OriginProducer,
    relay: OriginProducer,
    reader: OriginProducer,
    up: Pair<Driver, Driver>,
    down: Pair<Driver, Driver>,
    sessions: Vec<Session>,
}

impl Line {
    /// The relay puts the publisher's broadcasts below `root`.
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

/// A path that is too long is left out, at first and later, and so is its end. All others are announced.
#[test]
fn one_long_path_affects_no_other() {
    for version in Version::known() {
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
                    let mut consumer = line.reader.consume();
                    let found: Vec<_> = announced(&mut consumer)
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

/// A relay's root that makes a path too long for the next hop affects no other path.
#[test]
fn a_root_that_makes_a_path_too_long_affects_no_other() {
    for version in Version::known() {
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

/// The application gets the error at the call.
#[test]
fn a_name_that_is_too_long_is_refused_at_the_call() {
    let origin = Origin::default().produce();
    let fits = "x".repeat(4_096);
    let long = "x".repeat(4_097);
    let too_long = Some(Error::Limit(LimitKind::PathBytes));
    assert_eq!(origin.create_broadcast(&*long).err(), too_long);
    assert_eq!(origin.dynamic(&*long).err(), too_long);
    let mut broadcast = origin.create_broadcast(&*fits).unwrap();
    assert_eq!(origin.publish_broadcast(&*long, &broadcast.consume()).err(), too_long);
    let mut reader = origin.consume();
    let Poll::Ready(result) = reader.try_request_broadcast(&long) else {
        panic!("the request waits")
    };
    assert_eq!(result.err(), too_long);
    assert!(reader.broadcast(&*long).is_none());
    let too_long = Some(Error::Limit(LimitKind::TrackNameBytes));
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

/// The bytes that the server writes on the stream of the first request.
fn written(peer: &mut UnreadServer) -> Vec<u8> {
    let mut all = Vec::new();
    let request = StreamId::new(Side::Client, Dir::Bi, 0);
    loop {
        peer.work();
        while let Some(open) = peer.server.poll_open() {
            let id = StreamId::new(Side::Server, open.dir(), 0);
            open.opened(id);
        }
        let Some(mut write) = peer.server.poll_write() else { return all };
        let (id, len) = (write.id(), write.len());
        if id == request {
            all.extend(write.chunks().concat());
        }
        write.accepted(len);
    }
}

/// moq-lite 05, ANNOUNCE_OK: exactly the promised number of announcements follows, all of them active.
#[test]
fn as_many_announcements_follow_as_announce_ok_promises() {
    for version in Version::known().filter(|it| (Version::Lite05..=Version::Lite07Wip).contains(it))
    {
        for n in [0, 1, 1_000] {
            let origin = Origin::default().produce();
            let mut kept: Vec<_> =
                (0..n).map(|at| origin.create_broadcast(format!("room/{at}")).unwrap()).collect();
            // With the root in front these paths have too many segments or too many bytes.
            let inside = origin.with_root("org").unwrap();
            for unsayable in ["s/".repeat(32), "x".repeat(4_096)] {
                kept.push(inside.create_broadcast(unsayable).unwrap());
            }
            let bytes = written(&mut UnreadServer::new(version, &origin, 1));
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

/// Limits::sent_announcements: the peer learns of all ends, and then of the broadcasts that were left out.
#[test]
fn broadcasts_beyond_the_limit_are_announced_when_others_have_ended() {
    for version in Version::known() {
        let mut limits = Limits::default();
        limits.sent_announcements = 8;
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
