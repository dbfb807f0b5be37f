//! moq-transport: two machines over links of every kind, and one machine against a scripted peer. Sections
//! have the names of draft-ietf-moq-transport-18; tests say where 16 differs.

mod datagrams;
mod early;
mod fetch;
mod goaway;
mod joins;
mod names;
mod new_groups;
mod requests;
mod rules;
mod subgroups;
mod subscriptions;
mod tokens;
mod track_requests;
mod tracks;
mod undecided;

use alloc::boxed::Box;

use bytes::BytesMut;

use super::*;
use crate::coding::ietf::*;
use Version::{Moqt14, Moqt15, Moqt16, Moqt17, Moqt18, Moqt19, Moqt20, Moqt21, Moqt22};

/// The drafts on which announcements can be requested for the root. `early` has 14 and 15.
const DRAFTS: [Version; 7] = [Moqt16, Moqt17, Moqt18, Moqt19, Moqt20, Moqt21, Moqt22];

const EVERY: [Version; 9] =
    [Moqt14, Moqt15, Moqt16, Moqt17, Moqt18, Moqt19, Moqt20, Moqt21, Moqt22];

fn draft(version: Version) -> &'static Draft {
    Draft::of(version).unwrap()
}

/// Both ends request all announcements of each other.
fn interested(side: Side, version: Version) -> Config {
    Config { interests: vec![Path::root()], ..config(side, version) }
}

fn joined(version: Version, link: Link) -> Peers {
    let end = |side| interested(side, version);
    let mut pair = join(end(Side::Client), end(Side::Server), link);
    pair.run_until_idle();
    for events in [pair.server.take_events(), pair.client.take_events()] {
        // The unsolicited announcements, and those of the request.
        assert_eq!(events.len(), 2, "{events:?}");
        assert!(events.iter().all(|it| matches!(it, Event::AnnounceRequested { .. })));
    }
    pair
}

fn on_every_draft(test: impl Fn(Version, Peers)) {
    for version in DRAFTS {
        for link in links() {
            println!("{version} {link:?}");
            test(version, joined(version, link));
        }
    }
}

/// A machine whose peer writes messages, on the control stream (16) or on streams of their own.
struct Talk {
    lone: Lone,
    version: Version,
    control: Option<StreamId>,
    /// The next request id of the peer.
    next: u64,
}

impl Talk {
    /// A machine after the set-up of both ends.
    fn with(config: Config, setup: Setup) -> Self {
        let mut talk = Self::prepared(config, setup, |_| {});
        talk.lone.sent.clear();
        talk
    }

    /// The same. The application does something before the set-up of the peer, and what is written after it is kept.
    fn prepared(config: Config, setup: Setup, before: impl FnOnce(&mut Lone)) -> Self {
        let (version, side) = (config.agreed.version(), config.side);
        let mut lone = Lone::new(config);
        before(&mut lone);
        lone.sent.clear();
        let setup = Message::setup(setup, side.peer(), draft(version));
        let setup = wire(version, &setup);
        let control = (version < Moqt17).then(|| match side {
            Side::Server => lone.open(Dir::Bi, &setup),
            Side::Client => lone.own(Dir::Bi, 0),
        });
        match (version, side) {
            (Moqt14 | Moqt15 | Moqt16, Side::Client) => lone.data(control.unwrap(), &setup),
            (Moqt14 | Moqt15 | Moqt16, Side::Server) => {}
            _ => drop(lone.open(Dir::Uni, &setup)),
        }
        lone.actions.clear();
        let next = if side == Side::Client { 1 } else { 0 };
        Self { lone, version, control, next }
    }

    /// One without announcements in either direction.
    fn quiet(side: Side, version: Version) -> Self {
        let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
        Self::with(config(side, version), setup)
    }

    /// Sends a request of the peer and returns its stream.
    fn request(&mut self, make: impl FnOnce(u64) -> Message) -> StreamId {
        let message = make(self.next);
        self.next += 2;
        let own = self.version == Moqt16 && matches!(message, Message::SubscribeNamespace(_));
        let bytes = wire(self.version, &message);
        match self.control.filter(|_| !own) {
            Some(control) => {
                self.lone.data(control, &bytes);
                control
            }
            None => self.lone.open(Dir::Bi, &bytes),
        }
    }

