//! A path that carries less than the publisher makes, on a virtual clock: how old frames are when a reader gets
//! them, and how many it gets. The reader takes one group after the other, as applications do.

use std::task::Poll;
use std::time::Duration;

use smoq::machine::{Input, NetworkPath};
use smoq::sim::{Link, Pair};
use smoq::{
    Client, Driver, GroupConsumer, GroupProducer, Instant, Origin, OriginProducer, Server, Session, Subscription,
    Track, TrackConsumer, TrackProducer, Version,
};

/// What the path carries, in bytes a millisecond: 70 % of what a track makes.
const PATH: u64 = 700;
/// Bytes of the frame that a track writes each millisecond.
const FRAME: usize = 990;

/// A publisher and a subscriber with a path of [`PATH`] between them.
struct Congested {
    pair: Pair<Driver, Driver>,
    publisher: OriginProducer,
    subscriber: OriginProducer,
    _sessions: [Session; 2],
    now: u64,
}

/// A track that writes a frame each millisecond, and its reader.
struct Stream {
    track: TrackProducer,
    group: Option<GroupProducer>,
    /// Frames of a group.
    frames: u64,
    reader: TrackConsumer,
    reading: Option<GroupConsumer>,
    /// Milliseconds from the write of a frame to its read.
    ages: Vec<u64>,
    whole: usize,
}

impl Congested {
    fn new(version: Version) -> Self {
        let [publisher, subscriber] = [(); 2].map(|()| Origin::default().produce());
        let (one, client) =
            Client::new().with_publish(publisher.consume()).connect(version, Instant::ZERO);
        let (two, server) =
            Server::new().with_consume(subscriber.clone()).accept(version, Instant::ZERO);
        let mut link = Link::perfect();
        (link.bandwidth, link.latency) = (Some(PATH), Duration::from_millis(5));
        let mut pair = Pair::new(client, server, link);
        let path = NetworkPath::from_window(Duration::from_millis(10), 10 * PATH, 1_200);
        pair.client.handle(Instant::ZERO, Input::NetworkPath(path));
        Self { pair, publisher, subscriber, _sessions: [one, two], now: 0 }
    }

    fn advance(&mut self, millis: u64) {
        self.now += millis;
        self.pair.advance(Duration::from_millis(millis));
    }

    /// Tracks with these priorities of the subscriber, in groups of this many frames.
    fn streams<const N: usize>(&mut self, priorities: [u8; N], frames: u64, max_age: u64) -> [Stream; N] {
        let mut broadcast = self.publisher.create_broadcast("live").unwrap();
        let tracks = priorities.map(|priority| {
            broadcast.create_track(Track::new(format!("video-{priority}")).timescale(1_000)).unwrap()
        });
        self.advance(500);
        let seen = self.subscriber.consume().broadcast("live").unwrap();
        let want = Subscription::default().max_age(Duration::from_millis(max_age));
        let mut priorities = priorities.into_iter();
        let streams = tracks.map(|track| {
            let want = want.clone().priority(priorities.next().unwrap());
            let reader = seen.subscribe_track(track.name(), want).unwrap();
            let (group, reading) = (None, None);
            Stream { track, group, frames, reader, reading, ages: Vec::new(), whole: 0 }
        });
        self.advance(500);
        std::mem::forget(broadcast);
        streams
    }

    fn run(&mut self, streams: &mut [Stream], millis: u64) {
        for _ in 0..millis {
            for stream in &mut *streams {
                stream.write(self.now);
            }
            self.advance(1);
            for stream in &mut *streams {
                stream.read(self.now);
            }
        }
    }
}

impl Stream {
    fn write(&mut self, now: u64) {
        if now % self.frames == 0 || self.group.is_none() {
            if let Some(mut group) = self.group.take() {
                group.finish().unwrap();
            }
            self.group = Some(self.track.append_group().unwrap());
        }
        self.group.as_mut().unwrap().write_frame(now, vec![0; FRAME]).unwrap();
    }

    fn read(&mut self, now: u64) {
        loop {
            let Some(group) = &mut self.reading else {
                let Poll::Ready(Ok(Some(group))) = self.reader.try_recv_group() else { return };
                self.reading = Some(group);
                continue;
            };
            match group.try_read_frame() {
                Poll::Ready(Ok(Some(frame))) => self.ages.push(now - frame.timestamp().units()),
                Poll::Pending => return,
                Poll::Ready(end) => {
                    self.whole += usize::from(end.is_ok());
                    self.reading = None;
                }
            }
        }
    }

    /// The age at a percentile of the frames read.
    fn age(&self, percent: usize) -> u64 {
        let mut ages = self.ages.clone();
        ages.sort_unstable();
        ages[(ages.len() * percent / 100).min(ages.len() - 1)]
    }
}

#[test]
fn measure() {
    for version in [Version::Lite05, Version::Moqt18] {
        for (frames, max_age) in [(1_000, 500), (33, 300), (6, 300)] {
            let mut path = Congested::new(version);
            let mut streams = path.streams([100], frames, max_age);
            path.run(&mut streams, 10_000);
            let [stream] = &streams;
            println!(
                "{version} {frames} {max_age}: frames {} whole {} p50 {} p99 {} max {}",
                stream.ages.len(),
                stream.whole,
                stream.age(50),
                stream.age(99),
                stream.age(100)
            );
        }
    }
}
