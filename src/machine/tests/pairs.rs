//! Two correct machines in any sequence of operations, over any link: invariants.

use alloc::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

/// An operation of an application, with a number that selects its target and size.
#[derive(Clone, Copy, Debug)]
enum Op {
    Accept,
    Advance(u16),
    Announce(u16),
    EndGroup(u16),
    Finish(u16),
    GiveGroup(u16),
    Grow(u16),
    Hear,
    Refuse(u16),
    Room(u16),
    Run,
    Steps(u16),
    StopGroup(u16),
    Subscribe(u16),
    Unannounce(u16),
    Unsubscribe(u16),
    Update(u16),
}

fn op() -> impl Strategy<Value = Op> {
    let any = any::<u16>;
    prop_oneof![
        4 => Just(Op::Accept),
        1 => any().prop_map(Op::Advance),
        2 => any().prop_map(Op::Announce),
        3 => any().prop_map(Op::EndGroup),
        1 => any().prop_map(Op::Finish),
        6 => any().prop_map(Op::GiveGroup),
        6 => any().prop_map(Op::Grow),
        3 => Just(Op::Hear),
        1 => any().prop_map(Op::Refuse),
        1 => any().prop_map(Op::Room),
        2 => Just(Op::Run),
        4 => any().prop_map(Op::Steps),
        1 => any().prop_map(Op::StopGroup),
        4 => any().prop_map(Op::Subscribe),
        1 => any().prop_map(Op::Unannounce),
        1 => any().prop_map(Op::Unsubscribe),
        1 => any().prop_map(Op::Update),
    ]
}

fn link() -> impl Strategy<Value = Link> {
    (0..4_u8, any::<u64>(), proptest::option::of(1..2_000_u64)).prop_map(
        |(kind, seed, bandwidth)| {
            let link = match kind {
                0 => Link::perfect(),
                1 => Link::wide(seed),
                2 => Link::hostile(seed),
                _ => Link::byte_by_byte(seed),
            };
            Link { bandwidth, ..link }
        },
    )
}

/// A group at the server.
#[derive(Debug)]
struct Given {
    subscription: u32,
    request: RequestKey,
    sequence: u64,
    frames: Vec<Frame>,
    end: Option<Result<(), Error>>,
    /// Whether the machine sent all of it; set when it is released.
    released: Option<bool>,
}

/// A subscription that the server accepted.
#[derive(Debug)]
struct Serving {
    request: RequestKey,
    /// The client's token, which is the name of the track.
    subscription: u32,
    next: u64,
    finished: bool,
}

struct World {
    version: Version,
    pair: Peers,
    random: Random,
    /// Subscriptions that the client made; tokens are not reused.
    asked: u32,
    received: Received,
    /// Subscriptions that the client or the server gave up.
    broken: BTreeSet<u32>,
    stopped: BTreeSet<(u32, u64)>,
    /// Groups that the client stopped; bytes that were on their way are not checked.
    ignored: Vec<GroupKey>,
    /// Requests to the server that wait for an answer.
    questions: VecDeque<Event>,
    serving: Vec<Serving>,
    given: Vec<Given>,
    reader: Option<RequestKey>,
    announced: BTreeSet<Path>,
    known: BTreeSet<Path>,
}

