//! The rules of moq-transport's messages: which bytes are refused, tolerated and ignored.

use std::time::Duration;

use bytes::BytesMut;
use smoq::coding::ietf::{
    DatagramHead, Draft, FetchObject, FetchRecord, FetchRecords, Filter, Goaway, GroupOrder,
    Location, Message, MessageType, NOT_SUPPORTED, ObjectHead, ObjectStatus, Parameters,
    PublishNamespace, Redirect, RequestError, RequestOk, Setup, SubgroupHeader, Subscribe,
    SubscribeNamespace, SubscribeOk, TRACK_ENDED, TokenReference, TrackProperties,
    UNSUPPORTED_EXTENSION, UniStream, Unsubscribe, Wanted, frame_message, request_id,
};
use smoq::stream::{Code, Side};
use smoq::{DecodeError, EncodeError, Error, Path, Timestamp, Version};

use Version::{Moqt15, Moqt16, Moqt17, Moqt18, Moqt22};

fn draft(version: Version) -> &'static Draft {
    Draft::of(version).unwrap()
}

/// The bytes of the whole message, or the error. On an error nothing may be appended.
fn encode(message: &Message, version: Version) -> Result<Vec<u8>, EncodeError> {
    let mut out = BytesMut::new();
    let result = message.encode(&mut out, draft(version));
    assert!(result.is_ok() || out.is_empty(), "a failed encode wrote bytes");
    result.map(|()| out.to_vec())
}

fn decode(kind: MessageType, body: &[u8], version: Version) -> Result<Message, DecodeError> {
    Message::decode(kind, body, draft(version))
}

/// Reads SUBSCRIBE with id 0 for track "b" of "a", with this parameter block.
fn subscribe(block: &[u8], version: Version) -> Result<Parameters, DecodeError> {
    let body = [b"\0\x01\x01a\x01b", block].concat();
    match decode(MessageType::Subscribe, &body, version)? {
        Message::Subscribe(subscribe) => Ok(subscribe.parameters),
        other => panic!("{other:?}"),
    }
}

/// Reads PUBLISH_NAMESPACE with id 0 and these fields.
fn namespace(fields: &[&[u8]], version: Version) -> Result<Path, DecodeError> {
    let draft = draft(version);
    let mut body = BytesMut::from(&[0][..]);
    draft.varint.write(&mut body, fields.len() as u64).unwrap();
    for field in fields {
        draft.varint.write(&mut body, field.len() as u64).unwrap();
        body.extend_from_slice(field);
    }
    body.extend_from_slice(&[0]);
    match decode(MessageType::PublishNamespace, &body, version)? {
        Message::PublishNamespace(publish) => Ok(publish.namespace),
        other => panic!("{other:?}"),
    }
}

fn publish_namespace(path: &str) -> Message {
    let (namespace, parameters) = (Path::new(path), Parameters::default());
    Message::PublishNamespace(PublishNamespace { id: 0, namespace, parameters })
}

/// Draft 14, *CLIENT_SETUP*: a client lists its versions. A list without this draft is read, but no list is written that
/// does not have it.
#[test]
fn a_setup_of_another_version_is_read_and_never_written() {
    let setup = decode(MessageType::ClientSetup, b"\x01\x07\0", Version::Moqt14).unwrap();
    let expected = Setup { other_version: true, ..Setup::default() };
    assert_eq!(setup, Message::ClientSetup(expected));
    assert_eq!(encode(&setup, Version::Moqt14), Err(EncodeError::InvalidValue("version")));
}

#[test]
fn only_versions_of_moq_transport_have_a_row() {
    for version in Version::ALL {
        assert_eq!(Draft::of(version).is_some(), version >= Version::Moqt14, "{version}");
    }
}

#[test]
fn each_draft_has_its_messages() {
    let numbers = |version| {
        let is_there = |number: &u64| MessageType::from_u64(*number, draft(version)).is_some();
        (0..0x3000).filter(is_there).collect::<Vec<_>>()
    };
    let common = [2, 3, 4, 5, 6, 7, 8, 0xb, 0xd, 0xe, 0x10, 0x16, 0x18, 0x1d];
    let mut of_16 =
        [&common[..], &[9, 0xa, 0xc, 0x11, 0x15, 0x17, 0x1a, 0x1e, 0x20, 0x21]].concat();
    of_16.sort_unstable();
    assert_eq!(numbers(Moqt16), of_16);
    let mut of_18 = [&common[..], &[0xa, 0xf, 0x11, 0x1e, 0x50, 0x51, 0x2f00]].concat();
    of_18.sort_unstable();
    assert_eq!(numbers(Moqt18), of_18);

    let unknown = frame_message(&[0x41, 0, 0], draft(Moqt18), 0);
    assert_eq!(unknown, Err(DecodeError::UnknownMessage(0x41)));
}

#[test]
fn a_body_above_the_limit_is_refused_by_its_head() {
    let front = [0x03, 0xff, 0xff];
    let framed = frame_message(&front, draft(Moqt18), 65_535).unwrap().unwrap();
    assert_eq!((framed.kind, framed.head, framed.body), (MessageType::Subscribe, 3, 65_535));
    assert_eq!(frame_message(&front, draft(Moqt18), 65_534), Err(DecodeError::TooLong));
}

#[test]
fn a_body_has_at_most_65535_bytes() {
    let setup = |len: usize| {
        let implementation = Some("x".repeat(len).into());
        Message::Setup(Setup { implementation, ..Setup::default() })
    };
    // The type and the length of the option count as well.
    assert_eq!(encode(&setup(65_531), Moqt18).unwrap().len(), 4 + 65_535);
    assert_eq!(encode(&setup(65_532), Moqt18), Err(EncodeError::TooLong));
}

