//! Two sessions joined in memory, with applications at both ends that do anything legal, in any order, over
//! any link. The frames that readers receive are compared with those that were written: in order and unchanged,
//! no group twice, a clean end only where there was one, and everything if everything was requested. All work
//! ends, and no state is left once everything is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use smoq::machine::trace::{Replay, Sink};
use smoq::machine::{Input, NetworkPath};
use smoq::sim::{Alarm, Census, Endpoint, Link, Pair};
use smoq::{
    BroadcastProducer, BroadcastRequest, Client, Driver, Error, FrameProducer, Goaway,
    GroupConsumer, GroupProducer, Hop, Instant, Limits, Origin, OriginDynamic, OriginProducer,
    Probe, Server, Session, Subscription, Track, TrackConsumer, TrackProducer, Version,
};

pub(crate) fn run(data: &[u8]) {
    let mut bytes = data.iter().copied();
    let shape = Shape::of([(); 3].map(|()| bytes.next().unwrap_or(0)));
    let mut ops = Vec::new();
    while let (Some(kind), true) = (bytes.next(), ops.len() < MAX_OPS) {
        ops.push(Op::of(kind, [(); 2].map(|()| bytes.next().unwrap_or(0))));
    }
    let story = Story(&shape, &ops);
    let mut world = World::new(&shape);
    world.unused = World::new(&shape).settled_census();
    if shape.is_under_way {
        world.begin();
    }
    ops.iter().for_each(|op| world.step(*op));
    world.finish();
    drop(story);
}

const MAX_OPS: usize = 300;
/// Far longer than a run: nothing expires unless a reader requests it.
const LONG: Duration = Duration::from_secs(36_000);
/// The names of the tracks determine the subscriptions of their readers.
/// The first path that is not announced.
const ON_DEMAND: u8 = 3;
/// The prefixes of the handlers for such paths, one for each side.
const STORES: [&str; 2] = ["near/store", "far/store"];
const NAMES: [&str; 4] = ["all-0", "all-1", "some-0", "some-1"];

/// Prints the operations when a check fails.
struct Story<'a>(&'a Shape, &'a [Op]);

impl Drop for Story<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:?}", self.0);
            self.1.iter().enumerate().for_each(|(at, op)| eprintln!("{at}: {op:?}"));
        }
    }
}

#[derive(Debug)]
struct Shape {
    version: Version,
    link: Link,
    /// Whether the run begins with tracks that are announced and read.
    is_under_way: bool,
    /// Whether limits are small: readers may then miss groups, and everything else must hold.
    is_tight: bool,
    /// Whether both sides have a known hop.
    are_known: bool,
}

impl Shape {
    fn of([version, kind, seed]: [u8; 3]) -> Self {
        let count = Version::ALL.len() + Version::WIP.len();
        let are_known = usize::from(version) / count % 2 == 1;
        let mut known = Version::ALL.into_iter().chain(Version::WIP);
        let version = known.nth(usize::from(version) % count).expect("one of them");
        let seed = u64::from(seed);
        let mut link = match kind % 4 {
            0 => Link::perfect(),
            1 => Link::wide(seed),
            2 => Link::hostile(seed),
            _ => Link::byte_by_byte(seed),
        };
        // In some versions SETUP takes a stream, and groups that are never ended take the others.
        link.uni_streams = link.uni_streams.min(2 + u64::from(kind >> 4));
        Self { version, link, is_under_way: kind & 4 != 0, is_tight: kind & 8 != 0, are_known }
    }
}

/// An operation. Numbers choose among the existing objects, so it is always legal.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// If the path has a broadcast, it is replaced but stays alive.
    Announce {
        side: usize,
        path: u8,
    },
    EndBroadcast {
        which: usize,
        how: How,
    },
    CreateTrack {
        broadcast: usize,
        name: usize,
    },
    EndTrack {
        which: usize,
        how: How,
    },
    CreateGroup {
        track: usize,
        ahead: u8,
    },
    EndGroup {
        which: usize,
        how: How,
    },
    Write {
        group: usize,
        size: usize,
    },
    BeginFrame {
        group: usize,
        size: usize,
    },
    /// The rest of the frame, or part of it.
    Continue {
        frame: usize,
        size: usize,
    },
    DropFrame {
        which: usize,
    },
    Subscribe {
        side: usize,
        path: u8,
        name: usize,
        want: u8,
    },
    /// Registers or drops a handler for paths that are not announced.
    Store {
        side: usize,
    },
    /// Takes the pending requests, and answers one. `Finish` accepts it.
    Answer {
        which: usize,
        how: How,
    },
    /// Like `Subscribe`, but for a path with only a handler: requested from the session or from the origin.
    Ask {
        side: usize,
        path: u8,
        name: usize,
        want: u8,
    },
    Update {
        reader: usize,
        want: u8,
    },
    Unsubscribe {
        which: usize,
    },
    Read {
        reader: usize,
        frames: usize,
    },
    Steps(usize),
    Advance(Duration),
    /// Starts or stops PROBE, and reports the path at the other end.
    Probe {
        side: usize,
        rate: u64,
    },
    /// Changes how much is written at once, and how many guards are dropped.
    Squeeze {
        max: usize,
        drops: u64,
    },
    EndSession {
        side: usize,
        how: How,
    },
    GoAway {
        side: usize,
        timeout: Duration,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Finish,
    Abort(u32),
    Drop,
}

