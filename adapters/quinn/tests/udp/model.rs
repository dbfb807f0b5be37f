//! Everything that the model promises, over real UDP, in every version, on tokio and on smol.

use std::time::Duration;

use crate::ends::{Side, in_every_version, pair, pair_with, tells_rate, was_dropped};
use smoq::bytes::Bytes;
use smoq::{
    BroadcastConsumer, BroadcastProducer, CloseReason, Error, Origin, Subscription, Track,
    TrackConsumer, TrackProducer, Version,
};

in_every_version! {
    both_sides_publish
    a_late_reader_starts_at_the_latest_group
    an_end_is_unannounced
    an_unknown_track_is_refused
    aborts_carry_their_codes
    a_reader_that_leaves_is_noticed
    a_stalled_reader_stalls_nobody
    many_groups
    large_frames
    a_frame_is_streamed
    the_peer_reports_the_path
    a_close_carries_its_code
    what_was_written_before_a_drain_arrives
    so_do_the_frames_of_a_group_that_is_open
    a_dropped_future_closes_the_connection
    a_restarted_publisher_takes_the_place_of_the_old_one
}

/// Wants everything, from the first group on.
fn all() -> Subscription {
    Subscription::default().max_age(Duration::MAX).start(0)
}

/// Everything stays available.
fn kept(name: &str) -> Track {
    Track::new(name).max_age(Duration::from_secs(3_600))
}

fn publish(side: &Side, path: &str, track: &str) -> (BroadcastProducer, TrackProducer) {
    let mut broadcast = side.origin.create_broadcast(path).unwrap();
    let track = broadcast.create_track(kept(track)).unwrap();
    (broadcast, track)
}

async fn find(side: &Side, path: &str) -> BroadcastConsumer {
    side.origin.consume().announced_broadcast(path).await.unwrap()
}

async fn subscribe(side: &Side, path: &str, track: &str, want: Subscription) -> TrackConsumer {
    find(side, path).await.subscribe_track(track, want).unwrap()
}

/// Subscribes to `video` of `live` from the first group on, and waits until the publisher knows.
async fn attach(track: &mut TrackProducer, side: &Side) -> TrackConsumer {
    let consumer = subscribe(side, "live", "video", all()).await;
    track.used().await.unwrap();
    consumer
}

/// The frames of the next group, which must be complete.
async fn group(track: &mut TrackConsumer) -> Vec<Bytes> {
    let mut group = track.recv_group().await.unwrap().unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = group.read_frame().await.unwrap() {
        frames.push(frame.bytes());
    }
    frames
}

async fn both_sides_publish(version: Version) {
    let (mut drivings, near, far) = pair(version).await;
    for (from, to, path) in [(&near, &far, "from/client"), (&far, &near, "from/server")] {
        let (_broadcast, mut track) = publish(from, path, "video");
        drivings
            .run(async {
                let mut consumer = subscribe(to, path, "video", all()).await;
                track.used().await.unwrap();
                for n in 0..3_u64 {
                    let mut group = track.append_group().unwrap();
                    for frame in ["a", "", "c"] {
                        group.write_frame(n * 1_000, frame).unwrap();
                    }
                    group.finish().unwrap();
                }
                track.finish().unwrap();
                for _ in 0..3 {
                    assert_eq!(group(&mut consumer).await, ["a", "", "c"]);
                }
                assert!(consumer.recv_group().await.unwrap().is_none());
            })
            .await;
    }
    for side in [&near, &far] {
        let stats = side.session.stats();
        assert_eq!((stats.frames_sent, stats.frames_received), (9, 9));
        let gauges = side.session.gauges();
        let has_rate = gauges.rtt.is_some() && gauges.bitrate > Some(0);
        assert_eq!(has_rate, tells_rate(), "{gauges:?}");
    }
}

async fn a_late_reader_starts_at_the_latest_group(version: Version) {
    let (mut drivings, near, far) = pair(version).await;
    let (_broadcast, mut track) = publish(&near, "live", "video");
    for n in 0..3_u64 {
        let mut group = track.append_group().unwrap();
        group.write_frame(n * 1_000, format!("head {n}")).unwrap();
        group.write_frame(n * 1_000 + 1, format!("tail {n}")).unwrap();
        group.finish().unwrap();
    }
    drivings
        .run(async {
            let mut late = subscribe(&far, "live", "video", Subscription::default()).await;
            let mut group = late.next_group().await.unwrap().unwrap();
            assert_eq!(group.sequence(), 2);
            assert_eq!(group.read_frame().await.unwrap().unwrap().bytes(), "head 2");
        })
        .await;
}