#[test]
fn up_to_16_each_side_has_its_own_setup_message() {
    let kind = |side, version| Message::setup(Setup::default(), side, draft(version)).kind();
    assert_eq!(kind(Side::Client, Moqt16), MessageType::ClientSetup);
    assert_eq!(kind(Side::Server, Moqt16), MessageType::ServerSetup);
    assert_eq!(kind(Side::Client, Moqt18), MessageType::Setup);
    assert_eq!(kind(Side::Server, Moqt18), MessageType::Setup);
}

#[test]
fn unknown_setup_options_are_skipped() {
    // 0x03 with USE_ALIAS twice, 0x3f twice, an even one, and then SOLICIT.
    let mut body = b"\x03\x02\x02\x07\0\x02\x02\x07\x3c\x01c\0\x01d\x01\x05".to_vec();
    let solicit = 0x40b5a - 0x40;
    draft(Moqt18).varint.write(&mut body, solicit).unwrap();
    body.push(1);
    let read = decode(MessageType::Setup, &body, Moqt18);
    let tokens = vec![TokenReference::Alias(7); 2];
    let expected = Setup { solicit: true, tokens, ..Setup::default() };
    assert_eq!(read, Ok(Message::Setup(expected)));
    // A token that does not parse.
    for token in [&b"\x03\x01\x04"[..], b"\x03\x01\x02", b"\x03\x03\x02\x07\x07", b"\x03\x00"] {
        let read = decode(MessageType::Setup, token, Moqt18);
        assert_eq!(read, Err(DecodeError::InvalidValue("value of its type")));
    }

    // MAX_REQUEST_ID is unknown in drafts without a bound on ids.
    let read = decode(MessageType::Setup, &[2, 9], Moqt18);
    assert_eq!(read, Ok(Message::Setup(Setup::default())));
    let message = Message::Setup(Setup { max_request_id: 9, ..Setup::default() });
    assert_eq!(encode(&message, Moqt18).unwrap(), [0xaf, 0, 0, 0]);
}

#[test]
fn known_setup_options_must_not_repeat() {
    let twice = decode(MessageType::Setup, b"\x01\x01a\0\x01b", Moqt18);
    assert_eq!(twice, Err(DecodeError::Duplicate));
    let invalid = decode(MessageType::Setup, b"\x01\x01\xff", Moqt18);
    assert_eq!(invalid, Err(DecodeError::InvalidValue("path")));
    let short = decode(MessageType::ClientSetup, b"\x02\x01\x01a", Moqt16);
    assert_eq!(short, Err(DecodeError::Truncated));
    let long = decode(MessageType::ClientSetup, b"\0\x01\x01a", Moqt16);
    assert_eq!(long, Err(DecodeError::TrailingBytes));
    let sum = decode(MessageType::Setup, &[&[0xff; 9][..], &[0, 1, 0]].concat(), Moqt18);
    assert_eq!(sum, Err(DecodeError::BoundsExceeded));
}

#[test]
fn unknown_parameters_are_an_error() {
    for version in [Moqt16, Moqt18] {
        assert_eq!(subscribe(&[1, 0x24, 0], version), Err(DecodeError::UnknownParameter(0x24)));
    }
    // A parameter that only 18 has.
    assert_eq!(subscribe(&[1, 0x06, 9], Moqt16), Err(DecodeError::UnknownParameter(0x06)));
    let timeout = subscribe(&[1, 0x06, 9], Moqt18).unwrap().subgroup_delivery_timeout;
    assert_eq!(timeout, Some(Duration::from_millis(9)));
}

#[test]
fn parameters_must_not_repeat_except_tokens() {
    for version in [Moqt16, Moqt18] {
        assert_eq!(subscribe(&[2, 0x10, 1, 0, 1], version), Err(DecodeError::Duplicate));
        let tokens = vec![TokenReference::Alias(7), TokenReference::Delete(8)];
        let expected = Parameters { tokens, ..Parameters::default() };
        assert_eq!(subscribe(&[2, 3, 2, 2, 7, 0, 2, 0, 8], version), Ok(expected));
        let most = [&[64, 3, 2, 2, 7][..], &[0, 2, 2, 7].repeat(63)].concat();
        assert_eq!(subscribe(&most, version).is_ok(), version == Moqt18);
    }
    assert_eq!(subscribe(&[65], Moqt18), Err(DecodeError::TooMany));
    // D22-9-20-MUST-388: the sum is 2 again.
    let over = [&[2, 0x10, 1][..], &[0xff; 8], &[0xf2, 9]].concat();
    assert_eq!(subscribe(&over, Moqt18), Err(DecodeError::BoundsExceeded));
}

