//! FETCH and datagrams over real UDP, in every version, on tokio and on smol.

use std::time::Duration;

use smoq::{Error, Origin, Subscription, Track, Version};

use crate::ends::{Link, in_every_version, pair, pair_over};

in_every_version! {
    groups_go_as_datagrams
    more_datagrams_than_fit_at_once
    a_past_group_is_fetched
}

fn is_newer(version: Version) -> bool {
    version >= Version::Lite05
}

fn track(name: &str) -> Track {
    Track::new(name).max_age(Duration::from_secs(3_600))
}

fn all() -> Subscription {
    Subscription::default().max_age(Duration::MAX).start(0)
}

async fn groups_go_as_datagrams(version: Version) {
    let link = Link::new(&version.into(), &version.into()).await;
    let [dialed, accepted] = [link.client.clone(), link.server.clone()];
    let [near, far] = [(); 2].map(|()| Origin::default().produce());
    let (mut drivings, near, far) =
        pair_over(link, near, far, version.into(), version.into()).await;
    let mut broadcast = near.origin.create_broadcast("live").unwrap();
    let mut video = broadcast.create_track(track("video")).unwrap();
    drivings
        .run(async {
            let there = far.origin.consume().announced_broadcast("live").await.unwrap();
            let mut reader = there.subscribe_track("video", all()).unwrap();
            video.used().await.unwrap();
            reader.info().await.unwrap();
            // One at a time: loopback loses none of them.
            for n in 0..10_u64 {
                let payload = vec![n as u8; 100 * n as usize];
                video.write_datagram(n, payload.clone()).unwrap();
                let mut group = reader.recv_group().await.unwrap().unwrap();
                assert_eq!(group.sequence(), n);
                assert_eq!(group.read_frame().await.unwrap().unwrap().bytes(), payload);
                assert!(group.read_frame().await.unwrap().is_none());
            }
            let expected = if is_newer(version) { 10 } else { 0 };
            assert_eq!(dialed.stats().frame_tx.datagram, expected);
            assert_eq!(accepted.stats().frame_rx.datagram, expected);
            // Too large for one.
            video.write_datagram(10, vec![7; 50_000]).unwrap();
            let mut group = reader.recv_group().await.unwrap().unwrap();
            assert_eq!(group.read_frame().await.unwrap().unwrap().bytes(), vec![7; 50_000]);
            assert_eq!(dialed.stats().frame_tx.datagram, expected);
        })
        .await;
}

/// A datagram that waits for room is sent when there is room, and nothing else waits for it.
async fn more_datagrams_than_fit_at_once(version: Version) {
    let (mut drivings, near, far) = pair(version).await;
    let mut broadcast = near.origin.create_broadcast("live").unwrap();
    let [mut video, mut audio] =
        ["video", "audio"].map(|name| broadcast.create_track(track(name)).unwrap());
    drivings
        .run(async {
            let there = far.origin.consume().announced_broadcast("live").await.unwrap();
            let [mut reader, mut other] =
                ["video", "audio"].map(|name| there.subscribe_track(name, all()).unwrap());
            video.used().await.unwrap();
            audio.used().await.unwrap();
            reader.info().await.unwrap();
            other.info().await.unwrap();
            // Four times what may wait in quinn; as many groups as may wait in the session.
            for n in 0..256_u64 {
                video.write_datagram(n, vec![n as u8; 1_000]).unwrap();
            }
            audio.write_frame(0, "on a stream").unwrap();
            video.finish().unwrap();
            assert_eq!(other.read_frame().await.unwrap().unwrap().payload(), b"on a stream");
            let mut count = 0;
            while let Some(mut group) = reader.recv_group().await.unwrap() {
                let n = group.sequence();
                assert_eq!(
                    group.read_frame().await.unwrap().unwrap().bytes(),
                    vec![n as u8; 1_000]
                );
                count += 1;
            }
            // The kernel may lose some, but more arrived than fit into quinn's queue at once.
            assert!(count > 64, "{count} arrived");
        })
        .await;
}

async fn a_past_group_is_fetched(version: Version) {
    let (mut drivings, near, far) = pair(version).await;
    let mut broadcast = near.origin.create_broadcast("live").unwrap();
    let mut video = broadcast.create_track(track("video")).unwrap();
    for n in 0..5_u64 {
        video.write_frame(n * 10_000, vec![n as u8; 300_000]).unwrap();
    }
    drivings
        .run(async {
            let there = far.origin.consume().announced_broadcast("live").await.unwrap();
            let mut reader = there.subscribe_track("video", Subscription::default()).unwrap();
            reader.info().await.unwrap();
            let fetched = reader.fetch_group(1).await;
            if !is_newer(version) {
                assert!(fetched.is_err());
                return;
            }
            assert_eq!(
                fetched.unwrap().read_frame().await.unwrap().unwrap().bytes(),
                vec![1; 300_000]
            );
            assert_eq!(reader.fetch_group(9).await.err(), Some(Error::NotFound));
        })
        .await;
}
