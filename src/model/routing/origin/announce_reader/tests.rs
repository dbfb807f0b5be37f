use std::time::Duration;

use super::super::{Origin, OriginConsumer, OriginProducer, RoutedBroadcast};
use super::*;
use crate::model::base::{HOLD_TIME, Horizon, Route, SessionId};
use crate::model::routing::broadcast::Upstream;
use crate::model::routing::table::AnnounceFilter;
use crate::{Cost, Error, Hop};

const HERE: Hop = Hop::new(1);
const ME: SessionId = SessionId(100);

fn origin() -> OriginProducer {
    Origin::new(HERE).produce()
}

fn through(hops: &[u64], cost: u64, session: u64) -> Route {
    Route {
        hops: hops.iter().copied().map(Hop::new).collect(),
        cost: Cost { warm: cost, cold: cost },
        session: Some(SessionId(session)),
        ..Route::default()
    }
}

fn within(exclude: u64) -> Horizon {
    Horizon { exclude: Hop::new(exclude), session: Some(ME), on_demand: false }
}

fn route(consumer: &OriginConsumer, path: &Path, horizon: Horizon) -> Option<BroadcastConsumer> {
    match consumer.route(path, horizon, false) {
        Ok(RoutedBroadcast::Ready(broadcast)) => Some(broadcast),
        _ => None,
    }
}

fn behind(session: u64) -> Horizon {
    Horizon { session: Some(SessionId(session)), ..Horizon::default() }
}

/// Everything that a reader returns, as text with the cost.
fn read(reader: &mut AnnounceReader) -> Vec<String> {
    let mut out = Vec::new();
    while let Poll::Ready(announcement) =
        reader.poll_next(None, AnnounceQuota::ENDLESS, &PeerTracks::default())
    {
        out.push(match announcement {
            Announcement::Active { suffix, cost, .. } => format!("+{suffix} {}", cost.warm),
            Announcement::Ended { suffix } => format!("-{suffix}"),
            Announcement::Track { .. } => unreachable!("nobody asked for tracks"),
        });
    }
    out
}

fn announce(origin: &OriginProducer, path: &str, route: Route) -> Upstream {
    origin.announce_remote(path.into(), route).unwrap()
}

/// The number of broadcasts that the peer is told.
fn count(reader: &mut AnnounceReader) -> u64 {
    std::iter::repeat_with(|| reader.promise(usize::MAX)).flatten().next().unwrap()
}

fn all(origin: &OriginProducer) -> AnnounceReader {
    origin.consume().reader(&Path::root(), within(0), AnnounceFilter::default())
}

/// moq-lite 05, ANNOUNCE_OK: as many active announcements follow as it says.
#[test]
fn as_many_announcements_follow_as_were_promised() {
    let origin = origin();
    let first = origin.create_broadcast("room/a").unwrap();
    let _second = origin.create_broadcast("room/b").unwrap();
    let _outside = origin.create_broadcast("hall").unwrap();
    let third = origin.create_broadcast("room/gone/1").unwrap();
    let fourth = origin.create_broadcast("room/z").unwrap();
    let _fifth = origin.create_broadcast("room/gone/0").unwrap();
    let mut reader =
        origin.consume().reader(&Path::new("room"), within(0), AnnounceFilter::default());
    assert_eq!(count(&mut reader), 5);
    drop((first, third));
    let _sixth = origin.create_broadcast("room/c").unwrap();
    let mut next = || match reader.poll_next(None, AnnounceQuota::ENDLESS, &PeerTracks::default()) {
        Poll::Ready(Announcement::Active { suffix, hops, .. }) => {
            assert!(hops.is_empty() || hops.len() == Hops::MAX);
            format!("{}{suffix}", if hops.is_empty() { "+" } else { "full " })
        }
        Poll::Ready(Announcement::Ended { suffix }) => format!("-{suffix}"),
        Poll::Ready(Announcement::Track { .. }) => unreachable!("nobody asked for tracks"),
        Poll::Pending => "".into(),
    };
    assert_eq!([next(), next()], ["+b", "+gone/0"]);
    drop(fourth);
    // No peer can use a chain without room for itself. The names are not used by other broadcasts.
    assert_eq!([next(), next(), next()], ["full gone/1", "full gone/2", "full gone/3"]);
    assert_eq!([next(), next(), next()], ["-gone/1", "-gone/2", "-gone/3"]);
    assert_eq!([next(), next()], ["+c", ""], "what came was not promised");
}

