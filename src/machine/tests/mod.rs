//! Machines in pairs, over links of every kind, and single machines against a peer made of bytes.

mod accept;
mod announce;
mod datagrams;
mod deployed_peers;
mod fetch;
mod goaway;
mod groups;
mod hostile;
mod ietf;
mod initial;
mod limits;
mod pairs;
mod priority;
mod probe;
mod session;
mod subscribe;
mod version_setup;

extern crate std;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};
use core::time::Duration;
use std::println;

use bytes::{Bytes, BytesMut};

use super::bare_machine::AnyDialect;
use super::engine::CONTROL_PRIORITY;
use super::*;
use crate::coding::DecodeError;
use crate::coding::lite::{Features, HopsForm};
use crate::error::Error;
use crate::hop::{Hop, Hops};
use crate::limits::Limits;
use crate::path::Path;
use crate::sim::{Bare, Census, Endpoint, Frame, Link, Pair, Random, Shelf};
use crate::stream::{Code, Dir, Side};
use crate::subscription::{Subscription, TrackInfo};
use crate::time::Timestamp;
use Version::{Lite01, Lite02, Lite03, Lite04, Lite05, Lite06, Lite07Wip};

/// The versions of moq-lite. Tests of moq-transport are in `ietf`.
const LITE: [Version; 7] = [Lite07Wip, Lite06, Lite05, Lite04, Lite03, Lite02, Lite01];

/// The hops of the client and of the server.
const CLIENT: Hop = Hop::new(0x1111);
const SERVER: Hop = Hop::new(0x2222);

fn config(side: Side, version: Version) -> Config {
    let hop = if side == Side::Client { CLIENT } else { SERVER };
    Config { hop, ..Config::new(side, version) }
}

/// A token of the layer above: the slot of a group, a subscription or a reader.
fn token(slot: u32) -> Token {
    Token { slot, generation: 7 }
}

