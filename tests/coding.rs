//! The rules of moq-lite's messages: which bytes are refused, tolerated and ignored.

use std::time::Duration;

use bytes::BytesMut;
use smoq::coding::lite::{
    Announce, AnnounceInit, AnnounceRequest, Base, Bases, BiStream, ClientSetup, DatagramHead,
    Features, Fetch, FrameHead, Framed, Goaway, GroupHeader, HopsForm, Probe, ServerSetup,
    SessionUpdate, Setup, Subscribe, SubscribeResponse, SubscribeUpdate, TrackRequest, UniStream,
    decode_track_info, encode_track_info, frame_message, frame_version_setup,
};
use smoq::coding::varint;
use smoq::{
    BoundsExceeded, Cost, DecodeError, EncodeError, Hop, Hops, Path, Subscription, Timestamp,
    TrackInfo, Version,
};

use Version::{Lite01, Lite02, Lite03, Lite04, Lite05, Lite06, Lite07Wip};

/// The bytes that `encode` appends, or its error. On an error nothing may be appended.
fn bytes(
    encode: impl FnOnce(&mut BytesMut, Version) -> Result<(), EncodeError>,
    version: Version,
) -> Result<Vec<u8>, EncodeError> {
    let mut out = BytesMut::new();
    let result = encode(&mut out, version);
    assert!(result.is_ok() || out.is_empty(), "a failed encode wrote bytes");
    result.map(|()| out.to_vec())
}

fn request(body: &[u8]) -> Result<AnnounceRequest, DecodeError> {
    AnnounceRequest::decode_body(body, Lite06, 32)
}

fn announce(
    kind: Option<u64>,
    body: &[u8],
    version: Version,
) -> Result<Option<Announce>, DecodeError> {
    Announce::decode_body(kind, body, version, 32)
}

/// A text with its length.
fn text(text: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    varint::write(&mut out, text.len() as u64).unwrap();
    out.extend_from_slice(text.as_bytes());
    out.to_vec()
}

fn hops(count: usize) -> Hops {
    (1..=count as u64).map(Hop::new).collect()
}

fn fetch(frame_start: u64, frame_end: Option<u64>) -> Fetch {
    let (broadcast, track) = (Path::new("a"), "b".into());
    Fetch { broadcast, track, priority: 0, group: 0, frame_start, frame_end }
}

#[test]
fn a_message_is_found_when_its_head_is_there() {
    assert_eq!(frame_message(&[], Lite06, false, 10), Ok(None));
    assert_eq!(frame_message(&[0x40], Lite06, false, 10), Ok(None));
    assert_eq!(
        frame_message(&[5], Lite06, false, 10),
        Ok(Some(Framed { kind: None, head: 1, body: 5 }))
    );
    assert_eq!(frame_message(&[5], Lite06, true, 10), Ok(None));
    let longest = [[0xc0, 0, 0, 0, 0, 0, 0, 2], [0xc0, 0, 0, 0, 0, 0, 0, 10]].concat();
    assert_eq!(
        frame_message(&longest, Lite06, true, 10),
        Ok(Some(Framed { kind: Some(2), head: 16, body: 10 }))
    );
}

#[test]
fn a_message_above_the_limit_is_refused_by_its_head() {
    assert_eq!(frame_message(&[11], Lite06, false, 10), Err(DecodeError::TooLong));
    assert_eq!(frame_message(&[0xff; 8], Lite06, false, 10), Err(DecodeError::TooLong));
}

#[test]
fn each_version_has_its_stream_types() {
    let bi =
        |version| (0..100).filter_map(|kind| BiStream::from_u64(kind, version)).collect::<Vec<_>>();
    use BiStream::{Announce, Fetch, Goaway, Probe, Subscribe, Track};
    assert_eq!(bi(Lite01), [Announce, Subscribe]);
    assert_eq!(bi(Lite02), bi(Lite01));
    assert_eq!(bi(Lite03), [Announce, Subscribe, Fetch, Probe]);
    assert_eq!(bi(Lite04), [Announce, Subscribe, Fetch, Probe, Goaway]);
    assert_eq!(bi(Lite05), [Announce, Subscribe, Fetch, Probe, Goaway, Track]);
    assert_eq!(bi(Lite06), bi(Lite05));
    assert_eq!(bi(Lite07Wip), bi(Lite05));

    let uni = |version| {
        (0..100).filter_map(|kind| UniStream::from_u64(kind, version)).collect::<Vec<_>>()
    };
    assert_eq!(uni(Lite01), [UniStream::Group]);
    assert_eq!(uni(Lite02), [UniStream::Group]);
    assert_eq!(uni(Lite03), [UniStream::Group]);
    assert_eq!(uni(Lite04), [UniStream::Group]);
    assert_eq!(uni(Lite05), [UniStream::Group, UniStream::Setup]);
    assert_eq!(uni(Lite06), uni(Lite05));
    assert_eq!(uni(Lite07Wip), uni(Lite05));
}

