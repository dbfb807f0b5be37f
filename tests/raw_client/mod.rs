//! A client of moq-transport of which the test writes the bytes. Its server is a driver.

#![allow(dead_code, reason = "each test uses some of it")]

use std::collections::BTreeMap;

use bytes::BytesMut;
use smoq::coding::ietf::{
    Draft, Fetch, FetchEnd, FetchObject, FetchRecord, FetchRecords, FetchTarget, Filter,
    GroupOrder, Location, Message, ObjectHead, ObjectStatus, Parameters, Setup, SubgroupHeader,
    UniStream, frame_message,
};
use smoq::machine::{Action, Input};
use smoq::stream::{Dir, Side, StreamId};
use smoq::{Driver, Instant, Path, Server, Session, Version};

pub(crate) struct RawClient {
    pub(crate) draft: &'static Draft,
    /// The time at which [`run`](Self::run) runs the driver.
    pub(crate) now: Instant,
    driver: Driver,
    _session: Session,
    opened: [u64; 2],
    ours: [u64; 2],
    pub(crate) written: BTreeMap<StreamId, Vec<u8>>,
    /// The codes of the streams that were reset.
    pub(crate) resets: BTreeMap<StreamId, u64>,
    /// The next request id, and the control stream up to 16.
    next: u64,
    control: Option<StreamId>,
}

/// The number and the payload of each.
pub(crate) type Objects<'a> = Vec<(u64, &'a [u8])>;

/// A record in the answer to a FETCH.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    Object(Location, Vec<u8>),
    /// The ends of objects that may exist, and of those that did not arrive in time.
    Unknown(Location),
    TimedOut(Location),
}

impl RawClient {
    pub(crate) fn new(server: Server, version: Version) -> Self {
        let (session, driver) = server.accept(version, Instant::ZERO);
        let mut client = Self {
            draft: Draft::of(version).unwrap(),
            now: Instant::ZERO,
            driver,
            _session: session,
            opened: [0; 2],
            ours: [0; 2],
            written: BTreeMap::new(),
            resets: BTreeMap::new(),
            next: 0,
            control: None,
        };
        let setup = Setup { solicit: true, max_request_id: 100, ..Setup::default() };
        let setup = Message::setup(setup, Side::Client, client.draft);
        let bytes = client.bytes(&setup);
        if client.draft.has_request_streams() {
            client.open(Dir::Uni, &bytes);
        } else {
            client.control = Some(client.open(Dir::Bi, &bytes));
        }
        client.run();
        client
    }

    fn bytes(&self, message: &Message) -> Vec<u8> {
        let mut out = BytesMut::new();
        message.encode(&mut out, self.draft).unwrap();
        out.to_vec()
    }

    fn open(&mut self, dir: Dir, bytes: &[u8]) -> StreamId {
        let id = StreamId::new(Side::Client, dir, self.opened[dir as usize]);
        self.opened[dir as usize] += 1;
        self.driver.handle(self.now, Input::Opened { id });
        self.data(id, bytes);
        id
    }

    fn data(&mut self, id: StreamId, bytes: &[u8]) {
        let bytes = BytesMut::from(bytes).freeze();
        self.driver.handle(self.now, Input::Data { id, bytes, fin: false });
    }

    /// Sends a request, and returns its id and its stream.
    pub(crate) fn request(&mut self, make: impl FnOnce(u64) -> Message) -> (u64, StreamId) {
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
    pub(crate) fn run(&mut self) {
        for round in 0.. {
            self.driver.end_turn(self.now, false);
            if !self.driver.has_work() {
                break;
            }
            assert!(round < 10_000, "the driver has work and yields nothing");
            while self.driver.work(self.now) {}
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
    pub(crate) fn answer(&self, stream: StreamId) -> Message {
        let bytes = &self.written[&stream];
        let framed = frame_message(bytes, self.draft, 1 << 16).unwrap().expect("an answer");
        let body = &bytes[framed.head..][..framed.body];
        Message::decode(framed.kind, body, self.draft).unwrap()
    }

    /// FETCH of the objects of a broadcast and a track between two locations.
    pub(crate) fn fetch_range(
        &mut self,
        [broadcast, track]: [&str; 2],
        start: Location,
        end: Location,
        parameters: Parameters,
    ) -> (u64, StreamId) {
        let is_target = self.draft.number < 20;
        let (namespace, track) = (Path::new(broadcast), track.into());
        let filter = (!is_target).then_some(Filter::RangeTo { start, end });
        let parameters = Parameters { filter, ..parameters };
        let end = FetchEnd { group: end.group, object: Some(end.object) };
        let target = match is_target {
            true => FetchTarget::Standalone { namespace, track, start, end },
            false => FetchTarget::Track { namespace, track },
        };
        self.request(|id| Message::Fetch(Fetch { id, target, parameters }))
    }

    /// The whole records on the stream that answers the FETCH of this id.
    pub(crate) fn fetched(&self, id: u64, order: GroupOrder) -> Vec<Fetched> {
        let header = |bytes: &[u8]| UniStream::read(bytes, self.draft).ok().flatten();
        let is_it = |bytes: &&Vec<u8>| matches!(header(bytes), Some((UniStream::Fetch { request }, _)) if request == id);
        let uni = self.written.iter().filter(|(id, _)| id.dir() == Dir::Uni);
        let Some(bytes) = uni.map(|(_, bytes)| bytes).find(is_it) else { return Vec::new() };
        let mut at = header(bytes).unwrap().1;
        let mut records = FetchRecords::new(order, self.draft);
        let mut fetched = Vec::new();
        while at < bytes.len() {
            let (record, len) = records.read(&bytes[at..]).unwrap().expect("whole records");
            at += len;
            fetched.push(match record {
                FetchRecord::Object(FetchObject { location, size, .. }) => {
                    let Some(payload) = bytes[at..].get(..size as usize) else { break };
                    at += payload.len();
                    Fetched::Object(location, payload.to_vec())
                }
                FetchRecord::Unknown(end) => Fetched::Unknown(end),
                FetchRecord::TimedOut(end) => Fetched::TimedOut(end),
                other => panic!("{other:?}"),
            });
        }
        fetched
    }

    /// The streams of groups in their order, with the numbers and the payloads of their objects. A status is left out.
    pub(crate) fn subgroups(&self) -> Vec<(SubgroupHeader, Objects<'_>)> {
        let uni = self.written.iter().filter(|(id, _)| id.dir() == Dir::Uni);
        let streams = uni.filter_map(|(_, bytes)| {
            let Ok(Some((UniStream::Subgroup(header), len))) = UniStream::read(bytes, self.draft)
            else {
                return None;
            };
            let objects = self.objects(&bytes[len..], header.properties);
            Some((header, objects))
        });
        streams.collect()
    }

    fn objects<'a>(&self, mut bytes: &'a [u8], properties: bool) -> Objects<'a> {
        let (mut objects, mut last) = (Vec::new(), None);
        while !bytes.is_empty() {
            let read = ObjectHead::read(bytes, properties, self.draft).unwrap();
            let (head, len) = read.expect("whole objects");
            let number = head.number(last).unwrap();
            last = Some(number);
            let (payload, rest) = bytes[len..].split_at(head.size as usize);
            if head.status == ObjectStatus::Normal {
                objects.push((number, payload));
            }
            bytes = rest;
        }
        objects
    }
}
