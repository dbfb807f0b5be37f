//! Tests for the features of moq-lite 05, for any peers that have them, directly and through a relay.

use std::time::Duration;

use crate::{
    log, payload,
    peers::{Broadcast, Event, Link, Listener, Modern, ModernTrack, Options, Peer, Role, Track},
    within,
};

const PATH: &str = "live/cam";

/// A publisher of one track, a relay, and a subscriber that knows the broadcast.
struct Relayed<P: Modern, R, S> {
    _publisher: P,
    _relay: R,
    subscriber: S,
    _broadcast: P::Broadcast,
    track: <P::Broadcast as Broadcast>::Track,
    _listener: Listener,
    _links: [Link; 2],
}

impl<P: Modern, R: Peer, S: Peer> Relayed<P, R, S> {
    async fn new(up: &str, down: &str) -> Self {
        log();
        let (publisher, relay, subscriber) = (P::new(), R::new(), S::new());
        println!("{} -> {up} {} {down} -> {}", P::NAME, R::NAME, S::NAME);
        let listener = relay.serve(Role::Both, &if up == down { vec![up] } else { vec![up, down] });
        let mut news = subscriber.announcements();
        let up = publisher.dial(Role::Publish, listener.addr(), &[up]).await.expect("a session");
        let down = subscriber.dial(Role::Subscribe, listener.addr(), &[down]).await;
        let mut broadcast = publisher.broadcast(PATH).expect("a broadcast");
        let track = broadcast.track("video").expect("a track");
        broadcast.announce().expect("announced");
        news.announced(PATH).await;
        Self {
            _publisher: publisher,
            _relay: relay,
            subscriber,
            _broadcast: broadcast,
            track,
            _listener: listener,
            _links: [up, down.expect("a session")],
        }
    }
}

/// Past groups are fetched by number, also by two readers at once. A group that never existed is refused.
pub async fn fetches<P: Modern, R: Peer, S: Modern>(up: &str, down: &str) {
    let mut net = Relayed::<P, R, S>::new(up, down).await;
    for sequence in 0..5 {
        assert_eq!(net.track.write(&payload::group(sequence)), Ok(sequence));
    }
    let fetch = |sequence| net.subscriber.fetch(PATH, "video", sequence);
    let (third, first) = tokio::join!(fetch(3), fetch(1));
    for (sequence, group) in [(3, third), (1, first)] {
        let group = group.expect("a past group");
        assert_eq!((group.sequence, &group.end), (sequence, &Ok(())));
        payload::check(sequence, &group.frames, &payload::SIZES);
    }
    // Once more: a group in a cache on the way needs no request.
    assert_eq!(fetch(1).await.expect("a past group").end, Ok(()));
    net.track.finish().expect("finished");
    let never = fetch(17).await;
    println!("a group after the end: {never:?}");
    assert!(
        never.is_err() || never.is_ok_and(|group| group.end.is_err() && group.frames.is_empty())
    );
}

/// Datagrams arrive as datagrams, with their number.
pub async fn datagrams<P: Modern, R: Peer, S: Modern>(up: &str, down: &str) {
    let mut net = Relayed::<P, R, S>::new(up, down).await;
    let mut datagrams = net.subscriber.datagrams(PATH, "video").await.expect("a subscription");
    net.track.used().await.expect("a live track");
    for (number, size) in (0_u64..).zip([1, 100, 1_000]) {
        net.track.datagram(payload::frame(number, size)).expect("written");
        assert_eq!(datagrams.next().await, (number, payload::frame(number, size)));
    }
}

/// The publisher sees the combined subscription, at once and after each change, and keeps sending.
pub async fn updates<P: Modern, R: Peer, S: Modern>(up: &str, down: &str) {
    let mut net = Relayed::<P, R, S>::new(up, down).await;
    let mut options =
        Options { priority: 10, max_age: Duration::from_millis(700), ..Options::default() };
    let subscribing = net.subscriber.subscribe(PATH, "video", options.clone());
    let mut subscription = subscribing.await.expect("a subscription");
    net.track.wanted(10, options.max_age).await.expect("a live track");
    for (sequence, priority) in [(0, 200), (1, 3)] {
        net.track.write(&payload::sized_group(sequence, &[100])).expect("written");
        assert_eq!(subscription.next_group().await.expect("a group").sequence, sequence);
        options.priority = priority;
        options.max_age += Duration::from_millis(400);
        subscription.update(&options).expect("changed");
        net.track.wanted(priority, options.max_age).await.expect("a live track");
    }
}