#[test]
fn values_out_of_range_are_an_error() {
    for version in [Moqt16, Moqt18] {
        assert!(subscribe(&[1, 0x10, 2], version).is_err(), "FORWARD 2");
        assert_eq!(subscribe(&[1, 0x22, 0], version).is_err(), version != Moqt16, "GROUP_ORDER 0");
        assert!(subscribe(&[1, 0x22, 3], version).is_err(), "GROUP_ORDER 3");
        assert!(subscribe(&[1, 0x21, 1, 5], version).is_err(), "an unknown filter");
        assert!(subscribe(&[1, 0x21, 2, 2, 0], version).is_err(), "a filter with trailing bytes");
        assert!(subscribe(&[1, 0x21, 2, 3, 0], version).is_err(), "a truncated filter");
    }
    let priority = |block| subscribe(block, Moqt16).map(|parameters| parameters.priority);
    assert_eq!(priority(&[1, 0x20, 0x40, 0xff]), Ok(Some(0)));
    assert_eq!(priority(&[1, 0x20, 0x41, 0x00]), Err(DecodeError::BoundsExceeded));
    assert!(subscribe(&[1, 0x02, 0], Moqt16).is_err(), "DELIVERY_TIMEOUT 0");
    let timeout = subscribe(&[1, 0x02, 0], Moqt18).unwrap().delivery_timeout;
    assert_eq!(timeout, Some(Duration::ZERO));
    let included = |value| subscribe(&[1, 0x35, value], Moqt22).map(|it| it.include_properties);
    assert_eq!(included(1), Ok(Some(true)));
    assert!(included(2).is_err(), "INCLUDE_PROPERTIES 2");
}

/// shaka-player 5.2 writes the publisher's order as on 14.
#[test]
fn the_publishers_order_may_be_written_on_16() {
    assert_eq!(subscribe(&[1, 0x22, 0], Moqt16), Ok(Parameters::default()));
    let [once, twice] = [&[2, 0x20, 0, 2, 0][..], &[3, 0x20, 0, 2, 0, 0, 1]];
    assert_eq!(subscribe(once, Moqt16).map(|it| (it.priority, it.order)), Ok((Some(255), None)));
    assert_eq!(subscribe(twice, Moqt16), Err(DecodeError::Duplicate));
    for version in [Moqt15, Moqt17, Moqt18, Moqt22] {
        assert!(subscribe(&[1, 0x22, 0], version).is_err(), "{version}");
    }
}

#[test]
fn parameters_in_the_wrong_message_are_ignored_up_to_16() {
    // LARGEST_OBJECT in SUBSCRIBE.
    assert_eq!(subscribe(&[1, 0x09, 2, 7, 7], Moqt16), Ok(Parameters::default()));
    let refused = DecodeError::InvalidValue("parameter in this message");
    assert_eq!(subscribe(&[1, 0x09, 7, 7], Moqt18), Err(refused));
    // GROUP_ORDER in SUBSCRIBE_OK, as some peers write it.
    for (version, body) in [(Moqt16, &[0, 0, 1, 0x22, 2][..]), (Moqt18, &[0, 1, 0x22, 2])] {
        assert!(decode(MessageType::SubscribeOk, body, version).is_ok(), "{version}");
    }

    let mut parameters = Parameters { largest: Some(Location::new(7, 7)), ..Parameters::default() };
    let message = |parameters| {
        let (namespace, track) = (Path::new("a"), "b".into());
        Message::Subscribe(Subscribe { id: 0, namespace, track, parameters })
    };
    for version in [Moqt16, Moqt18] {
        assert_eq!(encode(&message(parameters.clone()), version), Err(EncodeError::NotInVersion));
    }
    parameters = Parameters { rendezvous_timeout: Some(Duration::ZERO), ..Parameters::default() };
    assert_eq!(encode(&message(parameters.clone()), Moqt16), Err(EncodeError::NotInVersion));
    assert!(encode(&message(parameters), Moqt18).is_ok());
}

#[test]
fn the_end_of_a_range_filter_is_relative_from_17_on() {
    let filter = |block, version| subscribe(block, version).map(|parameters| parameters.filter);
    let range = |end_group| Some(Filter::Range { start: Location::new(9, 0), end_group });
    assert_eq!(filter(&[1, 0x21, 4, 4, 9, 0, 3], Moqt16), Ok(range(3)), "an end before the start");
    assert_eq!(filter(&[1, 0x21, 4, 4, 9, 0, 3], Moqt18), Ok(range(12)));
    let over = [&[1, 0x21, 12, 4, 9, 0][..], &[0xff; 9]].concat();
    assert_eq!(filter(&over, Moqt18), Err(DecodeError::BoundsExceeded));

    let backwards = Parameters { filter: range(3), ..Parameters::default() };
    let (namespace, track) = (Path::new("a"), "b".into());
    let message = Message::Subscribe(Subscribe { id: 0, namespace, track, parameters: backwards });
    assert!(encode(&message, Moqt16).is_ok());
    assert_eq!(encode(&message, Moqt18), Err(EncodeError::InvalidValue("filter")));
}

#[test]
fn fields_of_a_namespace_are_segments() {
    for version in [Moqt16, Moqt18] {
        assert_eq!(namespace(&[b"a", b"b"], version), Ok(Path::new("a/b")));
        for (fields, path) in [
            (&[&b"a/b"[..]][..], r"a\/b"),
            (&[b"a\\b", b"c"], r"a\\b/c"),
            (&[b"/a", b"//b"], r"\/a/\/\/b"),
            (&[b"\\/a\\"], r"\\\/a\\"),
        ] {
            let read = namespace(fields, version).unwrap();
            assert_eq!(read.as_str(), path);
            let bytes = encode(&publish_namespace(path), version).unwrap();
            let framed = frame_message(&bytes, draft(version), 100).unwrap().unwrap();
            let Ok(Message::PublishNamespace(again)) =
                decode(framed.kind, &bytes[framed.head..], version)
            else {
                panic!("{path}")
            };
            assert_eq!(again.namespace, read);
            // The fields are written unchanged.
            let at = bytes.windows(fields[0].len()).position(|window| window == fields[0]);
            assert!(at.is_some(), "{path}");
        }
    }
}