#[test]
fn paths_are_normalized_on_decoding() {
    assert_eq!(request(&text("//a///b/")).unwrap().prefix, Path::new("a/b"));
    assert!(request(&text("///")).unwrap().prefix.is_root());
}

#[test]
fn track_names_are_not_normalized() {
    let body = [text("/a/"), text("/b//c/")].concat();
    let request = TrackRequest::decode_body(&body, Lite05, 32).unwrap();
    assert_eq!(request, TrackRequest { broadcast: Path::new("a"), track: "/b//c/".into() });
}

#[test]
fn paths_have_a_maximum_number_of_segments() {
    let most = ["x"; 32].join("/");
    assert_eq!(request(&text(&most)).unwrap().prefix, Path::new(&most));
    let more = format!("{most}/x");
    assert_eq!(request(&text(&more)), Err(DecodeError::TooMany));
    // Slashes that are removed add no segment.
    assert_eq!(request(&text(&"/".repeat(100))).unwrap().prefix, Path::root());
    assert_eq!(AnnounceRequest::decode_body(&text("a/b"), Lite06, 1), Err(DecodeError::TooMany));

    let of = |path: &str| AnnounceRequest {
        prefix: Path::new(path),
        exclude: Hop::UNKNOWN,
        hidden: true,
    };
    assert!(bytes(|out, v| of(&most).encode(out, v), Lite06).is_ok());
    assert_eq!(bytes(|out, v| of(&more).encode(out, v), Lite06), Err(EncodeError::TooMany));
}

#[test]
fn text_must_be_utf8() {
    assert_eq!(request(&[2, b'a', 0xff]), Err(DecodeError::InvalidString));
    assert_eq!(
        TrackRequest::decode_body(&[0, 1, 0x80], Lite05, 32),
        Err(DecodeError::InvalidString)
    );
    assert_eq!(Setup::decode_body(&[1, 2, 1, 0x80], Lite05), Err(DecodeError::InvalidString));
}

#[test]
fn a_declared_count_reserves_no_memory() {
    const HUGE: [u8; 8] = [0xff; 8];
    assert_eq!(request(&HUGE), Err(DecodeError::Truncated));
    assert_eq!(Goaway::decode_body(&HUGE, Lite04), Err(DecodeError::Truncated));
    assert_eq!(Setup::decode_body(&HUGE, Lite05), Err(DecodeError::TooMany));
    for version in Version::ALL {
        if Features::of(version).hops == HopsForm::Absent {
            continue;
        }
        let hops = [&[1, 0][..], &HUGE].concat();
        assert_eq!(
            announce(Some(0), &hops[usize::from(version == Lite06)..], version),
            Err(DecodeError::TooMany)
        );
    }
}

#[test]
fn hop_chains_have_a_maximum_length() {
    let body = |count: u8| [&[1, 0, count][..], &vec![7; count.into()]].concat();
    for version in [Lite04, Lite05] {
        let Ok(Some(Announce::Active { hops, .. })) = announce(None, &body(32), version) else {
            panic!("32 hops must be accepted")
        };
        assert_eq!(hops.len(), 32);
        assert_eq!(announce(None, &body(33), version), Err(DecodeError::TooMany));
    }
    assert_eq!(announce(None, &[1, 0, 33], Lite03), Err(DecodeError::TooMany));
}

