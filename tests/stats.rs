//! Counters match what happened, and gauges are zero at the end.

use std::task::Poll;
use std::time::Duration;

use smoq::machine::{Input, NetworkPath};
use smoq::sim::{Endpoint, Link, Pair};
use smoq::{
    Client, Driver, Error, Instant, Limits, Origin, OriginProducer, Server, Session, SessionGauges,
    SessionStats, Subscription, Track, TrackProducer, TrackStats, Version, Versions,
};

struct World {
    pair: Pair<Driver, Driver>,
    publisher: OriginProducer,
    subscriber: OriginProducer,
    sessions: [Session; 2],
}

impl World {
    fn new(version: Version, link: Link) -> Self {
        let (publisher, subscriber) = (Origin::default().produce(), Origin::default().produce());
        let client = Client::new().with_publish(publisher.consume());
        let server = Server::new().with_consume(subscriber.clone());
        let (near, client) = client.connect(version, Instant::ZERO);
        let (far, server) = server.accept(version, Instant::ZERO);
        let pair = Pair::new(client, server, link);
        Self { pair, publisher, subscriber, sessions: [near, far] }
    }

    fn settle(&mut self) {
        self.pair.advance(Duration::from_millis(800));
    }

    fn stats(&self) -> [SessionStats; 2] {
        [self.sessions[0].stats(), self.sessions[1].stats()]
    }

    fn gauges(&mut self) -> [SessionGauges; 2] {
        [self.sessions[0].gauges(), self.sessions[1].gauges()]
    }
}

fn everything() -> Subscription {
    Subscription::default().max_age(Duration::MAX).start(0)
}

#[test]
fn counters_match_and_gauges_return_to_zero() {
    for version in Versions::default().iter().chain(Version::WIP) {
        for mut link in [Link::perfect(), Link::wide(3), Link::hostile(4)] {
            // One stream for SETUP and one for the group that stays open.
            link.uni_streams = link.uni_streams.max(4);
            let mut world = World::new(version, link);
            let mut broadcast = world.publisher.create_broadcast("live").unwrap();
            let mut track = broadcast.create_track("video").unwrap();
            world.settle();
            assert_eq!(world.sessions[1].gauges().announced, 1, "{version}");
            let seen = world.subscriber.consume().broadcast("live").unwrap();
            let mut reader = seen.subscribe_track("video", everything()).unwrap();
            let unknown = seen.subscribe_track("nothing", everything()).unwrap();
            world.settle();
            drop(unknown);
            for n in 0..3_u64 {
                let mut group = track.append_group().unwrap();
                for size in [1, 700] {
                    group.write_frame(n, vec![0; size]).unwrap();
                }
                group.finish().unwrap();
            }
            let mut open = track.append_group().unwrap();
            open.write_frame(9_u64, "open").unwrap();
            world.settle();
            let (rtt, bitrate) = (Some(Duration::from_millis(20)), Some(8_000));
            let path = NetworkPath { rtt, bitrate, max_datagram: 1_200 };
            let now = world.pair.now();
            Endpoint::handle(&mut world.pair.client, now, Input::NetworkPath(path));
            world.settle();

            let [near, far] = world.stats();
            assert_eq!((near.frames_sent, near.groups_sent), (7, 3), "{version}");
            assert_eq!((far.frames_received, far.groups_received), (7, 3), "{version}");
            assert_eq!(near.bytes_sent, far.bytes_received, "{version}");
            assert_eq!(far.bytes_sent, near.bytes_received, "{version}");
            assert!(near.bytes_sent > 3 * 701 && far.bytes_sent < 1_000, "{near:?} {far:?}");
            assert!(near.refused_requests >= 1, "the missing track: {near:?}");
            let [near, far] = world.gauges();
            assert_eq!((near.sending_groups, far.receiving_groups), (1, 1));
            assert_eq!((far.reading, near.serving.min(1)), (1, 1), "{version}");
            assert_eq!((near.rtt, near.bitrate, near.max_datagram), (rtt, bitrate, 1_200));

            // The subscriber caches everything that was written.
            let (written, seen_stats) = (track.stats(), reader.stats());
            assert_eq!((written.groups, written.frames, written.bytes), (4, 7, 3 * 701 + 4));
            assert_eq!((seen_stats.groups, seen_stats.frames, seen_stats.bytes), (4, 7, 2_107));
            assert_eq!(seen.stats().frames, 7);

            open.abort(Error::App(1));
            world.settle();
            let [near, far] = world.stats();
            assert_eq!((near.skipped_groups, far.broken_groups), (1, 1), "{version}");
            while let Poll::Ready(Ok(Some(_))) = reader.try_recv_group() {}
            drop((reader, track, broadcast, seen, open));
            world.sessions[0].close(Error::SessionClosed);
            world.settle();
            assert_eq!(world.gauges(), [SessionGauges::default(); 2], "{version}");
            drop(world.pair);
            assert_eq!(world.publisher.cached_bytes(), 0);
            assert_eq!(world.subscriber.cached_bytes(), 0);
        }
    }
}