#[test]
fn a_broadcast_that_cannot_be_announced_is_not_counted() {
    let origin = origin();
    let _good = origin.create_broadcast("room/good").unwrap();
    let _long = origin.create_broadcast("room/that-is-long").unwrap();
    let _deep = origin.create_broadcast("room/a/b/c").unwrap();
    let _full = announce(&origin, "room/full", through(&[7, 8, 9], 0, 2));
    let best = announce(&origin, "room/best", through(&[7, 8, 9], 0, 2));
    let _next_best = announce(&origin, "room/best", through(&[7], 5, 3));
    let _own = announce(&origin, "room/own", through(&[6], 0, ME.0));
    let filter = AnnounceFilter { hidden: true, bytes: 9, segments: 2, hops: 2 };
    let reader = |prefix| origin.consume().reader(&Path::new(prefix), within(0), filter);
    let mut quota = reader("room");
    assert_eq!(count(&mut quota), 2);
    assert_eq!(read(&mut quota), ["+best 5", "+good 0"]);
    assert_eq!(count(&mut reader("")), 2, "it calls them by longer names");
    let mut deeper = reader("room/a");
    assert_eq!(count(&mut deeper), 1);
    assert_eq!(read(&mut deeper), ["+b/c 0"]);
    drop(best);
    assert_eq!(read(&mut quota), [""; 0]);
}

#[test]
fn hidden_paths_are_announced_only_on_request() {
    let origin = origin();
    let reader = |prefix: &str, hidden| {
        let filter = AnnounceFilter { hidden, ..AnnounceFilter::default() };
        origin.consume().reader(&Path::new(prefix), within(0), filter)
    };
    let first = origin.create_broadcast("room/.stats/a").unwrap();
    let _open = origin.create_broadcast("room/b.c").unwrap();
    let (mut shown, mut all) = (reader("room", false), reader("room", true));
    // A part of the prefix itself is not hidden.
    let mut named = reader("room/.stats", false);
    assert_eq!([&mut shown, &mut all, &mut named].map(count), [1, 2, 1]);
    assert_eq!(read(&mut shown), ["+b.c 0"]);
    assert_eq!(read(&mut all), ["+.stats/a 0", "+b.c 0"]);
    assert_eq!(read(&mut named), ["+a 0"]);
    let _second = origin.create_broadcast("room/.d").unwrap();
    let _third = origin.create_broadcast("room/e").unwrap();
    drop(first);
    assert_eq!(read(&mut shown), ["+e 0"]);
    assert_eq!(read(&mut all), ["+.d 0", "+e 0", "-.stats/a"]);
    assert_eq!(read(&mut named), ["-a"]);
}

#[test]
fn routes_of_or_through_a_peer_are_not_announced_to_it() {
    let origin = origin();
    let _mine = announce(&origin, "mine", through(&[7], 0, ME.0));
    let _looped = announce(&origin, "looped", through(&[8, 9], 0, 2));
    let worse = announce(&origin, "both", through(&[9], 5, 2));
    let best = announce(&origin, "both", through(&[8], 0, ME.0));
    let consumer = origin.consume();
    let mut reader = consumer.reader(&Path::root(), within(8), AnnounceFilter::default());
    assert_eq!(count(&mut reader), 1);
    assert_eq!(read(&mut reader), ["+both 5"], "the next best is offered instead");

    let served = |path: &str| route(&consumer, &Path::new(path), within(8));
    assert!(served("mine").is_none() && served("looped").is_none());
    assert!(served("both").unwrap().is_clone(&worse.consume()));
    assert!(consumer.broadcast("both").unwrap().is_clone(&best.consume()));

    drop(worse);
    assert_eq!(read(&mut reader), ["-both"]);
    assert_eq!(count(&mut consumer.reader(&Path::root(), behind(3), AnnounceFilter::default())), 3);
}

