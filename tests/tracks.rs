//! Tracks that a peer asks for by a prefix (moq-transport 18 and later, SUBSCRIBE_TRACKS): the tracks of this process, and
//! those that a relay was offered. Our sessions never ask for tracks, so that the test writes the bytes of the peer.

use std::collections::BTreeMap;

use bytes::BytesMut;
use smoq::coding::ietf::{
    Draft, Message, Parameters, Publish, PublishDone, RequestOk, RequestUpdate, Setup, Subscribe,
    SubscribeNamespace, TRACK_ENDED, TrackProperties, frame_message,
};
use smoq::machine::Input;
use smoq::stream::{Code, Dir, Side, StreamId};
use smoq::{
    BroadcastProducer, Driver, Instant, Limits, Origin, OriginProducer, Server, Session,
    Subscription, Timescale, Version,
};

const DRAFTS: [Version; 5] =
    [Version::Moqt18, Version::Moqt19, Version::Moqt20, Version::Moqt21, Version::Moqt22];

/// A session of a server whose client is the test.
struct Peer {
    version: Version,
    session: Session,
    driver: Driver,
    /// The streams of the client, and those of the server.
    opened: [u64; 2],
    granted: [u64; 2],
    /// How many bidirectional streams the server may open.
    credit: u64,
    sent: BTreeMap<StreamId, Vec<u8>>,
}

impl Peer {
    fn new(server: &Server, version: Version) -> Self {
        let (session, driver) = server.accept(version, Instant::ZERO);
        let (opened, granted, credit) = ([0; 2], [0; 2], u64::MAX);
        let sent = BTreeMap::new();
        let mut peer = Self { version, session, driver, opened, granted, credit, sent };
        let setup = Setup { solicit: true, ..Setup::default() };
        peer.open(Dir::Uni, &Message::Setup(setup));
        peer.run();
        peer
    }

    /// One that gets broadcasts of this origin.
    fn viewer(origin: &OriginProducer, version: Version) -> Self {
        Self::new(&Server::new().with_publish(origin.consume()), version)
    }

    fn open(&mut self, dir: Dir, message: &Message) -> StreamId {
        let id = StreamId::new(Side::Client, dir, self.opened[dir as usize]);
        self.opened[dir as usize] += 1;
        self.driver.handle(Instant::ZERO, Input::Opened { id });
        self.send(id, message);
        id
    }

