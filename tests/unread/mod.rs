//! A client of the machine layer that sends announce requests and reads nothing.

use smoq::machine::{Config, Input, Machine};
use smoq::sim::{Bare, Endpoint, Shelf};
use smoq::stream::{Side, StreamId};
use smoq::{Driver, Hop, Instant, OriginProducer, Path, Server, Session, Version};

/// A server whose client sent announce requests and reads no answers.
pub(crate) struct UnreadServer {
    pub(crate) server: Driver,
    session: Session,
}

impl UnreadServer {
    pub(crate) fn new(version: Version, origin: &OriginProducer, requests: usize) -> Self {
        let mut config = Config::new(Side::Client, version);
        config.hop = Hop::new(7);
        config.interests = vec![Path::root(); requests];
        let mut client = Bare::new(Machine::new(config, Instant::ZERO), Shelf::default());
        let (session, mut server) =
            Server::new().with_publish(origin.consume()).accept(version, Instant::ZERO);
        let (mut requested, mut opened) = (0, [0; 2]);
        while let Some(open) = client.poll_open() {
            let dir = open.dir();
            let id = StreamId::new(Side::Client, dir, opened[dir as usize]);
            opened[dir as usize] += 1;
            open.opened(id);
            server.handle(Instant::ZERO, Input::Opened { id });
        }
        while let Some(mut write) = client.poll_write() {
            let (id, len, fin) = (write.id(), write.len(), write.fin());
            let bytes = write.chunks().concat();
            requested += bytes.len();
            write.accepted(len);
            server.handle(Instant::ZERO, Input::Data { id, bytes: bytes.into(), fin });
        }
        assert!(requested < 400, "{requested} bytes of requests");
        Self { server, session }
    }

    pub(crate) fn work(&mut self) {
        while self.server.work(Instant::ZERO) {}
        assert!(self.session.try_closed().is_pending());
    }
}