#[test]
fn a_new_route_is_announced_once_and_only_if_it_differs() {
    let origin = origin();
    let mut reader = all(&origin);
    let mut consumer = origin.consume();
    let mut broadcast = announce(&origin, "a", through(&[7], 1, 2));
    assert_eq!(read(&mut reader), ["+a 1"]);
    assert!(consumer.try_announced().is_ready());
    assert!(broadcast.reroute(&through(&[7], 1, 2)));
    assert_eq!(read(&mut reader), [""; 0]);
    assert!(broadcast.reroute(&through(&[7], 3, 2)));
    assert!(broadcast.reroute(&through(&[7], 4, 2)));
    assert_eq!(read(&mut reader), [""; 0], "it is worse, which may pass");
    origin.advance(reader.deadline().unwrap());
    assert_eq!(read(&mut reader), ["+a 4"]);
    assert!(broadcast.reroute(&through(&[7], 2, 2)));
    assert_eq!(read(&mut reader), ["+a 2"], "what is better is told at once");
    assert_eq!(reader.deadline(), None);
    assert!(consumer.try_announced().is_pending(), "it is the same broadcast");
}

#[test]
fn a_newer_broadcast_takes_over_and_the_older_one_comes_back() {
    let origin = origin();
    let mut reader = all(&origin);
    let old = announce(&origin, "a", through(&[7], 1, 2));
    assert_eq!(read(&mut reader), ["+a 1"]);
    let mut new = announce(&origin, "a", through(&[8, 9], 9, 3));
    assert_eq!(read(&mut reader), ["-a", "+a 9"], "whatever it costs");
    assert!(new.reroute(&through(&[8, 9], 20, 3)));
    assert_eq!(read(&mut reader), [""; 0]);
    origin.advance(reader.deadline().unwrap());
    assert_eq!(read(&mut reader), ["+a 20"]);
    new.drain();
    assert_eq!(read(&mut reader), ["-a", "+a 1"], "it is about to end");
    assert!(new.reroute(&through(&[8, 9], 2, 3)));
    assert_eq!(read(&mut reader), ["-a", "+a 2"]);
    // A route through an unidentified hop may be an echo of the old broadcast.
    let around = announce(&origin, "a", through(&[0, 6], 0, 4));
    assert_eq!(read(&mut reader), [""; 0]);
    drop(around);
    new.leave(Err(Error::SessionClosed));
    assert_eq!(read(&mut reader), ["-a", "+a 1"]);
    drop(old);
    assert_eq!(read(&mut reader), ["-a"]);
}

#[test]
fn a_broadcast_announced_after_an_end_is_a_new_one() {
    let origin = origin();
    let mut reader = all(&origin);
    let first = announce(&origin, "a", through(&[7, 8], 1, 2));
    let second = announce(&origin, "a", through(&[7, 9], 2, 3));
    assert!(first.consume().is_clone(&second.consume()));
    assert_eq!(read(&mut reader), ["+a 1"]);
    // First hop 8 ends the broadcast and announces one again, then hop 9 does the same.
    let again = |over: Upstream, route: Route| {
        let new = origin.announce_anew("a".into(), route, &over).unwrap();
        over.leave(Ok(()));
        new
    };
    let first = again(first, through(&[7, 8], 1, 2));
    assert_eq!(read(&mut reader), ["-a", "+a 1"]);
    assert!(!first.consume().is_clone(&second.consume()));
    let old = second.consume();
    let second = again(second, through(&[7, 9], 2, 3));
    assert!(first.consume().is_clone(&second.consume()), "both have the new one");
    assert!(old.is_closed());
    assert_eq!(read(&mut reader), [""; 0]);
}

#[test]
fn a_publisher_that_dials_again_has_a_new_broadcast() {
    let origin = origin();
    let mut reader = all(&origin);
    let old = announce(&origin, "a", through(&[7], 1, 2));
    let through_it = announce(&origin, "a", through(&[7, 9], 2, 3));
    assert!(old.consume().is_clone(&through_it.consume()));
    assert_eq!(read(&mut reader), ["+a 1"]);
    let dialed = announce(&origin, "a", through(&[7], 1, 8));
    assert!(dialed.consume().is_clone(&old.consume()), "we dialed both");
    drop(dialed);
    read(&mut reader);
    let again = |session| Route { accepted: true, ..through(&[7], 1, session) };
    let new = announce(&origin, "a", again(4));
    assert!(!new.consume().is_clone(&old.consume()));
    assert_eq!(read(&mut reader), ["-a", "+a 1"]);
    // A route from elsewhere leads to the newest broadcast.
    let other = announce(&origin, "a", through(&[7, 6], 2, 5));
    assert!(other.consume().is_clone(&new.consume()));
    old.leave(Err(Error::SessionClosed));
    assert_eq!(read(&mut reader), [""; 0]);
}

