//! A peer of moq-transport that joins a track in the middle of a group, and one that fetches a range of groups: what
//! our publisher answers from its cache. The test writes the bytes of the peer.

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;

use raw_client::{Fetched, RawClient};
use smoq::coding::DecodeError;
use smoq::coding::ietf::{
    Fetch, FetchEnd, FetchOk, FetchTarget, Filter, GroupOrder, INVALID_RANGE, Location, Message,
    Parameters, Subscribe,
};
use smoq::sim::{Link, Pair, Random};
use smoq::stream::{Dir, StreamId};
use smoq::{
    BroadcastProducer, Client, Driver, Error, FrameProducer, GroupProducer, Instant, Limits,
    Origin, Path, Server, Subscription, TrackInfo, TrackProducer, Version,
};

mod raw_client;

fn drafts() -> impl Iterator<Item = Version> {
    Version::ALL.into_iter().filter(|version| *version >= Version::Moqt16)
}

/// A server that publishes `video` of `demo`, and whose client is the test.
struct World {
    client: RawClient,
    broadcast: BroadcastProducer,
    track: TrackProducer,
}

impl World {
    fn new(version: Version) -> Self {
        let mut limits = Limits::default();
        limits.track_groups = 4;
        let origin = Origin::default().limits(limits).produce();
        let mut broadcast = origin.create_broadcast("demo").unwrap();
        let track = broadcast.create_track("video").unwrap();
        let client = RawClient::new(Server::new().with_publish(origin.consume()), version);
        Self { client, broadcast, track }
    }

    /// The answer to the FETCH of this id. Each payload is compared.
    fn fetched(&self, id: u64, order: GroupOrder) -> Vec<String> {
        let records = self.client.fetched(id, order).into_iter();
        records
            .map(|record| match record {
                Fetched::Object(Location { group, object }, bytes) => {
                    assert_eq!(bytes, payload(group, object).as_bytes());
                    format!("{group}.{object}")
                }
                Fetched::Unknown(end) => format!("?{}", end.group),
                Fetched::TimedOut(end) => format!("!{}", end.group),
            })
            .collect()
    }

    /// The group and the number of the first object on each group stream.
    fn streams(&self) -> Vec<(u64, u64)> {
        let streams = self.client.subgroups();
        let streams = streams.iter();
        streams.filter_map(|(header, objects)| Some((header.group, objects.first()?.0))).collect()
    }

    /// The numbers of the objects on the streams of a group, in the order of the streams. Each payload is compared.
    fn objects_of(&self, group: u64) -> Vec<u64> {
        let streams = self.client.subgroups();
        let objects = streams.iter().filter(|(header, _)| header.group == group);
        let objects = objects.flat_map(|(_, objects)| objects);
        objects
            .map(|(number, bytes)| {
                assert_eq!(*bytes, payload(group, *number).as_bytes());
                *number
            })
            .collect()
    }

    fn subscribe(&mut self, parameters: Parameters) -> (u64, StreamId) {
        self.client.request(|id| {
            let (namespace, track) = (Path::new("demo"), "video".into());
            Message::Subscribe(Subscribe { id, namespace, track, parameters })
        })
    }

    fn fetch_range(
        &mut self,
        start: Location,
        end: Location,
        order: GroupOrder,
    ) -> (u64, StreamId) {
        self.fetch_within(start, end, order, None)
    }

    fn fetch_within(
        &mut self,
        start: Location,
        end: Location,
        order: GroupOrder,
        fill_timeout: Option<Duration>,
    ) -> (u64, StreamId) {
        let order = Some(order);
        let parameters = Parameters { order, fill_timeout, ..Parameters::default() };
        self.client.fetch_range(["demo", "video"], start, end, parameters)
    }

    /// Writes groups of two frames.
    fn write_groups(&mut self, sequences: impl IntoIterator<Item = u64>) {
        for sequence in sequences {
            let mut group = self.track.create_group(sequence).unwrap();
            for frame in 0..2 {
                group.write_frame(0, payload(sequence, frame)).unwrap();
            }
            group.finish().unwrap();
        }
    }
}

fn payload(group: u64, object: u64) -> String {
    format!("frame {object} of {group}")
}

fn with_filter(filter: Filter) -> Parameters {
    Parameters { filter: Some(filter), ..Parameters::default() }
}