    fn send(&mut self, id: StreamId, message: &Message) {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes, Draft::of(self.version).unwrap()).unwrap();
        self.driver.handle(Instant::ZERO, Input::Data { id, bytes: bytes.freeze(), fin: false });
        self.run();
    }

    /// Lets the driver run until it has nothing to do.
    fn run(&mut self) {
        for round in 0.. {
            if !self.driver.has_work() {
                break;
            }
            assert!(round < 100_000, "the driver has work and yields nothing");
            while self.driver.work(Instant::ZERO) {}
            while self.driver.poll_action().is_some() {}
            while let Some(open) = self.driver.poll_open() {
                let dir = open.dir();
                if dir == Dir::Bi && self.granted[0] == self.credit {
                    open.blocked();
                    continue;
                }
                open.opened(StreamId::new(Side::Server, dir, self.granted[dir as usize]));
                self.granted[dir as usize] += 1;
            }
            while let Some(mut write) = self.driver.poll_write() {
                self.sent.entry(write.id()).or_default().extend(write.chunks().concat());
                let len = write.len();
                write.accepted(len);
            }
        }
    }

    /// The messages on a stream since the last call.
    fn said(&mut self, stream: StreamId) -> Vec<Message> {
        self.run();
        let (said, draft) =
            (self.sent.remove(&stream).unwrap_or_default(), Draft::of(self.version).unwrap());
        let (mut messages, mut rest) = (Vec::new(), &said[..]);
        while let Some(framed) = frame_message(rest, draft, 1 << 16).unwrap() {
            let (body, after) = rest[framed.head..].split_at(framed.body);
            messages.push(Message::decode(framed.kind, body, draft).unwrap());
            rest = after;
        }
        messages
    }

    /// Asks for the tracks below a prefix.
    fn ask(&mut self, id: u64, prefix: &str) -> StreamId {
        let ask = SubscribeNamespace { id, prefix: prefix.into(), ..SubscribeNamespace::default() };
        let stream = self.open(Dir::Bi, &Message::SubscribeTracks(ask));
        let answer = self.said(stream);
        assert!(matches!(answer[..], [Message::RequestOk(_)]), "{answer:?}");
        stream
    }

    /// The tracks that were offered since the last call, each with its stream.
    fn offers(&mut self) -> Vec<(StreamId, Publish)> {
        self.run();
        let offers = |id: &StreamId| id.initiator() == Side::Server && id.dir() == Dir::Bi;
        let streams: Vec<_> = self.sent.keys().copied().filter(offers).collect();
        let said = streams.into_iter().filter_map(|stream| match self.said(stream).as_slice() {
            [Message::Publish(offer)] => Some((stream, offer.clone())),
            // The session asks for broadcasts.
            [Message::SubscribeNamespace(_)] => None,
            other => panic!("{other:?}"),
        });
        let mut said: Vec<_> = said.collect();
        said.sort_by_key(|(stream, _)| stream.as_u64());
        said
    }

    fn names(&mut self) -> Vec<String> {
        let offers = self.offers().into_iter();
        offers.map(|(_, offer)| format!("{}:{}", offer.namespace, offer.track)).collect()
    }

    /// The bytes of the unidirectional streams of the server, without its control stream.
    fn groups(&mut self) -> Vec<Vec<u8>> {
        self.run();
        let control = StreamId::new(Side::Server, Dir::Uni, 0);
        let mut groups = Vec::new();
        self.sent.retain(|id, bytes| {
            let is_group = id.initiator() == Side::Server && id.dir() == Dir::Uni && *id != control;
            if is_group {
                groups.push(std::mem::take(bytes));
            }
            !is_group
        });
        groups
    }
}

fn broadcast(origin: &OriginProducer, path: &str) -> BroadcastProducer {
    origin.create_broadcast(path).unwrap()
}

/// The tracks that are there, and those that come later; none that is elsewhere.
#[test]
fn tracks_are_offered_as_they_are_created() {
    for version in DRAFTS {
        let origin = Origin::default().produce();
        let mut alice = broadcast(&origin, "room/alice");
        let mut hall = broadcast(&origin, "hall");
        let mut video = alice.create_track("video").unwrap();
        let _elsewhere = hall.create_track("video").unwrap();
        let mut viewer = Peer::viewer(&origin, version);
        let stream = viewer.ask(0, "room");
        let first = viewer.offers();
        assert_eq!(first.len(), 1, "{version}");
        assert_eq!((&first[0].1.namespace, &*first[0].1.track), (&"room/alice".into(), "video"));

        let _audio = alice.create_track("audio").unwrap();
        let mut bob = broadcast(&origin, "room/bob");
        assert_eq!(viewer.names(), ["room/alice:audio"]);
        let _chat = bob.create_track("chat").unwrap();
        assert_eq!(viewer.names(), ["room/bob:chat"]);
        let _more = hall.create_track("audio").unwrap();
        assert!(!viewer.driver.has_work(), "nothing here concerns the session");

        // An accepted track flows, also after the end of the request.
        viewer.send(first[0].0, &Message::RequestOk(RequestOk::default()));
        viewer.driver.handle(Instant::ZERO, Input::Reset { id: stream, code: Code::new(1) });
        viewer.run();
        let mut group = video.append_group().unwrap();
        group.write_frame(0, "hi").unwrap();
        group.finish().unwrap();
        assert_eq!(viewer.groups().len(), 1, "{version}");
        video.finish().unwrap();
        let said = viewer.said(first[0].0);
        assert!(matches!(&said[..], [Message::PublishDone(done)] if done.status == TRACK_ENDED));
        let _late = alice.create_track("late").unwrap();
        assert_eq!(viewer.names(), [""; 0], "nobody asks any more");
        assert!(viewer.session.try_closed().is_pending());
    }
}