#[test]
fn routes_with_the_same_content_are_one_broadcast() {
    let origin = origin();
    let mut reader = all(&origin);
    let mut consumer = origin.consume();
    let far = announce(&origin, "a", through(&[7, 8], 5, 2));
    assert_eq!(read(&mut reader), ["+a 5"]);
    let near = announce(&origin, "a", through(&[7, 9], 1, 3));
    assert!(near.consume().is_clone(&far.consume()));
    assert_eq!(read(&mut reader), ["+a 1"]);
    let anonymous = announce(&origin, "a", through(&[7, 0], 0, 4));
    assert!(!anonymous.consume().is_clone(&far.consume()));
    let seen = consumer.try_announced().map(|it| it.unwrap().broadcast.unwrap());
    assert!(matches!(seen, Poll::Ready(it) if it.is_clone(&far.consume())));

    near.leave(Ok(()));
    assert_eq!(read(&mut reader), [""; 0], "the one that is left is worse");
    origin.advance(reader.deadline().unwrap());
    assert_eq!(read(&mut reader), ["+a 5"]);
    assert!(consumer.try_announced().is_pending(), "nothing happened for who reads");
    let mut last = far.consume();
    assert!(last.try_closed().is_pending());
    far.leave(Err(Error::SessionClosed));
    assert_eq!(last.try_closed(), Poll::Ready(Err(Error::SessionClosed)));
    assert_eq!(read(&mut reader), ["-a"]);
    origin.advance(reader.deadline().unwrap());
    assert_eq!(read(&mut reader), ["+a 0"], "it is another broadcast");
}

#[test]
fn a_route_that_comes_back_in_time_causes_no_announcement() {
    let origin = origin();
    let mut reader = all(&origin);
    let _far = announce(&origin, "a", through(&[7, 8], 5, 2));
    let mut near = announce(&origin, "a", through(&[7, 9], 1, 3));
    assert_eq!(read(&mut reader), ["+a 1"]);
    let mut now = Instant::ZERO;
    for _ in 0..100 {
        near.leave(Ok(()));
        assert_eq!(read(&mut reader), [""; 0]);
        now = now + Duration::from_millis(20);
        origin.advance(now);
        near = announce(&origin, "a", through(&[7, 9], 1, 3));
        assert_eq!(read(&mut reader), [""; 0]);
        assert_eq!(reader.deadline(), None);
    }
    near.leave(Ok(()));
    assert_eq!(read(&mut reader), [""; 0]);
    let due = now + HOLD_TIME;
    assert_eq!(reader.deadline(), Some(due));
    origin.advance(due);
    assert_eq!(read(&mut reader), ["+a 5"]);
    origin.advance(due + HOLD_TIME);
    assert_eq!(read(&mut reader), [""; 0]);
}

#[test]
fn a_route_that_leads_back_to_the_peer_is_unannounced_at_once() {
    let origin = origin();
    let mut reader = all(&origin);
    let best = announce(&origin, "a", through(&[7, 8], 1, 2));
    assert_eq!(read(&mut reader), ["+a 1"]);
    let _back = announce(&origin, "a", through(&[7, 9], 2, ME.0));
    let _far = announce(&origin, "a", through(&[7, 6], 5, 3));
    assert_eq!(read(&mut reader), [""; 0]);
    best.leave(Err(Error::SessionClosed));
    assert_eq!(read(&mut reader), ["-a"], "the best leads back to the peer");
    origin.advance(reader.deadline().unwrap());
    assert_eq!(read(&mut reader), ["+a 5"], "the next best stood");
}

