//! A relay between two sessions on a virtual clock: it forwards groups in any order of arrival, and
//! requests upstream what is requested of it.

mod chain;

use std::collections::BTreeSet;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use chain::Chain;
use smoq::machine::{Command, Config, Event, Machine, Token};
use smoq::sim::{Bare, Endpoint, Link, Shelf};
use smoq::stream::Side;
use smoq::{
    Error, Instant, Limits, Origin, Path, Server, Subscription, Track, TrackConsumer, Version,
};

fn video() -> Track {
    Track::new("video")
}

/// Writes groups at once. A publisher sends the newest first.
fn burst<B: Endpoint>(chain: &mut Chain<B>, groups: u64) {
    for n in 0..groups {
        chain.track.write_frame(n * 10, vec![n as u8; 300]).unwrap();
    }
}

/// The sequence numbers of the groups that are there, in order of arrival.
fn received(reader: &mut TrackConsumer) -> Vec<u64> {
    std::iter::from_fn(|| match reader.try_recv_group() {
        Poll::Ready(Ok(group)) => group.map(|group| group.sequence()),
        Poll::Ready(Err(error)) => panic!("{error}"),
        Poll::Pending => None,
    })
    .collect()
}

fn in_all_versions(test: impl Fn([Version; 2], &Link)) {
    let every = || Version::ALL.into_iter().chain(Version::WIP);
    for up in every() {
        for down in every() {
            let link = if up < down { Link::perfect() } else { Link::wide(3) };
            test([up, down], &link);
        }
    }
}

/// The first group to arrive at a relay is not the lowest one that will. START must take that into account,
/// because peers drop groups below it.
#[test]
fn a_burst_with_the_newest_group_first_is_relayed_whole() {
    in_all_versions(|versions, link| {
        for want in [
            Subscription::default().max_age(Duration::MAX).start(0),
            Subscription::default().max_age(Duration::from_secs(5)),
        ] {
            let (mut chain, origin) = Chain::to_origin(versions, link, video());
            let seen = origin.consume().broadcast("live").expect("it was announced");
            let mut reader = seen.subscribe_track("video", want).unwrap();
            chain.advance(500);
            burst(&mut chain, 40);
            chain.advance(1_000);
            let order = received(&mut reader);
            let in_order = order.windows(2).all(|pair| pair[0] < pair[1]);
            assert!(!in_order, "{versions:?}: the groups must arrive in another order");
            let all: BTreeSet<_> = order.iter().copied().collect();
            assert!(all.into_iter().eq(0..40), "{versions:?}: {order:?}");
        }
    });
}

/// Each link carries a track once, for any number of readers.
#[test]
fn all_readers_share_one_subscription() {
    in_all_versions(|versions, link| {
        let (mut chain, origin) = Chain::to_origin(versions, link, video());
        let seen = [&origin, &chain.relay].map(|it| it.consume().broadcast("live").unwrap());
        let want = Subscription::default().max_age(Duration::from_secs(5));
        // Three readers behind one session, and one at the relay itself.
        let subscribe = |at: usize| seen[at].subscribe_track("video", want.clone()).unwrap();
        let mut readers = [0, 0, 0, 1].map(subscribe);
        chain.advance(500);
        burst(&mut chain, 10);
        chain.advance(1_000);
        for reader in &mut readers {
            let all: BTreeSet<_> = received(reader).into_iter().collect();
            assert!(all.into_iter().eq(0..10), "{versions:?}");
        }
        // At the publisher, and at the relay for the link after it.
        for at in [0, 2] {
            let stats = chain.sessions[at].stats();
            assert_eq!((stats.groups_sent, stats.skipped_groups), (10, 0), "{versions:?}");
        }
    });
}

