//! Objects of moq-transport in datagrams, several in a group, through relays (moq-transport-22, 2.2.1, 7.8 and 11.2).

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;

use smoq::coding::ietf::Draft;
use smoq::machine::{
    Announcement, Command, Config, Event, FramePosition, GroupKey, Machine, RequestKey, Subgroup,
    Token,
};
use smoq::sim::{Bare, Frame, Link, Pair, Shelf};
use smoq::stream::Side;
use smoq::{
    Client, Cost, Driver, Hops, Instant, Limits, Origin, OriginProducer, Path, Properties, Server,
    Session, SessionStats, Subscription, TrackConsumer, TrackInfo, Version,
};

const DOES_NOT_EXIST: u8 = 1;
const END_OF_GROUP: u8 = 3;
const END_OF_TRACK: u8 = 4;

fn drafts() -> impl Iterator<Item = Version> {
    Version::ALL.into_iter().filter(|version| Draft::of(*version).is_some())
}

/// An object, by its group and its id.
type Place = (u64, u64);

/// The subscription, the group and the subgroup of a stream.
type StreamKey = (u32, u64, u64);

/// Whether the last object of a stream ends its group, and the payloads.
type Payloads = (bool, Vec<Vec<u8>>);

/// The fields of an object in a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Object {
    priority: Option<u8>,
    ends_group: bool,
    status: u8,
    /// A property beside the payload, as draft 22 encodes it.
    pairs: Vec<u8>,
    payload: Vec<u8>,
}

fn object(payload: impl Into<Vec<u8>>) -> Object {
    let (priority, pairs, payload) = (Some(200), vec![0x3c, 2], payload.into());
    Object { priority, ends_group: false, status: 0, pairs, payload }
}

fn status(status: u8) -> Object {
    Object { status, pairs: vec![], ..object([]) }
}

/// Groups of datagrams: with and without END_OF_GROUP and statuses, with gaps, without a first object, with several
/// priorities, and with ids that only a number of 62 bits has.
fn shapes() -> Vec<(Place, Object)> {
    let ends = |object| Object { ends_group: true, ..object };
    let with = |priority| Object { priority: Some(priority), ..object([priority; 9]) };
    let mut shapes: Vec<_> = (0..5).map(|id| ((4, id), object(vec![id as u8; 20]))).collect();
    shapes.extend((0..3).map(|id| ((5, id), object(vec![id as u8; 300]))));
    shapes.extend([
        ((5, 3), ends(object("last"))),
        ((6, 0), ends(object("alone"))),
        ((7, 0), object("first")),
        ((7, 1), status(END_OF_GROUP)),
        ((8, 0), status(END_OF_GROUP)),
        ((9, 0), object("first")),
        ((9, 3), object("")),
        ((9, 900), Object { pairs: vec![], ..object("bare") }),
        ((10, 1), object("without a first object")),
        ((11, 0), with(1)),
        ((11, 1), with(255)),
        ((12, (1 << 62) - 1), object("far")),
        ((13, 0), status(END_OF_TRACK)),
    ]);
    shapes
}

/// A publisher, relays, and a subscriber.
struct Line {
    up: Pair<Bare<Shelf>, Driver>,
    between: Vec<Pair<Driver, Driver>>,
    down: Pair<Driver, Bare<Shelf>>,
    versions: Vec<Version>,
    subscribed: Option<RequestKey>,
    relays: Vec<OriginProducer>,
    sessions: Vec<Session>,
    tokens: u32,
    /// The objects that arrived in datagrams, by subscription.
    objects: BTreeMap<(u32, Place), Object>,
    streams: BTreeMap<StreamKey, Payloads>,
    keys: BTreeMap<GroupKey, StreamKey>,
    /// The largest object when a subscription began.
    largest: BTreeMap<u32, FramePosition>,
}

impl Line {
    /// A relay between any two versions that follow each other.
    fn new(versions: &[Version], link: &Link) -> Self {
        Self::limited(versions, &vec![link.clone(); versions.len()], Limits::default())
    }

