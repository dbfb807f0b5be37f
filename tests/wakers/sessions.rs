//! Handles of sessions, and ready lists.

use std::task::Poll;
use std::time::Duration;

use smoq::machine::NetworkPath;
use smoq::sim::{Link, Pair};
use smoq::{
    Client, Driver, Error, Goaway, IncomingSession, Instant, ReadyList, Server, Session,
    Subscription, Version,
};

use super::{Table, joined};

pub(crate) fn asked(version: Version) -> (Pair<Driver, Driver>, Session, IncomingSession) {
    let (client, driver) = Client::new().connect(version, Instant::ZERO);
    let (request, server) = Server::new().incoming(version, Instant::ZERO);
    (Pair::new(driver, server, Link::perfect()), client, request)
}

pub(crate) fn rows(table: &mut Table) {
    for cause in ["closed locally", "closed by the peer", "drained", "lost"] {
        for (wait, is_closed) in
            [("Session::poll_closed", true), ("Session::poll_going_away", false)]
        {
            table.row(wait, cause, |case| {
                let mut joined = joined(Version::Lite06);
                let mut session = joined.sessions[0].clone();
                case.waits(move |cx| match is_closed {
                    true => session.poll_closed(cx).is_ready(),
                    false => session.poll_going_away(cx).is_ready(),
                });
                let mut elsewhere = super::joined(Version::Lite06);
                let mut session = elsewhere.sessions[0].clone();
                case.other("a waiter elsewhere", move |cx| session.poll_closed(cx).is_ready());
                elsewhere.pair.run_until_idle();
                move || {
                    match cause {
                        "closed locally" => joined.sessions[0].close(Error::Cancelled),
                        "closed by the peer" => joined.sessions[1].close(Error::Cancelled),
                        "drained" => joined.sessions[1].drain(),
                        _ => joined.pair.disconnect(),
                    }
                    joined.pair.run_until_idle();
                    (joined, elsewhere)
                }
            });
        }
    }
    table.row("Session::poll_going_away", "the peer sends GOAWAY", |case| {
        let mut joined = joined(Version::Lite06);
        // A running subscription keeps the session from ending at once.
        let mut broadcast = joined.origins[1].create_broadcast("live").unwrap();
        let track = broadcast.create_track("video").unwrap();
        joined.pair.run_until_idle();
        let seen = joined.origins[0].consume().broadcast("live").unwrap();
        let reader = seen.subscribe_track("video", Subscription::default()).unwrap();
        joined.pair.run_until_idle();
        let mut session = joined.sessions[0].clone();
        case.waits(move |cx| session.poll_going_away(cx).is_ready());
        let mut session = joined.sessions[0].clone();
        case.other("a waiter for the end", move |cx| session.poll_closed(cx).is_ready());
        move || {
            joined.sessions[1].go_away(Goaway::default()).unwrap();
            joined.pair.run_until_idle();
            (reader, seen, track, broadcast, joined)
        }
    });
    for version in Version::known() {
        table.row("Session::poll_closed", &format!("{version}, the deadline of GOAWAY"), |case| {
            let mut joined = joined(version);
            let mut broadcast = joined.origins[1].create_broadcast("live").unwrap();
            let track = broadcast.create_track("video").unwrap();
            joined.pair.run_until_idle();
            let seen = joined.origins[0].consume().broadcast("live").unwrap();
            let reader = seen.subscribe_track("video", Subscription::default()).unwrap();
            joined.pair.run_until_idle();
            let goaway = Goaway::default().timeout(Duration::from_secs(3));
            joined.sessions[1].go_away(goaway).unwrap();
            joined.pair.run_until_idle();
            joined.pair.advance(Duration::from_millis(2_900));
            for session in &joined.sessions {
                let mut session = session.clone();
                case.waits(move |cx| session.poll_closed(cx).is_ready());
            }
            move || {
                joined.pair.advance(Duration::from_millis(200));
                (reader, seen, track, broadcast, joined)
            }
        });
    }
    for cause in ["the SETUP arrives", "lost"] {
        table.row("IncomingSession::poll_ready", cause, |case| {
            let (mut pair, client, mut request) = asked(Version::Lite06);
            case.waits(move |cx| request.poll_ready(cx).is_ready());
            move || {
                match cause {
                    "lost" => pair.disconnect(),
                    _ => pair.run_until_idle(),
                }
                pair.steps(usize::MAX);
                (pair, client)
            }
        });
    }
    for cause in ["the peer sends PROBE", "the session ends"] {
        table.row("Probe::poll_changed", cause, |case| {
            let mut joined = joined(Version::Lite06);
            let mut probe = joined.sessions[0].probe();
            joined.pair.run_until_idle();
            while probe.try_changed().is_ready() {}
            case.waits(move |cx| probe.poll_changed(cx).is_ready());
            let mut session = joined.sessions[0].clone();
            if cause == "the peer sends PROBE" {
                case.other("a waiter for the end", move |cx| session.poll_closed(cx).is_ready());
            }
            move || {
                match cause {
                    "the peer sends PROBE" => {
                        let path = NetworkPath { bitrate: Some(99_000), ..NetworkPath::default() };
                        let now = joined.pair.now();
                        joined.pair.server.handle(now, smoq::machine::Input::NetworkPath(path));
                    }
                    _ => joined.sessions[0].close(Error::Cancelled),
                }
                joined.pair.advance(Duration::from_secs(1));
                joined
            }
        });
    }
    for version in Version::known().filter(|it| !(Version::Lite03..Version::Moqt16).contains(it)) {
        table.row("Probe::poll_changed", &format!("{version} has no PROBE"), |case| {
            let mut joined = joined(version);
            for _ in 0..2 {
                let mut probe = joined.sessions[0].probe();
                case.waits(move |cx| match probe.poll_changed(cx) {
                    Poll::Ready(result) => result == Err(Error::Unsupported),
                    Poll::Pending => false,
                });
            }
            let mut session = joined.sessions[0].clone();
            case.other("a waiter for the end", move |cx| session.poll_closed(cx).is_ready());
            move || {
                joined.pair.run_until_idle();
                joined
            }
        });
    }
    for version in [Version::Lite06, Version::Moqt16, Version::Moqt22] {
        for cause in ["refused", "the session ends"] {
            table.row("TracksRequest::poll_ended", &format!("{version}, {cause}"), |case| {
                let mut joined = joined(version);
                let held = joined.sessions[0].subscribe_tracks("room").unwrap();
                if version != Version::Lite06 {
                    joined.pair.run_until_idle();
                }
                let overlapping = match cause {
                    "refused" => "room/alice",
                    _ => "hall",
                };
                let mut request = joined.sessions[0].subscribe_tracks(overlapping).unwrap();
                case.waits(move |cx| request.poll_ended(cx).is_ready());
                let mut session = joined.sessions[0].clone();
                if cause == "refused" {
                    case.other("a waiter for the end", move |cx| {
                        session.poll_closed(cx).is_ready()
                    });
                }
                move || {
                    if cause == "the session ends" {
                        joined.sessions[0].close(Error::Cancelled);
                    }
                    joined.pair.run_until_idle();
                    (held, joined)
                }
            });
        }
    }
    table.row("ReadyList::poll_ready", "a key is woken", |case| {
        let mut list = ReadyList::new();
        let (one, other) = (list.waker(1), list.waker(2));
        case.waits(move |cx| list.poll_ready(cx).is_ready());
        move || {
            one.wake_by_ref();
            other.wake_by_ref();
            one.wake();
        }
    });
    for (wait, is_closed) in [("Session::poll_closed", true), ("Session::poll_going_away", false)] {
        table.row(wait, "the driver is dropped", |case| {
            let (mut session, driver) = Client::new().connect(Version::Lite06, Instant::ZERO);
            case.waits(move |cx| match is_closed {
                true => session.poll_closed(cx).is_ready(),
                false => session.poll_going_away(cx).is_ready(),
            });
            move || drop(driver)
        });
    }
    for cause in ["the driver is dropped", "no SETUP in time"] {
        table.row("IncomingSession::poll_ready", cause, |case| {
            let (mut request, mut driver) = Server::new().incoming(Version::Lite06, Instant::ZERO);
            while driver.work(Instant::ZERO) {}
            case.waits(move |cx| request.poll_ready(cx).is_ready());
            move || {
                let at = driver.poll_timeout().unwrap();
                if cause == "no SETUP in time" {
                    driver.end_turn(at, false);
                    while driver.work(at) {}
                    return Some(driver);
                }
                None
            }
        });
    }
}