#[test]
fn namespaces_without_a_path_concern_one_message() {
    for version in [Moqt16, Moqt18] {
        for fields in [&[&b"\xff"[..]][..], &[b"a", b""], &[b"a/"], &[b"/", b"a"]] {
            assert_eq!(namespace(fields, version), Err(DecodeError::InvalidName), "{fields:?}");
        }
    }
    let track = decode(MessageType::Subscribe, b"\x07\x01\x01a\x01\xff\0", Moqt18);
    assert_eq!(track, Err(DecodeError::InvalidName));
    // The request can be answered, because its id is readable.
    let id = request_id(MessageType::Subscribe, b"\x07\x01\x01a\x01\xff\0", draft(Moqt18));
    assert_eq!(id, Ok(Some(7)));
}

#[test]
fn paths_without_a_namespace_are_not_written() {
    for version in [Moqt16, Moqt18] {
        for path in [r"a\b", r"a\", r"a\/b\"] {
            assert_eq!(
                encode(&publish_namespace(path), version),
                Err(EncodeError::InvalidValue("a backslash in a path")),
                "{path}"
            );
        }
    }
}

#[test]
fn namespaces_have_limits() {
    let fields = |count: usize| vec![&b"x"[..]; count];
    for version in [Moqt16, Moqt18] {
        assert!(namespace(&fields(32), version).is_ok());
        assert_eq!(namespace(&fields(33), version), Err(DecodeError::TooMany));
        let path = |count: usize| publish_namespace(&["x"].repeat(count).join("/"));
        assert!(encode(&path(32), version).is_ok());
        assert_eq!(encode(&path(33), version), Err(EncodeError::TooMany));

        let long = [b'x'; 2_048];
        assert!(namespace(&[&long, &long], version).is_ok());
        assert_eq!(namespace(&[&long, &long, b"x"], version), Err(DecodeError::TooLong));
        let subscribe = |len: usize| {
            let (namespace, track) = (Path::new("x"), "y".repeat(len).into());
            let parameters = Parameters::default();
            Message::Subscribe(Subscribe { id: 0, namespace, track, parameters })
        };
        let bytes = encode(&subscribe(4_095), version).unwrap();
        assert!(decode(MessageType::Subscribe, &bytes[3..], version).is_ok());
        assert_eq!(encode(&subscribe(4_096), version), Err(EncodeError::TooLong));
    }
}

#[test]
fn namespaces_may_be_empty_from_17_on() {
    assert!(matches!(namespace(&[], Moqt16), Err(DecodeError::InvalidValue(_))));
    assert_eq!(namespace(&[], Moqt18), Ok(Path::root()));
    let at_the_root = EncodeError::InvalidValue("a broadcast at the root before draft 17");
    assert_eq!(encode(&publish_namespace(""), Moqt16), Err(at_the_root));
    assert!(encode(&publish_namespace(""), Moqt18).is_ok());
    for version in [Moqt16, Moqt18] {
        let suffix = Message::Namespace(Path::default());
        assert_eq!(encode(&suffix, version).unwrap(), [8, 0, 1, 0]);
        assert!(
            encode(&Message::SubscribeNamespace(SubscribeNamespace::default()), version).is_ok()
        );
    }
}

#[test]
fn subscribe_options_exist_up_to_17() {
    let want = |wanted| {
        Message::SubscribeNamespace(SubscribeNamespace { wanted, ..SubscribeNamespace::default() })
    };
    assert_eq!(encode(&want(Wanted::Both), Moqt16).unwrap(), [0x11, 0, 4, 0, 0, 2, 0]);
    assert_eq!(encode(&want(Wanted::Both), Moqt18), Err(EncodeError::NotInVersion));
    assert_eq!(encode(&want(Wanted::Namespaces), Moqt18).unwrap(), [0x50, 0, 3, 0, 0, 0]);
    assert!(decode(MessageType::SubscribeNamespace, &[0, 0, 3, 0], Moqt16).is_err());
    let tracks = Message::SubscribeTracks(SubscribeNamespace::default());
    assert_eq!(encode(&tracks, Moqt16), Err(EncodeError::NotInVersion));
}

#[test]
fn answers_carry_the_request_id_up_to_16() {
    let ok = |id| Message::RequestOk(RequestOk { id, ..RequestOk::default() });
    assert_eq!(encode(&ok(Some(5)), Moqt16).unwrap(), [7, 0, 2, 5, 0]);
    assert_eq!(encode(&ok(None), Moqt16), Err(EncodeError::InvalidValue("request id")));
    assert_eq!(encode(&ok(Some(5)), Moqt18).unwrap(), [7, 0, 1, 0]);
    let read = request_id(MessageType::RequestOk, &[5, 0], draft(Moqt16));
    assert_eq!(read, Ok(Some(5)));
    assert_eq!(request_id(MessageType::RequestOk, &[0], draft(Moqt18)), Ok(None));
    assert_eq!(request_id(MessageType::Goaway, &[0], draft(Moqt16)), Ok(None));
    assert_eq!(request_id(MessageType::Fetch, &[], draft(Moqt18)), Err(DecodeError::Truncated));
}

