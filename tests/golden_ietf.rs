//! Bytes from the drafts of moq-transport and from deployed implementations, and the values that they stand
//! for.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use smoq::coding::ietf::{
    DatagramHead, Draft, Fetch, FetchEnd, FetchObject, FetchOk, FetchRecord, FetchRecords,
    FetchTarget, Filter, FilterForm, Framed, Goaway, GroupOrder, Location, Message,
    NamespaceRequest, ObjectHead, ObjectStatus, Parameters, Publish, PublishBlocked, PublishDone,
    PublishNamespace, Redirect, RequestError, RequestOk, RequestUpdate, Setup, SubgroupHeader,
    Subscribe, SubscribeNamespace, SubscribeOk, TokenReference, TrackProperties, UniStream,
    Unsubscribe, Wanted, frame_message,
};
use smoq::{AuthToken, DecodeError, EncodeError, Path, Properties, Timescale, Timestamp, Version};

/// A part of a row.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there are few")]
enum Part {
    Integer(u64),
    Stream(UniStream),
    Message(Message),
    /// The head of an object on a stream without properties.
    Object(ObjectHead<'static>),
    /// The head of an object on a stream with properties.
    WithProperties(ObjectHead<'static>),
    Record(FetchRecord<'static>),
    /// The head of a datagram, and the number of bytes that follow.
    Datagram(DatagramHead<'static>, usize),
    Payload(&'static [u8]),
}

impl Part {
    /// Checks that `front` begins with this part, and returns the number of its bytes.
    fn check(&self, front: &[u8], draft: &'static Draft, records: &mut FetchRecords) -> usize {
        match self {
            Self::Integer(value) => {
                let (read, len) = draft.varint.read(front).unwrap();
                assert_eq!(read, *value);
                len
            }
            Self::Stream(stream) => {
                let (read, len) = UniStream::read(front, draft).unwrap().unwrap();
                assert_eq!(read, *stream);
                len
            }
            Self::Message(message) => {
                let framed = frame_message(front, draft, 65_535).unwrap().unwrap();
                let Framed { kind, head, body } = framed;
                let read = Message::decode(kind, &front[head..head + body], draft).unwrap();
                assert_eq!(read, *message);
                head + body
            }
            Self::Object(object) => {
                let (read, len) = ObjectHead::read(front, false, draft).unwrap().unwrap();
                assert_eq!(read, *object);
                len
            }
            Self::WithProperties(object) => {
                let (read, len) = ObjectHead::read(front, true, draft).unwrap().unwrap();
                assert_eq!(read, *object);
                len
            }
            Self::Record(record) => {
                let (read, len) = records.read(front).unwrap().unwrap();
                assert_eq!(read, *record);
                len
            }
            Self::Datagram(head, size) => {
                let (read, len) = DatagramHead::decode(front, draft).unwrap().unwrap();
                assert_eq!((read, front.len() - len), (*head, *size));
                len
            }
            Self::Payload(bytes) => {
                assert_eq!(front[..bytes.len()], **bytes);
                bytes.len()
            }
        }
    }

    fn encode(&self, out: &mut BytesMut, draft: &'static Draft, records: &mut FetchRecords) {
        match self {
            Self::Integer(value) => draft.varint.write(out, *value).unwrap(),
            Self::Stream(stream) => stream.encode(out, draft).unwrap(),
            Self::Message(message) => message.encode(out, draft).unwrap(),
            Self::Object(object) => out.put_slice(&object.encode(false, draft).unwrap()),
            Self::WithProperties(object) => out.put_slice(&object.encode(true, draft).unwrap()),
            Self::Record(record) => out.put_slice(&records.encode(record).unwrap()),
            Self::Datagram(head, size) => out.put_slice(&head.encode(*size, draft).unwrap()),
            Self::Payload(bytes) => out.put_slice(bytes),
        }
    }
}

const DEADBEEF: Part = Part::Payload(&[0xde, 0xad, 0xbe, 0xef]);
const CAFE: Part = Part::Payload(&[0xca, 0xfe]);

fn message(message: Message) -> Vec<Part> {
    vec![Part::Message(message)]
}

fn integers<const N: usize>(values: [u64; N]) -> Vec<Part> {
    values.map(Part::Integer).into()
}

fn setup(change: impl FnOnce(&mut Setup)) -> Setup {
    let mut setup = Setup::default();
    change(&mut setup);
    setup
}

fn parameters(change: impl FnOnce(&mut Parameters)) -> Parameters {
    let mut parameters = Parameters::default();
    change(&mut parameters);
    parameters
}

/// SUBSCRIBE for "live/video".
fn subscribe(id: u64, change: impl FnOnce(&mut Parameters)) -> Vec<Part> {
    let (namespace, track) = (Path::new("live"), "video".into());
    message(Message::Subscribe(Subscribe { id, namespace, track, parameters: parameters(change) }))
}

/// The parameters with which `moq-net` requests everything from now on.
fn as_moq_net(parameters: &mut Parameters) {
    parameters.forward = Some(true);
    parameters.priority = Some(128);
    parameters.filter = Some(Filter::NextObject);
    parameters.order = Some(GroupOrder::Descending);
}

fn range_10_to_20(parameters: &mut Parameters) {
    parameters.filter = Some(Filter::Range { start: Location::new(10, 3), end_group: 20 });
}

fn largest(group: u64, object: u64) -> Parameters {
    parameters(|parameters| parameters.largest = Some(Location::new(group, object)))
}

/// The priority on the wire is 128.
fn header(alias: u64, group: u64) -> SubgroupHeader {
    SubgroupHeader {
        alias,
        group,
        subgroup: Some(0),
        priority: Some(127),
        properties: false,
        end_of_group: false,
        first_object: false,
    }
}

fn stream(header: SubgroupHeader) -> Part {
    Part::Stream(UniStream::Subgroup(header))
}

/// The priority on the wire is 128.
fn datagram(group: u64) -> DatagramHead<'static> {
    DatagramHead {
        alias: 1,
        group,
        object: 0,
        priority: Some(127),
        end_of_group: false,
        timestamp: None,
        properties: None,
        status: ObjectStatus::Normal,
    }
}

fn object(size: u64) -> Part {
    Part::Object(ObjectHead { size, ..ObjectHead::default() })
}

fn record(group: u64, number: u64, priority: u8, size: u64) -> Part {
    let location = Location::new(group, number);
    Part::Record(FetchRecord::Object(FetchObject {
        location,
        subgroup: Some(0),
        priority,
        timestamp: None,
        properties: None,
        size,
    }))
}

/// The path of the three namespaces in the table.
fn conference() -> Path {
    Path::new("conference")
}

fn room42() -> Path {
    Path::new("room42")
}

fn sports() -> Path {
    Path::new("live/sports")
}

/// The request id of an answer, in drafts that write it.
fn reply(id: u64, version: Version) -> Option<u64> {
    Some(id).filter(|_| !draft(version).has_request_streams())
}

fn draft(version: Version) -> &'static Draft {
    Draft::of(version).unwrap()
}

/// The expected parts of a row; `None` for rows that are only read and written again.
fn expected(id: &str, version: Version) -> Option<Vec<Part>> {
    let error = |code, retry, reason: &str| RequestError {
        id: reply(1, version),
        code,
        retry,
        reason: reason.into(),
        redirect: None,
    };
    let fetch_ok = FetchOk {
        id: reply(2, version),
        // From 20 on the end is inclusive.
        end: FetchEnd { group: 10, object: Some(if version < Version::Moqt20 { 2 } else { 3 }) },
        ..FetchOk::default()
    };
    let ok = |parameters| RequestOk { id: reply(1, version), parameters, ..RequestOk::default() };
    let done = |status, streams| PublishDone {
        id: reply(1, version),
        status,
        streams: Some(streams),
        reason: "".into(),
    };
    Some(match id {
        "G001" => integers([37, 15_293, 494_878_333]),
        "G002" => integers([0xff00_000e]),
        "G003" => integers([37, 15_293, 226_442_877]),
        "G004" => integers([64, 200]),
        "G005" => integers([2_893_212_287_960]),
        "G006" => integers([151_288_809_941_952]),
        "G007" => integers([70_423_237_261_249_041, u64::MAX]),
        "G008" => vec![Part::Stream(UniStream::Padding)],
        "G013" => message(Message::ClientSetup(setup(|setup| setup.path = Some("/moq".into())))),
        "G014" => message(Message::ServerSetup(setup(|setup| setup.max_request_id = 100))),
        "G015" => message(Message::ClientSetup(setup(|setup| {
            setup.path = Some("/moq".into());
            setup.max_request_id = 100;
            setup.authority = Some("a".into());
        }))),
        "G016" | "G019" => {
            vec![Part::Stream(UniStream::Setup), Part::Message(Message::Setup(Setup::default()))]
        }
        "G017" => message(Message::Setup(setup(|setup| setup.path = Some("/moq".into())))),
        "G018" => message(Message::Setup(setup(|setup| {
            setup.path = Some("/moq".into());
            setup.authority = Some("a.b".into());
            setup.implementation = Some("x".into());
        }))),
        "G024" | "G029" => subscribe(0, as_moq_net),
        "G025" => subscribe(1, |parameters| parameters.priority = Some(127)),
        "G026" | "G032" => subscribe(1, range_10_to_20),
        "G030" => message(Message::Subscribe(Subscribe {
            id: 0,
            namespace: Path::new("ns"),
            track: "t".into(),
            parameters: Parameters::default(),
        })),
        "G031" => subscribe(0, |parameters| {
            parameters.forward = Some(true);
            parameters.priority = Some(127);
            parameters.order = Some(GroupOrder::Descending);
        }),
        "G039" => message(Message::SubscribeOk(SubscribeOk {
            id: Some(1),
            alias: 5,
            properties: TrackProperties { priority: Some(127), ..TrackProperties::default() },
            ..SubscribeOk::default()
        })),
        "G040" | "G041" => {
            let timeout = || Properties::new(&[0x02, 0x93, 0x88], version).unwrap();
            let properties = (id == "G041").then(timeout);
            message(Message::SubscribeOk(SubscribeOk {
                alias: 5,
                parameters: largest(10, 3),
                properties: TrackProperties { all: properties, ..TrackProperties::default() },
                ..SubscribeOk::default()
            }))
        }
        "G042" => message(Message::SubscribeOk(SubscribeOk {
            id: None,
            alias: 0,
            parameters: largest(4, 2),
            properties: TrackProperties {
                timescale: Some(Timescale::MICROS),
                priority: Some(128),
                order: Some(GroupOrder::Descending),
                ..TrackProperties::default()
            },
        })),
        "G236" | "G237" | "G238" => {
            let flag = |it: bool| it.then_some(true);
            let parameters = parameters(|it| it.dynamic_groups = flag(id == "G237"));
            message(Message::SubscribeOk(SubscribeOk {
                id: (id != "G236").then_some(1),
                alias: 5,
                parameters,
                properties: TrackProperties {
                    dynamic_groups: flag(id != "G237"),
                    ..TrackProperties::default()
                },
            }))
        }
        "G045" | "G046" => message(Message::RequestError(error(0x10, None, "does not exist"))),
        "G047" => message(Message::RequestError(error(0x3, None, ""))),
        "G048" => message(Message::RequestError(RequestError {
            redirect: Some(Redirect { uri: "moqt://b".into(), ..Redirect::default() }),
            ..error(0x34, Some(Duration::ZERO), "")
        })),
        "G051" => message(Message::RequestUpdate(RequestUpdate {
            id: 2,
            existing: Some(1),
            parameters: parameters(|parameters| parameters.priority = Some(127)),
        })),
        "G053" => message(Message::RequestUpdate(RequestUpdate {
            id: 2,
            existing: None,
            parameters: parameters(|parameters| parameters.priority = Some(245)),
        })),
        "G054" => message(Message::RequestUpdate(RequestUpdate {
            id: 7,
            existing: None,
            parameters: parameters(|parameters| parameters.prefix = Some(sports())),
        })),
        "G055" | "G057" => message(Message::RequestOk(ok(Parameters::default()))),
        "G056" => message(Message::RequestOk(ok(largest(10, 3)))),
        "G058" => message(Message::Unsubscribe(Unsubscribe { id: Some(1) })),
        "G059" => message(Message::PublishDone(done(2, 0))),
        "G060" => message(Message::PublishDone(done(2, 5))),
        "G064" => message(Message::Publish(Publish {
            id: 0,
            namespace: Path::new("ns"),
            track: "t".into(),
            alias: 5,
            parameters: Parameters::default(),
            properties: TrackProperties::default(),
        })),
        "G065" | "G067" => message(Message::PublishNamespace(PublishNamespace {
            id: if id == "G065" { 1 } else { 0 },
            namespace: conference(),
            parameters: Parameters::default(),
        })),
        "G070" => message(Message::PublishNamespaceDone(NamespaceRequest::Id(1))),
        "G072" => message(Message::SubscribeNamespace(SubscribeNamespace {
            id: 3,
            prefix: sports(),
            wanted: Wanted::Namespaces,
            parameters: Parameters::default(),
        })),
        "G074" => message(Message::SubscribeNamespace(SubscribeNamespace::default())),
        "G075" => message(Message::SubscribeTracks(SubscribeNamespace::default())),
        "G076" => message(Message::Namespace(room42())),
        "G077" => message(Message::NamespaceDone(room42())),
        "G078" => message(Message::PublishBlocked(PublishBlocked {
            suffix: Path::root(),
            track: "t".into(),
        })),
        "G083" => message(Message::Fetch(Fetch {
            id: 6,
            target: FetchTarget::Relative { joins: 2, groups_back: 3 },
            parameters: Parameters::default(),
        })),
        "G085" => message(Message::Fetch(Fetch {
            id: 0,
            target: FetchTarget::Standalone {
                namespace: Path::new("ns"),
                track: "t".into(),
                start: Location::new(0, 0),
                end: FetchEnd { group: 0, object: Some(0) },
            },
            parameters: Parameters::default(),
        })),
        "G089" | "G090" => message(Message::FetchOk(fetch_ok)),
        "G091" => message(Message::MaxRequestId(100)),
        "G092" => message(Message::RequestsBlocked(100)),
        "G093" => message(Message::Goaway(Goaway::default())),
        "G095" => message(Message::Goaway(Goaway { request: Some(0), ..Goaway::default() })),
        "G097" => vec![stream(header(1, 0)), object(4), DEADBEEF, object(2), CAFE],
        "G098" => {
            vec![stream(SubgroupHeader { priority: None, ..header(1, 0) }), object(4), DEADBEEF]
        }
        "G099" => vec![
            stream(SubgroupHeader { subgroup: Some(3), ..header(1, 0) }),
            object(4),
            DEADBEEF,
            object(0),
        ],
        "G100" => vec![
            stream(SubgroupHeader { properties: true, ..header(1, 0) }),
            Part::WithProperties(ObjectHead {
                properties: Some(&[0x3c, 2]),
                size: 4,
                ..ObjectHead::default()
            }),
            DEADBEEF,
        ],
        "G101" => vec![
            stream(header(1, 10)),
            Part::Object(ObjectHead { status: ObjectStatus::EndOfTrack, ..ObjectHead::default() }),
        ],
        "G102" | "G103" => vec![
            stream(SubgroupHeader {
                priority: Some(128),
                end_of_group: true,
                first_object: id == "G103",
                ..header(0, 7)
            }),
            object(2),
            Part::Payload(b"hi"),
            object(2),
            Part::Payload(b"yo"),
        ],
        "G104" => {
            let at = |timestamp| {
                Part::WithProperties(ObjectHead {
                    timestamp: Some(Timestamp::new(timestamp)),
                    size: 2,
                    ..ObjectHead::default()
                })
            };
            vec![
                stream(SubgroupHeader {
                    priority: Some(128),
                    properties: true,
                    end_of_group: true,
                    first_object: true,
                    ..header(0, 7)
                }),
                at(0),
                Part::Payload(b"hi"),
                at(20_000),
                Part::Payload(b"yo"),
            ]
        }
        "G105" | "G106" => vec![Part::Datagram(datagram(2), 4), DEADBEEF],
        "G107" => {
            let head = DatagramHead { priority: Some(128), end_of_group: true, ..datagram(2) };
            vec![Part::Datagram(head, 2), Part::Payload(b"hi")]
        }
        "G108" => {
            vec![Part::Datagram(DatagramHead { priority: None, ..datagram(0) }, 4), DEADBEEF]
        }
        "G109" => vec![Part::Datagram(
            DatagramHead { object: 5, status: ObjectStatus::EndOfGroup, ..datagram(0) },
            0,
        )],
        "G111" => vec![
            Part::Stream(UniStream::Fetch { request: 4 }),
            record(0, 0, 127, 4),
            DEADBEEF,
            record(0, 1, 127, 2),
            CAFE,
        ],
        "G112" => vec![
            record(2, 0, 255, 3),
            Part::Payload(b"abc"),
            record(2, 1, 255, 2),
            Part::Payload(b"de"),
        ],
        "G113" => vec![record(2, 0, 250, 0), record(5, 0, 250, 0)],
        "G114" => vec![record(1, 0, 250, 0), record(1, 1, 250, 0), record(1, 4, 250, 0)],
        "G115" => vec![Part::Record(FetchRecord::Absent(Location::new(5, 10)))],
        "G116" => vec![Part::Record(FetchRecord::Unknown(Location::new(100, 200)))],
        "G117" => vec![
            Part::Record(FetchRecord::Absent(Location::new(5, 2))),
            Part::Record(FetchRecord::Unknown(Location::new(5, 2))),
        ],
        "G125" => subscribe(0, |parameters| {
            parameters.tokens.push(TokenReference::Value(AuthToken::new(1, "token123")));
        }),
        _ => return None,
    })
}

/// Extends a row that is part of a message to a whole message.
fn whole(id: &str, bytes: &[u8], version: Version) -> Vec<u8> {
    let required: &[u8] = if version == Version::Moqt17 { &[0] } else { &[] };
    let subscribe = |parameters: &[u8]| {
        let body = [b"\0", required, b"\x01\x04live\x05video", parameters].concat();
        [&[0x03, 0, body.len() as u8], &body[..]].concat()
    };
    match id {
        "G019" => [&[0xaf, 0, 0, bytes.len() as u8], bytes].concat(),
        "G031" => subscribe(bytes),
        "G125" => subscribe(&[&[1], bytes].concat()),
        // Its last part belongs to a later draft and has a test of its own.
        "G117" => bytes[..8].into(),
        _ => bytes.into(),
    }
}

/// The encoding of rows that are not written as they are read.
fn written(id: &str, bytes: &[u8], version: Version) -> Vec<u8> {
    match id {
        // The default 0 is left out.
        "G012" => parse_hex("20000100"),
        // In another group the number of the object is always written.
        "G157" => parse_hex("1c812c04c801610c00050162"),
        // Up to 15 a status excludes the flag for object number 0.
        "G166" if version == Version::Moqt15 => parse_hex("200109008004"),
        // Eight bytes instead of seven.
        "G006" => parse_hex("fe008998abc66bc0"),
        // The option is skipped.
        "G019" => parse_hex("af000000"),
        // Object number 0 is omitted.
        "G105" => parse_hex("04010280deadbeef"),
        "G108" => parse_hex("0c0100deadbeef"),
        "G162" => parse_hex("05010280043c023e016869"),
        "G163" => parse_hex("05010280043c0202016869"),
        _ => bytes.into(),
    }
}

struct Row {
    id: &'static str,
    versions: Vec<Version>,
    bytes: Vec<u8>,
    what: &'static str,
}

fn rows() -> Vec<Row> {
    let lines = include_str!("golden/ietf.tsv").lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let columns: Vec<_> = line.split('\t').collect();
            let [id, versions, _, bytes, what] = columns[..] else { panic!("not a row: {line}") };
            let versions =
                versions.split(',').map(|draft| format!("moqt-{draft}").parse().unwrap());
            Row { id, versions: versions.collect(), bytes: parse_hex(bytes), what }
        })
        .collect()
}

fn parse_hex(text: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

#[test]
fn golden_bytes_decode_and_encode() {
    let mut checked = 0;
    for Row { id, versions, bytes, .. } in rows() {
        for version in versions {
            let Some(expected) = expected(id, version) else { continue };
            println!("{id} on {version}");
            let (bytes, draft) = (whole(id, &bytes, version), draft(version));
            let mut reads = FetchRecords::new(GroupOrder::Ascending, draft);
            let mut writes = reads.clone();
            let mut at = 0;
            let mut encoded = BytesMut::new();
            for part in &expected {
                at += part.check(&bytes[at..], draft, &mut reads);
                part.encode(&mut encoded, draft, &mut writes);
            }
            assert_eq!(at, bytes.len(), "{id}: bytes remain");
            assert_eq!(encoded[..], written(id, &bytes, version)[..], "{id} on {version}");
            checked += 1;
        }
    }
    assert_eq!(checked, EXPECTED, "rows and their drafts");
}

/// How many pairs of a row and a draft have expected values.
const EXPECTED: usize = 350;

/// Rows that are fragments, or have range filters, options or fields of a status that are skipped.
const SKIPPED: [&str; 7] = ["G124", "G125", "G148", "G175", "G176", "G186", "G222"];

/// The message with which a fragment of a message is checked.
fn in_subscribe(parameter: &[u8], version: Version) -> Vec<u8> {
    let required: &[u8] = if version == Version::Moqt17 { &[0] } else { &[] };
    let inline: &[u8] = if version == Version::Moqt14 { &[128, 1, 1, 2] } else { &[] };
    let body = [b"\0", required, b"\x01\x04live\x05video", inline, b"\x01", parameter].concat();
    [&[0x03, 0, body.len() as u8], &body[..]].concat()
}

/// Reads the messages, and writes them again.
fn messages(mut bytes: &[u8], version: Version) -> Result<Vec<u8>, EncodeError> {
    let mut out = BytesMut::new();
    while !bytes.is_empty() {
        let Framed { kind, head, body } =
            frame_message(bytes, draft(version), 65_535).unwrap().unwrap();
        let message = Message::decode(kind, &bytes[head..head + body], draft(version)).unwrap();
        message.encode(&mut out, draft(version))?;
        bytes = &bytes[head + body..];
    }
    Ok(out.to_vec())
}

/// Reads the records of a fetch, after the header if there is one, and writes them again.
fn records(mut bytes: &[u8], what: &str, version: Version) -> Vec<u8> {
    let mut out = BytesMut::new();
    // No first record has these flags.
    if bytes[0] == 5 {
        let (stream, len) = UniStream::read(bytes, draft(version)).unwrap().unwrap();
        stream.encode(&mut out, draft(version)).unwrap();
        bytes = &bytes[len..];
    }
    let is_descending = what.contains("descending");
    let order = if is_descending { GroupOrder::Descending } else { GroupOrder::Ascending };
    let mut reads = FetchRecords::new(order, draft(version));
    let mut writes = reads.clone();
    while !bytes.is_empty() {
        let (record, len) = reads.read(bytes).unwrap().unwrap();
        out.put_slice(&writes.encode(&record).unwrap());
        let size = if let FetchRecord::Object(object) = record { object.size as usize } else { 0 };
        out.put_slice(&bytes[len..len + size]);
        bytes = &bytes[len + size..];
    }
    out.to_vec()
}

/// Reads a subgroup stream, and writes it again.
fn subgroup(bytes: &[u8], version: Version) -> Vec<u8> {
    let (mut out, draft) = (BytesMut::new(), draft(version));
    let (stream, mut at) = UniStream::read(bytes, draft).unwrap().unwrap();
    stream.encode(&mut out, draft).unwrap();
    let UniStream::Subgroup(header) = stream else { panic!("not a subgroup") };
    while at < bytes.len() {
        let (object, len) =
            ObjectHead::read(&bytes[at..], header.properties, draft).unwrap().unwrap();
        out.put_slice(&object.encode(header.properties, draft).unwrap());
        let payload = at + len..at + len + object.size as usize;
        at = payload.end;
        out.put_slice(&bytes[payload]);
    }
    out.to_vec()
}

/// Reads a datagram, and writes it again; `None` for padding.
fn datagram_again(bytes: &[u8], version: Version) -> Option<Vec<u8>> {
    let (head, len) = DatagramHead::decode(bytes, draft(version)).unwrap()?;
    let payload = &bytes[len..];
    Some([&head.encode(payload.len(), draft(version)).unwrap(), payload].concat())
}

/// Each row of filters is several of them, one after the other.
fn filters(bytes: &[u8], version: Version) -> Vec<Vec<u8>> {
    let mut at = 0;
    let mut out = Vec::new();
    while at < bytes.len() {
        let is_typed = draft(version).filter == FilterForm::Typed;
        let mut end = at + 1;
        match bytes[at] {
            5 if is_typed => {}
            count if is_typed => {
                for _ in 0..count {
                    end += draft(version).varint.read(&bytes[end..]).unwrap().1;
                }
            }
            len => end += usize::from(len),
        }
        out.push(bytes[at..end].into());
        at = end;
    }
    out
}

#[test]
fn golden_bytes_are_read_and_written_again() {
    for Row { id, versions, bytes, what } in rows() {
        for version in versions {
            if expected(id, version).is_some() {
                continue;
            }
            println!("{id} on {version}: {what}");
            let section = what.split(':').next().unwrap();
            let again = match (id, section) {
                ("G118" | "G119" | "G120" | "G121", _) => {
                    for filter in filters(&bytes, version) {
                        let message = in_subscribe(&[&[0x21], &filter[..]].concat(), version);
                        assert_eq!(messages(&message, version), Ok(message));
                    }
                    continue;
                }
                ("G122" | "G123", _) => {
                    let fill = [&[0x23, bytes.len() as u8], &bytes[..]].concat();
                    let message = in_subscribe(&fill, version);
                    assert_eq!(messages(&message, version), Ok(message));
                    continue;
                }
                ("G124" | "G224", _) => messages(&in_subscribe(&bytes, version), version),
                ("G035", _) => {
                    // Without their number.
                    let mut message = in_subscribe(&bytes, version);
                    message[3 + 13] = 3;
                    let again = messages(&message, version);
                    assert_eq!(again, Ok(message));
                    continue;
                }
                ("G036", _) => {
                    let message = in_subscribe(&bytes, version);
                    assert_eq!(messages(&message, version), Ok(message));
                    continue;
                }
                // Values of tokens, which are skipped as they are.
                ("G175" | "G176", _) => continue,
                (_, "fetchdata") => Ok(records(&bytes, what, version)),
                (_, "subgroup") => Ok(subgroup(&bytes, version)),
                (_, "datagram") => match datagram_again(&bytes, version) {
                    Some(again) => Ok(again),
                    None => continue,
                },
                _ => messages(&bytes, version),
            };
            if SKIPPED.contains(&id) || matches!(id, "G223" | "G224") {
                continue;
            }
            assert_eq!(again.unwrap(), written(id, &bytes, version), "{id} on {version}");
        }
    }
}

/// *Variable-Length Integers*: 17 has no form of seven bytes.
#[test]
fn integers_of_seven_bytes_are_an_error_on_17() {
    let row = rows().into_iter().find(|row| row.id == "G006").unwrap();
    let read =
        |version: Version| smoq::coding::Cursor::of(&row.bytes, draft(version).varint).varint();
    assert_eq!(read(Version::Moqt17), Err(DecodeError::InvalidValue("integer")));
    assert_eq!(read(Version::Moqt18), Ok(151_288_809_941_952));
}

#[test]
fn a_range_type_of_a_later_draft_is_an_error() {
    let row = rows().into_iter().find(|row| row.id == "G117").unwrap();
    for version in row.versions {
        let mut records = FetchRecords::new(GroupOrder::Ascending, draft(version));
        let read = records.read(&row.bytes[8..]);
        match version >= Version::Moqt20 {
            true => assert!(matches!(read, Ok(Some((FetchRecord::TimedOut(_), 4)))), "{read:?}"),
            false => assert_eq!(read, Err(DecodeError::InvalidValue("fetch flags"))),
        }
    }
}
