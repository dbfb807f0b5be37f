//! One machine against a peer, an adapter, an application and a cache that do anything. No call panics, all
//! work ends, and outputs keep the guarantees of the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use smoq::coding::ietf::{
    Draft, Fetch, FetchForm, FetchTarget, Goaway, Message, NamespaceRequest, Parameters, Publish,
    PublishDone, PublishNamespace, RequestError, RequestOk, RequestUpdate, Setup, Subscribe,
    SubscribeNamespace, SubscribeOk, TrackProperties, Unsubscribe,
};
use smoq::machine::{
    Action, Announcement, Command, Config, Event, FramePosition, FrameView, GroupKey, Input,
    Machine, NetworkPath, ObjectRun, RequestKey, Run, Source, Subgroup, Supply, Token,
};
use smoq::stream::{Code, Dir, Side, StreamId};
use smoq::{
    Cost, Error, Hop, Hops, Instant, Limits, Path, Subscription, Timestamp, TrackInfo, Version,
};

pub(crate) fn run(data: &[u8]) {
    let mut world = World::new(Choices(data));
    for _ in 0..MAX_OPS {
        if world.choices.0.is_empty() {
            break;
        }
        world.step();
    }
    world.finish();
}

const LITE: [Version; 8] = [
    Version::Lite06,
    Version::Lite05,
    Version::Lite04,
    Version::Lite03,
    Version::Lite07Wip,
    Version::Lite07Wip,
    Version::Lite02,
    Version::Lite01,
];
const DRAFTS: [Version; 2] = [Version::Moqt18, Version::Moqt16];
const OTHER_DRAFTS: [Version; 7] = [
    Version::Moqt22,
    Version::Moqt21,
    Version::Moqt20,
    Version::Moqt19,
    Version::Moqt17,
    Version::Moqt15,
    Version::Moqt14,
];

const MAX_OPS: usize = 2_000;
/// The number of calls after which a machine must have no more work.
const MAX_CALLS: usize = 100_000;

/// The rest of the input, which determines all choices.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    /// 0 at the end of the input.
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end.max(1)
    }

    fn bytes(&mut self, len: usize) -> Bytes {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        Bytes::copy_from_slice(bytes)
    }

    fn error(&mut self) -> Error {
        match self.below(8) {
            0 => Error::App(u32::MAX),
            1 => Error::Remote(Code::MAX),
            2 => Error::Cancelled,
            3 => Error::Old,
            4 => Error::NotFound,
            5 => Error::GoingAway,
            6 => Error::ProtocolViolation("reported by the application"),
            _ => Error::Internal,
        }
    }
}

/// A cache that answers anything, but not the same forever.
struct Anything {
    state: u64,
    quiet: bool,
    payload: Bytes,
}

impl Anything {
    fn next(&mut self, end: u64) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.state >> 33) % end
    }
}

impl Source for Anything {
    fn frames(&mut self, _: Token, _: u64, run: &mut Run<'_>) -> Supply {
        if self.quiet {
            return if self.next(2) == 0 { Supply::End } else { Supply::Gone(Error::Evicted) };
        }
        for _ in 0..self.next(4) {
            let there = self.next(400) as usize;
            let size = match self.next(20) {
                0 => u64::MAX,
                1..4 => there as u64 + 1,
                _ => there as u64,
            };
            let [timestamp, previous] =
                [0; 2].map(|_: u8| Timestamp::new(self.next(1 << 31) << 31));
            let payload = [self.payload.slice(..there / 2), self.payload.slice(there / 2..there)];
            let view = FrameView {
                timestamp,
                previous,
                size,
                properties: None,
                wire: None,
                payload: &payload,
                offset: 0,
            };
            if !run.push(view) {
                break;
            }
        }
        match self.next(8) {
            0 => Supply::Gone(Error::Old),
            1 => Supply::End,
            2..5 => Supply::More,
            _ => Supply::Pending,
        }
    }

    fn announcement(&mut self, _: Token) -> Option<Announcement> {
        let suffix = Path::new(["a", "b/c", "", "x"][self.next(4) as usize]);
        match if self.quiet { 0 } else { self.next(4) } {
            0 => None,
            1 => Some(Announcement::Ended { suffix }),
            2 => {
                let track = ["", "video", "."][self.next(3) as usize].into();
                let largest = Some(FramePosition::new(self.next(9), u64::MAX));
                Some(Announcement::Track { suffix, track, info: TrackInfo::default(), largest })
            }
            _ => {
                let hops: Hops = (0..self.next(34)).map(Hop::new).collect();
                let cost = Cost { warm: self.next(9), cold: u64::MAX };
                Some(Announcement::Active { suffix, hops, cost })
            }
        }
    }
}

