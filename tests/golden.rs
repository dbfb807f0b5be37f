//! Bytes that deployed implementations write and read, and the values that they stand for.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use smoq::coding::Cursor;
use smoq::coding::lite::{
    Announce, AnnounceInit, AnnounceOk, AnnounceRequest, Base, Bases, BiStream, ClientSetup,
    DatagramHead, Features, Fetch, FrameHead, Goaway, GroupHeader, Probe, ServerSetup,
    SessionUpdate, Setup, Subscribe, SubscribeResponse, SubscribeUpdate, TrackRequest, UniStream,
    frame_version_setup,
};
use smoq::coding::varint::{self, Form};
use smoq::{
    Cost, DecodeError, Hop, Hops, Path, Subscription, Timescale, Timestamp, TrackInfo, Version,
};

mod wire;

use wire::{Decoded, Kind, Message};

/// A part of a row.
#[derive(Debug)]
enum Part {
    Bi(BiStream),
    Uni(UniStream),
    Message(Message),
    Payload(&'static str),
}

impl Part {
    /// Checks that `front` begins with this part, and returns the number of its bytes.
    fn check(&self, front: &[u8], version: Version) -> usize {
        match self {
            Self::Bi(stream) => {
                let (kind, len) = Features::of(version).form.read(front).unwrap();
                assert_eq!(BiStream::from_u64(kind, version), Some(*stream));
                len
            }
            Self::Uni(stream) => {
                let (kind, len) = Features::of(version).form.read(front).unwrap();
                assert_eq!(UniStream::from_u64(kind, version), Some(*stream));
                len
            }
            Self::Message(message) => {
                let Decoded::Message(decoded, len) = message.kind().decode(front, version).unwrap()
                else {
                    panic!("not decoded: {message:?}")
                };
                assert_eq!(decoded, *message);
                len
            }
            Self::Payload(text) => {
                assert_eq!(&front[..text.len()], text.as_bytes());
                text.len()
            }
        }
    }

