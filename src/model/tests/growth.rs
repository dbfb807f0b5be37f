//! The cost of one more of many, in steps of work. It must be the same at n and at 10 n. Tests that need
//! no private access are in `tests/growth`.

use std::sync::Arc;
use std::time::Duration;

use crate::model::base::{HOLD_TIME, Horizon, Route, SessionId, steps};
use crate::model::cache::{Cache, GroupProducer, Track, TrackConsumer, TrackProducer};
use crate::model::routing::{Origin, OriginProducer, Upstream};
use crate::model::session::{Client, Driver, Server};
use crate::sim::{Link, Pair};
use crate::{Cost, Hop, Instant, Limits, Subscription, Version};

/// Checks that each of ten times as many costs the same.
fn assert_flat(few: u64, cost: impl Fn(u64) -> u64) {
    let costs = [few, 10 * few].map(cost);
    assert!(costs[0] > 0, "nothing was counted");
    assert!(costs[1] <= costs[0] + costs[0] / 10, "{costs:?} at {few} and at {}", 10 * few);
}

fn peer(id: u64) -> Horizon {
    Horizon { exclude: Hop::new(id), session: Some(SessionId(id)), on_demand: false }
}

fn want(id: u64) -> Subscription {
    let age = Duration::from_millis(id % 500);
    Subscription::default().priority((id % 200) as u8).max_age(age).start(id).end(id + 9)
}

fn track() -> TrackProducer {
    TrackProducer::new(Track::new("t"), Cache::new(Limits::default()), Arc::default())
}

fn read(track: &TrackProducer, id: u64) -> TrackConsumer {
    track.downgrade().subscribe(Some(want(id)), Some(peer(id))).expect("it lives")
}

#[test]
fn a_reader_costs_the_same_at_any_number_of_readers() {
    assert_flat(1_000, |n| {
        let track = track();
        let _readers: Vec<_> = (1..=n).map(|id| read(&track, id)).collect();
        let (steps, ()) = steps(|| {
            let mut reader = read(&track, n + 1);
            reader.update(want(3));
            drop(reader);
        });
        steps
    });
}

#[test]
fn a_route_check_costs_the_same_at_any_number_of_readers() {
    assert_flat(1_000, |n| {
        let track = track();
        let _readers: Vec<_> = (1..=n).map(|id| read(&track, id)).collect();
        let route = Route {
            hops: [n, n + 1].into_iter().map(Hop::new).collect(),
            session: Some(SessionId(n)),
            ..Route::default()
        };
        let (steps, suits) =
            steps(|| (track.shared().allows_all(&route), track.shared().allows_any(&route)));
        assert_eq!(suits, (false, true), "one reader is on the route");
        steps
    });
}

fn session(origin: &OriginProducer, id: u64) -> Upstream {
    let hops = [7, 100_000 + id].into_iter().map(Hop::new).collect();
    let cost = Cost { warm: id, cold: id };
    let route = Route { hops, cost, session: Some(SessionId(id)), ..Route::default() };
    origin.announce_remote("a".into(), route).unwrap()
}

#[test]
fn a_track_request_costs_the_same_at_any_number_of_sessions() {
    assert_flat(100, |n| {
        let origin = Origin::new(Hop::new(1)).produce();
        let _sessions: Vec<_> = (1..=n).map(|id| session(&origin, id)).collect();
        let broadcast = origin.consume().broadcast("a").unwrap();
        steps(|| broadcast.serve_track("video", Some(want(1)), peer(n)).unwrap()).0
    });
}

#[test]
fn a_change_of_the_only_route_visits_no_track() {
    for n in [100, 1_000] {
        let origin = Origin::new(Hop::new(1)).produce();
        let mut upstream = session(&origin, 1);
        let broadcast = origin.consume().broadcast("a").unwrap();
        let read = |id: u64| broadcast.serve_track(&id.to_string(), Some(want(id)), peer(id + 9));
        let _readers: Vec<_> = (0..n).map(|id| read(id).unwrap()).collect();
        let hops = [7, 100_001].into_iter().map(Hop::new).collect();
        let route = Route { hops, session: Some(SessionId(1)), ..Route::default() };
        let (steps, is_same) = steps(|| upstream.reroute(&route));
        assert!(is_same && broadcast.route() == route);
        assert!(steps < 10, "{steps} steps with {n} tracks");
    }
}

