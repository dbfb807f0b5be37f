//! The driver of a session. A session that is idle and shares its origin is never woken.

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use smoq::{
    Client, Driver, Error, Goaway, IncomingSession, Instant, OriginProducer, Session, Subscription,
    Track, TrackInfo, Version,
};

use super::sessions::asked;
use super::{
    Case, Joined, LATE, Table, everything, impatient_origin, joined, joined_at, two_origins,
};

const WAIT: &str = "Driver::poll_wake";

pub(crate) fn rows(table: &mut Table) {
    routes(table);
    for version in Version::known() {
        operations(table, version);
        requested_tracks(table, version);
        served_tracks(table, version);
        read_tracks(table, version);
        held_requests(table, version);
        decisions(table, version);
        timers(table, version);
        if (Version::Lite05..=Version::Lite07Wip).contains(&version) {
            fetches(table, version);
        }
        // Hops say there which broadcasts are the same.
        if (Version::Lite04..=Version::Lite07Wip).contains(&version) {
            other_sessions(table, version);
        }
    }
}

/// A session that nobody uses. It was dialed and has sent its SETUP.
fn idle(version: Version, origin: &OriginProducer) -> (Session, Driver) {
    let (session, mut driver) = Client::new().with_origin(origin).connect(version, Instant::ZERO);
    while driver.work(Instant::ZERO) {}
    (session, driver)
}

fn woken(driver: &mut Driver, cx: &mut Context<'_>) -> bool {
    driver.poll_wake(cx).is_ready()
}

/// Adds a row for the client's driver. `prepare` brings both sessions to a state and returns the cause.
fn row<F, K>(
    table: &mut Table,
    version: Version,
    cause: &str,
    prepare: impl FnOnce(&mut Joined) -> F,
) where
    F: FnOnce(&mut Joined) -> K,
    K: 'static,
{
    table.row(WAIT, &format!("{version}, {cause}"), |case| {
        let origins = two_origins();
        // The oldest session of an origin has the timer, which is not the cause here.
        let timekeepers = origins.each_ref().map(|origin| idle(version, origin));
        let mut joined = joined_at(version, origins);
        let act = prepare(&mut joined);
        joined.pair.run_until_idle();
        let (idle_session, mut idle) = idle(version, &joined.origins[0]);
        let joined = Rc::new(RefCell::new(joined));
        let it = joined.clone();
        case.waits(move |cx| woken(&mut it.borrow_mut().pair.client, cx));
        let it = joined.clone();
        case.other("the other end", move |cx| woken(&mut it.borrow_mut().pair.server, cx));
        case.other("an idle session", move |cx| woken(&mut idle, cx));
        move || {
            let kept = act(&mut joined.borrow_mut());
            (kept, joined, idle_session, timekeepers)
        }
    });
}

/// Operations of an application on a session or its origin.
fn operations(table: &mut Table, version: Version) {
    type Act = fn(&mut Joined) -> Box<dyn Any>;
    let acts: [(&str, Act); 9] = [
        ("close", |it| {
            it.sessions[0].close(Error::Cancelled);
            Box::new(())
        }),
        ("drain", |it| {
            it.sessions[0].drain();
            Box::new(())
        }),
        ("GOAWAY", |it| Box::new(it.sessions[0].go_away(Goaway::default()))),
        ("a probe", |it| Box::new(it.sessions[0].probe())),
        ("tracks are asked for", |it| Box::new(it.sessions[0].subscribe_tracks("room").unwrap())),
        ("a broadcast", |it| Box::new(it.origins[0].create_broadcast("new").unwrap())),
        ("a broadcast is requested from the peer", |it| {
            Box::new(it.sessions[0].request_broadcast("there/unknown").unwrap())
        }),
        ("a track of the peer is read", |it| {
            let seen = it.origins[0].consume().broadcast("there").unwrap();
            Box::new(seen.subscribe_track("other", Subscription::default()).unwrap())
        }),
        ("the last handle is dropped", |it| {
            let (fresh, _) = Client::new().connect(Version::Lite06, Instant::ZERO);
            drop(std::mem::replace(&mut it.sessions[0], fresh));
            Box::new(())
        }),
    ];
    for (cause, act) in acts {
        row(table, version, cause, |it| {
            let mut there = it.origins[1].create_broadcast("there").unwrap();
            let tracks = ["video", "other"].map(|name| there.create_track(name).unwrap());
            it.pair.run_until_idle();
            move |it| (act(it), there, tracks)
        });
    }
    if version >= Version::Lite06 {
        row(table, version, "a prefix", |it| {
            let origin = it.origins[0].clone();
            move |_| origin.dynamic("store").unwrap()
        });
    }
    row(table, version, "the end of a broadcast", |it| {
        let mut live = it.origins[0].create_broadcast("live").unwrap();
        move |_| (live.finish(), live)
    });
    row(table, version, "the last probe is dropped", |it| {
        let probes = [(); 2].map(|()| it.sessions[0].probe());
        move |_| drop(probes)
    });
    if version >= Version::Moqt16 {
        row(table, version, "tracks are not asked for any more", |it| {
            let request = it.sessions[0].subscribe_tracks("room").unwrap();
            move |_| drop(request)
        });
    }
    row(table, version, "the last handle of a requested broadcast is dropped", |it| {
        let requested = it.sessions[0].request_broadcast("there").unwrap();
        let handles = [requested.clone(), requested];
        move |_| drop(handles)
    });
}