#[test]
fn on_03_only_the_number_of_hops_is_carried() {
    let bases = Bases::default();
    let active =
        Announce::Active { suffix: Path::root(), hops: hops(3), cost: Cost::default(), bases };
    let written = bytes(|out, v| active.encode(out, v), Lite03).unwrap();
    assert_eq!(written, [3, 1, 0, 3]);
    let unknown = [Hop::UNKNOWN; 3].into_iter().collect();
    let read = Announce::Active { suffix: Path::root(), hops: unknown, cost: Cost::UNKNOWN, bases };
    assert_eq!(announce(None, &written[1..], Lite03), Ok(Some(read)));
}

#[test]
fn hops_of_an_ended_broadcast_are_ignored() {
    let ended = Announce::Ended { suffix: Path::root() };
    assert_eq!(announce(None, &[0, 0, 2, 7, 9], Lite04), Ok(Some(ended)));
}

#[test]
fn unknown_announce_statuses_are_refused() {
    let invalid = Err(DecodeError::InvalidValue("announce status"));
    for version in [Lite03, Lite04] {
        assert_eq!(announce(None, &[2, 0, 0], version), invalid);
    }
    assert!(matches!(announce(None, &[2, 0, 0], Lite05), Ok(Some(Announce::Active { .. }))));
    assert_eq!(announce(None, &[3, 0, 0], Lite05), invalid);
}

#[test]
fn unknown_announce_messages_are_skipped_on_06() {
    assert_eq!(announce(Some(3), b"whatever", Lite06), Ok(None));
    assert_eq!(announce(Some(varint::MAX), &[], Lite06), Ok(None));
}

#[test]
fn announcements_have_numbers_from_06_on() {
    let end = Announce::EndedId { id: 0 };
    let update =
        Announce::Update { id: 0, hops: Hops::new(), cost: Cost::default(), base: Base::default() };
    let by_path = Announce::Ended { suffix: Path::root() };
    for version in [Lite03, Lite04, Lite05] {
        assert_eq!(bytes(|out, v| end.encode(out, v), version), Err(EncodeError::NotInVersion));
        assert_eq!(bytes(|out, v| update.encode(out, v), version), Err(EncodeError::NotInVersion));
        assert!(bytes(|out, v| by_path.encode(out, v), version).is_ok());
    }
    assert_eq!(bytes(|out, v| by_path.encode(out, v), Lite06), Err(EncodeError::NotInVersion));
}

#[test]
fn messages_that_a_version_lacks_are_neither_written_nor_read() {
    let no = DecodeError::NotInVersion;
    for version in [Lite03, Lite04] {
        assert_eq!(Setup::decode_body(&[0], version), Err(no.clone()));
        assert_eq!(decode_track_info(&[127, 0, 0, 1], version), Err(no.clone()));
        assert_eq!(TrackRequest::decode_body(&[0, 0], version, 32), Err(no.clone()));
        assert_eq!(DatagramHead::decode(&[0, 0, 0], version), Err(no.clone()));
        let no = Err(EncodeError::NotInVersion);
        assert_eq!(bytes(|out, v| Setup::default().encode(out, v), version), no);
        assert_eq!(bytes(|out, v| encode_track_info(&TrackInfo::default(), out, v), version), no);
        assert_eq!(
            bytes(|out, v| SubscribeResponse::Start { group: 0 }.encode(out, v), version),
            no
        );
        assert_eq!(
            bytes(
                |out, v| SubscribeResponse::End { group: 0, streams: None }.encode(out, v),
                version
            ),
            no
        );
    }
    assert_eq!(Goaway::decode_body(&[0], Lite03), Err(no));
    assert_eq!(
        bytes(|out, v| Goaway::default().encode(out, v), Lite03),
        Err(EncodeError::NotInVersion)
    );
}

#[test]
fn before_06_frame_bounds_are_refused() {
    let refused = Err(EncodeError::NotInVersion);
    for version in [Lite03, Lite04, Lite05] {
        let header = GroupHeader { subscribe: 0, sequence: 0, first_frame: 1 };
        assert_eq!(bytes(|out, v| header.encode(out, v), version), refused);
        assert_eq!(bytes(|out, v| fetch(1, None).encode(out, v), version), refused);
        assert_eq!(bytes(|out, v| fetch(0, Some(1)).encode(out, v), version), refused);
        let want = Subscription::default().end(1);
        for (frame_start, frame_end) in [(1, None), (0, Some(1))] {
            let update = SubscribeUpdate { want: want.clone(), frame_start, frame_end };
            assert_eq!(bytes(|out, v| update.encode(out, v), version), refused);
        }
    }
}

