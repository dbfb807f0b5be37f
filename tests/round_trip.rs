//! Encoded messages decode to the same value, and truncated or extended ones are errors.

use std::time::Duration;

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use smoq::coding::lite::{
    Announce, AnnounceInit, AnnounceOk, AnnounceRequest, Base, Bases, DatagramHead, Features,
    Fetch, FrameHead, Goaway, GroupHeader, HopsForm, OkForm, Probe, SessionUpdate, Setup,
    Subscribe, SubscribeResponse, SubscribeUpdate, TrackRequest,
};
use smoq::coding::varint;
use smoq::{
    Cost, DecodeError, Hop, Hops, Path, Subscription, Timescale, Timestamp, TrackInfo, Version,
};

mod wire;

use wire::{Decoded, Kind, Message};

/// Any integer that can be written. Small ones and those at the limits are likely.
fn integer() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..=0x3f_u64,
        0..=varint::MAX,
        prop::sample::select(vec![
            0x3f,
            0x40,
            0x3fff,
            0x4000,
            0x3fff_ffff,
            0x4000_0000,
            varint::MAX
        ]),
    ]
}

/// An integer that can be written as one more.
fn optional() -> impl Strategy<Value = Option<u64>> {
    option::of(integer().prop_map(|value| value.min(varint::MAX - 1)))
}

fn millis() -> impl Strategy<Value = Duration> {
    integer().prop_map(|millis| match millis {
        varint::MAX => Duration::MAX,
        millis => Duration::from_millis(millis),
    })
}

fn path() -> impl Strategy<Value = Path> {
    vec("[a-z.é]{1,8}", 0..=32).prop_map(|segments| Path::new(&segments.join("/")))
}

fn text() -> impl Strategy<Value = Box<str>> {
    "\\PC{0,80}".prop_map(String::into_boxed_str)
}

fn hop() -> impl Strategy<Value = Hop> {
    integer().prop_map(Hop::new)
}

fn hops(version: Version) -> impl Strategy<Value = Hops> {
    let form = Features::of(version).hops;
    let only_count = form == HopsForm::Count;
    let most = if form == HopsForm::Absent { 0 } else { Hops::MAX };
    vec(hop(), 0..=most).prop_map(move |hops| {
        hops.into_iter().map(|hop| if only_count { Hop::UNKNOWN } else { hop }).collect()
    })
}

fn cost(version: Version) -> impl Strategy<Value = Cost> {
    let has_cost = Features::of(version).announce_ids;
    (integer(), integer()).prop_map(
        move |(warm, cold)| {
            if has_cost { Cost { warm, cold } } else { Cost::UNKNOWN }
        },
    )
}

fn base(version: Version) -> impl Strategy<Value = Base> {
    let has_bases = Features::of(version).announce_bases;
    (integer(), integer()).prop_map(move |(back, keep)| match has_bases && back > 0 {
        true => Base { back, keep },
        false => Base::default(),
    })
}

fn announce(version: Version) -> BoxedStrategy<Message> {
    let bases = (base(version), base(version)).prop_map(|(path, hops)| Bases { path, hops });
    let active = (path(), hops(version), cost(version), bases)
        .prop_map(|(suffix, hops, cost, bases)| Announce::Active { suffix, hops, cost, bases });
    let messages = if Features::of(version).announce_ids {
        let ended = integer().prop_map(|id| Announce::EndedId { id });
        let update = (integer(), hops(version), cost(version), base(version))
            .prop_map(|(id, hops, cost, base)| Announce::Update { id, hops, cost, base });
        prop_oneof![active, ended, update].boxed()
    } else {
        prop_oneof![active, path().prop_map(|suffix| Announce::Ended { suffix })].boxed()
    };
    messages.prop_map(Message::Announce).boxed()
}

fn want(version: Version) -> impl Strategy<Value = SubscribeUpdate> {
    let features = Features::of(version);
    let start = if features.frame_bounds {
        option::of(1..=varint::MAX).boxed()
    } else {
        optional().boxed()
    };
    let scalars = (any::<u8>(), any::<bool>(), millis());
    (scalars, start, optional(), integer(), optional()).prop_map(
        move |((priority, ordered, max_age), start, end, frame_start, frame_end)| {
            let mut want = Subscription::default().priority(priority).max_age(max_age);
            want.ordered = ordered && features.ordered;
            if !features.group_bounds {
                want.max_age = Duration::MAX;
                return SubscribeUpdate { want, frame_start: 0, frame_end: None };
            }
            want.start = start;
            want.end = end;
            if !features.frame_bounds {
                return SubscribeUpdate { want, frame_start: 0, frame_end: None };
            }
            let frame_end = end.and(frame_end);
            SubscribeUpdate { want, frame_start, frame_end }
        },
    )
}

