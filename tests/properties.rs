//! Properties of tracks and objects pass through a relay between peers of moq-transport: on streams, in datagrams and
//! in answers to FETCH, between any two drafts (moq-transport-22, 7.7, 7.8, 8.4 and 10.7 to 10.9).

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;

use smoq::bytes::Bytes;
use smoq::coding::ietf::{Draft, PropertyForm};
use smoq::machine::{
    Announcement, Command, Config, Event, FramePosition, GroupKey, Machine, RequestKey, Token,
};
use smoq::sim::{Bare, Frame, Link, Pair, Shelf};
use smoq::stream::Side;
use smoq::{
    Client, Cost, Driver, Error, Hops, Instant, Limits, Origin, OriginProducer, Path, Properties,
    Server, Session, Subscription, TrackInfo, Version,
};

fn drafts() -> impl Iterator<Item = Version> {
    Version::ALL.into_iter().filter(|version| Draft::of(*version).is_some())
}

/// Properties as draft 22 encodes them.
fn properties(pairs: &[u8]) -> Properties {
    Properties::new(pairs, Version::Moqt22).unwrap()
}

/// OBJECT_DELIVERY_TIMEOUT, TIMESCALE 1,000, a priority, and an unknown one.
fn of_track() -> Properties {
    properties(&[0x02, 0x93, 0x88, 0x06, 0x83, 0xe8, 0x06, 0x50, 0x6b, 1, 9])
}

/// A list of immutable properties, a timestamp of 7, a number of two bytes, PRIOR_GROUP_ID_GAP, and bytes.
fn of_object() -> Properties {
    properties(&[0x0b, 2, 0x0e, 5, 0x05, 7, 0x10, 0x81, 0x2c, 0x1c, 1, 0x3f, 3, 1, 2, 3])
}

/// Frames without properties, with a timestamp, and with more, small and large.
fn frames() -> Vec<Frame> {
    let with = |properties, payload: Vec<u8>| Frame { properties, ..Frame::new(7, payload) };
    vec![
        with(Some(Properties::NONE), vec![0; 10]),
        with(None, vec![1; 20]),
        with(Some(of_object()), vec![2; 30]),
        with(Some(of_object()), vec![3; 3_000]),
        with(Some(of_object()), vec![]),
        with(Some(Properties::NONE), vec![5; 3_000]),
    ]
}

/// The properties of a frame in this version. By default they are its timestamp.
fn pairs(timestamp: Option<u64>, properties: Option<&Properties>, version: Version) -> Bytes {
    let alone = || properties_of_timestamp(timestamp);
    properties.cloned().unwrap_or_else(alone).pairs(version)
}

fn properties_of_timestamp(timestamp: Option<u64>) -> Properties {
    let units = timestamp.expect("either properties or a timestamp") as u8;
    properties(&[0x10, units])
}

/// The properties, the timestamp and the payload of a frame.
type Arrived = (Bytes, Option<u64>, Vec<u8>);

/// A publisher, a relay and a subscriber.
struct Line {
    up: Pair<Bare<Shelf>, Driver>,
    down: Pair<Driver, Bare<Shelf>>,
    subscribed: Option<RequestKey>,
    relay: OriginProducer,
    _sessions: [Session; 2],
    down_version: Version,
    info: Option<TrackInfo>,
    /// The properties that the publisher declares.
    declared: Properties,
    /// Why the requests of the subscriber failed.
    failed: Vec<Error>,
    /// The newest frame that the publisher tells, and the one that the subscriber is told.
    largest: [Option<FramePosition>; 2],
    /// The frames that arrived, by the number of the group.
    groups: BTreeMap<u64, Vec<Arrived>>,
    names: BTreeMap<GroupKey, u64>,
}

const TRACK: Token = Token { slot: 1, generation: 0 };

impl Line {
    fn new([up, down]: [Version; 2]) -> Self {
        Self::limited([up, down], Limits::default())
    }