struct World<'a> {
    choices: Choices<'a>,
    machine: Machine,
    version: Version,
    source: Anything,
    side: Side,
    now: Instant,
    /// The streams of both sides, and the number of each kind.
    streams: Vec<StreamId>,
    opened: [[u64; 2]; 2],
    /// Our halves of streams that may be written.
    open: BTreeSet<StreamId>,
    stopped: BTreeSet<StreamId>,
    requests: Vec<RequestKey>,
    /// Incoming groups: the missing bytes of the last frame, and the subscription.
    groups: BTreeMap<GroupKey, (u64, Token)>,
    old_groups: Vec<GroupKey>,
    subscriptions: BTreeSet<Token>,
    given: BTreeSet<Token>,
    fetches: BTreeSet<Token>,
    announced: BTreeSet<Path>,
    tokens: u32,
    closed: bool,
    ended: bool,
}

impl<'a> World<'a> {
    fn new(mut choices: Choices<'a>) -> Self {
        let (shape, state) = (choices.byte(), choices.byte());
        let side = if shape & 4 == 0 { Side::Client } else { Side::Server };
        let version = match usize::from(shape & 3) {
            at if shape & 64 == 0 => LITE[at | usize::from(shape >> 3 & 4)],
            at if at % 2 == 0 => DRAFTS[at / 2],
            _ => OTHER_DRAFTS[usize::from(state) % OTHER_DRAFTS.len()],
        };
        let mut config = Config::new(side, version);
        config.hop = Hop::new(u64::from(shape >> 7));
        config.subgroups = shape & 96 == 96;
        if shape & 8 != 0 {
            config.interests = vec![Path::root(), Path::new("room")];
        }
        if shape & 16 != 0 {
            config.limits = small();
        }
        let payload = Bytes::from_static(&[7; 400]);
        Self {
            choices,
            version,
            machine: Machine::new(config, Instant::ZERO),
            source: Anything { state: state.into(), quiet: false, payload },
            side,
            now: Instant::ZERO,
            streams: Vec::new(),
            opened: [[0; 2]; 2],
            open: BTreeSet::new(),
            stopped: BTreeSet::new(),
            requests: Vec::new(),
            groups: BTreeMap::new(),
            old_groups: Vec::new(),
            subscriptions: BTreeSet::new(),
            given: BTreeSet::new(),
            fetches: BTreeSet::new(),
            announced: BTreeSet::new(),
            tokens: 0,
            closed: false,
            ended: false,
        }
    }

    fn step(&mut self) {
        match self.choices.below(16) {
            0 | 1 => self.peer_opens(),
            2..6 => self.data(),
            6 => {
                let input = self.odd_input();
                self.machine.handle(self.now, input);
            }
            7 => {
                self.now = self.now + Duration::from_millis(u64::from(self.choices.byte()) << 4);
                self.machine.handle_timeout(self.now);
            }
            8..11 => {
                let command = self.command();
                self.machine.apply(command);
            }
            11 => drop(self.event()),
            12 => drop(self.action()),
            13 => drop(self.open()),
            14 => drop((self.datagram(), self.write())),
            _ => {
                // The source may never end, so each is called only a few times.
                for _ in 0..8 {
                    self.event();
                    self.action();
                    self.open();
                    self.datagram();
                    self.write();
                }
            }
        }
        self.closed |= self.machine.is_closed();
    }

    /// Takes all outputs, after which there must be none.
    fn finish(&mut self) {
        self.choices.0 = &[];
        self.source.quiet = true;
        for _ in 0..MAX_CALLS {
            let more = [self.event(), self.action(), self.open(), self.datagram(), self.write()];
            if !more.contains(&true) && !self.machine.has_work() {
                break;
            }
        }
        assert!(!self.machine.has_work(), "the machine still has work");
        if self.machine.is_closed() {
            assert!(self.ended, "no event for the end");
            assert_eq!(self.machine.poll_timeout(), None);
        } else {
            self.machine.apply(Command::Close { error: Error::Internal });
            assert!(self.action() && self.event() && self.ended);
        }
        assert!(!self.event() && !self.action() && !self.open());
        assert!(!self.datagram() && !self.write());
    }