#[test]
fn publish_ok_is_written_as_request_ok_on_18() {
    let ok = Message::PublishOk(RequestOk {
        id: Some(5),
        parameters: Parameters { forward: Some(true), ..Parameters::default() },
        ..RequestOk::default()
    });
    assert_eq!(encode(&ok, Moqt16).unwrap(), [0x1e, 0, 4, 5, 1, 0x10, 1]);
    assert_eq!(encode(&ok, Moqt18).unwrap(), [0x07, 0, 3, 1, 0x10, 1]);
    assert_eq!(MessageType::from_u64(0x1e, draft(Moqt16)), Some(MessageType::PublishOk));
    assert_eq!(MessageType::from_u64(0x1e, draft(Moqt18)), Some(MessageType::RequestOk));
}

#[test]
fn unsubscribe_is_read_but_not_written_on_18() {
    let read = |body: &[u8], version| decode(MessageType::Unsubscribe, body, version);
    let unsubscribe = |id| Message::Unsubscribe(Unsubscribe { id });
    assert_eq!(read(&[], Moqt18), Ok(unsubscribe(None)));
    assert_eq!(read(&[5], Moqt18), Ok(unsubscribe(Some(5))));
    assert_eq!(read(&[], Moqt16), Err(DecodeError::Truncated));
    assert_eq!(encode(&unsubscribe(Some(5)), Moqt18), Err(EncodeError::NotInVersion));
}

#[test]
fn a_redirect_requires_its_code() {
    let error = |code, redirect: Option<Redirect>| {
        Message::RequestError(RequestError {
            id: Some(0),
            code,
            redirect,
            ..RequestError::default()
        })
    };
    let redirect = || Some(Redirect::default());
    assert!(encode(&error(0x34, redirect()), Moqt18).is_ok());
    let invalid = Err(EncodeError::InvalidValue("redirect"));
    assert_eq!(encode(&error(0x34, None), Moqt18), invalid);
    assert_eq!(encode(&error(0x10, redirect()), Moqt18), invalid);
    assert_eq!(encode(&error(0x34, redirect()), Moqt16), Err(EncodeError::NotInVersion));
    let read = |body: &[u8]| decode(MessageType::RequestError, body, Moqt18);
    assert_eq!(read(&[0x34, 0, 0]), Err(DecodeError::Truncated));
    assert_eq!(read(&[0x10, 0, 0, 0, 0, 0]), Err(DecodeError::TrailingBytes));
    // On 16 the code has no meaning.
    assert!(decode(MessageType::RequestError, &[0, 0x34, 0, 0], Moqt16).is_ok());
}

#[test]
fn the_retry_interval_is_optional() {
    for (wire, retry) in [(0, None), (1, Some(0)), (11, Some(10))] {
        let retry = retry.map(Duration::from_millis);
        let error = Message::RequestError(RequestError { retry, ..RequestError::default() });
        assert_eq!(decode(MessageType::RequestError, &[0, wire, 0], Moqt18), Ok(error));
    }
}

#[test]
fn texts_have_limits() {
    let error = |len: usize| {
        let reason = "x".repeat(len).into();
        Message::RequestError(RequestError { reason, ..RequestError::default() })
    };
    let mut bytes = encode(&error(1_024), Moqt18).unwrap();
    assert!(decode(MessageType::RequestError, &bytes[3..], Moqt18).is_ok());
    assert_eq!(encode(&error(1_025), Moqt18), Err(EncodeError::TooLong));
    // The length is in the second and third byte.
    bytes[6] += 1;
    bytes.push(b'x');
    assert_eq!(decode(MessageType::RequestError, &bytes[3..], Moqt18), Err(DecodeError::TooLong));

    let goaway =
        |len: usize| Message::Goaway(Goaway { uri: "x".repeat(len).into(), ..Goaway::default() });
    assert!(encode(&goaway(Goaway::MAX_URI), Moqt16).is_ok());
    assert_eq!(encode(&goaway(Goaway::MAX_URI + 1), Moqt16), Err(EncodeError::TooLong));
    let mut body = encode(&goaway(Goaway::MAX_URI), Moqt22).unwrap().split_off(3);
    assert!(decode(MessageType::Goaway, &body, Moqt22).is_ok());
    body[1] += 1;
    body.push(b'x');
    assert_eq!(decode(MessageType::Goaway, &body, Moqt22), Err(DecodeError::TooLong));
}

#[test]
fn goaway_may_lack_its_last_fields() {
    let read = |body: &[u8], version| decode(MessageType::Goaway, body, version);
    let timeout = Duration::from_millis(5);
    let goaway =
        |timeout, request| Message::Goaway(Goaway { timeout, request, ..Goaway::default() });
    assert_eq!(read(&[0], Moqt18), Ok(goaway(Duration::ZERO, None)));
    assert_eq!(read(&[0, 5], Moqt18), Ok(goaway(timeout, None)));
    assert_eq!(read(&[0, 5, 4], Moqt18), Ok(goaway(timeout, Some(4))));
    assert_eq!(read(&[0, 5], Moqt16), Err(DecodeError::TrailingBytes));
    assert_eq!(encode(&goaway(timeout, None), Moqt16).unwrap(), [0x10, 0, 1, 0]);
    assert_eq!(encode(&goaway(timeout, Some(4)), Moqt16), Err(EncodeError::NotInVersion));
}

