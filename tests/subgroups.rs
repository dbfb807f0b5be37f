//! Groups of several subgroups, and with gaps, between peers of moq-transport (moq-transport-22, 2.2, 7.8 and 11.3).

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;

use raw_client::RawClient;
use smoq::coding::ietf::{Filter, GroupOrder, Location, Message, Parameters, Subscribe};
use smoq::machine::{
    Announcement, Command, Config, Event, FramePosition, GroupKey, Machine, RequestKey, Subgroup,
    Token,
};
use smoq::sim::{Bare, Frame, Link, Pair, Shelf};
use smoq::stream::Side;
use smoq::{
    Client, Cost, Driver, Error, Hops, Instant, Limits, Origin, OriginProducer, Path, Properties,
    Server, Session, Subscription, TrackConsumer, TrackInfo, Version,
};

mod raw_client;

const DRAFTS: [Version; 4] = [Version::Moqt14, Version::Moqt16, Version::Moqt18, Version::Moqt22];

const END_OF_GROUP: u8 = 3;
const END_OF_TRACK: u8 = 4;

/// Subgroups and their objects: the index, and the payload or the status.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    subgroup: Subgroup,
    objects: Vec<(u64, Result<Vec<u8>, u8>)>,
    result: Option<Result<(), Error>>,
}

/// A whole subgroup with a payload for each of these indexes.
fn part(number: u64, indexes: &[u64]) -> Part {
    let first_frame = indexes.first().copied().unwrap_or(0);
    let priority = Some(200);
    let subgroup =
        Subgroup { number, first_frame, priority, is_from_start: true, ends_group: false };
    let objects = indexes.iter().map(|index| (*index, Ok(vec![*index as u8; 5]))).collect();
    Part { subgroup, objects, result: Some(Ok(())) }
}

impl Part {
    fn and_status(mut self, index: u64, status: u8) -> Self {
        if self.objects.is_empty() {
            self.subgroup.first_frame = index;
        }
        self.objects.push((index, Err(status)));
        self
    }

    fn failed(self, error: Error) -> Self {
        Self { result: Some(Err(error)), ..self }
    }

    fn frames(&self) -> Vec<Frame> {
        let mut next = 0;
        let frame = |(index, object): &(u64, Result<Vec<u8>, u8>)| {
            let gap = (*index - next) as u32;
            next = *index + 1;
            let (payload, status) = match object {
                Ok(payload) => (payload.clone(), 0),
                Err(status) => (Vec::new(), *status),
            };
            let properties = Properties::NONE.with_gap_and_status(gap, status);
            Frame { properties: Some(properties), ..Frame::new(0, payload) }
        };
        self.objects.iter().map(frame).collect()
    }
}

/// A publisher, a relay and a subscriber.
struct Line {
    up: Pair<Bare<Shelf>, Driver>,
    down: Pair<Driver, Bare<Shelf>>,
    versions: [Version; 2],
    subscribed: Option<RequestKey>,
    relay: OriginProducer,
    sessions: [Session; 2],
    tokens: u32,
    /// The frames that arrived, by subscription, group and subgroup.
    parts: BTreeMap<(u32, u64, u64), Part>,
    keys: BTreeMap<GroupKey, (u32, u64, u64)>,
    /// The largest object when a subscription began.
    largest: BTreeMap<u32, FramePosition>,
    /// The largest object that the publisher names, and a part of group 4 that it writes at once.
    at_once: Option<(Option<FramePosition>, Part)>,
}

impl Line {
    fn new(up: Version, down: Version) -> Self {
        Self::limited(up, down, Limits::default())
    }

