//! A peer of moq-transport that joins a track in the middle of a group, and one that fetches a range of groups: what
//! our publisher answers from its cache. The test writes the bytes of the peer.

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use smoq::coding::DecodeError;
use smoq::coding::ietf::{
    Draft, Fetch, FetchEnd, FetchObject, FetchOk, FetchRecord, FetchRecords, FetchTarget, Filter,
    GroupOrder, INVALID_RANGE, Location, Message, ObjectHead, ObjectStatus, Parameters, Setup,
    Subscribe, UniStream, frame_message,
};
use smoq::machine::{Action, Input};
use smoq::sim::{Link, Pair, Random};
use smoq::stream::{Dir, Side, StreamId};
use smoq::{
    BroadcastProducer, Client, Driver, Error, FrameProducer, GroupProducer, Instant, Limits,
    Origin, Path, Server, Session, Subscription, TrackInfo, TrackProducer, Version,
};

fn drafts() -> impl Iterator<Item = Version> {
    Version::ALL.into_iter().filter(|version| *version >= Version::Moqt16)
}

/// A server that publishes `video` of `demo`, and whose client is the test.
struct World {
    draft: &'static Draft,
    _session: Session,
    driver: Driver,
    broadcast: BroadcastProducer,
    track: TrackProducer,
    opened: [u64; 2],
    ours: [u64; 2],
    written: BTreeMap<StreamId, Vec<u8>>,
    /// The codes of the streams that were reset.
    resets: BTreeMap<StreamId, u64>,
    /// The next request id, and the control stream up to 16.
    next: u64,
    control: Option<StreamId>,
}

impl World {
    fn new(version: Version) -> Self {
        let mut limits = Limits::default();
        limits.track_groups = 4;
        let origin = Origin::default().limits(limits).produce();
        let mut broadcast = origin.create_broadcast("demo").unwrap();
        let track = broadcast.create_track("video").unwrap();
        let server = Server::new().with_publish(origin.consume());
        let (session, driver) = server.accept(version, Instant::ZERO);
        let mut world = Self {
            draft: Draft::of(version).unwrap(),
            _session: session,
            driver,
            broadcast,
            track,
            opened: [0; 2],
            ours: [0; 2],
            written: BTreeMap::new(),
            resets: BTreeMap::new(),
            next: 0,
            control: None,
        };
        let setup = Setup { solicit: true, max_request_id: 100, ..Setup::default() };
        let setup = Message::setup(setup, Side::Client, world.draft);
        let bytes = world.bytes(&setup);
        if world.draft.has_request_streams() {
            world.open(Dir::Uni, &bytes);
        } else {
            world.control = Some(world.open(Dir::Bi, &bytes));
        }
        world.run();
        world
    }

    fn bytes(&self, message: &Message) -> Vec<u8> {
        let mut out = BytesMut::new();
        message.encode(&mut out, self.draft).unwrap();
        out.to_vec()
    }

    fn open(&mut self, dir: Dir, bytes: &[u8]) -> StreamId {
        let id = StreamId::new(Side::Client, dir, self.opened[dir as usize]);
        self.opened[dir as usize] += 1;
        self.driver.handle(Instant::ZERO, Input::Opened { id });
        self.data(id, bytes);
        id
    }

    fn data(&mut self, id: StreamId, bytes: &[u8]) {
        let bytes = BytesMut::from(bytes).freeze();
        self.driver.handle(Instant::ZERO, Input::Data { id, bytes, fin: false });
    }

    /// Sends a request, and returns its id and its stream.
    fn request(&mut self, make: impl FnOnce(u64) -> Message) -> (u64, StreamId) {
        let id = self.next;
        self.next += 2;
        let bytes = self.bytes(&make(id));
        let stream = match self.control {
            Some(control) => {
                self.data(control, &bytes);
                control
            }
            None => self.open(Dir::Bi, &bytes),
        };
        self.written.remove(&stream);
        self.run();
        (id, stream)
    }