    fn encode(&self, out: &mut BytesMut, version: Version) {
        match self {
            Self::Bi(stream) => stream.encode(out),
            Self::Uni(stream) => stream.encode(out),
            Self::Message(message) => message.encode(out, version).unwrap(),
            Self::Payload(text) => out.put_slice(text.as_bytes()),
        }
    }
}

const MILLIS_250: Duration = Duration::from_millis(250);

fn request(prefix: &str, exclude: u64) -> Part {
    let (prefix, exclude) = (Path::new(prefix), Hop::new(exclude));
    Part::Message(Message::AnnounceRequest(AnnounceRequest { prefix, exclude, hidden: false }))
}

fn request_all() -> Part {
    let request = AnnounceRequest { hidden: true, ..AnnounceRequest::default() };
    Part::Message(Message::AnnounceRequest(request))
}

fn init(suffixes: &[&str]) -> Part {
    let suffixes = suffixes.iter().copied().map(Path::new).collect();
    Part::Message(Message::AnnounceInit(AnnounceInit { suffixes }))
}

fn announce(message: Announce) -> Part {
    Part::Message(Message::Announce(message))
}

fn hops(ids: &[u64]) -> Hops {
    ids.iter().copied().map(Hop::new).collect()
}

/// "cam", as encoded by versions without costs.
fn active_cam(ids: &[u64]) -> Part {
    let (hops, cost, bases) = (hops(ids), Cost::UNKNOWN, Bases::default());
    announce(Announce::Active { suffix: Path::new("cam"), hops, cost, bases })
}

fn ended_cam() -> Part {
    announce(Announce::Ended { suffix: Path::new("cam") })
}

fn subscribe(id: u64, want: Subscription, frame_start: u64, frame_end: Option<u64>) -> Part {
    let (broadcast, track) = (Path::new("demo/bbb"), "video".into());
    Part::Message(Message::Subscribe(Subscribe {
        id,
        broadcast,
        track,
        want,
        frame_start,
        frame_end,
    }))
}

fn want(priority: u8, max_age: Duration) -> Subscription {
    Subscription::default().priority(priority).max_age(max_age)
}

fn response(response: SubscribeResponse) -> Part {
    Part::Message(Message::SubscribeResponse(response))
}

fn update(want: Subscription) -> Part {
    Part::Message(Message::SubscribeUpdate(SubscribeUpdate {
        want,
        frame_start: 0,
        frame_end: None,
    }))
}

fn info(timescale: u64) -> Part {
    let mut info = TrackInfo::default();
    info.priority = 127;
    info.max_age = Duration::from_millis(5_000);
    info.timescale = Timescale::new(timescale).unwrap();
    Part::Message(Message::TrackInfo(info))
}

fn fetch(frame_start: u64, frame_end: Option<u64>) -> Part {
    let (broadcast, track) = (Path::new("demo/bbb"), "video".into());
    Part::Message(Message::Fetch(Fetch {
        broadcast,
        track,
        priority: 2,
        group: 7,
        frame_start,
        frame_end,
    }))
}

fn probe(bitrate: Option<u64>, rtt_millis: Option<u64>) -> Part {
    Part::Message(Message::Probe(Probe { bitrate, rtt: rtt_millis.map(Duration::from_millis) }))
}

fn goaway(uri: &str) -> Part {
    Part::Message(Message::Goaway(Goaway { uri: uri.into() }))
}

fn group_42(first_frame: u64) -> Part {
    Part::Message(Message::Group(GroupHeader { subscribe: 0, sequence: 42, first_frame }))
}

fn frame(delta: i64, size: u64) -> Part {
    Part::Message(Message::Frame(FrameHead { delta, size }))
}

fn datagram(subscribe: u64, sequence: u64, timestamp: u64) -> Part {
    let timestamp = Timestamp::new(timestamp);
    Part::Message(Message::Datagram(DatagramHead { subscribe, sequence, timestamp }))
}

fn setup(change: impl FnOnce(&mut Setup)) -> Part {
    let mut setup = Setup::default();
    change(&mut setup);
    Part::Message(Message::Setup(setup))
}

fn bases(path: (u64, u64), hops: (u64, u64)) -> Bases {
    let base = |(back, keep)| Base { back, keep };
    Bases { path: base(path), hops: base(hops) }
}

/// The expected parts of a row.
fn expected(id: &str) -> Vec<Part> {
    use Part::{Bi, Payload, Uni};
    let active = |suffix: &str, ids: &[u64], warm, cold| {
        announce(Announce::Active {
            suffix: Path::new(suffix),
            hops: hops(ids),
            cost: Cost { warm, cold },
            bases: Bases::default(),
        })
    };
    let changed = |ids: &[u64], warm, cold| {
        let (hops, cost, base) = (hops(ids), Cost { warm, cold }, Base::default());
        announce(Announce::Update { id: 0, hops, cost, base })
    };
    let based = |suffix: &str, path, ids: &[u64], hop| {
        let (suffix, cost) = (Path::new(suffix), Cost { warm: 0, cold: 0 });
        announce(Announce::Active { suffix, hops: hops(ids), cost, bases: bases(path, hop) })
    };
    let changed_based = |ids: &[u64], back, keep| {
        let (hops, cost, base) = (hops(ids), Cost { warm: 0, cold: 0 }, Base { back, keep });
        announce(Announce::Update { id: 0, hops, cost, base })
    };
    let end = |group, streams| response(SubscribeResponse::End { group, streams });
    let ok = |priority, max_age, start| {
        response(SubscribeResponse::Ok { priority, ordered: false, max_age, start, end: None })
    };
    match id {
        "G05" => {
            let update = SessionUpdate { bitrate: Some(5_000_000) };
            vec![Part::Message(Message::SessionUpdate(update))]
        }
        "G06" | "G09" => vec![Bi(BiStream::Announce), request("", 0)],
        "G07" => vec![Bi(BiStream::Announce), request("demo", 0)],
        "G08" => vec![Bi(BiStream::Announce), request("", 0x1234)],
        "G10" => vec![Bi(BiStream::Announce), request_all()],
        "G11" => vec![init(&["room", "demo/bbb"])],
        "G12" => vec![init(&[])],
        "G13" => vec![active_cam(&[]), ended_cam()],
        "G14" => vec![active_cam(&[0]), ended_cam()],
        "G15" => vec![active_cam(&[7, 0x1234]), ended_cam()],
        "G16" | "G17" => vec![Part::Message(Message::AnnounceOk(AnnounceOk {
            hop: Hop::new(0x1234),
            active: 1,
        }))],
        "G18" => vec![active_cam(&[7]), ended_cam()],
        "G19" => vec![active_cam(&[7])],
        "G20" | "G25" => vec![active("cam", &[7], 0, 3)],
        "G21" => vec![active("", &[], 0, 0)],
        "G22" => vec![announce(Announce::EndedId { id: 42 })],
        "G23" => vec![changed(&[7, 9], 2, 5)],
        "G26" => vec![changed_based(&[], 1, 1)],
        "G28" => vec![Bi(BiStream::Subscribe), subscribe(0, want(2, Duration::MAX), 0, None)],
        "G24" | "G27" => vec![changed(&[], (1 << 62) - 1, (1 << 62) - 1)],
        "G29" | "G32" | "G34" => {
            vec![Bi(BiStream::Subscribe), subscribe(0, want(2, MILLIS_250), 0, None)]
        }
        "G30" => {
            vec![
                Bi(BiStream::Subscribe),
                subscribe(0, want(0, Duration::ZERO).ordered(true), 0, None),
            ]
        }
        "G31" => vec![
            Bi(BiStream::Subscribe),
            subscribe(1, want(3, MILLIS_250).start(4).end(9), 0, None),
        ],
        "G33" => {
            vec![
                Bi(BiStream::Subscribe),
                subscribe(1, want(3, MILLIS_250).start(7).end(9), 4, Some(2)),
            ]
        }
        "G35" => vec![ok(2, Duration::ZERO, None)],
        "G36" => vec![ok(0, Duration::ZERO, None)],
        "G37" => vec![ok(2, Duration::ZERO, None)],
        "G38" => vec![ok(2, Duration::from_millis(2_000), Some(4))],
        "G39" | "G40" => vec![
            response(SubscribeResponse::Start { group: 42 }),
            response(SubscribeResponse::Start { group: 100 }),
        ],
        "G41" => vec![end(7, None)],
        "G42" => vec![end(7, Some(3))],
        "G43" => vec![response(SubscribeResponse::Start { group: 0 }), end(3, Some(2))],
        "G44" => vec![end(0, Some(0))],
        "G45" | "G46" => vec![response(SubscribeResponse::Drop { start: 1, end: 3, code: 0 })],
        "G47" | "G49" => vec![update(want(4, MILLIS_250))],
        "G48" => vec![update(want(4, MILLIS_250).start(7).end(9))],
        "G50" => {
            let (broadcast, track) = (Path::new("demo/bbb"), "video".into());
            vec![
                Bi(BiStream::Track),
                Part::Message(Message::TrackRequest(TrackRequest { broadcast, track })),
            ]
        }
        "G51" | "G52" => vec![info(1_000)],
        "G53" => vec![info(90_000)],
        "G54" | "G55" => vec![Bi(BiStream::Fetch), fetch(0, None)],
        "G56" => vec![Bi(BiStream::Fetch), fetch(2, Some(6))],
        "G57" => vec![probe(Some(5_000_000), None)],
        "G58" | "G59" => vec![probe(Some(5_000_000), Some(40))],
        "G60" => vec![probe(None, Some(40))],
        "G61" => vec![Bi(BiStream::Probe)],
        "G62" => vec![Bi(BiStream::Goaway), goaway("")],
        "G63" => vec![Bi(BiStream::Goaway), goaway("https://b.example/")],
        "G64" | "G65" => vec![Uni(UniStream::Group), group_42(0)],
        "G66" => vec![Uni(UniStream::Group), group_42(4)],
        "G67" => {
            vec![Uni(UniStream::Group), group_42(0), frame(0, 5), Payload("hello"), frame(0, 0)]
        }
        "G68" | "G69" | "G70" => vec![
            Uni(UniStream::Group),
            group_42(0),
            frame(1_000, 5),
            Payload("hello"),
            frame(40, 2),
            Payload("hi"),
            frame(-20, 0),
        ],
        "G71" => vec![datagram(1, 2, 3), Payload("world")],
        "G72" | "G73" => vec![datagram(7, 42, 1_000), Payload("hello")],
        "G74" => vec![Uni(UniStream::Setup), setup(|_| {})],
        "G75" => vec![Uni(UniStream::Setup), setup(|setup| setup.probe = Some(1))],
        "G76" => vec![Uni(UniStream::Setup), setup(|setup| setup.path = Some("/room".into()))],
        "G77" => vec![Uni(UniStream::Setup), setup(|setup| setup.role = Some(2))],
        "G78" | "G79" => vec![setup(|setup| setup.cost = Some(100))],
        "G80" | "G81" => vec![
            Uni(UniStream::Setup),
            setup(|setup| {
                setup.probe = Some(1);
                setup.hop = Hop::new(0x1234);
            }),
        ],
        "G84" => vec![
            based("room/a/cam", (0, 0), &[0x1111, 0x2222], (0, 0)),
            based("mic", (1, 2), &[0x3333], (1, 1)),
            changed_based(&[0x4444], 1, 1),
            announce(Announce::EndedId { id: 1 }),
            based("b", (2, 1), &[0x5555], (2, 1)),
        ],
        "G85" => vec![
            based("room/a/cam", (0, 0), &[0x1111, 0x2222], (0, 0)),
            based("room/a/mic", (0, 0), &[0x3333, 0x2222], (0, 0)),
            changed_based(&[0x4444, 0x2222], 0, 0),
            announce(Announce::EndedId { id: 1 }),
            based("room/b", (0, 0), &[0x5555, 0x2222], (0, 0)),
        ],
        _ => panic!("the table has an unknown row"),
    }
}

struct Row {
    id: &'static str,
    versions: Vec<Version>,
    bytes: Vec<u8>,
}

fn rows() -> Vec<Row> {
    let lines = include_str!("golden/lite.tsv").lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let columns: Vec<_> = line.split('\t').collect();
            let [id, versions, _, bytes, _] = columns[..] else { panic!("not a row: {line}") };
            Row { id, versions: parse_versions(versions), bytes: parse_hex(bytes) }
        })
        .collect()
}