/// The subscription begins after the largest object, and a joining FETCH or a fill ends with it. Together they are
/// the whole group (moq-transport-22, 3.1.4, 3.4 and 3.5).
#[test]
fn a_late_subscriber_gets_the_latest_group_in_two_parts() {
    for version in drafts() {
        let mut world = World::new(version);
        world.write_groups(0..7);
        let mut group = world.track.append_group().unwrap();
        for frame in 0..3 {
            group.write_frame(0, payload(7, frame)).unwrap();
        }
        let fills = version >= Version::Moqt20;
        let fill = fills.then(|| Box::new(with_filter(Filter::GroupsBack(1))));
        let parameters = Parameters { fill, ..with_filter(Filter::NextObject) };
        let (mut id, stream) = world.subscribe(parameters);
        let Message::SubscribeOk(ok) = world.client.answer(stream) else {
            panic!("no SUBSCRIBE_OK")
        };
        assert_eq!(ok.parameters.largest, Some(Location::new(7, 2)), "{version}");
        for frame in 3..5 {
            group.write_frame(0, payload(7, frame)).unwrap();
        }
        world.client.run();
        if !fills {
            let target = FetchTarget::Relative { joins: id, groups_back: 0 };
            let parameters = Parameters::default();
            (id, _) = world.client.request(|id| Message::Fetch(Fetch { id, target, parameters }));
        }
        let order = if fills { GroupOrder::Descending } else { GroupOrder::Ascending };
        assert_eq!(world.fetched(id, order), ["7.0", "7.1", "7.2"], "{version}");
        assert_eq!(world.streams(), [(7, 3)], "{version}");
    }
}

/// An object that is still arriving is the largest one, and a FETCH delivers all of it (3.1.4 and 3.2).
#[test]
fn the_largest_object_may_still_arrive() {
    for version in drafts().filter(|it| *it < Version::Moqt20) {
        let mut world = World::new(version);
        world.write_groups(0..2);
        let mut group = world.track.append_group().unwrap();
        let last = payload(2, 0);
        let mut frame = group.create_frame(0, last.len() as u64).unwrap();
        frame.write(&last.as_bytes()[..3]).unwrap();
        let (id, stream) = world.subscribe(with_filter(Filter::NextObject));
        let Message::SubscribeOk(ok) = world.client.answer(stream) else {
            panic!("no SUBSCRIBE_OK")
        };
        assert_eq!(ok.parameters.largest, Some(Location::new(2, 0)), "{version}");
        let (target, parameters) =
            (FetchTarget::Relative { joins: id, groups_back: 1 }, Parameters::default());
        let (id, _) = world.client.request(|id| Message::Fetch(Fetch { id, target, parameters }));
        frame.write(&last.as_bytes()[3..]).unwrap();
        frame.finish().unwrap();
        world.client.run();
        assert_eq!(world.fetched(id, GroupOrder::Ascending), ["1.0", "1.1", "2.0"], "{version}");
    }
}

/// However the objects of a group arrive while a subscriber joins in it, the FETCH and the subscription are the whole
/// group (moq-transport-22, 3.1.4, 3.4 and 3.5).
#[test]
fn a_group_that_arrives_during_the_join_is_whole() {
    for seed in 0..300 {
        for version in drafts() {
            join_while_a_group_arrives(version, &mut Random::new(seed));
        }
    }
}