#[test]
fn routes_through_a_hop_that_withdrew_are_not_announced() {
    let origin = origin();
    let mut reader = all(&origin);
    let best = announce(&origin, "a", through(&[7, 8], 1, 2));
    let _around = announce(&origin, "a", through(&[7, 8, 9], 2, 3));
    assert_eq!(read(&mut reader), ["+a 1"]);
    best.leave(Ok(()));
    assert_eq!(read(&mut reader), ["-a"]);
    let seen = origin.consume().broadcast("a");
    assert!(seen.is_some(), "who reads here need not know");
    let mut late = all(&origin);
    assert_eq!((count(&mut late), read(&mut late)), (0, vec![]));
    assert!(late.deadline().is_some(), "it may get trusted");
    let again = announce(&origin, "a", through(&[7, 8], 1, 2));
    origin.advance(Instant::ZERO + 2 * HOLD_TIME);
    assert_eq!(read(&mut reader), ["+a 1"]);
    again.leave(Err(Error::SessionClosed));
    assert_eq!(read(&mut reader), [""; 0], "it said nothing, so it may have it still");
    origin.advance(reader.deadline().unwrap());
    assert_eq!(read(&mut reader), ["+a 2"]);
}

#[test]
fn own_broadcasts_do_not_come_back() {
    let (here, there) = (origin(), Origin::new(Hop::new(2)).produce());
    let looped = here.announce_remote("a".into(), through(&[1, 7], 0, 2)).map(drop);
    assert_eq!(looped.unwrap_err(), Error::Unroutable);
    let from_here = announce(&there, "a", through(&[1], 0, 2));
    let published = here.publish_broadcast("b", &from_here.consume());
    assert_eq!(published.unwrap_err(), Error::Unroutable);
    assert_eq!(count(&mut all(&here)), 0);
}

#[test]
fn a_broadcast_published_elsewhere_keeps_its_route() {
    let (here, there) = (origin(), Origin::new(Hop::new(2)).produce());
    let mut broadcast = announce(&there, "a", through(&[7], 3, ME.0));
    here.publish_broadcast("a", &broadcast.consume()).unwrap();
    assert_eq!(count(&mut all(&here)), 0, "the session that has it is not told");
    let mut reader = here.consume().reader(&Path::root(), behind(2), AnnounceFilter::default());
    assert_eq!(read(&mut reader), ["+a 3"]);
    assert!(broadcast.reroute(&through(&[7], 2, ME.0)));
    assert_eq!(read(&mut reader), ["+a 2"]);
}

#[test]
fn a_prefix_that_is_not_allowed_shows_nothing() {
    let origin = origin();
    let _broadcast = origin.create_broadcast("room/a").unwrap();
    let consumer = origin.consume().scope(["hall"]).unwrap();
    let mut reader = consumer.reader(&Path::new("room"), within(0), AnnounceFilter::default());
    assert_eq!(
        (
            count(&mut reader),
            reader.poll_next(None, AnnounceQuota::ENDLESS, &PeerTracks::default())
        ),
        (0, Poll::Pending)
    );
    let mut above = consumer.reader(&Path::root(), within(0), AnnounceFilter::default());
    assert_eq!(count(&mut above), 0);
}

#[test]
fn lookups_leave_no_entries() {
    let origin = origin();
    let mut consumer = origin.consume();
    let kept = origin.create_broadcast("kept").unwrap();
    for n in 0..1_000 {
        let path = Path::new(&format!("room/{n}"));
        assert!(consumer.broadcast(&path).is_none());
        assert!(consumer.try_announced_broadcast(path.as_str()).is_pending());
        assert!(route(&consumer, &path, within(0)).is_none());
        assert_eq!(count(&mut consumer.reader(&path, within(0), AnnounceFilter::default())), 0);
        let deeper = consumer.scope([&path]).unwrap();
        assert!(deeper.with_root(&path).unwrap().clone().try_announced().is_pending());
        assert!(origin.with_root(&path).unwrap().scope([&path]).is_some());
    }
    let sizes = || lock(&origin.shared.state).table.sizes();
    assert_eq!(sizes(), (1, 0, 0));
    let mut announced = all(&origin);
    assert_eq!(read(&mut announced), ["+kept 0"]);
    assert_eq!(sizes(), (1, 1, 0));
    drop(kept);
    assert_eq!(sizes(), (1, 1, 1), "one reader believes in it");
    drop(announced);
    assert_eq!(sizes(), (0, 0, 0));
    assert_eq!(lock(&origin.shared.state).producers, 1);
}

