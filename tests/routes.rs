//! Networks of relays on a virtual clock: the route that is used, how running subscriptions move to another
//! one, and what is announced.

mod net;

use std::task::Poll;
use std::time::Duration;

use net::{Net, received};
use smoq::{
    Error, GroupConsumer, OriginConsumer, Subscription, Timestamp, Track, TrackConsumer, Version,
};

const PUBLISHER: usize = 0;

/// A publisher, two relays connected to it, and a reader connected to both relays.
///
/// Numbers of links: publisher to relays 0 and 1, relays to the reader 2 and 3.
fn diamond(version: Version) -> Net {
    let mut net = Net::new(4);
    for (a, b) in [(0, 1), (0, 2), (1, 3), (2, 3)] {
        net.link(a, b, version);
    }
    net
}

fn everything() -> Subscription {
    Subscription::default().max_age(Duration::MAX).start(0)
}

/// A reader of the track `video` of `live` at a node, and its announcements.
fn read(net: &Net, node: usize) -> (OriginConsumer, TrackConsumer) {
    let mut consumer = net.origins[node].consume();
    let Poll::Ready(Some(announce)) = consumer.try_announced() else { panic!("nothing announced") };
    let broadcast = announce.broadcast.expect("the broadcast is live");
    (consumer, broadcast.subscribe_track("video", everything()).unwrap())
}

/// The number of frames of a group that are there, and its end if it is known.
fn frames(group: &mut GroupConsumer) -> (usize, Option<Result<(), Error>>) {
    let mut count = 0;
    loop {
        match group.try_read_frame() {
            Poll::Ready(Ok(Some(_))) => count += 1,
            Poll::Ready(Ok(None)) => return (count, Some(Ok(()))),
            Poll::Ready(Err(error)) => return (count, Some(Err(error))),
            Poll::Pending => return (count, None),
        }
    }
}

fn is_quiet(announced: &mut OriginConsumer) -> bool {
    announced.try_announced().is_pending()
}

/// The link to the reader of a [`diamond`] that carries its subscription.
fn serving(net: &Net) -> usize {
    let busy: Vec<_> = [2, 3].into_iter().filter(|link| net.subscribed(*link)).collect();
    assert_eq!(busy.len(), 1, "one link serves at a time");
    busy[0]
}

/// The session that serves a track dies, and the reader continues with the other relay. The rest of the
/// open group is fetched there if the version can; otherwise the group is aborted.
#[test]
fn a_reader_survives_the_death_of_its_session() {
    for version in [Version::Lite04, Version::Lite05, Version::Lite06] {
        let mut net = diamond(version);
        let mut broadcast = net.origins[PUBLISHER].create_broadcast("live").unwrap();
        let mut track = broadcast.create_track(Track::new("video")).unwrap();
        net.advance(500);
        let (mut announced, mut reader) = read(&net, 3);
        net.advance(500);
        for n in 0..5_u64 {
            track.write_frame(n, "whole").unwrap();
        }
        let mut open = track.append_group().unwrap();
        open.write_frame(Timestamp::new(5), "first").unwrap();
        net.advance(500);
        let mut groups = received(&mut reader);
        groups.sort_by_key(GroupConsumer::sequence);
        assert!(groups.iter().map(GroupConsumer::sequence).eq(0..=5), "{version:?}");
        assert_eq!(frames(&mut groups[5]), (1, None));

        let dead = serving(&net);
        net.cut(dead);
        open.write_frame(Timestamp::new(6), "second").unwrap();
        net.advance(500);
        let fetches = version != Version::Lite04;
        let seen = if fetches { (1, None) } else { (0, Some(Err(Error::SessionClosed))) };
        assert_eq!(frames(&mut groups[5]), seen, "{version:?}");
        open.write_frame(Timestamp::new(7), "third").unwrap();
        open.finish().unwrap();
        net.advance(500);
        if fetches {
            assert_eq!(frames(&mut groups[5]), (1, Some(Ok(()))), "{version:?}");
        }
        for n in 6..9_u64 {
            track.write_frame(n, "whole").unwrap();
        }
        net.advance(500);
        let mut groups = received(&mut reader);
        groups.sort_by_key(GroupConsumer::sequence);
        assert!(groups.iter().map(GroupConsumer::sequence).eq(6..9), "{version:?} {groups:?}");
        assert!(groups.iter_mut().all(|group| frames(group) == (1, Some(Ok(())))));
        assert!(is_quiet(&mut announced), "{version:?}: the broadcast stays the same");
        assert_eq!(serving(&net), 5 - dead);
        assert!(!net.subscribed(dead - 2), "{version:?}: no reader uses the other relay");

        track.finish().unwrap();
        net.advance(2_500);
        assert_eq!(reader.try_finished(), Poll::Ready(Ok(9)));
        net.cut(5 - dead);
        assert!(announced.try_announced().map(|it| it.unwrap().broadcast.is_none()).is_ready());
    }
}