/// Answers of an application to the request for a track that the peer subscribed to.
fn requested_tracks(table: &mut Table, version: Version) {
    for cause in ["a track is accepted", "a track is rejected", "the request is dropped"] {
        row(table, version, cause, |it| {
            let live = it.origins[0].create_broadcast("live").unwrap();
            let mut dynamic = live.dynamic();
            it.pair.run_until_idle();
            let seen = it.origins[1].consume().broadcast("live").unwrap();
            let reader = seen.subscribe_track("video", everything()).unwrap();
            it.pair.run_until_idle();
            let Poll::Ready(Ok(request)) = dynamic.try_requested_track() else { panic!() };
            move |_| {
                let track = match cause {
                    "a track is accepted" => request.accept(TrackInfo::default()).ok(),
                    "a track is rejected" => {
                        request.reject(Error::NotFound);
                        None
                    }
                    _ => None,
                };
                (track, reader, seen, dynamic, live)
            }
        });
    }
}

/// The events of a track that the peer reads.
fn served_tracks(table: &mut Table, version: Version) {
    for cause in [
        "a group",
        "a datagram",
        "a frame",
        "the first part of a frame",
        "the next part of a frame",
        "the end of a group",
        "a group is aborted",
        "a group is evicted",
        "the end of the track",
        "the track is aborted",
        "the track is dropped",
    ] {
        row(table, version, cause, |it| {
            let mut live = it.origins[0].create_broadcast("live").unwrap();
            let info = Track::new("video").max_age(Duration::from_secs(1));
            let mut track = live.create_track(info).unwrap();
            it.pair.run_until_idle();
            let seen = it.origins[1].consume().broadcast("live").unwrap();
            let reader = seen.subscribe_track("video", everything()).unwrap();
            it.pair.run_until_idle();
            let mut group = track.append_group().unwrap();
            let mut frame = None;
            if cause == "the next part of a frame" {
                let mut open = group.create_frame(1, 2).unwrap();
                open.write(b"a").unwrap();
                frame = Some(open);
            }
            if cause == "a group is evicted" {
                track.write_frame(0, "newer").unwrap();
            }
            it.pair.run_until_idle();
            move |it| {
                let mut next = None;
                match cause {
                    "a group" => next = track.append_group().ok(),
                    "a datagram" => track.write_datagram(1, "a").unwrap(),
                    "a frame" => group.write_frame(1, "a").unwrap(),
                    "the first part of a frame" => {
                        let mut open = group.create_frame(1, 2).unwrap();
                        open.write(b"a").unwrap();
                        frame = Some(open);
                    }
                    "the next part of a frame" => frame.as_mut().unwrap().write(b"b").unwrap(),
                    "the end of a group" => group.finish().unwrap(),
                    "a group is aborted" => group.abort(Error::Cancelled),
                    "a group is evicted" => it.origins[0].advance(LATE),
                    "the end of the track" => track.finish().unwrap(),
                    "the track is aborted" => track.abort(Error::Cancelled),
                    _ => return (None, frame, group, next, reader, seen, live),
                }
                (Some(track), frame, group, next, reader, seen, live)
            }
        });
    }
}