    fn limited(up: Version, down: Version, limits: Limits) -> Self {
        let relay = Origin::default().limits(limits.clone()).produce();
        let publisher = Machine::new(Config::new(Side::Client, up), Instant::ZERO);
        let server = Server::new().with_origin(&relay).with_limits(limits);
        let (a, relay_up) = server.accept(up, Instant::ZERO);
        let (b, relay_down) = Client::new().with_origin(&relay).connect(down, Instant::ZERO);
        let mut config = Config::new(Side::Server, down);
        config.interests = vec![Path::root()];
        config.subgroups = true;
        let subscriber = Machine::new(config, Instant::ZERO);
        let link = Link::wide(3);
        let mut line = Self {
            up: Pair::new(Bare::new(publisher, Shelf::new()), relay_up, link.clone()),
            down: Pair::new(relay_down, Bare::new(subscriber, Shelf::new()), link),
            versions: [up, down],
            subscribed: None,
            relay,
            sessions: [a, b],
            tokens: 0,
            parts: BTreeMap::new(),
            keys: BTreeMap::new(),
            largest: BTreeMap::new(),
            at_once: None,
        };
        line.advance();
        line
    }

    fn advance(&mut self) {
        for _ in 0..80 {
            self.up.advance(Duration::from_millis(3));
            self.answer();
            self.down.advance(Duration::from_millis(3));
            let events = self.down.server.take_events();
            events.into_iter().for_each(|event| self.arrived(event));
        }
    }

    fn answer(&mut self) {
        for event in self.up.client.take_events() {
            let publisher = &mut self.up.client;
            match event {
                Event::AnnounceRequested { request, .. } => {
                    let reader = Token { slot: 1, generation: 0 };
                    let (suffix, hops, cost) = ("live".into(), Hops::new(), Cost::default());
                    publisher.source.announce(reader, Announcement::Active { suffix, hops, cost });
                    publisher.apply(Command::AcceptAnnounce { request, reader, active: 1 });
                }
                Event::SubscribeRequested { request, .. } => {
                    self.subscribed = Some(request);
                    let (largest, part) = self.at_once.take().unzip();
                    let (info, largest) = (TrackInfo::default(), largest.flatten());
                    publisher.apply(Command::AcceptSubscribe { request, info, largest });
                    part.iter().for_each(|part| self.write(4, part));
                }
                _ => {}
            }
        }
    }

    fn arrived(&mut self, event: Event) {
        let part = |keys: &BTreeMap<_, _>, parts: &mut BTreeMap<_, Part>, group| {
            let key = keys[&group];
            parts.remove(&key).map(|part| (key, part)).expect("a part that began")
        };
        match event {
            Event::Subgroup { subscription, group, sequence, subgroup } => {
                let key = (subscription.slot, sequence, subgroup.number);
                let part = Part { subgroup, objects: vec![], result: None };
                assert_eq!(self.parts.insert(key, part), None, "{key:?} came twice");
                self.keys.insert(group, key);
            }
            Event::Group { subscription, group, sequence, first_frame } => {
                let subgroup = Subgroup {
                    number: 0,
                    first_frame,
                    priority: None,
                    is_from_start: true,
                    ends_group: true,
                };
                let part = Part { subgroup, objects: vec![], result: None };
                self.parts.insert((subscription.slot, sequence, 0), part);
                self.keys.insert(group, (subscription.slot, sequence, 0));
            }
            Event::Frame { group, properties, payload, .. } => {
                let (key, mut part) = part(&self.keys, &mut self.parts, group);
                let (gap, status) = properties.map_or((0, 0), |it| (it.gap(), it.status()));
                let next = part.objects.last().map_or(0, |(index, _)| index + 1);
                let object =
                    if status == 0 { Ok(payload.to_bytes().to_vec()) } else { Err(status) };
                part.objects.push((next + u64::from(gap), object));
                self.parts.insert(key, part);
            }
            Event::Payload { group, bytes } => {
                let (key, mut part) = part(&self.keys, &mut self.parts, group);
                let (_, object) = part.objects.last_mut().expect("an object that began");
                object.as_mut().expect("no status").extend_from_slice(&bytes);
                self.parts.insert(key, part);
            }
            Event::GroupEnded { group, result } => {
                let (key, part) = part(&self.keys, &mut self.parts, group);
                self.parts.insert(key, Part { result: Some(result), ..part });
            }
            Event::LargestFrame { subscription, largest } => {
                self.largest.insert(subscription.slot, largest);
            }
            _ => {}
        }
    }