impl How {
    fn of(byte: u8) -> Self {
        match byte % 4 {
            0 | 1 => Self::Finish,
            2 => Self::Abort(u32::from(byte)),
            _ => Self::Drop,
        }
    }
}

impl Op {
    fn of(kind: u8, [a, b]: [u8; 2]) -> Self {
        let (which, side) = (usize::from(a), usize::from(a & 1));
        let how = How::of(b);
        match kind % 32 {
            0 => Self::Announce { side, path: b % 3 },
            1 if a % 4 == 0 => Self::EndBroadcast { which, how },
            2 => Self::CreateTrack { broadcast: which, name: usize::from(b) % NAMES.len() },
            3 if a % 2 == 0 => Self::EndTrack { which, how },
            3..9 => Self::CreateGroup { track: which, ahead: b },
            9..14 => Self::EndGroup { which, how },
            14 => Self::BeginFrame { group: which, size: usize::from(b) * 3 },
            15 | 16 => Self::Continue { frame: which, size: usize::from(b) * 2 },
            17 if a % 2 == 0 => Self::DropFrame { which },
            1 | 17..22 => Self::Write { group: which, size: usize::from(b) * usize::from(b) / 80 },
            22 => {
                let (path, name) = (a / 2 % 3, usize::from(b) % NAMES.len());
                Self::Subscribe { side, path, name, want: a ^ b }
            }
            23 => Self::Update { reader: which, want: b },
            24 if a % 4 == 0 => Self::Unsubscribe { which },
            24 | 25 => Self::Read { reader: which, frames: usize::from(b) },
            26..29 => Self::Steps(usize::from(b)),
            29 => Self::Advance(Duration::from_millis(1 << (b % 12))),
            30 if a == 0xff => Self::EndSession { side: usize::from(b & 1), how: How::of(b >> 1) },
            30 if a == 0xfe => {
                let timeout = Duration::from_millis(u64::from(b >> 1) * 20);
                Self::GoAway { side: usize::from(b & 1), timeout }
            }
            30 => Self::Squeeze { max: usize::from(a) * 8 + 1, drops: u64::from(b % 16) },
            _ if b % 4 == 0 => Self::Probe { side: usize::from(b >> 7), rate: u64::from(a) },
            _ if a % 4 == 0 => Self::Store { side: usize::from(a >> 2 & 1) },
            _ if a % 4 == 1 => Self::Answer { which, how: How::of(b >> 2) },
            _ => {
                let (path, name) = (ON_DEMAND + (a >> 2 & 1), usize::from(b >> 2) % NAMES.len());
                Self::Ask { side: usize::from(a >> 3 & 1), path, name, want: a ^ b }
            }
        }
    }
}

/// Frame `index` of a group. The payload follows from its origin, which it begins with.
fn payload(track: usize, sequence: u64, index: usize, size: usize) -> Vec<u8> {
    let head = [track as u8, sequence as u8, index as u8];
    let fill = (0..).map(|at: usize| (at * 31 + index * 7 + sequence as usize) as u8);
    head.into_iter().chain(fill).take(3.max(size)).collect()
}

/// The written groups of one track.
struct Written {
    side: usize,
    path: u8,
    name: usize,
    groups: BTreeMap<u64, WrittenGroup>,
    end: Option<How>,
}

#[derive(Default)]
struct WrittenGroup {
    /// Timestamp and payload of the complete frames.
    frames: Vec<(u64, Vec<u8>)>,
    end: Option<Result<(), Error>>,
}

/// An open group: its track, its number, and its handle.
struct Writing {
    track: usize,
    sequence: u64,
    group: GroupProducer,
}