/// A prefix without tracks, and one outside of what the peer may see.
#[test]
fn a_prefix_may_have_no_tracks() {
    let origin = Origin::default().produce();
    let mut hall = broadcast(&origin, "hall");
    let _secret = hall.create_track("video").unwrap();
    let mut alice = broadcast(&origin, "room/alice");
    let visible = origin.consume().scope(["room"]).unwrap();
    let mut viewer = Peer::new(&Server::new().with_publish(visible), Version::Moqt22);
    viewer.ask(0, "");
    assert_eq!(viewer.names(), [""; 0]);
    let _video = alice.create_track("video").unwrap();
    let _other = hall.create_track("audio").unwrap();
    assert_eq!(viewer.names(), ["room/alice:video"]);
    // A session that publishes nothing answers as well.
    let mut viewer = Peer::new(&Server::new(), Version::Moqt22);
    viewer.ask(0, "");
    assert_eq!(viewer.names(), [""; 0]);
}

/// A publisher that starts again, and a track that is created again and again.
#[test]
fn a_publisher_that_restarts_offers_its_tracks_again() {
    let origin = Origin::default().produce();
    let mut first = broadcast(&origin, "room/alice");
    // Each still has a reader when the next one begins.
    let readers: Vec<_> = (0..1_000)
        .map(|_| {
            let _track = first.create_track("video").unwrap();
            first.consume().subscribe_track("video", Subscription::default()).unwrap()
        })
        .collect();
    let old = first.create_track("video").unwrap();
    let mut viewer = Peer::viewer(&origin, Version::Moqt22);
    viewer.ask(0, "room");
    assert_eq!(viewer.names(), ["room/alice:video"], "the track that there is");
    drop((old, readers));
    let _old = first.create_track("video").unwrap();
    assert_eq!(viewer.names(), ["room/alice:video"], "another track with the name");
    let mut second = broadcast(&origin, "room/alice");
    let _new = second.create_track("video").unwrap();
    let _more = second.create_track("audio").unwrap();
    assert_eq!(viewer.names(), ["room/alice:video", "room/alice:audio"]);
    drop((first, second));
    let mut third = broadcast(&origin, "room/alice");
    let _video = third.create_track("video").unwrap();
    assert_eq!(viewer.names(), ["room/alice:video"]);
}

/// Ten thousand tracks of one broadcast, for a peer that allows few streams, and for one that allows all of them.
#[test]
fn ten_thousand_tracks_wait_for_streams() {
    const TRACKS: usize = 10_000;
    let origin = Origin::default().produce();
    let mut alice = broadcast(&origin, "room/alice");
    let mut tracks: Vec<_> =
        (0..TRACKS).map(|n| alice.create_track(&*n.to_string()).unwrap()).collect();
    let mut limits = Limits::default();
    limits.subscriptions = TRACKS + 1;
    let server = Server::new().with_publish(origin.consume()).with_limits(limits);
    let mut viewer = Peer::new(&server, Version::Moqt22);
    viewer.credit = 100;
    let stream = viewer.ask(0, "room");
    let mut seen: Vec<_> = viewer.names();
    assert_eq!(seen.len(), 100);
    // A track that ends while it waits is not offered.
    tracks.remove(5_000);
    viewer.credit = u64::MAX;
    viewer.driver.handle(Instant::ZERO, Input::Available { dir: Dir::Bi });
    seen.extend(viewer.names());
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), TRACKS - 1, "each once");
    assert_eq!(viewer.said(stream), [], "none was skipped");
    tracks.push(alice.create_track("last").unwrap());
    assert_eq!(viewer.names(), ["room/alice:last"]);
    // Past the limit of subscriptions they are skipped.
    tracks.push(alice.create_track("room for one").unwrap());
    tracks.push(alice.create_track("none").unwrap());
    assert_eq!(viewer.names(), ["room/alice:room for one"]);
    assert!(matches!(viewer.said(stream)[..], [Message::PublishBlocked(_)]));
}

/// A change of one broadcast among ten thousand costs no look at the others.
#[test]
fn ten_thousand_broadcasts_without_tracks_cost_nothing() {
    let origin = Origin::default().produce();
    let mut all: Vec<_> = (0..10_000).map(|n| broadcast(&origin, &format!("room/{n}"))).collect();
    let mut viewer = Peer::viewer(&origin, Version::Moqt22);
    viewer.ask(0, "room");
    assert_eq!(viewer.names(), [""; 0]);
    let _track = all[7_777].create_track("video").unwrap();
    let mut turns = 0;
    while viewer.driver.work(Instant::ZERO) {
        turns += 1;
    }
    assert!(turns < 10, "{turns}");
    assert_eq!(viewer.names(), ["room/7777:video"]);
}