fn path(text: &str) -> Path {
    Path::new(text)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

// ---- two machines ----------------------------------------------------------------------------

type Peers = Pair<Bare<Shelf>, Bare<Shelf>>;

fn machine(config: Config) -> Bare<Shelf> {
    Bare::new(Machine::new(config, Instant::ZERO), Shelf::new())
}

fn join(client: Config, server: Config, link: Link) -> Peers {
    let [client, server] = [client, server].map(machine);
    Pair::new(client, server, link)
}

/// A pair without announce requests.
fn pair(version: Version, link: Link) -> Peers {
    join(config(Side::Client, version), config(Side::Server, version), link)
}

fn links() -> impl Iterator<Item = Link> {
    let seeds = |make: fn(u64) -> Link, count| (0..count).map(make);
    [Link::perfect()]
        .into_iter()
        .chain(seeds(Link::wide, 2))
        .chain(seeds(Link::hostile, 4))
        .chain(seeds(Link::byte_by_byte, 2))
}

/// Runs a test with every version over every link.
fn on_every_link(test: impl Fn(Version, Link)) {
    for version in LITE {
        for link in links() {
            println!("{version} {link:?}");
            test(version, link);
        }
    }
}

/// Runs a test of requests with every version over every link. Both ends request all announcements.
fn on_every_dialect(test: impl Fn(Version, Peers)) {
    on_every_link(|version, link| {
        let end = |side| Config { interests: vec![Path::root()], ..config(side, version) };
        let mut pair = join(end(Side::Client), end(Side::Server), link);
        pair.run_until_idle();
        // The announce requests are not part of these tests.
        let server = one(pair.server.take_events());
        assert!(matches!(server, Event::AnnounceRequested { .. }), "{server:?}");
        let client = one(pair.client.take_events());
        assert!(matches!(client, Event::AnnounceRequested { .. }), "{client:?}");
        test(version, pair);
    });
}

/// The only element.
fn one<T: core::fmt::Debug>(mut list: Vec<T>) -> T {
    assert_eq!(list.len(), 1, "{list:?}");
    list.remove(0)
}

/// The client subscribes to the track `video` of `demo`, with the token `slot`.
fn subscribe(slot: u32) -> Command {
    let want = Subscription::default();
    subscribe_with(slot, want)
}

fn subscribe_with(slot: u32, want: Subscription) -> Command {
    let (broadcast, track) = (path("demo"), "video".into());
    Command::Subscribe { subscription: token(slot), broadcast, track, want }
}

/// The server accepts all requests of the client, for track information and for subscriptions. Returns the
/// subscriptions in the order of arrival.
fn accept_all(pair: &mut Peers) -> Vec<RequestKey> {
    accept_all_as(pair, &TrackInfo::default())
}

fn accept_all_as(pair: &mut Peers, info: &TrackInfo) -> Vec<RequestKey> {
    pair.run_until_idle();
    let mut requests = vec![];
    for event in pair.server.take_events() {
        match event {
            Event::TrackRequested { request, .. } => {
                pair.server.apply(Command::AcceptTrack {
                    request,
                    info: info.clone(),
                    largest: None,
                });
            }
            Event::SubscribeRequested { request, .. } => {
                pair.server.apply(Command::AcceptSubscribe {
                    request,
                    info: info.clone(),
                    largest: None,
                });
                requests.push(request);
            }
            other => panic!("{other:?}"),
        }
    }
    requests
}

/// The client subscribes and the server accepts.
fn subscribed(pair: &mut Peers, slot: u32) -> RequestKey {
    pair.client.apply(subscribe(slot));
    let request = one(accept_all(pair));
    pair.run_until_idle();
    let event = one(pair.client.take_events());
    let (subscription, info) = (token(slot), TrackInfo::default());
    assert_eq!(event, Event::TrackInfo { subscription, info });
    request
}

/// The track information that precedes everything else.
fn informed(slot: u32) -> Event {
    Event::TrackInfo { subscription: token(slot), info: TrackInfo::default() }
}

/// A group for an incoming subscription; its token is its number.
fn group(request: RequestKey, sequence: u64) -> Command {
    Command::Group { request, group: token(sequence as u32), sequence, first_frame: 0 }
}

/// Declares the first group of an incoming subscription.
fn start(request: RequestKey, group: u64) -> Command {
    Command::StartSubscribe { request, group }
}

/// The same at the peer.
fn started(slot: u32, group: u64) -> Event {
    Event::SubscribeStarted { subscription: token(slot), group }
}

/// The groups that an application received. Checks what the machine guarantees about the order of events.
#[derive(Debug, Default)]
struct Received {
    names: BTreeMap<GroupKey, (u32, u64)>,
    groups: BTreeMap<(u32, u64), ReceivedGroup>,
    ended: BTreeMap<u32, Result<Option<u64>, Error>>,
    informed: Vec<u32>,
    started: BTreeMap<u32, u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ReceivedGroup {
    first_frame: u64,
    /// Timestamp, declared size, and the bytes received.
    frames: Vec<(Option<u64>, u64, Vec<u8>)>,
    result: Option<Result<(), Error>>,
}

impl Received {
    fn of(events: Vec<Event>) -> Self {
        let mut received = Self::default();
        received.record(events);
        received
    }

    fn record(&mut self, events: Vec<Event>) {
        for event in events {
            self.record_one(event);
        }
    }

    fn record_one(&mut self, event: Event) {
        match event {
            Event::TrackInfo { subscription, .. } => {
                assert!(!self.informed.contains(&subscription.slot), "informed twice");
                self.informed.push(subscription.slot);
            }
            Event::Group { subscription, group, sequence, first_frame } => {
                let slot = subscription.slot;
                assert!(self.informed.contains(&slot), "a group before its track is known");
                assert!(!self.ended.contains_key(&slot), "a group after the end");
                assert_eq!(self.names.insert(group, (slot, sequence)), None, "a key in use");
                let begun = ReceivedGroup { first_frame, ..ReceivedGroup::default() };
                let before = self.groups.insert((slot, sequence), begun);
                assert_eq!(before, None, "a group twice");
            }
            Event::Frame { group, timestamp, size, payload, .. } => {
                let group = self.group(group);
                if let Some((_, size, bytes)) = group.frames.last() {
                    assert_eq!(*size, bytes.len() as u64, "the previous frame is incomplete");
                }
                assert!(payload.len() as u64 <= size);
                group.frames.push((
                    timestamp.map(Timestamp::units),
                    size,
                    payload.to_bytes().to_vec(),
                ));
            }
            Event::Payload { group, bytes } => {
                assert!(!bytes.is_empty());
                let group = self.group(group);
                let (_, size, payload) = group.frames.last_mut().expect("a frame began");
                payload.extend_from_slice(&bytes);
                assert!(payload.len() as u64 <= *size);
            }
            Event::GroupEnded { group, result } => {
                if let (Ok(()), Some((_, size, bytes))) = (&result, self.group(group).frames.last())
                {
                    assert_eq!(*size, bytes.len() as u64, "the last frame is incomplete");
                }
                self.group(group).result = Some(result);
                self.names.remove(&group);
            }
            Event::SubscribeStarted { subscription, group } => {
                let slot = subscription.slot;
                assert!(!self.ended.contains_key(&slot), "a start after the end");
                assert_eq!(self.started.insert(slot, group), None, "started twice");
            }
            Event::SubscribeEnded { subscription, result } => {
                let slot = subscription.slot;
                assert!(self.names.values().all(|(sub, _)| *sub != slot), "a group has not ended");
                assert_eq!(self.ended.insert(slot, result), None, "ended twice");
            }
            other => panic!("{other:?}"),
        }
    }

    fn group(&mut self, key: GroupKey) -> &mut ReceivedGroup {
        let name = self.names.get(&key).expect("a group that began");
        self.groups.get_mut(name).expect("a group that began")
    }
}

/// A complete group, as the other end receives it.
fn whole(version: Version, frames: &[Frame]) -> ReceivedGroup {
    let has_time = Features::of(version).timestamps;
    let frame = |it: &Frame| (has_time.then_some(it.timestamp.units()), it.size, it.bytes());
    let frames = frames.iter().map(frame).collect();
    ReceivedGroup { first_frame: 0, frames, result: Some(Ok(())) }
}

// ---- one machine -----------------------------------------------------------------------------

/// A machine whose peer is made of bytes, on a connection without limits.
struct Lone {
    end: Bare<Shelf>,
    now: Instant,
    version: Version,
    side: Side,
    /// The number of streams opened by the machine and by the peer, bidirectional and unidirectional.
    opened: [[u64; 2]; 2],
    /// The bytes that the machine wrote, by stream.
    sent: BTreeMap<StreamId, (Vec<u8>, bool)>,
    /// Its actions, without priorities.
    actions: Vec<Action>,
    priorities: BTreeMap<StreamId, i32>,
    /// Whether the peer accepts writes.
    reads: bool,
    /// How many streams of each kind it may open.
    grants: u64,
}

impl Lone {
    fn new(config: Config) -> Self {
        let (side, version) = (config.side, config.agreed.version());
        let mut lone = Self {
            end: machine(config),
            now: Instant::ZERO,
            version,
            side,
            opened: [[0; 2]; 2],
            sent: BTreeMap::new(),
            actions: vec![],
            priorities: BTreeMap::new(),
            reads: true,
            grants: u64::MAX,
        };
        lone.run();
        lone
    }

    /// One that received SETUP, if the version has it.
    fn ready(side: Side, version: Version) -> Self {
        Self::ready_with(config(side, version))
    }

    fn ready_with(config: Config) -> Self {
        let mut lone = Self::new(config);
        if Features::of(lone.version).setup {
            lone.open(Dir::Uni, "01 01 00");
        }
        if Features::of(lone.version).version_setup {
            lone.settle();
        }
        lone.actions.clear();
        lone
    }

    /// Agrees on the version, where that takes messages. Its stream is not among those that are counted.
    fn settle(&mut self) {
        let number = if self.version == Lite01 { "c0000000ff0dad01" } else { "c0000000ff0dad02" };
        match self.side {
            Side::Client => {
                let id = StreamId::new(self.side, Dir::Bi, 0);
                assert_eq!(self.sent(id), bytes(&format!("20 000a 01 {number} 00")));
                self.data(id, &format!("21 0009 {number} 00"));
            }
            Side::Server => {
                let id = self.open(Dir::Bi, &format!("20 000a 01 {number} 00"));
                assert_eq!(self.sent(id), bytes(&format!("21 0009 {number} 00")));
            }
        }
    }

    /// Pulls all events, actions and writes.
    fn run(&mut self) {
        // A call without a result may still clean up, and enable another one.
        let mut nothing = 0;
        while nothing < 3 {
            let mut more = self.end.work(self.now);
            while let Some(action) = self.end.poll_action() {
                more = true;
                match action {
                    Action::SetPriority { id, priority } => {
                        self.priorities.insert(id, priority);
                    }
                    action => self.actions.push(action),
                }
            }
            if let Some(open) = self.end.poll_open() {
                more = true;
                let count = &mut self.opened[0][open.dir() as usize];
                if *count >= self.grants {
                    open.blocked();
                    continue;
                }
                let id = StreamId::new(self.side, open.dir(), *count);
                *count += 1;
                open.opened(id);
            }
            if let Some(mut write) = self.end.poll_write() {
                more = true;
                if !self.reads {
                    write.blocked(0);
                    continue;
                }
                let (bytes, fin) = self.sent.entry(write.id()).or_default();
                bytes.extend_from_slice(&write.chunks().concat());
                *fin |= write.fin();
                let n = write.len();
                write.accepted(n);
            }
            nothing = if more { 0 } else { nothing + 1 };
        }
        assert!(!self.end.has_work(), "has_work without work");
    }

    fn handle(&mut self, input: Input) {
        self.end.handle(self.now, input);
        self.run();
    }

    fn apply(&mut self, command: Command) {
        self.end.apply(command);
        self.run();
    }

    fn advance(&mut self, time: Duration) {
        self.now = self.now + time;
        self.end.handle_timeout(self.now);
        self.run();
    }

    /// The peer opens a stream and writes.
    fn open(&mut self, dir: Dir, bytes: &str) -> StreamId {
        let count = &mut self.opened[1][dir as usize];
        let id = StreamId::new(self.side.peer(), dir, *count);
        *count += 1;
        self.end.handle(self.now, Input::Opened { id });
        self.data(id, bytes);
        id
    }

    fn data(&mut self, id: StreamId, bytes: &str) {
        self.handle(Input::Data { id, bytes: hex(bytes), fin: false });
    }

    fn fin(&mut self, id: StreamId, bytes: &str) {
        self.handle(Input::Data { id, bytes: hex(bytes), fin: true });
    }

    fn reset(&mut self, id: StreamId, code: u64) {
        self.handle(Input::Reset { id, code: Code::new(code) });
    }

    fn stop(&mut self, id: StreamId, code: u64) {
        self.handle(Input::Stopped { id, code: Code::new(code) });
    }

    fn events(&mut self) -> Vec<Event> {
        self.end.take_events()
    }

    /// The `index`-th stream of the machine, without the one on which the version was agreed.
    fn own(&self, dir: Dir, index: u64) -> StreamId {
        let settled = self.side == Side::Client && Features::of(self.version).version_setup;
        StreamId::new(self.side, dir, index + u64::from(settled && dir == Dir::Bi))
    }

    /// The bytes that the machine wrote since the last call, as digits, and FIN.
    fn sent(&mut self, id: StreamId) -> String {
        let Some((bytes, fin)) = self.sent.remove(&id) else { return String::new() };
        digits(&bytes) + if fin { " fin" } else { "" }
    }

    fn actions(&mut self) -> Vec<Action> {
        core::mem::take(&mut self.actions)
    }

    /// The session closed with this code, and has no further output.
    fn closed_with(&mut self, code: u64) -> Error {
        let last = self.actions.last();
        let closed = matches!(last, Some(Action::Close { code: it, .. }) if it.as_u64() == code);
        assert!(closed, "{last:?}");
        assert!(self.end.machine.is_closed());
        match self.events().pop() {
            Some(Event::Closed { error }) => error,
            other => panic!("{other:?}"),
        }
    }
}

// ---- what a peer writes ----------------------------------------------------------------------

/// A request for all announcements, from an anonymous peer.
fn announce_request_bytes(version: Version) -> &'static str {
    match version {
        Lite04 | Lite05 => "01 02 00 00",
        Lite07Wip => "01 02 00 01",
        _ => "01 01 00",
    }
}

/// The messages before announcements, from 0x1234, which has none at first.
fn nothing_announced(version: Version) -> &'static str {
    match version {
        Lite01 | Lite02 => "01 00",
        Lite03 | Lite04 => "",
        Lite07Wip => "03 9234 00",
        _ => "03 5234 00",
    }
}