#[test]
fn a_frame_end_needs_a_group_end() {
    let invalid = DecodeError::InvalidValue("frame end without a group end");
    assert_eq!(SubscribeUpdate::decode_body(&[0, 0, 0, 0, 0, 1], Lite06), Err(invalid));
    let update =
        SubscribeUpdate { want: Subscription::default(), frame_start: 0, frame_end: Some(0) };
    let invalid = EncodeError::InvalidValue("frame end without a group end");
    assert_eq!(bytes(|out, v| update.encode(out, v), Lite06), Err(invalid));
}

#[test]
fn a_fetch_must_not_end_before_its_start() {
    let invalid = DecodeError::InvalidValue("frame end before frame start");
    assert_eq!(Fetch::decode_body(&[0, 0, 0, 0, 2, 2], Lite06, 32), Err(invalid));
    assert!(Fetch::decode_body(&[0, 0, 0, 0, 2, 3], Lite06, 32).is_ok());
    let invalid = EncodeError::InvalidValue("frame end before frame start");
    assert_eq!(bytes(|out, v| fetch(2, Some(1)).encode(out, v), Lite06), Err(invalid));
}

#[test]
fn any_ordered_byte_but_zero_is_true() {
    let update = SubscribeUpdate::decode_body(&[0, 2, 0, 0, 0], Lite04).unwrap();
    assert!(update.want.ordered);
    // In TRACK_INFO its value is ignored.
    assert!(decode_track_info(&[127, 9, 0, 1], Lite05).is_ok());
}

#[test]
fn group_start_is_a_minimum_on_06() {
    let update =
        |body: &[u8], version| SubscribeUpdate::decode_body(body, version).unwrap().want.start;
    assert_eq!(update(&[0, 0, 0, 0, 0, 0], Lite06), None);
    assert_eq!(update(&[0, 0, 1, 0, 0, 0], Lite06), Some(1));
    assert_eq!(update(&[0, 0, 0, 1, 0], Lite05), Some(0));
}

#[test]
fn durations_are_whole_milliseconds_and_the_largest_means_unbounded() {
    let written = |max_age| {
        let want = Subscription::default().max_age(max_age);
        bytes(|out, v| SubscribeUpdate { want, ..Default::default() }.encode(out, v), Lite06)
            .unwrap()
    };
    assert_eq!(written(Duration::from_micros(1_999)), [6, 127, 1, 0, 0, 0, 0]);
    let unbounded = [&[13, 127][..], &[0xff; 8], &[0, 0, 0, 0]].concat();
    assert_eq!(written(Duration::MAX), unbounded);
    assert_eq!(written(Duration::from_millis(varint::MAX + 1)), unbounded);
    let read = SubscribeUpdate::decode_body(&unbounded[1..], Lite06).unwrap();
    assert_eq!(read.want.max_age, Duration::MAX);
}

#[test]
fn subscribe_responses_of_other_versions_are_unknown() {
    let decode =
        |kind, body: &[u8], version| SubscribeResponse::decode_body(Some(kind), body, version);
    for version in [Lite03, Lite04] {
        assert_eq!(decode(2, &[1, 3, 0], version), Err(DecodeError::UnknownMessage(2)));
        assert!(matches!(decode(1, &[1, 3, 0], version), Ok(SubscribeResponse::Drop { .. })));
    }
    for version in [Lite05, Lite06] {
        assert_eq!(decode(3, &[1], version), Err(DecodeError::UnknownMessage(3)));
        assert_eq!(
            decode(1, &[1], version),
            Ok(SubscribeResponse::End { group: 1, streams: None })
        );
        let ok = SubscribeResponse::Ok {
            priority: 0,
            ordered: false,
            max_age: Duration::ZERO,
            start: None,
            end: None,
        };
        assert_eq!(bytes(|out, v| ok.encode(out, v), version), Err(EncodeError::NotInVersion));
    }
}

#[test]
fn a_track_has_a_timescale() {
    let invalid = DecodeError::InvalidValue("timescale");
    assert_eq!(decode_track_info(&[127, 0, 0], Lite06), Err(invalid));
}

