//! Requests for a new group: of local readers, through relays, and of peers that can't ask (moq-transport-22, 9.20.19).

mod chain;

use std::task::Poll;
use std::time::Duration;

use chain::Chain;
use smoq::machine::{Announcement, Command, Config, Event, Machine, RequestKey, Token};
use smoq::sim::{Bare, Frame, Link, Pair, Shelf, Wakes};
use smoq::stream::Side;
use smoq::{
    Client, Cost, Driver, Error, Group, Instant, Origin, OriginProducer, Session, Subscription,
    Track, TrackConsumer, TrackInfo, TrackProducer, Version,
};

const READERS: usize = 10_000;

fn video() -> Track {
    Track::new("video").dynamic_groups(true)
}

fn latest() -> Subscription {
    Subscription::default().max_age(Duration::MAX)
}

/// Whether the version has requests for new groups.
fn can_ask(version: Version) -> bool {
    version >= Version::Moqt15
}

/// However many readers ask before the next group, the publisher is woken and told once.
#[test]
fn a_publisher_learns_of_all_requests_at_once() {
    let mut track = video().produce();
    let wakes = Wakes::new();
    let mut cx = wakes.context();
    let readers: Vec<_> = (0..READERS).map(|_| track.consume()).collect();
    assert!(track.poll_new_group_requested(&mut cx).is_pending());
    for n in 0..3_u64 {
        readers.iter().for_each(TrackConsumer::request_new_group);
        assert_eq!(wakes.take(), 1);
        // Each handle is told once.
        let mut clone = track.clone();
        assert_eq!(clone.try_new_group_requested(), Poll::Ready(Ok(())));
        assert_eq!(track.poll_new_group_requested(&mut cx), Poll::Ready(Ok(())));
        assert!(track.poll_new_group_requested(&mut cx).is_pending());
        assert!(clone.try_new_group_requested().is_pending());
        track.create_group(n).unwrap().finish().unwrap();
        assert!(track.poll_new_group_requested(&mut cx).is_pending(), "it was answered");
    }
    // A number that exists is no request, and neither is one that was asked for.
    let mut reader = readers.into_iter().next().unwrap();
    reader.update(latest());
    assert!(track.poll_new_group_requested(&mut cx).is_pending());
    wakes.take();
    for (group, asks) in [(2, false), (1, false), (3, true), (3, false), (0, false), (9, true)] {
        reader.update(latest().new_group(group));
        assert_eq!(reader.subscription().new_group, None, "it takes effect once");
        let told = track.poll_new_group_requested(&mut cx).is_ready();
        assert_eq!((told, wakes.take()), (asks, asks.into()), "{group}");
    }
    assert_eq!(track.subscription().unwrap().new_group, None);
    track.abort(Error::App(3));
    assert_eq!(track.try_new_group_requested(), Poll::Ready(Err(Error::App(3))));
}

#[test]
fn a_request_ends_with_the_next_group_or_the_last_reader() {
    let mut track = video().produce();
    let reader = track.subscribe(latest().new_group(0));
    drop(reader);
    assert!(track.try_new_group_requested().is_pending(), "nobody waits");
    let reader = track.consume();
    assert!(track.try_new_group_requested().is_pending());
    reader.request_new_group();
    track.write_frame(0, "in the meantime").unwrap();
    assert!(track.try_new_group_requested().is_pending(), "there is a new group");
    reader.request_new_group();
    assert_eq!(track.try_new_group_requested(), Poll::Ready(Ok(())));
}

/// A track whose publisher does not declare it, and one that was requested and is not accepted yet.
#[test]
fn requests_for_other_tracks_have_no_effect() {
    let mut track = Track::new("video").produce();
    let reader = track.subscribe(latest().new_group(0));
    reader.request_new_group();
    assert!(track.try_new_group_requested().is_pending());

    let origin = Origin::default().produce();
    let broadcast = origin.create_broadcast("live").unwrap();
    let mut dynamic = broadcast.dynamic();
    for dynamic_groups in [false, true] {
        let name = if dynamic_groups { "a" } else { "b" };
        let reader = broadcast.consume().subscribe_track(name, latest().new_group(0)).unwrap();
        let Poll::Ready(Ok(request)) = dynamic.try_requested_track() else { panic!("not asked") };
        let mut info = TrackInfo::default();
        info.dynamic_groups = dynamic_groups;
        let mut track = request.accept(info).unwrap();
        assert_eq!(track.try_new_group_requested().is_ready(), dynamic_groups);
        drop(reader);
    }
}

/// A relay, and its publisher as a machine whose commands are those of the test.
struct Upstream {
    pair: Pair<Driver, Bare<Shelf>>,
    relay: OriginProducer,
    _session: Session,
}

