//! Which stream is written first.

use super::*;

/// A server with subscriptions of these priorities: subscriber's, publisher's, and whether it is ordered.
/// Nothing is written yet.
struct Served {
    lone: Lone,
    requests: Vec<RequestKey>,
    opened: u64,
    /// Track and group of a stream, from its header.
    names: BTreeMap<StreamId, (u8, u8)>,
}

impl Served {
    fn new(version: Version, tracks: &[(u8, u8, bool)]) -> Self {
        let mut lone = Lone::ready(Side::Server, version);
        let mut requests = vec![];
        for (id, (subscriber, publisher, ordered)) in tracks.iter().enumerate() {
            assert!(version < Lite06, "06 has no Ordered");
            let ordered = u8::from(*ordered);
            let stream = lone.open(
                Dir::Bi,
                &format!("02 08 {id:02x} 00 00 {subscriber:02x} {ordered:02x} 00 00 00"),
            );
            let Event::SubscribeRequested { request, .. } = one(lone.events()) else { panic!() };
            let info = TrackInfo { priority: *publisher, ..TrackInfo::default() };
            lone.apply(Command::AcceptSubscribe { request, info, largest: None });
            assert_eq!(
                lone.priorities[&stream], CONTROL_PRIORITY,
                "responses have control priority"
            );
            requests.push(request);
        }
        Self { lone, requests, opened: 0, names: BTreeMap::new() }
    }

    /// Adds a group of `size` bytes; its token is track and sequence.
    fn push(&mut self, track: usize, sequence: u64, size: usize) {
        let group = token(track as u32 * 100 + sequence as u32);
        self.lone.end.source.insert(group, [Frame::new(0, vec![0; size])]);
        let request = self.requests[track];
        self.lone.end.apply(start(request, sequence));
        self.lone.end.apply(Command::Group { request, group, sequence, first_frame: 0 });
    }

    /// The priorities of groups, in the order in which streams are opened.
    fn opened(&mut self) -> Vec<i32> {
        let mut priorities = vec![];
        while let Some(open) = self.lone.end.poll_open() {
            let id = StreamId::new(Side::Server, Dir::Uni, 1_000 + self.opened);
            self.opened += 1;
            priorities.push(open.priority());
            open.opened(id);
        }
        priorities
    }

    /// Writes at most `max` bytes at once, `total` in all. Returns tracks and groups in that order, without
    /// repetition.
    fn written(&mut self, max: usize, total: usize) -> Vec<(u8, u8)> {
        let mut order: Vec<(u8, u8)> = vec![];
        let mut sum = 0;
        while sum < total {
            let Some(mut write) = self.lone.end.poll_write() else { break };
            if write.id().dir() == Dir::Bi {
                let n = write.len();
                write.accepted(n);
                continue;
            }
            let n = write.len().min(max);
            let head = write.chunks().concat();
            // The first bytes are the header: track and group.
            let name = *self.names.entry(write.id()).or_insert_with(|| (head[2], head[3]));
            if order.last() != Some(&name) {
                order.push(name);
            }
            sum += n;
            write.accepted(n);
        }
        order
    }
}

/// Subscriber priority, then publisher priority; then the newest group, or the oldest if ordered. For opening
/// and for writing.
#[test]
fn priorities_then_newest_or_oldest_group() {
    let tracks = [
        (5, 5, false),   // 0
        (5, 9, false),   // 1: publisher priority above 0
        (200, 0, false), // 2: subscriber priority above all
        (5, 1, true),    // 3: last, ordered
    ];
    for version in [Lite04, Lite05] {
        let mut served = Served::new(version, &tracks);
        for sequence in 1..4 {
            for track in [3, 0, 1, 2] {
                served.push(track, sequence, 10);
            }
        }
        let priority = |track: usize| i32::from(tracks[track].0) << 8 | i32::from(tracks[track].1);
        let (mut opened, mut order) = (Vec::new(), Vec::new());
        for _ in 0..9 {
            opened.extend(served.opened());
            order.extend(served.written(usize::MAX, usize::MAX));
        }
        // A group gets its stream when it is its turn, so the first of each track come first.
        let turns = [2, 1, 0, 3, 2, 2, 1, 1, 0, 0, 3, 3];
        assert_eq!(opened, turns.map(priority));
        let expected = [
            (2, 3),
            (2, 2),
            (2, 1),
            (1, 3),
            (1, 2),
            (1, 1),
            (0, 3),
            (0, 2),
            (0, 1),
            (3, 1),
            (3, 2),
            (3, 3),
        ];
        assert_eq!(order, expected);
    }
}

