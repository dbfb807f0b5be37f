//! FETCH through a relay, on a virtual clock: the relay fetches upstream the groups that it does not have.

mod chain;
mod raw_client;

use std::task::Poll;
use std::time::Duration;

use chain::Chain;
use raw_client::{Fetched, RawClient};
use smoq::coding::ietf::{FetchEnd, FetchOk, GroupOrder, Location, Message, Parameters};
use smoq::machine::{Command, Config, Event, Machine, Token};
use smoq::sim::{Bare, Endpoint, Link, Shelf};
use smoq::stream::Side;
use smoq::{
    Driver, Error, GroupConsumer, GroupRequest, Instant, Limits, Path, Server, Subscription, Track,
    TrackConsumer, TrackProducer, Version, Versions,
};

fn video() -> Track {
    Track::new("video").max_age(Duration::from_secs(3_600)).priority(9)
}

/// Writes groups of two frames, the second of them large.
fn write<B: Endpoint>(chain: &mut Chain<B>, groups: std::ops::Range<u64>) {
    for n in groups {
        let mut group = chain.track.create_group(n).unwrap();
        for (time, frame) in frames(n) {
            group.write_frame(time, frame).unwrap();
        }
        group.finish().unwrap();
    }
}

fn reading(versions: [Version; 2], link: &Link) -> (Chain<Driver>, TrackConsumer) {
    reading_through_relay(0, versions, link)
}

/// A reader after the relay that joins after so many groups, and does not want them.
fn reading_through_relay(
    groups: u64,
    versions: [Version; 2],
    link: &Link,
) -> (Chain<Driver>, TrackConsumer) {
    let (mut chain, origin) = Chain::to_origin(versions, link, video());
    write(&mut chain, 0..groups);
    let seen = origin.consume().broadcast("live").expect("the broadcast was announced");
    let want = Subscription::default().start(groups);
    let reader = seen.subscribe_track("video", want).unwrap();
    chain.advance(200);
    (chain, reader)
}

fn fetch(
    chain: &mut Chain<Driver>,
    reader: &mut TrackConsumer,
    sequence: u64,
) -> Result<GroupConsumer, Error> {
    for _ in 0..500 {
        match reader.try_fetch_group(sequence) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => chain.advance(1),
        }
    }
    panic!("no answer");
}

/// `timed`: the timestamps of the publisher arrive.
fn fetch_whole(
    chain: &mut Chain<Driver>,
    reader: &mut TrackConsumer,
    sequence: u64,
    is_timed: bool,
) {
    let mut group = fetch(chain, reader, sequence).unwrap();
    chain.advance(500);
    for (time, payload) in frames(sequence) {
        let Poll::Ready(Ok(Some(frame))) = group.try_read_frame() else { panic!("{group:?}") };
        assert_eq!(frame.payload(), &payload[..]);
        assert!(frame.timestamp().units() == time || !is_timed, "{frame:?}");
    }
    assert!(matches!(group.try_read_frame(), Poll::Ready(Ok(None))), "{group:?}");
}

fn frames(sequence: u64) -> [(u64, Vec<u8>); 2] {
    [(sequence * 10_000, vec![1]), (sequence * 10_000 + 7, vec![sequence as u8; 3_000])]
}

fn fetches(version: Version) -> bool {
    fetching().any(|it| it == version)
}

/// moq-lite 05 and later, and moq-transport.
fn fetching() -> impl Iterator<Item = Version> {
    Version::ALL.into_iter().filter(|version| *version >= Version::Lite05)
}

/// Whether frames carry timestamps.
fn is_timed(version: Version) -> bool {
    use Version::{Moqt14, Moqt15, Moqt16};
    fetches(version) && !matches!(version, Moqt14 | Moqt15 | Moqt16)
}

/// moq-transport has no codes for most errors.
fn is_lite(version: Version) -> bool {
    version < Version::Moqt14
}

fn in_all_versions(test: impl Fn([Version; 2], &Link)) {
    for up in Versions::default().iter() {
        for down in Versions::default().iter() {
            for link in [Link::perfect(), Link::wide(3)] {
                println!("{up} {down} {link:?}");
                test([up, down], &link);
            }
        }
    }
}