#[test]
fn an_origin_works_after_a_panic_under_its_lock() {
    let origin = origin();
    let shared = origin.shared.clone();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        shared.change(|_| panic!("on purpose"));
    }));
    assert!(panicked.is_err() && origin.shared.state.is_poisoned());
    let _broadcast = origin.create_broadcast("a").unwrap();
    assert!(origin.consume().broadcast("a").is_some());
}

/// D22-7-6-MUST-NOT-235: the peer subscribed to a track that is not known yet. Other tracks and broadcasts with a part of
/// these names are announced.
#[test]
fn a_track_that_the_peer_awaits_is_not_announced() {
    let origin = origin();
    let mut reader =
        origin.consume().reader(&Path::new("room"), within(0), AnnounceFilter::default());
    reader.announce_tracks(&Path::new("room"), within(0), false);
    let mut has = PeerTracks::default();
    has.wait("room/alice".into(), "video".into(), 7);
    has.wait("room/bob".into(), "chat".into(), 9);
    has.stop_waiting("room/bob".into(), "chat".into(), 9);
    let mut alice = origin.create_broadcast("room/alice").unwrap();
    let mut bob = origin.create_broadcast("room/bob").unwrap();
    let names = ["video", "vide", "video2"];
    let _tracks = names.map(|name| alice.create_track(name).unwrap());
    let _others = ["chat", "video"].map(|name| bob.create_track(name).unwrap());
    let mut next = || match reader.poll_next(Some(Waker::noop()), AnnounceQuota::ENDLESS, &has) {
        Poll::Ready(Announcement::Track { suffix, track, .. }) => format!("{suffix}:{track}"),
        _ => String::new(),
    };
    let mut announced: Vec<_> = std::iter::repeat_with(&mut next).take(4).collect();
    announced.sort();
    assert_eq!(announced, ["alice:vide", "alice:video2", "bob:chat", "bob:video"]);
    assert_eq!(next(), "");
}

/// A track that is offered while the only route leads back to the peer is announced when another route is there.
#[test]
fn a_track_without_a_route_waits_for_one() {
    let origin = origin();
    let mut live = announce(&origin, "room/live", through(&[7], 0, 2));
    let prefix = Path::new("room");
    let mut reader = origin.consume().reader(&prefix, within(9), AnnounceFilter::default());
    reader.announce_tracks(&prefix, within(9), false);
    let has = PeerTracks::default();
    let mut poll =
        || reader.poll_next(Some(Waker::noop()), AnnounceQuota::ENDLESS, &has).is_pending();
    assert!(poll());
    let name = "video".into();
    live.offer(&name);
    assert!(live.reroute(&through(&[7, 9], 0, 2)));
    assert!(poll());
    assert!(live.poll_request(Waker::noop()).is_pending());
    assert!(live.reroute(&through(&[7], 0, 2)));
    origin.advance(Instant::ZERO + 2 * HOLD_TIME);
    assert!(poll());
    // First its properties are asked for.
    assert!(live.poll_request(Waker::noop()).is_ready());
}

/// One request may ask for the broadcasts and their tracks (moq-transport 16 and 17). Each broadcast is announced before
/// its tracks.
#[test]
fn broadcasts_and_their_tracks_are_announced() {
    let origin = origin();
    let prefix = Path::new("room");
    let mut reader = origin.consume().reader(&prefix, within(0), AnnounceFilter::default());
    reader.announce_tracks(&prefix, within(0), true);
    let has = PeerTracks::default();
    let mut next = || match reader.poll_next(Some(Waker::noop()), AnnounceQuota::ENDLESS, &has) {
        Poll::Ready(Announcement::Active { suffix, .. }) => format!("+{suffix}"),
        Poll::Ready(Announcement::Ended { suffix }) => format!("-{suffix}"),
        Poll::Ready(Announcement::Track { suffix, track, .. }) => format!("{suffix}:{track}"),
        Poll::Pending => String::new(),
    };
    let mut alice = origin.create_broadcast("room/alice").unwrap();
    let video = alice.create_track("video").unwrap();
    assert_eq!([next(), next(), next()], ["+alice", "alice:video", ""]);
    let _bob = origin.create_broadcast("room/bob").unwrap();
    let _audio = alice.create_track("audio").unwrap();
    let mut both = [next(), next()];
    both.sort();
    assert_eq!(both, ["+bob", "alice:audio"]);
    drop((alice, video));
    assert_eq!([next(), next()], ["-alice", ""]);
}