fn response(version: Version) -> BoxedStrategy<Message> {
    let drop = (integer(), integer(), integer())
        .prop_map(|(start, end, code)| SubscribeResponse::Drop { start, end, code });
    let features = *Features::of(version);
    let messages = if features.stream_count {
        let start = integer().prop_map(|group| SubscribeResponse::Start { group });
        let end = (integer(), integer())
            .prop_map(|(group, count)| SubscribeResponse::End { group, streams: Some(count) });
        prop_oneof![start, end].boxed()
    } else if features.subscribe_end {
        let start = integer().prop_map(|group| SubscribeResponse::Start { group });
        let end = integer().prop_map(|group| SubscribeResponse::End { group, streams: None });
        prop_oneof![start, end, drop].boxed()
    } else {
        let ok = (any::<u8>(), any::<bool>(), millis(), optional(), optional()).prop_map(
            move |(priority, ordered, max_age, start, end)| match features.ok {
                OkForm::Typed => SubscribeResponse::Ok { priority, ordered, max_age, start, end },
                form => SubscribeResponse::Ok {
                    priority: if form == OkForm::Priority { priority } else { 0 },
                    ordered: false,
                    max_age: Duration::ZERO,
                    start: None,
                    end: None,
                },
            },
        );
        if features.typed_responses() { prop_oneof![ok, drop].boxed() } else { ok.boxed() }
    };
    messages.prop_map(Message::SubscribeResponse).boxed()
}

fn setup() -> BoxedStrategy<Message> {
    let path = option::of("/\\PC{0,40}".prop_map(String::into_boxed_str));
    (option::of(integer()), path, option::of(integer()), option::of(integer()), hop())
        .prop_map(|(probe, path, role, cost, hop)| {
            Message::Setup(Setup { probe, path, role, cost, hop })
        })
        .boxed()
}

fn fetch(version: Version) -> BoxedStrategy<Message> {
    let has_bounds = Features::of(version).frame_bounds;
    (path(), text(), any::<u8>(), integer(), 0..varint::MAX, optional())
        .prop_map(move |(broadcast, track, priority, group, frame_start, frame_end)| {
            let frame_start = if has_bounds { frame_start } else { 0 };
            let frame_end = frame_end.filter(|_| has_bounds).map(|end| end.max(frame_start));
            Message::Fetch(Fetch { broadcast, track, priority, group, frame_start, frame_end })
        })
        .boxed()
}