/// The announcement of `cam`, which came through hop 7.
fn cam_bytes(version: Version) -> &'static str {
    match version {
        Lite01 | Lite02 => "05 01 03 63616d",
        Lite03 => "06 01 03 63616d 01",
        Lite06 => "00 08 03 63616d 01 07 00 00",
        Lite07Wip => "00 0c 00 00 03 63616d 00 01 07 00 00 00",
        _ => "07 01 03 63616d 01 07",
    }
}

/// SUBSCRIBE with id 0 and without names.
fn subscribe_bytes(version: Version) -> &'static str {
    match version {
        Lite01 | Lite02 => "02 04 00 00 00 7f",
        Lite03 | Lite04 | Lite05 => "02 08 00 00 00 7f 00 00 00 00",
        _ => "02 09 00 00 00 7f 00 00 00 00 00",
    }
}

/// The part of it after the names.
fn wanted_bytes(version: Version) -> &'static str {
    &subscribe_bytes(version)["02 04 00 00 00 ".len()..]
}

/// The first response: TRACK_INFO or SUBSCRIBE_OK.
fn info_bytes(version: Version) -> &'static str {
    match version {
        Lite01 => "01 02",
        Lite02 => "00",
        Lite03 | Lite04 => "00 05 02 00 00 00 00",
        Lite05 => "06 7f 00 5388 43e8",
        Lite07Wip => "05 7f 9388 83e8",
        _ => "05 7f 5388 43e8",
    }
}

/// The header of the group with this number, of subscription 0.
fn header_bytes(version: Version, sequence: u8) -> String {
    match version >= Lite06 {
        true => format!("00 03 00 {sequence:02x} 00"),
        false => format!("00 02 00 {sequence:02x}"),
    }
}

/// Bytes from hexadecimal digits; spaces are ignored.
fn hex(digits: &str) -> Bytes {
    let digits: Vec<u8> = digits.bytes().filter(|byte| *byte != b' ').collect();
    let value = |digit: u8| char::from(digit).to_digit(16).expect("a digit") as u8;
    digits.chunks(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect()
}

/// `digits` without spaces.
fn bytes(digits: &str) -> String {
    digits.replace(' ', "")
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn reset(id: StreamId, code: u64) -> Action {
    Action::Reset { id, code: Code::new(code) }
}

fn stop(id: StreamId, code: u64) -> Action {
    Action::Stop { id, code: Code::new(code) }
}