impl World {
    fn new(version: Version, link: Link) -> Self {
        let random = Random::new(link.seed ^ 1);
        let client = Config { interests: vec![Path::root()], ..config(Side::Client, version) };
        Self {
            version,
            pair: join(client, config(Side::Server, version), link),
            random,
            asked: 0,
            received: Received::default(),
            broken: BTreeSet::new(),
            stopped: BTreeSet::new(),
            ignored: vec![],
            questions: VecDeque::new(),
            serving: vec![],
            given: vec![],
            reader: None,
            announced: BTreeSet::new(),
            known: BTreeSet::new(),
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Accept => self.answer(true),
            Op::Refuse(n) if n % 2 == 0 => self.answer(false),
            Op::Refuse(n) => {
                self.record();
                if let Some(at) = pick(n, self.serving.len()) {
                    let Serving { request, subscription, .. } = self.serving.remove(at);
                    self.broken.insert(subscription);
                    self.pair.server.apply(Command::Refuse { request, error: Error::Lagged });
                }
            }
            Op::Advance(n) => self.pair.advance(ms(u64::from(n % 20))),
            Op::Announce(n) => self.announce(n, true),
            Op::Unannounce(n) => self.announce(n, false),
            Op::Subscribe(n) => {
                let want = Subscription::default().priority(n as u8).ordered(n % 3 == 0);
                let (broadcast, track) = (path("demo"), format!("{}", self.asked).into());
                let subscription = token(self.asked);
                self.asked += 1;
                self.pair.client.apply(Command::Subscribe { subscription, broadcast, track, want });
            }
            Op::Unsubscribe(n) => {
                if let Some(at) = pick(n, self.asked as usize) {
                    self.broken.insert(at as u32);
                    let subscription = token(at as u32);
                    self.pair.client.apply(Command::Unsubscribe { subscription });
                }
            }
            Op::Update(n) => {
                if let Some(at) = pick(n, self.asked as usize) {
                    let want = Subscription::default().priority((n >> 8) as u8);
                    let subscription = token(at as u32);
                    self.pair.client.apply(Command::UpdateSubscribe { subscription, want });
                }
            }
            Op::GiveGroup(n) => self.give_group(n),
            Op::Grow(n) => self.grow(n),
            Op::EndGroup(n) => {
                if let Some(at) = self.open_group(n) {
                    self.end_group(at, if n % 5 == 0 { Err(Error::Old) } else { Ok(()) });
                }
            }
            Op::Finish(n) => {
                if let Some(at) = pick(n, self.serving.len()) {
                    self.finish(at);
                }
            }
            Op::StopGroup(n) => {
                if let Some(at) = pick(n, self.received.names.len()) {
                    let (key, name) = self.received.names.iter().nth(at).unwrap();
                    let (group, name) = (*key, *name);
                    self.received.names.remove(&group);
                    self.stopped.insert(name);
                    self.ignored.push(group);
                    let error = Error::Cancelled;
                    self.pair.client.apply(Command::StopGroup { group, error });
                }
            }
            Op::Room(n) => self.pair.client.room = usize::from(n % 4),
            Op::Steps(n) => self.pair.steps(usize::from(n % 100)),
            Op::Run => self.pair.run_until_idle(),
            Op::Hear => self.record(),
        }
    }