    fn limited([up, down]: [Version; 2], limits: Limits) -> Self {
        let relay = Origin::default().produce();
        let publisher = Machine::new(Config::new(Side::Client, up), Instant::ZERO);
        let server = Server::new().with_origin(&relay).with_limits(limits);
        let (a, relay_up) = server.accept(up, Instant::ZERO);
        let (b, relay_down) = Client::new().with_origin(&relay).connect(down, Instant::ZERO);
        let mut config = Config::new(Side::Server, down);
        config.interests = vec![Path::root()];
        let subscriber = Machine::new(config, Instant::ZERO);
        let link = Link::wide(3);
        let mut line = Self {
            up: Pair::new(Bare::new(publisher, Shelf::new()), relay_up, link.clone()),
            down: Pair::new(relay_down, Bare::new(subscriber, Shelf::new()), link),
            subscribed: None,
            relay,
            _sessions: [a, b],
            down_version: down,
            info: None,
            declared: of_track(),
            failed: Vec::new(),
            largest: [None; 2],
            groups: BTreeMap::new(),
            names: BTreeMap::new(),
        };
        line.advance();
        line
    }

    fn advance(&mut self) {
        for _ in 0..100 {
            self.up.advance(Duration::from_millis(3));
            self.answer();
            self.down.advance(Duration::from_millis(3));
            let events = self.down.server.take_events();
            events.into_iter().for_each(|event| self.arrived(event));
        }
    }

    fn answer(&mut self) {
        let publisher = &mut self.up.client;
        let mut info = TrackInfo::default();
        info.properties = Some(self.declared.clone());
        for event in publisher.take_events() {
            match event {
                Event::AnnounceRequested { request, .. } => {
                    let reader = TRACK;
                    let (suffix, hops, cost) = ("live".into(), Hops::new(), Cost::default());
                    publisher.source.announce(reader, Announcement::Active { suffix, hops, cost });
                    publisher.apply(Command::AcceptAnnounce { request, reader, active: 1 });
                }
                Event::SubscribeRequested { request, .. } => {
                    self.subscribed = Some(request);
                    let (info, largest) = (info.clone(), self.largest[0]);
                    publisher.apply(Command::AcceptSubscribe { request, info, largest });
                }
                Event::FetchRequested { request, sequence, .. } => {
                    let group = Token { slot: 9, generation: sequence as u32 };
                    publisher.source.insert(group, frames());
                    let (info, frames) = (info.clone(), Some(frames().len() as u64));
                    publisher.apply(Command::AcceptFetch {
                        request,
                        group,
                        info,
                        frames,
                        ends_track: false,
                    });
                }
                _ => {}
            }
        }
    }

    fn arrived(&mut self, event: Event) {
        let version = self.down_version;
        match event {
            Event::LargestFrame { largest, .. } => self.largest[1] = Some(largest),
            Event::TrackInfo { info, .. } => self.info = Some(info),
            Event::SubscribeEnded { result: Err(error), .. }
            | Event::FetchEnded { result: Err(error), .. } => self.failed.push(error),
            Event::Group { group, sequence, .. } => drop(self.names.insert(group, sequence)),
            Event::FetchStarted { fetch, group } => {
                self.names.insert(group, fetch.generation.into());
            }
            Event::Frame { group, timestamp, properties, payload, .. } => {
                let timestamp = timestamp.map(|timestamp| timestamp.units());
                let pairs = pairs(timestamp, properties.as_ref(), version);
                let frames = self.groups.entry(self.names[&group]).or_default();
                frames.push((pairs, timestamp, payload.to_bytes().to_vec()));
            }
            Event::Payload { group, bytes } => {
                let frames = self.groups.get_mut(&self.names[&group]);
                let last = frames.and_then(|frames| frames.last_mut());
                last.expect("a frame that began").2.extend_from_slice(&bytes);
            }
            Event::Datagram { sequence, timestamp, properties, payload, .. } => {
                let timestamp = timestamp.map(|timestamp| timestamp.units());
                let pairs = pairs(timestamp, properties.as_ref(), version);
                self.groups.insert(sequence, vec![(pairs, timestamp, payload.to_vec())]);
            }
            _ => {}
        }
    }

    fn subscribe(&mut self, subscription: Token) {
        let (broadcast, track) = (Path::new("live"), "video".into());
        let want = Subscription::default().max_age(Duration::from_secs(9));
        self.down.server.apply(Command::Subscribe { subscription, broadcast, track, want });
        self.advance();
    }

    fn fetch(&mut self, sequence: u64) {
        self.down.server.apply(Command::Fetch {
            fetch: Token { slot: 3, generation: sequence as u32 },
            broadcast: Path::new("live"),
            track: "video".into(),
            priority: 1,
            sequence,
            first_frame: 0,
            last_frame: None,
        });
        self.advance();
    }