impl Upstream {
    fn new(version: Version) -> Self {
        let relay = Origin::default().produce();
        let client = Client::new().with_consume(relay.clone());
        let (session, client) = client.connect(version, Instant::ZERO);
        let config = Config::new(Side::Server, version);
        let server = Bare::new(Machine::new(config, Instant::ZERO), Shelf::new());
        let pair = Pair::new(client, server, Link::perfect());
        let mut this = Self { pair, relay, _session: session };
        for event in this.events() {
            let Event::AnnounceRequested { request, .. } = event else { panic!("{event:?}") };
            let (reader, active) = (Token { slot: request.slot() as u32, generation: 9 }, 1);
            let (suffix, hops, cost) = ("live".into(), Default::default(), Cost::UNKNOWN);
            let publisher = &mut this.pair.server;
            publisher.source.announce(reader, Announcement::Active { suffix, hops, cost });
            publisher.apply(Command::AcceptAnnounce { request, reader, active });
        }
        this.events();
        this
    }

    fn read(&self, want: Subscription) -> TrackConsumer {
        let live = self.relay.consume().broadcast("live").expect("it was announced");
        live.subscribe_track("video", want).unwrap()
    }

    fn events(&mut self) -> Vec<Event> {
        self.pair.advance(Duration::from_millis(100));
        self.pair.server.take_events()
    }

    /// The request that arrived, and the new group that it asks for.
    fn requested(&mut self) -> (RequestKey, Option<u64>) {
        match &self.events()[..] {
            [Event::SubscribeRequested { request, subscription, .. }] => {
                (*request, subscription.new_group)
            }
            events => panic!("{events:?}"),
        }
    }

    /// The new groups that were asked for since.
    fn asked(&mut self) -> Vec<Option<u64>> {
        let events = self.events().into_iter();
        let asked = events.filter_map(|event| match event {
            Event::SubscribeUpdated { subscription, .. } => Some(subscription.new_group),
            _ => None,
        });
        asked.collect()
    }

    fn accept(&mut self, request: RequestKey, dynamic_groups: bool) {
        let mut info = TrackInfo::default();
        info.dynamic_groups = dynamic_groups;
        self.pair.server.apply(Command::AcceptSubscribe { request, info, largest: None });
    }

    fn publish(&mut self, request: RequestKey, sequence: u64) {
        let group = Token { slot: sequence as u32, generation: 1 };
        self.pair.server.source.insert(group, [Frame::new(0, "key frame")]);
        self.pair.server.apply(Command::Group { request, group, sequence, first_frame: 0 });
        assert_eq!(self.asked(), []);
    }
}

/// D22-9-20-19-MUST-452, -453: the first request goes with SUBSCRIBE, and later ones with REQUEST_UPDATE. There is one at a
/// time for all readers, and another one only if it asks for more.
#[test]
fn a_relay_asks_its_publisher_once_for_all_readers() {
    for version in Version::ALL.into_iter().filter(|version| can_ask(*version)) {
        let mut up = Upstream::new(version);
        let mut readers: Vec<_> = (0..READERS).map(|_| up.read(latest().new_group(0))).collect();
        let (request, asked) = up.requested();
        assert_eq!(asked, Some(0), "{version}: nothing is known of the track");
        readers.iter().for_each(TrackConsumer::request_new_group);
        up.accept(request, true);
        assert_eq!(up.asked(), [], "{version}: it was asked for");
        for sequence in 0..3 {
            up.publish(request, sequence);
            readers.iter().for_each(TrackConsumer::request_new_group);
            assert_eq!(up.asked(), [Some(sequence + 1)], "{version}");
            readers.iter().for_each(TrackConsumer::request_new_group);
            assert_eq!(up.asked(), [], "{version}");
        }
        // One that asks for more than is outstanding, and one that is satisfied.
        let mut want = |up: &mut Upstream, group| {
            readers[0].update(latest().new_group(group));
            up.asked()
        };
        assert_eq!(want(&mut up, 40), [Some(40)], "{version}");
        assert_eq!(want(&mut up, 39), [], "{version}");
        up.publish(request, 3);
        assert_eq!(want(&mut up, 3), [], "{version}");
        // A number that never comes asks once for each group, and can be encoded.
        for sequence in 4..6 {
            assert_eq!(want(&mut up, u64::MAX), [Some(Group::MAX)], "{version}");
            up.publish(request, sequence);
        }
        assert_eq!(want(&mut up, 0), [Some(6)], "{version}");
    }
}