/// An open frame.
struct Streaming {
    track: usize,
    sequence: u64,
    timestamp: u64,
    payload: Vec<u8>,
    frame: FrameProducer,
}

struct Reader {
    side: usize,
    path: u8,
    name: usize,
    consumer: TrackConsumer,
    /// The reader is polled only after it was woken, for groups and for the frames of each.
    alarm: Alarm,
    /// The track that wrote the frames, once one was seen.
    track: Option<usize>,
    seen: BTreeSet<u64>,
    groups: Vec<(GroupConsumer, usize, Alarm)>,
    /// The end of each group.
    ended: BTreeMap<u64, Result<(), Error>>,
    end: Option<Result<(), Error>>,
}

/// The trace of one end.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn sink(&self) -> Box<dyn Sink> {
        let bytes = self.0.clone();
        Box::new(move |record: &[u8]| {
            bytes.lock().unwrap().extend_from_slice(record);
            Ok(())
        })
    }

    /// A bare machine with the same inputs has the same outputs.
    fn check(&self) {
        let bytes = self.0.lock().unwrap();
        let mut replay = Replay::new(&bytes).expect("a trace");
        for step in &mut replay {
            step.expect("a recorded step");
        }
        assert!(replay.is_closed());
    }
}

struct World {
    version: Version,
    pair: Pair<Driver, Driver>,
    sessions: [Session; 2],
    /// The origin of each end, and its view of the other one.
    local: [OriginProducer; 2],
    remote: [OriginProducer; 2],
    /// The live broadcasts. Of those at one path the last one is announced.
    broadcasts: Vec<(usize, u8, BroadcastProducer)>,
    /// Producers with the index of their track in `written`.
    tracks: Vec<(usize, TrackProducer)>,
    written: Vec<Written>,
    groups: Vec<Writing>,
    frames: Vec<Streaming>,
    readers: Vec<Reader>,
    /// The handlers for paths that are not announced.
    stores: [Option<OriginDynamic>; 2],
    asked: Vec<(usize, BroadcastRequest)>,
    /// The PROBE handles, and the last rate reported for each.
    probes: [(Option<Probe>, u64); 2],
    /// Whether an application has ended the session.
    is_ending: bool,
    is_tight: bool,
    traces: [Kept; 2],
    /// The census of both ends and of all origins before the first operation.
    unused: Vec<Census>,
    time: u64,
}

/// Small limits.
fn tight() -> Limits {
    let mut limits = Limits::default();
    limits.announcements = 2;
    limits.subscriptions = 3;
    limits.requests = 5;
    limits.broadcast_requests = 1;
    limits.group_streams = 3;
    limits.unbound_streams = 1;
    limits.pending_groups = 2;
    limits.stream_buffer = 64;
    limits.request_buffer = 64;
    limits.track_groups = 4;
    limits.cache_bytes = 20_000;
    limits.group_frames = 4;
    limits.frame_bytes = 600;
    limits
}

fn path(side: usize, path: u8) -> String {
    let prefix = if path < ON_DEMAND { ["near", "far"][side] } else { STORES[side] };
    format!("{prefix}/{path}")
}

/// The last one half of the time, so that one object gets much, and otherwise any.
fn choose(len: usize, which: usize) -> Option<usize> {
    let last = len.checked_sub(1)?;
    Some(if which < 128 { last } else { which % len })
}

fn take<T>(list: &mut Vec<T>, which: usize) -> Option<T> {
    choose(list.len(), which).map(|at| list.remove(at))
}

fn pick<T>(list: &mut [T], which: usize) -> Option<&mut T> {
    choose(list.len(), which).map(|at| &mut list[at])
}

fn wants(name: usize, want: u8) -> Subscription {
    let all = Subscription::default().max_age(Duration::MAX).start(0).priority(want);
    match (NAMES[name].starts_with("all"), want % 4) {
        (true, _) | (_, 0) => all,
        (_, 1) => Subscription::default().ordered(true),
        (_, 2) => Subscription::default().start(u64::from(want) % 5).end(u64::from(want) % 7),
        (_, _) => Subscription::default().max_age(Duration::from_millis(want.into())),
    }
}