#[test]
fn setup_skips_unknown_parameters() {
    let setup = Setup::decode_body(&[3, 9, 2, 0xff, 0xff, 1, 1, 2, 2, 0], Lite05).unwrap();
    assert_eq!(setup, Setup { probe: Some(2), ..Setup::default() });
}

#[test]
fn setup_integers_fill_their_parameter() {
    assert_eq!(Setup::decode_body(&[1, 1, 2, 1, 0], Lite05), Err(DecodeError::TrailingBytes));
    assert_eq!(Setup::decode_body(&[1, 1, 1, 0x40], Lite05), Err(DecodeError::Truncated));
    assert_eq!(Setup::decode_body(&[1, 1, 0], Lite05), Err(DecodeError::Truncated));
}

#[test]
fn setup_has_a_maximum_number_of_parameters() {
    let body = |count: u8| {
        let ids = (0..count).flat_map(|id| [0x40, id + 100, 0]);
        [0x40, count].into_iter().chain(ids).collect::<Vec<_>>()
    };
    assert_eq!(Setup::decode_body(&body(64), Lite06), Ok(Setup::default()));
    assert_eq!(Setup::decode_body(&body(65), Lite06), Err(DecodeError::TooMany));
}

#[test]
fn an_empty_setup_path_is_none() {
    let setup = Setup { path: Some("".into()), ..Setup::default() };
    assert_eq!(bytes(|out, v| setup.encode(out, v), Lite06), Ok(vec![1, 0]));
    assert_eq!(Setup::decode_body(&[1, 2, 0], Lite06), Ok(Setup::default()));
}

#[test]
fn a_measured_zero_is_not_unknown() {
    let nothing = Probe { bitrate: Some(0), rtt: Some(Duration::ZERO) };
    assert_eq!(bytes(|out, v| nothing.encode(out, v), Lite04), Ok(vec![2, 1, 1]));
    assert_eq!(bytes(|out, v| nothing.encode(out, v), Lite03), Ok(vec![1, 1]));
    assert_eq!(bytes(|out, v| Probe::default().encode(out, v), Lite04), Ok(vec![2, 0, 0]));
}

#[test]
fn a_goaway_uri_has_a_maximum_length() {
    let uri = "x".repeat(Goaway::MAX_URI);
    assert!(Goaway::decode_body(&text(&uri), Lite05).is_ok());
    let longer = Goaway { uri: format!("{uri}x").into() };
    assert_eq!(Goaway::decode_body(&text(&longer.uri), Lite05), Err(DecodeError::TooLong));
    assert_eq!(bytes(|out, v| longer.encode(out, v), Lite05), Err(EncodeError::TooLong));
}

#[test]
fn numbers_above_62_bits_are_refused() {
    let above = varint::MAX + 1;
    let bounds = Err(EncodeError::BoundsExceeded);
    for version in Version::ALL {
        let subscribe = Subscribe {
            id: above,
            broadcast: Path::root(),
            track: "".into(),
            want: Subscription::default(),
            frame_start: 0,
            frame_end: None,
        };
        assert_eq!(bytes(|out, v| subscribe.encode(out, v), version), bounds);
        // The value is written as one more.
        let want = Subscription::default().end(varint::MAX);
        let update = SubscribeUpdate { want, ..Default::default() };
        let has_update = Features::of(version).group_bounds;
        let expected = if has_update { &bounds } else { &Err(EncodeError::NotInVersion) };
        assert_eq!(bytes(|out, v| update.encode(out, v), version), *expected);
        let head = FrameHead { delta: 0, size: above };
        assert_eq!(head.encode(version).err(), Some(EncodeError::BoundsExceeded));
    }
    let head = FrameHead { delta: 1 << 61, size: 0 };
    assert_eq!(head.encode(Lite05).err(), Some(EncodeError::BoundsExceeded));
    let head = DatagramHead { subscribe: above, sequence: 0, timestamp: Timestamp::ZERO };
    assert_eq!(head.encode(Lite05).err(), Some(EncodeError::BoundsExceeded));
}

