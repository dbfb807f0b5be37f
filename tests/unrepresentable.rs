//! Values that the wire format can't carry are refused at the call and affect nothing else.

use std::task::Poll;
use std::time::Duration;

use smoq::sim::{Link, Pair};
use smoq::{
    Client, Driver, Error, Group, Instant, Origin, OriginProducer, Server, Session, Subscription,
    Track, TrackConsumer, Version,
};

const TOO_HIGH: [u64; 4] = [Group::MAX + 1, 1 << 62, 1 << 63, u64::MAX];

fn is_refused<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Unrepresentable(_)))
}

#[test]
fn group_numbers_have_a_maximum() {
    for number in TOO_HIGH {
        let mut track = Track::new("t").produce();
        assert!(is_refused(track.create_group(number)), "{number}");
        if number > Group::MAX + 1 {
            assert!(is_refused(track.finish_at(number)), "{number}");
        }
        let mut reader = track.consume();
        let Poll::Ready(fetched) = reader.try_fetch_group(number) else {
            panic!("the fetch waits")
        };
        assert!(is_refused(fetched), "{number}");
        assert!(matches!(reader.try_group(number), Poll::Ready(Ok(None))), "{number}");
        track.append_group().unwrap();
    }
    let mut track = Track::new("t").produce();
    track.create_group(Group::MAX).unwrap().finish().unwrap();
    assert!(is_refused(track.append_group()));
    assert!(is_refused(track.write_frame(0, "late")));
    assert!(is_refused(track.write_datagram(0, "late")));
    track.finish().unwrap();
    assert_eq!(track.consume().try_finished(), Poll::Ready(Ok(Group::MAX + 1)));
}

#[test]
fn subscriptions_are_limited_to_valid_group_numbers() {
    let mut broadcast = smoq::Broadcast::new().produce();
    let track = broadcast.create_track("t").unwrap();
    for number in TOO_HIGH {
        let wants = [Subscription::default().start(number), Subscription::default().end(number)];
        for want in wants {
            assert!(is_refused(broadcast.consume().subscribe_track("t", want.clone())), "{number}");
            // Calls that can't fail clamp the number without changing the result.
            let mut reader = track.consume();
            reader.update(want);
            let cut = reader.subscription();
            assert!(cut.start.is_none_or(|start| start == Group::MAX), "{number}");
            assert!(cut.end.is_none_or(|end| end == Group::MAX), "{number}");
        }
    }
}

/// A publisher, a relay and a reader, with one link per version.
struct Chain {
    links: Vec<Pair<Driver, Driver>>,
    origins: Vec<OriginProducer>,
    sessions: Vec<Session>,
}

impl Chain {
    fn new(versions: &[Version]) -> Self {
        let origins: Vec<_> = (0..=versions.len()).map(|_| Origin::default().produce()).collect();
        let (mut links, mut sessions) = (vec![], vec![]);
        for (version, ends) in versions.iter().zip(origins.windows(2)) {
            let client = Client::new().with_publish(ends[0].consume());
            let server = Server::new().with_consume(ends[1].clone());
            let (a, client) = client.connect(*version, Instant::ZERO);
            let (b, server) = server.accept(*version, Instant::ZERO);
            links.push(Pair::new(client, server, Link::perfect()));
            sessions.extend([a, b]);
        }
        Self { links, origins, sessions }
    }

    /// Runs long enough for each link to wait for stragglers once.
    fn run(&mut self) {
        for _ in 0..300 {
            self.links.iter_mut().for_each(|link| link.advance(Duration::from_millis(10)));
        }
    }

    fn reader(&self) -> &OriginProducer {
        self.origins.last().unwrap()
    }
}

fn chains() -> impl Iterator<Item = Vec<Version>> {
    let all = || Version::ALL.iter().copied().chain([Version::Lite07Wip]);
    let after = |version| vec![version, Version::Lite06];
    let before = |version| vec![Version::Lite06, version];
    all().flat_map(move |version| [vec![version], after(version), before(version)])
}

fn groups(reader: &mut TrackConsumer) -> Vec<u64> {
    let mut groups = vec![];
    while let Poll::Ready(Ok(Some(group))) = reader.try_recv_group() {
        groups.push(group.sequence());
    }
    groups
}

#[test]
fn the_highest_group_and_its_end_reach_readers() {
    for versions in chains() {
        let mut chain = Chain::new(&versions);
        let mut broadcast = chain.origins[0].create_broadcast("live").unwrap();
        let mut track = broadcast.create_track("video").unwrap();
        chain.run();
        let seen = chain.reader().consume().broadcast("live").expect("the broadcast was announced");
        let mut reader = seen.subscribe_track("video", Subscription::default()).unwrap();
        chain.run();
        let mut group = track.create_group(Group::MAX).unwrap();
        group.write_frame(0, "last").unwrap();
        group.finish().unwrap();
        track.finish().unwrap();
        chain.run();
        assert_eq!(groups(&mut reader), [Group::MAX], "{versions:?}");
        assert_eq!(reader.try_closed(), Poll::Ready(Ok(())), "{versions:?}");
    }
}

/// moq-transport 16 and 18, *Track Naming*: a namespace has at most 32 fields, and a full name 4,096 bytes.
#[test]
fn names_that_moq_transport_cannot_encode_affect_nothing_else() {
    let paths = [vec!["x"; 33].join("/"), "a\\b".to_owned()];
    for version in [Version::Moqt14, Version::Moqt16, Version::Moqt18, Version::Moqt22] {
        let mut chain = Chain::new(&[version]);
        let _there = chain.origins[0].create_broadcast("live").unwrap();
        let _others: Vec<_> =
            paths.iter().map(|path| chain.origins[0].create_broadcast(path.as_str())).collect();
        chain.run();
        assert!(chain.reader().consume().broadcast("live").is_some(), "{version}");
        for path in &paths {
            assert!(chain.reader().consume().broadcast(path.as_str()).is_none(), "{version}");
            let asked = chain.sessions[1].request_broadcast(path.as_str()).unwrap();
            let mut track = asked.subscribe_track("video", Subscription::default()).unwrap();
            chain.run();
            let Poll::Ready(info) = track.try_info() else { panic!("{version}: {path} waits") };
            assert!(is_refused(info), "{version}: {path}");
        }
    }
}

/// Draft 16 has no namespace without fields for requests; 18 has.
#[test]
fn a_broadcast_at_the_root_is_readable_or_not_announced() {
    for versions in chains() {
        let mut chain = Chain::new(&versions);
        let mut broadcast = chain.origins[0].create_broadcast("").unwrap();
        let mut track = broadcast.create_track("video").unwrap();
        let _other = chain.origins[0].create_broadcast("live").unwrap();
        chain.run();
        assert!(chain.reader().consume().broadcast("live").is_some(), "{versions:?}");
        let seen = chain.reader().consume().broadcast("");
        let has_root = |it: &Version| !(Version::Moqt14..=Version::Moqt16).contains(it);
        assert_eq!(seen.is_some(), versions.iter().all(has_root), "{versions:?}");
        let Some(seen) = seen else { continue };
        let mut reader = seen.subscribe_track("video", Subscription::default()).unwrap();
        chain.run();
        track.write_frame(0, "here").unwrap();
        chain.run();
        assert_eq!(groups(&mut reader), [0], "{versions:?}");
    }
}