fn join_while_a_group_arrives(version: Version, random: &mut Random) {
    const FRAMES: u64 = 3;
    let mut world = World::new(version);
    // A backlog: groups arrive at once, and not in order.
    let mut sequences = [4, 5, 6];
    sequences.swap(0, random.below(3) as usize);
    let mut steps: Vec<u64> =
        sequences.into_iter().flat_map(|n| [n; 2 * FRAMES as usize + 1]).collect();
    for at in (1..steps.len()).rev() {
        if random.below(2) == 0 {
            steps.swap(at, random.below(at as u64 + 1) as usize);
        }
    }
    let joins_at = random.below(steps.len() as u64 + 1) as usize;
    let fetches_at = joins_at + random.below(3) as usize;
    let fills = version >= Version::Moqt20;
    let mut open: BTreeMap<u64, (GroupProducer, Option<FrameProducer>)> = BTreeMap::new();
    let mut done = BTreeMap::new();
    let (mut joined, mut fetch, mut largest) = (None, None, None);
    for at in 0..steps.len() + 3 {
        if at == joins_at {
            let fill = fills.then(|| Box::new(with_filter(Filter::GroupsBack(1))));
            let parameters = Parameters { fill, ..with_filter(Filter::NextObject) };
            let (id, stream) = world.subscribe(parameters);
            let Message::SubscribeOk(ok) = world.client.answer(stream) else {
                panic!("no SUBSCRIBE_OK")
            };
            (joined, largest) = (Some(id), ok.parameters.largest);
            fetch = fills.then_some(id);
        }
        if at == fetches_at && !fills && largest.is_some() {
            let target = FetchTarget::Relative { joins: joined.unwrap(), groups_back: 0 };
            let parameters = Parameters::default();
            let (id, _) =
                world.client.request(|id| Message::Fetch(Fetch { id, target, parameters }));
            fetch = Some(id);
        }
        let Some(&sequence) = steps.get(at) else { continue };
        let step = done.entry(sequence).or_insert(0);
        let number: u64 = *step / 2;
        match *step {
            step if step == 2 * FRAMES => open.remove(&sequence).unwrap().0.finish().unwrap(),
            step => {
                let (group, frame) = open
                    .entry(sequence)
                    .or_insert_with(|| (world.track.create_group(sequence).unwrap(), None));
                let bytes = payload(sequence, number);
                let (first, rest) = bytes.as_bytes().split_at(3 * (sequence + number) as usize % 6);
                if step % 2 == 0 {
                    let mut begun = group.create_frame(0, bytes.len() as u64).unwrap();
                    begun.write(first).unwrap();
                    *frame = Some(begun);
                } else {
                    let mut begun = frame.take().unwrap();
                    begun.write(rest).unwrap();
                    begun.finish().unwrap();
                }
            }
        }
        *step += 1;
        if random.below(2) == 0 {
            world.client.run();
        }
    }
    world.client.run();
    let Some(Location { group, object }) = largest else { return };
    let order = if fills { GroupOrder::Descending } else { GroupOrder::Ascending };
    let head = world.fetched(fetch.unwrap(), order);
    let expected: Vec<_> = (0..=object).map(|object| format!("{group}.{object}")).collect();
    assert_eq!(head, expected, "{version}");
    let tail: Vec<_> = (object + 1..FRAMES).collect();
    assert_eq!(world.objects_of(group), tail, "{version}: largest {group}.{object}");
}

/// A range comes from the cache. Groups that it lost are marked, in either order (3.2.2).
#[test]
fn a_range_has_what_the_cache_has() {
    for version in drafts() {
        let mut world = World::new(version);
        world.write_groups(0..10);
        let (start, end) = (Location::new(2, 1), Location::new(20, 0));
        let ascending = ["?5", "6.0", "6.1", "7.0", "7.1", "8.0", "8.1", "9.0", "9.1"];
        let descending = ["9.0", "9.1", "8.0", "8.1", "7.0", "7.1", "6.0", "6.1", "?2"];
        let orders = [(GroupOrder::Ascending, ascending), (GroupOrder::Descending, descending)];
        for (order, expected) in orders {
            let (id, stream) = world.fetch_range(start, end, order);
            let Message::FetchOk(FetchOk { end, .. }) = world.client.answer(stream) else {
                panic!("no FETCH_OK")
            };
            // The end of the answer, and not that of the request (9.12).
            assert_eq!(end, FetchEnd { group: 9, object: Some(1) }, "{version}");
            assert_eq!(world.fetched(id, order), expected, "{version}");
        }
    }
}