    fn limited(versions: &[Version], links: &[Link], limits: Limits) -> Self {
        let [first, between @ .., last] = versions else { panic!("two versions at least") };
        let mut sessions = vec![];
        let relay = || Origin::default().limits(limits.clone()).produce();
        let mut relays = vec![relay()];
        let server = |relay: &OriginProducer, version, sessions: &mut Vec<Session>| {
            let server = Server::new().with_origin(relay).with_limits(limits.clone());
            let (session, driver) = server.accept(version, Instant::ZERO);
            sessions.push(session);
            driver
        };
        let client = |relay: &OriginProducer, version, sessions: &mut Vec<Session>| {
            let (session, driver) =
                Client::new().with_origin(relay).connect(version, Instant::ZERO);
            sessions.push(session);
            driver
        };
        let publisher = Machine::new(Config::new(Side::Client, *first), Instant::ZERO);
        let driver = server(&relays[0], *first, &mut sessions);
        let up = Pair::new(Bare::new(publisher, Shelf::new()), driver, links[0].clone());
        let between = between.iter().zip(&links[1..]).map(|(version, link)| {
            let near = client(&relays[relays.len() - 1], *version, &mut sessions);
            relays.push(relay());
            let far = server(&relays[relays.len() - 1], *version, &mut sessions);
            Pair::new(near, far, link.clone())
        });
        let between = between.collect();
        let driver = client(&relays[relays.len() - 1], *last, &mut sessions);
        let mut config = Config::new(Side::Server, *last);
        config.interests = vec![Path::root()];
        config.subgroups = true;
        let subscriber = Bare::new(Machine::new(config, Instant::ZERO), Shelf::new());
        let mut line = Self {
            up,
            between,
            down: Pair::new(driver, subscriber, links[versions.len() - 1].clone()),
            versions: versions.to_vec(),
            subscribed: None,
            relays,
            sessions,
            tokens: 0,
            objects: BTreeMap::new(),
            streams: BTreeMap::new(),
            keys: BTreeMap::new(),
            largest: BTreeMap::new(),
        };
        line.advance();
        line
    }

    fn advance(&mut self) {
        for _ in 0..80 * self.versions.len() {
            self.step(3);
        }
    }

    fn step(&mut self, millis: u64) {
        let time = Duration::from_millis(millis);
        self.up.advance(time);
        self.answer();
        self.between.iter_mut().for_each(|pair| pair.advance(time));
        self.down.advance(time);
        let events = self.down.server.take_events();
        events.into_iter().for_each(|event| self.arrived(event));
    }

    fn answer(&mut self) {
        let publisher = &mut self.up.client;
        for event in publisher.take_events() {
            match event {
                Event::AnnounceRequested { request, .. } => {
                    let reader = Token { slot: 1, generation: 0 };
                    let (suffix, hops, cost) = ("live".into(), Hops::new(), Cost::default());
                    publisher.source.announce(reader, Announcement::Active { suffix, hops, cost });
                    publisher.apply(Command::AcceptAnnounce { request, reader, active: 1 });
                }
                Event::SubscribeRequested { request, .. } => {
                    self.subscribed = Some(request);
                    let properties = Some(Properties::NONE);
                    let mut info = TrackInfo::default();
                    info.properties = properties;
                    publisher.apply(Command::AcceptSubscribe { request, info, largest: None });
                }
                _ => {}
            }
        }
    }

    fn arrived(&mut self, event: Event) {
        match event {
            Event::Datagram { subscription, sequence, subgroup, properties, payload, .. } => {
                let id = subgroup.map_or(0, |it| it.first_frame);
                let object = Object {
                    priority: subgroup.and_then(|it| it.priority),
                    ends_group: subgroup.is_some_and(|it| it.ends_group),
                    status: properties.as_ref().map_or(0, Properties::status),
                    pairs: properties.map_or(vec![], |it| it.pairs(Version::Moqt22).to_vec()),
                    payload: payload.to_vec(),
                };
                let before = self.objects.insert((subscription.slot, (sequence, id)), object);
                assert_eq!(before, None, "{sequence} {id} came twice");
            }
            Event::Subgroup { subscription, group, sequence, subgroup } => {
                let key = (subscription.slot, sequence, subgroup.number);
                self.keys.insert(group, key);
                self.streams.insert(key, (subgroup.ends_group, vec![]));
            }
            Event::Group { subscription, group, sequence, .. } => {
                self.keys.insert(group, (subscription.slot, sequence, 0));
                self.streams.insert((subscription.slot, sequence, 0), (true, vec![]));
            }
            Event::Frame { group, payload, .. } => {
                let (_, frames) = self.streams.get_mut(&self.keys[&group]).expect("it began");
                frames.push(payload.to_bytes().to_vec());
            }
            Event::Payload { group, bytes } => {
                let (_, frames) = self.streams.get_mut(&self.keys[&group]).expect("it began");
                frames.last_mut().expect("a frame").extend_from_slice(&bytes);
            }
            Event::LargestFrame { subscription, largest } => {
                self.largest.insert(subscription.slot, largest);
            }
            _ => {}
        }
    }