#[test]
fn known_track_properties_are_read_and_all_are_kept() {
    let read = |tail: &[u8], version| {
        let head = if version == Moqt16 { &[0, 0, 0][..] } else { &[0, 0] };
        match decode(MessageType::SubscribeOk, &[head, tail].concat(), version)? {
            Message::SubscribeOk(ok) => Ok(ok.properties),
            other => panic!("{other:?}"),
        }
    };
    // All pairs are kept, and written again as they came.
    let kept = |tail: &[u8], version| {
        let properties = read(tail, version).unwrap();
        assert!(properties.all.is_some());
        let fields = TrackProperties { all: None, ..properties.clone() };
        let ok = SubscribeOk { id: Some(0), properties, ..SubscribeOk::default() };
        let bytes = encode(&Message::SubscribeOk(ok), version).unwrap();
        assert!(bytes.ends_with(tail));
        Ok::<_, DecodeError>(fields)
    };
    let none = Ok(TrackProperties::default());
    for version in [Moqt16, Moqt18] {
        // 0x02, then 0x0d with bytes twice.
        assert_eq!(kept(&[2, 7, 11, 2, 8, 8, 0, 0], version), none);
        assert_eq!(read(&[0x0d, 3, 8, 8], version), Err(DecodeError::Truncated));
        // A priority in the list of immutable properties counts. Two lists, a list in a list, and a pair that ends
        // too early make the track malformed.
        let inside = TrackProperties { priority: Some(250), ..TrackProperties::default() };
        assert_eq!(kept(&[0x0b, 2, 0x0e, 5], version), Ok(inside));
        for malformed in [&[0x0b, 0, 0, 0][..], &[0x0b, 2, 0x0b, 0], &[0x0b, 1, 0x0e]] {
            assert!(read(malformed, version).unwrap().unusable.is_some());
        }
        assert!(read(&[8, 0], version).is_err(), "a timescale of zero");
        assert!(read(&[0x22, 3], version).is_err(), "an unknown order");
        for dynamic in [false, true] {
            let dynamic_groups = Some(dynamic);
            let flag = TrackProperties { dynamic_groups, ..TrackProperties::default() };
            assert_eq!(read(&[0x30, dynamic.into()], version), Ok(flag));
        }
        assert!(read(&[0x30, 2], version).is_err(), "DYNAMIC_GROUPS 2");
    }
    let above = Err(DecodeError::InvalidValue("value of its type"));
    assert_eq!(read(&[0x0e, 0x41, 0], Moqt16), above);
    assert_eq!(read(&[0x0e, 0x81, 0], Moqt18), above);
    // 0x4000 must be understood, but 0x8000 need not be.
    let mandatory = TrackProperties { unusable: Some(0x4000), ..TrackProperties::default() };
    assert_eq!(read(&[0xc0, 0x40, 0, 0], Moqt18), Ok(mandatory.clone()));
    assert_eq!(kept(&[0x80, 0, 0x40, 0, 0], Moqt16), none);
    assert_eq!(kept(&[0xc0, 0x80, 0, 0], Moqt18), none);

    let ok = |properties| {
        Message::RequestOk(RequestOk { id: Some(0), properties, ..RequestOk::default() })
    };
    let some = TrackProperties { priority: Some(0), ..TrackProperties::default() };
    assert_eq!(encode(&ok(some.clone()), Moqt16), Err(EncodeError::NotInVersion));
    assert_eq!(encode(&ok(some.clone()), Moqt18).unwrap(), [7, 0, 4, 0, 0x0e, 0x80, 0xff]);
    let not_ours = Err(EncodeError::InvalidValue("property"));
    assert_eq!(encode(&ok(mandatory), Moqt18), not_ours);
    let with_priority = Message::SubscribeOk(SubscribeOk {
        id: Some(0),
        properties: some,
        ..SubscribeOk::default()
    });
    assert_eq!(encode(&with_priority, Moqt16).unwrap(), [4, 0, 6, 0, 0, 0, 0x0e, 0x40, 0xff]);
}

#[test]
fn each_draft_has_its_types_of_data_streams() {
    let types = |version| {
        let is_there = |kind: &u8| UniStream::read(&[*kind, 0, 0, 0, 0], draft(version)).is_ok();
        (0..0x80).filter(is_there).collect::<Vec<_>>()
    };
    let subgroups = |bases: &[u8]| {
        let of =
            |base: &u8| (0..16).filter(|low| low & 6 != 6).map(move |low| base | low).collect();
        bases.iter().flat_map(|base| -> Vec<u8> { of(base) }).collect::<Vec<_>>()
    };
    assert_eq!(types(Moqt16), [&[5][..], &subgroups(&[0x10, 0x30])].concat());
    assert_eq!(types(Moqt18), [&[5][..], &subgroups(&[0x10, 0x30, 0x50, 0x70])].concat());

    let read = |front: &[u8], version| UniStream::read(front, draft(version));
    assert_eq!(read(&[0xaf, 0, 0, 0], Moqt18), Ok(Some((UniStream::Setup, 0))));
    assert_eq!(read(&[0xaf], Moqt18), Ok(None));
    assert_eq!(read(&[0x80, 0, 0x2f, 0], Moqt16), Err(DecodeError::UnknownMessage(0x2f00)));
    assert_eq!(read(&[0x40, 0x50], Moqt16), Err(DecodeError::UnknownMessage(0x50)));
    let padding = [0xf0, 0x13, 0x2b, 0x3e, 0x28];
    assert_eq!(read(&padding, Moqt18), Ok(Some((UniStream::Padding, 5))));
    assert_eq!(
        UniStream::Padding.encode(&mut BytesMut::new(), draft(Moqt16)),
        Err(EncodeError::NotInVersion)
    );
}