impl World {
    fn new(shape: &Shape) -> Self {
        let mut limits = if shape.is_tight { tight() } else { Limits::default() };
        limits.max_age = LONG;
        let origin = |hop| Origin::new(Hop::new(hop)).limits(limits.clone()).produce();
        let hops = if shape.are_known { [7, 8] } else { [0, 0] };
        let (local, remote) = (hops.map(origin), [0, 0].map(origin));
        let client = Client::new().with_publish(local[0].consume()).with_consume(remote[0].clone());
        let server = Server::new().with_publish(local[1].consume()).with_consume(remote[1].clone());
        let traces = [Kept::default(), Kept::default()];
        let [near, far] = traces.clone();
        let client = client.with_trace(move || Some(near.sink()));
        let server = server.with_trace(move || Some(far.sink()));
        let (near, client) =
            client.with_limits(limits.clone()).connect(shape.version, Instant::ZERO);
        let (far, server) = server.with_limits(limits).accept(shape.version, Instant::ZERO);
        Self {
            version: shape.version,
            pair: Pair::new(client, server, shape.link.clone()),
            sessions: [near, far],
            local,
            remote,
            broadcasts: Vec::new(),
            tracks: Vec::new(),
            written: Vec::new(),
            groups: Vec::new(),
            frames: Vec::new(),
            readers: Vec::new(),
            stores: Default::default(),
            asked: Vec::new(),
            probes: Default::default(),
            is_ending: false,
            is_tight: shape.is_tight,
            traces,
            unused: Vec::new(),
            time: 0,
        }
    }