    /// Sends another message of the peer on a stream.
    fn send(&mut self, stream: StreamId, message: &Message) {
        self.lone.data(stream, &wire(self.version, message));
    }

    /// The messages that the machine wrote on a stream since the last call.
    fn written(&mut self, stream: StreamId) -> Vec<Message> {
        let (bytes, fin) = self.lone.sent.remove(&stream).unwrap_or_default();
        if fin {
            self.lone.sent.insert(stream, (vec![], true));
        }
        messages(self.version, &bytes)
    }

    fn written_one(&mut self, stream: StreamId) -> Message {
        one(self.written(stream))
    }

    /// Whether the machine finished its half of a stream.
    fn finished(&self, stream: StreamId) -> bool {
        self.lone.sent.get(&stream).is_some_and(|(_, fin)| *fin)
    }

    /// The request id in replies of drafts that have one there.
    fn id(&self, id: u64) -> Option<u64> {
        (self.version < Moqt17).then_some(id)
    }

    /// The machine subscribes. Returns the stream and the message.
    fn subscribe(&mut self) -> (StreamId, Subscribe) {
        self.lone.apply(subscribe(0));
        let stream = self.control.unwrap_or(self.lone.own(Dir::Bi, 0));
        let Message::Subscribe(asked) = self.written_one(stream) else { panic!("no SUBSCRIBE") };
        (stream, asked)
    }

    /// The same, and the peer accepts with `alias`.
    fn subscribed(&mut self, alias: u64, properties: TrackProperties) -> StreamId {
        let (stream, asked) = self.subscribe();
        let id = self.id(asked.id);
        let parameters = Parameters::default();
        let ok = SubscribeOk { id, alias, parameters, properties };
        self.send(stream, &Message::SubscribeOk(ok));
        let event = one(self.lone.events());
        assert!(matches!(event, Event::TrackInfo { .. }), "{event:?}");
        stream
    }

    fn error(&self, id: u64, code: u64) -> Message {
        Message::RequestError(RequestError { id: self.id(id), code, ..RequestError::default() })
    }

    fn done(&self, id: u64, status: u64, streams: u64) -> Message {
        let (id, streams) = (self.id(id), Some(streams));
        Message::PublishDone(PublishDone { id, status, streams, ..PublishDone::default() })
    }

    fn closed_with(&mut self, code: u64) {
        self.lone.closed_with(code);
    }
}

fn wire(version: Version, message: &Message) -> String {
    let mut out = BytesMut::new();
    message.encode(&mut out, draft(version)).unwrap();
    digits(&out)
}

fn messages(version: Version, mut bytes: &[u8]) -> Vec<Message> {
    let mut out = vec![];
    while !bytes.is_empty() {
        let framed =
            frame_message(bytes, draft(version), 1 << 16).unwrap().expect("whole messages");
        let (body, rest) = bytes[framed.head..].split_at(framed.body);
        out.push(Message::decode(framed.kind, body, draft(version)).unwrap());
        bytes = rest;
    }
    out
}

/// SUBSCRIBE for `video` of `demo`.
fn subscribe_message(id: u64) -> Message {
    subscribe_message_with(id, Parameters::default())
}

fn subscribe_message_with(id: u64, parameters: Parameters) -> Message {
    Message::Subscribe(Subscribe { id, namespace: path("demo"), track: "video".into(), parameters })
}

/// Set-up (*Session Initialization*).
mod setup {
    use super::*;

    #[test]
    fn set_up_is_the_first_message() {
        for side in [Side::Client, Side::Server] {
            let config = Config { path: path("room/a"), ..config(side, Moqt18) };
            let mut lone = Lone::new(config);
            let setup = lone.sent(lone.own(Dir::Uni, 0));
            let expected = if side == Side::Client {
                "af00000c 01072f726f6f6d2f61 039000"
            } else {
                "af000003 049000"
            };
            assert_eq!(setup, bytes(expected));
        }
        let mut client = Lone::new(config(Side::Client, Moqt16));
        // MAX_REQUEST_ID: twice as many ids as requests may be open.
        assert_eq!(client.sent(client.own(Dir::Bi, 0)), bytes("20 0009 02 02 80004000 02 5000"));
        let mut server = Lone::new(config(Side::Server, Moqt16));
        assert!(server.sent.is_empty(), "the client comes first");
        let control = server.open(Dir::Bi, "20 0003 01 02 0a");
        assert_eq!(server.sent(control), bytes("21 0009 02 02 80004000 02 5000"));
    }