/// Several groups are open when the session dies, one of them within a frame that is being read. Each
/// continues at its first missing byte, and readers notice nothing.
#[test]
fn open_groups_continue_at_the_first_missing_byte() {
    for version in [Version::Lite05, Version::Lite06, Version::Lite07Wip] {
        let mut net = diamond(version);
        let mut broadcast = net.origins[PUBLISHER].create_broadcast("live").unwrap();
        let mut track = broadcast.create_track(Track::new("video")).unwrap();
        net.advance(500);
        let (_announced, mut reader) = read(&net, 3);
        net.advance(500);
        let payload: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        let mut open: Vec<_> = (0..3).map(|_| track.append_group().unwrap()).collect();
        for (n, group) in (1_u64..).zip(&mut open) {
            for n in 0..n {
                group.write_frame(n, "before").unwrap();
            }
        }
        let mut frame = open[1].create_frame(9, payload.len() as u64).unwrap();
        frame.write(&payload[..40_000]).unwrap();
        net.advance(500);
        let mut groups = received(&mut reader);
        groups.sort_by_key(GroupConsumer::sequence);
        assert_eq!(frames(&mut groups[1]).0, 2);
        let Poll::Ready(Ok(Some(mut streamed))) = groups[1].try_start_frame() else {
            panic!("the frame has not arrived");
        };
        let mut read = Vec::new();
        let mut more = |read: &mut Vec<u8>| {
            while let Poll::Ready(Ok(Some(chunk))) = streamed.try_read_chunk() {
                read.extend_from_slice(&chunk);
            }
        };
        more(&mut read);
        assert_eq!(read.len(), 40_000);

        net.cut(serving(&net));
        frame.write(&payload[40_000..]).unwrap();
        for group in &mut open {
            group.write_frame(10, "after").unwrap();
            group.finish().unwrap();
        }
        net.advance(500);
        more(&mut read);
        assert_eq!(read, payload, "{version:?}");
        // Nothing was read of the first and the third group yet.
        let counts: Vec<_> = groups.iter_mut().map(frames).collect();
        assert_eq!(
            counts,
            [(2, Some(Ok(()))), (1, Some(Ok(()))), (4, Some(Ok(())))],
            "{version:?}"
        );
        assert!(received(&mut reader).is_empty(), "no group arrives twice");
    }
}

/// The same one link further away: a relay loses the publisher and continues through the other relay, by
/// way of the reader's node. No end is announced.
#[test]
fn a_relay_that_loses_its_upstream_continues_through_another() {
    for version in [Version::Lite04, Version::Lite06] {
        let mut net = Net::new(4);
        for (a, b) in [(0, 1), (0, 2), (1, 2), (1, 3)] {
            net.link(a, b, version);
        }
        let mut broadcast = net.origins[PUBLISHER].create_broadcast("live").unwrap();
        let mut track = broadcast.create_track(Track::new("video")).unwrap();
        net.advance(500);
        let (mut announced, mut reader) = read(&net, 3);
        net.advance(500);
        track.write_frame(0, "before").unwrap();
        net.advance(200);
        net.cut(0);
        track.write_frame(1, "after").unwrap();
        net.advance(1_000);
        track.write_frame(2, "later").unwrap();
        net.advance(200);
        let sequences: Vec<_> = received(&mut reader).iter().map(|it| it.sequence()).collect();
        assert_eq!(sequences, [0, 1, 2], "{version:?}");
        assert!(is_quiet(&mut announced), "{version:?}");
        assert!(net.subscribed(1) && net.subscribed(2) && net.subscribed(3));
    }
}