    fn begin(&mut self) {
        for (side, name) in [(0, 0), (1, 1), (0, 2)] {
            self.step(Op::Announce { side, path: 0 });
            let broadcast = self.broadcasts.len() - 1;
            self.step(Op::CreateTrack { broadcast, name });
            self.settle();
            self.step(Op::Subscribe { side: 1 - side, path: 0, name, want: 0 });
        }
        self.step(Op::Store { side: 1 });
        self.step(Op::Ask { side: 0, path: ON_DEMAND, name: 0, want: 0 });
        self.settle();
        self.step(Op::Answer { which: 0, how: How::Finish });
        self.step(Op::CreateTrack { broadcast: 0, name: 0 });
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Announce { side, path: at } => {
                let broadcast = self.local[side].create_broadcast(&*path(side, at)).unwrap();
                self.broadcasts.push((side, at, broadcast));
            }
            Op::EndBroadcast { which, how } => {
                let Some((.., mut broadcast)) = take(&mut self.broadcasts, which) else { return };
                match how {
                    How::Finish => broadcast.finish().unwrap(),
                    How::Abort(code) => broadcast.abort(Error::App(code)),
                    How::Drop => {}
                }
            }
            Op::CreateTrack { broadcast, name } => self.create_track(broadcast, name),
            Op::EndTrack { which, how } => {
                let Some((at, mut track)) = take(&mut self.tracks, which) else { return };
                match how {
                    // A track that was finished before stays finished.
                    How::Finish => drop(track.finish()),
                    How::Abort(code) => track.abort(Error::App(code)),
                    How::Drop => {}
                }
                self.written[at].end.get_or_insert(how);
                if how == How::Finish {
                    // The track is served as long as its producer lives.
                    self.tracks.push((at, track));
                }
            }
            Op::CreateGroup { track, ahead } => {
                let Some((at, track)) = pick(&mut self.tracks, track) else { return };
                let edge = track.latest().map_or(0, |latest| latest + 1);
                // The next one, or one near it.
                let sequence = match ahead % 8 {
                    0 => edge + 2,
                    1 => edge.saturating_sub(2),
                    _ => edge,
                };
                if let Ok(producer) = track.create_group(sequence) {
                    let written = &mut self.written[*at];
                    // Readers know the end and would not receive a group in a gap.
                    assert_ne!(written.end, Some(How::Finish), "group {sequence}");
                    written.groups.insert(sequence, WrittenGroup::default());
                    self.groups.push(Writing { track: *at, sequence, group: producer });
                }
            }
            Op::EndGroup { which, how } => {
                let Some(writing) = take(&mut self.groups, which) else { return };
                self.end_group(writing, how);
            }
            Op::Write { group, size } => {
                self.time += 10;
                let Some(Writing { track, sequence, group }) = pick(&mut self.groups, group) else {
                    return;
                };
                let record = record(&mut self.written, *track, *sequence);
                let payload = payload(*track, *sequence, record.frames.len(), size);
                if group.write_frame(self.time, payload.clone()).is_ok() {
                    record.frames.push((self.time, payload));
                }
            }
            Op::BeginFrame { group, size } => {
                self.time += 10;
                let Some(Writing { track, sequence, group }) = pick(&mut self.groups, group) else {
                    return;
                };
                let record = record(&mut self.written, *track, *sequence);
                let payload = payload(*track, *sequence, record.frames.len(), size);
                let Ok(frame) = group.create_frame(self.time, payload.len() as u64) else { return };
                let (track, sequence, timestamp) = (*track, *sequence, self.time);
                self.frames.push(Streaming { track, sequence, timestamp, payload, frame });
            }
            Op::Continue { frame, size } => {
                let Some(Streaming { payload, frame: producer, .. }) =
                    pick(&mut self.frames, frame)
                else {
                    return;
                };
                let from = payload.len() - producer.remaining() as usize;
                let to = payload.len().min(from + size);
                let wrote = producer.write(&payload[from..to]);
                if wrote.is_err() || producer.remaining() == 0 {
                    let Some(done) = take(&mut self.frames, frame) else { return };
                    if wrote.is_ok() {
                        let record = record(&mut self.written, done.track, done.sequence);
                        record.frames.push((done.timestamp, done.payload));
                    }
                }
            }
            Op::DropFrame { which } => drop(take(&mut self.frames, which).map(|it| self.lose(it))),
            Op::Subscribe { side, path: at, name, want } => {
                let seen = self.remote[side].consume().broadcast(&*path(1 - side, at));
                let want = wants(name, want);
                let consumer = seen.and_then(|seen| seen.subscribe_track(NAMES[name], want).ok());
                if let Some(consumer) = consumer {
                    self.readers.push(Reader::new(side, at, name, consumer));
                }
            }
            Op::Store { side } => {
                let store = &mut self.stores[side];
                *store = match store.take() {
                    Some(_) => None,
                    None => Some(self.local[side].dynamic(STORES[side]).unwrap()),
                };
            }
            Op::Answer { which, how } => {
                for (side, store) in self.stores.iter_mut().enumerate() {
                    let Some(store) = store else { continue };
                    while let Poll::Ready(request) = store.try_requested_broadcast() {
                        self.asked.push((side, request));
                    }
                }
                let Some((side, request)) = take(&mut self.asked, which) else { return };
                match how {
                    How::Finish => {
                        let at = request.path().as_str().bytes().last().unwrap() - b'0';
                        let broadcast = request.accept();
                        self.broadcasts.push((side, at, broadcast));
                    }
                    How::Abort(code) => request.reject(Error::App(code)),
                    How::Drop => {}
                }
            }
            Op::Ask { side, path: at, name, want } => {
                let whole = path(1 - side, at);
                let found = match want % 2 {
                    0 => self.sessions[side].request_broadcast(&*whole),
                    _ => match self.remote[side].consume().try_request_broadcast(&whole) {
                        Poll::Ready(found) => found,
                        Poll::Pending => panic!("this never waits"),
                    },
                };
                let want = wants(name, want);
                let consumer = found.and_then(|found| found.subscribe_track(NAMES[name], want));
                if let Ok(consumer) = consumer {
                    self.readers.push(Reader::new(side, at, name, consumer));
                }
            }
            Op::Update { reader, want } => {
                if let Some(reader) = pick(&mut self.readers, reader) {
                    let want = wants(reader.name, want);
                    if want.start != reader.consumer.subscription().start {
                        // The cursor moves, backwards as well.
                        reader.seen.clear();
                    }
                    reader.consumer.update(want);
                    // The groups that it wants now may exist already.
                    reader.alarm = Alarm::new();
                }
            }
            Op::Unsubscribe { which } => drop(take(&mut self.readers, which)),
            Op::Read { reader, frames } => {
                if let Some(reader) = pick(&mut self.readers, reader) {
                    reader.read(frames, self.version, &self.written);
                }
            }
            Op::Steps(steps) => self.pair.steps(steps),
            Op::Advance(time) => self.pair.advance(time),
            Op::Probe { side, rate } => {
                let (probe, reported) = &mut self.probes[side];
                *probe = match probe.take() {
                    Some(_) => None,
                    None => Some(self.sessions[side].probe()),
                };
                *reported = rate;
                let max_datagram = self.pair.link().max_datagram;
                let path = NetworkPath { rtt: None, bitrate: Some(rate * 8), max_datagram };
                let now = self.pair.now();
                match side {
                    0 => Endpoint::handle(&mut self.pair.server, now, Input::NetworkPath(path)),
                    _ => Endpoint::handle(&mut self.pair.client, now, Input::NetworkPath(path)),
                }
            }
            Op::Squeeze { max, drops } => {
                let link = self.pair.link();
                (link.max_write, link.max_read, link.drop_guards) = (max, max, drops * 2);
            }
            Op::GoAway { side, timeout } => {
                // The session is closed before anything is checked.
                self.is_ending = true;
                let goaway = Goaway::default().timeout(timeout);
                self.sessions[side].go_away(goaway).expect("a GOAWAY without a URI");
            }
            Op::EndSession { side, how } => {
                self.is_ending = true;
                match how {
                    How::Finish => self.sessions[side].drain(),
                    How::Abort(code) => self.sessions[side].close(Error::App(code)),
                    How::Drop => self.pair.disconnect(),
                }
            }
        }
    }

    fn create_track(&mut self, broadcast: usize, name: usize) {
        let Some((side, path, broadcast)) = pick(&mut self.broadcasts, broadcast) else { return };
        let track = Track::new(NAMES[name]).timescale(1_000).max_age(LONG);
        if let Ok(track) = broadcast.create_track(track) {
            let (side, path) = (*side, *path);
            self.tracks.push((self.written.len(), track));
            let groups = BTreeMap::new();
            self.written.push(Written { side, path, name, groups, end: None });
        }
    }

    fn end_group(&mut self, Writing { track, sequence, mut group }: Writing, how: How) {
        let end = match how {
            How::Finish => group.finish(),
            How::Abort(code) => {
                group.abort(Error::App(code));
                Err(Error::App(code))
            }
            // An open frame keeps the group.
            How::Drop
                if self.frames.iter().any(|it| (it.track, it.sequence) == (track, sequence)) =>
            {
                return;
            }
            How::Drop => Err(Error::Dropped),
        };
        record(&mut self.written, track, sequence).end.get_or_insert(end);
    }

    /// An incomplete frame ends its group.
    fn lose(&mut self, frame: Streaming) {
        let record = record(&mut self.written, frame.track, frame.sequence);
        record.end.get_or_insert(Err(Error::Dropped));
    }

    fn settled_census(&mut self) -> Vec<Census> {
        let link = self.pair.link();
        (link.max_write, link.max_read, link.drop_guards) = (1 << 16, 1 << 16, 0);
        while self.pair.sleep_to_deadline() {}
        self.census()
    }

    /// The census of both ends and of all origins.
    fn census(&self) -> Vec<Census> {
        let drivers = [&self.pair.client, &self.pair.server].map(Driver::census);
        let origins = self.local.iter().chain(&self.remote).map(OriginProducer::census);
        drivers.into_iter().chain(origins).collect()
    }

    /// Runs until everything has happened, including the timers of requests and stragglers.
    fn settle(&mut self) {
        self.pair.run_until_idle();
        self.pair.advance(Duration::from_secs(4));
        self.pair.run_until_idle();
    }

    fn finish(mut self) {
        let link = self.pair.link();
        (link.max_write, link.max_read, link.drop_guards) = (1 << 16, 1 << 16, 0);
        while let Some(frame) = self.frames.pop() {
            self.lose(frame);
        }
        // Readers that still wait for a broadcast are refused.
        (self.stores, self.asked) = Default::default();
        while let Some(writing) = self.groups.pop() {
            self.end_group(writing, How::Drop);
        }
        self.settle();
        self.check_sessions();
        self.check_announced();
        self.check_probes();
        for mut reader in std::mem::take(&mut self.readers) {
            reader.read(usize::MAX, self.version, &self.written);
            self.check_reader(&reader);
        }
        self.tracks.clear();
        self.broadcasts.clear();
        self.settle();
        self.check_nothing_is_left();
        self.sessions[0].close(Error::SessionClosed);
        self.settle();
        for session in &mut self.sessions {
            assert!(session.try_closed().is_ready(), "a session is still open");
            assert_eq!(gauges(session), [0; 5]);
        }
        for census in self.census() {
            assert!(census.is_empty(), "state after the end: {census:?}");
        }
        for trace in &self.traces {
            trace.check();
        }
    }

    fn check_sessions(&mut self) {
        for session in &mut self.sessions {
            let closed = session.try_closed();
            assert!(self.is_ending || closed.is_pending(), "closed without a reason: {closed:?}");
        }
    }

    /// Each end sees exactly the broadcasts of the other one, and at a path with several the newest.
    fn check_announced(&mut self) {
        if self.is_ending || self.is_tight {
            return;
        }
        let mut newest: BTreeMap<_, _> =
            self.broadcasts.iter_mut().map(|(side, at, it)| ((*side, *at), it)).collect();
        newest.retain(|(_, at), _| *at < ON_DEMAND);
        let marked = newest.into_iter().map(|((side, at), broadcast)| {
            let track = broadcast.create_track("newest").unwrap();
            let seen = self.remote[1 - side].consume().broadcast(&*path(side, at));
            let seen = seen.unwrap_or_else(|| panic!("{} is not visible", path(side, at)));
            (seen.subscribe_track("newest", Subscription::default()), track)
        });
        let marked: Vec<_> = marked.collect();
        self.settle();
        for (reader, _track) in marked {
            let refused = reader.unwrap().try_closed();
            assert!(refused.is_pending(), "an older broadcast is visible: {refused:?}");
        }
        self.settle();
        for (side, remote) in self.remote.iter().enumerate() {
            for at in 0..3 {
                let is_there = self.broadcasts.iter().any(|it| (it.0, it.1) == (1 - side, at));
                let seen = remote.consume().broadcast(&*path(1 - side, at));
                assert_eq!(seen.is_some(), is_there, "{} visible at {side}", path(1 - side, at));
            }
        }
    }

    /// A PROBE handle knows the last report, or that there is none.
    fn check_probes(&mut self) {
        if self.probes.iter().any(|(probe, _)| probe.is_some()) {
            // The smallest change is reported after 10 s.
            self.pair.advance(Duration::from_secs(11));
        }
        let can_tell = (Version::Lite03..=Version::Lite07Wip).contains(&self.version);
        for (probe, rate) in &mut self.probes {
            let Some(mut probe) = probe.take() else { continue };
            match probe.try_changed() {
                Poll::Ready(Err(error)) => {
                    let is_wrong = can_tell && !self.is_ending && !self.is_tight;
                    assert!(!is_wrong, "no estimate: {error}");
                }
                _ if self.is_ending || self.is_tight => {}
                _ => {
                    assert!(can_tell);
                    let bitrate = probe.latest().and_then(|estimate| estimate.bitrate);
                    // 0 means unknown, so a measured 0 is reported as 1.
                    let measured = Some((*rate * 8).max(1));
                    // A change of the path by at most an eighth is not reported.
                    let is_close = bitrate.zip(measured).is_some_and(|(reported, measured)| {
                        reported.abs_diff(measured) <= reported / 8
                    });
                    assert!(is_close || bitrate == measured, "{bitrate:?} instead of {measured:?}");
                }
            }
        }
    }

    /// Checks that a reader has everything that must have arrived.
    fn check_reader(&self, reader: &Reader) {
        let tracks = self.written.iter().enumerate().filter(|(_, it)| {
            (it.side, it.path, it.name) == (1 - reader.side, reader.path, reader.name)
        });
        let tracks: Vec<_> = tracks.map(|(at, _)| at).collect();
        if self.is_ending {
            assert!(reader.end.is_some(), "a reader waits for a closed session");
            return;
        }
        if self.is_tight {
            return;
        }
        let track = match (reader.track, &tracks[..]) {
            (Some(track), _) => track,
            (None, [only]) => *only,
            (None, []) => {
                assert!(matches!(reader.end, Some(Err(_))), "{:?} of a missing track", reader.end);
                return;
            }
            // One of several tracks, and it is unknown which.
            (None, _) => return,
        };
        let written = &self.written[track];
        if !NAMES[reader.name].starts_with("all") || reader.was_refused() {
            return;
        }
        match written.end {
            Some(How::Abort(code)) => {
                assert_eq!(reader.end, Some(Err(Error::App(code))), "the reason of the abort");
            }
            Some(How::Drop) => assert!(matches!(reader.end, Some(Err(_))), "{:?}", reader.end),
            Some(How::Finish) => assert_eq!(reader.end, Some(Ok(())), "the end of the track"),
            None => assert_eq!(reader.end, None, "the track has not ended"),
        }
        if matches!(written.end, None | Some(How::Finish)) {
            let asked_from = match self.asks_from_zero() {
                true => &0,
                false => reader.seen.first().unwrap_or(&u64::MAX),
            };
            for (sequence, group) in &written.groups {
                let seen = reader.ended.get(sequence);
                match &group.end {
                    // Earlier groups were not requested.
                    _ if seen.is_none() && sequence < asked_from => {}
                    Some(Ok(())) => assert_eq!(seen, Some(&Ok(())), "group {sequence}"),
                    Some(Err(Error::App(code))) => {
                        let wanted = seen.is_none_or(|seen| *seen == Err(Error::App(*code)));
                        assert!(wanted, "group {sequence}: {seen:?}, aborted with {code}");
                    }
                    _ => assert_ne!(seen, Some(&Ok(())), "group {sequence}"),
                }
            }
        }
    }

    /// Whether a subscription can request all groups. moq-lite 01 and 02 can't.
    fn asks_from_zero(&self) -> bool {
        !matches!(self.version, Version::Lite01 | Version::Lite02)
    }

    fn check_nothing_is_left(&mut self) {
        for origin in self.local.iter().chain(&self.remote) {
            assert_eq!(origin.cached_bytes(), 0, "bytes in the cache");
        }
        for session in &self.sessions {
            assert_eq!(gauges(session), [0; 5], "serving, reading, announced, sent, received");
        }
        let timers = (0..20).take_while(|_| self.pair.sleep_to_deadline()).count();
        assert!(timers < 20, "an idle session has a timer");
        if !self.is_ending {
            for (census, unused) in self.census().iter().zip(&self.unused) {
                assert_eq!(census.beyond(unused), [], "state that was not there before");
            }
        }
    }
}