/// A peer has `n` requests for announcements, and for each a route is held that became worse.
#[test]
fn a_held_announcement_costs_the_same_at_any_number_of_announce_requests() {
    assert_flat(20, |n| {
        let [from, to] = [1, 2].map(|hop| Origin::new(Hop::new(hop)).produce());
        let routes = (1..=n).map(|id| {
            let hops = [7, 100_000 + id].into_iter().map(Hop::new).collect();
            let route = Route { hops, session: Some(SessionId(1 << 40)), ..Route::default() };
            (from.announce_remote(format!("{id}/live").into(), route.clone()).unwrap(), route)
        });
        let mut routes: Vec<_> = routes.collect();
        let prefixes = (1..=n).map(|id| id.to_string());
        let to = to.scope(prefixes).unwrap();
        let (_a, client) = Client::new().with_consume(to).connect(Version::Lite06, Instant::ZERO);
        let limits = Limits { announce_requests: 1_000, ..Limits::default() };
        let server = Server::new().with_limits(limits).with_publish(from.consume());
        let (_b, server) = server.accept(Version::Lite06, Instant::ZERO);
        let mut pair = Pair::new(client, server, Link::perfect());
        pair.run_until_idle();
        let (steps, ()) = steps(|| {
            for (upstream, route) in &mut routes {
                route.cost = Cost { warm: 9, cold: 9 };
                assert!(upstream.reroute(route));
            }
            pair.run_until_idle();
            let due = Some(pair.now() + HOLD_TIME);
            assert_eq!(pair.server.poll_timeout(), due);
            pair.advance(HOLD_TIME);
            assert!(pair.server.poll_timeout() > due, "all were announced");
        });
        steps / n
    });
}

struct Live {
    pair: Pair<Driver, Driver>,
    groups: Vec<GroupProducer>,
    _kept: Box<dyn std::any::Any>,
}

/// `n` groups of one track, all open and being sent.
fn live(version: Version, n: u64, link: Link) -> Live {
    let [up, down] = [1, 2].map(|hop| Origin::new(Hop::new(hop)).produce());
    let (a, client) = Client::new().with_publish(up.consume()).connect(version, Instant::ZERO);
    let server = Server::new().with_consume(down.clone());
    let (b, server) = server.accept(version, Instant::ZERO);
    let mut pair = Pair::new(client, server, link);
    let mut broadcast = up.create_broadcast("live").unwrap();
    let mut track = broadcast.create_track("video").unwrap();
    pair.run_until_idle();
    let seen = down.consume().broadcast("live").unwrap();
    let all = Subscription::default().max_age(Duration::from_secs(9)).start(0);
    let reader = seen.subscribe_track("video", all).unwrap();
    pair.run_until_idle();
    let groups = (0..n).map(|_| {
        let mut group = track.append_group().unwrap();
        group.write_frame(0, "first").unwrap();
        group
    });
    let groups = groups.collect();
    pair.run_until_idle();
    let streams = pair.streams(crate::stream::Side::Client, crate::stream::Dir::Uni);
    assert!(streams >= n as usize, "{version}: {streams} streams");
    Live { pair, groups, _kept: Box::new((up, down, a, b, broadcast, track, reader)) }
}

#[test]
fn a_frame_costs_the_same_however_many_groups_are_open() {
    for version in [Version::Lite01, Version::Lite06, Version::Moqt16, Version::Moqt18] {
        assert_flat(25, |n| {
            let mut live = live(version, n, Link { uni_streams: 10_000, ..Link::perfect() });
            steps(|| {
                for group in live.groups.iter_mut().step_by(5).take(5) {
                    group.write_frame(1, "next").unwrap();
                    live.pair.run_until_idle();
                }
            })
            .0
        });
    }
}

/// QUIC accepts no more on any of the streams. Frames that are written meanwhile are visited once, when
/// it accepts bytes again.
#[test]
fn a_frame_costs_the_same_however_many_groups_are_blocked() {
    assert_flat(25, |n| {
        let link =
            Link { uni_streams: 10_000, latency: Duration::from_millis(1), ..Link::perfect() };
        let mut live = live(Version::Lite06, n, Link { stream_window: 64, ..link });
        let (steps, ()) = steps(|| {
            for _ in 0..3 {
                for group in &mut live.groups {
                    group.write_frame(1, vec![7; 100]).unwrap();
                    live.pair.step();
                }
            }
            live.pair.run_until_idle();
        });
        steps / n
    });
}