/// Lets both sessions of a relay run until they have nothing to do.
fn settle(publisher: &mut Peer, viewer: &mut Peer) {
    while publisher.driver.has_work() || viewer.driver.has_work() {
        publisher.run();
        viewer.run();
    }
}

fn publish(id: u64, track: &str) -> Message {
    Message::Publish(Publish {
        id,
        namespace: "room/alice".into(),
        track: track.into(),
        alias: id,
        parameters: Parameters::default(),
        properties: TrackProperties {
            timescale: Some(Timescale::MILLIS),
            priority: Some(77),
            ..TrackProperties::default()
        },
    })
}

/// D22-7-6-MUST-233: a relay offers what it was offered to each peer that asked for it, with its properties. The publisher
/// does not get its own tracks.
#[test]
fn a_relay_offers_what_it_was_offered() {
    for version in DRAFTS {
        let origin = Origin::default().produce();
        let relay = || Server::new().with_consume(origin.clone()).with_publish(origin.consume());
        let mut publisher = Peer::new(&relay(), version);
        publisher.ask(0, "room");
        let video = publisher.open(Dir::Bi, &publish(2, "video"));
        let audio = publisher.open(Dir::Bi, &publish(4, "audio"));
        publisher.said(video);

        let mut viewers = [Peer::viewer(&origin, version), Peer::viewer(&origin, version)];
        let mut offers = Vec::new();
        for viewer in &mut viewers {
            viewer.ask(0, "room");
            settle(&mut publisher, viewer);
            offers = viewer.offers();
            assert_eq!(offers.len(), 2, "{version}");
            assert_eq!((&*offers[0].1.track, &*offers[1].1.track), ("video", "audio"));
            assert_eq!(offers[0].1.properties.priority, Some(77));
        }
        assert_eq!(publisher.names(), [""; 0], "its own");
        publisher.said(video);

        // Nothing flows until a viewer accepts.
        let viewer = &mut viewers[1];
        viewer.send(offers[0].0, &Message::RequestOk(RequestOk::default()));
        let resumed = publisher.said(video);
        assert!(
            matches!(&resumed[..], [Message::RequestUpdate(it)] if it.parameters.forward == Some(true)),
            "{version}: {resumed:?}"
        );
        let group = publisher.opened[Dir::Uni as usize];
        let id = StreamId::new(Side::Client, Dir::Uni, group);
        publisher.driver.handle(Instant::ZERO, Input::Opened { id });
        let bytes =
            smoq::bytes::Bytes::from_static(&[0x18, 0x02, 0x00, 0x80, 0x00, 0x02, b'h', b'i']);
        publisher.driver.handle(Instant::ZERO, Input::Data { id, bytes, fin: true });
        publisher.opened[Dir::Uni as usize] += 1;
        publisher.run();
        let groups = viewer.groups();
        assert!(groups.len() == 1 && groups[0].ends_with(b"hi"), "{version}: {groups:?}");

        // One more is offered to both, and the one that ended to nobody.
        let done = PublishDone { status: TRACK_ENDED, ..PublishDone::default() };
        publisher.send(audio, &Message::PublishDone(done));
        publisher.open(Dir::Bi, &publish(6, "chat"));
        let mut late = Peer::viewer(&origin, version);
        late.ask(0, "");
        for viewer in viewers.iter_mut().chain([&mut late]) {
            settle(&mut publisher, viewer);
            let names = viewer.names();
            assert_eq!(names.last().map(|it| &**it), Some("room/alice:chat"), "{version}");
            assert!(!names.contains(&"room/alice:audio".to_owned()), "{version}: {names:?}");
        }
        // The end of the publisher ends the subscription.
        drop(publisher);
        let ended = viewers[1].said(offers[0].0);
        assert!(matches!(ended[..], [Message::PublishDone(_)]), "{version}: {ended:?}");
        assert!(viewers[1].session.try_closed().is_pending());
    }
}