/// Any message of `kind` that survives encoding in `version`; `None` if the version has none.
fn message(kind: Kind, version: Version) -> Option<BoxedStrategy<Message>> {
    let features = *Features::of(version);
    let is_there = match kind {
        Kind::AnnounceInit => features.announce_init,
        Kind::AnnounceOk => features.announce_ok,
        Kind::Datagram => features.datagrams,
        Kind::Goaway => features.goaway,
        Kind::Fetch | Kind::Probe => features.probe,
        Kind::SessionUpdate => features.version_setup,
        Kind::Setup => features.setup,
        Kind::SubscribeUpdate => features.group_bounds,
        Kind::TrackInfo | Kind::TrackRequest => features.track,
        _ => true,
    };
    if !is_there {
        return None;
    }
    Some(match kind {
        Kind::Announce => announce(version),
        Kind::AnnounceInit => vec(path(), 0..5)
            .prop_map(|suffixes| Message::AnnounceInit(AnnounceInit { suffixes }))
            .boxed(),
        Kind::AnnounceOk => (hop(), integer())
            .prop_map(|(hop, active)| Message::AnnounceOk(AnnounceOk { hop, active }))
            .boxed(),
        Kind::AnnounceRequest => (path(), hop(), any::<bool>())
            .prop_map(move |(prefix, hop, hidden)| {
                let hidden = hidden && features.hidden;
                let exclude = if features.exclude_hop { hop } else { Hop::UNKNOWN };
                Message::AnnounceRequest(AnnounceRequest { prefix, exclude, hidden })
            })
            .boxed(),
        Kind::Datagram => (integer(), integer(), integer())
            .prop_map(|(subscribe, sequence, timestamp)| {
                let timestamp = Timestamp::new(timestamp);
                Message::Datagram(DatagramHead { subscribe, sequence, timestamp })
            })
            .boxed(),
        Kind::Fetch => fetch(version),
        Kind::Frame => (integer(), integer())
            .prop_map(move |(folded, size)| {
                let delta = if features.timestamps { varint::unzigzag(folded) } else { 0 };
                Message::Frame(FrameHead { delta, size })
            })
            .boxed(),
        Kind::Goaway => text().prop_map(|uri| Message::Goaway(Goaway { uri })).boxed(),
        Kind::Group => (integer(), integer(), integer())
            .prop_map(move |(subscribe, sequence, first_frame)| {
                let first_frame = if features.frame_bounds { first_frame } else { 0 };
                Message::Group(GroupHeader { subscribe, sequence, first_frame })
            })
            .boxed(),
        Kind::Probe => (option::of(1..=varint::MAX), option::of(millis()))
            .prop_map(move |(bitrate, rtt)| {
                let rtt = rtt.filter(|rtt| features.rtt && !rtt.is_zero());
                Message::Probe(Probe { bitrate, rtt })
            })
            .boxed(),
        Kind::SessionUpdate => option::of(1..=varint::MAX)
            .prop_map(|bitrate| Message::SessionUpdate(SessionUpdate { bitrate }))
            .boxed(),
        Kind::Setup => setup(),
        Kind::Subscribe => (integer(), path(), text(), want(version))
            .prop_map(|(id, broadcast, track, SubscribeUpdate { want, frame_start, frame_end })| {
                Message::Subscribe(Subscribe { id, broadcast, track, want, frame_start, frame_end })
            })
            .boxed(),
        Kind::SubscribeResponse => response(version),
        Kind::SubscribeUpdate => want(version).prop_map(Message::SubscribeUpdate).boxed(),
        Kind::TrackInfo => (any::<u8>(), millis(), 1..=varint::MAX)
            .prop_map(|(priority, max_age, units)| {
                let mut info = TrackInfo::default();
                info.priority = priority;
                info.max_age = max_age;
                info.timescale = Timescale::new(units).unwrap();
                Message::TrackInfo(info)
            })
            .boxed(),
        Kind::TrackRequest => (path(), text())
            .prop_map(|(broadcast, track)| Message::TrackRequest(TrackRequest { broadcast, track }))
            .boxed(),
    })
}

/// Every kind of message of each version.
fn any_message() -> impl Strategy<Value = (Version, Message)> {
    let versions = Version::ALL.into_iter().chain(Version::WIP);
    let pairs = versions.flat_map(|version| Kind::ALL.map(|kind| (kind, version)));
    let messages = pairs.filter_map(|(kind, version)| {
        let messages = message(kind, version)?;
        Some(messages.prop_map(move |message| (version, message)).boxed())
    });
    proptest::strategy::Union::new(messages)
}

fn encode(message: &Message, version: Version) -> BytesMut {
    let mut out = BytesMut::new();
    message.encode(&mut out, version).unwrap();
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn encoded_messages_decode_to_the_same_value((version, message) in any_message(), tail in vec(any::<u8>(), 0..4)) {
        // The message is appended after other bytes.
        let mut bytes = BytesMut::from(&b"before"[..]);
        message.encode(&mut bytes, version).unwrap();
        let len = bytes.len() - 6;
        bytes.extend_from_slice(&tail);
        prop_assert_eq!(&bytes[..6], b"before");
        let decoded = message.kind().decode(&bytes[6..], version);
        prop_assert_eq!(decoded, Ok(Decoded::Message(message, len)));
    }

    #[test]
    fn part_of_a_message_needs_more_bytes((version, message) in any_message()) {
        let bytes = encode(&message, version);
        // A datagram is always complete.
        let expected =
            if message.kind() == Kind::Datagram { Err(DecodeError::Truncated) } else { Ok(Decoded::Short) };
        for len in 0..bytes.len() {
            prop_assert_eq!(message.kind().decode(&bytes[..len], version), expected.clone(), "{} bytes", len);
        }
    }

    #[test]
    fn a_message_ends_with_its_last_field((version, message) in any_message()) {
        let kind = message.kind();
        if matches!(kind, Kind::Datagram | Kind::Frame) {
            return Ok(());
        }
        let mut bytes = encode(&message, version);
        let framed = kind.frame(&bytes, version).unwrap().unwrap();
        let body = bytes.split_off(framed.head);
        for len in 0..body.len() {
            let cut = kind.decode_body(framed.kind, &body[..len], version);
            prop_assert_eq!(cut, Err(DecodeError::Truncated), "{} bytes", len);
        }
        let mut longer = body.to_vec();
        longer.push(0);
        let longer = kind.decode_body(framed.kind, &longer, version);
        prop_assert_eq!(longer, Err(DecodeError::TrailingBytes));
    }
}