    fn subscribe(&mut self, slot: u32) {
        let (broadcast, track) = (Path::new("live"), "audio".into());
        let subscription = Token { slot, generation: 0 };
        let want = Subscription::default().max_age(Duration::from_secs(9));
        self.down.server.apply(Command::Subscribe { subscription, broadcast, track, want });
        self.advance();
    }

    /// A reader of an application at the first relay.
    fn read(&mut self) -> TrackConsumer {
        let live = self.relays[0].consume().broadcast("live").expect("it was announced");
        let want = Subscription::default().max_age(Duration::from_secs(9));
        let reader = live.subscribe_track("audio", want).unwrap();
        self.advance();
        reader
    }

    fn send(&mut self, sequence: u64, subgroup: Subgroup, frames: Vec<Frame>) {
        self.tokens += 1;
        let group = Token { slot: 9, generation: self.tokens };
        let request = self.subscribed.expect("a subscription");
        self.up.client.source.insert(group, frames);
        self.up.client.apply(Command::Subgroup { request, group, sequence, subgroup });
    }

    fn write(&mut self, (sequence, id): Place, object: &Object) {
        let subgroup = Subgroup::of_datagram(id, object.priority, object.ends_group).unwrap();
        let properties = match object.pairs.is_empty() {
            true => Properties::NONE,
            false => Properties::new(&object.pairs, Version::Moqt22).unwrap(),
        };
        let properties = Some(properties.with_gap_and_status(0, object.status));
        let frame = Frame { properties, ..Frame::new(0, object.payload.clone()) };
        self.send(sequence, subgroup, vec![frame]);
    }

    fn write_subgroup(&mut self, sequence: u64, number: u64, ids: &[u64]) {
        let (priority, first_frame) = (Some(200), ids[0]);
        let subgroup =
            Subgroup { number, first_frame, priority, is_from_start: true, ends_group: false };
        let mut next = 0;
        let frame = |id: &u64| {
            let gap = (*id - next) as u32;
            next = *id + 1;
            let properties = Some(Properties::NONE.with_gap_and_status(gap, 0));
            Frame { properties, ..Frame::new(0, vec![*id as u8; 7]) }
        };
        self.send(sequence, subgroup, ids.iter().map(frame).collect());
    }

    /// The objects that came for a subscription since the last call.
    fn take(&mut self, slot: u32) -> Vec<(Place, Object)> {
        let taken = std::mem::take(&mut self.objects);
        let (taken, left) = taken.into_iter().partition(|((it, _), _)| *it == slot);
        self.objects = left;
        let taken: BTreeMap<(u32, Place), Object> = taken;
        taken.into_iter().map(|((_, place), object)| (place, object)).collect()
    }

    fn is_alive(&mut self) -> bool {
        !self.sessions.iter_mut().any(|session| session.try_closed().is_ready())
    }

    fn stats(&self) -> SessionStats {
        self.sessions[0].stats()
    }
}

fn link() -> Link {
    Link::wide(3).datagrams(1_400, 0)
}

/// The payloads of the groups that an application reads, by number.
fn read(reader: &mut TrackConsumer) -> BTreeMap<u64, Vec<Vec<u8>>> {
    let mut groups = BTreeMap::new();
    while let Poll::Ready(Ok(Some(mut group))) = reader.try_recv_group() {
        let mut frames = vec![];
        while let Poll::Ready(Ok(Some(frame))) = group.try_read_frame() {
            frames.push(frame.payload().to_vec());
        }
        assert_eq!(group.try_finished(), Poll::Ready(Ok(frames.len() as u64)));
        groups.insert(group.sequence(), frames);
    }
    groups
}