    fn subscribe(&mut self, slot: u32) {
        let (broadcast, track) = (Path::new("live"), "video".into());
        let subscription = Token { slot, generation: 0 };
        let want = Subscription::default().max_age(Duration::from_secs(9));
        self.down.server.apply(Command::Subscribe { subscription, broadcast, track, want });
        self.advance();
    }

    /// A reader of an application at the relay.
    fn read(&mut self) -> TrackConsumer {
        let live = self.relay.consume().broadcast("live").expect("it was announced");
        let want = Subscription::default().max_age(Duration::from_secs(9));
        let reader = live.subscribe_track("video", want).unwrap();
        self.advance();
        reader
    }

    /// Begins a part without frames.
    fn begin(&mut self, sequence: u64, part: &Part) -> Token {
        self.tokens += 1;
        let group = Token { slot: 9, generation: self.tokens };
        let subgroup = part.subgroup;
        let request = self.subscribed.expect("a subscription");
        self.up.client.source.begin(group);
        let command = Command::Subgroup { request, group, sequence, subgroup };
        self.up.client.apply(command);
        group
    }

    fn write(&mut self, sequence: u64, part: &Part) {
        let group = self.begin(sequence, part);
        self.up.client.source.insert(group, part.frames());
        self.ready(sequence, part);
    }

    fn ready(&mut self, sequence: u64, part: &Part) {
        let (request, number) = (self.subscribed.expect("a subscription"), part.subgroup.number);
        self.up.client.apply(Command::SubgroupReady { request, sequence, number });
    }

    /// The part as the subscriber sees it.
    fn seen(&self, part: &Part) -> Part {
        let [up, down] = self.versions.map(|version| {
            // FIRST_OBJECT is known from 18 on.
            ![Version::Moqt14, Version::Moqt15, Version::Moqt16, Version::Moqt17].contains(&version)
        });
        let mut part = part.clone();
        match part.subgroup.number == 0 && part.subgroup.first_frame == 0 {
            // Its stream begins with the first object.
            true => part.subgroup.is_from_start = down,
            false => part.subgroup.is_from_start &= up && down,
        }
        part
    }

    #[track_caller]
    fn check(&mut self, slot: u32, sequence: u64, parts: &[Part]) {
        let mut got: Vec<Part> = Vec::new();
        while let Some(key) = self.parts.range((slot, sequence, 0)..).next().map(|(key, _)| *key) {
            if (key.0, key.1) != (slot, sequence) {
                break;
            }
            got.extend(self.parts.remove(&key));
        }
        let expected: Vec<_> = parts.iter().map(|part| self.seen(part)).collect();
        assert_eq!(got, expected, "{:?}: {slot} {sequence}", self.versions);
    }
}

/// Every object in subgroup 0; in two subgroups with gaps; each in a subgroup; subgroups that begin late; with and without
/// END_OF_GROUP and statuses.
fn shapes() -> Vec<Vec<Part>> {
    let ending = |part: Part| {
        let subgroup = Subgroup { ends_group: true, ..part.subgroup };
        Part { subgroup, ..part }
    };
    vec![
        vec![part(0, &[0, 1, 2])],
        vec![ending(part(0, &[0, 1, 2]))],
        vec![part(0, &[0, 1, 2]).and_status(3, END_OF_GROUP)],
        vec![part(0, &[0, 3, 6, 9, 300])],
        vec![ending(part(0, &[0, 3, 4])).and_status(9, END_OF_GROUP)],
        vec![part(0, &[0, 2, 4]), part(1, &[1, 3, 5]).and_status(6, END_OF_GROUP)],
        vec![part(0, &[0]), part(1, &[1]), part(2, &[2]), part(3, &[3]), part(4, &[4])],
        vec![part(0, &[0]), ending(part(70_000, &[1, 2, 1 << 20])), part(1 << 40, &[7])],
        vec![part(0, &[0, 1]), part(5, &[]).and_status(9, END_OF_TRACK)],
        vec![part(0, &[]).and_status(0, END_OF_GROUP)],
    ]
}