#[test]
fn a_lost_connection_resets_all_gauges() {
    for version in Versions::default().iter().chain(Version::WIP) {
        let mut world = World::new(version, Link::wide(6));
        let mut broadcast = world.publisher.create_broadcast("live").unwrap();
        let mut track = broadcast.create_track("video").unwrap();
        world.settle();
        let seen = world.subscriber.consume().broadcast("live").unwrap();
        let _reader = seen.subscribe_track("video", everything()).unwrap();
        world.settle();
        let mut group = track.append_group().unwrap();
        group.write_frame(1_u64, "begun").unwrap();
        world.settle();
        assert_eq!(world.sessions[1].gauges().receiving_groups, 1, "{version}");
        world.pair.disconnect();
        world.settle();
        assert_eq!(world.gauges(), [SessionGauges::default(); 2], "{version}");
        assert_eq!(world.sessions[1].stats().broken_groups, 1);
    }
}

#[test]
fn old_groups_are_counted_as_expired() {
    let mut link = Link::wide(9);
    link.uni_streams = 1;
    let mut world = World::new(Version::Lite06, link);
    let mut broadcast = world.publisher.create_broadcast("live").unwrap();
    let mut track = broadcast.create_track(Track::new("video").timescale(1_000)).unwrap();
    world.settle();
    let seen = world.subscriber.consume().broadcast("live").unwrap();
    let _reader = seen.subscribe_track("video", Subscription::default()).unwrap();
    world.settle();
    for n in 0..100_u64 {
        track.write_frame(n * 33, vec![0; 1_000]).unwrap();
    }
    world.pair.advance(Duration::from_secs(5));
    let stats = world.sessions[0].stats();
    assert!(stats.expired_groups > 0 && stats.expired_groups == stats.skipped_groups, "{stats:?}");
    assert_eq!(stats.groups_sent + stats.skipped_groups, 100);
}

#[test]
fn a_track_counts_evicted_groups_by_reason() {
    let mut limits = Limits::default();
    limits.track_groups = 2;
    let mut track: TrackProducer =
        Track::new("t").timescale(1_000).max_age(Duration::from_secs(1)).produce_within(limits);
    for n in 0..5_u64 {
        track.write_frame(n, "x").unwrap();
    }
    let stats = track.stats();
    assert_eq!((stats.groups, stats.evicted_groups, stats.expired_groups), (5, 3, 0));

    let mut track = Track::new("t").timescale(1_000).max_age(Duration::from_secs(1)).produce();
    for n in 0..5_u64 {
        track.write_frame(n * 600, "x").unwrap();
    }
    let stats = track.stats();
    assert_eq!((stats.groups, stats.evicted_groups, stats.expired_groups), (5, 0, 2));
    assert!(track.cached_bytes() > 0);
}

#[test]
fn a_broadcast_counts_ended_tracks() {
    let origin = Origin::default().produce();
    let mut broadcast = origin.create_broadcast("b").unwrap();
    let mut sum = TrackStats::default();
    for n in 0..100_u64 {
        let mut track = broadcast.create_track(format!("t{n}").as_str()).unwrap();
        track.write_frame(n, "four").unwrap();
        sum.add(&track.stats());
        let stats = broadcast.stats();
        assert_eq!((stats.groups, stats.frames, stats.bytes), (n + 1, n + 1, 4 * (n + 1)));
    }
    let stats = broadcast.stats();
    assert_eq!((stats.groups, stats.frames, stats.bytes), (sum.groups, sum.frames, sum.bytes));
    assert_eq!(broadcast.cached_bytes(), 0, "all tracks have ended");
}