    // ---- in ----------------------------------------------------------------------------------

    fn peer_opens(&mut self) {
        let dir = if self.choices.byte() & 1 == 0 { Dir::Bi } else { Dir::Uni };
        let index = &mut self.opened[1][dir as usize];
        let id = StreamId::new(self.side.peer(), dir, *index);
        *index += 1;
        self.streams.push(id);
        if dir == Dir::Bi {
            self.open.insert(id);
        }
        self.machine.handle(self.now, Input::Opened { id });
        self.data_on(id);
    }

    fn data(&mut self) {
        let id = self.stream();
        self.data_on(id);
    }

    fn data_on(&mut self, id: StreamId) {
        let shape = self.choices.byte();
        let bytes = match shape & 0x7f {
            // Far more than is in the input.
            0x7f => vec![0; 70_000].into(),
            0x60.. if Draft::of(self.version).is_some() => self.message(),
            len => self.choices.bytes(usize::from(len)),
        };
        let _ = self.machine.read_limit(id);
        self.machine.handle(self.now, Input::Data { id, bytes, fin: shape & 0x80 != 0 });
    }

    /// A message that a peer of moq-transport may send. Random bytes rarely are one.
    fn message(&mut self) -> Bytes {
        let draft = Draft::of(self.version).expect("a draft");
        let (kind, n) = (self.choices.below(24), u64::from(self.choices.byte()));
        let id = (self.version <= Version::Moqt16).then_some(n);
        let (namespace, track) = (Path::new(["a/b", "room/x", ""][n as usize % 3]), "track".into());
        let (parameters, properties) = (Parameters::default(), TrackProperties::default());
        let code = u64::from(self.choices.byte());
        let subscribe = Subscribe {
            id: n,
            namespace: namespace.clone(),
            track,
            parameters: parameters.clone(),
        };
        let message = match kind {
            0 | 1 => {
                let setup = Setup { max_request_id: 8 * n, ..Setup::default() };
                Message::setup(setup, self.side.peer(), draft)
            }
            2 | 3 => Message::Subscribe(subscribe),
            4 => Message::TrackStatus(subscribe),
            5 | 6 => Message::SubscribeOk(SubscribeOk { id, alias: code, parameters, properties }),
            7 => Message::RequestOk(RequestOk { id, parameters, properties }),
            8 => Message::RequestError(RequestError { id, code, ..RequestError::default() }),
            9 => {
                let streams = Some(code);
                Message::PublishDone(PublishDone {
                    id,
                    status: 2,
                    streams,
                    ..PublishDone::default()
                })
            }
            10 => {
                let Subscribe { track, .. } = subscribe;
                let id = n;
                Message::Publish(Publish {
                    id,
                    namespace,
                    track,
                    alias: code,
                    parameters,
                    properties,
                })
            }
            11 => Message::PublishNamespace(PublishNamespace { id: n, namespace, parameters }),
            12 => Message::SubscribeNamespace(SubscribeNamespace {
                id: n,
                prefix: namespace,
                ..SubscribeNamespace::default()
            }),
            13 => Message::Namespace(namespace),
            14 => Message::NamespaceDone(namespace),
            15 => {
                let parameters = Parameters { priority: Some(code as u8), ..parameters };
                Message::RequestUpdate(RequestUpdate {
                    id: n,
                    existing: id.and(Some(code)),
                    parameters,
                })
            }
            16 => Message::Unsubscribe(Unsubscribe { id: Some(n) }),
            17 => Message::PublishNamespaceDone(NamespaceRequest::Id(n)),
            18 => Message::MaxRequestId(8 * n),
            19 => {
                let request = id.is_none().then_some(n);
                Message::Goaway(Goaway { request, ..Goaway::default() })
            }
            20 => Message::SubscribeTracks(SubscribeNamespace {
                id: n,
                prefix: namespace,
                ..SubscribeNamespace::default()
            }),
            21 => {
                let target = match draft.fetch {
                    FetchForm::Filter => FetchTarget::Track { namespace, track: subscribe.track },
                    FetchForm::Target => FetchTarget::Relative { joins: code, groups_back: n },
                };
                Message::Fetch(Fetch { id: n, target, parameters })
            }
            // A subgroup: its header, and objects without properties.
            _ => {
                let group = vec![0x18, n as u8 & 0x3f, code as u8 & 0x3f, 0, 0, 2, 1, 2, 0, 0, 0];
                return group.into();
            }
        };
        let mut out = BytesMut::new();
        // A message that the draft does not have stays empty.
        let _ = message.encode(&mut out, draft);
        out.freeze()
    }