/// D22-7-4-MUST-209: LARGEST_OBJECT may be an object in a datagram, and a status is none.
#[test]
fn the_largest_object_may_be_a_datagram() {
    for version in drafts() {
        let mut line = Line::new(&[version, version], &link());
        line.subscribe(0);
        let mut largest = FramePosition::default();
        for (slot, ((group, id), object)) in (1..).zip(shapes()) {
            line.write((group, id), &object);
            line.advance();
            if object.status == 0 {
                largest = FramePosition::new(group, id);
            }
            line.subscribe(slot);
            assert_eq!(line.largest.get(&slot), Some(&largest), "{version}: {group} {id}");
        }
    }
}

/// D22-7-8-MUST-NOT-243, D22-2-1-1-MUST-018: a relay forwards each object in a datagram as a datagram, with its group, its id,
/// its status, its properties, its priority and END_OF_GROUP.
#[test]
fn objects_pass_between_any_two_drafts() {
    for up in drafts() {
        for down in drafts() {
            let mut line = Line::new(&[up, down], &link());
            line.subscribe(0);
            let expected = shapes();
            expected.iter().for_each(|(place, object)| line.write(*place, object));
            line.advance();
            assert_eq!(line.take(0), expected, "{up} {down}");
            assert_eq!(line.streams, BTreeMap::new(), "{up} {down}");
            assert_eq!(line.stats().lost_datagrams, 0, "{up} {down}");
        }
    }
    // A status that 14 and 15 alone have.
    let (first, absent) = (((4, 0), object("first")), ((4, 1), status(DOES_NOT_EXIST)));
    for (down, is_known) in [(Version::Moqt14, true), (Version::Moqt22, false)] {
        let mut line = Line::new(&[Version::Moqt15, down], &link());
        line.subscribe(0);
        [&first, &absent].into_iter().for_each(|(place, object)| line.write(*place, object));
        line.advance();
        let expected = [&first, &absent].into_iter().take(1 + usize::from(is_known)).cloned();
        assert_eq!(line.take(0), expected.collect::<Vec<_>>(), "{down}");
        assert!(line.is_alive());
    }
}

/// A relay behind a relay, and links on which guards are dropped and everything comes in any order.
#[test]
fn objects_pass_through_relays_of_relays() {
    let [first, last] = [Version::Moqt14, Version::Moqt22];
    for versions in [[last; 4], [first; 4], [first, last, Version::Moqt16, Version::Moqt18]] {
        for link in [link(), Link::hostile(5).datagrams(1_400, 0)] {
            let mut line = Line::new(&versions, &link);
            line.subscribe(0);
            let expected = shapes();
            expected.iter().for_each(|(place, object)| line.write(*place, object));
            line.advance();
            assert_eq!(line.take(0), expected, "{versions:?}");
            assert!(line.is_alive());
        }
    }
}

/// Nothing waits for an object that is lost, not even for the first one of a group.
#[test]
fn lost_objects_are_not_waited_for() {
    for version in drafts() {
        let link = Link::wide(1).datagrams(1_400, 3);
        let mut line = Line::new(&[version; 3], &link);
        line.subscribe(0);
        let mut reader = line.read();
        let mut sent = BTreeMap::new();
        for sequence in 0..40 {
            for id in 0..5 {
                let object = object(vec![sequence as u8, id as u8]);
                line.write((sequence, id), &object);
                sent.insert((sequence, id), object);
            }
            line.step(10);
        }
        line.advance();
        let got = line.take(0);
        assert!((20..120).contains(&got.len()), "{version}: {} came", got.len());
        assert!(got.iter().all(|(place, object)| sent[place] == *object), "{version}");
        // Objects came of groups whose first one was lost.
        let has = |place| got.iter().any(|(it, _)| *it == place);
        assert!(got.iter().any(|((sequence, _), _)| !has((*sequence, 0))), "{version}");
        let read = read(&mut reader);
        assert!((10..40).contains(&read.len()), "{version}: {} groups", read.len());
        assert!(read.iter().all(|(sequence, frames)| *frames == [[*sequence as u8, 0]]));
        let stats = line.stats();
        assert_eq!((stats.lost_datagrams, stats.broken_groups), (0, 0), "{version}");
        assert!(line.is_alive());
    }
}