async fn an_end_is_unannounced(version: Version) {
    let (mut drivings, near, far) = pair(version).await;
    let mut announced = far.origin.consume();
    for _ in 0..2 {
        let (mut broadcast, _track) = publish(&near, "live", "video");
        drivings
            .run(async {
                let here = announced.announced().await.unwrap();
                assert_eq!(here.path.as_str(), "live");
                let there = here.broadcast.unwrap();
                broadcast.finish().unwrap();
                let gone = announced.announced().await.unwrap();
                assert_eq!(gone.path.as_str(), "live");
                assert!(gone.broadcast.is_none());
                assert!(there.subscribe_track("video", all()).is_err());
                assert!(far.origin.consume().broadcast("live").is_none());
            })
            .await;
    }
}

async fn an_unknown_track_is_refused(version: Version) {
    let (mut drivings, near, far) = pair(version).await;
    let (_broadcast, mut track) = publish(&near, "live", "video");
    drivings
        .run(async {
            let mut unknown = subscribe(&far, "live", "subtitles", all()).await;
            assert_eq!(unknown.recv_group().await.err(), Some(Error::NotFound));
            // That was one bad request, and the next one is as good as ever.
            track.append_group().unwrap().finish().unwrap();
            let mut video = subscribe(&far, "live", "video", all()).await;
            assert!(group(&mut video).await.is_empty());
        })
        .await;
}

async fn aborts_carry_their_codes(version: Version) {
    let (mut drivings, near, far) = pair(version).await;
    let (_broadcast, mut track) = publish(&near, "live", "video");
    drivings
        .run(async {
            let mut consumer = attach(&mut track, &far).await;
            let mut group = track.append_group().unwrap();
            group.write_frame(0, "begun").unwrap();
            let mut there = consumer.recv_group().await.unwrap().unwrap();
            assert_eq!(there.read_frame().await.unwrap().unwrap().bytes(), "begun");
            group.abort(Error::App(7));
            assert_eq!(there.read_frame().await.err(), Some(Error::App(7)));
            track.abort(Error::App(9));
            assert_eq!(consumer.recv_group().await.err(), Some(Error::App(9)));
        })
        .await;
}

async fn a_reader_that_leaves_is_noticed(version: Version) {
    let (mut drivings, near, far) = pair(version).await;
    let (_broadcast, mut track) = publish(&near, "live", "video");
    drivings
        .run(async {
            let mut consumer = attach(&mut track, &far).await;
            let mut group = track.append_group().unwrap();
            group.write_frame(0, "begun").unwrap();
            let there = consumer.recv_group().await.unwrap().unwrap();
            drop((there, consumer));
            track.unused().await.unwrap();
            // A group that is no longer read does not block the next reader.
            let mut consumer = subscribe(&far, "live", "video", all()).await;
            track.used().await.unwrap();
            group.finish().unwrap();
            let mut there = consumer.recv_group().await.unwrap().unwrap();
            assert_eq!(there.read_frame().await.unwrap().unwrap().bytes(), "begun");
        })
        .await;
}

async fn a_stalled_reader_stalls_nobody(version: Version) {
    const GROUPS: u64 = 64;
    let (mut drivings, near, far) = pair(version).await;
    let (_broadcast, mut track) = publish(&near, "live", "video");
    let (_other, mut quiet) = publish(&near, "quiet", "text");
    let frame = Bytes::from(vec![7; 256 << 10]);
    drivings
        .run(async {
            let mut stalled = attach(&mut track, &far).await;
            let mut group_here = track.append_group().unwrap();
            group_here.write_frame(0, "first").unwrap();
            let mut held = stalled.recv_group().await.unwrap().unwrap();
            // 16 MiB that nobody reads, and an open group in front of them.
            for n in 1..GROUPS {
                let mut group = track.append_group().unwrap();
                group.write_frame(n, frame.clone()).unwrap();
                group.finish().unwrap();
            }
            quiet.append_group().unwrap().finish().unwrap();
            let mut reader = subscribe(&far, "quiet", "text", all()).await;
            assert!(group(&mut reader).await.is_empty());

            group_here.finish().unwrap();
            assert_eq!(held.read_frame().await.unwrap().unwrap().bytes(), "first");
            drop(held);
            for _ in 1..GROUPS {
                assert_eq!(group(&mut stalled).await, [&frame]);
            }
        })
        .await;
}