/// Groups that the application has elsewhere are requested one after the other. It may refuse some of them, and not more than
/// eight are requested in vain (moq-transport-22, 3.2.3).
#[test]
fn the_application_has_groups_of_a_range() {
    for version in drafts() {
        let mut world = World::new(version);
        world.write_groups(0..40);
        let mut dynamic = world.track.dynamic();
        let (start, end) = (Location::new(1, 0), Location::new(37, 0));
        let (id, _) = world.fetch_range(start, end, GroupOrder::Ascending);
        let (mut asked, mut refused) = (Vec::new(), 0);
        while let Poll::Ready(Ok(request)) = dynamic.try_requested_group() {
            let sequence = request.sequence();
            asked.push(sequence);
            if (3..6).contains(&sequence) || sequence > 10 {
                request.reject(Error::NotFound);
                refused += 1;
            } else {
                let mut group = request.accept().unwrap();
                (0..2).for_each(|frame| group.write_frame(0, payload(sequence, frame)).unwrap());
                group.finish().unwrap();
            }
            world.client.run();
        }
        assert_eq!(refused, 8, "{version} {asked:?}");
        // 37 is in the cache.
        assert_eq!(asked, (1..=15).collect::<Vec<_>>(), "{version}");
        let objects = |group: u64| [format!("{group}.0"), format!("{group}.1")];
        let mut expected: Vec<_> = (1..3).flat_map(objects).collect();
        expected.push("?5".into());
        expected.extend((6..=10).flat_map(objects));
        expected.extend(["?36".into(), "37.0".into()]);
        assert_eq!(world.fetched(id, GroupOrder::Ascending), expected, "{version}");
    }
}

/// D22-9-20-5-MUST-NOT-409 and -MUST-410: FILL_TIMEOUT 0. The cache alone answers, and what it lacks is marked, also
/// for a single group.
#[test]
fn with_a_fill_timeout_of_zero_the_cache_alone_answers() {
    for version in drafts().filter(|version| *version >= Version::Moqt18) {
        let mut world = World::new(version);
        world.write_groups(0..10);
        let mark = if version >= Version::Moqt20 { "!" } else { "?" };
        let range = |world: &mut World, first, last| {
            let (start, end) = (Location::new(first, 0), Location::new(last, 1));
            world.fetch_within(start, end, GroupOrder::Ascending, Some(Duration::ZERO))
        };
        for (first, last, expected) in [
            (7, 7, vec!["7.0".to_owned(), "7.1".into()]),
            (2, 2, vec![format!("{mark}2")]),
            (5, 6, vec![format!("{mark}5"), "6.0".into(), "6.1".into()]),
        ] {
            let (id, stream) = range(&mut world, first, last);
            let answer = world.client.answer(stream);
            assert!(matches!(answer, Message::FetchOk(_)), "{version} {first} {answer:?}");
            assert_eq!(world.fetched(id, GroupOrder::Ascending), expected, "{version}");
        }
        let (_, stream) = range(&mut world, 11, 11);
        assert!(
            matches!(world.client.answer(stream), Message::RequestError(it) if it.code == INVALID_RANGE)
        );
    }
}

/// D22-12-1-MUST-550 and -MUST-551: a malformed track ends downstream with MALFORMED_TRACK, and so does the answer to a
/// FETCH.
#[test]
fn a_malformed_track_ends_downstream() {
    for version in drafts() {
        let mut world = World::new(version);
        let (_, stream) = world.client.request(|id| {
            let (namespace, track) = (Path::new("demo"), "video".into());
            let parameters = Parameters::default();
            Message::Subscribe(Subscribe { id, namespace, track, parameters })
        });
        let mut group = world.track.create_group(7).unwrap();
        group.write_frame(0, payload(7, 0)).unwrap();
        world.fetch_range(Location::new(7, 0), Location::new(7, 9), GroupOrder::Ascending);
        let uni = world.client.written.keys().filter(|id| id.dir() == Dir::Uni).count();
        world.client.written.remove(&stream);
        world.track.abort(Error::Malformed(DecodeError::InvalidValue("properties")));
        world.client.run();
        let answer = world.client.answer(stream);
        let resets = world.client.resets.iter().filter(|(id, _)| id.dir() == Dir::Uni);
        let codes: Vec<_> = resets.map(|(_, code)| *code).collect();
        assert_eq!(codes, vec![0x12; codes.len()], "{version}");
        assert_eq!(
            codes.len(),
            if version >= Version::Moqt17 { uni - 1 } else { uni },
            "{version}"
        );
        assert!(
            matches!(&answer, Message::PublishDone(it) if it.status == 0x12),
            "{version} {answer:?}"
        );
    }
}

