//! Subscriptions of moq-transport that wait for their publisher (RENDEZVOUS_TIMEOUT, 17 and later). The tests write the
//! bytes of the subscriber, because our own subscribers wait for announcements instead.

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use smoq::coding::ietf::{Draft, Message, Parameters, Setup, Subscribe, frame_message};
use smoq::machine::Input;
use smoq::sim::Census;
use smoq::stream::{Code, Dir, Side, StreamId};
use smoq::{
    BroadcastProducer, Driver, Error, Instant, Origin, OriginProducer, Path, Server, Session,
    TrackProducer, Version,
};

fn drafts() -> impl Iterator<Item = Version> {
    Version::ALL.into_iter().filter(|version| *version >= Version::Moqt17)
}

/// A relay's session whose client is the test.
struct World {
    version: Version,
    origin: OriginProducer,
    driver: Driver,
    now: Instant,
    subscribed: u64,
    sent: BTreeMap<StreamId, Vec<u8>>,
    _session: Session,
}

impl World {
    fn new(version: Version) -> Self {
        let (now, origin) = (Instant::ZERO, Origin::default().produce());
        let (session, driver) =
            Server::new().with_publish(origin.consume()).accept(version, Instant::ZERO);
        let mut world = Self {
            version,
            origin,
            driver,
            now,
            subscribed: 0,
            sent: BTreeMap::new(),
            _session: session,
        };
        let setup = world.bytes(&Message::Setup(Setup { solicit: true, ..Setup::default() }));
        world.open(StreamId::new(Side::Client, Dir::Uni, 0), &setup);
        world
    }

    fn bytes(&self, message: &Message) -> Vec<u8> {
        let mut out = BytesMut::new();
        message.encode(&mut out, Draft::of(self.version).unwrap()).unwrap();
        out.to_vec()
    }

    fn open(&mut self, id: StreamId, bytes: &[u8]) {
        self.driver.handle(self.now, Input::Opened { id });
        let bytes = BytesMut::from(bytes).freeze();
        self.driver.handle(self.now, Input::Data { id, bytes, fin: false });
    }

    /// Subscribes to the track `video` of a broadcast, and waits for it up to `wait`.
    fn subscribe(&mut self, path: &str, wait: Option<Duration>) -> StreamId {
        let stream = StreamId::new(Side::Client, Dir::Bi, self.subscribed);
        let subscribe = self.bytes(&Message::Subscribe(Subscribe {
            id: 2 * self.subscribed,
            namespace: Path::new(path),
            track: "video".into(),
            parameters: Parameters { rendezvous_timeout: wait, ..Parameters::default() },
        }));
        self.subscribed += 1;
        self.open(stream, &subscribe);
        stream
    }

    fn advance(&mut self, time: Duration) {
        self.now = self.now + time;
        self.driver.end_turn(self.now, false);
    }

    /// Lets the driver run, and returns what it wrote on the stream since the last call for it.
    fn said(&mut self, stream: StreamId) -> Vec<Message> {
        for round in 0.. {
            assert!(round < 10_000, "the driver has work and yields nothing");
            while self.driver.work(self.now) {}
            while self.driver.poll_action().is_some() {}
            while let Some(open) = self.driver.poll_open() {
                let id = StreamId::new(Side::Server, open.dir(), 0);
                open.opened(id);
            }
            while let Some(mut write) = self.driver.poll_write() {
                let bytes = write.chunks().concat();
                self.sent.entry(write.id()).or_default().extend(bytes);
                let len = write.len();
                write.accepted(len);
            }
            if !self.driver.has_work() {
                break;
            }
        }
        let said = self.sent.remove(&stream).unwrap_or_default();
        let (mut messages, mut rest) = (Vec::new(), &said[..]);
        let draft = Draft::of(self.version).unwrap();
        while let Ok(Some(framed)) = frame_message(rest, draft, 1 << 16) {
            let (body, after) = rest[framed.head..].split_at(framed.body);
            messages.push(Message::decode(framed.kind, body, draft).unwrap());
            rest = after;
        }
        messages
    }