/// The acts of the readers of a track of the peer.
fn read_tracks(table: &mut Table, version: Version) {
    for cause in [
        "an updated subscription",
        "a reader that wants more",
        "the reader that wants most leaves",
        "the last reader leaves",
    ] {
        row(table, version, cause, |it| {
            let mut there = it.origins[1].create_broadcast("there").unwrap();
            let track = there.create_track("video").unwrap();
            it.pair.run_until_idle();
            let seen = it.origins[0].consume().broadcast("there").unwrap();
            let read = |priority| {
                let want = Subscription::default().priority(priority);
                seen.subscribe_track("video", want).unwrap()
            };
            let mut readers = vec![read(3)];
            if cause == "the reader that wants most leaves" {
                readers.push(read(200));
            }
            it.pair.run_until_idle();
            move |_| {
                match cause {
                    "an updated subscription" => {
                        readers[0].update(Subscription::default().priority(200));
                    }
                    "a reader that wants more" => readers.push(
                        seen.subscribe_track("video", Subscription::default().priority(200))
                            .unwrap(),
                    ),
                    _ => drop(readers.pop()),
                }
                (readers, seen, track, there)
            }
        });
    }
    row(table, version, "the last reader of a requested broadcast leaves", |it| {
        let mut there = it.origins[1].create_broadcast("there").unwrap();
        let track = there.create_track("video").unwrap();
        let seen = it.sessions[0].request_broadcast("there").unwrap();
        let reader = seen.subscribe_track("video", everything()).unwrap();
        drop(seen);
        it.pair.run_until_idle();
        move |_| {
            drop(reader);
            (track, there)
        }
    });
}

/// Requests for groups, at both ends.
fn fetches(table: &mut Table, version: Version) {
    for cause in ["a group is requested", "the reader that requested a group leaves"] {
        row(table, version, cause, |it| {
            let mut there = it.origins[1].create_broadcast("there").unwrap();
            let track = there.create_track("video").unwrap();
            let dynamic = track.dynamic();
            it.pair.run_until_idle();
            let seen = it.origins[0].consume().broadcast("there").unwrap();
            let read = || seen.subscribe_track("video", Subscription::default()).unwrap();
            let (stays, mut reader) = (read(), read());
            it.pair.run_until_idle();
            if cause != "a group is requested" {
                assert!(reader.try_fetch_group(5).is_pending());
                it.pair.run_until_idle();
            }
            move |_| {
                let mut reader = Some(reader);
                match cause {
                    "a group is requested" => {
                        assert!(reader.as_mut().unwrap().try_fetch_group(5).is_pending());
                    }
                    _ => drop(reader.take()),
                }
                (reader, stays, seen, dynamic, track, there)
            }
        });
    }
    for cause in [
        "a requested group is accepted",
        "a requested group is rejected",
        "the request for a group is dropped",
        "a requested group is written",
    ] {
        row(table, version, cause, |it| {
            let mut live = it.origins[0].create_broadcast("live").unwrap();
            let mut track = live.create_track("video").unwrap();
            let mut dynamic = track.dynamic();
            it.pair.run_until_idle();
            let seen = it.origins[1].consume().broadcast("live").unwrap();
            let mut reader = seen.subscribe_track("video", Subscription::default()).unwrap();
            it.pair.run_until_idle();
            assert!(reader.try_fetch_group(5).is_pending());
            it.pair.run_until_idle();
            let Poll::Ready(Ok(request)) = dynamic.try_requested_group() else { panic!() };
            move |_| {
                let mut kept: Vec<Box<dyn Any>> = Vec::new();
                match cause {
                    "a requested group is accepted" => kept.push(Box::new(request.accept())),
                    "a requested group is rejected" => request.reject(Error::NotFound),
                    "the request for a group is dropped" => drop(request),
                    _ => {
                        kept.push(Box::new(track.create_group(5).unwrap()));
                        kept.push(Box::new(request));
                    }
                }
                (kept, reader, seen, dynamic, track, live)
            }
        });
    }
}