/// D22-7-8-MUST-NOT-243, D22-2-2-MUST-NOT-019: a relay forwards each subgroup on a stream of its own, with the indexes of its
/// objects, its priority and its flags.
#[test]
fn subgroups_pass_between_any_two_drafts() {
    for up in DRAFTS {
        for down in DRAFTS {
            let mut line = Line::new(up, down);
            line.subscribe(0);
            for (sequence, parts) in (4..).step_by(3).zip(shapes()) {
                parts.iter().for_each(|part| line.write(sequence, part));
                line.advance();
                line.check(0, sequence, &parts);
            }
            assert_eq!(line.sessions[0].stats().refused_groups, 0);
        }
    }
}

/// LARGEST_OBJECT (*LARGEST OBJECT Parameter*) may be of any subgroup, and a status is no object.
#[test]
fn the_largest_object_may_be_of_any_subgroup() {
    for version in DRAFTS {
        let mut line = Line::new(version, version);
        line.subscribe(0);
        let mut largest = None;
        for ((slot, sequence), parts) in (1..).zip((4..).step_by(3)).zip(shapes()) {
            parts.iter().for_each(|part| line.write(sequence, part));
            line.advance();
            let objects = parts.iter().flat_map(|part| &part.objects);
            let last = objects.filter(|(_, object)| object.is_ok()).map(|(index, _)| *index).max();
            largest = last.map(|index| FramePosition::new(sequence, index)).or(largest);
            line.subscribe(slot);
            assert_eq!(line.largest.get(&slot), largest.as_ref(), "{version}: {parts:?}");
        }
    }
}

/// LARGEST_OBJECT says what there was before the subscription, even if the answer of the publisher and its first objects
/// arrive together (*LARGEST OBJECT Parameter*). The answer of a publisher names the largest object that it had before.
#[test]
fn objects_that_came_with_the_answer_are_not_from_before() {
    for version in DRAFTS {
        for past in [None, Some(FramePosition::new(4, 1))] {
            let mut line = Line::new(version, version);
            let first = part(0, &[0, 1, 2]);
            line.at_once = Some((past, first.clone()));
            line.subscribe(0);
            let newest = past.map(|_| FramePosition::new(4, 2));
            assert_eq!(line.largest.get(&0), newest.as_ref(), "{version}");
            line.check(0, 4, &[first]);
        }
    }
}

/// A subgroup that arrives before its group, or long after, and while others are open.
#[test]
fn subgroups_arrive_in_any_order() {
    for version in DRAFTS {
        let mut line = Line::new(version, version);
        line.subscribe(0);
        let (base, other) = (part(0, &[0, 2]), part(1, &[1, 3]));
        line.write(4, &other);
        line.advance();
        line.check(0, 4, std::slice::from_ref(&other));
        line.write(4, &base);
        line.advance();
        line.check(0, 4, std::slice::from_ref(&base));

        // One object at a time, in turns.
        let groups = [&base, &other].map(|part| line.begin(5, part));
        line.advance();
        for at in 0..2 {
            for (group, part) in groups.into_iter().zip([&base, &other]) {
                line.up.client.source.push(group, part.frames()[at].clone());
                line.ready(5, part);
                line.advance();
                let number = part.subgroup.number;
                assert_eq!(line.parts[&(0, 5, number)].objects, part.objects[..=at], "{version}");
                assert_eq!(line.parts[&(0, 5, number)].result, None, "{version}");
            }
        }
        for (group, part) in groups.into_iter().zip([&base, &other]) {
            line.up.client.source.end(group, Ok(()));
            line.ready(5, part);
        }
        line.advance();
        line.check(0, 5, &[base, other]);
    }
}

