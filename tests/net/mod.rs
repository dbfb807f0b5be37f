//! Nodes with an origin each, and sessions between them, all on one virtual clock.

#![allow(dead_code, reason = "each test uses some of it")]

use std::task::Poll;
use std::time::Duration;

use smoq::coding::lite::{Announce, frame_message};
use smoq::machine::{Action, Input, Open, Write};
use smoq::sim::{Endpoint, Link, Pair};
use smoq::stream::{Dir, Side, StreamId};
use smoq::{
    Client, Driver, GroupConsumer, Hop, Instant, Origin, OriginProducer, Server, Session,
    TrackConsumer, Version,
};

/// Relays, publishers and readers are the same: an origin that every session of the node shares.
pub(crate) struct Net {
    pub(crate) origins: Vec<OriginProducer>,
    pub(crate) now: u64,
    links: Vec<Joined>,
}

struct Joined {
    ends: [usize; 2],
    pair: Pair<Tap, Tap>,
    up: bool,
    sessions: [Session; 2],
}

impl Net {
    /// So many nodes, each with a hop of its own.
    pub(crate) fn new(nodes: usize) -> Self {
        let origins = (1..=nodes as u64).map(|n| Origin::new(Hop::new(n)).produce()).collect();
        Self { origins, now: 0, links: Vec::new() }
    }

    /// Another node, with the hop that it claims.
    pub(crate) fn add(&mut self, hop: Hop) -> usize {
        self.origins.push(Origin::new(hop).produce());
        self.origins.len() - 1
    }

    /// Joins two nodes, 5 ms apart, and gives the number of the link.
    pub(crate) fn link(&mut self, a: usize, b: usize, version: Version) -> usize {
        self.link_over(a, b, version, 5)
    }

    /// Joins two nodes, so many milliseconds apart.
    pub(crate) fn link_over(&mut self, a: usize, b: usize, version: Version, millis: u64) -> usize {
        self.join(Client::new(), a, b, version, millis)
    }

    /// Joins two nodes, 5 ms apart, by a link that costs so much, as the first one says.
    pub(crate) fn link_for(&mut self, a: usize, b: usize, version: Version, cost: u64) -> usize {
        self.join(Client::new().with_cost(cost), a, b, version, 5)
    }

    fn join(&mut self, client: Client, a: usize, b: usize, version: Version, millis: u64) -> usize {
        let server = Server::new();
        let now = Instant::from_millis(self.now);
        let (one, client) = client.with_origin(&self.origins[a]).connect(version, now);
        let (two, server) = server.with_origin(&self.origins[b]).accept(version, now);
        let mut link = Link::perfect();
        link.latency = Duration::from_millis(millis);
        let client = Tap::new(client, Side::Client, version);
        let server = Tap::new(server, Side::Server, version);
        let mut pair = Pair::new(client, server, link);
        pair.advance(Duration::from_millis(self.now));
        self.links.push(Joined { ends: [a, b], pair, up: true, sessions: [one, two] });
        self.links.len() - 1
    }

    /// The session of a link, as one of its two nodes has it.
    pub(crate) fn session(&mut self, link: usize, node: usize) -> &mut Session {
        let Joined { ends, sessions, .. } = &mut self.links[link];
        &mut sessions[usize::from(ends[1] == node)]
    }

    /// The connection of a link breaks, and both ends see it.
    pub(crate) fn cut(&mut self, link: usize) {
        self.links[link].pair.disconnect();
        self.links[link].pair.run_until_idle();
        self.links[link].up = false;
    }

    /// Goes on until so many milliseconds have passed, from event to event: what one link brings, a node
    /// passes on to the others at once.
    pub(crate) fn advance(&mut self, millis: u64) {
        self.now += millis;
        let target = Instant::from_millis(self.now);
        loop {
            let links = self.links.iter_mut().filter(|link| link.up).map(|link| &mut link.pair);
            let mut pairs: Vec<_> = links.collect();
            let next = pairs.iter().filter_map(|pair| pair.next_event()).min();
            let at = next.unwrap_or(target).min(target);
            // First the clocks, because what one link brings wakes the next one.
            pairs.iter_mut().for_each(|pair| pair.skip_to(at));
            pairs.iter_mut().for_each(|pair| pair.advance(Duration::ZERO));
            if next.is_none_or(|next| next > target) {
                return;
            }
        }
    }