/// SUBSCRIBE_UPDATE: the combined subscription of all readers is requested as far as the publisher,
/// whenever it changes.
#[test]
fn the_combined_subscription_is_requested_upstream() {
    for version in [Version::Lite05, Version::Lite06, Version::Lite07Wip] {
        let (mut chain, origin) = Chain::to_origin([version; 2], &Link::wide(3), video());
        let seen = origin.consume().broadcast("live").expect("it was announced");
        let wanted = |chain: &mut Chain<_>| {
            chain.advance(500);
            let want = chain.track.subscription().expect("no subscription");
            (want.priority, want.max_age.as_secs())
        };
        let want = Subscription::default().priority(3);
        let mut first = seen.subscribe_track("video", want).unwrap();
        assert_eq!(wanted(&mut chain), (3, 0), "{version}");
        let want = Subscription::default().priority(9).max_age(Duration::from_secs(2));
        let second = seen.subscribe_track("video", want).unwrap();
        assert_eq!(wanted(&mut chain), (9, 2), "{version}");
        first.update(Subscription::default().priority(11));
        assert_eq!(wanted(&mut chain), (11, 2), "{version}");
        drop(second);
        assert_eq!(wanted(&mut chain), (11, 0), "{version}");
    }
}

/// A reader may wait for a group that is far away, for example that of a publisher that restarted with other numbers. One
/// that joins later begins with the latest group all the same, in versions whose subscriptions can change.
#[test]
fn a_reader_that_waits_for_a_later_group_holds_no_other_back() {
    for version in [Version::Lite05, Version::Lite06, Version::Lite07Wip] {
        for link in [Link::perfect(), Link::wide(3)] {
            let (mut chain, origin) = Chain::to_origin([version; 2], &link, video());
            burst(&mut chain, 3);
            let seen = origin.consume().broadcast("live").expect("it was announced");
            let want = Subscription::default().max_age(Duration::from_secs(5));
            let far = want.clone().start(1_000);
            let mut waiting = seen.subscribe_track("video", far).unwrap();
            chain.advance(500);
            let mut joined = seen.subscribe_track("video", want.clone()).unwrap();
            chain.advance(500);
            // From 06 on older groups come too, up to the age that the reader wants.
            assert!(received(&mut joined).contains(&2), "{version}");
            burst(&mut chain, 2);
            chain.advance(500);
            let later: BTreeSet<_> = received(&mut joined).into_iter().collect();
            assert_eq!(later, BTreeSet::from([3, 4]), "{version}");
            assert_eq!(received(&mut waiting), [], "{version}");

            // One more that wants a group between them, and is alone after that.
            let mut near = seen.subscribe_track("video", want.start(6)).unwrap();
            drop((joined, waiting));
            chain.advance(500);
            burst(&mut chain, 3);
            chain.advance(500);
            let later: BTreeSet<_> = received(&mut near).into_iter().collect();
            assert_eq!(later, BTreeSet::from([6, 7]), "{version}");
        }
    }
}

/// START passes through the relay: a late reader knows the first group and need not wait for stragglers at
/// the end.
#[test]
fn a_late_reader_behind_a_relay_knows_when_it_has_everything() {
    for link in [Link::perfect(), Link::wide(3)] {
        let (mut chain, origin) = Chain::to_origin([Version::Lite06; 2], &link, video());
        burst(&mut chain, 5);
        let seen = origin.consume().broadcast("live").expect("it was announced");
        let mut reader = seen.subscribe_track("video", Subscription::default()).unwrap();
        chain.advance(500);
        assert_eq!(received(&mut reader), [4], "only the newest group");
        burst(&mut chain, 1);
        chain.track.finish().unwrap();
        chain.advance(300);
        assert_eq!(received(&mut reader), [5]);
        assert_eq!(reader.try_finished(), Poll::Ready(Ok(6)));
        assert!(matches!(reader.try_recv_group(), Poll::Ready(Ok(None))));
    }
}

