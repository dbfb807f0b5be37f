//! A publisher, a relay, and an end that the relay dialed, on one virtual clock.

#![allow(dead_code, reason = "each test uses some of it")]

use std::time::Duration;

use smoq::sim::{Endpoint, Link, Pair};
use smoq::{
    BroadcastProducer, Client, Driver, Instant, Origin, OriginProducer, Server, Session, Track,
    TrackProducer, Version,
};

pub(crate) struct Chain<B: Endpoint> {
    pub(crate) up: Pair<Driver, Driver>,
    pub(crate) down: Pair<Driver, B>,
    /// The published track, of the broadcast `live`.
    pub(crate) track: TrackProducer,
    pub(crate) relay: OriginProducer,
    /// The sessions, beginning with the publisher's.
    pub(crate) sessions: Vec<Session>,
    pub(crate) broadcast: BroadcastProducer,
}

impl<B: Endpoint> Chain<B> {
    /// `join` creates the end that the relay dialed.
    pub(crate) fn with(
        versions: [Version; 2],
        link: &Link,
        track: Track,
        join: impl FnOnce(Version) -> B,
    ) -> Self {
        let [up, down] = versions;
        let [publisher, relay] = [(); 2].map(|()| Origin::default().produce());
        let mut broadcast = publisher.create_broadcast("live").unwrap();
        let track = broadcast.create_track(track).unwrap();
        let client = Client::new().with_publish(publisher.consume());
        let server = Server::new().with_origin(&relay);
        let (a, publisher) = client.connect(up, Instant::ZERO);
        let (b, relay_up) = server.accept(up, Instant::ZERO);
        let (c, relay_down) = Client::new().with_origin(&relay).connect(down, Instant::ZERO);
        let up = Pair::new(publisher, relay_up, link.clone());
        let down = Pair::new(relay_down, join(down), link.clone());
        let sessions = vec![a, b, c];
        let mut chain = Self { up, down, track, relay, sessions, broadcast };
        chain.advance(500);
        chain
    }

    /// Advances both links in small steps, so that the relay can forward what it receives.
    pub(crate) fn advance(&mut self, millis: u64) {
        for _ in 0..millis {
            self.up.advance(Duration::from_millis(1));
            self.down.advance(Duration::from_millis(1));
        }
    }
}

impl Chain<Driver> {
    /// The end that the relay dialed is an origin that receives all announcements.
    pub(crate) fn to_origin(
        versions: [Version; 2],
        link: &Link,
        track: Track,
    ) -> (Self, OriginProducer) {
        let origin = Origin::default().produce();
        let server = Server::new().with_consume(origin.clone());
        let mut session = None;
        let mut chain = Self::with(versions, link, track, |version| {
            let (handle, driver) = server.accept(version, Instant::ZERO);
            session = Some(handle);
            driver
        });
        chain.sessions.extend(session);
        (chain, origin)
    }
}