    /// Whether an end of the link reads a track from the other.
    pub(crate) fn subscribed(&self, link: usize) -> bool {
        let pair = &self.links[link].pair;
        let asks = |side| pair.streams(side, Dir::Bi);
        // One stream of each end asks for announcements.
        self.links[link].up && asks(Side::Client) + asks(Side::Server) > 2
    }

    /// How many links there are, the broken ones as well.
    pub(crate) fn links(&self) -> usize {
        self.links.len()
    }

    /// Whether every node is joined to every other by links but this one.
    pub(crate) fn is_connected_without(&self, link: usize) -> bool {
        let mut seen = vec![false; self.origins.len()];
        seen[0] = true;
        for _ in 0..seen.len() {
            for (_, joined) in self.links.iter().enumerate().filter(|(n, it)| *n != link && it.up) {
                let [a, b] = joined.ends;
                let reached = seen[a] || seen[b];
                (seen[a], seen[b]) = (reached, reached);
            }
        }
        seen.into_iter().all(|seen| seen)
    }

    /// What was said of broadcasts on each link and in each direction since the last time: from whom,
    /// to whom, what.
    pub(crate) fn told(&mut self) -> Vec<(usize, usize, Vec<Announce>)> {
        let mut told = Vec::new();
        for link in &mut self.links {
            let [a, b] = link.ends;
            told.push((b, a, link.pair.client.told()));
            told.push((a, b, link.pair.server.told()));
        }
        told
    }

    /// How much was sent over all links, ever.
    pub(crate) fn sent(&self) -> usize {
        self.links.iter().map(|link| link.pair.client.bytes + link.pair.server.bytes).sum()
    }
}

/// Takes the groups that are there, in the order in which they came.
pub(crate) fn received(reader: &mut TrackConsumer) -> Vec<GroupConsumer> {
    std::iter::from_fn(|| match reader.try_recv_group() {
        Poll::Ready(Ok(group)) => group,
        Poll::Ready(Err(error)) => panic!("{error}"),
        Poll::Pending => None,
    })
    .collect()
}

/// A driver, and what it hears of announcements: what comes on the first stream that it opened.
pub(crate) struct Tap {
    driver: Driver,
    side: Side,
    version: Version,
    bytes: usize,
    announcements: Vec<u8>,
    /// Whether ANNOUNCE_OK was read, where the version has it.
    answered: bool,
}

impl Tap {
    fn new(driver: Driver, side: Side, version: Version) -> Self {
        Self { driver, side, version, bytes: 0, announcements: Vec::new(), answered: false }
    }

    fn told(&mut self) -> Vec<Announce> {
        let mut told = Vec::new();
        let mut rest = &self.announcements[..];
        while !rest.is_empty() {
            let first = self.version >= Version::Lite05 && !self.answered;
            let typed = self.version >= Version::Lite06 && !first;
            let framed = frame_message(rest, self.version, typed, usize::MAX);
            let framed = framed.unwrap().expect("whole messages");
            let (body, after) = rest[framed.head..].split_at(framed.body);
            if first {
                self.answered = true;
            } else {
                let message = Announce::decode_body(framed.kind, body, self.version, 32);
                told.extend(message.unwrap());
            }
            rest = after;
        }
        self.announcements.clear();
        told
    }
}

impl Endpoint for Tap {
    fn handle(&mut self, now: Instant, input: Input) {
        if let Input::Data { id, bytes, .. } = &input {
            self.bytes += bytes.len();
            if *id == StreamId::new(self.side, Dir::Bi, 0) {
                self.announcements.extend_from_slice(bytes);
            }
        }
        self.driver.handle(now, input);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.driver.handle_timeout(now);
    }

    fn work(&mut self) -> bool {
        self.driver.work()
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.driver.poll_action()
    }

    fn poll_open(&mut self) -> Option<Open<'_>> {
        self.driver.poll_open()
    }

    fn poll_write(&mut self) -> Option<Write<'_>> {
        self.driver.poll_write()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.driver.poll_timeout()
    }

    fn has_work(&self) -> bool {
        self.driver.has_work()
    }

    fn read_limit(&self, id: StreamId) -> usize {
        self.driver.read_limit(id)
    }

    fn is_closed(&self) -> bool {
        self.driver.is_closed()
    }
}