    #[test]
    fn requests_wait_for_set_up() {
        let mut lone = Lone::new(config(Side::Server, Moqt18));
        let request = lone.open(Dir::Bi, &wire(Moqt18, &subscribe_message(0)));
        assert_eq!(lone.events(), []);
        lone.open(Dir::Uni, "af000000");
        assert_eq!(lone.events().len(), 2, "the unsolicited announcements, and the subscription");
        assert!(lone.sent(request).is_empty());
    }

    /// A group before set-up waits and does not count as work.
    #[test]
    fn a_group_before_set_up_waits() {
        for version in DRAFTS {
            let mut lone = Lone::new(config(Side::Server, version));
            lone.open(Dir::Uni, "18 09 04 80 00 02 6869");
            assert_eq!((lone.events(), lone.actions()), (vec![], vec![]));
        }
    }

    #[test]
    fn set_up_must_arrive_in_time() {
        for version in DRAFTS {
            let mut lone = Lone::new(config(Side::Server, version));
            lone.advance(Duration::from_secs(10));
            assert_eq!(lone.closed_with(0x11), Error::Timeout);
        }
    }

    #[test]
    fn malformed_set_up_ends_the_session() {
        for setup in ["af000000 af000000", "0b0003 020500", "af000001 81", "af000001 01"] {
            let mut lone = Lone::new(config(Side::Server, Moqt18));
            lone.open(Dir::Uni, setup);
            lone.closed_with(0x3);
        }
        for setup in ["21 0003 01 02 0a", "03 0001 00", "20 0003 01 02 0a 20 0003 01 02 0a"] {
            let mut lone = Lone::new(config(Side::Server, Moqt16));
            lone.open(Dir::Bi, setup);
            lone.closed_with(0x3);
        }
        let mut lone = Lone::new(config(Side::Server, Moqt18));
        lone.open(Dir::Uni, "af000000");
        lone.open(Dir::Uni, "af000000");
        lone.closed_with(0x3);
    }

    /// *Control Streams*: the control stream lasts as long as the session (16).
    #[test]
    fn the_end_of_the_control_stream_ends_the_session() {
        for reset in [false, true] {
            let mut talk = Talk::quiet(Side::Server, Moqt16);
            let control = talk.control.unwrap();
            if reset {
                talk.lone.reset(control, 0)
            } else {
                talk.lone.fin(control, "")
            }
            assert_eq!(talk.lone.actions, []);
            talk.lone.advance(Limits::default().close_timeout);
            talk.closed_with(0x3);
        }
    }

    /// *GOAWAY*: no requests after it. A second one, or a URI from a client, is a violation.
    #[test]
    fn goaway_ends_new_requests_and_comes_once() {
        for (version, side) in
            DRAFTS.into_iter().flat_map(|it| [(it, Side::Client), (it, Side::Server)])
        {
            let goaway = |uri: &str| {
                let request = (version == Moqt18).then_some(0);
                Message::Goaway(Goaway { uri: uri.into(), request, ..Goaway::default() })
            };
            let start = |message| {
                let mut talk = Talk::quiet(side, version);
                let stream = talk.control.unwrap_or(StreamId::new(side.peer(), Dir::Uni, 0));
                talk.send(stream, &message);
                (talk, stream)
            };
            let (mut talk, stream) = start(goaway(""));
            assert_eq!(talk.lone.events(), [Event::GoingAway { uri: "".into(), timeout: None }]);
            talk.lone.apply(subscribe(0));
            let (subscription, result) = (token(0), Err(Error::GoingAway));
            assert_eq!(talk.lone.events(), [Event::SubscribeEnded { subscription, result }]);
            talk.send(stream, &goaway(""));
            talk.closed_with(0x3);

            let (mut talk, _) = start(goaway("moqt://b"));
            match side {
                Side::Client => {
                    let uri: Box<str> = "moqt://b".into();
                    assert_eq!(talk.lone.events(), [Event::GoingAway { uri, timeout: None }]);
                }
                Side::Server => talk.closed_with(0x3),
            }
        }
    }
}