    fn write(&mut self, sequence: u64, frames: Vec<Frame>, as_datagram: bool) {
        let request = self.subscribed.expect("a subscription");
        let group = Token { slot: 2, generation: sequence as u32 };
        self.up.client.source.insert(group, frames);
        self.up.client.apply(match as_datagram {
            true => Command::Datagram { request, group, sequence },
            false => Command::Group { request, group, sequence, first_frame: 0 },
        });
        self.advance();
    }

    /// Checks a group of [`frames`]. `is_timed`: whether the subscriber knows the timescale, if that is certain.
    fn check(&mut self, sequence: u64, is_timed: Option<bool>, what: &str) {
        let received = self.groups.remove(&sequence).unwrap_or_default();
        assert_eq!(received.len(), frames().len(), "{what}");
        for (n, ((got, timestamp, payload), sent)) in received.into_iter().zip(frames()).enumerate()
        {
            let expected = pairs(Some(7), sent.properties.as_ref(), self.down_version);
            assert_eq!(got, expected, "{what}: frame {n}");
            let has_timestamp = sent.properties != Some(Properties::NONE);
            let has_timestamp = has_timestamp && is_timed.unwrap_or(timestamp.is_some());
            assert_eq!(timestamp, has_timestamp.then_some(7), "{what}: frame {n}");
            assert_eq!(payload, sent.bytes(), "{what}: frame {n}");
        }
    }
}

/// Whether track properties are written.
fn has_track_properties(version: Version) -> bool {
    Draft::of(version).is_some_and(|draft| draft.properties != PropertyForm::None)
}

#[test]
fn properties_pass_between_any_two_drafts() {
    for up in drafts() {
        for down in drafts() {
            let mut line = Line::new([up, down]);
            line.subscribe(Token::default());
            let declared = line.info.clone().expect("an answer").properties.expect("from a peer");
            let passes = has_track_properties(up) && has_track_properties(down);
            let expected = if passes { of_track() } else { Properties::NONE };
            assert_eq!(declared.pairs(down), expected.pairs(down), "{up} {down}: of the track");

            line.write(4, frames(), false);
            line.check(4, Some(passes), &format!("{up} {down}: a group"));
            let frame = Frame { properties: Some(of_object()), ..Frame::new(7, "datagram") };
            line.write(5, vec![frame], true);
            let expected = (of_object().pairs(down), passes.then_some(7), b"datagram".to_vec());
            assert_eq!(line.groups.remove(&5), Some(vec![expected]), "{up} {down}: a datagram");
            // From the cache, and from the publisher.
            line.fetch(4);
            line.check(4, None, &format!("{up} {down}: a fetch"));
            line.fetch(2);
            line.check(2, None, &format!("{up} {down}: a fetch upstream"));

            // A subscriber that comes late gets the latest group from the cache.
            line.write(6, frames(), false);
            line.check(6, Some(passes), &format!("{up} {down}: a group"));
            line.down.server.apply(Command::Unsubscribe { subscription: Token::default() });
            line.subscribe(Token { slot: 7, generation: 0 });
            line.check(6, Some(passes), &format!("{up} {down}: late"));
        }
    }
}

#[test]
fn applications_read_the_properties_of_frames() {
    for up in drafts() {
        let mut line = Line::new([up, Version::Moqt22]);
        let live = line.relay.consume().broadcast("live").expect("an announcement");
        let mut reader = live.subscribe_track("video", Subscription::default()).unwrap();
        line.advance();
        line.write(4, frames(), false);
        let Poll::Ready(Ok(Some(mut group))) = reader.try_next_group() else { panic!("{up}") };
        for (n, sent) in frames().into_iter().enumerate() {
            let Poll::Ready(Ok(Some(frame))) = group.try_read_frame() else { panic!("{up} {n}") };
            assert_eq!(frame.payload(), sent.bytes(), "{up} {n}");
            // A timestamp alone is no property for a reader, if the timescale is known.
            if sent.properties.is_some() || has_track_properties(up) {
                let expected = sent.properties.map(|properties| properties.pairs(up));
                assert_eq!(frame.properties().map(|it| it.pairs(up)), expected, "{up} {n}");
            }
        }
    }
}