    fn is_accepted(&mut self, stream: StreamId) -> bool {
        match &self.said(stream)[..] {
            [] => false,
            [Message::SubscribeOk(_)] => true,
            other => panic!("{other:?}"),
        }
    }

    /// The error with which the subscription was refused.
    fn refusal(&mut self, stream: StreamId) -> Option<Error> {
        match &self.said(stream)[..] {
            [] => None,
            [Message::RequestError(error)] => {
                Some(Draft::of(self.version).unwrap().request_error(error.code))
            }
            other => panic!("{other:?}"),
        }
    }

    fn census(&self) -> (Census, Census) {
        (self.driver.census(), self.origin.census())
    }
}

fn publish(origin: &OriginProducer, path: &str) -> (BroadcastProducer, TrackProducer) {
    let mut broadcast = origin.create_broadcast(path).unwrap();
    let track = broadcast.create_track("video").unwrap();
    (broadcast, track)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_subscription_waits_for_its_publisher() {
    for version in drafts() {
        let mut world = World::new(version);
        let [one, other] = ["room/a", "room/b"].map(|path| world.subscribe(path, Some(ms(500))));
        assert!(!world.is_accepted(one));
        world.advance(ms(499));
        let _room = publish(&world.origin, "room/a");
        assert!(world.is_accepted(one), "{version}");
        assert!(!world.is_accepted(other));
        // The deadline is that of the other one alone.
        world.advance(ms(1));
        assert_eq!(world.refusal(other), Some(Error::Timeout));
        assert_eq!(world.refusal(one), None);
    }
}

/// D22-9-20-6-MUST-416: without the parameter, or with 0, it does not wait.
#[test]
fn without_a_timeout_it_is_refused_at_once() {
    for version in drafts() {
        let mut world = World::new(version);
        for wait in [None, Some(Duration::ZERO)] {
            let stream = world.subscribe("room", wait);
            assert_eq!(world.refusal(stream), Some(Error::NotFound), "{version}");
        }
    }
}

/// A handler of this process for a prefix is asked as soon as it exists, and its refusal is final.
#[test]
fn a_handler_that_appears_is_asked() {
    let mut world = World::new(Version::Moqt22);
    let [one, other] = ["room/a", "room/b"].map(|path| world.subscribe(path, Some(ms(500))));
    assert!(!world.is_accepted(one));
    let mut rooms = world.origin.dynamic("room").unwrap();
    assert!(!world.is_accepted(one));
    let mut accepted = None;
    for _ in 0..2 {
        let Poll::Ready(request) = rooms.try_requested_broadcast() else { panic!("nobody asks") };
        match request.path().as_str() {
            "room/a" => {
                let mut room = request.accept();
                let track = room.create_track("video").unwrap();
                accepted = Some((room, track));
            }
            _ => request.reject(Error::Unauthorized),
        }
    }
    assert!(world.is_accepted(one));
    assert_eq!(world.refusal(other), Some(Error::Unauthorized));
    drop(accepted);
}

/// Whether it is cancelled, refused or answered, nothing is left of the wait; and the peer decides how long it is.
#[test]
fn nothing_is_left_of_those_that_waited() {
    let mut world = World::new(Version::Moqt18);
    assert_eq!(world.said(StreamId::from_u64(0)), []);
    let before = world.census();
    for round in 0..100 {
        let stream = world.subscribe("room", Some(Duration::from_millis(u64::MAX / 1_000)));
        assert!(!world.is_accepted(stream));
        // Nobody else waits for a path below, and one that is beside does not count.
        let beside = publish(&world.origin, "roommate");
        assert!(!world.is_accepted(stream));
        drop(beside);
        if round % 2 == 0 {
            let room = publish(&world.origin, "room");
            assert!(world.is_accepted(stream));
            drop(room);
        }
        let code = Code::new(0);
        world.driver.handle(world.now, Input::Reset { id: stream, code });
        world.driver.handle(world.now, Input::Stopped { id: stream, code });
        world.said(stream);
    }
    assert_eq!(world.census(), before);
    assert!(world.driver.close_reason().is_none());
}