/// A more urgent group goes first, even if another one has begun.
#[test]
fn an_urgent_group_overtakes_others() {
    let mut served = Served::new(Lite05, &[(1, 0, false), (2, 0, false)]);
    served.push(0, 1, 1_000);
    served.opened();
    assert_eq!(served.written(100, 300), [(0, 1)]);
    served.push(0, 2, 1_000);
    served.opened();
    assert_eq!(served.written(100, 300), [(0, 2)], "newer");
    served.push(1, 1, 1_000);
    served.opened();
    let all = served.written(100, usize::MAX);
    assert_eq!(all, [(1, 1), (0, 2), (0, 1)]);
}

/// Tracks with equal priorities share by bytes, not by groups or turns.
#[test]
fn equal_tracks_share_by_bytes() {
    let mut served = Served::new(Lite05, &[(1, 1, false), (1, 1, false), (1, 1, false)]);
    for track in 0..3 {
        served.push(track, 1, 30_000);
    }
    served.opened();
    // Tracks take turns, and the one with larger writes has fewer of them.
    let mut bytes = [0_usize; 3];
    for _ in 0..60 {
        let mut write = served.lone.end.poll_write().unwrap();
        let id = write.id();
        if id.dir() == Dir::Bi {
            let n = write.len();
            write.accepted(n);
            continue;
        }
        let track = (id.as_u64() >> 2) as usize - 1_000;
        let bite = [1_000, 500, 100][track].min(write.len());
        let _ = write.chunks();
        bytes[track] += bite;
        write.accepted(bite);
    }
    let (least, most) = (bytes.iter().min().unwrap(), bytes.iter().max().unwrap());
    assert!(most - least <= 1_000, "{bytes:?}");
}

/// A track that is new, or was idle, neither starves others nor is starved.
#[test]
fn an_idle_track_gets_no_credit() {
    let mut served = Served::new(Lite05, &[(1, 1, false), (1, 1, false)]);
    // The first track had the link to itself.
    for sequence in 0..5 {
        served.push(0, sequence, 50_000);
        served.opened();
        served.written(usize::MAX, usize::MAX);
    }
    // Then both have much to send, the new track first.
    served.push(1, 1, 50_000);
    served.opened();
    assert_eq!(served.written(1_000, 2_000), [(1, 1)]);
    served.push(0, 9, 50_000);
    served.opened();
    let order = served.written(1_000, 20_000);
    assert!(order.len() >= 18, "they take turns: {order:?}");
}

/// A SUBSCRIBE_UPDATE applies to open streams and to waiting groups.
#[test]
fn an_update_reorders_open_streams() {
    let mut served = Served::new(Lite05, &[(1, 7, false), (2, 7, false)]);
    for track in 0..2 {
        served.push(track, 1, 1_000);
    }
    served.opened();
    while served.lone.end.poll_action().is_some() {}
    assert_eq!(served.written(100, 300), [(1, 1)]);
    // Subscription 0 has priority 3 now, and subscription 1 still 2.
    let stream = StreamId::new(Side::Client, Dir::Bi, 0);
    let (bytes, fin) = (hex("05 03 00 00 00 00"), false);
    served.lone.end.handle(Instant::ZERO, Input::Data { id: stream, bytes, fin });
    while served.lone.end.work(served.lone.now) {}
    let id = StreamId::new(Side::Server, Dir::Uni, 1_001);
    let action = served.lone.end.poll_action();
    assert_eq!(action, Some(Action::SetPriority { id, priority: 3 << 8 | 7 }));
    assert_eq!(served.lone.end.poll_action(), None);
    assert_eq!(served.written(100, 1_000), [(0, 1)]);
    served.push(0, 2, 10);
    assert_eq!(served.opened(), [3 << 8 | 7]);
}