/// The peer subscribes to a track of a broadcast that is requested here.
fn held_requests(table: &mut Table, version: Version) {
    for cause in [
        "a requested broadcast is accepted",
        "a requested broadcast is rejected",
        "the request for a broadcast is dropped",
        "a requested broadcast is announced",
        "an existing broadcast is the answer",
        "the last handler is dropped",
    ] {
        row(table, version, cause, |it| {
            let origin = it.origins[0].clone();
            let mut dynamic = origin.dynamic("store").unwrap();
            it.pair.run_until_idle();
            let seen = it.sessions[1].request_broadcast("store/a").unwrap();
            let reader = seen.subscribe_track("video", everything()).unwrap();
            it.pair.run_until_idle();
            let request = (cause != "the last handler is dropped").then(|| {
                let Poll::Ready(request) = dynamic.try_requested_broadcast() else { panic!() };
                request
            });
            let other = two_origins()[0].create_broadcast("other").unwrap();
            move |_| {
                let mut kept: Vec<Box<dyn Any>> = Vec::new();
                match (cause, request) {
                    ("a requested broadcast is accepted", Some(request)) => {
                        kept.push(Box::new(request.accept()));
                    }
                    ("a requested broadcast is rejected", Some(request)) => {
                        request.reject(Error::NotFound);
                    }
                    ("a requested broadcast is announced", request) => {
                        kept.push(Box::new(origin.create_broadcast("store/a").unwrap()));
                        kept.push(Box::new(request));
                    }
                    ("an existing broadcast is the answer", Some(request)) => {
                        request.accept_broadcast(&other.consume()).unwrap();
                    }
                    (_, Some(request)) => drop(request),
                    (_, None) => {
                        drop(dynamic);
                        return (kept, None, reader, seen, other);
                    }
                }
                (kept, Some(dynamic), reader, seen, other)
            }
        });
    }
}

/// The decision on a session that a client requests.
fn decisions(table: &mut Table, version: Version) {
    type Decide = fn(IncomingSession) -> Option<Session>;
    let decisions: [(&str, Decide); 3] = [
        ("the client is accepted", |request| Some(request.accept())),
        ("the client is rejected", |request| {
            request.reject(Error::Unauthorized);
            None
        }),
        ("the request of the client is dropped", |request| {
            drop(request);
            None
        }),
    ];
    for (cause, decide) in decisions {
        table.row(WAIT, &format!("{version}, {cause}"), |case| {
            let (mut pair, client, request) = asked(version);
            pair.run_until_idle();
            let pair = Rc::new(RefCell::new(pair));
            let it = pair.clone();
            case.waits(move |cx| woken(&mut it.borrow_mut().server, cx));
            let it = pair.clone();
            case.other("the client", move |cx| woken(&mut it.borrow_mut().client, cx));
            move || (decide(request), client, pair)
        });
    }
}

/// The timer of an origin's cache, which its oldest session has.
fn timers(table: &mut Table, version: Version) {
    for cause in [
        "a requested broadcast has a deadline",
        "a requested track has one",
        "a requested group has one",
    ] {
        table.row(WAIT, &format!("{version}, {cause}"), |case| {
            let origin = impatient_origin();
            let (session, mut oldest) = idle(version, &origin);
            let (other_session, mut other) = idle(version, &origin);
            let handler = origin.dynamic("store").unwrap();
            let mut live = origin.create_broadcast("live").unwrap();
            let dynamic = live.dynamic();
            let track = live.create_track("video").unwrap();
            let groups = track.dynamic();
            let mut reader = track.consume();
            let mut consumer = origin.consume();
            for driver in [&mut oldest, &mut other] {
                while driver.work(Instant::ZERO) {}
            }
            case.waits(move |cx| woken(&mut oldest, cx));
            case.other("another session", move |cx| woken(&mut other, cx));
            move || {
                let mut asked = None;
                match cause {
                    "a requested broadcast has a deadline" => {
                        assert!(consumer.try_request_broadcast("store/a").is_pending());
                    }
                    "a requested track has one" => {
                        asked = live.consume().subscribe_track("other", everything()).ok();
                    }
                    _ => assert!(reader.try_fetch_group(5).is_pending()),
                }
                let handlers = (handler, dynamic, groups);
                (asked, consumer, reader, track, live, handlers, session, other_session)
            }
        });
    }
    table.row(WAIT, &format!("{version}, the session that had the timer ends"), |case| {
        let [origin, _] = two_origins();
        let first = idle(version, &origin);
        let [(one, mut next), (two, mut last)] = [(); 2].map(|()| idle(version, &origin));
        case.waits(move |cx| woken(&mut next, cx));
        case.other("the session after it", move |cx| woken(&mut last, cx));
        move || {
            drop(first);
            (one, two, origin)
        }
    });
}