    /// An existing stream, mostly one of the last, or a new one.
    fn stream(&mut self) -> StreamId {
        let choice = usize::from(self.choices.byte());
        let back = self.streams.len().checked_sub(1 + choice);
        back.map_or(StreamId::from_u64(choice as u64), |at| self.streams[at])
    }

    fn odd_input(&mut self) -> Input {
        let (kind, id) = (self.choices.below(16), self.stream());
        let code = if kind & 8 == 0 { Code::new(kind as u64) } else { Code::MAX };
        match kind {
            0..5 | 8 => Input::Reset { id, code },
            5..8 | 9 => Input::Stopped { id, code },
            10 | 11 => Input::Writable { id },
            12 => match self.choices.byte() {
                n @ 0..0x20 => Input::NetworkPath(NetworkPath {
                    max_datagram: usize::from(n) << 3,
                    ..NetworkPath::default()
                }),
                0x20..0x40 => Input::DatagramsAvailable,
                n => Input::Datagram { bytes: self.choices.bytes(usize::from(n & 0x1f)) },
            },
            13 => Input::Available { dir: Dir::Bi },
            14 => Input::Available { dir: Dir::Uni },
            _ if self.choices.byte() == 0xff => {
                Input::Closed { error: smoq::Error::from_session_code(code) }
            }
            _ => Input::Available { dir: Dir::Uni },
        }
    }

    fn command(&mut self) -> Command {
        let (kind, choice) = (self.choices.below(20), usize::from(self.choices.byte()));
        let request = self.requests.len().checked_sub(1 + choice / 2).map(|at| self.requests[at]);
        let subscription = *self.subscriptions.iter().nth(choice % 4).unwrap_or(&Token::default());
        self.tokens += 1;
        let token = Token { slot: self.tokens, generation: 1 };
        let want = Subscription::default().priority(choice as u8).ordered(choice % 2 == 0);
        let mut info = TrackInfo::default();
        info.priority = choice as u8;
        let sequence = match choice {
            0xff => u64::MAX,
            _ => choice as u64 / 8,
        };
        match (kind, request) {
            (0, _) => {
                let (broadcast, track) = (Path::new("a/b"), "track".into());
                self.subscriptions.insert(token);
                Command::Subscribe { subscription: token, broadcast, track, want }
            }
            (1, _) => Command::Unsubscribe { subscription },
            (2, _) => Command::UpdateSubscribe { subscription, want },
            (3, _) => {
                let group = self.old_groups.iter().rev().nth(choice);
                match group.copied() {
                    Some(group) => {
                        self.groups.remove(&group);
                        Command::StopGroup { group, error: self.choices.error() }
                    }
                    None => Command::Unsubscribe { subscription },
                }
            }
            (4, _) if choice == 0xff => Command::Drain,
            (4, _) if choice == 0xfe => {
                Command::GoAway { uri: "moqt://b".into(), timeout: Duration::from_millis(sequence) }
            }
            (5, _) if choice == 0xff => Command::Close { error: self.choices.error() },
            (4..7, Some(request)) => Command::AcceptSubscribe { request, info, largest: None },
            (7, Some(request)) if choice % 2 == 0 => Command::AcceptOffer { request },
            (7, Some(request)) => Command::AcceptTrack { request, info, largest: None },
            (8, Some(request)) => {
                Command::AcceptAnnounce { request, reader: token, active: sequence }
            }
            (9, Some(request)) => Command::AnnouncementsReady { request },
            (10, Some(request)) => Command::FinishSubscribe { request, end: sequence },
            (11, Some(request)) => Command::Refuse { request, error: self.choices.error() },
            (12..14, Some(request)) => Command::GroupReady { request, sequence },
            (17, _) if choice % 2 == 0 => {
                self.fetches.insert(token);
                Command::Fetch {
                    fetch: token,
                    broadcast: Path::new("a/b"),
                    track: "track".into(),
                    priority: choice as u8,
                    sequence,
                    first_frame: u64::from(choice % 8 == 6),
                    last_frame: (choice % 16 > 12).then_some(2),
                }
            }
            (17, _) => {
                let fetch = self.fetches.iter().nth(choice % 4).copied().unwrap_or_default();
                Command::CancelFetch { fetch }
            }
            (18, Some(request)) => {
                self.given.insert(token);
                Command::AcceptFetch {
                    request,
                    group: token,
                    info,
                    frames: (choice % 2 == 0).then_some(sequence),
                    ends_track: choice % 4 < 2,
                }
            }
            (19, Some(request)) if choice % 8 == 1 => {
                let end = FramePosition::new(sequence, 1);
                Command::AcceptRange { request, info, end, ends_track: choice % 16 == 1 }
            }
            (19, Some(request)) if choice % 8 == 3 => {
                self.given.insert(token);
                let run = ObjectRun {
                    sequence,
                    subgroup: (choice % 3 > 0).then_some(choice as u64 % 5),
                    priority: (choice % 5 > 0).then_some(choice as u8),
                    object: sequence,
                    first_frame: choice as u64 % 7,
                    last_frame: (choice % 2 > 0).then_some(sequence),
                };
                Command::RangeGroup { request, group: token, run, gap: choice % 16 == 3 }
            }
            (19, Some(request)) if choice % 8 == 5 => {
                Command::EndRange { request, gap: choice % 16 == 5 }
            }
            (19, Some(request)) if choice % 8 == 7 => {
                self.given.insert(token);
                let (object, ends_group) = (choice as u64 / 64, choice % 16 == 7);
                let subgroup = Subgroup::of_datagram(object, None, ends_group).expect("a small id");
                let number = if choice % 32 == 7 { object } else { subgroup.number };
                let subgroup = Subgroup { number, ..subgroup };
                Command::Subgroup { request, group: token, sequence, subgroup }
            }
            (19, Some(request)) => {
                self.given.insert(token);
                Command::Datagram { request, group: token, sequence }
            }
            (_, Some(request)) => {
                self.given.insert(token);
                let first_frame = if choice % 8 == 7 { choice as u64 } else { 0 };
                Command::Group { request, group: token, sequence, first_frame }
            }
            (_, None) if choice % 16 == 2 => {
                Command::SubscribeTracks { tracks: token, prefix: Path::new("a") }
            }
            (_, None) if choice % 16 == 10 => Command::UnsubscribeTracks { tracks: token },
            (_, None) if choice % 4 == 1 => Command::Probe,
            (_, None) if choice % 4 == 3 => Command::Unprobe,
            (_, None) => Command::UpdateSubscribe { subscription, want },
        }
    }