/// A subscriber that comes later gets the objects of the latest group that are in the cache.
#[test]
fn a_late_subscriber_gets_the_objects_of_the_latest_group() {
    for version in drafts() {
        let mut line = Line::new(&[version; 2], &link());
        line.subscribe(0);
        let shape = |sequence| {
            let last = Object { ends_group: true, ..object("last") };
            [(0, object("first")), (1, object("second")), (2, last), (3, status(END_OF_GROUP))]
                .map(|(id, object)| ((sequence, id), object))
        };
        for (place, object) in shape(4).iter().chain(&shape(5)) {
            line.write(*place, object);
        }
        line.advance();
        assert_eq!(line.take(0), [shape(4), shape(5)].concat(), "{version}");
        line.subscribe(1);
        assert_eq!(line.take(1), shape(5), "{version}");
        line.write((6, 2), &object("live"));
        line.advance();
        let live = [((6, 2), object("live"))];
        assert_eq!((line.take(0), line.take(1)), (live.to_vec(), live.to_vec()), "{version}");
    }
}

/// Applications and subscribers of moq-lite see a group of one frame: its first object. Other objects are counted, if
/// no peer of moq-transport reads it either.
#[test]
fn applications_and_moq_lite_see_the_first_object() {
    for up in drafts() {
        for down in [Version::Lite02, Version::Lite05, Version::Lite06, Version::Moqt18] {
            let mut line = Line::new(&[up, down], &link());
            if down == Version::Moqt18 {
                line.subscribe(0);
            }
            let mut reader = line.read();
            if down != Version::Moqt18 {
                line.subscribe(0);
            }
            let sent = shapes();
            sent.iter().for_each(|(place, object)| line.write(*place, object));
            line.advance();
            let is_seen = |((_, id), object): &&(Place, Object)| *id == 0 && object.status == 0;
            let first = || sent.iter().filter(is_seen);
            let expected: BTreeMap<_, _> = first()
                .map(|((sequence, _), object)| (*sequence, vec![object.payload.clone()]))
                .collect();
            assert_eq!(read(&mut reader), expected, "{up} {down}");
            let unseen = (sent.len() - first().count()) as u64;
            let lost = line.stats().lost_datagrams;
            if down == Version::Moqt18 {
                assert_eq!((line.take(0), lost), (sent.clone(), 0), "{up}");
                continue;
            }
            assert_eq!(lost, unseen, "{up} {down}");
            let on_streams = line
                .streams
                .iter()
                .map(|((_, sequence, _), (_, frames))| (*sequence, frames.clone()));
            let mut got: BTreeMap<_, _> = on_streams.collect();
            for (place, object) in line.take(0) {
                got.insert(place.0, vec![object.payload]);
            }
            assert_eq!(got, expected, "{up} {down}");
            assert!(line.is_alive());
        }
    }
}

/// Objects of one group, some on streams and some in datagrams, harm each other in no order of arrival.
#[test]
fn streams_and_datagrams_of_one_group_mix() {
    for version in drafts() {
        let mut line = Line::new(&[version; 3], &link());
        line.subscribe(0);
        // The number of a subgroup is no object id.
        let datagrams = [1, 3, 5].map(|id| ((4, id), object(vec![id as u8])));
        line.write_subgroup(4, 0, &[0, 2]);
        datagrams.iter().for_each(|(place, object)| line.write(*place, object));
        line.write_subgroup(4, 1, &[4, 6]);
        line.advance();
        assert_eq!(line.take(0), datagrams, "{version}");
        let frames = |ids: &[u8]| (false, ids.iter().map(|id| vec![*id; 7]).collect::<Vec<_>>());
        let expected = [((0, 4, 0), frames(&[0, 2])), ((0, 4, 1), frames(&[4, 6]))];
        assert_eq!(std::mem::take(&mut line.streams), BTreeMap::from(expected), "{version}");

        // The datagrams come first, among them the first object.
        let datagrams = [0, 2].map(|id| ((5, id), object(vec![id as u8])));
        datagrams.iter().for_each(|(place, object)| line.write(*place, object));
        line.advance();
        line.write_subgroup(5, 2, &[3]);
        line.write_subgroup(5, 0, &[1, 4]);
        line.advance();
        assert_eq!(line.take(0), datagrams, "{version}");
        let streams = std::mem::take(&mut line.streams);
        assert_eq!(streams.get(&(0, 5, 2)), Some(&frames(&[3])), "{version}");
        // Before 18 its header does not say that the subgroup has no earlier object.
        assert_eq!(streams.get(&(0, 5, 0)), Some(&frames(&[1, 4])), "{version}");

        // An object that comes both ways, and one that comes twice.
        line.write_subgroup(6, 0, &[0]);
        line.advance();
        for _ in 0..2 {
            line.write((6, 0), &object("again"));
            line.write((6, 7), &object("twice"));
            line.advance();
        }
        assert_eq!(line.take(0), [((6, 7), object("twice"))], "{version}");
        assert_eq!(line.streams, BTreeMap::from([((0, 6, 0), frames(&[0]))]), "{version}");
        assert_eq!(line.stats().lost_datagrams, 3, "{version}");
        assert!(line.is_alive());
    }
}