/// D22-9-20-19-MUST-NOT-447: a request that comes after SUBSCRIBE waits for the answer, which may not allow it.
#[test]
fn a_request_waits_until_the_publisher_allows_it() {
    for version in Version::ALL.into_iter().filter(|version| can_ask(*version)) {
        for allowed in [false, true] {
            let mut up = Upstream::new(version);
            let reader = up.read(latest());
            let (request, asked) = up.requested();
            assert_eq!(asked, None);
            reader.request_new_group();
            assert_eq!(up.asked(), [], "{version}");
            up.accept(request, allowed);
            let expected: Vec<_> = allowed.then_some(Some(0)).into_iter().collect();
            assert_eq!(up.asked(), expected, "{version}");
            up.publish(request, 0);
            reader.request_new_group();
            let expected: Vec<_> = allowed.then_some(Some(1)).into_iter().collect();
            assert_eq!(up.asked(), expected, "{version}");
        }
    }
}

/// Where a peer can't ask, nothing is sent, not even an update that changes nothing.
#[test]
fn requests_end_at_peers_that_cannot_ask() {
    for version in Version::ALL.into_iter().chain(Version::WIP).filter(|it| !can_ask(*it)) {
        let mut up = Upstream::new(version);
        let reader = up.read(latest().new_group(0));
        let events = up.events();
        let request = events.iter().find_map(|event| match event {
            Event::SubscribeRequested { request, subscription, .. } => {
                assert_eq!(subscription.new_group, None, "{version}");
                Some(*request)
            }
            _ => None,
        });
        for event in &events {
            if let Event::TrackRequested { request, .. } = event {
                let (request, info, largest) = (*request, TrackInfo::default(), None);
                up.pair.server.apply(Command::AcceptTrack { request, info, largest });
            }
        }
        let request = request.expect("SUBSCRIBE");
        reader.request_new_group();
        up.accept(request, true);
        assert_eq!(up.asked(), [], "{version}");
        up.publish(request, 0);
        reader.request_new_group();
        assert_eq!(up.asked(), [], "{version}");
    }
}

/// The publisher begins a group when it is asked to, and every reader gets it.
fn answer(chain: &mut Chain<Driver>, readers: &mut [TrackConsumer], what: &str) {
    assert_eq!(chain.track.try_new_group_requested(), Poll::Ready(Ok(())), "{what}");
    assert!(chain.track.try_new_group_requested().is_pending(), "{what}");
    let mut group = chain.track.append_group().unwrap();
    group.write_frame(0, "key frame").unwrap();
    group.finish().unwrap();
    let sequence = group.sequence();
    chain.advance(100);
    for reader in readers {
        let Poll::Ready(Ok(Some(group))) = reader.try_recv_group() else { panic!("{what}") };
        assert_eq!(group.sequence(), sequence, "{what}");
    }
    let track: &mut TrackProducer = &mut chain.track;
    assert!(track.try_new_group_requested().is_pending(), "{what}");
}

/// From a reader through a relay to the application of the publisher, where both links can carry it. Elsewhere the track
/// goes on as it would.
#[test]
fn a_reader_asks_through_a_relay() {
    let every = || Version::ALL.into_iter().chain(Version::WIP);
    for versions in every().flat_map(|up| every().map(move |down| [up, down])) {
        let what = format!("{versions:?}");
        let arrives = versions.into_iter().all(can_ask);
        let (mut chain, origin) = Chain::to_origin(versions, &Link::perfect(), video());
        let seen = origin.consume().broadcast("live").expect("it was announced");
        let read = |want| seen.subscribe_track("video", want).unwrap();
        let mut readers = vec![read(latest().new_group(0)), read(latest())];
        chain.advance(100);
        if !arrives {
            assert!(chain.track.try_new_group_requested().is_pending(), "{what}");
            chain.track.write_frame(0, "a").unwrap();
            chain.advance(100);
            readers.iter().for_each(TrackConsumer::request_new_group);
            chain.advance(100);
            assert!(chain.track.try_new_group_requested().is_pending(), "{what}");
            chain.track.write_frame(1, "b").unwrap();
            chain.advance(100);
            let groups = std::iter::from_fn(|| match readers[1].try_recv_group() {
                Poll::Ready(Ok(group)) => group.map(|group| group.sequence()),
                _ => None,
            });
            assert!(groups.eq([0, 1]), "{what}");
            let Poll::Ready(Ok(info)) = readers[0].try_info() else { panic!("{what}") };
            assert!(!info.dynamic_groups, "{what}");
            continue;
        }
        answer(&mut chain, &mut readers, &what);
        let Poll::Ready(Ok(info)) = readers[0].try_info() else { panic!("{what}") };
        assert!(info.dynamic_groups, "{what}");
        for _ in 0..2 {
            readers.iter().for_each(TrackConsumer::request_new_group);
            // A reader at the relay asks as well.
            let relay = chain.relay.consume().broadcast("live").unwrap();
            let near = relay.subscribe_track("video", latest()).unwrap();
            near.request_new_group();
            chain.advance(100);
            answer(&mut chain, &mut readers, &what);
        }
    }
}
