use super::*;
use crate::Hop;
use crate::model::base::{Horizon, SessionId};
use crate::model::cache::{PartialGroup, TrackConsumer, UpstreamFetch};
use crate::model::routing::{Origin, OriginProducer};

fn origin() -> OriginProducer {
    Origin::new(Hop::new(1)).produce()
}

/// A session with content of hop 7.
fn session(origin: &OriginProducer, id: u64, cost: u64) -> Upstream {
    let hops = [7, 100 + id].into_iter().map(Hop::new).collect();
    let cost = Cost { warm: cost, cold: cost };
    let route = Route { hops, cost, session: Some(SessionId(id)), ..Route::default() };
    origin.announce_remote("a".into(), route).unwrap()
}

fn asked(upstream: &mut Upstream) -> Option<UpstreamTrack> {
    match upstream.poll_request(Waker::noop()) {
        Poll::Ready(source) => Some(source),
        Poll::Pending => None,
    }
}

fn behind(id: u64) -> Horizon {
    Horizon { exclude: Hop::new(100 + id), session: Some(SessionId(id)), on_demand: false }
}

fn read(origin: &OriginProducer) -> TrackConsumer {
    let broadcast = origin.consume().broadcast("a").unwrap();
    broadcast.subscribe_track("video", Subscription::default()).unwrap()
}

#[test]
fn a_track_moves_to_other_upstreams_until_none_is_left() {
    let origin = origin();
    let (mut near, mut far) = (session(&origin, 2, 1), session(&origin, 3, 2));
    let mut reader = read(&origin);
    assert!(asked(&mut far).is_none());
    let mut source = asked(&mut near).expect("the best is asked");
    source.accept(TrackInfo::default()).unwrap();
    drop(source.create_group(4, None).unwrap());
    source.fail(Error::SessionClosed);
    near.leave(Err(Error::SessionClosed));
    let mut source = asked(&mut far).expect("the next one is asked");
    assert!(asked(&mut far).is_none(), "once");
    assert_eq!(source.wanted(Subscription::default()).start, Some(4));
    assert_eq!(source.wanted(Subscription::default().start(9)).start, Some(9));
    source.accept(TrackInfo::default()).unwrap();
    assert_eq!(source.create_group(4, None).unwrap_err(), Error::Duplicate);
    source.create_group(5, None).unwrap().finish().unwrap();
    let sequences = std::iter::from_fn(|| match reader.try_recv_group() {
        Poll::Ready(Ok(group)) => group.map(|group| group.sequence()),
        _ => None,
    });
    assert!(sequences.eq([4, 5]));
    source.fail(Error::App(3));
    assert!(matches!(reader.try_recv_group(), Poll::Ready(Err(Error::App(3)))));
}

#[test]
fn a_better_session_is_asked_before_the_old_one_is_left() {
    let origin = origin();
    let mut far = session(&origin, 2, 5);
    let mut reader = read(&origin);
    let mut old = asked(&mut far).unwrap();
    old.accept(TrackInfo::default()).unwrap();
    drop(old.create_group(0, None).unwrap());
    let mut near = session(&origin, 3, 1);
    let mut new = asked(&mut near).expect("it is asked at once");
    new.accept(TrackInfo::default()).unwrap();
    let open = old.create_group(1, None).unwrap();
    assert!(!old.is_superseded(), "the new one brought nothing yet");
    assert_eq!(new.create_group(0, None).unwrap_err(), Error::Duplicate);
    assert!(old.is_superseded() && !new.is_superseded(), "it need not be sooner to bring a group");
    assert_eq!(old.create_group(2, None).unwrap_err(), Error::Cancelled);
    drop(new.create_group(2, None).unwrap());
    assert_eq!(old.create_group(3, None).unwrap_err(), Error::Cancelled);
    drop((open, old));
    assert!(reader.try_closed().is_pending());
    drop(new.create_group(3, None).unwrap());

    // A track with the same name and other properties can't continue this one.
    near.leave(Ok(()));
    let mut other = asked(&mut far).unwrap();
    let info = TrackInfo { priority: 9, ..TrackInfo::default() };
    assert_eq!(other.accept(info).unwrap_err(), Error::Duplicate);
    other.fail(Error::Duplicate);
    assert!(reader.try_closed().is_pending(), "what runs goes on");
    new.fail(Error::SessionClosed);
    let mut last = asked(&mut far).expect("it is tried again");
    last.accept(TrackInfo::default()).unwrap();
    last.finish(Some(4));
    assert_eq!(reader.try_finished(), Poll::Ready(Ok(4)));
}