/// A subscriber that comes later gets the latest group from the cache, with all its subgroups.
#[test]
fn a_late_subscriber_gets_the_subgroups_of_the_latest_group() {
    for version in DRAFTS {
        let mut line = Line::new(version, version);
        line.subscribe(0);
        let parts = [part(0, &[0, 2]), part(1, &[1, 3]), part(7, &[9])];
        for sequence in [4, 5] {
            parts.iter().for_each(|part| line.write(sequence, part));
            line.advance();
        }
        line.subscribe(1);
        line.check(1, 4, &[]);
        line.check(1, 5, &parts);
        // The first one gets nothing again.
        line.check(0, 4, &parts);
        line.check(0, 5, &parts);
        line.advance();
        assert!(line.parts.is_empty(), "{version}");
    }
}

/// A subscription that begins after the largest object gets what follows in each subgroup of that group, and nothing that
/// comes before (moq-transport-22, 3.1.4).
#[test]
fn a_late_subscriber_gets_the_rest_of_each_subgroup() {
    for version in DRAFTS {
        let mut line = Line::new(version, version);
        line.subscribe(0);
        let parts = [
            part(0, &[0, 2, 9, 14]),
            part(1, &[1, 5, 8, 10]),
            part(3, &[3, 6, 7]),
            // It ends later, and nothing of it is wanted.
            part(4, &[4]),
            part(11, &[11, 13]),
        ];
        let groups = parts.each_ref().map(|part| line.begin(4, part));
        // Of each, the objects up to 5 are there when the subscription begins.
        let mut written = [0; 5];
        let write = |line: &mut Line, written: &mut [usize; 5], up_to: u64| {
            for ((group, part), at) in groups.into_iter().zip(&parts).zip(written) {
                let frames = part.frames().into_iter().skip(*at);
                for (frame, _) in
                    frames.zip(&part.objects[*at..]).take_while(|(_, (object, _))| *object <= up_to)
                {
                    line.up.client.source.push(group, frame);
                    *at += 1;
                }
                line.ready(4, part);
            }
            line.advance();
        };
        write(&mut line, &mut written, 5);
        let mut late = RawClient::new(Server::new().with_origin(&line.relay), version);
        let (_, stream) = late.request(|id| {
            let (namespace, track) = ("live".into(), "video".into());
            let (filter, order) = (Some(Filter::NextObject), Some(GroupOrder::Ascending));
            let parameters = Parameters { filter, order, ..Parameters::default() };
            Message::Subscribe(Subscribe { id, namespace, track, parameters })
        });
        let Message::SubscribeOk(ok) = late.answer(stream) else { panic!("no SUBSCRIBE_OK") };
        assert_eq!(ok.parameters.largest, Some(Location::new(4, 5)), "{version}");
        write(&mut line, &mut written, 8);
        late.run();
        write(&mut line, &mut written, 20);
        for (group, part) in groups.into_iter().zip(&parts) {
            line.up.client.source.end(group, Ok(()));
            line.ready(4, part);
        }
        line.advance();
        late.run();
        let mut seen = late.subgroups();
        seen.sort_by_key(|(header, _)| header.subgroup);
        let seen: Vec<_> = seen
            .into_iter()
            .map(|(header, objects)| {
                assert_eq!(header.group, 4);
                let numbers = objects.into_iter().map(|(number, bytes)| {
                    assert_eq!(bytes, [number as u8; 5]);
                    number
                });
                (header.subgroup.unwrap(), header.first_object, numbers.collect::<Vec<_>>())
            })
            .collect();
        let is_known = version >= Version::Moqt18;
        let expected = [
            (0, false, vec![9, 14]),
            (1, false, vec![8, 10]),
            (3, false, vec![6, 7]),
            (11, is_known, vec![11, 13]),
        ];
        assert_eq!(seen, expected, "{version}");
        line.check(0, 4, &parts);
    }
}