    // ---- out ---------------------------------------------------------------------------------

    fn event(&mut self) -> bool {
        let Some(event) = self.machine.poll_event() else { return false };
        assert!(!self.ended, "{event:?} after the end");
        match event {
            Event::Announced { path, hops, .. } => {
                assert!(!hops.has_loop());
                self.announced.insert(path);
            }
            // With two prefixes a path may be announced twice.
            Event::Unannounced { path } => drop(self.announced.remove(&path)),
            Event::AnnounceRequested { request, .. }
            | Event::TracksRequested { request, .. }
            | Event::FetchRequested { request, .. }
            | Event::RangeRequested { request, .. }
            | Event::SubscribeRequested { request, .. }
            | Event::TrackOffered { request, .. }
            | Event::BroadcastOffered { request, .. }
            | Event::TrackRequested { request, .. } => {
                assert!(!self.requests.contains(&request), "the key is in use");
                self.requests.push(request);
            }
            Event::SubscribeUpdated { request, .. } => assert!(self.requests.contains(&request)),
            Event::RequestEnded { request, .. } => assert!(self.requests.contains(&request)),
            Event::GroupReleased { group, .. } => assert!(self.given.remove(&group), "twice"),
            Event::TrackInfo { subscription, .. } => {
                assert!(self.subscriptions.contains(&subscription));
            }
            Event::Datagram { subscription, .. } => {
                assert!(self.subscriptions.contains(&subscription));
            }
            Event::FetchStarted { fetch, group } => {
                assert!(self.fetches.contains(&fetch));
                assert_eq!(self.groups.insert(group, (0, fetch)), None);
                self.old_groups.push(group);
            }
            Event::FetchEnded { fetch, .. } => {
                assert!(self.fetches.remove(&fetch), "twice");
                assert!(self.groups.values().all(|(_, of)| *of != fetch));
            }
            Event::Group { subscription, group, .. }
            | Event::Subgroup { subscription, group, .. } => {
                assert!(self.subscriptions.contains(&subscription));
                assert_eq!(self.groups.insert(group, (0, subscription)), None);
                self.old_groups.push(group);
            }
            Event::Frame { group, size, payload, .. } => {
                let (missing, _) = self.groups.get_mut(&group).expect("an open group");
                assert_eq!(*missing, 0, "the previous frame is incomplete");
                *missing = size.checked_sub(payload.len() as u64).expect("at most its size");
            }
            Event::Payload { group, bytes } => {
                let (missing, _) = self.groups.get_mut(&group).expect("an open group");
                assert!(!bytes.is_empty());
                *missing = missing.checked_sub(bytes.len() as u64).expect("at most its size");
            }
            Event::GroupEnded { group, result } => {
                // A stopped group may have ended before.
                if let Some((missing, _)) = self.groups.remove(&group) {
                    assert!(result.is_err() || missing == 0, "an incomplete frame");
                }
            }
            Event::SubscribeEnded { subscription, .. } => {
                assert!(self.subscriptions.remove(&subscription), "twice");
                assert!(self.groups.values().all(|(_, of)| *of != subscription));
            }
            Event::Closed { .. } => self.ended = true,
            _ => {}
        }
        true
    }

