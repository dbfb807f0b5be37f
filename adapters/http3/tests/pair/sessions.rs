//! Sessions that begin, carry streams and datagrams, and end.

use smoq::bytes::Bytes;
use smoq::stream::{Code, Dir, StreamId};
use smoq::{Error, Version, Versions};
use smoq_http3::Event;

use crate::ends::{End, established, exchange};

#[test]
fn a_session_begins_however_bytes_are_cut() {
    let ours = Versions::from([Version::Lite06, Version::Lite05, Version::Moqt22]);
    let theirs = Versions::from([Version::Moqt18, Version::Lite05, Version::Lite06]);
    for piece in 1..=64 {
        let (mut client, mut server) = (End::client("a/b?token=x/y", &ours), End::server(&theirs));
        exchange(&mut client, &mut server, piece);
        // The server's preference counts.
        assert_eq!([client.version(), server.version()], [Some(Version::Lite05); 2], "{piece}");
        let [Event::Established { request: Some(request), .. }] = &*server.events else {
            panic!("{:?}", server.events);
        };
        assert_eq!(request.authority(), "relay.example:4443");
        assert_eq!(request.path(), "/a/b?token=x/y");
        assert_eq!(request.origin(), None);
        assert_eq!(client.http.connect_stream(), Some(StreamId::from_u64(0)));
        assert!(client.refused.is_empty() && server.refused.is_empty());
    }
}

#[test]
fn without_a_protocol_in_common_the_oldest_versions_agree_later() {
    let ours = Versions::from([Version::Moqt22]);
    let (mut client, mut server) =
        (End::client("", &ours), End::server(&Versions::from([Version::Lite02, Version::Lite01])));
    exchange(&mut client, &mut server, 99);
    assert_eq!(server.version(), Some(Version::Lite02));
    // This client has no such version.
    assert_eq!(client.events, [Event::Failed(smoq_http3::Error::Version)]);

    let (mut client, mut server) = (End::client("", &ours), End::server(&Version::Lite06.into()));
    exchange(&mut client, &mut server, 99);
    assert_eq!(server.events, [Event::Failed(smoq_http3::Error::Version)]);
}

#[test]
fn streams_of_the_session_are_recognized_and_lose_only_their_heads() {
    for piece in 1..=8 {
        let (mut client, mut server) = established();
        for dir in [Dir::Uni, Dir::Bi] {
            for (from, to) in [(true, "client"), (false, "server")] {
                let (near, far) =
                    if from { (&mut client, &mut server) } else { (&mut server, &mut client) };
                let (id, bytes) = near.stream(dir, b"payload");
                for byte in bytes.chunks(piece) {
                    far.arrive(id, byte);
                    far.run(piece);
                }
                assert_eq!(far.events, [Event::Stream { id }], "{to} {dir:?}");
                assert_eq!(far.session[&id], b"payload");
                far.events.clear();
            }
        }
    }
}

#[test]
fn datagrams_carry_the_id_of_the_session() {
    let (client, mut server) = established();
    let head = client.http.datagram_head().unwrap();
    assert_eq!(head, [0]);
    let datagram = Bytes::from([head, b"payload"].concat());
    assert_eq!(server.http.datagram(datagram), Some(Bytes::from("payload")));
    assert_eq!(server.http.datagram(Bytes::from_static(b"\x01payload")), None);
    assert_eq!(server.http.poll_event(), None);
    // RFC 9297, section 2.1.
    for malformed in [&b""[..], b"\x40", b"\xff\xff\xff\xff\xff\xff\xff\xff"] {
        let (_, mut server) = established();
        assert_eq!(server.http.datagram(Bytes::from_static(malformed)), None);
        let Some(Event::Failed(error)) = server.http.poll_event() else { panic!("no error") };
        assert_eq!(error.code(), Code::new(0x33));
    }
}

/// QUIC does not keep the order of streams.
#[test]
fn streams_that_overtake_the_session_wait_for_it() {
    let versions = Versions::default();
    let (mut client, mut server) = (End::client("", &versions), End::server(&versions));
    // The second bidirectional stream, because the first one is the request.
    let (early, lost) = (StreamId::from_u64(4), StreamId::from_u64(6));
    server.arrive(early, b"\x40\x41\x00payload");
    // Of a session that will never be.
    server.arrive(lost, b"\x40\x54\x08payload");
    for (id, bytes) in server.run(99) {
        client.arrive(id, &bytes);
    }
    assert!(server.events.is_empty() && server.session.is_empty());
    exchange(&mut client, &mut server, 99);
    assert_eq!(server.events[1..], [Event::Stream { id: early }]);
    assert_eq!(server.session[&early], b"payload");
    // WT_SESSION_GONE.
    assert_eq!(server.refused, [(lost, Code::new(0x170d7b68))]);
}

#[test]
fn a_close_carries_its_code() {
    for piece in [1, 3, 99] {
        let (mut client, mut server) = established();
        let (id, bytes) = client.http.close(Code::new(64 + 7), "enough").unwrap();
        server.arrive(id, &bytes);
        server.arrive_end(id);
        server.run(piece);
        assert_eq!(server.events, [Event::Closed { error: Error::App(7) }]);
        assert_eq!(client.http.close(Code::new(0), ""), None);
        assert_eq!(server.http.close(Code::new(0), ""), None);
        // Nothing more is said.
        server.arrive(StreamId::from_u64(2 + 4), b"\x40\x54\x00");
        server.run(99);
        assert_eq!(server.events.len(), 1);
    }
}

/// WebTransport over HTTP/3, section 6.
#[test]
fn the_end_of_the_request_is_the_end_of_the_session() {
    let request = StreamId::from_u64(0);
    let (_, mut server) = established();
    server.arrive_end(request);
    server.run(99);
    assert_eq!(server.events, [Event::Closed { error: Error::SessionClosed }]);

    for is_client in [true, false] {
        let (client, server) = established();
        let mut end = if is_client { client } else { server };
        end.http.cancelled(request);
        end.run(99);
        assert_eq!(end.events, [Event::Closed { error: Error::Disconnected }]);
    }

    // Within a capsule.
    let (_, mut server) = established();
    server.arrive(request, b"\x00\x01\x68");
    server.arrive_end(request);
    server.run(99);
    assert_eq!(server.events, [Event::Closed { error: Error::Disconnected }]);
}

#[test]
fn a_peer_that_will_leave_is_noticed() {
    let (_, mut server) = established();
    // WT_DRAIN_SESSION, after a capsule that is unknown.
    server.arrive(StreamId::from_u64(0), b"\x00\x08\x17\x01x\x80\x00\x78\xae\x00");
    server.run(99);
    // GOAWAY on the control stream (RFC 9114, section 5.2).
    server.arrive(StreamId::from_u64(2), b"\x07\x01\x00");
    server.run(99);
    assert_eq!(server.events, [Event::Draining, Event::Draining]);
}