    /// Lets the driver run, and collects what it writes.
    fn run(&mut self) {
        for round in 0.. {
            if !self.driver.has_work() {
                break;
            }
            assert!(round < 10_000, "the driver has work and yields nothing");
            while self.driver.work(Instant::ZERO) {}
            while let Some(action) = self.driver.poll_action() {
                if let Action::Reset { id, code } = action {
                    self.resets.insert(id, code.as_u64());
                }
            }
            while let Some(open) = self.driver.poll_open() {
                let index = &mut self.ours[open.dir() as usize];
                let id = StreamId::new(Side::Server, open.dir(), *index);
                *index += 1;
                open.opened(id);
            }
            while let Some(mut write) = self.driver.poll_write() {
                let bytes = self.written.entry(write.id()).or_default();
                bytes.extend_from_slice(&write.chunks().concat());
                let len = write.len();
                write.accepted(len);
            }
        }
    }

    /// The first message that the driver wrote on the stream since the last request.
    fn answer(&self, stream: StreamId) -> Message {
        let bytes = &self.written[&stream];
        let framed = frame_message(bytes, self.draft, 1 << 16).unwrap().expect("an answer");
        let body = &bytes[framed.head..][..framed.body];
        Message::decode(framed.kind, body, self.draft).unwrap()
    }

    /// The bytes that were written on the stream that answers the FETCH of this id.
    fn fetched(&self, id: u64, order: GroupOrder) -> Vec<String> {
        let header = |bytes: &Vec<u8>| UniStream::read(bytes, self.draft).ok().flatten();
        let is_it = |bytes: &&Vec<u8>| matches!(header(bytes), Some((UniStream::Fetch { request }, _)) if request == id);
        let uni = self.written.iter().filter(|(id, _)| id.dir() == Dir::Uni);
        let bytes = uni.map(|(_, bytes)| bytes).find(is_it).expect("a stream");
        let mut at = header(bytes).unwrap().1;
        let mut records = FetchRecords::new(order, self.draft);
        let mut seen = Vec::new();
        while at < bytes.len() {
            let (record, len) = records.read(&bytes[at..]).unwrap().expect("whole records");
            at += len;
            match record {
                FetchRecord::Object(FetchObject {
                    location: Location { group, object },
                    size,
                    ..
                }) => {
                    assert_eq!(bytes[at..at + size as usize], *payload(group, object).as_bytes());
                    at += size as usize;
                    seen.push(format!("{group}.{object}"));
                }
                FetchRecord::Unknown(end) => seen.push(format!("?{}", end.group)),
                FetchRecord::TimedOut(end) => seen.push(format!("!{}", end.group)),
                other => panic!("{other:?}"),
            }
        }
        seen
    }

    /// The group and the number of the first object on each group stream.
    fn streams(&self) -> Vec<(u64, u64)> {
        let uni = self.written.iter().filter(|(id, _)| id.dir() == Dir::Uni);
        let groups = uni.filter_map(|(_, bytes)| {
            let Ok(Some((UniStream::Subgroup(header), len))) = UniStream::read(bytes, self.draft)
            else {
                return None;
            };
            let head = ObjectHead::read(&bytes[len..], header.properties, self.draft);
            Some((header.group, head.unwrap()?.0.delta))
        });
        groups.collect()
    }

    /// The numbers of the objects on the streams of a group, in the order of the streams. Each payload is compared.
    fn objects_of(&self, group: u64) -> Vec<u64> {
        let mut seen = Vec::new();
        for (_, bytes) in self.written.iter().filter(|(id, _)| id.dir() == Dir::Uni) {
            let Ok(Some((UniStream::Subgroup(header), mut at))) =
                UniStream::read(bytes, self.draft)
            else {
                continue;
            };
            if header.group != group {
                continue;
            }
            let mut last = None;
            while at < bytes.len() {
                let (head, len) = ObjectHead::read(&bytes[at..], header.properties, self.draft)
                    .unwrap()
                    .expect("whole objects");
                at += len;
                let number = head.number(last).unwrap();
                last = Some(number);
                if head.status != ObjectStatus::Normal {
                    continue;
                }
                assert_eq!(bytes[at..at + head.size as usize], *payload(group, number).as_bytes());
                at += head.size as usize;
                seen.push(number);
            }
        }
        seen
    }