/// `moq-net` requests the track's information before it subscribes. Nobody reads in the meantime, so no
/// groups may be dropped as too old.
#[test]
fn groups_between_track_info_and_subscription_are_not_lost() {
    for versions in [
        [Version::Lite05; 2],
        [Version::Lite06; 2],
        [Version::Lite04, Version::Lite05],
        [Version::Lite04, Version::Lite07Wip],
    ] {
        let join = |version| {
            let mut config = Config::new(Side::Server, version);
            config.interests = vec![Path::root()];
            Bare::new(Machine::new(config, Instant::ZERO), Shelf::new())
        };
        let mut chain = Chain::with(versions, &Link::wide(3), video(), join);
        let subscription = Token::default();
        let (broadcast, track) = (Path::new("live"), "video".into());
        chain.down.server.apply(Command::Describe { subscription, broadcast, track });
        chain.advance(200);
        let is_track_info = |event: &Event| matches!(event, Event::TrackInfo { .. });
        assert!(chain.down.server.take_events().iter().any(is_track_info), "{versions:?}");
        assert_eq!(
            chain.track.try_used(),
            Poll::Pending,
            "a request for information is not a reader"
        );

        burst(&mut chain, 20);
        chain.advance(200);
        let (broadcast, track) = (Path::new("live"), "video".into());
        let want = Subscription::default().max_age(Duration::from_secs(5)).start(0);
        chain.down.server.apply(Command::Subscribe { subscription, broadcast, track, want });
        chain.advance(500);
        assert_eq!(chain.track.try_used(), Poll::Ready(Ok(())));
        let events = chain.down.server.take_events();
        let groups: BTreeSet<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Group { sequence, .. } => Some(*sequence),
                _ => None,
            })
            .collect();
        assert!(groups.into_iter().eq(0..20), "{versions:?}");
    }
}

/// A request for information about a missing track is refused by the first node upstream that knows.
#[test]
fn track_info_of_a_missing_track_is_refused_through_a_relay() {
    let join = |version| {
        let mut config = Config::new(Side::Server, version);
        config.interests = vec![Path::root()];
        Bare::new(Machine::new(config, Instant::ZERO), Shelf::new())
    };
    let mut chain = Chain::with([Version::Lite06; 2], &Link::wide(3), video(), join);
    let subscription = Token::default();
    let (broadcast, track) = (Path::new("live"), "subtitles".into());
    chain.down.server.apply(Command::Describe { subscription, broadcast, track });
    chain.advance(500);
    let result = Err(Error::NotFound);
    let ended = Event::SubscribeEnded { subscription, result };
    assert!(chain.down.server.take_events().contains(&ended));
}

/// One session of an origin has the timer of its cache. When that session ends, another one is woken to
/// take it over.
#[test]
fn the_timer_of_a_cache_passes_to_another_session() {
    let mut limits = Limits::default();
    limits.max_age = Duration::from_secs(1);
    let origin = Origin::default().limits(limits).produce();
    let server = Server::new().with_publish(origin.consume());
    let (_first, mut first) = server.accept(Version::Lite04, Instant::ZERO);
    let (_second, mut second) = server.accept(Version::Lite04, Instant::ZERO);
    let mut broadcast = origin.create_broadcast("live").unwrap();
    let info = Track::new("video").max_age(Duration::from_secs(1));
    let mut track = broadcast.create_track(info).unwrap();
    for n in 0..2_u64 {
        track.write_frame(n, "x").unwrap();
    }
    for driver in [&mut first, &mut second] {
        while driver.work(Instant::ZERO) {}
    }
    let due = Some(Instant::from_millis(1_000));
    assert_eq!((first.poll_timeout(), second.poll_timeout()), (due, None));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(second.poll_wake(&mut cx).is_pending());
    drop(first);
    assert!(second.poll_wake(&mut cx).is_ready(), "the other session must be woken");
    while second.work(Instant::ZERO) {}
    assert_eq!(second.poll_timeout(), due);
    let before = origin.cached_bytes();
    second.end_turn(Instant::from_millis(1_000), false);
    assert!(origin.cached_bytes() < before);
    assert_eq!(second.poll_timeout(), None);
}