fn requests(chain: &TrackProducer) -> smoq::TrackDynamic {
    chain.dynamic()
}

fn request(dynamic: &mut smoq::TrackDynamic) -> GroupRequest {
    match dynamic.try_requested_group() {
        Poll::Ready(Ok(request)) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_relay_fetches_groups_that_it_lacks() {
    in_all_versions(|versions, link| {
        let (mut chain, mut reader) = reading_through_relay(3, versions, link);
        write(&mut chain, 3..6);
        chain.advance(500);
        let mut live: Vec<u64> = vec![];
        let mut receive = |reader: &mut TrackConsumer| {
            while let Poll::Ready(Ok(Some(group))) = reader.try_recv_group() {
                live.push(group.sequence());
            }
            live.clone()
        };
        let before = receive(&mut reader);
        assert!(before.contains(&5), "{before:?}");
        let missing = if versions.into_iter().all(fetches) { 0 } else { 77 };
        assert!(!before.contains(&missing), "{before:?}");
        let [up, down] = versions.map(fetches);
        match (up, down) {
            (true, true) => {
                let is_timed = versions.into_iter().all(is_timed);
                fetch_whole(&mut chain, &mut reader, missing, is_timed);
            }
            (_, false) => {
                // The answer is known at once.
                let answer = reader.try_fetch_group(missing);
                chain.advance(1);
                let answer =
                    if answer.is_pending() { reader.try_fetch_group(missing) } else { answer };
                assert!(matches!(answer, Poll::Ready(Err(Error::Unsupported))), "{answer:?}");
            }
            // moq-lite has no code for something that a relay can't do.
            (false, true) => {
                let error = if is_lite(versions[1]) { Error::Internal } else { Error::Unsupported };
                assert_eq!(fetch(&mut chain, &mut reader, missing).unwrap_err(), error);
            }
        }
        // A reader that follows the track does not notice, and continues.
        assert_eq!(receive(&mut reader), before);
        write(&mut chain, 6..7);
        chain.advance(300);
        assert_eq!(receive(&mut reader).last(), Some(&6));
    });
}

/// Every group is requested once: from the relay by its sessions, and from the publisher by the relay.
#[test]
fn readers_of_a_group_share_one_request() {
    for version in fetching() {
        let (mut chain, mut reader) = reading([version; 2], &Link::wide(3));
        let mut dynamic = requests(&chain.track);
        // Two readers behind one session, and one at the relay itself.
        let mut other = reader.clone();
        let seen = chain.relay.consume().broadcast("live").unwrap();
        let mut third = seen.subscribe_track("video", Subscription::default()).unwrap();
        for reader in [&mut reader, &mut other, &mut third] {
            assert!(reader.try_fetch_group(70).is_pending());
        }
        chain.advance(300);
        let asked = request(&mut dynamic);
        assert_eq!((asked.sequence(), asked.priority()), (70, 127));
        assert!(dynamic.try_requested_group().is_pending());
        // The relay forwards it while it arrives.
        let mut group = asked.accept().unwrap();
        group.write_frame(5, "first").unwrap();
        chain.advance(300);
        let readers = [&mut reader, &mut other, &mut third];
        let mut groups = readers.map(|reader| fetch(&mut chain, reader, 70).unwrap());
        for group in &mut groups {
            let Poll::Ready(Ok(Some(first))) = group.try_read_frame() else { panic!() };
            assert_eq!(first.payload(), b"first");
            assert!(group.try_read_frame().is_pending());
        }
        group.finish().unwrap();
        chain.advance(300);
        for group in &mut groups {
            assert_eq!(group.try_finished(), Poll::Ready(Ok(1)));
        }
        // The relay caches it, and does not request it again.
        drop(groups);
        fetch(&mut chain, &mut third, 70).unwrap();
        fetch(&mut chain, &mut reader, 70).unwrap();
        assert!(dynamic.try_requested_group().is_pending());
        assert_eq!(chain.track.latest(), None, "the group was never written as a live one");
    }
}

#[test]
fn refusals_are_forwarded_unchanged() {
    for version in fetching() {
        let (mut chain, mut reader) = reading([version; 2], &Link::wide(3));
        write(&mut chain, 0..3);
        assert_eq!(fetch(&mut chain, &mut reader, 3).unwrap_err(), Error::NotFound);
        let mut dynamic = requests(&chain.track);
        for error in [Error::Old, Error::NotFound, Error::App(9)] {
            assert!(reader.try_fetch_group(3).is_pending());
            chain.advance(200);
            request(&mut dynamic).reject(error.clone());
            // On moq-transport both are a range that can't be served.
            let is_old = error == Error::Old && !is_lite(version);
            let error = if is_old { Error::NotFound } else { error };
            assert_eq!(fetch(&mut chain, &mut reader, 3).unwrap_err(), error);
        }
        // A group that breaks off on its way is an error.
        assert!(reader.try_fetch_group(3).is_pending());
        chain.advance(200);
        let mut group = request(&mut dynamic).accept().unwrap();
        group.write_frame(0, "x").unwrap();
        let mut read = fetch(&mut chain, &mut reader, 3).unwrap();
        group.abort(Error::App(3));
        chain.advance(200);
        assert!(matches!(read.try_read_frame(), Poll::Ready(Ok(Some(_)))));
        assert!(matches!(read.try_read_frame(), Poll::Ready(Err(Error::App(3)))));
    }
}

#[test]
fn unwanted_fetches_are_withdrawn_upstream() {
    let (mut chain, mut reader) = reading([Version::Lite06; 2], &Link::wide(3));
    let mut dynamic = requests(&chain.track);
    assert!(reader.try_fetch_group(3).is_pending());
    chain.advance(200);
    let mut asked = request(&mut dynamic);
    assert!(asked.try_unused().is_pending());
    // By requesting another group.
    assert!(reader.try_fetch_group(4).is_pending());
    chain.advance(200);
    assert!(asked.try_unused().is_ready());
    assert_eq!(request(&mut dynamic).sequence(), 4);
}

#[test]
fn the_end_of_a_session_ends_its_fetches() {
    let (mut chain, mut reader) = reading([Version::Lite06; 2], &Link::wide(3));
    let mut dynamic = requests(&chain.track);
    let mut begun = reader.clone();
    assert!(begun.try_fetch_group(2).is_pending());
    chain.advance(200);
    assert!(reader.try_fetch_group(3).is_pending());
    chain.advance(200);
    let mut group = request(&mut dynamic).accept().unwrap();
    group.write_frame(0, "x").unwrap();
    let mut begun = fetch(&mut chain, &mut begun, 2).unwrap();
    chain.advance(200);
    assert!(matches!(begun.try_read_frame(), Poll::Ready(Ok(Some(_)))));
    chain.sessions[0].close(Error::Cancelled);
    chain.advance(200);
    assert_eq!(fetch(&mut chain, &mut reader, 3).unwrap_err(), Error::SessionClosed);
    assert!(matches!(begun.try_read_frame(), Poll::Ready(Err(Error::SessionClosed))));
    assert_eq!(fetch(&mut chain, &mut reader, 4).unwrap_err(), Error::SessionClosed);
}

/// Past groups of a track stay available after its end.
#[test]
fn past_groups_are_fetched_after_the_end() {
    for version in fetching() {
        let (mut chain, mut reader) = reading([version; 2], &Link::wide(3));
        write(&mut chain, 0..6);
        chain.advance(300);
        chain.track.finish().unwrap();
        chain.advance(3_000);
        assert_eq!(reader.try_finished(), Poll::Ready(Ok(6)));
        assert_eq!(fetch(&mut chain, &mut reader, 6).unwrap_err(), Error::NotFound);
        for sequence in [0, 1, 2, 5] {
            fetch_whole(&mut chain, &mut reader, sequence, is_timed(version));
        }
    }
}

/// A track ended, its last reader left, and its publisher forgot it or can't be asked for groups. The relay has them until they
/// are too old, as long as the broadcast is announced.
#[test]
fn groups_of_a_finished_track_are_served_from_the_cache() {
    for up in [Version::Lite04, Version::Lite06, Version::Moqt14, Version::Moqt22] {
        for down in fetching() {
            let what = format!("{up} {down}");
            let mut chain = Chain::with([up, down], &Link::wide(3), video(), |version| {
                let mut config = Config::new(Side::Server, version);
                config.interests = vec![Path::root()];
                Bare::new(Machine::new(config, Instant::ZERO), Shelf::new())
            });
            let seen =
                chain.relay.consume().broadcast("live").expect("the broadcast was announced");
            let mut reader = seen.subscribe_track("video", Subscription::default()).unwrap();
            chain.advance(200);
            for n in 0..3 {
                write(&mut chain, n..n + 1);
                chain.advance(100);
            }
            chain.track.finish().unwrap();
            chain.advance(1_500);
            assert_eq!(reader.try_finished(), Poll::Ready(Ok(3)), "{what}");
            drop(reader);
            // The publisher forgets its track.
            chain.track = Track::new("other").produce();
            chain.advance(300);
            let fetch = |chain: &mut Chain<Bare<Shelf>>, sequence| {
                chain.down.server.take_events();
                chain.down.server.apply(fetching_of(sequence));
                chain.advance(500);
                let mut events = chain.down.server.take_events();
                let frames = events.iter().filter(|it| matches!(it, Event::Frame { .. })).count();
                let Some(Event::FetchEnded { result, .. }) = events.pop() else { panic!("{what}") };
                (frames, result)
            };
            // Versions without timestamps and properties of tracks keep groups for 5 s.
            for sequence in [0, 2, 0] {
                assert_eq!(fetch(&mut chain, sequence), (2, Ok(())), "{what}");
            }
            assert!(matches!(fetch(&mut chain, 3), (0, Err(_))), "{what}");
            // moq-net asks for the properties first.
            if down < Version::Moqt14 {
                let describe = Command::Describe {
                    subscription: Token::default(),
                    broadcast: Path::new("live"),
                    track: "video".into(),
                };
                chain.down.server.apply(describe);
                chain.advance(500);
                let events = chain.down.server.take_events();
                let is_info = |it: &Event| matches!(it, Event::TrackInfo { .. });
                assert!(events.iter().any(is_info), "{what}: {events:?}");
            }
            // A track of the same name that begins again is another one.
            let mut again = chain.broadcast.create_track(video()).unwrap();
            let mut reader = seen.subscribe_track("video", Subscription::default()).unwrap();
            chain.advance(200);
            again.write_frame(0, "again").unwrap();
            chain.advance(200);
            let Poll::Ready(Ok(Some(mut group))) = reader.try_recv_group() else {
                panic!("{what}")
            };
            let Poll::Ready(Ok(Some(frame))) = group.try_read_frame() else { panic!("{what}") };
            assert_eq!((group.sequence(), frame.payload()), (0, &b"again"[..]), "{what}");
            drop((reader, group, frame, again));
            // Nothing is kept after the end of the broadcast.
            chain.broadcast.finish().unwrap();
            chain.advance(3_000);
            assert_eq!(chain.relay.cached_bytes(), 0, "{what}");
            assert!(matches!(fetch(&mut chain, 2), (0, Err(_))), "{what}");
        }
    }
}

fn fetching_of(sequence: u64) -> Command {
    Command::Fetch {
        fetch: Token::default(),
        broadcast: Path::new("live"),
        track: "video".into(),
        priority: 200,
        sequence,
        first_frame: 0,
        last_frame: None,
    }
}

/// `moq-net` requests the track's information and fetches, without a subscription.
#[test]
fn a_fetch_needs_no_subscription() {
    for version in fetching() {
        let mut chain =
            Chain::with([Version::Lite06, version], &Link::wide(3), video(), |version| {
                let mut config = Config::new(Side::Server, version);
                config.interests = vec![Path::root()];
                Bare::new(Machine::new(config, Instant::ZERO), Shelf::new())
            });
        write(&mut chain, 0..6);
        chain.down.server.take_events();
        for sequence in [2, 2, 9] {
            let fetch = Token::default();
            chain.down.server.apply(fetching_of(sequence));
            chain.advance(500);
            let mut events = chain.down.server.take_events();
            let result = if sequence == 9 { Err(Error::NotFound) } else { Ok(()) };
            assert_eq!(events.pop(), Some(Event::FetchEnded { fetch, result }), "{events:?}");
            let count = |it: &&Event| matches!(it, Event::Frame { .. });
            assert_eq!(events.iter().filter(count).count(), if sequence == 9 { 0 } else { 2 });
            assert_eq!(chain.track.try_used(), Poll::Pending, "a fetch is not a subscription");
        }
        // Track information expires without further requests.
        chain.advance(3_000);
        assert_eq!(chain.relay.cached_bytes(), 0);
        // There is no track of that name.
        let fetch = Token::default();
        for (broadcast, track) in [("live", "audio"), ("dead", "video")] {
            chain.down.server.apply(Command::Fetch {
                fetch,
                broadcast: Path::new(broadcast),
                track: track.into(),
                priority: 0,
                sequence: 0,
                first_frame: 0,
                last_frame: None,
            });
            chain.advance(500);
            // On moq-transport both do not exist.
            let is_found = broadcast == "live" || !is_lite(version);
            let error = if is_found { Error::NotFound } else { Error::Unroutable };
            let refused = Event::FetchEnded { fetch, result: Err(error) };
            assert_eq!(chain.down.server.take_events(), [refused]);
        }
    }
}

/// Groups of a range that the relay lacks are fetched upstream, in the order of the answer. Those that the publisher lacks as
/// well are marked (moq-transport-22, 3.2.3).
#[test]
fn a_relay_fetches_what_it_lacks_of_a_range() {
    for up in fetching() {
        for down in Version::ALL.into_iter().filter(|it| *it >= Version::Moqt16) {
            // The relay has groups 8 and 9, the publisher all but 2 and 3.
            let (mut chain, origin) =
                Chain::to_origin([up, Version::Lite06], &Link::wide(3), video());
            write(&mut chain, 0..2);
            write(&mut chain, 4..8);
            let seen = origin.consume().broadcast("live").expect("the broadcast was announced");
            let _reader = seen.subscribe_track("video", Subscription::default().start(8)).unwrap();
            chain.advance(200);
            write(&mut chain, 8..10);
            chain.advance(200);
            let mut client = RawClient::new(Server::new().with_origin(&chain.relay), down);
            let (start, end) = (Location::new(0, 1), Location::new(7, 0));
            let mut ranges = Vec::new();
            for (order, fill_timeout) in [
                (GroupOrder::Ascending, None),
                (GroupOrder::Descending, None),
                (GroupOrder::Ascending, Some(Duration::ZERO)),
            ] {
                if fill_timeout.is_some() && down < Version::Moqt18 {
                    continue;
                }
                let parameters =
                    Parameters { order: Some(order), fill_timeout, ..Parameters::default() };
                let (id, stream) = client.fetch_range(["live", "video"], start, end, parameters);
                for _ in 0..500 {
                    chain.advance(1);
                    client.run();
                }
                let Message::FetchOk(FetchOk { end: told, .. }) = client.answer(stream) else {
                    panic!("no FETCH_OK")
                };
                let from_cache = fill_timeout.is_some();
                if !from_cache {
                    assert_eq!(told, FetchEnd { group: 7, object: Some(0) }, "{up} {down}");
                }
                ranges.push(records(&client, id, order));
            }
            let ascending =
                ["0.1", "1.0", "1.1", "?3", "4.0", "4.1", "5.0", "5.1", "6.0", "6.1", "7.0"];
            let descending =
                ["7.0", "6.0", "6.1", "5.0", "5.1", "4.0", "4.1", "?2", "1.0", "1.1", "0.1"];
            assert_eq!(ranges[0], ascending, "{up} {down}");
            assert_eq!(ranges[1], descending, "{up} {down}");
            let mark = if down >= Version::Moqt20 { "!0" } else { "?0" };
            assert!(ranges.get(2).is_none_or(|range| *range == [mark]), "{up} {down} {ranges:?}");
        }
    }
}

/// The answer to the FETCH of this id. Each payload is compared.
fn records(client: &RawClient, id: u64, order: GroupOrder) -> Vec<String> {
    let records = client.fetched(id, order).into_iter().map(|record| match record {
        Fetched::Object(Location { group, object }, bytes) => {
            assert_eq!(bytes, frames(group)[object as usize].1);
            format!("{group}.{object}")
        }
        Fetched::Unknown(end) => format!("?{}", end.group),
        Fetched::TimedOut(end) => format!("!{}", end.group),
    });
    records.collect()
}

/// A publisher with groups 0 to 7, a relay that has group 7 alone, and a client of the relay.
fn with_group_7(down: Version) -> (Chain<Driver>, TrackConsumer, RawClient) {
    let versions = [Version::Lite06, Version::Lite06];
    let (mut chain, reader) = reading_through_relay(7, versions, &Link::wide(3));
    write(&mut chain, 7..8);
    chain.advance(200);
    let mut client = RawClient::new(Server::new().with_origin(&chain.relay), down);
    client.now = Instant::ZERO + Duration::from_millis(900);
    (chain, reader, client)
}

/// FILL_TIMEOUT (moq-transport-22, 3.2.3 and 9.20.5): what is missing upstream when the time is over is marked, and the rest is
/// delivered. It is the time for the whole range.
#[test]
fn a_subscriber_waits_no_longer_than_it_said() {
    for down in Version::ALL.into_iter().filter(|it| *it >= Version::Moqt18) {
        let (mut chain, _reader, mut client) = with_group_7(down);
        let begin = client.now;
        let time = Duration::from_millis(300);
        let parameters = Parameters { fill_timeout: Some(time), ..Parameters::default() };
        let (start, end) = (Location::new(3, 0), Location::new(7, 1));
        let (id, _) = client.fetch_range(["live", "video"], start, end, parameters);
        for _ in 0..250 {
            chain.advance(1);
            client.now = client.now + Duration::from_millis(1);
            client.run();
            if records(&client, id, GroupOrder::Ascending).len() == 4 {
                break;
            }
        }
        // Two groups came. Then the publisher is not heard any more.
        let seen = ["3.0", "3.1", "4.0", "4.1"];
        assert_eq!(records(&client, id, GroupOrder::Ascending), seen, "{down}");
        client.now = begin + (time - Duration::from_micros(1));
        client.run();
        assert_eq!(records(&client, id, GroupOrder::Ascending), seen, "{down}");
        client.now = begin + time;
        client.run();
        let mark = if down >= Version::Moqt20 { "!6" } else { "?6" };
        let seen = [&seen[..], &[mark, "7.0", "7.1"]].concat();
        assert_eq!(records(&client, id, GroupOrder::Ascending), seen, "{down}");
    }
}

/// An upstream that does not answer is waited for once, and not for each group of the range.
#[test]
fn a_silent_publisher_is_asked_for_one_group_of_a_range() {
    let (_chain, _reader, mut client) = with_group_7(Version::Moqt22);
    let (start, end) = (Location::new(3, 0), Location::new(7, 1));
    let (id, _) = client.fetch_range(["live", "video"], start, end, Parameters::default());
    assert_eq!(records(&client, id, GroupOrder::Ascending), [""; 0]);
    client.now = client.now + Limits::default().answer_timeout + Duration::from_secs(1);
    client.run();
    assert_eq!(records(&client, id, GroupOrder::Ascending), ["?6", "7.0", "7.1"]);
}

/// A publisher ends one track after the other. Of those that nobody reads, a relay keeps a few (`MAX_FINISHED`).
#[test]
fn few_finished_tracks_are_kept() {
    for version in [Version::Lite06, Version::Moqt22] {
        let (mut chain, origin) = Chain::to_origin([version; 2], &Link::perfect(), video());
        let seen = chain.relay.consume().broadcast("live").expect("the broadcast was announced");
        let mut most = 0;
        for n in 0..200 {
            let name = format!("track {n}");
            let mut track = chain.broadcast.create_track(Track::new(&*name)).unwrap();
            let mut reader = seen.subscribe_track(&name, Subscription::default()).unwrap();
            chain.advance(20);
            track.write_frame(0, vec![0; 1_000]).unwrap();
            track.finish().unwrap();
            chain.advance(20);
            while let Poll::Ready(Ok(Some(_))) = reader.try_recv_group() {}
            drop((reader, track));
            most = most.max(chain.relay.cached_bytes());
        }
        chain.advance(2_000);
        most = most.max(chain.relay.cached_bytes());
        assert!((30_000..100_000).contains(&most), "{version}: {most}");
        chain.broadcast.finish().unwrap();
        chain.advance(500);
        assert_eq!(chain.relay.cached_bytes(), 0, "{version}");
        drop(origin);
    }
}