    fn subscribe(&mut self, parameters: Parameters) -> (u64, StreamId) {
        self.request(|id| {
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
        let is_target = self.draft.number < 20;
        self.request(|id| {
            let (namespace, track) = (Path::new("demo"), "video".into());
            let filter = (!is_target).then_some(Filter::RangeTo { start, end });
            let order = Some(order);
            let parameters = Parameters { order, filter, fill_timeout, ..Parameters::default() };
            let end = FetchEnd { group: end.group, object: Some(end.object) };
            let target = match is_target {
                true => FetchTarget::Standalone { namespace, track, start, end },
                false => FetchTarget::Track { namespace, track },
            };
            Message::Fetch(Fetch { id, target, parameters })
        })
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
        let Message::SubscribeOk(ok) = world.answer(stream) else { panic!("no SUBSCRIBE_OK") };
        assert_eq!(ok.parameters.largest, Some(Location::new(7, 2)), "{version}");
        for frame in 3..5 {
            group.write_frame(0, payload(7, frame)).unwrap();
        }
        world.run();
        if !fills {
            let target = FetchTarget::Relative { joins: id, groups_back: 0 };
            let parameters = Parameters::default();
            (id, _) = world.request(|id| Message::Fetch(Fetch { id, target, parameters }));
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
        let Message::SubscribeOk(ok) = world.answer(stream) else { panic!("no SUBSCRIBE_OK") };
        assert_eq!(ok.parameters.largest, Some(Location::new(2, 0)), "{version}");
        let (target, parameters) =
            (FetchTarget::Relative { joins: id, groups_back: 1 }, Parameters::default());
        let (id, _) = world.request(|id| Message::Fetch(Fetch { id, target, parameters }));
        frame.write(&last.as_bytes()[3..]).unwrap();
        frame.finish().unwrap();
        world.run();
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
            let Message::SubscribeOk(ok) = world.answer(stream) else { panic!("no SUBSCRIBE_OK") };
            (joined, largest) = (Some(id), ok.parameters.largest);
            fetch = fills.then_some(id);
        }
        if at == fetches_at && !fills && largest.is_some() {
            let target = FetchTarget::Relative { joins: joined.unwrap(), groups_back: 0 };
            let parameters = Parameters::default();
            let (id, _) = world.request(|id| Message::Fetch(Fetch { id, target, parameters }));
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
            world.run();
        }
    }
    world.run();
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
            let Message::FetchOk(FetchOk { end, .. }) = world.answer(stream) else {
                panic!("no FETCH_OK")
            };
            // The end of the answer, and not that of the request (9.12).
            assert_eq!(end, FetchEnd { group: 9, object: Some(1) }, "{version}");
            assert_eq!(world.fetched(id, order), expected, "{version}");
        }
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
            let answer = world.answer(stream);
            assert!(matches!(answer, Message::FetchOk(_)), "{version} {first} {answer:?}");
            assert_eq!(world.fetched(id, GroupOrder::Ascending), expected, "{version}");
        }
        let (_, stream) = range(&mut world, 11, 11);
        assert!(
            matches!(world.answer(stream), Message::RequestError(it) if it.code == INVALID_RANGE)
        );
    }
}

/// D22-12-1-MUST-550 and -MUST-551: a malformed track ends downstream with MALFORMED_TRACK, and so does the answer to a
/// FETCH.
#[test]
fn a_malformed_track_ends_downstream() {
    for version in drafts() {
        let mut world = World::new(version);
        let (_, stream) = world.request(|id| {
            let (namespace, track) = (Path::new("demo"), "video".into());
            let parameters = Parameters::default();
            Message::Subscribe(Subscribe { id, namespace, track, parameters })
        });
        let mut group = world.track.create_group(7).unwrap();
        group.write_frame(0, payload(7, 0)).unwrap();
        world.fetch_range(Location::new(7, 0), Location::new(7, 9), GroupOrder::Ascending);
        let uni = world.written.keys().filter(|id| id.dir() == Dir::Uni).count();
        world.written.remove(&stream);
        world.track.abort(Error::Malformed(DecodeError::InvalidValue("properties")));
        world.run();
        let answer = world.answer(stream);
        let resets = world.resets.iter().filter(|(id, _)| id.dir() == Dir::Uni);
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
        let code = |world: &World, stream| match world.answer(stream) {
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
        let (_, stream) = world.request(|id| {
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
        world.run();
        let Message::SubscribeOk(ok) = world.answer(stream) else { panic!("no SUBSCRIBE_OK") };
        assert_eq!(ok.parameters.largest, None, "{version}");
        assert_eq!(world.objects_of(0), [0, 1], "{version}");
    }
}
