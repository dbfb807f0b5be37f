//! Rules of HTTP/3 and WebTransport, and limits.

use smoq::stream::{Code, StreamId};
use smoq::{Version, Versions};
use smoq_http3::{EARLY_STREAMS, Error, Event};

use crate::ends::{End, established};

const REQUEST: StreamId = StreamId::from_u64(0);
const CONTROL: StreamId = StreamId::from_u64(2);

fn failed(end: &End) -> Option<u64> {
    end.events.iter().find_map(|event| match event {
        Event::Failed(error) => Some(error.code().as_u64()),
        _ => None,
    })
}

/// A server that has read `bytes` of these streams.
fn server_after(streams: &[(u64, &[u8])]) -> End {
    let mut server = End::server(&Versions::default());
    for (id, bytes) in streams {
        server.arrive(StreamId::from_u64(*id), bytes);
        server.run(99);
    }
    server
}

/// SETTINGS and the request of a client.
fn request_of_a_client() -> Vec<(StreamId, Vec<u8>)> {
    let versions = Version::Lite06.into();
    let mut client = End::client("", &versions);
    let mut sent = client.act();
    client.arrive(StreamId::from_u64(3), b"\x00\x04\x05\xab\x60\x37\x42\x01");
    sent.extend(client.run(99));
    sent
}

#[test]
fn a_request_waits_for_the_settings_of_the_client() {
    let [(control, settings), (request, connect)] = request_of_a_client().try_into().unwrap();
    assert_eq!((control, request), (CONTROL, REQUEST));
    let mut server = End::server(&Version::Lite06.into());
    server.arrive(request, &connect);
    assert_eq!(server.run(99).len(), 1, "only its own SETTINGS");
    assert!(server.events.is_empty());
    server.arrive(control, &settings);
    assert_eq!(server.run(99).len(), 1, "the response");
    assert_eq!(server.version(), Some(Version::Lite06));
}

/// RFC 9114, sections 6.2 and 7.2, and RFC 9204, section 4.2.
#[test]
fn broken_rules_close_the_connection_with_their_codes() {
    for (streams, code) in [
        // Not SETTINGS first; a second control stream; SETTINGS twice.
        (&[(2, &b"\x00\x07\x01\x00"[..])][..], 0x10a),
        (&[(2, b"\x00\x04\x00"), (6, b"\x00")], 0x103),
        (&[(2, b"\x00\x04\x00\x04\x00")], 0x105),
        // A second QPACK stream of a kind, and a push of a client.
        (&[(2, b"\x02"), (6, b"\x02")], 0x103),
        (&[(2, b"\x03"), (6, b"\x03")], 0x103),
        (&[(2, b"\x01")], 0x103),
        // DATA before HEADERS.
        (&[(0, b"\x00\x01x")], 0x105),
        // The id of a session that is not that of a request.
        (&[(2, b"\x40\x54\x02")], 0x108),
        // A field section with a reference to the dynamic table.
        (&[(0, b"\x01\x03\x00\x00\x80")], 0x200),
    ] {
        assert_eq!(failed(&server_after(streams)), Some(code), "{streams:x?}");
    }
    // A QPACK stream of each kind, and what nobody knows.
    let server = server_after(&[(2, b"\x02abc"), (6, b"\x03abc"), (10, b"\x40\x21abc")]);
    assert_eq!(failed(&server), None);
    assert_eq!(server.refused, [(StreamId::from_u64(10), Code::new(0x103))]);
}

#[test]
fn critical_streams_must_stay_open() {
    for id in [2, 6] {
        let id = StreamId::from_u64(id);
        let streams = &[(2, &b"\x00\x04\x00"[..]), (6, b"\x02")];
        let mut finished = server_after(streams);
        finished.arrive_end(id);
        finished.run(99);
        assert_eq!(failed(&finished), Some(0x104));
        let mut reset = server_after(streams);
        reset.http.cancelled(id);
        reset.run(99);
        assert_eq!(failed(&reset), Some(0x104));
    }
    // STOP_SENDING for our own control stream.
    let mut server = server_after(&[]);
    server.run(99);
    server.http.cancelled(StreamId::from_u64(3));
    server.run(99);
    assert_eq!(failed(&server), Some(0x104));
}

#[test]
fn a_server_opens_no_request() {
    let (mut client, _) = established();
    client.arrive(StreamId::from_u64(1), b"\x01\x00\x00");
    client.run(99);
    assert_eq!(failed(&client), Some(0x103));
}