/// A session that takes over is asked for the new group that the one before did not bring. One that takes no requests is
/// not woken by them for ever.
#[test]
fn the_next_upstream_is_asked_for_the_new_group() {
    let origin = origin();
    let mut cx = Context::from_waker(Waker::noop());
    let mut asks = |track: &mut UpstreamTrack, takes_requests| {
        let mut asked = Vec::new();
        while let Poll::Ready((want, _)) = track.poll_interest(&mut cx, takes_requests) {
            asked.push(want.and_then(|want| want.new_group));
        }
        asked
    };
    let dynamic = || TrackInfo { dynamic_groups: true, ..TrackInfo::default() };
    let (mut near, mut far) = (session(&origin, 2, 1), session(&origin, 3, 2));
    let reader = read(&origin);
    let mut first = asked(&mut near).unwrap();
    assert_eq!(asks(&mut first, true), [None]);
    first.accept(dynamic()).unwrap();
    first.create_group(4, None).unwrap().finish().unwrap();
    reader.request_new_group();
    assert_eq!((asks(&mut first, true), asks(&mut first, true)), (vec![Some(5)], vec![]));
    first.fail(Error::SessionClosed);
    near.leave(Err(Error::SessionClosed));
    let mut second = asked(&mut far).unwrap();
    assert_eq!(asks(&mut second, true), [Some(5)]);
    second.accept(dynamic()).unwrap();
    second.create_group(5, None).unwrap().finish().unwrap();
    let mut near = session(&origin, 2, 1);
    let mut third = asked(&mut near).unwrap();
    assert_eq!(asks(&mut third, false), [None]);
    reader.request_new_group();
    assert_eq!(asks(&mut third, false), [], "it waits until the peer can be asked");
    assert_eq!(asks(&mut third, true), [Some(6)]);
}

#[test]
fn a_partial_group_of_a_finished_track_is_aborted_with_its_last_upstream() {
    let origin = origin();
    let mut far = session(&origin, 2, 5);
    let reader = read(&origin);
    let mut old = asked(&mut far).unwrap();
    old.accept(TrackInfo::default()).unwrap();
    let mut near = session(&origin, 3, 1);
    let mut new = asked(&mut near).unwrap();
    let open = new.create_group(0, None).unwrap();
    let (track, mut group) = (new.downgrade(), open.consume());
    new.finish(Some(1));
    drop(reader);
    PartialGroup::cut_off(track, open, None, Error::SessionClosed);
    assert!(group.try_read_frame().is_pending(), "the other one may have it");
    old.fail(Error::Cancelled);
    assert!(matches!(group.try_read_frame(), Poll::Ready(Err(Error::SessionClosed))));
}

/// moq-lite 03 and 04 and moq-transport have no FETCH that could complete a group.
#[test]
fn a_partial_group_goes_to_a_session_that_can_fetch() {
    let origin = origin();
    let mut sessions = [(2, 9), (3, 5), (4, 3)].map(|(id, cost)| session(&origin, id, cost));
    let _reader = read(&origin);
    let mut sources = Vec::new();
    let mut near = session(&origin, 5, 1);
    // Each session is asked while it is the best. Sessions that were asked before stay.
    sources.extend(sessions.iter_mut().filter_map(asked));
    let mut new = asked(&mut near).expect("the best");
    new.accept(TrackInfo::default()).unwrap();
    new.confirm();
    let old = sources.pop().expect("the best before");
    old.confirm();
    let (mut unable, mut able) = (old.dynamic(), old.dynamic());
    able.accept_partials();
    let begin = |source: &mut UpstreamTrack, sequence| source.create_group(sequence, None).unwrap();
    let open = begin(&mut new, 0);
    let mut group = open.consume();
    PartialGroup::cut_off(new.downgrade(), open, None, Error::SessionClosed);
    assert!(unable.poll_fetch_request(None).is_pending(), "it would refuse it");
    let taken = able.poll_fetch_request(None);
    let Poll::Ready(Some((UpstreamFetch::PartialGroup(partial), _))) = taken else {
        panic!("no rest")
    };
    assert!(group.try_read_frame().is_pending());
    // The session was asked and does not have it, and no other is left.
    partial.hand_back();
    assert!(matches!(group.try_read_frame(), Poll::Ready(Err(Error::SessionClosed))));
    // For the next group no session is able from the beginning.
    drop(able);
    let open = begin(&mut new, 1);
    let mut group = open.consume();
    PartialGroup::cut_off(new.downgrade(), open, None, Error::SessionClosed);
    assert!(matches!(group.try_read_frame(), Poll::Ready(Err(Error::SessionClosed))));
}

#[test]
fn a_route_that_changes_rank_often_is_requested_once() {
    let origin = origin();
    let (mut near, mut far) = (session(&origin, 2, 1), session(&origin, 3, 5));
    let _reader = read(&origin);
    let mut sources = Vec::new();
    for n in 0..20 {
        let cost = if n % 2 == 0 { 1 } else { 9 };
        let route = Route { cost: Cost { warm: cost, cold: cost }, ..near.route.clone() };
        near.reroute(&route);
        sources.extend(asked(&mut near));
        sources.extend(asked(&mut far));
    }
    assert_eq!(sources.len(), 2);
}

#[test]
fn a_peer_is_not_served_its_own_track() {
    let origin = origin();
    let mut near = session(&origin, 2, 1);
    let broadcast = origin.consume().broadcast("a").unwrap();
    let serve = |id| broadcast.serve_track("video", Some(Subscription::default()), behind(id));
    assert_eq!(serve(2).unwrap_err(), Error::Unroutable);
    let _reader = read(&origin);
    let source = asked(&mut near).unwrap();
    assert_eq!(serve(2).unwrap_err(), Error::Unroutable, "that it runs is no help");
    let mut far = session(&origin, 3, 5);
    assert!(asked(&mut far).is_none());
    let peer = serve(2).unwrap();
    let _other = asked(&mut far).expect("a way that does not lead back");
    assert!(source.is_useful(), "for the application");
    drop(_reader);
    assert!(!source.is_useful(), "only the peer reads, which must not have it from itself");
    drop(peer);
}