/// A better route appears while a group is open. The old route completes the group, the new one brings the
/// next ones, each group arrives once, and then the old subscription ends.
#[test]
fn a_better_route_takes_over_without_a_gap() {
    for version in [Version::Lite04, Version::Lite05, Version::Lite06] {
        let mut net = Net::new(4);
        for (a, b) in [(0, 1), (1, 2), (2, 3)] {
            net.link(a, b, version);
        }
        let mut broadcast = net.origins[PUBLISHER].create_broadcast("live").unwrap();
        let mut track = broadcast.create_track(Track::new("video")).unwrap();
        net.advance(500);
        let (mut announced, mut reader) = read(&net, 3);
        net.advance(500);
        track.write_frame(0, "whole").unwrap();
        let mut open = track.append_group().unwrap();
        open.write_frame(Timestamp::new(1), "first").unwrap();
        net.advance(200);
        let mut groups = received(&mut reader);
        groups.sort_by_key(GroupConsumer::sequence);
        assert_eq!(groups.len(), 2, "{version:?}");
        let mut group = groups.remove(1);

        let direct = net.link(0, 3, version);
        net.advance(500);
        assert!(
            net.subscribed(2) && net.subscribed(direct),
            "{version:?}: both routes are used for a while"
        );
        open.write_frame(Timestamp::new(2), "second").unwrap();
        track.write_frame(3, "whole").unwrap();
        net.advance(200);
        open.write_frame(Timestamp::new(4), "third").unwrap();
        open.finish().unwrap();
        for n in 5..20_u64 {
            track.write_frame(n, "whole").unwrap();
            net.advance(10);
        }
        net.advance(500);
        assert_eq!(
            frames(&mut group),
            (3, Some(Ok(()))),
            "{version:?}: completed by the old route"
        );
        let mut sequences: Vec<_> = received(&mut reader).iter().map(|it| it.sequence()).collect();
        sequences.sort_unstable();
        assert!(sequences.into_iter().eq(2..18), "{version:?}: each group arrives once");
        assert!(is_quiet(&mut announced), "{version:?}");
        assert!(net.subscribed(direct));
        for old in 0..3 {
            assert!(!net.subscribed(old), "{version:?}: link {old} is still in use");
        }
        assert_eq!(reader.skipped(), 0);
    }
}

/// Another publisher under the same path has another broadcast. So does a route through a node with an
/// unknown hop.
#[test]
fn other_content_ends_the_broadcast() {
    let one_publisher = |version| diamond(version);
    let two_publishers = |version| {
        let mut net = Net::new(5);
        for (a, b) in [(0, 1), (4, 2), (1, 3), (2, 3)] {
            net.link(a, b, version);
        }
        net
    };
    for (mut net, version) in [
        (one_publisher(Version::Lite03), Version::Lite03),
        (two_publishers(Version::Lite04), Version::Lite04),
        (two_publishers(Version::Lite06), Version::Lite06),
    ] {
        let mut publishers = vec![&net.origins[PUBLISHER]];
        publishers.extend(net.origins.get(4));
        let mut tracks = Vec::new();
        for origin in publishers {
            let mut broadcast = origin.create_broadcast("live").unwrap();
            let track = broadcast.create_track(Track::new("video")).unwrap();
            tracks.push((broadcast, track));
        }
        net.advance(500);
        let (mut announced, mut reader) = read(&net, 3);
        assert!(is_quiet(&mut announced));
        net.advance(500);
        for (_, track) in &mut tracks {
            track.write_frame(0, "x").unwrap();
        }
        net.advance(200);
        assert_eq!(received(&mut reader).len(), 1, "{version:?}");
        let dead = serving(&net);
        net.cut(dead);
        assert!(matches!(reader.try_recv_group(), Poll::Ready(Err(Error::SessionClosed))));
        let mut change = || announced.try_announced().map(|it| it.unwrap().broadcast);
        assert!(
            matches!(change(), Poll::Ready(None)),
            "{version:?}: the old broadcast did not end"
        );
        let Poll::Ready(Some(other)) = change() else { panic!("{version:?}: no new broadcast") };
        let mut reader = other.subscribe_track("video", everything()).unwrap();
        net.advance(500);
        assert_eq!(received(&mut reader).len(), 1, "{version:?}");
    }
}

