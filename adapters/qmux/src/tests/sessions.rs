use std::task::Poll;

use smoq::{Subscription, TrackConsumer};

use super::*;

fn ready<T>(poll: Poll<T>) -> T {
    match poll {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it did not arrive"),
    }
}

/// A client that reads what a server publishes, and the other way round.
struct Both {
    pair: Pair,
    origins: [OriginProducer; 4],
}

impl Both {
    fn new(version: Version) -> Self {
        let origins: [OriginProducer; 4] = std::array::from_fn(|_| Origin::default().produce());
        let [near, far, from_far, from_near] = &origins;
        let client = Client::new().with_publish(near.consume()).with_consume(from_far.clone());
        let server = Server::new().with_publish(far.consume()).with_consume(from_near.clone());
        let client = client.with_versions(version);
        let pair = Pair::new(&client, &server.with_versions(version), version);
        Self { pair, origins }
    }
}

fn groups(reader: &mut TrackConsumer) -> Vec<Vec<u8>> {
    let mut groups = Vec::new();
    while let Poll::Ready(group) = reader.try_next_group() {
        let Some(mut group) = group.unwrap() else { break };
        while let Some(frame) = ready(group.try_read_frame()).unwrap() {
            groups.push(frame.payload().to_vec());
        }
    }
    groups
}

/// In every version both sides publish, with groups larger than all windows.
#[test]
fn both_sides_publish_in_every_version() {
    for version in Version::known() {
        let Both { mut pair, origins: [near, far, from_far, from_near] } = Both::new(version);
        for (publisher, consumer) in [(near, from_near), (far, from_far)] {
            let mut broadcast = publisher.create_broadcast("live").unwrap();
            let mut track = broadcast.create_track("video").unwrap();
            pair.settle();
            let mut seen = consumer.consume();
            let live = ready(seen.try_announced_broadcast("live")).unwrap();
            let mut reader = live.subscribe_track("video", Subscription::default()).unwrap();
            pair.settle();
            let sizes = [0, 1, 700, crate::RECORD_BYTES, 1 << 20, 5 << 20, 3];
            for (n, size) in sizes.into_iter().enumerate() {
                track.write_frame(n as u64, vec![n as u8; size]).unwrap();
                pair.settle();
                assert_eq!(groups(&mut reader), [vec![n as u8; size]], "{version}, {size}");
            }
        }
    }
}

/// Records are cut into one for each frame, or bytes of a stream into many frames.
#[test]
fn a_session_runs_however_frames_are_cut() {
    for (one_frame_each, longest) in [(true, usize::MAX), (true, 1), (true, 7), (false, 100)] {
        let Both { mut pair, origins: [_, far, from_far, _] } = Both::new(Version::Lite05);
        let mut cut = |record: Bytes| recut(record, one_frame_each, longest);
        let mut broadcast = far.create_broadcast("live").unwrap();
        let mut track = broadcast.create_track("video").unwrap();
        pair.settle_with(&mut cut);
        let live = ready(from_far.consume().try_announced_broadcast("live")).unwrap();
        let mut reader = live.subscribe_track("video", Subscription::default()).unwrap();
        pair.settle_with(&mut cut);
        track.write_frame(0_u64, vec![7; 3_000]).unwrap();
        pair.settle_with(&mut cut);
        assert_eq!(groups(&mut reader), [vec![7; 3_000]]);
        drop(pair.sessions);
        while pair.ends.iter().any(|end| end.closed().is_none()) {
            let mut moved = false;
            for (from, to) in [(0, 1), (1, 0)] {
                moved |= pair.ends[from].turn(pair.now, false).again;
                while let Some(record) = pair.ends[from].poll_record() {
                    moved = true;
                    cut(record).into_iter().for_each(|it| pair.ends[to].receive(pair.now, it));
                }
            }
            assert!(moved, "it hangs");
        }
        assert!(pair.ends.iter().all(|end| end.closed().is_some_and(|reason| reason.is_clean())));
    }
}

/// The same frames in other records, with other forms of STREAM, and with padding.
fn recut(record: Bytes, one_frame_each: bool, longest: usize) -> Vec<Bytes> {
    let mut frames = Vec::new();
    for frame in Frames::new(record.clone()) {
        let Frame::Stream { id, bytes, fin } = frame.unwrap() else {
            // Only STREAM frames are cut.
            return vec![record];
        };
        let mut parts: Vec<&[u8]> = bytes.chunks(longest).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        let last = parts.len() - 1;
        for (n, part) in parts.into_iter().enumerate() {
            let fin = u64::from(fin && n == last);
            frames.push(if one_frame_each {
                stream(STREAM | fin, id.as_u64(), part)
            } else {
                // With a length, after and before padding.
                let head = encode(&[0, STREAM | 2 | fin, id.as_u64(), part.len() as u64]);
                [&head[..], part, &[0, 0]].concat()
            });
        }
    }
    if one_frame_each {
        return frames.into_iter().map(Bytes::from).collect();
    }
    let mut records = vec![Vec::new()];
    for frame in frames {
        if records.last().is_some_and(|record| record.len() + frame.len() > crate::RECORD_BYTES) {
            records.push(Vec::new());
        }
        records.last_mut().unwrap().extend(frame);
    }
    records.into_iter().map(Bytes::from).collect()
}

/// RFC 9000, section 4.6: limits on streams are raised as streams end, so that their number does not matter.
#[test]
fn more_streams_than_the_limit_follow_one_another() {
    let Both { mut pair, origins: [near, _, _, from_near] } = Both::new(Version::Lite06);
    let mut broadcast = near.create_broadcast("live").unwrap();
    let mut track = broadcast.create_track("video").unwrap();
    pair.settle();
    let live = ready(from_near.consume().try_announced_broadcast("live")).unwrap();
    for n in 0..3 * crate::STREAMS {
        let mut reader = live.subscribe_track("video", Subscription::default()).unwrap();
        pair.settle();
        track.write_frame(n, n.to_be_bytes().to_vec()).unwrap();
        pair.settle();
        assert_eq!(groups(&mut reader).last().unwrap(), &n.to_be_bytes());
        drop(reader);
        pair.settle();
    }
    assert!(pair.ends.iter().all(|end| end.closed().is_none()));
}

/// moq-lite 06, section 4.2 (L06-4-2-MUST-NOT-024): there are no datagrams, so that their groups go on streams.
#[test]
fn datagrams_go_on_streams() {
    for version in [Version::Lite05, Version::Lite06, Version::Moqt22] {
        let Both { mut pair, origins: [_, far, from_far, _] } = Both::new(version);
        let mut broadcast = far.create_broadcast("live").unwrap();
        let mut track = broadcast.create_track("video").unwrap();
        pair.settle();
        let live = ready(from_far.consume().try_announced_broadcast("live")).unwrap();
        let mut reader = live.subscribe_track("video", Subscription::default()).unwrap();
        pair.settle();
        for n in 0..5_u8 {
            track.write_datagram(0_u64, vec![n; 100]).unwrap();
            pair.settle();
            assert_eq!(groups(&mut reader), [vec![n; 100]]);
        }
    }
}