async fn many_groups(version: Version) {
    const GROUPS: u64 = 2_000;
    let (mut drivings, near, far) = pair(version).await;
    let (_broadcast, mut track) = publish(&near, "live", "video");
    drivings
        .run(async {
            let mut consumer = attach(&mut track, &far).await;
            let mut seen = vec![false; GROUPS as usize];
            // A window, so that none of the limits on what may be pending is in the way.
            for n in 0..GROUPS {
                let mut group = track.append_group().unwrap();
                group.write_frame(n, n.to_string()).unwrap();
                group.finish().unwrap();
                if n % 50 == 49 {
                    for _ in 0..50 {
                        let mut group = consumer.recv_group().await.unwrap().unwrap();
                        let n = group.sequence();
                        let frame = group.read_frame().await.unwrap().unwrap();
                        assert_eq!(frame.bytes(), n.to_string());
                        assert!(!std::mem::replace(&mut seen[n as usize], true), "{n} twice");
                    }
                }
            }
            assert!(seen.into_iter().all(|seen| seen));
        })
        .await;
}

async fn large_frames(version: Version) {
    let (mut drivings, near, far) = pair(version).await;
    let (_broadcast, mut track) = publish(&near, "live", "video");
    let frames: Vec<_> = (0..4_u8)
        .map(|n| Bytes::from_iter((0..(1 << 20) + u32::from(n)).map(|i| (i % 251) as u8 ^ n)))
        .collect();
    drivings
        .run(async {
            let mut consumer = attach(&mut track, &far).await;
            let mut group_here = track.append_group().unwrap();
            for (at, frame) in (0..).zip(&frames) {
                group_here.write_frame(at, frame.clone()).unwrap();
            }
            group_here.finish().unwrap();
            assert!(group(&mut consumer).await == frames);
        })
        .await;
}

async fn a_frame_is_streamed(version: Version) {
    let (mut drivings, near, far) = pair(version).await;
    let (_broadcast, mut track) = publish(&near, "live", "video");
    drivings
        .run(async {
            let mut consumer = attach(&mut track, &far).await;
            let mut group = track.append_group().unwrap();
            let mut frame = group.create_frame(5, 8).unwrap();
            frame.write(b"early").unwrap();
            let mut there = consumer.recv_group().await.unwrap().unwrap();
            let mut streamed = there.start_frame().await.unwrap().unwrap();
            assert_eq!(streamed.size(), 8);
            let mut bytes = Vec::new();
            while bytes.len() < 5 {
                bytes.extend_from_slice(&streamed.read_chunk().await.unwrap().unwrap());
            }
            assert_eq!(bytes, b"early");
            frame.write(b", l").unwrap();
            frame.finish().unwrap();
            while let Some(chunk) = streamed.read_chunk().await.unwrap() {
                bytes.extend_from_slice(&chunk);
            }
            assert_eq!(bytes, b"early, l");
        })
        .await;
}

async fn the_peer_reports_the_path(version: Version) {
    let (mut drivings, near, far) = pair(version).await;
    for session in [&near.session, &far.session] {
        let mut probe = session.probe();
        let estimate = drivings.run(probe.changed()).await;
        if !(Version::Lite03..=Version::Lite07Wip).contains(&version) {
            assert_eq!(estimate, Err(Error::Unsupported));
            continue;
        }
        let estimate = estimate.unwrap();
        assert_eq!(estimate.bitrate.is_some(), tells_rate(), "{estimate:?}");
        assert_eq!(estimate.rtt.is_some(), version > Version::Lite03, "{estimate:?}");
    }
}

async fn a_close_carries_its_code(version: Version) {
    let (mut drivings, mut near, mut far) = pair(version).await;
    near.session.close(Error::App(5));
    assert_eq!(drivings.ended().await, [Err(Error::App(5)), Err(Error::App(5))]);
    assert_eq!(near.session.closed().await, CloseReason::Error(Error::App(5)));
    assert_eq!(far.session.closed().await, CloseReason::Error(Error::App(5)));
}