/// A track that joins another priority starts level with the tracks there.
#[test]
fn an_update_carries_no_debt_over() {
    let mut served = Served::new(Lite05, &[(1, 1, false), (2, 1, false)]);
    served.push(0, 1, 100_000);
    served.opened();
    served.written(1_000, 50_000);
    served.push(1, 1, 100_000);
    served.opened();
    served.written(1_000, 1_000);
    let stream = StreamId::new(Side::Client, Dir::Bi, 0);
    let (bytes, fin) = (hex("05 02 00 00 00 00"), false);
    served.lone.end.handle(Instant::ZERO, Input::Data { id: stream, bytes, fin });
    while served.lone.end.work(served.lone.now) {}
    let order = served.written(1_000, 20_000);
    assert!(order.len() >= 18, "they take turns: {order:?}");
}

/// Control goes before every group: SETUP, requests, responses.
#[test]
fn control_goes_first() {
    let mut served = Served::new(Lite05, &[(255, 255, false)]);
    served.push(0, 1, 1_000);
    let (subscription, want) = (token(0), Subscription::default());
    let (broadcast, track) = (path("a"), "b".into());
    served.lone.end.apply(Command::Subscribe { subscription, broadcast, track, want });
    let priorities = served.opened();
    assert_eq!(priorities, [CONTROL_PRIORITY, CONTROL_PRIORITY, 0xffff]);
    let ids: Vec<_> = core::iter::from_fn(|| {
        let write = served.lone.end.poll_write()?;
        let (id, n) = (write.id(), write.len());
        write.accepted(n);
        Some(id.as_u64() >> 2)
    })
    .collect();
    // The requests were opened as 1000 and 1001, the group as 1002; the response is on 0.
    assert_eq!(ids.last(), Some(&1002));
    assert!(ids.len() >= 4);
}

/// A blocked stream delays no other, not even less urgent ones.
#[test]
fn a_blocked_stream_does_not_delay_others() {
    let mut served = Served::new(Lite05, &[(2, 0, false), (1, 0, false)]);
    for track in 0..2 {
        served.push(track, 1, 100);
    }
    served.opened();
    let write = loop {
        let write = served.lone.end.poll_write().unwrap();
        if write.id().dir() == Dir::Uni {
            break write;
        }
        let n = write.len();
        write.accepted(n);
    };
    let first = write.id();
    write.blocked(7);
    assert_eq!(served.written(usize::MAX, usize::MAX), [(1, 1)]);
    assert!(!served.lone.end.has_work() || served.lone.end.poll_write().is_none());
    // A new frame of the group does not unblock the stream.
    let (request, sequence) = (served.requests[0], 1);
    served.lone.end.apply(Command::GroupReady { request, sequence });
    assert!(served.lone.end.poll_write().is_none());
    served.lone.end.handle(Instant::ZERO, Input::Writable { id: first });
    let write = served.lone.end.poll_write().unwrap();
    assert_eq!((write.id(), write.len(), write.fin()), (first, 4 + 3 + 100 - 7, true));
}

impl Served {
    /// QUIC refuses what is written next. Returns the stream.
    fn refuse(&mut self) -> StreamId {
        self.respond();
        let write = self.lone.end.poll_write().expect("something to write");
        let id = write.id();
        write.blocked(0);
        id
    }

    /// Whether the adapter has something to do for streams.
    fn has_output(&mut self) -> bool {
        while self.lone.end.work(self.lone.now) || self.lone.end.poll_action().is_some() {}
        let output = self.lone.end.poll_open().is_some() || self.lone.end.poll_write().is_some();
        assert_eq!(self.lone.end.has_work(), output);
        output
    }

    /// Writes what goes to requests.
    fn respond(&mut self) {
        while let Some(write) = self.lone.end.poll_write() {
            if write.id().dir() == Dir::Uni {
                return;
            }
            let n = write.len();
            write.accepted(n);
        }
    }
}