/// On a link that takes no datagrams, or smaller ones, the first object of a group goes on a stream, which does not end the
/// group; others are dropped, and nothing waits for them.
#[test]
fn an_object_that_is_too_large_is_dropped() {
    for version in drafts() {
        for (max, fitting) in [(0, 0), (100, 2)] {
            let links = [link(), Link::wide(3).datagrams(max, 0)];
            let mut line = Line::limited(&[version; 2], &links, Limits::default());
            line.subscribe(0);
            let small = [1, 2].map(|id| ((4, id), object("small")));
            line.write((4, 0), &object([0; 300]));
            small.iter().for_each(|(place, object)| line.write(*place, object));
            line.write((4, 3), &object([0; 300]));
            line.advance();
            assert_eq!(line.take(0), small[..fitting], "{version}");
            let first = ((0, 4, 0), (false, vec![vec![0; 300]]));
            assert_eq!(line.streams, BTreeMap::from([first]), "{version}");
            let skipped = line.sessions[1].stats().skipped_groups;
            assert_eq!(skipped as usize, 3 - fitting, "{version}");
        }
    }
}

/// Objects are given up with their group, and by their age if they have none.
#[test]
fn objects_expire_with_their_group() {
    let mut line = Line::new(&[Version::Moqt18; 2], &link());
    let max_age = TrackInfo::default().max_age + Duration::from_secs(1);
    line.subscribe(0);
    let _reader = line.read();
    line.write((4, 0), &object("4"));
    line.write((5, 0), &object("5"));
    line.advance();
    line.up.advance(max_age);
    let alone = line.relays[0].cached_bytes();
    line.write((9, 3), &object([7; 1_000]));
    line.advance();
    line.write((6, 0), &object([7; 1_000]));
    line.write((6, 1), &object([7; 1_000]));
    line.advance();
    assert!(line.relays[0].cached_bytes() > alone + 3_000);
    line.up.advance(max_age);
    let cached = line.relays[0].cached_bytes() - alone;
    assert!((2_000..3_000).contains(&cached), "{cached}");
    line.write((7, 0), &object("7"));
    line.advance();
    line.up.advance(max_age);
    // Timestamps differ in length.
    assert!(line.relays[0].cached_bytes() <= alone + 8);
}

/// 10,000 datagrams with absurd ids and groups take no more memory than as many groups, and the next group arrives.
#[test]
fn ten_thousand_absurd_objects_are_bounded() {
    let mut limits = Limits::default();
    limits.track_groups = 100;
    let versions = [Version::Moqt18; 2];
    let links = [link(), link()];
    let mut line = Line::limited(&versions, &links, limits);
    line.subscribe(0);
    let _reader = line.read();
    line.write((4, 0), &object("first"));
    for n in 1..10_000_u64 {
        let far = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2;
        let place = match n % 4 {
            0 => (4, n),
            1 => (4, far),
            2 => (far, n),
            _ => (u64::MAX >> 2, far),
        };
        let absurd = Object { ends_group: n % 3 == 0, ..object([n as u8]) };
        let status = status(if n % 2 == 0 { END_OF_GROUP } else { END_OF_TRACK });
        line.write(place, if n % 5 == 0 { &status } else { &absurd });
        if n % 100 == 0 {
            line.step(6);
            assert!(line.relays[0].cached_bytes() < 100_000, "{n}");
        }
        if n % 1_000 == 0 {
            line.advance();
        }
    }
    line.advance();
    assert!(line.relays[0].cached_bytes() < 100_000);
    assert!(line.take(0).len() > 1_000);
    let next = [0, 1, 2].map(|id| ((5, id), object([id as u8])));
    next.iter().for_each(|(place, object)| line.write(*place, object));
    line.advance();
    assert_eq!(line.take(0), next);
    assert!(line.is_alive());
}