#[test]
fn the_first_object_flag_is_written_from_18_on() {
    let header = SubgroupHeader {
        alias: 1,
        group: 2,
        subgroup: None,
        priority: None,
        properties: false,
        end_of_group: false,
        first_object: true,
    };
    for (version, kind) in [(Moqt16, 0x32), (Moqt18, 0x72)] {
        let mut out = BytesMut::new();
        UniStream::Subgroup(header).encode(&mut out, draft(version)).unwrap();
        assert_eq!(out[..], [kind, 1, 2]);
    }
}

type ReadHead<T> = Result<Option<(T, usize)>, DecodeError>;

#[test]
fn objects() {
    for version in [Moqt16, Moqt18] {
        let draft = draft(version);
        fn read<'a>(front: &'a [u8], properties: bool, draft: &Draft) -> ReadHead<ObjectHead<'a>> {
            ObjectHead::read(front, properties, draft)
        }
        assert!(read(&[0, 0, 1], false, draft).is_err(), "an unknown status");
        assert!(read(&[0, 2, 0x3c, 2, 0, 3], true, draft).is_err(), "properties of a status");
        let end = ObjectHead { status: ObjectStatus::EndOfGroup, ..ObjectHead::default() };
        assert_eq!(read(&[0, 0, 0, 3], true, draft), Ok(Some((end, 4))));
        // 0x0d with bytes that extend past the block.
        assert_eq!(read(&[0, 2, 0x0d, 2, 0, 0, 0], true, draft), Err(DecodeError::Truncated));
        // Two lists of immutable properties, a list in a list, and each gap twice.
        let malformed = [
            &[4, 0x0b, 0, 0, 0][..],
            &[4, 0x0b, 2, 0x0b, 0],
            &[4, 0x3c, 0, 0, 0],
            &[4, 0x3e, 0, 0, 0],
            &[6, 0x0b, 2, 0x3c, 0, 0x31, 0],
        ];
        for block in malformed {
            let front = [&[0], block, &[1]].concat();
            assert_eq!(read(&front, true, draft), Err(DecodeError::InvalidValue("properties")));
        }
        let front = [0, 6, 0x0b, 2, 0x10, 9, 0x31, 0, 1];
        let (head, _) = read(&front, true, draft).unwrap().unwrap();
        assert_eq!(head.timestamp, Some(Timestamp::new(9)), "in the list of immutable properties");
        assert_eq!(head.properties, Some(&front[2..8]));

        let long = |len: u64| {
            let mut front = vec![0];
            draft.varint.write(&mut front, len).unwrap();
            front
        };
        assert_eq!(read(&long(4_096), true, draft), Ok(None));
        assert_eq!(read(&long(4_097), true, draft), Err(DecodeError::TooLong));

        let timestamp = Some(Timestamp::ZERO);
        let invalid = Err(EncodeError::InvalidValue("object"));
        let encode = |head: ObjectHead, properties| head.encode(properties, draft).map(|_| ());
        assert_eq!(encode(ObjectHead { timestamp, ..ObjectHead::default() }, false), invalid);
        assert_eq!(encode(ObjectHead { timestamp, ..end }, true), invalid);
        assert_eq!(encode(ObjectHead { size: 1, ..end }, true), invalid);
    }
    let head = |delta| ObjectHead { delta, ..ObjectHead::default() };
    assert_eq!(head(4).number(None), Ok(4));
    assert_eq!(head(4).number(Some(4)), Ok(9));
    assert_eq!(head(0).number(Some(u64::MAX)), Err(DecodeError::BoundsExceeded));
    assert_eq!(head(u64::MAX).number(Some(0)), Err(DecodeError::BoundsExceeded));
}

#[test]
fn datagrams() {
    for version in [Moqt16, Moqt18] {
        let draft = draft(version);
        fn decode<'a>(datagram: &'a [u8], draft: &Draft) -> ReadHead<DatagramHead<'a>> {
            DatagramHead::decode(datagram, draft)
        }
        let kinds = (0..0x40).filter(|kind| {
            let properties: &[u8] = if kind & 1 != 0 { &[2, 0x3c, 0] } else { &[] };
            let status: &[u8] = if kind & 0x20 != 0 { &[0] } else { &[] };
            let object: &[u8] = if kind & 4 == 0 { &[0] } else { &[] };
            let priority: &[u8] = if kind & 8 == 0 { &[0] } else { &[] };
            decode(&[&[*kind, 0, 0][..], object, priority, properties, status].concat(), draft)
                .is_ok()
        });
        let status = [0x20, 0x21, 0x24, 0x25, 0x28, 0x29, 0x2c, 0x2d];
        assert_eq!(
            kinds.collect::<Vec<u8>>(),
            [&(0..0x10).collect::<Vec<_>>()[..], &status].concat()
        );

        assert!(decode(&[0x0d, 0, 0, 0, 7], draft).is_err(), "an empty block of properties");
        assert!(decode(&[0x2d, 0, 0, 2, 0x3c, 0, 3], draft).is_err(), "properties of a status");
        assert_eq!(decode(&[0x2c, 0, 0, 3, 0], draft), Err(DecodeError::TrailingBytes));
        let head = DatagramHead {
            alias: 0,
            group: 0,
            object: 0,
            priority: None,
            end_of_group: false,
            timestamp: None,
            properties: None,
            status: ObjectStatus::EndOfGroup,
        };
        assert!(head.encode(0, draft).is_ok());
        assert!(head.encode(1, draft).is_err());
        assert!(DatagramHead { end_of_group: true, ..head }.encode(0, draft).is_err());
    }
    let padding = [0xf0, 0x13, 0x2b, 0x3e, 0x29, 0, 0];
    assert_eq!(DatagramHead::decode(&padding, draft(Moqt18)), Ok(None));
}

