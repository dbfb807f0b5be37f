//! Fan-out to sessions: one track, N drivers, and a transport that accepts everything at once.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use smoq::bytes::{Bytes, BytesMut};
use smoq::coding::lite::{BiStream, Subscribe, UniStream};
use smoq::machine::Input;
use smoq::stream::{Dir, Side, StreamId};
use smoq::{
    BroadcastProducer, Driver, Limits, Origin, OriginProducer, Server, Session, Subscription,
    Track, TrackProducer, Version,
};

const FRAMES: u64 = 30;
const VERSION: Version = Version::Lite06;

/// A publisher whose peers have subscribed and read everything.
struct FanOut {
    _origin: OriginProducer,
    _broadcast: BroadcastProducer,
    track: TrackProducer,
    sessions: Vec<Peer>,
    payload: Bytes,
    timestamp: u64,
}

struct Peer {
    driver: Driver,
    _session: Session,
    opened: u64,
    taken: u64,
}

impl FanOut {
    fn new(sessions: usize, size: usize) -> Self {
        let mut limits = Limits::default();
        limits.track_groups = 8;
        let origin = Origin::default().limits(limits).produce();
        let mut broadcast = origin.create_broadcast("live").unwrap();
        let track = broadcast.create_track(Track::new("video")).unwrap();
        let server = Server::new().with_publish(origin.consume());
        let sessions = (0..sessions).map(|_| Peer::new(&server)).collect();
        let payload = vec![7; size].into();
        Self { _origin: origin, _broadcast: broadcast, track, sessions, payload, timestamp: 0 }
    }

    /// Writes one group frame by frame. Each frame is sent to all peers before the next. Returns the time
    /// spent sending.
    fn group(&mut self) -> Duration {
        let mut spent = Duration::ZERO;
        let mut group = self.track.append_group().unwrap();
        for _ in 0..FRAMES {
            group.write_frame(self.timestamp, self.payload.clone()).unwrap();
            self.timestamp += 33;
            let start = clock();
            for peer in &mut self.sessions {
                peer.turn();
            }
            spent += start.elapsed();
        }
        group.finish().unwrap();
        for peer in &mut self.sessions {
            peer.turn();
        }
        spent
    }
}

impl Peer {
    fn new(server: &Server) -> Self {
        let (session, driver) = server.accept(VERSION, smoq::Instant::ZERO);
        let mut peer = Self { driver, _session: session, opened: 0, taken: 0 };
        let setup = StreamId::new(Side::Client, Dir::Uni, 0);
        peer.input(setup, &[UniStream::Setup.as_u64() as u8, 1, 0], true);
        let mut bytes = BytesMut::new();
        BiStream::Subscribe.encode(&mut bytes);
        let want = Subscription::default().max_age(Duration::from_secs(1));
        let message = Subscribe {
            id: 0,
            broadcast: "live".into(),
            track: "video".into(),
            want,
            frame_start: 0,
            frame_end: None,
        };
        message.encode(&mut bytes, VERSION).unwrap();
        peer.input(StreamId::new(Side::Client, Dir::Bi, 0), &bytes, false);
        peer.turn();
        peer
    }

    fn input(&mut self, id: StreamId, bytes: &[u8], fin: bool) {
        let now = smoq::Instant::ZERO;
        self.driver.handle(now, Input::Opened { id });
        let bytes = Bytes::copy_from_slice(bytes);
        self.driver.handle(now, Input::Data { id, bytes, fin });
    }

    fn turn(&mut self) {
        while self.driver.work(smoq::Instant::ZERO) {}
        while let Some(action) = self.driver.poll_action() {
            let _ = black_box(action);
        }
        while let Some(open) = self.driver.poll_open() {
            let id = StreamId::new(Side::Server, open.dir(), self.opened);
            self.opened += 1;
            open.opened(id);
        }
        while let Some(mut write) = self.driver.poll_write() {
            let len = write.len();
            black_box(write.chunks());
            self.taken += len as u64;
            write.accepted(len);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "measuring is what a benchmark does")]
fn clock() -> Instant {
    Instant::now()
}

fn fan_out(c: &mut Criterion) {
    for size in [100, 1_200] {
        let mut bench = c.benchmark_group(format!("sessions, {size} B frames"));
        for sessions in [1, 100] {
            let deliveries = FRAMES * sessions as u64;
            let mut state = FanOut::new(sessions, size);
            for _ in 0..20 {
                state.group();
            }
            let before = state.sessions[0].taken;
            let allocated = allocation_counter::measure(|| {
                for _ in 0..100 {
                    state.group();
                }
            });
            let taken = state.sessions[0].taken - before;
            assert!(taken > 100 * FRAMES * size as u64, "only {taken} bytes were accepted");
            let per_delivery = allocated.count_total as f64 / (100 * deliveries) as f64;
            println!("{sessions} sessions: {per_delivery:.4} allocations per delivery");
            bench.throughput(Throughput::Elements(deliveries));
            bench.bench_function(BenchmarkId::from_parameter(sessions), |b| {
                b.iter_custom(|n| (0..n).map(|_| state.group()).sum());
            });
        }
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(2))
        .warm_up_time(Duration::from_millis(300))
        .sample_size(20)
        .configure_from_args();
    fan_out(&mut criterion);
    criterion.final_summary();
}
