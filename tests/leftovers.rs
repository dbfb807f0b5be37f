//! No memory remains after use: after a thousand rounds of everything that a session can do, as much is
//! allocated as after ten. Scenarios check the [`Census`](smoq::sim::Census) at their end
//! (`tests/drivers.rs`, `tests/net`, `fuzz/src/session_ops.rs`). This test covers everything that the census does
//! not count.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use smoq::sim::{Link, Pair};
use smoq::{
    Client, Driver, Hop, Instant, Origin, OriginProducer, Server, Session, Subscription, Track,
    Version,
};

struct World {
    pair: Pair<Driver, Driver>,
    origins: [OriginProducer; 2],
    sessions: [Session; 2],
    round: u64,
}

impl World {
    fn new(version: Version) -> Self {
        let origins = [7, 8].map(|hop| Origin::new(Hop::new(hop)).produce());
        let client = Client::new().with_origin(&origins[0]);
        let server = Server::new().with_origin(&origins[1]);
        let (one, client) = client.connect(version, Instant::ZERO);
        let (two, server) = server.accept(version, Instant::ZERO);
        let mut link = Link::perfect();
        link.latency = Duration::from_millis(5);
        let pair = Pair::new(client, server, link.datagrams(1_200, 0));
        Self { pair, origins, sessions: [one, two], round: 0 }
    }

    /// A broadcast begins, its tracks are read, fetched from, queried, refused and abandoned, and it ends.
    /// Its name is different each time.
    fn round(&mut self) {
        self.round += 1;
        let name = format!("live {:>9}", self.round);
        let mut cx = Context::from_waker(Waker::noop());
        let mut broadcast = self.origins[0].create_broadcast(&*name).unwrap();
        let mut dynamic = broadcast.dynamic();
        let mut video = broadcast.create_track(Track::new("video")).unwrap();
        video.write_frame(1, "before").unwrap();
        let mut listener = self.origins[1].consume();
        assert!(listener.poll_announced_broadcast(&mut cx, &name).is_pending());
        self.pair.advance(Duration::from_millis(50));
        let seen =
            self.origins[1].consume().broadcast(&*name).expect("the broadcast was announced");
        let want = Subscription::default().priority((self.round % 256) as u8);
        let mut readers = ["video", "asked", "never"].map(|track| {
            let mut reader = seen.subscribe_track(track, want.clone()).unwrap();
            assert!(reader.poll_recv_group(&mut cx).is_pending());
            reader
        });
        let mut other = seen.subscribe_track("video", want).unwrap();
        assert!(other.poll_fetch_group(&mut cx, 77).is_pending());
        self.pair.advance(Duration::from_millis(50));
        let mut asked = Vec::new();
        while let Poll::Ready(Ok(request)) = dynamic.poll_requested_track(&mut cx) {
            asked.push(request);
        }
        let mut group = video.append_group().unwrap();
        group.write_frame(2, vec![2; 600]).unwrap();
        let mut frame = group.create_frame(3, 900).unwrap();
        frame.write(&[3; 500]).unwrap();
        video.write_datagram(4, "at once").unwrap();
        self.pair.advance(Duration::from_millis(50));
        let [reader, ..] = &mut readers;
        let mut groups = Vec::new();
        while let Poll::Ready(Ok(Some(group))) = reader.poll_recv_group(&mut cx) {
            groups.push(group);
        }
        for group in &mut groups {
            while let Poll::Ready(Ok(Some(_))) = group.poll_read_frame(&mut cx) {}
        }
        let probe = (self.round % 7 == 0).then(|| self.sessions[1].probe());
        let tracks =
            (self.round % 5 == 0).then(|| self.sessions[1].subscribe_tracks("hall").unwrap());
        drop((frame, group));
        self.pair.advance(Duration::from_millis(50));
        drop((readers, other, groups, asked, dynamic, probe, tracks, video, broadcast));
        // Track information is cached for two seconds, and held routes for less.
        self.pair.advance(Duration::from_secs(5));
        // The simulator's own memory is excluded.
        self.pair.forget_trace();
    }
}

#[test]
fn a_thousand_rounds_leave_no_memory_behind() {
    for version in
        [Version::Lite03, Version::Lite05, Version::Lite06, Version::Moqt16, Version::Moqt18]
    {
        let mut world = World::new(version);
        // Every priority occurs once, so that every list has reached its final size.
        (0..300).for_each(|_| world.round());
        let info = measure(|| (0..500).for_each(|_| world.round()));
        assert_eq!(info.bytes_current, 0, "{version}: {info:?}");
    }
}