/// Groups that the publisher left out do not exist, which needs no mark (3.2.2). A range without objects is refused
/// (3.2).
#[test]
fn groups_that_do_not_exist_are_not_marked() {
    for version in drafts() {
        let mut world = World::new(version);
        let range = |world: &mut World, first, last| {
            let (start, end) = (Location::new(first, 0), Location::new(last, 1));
            world.fetch_range(start, end, GroupOrder::Ascending)
        };
        let code = |world: &World, stream| match world.client.answer(stream) {
            Message::RequestError(error) => error.code,
            other => panic!("{other:?}"),
        };
        let (_, stream) = range(&mut world, 0, 9);
        assert_eq!(code(&world, stream), INVALID_RANGE, "{version}: nothing was published");
        world.write_groups([3, 5, 900]);
        let (id, _) = range(&mut world, 1, u64::MAX >> 3);
        let expected = ["3.0", "3.1", "5.0", "5.1", "900.0", "900.1"];
        assert_eq!(world.fetched(id, GroupOrder::Ascending), expected, "{version}");
        let (_, stream) = range(&mut world, 901, 1_000);
        assert_eq!(code(&world, stream), INVALID_RANGE, "{version}: after the largest object");
    }
}

/// Between two of our sessions a subscription begins with the latest group, from its first frame.
#[test]
fn a_late_reader_gets_the_latest_group_whole() {
    for version in Version::ALL.into_iter().chain(Version::WIP) {
        let (publisher, subscriber) = (Origin::default().produce(), Origin::default().produce());
        let client = Client::new().with_publish(publisher.consume());
        let (_client, client) = client.connect(version, Instant::ZERO);
        let server = Server::new().with_consume(subscriber.clone());
        let (_server, server) = server.accept(version, Instant::ZERO);
        let mut pair = Pair::new(client, server, Link::wide(1));
        let mut broadcast = publisher.create_broadcast("live").unwrap();
        let mut track = broadcast.create_track("video").unwrap();
        let mut group = track.append_group().unwrap();
        for frame in 0..3 {
            group.write_frame(frame, payload(0, frame)).unwrap();
        }
        let settle = |pair: &mut Pair<Driver, Driver>| pair.advance(Duration::from_millis(800));
        settle(&mut pair);
        let seen = subscriber.consume().broadcast("live").expect("it was announced");
        let mut reader = seen.subscribe_track("video", Subscription::default()).unwrap();
        settle(&mut pair);
        for frame in 3..5 {
            group.write_frame(frame, payload(0, frame)).unwrap();
        }
        group.finish().unwrap();
        settle(&mut pair);
        let Poll::Ready(Ok(Some(mut group))) = reader.try_recv_group() else {
            panic!("{version}: no group")
        };
        for frame in 0..5 {
            let Poll::Ready(Ok(Some(read))) = group.try_read_frame() else {
                panic!("{version}: no frame {frame}")
            };
            assert_eq!(read.payload()[..], *payload(0, frame).as_bytes(), "{version}");
        }
        assert!(matches!(group.try_read_frame(), Poll::Ready(Ok(None))), "{version}");
    }
}

/// A subscription that was there before the first object gets it, even if the publisher accepts the track and writes at once:
/// the largest object is that of the moment of SUBSCRIBE (moq-transport-22, 3.1.4).
#[test]
fn a_subscription_from_before_the_first_object_misses_none() {
    for version in drafts() {
        let mut world = World::new(version);
        let mut requests = world.broadcast.dynamic();
        let (_, stream) = world.client.request(|id| {
            let (namespace, track) = (Path::new("demo"), "asked".into());
            let parameters = with_filter(Filter::NextObject);
            Message::Subscribe(Subscribe { id, namespace, track, parameters })
        });
        let Poll::Ready(Ok(request)) = requests.try_requested_track() else { panic!("no request") };
        let mut track = request.accept(TrackInfo::default()).unwrap();
        let mut group = track.append_group().unwrap();
        for frame in 0..2 {
            group.write_frame(0, payload(0, frame)).unwrap();
        }
        world.client.run();
        let Message::SubscribeOk(ok) = world.client.answer(stream) else {
            panic!("no SUBSCRIBE_OK")
        };
        assert_eq!(ok.parameters.largest, None, "{version}");
        assert_eq!(world.objects_of(0), [0, 1], "{version}");
    }
}