#[test]
fn what_another_draft_can_not_express_is_left_out() {
    use Version::{Moqt14, Moqt16, Moqt17, Moqt22};
    // A list of immutable properties must not change. Its integer of two bytes means something else in QUIC's form.
    let list = properties(&[0x0b, 3, 0x0e, 0x81, 0x2c, 0x05, 7]);
    assert_eq!(list.pairs(Moqt16)[..], [0x10, 7]);
    assert_eq!(list.pairs(Moqt17), list.pairs(Moqt22));
    // QUIC's form has 62 bits.
    let large = properties(&[&[0x20][..], &[0xff; 9], &[0x02, 1]].concat());
    assert_eq!(large.pairs(Moqt16)[..], [0x22, 1]);
    // Differences need types in order.
    let unordered = Properties::new(&[0x10, 7, 0x02, 9], Moqt14).unwrap();
    assert_eq!(unordered.pairs(Moqt22)[..], [0x02, 9, 0x0e, 7]);
    assert_eq!(unordered.pairs(Moqt14)[..], [0x10, 7, 0x02, 9]);
    assert!(unordered.pairs(Version::Lite06).is_empty());
    assert!(Properties::new(&[0x0b, 2, 0x0b, 0], Moqt22).is_err());
    assert!(Properties::new(&[], Version::Lite06).is_err());
}

#[test]
fn on_moq_lite_the_timestamp_remains() {
    for version in [Version::Lite05, Version::Lite06] {
        let mut line = Line::new([Version::Moqt22, version]);
        line.subscribe(Token::default());
        assert_eq!(line.info.clone().expect("an answer").properties, None);
        line.write(4, frames()[1..4].to_vec(), false);
        let group = line.groups.remove(&4).unwrap_or_default();
        let timestamps = group.iter().map(|(_, timestamp, _)| *timestamp);
        assert!(timestamps.eq([Some(7); 3]), "{version}");
    }
}

/// D22-3-7-MUST-093, -MUST-095: a relay refuses the requests for a track with a mandatory property that it does not know,
/// with UNSUPPORTED_EXTENSION where the draft has it.
#[test]
fn an_unknown_mandatory_property_refuses_the_readers_of_a_relay() {
    for up in drafts().filter(|up| *up >= Version::Moqt18) {
        for down in drafts() {
            let mut line = Line::new([up, down]);
            line.declared = properties(&[0xc0, 0x40, 0x00, 1]);
            line.subscribe(Token::default());
            line.fetch(4);
            let error = match down >= Version::Moqt18 {
                true => Error::UnknownProperty,
                false => Error::Unsupported,
            };
            assert_eq!(line.failed, [error.clone(), error], "{up} {down}");
            assert!(!line.up.client.machine.is_closed() && !line.down.server.machine.is_closed());
        }
    }
}

/// A subscriber begins after LARGEST_OBJECT and fetches what is before, which comes from the cache. So a relay tells no
/// object that has not arrived (against D22-9-20-17-MUST-442).
#[test]
fn a_relay_tells_the_largest_object_that_can_be_fetched() {
    for version in drafts() {
        for (told, seen, expected) in [
            (Some(FramePosition::new(5, 3)), None, None),
            (Some(FramePosition::new(5, 3)), Some(6), Some(FramePosition::new(6, 5))),
            (None, None, None),
        ] {
            let mut line = Line::new([version, version]);
            line.largest[0] = told;
            if let Some(sequence) = seen {
                // Another reader of the relay.
                let live = line.relay.consume().broadcast("live").expect("it was announced");
                let want = Subscription::default().max_age(Duration::from_secs(9));
                let _reader = live.subscribe_track("video", want).unwrap();
                line.advance();
                line.write(sequence, frames(), false);
                line.subscribe(TRACK);
            } else {
                line.subscribe(TRACK);
            }
            assert_eq!(line.largest[1], expected, "{version} {told:?} {seen:?}");
        }
    }
}

/// Properties that a peer sends take part of the cache, and count in the size of a group.
#[test]
fn properties_are_counted() {
    let long = properties(&[&[0x7b, 0x8f, 0xa0][..], &[1; 4_000]].concat());
    let frame = Frame { properties: Some(long), ..Frame::new(7, "x") };
    let mut line = Line::new([Version::Moqt22; 2]);
    line.subscribe(Token::default());
    let before = line.relay.cached_bytes();
    line.write(4, vec![frame.clone(); 20], false);
    assert!(line.relay.cached_bytes() > before + 80_000);
    assert_eq!(line.groups[&4].len(), 20);

    let mut limits = Limits::default();
    limits.group_bytes = 20_000;
    let mut line = Line::limited([Version::Moqt22; 2], limits);
    line.subscribe(Token::default());
    line.write(4, vec![frame; 20], false);
    assert!(line.groups.get(&4).is_none_or(|frames| frames.len() < 6));
}
