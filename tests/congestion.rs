//! A path that carries less than the publisher makes, on a virtual clock: how old frames are when a reader gets
//! them, and how many it gets. The reader takes one group after the other, as applications do.

use std::task::Poll;
use std::time::Duration;

use smoq::machine::{Input, NetworkPath};
use smoq::sim::{Link, Pair};
use smoq::{
    BroadcastProducer, Client, Driver, GroupConsumer, GroupProducer, Instant, Origin,
    OriginProducer, Server, Session, Subscription, Track, TrackConsumer, TrackProducer, Version,
};

/// The capacity of the path, in bytes a millisecond: 70 % of what a track makes.
const PATH: u64 = 700;
/// The frames of a publisher.
#[derive(Clone, Copy)]
struct Video {
    /// The priority that the reader asks for.
    priority: u8,
    /// Frames of a group.
    frames: u64,
    /// Milliseconds from frame to frame, and the bytes of one.
    every: u64,
    bytes: usize,
}

/// A publisher and a subscriber with a path of [`PATH`] between them.
struct Congested {
    pair: Pair<Driver, Driver>,
    broadcast: BroadcastProducer,
    subscriber: OriginProducer,
    _sessions: [Session; 2],
    now: u64,
}

/// A track and its reader.
struct Stream {
    video: Video,
    track: TrackProducer,
    group: Option<GroupProducer>,
    reader: TrackConsumer,
    reading: Option<GroupConsumer>,
    /// Milliseconds from the write of a frame to its read.
    ages: Vec<u64>,
    /// Groups that ended early.
    cut: usize,
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
        let broadcast = publisher.create_broadcast("live").unwrap();
        Self { pair, broadcast, subscriber, _sessions: [one, two], now: 0 }
    }

    fn advance(&mut self, millis: u64) {
        self.now += millis;
        self.pair.advance(Duration::from_millis(millis));
    }

    fn streams<const N: usize>(&mut self, videos: [Video; N], max_age: u64) -> [Stream; N] {
        let broadcast = &mut self.broadcast;
        let tracks = videos.map(|video| {
            let name = format!("video-{}", video.priority);
            (video, broadcast.create_track(Track::new(name).timescale(1_000)).unwrap())
        });
        self.advance(500);
        let seen = self.subscriber.consume().broadcast("live").unwrap();
        let streams = tracks.map(|(video, track)| {
            let max_age = Duration::from_millis(max_age);
            let want = Subscription::default().max_age(max_age).priority(video.priority);
            let reader = seen.subscribe_track(track.name(), want).unwrap();
            let (group, reading) = (None, None);
            Stream { video, track, group, reader, reading, ages: Vec::new(), cut: 0 }
        });
        self.advance(500);
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
        let Video { frames, every, bytes, .. } = self.video;
        if now % every != 0 {
            return;
        }
        if now % (every * frames) == 0 || self.group.is_none() {
            if let Some(mut group) = self.group.take() {
                group.finish().unwrap();
            }
            self.group = Some(self.track.append_group().unwrap());
        }
        self.group.as_mut().unwrap().write_frame(now, vec![0; bytes]).unwrap();
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
                    self.cut += usize::from(end.is_err());
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

/// The versions that carry timestamps, by which frames can be too old.
fn timed_versions() -> [Version; 3] {
    [Version::Lite05, Version::Lite06, Version::Lite07Wip]
}

/// A group that needs little more is finished before the next one begins, so that groups of 33 ms and of 6 ms arrive
/// whole. Groups that the path can't carry are left out, and the path stays full.
#[test]
fn short_groups_arrive_whole() {
    for version in timed_versions() {
        for (frames, p50, p99) in [(33, 33, 55), (6, 15, 20)] {
            let mut path = Congested::new(version);
            let mut streams =
                path.streams([Video { priority: 100, frames, every: 1, bytes: 990 }], 300);
            path.run(&mut streams, 10_000);
            let [stream] = &streams;
            let ages = (stream.age(50), stream.age(99));
            assert!(ages.0 <= p50 && ages.1 <= p99, "{version} {frames}: {ages:?} ms");
            assert!(stream.ages.len() >= 6_900, "{version} {frames}: {} frames", stream.ages.len());
            assert_eq!(stream.cut, 0, "{version} {frames}");
        }
    }
}

/// Groups of a second can't be finished in time. The rest of one is given up when its next frame is older than the
/// reader wants, not when the whole group is, and the newer group does not wait for that.
#[test]
fn the_rest_of_a_long_group_is_given_up_in_time() {
    for version in timed_versions() {
        let mut path = Congested::new(version);
        let mut streams =
            path.streams([Video { priority: 100, frames: 1_000, every: 1, bytes: 990 }], 500);
        path.run(&mut streams, 10_000);
        let [stream] = &streams;
        let ages = (stream.age(50), stream.age(99));
        assert!(ages.0 <= 180 && ages.1 <= 305, "{version}: {ages:?} ms");
        assert!(stream.ages.len() >= 6_900, "{version}: {} frames", stream.ages.len());
    }
}

/// A small track of a higher priority is as young beside one that the path can't carry as it is alone.
#[test]
fn an_urgent_track_does_not_wait() {
    let audio = Video { priority: 200, frames: 1, every: 20, bytes: 50 };
    let video = Video { priority: 100, frames: 1_000, every: 1, bytes: 990 };
    for version in timed_versions() {
        let mut path = Congested::new(version);
        let mut alone = path.streams([audio], 500);
        path.run(&mut alone, 5_000);
        let mut path = Congested::new(version);
        let mut streams = path.streams([audio, video], 500);
        path.run(&mut streams, 5_000);
        for percent in [50, 99] {
            let (beside, alone) = (streams[0].age(percent), alone[0].age(percent));
            // One packet is on the link already.
            assert!(beside <= alone + 2, "{version}: {beside} ms instead of {alone} ms");
        }
        assert_eq!((streams[0].cut, streams[0].ages.len()), (0, 250), "{version}");
    }
}