/// Changes of routes and handlers, of which the application and older versions are not told.
fn routes(table: &mut Table) {
    for cause in ["a handler for a prefix", "the last handler is dropped"] {
        table.row(WAIT, cause, |case| {
            let newer = joined(Version::Lite06);
            let origins = newer.origins.clone();
            let [newer, older] = [newer, joined_at(Version::Lite05, origins)];
            let origin = newer.origins[0].clone();
            let mut dynamic =
                (cause == "the last handler is dropped").then(|| origin.dynamic("store").unwrap());
            let ends = [newer, older].map(|mut joined| {
                joined.pair.run_until_idle();
                Rc::new(RefCell::new(joined))
            });
            let [newer, older] = ends.clone();
            case.waits(move |cx| woken(&mut newer.borrow_mut().pair.client, cx));
            case.other("an older version", move |cx| {
                woken(&mut older.borrow_mut().pair.client, cx)
            });
            listeners(case, &origin, "store");
            move || {
                match dynamic.take() {
                    Some(dynamic) => drop(dynamic),
                    None => dynamic = Some(origin.dynamic("store").unwrap()),
                }
                (dynamic, origin, ends)
            }
        });
    }
    table.row(WAIT, "a route that costs more", |case| {
        let mut up = joined(Version::Lite06);
        let mut live = up.origins[1].create_broadcast("live").unwrap();
        let track = live.create_track("video").unwrap();
        up.pair.run_until_idle();
        let origin = up.origins[0].clone();
        let seen = origin.consume().broadcast("live").unwrap();
        let reader = seen.subscribe_track("video", everything()).unwrap();
        up.pair.run_until_idle();
        let mut down = joined_at(Version::Lite06, [origin.clone(), two_origins()[1].clone()]);
        down.pair.run_until_idle();
        let down = Rc::new(RefCell::new(down));
        let it = down.clone();
        case.waits(move |cx| woken(&mut it.borrow_mut().pair.client, cx));
        listeners(case, &origin, "other");
        move || {
            up.sessions[1].go_away(Goaway::default()).unwrap();
            up.pair.run_until_idle();
            (reader, seen, track, live, up, down)
        }
    });
}

/// Adds readers of announcements that must not be woken, also one of exactly `path`.
fn listeners(case: &mut Case, origin: &OriginProducer, path: &'static str) {
    let mut consumer = origin.consume();
    while consumer.try_announced().is_ready() {}
    case.other("a listener", move |cx| consumer.poll_announced(cx).is_ready());
    let mut consumer = origin.consume();
    case.other("a listener at a path", move |cx| {
        consumer.poll_announced_broadcast(cx, path).is_ready()
    });
}

/// Other sessions that have the same content.
fn other_sessions(table: &mut Table, version: Version) {
    for cause in ["a better session ends", "a better session delivers a group"] {
        row(table, version, cause, |it| {
            let mut there = it.origins[1].create_broadcast("there").unwrap();
            let mut track = there.create_track("video").unwrap();
            let group = track.append_group().unwrap();
            it.pair.run_until_idle();
            let origins = it.origins.clone();
            let begin = move || {
                let mut joined = joined_at(version, origins);
                joined.pair.run_until_idle();
                joined
            };
            let seen = it.origins[0].consume().broadcast("there").unwrap();
            let mut begin = Some(begin);
            let mut better = None;
            if cause == "a better session ends" {
                better = begin.take().map(|begin| begin());
            }
            let reader = seen.subscribe_track("video", everything()).unwrap();
            for _ in 0..2 {
                it.pair.run_until_idle();
                better.iter_mut().for_each(|it| it.pair.run_until_idle());
            }
            move |_| {
                match &mut better {
                    Some(better) => better.pair.disconnect(),
                    None => better = begin.map(|begin| begin()),
                }
                better.iter_mut().for_each(|it| it.pair.run_until_idle());
                (better, reader, seen, group, track, there)
            }
        });
    }
}
