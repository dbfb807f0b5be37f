//! Hand-written SUBSCRIBE messages: every peer refuses tracks that were never announced, and the session
//! continues.

use bytes::BytesMut;
use quinn::{Connection, ReadError, VarInt};
use smoq::{
    Path, Subscription, Version,
    coding::lite::{BiStream, Features, Setup, Subscribe, UniStream},
    stream::Code,
};
use smoq_interop::{
    by_hand::Refusal,
    peers::{Broadcast, Listener, Peer, Role, cf017, lite016, net03, smoq_blocking, smoq_quinn},
    quic, suite, tests, within,
};

/// A connection of our own, with SETUP where the version has one.
async fn connect(listener: &Listener, version: Version) -> Connection {
    let config = quic::client_config(&[version.alpn()]);
    let endpoint = quic::client(config).expect("a socket");
    let connecting = endpoint.connect(listener.addr(), "localhost").expect("an address");
    let connection = within("a connection", connecting).await.expect("a handshake");
    if Features::of(version).setup {
        let mut bytes = BytesMut::new();
        UniStream::Setup.encode(&mut bytes);
        Setup::default().encode(&mut bytes, version).expect("nothing in it");
        let mut stream = connection.open_uni().await.expect("a stream");
        stream.write_all(&bytes).await.expect("written");
        stream.finish().expect("finished");
    }
    connection
}

/// The code with which the peer resets a subscription.
async fn refusal(
    connection: &Connection,
    version: Version,
    id: u64,
    (broadcast, track): (&str, &str),
) -> Code {
    let mut bytes = BytesMut::new();
    BiStream::Subscribe.encode(&mut bytes);
    let message = Subscribe {
        id,
        broadcast: Path::new(broadcast),
        track: track.into(),
        want: Subscription::default(),
        frame_start: 0,
        frame_end: None,
    };
    message.encode(&mut bytes, version).expect("short names");
    let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
    send.write_all(&bytes).await.expect("written");
    loop {
        match within("an answer", recv.read_chunk(usize::MAX, true)).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("{broadcast}:{track} ended cleanly"),
            Err(ReadError::Reset(code)) => return mapped(code),
            Err(error) => panic!("expected a refusal, got {error}"),
        }
    }
}

/// Every peer writes codes in the form of HTTP/3.
fn mapped(code: VarInt) -> Code {
    let raw = Code::new(code.into_inner());
    let code = raw.from_http3();
    assert_ne!(code, raw, "a code in the raw form");
    code
}

/// An unknown broadcast and an unknown track are refused with these codes.
async fn refused<P: Peer>(version: &str, unroutable: u64, not_found: u64) {
    let version: Version = version.parse().expect("a version");
    let publisher = P::new();
    let listener = publisher.serve(Role::Publish, &[version.alpn()]);
    let mut broadcast = publisher.broadcast("live/cam").expect("a broadcast");
    let _track = broadcast.track("video").expect("a track");
    broadcast.announce().expect("announced");
    let connection = connect(&listener, version).await;
    let unknown = refusal(&connection, version, 0, ("live/nobody", "video")).await;
    assert_eq!(unknown.as_u64(), unroutable, "{} about a broadcast", P::NAME);
    let unknown = refusal(&connection, version, 1, ("live/cam", "nothing")).await;
    assert_eq!(unknown.as_u64(), not_found, "{} about a track", P::NAME);
    assert!(connection.close_reason().is_none(), "the session must stay open");
}

/// DOES_NOT_EXIST.
const UNKNOWN: &[Refusal] = &[Refusal::Error(0x10)];
/// moq-lite 0.16 has a code of its own, and in 18 sends a reset with 0 (mapped) directly after it.
const OLD_UNKNOWN: &[Refusal] = &[Refusal::Error(404), Refusal::Reset(0x52e4_a40f_a8db)];

tests! {
    lite016_in_16: suite::refused::<lite016::Peer>("moqt-16", OLD_UNKNOWN);
    lite016_in_18: suite::refused::<lite016::Peer>("moqt-18", OLD_UNKNOWN);
    net03_in_16: suite::refused::<net03::Peer>("moqt-16", UNKNOWN);
    net03_in_18: suite::refused::<net03::Peer>("moqt-18", UNKNOWN);
    cf017_in_18: suite::refused::<cf017::Peer>("moqt-18", UNKNOWN);
    lite016_in_03: refused::<lite016::Peer>("moq-lite-03", 13, 13);
    lite016_in_04: refused::<lite016::Peer>("moq-lite-04", 13, 13);
    net03_in_03: refused::<net03::Peer>("moq-lite-03", 0x36, 0x33);
    net03_in_04: refused::<net03::Peer>("moq-lite-04", 0x36, 0x33);
    net03_in_05: refused::<net03::Peer>("moq-lite-05", 0x36, 0x33);
    net03_in_06: refused::<net03::Peer>("moq-lite-06", 0x36, 0x33);
    smoq_quinn_in_03: refused::<smoq_quinn::Peer>("moq-lite-03", 0x36, 0x33);
    smoq_quinn_in_04: refused::<smoq_quinn::Peer>("moq-lite-04", 0x36, 0x33);
    smoq_quinn_in_05: refused::<smoq_quinn::Peer>("moq-lite-05", 0x36, 0x33);
    smoq_quinn_in_06: refused::<smoq_quinn::Peer>("moq-lite-06", 0x36, 0x33);
    smoq_blocking_in_03: refused::<smoq_blocking::Peer>("moq-lite-03", 0x36, 0x33);
    smoq_blocking_in_04: refused::<smoq_blocking::Peer>("moq-lite-04", 0x36, 0x33);
    smoq_blocking_in_05: refused::<smoq_blocking::Peer>("moq-lite-05", 0x36, 0x33);
    smoq_blocking_in_06: refused::<smoq_blocking::Peer>("moq-lite-06", 0x36, 0x33);
}