/// The subscriber requests the publisher's estimate of the path, and receives it while groups are sent.
pub async fn probes<P: Peer, S: Peer>(version: &str) {
    log();
    println!("{} -> {} in {version}", P::NAME, S::NAME);
    let (publisher, subscriber) = (P::new(), S::new());
    let listener = publisher.serve(Role::Publish, &[version]);
    let link = subscriber.dial(Role::Subscribe, listener.addr(), &[version]).await;
    let link = link.expect("a session");
    let mut broadcast = publisher.broadcast(PATH).expect("a broadcast");
    let mut track = broadcast.track("video").expect("a track");
    broadcast.announce().expect("announced");
    subscriber.announcements().announced(PATH).await;
    let subscribing = subscriber.subscribe(PATH, "video", Options::default());
    let mut subscription = subscribing.await.expect("a subscription");
    track.used().await.expect("a live track");
    let sending = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        for sequence in 0.. {
            ticks.tick().await;
            track.write(&payload::sized_group(sequence, &[20_000])).expect("written");
            subscription.next_group().await.expect("a group");
        }
    };
    let bitrate = tokio::select! {
        bitrate = link.probe() => bitrate.expect("an estimate"),
        () = sending => unreachable!("it never ends"),
    };
    println!("{bitrate} bits per second");
    assert!(bitrate > 100_000, "{bitrate}");
}

/// The listening side sends GOAWAY. The other side gets the URI, running subscriptions continue, new
/// requests fail, and then the session ends.
pub async fn goes_away<P: Peer, S: Peer>(version: &str) {
    const ELSEWHERE: &str = "moqt://elsewhere.example/";
    log();
    println!("{} -> {} in {version}", P::NAME, S::NAME);
    let (publisher, subscriber) = (P::new(), S::new());
    let mut listener = publisher.serve(Role::Publish, &[version]);
    let link = subscriber.dial(Role::Subscribe, listener.addr(), &[version]).await;
    let link = link.expect("a session");
    let accepted = listener.accepted().await.expect("a session");
    let mut broadcast = publisher.broadcast(PATH).expect("a broadcast");
    let mut track = broadcast.track("video").expect("a track");
    broadcast.announce().expect("announced");
    subscriber.announcements().announced(PATH).await;
    let subscribing = subscriber.subscribe(PATH, "video", Options::default());
    let mut subscription = subscribing.await.expect("a subscription");
    track.used().await.expect("a live track");
    let mut passes = async |sequence| {
        track.write(&payload::sized_group(sequence, &[1_000])).expect("written");
        let group = subscription.next_group().await.expect("a group");
        assert_eq!((group.sequence, group.end), (sequence, Ok(())));
    };
    passes(0).await;

    accepted.go_away(ELSEWHERE, Duration::from_secs(1)).expect("said");
    assert_eq!(link.going_away().await.as_deref(), Some(ELSEWHERE));
    passes(1).await;
    drop(subscription);
    println!("closed: {}", link.closed().await);
    println!("closed: {}", accepted.closed().await);
}

/// A publisher at two relays, and a subscriber at both. One relay leaves, a third one joins, and the second
/// one leaves. The subscription continues, no group arrives twice, and each group that is written between
/// the changes arrives.
pub async fn failover<P: Modern, R: Peer, S: Modern>(version: &str) {
    log();
    println!("{} -> two of {} -> {} in {version}", P::NAME, R::NAME, S::NAME);
    let (publisher, subscriber) = (P::new(), S::new());
    let mut broadcast = publisher.broadcast(PATH).expect("a broadcast");
    let mut track = broadcast.track("video").expect("a track");
    broadcast.announce().expect("announced");
    let join = || async {
        let relay = R::new();
        let listener = relay.serve(Role::Both, &[version]);
        let up = publisher.dial(Role::Publish, listener.addr(), &[version]).await;
        let down = subscriber.dial(Role::Subscribe, listener.addr(), &[version]).await;
        let mut news = relay.announcements();
        news.announced(PATH).await;
        (relay, listener, up.expect("a session"), down.expect("a session"))
    };
    let mut news = subscriber.announcements();
    let first = join().await;
    news.announced(PATH).await;
    let options = Options { max_age: Duration::from_secs(10), ..Options::default() };
    let mut subscription =
        subscriber.subscribe(PATH, "video", options).await.expect("a subscription");
    track.used().await.expect("a live track");
    let mut sequence = 0;
    let mut seen = Vec::new();
    // Writes until one of its groups has arrived. While the route changes, the reader may miss some.
    let mut goes_on = async |what: &str| {
        let begin = sequence;
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        let arrived = async {
            loop {
                tokio::select! {
                    _ = ticks.tick() => {
                        track.write(&payload::sized_group(sequence, &[1_000])).expect("written");
                        sequence += 1;
                    }
                    event = subscription.event() => match event.expect("it runs on") {
                        Event::Group { sequence, .. } => {
                            assert!(!seen.contains(&sequence), "group {sequence} twice");
                            seen.push(sequence);
                            if sequence > begin {
                                return;
                            }
                        }
                        Event::TrackEnd(end) => panic!("{what}: {end:?}"),
                        Event::Frame { .. } | Event::GroupEnd { .. } => {}
                    },
                }
            }
        };
        within(format!("a group after {begin}: {what}"), arrived).await;
    };
    goes_on("by the first relay").await;
    let second = join().await;
    goes_on("with two relays").await;
    drop(first);
    goes_on("by the second relay").await;
    let third = join().await;
    goes_on("with two relays again").await;
    drop(second);
    goes_on("by the third relay").await;
    drop(third);
}