/// Groups that only the dead session had count as lost for each reader.
#[test]
fn lost_groups_are_counted() {
    let mut net = diamond(Version::Lite06);
    // Two nodes that claim to have the same content, and do not.
    let hop = net.origins[PUBLISHER].hop();
    let other = net.add(hop);
    net.cut(1);
    net.link(other, 2, Version::Lite06);
    let mut tracks: Vec<_> = [PUBLISHER, other]
        .into_iter()
        .map(|node| {
            let mut broadcast = net.origins[node].create_broadcast("live").unwrap();
            let info = Track::new("video").max_age(Duration::from_secs(1));
            (broadcast.create_track(info).unwrap(), broadcast)
        })
        .collect();
    net.advance(500);
    let (mut announced, mut reader) = read(&net, 3);
    net.advance(500);
    let dead = serving(&net);
    let (first, second) = if dead == 2 { (0, 1) } else { (1, 0) };
    tracks[first].0.write_frame(0, "x").unwrap();
    net.advance(200);
    let next = |reader: &mut TrackConsumer| match reader.try_next_group() {
        Poll::Ready(Ok(Some(group))) => group.sequence(),
        other => panic!("{other:?}"),
    };
    assert_eq!(next(&mut reader), 0);
    // Groups older than the track's cache will not arrive.
    for n in 0..=5_u64 {
        tracks[second].0.write_frame(n * 10_000, "x").unwrap();
    }
    net.cut(dead);
    net.advance(500);
    assert_eq!(next(&mut reader), 4, "the latest group at the time");
    assert_eq!(reader.skipped(), 3);
    assert_eq!(next(&mut reader), 5);
    assert!(is_quiet(&mut announced));
}

/// moq-lite 06, *Route Cost*: both ends add the cost of a link, and it precedes the number of hops.
#[test]
fn a_cheap_detour_is_preferred_to_an_expensive_link() {
    const READER: usize = 2;
    for (version, is_priced) in
        [(Version::Lite07Wip, true), (Version::Lite06, true), (Version::Lite05, false)]
    {
        // The dialing end of each link declares its cost.
        for dials in 0..8 {
            let mut net = Net::new(3);
            let [direct, first, second] = [(0, READER, 10), (0, 1, 0), (1, READER, 3)]
                .into_iter()
                .enumerate()
                .map(|(n, (a, b, cost))| match dials & (1 << n) {
                    0 => net.link_for(a, b, version, cost),
                    _ => net.link_for(b, a, version, cost),
                })
                .collect::<Vec<_>>()
                .try_into()
                .unwrap();
            let mut broadcast = net.origins[PUBLISHER].create_broadcast("live").unwrap();
            let mut track = broadcast.create_track(Track::new("video")).unwrap();
            net.advance(500);
            let (_announced, mut reader) = read(&net, READER);
            net.advance(500);
            let taken = [direct, first, second].map(|link| net.subscribed(link));
            assert_eq!(taken, [!is_priced, is_priced, is_priced], "{version} {dials}");
            track.write_frame(0, "x").unwrap();
            net.advance(100);
            assert_eq!(received(&mut reader).len(), 1);
        }
    }
}

/// The relay that loses the publisher feeds the one through which it continues, directly or through a
/// third. Neither can get the rest of the group from anyone else, so they do not wait for it.
#[test]
fn relays_do_not_wait_for_each_others_partial_groups() {
    let near = [(PUBLISHER, 1, 1), (1, 2, 1), (PUBLISHER, 2, 10)];
    let far = [(PUBLISHER, 1, 1), (1, 3, 1), (3, 2, 1), (1, 2, 5), (PUBLISHER, 2, 10)];
    for version in [Version::Lite07Wip, Version::Lite06] {
        for links in [&near[..], &far] {
            let mut net = Net::new(4);
            for (a, b, cost) in links {
                net.link_for(*a, *b, version, *cost);
            }
            let mut broadcast = net.origins[PUBLISHER].create_broadcast("live").unwrap();
            let mut track = broadcast.create_track(Track::new("video")).unwrap();
            net.advance(500);
            let mut readers = [1, 2].map(|node| read(&net, node));
            net.advance(500);
            let mut open = track.append_group().unwrap();
            open.write_frame(0, "first").unwrap();
            net.advance(500);
            let groups = readers.iter_mut().flat_map(|(_, reader)| received(reader));
            let mut groups: Vec<_> = groups.collect();
            let seen = |groups: &mut [GroupConsumer]| groups.iter_mut().map(frames).collect();
            let before: Vec<_> = seen(&mut groups);
            assert_eq!(before, [(1, None), (1, None)], "{version}");
            net.cut(0);
            open.write_frame(1, "second").unwrap();
            open.finish().unwrap();
            net.advance(60_000);
            let ends: Vec<_> = seen(&mut groups);
            assert!(ends.iter().all(|(_, end)| end.is_some()), "{version}: {ends:?}");
            // Later groups arrive through the other relay.
            track.write_frame(2, "whole").unwrap();
            net.advance(500);
            for (_, reader) in &mut readers {
                let mut group = received(reader).pop().expect("no further group");
                assert_eq!(frames(&mut group), (1, Some(Ok(()))), "{version}");
            }
        }
    }
}