#[test]
fn timestamps_are_differences_to_the_previous_frame() {
    let edge = Timestamp::MAX;
    for (previous, timestamp) in
        [(Timestamp::ZERO, edge), (edge, Timestamp::ZERO), (Timestamp::new(40), Timestamp::new(20))]
    {
        let head = FrameHead::between(previous, timestamp, 7);
        assert_eq!(head.timestamp(previous), Ok(timestamp));
        let bytes = head.encode(Lite05).unwrap();
        assert_eq!(FrameHead::read(&bytes, Lite05), Ok(Some((head, bytes.len()))));
    }
    let step = |delta| FrameHead { delta, size: 0 };
    assert_eq!(step(-1).timestamp(Timestamp::ZERO), Err(BoundsExceeded));
    assert_eq!(step(1).timestamp(edge), Err(BoundsExceeded));
}

#[test]
fn before_05_frames_have_no_timestamp() {
    let head = FrameHead { delta: 40, size: 5 };
    assert_eq!(head.encode(Lite04).unwrap()[..], [5]);
    assert_eq!(FrameHead::read(&[5], Lite04), Ok(Some((FrameHead { delta: 0, size: 5 }, 1))));
}

#[test]
fn a_datagram_timestamp_has_at_most_61_bits() {
    let datagram = |timestamp: u64| [&[0, 0][..], &(timestamp | 3 << 62).to_be_bytes()].concat();
    let last = Timestamp::MAX.units();
    let (head, payload) = DatagramHead::decode(&datagram(last), Lite06).unwrap();
    assert_eq!((head.timestamp, payload), (Timestamp::MAX, 10));
    assert_eq!(DatagramHead::decode(&datagram(last + 1), Lite06), Err(DecodeError::BoundsExceeded));
}

#[test]
fn up_to_02_subscribe_carries_only_the_priority() {
    let want = Subscription::default().priority(3).start(4).end(9).ordered(true);
    let (broadcast, track) = (Path::new("a"), "b".into());
    let subscribe = Subscribe { id: 0, broadcast, track, want, frame_start: 0, frame_end: None };
    for version in [Lite01, Lite02] {
        let written = bytes(|out, v| subscribe.encode(out, v), version).unwrap();
        assert_eq!(written, [6, 0, 1, b'a', 1, b'b', 3]);
        let want = Subscription::default().priority(3).max_age(Duration::MAX);
        let read = Subscribe::decode_body(&written[1..], version, 32).unwrap();
        assert_eq!(read, Subscribe { want, ..subscribe.clone() });
        let (no, not) = (Err(DecodeError::NotInVersion), Err(EncodeError::NotInVersion));
        assert_eq!(SubscribeUpdate::decode_body(&[3], version), no);
        assert_eq!(bytes(|out, v| SubscribeUpdate::default().encode(out, v), version), not);
        assert_eq!(bytes(|out, v| fetch(0, None).encode(out, v), version), not);
        assert_eq!(bytes(|out, v| Probe::default().encode(out, v), version), not);
        let drop = SubscribeResponse::Drop { start: 0, end: 0, code: 0 };
        assert_eq!(bytes(|out, v| drop.encode(out, v), version), not);
    }
}

#[test]
fn from_03_on_there_is_no_announce_init() {
    for version in [Lite03, Lite04, Lite05, Lite06, Lite07Wip] {
        let (no, not) = (Err(DecodeError::NotInVersion), Err(EncodeError::NotInVersion));
        assert_eq!(AnnounceInit::decode_body(&[0], version, 32), no);
        assert_eq!(bytes(|out, v| AnnounceInit::default().encode(out, v), version), not);
        let no = Err(DecodeError::NotInVersion);
        assert_eq!(SessionUpdate::decode_body(&[0], version), no);
        assert_eq!(bytes(|out, v| SessionUpdate::default().encode(out, v), version), not);
    }
    assert_eq!(AnnounceInit::decode_body(&[0xff; 8], Lite02, 32), Err(DecodeError::Truncated));
}