/// Once QUIC refused two streams, nothing is opened or shown until it says that it takes more. Then the most urgent
/// group goes, also if it came later.
#[test]
fn nothing_is_shown_while_the_connection_takes_nothing() {
    let mut served = Served::new(Lite05, &[(1, 0, false); 4]);
    served.written(usize::MAX, usize::MAX);
    for track in 0..3 {
        served.push(track, 1, 1_000);
    }
    served.opened();
    let refused = served.refuse();
    assert!(served.has_output(), "one may lack credit of its own");
    served.refuse();
    assert!(!served.has_output() && served.lone.end.machine.is_blocked());
    served.push(3, 1, 1_000);
    served.respond();
    assert!(!served.has_output());
    served.lone.end.handle(served.lone.now, Input::Writable { id: refused });
    assert!(!served.lone.end.machine.is_blocked());
    assert_eq!(served.opened().len(), 1);
    assert_eq!(
        served.written(usize::MAX, usize::MAX).len(),
        3,
        "all but the one that is still refused"
    );
}

/// Streams without credit of their own are refused like those of a connection without. They hold up the others for
/// 10 ms, and longer each time.
#[test]
fn streams_without_credit_hold_up_others_for_a_moment() {
    let mut served = Served::new(Lite05, &[(1, 0, false); 5]);
    served.written(usize::MAX, usize::MAX);
    for track in 0..5 {
        served.push(track, 1, 1_000);
    }
    served.opened();
    for wait in [10, 20] {
        served.refuse();
        served.refuse();
        assert_eq!(served.lone.end.poll_timeout(), Some(served.lone.now + ms(wait)));
        for (time, is_over) in [(wait - 1, false), (1, true)] {
            served.lone.now = served.lone.now + ms(time);
            served.lone.end.handle_timeout(served.lone.now);
            assert_eq!(served.lone.end.poll_write().is_some(), is_over);
        }
    }
    assert_eq!(served.written(usize::MAX, usize::MAX).len(), 1);
    let deadline = served.lone.end.poll_timeout();
    assert!(deadline.is_none_or(|at| at > served.lone.now + ms(1_000)), "{deadline:?}");
}

/// A group of which all that is left leaves within 50 ms is finished before a newer one begins.
#[test]
fn a_group_that_needs_little_more_goes_before_a_newer_one() {
    for (left, order) in [(50_000, [(0, 1), (0, 2)]), (50_001, [(0, 2), (0, 1)])] {
        let mut served = Served::new(Lite05, &[(1, 0, false)]);
        // A million bytes a second.
        let path = NetworkPath::from_window(ms(100), 100_000, 1_200);
        served.lone.handle(Input::NetworkPath(path));
        let head = 2 + 3 + 4;
        served.push(0, 1, 100 + left - head);
        served.opened();
        assert_eq!(served.written(100, 100), [(0, 1)]);
        served.push(0, 2, 1_000);
        let mut written = Vec::new();
        for _ in 0..2 {
            served.opened();
            written.extend(served.written(usize::MAX, usize::MAX));
        }
        assert_eq!(written, order, "{left}");
    }
}

/// Choosing the next write asks the source as often with 16 as with 256 groups that wait, also while QUIC refuses.
#[test]
fn a_write_costs_the_same_with_many_waiting_groups() {
    let calls = |groups: u64| {
        let mut served = Served::new(Lite05, &[(1, 0, false)]);
        served.written(usize::MAX, usize::MAX);
        for sequence in 1..=groups {
            served.push(0, sequence, 100_000);
        }
        let before = served.lone.end.source.calls;
        for _ in 0..16 {
            served.opened();
            served.respond();
            served.lone.end.poll_write().expect("something to write").accepted(1_000);
            let refused = [served.refuse(), {
                served.opened();
                served.refuse()
            }];
            served.opened();
            assert!(served.lone.end.poll_write().is_none());
            for id in refused {
                served.lone.end.handle(served.lone.now, Input::Writable { id });
            }
        }
        served.lone.end.source.calls - before
    };
    assert_eq!(calls(16), calls(256));
}