    fn action(&mut self) -> bool {
        let Some(action) = self.machine.poll_action() else { return false };
        match action {
            Action::Close { .. } => assert!(self.machine.is_closed()),
            Action::Reset { id, .. } => assert!(self.open.remove(&id), "{id} is closed"),
            Action::Stop { id, .. } => {
                assert!(self.streams.contains(&id));
                assert!(self.stopped.insert(id), "{id} was stopped before");
            }
            Action::Resume { id } | Action::SetPriority { id, .. } => {
                assert!(self.streams.contains(&id));
            }
            _ => {}
        }
        true
    }

    fn open(&mut self) -> bool {
        let answer = self.choices.byte();
        let Some(open) = self.machine.poll_open(&mut self.source) else { return false };
        assert!(!self.closed, "a stream after the end");
        match answer {
            // Dropped without an answer. The choices end with 0, so this ends as well.
            0xf0.. => {}
            0xe0.. => open.blocked(),
            _ => {
                let index = &mut self.opened[0][open.dir() as usize];
                let id = StreamId::new(self.side, open.dir(), *index);
                *index += 1;
                self.streams.push(id);
                self.open.insert(id);
                open.opened(id);
            }
        }
        true
    }

    fn datagram(&mut self) -> bool {
        let Some(datagram) = self.machine.poll_datagram(&mut self.source) else { return false };
        assert!(!self.closed, "a datagram after the end");
        assert!(datagram.size() < 0x20 << 3 && !datagram.header().is_empty());
        match self.choices.byte() {
            0xf0.. => {}
            0xe0.. => datagram.blocked(),
            _ => datagram.sent(),
        }
        true
    }

    fn write(&mut self) -> bool {
        let answer = self.choices.byte();
        let Some(mut write) = self.machine.poll_write(&mut self.source) else { return false };
        assert!(!self.closed, "bytes after the end");
        let (id, len, fin) = (write.id(), write.len(), write.fin());
        assert!(self.open.contains(&id), "{id} is closed");
        assert!(len > 0 || fin, "an empty write");
        assert_eq!(write.chunks().iter().map(Bytes::len).sum::<usize>(), len);
        match answer {
            0xf0.. => {}
            0xc0.. => write.blocked(len.saturating_sub(1).min(usize::from(answer & 0x1f))),
            0x80.. if len > 0 => write.accepted(len.min(1 + usize::from(answer & 0x3f))),
            _ => write.accepted(len),
        }
        let all = answer < 0x80 || (answer < 0xc0 && len <= 1 + usize::from(answer & 0x3f));
        if fin && all {
            self.open.remove(&id);
        }
        true
    }
}

/// Small limits.
fn small() -> Limits {
    let mut limits = Limits::default();
    limits.frame_bytes = 50;
    limits.group_frames = 3;
    limits.group_bytes = 90;
    limits.message_bytes = 40;
    limits.path_segments = 2;
    limits.announcements = 2;
    limits.subscriptions = 2;
    limits.requests = 3;
    limits.group_streams = 3;
    limits.unbound_streams = 1;
    limits.pending_groups = 2;
    limits.datagrams = 2;
    limits.stream_buffer = 20;
    limits.request_buffer = 30;
    limits.hops = 3;
    limits
}