    /// Takes the events of both machines.
    fn record(&mut self) {
        for event in self.pair.client.take_events() {
            match event {
                Event::Announced { path, .. } => drop(self.known.insert(path)),
                Event::Unannounced { path } => assert!(self.known.remove(&path)),
                event if self.ignored.iter().any(|key| is_of(&event, *key)) => {}
                event => self.received.record_one(event),
            }
        }
        for event in self.pair.server.take_events() {
            match event {
                Event::AnnounceRequested { request, .. } => {
                    let (reader, active) = (token(0), 0);
                    self.reader = Some(request);
                    self.pair.server.apply(Command::AcceptAnnounce { request, reader, active });
                }
                Event::TrackRequested { .. } | Event::SubscribeRequested { .. } => {
                    self.questions.push_back(event);
                }
                Event::SubscribeUpdated { request, .. } => {
                    assert!(
                        self.asks(request) || self.serving.iter().any(|it| it.request == request)
                    );
                }
                Event::GroupReleased { group, sent } => {
                    let given = &mut self.given[group.slot as usize];
                    assert_eq!(given.released.replace(sent), None, "released twice");
                }
                Event::RequestEnded { request, result } => {
                    // A clean end is reported only if it was declared; otherwise the peer left.
                    self.questions.retain(|it| key_of(it) != request);
                    if let Some(at) = self.serving.iter().position(|it| it.request == request) {
                        let serving = self.serving.remove(at);
                        assert_eq!(result.is_ok(), serving.finished && result.is_ok());
                        assert!(result.is_ok() || self.broken.contains(&serving.subscription));
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn asks(&self, request: RequestKey) -> bool {
        self.questions.iter().any(|it| key_of(it) == request)
    }

    fn answer(&mut self, accept: bool) {
        self.record();
        let info = TrackInfo::default();
        let Some(question) = self.questions.pop_front() else { return };
        let request = key_of(&question);
        let track = match &question {
            Event::TrackRequested { track, .. } | Event::SubscribeRequested { track, .. } => track,
            other => panic!("{other:?}"),
        };
        let subscription = track.parse().unwrap();
        if !accept {
            self.broken.insert(subscription);
            return self.pair.server.apply(Command::Refuse { request, error: Error::NotFound });
        }
        match question {
            Event::TrackRequested { .. } => {
                self.pair.server.apply(Command::AcceptTrack { request, info, largest: None });
            }
            _ => {
                self.pair.server.apply(Command::AcceptSubscribe { request, info, largest: None });
                let serving = Serving { request, subscription, next: 0, finished: false };
                self.serving.push(serving);
            }
        }
    }

    fn announce(&mut self, n: u16, active: bool) {
        let Some(request) = self.reader else { return };
        let suffix = path(&format!("b/{}", n % 4));
        let change = if active {
            self.announced.insert(suffix.clone());
            let cost = Cost { warm: n.into(), cold: n.into() };
            Announcement::Active { suffix, hops: Hops::new(), cost }
        } else {
            self.announced.remove(&suffix);
            Announcement::Ended { suffix }
        };
        self.pair.server.source.announce(token(0), change);
        self.pair.server.apply(Command::AnnouncementsReady { request });
    }

    fn give_group(&mut self, n: u16) {
        let Some(at) = pick(n, self.serving.len()) else { return };
        let serving = &mut self.serving[at];
        if serving.finished {
            return;
        }
        let (request, subscription, sequence) =
            (serving.request, serving.subscription, serving.next);
        serving.next += 1 + u64::from(n >> 12) / 8;
        if sequence == 0 {
            self.pair.server.apply(start(request, sequence));
        }
        let group = token(self.given.len() as u32);
        self.pair.server.source.begin(group);
        let (frames, end, released) = (vec![], None, None);
        self.given.push(Given { subscription, request, sequence, frames, end, released });
        self.pair.server.apply(Command::Group { request, group, sequence, first_frame: 0 });
    }

    /// A group that has not ended.
    fn open_group(&self, n: u16) -> Option<usize> {
        let open: Vec<_> =
            (0..self.given.len()).filter(|at| self.given[*at].end.is_none()).collect();
        pick(n, open.len()).map(|at| open[at])
    }

    /// Adds a frame, or bytes to the last one.
    fn grow(&mut self, n: u16) {
        let Some(at) = self.open_group(n) else { return };
        let mut payload = |size: u64| -> Bytes {
            (0..size).map(|_| self.random.next() as u8).collect::<Vec<_>>().into()
        };
        let (group, given) = (token(at as u32), &mut self.given[at]);
        let source = &mut self.pair.server.source;
        match given.frames.last_mut().filter(|frame| (frame.bytes().len() as u64) < frame.size) {
            Some(frame) => {
                let missing = frame.size - frame.bytes().len() as u64;
                let more = payload(1 + u64::from(n) % missing);
                source.extend(group, more.clone());
                frame.payload.push(more);
            }
            None => {
                let size = u64::from(n % 90);
                let there = if n % 3 == 0 { size / 2 } else { size };
                let timestamp = u64::from(n).pow(u32::from(n % 4));
                let frame = Frame { size, ..Frame::new(timestamp, payload(there)) };
                source.push(group, frame.clone());
                given.frames.push(frame);
            }
        }
        let (request, sequence) = (given.request, given.sequence);
        self.pair.server.apply(Command::GroupReady { request, sequence });
    }

    fn end_group(&mut self, at: usize, result: Result<(), Error>) {
        let (group, given) = (token(at as u32), &mut self.given[at]);
        if let Some(frame) = given.frames.last_mut() {
            let missing = frame.size - frame.bytes().len() as u64;
            if missing > 0 {
                let rest = vec![0; missing as usize];
                self.pair.server.source.extend(group, rest.clone());
                frame.payload.push(rest.into());
            }
        }
        self.pair.server.source.end(group, result.clone());
        given.end = Some(result);
        let (request, sequence) = (given.request, given.sequence);
        self.pair.server.apply(Command::GroupReady { request, sequence });
    }

    fn finish(&mut self, at: usize) {
        let Serving { request, next, finished, .. } = &mut self.serving[at];
        *finished = true;
        let (request, end) = (*request, *next);
        self.pair.server.apply(Command::FinishSubscribe { request, end });
    }

    /// Ends everything properly, and checks the result.
    fn settle(&mut self) {
        self.pair.client.room = usize::MAX;
        loop {
            self.pair.run_until_idle();
            self.record();
            if self.questions.is_empty() {
                break;
            }
            while !self.questions.is_empty() {
                self.answer(true);
            }
        }
        for at in 0..self.given.len() {
            if self.given[at].end.is_none() {
                self.end_group(at, Ok(()));
            }
        }
        for at in 0..self.serving.len() {
            self.finish(at);
        }
        loop {
            let more = self.pair.sleep_to_deadline();
            self.record();
            if !more {
                break;
            }
        }
        self.check();
    }

    fn check(&self) {
        assert!(!self.pair.client.is_closed() && !self.pair.server.is_closed());
        assert_eq!(self.known, self.announced);
        assert_eq!(self.serving.len(), 0, "every subscription was confirmed");
        // Each subscription ends once, and cleanly unless an end gave it up.
        assert_eq!(self.received.ended.len(), self.asked as usize);
        for (slot, result) in &self.received.ended {
            assert!(result.is_ok() || self.broken.contains(slot), "{slot}: {result:?}");
        }
        let mut phantoms: BTreeSet<_> = self.received.groups.keys().copied().collect();
        for given in &self.given {
            let name = (given.subscription, given.sequence);
            phantoms.remove(&name);
            let sent = given.released.expect("every group comes back");
            let received = self.received.groups.get(&name);
            let intact =
                !self.broken.contains(&given.subscription) && !self.stopped.contains(&name);
            if intact {
                assert_eq!(sent, given.end == Some(Ok(())), "{given:?}");
                assert!(!sent || received.is_some(), "a group was lost: {given:?}");
            }
            let Some(received) = received else { continue };
            let whole = whole(self.version, &given.frames);
            match &received.result {
                Some(Ok(())) => assert_eq!(*received, whole),
                _ => {
                    assert!(!intact || !sent, "{given:?}\n{received:?}");
                    // A prefix of what was sent.
                    for (is, was) in received.frames.iter().zip(&whole.frames) {
                        assert_eq!((is.0, is.1), (was.0, was.1));
                        assert!(was.2.starts_with(&is.2));
                    }
                    assert!(received.frames.len() <= whole.frames.len());
                }
            }
        }
        assert!(phantoms.is_empty(), "groups that were never sent: {phantoms:?}");
        // Only requests of the client remain: for announcements, and the session's own stream on versions that have
        // one. Each has its stream, and counts as the peer's at the server.
        let requests = 1 + usize::from(Features::of(self.version).version_setup);
        for (end, each) in [(&self.pair.client, 2), (&self.pair.server, 3)] {
            let census = Census::of(&end.machine.bare.core);
            assert!(census.total() <= each * requests, "{census:?}");
        }
    }
}

fn pick(n: u16, len: usize) -> Option<usize> {
    usize::from(n).checked_rem(len)
}

fn key_of(question: &Event) -> RequestKey {
    match question {
        Event::TrackRequested { request, .. } | Event::SubscribeRequested { request, .. } => {
            *request
        }
        other => panic!("{other:?}"),
    }
}

fn is_of(event: &Event, key: GroupKey) -> bool {
    match event {
        Event::Frame { group, .. }
        | Event::Payload { group, .. }
        | Event::GroupEnded { group, .. } => *group == key,
        _ => false,
    }
}

fn version() -> impl Strategy<Value = Version> {
    proptest::sample::select(LITE.to_vec())
}

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(count) }
}

proptest! {
    #![proptest_config(cases(300))]

    /// No group is lost, duplicated, mixed up or left behind; no machine closes the session or spins.
    #[test]
    fn honest_machines_agree(
        version in version(),
        link in link(),
        ops in proptest::collection::vec(op(), 0..80),
    ) {
        let mut world = World::new(version, link);
        for op in ops {
            world.apply(op);
        }
        world.settle();
    }
}

proptest! {
    #![proptest_config(cases(50))]

    /// The same seed gives the same run.
    #[test]
    fn runs_repeat(
        version in version(),
        link in link(),
        ops in proptest::collection::vec(op(), 0..40),
    ) {
        let [first, second] = [(), ()].map(|()| {
            let mut world = World::new(version, link.clone());
            ops.iter().for_each(|op| world.apply(*op));
            world.settle();
            world.pair.trace().clone()
        });
        prop_assert_eq!(first.lines(), second.lines());
        prop_assert_eq!(first.hash(), second.hash());
    }

    /// However the bytes are cut and streams interleave, each stream has the same events.
    #[test]
    fn splits_do_not_matter(
        version in version(),
        groups in proptest::collection::vec(proptest::collection::vec((any::<u32>(), 0..400_usize), 0..6), 1..6),
        seeds in any::<[u64; 2]>(),
    ) {
        let [first, second] = seeds.map(|seed| split(version, &groups, seed));
        prop_assert_eq!(&first, &second);
        prop_assert_eq!(first.len(), groups.len());
    }
}

/// Passes these groups to a subscriber, cut and interleaved by `seed`.
fn split(
    version: Version,
    groups: &[Vec<(u32, usize)>],
    seed: u64,
) -> BTreeMap<(u32, u64), ReceivedGroup> {
    let mut random = Random::new(seed);
    let mut lone = Lone::ready(Side::Client, version);
    lone.apply(subscribe(0));
    let info = info_bytes(version);
    let mut streams = vec![(lone.own(Dir::Bi, 0), hex(info), false)];
    for (sequence, frames) in groups.iter().enumerate() {
        let (mut publisher, request) = publisher(version);
        let group = token(0);
        let frame =
            |(time, size): &(u32, usize)| Frame::new((*time).into(), vec![*size as u8; *size]);
        publisher.end.source.insert(group, frames.iter().map(frame));
        let sequence = sequence as u64;
        publisher.apply(Command::Group { request, group, sequence, first_frame: 0 });
        let id = publisher.own(Dir::Uni, u64::from(Features::of(version).setup));
        let bytes = publisher.sent.remove(&id).unwrap().0;
        let id = lone.open(Dir::Uni, "");
        streams.push((id, bytes.into(), true));
    }
    while !streams.is_empty() {
        let at = random.below(streams.len() as u64) as usize;
        let (id, bytes, ends) = &mut streams[at];
        let limit =
            (bytes.len() as u64).min(1 + random.below(50)).min(lone.end.read_limit(*id) as u64);
        let piece = bytes.split_to(limit as usize);
        let fin = *ends && bytes.is_empty() && random.once_in(2);
        let over = bytes.is_empty() && (fin || !*ends);
        lone.end.handle(lone.now, Input::Data { id: *id, bytes: piece, fin });
        if random.once_in(3) {
            lone.run();
        }
        if over {
            streams.remove(at);
        }
    }
    lone.run();
    Received::of(lone.events()).groups
}

/// A server with a subscription that it accepted.
fn publisher(version: Version) -> (Lone, RequestKey) {
    let mut lone = Lone::ready(Side::Server, version);
    lone.open(Dir::Bi, subscribe_bytes(version));
    let Event::SubscribeRequested { request, .. } = one(lone.events()) else { panic!() };
    lone.apply(Command::AcceptSubscribe { request, info: TrackInfo::default(), largest: None });
    (lone, request)
}