/// Applications read subgroup 0 up to the first gap, and no other subgroup, whether peers read them or not.
#[test]
fn applications_read_subgroup_0() {
    for version in DRAFTS {
        for has_peer in [false, true] {
            let mut line = Line::new(version, version);
            if has_peer {
                line.subscribe(0);
            }
            let mut reader = line.read();
            let parts = [part(0, &[0, 1, 5]), part(1, &[2, 3]), part(4, &[4])];
            let ended = [part(0, &[0, 1]).and_status(2, END_OF_GROUP), part(3, &[3])];
            parts.iter().for_each(|part| line.write(4, part));
            ended.iter().for_each(|part| line.write(5, part));
            line.advance();
            for result in [Err(Error::Lagged), Ok(2)] {
                let Poll::Ready(Ok(Some(mut group))) = reader.try_next_group() else {
                    panic!("a group is there")
                };
                for index in 0..2 {
                    let Poll::Ready(Ok(Some(frame))) = group.try_read_frame() else {
                        panic!("frame {index} is there")
                    };
                    assert_eq!(frame.payload()[..], [index; 5]);
                }
                assert_eq!(
                    group.try_read_frame().map_ok(|frame| frame.is_none()),
                    match result {
                        Ok(_) => Poll::Ready(Ok(true)),
                        Err(ref error) => Poll::Ready(Err(error.clone())),
                    }
                );
                assert_eq!(group.try_finished(), Poll::Ready(result));
            }
            assert!(reader.try_next_group().is_pending());
            let stats = line.sessions[0].stats();
            assert_eq!(stats.refused_groups, if has_peer { 0 } else { 3 }, "{version}");
            if has_peer {
                line.check(0, 4, &parts);
                line.check(0, 5, &ended);
            }
        }
    }
}

/// moq-lite has no subgroups: a subscriber gets what applications get.
#[test]
fn on_moq_lite_a_group_is_its_subgroup_0() {
    for version in [Version::Lite02, Version::Lite04, Version::Lite06] {
        let mut line = Line::new(Version::Moqt18, version);
        line.subscribe(0);
        line.write(4, &part(0, &[0, 1]));
        line.write(4, &part(1, &[2]));
        line.advance();
        let gapped = part(0, &[0, 1, 3]);
        let group = line.begin(5, &gapped);
        for frames in [&gapped.frames()[..2], &gapped.frames()[2..]] {
            frames.iter().for_each(|it| line.up.client.source.push(group, it.clone()));
            line.ready(5, &gapped);
            line.advance();
        }
        line.write(6, &part(0, &[0, 1]).and_status(2, END_OF_GROUP));
        line.advance();
        for (sequence, result) in [(4, Ok(())), (5, Err(Error::Lagged)), (6, Ok(()))] {
            let part = line.parts.remove(&(0, sequence, 0));
            let part = part.unwrap_or_else(|| panic!("{version}: no group {sequence}"));
            assert_eq!(part.objects, self::part(0, &[0, 1]).objects, "{version}: {sequence}");
            let is_ok = part.result.as_ref().is_some_and(Result::is_ok);
            assert_eq!(is_ok, result.is_ok(), "{version}: {sequence}");
        }
        assert!(line.parts.is_empty(), "{version}");
        assert_eq!(line.sessions[0].stats().refused_groups, 1, "{version}");
    }
}

/// A publisher that resets one subgroup harms only that one.
#[test]
fn a_reset_subgroup_harms_no_other() {
    for version in DRAFTS {
        let mut line = Line::new(version, version);
        line.subscribe(0);
        let parts = [part(0, &[0, 4]), part(1, &[1, 5]), part(2, &[2, 6])];
        for broken in 0..3 {
            let sequence = 4 + broken as u64;
            let groups = parts.each_ref().map(|part| line.begin(sequence, part));
            for (group, part) in groups.into_iter().zip(&parts) {
                part.frames().into_iter().for_each(|it| line.up.client.source.push(group, it));
                line.ready(sequence, part);
            }
            line.advance();
            for (at, (group, part)) in groups.into_iter().zip(&parts).enumerate() {
                let end = if at == broken { Err(Error::Evicted) } else { Ok(()) };
                line.up.client.source.end(group, end);
                line.ready(sequence, part);
            }
            line.advance();
            let result = line.parts[&(0, sequence, broken as u64)].result.clone();
            let Some(Err(error)) = result else { panic!("{version}: {broken} is not reset") };
            let mut expected = parts.clone();
            expected[broken] = expected[broken].clone().failed(error);
            line.check(0, sequence, &expected);
        }
    }
}