#[test]
fn other_requests_are_refused_and_the_session_goes_on() {
    let (_, mut server) = established();
    let (second, connect) = (StreamId::from_u64(4), request_of_a_client().pop().unwrap().1);
    server.arrive(second, &connect);
    server.run(99);
    // H3_REQUEST_REJECTED, in both directions.
    assert_eq!(server.refused, [(second, Code::new(0x10b)); 2]);
    assert!(server.events.is_empty());
    let group = StreamId::from_u64(6);
    server.arrive(group, b"\x40\x54\x00");
    server.run(99);
    assert_eq!(server.events, [Event::Stream { id: group }]);
}

#[test]
fn a_request_that_is_not_for_webtransport_leaves_room_for_one_that_is() {
    // GET https://relay.example/
    let get = b"\x01\x14\x00\x00\xd1\xd7\xc1\x50\x0drelay.example";
    let malformed = b"\x01\x03\x00\x00\xd1";
    let too_large = b"\x01\x80\x00\x40\x01";
    for (bytes, code) in [(&get[..], 0x10b), (malformed, 0x10e), (too_large, 0x107)] {
        let mut server = End::server(&Versions::default());
        server.arrive(REQUEST, bytes);
        server.run(99);
        assert_eq!(server.refused, [(REQUEST, Code::new(code)); 2], "{bytes:x?}");
        assert!(server.events.is_empty());
        let [(control, settings), (_, connect)] = request_of_a_client().try_into().unwrap();
        server.arrive(control, &settings);
        server.arrive(StreamId::from_u64(4), &connect);
        server.run(99);
        assert!(server.version().is_some());
    }
}

#[test]
fn a_request_that_ends_early_is_refused() {
    for is_end in [true, false] {
        let mut server = End::server(&Versions::default());
        server.arrive(REQUEST, b"\x01\x20\x00");
        server.run(99);
        if is_end {
            server.arrive_end(REQUEST);
        } else {
            server.http.cancelled(REQUEST);
        }
        server.run(99);
        let code = if is_end { 0x10d } else { 0x10c };
        assert_eq!(server.refused, [(REQUEST, Code::new(code)); 2]);
        assert!(server.events.is_empty());
    }
}

/// WebTransport over HTTP/3, section 4.6.
#[test]
fn early_streams_have_a_limit() {
    let mut server = End::server(&Versions::default());
    for n in 0..EARLY_STREAMS as u64 + 2 {
        server.arrive(StreamId::from_u64(4 * n + 2), b"\x40\x54\x00");
    }
    server.run(99);
    // WT_BUFFERED_STREAM_REJECTED.
    let refused: Vec<_> = server.refused.iter().map(|(_, code)| code.as_u64()).collect();
    assert_eq!(refused, [0x3994bd84; 2]);
    // One that was given up makes room.
    server.http.cancelled(StreamId::from_u64(2));
    server.arrive(StreamId::from_u64(4 * 200 + 2), b"\x40\x54\x00");
    server.run(99);
    assert_eq!(server.refused.len(), 3);
}

#[test]
fn a_client_learns_why_there_is_no_session() {
    // A server without WebTransport.
    let mut client = End::client("", &Versions::default());
    client.arrive(StreamId::from_u64(3), b"\x00\x04\x02\x33\x01");
    client.run(99);
    assert_eq!(client.events, [Event::Failed(Error::Unsupported)]);

    let after_response = |response: &[u8]| {
        let mut client = End::client("", &Versions::from([Version::Lite06, Version::Lite02]));
        client.arrive(StreamId::from_u64(3), b"\x00\x04\x05\xab\x60\x37\x42\x01");
        client.run(99);
        client.arrive(REQUEST, response);
        client.run(99);
        client
    };
    // 404; then an interim response and 200, without a protocol; then no response.
    let refused = after_response(b"\x01\x03\x00\x00\xdb");
    assert_eq!(refused.events, [Event::Failed(Error::Refused(404))]);
    let agreed = after_response(b"\x01\x03\x00\x00\xd8\x01\x03\x00\x00\xd9");
    assert_eq!(agreed.version(), Some(Version::Lite02));
    let mut silent = after_response(b"");
    silent.http.cancelled(REQUEST);
    silent.run(99);
    assert_eq!(silent.events, [Event::Failed(Error::Refused(0))]);
    // `wt-protocol: "x"`, which was not offered.
    let foreign = after_response(b"\x01\x14\x00\x00\xd9\x27\x04wt-protocol\x03\"x\"");
    assert_eq!(foreign.events, [Event::Failed(Error::Version)]);
}