fn gauges(session: &Session) -> [u64; 5] {
    let now = session.gauges();
    [now.serving, now.reading, now.announced, now.sending_groups, now.receiving_groups]
}

fn record(written: &mut [Written], track: usize, sequence: u64) -> &mut WrittenGroup {
    written[track].groups.entry(sequence).or_default()
}

impl Reader {
    fn new(side: usize, path: u8, name: usize, consumer: TrackConsumer) -> Self {
        let (alarm, track, seen, groups, ended, end) = Default::default();
        Self { side, path, name, consumer, alarm, track, seen, groups, ended, end }
    }

    /// The track had ended before the subscription arrived, or did not exist yet.
    fn was_refused(&self) -> bool {
        self.track.is_none() && matches!(self.end, Some(Err(_)))
    }

    /// Reads up to this many frames.
    fn read(&mut self, mut frames: usize, version: Version, written: &[Written]) {
        while self.end.is_none() {
            match self.alarm.poll(|cx| self.consumer.poll_recv_group(cx)) {
                Poll::Pending => break,
                Poll::Ready(Ok(Some(group))) => {
                    assert!(self.seen.insert(group.sequence()), "group {} twice", group.sequence());
                    self.groups.push((group, 0, Alarm::new()));
                }
                Poll::Ready(Ok(None)) => self.end = Some(Ok(())),
                Poll::Ready(Err(error)) => self.end = Some(Err(error)),
            }
        }
        for (mut group, mut index, mut alarm) in std::mem::take(&mut self.groups) {
            let sequence = group.sequence();
            let end = loop {
                if frames == 0 {
                    break None;
                }
                frames -= 1;
                match alarm.poll(|cx| group.poll_read_frame(cx)) {
                    Poll::Pending => break None,
                    Poll::Ready(Ok(Some(frame))) => {
                        assert_eq!(frame.index(), index as u64);
                        let (timestamp, payload) = (frame.timestamp().units(), frame.payload());
                        self.check_frame(sequence, index, timestamp, payload, version, written);
                        index += 1;
                    }
                    Poll::Ready(Ok(None)) => break Some(Ok(())),
                    Poll::Ready(Err(error)) => break Some(Err(error)),
                }
            };
            match end {
                None => self.groups.push((group, index, alarm)),
                Some(end) => {
                    if let (Ok(()), Some(track)) = (&end, self.track) {
                        let group = &written[track].groups[&sequence];
                        let whole = index == group.frames.len() && group.end == Some(Ok(()));
                        assert!(whole, "a clean end of group {sequence} after {index} frames");
                    }
                    self.ended.insert(sequence, end);
                }
            }
        }
    }

    fn check_frame(
        &mut self,
        sequence: u64,
        index: usize,
        timestamp: u64,
        payload: &[u8],
        version: Version,
        written: &[Written],
    ) {
        let track = *self.track.get_or_insert(usize::from(payload[0]));
        assert_eq!(usize::from(payload[0]), track, "a frame of another track");
        let of = &written[track];
        assert_eq!((of.side, of.path, of.name), (1 - self.side, self.path, self.name));
        let frames = &of.groups.get(&sequence).expect("a group that was written").frames;
        let (time, bytes) = frames.get(index).expect("a frame that was written");
        assert!(
            bytes == payload,
            "frame {index} of group {sequence} differs from what was written"
        );
        if matches!(version, Version::Lite05 | Version::Lite06 | Version::Lite07Wip) {
            assert_eq!(timestamp, *time, "frame {index} of group {sequence}");
        }
    }
}