/// The publisher goes away in the middle of subgroups: each is reset, and nothing of them stays.
#[test]
fn a_lost_session_resets_its_subgroups() {
    for version in DRAFTS {
        let mut line = Line::new(version, version);
        line.subscribe(0);
        let parts = [part(0, &[0, 4]), part(1, &[1, 5])];
        for part in &parts {
            let group = line.begin(4, part);
            part.frames().into_iter().for_each(|it| line.up.client.source.push(group, it));
            line.ready(4, part);
        }
        line.advance();
        line.up.client.apply(Command::Close { error: Error::SessionClosed });
        line.advance();
        for part in &parts {
            let got = line.parts.remove(&(0, 4, part.subgroup.number)).expect("it began");
            assert_eq!(got.objects, part.objects, "{version}");
            assert!(matches!(got.result, Some(Err(_))), "{version}: {:?}", got.result);
        }
        assert_eq!(line.relay.cached_bytes(), 0, "{version}");
    }
}

/// Subgroups are given up with their group, and by their age if they have none.
#[test]
fn subgroups_expire_with_their_group() {
    let mut line = Line::new(Version::Moqt18, Version::Moqt18);
    let max_age = TrackInfo::default().max_age + Duration::from_secs(1);
    line.subscribe(0);
    let _reader = line.read();
    line.write(4, &part(0, &[0]));
    line.write(5, &part(0, &[0]));
    line.advance();
    line.up.advance(max_age);
    let alone = line.relay.cached_bytes();
    let (mut base, mut other) = (part(0, &[0, 2]), part(1, &[1]));
    base.objects[1].1 = Ok(vec![7; 3_000]);
    other.objects[0].1 = Ok(vec![7; 3_000]);
    line.write(9, &other);
    line.advance();
    line.write(6, &base);
    line.write(6, &other);
    line.advance();
    assert!(line.relay.cached_bytes() > alone + 9_000);
    // The newest group stays, and so do its subgroups.
    line.up.advance(max_age);
    let cached = line.relay.cached_bytes() - alone;
    assert!((6_000..9_000).contains(&cached), "{cached}");
    line.write(7, &part(0, &[0]));
    line.advance();
    line.up.advance(max_age);
    // Timestamps differ in length.
    assert!(line.relay.cached_bytes() <= alone + 8);
}

/// 10,000 subgroups in one group take no more memory than 10,000 groups, and the next group arrives.
#[test]
fn ten_thousand_subgroups_are_bounded() {
    let mut limits = Limits::default();
    limits.track_groups = 100;
    let mut line = Line::limited(Version::Moqt18, Version::Moqt18, limits);
    line.subscribe(0);
    let _reader = line.read();
    let payload = |number| part(number, &[number]);
    line.write(4, &payload(0));
    for number in 1..10_000 {
        line.write(4, &payload(number));
        if number % 200 == 0 {
            line.up.advance(Duration::from_millis(6));
            line.answer();
            assert!(line.relay.cached_bytes() < 100_000, "{number}");
        }
        if number % 1_000 == 0 {
            line.advance();
        }
    }
    line.advance();
    let base = line.parts.remove(&(0, 4, 0)).expect("subgroup 0");
    assert_eq!(base.objects, payload(0).objects);
    line.parts.clear();
    let parts = [part(0, &[0, 2]), part(1, &[1])];
    parts.iter().for_each(|part| line.write(5, part));
    line.advance();
    line.check(0, 5, &parts);
    assert!(!line.sessions.iter_mut().any(|session| session.try_closed().is_ready()));
}
