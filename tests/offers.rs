//! Behavior of a peer of moq-transport 18 that our sessions never show: it offers tracks by PUBLISH, and
//! sends more than one subgroup. The test writes the bytes, because published implementations do not do
//! this towards us.

use std::task::Poll;

use bytes::BytesMut;
use smoq::coding::ietf::{
    Draft, Message, Parameters, Publish, PublishDone, Setup, TRACK_ENDED, TrackProperties,
    frame_message,
};
use smoq::machine::Input;
use smoq::stream::{Dir, Side, StreamId};
use smoq::{Driver, Instant, Origin, OriginProducer, Path, Server, Session, Subscription, Version};

const DRAFT: Version = Version::Moqt18;

fn draft() -> &'static Draft {
    Draft::of(DRAFT).unwrap()
}

/// A server whose client is the test.
struct World {
    origin: OriginProducer,
    session: Session,
    driver: Driver,
    opened: [u64; 2],
}

impl World {
    fn new(allowed: &str) -> Self {
        let origin = Origin::default().produce();
        let consume = origin.scope([allowed]).unwrap();
        let (session, driver) = Server::new().with_consume(consume).accept(DRAFT, Instant::ZERO);
        let mut world = Self { origin, session, driver, opened: [0; 2] };
        world
            .open(Dir::Uni, &message(&Message::Setup(Setup { solicit: true, ..Setup::default() })));
        world
    }

    fn open(&mut self, dir: Dir, bytes: &[u8]) -> StreamId {
        let id = StreamId::new(Side::Client, dir, self.opened[dir as usize]);
        self.opened[dir as usize] += 1;
        self.driver.handle(Instant::ZERO, Input::Opened { id });
        self.data(id, bytes, false);
        id
    }

    fn data(&mut self, id: StreamId, bytes: &[u8], fin: bool) {
        let bytes = BytesMut::from(bytes).freeze();
        self.driver.handle(Instant::ZERO, Input::Data { id, bytes, fin });
    }

    /// Sends a whole group of one frame.
    fn group(&mut self, header: &[u8]) {
        let id = self.open(Dir::Uni, header);
        self.data(id, &[0x00, 0x02, b'h', b'i'], true);
    }

    /// Lets the driver run, and returns what it wrote on the stream.
    fn said(&mut self, stream: StreamId) -> Vec<Message> {
        let mut said = Vec::new();
        for round in 0.. {
            if !self.driver.has_work() {
                break;
            }
            assert!(round < 10_000, "the driver has work and yields nothing");
            while self.driver.work(Instant::ZERO) {}
            while self.driver.poll_action().is_some() {}
            while let Some(open) = self.driver.poll_open() {
                let id = StreamId::new(Side::Server, open.dir(), 0);
                open.opened(id);
            }
            while let Some(mut write) = self.driver.poll_write() {
                if write.id() == stream {
                    said.extend_from_slice(&write.chunks().concat());
                }
                let len = write.len();
                write.accepted(len);
            }
        }
        let mut messages = Vec::new();
        let mut rest = &said[..];
        while let Ok(Some(framed)) = frame_message(rest, draft(), 1 << 16) {
            let (body, after) = rest[framed.head..].split_at(framed.body);
            messages.push(Message::decode(framed.kind, body, draft()).unwrap());
            rest = after;
        }
        messages
    }
}

fn message(message: &Message) -> Vec<u8> {
    let mut out = BytesMut::new();
    message.encode(&mut out, draft()).unwrap();
    out.to_vec()
}

fn offer(id: u64, path: &str) -> Vec<u8> {
    message(&Message::Publish(Publish {
        id,
        namespace: Path::new(path),
        track: "video".into(),
        alias: 7,
        parameters: Parameters::default(),
        properties: TrackProperties::default(),
    }))
}

/// The FORWARD parameters of these messages.
fn forwards(messages: &[Message]) -> Vec<Option<bool>> {
    let forward = |message: &Message| match message {
        Message::RequestOk(ok) => ok.parameters.forward,
        Message::RequestUpdate(update) => update.parameters.forward,
        other => panic!("{other:?}"),
    };
    messages.iter().map(forward).collect()
}

#[test]
fn an_offered_track_flows_while_it_is_read() {
    let mut world = World::new("room");
    let offer = offer(0, "room/alice");
    let stream = world.open(Dir::Bi, &offer);
    assert_eq!(forwards(&world.said(stream)), [Some(false)], "accepted without forwarding");

    let broadcast = world.origin.consume().broadcast("room/alice").expect("the track was offered");
    let mut reader = broadcast.subscribe_track("video", Subscription::default()).unwrap();
    assert_eq!(forwards(&world.said(stream)), [Some(true)]);
    world.group(&[0x18, 0x07, 0x00, 0x80]);
    world.said(stream);
    let Poll::Ready(Ok(Some(mut group))) = reader.try_recv_group() else { panic!("no group") };
    let Poll::Ready(Ok(Some(frame))) = group.try_read_frame() else { panic!("no frame") };
    assert_eq!(frame.payload(), b"hi");

    drop(reader);
    assert_eq!(forwards(&world.said(stream)), [Some(false)], "the last reader left");
    let mut reader = broadcast.subscribe_track("video", Subscription::default()).unwrap();
    assert_eq!(forwards(&world.said(stream)), [Some(true)]);
    let done = PublishDone { status: TRACK_ENDED, streams: Some(1), ..PublishDone::default() };
    world.group(&[0x18, 0x07, 0x01, 0x80]);
    world.data(stream, &message(&Message::PublishDone(done)), true);
    world.said(stream);
    assert!(matches!(reader.try_recv_group(), Poll::Ready(Ok(Some(_)))));
    assert!(matches!(reader.try_recv_group(), Poll::Ready(Ok(None))));
    assert!(world.origin.consume().broadcast("room/alice").is_none(), "the offer ended");
    assert!(world.session.try_closed().is_pending());
}

#[test]
fn an_offer_outside_the_granted_scope_is_refused() {
    let mut world = World::new("room");
    let offer = offer(0, "hall/bob");
    let stream = world.open(Dir::Bi, &offer);
    let refused = matches!(world.said(stream)[..], [Message::RequestError(_)]);
    assert!(refused && world.origin.consume().broadcast("hall/bob").is_none());
    assert!(world.session.try_closed().is_pending());
}

#[test]
fn refused_subgroups_are_counted() {
    let mut world = World::new("room");
    let offer = offer(0, "room/alice");
    let stream = world.open(Dir::Bi, &offer);
    world.said(stream);
    let broadcast = world.origin.consume().broadcast("room/alice").unwrap();
    let mut reader = broadcast.subscribe_track("video", Subscription::default()).unwrap();
    world.said(stream);
    world.group(&[0x14, 0x07, 0x00, 0x01, 0x80]);
    world.group(&[0x14, 0x07, 0x00, 0x00, 0x80]);
    world.said(stream);
    assert_eq!(world.session.stats().refused_groups, 1);
    assert!(matches!(reader.try_recv_group(), Poll::Ready(Ok(Some(_)))), "subgroup 0 is the group");
}