#[test]
fn the_first_record_of_a_fetch_has_all_fields() {
    for version in [Moqt16, Moqt18] {
        for flags in [0x00, 0x0c, 0x14, 0x18, 0x1d, 0x1e] {
            let mut records = FetchRecords::new(GroupOrder::Ascending, draft(version));
            let bytes = [flags, 0, 0, 0, 0, 0];
            let read = records.read(&bytes);
            assert_eq!(read, Err(DecodeError::InvalidValue("first fetch record")), "{flags:#x}");
        }
    }
}

#[test]
fn fetched_groups_must_be_in_order_where_they_are_differences() {
    let object = |group| {
        FetchRecord::Object(FetchObject {
            location: Location::new(group, 0),
            subgroup: Some(0),
            priority: 0,
            timestamp: None,
            properties: None,
            size: 0,
        })
    };
    let both = |order, version, second| {
        let mut records = FetchRecords::new(order, draft(version));
        records.encode(&object(5)).unwrap();
        records.encode(&object(second)).map(|_| ())
    };
    let out_of_order = Err(EncodeError::InvalidValue("order of a fetch"));
    assert_eq!(both(GroupOrder::Ascending, Moqt18, 4), out_of_order);
    assert_eq!(both(GroupOrder::Ascending, Moqt18, 6), Ok(()));
    assert_eq!(both(GroupOrder::Descending, Moqt18, 6), out_of_order);
    assert_eq!(both(GroupOrder::Descending, Moqt18, 4), Ok(()));
    assert_eq!(both(GroupOrder::Ascending, Moqt16, 4), Ok(()));

    // Three groups below the second one.
    let mut records = FetchRecords::new(GroupOrder::Descending, draft(Moqt18));
    records.read(&[0x1c, 2, 0, 0, 0]).unwrap();
    assert_eq!(records.read(&[0x0c, 2, 0, 0]), Err(DecodeError::BoundsExceeded));
}

#[test]
fn errors_map_to_the_codes_of_the_draft() {
    let named = [
        Error::Internal,
        Error::Unauthorized,
        Error::Timeout,
        Error::NotFound,
        Error::Duplicate,
        Error::App(7),
        Error::Remote(Code::new(0x3f)),
    ];
    for version in [Moqt16, Moqt18] {
        let draft = draft(version);
        for error in &named {
            assert_eq!(draft.request_error(draft.request_code(error)), *error, "{version}");
        }
        for error in [Error::GoingAway, Error::Lagged, Error::Old, Error::Unauthorized] {
            assert_eq!(draft.done_error(draft.done_code(&error)), Some(error));
        }
        assert_eq!(draft.done_error(TRACK_ENDED), None);
        for error in [Error::Internal, Error::Cancelled, Error::Old, Error::SessionClosed] {
            assert_eq!(draft.stream_error(draft.stream_code(&error)), error);
        }
        // A number passes through unchanged.
        for number in 0..0x60 {
            let code = Code::new(number);
            assert_eq!(draft.stream_code(&draft.stream_error(code)), code, "{number:#x}");
            assert_eq!(draft.request_code(&draft.request_error(number)), number, "{number:#x}");
        }
    }
    let [of_16, of_18] = [draft(Moqt16), draft(Moqt18)];
    assert_eq!((of_16.done_code(&Error::Old), of_18.done_code(&Error::Old)), (5, 6));
    assert_eq!((of_16.done_code(&Error::Lagged), of_18.done_code(&Error::Lagged)), (6, 5));
    assert_eq!(of_18.stream_error(Code::new(4)), Error::GoingAway);
    assert_eq!(of_16.stream_error(Code::new(4)), Error::Remote(Code::new(4)));
    assert_eq!(of_16.request_code(&Error::GoingAway), 0);
    assert_eq!(of_18.request_code(&Error::GoingAway), 6);
    assert_eq!(of_16.session_code(&Error::ProtocolViolation("")).as_u64(), 3);
    assert!(matches!(of_16.session_error(Code::new(4)), Error::ProtocolViolation(_)));
    assert_eq!(of_18.session_error(Code::new(0)), Error::SessionClosed);

    // Older drafts have no mandatory properties.
    for (version, code) in [(Moqt17, NOT_SUPPORTED), (Moqt18, UNSUPPORTED_EXTENSION)] {
        assert_eq!(draft(version).request_code(&Error::UnknownProperty), code);
    }

    // An expired token has a code of its own, for requests and sessions.
    for version in [Moqt16, Moqt18, Moqt22] {
        let draft = draft(version);
        assert_eq!(draft.request_code(&Error::Expired), 0x5);
        assert_eq!(draft.request_error(0x5), Error::Expired);
        assert_eq!(draft.session_error(draft.session_code(&Error::Expired)), Error::Expired);
    }
    assert_eq!(Error::Expired.session_code(), Error::Unauthorized.session_code());
}

/// `moq-lite` 0.16 sends the form of 16 on 18, which has another one.
#[test]
fn the_former_subscribe_namespace_is_read_in_18() {
    let body = [0x00, 0x01, 0x04, b'r', b'o', b'o', b'm', 0x01, 0x00];
    let kind = MessageType::from_u64(0x11, draft(Moqt18)).unwrap();
    let message = decode(kind, &body, Moqt18).unwrap();
    let Message::FormerSubscribeNamespace(asked) = message else { panic!("{message:?}") };
    assert_eq!((asked.id, asked.prefix.as_str(), asked.wanted), (0, "room", Wanted::Namespaces));
}
