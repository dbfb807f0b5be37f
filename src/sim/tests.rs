//! The link keeps the guarantees of QUIC and detects endpoints that break the contract.

use alloc::vec;

use super::*;
use crate::machine::{Command, Config, Event, Machine, RequestKey, Token};
use crate::path::Path;
use crate::stream::{Dir, Side};
use crate::subscription::{Subscription, TrackInfo};
use crate::version::Version;
use core::time::Duration;

fn bare(side: Side) -> Bare<Shelf> {
    let machine = Machine::new(Config::new(side, Version::Lite04), Instant::ZERO);
    Bare::new(machine, Shelf::new())
}

fn token(slot: u32) -> Token {
    Token { slot, generation: 0 }
}

/// A pair with a subscription of the client, and the server's key for it.
fn subscribed(link: Link) -> (Pair<Bare<Shelf>, Bare<Shelf>>, RequestKey) {
    let mut pair = Pair::new(bare(Side::Client), bare(Side::Server), link);
    let (broadcast, track) = (Path::new("a"), "b".into());
    let (subscription, want) = (token(0), Subscription::default());
    pair.client.apply(Command::Subscribe { subscription, broadcast, track, want });
    pair.run_until_idle();
    let Some(Event::SubscribeRequested { request, .. }) = pair.server.take_events().pop() else {
        panic!("not a subscription");
    };
    pair.server.apply(Command::AcceptSubscribe {
        request,
        info: TrackInfo::default(),
        largest: None,
    });
    pair.run_until_idle();
    pair.client.take_events();
    (pair, request)
}

fn give(pair: &mut Pair<Bare<Shelf>, Bare<Shelf>>, request: RequestKey, slot: u32, size: usize) {
    let (group, sequence) = (token(slot), slot.into());
    pair.server.source.insert(group, [Frame::new(0, vec![1; size])]);
    pair.server.apply(Command::Group { request, group, sequence, first_frame: 0 });
}

/// The number of groups that ended at the client.
fn ended(pair: &mut Pair<Bare<Shelf>, Bare<Shelf>>) -> usize {
    let events = pair.client.take_events();
    events.iter().filter(|it| matches!(it, Event::GroupEnded { result: Ok(()), .. })).count()
}

#[test]
fn stream_credit_is_enforced_and_returns() {
    for seed in 0..5 {
        let (mut pair, request) = subscribed(Link::hostile(seed));
        for slot in 0..10 {
            give(&mut pair, request, slot, 30);
        }
        let mut most = 0;
        while pair.step() {
            most = most.max(pair.streams(Side::Server, Dir::Uni));
        }
        assert_eq!(most, 2);
        pair.run_until_idle();
        assert_eq!(ended(&mut pair), 10);
    }
}

#[test]
fn bandwidth_takes_time_and_the_newest_group_goes_first() {
    let latency = Duration::from_millis(20);
    let (mut pair, request) = subscribed(Link { bandwidth: Some(10), latency, ..Link::perfect() });
    let start = pair.now();
    give(&mut pair, request, 0, 12_000);
    pair.advance(Duration::from_millis(500));
    assert_eq!(ended(&mut pair), 0);
    give(&mut pair, request, 1, 1_000);
    // The packet in flight, the group, and the latency.
    pair.advance(Duration::from_millis(120 + 101 + 20));
    assert_eq!(ended(&mut pair), 1);
    pair.run_until_idle();
    assert_eq!(ended(&mut pair), 1);
    let time = pair.now() - start;
    assert!(time >= Duration::from_millis(1_320), "{time:?}");
    assert!(time < Duration::from_millis(1_345), "{time:?}");
}

/// Windows block the sender while nobody reads, and let it continue afterwards.
#[test]
fn windows_block_the_sender() {
    let (mut pair, request) = subscribed(Link { stream_window: 1_000, ..Link::perfect() });
    pair.client.room = 0;
    give(&mut pair, request, 0, 1_000_000);
    pair.run_until_idle();
    let released =
        |events: &[Event]| events.iter().any(|it| matches!(it, Event::GroupReleased { .. }));
    assert!(!released(&pair.server.take_events()));
    pair.client.room = usize::MAX;
    pair.run_until_idle();
    assert!(released(&pair.server.take_events()));
    assert_eq!(ended(&mut pair), 1);
}

#[test]
fn the_seed_determines_the_run() {
    let run = |seed| {
        let (mut pair, request) = subscribed(Link::hostile(seed));
        give(&mut pair, request, 0, 200);
        pair.run_until_idle();
        pair.trace().hash()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

/// An endpoint that claims to have work, or works forever.
struct Busy {
    works: bool,
}

impl Endpoint for Busy {
    fn handle(&mut self, _: Instant, _: Input) {}
    fn handle_timeout(&mut self, _: Instant) {}
    fn work(&mut self, _: Instant) -> bool {
        self.works
    }
    fn poll_action(&mut self) -> Option<Action> {
        None
    }
    fn poll_open(&mut self) -> Option<Open<'_>> {
        None
    }
    fn poll_write(&mut self) -> Option<Write<'_>> {
        None
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn has_work(&self) -> bool {
        true
    }
    fn read_limit(&self, _: StreamId) -> usize {
        0
    }
    fn is_closed(&self) -> bool {
        false
    }
}

#[test]
#[should_panic(expected = "Client has work but yields nothing")]
fn an_endpoint_with_work_that_yields_nothing_is_detected() {
    Pair::new(Busy { works: false }, bare(Side::Server), Link::perfect()).run_until_idle();
}

#[test]
#[should_panic(expected = "works without any traffic")]
fn an_endpoint_that_works_forever_is_detected() {
    Pair::new(bare(Side::Client), Busy { works: true }, Link::perfect()).run_until_idle();
}

/// The cost of simulating a connection grows with its traffic, not with its open streams.
#[test]
fn idle_streams_cost_nothing_to_simulate() {
    let looks = |idle: u64| {
        let link = Link { uni_streams: 1 << 20, bi_streams: 1 << 20, ..Link::wide(1) };
        let (mut pair, request) = subscribed(link);
        for slot in 0..idle {
            // Open groups without further data.
            let slot = u32::try_from(slot + 100).unwrap();
            pair.server.source.push(token(slot), Frame::new(0, vec![1; 1]));
            let (group, sequence) = (token(slot), u64::from(slot));
            pair.server.apply(Command::Group { request, group, sequence, first_frame: 0 });
        }
        pair.run_until_idle();
        assert_eq!(pair.streams(Side::Server, Dir::Uni) as u64, idle);
        let before = pair.looks();
        for slot in 0..10 {
            give(&mut pair, request, slot, 300);
            pair.run_until_idle();
            pair.advance(Duration::from_millis(10));
        }
        pair.looks() - before
    };
    let (few, many) = (looks(20), looks(200));
    assert!(many <= few + few / 4, "{few} updates with 20 idle streams, {many} with 200");
}