fn subscribe(id: u64, broadcast: &str, track: &str) -> Message {
    let (namespace, track) = (broadcast.into(), track.into());
    Message::Subscribe(Subscribe { id, namespace, track, parameters: Parameters::default() })
}

/// D22-7-6-MUST-234, -MUST-NOT-235: a relay holds a SUBSCRIBE until a publisher offers the track. Its sender gets
/// SUBSCRIBE_OK and no PUBLISH, and PUBLISH of the other tracks. Other peers get all of them.
#[test]
fn a_track_is_not_offered_to_its_subscriber() {
    for version in DRAFTS {
        let origin = Origin::default().produce();
        let relay = || Server::new().with_consume(origin.clone()).with_publish(origin.consume());
        let _store = origin.dynamic("room").unwrap();
        let mut viewer = Peer::viewer(&origin, version);
        viewer.ask(0, "room");
        let held = viewer.open(Dir::Bi, &subscribe(2, "room/alice", "video"));
        assert_eq!(viewer.said(held), [], "{version}: it is held");
        let given_up = viewer.open(Dir::Bi, &subscribe(4, "room/alice", "audio"));
        viewer.driver.handle(Instant::ZERO, Input::Reset { id: given_up, code: Code::new(1) });
        let mut other = Peer::viewer(&origin, version);
        other.ask(0, "");

        let mut publisher = Peer::new(&relay(), version);
        publisher.open(Dir::Bi, &publish(0, "video"));
        publisher.open(Dir::Bi, &publish(2, "audio"));
        settle(&mut publisher, &mut viewer);
        settle(&mut publisher, &mut other);
        assert_eq!(viewer.names(), ["room/alice:audio"], "{version}");
        let said = viewer.said(held);
        assert!(matches!(said[..], [Message::SubscribeOk(_)]), "{version}: {said:?}");
        assert_eq!(other.names(), ["room/alice:video", "room/alice:audio"], "{version}");

        // A running subscription counts as well, until it ends; and not one of another track with this name.
        let mut late = Peer::viewer(&origin, version);
        let running = late.open(Dir::Bi, &subscribe(0, "room/alice", "audio"));
        settle(&mut publisher, &mut late);
        assert!(matches!(late.said(running)[..], [Message::SubscribeOk(_)]), "{version}");
        late.ask(2, "room");
        settle(&mut publisher, &mut late);
        assert_eq!(late.names(), ["room/alice:video"], "{version}");
        assert!(late.session.try_closed().is_pending());
    }
}

/// *Updating Namespace Subscriptions*: a peer that asks for another prefix gets the tracks below it, and no more of those
/// below the former one. The tracks that it accepted go on.
#[test]
fn a_peer_asks_for_another_prefix() {
    for version in DRAFTS {
        let origin = Origin::default().produce();
        let mut alice = broadcast(&origin, "room/alice");
        let mut bob = broadcast(&origin, "hall/bob");
        let mut video = alice.create_track("video").unwrap();
        let _audio = bob.create_track("audio").unwrap();
        let mut viewer = Peer::viewer(&origin, version);
        let stream = viewer.ask(0, "room");
        let offers = viewer.offers();
        viewer.send(offers[0].0, &Message::RequestOk(RequestOk::default()));
        for (id, prefix, names) in
            [(2, "hall", &["hall/bob:audio"][..]), (4, "", &["hall/bob:audio"])]
        {
            let parameters = Parameters { prefix: Some(prefix.into()), ..Parameters::default() };
            let update = RequestUpdate { id, existing: None, parameters };
            viewer.send(stream, &Message::RequestUpdate(update));
            assert!(matches!(viewer.said(stream)[..], [Message::RequestOk(_)]), "{version}");
            assert_eq!(viewer.names(), names, "{version}: it has room/alice:video");
        }
        let _late = alice.create_track("late").unwrap();
        assert_eq!(viewer.names(), ["room/alice:late"]);
        let mut group = video.append_group().unwrap();
        group.write_frame(0, "hi").unwrap();
        group.finish().unwrap();
        assert_eq!(viewer.groups().len(), 1, "{version}");
        assert!(viewer.session.try_closed().is_pending());
    }
}