async fn what_was_written_before_a_drain_arrives(version: Version) {
    let (mut drivings, near, far) = pair(version).await;
    let (_broadcast, mut track) = publish(&near, "live", "video");
    // A drain refuses new requests, so the subscription must be there before.
    track.append_group().unwrap().finish().unwrap();
    let mut consumer = drivings.run(attach(&mut track, &far)).await;
    assert!(drivings.run(group(&mut consumer)).await.is_empty());

    let frame = Bytes::from(vec![9; 1 << 20]);
    let mut last = track.append_group().unwrap();
    last.write_frame(0, frame.clone()).unwrap();
    last.finish().unwrap();
    drop(near.session);
    assert_eq!(drivings.ended().await, [Ok(()), Ok(())]);
    assert_eq!(group(&mut consumer).await, [frame]);
}

async fn so_do_the_frames_of_a_group_that_is_open(version: Version) {
    let (mut drivings, near, far) = pair(version).await;
    let (_broadcast, mut track) = publish(&near, "live", "video");
    let mut group = track.append_group().unwrap();
    group.write_frame(0, "first").unwrap();
    let mut consumer = drivings.run(attach(&mut track, &far)).await;
    let mut there = drivings.run(consumer.recv_group()).await.unwrap().unwrap();
    assert_eq!(drivings.run(there.read_frame()).await.unwrap().unwrap().bytes(), "first");

    let frame = Bytes::from(vec![9; 1 << 20]);
    group.write_frame(1, frame.clone()).unwrap();
    drop(near.session);
    assert_eq!(drivings.ended().await, [Ok(()), Ok(())]);
    assert!(there.read_frame().await.unwrap().unwrap().bytes() == frame);
    assert_eq!(there.read_frame().await.err(), Some(Error::SessionClosed));
}

async fn a_dropped_future_closes_the_connection(version: Version) {
    let (mut drivings, near, mut far) = pair(version).await;
    let (_broadcast, mut track) = publish(&near, "live", "video");
    let mut consumer = drivings.run(attach(&mut track, &far)).await;
    let mut group = track.append_group().unwrap();
    group.write_frame(0, "half").unwrap();
    let mut there = drivings.run(consumer.recv_group()).await.unwrap().unwrap();
    assert_eq!(drivings.run(there.read_frame()).await.unwrap().unwrap().bytes(), "half");
    drivings.drop_client();
    let [_, end] = drivings.ended().await;
    assert!(was_dropped(&end), "{end:?}");
    // An unfinished group must not look finished.
    assert_eq!(there.read_frame().await.err(), Some(Error::SessionClosed));
    assert_eq!(far.session.closed().await == CloseReason::Clean, end.is_ok());
}

/// Its old session is still there, and ends later. A relay is between it and the reader.
async fn a_restarted_publisher_takes_the_place_of_the_old_one(version: Version) {
    let relay = Origin::default().produce();
    let (mut old_drivings, old, old_there) = pair_with(version, relay.clone()).await;
    let (mut reading, reader, _reader_there) = pair_with(version, relay.clone()).await;
    let mut announced = reader.origin.consume();
    let mut before = publish(&old, "live", "video");
    let both = old_drivings.run(reading.run(async {
        let live = announced.announced().await.unwrap().broadcast.unwrap();
        let mut video = live.subscribe_track("video", all()).unwrap();
        before.1.write_frame(0, "old").unwrap();
        assert_eq!(group(&mut video).await, ["old"]);
    }));
    both.await;

    let (mut new_drivings, new, _new_there) = pair_with(version, relay).await;
    let mut after = publish(&new, "live", "video");
    let mut video = new_drivings
        .run(old_drivings.run(reading.run(async {
            assert!(announced.announced().await.unwrap().broadcast.is_none());
            let live = announced.announced().await.unwrap().broadcast.unwrap();
            let mut video = live.subscribe_track("video", all()).unwrap();
            before.1.write_frame(0, "old").unwrap();
            after.1.write_frame(0, "new").unwrap();
            assert_eq!(group(&mut video).await, ["new"]);
            video
        })))
        .await;

    old_drivings.drop_client();
    let _ = new_drivings.run(reading.run(old_drivings.ended())).await;
    drop((old, old_there, before));
    new_drivings
        .run(reading.run(async {
            after.1.write_frame(1, "newer").unwrap();
            assert_eq!(group(&mut video).await, ["newer"]);
        }))
        .await;
    assert!(announced.try_announced().is_pending());
}