#[test]
fn announcements_refer_to_others_only_on_07() {
    let (suffix, hops, cost) = (Path::root(), Hops::new(), Cost::default());
    let bases = |back, keep| Bases { path: Base::default(), hops: Base { back, keep } };
    let active =
        |bases| Announce::Active { suffix: suffix.clone(), hops: hops.clone(), cost, bases };
    let encode = |bases, version| bytes(|out, v| active(bases).encode(out, v), version);
    for version in [Lite03, Lite04, Lite05, Lite06] {
        assert_eq!(encode(bases(1, 0), version), Err(EncodeError::NotInVersion));
    }
    assert_eq!(encode(bases(1, 2), Lite07Wip), Ok(vec![0, 8, 0, 0, 0, 1, 0, 2, 0, 0]));
    let invalid = EncodeError::InvalidValue("announce base");
    assert_eq!(encode(bases(0, 1), Lite07Wip), Err(invalid));
}

#[test]
fn on_07_an_end_counts_streams_and_nothing_is_dropped() {
    let end = SubscribeResponse::End { group: 1, streams: None };
    let invalid = EncodeError::InvalidValue("no stream count");
    assert_eq!(bytes(|out, v| end.encode(out, v), Lite07Wip), Err(invalid));
    let decode = |kind, body: &[u8]| SubscribeResponse::decode_body(Some(kind), body, Lite07Wip);
    assert_eq!(decode(1, &[1]), Err(DecodeError::Truncated));
    assert_eq!(decode(2, &[1, 3, 0]), Err(DecodeError::UnknownMessage(2)));
    let drop = SubscribeResponse::Drop { start: 0, end: 0, code: 0 };
    assert_eq!(bytes(|out, v| drop.encode(out, v), Lite07Wip), Err(EncodeError::NotInVersion));
}

#[test]
fn the_hidden_flag_is_0_or_1() {
    let decode = |flag| AnnounceRequest::decode_body(&[0, flag], Lite07Wip, 32);
    assert_eq!(decode(0).map(|it| it.hidden), Ok(false));
    assert_eq!(decode(1).map(|it| it.hidden), Ok(true));
    assert_eq!(decode(2), Err(DecodeError::InvalidValue("hidden flag")));
}

#[test]
fn the_versioned_setup_is_found_by_its_head() {
    assert_eq!(frame_version_setup(&[], 10), Ok(None));
    assert_eq!(frame_version_setup(&[0x20, 0], 10), Ok(None));
    let framed = Framed { kind: Some(0x20), head: 3, body: 9 };
    assert_eq!(frame_version_setup(&[0x20, 0, 9], 10), Ok(Some(framed)));
    assert_eq!(frame_version_setup(&[0x21, 0, 11], 10), Err(DecodeError::TooLong));
    assert_eq!(frame_version_setup(&[0x01], 10), Err(DecodeError::UnknownMessage(1)));
}

#[test]
fn the_versioned_setup_skips_unknown_versions_and_parameters() {
    // Draft 13 of moq-transport, 02 and 7; then a parameter with an even id and one with an odd id.
    let body = [
        &[3][..],
        &(0xff00_000d_u64 | 3 << 62).to_be_bytes(),
        &(0xff0d_ad02_u64 | 3 << 62).to_be_bytes(),
        &[7, 2, 2, 5, 1, 1, b'/'],
    ]
    .concat();
    let setup = ClientSetup::decode_body(Some(0x20), &body).unwrap();
    assert_eq!(setup.versions, [Lite02]);
    for len in 0..body.len() {
        let cut = ClientSetup::decode_body(Some(0x20), &body[..len]);
        assert_eq!(cut, Err(DecodeError::Truncated), "{len} bytes");
    }
    let longer = [&body[..], &[0]].concat();
    let longer = ClientSetup::decode_body(Some(0x20), &longer);
    assert_eq!(longer, Err(DecodeError::TrailingBytes));
    assert_eq!(ClientSetup::decode_body(Some(0x21), &body), Err(DecodeError::UnknownMessage(0x21)));
    assert_eq!(ServerSetup::decode_body(Some(0x21), &[7, 0]), Ok(ServerSetup { version: None }));
    let other = ServerSetup { version: Some(Lite03) };
    let mut out = BytesMut::new();
    assert_eq!(other.encode(&mut out), Err(EncodeError::NotInVersion));
    let other = ClientSetup { versions: vec![Lite02, Lite03] };
    assert_eq!(other.encode(&mut out), Err(EncodeError::NotInVersion));
    assert!(out.is_empty());
}