/// Parses `03,04` or `03..07`.
fn parse_versions(text: &str) -> Vec<Version> {
    let numbers: Vec<u8> = match text.split_once("..") {
        Some((first, last)) => (first.parse().unwrap()..=last.parse().unwrap()).collect(),
        None => text.split(',').map(|number| number.parse().unwrap()).collect(),
    };
    let name = |number: &u8| match number {
        7 => "moq-lite-07-wip".to_owned(),
        number => format!("moq-lite-{number:02}"),
    };
    numbers.iter().map(|number| name(number).parse().unwrap()).collect()
}

fn parse_hex(text: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

#[test]
fn golden_bytes_decode_and_encode() {
    let mut checked = 0;
    let mut kinds = Vec::new();
    for Row { id, versions, bytes } in rows() {
        // Invalid rows and those of the versioned SETUP have tests of their own.
        if ["G01", "G02", "G03", "G04", "G82", "G83"].contains(&id) {
            continue;
        }
        for version in versions {
            println!("{id} on {version}");
            let parts = expected(id);
            let mut at = 0;
            let mut encoded = BytesMut::new();
            for part in &parts {
                at += part.check(&bytes[at..], version);
                part.encode(&mut encoded, version);
                if let Part::Message(message) = part {
                    kinds.push(message.kind());
                }
            }
            assert_eq!(at, bytes.len(), "{id}: bytes remain");
            if id == "G19" {
                // Status 2 is read as active and never written.
                encoded[1] = 2;
            }
            assert_eq!(encoded[..], bytes[..], "{id} on {version}");
            checked += 1;
        }
    }
    assert_eq!(checked, 146, "rows and their versions");
    assert!(Kind::ALL.iter().all(|kind| kinds.contains(kind)), "every message needs a row");
}

#[test]
fn a_setup_parameter_twice_is_an_error() {
    let row = rows().into_iter().find(|row| row.id == "G82").unwrap();
    for version in row.versions {
        let result = Kind::Setup.decode(&row.bytes[1..], version);
        assert_eq!(result, Err(DecodeError::Duplicate), "{version}");
    }
}

#[test]
fn a_base_without_a_reference_must_be_zero() {
    let row = rows().into_iter().find(|row| row.id == "G83").unwrap();
    for version in row.versions {
        let result = Kind::Announce.decode(&row.bytes, version);
        assert_eq!(result, Err(DecodeError::InvalidValue("announce base")), "{version}");
    }
}

#[test]
fn the_versioned_setup_selects_a_version() {
    use Version::{Lite01, Lite02};
    let mut checked = 0;
    for Row { id, bytes, .. } in rows() {
        if !["G01", "G02", "G03", "G04"].contains(&id) {
            continue;
        }
        println!("{id}");
        let framed = frame_version_setup(&bytes, 100).unwrap().unwrap();
        let body = &bytes[framed.head..];
        assert_eq!(body.len(), framed.body);
        let mut encoded = BytesMut::new();
        if matches!(id, "G01" | "G02") {
            let setup = ClientSetup::decode_body(framed.kind, body).unwrap();
            assert_eq!(setup.versions[..2], [Lite02, Lite01]);
            assert!(setup.versions[2..].iter().all(|other| *other == Version::Moqt14), "{setup:?}");
            let setup = ClientSetup { versions: vec![Lite02, Lite01] };
            // Ours has no parameters, which only another dialect reads.
            setup.encode(&mut encoded).unwrap();
            assert_eq!(encoded[..], parse_hex("20001202c0000000ff0dad02c0000000ff0dad0100"));
        } else {
            let version = if id == "G03" { Lite02 } else { Lite01 };
            let setup = ServerSetup::decode_body(framed.kind, body).unwrap();
            assert_eq!(setup, ServerSetup { version: Some(version) });
            setup.encode(&mut encoded).unwrap();
            assert_eq!(encoded[..], bytes[..]);
        }
        checked += 1;
    }
    assert_eq!(checked, 4);
}

/// moq-lite, *Variable-Length Integers*: RFC 9000 appendix A.1 and the limits of each length.
#[test]
fn varints_in_quic_form() {
    for (value, hex) in [
        (0, "00"),
        (37, "25"),
        (63, "3f"),
        (64, "4040"),
        (250, "40fa"),
        (15_293, "7bbd"),
        (16_383, "7fff"),
        (16_384, "80004000"),
        (5_000_000, "804c4b40"),
        (494_878_333, "9d7f3e7d"),
        ((1 << 30) - 1, "bfffffff"),
        (1 << 30, "c000000040000000"),
        (0xff0d_ad02, "c0000000ff0dad02"),
        (151_288_809_941_952_652, "c2197c5eff14e88c"),
        (varint::MAX, "ffffffffffffffff"),
    ] {
        let bytes = parse_hex(hex);
        let mut out = BytesMut::new();
        varint::write(&mut out, value).unwrap();
        assert_eq!(out[..], bytes[..], "{value}");
        assert_eq!(varint::len(value), bytes.len(), "{value}");
        assert_eq!(varint::read(&bytes), Some((value, bytes.len())));
        for short in 0..bytes.len() {
            assert_eq!(varint::read(&bytes[..short]), None, "{value}");
        }
    }
    assert_eq!(varint::read(&[0x40, 0x25]), Some((37, 2)), "a longer form");
}

/// moq-transport 17, the table of examples, and the limits of each length.
#[test]
fn varints_by_leading_ones() {
    let form = Form::LeadingOnes62;
    for (value, hex) in [
        (0, "00"),
        (37, "25"),
        (127, "7f"),
        (128, "8080"),
        (250, "80fa"),
        (15_293, "bbbd"),
        (16_383, "bfff"),
        (16_384, "c04000"),
        (90_000, "c15f90"),
        ((1 << 21) - 1, "dfffff"),
        (1 << 21, "e0200000"),
        ((1 << 28) - 1, "efffffff"),
        (1 << 28, "f010000000"),
        ((1 << 35) - 1, "f7ffffffff"),
        (1 << 35, "f80800000000"),
        (2_893_212_287_960, "faa1a0e403d8"),
        ((1 << 42) - 1, "fbffffffffff"),
        (1 << 42, "fe00040000000000"),
        (70_423_237_261_249_041, "fefa318fa8e3ca11"),
        ((1 << 56) - 1, "feffffffffffffff"),
        (1 << 56, "ff0100000000000000"),
        (varint::MAX, "ff3fffffffffffffff"),
    ] {
        let bytes = parse_hex(hex);
        let mut out = BytesMut::new();
        form.write(&mut out, value).unwrap();
        assert_eq!(out[..], bytes[..], "{value}");
        assert_eq!(form.len(value), bytes.len(), "{value}");
        assert_eq!(Cursor::of(&bytes, form).varint(), Ok(value));
        for short in 0..bytes.len() {
            assert_eq!(form.read(&bytes[..short]), None, "{value}");
        }
    }
    let read = |hex| Cursor::of(&parse_hex(hex), form).varint();
    assert_eq!(read("8025"), Ok(37), "a longer form");
    assert_eq!(read("fd23456789abcd"), Ok(0x0001_2345_6789_abcd), "a form that is only read");
    for above in ["ff4000000000000000", "ffffffffffffffffff"] {
        assert_eq!(read(above), Err(DecodeError::BoundsExceeded));
    }
    let mut out = BytesMut::new();
    assert_eq!(form.write(&mut out, varint::MAX + 1), Err(smoq::BoundsExceeded));
    assert!(out.is_empty());
}

#[test]
fn varints_have_62_bits() {
    let mut out = BytesMut::new();
    for value in [varint::MAX + 1, u64::MAX] {
        assert_eq!(varint::write(&mut out, value), Err(smoq::BoundsExceeded));
        assert!(out.is_empty());
    }
}

#[test]
fn zigzag() {
    let edge = 1 << 61;
    for (value, folded) in [
        (0, 0),
        (-1, 1),
        (1, 2),
        (-2, 3),
        (2, 4),
        (-20, 39),
        (40, 80),
        (1_000, 2_000),
        (edge - 1, varint::MAX - 1),
        (-edge, varint::MAX),
    ] {
        assert_eq!(varint::zigzag(value), Ok(folded));
        assert_eq!(varint::unzigzag(folded), value);
    }
    for value in [edge, -edge - 1, i64::MAX, i64::MIN] {
        assert_eq!(varint::zigzag(value), Err(smoq::BoundsExceeded), "{value}");
    }
}
